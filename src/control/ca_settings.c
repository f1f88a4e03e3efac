/*
 * control/ca_settings.c - the CA's environment. Start at: cp_ca_settings_read().
 */
#include "control/ca_settings.h"

#include "base/env.h"

enum { AUDIENCES_MAX = 16 };

struct source {
    struct lt_arena *arena;
    cp_env_fn *get;
    void *ctx;
    struct lt_err *err;
};

static lt_str get_or(const struct source *source, const char *name, lt_str otherwise)
{
    lt_str value = source->get(source->ctx, name);
    return value.len > 0 ? value : otherwise;
}

static lt_rc bad(const struct source *source, const char *name, lt_str value, const char *expected)
{
    return lt_err_set(source->err, LT_E_BAD, "%s=%.*s: expected %s", name, LT_STR_ARG(value),
                      expected);
}

static lt_rc read_ns(const struct source *source, const char *name, int64_t *ns)
{
    lt_str text = source->get(source->ctx, name);
    if (text.len > 0 && lt_duration_parse(text, ns) != LT_OK)
        return bad(source, name, text, "a duration such as 24h or 90s");
    return LT_OK;
}

/* A life: at least a second. */
static lt_rc read_life_s(const struct source *source, const char *name, int64_t *seconds)
{
    int64_t ns = *seconds * (int64_t)LT_NS_PER_S;
    LT_TRY(read_ns(source, name, &ns));
    if (ns < (int64_t)LT_NS_PER_S)
        return bad(source, name, source->get(source->ctx, name), "at least 1s");
    *seconds = ns / (int64_t)LT_NS_PER_S;
    return LT_OK;
}

static lt_rc read_percent(const struct source *source, const char *name, uint32_t *percent)
{
    lt_str text = source->get(source->ctx, name);
    uint64_t number = *percent;
    if (text.len > 0 && (lt_str_to_u64(text, &number) != LT_OK || number < 1 || number > 99))
        return bad(source, name, text, "a number from 1 to 99");
    *percent = (uint32_t)number;
    return LT_OK;
}

static lt_rc read_bool(const struct source *source, const char *name, bool *value)
{
    lt_str text = source->get(source->ctx, name);
    bool is_known = text.len == 0 || lt_str_to_bool(text, value) == LT_OK;
    return is_known ? LT_OK : bad(source, name, text, "true or false");
}

static lt_rc read_audiences(const struct source *source, struct cp_authn_opts *authn)
{
    lt_str text = get_or(source, "TOKEN_AUDIENCES", LT_STR("istio-ca")), one;
    lt_str *audiences = lt_arena_make_n(source->arena, lt_str, AUDIENCES_MAX);
    for (lt_str rest = text; lt_str_split(&rest, ',', &one);) {
        one = lt_str_trim(one);
        if (one.len == 0)
            continue;
        if (authn->audience_count == AUDIENCES_MAX)
            return bad(source, "TOKEN_AUDIENCES", text, "at most 16 names");
        audiences[authn->audience_count++] = one;
    }
    authn->audiences = audiences;
    return LT_OK;
}

lt_rc cp_ca_settings_read(struct lt_arena *arena, cp_env_fn *get, void *ctx,
                          struct cp_ca_settings *ret_settings, struct lt_err *err)
{
    const struct source source = {arena, get, ctx, err};
    lt_str trust_domain = get_or(&source, "TRUST_DOMAIN", LT_STR("cluster.local"));
    lt_str plugged_dir = get_or(&source, "ROOT_CA_DIR", LT_STR("./etc/cacerts"));
    lt_str state_dir = get_or(&source, "LATEEN_STATE_DIR", LT_STR("./var/lib/lateend"));
    struct cp_ca_settings settings = {
        .store = {.plugged_dir = lt_arena_strz(arena, plugged_dir),
                  .state_dir = lt_arena_strz(arena, state_dir),
                  .trust_domain = trust_domain,
                  .root_ttl_s = CP_CA_ROOT_TTL_S,
                  .renew_percent = 20},
        .limits = {CP_CA_TTL_DEFAULT_S, CP_CA_TTL_MAX_S},
        .authn = {.trust_domain = trust_domain, .jwt_rule = get(ctx, "JWT_RULE")},
        .check_interval_ns = 3600 * (int64_t)LT_NS_PER_S,
        .has_jitter = true,
    };
    LT_TRY(read_life_s(&source, "CITADEL_SELF_SIGNED_CA_CERT_TTL", &settings.store.root_ttl_s));
    LT_TRY(read_percent(&source, "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE",
                        &settings.store.renew_percent));
    LT_TRY(read_ns(&source, "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL",
                   &settings.check_interval_ns));
    LT_TRY(read_bool(&source, "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR", &settings.has_jitter));
    LT_TRY(read_life_s(&source, "DEFAULT_WORKLOAD_CERT_TTL", &settings.limits.ttl_default_s));
    LT_TRY(read_life_s(&source, "MAX_WORKLOAD_CERT_TTL", &settings.limits.ttl_max_s));
    LT_TRY(read_audiences(&source, &settings.authn));
    *ret_settings = settings;
    return LT_OK;
}
