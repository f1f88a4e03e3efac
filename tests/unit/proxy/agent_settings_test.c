/*
 * tests/unit/proxy/agent_settings_test.c - environment, ProxyConfig and labels into settings, node
 * and bootstrap.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proxy/agent/settings.h"
#include "wire/json.h"
#include "wire/pbjson.h"
#include "wire/proto/bootstrap.pb-c.h"

static struct lt_arena *arena;

struct world {
    const char *env[32];
    const char *files[8][2];
};

static lt_str get_env(void *ctx, const char *name)
{
    const struct world *world = ctx;
    for (size_t i = 0; world->env[i] != NULL; i++) {
        lt_str entry = lt_str_of(world->env[i]), key;
        if (lt_str_split(&entry, '=', &key) && lt_str_eqz(key, name))
            return entry;
    }
    return LT_STR_NULL;
}

static lt_rc read_file(void *ctx, struct lt_arena *into, const char *path, lt_str *ret_text)
{
    const struct world *world = ctx;
    for (size_t i = 0; world->files[i][0] != NULL; i++) {
        if (strcmp(world->files[i][0], path) == 0) {
            *ret_text = lt_arena_str(into, lt_str_of(world->files[i][1]));
            return LT_OK;
        }
    }
    return LT_E_NOT_FOUND;
}

static struct world storefront(void)
{
    return (struct world){
        .env = {"POD_NAME=storefront-v1-x", "POD_NAMESPACE=shop", "INSTANCE_IP=10.20.0.11",
                "SERVICE_ACCOUNT=storefront", "ISTIO_META_WORKLOAD_NAME=storefront-v1",
                "ISTIO_META_MESH_ID=mesh1",
                "ISTIO_METAJSON_EXTRA={\"PLATFORM_METADATA\":{\"a\":\"b\"}}",
                "PROXY_CONFIG={\"concurrency\":1,\"proxyMetadata\":{\"ISTIO_META_COLOUR\":\"blue\","
                "\"ISTIO_META_MESH_ID\":\"x\"}}"},
        .files = {{"./etc/istio/pod/labels",
                   "app=\"storefront\"\npod-template-hash=\"84df\"\nversion=\"v1\"\n"},
                  {"./etc/istio/pod/annotations",
                   "proxy.istio.io/config=\"drainDuration: 7s\\nproxyMetadata:\\n"
                   "  ISTIO_META_SHAPE: round\\n\"\n"
                   "note=\"says \\\"hi\\\"\"\n"}}};
}

static lt_rc read(const struct world *world, struct px_agent_settings *settings, struct lt_err *err)
{
    struct px_agent_sources sources = {.get_env = get_env,
                                       .all_env = world->env,
                                       .read_file = read_file,
                                       .ctx = (void *)world,
                                       .cpu_count = 4};
    return px_agent_settings_read(arena, &sources, settings, err);
}

static struct px_agent_settings settings_of(const struct world *world)
{
    struct px_agent_settings settings;
    struct lt_err err = {0};
    if (read(world, &settings, &err) != LT_OK)
        fail_msg("%s", err.text);
    return settings;
}

static void assert_str(lt_str got, const char *want)
{
    if (!lt_str_eqz(got, want))
        fail_msg("got '%.*s', want '%s'", LT_STR_ARG(got), want);
}

static lt_str meta(const struct px_agent_settings *settings, const char *key)
{
    return lt_doc_string(lt_doc_findz(&settings->metadata, key));
}

static void test_sidecar(void **state)
{
    (void)state;
    struct world world = storefront();
    struct px_agent_settings settings = settings_of(&world);
    assert_str(settings.node_id, "sidecar~10.20.0.11~storefront-v1-x.shop~shop.svc.cluster.local");
    assert_str(settings.node_cluster, "storefront.shop");
    assert_str(settings.spiffe_id, "spiffe://cluster.local/ns/shop/sa/storefront");
    assert_str(meta(&settings, "NAMESPACE"), "shop");
    assert_str(meta(&settings, "NAME"), "storefront-v1-x");
    assert_str(meta(&settings, "INSTANCE_IPS"), "10.20.0.11");
    assert_str(meta(&settings, "WORKLOAD_NAME"), "storefront-v1");
    assert_str(meta(&settings, "INTERCEPTION_MODE"), "REDIRECT");
    assert_str(meta(&settings, "MESH_ID"), "mesh1"); /* the environment wins over proxyMetadata */
    assert_str(meta(&settings, "COLOUR"), "blue");
    assert_str(meta(&settings, "SHAPE"), "round");
    assert_non_null(lt_doc_findz(lt_doc_findz(&settings.metadata, "PLATFORM_METADATA"), "a"));
    const struct lt_doc *labels = lt_doc_findz(&settings.metadata, "LABELS");
    assert_str(lt_doc_string(lt_doc_findz(labels, "version")), "v1");
    assert_null(lt_doc_findz(labels, "pod-template-hash"));
    assert_str(lt_doc_string(lt_doc_findz(lt_doc_findz(&settings.metadata, "ANNOTATIONS"), "note")),
               "says \"hi\"");
    assert_int_equal(settings.concurrency, 1);
    assert_int_equal(settings.drain_ms, 7000);
    assert_int_equal(settings.termination_drain_ms, 5000);
    assert_int_equal(settings.status_port, 15020);
    assert_str(settings.discovery_host, "istiod.istio-system.svc");
    assert_int_equal(settings.discovery_port, 15012);
    assert_str(settings.ca_host, "istiod.istio-system.svc");
    assert_str(settings.xds_root_path, "./var/run/secrets/istio/root-cert.pem");
    assert_false(settings.has_binary_path);
    assert_int_equal(settings.secret_ttl_s, 86400);
    assert_int_equal(settings.key_kind, LT_KEY_ECDSA_P256);
}

static void test_control_plane_addresses(void **state)
{
    (void)state;
    struct world world = storefront();
    world.env[7] = "PROXY_CONFIG=discovery_address: localhost:15010\nbinaryPath: /opt/envoy\n";
    world.env[8] = "CA_ADDR=[fd00::5]:15012";
    world.env[9] = "XDS_HEADER_X-Tenant=a=b";
    world.env[10] = "XDS_ROOT_CA=SYSTEM";
    world.env[11] = "SECRET_TTL=20s";
    world.env[12] = "WORKLOAD_RSA_KEY_SIZE=2048";
    struct px_agent_settings settings = settings_of(&world);
    assert_true(settings.discovery_is_plaintext);
    assert_str(settings.xds_name, "istiod.istio-system.svc");
    assert_str(settings.ca_host, "fd00::5");
    assert_false(settings.ca_is_plaintext);
    assert_int_equal(settings.xds_header_count, 1);
    assert_str(settings.xds_headers[0].name, "x-tenant");
    assert_str(settings.xds_headers[0].value, "a=b");
    assert_str(settings.xds_root_path, "/etc/ssl/certs/ca-certificates.crt");
    assert_str(settings.binary_path, "/opt/envoy");
    assert_true(settings.has_binary_path);
    assert_int_equal(settings.secret_ttl_s, 20);
    assert_int_equal(settings.key_kind, LT_KEY_RSA_2048);
}

static void refused(struct world *world, size_t at, const char *entry, const char *reason)
{
    struct px_agent_settings settings;
    struct lt_err err = {0};
    const char *before = world->env[at];
    world->env[at] = entry;
    assert_int_not_equal(read(world, &settings, &err), LT_OK);
    if (strstr(err.text, reason) == NULL)
        fail_msg("'%s' does not contain '%s'", err.text, reason);
    world->env[at] = before;
}

static void test_refusals(void **state)
{
    (void)state;
    struct world world = storefront();
    refused(&world, 0, "OTHER=1", "POD_NAME is not set");
    refused(&world, 2, "INSTANCE_IP=ten", "INSTANCE_IP=ten");
    refused(&world, 7, "PROXY_CONFIG={", "PROXY_CONFIG");
    refused(&world, 7, "PROXY_CONFIG=[]", "expected an object");
    refused(&world, 7, "PROXY_CONFIG=discoveryAddress: nowhere", "expected host:port");
    refused(&world, 7, "PROXY_CONFIG=terminationDrainDuration: long",
            "ProxyConfig.terminationDrainDuration");
    refused(&world, 7, "PROXY_CONFIG=statusPort: 70000", "ProxyConfig.statusPort");
    refused(&world, 7, "PROXY_CONFIG=concurrency: many", "ProxyConfig.concurrency");
    refused(&world, 8, "SECRET_TTL=soon", "SECRET_TTL=soon");
    refused(&world, 8, "ISTIO_DELTA_XDS=perhaps", "ISTIO_DELTA_XDS=perhaps");
    refused(&world, 8, "ISTIO_METAJSON_X=[1]", "ISTIO_METAJSON_X");
    refused(&world, 8, "SECRET_GRACE_PERIOD_RATIO=2", "from 0 to 1");
}

/* Our own schema reads it, unknown fields and all; the scenes give it to a real Envoy. */
static void test_bootstrap(void **state)
{
    (void)state;
    struct world world = storefront();
    world.env[7] =
        "PROXY_CONFIG={\"proxyStatsMatcher\":{\"inclusionRegexps\":[\".*_{pod_ip}_.*\"]}}";
    world.files[0][1] = "app=\"a\"\ntopology.istio.io/locality=\"eu.west.1\"\n";
    struct px_agent_settings settings = settings_of(&world);
    lt_str text = px_agent_bootstrap_text(arena, &settings);
    const struct lt_doc *doc = NULL;
    struct lt_err err = {0};
    Xds__Bootstrap *bootstrap = NULL;
    assert_int_equal(lt_json_parse(arena, text, NULL, &doc, &err), LT_OK);
    if (lt_pbjson_read(arena, doc, &xds__bootstrap__descriptor, NULL, &bootstrap, &err) != LT_OK)
        fail_msg("%s", err.text);
    assert_string_equal(bootstrap->node->id,
                        "sidecar~10.20.0.11~storefront-v1-x.shop~shop.svc.cluster.local");
    assert_string_equal(bootstrap->node->locality->zone, "west");
    assert_int_equal(bootstrap->static_resources->n_listeners, 2);
    assert_int_equal(bootstrap->static_resources->n_clusters, 4);
    assert_true(lt_str_find(text, LT_STR(".*_10.20.0.11_.*")) > 0);
    const char *out = getenv(
        "LATEEN_TEST_BOOTSTRAP_OUT"); /* for a look at it, or for envoy --mode validate */
    if (out != NULL) {
        FILE *file = fopen(out, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(text.ptr, 1, text.len, file), text.len);
        fclose(file);
    }
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sidecar),
        cmocka_unit_test(test_control_plane_addresses),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bootstrap),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
