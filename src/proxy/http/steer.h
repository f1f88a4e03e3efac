/*
 * proxy/http/steer.h - headers by which a request steers this proxy: x-envoy-retry-on,
 * x-envoy-upstream-rq-timeout-ms and the like. They count when they come from inside
 * (HttpConnectionManager.internal_address_config), from a filter or from an edit; from outside they
 * are taken out on arrival (edits.c).
 */
#ifndef LT_PROXY_HTTP_STEER_H
#define LT_PROXY_HTTP_STEER_H

#include "proxy/http/request.h"

#define PX_STEERS_TRIES(X) \
    X(LT_H_X_ENVOY_RETRY_ON) \
    X(LT_H_X_ENVOY_RETRY_GRPC_ON) \
    X(LT_H_X_ENVOY_MAX_RETRIES) \
    X(LT_H_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT)
#define PX_STEERS_TIMES(X) \
    X(LT_H_X_ENVOY_UPSTREAM_ALT_STAT_NAME) \
    X(LT_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS) \
    X(LT_H_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS) \
    X(LT_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) \
    X(LT_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS)

/* Router.strict_check_headers. False: one has no value that it could have; answered. */
bool px_steer_check(struct px_request *request);
/* Over what the route says: timeouts (before the edits of the configuration) ... */
void px_steer_times(struct px_request *request);
/* ... and whether it is tried again (behind them). */
void px_steer_retries(struct px_request *request);

#endif
