/*
 * proxy/conf/cel.h - expressions over a request, in the part of CEL that users of Istio's Telemetry
 * write: attributes, strings, numbers, comparisons, && || !, ?:, in, has(), a few functions.
 * Compiled once, into the resource that has them; pure: what attributes are is the caller's.
 * Trust: expressions are the control plane's (and its users'); length, depth and count are limited.
 */
#ifndef LT_PROXY_CONF_CEL_H
#define LT_PROXY_CONF_CEL_H

#include "base/arena.h"
#include "base/err.h"
#include "base/vec.h"

typedef enum {
    PX_CEL_ERROR,
    PX_CEL_NULL,
    PX_CEL_BOOL,
    PX_CEL_INT,
    PX_CEL_DOUBLE,
    PX_CEL_STRING
} px_cel_kind;

struct px_cel_value {
    px_cel_kind kind; /* ERROR: an attribute that is not there, and what follows from it */
    union {
        bool boolean;
        int64_t integer;
        double number;
        lt_str string;
    };
};

struct px_cel;

/* What a.b['c'] stands for: path holds "a", "b", "c". False: it is not there. */
typedef bool px_cel_find_fn(void *ctx, const lt_str *path, size_t count,
                            struct px_cel_value *ret_value);

enum { PX_CEL_BYTES_MAX = 4096, PX_CEL_DEPTH_MAX = 24, PX_CEL_PATH_MAX = 8 };

/*
 * All in arena, but for regular expressions: those are pushed to regexes (of struct lt_regex), for
 * the caller to own, also on failure. LT_E_BAD: it is no expression, or one that we don't have.
 */
LT_MUST lt_rc px_cel_compile(struct lt_arena *arena, struct lt_vec *regexes, lt_str text,
                             const struct px_cel **ret_cel, struct lt_err *err);
/* Strings live in arena, or where find has them. */
struct px_cel_value px_cel_eval(const struct px_cel *cel, struct lt_arena *arena,
                                px_cel_find_fn *find, void *ctx);
/* As a label's value; "unknown" for an error or null. */
lt_str px_cel_text(const struct px_cel_value *value, struct lt_arena *arena);

#endif
