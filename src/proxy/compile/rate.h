/*
 * proxy/compile/rate.h - private to conf_*.c: rate limits of routes.
 */
#ifndef LT_PROXY_COMPILE_RATE_H
#define LT_PROXY_COMPILE_RATE_H

#include "proxy/compile/build.h"
#include "proxy/filter/rate_actions.h"
#include "wire/proto/route.pb-c.h"

/* limits is zeroed. */
LT_MUST lt_rc px_make_rate_limits(struct px_build *build, Xds__RateLimit *const *in, size_t count,
                                  struct px_rate_limits *limits);

#endif
