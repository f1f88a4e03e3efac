/*
 * proxy/compile/forward.c - the connection manager's fields about who the client is and which names
 * it used: addresses, ports, hosts, via, server.
 */
#include "proxy/compile/kinds.h"
#include "wire/proto/hcm.pb-c.h"

typedef Xds__HttpConnectionManager Hcm;

#define SERVER(name) XDS__HTTP_CONNECTION_MANAGER__SERVER_HEADER_TRANSFORMATION__##name

static lt_rc make_server(struct px_build *build, const Hcm *in, struct px_forward_conf *conf)
{
    int mode = in->has_server_header_transformation ? (int)in->server_header_transformation : 0;
    switch (mode) {
    case SERVER(OVERWRITE): conf->server = PX_SERVER_OVERWRITE; return LT_OK;
    case SERVER(APPEND_IF_ABSENT): conf->server = PX_SERVER_IF_ABSENT; return LT_OK;
    case SERVER(PASS_THROUGH): conf->server = PX_SERVER_PASS; return LT_OK;
    default: return px_bad(build, "server_header_transformation", "unknown value %d", mode);
    }
}

static lt_rc make_ports(struct px_build *build, const Hcm *in, struct px_forward_conf *conf)
{
    bool strips_own = in->has_strip_matching_host_port && in->strip_matching_host_port;
    conf->strips_any_port = in->strip_port_mode_case ==
                                XDS__HTTP_CONNECTION_MANAGER__STRIP_PORT_MODE_STRIP_ANY_HOST_PORT &&
                            in->strip_any_host_port;
    if (strips_own && conf->strips_any_port)
        return px_bad(build, "strip_any_host_port",
                      "excludes strip_matching_host_port: one of the two may be on");
    conf->strips_own_port = strips_own;
    conf->strips_dot = in->has_strip_trailing_host_dot && in->strip_trailing_host_dot;
    return LT_OK;
}

static lt_rc make_scheme(struct px_build *build, const Hcm *in, struct px_forward_conf *conf)
{
    const Xds__SchemeHeaderTransformation *scheme = in->scheme_header_transformation;
    if (scheme == NULL)
        return LT_OK;
    conf->scheme_of_upstream = scheme->has_match_upstream && scheme->match_upstream;
    if (scheme->transformation_case !=
        XDS__SCHEME_HEADER_TRANSFORMATION__TRANSFORMATION_SCHEME_TO_OVERWRITE)
        return LT_OK;
    conf->scheme = px_copy_lower(build, scheme->scheme_to_overwrite);
    if (!lt_str_eqz(conf->scheme, "http") && !lt_str_eqz(conf->scheme, "https"))
        return px_bad(build, "scheme_header_transformation.scheme_to_overwrite",
                      "'%s' is neither http nor https", scheme->scheme_to_overwrite);
    return LT_OK;
}

static lt_rc make_internal(struct px_build *build, const Hcm *in, struct px_forward_conf *conf)
{
    const Xds__HttpConnectionManager__InternalAddressConfig *internal = in->internal_address_config;
    if (internal == NULL)
        return LT_OK;
    conf->trusts_unix = internal->has_unix_sockets && internal->unix_sockets;
    conf->internal_count = internal->n_cidr_ranges;
    conf->has_internal = conf->trusts_unix || conf->internal_count > 0;
    return px_make_prefixes(build, "internal_address_config.cidr_ranges", internal->cidr_ranges,
                            internal->n_cidr_ranges, &conf->internal);
}

lt_rc px_make_forward(struct px_build *build, const Hcm *in, struct px_forward_conf *conf)
{
    LT_TRY(make_server(build, in, conf));
    LT_TRY(make_ports(build, in, conf));
    LT_TRY(make_scheme(build, in, conf));
    LT_TRY(make_internal(build, in, conf));
    conf->tells_own_cluster = px_bool(in->add_user_agent, false);
    conf->via = px_copy(build, in->via);
    conf->keeps_xff = in->has_skip_xff_append && in->skip_xff_append;
    conf->tells_port = in->has_append_x_forwarded_port && in->append_x_forwarded_port;
    conf->maps_ipv4 = in->has_represent_ipv4_remote_address_as_ipv4_mapped_ipv6 &&
                      in->represent_ipv4_remote_address_as_ipv4_mapped_ipv6;
    return LT_OK;
}
