/*
 * base/rc.h - result codes, and the few macros every file uses.
 * A result code says what kind of thing went wrong; lt_err (base/err.h) says it to a person.
 * Our own bugs are not results: they are LT_ASSERT, which stays on in every build.
 */
#ifndef LT_BASE_RC_H
#define LT_BASE_RC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    LT_OK = 0,
    LT_AGAIN,       /* not now: would block, or more bytes are needed */
    LT_EOF,         /* the peer has finished, cleanly */
    LT_E_BAD,       /* the input breaks its grammar or its rules */
    LT_E_LIMIT,     /* a maximum was reached: size, depth, count */
    LT_E_NOT_FOUND, /* what was named does not exist */
    LT_E_EXISTS,    /* what was named exists already */
    LT_E_DENIED,    /* not allowed */
    LT_E_UNSUPPORTED,
    LT_E_IO,     /* the operating system refused; errno said why */
    LT_E_CLOSED, /* reset, or used after close */
    LT_E_TIMEOUT,
    LT_E_TLS, /* handshake or record failed; the peer's doing or ours */
} lt_rc;

/* A short constant name: "ok", "bad input", ... Never NULL. */
const char *lt_rc_name(lt_rc rc);

#define LT_MUST __attribute__((warn_unused_result))
#define LT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define LT_UNUSED __attribute__((unused))
#define LT_LIKELY(x) __builtin_expect(!!(x), 1)
#define LT_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define LT_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define LT_MIN(a, b) ((a) < (b) ? (a) : (b))
#define LT_MAX(a, b) ((a) > (b) ? (a) : (b))
#define LT_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

_Noreturn void lt_assert_fail(const char *expr, const char *file, int line, const char *func);

/* Always on. For what must be true if our own code is right; never for what a peer can send. */
#define LT_ASSERT(expr) \
    (LT_LIKELY(expr) ? (void)0 : lt_assert_fail(#expr, __FILE__, __LINE__, __func__))

/* Says the program cannot get here. */
#define LT_UNREACHABLE() lt_assert_fail("unreachable", __FILE__, __LINE__, __func__)

/* The one macro that may return. Alone on its line. */
#define LT_TRY(expr) \
    do { \
        lt_rc lt_try_rc_ = (expr); \
        if (lt_try_rc_ != LT_OK) \
            return lt_try_rc_; \
    } while (0)

/*
 * LT_AUTO(doc) *d = NULL;  frees d by lt_doc_free(&d) on every way out of the scope.
 * The type must have a destructor `void lt_<name>_free(struct lt_<name> **)` that accepts NULL
 * inside.
 */
#define LT_AUTO(name) __attribute__((cleanup(lt_##name##_free))) struct lt_##name

/* Heap that does not fail: out of memory ends the process (limits refuse long before). */
void *lt_malloc(size_t size) __attribute__((malloc, returns_nonnull));
void *lt_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *lt_realloc(void *ptr, size_t size) __attribute__((returns_nonnull));
char *lt_strdup(const char *text) __attribute__((malloc, returns_nonnull));

#define lt_new(type) ((type *)lt_calloc(1, sizeof(type)))

#endif
