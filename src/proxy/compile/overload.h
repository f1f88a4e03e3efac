/*
 * proxy/compile/overload.h - overload_manager of a bootstrap, as numbers of bytes (pressure.h).
 */
#ifndef LT_PROXY_COMPILE_OVERLOAD_H
#define LT_PROXY_COMPILE_OVERLOAD_H

#include "proxy/compile/build.h"
#include "proxy/run/pressure.h"
#include "wire/proto/overload.pb-c.h"

LT_MUST lt_rc px_make_overload(struct px_build *build, const Xds__OverloadManager *in,
                               struct px_pressure_conf *conf);

#endif
