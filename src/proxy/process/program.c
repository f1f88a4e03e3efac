/*
 * proxy/process/program.c - what both ways of running share: signals, threads, the admin server,
 * snapshots, the end.
 */
#include "proxy/process/program.h"
#include "proxy/start/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/metric_carry.h"

#define PX_STATE_DIR_DEFAULT "./var/lib/istio/data"

enum { LAST_TURNS = 8, MEMORY_LOOK_MS = 100 };

/* --- configuration into the workers --- */

static void tell_decided(void *ctx, const struct px_demand *what, px_demand_outcome outcome)
{
    px_workers_tell_decided(((struct px_program *)ctx)->workers, what, outcome);
}

static void run_tell(struct lt_task *task)
{
    struct px_program *program = LT_CONTAINER_OF(task, struct px_program, tell);
    if (!px_table_is_dirty(program->table)) /* else behind the snapshot */
        px_feeds_tell_decided(program->feeds, tell_decided, program);
}

static void run_publish(struct lt_task *task)
{
    struct px_program *program = LT_CONTAINER_OF(task, struct px_program, publish);
    struct lt_err err = {0};
    /* Envoy: listeners open, all together, when everything that was waited for is there */
    if (px_feeds_phase(program->feeds) < PX_PHASE_LIVE)
        return;
    struct px_snapshot *snapshot = px_table_snapshot(program->table, &err);
    if (err.text[0] != '\0')
        lt_log_warn(&program->env.log, "TLS context: %s", err.text);
    px_workers_publish(program->workers, snapshot);
    px_feeds_tell_decided(program->feeds, tell_decided, program);
}

void px_program_publish(struct px_program *program)
{
    lt_loop_defer(program->loop, &program->publish);
}

/* --- clusters that need more than configuration --- */

static bool cluster_is_ready(void *ctx, const struct px_cluster_conf *conf,
                             const struct px_endpoints_conf *endpoints)
{
    return px_members_is_ready(ctx, conf, endpoints);
}

static struct px_roster *roster_of(void *ctx, const struct px_cluster_conf *conf,
                                   const struct px_endpoints_conf *endpoints)
{
    return px_members_roster(ctx, conf, endpoints);
}

static void on_cluster_gone(void *ctx, lt_str cluster)
{
    px_members_forget(ctx, cluster);
}

static struct lt_tls_ctx *tls_ctx_of(void *ctx, const struct px_tls_conf *tls)
{
    return px_table_tls_ctx(((struct px_program *)ctx)->table, tls);
}

static void on_members_change(void *ctx, const lt_str *clusters, size_t count)
{
    struct px_program *program = ctx;
    for (size_t i = 0; i < count; i++)
        px_table_look_again(program->table, clusters[i]);
    if (program->feeds != NULL)
        px_feeds_settle(program->feeds);
}

static void on_health(void *ctx, const lt_str *clusters, size_t count)
{
    struct px_program *program = ctx;
    if (program->workers != NULL)
        px_workers_tell_health(program->workers, clusters, count);
}

static void on_report(void *ctx, struct px_host_state *host, unsigned kind)
{
    px_members_report(((struct px_program *)ctx)->members, host, kind);
}

static void start_members(struct px_program *program)
{
    struct px_members_opts opts = {.loop = program->loop,
                                   .env = &program->env,
                                   .tls_ctx = tls_ctx_of,
                                   .on_change = on_members_change,
                                   .tell = on_health,
                                   .ctx = program};
    program->members = px_members_new(&opts);
    struct px_table_keeper keeper = {program->members, cluster_is_ready, roster_of,
                                     on_cluster_gone};
    px_table_set_keeper(program->table, &keeper);
}

static px_demand_outcome on_demand(void *ctx, const struct px_demand *what)
{
    return px_feeds_demand(((struct px_program *)ctx)->feeds, what);
}

static void on_decided(void *ctx)
{
    struct px_program *program = ctx;
    lt_loop_defer(program->loop, &program->tell);
}

static void on_listener_error(void *ctx, const char *text)
{
    struct px_program *program = ctx;
    lt_log_error(&program->env.log, "%s", text);
    /*
     * Envoy ends when a static listener cannot bind; one that the control plane sent is reported
     * and the rest serves
     */
    if (program->mesh == NULL) {
        program->status = EXIT_FAILURE;
        lt_loop_stop(program->loop);
    }
}

/* --- listening sockets from whoever started us --- */

static void on_handover(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_program *program = LT_CONTAINER_OF(io, struct px_program, handovers);
    struct lt_handover message;
    int fd = -1;
    lt_rc rc;
    while ((rc = lt_handover_receive(io->fd, &message, &fd)) == LT_OK)
        px_workers_hand(program->workers, &message, fd);
    if (rc == LT_AGAIN)
        return;
    lt_loop_io_close(program->loop, io); /* who started us has gone; what we have, we keep */
}

void px_program_take_handovers(struct px_program *program, int fd)
{
    if (fd < 0)
        return;
    program->handovers.fd = fd;
    lt_loop_io_set(program->loop, &program->handovers, EPOLLIN);
}

/* Of the environment; who takes another's place has what that one had. */
static void take_handovers(struct px_program *program)
{
    const char *text = getenv(LT_HANDOVER_ENV);
    uint64_t fd = 0;
    lt_io_init(&program->handovers, on_handover);
    if (text == NULL || program->takeover.is_new)
        return;
    if (lt_str_to_u64(lt_str_of(text), &fd) != LT_OK || fd > INT32_MAX ||
        fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl((int)fd, F_SETFL, O_NONBLOCK) < 0 ||
        lt_handover_send_hello((int)fd) != LT_OK) {
        lt_log_warn(&program->env.log, "%s: expected the number of a Unix socket, got '%s'",
                    LT_HANDOVER_ENV, text);
        return;
    }
    px_program_take_handovers(program, (int)fd);
}

/* --- one process after another (takeover.c) --- */

static size_t list_servers(const struct px_program *program, struct lt_server *out[2])
{
    size_t count = 0;
    if (program->admin != NULL)
        out[count++] = px_admin_server(program->admin);
    if (program->mesh != NULL && px_mesh_status_server(program->mesh) != NULL)
        out[count++] = px_mesh_status_server(program->mesh);
    return count;
}

void px_program_accept(struct px_program *program)
{
    struct lt_server *servers[2];
    size_t count = list_servers(program, servers);
    for (size_t i = 0; i < count; i++)
        lt_server_set_accepting(servers[i], true);
    if (program->mesh != NULL)
        px_mesh_accept(program->mesh);
}

void px_program_leave(struct px_program *program)
{
    struct lt_server *servers[2];
    size_t count = list_servers(program, servers);
    for (size_t i = 0; i < count; i++)
        lt_server_leave(servers[i]);
    if (program->mesh != NULL)
        px_mesh_leave(program->mesh);
    if (program->handovers.fd >= 0) {
        lt_loop_io_del(program->loop, &program->handovers);
        close(program->handovers.fd);
        program->handovers.fd = -1;
    }
    program->is_draining = true;
}

void px_program_add_sockets(struct px_program *program, struct lt_vec *sockets)
{
    struct lt_server *servers[2];
    size_t count = list_servers(program, servers);
    for (size_t i = 0; i < count; i++) {
        int fds[8];
        size_t fd_count = lt_server_sockets(servers[i], fds, LT_ARRAY_LEN(fds));
        for (size_t j = 0; j < fd_count; j++) {
            struct lt_addr addr = {0};
            if (lt_sock_local(fds[j], &addr) == LT_OK)
                px_sockets_add(sockets, PX_SOCKET_SERVER, 0, &addr, fds[j]);
        }
    }
    if (program->mesh != NULL)
        px_mesh_add_sockets(program->mesh, sockets);
    if (program->handovers.fd >= 0)
        px_sockets_add(sockets, PX_SOCKET_HANDOVERS, 0, NULL, program->handovers.fd);
}

void px_program_add_metrics(const struct px_program *program, struct lt_metric_set *sum)
{
    px_members_add_stats(program->members, sum);
    lt_metric_set_merge(sum, program->metrics);
    (void)!lt_metric_add_saved(sum, lt_buf_str(&program->takeover.carried));
}

static unsigned worker_count(const struct px_program *program)
{
    if (program->options.concurrency > 0)
        return LT_MIN(program->options.concurrency, 64u);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    return cpus < 1 ? 1 : cpus > 64 ? 64 : (unsigned)cpus;
}

/* --- state --- */

const char *px_program_state(const struct px_program *program)
{
    if (program->is_draining || program->is_stopping)
        return "DRAINING";
    px_phase phase = px_feeds_phase(program->feeds);
    if (phase < PX_PHASE_LISTENERS)
        return "PRE_INITIALIZING";
    bool is_live = phase == PX_PHASE_LIVE && px_workers_are_ready(program->workers);
    return is_live ? "LIVE" : "INITIALIZING";
}

static const char *state_name(void *ctx)
{
    return px_program_state(ctx);
}

static void on_drained(void *ctx)
{
    lt_loop_stop(((struct px_program *)ctx)->loop);
}

void px_program_stop(struct px_program *program, int status)
{
    program->status = status;
    if (program->is_stopping) {
        lt_loop_stop(program->loop);
        return;
    }
    program->is_stopping = true;
    px_workers_drain(program->workers, PX_STOP_DRAIN_MS, on_drained, program);
}

static void on_stop_listeners(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_program *program = LT_CONTAINER_OF(timer, struct px_program, stop_listeners);
    px_workers_stop_listeners(program->workers, program->drain_scope);
}

void px_program_drain(struct px_program *program, const struct px_drain_order *order)
{
    program->drain_scope = LT_MAX(program->drain_scope, order->scope);
    px_workers_ask_to_leave(program->workers, order->scope);
    if (order->keeps_listeners)
        return;
    if (!order->is_graceful)
        px_workers_stop_listeners(program->workers, order->scope);
    else if (!lt_timer_is_set(&program->stop_listeners))
        lt_loop_timer_set(program->loop, &program->stop_listeners,
                          program->options.drain_time_s * LT_NS_PER_S);
}

static void drain_listeners(void *ctx, bool is_inbound_only, bool is_graceful, bool skips_exit)
{
    struct px_drain_order order = {.scope = is_inbound_only ? PX_SCOPE_INBOUND : PX_SCOPE_ALL,
                                   .is_graceful = is_graceful,
                                   .keeps_listeners = skips_exit};
    px_program_drain(ctx, &order);
}

static void quit(void *ctx)
{
    px_program_stop(ctx, EXIT_SUCCESS);
}

static void fail_check(void *ctx, bool fails)
{
    struct px_program *program = ctx;
    program->is_draining = fails;
    px_workers_fail_check(program->workers, fails);
}

static void upgrade(struct px_program *program)
{
    if (program->workers == NULL)
        lt_log_warn(&program->env.log, "SIGUSR2: the data path is a real Envoy, which is not "
                                       "replaced while it runs");
    else
        px_takeover_spawn(program);
}

static void on_signal(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_program *program = LT_CONTAINER_OF(io, struct px_program, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (px_takeover_pass_signal(program, (int)info.ssi_signo))
            continue;
        if (info.ssi_signo == SIGUSR2) {
            upgrade(program);
            continue;
        }
        lt_log_info(&program->env.log, "%s: ending",
                    info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
        if (program->mesh != NULL)
            px_mesh_stop(program->mesh);
        else
            px_program_stop(program, EXIT_SUCCESS);
    }
}

void px_program_watch_signals(struct px_program *program)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    lt_io_init(&program->signals, on_signal);
    program->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    LT_ASSERT(program->signals.fd >= 0);
    lt_loop_io_set(program->loop, &program->signals, EPOLLIN);
}

/* --- life --- */

static lt_rc start_admin(struct px_program *program, struct lt_err *err)
{
    struct px_admin_opts opts = {
        .loop = program->loop,
        .env = &program->env,
        .table = program->table,
        .members = program->members,
        .workers = program->workers,
        .options = &program->options,
        .node_id = program->bootstrap.node_id,
        .node_cluster = program->bootstrap.node_cluster,
        .bootstrap = program->bootstrap.message,
        .stats = &program->bootstrap.stats,
        .main_metrics = program->metrics,
        .carried = &program->takeover.carried,
        .inherited = program->takeover.is_new ? &program->takeover.inherited : NULL,
        .state = state_name,
        .quit = quit,
        .fail_check = fail_check,
        .drain_listeners = drain_listeners,
        .ctx = program,
    };
    return px_admin_new(&opts, &program->bootstrap.admin, &program->admin, err);
}

static void on_feeds_change(void *ctx)
{
    px_program_publish(ctx);
}

/*
 * Where the last good resources are kept: for a mesh's proxy where Istio's agent has its data, when
 * that is there; for others only where they are told.
 */
static lt_str state_directory(const struct px_program *program)
{
    const char *told = getenv("LATEEN_PROXY_STATE_DIR");
    if (told != NULL)
        return lt_str_of(told);
    bool is_there = program->mesh != NULL && access(PX_STATE_DIR_DEFAULT, W_OK) == 0;
    return is_there ? LT_STR(PX_STATE_DIR_DEFAULT) : LT_STR_NULL;
}

static lt_rc start_feeds(struct px_program *program, const struct px_feeds_opts *mesh_feeds,
                         struct lt_err *err)
{
    struct px_feeds_opts opts = {.loop = program->loop,
                                 .env = &program->env,
                                 .table = program->table,
                                 .metrics = program->metrics,
                                 .roots = program->bootstrap.roots,
                                 .node_id = program->bootstrap.node_id,
                                 .state_directory = state_directory(program),
                                 .on_change = on_feeds_change,
                                 .on_decided = on_decided,
                                 .ctx = program};
    LT_TRY(px_node_complete(program->arena, program->bootstrap.node, &opts.node, err));
    program->node_bytes = opts.node;
    if (mesh_feeds != NULL) {
        opts.ads_channel = mesh_feeds->ads_channel;
        opts.ads_metadata = mesh_feeds->ads_metadata;
        opts.want_secret = mesh_feeds->want_secret;
        memcpy(opts.extras, mesh_feeds->extras, sizeof(opts.extras));
    }
    program->feeds = px_feeds_new(&opts);
    return LT_OK;
}

/* --- memory --- */

/* The kernel's own share (sockets, page tables) counts in a control group, and is not ours. */
static uint64_t memory_limit(const struct px_program *program)
{
    uint64_t limit = 0;
    if (program->options.memory_limit == NULL)
        return px_pressure_cgroup_limit("") / 10 * 9;
    return px_pressure_parse(lt_str_of(program->options.memory_limit), &limit) == LT_OK ? limit : 0;
}

static void set_gauge(struct px_program *program, const char *name, const char *stat,
                      const char *value, double number)
{
    lt_str label = LT_STR("action"), values = lt_str_of(value);
    struct lt_metric_desc desc = {.name = lt_str_of(name),
                                  .kind = LT_METRIC_GAUGE,
                                  .stat = lt_str_of(stat),
                                  .labels = &label,
                                  .label_count = value != NULL ? 1 : 0};
    lt_gauge_set(lt_metric_gauge(lt_metric_family(program->metrics, &desc), &values), number);
}

static void on_memory(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_program *program = LT_CONTAINER_OF(timer, struct px_program, memory);
    uint64_t used = 0;
    uint32_t acts = px_workers_look_at_memory(program->workers, &used);
    for (int act = 0; act < PX_ACTS; act++) {
        if (program->bootstrap.pressure.at_bytes[act] != UINT64_MAX)
            set_gauge(program, "envoy_overload_active", "overload.$0.active",
                      px_act_name((px_act)act), acts >> act & 1);
    }
    set_gauge(program, "lateen_memory_used_bytes", "lateen.memory.used_bytes", NULL, (double)used);
    lt_loop_timer_set(program->loop, timer, MEMORY_LOOK_MS * LT_NS_PER_MS);
}

static void watch_memory(struct px_program *program)
{
    const struct px_pressure_conf *conf = &program->bootstrap.pressure;
    lt_timer_init(&program->memory, on_memory);
    if (!px_pressure_conf_is_on(conf))
        return;
    set_gauge(program, "lateen_memory_limit_bytes", "lateen.memory.limit_bytes", NULL,
              (double)conf->limit_bytes);
    on_memory(&program->memory, 0);
}

/* As many connections as we may have; a shell's soft limit is about select(2). */
static void raise_descriptors(struct px_program *program)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        lt_log_warn(&program->env.log, "the limit of open files stays as it is: %s",
                    strerror(errno));
}

static void start_load(struct px_program *program)
{
    const struct px_load_opts opts = {.loop = program->loop,
                                      .env = &program->env,
                                      .table = program->table,
                                      .workers = program->workers,
                                      .metrics = program->metrics,
                                      .source = program->bootstrap.load_stats,
                                      .node = program->node_bytes};
    if (opts.source != NULL)
        program->load = px_load_new(&opts);
}

lt_rc px_program_start(struct px_program *program, const struct px_feeds_opts *mesh_feeds,
                       struct lt_err *err)
{
    LT_TRY(start_feeds(program, mesh_feeds, err));
    if (program->node.id.len == 0)
        px_node_facts_of(program->bootstrap.arena, program->bootstrap.node, &program->node);
    px_pressure_conf_limit(&program->bootstrap.pressure, memory_limit(program));
    raise_descriptors(program);
    struct px_workers_opts opts = {
        .env = &program->env,
        .loop = program->loop,
        .count = worker_count(program),
        .node = program->node,
        .home = program->bootstrap.home,
        .stats = &program->bootstrap.stats,
        .drain_ms = program->options.drain_time_s * 1000,
        .drains_gradually = program->options.drain_strategy == NULL ||
                            strcmp(program->options.drain_strategy, "gradual") == 0,
        .inherited = &program->takeover.inherited,
        .holds_accept = program->takeover.is_new,
        .pressure = &program->bootstrap.pressure,
        .on_listener_error = on_listener_error,
        .on_report = on_report,
        .on_demand = on_demand,
        .ctx = program,
    };
    program->options.concurrency = opts.count;
    program->workers = px_workers_new(&opts);
    LT_TRY(start_admin(program, err));
    take_handovers(program);
    watch_memory(program);
    px_feeds_start(program->feeds);
    start_load(program);
    px_program_publish(program);
    return LT_OK;
}

void px_program_init(struct px_program *program)
{
    program->loop = lt_loop_new(&program->env);
    program->arena = lt_arena_new(4096, 0);
    program->table = px_table_new();
    start_members(program);
    program->metrics = lt_metric_set_new(1000);
    program->handovers.fd = -1;
    lt_task_init(&program->publish, run_publish);
    lt_task_init(&program->tell, run_tell);
    lt_timer_init(&program->stop_listeners, on_stop_listeners);
    lt_timer_init(&program->memory, on_memory);
    px_takeover_init(program);
}

void px_program_fini(struct px_program *program)
{
    lt_task_cancel(&program->publish);
    lt_task_cancel(&program->tell);
    lt_loop_timer_cancel(program->loop, &program->stop_listeners);
    lt_loop_timer_cancel(program->loop, &program->memory);
    px_takeover_fini(program);
    px_admin_free(&program->admin);
    px_mesh_free(&program->mesh);
    px_load_free(&program->load);
    px_workers_free(&program->workers);
    if (program->handovers.fd >= 0) {
        lt_loop_io_del(program->loop, &program->handovers);
        close(program->handovers.fd);
    }
    if (program->signals.fd >= 0) {
        lt_loop_io_del(program->loop, &program->signals);
        close(program->signals.fd);
    }
    px_feeds_free(&program->feeds);
    px_members_forget_all(program->members);
    px_table_free(&program->table);
    px_members_free(&program->members);
    px_bootstrap_fini(&program->bootstrap);
    lt_metric_set_free(&program->metrics);
    /* what was closed above frees its memory in tasks, some of them after another task */
    for (int turn = 0; turn < LAST_TURNS; turn++)
        lt_loop_turn(program->loop, 0);
    lt_loop_free(&program->loop);
    lt_arena_free(&program->arena);
}
