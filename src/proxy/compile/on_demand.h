/*
 * proxy/compile/on_demand.h - private to compile: where clusters on demand come from.
 */
#ifndef LT_PROXY_COMPILE_ON_DEMAND_H
#define LT_PROXY_COMPILE_ON_DEMAND_H

#include "proxy/compile/build.h"
#include "proxy/conf/on_demand.h"
#include "wire/proto/net_tcp_proxy.pb-c.h"

/* field: of the source. A resources_locator (names of another form) is refused. */
LT_MUST lt_rc px_make_odcds(struct px_build *build, const char *field, const Xds__ConfigSource *in,
                            const char *locator, const Pb__Duration *timeout,
                            struct px_on_demand_conf *conf);
/* in NULL: none. */
LT_MUST lt_rc px_make_tcp_on_demand(struct px_build *build, const Xds__TcpProxy__OnDemand *in,
                                    struct px_tcp_conf *conf);

#endif
