/*
 * proxy/conf_tls.c - TLS contexts of listeners and clusters. The SSL contexts that they share:
 * tls_slots.c.
 * A security field that we cannot honour refuses the resource: it is never just left out.
 * Start at: px_make_transport_socket().
 */
#include "proxy/conf_build.h"
#include "wire/proto/socket_raw_buffer.pb-c.h"

/* --- from the message --- */

static int version_of(int version)
{
    switch (version) {
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_0:
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_1:
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_2: return 0x0303; /* we speak nothing older */
    case XDS__TLS_PARAMETERS__TLS_PROTOCOL__TLSv1_3: return 0x0304;
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

static lt_rc make_params(struct px_build *build, const Xds__TlsParameters *params,
                         struct px_tls_conf *conf)
{
    if (params == NULL)
        return LT_OK;
    conf->version_min = params->has_tls_minimum_protocol_version
                            ? version_of(params->tls_minimum_protocol_version)
                            : 0;
    conf->version_max = params->has_tls_maximum_protocol_version
                            ? version_of(params->tls_maximum_protocol_version)
                            : 0;
    conf->cipher_list = join(build, (char *const *)params->cipher_suites, params->n_cipher_suites,
                             ':');
    conf->ecdh_curves = join(build, (char *const *)params->ecdh_curves, params->n_ecdh_curves, ':');
    if (params->n_compliance_policies > 0)
        return px_unsupported(build, "tls_params.compliance_policies", "is not supported");
    return LT_OK;
}

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

static lt_rc make_certificate(struct px_build *build, const Xds__CommonTlsContext *common,
                              struct px_tls_conf *conf)
{
    if (common->n_tls_certificates > 1 || common->n_tls_certificate_sds_secret_configs > 1)
        return px_unsupported(build, "tls_certificates",
                              "more than one certificate is not supported");
    if (common->tls_certificate_provider_instance != NULL)
        return px_unsupported(build, "tls_certificate_provider_instance", "is not supported");
    if (common->n_tls_certificate_sds_secret_configs == 1) {
        const Xds__SdsSecretConfig *sds = common->tls_certificate_sds_secret_configs[0];
        return refer_secret(build, "tls_certificate_sds_secret_configs[0]", sds, &conf->cert_row);
    }
    if (common->n_tls_certificates == 0)
        return LT_OK;
    const Xds__TlsCertificate *cert = common->tls_certificates[0];
    LT_TRY(px_make_data(build, "tls_certificates[0].certificate_chain", cert->certificate_chain,
                        &conf->cert_chain_pem));
    conf->cert_path = px_data_path(build, cert->certificate_chain);
    build->holds_key |= px_is_inline(cert->private_key);
    return px_make_data(build, "tls_certificates[0].private_key", cert->private_key,
                        &conf->key_pem);
}

static lt_rc make_san(struct px_build *build, const char *field, const Xds__StringMatcher *matcher,
                      lt_san_type type, struct lt_san_matcher *san)
{
    struct px_string_match match;
    LT_TRY(px_make_string_match(build, field, matcher, &match));
    static const lt_san_match kinds[] = {
        [PX_MATCH_EXACT] = LT_SAN_EXACT,
        [PX_MATCH_PREFIX] = LT_SAN_PREFIX,
        [PX_MATCH_SUFFIX] = LT_SAN_SUFFIX,
        [PX_MATCH_CONTAINS] = LT_SAN_CONTAINS,
    };
    if (match.kind == PX_MATCH_REGEX)
        return px_unsupported(build, field,
                              "a regular expression for subject names is not supported");
    *san = (struct lt_san_matcher){type, kinds[match.kind], match.ignore_case, match.text};
    return LT_OK;
}

static lt_san_type san_type(int type)
{
    switch (type) {
    case XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__EMAIL: return LT_SAN_EMAIL;
    case XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS: return LT_SAN_DNS;
    case XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__URI: return LT_SAN_URI;
    case XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__IP_ADDRESS: return LT_SAN_IP;
    default: return LT_SAN_ANY_TYPE;
    }
}

static lt_rc make_sans(struct px_build *build, const Xds__CertificateValidationContext *context,
                       struct px_tls_conf *conf)
{
    size_t count = context->n_match_subject_alt_names + context->n_match_typed_subject_alt_names;
    struct lt_san_matcher *sans = lt_arena_make_n(build->arena, struct lt_san_matcher, count);
    for (size_t i = 0; i < context->n_match_subject_alt_names; i++)
        LT_TRY(make_san(build, "match_subject_alt_names", context->match_subject_alt_names[i],
                        LT_SAN_ANY_TYPE, sans++));
    for (size_t i = 0; i < context->n_match_typed_subject_alt_names; i++) {
        const Xds__SubjectAltNameMatcher *typed = context->match_typed_subject_alt_names[i];
        if (typed->matcher == NULL)
            return px_bad(build, "match_typed_subject_alt_names", "a matcher is missing");
        LT_TRY(make_san(build, "match_typed_subject_alt_names", typed->matcher,
                        san_type(typed->has_san_type ? typed->san_type : 0), sans++));
    }
    conf->sans = sans - count;
    conf->san_count = count;
    return LT_OK;
}

static lt_rc make_validation(struct px_build *build,
                             const Xds__CertificateValidationContext *context,
                             struct px_tls_conf *conf)
{
    if (context == NULL)
        return LT_OK;
    if (context->n_verify_certificate_hash > 0 || context->n_verify_certificate_spki > 0)
        return px_unsupported(build, "verify_certificate_hash",
                              "pinned certificates are not supported");
    if (context->custom_validator_config != NULL ||
        context->ca_certificate_provider_instance != NULL)
        return px_unsupported(build, "custom_validator_config", "is not supported");
    if (context->crl != NULL)
        return px_unsupported(build, "crl", "inline revocation lists are not supported");
    if (context->has_trust_chain_verification &&
        context->trust_chain_verification !=
            XDS__CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__VERIFY_TRUST_CHAIN)
        return px_unsupported(build, "trust_chain_verification",
                              "ACCEPT_UNTRUSTED is not supported");
    LT_TRY(make_sans(build, context, conf));
    LT_TRY(px_make_data(build, "trusted_ca", context->trusted_ca, &conf->ca_pem));
    conf->ca_path = px_data_path(build, context->trusted_ca);
    conf->verify_peer = conf->verify_peer || conf->ca_pem.len > 0;
    if (conf->san_count > 0 && !conf->verify_peer)
        return px_bad(build, "match_subject_alt_names",
                      "subject names without a trusted_ca verify nothing");
    return LT_OK;
}

/*
 * A protocol that this proxy does not speak yet is neither offered nor accepted: whoever negotiated
 * "istio-peer-exchange" would find its peer's preface missing, or take ours for payload.
 */
static void make_alpn(struct px_build *build, const Xds__CommonTlsContext *common,
                      struct px_tls_conf *conf)
{
    lt_str *names = lt_arena_make_n(build->arena, lt_str, common->n_alpn_protocols);
    for (size_t i = 0; i < common->n_alpn_protocols; i++) {
        lt_str name = lt_str_of(common->alpn_protocols[i]);
        if (lt_str_eqz(name, "istio-peer-exchange"))
            continue;
        names[conf->alpn_count++] = lt_arena_str(build->arena, name);
    }
    conf->alpn = names;
}

static lt_rc make_common(struct px_build *build, const Xds__CommonTlsContext *common,
                         struct px_tls_conf *conf)
{
    if (common == NULL)
        return LT_OK;
    LT_TRY(make_params(build, common->tls_params, conf));
    LT_TRY(make_certificate(build, common, conf));
    make_alpn(build, common, conf);
    if (common->custom_handshaker != NULL)
        return px_unsupported(build, "custom_handshaker", "is not supported");
    switch (common->validation_context_type_case) {
    case XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT:
        return make_validation(build, common->validation_context, conf);
    case XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG:
        conf->verify_peer = true;
        return refer_secret(build, "validation_context_sds_secret_config",
                            common->validation_context_sds_secret_config, &conf->validation_row);
    case XDS__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT: {
        const Xds__CommonTlsContext__CombinedCertificateValidationContext *both =
            common->combined_validation_context;
        if (both->validation_context_sds_secret_config == NULL)
            return px_bad(build, "combined_validation_context.validation_context_sds_secret_config",
                          "is missing");
        LT_TRY(refer_secret(build,
                            "combined_validation_context.validation_context_sds_secret_config",
                            both->validation_context_sds_secret_config, &conf->validation_row));
        conf->verify_peer = true;
        return make_validation(build, both->default_validation_context, conf);
    }
    default: return LT_OK;
    }
}

static lt_rc make_downstream(struct px_build *build, const Pb__Any *any, struct px_tls_conf *conf)
{
    Xds__DownstreamTlsContext *context = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__downstream_tls_context__descriptor,
                         &context));
    conf->is_server = true;
    conf->require_client_certificate = px_bool(context->require_client_certificate, false);
    if (px_bool(context->require_sni, false))
        return px_unsupported(build, "require_sni", "is not supported");
    LT_TRY(make_common(build, context->common_tls_context, conf));
    if (conf->cert_row == NULL && conf->cert_chain_pem.len == 0)
        return px_bad(build, "common_tls_context.tls_certificates",
                      "a TLS server needs a certificate");
    if (conf->require_client_certificate && !conf->verify_peer)
        return px_unsupported(build, "require_client_certificate",
                              "without a trusted_ca any certificate would do");
    return LT_OK;
}

static lt_rc make_upstream(struct px_build *build, const Pb__Any *any, struct px_tls_conf *conf)
{
    Xds__UpstreamTlsContext *context = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", any, &xds__upstream_tls_context__descriptor,
                         &context));
    conf->sni = px_copy(build, context->sni);
    conf->has_host_sni = context->has_auto_host_sni && context->auto_host_sni;
    conf->has_sni_san = context->has_auto_sni_san_validation && context->auto_sni_san_validation;
    return make_common(build, context->common_tls_context, conf);
}

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
    lt_str type = lt_any_inner_type(build->scratch, any);
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
        struct px_tls_slot *slot = px_tls_slots_intern(build->slots, conf, conf->cert_row,
                                                       conf->validation_row);
        conf->ctx_slot = px_tls_slot_id(slot);
        px_own(build, slot, px_tls_slot_drop);
        *ret_tls = conf;
    }
    px_path_leave(build, mark);
    return LT_OK;
}
