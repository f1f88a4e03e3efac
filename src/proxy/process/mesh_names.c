/*
 * proxy/process/mesh_names.c - one stream with one type.
 */
#include "proxy/process/mesh_names.h"

#include <stdlib.h>

#include "proxy/agent/settings.h"
#include "proxy/xds/xds.h"
#include "wire/pb.h"
#include "wire/pbjson.h"
#include "wire/proto/core.pb-c.h"

struct px_mesh_names {
    struct px_mesh_names_opts opts;
    struct lt_arena *arena;          /* owned; of the node */
    struct lt_grpc_channel *channel; /* borrowed; NULL: none yet */
    struct px_xds *xds;              /* owned */
};

static struct lt_grpc_channel *channel_of(void *ctx)
{
    return ((struct px_mesh_names *)ctx)->channel;
}

static size_t metadata_of(void *ctx, struct lt_arena *arena, struct lt_grpc_metadata *out,
                          size_t max)
{
    LT_ASSERT(max >= PX_AGENT_METADATA_MAX);
    return px_agent_metadata(((struct px_mesh_names *)ctx)->opts.agent, arena, out);
}

static void on_open(void *ctx LT_UNUSED)
{
}

static void on_connected(void *ctx LT_UNUSED, bool is_connected LT_UNUSED)
{
}

static void before_send(void *ctx LT_UNUSED, bool with_answers LT_UNUSED)
{
}

static void on_update(void *ctx, const struct lt_ads_update *update)
{
    struct px_mesh_names *names = ctx;
    struct lt_ads_client *client = px_xds_client(names->xds);
    struct lt_err err = {0};
    lt_rc rc = LT_OK;
    for (size_t i = 0; i < update->resource_count && rc == LT_OK; i++)
        rc = px_dns_proxy_set_table(names->opts.dns, update->resources[i].value, &err);
    if (rc == LT_OK) {
        lt_ads_client_ack(client, update->ticket);
        return;
    }
    lt_log_warn(&lt_loop_env(names->opts.loop)->log, "names: refused: %s", err.text);
    lt_ads_client_nack(client, update->ticket, lt_str_of(err.text), &update->resources[0].name, 1);
}

static lt_rc make_node(struct px_mesh_names *names, lt_str *ret_node, struct lt_err *err)
{
    Xds__Node *node = NULL;
    struct lt_doc doc = px_agent_node_doc(names->arena, px_agent_settings(names->opts.agent));
    LT_TRY(lt_pbjson_read(names->arena, &doc, &xds__node__descriptor, NULL, &node, err));
    *ret_node = lt_pb_pack(names->arena, node);
    return LT_OK;
}

lt_rc px_mesh_names_new(const struct px_mesh_names_opts *opts, struct px_mesh_names **ret_names,
                        struct lt_err *err)
{
    struct px_mesh_names *names = lt_new(struct px_mesh_names);
    names->opts = *opts;
    names->arena = lt_arena_new(4096, 0);
    struct px_xds_opts xds = {.loop = opts->loop,
                              .env = lt_loop_env(opts->loop),
                              .method = LT_ADS_DELTA_METHOD,
                              .what = "names",
                              .channel = channel_of,
                              .metadata = metadata_of,
                              .on_open = on_open,
                              .on_update = on_update,
                              .before_send = before_send,
                              .on_connected = on_connected,
                              .ctx = names};
    lt_rc rc = make_node(names, &xds.node, err);
    if (rc != LT_OK) {
        px_mesh_names_free(&names);
        return rc;
    }
    names->xds = px_xds_new(&xds);
    (void)lt_ads_client_watch(px_xds_client(names->xds), LT_STR(LT_ADS_NAME_TABLE), true);
    *ret_names = names;
    return LT_OK;
}

void px_mesh_names_free(struct px_mesh_names **pointer)
{
    struct px_mesh_names *names = *pointer;
    *pointer = NULL;
    if (names == NULL)
        return;
    if (names->xds != NULL)
        px_xds_free(&names->xds);
    lt_arena_free(&names->arena);
    free(names);
}

void px_mesh_names_connect(struct px_mesh_names *names, struct lt_grpc_channel *channel)
{
    names->channel = channel;
    px_xds_start(names->xds);
}
