/*
 * proxy/filter/jwt.c - envoy.filters.http.jwt_authn: tokens are judged (jwt_authn.h), and what a
 * good one says goes on in headers and metadata.
 */
#include "http/url.h"
#include "proxy/filter/jwks.h"
#include "proxy/http/filter.h"
#include "proxy/http/request.h"
#include "proxy/told/count.h"
#include "wire/base64.h"
#include "wire/json.h"

enum { CLAIM_BYTES_MAX = 16 * 1024, REALM_PATH_MAX = 256 };

struct state {
    struct px_jwks_wait wait;
    struct px_request *request;
    const struct px_jwt_conf *conf;
    struct px_jwt_entry
        *kept[PX_JWT_TOKENS_MAX]; /* counted; what metadata and headers point into */
    size_t kept_count;
    bool is_clean; /* nothing that only we may say is in the head */
};

static const lt_str metadata_name = {"envoy.filters.http.jwt_authn", 28};

/* --- keys --- */

static void on_keys(struct px_jwks_wait *wait)
{
    struct state *state = LT_CONTAINER_OF(wait, struct state, wait);
    px_request_ready(state->request);
}

static lt_rc find_keys(struct state *state, const struct px_jwt_provider *provider,
                       const struct lt_jwks **ret_keys, uint64_t *ret_id)
{
    if (provider->keys == NULL)
        return px_jwks_find(state->request->worker, state->conf, &provider->remote, &state->wait,
                            ret_keys, ret_id);
    *ret_keys = provider->keys;
    *ret_id = provider->keys_id;
    return LT_OK;
}

static const struct lt_jwt *keep(struct state *state, struct px_jwt_entry *entry)
{
    if (state->kept_count == PX_JWT_TOKENS_MAX) {
        px_jwt_entry_drop(&entry);
        return NULL;
    }
    state->kept[state->kept_count++] = entry;
    return &entry->jwt;
}

static lt_rc verify(void *ctx, const struct px_jwt_provider *provider, lt_str token,
                    const struct lt_jwt *jwt, const struct lt_jwt **ret_jwt)
{
    struct state *state = ctx;
    struct px_worker *worker = state->request->worker;
    const struct lt_jwks *keys = NULL;
    uint64_t keys_id = 0;
    LT_TRY(find_keys(state, provider, &keys, &keys_id));
    struct px_jwt_entry *entry = px_jwt_cache_take(&worker->jwt_cache, token, keys_id);
    px_stat_add(worker, entry != NULL ? &state->conf->cache_hit : &state->conf->cache_miss, 1);
    if (entry == NULL) {
        LT_TRY(lt_jwks_verify(keys, jwt));
        entry = px_jwt_cache_add(&worker->jwt_cache, token, keys_id);
    }
    const struct lt_jwt *kept = entry != NULL ? keep(state, entry) : NULL;
    *ret_jwt = kept != NULL ? kept : jwt;
    return LT_OK;
}

static void drop_kept(struct state *state)
{
    while (state->kept_count > 0)
        px_jwt_entry_drop(&state->kept[--state->kept_count]);
}

/* --- what a good token says --- */

/* Envoy: whole positive numbers as such, others with six digits; lists and objects as JSON. */
static lt_str claim_text(struct px_request *request, const struct lt_doc *claim)
{
    int64_t integer = 0;
    double number = 0;
    struct lt_buf json;
    struct lt_json_writer w;
    lt_str text = LT_STR_NULL;
    switch (claim->kind) {
    case LT_DOC_NULL: break;
    case LT_DOC_STRING: return claim->string;
    case LT_DOC_BOOL: return claim->boolean ? LT_STR("true") : LT_STR("false");
    case LT_DOC_INT:
    case LT_DOC_DOUBLE:
        if (lt_doc_is_int(claim, &integer) && integer >= 0)
            return lt_arena_u64(request->arena, (uint64_t)integer);
        lt_doc_is_number(claim, &number);
        return lt_arena_printf(request->arena, "%f", number);
    case LT_DOC_ARRAY:
    case LT_DOC_OBJECT:
        lt_buf_init(&json, CLAIM_BYTES_MAX);
        lt_json_writer_init(&w, &json, 0);
        lt_json_doc(&w, claim);
        if (lt_json_writer_finish(&w) == LT_OK)
            text = lt_base64_encode(request->arena, lt_buf_str(&json));
        lt_buf_fini(&json);
        break;
    }
    return text;
}

/* "a.b" is b inside a. */
static const struct lt_doc *find_claim(const struct lt_doc *payload, lt_str path)
{
    lt_str name;
    const struct lt_doc *node = payload;
    while (node != NULL && lt_str_split(&path, '.', &name))
        node = lt_doc_find(node, name);
    return node;
}

static lt_rc add_claims(struct px_request *request, const struct px_jwt_found *found,
                        bool *ret_has_added)
{
    const struct px_jwt_provider *provider = found->provider;
    struct lt_headers *headers = &request->head.headers;
    for (size_t i = 0; i < provider->claim_header_count; i++) {
        const struct px_jwt_claim_header *to = &provider->claim_headers[i];
        const struct lt_doc *claim = find_claim(found->jwt->payload, to->claim);
        lt_str text = claim != NULL ? claim_text(request, claim) : LT_STR_NULL;
        /* what would break the head has no business in it */
        if (text.ptr == NULL || !lt_http_is_field_value(text))
            continue;
        LT_TRY(lt_headers_set(headers, to->header, text));
        *ret_has_added = true;
    }
    return LT_OK;
}

static lt_rc add_payload(struct px_request *request, const struct px_jwt_found *found,
                         bool *ret_has_added)
{
    static const char *const pads[] = {"", "===", "==", "="};
    const struct px_jwt_provider *provider = found->provider;
    lt_str text = found->jwt->payload_text;
    if (provider->payload_header.len == 0)
        return LT_OK;
    *ret_has_added = true;
    if (provider->pads_payload)
        text = lt_arena_printf(request->arena, "%.*s%s", LT_STR_ARG(text), pads[text.len % 4]);
    return lt_headers_set(&request->head.headers, provider->payload_header, text);
}

static struct lt_doc split_words(struct lt_arena *arena, lt_str text)
{
    struct lt_doc list = lt_doc_of_array();
    lt_str word;
    while (lt_str_split(&text, ' ', &word)) {
        if (word.len > 0)
            lt_doc_push(arena, &list, lt_doc_of_str(word));
    }
    return list;
}

/* The claims; those that are lists of words become lists. */
static struct lt_doc normal_payload(struct px_request *request, const struct px_jwt_found *found)
{
    const struct px_jwt_provider *provider = found->provider;
    const struct lt_doc *payload = found->jwt->payload;
    if (provider->space_delimited_count == 0)
        return *payload;
    struct lt_doc copy = *payload;
    copy.members = lt_arena_make_n(request->arena, struct lt_doc_member, payload->count);
    for (uint32_t i = 0; i < payload->count; i++) {
        copy.members[i] = payload->members[i];
        for (size_t j = 0; j < provider->space_delimited_count; j++) {
            if (lt_str_eq(copy.members[i].key, provider->space_delimited[j]) &&
                lt_doc_is(&copy.members[i].value, LT_DOC_STRING))
                copy.members[i].value = split_words(request->arena, copy.members[i].value.string);
        }
    }
    return copy;
}

static void add_metadata(struct px_request *request, const struct px_jwt_found *found)
{
    const struct px_jwt_provider *provider = found->provider;
    if (provider->payload_key.len > 0)
        px_meta_put(request->arena, &request->meta, metadata_name, provider->payload_key,
                    normal_payload(request, found));
    if (provider->header_key.len > 0)
        px_meta_put(request->arena, &request->meta, metadata_name, provider->header_key,
                    *found->jwt->header);
}

static void add_failures(struct px_request *request, const struct px_jwt_judge *judge)
{
    for (size_t i = 0; i < judge->failed_count; i++) {
        const struct px_jwt_failed *failed = &judge->failed[i];
        if (failed->provider->failed_key.len == 0)
            continue;
        struct lt_doc doc = lt_doc_of_object();
        lt_str text = lt_str_of(px_jwt_status_text(failed->status));
        lt_doc_set(request->arena, &doc, LT_STR("code"),
                   lt_doc_of_int(px_jwt_status_code(failed->status)));
        lt_doc_set(request->arena, &doc, LT_STR("message"), lt_doc_of_str(text));
        px_meta_put(request->arena, &request->meta, metadata_name, failed->provider->failed_key,
                    doc);
    }
}

/* --- the token itself --- */

/* A cookie stays, as in Envoy. */
static void remove_token(struct px_request *request, const struct px_jwt_found *found)
{
    const struct px_jwt_location *location = found->location;
    if (found->provider->forwards_token)
        return;
    if (location->place == PX_JWT_IN_HEADER)
        lt_headers_remove_name(&request->head.headers, location->name);
    else if (location->place == PX_JWT_IN_PARAM)
        request->path = lt_url_query_remove(request->path, location->name, request->arena);
}

static lt_rc apply(struct px_request *request, const struct px_jwt_judge *judge)
{
    bool clears_route = false;
    for (size_t i = 0; i < judge->found_count; i++) {
        const struct px_jwt_found *found = &judge->found[i];
        bool has_added = found->provider->payload_key.len > 0 ||
                         found->provider->header_key.len > 0;
        LT_TRY(add_claims(request, found, &has_added));
        LT_TRY(add_payload(request, found, &has_added));
        add_metadata(request, found);
        clears_route |= has_added && found->provider->clears_route;
    }
    for (size_t i = 0; i < judge->found_count; i++)
        remove_token(request, &judge->found[i]);
    add_failures(request, judge);
    if (clears_route)
        px_request_find_route(request);
    return LT_OK;
}

/* --- the verdict --- */

static const char *details_of(struct px_request *request, lt_str text)
{
    lt_str details = lt_arena_printf(request->arena, "jwt_authn_access_denied{%.*s}",
                                     LT_STR_ARG(text));
    for (char *c = (char *)details.ptr; *c != '\0'; c++)
        *c = *c == ' ' ? '_' : *c;
    return details.ptr;
}

static px_verdict refuse(struct px_request *request, const struct px_jwt_conf *conf,
                         px_jwt_status status)
{
    lt_str text = lt_str_of(px_jwt_status_text(status));
    const char *details = details_of(request, text);
    uint32_t code = status == PX_JWT_AUDIENCE ? 403 : 401;
    px_stat_add(request->worker, &conf->denied, 1);
    if (conf->strips_failure) {
        px_request_reply(request, code, 0, details, LT_STR_NULL, NULL);
        return PX_STOP;
    }
    lt_str path = lt_str_slice(request->head.path, 0, REALM_PATH_MAX);
    lt_str value = lt_arena_printf(request->arena, "Bearer realm=\"%.*s://%.*s%.*s\"%s",
                                   LT_STR_ARG(request->scheme), LT_STR_ARG(request->authority),
                                   LT_STR_ARG(path),
                                   status == PX_JWT_MISSING ? "" : ", error=\"invalid_token\"");
    px_reply_header(request, LT_STR("www-authenticate"), value);
    px_request_reply(request, code, 0, details, text, "text/plain");
    return PX_STOP;
}

static px_verdict refuse_name(struct px_request *request, const struct px_jwt_conf *conf,
                              lt_str name)
{
    struct lt_buf list;
    lt_buf_init(&list, CLAIM_BYTES_MAX);
    for (size_t i = 0; i < conf->named_count; i++) {
        lt_rc rc = lt_buf_printf(&list, "%s%.*s", i > 0 ? "," : "",
                                 LT_STR_ARG(conf->named[i].name));
        (void)rc; /* what doesn't fit is not listed */
    }
    lt_str text = lt_arena_printf(request->arena,
                                  "Wrong requirement_name: %.*s. It should be one of [%.*s]",
                                  LT_STR_ARG(name), LT_STR_ARG(lt_buf_str(&list)));
    lt_buf_fini(&list);
    lt_str body = lt_arena_printf(request->arena, "Failed JWT authentication: %.*s",
                                  LT_STR_ARG(text));
    px_stat_add(request->worker, &conf->denied, 1);
    px_request_reply(request, 403, 0, details_of(request, text), body, "text/plain");
    return PX_STOP;
}

/* --- the step --- */

static const struct px_jwt_need *find_named(const struct px_jwt_conf *conf, lt_str name)
{
    for (size_t i = 0; i < conf->named_count; i++) {
        if (lt_str_eq(conf->named[i].name, name))
            return conf->named[i].need;
    }
    return NULL;
}

static const struct px_jwt_need *find_rule(struct px_request *request,
                                           const struct px_jwt_conf *conf)
{
    struct px_request_facts facts = px_request_match_facts(request);
    for (size_t i = 0; i < conf->rule_count; i++) {
        if (px_route_takes(conf->rules[i].match, &facts))
            return conf->rules[i].need;
    }
    return NULL;
}

static bool is_preflight(const struct px_request *request)
{
    const struct lt_headers *headers = &request->head.headers;
    return request->head.method_id == LT_METHOD_OPTIONS &&
           lt_headers_value(headers, LT_H_ORIGIN).len > 0 &&
           lt_headers_value(headers, LT_H_ACCESS_CONTROL_REQUEST_METHOD).len > 0;
}

static struct state *get_state(struct px_request *request, const struct px_http_filter *filter)
{
    struct state *state = px_filter_state(request, filter, sizeof(*state));
    if (state->request != NULL)
        return state;
    state->request = request;
    state->conf = filter->conf;
    state->wait.on_keys = on_keys;
    lt_list_init(&state->wait.link);
    return state;
}

/* What only this filter may say, a client must not. */
static void sanitise(struct px_request *request, const struct px_jwt_conf *conf)
{
    for (size_t i = 0; i < conf->own_header_count; i++)
        lt_headers_remove_name(&request->head.headers, conf->own_headers[i]);
}

static px_verdict judge_by(struct px_request *request, struct state *state,
                           const struct px_jwt_need *need)
{
    struct px_jwt_judge judge = {
        .arena = request->arena,
        .headers = &request->head.headers,
        .path = request->path,
        .now_s = lt_env_wall_ns(request->worker->env) / (int64_t)LT_NS_PER_S,
        .verify = verify,
        .ctx = state,
    };
    drop_kept(state);
    px_jwt_status status = px_jwt_judge(&judge, need);
    if (judge.waits)
        return PX_STAY;
    if (apply(request, &judge) != LT_OK) {
        px_request_reply(request, 431, 0, "http1.headers_too_large", LT_STR_NULL, NULL);
        return PX_STOP;
    }
    if (status != PX_JWT_OK)
        return refuse(request, state->conf, status);
    px_stat_add(request->worker, &state->conf->allowed, 1);
    return PX_GO;
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    const struct px_jwt_conf *conf = filter->conf;
    const struct px_jwt_route_conf *of_route = px_filter_route_conf(request, filter);
    struct state *state = get_state(request, filter);
    if (lt_list_is_linked(&state->wait.link))
        return PX_STAY; /* something else happened */
    if (!state->is_clean)
        sanitise(request, conf);
    state->is_clean = true;
    if (conf->bypasses_preflight && is_preflight(request)) {
        px_stat_add(request->worker, &conf->bypassed, 1);
        return PX_GO;
    }
    const struct px_jwt_need *need = NULL;
    if (of_route == NULL)
        need = find_rule(request, conf);
    else if (of_route->requirement.len > 0)
        need = find_named(conf, of_route->requirement);
    if (of_route != NULL && of_route->requirement.len > 0 && need == NULL)
        return refuse_name(request, conf, of_route->requirement);
    if (need == NULL) {
        px_stat_add(request->worker, &conf->allowed, 1);
        return PX_GO;
    }
    return judge_by(request, state, need);
}

static void on_end(struct px_request *request, const struct px_http_filter *filter)
{
    struct state *state = get_state(request, filter);
    lt_list_remove(&state->wait.link);
    drop_kept(state);
}

const struct px_filter_ops px_filter_jwt_authn = {
    .name = "envoy.filters.http.jwt_authn",
    .on_request = on_request,
    .on_end = on_end,
};
