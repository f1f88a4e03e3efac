/*
 * control/ca.c - the certificate authority. Start at: cp_ca_new(), cp_ca_sign().
 */
#include "control/ca.h"

enum { COMMON_NAME_MAX = 64 /* RFC 5280, ub-common-name */ };

/* What a cp_ca_material became; replaced whole. */
struct material {
    struct lt_arena *arena;   /* owned; holds the texts */
    struct lt_signer *signer; /* owned */
    lt_str chain[CP_CA_CHAIN_MAX];
    size_t chain_count;
    lt_str root_pem;
    int64_t ends_s; /* when the first certificate of signer and chain ends */
};

struct cp_ca {
    struct material material;
    struct cp_ca_limits limits;
    struct cp_ca_stats stats;
};

/* --- material --- */

static void material_fini(struct material *material)
{
    lt_signer_free(&material->signer);
    if (material->arena != NULL)
        lt_arena_free(&material->arena);
    *material = (struct material){0};
}

static lt_rc take_chain(struct material *material, lt_str chain_pem, struct lt_err *err)
{
    if (chain_pem.len == 0)
        return LT_OK;
    struct lt_cert *certs = NULL;
    size_t count = 0;
    LT_TRY(lt_cert_parse_chain(material->arena, chain_pem, &certs, &count, err));
    if (count > CP_CA_CHAIN_MAX)
        return lt_err_set(err, LT_E_LIMIT, "certificate chain: more than %d certificates",
                          CP_CA_CHAIN_MAX);
    for (size_t i = 0; i < count; i++) {
        material->chain[material->chain_count++] = certs[i].pem;
        material->ends_s = LT_MIN(material->ends_s, certs[i].not_after_s);
    }
    return LT_OK;
}

static lt_rc material_init(struct material *material, const struct cp_ca_material *from,
                           int64_t now_s, struct lt_err *err)
{
    *material = (struct material){.arena = lt_arena_new(0, 0)};
    LT_TRY(lt_signer_new(from->cert_pem, from->key_pem, &material->signer, err));
    material->ends_s = lt_signer_not_after_s(material->signer);
    LT_TRY(take_chain(material, from->chain_pem, err));
    if (material->ends_s > now_s) {
        /* an expired one is kept: its refusals say what is wrong, and it can be replaced */
        lt_rc rc = lt_cert_verify(from->cert_pem, from->chain_pem, from->root_pem, now_s, err);
        if (rc != LT_OK)
            return lt_err_wrap(err, LT_E_BAD, "signing certificate does not lead to the root");
    }
    material->root_pem = lt_arena_str(material->arena, from->root_pem);
    return LT_OK;
}

lt_rc cp_ca_new(const struct cp_ca_material *from, const struct cp_ca_limits *limits, int64_t now_s,
                struct cp_ca **ret_ca, struct lt_err *err)
{
    static const struct cp_ca_limits defaults = {CP_CA_TTL_DEFAULT_S, CP_CA_TTL_MAX_S};
    struct cp_ca *ca = lt_new(struct cp_ca);
    ca->limits = limits != NULL ? *limits : defaults;
    lt_rc rc = material_init(&ca->material, from, now_s, err);
    if (rc != LT_OK) {
        cp_ca_free(&ca);
        return rc;
    }
    *ret_ca = ca;
    return LT_OK;
}

void cp_ca_free(struct cp_ca **ca)
{
    if (*ca == NULL)
        return;
    material_fini(&(*ca)->material);
    free(*ca);
    *ca = NULL;
}

lt_rc cp_ca_replace(struct cp_ca *ca, const struct cp_ca_material *from, int64_t now_s,
                    struct lt_err *err)
{
    struct material fresh;
    lt_rc rc = material_init(&fresh, from, now_s, err);
    if (rc != LT_OK) {
        material_fini(&fresh);
        return rc;
    }
    material_fini(&ca->material);
    ca->material = fresh;
    return LT_OK;
}

lt_str cp_ca_root_pem(const struct cp_ca *ca)
{
    return ca->material.root_pem;
}

int64_t cp_ca_not_after_s(const struct cp_ca *ca)
{
    return ca->material.ends_s;
}

const struct cp_ca_stats *cp_ca_stats(const struct cp_ca *ca)
{
    return &ca->stats;
}

void cp_ca_count_authn_error(struct cp_ca *ca)
{
    ca->stats.authn_errors++;
}

/* --- signing --- */

lt_str cp_ca_duration_text(struct lt_arena *arena, int64_t seconds)
{
    const char *sign = seconds < 0 ? "-" : "";
    uint64_t left = seconds < 0 ? 0 - (uint64_t)seconds : (uint64_t)seconds;
    unsigned long long h = left / 3600, m = left / 60 % 60, s = left % 60;
    if (h > 0)
        return lt_arena_printf(arena, "%s%lluh%llum%llus", sign, h, m, s);
    if (m > 0)
        return lt_arena_printf(arena, "%s%llum%llus", sign, m, s);
    return lt_arena_printf(arena, "%s%llus", sign, s);
}

static void refuse(struct cp_ca_reply *reply, struct lt_arena *arena, lt_grpc_code code,
                   const char *reason)
{
    *reply = (struct cp_ca_reply){.code = code};
    reply->message = lt_arena_printf(arena, "CSR signing error (%s)", reason);
}

/* LT_E_LIMIT: longer than allowed. LT_E_TIMEOUT: there is no life left to give. */
static lt_rc choose_end(const struct cp_ca *ca, int64_t validity_s, int64_t now_s,
                        int64_t *ret_not_after_s)
{
    int64_t life_left_s = ca->material.ends_s - now_s;
    if (life_left_s <= 0)
        return LT_E_TIMEOUT;
    if (validity_s > ca->limits.ttl_max_s)
        return LT_E_LIMIT;
    int64_t wanted_s = validity_s <= 0 ? ca->limits.ttl_default_s : validity_s;
    *ret_not_after_s = now_s + LT_MIN(wanted_s, life_left_s);
    return LT_OK;
}

/* Istio copies the first SAN into the common name of those who asked for one, when it fits. */
static lt_str common_name(const struct lt_csr *csr, lt_str identity)
{
    return csr->has_common_name && identity.len <= COMMON_NAME_MAX ? identity : LT_STR_NULL;
}

static void fill_reply(const struct material *material, lt_str leaf_pem, struct cp_ca_reply *reply)
{
    *reply = (struct cp_ca_reply){.code = LT_GRPC_OK};
    reply->certs[reply->cert_count++] = leaf_pem;
    for (size_t i = 0; i < material->chain_count; i++)
        reply->certs[reply->cert_count++] = material->chain[i];
    reply->certs[reply->cert_count++] = material->root_pem;
}

void cp_ca_sign(struct cp_ca *ca, struct lt_arena *arena, lt_str csr_pem, int64_t validity_s,
                lt_str identity, int64_t now_s, struct cp_ca_reply *ret_reply)
{
    struct lt_err err = {0};
    struct lt_csr csr = {0};
    int64_t not_after_s = 0;
    ca->stats.csrs++;
    if (lt_csr_parse(csr_pem, &csr, &err) != LT_OK) {
        ca->stats.csr_errors++;
        refuse(ret_reply, arena, LT_GRPC_INVALID_ARGUMENT, err.text);
        return;
    }
    lt_rc rc = choose_end(ca, validity_s, now_s, &not_after_s);
    if (rc == LT_E_LIMIT) {
        lt_str asked = cp_ca_duration_text(arena, validity_s),
               max = cp_ca_duration_text(arena, ca->limits.ttl_max_s);
        lt_str reason = lt_arena_printf(
            arena, "requested TTL %.*s is greater than the max allowed TTL %.*s", LT_STR_ARG(asked),
            LT_STR_ARG(max));
        ca->stats.ttl_errors++;
        refuse(ret_reply, arena, LT_GRPC_INVALID_ARGUMENT, reason.ptr);
    } else if (rc != LT_OK) {
        ca->stats.other_errors++;
        refuse(ret_reply, arena, LT_GRPC_INTERNAL, "the signing certificate has expired");
    } else {
        const struct lt_san san = {LT_SAN_URI, identity};
        struct lt_cert_template template = {.subject_key = csr.key,
                                            .common_name = common_name(&csr, identity),
                                            .sans = &san,
                                            .san_count = 1,
                                            .not_before_s = now_s - CP_CA_BACKDATE_S,
                                            .not_after_s = not_after_s};
        lt_str leaf_pem;
        rc = lt_signer_issue(ca->material.signer, &template, arena, &leaf_pem, &err);
        if (rc == LT_OK) {
            ca->stats.signed_certs++;
            fill_reply(&ca->material, leaf_pem, ret_reply);
        } else {
            ca->stats.other_errors++;
            refuse(ret_reply, arena, LT_GRPC_INTERNAL, err.text);
        }
    }
    lt_csr_fini(&csr);
}

lt_rc cp_ca_issue_serving(struct cp_ca *ca, struct lt_arena *arena, const lt_str *dns_names,
                          size_t count, int64_t ttl_s, int64_t now_s,
                          struct cp_ca_serving *ret_serving, struct lt_err *err)
{
    const struct material *material = &ca->material;
    struct lt_san *sans = lt_arena_make_n(arena, struct lt_san, count);
    for (size_t i = 0; i < count; i++)
        sans[i] = (struct lt_san){LT_SAN_DNS, dns_names[i]};
    if (material->ends_s <= now_s)
        return lt_err_set(err, LT_E_BAD, "the signing certificate has expired");
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    struct lt_cert_template template = {.subject_key = key,
                                        .sans = sans,
                                        .san_count = count,
                                        .not_before_s = now_s - CP_CA_BACKDATE_S,
                                        .not_after_s = LT_MIN(now_s + ttl_s, material->ends_s)};
    lt_str leaf_pem;
    lt_rc rc = lt_signer_issue(material->signer, &template, arena, &leaf_pem, err);
    if (rc == LT_OK) {
        for (size_t i = 0; i < material->chain_count; i++)
            leaf_pem = lt_arena_printf(arena, "%.*s%.*s", LT_STR_ARG(leaf_pem),
                                       LT_STR_ARG(material->chain[i]));
        *ret_serving = (struct cp_ca_serving){leaf_pem, lt_key_private_pem(key),
                                              template.not_after_s};
    }
    lt_key_free(&key);
    return rc;
}

/* --- roots --- */

static lt_rc self_sign(struct lt_arena *arena, const struct lt_key *key, lt_str trust_domain,
                       int64_t ttl_s, int64_t now_s, lt_str *ret_cert_pem, struct lt_err *err)
{
    struct lt_cert_template root = {.subject_key = key,
                                    .organization = trust_domain,
                                    .not_before_s = now_s - CP_CA_BACKDATE_S,
                                    .not_after_s = now_s + ttl_s,
                                    .is_ca = true};
    return lt_cert_self_sign(&root, arena, ret_cert_pem, err);
}

lt_rc cp_ca_make_root(struct lt_arena *arena, lt_str trust_domain, int64_t ttl_s, int64_t now_s,
                      lt_str *ret_cert_pem, char **ret_key_pem, struct lt_err *err)
{
    struct lt_key *key = lt_key_new(LT_KEY_RSA_2048);
    lt_rc rc = self_sign(arena, key, trust_domain, ttl_s, now_s, ret_cert_pem, err);
    if (rc == LT_OK)
        *ret_key_pem = lt_key_private_pem(key);
    lt_key_free(&key);
    return rc;
}

lt_rc cp_ca_renew_root(struct lt_arena *arena, lt_str trust_domain, lt_str key_pem, int64_t ttl_s,
                       int64_t now_s, lt_str *ret_cert_pem, struct lt_err *err)
{
    struct lt_key *key = NULL;
    LT_TRY(lt_key_parse_private(key_pem, &key, err));
    lt_rc rc = self_sign(arena, key, trust_domain, ttl_s, now_s, ret_cert_pem, err);
    lt_key_free(&key);
    return rc;
}
