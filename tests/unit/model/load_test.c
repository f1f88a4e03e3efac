/*
 * load_test.c - manifests in, objects and notes out: every mistake is named with its place, and
 * hurts nothing beside itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "model/check.h"
#include "model/load.h"

#define SERVICE(name) \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name \
    ", namespace: shop}\nspec: {ports: [{name: http, port: 80}]}\n"

struct world {
    struct lt_manifests *manifests;
    const struct lt_object *const *objects;
    const struct lt_notes *notes;
    size_t count;
};

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    w->manifests = lt_manifests_new();
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    lt_manifests_free(&w->manifests);
    free(w);
    return 0;
}

static void put(struct world *w, const char *file, const char *text)
{
    lt_manifests_put(w->manifests, lt_str_of(file), lt_str_of(text));
    w->objects = lt_manifests_objects(w->manifests, &w->count, &w->notes);
}

static const struct lt_object *find(const struct world *w, lt_kind_id kind, const char *name)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->objects[i]->key.kind == kind && lt_str_eqz(w->objects[i]->key.name, name))
            return w->objects[i];
    }
    return NULL;
}

/* Some note, as a line, has this text in it. */
static void assert_noted(const struct lt_notes *notes, const char *text)
{
    char line[2048];
    for (size_t i = 0; i < notes->vec.count; i++) {
        if (strstr(lt_note_format(lt_notes_at(notes, i), line, sizeof(line)), text) != NULL)
            return;
    }
    for (size_t i = 0; i < notes->vec.count; i++)
        print_error("have: %s\n", lt_note_format(lt_notes_at(notes, i), line, sizeof(line)));
    fail_msg("no note has: %s", text);
}

static void reads_documents_in_any_order(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml",
        "# only a comment\n---\n"
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n"
        "spec:\n  hosts: [reviews]\n  http:\n  - timeout: 1.5s\n    route:\n"
        "    - destination: {host: reviews, subset: v1, port: {number: 9080}}\n      weight: 90\n"
        "    - {destination: {host: reviews, subset: v2}, weight: 10}\n"
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: reviews-v1, namespace: shop}\n"
        "spec:\n  replicas: 2\n  selector: {matchLabels: {app: reviews}}\n  template:\n    metadata: {labels: {app: reviews}}\n"
        "    spec: {containers: [{name: app, image: x, command: [sleep], args: ['1'], env: [{name: A, value: b}],"
        " livenessProbe: {httpGet: {port: 1}}}]}\n");
    assert_int_equal(w->count, 2);
    assert_int_equal(w->notes->vec.count, 0);
    const struct lt_object *vs = find(w, LT_KIND_VIRTUAL_SERVICE, "reviews");
    assert_true(lt_str_eqz(vs->key.ns, "default"));
    assert_int_equal(vs->line, 3);
    const struct lt_http_route *http = &vs->virtual_service->http.items[0];
    assert_int_equal(http->timeout.value, 1500000000);
    assert_int_equal(http->route.items[0].weight.value, 90);
    assert_int_equal(http->route.items[0].destination->port->number.value, 9080);
    assert_int_equal(http->route.items[0].destination->line, 11);
    const struct lt_deployment_spec *spec =
        find(w, LT_KIND_DEPLOYMENT, "reviews-v1")->deployment->spec;
    assert_int_equal(spec->replicas.value, 2);
    assert_true(lt_str_eqz(spec->pod->spec->containers.items[0].env.items[0].value, "b"));
}

static void names_file_line_object_field_and_expectation(void **state)
{
    struct world *w = *state;
    put(w, "bad.yaml",
        SERVICE(
            "good") "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec:\n"
                    "  hosts: [good]\n  http:\n  - timeout: 5\n    retries: {atempts: 2}\n    route: [{destination: {host: good}, weight: x}]\n");
    assert_int_equal(w->count, 1);
    assert_noted(
        w->notes,
        "bad.yaml:12: error: VirtualService shop/v: spec.http[0].timeout: expected a duration such as");
    assert_noted(
        w->notes,
        "bad.yaml:13: error: VirtualService shop/v: spec.http[0].retries.atempts: unknown field, did you mean attempts?");
    assert_noted(
        w->notes,
        "bad.yaml:14: error: VirtualService shop/v: spec.http[0].route[0].weight: expected a whole number, got string");
}

static void ignores_what_kubernetes_only_warns_about(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {port: [], sesionAffinity: None, ports: [{port: 80}]}\n");
    assert_int_equal(w->count, 1);
    assert_noted(
        w->notes,
        "a.yaml:4: warning: Service default/s: spec.port: unknown field, did you mean ports?; it is ignored");
    assert_noted(w->notes, "spec.sesionAffinity: unknown field, did you mean sessionAffinity?");
}

static void bad_yaml_hurts_its_own_document_only(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml", SERVICE("one") "---\nkind: [\n---\n" SERVICE("two"));
    assert_int_equal(w->count, 2);
    assert_int_equal(w->notes->errors, 1);
    assert_noted(w->notes, "a.yaml:7: error: ");
}

static void a_refused_object_keeps_its_predecessor(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml", SERVICE("one") "---\n" SERVICE("two"));
    uint64_t before = find(w, LT_KIND_SERVICE, "one")->hash;
    put(w, "a.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: one, namespace: shop}\nspec: {ports: [{port: 70000}]}\n");
    assert_noted(w->notes, "spec.ports[0].port: expected a number from 1 to 65535, got 70000");
    assert_noted(w->notes, "the object stays as it was before the error");
    assert_int_equal(w->count, 1); /* two was taken out of the file */
    assert_int_equal(find(w, LT_KIND_SERVICE, "one")->hash, before);
    /* which object a broken document was, nobody knows: none goes */
    put(w, "a.yaml", "kind: [\n");
    assert_int_equal(w->count, 1);
    put(w, "a.yaml", SERVICE("two"));
    assert_null(find(w, LT_KIND_SERVICE, "one"));
    assert_non_null(find(w, LT_KIND_SERVICE, "two"));
}

static void the_first_file_wins_and_the_other_is_told(void **state)
{
    struct world *w = *state;
    put(w, "b.yaml", SERVICE("one"));
    put(w, "a.yaml", "---\n" SERVICE("one") "---\n" SERVICE("one"));
    assert_int_equal(w->count, 1);
    assert_true(lt_str_eqz(w->objects[0]->file, "a.yaml"));
    assert_noted(w->notes, "a.yaml:7: error: Service shop/one: duplicate of the object in line 2");
    assert_noted(w->notes,
                 "b.yaml:1: error: Service shop/one: duplicate of the object in a.yaml:2");
    lt_manifests_remove(w->manifests, LT_STR("a.yaml"));
    w->objects = lt_manifests_objects(w->manifests, &w->count, &w->notes);
    assert_int_equal(w->count, 1);
    assert_int_equal(w->notes->vec.count, 0);
}

static void other_kinds_are_named_and_no_error(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml",
        "apiVersion: networking.istio.io/v1\nkind: EnvoyFilter\nmetadata: {name: x, namespace: ns}\n---\n{}\n---\n- 1\n");
    assert_noted(
        w->notes,
        "a.yaml:1: info: EnvoyFilter ns/x: EnvoyFilter of networking.istio.io/v1 is not read yet");
    assert_noted(w->notes,
                 "a.yaml:7: error: expected an object with apiVersion and kind, got array");
}

static void a_kind_that_was_meant_is_named(void **state)
{
    static const struct {
        const char *version;
        const char *kind;
        const char *note;
    } cases[] = {
        {"networking.istio.io/v1", "VirtualServce",
         "a.yaml:1: warning: VirtualServce ns/x: VirtualServce of networking.istio.io/v1 is unknown, "
         "did you mean VirtualService of networking.istio.io?; it is ignored"},
        {"networking.istio.io/v1", "virtualservice", "did you mean VirtualService"},
        {"v1", "Deployment", "did you mean Deployment of apps?"},
        {"netwroking.istio.io/v1", "Gateway", "did you mean Gateway of networking.istio.io?"},
        {"v2/v1", "Service", "info: Service ns/x: Service of v2/v1 is not read yet"},
        {"apps/v1", "Pod", "did you mean Pod of v1?"},
        {"gateway.networking.k8s.io/v1", "Gateway", "info: Gateway ns/x: Gateway of"},
        {"batch/v1", "CronJob", "info: CronJob ns/x: CronJob of batch/v1 is not read yet"},
        {"v1", "Secret", "info: Secret ns/x: Secret of v1 is not read yet"},
        {"security.istio.io/v1", "AuthorizationPolicy",
         "warning: AuthorizationPolicy ns/x: AuthorizationPolicy of security.istio.io/v1 is not "
         "read yet: it forbids nothing"},
        {"networking.k8s.io/v1", "NetworkPolicy", "is not read yet: it forbids nothing"},
    };
    struct world *w = *state;
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        char text[256];
        snprintf(text, sizeof(text),
                 "apiVersion: %s\nkind: %s\nmetadata: {name: x, namespace: ns}\n", cases[i].version,
                 cases[i].kind);
        put(w, "a.yaml", text);
        assert_int_equal(w->notes->vec.count, 1);
        assert_noted(w->notes, cases[i].note);
    }
}

static void what_is_no_object_is_told(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml", "image:\n  tag: 1\n---\nkind: Pod\n---\napiVersion: v1\n");
    assert_noted(
        w->notes,
        "a.yaml:1: error: expected an object with apiVersion and kind, got one without them");
    assert_noted(
        w->notes,
        "a.yaml:4: error: expected an object with apiVersion and kind, got one without apiVersion");
    assert_noted(
        w->notes,
        "a.yaml:6: error: expected an object with apiVersion and kind, got one without kind");
    put(w, "a.yaml", "kind: Service\nmetadata:\n  name: {{ .Values.name }}\n");
    assert_noted(
        w->notes,
        "a.yaml:3: error: a key must be a string, not object; a template with {{ }} must be rendered first");
    put(w, "a.yaml", "kind: Service\nmetadata:\n\tname: x\n");
    assert_noted(w->notes, "a.yaml:3: error: a tab in the indentation");
}

static void reads_lists_and_json(void **state)
{
    struct world *w = *state;
    put(w, "a.json",
        "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Namespace\","
        " \"metadata\": {\"name\": \"n\", \"creationTimestamp\": \"2024-05-01T10:00:00Z\"}}]}");
    assert_int_equal(w->count, 1);
    assert_int_equal(w->objects[0]->created_s, 1714557600);
    put(w, "b.json", "{\"apiVersion\": \"v1\",");
    assert_int_equal(w->notes->errors, 1);
}

static void says_what_is_not_translated_yet(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n"
        "spec: {host: a, trafficPolicy: {tunnel: {protocol: CONNECT}, loadBalancer: {simple: ROUND_ROBIN}}}\n");
    assert_int_equal(w->count, 1);
    assert_noted(
        w->notes,
        "a.yaml:4: info: DestinationRule default/d: spec.trafficPolicy.tunnel: not translated yet");
}

static void dangling_references_are_warnings(void **state)
{
    struct world *w = *state;
    put(w, "a.yaml",
        SERVICE(
            "one") "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v, namespace: shop}\nspec:\n"
                   "  hosts: [one]\n  gateways: [mesh, public]\n  http:\n  - route:\n    - destination: {host: one, subset: v2}\n      weight: 1\n"
                   "    - destination: {host: nowhere}\n      weight: 1\n"
                   "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: w, namespace: shop}\n"
                   "spec: {hosts: [one.shop.svc.cluster.local], http: [{route: [{destination: {host: one}}]}]}\n");
    assert_int_equal(w->count, 3);
    struct lt_notes notes;
    lt_notes_init(&notes);
    lt_check_references(w->objects, w->count, LT_STR("cluster.local"), &notes);
    assert_noted(
        &notes,
        "a.yaml:14: warning: VirtualService shop/v: spec.http[0].route[0].destination: there is no subset v2");
    assert_noted(
        &notes,
        "a.yaml:16: warning: VirtualService shop/v: spec.http[0].route[1].destination: there is no Service");
    assert_noted(&notes, "spec.gateways[1]: there is no Gateway shop/public");
    assert_noted(
        &notes,
        "VirtualService shop/w: spec.hosts[0]: duplicate host one.shop.svc.cluster.local: VirtualService shop/v");
    lt_notes_fini(&notes);
}

static void each_reference_is_looked_up(void **state)
{
    static const char text[] =
        "kind: Service\napiVersion: v1\nmetadata: {name: two, namespace: shop}\n"
        "spec: {selector: {app: two}, ports: [{name: a, port: 80}, {name: b, port: 81}]}\n"
        "---\nkind: Pod\napiVersion: v1\n"
        "metadata: {name: two-1, namespace: shop, labels: {app: two, version: v1}}\n"
        "spec: {containers: [{name: c}]}\n"
        "---\nkind: Deployment\napiVersion: apps/v1\nmetadata: {name: two, namespace: shop}\n"
        "spec: {selector: {matchLabels: {app: two}}, template: {metadata: {labels: {app: two,"
        " version: v2}}, spec: {containers: [{name: c}]}}}\n"
        "---\nkind: DestinationRule\napiVersion: networking.istio.io/v1\n"
        "metadata: {name: two, namespace: shop}\nspec: {host: two, subsets: [\n"
        "  {name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}},\n"
        "  {name: v3, labels: {version: v3}}]}\n"
        "---\nkind: DestinationRule\napiVersion: networking.istio.io/v1\n"
        "metadata: {name: none, namespace: shop}\nspec: {host: none}\n"
        "---\nkind: VirtualService\napiVersion: networking.istio.io/v1\n"
        "metadata: {name: v, namespace: shop}\nspec:\n  hosts: [x.example]\n"
        "  gateways: [./here, there/too, old.shop.svc.cluster.local]\n"
        "  http: [{route: [{destination: {host: two, port: {number: 82}}}],\n"
        "    mirrors: [{destination: {host: two}}]}]\n"
        "  tcp: [{route: [{destination: {host: none, port: {number: 1}}}]}]\n"
        "  tls: [{match: [{sniHosts: [x.example]}], route: [{destination: {host:"
        " two, port: {number: 83}}}]}]\n";
    static const char *const wanted[] = {
        "DestinationRule shop/two: spec.subsets[2].labels: no Pod of two.shop.svc.cluster.local has",
        "DestinationRule shop/none: spec.host: there is no Service for host none.shop",
        "spec.http[0].route[0].destination: host two.shop.svc.cluster.local has no port 82",
        "spec.http[0].mirrors[0].destination: host two.shop.svc.cluster.local has several ports",
        "spec.tcp[0].route[0].destination: there is no Service for host none.shop",
        "spec.tls[0].route[0].destination: host two.shop.svc.cluster.local has no port 83",
        "spec.gateways[0]: there is no Gateway shop/here",
        "spec.gateways[1]: there is no Gateway there/too"};
    struct world *w = *state;
    struct lt_notes notes;
    put(w, "a.yaml", text);
    lt_notes_init(&notes);
    lt_check_references(w->objects, w->count, LT_STR("cluster.local"), &notes);
    for (size_t i = 0; i < LT_ARRAY_LEN(wanted); i++)
        assert_noted(&notes, wanted[i]);
    assert_int_equal(notes.vec.count, LT_ARRAY_LEN(wanted));
    lt_notes_fini(&notes);
}

#define OWN(ns, to) \
    "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n" \
    "metadata: {name: v, namespace: " ns "}\nspec: {hosts: [x.example], exportTo: " to "," \
    " http: [{redirect: {uri: /}}]}\n"

static void one_host_twice_is_told_where_one_proxy_sees_both(void **state)
{
    struct world *w = *state;
    struct lt_notes notes;
    put(w, "a.yaml", OWN("shop", "['.']") OWN("stock", "[stock]"));
    lt_notes_init(&notes);
    lt_check_references(w->objects, w->count, LT_STR("cluster.local"), &notes);
    assert_int_equal(notes.vec.count, 0);
    put(w, "a.yaml", OWN("shop", "['.']") OWN("stock", "['*']"));
    lt_check_references(w->objects, w->count, LT_STR("cluster.local"), &notes);
    assert_noted(&notes, "spec.hosts[0]: duplicate host x.example");
    lt_notes_fini(&notes);
}

static void a_selector_of_nothing_is_told(void **state)
{
    static const char text[] =
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web, namespace: shop}\n"
        "spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}},"
        " spec: {containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}}}\n"
        "---\nkind: Job\napiVersion: batch/v1\nmetadata: {name: j, namespace: stock}\n"
        "spec: {template: {metadata: {labels: {app: j}}, spec: {containers: [{name: c}]}}}\n"
        "---\nkind: Service\napiVersion: v1\nmetadata: {name: web, namespace: shop}\n"
        "spec: {selector: {app: web}, ports: [{name: a, port: 80, targetPort: http},"
        " {name: b, port: 81, targetPort: htpp}, {name: c, port: 82, targetPort: 9}]}\n"
        "---\nkind: Service\napiVersion: v1\nmetadata: {name: j, namespace: stock}\n"
        "spec: {selector: {app: j}, ports: [{port: 80}]}\n"
        "---\nkind: Service\napiVersion: v1\nmetadata: {name: j, namespace: shop}\n"
        "spec: {selector: {app: j}, ports: [{port: 80, targetPort: x}]}\n"
        "---\nkind: Service\napiVersion: v1\nmetadata: {name: by-hand, namespace: shop}\n"
        "spec: {ports: [{port: 80}]}\n"
        "---\nkind: Gateway\napiVersion: networking.istio.io/v1\n"
        "metadata: {name: g, namespace: edge}\nspec: {selector: {app: web}, servers: ["
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n"
        "---\nkind: Gateway\napiVersion: networking.istio.io/v1\n"
        "metadata: {name: h, namespace: edge}\nspec: {selector: {app: wbe, tier: web}, servers: ["
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n"
        "---\nkind: PeerAuthentication\napiVersion: security.istio.io/v1\n"
        "metadata: {name: p, namespace: stock}\nspec: {selector: {matchLabels: {app: web}}}\n"
        "---\nkind: PeerAuthentication\napiVersion: security.istio.io/v1\n"
        "metadata: {name: p, namespace: root}\nspec: {selector: {matchLabels: {app: web}}}\n";
    static const char *const wanted[] = {
        "warning: Service shop/web: spec.ports[1].targetPort: no container of its Pods has a port named htpp",
        "warning: Service shop/j: spec.selector: selects nothing: no Pod, Deployment or Job of namespace shop has app: j",
        "warning: Gateway edge/h: spec.selector: selects nothing: no Pod, Deployment or Job has app: wbe and the other labels",
        "warning: PeerAuthentication stock/p: spec.selector.matchLabels: selects nothing"};
    struct world *w = *state;
    struct lt_notes notes;
    put(w, "a.yaml", text);
    assert_int_equal(w->notes->vec.count, 0);
    lt_notes_init(&notes);
    lt_check_selectors(w->objects, w->count, LT_STR("root"), &notes);
    for (size_t i = 0; i < LT_ARRAY_LEN(wanted); i++)
        assert_noted(&notes, wanted[i]);
    assert_int_equal(notes.vec.count, LT_ARRAY_LEN(wanted));
    lt_notes_fini(&notes);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void a_directory_is_followed(void **state)
{
    struct world *w = *state;
    char dir[] = "/tmp/lateen-load-XXXXXX", path[256], sub[256];
    assert_non_null(mkdtemp(dir));
    snprintf(sub, sizeof(sub), "%s/sub", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    snprintf(path, sizeof(path), "%s/sub/a.yml", dir);
    write_text(path, SERVICE("one"));
    struct lt_err err = {0};
    assert_int_equal(lt_manifests_load_dir(w->manifests, lt_str_of(dir), &err), LT_OK);
    w->objects = lt_manifests_objects(w->manifests, &w->count, &w->notes);
    assert_int_equal(w->count, 1);
    unlink(path);
    assert_int_equal(lt_manifests_load_dir(w->manifests, lt_str_of(dir), &err), LT_OK);
    w->objects = lt_manifests_objects(w->manifests, &w->count, &w->notes);
    assert_int_equal(w->count, 0);
    rmdir(sub);
    rmdir(dir);
    assert_int_equal(lt_manifests_load_dir(w->manifests, lt_str_of(dir), &err), LT_E_IO);
}

static void a_byte_order_mark_is_no_content(void **state)
{
    struct world *w = *state;
    char dir[] = "/tmp/lateen-load-XXXXXX", yaml[256], json[256];
    assert_non_null(mkdtemp(dir));
    snprintf(yaml, sizeof(yaml), "%s/a.yaml", dir);
    snprintf(json, sizeof(json), "%s/b.json", dir);
    write_text(yaml, "\xef\xbb\xbf" SERVICE("one") "---\r\n");
    write_text(json, "\xef\xbb\xbf{\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", "
                     "\"metadata\": {\"name\": \"two\"}}");
    struct lt_err err = {0};
    assert_int_equal(lt_manifests_load_dir(w->manifests, lt_str_of(dir), &err), LT_OK);
    w->objects = lt_manifests_objects(w->manifests, &w->count, &w->notes);
    assert_int_equal(w->count, 2);
    unlink(yaml);
    unlink(json);
    rmdir(dir);
}

static const char live_text[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: one, namespace: shop}\n"
    "spec: {clusterIP: 10.96.0.7, ports: [{name: old, port: 81}]}\n"
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: fixed, namespace: shop}\n"
    "spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}\n"
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {a: b}}\n"
    "spec: {containers: [{name: main}]}\nstatus: {podIP: 10.244.0.5}\n";

static void live_objects_complete_the_wanted_ones(void **state)
{
    struct world *w = *state;
    lt_manifests_set_live(w->manifests, LT_STR("/live/"));
    put(w, "/live/cluster.yaml", live_text);
    put(w, "/mesh/pod.yaml",
        "\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: main}]}\n");
    put(w, "/a/first.yaml", SERVICE("one"));
    put(w, "/mesh/fixed.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: fixed, namespace: shop}\n"
        "spec: {clusterIP: None, ports: [{port: 80}]}\n");
    assert_int_equal(w->notes->vec.count, 0);
    assert_int_equal(w->count, 3);
    const struct lt_object *one = find(w, LT_KIND_SERVICE, "one");
    assert_true(lt_str_eqz(one->service->spec->cluster_ip, "10.96.0.7"));
    assert_true(lt_str_eqz(one->service->spec->ports.items[0].name, "http"));
    assert_true(lt_str_eqz(one->file, "/a/first.yaml"));
    const struct lt_object *fixed = find(w, LT_KIND_SERVICE, "fixed");
    assert_true(lt_str_eqz(fixed->service->spec->cluster_ip, "None"));
    const struct lt_object *pod = find(w, LT_KIND_POD, "p");
    assert_true(lt_str_eqz(pod->pod->status->pod_ip, "10.244.0.5"));
    assert_true(lt_str_eqz(lt_kvs_find(&pod->meta->labels, LT_STR("a")), "b"));
    assert_true(lt_str_eqz(pod->file, "/mesh/pod.yaml"));
    assert_int_equal(pod->line, 2);

    struct lt_object *kept = lt_object_ref(one);
    lt_manifests_remove(w->manifests, LT_STR("/live/cluster.yaml"));
    put(w, "/mesh/second.yaml", SERVICE("one")); /* what two people want is told as ever */
    assert_noted(
        w->notes,
        "/mesh/second.yaml:1: error: Service shop/one: duplicate of the object in /a/first.yaml:1; this one is refused");
    assert_int_equal(find(w, LT_KIND_SERVICE, "one")->service->spec->cluster_ip.len, 0);
    assert_true(kept->hash != find(w, LT_KIND_SERVICE, "one")->hash);
    assert_true(lt_str_eqz(kept->service->spec->cluster_ip, "10.96.0.7")); /* its parts live on */
    lt_object_unref(&kept);
}

static void duplicates_are_told_beside_a_live_one(void **state)
{
    struct world *w = *state;
    lt_manifests_set_live(w->manifests, LT_STR("/m/live"));
    put(w, "/m/live/cluster.yaml", live_text);
    put(w, "/m/a.yaml", SERVICE("one"));
    put(w, "/m/z.yaml", SERVICE("one"));
    put(w, "/m/livelier.yaml", SERVICE("two"));
    put(w, "/m/livelier2.yaml", SERVICE("two"));
    assert_int_equal(w->notes->vec.count, 2);
    assert_noted(w->notes,
                 "/m/z.yaml:1: error: Service shop/one: duplicate of the object in /m/a.yaml:1");
    assert_noted(w->notes, "/m/livelier2.yaml:1: error: Service shop/two: duplicate of");
    assert_true(
        lt_str_eqz(find(w, LT_KIND_SERVICE, "one")->service->spec->cluster_ip, "10.96.0.7"));
}

static void count_told(void *ctx, const struct lt_note *note, const char *line)
{
    size_t *count = ctx;
    (*count)++;
    assert_int_equal(note->level, LT_NOTE_ERROR);
    assert_non_null(strstr(line, "expected"));
}

static size_t tell(struct world *w, struct lt_told *told)
{
    size_t count = 0;
    lt_told_tell(told, &w->notes, 1, count_told, &count);
    return count;
}

static void each_mistake_is_told_once_until_it_is_mended(void **state)
{
    struct world *w = *state;
    struct lt_told told = {0};
    put(w, "a.yaml", "kind: 1\n");
    assert_int_equal(tell(w, &told), 1);
    assert_int_equal(tell(w, &told), 0);
    put(w, "b.yaml", "kind: 2\n");
    assert_int_equal(tell(w, &told), 1);
    put(w, "a.yaml", "# mended\n");
    assert_int_equal(tell(w, &told), 0);
    put(w, "a.yaml", "kind: 1\n");
    assert_int_equal(tell(w, &told), 1);
    lt_told_fini(&told);
}

static void a_line_more_above_is_no_news(void **state)
{
    (void)state;
    struct lt_told told = {0};
    for (uint32_t line = 1; line <= 3; line++) {
        size_t count = 0;
        struct lt_notes notes;
        const struct lt_notes *list = &notes;
        struct lt_note note = {.level = LT_NOTE_ERROR,
                               .file = LT_STR("a.yaml"),
                               .line = line,
                               .object = LT_STR("Service shop/one"),
                               .path = LT_STR("spec")};
        lt_notes_init(&notes);
        lt_notes_addf(&notes, &note, line < 3 ? "expected this" : "expected that");
        lt_told_tell(&told, &list, 1, count_told, &count);
        assert_int_equal(count, line != 2);
        lt_notes_fini(&notes);
    }
    lt_told_fini(&told);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(reads_documents_in_any_order),
        CASE(names_file_line_object_field_and_expectation),
        CASE(ignores_what_kubernetes_only_warns_about),
        CASE(bad_yaml_hurts_its_own_document_only),
        CASE(a_refused_object_keeps_its_predecessor),
        CASE(the_first_file_wins_and_the_other_is_told),
        CASE(other_kinds_are_named_and_no_error),
        CASE(a_kind_that_was_meant_is_named),
        CASE(what_is_no_object_is_told),
        CASE(reads_lists_and_json),
        CASE(says_what_is_not_translated_yet),
        CASE(dangling_references_are_warnings),
        CASE(each_reference_is_looked_up),
        CASE(one_host_twice_is_told_where_one_proxy_sees_both),
        CASE(a_selector_of_nothing_is_told),
        CASE(a_directory_is_followed),
        CASE(a_byte_order_mark_is_no_content),
        CASE(each_mistake_is_told_once_until_it_is_mended),
        CASE(a_line_more_above_is_no_news),
        CASE(live_objects_complete_the_wanted_ones),
        CASE(duplicates_are_told_beside_a_live_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
