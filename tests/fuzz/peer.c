/*
 * tests/fuzz/peer.c - aims at px_telemetry_read_peer: x-envoy-peer-metadata as any client may send
 * it, and at the labels that are made of it. The input is the bytes of a Struct, base64 comes before it;
 * when the first byte is '=', it is the base64 itself.
 * What must hold: the two headers are gone afterwards, and the metrics can be written.
 */
#include "proxy/told/telemetry.h"
#include "wire/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct px_node_facts node = {.workload = {"w", 1}, .namespace = {"n", 1}};

static void tell(struct px_telemetry *telemetry, struct px_peer *peer)
{
    const struct px_report report = {.is_inbound = true,
                                     .code = 200,
                                     .peer = peer,
                                     .workload = "",
                                     .peer_principal = "",
                                     .local_principal = "",
                                     .host_header = "",
                                     .cluster = "",
                                     .service_host = "",
                                     .service_name = "",
                                     .service_namespace = "",
                                     .route_name = ""};
    px_telemetry_http(telemetry, &report, &(struct px_http_result){.duration_ms = 1});
}

static void check_metrics(const struct lt_metric_set *set)
{
    struct lt_metric_cursor cursor = {0};
    struct lt_buf out;
    lt_buf_init(&out, 16 << 20);
    LT_ASSERT(lt_metric_render(set, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor, 8 << 20, &out) ==
              LT_EOF);
    LT_ASSERT(lt_str_is_utf8(lt_buf_str(&out)));
    lt_metric_cursor_fini(&cursor);
    lt_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_metric_set *set = lt_metric_set_new(100);
    struct px_telemetry *telemetry = px_telemetry_new(set, &node, NULL);
    struct lt_headers headers;
    lt_str bytes = lt_str_make(data, size);
    bool is_text = size > 0 && data[0] == '=', had = false;
    lt_headers_init(&headers, arena, 0, 0);
    lt_rc rc = lt_headers_set_id(&headers, LT_H_X_ENVOY_PEER_METADATA_ID, LT_STR("id"));
    if (rc == LT_OK)
        rc = lt_headers_set_id(&headers, LT_H_X_ENVOY_PEER_METADATA,
                               is_text ? lt_str_from(bytes, 1) : lt_base64_encode(arena, bytes));
    struct px_peer *peer = px_telemetry_read_peer(telemetry, &headers, "", &had);
    LT_ASSERT(rc != LT_OK || had);
    LT_ASSERT(headers.count == 0);
    tell(telemetry, peer);
    px_peer_drop(&peer);
    check_metrics(set);
    px_telemetry_free(&telemetry);
    lt_metric_set_free(&set);
    lt_arena_free(&arena);
    return 0;
}
