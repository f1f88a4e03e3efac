/*
 * ctl/clog.c - a pipe into a file.
 */
#include "ctl/clog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { READS_A_TURN = 8 };

static void open_file(struct ctl_clog *log)
{
    log->file_fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    off_t end = log->file_fd < 0 ? 0 : lseek(log->file_fd, 0, SEEK_END);
    log->bytes = end > 0 ? (size_t)end : 0;
}

static void turn_over(struct ctl_clog *log)
{
    char old[PATH_MAX];
    snprintf(old, sizeof(old), "%s.1", log->path);
    close(log->file_fd);
    rename(log->path, old);
    open_file(log);
}

static void put(struct ctl_clog *log, const char *text, size_t len)
{
    if (log->file_fd < 0)
        return;
    ssize_t ignored = write(log->file_fd, text, len);
    (void)ignored; /* a full disk has nobody to tell; the container must not wait for it */
    log->bytes += len;
    if (log->bytes > CTL_CLOG_BYTES_MAX)
        turn_over(log);
}

static void on_output(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_clog *log = LT_CONTAINER_OF(io, struct ctl_clog, io);
    char room[16384];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t len = read(io->fd, room, sizeof(room));
        if (len > 0) {
            put(log, room, (size_t)len);
            continue;
        }
        if (len == 0) /* all writers have gone */
            lt_loop_io_close(log->loop, io);
        return;
    }
}

lt_rc ctl_clog_open(struct ctl_clog *log, struct lt_loop *loop, const char *path, int *ret_write_fd,
                    struct lt_err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return lt_err_errno(err, "pipe");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    lt_io_init(&log->io, on_output);
    log->io.fd = ends[0];
    log->loop = loop;
    snprintf(log->path, sizeof(log->path), "%s", path);
    open_file(log);
    if (log->file_fd < 0) {
        close(ends[0]);
        close(ends[1]);
        log->io.fd = -1;
        return lt_err_errno(err, "%s", path);
    }
    lt_loop_io_set(loop, &log->io, EPOLLIN);
    *ret_write_fd = ends[1];
    return LT_OK;
}

void ctl_clog_say(struct ctl_clog *log, const char *fmt, ...)
{
    char text[LT_ERR_TEXT_MAX + 64];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof(text) - 1, fmt, args);
    va_end(args);
    if (len < 0 || log->loop == NULL)
        return;
    size_t end = LT_MIN((size_t)len, sizeof(text) - 2);
    text[end++] = '\n';
    put(log, text, end);
}

void ctl_clog_close(struct ctl_clog *log)
{
    if (log->loop == NULL)
        return;
    if (log->io.fd >= 0) {
        on_output(&log->io, 0);
        if (log->io.fd >= 0) {
            lt_loop_io_del(log->loop, &log->io);
            close(log->io.fd);
        }
    }
    if (log->file_fd >= 0)
        close(log->file_fd);
    *log = (struct ctl_clog){0};
}
