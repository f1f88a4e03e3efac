/*
 * model_test.c - who applies to whom: endpoints, DestinationRules merged and found,
 * PeerAuthentication resolved, names of things.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/load.h"
#include "model/model.h"

static struct lt_model *build(const char *text)
{
    struct lt_manifests *manifests = lt_manifests_new();
    lt_manifests_put(manifests, LT_STR("a.yaml"), lt_str_of(text));
    size_t count = 0;
    const struct lt_notes *notes = NULL;
    const struct lt_object *const *objects = lt_manifests_objects(manifests, &count, &notes);
    char line[2048];
    if (notes->errors > 0)
        fail_msg("%s", lt_note_format(lt_notes_at(notes, 0), line, sizeof(line)));
    struct lt_model *model = lt_model_build(
        &(struct lt_model_input){.objects = objects, .count = count}, NULL);
    lt_manifests_free(&manifests); /* the model has counts of its own */
    return model;
}

#define SERVICE "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"
#define DR(name, ns, rest) \
    "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: " name \
    ", namespace: " ns "}\nspec: " rest "\n"
#define PA(name, ns, rest) \
    "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " name \
    ", namespace: " ns "}\nspec: " rest "\n"

static void endpoints_come_from_slices_by_port_name(void **state)
{
    (void)state;
    struct lt_model *m = build(
        SERVICE
        "spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80, targetPort: web}, {name: grpc, port: 90}]}\n"
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {a: b}}\n"
        "spec: {containers: [{name: c}]}\nstatus: {podIP: 10.1.0.1}\n"
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:\n"
        "- {addresses: [10.1.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: p}}\n"
        "- {addresses: [10.1.0.2], conditions: {ready: false, terminating: false}}\n"
        "- {addresses: [10.1.0.3], conditions: {ready: false}}\n"
        "- {addresses: [10.1.0.4], targetRef: {kind: Pod, name: not-seen-yet}}\n");
    const struct lt_service *s = lt_model_find_service(m, LT_STR("web.shop.svc.cluster.local"));
    assert_int_equal(s->ports[0].endpoint_count, 2);
    assert_int_equal(s->ports[0].endpoints[0].port, 8080);
    assert_true(lt_str_eqz(s->ports[0].endpoints[0].workload->name, "p"));
    assert_false(s->ports[0].endpoints[1].is_ready);
    assert_int_equal(s->ports[1].endpoint_count, 0);
    assert_int_equal(s->ports[1].protocol, LT_PORT_GRPC);
    assert_int_equal(s->identities.count, 1);
    assert_true(lt_str_eqz(s->identities.items[0], "spiffe://cluster.local/ns/shop/sa/default"));
    lt_model_unref(&m);
}

#define POD(name, labels, ip) \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name ", namespace: shop, labels: " labels \
    "}\nspec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}\n" \
    "status: {podIP: " ip "}\n"

static void a_service_without_slices_has_the_pods_of_its_whole_selector(void **state)
{
    (void)state;
    struct lt_model *m = build(
        SERVICE
        "spec: {selector: {app: web, tier: front}, ports: [{port: 80, targetPort: web}]}\n" POD(
            "a", "{app: web, tier: front}", "10.1.0.9") POD("b", "{app: web}", "10.1.0.2")
            POD("c", "{app: db, tier: front}", "10.1.0.3") POD(
                "d", "{app: web, tier: front, x: z}",
                "10.1.0.1") "---\napiVersion: v1\nkind: Pod\nmetadata: {name: e, namespace: other, labels: {app: web, tier: front}}\n"
                            "spec: {containers: [{name: c}]}\nstatus: {podIP: 10.1.0.5}\n");
    const struct lt_service *s = lt_model_find_service(m, LT_STR("web.shop.svc.cluster.local"));
    assert_int_equal(s->ports[0].endpoint_count, 2);
    assert_true(lt_str_eqz(s->ports[0].endpoints[0].workload->name, "d"));
    assert_true(lt_str_eqz(s->ports[0].endpoints[1].workload->name, "a"));
    assert_int_equal(s->ports[0].endpoints[1].port, 8080);
    lt_model_unref(&m);
}

static void an_address_counts_once_and_finds_its_pod_without_a_reference(void **state)
{
    (void)state;
    struct lt_model *m = build(SERVICE "spec: {ports: [{port: 80}]}\n" POD("a", "{}", "10.1.0.1") POD(
        "b", "{}",
        "10.1.0.2") "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s1, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"
                    "addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.0.2]}, {addresses: [10.1.0.7]}]\n"
                    "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s2, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"
                    "addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.1.0.2], conditions: {ready: false, terminating: false}}]\n");
    const struct lt_service *s = lt_model_find_service(m, LT_STR("web.shop.svc.cluster.local"));
    assert_int_equal(s->ports[0].endpoint_count, 2);
    assert_true(s->ports[0].endpoints[0].is_ready); /* as the first slice says */
    assert_true(lt_str_eqz(s->ports[0].endpoints[0].workload->name, "b"));
    assert_null(s->ports[0].endpoints[1].workload);
    lt_model_unref(&m);
}

static void workloads_know_their_owner_and_place(void **state)
{
    (void)state;
    struct lt_model *m = build(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}\n"
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: web-5d9f-abc\n  namespace: shop\n  labels: {pod-template-hash: 5d9f, app: web, version: v3}\n"
        "  ownerReferences: [{kind: ReplicaSet, name: web-5d9f, controller: true}]\n"
        "spec: {nodeName: n1, serviceAccountName: sa, containers: [{name: c}]}\nstatus: {podIP: 10.1.0.1}\n"
        "---\napiVersion: v1\nkind: Pod\nmetadata: {name: gone, namespace: shop}\nspec: {containers: [{name: c}]}\n"
        "status: {podIP: 10.1.0.2, phase: Succeeded}\n");
    assert_int_equal(m->workload_count, 1);
    const struct lt_workload *w = lt_model_find_workload(m, LT_STR("shop"), LT_STR("web-5d9f-abc"));
    assert_true(lt_str_eqz(w->owner_name, "web"));
    assert_true(lt_str_eqz(w->canonical_name, "web"));
    assert_true(lt_str_eqz(w->canonical_revision, "v3"));
    assert_true(lt_str_eqz(w->locality.zone, "z"));
    assert_true(lt_str_eqz(w->identity, "spiffe://cluster.local/ns/shop/sa/sa"));
    assert_false(w->is_ready);
    lt_model_unref(&m);
}

static const char *rule_for(const struct lt_model *m, const char *ns)
{
    const struct lt_service *s = lt_model_find_service(m, LT_STR("web.shop.svc.cluster.local"));
    const struct lt_rule *r = lt_model_find_rule(m, s, lt_str_of(ns), NULL);
    return r == NULL ? "" : r->object->key.name.ptr;
}

static void destination_rules_are_found_by_level_and_never_merged_across(void **state)
{
    (void)state;
    struct lt_model *m = build(
        SERVICE "spec: {ports: [{name: http, port: 80}]}\n" DR("theirs", "shop", "{host: web}")
            DR("client", "client", "{host: web.shop.svc.cluster.local}")
                DR("root", "istio-system", "{host: '*.svc.cluster.local'}")
                    DR("wide", "other", "{host: '*.shop.svc.cluster.local'}")
                        DR("wider", "other", "{host: '*.cluster.local'}"));
    assert_string_equal(rule_for(m, "client"), "client");
    assert_string_equal(rule_for(m, "third"), "theirs");
    assert_string_equal(rule_for(m, "other"), "wide");
    assert_string_equal(rule_for(m, "shop"), "theirs");
    lt_model_unref(&m);
    m = build(SERVICE "spec: {ports: [{name: http, port: 80}]}\n" DR("private", "shop",
                                                                     "{host: web, exportTo: ['.']}")
                  DR("root", "istio-system", "{host: '*.svc.cluster.local'}"));
    assert_string_equal(rule_for(m, "shop"), "private");
    assert_string_equal(rule_for(m, "third"), "root");
    lt_model_unref(&m);
}

static void rules_of_one_host_merge_subsets_but_not_policies(void **state)
{
    (void)state;
    struct lt_model *m = build(
        SERVICE "spec: {ports: [{name: http, port: 80}]}\n" DR(
            "a", "shop", "{host: web, subsets: [{name: v1, labels: {v: v1}}]}")
            DR("b", "shop",
               "{host: WEB.shop.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}},"
               " subsets: [{name: v1, labels: {v: other}}, {name: v2}]}")
                DR("c", "shop", "{host: web, trafficPolicy: {tls: {mode: SIMPLE}}}"));
    const struct lt_service *s = lt_model_find_service(m, LT_STR("web.shop.svc.cluster.local"));
    const struct lt_rule *r = lt_model_find_rule(m, s, LT_STR("shop"), NULL);
    assert_int_equal(r->subset_count, 2);
    assert_true(
        lt_str_eqz(lt_rule_find_subset(r, LT_STR("v1"))->spec->labels.items[0].value, "v1"));
    assert_int_equal(r->policy->tls->mode.value, LT_TLS_DISABLE);
    assert_ptr_equal(lt_rule_find_subset(r, LT_STR("v1"))->rule_policy, r->policy);
    lt_model_unref(&m);
}

static void the_nearest_peer_authentication_counts(void **state)
{
    (void)state;
    static struct lt_kv items[] = {{{"app", 3}, {"web", 3}}}, others[] = {{{"app", 3}, {"db", 2}}};
    static const struct lt_kvs web = {1, items}, db = {1, others};
    struct lt_model *m = build(
        "kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n" PA("mesh", "istio-system",
                                                                       "{mtls: {mode: STRICT}}")
            PA("no-effect", "istio-system",
               "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}")
                PA("ns", "plain", "{mtls: {mode: DISABLE}}")
                    PA("web", "plain",
                       "{selector: {matchLabels: {app: web}}, mtls: {mode: UNSET}, portLevelMtls:"
                       " {8080: {mode: PERMISSIVE}, 443: {mode: STRICT}, 80: {}}}"));
    assert_int_equal(lt_model_mtls_mode(m, LT_STR("shop"), &web, 80), LT_MTLS_STRICT);
    assert_int_equal(lt_model_mtls_mode(m, LT_STR("istio-system"), &web, 80), LT_MTLS_STRICT);
    assert_int_equal(lt_model_mtls_mode(m, LT_STR("plain"), &db, 8080), LT_MTLS_DISABLE);
    assert_int_equal(lt_model_mtls_mode(m, LT_STR("plain"), &web, 8080), LT_MTLS_PERMISSIVE);
    assert_int_equal(lt_model_mtls_mode(m, LT_STR("plain"), &web, 80), LT_MTLS_DISABLE);
    uint16_t ports[4];
    assert_int_equal(lt_model_mtls_ports(m, LT_STR("plain"), &web, ports, 4), 3);
    assert_int_equal(ports[0], 80);
    assert_int_equal(ports[2], 8080);
    lt_model_unref(&m);
    m = build("kind: Namespace\napiVersion: v1\nmetadata: {name: shop}\n");
    assert_int_equal(lt_model_mtls_mode(m, LT_STR("shop"), &web, 80), LT_MTLS_PERMISSIVE);
    lt_model_unref(&m);
}

static void mesh_configuration_is_read_over_its_defaults(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_notes notes;
    lt_notes_init(&notes);
    struct lt_note where = {.file = LT_STR("mesh.yaml")};
    struct lt_mesh mesh = lt_mesh_default();
    const char *text =
        "accessLogFile: /dev/stdout\naccessLogEncoding: JSON\ntrustDomain: a@b\nenableAutoMtls: false\nconnectTimeout: 1s\n"
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\nextensionProviders: []\ntypo: 1\ndefaultConfig: {tracing: {}}\n";
    assert_int_equal(lt_mesh_read(arena, lt_str_of(text), &where, &notes, &mesh), LT_OK);
    assert_true(lt_str_eqz(mesh.access_log_file, "/dev/stdout"));
    assert_true(lt_str_eqz(mesh.trust_domain, "a.b"));
    assert_true(lt_str_eqz(mesh.root_ns, "istio-system"));
    assert_true(mesh.access_log_is_json && !mesh.has_auto_mtls && !mesh.allows_any_outbound);
    assert_int_equal(mesh.connect_timeout_ns, 1000000000);
    assert_int_equal(notes.vec.count, 1);
    assert_int_equal(lt_notes_at(&notes, 0)->line, 8);
    assert_int_equal(lt_mesh_read(arena, LT_STR("connectTimeout: soon"), &where, &notes, &mesh),
                     LT_E_BAD);
    lt_notes_fini(&notes);
    lt_arena_free(&arena);
}

/* A line of the file is that of the object: the text in it has lines of its own. */
static void the_mesh_in_a_config_map_is_read(void **state)
{
    static const char text[] =
        "kind: ConfigMap\napiVersion: v1\nmetadata: {name: istio, namespace: istio-system}\n"
        "data:\n  mesh: |\n    accessLogFile: a\n    accesLogEncoding: JSON\n    connectTimeout: 5\n"
        "---\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: none, namespace: istio-system}\n";
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_notes notes;
    struct lt_mesh mesh = lt_mesh_default();
    struct lt_model *m = build(text);
    char line[2048];
    lt_notes_init(&notes);
    assert_int_equal(lt_mesh_read_map(arena, m->objects[0], &notes, &mesh), LT_E_BAD);
    assert_int_equal(notes.vec.count, 2);
    assert_string_equal(
        lt_note_format(lt_notes_at(&notes, 0), line, sizeof(line)),
        "a.yaml:1: warning: ConfigMap istio-system/istio: data.mesh, line 2: accesLogEncoding: "
        "unknown field, did you mean accessLogEncoding?; it is ignored");
    lt_note_format(lt_notes_at(&notes, 1), line, sizeof(line));
    assert_non_null(strstr(line, "data.mesh, line 3: connectTimeout: expected a duration"));
    assert_int_equal(lt_mesh_read_map(arena, m->objects[1], &notes, &mesh), LT_E_NOT_FOUND);
    lt_model_unref(&m);
    lt_notes_fini(&notes);
    lt_arena_free(&arena);
}

static void hosts_compare_as_istio_says(void **state)
{
    (void)state;
    static const struct {
        const char *a;
        const char *b;
        bool matches;
        bool is_subset;
    } table[] = {
        {"a.b", "a.b", true, true},    {"a.b", "*.b", true, true},   {"*.b", "a.b", true, false},
        {"b", "*.b", false, false},    {"a", "*", true, true},       {"*.a.b", "*.b", true, true},
        {"*.b", "*.a.b", true, false}, {"*.a", "*.b", false, false}, {"x.a.b", "*.b", true, true},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(table); i++) {
        assert_int_equal(lt_host_matches(lt_str_of(table[i].a), lt_str_of(table[i].b)),
                         table[i].matches);
        assert_int_equal(lt_host_is_subset(lt_str_of(table[i].a), lt_str_of(table[i].b)),
                         table[i].is_subset);
    }
    assert_true(lt_host_specificity_cmp(LT_STR("a.b"), LT_STR("*.a.b")) < 0);
    assert_true(lt_host_specificity_cmp(LT_STR("*.a.b"), LT_STR("*.b")) < 0);
}

static void ports_say_what_they_speak(void **state)
{
    (void)state;
    static const struct {
        const char *app_protocol;
        const char *name;
        uint16_t port;
        lt_port_protocol protocol;
    } table[] = {
        {"", "http", 1, LT_PORT_HTTP},      {"", "HTTP-web", 1, LT_PORT_HTTP},
        {"", "httpx", 1, LT_PORT_AUTO},     {"", "grpc-web-x", 1, LT_PORT_GRPC_WEB},
        {"", "grpc-x", 1, LT_PORT_GRPC},    {"", "", 3306, LT_PORT_TCP},
        {"", "mysql", 3306, LT_PORT_MYSQL}, {"http", "tcp", 1, LT_PORT_HTTP},
        {"other", "http", 1, LT_PORT_AUTO}, {"kubernetes.io/h2c", "x", 1, LT_PORT_HTTP2},
        {"", "https-a", 1, LT_PORT_HTTPS},  {"", "tls", 443, LT_PORT_TLS},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(table); i++)
        assert_int_equal(lt_port_protocol_of(lt_str_of(table[i].app_protocol),
                                             lt_str_of(table[i].name), table[i].port),
                         table[i].protocol);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints_come_from_slices_by_port_name),
        cmocka_unit_test(a_service_without_slices_has_the_pods_of_its_whole_selector),
        cmocka_unit_test(an_address_counts_once_and_finds_its_pod_without_a_reference),
        cmocka_unit_test(workloads_know_their_owner_and_place),
        cmocka_unit_test(destination_rules_are_found_by_level_and_never_merged_across),
        cmocka_unit_test(rules_of_one_host_merge_subsets_but_not_policies),
        cmocka_unit_test(the_nearest_peer_authentication_counts),
        cmocka_unit_test(mesh_configuration_is_read_over_its_defaults),
        cmocka_unit_test(the_mesh_in_a_config_map_is_read),
        cmocka_unit_test(hosts_compare_as_istio_says),
        cmocka_unit_test(ports_say_what_they_speak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
