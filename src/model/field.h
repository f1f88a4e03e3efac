/*
 * model/field.h - the one engine that turns a document into a typed struct: a table of fields a
 * message, read by lt_field_read. The tables are made from fields_k8s.def and fields_istio.def,
 * which make the structs too (k8s.h, istio.h), so a field is written down once: its name in the
 * manifest, its type, its limits, and what it is for. Trust: documents are a stranger's; their
 * depth was limited when they were parsed.   Start at: lt_field_read().
 */
#ifndef LT_MODEL_FIELD_H
#define LT_MODEL_FIELD_H

#include "model/note.h"
#include "model/share.h"
#include "wire/doc.h"

/* Values with a presence of their own. */
struct lt_opt {
    int64_t value; /* a number, 0 or 1, nanoseconds, or an enum's value */
    bool is_set;
};

struct lt_opt_double {
    double value;
    bool is_set;
};

struct lt_strs {
    size_t count;
    lt_str *items;
};

struct lt_kv {
    lt_str key;
    lt_str value;
};

struct lt_kvs {
    size_t count;
    struct lt_kv *items; /* sorted by key */
};

/* A port by number or by name. */
struct lt_port_ref {
    uint16_t number; /* 0: see name */
    lt_str name;     /* "" and number 0: not set */
};

/* Any list of messages has this shape. */
struct lt_field_list {
    size_t count;
    void *items;
};

/* A map from strings to messages: item i belongs to key i; sorted by key. */
struct lt_field_map {
    size_t count;
    void *items;
    lt_str *keys;
};

static inline int64_t lt_opt_or(struct lt_opt opt, int64_t otherwise)
{
    return opt.is_set ? opt.value : otherwise;
}

/* LT_STR_NULL when there is none. */
lt_str lt_kvs_find(const struct lt_kvs *kvs, lt_str key);
/* Every pair of `wanted` is in `have`; an empty `wanted` is contained in anything. */
bool lt_kvs_contain(const struct lt_kvs *have, const struct lt_kvs *wanted);
bool lt_strs_contain(const struct lt_strs *strs, lt_str s);

typedef enum {
    LT_FIELD_STR,
    LT_FIELD_BOOL,     /* struct lt_opt */
    LT_FIELD_INT,      /* struct lt_opt, min..max */
    LT_FIELD_ENUM,     /* struct lt_opt; by name or number */
    LT_FIELD_DURATION, /* struct lt_opt, ns, at least min */
    LT_FIELD_DOUBLE,   /* struct lt_opt_double, min..max */
    LT_FIELD_PORT_REF, /* struct lt_port_ref: a number or a name */
    LT_FIELD_STRS,     /* struct lt_strs */
    LT_FIELD_KVS,      /* struct lt_kvs */
    LT_FIELD_SUB,      /* pointer to a message, or NULL */
    LT_FIELD_SUBS,     /* struct lt_field_list of messages */
    LT_FIELD_SUB_MAP,  /* struct lt_field_map of messages */
    LT_FIELD_NONE,     /* known, and nothing is kept */
    LT_FIELD_SEEN,     /* struct lt_strs: which of several names are there, and nothing else */
} lt_field_type;

enum {
    LT_FIELD_REQUIRED = 1u << 0,
    LT_FIELD_NOT_YET =
        1u << 1, /* part of the API, not acted on yet: an info note says so when it is used */
};

struct lt_enum_value {
    const char *name;
    int64_t value;
};

struct lt_schema;
struct lt_field_reader;

struct lt_field {
    const char *name; /* in the manifest; of types NONE and SEEN: one or more names with blanks */
    lt_field_type type;
    unsigned flags;
    size_t offset; /* in the message's struct */
    int64_t min;   /* INT, DOUBLE, DURATION (ns); both 0: no limit */
    int64_t max;
    const struct lt_enum_value *values; /* ENUM; ends with name NULL */
    const struct lt_schema *sub;        /* SUB, SUBS, SUB_MAP */
    const char *help;
};

/*
 * Rules beyond one field; message is filled. Says what is wrong with lt_field_error and
 * lt_field_warn.
 */
typedef void lt_schema_check_fn(struct lt_field_reader *reader, const struct lt_doc *doc,
                                const void *message, const struct lt_doc_path *path);

struct lt_schema {
    const char *name;
    size_t size; /* of the struct; its first member is uint32_t line */
    const struct lt_field *(*fields)(size_t *ret_count);
    lt_schema_check_fn *check; /* may be NULL */
};

/* Every message begins with this. */
struct lt_message_head {
    uint32_t line; /* in its file; 0: not from a file */
};

struct lt_field_reader {
    struct lt_arena *arena; /* borrowed; what is made is made there, nothing is borrowed from the
                               document */
    struct lt_share *share; /* borrowed; where strings and messages go then; NULL: they stay */
    struct lt_notes *notes; /* borrowed; may be NULL */
    struct lt_note where;   /* file and object of the notes */
    lt_note_level
        /* what an unknown field is: Istio's kinds LT_NOTE_ERROR, Kubernetes' LT_NOTE_WARNING */
        unknown;
    lt_str ns;      /* of the object, for checks */
    bool has_lines; /* messages keep their lines; without them, more of them are equal */
    size_t errors;  /* so far */
};

/*
 * Fills *message (zeroed, schema->size long) from an object. Everything wrong is noted and reading
 * goes on, so that a person sees all of it at once; LT_E_BAD when anything was an error
 * (reader->errors counts them too, for who reads several messages). A null value is as good as
 * none.
 */
lt_rc lt_field_read(struct lt_field_reader *reader, const struct lt_doc *doc,
                    const struct lt_schema *schema, void *message, const struct lt_doc_path *path);

void lt_field_error(struct lt_field_reader *reader, const struct lt_doc *node,
                    const struct lt_doc_path *path, const char *fmt, ...) LT_PRINTF(4, 5);
void lt_field_note(struct lt_field_reader *reader, lt_note_level level, const struct lt_doc *node,
                   const struct lt_doc_path *path, const char *fmt, ...) LT_PRINTF(5, 6);
/* The same about a member of node: its line if it is there, its name behind the path. */
void lt_field_error_at(struct lt_field_reader *reader, const struct lt_doc *node,
                       const struct lt_doc_path *path, const char *member, const char *fmt, ...)
    LT_PRINTF(5, 6);

/*
 * Close enough to be a typo: all but two letters in the middle are the same, whatever their case.
 */
bool lt_name_is_near(lt_str a, lt_str b);

/* The name of an enum's value, or "?". */
const char *lt_enum_name(const struct lt_enum_value *values, int64_t value);

#endif
