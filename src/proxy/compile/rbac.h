/*
 * proxy/compile/rbac.h - private to conf_*.c: rules of authorization, compiled.
 */
#ifndef LT_PROXY_COMPILE_RBAC_H
#define LT_PROXY_COMPILE_RBAC_H

#include "proxy/compile/filter.h"
#include "proxy/filter/rbac.h"
#include "wire/proto/rbac.pb-c.h"

/* in NULL: *ret_rbac is NULL, no rules. */
LT_MUST lt_rc px_make_rbac(struct px_build *build, const char *field, const Xds__RBAC *in,
                           const struct px_rbac **ret_rbac);

/* Of envoy.filters.http.rbac, in the connection manager and on a route. */
LT_MUST lt_rc px_make_rbac_filter(struct px_build *build, const void *message,
                                  struct px_hcm_conf *hcm, const void **ret_conf);
LT_MUST lt_rc px_make_rbac_route(struct px_build *build, const void *message,
                                 struct px_filter_conf *conf);

#endif
