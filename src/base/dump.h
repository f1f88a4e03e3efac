/*
 * base/dump.h - one writer for the `_dump` functions of all long-lived structs; readers are the
 * admin page, a panic, tests. Text, indented: `name: value` lines, groups in braces. Strings are
 * quoted and escaped, so that a stranger's bytes cannot fake a line. Secrets are the caller's duty:
 * they are not dumped.
 */
#ifndef LT_BASE_DUMP_H
#define LT_BASE_DUMP_H

#include "base/buf.h"

struct lt_dump {
    struct lt_buf *out; /* borrowed; NULL: lines go to fd */
    int fd;             /* borrowed */
    unsigned depth;
    bool is_cut; /* out was full: the rest is missing */
};

/* Into a buffer; when it is full the dump is cut, and says so. */
void lt_dump_init(struct lt_dump *dump, struct lt_buf *out);
/* Straight to a descriptor, without heap: for a panic. */
void lt_dump_init_fd(struct lt_dump *dump, int fd);

/*
 * "kind name {" ... "}"; name may be empty. Groups nest up to 16 deep; deeper ones are not indented
 * further.
 */
void lt_dump_open(struct lt_dump *dump, const char *kind, lt_str name);
void lt_dump_close(struct lt_dump *dump);

/* "name: text" with a printf text (taken as it is). */
void lt_dump_fmt(struct lt_dump *dump, const char *name, const char *fmt, ...) LT_PRINTF(3, 4);
void lt_dump_str(struct lt_dump *dump, const char *name, lt_str value);
void lt_dump_int(struct lt_dump *dump, const char *name, int64_t value);
void lt_dump_uint(struct lt_dump *dump, const char *name, uint64_t value);
void lt_dump_bool(struct lt_dump *dump, const char *name, bool value);

#endif
