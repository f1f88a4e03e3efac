/*
 * proxy/compile/cluster_health.c - what keeps a cluster from harm: circuit breakers, outlier
 * detection, active health checks.
 * Start at: px_make_circuits(), px_make_outlier(), px_make_check().
 */
#include "proxy/compile/kinds.h"

enum {
    CIRCUIT_DEFAULT = 1024,
    RETRIES_DEFAULT = 3,
    BUDGET_DEFAULT_PERCENT = 20,
    NO_TRAFFIC_DEFAULT_MS = 60000,
    RESPONSE_BYTES_DEFAULT = 1024,
    PAYLOADS_MAX = 32,
};

/* --- circuit breakers --- */

enum { ALL_LIMITS = (1 << PX_LIMITS) - 1 };

static const struct px_circuit circuit_default = {
    .max = {CIRCUIT_DEFAULT, CIRCUIT_DEFAULT, CIRCUIT_DEFAULT, RETRIES_DEFAULT, UINT32_MAX},
    .counted = ALL_LIMITS & ~(1 << PX_LIMIT_POOLS),
    .budget_percent = -1.0,
};
/* As Istio sends it for every cluster. */
static const struct px_circuit circuit_open = {
    .max = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX},
    .budget_percent = -1.0,
};

/* What has no limit of its own may still be what a budget is measured by, or shown. */
static uint32_t counted_limits(const struct px_circuit *circuit)
{
    uint32_t counted = 0;
    if (circuit->budget_percent >= 0 || circuit->tracks_remaining)
        return ALL_LIMITS;
    for (int i = 0; i < PX_LIMITS; i++)
        counted |= circuit->max[i] != UINT32_MAX ? 1u << i : 0;
    return counted;
}

bool px_cluster_has_shared_limits(const struct px_cluster_conf *conf)
{
    return conf->circuits[PX_PRIORITY_DEFAULT]->counted != 0 ||
           conf->circuits[PX_PRIORITY_HIGH]->counted != 0 ||
           conf->host_max_connections != UINT32_MAX;
}

static lt_rc make_circuit(struct px_build *build, const Xds__CircuitBreakers__Thresholds *in,
                          const struct px_circuit **ret_circuit)
{
    struct px_circuit made = {
        .max = {px_u32(in->max_connections, CIRCUIT_DEFAULT),
                px_u32(in->max_pending_requests, CIRCUIT_DEFAULT),
                px_u32(in->max_requests, CIRCUIT_DEFAULT), px_u32(in->max_retries, RETRIES_DEFAULT),
                px_u32(in->max_connection_pools, UINT32_MAX)},
        .budget_percent = -1.0,
        .tracks_remaining = in->has_track_remaining && in->track_remaining,
    };
    if (in->retry_budget != NULL) {
        const Xds__Percent *percent = in->retry_budget->budget_percent;
        made.budget_percent = percent == NULL      ? BUDGET_DEFAULT_PERCENT
                              : percent->has_value ? percent->value
                                                   : 0;
        if (!(made.budget_percent >= 0 && made.budget_percent <= 100))
            return px_bad(build, "retry_budget.budget_percent", "must be between 0 and 100");
        made.budget_min = px_u32(in->retry_budget->min_retry_concurrency, RETRIES_DEFAULT);
    }
    made.counted = counted_limits(&made);
    if (made.counted == 0) {
        *ret_circuit = &circuit_open;
        return LT_OK;
    }
    struct px_circuit *circuit = lt_arena_make(build->arena, struct px_circuit);
    *circuit = made;
    *ret_circuit = circuit;
    return LT_OK;
}

/* Only connections are limited by host, whatever the priority. */
static void make_host_limit(struct px_build *build, const Xds__CircuitBreakers *breakers,
                            struct px_cluster_conf *conf)
{
    for (size_t i = 0; i < breakers->n_per_host_thresholds; i++) {
        const Xds__CircuitBreakers__Thresholds *in = breakers->per_host_thresholds[i];
        if (!in->has_priority || in->priority == XDS__ROUTING_PRIORITY__DEFAULT)
            conf->host_max_connections = px_u32(in->max_connections, UINT32_MAX);
        else
            px_unhonoured(build, "circuit_breakers.per_host_thresholds.priority");
    }
}

lt_rc px_make_circuits(struct px_build *build, const Xds__Cluster *cluster,
                       struct px_cluster_conf *conf)
{
    const Xds__CircuitBreakers *breakers = cluster->circuit_breakers;
    conf->circuits[PX_PRIORITY_DEFAULT] = conf->circuits[PX_PRIORITY_HIGH] = &circuit_default;
    conf->host_max_connections = UINT32_MAX;
    for (size_t i = 0; breakers != NULL && i < breakers->n_thresholds; i++) {
        const Xds__CircuitBreakers__Thresholds *in = breakers->thresholds[i];
        unsigned priority = in->has_priority ? (unsigned)in->priority : 0;
        size_t mark = px_path_enter(build, "circuit_breakers.thresholds", (ptrdiff_t)i);
        if (priority >= PX_PRIORITIES)
            return px_bad(build, "priority", "unknown value %u", priority);
        LT_TRY(make_circuit(build, in, &conf->circuits[priority]));
        px_path_leave(build, mark);
    }
    if (breakers != NULL)
        make_host_limit(build, breakers, conf);
    return LT_OK;
}

/* --- outlier detection --- */

static lt_rc check_percents(struct px_build *build, const struct px_outlier_conf *made)
{
    const struct {
        const char *field;
        uint32_t value;
    } percents[] = {
        {"max_ejection_percent", made->max_ejection_percent},
        {"enforcing_consecutive_5xx", made->enforce_5xx},
        {"enforcing_consecutive_gateway_failure", made->enforce_gateway},
        {"enforcing_consecutive_local_origin_failure", made->enforce_local},
        {"enforcing_success_rate", made->enforce_success_rate},
        {"enforcing_local_origin_success_rate", made->enforce_local_success_rate},
        {"enforcing_failure_percentage", made->enforce_failure_percent},
        {"enforcing_failure_percentage_local_origin", made->enforce_local_failure_percent},
        {"failure_percentage_threshold", made->failure_percent_threshold},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(percents); i++) {
        if (percents[i].value > 100)
            return px_bad(build, percents[i].field, "must be at most 100");
    }
    if (made->interval_ms == 0)
        return px_bad(build, "interval", "must be above 0");
    if (made->base_ejection_ms == 0)
        return px_bad(build, "base_ejection_time", "must be above 0");
    return LT_OK;
}

static void fill_detectors(const Xds__OutlierDetection *in, struct px_outlier_conf *made)
{
    made->consecutive_5xx = px_u32(in->consecutive_5xx, 5);
    made->consecutive_gateway = px_u32(in->consecutive_gateway_failure, 5);
    made->consecutive_local = px_u32(in->consecutive_local_origin_failure, 5);
    made->enforce_5xx = px_u32(in->enforcing_consecutive_5xx, 100);
    made->enforce_gateway = px_u32(in->enforcing_consecutive_gateway_failure, 0);
    made->enforce_local = px_u32(in->enforcing_consecutive_local_origin_failure, 100);
    made->enforce_success_rate = px_u32(in->enforcing_success_rate, 100);
    made->enforce_local_success_rate = px_u32(in->enforcing_local_origin_success_rate, 100);
    made->success_rate_hosts = px_u32(in->success_rate_minimum_hosts, 5);
    made->success_rate_volume = px_u32(in->success_rate_request_volume, 100);
    made->success_rate_stdev_thousandth = px_u32(in->success_rate_stdev_factor, 1900);
    made->enforce_failure_percent = px_u32(in->enforcing_failure_percentage, 0);
    made->enforce_local_failure_percent = px_u32(in->enforcing_failure_percentage_local_origin, 0);
    made->failure_percent_threshold = px_u32(in->failure_percentage_threshold, 85);
    made->failure_percent_hosts = px_u32(in->failure_percentage_minimum_hosts, 5);
    made->failure_percent_volume = px_u32(in->failure_percentage_request_volume, 50);
}

lt_rc px_make_outlier(struct px_build *build, const Xds__OutlierDetection *in,
                      const struct px_outlier_conf **ret_outlier)
{
    if (in == NULL)
        return LT_OK;
    struct px_outlier_conf *made = lt_arena_make(build->arena, struct px_outlier_conf);
    made->interval_ms = px_duration_ms(in->interval, 10000);
    made->base_ejection_ms = px_duration_ms(in->base_ejection_time, 30000);
    made->max_ejection_ms = px_duration_ms(in->max_ejection_time, 300000);
    made->max_ejection_ms = LT_MAX(made->max_ejection_ms, made->base_ejection_ms);
    made->ejection_jitter_ms = px_duration_ms(in->max_ejection_time_jitter, 0);
    made->max_ejection_percent = px_u32(in->max_ejection_percent, 10);
    made->always_ejects_one = px_bool(in->always_eject_one_host, false);
    made->splits_local_origin = in->has_split_external_local_origin_errors &&
                                in->split_external_local_origin_errors;
    made->check_unejects = px_bool(in->successful_active_health_check_uneject_host, true);
    fill_detectors(in, made);
    *ret_outlier = made;
    return check_percents(build, made);
}

/* --- active health checks --- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* HealthCheck.Payload: text is in hex. */
static lt_rc make_payload(struct px_build *build, const char *field,
                          const Xds__HealthCheck__Payload *in, lt_str *ret_bytes)
{
    if (in->payload_case == XDS__HEALTH_CHECK__PAYLOAD__PAYLOAD_BINARY) {
        *ret_bytes = lt_arena_str(build->arena,
                                  lt_str_make((const char *)in->binary.data, in->binary.len));
        return LT_OK;
    }
    lt_str text = in->payload_case == XDS__HEALTH_CHECK__PAYLOAD__PAYLOAD_TEXT ? lt_str_of(in->text)
                                                                               : LT_STR_NULL;
    if (text.len == 0 || text.len % 2 != 0)
        return px_bad(build, field, "invalid hex string '%.*s'", LT_STR_ARG(text));
    char *bytes = lt_arena_bytes(build->arena, text.len / 2);
    for (size_t i = 0; i < text.len; i += 2) {
        int high = hex_digit(text.ptr[i]), low = hex_digit(text.ptr[i + 1]);
        if (high < 0 || low < 0)
            return px_bad(build, field, "invalid hex string '%.*s'", LT_STR_ARG(text));
        bytes[i / 2] = (char)(high << 4 | low);
    }
    *ret_bytes = lt_str_make(bytes, text.len / 2);
    return LT_OK;
}

static lt_rc make_receive(struct px_build *build, Xds__HealthCheck__Payload *const *in,
                          size_t count, struct px_check_conf *check)
{
    if (count > PAYLOADS_MAX)
        return px_bad(build, "receive", "more than %d payloads", PAYLOADS_MAX);
    lt_str *receive = lt_arena_make_n(build->arena, lt_str, count);
    for (size_t i = 0; i < count; i++)
        LT_TRY(make_payload(build, "receive", in[i], &receive[i]));
    check->receive = receive;
    check->receive_count = count;
    return LT_OK;
}

static lt_rc make_ranges(struct px_build *build, const char *field, Xds__Int64Range *const *in,
                         size_t count, const struct px_status_range **ret_ranges)
{
    struct px_status_range *ranges = lt_arena_make_n(build->arena, struct px_status_range, count);
    for (size_t i = 0; i < count; i++) {
        int64_t from = in[i]->has_start ? in[i]->start : 0, to = in[i]->has_end ? in[i]->end : 0;
        if (from >= to || from < 100 || to > 600)
            return px_bad(build, field,
                          "Invalid http status range: expecting start < end in [100, 600), "
                          "found %lld to %lld",
                          (long long)from, (long long)to);
        ranges[i] = (struct px_status_range){(uint32_t)from, (uint32_t)to};
    }
    *ret_ranges = ranges;
    return LT_OK;
}

static lt_rc make_headers(struct px_build *build, const char *field,
                          Xds__HeaderValueOption *const *in, size_t count,
                          struct px_check_conf *check)
{
    struct px_check_header *headers = lt_arena_make_n(build->arena, struct px_check_header, count);
    for (size_t i = 0; i < count; i++) {
        if (in[i]->header == NULL || in[i]->header->key == NULL || in[i]->header->key[0] == '\0')
            return px_bad(build, field, "a header without a name");
        headers[i].name = px_copy_lower(build, in[i]->header->key);
        headers[i].value = in[i]->header->has_raw_value && in[i]->header->raw_value.len > 0
                               ? lt_arena_str(build->arena, lt_pb_bytes(in[i]->header->raw_value))
                               : px_copy(build, in[i]->header->value);
        if (lt_str_find_char(headers[i].value, '%') >= 0)
            px_unhonoured(build, field); /* operators go as they are */
    }
    check->headers = headers;
    check->header_count = count;
    return LT_OK;
}

static const char *const methods[] = {"GET",    "GET",     "HEAD",    "POST",  "PUT",
                                      "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};

static lt_rc make_http_check(struct px_build *build, const Xds__HealthCheck__HttpHealthCheck *in,
                             struct px_check_conf *check)
{
    size_t method = in->has_method ? in->method : 0;
    check->kind = PX_CHECK_HTTP;
    check->host = px_copy(build, in->host);
    check->path = px_copy(build, in->path);
    if (check->path.len == 0)
        return px_bad(build, "path", "is empty");
    if (method >= LT_ARRAY_LEN(methods) || strcmp(methods[method], "CONNECT") == 0)
        return px_bad(build, "method", "unknown value %zu", method);
    check->method = lt_str_of(methods[method]);
    check->is_h2 = in->has_codec_client_type &&
                   in->codec_client_type == XDS__CODEC_CLIENT_TYPE__HTTP2;
    if (in->has_codec_client_type && in->codec_client_type == XDS__CODEC_CLIENT_TYPE__HTTP3)
        return px_unsupported(build, "codec_client_type", "HTTP3 is not supported");
    LT_TRY(make_headers(build, "request_headers_to_add", in->request_headers_to_add,
                        in->n_request_headers_to_add, check));
    LT_TRY(make_ranges(build, "expected_statuses", in->expected_statuses, in->n_expected_statuses,
                       &check->expected));
    check->expected_count = in->n_expected_statuses;
    LT_TRY(make_ranges(build, "retriable_statuses", in->retriable_statuses,
                       in->n_retriable_statuses, &check->retriable));
    check->retriable_count = in->n_retriable_statuses;
    if (in->service_name_matcher != NULL) {
        struct px_string_match *match = lt_arena_make(build->arena, struct px_string_match);
        LT_TRY(
            px_make_string_match(build, "service_name_matcher", in->service_name_matcher, match));
        check->service = match;
    }
    if (in->send != NULL)
        LT_TRY(make_payload(build, "send", in->send, &check->send));
    check->response_bytes_max = RESPONSE_BYTES_DEFAULT;
    if (in->response_buffer_size != NULL && in->response_buffer_size->has_value)
        check->response_bytes_max = (uint32_t)LT_MIN(in->response_buffer_size->value,
                                                     (uint64_t)1 << 20);
    return make_receive(build, in->receive, in->n_receive, check);
}

static lt_rc make_tcp_check(struct px_build *build, const Xds__HealthCheck__TcpHealthCheck *in,
                            struct px_check_conf *check)
{
    check->kind = PX_CHECK_TCP;
    if (in->send != NULL)
        LT_TRY(make_payload(build, "send", in->send, &check->send));
    return make_receive(build, in->receive, in->n_receive, check);
}

static lt_rc make_kind(struct px_build *build, const Xds__HealthCheck *in,
                       struct px_check_conf *check)
{
    size_t mark;
    lt_rc rc;
    switch (in->health_checker_case) {
    case XDS__HEALTH_CHECK__HEALTH_CHECKER_HTTP_HEALTH_CHECK:
        mark = px_path_enter(build, "http_health_check", -1);
        rc = make_http_check(build, in->http_health_check, check);
        break;
    case XDS__HEALTH_CHECK__HEALTH_CHECKER_TCP_HEALTH_CHECK:
        mark = px_path_enter(build, "tcp_health_check", -1);
        rc = make_tcp_check(build, in->tcp_health_check, check);
        break;
    case XDS__HEALTH_CHECK__HEALTH_CHECKER_GRPC_HEALTH_CHECK:
        mark = px_path_enter(build, "grpc_health_check", -1);
        check->kind = PX_CHECK_GRPC;
        check->host = px_copy(build, in->grpc_health_check->authority);
        check->grpc_service = px_copy(build, in->grpc_health_check->service_name);
        rc = make_headers(build, "initial_metadata", in->grpc_health_check->initial_metadata,
                          in->grpc_health_check->n_initial_metadata, check);
        break;
    default: return px_bad(build, NULL, "a health checker is needed");
    }
    if (rc == LT_OK)
        px_path_leave(build, mark);
    return rc;
}

static lt_rc make_times(struct px_build *build, const Xds__HealthCheck *in,
                        struct px_check_conf *check)
{
    check->timeout_ms = px_duration_ms(in->timeout, 0);
    check->interval_ms = px_duration_ms(in->interval, 0);
    if (check->timeout_ms == 0)
        return px_bad(build, "timeout", "must be above 0");
    if (check->interval_ms == 0)
        return px_bad(build, "interval", "must be above 0");
    check->initial_jitter_ms = px_duration_ms(in->initial_jitter, 0);
    check->interval_jitter_ms = px_duration_ms(in->interval_jitter, 0);
    check->interval_jitter_percent = in->has_interval_jitter_percent ? in->interval_jitter_percent
                                                                     : 0;
    check->no_traffic_ms = px_duration_ms(in->no_traffic_interval, NO_TRAFFIC_DEFAULT_MS);
    check->no_traffic_healthy_ms = px_duration_ms(in->no_traffic_healthy_interval,
                                                  check->no_traffic_ms);
    check->unhealthy_ms = px_duration_ms(in->unhealthy_interval, check->interval_ms);
    check->unhealthy_edge_ms = px_duration_ms(in->unhealthy_edge_interval, check->unhealthy_ms);
    check->healthy_edge_ms = px_duration_ms(in->healthy_edge_interval, check->interval_ms);
    if (in->unhealthy_threshold == NULL)
        return px_bad(build, "unhealthy_threshold", "is missing");
    if (in->healthy_threshold == NULL)
        return px_bad(build, "healthy_threshold", "is missing");
    check->unhealthy_threshold = px_u32(in->unhealthy_threshold, 1);
    check->healthy_threshold = px_u32(in->healthy_threshold, 1);
    return LT_OK;
}

/* By the cluster's transport_socket_matches, which must have been made before. */
static lt_rc make_transport(struct px_build *build, const Xds__HealthCheck *in,
                            const struct px_cluster_conf *conf, struct px_check_conf *check)
{
    if (in->tls_options != NULL) {
        check->alpn_count = in->tls_options->n_alpn_protocols;
        LT_TRY(px_make_strings(build, in->tls_options->alpn_protocols, check->alpn_count,
                               &check->alpn));
    }
    if (in->transport_socket_match_criteria == NULL)
        return LT_OK;
    struct px_metas criteria;
    LT_TRY(px_make_metas(build, in->transport_socket_match_criteria, &criteria));
    check->has_transport = true;
    check->tls = px_cluster_find_tls(conf, &criteria);
    return LT_OK;
}

static lt_rc make_check(struct px_build *build, const Xds__HealthCheck *in,
                        struct px_cluster_conf *conf, struct px_check_conf *check)
{
    uint32_t alt_port = px_u32(in->alt_port, 0);
    if (alt_port > UINT16_MAX)
        return px_bad(build, "alt_port", "%u is out of range", alt_port);
    check->alt_port = (uint16_t)alt_port;
    check->reuses_connection = px_bool(in->reuse_connection, true);
    LT_TRY(make_times(build, in, check));
    LT_TRY(make_kind(build, in, check));
    LT_TRY(make_transport(build, in, conf, check));
    conf->check = check;
    return LT_OK;
}

lt_rc px_make_check(struct px_build *build, const Xds__Cluster *cluster,
                    struct px_cluster_conf *conf)
{
    if (cluster->n_health_checks == 0)
        return LT_OK;
    if (cluster->n_health_checks > 1)
        return px_bad(build, "health_checks", "Multiple health checks not supported");
    const Xds__HealthCheck *in = cluster->health_checks[0];
    if (in->health_checker_case == XDS__HEALTH_CHECK__HEALTH_CHECKER_CUSTOM_HEALTH_CHECK)
        return LT_OK;
    size_t mark = px_path_enter(build, "health_checks", 0);
    struct px_check_conf *check = lt_arena_make(build->arena, struct px_check_conf);
    lt_rc rc = make_check(build, in, conf, check);
    if (rc == LT_OK)
        px_path_leave(build, mark);
    return rc;
}
