/*
 * http/grpc_call.c - one call of a gRPC client: it waits for a connection, has a stream, ends with
 * a status. A call without a stream ends over the channel's list `ended`; one with a stream ends
 * when h2 says on_closed.
 * Trust: what the server sends is a stranger's.
 * Start at: lt_grpc_call_start(), start_stream(), on_closed().
 */
#include "http/grpc_client_priv.h"

#include <stdlib.h>

enum { FIELDS_MAX = 64, STATUS_TEXT_MAX = 2048 };

typedef enum {
    CALL_WAITING, /* in channel->waiting: for a connection */
    CALL_STREAM,  /* has a stream */
    CALL_PARKED,  /* in channel->parked: no stream any more, but messages of a pause */
    CALL_ENDED,   /* in channel->ended: on_closed is due */
} call_state;

struct lt_grpc_call {
    struct lt_grpc_channel *channel;  /* borrowed: outlives its calls */
    struct lt_grpc_client_conn *conn; /* borrowed while there is a stream */
    struct lt_h2_stream *h2;          /* borrowed; only in CALL_STREAM */
    struct lt_list link;              /* in the channel's list of the state */
    call_state state;
    const struct lt_grpc_call_handler *handler;
    void *user;
    struct lt_arena *arena; /* path, metadata, status text */
    struct lt_h2_field fields[FIELDS_MAX];
    size_t field_count;
    struct lt_rope early; /* framed messages from before there was a stream */
    struct lt_grpc_inbox inbox;
    struct lt_timer deadline;
    struct lt_task resume;
    lt_str message; /* of the status */
    uint32_t code;
    bool has_status; /* code and message are decided */
    bool is_half_closed;
    bool is_patient;     /* wait_for_ready */
    bool is_unprocessed; /* for on_closed */
    bool is_aborted;     /* given up by us: no more messages */
};

/* --- status --- */

/* The first word counts. */
static void decide(struct lt_grpc_call *call, uint32_t code, lt_str message)
{
    if (call->has_status)
        return;
    call->has_status = true;
    call->code = code;
    call->message = lt_arena_str(call->arena, lt_str_slice(message, 0, STATUS_TEXT_MAX));
}

static void read_status(struct lt_grpc_call *call, const struct lt_h2_fields *fields)
{
    lt_str status = lt_grpc_find_field(fields->items, fields->count, LT_STR("grpc-status"));
    lt_str message = lt_grpc_find_field(fields->items, fields->count, LT_STR("grpc-message"));
    uint32_t code = LT_GRPC_UNKNOWN;
    if (status.ptr == NULL)
        return;
    if (lt_grpc_status_parse(status, &code) != LT_OK)
        code = LT_GRPC_UNKNOWN;
    message = lt_str_slice(message, 0, STATUS_TEXT_MAX * 3);
    decide(call, code, lt_grpc_message_decode(call->arena, message));
}

/* Only from the loop. */
static void end_call(struct lt_grpc_call *call)
{
    LT_ASSERT(call->has_status);
    lt_list_remove(&call->link);
    lt_loop_timer_cancel(call->channel->loop, &call->deadline);
    call->state = CALL_ENDED;
    call->is_aborted = true;
    call->inbox.is_closed = true;
    bool is_known = call->code <= LT_GRPC_UNAUTHENTICATED;
    call->handler->on_closed(call, is_known ? (lt_grpc_code)call->code : LT_GRPC_UNKNOWN,
                             call->message, call->is_unprocessed);
    lt_task_cancel(&call->resume);
    lt_grpc_inbox_fini(&call->inbox);
    lt_rope_fini(&call->early);
    lt_arena_free(&call->arena);
    free(call);
}

/* Without a stream: the owner hears of it at the end of the turn. */
static void end_soon(struct lt_grpc_call *call, lt_grpc_code code, lt_str message)
{
    LT_ASSERT(call->state == CALL_WAITING || call->state == CALL_PARKED);
    decide(call, code, message);
    if (call->state == CALL_WAITING) {
        call->channel->waiting_count--;
        call->is_unprocessed = true;
    }
    call->state = CALL_ENDED;
    call->is_aborted = true;
    call->inbox.is_closed = true;
    lt_list_remove(&call->link);
    lt_list_push_back(&call->channel->ended, &call->link);
    lt_grpc_channel_kick(call->channel);
}

/* With a stream: on_closed of h2 follows. */
static void abort_stream(struct lt_grpc_call *call, lt_grpc_code code, lt_str message)
{
    decide(call, code, message);
    call->is_aborted = true;
    call->inbox.is_closed = true;
    lt_h2_stream_reset(call->h2, LT_H2_CANCEL);
    lt_grpc_conn_kick(&call->conn->base);
}

static void give_up(struct lt_grpc_call *call, lt_grpc_code code, lt_str message)
{
    if (call->is_aborted)
        return;
    if (call->state == CALL_STREAM)
        abort_stream(call, code, message);
    else
        end_soon(call, code, message);
}

/* --- the channel's side --- */

static struct lt_grpc_call *call_of(struct lt_list *link)
{
    return LT_CONTAINER_OF(link, struct lt_grpc_call, link);
}

void lt_grpc_calls_report_ended(struct lt_grpc_channel *channel)
{
    /* what owners start and lose meanwhile waits for the next turn */
    struct lt_list now;
    lt_list_init(&now);
    while (!lt_list_is_empty(&channel->ended)) {
        struct lt_list *link = channel->ended.next;
        lt_list_remove(link);
        lt_list_push_back(&now, link);
    }
    while (!lt_list_is_empty(&now))
        end_call(call_of(now.next));
}

void lt_grpc_calls_fail_waiting(struct lt_grpc_channel *channel)
{
    struct lt_list *link = NULL, *next = NULL;
    lt_list_each (&channel->waiting, link, next) {
        if (!call_of(link)->is_patient)
            end_soon(call_of(link), LT_GRPC_UNAVAILABLE, lt_str_of(channel->reason));
    }
}

void lt_grpc_calls_cancel_all(struct lt_grpc_channel *channel)
{
    struct lt_list *link = NULL, *next = NULL;
    lt_list_each (&channel->waiting, link, next)
        end_soon(call_of(link), LT_GRPC_CANCELLED, LT_STR("the channel was closed"));
    lt_list_each (&channel->parked, link, next)
        end_soon(call_of(link), LT_GRPC_CANCELLED, LT_STR("the channel was closed"));
}

static lt_rc start_stream(struct lt_grpc_call *call)
{
    struct lt_grpc_client_conn *conn = call->channel->current;
    LT_TRY(
        lt_h2_stream_open(conn->base.h2, call->fields, call->field_count, false, call, &call->h2));
    call->conn = conn;
    call->state = CALL_STREAM;
    lt_list_remove(&call->link);
    call->channel->waiting_count--;
    lt_rc rc = lt_h2_stream_send_rope(call->h2, &call->early);
    if (rc == LT_OK && call->is_half_closed)
        rc = lt_h2_stream_end(call->h2, NULL, 0);
    LT_ASSERT(rc == LT_OK); /* the early queue has the same limit */
    lt_grpc_conn_kick(&conn->base);
    return LT_OK;
}

void lt_grpc_calls_start_waiting(struct lt_grpc_channel *channel)
{
    while (!lt_list_is_empty(&channel->waiting) && channel->current != NULL) {
        lt_rc rc = start_stream(call_of(channel->waiting.next));
        if (rc == LT_E_LIMIT)
            return; /* the peer's streams are all in use: on_turn of the channel sees one end */
        if (rc != LT_OK)
            lt_grpc_channel_renew(channel);
    }
}

/* --- events of h2 --- */

static void on_headers(struct lt_h2_stream *h2, const struct lt_h2_fields *fields, bool is_end)
{
    struct lt_grpc_call *call = lt_h2_stream_user(h2);
    lt_str status = lt_grpc_find_field(fields->items, fields->count, LT_STR(":status"));
    uint64_t http_status = 0;
    if (call->is_aborted || lt_str_to_u64(status, &http_status) != LT_OK || http_status < 200)
        return;
    read_status(call, fields);
    if (fields->is_over_limit) {
        abort_stream(call, LT_GRPC_RESOURCE_EXHAUSTED,
                     LT_STR("response headers are larger than the limit"));
    } else if (http_status != 200) {
        decide(call, lt_grpc_code_of_http((unsigned)http_status),
               LT_STR("the answer is an HTTP error"));
    } else if (!lt_grpc_is_content_type(
                   lt_grpc_find_field(fields->items, fields->count, LT_STR("content-type")))) {
        abort_stream(call, LT_GRPC_UNKNOWN, LT_STR("the answer is not gRPC"));
    } else if (!is_end && call->handler->on_headers != NULL) {
        call->handler->on_headers(call, fields);
    }
    if (http_status != 200)
        call->inbox.is_closed = true;
}

static void check_input(struct lt_grpc_call *call, lt_rc rc)
{
    if (rc == LT_OK || call->is_aborted)
        return;
    const char *text = NULL;
    lt_grpc_code code = lt_grpc_inbox_code(rc, &text);
    abort_stream(call, code, lt_str_of(text));
}

static void on_data(struct lt_h2_stream *h2, lt_str bytes)
{
    struct lt_grpc_call *call = lt_h2_stream_user(h2);
    check_input(call, lt_grpc_inbox_feed(&call->inbox, h2, bytes));
}

static void on_trailers(struct lt_h2_stream *h2, const struct lt_h2_fields *fields)
{
    read_status(lt_h2_stream_user(h2), fields);
}

/* The server has said all: what we would still send nobody reads. */
static void on_end(struct lt_h2_stream *h2)
{
    struct lt_grpc_call *call = lt_h2_stream_user(h2);
    if (lt_grpc_reader_is_partial(&call->inbox.reader) && !call->inbox.is_paused)
        decide(call, LT_GRPC_INTERNAL, LT_STR("the answer ended inside a message"));
    decide(call, LT_GRPC_UNKNOWN, LT_STR("the answer ended without a status"));
    if (!call->is_half_closed || lt_h2_stream_queued(h2) > 0)
        lt_h2_stream_reset(h2, LT_H2_NO_ERROR);
    lt_grpc_conn_kick(&call->conn->base);
}

static void on_writable(struct lt_h2_stream *h2)
{
    struct lt_grpc_call *call = lt_h2_stream_user(h2);
    if (call->handler->on_writable != NULL && !call->is_aborted)
        call->handler->on_writable(call);
}

static void decide_by_end(struct lt_grpc_call *call, lt_h2_end end, uint32_t code)
{
    switch (end) {
    case LT_H2_END_UNPROCESSED:
        decide(call, LT_GRPC_UNAVAILABLE, LT_STR("the server goes away"));
        break;
    case LT_H2_END_CONN:
        if (call->channel->is_closing)
            decide(call, LT_GRPC_CANCELLED, LT_STR("the channel was closed"));
        else
            decide(call, LT_GRPC_UNAVAILABLE, lt_str_of(call->conn->base.cause));
        break;
    case LT_H2_END_CLEAN:
    case LT_H2_END_RESET_LOCAL:
    case LT_H2_END_RESET_PEER:
        decide(call, lt_grpc_code_of_h2(code), lt_str_of(lt_h2_code_name(code)));
        break;
    }
}

/* Messages of a pause come before the status: such a call is read to its end first. */
static void on_closed(struct lt_h2_stream *h2, lt_h2_end end, uint32_t code)
{
    struct lt_grpc_call *call = lt_h2_stream_user(h2);
    decide_by_end(call, end, code);
    call->is_unprocessed = end == LT_H2_END_UNPROCESSED ||
                           (end == LT_H2_END_RESET_PEER && code == LT_H2_REFUSED_STREAM);
    call->h2 = NULL;
    if (call->is_aborted || lt_grpc_inbox_is_empty(&call->inbox)) {
        end_call(call);
        return;
    }
    call->state = CALL_PARKED;
    lt_list_push_back(&call->channel->parked, &call->link);
}

const struct lt_h2_events lt_grpc_call_events = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_closed = on_closed,
    .on_goaway = lt_grpc_client_on_goaway,
    .on_settings = lt_grpc_client_on_settings,
};

/* --- what owners call --- */

static void on_deadline(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    give_up(LT_CONTAINER_OF(timer, struct lt_grpc_call, deadline), LT_GRPC_DEADLINE_EXCEEDED,
            LT_STR("the deadline passed"));
}

static void end_parked(struct lt_grpc_call *call, lt_rc rc)
{
    if (rc != LT_OK && !call->is_aborted) {
        const char *text = NULL;
        call->has_status = false; /* what cannot be read outweighs the server's OK */
        lt_grpc_code code = lt_grpc_inbox_code(rc, &text);
        decide(call, code, lt_str_of(text));
    }
    if (!call->is_aborted)
        end_call(call);
}

static void run_resume(struct lt_task *task)
{
    struct lt_grpc_call *call = LT_CONTAINER_OF(task, struct lt_grpc_call, resume);
    if (call->state == CALL_STREAM) {
        check_input(call, lt_grpc_inbox_run(&call->inbox, call->h2));
        lt_grpc_conn_kick(&call->conn->base);
    } else if (call->state == CALL_PARKED) {
        lt_rc rc = lt_grpc_inbox_run(&call->inbox, NULL);
        if (rc != LT_OK || lt_grpc_inbox_is_empty(&call->inbox) || call->is_aborted)
            end_parked(call, rc);
    }
}

static void on_inbox_message(void *ctx, lt_str message)
{
    struct lt_grpc_call *call = ctx;
    call->handler->on_message(call, message);
}

static void add_field(struct lt_grpc_call *call, const char *name, lt_str value, bool is_secret)
{
    LT_ASSERT(call->field_count < FIELDS_MAX);
    call->fields[call->field_count++] = (struct lt_h2_field){
        lt_arena_str(call->arena, lt_str_of(name)), lt_arena_str(call->arena, value), is_secret};
}

static void set_fields(struct lt_grpc_call *call, const struct lt_grpc_call_opts *opts)
{
    add_field(call, ":method", LT_STR("POST"), false);
    add_field(call, ":scheme", call->channel->opts.tls != NULL ? LT_STR("https") : LT_STR("http"),
              false);
    add_field(call, ":path", lt_str_of(opts->path), false);
    add_field(call, ":authority", lt_grpc_channel_authority(call->channel), false);
    add_field(call, "te", LT_STR("trailers"), false);
    add_field(call, "content-type", LT_STR("application/grpc"), false);
    add_field(call, "user-agent", LT_STR("lateen-grpc"), false);
    if (opts->timeout_ns != 0) {
        char text[LT_GRPC_TIMEOUT_TEXT_MAX];
        add_field(call, "grpc-timeout", lt_grpc_timeout_format(opts->timeout_ns, text), false);
    }
    for (size_t i = 0; i < opts->metadata_count; i++) {
        const struct lt_grpc_metadata *item = &opts->metadata[i];
        LT_ASSERT(call->field_count < FIELDS_MAX);
        call->fields[call->field_count++] = (struct lt_h2_field){
            lt_arena_str(call->arena, item->name), lt_arena_str(call->arena, item->value),
            item->is_secret};
    }
}

struct lt_grpc_call *lt_grpc_call_start(struct lt_grpc_channel *channel,
                                        const struct lt_grpc_call_opts *opts,
                                        const struct lt_grpc_call_handler *handler, void *user)
{
    LT_ASSERT(!channel->is_closing);
    struct lt_grpc_call *call = lt_new(struct lt_grpc_call);
    call->channel = channel;
    call->handler = handler;
    call->user = user;
    call->is_patient = opts->wait_for_ready;
    call->arena = lt_arena_new(1024, 0);
    set_fields(call, opts);
    lt_rope_init(&call->early, channel->opts.send_queue_bytes_max);
    lt_grpc_inbox_init(&call->inbox, channel->opts.message_bytes_max,
                       channel->opts.stream_window_bytes, on_inbox_message, call);
    lt_timer_init(&call->deadline, on_deadline);
    lt_task_init(&call->resume, run_resume);
    if (opts->timeout_ns != 0)
        lt_loop_timer_set(channel->loop, &call->deadline, opts->timeout_ns);
    lt_list_push_back(&channel->waiting, &call->link);
    channel->waiting_count++;
    if (channel->waiting_count > channel->opts.calls_waiting_max)
        end_soon(call, LT_GRPC_RESOURCE_EXHAUSTED, LT_STR("too many calls wait for a connection"));
    else if (channel->state == LT_GRPC_BACKING_OFF && !call->is_patient)
        end_soon(call, LT_GRPC_UNAVAILABLE, lt_str_of(channel->reason));
    lt_grpc_channel_kick(channel);
    return call;
}

void *lt_grpc_call_user(const struct lt_grpc_call *call)
{
    return call->user;
}

/* As lt_grpc_send_rope does, without a stream. */
static lt_rc send_early(struct lt_grpc_call *call, struct lt_rope *message)
{
    size_t len = lt_rope_len(message), queued = lt_rope_len(&call->early);
    size_t room = call->early.bytes_max - queued;
    if (len > UINT32_MAX || room < LT_GRPC_PREFIX_BYTES || room - LT_GRPC_PREFIX_BYTES < len)
        return LT_E_LIMIT;
    char prefix[LT_GRPC_PREFIX_BYTES];
    lt_grpc_prefix(len, prefix);
    LT_TRY(lt_rope_add(&call->early, lt_str_make(prefix, sizeof(prefix))));
    return lt_rope_move(&call->early, message);
}

lt_rc lt_grpc_call_send_rope(struct lt_grpc_call *call, struct lt_rope *message)
{
    if (call->is_half_closed || call->is_aborted)
        return LT_E_CLOSED;
    if (call->state != CALL_STREAM)
        return send_early(call, message);
    lt_grpc_conn_kick(&call->conn->base);
    return lt_grpc_send_rope(call->h2, message);
}

lt_rc lt_grpc_call_send(struct lt_grpc_call *call, lt_str message)
{
    struct lt_rope rope;
    lt_rope_init(&rope, SIZE_MAX);
    lt_rc rc = lt_rope_add(&rope, message);
    if (rc == LT_OK)
        rc = lt_grpc_call_send_rope(call, &rope);
    lt_rope_fini(&rope);
    return rc;
}

void lt_grpc_call_half_close(struct lt_grpc_call *call)
{
    if (call->is_half_closed || call->is_aborted)
        return;
    call->is_half_closed = true;
    if (call->state != CALL_STREAM)
        return;
    lt_rc rc = lt_h2_stream_end(call->h2, NULL, 0);
    LT_ASSERT(rc == LT_OK || rc == LT_E_CLOSED);
    lt_grpc_conn_kick(&call->conn->base);
}

bool lt_grpc_call_is_writable(const struct lt_grpc_call *call)
{
    if (call->is_half_closed || call->is_aborted)
        return false;
    if (call->state != CALL_STREAM)
        return lt_rope_len(&call->early) < call->channel->opts.send_queue_bytes;
    return lt_h2_stream_is_writable(call->h2);
}

void lt_grpc_call_pause(struct lt_grpc_call *call)
{
    call->inbox.is_paused = true;
}

void lt_grpc_call_resume(struct lt_grpc_call *call)
{
    if (!call->inbox.is_paused)
        return;
    call->inbox.is_paused = false;
    lt_loop_defer(call->channel->loop, &call->resume);
}

void lt_grpc_call_cancel(struct lt_grpc_call *call)
{
    give_up(call, LT_GRPC_CANCELLED, LT_STR("cancelled"));
}
