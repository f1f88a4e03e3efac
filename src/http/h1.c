/*
 * http/h1.c - heads of HTTP/1 messages: start line, fields, and what they say about body and
 * connection.
 * Not here: bodies (h1_body.c), writing (h1_write.c), scanners of bytes (h1_scan.h).
 * Trust: every byte was written by a stranger.   Start at: lt_h1_parse_head().
 */
#include "http/h1.h"

#include "http/h1_scan.h"

const struct lt_h1_limits lt_h1_limits_default = {
    .head_bytes_max = LT_HEADERS_BYTES_MAX,
    .headers_max = LT_HEADERS_COUNT_MAX,
    .chunk_ext_bytes_max = 4096,
    .trailer_bytes_max = 8192,
    .trailers_max = 32,
};

static const struct {
    uint16_t status;
    const char *details;
    const char *text;
} errors[LT_H1_ERRORS] = {
#define LT_H1_ERROR(name, status, details, text) [LT_H1_E_##name] = {status, details, text},
#include "http/h1_errors.def"
#undef LT_H1_ERROR
};

unsigned lt_h1_error_status(lt_h1_error error)
{
    LT_ASSERT(error < LT_H1_ERRORS);
    return errors[error].status;
}

const char *lt_h1_error_details(lt_h1_error error)
{
    LT_ASSERT(error < LT_H1_ERRORS);
    return errors[error].details;
}

const char *lt_h1_error_text(lt_h1_error error)
{
    LT_ASSERT(error < LT_H1_ERRORS);
    return errors[error].text;
}

/* What is read next; lt_h1_parser.head_step. */
enum { STEP_BEFORE, STEP_START_LINE, STEP_FIELDS };

void lt_h1_parser_init(struct lt_h1_parser *parser, bool is_response,
                       const struct lt_h1_limits *limits)
{
    *parser = (struct lt_h1_parser){
        .limits = limits != NULL ? limits : &lt_h1_limits_default,
        .is_response = is_response,
        .needs_host = !is_response,
    };
}

void lt_h1_next_message(struct lt_h1_parser *parser)
{
    bool needs_host = parser->needs_host;
    lt_h1_parser_init(parser, parser->is_response, parser->limits);
    parser->needs_host = needs_host;
}

void lt_h1_head_init(struct lt_http_head *head, struct lt_arena *arena,
                     const struct lt_h1_limits *limits)
{
    if (limits == NULL)
        limits = &lt_h1_limits_default;
    lt_http_head_init(head, arena, limits->headers_max, limits->head_bytes_max);
}

/* --- start line --- */

/* "HTTP/1.1" (RFC 9112 section 2.3); the cursor stands at its first byte and has eight more. */
static lt_h1_error take_version(struct h1_cursor *c, unsigned *ret_minor)
{
    if (c->end - c->at < 8)
        return LT_H1_E_VERSION;
    const char *v = c->at;
    bool is_digits = v[5] >= '0' && v[5] <= '9' && v[7] >= '0' && v[7] <= '9';
    if (memcmp(v, "HTTP/", 5) != 0 || v[6] != '.' || !is_digits)
        return LT_H1_E_VERSION;
    if (v[5] != '1' || v[7] > '1')
        return LT_H1_E_VERSION_UNSUPPORTED;
    *ret_minor = (unsigned)(v[7] - '0');
    c->at += 8;
    return LT_H1_E_NONE;
}

static lt_h1_error take_request_line(struct h1_cursor *c, struct lt_http_head *head)
{
    const char *method = c->at;
    h1_skip_token(c);
    head->method = lt_str_make(method, (size_t)(c->at - method));
    if (head->method.len == 0 || c->at == c->end || *c->at != ' ')
        return LT_H1_E_METHOD;
    head->method_id = lt_http_method_of(head->method);
    if (head->method_id == LT_METHOD_OTHER && lt_http_method_is_misspelled(head->method))
        return LT_H1_E_METHOD;
    const char *target = ++c->at;
    /* RFC 3986 has fewer characters; what it lacks ("|", "{") is seen in the wild */
    h1_skip_visible(c);
    head->target = lt_str_make(target, (size_t)(c->at - target));
    if (head->target.len == 0)
        return LT_H1_E_TARGET;
    if (c->at == c->end || *c->at == '\r' || *c->at == '\n')
        return LT_H1_E_START_LINE; /* HTTP/0.9 */
    if (*c->at != ' ')
        return LT_H1_E_TARGET;
    c->at++;
    return take_version(c, &head->minor);
}

/* RFC 9112 section 4: the blank behind the code is often missing where the reason is empty. */
static lt_h1_error take_status_line(struct h1_cursor *c, struct lt_http_head *head)
{
    lt_h1_error error = take_version(c, &head->minor);
    if (error != LT_H1_E_NONE)
        return error;
    if (c->at < c->end && *c->at != ' ')
        return LT_H1_E_START_LINE;
    if (c->end - c->at < 4)
        return LT_H1_E_STATUS;
    unsigned status = 0;
    for (int i = 1; i <= 3; i++) {
        if (c->at[i] < '0' || c->at[i] > '9')
            return LT_H1_E_STATUS;
        status = status * 10 + (unsigned)(c->at[i] - '0');
    }
    c->at += 4;
    if (status < 100 || (c->at < c->end && *c->at != ' ' && *c->at != '\r' && *c->at != '\n'))
        return LT_H1_E_STATUS;
    head->status = status;
    if (c->at < c->end && *c->at == ' ')
        c->at++;
    const char *reason = c->at;
    h1_skip_value(c);
    head->reason = lt_str_make(reason, (size_t)(c->at - reason));
    return LT_H1_E_NONE;
}

static lt_rc take_start_line(const struct lt_h1_parser *parser, struct h1_cursor *cursor,
                             struct lt_http_head *head, lt_h1_error *ret_error)
{
    struct h1_cursor c = *cursor;
    *ret_error = parser->is_response ? take_status_line(&c, head) : take_request_line(&c, head);
    if (*ret_error != LT_H1_E_NONE)
        return LT_E_BAD;
    lt_rc rc = h1_take_line_end(&c, true);
    if (rc == LT_OK)
        *cursor = c;
    *ret_error = LT_H1_E_START_LINE;
    return rc;
}

/* --- what the fields mean together --- */

static lt_h1_error split_absolute(struct lt_http_head *head)
{
    ptrdiff_t colon = lt_str_find(head->target, LT_STR("://"));
    if (colon < 0)
        return LT_H1_E_TARGET;
    head->scheme = lt_str_slice(head->target, 0, (size_t)colon);
    lt_str rest = lt_str_from(head->target, (size_t)colon + 3);
    size_t len = 0;
    while (len < rest.len && rest.ptr[len] != '/' && rest.ptr[len] != '?' && rest.ptr[len] != '#')
        len++;
    head->authority = lt_str_slice(rest, 0, len);
    if (!lt_str_case_eq(head->scheme, LT_STR("http")) &&
        !lt_str_case_eq(head->scheme, LT_STR("https")))
        return LT_H1_E_SCHEME;
    if (head->authority.len == 0 || !lt_http_is_host(head->authority))
        return LT_H1_E_TARGET;
    head->path = lt_str_from(rest, len);
    if (head->path.len == 0)
        head->path = LT_STR("/");
    else if (head->path.ptr[0] != '/')
        head->path = lt_arena_printf(head->headers.arena, "/%.*s", LT_STR_ARG(head->path));
    return LT_H1_E_NONE;
}

/* RFC 9112 section 3.2 */
static lt_h1_error split_target(struct lt_http_head *head)
{
    lt_str target = head->target;
    if (head->method_id == LT_METHOD_CONNECT) {
        head->form = LT_TARGET_AUTHORITY;
        head->authority = target;
        ptrdiff_t colon = lt_str_rfind_char(target, ':');
        uint64_t port = 0;
        bool has_port = colon > 0 &&
                        lt_str_to_u64(lt_str_from(target, (size_t)colon + 1), &port) == LT_OK;
        return has_port && port > 0 && port <= UINT16_MAX && lt_http_is_host(target)
                   ? LT_H1_E_NONE
                   : LT_H1_E_TARGET;
    }
    if (target.ptr[0] == '/') {
        head->form = LT_TARGET_ORIGIN;
        head->path = target;
        return LT_H1_E_NONE;
    }
    if (lt_str_eq(target, LT_STR("*"))) {
        head->form = LT_TARGET_ASTERISK;
        head->path = target;
        return head->method_id == LT_METHOD_OPTIONS ? LT_H1_E_NONE : LT_H1_E_TARGET;
    }
    head->form = LT_TARGET_ABSOLUTE;
    return split_absolute(head);
}

/* The fields that frame a message or route it, found in one walk. */
struct core_fields {
    const struct lt_header *host, *length, *coding, *upgrade, *expect;
    unsigned hosts, lengths, codings, upgrades;
    bool has_close, has_keep_alive, has_upgrade;
};

static void read_connection(lt_str value, struct core_fields *core)
{
    lt_str option = LT_STR_NULL;
    while (lt_http_list_next(&value, &option)) {
        core->has_close |= lt_str_case_eq(option, LT_STR("close"));
        core->has_keep_alive |= lt_str_case_eq(option, LT_STR("keep-alive"));
        core->has_upgrade |= lt_str_case_eq(option, LT_STR("upgrade"));
    }
}

static void find_core_fields(const struct lt_headers *headers, struct core_fields *core)
{
    for (uint32_t i = 0; i < headers->count; i++) {
        const struct lt_header *header = &headers->items[i];
        switch (header->id) {
        case LT_H_HOST:
            core->host = header;
            core->hosts++;
            break;
        case LT_H_CONTENT_LENGTH:
            core->length = header;
            core->lengths++;
            break;
        case LT_H_TRANSFER_ENCODING:
            core->coding = header;
            core->codings++;
            break;
        case LT_H_CONNECTION: read_connection(header->value, core); break;
        case LT_H_UPGRADE:
            core->upgrade = header;
            core->upgrades++;
            break;
        case LT_H_EXPECT: core->expect = header; break;
        default: break;
        }
    }
}

/*
 * RFC 9112 section 3.2. The authority of an absolute target replaces Host, so that all behind us
 * see one name.
 */
static lt_h1_error settle_host(const struct lt_h1_parser *parser, struct lt_http_head *head,
                               const struct core_fields *core)
{
    if (core->hosts > 1 || (core->host != NULL && !lt_http_is_host(core->host->value)))
        return LT_H1_E_HOST;
    if (core->host == NULL) {
        if (parser->needs_host && head->minor == 1 && head->authority.len == 0)
            return LT_H1_E_HOST_MISSING;
    } else if (head->authority.len == 0) {
        head->authority = core->host->value;
    }
    if (head->form == LT_TARGET_ABSOLUTE &&
        lt_headers_set_id(&head->headers, LT_H_HOST, head->authority) != LT_OK)
        return LT_H1_E_TOO_MANY_HEADERS;
    return LT_H1_E_NONE;
}

/* RFC 9112 sections 6.1 to 6.3, taking the strict choice wherever there is one. */
static lt_h1_error settle_framing(struct lt_http_head *head, const struct core_fields *core)
{
    if (core->lengths > 1)
        return LT_H1_E_CONTENT_LENGTH;
    if (core->length != NULL) {
        if (core->coding != NULL)
            return LT_H1_E_LENGTH_AND_CODING;
        if (lt_str_to_u64(core->length->value, &head->content_length) != LT_OK ||
            head->content_length > INT64_MAX)
            return LT_H1_E_CONTENT_LENGTH;
        head->has_content_length = true;
    }
    if (core->coding != NULL) {
        if (head->minor == 0)
            return LT_H1_E_CODING_NOT_ALLOWED;
        if (core->codings > 1 || !lt_str_case_eq(core->coding->value, LT_STR("chunked")))
            return LT_H1_E_CODING;
        head->is_chunked = true;
        head->coding_name = core->coding->name;
    }
    return LT_H1_E_NONE;
}

/* RFC 9110 section 9.3.6; a Content-Length of 0 does no harm. */
static lt_h1_error refuse_connect_body(const struct lt_http_head *head)
{
    if (head->is_chunked)
        return LT_H1_E_CODING;
    return head->content_length > 0 ? LT_H1_E_BODY_NOT_ALLOWED : LT_H1_E_NONE;
}

/*
 * 1xx and 204 have no body and must not announce one (RFC 9112 section 6.1, RFC 9110 section 8.6).
 */
static lt_h1_error refuse_framing(const struct lt_http_head *head)
{
    if (head->is_chunked)
        return LT_H1_E_CODING_NOT_ALLOWED;
    return head->content_length > 0 ? LT_H1_E_LENGTH_NOT_ALLOWED : LT_H1_E_NONE;
}

static lt_http_body announced_body(const struct lt_http_head *head, lt_http_body otherwise)
{
    if (head->is_chunked)
        return LT_BODY_CHUNKED;
    if (!head->has_content_length)
        return otherwise;
    return head->content_length > 0 ? LT_BODY_LENGTH : LT_BODY_NONE;
}

static lt_h1_error settle_response_body(const struct lt_h1_parser *parser,
                                        struct lt_http_head *head)
{
    if (parser->request_was_connect && head->status / 100 == 2) {
        head->body = LT_BODY_TUNNEL; /* whatever its fields say: RFC 9110 section 9.3.6 */
        return LT_H1_E_NONE;
    }
    if (head->status < 200 || head->status == 204) {
        head->body = head->status == 101 ? LT_BODY_TUNNEL : LT_BODY_NONE;
        return refuse_framing(head);
    }
    if (parser->request_was_head || head->status == 304)
        head->body = LT_BODY_NONE;
    else
        head->body = announced_body(head, LT_BODY_CLOSE);
    return LT_H1_E_NONE;
}

static void settle_connection(struct lt_http_head *head, const struct core_fields *core)
{
    bool is_wanted = head->minor == 1 ? !core->has_close : core->has_keep_alive && !core->has_close;
    head->keep_alive = is_wanted && head->body != LT_BODY_CLOSE && head->body != LT_BODY_TUNNEL;
    /* prior knowledge or ALPN lead to HTTP/2; who offers it so stays in HTTP/1.1 (RFC 9113 3.1) */
    head->wants_upgrade = head->minor == 1 && core->has_upgrade && core->upgrade != NULL &&
                          core->upgrade->value.len > 0 &&
                          !lt_str_case_eq(core->upgrade->value, LT_STR("h2c"));
    head->expects_continue = head->minor == 1 && head->body != LT_BODY_NONE &&
                             core->expect != NULL &&
                             lt_str_case_eq(core->expect->value, LT_STR("100-continue"));
}

/* One field, so that who judges and who is asked see the same; empty ones say nothing. */
static lt_h1_error fold_upgrades(struct lt_headers *headers)
{
    for (uint32_t i = headers->count; i-- > 0;) {
        if (headers->items[i].id == LT_H_UPGRADE && headers->items[i].value.len == 0)
            lt_headers_remove_at(headers, i);
    }
    lt_str all = lt_headers_joined(headers, LT_STR("upgrade"));
    bool fits = all.len == 0 || lt_headers_set_id(headers, LT_H_UPGRADE, all) == LT_OK;
    return fits ? LT_H1_E_NONE : LT_H1_E_HEADERS_TOO_LARGE;
}

static lt_h1_error settle(const struct lt_h1_parser *parser, struct lt_http_head *head)
{
    struct core_fields core = {0};
    find_core_fields(&head->headers, &core);
    if (LT_UNLIKELY(core.upgrades > 1)) {
        lt_h1_error too_large = fold_upgrades(&head->headers);
        if (too_large != LT_H1_E_NONE)
            return too_large;
        core = (struct core_fields){0};
        find_core_fields(&head->headers, &core);
    }
    lt_h1_error error = settle_framing(head, &core);
    if (error == LT_H1_E_NONE && parser->is_response)
        error = settle_response_body(parser, head);
    if (error == LT_H1_E_NONE && !parser->is_response) {
        error = split_target(head);
        if (error == LT_H1_E_NONE)
            error = settle_host(parser, head, &core);
        if (error == LT_H1_E_NONE && head->method_id == LT_METHOD_CONNECT)
            error = refuse_connect_body(head);
        head->body = announced_body(head, LT_BODY_NONE);
    }
    settle_connection(head, &core);
    return error;
}

/* --- the head --- */

static lt_rc fail(struct lt_h1_parser *parser, lt_h1_error error)
{
    LT_ASSERT(error != LT_H1_E_NONE);
    parser->error = error;
    bool is_limit = error == LT_H1_E_HEADERS_TOO_LARGE || error == LT_H1_E_TOO_MANY_HEADERS;
    return is_limit ? LT_E_LIMIT : LT_E_BAD;
}

/* Bytes of the head as far as `at`, the empty lines before it among them. */
static bool is_too_large(const struct lt_h1_parser *parser, const char *at)
{
    return (size_t)(at - parser->base) > parser->limits->head_bytes_max;
}

/* The line at the cursor has no end yet. */
static lt_rc wait(struct lt_h1_parser *parser, const struct h1_cursor *c)
{
    if (is_too_large(parser, c->end))
        return fail(parser, LT_H1_E_HEADERS_TOO_LARGE);
    parser->line_at = (uint32_t)(c->at - parser->base);
    parser->seen = (uint32_t)(c->end - parser->base);
    return LT_AGAIN;
}

/*
 * The line at the cursor is incomplete, or bad: which of the two is said only once its end is
 * there.
 */
static lt_rc stop(struct lt_h1_parser *parser, const struct h1_cursor *c, lt_h1_error error)
{
    const char *line_end = c->at == c->end ? NULL : memchr(c->at, '\n', (size_t)(c->end - c->at));
    if (line_end == NULL)
        return wait(parser, c);
    return fail(parser, is_too_large(parser, line_end + 1) ? LT_H1_E_HEADERS_TOO_LARGE : error);
}

/*
 * Empty lines before a request are skipped (RFC 9112 section 2.2); anything else that is no token
 * is no HTTP.
 */
static lt_rc take_before(struct lt_h1_parser *parser, struct h1_cursor *c)
{
    while (!parser->is_response && c->at < c->end && (*c->at == '\r' || *c->at == '\n')) {
        lt_rc rc = h1_take_line_end(c, true);
        if (rc != LT_OK)
            return rc == LT_AGAIN ? wait(parser, c) : fail(parser, LT_H1_E_LINE_END);
    }
    if (c->at == c->end)
        return wait(parser, c);
    if (is_too_large(parser, c->at))
        return fail(parser, LT_H1_E_HEADERS_TOO_LARGE);
    if (parser->is_response ? *c->at != 'H' : !h1_is_token_char(*c->at))
        return fail(parser, parser->is_response ? LT_H1_E_START_LINE : LT_H1_E_METHOD);
    parser->head_at = (uint32_t)(c->at - parser->base);
    parser->head_step = STEP_START_LINE;
    return LT_OK;
}

static lt_rc take_fields(struct lt_h1_parser *parser, struct h1_cursor *c,
                         struct lt_http_head *head)
{
    for (;;) {
        lt_str name, value;
        lt_h1_error error = LT_H1_E_NONE;
        if (c->at < c->end && (*c->at == '\r' || *c->at == '\n')) {
            lt_rc rc = h1_take_line_end(c, true);
            return rc == LT_OK ? LT_OK : stop(parser, c, LT_H1_E_LINE_END);
        }
        lt_rc rc = h1_take_field(c, true, &name, &value, &error);
        if (LT_UNLIKELY(rc != LT_OK))
            return stop(parser, c, error);
        if (LT_UNLIKELY(is_too_large(parser, c->at)))
            return fail(parser, LT_H1_E_HEADERS_TOO_LARGE);
        if (LT_UNLIKELY(lt_headers_add(&head->headers, name, value) != LT_OK))
            return fail(parser, LT_H1_E_TOO_MANY_HEADERS);
    }
}

/*
 * Continues where the last call stopped, or from the front when the bytes have moved. LT_AGAIN: no
 * line end is new.
 */
static lt_rc resume(struct lt_h1_parser *parser, lt_str input, struct lt_http_head *head,
                    struct h1_cursor *ret_cursor)
{
    if (parser->base != input.ptr || parser->head_step == STEP_BEFORE) {
        lt_headers_clear(&head->headers);
        parser->base = input.ptr;
        parser->head_step = STEP_BEFORE;
        parser->line_at = parser->seen = 0;
    }
    LT_ASSERT(parser->seen <= input.len);
    *ret_cursor = (struct h1_cursor){input.ptr + parser->line_at, input.ptr + input.len};
    bool has_new_line = parser->seen == 0 ||
                        memchr(input.ptr + parser->seen, '\n', input.len - parser->seen) != NULL;
    return has_new_line ? LT_OK : wait(parser, ret_cursor);
}

lt_rc lt_h1_parse_head(struct lt_h1_parser *parser, lt_str input, struct lt_http_head *head,
                       size_t *ret_used)
{
    struct h1_cursor c;
    if (input.len == 0)
        return LT_AGAIN;
    LT_TRY(resume(parser, input, head, &c));
    if (parser->head_step == STEP_BEFORE)
        LT_TRY(take_before(parser, &c));
    if (parser->head_step == STEP_START_LINE) {
        lt_h1_error error = LT_H1_E_NONE;
        if (take_start_line(parser, &c, head, &error) != LT_OK)
            return stop(parser, &c, error);
        parser->head_step = STEP_FIELDS;
    }
    LT_TRY(take_fields(parser, &c, head));
    if (is_too_large(parser, c.at))
        return fail(parser, LT_H1_E_HEADERS_TOO_LARGE);
    lt_h1_error error = settle(parser, head);
    if (error != LT_H1_E_NONE)
        return fail(parser, error);
    *ret_used = (size_t)(c.at - input.ptr);
    head->bytes = (uint32_t)*ret_used - parser->head_at;
    parser->head_step = STEP_BEFORE;
    lt_h1_body_begin(parser, head->body, head->content_length);
    return LT_OK;
}
