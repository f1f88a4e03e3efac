/*
 * bench/micro/route.c - route tables with 10 to 100,000 virtual hosts: compiling one, and finding the
 * route of a request in it. Usage: bench_route [rounds].
 */
#include "base/env.h"
#include "micro.h"
#include "proxy/compile/compile.h"
#include "proxy/conf/route_match.h"
#include "proxy/table/table.h"
#include "wire/pb.h"
#include "wire/proto/route.pb-c.h"

enum { NAMES = 1024, DOMAINS = 4 };

/* What istiod makes of a Service: its names, short and full, and a route to its cluster. */
static Xds__VirtualHost *make_vhost(struct lt_arena *arena, size_t index)
{
    Xds__VirtualHost *vhost = lt_arena_make(arena, Xds__VirtualHost);
    Xds__Route *route = lt_arena_make(arena, Xds__Route);
    Xds__RouteMatch *match = lt_arena_make(arena, Xds__RouteMatch);
    Xds__RouteAction *action = lt_arena_make(arena, Xds__RouteAction);
    xds__virtual_host__init(vhost);
    xds__route__init(route);
    xds__route_match__init(match);
    xds__route_action__init(action);
    vhost->name = (char *)lt_arena_printf(arena, "svc-%zu.ns.svc.cluster.local:80", index).ptr;
    vhost->domains = (const char **)lt_arena_make_n(arena, char *, DOMAINS);
    static const char *const forms[DOMAINS] = {"svc-%zu.ns.svc.cluster.local", "svc-%zu.ns.svc",
                                               "svc-%zu.ns", "svc-%zu"};
    for (size_t i = 0; i < DOMAINS; i++) {
        char text[64];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof(text), forms[i], index);
#pragma GCC diagnostic pop
        vhost->domains[i] = lt_arena_strz(arena, lt_str_of(text));
    }
    vhost->n_domains = DOMAINS;
    match->path_specifier_case = XDS__ROUTE_MATCH__PATH_SPECIFIER_PREFIX;
    match->prefix = (char *)"/";
    action->cluster_specifier_case = XDS__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER;
    action->cluster =
        (char *)lt_arena_printf(arena, "outbound|80||svc-%zu.ns.svc.cluster.local", index).ptr;
    route->match = match;
    route->action_case = XDS__ROUTE__ACTION_ROUTE;
    route->route = action;
    vhost->routes = lt_arena_make_n(arena, Xds__Route *, 1);
    vhost->routes[0] = route;
    vhost->n_routes = 1;
    return vhost;
}

static lt_str pack(struct lt_arena *arena, size_t count)
{
    Xds__RouteConfiguration config = XDS__ROUTE_CONFIGURATION__INIT;
    config.name = (char *)"80";
    config.virtual_hosts = lt_arena_make_n(arena, Xds__VirtualHost *, count);
    config.n_virtual_hosts = count;
    for (size_t i = 0; i < count; i++)
        config.virtual_hosts[i] = make_vhost(arena, i);
    return lt_pb_pack(arena, &config.base);
}

static void find(const struct px_routes_conf *routes, const lt_str *names, size_t name_count,
                 long rounds, const char *what)
{
    struct lt_headers headers = {0};
    struct px_request_facts facts = {.method = LT_STR("GET"),
                                     .scheme = LT_STR("http"),
                                     .path = LT_STR("/"),
                                     .headers = &headers};
    uint64_t begin = micro_ns();
    for (long i = 0; i < rounds; i++) {
        facts.authority = names[(size_t)i * 7 % name_count];
        const struct px_vhost *vhost = px_route_find_vhost(routes, NULL, facts.authority);
        micro_use(vhost == NULL ? NULL : px_route_find(vhost, &facts));
    }
    micro_report(what, begin, micro_ns(), rounds);
}

static void run(size_t count, long rounds)
{
    struct lt_err err = {0};
    struct lt_arena *arena = lt_arena_new(1 << 20, 0);
    struct px_table *table = px_table_new();
    lt_str bytes = pack(arena, count);
    printf("%zu virtual hosts of %d domains, %zu bytes on the wire\n", count, DOMAINS, bytes.len);
    uint64_t begin = micro_ns();
    LT_ASSERT(px_table_put(table, PX_ROUTES, LT_STR("80"), LT_STR("1"), bytes, &err) == LT_OK);
    micro_report("compile, each", begin, micro_ns(), (long)count);
    const struct px_routes_conf *routes =
        (const struct px_routes_conf *)(const void *)px_table_find(table, PX_ROUTES, LT_STR("80"));
    lt_str known[NAMES], unknown[NAMES];
    for (size_t i = 0; i < NAMES; i++) {
        size_t at = i * 977 % count;
        known[i] = lt_arena_printf(arena, "svc-%zu.ns.svc.cluster.local", at);
        unknown[i] = lt_arena_printf(arena, "other-%zu.example.com", at);
    }
    LT_ASSERT(px_route_find_vhost(routes, NULL, known[1]) != NULL &&
              px_route_find_vhost(routes, NULL, unknown[1]) == NULL);
    find(routes, known, NAMES, rounds, "find a route");
    find(routes, unknown, NAMES, rounds, "find none");
    px_table_free(&table);
    lt_arena_free(&arena);
}

int main(int argc, char **argv)
{
    long rounds = micro_rounds(argc, argv, 1000000);
    static const size_t counts[] = {10, 1000, 100000};
    for (size_t i = 0; i < LT_ARRAY_LEN(counts); i++)
        run(counts[i], rounds);
    return 0;
}
