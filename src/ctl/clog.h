/*
 * ctl/clog.h - the log of a container: what it writes to stdout and stderr, in a file that is
 * turned over at a maximum.
 */
#ifndef LT_CTL_CLOG_H
#define LT_CTL_CLOG_H

#include <limits.h>

#include "net/loop.h"

/* Bytes in <path>, then it becomes <path>.1 and a new one begins. */
enum { CTL_CLOG_BYTES_MAX = 16 << 20 };

struct ctl_clog {
    struct lt_io io; /* the pipe's end that is read */
    struct lt_loop *loop;
    int file_fd;
    size_t bytes;
    char path[PATH_MAX / 2];
};

/*
 * Zeroed first. *ret_write_fd is for the container; the caller closes it. Called again for a
 * restart, it appends.
 */
LT_MUST lt_rc ctl_clog_open(struct ctl_clog *log, struct lt_loop *loop, const char *path,
                            int *ret_write_fd, struct lt_err *err);
/* A line of ours in it. */
void ctl_clog_say(struct ctl_clog *log, const char *fmt, ...) LT_PRINTF(2, 3);
/* Takes what is still in the pipe. Safe on a zeroed or closed one. */
void ctl_clog_close(struct ctl_clog *log);

#endif
