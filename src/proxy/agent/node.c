/*
 * proxy/agent/node.c - who this proxy says it is: node id, cluster, locality and metadata, from
 * environment, labels and annotations. Rules: Istio's pkg/bootstrap, node metadata.
 * Start at: px_agent_read_node().
 */
#include "proxy/agent/settings.h"
#include "wire/json.h"

/* Of the Istio line whose behaviour this is; control planes choose by it. */
#define ISTIO_VERSION "1.32.0"

static const char meta_prefix[] = "ISTIO_META_";
static const char json_prefix[] = "ISTIO_METAJSON_";

/* --- the downward API --- */

/* Go quotes nearly as JSON does; what differs can't be in a label. */
static bool unquote(struct lt_arena *arena, lt_str quoted, lt_str *ret_text)
{
    const struct lt_doc *doc = NULL;
    struct lt_err err;
    if (lt_json_parse(arena, quoted, NULL, &doc, &err) != LT_OK || doc->kind != LT_DOC_STRING)
        return false;
    *ret_text = doc->string;
    return true;
}

struct lt_doc px_agent_read_downward(struct lt_arena *arena, const struct px_agent_sources *sources,
                                     const char *path)
{
    struct lt_doc object = lt_doc_of_object();
    lt_str text, line, key, value;
    if (sources->read_file(sources->ctx, arena, path, &text) != LT_OK)
        return object;
    while (lt_str_split(&text, '\n', &line)) {
        if (lt_str_split(&line, '=', &key) && key.len > 0 && unquote(arena, line, &value))
            lt_doc_set(arena, &object, key, lt_doc_of_str(value));
    }
    return object;
}

/* --- metadata --- */

static void set_str(struct lt_arena *arena, struct lt_doc *object, const char *key, lt_str value)
{
    lt_doc_set(arena, object, lt_str_of(key), lt_doc_of_str(value));
}

/* What nobody else has said. */
static void set_default(struct lt_arena *arena, struct lt_doc *object, const char *key,
                        lt_str value)
{
    if (value.len > 0 && lt_doc_findz(object, key) == NULL)
        set_str(arena, object, key, value);
}

/*
 * ISTIO_METAJSON_LABELS are labels; any other such variable is an object whose members become
 * metadata.
 */
static lt_rc add_json(struct lt_arena *arena, struct lt_doc *metadata, lt_str name, lt_str text,
                      struct lt_err *err)
{
    const struct lt_doc *doc = NULL;
    lt_rc rc = lt_json_parse(arena, text, NULL, &doc, err);
    if (rc == LT_OK && doc->kind != LT_DOC_OBJECT)
        rc = lt_err_set(err, LT_E_BAD, "expected a JSON object");
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "%s%.*s", json_prefix, LT_STR_ARG(name));
    if (lt_str_eqz(name, "LABELS")) {
        lt_doc_set(arena, metadata, LT_STR("STATIC_LABELS"), *doc);
        return LT_OK;
    }
    for (uint32_t i = 0; i < doc->count; i++)
        lt_doc_set(arena, metadata, doc->members[i].key, doc->members[i].value);
    return LT_OK;
}

static lt_rc add_variable(struct lt_arena *arena, struct lt_doc *metadata, lt_str name,
                          lt_str value, struct lt_err *err)
{
    size_t json_len = sizeof(json_prefix) - 1, meta_len = sizeof(meta_prefix) - 1;
    if (lt_str_starts(name, lt_str_of(json_prefix)) && name.len > json_len)
        return add_json(arena, metadata, lt_str_from(name, json_len), value, err);
    if (lt_str_starts(name, lt_str_of(meta_prefix)) && name.len > meta_len)
        lt_doc_set(arena, metadata, lt_arena_str(arena, lt_str_from(name, meta_len)),
                   lt_doc_of_str(lt_arena_str(arena, value)));
    return LT_OK;
}

/* ProxyConfig.proxyMetadata first: the environment wins. */
static lt_rc add_variables(struct lt_arena *arena, const struct px_agent_sources *sources,
                           struct px_agent_settings *settings, struct lt_err *err)
{
    const struct lt_doc *configured = lt_doc_findz(&settings->proxy_config, "proxyMetadata");
    for (uint32_t i = 0; lt_doc_is(configured, LT_DOC_OBJECT) && i < configured->count; i++) {
        const struct lt_doc_member *member = &configured->members[i];
        LT_TRY(add_variable(arena, &settings->metadata, member->key, lt_doc_string(&member->value),
                            err));
    }
    for (const char *const *at = sources->all_env; *at != NULL; at++) {
        lt_str entry = lt_str_of(*at), name;
        if (lt_str_split(&entry, '=', &name) && entry.ptr != NULL)
            LT_TRY(add_variable(arena, &settings->metadata, name, entry, err));
    }
    return LT_OK;
}

static void add_labels(struct lt_arena *arena, const struct px_agent_sources *sources,
                       struct px_agent_settings *settings)
{
    const struct lt_doc *fixed = lt_doc_findz(&settings->metadata, "STATIC_LABELS");
    struct lt_doc labels = lt_doc_is(fixed, LT_DOC_OBJECT) ? lt_doc_copy(arena, fixed)
                                                           : lt_doc_of_object();
    struct lt_doc pod = px_agent_read_downward(arena, sources, "./etc/istio/pod/labels");
    if (!lt_doc_is(fixed, LT_DOC_OBJECT))
        lt_doc_set(arena, &settings->metadata, LT_STR("STATIC_LABELS"), lt_doc_of_object());
    for (uint32_t i = 0; i < pod.count; i++) {
        if (!lt_str_eqz(pod.members[i].key, "pod-template-hash"))
            lt_doc_set(arena, &labels, pod.members[i].key, pod.members[i].value);
    }
    lt_doc_set(arena, &settings->metadata, LT_STR("LABELS"), labels);
    lt_doc_set(arena, &settings->metadata, LT_STR("ANNOTATIONS"), settings->annotations);
}

static void add_own_facts(struct lt_arena *arena, struct px_agent_settings *settings)
{
    struct lt_doc *metadata = &settings->metadata, sans = lt_doc_of_array();
    set_default(arena, metadata, "ISTIO_VERSION", LT_STR(ISTIO_VERSION));
    set_default(arena, metadata, "CLUSTER_ID", settings->cluster_id);
    set_default(arena, metadata, "NAME", settings->pod_name);
    set_default(arena, metadata, "NAMESPACE", settings->pod_namespace);
    set_default(arena, metadata, "SERVICE_ACCOUNT", settings->service_account);
    set_default(arena, metadata, "INSTANCE_IPS", settings->instance_ip);
    set_default(arena, metadata, "INTERCEPTION_MODE", LT_STR("REDIRECT"));
    lt_doc_set(arena, metadata, LT_STR("ENVOY_STATUS_PORT"), lt_doc_of_int(settings->health_port));
    lt_doc_set(arena, metadata, LT_STR("ENVOY_PROMETHEUS_PORT"),
               lt_doc_of_int(settings->prometheus_port));
    lt_doc_push(arena, &sans, lt_doc_of_str(settings->xds_name));
    lt_doc_set(arena, metadata, LT_STR("PILOT_SAN"), sans);
    lt_doc_set(arena, metadata, LT_STR("PROXY_CONFIG"), settings->proxy_config);
}

/* --- id, cluster, locality --- */

static lt_str service_cluster(struct lt_arena *arena, const struct px_agent_settings *settings)
{
    static const char *const app_labels[] = {"app", "app.kubernetes.io/name",
                                             "service.istio.io/canonical-name"};
    lt_str configured = lt_doc_string(lt_doc_findz(&settings->proxy_config, "serviceCluster"));
    if (configured.len > 0 && !lt_str_eqz(configured, "istio-proxy"))
        return configured;
    const struct lt_doc *labels = lt_doc_findz(&settings->metadata, "LABELS");
    lt_str app = LT_STR_NULL;
    for (size_t i = 0; i < LT_ARRAY_LEN(app_labels) && app.len == 0; i++)
        app = lt_doc_string(lt_doc_findz(labels, app_labels[i]));
    if (app.len == 0)
        app = lt_doc_string(lt_doc_findz(&settings->metadata, "WORKLOAD_NAME"));
    if (app.len == 0)
        app = LT_STR("istio-proxy");
    return lt_arena_printf(arena, "%.*s.%.*s", LT_STR_ARG(app),
                           LT_STR_ARG(settings->pod_namespace));
}

static lt_str locality(struct lt_arena *arena, const struct px_agent_settings *settings)
{
    const struct lt_doc *labels = lt_doc_findz(&settings->metadata, "LABELS");
    lt_str named = lt_doc_string(lt_doc_findz(labels, "topology.istio.io/locality"));
    if (named.len == 0)
        named = lt_doc_string(lt_doc_findz(labels, "istio-locality"));
    char *text = lt_arena_strz(arena, named);
    /* a label may not hold "/" */
    if (lt_str_find_char(named, '/') < 0) {
        for (char *c = text; *c != '\0'; c++)
            *c = *c == '.' ? '/' : *c;
    }
    return lt_str_make(text, named.len);
}

lt_rc px_agent_read_node(struct lt_arena *arena, const struct px_agent_sources *sources,
                         struct px_agent_settings *settings, struct lt_err *err)
{
    settings->metadata = lt_doc_of_object();
    LT_TRY(add_variables(arena, sources, settings, err));
    add_own_facts(arena, settings);
    add_labels(arena, sources, settings);
    settings->node_cluster = service_cluster(arena, settings);
    lt_doc_set(arena, &settings->proxy_config, LT_STR("serviceCluster"),
               lt_doc_of_str(settings->node_cluster));
    lt_doc_set(arena, &settings->metadata, LT_STR("PROXY_CONFIG"), settings->proxy_config);
    settings->locality = locality(arena, settings);
    lt_str domain = sources->domain != NULL ? lt_str_of(sources->domain)
                                            : lt_arena_printf(arena, "%.*s.svc.cluster.local",
                                                              LT_STR_ARG(settings->pod_namespace));
    settings->node_id = lt_arena_printf(
        arena, "%s~%.*s~%.*s.%.*s~%.*s", settings->is_router ? "router" : "sidecar",
        LT_STR_ARG(settings->instance_ip), LT_STR_ARG(settings->pod_name),
        LT_STR_ARG(settings->pod_namespace), LT_STR_ARG(domain));
    return LT_OK;
}

struct lt_doc px_agent_node_doc(struct lt_arena *arena, const struct px_agent_settings *settings)
{
    static const char *const levels[] = {"region", "zone", "sub_zone"};
    struct lt_doc node = lt_doc_of_object();
    set_str(arena, &node, "id", settings->node_id);
    set_str(arena, &node, "cluster", settings->node_cluster);
    lt_doc_set(arena, &node, LT_STR("metadata"), settings->metadata);
    if (settings->locality.len > 0) {
        struct lt_doc place = lt_doc_of_object();
        lt_str rest = settings->locality, part;
        for (size_t i = 0; i < LT_ARRAY_LEN(levels) && lt_str_split(&rest, '/', &part); i++)
            set_str(arena, &place, levels[i], part);
        lt_doc_set(arena, &node, LT_STR("locality"), place);
    }
    return node;
}
