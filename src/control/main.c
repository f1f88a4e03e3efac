/*
 * control/main.c - lateend: options, the CA, the ports, the loop, the end. istiod's flags and ports.
 * Start at: main(), serve().
 */
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "control/ca_metrics.h"
#include "control/ca_service.h"
#include "control/ca_settings.h"
#include "control/discovery.h"
#include "control/world.h"
#include "http/server.h"
#include "http/url.h"

enum { DIRS_MAX = CP_SOURCE_DIRS_MAX, EXIT_USAGE = 2, DRAIN_S = 5, MMAP_BYTES = 128 << 10 };

struct options {
    lt_str dirs[DIRS_MAX];
    size_t dir_count;
    lt_str live_dir;
    const char *mesh_config;
    const char *grpc_addr, *secure_addr, *http_addr, *monitoring_addr;
    const char *log_level;
};

struct program {
    struct lt_env env;
    struct options options;
    struct lt_loop *loop;
    struct lt_arena *arena; /* of the CA's texts */
    struct cp_source_dir *source;
    struct cp_ca_settings settings;
    struct cp_ca_store store;
    struct cp_ca *ca;
    struct cp_keeper *keeper;
    struct lt_tls_ctx *tls; /* counted; of the secure port */
    uint32_t secure_listener;
    bool has_secure;
    struct cp_authn *authn;
    struct cp_ca_service ca_service;
    struct cp_metrics metrics;
    struct cp_world *world;
    struct cp_discovery *discovery;
    uint64_t begin_ns; /* monotonic */
    struct lt_grpc_method methods[2];
    struct lt_grpc_server *grpc;
    struct lt_server *http, *monitoring;
    struct lt_io signals;
    bool is_stopping;
    bool is_closed;
};

static const char usage[] =
    "lateend: the control plane\n"
    "\n"
    "  lateend discovery --configDir DIR [--configDir DIR ...] [flags]\n"
    "\n"
    "      --configDir DIR         manifests to follow; may be given several times\n"
    "      --liveDir DIR           objects as they are (cluster IPs, Pods, endpoints), which complete those\n"
    "                              of --configDir: what `lateen up` writes\n"
    "      --meshConfig FILE       MeshConfig (default: the ConfigMap istio in istio-system)\n"
    "      --grpcAddr ADDR         plaintext xDS and CA (default :15010; \"\": off)\n"
    "      --secureGRPCAddr ADDR   xDS and CA over TLS (default :15012; \"\": off)\n"
    "      --httpAddr ADDR         /ready and debug pages (default :8080)\n"
    "      --monitoringAddr ADDR   /metrics, /version and debug pages (default :15014; \"\": on httpAddr)\n"
    "      --log_output_level L    debug info warn error\n"
    "Environment: ROOT_CA_DIR (./etc/cacerts), LATEEN_STATE_DIR (./var/lib/lateend), TRUST_DOMAIN, JWT_RULE, TOKEN_AUDIENCES,\n"
    "POD_NAMESPACE, DEFAULT_WORKLOAD_CERT_TTL (24h), MAX_WORKLOAD_CERT_TTL (2160h), CITADEL_SELF_SIGNED_CA_CERT_TTL (87600h),\n"
    "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL (1h), CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE (20),\n"
    "LATEEN_HOLD (how long dangling routes keep their last good form; default 60s, 0 is Istio's behaviour).\n";

/* --- options --- */

enum { OPT_DIR = 256, OPT_LIVE, OPT_MESH, OPT_GRPC, OPT_SECURE, OPT_HTTP, OPT_MONITORING, OPT_LEVEL, OPT_IGNORED, OPT_HELP };

static const struct option long_options[] = {
    {"configDir", required_argument, NULL, OPT_DIR},
    {"liveDir", required_argument, NULL, OPT_LIVE},
    {"meshConfig", required_argument, NULL, OPT_MESH},
    {"grpcAddr", required_argument, NULL, OPT_GRPC},
    {"secureGRPCAddr", required_argument, NULL, OPT_SECURE},
    {"httpAddr", required_argument, NULL, OPT_HTTP},
    {"monitoringAddr", required_argument, NULL, OPT_MONITORING},
    {"log_output_level", required_argument, NULL, OPT_LEVEL},
    {"httpsAddr", required_argument, NULL, OPT_IGNORED},
    {"domain", required_argument, NULL, OPT_IGNORED},
    {"keepaliveMaxServerConnectionAge", required_argument, NULL, OPT_IGNORED},
    {"registries", required_argument, NULL, OPT_IGNORED},
    {"clusterID", required_argument, NULL, OPT_IGNORED},
    {"shutdownDuration", required_argument, NULL, OPT_IGNORED},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* 0: go on; otherwise the exit code plus one. */
static int parse_options(int argc, char **argv, struct options *options)
{
    *options = (struct options){
        .grpc_addr = ":15010", .secure_addr = ":15012", .http_addr = ":8080", .monitoring_addr = ":15014"};
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (c) {
        case OPT_DIR:
            if (options->dir_count == DIRS_MAX) {
                fprintf(stderr, "lateend: more than %d --configDir\n", DIRS_MAX);
                return EXIT_USAGE + 1;
            }
            options->dirs[options->dir_count++] = lt_str_of(optarg);
            break;
        case OPT_LIVE: options->live_dir = lt_str_of(optarg); break;
        case OPT_MESH: options->mesh_config = optarg; break;
        case OPT_GRPC: options->grpc_addr = optarg; break;
        case OPT_SECURE: options->secure_addr = optarg; break;
        case OPT_HTTP: options->http_addr = optarg; break;
        case OPT_MONITORING: options->monitoring_addr = optarg; break;
        case OPT_LEVEL: options->log_level = optarg; break;
        case OPT_IGNORED: break;
        case OPT_HELP: fputs(usage, stdout); return 1;
        default: return EXIT_USAGE + 1;
        }
    }
    if (optind >= argc || strcmp(argv[optind], "discovery") != 0 || options->dir_count == 0) {
        fprintf(stderr, "lateend: expected `lateend discovery --configDir DIR`; --help says more\n");
        return EXIT_USAGE + 1;
    }
    return 0;
}

static const char *env_or(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

/* --- parts --- */

static lt_str get_env(void *ctx LT_UNUSED, const char *name)
{
    return lt_str_of(getenv(name));
}

static lt_rc open_ca(struct program *program, struct lt_err *err)
{
    int64_t now_s = lt_env_wall_ns(&program->env) / (int64_t)LT_NS_PER_S;
    struct cp_ca_settings *settings = &program->settings;
    LT_TRY(cp_ca_settings_read(program->arena, get_env, NULL, settings, err));
    LT_TRY(cp_ca_store_load(&settings->store, now_s, &program->store, err));
    LT_TRY(cp_ca_new(&program->store.material, &settings->limits, now_s, &program->ca, err));
    LT_TRY(cp_authn_new(&settings->authn, &program->authn, err));
    program->ca_service = (struct cp_ca_service){.ca = program->ca,
                                                 .authn = program->authn,
                                                 .env = &program->env};
    return LT_OK;
}

/* Connections that stand keep what they have. */
static void on_serving(void *ctx, struct lt_tls_ctx *tls)
{
    struct program *program = ctx;
    lt_tls_ctx_unref(&program->tls);
    program->tls = lt_tls_ctx_ref(tls);
    if (program->has_secure)
        lt_grpc_server_set_tls(program->grpc, program->secure_listener, tls);
}

static lt_rc keep_certificates(struct program *program, struct lt_err *err)
{
    const char *ns = env_or("POD_NAMESPACE", "istio-system");
    lt_str *names = lt_arena_make_n(program->arena, lt_str, 4);
    names[0] = lt_arena_printf(program->arena, "istiod.%s.svc", ns);
    names[1] = lt_arena_printf(program->arena, "istiod-remote.%s.svc", ns);
    names[2] = lt_arena_printf(program->arena, "istio-pilot.%s.svc", ns);
    names[3] = lt_arena_printf(program->arena, "istiod.%s.svc.cluster.local", ns);
    struct cp_keeper_opts opts = {.loop = program->loop,
                                  .ca = program->ca,
                                  .store = program->settings.store,
                                  .is_plugged_in = program->store.is_plugged_in,
                                  .check_interval_ns = program->settings.check_interval_ns,
                                  .has_jitter = program->settings.has_jitter,
                                  .dns_names = names,
                                  .dns_name_count = 4,
                                  .on_serving = on_serving,
                                  .ctx = program};
    return cp_keeper_new(&opts, &program->keeper, err);
}

static lt_rc listen_grpc(struct program *program, const char *text, struct lt_tls_ctx *tls, uint32_t *ret_listener,
                         struct lt_err *err)
{
    struct lt_addr addr;
    if (text[0] == '\0')
        return LT_OK;
    if (lt_addr_parse_hostport(lt_str_of(text), &addr) != LT_OK)
        return lt_err_set(err, LT_E_BAD, "'%s' is not an address; expected [host]:port", text);
    return lt_grpc_server_listen(program->grpc, &addr, NULL, tls, ret_listener, err);
}

static lt_rc open_grpc(struct program *program, struct lt_err *err)
{
    LT_TRY(keep_certificates(program, err));
    program->methods[0] = cp_discovery_method(program->discovery);
    program->methods[1] = cp_ca_service_method(&program->ca_service);
    program->grpc = lt_grpc_server_new(program->loop, NULL, program->methods, LT_ARRAY_LEN(program->methods));
    LT_TRY(listen_grpc(program, program->options.grpc_addr, NULL, NULL, err));
    LT_TRY(listen_grpc(program, program->options.secure_addr, program->tls, &program->secure_listener, err));
    program->has_secure = program->options.secure_addr[0] != '\0';
    return LT_OK;
}

/* --- pages --- */

static void page_metrics(struct program *program, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_metric_cursor cursor = {0};
    lt_gauge_set(program->metrics.uptime_s, (double)(lt_env_mono_ns(&program->env) - program->begin_ns) / (double)LT_NS_PER_S);
    cp_ca_metrics_fill(program->metrics.set, program->ca, program->keeper, lt_env_wall_ns(&program->env) / (int64_t)LT_NS_PER_S);
    lt_buf_init(&out, 32 << 20);
    lt_rc rc = lt_metric_render(program->metrics.set, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor, 16 << 20, &out);
    lt_metric_cursor_fini(&cursor);
    lt_exchange_reply(exchange, rc == LT_EOF ? 200 : 500, "text/plain; version=0.0.4; charset=utf-8", lt_buf_str(&out));
    lt_buf_fini(&out);
}

static void page_syncz(struct program *program, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, 64 << 20);
    lt_json_writer_init(&w, &out, 2);
    cp_discovery_syncz(program->discovery, &w);
    bool is_whole = lt_json_writer_finish(&w) == LT_OK;
    lt_exchange_reply(exchange, is_whole ? 200 : 500, "application/json", lt_buf_str(&out));
    lt_buf_fini(&out);
}

static void page_root(struct program *program, struct lt_exchange *exchange)
{
    lt_exchange_reply(exchange, 200, "application/x-pem-file", cp_ca_root_pem(program->ca));
}

static void handle(struct lt_exchange *exchange, void *ctx)
{
    struct program *program = ctx;
    if (lt_str_eqz(exchange->path, "/ready"))
        lt_exchange_reply(exchange, program->is_stopping ? 503 : 200, NULL, LT_STR_NULL);
    else if (lt_str_eqz(exchange->path, "/metrics"))
        page_metrics(program, exchange);
    else if (lt_str_eqz(exchange->path, "/debug/syncz"))
        page_syncz(program, exchange);
    else if (lt_str_eqz(exchange->path, "/debug/root-cert.pem"))
        page_root(program, exchange);
    else if (lt_str_eqz(exchange->path, "/version"))
        lt_exchange_reply(exchange, 200, "text/plain", LT_STR("lateen 0.1.0\n"));
    else
        lt_exchange_reply(exchange, 404, "text/plain", LT_STR("no such page; there are /ready /metrics /version /debug/syncz\n"));
}

static lt_rc open_http(struct program *program, const char *text, struct lt_server **server, struct lt_err *err)
{
    struct lt_addr addr;
    if (text[0] == '\0')
        return LT_OK;
    if (lt_addr_parse_hostport(lt_str_of(text), &addr) != LT_OK)
        return lt_err_set(err, LT_E_BAD, "'%s' is not an address; expected [host]:port", text);
    *server = lt_server_new(program->loop, NULL, handle, program);
    return lt_server_listen(*server, &addr, NULL, NULL, err);
}

/* --- life --- */

static void on_closed(void *ctx)
{
    struct program *program = ctx;
    program->is_closed = true;
    lt_loop_stop(program->loop);
}

static void on_signal(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct program *program = LT_CONTAINER_OF(io, struct program, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        program->is_stopping = true;
        lt_loop_stop(program->loop);
    }
}

static void watch_signals(struct program *program)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    lt_io_init(&program->signals, on_signal);
    program->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    LT_ASSERT(program->signals.fd >= 0);
    lt_loop_io_set(program->loop, &program->signals, EPOLLIN);
}

static void on_world_change(void *ctx, uint64_t since_ns)
{
    struct program *program = ctx;
    cp_discovery_push(program->discovery, since_ns);
}

static lt_rc open_world(struct program *program, struct lt_err *err)
{
    int64_t hold_ns = 0;
    if (lt_duration_parse(lt_str_of(env_or("LATEEN_HOLD", "60s")), &hold_ns) != LT_OK || hold_ns < 0)
        return lt_err_set(err, LT_E_BAD, "LATEEN_HOLD: expected a duration like 60s, got '%s'", getenv("LATEEN_HOLD"));
    const struct cp_source_opts source = {program->options.dirs, program->options.dir_count,
                                          program->options.live_dir, program->options.mesh_config};
    LT_TRY(cp_source_dir_open(&source, &program->source, err));
    const struct cp_world_opts world = {.loop = program->loop,
                                        .source = program->source,
                                        .metrics = &program->metrics,
                                        .hold_ns = (uint64_t)hold_ns,
                                        .on_change = on_world_change,
                                        .ctx = program};
    program->world = cp_world_new(&world);
    const struct cp_discovery_opts discovery = {.loop = program->loop,
                                                .views = cp_world_views(program->world),
                                                .metrics = &program->metrics,
                                                .authn = program->authn};
    program->discovery = cp_discovery_new(&discovery);
    return LT_OK;
}

static lt_rc open_all(struct program *program, struct lt_err *err)
{
    LT_TRY(open_ca(program, err));
    LT_TRY(open_world(program, err));
    LT_TRY(open_grpc(program, err));
    LT_TRY(open_http(program, program->options.http_addr, &program->http, err));
    return open_http(program, program->options.monitoring_addr, &program->monitoring, err);
}

static void close_all(struct program *program)
{
    lt_server_free(&program->http);
    lt_server_free(&program->monitoring);
    if (program->grpc != NULL) {
        lt_grpc_server_close(&program->grpc, on_closed, program);
        while (!program->is_closed)
            lt_loop_turn(program->loop, 100);
    }
    cp_keeper_free(&program->keeper);
    lt_tls_ctx_unref(&program->tls);
    cp_discovery_free(&program->discovery);
    cp_world_free(&program->world);
    cp_source_dir_free(&program->source);
    cp_authn_free(&program->authn);
    cp_ca_free(&program->ca);
    cp_ca_store_fini(&program->store);
    cp_metrics_fini(&program->metrics);
    lt_arena_free(&program->arena);
    lt_loop_io_del(program->loop, &program->signals);
    close(program->signals.fd);
    lt_loop_free(&program->loop);
}

static int serve(struct program *program)
{
    struct lt_err err = {0};
    program->loop = lt_loop_new(&program->env);
    program->arena = lt_arena_new(4096, 0);
    program->begin_ns = lt_env_mono_ns(&program->env);
    cp_metrics_init(&program->metrics);
    watch_signals(program);
    int status = EXIT_SUCCESS;
    if (open_all(program, &err) != LT_OK) {
        lt_log_error(&program->env.log, "%s", err.text);
        status = EXIT_FAILURE;
    } else {
        lt_log_info(&program->env.log, "serving; xDS on %s and %s", program->options.grpc_addr, program->options.secure_addr);
        lt_loop_run(program->loop);
    }
    close_all(program);
    return status;
}

int main(int argc, char **argv)
{
    struct program program = {.signals = {.fd = -1}};
    lt_env_init(&program.env, "lateend");
    /* fixed: glibc raises it with every large block that is freed, and then large arenas leave holes */
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    int early = parse_options(argc, argv, &program.options);
    if (early != 0)
        return early - 1;
    const char *level = program.options.log_level;
    if (level != NULL && lt_log_level_parse(lt_str_of(level), &program.env.log.level) != LT_OK)
        lt_log_warn(&program.env.log, "unknown log level '%s', using info", level);
    return serve(&program);
}
