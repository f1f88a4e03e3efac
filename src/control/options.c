/*
 * control/options.c - one table of flags.
 */
#include "control/options.h"

#include <getopt.h>
#include <stdio.h>

#include "base/env.h"
#include "base/version.h"

static const char usage[] =
    "lateend: the control plane\n"
    "\n"
    "  lateend discovery --configDir DIR [--configDir DIR ...] [flags]\n"
    "\n"
    "      --configDir DIR         manifests to follow; may be given several times\n"
    "      --liveDir DIR           objects as they are (cluster IPs, Pods, endpoints), which complete those\n"
    "                              of --configDir: what `lateen up` writes\n"
    "      --meshConfig FILE       MeshConfig, followed too (default: the ConfigMap istio in istio-system)\n"
    "      --domain NAME           DNS domain of the services (default cluster.local)\n"
    "      --grpcAddr ADDR         xDS in plaintext (default :15010; \"\": on httpAddr)\n"
    "      --secureGRPCAddr ADDR   xDS and CA over TLS (default :15012; \"\": off)\n"
    "      --httpAddr ADDR         /ready and debug pages (default :8080; \"\": off)\n"
    "      --monitoringAddr ADDR   /metrics, /version and debug pages (default :15014; \"\": on httpAddr)\n"
    "      --keepaliveInterval D, --keepaliveTimeout D, --keepaliveMaxServerConnectionAge D\n"
    "                              of gRPC connections (default 30s, 10s, any age)\n"
    "      --log_output_level L    debug info warn error, also as default:L\n"
    "  istiod's other flags are taken, and named in the log.\n"
    "Environment: ROOT_CA_DIR (./etc/cacerts), LATEEN_STATE_DIR (./var/lib/lateend), TRUST_DOMAIN, JWT_RULE, TOKEN_AUDIENCES,\n"
    "POD_NAMESPACE, DEFAULT_WORKLOAD_CERT_TTL (24h), MAX_WORKLOAD_CERT_TTL (2160h), CITADEL_SELF_SIGNED_CA_CERT_TTL (87600h),\n"
    "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL (1h), CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE (20),\n"
    "LATEEN_HOLD (how long dangling routes keep their last good form; default 60s, 0 is Istio's behaviour).\n";

enum {
    OPT_DIR = 256,
    OPT_LIVE,
    OPT_MESH,
    OPT_DOMAIN,
    OPT_GRPC,
    OPT_SECURE,
    OPT_HTTP,
    OPT_MONITORING,
    OPT_INTERVAL,
    OPT_TIMEOUT,
    OPT_AGE,
    OPT_LEVEL,
    OPT_IGNORED,
    OPT_VERSION,
    OPT_HELP
};

static const struct option long_options[] = {
    {"configDir", required_argument, NULL, OPT_DIR},
    {"liveDir", required_argument, NULL, OPT_LIVE},
    {"meshConfig", required_argument, NULL, OPT_MESH},
    {"domain", required_argument, NULL, OPT_DOMAIN},
    {"grpcAddr", required_argument, NULL, OPT_GRPC},
    {"secureGRPCAddr", required_argument, NULL, OPT_SECURE},
    {"httpAddr", required_argument, NULL, OPT_HTTP},
    {"monitoringAddr", required_argument, NULL, OPT_MONITORING},
    {"keepaliveInterval", required_argument, NULL, OPT_INTERVAL},
    {"keepaliveTimeout", required_argument, NULL, OPT_TIMEOUT},
    {"keepaliveMaxServerConnectionAge", required_argument, NULL, OPT_AGE},
    {"log_output_level", required_argument, NULL, OPT_LEVEL},
    {"httpsAddr", required_argument, NULL, OPT_IGNORED},
    {"caCertFile", required_argument, NULL, OPT_IGNORED},
    {"clusterAliases", required_argument, NULL, OPT_IGNORED},
    {"clusterID", required_argument, NULL, OPT_IGNORED},
    {"clusterRegistriesNamespace", required_argument, NULL, OPT_IGNORED},
    {"cniNamespace", required_argument, NULL, OPT_IGNORED},
    {"ctrlz_address", required_argument, NULL, OPT_IGNORED},
    {"ctrlz_port", required_argument, NULL, OPT_IGNORED},
    {"kubeconfig", required_argument, NULL, OPT_IGNORED},
    {"kubernetesApiBurst", required_argument, NULL, OPT_IGNORED},
    {"kubernetesApiQPS", required_argument, NULL, OPT_IGNORED},
    {"log_as_json", no_argument, NULL, OPT_IGNORED},
    {"log_caller", required_argument, NULL, OPT_IGNORED},
    {"log_stacktrace_level", required_argument, NULL, OPT_IGNORED},
    {"log_target", required_argument, NULL, OPT_IGNORED},
    {"namespace", required_argument, NULL, OPT_IGNORED},
    {"networksConfig", required_argument, NULL, OPT_IGNORED},
    {"profile", no_argument, NULL, OPT_IGNORED},
    {"registries", required_argument, NULL, OPT_IGNORED},
    {"shutdownDuration", required_argument, NULL, OPT_IGNORED},
    {"tls-cipher-suites", required_argument, NULL, OPT_IGNORED},
    {"tlsCertFile", required_argument, NULL, OPT_IGNORED},
    {"tlsKeyFile", required_argument, NULL, OPT_IGNORED},
    {"vklog", required_argument, NULL, OPT_IGNORED},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static lt_rc read_duration(const char *flag, int64_t *ret_ns, struct lt_err *err)
{
    if (lt_duration_parse(lt_str_of(optarg), ret_ns) != LT_OK || *ret_ns < 0)
        return lt_err_set(err, LT_E_BAD, "--%s: expected a duration like 30s, got '%s'", flag,
                          optarg);
    return LT_OK;
}

/* "info", or Istio's list of scopes "default:info,ads:debug", of which the default counts. */
static lt_rc read_level(lt_log_level *ret_level, struct lt_err *err)
{
    lt_str rest = lt_str_of(optarg), part;
    while (lt_str_split(&rest, ',', &part)) {
        lt_str level = part, scope = LT_STR("default");
        if (lt_str_find_char(part, ':') >= 0)
            lt_str_split(&level, ':', &scope);
        bool counts = lt_str_eqz(scope, "default") || lt_str_eqz(scope, "all");
        if (counts && lt_log_level_parse(level, ret_level) != LT_OK)
            return lt_err_set(err, LT_E_BAD, "--log_output_level: unknown level '%.*s'",
                              LT_STR_ARG(level));
    }
    return LT_OK;
}

static lt_rc add_dir(struct cp_options *options, struct lt_err *err)
{
    if (options->dir_count == CP_SOURCE_DIRS_MAX)
        return lt_err_set(err, LT_E_BAD, "more than %d --configDir", CP_SOURCE_DIRS_MAX);
    options->dirs[options->dir_count++] = lt_str_of(optarg);
    return LT_OK;
}

static void ignore(struct cp_options *options, const char *flag)
{
    size_t used = strlen(options->ignored);
    snprintf(options->ignored + used, sizeof(options->ignored) - used, "%s--%s",
             used > 0 ? ", " : "", flag);
}

static lt_rc take(struct cp_options *options, int option, const char *flag, struct lt_err *err)
{
    switch (option) {
    case OPT_DIR: return add_dir(options, err);
    case OPT_LIVE: options->live_dir = lt_str_of(optarg); return LT_OK;
    case OPT_MESH: options->mesh_config = optarg; return LT_OK;
    case OPT_DOMAIN: options->domain = lt_str_of(optarg); return LT_OK;
    case OPT_GRPC: options->grpc_addr = optarg; return LT_OK;
    case OPT_SECURE: options->secure_addr = optarg; return LT_OK;
    case OPT_HTTP: options->http_addr = optarg; return LT_OK;
    case OPT_MONITORING: options->monitoring_addr = optarg; return LT_OK;
    case OPT_INTERVAL: return read_duration(flag, &options->keepalive_interval_ns, err);
    case OPT_TIMEOUT: return read_duration(flag, &options->keepalive_timeout_ns, err);
    case OPT_AGE: return read_duration(flag, &options->connection_age_ns, err);
    case OPT_LEVEL: return read_level(&options->log_level, err);
    case OPT_IGNORED: ignore(options, flag); return LT_OK;
    case OPT_VERSION: puts("lateend " LT_VERSION); return LT_EOF;
    case OPT_HELP: fputs(usage, stdout); return LT_EOF;
    default: return lt_err_set(err, LT_E_BAD, "--help lists the flags"); /* getopt said the rest */
    }
}

lt_rc cp_options_parse(int argc, char **argv, struct cp_options *ret_options, struct lt_err *err)
{
    *ret_options = (struct cp_options){.grpc_addr = ":15010",
                                       .secure_addr = ":15012",
                                       .http_addr = ":8080",
                                       .monitoring_addr = ":15014",
                                       .domain = LT_STR("cluster.local"),
                                       .log_level = LT_LOG_INFO,
                                       .keepalive_interval_ns = 30 * (int64_t)LT_NS_PER_S,
                                       .keepalive_timeout_ns = 10 * (int64_t)LT_NS_PER_S};
    optind = 0; /* from the beginning, also a second time */
    for (int c, index = 0; (c = getopt_long(argc, argv, "n:", long_options, &index)) != -1;)
        LT_TRY(take(ret_options, c == 'n' ? OPT_IGNORED : c,
                    c == 'n' ? "namespace" : long_options[index].name, err));
    if (optind + 1 == argc && strcmp(argv[optind], "version") == 0)
        return take(ret_options, OPT_VERSION, "version", err);
    if (optind + 1 != argc || strcmp(argv[optind], "discovery") != 0)
        return lt_err_set(err, LT_E_BAD, "expected `lateend discovery`; --help says more");
    if (ret_options->dir_count == 0)
        return lt_err_set(err, LT_E_BAD, "--configDir is needed: where the manifests are");
    return LT_OK;
}
