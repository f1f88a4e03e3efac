/*
 * bench/micro/rbac.c - what authorization costs a request: 1, 100 and 1000 policies of the shapes
 * that a mesh has, in ns. The first number is of a request that no policy matches, the second of one
 * that the last policy matches.
 * Usage: bench_rbac [rounds]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "proxy/compile/compile.h"
#include "proxy/filter/rbac.h"
#include "wire/pbjson.h"
#include "wire/proto/listener.pb-c.h"
#include "wire/yaml.h"

static const struct {
    const char *name;
    const char *policy; /* %d: its number */
} shapes[] = {
    {"exact principal, path prefix",
     "{permissions: [{and_rules: {rules: [{or_rules: {rules: [{url_path: {path: {prefix: '/api/%d/'}}}]}}]}}],"
     " principals: [{and_ids: {ids: [{or_ids: {ids: [{authenticated: {principal_name: {exact: "
     "'spiffe://cluster.local/ns/shop/sa/caller-%d'}}}]}}]}}]}"},
    {"namespace, method, exact path",
     "{permissions: [{and_rules: {rules: [{or_rules: {rules: [{header: {name: ':method', string_match: {exact: GET}}}]}},"
     " {or_rules: {rules: [{url_path: {path: {exact: '/api/%d/list'}}}]}}]}}],"
     " principals: [{and_ids: {ids: [{or_ids: {ids: [{authenticated: {principal_name: {safe_regex: "
     "{regex: '.*/ns/team-%d/.*'}}}}]}}]}}]}"},
    {"namespace only",
     "{permissions: [{and_rules: {rules: [{any: true}]}}],"
     " principals: [{and_ids: {ids: [{or_ids: {ids: [{authenticated: {principal_name: {safe_regex: "
     "{regex: '.*/ns/team-%d-%d/.*'}}}}]}}]}}]}"},
};

static lt_str make_yaml(struct lt_arena *arena, const char *shape, int count)
{
    struct lt_buf out;
    lt_buf_init(&out, 64 << 20);
    lt_buf_addf(
        &out,
        "{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 1}}, filter_chains: [{filters: ["
        "{name: hcm, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, rds: {route_config_name: r, config_source: {ads: {}}}, http_filters: ["
        "{name: rbac, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, "
        "rules: {policies: {");
    for (int i = 0; i < count; i++) {
        lt_buf_addf(&out, "%s'ns[shop]-policy[%05d]-rule[0]': ", i > 0 ? ", " : "", i);
        lt_buf_addf(&out, shape, i, i);
    }
    lt_buf_addf(
        &out,
        "}}}}, {name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}"
        "]}}]}]}");
    lt_str text = lt_arena_str(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return text;
}

static struct px_resource *compile(const char *shape, int count)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct px_tls_slots *slots = px_tls_slots_new();
    struct lt_err err = {0};
    const struct lt_doc *doc = NULL;
    void *message = NULL;
    struct px_resource *made = NULL;
    if (lt_yaml_parse(arena, lt_yaml_whole(make_yaml(arena, shape, count)), NULL, &doc, &err) !=
            LT_OK ||
        lt_pbjson_read(arena, doc, &xds__listener__descriptor, NULL, &message, &err) != LT_OK ||
        px_conf_compile(PX_LISTENER, LT_STR_NULL, LT_STR_NULL, lt_pb_pack(arena, message), slots,
                        &made, &err) != LT_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    px_tls_slots_free(&slots);
    lt_arena_free(&arena);
    return made;
}

static double measure(const struct px_rbac *rbac, const char *uri, const char *path, bool expected,
                      int rounds)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_headers headers;
    struct lt_san san = {LT_SAN_URI, lt_str_of(uri)};
    struct lt_cert cert = {.sans = &san, .san_count = 1};
    struct lt_addr addr;
    struct timespec from, to;
    const struct px_rbac_policy *policy = NULL;
    lt_headers_init(&headers, arena, 0, 0);
    LT_ASSERT(lt_addr_parse(LT_STR("10.0.0.1"), 8080, &addr) == LT_OK);
    struct px_request_facts http = {
        .method = LT_STR("GET"), .path = lt_str_of(path), .headers = &headers};
    struct px_rbac_facts facts = {.http = &http,
                                  .path = http.path,
                                  .destination = &addr,
                                  .direct_remote = &addr,
                                  .remote = &addr,
                                  .is_tls = true,
                                  .peer = &cert};
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < rounds; i++)
        LT_ASSERT(px_rbac_allows(rbac, &facts, &policy) == expected);
    clock_gettime(CLOCK_MONOTONIC, &to);
    lt_arena_free(&arena);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / rounds;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 200000;
    static const int counts[] = {1, 100, 1000};
    for (size_t s = 0; s < LT_ARRAY_LEN(shapes); s++) {
        for (size_t c = 0; c < LT_ARRAY_LEN(counts); c++) {
            int last = counts[c] - 1;
            struct px_resource *made = compile(shapes[s].policy, counts[c]);
            const struct px_listener_conf *listener = (const struct px_listener_conf *)made;
            const struct px_rbac_filter *filter = listener->chains[0].hcm->filters[0].conf;
            char uri[128], path[128];
            snprintf(uri, sizeof(uri),
                     s == 0   ? "spiffe://cluster.local/ns/shop/sa/caller-%d"
                     : s == 1 ? "spiffe://cluster.local/ns/team-%d/sa/a"
                              : "spiffe://cluster.local/ns/team-%d-%d/sa/a",
                     last, last);
            snprintf(path, sizeof(path), "/api/%d/list", last);
            double none = measure(filter->rules, "spiffe://cluster.local/ns/shop/sa/caller-x",
                                  "/other", false, rounds / counts[c] + 1);
            double one = measure(filter->rules, uri, path, true, rounds / counts[c] + 1);
            printf("%-32s %5d policies: %9.0f ns, %9.0f ns\n", shapes[s].name, counts[c], none,
                   one);
            px_resource_unref(&made);
        }
    }
    return 0;
}
