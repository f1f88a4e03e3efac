/*
 * node_test.c - what is taken from a proxy's word about itself, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "control/node.h"
#include "wire/json.h"
#include "wire/pbjson.h"

static struct lt_arena *arena;

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_arena_free(&arena);
    return 0;
}

static lt_rc read(const char *json, struct cp_node *node, struct lt_err *err)
{
    const struct lt_doc *doc = NULL;
    void *message = NULL;
    assert_int_equal(lt_json_parse(arena, lt_str_of(json), NULL, &doc, err), LT_OK);
    assert_int_equal(lt_pbjson_read(arena, doc, &xds__node__descriptor, NULL, &message, err),
                     LT_OK);
    return cp_node_read(arena, message, node, err);
}

static void a_whole_node_is_read(void **state)
{
    struct cp_node node;
    struct lt_err err = {0};
    (void)state;
    assert_int_equal(
        read(
            "{\"id\": \"sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local\","
            " \"locality\": {\"region\": \"r\", \"zone\": \"z\", \"sub_zone\": \"s\"},"
            " \"metadata\": {\"NAMESPACE\": \"shop\", \"NAME\": \"web-1\", \"CLUSTER_ID\": \"north\","
            "  \"MESH_ID\": \"m\", \"ISTIO_VERSION\": \"1.31\", \"SERVICE_ACCOUNT\": \"seller\","
            "  \"WORKLOAD_NAME\": \"web\", \"NETWORK\": \"n\", \"INTERCEPTION_MODE\": \"TPROXY\","
            "  \"INSTANCE_IPS\": \"10.1.0.2,fe80::1\","
            "  \"LABELS\": {\"version\": \"v2\", \"app\": \"web-app\", \"n\": 7},"
            "  \"POD_PORTS\": \"[{\\\"name\\\":\\\"http\\\",\\\"containerPort\\\":8080},"
            "   {\\\"containerPort\\\":0},{\\\"containerPort\\\":70000},{\\\"containerPort\\\":9}]\"},"
            " \"extensions\": [{\"name\": \"a\", \"type_urls\": [\"stats.PluginConfig\"]},"
            "  {\"name\": \"b\", \"type_urls\": [\"x.Y\", \"io.istio.http.peer_metadata.Config\"]}]}",
            &node, &err),
        LT_OK);
    assert_int_equal(node.type, CP_NODE_SIDECAR);
    assert_int_equal(node.capture, CP_CAPTURE_TPROXY);
    assert_int_equal(node.extensions, CP_EXT_STATS | CP_EXT_MX_HTTP);
    const struct {
        lt_str got;
        const char *wanted;
    } texts[] = {{node.id, "sidecar~10.1.0.1~web-1.shop~shop.svc.cluster.local"},
                 {node.ip, "10.1.0.2"},
                 {node.name, "web-1"},
                 {node.ns, "shop"},
                 {node.domain, "shop.svc.cluster.local"},
                 {node.cluster_id, "north"},
                 {node.mesh_id, "m"},
                 {node.istio_version, "1.31"},
                 {node.service_account, "seller"},
                 {node.workload_name, "web"},
                 {node.network, "n"},
                 {node.canonical_name, "web-app"},
                 {node.canonical_revision, "v2"},
                 {node.locality.region, "r"},
                 {node.locality.zone, "z"},
                 {node.locality.subzone, "s"}};
    for (size_t i = 0; i < LT_ARRAY_LEN(texts); i++)
        assert_true(lt_str_eqz(texts[i].got, texts[i].wanted));
    /* what is no label and no port is passed over */
    assert_int_equal(node.labels.count, 2);
    assert_int_equal(node.port_count, 2);
    assert_int_equal(node.ports[0].number, 8080);
    assert_true(lt_str_eqz(node.ports[0].name, "http"));
    assert_int_equal(node.ports[1].number, 9);
}

/* An Envoy with nothing but an id, and nothing said of what it knows: it is taken for Istio's own. */
static void an_id_is_enough(void **state)
{
    struct cp_node node;
    struct lt_err err = {0};
    (void)state;
    assert_int_equal(read("{\"id\": \"router~fd00::7~edge-1.istio-system~x\"}", &node, &err),
                     LT_OK);
    assert_int_equal(node.type, CP_NODE_ROUTER);
    assert_int_equal(node.capture, CP_CAPTURE_REDIRECT);
    assert_int_equal(node.extensions, CP_EXT_ALL);
    assert_true(lt_str_eqz(node.ip, "fd00::7") && lt_str_eqz(node.ns, "istio-system"));
    assert_true(lt_str_eqz(node.cluster_id, "Kubernetes"));
    assert_true(lt_str_eqz(node.canonical_name, "edge-1"));
    assert_true(lt_str_eqz(node.canonical_revision, "latest"));
    assert_int_equal(node.labels.count + node.port_count, 0);
}

static void what_is_no_proxy_of_a_mesh_is_refused_by_name(void **state)
{
    static const struct {
        const char *json;
        lt_rc rc;
        const char *text;
    } bad[] = {
        {"{}", LT_E_BAD, "missing node information"},
        {"{\"id\": \"\"}", LT_E_BAD, "missing node information"},
        {"{\"id\": \"envoy\"}", LT_E_BAD, "missing parts in the service node \"envoy\""},
        {"{\"id\": \"sidecar~1.1.1.1~web~x\"}", LT_E_BAD, "missing parts in the service node"},
        {"{\"id\": \"sidecar~1.1.1.1~.shop~x\"}", LT_E_BAD, "missing parts in the service node"},
        {"{\"id\": \"sidecar~1.1.1.1~web.shop~x~y\"}", LT_E_BAD, "missing parts in the service"},
        {"{\"id\": \"sidecar~one~web.shop~x\"}", LT_E_BAD, "no IP address in the service node"},
        {"{\"id\": \"ztunnel~1.1.1.1~web.shop~x\"}", LT_E_UNSUPPORTED, "node type \"ztunnel\" is"},
    };
    struct cp_node node;
    (void)state;
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        struct lt_err err = {0};
        assert_int_equal(read(bad[i].json, &node, &err), bad[i].rc);
        if (strstr(err.text, bad[i].text) == NULL)
            fail_msg("%s: %s", bad[i].json, err.text);
    }
}

/* Nothing of what has the wrong type is believed, and nothing of it does harm. */
static void odd_metadata_is_passed_over(void **state)
{
    static const char *const odd[] = {
        "{\"NAMESPACE\": 3, \"LABELS\": \"x\", \"POD_PORTS\": [1], \"INSTANCE_IPS\": {}}",
        "{\"NAMESPACE\": \"\", \"LABELS\": [], \"POD_PORTS\": \"{\\\"a\\\":1}\","
        " \"INSTANCE_IPS\": \"nonsense\"}",
        "{\"POD_PORTS\": \"[\", \"INSTANCE_IPS\": \",\"}",
        "{\"POD_PORTS\": \"[1,null,{},[],{\\\"containerPort\\\":\\\"x\\\"}]\"}",
    };
    (void)state;
    for (size_t i = 0; i < LT_ARRAY_LEN(odd); i++) {
        struct cp_node node;
        struct lt_err err = {0};
        const char *json = lt_arena_printf(arena,
                                           "{\"id\": \"sidecar~10.1.0.1~web-1.shop~x\","
                                           " \"metadata\": %s}",
                                           odd[i])
                               .ptr;
        assert_int_equal(read(json, &node, &err), LT_OK);
        assert_true(lt_str_eqz(node.ns, "shop") && lt_str_eqz(node.ip, "10.1.0.1"));
        assert_int_equal(node.labels.count + node.port_count, 0);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_whole_node_is_read),
        CASE(an_id_is_enough),
        CASE(what_is_no_proxy_of_a_mesh_is_refused_by_name),
        CASE(odd_metadata_is_passed_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
