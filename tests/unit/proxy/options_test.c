/*
 * tests/unit/proxy/options_test.c - command lines: Envoy's, pilot-agent's, and what neither takes. Response flags as text, too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/conf/flags.h"
#include "proxy/start/options.h"

enum { ARGS_MAX = 32 };

static struct lt_err err;

/* "lateen-proxy" and the words of the line. */
static lt_rc parse(const char *line, struct px_options *options)
{
    static char text[1024];
    char *argv[ARGS_MAX] = {(char *)"lateen-proxy"};
    int argc = 1;
    size_t at = 0;
    lt_str rest = lt_str_of(line), word;
    while (lt_str_split(&rest, ' ', &word)) {
        assert_true(argc < ARGS_MAX && at + word.len < sizeof(text));
        argv[argc++] = memcpy(text + at, word.ptr, word.len);
        text[at + word.len] = '\0';
        at += word.len + 1;
    }
    lt_err_clear(&err);
    return px_options_parse(argc, argv, options, &err);
}

static void test_modes(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        px_mode mode;
    } rows[] = {
        {"-c x.yaml", PX_MODE_BOOTSTRAP},
        {"--config-path=x.yaml", PX_MODE_BOOTSTRAP},
        {"--config-yaml {}", PX_MODE_BOOTSTRAP},
        {"-c x --mode validate", PX_MODE_VALIDATE},
        {"-c x --mode serve", PX_MODE_BOOTSTRAP},
        {"proxy sidecar", PX_MODE_SIDECAR},
        {"proxy", PX_MODE_SIDECAR},
        {"proxy router --domain a.svc.cluster.local", PX_MODE_ROUTER},
        {"proxy --domain a", PX_MODE_SIDECAR},
        {"--help", PX_MODE_HELP},
        {"--version", PX_MODE_VERSION},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        struct px_options options;
        if (parse(rows[i].line, &options) != LT_OK)
            fail_msg("%s: %s", rows[i].line, err.text);
        assert_int_equal(options.mode, rows[i].mode);
        px_options_fini(&options);
    }
}

/* What Istio's pilot-agent gives to its Envoy. */
static void test_envoy_line(void **state)
{
    (void)state;
    struct px_options options;
    assert_int_equal(
        parse("-c /etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate "
              "--local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart "
              "--allow-unknown-static-fields -l warning --component-log-level misc:error "
              "--skip-deprecated-logs --concurrency 2 --service-node n --service-cluster=c",
              &options),
        LT_OK);
    assert_string_equal(options.config_path, "/etc/istio/proxy/envoy-rev.json");
    assert_int_equal(options.drain_time_s, 45);
    assert_string_equal(options.drain_strategy, "immediate");
    assert_true(options.has_no_hot_restart);
    assert_int_equal(options.concurrency, 2);
    assert_string_equal(options.log_level, "warning");
    assert_string_equal(options.service_node, "n");
    assert_string_equal(options.service_cluster, "c");
    assert_int_equal(options.ignored.count, 5);
    px_options_fini(&options);
}

/* The arguments in Istio's injection template. */
static void test_agent_line(void **state)
{
    (void)state;
    struct px_options options;
    assert_int_equal(parse("proxy sidecar --domain shop.svc.cluster.local --proxyLogLevel=warning "
                           "--proxyComponentLogLevel=misc:error --log_output_level=default:info",
                           &options),
                     LT_OK);
    assert_string_equal(options.domain, "shop.svc.cluster.local");
    assert_string_equal(options.proxy_log_level, "warning");
    assert_string_equal(options.component_log_level, "misc:error");
    assert_int_equal(options.drain_time_s, 600);
    assert_int_equal(options.ignored.count, 1);
    px_options_fini(&options);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line, *error;
    } rows[] = {
        {"--nonsense 1", "unknown flag --nonsense"},
        {"-c", "-c needs a value"},
        {"-c x --concurrency many", "--concurrency: expected a number, got 'many'"},
        {"-c x --concurrency -1", "--concurrency: expected a number, got '-1'"},
        {"-c x --drain-time-s 100001", "--drain-time-s: expected a number"},
        {"-c x --mode init_only", "--mode: expected serve or validate"},
        {"-c x stray", "unexpected argument 'stray'"},
        {"-l info", "a configuration is needed"},
        {"proxy sidecar y", "unexpected argument 'y'"},
        {"proxy waypoint", "unexpected argument 'waypoint'"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        struct px_options options;
        lt_rc rc = parse(rows[i].line, &options);
        if (rc != LT_E_BAD || strstr(err.text, rows[i].error) == NULL)
            fail_msg("%s: rc %d, '%s'", rows[i].line, (int)rc, err.text);
    }
}

static void test_flags(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags;
        const char *text;
    } rows[] = {
        {0, "-"},
        {PX_FLAG_NO_ROUTE, "NR"},
        {PX_FLAG_UPSTREAM_FAILURE | PX_FLAG_RETRY_LIMIT, "URX,UF"},
        {PX_FLAG_UPSTREAM_FAILURE | PX_FLAG_CONNECT_LIMIT, "UF,URX"},
        {PX_FLAG_OVERLOAD | PX_FLAG_NO_HEALTHY_UPSTREAM, "UH,OM"},
        {UINT32_MAX,
         "DI,FI,URX,UO,UH,UT,DR,LR,UR,UF,URX,UC,NR,RL,UAEX,IH,SI,DPE,UMSDR,DT,UPE,NC,OM,DO,UDO,NFCF,DC"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        char out[PX_FLAGS_TEXT_MAX];
        lt_str text = px_flags_format(rows[i].flags, out);
        assert_int_equal(text.len, strlen(rows[i].text));
        assert_memory_equal(text.ptr, rows[i].text, text.len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes),      cmocka_unit_test(test_envoy_line),
        cmocka_unit_test(test_agent_line), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
