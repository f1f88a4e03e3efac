/*
 * tests/unit/http/h1_test.c - the HTTP/1 codec. Every message is fed whole, cut in two at each
 * byte, and byte by byte, each time in a fresh block of exactly its size: the result must not
 * depend on the cut, and nothing may be read behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "http/h1.h"

/* What came of one message. */
struct outcome {
    lt_rc rc; /* of the head or, when that was fine, of the body */
    lt_h1_error error;
    struct lt_http_head head;
    size_t used;
    char body[8192];
    size_t body_len;
    char trailers[512]; /* "name: value|" */
    bool is_ended;
    struct lt_arena *arena;
    char *bytes; /* what the head's slices point into */
};

struct feed {
    bool is_response, was_head, was_connect, raw;
    const struct lt_h1_limits *limits;
};

static char *copy(lt_str s)
{
    char *block = malloc(s.len + 1);
    memcpy(block, s.ptr, s.len);
    return realloc(block, s.len != 0 ? s.len : 1);
}

static void note_trailers(struct outcome *o, const struct lt_headers *trailers)
{
    size_t at = 0;
    for (uint32_t i = 0; i < trailers->count; i++)
        at += (size_t)snprintf(o->trailers + at, sizeof(o->trailers) - at, "%.*s: %.*s|",
                               LT_STR_ARG(trailers->items[i].name),
                               LT_STR_ARG(trailers->items[i].value));
}

/* The body from what lies behind the head, as much as `steps` lets be seen in each round. */
static lt_rc read_body(struct outcome *o, struct lt_h1_parser *parser, lt_str rest,
                       const size_t *steps, size_t step_count, const struct feed *feed)
{
    size_t at = 0;
    for (size_t s = 0; s < step_count; s++) {
        for (;;) {
            lt_str visible = lt_str_slice(rest, at, LT_MAX(steps[s], at));
            char *block = copy(visible);
            struct lt_headers trailers;
            lt_headers_init(&trailers, o->arena, 0, 0);
            struct lt_h1_piece piece;
            lt_rc rc = lt_h1_parse_body(parser, lt_str_make(block, visible.len), feed->raw,
                                        &trailers, &piece);
            if (rc == LT_OK) {
                assert_true(piece.used <= visible.len);
                assert_true(piece.data.len == 0 ||
                            (piece.data.ptr >= block &&
                             piece.data.ptr + piece.data.len <= block + piece.used));
                assert_true(o->body_len + piece.data.len <= sizeof(o->body));
                if (piece.data.len > 0)
                    memcpy(o->body + o->body_len, piece.data.ptr, piece.data.len);
                o->body_len += piece.data.len;
                at += piece.used;
                if (piece.is_end)
                    note_trailers(o, &trailers);
            }
            free(block);
            if (rc != LT_OK && rc != LT_AGAIN)
                return rc;
            if (rc == LT_OK && piece.is_end) {
                o->is_ended = true;
                o->used += at;
                return LT_OK;
            }
            if (rc == LT_AGAIN)
                break;
        }
    }
    return lt_h1_body_eof(parser);
}

/* steps: how much of the input is there in each round; the last is all. */
static struct outcome *run(lt_str input, const size_t *steps, size_t step_count,
                           const struct feed *feed)
{
    struct outcome *o = calloc(1, sizeof(*o));
    struct lt_h1_parser parser;
    o->arena = lt_arena_new(0, 0);
    lt_h1_parser_init(&parser, feed->is_response, feed->limits);
    parser.request_was_head = feed->was_head;
    parser.request_was_connect = feed->was_connect;
    lt_h1_head_init(&o->head, o->arena, feed->limits);
    o->rc = LT_AGAIN;
    for (size_t s = 0; s < step_count && o->rc == LT_AGAIN; s++) {
        lt_str visible = lt_str_slice(input, 0, steps[s]);
        free(o->bytes);
        o->bytes = copy(visible);
        o->rc = lt_h1_parse_head(&parser, lt_str_make(o->bytes, visible.len), &o->head, &o->used);
    }
    if (o->rc == LT_OK) {
        lt_str rest = lt_str_from(input, o->used);
        size_t *left = calloc(step_count, sizeof(*left));
        for (size_t s = 0; s < step_count; s++)
            left[s] = steps[s] > o->used ? steps[s] - o->used : 0;
        o->rc = read_body(o, &parser, rest, left, step_count, feed);
        free(left);
    }
    o->error = parser.error;
    return o;
}

static void drop(struct outcome **o)
{
    lt_arena_free(&(*o)->arena);
    free((*o)->bytes);
    free(*o);
    *o = NULL;
}

static void assert_same(const struct outcome *a, const struct outcome *b, lt_str input)
{
    if (a->rc != b->rc || a->error != b->error)
        print_message("differs: %.*s (%d %s, %d %s)\n", LT_STR_ARG(input), a->rc,
                      lt_h1_error_text(a->error), b->rc, lt_h1_error_text(b->error));
    assert_int_equal(a->rc, b->rc);
    assert_int_equal(a->error, b->error);
    if (a->rc != LT_OK)
        return;
    assert_int_equal(a->used, b->used);
    assert_int_equal(a->is_ended, b->is_ended);
    assert_int_equal(a->head.headers.count, b->head.headers.count);
    assert_true(lt_str_eq(a->head.path, b->head.path) &&
                lt_str_eq(a->head.authority, b->head.authority));
    assert_int_equal(a->body_len, b->body_len);
    assert_memory_equal(a->body, b->body, a->body_len);
    assert_string_equal(a->trailers, b->trailers);
}

/* Whole; in two parts, at each byte; byte by byte. */
static struct outcome *feed_all_ways(lt_str input, const struct feed *feed)
{
    size_t whole = input.len;
    struct outcome *o = run(input, &whole, 1, feed);
    for (size_t cut = 0; cut < input.len && input.len < 2000; cut++) {
        size_t steps[] = {cut, input.len};
        struct outcome *other = run(input, steps, 2, feed);
        assert_same(o, other, input);
        drop(&other);
    }
    if (input.len < 2000) {
        size_t *steps = calloc(input.len, sizeof(*steps));
        for (size_t i = 0; i < input.len; i++)
            steps[i] = i + 1;
        struct outcome *other = run(input, steps, input.len, feed);
        assert_same(o, other, input);
        drop(&other);
        free(steps);
    }
    return o;
}

static const struct feed request_feed = {0};
static const struct feed raw_feed = {.raw = true};
static const struct feed response_feed = {.is_response = true};

static void assert_str(lt_str got, const char *want)
{
    if (!lt_str_eqz(got, want))
        print_message("got \"%.*s\", want \"%s\"\n", LT_STR_ARG(got), want);
    assert_true(lt_str_eqz(got, want));
}

#define REQ "GET / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

struct refusal {
    const char *text;
    size_t len;
    lt_h1_error error;
};

#define BAD(text, error) \
    { \
        text, sizeof(text) - 1, LT_H1_E_##error \
    }

static void check_refusals(const struct refusal *cases, size_t count, const struct feed *feed)
{
    for (size_t i = 0; i < count; i++) {
        struct outcome *o = feed_all_ways(lt_str_make(cases[i].text, cases[i].len), feed);
        if (o->error != cases[i].error)
            print_message("case %zu: %s: got %s\n", i, cases[i].text, lt_h1_error_text(o->error));
        assert_int_equal(o->error, cases[i].error);
        assert_true(o->rc == LT_E_BAD || o->rc == LT_E_LIMIT);
        drop(&o);
    }
}

static void bad_requests_are_refused_for_the_right_reason(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        BAD("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", START_LINE),
        BAD("GET / HTTP/1.2\r\nHost: a\r\n\r\n", VERSION_UNSUPPORTED),
        BAD("GET / HTTP/2.0\r\nHost: a\r\n\r\n", VERSION_UNSUPPORTED),
        BAD("GET / HTTP/1.10\r\nHost: a\r\n\r\n", START_LINE),
        BAD("GET / HTTP/11\r\nHost: a\r\n\r\n", VERSION),
        BAD("GET / http/1.1\r\nHost: a\r\n\r\n", VERSION),
        BAD("GET / HTTP/1.\r\nHost: a\r\n\r\n", VERSION),
        BAD("GET /\r\n\r\n", START_LINE),
        BAD("GET\r\n\r\n", METHOD),
        BAD(" GET / HTTP/1.1\r\n\r\n", METHOD),
        BAD("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
        BAD("\x16\x03\x01\x02\x00\x01", METHOD),
        BAD("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", LINE_END),
        BAD("GET foo HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET * HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", SCHEME),
        BAD("GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("CONNECT a:99999 HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("CONNECT :80 HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("CONNECT /a:80 HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
        BAD("CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", BODY_NOT_ALLOWED),
        BAD("CONNECT a:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", CODING),
        BAD("GET / HTTP/1.1\r\n\r\n", HOST_MISSING),
        BAD("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", HOST),
        BAD("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HOST),
        BAD("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HOST),
        BAD("GET / HTTP/1.1\r\nHost: a,b\r\nHost:\r\n\r\n", HOST),
        BAD("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", HOST),
        BAD(REQ "X : y\r\n\r\n", HEADER_NAME),
        BAD(REQ ": y\r\n\r\n", HEADER_NAME),
        BAD(REQ "X\r\n\r\n", HEADER_NAME),
        BAD(REQ "X(: y\r\n\r\n", HEADER_NAME),
        BAD(REQ "X\xc3: y\r\n\r\n", HEADER_NAME),
        BAD(REQ "X\0: y\r\n\r\n", HEADER_NAME),
        BAD(REQ "X: y\r\n z\r\n\r\n", HEADER_FOLD),
        BAD(REQ "\tz: 1\r\n\r\n", HEADER_FOLD),
        BAD("GET / HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n", HEADER_FOLD),
        BAD(REQ "X: y\0z\r\n\r\n", HEADER_VALUE),
        BAD(REQ "X: 0123456789abcdef0123456789abcdef\x01z\r\n\r\n", HEADER_VALUE),
        BAD(REQ "X: y\x7fz\r\n\r\n", HEADER_VALUE),
        BAD(REQ "X: y\rz\r\n\r\n", LINE_END),
        BAD(REQ "X: y\r\r\n\r\n", LINE_END),
        BAD(REQ "\rX: y\r\n\r\n", LINE_END),
        BAD(REQ "Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: 2\r\ncontent-length: 3\r\n\r\nabc", CONTENT_LENGTH),
        BAD(REQ "Content-Length: 2, 2\r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: +2\r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: -2\r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: 0x2\r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: \r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: 9223372036854775808\r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: 18446744073709551618\r\n\r\nab", CONTENT_LENGTH),
        BAD(REQ "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", LENGTH_AND_CODING),
        BAD(REQ "Transfer-Encoding: gzip, chunked\r\n\r\n", CODING),
        BAD(REQ "Transfer-Encoding: chunked, chunked\r\n\r\n", CODING),
        BAD(REQ "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", CODING),
        BAD(REQ "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", CODING),
        BAD(REQ "Transfer-Encoding: identity\r\n\r\n", CODING),
        BAD(REQ "Transfer-Encoding: xchunked\r\n\r\n", CODING),
        BAD(REQ "Transfer-Encoding: \"chunked\"\r\n\r\n", CODING),
        BAD(REQ "Transfer-Encoding:\x0b"
                "chunked\r\n\r\n",
            HEADER_VALUE),
        BAD("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", CODING_NOT_ALLOWED),
    };
    check_refusals(cases, LT_ARRAY_LEN(cases), &request_feed);
}

static void bad_chunks_are_refused(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        BAD(CHUNKED "2;a\nb\r\nhi\r\n0\r\n\r\n", CHUNK_EXTENSION),
        BAD(CHUNKED "2;a\x7f\r\nhi\r\n0\r\n\r\n", CHUNK_EXTENSION),
        BAD(CHUNKED "2 2\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED " 2\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "0x2\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "2\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "2\r\rhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "-2\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "+2\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED ";\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "8000000000000000\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "00000000000000002\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "10000000000000002\r\nhi\r\n0\r\n\r\n", CHUNK_SIZE),
        BAD(CHUNKED "2\r\nhix\r\n0\r\n\r\n", CHUNK_END),
        BAD(CHUNKED "2\r\nhi\n0\r\n\r\n", CHUNK_END),
        BAD(CHUNKED "2\r\nhi\r0\r\n\r\n", CHUNK_END),
        BAD(CHUNKED "2\r\nhi\r\n0\r\nX y\r\n\r\n", TRAILER),
        BAD(CHUNKED "2\r\nhi\r\n0\r\nX: y\n\r\n", TRAILER),
        BAD(CHUNKED "2\r\nhi\r\n0\r\nX: y\r\n z\r\n\r\n", TRAILER),
        BAD(CHUNKED "2\r\nhi\r\n0\r\n\n", TRAILER),
        BAD(CHUNKED "2\r\nhi\r\n0\r\n\rX\n", TRAILER),
        BAD(CHUNKED "2\r\nhi\r\n0\r\n", TRUNCATED),
        BAD(CHUNKED "2\r\nh", TRUNCATED),
        BAD(REQ "Content-Length: 3\r\n\r\nab", TRUNCATED),
    };
    check_refusals(cases, LT_ARRAY_LEN(cases), &request_feed);
    check_refusals(cases, LT_ARRAY_LEN(cases), &raw_feed);
}

static struct outcome *accept(const char *text, const struct feed *feed)
{
    struct outcome *o = feed_all_ways(lt_str_of(text), feed);
    if (o->rc != LT_OK)
        print_message("refused: %s: %s\n", text, lt_h1_error_text(o->error));
    assert_int_equal(o->rc, LT_OK);
    return o;
}

static void a_request_is_taken_apart(void **state)
{
    (void)state;
    const char text[] =
        "\r\n\nPOST /a/b?c=d HTTP/1.1\r\nHost:\texample.org:8080 \r\nX-Empty:\r\nX-Odd: \t a b\xff \t\r\n"
        "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello";
    struct outcome *o = accept(text, &request_feed);
    assert_str(o->head.method, "POST");
    assert_int_equal(o->head.method_id, LT_METHOD_POST);
    assert_str(o->head.target, "/a/b?c=d");
    assert_str(o->head.path, "/a/b?c=d");
    assert_str(o->head.authority, "example.org:8080");
    assert_int_equal(o->head.form, LT_TARGET_ORIGIN);
    assert_int_equal(o->head.minor, 1);
    assert_int_equal(o->head.headers.count, 5);
    assert_str(o->head.headers.items[1].name, "X-Empty");
    assert_str(o->head.headers.items[1].value, "");
    assert_str(o->head.headers.items[2].value, "a b\xff");
    assert_int_equal(o->head.body, LT_BODY_LENGTH);
    assert_int_equal(o->head.content_length, 5);
    assert_true(o->head.keep_alive && o->head.expects_continue && !o->head.wants_upgrade);
    assert_int_equal(o->head.bytes, sizeof(text) - 1 - 3 - 5);
    assert_int_equal(o->used, sizeof(text) - 1);
    assert_str(lt_str_make(o->body, o->body_len), "hello");
    drop(&o);
}

static void targets_have_four_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text, *authority, *path;
        lt_http_form form;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "a", "/", LT_TARGET_ORIGIN},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "", "/", LT_TARGET_ORIGIN},
        {"GET / HTTP/1.0\r\n\r\n", "", "/", LT_TARGET_ORIGIN},
        {"GET //x/ HTTP/1.1\r\nHost: a\r\n\r\n", "a", "//x/", LT_TARGET_ORIGIN},
        {"GET http://x.y/z?q HTTP/1.1\r\nHost: a\r\n\r\n", "x.y", "/z?q", LT_TARGET_ABSOLUTE},
        {"GET HTTPS://x.y:1 HTTP/1.1\r\n\r\n", "x.y:1", "/", LT_TARGET_ABSOLUTE},
        {"GET http://[::1]:80?z=1 HTTP/1.1\r\nHost: a\r\n\r\n", "[::1]:80", "/?z=1",
         LT_TARGET_ABSOLUTE},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "a", "*", LT_TARGET_ASTERISK},
        {"CONNECT x.y:443 HTTP/1.1\r\nHost: a\r\n\r\n", "x.y:443", "", LT_TARGET_AUTHORITY},
        {"CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "[::1]:443", "",
         LT_TARGET_AUTHORITY},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        struct outcome *o = accept(cases[i].text, &request_feed);
        assert_str(o->head.authority, cases[i].authority);
        assert_str(o->head.path, cases[i].path);
        assert_int_equal(o->head.form, cases[i].form);
        if (o->head.form == LT_TARGET_ABSOLUTE)
            assert_str(lt_headers_value(&o->head.headers, LT_H_HOST), cases[i].authority);
        drop(&o);
    }
}

static void connections_live_on_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_alive, wants_upgrade;
    } cases[] = {
        {REQ "\r\n", true, false},
        {"GET / HTTP/1.1\nHost: a\n\n", true, false},
        {REQ "Connection: close\r\n\r\n", false, false},
        {REQ "Connection: x, CLOSE\r\n\r\n", false, false},
        {REQ "Connection: keep-alive\r\nConnection: close\r\n\r\n", false, false},
        {"GET / HTTP/1.0\r\n\r\n", false, false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false, false},
        {REQ "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true, true},
        {REQ "Upgrade: websocket\r\n\r\n", true, false},
        {REQ "Connection: upgrade\r\n\r\n", true, false},
        {"GET / HTTP/1.0\r\nConnection: upgrade, keep-alive\r\nUpgrade: x\r\n\r\n", true, false},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        struct outcome *o = accept(cases[i].text, &request_feed);
        assert_int_equal(o->head.keep_alive, cases[i].keep_alive);
        assert_int_equal(o->head.wants_upgrade, cases[i].wants_upgrade);
        assert_true(o->is_ended);
        assert_int_equal(o->body_len, 0);
        drop(&o);
    }
}

static void chunks_are_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *text, *body, *raw, *trailers;
    } cases[] = {
        {"0\r\n\r\n", "", "0\r\n\r\n", ""},
        {"2\r\nhi\r\n0\r\n\r\n", "hi", "2\r\nhi\r\n0\r\n\r\n", ""},
        {"00A\r\n0123456789\r\n1\r\n\n\r\n000\r\n\r\n", "0123456789\n",
         "00A\r\n0123456789\r\n1\r\n\n\r\n000\r\n\r\n", ""},
        {"2;a=\"b;\"\r\nhi\r\n0;x\r\n\r\n", "hi", "2\r\nhi\r\n0\r\n\r\n", ""},
        {"2 \t ; a\r\nhi\r\n0 \r\n\r\n", "hi", "2\r\nhi\r\n0\r\n\r\n", ""},
        {"2;\r\nhi\r\n0;\r\n\r\n", "hi", "2\r\nhi\r\n0\r\n\r\n", ""},
        {"2\r\nhi\r\n0\r\nX-Sum: 1\r\ngrpc-status: 0\r\n\r\n", "hi", "2\r\nhi\r\n0\r\n\r\n",
         "X-Sum: 1|grpc-status: 0|"},
        {"0\r\nHost: b\r\nContent-Length: 5\r\nAuthorization: x\r\nTransfer-Encoding: y\r\nX-Forwarded-For: z\r\nx: \r\n\r\n",
         "", "0\r\n\r\n", "x: |"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        char text[1024];
        snprintf(text, sizeof(text), "%s%s", CHUNKED, cases[i].text);
        for (int raw = 0; raw < 2; raw++) {
            struct outcome *o = accept(text, raw ? &raw_feed : &request_feed);
            assert_true(o->is_ended);
            assert_int_equal(o->used, strlen(text));
            assert_str(lt_str_make(o->body, o->body_len), raw ? cases[i].raw : cases[i].body);
            assert_string_equal(o->trailers, cases[i].trailers);
            drop(&o);
        }
    }
}

static void a_message_ends_where_the_next_begins(void **state)
{
    (void)state;
    static const char *const messages[] = {REQ "Content-Length: 3\r\n\r\nabc",
                                           CHUNKED "1\r\nx\r\n0\r\n\r\n", REQ "\r\n"};
    for (size_t i = 0; i < LT_ARRAY_LEN(messages); i++) {
        for (int raw = 0; raw < 2; raw++) {
            char text[512];
            snprintf(text, sizeof(text), "%sGET /next", messages[i]);
            struct outcome *o = accept(text, raw ? &raw_feed : &request_feed);
            assert_int_equal(o->used, strlen(messages[i]));
            assert_true(o->is_ended);
            drop(&o);
        }
    }
}

static void one_raw_slice_covers_a_whole_body(void **state)
{
    (void)state;
    struct lt_h1_parser parser;
    struct lt_http_head head;
    struct lt_arena *arena = lt_arena_new(0, 0);
    lt_h1_parser_init(&parser, false, NULL);
    lt_h1_head_init(&head, arena, NULL);
    lt_str text = LT_STR(CHUNKED "5\r\nhello\r\n1\r\n.\r\n0\r\n\r\nGET /");
    size_t used = 0;
    assert_int_equal(lt_h1_parse_head(&parser, text, &head, &used), LT_OK);
    struct lt_h1_piece piece;
    assert_int_equal(lt_h1_parse_body(&parser, lt_str_from(text, used), true, NULL, &piece), LT_OK);
    assert_true(piece.is_end);
    assert_str(piece.data, "5\r\nhello\r\n1\r\n.\r\n0\r\n\r\n");
    assert_int_equal(parser.body_bytes, 6);
    assert_int_equal(lt_h1_parse_body(&parser, LT_STR("GET /"), true, NULL, &piece), LT_OK);
    assert_true(piece.is_end && piece.used == 0);
    lt_h1_next_message(&parser);
    lt_arena_free(&arena);
}

static void responses_are_framed_by_status_and_request(void **state)
{
    (void)state;
    const struct feed head_feed = {.is_response = true, .was_head = true};
    const struct feed connect_feed = {.is_response = true, .was_connect = true};
    static const struct {
        const char *text;
        lt_http_body plain, head, connect;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", LT_BODY_LENGTH, LT_BODY_NONE,
         LT_BODY_TUNNEL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", LT_BODY_CHUNKED,
         LT_BODY_NONE, LT_BODY_TUNNEL},
        {"HTTP/1.1 200 OK\r\n\r\nok", LT_BODY_CLOSE, LT_BODY_NONE, LT_BODY_TUNNEL},
        {"HTTP/1.0 200\r\n\r\nok", LT_BODY_CLOSE, LT_BODY_NONE, LT_BODY_TUNNEL},
        {"HTTP/1.1 200 \nContent-Length: 0\n\n", LT_BODY_NONE, LT_BODY_NONE, LT_BODY_TUNNEL},
        {"HTTP/1.1 204 No\r\n\r\n", LT_BODY_NONE, LT_BODY_NONE, LT_BODY_TUNNEL},
        {"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", LT_BODY_NONE, LT_BODY_NONE,
         LT_BODY_TUNNEL},
        {"HTTP/1.1 304 No\r\nContent-Length: 7\r\n\r\n", LT_BODY_NONE, LT_BODY_NONE, LT_BODY_NONE},
        {"HTTP/1.1 100 Continue\r\n\r\n", LT_BODY_NONE, LT_BODY_NONE, LT_BODY_NONE},
        {"HTTP/1.1 101 Sw\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw", LT_BODY_TUNNEL,
         LT_BODY_TUNNEL, LT_BODY_TUNNEL},
        {"HTTP/1.1 407 Proxy\r\nContent-Length: 1\r\n\r\nx", LT_BODY_LENGTH, LT_BODY_NONE,
         LT_BODY_LENGTH},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        const struct feed *feeds[] = {&response_feed, &head_feed, &connect_feed};
        const lt_http_body bodies[] = {cases[i].plain, cases[i].head, cases[i].connect};
        for (size_t f = 0; f < 3; f++) {
            struct outcome *o = accept(cases[i].text, feeds[f]);
            assert_int_equal(o->head.body, bodies[f]);
            bool ends_connection = bodies[f] == LT_BODY_CLOSE || bodies[f] == LT_BODY_TUNNEL;
            assert_int_equal(o->head.keep_alive, !ends_connection && o->head.minor == 1);
            drop(&o);
        }
    }
    struct outcome *o = accept("HTTP/1.1 404 Not  Found\xe4 \r\nContent-Length: 1\r\n\r\nx",
                               &response_feed);
    assert_int_equal(o->head.status, 404);
    assert_str(o->head.reason, "Not  Found\xe4 ");
    assert_str(lt_str_make(o->body, o->body_len), "x");
    drop(&o);
}

static void bad_responses_are_refused(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        BAD("\r\nHTTP/1.1 200 OK\r\n\r\n", START_LINE),
        BAD("ICY 200 OK\r\n\r\n", START_LINE),
        BAD("HICY 200 OK\r\n\r\n", VERSION),
        BAD("HTTP/2.0 200 OK\r\n\r\n", VERSION_UNSUPPORTED),
        BAD("HTTP/1.1  200 OK\r\n\r\n", STATUS),
        BAD("HTTP/1.1 20\r\n\r\n", STATUS),
        BAD("HTTP/1.1 099 OK\r\n\r\n", STATUS),
        BAD("HTTP/1.1 1000 OK\r\n\r\n", STATUS),
        BAD("HTTP/1.1 2x0 OK\r\n\r\n", STATUS),
        BAD("HTTP/1.1\r\n\r\n", START_LINE),
        BAD("HTTP/1.1 200 O\0K\r\n\r\n", START_LINE),
        BAD("HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n", LENGTH_NOT_ALLOWED),
        BAD("HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", CODING_NOT_ALLOWED),
        BAD("HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n", CODING_NOT_ALLOWED),
        BAD("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", CODING),
        BAD("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
            LENGTH_AND_CODING),
        BAD("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", CONTENT_LENGTH),
        BAD("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", HEADER_FOLD),
        BAD("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", TRUNCATED),
    };
    check_refusals(cases, LT_ARRAY_LEN(cases), &response_feed);
}

static lt_str repeat(char *out, const char *before, const char *unit, size_t times,
                     const char *after)
{
    size_t at = (size_t)snprintf(out, 200000, "%s", before);
    for (size_t i = 0; i < times; i++)
        at += (size_t)snprintf(out + at, 200000 - at, "%s", unit);
    at += (size_t)snprintf(out + at, 200000 - at, "%s", after);
    return lt_str_make(out, at);
}

static void limits_hold_at_their_edge(void **state)
{
    (void)state;
    char *text = malloc(200000);
    const struct lt_h1_limits small = {.head_bytes_max = 100,
                                       .headers_max = 4,
                                       .chunk_ext_bytes_max = 5,
                                       .trailer_bytes_max = 20,
                                       .trailers_max = 2};
    const struct feed feed = {.limits = &small}, raw = {.limits = &small, .raw = true};
    const struct {
        const char *before, *unit;
        size_t times; /* as many as pass; one more does not */
        const char *after;
        lt_h1_error error;
    } cases[] = {
        {REQ "X: ", "v", 100 - 32, "\r\n\r\n", LT_H1_E_HEADERS_TOO_LARGE},
        {"GET /", "v", 100 - 27, " HTTP/1.1\r\nHost: a\r\n\r\n", LT_H1_E_HEADERS_TOO_LARGE},
        {"", "\n", 100 - 27, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", LT_H1_E_HEADERS_TOO_LARGE},
        {REQ, "a:\n", 3, "\r\n", LT_H1_E_TOO_MANY_HEADERS},
        {CHUNKED "1;", "e", 5, "\r\nx\r\n0\r\n\r\n", LT_H1_E_CHUNK_EXTENSION},
        {CHUNKED "1 ;", "e", 4, "\r\nx\r\n0\r\n\r\n", LT_H1_E_CHUNK_EXTENSION},
        {CHUNKED "0\r\n", "a:\r\n", 2, "\r\n", LT_H1_E_TRAILERS_TOO_LARGE},
        {CHUNKED "0\r\na: ", "v", 15, "\r\n\r\n", LT_H1_E_TRAILERS_TOO_LARGE},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        for (int r = 0; r < 2; r++) {
            lt_str fits = repeat(text, cases[i].before, cases[i].unit, cases[i].times,
                                 cases[i].after);
            struct outcome *o = feed_all_ways(fits, r ? &raw : &feed);
            if (o->rc != LT_OK)
                print_message("case %zu: %s\n", i, lt_h1_error_text(o->error));
            assert_int_equal(o->rc, LT_OK);
            drop(&o);
            lt_str over = repeat(text, cases[i].before, cases[i].unit, cases[i].times + 1,
                                 cases[i].after);
            o = feed_all_ways(over, r ? &raw : &feed);
            assert_int_equal(o->error, cases[i].error);
            drop(&o);
        }
    }
    lt_str endless = repeat(text, REQ "X: ", "v", 70000, "");
    size_t whole = endless.len;
    struct outcome *o = run(endless, &whole, 1, &request_feed);
    assert_int_equal(o->error, LT_H1_E_HEADERS_TOO_LARGE);
    assert_int_equal(lt_h1_error_status(o->error), 431);
    drop(&o);
    free(text);
}

static void every_error_has_a_status_and_a_name(void **state)
{
    (void)state;
    for (lt_h1_error e = LT_H1_E_NONE + 1; e < LT_H1_ERRORS; e++) {
        assert_true(lt_h1_error_status(e) >= 400 && lt_h1_error_status(e) < 600);
        assert_true(strlen(lt_h1_error_details(e)) > 0 && strlen(lt_h1_error_text(e)) > 0);
    }
}

/* --- hop-by-hop --- */

static lt_rc strip(const char *fields, bool keep_upgrade, char *out, size_t room)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_h1_parser parser;
    struct lt_http_head head;
    char text[1024];
    size_t used = 0;
    int len = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    lt_h1_parser_init(&parser, false, NULL);
    lt_h1_head_init(&head, arena, NULL);
    assert_int_equal(lt_h1_parse_head(&parser, lt_str_make(text, (size_t)len), &head, &used),
                     LT_OK);
    lt_rc rc = lt_h1_strip_hop_by_hop(&head.headers, keep_upgrade);
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 1; rc == LT_OK && i < head.headers.count; i++)
        at += (size_t)snprintf(out + at, room - at, "%.*s=%.*s;",
                               LT_STR_ARG(head.headers.items[i].name),
                               LT_STR_ARG(head.headers.items[i].value));
    lt_arena_free(&arena);
    return rc;
}

static void fields_of_one_hop_do_not_pass(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out; /* NULL: refused */
    } cases[] = {
        {"A: 1\r\nConnection: close, a, b\r\nB: 2\r\nC: 3\r\n", "C=3;"},
        {"Connection: a\r\nA: 1\r\nconnection: b\r\nB: 2\r\na: 3\r\n", ""},
        {"Keep-Alive: 5\r\nProxy-Connection: x\r\nHTTP2-Settings: y\r\nUpgrade: z\r\nX: 1\r\n",
         "X=1;"},
        {"TE: gzip, Trailers;q=1\r\n", ""},
        {"TE: gzip\r\nTE: x, TRAILERS\r\nConnection: te\r\n", "TE=trailers;"},
        {"Connection: host\r\n", NULL},
        {"Connection: X-Forwarded-For\r\n", NULL},
        {"Connection: x-forwarded-unheard-of\r\n", NULL},
        {"Connection: x-envoy-peer-metadata\r\n", NULL},
        {"Connection: Authorization\r\n", NULL},
        {"Connection: :path\r\n", NULL},
        {"Connection: content-length, a\r\nContent-Length: 0\r\nA: 1\r\n", "Content-Length=0;"},
        {"Connection: content-type, te\r\nContent-Type: a\r\nTE: trailers\r\n", "TE=trailers;"},
    };
    char out[512];
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        lt_rc rc = strip(cases[i].in, false, out, sizeof(out));
        assert_int_equal(rc, cases[i].out == NULL ? LT_E_BAD : LT_OK);
        if (cases[i].out != NULL)
            assert_string_equal(out, cases[i].out);
    }
    assert_int_equal(strip("Connection: upgrade\r\nUpgrade: websocket\r\n", true, out, sizeof(out)),
                     LT_OK);
    assert_string_equal(out, "Upgrade=websocket;");
    assert_int_equal(
        strip("Connection: upgrade\r\nUpgrade: \r\nA: 1\r\nUpgrade: a\r\nUpgrade: b\r\n", true, out,
              sizeof(out)),
        LT_OK);
    assert_string_equal(out, "A=1;Upgrade=a,b;");
    assert_int_equal(
        strip("Connection: upgrade\r\nUpgrade: a\r\nA: 1\r\nUpgrade:\r\n", true, out, sizeof(out)),
        LT_OK);
    assert_string_equal(out, "Upgrade=a;A=1;");
}

/* --- writing --- */

static void heads_are_written(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_headers h;
    struct lt_buf out;
    lt_headers_init(&h, arena, 0, 0);
    lt_buf_init(&out, 4096);
    assert_int_equal(lt_headers_add(&h, LT_STR("Host"), LT_STR("a")), LT_OK);
    assert_int_equal(lt_headers_add(&h, LT_STR("Transfer-Encoding"), LT_STR("gone")), LT_OK);
    assert_int_equal(lt_headers_add(&h, LT_STR("X-Odd"), LT_STR("")), LT_OK);
    assert_int_equal(lt_headers_add(&h, LT_STR("CONNECTION"), LT_STR("gone")), LT_OK);
    struct lt_h1_framing framing = {.name_case = LT_H1_CASE_KEPT,
                                    .body = LT_BODY_LENGTH,
                                    .content_length = UINT64_MAX,
                                    .connection = "close"};
    assert_int_equal(lt_h1_write_request(&out, LT_STR("PUT"), LT_STR("/x"), 1, &h, &framing),
                     LT_OK);
    assert_str(lt_buf_str(&out),
               "PUT /x HTTP/1.1\r\nHost: a\r\nX-Odd: \r\ncontent-length: 18446744073709551615\r\n"
               "connection: close\r\n\r\n");
    lt_buf_clear(&out, 4096);
    framing = (struct lt_h1_framing){.body = LT_BODY_CHUNKED, .connection = "keep-alive"};
    assert_int_equal(lt_h1_write_response(&out, 404, LT_STR_NULL, 1, &h, &framing), LT_OK);
    assert_str(lt_buf_str(&out),
               "HTTP/1.1 404 Not Found\r\nhost: a\r\nx-odd: \r\ntransfer-encoding: chunked\r\n"
               "connection: keep-alive\r\n\r\n");
    lt_buf_clear(&out, 4096);
    framing = (struct lt_h1_framing){.body = LT_BODY_NONE};
    assert_int_equal(lt_h1_write_response(&out, 299, LT_STR("Fine"), 0, NULL, &framing), LT_OK);
    assert_str(lt_buf_str(&out), "HTTP/1.0 299 Fine\r\n\r\n");
    lt_buf_fini(&out);
    lt_buf_init(&out, 80);
    assert_int_equal(lt_h1_write_response(&out, 200, LT_STR_NULL, 1, &h, &framing), LT_E_LIMIT);
    assert_int_equal(lt_buf_len(&out), 0);
    lt_buf_fini(&out);
    lt_arena_free(&arena);
}

static void chunks_are_written(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_headers trailers;
    struct lt_buf out;
    lt_headers_init(&trailers, arena, 0, 0);
    lt_buf_init(&out, 4096);
    assert_int_equal(lt_headers_add(&trailers, LT_STR("Grpc-Status"), LT_STR("0")), LT_OK);
    assert_int_equal(lt_h1_write_chunk(&out, LT_STR("0123456789abcdefg")), LT_OK);
    assert_int_equal(lt_h1_write_chunk(&out, LT_STR("")), LT_OK);
    assert_int_equal(lt_h1_write_last_chunk(&out, &trailers), LT_OK);
    assert_str(lt_buf_str(&out), "11\r\n0123456789abcdefg\r\n0\r\nGrpc-Status: 0\r\n\r\n");
    char line[LT_H1_CHUNK_LINE_MAX];
    assert_str(lt_str_make(line, lt_h1_chunk_line(line, UINT64_MAX)), "ffffffffffffffff\r\n");
    assert_str(lt_str_make(line, lt_h1_chunk_line(line, 1)), "1\r\n");
    assert_str(lt_str_make(line, lt_h1_chunk_line(line, 16)), "10\r\n");
    lt_buf_fini(&out);
    lt_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_requests_are_refused_for_the_right_reason),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(a_request_is_taken_apart),
        cmocka_unit_test(targets_have_four_forms),
        cmocka_unit_test(connections_live_on_or_not),
        cmocka_unit_test(chunks_are_decoded),
        cmocka_unit_test(a_message_ends_where_the_next_begins),
        cmocka_unit_test(one_raw_slice_covers_a_whole_body),
        cmocka_unit_test(responses_are_framed_by_status_and_request),
        cmocka_unit_test(bad_responses_are_refused),
        cmocka_unit_test(limits_hold_at_their_edge),
        cmocka_unit_test(every_error_has_a_status_and_a_name),
        cmocka_unit_test(fields_of_one_hop_do_not_pass),
        cmocka_unit_test(heads_are_written),
        cmocka_unit_test(chunks_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
