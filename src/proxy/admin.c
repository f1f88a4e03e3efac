/*
 * proxy/admin.c - admin pages. One function a page; the table of paths stands last.
 * Start at: px_admin_handle().
 */
#include "proxy/admin_priv.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/metric_carry.h"
#include "base/regex.h"
#include "base/version.h"
#include "http/url.h"
#include "proxy/admin_certs.h"
#include "wire/json.h"

enum { PART_BYTES = 64 * 1024 };

static void reply_text(struct lt_exchange *exchange, unsigned status, lt_str text)
{
    lt_exchange_reply(exchange, status, "text/plain; charset=UTF-8", text);
}

static void reply_json(struct lt_exchange *exchange, const struct lt_json_writer *w,
                       struct lt_buf *out)
{
    if (lt_json_writer_finish(w) == LT_OK)
        lt_exchange_reply(exchange, 200, "application/json", lt_buf_str(out));
    else
        reply_text(exchange, 500, LT_STR("the page is too large\n"));
    lt_buf_fini(out);
}

static bool wants_json(const struct lt_exchange *exchange)
{
    return lt_str_eqz(lt_url_query_get(exchange->query, "format", exchange->arena), "json");
}

static void json_member(struct lt_json_writer *w, const char *key, lt_str value)
{
    lt_json_key(w, lt_str_of(key));
    lt_json_str(w, value);
}

/* --- /ready, /server_info --- */

static void page_ready(struct px_admin *admin, struct lt_exchange *exchange)
{
    const char *state = admin->opts.state(admin->opts.ctx);
    lt_exchange_replyf(exchange, strcmp(state, "LIVE") == 0 ? 200 : 503, "%s\n", state);
}

static void page_server_info(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, PX_PAGE_BYTES_MAX);
    lt_json_writer_init(&w, &out, 1);
    uint64_t up_s = (lt_loop_now_ns(admin->opts.loop) - admin->started_ns) / LT_NS_PER_S;
    lt_json_object_open(&w);
    json_member(&w, "version", LT_STR("lateen/" LT_VERSION "/Clean/RELEASE/OpenSSL"));
    json_member(&w, "state", lt_str_of(admin->opts.state(admin->opts.ctx)));
    lt_json_key(&w, LT_STR("uptime_current_epoch"));
    lt_json_strf(&w, "%llus", (unsigned long long)up_s);
    lt_json_key(&w, LT_STR("uptime_all_epochs"));
    lt_json_strf(&w, "%llus", (unsigned long long)up_s);
    json_member(&w, "hot_restart_version", LT_STR("disabled"));
    lt_json_key(&w, LT_STR("command_line_options"));
    lt_json_object_open(&w);
    lt_json_key(&w, LT_STR("concurrency"));
    lt_json_uint(&w, admin->opts.options->concurrency);
    json_member(&w, "config_path", lt_str_of(admin->opts.options->config_path));
    lt_json_object_close(&w);
    lt_json_key(&w, LT_STR("node"));
    lt_json_object_open(&w);
    json_member(&w, "id", admin->opts.node_id);
    json_member(&w, "cluster", admin->opts.node_cluster);
    lt_json_object_close(&w);
    lt_json_object_close(&w);
    reply_json(exchange, &w, &out);
}

/* --- /listeners --- */

struct listener_page {
    struct lt_buf *out;
    struct lt_json_writer *w; /* NULL: text */
};

static void add_listener(void *ctx, const struct px_resource *serving,
                         const struct px_resource *warming LT_UNUSED, bool is_static LT_UNUSED)
{
    struct listener_page *page = ctx;
    char text[LT_ADDR_TEXT_MAX], ip[LT_ADDR_TEXT_MAX];
    if (serving == NULL)
        return;
    const struct px_listener_conf *conf = (const struct px_listener_conf *)serving;
    if (page->w == NULL) {
        lt_buf_addf(page->out, "%.*s::%.*s\n", LT_STR_ARG(conf->res.name),
                    LT_STR_ARG(lt_addr_format(&conf->addr, text)));
        return;
    }
    lt_json_object_open(page->w);
    json_member(page->w, "name", conf->res.name);
    lt_json_key(page->w, LT_STR("local_address"));
    lt_json_object_open(page->w);
    lt_json_key(page->w, LT_STR("socket_address"));
    lt_json_object_open(page->w);
    json_member(page->w, "address", lt_addr_format_ip(&conf->addr, ip));
    lt_json_key(page->w, LT_STR("port_value"));
    lt_json_uint(page->w, lt_addr_port(&conf->addr));
    lt_json_object_close(page->w);
    lt_json_object_close(page->w);
    lt_json_object_close(page->w);
}

static void page_listeners(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, PX_PAGE_BYTES_MAX);
    struct listener_page page = {&out, wants_json(exchange) ? &w : NULL};
    if (page.w == NULL) {
        px_table_each(admin->opts.table, PX_LISTENER, add_listener, &page);
        reply_text(exchange, 200, lt_buf_str(&out));
        lt_buf_fini(&out);
        return;
    }
    lt_json_writer_init(&w, &out, 1);
    lt_json_object_open(&w);
    lt_json_key(&w, LT_STR("listener_statuses"));
    lt_json_array_open(&w);
    px_table_each(admin->opts.table, PX_LISTENER, add_listener, &page);
    lt_json_array_close(&w);
    lt_json_object_close(&w);
    reply_json(exchange, &w, &out);
}

/* --- /certs --- */

static void page_certs(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, PX_PAGE_BYTES_MAX);
    lt_json_writer_init(&w, &out, 1);
    px_admin_write_certs(admin->opts.table, lt_env_wall_ns(admin->opts.env) / (int64_t)LT_NS_PER_S,
                         &w);
    reply_json(exchange, &w, &out);
}

/* --- /stats --- */

struct stats_page {
    struct lt_stream_source source;
    struct lt_exchange *exchange;
    struct px_admin *admin;
    const struct lt_metric_set *more; /* borrowed; added to the others; NULL */
    struct lt_metric_set *sum;        /* owned */
    struct lt_regex *filter;          /* owned; NULL: all */
    lt_metric_form form;
    struct lt_metric_cursor cursor;
};

static bool keep_stat(lt_str name, void *ctx)
{
    const struct stats_page *page = ctx;
    return page->filter == NULL || lt_regex_finds(page->filter, name);
}

static lt_rc produce_stats(struct lt_stream_source *source, struct lt_buf *out)
{
    struct stats_page *page = LT_CONTAINER_OF(source, struct stats_page, source);
    return lt_metric_render(page->sum, page->form, keep_stat, page, &page->cursor, PART_BYTES, out);
}

static void stats_done(struct lt_stream_source *source)
{
    struct stats_page *page = LT_CONTAINER_OF(source, struct stats_page, source);
    lt_metric_cursor_fini(&page->cursor);
    lt_metric_set_free(&page->sum);
    lt_regex_free(&page->filter);
    free(page);
}

static void on_metrics(void *ctx, struct lt_metric_set *sum, const struct lt_map *clusters)
{
    struct stats_page *page = ctx;
    page->sum = sum;
    px_members_add_stats(page->admin->opts.members, sum);
    px_admin_add_membership(page->admin, clusters, sum);
    if (page->admin->opts.main_metrics != NULL)
        lt_metric_set_merge(sum, page->admin->opts.main_metrics);
    if (page->more != NULL)
        lt_metric_set_merge(sum, page->more);
    if (page->admin->opts.carried != NULL)
        (void)!lt_metric_add_saved(sum, lt_buf_str(page->admin->opts.carried));
    page->source.produce = produce_stats;
    page->source.done = stats_done;
    lt_exchange_reply_stream(page->exchange, 200, "text/plain; version=0.0.4; charset=utf-8",
                             &page->source);
}

static void start_stats(struct px_admin *admin, struct lt_exchange *exchange, lt_metric_form form,
                        const struct lt_metric_set *more)
{
    struct lt_regex *filter = NULL;
    lt_str pattern = lt_url_query_get(exchange->query, "filter", exchange->arena);
    struct lt_err err = {0};
    if (pattern.len > 0 && lt_regex_new(pattern, &filter, &err) != LT_OK) {
        lt_exchange_replyf(exchange, 400, "Invalid re2 regex: %s\n", err.text);
        return;
    }
    struct stats_page *page = lt_new(struct stats_page);
    page->admin = admin;
    page->exchange = exchange;
    page->filter = filter;
    page->form = form;
    page->more = more;
    px_workers_collect_metrics(admin->opts.workers, on_metrics, page);
}

void px_admin_prometheus(struct px_admin *admin, struct lt_exchange *exchange,
                         const struct lt_metric_set *more)
{
    start_stats(admin, exchange, LT_METRIC_PROMETHEUS, more);
}

static void page_prometheus(struct px_admin *admin, struct lt_exchange *exchange)
{
    px_admin_prometheus(admin, exchange, NULL);
}

static void page_stats(struct px_admin *admin, struct lt_exchange *exchange)
{
    bool is_prometheus = lt_str_eqz(lt_url_query_get(exchange->query, "format", exchange->arena),
                                    "prometheus");
    start_stats(admin, exchange, is_prometheus ? LT_METRIC_PROMETHEUS : LT_METRIC_STATS, NULL);
}

/* --- what turns something --- */

static void page_logging(struct px_admin *admin, struct lt_exchange *exchange)
{
    lt_str level_name = lt_url_query_get(exchange->query, "level", exchange->arena);
    lt_log_level level = admin->opts.env->log.level;
    if (level_name.len > 0 && lt_log_level_parse(level_name, &level) != LT_OK) {
        lt_exchange_replyf(exchange, 400, "unknown logger level: %.*s\n", LT_STR_ARG(level_name));
        return;
    }
    admin->opts.env->log.level = level;
    lt_exchange_replyf(exchange, 200, "active loggers:\n  main: %s\n\n", lt_log_level_name(level));
}

static void page_quit(struct px_admin *admin, struct lt_exchange *exchange)
{
    reply_text(exchange, 200, LT_STR("OK\n"));
    admin->opts.quit(admin->opts.ctx);
}

static void page_fail(struct px_admin *admin, struct lt_exchange *exchange)
{
    admin->opts.fail_check(admin->opts.ctx, true);
    reply_text(exchange, 200, LT_STR("OK\n"));
}

static void page_ok(struct px_admin *admin, struct lt_exchange *exchange)
{
    admin->opts.fail_check(admin->opts.ctx, false);
    reply_text(exchange, 200, LT_STR("OK\n"));
}

/* A word of the query, with or without a value. */
static bool has_word(const struct lt_exchange *exchange, const char *name)
{
    lt_str rest = exchange->query, part, key;
    while (lt_str_split(&rest, '&', &part)) {
        if (lt_str_split(&part, '=', &key) && lt_str_eqz(key, name))
            return true;
    }
    return false;
}

static void page_drain(struct px_admin *admin, struct lt_exchange *exchange)
{
    admin->opts.drain_listeners(admin->opts.ctx, has_word(exchange, "inboundonly"),
                                has_word(exchange, "graceful"), has_word(exchange, "skip_exit"));
    reply_text(exchange, 200, LT_STR("OK\n"));
}

/* --- the table of paths --- */

static void page_help(struct px_admin *admin, struct lt_exchange *exchange);

static const struct {
    const char *path;
    bool needs_post;
    void (*run)(struct px_admin *admin, struct lt_exchange *exchange);
    const char *help;
} pages[] = {
    {"/certs", false, page_certs, "certificates in use"},
    {"/clusters", false, px_admin_clusters, "upstream clusters and their hosts (format=json)"},
    {"/drain_listeners", true, page_drain,
     "ask clients to leave (graceful, inboundonly, skip_exit)"},
    {"/healthcheck/fail", true, page_fail, "be not ready from now on"},
    {"/healthcheck/ok", true, page_ok, "be ready again"},
    {"/help", false, page_help, "this"},
    {"/listeners", false, page_listeners, "listeners (format=json)"},
    {"/logging", true, page_logging, "log level (level=debug)"},
    {"/quitquitquit", true, page_quit, "end the process"},
    {"/ready", false, page_ready, "200 when LIVE"},
    {"/server_info", false, page_server_info, "state, version, uptime"},
    {"/stats", false, page_stats, "counters (filter=REGEX, format=prometheus)"},
    {"/stats/prometheus", false, page_prometheus, "counters for Prometheus (filter=REGEX)"},
};

static void page_help(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    lt_buf_addf(&out, "admin commands are:\n");
    for (size_t i = 0; i < LT_ARRAY_LEN(pages); i++)
        lt_buf_addf(&out, "  %s%s: %s\n", pages[i].path, pages[i].needs_post ? " (POST)" : "",
                    pages[i].help);
    reply_text(exchange, 200, lt_buf_str(&out));
    lt_buf_fini(&out);
}

void px_admin_handle(struct px_admin *admin, struct lt_exchange *exchange)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(pages); i++) {
        if (!lt_str_eqz(exchange->path, pages[i].path))
            continue;
        if (pages[i].needs_post && !lt_str_eqz(exchange->method, "POST")) {
            lt_exchange_replyf(exchange, 405, "Method %.*s not allowed, POST required.",
                               LT_STR_ARG(exchange->method));
            return;
        }
        pages[i].run(admin, exchange);
        return;
    }
    if (lt_str_eqz(exchange->path, "/")) {
        page_help(admin, exchange);
        return;
    }
    reply_text(exchange, 404, LT_STR("invalid path. admin commands are listed at /help\n"));
}

static void handle(struct lt_exchange *exchange, void *ctx)
{
    px_admin_handle(ctx, exchange);
}

/* --- life --- */

static void write_address_file(const char *path, const struct lt_addr *addr)
{
    char text[LT_ADDR_TEXT_MAX];
    FILE *file = path == NULL ? NULL : fopen(path, "we");
    if (file == NULL)
        return;
    lt_str address = lt_addr_format(addr, text);
    fprintf(file, "%.*s", LT_STR_ARG(address));
    fclose(file);
}

lt_rc px_admin_new(const struct px_admin_opts *opts, const struct lt_addr *addr,
                   struct px_admin **ret_admin, struct lt_err *err)
{
    static const struct lt_server_opts server_opts = {.server_name = "envoy"};
    struct px_admin *admin = lt_new(struct px_admin);
    admin->opts = *opts;
    admin->started_ns = lt_loop_now_ns(opts->loop);
    admin->server = lt_server_new(opts->loop, &server_opts, handle, admin);
    struct lt_addr bound = *addr;
    lt_rc rc = addr->len == 0
                   ? LT_OK
                   : px_sockets_listen(opts->inherited, admin->server, addr, &bound, err);
    if (rc != LT_OK) {
        px_admin_free(&admin);
        return lt_err_wrap(err, rc, "admin server");
    }
    write_address_file(opts->options->admin_address_path, &bound);
    *ret_admin = admin;
    return LT_OK;
}

struct lt_server *px_admin_server(const struct px_admin *admin)
{
    return admin->server;
}

void px_admin_free(struct px_admin **admin)
{
    if (*admin == NULL)
        return;
    lt_server_free(&(*admin)->server);
    free(*admin);
    *admin = NULL;
}
