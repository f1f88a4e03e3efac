/*
 * wire/doc.h - one tree for JSON and YAML: what a text said, before anybody knows what it should
 * have said.
 * Every node knows the line it came from. Made by wire/yaml.h and wire/json.h, or by hand with the
 * builders below; turned into protobuf by wire/pbjson.h. The tree lives in the arena it was made
 * in; strings are followed by a NUL (not counted).
 * Trust: the texts are strangers'; size, depth and count are limited while the tree is made, so
 * whoever walks it may recurse.
 */
#ifndef LT_WIRE_DOC_H
#define LT_WIRE_DOC_H

#include "base/arena.h"
#include "base/err.h"

typedef enum {
    LT_DOC_NULL,
    LT_DOC_BOOL,
    LT_DOC_INT,    /* a whole number within int64 */
    LT_DOC_DOUBLE, /* any other number */
    LT_DOC_STRING,
    LT_DOC_ARRAY,
    LT_DOC_OBJECT,
} lt_doc_kind;

struct lt_doc {
    lt_doc_kind kind;
    uint32_t line;  /* from 1; 0: not from a text */
    uint32_t count; /* of items or members */
    uint32_t cap;   /* of the array behind them; for the builders below */
    union {
        bool boolean;
        int64_t integer;
        double number;
        lt_str string;                 /* UTF-8, no NUL inside */
        struct lt_doc *items;          /* of an array, in order */
        struct lt_doc_member *members; /* of an object, in the order of the text; keys differ */
    };
};

struct lt_doc_member {
    lt_str key;
    struct lt_doc value;
};

struct lt_doc_limits {
    size_t bytes_max; /* of the text */
    uint32_t
        nodes_max; /* aliases count as often as they are used: what a reader of the tree will see */
    uint32_t depth_max; /* of nested arrays and objects */
};

/* 16 MiB, a million nodes, depth 100 (Kubernetes objects are at most 1.5 MiB; a bootstrap may be
 * generated). */
#define LT_DOC_LIMITS_DEFAULT ((struct lt_doc_limits){16u << 20, 1000000, 100})

/* "null" "bool" "number" "string" "array" "object". */
const char *lt_doc_kind_name(lt_doc_kind kind);

/* The member's value, or NULL: no such key, not an object, or object is NULL (so that finds can be
 * chained). */
const struct lt_doc *lt_doc_find(const struct lt_doc *object, lt_str key);
const struct lt_doc *lt_doc_findz(const struct lt_doc *object, const char *key);

/* The string, or LT_STR_NULL when node is NULL or something else. */
lt_str lt_doc_string(const struct lt_doc *node);
/* LT_DOC_INT, or an LT_DOC_DOUBLE that is whole and within int64. */
bool lt_doc_is_int(const struct lt_doc *node, int64_t *ret_value);
/* Any number. */
bool lt_doc_is_number(const struct lt_doc *node, double *ret_value);

static inline bool lt_doc_is(const struct lt_doc *node, lt_doc_kind kind)
{
    return node != NULL && node->kind == kind;
}

/*
 * Where a walker is, for messages: a chain of frames on the walker's stack, innermost first.
 * {NULL, LT_STR_NULL, 0} is the root; a frame with key.ptr NULL is an array item.
 */
struct lt_doc_path {
    const struct lt_doc_path *up; /* borrowed */
    lt_str key;
    size_t index;
};

/* "spec.hosts[0]", labels["app.kubernetes.io/name"]; NUL-terminated, cut in front ("...") when out
 * is too small. Returns out. */
char *lt_doc_path_format(const struct lt_doc_path *path, char *out, size_t size);
/* Sets "line 7: spec.hosts[0]: <text>" (without line when unknown, without path at the root) and
 * returns rc. */
lt_rc lt_doc_error(struct lt_err *err, lt_rc rc, const struct lt_doc_path *path,
                   const struct lt_doc *node, const char *fmt, ...) LT_PRINTF(5, 6);
/* "... expected string, got number", LT_E_BAD. */
lt_rc lt_doc_expected(struct lt_err *err, const struct lt_doc_path *path, const struct lt_doc *node,
                      const char *what);

/*
 * Builders. Strings are borrowed: they must live as long as the tree. set replaces a member of that
 * name; both return the place of the value inside its parent, which moves when the parent gets the
 * next member.
 */
struct lt_doc lt_doc_of_null(void);
struct lt_doc lt_doc_of_bool(bool value);
struct lt_doc lt_doc_of_int(int64_t value);
struct lt_doc lt_doc_of_double(double value);
struct lt_doc lt_doc_of_str(lt_str value);
struct lt_doc lt_doc_of_object(void);
struct lt_doc lt_doc_of_array(void);
struct lt_doc *lt_doc_set(struct lt_arena *arena, struct lt_doc *object, lt_str key,
                          struct lt_doc value);
struct lt_doc *lt_doc_push(struct lt_arena *arena, struct lt_doc *array, struct lt_doc value);
/* A copy of everything, strings too. */
struct lt_doc lt_doc_copy(struct lt_arena *arena, const struct lt_doc *node);
/* Same content; order of members and lines don't matter, 1 and 1.0 are equal. */
bool lt_doc_eq(const struct lt_doc *a, const struct lt_doc *b);

#endif
