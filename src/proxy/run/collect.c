/*
 * proxy/run/collect.c - asking the workers: counters and hosts travel by letter, so that nothing
 * is read across threads.
 */
#include <stdlib.h>

#include "proxy/run/run.h"
#include "proxy/run/workers.h"
#include "proxy/told/access_log.h"
#include "proxy/told/decisions.h"

enum { SERIES_MAX = 200000, EXCEPT_MAX = 4 };

/* One question; it goes from worker to worker, each adds its part, and the last sends it home. */
struct question {
    struct lt_letter letter;
    struct px_workers *workers;
    unsigned next;
    struct lt_metric_set *sum;
    struct lt_map clusters; /* name -> struct px_cluster_counts, owned */
    px_metrics_fn *on_metrics;
    px_hosts_fn *on_hosts;
    px_count_fn *on_count;
    uint16_t except[EXCEPT_MAX]; /* ports whose listeners don't count */
    size_t except_count;
    uint64_t count;
    px_decisions_fn *on_decisions;
    struct lt_vec decisions;      /* for it */
    void (*on_obeyed)(void *ctx); /* it is an order */
    px_order order;
    void *ctx;
};

static void pass_on(struct question *question);

static void free_counts(struct px_cluster_counts *counts)
{
    for (size_t i = 0; i < counts->hosts.count; i++) {
        struct px_host_status *status = counts->hosts.entries[i].value;
        free(status->address);
        free(status);
    }
    lt_map_fini(&counts->hosts);
    free(counts->name);
    free(counts);
}

static void free_question(struct question *question)
{
    for (size_t i = 0; i < question->clusters.count; i++)
        free_counts(question->clusters.entries[i].value);
    lt_map_fini(&question->clusters);
    free(question);
}

static void open_answer(struct lt_letter *letter, void *receiver LT_UNUSED)
{
    struct question *question = LT_CONTAINER_OF(letter, struct question, letter);
    if (question->on_metrics != NULL)
        question->on_metrics(question->ctx, question->sum, &question->clusters);
    if (question->on_hosts != NULL)
        question->on_hosts(question->ctx, &question->clusters);
    if (question->on_count != NULL)
        question->on_count(question->ctx, question->count);
    if (question->on_obeyed != NULL)
        question->on_obeyed(question->ctx);
    if (question->on_decisions != NULL)
        question->on_decisions(question->ctx, &question->decisions);
    free_question(question);
}

static struct px_cluster_counts *get_cluster(struct question *question, const char *name)
{
    struct px_cluster_counts *counts = lt_map_find(&question->clusters, lt_str_of(name));
    if (counts != NULL)
        return counts;
    counts = lt_new(struct px_cluster_counts);
    counts->name = lt_str_dupz(lt_str_of(name));
    lt_map_put(&question->clusters, lt_str_of(counts->name), counts);
    return counts;
}

static struct px_host_status *get_host(struct px_cluster_counts *counts, const struct px_host *host)
{
    struct px_host_status *status = lt_map_find(&counts->hosts, lt_str_of(host->name));
    if (status != NULL)
        return status;
    status = lt_new(struct px_host_status);
    status->address = lt_str_dupz(lt_str_of(host->name));
    status->addr = host->addr;
    lt_map_put(&counts->hosts, lt_str_of(status->address), status);
    return status;
}

static void add_host(struct px_cluster_counts *counts, const struct px_host *host)
{
    struct px_host_status *status = get_host(counts, host);
    status->cx_active += host->cx_active;
    status->cx_total += host->cx_total;
    status->cx_connect_fail += host->cx_connect_fail;
    status->rq_active += host->lb.rq_active;
    status->rq_pending += host->rq_pending;
    status->rq_total += host->rq_total;
    status->rq_success += host->rq_success;
    status->rq_error += host->rq_error;
    status->rq_timeout += host->rq_timeout;
}

uint64_t *px_drop_tally_at(struct px_drop_tally *tally, lt_str category)
{
    category = lt_str_slice(category, 0, sizeof(tally->items[0].category) - 1);
    for (size_t i = 0; i < tally->count; i++) {
        if (lt_str_eqz(category, tally->items[i].category))
            return &tally->items[i].count;
    }
    if (tally->count == PX_DROP_CATEGORIES_MAX)
        return &tally->items[tally->count - 1].count;
    struct px_drop_count *made = &tally->items[tally->count++];
    *made = (struct px_drop_count){0};
    if (category.len > 0)
        memcpy(made->category, category.ptr, category.len);
    return &made->count;
}

static void add_drops(struct px_cluster_counts *counts, const struct px_drop_tally *drops)
{
    for (size_t i = 0; drops != NULL && i < drops->count; i++)
        *px_drop_tally_at(&counts->drops,
                          lt_str_of(drops->items[i].category)) += drops->items[i].count;
}

static void add_clusters(struct question *question, const struct px_worker *worker)
{
    for (size_t i = 0; i < worker->clusters.count; i++) {
        const struct px_cluster *cluster = worker->clusters.entries[i].value;
        struct px_cluster_counts *counts = get_cluster(question, cluster->name);
        if (question->on_hosts == NULL)
            continue;
        add_drops(counts, cluster->drops);
        for (size_t j = 0; j < cluster->hosts.count; j++)
            add_host(counts, cluster->hosts.items[j]);
        for (size_t j = 0; j < cluster->by_addr.count; j++)
            add_host(counts, cluster->by_addr.entries[j].value);
    }
}

static bool is_excepted(const struct question *question, const struct px_conn *conn)
{
    for (size_t i = 0; i < question->except_count; i++) {
        if (lt_addr_port(&conn->listener->addr) == question->except[i])
            return true;
    }
    return false;
}

static void count_connections(struct question *question, const struct px_worker *worker)
{
    struct lt_list *it, *next;
    lt_list_each (&worker->conns, it, next) {
        if (!is_excepted(question, LT_CONTAINER_OF(it, struct px_conn, link)))
            question->count++;
    }
}

static void obey(struct px_worker *worker, px_order order)
{
    switch (order) {
    case PX_ORDER_RESET_COUNTERS: lt_metric_set_reset(worker->metrics); break;
    case PX_ORDER_REOPEN_LOGS: px_access_logger_reopen(worker->access_log); break;
    }
}

/* Series of clients and services that have gone: after half a day to a day without a word. */
static void sweep(struct px_worker *worker)
{
    static const uint64_t every_ns = UINT64_C(12) * 3600 * LT_NS_PER_S;
    uint64_t now_ns = px_now_ns(worker);
    if (worker->swept_ns == 0)
        worker->swept_ns = now_ns;
    if (now_ns - worker->swept_ns < every_ns)
        return;
    worker->swept_ns = now_ns;
    px_telemetry_sweep(worker->telemetry);
}

static void open_question(struct lt_letter *letter, void *receiver)
{
    struct question *question = LT_CONTAINER_OF(letter, struct question, letter);
    struct px_worker *worker = receiver;
    if (question->on_obeyed != NULL) {
        obey(worker, question->order);
        pass_on(question);
        return;
    }
    if (question->on_decisions != NULL) {
        px_decisions_copy(worker->decisions, &question->decisions);
        pass_on(question);
        return;
    }
    if (question->sum != NULL) {
        sweep(worker);
        px_clusters_refresh_stats(worker);
        lt_metric_set_merge(question->sum, worker->metrics);
    }
    if (question->on_count != NULL)
        count_connections(question, worker);
    else
        add_clusters(question, worker);
    pass_on(question);
}

static void pass_on(struct question *question)
{
    struct px_workers *workers = question->workers;
    if (question->next < workers->opts.count) {
        question->letter.open = open_question;
        lt_mailbox_post(workers->threads[question->next++].worker->mailbox, &question->letter);
    } else {
        question->letter.open = open_answer;
        lt_mailbox_post(workers->mailbox, &question->letter);
    }
}

static struct question *new_question(struct px_workers *workers, void *ctx)
{
    struct question *question = lt_new(struct question);
    question->workers = workers;
    question->ctx = ctx;
    return question;
}

void px_workers_collect_metrics(struct px_workers *workers, px_metrics_fn *done, void *ctx)
{
    struct question *question = new_question(workers, ctx);
    question->sum = lt_metric_set_new(SERIES_MAX);
    question->on_metrics = done;
    pass_on(question);
}

void px_workers_collect_hosts(struct px_workers *workers, px_hosts_fn *done, void *ctx)
{
    struct question *question = new_question(workers, ctx);
    question->on_hosts = done;
    pass_on(question);
}

void px_workers_count_connections(struct px_workers *workers, const uint16_t *except, size_t count,
                                  px_count_fn *done, void *ctx)
{
    LT_ASSERT(count <= EXCEPT_MAX);
    struct question *question = new_question(workers, ctx);
    if (count > 0)
        memcpy(question->except, except, count * sizeof(*except));
    question->except_count = count;
    question->on_count = done;
    pass_on(question);
}

void px_workers_order(struct px_workers *workers, px_order order, void (*done)(void *ctx),
                      void *ctx)
{
    struct question *question = new_question(workers, ctx);
    question->order = order;
    question->on_obeyed = done;
    pass_on(question);
}

void px_workers_collect_decisions(struct px_workers *workers, px_decisions_fn *done, void *ctx)
{
    struct question *question = new_question(workers, ctx);
    question->on_decisions = done;
    pass_on(question);
}
