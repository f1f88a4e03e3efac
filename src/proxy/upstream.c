/*
 * proxy/upstream.c - connections to upstream hosts: making them, keeping idle ones, ending them.
 * What goes over them: http.c, tcp.c.
 * Start at: px_upstream_connect().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/run.h"

#define ASK_AFTER_NS (500 * LT_NS_PER_MS)

static void on_ready(struct lt_io *io, uint32_t events);
static void on_timer(struct lt_timer *timer, uint64_t now_ns);

/* --- life --- */

static void free_upstream(struct px_upstream *up)
{
    struct px_worker *worker = up->worker;
    struct px_cluster *cluster = up->host->cluster;
    up->state = PX_UP_CLOSED;
    lt_list_remove(&up->link);
    lt_loop_timer_cancel(worker->loop, &up->timer);
    lt_loop_io_del(worker->loop, &up->io);
    lt_transport_fini(&up->transport);
    px_input_free(worker, &up->in);
    px_pin_drop(&up->pin);
    LT_ASSERT(cluster->cx_active > 0 && up->host->cx_active > 0);
    cluster->cx_active--;
    up->host->cx_active--;
    px_cluster_count(cluster, PX_STAT_CX_DESTROY);
    px_host_drop(&up->host);
    px_bury(worker, up);
    px_cluster_wake(cluster);
}

static bool start_transport(struct px_upstream *up, int fd, const lt_str *alpn, size_t alpn_count)
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
        .alpn = alpn_count > 0 ? alpn : tls->alpn,
        .alpn_count = alpn_count > 0 ? alpn_count : tls->alpn_count,
        .sans = tls->sans,
        .san_count = tls->san_count,
    };
    lt_transport_init_tls(&up->transport, fd, ctx, &opts);
    return true;
}

struct px_upstream *px_upstream_connect(struct px_host *host, struct px_request *request,
                                        struct px_tcp *tcp, const lt_str *alpn, size_t alpn_count)
{
    struct px_cluster *cluster = host->cluster;
    struct px_worker *worker = cluster->worker;
    const struct lt_addr *source = cluster->conf->source.len > 0 ? &cluster->conf->source : NULL;
    int fd = -1;
    px_cluster_count(cluster, PX_STAT_CX_TOTAL);
    host->cx_total++;
    if (lt_sock_connect(&host->addr, source, &fd) != LT_OK) {
        px_cluster_count(cluster, PX_STAT_CX_CONNECT_FAIL);
        host->cx_connect_fail++;
        return NULL;
    }
    struct px_upstream *up = lt_new(struct px_upstream);
    up->worker = worker;
    up->host = px_host_take(host);
    up->pin = px_pin_take(worker->pin);
    up->request = request;
    up->tcp = tcp;
    up->opened_ns = px_now_ns(worker);
    up->tls_epoch = host->tls_epoch;
    lt_list_init(&up->link);
    lt_timer_init(&up->timer, on_timer);
    lt_io_init(&up->io, on_ready);
    lt_h1_parser_init(&up->parser, true, NULL);
    cluster->cx_active++;
    host->cx_active++;
    up->io.fd = fd;
    if (!start_transport(up, fd, alpn, alpn_count)) {
        snprintf(up->failure, sizeof(up->failure), "TLS error: Secret is not supplied by SDS");
        free_upstream(up);
        return NULL;
    }
    lt_loop_io_set(worker->loop, &up->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    lt_loop_timer_set(worker->loop, &up->timer, cluster->conf->connect_timeout_ms * LT_NS_PER_MS);
    return up;
}

/* --- events --- */

static void fail(struct px_upstream *up)
{
    struct px_cluster *cluster = up->host->cluster;
    if (up->state != PX_UP_OPEN) {
        px_cluster_count(cluster,
                         up->timed_out ? PX_STAT_CX_CONNECT_TIMEOUT : PX_STAT_CX_CONNECT_FAIL);
        up->host->cx_connect_fail++;
    }
    if (up->request != NULL)
        px_http_on_upstream_failed(up->request);
    else if (up->tcp != NULL)
        px_tcp_on_upstream_failed(up->tcp);
    else
        free_upstream(up);
}

static void notify(struct px_upstream *up)
{
    if (up->request != NULL)
        px_http_on_upstream(up->request);
    else if (up->tcp != NULL)
        px_tcp_on_upstream(up->tcp);
}

static void opened(struct px_upstream *up)
{
    up->state = PX_UP_OPEN;
    up->can_write = true;
    lt_loop_timer_cancel(up->worker->loop, &up->timer);
    px_pin_drop(&up->pin);
    notify(up);
}

static void handshake(struct px_upstream *up)
{
    lt_rc rc = lt_transport_handshake(&up->transport);
    if (rc == LT_OK) {
        up->can_read = true;
        opened(up);
    } else if (rc != LT_AGAIN) {
        snprintf(up->failure, sizeof(up->failure), "TLS error: %s", lt_tls_error(&up->transport));
        fail(up);
    }
}

static void connected(struct px_upstream *up)
{
    int error = lt_sock_error(up->io.fd);
    if (error != 0) {
        char text[64];
        snprintf(up->failure, sizeof(up->failure), "delayed connect error: %s",
                 strerror_r(error, text, sizeof(text)));
        fail(up);
        return;
    }
    up->state = PX_UP_HANDSHAKE;
    handshake(up);
}

/*
 * Anything but silence on an idle connection ends it: the host closed it, or speaks without being
 * asked.
 */
static bool is_idle(const struct px_upstream *up)
{
    return up->request == NULL && up->tcp == NULL;
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
    case PX_UP_OPEN:
        if (!is_idle(up))
            notify(up);
        else if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            free_upstream(up);
        break;
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
    if (now_ns - up->idle_ns >= limit_ns)
        free_upstream(up);
    else
        lt_loop_timer_set(up->worker->loop, &up->timer, limit_ns - (now_ns - up->idle_ns));
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_upstream *up = LT_CONTAINER_OF(timer, struct px_upstream, timer);
    if (up->state == PX_UP_OPEN) {
        on_idle_timer(up, now_ns);
        return;
    }
    up->timed_out = true;
    snprintf(up->failure, sizeof(up->failure), "connection timeout");
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

struct px_upstream *px_upstream_reuse(struct px_host *host, struct px_request *request)
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

static bool can_be_kept(const struct px_upstream *up)
{
    const struct px_cluster_conf *conf = up->host->cluster->conf;
    if (!up->host->is_listed || up->host->cluster->is_gone || up->worker->is_draining)
        return false;
    if (up->tls_epoch != up->host->tls_epoch) /* whom it may speak to has changed since */
        return false;
    if (conf->max_requests_per_connection != 0 && up->requests >= conf->max_requests_per_connection)
        return false;
    if (conf->max_connection_duration_ms != 0 &&
        px_now_ns(up->worker) - up->opened_ns >= conf->max_connection_duration_ms * LT_NS_PER_MS)
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
    lt_h1_next_message(&up->parser);
    lt_list_push_front(&up->host->idle, &up->link);
    up->idle_ns = px_now_ns(up->worker);
    uint64_t idle_ms = up->host->cluster->conf->idle_timeout_ms;
    if (idle_ms != 0 && !lt_timer_is_set(&up->timer))
        lt_loop_timer_set(up->worker->loop, &up->timer, idle_ms * LT_NS_PER_MS);
    if (!lt_list_is_empty(&up->host->cluster->waiting))
        px_cluster_wake(up->host->cluster);
}

void px_host_close_idle(struct px_host *host)
{
    while (!lt_list_is_empty(&host->idle))
        free_upstream(lt_list_first(&host->idle, struct px_upstream, link));
}
