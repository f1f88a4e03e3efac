/*
 * proxy/told/messages.c - messages of gRPC calls. A call that lasts is told of every five seconds.
 */
#include "proxy/told/messages.h"

#include "proxy/http/request.h"

enum { TELL_EVERY_S = 5 };

void px_messages_start(struct px_request *request)
{
    struct px_messages *messages = lt_arena_make(request->arena, struct px_messages);
    messages->rq = request;
    lt_list_init(&messages->link);
    request->messages = messages;
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
    px_grpc_count(&counter->counter, piece);
    if (counter->counter.messages != counter->told && !lt_list_is_linked(&messages->link))
        tell_later(messages);
}

void px_messages_tell(struct px_messages *messages)
{
    struct px_message_counter *request = &messages->request, *response = &messages->response;
    struct px_message_result result = {request->counter.messages - request->told,
                                       response->counter.messages - response->told};
    lt_list_remove(&messages->link);
    if (result.request_messages + result.response_messages == 0)
        return;
    px_request_tell_messages(messages->rq, &result);
    request->told = request->counter.messages;
    response->told = response->counter.messages;
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
