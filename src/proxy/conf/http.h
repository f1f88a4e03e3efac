/*
 * proxy/conf/http.h - frozen options of HTTP/1 and HTTP/2, of connection managers and clusters.
 * Names and meaning of the fields are Envoy's; compiled by compile/protocol.c.
 */
#ifndef LT_PROXY_CONF_HTTP_H
#define LT_PROXY_CONF_HTTP_H

#include "http/h1.h"

struct px_string_match;

/* core.v3.Http1ProtocolOptions */
struct px_h1_options {
    lt_h1_case name_case;     /* KEPT: of what is read here, wherever it is written in HTTP/1 */
    bool keeps_reason;        /* with it: the reason phrase, too */
    bool accepts_http_10;     /* clients */
    bool enables_trailers;    /* off: they are dropped, as Envoy does */
    bool allows_absolute_url; /* clients */
    bool sends_full_url;      /* hosts: send_fully_qualified_url */
    lt_str default_host;      /* clients of HTTP/1.0 that name none */
    const struct px_string_match *ignored_upgrades; /* clients: passed on without Upgrade */
    size_t ignored_upgrade_count;
};

enum { PX_PING_JITTER_PERCENT = 15 }; /* Envoy's, where none is named */

/* core.v3.Http2ProtocolOptions */
struct px_h2_options {
    uint32_t max_concurrent_streams, stream_window_bytes, conn_window_bytes, header_table_bytes;
    uint32_t
        stream_window_first; /* a new stream's, where none was named: less than it may become */
    uint32_t empty_frames_max, priorities_per_stream, updates_per_data;
    uint32_t reset_burst, reset_rate;
    bool allow_connect;
    /* connection_keepalive */
    uint64_t ping_interval_ms; /* 0: none */
    uint64_t ping_idle_ms; /* before a request on a connection that was quiet so long; 0: none */
    uint64_t ping_timeout_ms;
    uint32_t ping_jitter_percent;
};

/* Of a cluster's common_http_protocol_options, what few clusters say. */
struct px_response_limits {
    struct lt_h1_limits h1; /* max_response_headers_kb, 80 by default, and max_headers_count */
    uint32_t h2_head_bytes; /* 60 KiB by default */
    uint64_t max_stream_ms; /* of a try; 0: none */
};

extern const struct px_response_limits px_response_limits_default;

/* HttpProtocolOptions.headers_with_underscores_action */
typedef enum { PX_UNDERSCORES_ALLOW, PX_UNDERSCORES_REJECT, PX_UNDERSCORES_DROP } px_underscores;

/* What Envoy does where nothing is said. */
extern const struct px_h1_options px_h1_defaults;

#endif
