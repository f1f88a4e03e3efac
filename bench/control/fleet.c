/*
 * bench/control/fleet.c - many sidecars at once, as far as a control plane sees them: each has its
 * own connection, its own delta ADS stream, takes everything, acknowledges everything.
 * Usage: bench_fleet PORT COUNT ROUTE...
 * Prints a line when all of them have their clusters, endpoints, listeners and the named routes:
 *     ready <monotonic seconds> <bytes of responses>
 * and one each time that all of them got an endpoint response after that:
 *     endpoints <monotonic seconds> <bytes since the line before>
 * Ends at the end of its standard input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "http/grpc_client.h"
#include "wire/ads.h"
#include "wire/proto/core.pb-c.h"
#include "wire/struct.h"

enum { REQUEST_BYTES_MAX = 16 << 20, ROUTES_MAX = 16, WINDOW_BYTES = 1 << 20 };

struct fleet {
    struct lt_env env;
    struct lt_loop *loop;
    struct lt_io input;
    struct sidecar *sidecars;
    size_t count;
    size_t ready_count;
    size_t served_count; /* got endpoints since the last line */
    uint64_t bytes;
    lt_str routes[ROUTES_MAX];
    size_t route_count;
};

struct sidecar {
    struct fleet *fleet;
    struct lt_grpc_channel *channel;
    struct lt_grpc_call *call;
    struct lt_ads_client *client;
    struct lt_ads_watch *clusters, *endpoints, *listeners, *routes;
    bool has_routes, has_endpoints, is_ready, is_served;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_fleet: %s\n", what);
    exit(1);
}

static double seconds(const struct fleet *fleet)
{
    return (double)lt_env_mono_ns(&fleet->env) / (double)LT_NS_PER_S;
}

static void flush(struct sidecar *s)
{
    struct lt_buf request;
    lt_rc rc = LT_OK;
    lt_buf_init(&request, REQUEST_BYTES_MAX);
    while ((rc = lt_ads_client_next(s->client, &request)) == LT_OK) {
        if (lt_grpc_call_send(s->call, lt_buf_str(&request)) != LT_OK)
            die("the stream takes no request");
        lt_buf_clear(&request, REQUEST_BYTES_MAX);
    }
    lt_buf_fini(&request);
}

/* As a sidecar does it: endpoints and listeners only once there are clusters. */
static void follow(struct sidecar *s, const struct lt_ads_update *update)
{
    for (size_t i = 0; i < update->resource_count && update->watch == s->clusters; i++) {
        lt_str name = update->resources[i].name;
        if (lt_str_starts(name, LT_STR("outbound|")) &&
            lt_ads_watch_subscribe(s->endpoints, name) != LT_OK)
            die("too many names");
    }
    for (size_t i = 0; i < s->fleet->route_count && update->watch == s->listeners; i++) {
        if (lt_ads_watch_subscribe(s->routes, s->fleet->routes[i]) != LT_OK)
            die("too many names");
    }
    if (update->watch == s->clusters)
        s->listeners = lt_ads_client_watch(s->client, LT_STR(LT_ADS_LISTENER), true);
    s->has_routes |= update->watch == s->routes;
    s->has_endpoints |= update->watch == s->endpoints;
}

static void note_progress(struct sidecar *s, bool has_endpoints)
{
    struct fleet *fleet = s->fleet;
    if (s->is_ready && has_endpoints && fleet->ready_count == fleet->count && !s->is_served) {
        s->is_served = true;
        if (++fleet->served_count < fleet->count)
            return;
        printf("endpoints %.6f %llu\n", seconds(fleet), (unsigned long long)fleet->bytes);
        for (size_t i = 0; i < fleet->count; i++)
            fleet->sidecars[i].is_served = false;
        fleet->served_count = fleet->bytes = 0;
    } else if (!s->is_ready && s->has_routes && s->has_endpoints) {
        s->is_ready = true;
        if (++fleet->ready_count < fleet->count)
            return;
        printf("ready %.6f %llu\n", seconds(fleet), (unsigned long long)fleet->bytes);
        fleet->bytes = 0;
    }
}

static void on_message(struct lt_grpc_call *call, lt_str message)
{
    struct sidecar *s = lt_grpc_call_user(call);
    const struct lt_ads_update *update = NULL;
    struct lt_err err = {0};
    s->fleet->bytes += message.len;
    lt_rc rc = lt_ads_client_feed(s->client, message, &update, &err);
    if (rc != LT_OK)
        die(err.text);
    follow(s, update);
    bool has_endpoints = update->watch == s->endpoints;
    lt_ads_client_ack(s->client, update->ticket);
    flush(s);
    note_progress(s, has_endpoints);
}

static void on_closed(struct lt_grpc_call *call, lt_grpc_code code, lt_str message,
                      bool is_unprocessed)
{
    (void)call;
    (void)code;
    (void)is_unprocessed;
    fprintf(stderr, "bench_fleet: a stream ended: %.*s\n", LT_STR_ARG(message));
    exit(1);
}

static const struct lt_grpc_call_handler handler = {.on_message = on_message,
                                                    .on_closed = on_closed};

static void set_text(struct lt_arena *arena, struct lt_doc *doc, const char *key, const char *value)
{
    lt_doc_set(arena, doc, lt_str_of(key), lt_doc_of_str(lt_arena_str(arena, lt_str_of(value))));
}

/* Lists no extension: it gets what istiod would send. */
static lt_str make_node(struct lt_arena *arena, size_t number)
{
    Xds__Node *node = lt_pb_new(arena, Xds__Node, xds__node);
    struct lt_doc metadata = lt_doc_of_object();
    char name[32], ip[32];
    snprintf(name, sizeof(name), "fleet-%zu", number);
    snprintf(ip, sizeof(ip), "10.250.%zu.%zu", number / 250, 1 + number % 250);
    node->id = lt_arena_printf(arena, "sidecar~%s~%s.ns-0~ns-0.svc.cluster.local", ip, name).ptr;
    node->cluster = "fleet.ns-0";
    set_text(arena, &metadata, "NAMESPACE", "ns-0");
    set_text(arena, &metadata, "NAME", name);
    set_text(arena, &metadata, "INSTANCE_IPS", ip);
    set_text(arena, &metadata, "CLUSTER_ID", "Kubernetes");
    node->metadata = lt_struct_from_doc(arena, &metadata);
    return lt_pb_pack(arena, node);
}

static void start(struct fleet *fleet, size_t number, uint16_t port)
{
    struct sidecar *s = &fleet->sidecars[number];
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_grpc_channel_opts opts = LT_GRPC_CHANNEL_OPTS_DEFAULT;
    const struct lt_ads_client_opts ads = {.node = make_node(arena, number)};
    const struct lt_grpc_call_opts call = {.path = LT_ADS_DELTA_METHOD, .wait_for_ready = true};
    s->fleet = fleet;
    if (lt_addr_parse(LT_STR("127.0.0.1"), port, &opts.addr) != LT_OK)
        die("no address");
    opts.authority = LT_STR("istiod.istio-system.svc:15010");
    opts.stream_window_bytes = opts.conn_window_bytes = WINDOW_BYTES;
    s->channel = lt_grpc_channel_new(fleet->loop, &opts, NULL, NULL);
    s->client = lt_ads_client_new(&ads);
    s->clusters = lt_ads_client_watch(s->client, LT_STR(LT_ADS_CLUSTER), true);
    s->endpoints = lt_ads_client_watch(s->client, LT_STR(LT_ADS_ENDPOINT), false);
    s->routes = lt_ads_client_watch(s->client, LT_STR(LT_ADS_ROUTE), false);
    s->call = lt_grpc_call_start(s->channel, &call, &handler, s);
    lt_ads_client_open(s->client);
    flush(s);
    lt_arena_free(&arena);
}

static void on_input(struct lt_io *io, uint32_t events)
{
    char room[256];
    (void)events;
    if (read(io->fd, room, sizeof(room)) <= 0)
        exit(0);
}

int main(int argc, char **argv)
{
    struct fleet fleet = {0};
    uint64_t port = 0, count = 0;
    if (argc < 3 || argc > 3 + ROUTES_MAX || lt_str_to_u64(lt_str_of(argv[1]), &port) != LT_OK ||
        lt_str_to_u64(lt_str_of(argv[2]), &count) != LT_OK || port > UINT16_MAX || count == 0 ||
        count > 10000)
        die("usage: bench_fleet PORT COUNT ROUTE...");
    setvbuf(stdout, NULL, _IOLBF, 0);
    lt_env_init(&fleet.env, "bench_fleet");
    fleet.loop = lt_loop_new(&fleet.env);
    fleet.count = count;
    fleet.sidecars = lt_calloc(count, sizeof(*fleet.sidecars));
    for (int i = 3; i < argc; i++)
        fleet.routes[fleet.route_count++] = lt_str_of(argv[i]);
    lt_io_init(&fleet.input, on_input);
    fleet.input.fd = STDIN_FILENO;
    lt_loop_io_set(fleet.loop, &fleet.input, EPOLLIN);
    for (size_t i = 0; i < count; i++)
        start(&fleet, i, (uint16_t)port);
    lt_loop_run(fleet.loop);
}
