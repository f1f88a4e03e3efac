/*
 * proxy/collect.c - asking the workers: counters and hosts travel by letter, so that nothing is
 * read across threads.
 */
#include <stdlib.h>

#include "proxy/run.h"
#include "proxy/workers_priv.h"

enum { SERIES_MAX = 200000 };

/* One question; it goes from worker to worker, each adds its part, and the last sends it home. */
struct question {
    struct lt_letter letter;
    struct px_workers *workers;
    unsigned next;
    struct lt_metric_set *sum;
    struct px_host_status *hosts; /* owned; cluster and address are owned copies */
    size_t host_count, host_cap;
    px_metrics_fn *on_metrics;
    px_hosts_fn *on_hosts;
    void *ctx;
};

static void pass_on(struct question *question);

static void free_question(struct question *question)
{
    for (size_t i = 0; i < question->host_count; i++) {
        free((char *)question->hosts[i].cluster.ptr);
        free((char *)question->hosts[i].address.ptr);
    }
    free(question->hosts);
    free(question);
}

static void open_answer(struct lt_letter *letter, void *receiver LT_UNUSED)
{
    struct question *question = LT_CONTAINER_OF(letter, struct question, letter);
    if (question->on_metrics != NULL)
        question->on_metrics(question->ctx, question->sum);
    if (question->on_hosts != NULL)
        question->on_hosts(question->ctx, question->hosts, question->host_count);
    free_question(question);
}

static struct px_host_status *find_status(struct question *question, lt_str cluster, lt_str address)
{
    for (size_t i = 0; i < question->host_count; i++) {
        if (lt_str_eq(question->hosts[i].address, address) &&
            lt_str_eq(question->hosts[i].cluster, cluster))
            return &question->hosts[i];
    }
    if (question->host_count == question->host_cap) {
        question->host_cap = question->host_cap == 0 ? 64 : question->host_cap * 2;
        question->hosts = lt_realloc(question->hosts,
                                     question->host_cap * sizeof(*question->hosts));
    }
    struct px_host_status *status = &question->hosts[question->host_count++];
    *status = (struct px_host_status){.cluster = {lt_str_dupz(cluster), cluster.len},
                                      .address = {lt_str_dupz(address), address.len}};
    return status;
}

static void add_host(struct question *question, const struct px_cluster *cluster,
                     const struct px_host *host)
{
    struct px_host_status *status = find_status(question, lt_str_of(cluster->name),
                                                lt_str_of(host->name));
    status->cx_active += host->cx_active;
    status->cx_total += host->cx_total;
    status->cx_connect_fail += host->cx_connect_fail;
    status->rq_active += host->lb.rq_active;
    status->rq_total += host->rq_total;
    status->rq_success += host->rq_success;
    status->rq_error += host->rq_error;
    status->rq_timeout += host->rq_timeout;
    status->weight = host->lb.weight;
    status->priority = px_host_priority(host);
    status->health = host->eds_health;
}

static void add_hosts(struct question *question, const struct px_worker *worker)
{
    for (size_t i = 0; i < worker->clusters.count; i++) {
        const struct px_cluster *cluster = worker->clusters.entries[i].value;
        for (size_t j = 0; j < cluster->hosts.count; j++)
            add_host(question, cluster, cluster->hosts.items[j]);
        for (size_t j = 0; j < cluster->by_addr.count; j++)
            add_host(question, cluster, cluster->by_addr.entries[j].value);
    }
}

static void open_question(struct lt_letter *letter, void *receiver)
{
    struct question *question = LT_CONTAINER_OF(letter, struct question, letter);
    struct px_worker *worker = receiver;
    if (question->sum != NULL) {
        px_clusters_refresh_stats(worker);
        lt_metric_set_merge(question->sum, worker->metrics);
    }
    if (question->on_hosts != NULL)
        add_hosts(question, worker);
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
