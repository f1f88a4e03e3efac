/*
 * proxy/main.c - lateen-proxy: options, configuration, threads, signals, the end.
 * The main thread has configuration, admin and agent; the data path runs in workers.
 * Start at: main(), run_bootstrap().
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "net/loop.h"
#include "proxy/admin.h"
#include "proxy/bootstrap.h"
#include "proxy/options.h"
#include "proxy/table.h"
#include "proxy/worker.h"

#define PROXY_VERSION "0.1.0"

enum { CONFIG_BYTES_MAX = 256 << 20, EXIT_USAGE = 2, STOP_DRAIN_MS = 5000 };

struct program {
    struct lt_env env;
    struct px_options options;
    struct lt_loop *loop;
    struct px_table *table;
    struct px_workers *workers;
    struct px_admin *admin;
    struct px_bootstrap bootstrap;
    struct lt_metric_set *metrics;
    struct lt_io signals;
    bool is_draining; /* by an operator's /healthcheck/fail */
    bool is_stopping;
    int status;
};

/* --- configuration into the workers --- */

static void publish(struct program *program)
{
    struct lt_err err = {0};
    struct px_snapshot *snapshot = px_table_snapshot(program->table, &err);
    if (err.text[0] != '\0')
        lt_log_warn(&program->env.log, "TLS context: %s", err.text);
    px_workers_publish(program->workers, snapshot);
}

static void on_listener_error(void *ctx, const char *text)
{
    struct program *program = ctx;
    lt_log_error(&program->env.log, "%s", text);
    /* Envoy ends when a static listener cannot bind; one that the control plane sent is reported and the rest serves */
    if (program->options.mode == PX_MODE_BOOTSTRAP) {
        program->status = EXIT_FAILURE;
        lt_loop_stop(program->loop);
    }
}

static unsigned worker_count(const struct program *program)
{
    if (program->options.concurrency > 0)
        return LT_MIN(program->options.concurrency, 64u);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus < 1 ? 1 : cpus > 64 ? 64 : (unsigned)cpus;
}

/* --- state --- */

static const char *state_name(void *ctx)
{
    struct program *program = ctx;
    if (program->is_draining || program->is_stopping)
        return "DRAINING";
    if (!px_table_all_warm(program->table, PX_CLUSTER))
        return "PRE_INITIALIZING";
    if (!px_workers_are_ready(program->workers) || !px_table_all_warm(program->table, PX_LISTENER))
        return "INITIALIZING";
    return "LIVE";
}

static void on_drained(void *ctx)
{
    lt_loop_stop(((struct program *)ctx)->loop);
}

static void stop(void *ctx)
{
    struct program *program = ctx;
    if (program->is_stopping) {
        lt_loop_stop(program->loop); /* asked twice: now */
        return;
    }
    program->is_stopping = true;
    px_workers_drain(program->workers, STOP_DRAIN_MS, on_drained, program);
}

static void set_draining(void *ctx, bool fail)
{
    ((struct program *)ctx)->is_draining = fail;
}

static void on_signal(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct program *program = LT_CONTAINER_OF(io, struct program, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        lt_log_info(&program->env.log, "%s: ending", info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
        stop(program);
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

/* --- the file --- */

static lt_rc read_config(const struct px_options *options, struct lt_buf *out, struct lt_err *err)
{
    if (options->config_yaml != NULL)
        return lt_buf_append_str(out, lt_str_of(options->config_yaml));
    int fd = open(options->config_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return lt_err_errno(err, "cannot read %s", options->config_path);
    lt_rc rc = LT_OK;
    for (;;) {
        char *at = NULL;
        rc = lt_buf_reserve(out, 64 * 1024, &at);
        ssize_t got = rc == LT_OK ? read(fd, at, 64 * 1024) : 0;
        if (got <= 0) {
            rc = rc != LT_OK ? lt_err_set(err, rc, "%s is too large", options->config_path)
                 : got < 0   ? lt_err_errno(err, "cannot read %s", options->config_path)
                             : LT_OK;
            break;
        }
        lt_buf_commit(out, (size_t)got);
    }
    close(fd);
    return rc;
}

static lt_rc load(struct program *program, struct lt_err *err)
{
    struct lt_buf text;
    lt_buf_init(&text, CONFIG_BYTES_MAX);
    lt_rc rc = read_config(&program->options, &text, err);
    if (rc == LT_OK)
        rc = px_bootstrap_load(lt_buf_str(&text), program->table, &program->bootstrap, err);
    if (rc != LT_OK && program->options.config_path != NULL && text.end > 0)
        rc = lt_err_wrap(err, rc, "%s", program->options.config_path);
    lt_buf_fini(&text);
    return rc;
}

static void log_unhonoured(void *ctx, const struct px_resource *serving, const struct px_resource *warming, bool is_static LT_UNUSED)
{
    struct program *program = ctx;
    const struct px_resource *resource = serving != NULL ? serving : warming;
    for (size_t i = 0; i < resource->unhonoured_count; i++)
        lt_log_warn(&program->env.log, "%s '%.*s': %.*s is accepted, but does nothing here",
                    px_resource_kind_name(resource->kind), LT_STR_ARG(resource->name), LT_STR_ARG(resource->unhonoured[i]));
}

static void start_workers(struct program *program)
{
    struct px_workers_opts opts = {
        .env = &program->env,
        .loop = program->loop,
        .count = worker_count(program),
        .node = {.id = program->bootstrap.node_id},
        .drain_ms = program->options.drain_time_s * 1000,
        .on_listener_error = on_listener_error,
        .ctx = program,
    };
    program->options.concurrency = opts.count;
    program->workers = px_workers_new(&opts);
}

static lt_rc start_admin(struct program *program, struct lt_err *err)
{
    struct px_admin_opts opts = {
        .loop = program->loop,
        .env = &program->env,
        .table = program->table,
        .workers = program->workers,
        .options = &program->options,
        .node_id = program->bootstrap.node_id,
        .node_cluster = program->bootstrap.node_cluster,
        .main_metrics = program->metrics,
        .state = state_name,
        .quit = stop,
        .drain = set_draining,
        .ctx = program,
    };
    return px_admin_new(&opts, &program->bootstrap.admin, &program->admin, err);
}

static int run_bootstrap(struct program *program)
{
    struct lt_err err = {0};
    if (load(program, &err) != LT_OK) {
        lt_log_error(&program->env.log, "%s", err.text);
        return EXIT_FAILURE;
    }
    if (program->options.mode == PX_MODE_VALIDATE) {
        printf("configuration '%s' OK\n", program->options.config_path != NULL ? program->options.config_path : "--config-yaml");
        return EXIT_SUCCESS;
    }
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++)
        px_table_each(program->table, (px_resource_kind)kind, log_unhonoured, program);
    if (program->bootstrap.has_dynamic_resources)
        lt_log_warn(&program->env.log, "dynamic_resources of a -c file are not followed yet; static ones serve");
    watch_signals(program);
    start_workers(program);
    if (start_admin(program, &err) != LT_OK) {
        lt_log_error(&program->env.log, "%s", err.text);
        return EXIT_FAILURE;
    }
    publish(program);
    lt_log_info(&program->env.log, "serving %zu listeners, %zu clusters, %u workers", px_table_count(program->table, PX_LISTENER),
                px_table_count(program->table, PX_CLUSTER), program->options.concurrency);
    lt_loop_run(program->loop);
    return program->status;
}

/* --- the end --- */

static void fini(struct program *program)
{
    px_admin_free(&program->admin);
    px_workers_free(&program->workers);
    if (program->loop != NULL && program->signals.fd > 0) {
        lt_loop_io_del(program->loop, &program->signals);
        close(program->signals.fd);
    }
    px_table_free(&program->table);
    px_bootstrap_fini(&program->bootstrap);
    lt_metric_set_free(&program->metrics);
    lt_loop_free(&program->loop);
    px_options_fini(&program->options);
}

static void set_log_level(struct program *program)
{
    const char *name = program->options.log_level != NULL ? program->options.log_level : program->options.proxy_log_level;
    if (name != NULL && lt_log_level_parse(lt_str_of(name), &program->env.log.level) != LT_OK)
        lt_log_warn(&program->env.log, "unknown log level '%s', using info", name);
    for (size_t i = 0; i < program->options.ignored.count; i++)
        lt_log_info(&program->env.log, "%s is accepted, but does nothing here", (const char *)program->options.ignored.items[i]);
}

int main(int argc, char **argv)
{
    struct program program = {.signals = {.fd = -1}};
    struct lt_err err = {0};
    lt_env_init(&program.env, "lateen-proxy");
    if (px_options_parse(argc, argv, &program.options, &err) != LT_OK) {
        fprintf(stderr, "lateen-proxy: %s\n", err.text);
        return EXIT_USAGE;
    }
    if (program.options.mode == PX_MODE_HELP || program.options.mode == PX_MODE_VERSION) {
        fputs(program.options.mode == PX_MODE_HELP ? px_options_help : "lateen-proxy " PROXY_VERSION "\n", stdout);
        px_options_fini(&program.options);
        return EXIT_SUCCESS;
    }
    set_log_level(&program);
    program.loop = lt_loop_new(&program.env);
    program.table = px_table_new();
    program.metrics = lt_metric_set_new(1000);
    int status = EXIT_FAILURE;
    if (program.options.mode == PX_MODE_BOOTSTRAP || program.options.mode == PX_MODE_VALIDATE)
        status = run_bootstrap(&program);
    else
        lt_log_error(&program.env.log, "`proxy %s` is not built into this program yet; use -c FILE",
                     program.options.mode == PX_MODE_ROUTER ? "router" : "sidecar");
    fini(&program);
    return status;
}
