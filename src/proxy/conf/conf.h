/*
 * proxy/conf/conf.h - frozen configuration: what bootstrap and xDS resources compile into.
 *
 * One resource, one arena, one struct with a px_resource in front. Built and counted by the main
 * thread alone; workers only read. A px_snapshot is a table of pointers to such resources; workers
 * get it by mailbox and give it back by mailbox, so no count is shared between threads.
 * Not here: how resources are compiled (conf_*.c), what happens at run time (listener.c, router.c,
 * cluster.c). Names and meaning of the fields are Envoy's.   Start at: struct px_snapshot.
 */
#ifndef LT_PROXY_CONF_CONF_H
#define LT_PROXY_CONF_CONF_H

#include "http/url.h"
#include "net/sock.h"
#include "net/tls.h"
#include "proxy/conf/cluster.h"
#include "proxy/conf/forward.h"
#include "proxy/conf/http.h"
#include "proxy/conf/shelf.h"

/* --- values shared by several resources --- */

typedef enum {
    PX_MATCH_EXACT,
    PX_MATCH_PREFIX,
    PX_MATCH_SUFFIX,
    PX_MATCH_CONTAINS,
    PX_MATCH_REGEX,
    PX_MATCH_PRESENT,
    PX_MATCH_RANGE
} px_match_kind;

/*
 * envoy.type.matcher.v3.StringMatcher. A regular expression that only asks for a text at one end or
 * inside (".*x.*") also has the plain match, which is ten times as fast and right for plain text.
 */
struct px_string_match {
    px_match_kind kind;
    bool is_simple;       /* REGEX: the same as */
    px_match_kind simple; /* EXACT, PREFIX, SUFFIX, CONTAINS of text */
    bool ignore_case;
    bool is_not_empty; /* REGEX, simple CONTAINS of "": ".+" */
    lt_str text;
    const struct lt_regex *regex;
};

/* envoy.config.route.v3.HeaderMatcher; name in lower case, ":method" etc. for pseudo headers */
struct px_header_match {
    lt_str name;
    struct px_string_match value; /* kind PRESENT: value.text unused; RANGE: from/to */
    int64_t range_from, range_to; /* [from, to) */
    bool present_value;           /* PRESENT: wanted presence */
    bool invert;
    bool treat_missing_as_empty;
};

typedef enum {
    PX_APPEND,
    PX_ADD_IF_ABSENT,
    PX_OVERWRITE_OR_ADD,
    PX_OVERWRITE_IF_EXISTS
} px_append_action;

/* envoy.config.core.v3.HeaderValueOption; value may hold %COMMAND% operators */
struct px_header_edit {
    lt_str name;
    lt_str value;
    const struct px_format *format; /* NULL: the value is the same for each request */
    px_append_action action;
    bool keeps_empty; /* keep_empty_value */
};

struct px_header_edits {
    const struct px_header_edit *add;
    size_t add_count;
    const lt_str *remove;
    size_t remove_count;
};

/* --- TLS --- */

/* A TlsCertificate, of a context or a secret. */
struct px_cert_conf {
    struct px_row *row; /* SDS; NULL: the rest counts; the resource's need */
    lt_str chain_pem, key_pem, ocsp_der;
    lt_str path; /* of chain_pem: a file, or "<inline>" */
};

/* A CertificateValidationContext, likewise: of both that a combined one has, all of it counts. */
struct px_trust_conf {
    lt_str ca_pem, crl_pem;
    lt_str path; /* of ca_pem */
    const lt_str *cert_hashes, *key_hashes;
    size_t cert_hash_count, key_hash_count;
    const struct lt_san_matcher *sans;
    size_t san_count;
    const struct lt_tls_domain *domains; /* SPIFFE */
    size_t domain_count;
    uint32_t depth_max; /* 0: not said */
    bool crl_leaf_only, allow_expired, accept_untrusted, hides_ca_names;
};

/*
 * A DownstreamTlsContext or UpstreamTlsContext. The expensive part (SSL_CTX) is shared by all that
 * need the same certificates and parameters: it sits in px_snapshot.tls_ctxs[ctx_slot], NULL while
 * a secret is missing.
 */
struct px_tls_conf {
    uint32_t ctx_slot;
    uint64_t ctx_id; /* of what the context is made from: slots are used again */
    bool require_client_certificate;
    lt_str sni;
    const lt_str *alpn;
    size_t alpn_count;
    /* client: what TCP connections offer instead, where the exchange of metadata is spoken */
    const lt_str *exchange_alpn;
    size_t exchange_alpn_count;
    const struct lt_san_matcher *sans;
    size_t san_count;
    bool has_host_sni;     /* auto_host_sni: the endpoint's hostname, when it has one */
    bool has_sni_san;      /* auto_sni_san_validation: the SNI instead of sans */
    uint32_t sessions_max; /* client: kept for each host; max_session_keys */
    /* what the context is made from; used by the main thread only */
    const struct px_cert_conf *certs; /* at least one for a server */
    size_t cert_count;
    struct px_row *validation_row; /* SDS, beside trust; NULL: none; the resource's need */
    struct px_trust_conf trust;    /* without its sans: they go with the connection */
    bool is_server;
    bool verify_peer;
    bool scans_all_certs, prefers_client_ciphers;
    bool without_tickets, without_session_ids;
    uint64_t session_timeout_s; /* 0: the default */
    struct px_row *ticket_row;  /* SDS; NULL: inline or none */
    const lt_str *ticket_keys;
    size_t ticket_key_count;
    int version_min, version_max;
    lt_str cipher_list, ecdh_curves, signature_algorithms;
};

/* --- HTTP filters --- */

enum { PX_FILTERS_MAX = 64 /* of one chain: a request keeps a bit for each */ };

/* One entry of HttpConnectionManager.http_filters; what it does: filter.c. */
typedef enum {
    PX_FILTER_PEER_METADATA, /* istio.metadata_exchange (HTTP) */
    PX_FILTER_ISTIO_STATS,
    PX_FILTER_ISTIO_ALPN,
    PX_FILTER_GRPC_STATS,
    PX_FILTER_FAULT,
    PX_FILTER_CORS,
    PX_FILTER_RBAC,
    PX_FILTER_JWT_AUTHN,
    PX_FILTER_EXT_AUTHZ,
    PX_FILTER_LOCAL_LIMIT,
    PX_FILTER_BUFFER,
    PX_FILTER_HEADER_MUTATION,
    PX_FILTER_ON_DEMAND,
    PX_FILTER_MISSING, /* its configuration has not come by ECDS */
    PX_FILTER_ROUTER,
    PX_FILTER_KINDS,
} px_http_filter_kind;

struct px_http_filter {
    px_http_filter_kind kind;
    uint32_t at;      /* index in the chain */
    lt_str name;      /* what typed_per_filter_config calls it */
    const void *conf; /* of its kind; NULL: it has none */
    bool is_off;      /* unless a route turns it on */
};

/* One entry of typed_per_filter_config, of a route or what is around it. */
struct px_filter_conf {
    lt_str name;
    px_http_filter_kind kind; /* PX_FILTER_KINDS: it only says that the filter is on, or off */
    const void *conf;         /* NULL: only is_off counts */
    bool is_off;
};

struct px_filter_confs {
    const struct px_filter_conf *items;
    size_t count;
};

/* --- routes --- */

struct px_meta;
struct px_mutations;
struct px_meta_match;
struct px_rate_limits;

typedef enum {
    PX_PATH_PREFIX,
    PX_PATH_EXACT,
    PX_PATH_REGEX,
    PX_PATH_SEPARATED_PREFIX,
    PX_PATH_CONNECT
} px_path_kind;

enum {
    PX_RETRY_5XX = 1 << 0,
    PX_RETRY_GATEWAY_ERROR = 1 << 1,
    PX_RETRY_RESET = 1 << 2,
    PX_RETRY_CONNECT_FAILURE = 1 << 3,
    PX_RETRY_REFUSED_STREAM = 1 << 4,
    PX_RETRY_4XX = 1 << 5,
    PX_RETRY_STATUS_CODES = 1 << 6,
    PX_RETRY_RESET_BEFORE_REQUEST = 1 << 7,
    PX_RETRY_GRPC_CANCELLED = 1 << 8,
    PX_RETRY_GRPC_UNAVAILABLE = 1 << 9,
    PX_RETRY_GRPC_DEADLINE = 1 << 10,
    PX_RETRY_GRPC_EXHAUSTED = 1 << 11,
    PX_RETRY_GRPC_INTERNAL = 1 << 12,
    PX_RETRY_HEADERS = 1 << 13,
    PX_RETRY_RATE_LIMITED = 1 << 14,
};

struct px_retry {
    uint32_t on; /* PX_RETRY_* */
    uint32_t num_retries;
    uint64_t per_try_timeout_ms; /* 0: none */
    const uint32_t *status_codes;
    size_t status_code_count;
    uint64_t backoff_base_ms, backoff_max_ms; /* Envoy: 25 ms, 10 times the base */
    uint32_t host_attempts;                   /* host_selection_retry_max_attempts */
    bool avoid_previous_hosts, avoid_canaries;
    const struct px_metas *avoid_metas;             /* omit_host_metadata; NULL: none */
    uint64_t per_try_idle_ms;                       /* 0: none */
    const struct px_header_match *response_headers; /* retriable_headers */
    size_t response_header_count;
    const struct px_header_match *request_headers; /* one of these must match; count 0: none */
    size_t request_header_count;
    const struct px_reset_header *reset_headers; /* rate_limited_retry_back_off */
    size_t reset_header_count;
    uint64_t reset_max_ms;
    uint32_t priority_every; /* retry_priority: after so many tries other priorities; 0: never */
};

/* A response says when it may be tried again. */
struct px_reset_header {
    lt_str name;
    bool is_timestamp; /* in seconds since 1970; else seconds from now */
};

struct px_weighted_cluster {
    lt_str cluster;
    lt_str header;       /* cluster_header, if cluster is empty */
    lt_str host_rewrite; /* host_rewrite_literal; empty: the route's */
    uint32_t weight;
    const struct px_metas *metas; /* metadata_match, the route's included; NULL: none */
    struct px_header_edits request, response;
    struct px_filter_confs filters;
};

typedef enum {
    PX_ACTION_CLUSTER,
    PX_ACTION_WEIGHTED,
    PX_ACTION_CLUSTER_HEADER,
    PX_ACTION_REDIRECT,
    PX_ACTION_DIRECT
} px_action_kind;

struct px_redirect {
    lt_str host, path, prefix_rewrite, scheme;
    const struct lt_regex *regex_rewrite;
    lt_str regex_substitution;
    uint32_t port; /* 0: none */
    uint32_t code; /* 301 302 303 307 308 */
    bool https, strip_query;
};

typedef enum { PX_HASH_HEADER, PX_HASH_COOKIE, PX_HASH_SOURCE_IP, PX_HASH_QUERY } px_hash_kind;

/* RouteAction.HashPolicy; of TcpProxy's only the source's address */
struct px_hash_policy {
    px_hash_kind kind;
    bool is_terminal;
    bool has_ttl;                 /* COOKIE: one is made when there is none */
    lt_str name;                  /* of header, cookie or query parameter */
    const struct lt_regex *regex; /* HEADER: rewritten by it; NULL: as it is */
    lt_str substitution;
    lt_str attributes; /* COOKIE: what follows its value: "; Max-Age=5; Path=/; HttpOnly" */
};

struct px_hash_policies {
    const struct px_hash_policy *items;
    size_t count;
};

/* RouteAction.RequestMirrorPolicy */
struct px_mirror_conf {
    lt_str cluster;
    lt_str header;                        /* cluster_header, if cluster is empty */
    lt_str host_rewrite;                  /* host_rewrite_literal; empty: see keeps_host */
    const struct px_mutations *mutations; /* of its head; NULL: none */
    uint32_t fraction_ppm;                /* of a million */
    bool keeps_host;                      /* disable_shadow_host_suffix_append */
};

struct px_mirrors {
    const struct px_mirror_conf *items;
    size_t count;
};

struct px_cookie_match {
    lt_str name;
    struct px_string_match value;
    bool invert;
};

/* TlsContextMatchOptions */
typedef enum { PX_WANT_ANY, PX_WANT_NO, PX_WANT_YES } px_wanted;

/* RouteAction.max_stream_duration, or the max_grpc_timeout that was before it. */
struct px_stream_limits {
    bool replaces_timeout; /* max_stream_duration is there: the route's timeout counts no more */
    bool has_duration;     /* else it is the connection manager's */
    bool has_grpc_max;     /* grpc-timeout counts */
    uint64_t duration_ms;  /* 0: none */
    uint64_t grpc_max_ms, grpc_offset_ms; /* 0: none */
};

/* RouteAction.UpgradeConfig */
struct px_upgrade_conf {
    lt_str type;
    bool is_on;
    bool ends_here; /* CONNECT with connect_config: its bytes go to the cluster as they are */
};

/* RouteAction.internal_redirect_policy */
struct px_internal_redirects {
    uint32_t max;
    uint16_t codes;        /* a bit for each: px_redirect_bit() */
    bool crosses_schemes;  /* allow_cross_scheme_redirect */
    bool only_safely;      /* safe_cross_scheme: not from http to https */
    bool not_twice;        /* previous_routes */
    bool has_allowed;      /* allow_listed_routes */
    const lt_str *allowed; /* names of routes */
    size_t allowed_count;
    const lt_str *copied; /* response_headers_to_copy */
    size_t copied_count;
};

/* 0: no redirect that could be followed. */
static inline uint16_t px_redirect_bit(uint32_t code)
{
    bool is_one = (code >= 301 && code <= 303) || code == 307 || code == 308;
    return is_one ? (uint16_t)(1u << (code - 300)) : 0;
}

/* Route.decorator, where it is passed on: x-envoy-decorator-operation. */
struct px_decorator {
    lt_str operation;
};

struct px_query_match {
    lt_str name;
    struct px_string_match value;
};

struct px_route {
    lt_str name;
    /* match */
    px_path_kind path_kind;
    bool ignore_case;
    const struct px_cookie_match *cookies;
    size_t cookie_count;
    px_wanted tls_presented, tls_validated; /* of the client's certificate */
    bool grpc_only;
    lt_str path;
    const struct lt_regex *path_regex;
    const struct px_header_match *headers;
    size_t header_count;
    const struct px_query_match *queries;
    size_t query_count;
    const struct px_meta_match *wanted; /* dynamic metadata */
    size_t wanted_count;
    uint32_t runtime_fraction_ppm; /* of a million; 1000000: always */
    /* action */
    px_action_kind action;
    lt_str cluster; /* or the header's name (CLUSTER_HEADER) */
    const struct px_weighted_cluster *weighted;
    size_t weighted_count;
    uint32_t total_weight;
    uint32_t cluster_not_found_code; /* 503 by default */
    struct px_redirect redirect;
    uint32_t direct_code;
    px_priority priority;
    lt_str direct_body;
    lt_str prefix_rewrite;
    const struct lt_regex *regex_rewrite;
    lt_str regex_substitution;
    lt_str host_rewrite;
    lt_str host_rewrite_header;
    const struct lt_regex *host_rewrite_regex; /* of the path */
    lt_str host_rewrite_substitution;
    bool auto_host_rewrite;
    bool append_forwarded_host;            /* x-forwarded-host gets the host that was rewritten */
    uint64_t timeout_ms;                   /* 0: none */
    uint64_t idle_timeout_ms;              /* UINT64_MAX: the connection manager's */
    const struct px_stream_limits *limits; /* NULL: none */
    const struct px_retry *retry;          /* NULL: none */
    const struct px_hash_policies *hash;   /* NULL: none */
    const struct px_metas *metas;          /* metadata_match, sorted by key; NULL: none */
    const struct px_internal_redirects *internal_redirects; /* NULL: none */
    struct px_mirrors mirrors;
    const struct px_rate_limits *rate_limits; /* NULL: none */
    const struct px_upgrade_conf *upgrades;
    size_t upgrade_count;
    const struct px_meta *metadata; /* other than istio; NULL: none */
    uint64_t body_limit;            /* of what is kept for retries; UINT64_MAX: the listener's */
    const struct px_decorator *decorator; /* NULL: none, or it is not told */
    struct px_header_edits request, response;
    struct px_filter_confs filters;
    lt_str config_path; /* metadata.istio.config: the VirtualService */
};

struct px_vhost {
    lt_str name;
    const lt_str *domains;
    size_t domain_count;
    const struct px_route *routes;
    size_t route_count;
    struct px_header_edits request, response;
    bool is_on_demand; /* it came by itself: mirrors of its route configuration are looked up */
    bool require_tls_all;
    bool require_tls_external;  /* unless it is internal (internal_address_config) */
    bool include_attempt_count; /* x-envoy-attempt-count */
    bool tells_attempt_count;   /* the client, too: include_attempt_count_in_response */
    bool tells_timeout_retry;   /* include_is_timeout_retry_header */
    const struct px_retry *retry;
    const struct px_meta *metadata;           /* other than istio; NULL: none */
    uint64_t body_limit;                      /* of routes that have none */
    struct px_mirrors mirrors;                /* of routes that have none */
    const struct px_rate_limits *rate_limits; /* NULL: none */
    struct px_filter_confs filters;
};

struct px_domain_suffix {
    lt_str text;
    const struct px_vhost *vhost;
};

/* Which virtual host has a domain (domains.h). */
struct px_domains {
    struct lt_map exact;                     /* domain in lower case -> const struct px_vhost */
    const struct px_domain_suffix *suffixes; /* "*.example.com" -> ".example.com", longest first */
    size_t suffix_count;
    const struct px_domain_suffix *prefixes; /* "example.*", longest first */
    size_t prefix_count;
    const struct px_vhost *catch_all; /* "*" */
};

struct px_routes_conf {
    struct px_resource res; /* kind PX_ROUTES; inside an hcm only the name is set */
    const struct px_vhost *vhosts;
    size_t vhost_count;
    struct px_domains domains;
    struct px_header_edits request, response;
    const lt_str *internal_headers; /* internal_only_headers: taken from what comes from outside */
    size_t internal_header_count;
    struct px_mirrors mirrors; /* of virtual hosts that have none */
    bool ignore_port_in_host;
    bool most_specific_wins;   /* of header edits: the route's after all others */
    bool has_unknown_clusters; /* validate_clusters: false */
    bool has_vhds;             /* hosts that no virtual host has are asked for at: */
    uint16_t vhds_source;      /* id */
    struct px_row *vhds_row;   /* the main thread's: "<name>/", which never serves; NULL: no VHDS */
    struct px_filter_confs filters;
};

/* One that came on demand. */
struct px_vhost_conf {
    struct px_resource res; /* kind PX_VHOST; its name: "<route configuration>/<any>" */
    struct px_vhost vhost;
};

/* Those of one route configuration that came on demand, in a snapshot (table/vhosts.h). */
struct px_vhost_set {
    uint32_t refs; /* main thread only */
    struct lt_arena *arena;
    const struct px_vhost_conf **vhosts; /* counted each */
    size_t count;
    struct px_domains domains;
};

/* --- listeners --- */

typedef enum { PX_LOG_TEXT, PX_LOG_JSON } px_log_form;

/* JSON form: one of a string with operators, a plain value, an object, an array. */
struct px_log_node {
    lt_str key; /* in its object */
    const struct px_format *format;
    const struct lt_doc *plain;
    const struct px_log_node *nodes;
    size_t count;
    bool is_object;
};

struct px_log_filter;

struct px_access_log {
    lt_str path; /* "/dev/stdout" or a file */
    px_log_form form;
    const struct px_format *format;     /* text form (format.h) */
    const struct px_log_node *json;     /* JSON form: an object */
    bool omits_empty;                   /* no "-" and no null members */
    const struct px_log_filter *filter; /* log_filter.h; NULL: all requests */
};

/* access_log_options: when lines are written beside the one at the end. */
struct px_log_times {
    bool at_start;     /* of a request; when the connection to the host stands */
    bool at_tunnel;    /* HTTP: when it stands */
    uint32_t every_ms; /* 0: never */
};

typedef enum {
    PX_XFCC_SANITIZE,
    PX_XFCC_FORWARD_ONLY,
    PX_XFCC_APPEND_FORWARD,
    PX_XFCC_SANITIZE_SET,
    PX_XFCC_ALWAYS_FORWARD
} px_xfcc_mode;

typedef enum { PX_CODEC_AUTO, PX_CODEC_H1, PX_CODEC_H2 } px_codec_type;

struct px_stats_conf;

/* Headers that Router.strict_check_headers may name. */
typedef enum {
    PX_STRICT_TIMEOUT,
    PX_STRICT_PER_TRY,
    PX_STRICT_MAX_RETRIES,
    PX_STRICT_RETRY_ON,
    PX_STRICT_RETRY_GRPC_ON,
    PX_STRICT_HEADERS
} px_strict_header;

struct px_router_conf {
    bool hides_headers;             /* suppress_envoy_headers */
    bool respects_expected_timeout; /* respect_expected_rq_timeout */
    uint32_t strict_headers;        /* a bit for each px_strict_header */
};

struct px_hcm_conf {
    lt_str stat_prefix;
    lt_str route_config_name;            /* RDS; empty: inline */
    uint32_t routes_slot;                /* RDS: in snapshots */
    const struct px_routes_conf *routes; /* inline; same arena; NULL with RDS */
    lt_str server_name;                  /* "envoy" by default */
    struct px_forward_conf forward;
    struct px_router_conf router;
    bool use_remote_address;
    uint32_t xff_num_trusted_hops;
    px_xfcc_mode xfcc;
    bool xfcc_subject, xfcc_cert, xfcc_chain, xfcc_dns, xfcc_uri;
    uint64_t stream_idle_timeout_ms; /* 0: none; Envoy's default 5 min */
    uint64_t request_timeout_ms;     /* until the request is read; 0: none */
    uint64_t request_headers_timeout_ms;
    uint64_t idle_timeout_ms; /* downstream keep-alive; default 1 h */
    uint64_t drain_timeout_ms;
    uint64_t delayed_close_ms;           /* 0: closed at once */
    uint64_t max_connection_duration_ms; /* 0: none */
    uint64_t max_stream_duration_ms;     /* 0: none */
    uint32_t max_connection_jitter_percent;
    uint32_t max_requests_per_connection; /* 0: no limit */
    uint32_t max_request_headers_kb;      /* 60 */
    uint32_t max_headers;                 /* 100 */
    uint32_t body_limit; /* per_connection_buffer_limit_bytes: kept of a body for retries */
    px_underscores underscores;
    bool normalize_path;
    bool merge_slashes;
    lt_url_slashes escaped_slashes;
    bool proxy_100_continue;
    bool generate_request_id;
    bool keeps_external_id;                /* preserve_external_request_id */
    bool answers_request_id;               /* always_set_request_id_in_response */
    const struct px_tracing_conf *tracing; /* trace.h; NULL: none */
    const lt_str *upgrades; /* upgrade_configs that are on, in lower case: "websocket", "connect" */
    size_t upgrade_count;
    px_codec_type codec;
    struct px_h1_options h1;
    struct px_h2_options h2;
    const struct px_http_filter *filters; /* in order; the router is the last */
    size_t filter_count;
    bool has_response_steps, has_off_filters;
    bool has_remote_keys; /* of JWT providers */
    /* istio.metadata_exchange: whose headers are read, who gets ours */
    bool reads_client, answers_client, reads_server, tells_server;
    bool spares_external; /* tells_server: not those outside the mesh */
    bool has_istio_stats, has_istio_alpn;
    bool disable_host_header_fallback; /* of istio.stats */
    const struct px_stats_conf *stats; /* telemetry.h; of istio.stats; NULL: no overrides */
    bool is_inbound;                   /* traffic_direction of the listener */
    bool
        takes_operation; /* it traces and is no client: x-envoy-decorator-operation is for itself */
    const struct px_access_log *access_logs;
    size_t access_log_count;
    struct px_log_times log_times;
};

struct px_on_demand_conf;

struct px_tcp_conf {
    const struct px_on_demand_conf *on_demand; /* NULL: a cluster that is not there is none */
    const struct px_hash_policies *hash;       /* NULL: none */
    const struct px_metas *metas;              /* metadata_match; NULL: none */
    lt_str stat_prefix;
    lt_str cluster;
    const struct px_weighted_cluster *weighted;
    size_t weighted_count;
    uint32_t total_weight;
    uint64_t idle_timeout_ms; /* 1 h; 0: none */
    uint64_t max_duration_ms; /* of the client's connection; 0: none */
    uint32_t max_duration_jitter_percent;
    uint32_t connect_attempts; /* at least 1 */
    bool has_istio_stats;
    const struct px_stats_conf *stats; /* NULL: no overrides */
    uint64_t tcp_report_ms;
    const struct px_access_log *access_logs;
    size_t access_log_count;
    struct px_log_times log_times;
};

struct px_cidr {
    struct lt_addr prefix;
    unsigned bits;
};

typedef enum { PX_SOURCE_ANY, PX_SOURCE_LOCAL, PX_SOURCE_EXTERNAL } px_source_type;

/* FilterChainMatch, by who connects. */
struct px_source_match {
    const struct px_cidr *direct_prefixes, *prefixes;
    size_t direct_prefix_count, prefix_count;
    px_source_type type;
    const uint32_t *ports;
    size_t port_count;
};

/* One network filter before the terminal one; what it does: net_filter.h. */
/* Terminal filters echo (of what comes) and direct_response (this text). */
struct px_small_conf {
    bool is_echo;
    lt_str text;
};

typedef enum {
    PX_NET_RBAC,
    PX_NET_EXT_AUTHZ,
    PX_NET_LOCAL_LIMIT,
    PX_NET_CONNECTION_LIMIT,
    PX_NET_FILTER_KINDS
} px_net_filter_kind;

struct px_net_filter {
    px_net_filter_kind kind;
    const void *conf;
};

/* envoy.config.listener.v3.FilterChain */
struct px_chain {
    lt_str name;
    const struct px_meta *metadata; /* other than istio; NULL: none */
    uint32_t destination_port;      /* 0: any */
    const struct px_cidr *prefixes;
    size_t prefix_count;
    const lt_str *server_names; /* "*.x" kept as ".x" with is_suffix by the leading dot */
    size_t server_name_count;
    lt_str transport_protocol; /* "", "raw_buffer", "tls" */
    const lt_str *application_protocols;
    size_t application_protocol_count;
    const struct px_source_match *source; /* NULL: anybody */
    const struct px_tls_conf *tls;        /* NULL: raw_buffer */
    bool has_tcp_metadata_exchange;
    bool has_sni_cluster; /* the server name is the cluster's, not what the TCP proxy says */
    uint64_t transport_timeout_ms; /* transport_socket_connect_timeout */
    const struct px_net_filter *net_filters;
    size_t net_filter_count;
    /* the terminal filter: exactly one */
    const struct px_hcm_conf *hcm;
    const struct px_tcp_conf *tcp;
    const struct px_small_conf *small;
};

struct px_port_range {
    uint32_t from, to; /* [from, to) */
};

/* Where a listener is, besides its address. */
struct px_more_address {
    struct lt_addr addr;
    bool v6_only; /* an IPv6 address without ipv4_compat */
    lt_str text;
};

struct px_listener_conf {
    struct px_resource res;
    struct lt_addr addr;
    bool v6_only;                             /* an IPv6 address without ipv4_compat */
    const struct px_more_address *more_addrs; /* additional_addresses */
    size_t more_addr_count;
    bool bind_to_port;
    bool use_original_dst; /* hand over to the listener of the original destination */
    bool is_inbound;       /* traffic_direction INBOUND */
    bool is_outbound;
    bool drains_on_change_only; /* drain_type MODIFY_ONLY */
    bool bypasses_overload;     /* bypass_overload_manager */
    bool ignores_connection_limit;
    bool has_original_dst_filter;
    bool has_tls_inspector, has_http_inspector;
    const struct px_port_range *tls_inspector_off; /* filter_disabled, by destination port */
    size_t tls_inspector_off_count;
    const struct px_port_range *http_inspector_off;
    size_t http_inspector_off_count;
    uint64_t filters_timeout_ms; /* 0: none */
    bool continue_on_timeout;
    bool transparent;
    bool reuse_port;
    bool freebind;
    uint32_t tcp_backlog;
    uint32_t fast_open_queue;
    uint32_t unix_mode; /* of its file; 0: our default */
    const struct lt_sock_option *socket_options;
    size_t socket_option_count;
    const struct px_meta *metadata; /* other than istio; NULL: none */
    const struct px_chain *chains;
    size_t chain_count;
    const struct px_chain *default_chain; /* may be NULL */
    const struct px_access_log *access_logs;
    size_t access_log_count;
};

/* --- secrets --- */

typedef enum { PX_SECRET_CERT, PX_SECRET_TRUST, PX_SECRET_TICKET_KEYS } px_secret_kind;

struct px_secret_conf {
    struct px_resource res; /* its arena is wiped before it is freed */
    px_secret_kind is;
    struct px_cert_conf cert;
    struct px_trust_conf trust;
    const lt_str *ticket_keys;
    size_t ticket_key_count;
};

/* --- the whole --- */

struct px_cluster_state;
struct px_host_state;

struct px_roster;

struct px_cluster_entry {
    const struct px_cluster_conf *conf;
    const struct px_endpoints_conf *endpoints; /* NULL: ORIGINAL_DST, or none known */
    struct px_cluster_state *state;            /* shared.h; NULL: nothing is shared */
    struct px_host_state *const *host_states;  /* by index of endpoint; NULL: none have any */
    struct px_roster *roster;                  /* the main thread's: what holds the three above */
};

struct px_routes_entry {
    const struct px_routes_conf *conf;
    const struct px_vhost_set *on_demand; /* NULL: none has come */
};

struct px_listener_entry {
    const struct px_listener_conf *conf;
};

/*
 * What a connection manager takes in place of a filter's config_discovery. Listeners are made anew
 * with it: at run time it is a filter as any other.
 */
struct px_extension_conf {
    struct px_resource res;
    lt_str type_url, value; /* of typed_config */
};

/* Contexts by px_tls_conf.ctx_slot, NULL where one is missing; counted by the main thread. */
struct px_tls_set {
    uint32_t refs, count;
    struct lt_tls_ctx *ctxs[]; /* counted each */
};

/*
 * Immutable. Made by the main thread, counted by it once for each worker that holds it. Workers
 * find clusters by name, what their configuration refers to by slot; what a worker needs to keep at
 * run time (pools, counters) it keeps itself, and follows the difference between two snapshots.
 */
struct px_snapshot {
    uint64_t generation;
    uint32_t holders;               /* main thread only: workers that have not given it back */
    struct px_index *cluster_names; /* counted */
    struct px_shelf clusters;       /* of struct px_cluster_entry */
    struct px_shelf routes;         /* of struct px_routes_entry */
    struct px_shelf listeners;      /* of struct px_listener_entry */
    struct px_tls_set *tls;         /* counted */
};

/* Another worker has it; it gave it back, and at the last one it goes: table/snapshot.c. */
void px_snapshot_hold(struct px_snapshot *snapshot);
void px_snapshot_drop(struct px_snapshot **snapshot);

/* NULL: none. */
const struct px_cluster_entry *px_snapshot_find_cluster(const struct px_snapshot *snapshot,
                                                        lt_str name);

/* Of RDS: NULL while there are none. */
static inline const struct px_routes_conf *px_snapshot_routes(const struct px_snapshot *snapshot,
                                                              uint32_t slot)
{
    const struct px_routes_entry *entry = px_shelf_at(&snapshot->routes, slot);
    return entry != NULL ? entry->conf : NULL;
}

/* The virtual hosts that came on demand for these routes; NULL: none. */
static inline const struct px_domains *px_snapshot_on_demand(const struct px_snapshot *snapshot,
                                                             uint32_t slot)
{
    const struct px_routes_entry *entry = px_shelf_at(&snapshot->routes, slot);
    return entry != NULL && entry->on_demand != NULL ? &entry->on_demand->domains : NULL;
}

static inline struct lt_tls_ctx *px_snapshot_tls(const struct px_snapshot *snapshot, uint32_t slot)
{
    return slot < snapshot->tls->count ? snapshot->tls->ctxs[slot] : NULL;
}

#endif
