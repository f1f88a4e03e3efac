/*
 * proxy/run/upstream.c - connections to upstream hosts: making them, and how they fail.
 * One of HTTP/1 belongs to one request at a time and waits in host->idle in between; one of HTTP/2
 * is shared (host->shared) and ends when nobody uses it and it may not be used any more: pool.c.
 * What goes over them: up_h1.c, up_h2.c, tcp.c.
 * Whoever is told that a connection has failed has lost it already: it is freed first.
 * Start at: px_upstream_connect().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/http/h2_link.h"
#include "proxy/http/request.h"
#include "proxy/told/tls_stats.h"

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

void px_upstream_end(struct px_upstream *up)
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
    free(up->name);
    up->failure = up->name = NULL;
    px_bury_upstream(worker, up);
    px_cluster_wake(cluster);
}

static bool is_ip(lt_str name)
{
    struct lt_addr addr;
    return lt_addr_parse(name, 0, &addr) == LT_OK;
}

/* The name that is asked for, and who is taken for the right one. */
static struct lt_tls_conn_opts tls_opts(const struct px_upstream *up, const struct px_tls_conf *tls,
                                        const struct px_connect *how)
{
    const struct px_cluster_conf *conf = up->host->cluster->conf;
    const struct px_endpoint_facts *facts = up->host->facts;
    lt_str name = lt_str_of(up->name);
    struct lt_tls_conn_opts opts = {
        .sni = tls->sni,
        .alpn = how->alpn_count > 0 ? how->alpn : tls->alpn,
        .alpn_count = how->alpn_count > 0 ? how->alpn_count : tls->alpn_count,
        .sans = tls->sans,
        .san_count = tls->san_count,
    };
    if (tls->sessions_max > 0 && up->host->sessions == NULL)
        up->host->sessions = lt_tls_sessions_new(tls->sessions_max);
    opts.sessions = tls->sessions_max > 0 ? up->host->sessions : NULL;
    if (tls->has_host_sni && facts != NULL && facts->hostname.len > 0)
        opts.sni = facts->hostname;
    if (conf->has_auto_sni && name.len > 0 && !is_ip(name))
        opts.sni = name;
    if (tls->has_sni_san && opts.sni.len > 0) {
        opts.must_be = opts.sni;
        opts.san_count = 0;
    }
    if (conf->has_auto_san) /* without a name nobody is the right one */
        opts.must_be = name.len > 0 ? name : LT_STR("?");
    return opts;
}

static bool start_transport(struct px_upstream *up, int fd, const struct px_connect *how)
{
    const struct px_tls_conf *tls = up->host->tls;
    if (tls == NULL) {
        lt_transport_init_raw(&up->transport, fd);
        return true;
    }
    struct lt_tls_ctx *ctx = px_snapshot_tls(up->pin->snapshot, tls->ctx_slot);
    if (ctx == NULL) {
        lt_transport_init_raw(&up->transport, fd); /* only to close it */
        return false;
    }
    struct lt_tls_conn_opts opts = tls_opts(up, tls, how);
    lt_transport_init_tls(&up->transport, fd, ctx, &opts);
    return true;
}

static void count_protocol(struct px_upstream *up)
{
    if (up->protocol != PX_PROTO_RAW)
        px_cluster_count(up->host->cluster, up->protocol == PX_PROTO_H2 ? PX_STAT_CX_HTTP2_TOTAL
                                                                        : PX_STAT_CX_HTTP1_TOTAL);
}

static bool is_shared(const struct px_upstream *up)
{
    return up->protocol == PX_PROTO_H2 || up->asks_alpn;
}

static struct px_upstream *make_upstream(struct px_host *host, const struct px_connect *how, int fd)
{
    struct px_upstream *up = lt_slab_take(&host->cluster->worker->up_slab);
    up->worker = host->cluster->worker;
    up->id = ++up->worker->next_conn_id;
    up->host = px_host_take(host);
    up->pin = px_pin_take(up->worker->pin);
    up->protocol = how->protocol;
    up->asks_alpn = how->asks_alpn;
    up->epoch = host->epoch;
    up->priority = how->priority;
    lt_list_init(&up->link);
    lt_list_init(&up->requests);
    lt_timer_init(&up->timer, on_timer);
    lt_io_init(&up->io, on_ready);
    up->io.fd = fd;
    up->client_id = how->client_id;
    up->name = how->name.len > 0 ? lt_str_dupz(how->name) : NULL;
    px_host_count_connection(host, up);
    if (!up->asks_alpn)
        count_protocol(up);
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
        px_upstream_end(up);
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

void px_upstream_break(struct px_upstream *up)
{
    struct lt_list lost;
    px_h2_link_free(&up->h2); /* its streams are told, and note how they ended */
    take_all(up, &lost);
    while (!lt_list_is_empty(&lost))
        px_request_ready(pop_request(&lost));
    px_upstream_end(up);
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
    px_upstream_end(up);
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
        px_pool_end_shared(up);
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
    if (up->asks_alpn)
        count_protocol(up);
    if (up->tcp == NULL)
        px_pool_opened(up);
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
    if (rc == LT_AGAIN)
        return;
    px_tls_count_server(up, rc == LT_OK);
    if (rc == LT_OK) {
        up->can_read = true;
        opened(up);
    } else {
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

/*
 * Anything but silence on an idle connection of HTTP/1 ends it: the host closed it, or speaks
 * without being asked.
 */
static void on_open_ready(struct px_upstream *up, uint32_t events)
{
    if (up->h2 != NULL)
        px_h2_link_read(up->h2);
    else if (up->request != NULL && up->worker->is_choked)
        px_request_ready(up->request);
    else if (up->request != NULL)
        px_request_run(up->request);
    else if (up->tcp != NULL)
        px_tcp_on_upstream(up->tcp);
    else if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        px_upstream_end(up);
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

static void on_timer(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_upstream *up = LT_CONTAINER_OF(timer, struct px_upstream, timer);
    if (up->state == PX_UP_OPEN) {
        px_pool_on_timer(up, now_ns);
        return;
    }
    up->timed_out = true;
    set_failure(up, "", "connection timeout");
    fail(up);
}
