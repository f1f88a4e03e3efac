/*
 * proxy/compile/protocol.c - options of HTTP/1 and HTTP/2, of connection managers and clusters
 * alike, and what a connection manager says about connections, heads and upgrades.
 * Start at: px_make_hcm_protocol(), px_make_h1_options(), px_make_h2_options().
 */
#include "proxy/compile/protocol.h"

#include "wire/proto/http_preserve_case.pb-c.h"

enum {
    IDLE_DEFAULT_MS = 3600 * 1000,
    DELAYED_CLOSE_DEFAULT_MS = 1000,
    HEADERS_KB_DEFAULT = 60,
    HEADERS_KB_MAX = 8192,
    HEADERS_COUNT_DEFAULT = 100,
    HEADERS_COUNT_MAX = 10000,
    H2_STREAMS_DEFAULT = 1024,
    /* less than Envoy's 16 and 24 MiB: what a peer may send ahead is memory that it holds here */
    H2_STREAM_WINDOW_DEFAULT = 256 * 1024,
    H2_CONN_WINDOW_DEFAULT = 1024 * 1024,
    H2_WINDOW_MIN = 65535,
    H2_WINDOW_MAX = 64 * 1024 * 1024,
    H2_TABLE_DEFAULT = 4096,
    H2_TABLE_MAX = 64 * 1024,
    H2_RESET_BURST_DEFAULT = 1000,
    H2_RESET_RATE_DEFAULT = 33,
    H2_EMPTY_DEFAULT = 1,
    H2_PRIORITIES_DEFAULT = 100,
    H2_UPDATES_DEFAULT = 10,
};

#define RESPONSE_H1_KB 80

const struct px_response_limits px_response_limits_default = {
    .h1 = {.head_bytes_max = RESPONSE_H1_KB * 1024,
           .headers_max = HEADERS_COUNT_DEFAULT,
           .chunk_ext_bytes_max = 4096,
           .trailer_bytes_max = 8192,
           .trailers_max = 32},
    .h2_head_bytes = HEADERS_KB_DEFAULT * 1024,
};

lt_rc px_make_response_limits(struct px_build *build, const Xds__HttpProtocolOptions *in,
                              const struct px_response_limits **ret_limits)
{
    uint64_t max_stream_ms = px_duration_ms(in->max_stream_duration, 0);
    if (in->max_headers_count == NULL && in->max_response_headers_kb == NULL && max_stream_ms == 0)
        return LT_OK;
    uint32_t count = px_u32(in->max_headers_count, HEADERS_COUNT_DEFAULT);
    uint32_t kb = px_u32(in->max_response_headers_kb, HEADERS_KB_DEFAULT);
    if (count == 0 || count > HEADERS_COUNT_MAX)
        return px_bad(build, "common_http_protocol_options.max_headers_count",
                      "must be between 1 and %d", HEADERS_COUNT_MAX);
    if (kb == 0 || kb > HEADERS_KB_MAX)
        return px_bad(build, "common_http_protocol_options.max_response_headers_kb",
                      "must be between 1 and %d", HEADERS_KB_MAX);
    struct px_response_limits *limits = lt_arena_make(build->arena, struct px_response_limits);
    *limits = px_response_limits_default;
    limits->max_stream_ms = max_stream_ms;
    limits->h1.headers_max = count;
    if (in->max_response_headers_kb != NULL)
        limits->h1.head_bytes_max = limits->h2_head_bytes = kb * 1024;
    *ret_limits = limits;
    return LT_OK;
}

/* --- HTTP/1 --- */

const struct px_h1_options px_h1_defaults = {.allows_absolute_url = true};

static lt_rc make_kept_case(struct px_build *build, const Xds__TypedExtensionConfig *formatter,
                            struct px_h1_options *options)
{
    Xds__PreserveCaseFormatterConfig *keep = NULL;
    lt_str type = px_any_type(build, formatter->typed_config);
    if (!lt_str_eqz(type, xds__preserve_case_formatter_config__descriptor.name))
        return px_unsupported(build, "http_protocol_options.header_key_format",
                              "formatter '%.*s' is not supported", LT_STR_ARG(type));
    LT_TRY(px_unpack_any(build, "http_protocol_options.header_key_format", formatter->typed_config,
                         &xds__preserve_case_formatter_config__descriptor, &keep));
    bool is_proper =
        keep->has_formatter_type_on_envoy_headers &&
        keep->formatter_type_on_envoy_headers ==
            XDS__PRESERVE_CASE_FORMATTER_CONFIG__FORMATTER_TYPE_ON_ENVOY_HEADERS__PROPER_CASE;
    options->name_case = is_proper ? LT_H1_CASE_KEPT_PROPER : LT_H1_CASE_KEPT;
    options->keeps_reason = keep->has_forward_reason_phrase && keep->forward_reason_phrase;
    return LT_OK;
}

static lt_rc make_case(struct px_build *build, const Xds__Http1ProtocolOptions__HeaderKeyFormat *in,
                       struct px_h1_options *options)
{
    if (in == NULL)
        return LT_OK;
    switch (in->header_format_case) {
    case XDS__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT_PROPER_CASE_WORDS:
        options->name_case = LT_H1_CASE_PROPER;
        return LT_OK;
    case XDS__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT_STATEFUL_FORMATTER:
        return make_kept_case(build, in->stateful_formatter, options);
    default: return LT_OK;
    }
}

static lt_rc make_ignored_upgrades(struct px_build *build, const Xds__Http1ProtocolOptions *in,
                                   struct px_h1_options *options)
{
    struct px_string_match *matches = lt_arena_make_n(build->arena, struct px_string_match,
                                                      in->n_ignore_http_11_upgrade);
    for (size_t i = 0; i < in->n_ignore_http_11_upgrade; i++)
        LT_TRY(px_make_string_match(build, "http_protocol_options.ignore_http_11_upgrade",
                                    in->ignore_http_11_upgrade[i], &matches[i]));
    options->ignored_upgrades = matches;
    options->ignored_upgrade_count = in->n_ignore_http_11_upgrade;
    return LT_OK;
}

lt_rc px_make_h1_options(struct px_build *build, const Xds__Http1ProtocolOptions *in,
                         struct px_h1_options *options)
{
    *options = px_h1_defaults;
    if (in == NULL)
        return LT_OK;
    options->allows_absolute_url = px_bool(in->allow_absolute_url, true);
    options->accepts_http_10 = in->has_accept_http_10 && in->accept_http_10;
    options->default_host = px_copy(build, in->default_host_for_http_10);
    options->enables_trailers = in->has_enable_trailers && in->enable_trailers;
    options->sends_full_url = in->has_send_fully_qualified_url && in->send_fully_qualified_url;
    LT_TRY(make_ignored_upgrades(build, in, options));
    return make_case(build, in->header_key_format, options);
}

/* --- HTTP/2 --- */

static void make_guards(const Xds__Http2ProtocolOptions *in, struct px_h2_options *options)
{
    options->empty_frames_max = px_u32(in->max_consecutive_inbound_frames_with_empty_payload,
                                       H2_EMPTY_DEFAULT);
    options->priorities_per_stream = px_u32(in->max_inbound_priority_frames_per_stream,
                                            H2_PRIORITIES_DEFAULT);
    options->updates_per_data = px_u32(in->max_inbound_window_update_frames_per_data_frame_sent,
                                       H2_UPDATES_DEFAULT);
    if (in->stream_reset_burst != NULL)
        options->reset_burst = (uint32_t)LT_MIN(in->stream_reset_burst->value, UINT32_MAX);
    if (in->stream_reset_rate != NULL)
        options->reset_rate = (uint32_t)LT_MIN(in->stream_reset_rate->value, UINT32_MAX);
}

static lt_rc make_keepalive(struct px_build *build, const Xds__KeepaliveSettings *in,
                            struct px_h2_options *options)
{
    if (in == NULL)
        return LT_OK;
    options->ping_interval_ms = px_duration_ms(in->interval, 0);
    options->ping_idle_ms = px_duration_ms(in->connection_idle_interval, 0);
    options->ping_timeout_ms = px_duration_ms(in->timeout, 0);
    options->ping_jitter_percent = in->interval_jitter == NULL
                                       ? PX_PING_JITTER_PERCENT
                                       : (uint32_t)LT_MIN(in->interval_jitter->value, 100.0);
    if (options->ping_timeout_ms == 0)
        return px_bad(build, "http2_protocol_options.connection_keepalive.timeout",
                      "must be greater than 0");
    return LT_OK;
}

static lt_rc make_sizes(struct px_build *build, const Xds__Http2ProtocolOptions *in,
                        struct px_h2_options *options)
{
    static const char range[] = "must be between 65535 and 2147483647";
    uint32_t streams = px_u32(in->max_concurrent_streams, H2_STREAMS_DEFAULT);
    uint32_t stream_window = px_u32(in->initial_stream_window_size, H2_STREAM_WINDOW_DEFAULT);
    uint32_t conn_window = px_u32(in->initial_connection_window_size, H2_CONN_WINDOW_DEFAULT);
    if (streams == 0 || streams > INT32_MAX)
        return px_bad(build, "http2_protocol_options.max_concurrent_streams",
                      "must be between 1 and 2147483647");
    if (stream_window < H2_WINDOW_MIN || stream_window > INT32_MAX)
        return px_bad(build, "http2_protocol_options.initial_stream_window_size", "%s", range);
    if (conn_window < H2_WINDOW_MIN || conn_window > INT32_MAX)
        return px_bad(build, "http2_protocol_options.initial_connection_window_size", "%s", range);
    options->max_concurrent_streams = streams;
    options->stream_window_bytes = LT_MIN(stream_window, (uint32_t)H2_WINDOW_MAX);
    options->stream_window_first = in->initial_stream_window_size != NULL
                                       ? options->stream_window_bytes
                                       : (uint32_t)H2_WINDOW_MIN;
    options->conn_window_bytes = LT_MIN(conn_window, (uint32_t)H2_WINDOW_MAX);
    options->header_table_bytes = LT_MIN(px_u32(in->hpack_table_size, H2_TABLE_DEFAULT),
                                         (uint32_t)H2_TABLE_MAX);
    return LT_OK;
}

lt_rc px_make_h2_options(struct px_build *build, const Xds__Http2ProtocolOptions *in,
                         struct px_h2_options *options)
{
    static const Xds__Http2ProtocolOptions absent = XDS__HTTP2_PROTOCOL_OPTIONS__INIT;
    if (in == NULL)
        in = &absent;
    *options = (struct px_h2_options){.reset_burst = H2_RESET_BURST_DEFAULT,
                                      .reset_rate = H2_RESET_RATE_DEFAULT};
    options->allow_connect = in->has_allow_connect && in->allow_connect;
    make_guards(in, options);
    LT_TRY(make_sizes(build, in, options));
    return make_keepalive(build, in->connection_keepalive, options);
}

/* --- connection managers --- */

static lt_rc make_codec(struct px_build *build, const Xds__HttpConnectionManager *in,
                        struct px_hcm_conf *conf)
{
    switch (in->has_codec_type ? in->codec_type : XDS__HTTP_CONNECTION_MANAGER__CODEC_TYPE__AUTO) {
    case XDS__HTTP_CONNECTION_MANAGER__CODEC_TYPE__AUTO: conf->codec = PX_CODEC_AUTO; break;
    case XDS__HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP1: conf->codec = PX_CODEC_H1; break;
    case XDS__HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP2: conf->codec = PX_CODEC_H2; break;
    default: return px_unsupported(build, "codec_type", "HTTP/3 is not supported");
    }
    LT_TRY(px_make_h1_options(build, in->http_protocol_options, &conf->h1));
    return px_make_h2_options(build, in->http2_protocol_options, &conf->h2);
}

static void make_upgrades(struct px_build *build, const Xds__HttpConnectionManager *in,
                          struct px_hcm_conf *conf)
{
    lt_str *upgrades = lt_arena_make_n(build->arena, lt_str, in->n_upgrade_configs);
    for (size_t i = 0; i < in->n_upgrade_configs; i++) {
        const Xds__HttpConnectionManager__UpgradeConfig *upgrade = in->upgrade_configs[i];
        if (upgrade->upgrade_type != NULL && px_bool(upgrade->enabled, true))
            upgrades[conf->upgrade_count++] = px_copy(build, upgrade->upgrade_type);
    }
    conf->upgrades = upgrades;
}

static lt_rc make_underscores(struct px_build *build, const Xds__HttpProtocolOptions *in,
                              struct px_hcm_conf *conf)
{
    static const px_underscores actions[] = {PX_UNDERSCORES_ALLOW, PX_UNDERSCORES_REJECT,
                                             PX_UNDERSCORES_DROP};
    size_t action = in->has_headers_with_underscores_action ? in->headers_with_underscores_action
                                                            : 0;
    if (action >= LT_ARRAY_LEN(actions))
        return px_bad(build, "common_http_protocol_options.headers_with_underscores_action",
                      "unknown value %zu", action);
    conf->underscores = actions[action];
    return LT_OK;
}

static lt_rc make_common(struct px_build *build, const Xds__HttpProtocolOptions *in,
                         struct px_hcm_conf *conf)
{
    conf->idle_timeout_ms = IDLE_DEFAULT_MS;
    conf->max_headers = HEADERS_COUNT_DEFAULT;
    if (in == NULL)
        return LT_OK;
    conf->idle_timeout_ms = px_duration_ms(in->idle_timeout, IDLE_DEFAULT_MS);
    conf->max_headers = px_u32(in->max_headers_count, HEADERS_COUNT_DEFAULT);
    if (conf->max_headers == 0 || conf->max_headers > HEADERS_COUNT_MAX)
        return px_bad(build, "common_http_protocol_options.max_headers_count",
                      "must be between 1 and %d", HEADERS_COUNT_MAX);
    conf->max_connection_duration_ms = px_duration_ms(in->max_connection_duration, 0);
    if (in->max_connection_duration_jitter != NULL)
        conf->max_connection_jitter_percent = (uint32_t)LT_MIN(
            in->max_connection_duration_jitter->value, 100.0);
    conf->max_stream_duration_ms = px_duration_ms(in->max_stream_duration, 0);
    conf->max_requests_per_connection = px_u32(in->max_requests_per_connection, 0);
    return make_underscores(build, in, conf);
}

lt_rc px_make_hcm_protocol(struct px_build *build, const Xds__HttpConnectionManager *in,
                           struct px_hcm_conf *conf)
{
    LT_TRY(make_codec(build, in, conf));
    LT_TRY(make_common(build, in->common_http_protocol_options, conf));
    make_upgrades(build, in, conf);
    conf->max_request_headers_kb = px_u32(in->max_request_headers_kb, HEADERS_KB_DEFAULT);
    if (conf->max_request_headers_kb == 0 || conf->max_request_headers_kb > HEADERS_KB_MAX)
        return px_bad(build, "max_request_headers_kb", "must be between 1 and %d", HEADERS_KB_MAX);
    conf->delayed_close_ms = px_duration_ms(in->delayed_close_timeout, DELAYED_CLOSE_DEFAULT_MS);
    return LT_OK;
}
