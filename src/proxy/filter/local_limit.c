/*
 * proxy/filter/local_limit.c - envoy.filters.http.local_ratelimit.
 */
#include "proxy/filter/local_limit.h"
#include "proxy/http/request.h"
#include "proxy/told/count.h"

/* What the response is told about the limit. */
struct state {
    const struct px_limit_bucket *at;
    uint32_t left;
    uint64_t next_s;
};

static bool is_drawn(struct px_request *request, uint32_t ppm)
{
    return ppm == 1000000 || (ppm > 0 && lt_prng_below(&request->worker->prng, 1000000) < ppm);
}

/* --- buckets of a connection --- */

enum { BUCKETS_MAX = 64 /* of a connection: as many limits may come and go while it is open */ };

struct px_conn_bucket {
    struct px_conn_bucket *next;
    uint64_t id; /* of the limit */
    struct px_bucket bucket;
};

static struct px_bucket *bucket_of(struct px_request *request, const struct px_limit_bucket *conf)
{
    if (conf->bucket != NULL)
        return conf->bucket;
    struct px_conn_more *more = px_conn_more(request->conn);
    struct px_conn_bucket *own = more->buckets;
    size_t count = 0;
    for (; own != NULL && own->id != conf->id; own = own->next)
        count++;
    if (own != NULL)
        return &own->bucket;
    own = more->buckets;
    if (count < BUCKETS_MAX) {
        own = lt_arena_make(more->arena, struct px_conn_bucket);
        own->next = more->buckets;
        more->buckets = own;
    }
    own->id = conf->id;
    px_bucket_init(&own->bucket);
    return &own->bucket;
}

/* --- rules --- */

static bool is_same(const struct px_limit_rule *rule, const struct px_rate_entry *entries,
                    size_t count)
{
    if (rule->count != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!lt_str_eq(rule->entries[i].key, entries[i].key) ||
            !lt_str_eq(rule->entries[i].value, entries[i].value))
            return false;
    }
    return true;
}

/* Marks the rules that these limits of a route lead to. */
static void mark_rules(struct px_request *request, const struct px_limit_conf *conf,
                       const struct px_rate_limits *limits, bool *marks)
{
    struct px_rate_entry entries[PX_RATE_ENTRIES_MAX];
    size_t count = 0;
    for (size_t i = 0; limits != NULL && i < limits->count; i++) {
        if (limits->items[i].stage != conf->stage ||
            !px_rate_describe(request, &limits->items[i], entries, &count))
            continue;
        for (size_t r = 0; r < conf->rule_count; r++)
            marks[r] = marks[r] || is_same(&conf->rules[r], entries, count);
    }
}

static bool *find_rules(struct px_request *request, const struct px_limit_conf *conf)
{
    bool *marks = lt_arena_make_n(request->arena, bool, conf->rule_count);
    const struct px_rate_limits *of_route = request->route != NULL ? request->route->rate_limits
                                                                   : NULL;
    const struct px_rate_limits *of_vhost = request->vhost != NULL ? request->vhost->rate_limits
                                                                   : NULL;
    if (conf->own.count > 0) {
        mark_rules(request, conf, &conf->own, marks);
        return marks;
    }
    mark_rules(request, conf, of_route, marks);
    if (conf->vhost == PX_VHOST_TOO || (conf->vhost == PX_VHOST_IF_NONE && of_route == NULL))
        mark_rules(request, conf, of_vhost, marks);
    return marks;
}

/* --- the step --- */

/* Keeps what the response will be told of this bucket. */
static void note(struct px_request *request, const struct px_http_filter *filter,
                 const struct px_limit_conf *conf, const struct px_limit_bucket *at)
{
    if (!conf->tells_limits)
        return;
    struct state *state = px_filter_state(request, filter, sizeof(*state));
    uint64_t now_ns = px_now_ns(request->worker);
    struct px_bucket *bucket = bucket_of(request, at);
    uint64_t next_ns = px_bucket_next_ns(bucket, &at->size, now_ns);
    state->at = at;
    state->left = px_bucket_left(bucket, &at->size, now_ns);
    state->next_s = (next_ns + LT_NS_PER_S - 1) / LT_NS_PER_S;
}

static bool takes_token(struct px_request *request, const struct px_http_filter *filter,
                        const struct px_limit_conf *conf)
{
    uint64_t now_ns = px_now_ns(request->worker);
    if (!conf->has_bucket)
        return true;
    const struct px_limit_bucket *first = NULL;
    const bool *marks = conf->rule_count > 0 ? find_rules(request, conf) : NULL;
    for (size_t i = 0; i < conf->rule_count; i++) {
        const struct px_limit_bucket *at = &conf->rules[i].bucket;
        if (!marks[i])
            continue;
        bool has_one = px_bucket_take(bucket_of(request, at), &at->size, now_ns);
        if (first == NULL || !has_one)
            note(request, filter, conf, at);
        if (!has_one)
            return false;
        first = first == NULL ? at : first;
    }
    if (first != NULL && conf->spares_all)
        return true;
    bool has_one = px_bucket_take(bucket_of(request, &conf->all), &conf->all.size, now_ns);
    if (first == NULL || !has_one)
        note(request, filter, conf, &conf->all);
    return has_one;
}

static lt_rc add_all(struct px_request *request, struct lt_headers *headers,
                     const struct px_header_edits *edits)
{
    for (size_t i = 0; i < edits->add_count; i++)
        LT_TRY(px_request_edit_header(request, headers, &edits->add[i]));
    return LT_OK;
}

static px_verdict refuse(struct px_request *request, const struct px_limit_conf *conf)
{
    lt_rc rc = conf->reply.add_count > 0 ? add_all(request, px_reply_headers(request), &conf->reply)
                                         : LT_OK;
    (void)rc; /* what is too much is not said */
    if (conf->is_exhausted)
        request->reply_grpc_status = 8;
    px_request_reply(request, conf->code, PX_FLAG_RATE_LIMITED, "local_rate_limited",
                     LT_STR("local_rate_limited"), "text/plain");
    return PX_STOP;
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    const struct px_limit_conf *of_route = px_filter_route_conf(request, filter);
    const struct px_limit_conf *conf = of_route != NULL ? of_route : filter->conf;
    struct px_worker *worker = request->worker;
    if (!is_drawn(request, conf->enabled_ppm))
        return PX_GO;
    px_stat_add(worker, &conf->enabled, 1);
    if (takes_token(request, filter, conf)) {
        px_stat_add(worker, &conf->ok, 1);
        return PX_GO;
    }
    px_stat_add(worker, &conf->limited, 1);
    if (is_drawn(request, conf->enforced_ppm)) {
        px_stat_add(worker, &conf->enforced, 1);
        return refuse(request, conf);
    }
    if (add_all(request, &request->head.headers, &conf->request) == LT_OK)
        return PX_GO;
    px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
    return PX_STOP;
}

static void set_number(struct px_request *request, const char *name, uint64_t number)
{
    lt_rc rc = lt_headers_set(&request->rhead.headers, lt_str_of(name),
                              lt_arena_u64(request->arena, number));
    (void)rc; /* room was made for edits of ours */
}

static void on_response(struct px_request *request, const struct px_http_filter *filter)
{
    if (request->filter_states == NULL || request->filter_states[filter->at] == NULL)
        return;
    const struct state *state = request->filter_states[filter->at];
    set_number(request, "x-ratelimit-limit", state->at->size.tokens_max);
    set_number(request, "x-ratelimit-remaining", state->left);
    set_number(request, "x-ratelimit-reset", state->next_s);
}

const struct px_filter_ops px_filter_local_limit = {
    .name = "envoy.filters.http.local_ratelimit",
    .on_request = on_request,
    .on_response = on_response,
};
