/*
 * control/syncz.c - the page /debug/syncz in istiod's shape, which `istioctl proxy-status` reads:
 * nonces as the proxy sees them. Beside it, what is ours: what a proxy refuses and what waits.
 */
#include <stdio.h>

#include "control/discovery_priv.h"

/* NDS has none in istiod's shape. */
static const char *const prefixes[CP_TYPE_COUNT] = {[CP_TYPE_CDS] = "cluster",
                                                    [CP_TYPE_EDS] = "endpoint",
                                                    [CP_TYPE_LDS] = "listener",
                                                    [CP_TYPE_RDS] = "route"};

static const struct lt_ads_sub *find_sub(const struct stream *stream, cp_type type)
{
    return lt_ads_session_find(stream->session, lt_str_of(cp_type_url(type)));
}

static lt_str sent_nonce(const struct lt_ads_sub *sub, char out[LT_ADS_NONCE_TEXT_MAX])
{
    return lt_ads_sub_nonce(sub, lt_ads_sub_sent_seq(sub), out);
}

static lt_str acked_nonce(const struct lt_ads_sub *sub, char out[LT_ADS_NONCE_TEXT_MAX])
{
    return lt_ads_sub_nonce(sub, lt_ads_sub_acked_seq(sub), out);
}

static void write_if_any(struct lt_json_writer *w, const char *key, lt_str value)
{
    if (value.len > 0)
        lt_json_kv_str(w, key, value);
}

/* "cluster_sent", "cluster_acked". */
static void write_nonces(struct lt_json_writer *w, const struct stream *stream, cp_type type)
{
    char key[32], nonce[LT_ADS_NONCE_TEXT_MAX];
    const struct lt_ads_sub *sub = find_sub(stream, type);
    if (sub == NULL || prefixes[type] == NULL)
        return;
    snprintf(key, sizeof(key), "%s_sent", prefixes[type]);
    write_if_any(w, key, sent_nonce(sub, nonce));
    snprintf(key, sizeof(key), "%s_acked", prefixes[type]);
    write_if_any(w, key, acked_nonce(sub, nonce));
}

static void write_refused(struct lt_json_writer *w, const struct stream *stream, cp_type type)
{
    bool is_open = false;
    for (size_t i = 0; i < cp_proxy_refusal_count(stream->proxy); i++) {
        const struct cp_refusal *refusal = cp_proxy_refusal_at(stream->proxy, i);
        if (refusal->type != type)
            continue;
        if (!is_open) {
            lt_json_kv_object(w, "refused");
            is_open = true;
        }
        lt_json_key(w, lt_ads_resource_name(refusal->resource));
        lt_json_str(w, lt_str_of(refusal->why));
    }
    if (is_open)
        lt_json_object_close(w);
}

static void write_resource(struct lt_json_writer *w, const struct stream *stream, cp_type type)
{
    const struct lt_ads_sub *sub = find_sub(stream, type);
    const struct said *said = &stream->said[type];
    char nonce[LT_ADS_NONCE_TEXT_MAX], time[32];
    if (sub == NULL)
        return;
    lt_json_key(w, lt_str_of(cp_type_url(type)));
    lt_json_object_open(w);
    write_if_any(w, "sent", sent_nonce(sub, nonce));
    write_if_any(w, "acked", acked_nonce(sub, nonce));
    if (said->sent_ns != 0) {
        lt_time_format(said->sent_ns, time);
        lt_json_kv_str(w, "sentTime", lt_str_of(time));
    }
    if (said->error != NULL)
        lt_json_kv_str(w, "lastError", lt_str_of(said->error));
    write_refused(w, stream, type);
    lt_json_object_close(w);
}

static void write_stream(struct lt_json_writer *w, const struct stream *stream)
{
    const struct cp_node *node = stream->node;
    lt_json_object_open(w);
    lt_json_kv_str(w, "cluster_id", node->cluster_id);
    lt_json_key(w, LT_STR("proxy"));
    lt_json_strf(w, "%.*s.%.*s", LT_STR_ARG(node->name), LT_STR_ARG(node->ns));
    lt_json_kv_str(w, "proxy_type",
                   node->type == CP_NODE_ROUTER ? LT_STR("router") : LT_STR("sidecar"));
    write_if_any(w, "istio_version", node->istio_version);
    for (int type = 0; type < CP_TYPE_COUNT; type++)
        write_nonces(w, stream, (cp_type)type);
    lt_json_kv_object(w, "resources");
    for (int type = 0; type < CP_TYPE_COUNT; type++)
        write_resource(w, stream, (cp_type)type);
    lt_json_object_close(w);
    write_if_any(w, "waits_for", lt_str_of(cp_proxy_waits_for(stream->proxy)));
    lt_json_object_close(w);
}

void cp_discovery_syncz(const struct cp_discovery *discovery, struct lt_json_writer *w)
{
    lt_json_array_open(w);
    for (const struct lt_list *it = discovery->streams.next; it != &discovery->streams;
         it = it->next) {
        const struct stream *stream = LT_CONTAINER_OF(it, const struct stream, link);
        if (stream->proxy != NULL)
            write_stream(w, stream);
    }
    lt_json_array_close(w);
}
