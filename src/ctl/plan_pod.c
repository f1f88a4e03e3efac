/*
 * ctl/plan_pod.c - one Pod: its name, its labels, the containers of its application.
 * Start at: ctl_plan_pod().
 */
#include <arpa/inet.h>
#include <stdio.h>

#include "ctl/capture.h"
#include "ctl/inject.h"
#include "ctl/plan_priv.h"

enum {
    PREFIX_MAX =
        46, /* of a Pod's name that is the workload's: with hash and suffix it stays a DNS label */
    HASH_LEN = 9,
    SUFFIX_LEN = 5,
    GRACE_DEFAULT_S = 30, /* Kubernetes' */
    EXPAND_BYTES_MAX = 64 * 1024,
};

/* --- names --- */

/* Kubernetes' alphabet for generated names: no vowels, so no words. */
static void encode(uint64_t value, char *out, size_t len)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    for (size_t i = 0; i < len; i++) {
        out[i] = alphabet[value % (sizeof(alphabet) - 1)];
        value /= sizeof(alphabet) - 1;
    }
    out[len] = '\0';
}

static uint64_t hash_str(lt_str s, uint64_t seed)
{
    return lt_hash64(s.ptr, s.len, seed + s.len);
}

static uint64_t hash_strs(const struct lt_strs *strs, uint64_t h)
{
    for (size_t i = 0; i < strs->count; i++)
        h = hash_str(strs->items[i], h);
    return h + strs->count;
}

static uint64_t hash_kvs(const struct lt_kvs *kvs, uint64_t h)
{
    for (size_t i = 0; i < kvs->count; i++)
        h = hash_str(kvs->items[i].value, hash_str(kvs->items[i].key, h));
    return h + kvs->count;
}

static uint64_t hash_text(const char *text, uint64_t h)
{
    return hash_str(lt_str_of(text), h);
}

static uint64_t hash_container(const struct lt_container *c, uint64_t h)
{
    h = hash_str(c->working_dir, hash_str(c->image, hash_str(c->name, h)));
    h = hash_str(c->restart_policy, h);
    h = hash_strs(&c->args, hash_strs(&c->command, h));
    for (size_t i = 0; i < c->env.count; i++) {
        const struct lt_env_var *var = &c->env.items[i];
        h = hash_str(var->value, hash_str(var->name, h));
        if (var->value_from != NULL && var->value_from->field_ref != NULL)
            h = hash_str(var->value_from->field_ref->field_path, h);
    }
    for (size_t i = 0; i < c->ports.count; i++) {
        const struct lt_container_port *port = &c->ports.items[i];
        const int64_t numbers[] = {port->container_port.value,
                                   lt_opt_or(port->protocol, LT_PROTOCOL_TCP)};
        h = lt_hash64(numbers, sizeof(numbers), hash_str(port->name, h));
    }
    return h;
}

/* What comes out of ConfigMaps: here a changed one makes a new Pod. */
static uint64_t hash_texts(const struct ctl_container_plan *container, uint64_t h)
{
    if (container->role == CTL_ROLE_PROXY)
        return h;
    for (const char *const *var = container->env; *var != NULL; var++)
        h = hash_text(*var, h);
    for (size_t i = 0; i < container->mount_count; i++) {
        const struct ctl_mount *mount = &container->mounts[i];
        if (mount->kind != CTL_MOUNT_VOLUME)
            continue;
        h = hash_text(mount->source, hash_text(mount->target, h + mount->is_read_only));
        for (size_t k = 0; k < mount->file_count; k++)
            h = hash_str(mount->files[k].text, hash_text(mount->files[k].path, h));
    }
    return h;
}

/* Of everything that makes a new Pod necessary: two Pods of one hash are alike. */
static uint64_t hash_source(const struct ctl_pod_source *source, const struct ctl_pod_plan *pod)
{
    const struct lt_pod_spec *spec = source->spec;
    uint64_t h = hash_kvs(&pod->annotations,
                          hash_kvs(&pod->labels, pod->has_proxy + 2 * pod->is_gateway));
    if (pod->has_proxy)
        h = hash_text(source->proxy_config, h);
    h = hash_text(pod->service_account, hash_text(pod->capture != NULL ? pod->capture : "", h));
    for (size_t i = 0; i < spec->init_containers.count; i++)
        h = hash_container(&spec->init_containers.items[i], h);
    for (size_t i = 0; i < spec->containers.count; i++)
        h = hash_container(&spec->containers.items[i], h + i);
    for (size_t i = 0; i < pod->container_count; i++) {
        for (const char *const *arg = pod->containers[i].argv; *arg != NULL; arg++)
            h = hash_text(*arg, h); /* a program that has come into being since */
        h = hash_texts(&pod->containers[i], h);
    }
    return h;
}

/* --- labels --- */

static int compare_kv(const void *a, const void *b)
{
    return lt_str_cmp(((const struct lt_kv *)a)->key, ((const struct lt_kv *)b)->key);
}

static void add_label(struct ctl_pod_plan *pod, const char *key, const char *value)
{
    if (lt_kvs_find(&pod->labels, lt_str_of(key)).ptr != NULL)
        return;
    struct lt_kv *items = lt_arena_make_n(pod->arena, struct lt_kv, pod->labels.count + 1);
    if (pod->labels.count > 0)
        memcpy(items, pod->labels.items, pod->labels.count * sizeof(*items));
    items[pod->labels.count] = (struct lt_kv){lt_str_of(key), lt_str_of(value)};
    pod->labels = (struct lt_kvs){pod->labels.count + 1, items};
    qsort(items, pod->labels.count, sizeof(*items), compare_kv);
}

static const char *first_label(const struct ctl_pod_plan *pod, const char *const *keys,
                               const char *otherwise)
{
    for (; *keys != NULL; keys++) {
        lt_str value = lt_kvs_find(&pod->labels, lt_str_of(*keys));
        if (value.len > 0)
            return lt_arena_strz(pod->arena, value);
    }
    return otherwise;
}

/* What the injector's webhook adds. */
static void add_injected_labels(struct ctl_pod_plan *pod)
{
    static const char *const names[] = {"service.istio.io/canonical-name", "app.kubernetes.io/name",
                                        "app", NULL};
    static const char *const revisions[] = {"service.istio.io/canonical-revision",
                                            "app.kubernetes.io/version", "version", NULL};
    add_label(pod, "service.istio.io/canonical-name", first_label(pod, names, pod->workload));
    add_label(pod, "service.istio.io/canonical-revision", first_label(pod, revisions, "latest"));
    if (!pod->is_gateway)
        add_label(pod, "security.istio.io/tlsMode", "istio");
}

/* --- environment --- */

static const char *find_env(const struct ctl_strings *env, lt_str name)
{
    for (size_t i = env->count; i-- > 0;) {
        lt_str pair = lt_str_of(env->items[i]);
        if (pair.len > name.len && pair.ptr[name.len] == '=' && lt_str_starts(pair, name))
            return env->items[i] + name.len + 1;
    }
    return NULL;
}

/*
 * $(NAME) of what was set before; $$(NAME) is the text $(NAME); an unknown one stays as it is
 * (Kubernetes' rules).
 */
static const char *expand(struct lt_arena *arena, lt_str text, const struct ctl_strings *env)
{
    struct lt_buf out;
    lt_buf_init(&out, EXPAND_BYTES_MAX);
    lt_rc rc = LT_OK;
    for (size_t i = 0; rc == LT_OK && i < text.len;) {
        lt_str rest = lt_str_from(text, i);
        if (lt_str_starts(rest, LT_STR("$$"))) {
            rc = lt_buf_append(&out, "$", 1);
            i += 2;
            continue;
        }
        ptrdiff_t end = lt_str_starts(rest, LT_STR("$(")) ? lt_str_find_char(rest, ')') : -1;
        const char *value = end < 0 ? NULL : find_env(env, lt_str_slice(rest, 2, (size_t)end));
        if (value != NULL) {
            rc = lt_buf_append_str(&out, lt_str_of(value));
            i += (size_t)end + 1;
        } else {
            rc = lt_buf_append(&out, text.ptr + i, 1);
            i++;
        }
    }
    const char *result = lt_arena_strz(arena, rc == LT_OK ? lt_buf_str(&out) : text);
    lt_buf_fini(&out);
    return result;
}

/* "metadata.labels['app']" */
static lt_str subscript(lt_str path, const char *field)
{
    lt_str head = lt_str_of(field);
    if (!lt_str_starts(path, head) || !lt_str_ends(path, LT_STR("']")) || path.len < head.len + 4)
        return LT_STR_NULL;
    return lt_str_slice(path, head.len + 2, path.len - 2);
}

static const char *field_value(const struct ctl_pod_plan *pod, const struct ctl_plan_world *world,
                               lt_str path)
{
    const struct {
        const char *path;
        const char *value;
    } fields[] = {
        {"metadata.name", pod->name},
        {"metadata.namespace", pod->ns},
        {"spec.serviceAccountName", pod->service_account},
        {"spec.nodeName", "lateen"},
        {"metadata.uid", pod->name},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(fields); i++) {
        if (lt_str_eqz(path, fields[i].path))
            return fields[i].value;
    }
    if (lt_str_eqz(path, "status.podIP") || lt_str_eqz(path, "status.podIPs"))
        return ctl_ip_text(pod->arena, pod->ip);
    if (lt_str_eqz(path, "status.hostIP") || lt_str_eqz(path, "status.hostIPs"))
        return ctl_ip_text(pod->arena, world->node_ip);
    lt_str label = lt_kvs_find(&pod->labels, subscript(path, "metadata.labels"));
    lt_str annotation = lt_kvs_find(&pod->annotations, subscript(path, "metadata.annotations"));
    return lt_arena_strz(pod->arena, label.ptr != NULL ? label : annotation);
}

lt_str ctl_plan_config_value(const struct ctl_pod_source *source,
                             const struct lt_key_selector *selector)
{
    const struct lt_kvs *data = ctl_plan_config_data(source, selector->name);
    return data != NULL ? lt_kvs_find(data, selector->key) : LT_STR_NULL;
}

/* envFrom: names that are variables' names. */
static void add_vars_from(struct ctl_strings *env, const struct ctl_pod_source *source,
                          const struct lt_env_from *from)
{
    const struct lt_kvs *data = from->config_map_ref == NULL
                                    ? NULL
                                    : ctl_plan_config_data(source, from->config_map_ref->name);
    for (size_t i = 0; data != NULL && i < data->count; i++) {
        if (lt_str_find_char(data->items[i].key, '=') < 0)
            ctl_strings_addf(env, "%.*s%.*s=%.*s", LT_STR_ARG(from->prefix),
                             LT_STR_ARG(data->items[i].key), LT_STR_ARG(data->items[i].value));
    }
}

static void add_var(struct ctl_strings *env, const struct ctl_pod_source *source,
                    const struct ctl_pod_plan *pod, const struct lt_env_var *var)
{
    const char *value = NULL;
    if (var->value_from == NULL) {
        value = expand(pod->arena, var->value, env);
    } else if (var->value_from->field_ref != NULL) {
        value = field_value(pod, source->world, var->value_from->field_ref->field_path);
    } else if (var->value_from->config_map_key_ref != NULL) {
        lt_str found = ctl_plan_config_value(source, var->value_from->config_map_key_ref);
        if (found.ptr == NULL)
            return;
        value = lt_arena_strz(pod->arena, found);
    } else {
        return;
    }
    ctl_strings_addf(env, "%.*s=%s", LT_STR_ARG(var->name), value);
}

/* --- mounts --- */

struct ctl_mounts ctl_mounts_make(struct lt_arena *arena)
{
    return (struct ctl_mounts){.items = lt_arena_make_n(arena, struct ctl_mount, CTL_MOUNTS_MAX)};
}

void ctl_mounts_add(struct ctl_mounts *mounts, struct ctl_mount mount)
{
    LT_ASSERT(mounts->count < CTL_MOUNTS_MAX);
    mounts->items[mounts->count++] = mount;
}

void ctl_mounts_add_common(struct ctl_mounts *mounts, const struct ctl_pod_plan *pod,
                           const struct ctl_plan_world *world)
{
    struct lt_arena *a = pod->arena;
    const char *resolv = ctl_text(a,
                                  "nameserver %s\nsearch %s.svc." CTL_DOMAIN " svc." CTL_DOMAIN
                                  " " CTL_DOMAIN "\noptions ndots:5\n",
                                  ctl_ip_text(a, world->dns_ip), pod->ns);
    const char *hosts = ctl_text(
        a, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n",
        ctl_ip_text(a, pod->ip), pod->hostname);
    const char *hostname = ctl_text(a, "%s\n", pod->hostname);
    ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_FILE,
                                              .target = "/etc/resolv.conf",
                                              .text = lt_str_of(resolv)});
    ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_FILE,
                                              .target = "/etc/hosts",
                                              .text = lt_str_of(hosts)});
    ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_FILE,
                                              .target = "/etc/hostname",
                                              .text = lt_str_of(hostname)});
    ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_BIND,
                                              .target = CTL_BIN_DIR,
                                              .is_read_only = true,
                                              .source = ctl_text(a, "%s/bin", world->state_path)});
}

/* --- containers --- */

static uint16_t first_tcp_port(const struct lt_container *c)
{
    for (size_t i = 0; i < c->ports.count; i++) {
        if (lt_opt_or(c->ports.items[i].protocol, LT_PROTOCOL_TCP) == LT_PROTOCOL_TCP)
            return (uint16_t)c->ports.items[i].container_port.value;
    }
    return 0;
}

/* Who waits for the end of a container would wait for ever for a server's. */
static bool standin_ends(const struct ctl_pod_source *source, const struct lt_container *c,
                         ctl_role role)
{
    if (role == CTL_ROLE_SIDECAR)
        return false;
    bool runs_on = lt_opt_or(source->spec->restart_policy, LT_RESTART_ALWAYS) == LT_RESTART_ALWAYS;
    return role == CTL_ROLE_INIT || strcmp(source->kind, "Job") == 0 ||
           (!runs_on && first_tcp_port(c) == 0);
}

static void add_standin_args(struct ctl_strings *argv, const struct lt_container *c,
                             const char *wanted, bool ends)
{
    ctl_strings_add(argv, CTL_BIN_DIR "/lateen");
    ctl_strings_add(argv, "standin");
    if (ends) {
        ctl_strings_addf(argv, "--ends-for=%s", wanted);
        return;
    }
    for (size_t i = 0; i < c->ports.count; i++) {
        if (lt_opt_or(c->ports.items[i].protocol, LT_PROTOCOL_TCP) == LT_PROTOCOL_TCP)
            ctl_strings_addf(argv, "--port=%lld",
                             (long long)c->ports.items[i].container_port.value);
    }
}

/* command and args, if that program is here; else the stand-in. */
static void fill_argv(struct ctl_container_plan *plan, const struct ctl_pod_source *source,
                      const struct ctl_pod_plan *pod, const struct lt_container *c,
                      const struct ctl_strings *env)
{
    struct ctl_strings argv = {.arena = pod->arena};
    for (size_t i = 0; i < c->command.count; i++)
        ctl_strings_add(&argv, expand(pod->arena, c->command.items[i], env));
    bool has_program = argv.count > 0 &&
                       source->world->has_program(argv.items[0], source->world->ctx);
    plan->wanted = argv.count > 0 ? argv.items[0]
                                  : ctl_text(pod->arena, "image %.*s", LT_STR_ARG(c->image));
    plan->is_standin = !has_program;
    if (!has_program) {
        argv.count = 0;
        add_standin_args(&argv, c, plan->wanted, standin_ends(source, c, plan->role));
    } else {
        for (size_t i = 0; i < c->args.count; i++)
            ctl_strings_add(&argv, expand(pod->arena, c->args.items[i], env));
    }
    plan->argv = ctl_strings_finish(&argv);
}

static ctl_restart restart_of(const struct ctl_pod_source *source, ctl_role role)
{
    if (role == CTL_ROLE_SIDECAR)
        return CTL_RESTART_ALWAYS;
    int64_t policy = lt_opt_or(source->spec->restart_policy, LT_RESTART_ALWAYS);
    if (policy == LT_RESTART_NEVER)
        return CTL_RESTART_NEVER;
    return policy == LT_RESTART_ALWAYS && role != CTL_ROLE_INIT ? CTL_RESTART_ALWAYS
                                                                : CTL_RESTART_ON_FAILURE;
}

static struct ctl_container_plan plan_container(const struct ctl_pod_source *source,
                                                struct ctl_pod_plan *pod,
                                                const struct lt_container *c, ctl_role role)
{
    struct lt_arena *a = pod->arena;
    struct ctl_strings env = {.arena = a};
    struct ctl_mounts mounts = ctl_mounts_make(a);
    static const char *const versions[] = {"version", "app.kubernetes.io/version", NULL};
    struct ctl_container_plan plan = {
        .name = lt_arena_strz(a, c->name),
        .role = role,
        .working_dir = c->working_dir.len > 0 ? lt_arena_strz(a, c->working_dir) : NULL,
        .restart = restart_of(source, role),
        .uid = CTL_APP_UID,
        .gid = CTL_APP_UID,
    };
    ctl_strings_add(
        &env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:" CTL_BIN_DIR);
    ctl_strings_addf(&env, "HOSTNAME=%s", pod->hostname);
    ctl_strings_add(&env, "HOME=/tmp");
    ctl_strings_addf(&env, "LATEEN_POD=%s", pod->name);
    ctl_strings_addf(&env, "LATEEN_NAMESPACE=%s", pod->ns);
    ctl_strings_addf(&env, "LATEEN_WORKLOAD=%s", pod->workload);
    ctl_strings_addf(&env, "LATEEN_VERSION=%s", first_label(pod, versions, ""));
    for (size_t i = 0; i < c->env_from.count; i++)
        add_vars_from(&env, source, &c->env_from.items[i]);
    for (size_t i = 0; i < c->env.count; i++)
        add_var(&env, source, pod, &c->env.items[i]);
    fill_argv(&plan, source, pod, c, &env);
    plan.env = ctl_strings_finish(&env);
    ctl_mounts_add_common(&mounts, pod, source->world);
    ctl_plan_add_volumes(source, a, c, &mounts);
    plan.mounts = mounts.items;
    plan.mount_count = mounts.count;
    plan.ready_port = role == CTL_ROLE_APP ? first_tcp_port(c) : 0;
    plan.ready = plan.ready_port != 0 ? CTL_READY_PORT : CTL_READY_RUNNING;
    return plan;
}

static void plan_containers(const struct ctl_pod_source *source, struct ctl_pod_plan *pod)
{
    const struct lt_pod_spec *spec = source->spec;
    size_t count = 0;
    struct ctl_container_plan *list = lt_arena_make_n(pod->arena, struct ctl_container_plan,
                                                      spec->init_containers.count +
                                                          spec->containers.count + 1);
    for (size_t i = 0; !pod->is_gateway && i < spec->init_containers.count; i++) {
        const struct lt_container *c = &spec->init_containers.items[i];
        bool stays = lt_str_eqz(c->restart_policy, "Always");
        list[count++] = plan_container(source, pod, c, stays ? CTL_ROLE_SIDECAR : CTL_ROLE_INIT);
    }
    if (pod->has_proxy)
        list[count++] = ctl_plan_proxy(pod, source->world, source->proxy_config);
    for (size_t i = 0; !pod->is_gateway && i < spec->containers.count; i++)
        list[count++] = plan_container(source, pod, &spec->containers.items[i], CTL_ROLE_APP);
    pod->containers = list;
    pod->container_count = count;
    for (size_t i = 0; i < count && pod->port == 0; i++)
        pod->port = list[i].role == CTL_ROLE_APP ? list[i].ready_port : 0;
}

/* --- the Pod --- */

static lt_str annotation_of(const void *ctx, const char *name)
{
    return lt_kvs_find(ctx, lt_str_of(name));
}

static lt_rc plan_capture(const struct ctl_pod_source *source, struct ctl_pod_plan *pod,
                          struct lt_err *err)
{
    struct ctl_capture capture;
    struct lt_buf text;
    bool has_dns = false;
    LT_TRY(ctl_capture_read(pod->arena, annotation_of, &pod->annotations, &capture, err));
    lt_str dns = ctl_plan_proxy_variable(pod, source->proxy_config, "ISTIO_META_DNS_CAPTURE");
    if (dns.len > 0 && lt_str_to_bool(dns, &has_dns) != LT_OK)
        return lt_err_set(
            err, LT_E_BAD,
            "proxyMetadata.ISTIO_META_DNS_CAPTURE: \"%.*s\" is neither true nor false",
            LT_STR_ARG(dns));
    capture.dns_ip = has_dns ? source->world->dns_ip : 0;
    lt_buf_init(&text, 1 << 20);
    lt_rc rc = ctl_capture_write(&capture, &text);
    if (rc == LT_OK && lt_buf_len(&text) > 0)
        pod->capture = lt_arena_strz(pod->arena, lt_buf_str(&text));
    lt_buf_fini(&text);
    return rc;
}

static lt_rc plan_injection(const struct ctl_pod_source *source, struct ctl_pod_plan *pod,
                            struct lt_err *err)
{
    const struct ctl_inject_input input = {
        .ns = lt_str_of(pod->ns),
        .ns_labels = source->ns_labels,
        .labels = &pod->labels,
        .annotations = &pod->annotations,
        .is_host_network = lt_opt_or(source->spec->host_network, 0) != 0,
    };
    ctl_inject inject = ctl_inject_decide(&input, &pod->why);
    pod->has_proxy = inject != CTL_INJECT_NONE;
    pod->is_gateway = inject == CTL_INJECT_GATEWAY;
    if (pod->has_proxy)
        add_injected_labels(pod);
    return inject == CTL_INJECT_SIDECAR ? plan_capture(source, pod, err) : LT_OK;
}

static void name_pod(const struct ctl_pod_source *source, struct ctl_pod_plan *pod)
{
    char hash[HASH_LEN + 1], suffix[SUFFIX_LEN + 1];
    pod->hash = hash_source(source, pod);
    if (strcmp(pod->kind, "Pod") == 0) {
        pod->name = pod->workload;
    } else {
        encode(pod->hash, hash, HASH_LEN);
        unsigned which = source->index + pod->attempt;
        encode(lt_hash64(&which, sizeof(which), pod->hash), suffix, SUFFIX_LEN);
        pod->name = ctl_text(pod->arena, "%.*s-%s-%s", PREFIX_MAX, pod->workload, hash, suffix);
        if (strcmp(pod->kind, "Deployment") == 0)
            add_label(pod, "pod-template-hash", lt_arena_strz(pod->arena, lt_str_of(hash)));
    }
    pod->hostname = source->spec->hostname.len > 0
                        ? lt_arena_strz(pod->arena, source->spec->hostname)
                        : pod->name;
}

struct ctl_pod_plan *ctl_plan_pod(const struct ctl_pod_source *source)
{
    static const struct lt_kvs none = {0};
    const struct lt_pod_spec *spec = source->spec;
    struct lt_arena *arena = lt_arena_new(16384, 0);
    struct ctl_pod_plan *pod = lt_arena_make(arena, struct ctl_pod_plan);
    struct lt_err err = {0};
    lt_str account = spec->service_account_name.len > 0 ? spec->service_account_name
                                                        : spec->service_account;
    *pod = (struct ctl_pod_plan){
        .arena = arena,
        .object = lt_object_ref(source->object),
        .spec = spec,
        .ns = lt_arena_strz(arena, source->object->key.ns),
        .workload = lt_arena_strz(arena, source->object->key.name),
        .kind = source->kind,
        .service_account = account.len > 0 ? lt_arena_strz(arena, account) : "default",
        .labels = source->meta != NULL ? source->meta->labels : none,
        .annotations = source->meta != NULL ? source->meta->annotations : none,
        .grace_s = (unsigned)lt_opt_or(spec->termination_grace_s, GRACE_DEFAULT_S),
        .attempts_max = source->attempts_max,
    };
    if (strcmp(pod->kind, "Job") == 0)
        pod->attempt = source->world->job_attempt(pod->ns, pod->workload, source->world->ctx);
    pod->name = pod->hostname = "";
    lt_rc rc = plan_injection(source, pod, &err);
    if (rc == LT_OK) {
        plan_containers(source, pod); /* once for the hash, which needs to know what runs ... */
        name_pod(source, pod);
        pod->ip = source->world->pod_ip(pod->ns, pod->name, source->world->ctx);
        plan_containers(source, pod); /* ... and once with name and address */
        if (pod->ip != 0)
            return pod;
        (void)lt_err_set(&err, LT_E_LIMIT, "no address is left for it");
    }
    char name[LT_OBJECT_NAME_MAX];
    struct lt_note where = lt_object_note(source->object, LT_NOTE_ERROR, name);
    lt_notes_addf(source->notes, &where, "%s", err.text);
    ctl_pod_plan_free(&pod);
    return NULL;
}
