/*
 * base/file.h - files: read bounded, written whole, noticed when they change.
 */
#ifndef LT_BASE_FILE_H
#define LT_BASE_FILE_H

#include "base/arena.h"
#include "base/err.h"

enum { LT_FILE_BYTES_MAX = 4 << 20 };

/* Whole content into arena. LT_E_NOT_FOUND: no such file; LT_E_LIMIT; LT_E_IO. err may be NULL. */
LT_MUST lt_rc lt_file_read(struct lt_arena *arena, const char *path, lt_str *ret_text,
                           struct lt_err *err);
/* The same, of at most bytes_max. */
LT_MUST lt_rc lt_file_read_max(struct lt_arena *arena, const char *path, size_t bytes_max,
                               lt_str *ret_text, struct lt_err *err);
/* Beside the file, then renamed over it; parent folders are made. */
LT_MUST lt_rc lt_file_write(const char *path, lt_str text, unsigned mode, struct lt_err *err);
/* All of it, to a descriptor that blocks. LT_E_IO: errno says why. */
LT_MUST lt_rc lt_fd_write_all(int fd, lt_str text);
/* The folders above a path. */
LT_MUST lt_rc lt_file_make_parents(const char *path, struct lt_err *err);
/* A number that changes when the file (or what a link in its path leads to) does; 0: not there. */
uint64_t lt_file_stamp(const char *path);

#endif
