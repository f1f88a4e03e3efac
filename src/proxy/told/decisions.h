/*
 * proxy/told/decisions.h - what was decided about requests, and by whom: the latest that failed and
 * a sample of the others, each as a piece of JSON, for /decisions. One of each worker; bounded in
 * number, size and rate.
 */
#ifndef LT_PROXY_TOLD_DECISIONS_H
#define LT_PROXY_TOLD_DECISIONS_H

#include "base/arena.h"
#include "base/metric.h"
#include "base/vec.h"
#include "proxy/http/request.h"

struct px_request;

enum {
    PX_DECISIONS_FAILED = 128, /* kept */
    PX_DECISIONS_SAMPLED = 32,
    PX_DECISION_BYTES_MAX = 8 * 1024,
    PX_DECISIONS_PER_S = 100,  /* failed ones that are written down; others are counted */
    PX_DECISION_SAMPLE = 1024, /* one of so many that went well */
};

struct px_decisions *px_decisions_new(struct lt_metric_set *metrics);
void px_decisions_free(struct px_decisions **decisions);

/* The latest of a kind. */
struct px_decision_ring {
    struct px_decision **items; /* owned; made with the first */
    size_t size, at;
};

struct px_decisions {
    struct px_decision_ring failed, sampled;
    struct lt_buf text; /* of the one that is written */
    int64_t second;
    uint32_t in_second;
    uint64_t good;                 /* requests that went well */
    struct lt_metric_set *metrics; /* borrowed */
    struct lt_counter *missed;     /* made with the first */
};

/* A try that another one follows. why: static. status: of the host, 0 when there was none. */
void px_decisions_note_try(struct px_request *request, const char *why, uint32_t status);
/* Few are. */
static inline bool px_decisions_wants(struct px_decisions *decisions,
                                      const struct px_request *request)
{
    bool went_well = request->flags == 0 && request->code - 1 < 399 && request->tries == NULL;
    return !went_well || decisions->good++ % PX_DECISION_SAMPLE == 0;
}
/* At the end of a request, once, when it is wanted. */
void px_decisions_note(struct px_decisions *decisions, struct px_request *request);

/* One as the page gets it. */
struct px_decision {
    int64_t time_ns;
    bool is_failed;
    size_t len;
    char json[];
};
/* Copies of all, owned by the list. */
void px_decisions_copy(const struct px_decisions *decisions, struct lt_vec *to);

#endif
