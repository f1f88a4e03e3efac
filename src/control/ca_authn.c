/*
 * control/ca_authn.c - who calls. Start at: cp_authn_check().
 */
#include "control/ca_authn.h"

#include "wire/json.h"

enum { AUDIENCES_MAX = 32, PART_MAX = 253 /* of a Kubernetes name */ };

struct cp_authn {
    struct lt_arena *arena; /* owned; holds what is below */
    lt_str trust_domain;
    struct lt_jwks *jwks; /* owned; NULL: tokens are not taken */
    struct lt_jwt_rule rule;
};

/* --- identities --- */

/*
 * What the names of namespaces and service accounts are made of; anything else could pretend to be
 * another path.
 */
static bool is_name(lt_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'))
            return false;
    }
    return name.len > 0 && name.len <= PART_MAX;
}

lt_rc cp_identity_parse(lt_str uri, struct cp_identity *ret_identity)
{
    static const char *const words[] = {NULL, "ns", NULL, "sa", NULL};
    lt_str parts[5];
    if (!lt_str_starts(uri, LT_STR("spiffe://")))
        return LT_E_BAD;
    lt_str rest = lt_str_from(uri, strlen("spiffe://"));
    for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++) {
        if (!lt_str_split(&rest, '/', &parts[i]) ||
            (words[i] != NULL && !lt_str_eqz(parts[i], words[i])))
            return LT_E_BAD;
    }
    if (rest.ptr != NULL || parts[0].len == 0 || !is_name(parts[2]) || !is_name(parts[4]))
        return LT_E_BAD;
    *ret_identity = (struct cp_identity){parts[0], parts[2], parts[4], uri};
    return LT_OK;
}

/* "system:serviceaccount:<ns>:<sa>" */
static lt_rc identity_of_subject(const struct cp_authn *authn, struct lt_arena *arena,
                                 lt_str subject, struct cp_identity *ret_identity,
                                 struct lt_err *err)
{
    static const lt_str prefix = {"system:serviceaccount:", sizeof("system:serviceaccount:") - 1};
    lt_str rest = lt_str_from(subject, prefix.len), ns, service_account;
    if (!lt_str_starts(subject, prefix) || !lt_str_split(&rest, ':', &ns) ||
        !lt_str_split(&rest, ':', &service_account) || rest.ptr != NULL || !is_name(ns) ||
        !is_name(service_account))
        return lt_err_set(err, LT_E_DENIED, "the token's subject is no service account");
    struct cp_identity identity = {authn->trust_domain, lt_arena_str(arena, ns),
                                   lt_arena_str(arena, service_account), LT_STR_NULL};
    identity.uri = lt_arena_printf(arena, "spiffe://%.*s/ns/%.*s/sa/%.*s",
                                   LT_STR_ARG(identity.trust_domain), LT_STR_ARG(ns),
                                   LT_STR_ARG(service_account));
    *ret_identity = identity;
    return LT_OK;
}

/* --- the rule --- */

static lt_rc parse_rule(struct lt_arena *arena, lt_str text, const struct lt_doc **ret_doc,
                        struct lt_err *err)
{
    lt_rc rc = lt_json_parse(arena, text, NULL, ret_doc, err);
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "JWT_RULE");
    if (!lt_doc_is(*ret_doc, LT_DOC_OBJECT))
        return lt_err_set(err, LT_E_BAD, "JWT_RULE: expected a JSON object");
    return LT_OK;
}

static lt_rc read_audiences(struct cp_authn *authn, const struct lt_doc *doc,
                            const struct cp_authn_opts *opts, struct lt_err *err)
{
    const struct lt_doc *list = lt_doc_findz(doc, "audiences");
    size_t count = lt_doc_is(list, LT_DOC_ARRAY) ? list->count : 0;
    size_t all = count > 0 ? count : opts->audience_count;
    if (all > AUDIENCES_MAX)
        return lt_err_set(err, LT_E_LIMIT, "JWT_RULE: more than %d audiences", AUDIENCES_MAX);
    lt_str *audiences = lt_arena_make_n(authn->arena, lt_str, LT_MAX(all, (size_t)1));
    for (size_t i = 0; i < all; i++)
        audiences[i] = count > 0 ? lt_doc_string(&list->items[i])
                                 : lt_arena_str(authn->arena, opts->audiences[i]);
    if (all == 0) {
        /* without any audience a token for something else would do */
        audiences[0] = LT_STR("istio-ca");
        all = 1;
    }
    authn->rule.audiences = audiences;
    authn->rule.audience_count = all;
    return LT_OK;
}

static lt_rc read_rule(struct cp_authn *authn, const struct cp_authn_opts *opts, struct lt_err *err)
{
    const struct lt_doc *doc = NULL;
    LT_TRY(parse_rule(authn->arena, lt_arena_str(authn->arena, opts->jwt_rule), &doc, err));
    lt_str jwks = lt_doc_string(lt_doc_findz(doc, "jwks"));
    authn->rule = (struct lt_jwt_rule){.issuer = lt_doc_string(lt_doc_findz(doc, "issuer")),
                                       .requires_expiry = true};
    if (authn->rule.issuer.len == 0)
        return lt_err_set(err, LT_E_BAD, "JWT_RULE: issuer is missing");
    if (jwks.len == 0)
        return lt_err_set(err, LT_E_BAD,
                          "JWT_RULE: jwks is missing; keys are not fetched by jwksUri yet");
    LT_TRY(read_audiences(authn, doc, opts, err));
    lt_rc rc = lt_jwks_parse(jwks, &authn->jwks, err);
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "JWT_RULE");
    authn->rule.jwks = authn->jwks;
    return LT_OK;
}

lt_rc cp_authn_new(const struct cp_authn_opts *opts, struct cp_authn **ret_authn,
                   struct lt_err *err)
{
    struct cp_authn *authn = lt_new(struct cp_authn);
    authn->arena = lt_arena_new(0, 0);
    authn->trust_domain = lt_arena_str(authn->arena, opts->trust_domain);
    lt_rc rc = opts->jwt_rule.len == 0 ? LT_OK : read_rule(authn, opts, err);
    if (rc != LT_OK) {
        cp_authn_free(&authn);
        return rc;
    }
    *ret_authn = authn;
    return LT_OK;
}

void cp_authn_free(struct cp_authn **authn)
{
    if (*authn == NULL)
        return;
    lt_jwks_free(&(*authn)->jwks);
    lt_arena_free(&(*authn)->arena);
    free(*authn);
    *authn = NULL;
}

/* --- the check --- */

static lt_rc check_token(const struct cp_authn *authn, struct lt_arena *arena, lt_str authorization,
                         int64_t now_s, struct cp_identity *ret_identity, struct lt_err *err)
{
    static const lt_str scheme = {"Bearer ", sizeof("Bearer ") - 1};
    if (authn->jwks == NULL)
        return lt_err_set(err, LT_E_DENIED, "tokens are not taken here: there is no JWT_RULE");
    if (!lt_str_case_eq(lt_str_slice(authorization, 0, scheme.len), scheme))
        return lt_err_set(err, LT_E_DENIED, "no bearer token");
    struct lt_jwt jwt;
    if (lt_jwt_parse(arena, lt_str_trim(lt_str_from(authorization, scheme.len)), &jwt, err) !=
        LT_OK)
        return LT_E_DENIED;
    LT_TRY(lt_jwt_verify(&jwt, &authn->rule, now_s, err));
    return identity_of_subject(authn, arena, jwt.subject, ret_identity, err);
}

lt_rc cp_authn_check(const struct cp_authn *authn, struct lt_arena *arena, lt_str peer_uri,
                     lt_str authorization, int64_t now_s, struct cp_identity *ret_identity,
                     struct lt_err *err)
{
    if (peer_uri.len > 0 && cp_identity_parse(lt_arena_str(arena, peer_uri), ret_identity) == LT_OK)
        return LT_OK;
    return check_token(authn, arena, authorization, now_s, ret_identity, err);
}
