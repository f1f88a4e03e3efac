/*
 * base/rc.c - names of results, the end of the process on a broken assertion, and checked heap.
 */
#include "base/rc.h"

#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *lt_rc_name(lt_rc rc)
{
    switch (rc) {
    case LT_OK: return "ok";
    case LT_AGAIN: return "not ready";
    case LT_EOF: return "end of input";
    case LT_E_BAD: return "bad input";
    case LT_E_LIMIT: return "limit reached";
    case LT_E_NOT_FOUND: return "not found";
    case LT_E_EXISTS: return "exists already";
    case LT_E_DENIED: return "denied";
    case LT_E_UNSUPPORTED: return "not supported";
    case LT_E_IO: return "input/output error";
    case LT_E_CLOSED: return "closed";
    case LT_E_TIMEOUT: return "timed out";
    case LT_E_TLS: return "TLS error";
    }
    return "unknown result";
}

void lt_assert_fail(const char *expr, const char *file, int line, const char *func)
{
    fprintf(stderr, "lateen: broken assertion: %s (%s:%d, %s)\n", expr, file, line, func);
    void *frames[48];
    int count = backtrace(frames, (int)LT_ARRAY_LEN(frames));
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    abort();
}

static void *checked(void *ptr)
{
    if (LT_UNLIKELY(ptr == NULL)) {
        static const char text[] = "lateen: out of memory\n";
        ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);
        (void)ignored;
        abort();
    }
    return ptr;
}

void *lt_malloc(size_t size)
{
    return checked(malloc(size != 0 ? size : 1));
}

void *lt_calloc(size_t count, size_t size)
{
    return checked(calloc(count != 0 ? count : 1, size != 0 ? size : 1));
}

void *lt_realloc(void *ptr, size_t size)
{
    return checked(realloc(ptr, size != 0 ? size : 1));
}

char *lt_strdup(const char *text)
{
    return checked(strdup(text));
}
