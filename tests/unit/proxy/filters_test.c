/*
 * tests/unit/proxy/filters_test.c - engines of small filters: token buckets, messages of gRPC; and what the configuration
 * of fault, CORS, limits, buffer and header mutation may say.
 */
#include "made_test.h"

#include "base/env.h"
#include "proxy/conf/token_bucket.h"
#include "proxy/filter/grpc_stats.h"

/* --- buckets --- */

static const uint64_t boot_ns = 123456789012345ull;

static void test_bucket_fills_all_the_time(void **state)
{
    (void)state;
    struct px_bucket_conf conf = px_bucket_conf_make(3, 2, 60 * LT_NS_PER_S);
    struct px_bucket bucket;
    uint64_t now = boot_ns;
    px_bucket_init(&bucket);
    assert_int_equal(px_bucket_left(&bucket, &conf, now), 3);
    for (int i = 0; i < 3; i++)
        assert_true(px_bucket_take(&bucket, &conf, now));
    assert_false(px_bucket_take(&bucket, &conf, now));
    assert_int_equal(px_bucket_next_ns(&bucket, &conf, now), 30 * LT_NS_PER_S);
    now += 30 * LT_NS_PER_S - 1;
    assert_false(px_bucket_take(&bucket, &conf, now));
    now += 1;
    assert_true(px_bucket_take(&bucket, &conf, now));
    assert_false(px_bucket_take(&bucket, &conf, now));
    now += 1000 * LT_NS_PER_S; /* no more than full */
    assert_int_equal(px_bucket_left(&bucket, &conf, now), 3);
    assert_int_equal(px_bucket_next_ns(&bucket, &conf, now), 0);
}

static void test_bucket_extremes(void **state)
{
    (void)state;
    struct px_bucket bucket;
    struct px_bucket_conf none = px_bucket_conf_make(0, 1, LT_NS_PER_S);
    px_bucket_init(&bucket);
    assert_false(px_bucket_take(&bucket, &none, boot_ns));
    assert_int_equal(px_bucket_left(&bucket, &none, boot_ns), 0);
    struct px_bucket_conf huge = px_bucket_conf_make(UINT32_MAX, UINT32_MAX,
                                                     UINT32_MAX * LT_NS_PER_MS);
    px_bucket_init(&bucket);
    assert_true(px_bucket_take(&bucket, &huge, boot_ns));
    struct px_bucket_conf slow = px_bucket_conf_make(UINT32_MAX, 1, UINT32_MAX * LT_NS_PER_MS);
    px_bucket_init(&bucket);
    assert_true(px_bucket_take(&bucket, &slow, boot_ns));
    /* a clock that is behind another worker's */
    struct px_bucket_conf one = px_bucket_conf_make(1, 1, LT_NS_PER_S);
    px_bucket_init(&bucket);
    assert_true(px_bucket_take(&bucket, &one, boot_ns + LT_NS_PER_MS));
    assert_false(px_bucket_take(&bucket, &one, boot_ns));
    assert_int_equal(px_bucket_left(&bucket, &one, boot_ns), 0);
}

/* As many as configured, over a long time, whatever the rhythm. */
static void test_bucket_rate(void **state)
{
    (void)state;
    struct px_bucket_conf conf = px_bucket_conf_make(10, 7, 100 * LT_NS_PER_MS);
    struct px_bucket bucket;
    uint64_t taken = 0, now = boot_ns, step = 0;
    px_bucket_init(&bucket);
    for (; now < boot_ns + 10 * LT_NS_PER_S; now += 1000000 + step++ * 7919 % 3000000) {
        while (px_bucket_take(&bucket, &conf, now))
            taken++;
    }
    assert_in_range(taken, 690, 715); /* 700, and the ten at the beginning */
}

/* --- gRPC --- */

static void test_messages_in_pieces(void **state)
{
    (void)state;
    static const char stream[] =
        "\0\0\0\0\3abc\0\0\0\0\0\1\0\0\1\0"; /* the third is 256 bytes, of which none came */
    for (size_t piece = 1; piece < sizeof(stream); piece++) {
        struct px_grpc_counter counter = {0};
        lt_str rest = lt_str_make(stream, sizeof(stream) - 1);
        while (rest.len > 0) {
            px_grpc_count(&counter, lt_str_slice(rest, 0, LT_MIN(piece, rest.len)));
            rest = lt_str_from(rest, piece);
        }
        assert_int_equal(counter.messages, 3);
        assert_int_equal(counter.body_left, 256);
    }
}

/* --- configuration --- */

#define FAULT "fault.v3.HTTPFault"
#define LIMIT "local_ratelimit.v3.LocalRateLimit"
#define BUCKET "token_bucket: {max_tokens: 1, fill_interval: 1s}"

static void test_bad_configuration(void **state)
{
    (void)state;
    static const struct {
        const char *type, *fields, *says;
    } bad[] = {
        {FAULT, "abort: {http_status: 700}", "abort.http_status: must be inside [200, 600)"},
        {FAULT, "abort: {http_status: 199}", "abort.http_status"},
        {FAULT, "abort: {percentage: {numerator: 1}}", "abort: needs"},
        {FAULT, "delay: {fixed_delay: 0s}", "delay.fixed_delay"},
        {FAULT, "delay: {fixed_delay: 100000s}", "delay.fixed_delay"},
        {FAULT, "delay: {}", "delay: needs"},
        {FAULT, "response_rate_limit: {fixed_limit: {limit_kbps: 0}}", "limit_kbps"},
        {FAULT, "headers: [{name: a, safe_regex_match: {regex: '('}}]", "headers"},
        {LIMIT,
         "stat_prefix: x, token_bucket: {max_tokens: 1, fill_interval: 1s}, descriptors: "
         "[{entries: [{key: a}]}]",
         "descriptors[0].entries.value: one bucket a value"},
        {LIMIT,
         "stat_prefix: x, token_bucket: {max_tokens: 1, fill_interval: 1s}, descriptors: "
         "[{entries: [{key: a, value: b}]}]",
         "descriptors[0].token_bucket: is missing"},
        {LIMIT,
         "stat_prefix: x, descriptors: [{entries: [{key: a, value: b}], token_bucket: "
         "{max_tokens: 1, fill_interval: 1s}}]",
         "token_bucket: is missing"},
        {LIMIT, "stat_prefix: x, rate_limits: [{actions: []}]", "rate_limits[0].actions"},
        {LIMIT, "stat_prefix: x, token_bucket: {max_tokens: 1, fill_interval: 0.04s}",
         "fill_interval: must be at least 50 ms"},
        {LIMIT, "stat_prefix: x, token_bucket: {max_tokens: 1}", "fill_interval: is missing"},
        {LIMIT,
         "stat_prefix: x, token_bucket: {max_tokens: 1, tokens_per_fill: 0, fill_interval: 1s}",
         "tokens_per_fill"},
        {LIMIT, "stat_prefix: x, local_cluster_rate_limit: {}", "local_cluster_rate_limit"},
        {"buffer.v3.Buffer", "max_request_bytes: 0", "max_request_bytes"},
        {"buffer.v3.Buffer", "max_request_bytes: 4000000000", "max_request_bytes"},
        {"header_mutation.v3.HeaderMutation",
         "mutations: {request_mutations: [{append: {header: {key: ':path', value: x}}}]}",
         "request_mutations"},
        {"header_mutation.v3.HeaderMutation", "mutations: {request_mutations: [{remove: Host}]}",
         "request_mutations"},
        {"header_mutation.v3.HeaderMutation", "mutations: {response_mutations: [{}]}",
         "response_mutations"},
        {"header_mutation.v3.HeaderMutation",
         "mutations: {response_mutations: [{remove_on_match: {}}]}", "response_mutations"},
        {"header_mutation.v3.HeaderMutation",
         "mutations: {query_parameter_mutations: [{append: {record: {key: a, value: 1}}}]}",
         "string values"},
        {"wasm.v3.Wasm", "config: {}", "wasm.v3.Wasm is not supported"},
        {"lua.v3.Lua", "inline_code: x", "lua.v3.Lua is not supported"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        assert_int_not_equal(compile_filter(bad[i].type, bad[i].fields), LT_OK);
        if (strstr(err.text, bad[i].says) == NULL ||
            strstr(err.text, "filter_chains[0].filters[0]") == NULL)
            fail_msg("%s {%s}: %s", bad[i].type, bad[i].fields, err.text);
    }
}

static void test_what_is_listed(void **state)
{
    (void)state;
    static const struct {
        const char *type, *fields, *path;
    } cases[] = {
        {"grpc_stats.v3.FilterConfig", "enable_upstream_stats: true", "enable_upstream_stats"},
        {"header_mutation.v3.HeaderMutation",
         "mutations: {request_trailers_mutations: [{remove: a}]}", "trailers_mutations"},
        {"compressor.v3.Compressor", "response_direction_config: {}",
         "http_filters[0] (envoy.extensions.filters.http.compressor.v3.Compressor)"},
        {"stateful_session.v3.StatefulSession", "strict: false",
         "http_filters[0] (envoy.extensions.filters.http.stateful_session"},
        {"grpc_web.v3.GrpcWeb", "", "http_filters[0] (envoy.extensions.filters.http.grpc_web"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        if (compile_filter(cases[i].type, cases[i].fields) != LT_OK)
            fail_msg("%s", err.text);
        if (px_unhonoured_count(made) != 1 ||
            lt_str_find(made->extras->unhonoured[0], lt_str_of(cases[i].path)) < 0)
            fail_msg("%s", cases[i].type);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket_fills_all_the_time),
        cmocka_unit_test(test_bucket_extremes),
        cmocka_unit_test(test_bucket_rate),
        cmocka_unit_test(test_messages_in_pieces),
        cmocka_unit_test_setup_teardown(test_bad_configuration, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_listed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
