/*
 * proxy/conf/cluster.h - frozen clusters and endpoints: the part of conf.h that cluster.c, lb*.c
 * and the main thread's upkeep of clusters read. There may be tens of thousands of endpoints and
 * few of them in use, so that they are kept small: what most have alike is stored once.
 * Names and meaning of the fields are Envoy's.
 */
#ifndef LT_PROXY_CONF_CLUSTER_H
#define LT_PROXY_CONF_CLUSTER_H

#include "proxy/conf/http.h"
#include "proxy/conf/resource.h"

struct px_tls_conf;

/*
 * A value of metadata as text, in JSON: "\"prod\"", "1.5", "true". Where only strings count: bare.
 */
struct px_meta_pair {
    lt_str key;
    lt_str value;
};

struct px_metas {
    const struct px_meta_pair *items;
    size_t count;
};

/* --- endpoints --- */

typedef enum {
    PX_HEALTH_UNKNOWN,
    PX_HEALTH_HEALTHY,
    PX_HEALTH_UNHEALTHY,
    PX_HEALTH_DRAINING,
    PX_HEALTH_TIMEOUT,
    PX_HEALTH_DEGRADED
} px_health;

/* Endpoint.HealthCheckConfig */
struct px_endpoint_check {
    struct lt_addr addr; /* len 0: the endpoint's */
    uint16_t port;       /* 0: the endpoint's */
    lt_str hostname;
    bool is_off;
};

struct px_meta;

/* What endpoints have beside an address; most of an assignment share one of these. */
struct px_endpoint_facts {
    lt_str hostname;                /* the DNS name to resolve, or Endpoint.hostname */
    const struct px_meta *metadata; /* other than the below; NULL: none */
    lt_str workload;                /* metadata istio.workload, "<workload>;<ns>;<service>;..." */
    struct px_metas transport;      /* metadata envoy.transport_socket_match, strings */
    struct px_metas lb;             /* metadata envoy.lb, sorted by key; JSON */
    lt_str hash_key;                /* its hash_key, when that is a string */
    bool is_canary;                 /* its canary */
    const struct px_endpoint_check *check; /* NULL: none */
};

typedef enum { PX_AT_NAME, PX_AT_V4, PX_AT_V6, PX_AT_UNIX } px_address_kind;

struct px_endpoint_conf {
    uint32_t weight;   /* >= 1 */
    uint16_t port;     /* host order */
    uint16_t locality; /* index into localities */
    uint8_t health;    /* px_health */
    uint8_t kind;      /* px_address_kind */
    union {
        uint8_t v4[4];
        const uint8_t *v6;
        const char *path;
        const char *name; /* to be resolved */
    };
    const struct px_endpoint_facts *facts;
};

struct px_locality {
    lt_str region, zone, sub_zone;
    uint32_t weight; /* 0: no locality weight */
    uint32_t priority;
};

/* ClusterLoadAssignment.Policy.DropOverload */
struct px_drop_conf {
    lt_str category;
    uint32_t ppm;
};

struct px_endpoints_conf {
    struct px_resource res; /* kind PX_ENDPOINTS; of inline ones only the name is set */
    const struct px_endpoint_conf *endpoints;
    const struct px_locality *localities;
    const struct px_drop_conf *drops;
    uint32_t endpoint_count;
    uint16_t locality_count, drop_count;
    uint32_t overprovisioning_percent; /* 140 */
    bool weighted_priority_health;
};

/* The address; len 0 for a name that is not resolved. */
struct lt_addr px_endpoint_addr(const struct px_endpoint_conf *endpoint);
/* Kind, port and address; what does not fit into the struct goes into the arena. */
void px_endpoint_set_addr(struct lt_arena *arena, struct px_endpoint_conf *endpoint,
                          const struct lt_addr *addr);

/* --- load balancing --- */

typedef enum {
    PX_LB_ROUND_ROBIN,
    PX_LB_LEAST_REQUEST,
    PX_LB_RANDOM,
    PX_LB_RING_HASH,
    PX_LB_MAGLEV,
    PX_LB_CLUSTER_PROVIDED
} px_lb_policy;

typedef enum {
    PX_LOCALITY_NONE,
    PX_LOCALITY_WEIGHTED,
    PX_LOCALITY_ZONE_AWARE,
} px_locality_mode;

typedef enum {
    PX_SUBSET_UNDEFINED, /* of a selector: the cluster's */
    PX_SUBSET_NONE,
    PX_SUBSET_ANY,
    PX_SUBSET_DEFAULT,
    PX_SUBSET_KEYS,
} px_subset_fallback;

struct px_subset_selector {
    const lt_str *keys; /* sorted */
    size_t key_count;
    px_subset_fallback fallback;
    const lt_str *fallback_keys; /* sorted */
    size_t fallback_key_count;
    bool is_single_host;
};

/* Cluster.LbSubsetConfig */
struct px_subset_conf {
    const struct px_subset_selector *selectors;
    size_t selector_count;
    px_subset_fallback fallback;
    struct px_metas default_subset; /* sorted by key */
    bool locality_weight_aware, scale_locality_weight;
    bool panic_mode_any;
    bool list_as_any;
};

struct px_lb_conf {
    px_lb_policy policy;
    px_locality_mode locality;
    uint32_t panic_percent;       /* Envoy's 50, Istio sends 0 */
    uint32_t choice_count;        /* LEAST_REQUEST: 2 */
    double active_request_bias;   /* LEAST_REQUEST with weights: 1 */
    uint64_t slow_start_ms;       /* 0: none */
    double slow_start_aggression; /* 1 */
    double slow_start_min;        /* of the weight: 0.1 */
    uint64_t ring_min, ring_max;  /* RING_HASH: 1024 and 8 Mi */
    bool ring_is_murmur;
    bool hash_by_hostname;
    uint32_t table_size;                 /* MAGLEV: 65537 */
    uint32_t balance_percent;            /* hash_balance_factor; 0: none */
    uint32_t zone_routing_percent;       /* ZONE_AWARE: 100 */
    uint64_t zone_min_hosts;             /* 6 */
    bool fails_on_panic;                 /* fail_traffic_on_panic */
    const struct px_subset_conf *subset; /* NULL: none */
};

/* Cluster.OriginalDstLbConfig */
struct px_original_dst_conf {
    lt_str header; /* empty: the connection's destination */
    uint16_t port; /* upstream_port_override; 0: none */
};

/* --- limits --- */

typedef enum { PX_PRIORITY_DEFAULT, PX_PRIORITY_HIGH, PX_PRIORITIES } px_priority;

typedef enum {
    PX_LIMIT_CONNECTIONS,
    PX_LIMIT_PENDING,
    PX_LIMIT_REQUESTS,
    PX_LIMIT_RETRIES,
    PX_LIMIT_POOLS,
    PX_LIMITS
} px_limit;

/* CircuitBreakers.Thresholds */
struct px_circuit {
    uint32_t max[PX_LIMITS]; /* UINT32_MAX: no limit */
    uint32_t counted;        /* a bit for each limit for which all workers count together */
    double budget_percent;   /* retry_budget: of the requests; below 0: max counts */
    uint32_t budget_min;     /* min_retry_concurrency */
    bool tracks_remaining;
};

/* cluster.v3.OutlierDetection */
struct px_outlier_conf {
    uint64_t interval_ms;
    uint64_t base_ejection_ms, max_ejection_ms, ejection_jitter_ms;
    uint32_t max_ejection_percent;
    bool always_ejects_one;
    bool splits_local_origin;
    bool check_unejects; /* successful_active_health_check_uneject_host */
    uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
    uint32_t enforce_5xx, enforce_gateway, enforce_local; /* percent */
    uint32_t enforce_success_rate, enforce_local_success_rate;
    uint32_t enforce_failure_percent, enforce_local_failure_percent;
    uint32_t success_rate_hosts, success_rate_volume;
    uint32_t success_rate_stdev_thousandth; /* 1900: 1.9 times the standard deviation */
    uint32_t failure_percent_threshold, failure_percent_hosts, failure_percent_volume;
};

/* --- active health checks --- */

typedef enum { PX_CHECK_HTTP, PX_CHECK_TCP, PX_CHECK_GRPC } px_check_kind;

/* Status codes [from, to). */
struct px_status_range {
    uint32_t from, to;
};

struct px_check_header {
    lt_str name, value;
};

/* core.v3.HealthCheck */
struct px_check_conf {
    px_check_kind kind;
    uint64_t timeout_ms, interval_ms, initial_jitter_ms, interval_jitter_ms;
    uint32_t interval_jitter_percent;
    uint64_t no_traffic_ms, no_traffic_healthy_ms;
    uint64_t unhealthy_ms, unhealthy_edge_ms, healthy_edge_ms;
    uint32_t unhealthy_threshold, healthy_threshold;
    uint16_t alt_port; /* 0: none */
    bool reuses_connection;
    bool has_transport; /* transport_socket_match_criteria chose tls, which may be NULL: plain */
    const struct px_tls_conf *tls;
    const lt_str *alpn; /* tls_options; count 0: the socket's */
    size_t alpn_count;
    lt_str host; /* HTTP: host; gRPC: authority; empty: the cluster's name */
    lt_str path, method;
    bool is_h2;
    const struct px_check_header *headers; /* request_headers_to_add, initial_metadata */
    size_t header_count;
    const struct px_status_range *expected, *retriable; /* expected: none is 200 alone */
    size_t expected_count, retriable_count;
    const struct px_string_match *service; /* service_name_matcher; NULL: none */
    lt_str grpc_service;
    lt_str send; /* TCP; empty: connecting is enough. HTTP: the body */
    const lt_str *receive;
    size_t receive_count;
    uint32_t response_bytes_max; /* of HTTP bodies, when receive is set */
};

/* --- DNS --- */

typedef enum {
    PX_FAMILY_AUTO,
    PX_FAMILY_V4,
    PX_FAMILY_V6,
    PX_FAMILY_V4_PREFERRED,
    PX_FAMILY_ALL
} px_dns_family;

enum { PX_RESOLVERS_MAX = 8 };

struct px_dns_conf {
    px_dns_family family;
    uint64_t refresh_ms, jitter_ms, min_refresh_ms;
    uint64_t failure_base_ms, failure_max_ms;
    bool respects_ttl;
    bool is_one_host; /* all_addresses_in_single_endpoint */
    /* the resolver; no servers: the system's */
    const struct lt_addr *servers;
    size_t server_count;
    bool servers_are_fallback;
    bool uses_tcp, has_no_search, rotates;
    bool skips_unroutable; /* filter_unroutable_families */
    uint32_t tries;        /* 0: the library's */
    uint64_t timeout_ms;   /* 0: the library's */
};

/* --- clusters --- */

typedef enum {
    PX_DISCOVERY_STATIC,
    PX_DISCOVERY_STRICT_DNS,
    PX_DISCOVERY_LOGICAL_DNS,
    PX_DISCOVERY_EDS,
    PX_DISCOVERY_ORIGINAL_DST
} px_discovery;

/* One envoy.transport_socket_matches entry, or the plain transport_socket. tls NULL: raw_buffer. */
struct px_transport_match {
    lt_str name;
    struct px_metas match; /* all must be in the endpoint's transport metadata; none: always */
    const struct px_tls_conf *tls;
};

/* AUTO: what ALPN says, HTTP/1.1 without it. */
typedef enum {
    PX_UPSTREAM_H1,
    PX_UPSTREAM_H2,
    PX_UPSTREAM_AS_DOWNSTREAM,
    PX_UPSTREAM_AUTO
} px_upstream_protocol;

/* upstream_bind_config, upstream_connection_options.tcp_keepalive */
struct px_socket_conf {
    struct lt_addr source; /* len 0: none */
    bool has_keepalive;
    uint32_t keepalive_idle_s, keepalive_interval_s, keepalive_probes; /* 0: the kernel's */
};

struct px_cluster_conf {
    struct px_resource res;
    lt_str alt_stat_name;         /* empty: name */
    const struct px_row *eds_row; /* EDS: the main thread's; NULL: another discovery */
    lt_str eds_service_name;      /* EDS: what is asked for; the name when not given */
    /* many clusters share one of these */
    const struct px_lb_conf *lb;
    const struct px_circuit *circuits[PX_PRIORITIES];
    const struct px_h1_options *h1;                  /* never NULL */
    const struct px_h2_options *h2;                  /* NULL: HTTP/1.1 alone */
    const struct px_outlier_conf *outlier;           /* NULL: none */
    const struct px_check_conf *check;               /* NULL: none */
    const struct px_dns_conf *dns;                   /* NULL: no DNS cluster */
    const struct px_original_dst_conf *original_dst; /* NULL: another cluster, or nothing special */
    const struct px_socket_conf *socket;             /* NULL: nothing special */
    const lt_str *auto_sni_header;                   /* override_auto_sni_header; NULL: Host */
    const struct px_transport_match *transports; /* first that matches wins; the last always does */
    const struct px_endpoints_conf *inline_endpoints; /* STATIC and DNS; same arena; or NULL */
    const struct px_response_limits *response;        /* http.h; never NULL */
    uint64_t idle_timeout_ms; /* of pooled upstream connections; 0: never; default 1 h */
    uint64_t max_connection_duration_ms;
    uint32_t connect_timeout_ms;
    uint32_t max_requests_per_connection; /* 0: no limit */
    uint32_t host_max_connections;        /* per_host_thresholds; UINT32_MAX: no limit */
    uint32_t cleanup_ms;                  /* ORIGINAL_DST: cleanup_interval */
    uint32_t override_health_mask;        /* override_host_status: 1 << px_health */
    uint16_t transport_count;
    uint8_t discovery;                  /* px_discovery */
    uint8_t protocol;                   /* px_upstream_protocol */
    bool has_tcp_metadata_exchange : 1; /* istio.metadata_exchange in Cluster.filters */
    bool has_alpn_override_off : 1;     /* metadata istio.alpn_override == "false" */
    bool has_exchange_off : 1;          /* istio.disable_mx: peers get none of our metadata */
    bool is_external : 1;               /* istio.external, or PassthroughCluster */
    bool ignores_health_on_removal : 1;
    bool closes_on_health_failure : 1;
    bool closes_on_set_change : 1;
    bool ignores_new_until_check : 1;
    bool has_pool_per_client : 1; /* connection_pool_per_downstream_connection */
    bool has_auto_sni : 1, has_auto_san : 1;
    /* Istio's metadata for labels: services[0] and the destination-rule path */
    lt_str config_path; /* metadata.istio.config: the DestinationRule */
    lt_str service_host, service_name, service_namespace;
    lt_str subset;
    const struct px_meta *metadata; /* other than istio; NULL: none */
};

/* True when something of it is counted for all workers together (shared.h). */
bool px_cluster_has_shared_limits(const struct px_cluster_conf *conf);
/* The socket for endpoints with this metadata; NULL: plain. */
const struct px_tls_conf *px_cluster_find_tls(const struct px_cluster_conf *conf,
                                              const struct px_metas *metas);

#endif
