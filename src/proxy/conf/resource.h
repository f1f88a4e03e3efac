/*
 * proxy/conf/resource.h - what every frozen resource begins with. The rest: conf.h.
 */
#ifndef LT_PROXY_CONF_RESOURCE_H
#define LT_PROXY_CONF_RESOURCE_H

#include "base/arena.h"
#include "base/map.h"
#include "base/regex.h"
#include "base/rope.h"
#include "net/addr.h"

typedef enum {
    PX_CLUSTER,
    PX_ENDPOINTS,
    PX_LISTENER,
    PX_ROUTES,
    PX_SECRET,
    PX_EXTENSION, /* an HTTP filter's configuration, by ECDS */
    PX_VHOST,     /* a virtual host that came on demand, by VHDS */
    PX_RESOURCE_KINDS
} px_resource_kind;

struct lt_doc;
struct px_row;

struct px_owned {
    void *what;
    void (*free_it)(void *what);
};

/* What few resources have. */
struct px_extras {
    const lt_str *unhonoured; /* paths of fields that were accepted and do nothing here */
    size_t unhonoured_count;
    struct lt_regex **regexes; /* owned: they are not of the arena */
    size_t regex_count;
    struct lt_map **maps; /* their tables are not of the arena either; the structs are */
    size_t map_count;
    const struct px_owned *owned; /* other things that are not of the arena */
    size_t owned_count;
};

/*
 * Workers read name and what follows this struct. Everything else, and the counts, are the main
 * thread's.
 */
struct px_resource {
    struct lt_arena *arena; /* owned; holds this struct too */
    lt_str name;
    struct lt_bytes *version; /* counted; as the control plane named it; NULL: it didn't */
    uint64_t hash;            /* of the message: an equal resource is kept, not rebuilt */
    uint32_t refs;
    uint32_t wire_len;   /* of the message */
    uint8_t kind;        /* px_resource_kind */
    bool is_stored;      /* the message is in the store (store.h), at stored_at */
    bool holds_key;      /* a private key is in the message: it stays out of the store */
    uint16_t need_count; /* of needs; the first hard_need_count are waited for */
    uint16_t hard_need_count;
    union {
        char *wire; /* owned; the message; NULL: it is kept nowhere */
        uint64_t stored_at;
    };
    int64_t updated_ns;             /* wall clock: when it came */
    struct px_row **needs;          /* counted each; rows of what it names (row.h) */
    const struct px_extras *extras; /* NULL: none */
};

static inline lt_str px_resource_version(const struct px_resource *resource)
{
    return resource->version != NULL ? lt_bytes_str(resource->version) : LT_STR("");
}

#endif
