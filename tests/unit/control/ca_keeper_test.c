/*
 * tests/unit/control/ca_keeper_test.c - renewal of the root and of the serving certificate, by a
 * clock that the test moves; and the settings that say when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/ca_keeper.h"
#include "control/ca_settings.h"

enum { HOUR_S = 3600, DAY_S = 24 * HOUR_S };

static const int64_t START_S = 1790000000;
static int64_t now_s; /* of both clocks */

static uint64_t mono_ns(void *ctx)
{
    (void)ctx;
    return (uint64_t)(now_s - START_S + 1000) * LT_NS_PER_S;
}

static int64_t wall_ns(void *ctx)
{
    (void)ctx;
    return now_s * (int64_t)LT_NS_PER_S;
}

struct house {
    struct lt_env env;
    struct lt_loop *loop;
    struct lt_arena *arena;
    char dir[32];
    char state_dir[64];
    struct cp_ca_store store;
    struct cp_ca *ca;
    struct cp_keeper *keeper;
    struct lt_tls_ctx *tls; /* the newest */
    int servings;
};

static void on_serving(void *ctx, struct lt_tls_ctx *tls)
{
    struct house *house = ctx;
    lt_tls_ctx_unref(&house->tls);
    house->tls = lt_tls_ctx_ref(tls);
    house->servings++;
}

static const lt_str names[] = {{"istiod.istio-system.svc", 23}};

static struct house *open_house(int64_t root_ttl_s, int64_t interval_s, bool is_plugged_in)
{
    struct house *house = lt_new(struct house);
    struct lt_err err = {0};
    now_s = START_S;
    lt_env_init(&house->env, "test");
    house->env.mono_ns = mono_ns;
    house->env.wall_ns = wall_ns;
    house->env.log.level = LT_LOG_OFF;
    house->loop = lt_loop_new(&house->env);
    house->arena = lt_arena_new(0, 0);
    snprintf(house->dir, sizeof(house->dir), "/tmp/lateen-keeper-XXXXXX");
    assert_non_null(mkdtemp(house->dir));
    snprintf(house->state_dir, sizeof(house->state_dir), "%s/state", house->dir);
    const struct cp_keeper_opts keeper = {.loop = house->loop,
                                          .store = {.plugged_dir = "/nowhere",
                                                    .state_dir = house->state_dir,
                                                    .trust_domain = LT_STR("cluster.local"),
                                                    .root_ttl_s = root_ttl_s},
                                          .is_plugged_in = is_plugged_in,
                                          .check_interval_ns = interval_s * (int64_t)LT_NS_PER_S,
                                          .dns_names = names,
                                          .dns_name_count = 1,
                                          .on_serving = on_serving,
                                          .ctx = house};
    struct cp_keeper_opts opts = keeper;
    assert_int_equal(cp_ca_store_load(&opts.store, now_s, &house->store, &err), LT_OK);
    assert_int_equal(cp_ca_new(&house->store.material, NULL, now_s, &house->ca, &err), LT_OK);
    opts.ca = house->ca;
    assert_int_equal(cp_keeper_new(&opts, &house->keeper, &err), LT_OK);
    assert_int_equal(house->servings, 1); /* at once: the port can be opened */
    return house;
}

static void remove_file(const struct house *house, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", house->state_dir, name);
    unlink(path);
}

static void close_house(struct house *house)
{
    cp_keeper_free(&house->keeper);
    cp_ca_free(&house->ca);
    cp_ca_store_fini(&house->store);
    lt_tls_ctx_unref(&house->tls);
    lt_arena_free(&house->arena);
    lt_loop_free(&house->loop);
    remove_file(house, "ca-cert.pem");
    remove_file(house, "ca-key.pem");
    rmdir(house->state_dir);
    assert_int_equal(rmdir(house->dir), 0);
    free(house);
}

/* Time goes by in steps, and the loop has its turn after each. */
static void pass(struct house *house, int64_t seconds, int64_t step_s)
{
    for (int64_t end_s = now_s + seconds; now_s < end_s;) {
        now_s += LT_MIN(step_s, end_s - now_s);
        lt_loop_turn(house->loop, 0);
    }
}

static lt_str issue(struct house *house)
{
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    lt_str csr = lt_csr_make(house->arena, key, LT_STR("spiffe://cluster.local/ns/a/sa/b"));
    lt_key_free(&key);
    struct cp_ca_reply reply;
    cp_ca_sign(house->ca, house->arena, csr, 0, LT_STR("spiffe://cluster.local/ns/a/sa/b"), now_s,
               &reply);
    assert_int_equal(reply.code, LT_GRPC_OK);
    return lt_arena_str(house->arena, reply.certs[0]);
}

static void test_ten_years(void **state)
{
    (void)state;
    struct house *house = open_house(0, HOUR_S, false);
    const struct cp_keeper_stats *stats = cp_keeper_stats(house->keeper);
    pass(house, HOUR_S + 1, 60);
    assert_int_equal(stats->root_checks, 1);
    pass(house, 70 * DAY_S, DAY_S);
    assert_int_equal(house->servings, 1); /* 90 days of life, 20 left */
    pass(house, 3 * DAY_S, HOUR_S);
    assert_int_equal(house->servings, 2);
    assert_in_range(stats->serving_not_after_s, now_s + 88 * DAY_S, now_s + 90 * DAY_S);
    assert_int_equal(stats->root_renewals, 0);
    lt_str before = lt_arena_str(house->arena, cp_ca_root_pem(house->ca)), leaf = LT_STR_NULL;
    pass(house, CP_CA_ROOT_TTL_S / 10 * 8 - 80 * DAY_S, 7 * DAY_S);
    assert_int_equal(stats->root_renewals, 0);
    for (int i = 0; i < 100 && stats->root_renewals == 0; i++) {
        leaf = issue(house);
        pass(house, HOUR_S * 12, HOUR_S);
    }
    assert_int_equal(stats->root_renewals, 1);
    assert_in_range(now_s - START_S, CP_CA_ROOT_TTL_S / 10 * 8, CP_CA_ROOT_TTL_S / 10 * 8 + DAY_S);
    lt_str after = cp_ca_root_pem(house->ca);
    assert_false(lt_str_eq(before, after));
    /* the same key: what was signed before is good under the new root */
    struct lt_err err = {0};
    assert_int_equal(lt_cert_verify(leaf, LT_STR_NULL, after, now_s, &err), LT_OK);
    assert_int_equal(stats->failures, 0);
    close_house(house);
}

/* A root of 40 seconds, looked at each second: what it signs never runs out. */
static void test_short_lives(void **state)
{
    (void)state;
    struct house *house = open_house(40, 1, false);
    const struct cp_keeper_stats *stats = cp_keeper_stats(house->keeper);
    for (int i = 0; i < 400; i++) {
        pass(house, 1, 1);
        assert_true(stats->root_not_after_s > now_s + 6);
        assert_true(stats->serving_not_after_s > now_s + 6);
        assert_int_equal(cp_ca_not_after_s(house->ca), stats->root_not_after_s);
    }
    assert_in_range(stats->root_renewals, 400 / 40, 400 / 30);
    assert_in_range(house->servings, 400 / 40, 2 * 400 / 30);
    close_house(house);
}

/* Never another key: a root that is gone is an error, and the one in memory signs on. */
static void test_lost_root(void **state)
{
    (void)state;
    struct house *house = open_house(1000, 100, false);
    const struct cp_keeper_stats *stats = cp_keeper_stats(house->keeper);
    lt_str before = lt_arena_str(house->arena, cp_ca_root_pem(house->ca));
    char path[128];
    snprintf(path, sizeof(path), "%s/ca-cert.pem", house->state_dir);
    char hidden[160];
    snprintf(hidden, sizeof(hidden), "%s/hidden", house->state_dir);
    assert_int_equal(rename(path, hidden), 0);
    pass(house, 130, 1);
    assert_in_range(stats->failures, 3, 10); /* after 1, 2, 4, ... seconds, not each turn */
    assert_true(lt_str_eq(before, cp_ca_root_pem(house->ca)));
    assert_int_not_equal(access(path, F_OK), 0);
    pass(house, 700, 1);
    assert_int_equal(house->servings, 2); /* the other date is kept all the same */
    assert_int_equal(rename(hidden, path), 0);
    pass(house, 61, 1);
    assert_int_equal(stats->root_renewals, 1);
    assert_true(stats->root_not_after_s > now_s + 900);
    close_house(house);
}

/* Somebody put another root there: whoever trusts the present one must not be cut off at once. */
static void test_another_root(void **state)
{
    (void)state;
    struct house *house = open_house(1000, 100, false);
    struct cp_ca_store other;
    struct lt_err err = {0};
    lt_str before = lt_arena_str(house->arena, cp_ca_root_pem(house->ca));
    remove_file(house, "ca-cert.pem");
    remove_file(house, "ca-key.pem");
    const struct cp_ca_store_opts opts = {.plugged_dir = "/nowhere",
                                          .state_dir = house->state_dir,
                                          .trust_domain = LT_STR("cluster.local")};
    assert_int_equal(cp_ca_store_load(&opts, now_s, &other, &err), LT_OK);
    assert_true(other.was_made);
    pass(house, 130, 1);
    assert_in_range(cp_keeper_stats(house->keeper)->failures, 3, 10);
    assert_true(lt_str_eq(before, cp_ca_root_pem(house->ca)));
    cp_ca_store_fini(&other);
    close_house(house);
}

static void test_not_ours_to_renew(void **state)
{
    (void)state;
    struct house *house = open_house(1000, 100, true);
    pass(house, 990, 1);
    assert_int_equal(cp_keeper_stats(house->keeper)->root_checks, 0);
    assert_true(house->servings >= 2);
    close_house(house);
    house = open_house(1000, 0, false); /* switched off */
    pass(house, 990, 1);
    assert_int_equal(cp_keeper_stats(house->keeper)->root_checks, 0);
    close_house(house);
}

/* --- settings --- */

static const char *const *variables; /* name, value, ..., NULL */

static lt_str get(void *ctx, const char *name)
{
    (void)ctx;
    for (size_t i = 0; variables[i] != NULL; i += 2) {
        if (strcmp(variables[i], name) == 0)
            return lt_str_of(variables[i + 1]);
    }
    return LT_STR_NULL;
}

static void test_settings(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err = {0};
    struct cp_ca_settings settings;
    variables = (const char *const[]){NULL};
    assert_int_equal(cp_ca_settings_read(arena, get, NULL, &settings, &err), LT_OK);
    assert_int_equal(settings.store.root_ttl_s, 87600LL * 3600);
    assert_int_equal(settings.limits.ttl_default_s, 24 * 3600);
    assert_int_equal(settings.limits.ttl_max_s, 2160 * 3600);
    assert_int_equal(settings.check_interval_ns, 3600LL * 1000000000);
    assert_int_equal(settings.authn.audience_count, 1);
    assert_true(lt_str_eqz(settings.authn.audiences[0], "istio-ca"));
    assert_true(settings.has_jitter);
    variables = (const char *const[]){"TOKEN_AUDIENCES",
                                      "a, b,",
                                      "MAX_WORKLOAD_CERT_TTL",
                                      "90s",
                                      "DEFAULT_WORKLOAD_CERT_TTL",
                                      "20s",
                                      "CITADEL_SELF_SIGNED_CA_CERT_TTL",
                                      "1m",
                                      "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL",
                                      "-1s",
                                      "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE",
                                      "50",
                                      "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR",
                                      "false",
                                      "TRUST_DOMAIN",
                                      "td",
                                      NULL};
    assert_int_equal(cp_ca_settings_read(arena, get, NULL, &settings, &err), LT_OK);
    assert_int_equal(settings.authn.audience_count, 2);
    assert_true(lt_str_eqz(settings.authn.audiences[1], "b"));
    assert_int_equal(settings.limits.ttl_max_s, 90);
    assert_int_equal(settings.limits.ttl_default_s, 20);
    assert_int_equal(settings.store.root_ttl_s, 60);
    assert_int_equal(settings.store.renew_percent, 50);
    assert_true(settings.check_interval_ns < 0);
    assert_false(settings.has_jitter);
    assert_true(lt_str_eqz(settings.authn.trust_domain, "td"));
    static const char *const bad[][3] = {
        {"MAX_WORKLOAD_CERT_TTL", "soon", NULL},
        {"DEFAULT_WORKLOAD_CERT_TTL", "0s", NULL},
        {"CITADEL_SELF_SIGNED_CA_CERT_TTL", "-5h", NULL},
        {"CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL", "1", NULL},
        {"CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE", "100", NULL},
        {"CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR", "maybe", NULL},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        variables = bad[i];
        assert_int_equal(cp_ca_settings_read(arena, get, NULL, &settings, &err), LT_E_BAD);
        assert_non_null(strstr(err.text, bad[i][0]));
    }
    lt_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ten_years),         cmocka_unit_test(test_short_lives),
        cmocka_unit_test(test_lost_root),         cmocka_unit_test(test_another_root),
        cmocka_unit_test(test_not_ours_to_renew), cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
