/*
 * proxy/run/results.c - how hosts answer, counted for all workers together (px_host_state), and
 * told to the main thread when a row of failures is complete (outlier.h). Costs nothing where a
 * cluster has neither outlier detection nor health checks.
 * Which result counts as what: as in Envoy's outlier detection.
 */
#include <stdlib.h>

#include "proxy/lb/outlier.h"
#include "proxy/run/run.h"
#include "proxy/run/workers.h"

/* --- to the main thread --- */

struct report {
    struct lt_letter letter;
    struct px_workers *workers;
    struct px_host_state *host; /* the snapshot that holds it is given back behind this letter */
    unsigned kind;
};

static void open_report(struct lt_letter *letter, void *receiver LT_UNUSED)
{
    struct report *report = LT_CONTAINER_OF(letter, struct report, letter);
    const struct px_workers_opts *opts = &report->workers->opts;
    if (opts->on_report != NULL)
        opts->on_report(opts->ctx, report->host, report->kind);
    free(report);
}

static void tell(struct px_host *host, unsigned kind)
{
    struct report *report = lt_new(struct report);
    report->letter.open = open_report;
    report->workers = host->cluster->worker->owner;
    report->host = host->state;
    report->kind = kind;
    lt_mailbox_post(report->workers->mailbox, &report->letter);
}

/* --- counting --- */

/* NULL: nobody judges this host. */
static const struct px_outlier_conf *judged_by(const struct px_host *host)
{
    return host->state != NULL && host->is_listed ? host->cluster->conf->outlier : NULL;
}

static void count_row(struct px_host *host, _Atomic uint32_t *row, uint32_t limit, unsigned kind)
{
    if (px_shared_add(row, 1) == limit)
        tell(host, kind);
}

/* Most rows are empty: nothing is written to memory that other workers read. */
static void end_row(_Atomic uint32_t *row)
{
    if (px_shared_get(row) != 0)
        px_shared_set(row, 0);
}

static void count_answer(struct px_host_tally *tally, bool is_success)
{
    px_shared_add(&tally->requests, 1);
    if (is_success)
        px_shared_add(&tally->successes, 1);
}

static void note_code(struct px_host *host, const struct px_outlier_conf *conf, uint32_t code)
{
    struct px_host_state *state = host->state;
    bool is_error = code >= 500 && code < 600;
    count_answer(&state->external, !is_error);
    if (!is_error) {
        end_row(&state->consecutive_5xx);
        end_row(&state->consecutive_gateway);
        return;
    }
    if (code >= 502 && code <= 504)
        count_row(host, &state->consecutive_gateway, conf->consecutive_gateway, PX_OUTLIER_GATEWAY);
    else
        end_row(&state->consecutive_gateway);
    count_row(host, &state->consecutive_5xx, conf->consecutive_5xx, PX_OUTLIER_5XX);
}

static void note_local(struct px_host *host, const struct px_outlier_conf *conf, bool is_success)
{
    struct px_host_state *state = host->state;
    count_answer(&state->local, is_success);
    if (is_success)
        end_row(&state->consecutive_local);
    else
        count_row(host, &state->consecutive_local, conf->consecutive_local, PX_OUTLIER_LOCAL);
}

void px_host_note_code(struct px_host *host, uint32_t code)
{
    const struct px_outlier_conf *conf = judged_by(host);
    if (conf != NULL)
        note_code(host, conf, code);
}

void px_host_note_connected(struct px_host *host, bool is_last)
{
    const struct px_outlier_conf *conf = judged_by(host);
    if (conf == NULL)
        return;
    if (conf->splits_local_origin)
        note_local(host, conf, true);
    else if (is_last)
        note_code(host, conf, 200);
}

/* code: what it counts as where local origin is not apart. */
static void note_no_answer(struct px_host *host, uint32_t code)
{
    const struct px_outlier_conf *conf = judged_by(host);
    if (conf == NULL)
        return;
    if (conf->splits_local_origin)
        note_local(host, conf, false);
    else
        note_code(host, conf, code);
}

void px_host_note_failed(struct px_host *host)
{
    note_no_answer(host, 503);
}

void px_host_note_timeout(struct px_host *host)
{
    note_no_answer(host, 504);
}

void px_host_note_excluded(struct px_host *host)
{
    if (host->state != NULL && host->is_listed && host->cluster->conf->check != NULL)
        tell(host, PX_REPORT_IMMEDIATE_FAIL);
}

uint32_t px_http_status_of_grpc(uint32_t grpc_status)
{
    static const uint16_t statuses[] = {200, 499, 500, 400, 504, 404, 409, 403, 429,
                                        400, 409, 400, 501, 500, 503, 500, 401};
    return grpc_status < LT_ARRAY_LEN(statuses) ? statuses[grpc_status] : 500;
}
