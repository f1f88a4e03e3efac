/*
 * proxy/compile/hcm.c - HttpConnectionManager to px_hcm_conf. Its filters: filters.c.
 */
#include "proxy/compile/filter.h"
#include "proxy/compile/kinds.h"
#include "proxy/compile/protocol.h"

enum {
    STREAM_IDLE_DEFAULT_MS = 300 * 1000,
    DRAIN_DEFAULT_MS = 5000,
};

static void make_xfcc(const Xds__HttpConnectionManager *in, struct px_hcm_conf *conf)
{
    static const px_xfcc_mode modes[] = {PX_XFCC_SANITIZE, PX_XFCC_FORWARD_ONLY,
                                         PX_XFCC_APPEND_FORWARD, PX_XFCC_SANITIZE_SET,
                                         PX_XFCC_ALWAYS_FORWARD};
    size_t mode = in->has_forward_client_cert_details ? in->forward_client_cert_details : 0;
    conf->xfcc = mode < LT_ARRAY_LEN(modes) ? modes[mode] : PX_XFCC_SANITIZE;
    const Xds__HttpConnectionManager__SetCurrentClientCertDetails *details =
        in->set_current_client_cert_details;
    if (details == NULL)
        return;
    conf->xfcc_subject = px_bool(details->subject, false);
    conf->xfcc_cert = details->has_cert && details->cert;
    conf->xfcc_chain = details->has_chain && details->chain;
    conf->xfcc_dns = details->has_dns && details->dns;
    conf->xfcc_uri = details->has_uri && details->uri;
}

static void make_timeouts(const Xds__HttpConnectionManager *in, struct px_hcm_conf *conf)
{
    conf->stream_idle_timeout_ms = px_duration_ms(in->stream_idle_timeout, STREAM_IDLE_DEFAULT_MS);
    conf->request_timeout_ms = px_duration_ms(in->request_timeout, 0);
    conf->request_headers_timeout_ms = px_duration_ms(in->request_headers_timeout, 0);
    conf->drain_timeout_ms = px_duration_ms(in->drain_timeout, DRAIN_DEFAULT_MS);
}

#define SLASHES(name) XDS__HTTP_CONNECTION_MANAGER__PATH_WITH_ESCAPED_SLASHES_ACTION__##name

static lt_rc make_paths(struct px_build *build, const Xds__HttpConnectionManager *in,
                        struct px_hcm_conf *conf)
{
    conf->normalize_path = px_bool(in->normalize_path, false);
    conf->merge_slashes = in->has_merge_slashes && in->merge_slashes;
    static const lt_url_slashes actions[] = {
        LT_URL_SLASHES_KEEP, LT_URL_SLASHES_KEEP, LT_URL_SLASHES_REJECT,
        LT_URL_SLASHES_UNESCAPE_AND_REDIRECT, LT_URL_SLASHES_UNESCAPE_AND_FORWARD};
    size_t action = in->has_path_with_escaped_slashes_action ? in->path_with_escaped_slashes_action
                                                             : 0;
    if (action >= LT_ARRAY_LEN(actions))
        return px_bad(build, "path_with_escaped_slashes_action", "unknown value %zu", action);
    conf->escaped_slashes = actions[action];
    return LT_OK;
}

static lt_rc make_route_specifier(struct px_build *build, const Xds__HttpConnectionManager *in,
                                  struct px_hcm_conf *conf)
{
    if (in->route_specifier_case == XDS__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS) {
        struct px_row *row = NULL;
        conf->route_config_name = px_copy(build, in->rds->route_config_name);
        if (conf->route_config_name.len == 0)
            return px_bad(build, "rds.route_config_name", "is empty");
        LT_TRY(px_refer(build, "rds.config_source", PX_ROUTES, in->rds->config_source,
                        conf->route_config_name, false, &row));
        conf->routes_slot = row->slot;
        return LT_OK;
    }
    if (in->route_specifier_case != XDS__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG)
        return px_unsupported(build, "route_specifier", "rds or route_config is needed");
    struct px_routes_conf *routes = lt_arena_make(build->arena, struct px_routes_conf);
    size_t mark = px_path_enter(build, "route_config", -1);
    if (in->route_config->vhds != NULL)
        return px_unsupported(build, "vhds", "is not supported in a listener's own routes");
    LT_TRY(px_make_routes(build, in->route_config, routes));
    px_path_leave(build, mark);
    conf->routes = routes;
    return LT_OK;
}

/* The manager's own fields are of before there were options. */
static lt_rc make_log_times(struct px_build *build, const Xds__HttpConnectionManager *hcm,
                            struct px_log_times *times)
{
    const Xds__HttpConnectionManager__HcmAccessLogOptions *in = hcm->access_log_options;
    if (in == NULL) {
        times->at_start = hcm->has_flush_access_log_on_new_request &&
                          hcm->flush_access_log_on_new_request;
        return px_make_log_interval(build, hcm->access_log_flush_interval, &times->every_ms);
    }
    times->at_start = in->has_flush_access_log_on_new_request &&
                      in->flush_access_log_on_new_request;
    times->at_tunnel = in->has_flush_log_on_tunnel_successfully_established &&
                       in->flush_log_on_tunnel_successfully_established;
    return px_make_log_interval(build, in->access_log_flush_interval, &times->every_ms);
}

static lt_rc make_hcm(struct px_build *build, const Xds__HttpConnectionManager *in,
                      struct px_hcm_conf *conf)
{
    conf->stat_prefix = px_copy(build, in->stat_prefix);
    if (conf->stat_prefix.len == 0)
        return px_bad(build, "stat_prefix", "is empty");
    LT_TRY(px_make_hcm_protocol(build, in, conf));
    conf->server_name = in->server_name != NULL && in->server_name[0] != '\0'
                            ? px_copy(build, in->server_name)
                            : LT_STR("envoy");
    LT_TRY(px_make_forward(build, in, &conf->forward));
    conf->use_remote_address = px_bool(in->use_remote_address, false);
    conf->xff_num_trusted_hops = in->has_xff_num_trusted_hops ? in->xff_num_trusted_hops : 0;
    conf->proxy_100_continue = in->has_proxy_100_continue && in->proxy_100_continue;
    conf->generate_request_id = px_bool(in->generate_request_id, true);
    conf->body_limit = build->body_limit;
    conf->is_inbound = build->is_inbound;
    conf->takes_operation = in->tracing != NULL && !build->is_outbound;
    LT_TRY(px_make_tracing(build, in, conf));
    make_xfcc(in, conf);
    make_timeouts(in, conf);
    LT_TRY(make_paths(build, in, conf));
    LT_TRY(px_make_http_filters(build, in->http_filters, in->n_http_filters, conf));
    LT_TRY(make_route_specifier(build, in, conf));
    LT_TRY(make_log_times(build, in, &conf->log_times));
    return px_make_access_logs(build, in->access_log, in->n_access_log, &conf->access_logs,
                               &conf->access_log_count);
}

lt_rc px_make_hcm(struct px_build *build, const Pb__Any *any, const struct px_hcm_conf **ret_hcm)
{
    Xds__HttpConnectionManager *in = NULL;
    LT_TRY(
        px_unpack_any(build, "typed_config", any, &xds__http_connection_manager__descriptor, &in));
    struct px_hcm_conf *conf = lt_arena_make(build->arena, struct px_hcm_conf);
    LT_TRY(make_hcm(build, in, conf));
    *ret_hcm = conf;
    return LT_OK;
}
