/*
 * tests/unit/proxy/agent_test.c - the agent's judgements: CA answers, rotation, secrets from files,
 * Envoy's stats, probes, and its status port. With a control plane: tests/scene.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "http/client.h"
#include "proxy/agent/envoy.h"
#include "proxy/agent/identity.h"
#include "proxy/agent/secrets.h"
#include "proxy/agent/status.h"
#include "wire/pb.h"
#include "wire/proto/istio_ca.pb-c.h"
#include "wire/proto/tls.pb-c.h"

static struct lt_arena *arena;
static struct lt_env env;
static struct lt_loop *loop;

/* --- the CA's answer --- */

static lt_str answer_of(const char *const *certs, size_t count)
{
    Istio__IstioCertificateResponse answer = ISTIO__ISTIO_CERTIFICATE_RESPONSE__INIT;
    answer.n_cert_chain = count;
    answer.cert_chain = (const char **)certs;
    return lt_pb_pack(arena, &answer);
}

static lt_str issue(struct lt_key *key, lt_str *ret_root)
{
    struct lt_err err = {0};
    struct lt_signer *signer = NULL;
    struct lt_key *ca_key = lt_key_new(LT_KEY_ECDSA_P256);
    int64_t now_s = time(NULL);
    struct lt_cert_template root = {.subject_key = ca_key,
                                    .organization = LT_STR("td"),
                                    .is_ca = true,
                                    .not_before_s = now_s,
                                    .not_after_s = now_s + 1000};
    struct lt_cert_template leaf = {
        .subject_key = key, .not_before_s = now_s, .not_after_s = now_s + 500};
    lt_str leaf_pem;
    assert_int_equal(lt_cert_self_sign(&root, arena, ret_root, &err), LT_OK);
    char *pem = lt_key_private_pem(ca_key);
    assert_int_equal(lt_signer_new(*ret_root, lt_str_of(pem), &signer, &err), LT_OK);
    assert_int_equal(lt_signer_issue(signer, &leaf, arena, &leaf_pem, &err), LT_OK);
    lt_signer_free(&signer);
    lt_key_pem_free(&pem);
    lt_key_free(&ca_key);
    return leaf_pem;
}

static void test_judges_ca_answers(void **state)
{
    (void)state;
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256), *other = lt_key_new(LT_KEY_ECDSA_P256);
    struct px_identity_cert cert;
    struct lt_err err = {0};
    lt_str root;
    lt_str leaf = issue(key, &root);
    const char *good[] = {leaf.ptr, root.ptr}, *bad[] = {leaf.ptr, "nothing"};
    assert_int_equal(px_identity_judge(arena, answer_of(good, 2), key, &cert, &err), LT_OK);
    assert_true(lt_str_eq(cert.chain_pem, leaf));
    assert_true(lt_str_eq(cert.root_pem, root));
    assert_int_equal(px_identity_judge(arena, answer_of(good, 1), key, &cert, &err), LT_E_BAD);
    assert_int_equal(px_identity_judge(arena, answer_of(bad, 2), key, &cert, &err), LT_E_BAD);
    assert_int_equal(px_identity_judge(arena, answer_of(good, 2), other, &cert, &err), LT_E_BAD);
    assert_non_null(strstr(err.text, "another key"));
    assert_int_equal(px_identity_judge(arena, LT_STR("\xff\xff"), key, &cert, &err), LT_E_BAD);
    lt_key_free(&key);
    lt_key_free(&other);
}

static void test_rotation(void **state)
{
    (void)state;
    assert_int_equal(px_identity_rotation_ms(1000, 1000 + 86400, 0.5, 0.01, 0), 43200 * 1000);
    assert_int_equal(px_identity_rotation_ms(1000, 1020, 0.5, 0.01, 1), 9800);
    assert_int_equal(px_identity_rotation_ms(1000, 1020, 0.5, 0.01, -1), 10200);
    assert_int_equal(px_identity_rotation_ms(1000, 900, 0.5, 0.01, 0),
                     1000); /* came dead: no mad loop */
    assert_int_equal(px_identity_rotation_ms(1000, 1020, 1, 0.01, 1), 1000);
}

/* --- secrets --- */

struct seen {
    unsigned changes;
    char name[128];
    char version[32];
};

static void on_change(void *ctx, const struct px_secret_view *secret)
{
    struct seen *seen = ctx;
    seen->changes++;
    (void)snprintf(seen->name, sizeof(seen->name), "%.*s", LT_STR_ARG(secret->name));
    (void)snprintf(seen->version, sizeof(seen->version), "%.*s", LT_STR_ARG(secret->version));
}

static void wait_for_change(const struct seen *seen, unsigned changes)
{
    for (int i = 0; i < 100 && seen->changes < changes; i++)
        lt_loop_turn(loop, 100);
    assert_int_equal(seen->changes, changes);
}

static void test_secrets(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct px_secrets *secrets = px_secrets_new(loop, on_change, &seen);
    struct px_secret_view view;
    assert_false(px_secrets_find(secrets, LT_STR("default"), &view));
    px_secrets_put_cert(secrets, LT_STR("default"), LT_STR("chain"), LT_STR("key"));
    px_secrets_put_cert(secrets, LT_STR("default"), LT_STR("chain"),
                        LT_STR("key")); /* nothing new */
    assert_int_equal(seen.changes, 1);
    px_secrets_put_root(secrets, LT_STR("ROOTCA"), LT_STR("root"), LT_STR("crl"));
    assert_int_equal(seen.changes, 2);
    assert_true(px_secrets_find(secrets, LT_STR("default"), &view));
    Xds__Secret *secret = NULL;
    struct lt_err err;
    assert_int_equal(lt_pb_unpack(arena, &xds__secret__descriptor, view.bytes, NULL, &secret, &err),
                     LT_OK);
    assert_string_equal(secret->name, "default");
    assert_memory_equal(secret->tls_certificate->private_key->inline_bytes.data, "key", 3);
    assert_int_equal(px_secrets_want(secrets, LT_STR("default")), LT_OK);
    assert_int_equal(px_secrets_want(secrets, LT_STR("kubernetes://x")), LT_E_NOT_FOUND);
    assert_int_equal(px_secrets_want(secrets, LT_STR("file-cert:only-one")), LT_E_BAD);
    assert_int_equal(px_secrets_want(secrets, LT_STR("file-root:")), LT_E_BAD);
    px_secrets_free(&secrets);
}

static void test_file_secrets_follow_their_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/lateen-agent-XXXXXX";
    assert_non_null(mkdtemp(dir));
    const char *root = lt_arena_printf(arena, "%s/sub/root.pem", dir).ptr;
    struct seen seen = {0};
    struct lt_err err;
    struct px_secrets *secrets = px_secrets_new(loop, on_change, &seen);
    lt_str name = lt_arena_printf(arena, "file-root:%s", root);
    assert_int_equal(px_secrets_want(secrets, name), LT_OK);
    lt_loop_turn(loop, 10);
    assert_int_equal(seen.changes, 0); /* not there yet */
    assert_int_equal(lt_file_write(root, LT_STR("one"), 0600, &err), LT_OK);
    wait_for_change(&seen, 1);
    assert_true(lt_str_eqz(name, seen.name));
    assert_int_equal(lt_file_write(root, LT_STR("two"), 0600, &err), LT_OK);
    wait_for_change(&seen, 2);
    px_secrets_free(&secrets);
    unlink(root);
    rmdir(lt_arena_printf(arena, "%s/sub", dir).ptr);
    rmdir(dir);
}

/* --- Envoy's stats --- */

static void test_envoy_stats(void **state)
{
    (void)state;
    const char *why = NULL;
    lt_str good = LT_STR(
        "cluster_manager.cds.update_success: 3\nlistener_manager.lds.update_success: 1\n"
        "listener_manager.workers_started: 1\nserver.state: 0\n");
    assert_true(px_envoy_stats_are_ready(good, &why));
    assert_false(px_envoy_stats_are_ready(LT_STR("server.state: 0\n"), &why));
    assert_string_equal(why, "no clusters (CDS) received yet");
    assert_false(px_envoy_stats_are_ready(
        LT_STR("cluster_manager.cds.update_success: 3\n"
               "listener_manager.lds.update_success: 1\nserver.state: 2\n"),
        &why));
    assert_string_equal(why, "envoy is not live");
    struct px_agent_settings settings = {
        .admin_port = 15000, .health_port = 15021, .prometheus_port = 15090};
    lt_str active = LT_STR(
        "listener.0.0.0.0_15006.downstream_cx_active: 2\n"
        "listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2\n"
        "listener.0.0.0.0_15021.downstream_cx_active: 5\nlistener.admin.downstream_cx_active: 1\n"
        "listener.[__]_8080.downstream_cx_active: 1\nhttp.x.downstream_cx_active: 9\n");
    assert_int_equal(px_envoy_active_connections(active, &settings), 3);
    assert_int_equal(px_envoy_active_connections(LT_STR(""), &settings), 0);
}

/* --- the status port --- */

struct asked {
    unsigned quits, drains;
    unsigned status;
    char body[256];
    bool is_done;
};

static void on_ready(void *ctx, struct lt_exchange *exchange)
{
    (void)ctx;
    lt_exchange_reply(exchange, 200, NULL, LT_STR_NULL);
}

static void on_quit(void *ctx)
{
    ((struct asked *)ctx)->quits++;
}

static void on_drain(void *ctx)
{
    ((struct asked *)ctx)->drains++;
}

static void on_answer(struct lt_call *call, const struct lt_call_result *result, void *ctx)
{
    struct asked *asked = ctx;
    (void)call;
    asked->status = result->rc == LT_OK ? result->status : 0;
    (void)snprintf(asked->body, sizeof(asked->body), "%.*s", LT_STR_ARG(result->body));
    asked->is_done = true;
}

static unsigned ask(struct asked *asked, uint16_t port, const char *method, const char *target)
{
    struct lt_call_opts opts = {.method = lt_str_of(method), .target = lt_str_of(target)};
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), port, &opts.addr), LT_OK);
    asked->is_done = false;
    (void)lt_call_start(loop, &opts, on_answer, asked);
    for (int i = 0; i < 100 && !asked->is_done; i++)
        lt_loop_turn(loop, 100);
    assert_true(asked->is_done);
    lt_loop_turn(loop, 0);
    return asked->status;
}

static void test_status_port(void **state)
{
    (void)state;
    static const struct px_status_hooks hooks = {
        .on_ready = on_ready, .on_stats = on_ready, .on_quit = on_quit, .on_drain = on_drain};
    struct asked asked = {0};
    struct px_probes *probes = NULL;
    struct px_status *status = NULL;
    struct lt_err err = {0};
    lt_str json = LT_STR("{\"/app-health/a/readyz\":{\"tcpSocket\":{\"port\":1}},"
                         "\"/app-health/a/livez\":{\"httpGet\":{\"path\":\"x\",\"port\":1}}}");
    assert_int_equal(px_probes_new(loop, json, LT_STR("127.0.0.1"), 15020, &probes, &err), LT_OK);
    struct px_status_opts opts = {.loop = loop, .hooks = &hooks, .ctx = &asked, .probes = probes};
    assert_int_equal(px_status_new(&opts, &status, &err), LT_OK);
    uint16_t port = px_status_port(status);
    assert_int_equal(ask(&asked, port, "HEAD", "/healthz/ready"), 200);
    assert_int_equal(ask(&asked, port, "GET", "/quitquitquit"), 405);
    assert_int_equal(ask(&asked, port, "PUT", "/drain"), 405);
    assert_int_equal(asked.quits + asked.drains, 0);
    assert_int_equal(ask(&asked, port, "POST", "/quitquitquit"), 200);
    assert_string_equal(asked.body, "OK");
    assert_int_equal(asked.quits, 1);
    assert_int_equal(ask(&asked, port, "POST", "/drain"), 200);
    assert_int_equal(asked.drains, 1);
    assert_int_equal(ask(&asked, port, "GET", "/nowhere"), 404);
    assert_int_equal(ask(&asked, port, "GET", "/app-health/b/livez"), 400);
    assert_string_equal(asked.body, "app prober config does not exists for /app-health/b/livez");
    assert_int_equal(ask(&asked, port, "GET", "/app-health/a/readyz"), 500);
    assert_int_equal(ask(&asked, port, "GET", "/app-health/a/livez"), 500);
    px_probes_free(&probes);
    px_status_free(&status);
}

/* A status port stands in for the application: the relay must find its way there and back. */
static void test_probe_relay(void **state)
{
    (void)state;
    static const struct px_status_hooks hooks = {
        .on_ready = on_ready, .on_stats = on_ready, .on_quit = on_quit, .on_drain = on_drain};
    struct asked asked = {0};
    struct px_probes *none = NULL, *probes = NULL;
    struct px_status *app = NULL, *status = NULL;
    struct lt_err err = {0};
    assert_int_equal(px_probes_new(loop, LT_STR_NULL, LT_STR("127.0.0.1"), 0, &none, &err), LT_OK);
    struct px_status_opts opts = {.loop = loop, .hooks = &hooks, .ctx = &asked, .probes = none};
    assert_int_equal(px_status_new(&opts, &app, &err), LT_OK);
    lt_str json = lt_arena_printf(
        arena,
        "{\"/app-health/a/livez\":{\"httpGet\":{\"path\":\"/healthz/ready\",\"port\":%u}},"
        "\"/app-health/a/startupz\":{\"httpGet\":{\"path\":\"/nowhere\",\"port\":%u}},"
        "\"/app-health/a/readyz\":{\"tcpSocket\":{\"port\":%u}}}",
        px_status_port(app), px_status_port(app), px_status_port(app));
    assert_int_equal(px_probes_new(loop, json, LT_STR("127.0.0.1"), 15020, &probes, &err), LT_OK);
    opts.probes = probes;
    assert_int_equal(px_status_new(&opts, &status, &err), LT_OK);
    assert_int_equal(ask(&asked, px_status_port(status), "GET", "/app-health/a/livez"), 200);
    assert_int_equal(ask(&asked, px_status_port(status), "GET", "/app-health/a/startupz"), 404);
    assert_int_equal(ask(&asked, px_status_port(status), "GET", "/app-health/a/readyz"), 200);
    px_probes_free(&probes);
    px_probes_free(&none);
    px_status_free(&status);
    px_status_free(&app);
}

static void test_bad_probes(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[]",
        "{\"/x\":{\"tcpSocket\":{\"port\":1}}}",
        "{\"/app-health/a/livez\":{}}",
        "{\"/app-health/a/livez\":{\"tcpSocket\":{\"port\":\"http\"}}}",
        "{\"/app-health/a/livez\":{\"tcpSocket\":{\"port\":1},\"grpc\":{\"port\":1}}}",
        "{\"/app-health/a/b/livez\":{\"tcpSocket\":{\"port\":1}}}",
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        struct px_probes *probes = NULL;
        struct lt_err err = {0};
        assert_int_equal(
            px_probes_new(loop, lt_str_of(bad[i]), LT_STR("127.0.0.1"), 15020, &probes, &err),
            LT_E_BAD);
        assert_non_null(strstr(err.text, "ISTIO_KUBE_APP_PROBERS"));
    }
}

static int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    lt_env_init(&env, "agent_test");
    env.log.level = LT_LOG_OFF;
    loop = lt_loop_new(&env);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_loop_free(&loop);
    lt_arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judges_ca_answers),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_file_secrets_follow_their_files),
        cmocka_unit_test(test_envoy_stats),
        cmocka_unit_test(test_status_port),
        cmocka_unit_test(test_probe_relay),
        cmocka_unit_test(test_bad_probes),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
