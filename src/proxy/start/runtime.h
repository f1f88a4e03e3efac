/*
 * proxy/start/runtime.h - static layers of a bootstrap's layered_runtime. One key does something
 * here; flags of Envoy's own code say nothing to us, and any other key is listed.
 */
#ifndef LT_PROXY_START_RUNTIME_H
#define LT_PROXY_START_RUNTIME_H

#include "proxy/compile/build.h"
#include "proxy/run/pressure.h"
#include "wire/proto/bootstrap.pb-c.h"

/* Before the overload manager is read, whose limit of connections goes before this one. */
void px_read_runtime(struct px_build *build, const Xds__LayeredRuntime *in,
                     struct px_pressure_conf *conf);

#endif
