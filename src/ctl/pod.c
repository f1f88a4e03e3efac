/*
 * ctl/pod.c - the life of a Pod.
 * Every step that must wait returns; step() is called again when something has happened (a
 * container started or ended, a probe answered, a timer) and goes on from the state it finds.
 * Start at: ctl_pod_new(), step().
 */
#include "ctl/pod.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/link.h"
#include "ctl/netns.h"
#include "ctl/nft.h"
#include "ctl/proc.h"
#include "ctl/volumes.h"

enum {
    GATEWAY_IP = 0xa9fe0101, /* 169.254.1.1: on no network, reached over the one link there is */
    PROBE_FAST_MS = 50,      /* until ready */
    PROBE_SLOW_MS = 1000,    /* afterwards */
    PROBE_TIMEOUT_MS = 1000,
    PORT_PATIENCE_S = 10,
    RESTART_FIRST_MS = 500,
    RESTART_MOST_MS = 60000,
    RESTART_CALM_S = 60, /* a run this long starts the counting anew */
    DRAIN_MS = 1500,     /* for everybody to learn that it goes */
    PROXY_GRACE_S = 10,  /* its own drain is 5 s (terminationDrainDuration) */
};

static const char *const state_names[] = {"Init",     "Starting", "Starting", "Running",
                                          "Draining", "Stopping", "Stopping", "Ended"};

const char *ctl_pod_state_name(ctl_pod_state state)
{
    LT_ASSERT((size_t)state < LT_ARRAY_LEN(state_names));
    return state_names[state];
}

static void step(struct ctl_pod *pod);

static void set_state(struct ctl_pod *pod, ctl_pod_state state)
{
    LT_ASSERT(state > pod->state);
    pod->state = state;
    lt_loop_defer(pod->host->loop, &pod->changed);
}

static void set_ready(struct ctl_pod *pod, bool is_ready)
{
    if (pod->is_ready == is_ready)
        return;
    pod->is_ready = is_ready;
    lt_loop_defer(pod->host->loop, &pod->changed);
}

static void on_changed(struct lt_task *task)
{
    struct ctl_pod *pod = LT_CONTAINER_OF(task, struct ctl_pod, changed);
    pod->host->on_change(pod, pod->host->ctx);
}

/* --- network --- */

static lt_rc set_up_inside(const struct ctl_pod *pod, struct lt_err *err)
{
    LT_TRY(ctl_sysctl_set("net.ipv4.ip_unprivileged_port_start", "0", err));
    LT_TRY(ctl_link_up("lo", err));
    LT_TRY(ctl_link_add_address("eth0", pod->ip, 32, err));
    LT_TRY(ctl_link_up("eth0", err));
    LT_TRY(ctl_link_add_route("eth0", GATEWAY_IP, 32, 0, pod->ip, err));
    return ctl_link_add_route("eth0", 0, 0, GATEWAY_IP, pod->ip, err);
}

static lt_rc set_up_network(struct ctl_pod *pod, struct lt_err *err)
{
    int back;
    LT_TRY(ctl_netns_new(&pod->netns_fd, err));
    LT_TRY(ctl_link_add_veth(pod->link, "eth0", pod->netns_fd, err));
    LT_TRY(ctl_link_up(pod->link, err));
    LT_TRY(ctl_link_add_route(pod->link, pod->ip, 32, 0, 0, err));
    LT_TRY(ctl_netns_enter(pod->netns_fd, &back, err));
    lt_rc rc = set_up_inside(pod, err);
    ctl_netns_leave(&back);
    return rc;
}

static lt_rc set_up_capture(const struct ctl_pod *pod, struct lt_err *err)
{
    int back;
    if (pod->plan->capture == NULL)
        return LT_OK;
    LT_TRY(ctl_netns_enter(pod->netns_fd, &back, err));
    lt_rc rc = ctl_nft_apply(pod->plan->capture, err);
    ctl_netns_leave(&back);
    return rc;
}

/* --- containers --- */

static bool wants_restart(const struct ctl_run *run)
{
    if (ctl_pod_is_stopping(run->pod))
        return false;
    return run->plan->restart == CTL_RESTART_ALWAYS ||
           (run->plan->restart == CTL_RESTART_ON_FAILURE && run->exit_code != 0);
}

static void schedule_restart(struct ctl_run *run)
{
    struct lt_loop *loop = run->pod->host->loop;
    if (lt_loop_now_ns(loop) - run->started_ns > RESTART_CALM_S * LT_NS_PER_S)
        run->restarts = 0;
    uint64_t delay_ms = LT_MIN((uint64_t)RESTART_FIRST_MS << LT_MIN(run->restarts, 10u),
                               (uint64_t)RESTART_MOST_MS);
    run->restarts++;
    lt_loop_timer_set(loop, &run->restart, delay_ms * LT_NS_PER_MS);
}

static void close_run(struct ctl_run *run)
{
    struct lt_loop *loop = run->pod->host->loop;
    if (run->start_io.fd >= 0) {
        lt_loop_io_del(loop, &run->start_io);
        close(run->start_io.fd);
        run->start_io.fd = -1;
    }
    lt_loop_io_del(loop, &run->exit_io);
    close(run->exit_io.fd);
    run->exit_io.fd = -1;
    run->is_up = false;
    run->has_started = false;
    if (run->plan->takes_sockets)
        ctl_handing_close(&run->pod->handing);
}

static void on_run_end(struct ctl_run *run)
{
    if (wants_restart(run))
        schedule_restart(run);
    else
        run->has_ended = true;
    if (run->plan->role != CTL_ROLE_INIT && !run->has_ended)
        set_ready(run->pod, false);
    lt_loop_defer(run->pod->host->loop, &run->pod->changed);
    step(run->pod);
}

static void on_exit_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_run *run = LT_CONTAINER_OF(io, struct ctl_run, exit_io);
    int code = ctl_proc_wait(io->fd);
    if (code < 0)
        return;
    run->exit_code = code;
    if (run->start_io.fd >= 0) { /* it failed before it started: why is still in the pipe */
        struct lt_err err = {0};
        run->container.start_fd = run->start_io.fd;
        lt_loop_io_del(run->pod->host->loop, &run->start_io);
        run->start_io.fd = -1;
        if (ctl_container_started(&run->container, &err) != LT_OK)
            snprintf(run->reason, sizeof(run->reason), "%.*s", (int)sizeof(run->reason) - 1,
                     err.text);
    }
    if (run->reason[0] != '\0')
        ctl_clog_say(&run->log, "lateen: container %s did not start: %s", run->plan->name,
                     run->reason);
    close_run(run);
    on_run_end(run);
}

static void on_start_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_run *run = LT_CONTAINER_OF(io, struct ctl_run, start_io);
    struct lt_err err = {0};
    lt_loop_io_del(run->pod->host->loop, io);
    io->fd = -1;
    if (ctl_container_started(&run->container, &err) != LT_OK) {
        snprintf(run->reason, sizeof(run->reason), "%.*s", (int)sizeof(run->reason) - 1, err.text);
        return; /* its end comes */
    }
    run->reason[0] = '\0';
    run->has_started = run->plan->role != CTL_ROLE_INIT;
    step(run->pod);
}

static const char *state_file(const struct ctl_pod *pod, char out[PATH_MAX], const char *fmt,
                              const char *name)
{
    char tail[PATH_MAX / 2];
    snprintf(tail, sizeof(tail), fmt, name);
    int len = snprintf(out, PATH_MAX, "%s/%s", pod->host->state_path, tail);
    LT_ASSERT(len > 0 && len < PATH_MAX);
    return out;
}

static void on_hello(struct ctl_handing *handing)
{
    struct ctl_pod *pod = LT_CONTAINER_OF(handing, struct ctl_pod, handing);
    lt_loop_defer(pod->host->loop, &pod->changed);
}

static lt_rc start_container(struct ctl_run *run, int log_fd, int extra_fd, struct lt_err *err)
{
    const struct ctl_pod *pod = run->pod;
    char stage[PATH_MAX], volumes[PATH_MAX];
    const struct ctl_container_spec spec = {
        .hostname = pod->plan->hostname,
        .stage = state_file(pod, stage, "%s", "stage"),
        .volumes = state_file(pod, volumes, "volumes/%s", pod->link),
        .netns_fd = pod->netns_fd,
        .argv = run->plan->argv,
        .env = run->plan->env,
        .working_dir = run->plan->working_dir,
        .uid = run->plan->uid,
        .gid = run->plan->gid,
        .mounts = run->plan->mounts,
        .mount_count = run->plan->mount_count,
        .log_fd = log_fd,
        .extra_fd = extra_fd,
        .extra_at = CTL_HANDING_FD,
    };
    return ctl_container_start(&spec, &run->container, err);
}

static void start_run(struct ctl_run *run)
{
    struct ctl_pod *pod = run->pod;
    char path[PATH_MAX], name[2 * CTL_NAME_MAX + 8];
    struct lt_err err = {0};
    int log_fd = -1, extra_fd = -1;
    LT_ASSERT(!run->is_up);
    run->started_ns = lt_loop_now_ns(pod->host->loop);
    run->has_started = false;
    snprintf(name, sizeof(name), "%s.%s/%s.log", pod->plan->name, pod->plan->ns, run->plan->name);
    ctl_clog_close(&run->log);
    lt_rc rc = ctl_clog_open(&run->log, pod->host->loop, state_file(pod, path, "logs/%s", name),
                             &log_fd, &err);
    if (rc == LT_OK && run->plan->takes_sockets)
        rc = ctl_handing_open(&pod->handing, &extra_fd, &err);
    if (rc == LT_OK)
        rc = start_container(run, log_fd, extra_fd, &err);
    if (log_fd >= 0)
        close(log_fd);
    if (extra_fd >= 0)
        close(extra_fd);
    if (rc != LT_OK) {
        snprintf(run->reason, sizeof(run->reason), "%.*s", (int)sizeof(run->reason) - 1, err.text);
        run->exit_code = 127;
        schedule_restart(run);
        return;
    }
    run->is_up = true;
    run->exit_io.fd = run->container.pidfd;
    run->start_io.fd = run->container.start_fd;
    lt_loop_io_set(pod->host->loop, &run->exit_io, EPOLLIN);
    lt_loop_io_set(pod->host->loop, &run->start_io, EPOLLIN);
}

static void on_restart(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct ctl_run *run = LT_CONTAINER_OF(timer, struct ctl_run, restart);
    if (!ctl_pod_is_stopping(run->pod))
        start_run(run);
}

static void init_run(struct ctl_run *run, struct ctl_pod *pod,
                     const struct ctl_container_plan *plan)
{
    *run = (struct ctl_run){.plan = plan, .pod = pod, .container = {.pidfd = -1, .start_fd = -1}};
    lt_io_init(&run->exit_io, on_exit_ready);
    lt_io_init(&run->start_io, on_start_ready);
    lt_timer_init(&run->restart, on_restart);
}

/* --- readiness --- */

/*
 * The first container whose readiness takes a probe, the proxy before the application; NULL:
 * running is enough.
 */
static const struct ctl_container_plan *find_probed(const struct ctl_pod *pod, ctl_role role)
{
    for (size_t i = 0; i < pod->run_count; i++) {
        const struct ctl_container_plan *plan = pod->runs[i].plan;
        if (plan->role == role && plan->ready != CTL_READY_RUNNING)
            return plan;
    }
    return NULL;
}

static const struct ctl_container_plan *probed_now(const struct ctl_pod *pod)
{
    const struct ctl_container_plan *app = find_probed(pod, CTL_ROLE_APP);
    bool is_proxys = pod->state == CTL_POD_PROXY || app == NULL || pod->asks_proxy;
    return is_proxys ? find_probed(pod, CTL_ROLE_PROXY) : app;
}

static bool all_started(const struct ctl_pod *pod, ctl_role role)
{
    for (size_t i = 0; i < pod->run_count; i++) {
        if (pod->runs[i].plan->role == role && !pod->runs[i].has_started)
            return false;
    }
    return true;
}

static void start_probe(struct ctl_pod *pod)
{
    const struct ctl_container_plan *plan = probed_now(pod);
    if (plan != NULL && !pod->probe.is_running)
        ctl_probe_start(&pod->probe, pod->netns_fd, plan->ready_port,
                        plan->ready == CTL_READY_HTTP ? plan->ready_path : NULL, PROBE_TIMEOUT_MS);
}

/* A Pod is ready when all of its containers are: once it is, they are asked in turns. */
static void take_answer(struct ctl_pod *pod, bool is_good)
{
    bool is_proxys = probed_now(pod) == find_probed(pod, CTL_ROLE_PROXY);
    if (is_proxys)
        pod->proxy_has_failed = !is_good;
    else
        pod->app_is_good = is_good;
    bool is_app_good = pod->app_is_good || find_probed(pod, CTL_ROLE_APP) == NULL;
    set_ready(pod, is_app_good && !pod->proxy_has_failed && all_started(pod, CTL_ROLE_APP));
    pod->asks_proxy = pod->plan->has_proxy && !is_proxys &&
                      (pod->is_ready || pod->proxy_has_failed);
}

static void on_probed(struct ctl_probe *probe, bool is_good)
{
    struct ctl_pod *pod = LT_CONTAINER_OF(probe, struct ctl_pod, probe);
    struct lt_loop *loop = pod->host->loop;
    const struct ctl_container_plan *plan = probed_now(pod);
    bool is_forgiven = plan != NULL && plan->ready == CTL_READY_PORT &&
                       pod->state == CTL_POD_RUNNING && lt_loop_now_ns(loop) >= pod->ready_by_ns;
    if (pod->state == CTL_POD_PROXY && is_good && all_started(pod, CTL_ROLE_PROXY)) {
        set_state(pod, CTL_POD_APP);
        step(pod);
        return;
    }
    if (pod->state == CTL_POD_RUNNING)
        take_answer(pod, is_good || is_forgiven);
    lt_loop_timer_set(loop, &pod->tick,
                      (pod->is_ready ? PROBE_SLOW_MS : PROBE_FAST_MS) * LT_NS_PER_MS);
}

/* --- the states --- */

static void give_up(struct ctl_pod *pod, const struct lt_err *err)
{
    snprintf(pod->reason, sizeof(pod->reason), "%.*s", (int)sizeof(pod->reason) - 1, err->text);
    pod->has_failed = true;
    if (pod->exit_code == 0)
        pod->exit_code = 127;
    set_state(pod, CTL_POD_ENDED);
}

static void start_role(struct ctl_pod *pod, ctl_role role)
{
    for (size_t i = 0; i < pod->run_count; i++) {
        if (pod->runs[i].plan->role == role)
            start_run(&pod->runs[i]);
    }
}

static void step_init(struct ctl_pod *pod)
{
    while (pod->init_at < pod->run_count && pod->runs[pod->init_at].plan->role < CTL_ROLE_PROXY) {
        struct ctl_run *run = &pod->runs[pod->init_at];
        if (run->has_started) { /* a sidecar: the next ones don't wait for its end */
            pod->init_at++;
            continue;
        }
        if (run->is_up || lt_timer_is_set(&run->restart))
            return;
        if (!run->has_ended) {
            start_run(run);
            return;
        }
        if (run->exit_code != 0) {
            struct lt_err err;
            (void)lt_err_set(&err, LT_E_BAD, "init container %s ended with %d", run->plan->name,
                             run->exit_code);
            pod->exit_code = run->exit_code;
            give_up(pod, &err);
            return;
        }
        pod->init_at++;
    }
    struct lt_err err = {0};
    if (set_up_capture(pod, &err) != LT_OK) {
        give_up(pod, &err);
        return;
    }
    set_state(pod, pod->plan->has_proxy ? CTL_POD_PROXY : CTL_POD_APP);
    if (pod->state == CTL_POD_PROXY)
        start_role(pod, CTL_ROLE_PROXY);
}

static void step_app(struct ctl_pod *pod)
{
    set_state(pod, CTL_POD_RUNNING);
    pod->ready_by_ns = lt_loop_now_ns(pod->host->loop) + PORT_PATIENCE_S * LT_NS_PER_S;
    start_role(pod, CTL_ROLE_APP);
}

static bool has_all_ended(struct ctl_pod *pod, ctl_role role)
{
    bool has_any = false;
    for (size_t i = 0; i < pod->run_count; i++) {
        struct ctl_run *run = &pod->runs[i];
        if (run->plan->role != role)
            continue;
        has_any = true;
        if (run->is_up || (!run->has_ended && !ctl_pod_is_stopping(pod)))
            return false;
        if (run->has_ended && run->exit_code != 0 && role == CTL_ROLE_APP && pod->exit_code == 0)
            pod->exit_code = run->exit_code;
    }
    return has_any || ctl_pod_is_stopping(pod);
}

static void signal_role(struct ctl_pod *pod, ctl_role role, int signal)
{
    for (size_t i = 0; i < pod->run_count; i++) {
        if (pod->runs[i].is_up && (pod->runs[i].plan->role == role))
            ctl_proc_signal(pod->runs[i].container.pidfd, signal);
    }
}

static void begin_stopping_app(struct ctl_pod *pod)
{
    set_state(pod, CTL_POD_STOPPING_APP);
    signal_role(pod, CTL_ROLE_INIT, SIGKILL);
    signal_role(pod, CTL_ROLE_APP, SIGTERM);
    lt_loop_timer_set(pod->host->loop, &pod->tick, pod->plan->grace_s * LT_NS_PER_S);
}

static void begin_stopping_proxy(struct ctl_pod *pod)
{
    ctl_probe_cancel(&pod->probe);
    set_ready(pod, false);
    set_state(pod, CTL_POD_STOPPING_PROXY);
    signal_role(pod, CTL_ROLE_SIDECAR, SIGTERM);
    signal_role(pod, CTL_ROLE_PROXY, SIGTERM);
    lt_loop_timer_set(pod->host->loop, &pod->tick, PROXY_GRACE_S * LT_NS_PER_S);
}

static void step_running(struct ctl_pod *pod)
{
    bool is_gateway = pod->plan->is_gateway;
    if (!is_gateway && has_all_ended(pod, CTL_ROLE_APP)) {
        begin_stopping_proxy(pod);
        step(pod);
        return;
    }
    if (find_probed(pod, CTL_ROLE_APP) == NULL && !is_gateway)
        set_ready(pod, all_started(pod, CTL_ROLE_APP));
    else
        start_probe(pod);
}

static void step(struct ctl_pod *pod)
{
    ctl_pod_state before;
    do {
        before = pod->state;
        switch (pod->state) {
        case CTL_POD_INIT: step_init(pod); break;
        case CTL_POD_PROXY: start_probe(pod); break;
        case CTL_POD_APP: step_app(pod); break;
        case CTL_POD_RUNNING: step_running(pod); break;
        case CTL_POD_DRAINING: break;
        case CTL_POD_STOPPING_APP:
            if (has_all_ended(pod, CTL_ROLE_APP) && has_all_ended(pod, CTL_ROLE_INIT))
                begin_stopping_proxy(pod);
            break;
        case CTL_POD_STOPPING_PROXY:
            if (has_all_ended(pod, CTL_ROLE_PROXY) && has_all_ended(pod, CTL_ROLE_SIDECAR)) {
                lt_loop_timer_cancel(pod->host->loop, &pod->tick);
                set_state(pod, CTL_POD_ENDED);
            }
            break;
        case CTL_POD_ENDED: break;
        }
    } while (pod->state != before);
}

static void on_tick(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct ctl_pod *pod = LT_CONTAINER_OF(timer, struct ctl_pod, tick);
    switch (pod->state) {
    case CTL_POD_DRAINING:
        begin_stopping_app(pod);
        step(pod);
        break;
    case CTL_POD_STOPPING_APP: signal_role(pod, CTL_ROLE_APP, SIGKILL); break;
    case CTL_POD_STOPPING_PROXY:
        signal_role(pod, CTL_ROLE_SIDECAR, SIGKILL);
        signal_role(pod, CTL_ROLE_PROXY, SIGKILL);
        break;
    case CTL_POD_INIT: step(pod); break;
    default: start_probe(pod); break;
    }
}

void ctl_pod_stop(struct ctl_pod *pod, bool at_once)
{
    if (ctl_pod_is_stopping(pod))
        return;
    for (size_t i = 0; i < pod->run_count; i++)
        lt_loop_timer_cancel(pod->host->loop, &pod->runs[i].restart);
    ctl_probe_cancel(&pod->probe);
    bool was_ready = pod->is_ready;
    set_ready(pod, false);
    set_state(pod, CTL_POD_DRAINING);
    /* who was never ready has no callers to wait for */
    lt_loop_timer_set(pod->host->loop, &pod->tick,
                      (was_ready && !at_once ? DRAIN_MS : 0) * LT_NS_PER_MS);
}

/* --- beginning and end --- */

static lt_rc make_dirs(const struct ctl_pod *pod, struct lt_err *err)
{
    char path[PATH_MAX], name[2 * CTL_NAME_MAX + 2];
    snprintf(name, sizeof(name), "%s.%s", pod->plan->name, pod->plan->ns);
    LT_TRY(ctl_mkdirs(state_file(pod, path, "logs/%s", name), 0700, err));
    return ctl_volumes_make(state_file(pod, path, "volumes/%s", pod->link), pod->plan, err);
}

lt_rc ctl_pod_new(const struct ctl_pod_host *host, struct ctl_pod_plan *plan, uint32_t ip,
                  const char *link, struct ctl_pod **ret_pod, struct lt_err *err)
{
    struct ctl_pod *pod = lt_new(struct ctl_pod);
    *pod = (struct ctl_pod){
        .host = host, .plan = plan, .ip = ip, .netns_fd = -1, .run_count = plan->container_count};
    snprintf(pod->link, sizeof(pod->link), "%s", link);
    pod->runs = lt_calloc(plan->container_count, sizeof(*pod->runs));
    for (size_t i = 0; i < plan->container_count; i++)
        init_run(&pod->runs[i], pod, &plan->containers[i]);
    ctl_probe_init(&pod->probe, host->loop, on_probed);
    ctl_handing_init(&pod->handing, host->loop, on_hello);
    lt_timer_init(&pod->tick, on_tick);
    lt_task_init(&pod->changed, on_changed);
    lt_rc rc = make_dirs(pod, err);
    if (rc == LT_OK)
        rc = set_up_network(pod, err);
    if (rc != LT_OK) {
        ctl_pod_free(&pod);
        return rc;
    }
    lt_loop_timer_set(host->loop, &pod->tick, 0);
    *ret_pod = pod;
    return LT_OK;
}

void ctl_pod_free(struct ctl_pod **pod)
{
    struct ctl_pod *p = *pod;
    char path[PATH_MAX];
    if (p == NULL)
        return;
    ctl_probe_cancel(&p->probe);
    ctl_handing_close(&p->handing);
    lt_loop_timer_cancel(p->host->loop, &p->tick);
    lt_task_cancel(&p->changed);
    for (size_t i = 0; i < p->run_count; i++) {
        struct ctl_run *run = &p->runs[i];
        lt_loop_timer_cancel(p->host->loop, &run->restart);
        if (run->is_up) {
            ctl_proc_signal(run->container.pidfd, SIGKILL);
            close_run(run);
        }
        ctl_clog_close(&run->log);
    }
    if (p->netns_fd >= 0) {
        ctl_link_delete(p->link); /* before the namespace: both ends go at once */
        close(p->netns_fd);
    }
    ctl_volumes_remove(state_file(p, path, "volumes/%s", p->link), p->plan);
    free(p->runs);
    ctl_pod_plan_free(&p->plan);
    free(p);
    *pod = NULL;
}

struct ctl_run *ctl_pod_find_proxy(const struct ctl_pod *pod)
{
    for (size_t i = 0; i < pod->run_count; i++) {
        if (pod->runs[i].plan->role == CTL_ROLE_PROXY)
            return &pod->runs[i];
    }
    return NULL;
}

struct ctl_run *ctl_pod_find_run(const struct ctl_pod *pod, lt_str name)
{
    struct ctl_run *first = NULL;
    for (size_t i = 0; i < pod->run_count; i++) {
        struct ctl_run *run = &pod->runs[i];
        if (name.len > 0 && lt_str_eqz(name, run->plan->name))
            return run;
        if (first == NULL && run->plan->role == CTL_ROLE_APP)
            first = run;
    }
    if (name.len > 0)
        return NULL;
    return first != NULL ? first : ctl_pod_find_proxy(pod);
}
