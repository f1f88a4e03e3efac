/*
 * proxy/filter/buffer.c - envoy.filters.http.buffer: a request goes on when all of it is there.
 */
#include "proxy/conf/buffer.h"
#include "proxy/http/request.h"

/* Its length is known by now: the host is told. */
static void say_length(struct px_request *request)
{
    struct lt_http_head *head = &request->head;
    if (head->has_content_length || request->req.trailers != NULL)
        return;
    head->body = LT_BODY_LENGTH;
    head->is_chunked = false;
    head->has_content_length = true;
    head->content_length = lt_buf_len(&request->replay);
    lt_headers_remove(&head->headers, LT_H_TRANSFER_ENCODING);
}

static px_verdict on_request(struct px_request *request, const struct px_http_filter *filter)
{
    const struct px_buffer_conf *of_route = px_filter_route_conf(request, filter);
    const struct px_buffer_conf *conf = of_route != NULL ? of_route : filter->conf;
    bool is_open_ended = request->head.wants_upgrade ||
                         request->head.method_id == LT_METHOD_CONNECT;
    bool is_over = false;
    if (conf->bytes_max == 0 || is_open_ended || request->head.body == LT_BODY_NONE)
        return PX_GO;
    px_verdict verdict = px_request_hold(request, conf->bytes_max, &is_over);
    if (verdict != PX_GO)
        return verdict;
    if (!is_over) {
        say_length(request);
        return PX_GO;
    }
    px_request_reply(request, 413, 0, "request_payload_too_large", LT_STR("Payload Too Large"),
                     "text/plain");
    return PX_STOP;
}

const struct px_filter_ops px_filter_buffer = {
    .name = "envoy.filters.http.buffer",
    .on_request = on_request,
};
