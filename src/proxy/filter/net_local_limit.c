/*
 * proxy/filter/net_local_limit.c - envoy.filters.network.local_ratelimit: how many connections
 * begin.
 */
#include "proxy/filter/local_limit.h"
#include "proxy/run/net_filter.h"
#include "proxy/told/count.h"

static px_verdict on_connection(struct px_conn *conn, const struct px_net_filter *filter)
{
    const struct px_limit_conf *conf = filter->conf;
    if (conf->enabled_ppm == 0 ||
        px_bucket_take(conf->all.bucket, &conf->all.size, px_now_ns(conn->worker)))
        return PX_GO;
    px_stat_add(conn->worker, &conf->limited, 1);
    px_net_refuse(conn, NULL, 0);
    return PX_STOP;
}

const struct px_net_ops px_net_local_limit = {
    .name = "envoy.filters.network.local_ratelimit",
    .on_connection = on_connection,
};
