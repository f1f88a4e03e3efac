/*
 * proxy/conf/meta.h - dynamic metadata: what filters learn about a request or a connection and hand
 * to each other, to RBAC, to routes and to logs. A short list of trees, by filter; values live in
 * the arena of whom they are about.
 * Matching: envoy.type.matcher.v3.MetadataMatcher and ValueMatcher.
 */
#ifndef LT_PROXY_CONF_META_H
#define LT_PROXY_CONF_META_H

#include "proxy/conf/conf.h"
#include "wire/doc.h"

struct px_meta {
    const struct px_meta *next;
    lt_str filter; /* "envoy.filters.http.jwt_authn" */
    struct lt_doc doc;
};

/* The filter's tree, or NULL. meta NULL: nothing is known. */
const struct lt_doc *px_meta_find(const struct px_meta *meta, lt_str filter);
/*
 * Sets one member of the filter's tree; the value's parts are borrowed and must live as long as
 * arena. filter and key too.
 */
void px_meta_put(struct lt_arena *arena, const struct px_meta **meta, lt_str filter, lt_str key,
                 struct lt_doc value);
/* Every member of an object; borrowed likewise. */
void px_meta_merge(struct lt_arena *arena, const struct px_meta **meta, lt_str filter,
                   const struct lt_doc *object);

/* --- matching --- */

typedef enum {
    PX_VALUE_NULL,
    PX_VALUE_STRING,
    PX_VALUE_BOOL,
    PX_VALUE_NUMBER,
    PX_VALUE_RANGE,
    PX_VALUE_PRESENT,
    PX_VALUE_LIST, /* some item is as the one inside says */
    PX_VALUE_OR,
} px_value_kind;

struct px_value_match {
    px_value_kind kind;
    bool flag; /* BOOL, PRESENT: what is wanted */
    struct px_string_match text;
    double from, to; /* RANGE: [from, to); NUMBER: from */
    const struct px_value_match *inner;
    size_t inner_count;
};

struct px_meta_match {
    lt_str filter;
    const lt_str *path;
    size_t depth;
    struct px_value_match value;
    bool invert;
};

/* node NULL: there is no such value. */
bool px_value_matches(const struct px_value_match *match, const struct lt_doc *node);
bool px_meta_matches(const struct px_meta_match *match, const struct px_meta *meta);

#endif
