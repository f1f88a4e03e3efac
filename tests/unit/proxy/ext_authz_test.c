/*
 * tests/unit/proxy/ext_authz_test.c - what external authorization servers answer, and what their
 * configuration may say.
 */
#include "made_test.h"

#include "http/headers.h"
#include "proxy/filter/ext_authz.h"
#include "proxy/http/grpc_unary.h"
#include "wire/proto/auth.pb-c.h"

static struct px_authz_answer answer;

static lt_rc compile(const char *fields)
{
    return compile_filter("ext_authz.v3.ExtAuthz", fields);
}

static const struct px_authz_conf *conf_of(const char *fields)
{
    if (compile(fields) != LT_OK)
        fail_msg("%s\n%s", err.text, fields);
    return ((const struct px_listener_conf *)made)->chains[0].hcm->filters[0].conf;
}

#define SERVER "http_service: {server_uri: {uri: 'http://a/', cluster: c, timeout: 1s}"

/* --- configuration --- */

static void test_bad_configuration(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *says;
    } bad[] = {
        {"stat_prefix: x", "needs grpc_service or http_service"},
        {"grpc_service: {google_grpc: {target_uri: x}}", "google_grpc"},
        {"grpc_service: {envoy_grpc: {cluster_name: ''}}", "cluster_name: is empty"},
        {"grpc_service: {envoy_grpc: {cluster_name: c}, initial_metadata: [{key: 'a b', value: v}]}",
         "initial_metadata"},
        {SERVER ", path_prefix: x}", "http_service.path_prefix: must start with '/'"},
        {SERVER ", path_prefix: /x, path_override: /y}", "path_override"},
        {"http_service: {server_uri: {uri: 'http://a/', timeout: 1s}}",
         "http_service.server_uri: needs a cluster"},
        {SERVER "}, with_request_body: {}", "max_request_bytes: must be greater than 0"},
        {SERVER "}, with_request_body: {max_request_bytes: 4000000000}",
         "max_request_bytes: is more than"},
        {SERVER "}, transport_api_version: V2", "only V3"},
        {SERVER "}, status_on_error: {code: Continue}", "status_on_error"},
        {SERVER "}, filter_enabled_metadata: {filter: x}", "filter_enabled_metadata"},
        {SERVER "}, decoder_header_mutation_rules: {allow_expression: {regex: '('}}",
         "allow_expression"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        assert_int_not_equal(compile(bad[i].fields), LT_OK);
        if (strstr(err.text, bad[i].says) == NULL)
            fail_msg("%s: %s", bad[i].fields, err.text);
    }
}

static void test_what_is_listed(void **state)
{
    (void)state;
    conf_of(
        SERVER
        "}, bootstrap_metadata_labels_key: k, typed_metadata_context_namespaces: [a], route_metadata_context_namespaces: [a],"
        " emit_filter_state_stats: true, filter_metadata: {a: b}, charge_cluster_response_stats: false");
    assert_int_equal(px_unhonoured_count(made), 6);
}

static void test_defaults(void **state)
{
    (void)state;
    const struct px_authz_conf *conf = conf_of("grpc_service: {envoy_grpc: {cluster_name: c}}");
    assert_int_equal(conf->service.timeout_ms, 200);
    assert_true(lt_str_eqz(conf->service.authority, "c"));
    assert_int_equal(conf->error_code, 403);
    assert_int_equal(conf->enabled_ppm, 1000000);
    assert_false(conf->failure_allows);
}

static void test_mutation_rules(void **state)
{
    (void)state;
    static const struct {
        const char *rules, *allowed, *refused;
    } cases[] = {
        {"{}", "x-a,:path,content-type", "host,:authority,:method,:scheme,x-envoy-a,X-Envoy-A"},
        {"{allow_all_routing: true, allow_envoy: true}", "host,:method,x-envoy-a", ""},
        {"{disallow_system: true}", "x-a", ":path,host,:method"},
        {"{disallow_all: true, allow_expression: {regex: '.*'}}", "", "x-a"},
        {"{disallow_expression: {regex: 'x-.*'}, allow_expression: {regex: 'host|x-a'}}", "host,y",
         "x-a,x-b"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        lt_str fields = lt_arena_printf(arena, SERVER "}, decoder_header_mutation_rules: %s",
                                        cases[i].rules);
        const struct px_mutation_rules *rules = conf_of(fields.ptr)->rules;
        lt_str rest = lt_str_of(cases[i].allowed), name;
        while (lt_str_split(&rest, ',', &name))
            assert_true(name.len == 0 || px_mutation_allowed(rules, name));
        rest = lt_str_of(cases[i].refused);
        while (lt_str_split(&rest, ',', &name))
            assert_false(name.len > 0 && px_mutation_allowed(rules, name));
    }
    assert_true(px_mutation_allowed(NULL, LT_STR(":method")));
}

/* --- answers over gRPC --- */

static const struct px_authz_answer *read_yaml(const char *yaml)
{
    const struct lt_doc *doc = NULL;
    void *message = NULL;
    if (lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(yaml)), NULL, &doc, &err) != LT_OK ||
        lt_pbjson_read(arena, doc, &xds__check_response__descriptor, NULL, &message, &err) != LT_OK)
        fail_msg("%s", err.text);
    px_authz_read_grpc(arena, lt_pb_pack(arena, message), &answer);
    return &answer;
}

static void test_results(void **state)
{
    (void)state;
    assert_int_equal(read_yaml("{}")->result, PX_AUTHZ_OK);
    assert_int_equal(read_yaml("{status: {}}")->result, PX_AUTHZ_OK);
    assert_int_equal(read_yaml("{status: {code: 7}}")->result, PX_AUTHZ_DENIED);
    assert_int_equal(answer.code, 0);
    assert_int_equal(
        read_yaml("{status: {code: 16}, denied_response: {status: {code: 401}, body: nope}}")->code,
        401);
    assert_true(lt_str_eqz(answer.body, "nope"));
    assert_int_equal(
        read_yaml("{status: {code: 7}, error_response: {status: {code: 503}}}")->result,
        PX_AUTHZ_ERROR);
    assert_int_equal(answer.code, 503);
    /* an ok that is said beside a no is none */
    assert_int_equal(
        read_yaml("{status: {code: 7}, ok_response: {headers: [{header: {key: a, value: b}}]}}")
            ->result,
        PX_AUTHZ_DENIED);
    assert_int_equal(answer.host.count, 0);
    assert_int_equal(read_yaml("{status: {}, denied_response: {status: {code: 401}}}")->result,
                     PX_AUTHZ_OK);
    assert_int_equal(answer.code, 0);
}

static void test_no_message_is_an_error(void **state)
{
    (void)state;
    px_authz_read_grpc(arena, LT_STR("\xff\xff\xff"), &answer);
    assert_int_equal(answer.result, PX_AUTHZ_ERROR);
}

static void test_what_no_head_may_hold(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{ok_response: {headers: [{header: {key: 'a b', value: c}}]}}",
        "{ok_response: {headers: [{header: {key: '', value: c}}]}}",
        "{ok_response: {headers: [{header: {key: a, value: \"b\\r\\nc: d\"}}]}}",
        "{ok_response: {headers: [{header: {key: ':status', value: '200'}}]}}",
        "{ok_response: {response_headers_to_add: [{header: {key: \"a\\n\", value: b}}]}}",
        "{ok_response: {query_parameters_to_set: [{key: 'a b', value: c}]}}",
        "{ok_response: {query_parameters_to_set: [{key: a, value: 'b#c'}]}}",
        "{status: {code: 7}, denied_response: {headers: [{header: {key: a, value: \"b\\nc\"}}]}}",
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        if (!read_yaml(bad[i])->is_invalid)
            fail_msg("%s", bad[i]);
    }
    /* framing is nobody else's: left out */
    read_yaml(
        "{status: {code: 7}, denied_response: {headers: [{header: {key: Content-Length, value: '7'}}, {header: {key: A, value: b}}]}}");
    assert_false(answer.is_invalid);
    assert_int_equal(answer.client.count, 1);
    assert_true(lt_str_eqz(answer.client.items[0].name, "a"));
}

static void test_how_headers_are_set(void **state)
{
    (void)state;
    read_yaml(
        "{ok_response: {"
        "headers: [{header: {key: a, value: x}}, {header: {key: b, value: x}, append: true}, {header: {key: c, value: x}, append_action: 3}],"
        "response_headers_to_add: [{header: {key: a, value: x}}, {header: {key: b, value: x}, append: false},"
        "  {header: {key: c, value: x}, append_action: ADD_IF_ABSENT}, {header: {key: d, value: x}, append_action: OVERWRITE_IF_EXISTS}]}}");
    static const px_authz_how host[] = {PX_AUTHZ_SET, PX_AUTHZ_APPEND, PX_AUTHZ_SET};
    static const px_authz_how response[] = {PX_AUTHZ_ADD, PX_AUTHZ_SET, PX_AUTHZ_ADD_IF_ABSENT,
                                            PX_AUTHZ_SET_IF_THERE};
    assert_int_equal(answer.host.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(answer.host.items[i].how, host[i]);
    assert_int_equal(answer.response.count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(answer.response.items[i].how, response[i]);
}

static void test_metadata_has_limits(void **state)
{
    (void)state;
    assert_non_null(read_yaml("{dynamic_metadata: {a: {b: [1, 2]}}}")->metadata);
    struct lt_buf text;
    lt_buf_init(&text, 1 << 20);
    lt_buf_addf(&text, "{dynamic_metadata: {a: ");
    for (int i = 0; i < 40; i++)
        lt_buf_addf(&text, "[");
    for (int i = 0; i < 40; i++)
        lt_buf_addf(&text, "]");
    lt_buf_addf(&text, "}}");
    lt_buf_add(&text, lt_str_make("", 1));
    assert_null(read_yaml(lt_buf_str(&text).ptr)->metadata);
    lt_buf_fini(&text);
}

/* --- answers over HTTP --- */

static const struct px_authz_answer *read_http(const struct px_authz_conf *conf, uint32_t status)
{
    static struct lt_headers headers;
    static const struct {
        const char *name, *value;
    } sent[] = {{"X-User", "bob"},       {"x-add", "1"},
                {"x-ok", "2"},           {"x-meta", "m"},
                {"set-cookie", "a=b"},   {"location", "/x"},
                {"content-length", "5"}, {"x-envoy-auth-headers-to-remove", "cookie, x-old"}};
    lt_headers_init(&headers, arena, 0, 0);
    for (size_t i = 0; i < LT_ARRAY_LEN(sent); i++)
        assert_int_equal(
            lt_headers_add(&headers, lt_str_of(sent[i].name), lt_str_of(sent[i].value)), LT_OK);
    const struct px_fetch_result result = {
        .status = status, .headers = &headers, .body = LT_STR("body!")};
    px_authz_read_http(arena, &conf->service, &result, &answer);
    return &answer;
}

static void test_http_answers(void **state)
{
    (void)state;
    const struct px_authz_conf *conf = conf_of(
        SERVER
        ", authorization_response: {allowed_upstream_headers: {patterns: [{exact: x-user, ignore_case: true}]},"
        " allowed_upstream_headers_to_append: {patterns: [{exact: x-add}]},"
        " allowed_client_headers: {patterns: [{exact: set-cookie}]}, allowed_client_headers_on_success: {patterns: [{exact: x-ok}]},"
        " dynamic_metadata_from_headers: {patterns: [{prefix: x-meta}]}}}");
    assert_int_equal(read_http(conf, 200)->result, PX_AUTHZ_OK);
    assert_int_equal(answer.host.count, 2);
    assert_true(lt_str_eqz(answer.host.items[0].name, "x-user") &&
                answer.host.items[0].how == PX_AUTHZ_SET);
    assert_true(lt_str_eqz(answer.host.items[1].name, "x-add") &&
                answer.host.items[1].how == PX_AUTHZ_ADD);
    assert_int_equal(answer.response.count, 1);
    assert_int_equal(answer.removed_count, 2);
    assert_true(lt_str_eqz(lt_doc_string(lt_doc_findz(answer.metadata, "x-meta")), "m"));
    for (uint32_t status = 201; status < 500; status += 101) {
        assert_int_equal(read_http(conf, status)->result, PX_AUTHZ_DENIED);
        assert_int_equal(answer.code, status);
        assert_int_equal(answer.client.count, 2); /* set-cookie, and location as always */
        assert_true(lt_str_eqz(answer.body, "body!"));
    }
    assert_int_equal(read_http(conf, 500)->result, PX_AUTHZ_ERROR);
    assert_int_equal(read_http(conf, 0)->result, PX_AUTHZ_ERROR);
    /* without a list: everything but the framing */
    read_http(conf_of(SERVER "}"), 403);
    assert_int_equal(answer.client.count, 7);
}

/* --- gRPC's framing --- */

static void test_grpc_frames(void **state)
{
    (void)state;
    struct lt_headers headers, trailers;
    lt_str message, frame = px_grpc_frame(arena, LT_STR("abc"));
    assert_int_equal(frame.len, 8);
    lt_headers_init(&headers, arena, 0, 0);
    lt_headers_init(&trailers, arena, 0, 0);
    struct px_fetch_result result = {
        .status = 200, .headers = &headers, .trailers = &trailers, .body = frame};
    assert_int_not_equal(px_grpc_read(&result, &message), 0); /* no status at all */
    assert_int_equal(lt_headers_add(&trailers, LT_STR("grpc-status"), LT_STR("0")), LT_OK);
    assert_int_equal(px_grpc_read(&result, &message), 0);
    assert_true(lt_str_eqz(message, "abc"));
    for (size_t len = 0; len < frame.len; len++) {
        result.body = lt_str_slice(frame, 0, len);
        assert_int_not_equal(px_grpc_read(&result, &message), 0);
    }
    result.body = LT_STR("\1\0\0\0\3abc"); /* compressed: we did not offer that */
    assert_int_not_equal(px_grpc_read(&result, &message), 0);
    result.body = frame;
    result.status = 503;
    assert_int_equal(px_grpc_read(&result, &message), LT_GRPC_UNAVAILABLE);
    result.status = 200;
    assert_int_equal(lt_headers_set(&trailers, LT_STR("grpc-status"), LT_STR("7")), LT_OK);
    assert_int_equal(px_grpc_read(&result, &message), 7);
    assert_int_equal(lt_headers_set(&trailers, LT_STR("grpc-status"), LT_STR("99")), LT_OK);
    assert_int_not_equal(px_grpc_read(&result, &message), LT_GRPC_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bad_configuration, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mutation_rules, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_results, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_message_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_no_head_may_hold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_how_headers_are_set, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_metadata_has_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_http_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_grpc_frames, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
