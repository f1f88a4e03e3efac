/*
 * control/translate_value.c - the small messages that clusters, listeners and routes are made of.
 */
#include <math.h>
#include <stdarg.h>

#include "base/env.h"
#include "control/translate_priv.h"
#include "wire/struct.h"

void *cp_grow(struct lt_arena *arena, void *array, size_t count)
{
    /* full at every power of two */
    if ((count & (count - 1)) != 0)
        return array;
    void **grown = lt_arena_make_n(arena, void *, count == 0 ? 1 : count * 2);
    if (count > 0)
        memcpy(grown, array, count * sizeof(void *));
    return grown;
}

const char *cp_z(struct cp_translation *t, lt_str s)
{
    return lt_arena_strz(t->arena, s);
}

const char *cp_zf(struct cp_translation *t, const char *fmt, ...)
{
    char small[512];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(small, sizeof(small), fmt, args);
    va_end(args);
    LT_ASSERT(len >= 0);
    char *text = lt_arena_bytes(t->arena, (size_t)len + 1);
    if ((size_t)len < sizeof(small)) {
        memcpy(text, small, (size_t)len + 1);
        return text;
    }
    va_start(args, fmt);
    vsnprintf(text, (size_t)len + 1, fmt, args);
    va_end(args);
    return text;
}

/* ---- wrappers ---- */

Pb__Duration *cp_duration(struct cp_translation *t, int64_t ns)
{
    Pb__Duration *d = CP_NEW(t, Pb__Duration, pb__duration);
    d->seconds = ns / (int64_t)LT_NS_PER_S;
    d->nanos = (int32_t)(ns % (int64_t)LT_NS_PER_S);
    d->has_seconds = d->seconds != 0;
    d->has_nanos = d->nanos != 0;
    return d;
}

Pb__UInt32Value *cp_u32(struct cp_translation *t, uint32_t value)
{
    Pb__UInt32Value *v = CP_NEW(t, Pb__UInt32Value, pb__uint32_value);
    v->value = value;
    v->has_value = value != 0;
    return v;
}

Pb__UInt64Value *cp_u64(struct cp_translation *t, uint64_t value)
{
    Pb__UInt64Value *v = CP_NEW(t, Pb__UInt64Value, pb__uint64_value);
    v->value = value;
    v->has_value = value != 0;
    return v;
}

Pb__BoolValue *cp_bool(struct cp_translation *t, bool value)
{
    Pb__BoolValue *v = CP_NEW(t, Pb__BoolValue, pb__bool_value);
    v->value = value;
    v->has_value = value;
    return v;
}

Xds__Percent *cp_percent(struct cp_translation *t, double value)
{
    Xds__Percent *p = CP_NEW(t, Xds__Percent, xds__percent);
    p->value = value;
    p->has_value = value != 0;
    return p;
}

Xds__FractionalPercent *cp_fraction(struct cp_translation *t, double percent)
{
    Xds__FractionalPercent *f = CP_NEW(t, Xds__FractionalPercent, xds__fractional_percent);
    f->numerator = (uint32_t)lround(percent * 10000);
    f->has_numerator = f->numerator != 0;
    f->denominator = XDS__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__MILLION;
    f->has_denominator = true;
    return f;
}

Xds__RuntimeFractionalPercent *cp_runtime_fraction(struct cp_translation *t, double percent)
{
    Xds__RuntimeFractionalPercent *f = CP_NEW(t, Xds__RuntimeFractionalPercent,
                                              xds__runtime_fractional_percent);
    f->default_value = cp_fraction(t, percent);
    return f;
}

/* ---- addresses and sources ---- */

Xds__SocketAddress *cp_socket_address(struct cp_translation *t, const char *ip, uint16_t port)
{
    Xds__SocketAddress *socket = CP_NEW(t, Xds__SocketAddress, xds__socket_address);
    socket->address = ip;
    socket->port_specifier_case = XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    socket->port_value = port;
    return socket;
}

Xds__Address *cp_address(struct cp_translation *t, const char *ip, uint16_t port)
{
    Xds__Address *address = CP_NEW(t, Xds__Address, xds__address);
    address->address_case = XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS;
    address->socket_address = cp_socket_address(t, ip, port);
    return address;
}

Xds__ConfigSource *cp_ads(struct cp_translation *t)
{
    Xds__ConfigSource *source = CP_NEW(t, Xds__ConfigSource, xds__config_source);
    source->config_source_specifier_case = XDS__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS;
    source->ads = CP_NEW(t, Xds__AggregatedConfigSource, xds__aggregated_config_source);
    source->initial_fetch_timeout = cp_duration(t, 0);
    source->resource_api_version = XDS__API_VERSION__V3;
    source->has_resource_api_version = true;
    return source;
}

Xds__SdsSecretConfig *cp_sds(struct cp_translation *t, const char *name, bool waits_for_ever)
{
    Xds__GrpcService *service = CP_NEW(t, Xds__GrpcService, xds__grpc_service);
    service->target_specifier_case = XDS__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC;
    service->envoy_grpc = CP_NEW(t, Xds__GrpcService__EnvoyGrpc, xds__grpc_service__envoy_grpc);
    service->envoy_grpc->cluster_name = "sds-grpc";
    Xds__ApiConfigSource *api = CP_NEW(t, Xds__ApiConfigSource, xds__api_config_source);
    api->api_type = XDS__API_CONFIG_SOURCE__API_TYPE__GRPC;
    api->has_api_type = true;
    api->transport_api_version = XDS__API_VERSION__V3;
    api->has_transport_api_version = true;
    api->set_node_on_first_message_only = api->has_set_node_on_first_message_only = true;
    CP_PUSH(t, api->grpc_services, api->n_grpc_services, service);
    Xds__ConfigSource *source = CP_NEW(t, Xds__ConfigSource, xds__config_source);
    source->config_source_specifier_case =
        XDS__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE;
    source->api_config_source = api;
    source->initial_fetch_timeout = waits_for_ever ? cp_duration(t, 0) : NULL;
    source->resource_api_version = XDS__API_VERSION__V3;
    source->has_resource_api_version = true;
    Xds__SdsSecretConfig *sds = CP_NEW(t, Xds__SdsSecretConfig, xds__sds_secret_config);
    sds->name = name;
    sds->sds_config = source;
    return sds;
}

/* ---- matchers ---- */

Xds__StringMatcher *cp_string_exact(struct cp_translation *t, const char *value)
{
    Xds__StringMatcher *m = CP_NEW(t, Xds__StringMatcher, xds__string_matcher);
    m->match_pattern_case = XDS__STRING_MATCHER__MATCH_PATTERN_EXACT;
    m->exact = value;
    return m;
}

Xds__StringMatcher *cp_string_match(struct cp_translation *t, const struct lt_string_match *match)
{
    Xds__StringMatcher *m = cp_string_exact(t, cp_z(t, match->exact));
    if (match->prefix.ptr != NULL) {
        m->match_pattern_case = XDS__STRING_MATCHER__MATCH_PATTERN_PREFIX;
        m->prefix = cp_z(t, match->prefix);
    } else if (match->regex.ptr != NULL) {
        m->match_pattern_case = XDS__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX;
        m->safe_regex = CP_NEW(t, Xds__RegexMatcher, xds__regex_matcher);
        m->safe_regex->regex = cp_z(t, match->regex);
    }
    return m;
}

/* ---- metadata ---- */

void cp_add_metadata(struct cp_translation *t, Xds__Metadata *metadata, const char *key,
                     const struct lt_doc *st)
{
    Xds__Metadata__FilterMetadataEntry *entry = CP_NEW(t, Xds__Metadata__FilterMetadataEntry,
                                                       xds__metadata__filter_metadata_entry);
    entry->key = key;
    entry->value = lt_struct_from_doc(t->arena, st);
    CP_PUSH(t, metadata->filter_metadata, metadata->n_filter_metadata, entry);
}

const char *cp_object_path(struct cp_translation *t, const struct lt_object *object)
{
    const struct lt_kind *kind = lt_kind_get(object->key.kind);
    const char *words = object->key.kind == LT_KIND_VIRTUAL_SERVICE ? "virtual-service"
                                                                    : "destination-rule";
    return cp_zf(t, "/apis/%s/v1/namespaces/%.*s/%s/%.*s", kind->group, LT_STR_ARG(object->key.ns),
                 words, LT_STR_ARG(object->key.name));
}

Xds__Metadata *cp_object_metadata(struct cp_translation *t, const struct lt_object *object)
{
    Xds__Metadata *metadata = CP_NEW(t, Xds__Metadata, xds__metadata);
    struct lt_doc istio = lt_doc_of_object();
    lt_doc_set(t->arena, &istio, LT_STR("config"),
               lt_doc_of_str(lt_str_of(cp_object_path(t, object))));
    cp_add_metadata(t, metadata, "istio", &istio);
    return metadata;
}
