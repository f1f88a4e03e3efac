/*
 * check_test.c - one bad spec a line, and what must be said about it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/object.h"
#include "wire/base64.h"
#include "wire/yaml.h"

struct bad {
    const char *kind;
    const char *spec;
    const char *note; /* "path: text", the beginning of it */
};

static const struct bad table[] = {
    {"VirtualService", "{hosts: [a], http: [{}]}",
     "spec.http[0]: expected exactly one of route, redirect and directResponse"},
    {"VirtualService", "{hosts: ['a b'], tcp: [{route: [{destination: {host: x}}]}]}",
     "spec.hosts: expected a host name"},
    {"VirtualService", "{hosts: ['*'], tcp: [{route: [{destination: {host: x}}]}]}",
     "spec.hosts: expected \"*\" only with gateways"},
    {"VirtualService", "{hosts: [a.b, '*.b'], tcp: [{route: [{destination: {host: x}}]}]}",
     "spec.hosts: expected different hosts"},
    {"VirtualService", "{hosts: [a]}", "spec: expected at least one of http, tls and tcp"},
    {"VirtualService", "{gateways: [g], http: [{route: [{destination: {host: x}}]}]}",
     "spec.hosts: is required"},
    {"VirtualService", "{hosts: [a], http: [{route: [{destination: {}}]}]}",
     "spec.http[0].route[0].destination.host: is required"},
    {"VirtualService", "{hosts: [a], http: [{route: [{}]}]}",
     "spec.http[0].route[0].destination: is required"},
    {"VirtualService",
     "{hosts: [a], http: [{route: [{destination: {host: x}, weight: 0}, {destination: {host: z}}]}]}",
     "spec.http[0].route: expected weights whose sum"},
    {"VirtualService",
     "{hosts: [a], http: [{match: [{uri: {prefix: /, exact: /}}], route: [{destination: {host: x}}]}]}",
     "spec.http[0].match[0].uri: expected only one of"},
    {"VirtualService",
     "{hosts: [a], http: [{match: [{uri: {regex: '['}}], route: [{destination: {host: x}}]}]}",
     "spec.http[0].match[0].uri.regex: expected an RE2"},
    {"VirtualService",
     "{hosts: [a], http: [{match: [{headers: {'a b': {exact: x}}}], route: [{destination: {host: x}}]}]}",
     "spec.http[0].match[0].headers: expected a header name"},
    {"VirtualService",
     "{hosts: [a], http: [{retries: {attempts: 1, retryOn: 'never'}, route: [{destination: {host: x}}]}]}",
     "spec.http[0].retries.retryOn: unknown condition"},
    {"VirtualService", "{hosts: [a], http: [{directResponse: {status: 200, body: {bytes: '*'}}}]}",
     "spec.http[0].directResponse.body.bytes: expected base64"},
    {"VirtualService",
     "{hosts: [a], http: [{directResponse: {status: 200, body: {string: a, bytes: YQ==}}}]}",
     "spec.http[0].directResponse.body: expected only one of string and bytes"},
    {"VirtualService", "{hosts: [a], http: [{redirect: {}}]}",
     "spec.http[0].redirect: expected at least one"},
    {"VirtualService", "{hosts: [a], http: [{redirect: {redirectCode: 200, uri: /}}]}",
     "spec.http[0].redirect.redirectCode: expected a number"},
    {"VirtualService", "{hosts: [a], http: [{timeout: 0s, route: [{destination: {host: x}}]}]}",
     "spec.http[0].timeout: expected a duration of at least 1ms"},
    {"VirtualService",
     "{hosts: [a], http: [{fault: {abort: {percentage: {value: 101}}}, route: [{destination: {host: x}}]}]}",
     "spec.http[0].fault.abort.percentage.value: expected a number from 0 to 100"},
    {"VirtualService", "{hosts: a, http: []}",
     "spec.hosts: expected a list of strings, got string"},
    {"VirtualService", "[]", "spec: expected a VirtualService (an object), got array"},
    {"DestinationRule", "{}", "spec.host: is required"},
    {"DestinationRule", "{host: a, trafficPolicy: {}}",
     "spec.trafficPolicy: expected at least one setting"},
    {"DestinationRule", "{host: a, trafficPolicy: {tls: {mode: TLS}}}",
     "spec.trafficPolicy.tls.mode: expected DISABLE, SIMPLE, MUTUAL or ISTIO_MUTUAL, got \"TLS\""},
    {"DestinationRule", "{host: a, trafficPolicy: {tls: {mode: MUTUAL}}}",
     "spec.trafficPolicy.tls: mode MUTUAL needs"},
    {"DestinationRule", "{host: a, subsets: [{name: x}, {name: x}]}",
     "spec.subsets: expected different names"},
    {"DestinationRule", "{host: a, subsets: [{name: 'x|y'}]}",
     "spec.subsets[0].name: expected letters"},
    {"DestinationRule",
     "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 10}}}}}",
     "spec.trafficPolicy.loadBalancer.consistentHash.maglev: expected a prime"},
    {"DestinationRule", "{host: a, trafficPolicy: {loadBalancer: {consistentHash: {}}}}",
     "spec.trafficPolicy.loadBalancer.consistentHash: expected one of"},
    {"DestinationRule", "{host: a, exportTo: ['*', b]}",
     "spec.exportTo: expected \"*\" to stand alone"},
    {"Gateway", "{servers: []}", "spec.servers: expected at least one server"},
    {"Gateway", "{servers: [{port: {number: 80, name: http, protocol: FTP}, hosts: ['*']}]}",
     "spec.servers[0].port.protocol: expected HTTP"},
    {"Gateway", "{servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*']}]}",
     "spec.servers[0].tls: is required"},
    {"Gateway",
     "{servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE}}]}",
     "spec.servers[0].tls: needs credentialName"},
    {"Service", "{type: ExternalName}", "spec.externalName: is required when type is ExternalName"},
    {"Service", "{clusterIP: somewhere, ports: [{port: 1}]}",
     "spec.clusterIP: expected an IP address or None, got \"somewhere\""},
    {"Service", "{ports: [{port: 1}, {name: b, port: 2}]}",
     "spec.ports: expected a name for each port, as there are several"},
    {"Service", "{ports: [{name: a, port: 1}, {name: a, port: 2}]}",
     "spec.ports: expected different names, got \"a\" twice"},
    {"Service", "{ports: [{name: a, port: 1}, {name: b, port: 1}]}",
     "spec.ports: expected different ports, got 1 twice"},
    {"Service", "{ports: [{port: 70000}]}",
     "spec.ports[0].port: expected a number from 1 to 65535"},
    {"Pod", "{containers: []}", "spec.containers: expected at least one container"},
    {"Pod", "{containers: [{name: a}, {name: a}]}",
     "spec.containers: expected different names, got \"a\" twice"},
    {"Deployment",
     "{selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: b}}, spec: {containers: [{name: a}]}}}",
     "spec.selector: expected labels that spec.template.metadata.labels has"},
    {"PeerAuthentication", "{portLevelMtls: {80: {mode: STRICT}}}",
     "spec.portLevelMtls: needs a selector"},
    {"PeerAuthentication", "{mtls: {mode: 9}}",
     "spec.mtls.mode: expected UNSET, DISABLE, PERMISSIVE or STRICT"},
};

static bool has_note(const struct lt_notes *notes, const char *text)
{
    char line[2048];
    for (size_t i = 0; i < notes->vec.count; i++) {
        if (strstr(lt_note_format(lt_notes_at(notes, i), line, sizeof(line)), text) != NULL)
            return true;
    }
    return false;
}

static lt_rc read_text(const char *text, struct lt_notes *notes)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct lt_doc *doc = NULL;
    struct lt_err err = {0};
    assert_int_equal(lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(text)), NULL, &doc, &err), LT_OK);
    struct lt_object *object = NULL;
    struct lt_share *share = lt_share_new();
    lt_rc rc = lt_object_read(doc, LT_STR("f"), share, notes, NULL, &object);
    lt_share_unref(&share);
    lt_object_unref(&object);
    lt_arena_free(&arena);
    return rc;
}

static lt_rc read_spec(const char *kind, const char *spec, struct lt_notes *notes)
{
    static const struct {
        const char *kind;
        const char *version;
    } others[] = {{"PeerAuthentication", "security.istio.io/v1"},
                  {"Service", "v1"},
                  {"Pod", "v1"},
                  {"Deployment", "apps/v1"}};
    char text[2048];
    const char *version = "networking.istio.io/v1";
    for (size_t i = 0; i < LT_ARRAY_LEN(others); i++)
        version = strcmp(others[i].kind, kind) == 0 ? others[i].version : version;
    snprintf(text, sizeof(text), "apiVersion: %s\nkind: %s\nmetadata: {name: x}\nspec: %s\n",
             version, kind, spec);
    return read_text(text, notes);
}

static void each_mistake_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < LT_ARRAY_LEN(table); i++) {
        struct lt_notes notes;
        lt_notes_init(&notes);
        lt_rc rc = read_spec(table[i].kind, table[i].spec, &notes);
        char line[2048] = "nothing";
        if (notes.vec.count > 0)
            lt_note_format(lt_notes_at(&notes, 0), line, sizeof(line));
        if (rc != LT_E_BAD || !has_note(&notes, table[i].note))
            fail_msg("%s\n  wanted: %s\n  got: %s", table[i].spec, table[i].note, line);
        lt_notes_fini(&notes);
    }
}

/* One bad item of a list says nothing of the next. */
static void a_mistake_stays_where_it_is(void **state)
{
    static const char spec[] =
        "{hosts: [a], http: [{match: [{uri: {regex: '['}}], redirect: {uri: /}},"
        " {route: [{destination: {host: x}}]}]}";
    (void)state;
    struct lt_notes notes;
    lt_notes_init(&notes);
    assert_int_equal(read_spec("VirtualService", spec, &notes), LT_E_BAD);
    assert_true(has_note(&notes, "spec.http[0].match[0].uri.regex: expected an RE2"));
    assert_int_equal(notes.vec.count, 1);
    lt_notes_fini(&notes);
}

static void names_are_those_of_kubernetes(void **state)
{
    static const struct {
        const char *meta;
        const char *note;
    } bad[] = {
        {"{name: Web}", "metadata.name: expected lower-case letters"},
        {"{name: 'a b'}", "metadata.name: expected lower-case letters"},
        {"{name: a.}", "metadata.name: expected lower-case letters"},
        {"{name: a, namespace: Shop}", "metadata.namespace: expected lower-case letters"},
        {"{name: a, namespace: b.c}", "metadata.namespace: expected lower-case letters"},
        {"{}", "metadata.name: is required"},
    };
    (void)state;
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        struct lt_notes notes;
        char text[256];
        lt_notes_init(&notes);
        snprintf(text, sizeof(text),
                 "apiVersion: v1\nkind: Service\nmetadata: %s\nspec: {ports: [{port: 1}]}\n",
                 bad[i].meta);
        if (read_text(text, &notes) != LT_E_BAD || !has_note(&notes, bad[i].note))
            fail_msg("%s: %s", bad[i].meta, bad[i].note);
        lt_notes_fini(&notes);
    }
}

/* As much as Envoy takes, whatever its form in the manifest. */
static void a_body_has_a_megabyte_at_most(void **state)
{
    enum { MAX = 1 << 20 };
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool is_base64 = i >= 2, is_good = i % 2 == 0;
        struct lt_arena *arena = lt_arena_new(0, 0);
        char *body = lt_arena_bytes(arena, MAX + 1);
        memset(body, 'a', MAX + 1);
        lt_str text = lt_str_make(body, is_good ? MAX : MAX + 1);
        if (is_base64)
            text = lt_base64_encode(arena, text);
        struct lt_notes notes;
        lt_notes_init(&notes);
        lt_str object = lt_arena_printf(
            arena,
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n"
            "spec: {hosts: [a], http: [{directResponse: {status: 200, body: {%s: %.*s}}}]}\n",
            is_base64 ? "bytes" : "string", LT_STR_ARG(text));
        assert_int_equal(read_text(object.ptr, &notes), is_good ? LT_OK : LT_E_BAD);
        assert_int_equal(has_note(&notes, "spec.http[0].directResponse.body: expected a body of"),
                         !is_good);
        lt_notes_fini(&notes);
        lt_arena_free(&arena);
    }
}

static void what_istio_takes_is_taken(void **state)
{
    (void)state;
    static const struct bad good[] = {
        {"VirtualService",
         "{hosts: [a], http: [{match: [{headers: {x-a: {}}, withoutHeaders: {x-b: {regex: '*'}}}], route: [{destination: {host: x}}]}]}",
         NULL},
        {"VirtualService",
         "{hosts: ['*'], gateways: [ns/g], http: [{redirect: {derivePort: FROM_REQUEST_PORT}}]}",
         NULL},
        {"VirtualService", "{http: [{route: [{destination: {host: x}}]}]}", NULL},
        {"VirtualService",
         "{hosts: [1.2.3.4], tls: [{match: [{sniHosts: [a]}], route: [{destination: {host: x}}]}]}",
         NULL},
        {"DestinationRule",
         "{host: '*', trafficPolicy: {tls: {mode: 3}, connectionPool: {tcp: {idleTimeout: 0s}}}}",
         NULL},
        {"Gateway",
         "{selector: {istio: x}, servers: [{port: {number: 80, name: h, protocol: http}, hosts: [./a.b, '*/*', '*']}]}",
         NULL},
        {"Service", "{type: ExternalName, externalName: a.example}", NULL},
        {"Service",
         "{clusterIP: None, ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]}",
         NULL},
        {"PeerAuthentication", "{}", NULL},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(good); i++) {
        struct lt_notes notes;
        lt_notes_init(&notes);
        char line[2048] = "";
        lt_rc rc = read_spec(good[i].kind, good[i].spec, &notes);
        if (notes.vec.count > 0)
            lt_note_format(lt_notes_at(&notes, 0), line, sizeof(line));
        if (rc != LT_OK)
            fail_msg("%s: %s", good[i].spec, line);
        lt_notes_fini(&notes);
    }
}

static void check_table(const struct lt_schema *schema)
{
    size_t count = 0;
    const struct lt_field *fields = schema->fields(&count);
    for (size_t i = 0; i < count; i++) {
        assert_true(fields[i].type == LT_FIELD_NONE ||
                    fields[i].offset >= sizeof(struct lt_message_head));
        assert_true(fields[i].offset < schema->size);
        assert_non_null(fields[i].help);
        if (fields[i].type == LT_FIELD_SUB || fields[i].type == LT_FIELD_SUBS ||
            fields[i].type == LT_FIELD_SUB_MAP)
            check_table(fields[i].sub);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(fields[i].name, fields[j].name);
    }
}

static void tables_are_sound(void **state)
{
    (void)state;
    for (lt_kind_id id = 0; id < LT_KIND_COUNT; id++)
        check_table(lt_kind_get(id)->schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mistake_is_named),
        cmocka_unit_test(a_body_has_a_megabyte_at_most),
        cmocka_unit_test(a_mistake_stays_where_it_is),
        cmocka_unit_test(names_are_those_of_kubernetes),
        cmocka_unit_test(what_istio_takes_is_taken),
        cmocka_unit_test(tables_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
