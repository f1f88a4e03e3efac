/*
 * proxy/compile/net_filter.h - private to conf_*.c: network filters before the terminal one,
 * compiled.
 */
#ifndef LT_PROXY_COMPILE_NET_FILTER_H
#define LT_PROXY_COMPILE_NET_FILTER_H

#include "proxy/compile/build.h"

/* Adds it to chain->net_filters, which has room; a type that is not known refuses the resource. */
LT_MUST lt_rc px_make_net_filter(struct px_build *build, const Xds__Filter *in,
                                 struct px_chain *chain);

/* metadata_exchange, of a listener or a cluster: another protocol than ours is listed. */
LT_MUST lt_rc px_check_exchange(struct px_build *build, const Pb__Any *any);
LT_MUST lt_rc px_make_net_limit(struct px_build *build, const Pb__Any *any, const void **ret_conf);
LT_MUST lt_rc px_make_net_ext_authz(struct px_build *build, const Pb__Any *any,
                                    const void **ret_conf);

/* echo and direct_response; *ret_small stays NULL for all others. */
LT_MUST lt_rc px_make_small(struct px_build *build, lt_str type, const Pb__Any *any,
                            const struct px_small_conf **ret_small);

#endif
