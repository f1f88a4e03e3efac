/*
 * base/err.h - an error for a person: what went wrong, where, while doing what. Cold paths only.
 * Lives on the caller's stack; the text is cut, never lost whole, when it is longer than the room.
 */
#ifndef LT_BASE_ERR_H
#define LT_BASE_ERR_H

#include "base/str.h"

enum { LT_ERR_TEXT_MAX = 1024 };

struct lt_err {
    char text[LT_ERR_TEXT_MAX]; /* NUL-terminated; "" while nothing went wrong */
};

static inline void lt_err_clear(struct lt_err *err)
{
    err->text[0] = '\0';
}

/*
 * Sets the text and returns rc, so that `return lt_err_set(err, LT_E_BAD, ...)` reads well. err may
 * be NULL.
 */
lt_rc lt_err_set(struct lt_err *err, lt_rc rc, const char *fmt, ...) LT_PRINTF(3, 4);
/* Sets "<text>: <strerror(errno)>" and returns LT_E_IO. */
lt_rc lt_err_errno(struct lt_err *err, const char *fmt, ...) LT_PRINTF(2, 3);
/* Puts "<text>: " before what is there and returns rc. */
lt_rc lt_err_wrap(struct lt_err *err, lt_rc rc, const char *fmt, ...) LT_PRINTF(3, 4);

#endif
