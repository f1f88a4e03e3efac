/*
 * options_test.c - istiod's arguments, as its chart writes them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/env.h"
#include "control/options.h"

static struct cp_options options;
static struct lt_err err;

static lt_rc parse(const char *first, ...)
{
    char *argv[32] = {"lateend", (char *)first};
    int argc = first != NULL ? 2 : 1;
    va_list args;
    va_start(args, first);
    for (char *word; first != NULL && (word = va_arg(args, char *)) != NULL;)
        argv[argc++] = word;
    va_end(args);
    err = (struct lt_err){0};
    return cp_options_parse(argc, argv, &options, &err);
}

static void defaults_are_istiods(void **state)
{
    (void)state;
    assert_int_equal(parse("discovery", "--configDir", "/etc/m", NULL), LT_OK);
    assert_int_equal(options.dir_count, 1);
    assert_true(lt_str_eqz(options.dirs[0], "/etc/m"));
    assert_string_equal(options.grpc_addr, ":15010");
    assert_string_equal(options.secure_addr, ":15012");
    assert_string_equal(options.http_addr, ":8080");
    assert_string_equal(options.monitoring_addr, ":15014");
    assert_true(lt_str_eqz(options.domain, "cluster.local"));
    assert_int_equal(options.log_level, LT_LOG_INFO);
    assert_int_equal(options.connection_age_ns, 0);
    assert_null(options.mesh_config);
    assert_int_equal(options.live_dir.len, 0);
    assert_int_equal(parse("discovery", "--configDir=/etc/m", "--liveDir=/run/live", NULL), LT_OK);
    assert_true(lt_str_eqz(options.live_dir, "/run/live"));
    assert_string_equal(options.ignored, "");
}

static void the_charts_arguments_are_taken(void **state)
{
    (void)state;
    assert_int_equal(parse("discovery", "--monitoringAddr=:15014",
                           "--log_output_level=default:warn,ads:debug", "--log_as_json", "--domain",
                           "mesh.example", "--keepaliveMaxServerConnectionAge", "30m",
                           "--httpsAddr", "", "-n", "istio-system", "--grpcAddr=", "--configDir=a",
                           "--configDir=b", NULL),
                     LT_OK);
    assert_int_equal(options.dir_count, 2);
    assert_string_equal(options.grpc_addr, "");
    assert_true(lt_str_eqz(options.domain, "mesh.example"));
    assert_int_equal(options.log_level, LT_LOG_WARN);
    assert_true(options.connection_age_ns == 1800 * (int64_t)LT_NS_PER_S);
    assert_string_equal(options.ignored, "--log_as_json, --httpsAddr, --namespace");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL), LT_E_BAD);
    assert_non_null(strstr(err.text, "discovery"));
    assert_int_equal(parse("discovery", NULL), LT_E_BAD);
    assert_non_null(strstr(err.text, "--configDir"));
    assert_int_equal(parse("discovery", "--configDir=a", "more", NULL), LT_E_BAD);
    assert_int_equal(parse("discovery", "--configDir=a", "--keepaliveInterval=often", NULL),
                     LT_E_BAD);
    assert_non_null(
        strstr(err.text, "--keepaliveInterval: expected a duration like 30s, got 'often'"));
    assert_int_equal(parse("discovery", "--configDir=a", "--log_output_level=loud", NULL),
                     LT_E_BAD);
    assert_non_null(strstr(err.text, "'loud'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_istiods),
        cmocka_unit_test(the_charts_arguments_are_taken),
        cmocka_unit_test(mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
