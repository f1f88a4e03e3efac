/*
 * tests/unit/proxy/retry_test.c - the retry policy's verdict alone: what is repeated, and what
 * never without being asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/conf/retry_on.h"
#include "proxy/http/request.h"

static const struct px_retry istio_default = {
    .on = PX_RETRY_CONNECT_FAILURE | PX_RETRY_REFUSED_STREAM | PX_RETRY_GRPC_UNAVAILABLE |
          PX_RETRY_GRPC_CANCELLED | PX_RETRY_STATUS_CODES,
    .num_retries = 2,
};

static bool covers_status(uint32_t on, uint32_t code, const char *grpc_status)
{
    const struct px_retry retry = {.on = on};
    return px_retry_covers_status(&retry, code, lt_str_of(grpc_status));
}

static void test_failures(void **state)
{
    (void)state;
    static const struct {
        uint32_t on;
        bool connect, before, reset, timeout;
    } cases[] = {
        {0, false, false, false, false},
        {PX_RETRY_CONNECT_FAILURE, true, false, false, false},
        {PX_RETRY_RESET_BEFORE_REQUEST, true, true, false, false},
        {PX_RETRY_RESET, true, true, true, true},
        {PX_RETRY_5XX, true, true, true, true},
        {PX_RETRY_GATEWAY_ERROR, true, true, true, true},
        {PX_RETRY_REFUSED_STREAM, false, false, false, false},
        {PX_RETRY_4XX | PX_RETRY_STATUS_CODES, false, false, false, false},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        const struct px_retry retry = {.on = cases[i].on};
        assert_int_equal(px_retry_covers_failure(&retry, PX_FAIL_CONNECT), cases[i].connect);
        assert_int_equal(px_retry_covers_failure(&retry, PX_FAIL_RESET_BEFORE), cases[i].before);
        assert_int_equal(px_retry_covers_failure(&retry, PX_FAIL_RESET), cases[i].reset);
        assert_int_equal(px_retry_covers_failure(&retry, PX_FAIL_TIMEOUT), cases[i].timeout);
    }
}

/* What the application may have seen is not repeated under Istio's default. */
static void test_istio_default(void **state)
{
    (void)state;
    assert_true(px_retry_covers_failure(&istio_default, PX_FAIL_CONNECT));
    assert_false(px_retry_covers_failure(&istio_default, PX_FAIL_RESET));
    assert_false(px_retry_covers_failure(&istio_default, PX_FAIL_TIMEOUT));
    assert_false(px_retry_covers_status(&istio_default, 503, LT_STR_NULL));
    assert_true(px_retry_covers_status(&istio_default, 200, LT_STR("14")));
}

static void test_statuses(void **state)
{
    (void)state;
    assert_true(covers_status(PX_RETRY_5XX, 500, NULL));
    assert_true(covers_status(PX_RETRY_5XX, 599, NULL));
    assert_false(covers_status(PX_RETRY_5XX, 404, NULL));
    assert_false(covers_status(PX_RETRY_GATEWAY_ERROR, 500, NULL));
    assert_true(covers_status(PX_RETRY_GATEWAY_ERROR, 502, NULL));
    assert_true(covers_status(PX_RETRY_GATEWAY_ERROR, 504, NULL));
    assert_true(covers_status(PX_RETRY_4XX, 409, NULL));
    assert_false(covers_status(PX_RETRY_4XX, 404, NULL));
    assert_true(covers_status(PX_RETRY_GRPC_EXHAUSTED, 200, "8"));
    assert_false(covers_status(PX_RETRY_GRPC_EXHAUSTED, 200, "14"));
    assert_false(covers_status(PX_RETRY_GRPC_EXHAUSTED, 200, "0"));
    const uint32_t codes[] = {418, 503};
    struct px_retry retry = {
        .on = PX_RETRY_STATUS_CODES, .status_codes = codes, .status_code_count = 2};
    assert_true(px_retry_covers_status(&retry, 418, LT_STR_NULL));
    assert_false(px_retry_covers_status(&retry, 502, LT_STR_NULL));
    retry.on = PX_RETRY_CONNECT_FAILURE;
    assert_false(px_retry_covers_status(&retry, 418, LT_STR_NULL));
}

/* Headers know fewer words than policies; what is unknown does not take the others with it. */
static void test_words(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        px_retry_words of;
        bool is_known;
        uint32_t bits;
    } rows[] = {
        {"", PX_RETRY_WORDS_ALL, true, 0},
        {"5xx", PX_RETRY_WORDS_HTTP, true, PX_RETRY_5XX},
        {" 5xx , reset ", PX_RETRY_WORDS_HTTP, true, PX_RETRY_5XX | PX_RETRY_RESET},
        {"5xx,foo,reset", PX_RETRY_WORDS_HTTP, false, PX_RETRY_5XX | PX_RETRY_RESET},
        {"cancelled", PX_RETRY_WORDS_HTTP, false, 0},
        {"cancelled", PX_RETRY_WORDS_GRPC, true, PX_RETRY_GRPC_CANCELLED},
        {"5xx", PX_RETRY_WORDS_GRPC, false, 0},
        {"cancelled,5xx", PX_RETRY_WORDS_ALL, true, PX_RETRY_GRPC_CANCELLED | PX_RETRY_5XX},
        {",,", PX_RETRY_WORDS_ALL, true, 0},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        uint32_t bits = 1u << 31;
        assert_int_equal(px_retry_on_parse(lt_str_of(rows[i].text), rows[i].of, &bits),
                         rows[i].is_known);
        assert_int_equal(bits, rows[i].bits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures), cmocka_unit_test(test_istio_default),
        cmocka_unit_test(test_statuses), cmocka_unit_test(test_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
