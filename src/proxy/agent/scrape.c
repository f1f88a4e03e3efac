/*
 * proxy/agent/scrape.c - the application's own metrics. Start at: px_scraper_start().
 */
#include "proxy/agent/scrape.h"

#include <stdlib.h>

#include "base/list.h"
#include "http/client.h"
#include "wire/json.h"

enum {
    RUNS_MAX = 8, /* at once: each may hold BODY_BYTES_MAX */
    BODY_BYTES_MAX = 16 << 20,
    TIMEOUT_DEFAULT_MS = 10000,
    TIMEOUT_MAX_MS = 120 * 1000,
    HEADERS_MAX = 4,
};

static const char text_type[] = "text/plain; version=0.0.4; charset=utf-8";
static const char open_type[] = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct px_scraper {
    struct lt_loop *loop; /* borrowed */
    struct lt_arena *arena;
    struct lt_addr addr;
    lt_str path, host;
    struct lt_tls_ctx *tls; /* counted; NULL: plain. Trusts anybody: it is our own pod */
    struct lt_list runs;
    uint32_t run_count;
    uint64_t failures;
};

struct run {
    struct lt_list link;
    struct px_scraper *scraper;
    struct lt_exchange *exchange;
    struct lt_call *call;  /* owned; NULL: it was not asked */
    struct lt_task refuse; /* more run than may */
    px_scraped_fn *on_done;
    void *ctx;
};

/* --- configuration --- */

static lt_str text_of(const struct lt_doc *doc, const char *key, const char *absent)
{
    lt_str text = lt_doc_string(lt_doc_findz(doc, key));
    return text.len > 0 ? text : lt_str_of(absent);
}

static lt_rc read_annotations(struct px_scraper *scraper, const struct lt_doc *doc,
                              uint16_t status_port, struct lt_err *err)
{
    lt_str path = text_of(doc, "path", "/metrics"), port = text_of(doc, "port", "80");
    uint64_t number = 0;
    if (lt_str_to_u64(port, &number) != LT_OK || number == 0 || number > UINT16_MAX)
        return lt_err_set(err, LT_E_BAD, "port: '%.*s' is none", LT_STR_ARG(port));
    if (number == status_port)
        return lt_err_set(err, LT_E_BAD, "port: %u is our own: we would ask ourselves",
                          status_port);
    scraper->path = lt_arena_printf(scraper->arena, "%s%.*s",
                                    lt_str_starts(path, LT_STR("/")) ? "" : "/", LT_STR_ARG(path));
    scraper->host = lt_arena_printf(scraper->arena, "localhost:%u", (unsigned)number);
    if (lt_str_case_eq(text_of(doc, "scheme", "http"), LT_STR("https"))) {
        struct lt_tls_opts opts = {0};
        LT_TRY(lt_tls_ctx_new(&opts, &scraper->tls, err));
    }
    return lt_addr_parse(LT_STR("127.0.0.1"), (uint16_t)number, &scraper->addr);
}

lt_rc px_scraper_new(struct lt_loop *loop, lt_str json, uint16_t status_port,
                     struct px_scraper **ret_scraper, struct lt_err *err)
{
    const struct lt_doc *doc = NULL;
    *ret_scraper = NULL;
    if (json.len == 0)
        return LT_OK;
    struct px_scraper *scraper = lt_new(struct px_scraper);
    scraper->loop = loop;
    scraper->arena = lt_arena_new(0, 0);
    lt_list_init(&scraper->runs);
    lt_rc rc = lt_json_parse(scraper->arena, json, NULL, &doc, err);
    if (rc == LT_OK && doc->kind != LT_DOC_OBJECT)
        rc = lt_err_set(err, LT_E_BAD, "expected an object");
    bool is_off = rc == LT_OK && !lt_str_case_eq(text_of(doc, "scrape", "true"), LT_STR("true"));
    if (rc == LT_OK && !is_off)
        rc = read_annotations(scraper, doc, status_port, err);
    if (rc != LT_OK || is_off) {
        px_scraper_free(&scraper);
        return rc == LT_OK ? LT_OK : lt_err_wrap(err, rc, "ISTIO_PROMETHEUS_ANNOTATIONS");
    }
    *ret_scraper = scraper;
    return LT_OK;
}

uint64_t px_scraper_failures(const struct px_scraper *scraper)
{
    return scraper->failures;
}

void px_app_metrics_free(struct px_app_metrics **metrics)
{
    if (*metrics != NULL)
        lt_buf_fini(&(*metrics)->text);
    free(*metrics);
    *metrics = NULL;
}

/* --- one scrape --- */

static void end_run(struct run *run, struct px_app_metrics *metrics)
{
    struct px_scraper *scraper = run->scraper;
    scraper->failures += metrics == NULL ? 1 : 0;
    scraper->run_count--;
    lt_list_remove(&run->link);
    lt_task_cancel(&run->refuse);
    run->on_done(run->ctx, run->exchange, metrics);
    free(run);
}

static void on_refused(struct lt_task *task)
{
    end_run(LT_CONTAINER_OF(task, struct run, refuse), NULL);
}

/* NULL: no format that may stand behind ours. */
static const char *page_type(lt_str type)
{
    if (type.len == 0 || lt_str_starts(type, LT_STR("text/plain")))
        return text_type;
    return lt_str_starts(type, LT_STR("application/openmetrics-text")) ? open_type : NULL;
}

static struct px_app_metrics *take(const struct lt_call_result *result)
{
    lt_str type = result->rc == LT_OK ? lt_headers_value_of(result->headers, LT_STR("content-type"))
                                      : LT_STR_NULL;
    const char *page = page_type(type);
    if (result->rc != LT_OK || result->status != 200 || page == NULL)
        return NULL;
    struct px_app_metrics *metrics = lt_new(struct px_app_metrics);
    metrics->content_type = page;
    lt_buf_init(&metrics->text, BODY_BYTES_MAX + 1);
    lt_buf_add(&metrics->text, result->body);
    if (result->body.len > 0 && result->body.ptr[result->body.len - 1] != '\n')
        lt_buf_add(&metrics->text, LT_STR("\n"));
    return metrics;
}

static void on_called(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                      void *ctx)
{
    struct run *run = ctx;
    run->call = NULL;
    end_run(run, take(result));
}

/* "9.5": seconds that the one who asks will wait. */
static uint32_t timeout_ms(const struct lt_exchange *exchange)
{
    lt_str text = lt_headers_value_of(&exchange->headers,
                                      LT_STR("x-prometheus-scrape-timeout-seconds"));
    char number[32], *end = NULL;
    if (text.len == 0 || text.len >= sizeof(number))
        return TIMEOUT_DEFAULT_MS;
    memcpy(number, text.ptr, text.len);
    number[text.len] = '\0';
    double seconds = strtod(number, &end);
    if (*end != '\0' || !(seconds > 0))
        return TIMEOUT_DEFAULT_MS;
    return (uint32_t)LT_MIN(seconds * 1000, (double)TIMEOUT_MAX_MS);
}

static void call(struct run *run)
{
    static const lt_str names[] = {
        {"accept", 6}, {"user-agent", 10}, {"x-prometheus-scrape-timeout-seconds", 35}};
    struct px_scraper *scraper = run->scraper;
    struct lt_call_header headers[HEADERS_MAX];
    struct lt_call_opts opts = {.addr = scraper->addr,
                                .target = scraper->path,
                                .host = scraper->host,
                                .headers = headers,
                                .timeout_ms = timeout_ms(run->exchange),
                                .body_bytes_max = BODY_BYTES_MAX,
                                .tls = scraper->tls};
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++) {
        lt_str value = lt_headers_value_of(&run->exchange->headers, names[i]);
        if (value.len > 0)
            headers[opts.header_count++] = (struct lt_call_header){names[i], value};
    }
    run->call = lt_call_start(scraper->loop, &opts, on_called, run);
}

void px_scraper_start(struct px_scraper *scraper, struct lt_exchange *exchange,
                      px_scraped_fn *on_done, void *ctx)
{
    struct run *run = lt_new(struct run);
    *run = (struct run){.scraper = scraper, .exchange = exchange, .on_done = on_done, .ctx = ctx};
    lt_task_init(&run->refuse, on_refused);
    lt_list_push_back(&scraper->runs, &run->link);
    if (scraper->run_count++ < RUNS_MAX)
        call(run);
    else
        lt_loop_defer(scraper->loop, &run->refuse);
}

void px_scraper_free(struct px_scraper **pointer)
{
    struct px_scraper *scraper = *pointer;
    *pointer = NULL;
    if (scraper == NULL)
        return;
    while (!lt_list_is_empty(&scraper->runs)) {
        struct run *run = lt_list_first(&scraper->runs, struct run, link);
        if (run->call != NULL)
            lt_call_cancel(&run->call);
        lt_list_remove(&run->link);
        lt_task_cancel(&run->refuse);
        lt_exchange_reply(run->exchange, 503, NULL, LT_STR("the proxy is ending"));
        free(run);
    }
    lt_tls_ctx_unref(&scraper->tls);
    lt_arena_free(&scraper->arena);
    free(scraper);
}
