/*
 * proxy/compile/router.c - the router's own configuration, last of the HTTP filters.
 */
#include "proxy/compile/filter.h"
#include "wire/proto/http_router.pb-c.h"

static lt_rc make_strict(struct px_build *build, const Xds__Router *in, struct px_router_conf *conf)
{
    static const char *const names[PX_STRICT_HEADERS] = {
        [PX_STRICT_TIMEOUT] = "x-envoy-upstream-rq-timeout-ms",
        [PX_STRICT_PER_TRY] = "x-envoy-upstream-rq-per-try-timeout-ms",
        [PX_STRICT_MAX_RETRIES] = "x-envoy-max-retries",
        [PX_STRICT_RETRY_ON] = "x-envoy-retry-on",
        [PX_STRICT_RETRY_GRPC_ON] = "x-envoy-retry-grpc-on",
    };
    for (size_t i = 0; i < in->n_strict_check_headers; i++) {
        size_t at = 0;
        while (at < LT_ARRAY_LEN(names) && strcmp(names[at], in->strict_check_headers[i]) != 0)
            at++;
        if (at == LT_ARRAY_LEN(names))
            return px_bad(build, "strict_check_headers", "'%s' cannot be checked",
                          in->strict_check_headers[i]);
        conf->strict_headers |= 1u << at;
    }
    return LT_OK;
}

/* What would run on the way to the host must not be left out; the codec is none of that. */
static lt_rc check_upstream_filters(struct px_build *build, const Xds__Router *in)
{
    for (size_t i = 0; i < in->n_upstream_http_filters; i++) {
        const char *name = in->upstream_http_filters[i]->name;
        if (name == NULL || strcmp(name, "envoy.filters.http.upstream_codec") != 0)
            return px_unsupported(build, "upstream_http_filters", "'%s' is not supported",
                                  name != NULL ? name : "");
    }
    return LT_OK;
}

lt_rc px_make_router(struct px_build *build, const void *message, struct px_hcm_conf *hcm,
                     const void **ret_conf LT_UNUSED)
{
    const Xds__Router *in = message;
    hcm->router.hides_headers = in->has_suppress_envoy_headers && in->suppress_envoy_headers;
    hcm->router.respects_expected_timeout = in->has_respect_expected_rq_timeout &&
                                            in->respect_expected_rq_timeout;
    LT_TRY(make_strict(build, in, &hcm->router));
    return check_upstream_filters(build, in);
}
