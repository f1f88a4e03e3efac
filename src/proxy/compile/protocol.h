/*
 * proxy/compile/protocol.h - private to conf_*.c: options of HTTP.
 */
#ifndef LT_PROXY_COMPILE_PROTOCOL_H
#define LT_PROXY_COMPILE_PROTOCOL_H

#include "proxy/compile/build.h"
#include "wire/proto/hcm.pb-c.h"

/* in NULL: the defaults. */
LT_MUST lt_rc px_make_h1_options(struct px_build *build, const Xds__Http1ProtocolOptions *in,
                                 struct px_h1_options *options);
LT_MUST lt_rc px_make_h2_options(struct px_build *build, const Xds__Http2ProtocolOptions *in,
                                 struct px_h2_options *options);
/* What a connection manager says about versions, connections, limits of heads, and upgrades. */
LT_MUST lt_rc px_make_hcm_protocol(struct px_build *build, const Xds__HttpConnectionManager *in,
                                   struct px_hcm_conf *conf);

/* *ret_limits stays where nothing is said. */
LT_MUST lt_rc px_make_response_limits(struct px_build *build, const Xds__HttpProtocolOptions *in,
                                      const struct px_response_limits **ret_limits);

#endif
