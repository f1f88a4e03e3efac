/*
 * proxy/admin/logging.c - /logging, in Envoy's form: a level for each of its loggers. Our lines
 * know no loggers, so that the most talkative one counts.
 */
#include "http/url.h"
#include "proxy/admin/admin_priv.h"

static const char *const loggers[] = {
    "admin",      "alternate_protocols_cache",
    "assert",     "backtrace",
    "client",     "config",
    "connection", "dns",
    "ext_authz",  "file",
    "filter",     "grpc",
    "hc",         "health_checker",
    "http",       "http2",
    "init",       "io",
    "jwt",        "lua",
    "main",       "matcher",
    "misc",       "pool",
    "rbac",       "rds",
    "router",     "runtime",
    "secret",     "stats",
    "tcp",        "tracing",
    "udp",        "upstream",
    "wasm",
};
_Static_assert(LT_ARRAY_LEN(loggers) <= PX_LOGGERS_MAX, "the admin keeps a level for each");

static const char usage[] =
    "usage: /logging?<name>=<level> (change single level)\n"
    "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
    "usage: /logging?level=<level> (change all levels)\n"
    "levels: trace debug info warning error critical off \n";

static const char *shown_name(uint8_t level)
{
    return level == LT_LOG_WARN ? "warning" : lt_log_level_name((lt_log_level)level);
}

static void fill(struct px_admin *admin)
{
    if (admin->has_log_levels)
        return;
    admin->has_log_levels = true;
    memset(admin->log_levels, (int)admin->opts.env->log.level, sizeof(admin->log_levels));
}

/* "info" and the like; our names and Envoy's. */
static bool read_level(lt_str text, lt_log_level *ret_level)
{
    return lt_log_level_parse(text, ret_level) == LT_OK;
}

/* NULL: done; else what was wrong. */
static const char *set_one(struct px_admin *admin, lt_str name, lt_str level_name)
{
    lt_log_level level;
    if (!read_level(level_name, &level))
        return "unknown logger level";
    for (size_t i = 0; i < LT_ARRAY_LEN(loggers); i++) {
        if (!lt_str_eqz(name, loggers[i]))
            continue;
        admin->log_levels[i] = (uint8_t)level;
        return NULL;
    }
    return "unknown logger name";
}

static const char *set_all(struct px_admin *admin, lt_str level_name)
{
    lt_log_level level;
    if (!read_level(level_name, &level))
        return "unknown logger level";
    memset(admin->log_levels, (int)level, sizeof(admin->log_levels));
    return NULL;
}

/* "http:debug,grpc:info" */
static const char *set_paths(struct px_admin *admin, lt_str paths)
{
    lt_str part, name;
    const char *error = NULL;
    while (error == NULL && lt_str_split(&paths, ',', &part)) {
        lt_str_split(&part, ':', &name);
        error = set_one(admin, name, part);
    }
    return error;
}

static const char *change(struct px_admin *admin, struct lt_exchange *exchange)
{
    lt_str rest = exchange->query, name, value;
    const char *error = NULL;
    while (error == NULL && lt_url_query_next(&rest, &name, &value)) {
        lt_str plain = lt_url_query_get(exchange->query, lt_arena_strz(exchange->arena, name),
                                        exchange->arena);
        error = lt_str_eqz(name, "level")   ? set_all(admin, plain)
                : lt_str_eqz(name, "paths") ? set_paths(admin, plain)
                                            : set_one(admin, name, plain);
    }
    return error;
}

void px_admin_logging(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    fill(admin);
    const char *error = change(admin, exchange);
    uint8_t most = LT_LOG_OFF;
    for (size_t i = 0; i < LT_ARRAY_LEN(loggers); i++)
        most = LT_MIN(most, admin->log_levels[i]);
    admin->opts.env->log.level = (lt_log_level)most;
    if (error != NULL)
        lt_buf_addf(&out, "error: %s\n\n%s", error, usage);
    lt_buf_addf(&out, "active loggers:\n");
    for (size_t i = 0; i < LT_ARRAY_LEN(loggers); i++)
        lt_buf_addf(&out, "  %s: %s\n", loggers[i], shown_name(admin->log_levels[i]));
    lt_buf_addf(&out, "\n");
    lt_exchange_reply(exchange, error != NULL ? 400 : 200, "text/plain; charset=UTF-8",
                      lt_buf_str(&out));
    lt_buf_fini(&out);
}
