/*
 * proxy/run/tcp.c - raw TCP: bytes from one side to the other, half-closes passed on, memory
 * bounded by one block a direction.
 * Start at: px_tcp_start().
 */
#include <stdlib.h>

#include "proxy/conf/log_filter.h"
#include "proxy/conf/on_demand.h"
#include "proxy/conf/route_match.h"
#include "proxy/http/hash_policy.h"
#include "proxy/run/exchange.h"
#include "proxy/run/on_demand.h"
#include "proxy/run/run.h"
#include "proxy/told/access_log.h"
#include "proxy/told/attributes.h"
#include "proxy/told/conn_log.h"
#include "proxy/told/count.h"

struct px_tcp {
    struct px_conn *conn;
    const struct px_chain *chain;   /* held by the connection's pin */
    const struct px_tcp_conf *conf; /* of the chain */
    struct px_cluster *cluster;
    const struct px_metas *metas;      /* metadata_match; NULL: none */
    struct px_host *host;              /* counted */
    struct px_upstream *up;            /* owned */
    uint64_t received, sent;           /* from and to the client */
    uint64_t received_told, sent_told; /* of them, in the metrics */
    struct lt_list untold_link;        /* in worker->tcp_untold while bytes wait to be told */
    uint64_t started_ns, tell_at_ns;
    uint64_t ends_at_ns; /* max_downstream_connection_duration; 0: none */
    int64_t started_wall_ns;
    struct lt_timer log; /* access_log_flush_interval */
    uint32_t flags;
    uint32_t attempts;
    struct px_pipe there, back;
    struct px_exchange with_client, with_server;
    struct px_peer *peer; /* counted; NULL: unknown */
    bool is_guess;        /* the client is silent, and the chain may become another */
    bool is_open;         /* the upstream connection stands */
    bool is_told;         /* that it was opened, in the metrics */
    bool client_ended, client_end_sent;
    bool server_ended, server_end_sent;
    const char *peer_principal, *local_principal; /* counted texts */
    char *failure;                                /* owned; NULL */
    struct px_tcp_demand *demand;                 /* owned; NULL: its cluster was there */
};

/* Its cluster is asked for. */
struct px_tcp_demand {
    struct px_waiter waiter;
    struct px_tcp *tcp;
    lt_str cluster; /* of the configuration, or the connection */
};

/* *ret_metas: metadata_match that goes with it. */
static lt_str pick_cluster(struct px_worker *worker, const struct px_tcp_conf *conf,
                           const struct px_metas **ret_metas)
{
    *ret_metas = conf->metas;
    if (conf->weighted_count == 0)
        return conf->cluster;
    const struct px_weighted_cluster *weighted = px_route_pick_weighted(
        conf->weighted, conf->weighted_count, conf->total_weight, lt_prng_next(&worker->prng));
    *ret_metas = weighted->metas;
    return weighted->cluster;
}

/* attributes: what expressions look into. */
static struct px_report make_report(const struct px_tcp *tcp, struct px_attributes *attributes)
{
    const struct px_cluster *cluster = tcp->cluster;
    const struct px_conn *conn = tcp->conn;
    bool is_inbound = conn->listener->is_inbound;
    *attributes = (struct px_attributes){.conn = conn};
    return (struct px_report){
        .is_inbound = is_inbound,
        .is_mutual_tls = is_inbound && conn->principal[0] != '\0',
        .flags = tcp->flags,
        .peer = tcp->peer,
        .workload = tcp->host != NULL ? tcp->host->workload : "",
        .peer_principal = is_inbound ? conn->principal : tcp->peer_principal,
        .local_principal = tcp->local_principal,
        .host_header = "",
        .cluster = cluster != NULL ? cluster->label : "",
        .service_host = cluster != NULL ? cluster->service_host : "",
        .service_name = cluster != NULL ? cluster->service_name : "",
        .service_namespace = cluster != NULL ? cluster->service_namespace : "",
        .route_name = "",
        .stats = tcp->conf->stats,
        .find = px_attributes_find,
        .find_ctx = attributes,
    };
}

/* Istio: nothing is told before it is known who the peer is, or that nobody says so. */
static bool is_peer_due(const struct px_tcp *tcp)
{
    return tcp->conn->listener->is_inbound ? tcp->with_client.waits : tcp->with_server.waits;
}

static void tell_opened(struct px_tcp *tcp)
{
    struct px_attributes attributes;
    struct px_report report = make_report(tcp, &attributes);
    if (tcp->is_told || !tcp->conf->has_istio_stats)
        return;
    tcp->is_told = true;
    px_telemetry_tcp_opened(tcp->conn->worker->telemetry, &report);
}

static void tell_bytes(struct px_tcp *tcp)
{
    struct px_attributes attributes;
    struct px_report report = make_report(tcp, &attributes);
    px_telemetry_tcp_bytes(tcp->conn->worker->telemetry, &report, tcp->sent - tcp->sent_told,
                           tcp->received - tcp->received_told);
    tcp->sent_told = tcp->sent;
    tcp->received_told = tcp->received;
    lt_list_remove(&tcp->untold_link);
}

/* The list is in the order of their turns, so that one timer serves. */
void px_tcp_on_tell(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_worker *worker = LT_CONTAINER_OF(timer, struct px_worker, tcp_tell);
    while (!lt_list_is_empty(&worker->tcp_untold)) {
        struct px_tcp *tcp = lt_list_first(&worker->tcp_untold, struct px_tcp, untold_link);
        if (tcp->tell_at_ns > now_ns) {
            lt_loop_timer_set(worker->loop, timer, tcp->tell_at_ns - now_ns);
            return;
        }
        if (is_peer_due(tcp))
            lt_list_remove(&tcp->untold_link);
        else
            tell_bytes(tcp);
    }
}

static void tell_later(struct px_tcp *tcp)
{
    struct px_worker *worker = tcp->conn->worker;
    if (!tcp->conf->has_istio_stats || lt_list_is_linked(&tcp->untold_link))
        return;
    uint64_t wait_ns = tcp->conf->tcp_report_ms * LT_NS_PER_MS;
    tcp->tell_at_ns = px_now_ns(worker) + wait_ns;
    struct lt_list *after = worker->tcp_untold.prev; /* most listeners have the same interval */
    while (after != &worker->tcp_untold &&
           LT_CONTAINER_OF(after, struct px_tcp, untold_link)->tell_at_ns > tcp->tell_at_ns)
        after = after->prev;
    lt_list_push_front(after, &tcp->untold_link);
    bool is_first = worker->tcp_untold.next == &tcp->untold_link;
    if (is_first || !lt_timer_is_set(&worker->tcp_tell))
        lt_loop_timer_set(worker->loop, &worker->tcp_tell, wait_ns);
}

static void tell_end(struct px_tcp *tcp)
{
    struct px_attributes attributes;
    struct px_report report = make_report(tcp, &attributes);
    tell_bytes(tcp);
    tell_opened(tcp); /* if it never stood, they come together */
    px_telemetry_tcp_closed(tcp->conn->worker->telemetry, &report);
}

static void write_lines(struct px_tcp *tcp, uint32_t type)
{
    struct px_conn *conn = tcp->conn;
    char upstream[LT_ADDR_TEXT_MAX], local[LT_ADDR_TEXT_MAX], remote[LT_ADDR_TEXT_MAX];
    struct px_log_facts facts = {
        .start_wall_ns = tcp->started_wall_ns,
        .flags = tcp->flags,
        .transport_failure = tcp->failure,
        .bytes_received = tcp->received,
        .bytes_sent = tcp->sent,
        .duration_ns = px_now_ns(conn->worker) - tcp->started_ns,
        .upstream_host = tcp->host != NULL ? lt_addr_format(&tcp->host->addr, upstream)
                                           : LT_STR_NULL,
        .upstream_cluster = tcp->cluster != NULL ? lt_str_of(tcp->cluster->name) : LT_STR_NULL,
        .downstream_local = lt_addr_format(&conn->local, local),
        .downstream_remote = lt_addr_format(&conn->peer, remote),
        .requested_server_name = px_conn_server_name(conn),
        .downstream_peer_uri = lt_str_of(conn->principal),
        .connection_id = conn->id,
        .conn = conn,
        .up = tcp->up,
        .host = tcp->host,
        .cluster = tcp->cluster,
        .attempts = tcp->attempts,
        .random = conn->id * 0x9E3779B97F4A7C15ull >> 20,
    };
    facts.downstream_direct_remote = facts.downstream_remote;
    if (conn->more != NULL) {
        facts.termination_details = conn->more->details;
        facts.meta = conn->more->meta;
        facts.flags |= conn->more->flags;
    }
    facts.type = type;
    for (size_t i = 0; i < tcp->conf->access_log_count; i++)
        px_access_log_write(conn->worker->access_log, &tcp->conf->access_logs[i], &facts);
    if (type == PX_LOG_TYPE_TCP_END)
        px_conn_log(conn, &facts);
}

static void finish_report(struct px_tcp *tcp)
{
    if (tcp->conf->has_istio_stats)
        tell_end(tcp);
    write_lines(tcp, PX_LOG_TYPE_TCP_END);
}

static void on_log(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_tcp *tcp = LT_CONTAINER_OF(timer, struct px_tcp, log);
    write_lines(tcp, PX_LOG_TYPE_TCP_PERIODIC);
    lt_loop_timer_set(tcp->conn->worker->loop, timer, tcp->conf->log_times.every_ms * LT_NS_PER_MS);
}

void px_tcp_abort(struct px_conn *conn)
{
    struct px_tcp *tcp = conn->tcp;
    if (tcp == NULL)
        return;
    if (!tcp->is_guess)
        finish_report(tcp);
    conn->tcp = NULL;
    lt_loop_timer_cancel(conn->worker->loop, &tcp->log);
    px_pipe_close(conn->worker, &tcp->there);
    px_pipe_close(conn->worker, &tcp->back);
    px_text_drop(&tcp->peer_principal);
    px_text_drop(&tcp->local_principal);
    px_peer_drop(&tcp->peer);
    free(tcp->failure);
    if (tcp->demand != NULL) {
        px_waiter_stop(&tcp->demand->waiter);
        px_bury(conn->worker, tcp->demand);
    }
    px_upstream_release(&tcp->up, false);
    px_host_drop(&tcp->host);
    px_cluster_drop(&tcp->cluster);
    px_bury(conn->worker, tcp);
}

static void give_up(struct px_tcp *tcp, uint32_t flag)
{
    if (tcp->is_guess) { /* the client has still to say what it wants */
        px_tcp_abort(tcp->conn);
        return;
    }
    tcp->flags |= flag;
    /*
     * Envoy resets what it could not forward, so that the client does not take it for an orderly
     * end
     */
    if (!tcp->is_open)
        lt_sock_set_linger_reset(tcp->conn->transport.fd);
    px_conn_close(tcp->conn);
}

static void keep_failure(struct px_tcp *tcp, const struct px_failed *failed)
{
    free(tcp->failure);
    tcp->failure = lt_strdup(failed->reason);
}

/* False: the connection is gone. */
static bool connect_upstream(struct px_tcp *tcp)
{
    struct px_worker *worker = tcp->conn->worker;
    tcp->attempts++;
    struct px_pick pick = {.original_dst = tcp->conn->has_original_dst ? &tcp->conn->local : NULL,
                           .metas = tcp->metas};
    pick.has_hash = px_hash_connection(tcp->conf->hash, tcp->conn, &pick.hash);
    struct px_host *host = px_cluster_pick(tcp->cluster, &pick);
    if (host == NULL) {
        px_cluster_count(tcp->cluster, PX_STAT_CX_NONE_HEALTHY);
        give_up(tcp, PX_FLAG_NO_HEALTHY_UPSTREAM);
        return false;
    }
    if (!px_host_may_connect(host, PX_PRIORITY_DEFAULT)) {
        px_cluster_count(tcp->cluster, PX_STAT_CX_OVERFLOW);
        give_up(tcp, PX_FLAG_UPSTREAM_OVERFLOW);
        return false;
    }
    px_host_drop(&tcp->host);
    tcp->host = px_host_take(host);
    struct px_connect how = {.protocol = PX_PROTO_RAW, .tcp = tcp};
    if (tcp->cluster->conf->has_tcp_metadata_exchange && host->tls != NULL &&
        !tcp->cluster->conf->has_exchange_off) {
        how.alpn = host->tls->exchange_alpn;
        how.alpn_count = host->tls->exchange_alpn_count;
    }
    struct px_failed failed;
    tcp->up = px_upstream_connect(host, &how, &failed);
    if (tcp->up == NULL) {
        keep_failure(tcp, &failed);
        give_up(tcp, PX_FLAG_UPSTREAM_FAILURE);
        return false;
    }
    (void)worker;
    return true;
}

/* --- how long --- */

static void set_end(struct px_tcp *tcp)
{
    const struct px_tcp_conf *conf = tcp->conf;
    uint64_t life_ms = conf->max_duration_ms;
    if (life_ms == 0)
        return;
    uint64_t jitter_ms = life_ms * conf->max_duration_jitter_percent / 100;
    if (jitter_ms > 0)
        life_ms += lt_prng_next(&tcp->conn->worker->prng) % jitter_ms;
    tcp->ends_at_ns = px_now_ns(tcp->conn->worker) + life_ms * LT_NS_PER_MS;
}

static void set_deadline(struct px_tcp *tcp)
{
    uint64_t after_ms = tcp->conf->idle_timeout_ms;
    if (tcp->ends_at_ns != 0) {
        uint64_t now_ns = px_now_ns(tcp->conn->worker);
        uint64_t left_ns = tcp->ends_at_ns > now_ns ? tcp->ends_at_ns - now_ns : 0;
        uint64_t left_ms = LT_MAX((left_ns + LT_NS_PER_MS - 1) / LT_NS_PER_MS, (uint64_t)1);
        after_ms = after_ms == 0 ? left_ms : LT_MIN(after_ms, left_ms);
    }
    px_conn_set_deadline(tcp->conn, after_ms);
}

void px_tcp_timeout(struct px_conn *conn)
{
    struct px_tcp *tcp = conn->tcp;
    bool is_old = tcp->ends_at_ns != 0 && px_now_ns(conn->worker) >= tcp->ends_at_ns;
    give_up(tcp, is_old ? PX_FLAG_DURATION_TIMEOUT : 0); /* Envoy: idleness has no flag here */
}

/* --- beginning --- */

static struct px_tcp *make_tcp(struct px_conn *conn, const struct px_chain *chain)
{
    struct px_tcp *tcp = lt_new(struct px_tcp);
    tcp->conn = conn;
    tcp->chain = chain;
    tcp->conf = chain->tcp;
    lt_list_init(&tcp->untold_link);
    lt_timer_init(&tcp->log, on_log);
    tcp->started_ns = px_now_ns(conn->worker);
    tcp->started_wall_ns = lt_env_wall_ns(conn->worker->env);
    tcp->peer_principal = tcp->local_principal = "";
    conn->tcp = tcp;
    return tcp;
}

static lt_str cluster_name(struct px_tcp *tcp)
{
    const struct px_conn *conn = tcp->conn;
    lt_str name = pick_cluster(conn->worker, tcp->conf, &tcp->metas);
    if (tcp->chain->has_sni_cluster && conn->requested_server_name[0] != '\0')
        name = lt_str_of(conn->requested_server_name);
    return name;
}

static bool begin_with(struct px_tcp *tcp, struct px_cluster *cluster)
{
    if (cluster == NULL) {
        give_up(tcp, PX_FLAG_NO_CLUSTER);
        return false;
    }
    tcp->cluster = px_cluster_take(cluster);
    return connect_upstream(tcp);
}

static void on_demanded(struct px_waiter *waiter, px_demand_outcome outcome)
{
    const struct px_tcp_demand *demand = LT_CONTAINER_OF(waiter, struct px_tcp_demand, waiter);
    struct px_worker *worker = demand->tcp->conn->worker;
    const struct px_on_demand_stats *stats = &demand->tcp->conf->on_demand->stats;
    px_stat_add(worker,
                outcome == PX_DEMAND_THERE  ? &stats->success
                : outcome == PX_DEMAND_LATE ? &stats->timeout
                                            : &stats->missing,
                1);
    (void)begin_with(demand->tcp, px_cluster_get(worker, demand->cluster));
}

/* False: it is not asked for. */
static bool demand_cluster(struct px_tcp *tcp, lt_str name)
{
    const struct px_on_demand_conf *conf = tcp->conf->on_demand;
    struct px_worker *worker = tcp->conn->worker;
    if (conf == NULL || tcp->is_guess || name.len == 0)
        return false;
    const struct px_demand what = {.kind = PX_CLUSTER,
                                   .source = conf->source,
                                   .name = name,
                                   .owner = px_waiter_owner(&tcp->conn->peer)};
    tcp->demand = lt_new(struct px_tcp_demand);
    *tcp->demand = (struct px_tcp_demand){
        .waiter = {.done = on_demanded}, .tcp = tcp, .cluster = name};
    px_stat_add(worker, &conf->stats.attempt, 1);
    px_demand_outcome outcome = px_waiter_start(&tcp->demand->waiter, worker, &what,
                                                conf->timeout_ms);
    if (outcome != PX_DEMAND_WAITS)
        px_stat_add(worker, &conf->stats.missing, 1);
    return outcome == PX_DEMAND_WAITS;
}

/* False: it came to nothing, and tcp is gone. */
static bool begin(struct px_tcp *tcp)
{
    lt_str name = cluster_name(tcp);
    struct px_cluster *cluster = px_cluster_get(tcp->conn->worker, name);
    if (cluster == NULL && demand_cluster(tcp, name))
        return true;
    return begin_with(tcp, cluster);
}

void px_tcp_start(struct px_conn *conn)
{
    if (conn->tcp == NULL)
        (void)make_tcp(conn, conn->chain);
    conn->tcp->is_guess = false; /* what was begun while the client was silent is what it wants */
}

void px_tcp_connect(struct px_conn *conn)
{
    struct px_tcp *tcp = conn->tcp;
    bool is_begun = tcp->cluster != NULL;
    set_end(tcp);
    if (tcp->conf->log_times.every_ms != 0)
        lt_loop_timer_set(conn->worker->loop, &tcp->log,
                          tcp->conf->log_times.every_ms * LT_NS_PER_MS);
    if (!is_begun && !begin(tcp))
        return;
    set_deadline(tcp);
    if (is_begun && tcp->is_open)
        px_tcp_run(conn);
}

/* --- a client that says nothing --- */

void px_tcp_guess(struct px_conn *conn, const struct px_chain *chain)
{
    struct px_tcp *tcp = make_tcp(conn, chain);
    tcp->is_guess = true;
    (void)begin(tcp);
}

const struct px_chain *px_tcp_chain(const struct px_conn *conn)
{
    return conn->tcp->chain;
}

void px_tcp_end(struct px_tcp *tcp)
{
    if (tcp->is_guess)
        px_tcp_abort(tcp->conn);
    else
        px_conn_close(tcp->conn);
}

/* --- moving bytes --- */

/* Of Istio's metrics, the peer is the client of an inbound listener, the server of another one. */
static void keep_peer(struct px_tcp *tcp, struct px_peer *peer, bool is_client)
{
    if (peer == NULL)
        return;
    if (is_client == tcp->conn->listener->is_inbound && tcp->peer == NULL)
        tcp->peer = peer;
    else
        px_peer_drop(&peer);
}

/* The prefaces before the first byte of each direction. LT_OK: payload may move. */
static lt_rc exchange(struct px_tcp *tcp, const struct px_side *side, bool is_to_server)
{
    struct px_exchange *from = is_to_server ? &tcp->with_client : &tcp->with_server;
    struct px_exchange *to = is_to_server ? &tcp->with_server : &tcp->with_client;
    struct px_peer *peer = NULL;
    LT_TRY(px_exchange_write(to, side->to, side->can_write));
    lt_rc rc = px_exchange_read(from, tcp->conn->worker, side->in, side->from, side->can_read,
                                is_to_server ? tcp->conn->principal : tcp->peer_principal, &peer);
    keep_peer(tcp, peer, is_to_server);
    if (rc == LT_EOF)
        *side->ended = true;
    return rc == LT_EOF ? LT_OK : rc;
}

static lt_rc move(struct px_tcp *tcp, const struct px_side *side, bool is_to_server)
{
    const struct px_exchange *from = is_to_server ? &tcp->with_client : &tcp->with_server;
    const struct px_exchange *to = is_to_server ? &tcp->with_server : &tcp->with_client;
    if (from->waits || to->out.len > 0)
        LT_TRY(exchange(tcp, side, is_to_server));
    return px_pump(tcp->conn->worker, side);
}

/* LT_OK: it has spoken, and not only told who it is. */
static lt_rc listen_to(struct px_tcp *tcp)
{
    struct px_worker *worker = tcp->conn->worker;
    struct px_upstream *up = tcp->up;
    struct px_exchange *with = &tcp->with_server;
    if (with->waits) {
        struct px_peer *peer = NULL;
        LT_TRY(px_exchange_write(with, &up->transport, &up->can_write));
        lt_rc rc = px_exchange_read(with, worker, &up->in, &up->transport, &up->can_read,
                                    tcp->peer_principal, &peer);
        keep_peer(tcp, peer, false);
        LT_TRY(rc);
    }
    if (up->in.pos < up->in.end)
        return LT_OK;
    return up->can_read ? px_input_read(worker, &up->in, &up->transport, &up->can_read) : LT_AGAIN;
}

/* A server that speaks first has decided; one that is silent, or ends, has not. */
static void hear_first(struct px_tcp *tcp)
{
    struct px_conn *conn = tcp->conn;
    struct px_upstream *up = tcp->up;
    lt_rc rc = listen_to(tcp);
    if (rc == LT_OK) {
        px_conn_spoken_to(conn);
    } else if (rc != LT_AGAIN) {
        px_tcp_abort(conn);
    } else if (up->in.pos == up->in.end) {
        px_input_free(conn->worker, &up->in);
    }
}

void px_tcp_run(struct px_conn *conn)
{
    struct px_tcp *tcp = conn->tcp;
    if (!tcp->is_open)
        return; /* what the client sends waits in the kernel */
    struct px_upstream *up = tcp->up;
    struct px_side to_server = {
        &conn->in,          &conn->transport,      &up->transport, &conn->can_read, &up->can_write,
        &tcp->client_ended, &tcp->client_end_sent, &tcp->received, &tcp->there};
    struct px_side to_client = {
        &up->in,          &up->transport,     &conn->transport,      &up->can_read,
        &conn->can_write, &tcp->server_ended, &tcp->server_end_sent, &tcp->sent,
        &tcp->back};
    uint64_t moved = tcp->received + tcp->sent;
    lt_rc there = move(tcp, &to_server, true);
    lt_rc back = move(tcp, &to_client, false);
    if (!tcp->is_told && !is_peer_due(tcp))
        tell_opened(tcp);
    if (px_is_over(there, back)) {
        px_conn_close(conn);
        return;
    }
    if (there == LT_OK || back == LT_OK)
        px_conn_yield(conn);
    if (tcp->received + tcp->sent == moved)
        return;
    set_deadline(tcp);
    tell_later(tcp);
}

/* --- from the upstream connection --- */

void px_tcp_on_upstream(struct px_tcp *tcp)
{
    struct px_worker *worker = tcp->conn->worker;
    if (!tcp->is_open) {
        tcp->is_open = true;
        px_host_note_connected(tcp->host, true);
        px_text_set(&tcp->peer_principal, px_intern(worker, lt_tls_peer_uri(&tcp->up->transport)));
        if (tcp->host->tls != NULL || tcp->chain->tls != NULL)
            px_text_set(&tcp->local_principal, px_text_take(worker->own_principal));
        tcp->conn->can_read = true; /* what came before the connection stood was not looked at */
        tcp->up->can_read = true;
        if (tcp->conf->log_times.at_start)
            write_lines(tcp, PX_LOG_TYPE_TCP_CONNECTED);
        if (tcp->chain->has_tcp_metadata_exchange)
            px_exchange_begin(&tcp->with_client, worker, &tcp->conn->transport);
        if (tcp->cluster->conf->has_tcp_metadata_exchange)
            px_exchange_begin(&tcp->with_server, worker, &tcp->up->transport);
    }
    if (tcp->is_guess)
        hear_first(tcp);
    else
        px_tcp_run(tcp->conn);
}

void px_tcp_on_upstream_failed(struct px_tcp *tcp, const struct px_failed *failed)
{
    keep_failure(tcp, failed);
    tcp->up = NULL;
    if (failed->how == PX_FAILED_TIMEOUT)
        px_host_note_timeout(tcp->host);
    else
        px_host_note_failed(tcp->host);
    if (tcp->attempts < tcp->conf->connect_attempts && !tcp->is_guess) {
        (void)connect_upstream(tcp);
        return;
    }
    give_up(tcp, PX_FLAG_UPSTREAM_FAILURE | PX_FLAG_CONNECT_LIMIT);
}
