/*
 * proxy/filter/net_ext_authz.c - envoy.filters.network.ext_authz: a server outside decides about
 * each connection.
 */
#include "proxy/conf/flags.h"
#include "proxy/conf/meta.h"
#include "proxy/filter/ext_authz.h"
#include "proxy/run/net_filter.h"
#include "proxy/told/count.h"

struct asking {
    struct px_authz_call call;
    struct px_conn *conn;
    const struct px_authz_conf *conf;
};

static void count(struct px_conn *conn, const struct px_authz_conf *conf, px_authz_stat stat)
{
    px_stat_add(conn->worker, &conf->stats[stat], 1);
}

/* Envoy gives no details here. */
static px_verdict refuse(struct px_conn *conn)
{
    px_net_refuse(conn, NULL, PX_FLAG_UNAUTHORIZED);
    return PX_STOP;
}

static px_verdict judge(struct px_conn *conn, const struct px_authz_conf *conf,
                        const struct px_authz_answer *answer)
{
    struct px_conn_more *more = px_conn_more(conn);
    if (answer->metadata != NULL)
        px_meta_merge(more->arena, &more->meta, LT_STR("envoy.filters.network.ext_authz"),
                      answer->metadata);
    switch (answer->result) {
    case PX_AUTHZ_OK: count(conn, conf, PX_AUTHZ_STAT_OK); return PX_GO;
    case PX_AUTHZ_DENIED: count(conn, conf, PX_AUTHZ_STAT_DENIED); return refuse(conn);
    case PX_AUTHZ_ERROR: break;
    }
    count(conn, conf, PX_AUTHZ_STAT_ERROR);
    if (!conf->failure_allows)
        return refuse(conn);
    count(conn, conf, PX_AUTHZ_STAT_FAILURE_ALLOWED);
    return PX_GO;
}

static void on_answer(struct px_authz_call *call)
{
    struct asking *asking = LT_CONTAINER_OF(call, struct asking, call);
    struct px_conn *conn = asking->conn;
    conn->more->net_state = NULL;
    px_net_filters_resume(conn, judge(conn, asking->conf, &call->answer));
}

static px_verdict on_connection(struct px_conn *conn, const struct px_net_filter *filter)
{
    const struct px_authz_conf *conf = filter->conf;
    struct px_conn_more *more = px_conn_more(conn);
    if (conf->enabled_meta != NULL && !px_meta_matches(conf->enabled_meta, more->meta)) {
        count(conn, conf, PX_AUTHZ_STAT_DISABLED);
        return PX_GO;
    }
    struct asking *asking = lt_arena_make(more->arena, struct asking);
    asking->conn = conn;
    asking->conf = conf;
    more->net_state = asking;
    px_stat_add(conn->worker, &conf->total, 1);
    struct px_authz_ask what = {
        .conf = conf, .service = &conf->service, .conn = conn, .arena = more->arena};
    px_authz_call_start(&asking->call, conn->worker, &what, on_answer);
    return PX_STAY;
}

static void on_end(struct px_conn *conn, const struct px_net_filter *filter LT_UNUSED)
{
    struct asking *asking = conn->more->net_state;
    if (asking != NULL)
        px_authz_call_cancel(&asking->call);
}

const struct px_net_ops px_net_ext_authz = {
    .name = "envoy.filters.network.ext_authz",
    .on_connection = on_connection,
    .on_end = on_end,
};
