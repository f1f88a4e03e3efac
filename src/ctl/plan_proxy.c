/*
 * ctl/plan_proxy.c - the containers of lateen itself: a Pod's sidecar or gateway as Istio's
 * injector writes it, and lateend's Pod. Start at: ctl_plan_proxy().
 */
#include <stdio.h>

#include "base/buf.h"
#include "ctl/capture.h"
#include "ctl/plan_priv.h"
#include "net/handover.h"
#include "wire/json.h"
#include "wire/yaml.h"

enum { JSON_BYTES_MAX = 64 * 1024 };

/* --- the sidecar --- */

static const char *pod_ports_json(const struct ctl_pod_plan *pod)
{
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, JSON_BYTES_MAX);
    lt_json_writer_init(&w, &buf, 0);
    lt_json_array_open(&w);
    for (size_t i = 0; i < pod->spec->containers.count; i++) {
        const struct lt_container *c = &pod->spec->containers.items[i];
        for (size_t k = 0; k < c->ports.count; k++) {
            const struct lt_container_port *port = &c->ports.items[k];
            lt_json_object_open(&w);
            if (port->name.len > 0)
                lt_json_kv_str(&w, "name", port->name);
            lt_json_kv_int(&w, "containerPort", port->container_port.value);
            lt_json_kv_str(&w, "protocol",
                           lt_str_of(lt_enum_name(lt_ip_protocol_enum,
                                                  lt_opt_or(port->protocol, LT_PROTOCOL_TCP))));
            lt_json_object_close(&w);
        }
    }
    lt_json_array_close(&w);
    const char *text = lt_json_writer_finish(&w) == LT_OK
                           ? lt_arena_strz(pod->arena, lt_buf_str(&buf))
                           : "[]";
    lt_buf_fini(&buf);
    return text;
}

static const char *container_names(const struct ctl_pod_plan *pod)
{
    const char *names = "";
    for (size_t i = 0; i < pod->spec->containers.count; i++)
        names = ctl_text(pod->arena, "%s%s%.*s", names, i > 0 ? "," : "",
                         LT_STR_ARG(pod->spec->containers.items[i].name));
    return names;
}

static const char *owner(const struct ctl_pod_plan *pod)
{
    static const struct {
        const char *kind, *version, *plural;
    } kinds[] = {{"Deployment", "apps/v1", "deployments"},
                 {"Job", "batch/v1", "jobs"},
                 {"Pod", "v1", "pods"}};
    for (size_t i = 0; i < LT_ARRAY_LEN(kinds); i++) {
        if (strcmp(pod->kind, kinds[i].kind) == 0)
            return ctl_text(pod->arena, "kubernetes://apis/%s/namespaces/%s/%s/%s",
                            kinds[i].version, pod->ns, kinds[i].plural, pod->workload);
    }
    LT_UNREACHABLE();
}

/* Members of `to` become those of the ProxyConfig's proxyMetadata. */
static void merge_metadata(struct lt_arena *arena, lt_str config, struct lt_doc *to)
{
    const struct lt_doc *doc = NULL;
    if (lt_yaml_parse(arena, lt_yaml_whole(config), NULL, &doc, NULL) != LT_OK)
        return; /* the agent reads it, too, and says what is wrong */
    const struct lt_doc *metadata = lt_doc_findz(doc, "proxyMetadata");
    for (uint32_t i = 0; lt_doc_is(metadata, LT_DOC_OBJECT) && i < metadata->count; i++)
        lt_doc_set(arena, to, metadata->members[i].key, metadata->members[i].value);
}

/* Variables that the user gives the proxy: the mesh's, then the Pod's own. */
static struct lt_doc read_metadata(const struct ctl_pod_plan *pod, const char *proxy_config)
{
    struct lt_doc metadata = lt_doc_of_object();
    merge_metadata(pod->arena, lt_str_of(proxy_config), &metadata);
    merge_metadata(pod->arena, lt_kvs_find(&pod->annotations, LT_STR("proxy.istio.io/config")),
                   &metadata);
    return metadata;
}

lt_str ctl_plan_proxy_variable(const struct ctl_pod_plan *pod, const char *proxy_config,
                               const char *name)
{
    struct lt_doc metadata = read_metadata(pod, proxy_config);
    return lt_doc_string(lt_doc_findz(&metadata, name));
}

static void add_metadata(struct ctl_strings *env, const struct ctl_pod_plan *pod,
                         const char *proxy_config)
{
    struct lt_doc metadata = read_metadata(pod, proxy_config);
    for (uint32_t i = 0; i < metadata.count; i++) {
        lt_str value = lt_doc_string(&metadata.members[i].value);
        if (value.ptr != NULL)
            ctl_strings_addf(env, "%.*s=%.*s", LT_STR_ARG(metadata.members[i].key),
                             LT_STR_ARG(value));
    }
}

/* In the injector's order (injection template, container istio-proxy). */
static const char *const *proxy_env(const struct ctl_pod_plan *pod,
                                    const struct ctl_plan_world *world, const char *proxy_config)
{
    struct ctl_strings env = {.arena = pod->arena};
    ctl_strings_add(&env, "PATH=" CTL_BIN_DIR ":/usr/local/bin:/usr/bin:/bin");
    ctl_strings_add(&env, "HOME=/tmp");
    ctl_strings_add(&env, "PILOT_CERT_PROVIDER=istiod");
    ctl_strings_add(&env, "CA_ADDR=istiod." CTL_SYSTEM_NS ".svc:15012");
    ctl_strings_addf(&env, "POD_NAME=%s", pod->name);
    ctl_strings_addf(&env, "POD_NAMESPACE=%s", pod->ns);
    ctl_strings_addf(&env, "INSTANCE_IP=%s", ctl_ip_text(pod->arena, pod->ip));
    ctl_strings_addf(&env, "SERVICE_ACCOUNT=%s", pod->service_account);
    ctl_strings_addf(&env, "HOST_IP=%s", ctl_ip_text(pod->arena, world->node_ip));
    ctl_strings_add(&env, "ISTIO_CPU_LIMIT=2"); /* the template's limit */
    ctl_strings_addf(&env, "PROXY_CONFIG=%s\n", proxy_config);
    ctl_strings_addf(&env, "ISTIO_META_POD_PORTS=%s", pod_ports_json(pod));
    ctl_strings_addf(&env, "ISTIO_META_APP_CONTAINERS=%s", container_names(pod));
    ctl_strings_add(&env, "ISTIO_META_CLUSTER_ID=Kubernetes");
    ctl_strings_add(&env, "ISTIO_META_NODE_NAME=lateen");
    if (!pod->is_gateway)
        ctl_strings_addf(&env, "ISTIO_META_INTERCEPTION_MODE=%s",
                         pod->capture != NULL ? "REDIRECT" : "NONE");
    ctl_strings_addf(&env, "ISTIO_META_WORKLOAD_NAME=%s", pod->workload);
    ctl_strings_addf(&env, "ISTIO_META_OWNER=%s", owner(pod));
    ctl_strings_add(&env, "ISTIO_META_MESH_ID=" CTL_DOMAIN);
    ctl_strings_add(&env, "TRUST_DOMAIN=" CTL_DOMAIN);
    add_metadata(&env, pod, proxy_config);
    if (pod->is_gateway)
        ctl_strings_addf(&env, LT_HANDOVER_ENV "=%d", CTL_HANDING_FD);
    return ctl_strings_finish(&env);
}

/* The downward API's form: key="value", one a line, the value quoted as Go does. */
static lt_str downward(struct lt_arena *arena, const struct lt_kvs *kvs)
{
    struct lt_buf out;
    lt_buf_init(&out, 1 << 20);
    for (size_t i = 0; i < kvs->count; i++) {
        lt_rc rc = lt_buf_printf(&out, "%.*s=\"", LT_STR_ARG(kvs->items[i].key));
        for (size_t k = 0; rc == LT_OK && k < kvs->items[i].value.len; k++) {
            char c = kvs->items[i].value.ptr[k];
            if (c == '"' || c == '\\')
                rc = lt_buf_printf(&out, "\\%c", c);
            else if (c == '\n')
                rc = lt_buf_printf(&out, "\\n");
            else
                rc = lt_buf_append(&out, &c, 1);
        }
        if (rc != LT_OK || lt_buf_printf(&out, "\"\n") != LT_OK)
            break; /* annotations are at most 256 KiB; the limit is there for the unforeseen */
    }
    lt_str text = lt_arena_str(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return text;
}

static void add_proxy_mounts(struct ctl_mounts *mounts, const struct ctl_pod_plan *pod,
                             const struct ctl_plan_world *world)
{
    static const struct {
        const char *target, *volume; /* the injector's names */
    } writable[] = {
        {"/etc/istio/proxy", "istio-proxy/istio-envoy"},
        {"/var/lib/istio/data", "istio-proxy/istio-data"},
        {"/var/run/secrets/workload-spiffe-uds", "istio-proxy/workload-socket"},
        {"/var/run/secrets/credential-uds", "istio-proxy/credential-socket"},
        {"/var/run/secrets/workload-spiffe-credentials", "istio-proxy/workload-certs"},
    };
    struct lt_arena *a = pod->arena;
    for (size_t i = 0; i < LT_ARRAY_LEN(writable); i++)
        ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_VOLUME,
                                                  .target = writable[i].target,
                                                  .source = writable[i].volume,
                                                  .uid = CTL_PROXY_UID,
                                                  .gid = CTL_PROXY_UID,
                                                  .mode = 0755});
    ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_FILE,
                                              .target = "/etc/istio/pod/labels",
                                              .text = downward(a, &pod->labels)});
    ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_FILE,
                                              .target = "/etc/istio/pod/annotations",
                                              .text = downward(a, &pod->annotations)});
    ctl_mounts_add(mounts,
                   (struct ctl_mount){.kind = CTL_MOUNT_BIND,
                                      .target = "/var/run/secrets/tokens",
                                      .is_read_only = true,
                                      .source = ctl_text(a, "%s/tokens/%s.%s", world->state_path,
                                                         pod->name, pod->ns)});
    ctl_mounts_add(mounts, (struct ctl_mount){.kind = CTL_MOUNT_BIND,
                                              .target = "/var/run/secrets/istio",
                                              .is_read_only = true,
                                              .source = ctl_text(a, "%s/root", world->state_path)});
}

struct ctl_container_plan ctl_plan_proxy(struct ctl_pod_plan *pod,
                                         const struct ctl_plan_world *world,
                                         const char *proxy_config)
{
    struct ctl_strings argv = {.arena = pod->arena};
    struct ctl_mounts mounts = ctl_mounts_make(pod->arena);
    ctl_strings_add(&argv, CTL_BIN_DIR "/lateen-proxy");
    ctl_strings_add(&argv, "proxy");
    ctl_strings_add(&argv, pod->is_gateway ? "router" : "sidecar");
    ctl_strings_add(&argv, "--domain");
    ctl_strings_addf(&argv, "%s.svc." CTL_DOMAIN, pod->ns);
    ctl_strings_add(&argv, "--proxyLogLevel=warning");
    ctl_strings_add(&argv, "--proxyComponentLogLevel=misc:error");
    ctl_strings_add(&argv, "--log_output_level=default:info");
    ctl_mounts_add_common(&mounts, pod, world);
    add_proxy_mounts(&mounts, pod, world);
    bool runs_on = lt_opt_or(pod->spec->restart_policy, LT_RESTART_ALWAYS) == LT_RESTART_ALWAYS;
    return (struct ctl_container_plan){
        .name = "istio-proxy",
        .role = CTL_ROLE_PROXY,
        .argv = ctl_strings_finish(&argv),
        .env = proxy_env(pod, world, proxy_config),
        .mounts = mounts.items,
        .mount_count = mounts.count,
        /* a Job's script may end its sidecar by /quitquitquit */
        .restart = runs_on ? CTL_RESTART_ALWAYS : CTL_RESTART_ON_FAILURE,
        .wanted = "lateen-proxy",
        .uid = CTL_PROXY_UID,
        .gid = CTL_PROXY_UID,
        .ready = CTL_READY_HTTP,
        .ready_port = CTL_PORT_HEALTH,
        .ready_path = "/healthz/ready",
        .takes_sockets = pod->is_gateway,
    };
}

/* --- lateend --- */

/* Where lateend's container has what publish.c writes. */
#define LIVE_DIR "/.lateen/live"

static const char *const *control_argv(struct lt_arena *arena, const struct ctl_plan_world *world)
{
    struct ctl_strings argv = {.arena = arena};
    ctl_strings_add(&argv, CTL_BIN_DIR "/lateend");
    ctl_strings_add(&argv, "discovery");
    ctl_strings_addf(&argv, "--configDir=%s", world->manifests);
    ctl_strings_add(&argv, "--liveDir=" LIVE_DIR);
    ctl_strings_add(&argv, "--grpcAddr=:15010");
    ctl_strings_add(&argv, "--secureGRPCAddr=:15012");
    ctl_strings_add(&argv, "--httpAddr=:8080");
    ctl_strings_add(&argv, "--httpsAddr=:15017");
    ctl_strings_add(&argv, "--monitoringAddr=:15014");
    return ctl_strings_finish(&argv);
}

static const char *const *control_env(const struct ctl_pod_plan *pod,
                                      const struct ctl_plan_world *world)
{
    struct ctl_strings env = {.arena = pod->arena};
    ctl_strings_add(&env, "PATH=" CTL_BIN_DIR ":/usr/local/bin:/usr/bin:/bin");
    ctl_strings_add(&env, "HOME=/tmp");
    ctl_strings_addf(&env, "POD_NAME=%s", pod->name);
    ctl_strings_addf(&env, "POD_NAMESPACE=%s", pod->ns);
    ctl_strings_add(&env, "SERVICE_ACCOUNT=istiod");
    ctl_strings_add(&env, "CLUSTER_ID=Kubernetes");
    ctl_strings_add(&env, "REVISION=default");
    ctl_strings_add(&env, "LATEEN_STATE_DIR=/var/lib/lateen");
    ctl_strings_addf(&env, "JWT_RULE=%s", world->jwt_rule);
    for (size_t i = 0; world->control_env != NULL && world->control_env[i] != NULL; i++)
        ctl_strings_add(&env, world->control_env[i]);
    return ctl_strings_finish(&env);
}

/*
 * It runs as whoever called `lateen up`, without capabilities: the manifests may be readable by
 * nobody else.
 */
static struct ctl_container_plan control_container(const struct ctl_pod_plan *pod,
                                                   const struct ctl_plan_world *world)
{
    struct lt_arena *a = pod->arena;
    struct ctl_mounts mounts = ctl_mounts_make(a);
    ctl_mounts_add_common(&mounts, pod, world);
    const struct {
        const char *target, *source;
        bool is_read_only;
    } binds[] = {
        {world->manifests, world->manifests, true},
        {LIVE_DIR, ctl_text(a, "%s/live", world->state_path), true},
        {"/var/lib/lateen", ctl_text(a, "%s/istiod", world->state_path), false},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(binds); i++)
        ctl_mounts_add(&mounts, (struct ctl_mount){.kind = CTL_MOUNT_BIND,
                                                   .target = binds[i].target,
                                                   .source = binds[i].source,
                                                   .is_read_only = binds[i].is_read_only});
    return (struct ctl_container_plan){
        .name = "discovery",
        .role = CTL_ROLE_APP,
        .argv = control_argv(a, world),
        .env = control_env(pod, world),
        .mounts = mounts.items,
        .mount_count = mounts.count,
        .wanted = "lateend",
        .ready = CTL_READY_HTTP,
        .ready_port = 8080,
        .ready_path = "/ready",
    };
}

struct ctl_pod_plan *ctl_plan_control_pod(const struct ctl_plan_world *world)
{
    struct lt_arena *arena = lt_arena_new(16384, 0);
    struct ctl_pod_plan *pod = lt_arena_make(arena, struct ctl_pod_plan);
    struct ctl_container_plan *container = lt_arena_make(arena, struct ctl_container_plan);
    struct lt_kv *label = lt_arena_make(arena, struct lt_kv);
    *label = (struct lt_kv){LT_STR("app"), LT_STR("istiod")};
    *pod = (struct ctl_pod_plan){
        .arena = arena,
        .ns = CTL_SYSTEM_NS,
        .name = "istiod",
        .workload = "istiod",
        .kind = "Deployment",
        .service_account = "istiod",
        .hostname = "istiod",
        .labels = {1, label},
        .ip = world->pod_ip(CTL_SYSTEM_NS, "istiod", world->ctx),
        .is_control = true,
        .why = "control plane",
        .containers = container,
        .container_count = 1,
        .grace_s = 5,
    };
    *container = control_container(pod, world);
    return pod;
}

struct ctl_service_plan ctl_plan_control_service(struct lt_arena *arena,
                                                 const struct ctl_plan_world *world)
{
    static const struct {
        const char *name;
        uint16_t port, target;
    } ports[] = {{"grpc-xds", 15010, 15010},
                 {"https-dns", 15012, 15012},
                 {"https-webhook", 443, 15017},
                 {"http-monitoring", 15014, 15014}};
    struct lt_service_spec *spec = lt_arena_make(arena, struct lt_service_spec);
    struct lt_service_port *items = lt_arena_make_n(arena, struct lt_service_port,
                                                    LT_ARRAY_LEN(ports));
    struct lt_kv *label = lt_arena_make(arena, struct lt_kv);
    *label = (struct lt_kv){LT_STR("app"), LT_STR("istiod")};
    for (size_t i = 0; i < LT_ARRAY_LEN(ports); i++) {
        items[i].name = lt_str_of(ports[i].name);
        items[i].port = (struct lt_opt){ports[i].port, true};
        items[i].target_port.number = ports[i].target;
    }
    spec->ports.count = LT_ARRAY_LEN(ports);
    spec->ports.items = items;
    spec->selector = (struct lt_kvs){1, label};
    return (struct ctl_service_plan){
        .ns = CTL_SYSTEM_NS,
        .name = "istiod",
        .ip = world->cluster_ip(CTL_SYSTEM_NS, "istiod", LT_STR_NULL, world->ctx),
        .spec = spec,
    };
}
