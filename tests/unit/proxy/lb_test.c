/*
 * tests/unit/proxy/lb_test.c - the balancer: how often each host is chosen, and in what order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/conf/hash.h"
#include "proxy/lb/lb.h"

enum { HOSTS_MAX = 40, PICKS = 40000 };

static struct px_lb_conf conf;
static struct px_lb_host hosts[HOSTS_MAX];
static struct px_lb_host *list[HOSTS_MAX];
static char keys[HOSTS_MAX][32];
static struct px_locality localities[8];
static struct px_lb_set set;
static struct px_lb *lb;
static struct lt_prng prng;
static unsigned hits[HOSTS_MAX];

static int set_up(void **state)
{
    (void)state;
    conf = (struct px_lb_conf){.panic_percent = 50,
                               .choice_count = 2,
                               .active_request_bias = 1.0,
                               .slow_start_aggression = 1.0,
                               .slow_start_min = 0.1,
                               .ring_min = 1024,
                               .ring_max = 8 << 20,
                               .table_size = 65537,
                               .zone_routing_percent = 100,
                               .zone_min_hosts = 6};
    memset(localities, 0, sizeof(localities));
    for (unsigned i = 0; i < HOSTS_MAX; i++) {
        snprintf(keys[i], sizeof(keys[i]), "10.0.0.%u:80", i + 1);
        hosts[i] = (struct px_lb_host){.key = lt_str_of(keys[i]), .weight = 1};
        list[i] = &hosts[i];
    }
    prng = (struct lt_prng){{0x9e3779b97f4a7c15ull, 0xbf58476d1ce4e5b9ull}};
    for (int i = 0; i < 20; i++)
        lt_prng_next(&prng);
    lb = px_lb_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    px_lb_free(&lb);
    return 0;
}

static void use(px_lb_policy policy, size_t count)
{
    conf.policy = policy;
    set = (struct px_lb_set){.hosts = list,
                             .count = count,
                             .localities = localities,
                             .locality_count = LT_ARRAY_LEN(localities),
                             .overprovisioning_percent = 140};
    px_lb_set(lb, &conf, &set);
}

static struct px_lb_host *ask(const struct px_lb_ask *fields)
{
    struct px_lb_ask full = *fields;
    full.prng = &prng;
    full.attempts = LT_MAX(full.attempts, 1u);
    return px_lb_pick(lb, &full);
}

static int pick(void)
{
    struct px_lb_host *host = ask(&(struct px_lb_ask){0});
    return host == NULL ? -1 : (int)(host - hosts);
}

static void spread(void)
{
    memset(hits, 0, sizeof(hits));
    for (unsigned i = 0; i < PICKS; i++) {
        int at = pick();
        assert_in_range(at, 0, HOSTS_MAX - 1);
        hits[at]++;
    }
}

/* Within five standard deviations of a fair draw. */
static void assert_share(unsigned got, double part)
{
    double wanted = PICKS * part, slack = 5 * sqrt(PICKS * part * (1 - part)) + 1;
    assert_in_range(got, (unsigned)LT_MAX(wanted - slack, 0.0), (unsigned)(wanted + slack));
}

/* --- round robin --- */

static void test_round_robin(void **state)
{
    (void)state;
    use(PX_LB_ROUND_ROBIN, 4);
    int first = pick();
    for (int i = 1; i < 100; i++)
        assert_int_equal(pick(), (first + i) % 4);
}

/* 5:1:1 must not be five times the same: within each seven each has its part, spread. */
static void test_weights_are_smooth(void **state)
{
    (void)state;
    hosts[0].weight = 5;
    use(PX_LB_ROUND_ROBIN, 3);
    for (int i = 0; i < 20; i++) /* the first turns depend on chance */
        pick();
    int in_a_row = 0;
    unsigned seen[3] = {0};
    for (int i = 0; i < 700; i++) {
        int at = pick();
        assert_in_range(at, 0, 2);
        seen[at]++;
        in_a_row = at == 0 ? in_a_row + 1 : 0;
        assert_in_range(in_a_row, 0, 5);
    }
    assert_in_range(seen[0], 499, 501);
    assert_in_range(seen[1], 99, 101);
}

/* Proxies that start together must not all begin with the same host. */
static void test_starts_differ(void **state)
{
    (void)state;
    unsigned firsts[4] = {0};
    for (int round = 0; round < 400; round++) {
        hosts[0].weight = 1 + round % 2; /* with and without weights */
        use(PX_LB_ROUND_ROBIN, 4);
        int at = pick();
        assert_in_range(at, 0, 3);
        firsts[at]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(firsts[i], 50, 200);
}

/* --- least request --- */

static void test_least_request(void **state)
{
    (void)state;
    hosts[2].rq_active = 100;
    use(PX_LB_LEAST_REQUEST, 4);
    spread();
    assert_share(hits[2], 1.0 / 16); /* only when chance draws it twice */
    conf.choice_count = 3;
    use(PX_LB_LEAST_REQUEST, 4);
    spread();
    assert_share(hits[2], 1.0 / 64);
}

/* With weights: weight / (active + 1) ^ bias */
static void test_least_request_with_weights(void **state)
{
    (void)state;
    hosts[0].weight = 4;
    hosts[0].rq_active = 3;
    use(PX_LB_LEAST_REQUEST, 2);
    spread();
    assert_in_range(hits[0], PICKS / 2 - 2, PICKS / 2 + 2);
    conf.active_request_bias = 0;
    use(PX_LB_LEAST_REQUEST, 2);
    spread();
    assert_in_range(hits[0], PICKS * 4 / 5 - 2, PICKS * 4 / 5 + 2);
    conf.active_request_bias = 2;
    use(PX_LB_LEAST_REQUEST, 2);
    spread();
    assert_in_range(hits[0], PICKS / 5 - 2, PICKS / 5 + 2); /* 4/16 against 1 */
}

static void test_random_knows_no_weights(void **state)
{
    (void)state;
    hosts[0].weight = 100;
    use(PX_LB_RANDOM, 4);
    spread();
    for (int i = 0; i < 4; i++)
        assert_share(hits[i], 0.25);
}

/* --- slow start --- */

static unsigned share_of_newcomer(uint64_t age_s)
{
    unsigned newcomer = 0;
    struct px_lb_ask at = {.now_ns = (1000 + age_s) * LT_NS_PER_S};
    hosts[0].since_ns = 1000 * LT_NS_PER_S;
    use(conf.policy, 2);
    for (int i = 0; i < 10000; i++)
        newcomer += ask(&at) == &hosts[0];
    return newcomer;
}

static void test_slow_start(void **state)
{
    (void)state;
    conf.slow_start_ms = 100000;
    hosts[1].since_ns = 1;
    static const px_lb_policy policies[] = {PX_LB_ROUND_ROBIN, PX_LB_LEAST_REQUEST};
    for (size_t i = 0; i < LT_ARRAY_LEN(policies); i++) {
        conf.policy = policies[i];
        conf.slow_start_aggression = 1;
        assert_in_range(share_of_newcomer(0), 905, 915);    /* 10 % of the weight: 0.1 / 1.1 */
        assert_in_range(share_of_newcomer(50), 3330, 3336); /* half: 0.5 / 1.5 */
        assert_in_range(share_of_newcomer(100), 4700, 5300);
        conf.slow_start_aggression = 2;
        assert_in_range(share_of_newcomer(25), 3330, 3336); /* sqrt(0.25) */
    }
}

/* Nobody sets the hosts again when a slow start ends: the balancer looks by itself. */
static void test_slow_start_ends(void **state)
{
    (void)state;
    conf.slow_start_ms = 1000;
    hosts[0].since_ns = hosts[1].since_ns = 1000 * LT_NS_PER_S;
    use(PX_LB_ROUND_ROBIN, 2);
    for (int i = 0; i < 10; i++)
        ask(&(struct px_lb_ask){.now_ns = 1000 * LT_NS_PER_S});
    struct px_lb_ask later = {.now_ns = 1002 * LT_NS_PER_S};
    struct px_lb_host *first = ask(&later);
    for (int i = 1; i < 50; i++)
        assert_ptr_equal(ask(&later), i % 2 == 0 ? first : first == hosts ? &hosts[1] : hosts);
}

/* --- health, panic, priorities --- */

static void loads_are(const char *wanted)
{
    char text[128];
    size_t len = 0;
    uint32_t healthy, degraded;
    bool is_panic;
    text[0] = '\0';
    for (uint32_t i = 0; px_lb_load(lb, i, &healthy, &degraded, &is_panic); i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u/%u%s", i > 0 ? " " : "",
                                healthy, degraded, is_panic ? "!" : "");
    assert_string_equal(text, wanted);
}

/* ten hosts at each of the priorities 0, 1 and 2, the first so many of each healthy or degraded */
static void use_levels(unsigned levels, const unsigned *healthy, const unsigned *degraded)
{
    for (unsigned p = 0; p < levels; p++) {
        localities[p].priority = p;
        for (unsigned i = 0; i < 10; i++) {
            struct px_lb_host *host = &hosts[p * 10 + i];
            host->locality = (uint16_t)p;
            host->health = i < healthy[p]                 ? PX_LB_HEALTHY
                           : i < healthy[p] + degraded[p] ? PX_LB_DEGRADED
                                                          : PX_LB_UNHEALTHY;
        }
    }
    use(PX_LB_ROUND_ROBIN, levels * 10);
    set.locality_count = levels;
    px_lb_set(lb, &conf, &set);
}

/* The rows of Envoy's documentation on priorities, and its corners. */
static void test_priority_loads(void **state)
{
    (void)state;
    static const struct {
        unsigned levels, healthy[3], degraded[3], panic;
        const char *loads;
    } rows[] = {
        {2, {10, 10}, {0}, 50, "100/0 0/0"},
        {2, {8, 10}, {0}, 50, "100/0 0/0"}, /* 80 % times 1.4 */
        {2, {7, 10}, {0}, 50, "98/0 2/0"},
        {2, {5, 10}, {0}, 50, "70/0 30/0"},
        {2, {1, 10}, {0}, 50, "14/0 86/0"},
        {2, {0, 10}, {0}, 50, "0/0 100/0"},
        {2, {2, 2}, {0}, 0, "50/0 50/0"},    /* too few, no panic: by what there is */
        {2, {2, 2}, {0}, 50, "50/0! 50/0!"}, /* all: by numbers */
        {2, {0, 0}, {0}, 50, "50/0! 50/0!"},
        {2, {0, 0}, {0}, 0, "100/0 0/0"},
        {3, {1, 1, 1}, {0}, 0, "34/0 33/0 33/0"}, /* what rounding leaves goes to the first */
        {1, {6}, {4}, 50, "84/16"},
        {2, {2, 4}, {4, 6}, 50, "28/16 56/0"},
        {1, {0}, {10}, 50, "0/100"},
        {2, {0, 2}, {5, 0}, 50, "0/71 29/0!"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        conf.panic_percent = rows[i].panic;
        use_levels(rows[i].levels, rows[i].healthy, rows[i].degraded);
        loads_are(rows[i].loads);
    }
}

static void test_load_is_followed(void **state)
{
    (void)state;
    use_levels(2, (unsigned[]){5, 10}, (unsigned[]){0, 0});
    spread();
    unsigned first = 0, second = 0;
    for (int i = 0; i < 10; i++) {
        first += hits[i];
        second += hits[10 + i];
        assert_true(i < 5 || hits[i] == 0); /* no unhealthy host without panic */
    }
    assert_share(first, 0.7);
    assert_share(second, 0.3);
}

static void test_panic(void **state)
{
    (void)state;
    use_levels(1, (unsigned[]){4}, (unsigned[]){0});
    spread();
    for (int i = 0; i < 10; i++)
        assert_in_range(hits[i], PICKS / 10 - 1, PICKS / 10 + 1);
    assert_int_equal(px_lb_counters(lb)[PX_LB_N_HEALTHY_PANIC], PICKS);
    conf.fails_on_panic = true;
    use(PX_LB_ROUND_ROBIN, 10);
    assert_int_equal(pick(), -1);
}

static void test_nobody(void **state)
{
    (void)state;
    conf.panic_percent = 0;
    use_levels(1, (unsigned[]){0}, (unsigned[]){0});
    static const px_lb_policy policies[] = {PX_LB_ROUND_ROBIN, PX_LB_LEAST_REQUEST, PX_LB_RANDOM,
                                            PX_LB_RING_HASH, PX_LB_MAGLEV};
    for (size_t i = 0; i < LT_ARRAY_LEN(policies); i++) {
        use(policies[i], 10);
        assert_int_equal(pick(), -1);
        use(policies[i], 0);
        assert_int_equal(pick(), -1);
    }
    px_lb_set(lb, &conf, &(struct px_lb_set){0});
    assert_int_equal(pick(), -1);
}

/* Excluded hosts are not there when health is measured. */
static void test_excluded(void **state)
{
    (void)state;
    for (int i = 5; i < 10; i++)
        hosts[i].is_excluded = true;
    use_levels(2, (unsigned[]){4, 10}, (unsigned[]){0, 0}); /* 4 of 5 */
    loads_are("100/0 0/0");
}

static void test_weighted_priority_health(void **state)
{
    (void)state;
    use_levels(2, (unsigned[]){5, 10}, (unsigned[]){0, 0});
    for (int i = 0; i < 5; i++)
        hosts[i].weight = 9; /* 45 of 50 */
    set.weighted_priority_health = true;
    px_lb_set(lb, &conf, &set);
    loads_are("100/0 0/0");
}

/* Retries may leave out priorities that were tried. */
static void test_tried_levels(void **state)
{
    (void)state;
    use_levels(2, (unsigned[]){10, 10}, (unsigned[]){0, 0});
    for (int i = 0; i < 100; i++)
        assert_in_range(ask(&(struct px_lb_ask){.tried_levels = 1}) - hosts, 10, 19);
    for (int i = 0; i < 100; i++) /* all were tried: as if none was */
        assert_in_range(ask(&(struct px_lb_ask){.tried_levels = 3}) - hosts, 0, 9);
}

static void test_avoids(void **state)
{
    (void)state;
    static const px_lb_policy policies[] = {PX_LB_ROUND_ROBIN, PX_LB_RANDOM, PX_LB_RING_HASH,
                                            PX_LB_MAGLEV};
    struct px_lb_host *avoid[] = {&hosts[0], &hosts[2]};
    for (size_t i = 0; i < LT_ARRAY_LEN(policies); i++) {
        use(policies[i], 3);
        for (int j = 0; j < 50; j++)
            assert_ptr_equal(
                ask(&(struct px_lb_ask){.avoid = avoid, .avoid_count = 2, .attempts = 60}),
                &hosts[1]);
    }
}

/* --- localities --- */

static void test_locality_weights(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c"};
    conf.locality = PX_LOCALITY_WEIGHTED;
    for (unsigned i = 0; i < 12; i++)
        hosts[i].locality = (uint16_t)(i / 4);
    for (unsigned i = 0; i < 3; i++)
        localities[i] = (struct px_locality){.zone = lt_str_of(names[i]), .weight = i};
    use(PX_LB_ROUND_ROBIN, 12); /* 0 : 1 : 2 */
    spread();
    unsigned sums[3] = {0};
    for (unsigned i = 0; i < 12; i++)
        sums[i / 4] += hits[i];
    assert_int_equal(sums[0], 0);
    assert_in_range(sums[1], PICKS / 3 - 2, PICKS / 3 + 2);
    /* one of four healthy: a quarter, times 1.4, of the weight of 2 */
    for (unsigned i = 9; i < 12; i++)
        hosts[i].health = PX_LB_UNHEALTHY;
    px_lb_set(lb, &conf, &set);
    spread();
    assert_in_range(hits[8], (unsigned)(PICKS * 0.7 / 1.7) - 3, (unsigned)(PICKS * 0.7 / 1.7) + 3);
}

/* The same place twice is one place. */
static void test_localities_are_merged(void **state)
{
    (void)state;
    conf.locality = PX_LOCALITY_WEIGHTED;
    localities[0] = localities[1] = (struct px_locality){.zone = LT_STR("a"), .weight = 1};
    localities[2] = (struct px_locality){.zone = LT_STR("b"), .weight = 1};
    hosts[1].locality = 1;
    hosts[2].locality = 2;
    use(PX_LB_ROUND_ROBIN, 3);
    spread();
    assert_in_range(hits[2], PICKS / 2 - 2, PICKS / 2 + 2);
    assert_in_range(hits[0], PICKS / 4 - 2, PICKS / 4 + 2);
}

/* --- zone aware: the local cluster has `callers`, the upstream `upstream` hosts in each zone --- */

static void zones(const unsigned *callers, const unsigned *upstream, double parts[3])
{
    static const char *const names[] = {"a", "b", "c"};
    static struct px_lb_host local_hosts[HOSTS_MAX];
    struct px_lb_host *local_list[HOSTS_MAX];
    struct px_locality local_places[3] = {{.weight = 0}};
    struct px_lb_conf plain = conf;
    size_t local_count = 0, count = 0;
    for (uint16_t zone = 0; zone < 3; zone++) {
        localities[zone].zone = local_places[zone].zone = lt_str_of(names[zone]);
        for (unsigned i = 0; i < callers[zone]; i++) {
            local_hosts[local_count] = (struct px_lb_host){.weight = 1, .locality = zone};
            local_list[local_count] = &local_hosts[local_count];
            local_count++;
        }
        for (unsigned i = 0; i < upstream[zone]; i++)
            hosts[count++].locality = zone;
    }
    conf.locality = PX_LOCALITY_ZONE_AWARE;
    use(PX_LB_ROUND_ROBIN, count);
    set.here = &localities[0];
    px_lb_set(lb, &conf, &set);
    struct px_lb_set local_set = {local_list, local_count, local_places, 3, 140, false, NULL};
    struct px_lb *local = px_lb_new();
    plain.locality = PX_LOCALITY_NONE;
    px_lb_set(local, &plain, &local_set);
    unsigned sums[3] = {0};
    for (unsigned i = 0; i < PICKS; i++)
        sums[ask(&(struct px_lb_ask){.local = local})->locality]++;
    for (int i = 0; i < 3; i++)
        parts[i] = (double)sums[i] / PICKS;
    px_lb_free(&local);
}

static void assert_part(double got, double wanted)
{
    assert_true(fabs(got - wanted) < 0.02);
}

static void test_zone_aware(void **state)
{
    (void)state;
    double parts[3];
    zones((unsigned[]){2, 2, 2}, (unsigned[]){4, 4, 4}, parts); /* enough at home */
    assert_part(parts[0], 1.0);
    assert_int_equal(px_lb_counters(lb)[PX_LB_N_ZONE_DIRECTLY], PICKS);
    zones((unsigned[]){5, 5, 0}, (unsigned[]){2, 4, 4}, parts); /* 20 % for 50 %: 40 % stays */
    assert_part(parts[0], 0.4);
    assert_part(parts[1], 0.0); /* 40 % for 50 %: none to spare */
    assert_part(parts[2], 0.6);
    assert_true(px_lb_counters(lb)[PX_LB_N_ZONE_SAMPLED] > 0);
    assert_true(px_lb_counters(lb)[PX_LB_N_ZONE_CROSS] > 0);
    zones((unsigned[]){0, 5, 5}, (unsigned[]){4, 4, 4},
          parts); /* we are not in the local cluster */
    assert_part(parts[0], 0.33);
    assert_int_equal(px_lb_counters(lb)[PX_LB_N_LOCAL_NOT_OK], 1);
    zones((unsigned[]){2, 2, 2}, (unsigned[]){1, 1, 1}, parts); /* below min_cluster_size */
    assert_part(parts[0], 0.33);
    assert_int_equal(px_lb_counters(lb)[PX_LB_N_ZONE_TOO_SMALL], 1);
    conf.zone_routing_percent = 0;
    zones((unsigned[]){2, 2, 2}, (unsigned[]){4, 4, 4}, parts);
    assert_part(parts[0], 0.33);
}

/* --- consistent hashing --- */

static void test_hashes(void **state)
{
    (void)state;
    /* published test vectors */
    assert_true(lt_hash64("", 0, 0) == 0xef46db3751d8e999ull);
    assert_true(lt_hash64("abc", 3, 0) == 0x44bc2cf5ad770999ull);
    /* as std::hash<std::string> of GNU's C++ library says */
    static const struct {
        const char *text;
        uint64_t hash;
    } rows[] = {
        {"", 0x553e93901e462a6eull},
        {"a", 0x454ddee488c1ed6bull},
        {"abc", 0x32d82bf8ed3dba39ull},
        {"12345678", 0x8c5b90a33a04dca5ull},
        {"10.0.0.1:80_17", 0x3d938892823c2ba7ull},
        {"abcdefghijklmnopqrstuvwxyz", 0x8a7ebd92a97321c3ull},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++)
        assert_true(px_murmur2(rows[i].text, strlen(rows[i].text), PX_MURMUR_SEED) == rows[i].hash);
}

static int hashed(uint64_t hash)
{
    struct px_lb_host *host = ask(&(struct px_lb_ask){.hash = hash, .has_hash = true});
    return host == NULL ? -1 : (int)(host - hosts);
}

static uint64_t key_of(int i)
{
    return lt_hash64(&i, sizeof(i), 7);
}

/* The same key the same host; one host less moves its keys alone, and all have their part. */
static void check_consistency(px_lb_policy policy, double moved_max)
{
    enum { KEYS = 10000 };
    static int before[KEYS];
    unsigned counts[10] = {0}, moved = 0;
    use(policy, 10);
    for (int i = 0; i < KEYS; i++) {
        before[i] = hashed(key_of(i));
        counts[before[i]]++;
        assert_int_equal(hashed(key_of(i)), before[i]);
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(counts[i], KEYS / 20, KEYS / 5);
    use(policy, 9);
    for (int i = 0; i < KEYS; i++)
        moved += before[i] != 9 && hashed(key_of(i)) != before[i];
    assert_in_range(moved, 0, (unsigned)(KEYS * moved_max));
}

static void test_ring_hash(void **state)
{
    (void)state;
    /* each of nine hosts has more places than each of ten: a few keys move with those */
    check_consistency(PX_LB_RING_HASH, 0.1);
    conf.ring_is_murmur = true;
    check_consistency(PX_LB_RING_HASH, 0.1);
    conf.ring_max = 8; /* fewer places than hosts: some have none, nothing breaks */
    conf.ring_min = 1;
    use(PX_LB_RING_HASH, 10);
    for (int i = 0; i < 100; i++)
        assert_in_range(hashed(key_of(i)), 0, 9);
    conf.ring_min = 0; /* no places at all: nobody is chosen, as by Envoy */
    use(PX_LB_RING_HASH, 10);
    assert_int_equal(hashed(1), -1);
}

static void test_maglev(void **state)
{
    (void)state;
    check_consistency(PX_LB_MAGLEV, 0.03);
    conf.table_size = 7; /* smaller than the hosts */
    use(PX_LB_MAGLEV, 10);
    for (int i = 0; i < 100; i++)
        assert_in_range(hashed(key_of(i)), 0, 9);
}

static void check_hashed_weights(px_lb_policy policy)
{
    hosts[0].weight = 3;
    use(policy, 2);
    unsigned first = 0;
    for (int i = 0; i < 10000; i++)
        first += hashed(key_of(i)) == 0;
    assert_in_range(first, 7000, 8000);
}

static void test_hashing_has_weights(void **state)
{
    (void)state;
    conf.ring_min = 65536;
    check_hashed_weights(PX_LB_RING_HASH);
    check_hashed_weights(PX_LB_MAGLEV);
}

/* No host has more than 1.5 times its part, whatever the key. */
static void test_bounded_load(void **state)
{
    (void)state;
    conf.balance_percent = 150;
    static const px_lb_policy policies[] = {PX_LB_RING_HASH, PX_LB_MAGLEV};
    for (size_t p = 0; p < LT_ARRAY_LEN(policies); p++) {
        use(policies[p], 4);
        uint32_t active = 0;
        for (; active < 100; active++) {
            struct px_lb_host *host = ask(
                &(struct px_lb_ask){.hash = 42, .has_hash = true, .rq_active = active});
            host->rq_active++;
        }
        unsigned most = 0;
        for (int i = 0; i < 4; i++) {
            most = LT_MAX(most, hosts[i].rq_active);
            hosts[i].rq_active = 0;
        }
        assert_in_range(most, 35, 40); /* the hot one: 100 * 1.5 / 4, rounded up */
    }
}

/* --- subsets --- */

static const struct px_meta_pair stage_prod[] = {{{"stage", 5}, {"\"prod\"", 6}},
                                                 {{"version", 7}, {"1", 1}}};
static const struct px_meta_pair stage_dev[] = {{{"stage", 5}, {"\"dev\"", 5}},
                                                {{"version", 7}, {"2", 1}}};
static const struct px_metas prod = {stage_prod, 2}, dev = {stage_dev, 2};
static const lt_str both[] = {{"stage", 5}, {"version", 7}}, stage_only[] = {{"stage", 5}};

static struct px_subset_conf subset_conf(struct px_subset_selector *selectors)
{
    selectors[0] = (struct px_subset_selector){.keys = both, .key_count = 2};
    selectors[1] = (struct px_subset_selector){.keys = stage_only, .key_count = 1};
    for (int i = 0; i < 4; i++)
        hosts[i].metas = i < 2 ? &prod : &dev;
    return (struct px_subset_conf){
        .selectors = selectors, .selector_count = 2, .fallback = PX_SUBSET_NONE};
}

static int pick_where(const struct px_metas *metas)
{
    struct px_lb_host *host = ask(&(struct px_lb_ask){.metas = metas});
    return host == NULL ? -1 : (int)(host - hosts);
}

static void test_subsets(void **state)
{
    (void)state;
    struct px_subset_selector selectors[2];
    struct px_subset_conf subset = subset_conf(selectors);
    const struct px_metas only_dev = {stage_dev, 1};
    conf.subset = &subset;
    use(PX_LB_ROUND_ROBIN, 4);
    assert_int_equal(px_lb_subset_count(lb), 4);
    for (int i = 0; i < 20; i++) {
        assert_in_range(pick_where(&prod), 0, 1);
        assert_in_range(pick_where(&dev), 2, 3);
        assert_in_range(pick_where(&only_dev), 2, 3);
    }
    const struct px_meta_pair other[] = {{{"stage", 5}, {"\"test\"", 6}}};
    const struct px_metas unknown = {other, 1};
    assert_int_equal(pick_where(&unknown), -1);
    assert_int_equal(pick_where(NULL), -1);
    subset.fallback = PX_SUBSET_ANY;
    bool seen[4] = {0};
    for (int i = 0; i < 40; i++)
        seen[pick_where(&unknown)] = true;
    assert_true(seen[0] && seen[1] && seen[2] && seen[3]);
    subset.fallback = PX_SUBSET_DEFAULT;
    subset.default_subset = only_dev;
    use(PX_LB_ROUND_ROBIN, 4);
    for (int i = 0; i < 20; i++)
        assert_in_range(pick_where(&unknown), 2, 3);
}

static void test_subset_fallbacks_of_selectors(void **state)
{
    (void)state;
    struct px_subset_selector selectors[2];
    struct px_subset_conf subset = subset_conf(selectors);
    const struct px_meta_pair odd[] = {{{"stage", 5}, {"\"dev\"", 5}}, {{"version", 7}, {"9", 1}}};
    const struct px_metas wanted = {odd, 2};
    conf.subset = &subset;
    subset.fallback = PX_SUBSET_ANY;
    selectors[0].fallback = PX_SUBSET_NONE;
    use(PX_LB_ROUND_ROBIN, 4);
    assert_int_equal(pick_where(&wanted), -1);
    selectors[0].fallback = PX_SUBSET_KEYS; /* stage alone */
    selectors[0].fallback_keys = stage_only;
    selectors[0].fallback_key_count = 1;
    for (int i = 0; i < 20; i++)
        assert_in_range(pick_where(&wanted), 2, 3);
}

static void test_subset_lists_and_health(void **state)
{
    (void)state;
    struct px_subset_selector selectors[2];
    struct px_subset_conf subset = subset_conf(selectors);
    static const struct px_meta_pair listed[] = {{{"stage", 5}, {"[\"prod\",\"dev\"]", 14}}};
    static const struct px_metas in_both = {listed, 1};
    const struct px_metas only_dev = {stage_dev, 1}, only_prod = {stage_prod, 1};
    conf.subset = &subset;
    conf.panic_percent = 0;
    subset.list_as_any = true;
    hosts[0].metas = &in_both;
    hosts[2].health = hosts[3].health = PX_LB_UNHEALTHY;
    use(PX_LB_ROUND_ROBIN, 4);
    for (int i = 0; i < 10; i++)
        assert_int_equal(pick_where(&only_dev), 0);
    hosts[0].health = PX_LB_UNHEALTHY;
    use(PX_LB_ROUND_ROBIN, 4);
    assert_int_equal(pick_where(&only_dev), -1); /* it has hosts, none may be used */
    assert_int_equal(pick_where(&only_prod), 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_round_robin),
        CASE(test_weights_are_smooth),
        CASE(test_starts_differ),
        CASE(test_least_request),
        CASE(test_least_request_with_weights),
        CASE(test_random_knows_no_weights),
        CASE(test_slow_start),
        CASE(test_slow_start_ends),
        CASE(test_priority_loads),
        CASE(test_load_is_followed),
        CASE(test_panic),
        CASE(test_nobody),
        CASE(test_excluded),
        CASE(test_weighted_priority_health),
        CASE(test_tried_levels),
        CASE(test_avoids),
        CASE(test_locality_weights),
        CASE(test_localities_are_merged),
        CASE(test_zone_aware),
        CASE(test_hashes),
        CASE(test_ring_hash),
        CASE(test_maglev),
        CASE(test_hashing_has_weights),
        CASE(test_bounded_load),
        CASE(test_subsets),
        CASE(test_subset_fallbacks_of_selectors),
        CASE(test_subset_lists_and_health),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
