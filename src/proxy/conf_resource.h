/*
 * proxy/conf_resource.h - what every frozen resource begins with. The rest: conf.h.
 */
#ifndef LT_PROXY_CONF_RESOURCE_H
#define LT_PROXY_CONF_RESOURCE_H

#include "base/arena.h"
#include "base/map.h"
#include "base/regex.h"
#include "net/addr.h"

typedef enum {
    PX_CLUSTER,
    PX_ENDPOINTS,
    PX_LISTENER,
    PX_ROUTES,
    PX_SECRET,
    PX_RESOURCE_KINDS
} px_resource_kind;

struct lt_doc;

struct px_resource {
    px_resource_kind kind;
    uint32_t refs;          /* main thread only */
    struct lt_arena *arena; /* owned; holds this struct too */
    lt_str name;
    uint64_t hash;            /* of the wire bytes: an equal resource is kept, not rebuilt */
    lt_str version;           /* as the control plane named it, may be empty */
    lt_str wire;              /* the original message, for dumps */
    const lt_str *unhonoured; /* paths of fields that were accepted and do nothing here */
    size_t unhonoured_count;
    struct lt_regex **regexes; /* owned: they are not of the arena */
    size_t regex_count;
    struct lt_map **maps; /* their tables are not of the arena either; the structs are */
    size_t map_count;
};

#endif
