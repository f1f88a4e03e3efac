/*
 * tests/unit/proxy/conf_test.h - what the tests of configuration share: a resource from YAML text to what is compiled of it.
 */
#ifndef LT_PROXY_CONF_TEST_H
#define LT_PROXY_CONF_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/compile/compile.h"
#include "wire/pbjson.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/proto/tls.pb-c.h"
#include "wire/yaml.h"

#define ENVOY "type.googleapis.com/envoy.extensions.filters."
#define ROUTER "{name: router, typed_config: {'@type': " ENVOY "http.router.v3.Router}}"
#define HCM ENVOY "network.http_connection_manager.v3.HttpConnectionManager"
#define TCP ENVOY "network.tcp_proxy.v3.TcpProxy"
#define TLS "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."

static const ProtobufCMessageDescriptor *const resource_types[PX_RESOURCE_KINDS] = {
    [PX_CLUSTER] = &xds__cluster__descriptor,
    [PX_ENDPOINTS] = &xds__cluster_load_assignment__descriptor,
    [PX_LISTENER] = &xds__listener__descriptor,
    [PX_ROUTES] = &xds__route_configuration__descriptor,
    [PX_SECRET] = &xds__secret__descriptor,
    [PX_EXTENSION] = &xds__typed_extension_config__descriptor,
    [PX_VHOST] = &xds__virtual_host__descriptor,
};

/* The message's bytes, in arena. */
static inline lt_str pack_doc(struct lt_arena *arena, px_resource_kind kind,
                              const struct lt_doc *doc)
{
    struct lt_err err = {0};
    struct lt_pb_unknowns unknowns = {0};
    const struct lt_pbjson_read_opts opts = {.unknowns = &unknowns};
    void *message = NULL;
    if (lt_pbjson_read(arena, doc, resource_types[kind], &opts, &message, &err) != LT_OK)
        fail_msg("%s", err.text);
    return lt_pb_pack(arena, message);
}

static inline lt_str pack_yaml(struct lt_arena *arena, px_resource_kind kind, const char *yaml)
{
    struct lt_err err = {0};
    const struct lt_doc *doc = NULL;
    if (lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(yaml)), NULL, &doc, &err) != LT_OK)
        fail_msg("%s\n%s", err.text, yaml);
    return pack_doc(arena, kind, doc);
}

/* A listener, packed, whose connection manager has one filter before the router: "rbac.v3.RBAC" with these fields. */
static inline lt_str pack_filter(struct lt_arena *arena, const char *type, const char *fields)
{
    lt_str yaml = lt_arena_printf(
        arena,
        "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: [\n"
        "{name: hcm, typed_config: {'@type': " HCM
        ", stat_prefix: s, rds: {route_config_name: r, config_source: {ads: {}}}, http_filters: [\n"
        "{name: f, typed_config: {'@type': " ENVOY "http.%s, %s}}, " ROUTER "]}}]}]}",
        type, fields);
    return pack_yaml(arena, PX_LISTENER, yaml.ptr);
}

#endif
