/*
 * model/object.h - an object of Kubernetes or Istio, read and checked: immutable, counted, in
 * memory that it shares with the other objects of its file (share.h). What is in it: kinds.def
 * (which kinds), schema.h (which fields). How it is made from manifests: load.h.
 */
#ifndef LT_MODEL_OBJECT_H
#define LT_MODEL_OBJECT_H

#include "model/schema.h"

typedef enum {
#define KIND(id, group, name, type, member, is_namespaced, where, unknown) LT_KIND_##id,
#include "model/kinds.def"
#undef KIND
    LT_KIND_COUNT,
} lt_kind_id;

struct lt_kind {
    const char *group; /* "" is the core group */
    const char *name;  /* "VirtualService" */
    bool is_namespaced;
    bool is_in_spec;       /* the message is the member `spec`; else it is beside metadata */
    lt_note_level unknown; /* what an unknown field is */
    const struct lt_schema *schema;
};

const struct lt_kind *lt_kind_get(lt_kind_id id);
/*
 * By "networking.istio.io/v1" and "VirtualService"; the version is not looked at. LT_KIND_COUNT:
 * not read.
 */
lt_kind_id lt_kind_find(lt_str api_version, lt_str kind);

/* Which object: two objects with one key are one object. */
struct lt_object_key {
    lt_kind_id kind;
    lt_str ns; /* "" for kinds without */
    lt_str name;
};

struct lt_object;

struct lt_object_parts {
    struct lt_object *wanted, *live; /* counted */
};

struct lt_object {
    unsigned refs;
    struct lt_share *share; /* counted: the object lives there, and all below */
    struct lt_object_key key;
    const struct lt_meta *meta; /* name and namespace as in the key */
    lt_str file;                /* where it stood; "" when it came from no file */
    uint32_t line;
    uint64_t hash;     /* of its content; equal objects have equal hashes, in every process */
    int64_t created_s; /* metadata.creationTimestamp, Unix time; 0: not said */
    struct lt_object_parts *parts; /* of a completed object, which shows what lives in these */
    /* By key.kind. */
    union {
        const void *body;
#define KIND(id, group, name, type, member, is_namespaced, where, unknown) \
    const struct type *member;
#include "model/kinds.def"
#undef KIND
    };
};

/*
 * Reads one object into the share. `file` is for messages. LT_E_UNSUPPORTED: a kind that is not
 * read (an info note says so); LT_E_BAD: refused, the notes say why, and *ret_key (may be NULL)
 * says which it is as far as that could be read (name.len > 0); it lives in the notes' arena.
 */
LT_MUST lt_rc lt_object_read(const struct lt_doc *doc, lt_str file, struct lt_share *share,
                             struct lt_notes *notes, struct lt_object_key *ret_key,
                             struct lt_object **ret_object);

/*
 * What somebody wants, completed by what is: a Service gets its cluster IP; any other object is as
 * the live one says. It stands where the wanted one stood. Both have the same key. The caller has
 * one count of the result.
 */
struct lt_object *lt_object_complete(struct lt_share *share, const struct lt_object *wanted,
                                     const struct lt_object *live);

struct lt_object *lt_object_ref(const struct lt_object *object);
/* Takes one count away and sets *object to NULL; the last one frees. */
void lt_object_unref(struct lt_object **object);

bool lt_object_key_eq(const struct lt_object_key *a, const struct lt_object_key *b);
/* By kind, namespace, name. */
int lt_object_key_cmp(const struct lt_object_key *a, const struct lt_object_key *b);

/* "VirtualService shop/reviews"; cut to fit. Returns out. */
enum { LT_OBJECT_NAME_MAX = 640 };
char *lt_object_key_format(const struct lt_object_key *key, char out[LT_OBJECT_NAME_MAX]);
/* A note about the object: file, line and name filled in; name points into `name`. */
struct lt_note lt_object_note(const struct lt_object *object, lt_note_level level,
                              char name[LT_OBJECT_NAME_MAX]);

/* "2024-05-01T10:00:00Z" to Unix seconds; 0 when it is no such thing. */
int64_t lt_timestamp_parse(lt_str text);

#endif
