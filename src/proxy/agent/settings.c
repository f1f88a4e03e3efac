/*
 * proxy/agent/settings.c - environment and ProxyConfig into settled values. The node: node.c.
 * Start at: px_agent_settings_read().
 */
#include "proxy/agent/settings.h"

#include <ctype.h>

#include "net/addr.h"
#include "wire/json.h"
#include "wire/yaml.h"

#define SYSTEM_ROOTS "/etc/ssl/certs/ca-certificates.crt"
#define MOUNTED_ROOT "./var/run/secrets/istio/root-cert.pem"
#define CERTS_ROOT "./etc/certs/root-cert.pem"
#define ENVOY_PATH "/usr/local/bin/envoy"

/* --- reading the environment --- */

static lt_str env_of(const struct px_agent_sources *sources, const char *name)
{
    return sources->get_env(sources->ctx, name);
}

static lt_str env_or(const struct px_agent_sources *sources, const char *name, lt_str otherwise)
{
    lt_str value = env_of(sources, name);
    return value.len > 0 ? value : otherwise;
}

static lt_rc bad_env(struct lt_err *err, const char *name, lt_str value, const char *expected)
{
    return lt_err_set(err, LT_E_BAD, "%s=%.*s: expected %s", name, LT_STR_ARG(value), expected);
}

static lt_rc env_bool(const struct px_agent_sources *sources, const char *name, bool *value,
                      struct lt_err *err)
{
    lt_str text = env_of(sources, name);
    bool is_known = text.len == 0 || lt_str_to_bool(text, value) == LT_OK;
    return is_known ? LT_OK : bad_env(err, name, text, "true or false");
}

static lt_rc env_port(const struct px_agent_sources *sources, const char *name, uint16_t *port,
                      struct lt_err *err)
{
    uint64_t number = 0;
    lt_str text = env_of(sources, name);
    if (text.len == 0)
        return LT_OK;
    if (lt_str_to_u64(text, &number) != LT_OK || number > UINT16_MAX)
        return bad_env(err, name, text, "a port");
    *port = (uint16_t)number;
    return LT_OK;
}

static lt_rc env_duration_ns(const struct px_agent_sources *sources, const char *name, int64_t *ns,
                             struct lt_err *err)
{
    lt_str text = env_of(sources, name);
    if (text.len > 0 && (lt_duration_parse(text, ns) != LT_OK || *ns < 0))
        return bad_env(err, name, text, "a duration such as 24h or 5s");
    return LT_OK;
}

static lt_rc env_ratio(const struct px_agent_sources *sources, const char *name, double *ratio,
                       struct lt_err *err)
{
    lt_str text = env_of(sources, name);
    if (text.len > 0 && (lt_str_to_double(text, ratio) != LT_OK || !(*ratio >= 0 && *ratio <= 1)))
        return bad_env(err, name, text, "a number from 0 to 1");
    return LT_OK;
}

/* --- ProxyConfig --- */

/*
 * discovery_address becomes discoveryAddress: protojson reads both, the control plane is sent one.
 */
static lt_str camel_name(struct lt_arena *arena, lt_str name)
{
    char *out = lt_arena_strz(arena, name);
    size_t len = 0;
    bool is_up = false;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == '_') {
            is_up = true;
            continue;
        }
        out[len++] = is_up ? (char)toupper((unsigned char)name.ptr[i]) : name.ptr[i];
        is_up = false;
    }
    return lt_str_make(out, len);
}

/* Field by field; of proxyMetadata the members add up. */
static void overlay(struct lt_arena *arena, struct lt_doc *config, const struct lt_doc *over)
{
    for (uint32_t i = 0; i < over->count; i++) {
        lt_str name = camel_name(arena, over->members[i].key);
        const struct lt_doc *value = &over->members[i].value;
        const struct lt_doc *old = lt_doc_find(config, name);
        if (value->kind == LT_DOC_NULL)
            continue;
        if (lt_str_eqz(name, "proxyMetadata") && lt_doc_is(old, LT_DOC_OBJECT) &&
            lt_doc_is(value, LT_DOC_OBJECT)) {
            struct lt_doc merged = lt_doc_copy(arena, old);
            for (uint32_t j = 0; j < value->count; j++)
                lt_doc_set(arena, &merged, value->members[j].key, value->members[j].value);
            lt_doc_set(arena, config, name, merged);
        } else {
            lt_doc_set(arena, config, name, *value);
        }
    }
}

static lt_rc overlay_text(struct lt_arena *arena, struct lt_doc *config, lt_str text,
                          const char *where, struct lt_err *err)
{
    const struct lt_doc *over = NULL;
    if (lt_str_trim(text).len == 0)
        return LT_OK;
    lt_rc rc = lt_yaml_parse(arena, lt_yaml_whole(text), NULL, &over, err);
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "%s", where);
    if (over->kind == LT_DOC_NULL)
        return LT_OK;
    if (over->kind != LT_DOC_OBJECT)
        return lt_err_set(err, LT_E_BAD, "%s: expected an object, got %s", where,
                          lt_doc_kind_name(over->kind));
    overlay(arena, config, over);
    return LT_OK;
}

static struct lt_doc default_config(struct lt_arena *arena)
{
    static const struct {
        const char *name, *value;
    } strings[] = {
        {"configPath", "./etc/istio/proxy"},
        {"serviceCluster", "istio-proxy"},
        {"drainDuration", "45s"},
        {"terminationDrainDuration", "5s"},
        {"discoveryAddress", "istiod.istio-system.svc:15012"},
        {"controlPlaneAuthPolicy", "MUTUAL_TLS"},
    };
    struct lt_doc config = lt_doc_of_object();
    for (size_t i = 0; i < LT_ARRAY_LEN(strings); i++)
        lt_doc_set(arena, &config, lt_str_of(strings[i].name),
                   lt_doc_of_str(lt_str_of(strings[i].value)));
    lt_doc_set(arena, &config, LT_STR("statNameLength"), lt_doc_of_int(189));
    lt_doc_set(arena, &config, LT_STR("proxyAdminPort"), lt_doc_of_int(15000));
    lt_doc_set(arena, &config, LT_STR("statusPort"), lt_doc_of_int(15020));
    return config;
}

/* The mesh config file of gateways and machines: its defaultConfig. */
static lt_rc overlay_mesh_file(struct lt_arena *arena, const struct px_agent_sources *sources,
                               struct lt_doc *config, struct lt_err *err)
{
    static const char path[] = "./etc/istio/config/mesh";
    lt_str text;
    const struct lt_doc *mesh = NULL;
    if (sources->read_file(sources->ctx, arena, path, &text) != LT_OK || lt_str_trim(text).len == 0)
        return LT_OK;
    lt_rc rc = lt_yaml_parse(arena, lt_yaml_whole(text), NULL, &mesh, err);
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "%s", path);
    const struct lt_doc *defaults = lt_doc_findz(mesh, "defaultConfig");
    if (lt_doc_is(defaults, LT_DOC_OBJECT))
        overlay(arena, config, defaults);
    return LT_OK;
}

static lt_rc read_proxy_config(struct lt_arena *arena, const struct px_agent_sources *sources,
                               struct px_agent_settings *settings, struct lt_err *err)
{
    struct lt_doc config = default_config(arena);
    LT_TRY(overlay_mesh_file(arena, sources, &config, err));
    LT_TRY(overlay_text(arena, &config, env_of(sources, "PROXY_CONFIG"), "PROXY_CONFIG", err));
    const struct lt_doc *annotations = &settings->annotations;
    LT_TRY(overlay_text(arena, &config,
                        lt_doc_string(lt_doc_findz(annotations, "proxy.istio.io/config")),
                        "annotation proxy.istio.io/config", err));
    lt_str discovery = lt_doc_string(
        lt_doc_findz(annotations, "sidecar.istio.io/discoveryAddress"));
    if (discovery.len > 0)
        lt_doc_set(arena, &config, LT_STR("discoveryAddress"), lt_doc_of_str(discovery));
    uint64_t status_port = 0;
    if (lt_str_to_u64(lt_doc_string(lt_doc_findz(annotations, "status.sidecar.istio.io/port")),
                      &status_port) == LT_OK)
        lt_doc_set(arena, &config, LT_STR("statusPort"), lt_doc_of_int((int64_t)status_port));

    lt_str binary = lt_doc_string(lt_doc_findz(&config, "binaryPath"));
    settings->has_binary_path = binary.len > 0;
    settings->binary_path = settings->has_binary_path ? binary : LT_STR(ENVOY_PATH);
    if (!settings->has_binary_path)
        lt_doc_set(arena, &config, LT_STR("binaryPath"), lt_doc_of_str(settings->binary_path));
    settings->proxy_config = config;
    return LT_OK;
}

static lt_rc config_port(const struct lt_doc *config, const char *name, uint16_t *ret_port,
                         struct lt_err *err)
{
    int64_t port = 0;
    const struct lt_doc *node = lt_doc_findz(config, name);
    if (node == NULL)
        return LT_OK;
    if (!lt_doc_is_int(node, &port) || port < 0 || port > UINT16_MAX)
        return lt_err_set(err, LT_E_BAD, "ProxyConfig.%s: expected a port", name);
    *ret_port = (uint16_t)port;
    return LT_OK;
}

static lt_rc config_duration_ms(const struct lt_doc *config, const char *name, uint32_t *ret_ms,
                                struct lt_err *err)
{
    int64_t ns = 0;
    lt_str text = lt_doc_string(lt_doc_findz(config, name));
    if (lt_duration_parse(text, &ns) != LT_OK || ns < 0 || ns / (int64_t)LT_NS_PER_MS > UINT32_MAX)
        return lt_err_set(err, LT_E_BAD, "ProxyConfig.%s: expected a duration, got %.*s", name,
                          LT_STR_ARG(text));
    *ret_ms = (uint32_t)(ns / (int64_t)LT_NS_PER_MS);
    return LT_OK;
}

/*
 * ProxyConfig.concurrency, else the container's CPU limit (already rounded up), else two, as Istio
 * had it for long.
 */
static lt_rc read_concurrency(const struct px_agent_sources *sources,
                              struct px_agent_settings *settings, struct lt_err *err)
{
    int64_t configured = 0;
    uint64_t limit = 2;
    const struct lt_doc *node = lt_doc_findz(&settings->proxy_config, "concurrency");
    lt_str text = env_of(sources, "ISTIO_CPU_LIMIT");
    if (sources->concurrency > 0) {
        settings->concurrency = sources->concurrency;
        return LT_OK;
    }
    if (node != NULL && (!lt_doc_is_int(node, &configured) || configured < 0 || configured > 1024))
        return lt_err_set(err, LT_E_BAD, "ProxyConfig.concurrency: expected a number of threads");
    if (node == NULL && text.len > 0 && (lt_str_to_u64(text, &limit) != LT_OK || limit > 1024))
        return bad_env(err, "ISTIO_CPU_LIMIT", text, "a number");
    uint64_t wanted = node != NULL ? (uint64_t)configured : limit;
    settings->concurrency = wanted == 0 ? LT_MAX(sources->cpu_count, 1u) : (unsigned)wanted;
    return LT_OK;
}

static lt_rc read_proxy(const struct px_agent_sources *sources, struct px_agent_settings *settings,
                        struct lt_err *err)
{
    const struct lt_doc *config = &settings->proxy_config;
    LT_TRY(config_port(config, "proxyAdminPort", &settings->admin_port, err));
    LT_TRY(config_port(config, "statusPort", &settings->status_port, err));
    LT_TRY(config_duration_ms(config, "drainDuration", &settings->drain_ms, err));
    LT_TRY(config_duration_ms(config, "terminationDrainDuration", &settings->termination_drain_ms,
                              err));
    settings->config_path = lt_doc_string(lt_doc_findz(config, "configPath"));
    settings->health_port = 15021;
    settings->prometheus_port = 15090;
    LT_TRY(env_port(sources, "ENVOY_STATUS_PORT", &settings->health_port, err));
    LT_TRY(env_port(sources, "ENVOY_PROMETHEUS_PORT", &settings->prometheus_port, err));
    LT_TRY(
        env_bool(sources, "METRICS_LOCALHOST_ACCESS_ONLY", &settings->is_metrics_local_only, err));
    LT_TRY(env_bool(sources, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
                    &settings->exits_on_zero_connections, err));
    settings->uses_delta_xds = true;
    LT_TRY(env_bool(sources, "ISTIO_DELTA_XDS", &settings->uses_delta_xds, err));
    LT_TRY(env_bool(sources, "PROXY_CONFIG_XDS_AGENT", &settings->takes_proxy_config, err));
    int64_t minimum_ns = 5 * (int64_t)LT_NS_PER_S;
    LT_TRY(env_duration_ns(sources, "MINIMUM_DRAIN_DURATION", &minimum_ns, err));
    settings->minimum_drain_ms = (uint32_t)LT_MIN(minimum_ns / (int64_t)LT_NS_PER_MS,
                                                  (int64_t)UINT32_MAX);
    settings->app_probers = env_of(sources, "ISTIO_KUBE_APP_PROBERS");
    settings->app_metrics = env_of(sources, "ISTIO_PROMETHEUS_ANNOTATIONS");
    settings->log_level = lt_str_of(sources->log_level != NULL ? sources->log_level : "warning");
    if (sources->component_log_level != NULL)
        settings->component_log_level = lt_str_of(sources->component_log_level);
    settings->skips_deprecated_logs = true;
    LT_TRY(env_bool(sources, "ENVOY_SKIP_DEPRECATED_LOGS", &settings->skips_deprecated_logs, err));
    return read_concurrency(sources, settings, err);
}

static lt_rc read_dns(struct lt_arena *arena, const struct px_agent_sources *sources,
                      struct px_agent_settings *settings, struct lt_err *err)
{
    bool captures = false, serves = false;
    LT_TRY(env_bool(sources, "ISTIO_META_DNS_CAPTURE", &captures, err));
    LT_TRY(env_bool(sources, "ISTIO_META_ENABLE_DNS_SERVER", &serves, err));
    LT_TRY(env_bool(sources, "DNS_FORWARD_PARALLEL", &settings->dns_asks_all, err));
    settings->serves_dns = serves || (captures && !sources->is_router);
    settings->dns_address = env_or(sources, "DNS_PROXY_ADDR", LT_STR("localhost:15053"));
    settings->resolv_path = env_or(sources, "LATEEN_RESOLV_CONF", LT_STR("/etc/resolv.conf"));
    settings->dns_domain = sources->domain != NULL
                               ? lt_str_of(sources->domain)
                               : lt_arena_printf(arena, "%.*s.svc.cluster.local",
                                                 LT_STR_ARG(settings->pod_namespace));
    settings->dns_timeout_ns = 5 * (int64_t)LT_NS_PER_S;
    return env_duration_ns(sources, "DNS_FORWARD_TIMEOUT", &settings->dns_timeout_ns, err);
}

/* --- the control plane --- */

static lt_rc split_host_port(lt_str text, const char *what, lt_str *ret_host, uint16_t *ret_port,
                             struct lt_err *err)
{
    ptrdiff_t colon = lt_str_rfind_char(text, ':');
    uint64_t port = 0;
    if (colon <= 0 || lt_str_to_u64(lt_str_from(text, (size_t)colon + 1), &port) != LT_OK ||
        port == 0 || port > UINT16_MAX)
        return lt_err_set(err, LT_E_BAD, "%s: expected host:port, got %.*s", what,
                          LT_STR_ARG(text));
    lt_str host = lt_str_slice(text, 0, (size_t)colon);
    if (lt_str_starts(host, LT_STR("[")) && lt_str_ends(host, LT_STR("]")))
        host = lt_str_slice(host, 1, host.len - 1);
    *ret_host = host;
    *ret_port = (uint16_t)port;
    return LT_OK;
}

/* Through a port-forward the control plane is "localhost", but its certificate does not say so. */
static lt_str tls_name(lt_str host)
{
    return lt_str_find(host, LT_STR("localhost")) >= 0 ? LT_STR("istiod.istio-system.svc") : host;
}

static bool has_file(struct lt_arena *arena, const struct px_agent_sources *sources,
                     const char *path)
{
    lt_str text;
    struct lt_arena_mark mark = lt_arena_mark(arena);
    bool is_there = sources->read_file(sources->ctx, arena, path, &text) == LT_OK;
    lt_arena_rollback(arena, mark);
    return is_there;
}

static lt_str root_path(struct lt_arena *arena, const struct px_agent_sources *sources,
                        const char *env_name, bool takes_certs_root)
{
    lt_str named = env_of(sources, env_name), provided = env_of(sources, "PROV_CERT");
    if (lt_str_eqz(named, "SYSTEM"))
        return LT_STR(SYSTEM_ROOTS);
    if (named.len > 0)
        return named;
    if (takes_certs_root && has_file(arena, sources, CERTS_ROOT))
        return LT_STR(CERTS_ROOT);
    if (provided.len > 0)
        return lt_arena_printf(arena, "%.*s/root-cert.pem", LT_STR_ARG(provided));
    return LT_STR(MOUNTED_ROOT);
}

/* Every <prefix>K=v as header k: v. */
static lt_rc read_headers(struct lt_arena *arena, const struct px_agent_sources *sources,
                          lt_str prefix, const struct px_agent_header **ret_headers,
                          size_t *ret_count, struct lt_err *err)
{
    struct px_agent_header *headers = lt_arena_make_n(arena, struct px_agent_header,
                                                      PX_AGENT_HEADERS_MAX);
    size_t count = 0;
    for (const char *const *at = sources->all_env; *at != NULL; at++) {
        lt_str entry = lt_str_of(*at), name;
        if (!lt_str_starts(entry, prefix) || !lt_str_split(&entry, '=', &name) ||
            name.len == prefix.len)
            continue;
        if (count == PX_AGENT_HEADERS_MAX)
            return lt_err_set(err, LT_E_LIMIT, "more than %d variables %.*s*", PX_AGENT_HEADERS_MAX,
                              LT_STR_ARG(prefix));
        char *lower = lt_arena_strz(arena, lt_str_from(name, prefix.len));
        for (char *c = lower; *c != '\0'; c++)
            *c = (char)tolower((unsigned char)*c);
        headers[count++] = (struct px_agent_header){lt_str_of(lower), lt_arena_str(arena, entry)};
    }
    *ret_headers = headers;
    *ret_count = count;
    return LT_OK;
}

static lt_rc read_control_plane(struct lt_arena *arena, const struct px_agent_sources *sources,
                                struct px_agent_settings *settings, struct lt_err *err)
{
    lt_str discovery = lt_doc_string(lt_doc_findz(&settings->proxy_config, "discoveryAddress"));
    lt_str policy = lt_doc_string(lt_doc_findz(&settings->proxy_config, "controlPlaneAuthPolicy"));
    LT_TRY(split_host_port(discovery, "discoveryAddress", &settings->discovery_host,
                           &settings->discovery_port, err));
    LT_TRY(split_host_port(env_or(sources, "CA_ADDR", discovery), "CA_ADDR", &settings->ca_host,
                           &settings->ca_port, err));
    settings->discovery_is_plaintext = lt_str_eqz(policy, "NONE") ||
                                       settings->discovery_port == 15010;
    settings->ca_is_plaintext = settings->ca_port == 15010;
    settings->xds_name = env_or(sources, "ISTIOD_SAN", tls_name(settings->discovery_host));
    settings->ca_name = tls_name(settings->ca_host);
    settings->token_path = LT_STR("./var/run/secrets/tokens/istio-token");
    settings->xds_root_path = root_path(arena, sources, "XDS_ROOT_CA", true);
    bool is_custom = lt_str_eqz(env_of(sources, "PILOT_CERT_PROVIDER"), "custom");
    settings->ca_root_path = root_path(arena, sources, "CA_ROOT_CA", is_custom);
    LT_TRY(read_headers(arena, sources, LT_STR("XDS_HEADER_"), &settings->xds_headers,
                        &settings->xds_header_count, err));
    return read_headers(arena, sources, LT_STR("CA_HEADER_"), &settings->ca_headers,
                        &settings->ca_header_count, err);
}

/* --- identity and certificates --- */

static lt_rc read_identity(struct lt_arena *arena, const struct px_agent_sources *sources,
                           struct px_agent_settings *settings, struct lt_err *err)
{
    settings->pod_name = env_of(sources, "POD_NAME");
    settings->pod_namespace = env_of(sources, "POD_NAMESPACE");
    settings->service_account = env_or(sources, "SERVICE_ACCOUNT", LT_STR("default"));
    settings->instance_ip = env_of(sources, "INSTANCE_IP");
    settings->cluster_id = env_or(sources, "ISTIO_META_CLUSTER_ID", LT_STR("Kubernetes"));
    struct lt_addr addr;
    if (settings->pod_name.len == 0 || settings->pod_namespace.len == 0)
        return lt_err_set(err, LT_E_BAD, "%s is not set",
                          settings->pod_name.len == 0 ? "POD_NAME" : "POD_NAMESPACE");
    if (lt_addr_parse(settings->instance_ip, 0, &addr) != LT_OK)
        return bad_env(err, "INSTANCE_IP", settings->instance_ip,
                       "the IP address of this workload");
    /* "@" of old trust domains that were mail addresses */
    char *domain = lt_arena_strz(arena, env_or(sources, "TRUST_DOMAIN", LT_STR("cluster.local")));
    for (char *c = domain; *c != '\0'; c++)
        *c = *c == '@' ? '.' : *c;
    settings->trust_domain = lt_str_of(domain);
    settings->spiffe_id = lt_arena_printf(arena, "spiffe://%s/ns/%.*s/sa/%.*s", domain,
                                          LT_STR_ARG(settings->pod_namespace),
                                          LT_STR_ARG(settings->service_account));
    return LT_OK;
}

static lt_rc read_certificates(const struct px_agent_sources *sources,
                               struct px_agent_settings *settings, struct lt_err *err)
{
    int64_t ttl_ns = 24 * 3600 * (int64_t)LT_NS_PER_S;
    /* P-256 unless an RSA size was asked for: a handshake costs a tenth, a certificate half */
    settings->key_kind = env_of(sources, "WORKLOAD_RSA_KEY_SIZE").len > 0 ? LT_KEY_RSA_2048
                                                                          : LT_KEY_ECDSA_P256;
    LT_TRY(env_duration_ns(sources, "SECRET_TTL", &ttl_ns, err));
    settings->secret_ttl_s = ttl_ns / (int64_t)LT_NS_PER_S;
    settings->rotation_ratio = 0.5;
    settings->rotation_jitter = 0.01;
    LT_TRY(env_ratio(sources, "SECRET_GRACE_PERIOD_RATIO", &settings->rotation_ratio, err));
    LT_TRY(env_ratio(sources, "SECRET_GRACE_PERIOD_RATIO_JITTER", &settings->rotation_jitter, err));
    settings->output_certs = env_of(sources, "OUTPUT_CERTS");
    settings->credentials_dir = LT_STR("./var/run/secrets/workload-spiffe-credentials");
    settings->crl_path = LT_STR("./var/run/secrets/istio/crl/ca-crl.pem");
    settings->sds_socket = LT_STR("./var/run/secrets/workload-spiffe-uds/socket");
    return LT_OK;
}

lt_rc px_agent_settings_read(struct lt_arena *arena, const struct px_agent_sources *sources,
                             struct px_agent_settings *ret_settings, struct lt_err *err)
{
    struct px_agent_settings settings = {.is_router = sources->is_router};
    LT_TRY(read_identity(arena, sources, &settings, err));
    settings.annotations = px_agent_read_downward(arena, sources, "./etc/istio/pod/annotations");
    LT_TRY(read_proxy_config(arena, sources, &settings, err));
    LT_TRY(read_proxy(sources, &settings, err));
    LT_TRY(read_dns(arena, sources, &settings, err));
    LT_TRY(read_control_plane(arena, sources, &settings, err));
    LT_TRY(read_certificates(sources, &settings, err));
    settings.xds_socket = lt_arena_printf(arena, "%.*s/XDS", LT_STR_ARG(settings.config_path));
    LT_TRY(px_agent_read_node(arena, sources, &settings, err));
    *ret_settings = settings;
    return LT_OK;
}
