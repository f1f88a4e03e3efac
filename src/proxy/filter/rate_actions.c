/*
 * proxy/filter/rate_actions.c - descriptors of requests for rate limits.
 */
#include "proxy/filter/rate_actions.h"

#include "http/url.h"
#include "proxy/conf/meta.h"
#include "proxy/conf/route_match.h"
#include "proxy/http/request.h"

typedef enum { GIVES, SKIPS, FAILS } outcome;

static outcome absent(const struct px_rate_action *action)
{
    return action->may_lack ? SKIPS : FAILS;
}

static outcome of_header(const struct px_request *request, const struct px_rate_action *action,
                         lt_str *ret_value)
{
    struct lt_headers *headers = (struct lt_headers *)&request->head.headers;
    if (lt_str_eqz(action->name, ":path"))
        *ret_value = request->path;
    else if (lt_str_eqz(action->name, ":method"))
        *ret_value = request->method;
    else if (lt_str_eqz(action->name, ":authority") || lt_str_eqz(action->name, "host"))
        *ret_value = request->authority;
    else if (lt_headers_find_name(headers, action->name) == NULL)
        return absent(action);
    else
        *ret_value = lt_headers_joined(headers, action->name);
    return GIVES;
}

static outcome of_query(const struct px_request *request, const struct px_rate_action *action,
                        lt_str *ret_value)
{
    lt_str query = lt_url_split(request->path).query, name;
    while (lt_url_query_next(&query, &name, ret_value)) {
        if (lt_str_eq(name, action->name))
            return GIVES;
    }
    return absent(action);
}

static outcome of_headers_match(const struct px_request *request,
                                const struct px_rate_action *action)
{
    struct px_request_facts facts = px_request_match_facts(request);
    bool matches = true;
    for (size_t i = 0; matches && i < action->header_count; i++)
        matches = px_header_matches(&action->headers[i], &facts);
    return matches == action->expects_match ? GIVES : FAILS;
}

static outcome of_queries_match(const struct px_request *request,
                                const struct px_rate_action *action)
{
    lt_str query = lt_url_split(request->path).query;
    bool matches = true;
    for (size_t i = 0; matches && i < action->query_count; i++)
        matches = px_query_matches(&action->queries[i], query);
    return matches == action->expects_match ? GIVES : FAILS;
}

/* "10.1.0.0/16" */
static outcome of_network(struct px_request *request, const struct px_rate_action *action,
                          lt_str *ret_value)
{
    char text[LT_ADDR_TEXT_MAX];
    struct lt_addr addr = *px_request_remote(request);
    bool is_v4 = addr.sa.sa_family == AF_INET;
    if (!is_v4 && addr.sa.sa_family != AF_INET6)
        return FAILS;
    unsigned bits = is_v4 ? action->v4_bits : action->v6_bits, size = is_v4 ? 4 : 16;
    unsigned char *bytes = is_v4 ? (unsigned char *)&addr.v4.sin_addr
                                 : (unsigned char *)&addr.v6.sin6_addr;
    for (unsigned i = 0; i < size; i++) {
        unsigned kept = bits > i * 8 ? LT_MIN(bits - i * 8, 8u) : 0;
        bytes[i] &= (unsigned char)(0xFF00u >> kept);
    }
    *ret_value = lt_arena_printf(request->arena, "%.*s/%u",
                                 LT_STR_ARG(lt_addr_format_ip(&addr, text)), bits);
    return GIVES;
}

/* Only texts count, as in Envoy. */
static outcome of_metadata(const struct px_request *request, const struct px_rate_action *action,
                           lt_str *ret_value)
{
    const struct lt_doc *node = px_meta_find(request->meta, action->name);
    for (size_t i = 0; node != NULL && i < action->depth; i++)
        node = lt_doc_find(node, action->path[i]);
    if (node != NULL && lt_doc_is(node, LT_DOC_STRING) && node->string.len > 0)
        *ret_value = node->string;
    return ret_value->len > 0 ? GIVES : absent(action);
}

static outcome run_action(struct px_request *request, const struct px_rate_action *action,
                          lt_str *ret_value)
{
    char text[LT_ADDR_TEXT_MAX];
    *ret_value = action->value;
    switch (action->kind) {
    case PX_RATE_DESTINATION: *ret_value = px_request_cluster_name(request); return GIVES;
    case PX_RATE_HEADER: return of_header(request, action, ret_value);
    case PX_RATE_REMOTE:
        *ret_value = lt_arena_str(request->arena,
                                  lt_addr_format_ip(px_request_remote(request), text));
        return ret_value->len > 0 ? GIVES : FAILS;
    case PX_RATE_GENERIC: return GIVES;
    case PX_RATE_HEADERS_MATCH: return of_headers_match(request, action);
    case PX_RATE_QUERY: return of_query(request, action, ret_value);
    case PX_RATE_QUERIES_MATCH: return of_queries_match(request, action);
    case PX_RATE_NETWORK: return of_network(request, action, ret_value);
    case PX_RATE_METADATA: return of_metadata(request, action, ret_value);
    }
    return FAILS;
}

bool px_rate_describe(struct px_request *request, const struct px_rate_limit *limit,
                      struct px_rate_entry ret_entries[PX_RATE_ENTRIES_MAX], size_t *ret_count)
{
    *ret_count = 0;
    for (size_t i = 0; i < limit->action_count; i++) {
        lt_str value;
        outcome what = run_action(request, &limit->actions[i], &value);
        if (what == FAILS)
            return false;
        if (what == GIVES)
            ret_entries[(*ret_count)++] = (struct px_rate_entry){limit->actions[i].key, value};
    }
    return *ret_count > 0;
}
