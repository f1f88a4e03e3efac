/*
 * proxy/upstream.c - connections to upstream hosts: making them, keeping idle ones, ending them.
 * One of HTTP/1 belongs to one request at a time and waits in host->idle in between; one of HTTP/2
 * is shared (host->shared) and ends when nobody uses it and it may not be used any more. What goes
 * over them: up_h1.c, up_h2.c, tcp.c.
 * Whoever is told that a connection has failed has lost it already: it is freed first.
 * Start at: px_upstream_connect(), px_upstream_reuse().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/h2_link.h"
#include "proxy/request.h"

#define ASK_AFTER_NS (500 * LT_NS_PER_MS)

static void on_ready(struct lt_io *io, uint32_t events);
static void on_timer(struct lt_timer *timer, uint64_t now_ns);

/* --- life --- */

static void set_failure(struct px_upstream *up, const char *kind, const char *reason)
{
    size_t room = strlen(kind) + strlen(reason) + 1;
    free(up->failure);
    up->failure = lt_malloc(room);
    snprintf(up->failure, room, "%s%s", kind, reason);
}

static void free_upstream(struct px_upstream *up)
{
    struct px_worker *worker = up->worker;
    struct px_cluster *cluster = up->host->cluster;
    LT_ASSERT(lt_list_is_empty(&up->requests));
    up->state = PX_UP_CLOSED;
    lt_list_remove(&up->link);
    lt_loop_timer_cancel(worker->loop, &up->timer);
    lt_loop_io_del(worker->loop, &up->io);
    px_h2_link_free(&up->h2);
    lt_transport_fini(&up->transport);
    px_input_free(worker, &up->in);
    px_pin_drop(&up->pin);
    px_host_uncount_connection(up->host, up);
    px_cluster_count(cluster, PX_STAT_CX_DESTROY);
    px_host_drop(&up->host);
    free(up->failure);
    up->failure = NULL;
    px_bury(worker, up);
    px_cluster_wake(cluster);
}

static bool start_transport(struct px_upstream *up, int fd, const struct px_connect *how)
{
    const struct px_tls_conf *tls = up->host->tls;
    if (tls == NULL) {
        lt_transport_init_raw(&up->transport, fd);
        return true;
    }
    struct lt_tls_ctx *ctx = up->pin->snapshot->tls_ctxs[tls->ctx_slot];
    if (ctx == NULL) {
        lt_transport_init_raw(&up->transport, fd); /* only to close it */
        return false;
    }
    struct lt_tls_conn_opts opts = {
        .sni = tls->sni,
        .alpn = how->alpn_count > 0 ? how->alpn : tls->alpn,
        .alpn_count = how->alpn_count > 0 ? how->alpn_count : tls->alpn_count,
        .sans = tls->sans,
        .san_count = tls->san_count,
    };
    lt_transport_init_tls(&up->transport, fd, ctx, &opts);
    return true;
}

static bool is_shared(const struct px_upstream *up)
{
    return up->protocol == PX_PROTO_H2 || up->asks_alpn;
}

static struct px_upstream *make_upstream(struct px_host *host, const struct px_connect *how, int fd)
{
    struct px_upstream *up = lt_new(struct px_upstream);
    up->worker = host->cluster->worker;
    up->host = px_host_take(host);
    up->pin = px_pin_take(up->worker->pin);
    up->protocol = how->protocol;
    up->asks_alpn = how->asks_alpn;
    up->opened_ns = px_now_ns(up->worker);
    up->epoch = host->epoch;
    up->priority = how->priority;
    lt_list_init(&up->link);
    lt_list_init(&up->requests);
    lt_timer_init(&up->timer, on_timer);
    lt_io_init(&up->io, on_ready);
    up->io.fd = fd;
    px_host_count_connection(host, up);
    return up;
}

struct px_upstream *px_upstream_connect(struct px_host *host, const struct px_connect *how,
                                        struct px_failed *ret_failed)
{
    struct px_cluster *cluster = host->cluster;
    struct px_worker *worker = cluster->worker;
    const struct px_socket_conf *opts = cluster->conf->socket;
    const struct lt_addr *source = opts != NULL && opts->source.len > 0 ? &opts->source : NULL;
    int fd = -1;
    px_cluster_count(cluster, PX_STAT_CX_TOTAL);
    host->cx_total++;
    if (cluster->state != NULL && px_shared_get(&cluster->state->has_traffic) == 0)
        px_shared_set(&cluster->state->has_traffic, 1);
    if (lt_sock_connect(&host->addr, source, &fd) != LT_OK) {
        px_cluster_count(cluster, PX_STAT_CX_CONNECT_FAIL);
        host->cx_connect_fail++;
        *ret_failed = (struct px_failed){.how = PX_FAILED_LOCAL, .reason = ""};
        return NULL;
    }
    if (opts != NULL && opts->has_keepalive)
        lt_sock_set_keepalive(fd, opts->keepalive_idle_s, opts->keepalive_interval_s,
                              opts->keepalive_probes);
    struct px_upstream *up = make_upstream(host, how, fd);
    if (!start_transport(up, fd, how)) {
        *ret_failed = (struct px_failed){.how = PX_FAILED_REMOTE,
                                         .reason = "TLS error: Secret is not supplied by SDS"};
        free_upstream(up);
        return NULL;
    }
    up->tcp = how->tcp;
    if (is_shared(up)) {
        lt_list_push_back(&host->shared, &up->link);
        lt_list_push_back(&up->requests, &how->request->up_link);
    } else {
        up->request = how->request;
        if (up->tcp != NULL)
            lt_list_push_back(&host->raw, &up->link);
    }
    lt_loop_io_set(worker->loop, &up->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    lt_loop_timer_set(worker->loop, &up->timer, cluster->conf->connect_timeout_ms * LT_NS_PER_MS);
    return up;
}

/* --- those that share one --- */

static struct px_request *pop_request(struct lt_list *list)
{
    struct px_request *request = lt_list_first(list, struct px_request, up_link);
    lt_list_remove(&request->up_link);
    return request;
}

/* They are none of this connection's any more, but still in a list: one may end another. */
static void take_all(struct px_upstream *up, struct lt_list *ret_all)
{
    lt_list_init(ret_all);
    while (!lt_list_is_empty(&up->requests)) {
        struct px_request *request = pop_request(&up->requests);
        request->up = NULL;
        lt_list_push_back(ret_all, &request->up_link);
    }
}

/* Says goodbye when what waits to be sent is sent. */
static void end_shared(struct px_upstream *up)
{
    up->takes_no_more = true;
    if (!lt_list_is_empty(&up->requests) || up->state != PX_UP_OPEN)
        return;
    lt_h2_conn_goaway(up->h2->conn, LT_H2_NO_ERROR, LT_STR_NULL);
    up->h2->is_over = true;
    px_h2_link_touch(up->h2);
}

static bool may_be_kept(const struct px_upstream *up)
{
    const struct px_cluster_conf *conf = up->host->cluster->conf;
    if (!up->host->is_listed || up->host->cluster->is_gone || up->worker->is_draining)
        return false;
    if (up->epoch !=
        up->host->epoch) /* whom it may speak to, or what is known of it, has changed */
        return false;
    if (conf->max_requests_per_connection != 0 && up->served >= conf->max_requests_per_connection)
        return false;
    return conf->max_connection_duration_ms == 0 ||
           px_now_ns(up->worker) - up->opened_ns < conf->max_connection_duration_ms * LT_NS_PER_MS;
}

static void start_idling(struct px_upstream *up)
{
    uint64_t idle_ms = up->host->cluster->conf->idle_timeout_ms;
    up->idle_ns = px_now_ns(up->worker);
    if (idle_ms != 0 && !lt_timer_is_set(&up->timer))
        lt_loop_timer_set(up->worker->loop, &up->timer, idle_ms * LT_NS_PER_MS);
}

void px_upstream_unshare(struct px_request *request)
{
    struct px_upstream *up = request->up;
    request->up = NULL;
    lt_list_remove(&request->up_link);
    if (up == NULL)
        return;
    px_cluster_wake(up->host->cluster); /* a stream came free */
    if (!lt_list_is_empty(&up->requests))
        return;
    if (up->takes_no_more || !may_be_kept(up))
        end_shared(up);
    else if (up->state == PX_UP_OPEN)
        start_idling(up);
}

void px_upstream_break(struct px_upstream *up)
{
    struct lt_list lost;
    px_h2_link_free(&up->h2); /* its streams are told, and note how they ended */
    take_all(up, &lost);
    while (!lt_list_is_empty(&lost))
        px_request_ready(pop_request(&lost));
    free_upstream(up);
}

/* --- events --- */

static void fail(struct px_upstream *up)
{
    struct px_cluster *cluster = up->host->cluster;
    struct px_request *request = up->request;
    struct px_tcp *tcp = up->tcp;
    struct px_failed failed = {.how = up->timed_out ? PX_FAILED_TIMEOUT : PX_FAILED_REMOTE};
    char *reason = up->failure; /* it outlives the connection, for who is told */
    up->failure = NULL;
    failed.reason = reason != NULL ? reason : "";
    if (up->state != PX_UP_OPEN) {
        px_cluster_count(cluster,
                         up->timed_out ? PX_STAT_CX_CONNECT_TIMEOUT : PX_STAT_CX_CONNECT_FAIL);
        up->host->cx_connect_fail++;
    }
    struct lt_list lost;
    take_all(up, &lost);
    if (request != NULL)
        request->up = NULL;
    px_cluster_take(cluster);
    free_upstream(up);
    if (tcp != NULL)
        px_tcp_on_upstream_failed(tcp, &failed);
    else if (request != NULL)
        px_request_connect_failed(request, &failed);
    while (!lt_list_is_empty(&lost))
        px_request_connect_failed(pop_request(&lost), &failed);
    px_cluster_drop(&cluster);
    free(reason);
}

/* The first of those that wait has it now; the others look for another. */
static void open_alone(struct px_upstream *up)
{
    struct lt_list waiting;
    lt_list_remove(&up->link);
    take_all(up, &waiting);
    struct px_request *first = lt_list_is_empty(&waiting) ? NULL : pop_request(&waiting);
    if (first == NULL) { /* nobody waits any more */
        px_upstream_release(&up, true);
        return;
    }
    up->request = first;
    first->up = up;
    px_request_attach(first);
    while (!lt_list_is_empty(&waiting))
        px_request_look_again(pop_request(&waiting));
}

static void open_shared(struct px_upstream *up)
{
    struct lt_list waiting;
    take_all(up, &waiting);
    px_up_h2_open(up);
    start_idling(up);
    while (!lt_list_is_empty(&waiting)) {
        struct px_request *request = pop_request(&waiting);
        if (px_up_h2_has_room(up)) {
            lt_list_push_back(&up->requests, &request->up_link);
            request->up = up;
            px_request_attach(request);
        } else {
            px_request_look_again(request);
        }
    }
    if (up->takes_no_more)
        end_shared(up);
}

static void opened(struct px_upstream *up)
{
    up->state = PX_UP_OPEN;
    up->can_write = true;
    lt_loop_timer_cancel(up->worker->loop, &up->timer);
    px_pin_drop(&up->pin);
    if (up->asks_alpn) {
        bool is_h2 = lt_str_eqz(lt_tls_alpn(&up->transport), "h2");
        up->protocol = is_h2 ? PX_PROTO_H2 : PX_PROTO_H1;
    }
    if (up->tcp != NULL)
        px_tcp_on_upstream(up->tcp);
    else if (up->protocol == PX_PROTO_H2)
        open_shared(up);
    else if (up->asks_alpn)
        open_alone(up);
    else
        px_request_attach(up->request);
}

static void handshake(struct px_upstream *up)
{
    lt_rc rc = lt_transport_handshake(&up->transport);
    if (rc == LT_OK) {
        up->can_read = true;
        opened(up);
    } else if (rc != LT_AGAIN) {
        set_failure(up, "TLS error: ", lt_tls_error(&up->transport));
        fail(up);
    }
}

static void connected(struct px_upstream *up)
{
    int error = lt_sock_error(up->io.fd);
    if (error != 0) {
        char text[64];
        set_failure(up, "delayed connect error: ", strerror_r(error, text, sizeof(text)));
        fail(up);
        return;
    }
    up->state = PX_UP_HANDSHAKE;
    handshake(up);
}

static bool is_idle(const struct px_upstream *up)
{
    return up->request == NULL && up->tcp == NULL && lt_list_is_empty(&up->requests);
}

/*
 * Anything but silence on an idle connection of HTTP/1 ends it: the host closed it, or speaks
 * without being asked.
 */
static void on_open_ready(struct px_upstream *up, uint32_t events)
{
    if (up->h2 != NULL)
        px_h2_link_read(up->h2);
    else if (up->request != NULL)
        px_request_run(up->request);
    else if (up->tcp != NULL)
        px_tcp_on_upstream(up->tcp);
    else if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        free_upstream(up);
}

static void on_ready(struct lt_io *io, uint32_t events)
{
    struct px_upstream *up = LT_CONTAINER_OF(io, struct px_upstream, io);
    up->can_read |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    up->in.end_is_near |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    up->can_write |= (events & EPOLLOUT) != 0;
    if (up->transport.tls != NULL)
        up->can_read = up->can_write =
            true; /* either direction may have been waiting for the other */
    switch (up->state) {
    case PX_UP_CONNECTING:
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            connected(up);
        break;
    case PX_UP_HANDSHAKE: handshake(up); break;
    case PX_UP_OPEN: on_open_ready(up, events); break;
    case PX_UP_CLOSED: break;
    }
}

/*
 * The timer of an idle connection is not moved at each use; it looks at the clock when it fires,
 * and is set again.
 */
static void on_idle_timer(struct px_upstream *up, uint64_t now_ns)
{
    uint64_t limit_ns = up->host->cluster->conf->idle_timeout_ms * LT_NS_PER_MS;
    if (!is_idle(up))
        return;
    if (now_ns - up->idle_ns < limit_ns)
        lt_loop_timer_set(up->worker->loop, &up->timer, limit_ns - (now_ns - up->idle_ns));
    else if (up->h2 != NULL)
        end_shared(up);
    else
        free_upstream(up);
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_upstream *up = LT_CONTAINER_OF(timer, struct px_upstream, timer);
    if (up->state == PX_UP_OPEN) {
        on_idle_timer(up, now_ns);
        return;
    }
    up->timed_out = true;
    set_failure(up, "", "connection timeout");
    fail(up);
}

/* --- the pool --- */

/*
 * A host that closes an idle connection just now would take the request with it. Epoll tells of
 * that once a turn; one that was idle for long, when servers' timeouts strike, is asked again.
 * Nothing may be readable: 0 is an end, bytes are nobody's answer.
 */
static bool still_stands(const struct px_upstream *up)
{
    char byte;
    if (px_now_ns(up->worker) - up->idle_ns < ASK_AFTER_NS)
        return true;
    return recv(up->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EINTR);
}

static struct px_upstream *reuse_idle(struct px_host *host, struct px_request *request)
{
    while (!lt_list_is_empty(&host->idle)) {
        struct px_upstream *up = lt_list_first(&host->idle, struct px_upstream, link);
        if (!still_stands(up)) {
            free_upstream(up);
            continue;
        }
        lt_list_remove(&up->link);
        up->request = request;
        up->is_reused = true;
        return up;
    }
    return NULL;
}

static struct px_upstream *find_shared(const struct px_host *host, px_protocol protocol,
                                       bool asks_alpn)
{
    struct px_upstream *connecting = NULL;
    struct lt_list *it, *following;
    lt_list_each (&host->shared, it, following) {
        struct px_upstream *up = LT_CONTAINER_OF(it, struct px_upstream, link);
        if (up->state == PX_UP_OPEN ? px_up_h2_has_room(up) && may_be_kept(up) : false)
            return up;
        if (up->state != PX_UP_OPEN && up->asks_alpn == asks_alpn &&
            (asks_alpn || up->protocol == protocol))
            connecting = up;
    }
    return connecting;
}

struct px_upstream *px_upstream_reuse(struct px_host *host, const struct px_connect *how,
                                      bool *ret_stands)
{
    struct px_upstream *up = NULL;
    *ret_stands = true;
    if (how->asks_alpn || how->protocol == PX_PROTO_H1)
        up = reuse_idle(host, how->request);
    if (up != NULL || (how->protocol == PX_PROTO_H1 && !how->asks_alpn))
        return up;
    up = find_shared(host, how->protocol, how->asks_alpn);
    if (up == NULL)
        return NULL;
    *ret_stands = up->state == PX_UP_OPEN;
    lt_list_push_back(&up->requests, &how->request->up_link);
    return up;
}

static bool can_be_kept(const struct px_upstream *up)
{
    if (!may_be_kept(up))
        return false;
    /* its end was announced while the response came: no event will tell again */
    if (up->in.end_is_near)
        return false;
    return up->in.pos == up->in.end; /* bytes behind the response: nobody asked for them */
}

void px_upstream_release(struct px_upstream **upstream, bool is_reusable)
{
    struct px_upstream *up = *upstream;
    *upstream = NULL;
    if (up == NULL)
        return;
    up->request = NULL;
    up->tcp = NULL;
    if (up->state != PX_UP_OPEN || !is_reusable || !can_be_kept(up)) {
        free_upstream(up);
        return;
    }
    px_input_free(up->worker, &up->in);
    lt_list_push_front(&up->host->idle, &up->link);
    start_idling(up);
    if (!lt_list_is_empty(&up->host->cluster->waiting))
        px_cluster_wake(up->host->cluster);
}

bool px_host_is_idle(const struct px_host *host)
{
    if (!lt_list_is_empty(&host->raw) || host->lb.rq_active > 0)
        return false;
    struct lt_list *it, *following;
    lt_list_each (&((struct px_host *)host)->shared, it, following) {
        if (!lt_list_is_empty(&LT_CONTAINER_OF(it, struct px_upstream, link)->requests))
            return false;
    }
    return true;
}

void px_host_close_raw(struct px_host *host)
{
    struct lt_list *it, *following;
    lt_list_each (&host->raw, it, following)
        px_tcp_end(LT_CONTAINER_OF(it, struct px_upstream, link)->tcp);
}

void px_host_close_idle(struct px_host *host)
{
    while (!lt_list_is_empty(&host->idle))
        free_upstream(lt_list_first(&host->idle, struct px_upstream, link));
    struct lt_list *it, *following;
    lt_list_each (&host->shared, it, following)
        end_shared(LT_CONTAINER_OF(it, struct px_upstream, link));
}
