/*
 * The h2 engine: a client and a server engine mouth to mouth, and raw frames where a decent client
 * would not do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http/h2.h"

enum { LOG_MAX = 1 << 16, SEED_NS = 1000000000 };

/* One end: its connection, and what it was told, one line an event. */
struct side {
    struct lt_h2_conn *conn;
    struct lt_buf log;
    struct lt_h2_stream *last; /* the stream of the latest event that left it alive */
    size_t body_bytes;
    bool keeps_credit; /* does not consume */
    bool answers;      /* server: 200, "pong", a trailer */
};

static void note(struct side *side, const char *fmt, ...) LT_PRINTF(2, 3);
static void note(struct side *side, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    lt_rc rc = lt_buf_vprintf(&side->log, fmt, args);
    va_end(args);
    assert_int_equal(rc, LT_OK);
}

static struct side *side_of(struct lt_h2_stream *stream)
{
    return lt_h2_conn_user(lt_h2_stream_conn(stream));
}

static struct lt_h2_field field(const char *name, const char *value)
{
    return (struct lt_h2_field){lt_str_of(name), lt_str_of(value), false};
}

static void answer(struct lt_h2_stream *stream)
{
    struct lt_h2_field head[] = {field(":status", "200")};
    struct lt_h2_field tail[] = {field("grpc-status", "0")};
    assert_int_equal(lt_h2_stream_respond(stream, head, 1, false), LT_OK);
    assert_int_equal(lt_h2_stream_send(stream, LT_STR("pong")), LT_OK);
    assert_int_equal(lt_h2_stream_end(stream, tail, 1), LT_OK);
}

static void on_headers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end)
{
    struct side *side = side_of(stream);
    side->last = stream;
    note(side, "headers %u", lt_h2_stream_id(stream));
    for (size_t i = 0; i < LT_MIN(fields->count, (size_t)6); i++)
        note(side, " %.*s=%.*s", LT_STR_ARG(fields->items[i].name),
             LT_STR_ARG(fields->items[i].value));
    note(side, "%s%s\n", fields->is_over_limit ? " over" : "", is_end ? " end" : "");
    if (side->answers && is_end)
        answer(stream);
}

static void on_data(struct lt_h2_stream *stream, lt_str bytes)
{
    struct side *side = side_of(stream);
    side->body_bytes += bytes.len;
    if (bytes.len < 100)
        note(side, "data %.*s\n", LT_STR_ARG(bytes));
    if (!side->keeps_credit)
        lt_h2_stream_consume(stream, bytes.len);
}

static void on_trailers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields)
{
    note(side_of(stream), "trailers %.*s\n", LT_STR_ARG(fields->items[0].name));
}

static void on_end(struct lt_h2_stream *stream)
{
    note(side_of(stream), "end\n");
}

static void on_writable(struct lt_h2_stream *stream)
{
    note(side_of(stream), "writable\n");
}

static void on_closed(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code)
{
    static const char *const names[] = {"clean", "peer", "local", "conn", "unprocessed"};
    struct side *side = side_of(stream);
    side->last = NULL;
    note(side, "closed %u %s %u\n", lt_h2_stream_id(stream), names[end], code);
}

static void on_goaway(struct lt_h2_conn *conn, uint32_t last, uint32_t code, lt_str debug)
{
    note(lt_h2_conn_user(conn), "goaway %u %u %.*s\n", last, code, LT_STR_ARG(debug));
}

static void on_ping_ack(struct lt_h2_conn *conn, uint64_t opaque)
{
    note(lt_h2_conn_user(conn), "pong %llu\n", (unsigned long long)opaque);
}

static const struct lt_h2_events EVENTS = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_writable = on_writable,
    .on_closed = on_closed,
    .on_goaway = on_goaway,
    .on_ping_ack = on_ping_ack,
};

static void side_init(struct side *side, const struct lt_h2_opts *opts)
{
    *side = (struct side){0};
    lt_buf_init(&side->log, LOG_MAX);
    side->conn = lt_h2_conn_new(opts, &EVENTS, side);
}

static void side_fini(struct side *side)
{
    lt_h2_conn_free(&side->conn);
    lt_buf_fini(&side->log);
}

struct pair {
    struct side client, server;
    struct lt_h2_opts client_opts, server_opts;
    uint64_t now_ns;
    size_t chunk; /* bytes a feed; 0: all */
};

static void pair_init(struct pair *pair)
{
    pair->client_opts = LT_H2_OPTS_DEFAULT;
    pair->server_opts = LT_H2_OPTS_DEFAULT;
    pair->server_opts.is_server = true;
    pair->now_ns = SEED_NS;
    pair->chunk = 0;
}

static void pair_start(struct pair *pair)
{
    side_init(&pair->client, &pair->client_opts);
    side_init(&pair->server, &pair->server_opts);
}

static void pair_fini(struct pair *pair)
{
    side_fini(&pair->client);
    side_fini(&pair->server);
}

static lt_rc feed_in_chunks(struct side *to, lt_str bytes, size_t chunk, uint64_t now_ns)
{
    lt_rc rc = LT_OK;
    while (bytes.len > 0 && rc == LT_OK) {
        lt_str head = lt_str_slice(bytes, 0, chunk == 0 ? bytes.len : chunk);
        rc = lt_h2_conn_feed(to->conn, head, now_ns);
        bytes = lt_str_from(bytes, head.len);
    }
    return rc;
}

/* True when something moved. *rc gets what feed said. */
static bool carry(struct pair *pair, struct side *from, struct side *to, lt_rc *rc)
{
    struct iovec iov[16];
    int count = lt_h2_conn_drain(from->conn, iov, 16);
    size_t len = 0;
    for (int i = 0; i < count; i++) {
        lt_rc one = feed_in_chunks(to, lt_str_make(iov[i].iov_base, iov[i].iov_len), pair->chunk,
                                   pair->now_ns);
        if (*rc == LT_OK)
            *rc = one;
        len += iov[i].iov_len;
    }
    lt_h2_conn_sent(from->conn, len);
    return len > 0;
}

static lt_rc pump(struct pair *pair)
{
    lt_rc rc = LT_OK;
    for (int i = 0; i < 10000; i++) {
        bool moved = carry(pair, &pair->client, &pair->server, &rc);
        moved |= carry(pair, &pair->server, &pair->client, &rc);
        if (!moved)
            return rc;
    }
    fail_msg("the two never come to rest");
    return rc;
}

static struct lt_h2_stream *request(struct pair *pair, bool is_end)
{
    struct lt_h2_field fields[] = {field(":method", "POST"), field(":scheme", "http"),
                                   field(":path", "/a"), field(":authority", "b")};
    struct lt_h2_stream *stream = NULL;
    assert_int_equal(lt_h2_stream_open(pair->client.conn, fields, 4, is_end, NULL, &stream), LT_OK);
    return stream;
}

static void expect_log(struct side *side, const char *text)
{
    lt_rc rc = lt_buf_append(&side->log, "", 1);
    assert_int_equal(rc, LT_OK);
    assert_string_equal(lt_buf_str(&side->log).ptr, text);
    lt_buf_clear(&side->log, 0);
}

static void expect_end(struct side *side, const char *text)
{
    lt_str log = lt_buf_str(&side->log);
    assert_true(lt_str_ends(log, lt_str_of(text)));
}

/* --- a request and its answer --- */

static void exchange(size_t chunk, const char *client_log)
{
    struct pair pair;
    pair_init(&pair);
    pair.chunk = chunk;
    pair_start(&pair);
    pair.server.answers = true;
    request(&pair, true);
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(
        &pair.server,
        "headers 1 :method=POST :scheme=http :path=/a :authority=b end\nend\nclosed 1 clean 0\n");
    expect_log(&pair.client, client_log);
    assert_int_equal(lt_h2_conn_stream_count(pair.server.conn), 0);
    assert_false(lt_h2_conn_has_output(pair.server.conn));
    pair_fini(&pair);
}

static void test_exchange(void **state)
{
    (void)state;
    exchange(0, "headers 1 :status=200\ndata pong\ntrailers grpc-status\nend\nclosed 1 clean 0\n");
}

static void test_exchange_byte_by_byte(void **state)
{
    (void)state;
    exchange(1, "headers 1 :status=200\ndata p\ndata o\ndata n\ndata g\n"
                "trailers grpc-status\nend\nclosed 1 clean 0\n");
}

static void test_interim_response_is_told_apart_from_trailers(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    request(&pair, true);
    assert_int_equal(pump(&pair), LT_OK);
    struct lt_h2_field hint[] = {field(":status", "103"), field("link", "x")};
    assert_int_equal(lt_h2_stream_respond(pair.server.last, hint, 2, false), LT_OK);
    assert_int_equal(pump(&pair), LT_OK);
    answer(pair.server.last);
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.client, "headers 1 :status=103 link=x\nheaders 1 :status=200\ndata pong\n"
                             "trailers grpc-status\nend\nclosed 1 clean 0\n");
    pair_fini(&pair);
}

static void test_server_closes_after_its_end(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    request(&pair, false); /* the client never ends its side */
    assert_int_equal(pump(&pair), LT_OK);
    lt_h2_stream_close_after_end(pair.server.last);
    answer(pair.server.last);
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.server,
               "headers 1 :method=POST :scheme=http :path=/a :authority=b\nclosed 1 clean 0\n");
    pair_fini(&pair);
}

/* --- flow control --- */

static int free_count;

static void count_free(struct lt_bytes *bytes)
{
    free(bytes);
    free_count++;
}

static void test_shared_bytes_go_out_by_reference_and_are_let_go(void **state)
{
    (void)state;
    static char block[100000];
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    struct lt_h2_stream *stream = request(&pair, false);
    struct lt_bytes *shared = malloc(sizeof(*shared));
    lt_bytes_init(shared, lt_str_make(block, sizeof(block)), count_free);
    free_count = 0;
    assert_int_equal(lt_h2_stream_send_bytes(stream, shared, lt_bytes_str(shared)), LT_OK);
    lt_bytes_unref(&shared);
    assert_int_equal(free_count, 0);
    struct iovec iov[16];
    bool is_by_reference = false;
    int count = lt_h2_conn_drain(pair.client.conn, iov, 16);
    for (int i = 0; i < count; i++)
        is_by_reference |= iov[i].iov_base == block;
    assert_true(is_by_reference || count > 0);
    assert_int_equal(lt_h2_stream_end(stream, NULL, 0), LT_OK);
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(pair.server.body_bytes, sizeof(block));
    assert_int_equal(free_count, 1);
    pair_fini(&pair);
}

static void test_a_reader_that_gives_no_credit_stops_the_sender(void **state)
{
    (void)state;
    static char block[300000];
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.stream_window_bytes = 65535;
    pair.client_opts.send_queue_bytes = 100000;
    pair_start(&pair);
    pair.server.keeps_credit = true;
    struct lt_h2_stream *stream = request(&pair, false);
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(lt_h2_stream_send(stream, lt_str_make(block, sizeof(block))), LT_OK);
    assert_false(lt_h2_stream_is_writable(stream));
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(pair.server.body_bytes, 65535);
    assert_int_equal(lt_h2_stream_unconsumed(pair.server.last), 65535);
    lt_buf_clear(&pair.client.log, 0);
    pair.server.keeps_credit = false;
    lt_h2_stream_consume(pair.server.last, 65535);
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(pair.server.body_bytes, sizeof(block));
    expect_log(&pair.client, "writable\n");
    pair_fini(&pair);
}

static void test_credit_of_a_dead_stream_returns_to_the_connection(void **state)
{
    (void)state;
    static char block[60000];
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.stream_window_bytes = 65535;
    pair.server_opts.conn_window_bytes = 65535;
    pair_start(&pair);
    pair.server.keeps_credit = true;
    for (int i = 0; i < 10; i++) {
        struct lt_h2_stream *stream = request(&pair, false);
        assert_int_equal(pump(&pair), LT_OK);
        assert_int_equal(lt_h2_stream_send(stream, lt_str_make(block, sizeof(block))), LT_OK);
        assert_int_equal(pump(&pair), LT_OK);
        assert_int_equal(pair.server.body_bytes, (size_t)(i + 1) * sizeof(block));
        lt_h2_stream_reset(stream, LT_H2_CANCEL);
        assert_int_equal(pump(&pair), LT_OK);
    }
    pair_fini(&pair);
}

static void test_send_queue_has_a_maximum(void **state)
{
    (void)state;
    static char block[60000];
    struct pair pair;
    pair_init(&pair);
    pair.client_opts.send_queue_bytes_max = 100000;
    pair_start(&pair);
    struct lt_h2_stream *stream = request(&pair, false);
    assert_int_equal(lt_h2_stream_send(stream, lt_str_make(block, sizeof(block))), LT_OK);
    assert_int_equal(lt_h2_stream_send(stream, lt_str_make(block, sizeof(block))), LT_E_LIMIT);
    assert_int_equal(lt_h2_stream_queued(stream), sizeof(block));
    pair_fini(&pair);
}

static void test_window_grows_for_who_reads(void **state)
{
    (void)state;
    static char block[200000];
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.stream_window_bytes = 65535;
    pair.server_opts.stream_window_max = 150000;
    pair_start(&pair);
    struct lt_h2_stream *stream = request(&pair, false);
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(lt_h2_stream_send(stream, lt_str_make(block, sizeof(block))), LT_OK);
    assert_int_equal(pump(&pair), LT_OK); /* all of it is read */
    assert_int_equal(pair.server.body_bytes, sizeof(block));
    pair.server.keeps_credit = true;
    assert_int_equal(lt_h2_stream_send(stream, lt_str_make(block, sizeof(block))), LT_OK);
    assert_int_equal(pump(&pair), LT_OK);
    assert_in_range(lt_h2_stream_unconsumed(pair.server.last), 75000, 150000);
    pair_fini(&pair);
}

/* Sends on one stream that nobody reads from, then on another; what came of the second. */
static size_t second_stream_gets(size_t ahead_bytes)
{
    static char block[60000];
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.stream_window_bytes = 65535;
    pair.server_opts.conn_window_bytes = 65535;
    pair.server_opts.conn_ahead_bytes = ahead_bytes;
    pair_start(&pair);
    pair.server.keeps_credit = true;
    struct lt_h2_stream *first = request(&pair, false), *second = request(&pair, false);
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(lt_h2_stream_send(first, lt_str_make(block, sizeof(block))), LT_OK);
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(pair.server.body_bytes, sizeof(block));
    assert_int_equal(lt_h2_conn_unconsumed(pair.server.conn), sizeof(block));
    assert_int_equal(lt_h2_stream_send(second, lt_str_make(block, sizeof(block))), LT_OK);
    assert_int_equal(pump(&pair), LT_OK);
    size_t got = pair.server.body_bytes - sizeof(block);
    lt_h2_stream_reset(first, LT_H2_CANCEL); /* credit is given once, whatever happens */
    assert_int_equal(pump(&pair), LT_OK);
    assert_int_equal(pair.server.body_bytes, 2 * sizeof(block));
    assert_int_equal(lt_h2_conn_unconsumed(pair.server.conn), sizeof(block));
    pair_fini(&pair);
    return got;
}

static void test_a_stream_that_is_not_read_stops_no_other(void **state)
{
    (void)state;
    assert_int_equal(second_stream_gets(0), 5535);
    assert_int_equal(second_stream_gets(1 << 20), 60000);
}

static void test_queues_of_all_streams_have_a_limit(void **state)
{
    (void)state;
    static char block[50000];
    struct pair pair;
    pair_init(&pair);
    pair.client_opts.conn_queue_bytes = 90000;
    pair_start(&pair);
    assert_int_equal(pump(&pair), LT_OK);
    struct lt_h2_stream *streams[4];
    for (int i = 0; i < 4; i++)
        streams[i] = request(&pair, false);
    for (int i = 0; i < 2; i++) {
        assert_true(lt_h2_stream_is_writable(streams[i]));
        assert_int_equal(lt_h2_stream_send(streams[i], lt_str_make(block, sizeof(block))), LT_OK);
    }
    assert_false(lt_h2_stream_is_writable(streams[0]));
    assert_true(lt_h2_stream_is_writable(streams[2])); /* a little, so that none starves */
    assert_int_equal(lt_h2_stream_send(streams[2], lt_str_make(block, 5000)), LT_OK);
    assert_false(lt_h2_stream_is_writable(streams[2]));
    assert_true(lt_h2_stream_is_writable(streams[3]));
    lt_buf_clear(&pair.client.log, 0);
    assert_int_equal(pump(&pair), LT_OK);
    assert_true(lt_h2_stream_is_writable(streams[0]) && lt_h2_stream_is_writable(streams[2]));
    expect_log(&pair.client, "writable\nwritable\n");
    pair_fini(&pair);
}

/* --- ends --- */

static void test_resets_are_told_to_both(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    struct lt_h2_stream *stream = request(&pair, false);
    assert_int_equal(pump(&pair), LT_OK);
    lt_buf_clear(&pair.server.log, 0);
    lt_h2_stream_reset(stream, LT_H2_CANCEL);
    lt_h2_stream_reset(stream, LT_H2_CANCEL);
    assert_int_equal(lt_h2_stream_send(stream, LT_STR("x")), LT_E_CLOSED);
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.client, "closed 1 local 8\n");
    expect_log(&pair.server, "closed 1 peer 8\n");
    pair_fini(&pair);
}

static void test_reset_of_a_request_that_is_not_out_yet(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    struct lt_h2_stream *stream = request(&pair, false);
    assert_int_equal(lt_h2_stream_send(stream, LT_STR("x")), LT_OK);
    lt_h2_stream_reset(stream, LT_H2_CANCEL);
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.client, "closed 1 local 8\n");
    expect_log(&pair.server, "");
    pair_fini(&pair);
}

static void test_free_tells_every_stream(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    request(&pair, false);
    request(&pair, false);
    assert_int_equal(pump(&pair), LT_OK);
    lt_h2_conn_free(&pair.client.conn);
    expect_log(&pair.client, "closed 1 conn 0\nclosed 3 conn 0\n");
    pair_fini(&pair);
}

static void test_goaway_lets_streams_end_and_refuses_new_ones(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    request(&pair, true);
    assert_int_equal(pump(&pair), LT_OK);
    struct lt_h2_stream *first = pair.server.last;
    lt_h2_conn_shutdown_notice(pair.server.conn);
    lt_h2_conn_goaway(pair.server.conn, LT_H2_NO_ERROR, LT_STR("bye"));
    /* on its way when the GOAWAY was made */
    request(&pair, true);
    lt_buf_clear(&pair.client.log, 0);
    assert_int_equal(pump(&pair), LT_OK);
    assert_false(lt_h2_conn_can_open(pair.client.conn));
    answer(first);
    (void)pump(&pair);
    lt_rc rc = lt_buf_append(&pair.client.log, "", 1);
    assert_int_equal(rc, LT_OK);
    const char *log = lt_buf_str(&pair.client.log).ptr;
    assert_non_null(strstr(log, "goaway 1 0 bye\n"));
    assert_non_null(strstr(log, "closed 3 unprocessed"));
    assert_non_null(strstr(log, "closed 1 clean 0\n"));
    assert_true(lt_h2_conn_is_finished(pair.server.conn));
    expect_end(&pair.server, "closed 3 local 7\nclosed 1 clean 0\n");
    struct lt_h2_stream *stream = NULL;
    struct lt_h2_field fields[] = {field(":method", "GET")};
    assert_int_equal(lt_h2_stream_open(pair.client.conn, fields, 1, true, NULL, &stream),
                     LT_E_CLOSED);
    pair_fini(&pair);
}

static void test_ping(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair_start(&pair);
    lt_h2_conn_ping(pair.client.conn, 77);
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.client, "pong 77\n");
    pair_fini(&pair);
}

/* --- limits --- */

static void test_concurrent_streams(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.concurrent_streams_max = 2;
    pair_start(&pair);
    assert_int_equal(pump(&pair), LT_OK);
    request(&pair, false);
    struct lt_h2_stream *second = request(&pair, false), *third = NULL;
    struct lt_h2_field fields[] = {field(":method", "GET"), field(":scheme", "http"),
                                   field(":path", "/"), field(":authority", "b")};
    assert_false(lt_h2_conn_can_open(pair.client.conn));
    assert_int_equal(lt_h2_stream_open(pair.client.conn, fields, 4, true, NULL, &third),
                     LT_E_LIMIT);
    lt_h2_stream_reset(second, LT_H2_CANCEL);
    assert_int_equal(pump(&pair), LT_OK);
    assert_true(lt_h2_conn_can_open(pair.client.conn));
    pair_fini(&pair);
}

static struct lt_h2_stream *request_with_big_header(struct pair *pair, char *value, size_t len)
{
    memset(value, 'v', len);
    struct lt_h2_field fields[] = {field(":method", "GET"),
                                   field(":scheme", "http"),
                                   field(":path", "/"),
                                   field(":authority", "b"),
                                   {LT_STR("big"), {value, len}, false}};
    struct lt_h2_stream *stream = NULL;
    assert_int_equal(lt_h2_stream_open(pair->client.conn, fields, 5, true, NULL, &stream), LT_OK);
    return stream;
}

static void test_header_list_over_its_limit_is_told(void **state)
{
    (void)state;
    static char value[3000];
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.header_list_bytes_max = 1000;
    pair_start(&pair);
    request_with_big_header(&pair, value, sizeof(value));
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.server,
               "headers 1 :method=GET :scheme=http :path=/ :authority=b over end\nend\n");
    pair_fini(&pair);
}

static void test_header_list_far_over_its_limit_is_reset(void **state)
{
    (void)state;
    static char value[60000];
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.header_list_bytes_max = 1000;
    pair_start(&pair);
    request_with_big_header(&pair, value, sizeof(value));
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.server, "");
    expect_log(&pair.client, "closed 1 peer 2\n");
    assert_int_equal(lt_h2_conn_stats(pair.server.conn)->header_lists_over_limit, 1);
    pair_fini(&pair);
}

static void test_header_count_has_a_maximum(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.headers_max = 3;
    pair_start(&pair);
    request(&pair, true);
    assert_int_equal(pump(&pair), LT_OK);
    expect_log(&pair.server, "headers 1 :method=POST :scheme=http :path=/a over end\nend\n");
    pair_fini(&pair);
}

static void test_rapid_reset_ends_the_connection(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.resets = (struct lt_h2_rate){.burst = 20, .per_s = 10};
    pair_start(&pair);
    lt_rc rc = LT_OK;
    int rounds = 0;
    while (rc == LT_OK && rounds < 100) {
        struct lt_h2_stream *stream = request(&pair, false);
        struct iovec iov[16];
        lt_h2_conn_drain(pair.client.conn, iov, 16); /* the request is framed before it is reset */
        lt_h2_stream_reset(stream, LT_H2_CANCEL);
        rc = pump(&pair);
        rounds++;
    }
    assert_int_equal(rc, LT_E_LIMIT);
    assert_int_equal(rounds, 21);
    assert_int_equal(lt_h2_conn_stats(pair.server.conn)->fail, LT_H2_FAIL_RESET_FLOOD);
    pair_fini(&pair);
}

static void test_slow_resets_are_fine(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.resets = (struct lt_h2_rate){.burst = 20, .per_s = 10};
    pair_start(&pair);
    for (int i = 0; i < 100; i++) {
        struct lt_h2_stream *stream = request(&pair, false);
        assert_int_equal(pump(&pair), LT_OK);
        lt_h2_stream_reset(stream, LT_H2_CANCEL);
        assert_int_equal(pump(&pair), LT_OK);
        pair.now_ns += 100000000;
    }
    pair_fini(&pair);
}

/* What was framed but not taken by the socket was seen by nobody. */
static void test_head_is_out_once_the_socket_has_it(void **state)
{
    (void)state;
    struct pair pair;
    struct iovec iov[16];
    pair_init(&pair);
    pair_start(&pair);
    assert_int_equal(pump(&pair), LT_OK);
    struct lt_h2_stream *stream = request(&pair, true);
    assert_false(lt_h2_stream_head_is_out(stream));
    int count = lt_h2_conn_drain(pair.client.conn, iov, 16);
    size_t len = 0;
    for (int i = 0; i < count; i++)
        len += iov[i].iov_len;
    lt_h2_conn_sent(pair.client.conn, len - 1);
    assert_false(lt_h2_stream_head_is_out(stream));
    lt_h2_conn_sent(pair.client.conn, 1);
    assert_true(lt_h2_stream_head_is_out(stream));
    pair_fini(&pair);
}

static void test_streams_that_end_well_pay_for_resets(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.resets = (struct lt_h2_rate){.burst = 3, .per_s = 0};
    pair_start(&pair);
    for (int i = 0; i < 50; i++) {
        pair.server.answers = true;
        request(&pair, true);
        assert_int_equal(pump(&pair), LT_OK);
        pair.server.answers = false;
        struct lt_h2_stream *stream = request(&pair, false);
        assert_int_equal(pump(&pair), LT_OK);
        lt_h2_stream_reset(stream, LT_H2_CANCEL);
        assert_int_equal(pump(&pair), LT_OK);
    }
    pair_fini(&pair);
}

static void test_a_reset_after_a_second_costs_nothing(void **state)
{
    (void)state;
    struct pair pair;
    pair_init(&pair);
    pair.server_opts.resets = (struct lt_h2_rate){.burst = 1, .per_s = 0};
    pair_start(&pair);
    for (int i = 0; i < 10; i++) {
        struct lt_h2_stream *stream = request(&pair, false);
        assert_int_equal(pump(&pair), LT_OK);
        pair.now_ns += 1000000000;
        lt_h2_stream_reset(stream, LT_H2_CANCEL);
        assert_int_equal(pump(&pair), LT_OK);
    }
    pair_fini(&pair);
}

/* --- raw frames --- */

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static void raw_frame(struct lt_buf *buf, uint8_t type, uint8_t flags, uint32_t id, lt_str payload)
{
    uint8_t head[9] = {(uint8_t)(payload.len >> 16),
                       (uint8_t)(payload.len >> 8),
                       (uint8_t)payload.len,
                       type,
                       flags,
                       (uint8_t)(id >> 24),
                       (uint8_t)(id >> 16),
                       (uint8_t)(id >> 8),
                       (uint8_t)id};
    assert_int_equal(lt_buf_append(buf, head, sizeof(head)), LT_OK);
    assert_int_equal(lt_buf_append_str(buf, payload), LT_OK);
}

/* GET http / b, in HPACK's static table */
static const lt_str GET_BLOCK = {"\x82\x86\x84\x41\x01"
                                 "b",
                                 6};

struct raw {
    struct side server;
    struct lt_buf bytes;
};

static void raw_init(struct raw *raw, const struct lt_h2_opts *opts)
{
    side_init(&raw->server, opts);
    lt_buf_init(&raw->bytes, 1 << 20);
    assert_int_equal(lt_buf_append(&raw->bytes, PREFACE, 24), LT_OK);
    raw_frame(&raw->bytes, 4, 0, 0, LT_STR_NULL);
}

static lt_rc raw_feed(struct raw *raw)
{
    lt_rc rc = lt_h2_conn_feed(raw->server.conn, lt_buf_str(&raw->bytes), SEED_NS);
    lt_buf_clear(&raw->bytes, SIZE_MAX);
    return rc;
}

static void raw_fini(struct raw *raw)
{
    lt_buf_fini(&raw->bytes);
    side_fini(&raw->server);
}

/* Code of the GOAWAY that the server has ready, or -1. */
static int64_t goaway_code(struct side *side)
{
    struct iovec iov[16];
    int count = lt_h2_conn_drain(side->conn, iov, 16);
    int64_t code = -1;
    for (int i = 0; i < count; i++) {
        const uint8_t *at = iov[i].iov_base;
        size_t left = iov[i].iov_len;
        while (left >= 9) {
            size_t len = 9 + ((size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2]);
            if (at[3] == 7)
                code = (int64_t)at[13] << 24 | at[14] << 16 | at[15] << 8 | at[16];
            at += LT_MIN(len, left);
            left -= LT_MIN(len, left);
        }
    }
    return code;
}

static struct lt_h2_opts server_opts(void)
{
    struct lt_h2_opts opts = LT_H2_OPTS_DEFAULT;
    opts.is_server = true;
    return opts;
}

static void test_http1_is_not_http2(void **state)
{
    (void)state;
    struct lt_h2_opts opts = server_opts();
    struct side server;
    side_init(&server, &opts);
    assert_int_equal(lt_h2_conn_feed(server.conn, LT_STR("GET / HTTP/1.1\r\n\r\n"), SEED_NS),
                     LT_E_UNSUPPORTED);
    assert_int_equal(lt_h2_conn_feed(server.conn, LT_STR("x"), SEED_NS), LT_E_UNSUPPORTED);
    assert_int_equal(lt_h2_conn_stats(server.conn)->fail, LT_H2_FAIL_NOT_HTTP2);
    side_fini(&server);
}

static void test_stream_id_that_was_jumped_over(void **state)
{
    (void)state;
    struct lt_h2_opts opts = server_opts();
    struct raw raw;
    raw_init(&raw, &opts);
    raw_frame(&raw.bytes, 1, 0x5, 5, GET_BLOCK);
    raw_frame(&raw.bytes, 1, 0x5, 3, GET_BLOCK);
    assert_int_equal(raw_feed(&raw), LT_E_BAD);
    assert_int_equal(lt_h2_conn_stats(raw.server.conn)->fail, LT_H2_FAIL_STREAM_ID_ORDER);
    assert_int_equal(goaway_code(&raw.server), LT_H2_PROTOCOL_ERROR);
    raw_fini(&raw);
}

/* Content for a stream that its client has ended, or reset; the bytes cut in two anywhere. */
static void check_content_after_end(uint8_t flags, bool is_reset, uint8_t type)
{
    struct lt_h2_opts opts = server_opts();
    for (size_t cut = 0; cut < 150; cut++) {
        struct raw raw;
        raw_init(&raw, &opts);
        raw_frame(&raw.bytes, 1, flags, 1, GET_BLOCK);
        if (is_reset)
            raw_frame(&raw.bytes, 3, 0, 1, LT_STR("\0\0\0\x08"));
        raw_frame(&raw.bytes, 1, 0x5, 3, GET_BLOCK);
        raw_frame(&raw.bytes, type, 0x5, 1, type == 1 ? GET_BLOCK : LT_STR("more"));
        lt_str bytes = lt_buf_str(&raw.bytes);
        size_t half = LT_MIN(cut, bytes.len);
        lt_rc rc = lt_h2_conn_feed(raw.server.conn, lt_str_make(bytes.ptr, half), SEED_NS);
        if (rc == LT_OK)
            rc = lt_h2_conn_feed(raw.server.conn, lt_str_make(bytes.ptr + half, bytes.len - half),
                                 SEED_NS);
        assert_int_equal(rc, LT_E_BAD);
        assert_int_equal(lt_h2_conn_stats(raw.server.conn)->fail, LT_H2_FAIL_STREAM_CLOSED);
        assert_int_equal(goaway_code(&raw.server), LT_H2_STREAM_CLOSED);
        raw_fini(&raw);
    }
}

static void test_content_after_the_end(void **state)
{
    (void)state;
    check_content_after_end(0x5, false, 0);
    check_content_after_end(0x5, false, 1);
    check_content_after_end(0x4, true, 0);
    check_content_after_end(0x4, true, 1);
}

static void test_ping_flood_ends_the_connection(void **state)
{
    (void)state;
    struct lt_h2_opts opts = server_opts();
    opts.control = (struct lt_h2_rate){.burst = 50, .per_s = 1};
    struct raw raw;
    raw_init(&raw, &opts);
    for (int i = 0; i < 60; i++)
        raw_frame(&raw.bytes, 6, 0, 0, LT_STR("12345678"));
    assert_int_equal(raw_feed(&raw), LT_E_LIMIT);
    assert_int_equal(lt_h2_conn_stats(raw.server.conn)->fail, LT_H2_FAIL_CONTROL_FLOOD);
    assert_int_equal(goaway_code(&raw.server), LT_H2_ENHANCE_YOUR_CALM);
    raw_fini(&raw);
}

static void test_continuation_flood_ends_the_connection(void **state)
{
    (void)state;
    struct lt_h2_opts opts = server_opts();
    struct raw raw;
    raw_init(&raw, &opts);
    raw_frame(&raw.bytes, 1, 0x1, 1, GET_BLOCK);
    for (int i = 0; i < 20; i++)
        raw_frame(&raw.bytes, 9, 0, 1, LT_STR_NULL);
    assert_int_equal(raw_feed(&raw), LT_E_LIMIT);
    assert_int_equal(lt_h2_conn_stats(raw.server.conn)->fail, LT_H2_FAIL_CONTINUATION_FLOOD);
    raw_fini(&raw);
}

/* Frames of one kind on an open stream, as many as are fine, then one more. */
static void check_flood(uint8_t type, uint8_t flags, uint32_t id, lt_str payload, int fine,
                        lt_h2_fail fail)
{
    struct lt_h2_opts opts = server_opts();
    struct raw raw;
    raw_init(&raw, &opts);
    raw_frame(&raw.bytes, 1, 0x4, 1, GET_BLOCK);
    for (int i = 0; i < fine; i++)
        raw_frame(&raw.bytes, type, flags, id, payload);
    assert_int_equal(raw_feed(&raw), LT_OK);
    raw_frame(&raw.bytes, type, flags, id, payload);
    assert_int_equal(raw_feed(&raw), LT_E_LIMIT);
    assert_int_equal(lt_h2_conn_stats(raw.server.conn)->fail, fail);
    assert_int_equal(goaway_code(&raw.server), LT_H2_ENHANCE_YOUR_CALM);
    raw_fini(&raw);
}

static void test_floods(void **state)
{
    (void)state;
    check_flood(0, 0, 1, LT_STR_NULL, 1, LT_H2_FAIL_EMPTY_FLOOD);
    check_flood(0, 0x8, 1, LT_STR("\3\0\0\0"), 1, LT_H2_FAIL_EMPTY_FLOOD); /* padding alone */
    check_flood(2, 0, 3, LT_STR("\0\0\0\0\1"), 200, LT_H2_FAIL_PRIORITY_FLOOD);
    check_flood(8, 0, 0, LT_STR("\0\0\0\1"), 7, LT_H2_FAIL_UPDATE_FLOOD);
}

static void test_requests_that_break_rules_count_as_resets(void **state)
{
    (void)state;
    struct lt_h2_opts opts = server_opts();
    opts.resets = (struct lt_h2_rate){.burst = 5, .per_s = 1};
    struct raw raw;
    raw_init(&raw, &opts);
    assert_int_equal(raw_feed(&raw), LT_OK);
    int rounds = 0;
    while (rounds < 50 && lt_h2_conn_stats(raw.server.conn)->fail == LT_H2_FAIL_NONE) {
        uint32_t id = (uint32_t)rounds++ * 2 + 1;
        raw_frame(&raw.bytes, 1, 0x5, id, LT_STR("\x82")); /* a method alone */
        (void)goaway_code(&raw.server);
        if (raw_feed(&raw) != LT_OK)
            break;
        (void)goaway_code(&raw.server);
    }
    assert_int_equal(rounds, 6);
    raw_fini(&raw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_exchange_byte_by_byte),
        cmocka_unit_test(test_interim_response_is_told_apart_from_trailers),
        cmocka_unit_test(test_server_closes_after_its_end),
        cmocka_unit_test(test_shared_bytes_go_out_by_reference_and_are_let_go),
        cmocka_unit_test(test_a_reader_that_gives_no_credit_stops_the_sender),
        cmocka_unit_test(test_credit_of_a_dead_stream_returns_to_the_connection),
        cmocka_unit_test(test_send_queue_has_a_maximum),
        cmocka_unit_test(test_window_grows_for_who_reads),
        cmocka_unit_test(test_a_stream_that_is_not_read_stops_no_other),
        cmocka_unit_test(test_queues_of_all_streams_have_a_limit),
        cmocka_unit_test(test_resets_are_told_to_both),
        cmocka_unit_test(test_reset_of_a_request_that_is_not_out_yet),
        cmocka_unit_test(test_free_tells_every_stream),
        cmocka_unit_test(test_goaway_lets_streams_end_and_refuses_new_ones),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_concurrent_streams),
        cmocka_unit_test(test_header_list_over_its_limit_is_told),
        cmocka_unit_test(test_header_list_far_over_its_limit_is_reset),
        cmocka_unit_test(test_header_count_has_a_maximum),
        cmocka_unit_test(test_rapid_reset_ends_the_connection),
        cmocka_unit_test(test_slow_resets_are_fine),
        cmocka_unit_test(test_head_is_out_once_the_socket_has_it),
        cmocka_unit_test(test_streams_that_end_well_pay_for_resets),
        cmocka_unit_test(test_a_reset_after_a_second_costs_nothing),
        cmocka_unit_test(test_http1_is_not_http2),
        cmocka_unit_test(test_stream_id_that_was_jumped_over),
        cmocka_unit_test(test_content_after_the_end),
        cmocka_unit_test(test_ping_flood_ends_the_connection),
        cmocka_unit_test(test_continuation_flood_ends_the_connection),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_requests_that_break_rules_count_as_resets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
