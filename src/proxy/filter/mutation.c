/*
 * proxy/filter/mutation.c - envoy.filters.http.header_mutation.
 */
#include "http/url.h"
#include "proxy/conf/mutations.h"
#include "proxy/http/request.h"

/* --- heads --- */

static void remove_matching(struct px_request *request, struct lt_headers *headers,
                            const struct px_string_match *match)
{
    for (uint32_t i = 0; i < headers->count;) {
        lt_str name = lt_arena_str(request->arena, headers->items[i].name);
        for (char *c = (char *)name.ptr; *c != '\0'; c++)
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
        if (px_string_matches(match, name) && !lt_str_eqz(name, "host"))
            lt_headers_remove_at(headers, i);
        else
            i++;
    }
}

lt_rc px_mutate_head(struct px_request *request, struct lt_headers *headers,
                     const struct px_mutations *mutations)
{
    for (size_t i = 0; i < mutations->count; i++) {
        const struct px_mutation *mutation = &mutations->items[i];
        switch (mutation->kind) {
        case PX_MUTATE_ADD:
            LT_TRY(px_request_edit_header(request, headers, &mutation->edit));
            break;
        case PX_MUTATE_REMOVE: lt_headers_remove_name(headers, mutation->edit.name); break;
        case PX_MUTATE_REMOVE_MATCHING: remove_matching(request, headers, &mutation->match); break;
        }
    }
    return LT_OK;
}

/* --- the query --- */

static bool has_param(lt_str target, lt_str name)
{
    lt_str query = lt_url_split(target).query, found, value;
    while (lt_url_query_next(&query, &found, &value)) {
        if (lt_str_eq(found, name))
            return true;
    }
    return false;
}

static lt_rc mutate_query(struct px_request *request, const struct px_query_mutation *query)
{
    struct lt_arena *arena = request->arena;
    lt_str value = query->value;
    if (value.ptr == NULL) {
        request->path = lt_url_query_remove(request->path, query->name, arena);
        return LT_OK;
    }
    if (query->format != NULL)
        LT_TRY(px_request_format(request, query->format, &value));
    bool is_there = has_param(request->path, query->name);
    lt_str name = lt_url_encode(query->name, arena);
    value = lt_url_encode(value, arena);
    switch (query->action) {
    case PX_APPEND: request->path = lt_url_query_add(request->path, name, value, arena); break;
    case PX_ADD_IF_ABSENT:
        if (!is_there)
            request->path = lt_url_query_add(request->path, name, value, arena);
        break;
    case PX_OVERWRITE_OR_ADD:
        request->path = lt_url_query_set(request->path, name, value, arena);
        break;
    case PX_OVERWRITE_IF_EXISTS:
        if (is_there)
            request->path = lt_url_query_set(request->path, name, value, arena);
        break;
    }
    return LT_OK;
}

/* --- the step --- */

static lt_rc mutate_request(struct px_request *request, const struct px_mutation_conf *conf)
{
    LT_TRY(px_mutate_head(request, &request->head.headers, &conf->request));
    for (size_t i = 0; i < conf->query_count; i++)
        LT_TRY(mutate_query(request, &conf->queries[i]));
    return LT_OK;
}

static lt_rc mutate_response(struct px_request *request, const struct px_mutation_conf *conf)
{
    return px_mutate_head(request, &request->rhead.headers, &conf->response);
}

/* The filter's own, then what routes say: from the most specific on, unless that shall win. */
static lt_rc mutate(struct px_request *request, const struct px_http_filter *filter,
                    lt_rc (*apply)(struct px_request *request, const struct px_mutation_conf *conf))
{
    const struct px_mutation_conf *own = filter->conf;
    const void *levels[PX_FILTER_LEVELS];
    size_t count = px_filter_route_confs(request, filter, levels);
    LT_TRY(apply(request, own));
    for (size_t i = 0; i < count; i++)
        LT_TRY(apply(request, levels[own->most_specific_wins ? count - 1 - i : i]));
    return LT_OK;
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    if (mutate(request, filter, mutate_request) == LT_OK)
        return PX_GO;
    px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
    return PX_STOP;
}

static void on_response(struct px_request *request, const struct px_http_filter *filter)
{
    lt_rc rc = mutate(request, filter, mutate_response);
    (void)rc; /* what is too much is left out */
}

const struct px_filter_ops px_filter_header_mutation = {
    .name = "envoy.filters.http.header_mutation",
    .on_request = on_request,
    .on_response = on_response,
};
