/*
 * tests/unit/ctl/plan_test.c - from manifests to what should run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "ctl/plan.h"
#include "model/load.h"

static uint32_t next_ip;

static uint32_t pod_ip(const char *ns, const char *name, void *ctx)
{
    (void)ns, (void)name, (void)ctx;
    return 0x0af40100 + next_ip++;
}

static uint32_t cluster_ip(const char *ns, const char *name, lt_str wanted, void *ctx)
{
    (void)ns, (void)name, (void)ctx;
    return wanted.len > 0 ? 1 : 2;
}

static unsigned job_attempt(const char *ns, const char *name, void *ctx)
{
    (void)ns, (void)name, (void)ctx;
    return 0;
}

static bool has_program(const char *name, void *ctx)
{
    (void)ctx;
    return strcmp(name, "sleep") == 0;
}

static const char *const control_env[] = {"LATEEN_HOLD=5s", NULL};

static const struct ctl_plan_world world = {.pod_ip = pod_ip,
                                            .cluster_ip = cluster_ip,
                                            .job_attempt = job_attempt,
                                            .has_program = has_program,
                                            .state_path = "/run/lateen/x",
                                            .manifests = "/m",
                                            .jwt_rule = "{}",
                                            .control_env = control_env,
                                            .dns_ip = 0x0a60000a,
                                            .node_ip = 0x0af40001};

static struct ctl_plan *plan_of(const char *text, struct lt_manifests **ret_manifests,
                                struct lt_notes *notes)
{
    size_t count;
    const struct lt_notes *wrong;
    *ret_manifests = lt_manifests_new();
    lt_manifests_put(*ret_manifests, LT_STR("a.yaml"), lt_str_of(text));
    const struct lt_object *const *objects = lt_manifests_objects(*ret_manifests, &count, &wrong);
    assert_int_equal(wrong->errors, 0);
    lt_notes_init(notes);
    struct ctl_plan_world with_mesh = world;
    for (size_t i = 0; i < count; i++) {
        if (lt_str_eqz(objects[i]->key.name, "istio"))
            with_mesh.mesh_map = objects[i];
    }
    return ctl_plan_make(objects, count, &with_mesh, notes);
}

static const char *env(const struct ctl_container_plan *container, const char *name)
{
    size_t len = strlen(name);
    for (const char *const *at = container->env; *at != NULL; at++) {
        if (strncmp(*at, name, len) == 0 && (*at)[len] == '=')
            return *at + len + 1;
    }
    return NULL;
}

#define SHOP \
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n---\n"
#define WEB(replicas, extra) \
    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n" \
    "  replicas: " replicas "\n  selector: {matchLabels: {app: web}}\n  template:\n" \
    "    metadata: {labels: {app: web, version: v2}}\n    spec:\n      serviceAccountName: seller\n      containers:\n" \
    "      - {name: main, image: i, command: [sleep, $(NUM)], env: [{name: NUM, value: '5'}, {name: M, value: $(NUM)$$(NUM)$(X)}]," \
    " ports: [{name: http, containerPort: 8080}]" extra "}\n---\n"

static void a_sidecar_and_its_application(void **state)
{
    (void)state;
    struct lt_manifests *manifests;
    struct lt_notes notes;
    struct ctl_plan *plan = plan_of(SHOP WEB("2", ""), &manifests, &notes);
    assert_int_equal(plan->pod_count, 3);
    assert_true(plan->pods[0]->is_control);
    const struct ctl_pod_plan *pod = plan->pods[1];
    assert_true(pod->has_proxy && !pod->is_gateway && pod->capture != NULL);
    assert_memory_equal(pod->name, "web-", 4);
    assert_string_equal(pod->service_account, "seller");
    assert_string_not_equal(pod->name, plan->pods[2]->name);
    assert_int_equal(pod->hash, plan->pods[2]->hash);
    assert_true(
        lt_str_eqz(lt_kvs_find(&pod->labels, LT_STR("security.istio.io/tlsMode")), "istio"));
    assert_true(
        lt_str_eqz(lt_kvs_find(&pod->labels, LT_STR("service.istio.io/canonical-revision")), "v2"));
    assert_int_equal(pod->container_count, 2);
    const struct ctl_container_plan *proxy = &pod->containers[0], *app = &pod->containers[1];
    assert_int_equal(proxy->role, CTL_ROLE_PROXY);
    assert_int_equal(proxy->uid, 1337);
    assert_string_equal(env(proxy, "ISTIO_META_WORKLOAD_NAME"), "web");
    assert_string_equal(env(proxy, "ISTIO_META_OWNER"),
                        "kubernetes://apis/apps/v1/namespaces/shop/deployments/web");
    assert_string_equal(env(proxy, "ISTIO_META_POD_PORTS"),
                        "[{\"name\":\"http\",\"containerPort\":8080,\"protocol\":\"TCP\"}]");
    assert_string_equal(env(proxy, "POD_NAME"), pod->name);
    assert_string_equal(app->argv[1], "5");
    assert_string_equal(env(app, "M"), "5$(NUM)$(X)");
    assert_false(app->is_standin);
    assert_int_equal(app->ready_port, 8080);
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
}

static void lateend_has_what_up_was_given(void **state)
{
    (void)state;
    struct lt_manifests *manifests;
    struct lt_notes notes;
    struct ctl_plan *plan = plan_of(SHOP WEB("1", ""), &manifests, &notes);
    assert_string_equal(env(&plan->pods[0]->containers[0], "LATEEN_HOLD"), "5s");
    assert_string_equal(env(&plan->pods[0]->containers[0], "JWT_RULE"), "{}");
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
}

static const char *name_of_first(const char *text, char out[128])
{
    struct lt_manifests *manifests;
    struct lt_notes notes;
    struct ctl_plan *plan = plan_of(text, &manifests, &notes);
    snprintf(out, 128, "%s", plan->pods[1]->name);
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
    return out;
}

static void names_change_with_the_template_only(void **state)
{
    (void)state;
    char a[128], b[128];
    assert_string_equal(name_of_first(SHOP WEB("1", ""), a), name_of_first(SHOP WEB("3", ""), b));
    assert_string_not_equal(a, name_of_first(SHOP WEB("1", ", args: [x]"), b));
    assert_string_not_equal(a, name_of_first(WEB("1", ""), b)); /* without a sidecar now */
}

/* As the injector's template does: proxyMetadata is environment, the Pod's own before the mesh's. */
static void proxies_have_the_environment_they_are_given(void **state)
{
    (void)state;
    struct lt_manifests *manifests;
    struct lt_notes notes;
    struct ctl_plan *plan = plan_of(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
        "data: {mesh: 'defaultConfig: {proxyMetadata: {A: mesh, B: mesh}}'}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {sidecar.istio.io/inject: 'true'}, annotations: "
        "{proxy.istio.io/config: '{proxyMetadata: {B: pod, C: pod}}'}}\nspec: {containers: [{name: c, image: i}]}\n",
        &manifests, &notes);
    const struct ctl_container_plan *proxy = &plan->pods[1]->containers[0];
    assert_string_equal(env(proxy, "A"), "mesh");
    assert_string_equal(env(proxy, "B"), "pod");
    assert_string_equal(env(proxy, "C"), "pod");
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
}

/* The mesh's word, and the Pod's own before it; not for gateways. */
static void who_asks_for_it_has_its_names_captured(void **state)
{
    (void)state;
    static const struct {
        const char *mesh, *annotations;
        bool is_captured;
    } cases[] = {
        {"{}", "{}", false},
        {"{ISTIO_META_DNS_CAPTURE: 'true'}", "{}", true},
        {"{ISTIO_META_DNS_CAPTURE: 'true'}",
         "{proxy.istio.io/config: '{proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"0\"}}'}", false},
        {"{}", "{proxy.istio.io/config: '{proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"True\"}}'}",
         true},
        {"{ISTIO_META_DNS_CAPTURE: 'true'}", "{sidecar.istio.io/interceptionMode: NONE}", false},
        {"{ISTIO_META_DNS_CAPTURE: 'true'}", "{inject.istio.io/templates: gateway}", false},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        char text[1024];
        struct lt_manifests *manifests;
        struct lt_notes notes;
        snprintf(
            text, sizeof(text),
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
            "data: {mesh: \"defaultConfig: {proxyMetadata: %s}\"}\n---\n"
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {sidecar.istio.io/inject: 'true'}, "
            "annotations: %s}\nspec: {containers: [{name: istio-proxy, image: auto}]}\n",
            cases[i].mesh, cases[i].annotations);
        struct ctl_plan *plan = plan_of(text, &manifests, &notes);
        const char *capture = plan->pods[1]->capture;
        bool is_captured = capture != NULL &&
                           strstr(capture, "10.96.0.10/32 udp dport 53 counter redirect") != NULL;
        assert_int_equal(is_captured, cases[i].is_captured);
        ctl_plan_free(&plan);
        lt_notes_fini(&notes);
        lt_manifests_free(&manifests);
    }
}

/* Neither true nor false: the agent would not start, so it is said at once. */
static void what_is_no_truth_value_is_refused(void **state)
{
    (void)state;
    struct lt_manifests *manifests;
    struct lt_notes notes;
    char line[1024];
    struct ctl_plan *plan = plan_of(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {sidecar.istio.io/inject: 'true'}, annotations: "
        "{proxy.istio.io/config: '{proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"on\"}}'}}\n"
        "spec: {containers: [{name: c, image: i}]}\n",
        &manifests, &notes);
    assert_int_equal(plan->pod_count, 1);
    lt_note_format(lt_notes_at(&notes, 0), line, sizeof(line));
    assert_non_null(strstr(line, "ISTIO_META_DNS_CAPTURE: \"on\" is neither true nor false"));
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
}

static void stand_ins_and_gateways(void **state)
{
    (void)state;
    struct lt_manifests *manifests;
    struct lt_notes notes;
    struct ctl_plan *plan = plan_of(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {inject.istio.io/templates: gateway}}\n"
        "spec: {containers: [{name: istio-proxy, image: auto}]}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: q}\nspec: {containers: [{name: c, image: i, command: [typo], "
        "ports: [{containerPort: 81}, {containerPort: 82, protocol: UDP}]}]}\n",
        &manifests, &notes);
    assert_int_equal(plan->pod_count, 3);
    const struct ctl_pod_plan *gateway = plan->pods[1], *pod = plan->pods[2];
    assert_true(gateway->is_gateway && gateway->capture == NULL);
    assert_int_equal(gateway->container_count, 1);
    assert_string_equal(gateway->containers[0].argv[2], "router");
    assert_string_equal(pod->name, "q");
    assert_true(pod->containers[0].is_standin);
    assert_string_equal(pod->containers[0].wanted, "typo");
    assert_string_equal(pod->containers[0].argv[1], "standin");
    assert_string_equal(pod->containers[0].argv[2], "--port=81");
    assert_null(pod->containers[0].argv[3]);
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
}

static void what_will_not_be_so_is_told_once(void **state)
{
    static const char text[] =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: colours, namespace: shop}\ndata: {sky: blue}\n---\n"
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n"
        "spec: {replicas: 3, selector: {}, template: {spec: {initContainers: [{name: i, command: [/bin/none]}], containers: ["
        "{name: c, command: [sleep], volumeMounts: [], readinessProbe: {}, resources: {}, env: ["
        "{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}},"
        "{name: B, valueFrom: {configMapKeyRef: {name: colours, key: sky}}},"
        "{name: C, valueFrom: {configMapKeyRef: {name: colours, key: sea}}},"
        "{name: D, valueFrom: {configMapKeyRef: {name: colours, key: sea, optional: true}}}]},"
        "{name: d, image: none}]}}}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {inject.istio.io/templates: gateway}}\n"
        "spec: {containers: [{name: istio-proxy, image: auto, readinessProbe: {}}]}\n";
    static const char *const wanted[] = {
        "a.yaml:6: info: Deployment shop/web: container i: /bin/none is no program of this machine: a stand-in answers instead",
        "a.yaml:6: info: Deployment shop/web: container c: not acted on yet: readinessProbe",
        "a.yaml:6: warning: Deployment shop/web: container c: env A is not set: secretKeyRef is not acted on yet",
        "a.yaml:6: warning: Deployment shop/web: container c: env C is not set: there is no ConfigMap colours with a key sea",
    };
    (void)state;
    struct lt_manifests *manifests;
    struct lt_notes notes;
    struct ctl_plan *plan = plan_of(text, &manifests, &notes);
    assert_int_equal(plan->pod_count, 5);
    assert_int_equal(notes.vec.count, LT_ARRAY_LEN(wanted));
    for (size_t i = 0; i < LT_ARRAY_LEN(wanted); i++) {
        char line[2048];
        assert_string_equal(lt_note_format(lt_notes_at(&notes, i), line, sizeof(line)), wanted[i]);
    }
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
}

static void services(void **state)
{
    (void)state;
    struct lt_manifests *manifests;
    struct lt_notes notes;
    struct ctl_plan *plan = plan_of(
        WEB("1",
            "") "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}\n---\n"
                "apiVersion: v1\nkind: Service\nmetadata: {name: all, namespace: shop}\nspec: {clusterIP: None, ports: [{port: 80, targetPort: nope}]}\n---\n"
                "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: other}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n",
        &manifests, &notes);
    assert_int_equal(plan->service_count, 4);
    assert_string_equal(plan->services[0].name, "istiod");
    for (size_t i = 1; i < 4; i++) {
        const struct ctl_service_plan *service = &plan->services[i];
        bool is_web = strcmp(service->name, "web") == 0, is_shop = strcmp(service->ns, "shop") == 0;
        assert_int_equal(ctl_plan_selects(service, plan->pods[1]), is_web && is_shop);
        assert_int_equal(service->ip == 0, !is_web);
        assert_int_equal(ctl_plan_target_port(&service->spec->ports.items[0], plan->pods[1]),
                         !is_web   ? 0
                         : is_shop ? 8080
                                   : 80);
    }
    ctl_plan_free(&plan);
    lt_notes_fini(&notes);
    lt_manifests_free(&manifests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sidecar_and_its_application),
        cmocka_unit_test(lateend_has_what_up_was_given),
        cmocka_unit_test(names_change_with_the_template_only),
        cmocka_unit_test(proxies_have_the_environment_they_are_given),
        cmocka_unit_test(who_asks_for_it_has_its_names_captured),
        cmocka_unit_test(what_is_no_truth_value_is_refused),
        cmocka_unit_test(stand_ins_and_gateways),
        cmocka_unit_test(what_will_not_be_so_is_told_once),
        cmocka_unit_test(services)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
