/*
 * proxy/filter/missing.c - in place of a filter whose configuration has not come by ECDS: no
 * request passes it, as in Envoy.
 */
#include "proxy/conf/flags.h"
#include "proxy/http/filter.h"
#include "proxy/http/request.h"

static px_verdict on_request(struct px_request *request,
                             const struct px_http_filter *filter LT_UNUSED)
{
    px_request_reply(request, 500, PX_FLAG_NO_FILTER_CONFIG, "filter_config_not_found", LT_STR_NULL,
                     NULL);
    return PX_STOP;
}

const struct px_filter_ops px_filter_missing = {.name = "envoy.filters.http.missing",
                                                .on_request = on_request};
