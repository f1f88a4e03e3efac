/*
 * proxy/admin/dump_item.c - one element of /config_dump: a resource as the control plane or the
 * bootstrap sent it, and what is known about it. Made from the bytes that are kept anyway.
 * Start at: px_dump_write_item().
 */
#include <stdlib.h>

#include "proxy/admin/dump.h"
#include "proxy/table/vhosts.h"
#include "wire/any.h"
#include "wire/pbjson.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/tls.pb-c.h"

/* --- a message as an Any --- */

static void write_any(struct lt_json_writer *w, struct lt_arena *scratch, void *message)
{
    Pb__Any *any = lt_any_pack(scratch, message);
    lt_pbjson_write(w, scratch, any, NULL);
}

static void *unpack(struct lt_arena *scratch, const ProtobufCMessageDescriptor *type, lt_str bytes)
{
    struct lt_pb_unknowns unknowns = {0};
    struct lt_pb_opts opts = LT_PB_OPTS_DEFAULT;
    void *message = NULL;
    opts.unknowns = &unknowns;
    /* it was read before */
    return lt_pb_unpack(scratch, type, bytes, &opts, &message, NULL) == LT_OK ? message : NULL;
}

static void write_wire(struct lt_json_writer *w, struct lt_arena *scratch, const char *key,
                       const ProtobufCMessageDescriptor *type, const struct px_resource *resource)
{
    void *message = unpack(scratch, type, px_dump_message(resource));
    if (message == NULL)
        return;
    lt_json_key(w, lt_str_of(key));
    write_any(w, scratch, message);
}

lt_str px_dump_message(const struct px_resource *resource)
{
    return resource->is_stored || resource->wire == NULL
               ? LT_STR_NULL
               : lt_str_make(resource->wire, resource->wire_len);
}

static void write_time(struct lt_json_writer *w, const struct px_resource *resource)
{
    char time[32];
    lt_time_format(resource->updated_ns, time);
    if (resource->updated_ns != 0)
        lt_json_kv_str(w, "last_updated", lt_str_of(time));
}

/* What is known of a resource beside its content. */
static void write_facts(struct lt_json_writer *w, const struct px_resource *resource)
{
    write_time(w, resource);
    if (resource->extras == NULL || resource->extras->unhonoured_count == 0)
        return;
    /* no field of Envoy's: readers of its API pass over what they don't know */
    lt_json_kv_array(w, "unhonoured_fields");
    for (size_t i = 0; i < resource->extras->unhonoured_count; i++)
        lt_json_str(w, resource->extras->unhonoured[i]);
    lt_json_array_close(w);
}

static void write_version(struct lt_json_writer *w, const struct px_resource *resource)
{
    lt_str version = px_resource_version(resource);
    if (version.len > 0)
        lt_json_kv_str(w, "version_info", version);
}

/* Envoy's UpdateFailureState. */
static void write_error(const struct px_dump_item *item, const ProtobufCMessageDescriptor *type,
                        struct lt_arena *scratch, struct lt_json_writer *w)
{
    const struct px_row_error *error = item->error;
    char time[32];
    if (error == NULL)
        return;
    void *failed = error->failed.len == 0 ? NULL : unpack(scratch, type, error->failed);
    lt_json_kv_object(w, "error_state");
    if (failed != NULL) {
        lt_json_key(w, LT_STR("failed_configuration"));
        write_any(w, scratch, failed);
    }
    lt_time_format(error->at_ns, time);
    lt_json_kv_str(w, "last_update_attempt", lt_str_of(time));
    lt_json_kv_str(w, "details", error->details);
    if (error->version.len > 0)
        lt_json_kv_str(w, "version_info", error->version);
    lt_json_object_close(w);
}

/* --- clusters and endpoints --- */

static void write_cluster(const struct px_dump_item *item, struct lt_arena *scratch,
                          struct lt_json_writer *w)
{
    write_version(w, item->resource);
    write_wire(w, scratch, "cluster", &xds__cluster__descriptor, item->resource);
    write_facts(w, item->resource);
    write_error(item, &xds__cluster__descriptor, scratch, w);
}

static void write_extension(const struct px_dump_item *item, struct lt_arena *scratch,
                            struct lt_json_writer *w)
{
    write_version(w, item->resource);
    write_wire(w, scratch, "ecds_filter", &xds__typed_extension_config__descriptor, item->resource);
    write_facts(w, item->resource);
    write_error(item, &xds__typed_extension_config__descriptor, scratch, w);
}

static Pb__UInt32Value *wrap(struct lt_arena *scratch, uint32_t value)
{
    Pb__UInt32Value *wrapper = lt_arena_make(scratch, Pb__UInt32Value);
    pb__uint32_value__init(wrapper);
    wrapper->has_value = true;
    wrapper->value = value;
    return wrapper;
}

/* What Envoy says of an endpoint even where the configuration left it out. */
static void fill_endpoint(struct lt_arena *scratch, Xds__LbEndpoint *endpoint)
{
    if (!endpoint->has_health_status || endpoint->health_status == XDS__HEALTH_STATUS__UNKNOWN) {
        endpoint->has_health_status = true;
        endpoint->health_status = XDS__HEALTH_STATUS__HEALTHY;
    }
    if (endpoint->load_balancing_weight == NULL)
        endpoint->load_balancing_weight = wrap(scratch, 1);
    if (endpoint->host_identifier_case != XDS__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT ||
        endpoint->endpoint == NULL || endpoint->endpoint->health_check_config != NULL)
        return;
    Xds__Endpoint__HealthCheckConfig *health = lt_arena_make(scratch,
                                                             Xds__Endpoint__HealthCheckConfig);
    xds__endpoint__health_check_config__init(health);
    endpoint->endpoint->health_check_config = health;
}

static void fill_assignment(struct lt_arena *scratch, Xds__ClusterLoadAssignment *assignment)
{
    for (size_t i = 0; i < assignment->n_endpoints; i++) {
        Xds__LocalityLbEndpoints *group = assignment->endpoints[i];
        if (group->locality == NULL) {
            group->locality = lt_arena_make(scratch, Xds__Locality);
            xds__locality__init(group->locality);
        }
        if (group->load_balancing_weight == NULL)
            group->load_balancing_weight = wrap(scratch, 0);
        for (size_t j = 0; j < group->n_lb_endpoints; j++)
            fill_endpoint(scratch, group->lb_endpoints[j]);
    }
    if (assignment->policy == NULL) {
        assignment->policy = lt_arena_make(scratch, Xds__ClusterLoadAssignment__Policy);
        xds__cluster_load_assignment__policy__init(assignment->policy);
    }
    if (assignment->policy->overprovisioning_factor == NULL)
        assignment->policy->overprovisioning_factor = wrap(scratch, 140);
}

static Xds__ClusterLoadAssignment *read_assignment(const struct px_resource *resource,
                                                   struct lt_arena *scratch)
{
    if (resource->kind == PX_ENDPOINTS)
        return unpack(scratch, &xds__cluster_load_assignment__descriptor,
                      px_dump_message(resource));
    Xds__Cluster *cluster = unpack(scratch, &xds__cluster__descriptor, px_dump_message(resource));
    Xds__ClusterLoadAssignment *assignment = cluster != NULL ? cluster->load_assignment : NULL;
    if (assignment != NULL && (assignment->cluster_name == NULL || *assignment->cluster_name == 0))
        assignment->cluster_name = cluster->name;
    return assignment;
}

static void write_endpoints(const struct px_dump_item *item, struct lt_arena *scratch,
                            struct lt_json_writer *w)
{
    Xds__ClusterLoadAssignment *assignment = read_assignment(item->resource, scratch);
    if (assignment == NULL)
        return;
    fill_assignment(scratch, assignment);
    lt_json_key(w, LT_STR("endpoint_config"));
    write_any(w, scratch, assignment);
}

/* --- listeners --- */

static void write_listener_state(const struct px_resource *resource, struct lt_arena *scratch,
                                 struct lt_json_writer *w)
{
    write_version(w, resource);
    write_wire(w, scratch, "listener", &xds__listener__descriptor, resource);
    write_facts(w, resource);
}

static void write_dynamic_listener(const struct px_dump_item *item, struct lt_arena *scratch,
                                   struct lt_json_writer *w)
{
    const struct px_resource *any = item->resource != NULL ? item->resource : item->warming;
    static const char *const keys[] = {"active_state", "warming_state"};
    const struct px_resource *const states[] = {item->resource, item->warming};
    if (any != NULL)
        lt_json_kv_str(w, "name", any->name);
    for (size_t i = 0; i < LT_ARRAY_LEN(states); i++) {
        if (states[i] == NULL)
            continue;
        lt_json_key(w, lt_str_of(keys[i]));
        lt_json_object_open(w);
        write_listener_state(states[i], scratch, w);
        lt_json_object_close(w);
    }
    write_error(item, &xds__listener__descriptor, scratch, w);
}

/* --- routes --- */

static bool has_own_routes(const struct px_chain *chain)
{
    return chain->hcm != NULL && chain->hcm->routes != NULL;
}

unsigned px_dump_inline_routes(const struct px_listener_conf *listener)
{
    unsigned count = 0;
    for (size_t i = 0; i < listener->chain_count; i++)
        count += has_own_routes(&listener->chains[i]) ? 1 : 0;
    if (listener->default_chain != NULL && has_own_routes(listener->default_chain))
        count++;
    return count;
}

/* Of a chain's last filter; NULL: it has none. */
static Xds__RouteConfiguration *routes_of_chain(const Xds__FilterChain *chain,
                                                struct lt_arena *scratch)
{
    Xds__HttpConnectionManager *hcm = NULL;
    const Xds__Filter *last = chain->n_filters > 0 ? chain->filters[chain->n_filters - 1] : NULL;
    if (last == NULL || last->config_type_case != XDS__FILTER__CONFIG_TYPE_TYPED_CONFIG ||
        lt_any_unpack_as(scratch, last->typed_config, &xds__http_connection_manager__descriptor,
                         NULL, &hcm, NULL) != LT_OK ||
        hcm->route_specifier_case != XDS__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG)
        return NULL;
    return hcm->route_config;
}

static Xds__RouteConfiguration *inline_routes(const struct px_dump_item *item,
                                              struct lt_arena *scratch)
{
    const Xds__Listener *listener = unpack(scratch, &xds__listener__descriptor,
                                           px_dump_message(item->resource));
    unsigned seen = 0;
    for (size_t i = 0; listener != NULL && i <= listener->n_filter_chains; i++) {
        const Xds__FilterChain *chain = i < listener->n_filter_chains
                                            ? listener->filter_chains[i]
                                            : listener->default_filter_chain;
        Xds__RouteConfiguration *routes = chain != NULL ? routes_of_chain(chain, scratch) : NULL;
        if (routes != NULL && seen++ == item->nth)
            return routes;
    }
    return NULL;
}

static void write_static_routes(const struct px_dump_item *item, struct lt_arena *scratch,
                                struct lt_json_writer *w)
{
    Xds__RouteConfiguration *routes = inline_routes(item, scratch);
    if (routes == NULL)
        return;
    lt_json_key(w, LT_STR("route_config"));
    write_any(w, scratch, routes);
    write_time(w, item->resource);
}

/* Virtual hosts on demand stand behind the others, as in Envoy. */
static void add_hosts(Xds__RouteConfiguration *routes, const struct px_vhost_set *hosts,
                      struct lt_arena *scratch)
{
    size_t room = routes->n_virtual_hosts + hosts->count;
    Xds__VirtualHost **all = lt_arena_make_n(scratch, Xds__VirtualHost *, room);
    if (routes->n_virtual_hosts > 0)
        memcpy(all, routes->virtual_hosts, routes->n_virtual_hosts * sizeof(*all));
    routes->virtual_hosts = all;
    for (size_t i = 0; i < hosts->count; i++) {
        Xds__VirtualHost *host = unpack(scratch, &xds__virtual_host__descriptor,
                                        px_dump_message(&hosts->vhosts[i]->res));
        if (host != NULL)
            all[routes->n_virtual_hosts++] = host;
    }
}

static void write_dynamic_routes(const struct px_dump_item *item, struct lt_arena *scratch,
                                 struct lt_json_writer *w)
{
    Xds__RouteConfiguration *routes = unpack(scratch, &xds__route_configuration__descriptor,
                                             px_dump_message(item->resource));
    write_version(w, item->resource);
    if (routes != NULL) {
        if (item->hosts != NULL)
            add_hosts(routes, item->hosts, scratch);
        lt_json_key(w, LT_STR("route_config"));
        write_any(w, scratch, routes);
    }
    write_facts(w, item->resource);
    write_error(item, &xds__route_configuration__descriptor, scratch, w);
}

/* --- secrets: what is public --- */

static Xds__DataSource *source_of(struct lt_arena *scratch, lt_str bytes)
{
    Xds__DataSource *source = lt_arena_make(scratch, Xds__DataSource);
    xds__data_source__init(source);
    source->specifier_case = XDS__DATA_SOURCE__SPECIFIER_INLINE_BYTES;
    source->inline_bytes = (ProtobufCBinaryData){bytes.len, (uint8_t *)bytes.ptr};
    return source;
}

static void write_secret(const struct px_dump_item *item, struct lt_arena *scratch,
                         struct lt_json_writer *w)
{
    const struct px_secret_conf *conf = (const struct px_secret_conf *)item->resource;
    Xds__Secret secret;
    Xds__TlsCertificate cert;
    Xds__CertificateValidationContext context;
    Xds__TlsSessionTicketKeys ticket_keys;
    xds__tls_session_ticket_keys__init(&ticket_keys);
    xds__secret__init(&secret);
    xds__tls_certificate__init(&cert);
    xds__certificate_validation_context__init(&context);
    secret.name = lt_arena_strz(scratch, conf->res.name);
    if (conf->is == PX_SECRET_TRUST) {
        secret.type_case = XDS__SECRET__TYPE_VALIDATION_CONTEXT;
        secret.validation_context = &context;
        context.trusted_ca = source_of(scratch, conf->trust.ca_pem);
        if (conf->trust.crl_pem.len > 0)
            context.crl = source_of(scratch, conf->trust.crl_pem);
    } else if (conf->is == PX_SECRET_TICKET_KEYS) {
        secret.type_case = XDS__SECRET__TYPE_SESSION_TICKET_KEYS; /* of which nothing is public */
        secret.session_ticket_keys = &ticket_keys;
    } else {
        secret.type_case = XDS__SECRET__TYPE_TLS_CERTIFICATE;
        secret.tls_certificate = &cert;
        cert.certificate_chain = source_of(scratch, conf->cert.chain_pem);
        cert.private_key = source_of(scratch, LT_STR("[redacted]")); /* as Envoy shows it */
    }
    lt_json_kv_str(w, "name", conf->res.name);
    write_version(w, &conf->res);
    lt_json_key(w, LT_STR("secret"));
    write_any(w, scratch, &secret);
    write_facts(w, &conf->res);
}

/* --- all --- */

void px_dump_item_free(struct px_dump_item *item)
{
    px_resource_unref(&item->resource);
    px_resource_unref(&item->warming);
    px_row_error_unref(&item->error);
    px_vhost_set_unref(&item->hosts);
    free(item);
}

void px_dump_write_item(const struct px_dump_item *item, const char *type, struct lt_arena *scratch,
                        struct lt_json_writer *w)
{
    typedef void write_fn(const struct px_dump_item *item, struct lt_arena *scratch,
                          struct lt_json_writer *w);
    static write_fn *const writers[PX_DUMP_FIELDS] = {
        [PX_DUMP_STATIC_CLUSTERS] = write_cluster,
        [PX_DUMP_DYNAMIC_CLUSTERS] = write_cluster,
        [PX_DUMP_WARMING_CLUSTERS] = write_cluster,
        [PX_DUMP_ECDS_FILTERS] = write_extension,
        [PX_DUMP_STATIC_ENDPOINTS] = write_endpoints,
        [PX_DUMP_DYNAMIC_ENDPOINTS] = write_endpoints,
        [PX_DUMP_DYNAMIC_LISTENERS] = write_dynamic_listener,
        [PX_DUMP_STATIC_ROUTES] = write_static_routes,
        [PX_DUMP_DYNAMIC_ROUTES] = write_dynamic_routes,
        [PX_DUMP_STATIC_SECRETS] = write_secret,
        [PX_DUMP_DYNAMIC_SECRETS] = write_secret,
        [PX_DUMP_WARMING_SECRETS] = write_secret,
    };
    lt_json_object_open(w);
    if (type != NULL)
        lt_json_kv_str(w, "@type", lt_str_of(type));
    if (item->field == PX_DUMP_STATIC_LISTENERS)
        write_listener_state(item->resource, scratch, w);
    else
        writers[item->field](item, scratch, w);
    lt_json_object_close(w);
}
