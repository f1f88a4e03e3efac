/*
 * proxy/compile/trust.c - certificates, whom to trust, and ticket keys: what a TLS context has
 * inline and a secret brings. Whatever narrows whom to trust and can't be honoured refuses the
 * resource.
 * Start at: px_make_trust().
 */
#include "proxy/compile/trust.h"

#include "net/x509.h"
#include "wire/base64.h"

enum { HASH_BYTES = LT_SHA256_BYTES };

/* --- certificates --- */

lt_rc px_make_cert(struct px_build *build, const char *field, const Xds__TlsCertificate *in,
                   struct px_cert_conf *cert)
{
    size_t mark = px_path_enter(build, field, -1);
    if (in->private_key_provider != NULL)
        return px_unsupported(build, "private_key_provider", "'%s' is not supported",
                              in->private_key_provider->provider_name != NULL
                                  ? in->private_key_provider->provider_name
                                  : "");
    if (in->pkcs12 != NULL || in->password != NULL)
        return px_unsupported(build, in->pkcs12 != NULL ? "pkcs12" : "password",
                              "is not supported: keys are PEM without a password");
    LT_TRY(px_make_data(build, "certificate_chain", in->certificate_chain, &cert->chain_pem));
    LT_TRY(px_make_data(build, "private_key", in->private_key, &cert->key_pem));
    build->holds_key |= px_is_inline(in->private_key);
    LT_TRY(px_make_data(build, "ocsp_staple", in->ocsp_staple, &cert->ocsp_der));
    cert->path = px_data_path(build, in->certificate_chain);
    if (cert->chain_pem.len == 0 || cert->key_pem.len == 0)
        return px_bad(build, NULL, "certificate chain and private key are needed");
    px_path_leave(build, mark);
    return LT_OK;
}

lt_rc px_make_ticket_keys(struct px_build *build, const Xds__TlsSessionTicketKeys *in,
                          const lt_str **ret_keys, size_t *ret_count)
{
    if (in->n_keys == 0 || in->n_keys > LT_TLS_TICKET_KEYS_MAX)
        return px_bad(build, "session_ticket_keys.keys", "there must be 1 to %d of them",
                      LT_TLS_TICKET_KEYS_MAX);
    lt_str *keys = lt_arena_make_n(build->arena, lt_str, in->n_keys);
    for (size_t i = 0; i < in->n_keys; i++) {
        LT_TRY(px_make_data(build, "session_ticket_keys.keys", in->keys[i], &keys[i]));
        build->holds_key |= px_is_inline(in->keys[i]);
        if (keys[i].len != LT_TLS_TICKET_KEY_BYTES)
            return px_bad(build, "session_ticket_keys.keys",
                          "incorrect TLS session ticket key length: %zu bytes, expected %d",
                          keys[i].len, LT_TLS_TICKET_KEY_BYTES);
    }
    *ret_keys = keys;
    *ret_count = in->n_keys;
    return LT_OK;
}

/* --- names --- */

static lt_rc make_san(struct px_build *build, const char *field, const Xds__StringMatcher *matcher,
                      lt_san_type type, struct lt_san_matcher *san)
{
    struct px_string_match match;
    LT_TRY(px_make_string_match(build, field, matcher, &match));
    static const lt_san_match kinds[] = {
        [PX_MATCH_EXACT] = LT_SAN_EXACT,   [PX_MATCH_PREFIX] = LT_SAN_PREFIX,
        [PX_MATCH_SUFFIX] = LT_SAN_SUFFIX, [PX_MATCH_CONTAINS] = LT_SAN_CONTAINS,
        [PX_MATCH_REGEX] = LT_SAN_REGEX,
    };
    *san = (struct lt_san_matcher){.type = type,
                                   .match = kinds[match.kind],
                                   .ignore_case = match.ignore_case,
                                   .value = match.text,
                                   .regex = match.regex};
    if (match.kind == PX_MATCH_REGEX)
        san->value = px_copy(build, matcher->safe_regex->regex);
    return LT_OK;
}

static lt_rc make_typed_san(struct px_build *build, const Xds__SubjectAltNameMatcher *typed,
                            struct lt_san_matcher *san)
{
    static const lt_san_type types[] = {
        [XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__EMAIL] = LT_SAN_EMAIL,
        [XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS] = LT_SAN_DNS,
        [XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__URI] = LT_SAN_URI,
        [XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__IP_ADDRESS] = LT_SAN_IP,
        [XDS__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__OTHER_NAME] = LT_SAN_OTHER,
    };
    const char *field = "match_typed_subject_alt_names";
    size_t type = typed->has_san_type ? (size_t)typed->san_type : 0;
    if (typed->matcher == NULL)
        return px_bad(build, field, "a matcher is missing");
    if (type == 0 || type >= LT_ARRAY_LEN(types))
        return px_bad(build, field, "a san_type is missing or unknown");
    LT_TRY(make_san(build, field, typed->matcher, types[type], san));
    san->oid = px_copy(build, typed->oid);
    if (san->type == LT_SAN_OTHER && san->oid.len == 0)
        return px_bad(build, field, "OTHER_NAME needs an oid");
    return LT_OK;
}

static lt_rc make_sans(struct px_build *build, const Xds__CertificateValidationContext *context,
                       struct px_trust_conf *trust)
{
    size_t count = context->n_match_subject_alt_names + context->n_match_typed_subject_alt_names;
    struct lt_san_matcher *sans = lt_arena_make_n(build->arena, struct lt_san_matcher, count);
    trust->sans = sans;
    trust->san_count = count;
    for (size_t i = 0; i < context->n_match_subject_alt_names; i++)
        LT_TRY(make_san(build, "match_subject_alt_names", context->match_subject_alt_names[i],
                        LT_SAN_ANY_TYPE, sans++));
    for (size_t i = 0; i < context->n_match_typed_subject_alt_names; i++)
        LT_TRY(make_typed_san(build, context->match_typed_subject_alt_names[i], sans++));
    return LT_OK;
}

/* --- pins --- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "ab:cd:..." or "abcd..." */
static lt_rc read_hex(struct px_build *build, lt_str text, lt_str *ret_hash)
{
    unsigned char *bytes = (unsigned char *)lt_arena_bytes(build->arena, HASH_BYTES);
    size_t step = text.len == 3 * HASH_BYTES - 1 ? 3 : 2;
    bool is_good = text.len == step * HASH_BYTES - (step - 2);
    for (size_t i = 0; is_good && i < HASH_BYTES; i++) {
        int high = hex_value(text.ptr[step * i]), low = hex_value(text.ptr[step * i + 1]);
        bool has_colon = step == 2 || i == HASH_BYTES - 1 || text.ptr[step * i + 2] == ':';
        is_good = high >= 0 && low >= 0 && has_colon;
        bytes[i] = (unsigned char)(high * 16 + low);
    }
    if (!is_good)
        return px_bad(build, "verify_certificate_hash", "invalid hex-encoded SHA-256 %.*s",
                      LT_STR_ARG(text));
    *ret_hash = lt_str_make(bytes, HASH_BYTES);
    return LT_OK;
}

static lt_rc make_hashes(struct px_build *build, const Xds__CertificateValidationContext *context,
                         struct px_trust_conf *trust)
{
    lt_str *certs = lt_arena_make_n(build->arena, lt_str, context->n_verify_certificate_hash);
    for (size_t i = 0; i < context->n_verify_certificate_hash; i++)
        LT_TRY(read_hex(build, lt_str_of(context->verify_certificate_hash[i]), &certs[i]));
    lt_str *keys = lt_arena_make_n(build->arena, lt_str, context->n_verify_certificate_spki);
    for (size_t i = 0; i < context->n_verify_certificate_spki; i++) {
        lt_str text = lt_str_of(context->verify_certificate_spki[i]);
        if (lt_base64_decode(build->arena, text, &keys[i]) != LT_OK || keys[i].len != HASH_BYTES)
            return px_bad(build, "verify_certificate_spki", "invalid base64-encoded SHA-256 %.*s",
                          LT_STR_ARG(text));
    }
    trust->cert_hashes = certs;
    trust->cert_hash_count = context->n_verify_certificate_hash;
    trust->key_hashes = keys;
    trust->key_hash_count = context->n_verify_certificate_spki;
    return LT_OK;
}

/* --- SPIFFE: roots by trust domain --- */

static lt_rc make_domains(struct px_build *build, const Xds__SPIFFECertValidatorConfig *in,
                          struct px_trust_conf *trust)
{
    if (in->trust_bundles != NULL)
        return px_unsupported(build, "trust_bundles", "is not supported: use trust_domains");
    if (in->n_trust_domains == 0 || in->n_trust_domains > LT_TLS_DOMAINS_MAX)
        return px_bad(build, "trust_domains", "there must be 1 to %d of them", LT_TLS_DOMAINS_MAX);
    struct lt_tls_domain *domains = lt_arena_make_n(build->arena, struct lt_tls_domain,
                                                    in->n_trust_domains);
    for (size_t i = 0; i < in->n_trust_domains; i++) {
        size_t mark = px_path_enter(build, "trust_domains", (ptrdiff_t)i);
        domains[i].name = px_copy(build, in->trust_domains[i]->name);
        LT_TRY(px_make_data(build, "trust_bundle", in->trust_domains[i]->trust_bundle,
                            &domains[i].ca_pem));
        if (domains[i].name.len == 0 || domains[i].ca_pem.len == 0)
            return px_bad(build, NULL, "a name and a trust bundle are needed");
        for (size_t j = 0; j < i; j++) {
            if (lt_str_eq(domains[j].name, domains[i].name))
                return px_bad(build, "name", "multiple trust bundles for one trust domain '%.*s'",
                              LT_STR_ARG(domains[i].name));
        }
        px_path_leave(build, mark);
    }
    trust->domains = domains;
    trust->domain_count = in->n_trust_domains;
    return LT_OK;
}

static lt_rc make_validator(struct px_build *build, const Xds__TypedExtensionConfig *in,
                            struct px_trust_conf *trust)
{
    if (in == NULL)
        return LT_OK;
    size_t mark = px_path_enter(build, "custom_validator_config", -1);
    lt_str type = px_any_type(build, in->typed_config);
    if (!lt_str_eqz(type, xds__spiffecert_validator_config__descriptor.name))
        return px_unsupported(build, NULL, "'%s' of type %.*s is not supported", in->name,
                              LT_STR_ARG(type));
    Xds__SPIFFECertValidatorConfig *spiffe = NULL;
    LT_TRY(px_unpack_any(build, "typed_config", in->typed_config,
                         &xds__spiffecert_validator_config__descriptor, &spiffe));
    LT_TRY(make_domains(build, spiffe, trust));
    px_path_leave(build, mark);
    return LT_OK;
}

/* --- all of it --- */

static lt_rc refuse_others(struct px_build *build, const Xds__CertificateValidationContext *context)
{
    if (context->ca_certificate_provider_instance != NULL)
        return px_unsupported(build, "ca_certificate_provider_instance", "is not supported");
    if (context->system_root_certs != NULL)
        return px_unsupported(build, "system_root_certs", "is not supported: name the file");
    if (px_bool(context->require_signed_certificate_timestamp, false))
        return px_unsupported(build, "require_signed_certificate_timestamp", "is not supported");
    return LT_OK;
}

static bool is_set(protobuf_c_boolean has, protobuf_c_boolean value)
{
    return has && value;
}

lt_rc px_make_trust(struct px_build *build, const Xds__CertificateValidationContext *context,
                    struct px_trust_conf *trust)
{
    LT_TRY(refuse_others(build, context));
    LT_TRY(make_sans(build, context, trust));
    LT_TRY(make_hashes(build, context, trust));
    LT_TRY(make_validator(build, context->custom_validator_config, trust));
    LT_TRY(px_make_data(build, "trusted_ca", context->trusted_ca, &trust->ca_pem));
    LT_TRY(px_make_data(build, "crl", context->crl, &trust->crl_pem));
    trust->path = px_data_path(build, context->trusted_ca);
    trust->depth_max = px_u32(context->max_verify_depth, 0);
    if (context->max_verify_depth != NULL && (trust->depth_max == 0 || trust->depth_max > 100))
        return px_bad(build, "max_verify_depth", "must be between 1 and 100");
    trust->crl_leaf_only = is_set(context->has_only_verify_leaf_cert_crl,
                                  context->only_verify_leaf_cert_crl);
    trust->allow_expired = is_set(context->has_allow_expired_certificate,
                                  context->allow_expired_certificate);
    trust->hides_ca_names = is_set(context->has_suppress_client_ca_list,
                                   context->suppress_client_ca_list);
    trust->accept_untrusted =
        context->has_trust_chain_verification &&
        context->trust_chain_verification ==
            XDS__CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED;
    return LT_OK;
}

bool px_trust_verifies(const struct px_trust_conf *trust)
{
    return trust->ca_pem.len > 0 || trust->domain_count > 0 ||
           trust->cert_hash_count + trust->key_hash_count > 0;
}
