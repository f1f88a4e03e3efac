/*
 * proxy/compile/filter.h - private to conf_*.c: which HTTP filters there are, and who compiles
 * each.
 * A filter's own compiler is conf_filter_<name>.c, or stands in filters.c when it is small.
 * What filters do: filter.h.
 */
#ifndef LT_PROXY_COMPILE_FILTER_H
#define LT_PROXY_COMPILE_FILTER_H

#include "proxy/compile/build.h"
#include "wire/proto/hcm.pb-c.h"

struct px_filter_type {
    px_http_filter_kind kind;
    const ProtobufCMessageDescriptor *type; /* of HttpFilter.typed_config */
    /*
     * message is of that type; what workers will read goes to *ret_conf. NULL: no fields of it
     * matter.
     */
    lt_rc (*make)(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                  const void **ret_conf);
    const ProtobufCMessageDescriptor *route_type; /* of typed_per_filter_config; NULL: none */
    /* May set conf->conf and conf->is_off. */
    lt_rc (*make_route)(struct px_build *build, const void *message, struct px_filter_conf *conf);
};

/* --- the compilers; of the filter, and of a route --- */

LT_MUST lt_rc px_make_jwt_filter(struct px_build *build, const void *message,
                                 struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_jwt_route(struct px_build *build, const void *message,
                                struct px_filter_conf *conf);

LT_MUST lt_rc px_make_ext_authz_filter(struct px_build *build, const void *message,
                                       struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_ext_authz_route(struct px_build *build, const void *message,
                                      struct px_filter_conf *conf);

LT_MUST lt_rc px_make_fault_filter(struct px_build *build, const void *message,
                                   struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_fault_route(struct px_build *build, const void *message,
                                  struct px_filter_conf *conf);
LT_MUST lt_rc px_make_cors_filter(struct px_build *build, const void *message,
                                  struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_cors_route(struct px_build *build, const void *message,
                                 struct px_filter_conf *conf);
LT_MUST lt_rc px_make_limit_filter(struct px_build *build, const void *message,
                                   struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_limit_route(struct px_build *build, const void *message,
                                  struct px_filter_conf *conf);
LT_MUST lt_rc px_make_buffer_filter(struct px_build *build, const void *message,
                                    struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_buffer_route(struct px_build *build, const void *message,
                                   struct px_filter_conf *conf);
LT_MUST lt_rc px_make_mutation_filter(struct px_build *build, const void *message,
                                      struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_mutation_route(struct px_build *build, const void *message,
                                     struct px_filter_conf *conf);
LT_MUST lt_rc px_make_grpc_stats_filter(struct px_build *build, const void *message,
                                        struct px_hcm_conf *hcm, const void **ret_conf);

LT_MUST lt_rc px_make_on_demand_filter(struct px_build *build, const void *message,
                                       struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_on_demand_route(struct px_build *build, const void *message,
                                      struct px_filter_conf *conf);
LT_MUST lt_rc px_make_router(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                             const void **ret_conf);

/* hcm->filters, of http_filters. The path is that of the connection manager. */
LT_MUST lt_rc px_make_http_filters(struct px_build *build, Xds__HttpFilter *const *in, size_t count,
                                   struct px_hcm_conf *hcm);

/* One entry of typed_per_filter_config; total: how many there will be. */
LT_MUST lt_rc px_add_filter_conf(struct px_build *build, const char *name, const Pb__Any *any,
                                 size_t total, struct px_filter_confs *confs);

#endif
