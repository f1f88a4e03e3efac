/*
 * proxy/compile/secret.c - Secret to px_secret_conf. An empty secret is refused: whoever verifies
 * nothing trusts anybody.
 */
#include "proxy/compile/kinds.h"
#include "proxy/compile/trust.h"

/* What no context can be made of is refused here, so that the secret before it stays. */
static lt_rc try_out(struct px_build *build, const char *field, const struct lt_tls_opts *opts)
{
    struct lt_tls_ctx *ctx = NULL;
    struct lt_err err = {0};
    if (lt_tls_ctx_new(opts, &ctx, &err) != LT_OK)
        return px_bad(build, field, "%s", err.text);
    lt_tls_ctx_unref(&ctx);
    return LT_OK;
}

static lt_rc make_certificate(struct px_build *build, const Xds__TlsCertificate *cert,
                              struct px_secret_conf *conf)
{
    conf->is = PX_SECRET_CERT;
    LT_TRY(px_make_cert(build, "tls_certificate", cert, &conf->cert));
    const struct lt_tls_opts opts = {.is_server = true,
                                     .cert_chain_pem = conf->cert.chain_pem,
                                     .key_pem = conf->cert.key_pem,
                                     .ocsp_der = conf->cert.ocsp_der};
    return try_out(build, "tls_certificate", &opts);
}

static lt_rc make_validation(struct px_build *build,
                             const Xds__CertificateValidationContext *context,
                             struct px_secret_conf *conf)
{
    size_t mark = px_path_enter(build, "validation_context", -1);
    conf->is = PX_SECRET_TRUST;
    LT_TRY(px_make_trust(build, context, &conf->trust));
    if (!px_trust_verifies(&conf->trust))
        return px_bad(build, "trusted_ca", "is empty: every certificate would be trusted");
    const struct px_trust_conf *trust = &conf->trust;
    const struct lt_tls_opts opts = {.verify_peer = true,
                                     .ca_pem = trust->ca_pem,
                                     .crl_pem = trust->crl_pem,
                                     .domains = trust->domains,
                                     .domain_count = trust->domain_count,
                                     .cert_hashes = trust->cert_hashes,
                                     .cert_hash_count = trust->cert_hash_count,
                                     .key_hashes = trust->key_hashes,
                                     .key_hash_count = trust->key_hash_count};
    LT_TRY(try_out(build, NULL, &opts));
    px_path_leave(build, mark);
    return LT_OK;
}

lt_rc px_make_secret(struct px_build *build, const Xds__Secret *secret, struct px_secret_conf *conf)
{
    conf->res.name = px_copy(build, secret->name);
    switch (secret->type_case) {
    case XDS__SECRET__TYPE_VALIDATION_CONTEXT:
        return make_validation(build, secret->validation_context, conf);
    case XDS__SECRET__TYPE_TLS_CERTIFICATE:
        return make_certificate(build, secret->tls_certificate, conf);
    case XDS__SECRET__TYPE_SESSION_TICKET_KEYS:
        conf->is = PX_SECRET_TICKET_KEYS;
        return px_make_ticket_keys(build, secret->session_ticket_keys, &conf->ticket_keys,
                                   &conf->ticket_key_count);
    default:
        return px_unsupported(build, NULL,
                              "a secret must hold a tls_certificate, a validation_context or "
                              "session_ticket_keys");
    }
}
