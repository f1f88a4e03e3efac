/*
 * proxy/filter/rate_actions.h - RateLimit of routes: what a request is counted as. Each gives a
 * list of keys and values, or nothing when the request lacks what it asks for.
 */
#ifndef LT_PROXY_FILTER_RATE_ACTIONS_H
#define LT_PROXY_FILTER_RATE_ACTIONS_H

#include "proxy/conf/conf.h"

struct px_request;

typedef enum {
    PX_RATE_DESTINATION,
    PX_RATE_HEADER,
    PX_RATE_REMOTE,
    PX_RATE_GENERIC,
    PX_RATE_HEADERS_MATCH,
    PX_RATE_QUERY,
    PX_RATE_QUERIES_MATCH,
    PX_RATE_NETWORK,  /* of the client's address */
    PX_RATE_METADATA, /* that filters left; value: where there is none */
} px_rate_kind;

/* RateLimit.Action */
struct px_rate_action {
    px_rate_kind kind;
    lt_str key, value; /* of the entry */
    lt_str name;       /* of the header, the query parameter, the filter whose metadata it is */
    bool may_lack;     /* skip_if_absent */
    bool expects_match;
    const struct px_header_match *headers;
    size_t header_count;
    const struct px_query_match *queries;
    size_t query_count;
    const lt_str *path; /* of the metadata */
    size_t depth;
    uint8_t v4_bits, v6_bits;
};

struct px_rate_limit {
    uint32_t stage;
    const struct px_rate_action *actions;
    size_t action_count;
};

struct px_rate_limits {
    const struct px_rate_limit *items;
    size_t count;
};

struct px_rate_entry {
    lt_str key, value;
};

enum { PX_RATE_ENTRIES_MAX = 16 /* of one list */ };

/* False: the request gives none. */
bool px_rate_describe(struct px_request *request, const struct px_rate_limit *limit,
                      struct px_rate_entry ret_entries[PX_RATE_ENTRIES_MAX], size_t *ret_count);

#endif
