/*
 * proxy/health/check_h1.c - health checks over HTTP/1.1, and what answers of HTTP mean.
 */
#include "proxy/conf/route_match.h"
#include "proxy/health/check_priv.h"

enum { INTERIM_MAX = 16 };

/* --- the question --- */

lt_rc px_ask_add_headers(const struct px_asker *asker, struct lt_headers *headers)
{
    const struct px_check_conf *conf = asker->opts.conf;
    LT_TRY(lt_headers_add(headers, LT_STR("user-agent"), LT_STR("Envoy/HC")));
    for (size_t i = 0; i < conf->header_count; i++)
        LT_TRY(lt_headers_set(headers, conf->headers[i].name, conf->headers[i].value));
    return LT_OK;
}

lt_rc px_ask_h1_start(struct px_asker *asker)
{
    const struct px_check_conf *conf = asker->opts.conf;
    struct lt_headers headers;
    lt_headers_init(&headers, asker->arena, 0, 0);
    LT_TRY(lt_headers_add(&headers, LT_STR("host"), asker->opts.authority));
    LT_TRY(px_ask_add_headers(asker, &headers));
    struct lt_h1_framing framing = {.body = conf->send.len > 0 ? LT_BODY_LENGTH : LT_BODY_NONE,
                                    .content_length = conf->send.len,
                                    .name_case = LT_H1_CASE_LOWER};
    lt_h1_parser_init(&asker->parser, true, NULL);
    asker->parser.request_was_head = lt_str_eqz(conf->method, "HEAD");
    lt_http_head_init(&asker->head, asker->arena, 0, 0);
    LT_TRY(lt_h1_write_request(&asker->out, conf->method, conf->path, 1, &headers, &framing));
    return lt_buf_append_str(&asker->out, conf->send);
}

/* --- the answer --- */

static lt_str header_of(const struct px_asker *asker, const char *name)
{
    return lt_headers_value_of(&asker->head.headers, lt_str_of(name));
}

px_check_result px_ask_judge(const struct px_asker *asker)
{
    const struct px_check_conf *conf = asker->opts.conf;
    px_check_result result = px_check_judge_status(conf, asker->head.status);
    if (result != PX_CHECK_PASSED)
        return result;
    if (!px_ask_matches(conf, lt_buf_str(&asker->body)))
        return PX_CHECK_FAILED;
    if (conf->service != NULL &&
        !px_string_matches(conf->service,
                           header_of(asker, "x-envoy-upstream-healthchecked-cluster")))
        return PX_CHECK_FAILED;
    bool is_degraded = lt_headers_find_name(&asker->head.headers, LT_STR("x-envoy-degraded")) !=
                       NULL;
    return is_degraded ? PX_CHECK_PASSED_DEGRADED : PX_CHECK_PASSED;
}

static lt_rc read_head(struct px_asker *asker)
{
    size_t used = 0;
    LT_TRY(lt_h1_parse_head(&asker->parser, lt_buf_str(&asker->in), &asker->head, &used));
    lt_headers_own(&asker->head.headers);
    lt_buf_consume(&asker->in, used);
    if (asker->head.status >= 200) {
        asker->has_head = true;
        return LT_OK;
    }
    if (asker->head.status == 101)
        return LT_E_BAD;
    bool was_head = asker->parser.request_was_head;
    lt_h1_next_message(&asker->parser);
    asker->parser.request_was_head = was_head;
    lt_http_head_init(&asker->head, asker->arena, 0, 0);
    return LT_OK;
}

/* What is beyond response_buffer_size is read and not looked at. */
static lt_rc read_body(struct px_asker *asker)
{
    struct lt_h1_piece piece;
    LT_TRY(lt_h1_parse_body(&asker->parser, lt_buf_str(&asker->in), false, NULL, &piece));
    size_t room = asker->body.bytes_max - lt_buf_len(&asker->body);
    lt_str kept = lt_str_slice(piece.data, 0, LT_MIN(piece.data.len, room));
    if (asker->opts.conf->receive_count > 0 && lt_buf_append_str(&asker->body, kept) != LT_OK)
        return LT_E_LIMIT;
    lt_buf_consume(&asker->in, piece.used);
    if (piece.is_end)
        return LT_EOF;
    return piece.used > 0 ? LT_OK : LT_AGAIN;
}

lt_rc px_ask_h1_took(struct px_asker *asker, bool is_end, px_check_result *ret_result)
{
    lt_rc rc = LT_OK;
    for (int interims = 0; rc == LT_OK && !asker->has_head; interims++)
        rc = interims < INTERIM_MAX ? read_head(asker) : LT_E_BAD;
    while (rc == LT_OK)
        rc = read_body(asker);
    if (rc == LT_AGAIN && is_end && asker->has_head && lt_h1_body_eof(&asker->parser) == LT_OK)
        rc = LT_EOF;
    if (rc != LT_EOF)
        return rc;
    asker->is_closing |= is_end || !asker->head.keep_alive || lt_buf_len(&asker->in) > 0;
    *ret_result = px_ask_judge(asker);
    return LT_EOF;
}
