/*
 * ctl/node_pods.c - which Pods run: from manifests to a plan, and from what runs towards the plan.
 * A changed Deployment gets its new Pods first; the old ones go when all new ones are ready.
 * Everything is decided anew in advance(), from what is there, whenever something has changed.
 * Start at: ctl_node_reconcile(), advance().
 */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/node_priv.h"
#include "ctl/proc.h"
#include "model/check.h"
#include "model/model.h"

enum {
    END_GRACE_S = 3, /* for applications when the whole mesh ends */
    PORT_ANY = 80,   /* a sidecar captures every port */
    PROOFS_MAX = 8,
    PROVE_FIRST_MS = 50,
};

#define CONTAINER_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void advance(struct ctl_node *node);
static void on_identity(struct ctl_identity *identity, lt_str uri);
static void on_prove_again(struct lt_timer *timer, uint64_t now_ns);

/* --- the world, for the plan --- */

static uint32_t pod_ip(const char *ns, const char *name, void *ctx)
{
    struct ctl_node *node = ctx;
    return ctl_pool_get(&node->pod_ips, ns, name, 0);
}

static uint32_t cluster_ip(const char *ns, const char *name, lt_str wanted, void *ctx)
{
    struct ctl_node *node = ctx;
    struct lt_addr addr;
    uint32_t ip = 0;
    if (wanted.len > 0 && lt_addr_parse(wanted, 0, &addr) == LT_OK && addr.sa.sa_family == AF_INET)
        ip = ntohl(addr.v4.sin_addr.s_addr);
    return ctl_pool_get(&node->cluster_ips, ns, name, ip);
}

/*
 * A failed Pod of a Job is replaced after a while that doubles, until its backoffLimit is used up.
 */
static bool will_retry(const struct ctl_pod *pod)
{
    return strcmp(pod->plan->kind, "Job") == 0 && pod->state == CTL_POD_ENDED &&
           pod->exit_code != 0 && pod->plan->attempt + 1 < pod->plan->attempts_max;
}

static uint64_t retry_at_ns(const struct ctl_pod *pod)
{
    return pod->ended_ns + (LT_NS_PER_S << LT_MIN(pod->plan->attempt, 6u));
}

static unsigned job_attempt(const char *ns, const char *name, void *ctx)
{
    const struct ctl_node *node = ctx;
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod *pod = ctl_node_pod(node, i);
        if (pod->is_wanted && strcmp(pod->plan->kind, "Job") == 0 &&
            strcmp(pod->plan->workload, name) == 0 && strcmp(pod->plan->ns, ns) == 0)
            return pod->plan->attempt +
                   (will_retry(pod) && retry_at_ns(pod) <= lt_loop_now_ns(node->loop));
    }
    return 0;
}

bool ctl_node_will_retry(const struct ctl_pod *pod)
{
    return pod->is_wanted && will_retry(pod);
}

/* On this machine, or one of ours, which have another place in containers than here. */
static bool has_program(const char *name, void *ctx)
{
    const struct ctl_node *node = ctx;
    lt_str base = lt_str_of(name), dir = LT_STR(CTL_BIN_DIR "/");
    char path[PATH_MAX], bin[PATH_MAX];
    if (ctl_find_program(name, CONTAINER_PATH, path, sizeof(path)))
        return true;
    if (lt_str_starts(base, dir))
        base = lt_str_from(base, dir.len);
    return lt_str_find_char(base, '/') < 0 &&
           ctl_find_program(base.ptr, ctl_state_path(node->state, "bin", bin), path, sizeof(path));
}

/* --- starting --- */

static lt_rc write_token(struct ctl_node *node, const struct ctl_pod_plan *plan, struct lt_err *err)
{
    char name[3 * CTL_NAME_MAX], path[PATH_MAX];
    struct lt_arena *arena = lt_arena_new(8192, 0);
    int64_t now_s = lt_env_wall_ns(node->env) / (int64_t)LT_NS_PER_S;
    lt_str token = ctl_tokens_sign(node->tokens, arena, plan->ns, plan->service_account, plan->name,
                                   now_s);
    snprintf(name, sizeof(name), "tokens/%.63s.%.63s", plan->name, plan->ns);
    lt_rc rc = ctl_mkdirs(ctl_state_path(node->state, name, path), 0755, err);
    snprintf(name, sizeof(name), "tokens/%.63s.%.63s/istio-token", plan->name, plan->ns);
    if (rc == LT_OK) /* readable by the sidecar's user; only its container has this directory */
        rc = ctl_file_replace(ctl_state_path(node->state, name, path), token, 0644, err);
    lt_arena_free(&arena);
    return rc;
}

static void on_refresh_tokens(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct ctl_node *node = LT_CONTAINER_OF(timer, struct ctl_node, refresh_tokens);
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod *pod = ctl_node_pod(node, i);
        struct lt_err err = {0};
        if (pod->plan->has_proxy && pod->state != CTL_POD_ENDED &&
            write_token(node, pod->plan, &err) != LT_OK)
            ctl_node_say(node, "lateen: %s/%s: %s", pod->plan->ns, pod->plan->name, err.text);
    }
    lt_loop_timer_set(node->loop, timer, CTL_TOKEN_LIFE_S / 2 * LT_NS_PER_S);
}

/* Takes the plan. */
static void start_pod(struct ctl_node *node, struct ctl_pod_plan *plan)
{
    struct lt_err err = {0};
    struct ctl_pod *pod = NULL;
    char link[16], name[512];
    snprintf(link, sizeof(link), "lt%u", node->links++);
    snprintf(name, sizeof(name), "%s/%s", plan->ns, plan->name);
    uint32_t ip = plan->ip;
    lt_rc rc = plan->has_proxy ? write_token(node, plan, &err) : LT_OK;
    if (rc == LT_OK)
        rc = ctl_pod_new(&node->host, plan, ip, link, &pod, &err);
    else
        ctl_pod_plan_free(&plan);
    if (rc != LT_OK) {
        ctl_node_say(node, "lateen: %s: %s", name, err.text);
        return;
    }
    pod->is_wanted = true;
    ctl_identity_init(&pod->identity, node->loop, on_identity);
    lt_timer_init(&pod->prove_again, on_prove_again);
    lt_vec_push(&node->pods, pod);
    ctl_node_net_touch(node);
}

static struct ctl_pod *find_pod(const struct ctl_node *node, const char *ns, const char *name)
{
    for (size_t i = 0; i < node->pods.count; i++) {
        struct ctl_pod *pod = ctl_node_pod(node, i);
        if (strcmp(pod->plan->name, name) == 0 && strcmp(pod->plan->ns, ns) == 0)
            return pod;
    }
    return NULL;
}

static void start_waiting(struct ctl_node *node)
{
    size_t kept = 0;
    for (size_t i = 0; i < node->waiting.count; i++) {
        struct ctl_pod_plan *plan = node->waiting.items[i];
        bool can_start = (!plan->has_proxy || node->has_root) &&
                         find_pod(node, plan->ns, plan->name) == NULL;
        if (can_start)
            start_pod(node, plan);
        else
            node->waiting.items[kept++] = plan;
    }
    node->waiting.count = kept;
}

/* --- ending --- */

static bool is_same_workload(const struct ctl_pod_plan *a, const struct ctl_pod_plan *b)
{
    return strcmp(a->workload, b->workload) == 0 && strcmp(a->ns, b->ns) == 0 &&
           strcmp(a->kind, b->kind) == 0;
}

/* True while there is a successor that is not ready yet. */
static bool must_stay(const struct ctl_node *node, const struct ctl_pod *pod)
{
    if (!pod->is_ready || strcmp(pod->plan->kind, "Deployment") != 0)
        return false;
    for (size_t i = 0; i < node->waiting.count; i++) {
        if (is_same_workload(node->waiting.items[i], pod->plan))
            return true;
    }
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod *other = ctl_node_pod(node, i);
        if (other->is_wanted && !other->is_ready && is_same_workload(other->plan, pod->plan))
            return true;
    }
    return false;
}

static void retire_unwanted(struct ctl_node *node)
{
    for (size_t i = node->pods.count;
         i-- > 0;) { /* backwards: removal moves the last one into the gap */
        struct ctl_pod *pod = ctl_node_pod(node, i);
        if (pod->is_wanted)
            continue;
        if (pod->state == CTL_POD_ENDED) {
            lt_vec_swap_remove(&node->pods, i);
            ctl_identity_cancel(&pod->identity);
            lt_loop_timer_cancel(node->loop, &pod->prove_again);
            ctl_pod_free(&pod);
            ctl_node_net_touch(node);
        } else if (!must_stay(node, pod)) {
            ctl_pod_stop(pod, false);
        }
    }
}

/* --- lateend --- */

static lt_rc copy_root(struct ctl_node *node, const char *from, struct lt_err *err)
{
    char path[PATH_MAX], *text = NULL;
    size_t len;
    struct lt_tls_ctx *trust = NULL;
    LT_TRY(ctl_file_read(from, 1 << 20, &text, &len, err));
    lt_rc rc = ctl_identity_trust(lt_str_make(text, len), &trust, err);
    if (rc == LT_OK)
        rc = ctl_file_replace(ctl_state_path(node->state, "root/root-cert.pem", path),
                              lt_str_make(text, len), 0644, err);
    if (rc == LT_OK) {
        lt_tls_ctx_unref(&node->trust);
        node->trust = lt_tls_ctx_ref(trust);
    }
    lt_tls_ctx_unref(&trust);
    free(text);
    return rc;
}

/*
 * Its root certificate, made at its first start, goes where sidecars look for it, and again when
 * it was renewed: what istiod does by the ConfigMap istio-ca-root-cert.
 */
static void take_root(struct ctl_node *node)
{
    char path[PATH_MAX];
    struct stat info;
    struct lt_err err = {0};
    const struct ctl_pod *control = find_pod(node, CTL_SYSTEM_NS, "istiod");
    ctl_state_path(node->state, "istiod/ca-cert.pem", path);
    if (control == NULL || !(control->is_ready || node->has_root) || stat(path, &info) != 0)
        return;
    bool is_known = node->has_root && info.st_mtim.tv_sec == node->root_time.tv_sec &&
                    info.st_mtim.tv_nsec == node->root_time.tv_nsec;
    if (is_known)
        return;
    node->root_time = info.st_mtim;
    if (copy_root(node, path, &err) == LT_OK)
        node->has_root = true;
    else
        ctl_node_say(node, "lateen: the mesh's root certificate: %s", err.text);
}

static void on_look_at_root(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct ctl_node *node = LT_CONTAINER_OF(timer, struct ctl_node, look_at_root);
    if (node->has_root)
        take_root(node);
    lt_loop_timer_set(node->loop, timer, LT_NS_PER_S);
}

/* --- telling --- */

static void tell_pod(struct ctl_node *node, struct ctl_pod *pod)
{
    const struct ctl_pod_plan *plan = pod->plan;
    bool is_job = strcmp(plan->kind, "Job") == 0; /* its end is the news */
    if (pod->is_ready && !pod->was_told_ready && !plan->is_control && !is_job)
        ctl_node_say(node, "  ready  %s/%s", plan->ns, plan->name);
    pod->was_told_ready |= pod->is_ready;
    if (pod->state == CTL_POD_ENDED && pod->is_wanted)
        ctl_node_say(node, "  ended  %s/%s: exit code %d%s%s", plan->ns, plan->name, pod->exit_code,
                     pod->reason[0] != '\0' ? ": " : "", pod->reason);
    for (size_t i = 0; i < pod->run_count; i++) {
        const struct ctl_run *run = &pod->runs[i];
        if (!run->is_up && run->restarts == 1 && lt_timer_is_set(&run->restart))
            ctl_node_say(node,
                         "  failed %s/%s: container %s: %s (exit code %d); "
                         "`lateen logs -c %s %s/%s` has more",
                         plan->ns, plan->name, run->plan->name,
                         run->reason[0] != '\0' ? run->reason : "ended", run->exit_code,
                         run->plan->name, plan->ns, plan->name);
    }
}

static void tell_all_ready(struct ctl_node *node)
{
    size_t workloads = 0, objects = 0;
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod *pod = ctl_node_pod(node, i);
        if (pod->is_wanted && !pod->is_ready && (pod->state != CTL_POD_ENDED || will_retry(pod)))
            return;
        if (pod->is_ready && !pod->was_told_ready)
            return; /* its line comes first */
        workloads += !pod->plan->is_control;
    }
    if (node->was_all_ready || node->waiting.count > 0 || node->pods.count == 0)
        return;
    node->was_all_ready = true;
    double seconds = (double)(lt_loop_now_ns(node->loop) - node->started_ns) / (double)LT_NS_PER_S;
    ctl_node_say(node, "lateen: the mesh is up, %zu workload%s after %.1f s; Ctrl-C ends it",
                 workloads, workloads == 1 ? "" : "s", seconds);
    (void)lt_manifests_objects(node->manifests, &objects, NULL);
    if (objects == 0)
        ctl_node_say(node,
                     "lateen: %s has no manifests (*.yaml, *.yml, *.json) that are read; "
                     "those that come are followed",
                     node->state->dir);
}

static void tell_change(void *ctx, const char *line)
{
    ctl_node_say(ctx, "  %s", line);
}

static void tell_note(void *ctx, const struct lt_note *note LT_UNUSED, const char *line)
{
    ctl_node_say(ctx, "%s", line);
}

/* --- going towards the plan --- */

static void advance(struct ctl_node *node)
{
    take_root(node);
    retire_unwanted(node);
    start_waiting(node);
    tell_all_ready(node);
}

static void on_retry(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    ctl_node_reconcile(LT_CONTAINER_OF(timer, struct ctl_node, retry));
}

static void schedule_retry(struct ctl_node *node, struct ctl_pod *pod)
{
    uint64_t now = lt_loop_now_ns(node->loop);
    pod->ended_ns = now;
    if (!ctl_node_will_retry(pod))
        return;
    uint64_t at = retry_at_ns(pod);
    if (!lt_timer_is_set(&node->retry) || node->retry.at_ns > at)
        lt_loop_timer_set(node->loop, &node->retry, at - now);
}

/*
 * Once it is ready, and again while there is no answer: its certificates may be on their way.
 */
static void prove_identity(struct ctl_node *node, struct ctl_pod *pod)
{
    const struct ctl_pod_plan *plan = pod->plan;
    if (!pod->is_ready || !plan->has_proxy || pod->proved[0] != '\0' || node->trust == NULL ||
        pod->identity.is_running || lt_timer_is_set(&pod->prove_again))
        return;
    if (plan->capture != NULL)
        ctl_identity_start(&pod->identity, node->trust, pod->ip,
                           plan->port != 0 ? plan->port : PORT_ANY);
    else
        ctl_identity_ask(&pod->identity, pod->netns_fd);
}

static void on_prove_again(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct ctl_pod *pod = LT_CONTAINER_OF(timer, struct ctl_pod, prove_again);
    prove_identity(pod->host->ctx, pod);
}

static void on_identity(struct ctl_identity *identity, lt_str uri)
{
    struct ctl_pod *pod = LT_CONTAINER_OF(identity, struct ctl_pod, identity);
    snprintf(pod->proved, sizeof(pod->proved), "%.*s", LT_STR_ARG(uri));
    if (uri.len == 0 && ++pod->proofs_failed < PROOFS_MAX)
        lt_loop_timer_set(pod->host->loop, &pod->prove_again,
                          (PROVE_FIRST_MS << pod->proofs_failed) * LT_NS_PER_MS);
}

static void on_pod_change(struct ctl_pod *pod, void *ctx)
{
    struct ctl_node *node = ctx;
    if (node->is_ending)
        return;
    prove_identity(node, pod);
    if (pod->state == CTL_POD_ENDED && pod->ended_ns == 0)
        schedule_retry(node, pod);
    tell_pod(node, pod);
    ctl_node_net_touch(node);
    advance(node); /* may free the pod */
}

static void take_plans(struct ctl_node *node, struct ctl_plan *plan)
{
    for (size_t i = 0; i < node->waiting.count; i++)
        ctl_pod_plan_free((struct ctl_pod_plan **)&node->waiting.items[i]);
    node->waiting.count = 0;
    for (size_t i = 0; i < node->pods.count; i++)
        ctl_node_pod(node, i)->is_wanted = false;
    for (size_t i = 0; i < plan->pod_count; i++) {
        struct ctl_pod *pod = find_pod(node, plan->pods[i]->ns, plan->pods[i]->name);
        if (pod != NULL && pod->plan->hash == plan->pods[i]->hash && !ctl_pod_is_stopping(pod)) {
            pod->is_wanted = true;
            continue; /* its plan goes with the rest */
        }
        if (pod != NULL && pod->state == CTL_POD_ENDED && pod->plan->hash == plan->pods[i]->hash) {
            pod->is_wanted = true; /* a Job that is done */
            continue;
        }
        lt_vec_push(&node->waiting, plan->pods[i]);
        plan->pods[i] = NULL;
    }
}

/* Addresses of what runs stay taken until it has gone. */
static void keep_addresses(struct ctl_node *node)
{
    for (size_t i = 0; i < node->pods.count; i++) {
        const struct ctl_pod_plan *plan = ctl_node_pod(node, i)->plan;
        ctl_pool_get(&node->pod_ips, plan->ns, plan->name, 0);
    }
    ctl_pool_sweep(&node->pod_ips);
    ctl_pool_sweep(&node->cluster_ips);
}

/*
 * The mesh configuration is taken whole or not at all, as by lateend: a mistake in it must not
 * start every workload anew without it.
 */
static void take_mesh_map(struct ctl_node *node, const struct lt_object *const *objects,
                          size_t count, struct lt_notes *notes)
{
    struct lt_mesh mesh = lt_mesh_default();
    struct lt_arena *scratch = lt_arena_new(0, 0);
    const struct lt_object *map = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct lt_object *o = objects[i];
        if (o->key.kind == LT_KIND_CONFIG_MAP && lt_str_eqz(o->key.ns, CTL_SYSTEM_NS) &&
            lt_str_eqz(o->key.name, "istio"))
            map = o;
    }
    lt_rc rc = map != NULL ? lt_mesh_read_map(scratch, map, notes, &mesh) : LT_E_NOT_FOUND;
    lt_arena_free(&scratch);
    if (rc == LT_OK || rc == LT_E_NOT_FOUND) {
        lt_object_unref(&node->mesh_map);
        node->mesh_map = rc == LT_OK ? lt_object_ref(map) : NULL;
        return;
    }
    char name[LT_OBJECT_NAME_MAX];
    struct lt_note where = lt_object_note(map, LT_NOTE_INFO, name);
    lt_notes_addf(notes, &where, "the mesh configuration %s",
                  node->mesh_map != NULL ? "stays as it was before the error" : "has its defaults");
}

/* An edit that only takes a mistake back changes nothing, and would go by in silence. */
static void tell_mended(struct ctl_node *node, size_t errors)
{
    if (node->manifest_errors > 0 && errors == 0)
        ctl_node_say(node, "lateen: the manifests have no errors any more");
    node->manifest_errors = errors;
}

static struct ctl_plan *make_plan(struct ctl_node *node)
{
    const struct lt_notes *notes = NULL;
    struct lt_notes more;
    size_t count;
    const struct lt_object *const *objects = lt_manifests_objects(node->manifests, &count, &notes);
    lt_notes_init(&more);
    take_mesh_map(node, objects, count, &more);
    const struct ctl_plan_world world = {
        .ctx = node,
        .pod_ip = pod_ip,
        .cluster_ip = cluster_ip,
        .job_attempt = job_attempt,
        .has_program = has_program,
        .mesh_map = node->mesh_map,
        .state_path = node->state->path,
        .manifests = node->state->dir,
        .jwt_rule = node->jwt_rule,
        .control_env = node->control_env,
        .dns_ip = CTL_DNS_IP,
        .node_ip = CTL_NODE_IP,
    };
    ctl_pool_begin(&node->pod_ips);
    ctl_pool_begin(&node->cluster_ips);
    struct ctl_plan *plan = ctl_plan_make(objects, count, &world, &more);
    lt_check_references(objects, count, LT_STR(CTL_DOMAIN), &more);
    lt_check_selectors(objects, count, LT_STR(CTL_SYSTEM_NS), &more);
    ctl_changes_look(&node->changes, objects, count, tell_change, node);
    const struct lt_notes *const both[] = {notes, &more};
    lt_told_tell(&node->told, both, LT_ARRAY_LEN(both), tell_note, node);
    tell_mended(node, notes->errors + more.errors);
    lt_notes_fini(&more);
    return plan;
}

void ctl_node_reconcile(struct ctl_node *node)
{
    struct lt_err err = {0};
    bool is_first = node->plan == NULL;
    if (lt_manifests_load_dir(node->manifests, lt_str_of(node->state->dir), &err) != LT_OK) {
        ctl_node_say(node, "lateen: %s", err.text);
        if (is_first)
            ctl_node_end(node, 1);
        return;
    }
    struct ctl_plan *plan = make_plan(node);
    take_plans(node, plan);
    keep_addresses(node);
    ctl_plan_free(&node->plan);
    node->plan = plan;
    if (!ctl_node_ports_plan(node) && is_first) {
        ctl_node_end(node, 1);
        return;
    }
    ctl_node_net_touch(node);
    advance(node);
}

static void on_manifests_change(void *ctx)
{
    ctl_node_reconcile(ctx);
}

/* Up to where only sidecars are left, which have nothing to lose. */
static bool has_application(const struct ctl_node *node)
{
    for (size_t i = 0; i < node->pods.count; i++) {
        if (ctl_node_pod(node, i)->state < CTL_POD_STOPPING_PROXY)
            return true;
    }
    return false;
}

void ctl_node_pods_end(struct ctl_node *node)
{
    uint64_t deadline = lt_env_mono_ns(node->env) + END_GRACE_S * LT_NS_PER_S;
    for (size_t i = 0; i < node->pods.count; i++)
        ctl_pod_stop(ctl_node_pod(node, i), true);
    while (has_application(node) && lt_env_mono_ns(node->env) < deadline)
        lt_loop_turn(node->loop, 50);
}

/* lateend has no Deployment where its variables could stand: they are taken from ours. */
static const char *const *own_env(struct lt_arena *arena)
{
    static const char *const names[] = {
        "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR",
        "CITADEL_SELF_SIGNED_CA_CERT_TTL",
        "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL",
        "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE",
        "DEFAULT_WORKLOAD_CERT_TTL",
        "LATEEN_HOLD",
        "MAX_WORKLOAD_CERT_TTL",
    };
    const char **env = lt_arena_make_n(arena, const char *, LT_ARRAY_LEN(names) + 1);
    size_t count = 0;
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++) {
        const char *value = getenv(names[i]);
        if (value != NULL)
            env[count++] = lt_arena_printf(arena, "%s=%s", names[i], value).ptr;
    }
    return env;
}

lt_rc ctl_node_pods_init(struct ctl_node *node, struct lt_err *err)
{
    node->host = (struct ctl_pod_host){.loop = node->loop,
                                       .state_path = node->state->path,
                                       .ctx = node,
                                       .on_change = on_pod_change};
    node->tokens = ctl_tokens_new();
    node->jwt_rule = ctl_tokens_rule(node->tokens, node->arena);
    node->control_env = own_env(node->arena);
    node->manifests = lt_manifests_new();
    node->started_ns = lt_loop_now_ns(node->loop);
    ctl_pool_init(&node->pod_ips, CTL_POD_RANGE);
    ctl_pool_init(&node->cluster_ips, CTL_SERVICE_RANGE);
    lt_timer_init(&node->retry, on_retry);
    lt_timer_init(&node->look_at_root, on_look_at_root);
    lt_loop_timer_set(node->loop, &node->look_at_root, LT_NS_PER_S);
    lt_timer_init(&node->refresh_tokens, on_refresh_tokens);
    lt_loop_timer_set(node->loop, &node->refresh_tokens, CTL_TOKEN_LIFE_S / 2 * LT_NS_PER_S);
    LT_TRY(
        ctl_watch_new(node->loop, node->state->dir, on_manifests_change, node, &node->watch, err));
    ctl_node_reconcile(node);
    return node->is_ending ? lt_err_set(err, LT_E_BAD, "the mesh was not started") : LT_OK;
}
