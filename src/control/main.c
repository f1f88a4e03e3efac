/*
 * control/main.c - lateend: options, the CA, the ports, the loop, the end. istiod's flags and
 * ports.
 * Start at: main(), serve().
 */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "control/ca_keeper.h"
#include "control/ca_service.h"
#include "control/ca_settings.h"
#include "control/options.h"
#include "control/pages.h"
#include "control/world.h"
#include "http/mux.h"

enum { EXIT_USAGE = 2, MMAP_BYTES = 128 << 10 };

struct program {
    struct lt_env env;
    struct cp_options options;
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
    struct cp_pages pages;
    struct lt_server *http, *monitoring;
    struct lt_mux *mux; /* of the HTTP port, when xDS in plaintext is on it */
    struct lt_io signals;
    bool is_closed;
};

static const char *env_or(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

/* --- parts --- */

/* Without a trust domain of its own, the CA has the mesh configuration's. */
static lt_str get_env(void *ctx, const char *name)
{
    struct program *program = ctx;
    lt_str value = lt_str_of(getenv(name));
    if (value.len > 0 || strcmp(name, "TRUST_DOMAIN") != 0)
        return value;
    return lt_arena_str(program->arena, cp_world_views(program->world)->model->mesh.trust_domain);
}

static lt_rc open_ca(struct program *program, struct lt_err *err)
{
    int64_t now_s = lt_env_wall_ns(&program->env) / (int64_t)LT_NS_PER_S;
    struct cp_ca_settings *settings = &program->settings;
    LT_TRY(cp_ca_settings_read(program->arena, get_env, program, settings, err));
    LT_TRY(cp_ca_store_load(&settings->store, now_s, &program->store, err));
    LT_TRY(cp_ca_new(&program->store.material, &settings->limits, now_s, &program->ca, err));
    LT_TRY(cp_authn_new(&settings->authn, &program->authn, err));
    program->ca_service = (struct cp_ca_service){
        .ca = program->ca, .authn = program->authn, .env = &program->env};
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

static lt_rc read_addr(const char *text, struct lt_addr *ret_addr, struct lt_err *err)
{
    return lt_addr_parse_hostport(lt_str_of(text), ret_addr) == LT_OK
               ? LT_OK
               : lt_err_set(err, LT_E_BAD, "'%s' is not an address; expected [host]:port", text);
}

static lt_rc listen_grpc(struct program *program, const char *text, struct lt_tls_ctx *tls,
                         uint32_t *ret_listener, struct lt_err *err)
{
    struct lt_addr addr;
    if (text[0] == '\0')
        return LT_OK;
    LT_TRY(read_addr(text, &addr, err));
    return lt_grpc_server_listen(program->grpc, &addr, NULL, tls, ret_listener, err);
}

static lt_rc open_grpc(struct program *program, struct lt_err *err)
{
    struct lt_grpc_server_opts opts = LT_GRPC_SERVER_OPTS_DEFAULT;
    opts.keepalive_interval_ns = (uint64_t)program->options.keepalive_interval_ns;
    opts.keepalive_timeout_ns = (uint64_t)program->options.keepalive_timeout_ns;
    opts.age_max_ns = (uint64_t)program->options.connection_age_ns;
    LT_TRY(keep_certificates(program, err));
    program->methods[0] = cp_discovery_method(program->discovery);
    program->methods[1] = cp_ca_service_method(&program->ca_service);
    program->grpc = lt_grpc_server_new(program->loop, &opts, program->methods,
                                       LT_ARRAY_LEN(program->methods));
    LT_TRY(listen_grpc(program, program->options.grpc_addr, NULL, NULL, err));
    LT_TRY(listen_grpc(program, program->options.secure_addr, program->tls,
                       &program->secure_listener, err));
    program->has_secure = program->options.secure_addr[0] != '\0';
    return LT_OK;
}

/* --- HTTP --- */

/* The port for pages; without one of its own, xDS in plaintext is there too. */
static lt_rc open_http(struct program *program, struct lt_err *err)
{
    struct lt_addr addr;
    if (program->options.http_addr[0] == '\0')
        return LT_OK;
    LT_TRY(read_addr(program->options.http_addr, &addr, err));
    program->http = lt_server_new(program->loop, NULL, cp_pages_handle, &program->pages);
    if (program->options.grpc_addr[0] != '\0')
        return lt_server_listen(program->http, &addr, NULL, NULL, err);
    program->mux = lt_mux_new(program->loop, program->http, program->grpc);
    return lt_mux_listen(program->mux, &addr, NULL, err);
}

/* The same pages; without this port they are on the other one. */
static lt_rc open_monitoring(struct program *program, struct lt_err *err)
{
    struct lt_addr addr;
    if (program->options.monitoring_addr[0] == '\0')
        return LT_OK;
    LT_TRY(read_addr(program->options.monitoring_addr, &addr, err));
    program->monitoring = lt_server_new(program->loop, NULL, cp_pages_handle, &program->pages);
    return lt_server_listen(program->monitoring, &addr, NULL, NULL, err);
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
        program->pages.is_stopping = true;
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
    if (lt_duration_parse(lt_str_of(env_or("LATEEN_HOLD", "60s")), &hold_ns) != LT_OK ||
        hold_ns < 0)
        return lt_err_set(err, LT_E_BAD, "LATEEN_HOLD: expected a duration like 60s, got '%s'",
                          getenv("LATEEN_HOLD"));
    const struct cp_source_opts source = {program->options.dirs, program->options.dir_count,
                                          program->options.live_dir, program->options.mesh_config};
    LT_TRY(cp_source_dir_open(&source, &program->source, err));
    const struct cp_world_opts world = {.loop = program->loop,
                                        .source = program->source,
                                        .metrics = &program->metrics,
                                        .domain = program->options.domain,
                                        .hold_ns = (uint64_t)hold_ns,
                                        .on_change = on_world_change,
                                        .ctx = program};
    program->world = cp_world_new(&world);
    return LT_OK;
}

static void open_discovery(struct program *program)
{
    const struct cp_discovery_opts opts = {.loop = program->loop,
                                           .views = cp_world_views(program->world),
                                           .metrics = &program->metrics,
                                           .authn = program->authn};
    program->discovery = cp_discovery_new(&opts);
}

static lt_rc open_all(struct program *program, struct lt_err *err)
{
    LT_TRY(open_world(program, err));
    LT_TRY(open_ca(program, err));
    open_discovery(program);
    LT_TRY(open_grpc(program, err));
    program->pages = (struct cp_pages){
        .env = &program->env,
        .discovery = program->discovery,
        .authn = program->authn,
        .ca = program->ca,
        .keeper = program->keeper,
        .metrics = &program->metrics,
        .system_ns = lt_str_of(env_or("POD_NAMESPACE", "istio-system")),
        .begin_ns = program->begin_ns};
    LT_TRY(open_http(program, err));
    return open_monitoring(program, err);
}

static void close_all(struct program *program)
{
    lt_mux_free(&program->mux);
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
        lt_log_info(&program->env.log, "serving; xDS on %s and %s", program->options.grpc_addr,
                    program->options.secure_addr);
        lt_loop_run(program->loop);
    }
    close_all(program);
    return status;
}

int main(int argc, char **argv)
{
    struct program program = {.signals = {.fd = -1}};
    struct lt_err err = {0};
    lt_env_init(&program.env, "lateend");
    /* fixed: glibc raises it with each large block that is freed; large arenas then leave holes */
    mallopt(M_MMAP_THRESHOLD, MMAP_BYTES);
    lt_rc rc = cp_options_parse(argc, argv, &program.options, &err);
    if (rc == LT_EOF)
        return EXIT_SUCCESS;
    if (rc != LT_OK) {
        fprintf(stderr, "lateend: %s\n", err.text);
        return EXIT_USAGE;
    }
    program.env.log.level = program.options.log_level;
    if (program.options.ignored[0] != '\0')
        lt_log_info(&program.env.log, "flags that mean nothing here: %s", program.options.ignored);
    return serve(&program);
}
