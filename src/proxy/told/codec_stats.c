/*
 * proxy/told/codec_stats.c - counters of codecs.
 */
#include "proxy/told/codec_stats.h"

static const char *const names[PX_CODEC_STATS] = {
#define LT_CODEC_STAT(id, name) [PX_CODEC_##id] = name,
#include "proxy/told/codec_stats.def"
#undef LT_CODEC_STAT
};

static const char *const hcm_names[PX_HCM_STATS] = {
    [PX_HCM_PROTOCOL_ERROR] = "downstream_cx_protocol_error",
    [PX_HCM_PREMATURE_RESETS] = "downstream_rq_too_many_premature_resets",
    [PX_HCM_IDLE_TIMEOUT] = "downstream_cx_idle_timeout",
    [PX_HCM_MAX_DURATION] = "downstream_cx_max_duration_reached",
    [PX_HCM_HEAD_TIMEOUT] = "downstream_rq_header_timeout",
    [PX_HCM_PATH_REFUSED] = "downstream_rq_failed_path_normalization",
    [PX_HCM_REDIRECT_LOCATION] = "passthrough_internal_redirect_bad_location",
    [PX_HCM_REDIRECT_SCHEME] = "passthrough_internal_redirect_unsafe_scheme",
    [PX_HCM_REDIRECT_TOO_MANY] = "passthrough_internal_redirect_too_many_redirects",
    [PX_HCM_REDIRECT_NO_ROUTE] = "passthrough_internal_redirect_no_route",
    [PX_HCM_REDIRECT_PREDICATE] = "passthrough_internal_redirect_predicate",
    [PX_HCM_PATH_REDIRECTED] = "downstream_rq_redirected_with_normalized_path",
};

enum { NAME_MAX_BYTES = 96 };

/* family: "envoy_http2_rx_reset"; stat: "http2.rx_reset", with $0 for the label's value. */
static struct lt_counter *counter(struct px_worker *worker, const char *family, const char *stat,
                                  const lt_str *label, lt_str value)
{
    const struct lt_metric_desc desc = {.name = lt_str_of(family),
                                        .kind = LT_METRIC_COUNTER,
                                        .stat = lt_str_of(stat),
                                        .labels = label,
                                        .label_count = label != NULL ? 1 : 0};
    return lt_metric_counter(lt_metric_family(worker->metrics, &desc), &value);
}

static void add(struct px_worker *worker, px_protocol protocol, const struct px_cluster *cluster,
                px_codec_stat stat, uint64_t by)
{
    static const lt_str label = {"cluster_name", 12};
    const char *codec = protocol == PX_PROTO_H2 ? "http2" : "http1";
    char family[NAME_MAX_BYTES], dotted[NAME_MAX_BYTES];
    if (by == 0)
        return;
    if (cluster == NULL) {
        snprintf(family, sizeof(family), "envoy_%s_%s", codec, names[stat]);
        snprintf(dotted, sizeof(dotted), "%s.%s", codec, names[stat]);
        lt_counter_add(counter(worker, family, dotted, NULL, LT_STR_NULL), by);
        return;
    }
    snprintf(family, sizeof(family), "envoy_cluster_%s_%s", codec, names[stat]);
    snprintf(dotted, sizeof(dotted), "cluster.$0.%s.%s", codec, names[stat]);
    lt_counter_add(counter(worker, family, dotted, &label, lt_str_of(cluster->label)), by);
}

void px_codec_count(struct px_worker *worker, px_protocol protocol, px_codec_stat stat)
{
    add(worker, protocol, NULL, stat, 1);
}

void px_codec_count_upstream(const struct px_cluster *cluster, px_codec_stat stat)
{
    add(cluster->worker, PX_PROTO_H2, cluster, stat, 1);
}

/* Istio ends its prefixes with ';', which ends the label's value there. */
void px_hcm_count(struct px_worker *worker, const struct px_hcm_conf *hcm, px_hcm_stat stat)
{
    static const lt_str label = {"http_conn_manager_prefix", 24};
    char family[NAME_MAX_BYTES], dotted[NAME_MAX_BYTES];
    bool has_mark = lt_str_ends(hcm->stat_prefix, LT_STR(";"));
    lt_str prefix = lt_str_slice(hcm->stat_prefix, 0, hcm->stat_prefix.len - has_mark);
    snprintf(family, sizeof(family), "envoy_http_%s", hcm_names[stat]);
    snprintf(dotted, sizeof(dotted), "http.$0%s.%s", has_mark ? ";" : "", hcm_names[stat]);
    lt_counter_add(counter(worker, family, dotted, &label, prefix), 1);
}

static void count_failure(struct px_worker *worker, lt_h2_fail fail, const struct px_hcm_conf *hcm,
                          const struct px_cluster *cluster)
{
    static const struct {
        lt_h2_fail fail;
        px_codec_stat stat;
    } floods[] = {
        {LT_H2_FAIL_EMPTY_FLOOD, PX_CODEC_EMPTY_FLOOD},
        {LT_H2_FAIL_PRIORITY_FLOOD, PX_CODEC_PRIORITY_FLOOD},
        {LT_H2_FAIL_UPDATE_FLOOD, PX_CODEC_UPDATE_FLOOD},
        {LT_H2_FAIL_CONTROL_FLOOD, PX_CODEC_CONTROL_FLOOD},
        {LT_H2_FAIL_CONTINUATION_FLOOD, PX_CODEC_CONTINUATION_FLOOD},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(floods); i++) {
        if (fail == floods[i].fail)
            add(worker, PX_PROTO_H2, cluster, floods[i].stat, 1);
    }
    if (hcm == NULL)
        return;
    px_hcm_count(worker, hcm,
                 fail == LT_H2_FAIL_RESET_FLOOD ? PX_HCM_PREMATURE_RESETS : PX_HCM_PROTOCOL_ERROR);
}

void px_codec_count_h2(struct px_worker *worker, const struct lt_h2_stats *now,
                       struct lt_h2_stats *told, const struct px_hcm_conf *hcm,
                       const struct px_cluster *cluster)
{
    const struct {
        px_codec_stat stat;
        uint64_t by;
    } news[] = {
        {PX_CODEC_RX_RESET, now->resets_received - told->resets_received},
        {PX_CODEC_TX_RESET, now->resets_sent - told->resets_sent},
        {PX_CODEC_MESSAGING_ERROR, now->messages_refused - told->messages_refused},
        {PX_CODEC_HEADER_OVERFLOW, now->header_lists_over_limit - told->header_lists_over_limit},
        {PX_CODEC_GOAWAY_SENT, now->goaways_sent - told->goaways_sent},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(news); i++)
        add(worker, PX_PROTO_H2, cluster, news[i].stat, news[i].by);
    if (now->fail != told->fail)
        count_failure(worker, now->fail, hcm, cluster);
    *told = *now;
}
