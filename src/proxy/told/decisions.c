/*
 * proxy/told/decisions.c - the record of decisions.
 * Start at: px_decisions_note().
 */
#include "proxy/told/decisions.h"

#include <stdlib.h>

#include "http/url.h"
#include "proxy/conf/log_filter.h"
#include "proxy/http/request.h"
#include "proxy/run/run.h"
#include "wire/json.h"

enum { TEXT_MAX = 512 };

/* One of several tries; the latest first. In the request's arena. */
struct px_try_note {
    struct px_try_note *before;
    lt_str host;
    const char *why;
    uint32_t status;
    uint64_t at_ns, for_ns; /* since the request began; of the try */
};

struct px_decisions *px_decisions_new(struct lt_metric_set *metrics)
{
    struct px_decisions *decisions = lt_new(struct px_decisions);
    decisions->failed.size = PX_DECISIONS_FAILED;
    decisions->sampled.size = PX_DECISIONS_SAMPLED;
    lt_buf_init(&decisions->text, PX_DECISION_BYTES_MAX);
    decisions->metrics = metrics;
    return decisions;
}

static void free_ring(struct px_decision_ring *ring)
{
    for (size_t i = 0; ring->items != NULL && i < ring->size; i++)
        free(ring->items[i]);
    free(ring->items);
}

void px_decisions_free(struct px_decisions **pointer)
{
    struct px_decisions *decisions = *pointer;
    *pointer = NULL;
    if (decisions == NULL)
        return;
    free_ring(&decisions->failed);
    free_ring(&decisions->sampled);
    lt_buf_fini(&decisions->text);
    free(decisions);
}

/* --- tries --- */

void px_decisions_note_try(struct px_request *request, const char *why, uint32_t status)
{
    struct px_try_note *note = lt_arena_make(request->arena, struct px_try_note);
    char text[LT_ADDR_TEXT_MAX];
    uint64_t now_ns = px_now_ns(request->worker);
    uint64_t begun_ns = LT_MAX(request->up_start_ns, request->start_ns);
    note->before = request->tries;
    note->why = why;
    note->status = status;
    if (request->host != NULL)
        note->host = lt_arena_str(request->arena, lt_addr_format(&request->host->addr, text));
    note->at_ns = begun_ns - request->start_ns;
    note->for_ns = now_ns - begun_ns;
    request->tries = note;
}

/* --- one as JSON --- */

static void put(struct lt_json_writer *w, const char *key, lt_str value)
{
    if (value.len > 0)
        lt_json_kv_str(w, key, lt_str_slice(value, 0, TEXT_MAX));
}

static void put_ms(struct lt_json_writer *w, const char *key, uint64_t ns)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_double(w, (double)(ns / 1000) / 1000.0);
}

/* Secrets may be in a query. */
static void write_request(const struct px_log_facts *facts, struct lt_json_writer *w)
{
    const struct px_request *request = facts->rq;
    put(w, "request_id", lt_headers_value(facts->request, LT_H_X_REQUEST_ID));
    put(w, "trace_id", facts->trace_id);
    put(w, "method", facts->method);
    put(w, "authority", facts->authority);
    put(w, "path", lt_url_split(facts->path).path);
    put(w, "original_path", lt_url_split(facts->original_path).path);
    put(w, "protocol", facts->protocol);
    lt_json_kv_str(w, "direction",
                   request->hcm->is_inbound ? LT_STR("inbound") : LT_STR("outbound"));
    put(w, "listener", request->conn->listener->res.name);
    put(w, "filter_chain", request->conn->chain->name);
    lt_json_kv_object(w, "client");
    put(w, "address", facts->downstream_remote);
    put(w, "principal", facts->downstream_peer_uri);
    put(w, "server_name", facts->requested_server_name);
    put(w, "tls", facts->tls_version);
    lt_json_object_close(w);
}

/* What took it, with the Istio object that it was made of. */
static void write_route(const struct px_request *request, struct lt_json_writer *w)
{
    if (request->routes == NULL)
        return;
    lt_json_kv_object(w, "route");
    put(w, "configuration", request->routes->res.name);
    if (request->vhost != NULL)
        put(w, "virtual_host", request->vhost->name);
    if (request->route != NULL) {
        put(w, "name", request->route->name);
        put(w, "object", request->route->config_path);
    }
    lt_json_object_close(w);
}

static void write_try(const struct px_try_note *note, struct lt_json_writer *w)
{
    lt_json_object_open(w);
    put(w, "endpoint", note->host);
    lt_json_kv_str(w, "outcome", lt_str_of(note->why));
    if (note->status != 0)
        lt_json_kv_uint(w, "status", note->status);
    put_ms(w, "at_ms", note->at_ns);
    put_ms(w, "for_ms", note->for_ns);
    lt_json_object_close(w);
}

static void write_tries(const struct px_log_facts *facts, struct lt_json_writer *w)
{
    const struct px_request *request = facts->rq;
    const struct px_try_note *notes[PX_RQ_HOSTS_MAX];
    size_t count = 0;
    for (const struct px_try_note *note = request->tries; note != NULL && count < PX_RQ_HOSTS_MAX;
         note = note->before)
        notes[count++] = note;
    lt_json_kv_array(w, "attempts");
    for (size_t i = count; i > 0; i--)
        write_try(notes[i - 1], w);
    if (request->host != NULL) {
        uint64_t begun_ns = LT_MAX(request->up_start_ns, request->start_ns) - request->start_ns;
        struct px_try_note last = {.host = facts->upstream_host,
                                   .why = facts->details != NULL ? facts->details : "",
                                   .status = request->has_rhead ? request->rhead.status : 0,
                                   .at_ns = begun_ns,
                                   .for_ns = facts->duration_ns - begun_ns};
        write_try(&last, w);
    }
    lt_json_array_close(w);
}

static void write_cluster(const struct px_log_facts *facts, struct lt_json_writer *w)
{
    const struct px_cluster *cluster = facts->rq->cluster;
    if (cluster == NULL)
        return;
    lt_json_kv_object(w, "cluster");
    put(w, "name", facts->upstream_cluster);
    put(w, "service", lt_str_of(cluster->service_host));
    put(w, "object", cluster->conf->config_path);
    lt_json_object_close(w);
    write_tries(facts, w);
}

/* "rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]]": what is in the outer brackets. */
static lt_str policy_of(const char *details)
{
    static const lt_str mark = {"_policy[", 8};
    lt_str text = lt_str_of(details);
    ptrdiff_t at = lt_str_find(text, mark);
    if (at < 0 || text.ptr[text.len - 1] != ']')
        return LT_STR_NULL;
    return lt_str_slice(text, (size_t)at + mark.len, text.len - 1);
}

static void write_flags(uint32_t flags, struct lt_json_writer *w)
{
    static const struct {
        const char *name, *meaning;
    } words[] = {
#define LT_FLAG(id, text, name, help) {text, help},
#include "proxy/conf/flags.def"
#undef LT_FLAG
    };
    if (flags == 0)
        return;
    lt_json_kv_object(w, "flags");
    for (size_t i = 0; i < LT_ARRAY_LEN(words); i++) {
        if ((flags & 1u << i) != 0)
            lt_json_kv_str(w, words[i].name, lt_str_of(words[i].meaning));
    }
    lt_json_object_close(w);
}

/* Who made the answer. */
static lt_str answerer(const struct px_request *request)
{
    if (request->details != NULL && strcmp(request->details, "via_upstream") == 0)
        return LT_STR("upstream");
    if (request->answered_at > 0 && request->answered_at <= request->hcm->filter_count)
        return request->hcm->filters[request->answered_at - 1].name;
    return request->code == 0 ? LT_STR("nobody") : LT_STR("proxy");
}

static void write_answer(const struct px_log_facts *facts, struct lt_json_writer *w)
{
    bool is_known;
    uint32_t status = px_log_grpc_status(facts, &is_known);
    lt_json_kv_uint(w, "code", facts->code);
    if (facts->rq->is_grpc && is_known)
        lt_json_kv_uint(w, "grpc_status", status);
    write_flags(facts->flags, w);
    put(w, "details", lt_str_of(facts->details));
    put(w, "transport_failure", lt_str_of(facts->transport_failure));
    put(w, "answered_by", answerer(facts->rq));
    put(w, "policy", policy_of(facts->details));
}

static void write_times(const struct px_log_facts *facts, struct lt_json_writer *w)
{
    const struct px_request *request = facts->rq;
    lt_json_kv_object(w, "timings_ms");
    if (facts->request_ns != 0)
        put_ms(w, "request_read", facts->request_ns);
    if (request->up_start_ns > request->start_ns)
        put_ms(w, "upstream_begin", request->up_start_ns - request->start_ns);
    if (facts->response_ns != 0)
        put_ms(w, "response_begin", facts->response_ns);
    put_ms(w, "total", facts->duration_ns);
    lt_json_object_close(w);
}

static void write(const struct px_log_facts *facts, bool is_failed, struct lt_json_writer *w)
{
    char time[32];
    lt_time_format(facts->start_wall_ns, time);
    lt_json_object_open(w);
    lt_json_kv_str(w, "time", lt_str_of(time));
    lt_json_kv_str(w, "kind", is_failed ? LT_STR("failed") : LT_STR("sample"));
    write_request(facts, w);
    write_route(facts->rq, w);
    write_cluster(facts, w);
    write_answer(facts, w);
    write_times(facts, w);
    lt_json_object_close(w);
}

/* --- keeping --- */

static bool is_failed(const struct px_request *request)
{
    bool is_own = request->details == NULL || strcmp(request->details, "via_upstream") != 0;
    return request->flags != 0 || request->code == 0 || request->code >= 500 ||
           (request->code >= 400 && is_own) || request->tries != NULL;
}

static void keep(struct px_decision_ring *ring, const struct px_log_facts *facts, bool has_failed,
                 lt_str json)
{
    if (ring->items == NULL)
        ring->items = lt_calloc(ring->size, sizeof(*ring->items));
    struct px_decision *decision = lt_malloc(sizeof(*decision) + json.len);
    *decision = (struct px_decision){facts->start_wall_ns, has_failed, json.len};
    memcpy(decision->json, json.ptr, json.len);
    free(ring->items[ring->at]);
    ring->items[ring->at] = decision;
    ring->at = (ring->at + 1) % ring->size;
}

static void count_missed(struct px_decisions *decisions)
{
    static const struct lt_metric_desc missed = {
        .name = {"lateen_decisions_not_recorded_total", 35},
        .kind = LT_METRIC_COUNTER,
        .stat = {"lateen.decisions.not_recorded", 29}};
    if (decisions->missed == NULL)
        decisions->missed = lt_metric_counter(lt_metric_family(decisions->metrics, &missed), NULL);
    lt_counter_add(decisions->missed, 1);
}

/* A flood of failures costs no more than this. */
static bool has_turn(struct px_decisions *decisions, struct px_request *request)
{
    int64_t second = (int64_t)(px_now_ns(request->worker) / LT_NS_PER_S);
    if (second != decisions->second) {
        decisions->second = second;
        decisions->in_second = 0;
    }
    if (decisions->in_second++ < PX_DECISIONS_PER_S)
        return true;
    count_missed(decisions);
    return false;
}

void px_decisions_note(struct px_decisions *decisions, struct px_request *request)
{
    bool has_failed = is_failed(request);
    if (!has_failed && request->code >= 400 && decisions->good++ % PX_DECISION_SAMPLE != 0)
        return; /* the application's own business */
    if (request->conn->state == PX_CONN_INSIDE)
        return; /* our own */
    if (!has_turn(decisions, request))
        return;
    char text[PX_FACTS_TEXTS][LT_ADDR_TEXT_MAX];
    struct px_log_facts facts;
    struct lt_json_writer w;
    px_request_log_facts(request, &facts, text);
    lt_buf_clear(&decisions->text, PX_DECISION_BYTES_MAX);
    lt_json_writer_init(&w, &decisions->text, 0);
    write(&facts, has_failed, &w);
    if (lt_json_writer_finish(&w) == LT_OK)
        keep(has_failed ? &decisions->failed : &decisions->sampled, &facts, has_failed,
             lt_buf_str(&decisions->text));
    else
        count_missed(decisions); /* its names are too long */
}

static void copy_ring(const struct px_decision_ring *ring, struct lt_vec *to)
{
    for (size_t i = 0; ring->items != NULL && i < ring->size; i++) {
        const struct px_decision *from = ring->items[i];
        if (from == NULL)
            continue;
        struct px_decision *copy = lt_malloc(sizeof(*copy) + from->len);
        memcpy(copy, from, sizeof(*copy) + from->len);
        lt_vec_push(to, copy);
    }
}

void px_decisions_copy(const struct px_decisions *decisions, struct lt_vec *to)
{
    copy_ring(&decisions->failed, to);
    copy_ring(&decisions->sampled, to);
}
