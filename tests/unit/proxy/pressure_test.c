/*
 * tests/unit/proxy/pressure_test.c - ceilings: quantities, control groups, what begins when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "proxy/run/pressure.h"

static void test_quantities(void **state LT_UNUSED)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"67108864", 67108864},
                {"64Mi", 64 << 20},
                {"1Gi", 1 << 30},
                {"100M", 100000000},
                {"5k", 5000},
                {"128Ki", 128 << 10}};
    static const char *const bad[] = {
        "", "Mi", "x", "-1", "64MiB", "6.5Mi", "99999999999999999999", "18446744073709551615Gi"};
    uint64_t bytes = 0;
    for (size_t i = 0; i < LT_ARRAY_LEN(good); i++) {
        assert_int_equal(px_pressure_parse(lt_str_of(good[i].text), &bytes), LT_OK);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++)
        assert_int_not_equal(px_pressure_parse(lt_str_of(bad[i]), &bytes), LT_OK);
}

static void test_order(void **state LT_UNUSED)
{
    struct px_pressure_conf conf;
    px_pressure_conf_init(&conf);
    assert_false(px_pressure_conf_is_on(&conf));
    assert_int_equal(px_pressure_acts(&conf, UINT64_MAX - 1), 0);
    px_pressure_conf_limit(&conf, 0);
    assert_false(px_pressure_conf_is_on(&conf));
    px_pressure_conf_limit(&conf, 1000);
    assert_true(px_pressure_conf_is_on(&conf));
    /* each in its turn, none goes with the next, and all before the ceiling */
    uint32_t seen = 0;
    int changes = 0;
    for (uint64_t used = 0; used < 1000; used++) {
        uint32_t acts = px_pressure_acts(&conf, used);
        assert_int_equal(acts & seen, seen);
        changes += acts != seen;
        seen = acts;
    }
    assert_int_equal(changes, 5);
    assert_int_equal(seen, (1u << PX_ACT_PAUSE_CONNECTIONS) - 1);
}

static void test_the_earlier_counts(void **state LT_UNUSED)
{
    struct px_pressure_conf conf;
    px_pressure_conf_init(&conf);
    conf.at_bytes[PX_ACT_SHED] = 100;
    conf.at_bytes[PX_ACT_REFUSE_REQUESTS] = 990;
    px_pressure_conf_limit(&conf, 1000);
    assert_int_equal(conf.at_bytes[PX_ACT_SHED], 100);
    assert_true(conf.at_bytes[PX_ACT_REFUSE_REQUESTS] < 990);
}

/* --- control groups: a small tree of files --- */

static char root[64];

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *at = full + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(full, 0700);
        *at = '/';
    }
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void begin(void)
{
    snprintf(root, sizeof(root), "/tmp/lateen-cgroup-XXXXXX");
    assert_non_null(mkdtemp(root));
}

static void end(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

static void test_version_two(void **state LT_UNUSED)
{
    begin();
    assert_int_equal(px_pressure_cgroup_limit(root), 0); /* no files at all */
    put("/proc/self/cgroup", "0::/pod/container\n");
    put("/sys/fs/cgroup/pod/container/memory.max", "max\n");
    assert_int_equal(px_pressure_cgroup_limit(root), 0);
    put("/sys/fs/cgroup/pod/memory.max", "50000000\n");
    assert_int_equal(px_pressure_cgroup_limit(root), 50000000);
    put("/sys/fs/cgroup/pod/container/memory.max", "20000000\n");
    assert_int_equal(px_pressure_cgroup_limit(root), 20000000);
    /* inside a container the group is the root of what is seen */
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/memory.max", "30000000\n");
    assert_int_equal(px_pressure_cgroup_limit(root), 30000000);
    put("/sys/fs/cgroup/memory.max", "a lot\n");
    assert_int_equal(px_pressure_cgroup_limit(root), 0);
    end();
}

static void test_version_one(void **state LT_UNUSED)
{
    begin();
    put("/proc/self/cgroup", "12:cpu,cpuacct:/x\n7:memory:/x/y\n1:name=systemd:/z\nnonsense\n");
    put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    assert_int_equal(px_pressure_cgroup_limit(root), 0);
    put("/sys/fs/cgroup/memory/x/y/memory.limit_in_bytes", "40000000\n");
    assert_int_equal(px_pressure_cgroup_limit(root), 40000000);
    end();
}

static void test_measure(void **state LT_UNUSED)
{
    struct px_pressure_conf conf;
    struct px_pressure pressure;
    px_pressure_conf_init(&conf);
    px_pressure_init(&pressure, &conf);
    assert_int_equal(px_pressure_measure(&pressure), 0);
    px_pressure_fini(&pressure);
    conf.at_bytes[PX_ACT_SHRINK] = 1;
    conf.at_bytes[PX_ACT_SHED] = UINT64_MAX - 1;
    px_pressure_init(&pressure, &conf);
    assert_int_equal(px_pressure_measure(&pressure), 1u << PX_ACT_SHRINK);
    assert_true(px_pressure_has(&pressure, PX_ACT_SHRINK));
    assert_false(px_pressure_has(&pressure, PX_ACT_SHED));
    assert_true(pressure.used_bytes > 100 * 1024 && pressure.used_bytes < (uint64_t)1 << 32);
    px_pressure_fini(&pressure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantities),         cmocka_unit_test(test_order),
        cmocka_unit_test(test_the_earlier_counts), cmocka_unit_test(test_version_two),
        cmocka_unit_test(test_version_one),        cmocka_unit_test(test_measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
