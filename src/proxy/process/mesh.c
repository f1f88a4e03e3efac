/*
 * proxy/process/mesh.c - `proxy sidecar` and `proxy router`: the agent, the control plane, and the
 * data path between them. The agent brings secrets and the way to the control plane; feeds.c asks
 * there for resources. With ProxyConfig.binaryPath a real Envoy is the data path, and this process
 * only its agent. Start at: px_mesh_run().
 */
#include <stdlib.h>

#include "proxy/agent/agent.h"
#include "proxy/agent/dns_proxy.h"
#include "proxy/agent/settings.h"
#include "proxy/process/mesh_names.h"
#include "proxy/process/program.h"
#include "proxy/start/node.h"
#include "wire/ads.h"

enum { COUNT_EVERY_MS = 1000 };

struct px_mesh {
    struct px_program *program; /* borrowed */
    struct px_agent *agent;
    struct lt_grpc_channel *upstream; /* the agent's; NULL until it is there */
    struct lt_arena *arena;           /* node bytes and facts */
    struct px_dns_proxy *dns;         /* owned; NULL: nobody asked for it */
    struct px_mesh_names *names;      /* owned; for it, with a real Envoy */
    bool is_stopping;
    struct lt_timer drain_timer; /* the end, or the next look whether anybody is left */
};

/* --- from the table's side --- */

/* The agent stands for the server of this cluster of its bootstrap. */
#define AGENT_SDS "sds-grpc"

static struct px_mesh *mesh_of(void *program)
{
    return ((struct px_program *)program)->mesh;
}

static lt_rc want_secret(void *ctx, const struct px_source *source, lt_str name)
{
    struct px_mesh *mesh = mesh_of(ctx);
    if (!lt_str_eqz(source->cluster, AGENT_SDS))
        return LT_E_NOT_FOUND;
    lt_rc rc = px_agent_want_secret(mesh->agent, name);
    if (rc != LT_OK)
        lt_log_warn(&mesh->program->env.log,
                    "secret '%.*s' cannot be had: %s; what needs it does not serve",
                    LT_STR_ARG(name), lt_rc_name(rc));
    return LT_OK;
}

static struct lt_grpc_channel *ads_channel(void *ctx)
{
    return mesh_of(ctx)->upstream;
}

static size_t ads_metadata(void *ctx, struct lt_arena *arena, struct lt_grpc_metadata *out,
                           size_t max)
{
    LT_ASSERT(max >= PX_AGENT_METADATA_MAX);
    return px_agent_metadata(mesh_of(ctx)->agent, arena, out);
}

static lt_rc take_names(void *ctx, lt_str message, struct lt_err *err)
{
    return px_dns_proxy_set_table(mesh_of(ctx)->dns, message, err);
}

static lt_rc take_proxy_config(void *ctx, lt_str message, struct lt_err *err)
{
    return px_agent_take_proxy_config(mesh_of(ctx)->agent, message, err);
}

/* --- from the agent --- */

static void on_secret(void *ctx, lt_str name, lt_str version, lt_str secret)
{
    struct px_mesh *mesh = ctx;
    px_feeds_give_secret(mesh->program->feeds, LT_STR(AGENT_SDS), name, version, secret);
}

static void on_upstream(void *ctx, struct lt_grpc_channel *channel)
{
    struct px_mesh *mesh = ctx;
    mesh->upstream = channel;
    if (mesh->program->feeds != NULL)
        px_feeds_connect(mesh->program->feeds);
    if (mesh->names != NULL)
        px_mesh_names_connect(mesh->names, channel);
}

static bool is_ready(void *ctx)
{
    struct px_mesh *mesh = ctx;
    bool has_names = mesh->dns == NULL || px_dns_proxy_has_table(mesh->dns);
    if (px_agent_runs_envoy(mesh->agent))
        return has_names; /* the rest is the agent's to know */
    return has_names && strcmp(px_program_state(mesh->program), "LIVE") == 0;
}

static void on_stats(void *ctx, struct lt_exchange *exchange, struct px_app_metrics *app)
{
    struct px_mesh *mesh = ctx;
    px_admin_prometheus(mesh->program->admin, exchange, px_agent_metrics(mesh->agent), app);
}

/* A sidecar's application calls others until its own end. */
static void drain(struct px_mesh *mesh, bool keeps_listeners)
{
    struct px_drain_order order = {
        .scope = px_agent_settings(mesh->agent)->is_router ? PX_SCOPE_ALL : PX_SCOPE_INBOUND,
        .is_graceful = true,
        .keeps_listeners = keeps_listeners};
    mesh->program->is_draining = true;
    px_program_drain(mesh->program, &order);
}

static void on_drain(void *ctx)
{
    drain(ctx, true);
}

static void on_agent_exit(void *ctx, int code)
{
    struct px_mesh *mesh = ctx;
    mesh->program->status = code;
    lt_loop_stop(mesh->program->loop);
}

static const struct px_agent_hooks hooks = {
    .on_secret = on_secret,
    .on_upstream = on_upstream,
    .is_ready = is_ready,
    .on_stats = on_stats,
    .on_drain = on_drain,
    .on_exit = on_agent_exit,
};

/* --- the end --- */

static void on_counted(void *ctx, uint64_t count)
{
    struct px_mesh *mesh = ctx;
    if (count == 0)
        px_program_stop(mesh->program, EXIT_SUCCESS);
    else if (!mesh->program->is_stopping)
        lt_loop_timer_set(mesh->program->loop, &mesh->drain_timer, COUNT_EVERY_MS * LT_NS_PER_MS);
}

static void on_drain_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_mesh *mesh = LT_CONTAINER_OF(timer, struct px_mesh, drain_timer);
    const struct px_agent_settings *settings = px_agent_settings(mesh->agent);
    const uint16_t own[] = {settings->health_port, settings->prometheus_port};
    if (settings->exits_on_zero_connections)
        px_workers_count_connections(mesh->program->workers, own, LT_ARRAY_LEN(own), on_counted,
                                     mesh);
    else
        px_program_stop(mesh->program, EXIT_SUCCESS);
}

/*
 * Not ready from now on, and each response says that its connection is over. Listeners stay open
 * meanwhile: that this Pod goes is heard by others a moment later, and until then they send
 * requests. With EXIT_ON_ZERO_ACTIVE_CONNECTIONS the end comes when nobody is left, else after
 * terminationDrainDuration, and then what is in hand still gets PX_STOP_DRAIN_MS.
 */
void px_mesh_stop(struct px_mesh *mesh)
{
    struct px_program *program = mesh->program;
    px_agent_stop(mesh->agent);
    if (px_agent_runs_envoy(mesh->agent))
        return;
    if (mesh->is_stopping || px_agent_is_drained(mesh->agent)) {
        px_program_stop(program, EXIT_SUCCESS);
        return;
    }
    mesh->is_stopping = true;
    drain(mesh, false);
    const struct px_agent_settings *settings = px_agent_settings(mesh->agent);
    uint64_t wait_ms = settings->exits_on_zero_connections ? settings->minimum_drain_ms
                                                           : settings->termination_drain_ms;
    lt_loop_timer_set(program->loop, &mesh->drain_timer, wait_ms * LT_NS_PER_MS);
}

void px_mesh_accept(struct px_mesh *mesh)
{
    if (mesh->dns != NULL)
        px_dns_proxy_accept(mesh->dns);
}

void px_mesh_leave(struct px_mesh *mesh)
{
    px_agent_leave(mesh->agent);
    if (mesh->dns != NULL)
        px_dns_proxy_leave(mesh->dns);
}

void px_mesh_add_sockets(const struct px_mesh *mesh, struct lt_vec *sockets)
{
    if (mesh->dns != NULL)
        px_dns_proxy_add_sockets(mesh->dns, sockets);
}

struct lt_server *px_mesh_status_server(const struct px_mesh *mesh)
{
    return px_agent_status_server(mesh->agent);
}

void px_mesh_free(struct px_mesh **pointer)
{
    struct px_mesh *mesh = *pointer;
    *pointer = NULL;
    if (mesh == NULL)
        return;
    lt_loop_timer_cancel(mesh->program->loop, &mesh->drain_timer);
    px_mesh_names_free(&mesh->names);
    px_dns_proxy_free(&mesh->dns);
    px_agent_free(&mesh->agent);
    lt_arena_free(&mesh->arena);
    free(mesh);
}

/* --- the start --- */

/* NULL: no process was before us. */
static struct lt_vec *inherited(struct px_program *program)
{
    return program->takeover.is_new ? &program->takeover.inherited : NULL;
}

static lt_rc start_dns(struct px_mesh *mesh, struct lt_metric_set *metrics, struct lt_err *err)
{
    const struct px_agent_settings *settings = px_agent_settings(mesh->agent);
    const struct px_dns_proxy_opts opts = {.loop = mesh->program->loop,
                                           .address = settings->dns_address,
                                           .namespace = settings->pod_namespace,
                                           .domain = settings->dns_domain,
                                           .resolv_path = settings->resolv_path.ptr,
                                           .asks_all = settings->dns_asks_all,
                                           .timeout_ns = (uint64_t)settings->dns_timeout_ns,
                                           .metrics = metrics,
                                           .inherited = inherited(mesh->program)};
    return px_dns_proxy_new(&opts, &mesh->dns, err);
}

static lt_rc start_data_path(struct px_mesh *mesh, struct lt_err *err)
{
    struct px_program *program = mesh->program;
    const struct px_agent_settings *settings = px_agent_settings(mesh->agent);
    lt_rc rc = px_bootstrap_load(px_agent_bootstrap(mesh->agent), program->table,
                                 &program->bootstrap, err);
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "the agent's bootstrap");
    px_node_facts_read(mesh->arena, settings->node_id, &settings->metadata, settings->is_router,
                       &program->node);
    program->node.cluster = settings->node_cluster;
    program->options.concurrency = settings->concurrency;
    program->options.drain_time_s = settings->drain_ms / 1000;
    program->options.drain_strategy = "immediate";
    struct px_feeds_opts feeds = {
        .ads_channel = ads_channel, .ads_metadata = ads_metadata, .want_secret = want_secret};
    size_t extras = 0;
    if (settings->serves_dns) {
        LT_TRY(start_dns(mesh, program->metrics, err));
        feeds.extras[extras++] = (struct px_feed_extra){LT_ADS_NAME_TABLE, take_names};
    }
    if (settings->takes_proxy_config)
        feeds.extras[extras] = (struct px_feed_extra){LT_ADS_PROXY_CONFIG, take_proxy_config};
    return px_program_start(program, &feeds, err);
}

/* Envoy has no DNS server: that is the agent's. */
static lt_rc start_beside_envoy(struct px_mesh *mesh, struct lt_err *err)
{
    if (!px_agent_settings(mesh->agent)->serves_dns)
        return LT_OK;
    LT_TRY(start_dns(mesh, px_agent_metrics(mesh->agent), err));
    const struct px_mesh_names_opts opts = {
        .loop = mesh->program->loop, .agent = mesh->agent, .dns = mesh->dns};
    return px_mesh_names_new(&opts, &mesh->names, err);
}

static lt_rc start(struct px_mesh *mesh, struct lt_err *err)
{
    struct px_program *program = mesh->program;
    struct px_agent_opts opts = {.loop = program->loop,
                                 .hooks = &hooks,
                                 .ctx = mesh,
                                 .is_router = program->options.mode == PX_MODE_ROUTER,
                                 .domain = program->options.domain,
                                 .log_level = program->options.proxy_log_level,
                                 .component_log_level = program->options.component_log_level,
                                 .concurrency = program->options.concurrency,
                                 .inherited = inherited(program)};
    LT_TRY(px_agent_new(&opts, &mesh->agent, err));
    LT_TRY(px_agent_runs_envoy(mesh->agent) ? start_beside_envoy(mesh, err)
                                            : start_data_path(mesh, err));
    return px_agent_start(mesh->agent, err);
}

int px_mesh_run(struct px_program *program)
{
    struct px_mesh *mesh = lt_new(struct px_mesh);
    struct lt_err err = {0};
    mesh->program = program;
    mesh->arena = lt_arena_new(4096, 0);
    lt_timer_init(&mesh->drain_timer, on_drain_timer);
    program->mesh = mesh;
    px_program_watch_signals(program);
    if (start(mesh, &err) != LT_OK) {
        lt_log_error(&program->env.log, "%s", err.text);
        return EXIT_FAILURE;
    }
    if (!px_agent_runs_envoy(mesh->agent))
        px_takeover_serve(program);
    lt_loop_run(program->loop);
    return program->status;
}
