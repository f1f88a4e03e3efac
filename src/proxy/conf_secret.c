/*
 * proxy/conf_secret.c - Secret to px_secret_conf. An empty secret is refused: whoever verifies
 * nothing trusts anybody.
 */
#include "proxy/conf_kinds.h"

/*
 * What a secret says beyond whom to trust narrows it. Here only listeners and clusters can say that
 * (conf_tls.c): taken and not done, it would let in those whom it keeps out.
 */
static lt_rc refuse_narrower(struct px_build *build,
                             const Xds__CertificateValidationContext *context)
{
    const struct {
        const char *field;
        bool is_said;
    } rows[] = {
        {"validation_context.match_typed_subject_alt_names",
         context->n_match_typed_subject_alt_names + context->n_match_subject_alt_names > 0},
        {"validation_context.verify_certificate_hash",
         context->n_verify_certificate_hash + context->n_verify_certificate_spki > 0},
        {"validation_context.custom_validator_config", context->custom_validator_config != NULL},
        {"validation_context.ca_certificate_provider_instance",
         context->ca_certificate_provider_instance != NULL},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        if (rows[i].is_said)
            return px_unsupported(build, rows[i].field, "is not supported in a secret");
    }
    return LT_OK;
}

static lt_rc make_validation(struct px_build *build,
                             const Xds__CertificateValidationContext *context,
                             struct px_secret_conf *conf)
{
    LT_TRY(refuse_narrower(build, context));
    LT_TRY(
        px_make_data(build, "validation_context.trusted_ca", context->trusted_ca, &conf->ca_pem));
    LT_TRY(px_make_data(build, "validation_context.crl", context->crl, &conf->crl_pem));
    conf->path = px_data_path(build, context->trusted_ca);
    if (conf->ca_pem.len == 0)
        return px_bad(build, "validation_context.trusted_ca",
                      "is empty: every certificate would be trusted");
    return LT_OK;
}

lt_rc px_make_secret(struct px_build *build, const Xds__Secret *secret, struct px_secret_conf *conf)
{
    conf->res.name = px_copy(build, secret->name);
    if (secret->type_case == XDS__SECRET__TYPE_VALIDATION_CONTEXT)
        return make_validation(build, secret->validation_context, conf);
    if (secret->type_case != XDS__SECRET__TYPE_TLS_CERTIFICATE)
        return px_unsupported(build, NULL,
                              "a secret must hold a tls_certificate or a validation_context");
    const Xds__TlsCertificate *cert = secret->tls_certificate;
    LT_TRY(px_make_data(build, "tls_certificate.certificate_chain", cert->certificate_chain,
                        &conf->cert_chain_pem));
    LT_TRY(px_make_data(build, "tls_certificate.private_key", cert->private_key, &conf->key_pem));
    conf->path = px_data_path(build, cert->certificate_chain);
    if (conf->cert_chain_pem.len == 0 || conf->key_pem.len == 0)
        return px_bad(build, "tls_certificate", "certificate chain and private key are needed");
    if (cert->password != NULL || cert->private_key_provider != NULL || cert->pkcs12 != NULL)
        return px_unsupported(build, "tls_certificate",
                              "encrypted keys, key providers and PKCS#12 are not supported");
    return LT_OK;
}
