/*
 * tests/fuzz/h1.c - lt_h1_parse_head, lt_h1_parse_body (decoded and raw), lt_h1_body_eof,
 * lt_h1_strip_hop_by_hop, lt_h1_write_request, lt_h1_write_response, lt_h1_write_chunk.
 * Input: one byte of settings, one byte that says where to cut, then the message and what follows
 * it.
 * What must hold: the same result for the bytes whole and cut; what is written of an accepted
 * message is accepted again and means the same; a raw body decodes to the decoded body.
 */
#include <stdlib.h>

#include "http/h1.h"

enum { BODY_MAX = 1 << 16 };

struct settings {
    bool is_response, was_head, was_connect;
    const struct lt_h1_limits *limits;
};

struct result {
    lt_rc rc;
    lt_h1_error error;
    size_t used;
    struct lt_http_head head;
    struct lt_headers trailers;
    char body[BODY_MAX];
    size_t body_len;
    bool is_ended;
    struct lt_arena *arena;
};

static const struct lt_h1_limits small_limits = {.head_bytes_max = 512,
                                                 .headers_max = 8,
                                                 .chunk_ext_bytes_max = 8,
                                                 .trailer_bytes_max = 64,
                                                 .trailers_max = 3};
/* For what we wrote ourselves: line ends have grown, and Connection is one field more. */
static const struct lt_h1_limits wide_limits = {.head_bytes_max = 1 << 20,
                                                .headers_max = 200,
                                                .chunk_ext_bytes_max = 8,
                                                .trailer_bytes_max = 1 << 16,
                                                .trailers_max = 100};

/*
 * Reads `visible` bytes of the input, later all of it. The bytes stand alone, so that reading
 * behind them is seen.
 */
static char *stand_alone(lt_str s)
{
    char *copy = lt_malloc(s.len);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return copy;
}

static lt_rc read_pieces(struct lt_h1_parser *parser, lt_str input, size_t visible, bool raw,
                         struct result *r)
{
    for (;;) {
        lt_str part = lt_str_slice(input, r->used, LT_MAX(visible, r->used));
        char *bytes = stand_alone(part);
        struct lt_h1_piece piece = {0};
        lt_headers_clear(&r->trailers);
        lt_rc rc = lt_h1_parse_body(parser, lt_str_make(bytes, part.len), raw, &r->trailers,
                                    &piece);
        if (rc == LT_OK) {
            LT_ASSERT(piece.used <= part.len && r->body_len + piece.data.len <= BODY_MAX);
            LT_ASSERT(piece.used > 0 || piece.is_end);
            if (piece.data.len > 0)
                memcpy(r->body + r->body_len, piece.data.ptr, piece.data.len);
            r->body_len += piece.data.len;
            r->used += piece.used;
            if (piece.is_end)
                lt_headers_own(&r->trailers);
        }
        free(bytes);
        if (rc != LT_OK)
            return rc;
        if (piece.is_end) {
            r->is_ended = true;
            return LT_OK;
        }
    }
}

static struct result *run(lt_str input, size_t cut, bool raw, const struct settings *settings)
{
    struct result *r = lt_new(struct result);
    struct lt_h1_parser parser;
    const size_t steps[] = {cut, input.len};
    size_t step = 0;
    r->arena = lt_arena_new(0, 0);
    lt_h1_parser_init(&parser, settings->is_response, settings->limits);
    parser.request_was_head = settings->was_head;
    parser.request_was_connect = settings->was_connect;
    lt_h1_head_init(&r->head, r->arena, settings->limits);
    lt_headers_init(&r->trailers, r->arena, 0, 0);
    r->rc = LT_AGAIN;
    char *moved[2] = {NULL, NULL};
    for (; step < 2 && r->rc == LT_AGAIN; step++) {
        moved[step] = stand_alone(lt_str_slice(input, 0, steps[step]));
        r->rc = lt_h1_parse_head(&parser, lt_str_make(moved[step], steps[step]), &r->head,
                                 &r->used);
    }
    if (r->rc == LT_OK) {
        lt_headers_own(&r->head.headers);
        r->head.method = lt_arena_str(r->arena, r->head.method);
        r->head.target = lt_arena_str(r->arena, r->head.target);
        r->head.authority = lt_arena_str(r->arena, r->head.authority);
        r->head.path = lt_arena_str(r->arena, r->head.path);
        r->head.reason = lt_arena_str(r->arena, r->head.reason);
        for (step--, r->rc = LT_AGAIN; step < 2 && r->rc == LT_AGAIN; step++)
            r->rc = read_pieces(&parser, input, steps[step], raw, r);
        if (r->rc == LT_AGAIN)
            r->rc = lt_h1_body_eof(&parser);
    }
    r->error = parser.error;
    free(moved[0]);
    free(moved[1]);
    return r;
}

static void drop(struct result *r)
{
    lt_arena_free(&r->arena);
    free(r);
}

static void check_headers_equal(const struct lt_headers *a, const struct lt_headers *b)
{
    LT_ASSERT(a->count == b->count && a->bytes == b->bytes);
    for (uint32_t i = 0; i < a->count; i++) {
        LT_ASSERT(lt_str_eq(a->items[i].name, b->items[i].name) &&
                  a->items[i].id == b->items[i].id);
        LT_ASSERT(lt_str_eq(a->items[i].value, b->items[i].value));
        LT_ASSERT(lt_http_is_token(a->items[i].name) && lt_http_is_field_value(a->items[i].value));
    }
}

static void check_same(const struct result *a, const struct result *b)
{
    LT_ASSERT(a->rc == b->rc && a->error == b->error);
    if (a->rc != LT_OK)
        return;
    LT_ASSERT(a->used == b->used && a->is_ended == b->is_ended && a->head.body == b->head.body);
    LT_ASSERT(a->head.keep_alive == b->head.keep_alive && a->head.status == b->head.status);
    LT_ASSERT(lt_str_eq(a->head.path, b->head.path) &&
              lt_str_eq(a->head.authority, b->head.authority));
    LT_ASSERT(a->body_len == b->body_len && memcmp(a->body, b->body, a->body_len) == 0);
    check_headers_equal(&a->head.headers, &b->head.headers);
    check_headers_equal(&a->trailers, &b->trailers);
}

static lt_rc write_head(const struct result *r, struct lt_buf *out, bool is_response)
{
    const struct lt_http_head *head = &r->head;
    bool has_length = head->has_content_length;
    struct lt_h1_framing framing = {
        .body = head->is_chunked ? LT_BODY_CHUNKED
                : has_length     ? LT_BODY_LENGTH
                                 : LT_BODY_NONE,
        .content_length = head->content_length,
        .connection = head->keep_alive ? "keep-alive" : "close",
    };
    if (is_response)
        return lt_h1_write_response(out, head->status, head->reason, head->minor, &head->headers,
                                    &framing);
    return lt_h1_write_request(out, head->method, head->target, head->minor, &head->headers,
                               &framing);
}

/* Written anew, it is taken again, and means the same. */
static void check_written(const struct result *r, const struct settings *settings)
{
    struct lt_buf out;
    lt_buf_init(&out, 1 << 20);
    LT_ASSERT(write_head(r, &out, settings->is_response) == LT_OK);
    if (r->head.body == LT_BODY_CHUNKED) {
        LT_ASSERT(lt_h1_write_chunk(&out, lt_str_make(r->body, r->body_len)) == LT_OK);
        LT_ASSERT(lt_h1_write_last_chunk(&out, &r->trailers) == LT_OK);
    } else {
        lt_buf_add(&out, lt_str_make(r->body, r->body_len));
    }
    lt_str text = lt_buf_str(&out);
    struct settings again = *settings;
    again.limits = &wide_limits;
    struct result *second = run(text, text.len / 2, false, &again);
    LT_ASSERT(second->rc == LT_OK && second->head.body == r->head.body);
    LT_ASSERT(second->body_len == r->body_len && memcmp(second->body, r->body, r->body_len) == 0);
    LT_ASSERT(lt_str_eq(second->head.path, r->head.path) &&
              lt_str_eq(second->head.authority, r->head.authority));
    LT_ASSERT(r->head.body == LT_BODY_TUNNEL || second->head.keep_alive == r->head.keep_alive);
    check_headers_equal(&second->trailers, &r->trailers);
    drop(second);
    lt_buf_fini(&out);
}

static void check_raw(lt_str input, size_t cut, const struct result *decoded,
                      const struct settings *settings)
{
    struct result *raw = run(input, cut, true, settings);
    LT_ASSERT(raw->rc == decoded->rc && raw->error == decoded->error);
    if (raw->rc == LT_OK)
        LT_ASSERT(raw->used == decoded->used);
    if (raw->rc == LT_OK && raw->head.body == LT_BODY_CHUNKED) {
        struct lt_h1_parser parser;
        struct result *again = lt_new(struct result);
        again->arena = lt_arena_new(0, 0);
        lt_headers_init(&again->trailers, again->arena, 0, 0);
        lt_h1_parser_init(&parser, false, NULL);
        parser.body = LT_BODY_CHUNKED;
        lt_str body = lt_str_make(raw->body, raw->body_len);
        LT_ASSERT(read_pieces(&parser, body, body.len, false, again) == LT_OK &&
                  again->used == raw->body_len);
        LT_ASSERT(again->body_len == decoded->body_len &&
                  memcmp(again->body, decoded->body, again->body_len) == 0);
        LT_ASSERT(again->trailers.count == 0);
        drop(again);
    }
    drop(raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > BODY_MAX / 2)
        return 0;
    const struct settings settings = {
        .is_response = (data[0] & 1) != 0,
        .was_head = (data[0] & 2) != 0,
        .was_connect = (data[0] & 4) != 0,
        .limits = (data[0] & 8) != 0 ? &small_limits : &lt_h1_limits_default,
    };
    lt_str input = lt_str_make(data + 2, size - 2);
    size_t cut = input.len * data[1] / 255;
    struct result *whole = run(input, input.len, false, &settings);
    struct result *in_two = run(input, cut, false, &settings);
    check_same(whole, in_two);
    check_raw(input, cut, whole, &settings);
    if (whole->rc == LT_OK) {
        check_written(whole, &settings);
        (void)!lt_h1_strip_hop_by_hop(&whole->head.headers, (data[0] & 16) != 0);
    }
    drop(in_two);
    drop(whole);
    return 0;
}
