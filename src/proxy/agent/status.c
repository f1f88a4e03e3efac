/*
 * proxy/agent/status.c - the status port. Start at: on_request().
 */
#include "proxy/agent/status.h"

#include "proxy/run/worker.h"

struct px_status {
    struct px_status_opts opts;
    struct lt_server *server; /* owned */
    uint16_t port;
    /* the answer goes out before the deed */
    struct lt_task quit;
    struct lt_task drain;
};

static void run_quit(struct lt_task *task)
{
    struct px_status *status = LT_CONTAINER_OF(task, struct px_status, quit);
    status->opts.hooks->on_quit(status->opts.ctx);
}

static void run_drain(struct lt_task *task)
{
    struct px_status *status = LT_CONTAINER_OF(task, struct px_status, drain);
    status->opts.hooks->on_drain(status->opts.ctx);
}

static bool refuse_strangers(struct lt_exchange *exchange)
{
    if (lt_addr_is_loopback(&exchange->peer))
        return false;
    lt_exchange_reply(exchange, 403, "text/plain; charset=utf-8",
                      LT_STR("Only requests from localhost are allowed\n"));
    return true;
}

/* POST from this host; then `task`. */
static void command(struct px_status *status, struct lt_exchange *exchange, struct lt_task *task)
{
    if (refuse_strangers(exchange))
        return;
    if (!lt_str_eqz(exchange->method, "POST")) {
        lt_exchange_reply(exchange, 405, "text/plain; charset=utf-8",
                          LT_STR("Method Not Allowed\n"));
        return;
    }
    lt_exchange_reply(exchange, 200, "text/plain; charset=utf-8", LT_STR("OK"));
    lt_loop_defer(status->opts.loop, task);
}

static void on_request(struct lt_exchange *exchange, void *ctx)
{
    struct px_status *status = ctx;
    const struct px_status_hooks *hooks = status->opts.hooks;
    if (lt_str_eqz(exchange->path, "/healthz/ready"))
        hooks->on_ready(status->opts.ctx, exchange);
    else if (lt_str_eqz(exchange->path, "/quitquitquit"))
        command(status, exchange, &status->quit);
    else if (lt_str_eqz(exchange->path, "/drain"))
        command(status, exchange, &status->drain);
    else if (lt_str_eqz(exchange->path, "/stats/prometheus") ||
             lt_str_eqz(exchange->path, "/metrics")) {
        if (!status->opts.is_metrics_local_only || !refuse_strangers(exchange))
            hooks->on_stats(status->opts.ctx, exchange);
    } else if (!px_probes_handle(status->opts.probes, exchange))
        lt_exchange_reply(exchange, 404, "text/plain; charset=utf-8",
                          LT_STR("404 page not found\n"));
}

lt_rc px_status_new(const struct px_status_opts *opts, struct px_status **ret_status,
                    struct lt_err *err)
{
    struct px_status *status = lt_new(struct px_status);
    struct lt_addr addr, local;
    status->opts = *opts;
    lt_task_init(&status->quit, run_quit);
    lt_task_init(&status->drain, run_drain);
    status->server = lt_server_new(opts->loop, NULL, on_request, status);
    lt_rc rc = lt_addr_parse(opts->is_v6 ? LT_STR("::") : LT_STR("0.0.0.0"), opts->port, &addr);
    LT_ASSERT(rc == LT_OK);
    rc = px_sockets_listen(opts->inherited, status->server, &addr, &local, err);
    if (rc != LT_OK) {
        px_status_free(&status);
        return rc;
    }
    status->port = lt_addr_port(&local);
    *ret_status = status;
    return LT_OK;
}

void px_status_free(struct px_status **status)
{
    struct px_status *dying = *status;
    *status = NULL;
    if (dying == NULL)
        return;
    lt_task_cancel(&dying->quit);
    lt_task_cancel(&dying->drain);
    lt_server_free(&dying->server);
    free(dying);
}

struct lt_server *px_status_server(const struct px_status *status)
{
    return status->server;
}

uint16_t px_status_port(const struct px_status *status)
{
    return status->port;
}
