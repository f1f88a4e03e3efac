/*
 * proxy/conf/mutations.h - envoy.config.common.mutation_rules.v3.HeaderMutation: edits of a head in
 * the order in which they are written. Of the filter header_mutation, and of what comes before
 * routing.
 */
#ifndef LT_PROXY_CONF_MUTATIONS_H
#define LT_PROXY_CONF_MUTATIONS_H

#include "proxy/conf/conf.h"

struct px_request;
struct lt_headers;

typedef enum { PX_MUTATE_ADD, PX_MUTATE_REMOVE, PX_MUTATE_REMOVE_MATCHING } px_mutation_kind;

struct px_mutation {
    px_mutation_kind kind;
    struct px_header_edit edit;   /* ADD; REMOVE: its name */
    struct px_string_match match; /* REMOVE_MATCHING: names in lower case */
};

struct px_mutations {
    const struct px_mutation *items;
    size_t count;
};

struct px_query_mutation {
    lt_str name;
    lt_str value;                   /* ptr NULL: it is removed */
    const struct px_format *format; /* NULL: the value as it is */
    px_append_action action;
};

/* Of the filter, or of a route. */
struct px_mutation_conf {
    struct px_mutations request, response;
    const struct px_query_mutation *queries;
    size_t query_count;
    bool most_specific_wins; /* of the filter */
};

LT_MUST lt_rc px_mutate_head(struct px_request *request, struct lt_headers *headers,
                             const struct px_mutations *mutations);

#endif
