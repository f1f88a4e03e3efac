/*
 * proxy/agent/envoy.c - the Envoy child. Start at: px_envoy_start().
 */
#include "proxy/agent/envoy.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

enum { ARGS_MAX = 32, ADMIN_TIMEOUT_MS = 3000, IDLE_POLL_MS = 1000, IDLE_ERRORS_MAX = 5 };

struct px_envoy {
    struct px_envoy_opts opts;
    const struct lt_env *env; /* borrowed */
    struct lt_arena *arena;   /* owned; arguments */
    pid_t pid;                /* 0: has ended */
    struct lt_io pidfd;
    struct lt_timer stop_timer; /* kill, or the next look whether it is idle */
    struct lt_call *drain;      /* owned; the admin call that runs */
    struct lt_call *idle;       /* owned */
    struct lt_call *ready;      /* owned */
    struct lt_list waiters;     /* of ready */
    unsigned idle_errors;
    bool is_ready;
    bool is_stopping;
};

/* --- the command line --- */

static const char *text(struct px_envoy *envoy, lt_str s)
{
    return lt_arena_strz(envoy->arena, s);
}

static void make_args(struct px_envoy *envoy, const char *config_path, const char *args[ARGS_MAX])
{
    const struct px_agent_settings *settings = envoy->opts.settings;
    bool is_v6 = lt_str_find_char(settings->instance_ip, ':') >= 0;
    size_t n = 0;
    args[n++] = text(envoy, settings->binary_path);
    args[n++] = "-c";
    args[n++] = config_path;
    args[n++] = "--drain-time-s";
    args[n++] = lt_arena_printf(envoy->arena, "%u", settings->drain_ms / 1000).ptr;
    args[n++] = "--drain-strategy";
    args[n++] = "immediate";
    args[n++] = "--local-address-ip-version";
    args[n++] = is_v6 ? "v6" : "v4";
    args[n++] = "--file-flush-interval-msec";
    args[n++] = "1000";
    args[n++] = "--disable-hot-restart";
    args[n++] = "--allow-unknown-static-fields";
    args[n++] = "-l";
    args[n++] = text(envoy, settings->log_level);
    if (settings->component_log_level.len > 0) {
        args[n++] = "--component-log-level";
        args[n++] = text(envoy, settings->component_log_level);
    }
    if (settings->skips_deprecated_logs)
        args[n++] = "--skip-deprecated-logs";
    args[n++] = "--concurrency";
    args[n++] = lt_arena_printf(envoy->arena, "%u", settings->concurrency).ptr;
    args[n] = NULL;
    LT_ASSERT(n < ARGS_MAX);
}

/* Between fork and exec: only what is safe there. */
static _Noreturn void run_child(const char *const *args, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) /* else we were orphaned before the line above */
        (void)execv(args[0], (char *const *)args);
    _exit(127);
}

/* --- its end --- */

static int exit_code(struct px_envoy *envoy, const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED)
        return info->si_status;
    if (info->si_status == SIGKILL && !envoy->is_stopping)
        lt_log_error(&envoy->env->log, "agent: envoy was killed; perhaps it ran out of memory");
    return 128 + info->si_status;
}

static void on_child_ended(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_envoy *envoy = LT_CONTAINER_OF(io, struct px_envoy, pidfd);
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)io->fd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return;
    lt_loop_io_del(envoy->opts.loop, io);
    lt_loop_timer_cancel(envoy->opts.loop, &envoy->stop_timer);
    envoy->pid = 0;
    /* on_exit may free us: last */
    envoy->opts.on_exit(envoy->opts.ctx, envoy->is_stopping ? 0 : exit_code(envoy, &info));
}

void px_envoy_kill(struct px_envoy *envoy)
{
    envoy->is_stopping = true;
    if (envoy->pid > 0)
        (void)kill(envoy->pid, SIGKILL);
}

/* --- the admin page --- */

static struct lt_call *admin_call(struct px_envoy *envoy, lt_str method, lt_str target,
                                  lt_call_fn *on_done, void *ctx)
{
    struct lt_call_opts opts = {.method = method, .target = target, .timeout_ms = ADMIN_TIMEOUT_MS};
    lt_rc rc = lt_addr_parse(LT_STR("127.0.0.1"), envoy->opts.settings->admin_port, &opts.addr);
    LT_ASSERT(rc == LT_OK);
    return lt_call_start(envoy->opts.loop, &opts, on_done, ctx);
}

static uint64_t stat_value(lt_str stats, const char *name, bool *ret_found)
{
    lt_str line, key;
    uint64_t value = 0;
    *ret_found = false;
    while (!*ret_found && lt_str_split(&stats, '\n', &line)) {
        if (lt_str_split(&line, ':', &key) && lt_str_eqz(lt_str_trim(key), name))
            *ret_found = lt_str_to_u64(lt_str_trim(line), &value) == LT_OK;
    }
    return value;
}

bool px_envoy_stats_are_ready(lt_str stats, const char **ret_why)
{
    bool is_found = false;
    *ret_why = "";
    if (stat_value(stats, "cluster_manager.cds.update_success", &is_found) == 0)
        *ret_why = "no clusters (CDS) received yet";
    else if (stat_value(stats, "listener_manager.lds.update_success", &is_found) == 0)
        *ret_why = "no listeners (LDS) received yet";
    else if (stat_value(stats, "server.state", &is_found) != 0 || !is_found)
        *ret_why = "envoy is not live";
    else if (stat_value(stats, "listener_manager.workers_started", &is_found) != 1)
        *ret_why = "workers have not started";
    return (*ret_why)[0] == '\0';
}

/* One question for all who ask meanwhile. */
struct waiter {
    struct lt_list link;
    px_envoy_ready_fn *on_done;
    void *ctx;
};

static void tell_waiters(struct px_envoy *envoy, bool is_ready, const char *why)
{
    while (!lt_list_is_empty(&envoy->waiters)) {
        struct waiter *waiter = lt_list_first(&envoy->waiters, struct waiter, link);
        lt_list_remove(&waiter->link);
        waiter->on_done(waiter->ctx, is_ready, why);
        free(waiter);
    }
}

static void on_ready_stats(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                           void *ctx)
{
    struct px_envoy *envoy = ctx;
    envoy->ready = NULL;
    const char *why = result->rc == LT_OK ? "the admin page answered with an error" : result->error;
    if (result->rc == LT_OK && result->status == 200)
        envoy->is_ready = px_envoy_stats_are_ready(result->body, &why);
    tell_waiters(envoy, envoy->is_ready, why);
}

void px_envoy_check_ready(struct px_envoy *envoy, px_envoy_ready_fn *on_done, void *ctx)
{
    static const char target[] =
        "/stats?filter=%5E(cluster_manager%5C.cds%7Clistener_manager%5C.lds%7Cserver%7C"
        "listener_manager)%5C.(update_success%7Cstate%7Cworkers_started)%24";
    if (envoy->is_ready) {
        on_done(ctx, true, "");
        return;
    }
    struct waiter *waiter = lt_new(struct waiter);
    waiter->on_done = on_done;
    waiter->ctx = ctx;
    lt_list_push_back(&envoy->waiters, &waiter->link);
    if (envoy->ready == NULL)
        envoy->ready = admin_call(envoy, LT_STR("GET"), lt_str_of(target), on_ready_stats, envoy);
}

static void on_drained(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                       void *ctx)
{
    struct px_envoy *envoy = ctx;
    envoy->drain = NULL;
    if (result->rc != LT_OK || result->status != 200)
        lt_log_warn(&envoy->env->log, "agent: envoy did not drain: %s",
                    result->rc != LT_OK ? result->error : "refused");
}

void px_envoy_drain(struct px_envoy *envoy, bool skip_exit)
{
    if (envoy->drain != NULL || envoy->pid == 0)
        return;
    char target[64];
    (void)snprintf(target, sizeof(target), "/drain_listeners?%sgraceful%s",
                   envoy->opts.settings->is_router ? "" : "inboundonly&",
                   skip_exit ? "&skip_exit" : "");
    envoy->drain = admin_call(envoy, LT_STR("POST"), lt_str_of(target), on_drained, envoy);
}

/* --- stopping --- */

/*
 * "listener.0.0.0.0_15006.downstream_cx_active: 3"; per-worker lines and the agent's own listeners
 * don't count.
 */
uint64_t px_envoy_active_connections(lt_str stats, const struct px_agent_settings *settings)
{
    const uint16_t own[] = {settings->admin_port, settings->health_port, settings->prometheus_port};
    uint64_t sum = 0, value;
    lt_str line, rest = stats;
    while (lt_str_split(&rest, '\n', &line)) {
        ptrdiff_t colon = lt_str_rfind_char(line, ':');
        lt_str name = colon < 0 ? LT_STR_NULL : lt_str_slice(line, 0, (size_t)colon);
        bool counts = lt_str_starts(name, LT_STR("listener.")) &&
                      lt_str_find(name, LT_STR("worker_")) < 0 &&
                      !lt_str_starts(name, LT_STR("listener.admin.")) &&
                      !lt_str_starts(name, LT_STR("listener.envoy_internal_"));
        for (size_t i = 0; i < LT_ARRAY_LEN(own) && counts; i++) {
            char part[16];
            (void)snprintf(part, sizeof(part), "_%u.", own[i]);
            counts = lt_str_find(name, lt_str_of(part)) < 0;
        }
        if (counts &&
            lt_str_to_u64(lt_str_trim(lt_str_from(line, (size_t)colon + 1)), &value) == LT_OK)
            sum += value;
    }
    return sum;
}

static void on_idle_stats(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                          void *ctx)
{
    struct px_envoy *envoy = ctx;
    envoy->idle = NULL;
    bool is_good = result->rc == LT_OK && result->status == 200;
    envoy->idle_errors = is_good ? 0 : envoy->idle_errors + 1;
    if ((is_good && px_envoy_active_connections(result->body, envoy->opts.settings) == 0) ||
        envoy->idle_errors >= IDLE_ERRORS_MAX)
        px_envoy_kill(envoy);
    else
        lt_loop_timer_set(envoy->opts.loop, &envoy->stop_timer, IDLE_POLL_MS * LT_NS_PER_MS);
}

static void on_stop_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_envoy *envoy = LT_CONTAINER_OF(timer, struct px_envoy, stop_timer);
    if (!envoy->opts.settings->exits_on_zero_connections)
        px_envoy_kill(envoy);
    else if (envoy->idle == NULL)
        envoy->idle = admin_call(envoy, LT_STR("GET"),
                                 LT_STR("/stats?usedonly&filter=downstream_cx_active%24"),
                                 on_idle_stats, envoy);
}

void px_envoy_stop(struct px_envoy *envoy)
{
    const struct px_agent_settings *settings = envoy->opts.settings;
    if (envoy->is_stopping || envoy->pid == 0)
        return;
    envoy->is_stopping = true;
    px_envoy_drain(envoy, false);
    uint32_t wait_ms = settings->exits_on_zero_connections ? settings->minimum_drain_ms
                                                           : settings->termination_drain_ms;
    lt_loop_timer_set(envoy->opts.loop, &envoy->stop_timer, wait_ms * LT_NS_PER_MS);
}

/* --- begin and end --- */

lt_rc px_envoy_start(const struct px_envoy_opts *opts, struct px_envoy **ret_envoy,
                     struct lt_err *err)
{
    struct px_envoy *envoy = lt_new(struct px_envoy);
    const char *args[ARGS_MAX];
    envoy->opts = *opts;
    envoy->env = lt_loop_env(opts->loop);
    envoy->arena = lt_arena_new(1024, 0);
    lt_io_init(&envoy->pidfd, on_child_ended);
    lt_timer_init(&envoy->stop_timer, on_stop_timer);
    lt_list_init(&envoy->waiters);
    lt_str path = lt_arena_printf(envoy->arena, "%.*s/envoy-rev.json",
                                  LT_STR_ARG(opts->settings->config_path));
    lt_rc rc = lt_file_write(path.ptr, opts->bootstrap, 0600, err);
    make_args(envoy, path.ptr, args);
    if (rc == LT_OK && access(args[0], X_OK) != 0)
        rc = lt_err_errno(err, "ProxyConfig.binaryPath %s", args[0]);
    pid_t parent = getpid(), pid = rc == LT_OK ? fork() : -1;
    if (pid == 0)
        run_child(args, parent);
    if (rc == LT_OK && pid < 0)
        rc = lt_err_errno(err, "cannot start %s", args[0]);
    if (rc == LT_OK) {
        envoy->pid = pid;
        envoy->pidfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (envoy->pidfd.fd < 0)
            rc = lt_err_errno(err, "cannot watch %s", args[0]);
    }
    if (rc != LT_OK) {
        px_envoy_free(&envoy);
        return rc;
    }
    lt_loop_io_set(opts->loop, &envoy->pidfd, EPOLLIN);
    lt_log_info(&envoy->env->log, "agent: started %s, pid %d", args[0], (int)pid);
    *ret_envoy = envoy;
    return LT_OK;
}

void px_envoy_free(struct px_envoy **envoy)
{
    struct px_envoy *dying = *envoy;
    *envoy = NULL;
    if (dying == NULL)
        return;
    if (dying->pid > 0) {
        (void)kill(dying->pid, SIGKILL);
        (void)waitpid(dying->pid, NULL, 0);
    }
    lt_loop_timer_cancel(dying->opts.loop, &dying->stop_timer);
    if (dying->pidfd.fd >= 0) {
        lt_loop_io_del(dying->opts.loop, &dying->pidfd);
        close(dying->pidfd.fd);
    }
    lt_call_cancel(&dying->drain);
    lt_call_cancel(&dying->idle);
    lt_call_cancel(&dying->ready);
    tell_waiters(dying, false, "envoy has ended");
    lt_arena_free(&dying->arena);
    free(dying);
}
