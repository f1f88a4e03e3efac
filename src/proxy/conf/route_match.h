/*
 * proxy/conf/route_match.h - which virtual host and route take a request. Pure: facts in, a route
 * out.
 * Semantics: Envoy's RouteMatch, HeaderMatcher, domain search order (exact, longest suffix, longest
 * prefix, "*").
 */
#ifndef LT_PROXY_CONF_ROUTE_MATCH_H
#define LT_PROXY_CONF_ROUTE_MATCH_H

#include "http/headers.h"
#include "proxy/conf/conf.h"

struct px_meta;

/* What a request looks like to a matcher. */
struct px_request_facts {
    lt_str method;
    lt_str scheme; /* "http" or "https" */
    lt_str authority;
    lt_str path; /* with query */
    const struct lt_headers *headers;
    const struct px_meta *meta;           /* dynamic metadata; may be NULL */
    const struct lt_transport *transport; /* to the client; NULL: no TLS */
    uint64_t random; /* for runtime fractions; the same for all routes of one request */
};

/* on_demand: of virtual hosts that came so; NULL. NULL: no domain takes that authority. */
const struct px_vhost *px_route_find_vhost(const struct px_routes_conf *routes,
                                           const struct px_domains *on_demand, lt_str authority);
/* NULL: no route of the virtual host takes the request. */
const struct px_route *px_route_find(const struct px_vhost *vhost,
                                     const struct px_request_facts *facts);

/*
 * What a prefix rewrite leaves of the path: what is behind the prefix that the route matched; of a
 * path that was matched whole (exact, by regular expression) the query.
 */
lt_str px_route_unmatched(const struct px_route *route, lt_str path);

/* Whether this one takes it. */
bool px_route_takes(const struct px_route *route, const struct px_request_facts *facts);

bool px_string_matches(const struct px_string_match *match, lt_str text);
/* query: without '?'. */
bool px_query_matches(const struct px_query_match *match, lt_str query);
bool px_header_matches(const struct px_header_match *match, const struct px_request_facts *facts);

/* The cluster of a weighted route for a random number. */
const struct px_weighted_cluster *px_route_pick_weighted(const struct px_weighted_cluster *clusters,
                                                         size_t count, uint32_t total_weight,
                                                         uint64_t random);

#endif
