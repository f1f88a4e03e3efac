/*
 * proxy/admin/stats.c - /stats in all forms, and /stats/prometheus: the workers' counters added up,
 * written as the reader takes them.
 * Start at: px_admin_stats().
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/metric_carry.h"
#include "base/regex.h"
#include "http/url.h"
#include "proxy/admin/admin_priv.h"
#include "proxy/conf/stats_config.h"
#include "wire/json.h"

enum { PART_BYTES = 64 * 1024, NAME_BYTES_MAX = 256 * 1024 };

typedef enum { FORM_TEXT, FORM_JSON, FORM_PROMETHEUS } page_form;
typedef enum { HISTOGRAM_SUMMARY, HISTOGRAM_CUMULATIVE, HISTOGRAM_DISJOINT } histogram_form;

enum { SHOWS_COUNTERS = 1, SHOWS_GAUGES = 2, SHOWS_HISTOGRAMS = 4, SHOWS_ALL = 7 };

struct page {
    struct lt_stream_source source;
    struct lt_exchange *exchange;
    struct px_admin *admin;
    const struct lt_metric_set *more; /* borrowed; added to the others; NULL */
    struct px_app_metrics *app;       /* owned; behind all others; NULL */
    struct lt_metric_set *sum;        /* owned */
    struct lt_regex *filter;          /* owned; NULL: all */
    page_form form;
    histogram_form histograms;
    unsigned shown; /* SHOWS_* */
    struct lt_metric_cursor cursor;
    struct lt_buf name;
    bool at_app;
    bool at_histograms; /* they come behind all others */
    bool has_begun, has_items, has_histograms;
};

static bool keep_stat(lt_str name, void *ctx)
{
    const struct page *page = ctx;
    return page->filter == NULL || lt_regex_finds(page->filter, name);
}

/* --- histograms --- */

static const double quantiles[] = {0, .25, .5, .75, .9, .95, .99, .995, .999, 1};

static void put_summary(const struct lt_histogram *histogram, struct lt_buf *out)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(quantiles); i++) {
        double value = lt_histogram_quantile(histogram, quantiles[i]);
        lt_buf_addf(out, "%sP%g(nan,%g)", i > 0 ? " " : "", quantiles[i] * 100, value);
    }
}

static uint64_t bucket_count(const struct page *page, const struct lt_histogram *histogram,
                             uint32_t at, uint64_t *below)
{
    *below += histogram->counts[at];
    return page->histograms == HISTOGRAM_CUMULATIVE ? *below : histogram->counts[at];
}

static void put_buckets(const struct page *page, const struct lt_histogram *histogram,
                        struct lt_buf *out)
{
    uint64_t below = 0;
    for (uint32_t i = 0; i < histogram->buckets->count; i++) {
        uint64_t count = bucket_count(page, histogram, i, &below);
        lt_buf_addf(out, "%sB%g(0,%llu)", i > 0 ? " " : "", histogram->buckets->bounds[i],
                    (unsigned long long)count);
    }
}

static void put_text_histogram(const struct page *page, const struct lt_histogram *histogram,
                               struct lt_buf *out)
{
    if (histogram->count == 0)
        lt_buf_addf(out, "No recorded values");
    else if (page->histograms == HISTOGRAM_SUMMARY)
        put_summary(histogram, out);
    else
        put_buckets(page, histogram, out);
}

static void put_json_number(struct lt_buf *out, double value)
{
    if (isnan(value))
        lt_buf_addf(out, "null");
    else
        lt_buf_addf(out, "%.9g", value);
}

static void put_json_histogram(const struct page *page, const struct lt_histogram *histogram,
                               struct lt_buf *out)
{
    uint64_t below = 0;
    bool is_summary = page->histograms == HISTOGRAM_SUMMARY;
    lt_buf_addf(out, is_summary ? ",\"values\":[" : ",\"buckets\":[");
    for (size_t i = 0; is_summary && i < LT_ARRAY_LEN(quantiles); i++) {
        lt_buf_addf(out, "%s{\"cumulative\":", i > 0 ? "," : "");
        put_json_number(out, lt_histogram_quantile(histogram, quantiles[i]));
        lt_buf_addf(out, ",\"interval\":null}");
    }
    for (uint32_t i = 0; !is_summary && i < histogram->buckets->count; i++) {
        lt_buf_addf(out, "%s{\"upper_bound\":%g,\"interval\":0,\"cumulative\":%llu}",
                    i > 0 ? "," : "", histogram->buckets->bounds[i],
                    (unsigned long long)bucket_count(page, histogram, i, &below));
    }
    lt_buf_addf(out, "]}");
}

/* --- one series --- */

static void put_name(lt_str name, struct lt_buf *out)
{
    struct lt_json_writer w;
    lt_json_writer_init(&w, out, 0);
    lt_json_str(&w, name);
}

static void put_value(const struct lt_metric_view *view, struct lt_buf *out)
{
    char number[32];
    if (view->kind == LT_METRIC_COUNTER)
        lt_buf_addf(out, "%llu",
                    (unsigned long long)((const struct lt_counter *)view->value)->value);
    else
        lt_buf_add(out, lt_metric_number(((const struct lt_gauge *)view->value)->value, number));
}

static void put_json(struct page *page, const struct lt_metric_view *view, struct lt_buf *out)
{
    lt_buf_addf(out, "%s{\"name\":", page->has_items ? "," : "");
    page->has_items = true;
    put_name(view->stat, out);
    if (view->kind == LT_METRIC_HISTOGRAM) {
        put_json_histogram(page, view->value, out);
        return;
    }
    lt_buf_addf(out, ",\"value\":");
    put_value(view, out);
    lt_buf_addf(out, "}");
}

static void put_text(struct page *page, const struct lt_metric_view *view, struct lt_buf *out)
{
    lt_buf_add(out, view->stat);
    lt_buf_addf(out, ": ");
    if (view->kind == LT_METRIC_HISTOGRAM)
        put_text_histogram(page, view->value, out);
    else
        put_value(view, out);
    lt_buf_addf(out, "\n");
}

/* --- the page --- */

static bool is_shown(struct page *page, const struct lt_metric_view *view)
{
    static const unsigned bits[] = {[LT_METRIC_COUNTER] = SHOWS_COUNTERS,
                                    [LT_METRIC_GAUGE] = SHOWS_GAUGES,
                                    [LT_METRIC_HISTOGRAM] = SHOWS_HISTOGRAMS};
    return (page->shown & bits[view->kind]) != 0 &&
           page->at_histograms == (view->kind == LT_METRIC_HISTOGRAM) &&
           keep_stat(view->stat, page);
}

/* JSON: the list of histograms is the last element of the others' list. */
static void open_histograms(struct page *page, struct lt_buf *out)
{
    lt_buf_addf(out, "%s{\"histograms\":", page->has_items ? "," : "");
    if (page->histograms == HISTOGRAM_SUMMARY) {
        lt_buf_addf(out, "{\"supported_quantiles\":[");
        for (size_t i = 0; i < LT_ARRAY_LEN(quantiles); i++)
            lt_buf_addf(out, "%s%g", i > 0 ? "," : "", quantiles[i] * 100);
        lt_buf_addf(out, "],\"computed_quantiles\":");
    }
    lt_buf_addf(out, "[");
    page->has_histograms = true;
    page->has_items = false;
}

static void end(struct page *page, struct lt_buf *out)
{
    if (page->form != FORM_JSON)
        return;
    if (page->has_histograms)
        lt_buf_addf(out, page->histograms == HISTOGRAM_SUMMARY ? "]}}" : "]}");
    lt_buf_addf(out, "]}");
}

static lt_rc produce_prometheus(struct page *page, struct lt_buf *out)
{
    if (!page->at_app) {
        lt_rc rc = lt_metric_render(page->sum, LT_METRIC_PROMETHEUS, keep_stat, page, &page->cursor,
                                    PART_BYTES, out);
        page->at_app = rc == LT_EOF && page->app != NULL;
        if (!page->at_app)
            return rc;
    }
    struct lt_buf *text = &page->app->text;
    lt_str part = lt_str_slice(lt_buf_str(text), 0, PART_BYTES);
    LT_TRY(lt_buf_append_str(out, part));
    lt_buf_consume(text, part.len);
    return lt_buf_len(text) == 0 ? LT_EOF : LT_OK;
}

static lt_rc produce(struct lt_stream_source *source, struct lt_buf *out)
{
    struct page *page = LT_CONTAINER_OF(source, struct page, source);
    struct lt_metric_view view;
    if (page->form == FORM_PROMETHEUS)
        return produce_prometheus(page, out);
    if (!page->has_begun && page->form == FORM_JSON)
        lt_buf_addf(out, "{\"stats\":[");
    page->has_begun = true;
    while (lt_buf_len(out) < PART_BYTES) {
        if (!lt_metric_next(page->sum, &page->cursor, &page->name, &view)) {
            if (page->at_histograms) {
                end(page, out);
                return LT_EOF;
            }
            page->at_histograms = true;
            lt_metric_cursor_fini(&page->cursor);
            page->cursor = (struct lt_metric_cursor){0};
            continue;
        }
        if (!is_shown(page, &view))
            continue;
        if (page->form == FORM_JSON && page->at_histograms && !page->has_histograms)
            open_histograms(page, out);
        if (page->form == FORM_JSON)
            put_json(page, &view, out);
        else
            put_text(page, &view, out);
    }
    return LT_OK;
}

static void done(struct lt_stream_source *source)
{
    struct page *page = LT_CONTAINER_OF(source, struct page, source);
    lt_metric_cursor_fini(&page->cursor);
    lt_metric_set_free(&page->sum);
    lt_regex_free(&page->filter);
    px_app_metrics_free(&page->app);
    lt_buf_fini(&page->name);
    free(page);
}

static const char *content_type(const struct page *page)
{
    if (page->app != NULL)
        return page->app->content_type;
    return page->form == FORM_JSON         ? "application/json"
           : page->form == FORM_PROMETHEUS ? "text/plain; version=0.0.4; charset=utf-8"
                                           : "text/plain; charset=UTF-8";
}

static void on_metrics(void *ctx, struct lt_metric_set *sum, const struct lt_map *clusters)
{
    struct page *page = ctx;
    page->sum = sum;
    px_members_add_stats(page->admin->opts.members, sum);
    px_admin_add_membership(page->admin, clusters, sum);
    if (page->admin->opts.main_metrics != NULL)
        lt_metric_set_merge(sum, page->admin->opts.main_metrics);
    if (page->more != NULL)
        lt_metric_set_merge(sum, page->more);
    if (page->admin->opts.carried != NULL)
        (void)!lt_metric_add_saved(sum, lt_buf_str(page->admin->opts.carried));
    px_stats_hide(page->admin->opts.stats, sum);
    page->source.produce = produce;
    page->source.done = done;
    lt_exchange_reply_stream(page->exchange, 200, content_type(page), &page->source);
}

/* --- asking --- */

struct word {
    const char *name;
    int value;
};

/* Of a parameter; absent: 0. -1: none of the words. */
static int read_word(struct lt_exchange *exchange, const char *parameter, const struct word *words,
                     size_t count)
{
    lt_str text = lt_url_query_get(exchange->query, parameter, exchange->arena);
    if (text.len == 0)
        return 0;
    for (size_t i = 0; i < count; i++) {
        if (lt_str_case_eq(text, lt_str_of(words[i].name)))
            return words[i].value;
    }
    return -1;
}

static bool refuse(struct lt_exchange *exchange, const char *text)
{
    lt_exchange_reply(exchange, 400, "text/plain; charset=UTF-8", lt_str_of(text));
    return false;
}

static bool read_words(struct lt_exchange *exchange, struct page *page)
{
    static const struct word forms[] = {{"text", FORM_TEXT},
                                        {"html", FORM_TEXT},
                                        {"active-html", FORM_TEXT},
                                        {"json", FORM_JSON},
                                        {"prometheus", FORM_PROMETHEUS}};
    static const struct word buckets[] = {{"summary", HISTOGRAM_SUMMARY},
                                          {"detailed", HISTOGRAM_CUMULATIVE},
                                          {"cumulative", HISTOGRAM_CUMULATIVE},
                                          {"disjoint", HISTOGRAM_DISJOINT},
                                          {"prometheusnative", HISTOGRAM_SUMMARY}};
    static const struct word types[] = {{"All", 0},
                                        {"Counters", SHOWS_COUNTERS},
                                        {"Gauges", SHOWS_GAUGES},
                                        {"Histograms", SHOWS_HISTOGRAMS},
                                        {"TextReadouts", 8}};
    int form = read_word(exchange, "format", forms, LT_ARRAY_LEN(forms));
    int shape = read_word(exchange, "histogram_buckets", buckets, LT_ARRAY_LEN(buckets));
    int type = read_word(exchange, "type", types, LT_ARRAY_LEN(types));
    if (form < 0)
        return refuse(exchange, "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n");
    if (shape < 0)
        return refuse(exchange, "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|"
                                "summary|prometheusnative)\n");
    if (type < 0)
        return refuse(exchange, "invalid &type= param");
    page->form = (page_form)form;
    page->histograms = (histogram_form)shape;
    page->shown = type == 0 ? SHOWS_ALL : (unsigned)type;
    return true;
}

static bool read_filter(struct lt_exchange *exchange, struct page *page)
{
    lt_str pattern = lt_url_query_get(exchange->query, "filter", exchange->arena);
    struct lt_err err = {0};
    if (pattern.len == 0 || lt_regex_new(pattern, &page->filter, &err) == LT_OK)
        return true;
    lt_exchange_replyf(exchange, 400, "Invalid re2 regex: %s\n", err.text);
    return false;
}

static void start(struct px_admin *admin, struct lt_exchange *exchange, bool is_prometheus,
                  const struct lt_metric_set *more, struct px_app_metrics *app)
{
    struct page *page = lt_new(struct page);
    page->admin = admin;
    page->exchange = exchange;
    page->more = more;
    page->app = app;
    page->form = FORM_PROMETHEUS;
    lt_buf_init(&page->name, NAME_BYTES_MAX);
    if ((!is_prometheus && !read_words(exchange, page)) || !read_filter(exchange, page)) {
        done(&page->source);
        return;
    }
    px_workers_collect_metrics(admin->opts.workers, on_metrics, page);
}

void px_admin_prometheus(struct px_admin *admin, struct lt_exchange *exchange,
                         const struct lt_metric_set *more, struct px_app_metrics *app)
{
    start(admin, exchange, true, more, app);
}

void px_admin_stats_prometheus(struct px_admin *admin, struct lt_exchange *exchange)
{
    start(admin, exchange, true, NULL, NULL);
}

void px_admin_stats(struct px_admin *admin, struct lt_exchange *exchange)
{
    start(admin, exchange, false, NULL, NULL);
}
