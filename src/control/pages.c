/*
 * control/pages.c - one function a page.
 */
#include "control/pages.h"

#include "base/version.h"
#include "control/ca_metrics.h"

enum { METRICS_BYTES_MAX = 32 << 20, PAGE_BYTES_MAX = 64 << 20 };

static void show_ready(struct cp_pages *pages, struct lt_exchange *exchange)
{
    lt_exchange_reply(exchange, pages->is_stopping ? 503 : 200, NULL, LT_STR_NULL);
}

static void show_metrics(struct cp_pages *pages, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_metric_cursor cursor = {0};
    uint64_t up_ns = lt_env_mono_ns(pages->env) - pages->begin_ns;
    lt_gauge_set(pages->metrics->uptime_s, (double)up_ns / (double)LT_NS_PER_S);
    cp_ca_metrics_fill(pages->metrics->set, pages->ca, pages->keeper,
                       lt_env_wall_ns(pages->env) / (int64_t)LT_NS_PER_S);
    lt_buf_init(&out, METRICS_BYTES_MAX);
    lt_rc rc = lt_metric_render(pages->metrics->set, LT_METRIC_PROMETHEUS, NULL, NULL, &cursor,
                                METRICS_BYTES_MAX / 2, &out);
    lt_metric_cursor_fini(&cursor);
    lt_exchange_reply(exchange, rc == LT_EOF ? 200 : 500,
                      "text/plain; version=0.0.4; charset=utf-8", lt_buf_str(&out));
    lt_buf_fini(&out);
}

static void show_syncz(struct cp_pages *pages, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, PAGE_BYTES_MAX);
    lt_json_writer_init(&w, &out, 2);
    cp_discovery_syncz(pages->discovery, &w);
    bool is_whole = lt_json_writer_finish(&w) == LT_OK;
    lt_exchange_reply(exchange, is_whole ? 200 : 500, "application/json", lt_buf_str(&out));
    lt_buf_fini(&out);
}

static void show_root(struct cp_pages *pages, struct lt_exchange *exchange)
{
    lt_exchange_reply(exchange, 200, "application/x-pem-file", cp_ca_root_pem(pages->ca));
}

static void show_version(struct cp_pages *pages LT_UNUSED, struct lt_exchange *exchange)
{
    lt_exchange_reply(exchange, 200, "text/plain", LT_STR("lateen " LT_VERSION "\n"));
}

/* Who may look: everybody on this machine; others with a token of the system namespace. */
static bool may_look(struct cp_pages *pages, struct lt_exchange *exchange)
{
    struct cp_identity identity = {0};
    struct lt_err err = {0};
    if (lt_addr_is_loopback(&exchange->peer))
        return true;
    lt_str authorization = lt_headers_value_of(&exchange->headers, LT_STR("authorization"));
    int64_t now_s = lt_env_wall_ns(pages->env) / (int64_t)LT_NS_PER_S;
    if (cp_authn_check(pages->authn, exchange->arena, LT_STR_NULL, authorization, now_s, &identity,
                       &err) != LT_OK)
        lt_exchange_reply(exchange, 401, "text/plain", LT_STR("authentication required\n"));
    else if (!lt_str_eq(identity.ns, pages->system_ns))
        lt_exchange_reply(exchange, 403, "text/plain",
                          LT_STR("only for identities of the system namespace\n"));
    else
        return true;
    return false;
}

static const struct page {
    const char *path;
    bool is_private;
    void (*show)(struct cp_pages *pages, struct lt_exchange *exchange);
} table[] = {
    {"/ready", false, show_ready},
    {"/metrics", false, show_metrics},
    {"/version", false, show_version},
    {"/debug/syncz", true, show_syncz},
    {"/debug/root-cert.pem", false, show_root},
};

void cp_pages_handle(struct lt_exchange *exchange, void *ctx)
{
    struct cp_pages *pages = ctx;
    for (size_t i = 0; i < LT_ARRAY_LEN(table); i++) {
        if (!lt_str_eqz(exchange->path, table[i].path))
            continue;
        if (!table[i].is_private || may_look(pages, exchange))
            table[i].show(pages, exchange);
        return;
    }
    lt_exchange_reply(exchange, 404, "text/plain",
                      LT_STR("no such page; there are /ready /metrics /version /debug/syncz\n"));
}
