/*
 * tests/fuzz/preface.c - aims at px_preface_read and px_telemetry_read_preface: what comes before raw
 * TCP when "istio-peer-exchange" was negotiated.
 * What must hold: a preface lies inside the bytes, and the same bytes with more behind give the same.
 */
#include "proxy/run/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct px_node_facts node = {.workload = {"w", 1}, .namespace = {"n", 1}};

static void read_message(lt_str message)
{
    struct lt_metric_set *set = lt_metric_set_new(100);
    struct px_telemetry *telemetry = px_telemetry_new(set, &node, NULL);
    struct px_peer *peer = px_telemetry_read_preface(telemetry, message, "");
    px_peer_drop(&peer);
    px_telemetry_free(&telemetry);
    lt_metric_set_free(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_str bytes = lt_str_make(data, size), message = LT_STR_NULL, again = LT_STR_NULL;
    lt_rc rc = px_preface_read(bytes, &message);
    read_message(bytes);
    if (rc != LT_OK)
        return 0;
    LT_ASSERT(message.ptr == bytes.ptr + PX_PREFACE_HEAD);
    LT_ASSERT(PX_PREFACE_HEAD + message.len <= bytes.len);
    LT_ASSERT(px_preface_read(lt_str_slice(bytes, 0, PX_PREFACE_HEAD + message.len), &again) ==
              LT_OK);
    LT_ASSERT(lt_str_eq(message, again));
    read_message(message);
    return 0;
}
