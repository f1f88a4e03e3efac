/*
 * proxy/conf/route_match.c - the route match engine.
 * Start at: px_route_find().
 */
#include "proxy/conf/route_match.h"

#include "http/url.h"
#include "proxy/conf/domains.h"
#include "proxy/conf/meta.h"

enum { AUTHORITY_MAX = 256 };

/* --- virtual hosts --- */

/* "host:port" without the port, "[::1]:80" too. */
static lt_str without_port(lt_str authority)
{
    ptrdiff_t colon = lt_str_rfind_char(authority, ':');
    ptrdiff_t bracket = lt_str_rfind_char(authority, ']');
    return colon < 0 || colon < bracket ? authority : lt_str_slice(authority, 0, (size_t)colon);
}

const struct px_vhost *px_route_find_vhost(const struct px_routes_conf *routes,
                                           const struct px_domains *on_demand, lt_str authority)
{
    char lower[AUTHORITY_MAX];
    const struct px_vhost *catch_all = routes->domains.catch_all;
    if (routes->vhost_count == 1 && catch_all != NULL && on_demand == NULL)
        return catch_all; /* most route configurations of a sidecar's inbound side */
    lt_str host = routes->ignore_port_in_host ? without_port(authority) : authority;
    if (host.len > sizeof(lower))
        return catch_all;
    for (size_t i = 0; i < host.len; i++)
        lower[i] = host.ptr[i] >= 'A' && host.ptr[i] <= 'Z' ? (char)(host.ptr[i] + 32)
                                                            : host.ptr[i];
    return px_domains_find(&routes->domains, on_demand, lt_str_make(lower, host.len));
}

/* --- strings --- */

static bool starts_nocase(lt_str text, lt_str prefix)
{
    return text.len >= prefix.len && lt_str_case_eq(lt_str_slice(text, 0, prefix.len), prefix);
}

static bool contains_nocase(lt_str text, lt_str needle)
{
    for (size_t i = 0; i + needle.len <= text.len; i++) {
        if (lt_str_case_eq(lt_str_slice(text, i, i + needle.len), needle))
            return true;
    }
    return false;
}

/* Where '.' of a regular expression is any one byte: neither a line end nor a part of UTF-8. */
static bool is_plain(lt_str text)
{
    unsigned char odd = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        odd |= (unsigned char)((c & 0x80) | (c == '\n'));
    }
    return odd == 0;
}

static bool regex_matches(const struct px_string_match *match, lt_str text)
{
    if (!match->is_simple || !is_plain(text))
        return lt_regex_matches(match->regex, text);
    switch (match->simple) {
    case PX_MATCH_EXACT: return lt_str_eq(text, match->text);
    case PX_MATCH_PREFIX: return lt_str_starts(text, match->text);
    case PX_MATCH_SUFFIX: return lt_str_ends(text, match->text);
    default: return text.len >= match->is_not_empty && lt_str_find(text, match->text) >= 0;
    }
}

bool px_string_matches(const struct px_string_match *match, lt_str text)
{
    lt_str want = match->text;
    switch (match->kind) {
    case PX_MATCH_EXACT:
        return match->ignore_case ? lt_str_case_eq(text, want) : lt_str_eq(text, want);
    case PX_MATCH_PREFIX:
        return match->ignore_case ? starts_nocase(text, want) : lt_str_starts(text, want);
    case PX_MATCH_SUFFIX:
        if (!match->ignore_case)
            return lt_str_ends(text, want);
        return text.len >= want.len && lt_str_case_eq(lt_str_from(text, text.len - want.len), want);
    case PX_MATCH_CONTAINS:
        return match->ignore_case ? contains_nocase(text, want) : lt_str_find(text, want) >= 0;
    case PX_MATCH_REGEX: return regex_matches(match, text);
    case PX_MATCH_PRESENT: return true;
    case PX_MATCH_RANGE: return false; /* headers only */
    }
    return false;
}

/* --- headers --- */

/* ptr NULL: absent. */
static lt_str pseudo_value(const struct px_request_facts *facts, lt_str name)
{
    if (lt_str_eqz(name, ":path"))
        return facts->path;
    if (lt_str_eqz(name, ":method"))
        return facts->method;
    if (lt_str_eqz(name, ":authority") || lt_str_eqz(name, "host"))
        return facts->authority;
    if (lt_str_eqz(name, ":scheme"))
        return facts->scheme;
    return LT_STR_NULL;
}

static bool range_matches(const struct px_header_match *match, lt_str value)
{
    int64_t number = 0;
    return lt_str_to_i64(value, &number) == LT_OK && number >= match->range_from &&
           number < match->range_to;
}

static bool value_matches(const struct px_header_match *match, lt_str value)
{
    return match->value.kind == PX_MATCH_RANGE ? range_matches(match, value)
                                               : px_string_matches(&match->value, value);
}

/*
 * Envoy 1.40: a header that came several times is judged value by value, so that nobody hides one
 * among others; any of them will do.
 */
static bool any_value_matches(const struct px_header_match *match, const struct lt_headers *headers,
                              const struct lt_header *header)
{
    for (; header != NULL; header = lt_headers_find_next(headers, header)) {
        if (value_matches(match, header->value))
            return true;
    }
    return false;
}

static bool present_matches(const struct px_header_match *match, bool is_present)
{
    return (is_present == match->present_value) != match->invert;
}

/* Envoy: an absent header fails the match, inverted or not, unless it counts as empty. */
static bool missing_matches(const struct px_header_match *match)
{
    return match->treat_missing_as_empty && value_matches(match, LT_STR("")) != match->invert;
}

bool px_header_matches(const struct px_header_match *match, const struct px_request_facts *facts)
{
    bool is_pseudo = match->name.ptr[0] == ':' || lt_str_eqz(match->name, "host");
    lt_str pseudo = is_pseudo ? pseudo_value(facts, match->name) : LT_STR_NULL;
    const struct lt_header *header = is_pseudo ? NULL
                                               : lt_headers_find_name(facts->headers, match->name);
    bool is_present = pseudo.ptr != NULL || header != NULL;
    if (match->value.kind == PX_MATCH_PRESENT)
        return present_matches(match, is_present);
    if (!is_present)
        return missing_matches(match);
    bool matches = is_pseudo ? value_matches(match, pseudo)
                             : any_value_matches(match, facts->headers, header);
    return matches != match->invert;
}

/* --- routes --- */

static bool path_matches(const struct px_route *route, lt_str path_only, lt_str method)
{
    switch (route->path_kind) {
    case PX_PATH_PREFIX:
        return route->ignore_case ? starts_nocase(path_only, route->path)
                                  : lt_str_starts(path_only, route->path);
    case PX_PATH_EXACT:
        return route->ignore_case ? lt_str_case_eq(path_only, route->path)
                                  : lt_str_eq(path_only, route->path);
    case PX_PATH_REGEX: return lt_regex_matches(route->path_regex, path_only);
    case PX_PATH_SEPARATED_PREFIX: {
        bool starts = route->ignore_case ? starts_nocase(path_only, route->path)
                                         : lt_str_starts(path_only, route->path);
        return starts &&
               (path_only.len == route->path.len || path_only.ptr[route->path.len] == '/');
    }
    case PX_PATH_CONNECT: return lt_str_eqz(method, "CONNECT");
    }
    return false;
}

bool px_query_matches(const struct px_query_match *match, lt_str query)
{
    lt_str name, value;
    while (lt_url_query_next(&query, &name, &value)) {
        if (lt_str_eq(name, match->name))
            return px_string_matches(&match->value,
                                     value); /* Envoy looks at the first of that name */
    }
    return false;
}

/* The first cookie of that name; ptr NULL: none. */
static lt_str cookie_value(const struct lt_headers *headers, lt_str name)
{
    lt_str wanted = LT_STR("cookie");
    const struct lt_header *header = lt_headers_find_name(headers, wanted);
    for (; header != NULL; header = lt_headers_find_next(headers, header)) {
        lt_str rest = header->value, cookie;
        while (lt_str_split(&rest, ';', &cookie)) {
            cookie = lt_str_trim(cookie);
            ptrdiff_t equal = lt_str_find_char(cookie, '=');
            if (equal < 0 || !lt_str_eq(lt_str_slice(cookie, 0, (size_t)equal), name))
                continue;
            lt_str value = lt_str_from(cookie, (size_t)equal + 1);
            bool is_quoted = value.len >= 2 && value.ptr[0] == '"' &&
                             value.ptr[value.len - 1] == '"';
            return is_quoted ? lt_str_slice(value, 1, value.len - 1) : value;
        }
    }
    return LT_STR_NULL;
}

/* Envoy: without the cookie an inverted match holds. */
static bool cookie_matches(const struct px_cookie_match *match, const struct lt_headers *headers)
{
    lt_str value = cookie_value(headers, match->name);
    return (value.ptr != NULL && px_string_matches(&match->value, value)) != match->invert;
}

static bool tls_matches(const struct px_route *route, const struct lt_transport *transport)
{
    bool has_tls = transport != NULL && transport->tls != NULL;
    bool is_presented = has_tls && lt_tls_peer_sha256(transport).len > 0;
    bool is_validated = has_tls && lt_tls_has_verified_peer(transport);
    return (route->tls_presented == PX_WANT_ANY ||
            (route->tls_presented == PX_WANT_YES) == is_presented) &&
           (route->tls_validated == PX_WANT_ANY ||
            (route->tls_validated == PX_WANT_YES) == is_validated);
}

static bool is_grpc(const struct px_request_facts *facts)
{
    lt_str type = lt_headers_value(facts->headers, LT_H_CONTENT_TYPE);
    lt_str grpc = LT_STR("application/grpc");
    return lt_str_starts(type, grpc) &&
           (type.len == grpc.len || type.ptr[grpc.len] == '+' || type.ptr[grpc.len] == ';');
}

static bool route_matches(const struct px_route *route, const struct px_request_facts *facts,
                          struct lt_url_parts parts)
{
    if (!path_matches(route, parts.path, facts->method))
        return false;
    if (route->runtime_fraction_ppm < 1000000 &&
        facts->random % 1000000 >= route->runtime_fraction_ppm)
        return false;
    if (route->grpc_only && !is_grpc(facts))
        return false;
    for (size_t i = 0; i < route->header_count; i++) {
        if (!px_header_matches(&route->headers[i], facts))
            return false;
    }
    for (size_t i = 0; i < route->query_count; i++) {
        if (!px_query_matches(&route->queries[i], parts.query))
            return false;
    }
    for (size_t i = 0; i < route->cookie_count; i++) {
        if (!cookie_matches(&route->cookies[i], facts->headers))
            return false;
    }
    if ((route->tls_presented != PX_WANT_ANY || route->tls_validated != PX_WANT_ANY) &&
        !tls_matches(route, facts->transport))
        return false;
    for (size_t i = 0; i < route->wanted_count; i++) {
        if (!px_meta_matches(&route->wanted[i], facts->meta))
            return false;
    }
    return true;
}

bool px_route_takes(const struct px_route *route, const struct px_request_facts *facts)
{
    return route_matches(route, facts, lt_url_split(facts->path));
}

const struct px_route *px_route_find(const struct px_vhost *vhost,
                                     const struct px_request_facts *facts)
{
    struct lt_url_parts parts = lt_url_split(facts->path);
    for (size_t i = 0; i < vhost->route_count; i++) {
        if (route_matches(&vhost->routes[i], facts, parts))
            return &vhost->routes[i];
    }
    return NULL;
}

lt_str px_route_unmatched(const struct px_route *route, lt_str path)
{
    bool is_prefix = route->path_kind == PX_PATH_PREFIX ||
                     route->path_kind == PX_PATH_SEPARATED_PREFIX;
    return lt_str_from(path, is_prefix ? route->path.len : lt_url_split(path).path.len);
}

const struct px_weighted_cluster *px_route_pick_weighted(const struct px_weighted_cluster *clusters,
                                                         size_t count, uint32_t total_weight,
                                                         uint64_t random)
{
    LT_ASSERT(count > 0 && total_weight > 0);
    uint64_t at = (random >> 20) % total_weight;
    for (size_t i = 0; i < count; i++) {
        if (at < clusters[i].weight)
            return &clusters[i];
        at -= clusters[i].weight;
    }
    LT_UNREACHABLE();
}
