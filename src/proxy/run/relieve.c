/*
 * proxy/run/relieve.c - what a worker does when memory gets short (pressure.h): gives spare memory
 * back, ends whoever holds most, refuses what comes.
 * Nothing is ended inside a read: looking only notes it, and the end of the turn acts.
 * Start at: px_relieve_look(), run_relieve().
 */
#include <malloc.h>
#include <stdlib.h>

#include "proxy/http/h2_link.h"
#include "proxy/http/request.h"
#include "proxy/run/relieve.h"
#include "proxy/run/workers.h"

enum {
    LOOK_PARTS = 256, /* a worker looks whenever it has read that part of the ceiling */
    LOOK_BYTES_MIN = 32 * 1024,
    LOOK_BYTES_MAX = 512 * 1024,
    HEAVY_BYTES = 8 * 1024, /* less than that is not worth a request */
    CONN_BYTES = 2 * 1024,  /* what one takes that holds nothing */
    H2_CONN_BYTES = 12 * 1024,
    TLS_BYTES = 24 * 1024,
    REQUEST_BYTES = 8 * 1024,
    TRIM_EVERY_MS = 50,
};

void px_relieve_init(struct px_worker *worker)
{
    const struct px_pressure_conf *conf = &worker->owner->pressure.conf;
    uint64_t least = UINT64_MAX;
    for (int act = 0; act < PX_ACTS; act++)
        least = LT_MIN(least, conf->at_bytes[act]);
    worker->look_every = SIZE_MAX;
    if (least != UINT64_MAX)
        worker->look_every = LT_MIN(LT_MAX(least / LOOK_PARTS, (uint64_t)LOOK_BYTES_MIN),
                                    (uint64_t)LOOK_BYTES_MAX);
    worker->acts = &worker->owner->pressure.acts;
    lt_task_init(&worker->relieve, px_relieve_run);
}

void px_relieve_look(struct px_worker *worker)
{
    worker->unlooked = 0;
    uint32_t acts = px_pressure_measure(&worker->owner->pressure);
    if ((acts & (1u << PX_ACT_SHED)) != 0)
        worker->is_choked = true;
    if ((acts & (1u << PX_ACT_SHED | 1u << PX_ACT_SHRINK)) != 0)
        lt_loop_defer(worker->loop, &worker->relieve);
}

/* --- counters --- */

static void count_shed(struct px_worker *worker, const char *what)
{
    static const lt_str label = {"kind", 4};
    static const struct lt_metric_desc desc = {
        .name = {"lateen_overload_shed_total", 26},
        .kind = LT_METRIC_COUNTER,
        .help = {"Streams and connections ended because memory was short", 54},
        .stat = {"lateen.overload.shed_$0", 23},
        .labels = &label,
        .label_count = 1,
    };
    lt_str value = lt_str_of(what);
    lt_counter_add(lt_metric_counter(lt_metric_family(worker->metrics, &desc), &value), 1);
}

void px_relieve_count_listener(struct px_worker *worker, const struct px_listener_conf *conf,
                               bool is_overflow)
{
    static const lt_str label = {"listener_address", 16};
    static const struct lt_metric_desc reject = {
        .name = {"envoy_listener_downstream_cx_overload_reject", 44},
        .kind = LT_METRIC_COUNTER,
        .stat = {"listener.$0.downstream_cx_overload_reject", 41},
        .labels = &label,
        .label_count = 1,
    };
    static const struct lt_metric_desc overflow = {
        .name = {"envoy_listener_downstream_global_cx_overflow", 44},
        .kind = LT_METRIC_COUNTER,
        .stat = {"listener.$0.downstream_global_cx_overflow", 41},
        .labels = &label,
        .label_count = 1,
    };
    char text[LT_ADDR_TEXT_MAX];
    lt_addr_format(&conf->addr, text);
    for (char *at = text; *at != '\0'; at++)
        *at = *at == ':' ? '_' : *at;
    lt_str address = lt_str_of(text);
    struct lt_metric_family *family = lt_metric_family(worker->metrics,
                                                       is_overflow ? &overflow : &reject);
    lt_counter_add(lt_metric_counter(family, &address), 1);
}

void px_count_accept_pause(struct px_worker *worker)
{
    static const struct lt_metric_desc desc = {
        .name = {"lateen_accept_pauses_total", 26},
        .kind = LT_METRIC_COUNTER,
        .help = {"Accepting waited because descriptors had run out", 48},
        .stat = {"lateen.accept_pauses", 20},
    };
    lt_counter_add(lt_metric_counter(lt_metric_family(worker->metrics, &desc), NULL), 1);
}

static void count_http(struct px_worker *worker, const struct px_hcm_conf *hcm, bool is_request)
{
    static const lt_str label = {"envoy_http_conn_manager_prefix", 30};
    static const struct lt_metric_desc request = {
        .name = {"envoy_http_downstream_rq_overload_close", 39},
        .kind = LT_METRIC_COUNTER,
        .stat = {"http.$0.downstream_rq_overload_close", 36},
        .labels = &label,
        .label_count = 1,
    };
    static const struct lt_metric_desc keep_alive = {
        .name = {"envoy_http_downstream_cx_overload_disable_keepalive", 51},
        .kind = LT_METRIC_COUNTER,
        .stat = {"http.$0.downstream_cx_overload_disable_keepalive", 48},
        .labels = &label,
        .label_count = 1,
    };
    struct lt_metric_family *family = lt_metric_family(worker->metrics,
                                                       is_request ? &request : &keep_alive);
    lt_counter_add(lt_metric_counter(family, &hcm->stat_prefix), 1);
}

/* --- refusing --- */

bool px_relieve_refuses_connection(struct px_worker *worker, const struct px_listener_conf *conf)
{
    struct px_workers *workers = worker->owner;
    uint64_t max = workers->pressure.conf.connections_max;
    if (max != 0 && !conf->ignores_connection_limit && px_workers_connections(workers) >= max) {
        px_relieve_count_listener(worker, conf, true);
        return true;
    }
    if (!px_pressure_has(&workers->pressure, PX_ACT_REJECT_CONNECTIONS) || conf->bypasses_overload)
        return false;
    px_relieve_look(worker); /* it may be over by now */
    if (!px_pressure_has(&workers->pressure, PX_ACT_REJECT_CONNECTIONS))
        return false;
    px_relieve_count_listener(worker, conf, false);
    return true;
}

bool px_relieve_refuses_request(struct px_request *request)
{
    struct px_worker *worker = request->worker;
    const struct px_conn *conn = request->conn;
    if (!px_pressure_has(&worker->owner->pressure, PX_ACT_REFUSE_REQUESTS) ||
        conn->state == PX_CONN_INSIDE || conn->listener->bypasses_overload)
        return false;
    count_http(worker, request->hcm, true);
    px_request_reply(request, 503, 0, "overload", LT_STR("envoy overloaded"), "text/plain");
    return true;
}

bool px_relieve_ends_keep_alive(struct px_conn *conn)
{
    if (!px_pressure_has(&conn->worker->owner->pressure, PX_ACT_NO_KEEPALIVE) ||
        conn->listener->bypasses_overload)
        return false;
    if (!conn->is_closing)
        count_http(conn->worker, conn->chain->hcm, false);
    return true;
}

/* --- who holds how much: an estimate of what its end would give --- */

struct unit {
    size_t bytes;
    struct px_conn *conn;
    struct px_request *request; /* HTTP/2: one stream; NULL: the connection */
};

static size_t request_bytes(const struct px_request *request)
{
    size_t bytes = REQUEST_BYTES + lt_rope_len(&request->req.rx) + lt_rope_len(&request->resp.rx) +
                   lt_buf_len(&request->replay) + request->up_out.cap + request->down_out.cap;
    if (request->down_stream != NULL)
        bytes += lt_h2_stream_queued(request->down_stream);
    if (request->up_stream != NULL)
        bytes += lt_h2_stream_queued(request->up_stream);
    else if (request->up != NULL)
        bytes += request->up->in.cap;
    return bytes;
}

static size_t conn_bytes(const struct px_conn *conn)
{
    size_t bytes = CONN_BYTES + conn->in.cap;
    bytes += conn->transport.tls != NULL ? TLS_BYTES : 0;
    bytes += conn->h2 != NULL ? H2_CONN_BYTES : 0;
    bytes += conn->request != NULL ? request_bytes(conn->request) : 0;
    bytes += conn->tcp != NULL ? CONN_BYTES + PX_BLOCK_BYTES : 0;
    return bytes;
}

static size_t count_units(const struct px_worker *worker)
{
    size_t count = 0;
    struct lt_list *it, *next, *stream, *after;
    lt_list_each (&worker->conns, it, next) {
        struct px_conn *conn = LT_CONTAINER_OF(it, struct px_conn, link);
        count++;
        lt_list_each (&conn->streams, stream, after)
            count++;
    }
    return count;
}

/* Streams for themselves; a connection with all that is small on it. */
static size_t list_units(struct px_worker *worker, struct unit *units)
{
    size_t count = 0;
    struct lt_list *it, *next, *stream, *after;
    lt_list_each (&worker->conns, it, next) {
        struct px_conn *conn = LT_CONTAINER_OF(it, struct px_conn, link);
        struct unit whole = {.bytes = conn_bytes(conn), .conn = conn};
        lt_list_each (&conn->streams, stream, after) {
            struct px_request *request = LT_CONTAINER_OF(stream, struct px_request, conn_link);
            size_t bytes = request_bytes(request);
            whole.bytes += bytes;
            if (bytes >= 2 * HEAVY_BYTES)
                units[count++] = (struct unit){bytes, conn, request};
        }
        units[count++] = whole;
    }
    return count;
}

static int by_weight(const void *a, const void *b)
{
    const struct unit *left = a, *right = b;
    return left->bytes < right->bytes ? 1 : left->bytes > right->bytes ? -1 : 0;
}

/* --- ending them --- */

static void end_request(struct px_request *request)
{
    if (!request->response_begun && request->state != PX_RQ_HEAD) {
        request->conn->is_closing |= request->down->protocol == PX_PROTO_H1;
        px_request_reply(request, 503, PX_FLAG_OVERLOAD, "overload", LT_STR("envoy overloaded"),
                         "text/plain");
        px_request_ready(request);
        return;
    }
    request->details = "overload";
    request->flags |= PX_FLAG_OVERLOAD;
    request->down->abort(request);
}

static void end_unit(struct px_worker *worker, const struct unit *unit)
{
    count_shed(worker, unit->request != NULL ? "stream" : "connection");
    if (unit->request != NULL) {
        end_request(unit->request);
        return;
    }
    if (unit->conn->request != NULL) {
        unit->conn->request->details = "overload";
        unit->conn->request->flags |= PX_FLAG_OVERLOAD;
    }
    px_conn_close(unit->conn);
}

/* True while the unit's memory is not gone with another's. */
static bool is_there(const struct unit *unit)
{
    if (unit->conn->state == PX_CONN_CLOSED)
        return false;
    return unit->request == NULL || unit->request->state < PX_RQ_REPLY;
}

/* This worker's share of what is too much, the heaviest first; the light ones stay. */
static void shed(struct px_worker *worker)
{
    struct px_workers *workers = worker->owner;
    const struct px_pressure_conf *conf = &workers->pressure.conf;
    uint64_t used = atomic_load_explicit(&workers->pressure.used_bytes, memory_order_relaxed);
    uint64_t calm = conf->at_bytes[PX_ACT_SHED] / 100 * 95;
    size_t room = count_units(worker);
    if (used <= calm || room == 0)
        return;
    uint64_t too_much = (used - calm) / workers->opts.count + 1, freed = 0;
    struct unit *units = lt_calloc(room, sizeof(*units));
    size_t count = list_units(worker, units);
    qsort(units, count, sizeof(*units), by_weight);
    for (size_t i = 0; i < count && freed < too_much; i++) {
        if (units[i].bytes < HEAVY_BYTES)
            break;
        if (!is_there(&units[i]))
            continue;
        freed += units[i].bytes;
        end_unit(worker, &units[i]);
    }
    free(units);
}

/* All that is kept for the next request. */
static void shrink(struct px_worker *worker)
{
    while (worker->blocks.count > 0)
        free(lt_vec_pop(&worker->blocks));
    worker->blocks_spare = 0;
    worker->requests_spare = worker->request_count;
    px_http_trim_requests(worker);
    worker->requests_spare = worker->request_count;
}

void px_relieve_run(struct lt_task *task)
{
    struct px_worker *worker = LT_CONTAINER_OF(task, struct px_worker, relieve);
    struct px_pressure *pressure = &worker->owner->pressure;
    uint64_t now_ns = px_now_ns(worker);
    worker->is_choked = false;
    shrink(worker);
    bool is_due = now_ns >= worker->trimmed_ns + TRIM_EVERY_MS * LT_NS_PER_MS;
    if (is_due || worker->has_shed) {
        malloc_trim(0); /* what was freed is still ours until then, and would be measured */
        worker->trimmed_ns = now_ns;
        px_pressure_measure(pressure);
    }
    worker->has_shed = false;
    if (!px_pressure_has(pressure, PX_ACT_SHED))
        return;
    shed(worker);
    worker->has_shed = true; /* memory goes at the end of this turn; look again in the next */
    lt_loop_defer(worker->loop, &worker->relieve);
}

/* --- from the main thread: who reads nothing does not look --- */

struct relieve_letter {
    struct lt_letter letter;
    bool pauses, relieves;
};

static void open_relieve(struct lt_letter *letter, void *receiver)
{
    struct px_worker *worker = receiver;
    struct relieve_letter *relieve = LT_CONTAINER_OF(letter, struct relieve_letter, letter);
    if (relieve->relieves)
        lt_loop_defer(worker->loop, &worker->relieve);
    if (relieve->pauses != worker->is_paused)
        px_listeners_pause(worker, relieve->pauses);
    free(relieve);
}

uint32_t px_workers_look_at_memory(struct px_workers *workers, uint64_t *ret_used_bytes)
{
    uint32_t acts = px_pressure_measure(&workers->pressure);
    bool relieves = (acts & (1u << PX_ACT_SHRINK | 1u << PX_ACT_SHED)) != 0;
    bool pauses = (acts >> PX_ACT_PAUSE_CONNECTIONS & 1) != 0;
    *ret_used_bytes = atomic_load_explicit(&workers->pressure.used_bytes, memory_order_relaxed);
    for (unsigned i = 0; i < workers->opts.count && (relieves || pauses != workers->pauses); i++) {
        struct relieve_letter *letter = lt_new(struct relieve_letter);
        letter->letter.open = open_relieve;
        letter->relieves = relieves;
        letter->pauses = pauses;
        lt_mailbox_post(workers->threads[i].worker->mailbox, &letter->letter);
    }
    workers->pauses = pauses;
    return acts;
}
