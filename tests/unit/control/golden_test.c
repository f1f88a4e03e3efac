/*
 * golden_test.c - small meshes and what their proxies are sent, as files that a person can read:
 * golden/NAME.yaml holds manifests, and between them documents like
 *
 *   expect: CDS outbound|80||web.shop.svc.cluster.local   # a type and a name
 *   node: {type: router, name: edge-1, ...}               # of whom; default: web-1 of shop
 *   is: {lb_policy: LEAST_REQUEST, metadata: null, ...}   # what of it matters
 *
 * Of a mapping only the members that are named are looked at, and null says that one isn't there. A
 * list is as long as here. `is: null`: there is no such resource. All manifests of a file are one
 * mesh, wherever they stand in it. GOLDEN=NAME prints what the file's expectations are compared to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "control/translate.h"
#include "model/load.h"
#include "wire/json.h"
#include "wire/pbjson.h"
#include "wire/proto/cluster.pb-c.h"
#include "wire/proto/endpoint.pb-c.h"
#include "wire/proto/istio_nds.pb-c.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/proto/route.pb-c.h"
#include "wire/yaml.h"

struct golden {
    const char *name;
    struct lt_arena *arena;
    struct lt_ads_pool pool;
    struct lt_model *model;
    size_t failures;
    bool is_printed;
};

static const char *text_of(struct golden *g, const struct lt_doc *doc)
{
    struct lt_buf buf;
    struct lt_json_writer w;
    if (doc == NULL)
        return "nothing";
    lt_buf_init(&buf, 16 << 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_json_doc(&w, doc);
    const char *text = lt_arena_strz(g->arena, lt_buf_str(&buf));
    lt_buf_fini(&buf);
    return text;
}

/* ---- comparing ---- */

static void differ(struct golden *g, const char *at, const struct lt_doc *wanted,
                   const struct lt_doc *got)
{
    print_error("golden/%s.yaml:%u: %s\n  expected %.600s\n  got      %.600s\n", g->name,
                wanted->line, at, text_of(g, wanted), text_of(g, got));
    g->failures++;
}

static const char *join(struct golden *g, const char *path, const char *fmt, ...) LT_PRINTF(3, 4);

static const char *join(struct golden *g, const char *path, const char *fmt, ...)
{
    char step[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(step, sizeof(step), fmt, args);
    va_end(args);
    return lt_arena_printf(g->arena, "%s%s", path, step).ptr;
}

static void compare(struct golden *g, const char *path, const struct lt_doc *wanted,
                    const struct lt_doc *got)
{
    double a = 0, b = 0;
    if (wanted->kind == LT_DOC_NULL) {
        if (got != NULL)
            differ(g, path, wanted, got);
        return;
    }
    bool is_number = got != NULL && lt_doc_is_number(wanted, &a) && lt_doc_is_number(got, &b);
    if (is_number ? a != b : got == NULL || got->kind != wanted->kind) {
        differ(g, path, wanted, got);
    } else if (wanted->kind == LT_DOC_OBJECT) {
        for (uint32_t i = 0; i < wanted->count; i++) {
            lt_str key = wanted->members[i].key;
            compare(g, join(g, path, ".%.*s", LT_STR_ARG(key)), &wanted->members[i].value,
                    lt_doc_find(got, key));
        }
    } else if (wanted->kind == LT_DOC_ARRAY) {
        if (wanted->count != got->count)
            differ(g, path, wanted, got);
        for (uint32_t i = 0; i < wanted->count && i < got->count; i++)
            compare(g, join(g, path, "[%u]", i), &wanted->items[i], &got->items[i]);
    } else if (!is_number && !lt_doc_eq(wanted, got)) {
        differ(g, path, wanted, got);
    }
}

/* ---- what is sent ---- */

static lt_str member(const struct lt_doc *doc, const char *key, lt_str otherwise)
{
    lt_str value = lt_doc_string(lt_doc_findz(doc, key));
    return value.ptr != NULL ? value : otherwise;
}

static struct cp_node read_node(struct golden *g, const struct lt_doc *doc)
{
    struct cp_node node = {
        .type = lt_str_eqz(member(doc, "type", LT_STR("")), "router") ? CP_NODE_ROUTER
                                                                      : CP_NODE_SIDECAR,
        .extensions = lt_str_eqz(member(doc, "extensions", LT_STR("")), "none") ? 0 : CP_EXT_ALL,
        .id = LT_STR("x"),
        .ip = member(doc, "ip", LT_STR("10.1.0.1")),
        .name = member(doc, "name", LT_STR("web-1")),
        .ns = member(doc, "ns", LT_STR("shop")),
        .cluster_id = LT_STR("Kubernetes"),
        .canonical_name = LT_STR("web"),
        .canonical_revision = LT_STR("v1"),
        .locality = {member(doc, "region", LT_STR("")), member(doc, "zone", LT_STR("")),
                     LT_STR("")}};
    lt_str capture = member(doc, "capture", LT_STR(""));
    node.capture = lt_str_eqz(capture, "TPROXY") ? CP_CAPTURE_TPROXY
                   : lt_str_eqz(capture, "NONE") ? CP_CAPTURE_NONE
                                                 : CP_CAPTURE_REDIRECT;
    const struct lt_doc *labels = lt_doc_findz(doc, "labels");
    node.labels.items = lt_arena_make_n(g->arena, struct lt_kv, labels != NULL ? labels->count : 0);
    for (uint32_t i = 0; labels != NULL && i < labels->count; i++)
        node.labels.items[node.labels.count++] = (struct lt_kv){labels->members[i].key,
                                                                labels->members[i].value.string};
    return node;
}

static const struct lt_doc *to_doc(struct golden *g, cp_type type,
                                   const struct lt_ads_resource *resource)
{
    static const ProtobufCMessageDescriptor *const descriptors[CP_TYPE_COUNT] = {
        [CP_TYPE_CDS] = &xds__cluster__descriptor,
        [CP_TYPE_EDS] = &xds__cluster_load_assignment__descriptor,
        [CP_TYPE_LDS] = &xds__listener__descriptor,
        [CP_TYPE_RDS] = &xds__route_configuration__descriptor,
        [CP_TYPE_NDS] = &istio__name_table__descriptor};
    void *message = NULL;
    const struct lt_doc *doc = NULL;
    struct lt_buf buf;
    struct lt_json_writer w;
    assert_int_equal(lt_pb_unpack(g->arena, descriptors[type], lt_ads_resource_value(resource),
                                  NULL, &message, NULL),
                     LT_OK);
    lt_buf_init(&buf, 16 << 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_pbjson_write(&w, g->arena, message, NULL);
    assert_int_equal(lt_json_writer_finish(&w), LT_OK);
    assert_int_equal(
        lt_json_parse(g->arena, lt_arena_str(g->arena, lt_buf_str(&buf)), NULL, &doc, NULL), LT_OK);
    lt_buf_fini(&buf);
    return doc;
}

static void check(struct golden *g, const struct lt_doc *doc)
{
    lt_str name = lt_doc_string(lt_doc_findz(doc, "expect")), word = LT_STR("");
    const struct lt_doc *wanted = lt_doc_findz(doc, "is");
    struct cp_node node = read_node(g, lt_doc_findz(doc, "node"));
    cp_type type = 0;
    lt_str_split(&name, ' ', &word);
    while (type < CP_TYPE_COUNT && !lt_str_eqz(word, cp_type_name(type)))
        type++;
    assert_true(type < CP_TYPE_COUNT && wanted != NULL &&
                (name.len > 0 || type == CP_TYPE_NDS)); /* which has none */
    struct cp_resources *set = cp_translate(&g->pool, g->model, &node, type);
    const struct lt_ads_resource *resource = cp_resources_find(set, name);
    const struct lt_doc *got = resource != NULL ? to_doc(g, type, resource) : NULL;
    if (g->is_printed)
        printf("# %.*s %.*s: %s\n", LT_STR_ARG(word), LT_STR_ARG(name), text_of(g, got));
    else
        compare(g, join(g, "", "%.*s %.*s", LT_STR_ARG(word), LT_STR_ARG(name)), wanted, got);
    cp_resources_unref(&set);
}

/* ---- a file ---- */

static void build(struct golden *g, lt_str manifests)
{
    struct lt_manifests *m = lt_manifests_new();
    size_t count = 0;
    const struct lt_notes *notes = NULL;
    char line[2048];
    lt_manifests_put(m, LT_STR("golden.yaml"), manifests);
    const struct lt_object *const *objects = lt_manifests_objects(m, &count, &notes);
    for (size_t i = 0; i < notes->vec.count; i++) {
        if (lt_notes_at(notes, i)->level == LT_NOTE_ERROR)
            fail_msg("%s", lt_note_format(lt_notes_at(notes, i), line, sizeof(line)));
    }
    g->model = lt_model_build(&(struct lt_model_input){.objects = objects, .count = count}, NULL);
    lt_manifests_free(&m);
}

/* Expectations are taken out of the text for the manifests: there are none of their kind. */
static void read_file(struct golden *g, lt_str text, struct lt_vec *expectations)
{
    struct lt_yaml_split split = lt_yaml_split_init(text);
    struct lt_yaml_part part;
    struct lt_buf manifests;
    struct lt_err err = {0};
    lt_buf_init(&manifests, 1 << 20);
    while (lt_yaml_split_next(&split, &part)) {
        const struct lt_doc *doc = NULL;
        if (lt_yaml_parse(g->arena, part, NULL, &doc, &err) != LT_OK)
            fail_msg("golden/%s.yaml: %s", g->name, err.text);
        if (lt_doc_findz(doc, "expect") != NULL) {
            lt_vec_push(expectations, (void *)doc);
        } else {
            lt_buf_add(&manifests, LT_STR("---\n"));
            lt_buf_add(&manifests, part.text);
            lt_buf_add(&manifests, LT_STR("\n"));
        }
    }
    build(g, lt_buf_str(&manifests));
    lt_buf_fini(&manifests);
}

static void run(const char *name)
{
    const char *root = getenv("LATEEN_SOURCE_ROOT"), *printed = getenv("GOLDEN");
    char path[4096], *text = NULL;
    size_t len = 0;
    struct lt_err err = {0};
    struct lt_vec expectations = {0};
    struct golden g = {.name = name,
                       .arena = lt_arena_new(1 << 16, 0),
                       .is_printed = printed != NULL && strcmp(printed, name) == 0};
    snprintf(path, sizeof(path), "%s/tests/unit/control/golden/%s.yaml", root != NULL ? root : ".",
             name);
    if (lt_manifest_read_file(path, &text, &len, &err) != LT_OK)
        fail_msg("%s", err.text);
    lt_ads_pool_init(&g.pool);
    read_file(&g, lt_str_make(text, len), &expectations);
    assert_true(expectations.count > 0);
    for (size_t i = 0; i < expectations.count; i++)
        check(&g, expectations.items[i]);
    lt_vec_fini(&expectations);
    lt_model_unref(&g.model);
    lt_ads_pool_fini(&g.pool);
    lt_arena_free(&g.arena);
    free(text);
    assert_int_equal(g.failures, 0);
}

static void one_file(void **state)
{
    run(*state);
}

#define GOLDEN(name) \
    { \
        name, one_file, NULL, NULL, (void *)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        GOLDEN("clusters"),     GOLDEN("cluster_tls"), GOLDEN("endpoints"),   GOLDEN("listeners"),
        GOLDEN("inbound"),      GOLDEN("names"),       GOLDEN("route_names"), GOLDEN("route_match"),
        GOLDEN("route_action"), GOLDEN("gateway"),     GOLDEN("mesh_config"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
