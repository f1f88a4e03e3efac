/*
 * base/err.c - errors that gather context on the way up.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

lt_rc lt_err_set(struct lt_err *err, lt_rc rc, const char *fmt, ...)
{
    if (err == NULL)
        return rc;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    return rc;
}

lt_rc lt_err_errno(struct lt_err *err, const char *fmt, ...)
{
    int saved = errno;
    if (err == NULL)
        return LT_E_IO;
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    if (len >= 0 && (size_t)len < sizeof(err->text)) {
        char reason[128];
        snprintf(err->text + len, sizeof(err->text) - (size_t)len, ": %s",
                 strerror_r(saved, reason, sizeof(reason)));
    }
    errno = saved;
    return LT_E_IO;
}

lt_rc lt_err_wrap(struct lt_err *err, lt_rc rc, const char *fmt, ...)
{
    if (err == NULL)
        return rc;
    struct lt_err inner = *err;
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    if (len < 0 || (size_t)len + 2 >= sizeof(err->text))
        return rc;
    lt_str reason = lt_str_of(inner.text[0] != '\0' ? inner.text : lt_rc_name(rc));
    size_t room = sizeof(err->text) - (size_t)len - 3;
    memcpy(err->text + len, ": ", 2);
    memcpy(err->text + len + 2, reason.ptr, LT_MIN(reason.len, room));
    err->text[(size_t)len + 2 + LT_MIN(reason.len, room)] = '\0';
    return rc;
}
