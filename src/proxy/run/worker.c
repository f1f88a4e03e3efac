/*
 * proxy/run/worker.c - worker threads, their mailboxes, and what every part of a worker shares:
 * pins, blocks, interned text.
 * Start at: worker_main(), take_snapshot().
 */
#include "proxy/run/worker.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "proxy/filter/jwks.h"
#include "proxy/http/inside.h"
#include "proxy/run/on_demand.h"
#include "proxy/run/relieve.h"
#include "proxy/run/run.h"
#include "proxy/run/workers.h"
#include "proxy/told/access_log.h"
#include "proxy/told/count.h"
#include "proxy/told/decisions.h"
#include "proxy/told/messages.h"

enum {
    SERIES_MAX = 50000,
    BLOCKS_KEPT = 256,
    TRIM_MS = 1000,
    TRIM_HEAP_BYTES = 64 * 1024,
};

/* --- pins --- */

struct px_pin *px_pin_take(struct px_pin *pin)
{
    pin->users++;
    return pin;
}

struct give_back {
    struct lt_letter letter;
    struct px_snapshot *snapshot;
};

static void open_give_back(struct lt_letter *letter, void *receiver LT_UNUSED)
{
    struct give_back *back = LT_CONTAINER_OF(letter, struct give_back, letter);
    px_snapshot_drop(&back->snapshot);
    free(back);
}

void px_pin_drop(struct px_pin **pin)
{
    struct px_pin *dropped = *pin;
    *pin = NULL;
    if (dropped == NULL || --dropped->users > 0)
        return;
    struct give_back *back = lt_new(struct give_back);
    back->letter.open = open_give_back;
    back->snapshot = dropped->snapshot;
    lt_mailbox_post(dropped->worker->owner->mailbox, &back->letter);
    free(dropped);
}

/* --- memory that all parts share --- */

static void run_bury(struct lt_task *task)
{
    struct px_worker *worker = LT_CONTAINER_OF(task, struct px_worker, bury);
    while (worker->graveyard.count > 0)
        free(lt_vec_pop(&worker->graveyard));
    while (worker->dead_conns.count > 0)
        lt_slab_give(&worker->conn_slab, lt_vec_pop(&worker->dead_conns));
    while (worker->dead_ups.count > 0)
        lt_slab_give(&worker->up_slab, lt_vec_pop(&worker->dead_ups));
}

void px_bury(struct px_worker *worker, void *memory)
{
    lt_vec_push(&worker->graveyard, memory);
    lt_loop_defer(worker->loop, &worker->bury);
}

void px_bury_conn(struct px_worker *worker, struct px_conn *conn)
{
    lt_vec_push(&worker->dead_conns, conn);
    lt_loop_defer(worker->loop, &worker->bury);
}

void px_bury_upstream(struct px_worker *worker, struct px_upstream *up)
{
    lt_vec_push(&worker->dead_ups, up);
    lt_loop_defer(worker->loop, &worker->bury);
}

const char *px_intern(struct px_worker *worker, lt_str text)
{
    return px_text_make(&worker->interns, text);
}

/* --- what is kept for the next request, and given back when nobody misses it --- */

static void on_trim(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_worker *worker = LT_CONTAINER_OF(timer, struct px_worker, trim);
    bool has_freed = worker->blocks_spare > 0 || worker->requests_spare > PX_REQUESTS_IDLE;
    for (; worker->blocks_spare > 0 && worker->blocks.count > 0; worker->blocks_spare--)
        free(lt_vec_pop(&worker->blocks));
    px_http_trim_requests(worker);
    worker->blocks_spare = (uint32_t)worker->blocks.count;
    worker->requests_spare = worker->request_count;
    if (has_freed)
        malloc_trim(TRIM_HEAP_BYTES); /* the heap keeps it otherwise */
    px_trim_later(worker);
}

void px_trim_later(struct px_worker *worker)
{
    bool has_spare = worker->blocks.count > 0 || worker->request_count > PX_REQUESTS_IDLE;
    if (has_spare && !lt_timer_is_set(&worker->trim))
        lt_loop_timer_set(worker->loop, &worker->trim, TRIM_MS * LT_NS_PER_MS);
}

/* --- input blocks --- */

static char *take_block(struct px_worker *worker)
{
    char *block = lt_vec_pop(&worker->blocks);
    worker->blocks_spare = LT_MIN(worker->blocks_spare, (uint32_t)worker->blocks.count);
    return block != NULL ? block : lt_malloc(PX_BLOCK_BYTES);
}

static void give_block(struct px_worker *worker, char *data, uint32_t cap)
{
    if (cap != PX_BLOCK_BYTES || worker->blocks.count >= BLOCKS_KEPT) {
        free(data);
        return;
    }
    lt_vec_push(&worker->blocks, data);
    px_trim_later(worker);
}

lt_rc px_input_read(struct px_worker *worker, struct px_input *in, struct lt_transport *transport,
                    bool *can_read)
{
    if (in->data == NULL) {
        in->data = take_block(worker);
        in->cap = PX_BLOCK_BYTES;
        in->floor = in->pos = in->end = 0;
    }
    if (in->pos == in->end)
        in->pos = in->end = in->floor;
    if (in->end == in->cap && in->pos > in->floor) {
        memmove(in->data + in->floor, in->data + in->pos, in->end - in->pos);
        in->end -= in->pos - in->floor;
        in->pos = in->floor;
    }
    size_t room = in->cap - in->end, got = 0;
    if (room == 0)
        return LT_E_LIMIT;
    lt_rc rc = lt_transport_read(transport, in->data + in->end, room, &got);
    if (rc == LT_OK) {
        in->end += (uint32_t)got;
        px_relieve_note(worker, got);
        /* a short read of a plain socket has emptied it; the next edge will come */
        if (transport->tls == NULL && got < room && !in->end_is_near)
            *can_read = false;
    } else if (rc == LT_AGAIN) {
        *can_read = false;
    }
    return rc;
}

lt_rc px_input_grow(struct px_worker *worker, struct px_input *in, uint32_t cap)
{
    if (in->cap >= cap)
        return LT_E_LIMIT;
    uint32_t larger = LT_MIN(in->cap * 2, cap);
    char *data = lt_malloc(larger);
    memcpy(data, in->data, in->end);
    give_block(worker, in->data, in->cap);
    in->data = data;
    in->cap = larger;
    return LT_OK;
}

void px_input_free(struct px_worker *worker, struct px_input *in)
{
    if (in->data != NULL)
        give_block(worker, in->data, in->cap);
    *in = (struct px_input){.end_is_near = in->end_is_near};
}

char *px_input_detach(struct px_worker *worker, struct px_input *in, uint32_t floor_max)
{
    if (in->floor <= floor_max)
        return NULL;
    char *old = in->data;
    uint32_t unread = in->end - in->pos;
    in->data = unread <= PX_BLOCK_BYTES ? take_block(worker) : lt_malloc(in->cap);
    in->cap = unread <= PX_BLOCK_BYTES ? (uint32_t)PX_BLOCK_BYTES : in->cap;
    memcpy(in->data, old + in->pos, unread);
    in->floor = in->pos = 0;
    in->end = unread;
    return old;
}

void px_input_reset(struct px_worker *worker, struct px_input *in)
{
    in->floor = 0;
    if (in->pos == in->end) {
        px_input_free(worker, in);
        return;
    }
    if (in->pos > 0)
        memmove(in->data, in->data + in->pos, in->end - in->pos);
    in->end -= in->pos;
    in->pos = 0;
}

/* --- a new snapshot --- */

struct snapshot_letter {
    struct lt_letter letter;
    struct px_snapshot *snapshot;
};

struct report_letter {
    struct lt_letter letter;
    struct px_workers *workers;
    unsigned index;
    char error[256];
};

static void open_report(struct lt_letter *letter, void *receiver LT_UNUSED)
{
    struct report_letter *report = LT_CONTAINER_OF(letter, struct report_letter, letter);
    struct px_workers *workers = report->workers;
    workers->threads[report->index].has_snapshot = true;
    if (report->error[0] != '\0' && workers->opts.on_listener_error != NULL)
        workers->opts.on_listener_error(workers->opts.ctx, report->error);
    free(report);
}

/*
 * Connections whose listener is unchanged follow the new snapshot, so that an idle one does not
 * keep an old one alive.
 */
static void move_pins(struct px_worker *worker)
{
    struct lt_list *it, *next;
    lt_list_each (&worker->conns, it, next) {
        struct px_conn *conn = LT_CONTAINER_OF(it, struct px_conn, link);
        struct px_listener *listener = lt_map_find(&worker->listeners, conn->listener->res.name);
        if (listener == NULL || listener->conf != conn->listener) {
            px_conn_drain(conn, worker->owner->opts.drain_ms);
            continue;
        }
        struct px_pin *old = conn->pin;
        conn->pin = px_pin_take(worker->pin);
        px_pin_drop(&old);
    }
}

static void find_own_principal(struct px_worker *worker)
{
    const struct px_tls_set *set = worker->pin->snapshot->tls;
    for (uint32_t i = 0; i < set->count; i++) {
        lt_str uri = set->ctxs[i] == NULL ? LT_STR_NULL : lt_tls_ctx_own_uri(set->ctxs[i]);
        if (uri.len > 0)
            px_text_set(&worker->own_principal, px_intern(worker, uri));
    }
}

static void open_snapshot(struct lt_letter *letter, void *receiver)
{
    struct px_worker *worker = receiver;
    struct snapshot_letter *news = LT_CONTAINER_OF(letter, struct snapshot_letter, letter);
    struct px_pin *old = worker->pin;
    worker->pin = lt_new(struct px_pin);
    *worker->pin = (struct px_pin){news->snapshot, worker, 1};
    free(news);
    struct report_letter *report = lt_new(struct report_letter);
    report->letter.open = open_report;
    report->workers = worker->owner;
    report->index = worker->index;
    struct lt_err err = {0};
    find_own_principal(worker);
    px_clusters_update(worker, old);
    if (!worker->is_draining && px_listeners_update(worker, &err) != LT_OK)
        memcpy(report->error, err.text, sizeof(report->error) - 1);
    px_jwks_prefetch(worker);
    move_pins(worker);
    px_pin_drop(&old);
    lt_mailbox_post(worker->owner->mailbox, &report->letter);
}

void px_workers_publish(struct px_workers *workers, struct px_snapshot *snapshot)
{
    for (unsigned i = 0; i < workers->opts.count; i++) {
        struct snapshot_letter *letter = lt_new(struct snapshot_letter);
        letter->letter.open = open_snapshot;
        letter->snapshot = snapshot;
        px_snapshot_hold(snapshot);
        lt_mailbox_post(workers->threads[i].worker->mailbox, &letter->letter);
    }
    px_snapshot_drop(&snapshot);
}

/* --- health of hosts --- */

struct health_letter {
    struct lt_letter letter;
    size_t count;
    char *names[]; /* owned */
};

static void open_health(struct lt_letter *letter, void *receiver)
{
    struct px_worker *worker = receiver;
    struct health_letter *news = LT_CONTAINER_OF(letter, struct health_letter, letter);
    for (size_t i = 0; i < news->count; i++) {
        struct px_cluster *cluster = lt_map_find(&worker->clusters, lt_str_of(news->names[i]));
        if (cluster != NULL)
            px_hosts_health_changed(cluster);
        free(news->names[i]);
    }
    free(news);
}

void px_workers_tell_health(struct px_workers *workers, const lt_str *clusters, size_t count)
{
    for (unsigned i = 0; i < workers->opts.count; i++) {
        struct health_letter *letter = lt_calloc(1, sizeof(*letter) + count * sizeof(char *));
        letter->letter.open = open_health;
        letter->count = count;
        for (size_t j = 0; j < count; j++)
            letter->names[j] = lt_str_dupz(clusters[j]);
        lt_mailbox_post(workers->threads[i].worker->mailbox, &letter->letter);
    }
}

bool px_workers_are_ready(const struct px_workers *workers)
{
    for (unsigned i = 0; i < workers->opts.count; i++) {
        if (!workers->threads[i].has_snapshot)
            return false;
    }
    return true;
}

/* --- sockets of another network --- */

struct hand_letter {
    struct lt_letter letter;
    struct lt_handover message;
    int fd;
};

static void open_hand(struct lt_letter *letter, void *receiver)
{
    struct hand_letter *hand = LT_CONTAINER_OF(letter, struct hand_letter, letter);
    px_handed_take(receiver, &hand->message, hand->fd);
    free(hand);
}

void px_workers_hand(struct px_workers *workers, const struct lt_handover *message, int fd)
{
    for (unsigned i = 0; i < workers->opts.count; i++) {
        struct hand_letter *letter = lt_new(struct hand_letter);
        letter->letter.open = open_hand;
        letter->message = *message;
        letter->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
        lt_mailbox_post(workers->threads[i].worker->mailbox, &letter->letter);
    }
    if (fd >= 0)
        close(fd);
}

/* --- threads --- */

static void *worker_main(void *arg)
{
    struct px_worker *worker = arg;
    lt_loop_run(worker->loop);
    return NULL;
}

static struct px_worker *make_worker(struct px_workers *workers, unsigned index)
{
    struct px_worker *worker = lt_new(struct px_worker);
    worker->owner = workers;
    worker->index = index;
    worker->env = workers->opts.env;
    worker->home = &workers->opts.home;
    worker->loop = lt_loop_new(worker->env);
    worker->mailbox = lt_mailbox_new(worker->loop, worker);
    lt_list_init(&worker->conns);
    lt_list_init(&worker->handed);
    lt_list_init(&worker->requests);
    lt_list_init(&worker->inside);
    lt_list_init(&worker->ready);
    lt_list_init(&worker->dirty);
    lt_list_init(&worker->buried);
    lt_task_init(&worker->turn, px_http_turn);
    px_relieve_init(worker);
    lt_list_init(&worker->to_wake);
    lt_task_init(&worker->wake, px_clusters_wake);
    lt_task_init(&worker->bury, run_bury);
    lt_timer_init(&worker->trim, on_trim);
    lt_slab_init(&worker->conn_slab, sizeof(struct px_conn));
    lt_slab_init(&worker->up_slab, sizeof(struct px_upstream));
    px_interns_init(&worker->interns);
    lt_list_init(&worker->tcp_untold);
    lt_timer_init(&worker->tcp_tell, px_tcp_on_tell);
    px_jwt_cache_init(&worker->jwt_cache);
    lt_list_init(&worker->messages_untold);
    lt_timer_init(&worker->messages_tell, px_messages_on_tell);
    worker->own_principal = "";
    worker->holds_accept = workers->opts.holds_accept;
    lt_prng_seed(&worker->prng, worker->env);
    worker->metrics = lt_metric_set_new(SERIES_MAX);
    worker->telemetry = px_telemetry_new(worker->metrics, &workers->opts.node, workers->opts.stats);
    worker->access_log = px_access_logger_new(worker->loop, worker->metrics);
    worker->decisions = px_decisions_new(worker->metrics);
    return worker;
}

static void free_worker(struct px_worker *worker)
{
    px_listeners_close(worker);
    px_handed_free(worker);
    px_sockets_free(&worker->inherited);
    while (!lt_list_is_empty(&worker->conns))
        px_conn_close(lt_list_first(&worker->conns, struct px_conn, link));
    px_jwks_free(worker);
    px_jwt_cache_fini(&worker->jwt_cache);
    px_inside_free(worker);
    px_on_demand_free(worker);
    px_clusters_free(worker);
    lt_map_fini(&worker->listeners);
    px_http_free_requests(worker);
    px_pin_drop(&worker->pin);
    px_access_logger_free(&worker->access_log);
    px_decisions_free(&worker->decisions);
    px_telemetry_free(&worker->telemetry);
    lt_metric_set_free(&worker->metrics);
    lt_task_cancel(&worker->wake);
    lt_task_cancel(&worker->turn);
    lt_task_cancel(&worker->relieve);
    lt_loop_timer_cancel(worker->loop, &worker->trim);
    lt_loop_timer_cancel(worker->loop, &worker->tcp_tell);
    lt_loop_timer_cancel(worker->loop, &worker->messages_tell);
    lt_task_cancel(&worker->bury);
    run_bury(&worker->bury);
    lt_vec_fini(&worker->graveyard);
    lt_vec_fini(&worker->dead_conns);
    lt_vec_fini(&worker->dead_ups);
    lt_slab_fini(&worker->conn_slab);
    lt_slab_fini(&worker->up_slab);
    while (worker->blocks.count > 0)
        free(lt_vec_pop(&worker->blocks));
    lt_vec_fini(&worker->blocks);
    px_text_drop(&worker->own_principal);
    px_interns_fini(&worker->interns);
    while (worker->pipe_count > 0)
        px_pipe_close(worker, &worker->pipes[--worker->pipe_count]);
    lt_map_fini(&worker->stat_scopes);
    px_stats_fini(worker);
    lt_mailbox_free(&worker->mailbox);
    lt_loop_free(&worker->loop);
    free(worker);
}

struct px_workers *px_workers_new(const struct px_workers_opts *opts)
{
    LT_ASSERT(opts->count >= 1 && opts->count <= 64);
    struct px_workers *workers = lt_new(struct px_workers);
    workers->opts = *opts;
    workers->mailbox = lt_mailbox_new(opts->loop, workers);
    struct px_pressure_conf none;
    px_pressure_conf_init(&none);
    px_pressure_init(&workers->pressure, opts->pressure != NULL ? opts->pressure : &none);
    workers->threads = lt_calloc(opts->count, sizeof(*workers->threads));
    pthread_mutex_init(&workers->shared_lock, NULL);
    lt_list_init(&workers->shared);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the main thread's */
    for (unsigned i = 0; i < opts->count; i++) {
        struct px_thread *thread = &workers->threads[i];
        thread->worker = make_worker(workers, i);
    }
    px_sockets_share(workers);
    for (unsigned i = 0; i < opts->count; i++) {
        struct px_thread *thread = &workers->threads[i];
        int rc = pthread_create(&thread->id, NULL, worker_main, thread->worker);
        LT_ASSERT(rc == 0);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return workers;
}

static void open_stop(struct lt_letter *letter LT_UNUSED, void *receiver)
{
    struct px_worker *worker = receiver;
    lt_loop_stop(worker->loop);
}

void px_workers_free(struct px_workers **pointer)
{
    struct px_workers *workers = *pointer;
    *pointer = NULL;
    if (workers == NULL)
        return;
    for (unsigned i = 0; i < workers->opts.count; i++) {
        struct px_thread *thread = &workers->threads[i];
        thread->stop.open = open_stop;
        lt_mailbox_post(thread->worker->mailbox, &thread->stop);
        pthread_join(thread->id, NULL);
    }
    for (unsigned i = 0; i < workers->opts.count; i++) {
        free_worker(workers->threads[i].worker);
        workers->threads[i].worker = NULL; /* letters may still look for it */
    }
    lt_mailbox_free(&workers->mailbox);
    px_pressure_fini(&workers->pressure);
    LT_ASSERT(lt_list_is_empty(&workers->shared)); /* their listeners have closed */
    pthread_mutex_destroy(&workers->shared_lock);
    free(workers->threads);
    free(workers);
}

/* --- draining --- */

struct drain_letter {
    struct lt_letter letter;
    px_scope scope;
    bool is_failed;
};

static void open_ask(struct lt_letter *letter, void *receiver)
{
    struct drain_letter *drain = LT_CONTAINER_OF(letter, struct drain_letter, letter);
    px_drain_ask(receiver, drain->scope);
    free(drain);
}

static void open_stop_listeners(struct lt_letter *letter, void *receiver)
{
    struct drain_letter *drain = LT_CONTAINER_OF(letter, struct drain_letter, letter);
    px_listeners_stop(receiver, drain->scope);
    free(drain);
}

static void open_fail_check(struct lt_letter *letter, void *receiver)
{
    struct drain_letter *drain = LT_CONTAINER_OF(letter, struct drain_letter, letter);
    px_drain_fail_check(receiver, drain->is_failed);
    free(drain);
}

static void post_to_all(struct px_workers *workers, lt_letter_fn *open, px_scope scope,
                        bool is_failed)
{
    for (unsigned i = 0; i < workers->opts.count; i++) {
        struct drain_letter *letter = lt_new(struct drain_letter);
        letter->letter.open = open;
        letter->scope = scope;
        letter->is_failed = is_failed;
        lt_mailbox_post(workers->threads[i].worker->mailbox, &letter->letter);
    }
}

void px_workers_ask_to_leave(struct px_workers *workers, px_scope scope)
{
    post_to_all(workers, open_ask, scope, false);
}

void px_workers_stop_listeners(struct px_workers *workers, px_scope scope)
{
    post_to_all(workers, open_stop_listeners, scope, false);
}

void px_workers_fail_check(struct px_workers *workers, bool fails)
{
    post_to_all(workers, open_fail_check, PX_SCOPE_NONE, fails);
}

/* Who has just come has sent nothing yet, and will: it is waited for as requests are. */
static bool has_just_come(const struct px_conn *conn)
{
    return !conn->has_served && px_now_ns(conn->worker) - conn->accepted_ns < LT_NS_PER_S;
}

static void open_drain(struct lt_letter *letter, void *receiver)
{
    struct px_worker *worker = receiver;
    worker->is_draining = true;
    px_listeners_close(worker);
    struct lt_list *it, *next;
    lt_list_each (&worker->conns, it, next) {
        struct px_conn *conn = LT_CONTAINER_OF(it, struct px_conn, link);
        if (conn->state == PX_CONN_H2)
            px_h2_drain(conn);
        conn->is_draining = true;
        /* nothing in hand, nothing on its way: closing it costs nobody a request that had begun */
        if (conn->state == PX_CONN_HTTP && conn->request == NULL && conn->in.data == NULL &&
            !has_just_come(conn))
            px_conn_close(conn);
    }
    free(LT_CONTAINER_OF(letter, struct drain_letter, letter));
}

static void on_drain_timer(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_workers *workers = LT_CONTAINER_OF(timer, struct px_workers, drain_timer);
    if (px_workers_connections(workers) > 0 && now_ns < workers->drain_until_ns) {
        lt_loop_timer_set(workers->opts.loop, timer, 20 * LT_NS_PER_MS);
        return;
    }
    workers->on_drained(workers->drain_ctx);
}

void px_workers_drain(struct px_workers *workers, uint32_t timeout_ms, void (*on_done)(void *ctx),
                      void *ctx)
{
    workers->on_drained = on_done;
    workers->drain_ctx = ctx;
    workers->drain_until_ns = lt_loop_now_ns(workers->opts.loop) + timeout_ms * LT_NS_PER_MS;
    post_to_all(workers, open_drain, PX_SCOPE_ALL, false);
    lt_timer_init(&workers->drain_timer, on_drain_timer);
    lt_loop_timer_set(workers->opts.loop, &workers->drain_timer, 20 * LT_NS_PER_MS);
}

uint64_t px_workers_connections(const struct px_workers *workers)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < workers->opts.count; i++)
        total += atomic_load_explicit(&workers->threads[i].connections, memory_order_relaxed);
    return total;
}
