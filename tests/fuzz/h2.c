/*
 * tests/fuzz/h2.c - aims at lt_h2_conn_feed and all that follows from it, drain and the stream
 * actions. First byte: bit 0 client or server, bit 1 with the preface put before, bit 2 whether
 * credit is given back, bits 3-7 the size of the pieces. Second byte: what the owner does with each
 * stream.
 */
#include "http/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct owner {
    struct lt_h2_conn *conn;
    uint8_t habits;
    bool gives_credit;
    bool is_server;
    size_t open;
    size_t events;
};

static struct owner *owner_of(struct lt_h2_stream *stream)
{
    return lt_h2_conn_user(lt_h2_stream_conn(stream));
}

static struct lt_h2_field field(const char *name, const char *value)
{
    return (struct lt_h2_field){lt_str_of(name), lt_str_of(value), false};
}

/* Any result will do: the peer may have ended the stream. */
static void ignore(lt_rc rc)
{
    LT_ASSERT(rc == LT_OK || rc == LT_E_CLOSED || rc == LT_E_LIMIT);
}

static void answer(struct lt_h2_stream *stream, uint8_t habits)
{
    struct lt_h2_field head[] = {field(":status", "200"), field("x", "y")};
    struct lt_h2_field tail[] = {field("grpc-status", "0")};
    static char body[3000];
    ignore(lt_h2_stream_respond(stream, head, 2, false));
    ignore(lt_h2_stream_send(stream, lt_str_make(body, sizeof(body))));
    if (habits & 2)
        lt_h2_stream_close_after_end(stream);
    ignore(lt_h2_stream_end(stream, tail, habits & 4 ? 1 : 0));
}

static void on_headers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields, bool is_end)
{
    (void)is_end;
    struct owner *owner = owner_of(stream);
    size_t bytes = 0;
    for (size_t i = 0; i < fields->count; i++)
        bytes += fields->items[i].name.len + fields->items[i].value.len;
    LT_ASSERT(bytes <= 60 * 1024);
    owner->events++;
    owner->open += owner->is_server;
    if (owner->is_server && lt_h2_stream_user(stream) == NULL) {
        lt_h2_stream_set_user(stream, owner);
        if (owner->habits & 1)
            answer(stream, owner->habits);
        else if (owner->habits & 8)
            lt_h2_stream_reset(stream, LT_H2_REFUSED_STREAM);
    }
}

static void on_data(struct lt_h2_stream *stream, lt_str bytes)
{
    struct owner *owner = owner_of(stream);
    LT_ASSERT(bytes.len > 0);
    if (owner->gives_credit)
        lt_h2_stream_consume(stream, bytes.len);
    if (owner->habits & 16)
        lt_h2_stream_reset(stream, LT_H2_CANCEL);
}

static void on_end(struct lt_h2_stream *stream)
{
    owner_of(stream)->events++;
}

static void on_trailers(struct lt_h2_stream *stream, const struct lt_h2_fields *fields)
{
    (void)fields;
    owner_of(stream)->events++;
}

static void on_closed(struct lt_h2_stream *stream, lt_h2_end end, uint32_t code)
{
    (void)end;
    (void)code;
    struct owner *owner = owner_of(stream);
    LT_ASSERT(owner->open > 0);
    owner->open--;
}

static const struct lt_h2_events EVENTS = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_closed = on_closed,
};

static void drain(struct owner *owner)
{
    struct iovec iov[16];
    for (int i = 0; i < 100; i++) {
        size_t len = 0;
        int count = lt_h2_conn_drain(owner->conn, iov, 16);
        for (int j = 0; j < count; j++)
            len += iov[j].iov_len;
        lt_h2_conn_sent(owner->conn, len);
        if (len == 0)
            return;
    }
}

static void open_streams(struct owner *owner)
{
    struct lt_h2_field fields[] = {field(":method", "POST"), field(":scheme", "http"),
                                   field(":path", "/"), field(":authority", "a")};
    for (int i = 0; i < 3; i++) {
        struct lt_h2_stream *stream = NULL;
        lt_rc rc = lt_h2_stream_open(owner->conn, fields, 4, i == 0, owner, &stream);
        LT_ASSERT(rc == LT_OK);
        owner->open++;
        if (i > 0)
            ignore(lt_h2_stream_send(stream, LT_STR("body")));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct lt_h2_opts opts = LT_H2_OPTS_DEFAULT;
    struct owner owner = {.is_server = data[0] & 1, .habits = data[1], .gives_credit = data[0] & 4};
    opts.is_server = owner.is_server;
    opts.stream_window_bytes = 65535;
    opts.conn_window_bytes = 100000;
    opts.allow_connect_protocol = data[1] & 32;
    owner.conn = lt_h2_conn_new(&opts, &EVENTS, &owner);
    lt_rc rc = LT_OK;
    if (owner.is_server && (data[0] & 2))
        rc = lt_h2_conn_feed(owner.conn,
                             LT_STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"), 1);
    if (!owner.is_server)
        open_streams(&owner);
    lt_str bytes = lt_str_make(data + 2, size - 2);
    size_t piece_bytes = data[0] >> 3 == 0 ? SIZE_MAX : data[0] >> 3;
    uint64_t now_ns = 1;
    while (bytes.len > 0 && rc == LT_OK) {
        lt_str piece = lt_str_slice(bytes, 0, piece_bytes);
        bytes = lt_str_from(bytes, piece.len);
        drain(&owner);
        rc = lt_h2_conn_feed(owner.conn, piece, now_ns += 1000000);
    }
    drain(&owner);
    LT_ASSERT(lt_h2_conn_stream_count(owner.conn) >= owner.open);
    lt_h2_conn_free(&owner.conn);
    LT_ASSERT(owner.open == 0);
    return 0;
}
