/*
 * proxy/agent/settings.h - environment variables, ProxyConfig, labels and annotations as one struct
 * of settled values, and the node that the control plane sees. Precedence and defaults are
 * pilot-agent's: built in < mesh config file < PROXY_CONFIG < pod annotation.
 * Not here: doing anything with them (agent_*.c).   Start at: px_agent_settings_read().
 */
#ifndef LT_PROXY_AGENT_SETTINGS_H
#define LT_PROXY_AGENT_SETTINGS_H

#include "base/env.h"
#include "net/x509.h"
#include "wire/doc.h"

enum { PX_AGENT_HEADERS_MAX = 28 };

struct px_agent_header {
    lt_str name; /* lower case */
    lt_str value;
};

/* All slices live in the arena that was given. */
struct px_agent_settings {
    /* identity */
    lt_str instance_ip, pod_name, pod_namespace, service_account, trust_domain;
    lt_str spiffe_id;
    lt_str cluster_id;
    /* the node */
    lt_str node_id, node_cluster, locality;
    struct lt_doc metadata;     /* an object */
    struct lt_doc annotations;  /* of the pod; an object of strings */
    struct lt_doc proxy_config; /* the effective one; an object */
    /* the control plane */
    lt_str discovery_host;
    uint16_t discovery_port;
    bool discovery_is_plaintext; /* controlPlaneAuthPolicy NONE, or port 15010 */
    lt_str xds_name;             /* TLS server name expected of discovery */
    lt_str ca_host;
    uint16_t ca_port;
    bool ca_is_plaintext;
    lt_str ca_name;
    lt_str token_path, xds_root_path, ca_root_path; /* root path empty: the system's roots */
    const struct px_agent_header *xds_headers, *ca_headers;
    size_t xds_header_count, ca_header_count;
    /* certificates */
    lt_key_kind key_kind;
    int64_t secret_ttl_s;
    double rotation_ratio, rotation_jitter; /* renew when that share of the life is left */
    lt_str output_certs;                    /* directory, or empty */
    lt_str credentials_dir; /* with cert-chain.pem, key.pem, root-cert.pem: no CSR; or empty */
    lt_str crl_path;
    /* sockets and ports */
    lt_str config_path; /* "./etc/istio/proxy" */
    lt_str sds_socket, xds_socket;
    uint16_t admin_port, status_port, health_port, prometheus_port; /* 15000 15020 15021 15090 */
    bool is_metrics_local_only;
    /* names */
    bool takes_proxy_config; /* PROXY_CONFIG_XDS_AGENT: roots by PCDS */
    bool serves_dns;         /* DNS_CAPTURE of a sidecar, or ENABLE_DNS_SERVER */
    lt_str dns_address;      /* "localhost:15053" */
    lt_str dns_domain;       /* "shop.svc.cluster.local" */
    lt_str resolv_path;      /* "/etc/resolv.conf" */
    bool dns_asks_all;
    int64_t dns_timeout_ns;
    /* the proxy */
    lt_str binary_path;
    bool has_binary_path; /* somebody set it */
    bool is_router;
    unsigned concurrency;
    uint32_t drain_ms, termination_drain_ms, minimum_drain_ms;
    bool exits_on_zero_connections;
    bool uses_delta_xds;
    bool skips_deprecated_logs; /* of a real Envoy */
    lt_str log_level;
    lt_str component_log_level; /* of a real Envoy; empty: none */
    lt_str app_probers;         /* ISTIO_KUBE_APP_PROBERS, JSON or empty */
    lt_str app_metrics;         /* ISTIO_PROMETHEUS_ANNOTATIONS, likewise */
};

/* Where the values come from; tests give their own. */
struct px_agent_sources {
    /* LT_STR_NULL when it is not set. */
    lt_str (*get_env)(void *ctx, const char *name);
    /* All "NAME=value", NULL-terminated. */
    const char *const *all_env;
    /* Whole content into arena; LT_E_NOT_FOUND when there is no such file. */
    lt_rc (*read_file)(void *ctx, struct lt_arena *arena, const char *path, lt_str *ret_text);
    void *ctx;
    bool is_router;
    const char *domain;              /* or NULL */
    const char *log_level;           /* or NULL */
    const char *component_log_level; /* or NULL */
    unsigned concurrency;            /* 0: not given */
    unsigned cpu_count;
};

/* The error names variable or file, and the line inside. */
LT_MUST lt_rc px_agent_settings_read(struct lt_arena *arena, const struct px_agent_sources *sources,
                                     struct px_agent_settings *ret_settings, struct lt_err *err);

/* --- node.c, called by px_agent_settings_read --- */

/*
 * A file of the downward API, lines of key="quoted", as an object of strings; empty when there is
 * no such file.
 */
struct lt_doc px_agent_read_downward(struct lt_arena *arena, const struct px_agent_sources *sources,
                                     const char *path);
/* Fills node_id, node_cluster, locality and metadata; everything else is there already. */
LT_MUST lt_rc px_agent_read_node(struct lt_arena *arena, const struct px_agent_sources *sources,
                                 struct px_agent_settings *settings, struct lt_err *err);

/* --- what is made of them --- */

/* envoy.config.core.v3.Node of these settings as a document in Envoy's JSON. */
struct lt_doc px_agent_node_doc(struct lt_arena *arena, const struct px_agent_settings *settings);
/* The bootstrap: for a real Envoy, and for the data path in this process. */
lt_str px_agent_bootstrap_text(struct lt_arena *arena, const struct px_agent_settings *settings);

#endif
