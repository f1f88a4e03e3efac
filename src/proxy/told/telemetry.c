/*
 * proxy/told/telemetry.c - Istio's standard metrics.
 * A request costs one lookup in a small cache: the labels of a report are all interned pointers and
 * numbers, so equal reports have equal bytes, and the handles of their series are kept under a hash
 * of these.
 * Start at: px_telemetry_http().
 */
#include "proxy/told/telemetry.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/conf/flags.h"
#include "proxy/conf/intern.h"
#include "wire/any.h"
#include "wire/base64.h"
#include "wire/pb.h"
#include "wire/struct.h"

enum {
    PEERS_MAX = 500, /* per worker, as Istio's filter keeps */
    METADATA_MAX = 64 * 1024,
    CACHE_SLOTS = 1024, /* a power of two */
    LABELS_MAX = 25,
    CUSTOMS_MAX = 16,
    VALUES_MAX = LT_METRIC_LABELS_MAX,
};

struct px_peer {
    lt_str id; /* all slices in the arena */
    lt_str workload, namespace, cluster, app, version, canonical_service, canonical_revision,
        identity;
    const char *principal; /* counted text; who said so */
    struct lt_arena *arena;
    uint32_t refs; /* the map, slots that name it, requests */
};

struct slot {
    struct px_report report; /* is_used false: empty */
    bool is_used;
    struct lt_counter *requests;
    struct lt_histogram *duration, *request_bytes, *response_bytes;
};

/* Families of one override. */
struct custom {
    uint64_t id; /* of px_stats_conf; 0: free */
    struct lt_metric_family *families[PX_METRICS];
};

struct px_telemetry {
    const struct px_node_facts *node;    /* borrowed */
    struct lt_metric_set *set;           /* borrowed */
    const struct px_stats_config *stats; /* borrowed; NULL */
    struct lt_map peers;                 /* id -> struct px_peer, counted */
    struct slot *slots;                  /* owned; made on first use */
    uint32_t stranger_series;            /* of PX_STRANGER_SERIES_MAX */
    struct lt_metric_family *families[PX_METRICS];
    struct custom customs[CUSTOMS_MAX]; /* the latest first; family NULL until it is used */
    struct lt_counter *collapsed;       /* requests whose labels say "unknown" for want of room */
};

/* --- families --- */

static const lt_str label_names[LABELS_MAX] = {
    {"reporter", 8},
    {"source_workload", 15},
    {"source_canonical_service", 24},
    {"source_canonical_revision", 25},
    {"source_workload_namespace", 25},
    {"source_principal", 16},
    {"source_app", 10},
    {"source_version", 14},
    {"source_cluster", 14},
    {"destination_workload", 20},
    {"destination_workload_namespace", 30},
    {"destination_principal", 21},
    {"destination_app", 15},
    {"destination_version", 19},
    {"destination_service", 19},
    {"destination_canonical_service", 29},
    {"destination_canonical_revision", 30},
    {"destination_service_name", 24},
    {"destination_service_namespace", 29},
    {"destination_cluster", 19},
    {"request_protocol", 16},
    {"response_code", 13},
    {"grpc_response_status", 20},
    {"response_flags", 14},
    {"connection_security_policy", 26},
};

/* TCP has neither response_code nor grpc_response_status. */
static const unsigned tcp_labels[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                      12, 13, 14, 15, 16, 17, 18, 19, 20, 23, 24};

/* Messages have only who speaks with whom. */
static const unsigned message_labels[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,
                                          10, 11, 12, 13, 14, 15, 16, 17, 18, 19};

static const struct {
    const char *name;
    lt_metric_kind kind;
    const unsigned *labels; /* NULL: all */
    uint32_t count;
} metrics[PX_METRICS] = {
    [PX_METRIC_REQUESTS] = {"istio_requests_total", LT_METRIC_COUNTER, NULL, LABELS_MAX},
    [PX_METRIC_DURATION] = {"istio_request_duration_milliseconds", LT_METRIC_HISTOGRAM, NULL,
                            LABELS_MAX},
    [PX_METRIC_REQUEST_BYTES] = {"istio_request_bytes", LT_METRIC_HISTOGRAM, NULL, LABELS_MAX},
    [PX_METRIC_RESPONSE_BYTES] = {"istio_response_bytes", LT_METRIC_HISTOGRAM, NULL, LABELS_MAX},
    [PX_METRIC_REQUEST_MESSAGES] = {"istio_request_messages_total", LT_METRIC_COUNTER,
                                    message_labels, LT_ARRAY_LEN(message_labels)},
    [PX_METRIC_RESPONSE_MESSAGES] = {"istio_response_messages_total", LT_METRIC_COUNTER,
                                     message_labels, LT_ARRAY_LEN(message_labels)},
    [PX_METRIC_TCP_OPENED] = {"istio_tcp_connections_opened_total", LT_METRIC_COUNTER, tcp_labels,
                              LT_ARRAY_LEN(tcp_labels)},
    [PX_METRIC_TCP_CLOSED] = {"istio_tcp_connections_closed_total", LT_METRIC_COUNTER, tcp_labels,
                              LT_ARRAY_LEN(tcp_labels)},
    [PX_METRIC_TCP_SENT] = {"istio_tcp_sent_bytes_total", LT_METRIC_COUNTER, tcp_labels,
                            LT_ARRAY_LEN(tcp_labels)},
    [PX_METRIC_TCP_RECEIVED] = {"istio_tcp_received_bytes_total", LT_METRIC_COUNTER, tcp_labels,
                                LT_ARRAY_LEN(tcp_labels)},
};

/* Which of all labels is the i-th of this metric. */
static unsigned label_at(px_metric metric, uint32_t i)
{
    return metrics[metric].labels != NULL ? metrics[metric].labels[i] : i;
}

px_metric px_metric_find(lt_str name)
{
    static const lt_str prefix = {"istio_", 6};
    for (unsigned i = 0; i < PX_METRICS; i++) {
        lt_str own = lt_str_of(metrics[i].name);
        if (lt_str_eq(name, own) || lt_str_eq(name, lt_str_from(own, prefix.len)))
            return (px_metric)i;
    }
    return PX_METRICS;
}

static struct lt_metric_family *make_family(struct px_telemetry *telemetry, px_metric metric)
{
    lt_str labels[LABELS_MAX];
    for (uint32_t i = 0; i < metrics[metric].count; i++)
        labels[i] = label_names[label_at(metric, i)];
    const struct lt_metric_desc desc = {
        .name = lt_str_of(metrics[metric].name),
        .kind = metrics[metric].kind,
        .labels = labels,
        .label_count = metrics[metric].count,
        .buckets = px_stats_bounds(telemetry->stats, metrics[metric].name)};
    return lt_metric_family(telemetry->set, &desc);
}

struct px_telemetry *px_telemetry_new(struct lt_metric_set *set, const struct px_node_facts *node,
                                      const struct px_stats_config *stats)
{
    struct px_telemetry *telemetry = lt_new(struct px_telemetry);
    telemetry->node = node;
    telemetry->set = set;
    telemetry->stats = stats;
    const struct lt_metric_desc collapsed = {.name = LT_STR("lateen_telemetry_collapsed_total"),
                                             .kind = LT_METRIC_COUNTER,
                                             .stat = LT_STR("lateen.telemetry.collapsed")};
    telemetry->collapsed = lt_metric_counter(lt_metric_family(set, &collapsed), NULL);
    for (unsigned i = 0; i < PX_METRICS; i++)
        telemetry->families[i] = make_family(telemetry, (px_metric)i);
    return telemetry;
}

const struct px_node_facts *px_telemetry_node(const struct px_telemetry *telemetry)
{
    return telemetry->node;
}

static struct px_peer *peer_take(struct px_peer *peer)
{
    peer->refs++;
    return peer;
}

void px_peer_drop(struct px_peer **peer)
{
    struct px_peer *dropped = *peer;
    *peer = NULL;
    if (dropped == NULL || --dropped->refs > 0)
        return;
    struct lt_arena *arena = dropped->arena; /* it holds the peer, too */
    px_text_drop(&dropped->principal);
    lt_arena_free(&arena);
}

static const size_t text_members[] = {
    offsetof(struct px_report, workload),        offsetof(struct px_report, peer_principal),
    offsetof(struct px_report, local_principal), offsetof(struct px_report, host_header),
    offsetof(struct px_report, cluster),         offsetof(struct px_report, service_host),
    offsetof(struct px_report, service_name),    offsetof(struct px_report, service_namespace),
};

static const char **text_member(struct px_report *report, size_t index)
{
    return (const char **)((char *)report + text_members[index]);
}

static void clear_slot(struct slot *slot)
{
    if (!slot->is_used)
        return;
    px_peer_drop(&slot->report.peer);
    for (size_t i = 0; i < LT_ARRAY_LEN(text_members); i++)
        px_text_drop(text_member(&slot->report, i));
    slot->is_used = false;
}

static void fill_slot(struct slot *slot, const struct px_report *report)
{
    slot->is_used = true;
    slot->report = *report;
    if (report->peer != NULL)
        peer_take(report->peer);
    for (size_t i = 0; i < LT_ARRAY_LEN(text_members); i++)
        px_text_take(*text_member(&slot->report, i));
}

/* Who still reports one of them holds it. */
static void forget_peers(struct px_telemetry *telemetry, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct px_peer *peer = telemetry->peers.entries[0].value;
        lt_map_remove(&telemetry->peers, peer->id);
        px_peer_drop(&peer);
    }
}

void px_telemetry_free(struct px_telemetry **pointer)
{
    struct px_telemetry *telemetry = *pointer;
    *pointer = NULL;
    if (telemetry == NULL)
        return;
    for (size_t i = 0; telemetry->slots != NULL && i < CACHE_SLOTS; i++)
        clear_slot(&telemetry->slots[i]);
    forget_peers(telemetry, telemetry->peers.count);
    lt_map_fini(&telemetry->peers);
    free(telemetry->slots);
    free(telemetry);
}

/* --- peers --- */

static lt_str keep(struct lt_arena *arena, lt_str text)
{
    return text.len > 0 ? lt_arena_str(arena, text) : LT_STR_NULL;
}

/* Labels of an app may come under its recommended name, which wins. */
static lt_str label(const Pb__Struct *labels, const char *name, const char *fallback)
{
    lt_str value = lt_struct_find_str(labels, name);
    return value.len > 0 || fallback == NULL ? value : lt_struct_find_str(labels, fallback);
}

static lt_rc decode(struct lt_arena *scratch, lt_str text, bool is_base64, struct px_peer *peer)
{
    lt_str bytes = text;
    Pb__Struct *st = NULL, *labels = NULL;
    if (is_base64)
        LT_TRY(lt_base64_decode(scratch, text, &bytes));
    LT_TRY(lt_pb_unpack(scratch, &pb__struct__descriptor, bytes, NULL, &st, NULL));
    if (lt_struct_find_struct(scratch, st, "LABELS", &labels, NULL) != LT_OK)
        labels = NULL;
    peer->workload = keep(peer->arena, lt_struct_find_str(st, "WORKLOAD_NAME"));
    peer->namespace = keep(peer->arena, lt_struct_find_str(st, "NAMESPACE"));
    peer->cluster = keep(peer->arena, lt_struct_find_str(st, "CLUSTER_ID"));
    peer->identity = keep(peer->arena, lt_struct_find_str(st, "IDENTITY"));
    peer->app = keep(peer->arena, label(labels, "app.kubernetes.io/name", "app"));
    peer->version = keep(peer->arena, label(labels, "app.kubernetes.io/version", "version"));
    peer->canonical_service = keep(peer->arena,
                                   label(labels, "service.istio.io/canonical-name", NULL));
    peer->canonical_revision = keep(peer->arena,
                                    label(labels, "service.istio.io/canonical-revision", NULL));
    return LT_OK;
}

static struct px_peer *learn(struct px_telemetry *telemetry, lt_str id, lt_str text, bool is_base64,
                             const char *principal)
{
    if (text.len > METADATA_MAX)
        return NULL;
    struct lt_arena *arena = lt_arena_new(512, 0), *scratch = lt_arena_new(4096, 0);
    struct px_peer *peer = lt_arena_make(arena, struct px_peer);
    peer->arena = arena;
    peer->refs = 1;
    peer->id = lt_arena_str(arena, id);
    lt_rc rc = decode(scratch, text, is_base64, peer);
    lt_arena_free(&scratch);
    if (rc != LT_OK) {
        lt_arena_free(&arena);
        return NULL;
    }
    peer->principal = px_text_take(principal);
    struct px_peer *before = lt_map_remove(&telemetry->peers, id);
    px_peer_drop(&before);
    if (telemetry->peers.count >= PEERS_MAX)
        forget_peers(telemetry, PEERS_MAX / 4);
    lt_map_put(&telemetry->peers, peer->id, peer);
    return peer;
}

/* What was said under an id holds for who said it: another may not speak in his name. */
static struct px_peer *find_peer(const struct px_telemetry *telemetry, lt_str id,
                                 const char *principal)
{
    struct px_peer *peer = id.len > 0 ? lt_map_find(&telemetry->peers, id) : NULL;
    return peer != NULL && strcmp(peer->principal, principal) == 0 ? peer : NULL;
}

struct px_peer *px_telemetry_read_peer(struct px_telemetry *telemetry, struct lt_headers *headers,
                                       const char *principal, bool *ret_had)
{
    lt_str id = lt_headers_value(headers, LT_H_X_ENVOY_PEER_METADATA_ID);
    lt_str base64 = lt_headers_value(headers, LT_H_X_ENVOY_PEER_METADATA);
    *ret_had = id.ptr != NULL || base64.ptr != NULL;
    if (!*ret_had)
        return NULL;
    struct px_peer *peer = find_peer(telemetry, id, principal);
    if (peer == NULL && id.len > 0 && base64.len > 0)
        peer = learn(telemetry, id, base64, true, principal);
    lt_headers_remove(headers, LT_H_X_ENVOY_PEER_METADATA_ID);
    lt_headers_remove(headers, LT_H_X_ENVOY_PEER_METADATA);
    return peer != NULL ? peer_take(peer) : NULL;
}

struct px_peer *px_telemetry_read_preface(struct px_telemetry *telemetry, lt_str message,
                                          const char *principal)
{
    struct lt_arena *scratch = lt_arena_new(0, 0);
    Pb__Any *any = NULL;
    Pb__Struct *st = NULL;
    struct px_peer *peer = NULL;
    lt_rc rc = lt_pb_unpack(scratch, &pb__any__descriptor, message, NULL, &any, NULL);
    if (rc == LT_OK)
        rc = lt_any_unpack_as(scratch, any, &pb__struct__descriptor, NULL, &st, NULL);
    lt_str id = rc == LT_OK ? lt_struct_find_str(st, "x-envoy-peer-metadata-id") : LT_STR_NULL;
    const Pb__Value *value = rc == LT_OK ? lt_struct_find(st, LT_STR("x-envoy-peer-metadata"))
                                         : NULL;
    if (id.len > 0 && value != NULL && value->kind_case == PB__VALUE__KIND_STRUCT_VALUE) {
        peer = find_peer(telemetry, id, principal);
        if (peer == NULL)
            peer = learn(telemetry, id, lt_pb_bytes(value->struct_value), false, principal);
    }
    lt_arena_free(&scratch);
    return peer != NULL ? peer_take(peer) : NULL;
}

lt_str px_telemetry_preface(const struct px_telemetry *telemetry)
{
    return telemetry->node->preface;
}

void px_telemetry_add_own(const struct px_telemetry *telemetry, struct lt_headers *headers)
{
    if (telemetry->node->id.len == 0 || telemetry->node->peer_metadata.len == 0)
        return;
    /* a head that is full goes on without them: metrics are worth less than the request */
    lt_rc rc = lt_headers_set_id(headers, LT_H_X_ENVOY_PEER_METADATA_ID, telemetry->node->id);
    if (rc == LT_OK)
        rc = lt_headers_set_id(headers, LT_H_X_ENVOY_PEER_METADATA, telemetry->node->peer_metadata);
    (void)rc;
}

lt_str px_peer_field(const struct px_peer *peer, lt_str name)
{
    const struct {
        const char *name;
        lt_str value;
    } fields[] = {
        {"workload", peer->workload},
        {"name", peer->workload},
        {"namespace", peer->namespace},
        {"cluster", peer->cluster},
        {"app", peer->app},
        {"version", peer->version},
        {"service", peer->canonical_service},
        {"revision", peer->canonical_revision},
        {"identity", peer->identity},
        {"id", peer->id},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(fields); i++) {
        if (lt_str_eqz(name, fields[i].name))
            return fields[i].value;
    }
    return LT_STR_NULL;
}

/* --- labels --- */

/* One end of a connection, as labels name it. */
struct end {
    lt_str workload, namespace, principal, app, version, cluster, canonical_service,
        canonical_revision;
};

static lt_str or_unknown(lt_str text)
{
    return text.len > 0 ? text : LT_STR("unknown");
}

static lt_str or_latest(lt_str text)
{
    return text.len > 0 ? text : LT_STR("latest");
}

/* "spiffe://td/ns/<namespace>/sa/x" */
static lt_str namespace_of(const char *principal)
{
    lt_str text = lt_str_of(principal), mark = LT_STR("/ns/"), namespace = LT_STR_NULL;
    ptrdiff_t at = lt_str_find(text, mark);
    if (at < 0)
        return namespace;
    lt_str rest = lt_str_from(text, (size_t)at + mark.len);
    lt_str_split(&rest, '/', &namespace);
    return namespace;
}

static struct end own_end(const struct px_telemetry *telemetry, const struct px_report *report)
{
    const struct px_node_facts *node = telemetry->node;
    return (struct end){
        .workload = node->workload,
        .namespace = node->namespace,
        .principal = or_unknown(lt_str_of(report->local_principal)),
        .app = node->app,
        .version = node->version,
        .cluster = node->cluster_id,
        .canonical_service = node->canonical_service,
        .canonical_revision = node->canonical_revision,
    };
}

/*
 * Endpoint metadata "<workload>;<ns>;<canonical svc>;<canonical rev, empty for latest>;<cluster>".
 */
static void fill_from_endpoint(const char *text, struct end *end)
{
    lt_str rest = lt_str_of(text), part;
    lt_str *const fields[] = {&end->workload, &end->namespace, &end->canonical_service,
                              &end->canonical_revision, &end->cluster};
    for (size_t i = 0; rest.len > 0 && i < LT_ARRAY_LEN(fields) && lt_str_split(&rest, ';', &part);
         i++) {
        if (fields[i]->len == 0)
            *fields[i] = part;
    }
}

static struct end peer_end(const struct px_report *report)
{
    struct end end = {.namespace = namespace_of(report->peer_principal),
                      .principal = lt_str_of(report->peer_principal)};
    const struct px_peer *peer = report->peer;
    if (peer != NULL) {
        end.workload = peer->workload;
        end.namespace = end.namespace.len > 0 ? end.namespace : peer->namespace;
        end.app = peer->app;
        end.version = peer->version;
        end.cluster = peer->cluster;
        end.canonical_service = peer->canonical_service;
        end.canonical_revision = peer->canonical_revision;
        if (end.principal.len == 0 && !report->is_inbound)
            end.principal = peer->identity;
    } else if (!report->is_inbound) {
        fill_from_endpoint(report->workload, &end);
    }
    end.workload = or_unknown(end.workload);
    end.namespace = or_unknown(end.namespace);
    end.principal = or_unknown(end.principal);
    end.app = or_unknown(end.app);
    end.version = or_unknown(end.version);
    end.cluster = or_unknown(end.cluster);
    end.canonical_service = or_unknown(end.canonical_service);
    end.canonical_revision = or_latest(end.canonical_revision);
    return end;
}

struct service {
    lt_str host, name, namespace;
};

static bool is_named_cluster(lt_str name)
{
    return lt_str_eqz(name, "PassthroughCluster") || lt_str_eqz(name, "BlackHoleCluster") ||
           lt_str_starts(name, LT_STR("InboundPassthroughCluster"));
}

static struct service service_of(const struct px_telemetry *telemetry,
                                 const struct px_report *report, const struct end *peer)
{
    const struct px_node_facts *node = telemetry->node;
    struct service service = {lt_str_of(report->service_host), lt_str_of(report->service_name),
                              lt_str_of(report->service_namespace)};
    lt_str cluster = lt_str_of(report->cluster);
    if (report->is_inbound) {
        service.host = service.host.len > 0 ? service.host : or_unknown(node->canonical_service);
        service.name = service.name.len > 0 ? service.name : or_unknown(node->canonical_service);
        service.namespace = node->namespace;
        return service;
    }
    if (service.host.len == 0)
        service.host = or_unknown(lt_str_of(report->host_header));
    if (service.name.len == 0) {
        service.name = service.host;
        if (is_named_cluster(cluster))
            service.name = cluster;
        else if (strcmp(report->route_name, "block_all") == 0)
            service.name = LT_STR("BlackHoleCluster");
        else if (strcmp(report->route_name, "allow_any") == 0)
            service.name = LT_STR("PassthroughCluster");
    }
    if (service.namespace.len == 0)
        service.namespace = peer->namespace;
    return service;
}

struct label_text {
    char code[16], grpc_status[16];
    char flags[PX_FLAGS_TEXT_MAX];
};

static void fill_labels(const struct px_telemetry *telemetry, const struct px_report *report,
                        const char *protocol, struct label_text *text, lt_str values[LABELS_MAX])
{
    struct end own = own_end(telemetry, report), peer = peer_end(report);
    struct service service = service_of(telemetry, report, &peer);
    const struct end *source = report->is_inbound ? &peer : &own;
    const struct end *target = report->is_inbound ? &own : &peer;
    snprintf(text->code, sizeof(text->code), "%u", report->code);
    text->grpc_status[0] = '\0';
    if (report->grpc_status != 0)
        snprintf(text->grpc_status, sizeof(text->grpc_status), "%u", report->grpc_status - 1);
    const lt_str all[LABELS_MAX] = {
        report->is_inbound ? LT_STR("destination") : LT_STR("source"),
        source->workload,
        source->canonical_service,
        source->canonical_revision,
        source->namespace,
        source->principal,
        source->app,
        source->version,
        source->cluster,
        target->workload,
        target->namespace,
        target->principal,
        target->app,
        target->version,
        service.host,
        target->canonical_service,
        target->canonical_revision,
        service.name,
        service.namespace,
        target->cluster,
        lt_str_of(protocol),
        lt_str_of(text->code),
        lt_str_of(text->grpc_status),
        px_flags_format(report->flags, text->flags),
        !report->is_inbound     ? LT_STR("unknown")
        : report->is_mutual_tls ? LT_STR("mutual_tls")
                                : LT_STR("none"),
    };
    memcpy(values, all, sizeof(all));
}

/* --- HTTP --- */

static bool same_report(const struct px_report *a, const struct px_report *b)
{
    return a->is_inbound == b->is_inbound && a->is_grpc == b->is_grpc &&
           a->is_mutual_tls == b->is_mutual_tls && a->code == b->code && a->flags == b->flags &&
           a->peer == b->peer && a->workload == b->workload &&
           a->peer_principal == b->peer_principal && a->local_principal == b->local_principal &&
           a->host_header == b->host_header && a->cluster == b->cluster &&
           a->service_host == b->service_host && a->service_name == b->service_name &&
           a->service_namespace == b->service_namespace && a->route_name == b->route_name &&
           a->grpc_status == b->grpc_status;
}

/* Without the service: it follows from the cluster, but for the moment when that changes. */
static uint64_t report_hash(const struct px_report *report)
{
    const uint64_t parts[] = {
        (uint64_t)report->is_inbound | (uint64_t)report->is_grpc << 1 |
            (uint64_t)report->is_mutual_tls << 2 | (uint64_t)report->code << 8 |
            (uint64_t)report->flags << 32,
        (uintptr_t)report->peer,
        (uintptr_t)report->workload,
        (uintptr_t)report->peer_principal,
        (uintptr_t)report->local_principal,
        (uintptr_t)report->host_header,
        (uintptr_t)report->cluster,
        (uintptr_t)report->route_name ^ (uint64_t)report->grpc_status << 48,
    };
    uint64_t hash = 0;
    for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++)
        hash = (hash ^ parts[i]) * 0x9E3779B97F4A7C15ull, hash ^= hash >> 29;
    return hash;
}

static void find_series(struct px_telemetry *telemetry, struct slot *slot,
                        const lt_str values[LABELS_MAX])
{
    slot->requests = lt_metric_counter(telemetry->families[PX_METRIC_REQUESTS], values);
    slot->duration = lt_metric_histogram(telemetry->families[PX_METRIC_DURATION], values);
    slot->request_bytes = lt_metric_histogram(telemetry->families[PX_METRIC_REQUEST_BYTES], values);
    slot->response_bytes = lt_metric_histogram(telemetry->families[PX_METRIC_RESPONSE_BYTES],
                                               values);
}

static bool has_peer_without_proof(const struct px_report *report)
{
    return report->peer != NULL && report->peer_principal[0] == '\0';
}

static bool is_by_stranger(const struct px_report *report)
{
    return report->host_header[0] != '\0' || has_peer_without_proof(report);
}

/* The same without what a stranger made up. */
static struct px_report collapse(const struct px_report *report)
{
    struct px_report plain = *report;
    plain.host_header = "";
    if (has_peer_without_proof(report))
        plain.peer = NULL;
    return plain;
}

static struct slot *find_slot(struct px_telemetry *telemetry, const struct px_report *report)
{
    if (telemetry->slots == NULL)
        telemetry->slots = lt_calloc(CACHE_SLOTS, sizeof(*telemetry->slots));
    struct slot *slot = &telemetry->slots[report_hash(report) & (CACHE_SLOTS - 1)];
    if (slot->is_used && same_report(&slot->report, report))
        return slot;
    struct label_text text;
    lt_str values[LABELS_MAX];
    fill_labels(telemetry, report, report->is_grpc ? "grpc" : "http", &text, values);
    bool is_by_stranger_now = is_by_stranger(report);
    if (is_by_stranger_now && telemetry->stranger_series >= PX_STRANGER_SERIES_MAX &&
        !lt_metric_has(telemetry->families[PX_METRIC_REQUESTS], values)) {
        struct px_report plain = collapse(report);
        lt_counter_add(telemetry->collapsed, 1);
        return find_slot(telemetry, &plain);
    }
    clear_slot(slot);
    fill_slot(slot, report);
    uint32_t before = lt_metric_set_series(telemetry->set);
    find_series(telemetry, slot, values);
    if (is_by_stranger_now)
        telemetry->stranger_series += lt_metric_set_series(telemetry->set) - before;
    return slot;
}

/* --- overrides --- */

static const struct px_tag_conf *find_tag(const struct px_metric_conf *conf, lt_str name)
{
    for (size_t i = 0; i < conf->tag_count; i++) {
        if (lt_str_eq(conf->tags[i].name, name))
            return &conf->tags[i];
    }
    return NULL;
}

/* Labels of one metric of one report, with their names. */
struct labels {
    lt_str names[VALUES_MAX], values[VALUES_MAX];
    uint32_t count;
    bool has_made; /* some value is an expression's */
};

static lt_str evaluate(const struct px_report *report, const struct px_cel *cel,
                       struct lt_arena *arena)
{
    struct px_cel_value value = px_cel_eval(cel, arena, report->find, report->find_ctx);
    return px_cel_text(&value, arena);
}

static void add_label(struct labels *labels, lt_str name, lt_str value)
{
    if (labels->count == VALUES_MAX)
        return;
    labels->names[labels->count] = name;
    labels->values[labels->count++] = value;
}

/* Those of Istio as overridden, then those that are new. */
static void make_labels(const struct px_report *report, px_metric metric,
                        const lt_str all[LABELS_MAX], bool is_collapsed, struct lt_arena *arena,
                        struct labels *labels)
{
    const struct px_metric_conf *conf = &report->stats->metrics[metric];
    labels->count = 0;
    labels->has_made = false;
    for (uint32_t i = 0; i < metrics[metric].count; i++) {
        unsigned at = label_at(metric, i);
        const struct px_tag_conf *tag = find_tag(conf, label_names[at]);
        if (tag == NULL)
            add_label(labels, label_names[at], all[at]);
    }
    for (size_t i = 0; i < conf->tag_count; i++) {
        if (conf->tags[i].cel == NULL)
            continue;
        labels->has_made = true;
        add_label(labels, conf->tags[i].name,
                  is_collapsed ? LT_STR("unknown") : evaluate(report, conf->tags[i].cel, arena));
    }
}

static struct custom *find_custom(struct px_telemetry *telemetry, uint64_t id)
{
    struct custom *customs = telemetry->customs;
    size_t at = 0;
    while (at < CUSTOMS_MAX - 1 && customs[at].id != id && customs[at].id != 0)
        at++;
    struct custom found = customs[at];
    if (found.id != id)
        found = (struct custom){.id = id};
    memmove(&customs[1], &customs[0], at * sizeof(*customs));
    customs[0] = found;
    return &customs[0];
}

static struct lt_metric_family *custom_family(struct px_telemetry *telemetry,
                                              const struct px_report *report, px_metric metric,
                                              const struct labels *labels)
{
    struct custom *custom = find_custom(telemetry, report->stats->id);
    struct lt_metric_family **family = &custom->families[metric];
    if (*family == NULL) {
        const struct lt_metric_desc desc = {
            .name = lt_str_of(metrics[metric].name),
            .kind = metrics[metric].kind,
            .labels = labels->names,
            .label_count = labels->count,
            .buckets = px_stats_bounds(telemetry->stats, metrics[metric].name)};
        *family = lt_metric_family(telemetry->set, &desc);
    }
    return *family;
}

/* The series, or NULL: the metric is turned off. */
static void *custom_series(struct px_telemetry *telemetry, const struct px_report *report,
                           px_metric metric, const lt_str all[LABELS_MAX], struct lt_arena *arena)
{
    struct labels labels;
    if (report->stats->metrics[metric].is_dropped)
        return NULL;
    make_labels(report, metric, all, false, arena, &labels);
    struct lt_metric_family *family = custom_family(telemetry, report, metric, &labels);
    bool is_new = labels.has_made && !lt_metric_has(family, labels.values);
    if (is_new && telemetry->stranger_series >= PX_STRANGER_SERIES_MAX) {
        lt_counter_add(telemetry->collapsed, 1);
        make_labels(report, metric, all, true, arena, &labels);
    } else if (is_new) {
        telemetry->stranger_series++;
    }
    return metrics[metric].kind == LT_METRIC_HISTOGRAM
               ? (void *)lt_metric_histogram(family, labels.values)
               : (void *)lt_metric_counter(family, labels.values);
}

static void observe(struct px_telemetry *telemetry, const struct px_report *report,
                    px_metric metric, const lt_str all[LABELS_MAX], double value)
{
    struct lt_arena *arena = lt_arena_new(4096, 0);
    void *series = custom_series(telemetry, report, metric, all, arena);
    if (series != NULL && metrics[metric].kind == LT_METRIC_HISTOGRAM)
        lt_histogram_observe(series, value);
    else if (series != NULL)
        lt_counter_add(series, (uint64_t)value);
    lt_arena_free(&arena);
}

static void http_overridden(struct px_telemetry *telemetry, const struct px_report *report,
                            const struct px_http_result *result)
{
    struct label_text text;
    lt_str all[LABELS_MAX];
    fill_labels(telemetry, report, report->is_grpc ? "grpc" : "http", &text, all);
    observe(telemetry, report, PX_METRIC_REQUESTS, all, 1);
    observe(telemetry, report, PX_METRIC_DURATION, all, result->duration_ms);
    observe(telemetry, report, PX_METRIC_REQUEST_BYTES, all, (double)result->request_bytes);
    observe(telemetry, report, PX_METRIC_RESPONSE_BYTES, all, (double)result->response_bytes);
}

void px_telemetry_http(struct px_telemetry *telemetry, const struct px_report *report,
                       const struct px_http_result *result)
{
    if (report->stats != NULL) {
        http_overridden(telemetry, report, result);
        return;
    }
    struct slot *slot = find_slot(telemetry, report);
    lt_counter_add(slot->requests, 1);
    lt_histogram_observe(slot->duration, result->duration_ms);
    lt_histogram_observe(slot->request_bytes, (double)result->request_bytes);
    lt_histogram_observe(slot->response_bytes, (double)result->response_bytes);
}

/* --- what is counted by itself --- */

static void count_one(struct px_telemetry *telemetry, const struct px_report *report,
                      const char *protocol, px_metric metric, uint64_t by)
{
    struct label_text text;
    lt_str all[LABELS_MAX], values[LABELS_MAX];
    fill_labels(telemetry, report, protocol, &text, all);
    if (report->stats != NULL) {
        observe(telemetry, report, metric, all, (double)by);
        return;
    }
    for (uint32_t i = 0; i < metrics[metric].count; i++)
        values[i] = all[label_at(metric, i)];
    lt_counter_add(lt_metric_counter(telemetry->families[metric], values), by);
}

void px_telemetry_messages(struct px_telemetry *telemetry, const struct px_report *report,
                           const struct px_message_result *result)
{
    bool is_full = telemetry->stranger_series >= PX_STRANGER_SERIES_MAX;
    uint32_t before = lt_metric_set_series(telemetry->set);
    struct px_report plain = is_full && is_by_stranger(report) ? collapse(report) : *report;
    if (result->request_messages > 0)
        count_one(telemetry, &plain, "grpc", PX_METRIC_REQUEST_MESSAGES, result->request_messages);
    if (result->response_messages > 0)
        count_one(telemetry, &plain, "grpc", PX_METRIC_RESPONSE_MESSAGES,
                  result->response_messages);
    if (is_by_stranger(report))
        telemetry->stranger_series += lt_metric_set_series(telemetry->set) - before;
}

void px_telemetry_tcp_opened(struct px_telemetry *telemetry, const struct px_report *report)
{
    count_one(telemetry, report, "tcp", PX_METRIC_TCP_OPENED, 1);
}

void px_telemetry_tcp_closed(struct px_telemetry *telemetry, const struct px_report *report)
{
    count_one(telemetry, report, "tcp", PX_METRIC_TCP_CLOSED, 1);
}

void px_telemetry_tcp_bytes(struct px_telemetry *telemetry, const struct px_report *report,
                            uint64_t sent_bytes, uint64_t received_bytes)
{
    count_one(telemetry, report, "tcp", PX_METRIC_TCP_SENT, sent_bytes);
    count_one(telemetry, report, "tcp", PX_METRIC_TCP_RECEIVED, received_bytes);
}

/* --- idle series --- */

void px_telemetry_sweep(struct px_telemetry *telemetry)
{
    static const lt_str prefix = {"istio_", 6};
    for (size_t i = 0; telemetry->slots != NULL && i < CACHE_SLOTS; i++)
        clear_slot(&telemetry->slots[i]); /* what they point to may go */
    uint32_t removed = lt_metric_sweep(telemetry->set, prefix);
    telemetry->stranger_series -= LT_MIN(removed, telemetry->stranger_series);
}
