/*
 * proxy/messages.c - messages of gRPC calls. A call that lasts is told of every five seconds.
 */
#include "proxy/messages.h"

#include "proxy/request.h"

enum { PREFIX_BYTES = 5, TELL_EVERY_S = 5 };

void px_messages_start(struct px_request *request)
{
    struct px_messages *messages = lt_arena_make(request->arena, struct px_messages);
    messages->rq = request;
    lt_list_init(&messages->link);
    request->messages = messages;
}

static void count(struct px_message_counter *counter, lt_str piece)
{
    while (piece.len > 0) {
        if (counter->body_left > 0) {
            size_t part = (size_t)LT_MIN(counter->body_left, (uint64_t)piece.len);
            counter->body_left -= part;
            piece = lt_str_from(piece, part);
            continue;
        }
        if (counter->prefix_bytes > 0) /* the first byte only says whether it is compressed */
            counter->length = counter->length << 8 | (unsigned char)piece.ptr[0];
        piece = lt_str_from(piece, 1);
        if (++counter->prefix_bytes < PREFIX_BYTES)
            continue;
        counter->messages++;
        counter->body_left = counter->length;
        counter->prefix_bytes = counter->length = 0;
    }
}

/* All wait equally long: the list is in the order of their turns. */
static void tell_later(struct px_messages *messages)
{
    struct px_worker *worker = messages->rq->worker;
    messages->tell_at_ns = px_now_ns(worker) + TELL_EVERY_S * LT_NS_PER_S;
    lt_list_push_back(&worker->messages_untold, &messages->link);
    if (!lt_timer_is_set(&worker->messages_tell))
        lt_loop_timer_set(worker->loop, &worker->messages_tell, TELL_EVERY_S * LT_NS_PER_S);
}

void px_messages_count(struct px_messages *messages, struct px_message_counter *counter,
                       lt_str piece)
{
    count(counter, piece);
    if (counter->messages != counter->told && !lt_list_is_linked(&messages->link))
        tell_later(messages);
}

void px_messages_tell(struct px_messages *messages)
{
    struct px_message_counter *request = &messages->request, *response = &messages->response;
    struct px_message_result result = {request->messages - request->told,
                                       response->messages - response->told};
    lt_list_remove(&messages->link);
    if (result.request_messages + result.response_messages == 0)
        return;
    px_request_tell_messages(messages->rq, &result);
    request->told = request->messages;
    response->told = response->messages;
}

void px_messages_on_tell(struct lt_timer *timer, uint64_t now_ns)
{
    struct px_worker *worker = LT_CONTAINER_OF(timer, struct px_worker, messages_tell);
    while (!lt_list_is_empty(&worker->messages_untold)) {
        struct px_messages *messages = lt_list_first(&worker->messages_untold, struct px_messages,
                                                     link);
        if (messages->tell_at_ns > now_ns) {
            lt_loop_timer_set(worker->loop, timer, messages->tell_at_ns - now_ns);
            return;
        }
        px_messages_tell(messages);
    }
}
