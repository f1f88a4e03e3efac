/*
 * proxy/admin/decisions.c - /decisions: what the workers remember of requests, the latest first; as
 * JSON, or a line for each.
 */
#include <stdlib.h>

#include "http/url.h"
#include "proxy/admin/admin_priv.h"
#include "proxy/told/decisions.h"
#include "wire/json.h"

struct page {
    struct lt_exchange *exchange;
    bool is_json, only_failed;
    lt_str id; /* of the request; empty: all */
    uint64_t limit;
};

static int by_time(const void *a, const void *b)
{
    const struct px_decision *x = *(struct px_decision *const *)a,
                             *y = *(struct px_decision *const *)b;
    return x->time_ns < y->time_ns ? 1 : x->time_ns > y->time_ns ? -1 : 0;
}

static lt_str member(const struct lt_doc *doc, const char *object, const char *key)
{
    return lt_doc_string(lt_doc_findz(object != NULL ? lt_doc_findz(doc, object) : doc, key));
}

static void put_line(const struct lt_doc *doc, struct lt_buf *out)
{
    int64_t code = 0;
    const struct lt_doc *flags = lt_doc_findz(doc, "flags");
    (void)lt_doc_is_int(lt_doc_findz(doc, "code"), &code);
    lt_buf_addf(out, "%.*s %.*s %.*s%.*s: %lld", LT_STR_ARG(member(doc, NULL, "time")),
                LT_STR_ARG(member(doc, NULL, "method")), LT_STR_ARG(member(doc, NULL, "authority")),
                LT_STR_ARG(member(doc, NULL, "path")), (long long)code);
    for (uint32_t i = 0; flags != NULL && i < flags->count; i++)
        lt_buf_addf(out, " %.*s", LT_STR_ARG(flags->members[i].key));
    lt_buf_addf(out, " by %.*s (%.*s)", LT_STR_ARG(member(doc, NULL, "answered_by")),
                LT_STR_ARG(member(doc, NULL, "details")));
    const struct {
        const char *word, *object, *key;
    } rest[] = {{"policy", NULL, "policy"},
                {"route", "route", "name"},
                {"from", "route", "object"},
                {"cluster", "cluster", "name"},
                {"failure", NULL, "transport_failure"},
                {"id", NULL, "request_id"}};
    for (size_t i = 0; i < LT_ARRAY_LEN(rest); i++) {
        lt_str value = member(doc, rest[i].object, rest[i].key);
        if (value.len > 0)
            lt_buf_addf(out, " %s=%.*s", rest[i].word, LT_STR_ARG(value));
    }
    lt_buf_addf(out, "\n");
}

/* True: it is shown. */
static bool put_one(const struct page *page, const struct px_decision *decision, bool is_first,
                    struct lt_buf *out)
{
    const struct lt_doc *doc = NULL;
    lt_str json = lt_str_make(decision->json, decision->len);
    if (page->only_failed && !decision->is_failed)
        return false;
    if (page->is_json && page->id.len == 0) {
        lt_buf_addf(out, "%s\n ", is_first ? "" : ",");
        lt_buf_add(out, json);
        return true;
    }
    struct lt_arena *arena = lt_arena_new(16 * 1024, 0);
    bool fits = lt_json_parse(arena, json, NULL, &doc, NULL) == LT_OK &&
                (page->id.len == 0 || lt_str_eq(member(doc, NULL, "request_id"), page->id));
    if (fits && page->is_json) {
        lt_buf_addf(out, "%s\n ", is_first ? "" : ",");
        lt_buf_add(out, json);
    } else if (fits) {
        put_line(doc, out);
    }
    lt_arena_free(&arena);
    return fits;
}

static void on_decisions(void *ctx, struct lt_vec *all)
{
    struct page *page = ctx;
    struct lt_buf out;
    uint64_t shown = 0;
    lt_buf_init(&out, PX_PAGE_BYTES_MAX);
    lt_sort(all->items, all->count, sizeof(*all->items), by_time);
    if (page->is_json)
        lt_buf_addf(&out, "{\"decisions\":[");
    for (size_t i = 0; i < all->count; i++) {
        if (shown < page->limit && put_one(page, all->items[i], shown == 0, &out))
            shown++;
        free(all->items[i]);
    }
    if (page->is_json)
        lt_buf_addf(&out, "\n]}\n");
    lt_vec_fini(all);
    lt_exchange_reply(page->exchange, 200,
                      page->is_json ? "application/json" : "text/plain; charset=UTF-8",
                      lt_buf_str(&out));
    lt_buf_fini(&out);
    free(page);
}

void px_admin_decisions(struct px_admin *admin, struct lt_exchange *exchange)
{
    lt_str rest = exchange->query, name, value;
    struct page *page = lt_new(struct page);
    page->exchange = exchange;
    page->limit = UINT64_MAX;
    page->is_json = lt_str_eqz(lt_url_query_get(exchange->query, "format", exchange->arena),
                               "json");
    page->id = lt_url_query_get(exchange->query, "request_id", exchange->arena);
    if (lt_str_to_u64(lt_url_query_get(exchange->query, "limit", exchange->arena), &page->limit) !=
        LT_OK)
        page->limit = UINT64_MAX;
    while (lt_url_query_next(&rest, &name, &value))
        page->only_failed |= lt_str_eqz(name, "failed");
    px_workers_collect_decisions(admin->opts.workers, on_decisions, page);
}
