/*
 * proxy/compile/tls.c - TLS contexts of listeners and clusters. What certificates and trust are
 * made of: trust.c. The SSL contexts that they share: tls_slots.c.
 * A security field that we cannot honour refuses the resource: it is never just left out.
 * Start at: px_make_transport_socket().
 */
#include "proxy/compile/trust.h"
#include "proxy/run/exchange.h"
#include "wire/proto/socket_raw_buffer.pb-c.h"

enum { TLS_1_2 = 0x0303, TLS_1_3 = 0x0304, SESSIONS_DEFAULT = 1 };

/* --- parameters --- */

static int version_of(int version)
{
    switch (version) {
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_0:
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_1:
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2: return TLS_1_2; /* we speak nothing older */
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3: return TLS_1_3;
    default: return 0;
    }
}

static lt_str join(struct px_build *build, char *const *texts, size_t count, char sep)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += strlen(texts[i]) + 1;
    if (len == 0)
        return LT_STR_NULL;
    char *joined = lt_arena_bytes(build->arena, len);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t part = strlen(texts[i]);
        memcpy(joined + at, texts[i], part);
        at += part;
        joined[at++] = sep;
    }
    joined[at - 1] = '\0';
    return lt_str_make(joined, at - 1);
}

static lt_rc make_versions(struct px_build *build, const Xds__TlsParameters *params,
                           struct px_tls_conf *conf)
{
    int max = params->has_tls_maximum_protocol_version ? params->tls_maximum_protocol_version : 0;
    if (max == XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_0 ||
        max == XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_1)
        return px_unsupported(build, "tls_params.tls_maximum_protocol_version",
                              "TLS below 1.2 is not supported");
    conf->version_min = params->has_tls_minimum_protocol_version
                            ? version_of(params->tls_minimum_protocol_version)
                            : 0;
    conf->version_max = version_of(max);
    if (conf->version_max != 0 && conf->version_min > conf->version_max)
        return px_bad(build, "tls_params.tls_minimum_protocol_version", "is above the maximum");
    return LT_OK;
}

static lt_rc make_params(struct px_build *build, const Xds__TlsParameters *params,
                         struct px_tls_conf *conf)
{
    if (params == NULL)
        return LT_OK;
    LT_TRY(make_versions(build, params, conf));
    conf->cipher_list = join(build, (char *const *)params->cipher_suites, params->n_cipher_suites,
                             ':');
    conf->ecdh_curves = join(build, (char *const *)params->ecdh_curves, params->n_ecdh_curves, ':');
    conf->signature_algorithms = join(build, (char *const *)params->signature_algorithms,
                                      params->n_signature_algorithms, ':');
    if (params->n_compliance_policies > 0)
        return px_unsupported(build, "tls_params.compliance_policies", "is not supported");
    return LT_OK;
}

/*
 * Whoever negotiates "istio-peer-exchange" sends a preface and waits for one (exchange.h): it is
 * accepted where raw TCP follows, and offered for raw TCP alone.
 */
static void make_alpn(struct px_build *build, const Xds__CommonTlsContext *common,
                      struct px_tls_conf *conf)
{
    lt_str *names = lt_arena_make_n(build->arena, lt_str, common->n_alpn_protocols);
    lt_str *all = lt_arena_make_n(build->arena, lt_str, common->n_alpn_protocols);
    bool has_exchange = false;
    for (size_t i = 0; i < common->n_alpn_protocols; i++) {
        all[i] = px_copy(build, common->alpn_protocols[i]);
        bool is_exchange = lt_str_eqz(all[i], PX_EXCHANGE_ALPN);
        has_exchange |= is_exchange;
        if (!is_exchange || (conf->is_server && build->takes_exchange))
            names[conf->alpn_count++] = all[i];
    }
    conf->alpn = names;
    if (has_exchange && !conf->is_server) {
        conf->exchange_alpn = all;
        conf->exchange_alpn_count = common->n_alpn_protocols;
    }
}

/* --- certificates, trust --- */

static lt_rc refer_secret(struct px_build *build, const char *field,
                          const Xds__SdsSecretConfig *sds, struct px_row **ret_row)
{
    size_t mark = px_path_enter(build, field, -1);
    if (sds->name == NULL || sds->name[0] == '\0')
        return px_bad(build, "name", "is empty");
    LT_TRY(px_refer(build, "sds_config", PX_SECRET, sds->sds_config, lt_str_of(sds->name), false,
                    ret_row));
    px_path_leave(build, mark);
    return LT_OK;
}

static lt_rc make_certificates(struct px_build *build, const Xds__CommonTlsContext *common,
                               struct px_tls_conf *conf)
{
    size_t by_name = common->n_tls_certificate_sds_secret_configs;
    size_t count = common->n_tls_certificates + by_name;
    if (count > LT_TLS_CERTS_MAX)
        return px_bad(build, "tls_certificates", "more than %d", LT_TLS_CERTS_MAX);
    if (common->n_tls_certificates > 0 && by_name > 0)
        return px_bad(build, "tls_certificates",
                      "is not allowed beside tls_certificate_sds_secret_configs");
    if (!conf->is_server && count > 1)
        return px_bad(build, "tls_certificates",
                      "multiple TLS certificates are not supported for client contexts");
    if (common->tls_certificate_provider_instance != NULL)
        return px_unsupported(build, "tls_certificate_provider_instance", "is not supported");
    if (common->custom_tls_certificate_selector != NULL)
        return px_unsupported(build, "custom_tls_certificate_selector", "'%s' is not supported",
                              common->custom_tls_certificate_selector->name);
    struct px_cert_conf *certs = lt_arena_make_n(build->arena, struct px_cert_conf, count);
    conf->certs = certs;
    conf->cert_count = count;
    for (size_t i = 0; i < by_name; i++)
        LT_TRY(refer_secret(build, "tls_certificate_sds_secret_configs",
                            common->tls_certificate_sds_secret_configs[i], &certs[i].row));
    for (size_t i = 0; i < common->n_tls_certificates; i++)
        LT_TRY(px_make_cert(build, "tls_certificates", common->tls_certificates[i], &certs[i]));
    return LT_OK;
}

static lt_rc make_inline_trust(struct px_build *build,
                               const Xds__CertificateValidationContext *context,
                               struct px_tls_conf *conf)
{
    if (context == NULL)
        return LT_OK;
    LT_TRY(px_make_trust(build, context, &conf->trust));
    conf->verify_peer = conf->verify_peer || px_trust_verifies(&conf->trust);
    /* they go with each connection: contexts are shared without them */
    conf->sans = conf->trust.sans;
    conf->san_count = conf->trust.san_count;
    conf->trust.sans = NULL;
    conf->trust.san_count = 0;
    bool has_anchor = conf->trust.ca_pem.len > 0 || conf->trust.domain_count > 0 ||
                      conf->validation_row != NULL;
    if (conf->san_count > 0 && !has_anchor)
        return px_bad(build, "match_subject_alt_names",
                      "subject names without a trusted_ca verify nothing");
    if (conf->trust.crl_pem.len > 0 && conf->trust.ca_pem.len == 0 && conf->validation_row == NULL)
        return px_bad(build, "crl", "without a trusted_ca revokes nothing");
    return LT_OK;
}

static lt_rc make_validation(struct px_build *build, const Xds__CommonTlsContext *common,
                             struct px_tls_conf *conf)
{
    const Xds__CommonTlsContext__CombinedCertificateValidationContext *both = NULL;
    switch (common->validation_context_type_case) {
    case XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT:
        return make_inline_trust(build, common->validation_context, conf);
    case XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG:
        conf->verify_peer = true;
        return refer_secret(build, "validation_context_sds_secret_config",
                            common->validation_context_sds_secret_config, &conf->validation_row);
    case XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT:
        both = common->combined_validation_context;
        if (both->validation_context_sds_secret_config == NULL)
            return px_bad(build, "combined_validation_context.validation_context_sds_secret_config",
                          "is missing");
        LT_TRY(refer_secret(build,
                            "combined_validation_context.validation_context_sds_secret_config",
                            both->validation_context_sds_secret_config, &conf->validation_row));
        conf->verify_peer = true;
        return make_inline_trust(build, both->default_validation_context, conf);
    default: return LT_OK;
    }
}

static lt_rc make_common(struct px_build *build, const Xds__CommonTlsContext *common,
                         struct px_tls_conf *conf)
{
    if (common == NULL)
        return LT_OK;
    LT_TRY(make_params(build, common->tls_params, conf));
    LT_TRY(make_certificates(build, common, conf));
    make_alpn(build, common, conf);
    if (common->custom_handshaker != NULL)
        return px_unsupported(build, "custom_handshaker", "is not supported");
    return make_validation(build, common, conf);
}

/* --- a server --- */

static lt_rc make_resumption(struct px_build *build, const Xds__DownstreamTlsContext *in,
                             struct px_tls_conf *conf)
{
    conf->session_timeout_s = px_duration_ms(in->session_timeout, 0) / 1000;
    conf->without_session_ids = in->has_disable_stateful_session_resumption &&
                                in->disable_stateful_session_resumption;
    switch (in->session_ticket_keys_type_case) {
    case XDS__DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS:
        return px_make_ticket_keys(build, in->session_ticket_keys, &conf->ticket_keys,
                                   &conf->ticket_key_count);
    case XDS__DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_SESSION_TICKET_KEYS_SDS_SECRET_CONFIG:
        return refer_secret(build, "session_ticket_keys_sds_secret_config",
                            in->session_ticket_keys_sds_secret_config, &conf->ticket_row);
    case XDS__DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_DISABLE_STATELESS_SESSION_RESUMPTION:
        conf->without_tickets = in->disable_stateless_session_resumption;
        return LT_OK;
    default: return LT_OK;
    }
}

static lt_rc make_stapling(struct px_build *build, const Xds__DownstreamTlsContext *in)
{
    int policy = in->has_ocsp_staple_policy ? (int)in->ocsp_staple_policy : 0;
    if (policy != XDS__DOWNSTREAM_TLS_CONTEXT__OCSP_STAPLE_POLICY__LENIENT_STAPLING)
        return px_unsupported(build, "ocsp_staple_policy", "only LENIENT_STAPLING is supported");
    return LT_OK;
}

static lt_rc make_downstream(struct px_build *build, const Pb__Any *any, struct px_tls_conf *conf)
{
    Xds__DownstreamTlsContext *context = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__downstream_tls_context__descriptor,
                         &context));
    conf->is_server = true;
    conf->require_client_certificate = px_bool(context->require_client_certificate, false);
    conf->scans_all_certs = px_bool(context->full_scan_certs_on_sni_mismatch, false);
    conf->prefers_client_ciphers = context->has_prefer_client_ciphers &&
                                   context->prefer_client_ciphers;
    if (px_bool(context->require_sni, false))
        return px_unsupported(build, "require_sni", "is not supported");
    LT_TRY(make_stapling(build, context));
    LT_TRY(make_resumption(build, context, conf));
    LT_TRY(make_common(build, context->common_tls_context, conf));
    if (conf->cert_count == 0)
        return px_bad(build, "common_tls_context.tls_certificates",
                      "a TLS server needs a certificate");
    /* Envoy: who must have a name must have a certificate */
    conf->require_client_certificate |= conf->san_count > 0;
    if (conf->require_client_certificate && !conf->verify_peer)
        return px_unsupported(build, "require_client_certificate",
                              "without a trusted_ca any certificate would do");
    /* SPIFFE knows nobody without a certificate, as Envoy's validator has it */
    if (conf->trust.domain_count > 0)
        conf->require_client_certificate = true;
    return LT_OK;
}

/* --- a client --- */

static lt_rc make_upstream(struct px_build *build, const Pb__Any *any, struct px_tls_conf *conf)
{
    Xds__UpstreamTlsContext *context = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__upstream_tls_context__descriptor,
                         &context));
    conf->sni = px_copy(build, context->sni);
    if (conf->sni.len > 255)
        return px_bad(build, "sni", "is longer than 255 bytes");
    conf->has_host_sni = context->has_auto_host_sni && context->auto_host_sni;
    conf->has_sni_san = context->has_auto_sni_san_validation && context->auto_sni_san_validation;
    conf->sessions_max = px_u32(context->max_session_keys, SESSIONS_DEFAULT);
    return make_common(build, context->common_tls_context, conf);
}

/* --- the transport socket --- */

lt_rc px_make_transport_socket(struct px_build *build, const Xds__TransportSocket *socket,
                               bool is_server, const struct px_tls_conf **ret_tls)
{
    *ret_tls = NULL;
    if (socket == NULL)
        return LT_OK;
    size_t mark = px_path_enter(build, "transport_socket", -1);
    const Pb__Any *any = socket->config_type_case == XDS__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG
                             ? socket->typed_config
                             : NULL;
    lt_str type = px_any_type(build, any);
    bool is_raw = lt_str_eqz(type, xds__raw_buffer__descriptor.name) ||
                  (any == NULL &&
                   lt_str_eqz(lt_str_of(socket->name), "envoy.transport_sockets.raw_buffer"));
    if (!is_raw) {
        const char *wanted = is_server ? xds__downstream_tls_context__descriptor.name
                                       : xds__upstream_tls_context__descriptor.name;
        if (!lt_str_eqz(type, wanted))
            return px_unsupported(build, NULL, "transport socket type '%.*s' is not supported",
                                  LT_STR_ARG(type));
        struct px_tls_conf *conf = lt_arena_make(build->arena, struct px_tls_conf);
        LT_TRY(is_server ? make_downstream(build, any, conf) : make_upstream(build, any, conf));
        px_own(build, px_tls_slots_intern(build->slots, conf), px_tls_slot_drop);
        *ret_tls = conf;
    }
    px_path_leave(build, mark);
    return LT_OK;
}
