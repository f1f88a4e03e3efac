/*
 * proxy/start/bootstrap.c - an Envoy bootstrap file.
 * Start at: px_bootstrap_load().
 */
#include "proxy/start/bootstrap.h"

#include <malloc.h>

#include "proxy/compile/build.h"
#include "proxy/compile/fields.h"
#include "proxy/compile/overload.h"
#include "proxy/start/bootstrap_check.h"
#include "proxy/start/runtime.h"
#include "wire/pbjson.h"
#include "wire/proto/bootstrap.pb-c.h"
#include "wire/proto/log_file.pb-c.h"
#include "wire/yaml.h"

static lt_rc read_text(struct lt_arena *arena, lt_str text, Xds__Bootstrap **ret_message,
                       struct lt_err *err)
{
    const struct lt_doc *doc = NULL;
    LT_TRY(lt_yaml_or_json_parse(arena, text, NULL, &doc, err));
    if (!lt_doc_is(doc, LT_DOC_OBJECT))
        return lt_err_set(err, LT_E_BAD, "expected an object at the top, got %s",
                          lt_doc_kind_name(doc->kind));
    return lt_pbjson_read(arena, doc, &xds__bootstrap__descriptor, NULL, ret_message, err);
}

static lt_rc put_all(struct lt_arena *arena, struct px_table *table, px_resource_kind kind,
                     const char *field, ProtobufCMessage **messages, size_t count,
                     struct lt_err *err)
{
    for (size_t i = 0; i < count; i++) {
        lt_str bytes = lt_pb_pack(arena, messages[i]);
        lt_rc rc = px_table_put(table, kind, LT_STR_NULL, LT_STR_NULL, bytes, err);
        if (rc != LT_OK)
            return lt_err_wrap(err, rc, "static_resources.%s[%zu]", field, i);
    }
    return LT_OK;
}

/*
 * Envoy refuses two clusters or secrets of one name, where the second would take the place of the
 * first.
 */
static lt_rc check_names(ProtobufCMessage **messages, size_t count, const char *field,
                         lt_str (*name_of)(const ProtobufCMessage *), struct lt_err *err)
{
    struct lt_map names;
    lt_rc rc = LT_OK;
    lt_map_init(&names);
    for (size_t i = 0; i < count && rc == LT_OK; i++) {
        lt_str name = name_of(messages[i]);
        if (lt_map_find(&names, name) != NULL)
            rc = lt_err_set(err, LT_E_BAD, "static_resources.%s[%zu]: duplicate name '%.*s'", field,
                            i, LT_STR_ARG(name));
        lt_map_put(&names, name, messages[i]);
    }
    lt_map_fini(&names);
    return rc;
}

static lt_str cluster_name(const ProtobufCMessage *message)
{
    return lt_str_of(((const Xds__Cluster *)message)->name);
}

static lt_str secret_name(const ProtobufCMessage *message)
{
    return lt_str_of(((const Xds__Secret *)message)->name);
}

/* Names are optional, and two listeners without one are two. Envoy makes up a UUID. */
static void name_listeners(struct lt_arena *arena, Xds__Listener **listeners, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (listeners[i]->name == NULL || listeners[i]->name[0] == '\0')
            listeners[i]->name =
                (char *)lt_arena_printf(arena, "static_resources.listeners[%zu]", i).ptr;
    }
}

/* For dumps; static resources are in the table already. */
static lt_str keep_message(struct lt_arena *arena, Xds__Bootstrap *in)
{
    Xds__Bootstrap__StaticResources *resources = in->static_resources;
    in->static_resources = NULL;
    lt_str bytes = lt_pb_pack(arena, in);
    in->static_resources = resources;
    return bytes;
}

/* Secrets before clusters before listeners: nothing waits longer than it must. */
static lt_rc put_static(struct lt_arena *arena, struct px_table *table,
                        const Xds__Bootstrap__StaticResources *resources, struct lt_err *err)
{
    if (resources == NULL)
        return LT_OK;
    LT_TRY(check_names((ProtobufCMessage **)resources->secrets, resources->n_secrets, "secrets",
                       secret_name, err));
    LT_TRY(check_names((ProtobufCMessage **)resources->clusters, resources->n_clusters, "clusters",
                       cluster_name, err));
    name_listeners(arena, resources->listeners, resources->n_listeners);
    LT_TRY(put_all(arena, table, PX_SECRET, "secrets", (ProtobufCMessage **)resources->secrets,
                   resources->n_secrets, err));
    LT_TRY(put_all(arena, table, PX_CLUSTER, "clusters", (ProtobufCMessage **)resources->clusters,
                   resources->n_clusters, err));
    return put_all(arena, table, PX_LISTENER, "listeners",
                   (ProtobufCMessage **)resources->listeners, resources->n_listeners, err);
}

static lt_rc read_admin(const Xds__Admin *admin, struct px_bootstrap *bootstrap, struct lt_err *err)
{
    if (admin == NULL || admin->address == NULL)
        return LT_OK;
    const Xds__Address *address = admin->address;
    if (address->address_case == XDS__ADDRESS__ADDRESS_PIPE)
        return lt_addr_unix(lt_str_of(address->pipe->path), &bootstrap->admin);
    const Xds__SocketAddress *socket = address->address_case == XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS
                                           ? address->socket_address
                                           : NULL;
    if (socket == NULL ||
        socket->port_specifier_case != XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE ||
        socket->port_value > UINT16_MAX ||
        lt_addr_parse(lt_str_of(socket->address), (uint16_t)socket->port_value,
                      &bootstrap->admin) != LT_OK)
        return lt_err_set(err, LT_E_BAD, "admin.address: an IP address and port_value are needed");
    return LT_OK;
}

static void read_home(const Xds__Bootstrap *in, struct px_bootstrap *bootstrap)
{
    struct lt_arena *arena = bootstrap->arena;
    const Xds__Locality *locality = in->node != NULL ? in->node->locality : NULL;
    if (locality != NULL)
        bootstrap->home.here = (struct px_locality){
            .region = lt_arena_str(arena, lt_str_of(locality->region)),
            .zone = lt_arena_str(arena, lt_str_of(locality->zone)),
            .sub_zone = lt_arena_str(arena, lt_str_of(locality->sub_zone)),
        };
    if (in->cluster_manager != NULL)
        bootstrap->home.local_cluster = lt_arena_str(
            arena, lt_str_of(in->cluster_manager->local_cluster_name));
}

/* --- dynamic_resources --- */

static lt_rc read_set(struct px_build *build, const char *field, const Xds__ConfigSource *in,
                      const struct px_source **ret_source, uint32_t *ret_timeout_ms)
{
    return in == NULL ? LT_OK : px_make_source(build, field, in, ret_source, ret_timeout_ms);
}

static lt_rc read_ads(struct px_build *build, const Xds__ApiConfigSource *in,
                      const struct px_source **ret_source)
{
    struct px_source source = {0};
    struct px_sources *sources = px_tls_slots_rows(build->slots)->sources;
    px_sources_set_ads(sources, in != NULL);
    if (in == NULL)
        return LT_OK;
    LT_TRY(px_make_api_source(build, "ads_config", in, &source));
    *ret_source = px_source_intern(sources, &source);
    return LT_OK;
}

static lt_rc read_roots(struct lt_arena *scratch, const Xds__Bootstrap__DynamicResources *in,
                        struct px_table *table, struct px_feed_roots *roots, struct lt_err *err)
{
    struct px_build *build = lt_arena_make(scratch, struct px_build);
    *build = (struct px_build){.arena = scratch,
                               .scratch = scratch,
                               .err = err,
                               .slots = px_table_slots(table),
                               .own = px_source_bootstrap(px_table_rows(table)->sources)};
    LT_TRY(read_ads(build, in != NULL ? in->ads_config : NULL, &roots->ads));
    if (in == NULL)
        return LT_OK;
    size_t mark = px_path_enter(build, "dynamic_resources", -1);
    if ((in->lds_resources_locator != NULL && in->lds_resources_locator[0] != '\0') ||
        (in->cds_resources_locator != NULL && in->cds_resources_locator[0] != '\0'))
        return px_unsupported(build, "lds_resources_locator", "xdstp names are not supported");
    LT_TRY(read_set(build, "cds_config", in->cds_config, &roots->cds, &roots->cds_timeout_ms));
    LT_TRY(read_set(build, "lds_config", in->lds_config, &roots->lds, &roots->lds_timeout_ms));
    px_path_leave(build, mark);
    return LT_OK;
}

static lt_rc read_load_stats(struct lt_arena *scratch, const Xds__ClusterManager *in,
                             struct px_table *table, struct px_bootstrap *bootstrap,
                             struct lt_err *err)
{
    const Xds__ApiConfigSource *config = in != NULL ? in->load_stats_config : NULL;
    struct px_source source = {0};
    struct px_sources *sources = px_table_rows(table)->sources;
    struct px_build *build = lt_arena_make(scratch, struct px_build);
    *build = (struct px_build){.arena = scratch,
                               .scratch = scratch,
                               .err = err,
                               .slots = px_table_slots(table),
                               .own = px_source_bootstrap(sources)};
    if (config == NULL)
        return LT_OK;
    LT_TRY(px_make_api_source(build, "cluster_manager.load_stats_config", config, &source));
    bootstrap->load_stats = px_source_intern(sources, &source);
    return LT_OK;
}

/* Static resources are held to the table of fields one by one, as they are put. */
static lt_rc list_unhonoured(struct px_build *build, Xds__Bootstrap *in,
                             struct px_bootstrap *bootstrap)
{
    static const struct lt_pb_unknowns none; /* a name that is not known is an error */
    Xds__Bootstrap__StaticResources *resources = in->static_resources;
    in->static_resources = NULL;
    lt_rc rc = px_check_fields(build, in, &none);
    in->static_resources = resources;
    if (rc == LT_OK)
        bootstrap->unhonoured = px_listed_make(build, &bootstrap->unhonoured_count);
    return rc;
}

/* Requests of the admin pages are logged nowhere, and nowhere is what most bootstraps say. */
static bool is_nowhere(const char *path)
{
    return path == NULL || path[0] == '\0' || strcmp(path, "/dev/null") == 0;
}

static lt_rc list_admin_logs(struct px_build *build, const Xds__Admin *admin)
{
    if (admin != NULL && !is_nowhere(admin->access_log_path))
        px_unhonoured(build, "admin.access_log_path");
    for (size_t i = 0; admin != NULL && i < admin->n_access_log; i++) {
        const Pb__Any *any = admin->access_log[i]->typed_config;
        const Xds__FileAccessLog *file = NULL;
        if (lt_str_eqz(px_any_type(build, any), xds__file_access_log__descriptor.name))
            LT_TRY(px_unpack_any(build, "admin.access_log", any, &xds__file_access_log__descriptor,
                                 &file));
        if (file == NULL || !is_nowhere(file->path))
            px_unhonoured(build, "admin.access_log");
    }
    return LT_OK;
}

/* What is the bootstrap's own: metrics, pressure, what does nothing. */
static lt_rc read_own(struct lt_arena *scratch, Xds__Bootstrap *in, struct px_table *table,
                      struct px_bootstrap *bootstrap, struct lt_err *err)
{
    struct px_build *build = lt_arena_make(scratch, struct px_build);
    *build = (struct px_build){
        .arena = bootstrap->arena, .scratch = scratch, .err = err, .slots = px_table_slots(table)};
    px_pressure_conf_init(&bootstrap->pressure);
    lt_rc rc = px_make_stats_config(build, in->stats_config, &bootstrap->stats);
    bootstrap->regexes = build->regexes;
    LT_TRY(rc);
    px_read_runtime(build, in->layered_runtime, &bootstrap->pressure);
    if (in->overload_manager != NULL)
        LT_TRY(px_make_overload(build, in->overload_manager, &bootstrap->pressure));
    LT_TRY(list_admin_logs(build, in->admin));
    return list_unhonoured(build, in, bootstrap);
}

static lt_rc fill(Xds__Bootstrap *in, struct px_table *table, struct px_bootstrap *bootstrap,
                  struct lt_err *err)
{
    if (in->node != NULL) {
        bootstrap->node_id = lt_arena_str(bootstrap->arena, lt_str_of(in->node->id));
        bootstrap->node_cluster = lt_arena_str(bootstrap->arena, lt_str_of(in->node->cluster));
        bootstrap->node = lt_pb_pack(bootstrap->arena, in->node);
    }
    bootstrap->message = keep_message(bootstrap->arena, in);
    read_home(in, bootstrap);
    LT_TRY(read_admin(in->admin, bootstrap, err));
    struct lt_arena *scratch = lt_arena_new(0, 0);
    lt_rc rc = read_own(scratch, in, table, bootstrap, err);
    if (rc == LT_OK)
        rc = read_roots(scratch, in->dynamic_resources, table, &bootstrap->roots, err);
    if (rc == LT_OK)
        rc = read_load_stats(scratch, in->cluster_manager, table, bootstrap, err);
    px_table_set_static(table, true);
    if (rc == LT_OK)
        rc = put_static(scratch, table, in->static_resources, err);
    px_table_set_static(table, false);
    lt_arena_wipe_free(&scratch);
    return rc == LT_OK ? px_bootstrap_check(table, err) : rc;
}

lt_rc px_bootstrap_load(lt_str text, struct px_table *table, struct px_bootstrap *ret_bootstrap,
                        struct lt_err *err)
{
    struct lt_arena *scratch = lt_arena_new(64 * 1024, 0);
    struct px_bootstrap bootstrap = {.arena = lt_arena_new(1024, 0)};
    Xds__Bootstrap *message = NULL;
    lt_rc rc = read_text(scratch, text, &message, err);
    if (rc == LT_OK)
        rc = fill(message, table, &bootstrap, err);
    lt_arena_wipe_free(&scratch);
    malloc_trim(0); /* reading a file of thousands of clusters takes several times what is kept */
    if (rc != LT_OK) {
        px_bootstrap_fini(&bootstrap);
        return rc;
    }
    *ret_bootstrap = bootstrap;
    return LT_OK;
}

void px_bootstrap_fini(struct px_bootstrap *bootstrap)
{
    for (size_t i = 0; i < bootstrap->regexes.count; i++)
        lt_regex_free((struct lt_regex **)&bootstrap->regexes.items[i]);
    lt_vec_fini(&bootstrap->regexes);
    lt_arena_free(&bootstrap->arena);
}
