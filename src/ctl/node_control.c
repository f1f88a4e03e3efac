/*
 * ctl/node_control.c - requests of the other commands.
 *   {"command": "workloads"}                       what runs
 *   {"command": "enter", "workload": W, "container": C} a descriptor of its process, and how to be
 *   like it
 *   {"command": "logs", "workload": W, "container": C}    where its log is
 *   {"command": "down"}                            the end
 * Start at: on_request().
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl/node_priv.h"
#include "ctl/proc.h"
#include "wire/json.h"

struct request {
    struct ctl_node *node;
    const struct lt_doc *doc;
    struct lt_json_writer w;
    int *ret_fd;
};

/* --- processes --- */

enum { PROCESSES_MAX = 256 }; /* of one container, that are counted */

static size_t list_children_of(pid_t parent, const char *task, pid_t *pids, size_t room)
{
    char path[300], *text = NULL;
    size_t len, count = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%.32s/children", parent, task);
    if (ctl_file_read(path, 65536, &text, &len, NULL) == LT_OK) {
        lt_str rest = lt_str_make(text, len), word;
        uint64_t pid = 0;
        while (count < room && lt_str_split(&rest, ' ', &word)) {
            if (lt_str_to_u64(word, &pid) == LT_OK)
                pids[count++] = (pid_t)pid;
        }
    }
    free(text);
    return count;
}

/* As the node sees them. A child is its thread's: all threads are asked. */
static size_t list_children(pid_t parent, pid_t *pids, size_t room)
{
    char path[64];
    size_t count = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", parent);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return 0;
    for (struct dirent *task; (task = readdir(tasks)) != NULL;)
        count += list_children_of(parent, task->d_name, pids + count, room - count);
    closedir(tasks);
    return count;
}

/* The program behind a container's init; 0 when it has none. */
static pid_t program_pid(const struct ctl_run *run)
{
    pid_t pid = 0;
    if (run->is_up)
        (void)list_children(run->container.pid, &pid, 1);
    return pid;
}

/* A line "Pss:   123 kB" of smaps_rollup; 0 when it is not there. */
static uint64_t find_kb(lt_str text, const char *name)
{
    for (lt_str rest = text, line; lt_str_split(&rest, '\n', &line);) {
        uint64_t kb;
        if (!lt_str_starts(line, lt_str_of(name)) || !lt_str_ends(line, LT_STR(" kB")))
            continue;
        lt_str number = lt_str_trim(lt_str_slice(line, strlen(name), line.len - 3));
        return lt_str_to_u64(number, &kb) == LT_OK ? kb : 0;
    }
    return 0;
}

static void add_memory(pid_t pid, uint64_t *pss_kb, uint64_t *anonymous_kb)
{
    char path[64], *text = NULL;
    size_t len;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    if (ctl_file_read(path, 65536, &text, &len, NULL) == LT_OK) {
        *pss_kb += find_kb(lt_str_make(text, len), "Pss:");
        *anonymous_kb += find_kb(lt_str_make(text, len), "Anonymous:");
    }
    free(text);
}

/* Of the program and all that it started: a real Envoy is its agent's child. */
static void write_memory(struct request *r, pid_t program)
{
    pid_t pids[PROCESSES_MAX] = {program};
    uint64_t pss_kb = 0, anonymous_kb = 0;
    for (size_t at = 0, count = program != 0 ? 1 : 0; at < count; at++) {
        add_memory(pids[at], &pss_kb, &anonymous_kb);
        count += list_children(pids[at], pids + count, LT_ARRAY_LEN(pids) - count);
    }
    lt_json_kv_uint(&r->w, "pssKb", pss_kb);
    lt_json_kv_uint(&r->w, "anonymousKb", anonymous_kb);
}

/* Both run one program: it was upgraded in place, and one stands for the other. */
static bool is_same_program(pid_t a, pid_t b)
{
    const pid_t pids[] = {a, b};
    char targets[2][PATH_MAX], path[64];
    for (size_t i = 0; i < LT_ARRAY_LEN(pids); i++) {
        snprintf(path, sizeof(path), "/proc/%d/exe", pids[i]);
        ssize_t len = readlink(path, targets[i], sizeof(targets[i]) - 1);
        targets[i][LT_MAX(len, 0)] = '\0';
        char *deleted = strstr(targets[i], " (deleted)");
        if (deleted != NULL)
            *deleted = '\0';
    }
    return strcmp(targets[0], targets[1]) == 0;
}

/* What the sidecar's agent started instead of being the data path itself; nothing otherwise. */
static void write_envoy(struct request *r, pid_t program)
{
    char path[64], *text = NULL;
    size_t len;
    pid_t child = 0;
    if (program == 0 || list_children(program, &child, 1) == 0 || is_same_program(program, child))
        return;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", child);
    if (ctl_file_read(path, 65536, &text, &len, NULL) == LT_OK)
        lt_json_kv_str(&r->w, "envoy", lt_str_of(text)); /* its first argument ends with a NUL */
    free(text);
}

/* --- finding --- */

/* "workload", "pod", with or without "namespace/" in front. */
static bool is_named(const struct ctl_pod_plan *plan, lt_str name)
{
    ptrdiff_t slash = lt_str_find_char(name, '/');
    if (slash >= 0 && !lt_str_eqz(lt_str_slice(name, 0, (size_t)slash), plan->ns))
        return false;
    lt_str rest = slash >= 0 ? lt_str_from(name, (size_t)slash + 1) : name;
    return lt_str_eqz(rest, plan->name) || lt_str_eqz(rest, plan->workload);
}

/* Ready before starting before ending. */
static int rank(const struct ctl_pod *pod)
{
    if (pod->is_ready)
        return 4;
    if (pod->state == CTL_POD_RUNNING)
        return 3;
    if (pod->state == CTL_POD_ENDED)
        return pod->is_wanted ? 1 : 0;
    return ctl_pod_is_stopping(pod) ? 1 : 2;
}

static void answer_error(struct request *r, const char *fmt, ...) LT_PRINTF(2, 3);
static void answer_error(struct request *r, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    lt_json_kv_str(&r->w, "error", lt_str_of(text));
}

/* Services and labels often have the beginning of a workload's name. */
static void answer_nobody(struct request *r, lt_str name)
{
    lt_str word = lt_str_from(name, (size_t)(lt_str_find_char(name, '/') + 1));
    const struct ctl_pod_plan *near[2] = {NULL, NULL};
    for (size_t i = 0; i < r->node->pods.count && word.len > 0; i++) {
        const struct ctl_pod_plan *plan = ctl_node_pod(r->node, i)->plan;
        if (!lt_str_starts(lt_str_of(plan->workload), word))
            continue;
        if (near[0] == NULL)
            near[0] = plan;
        else if (strcmp(near[0]->workload, plan->workload) != 0 && near[1] == NULL)
            near[1] = plan;
    }
    if (near[1] != NULL)
        answer_error(r, "no workload \"%.*s\"; did you mean %s/%s or %s/%s?", LT_STR_ARG(name),
                     near[0]->ns, near[0]->workload, near[1]->ns, near[1]->workload);
    else if (near[0] != NULL)
        answer_error(r, "no workload \"%.*s\"; did you mean %s/%s?", LT_STR_ARG(name), near[0]->ns,
                     near[0]->workload);
    else
        answer_error(r, "no workload \"%.*s\"; `lateen workloads` lists them", LT_STR_ARG(name));
}

/* NULL: the answer says why. */
static const struct ctl_pod *find_asked(struct request *r)
{
    lt_str name = lt_doc_string(lt_doc_findz(r->doc, "workload"));
    const struct ctl_pod *best = NULL;
    for (size_t i = 0; i < r->node->pods.count; i++) {
        const struct ctl_pod *pod = ctl_node_pod(r->node, i);
        if (!is_named(pod->plan, name))
            continue;
        if (best != NULL && strcmp(best->plan->ns, pod->plan->ns) != 0) {
            answer_error(r, "\"%.*s\" is in several namespaces: say %s/%.*s or %s/%.*s",
                         LT_STR_ARG(name), best->plan->ns, LT_STR_ARG(name), pod->plan->ns,
                         LT_STR_ARG(name));
            return NULL;
        }
        if (best == NULL || rank(pod) > rank(best))
            best = pod;
    }
    if (best == NULL)
        answer_nobody(r, name);
    return best;
}

static const struct ctl_run *find_asked_run(struct request *r, const struct ctl_pod *pod)
{
    lt_str name = lt_doc_string(lt_doc_findz(r->doc, "container"));
    const struct ctl_run *run = ctl_pod_find_run(pod, name);
    if (run != NULL)
        return run;
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < pod->run_count && used < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "",
                                 pod->runs[i].plan->name);
    answer_error(r, "%s/%s has no container \"%.*s\"; it has %s", pod->plan->ns, pod->plan->name,
                 LT_STR_ARG(name), list);
    return NULL;
}

/* --- answers --- */

static void write_container(struct request *r, const struct ctl_run *run)
{
    struct lt_json_writer *w = &r->w;
    pid_t program = program_pid(run);
    lt_json_object_open(w);
    lt_json_kv_str(w, "name", lt_str_of(run->plan->name));
    lt_json_kv_str(w, "role", lt_str_of(ctl_role_name(run->plan->role)));
    lt_json_kv_bool(w, "isUp", run->is_up);
    lt_json_kv_bool(w, "isStandIn", run->plan->is_standin);
    lt_json_kv_str(w, "wanted", lt_str_of(run->plan->wanted));
    lt_json_kv_uint(w, "restarts", run->restarts);
    lt_json_kv_int(w, "exitCode", run->exit_code);
    lt_json_kv_str(w, "reason", lt_str_of(run->reason));
    lt_json_kv_int(w, "pid", program);
    write_memory(r, program);
    if (run->plan->role == CTL_ROLE_PROXY)
        write_envoy(r, program);
    lt_json_object_close(w);
}

static void write_pod(struct request *r, const struct ctl_pod *pod)
{
    const struct ctl_pod_plan *plan = pod->plan;
    struct lt_json_writer *w = &r->w;
    lt_json_object_open(w);
    lt_json_kv_str(w, "namespace", lt_str_of(plan->ns));
    lt_json_kv_str(w, "name", lt_str_of(plan->name));
    lt_json_kv_str(w, "workload", lt_str_of(plan->workload));
    lt_json_kv_str(w, "kind", lt_str_of(plan->kind));
    lt_json_kv_str(w, "serviceAccount", lt_str_of(plan->service_account));
    lt_json_key(w, LT_STR("address"));
    lt_json_strf(w, "%u.%u.%u.%u", pod->ip >> 24, (pod->ip >> 16) & 255, (pod->ip >> 8) & 255,
                 pod->ip & 255);
    lt_json_kv_str(w, "state", lt_str_of(ctl_pod_state_name(pod->state)));
    lt_json_kv_bool(w, "isReady", pod->is_ready);
    lt_json_kv_bool(w, "isWanted", pod->is_wanted);
    lt_json_kv_bool(w, "isControl", plan->is_control);
    lt_json_kv_bool(w, "isGateway", plan->is_gateway);
    lt_json_kv_bool(w, "hasProxy", plan->has_proxy);
    lt_json_kv_str(w, "why", lt_str_of(plan->why));
    lt_json_kv_str(w, "identity", lt_str_of(pod->proved));
    lt_json_kv_bool(w, "willRetry", ctl_node_will_retry(pod));
    lt_json_kv_int(w, "exitCode", pod->exit_code);
    lt_json_kv_str(w, "reason", lt_str_of(pod->reason));
    lt_json_kv_uint(w, "hostPort", ctl_node_host_port(r->node, plan));
    lt_json_kv_bool(w, "takesSockets", pod->handing.is_taker);
    lt_json_kv_array(w, "containers");
    for (size_t i = 0; i < pod->run_count; i++)
        write_container(r, &pod->runs[i]);
    lt_json_array_close(w);
    lt_json_object_close(w);
}

static void answer_workloads(struct request *r)
{
    lt_json_kv_str(&r->w, "dir", lt_str_of(r->node->state->dir));
    lt_json_kv_uint(&r->w, "waiting", r->node->waiting.count);
    lt_json_key(&r->w, LT_STR("workloads"));
    lt_json_array_open(&r->w);
    for (size_t i = 0; i < r->node->pods.count; i++)
        write_pod(r, ctl_node_pod(r->node, i));
    lt_json_array_close(&r->w);
}

static void answer_enter(struct request *r)
{
    const struct ctl_pod *pod = find_asked(r);
    const struct ctl_run *run = pod == NULL ? NULL : find_asked_run(r, pod);
    if (run == NULL)
        return;
    pid_t pid = program_pid(run);
    /*
     * of the program, not of its init: it was executed in here, so its owner outside may enter it
     */
    int fd = pid == 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        answer_error(r, "%s/%s: container %s does not run", pod->plan->ns, pod->plan->name,
                     run->plan->name);
        return;
    }
    *r->ret_fd = fd;
    lt_json_kv_uint(&r->w, "uid", run->plan->uid);
    lt_json_kv_uint(&r->w, "gid", run->plan->gid);
    lt_json_kv_str(&r->w, "workingDir",
                   lt_str_of(run->plan->working_dir != NULL ? run->plan->working_dir : "/"));
    lt_json_key(&r->w, LT_STR("env"));
    lt_json_array_open(&r->w);
    for (const char *const *env = run->plan->env; *env != NULL; env++)
        lt_json_str(&r->w, lt_str_of(*env));
    lt_json_array_close(&r->w);
}

static void answer_logs(struct request *r)
{
    const struct ctl_pod *pod = find_asked(r);
    const struct ctl_run *run = pod == NULL ? NULL : find_asked_run(r, pod);
    if (run == NULL)
        return;
    lt_json_key(&r->w, LT_STR("path"));
    lt_json_strf(&r->w, "%s/logs/%s.%s/%s.log", r->node->state->path, pod->plan->name,
                 pod->plan->ns, run->plan->name);
}

static void answer_down(struct request *r)
{
    ctl_node_end(r->node, 0);
}

static const struct {
    const char *name;
    void (*answer)(struct request *r);
} requests[] = {
    {"workloads", answer_workloads},
    {"enter", answer_enter},
    {"logs", answer_logs},
    {"down", answer_down},
};

static void on_request(const struct lt_doc *doc, struct lt_buf *answer, int *ret_fd, void *ctx)
{
    struct request r = {.node = ctx, .doc = doc, .ret_fd = ret_fd};
    lt_str command = lt_doc_string(lt_doc_findz(doc, "command"));
    size_t i = 0;
    lt_json_writer_init(&r.w, answer, 0);
    lt_json_object_open(&r.w);
    while (i < LT_ARRAY_LEN(requests) && !lt_str_eqz(command, requests[i].name))
        i++;
    if (i < LT_ARRAY_LEN(requests))
        requests[i].answer(&r);
    else
        answer_error(
            &r, "this mesh was started by another version of lateen: it does not know \"%.*s\"",
            LT_STR_ARG(command));
    lt_json_object_close(&r.w);
    if (lt_json_writer_finish(&r.w) != LT_OK)
        lt_buf_clear(answer, 0); /* what does not fit is better told as broken off than as half */
}

lt_rc ctl_node_control_init(struct ctl_node *node, struct lt_err *err)
{
    char path[PATH_MAX];
    return ctl_control_new(node->loop, ctl_state_path(node->state, "ctl.sock", path), on_request,
                           node, &node->control, err);
}
