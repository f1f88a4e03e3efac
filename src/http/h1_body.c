/*
 * http/h1_body.c - bodies of HTTP/1 messages: counted, chunked, or until the connection ends; and
 * fields of one hop. Chunk framing is read strictly, because it may be forwarded raw: CRLF only, no
 * sign, no blank inside a size, nothing that another reader could take for a different length.
 * Trust: every byte was written by a stranger.   Start at: lt_h1_parse_body().
 */
#include "http/h1.h"

#include "http/h1_scan.h"

/* Where in the chunk framing the next byte is (RFC 9112 section 7.1); lt_h1_parser.chunk_step. */
enum chunk_step {
    CHUNK_SIZE,  /* a digit of the size, or what may follow one */
    CHUNK_BLANK, /* blanks behind the size: only more of them, an extension or the line's end */
    CHUNK_EXT,   /* extension text, which nobody reads */
    CHUNK_LF,    /* the LF of the chunk line */
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER, /* behind the last chunk's line */
};

enum { CHUNK_DIGITS_MAX = 16 };

static lt_rc fail(struct lt_h1_parser *parser, lt_h1_error error)
{
    parser->error = error;
    return error == LT_H1_E_TRAILERS_TOO_LARGE ? LT_E_LIMIT : LT_E_BAD;
}

static void begin_chunk(struct lt_h1_parser *parser)
{
    parser->chunk_step = CHUNK_SIZE;
    parser->chunk_digits = 0;
    parser->ext_bytes = 0;
    parser->left = 0;
    parser->seen = 0;
}

void lt_h1_body_begin(struct lt_h1_parser *parser, lt_http_body body, uint64_t length)
{
    begin_chunk(parser);
    parser->body = body;
    parser->left = body == LT_BODY_LENGTH ? length : 0;
    parser->body_bytes = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char lower = c | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static lt_h1_error take_size_char(struct lt_h1_parser *parser, char c)
{
    int digit = hex_digit(c);
    if (digit >= 0) {
        if (parser->chunk_digits == CHUNK_DIGITS_MAX || parser->left > INT64_MAX >> 4)
            return LT_H1_E_CHUNK_SIZE;
        parser->left = parser->left << 4 | (unsigned)digit;
        parser->chunk_digits++;
        return LT_H1_E_NONE;
    }
    if (parser->chunk_digits == 0)
        return LT_H1_E_CHUNK_SIZE;
    switch (c) {
    case '\r': parser->chunk_step = CHUNK_LF; return LT_H1_E_NONE;
    case ';': parser->chunk_step = CHUNK_EXT; return LT_H1_E_NONE;
    case ' ':
    case '\t': parser->chunk_step = CHUNK_BLANK; return LT_H1_E_NONE;
    default: return LT_H1_E_CHUNK_SIZE;
    }
}

static lt_h1_error take_extension_char(struct lt_h1_parser *parser, char c)
{
    if (c == '\r') {
        parser->chunk_step = CHUNK_LF;
        return LT_H1_E_NONE;
    }
    if (++parser->ext_bytes > parser->limits->chunk_ext_bytes_max)
        return LT_H1_E_CHUNK_EXTENSION;
    if (parser->chunk_step == CHUNK_BLANK && c == ';')
        parser->chunk_step = CHUNK_EXT;
    else if (parser->chunk_step == CHUNK_BLANK && c != ' ' && c != '\t')
        return LT_H1_E_CHUNK_SIZE;
    bool is_text = ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t';
    return is_text ? LT_H1_E_NONE : LT_H1_E_CHUNK_EXTENSION;
}

/* One byte of framing; data and trailers are taken by others. */
static lt_h1_error take_framing_char(struct lt_h1_parser *parser, char c)
{
    switch ((enum chunk_step)parser->chunk_step) {
    case CHUNK_SIZE: return take_size_char(parser, c);
    case CHUNK_BLANK:
    case CHUNK_EXT: return take_extension_char(parser, c);
    case CHUNK_LF:
        parser->chunk_step = parser->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
        return c == '\n' ? LT_H1_E_NONE : LT_H1_E_CHUNK_SIZE;
    case CHUNK_DATA_CR:
        parser->chunk_step = CHUNK_DATA_LF;
        return c == '\r' ? LT_H1_E_NONE : LT_H1_E_CHUNK_END;
    case CHUNK_DATA_LF: begin_chunk(parser); return c == '\n' ? LT_H1_E_NONE : LT_H1_E_CHUNK_END;
    case CHUNK_DATA:
    case CHUNK_TRAILER: break;
    }
    LT_UNREACHABLE();
}

/*
 * The trailer section up to its empty line, which is left; LT_AGAIN when its end is not there yet.
 */
static lt_rc take_trailers(struct lt_h1_parser *parser, struct h1_cursor *cursor,
                           struct lt_headers *trailers)
{
    struct h1_cursor c = *cursor;
    uint32_t count = 0;
    lt_h1_error error = LT_H1_E_NONE;
    while (c.at < c.end && *c.at != '\r') {
        lt_str name, value;
        const char *line = c.at;
        lt_rc rc = h1_take_field(&c, false, &name, &value, &error);
        const char *line_end = rc == LT_OK ? c.at - 1 : memchr(line, '\n', (size_t)(c.end - line));
        if ((size_t)((line_end != NULL ? line_end + 1 : c.end) - cursor->at) >
            parser->limits->trailer_bytes_max)
            return fail(parser, LT_H1_E_TRAILERS_TOO_LARGE);
        if (rc != LT_OK)
            return line_end == NULL ? LT_AGAIN : fail(parser, LT_H1_E_TRAILER);
        if (++count > parser->limits->trailers_max)
            return fail(parser, LT_H1_E_TRAILERS_TOO_LARGE);
        if (trailers != NULL && lt_http_is_trailer(lt_header_id_of(name)) &&
            lt_headers_add(trailers, name, value) != LT_OK)
            return fail(parser, LT_H1_E_TRAILERS_TOO_LARGE);
    }
    if (c.end - c.at < 2)
        return LT_AGAIN;
    if (c.at[1] != '\n')
        return fail(parser, LT_H1_E_TRAILER);
    *cursor = c;
    return LT_OK;
}

/*
 * The end of the message, at the front of the input. The section is read whole or not at all; a
 * drip of single bytes is looked at again only when it brings a line end. LT_AGAIN leaves the piece
 * alone.
 */
static lt_rc take_end(struct lt_h1_parser *parser, lt_str input, struct lt_headers *trailers,
                      struct lt_h1_piece *piece)
{
    struct h1_cursor c = {input.ptr, input.ptr + input.len};
    bool has_new_line = input.len > parser->seen &&
                        memchr(input.ptr + parser->seen, '\n', input.len - parser->seen) != NULL;
    parser->seen = (uint32_t)LT_MIN(input.len, (size_t)UINT32_MAX);
    if (!has_new_line) {
        bool is_too_large = input.len > parser->limits->trailer_bytes_max +
                                            1u; /* the CR of the empty line is not counted */
        return is_too_large ? fail(parser, LT_H1_E_TRAILERS_TOO_LARGE) : LT_AGAIN;
    }
    LT_TRY(take_trailers(parser, &c, NULL));
    bool has_trailers = c.at != input.ptr;
    if (has_trailers && trailers != NULL) {
        struct h1_cursor again = {input.ptr, c.end};
        LT_TRY(take_trailers(parser, &again, trailers));
    }
    piece->data = lt_str_make(c.at, 2);
    piece->used += (size_t)(c.at + 2 - input.ptr);
    piece->is_end = true;
    parser->body = LT_BODY_NONE;
    return LT_OK;
}

/* Payload at the cursor. */
static lt_str take_data(struct lt_h1_parser *parser, struct h1_cursor *c)
{
    size_t here = (size_t)(c->end - c->at);
    size_t len = parser->left < here ? (size_t)parser->left : here;
    lt_str data = lt_str_make(c->at, len);
    c->at += len;
    parser->left -= len;
    parser->body_bytes += len;
    return data;
}

static bool is_at_extension(const struct lt_h1_parser *parser)
{
    return parser->chunk_step == CHUNK_BLANK || parser->chunk_step == CHUNK_EXT;
}

/*
 * Decoded: framing up to the next payload, and that payload. Raw: one slice of both, which ends
 * where something must be left out (an extension), where the trailer section begins, or with the
 * input.
 */
static lt_rc parse_chunks(struct lt_h1_parser *parser, lt_str input, bool raw,
                          struct lt_h1_piece *piece)
{
    struct h1_cursor c = {input.ptr, input.ptr + input.len};
    bool is_skipping = is_at_extension(parser);
    while (c.at < c.end && parser->chunk_step != CHUNK_TRAILER) {
        if (parser->chunk_step == CHUNK_DATA) {
            lt_str data = take_data(parser, &c);
            if (parser->left == 0)
                parser->chunk_step = CHUNK_DATA_CR;
            if (!raw) {
                piece->data = data;
                break;
            }
            continue;
        }
        /* the byte that opens an extension, or the CR that closes it, starts a new slice */
        bool opens = raw && parser->chunk_step == CHUNK_SIZE &&
                     (*c.at == ';' || *c.at == ' ' || *c.at == '\t');
        bool closes = raw && is_at_extension(parser) && *c.at == '\r';
        if (((opens && !is_skipping) || (closes && is_skipping)) && c.at > input.ptr)
            break;
        if (opens || closes)
            is_skipping = opens;
        lt_h1_error error = take_framing_char(parser, *c.at);
        if (LT_UNLIKELY(error != LT_H1_E_NONE))
            return fail(parser, error);
        c.at++;
    }
    piece->used = (size_t)(c.at - input.ptr);
    if (raw && !is_skipping)
        piece->data = lt_str_make(input.ptr, piece->used);
    return LT_OK;
}

static lt_rc parse_chunked(struct lt_h1_parser *parser, lt_str input, bool raw,
                           struct lt_headers *trailers, struct lt_h1_piece *piece)
{
    LT_TRY(parse_chunks(parser, input, raw, piece));
    if (parser->chunk_step != CHUNK_TRAILER || (!raw && piece->data.len > 0))
        return LT_OK;
    lt_str rest = lt_str_from(input, piece->used);
    lt_str before = piece->data;
    bool has_trailers = rest.len > 0 && rest.ptr[0] != '\r';
    if (raw && before.len > 0 && has_trailers)
        return LT_OK; /* they lie between two slices: the next call has the second */
    lt_rc rc = take_end(parser, rest, trailers, piece);
    if (rc != LT_OK)
        return rc == LT_AGAIN ? LT_OK : rc;
    if (!raw)
        piece->data = LT_STR_NULL;
    else if (before.len > 0)
        piece->data = lt_str_make(before.ptr, before.len + 2);
    return LT_OK;
}

lt_rc lt_h1_parse_body(struct lt_h1_parser *parser, lt_str input, bool raw,
                       struct lt_headers *trailers, struct lt_h1_piece *ret_piece)
{
    struct h1_cursor c = {input.ptr, input.ptr + input.len};
    struct lt_h1_piece piece = {0};
    switch (parser->body) {
    case LT_BODY_NONE: piece.is_end = true; break;
    case LT_BODY_LENGTH:
        piece.data = take_data(parser, &c);
        piece.used = piece.data.len;
        piece.is_end = parser->left == 0;
        if (piece.is_end)
            parser->body = LT_BODY_NONE;
        break;
    case LT_BODY_CHUNKED: LT_TRY(parse_chunked(parser, input, raw, trailers, &piece)); break;
    case LT_BODY_CLOSE:
    case LT_BODY_TUNNEL:
        piece = (struct lt_h1_piece){.used = input.len, .data = input};
        parser->body_bytes += input.len;
        break;
    }
    *ret_piece = piece;
    return piece.used == 0 && !piece.is_end ? LT_AGAIN : LT_OK;
}

lt_rc lt_h1_body_eof(struct lt_h1_parser *parser)
{
    switch (parser->body) {
    case LT_BODY_NONE:
    case LT_BODY_CLOSE:
    case LT_BODY_TUNNEL: parser->body = LT_BODY_NONE; return LT_OK;
    case LT_BODY_LENGTH:
    case LT_BODY_CHUNKED: return fail(parser, LT_H1_E_TRUNCATED);
    }
    LT_UNREACHABLE();
}

/* --- one hop --- */

/*
 * Fields that some hop before us vouches for, or that frame the message: a client that could have
 * them dropped by naming them in Connection would speak as somebody else.
 */
static bool is_kept(lt_str name)
{
    static const lt_str prefixes[] = {{"x-forwarded-", 12}, {"x-envoy-", 8}, {"x-b3-", 5}};
    for (size_t i = 0; i < LT_ARRAY_LEN(prefixes); i++) {
        if (lt_str_case_eq(lt_str_slice(name, 0, prefixes[i].len), prefixes[i]))
            return true;
    }
    switch (lt_header_id_of(name)) {
    case LT_H_HOST:
    case LT_H_FORWARDED:
    case LT_H_VIA:
    case LT_H_X_REAL_IP:
    case LT_H_X_REQUEST_ID:
    case LT_H_TRACEPARENT:
    case LT_H_TRACESTATE:
    case LT_H_BAGGAGE:
    case LT_H_B3:
    case LT_H_AUTHORIZATION:
    case LT_H_COOKIE: return true;
    default: return false;
    }
}

/* They have rules of their own: what frames the message on the next hop is not what did on this. */
static bool has_own_rule(lt_header_id id)
{
    return id == LT_H_TE || id == LT_H_UPGRADE || id == LT_H_CONNECTION ||
           id == LT_H_CONTENT_LENGTH || id == LT_H_TRANSFER_ENCODING;
}

static lt_rc remove_named(struct lt_headers *headers, lt_str options)
{
    lt_str name = LT_STR_NULL;
    while (lt_http_list_next(&options, &name)) {
        if (is_kept(name) || name.ptr[0] == ':')
            return LT_E_BAD;
        if (!has_own_rule(lt_header_id_of(name)))
            lt_headers_remove_name(headers, name);
    }
    return LT_OK;
}

static void reduce_te(struct lt_headers *headers)
{
    bool has_trailers = false;
    for (struct lt_header *te = lt_headers_find(headers, LT_H_TE); te != NULL;
         te = lt_headers_find_next(headers, te))
        has_trailers |= lt_http_list_has(te->value, LT_STR("trailers"));
    if (!has_trailers) {
        lt_headers_remove(headers, LT_H_TE);
        return;
    }
    lt_rc rc = lt_headers_set_id(headers, LT_H_TE, LT_STR("trailers"));
    LT_ASSERT(rc == LT_OK); /* it is there, and "trailers" is a part of it */
}

#define HOP_BY_HOP(X) \
    X(LT_H_CONNECTION) \
    X(LT_H_KEEP_ALIVE) \
    X(LT_H_PROXY_CONNECTION) X(LT_H_TRANSFER_ENCODING) X(LT_H_HTTP2_SETTINGS)
#define OF_CONNECTIONS(X) HOP_BY_HOP(X) X(LT_H_UPGRADE) X(LT_H_TE)

lt_rc lt_h1_strip_hop_by_hop(struct lt_headers *headers, bool keep_upgrade)
{
    static const struct lt_header_set hop_by_hop = LT_HEADER_SET(HOP_BY_HOP),
                                      all = LT_HEADER_SET(OF_CONNECTIONS);
    if (!lt_headers_may_have_any(headers, &all))
        return LT_OK;
    /* the list shrinks while Connection fields are read: take each out before what it names */
    struct lt_header *connection;
    while ((connection = lt_headers_find(headers, LT_H_CONNECTION)) != NULL) {
        lt_str options = connection->value;
        lt_headers_remove_at(headers, (uint32_t)(connection - headers->items));
        LT_TRY(remove_named(headers, options));
    }
    lt_headers_remove_set(headers, &hop_by_hop);
    if (!keep_upgrade)
        lt_headers_remove(headers, LT_H_UPGRADE);
    if (lt_headers_may_have(headers, LT_H_TE))
        reduce_te(headers);
    return LT_OK;
}
