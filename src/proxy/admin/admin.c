/*
 * proxy/admin/admin.c - admin pages. One function a page; the table of paths stands last.
 * Start at: px_admin_handle().
 */
#include "proxy/admin/admin_priv.h"

#include <stdlib.h>
#include <unistd.h>

#include "http/url.h"
#include "proxy/admin/certs.h"
#include "wire/json.h"

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

/* --- /ready --- */

static void page_ready(struct px_admin *admin, struct lt_exchange *exchange)
{
    const char *state = admin->opts.state(admin->opts.ctx);
    lt_exchange_replyf(exchange, strcmp(state, "LIVE") == 0 ? 200 : 503, "%s\n", state);
}

/* --- /listeners --- */

struct listener_page {
    struct lt_buf *out;
    struct lt_json_writer *w; /* NULL: text */
};

static void write_address(struct lt_json_writer *w, const struct lt_addr *addr)
{
    char ip[LT_ADDR_TEXT_MAX];
    lt_json_object_open(w);
    lt_json_kv_object(w, "socket_address");
    json_member(w, "address", lt_addr_format_ip(addr, ip));
    lt_json_key(w, LT_STR("port_value"));
    lt_json_uint(w, lt_addr_port(addr));
    lt_json_object_close(w);
    lt_json_object_close(w);
}

static void add_listener(void *ctx, const struct px_resource *serving,
                         const struct px_resource *warming LT_UNUSED, bool is_static LT_UNUSED)
{
    struct listener_page *page = ctx;
    char text[LT_ADDR_TEXT_MAX];
    if (serving == NULL)
        return;
    const struct px_listener_conf *conf = (const struct px_listener_conf *)serving;
    if (page->w == NULL) {
        lt_buf_addf(page->out, "%.*s::%.*s\n", LT_STR_ARG(conf->res.name),
                    LT_STR_ARG(lt_addr_format(&conf->addr, text)));
        for (size_t i = 0; i < conf->more_addr_count; i++)
            lt_buf_addf(page->out, "%.*s::%.*s\n", LT_STR_ARG(conf->res.name),
                        LT_STR_ARG(conf->more_addrs[i].text));
        return;
    }
    lt_json_object_open(page->w);
    json_member(page->w, "name", conf->res.name);
    lt_json_key(page->w, LT_STR("local_address"));
    write_address(page->w, &conf->addr);
    if (conf->more_addr_count > 0) {
        lt_json_kv_array(page->w, "additional_local_addresses");
        for (size_t i = 0; i < conf->more_addr_count; i++)
            write_address(page->w, &conf->more_addrs[i].addr);
        lt_json_array_close(page->w);
    }
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

/* --- what turns something --- */

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
static void page_home(struct px_admin *admin, struct lt_exchange *exchange);

static const struct {
    const char *path;
    bool needs_post;
    void (*run)(struct px_admin *admin, struct lt_exchange *exchange);
    const char *help;
} pages[] = {
    {"/", false, page_home, "Admin home page"},
    {"/certs", false, page_certs, "print certs on machine"},
    {"/clusters", false, px_admin_clusters, "upstream cluster status (filter=REGEX, format=json)"},
    {"/config_dump", false, px_admin_dump,
     "dump current configs (resource=, mask=, name_regex=, include_eds)"},
    {"/contention", false, px_admin_contention, "mutex contention: never traced"},
    {"/drain_listeners", true, page_drain, "drain listeners (graceful, inboundonly, skip_exit)"},
    {"/decisions", false, px_admin_decisions,
     "latest failed requests and a sample (format=json, failed, request_id=, limit=)"},
    {"/healthcheck/fail", true, page_fail, "cause the server to fail health checks"},
    {"/healthcheck/ok", true, page_ok, "cause the server to pass health checks"},
    {"/help", false, page_help, "print out list of admin commands"},
    {"/hot_restart_version", false, px_admin_hot_restart, "version of the hot restart protocol"},
    {"/init_dump", false, px_admin_init, "what the start still waits for"},
    {"/listeners", false, page_listeners, "print listener info (format=json)"},
    {"/logging", true, px_admin_logging, "query/change logging levels (level=, paths=, NAME=)"},
    {"/memory", false, px_admin_memory, "print current allocation/heap usage"},
    {"/quitquitquit", true, page_quit, "exit the server"},
    {"/ready", false, page_ready, "print server state, return 200 if LIVE, otherwise 503"},
    {"/reopen_logs", true, px_admin_reopen_logs, "reopen access logs"},
    {"/reset_counters", true, px_admin_reset_counters, "reset all counters to zero"},
    {"/runtime", false, px_admin_runtime, "print runtime values"},
    {"/runtime_modify", true, px_admin_runtime_modify, "there is no layer to modify"},
    {"/server_info", false, px_admin_server_info, "print server version/status information"},
    {"/stats", false, px_admin_stats,
     "print server stats (usedonly, filter=REGEX, format=, type=, histogram_buckets=)"},
    {"/stats/prometheus", false, px_admin_stats_prometheus,
     "print server stats in prometheus format (usedonly, filter=REGEX)"},
    {"/stats/recentlookups", false, px_admin_lookups, "lookups of stat names: never tracked"},
    {"/stats/recentlookups/clear", true, px_admin_lookups_turn, "(the same)"},
    {"/stats/recentlookups/disable", true, px_admin_lookups_turn, "(the same)"},
    {"/stats/recentlookups/enable", true, px_admin_lookups_turn, "(the same)"},
};

static void write_help(struct lt_buf *out)
{
    lt_buf_addf(out, "admin commands are:\n");
    for (size_t i = 0; i < LT_ARRAY_LEN(pages); i++)
        lt_buf_addf(out, "  %s%s: %s\n", pages[i].path, pages[i].needs_post ? " (POST)" : "",
                    pages[i].help);
}

static void page_help(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    write_help(&out);
    reply_text(exchange, 200, lt_buf_str(&out));
    lt_buf_fini(&out);
}

/* A table of links; what needs POST is a form with a button. */
static void page_home(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    lt_buf_addf(&out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">"
                      "<title>lateen-proxy</title></head>\n<body>\n<table>\n");
    for (size_t i = 0; i < LT_ARRAY_LEN(pages); i++) {
        const char *path = pages[i].path + 1, *help = pages[i].help;
        lt_buf_addf(&out,
                    pages[i].needs_post
                        ? "<tr><td><form action=\"%s\" method=\"post\"><button>%s</button>"
                          "</form></td><td>%s</td></tr>\n"
                        : "<tr><td><a href=\"%s\">%s</a></td><td>%s</td></tr>\n",
                    path, path[0] != '\0' ? path : "home", help);
    }
    lt_buf_addf(&out, "</table>\n</body>\n</html>\n");
    lt_exchange_reply(exchange, 200, "text/html; charset=UTF-8", lt_buf_str(&out));
    lt_buf_fini(&out);
}

static void not_found(struct lt_exchange *exchange)
{
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    lt_buf_addf(&out, "invalid path. ");
    write_help(&out);
    reply_text(exchange, 404, lt_buf_str(&out));
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
    not_found(exchange);
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
