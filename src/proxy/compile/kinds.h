/*
 * proxy/compile/kinds.h - private to conf_*.c: one maker a kind of resource, and for what is large
 * enough to have a file of its own. Each fills a zeroed struct in build->arena.
 */
#ifndef LT_PROXY_COMPILE_KINDS_H
#define LT_PROXY_COMPILE_KINDS_H

#include "proxy/compile/build.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/hcm.pb-c.h"

LT_MUST lt_rc px_make_cluster(struct px_build *build, const Xds__Cluster *cluster,
                              struct px_cluster_conf *conf);
LT_MUST lt_rc px_make_lb(struct px_build *build, const Xds__Cluster *cluster,
                         struct px_cluster_conf *conf);
/* forward.c */
LT_MUST lt_rc px_make_forward(struct px_build *build, const Xds__HttpConnectionManager *in,
                              struct px_forward_conf *conf);
LT_MUST lt_rc px_make_circuits(struct px_build *build, const Xds__Cluster *cluster,
                               struct px_cluster_conf *conf);
LT_MUST lt_rc px_make_outlier(struct px_build *build, const Xds__OutlierDetection *in,
                              const struct px_outlier_conf **ret_outlier);
LT_MUST lt_rc px_make_check(struct px_build *build, const Xds__Cluster *cluster,
                            struct px_cluster_conf *conf);
LT_MUST lt_rc px_make_dns(struct px_build *build, const Xds__Cluster *cluster,
                          struct px_cluster_conf *conf);
LT_MUST lt_rc px_make_hash_policies(struct px_build *build, Xds__RouteAction__HashPolicy *const *in,
                                    size_t count, const struct px_hash_policies **ret_policies);
LT_MUST lt_rc px_make_tcp_hash_policies(struct px_build *build, Xds__HashPolicy *const *in,
                                        size_t count, const struct px_hash_policies **ret_policies);
/* metadata_match for subsets: of filter envoy.lb, over what `base` (may be NULL) has. */
LT_MUST lt_rc px_make_metadata_match(struct px_build *build, const Xds__Metadata *in,
                                     const struct px_metas *base,
                                     const struct px_metas **ret_metas);
LT_MUST lt_rc px_make_listener(struct px_build *build, const Xds__Listener *listener,
                               struct px_listener_conf *conf);
LT_MUST lt_rc px_make_secret(struct px_build *build, const Xds__Secret *secret,
                             struct px_secret_conf *conf);
LT_MUST lt_rc px_make_extension(struct px_build *build, const Xds__TypedExtensionConfig *in,
                                struct px_extension_conf *conf);

/* Of a route configuration that comes by itself; px_make_routes() has read the rest. */
LT_MUST lt_rc px_make_vhds(struct px_build *build, const Xds__RouteConfiguration *config,
                           struct px_routes_conf *ret_routes);
LT_MUST lt_rc px_make_vhost(struct px_build *build, const Xds__VirtualHost *in,
                            struct px_vhost_conf *conf);
LT_MUST lt_rc px_make_retry(struct px_build *build, const Xds__RetryPolicy *policy,
                            const struct px_retry **ret_retry);
LT_MUST lt_rc px_make_internal_redirects(struct px_build *build,
                                         const Xds__InternalRedirectPolicy *in,
                                         const struct px_internal_redirects **ret_conf);
/* What a route matches, and nothing else of it. */
LT_MUST lt_rc px_make_route_match(struct px_build *build, const Xds__RouteMatch *match,
                                  struct px_route *route);
LT_MUST lt_rc px_make_route(struct px_build *build, const Xds__Route *in,
                            const struct px_vhost *vhost, struct px_route *route);
LT_MUST lt_rc px_make_queries(struct px_build *build, const char *field,
                              Xds__QueryParameterMatcher *const *in, size_t count,
                              const struct px_query_match **ret_queries);
/* rate_limits of a route or a virtual host; NULL: none. */
LT_MUST lt_rc px_make_own_rate_limits(struct px_build *build, Xds__RateLimit *const *in,
                                      size_t count, const struct px_rate_limits **ret_limits);
/* Of a route or a virtual host: the limit, or the one by its former name, or otherwise. */
uint64_t px_body_limit(const Pb__UInt64Value *limit, const Pb__UInt32Value *former,
                       uint64_t otherwise);
/* What is given there, over what mirrors has. */
LT_MUST lt_rc px_make_mirrors(struct px_build *build,
                              Xds__RouteAction__RequestMirrorPolicy *const *in, size_t count,
                              struct px_mirrors *mirrors);

#endif
