/*
 * proxy/run/pool.c - upstream connections between requests: which one a request may have, how long
 * one is kept, how those that are shared end. Making and failing: upstream.c.
 * Start at: px_upstream_reuse(), px_upstream_release().
 */
#include <errno.h>

#include "proxy/http/h2_link.h"
#include "proxy/http/request.h"

#define ASK_AFTER_NS (500 * LT_NS_PER_MS)

static bool is_idle(const struct px_upstream *up)
{
    return up->request == NULL && up->tcp == NULL && lt_list_is_empty(&up->requests);
}

/* Says goodbye when what waits to be sent is sent. */
void px_pool_end_shared(struct px_upstream *up)
{
    up->takes_no_more = true;
    if (!lt_list_is_empty(&up->requests) || up->state != PX_UP_OPEN)
        return;
    lt_h2_conn_goaway(up->h2->conn, LT_H2_NO_ERROR, LT_STR_NULL);
    up->h2->is_over = true;
    px_h2_link_touch(up->h2);
}

/* Nobody uses it. */
static void end(struct px_upstream *up)
{
    if (up->h2 != NULL)
        px_pool_end_shared(up);
    else
        px_upstream_end(up);
}

/* --- how long --- */

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
    return !up->takes_no_more;
}

/*
 * The timer is not moved at each use; it looks at the clock when it fires, and is set again.
 */
static void arm(struct px_upstream *up, uint64_t at_ns)
{
    if (lt_timer_is_set(&up->timer) && up->timer_ns <= at_ns)
        return;
    uint64_t now_ns = px_now_ns(up->worker);
    up->timer_ns = at_ns;
    lt_loop_timer_set(up->worker->loop, &up->timer, at_ns > now_ns ? at_ns - now_ns : 0);
}

static void start_idling(struct px_upstream *up)
{
    uint64_t idle_ns = up->host->cluster->conf->idle_timeout_ms * LT_NS_PER_MS;
    up->idle_ns = px_now_ns(up->worker);
    if (idle_ns != 0)
        arm(up, up->idle_ns + idle_ns);
}

void px_pool_opened(struct px_upstream *up)
{
    uint64_t limit_ns = up->host->cluster->conf->max_connection_duration_ms * LT_NS_PER_MS;
    up->opened_ns = px_now_ns(up->worker);
    if (limit_ns != 0)
        arm(up, up->opened_ns + limit_ns);
    if (up->protocol == PX_PROTO_H2)
        start_idling(up);
}

static void check_age(struct px_upstream *up, uint64_t now_ns)
{
    uint64_t limit_ns = up->host->cluster->conf->max_connection_duration_ms * LT_NS_PER_MS;
    if (limit_ns == 0 || up->takes_no_more)
        return;
    if (now_ns < up->opened_ns + limit_ns) {
        arm(up, up->opened_ns + limit_ns);
        return;
    }
    px_cluster_count(up->host->cluster, PX_STAT_CX_MAX_DURATION);
    up->takes_no_more = true;
}

void px_pool_on_timer(struct px_upstream *up, uint64_t now_ns)
{
    uint64_t idle_ns = up->host->cluster->conf->idle_timeout_ms * LT_NS_PER_MS;
    check_age(up, now_ns);
    if (!is_idle(up))
        return;
    bool is_enough = idle_ns != 0 && now_ns >= up->idle_ns + idle_ns;
    if (is_enough)
        px_cluster_count(up->host->cluster, PX_STAT_CX_IDLE_TIMEOUT);
    if (is_enough || up->takes_no_more)
        end(up);
    else if (idle_ns != 0)
        arm(up, up->idle_ns + idle_ns);
}

/* --- which one --- */

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

/* It speaks with whom this request wants, and for whom it may. */
static bool is_for(const struct px_upstream *up, const struct px_connect *how)
{
    if (up->client_id != how->client_id)
        return false;
    return how->name.len == 0 ? up->name == NULL
                              : up->name != NULL && lt_str_case_eq(how->name, lt_str_of(up->name));
}

static struct px_upstream *reuse_idle(struct px_host *host, const struct px_connect *how)
{
    struct lt_list *it, *following;
    lt_list_each (&host->idle, it, following) {
        struct px_upstream *up = LT_CONTAINER_OF(it, struct px_upstream, link);
        if (!is_for(up, how))
            continue;
        if (!still_stands(up)) {
            px_upstream_end(up);
            continue;
        }
        lt_list_remove(&up->link);
        up->request = how->request;
        up->is_reused = true;
        return up;
    }
    return NULL;
}

static struct px_upstream *find_shared(const struct px_host *host, const struct px_connect *how)
{
    struct px_upstream *connecting = NULL;
    struct lt_list *it, *following;
    lt_list_each (&host->shared, it, following) {
        struct px_upstream *up = LT_CONTAINER_OF(it, struct px_upstream, link);
        if (!is_for(up, how))
            continue;
        if (up->state == PX_UP_OPEN ? px_up_h2_has_room(up) && may_be_kept(up) : false)
            return up;
        if (up->state != PX_UP_OPEN && up->asks_alpn == how->asks_alpn &&
            (how->asks_alpn || up->protocol == how->protocol))
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
        up = reuse_idle(host, how);
    if (up != NULL || (how->protocol == PX_PROTO_H1 && !how->asks_alpn))
        return up;
    up = find_shared(host, how);
    if (up == NULL)
        return NULL;
    *ret_stands = up->state == PX_UP_OPEN;
    lt_list_push_back(&up->requests, &how->request->up_link);
    return up;
}

/* --- back --- */

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
    if (!may_be_kept(up))
        px_pool_end_shared(up);
    else if (up->state == PX_UP_OPEN)
        start_idling(up);
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
        px_upstream_end(up);
        return;
    }
    px_input_free(up->worker, &up->in);
    lt_list_push_front(&up->host->idle, &up->link);
    start_idling(up);
    if (!lt_list_is_empty(&up->host->cluster->waiting))
        px_cluster_wake(up->host->cluster);
}

/* --- all of a host --- */

void px_host_close_raw(struct px_host *host)
{
    struct lt_list *it, *following;
    lt_list_each (&host->raw, it, following)
        px_tcp_end(LT_CONTAINER_OF(it, struct px_upstream, link)->tcp);
}

void px_host_close_idle(struct px_host *host)
{
    while (!lt_list_is_empty(&host->idle))
        px_upstream_end(lt_list_first(&host->idle, struct px_upstream, link));
    struct lt_list *it, *following;
    lt_list_each (&host->shared, it, following)
        px_pool_end_shared(LT_CONTAINER_OF(it, struct px_upstream, link));
}
