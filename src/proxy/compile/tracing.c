/*
 * proxy/compile/tracing.c - HttpConnectionManager.tracing and what goes with it. Contexts are
 * passed on and made; the spans themselves go nowhere yet, and custom tags with them: listed.
 */
#include "proxy/compile/build.h"
#include "proxy/told/trace.h"
#include "wire/proto/hcm.pb-c.h"
#include "wire/proto/request_id_uuid.pb-c.h"
#include "wire/proto/trace.pb-c.h"
#include "wire/proto/trace_http.pb-c.h"

/* In hundredths of a percent, as Envoy counts; not set: all. */
static uint32_t percent_ppm(const Xds__Percent *percent)
{
    double value = percent != NULL ? (percent->has_value ? percent->value : 0) : 100;
    return (uint32_t)((value < 0 ? 0 : value > 100 ? 100 : value) * 100 + 0.5) * 100;
}

static lt_rc make_zipkin(struct px_build *build, const Pb__Any *any, struct px_tracing_conf *conf)
{
    Xds__ZipkinConfig *zipkin = NULL;
    LT_TRY(px_unpack_any(build, "tracing.provider.typed_config", any,
                         &xds__zipkin_config__descriptor, &zipkin));
    conf->tracer = PX_TRACER_B3;
    conf->has_long_ids = zipkin->has_trace_id_128bit && zipkin->trace_id_128bit;
    /* Envoy: only who receives may share, and egress is told by the listener's direction */
    conf->shares_spans = px_bool(zipkin->shared_span_context, true) && !build->is_outbound;
    conf->also_w3c = zipkin->has_trace_context_option &&
                     zipkin->trace_context_option ==
                         XDS__ZIPKIN_CONFIG__TRACE_CONTEXT_OPTION__USE_B3_WITH_W3C_PROPAGATION;
    return LT_OK;
}

static lt_rc make_provider(struct px_build *build, const Xds__Trace__Tracing__Http *provider,
                           struct px_tracing_conf *conf)
{
    if (provider == NULL)
        return LT_OK;
    const Pb__Any *any = provider->config_type_case ==
                                 XDS__TRACE__TRACING__HTTP__CONFIG_TYPE_TYPED_CONFIG
                             ? provider->typed_config
                             : NULL;
    lt_str type = px_any_type(build, any);
    px_unhonoured(build, "tracing.provider"); /* no span is reported */
    if (lt_str_eqz(type, xds__zipkin_config__descriptor.name))
        return make_zipkin(build, any, conf);
    if (lt_str_eqz(type, xds__open_telemetry_config__descriptor.name))
        conf->tracer = PX_TRACER_W3C;
    return LT_OK;
}

static lt_rc make_request_id(struct px_build *build, const Xds__HttpConnectionManager *in,
                             struct px_hcm_conf *hcm, struct px_tracing_conf *tracing)
{
    hcm->keeps_external_id = in->has_preserve_external_request_id &&
                             in->preserve_external_request_id;
    hcm->answers_request_id = in->has_always_set_request_id_in_response &&
                              in->always_set_request_id_in_response;
    const Xds__RequestIDExtension *extension = in->request_id_extension;
    if (extension == NULL || extension->typed_config == NULL)
        return LT_OK;
    Xds__UuidRequestIdConfig *uuid = NULL;
    lt_str type = px_any_type(build, extension->typed_config);
    if (!lt_str_eqz(type, xds__uuid_request_id_config__descriptor.name))
        return px_unsupported(build, "request_id_extension", "only UUIDs are supported");
    LT_TRY(px_unpack_any(build, "request_id_extension.typed_config", extension->typed_config,
                         &xds__uuid_request_id_config__descriptor, &uuid));
    if (tracing == NULL)
        return LT_OK;
    tracing->no_reason_in_id = !px_bool(uuid->pack_trace_reason, true);
    tracing->ignores_id_for_sampling = !px_bool(uuid->use_request_id_for_trace_sampling, true);
    return LT_OK;
}

lt_rc px_make_tracing(struct px_build *build, const Xds__HttpConnectionManager *in,
                      struct px_hcm_conf *hcm)
{
    const Xds__HttpConnectionManager__Tracing *tracing = in->tracing;
    if (tracing == NULL)
        return make_request_id(build, in, hcm, NULL);
    struct px_tracing_conf *conf = lt_arena_make(build->arena, struct px_tracing_conf);
    hcm->tracing = conf;
    conf->client_ppm = percent_ppm(tracing->client_sampling);
    conf->random_ppm = percent_ppm(tracing->random_sampling);
    conf->overall_ppm = percent_ppm(tracing->overall_sampling);
    conf->spawns_span = px_bool(tracing->spawn_upstream_span, false);
    conf->no_propagation = tracing->has_no_context_propagation && tracing->no_context_propagation;
    LT_TRY(make_provider(build, tracing->provider, conf));
    return make_request_id(build, in, hcm, conf);
}
