/*
 * proxy/run/relieve.h - a worker under memory pressure (pressure.h); private to the run time.
 */
#ifndef LT_PROXY_RUN_RELIEVE_H
#define LT_PROXY_RUN_RELIEVE_H

#include <stdatomic.h>

#include "proxy/run/run.h"

void px_relieve_init(struct px_worker *worker);
void px_relieve_run(struct lt_task *task);
void px_relieve_look(struct px_worker *worker);
/* So many bytes were read, or taken for something new: looks now and then. */
static inline void px_relieve_note(struct px_worker *worker, size_t bytes)
{
    worker->unlooked += bytes;
    if (worker->unlooked >= worker->look_every)
        px_relieve_look(worker);
}

/* Nothing is to be done: none of the questions below need be asked. */
static inline bool px_relieve_is_calm(const struct px_worker *worker)
{
    return atomic_load_explicit(worker->acts, memory_order_relaxed) == 0;
}

/* Counted when true. */
bool px_relieve_refuses_connection(struct px_worker *worker, const struct px_listener_conf *conf);
bool px_relieve_ends_keep_alive(struct px_conn *conn);
void px_relieve_count_listener(struct px_worker *worker, const struct px_listener_conf *conf,
                               bool is_overflow);
struct px_request;
/* True: it was answered. */
bool px_relieve_refuses_request(struct px_request *request);

#endif
