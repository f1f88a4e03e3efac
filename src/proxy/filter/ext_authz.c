/*
 * proxy/filter/ext_authz.c - envoy.filters.http.ext_authz: a server outside decides about each
 * request. Whatever goes wrong is a no, unless failure_mode_allow says otherwise.
 * Start at: on_request().
 */
#include "proxy/filter/ext_authz.h"
#include "http/url.h"
#include "proxy/conf/meta.h"
#include "proxy/http/request.h"
#include "proxy/told/count.h"

typedef enum { FRESH, ASKED, ANSWERED } phase;

struct state {
    phase phase;
    struct px_request *request;
    struct px_authz_call call;
    uint64_t asked_ns;
};

static const lt_str metadata_name = {"envoy.filters.http.ext_authz", 28};

/* --- counters --- */

/* Envoy counts for the filter, and for the cluster that the request would go to. */
static void count(struct px_request *request, const struct px_authz_conf *conf, px_authz_stat stat)
{
    static const char *const names[PX_AUTHZ_STATS] = {
        [PX_AUTHZ_STAT_OK] = "ok",
        [PX_AUTHZ_STAT_DENIED] = "denied",
        [PX_AUTHZ_STAT_ERROR] = "error",
        [PX_AUTHZ_STAT_FAILURE_ALLOWED] = "failure_mode_allowed",
        [PX_AUTHZ_STAT_INVALID] = "invalid",
    };
    px_stat_add(request->worker, &conf->stats[stat], 1);
    struct px_cluster *cluster = px_cluster_get(request->worker, px_request_cluster_name(request));
    if (cluster == NULL || names[stat] == NULL)
        return;
    lt_str rest = lt_arena_printf(request->arena, "ext_authz.%.*s%s", LT_STR_ARG(conf->stat_prefix),
                                  names[stat]);
    px_cluster_count_named(cluster, rest, 1);
}

/* --- edits --- */

static lt_rc edit_header(struct lt_arena *arena, struct lt_headers *headers,
                         const struct px_authz_edit *edit)
{
    struct lt_header *found = lt_headers_find_name(headers, edit->name);
    switch (edit->how) {
    case PX_AUTHZ_SET: return lt_headers_set(headers, edit->name, edit->value);
    case PX_AUTHZ_ADD: return lt_headers_add(headers, edit->name, edit->value);
    case PX_AUTHZ_APPEND:
        if (found != NULL)
            found->value = lt_arena_printf(arena, "%.*s,%.*s", LT_STR_ARG(found->value),
                                           LT_STR_ARG(edit->value));
        return LT_OK;
    case PX_AUTHZ_SET_IF_THERE:
        return found != NULL ? lt_headers_set(headers, edit->name, edit->value) : LT_OK;
    case PX_AUTHZ_ADD_IF_ABSENT:
        return found == NULL ? lt_headers_add(headers, edit->name, edit->value) : LT_OK;
    }
    return LT_OK;
}

static bool is_path(lt_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.ptr[i] <= ' ' || value.ptr[i] == 0x7f || value.ptr[i] == '#')
            return false;
    }
    return lt_str_starts(value, LT_STR("/"));
}

/* HEAD and CONNECT say how messages end: nobody changes to or from them. */
static lt_rc set_method(struct px_request *request, lt_str value)
{
    lt_http_method from = request->head.method_id, to = lt_http_method_of(value);
    if (from == LT_METHOD_HEAD || from == LT_METHOD_CONNECT || to == LT_METHOD_HEAD ||
        to == LT_METHOD_CONNECT || !lt_http_is_token(value))
        return lt_str_eq(request->method, value) ? LT_OK : LT_E_BAD;
    request->method = value;
    request->head.method_id = to;
    return LT_OK;
}

/* LT_E_BAD: it can't be that. */
static lt_rc edit_line(struct px_request *request, const struct px_authz_edit *edit)
{
    if (edit->how != PX_AUTHZ_SET && edit->how != PX_AUTHZ_SET_IF_THERE)
        return LT_OK;
    if (lt_str_eqz(edit->name, ":path")) {
        request->path = is_path(edit->value) ? edit->value : request->path;
        return is_path(edit->value) ? LT_OK : LT_E_BAD;
    }
    if (lt_str_eqz(edit->name, ":method"))
        return set_method(request, edit->value);
    if (lt_str_eqz(edit->name, ":scheme")) {
        bool is_known = lt_str_eqz(edit->value, "http") || lt_str_eqz(edit->value, "https");
        request->scheme = is_known ? edit->value : request->scheme;
        return is_known ? LT_OK : LT_E_BAD;
    }
    if (edit->value.len == 0 || !lt_http_is_authority(edit->value))
        return LT_E_BAD;
    request->authority = edit->value;
    return LT_OK;
}

static bool is_line(lt_str name)
{
    return lt_str_starts(name, LT_STR(":")) || lt_str_eqz(name, "host");
}

static lt_rc edit_host_headers(struct px_request *request, const struct px_authz_conf *conf,
                               const struct px_authz_edits *edits)
{
    for (size_t i = 0; i < edits->count; i++) {
        const struct px_authz_edit *edit = &edits->items[i];
        if (!px_mutation_allowed(conf->rules, edit->name)) {
            if (conf->rules->is_error)
                return LT_E_BAD;
            continue;
        }
        LT_TRY(is_line(edit->name) ? edit_line(request, edit)
                                   : edit_header(request->arena, &request->head.headers, edit));
    }
    return LT_OK;
}

static lt_rc remove_headers(struct px_request *request, const struct px_authz_conf *conf,
                            const struct px_authz_answer *answer)
{
    for (size_t i = 0; i < answer->removed_count; i++) {
        lt_str name = answer->removed[i];
        if (lt_str_starts(name, LT_STR(":")) || lt_str_case_eqz(name, "host"))
            continue;
        if (px_mutation_allowed(conf->rules, name))
            lt_headers_remove_name(&request->head.headers, name);
        else if (conf->rules->is_error)
            return LT_E_BAD;
    }
    return LT_OK;
}

static void edit_query(struct px_request *request, const struct px_authz_answer *answer)
{
    for (size_t i = 0; i < answer->query.count; i++)
        request->path = lt_url_query_set(request->path, answer->query.items[i].name,
                                         answer->query.items[i].value, request->arena);
    for (size_t i = 0; i < answer->query_removed_count; i++)
        request->path = lt_url_query_remove(request->path, answer->query_removed[i],
                                            request->arena);
}

/* --- verdicts --- */

static px_verdict reply(struct px_request *request, uint32_t code, const char *details)
{
    px_request_reply(request, code, PX_FLAG_UNAUTHORIZED, details, LT_STR_NULL, NULL);
    return PX_STOP;
}

static px_verdict invalid(struct px_request *request, const struct px_authz_conf *conf)
{
    count(request, conf, PX_AUTHZ_STAT_INVALID);
    return reply(request, 500, "ext_authz_invalid");
}

static void take_metadata(struct px_request *request, const struct px_authz_conf *conf,
                          const struct state *state)
{
    const struct lt_doc *doc = state->call.answer.metadata;
    if (doc == NULL)
        return;
    if (!conf->takes_metadata) {
        px_stat_add(request->worker, &conf->stats[PX_AUTHZ_STAT_IGNORED_METADATA], 1);
        return;
    }
    px_meta_merge(request->arena, &request->meta, metadata_name, doc);
    if (state->call.answer.result != PX_AUTHZ_OK)
        return;
    uint64_t ms = (px_now_ns(request->worker) - state->asked_ns) / LT_NS_PER_MS;
    px_meta_put(request->arena, &request->meta, metadata_name, LT_STR("ext_authz_duration"),
                lt_doc_of_int((int64_t)ms));
}

static px_verdict allow(struct px_request *request, const struct px_authz_conf *conf,
                        const struct state *state)
{
    const struct px_authz_answer *answer = &state->call.answer;
    if (conf->is_shadow) {
        count(request, conf, PX_AUTHZ_STAT_OK);
        return PX_GO;
    }
    if (answer->is_invalid)
        return invalid(request, conf);
    lt_rc rc = edit_host_headers(request, conf, &answer->host);
    if (rc == LT_OK)
        rc = remove_headers(request, conf, answer);
    if (rc == LT_E_LIMIT) {
        px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
        return PX_STOP;
    }
    if (rc != LT_OK)
        return invalid(request, conf);
    edit_query(request, answer);
    bool has_changed = answer->host.count + answer->removed_count + answer->query.count +
                           answer->query_removed_count >
                       0;
    if (conf->clears_route && has_changed)
        px_request_find_route(request);
    count(request, conf, PX_AUTHZ_STAT_OK);
    return PX_GO;
}

static void add_reply_headers(struct px_request *request, const struct px_authz_edits *edits)
{
    struct lt_headers *headers = px_reply_headers(request);
    for (size_t i = 0; i < edits->count; i++) {
        if (is_line(edits->items[i].name))
            continue;
        lt_rc rc = edit_header(request->arena, headers, &edits->items[i]);
        (void)rc; /* what is too much is not said */
    }
}

static px_verdict refuse(struct px_request *request, const struct px_authz_answer *answer,
                         uint32_t code, lt_str body, const char *details)
{
    add_reply_headers(request, &answer->client);
    bool has_type = lt_headers_may_have(px_reply_headers(request), LT_H_CONTENT_TYPE);
    px_request_reply(request, code, PX_FLAG_UNAUTHORIZED, details, body,
                     has_type ? NULL : "text/plain");
    return PX_STOP;
}

static px_verdict deny(struct px_request *request, const struct px_authz_conf *conf,
                       const struct px_authz_answer *answer)
{
    count(request, conf, PX_AUTHZ_STAT_DENIED);
    if (conf->is_shadow) {
        px_stat_add(request->worker, &conf->stats[PX_AUTHZ_STAT_SHADOW_DENIED], 1);
        return PX_GO;
    }
    if (answer->is_invalid)
        return invalid(request, conf);
    lt_str body = lt_str_slice(answer->body, 0, LT_MIN(answer->body.len, conf->denied_body_max));
    return refuse(request, answer, answer->code != 0 ? answer->code : 403, body,
                  "ext_authz_denied");
}

static px_verdict fail(struct px_request *request, const struct px_authz_conf *conf,
                       const struct px_authz_answer *answer)
{
    count(request, conf, PX_AUTHZ_STAT_ERROR);
    if (conf->is_shadow)
        return PX_GO;
    if (conf->failure_allows) {
        count(request, conf, PX_AUTHZ_STAT_FAILURE_ALLOWED);
        lt_rc rc = LT_OK;
        if (conf->failure_adds_header)
            rc = lt_headers_set(&request->head.headers, LT_STR("x-envoy-auth-failure-mode-allowed"),
                                LT_STR("true"));
        (void)rc; /* room was made for edits of ours */
        return PX_GO;
    }
    if (answer->is_invalid)
        return reply(request, conf->error_code, "ext_authz_error");
    return refuse(request, answer, answer->code != 0 ? answer->code : conf->error_code,
                  answer->body, "ext_authz_error");
}

static px_verdict judge(struct px_request *request, const struct px_authz_conf *conf,
                        const struct state *state)
{
    const struct px_authz_answer *answer = &state->call.answer;
    take_metadata(request, conf, state);
    switch (answer->result) {
    case PX_AUTHZ_OK: return allow(request, conf, state);
    case PX_AUTHZ_DENIED: return deny(request, conf, answer);
    case PX_AUTHZ_ERROR: break;
    }
    return fail(request, conf, answer);
}

/* --- asking --- */

static void on_answer(struct px_authz_call *call)
{
    struct state *state = LT_CONTAINER_OF(call, struct state, call);
    state->phase = ANSWERED;
    px_request_ready(state->request);
}

static const struct px_authz_body *body_wanted(const struct px_request *request,
                                               const struct px_authz_conf *conf,
                                               const struct px_authz_route *route)
{
    bool is_open_ended = request->head.wants_upgrade ||
                         request->head.method_id == LT_METHOD_CONNECT;
    if (is_open_ended || (route != NULL && route->has_no_body))
        return NULL;
    return route != NULL && route->body != NULL ? route->body : conf->body;
}

/* Envoy: those of all levels, a more specific one wins. */
static size_t merge_contexts(struct px_request *request, const struct px_http_filter *filter,
                             const struct px_authz_context **ret_contexts)
{
    const void *levels[PX_FILTER_LEVELS];
    size_t level_count = px_filter_route_confs(request, filter, levels), total = 0, count = 0;
    for (size_t i = 0; i < level_count; i++)
        total += ((const struct px_authz_route *)levels[i])->context_count;
    struct px_authz_context *merged = lt_arena_make_n(request->arena, struct px_authz_context,
                                                      total);
    for (size_t i = 0; i < level_count; i++) {
        const struct px_authz_route *route = levels[i];
        for (size_t j = 0; j < route->context_count; j++) {
            size_t k = 0;
            while (k < count && !lt_str_eq(merged[k].key, route->contexts[j].key))
                k++;
            if (k == count)
                merged[count++] = route->contexts[j];
        }
    }
    *ret_contexts = merged;
    return count;
}

static px_verdict ask(struct px_request *request, const struct px_http_filter *filter,
                      struct state *state)
{
    const struct px_authz_conf *conf = filter->conf;
    const struct px_authz_route *route = px_filter_route_conf(request, filter);
    const struct px_authz_body *body = body_wanted(request, conf, route);
    bool is_over = false;
    if (body != NULL) {
        px_verdict verdict = px_request_hold(request, body->bytes_max, &is_over);
        if (verdict != PX_GO)
            return verdict;
    }
    if (is_over && !body->allows_partial) {
        px_request_reply(request, 413, 0, "request_payload_too_large", LT_STR("Payload Too Large"),
                         "text/plain");
        return PX_STOP;
    }
    struct px_authz_ask what = {
        .conf = conf,
        .service = route != NULL && route->service != NULL ? route->service : &conf->service,
        .body = body,
        .is_partial = is_over,
        .request = request,
        .conn = request->conn,
        .arena = request->arena,
    };
    lt_str held = lt_buf_str(&request->replay);
    if (body != NULL)
        what.body_bytes = lt_str_slice(held, 0, LT_MIN(held.len, (size_t)body->bytes_max));
    what.context_count = merge_contexts(request, filter, &what.contexts);
    state->phase = ASKED;
    state->asked_ns = px_now_ns(request->worker);
    px_authz_call_start(&state->call, request->worker, &what, on_answer);
    return PX_STAY;
}

/* --- the step --- */

static bool is_enabled(const struct px_request *request, const struct px_authz_conf *conf)
{
    if (conf->enabled_ppm < 1000000 &&
        lt_prng_below(&request->worker->prng, 1000000) >= conf->enabled_ppm)
        return false;
    return conf->enabled_meta == NULL || px_meta_matches(conf->enabled_meta, request->meta);
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    const struct px_authz_conf *conf = filter->conf;
    const struct px_authz_route *route = px_filter_route_conf(request, filter);
    bool was_begun = request->filter_states != NULL && request->filter_states[filter->at] != NULL;
    if (!was_begun && route != NULL && route->is_off)
        return PX_GO;
    if (!was_begun && !is_enabled(request, conf)) {
        px_stat_add(request->worker, &conf->stats[PX_AUTHZ_STAT_DISABLED], 1);
        return conf->denies_when_off ? reply(request, conf->error_code, "ext_authz_error") : PX_GO;
    }
    struct state *state = px_filter_state(request, filter, sizeof(*state));
    state->request = request;
    switch (state->phase) {
    case FRESH: return ask(request, filter, state);
    case ASKED: return PX_STAY; /* something else happened */
    case ANSWERED: break;
    }
    return judge(request, conf, state);
}

static void on_response(struct px_request *request, const struct px_http_filter *filter)
{
    if (request->filter_states == NULL || request->filter_states[filter->at] == NULL)
        return;
    const struct px_authz_conf *conf = filter->conf;
    const struct state *state = request->filter_states[filter->at];
    const struct px_authz_edits *edits = &state->call.answer.response;
    if (state->call.answer.result != PX_AUTHZ_OK || conf->is_shadow)
        return;
    for (size_t i = 0; i < edits->count; i++) {
        if (is_line(edits->items[i].name))
            continue;
        lt_rc rc = edit_header(request->arena, &request->rhead.headers, &edits->items[i]);
        (void)rc; /* what is too much is not said */
    }
}

static void on_end(struct px_request *request, const struct px_http_filter *filter)
{
    struct state *state = px_filter_state(request, filter, sizeof(*state));
    px_authz_call_cancel(&state->call);
}

const struct px_filter_ops px_filter_ext_authz = {
    .name = "envoy.filters.http.ext_authz",
    .on_request = on_request,
    .on_response = on_response,
    .on_end = on_end,
};
