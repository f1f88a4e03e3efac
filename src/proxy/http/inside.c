/*
 * proxy/http/inside.c - the client's side of requests that have no client.
 * Start at: px_fetch_start(), px_request_start_mirrors().
 */
#include "proxy/http/inside.h"
#include "proxy/conf/mutations.h"

#include <stdlib.h>

#include "proxy/http/request.h"

enum {
    MIRROR_QUEUE_MAX = 1024 * 1024, /* of body that its host has not taken yet */
    FETCH_BODY_MAX = 16 * 1024 * 1024,
};

/*
 * What a request of ours lives in: a route of its own, and who waits for its end. It goes when the
 * request has ended and nobody holds it.
 */
struct px_fetch {
    struct lt_list link;        /* in worker->inside */
    struct px_request *request; /* owned; NULL once it has ended */
    struct px_route route;
    struct lt_arena *arena; /* owned: the route's strings */
    struct lt_buf body;     /* of the response */
    px_fetch_fn *on_done;   /* NULL: nobody waits, the response is thrown away */
    void *ctx;
    bool is_held; /* a mirror's client still sends */
    bool is_over; /* the response is larger than allowed */
};

struct px_mirror {
    struct px_fetch fetch;
};

/* --- what stands for a connection and its configuration --- */

static const struct px_hcm_conf no_manager = {
    .server_name = {"envoy", 5},
    .max_request_headers_kb = 8192,
    .body_limit = 1024 * 1024,
};
static const struct px_chain no_chain = {.hcm = &no_manager};
static const struct px_routes_conf no_routes;
static const struct px_vhost no_vhost;

static struct px_conn *inside_conn(struct px_worker *worker)
{
    if (worker->inside_conn != NULL)
        return worker->inside_conn;
    struct px_conn *conn = lt_new(struct px_conn);
    conn->worker = worker;
    conn->chain = &no_chain;
    conn->state = PX_CONN_INSIDE;
    conn->principal = conn->requested_server_name = "";
    lt_list_init(&conn->streams);
    lt_transport_init_raw(&conn->transport, -1);
    worker->inside_conn = conn;
    return conn;
}

/* --- the client's side --- */

static struct px_fetch *fetch_of(const struct px_request *request)
{
    return LT_CONTAINER_OF(request->route, struct px_fetch, route);
}

static void free_if_unused(struct px_fetch *fetch)
{
    if (fetch->request != NULL || fetch->is_held)
        return;
    lt_list_remove(&fetch->link);
    lt_arena_free(&fetch->arena);
    lt_buf_fini(&fetch->body);
    free(fetch);
}

static lt_rc next(struct px_request *request)
{
    return px_dir_take(&request->req);
}

static void took(struct px_request *request)
{
    lt_rope_consume(&request->req.rx, request->req.piece_used);
    request->req.piece_used = 0;
}

static lt_rc take_head(struct px_request *request LT_UNUSED)
{
    return LT_OK;
}

static lt_rc skip_interim(struct px_request *request LT_UNUSED,
                          const struct lt_http_head *head LT_UNUSED)
{
    return LT_OK;
}

static lt_rc take_body(struct px_request *request)
{
    struct px_fetch *fetch = fetch_of(request);
    struct px_dir *resp = &request->resp;
    if (fetch->on_done != NULL && lt_buf_append_str(&fetch->body, resp->piece) != LT_OK) {
        fetch->is_over = true;
        return LT_E_CLOSED;
    }
    resp->piece = LT_STR_NULL;
    return LT_OK;
}

static void touch(struct px_request *request LT_UNUSED, uint64_t idle_ms LT_UNUSED)
{
}

/* Whoever waits is told, once. */
static void tell(struct px_fetch *fetch, const struct px_request *request)
{
    bool is_whole = request->state == PX_RQ_DONE && request->up_codec != NULL;
    struct px_fetch_result result = {.failure = request->details != NULL ? request->details : ""};
    if (fetch->is_over)
        result.failure = "response_too_large";
    if (is_whole)
        result = (struct px_fetch_result){.status = request->code,
                                          .headers = &request->rhead.headers,
                                          .trailers = request->resp.trailers,
                                          .body = lt_buf_str(&fetch->body)};
    px_fetch_fn *on_done = fetch->on_done;
    fetch->on_done = NULL;
    if (on_done != NULL)
        on_done(fetch->ctx, &result);
}

static void abort_inside(struct px_request *request)
{
    struct px_fetch *fetch = fetch_of(request);
    px_request_bury(request);
    tell(fetch, request);
    request->route = NULL;
    fetch->request = NULL;
    free_if_unused(fetch);
}

static void finish(struct px_request *request)
{
    struct px_fetch *fetch = fetch_of(request);
    px_request_report(request); /* of the cluster's counters */
    tell(fetch, request);
    px_request_leave_upstream(request, request->up_is_reusable);
    px_request_free(request);
    fetch->request = NULL;
    free_if_unused(fetch);
}

static void run(struct px_request *request)
{
    if (request->state == PX_RQ_FILTER) {
        px_request_set_state(request, PX_RQ_WAIT);
        px_router_start(request);
    }
    if (request->state == PX_RQ_FLOW || request->state == PX_RQ_REPLY)
        px_request_flow(request);
    if (request->state == PX_RQ_DONE)
        finish(request);
}

const struct px_down px_down_inside = {
    .protocol = PX_PROTO_H2, /* nothing is framed here, and many go on at once */
    .next = next,
    .took = took,
    .head = take_head,
    .interim = skip_interim,
    .send = take_body,
    .touch = touch,
    .abort = abort_inside,
    .run = run,
};

/* --- starting --- */

static void init_fetch(struct px_fetch *fetch, struct px_worker *worker, lt_str cluster,
                       uint64_t timeout_ms)
{
    fetch->arena = lt_arena_new(512, 0);
    fetch->route = (struct px_route){
        .body_limit = UINT64_MAX,
        .action = PX_ACTION_CLUSTER,
        .cluster = lt_arena_str(fetch->arena, cluster),
        .cluster_not_found_code = 503,
        .timeout_ms = timeout_ms,
    };
    lt_list_push_back(&worker->inside, &fetch->link);
}

static struct px_request *make_request(struct px_worker *worker, struct px_fetch *fetch)
{
    struct px_request *request = px_request_new(inside_conn(worker), &px_down_inside);
    request->routes = &no_routes;
    request->vhost = &no_vhost;
    request->route = &fetch->route;
    request->random = lt_prng_next(&worker->prng);
    request->replay_is_whole = true;
    fetch->request = request;
    lt_http_head_init(&request->head, request->arena, 0, no_manager.max_request_headers_kb * 1024);
    px_request_set_state(request, PX_RQ_FILTER);
    px_request_ready(request);
    return request;
}

static void set_line(struct px_request *request, lt_str method, lt_str scheme, lt_str authority,
                     lt_str path)
{
    struct lt_http_head *head = &request->head;
    head->is_h2 = true;
    head->minor = 1;
    head->keep_alive = true;
    head->method = request->method = lt_arena_str(request->arena, method);
    head->method_id = lt_http_method_of(method);
    head->scheme = request->scheme = lt_arena_str(request->arena, scheme);
    head->authority = request->authority = lt_arena_str(request->arena, authority);
    head->path = request->path = lt_arena_str(request->arena, path);
}

static void set_body(struct px_request *request, lt_str body, bool says_length)
{
    lt_rope_init(&request->req.rx, body.len + 1);
    request->req.rx_ended = true;
    request->req.is_read = body.len == 0;
    request->head.body = body.len == 0 ? LT_BODY_NONE : LT_BODY_LENGTH;
    request->head.content_length = body.len;
    request->head.has_content_length = body.len > 0 || says_length;
    if (body.len > 0) {
        lt_rc rc = lt_rope_add(&request->req.rx, body);
        LT_ASSERT(rc == LT_OK);
    }
}

void px_fetch_start(struct px_worker *worker, const struct px_fetch_opts *opts,
                    struct px_fetch **ret_fetch)
{
    struct px_fetch *fetch = lt_new(struct px_fetch);
    init_fetch(fetch, worker, opts->cluster, opts->timeout_ms);
    if (opts->retry != NULL) {
        struct px_retry *retry = lt_arena_make(fetch->arena, struct px_retry);
        *retry = *opts->retry;
        fetch->route.retry = retry;
    }
    fetch->on_done = opts->on_done;
    fetch->ctx = opts->ctx;
    lt_buf_init(&fetch->body, LT_MIN(opts->body_bytes_max, (size_t)FETCH_BODY_MAX));
    struct px_request *request = make_request(worker, fetch);
    set_line(request, opts->method, opts->scheme, opts->authority, opts->path);
    set_body(request, opts->body, opts->says_length);
    for (size_t i = 0; i < opts->header_count; i++) {
        lt_rc rc = lt_headers_add(&request->head.headers, opts->headers[i].name,
                                  opts->headers[i].value);
        LT_ASSERT(rc == LT_OK); /* a handful, of our own */
    }
    lt_headers_own(&request->head.headers);
    *ret_fetch = fetch;
}

void px_fetch_cancel(struct px_fetch **pointer)
{
    struct px_fetch *fetch = *pointer;
    *pointer = NULL;
    if (fetch == NULL)
        return;
    fetch->on_done = NULL;
    px_down_inside.abort(fetch->request);
}

/* --- mirrors --- */

/* "host:port" becomes "host-shadow:port". */
static lt_str shadow_authority(struct px_request *copy, lt_str authority)
{
    ptrdiff_t colon = lt_str_rfind_char(authority, ':'),
              bracket = lt_str_rfind_char(authority, ']');
    size_t at = colon > bracket ? (size_t)colon : authority.len;
    lt_str host = lt_str_slice(authority, 0, at), port = lt_str_from(authority, at);
    return lt_arena_printf(copy->arena, "%.*s-shadow%.*s", LT_STR_ARG(host), LT_STR_ARG(port));
}

/*
 * RouteAction.request_mirror_policies: lives on its own, and its response is thrown away. A copy
 * that can't keep up (its queue is full) is given up: the request itself waits for nobody.
 */
static struct px_mirror *start_mirror(struct px_request *request, const struct px_mirror_conf *conf)
{
    struct px_mirror *mirror = lt_new(struct px_mirror);
    struct px_fetch *fetch = &mirror->fetch;
    lt_str cluster = conf->header.len > 0
                         ? lt_headers_value_of(&request->head.headers, conf->header)
                         : conf->cluster;
    init_fetch(fetch, request->worker, cluster, request->route->timeout_ms);
    lt_buf_init(&fetch->body, 1);
    fetch->is_held = true;
    struct px_request *copy = make_request(request->worker, fetch);
    set_line(copy, request->method, request->scheme, request->authority, request->path);
    if (conf->host_rewrite.len > 0)
        copy->head.authority = copy->authority = lt_arena_str(copy->arena, conf->host_rewrite);
    else if (!conf->keeps_host)
        copy->head.authority = copy->authority = shadow_authority(copy, request->authority);
    copy->client_protocol = request->client_protocol;
    copy->is_grpc = request->is_grpc;
    copy->head.body = request->head.body;
    copy->head.content_length = request->head.content_length;
    copy->head.has_content_length = request->head.has_content_length;
    copy->req.is_read = request->head.body == LT_BODY_NONE;
    lt_rope_init(&copy->req.rx, MIRROR_QUEUE_MAX);
    lt_rc rc = lt_headers_add_all(&copy->head.headers, &request->head.headers);
    if (rc == LT_OK && conf->mutations != NULL)
        rc = px_mutate_head(request, &copy->head.headers, conf->mutations);
    if (rc == LT_OK)
        lt_headers_own(&copy->head.headers);
    else
        px_down_inside.abort(copy);
    return mirror;
}

static struct px_request *let_go(struct px_mirror **pointer)
{
    struct px_fetch *fetch = &(*pointer)->fetch;
    struct px_request *copy = fetch->request;
    *pointer = NULL;
    fetch->is_held = false;
    free_if_unused(fetch);
    return copy;
}

static void add_to_mirror(struct px_mirror **mirror, lt_str piece, bool is_end)
{
    struct px_request *copy = (*mirror)->fetch.request;
    if (copy != NULL && piece.len > 0 && lt_rope_add(&copy->req.rx, piece) != LT_OK)
        px_down_inside.abort(copy);
    else if (copy != NULL)
        px_request_ready(copy);
    copy = is_end ? let_go(mirror) : NULL;
    if (copy != NULL)
        copy->req.rx_ended = true;
}

void px_request_add_to_mirrors(struct px_request *request, lt_str piece, bool is_end)
{
    for (size_t i = 0; i < request->mirror_count; i++) {
        if (request->mirrors[i] != NULL)
            add_to_mirror(&request->mirrors[i], piece, is_end);
    }
}

void px_request_start_mirrors(struct px_request *request)
{
    const struct px_mirrors *wanted = px_request_mirrors(request);
    request->mirrors = lt_arena_make_n(request->arena, struct px_mirror *, wanted->count);
    for (size_t i = 0; i < wanted->count; i++) {
        const struct px_mirror_conf *conf = &wanted->items[i];
        bool has_cluster = conf->header.len == 0 ||
                           lt_headers_find_name(&request->head.headers, conf->header) != NULL;
        if (has_cluster && lt_prng_below(&request->worker->prng, 1000000) < conf->fraction_ppm)
            request->mirrors[request->mirror_count++] = start_mirror(request, conf);
    }
    px_request_add_to_mirrors(request, lt_buf_str(&request->replay), px_request_is_read(request));
}

void px_request_abort_mirrors(struct px_request *request)
{
    for (size_t i = 0; i < request->mirror_count; i++) {
        struct px_request *copy = request->mirrors[i] != NULL ? let_go(&request->mirrors[i]) : NULL;
        if (copy != NULL)
            px_down_inside.abort(copy);
    }
}

/* --- the end of a worker --- */

void px_inside_free(struct px_worker *worker)
{
    while (!lt_list_is_empty(&worker->inside)) {
        struct px_fetch *fetch = lt_list_first(&worker->inside, struct px_fetch, link);
        LT_ASSERT(!fetch->is_held); /* clients went before */
        fetch->on_done = NULL;
        px_down_inside.abort(fetch->request);
    }
    free(worker->inside_conn);
    worker->inside_conn = NULL;
}
