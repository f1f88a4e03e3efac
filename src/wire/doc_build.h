/*
 * wire/doc_build.h - for this room's parsers: events in, one lt_doc tree out, under limits.
 * Children of open levels wait on one heap stack; when a level closes they move to an array of the
 * right size in the arena. Nothing here recurses, whatever the depth.
 */
#ifndef LT_WIRE_DOC_BUILD_H
#define LT_WIRE_DOC_BUILD_H

#include "wire/doc.h"

struct lt_doc_level {
    lt_doc_kind kind; /* array or object */
    uint32_t line;
    size_t first;          /* of its children on the stack */
    uint32_t nodes_before; /* counted when it was opened */
    uint32_t height;       /* of the highest child */
    bool has_key;          /* `key` waits for its value */
    bool is_merge;         /* `key` is YAML's "<<" */
    bool has_merges;
    lt_str key;
};

/* A finished node with what a second use of it (an alias) would cost. */
struct lt_doc_built {
    struct lt_doc node;
    uint32_t nodes;  /* all in it, itself too */
    uint32_t height; /* levels of arrays and objects in it */
};

struct lt_doc_builder {
    struct lt_arena *arena; /* borrowed; the tree goes there */
    struct lt_doc_limits limits;
    struct lt_doc_member *stack; /* owned; an array's children have no key */
    size_t stack_count;
    size_t stack_cap;
    struct lt_doc_level *levels; /* owned */
    uint32_t depth;
    uint32_t levels_cap;
    uint32_t nodes;
    bool is_done;             /* the root is complete */
    struct lt_doc_built last; /* the node that was completed last; at the end, the root */
};

void lt_doc_builder_init(struct lt_doc_builder *b, struct lt_arena *arena,
                         const struct lt_doc_limits *limits);
void lt_doc_builder_fini(struct lt_doc_builder *b);

/* True when the next node is a key. */
bool lt_doc_builder_wants_key(const struct lt_doc_builder *b);

LT_MUST lt_rc lt_doc_builder_open(struct lt_doc_builder *b, lt_doc_kind kind, uint32_t line,
                                  struct lt_err *err);
void lt_doc_builder_key(struct lt_doc_builder *b, lt_str key, bool is_merge);
/* A scalar, or a node used again. */
LT_MUST lt_rc lt_doc_builder_add(struct lt_doc_builder *b, const struct lt_doc_built *value,
                                 struct lt_err *err);
LT_MUST lt_rc lt_doc_builder_add_scalar(struct lt_doc_builder *b, struct lt_doc value,
                                        struct lt_err *err);
/* A key written twice is LT_E_BAD. */
LT_MUST lt_rc lt_doc_builder_close(struct lt_doc_builder *b, struct lt_err *err);

/* Copies s into the arena with a NUL; *ret_copy has ptr NULL when the arena is full. */
LT_MUST lt_rc lt_doc_builder_text(struct lt_doc_builder *b, lt_str s, lt_str *ret_copy,
                                  struct lt_err *err);

#endif
