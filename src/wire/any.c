/*
 * wire/any.c - which schema a type URL names, and the message inside.
 * Trust: type URL and value are a stranger's.   Start at: lt_any_unpack().
 */
#include "wire/any.h"

#include "wire/pbjson.h"
#include "wire/proto/bootstrap.pb-c.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/cluster_dns.pb-c.h"
#include "wire/proto/cluster_dynamic_forward_proxy.pb-c.h"
#include "wire/proto/core.pb-c.h"
#include "wire/proto/dns_cares.pb-c.h"
#include "wire/proto/early_header_mutation.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/format_cel.pb-c.h"
#include "wire/proto/format_metadata.pb-c.h"
#include "wire/proto/format_req.pb-c.h"
#include "wire/proto/google.pb-c.h"
#include "wire/proto/google_rpc.pb-c.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/http_buffer.pb-c.h"
#include "wire/proto/http_compressor.pb-c.h"
#include "wire/proto/http_cors.pb-c.h"
#include "wire/proto/http_dynamic_forward_proxy.pb-c.h"
#include "wire/proto/http_ext_authz.pb-c.h"
#include "wire/proto/http_ext_proc.pb-c.h"
#include "wire/proto/http_fault.pb-c.h"
#include "wire/proto/http_grpc_stats.pb-c.h"
#include "wire/proto/http_grpc_web.pb-c.h"
#include "wire/proto/http_header_mutation.pb-c.h"
#include "wire/proto/http_jwt_authn.pb-c.h"
#include "wire/proto/http_local_ratelimit.pb-c.h"
#include "wire/proto/http_lua.pb-c.h"
#include "wire/proto/http_on_demand.pb-c.h"
#include "wire/proto/http_preserve_case.pb-c.h"
#include "wire/proto/http_rbac.pb-c.h"
#include "wire/proto/http_router.pb-c.h"
#include "wire/proto/http_set_filter_state.pb-c.h"
#include "wire/proto/http_stateful_session.pb-c.h"
#include "wire/proto/http_wasm.pb-c.h"
#include "wire/proto/istio_alpn.pb-c.h"
#include "wire/proto/istio_metadata_exchange.pb-c.h"
#include "wire/proto/istio_nds.pb-c.h"
#include "wire/proto/istio_peer_metadata.pb-c.h"
#include "wire/proto/istio_proxyconfig.pb-c.h"
#include "wire/proto/istio_stats.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/listener_http_inspector.pb-c.h"
#include "wire/proto/listener_original_dst.pb-c.h"
#include "wire/proto/listener_original_src.pb-c.h"
#include "wire/proto/listener_proxy_protocol.pb-c.h"
#include "wire/proto/listener_tls_inspector.pb-c.h"
#include "wire/proto/log_cel.pb-c.h"
#include "wire/proto/log_file.pb-c.h"
#include "wire/proto/log_grpc.pb-c.h"
#include "wire/proto/log_otel.pb-c.h"
#include "wire/proto/log_stream.pb-c.h"
#include "wire/proto/monitor_downstream_connections.pb-c.h"
#include "wire/proto/monitor_fixed_heap.pb-c.h"
#include "wire/proto/net_connection_limit.pb-c.h"
#include "wire/proto/net_direct_response.pb-c.h"
#include "wire/proto/net_echo.pb-c.h"
#include "wire/proto/net_ext_authz.pb-c.h"
#include "wire/proto/net_local_ratelimit.pb-c.h"
#include "wire/proto/net_mongo_proxy.pb-c.h"
#include "wire/proto/net_rbac.pb-c.h"
#include "wire/proto/net_set_filter_state.pb-c.h"
#include "wire/proto/net_sni_cluster.pb-c.h"
#include "wire/proto/net_sni_dynamic_forward_proxy.pb-c.h"
#include "wire/proto/net_tcp_proxy.pb-c.h"
#include "wire/proto/net_wasm.pb-c.h"
#include "wire/proto/original_ip_custom_header.pb-c.h"
#include "wire/proto/original_ip_xff.pb-c.h"
#include "wire/proto/path_match_template.pb-c.h"
#include "wire/proto/path_rewrite_template.pb-c.h"
#include "wire/proto/redirect_allow_listed_routes.pb-c.h"
#include "wire/proto/redirect_previous_routes.pb-c.h"
#include "wire/proto/redirect_safe_cross_scheme.pb-c.h"
#include "wire/proto/request_id_uuid.pb-c.h"
#include "wire/proto/retry_omit_canary_hosts.pb-c.h"
#include "wire/proto/retry_omit_host_metadata.pb-c.h"
#include "wire/proto/retry_previous_hosts.pb-c.h"
#include "wire/proto/retry_previous_priorities.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/proto/session_cookie.pb-c.h"
#include "wire/proto/session_header.pb-c.h"
#include "wire/proto/socket_internal_upstream.pb-c.h"
#include "wire/proto/socket_proxy_protocol.pb-c.h"
#include "wire/proto/socket_raw_buffer.pb-c.h"
#include "wire/proto/tls.pb-c.h"
#include "wire/proto/trace.pb-c.h"
#include "wire/proto/udpa_typed_struct.pb-c.h"
#include "wire/proto/upstream_http.pb-c.h"
#include "wire/proto/xds_typed_struct.pb-c.h"

#include "wire/struct.h"

static const ProtobufCMessageDescriptor *const schemas[] = {
#define LT_ANY(name) &name##__descriptor,
#include "wire/any.def"
#undef LT_ANY
};

const ProtobufCMessageDescriptor *const *lt_any_all(size_t *ret_count)
{
    *ret_count = LT_ARRAY_LEN(schemas);
    return schemas;
}

lt_str lt_any_type_name(lt_str type_url)
{
    return lt_str_from(type_url, (size_t)(lt_str_rfind_char(type_url, '/') + 1));
}

const ProtobufCMessageDescriptor *lt_any_find(lt_str type_url)
{
    lt_str name = lt_any_type_name(type_url);
    size_t low = 0, high = LT_ARRAY_LEN(schemas);
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = lt_str_cmp(name, lt_str_of(schemas[middle]->name));
        if (order == 0)
            return schemas[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static lt_rc no_schema(struct lt_err *err, lt_str name)
{
    return lt_err_set(err, LT_E_NOT_FOUND, "no schema for type \"%.*s\"",
                      (int)LT_MIN(name.len, (size_t)200), name.ptr);
}

static bool is_typed_struct(const ProtobufCMessageDescriptor *schema)
{
    return schema == &udpa__typed_struct__descriptor || schema == &xds__typed_struct__descriptor;
}

/* Both kinds have the same two members. */
static lt_rc open_typed_struct(struct lt_arena *arena, const ProtobufCMessageDescriptor *schema,
                               const Pb__Any *any, const struct lt_pb_opts *opts, lt_str *ret_type,
                               const Pb__Struct **ret_value, struct lt_err *err)
{
    if (schema == &xds__typed_struct__descriptor) {
        const Xds__TypedStruct *typed = NULL;
        LT_TRY(lt_pb_unpack(arena, schema, lt_pb_bytes(any->value), opts, &typed, err));
        *ret_type = lt_any_type_name(lt_str_of(typed->type_url));
        *ret_value = typed->value;
        return LT_OK;
    }
    const Udpa__TypedStruct *typed = NULL;
    LT_TRY(lt_pb_unpack(arena, schema, lt_pb_bytes(any->value), opts, &typed, err));
    *ret_type = lt_any_type_name(lt_str_of(typed->type_url));
    *ret_value = typed->value;
    return LT_OK;
}

lt_str lt_any_inner_type(struct lt_arena *arena, const Pb__Any *any)
{
    if (any == NULL || any->type_url == NULL)
        return LT_STR("");
    const ProtobufCMessageDescriptor *schema = lt_any_find(lt_str_of(any->type_url));
    lt_str type = LT_STR_NULL;
    const Pb__Struct *value = NULL;
    if (schema != NULL && is_typed_struct(schema) &&
        open_typed_struct(arena, schema, any, NULL, &type, &value, NULL) == LT_OK)
        return type;
    return lt_arena_str(arena, lt_any_type_name(lt_str_of(any->type_url)));
}

/* A Struct written by the field names of the inner type. */
static lt_rc unpack_typed_struct(struct lt_arena *arena, const ProtobufCMessageDescriptor *schema,
                                 const Pb__Any *any, const struct lt_pb_opts *opts,
                                 ProtobufCMessage **ret_message, struct lt_err *err)
{
    lt_str type = LT_STR_NULL;
    const Pb__Struct *value = NULL;
    struct lt_pb_unknowns nobody_asked = {0};
    struct lt_doc doc;
    LT_TRY(open_typed_struct(arena, schema, any, opts, &type, &value, err));
    const ProtobufCMessageDescriptor *inner = lt_any_find(type);
    if (inner == NULL || is_typed_struct(inner))
        return no_schema(err, type);
    LT_TRY(lt_struct_to_doc(arena, value, NULL, &doc, err));
    bool is_asked = opts != NULL && opts->unknowns != NULL;
    struct lt_pbjson_read_opts read_opts = {.unknowns = is_asked ? opts->unknowns : &nobody_asked};
    return lt_pbjson_read(arena, &doc, inner, &read_opts, ret_message, err);
}

lt_rc lt_any_unpack(struct lt_arena *arena, const Pb__Any *any, const struct lt_pb_opts *opts,
                    ProtobufCMessage **ret_message, struct lt_err *err)
{
    if (any == NULL || any->type_url == NULL)
        return lt_err_set(err, LT_E_NOT_FOUND, "an Any without type");
    lt_str type = lt_str_of(any->type_url);
    const ProtobufCMessageDescriptor *schema = lt_any_find(type);
    if (schema == NULL)
        return no_schema(err, lt_any_type_name(type));
    lt_rc rc = is_typed_struct(schema)
                   ? unpack_typed_struct(arena, schema, any, opts, ret_message, err)
                   : lt_pb_unpack(arena, schema, lt_pb_bytes(any->value), opts, ret_message, err);
    return rc == LT_OK || rc == LT_E_NOT_FOUND ? rc : lt_err_wrap(err, rc, "%s", schema->name);
}

lt_rc lt_any_unpack_as(struct lt_arena *arena, const Pb__Any *any,
                       const ProtobufCMessageDescriptor *descriptor, const struct lt_pb_opts *opts,
                       void *ret_msg, struct lt_err *err)
{
    ProtobufCMessage *message = NULL;
    LT_TRY(lt_any_unpack(arena, any, opts, &message, err));
    if (message->descriptor != descriptor)
        return lt_err_set(err, LT_E_BAD, "expected %s, got %s", descriptor->name,
                          message->descriptor->name);
    *(ProtobufCMessage **)ret_msg = message;
    return LT_OK;
}

Pb__Any *lt_any_pack(struct lt_arena *arena, void *message)
{
    const ProtobufCMessage *base = message;
    Pb__Any *any = lt_pb_new(arena, Pb__Any, pb__any);
    any->type_url = lt_arena_printf(arena, "%s%s", LT_ANY_PREFIX, base->descriptor->name).ptr;
    any->value = lt_pb_pack_data(arena, message);
    any->has_value = any->value.len > 0;
    return any;
}
