/*
 * proxy/conf/source.h - where configuration comes from: core.v3.ConfigSource, read, and one object
 * for all that say the same. Main thread only; they live as long as the table.
 * Not here: who asks there (feeds.h).
 */
#ifndef LT_PROXY_CONF_SOURCE_H
#define LT_PROXY_CONF_SOURCE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/map.h"

enum {
    PX_SOURCES_MAX = 4096,
    PX_FETCH_TIMEOUT_DEFAULT_MS = 15000, /* initial_fetch_timeout, when it is not given */
};

typedef enum {
    PX_SOURCE_BOOTSTRAP, /* the bootstrap file itself */
    PX_SOURCE_ADS,       /* the one stream for all */
    PX_SOURCE_GRPC,      /* a stream of its own, to a cluster */
    PX_SOURCE_PATH,      /* a file */
} px_source_kind;

struct px_source_header {
    lt_str name, value;
};

struct px_source {
    px_source_kind kind;
    uint16_t id;
    bool is_sotw, says_node_always; /* GRPC */
    uint32_t rate_tokens;           /* GRPC: rate_limit_settings; 0: none */
    uint64_t rate_fill_ns;          /* between two more */
    lt_str cluster, authority;
    const struct px_source_header *headers; /* initial_metadata */
    size_t header_count;
    lt_str path;
    lt_str directory; /* that is watched for path; empty: the one that path is in */
    lt_str text;      /* for people, and what makes two of them the same: "grpc:sds-grpc" */
};

struct px_sources;

/* ADS is there to be asked; until this says that it isn't. */
void px_sources_set_ads(struct px_sources *sources, bool has_ads);
bool px_sources_have_ads(const struct px_sources *sources);
struct px_sources *px_sources_new(void);
void px_sources_free(struct px_sources **sources);
const struct px_source *px_source_bootstrap(const struct px_sources *sources);
const struct px_source *px_source_ads(const struct px_sources *sources);
size_t px_source_count(const struct px_sources *sources);
/* The one of this id. */
const struct px_source *px_source_at(const struct px_sources *sources, uint16_t id);
/* Of what was interned. NULL: none says so. */
const struct px_source *px_source_find(const struct px_sources *sources, lt_str text);
/*
 * Finds or makes the one that says what `like` says; its slices are copied. NULL: there are
 * PX_SOURCES_MAX of them.
 */
const struct px_source *px_source_intern(struct px_sources *sources, const struct px_source *like);

#endif
