/*
 * proxy/told/codec_stats.h - counters of what peers do wrong, or too often, by version of HTTP;
 * under Envoy's names where it has them. They count rare things: each is looked up when it happens,
 * and exists from then on.
 */
#ifndef LT_PROXY_TOLD_CODEC_STATS_H
#define LT_PROXY_TOLD_CODEC_STATS_H

#include "http/h2.h"
#include "proxy/run/run.h"

/* http1.<name>, http2.<name>; of hosts cluster.<cluster>.http2.<name> */
typedef enum {
#define LT_CODEC_STAT(id, name) PX_CODEC_##id,
#include "proxy/told/codec_stats.def"
#undef LT_CODEC_STAT
    PX_CODEC_STATS
} px_codec_stat;

/* http.<prefix>.<name> */
typedef enum {
    PX_HCM_PROTOCOL_ERROR,
    PX_HCM_PREMATURE_RESETS,
    PX_HCM_IDLE_TIMEOUT,
    PX_HCM_MAX_DURATION,
    PX_HCM_HEAD_TIMEOUT,
    PX_HCM_PATH_REFUSED,
    PX_HCM_PATH_REDIRECTED,
    /* internal redirects that were not followed */
    PX_HCM_REDIRECT_LOCATION,
    PX_HCM_REDIRECT_SCHEME,
    PX_HCM_REDIRECT_TOO_MANY,
    PX_HCM_REDIRECT_NO_ROUTE,
    PX_HCM_REDIRECT_PREDICATE,
    PX_HCM_STATS
} px_hcm_stat;

/* Of a client's connection. */
void px_codec_count(struct px_worker *worker, px_protocol protocol, px_codec_stat stat);
void px_hcm_count(struct px_worker *worker, const struct px_hcm_conf *hcm, px_hcm_stat stat);
/*
 * What the engine of a connection has seen since `told`, which is brought up to date. hcm: of a
 * client's connection; cluster: of a host's; the other is NULL.
 */
void px_codec_count_h2(struct px_worker *worker, const struct lt_h2_stats *now,
                       struct lt_h2_stats *told, const struct px_hcm_conf *hcm,
                       const struct px_cluster *cluster);
void px_codec_count_upstream(const struct px_cluster *cluster, px_codec_stat stat);

#endif
