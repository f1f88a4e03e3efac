/*
 * http/h2_head.c - HTTP/2 header blocks to heads and back.
 * Start at: lt_h2_read_request(), lt_h2_make_request().
 */
#include "http/h2_head.h"

/* --- reading --- */

/* Copies fields behind one another into room taken once. */
struct copier {
    char *to;
};

static lt_str copy(struct copier *copier, lt_str text)
{
    char *at = copier->to;
    if (text.len > 0)
        copier->to = mempcpy(at, text.ptr, text.len);
    return lt_str_make(at, text.len);
}

static lt_rc copier_init(struct copier *copier, const struct lt_h2_fields *fields,
                         const struct lt_headers *headers)
{
    if (fields->is_over_limit)
        return LT_E_LIMIT;
    size_t bytes = 1;
    for (size_t i = 0; i < fields->count; i++)
        bytes += fields->items[i].name.len + fields->items[i].value.len;
    if (bytes > headers->bytes_max)
        return LT_E_LIMIT;
    copier->to = lt_arena_bytes(headers->arena, bytes);
    return LT_OK;
}

/* Blanks around a value are none of it, whoever reads it next (RFC 9110 section 5.5). */
static lt_str copy_value(struct copier *copier, const struct lt_h2_field *field)
{
    return copy(copier, lt_http_trim(field->value));
}

static bool is_pseudo(const struct lt_h2_field *field)
{
    return field->name.len > 0 && field->name.ptr[0] == ':';
}

static lt_rc add_field(struct lt_http_head *head, struct copier *copier,
                       const struct lt_h2_field *field)
{
    lt_header_id id = lt_header_id_of(field->name);
    lt_str value = copy_value(copier, field);
    uint64_t length = 0;
    if (id == LT_H_OTHER)
        return lt_headers_add(&head->headers, copy(copier, field->name), value);
    if (id == LT_H_CONTENT_LENGTH && lt_str_to_u64(value, &length) == LT_OK) {
        head->content_length = length;
        head->has_content_length = true;
    }
    return lt_headers_add_id(&head->headers, id, value);
}

/*
 * Whoever reads Cookie expects one field (RFC 9113 section 8.2.3). Once for all of them: a table of
 * the peer's making says a hundred of them in as many bytes.
 */
static lt_rc join_cookies(struct lt_headers *headers)
{
    const struct lt_header *first = lt_headers_find(headers, LT_H_COOKIE);
    if (first == NULL || lt_headers_find_next(headers, first) == NULL)
        return LT_OK;
    lt_str joined = lt_headers_joined(headers, lt_header_name(LT_H_COOKIE));
    lt_headers_remove(headers, LT_H_COOKIE);
    return lt_headers_add_id(headers, LT_H_COOKIE, joined);
}

static lt_rc read_fields(const struct lt_h2_fields *fields, struct lt_http_head *head)
{
    static const struct {
        lt_str name;
        size_t at;
    } pseudo[] = {
        {{":method", 7}, offsetof(struct lt_http_head, method)},
        {{":scheme", 7}, offsetof(struct lt_http_head, scheme)},
        {{":authority", 10}, offsetof(struct lt_http_head, authority)},
        {{":path", 5}, offsetof(struct lt_http_head, path)},
        {{":protocol", 9}, offsetof(struct lt_http_head, protocol)},
        {{":status", 7}, offsetof(struct lt_http_head, reason)}, /* its digits, for now */
    };
    struct copier copier;
    LT_TRY(copier_init(&copier, fields, &head->headers));
    for (size_t i = 0; i < fields->count; i++) {
        const struct lt_h2_field *field = &fields->items[i];
        head->bytes += (uint32_t)(field->name.len + field->value.len);
        if (!is_pseudo(field)) {
            LT_TRY(add_field(head, &copier, field));
            continue;
        }
        for (size_t p = 0; p < LT_ARRAY_LEN(pseudo); p++) {
            if (lt_str_eq(field->name, pseudo[p].name))
                *(lt_str *)((char *)head + pseudo[p].at) = copy(&copier, field->value);
        }
    }
    head->is_h2 = true;
    head->keep_alive = true;
    head->minor = 1;
    return join_cookies(&head->headers);
}

static lt_http_body body_of(const struct lt_http_head *head, bool is_end)
{
    return is_end ? LT_BODY_NONE : head->has_content_length ? LT_BODY_LENGTH : LT_BODY_CHUNKED;
}

/*
 * :authority, or else Host. Envoy: beside the former the latter is nobody's business, and nobody
 * gets to see it.
 */
static lt_rc settle_authority(struct lt_http_head *head)
{
    if (head->authority.len == 0)
        head->authority = lt_headers_value(&head->headers, LT_H_HOST);
    lt_headers_remove(&head->headers, LT_H_HOST);
    return head->authority.len > 0 && lt_http_is_host(head->authority) ? LT_OK : LT_E_BAD;
}

/* An extended CONNECT is the same wish as an upgrade (RFC 8441), and is judged as one. */
static lt_rc make_upgrade(struct lt_http_head *head)
{
    head->method = LT_STR("GET");
    head->wants_upgrade = true;
    head->body = LT_BODY_NONE; /* bytes follow when the host agrees, and only then */
    return lt_headers_set_id(&head->headers, LT_H_UPGRADE, head->protocol);
}

lt_rc lt_h2_read_request(const struct lt_h2_fields *fields, bool is_end, struct lt_http_head *head)
{
    LT_TRY(read_fields(fields, head));
    head->body = body_of(head, is_end);
    if (head->protocol.len > 0)
        LT_TRY(make_upgrade(head));
    head->method_id = lt_http_method_of(head->method);
    if (head->method_id == LT_METHOD_OTHER && lt_http_method_is_misspelled(head->method))
        return LT_E_BAD;
    head->form = head->method_id == LT_METHOD_CONNECT ? LT_TARGET_AUTHORITY
                 : lt_str_eqz(head->path, "*")        ? LT_TARGET_ASTERISK
                                                      : LT_TARGET_ORIGIN;
    head->target = head->path;
    head->expects_continue = head->body != LT_BODY_NONE &&
                             lt_str_case_eq(lt_headers_value(&head->headers, LT_H_EXPECT),
                                            LT_STR("100-continue"));
    return settle_authority(head);
}

lt_rc lt_h2_read_response(const struct lt_h2_fields *fields, bool is_end, bool answers_head,
                          struct lt_http_head *head)
{
    LT_TRY(read_fields(fields, head));
    uint64_t status = 0;
    if (lt_str_to_u64(head->reason, &status) != LT_OK || status < 100 || status > 999)
        return LT_E_BAD;
    head->status = (unsigned)status;
    head->reason = LT_STR_NULL;
    bool is_bare = answers_head || status == 204 || status == 304 || status < 200;
    head->body = body_of(head, is_end || is_bare);
    return LT_OK;
}

static bool is_framing(lt_header_id id)
{
    return id == LT_H_CONTENT_LENGTH || id == LT_H_TRANSFER_ENCODING || id == LT_H_CONNECTION ||
           id == LT_H_HOST || id == LT_H_TRAILER;
}

lt_rc lt_h2_read_trailers(const struct lt_h2_fields *fields, struct lt_headers *trailers)
{
    struct copier copier;
    LT_TRY(copier_init(&copier, fields, trailers));
    for (size_t i = 0; i < fields->count; i++) {
        const struct lt_h2_field *field = &fields->items[i];
        if (is_pseudo(field) || is_framing(lt_header_id_of(field->name)))
            continue;
        lt_str name = copy(&copier, field->name);
        LT_TRY(lt_headers_add(trailers, name, copy_value(&copier, field)));
    }
    return LT_OK;
}

/* --- making --- */

/*
 * Values that are new with each request would push what is worth keeping out of the peer's table;
 * credentials stay out of it for their own sake (RFC 7541 section 7.1.3).
 */
static bool stays_out_of_tables(lt_header_id id)
{
    switch (id) {
    case LT_H_AUTHORIZATION:
    case LT_H_PROXY_AUTHORIZATION:
    case LT_H_X_REQUEST_ID:
    case LT_H_TRACEPARENT:
    case LT_H_TRACESTATE:
    case LT_H_X_B3_TRACEID:
    case LT_H_X_B3_SPANID:
    case LT_H_X_B3_PARENTSPANID:
    case LT_H_X_ENVOY_UPSTREAM_SERVICE_TIME: return true;
    default: return false;
    }
}

static bool has_upper(lt_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z')
            return true;
    }
    return false;
}

static lt_str in_lower(struct lt_arena *arena, const struct lt_header *header)
{
    if (header->id != LT_H_OTHER)
        return lt_header_name((lt_header_id)header->id);
    if (!has_upper(header->name))
        return header->name;
    char *lower = lt_arena_bytes(arena, header->name.len);
    for (size_t i = 0; i < header->name.len; i++) {
        char c = header->name.ptr[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    return lt_str_make(lower, header->name.len);
}

/* What belongs to one HTTP/1 connection must not be said in HTTP/2 (RFC 9113 section 8.2.2). */
static bool is_of_hop(lt_header_id id)
{
    switch (id) {
    case LT_H_CONNECTION:
    case LT_H_TRANSFER_ENCODING:
    case LT_H_KEEP_ALIVE:
    case LT_H_PROXY_CONNECTION:
    case LT_H_UPGRADE:
    case LT_H_HTTP2_SETTINGS:
    case LT_H_HOST:
    case LT_H_CONTENT_LENGTH: return true;
    default: return false;
    }
}

static void put(struct lt_h2_made *made, lt_str name, lt_str value)
{
    made->items[made->count++] = (struct lt_h2_field){.name = name, .value = value};
}

static void put_all(struct lt_h2_made *made, struct lt_arena *arena,
                    const struct lt_headers *headers)
{
    for (uint32_t i = 0; i < headers->count; i++) {
        const struct lt_header *header = &headers->items[i];
        if (is_of_hop((lt_header_id)header->id))
            continue;
        made->items[made->count++] = (struct lt_h2_field){
            .name = in_lower(arena, header),
            .value = header->value,
            .is_secret = stays_out_of_tables((lt_header_id)header->id),
        };
    }
}

static struct lt_h2_made room(struct lt_arena *arena, const struct lt_headers *headers,
                              size_t pseudo)
{
    size_t count = headers->count + pseudo + 1;
    return (struct lt_h2_made){.items = lt_arena_make_n(arena, struct lt_h2_field, count)};
}

static void put_length(struct lt_h2_made *made, struct lt_arena *arena,
                       const struct lt_http_head *head)
{
    if (head->has_content_length)
        put(made, lt_header_name(LT_H_CONTENT_LENGTH), lt_arena_u64(arena, head->content_length));
}

struct lt_h2_made lt_h2_make_request(struct lt_arena *arena, const struct lt_http_head *head)
{
    struct lt_h2_made made = room(arena, &head->headers, 5);
    bool is_tunnel = head->method_id == LT_METHOD_CONNECT && head->protocol.len == 0;
    put(&made, LT_STR(":method"), head->method);
    if (!is_tunnel) {
        put(&made, LT_STR(":scheme"), head->scheme);
        put(&made, LT_STR(":path"), head->path);
    }
    put(&made, LT_STR(":authority"), head->authority);
    if (head->protocol.len > 0)
        put(&made, LT_STR(":protocol"), head->protocol);
    put_all(&made, arena, &head->headers);
    put_length(&made, arena, head);
    return made;
}

struct lt_h2_made lt_h2_make_response(struct lt_arena *arena, const struct lt_http_head *head)
{
    struct lt_h2_made made = room(arena, &head->headers, 1);
    put(&made, LT_STR(":status"), lt_arena_u64(arena, head->status));
    put_all(&made, arena, &head->headers);
    put_length(&made, arena, head);
    return made;
}

struct lt_h2_made lt_h2_make_trailers(struct lt_arena *arena, const struct lt_headers *trailers)
{
    struct lt_h2_made made = room(arena, trailers, 0);
    put_all(&made, arena, trailers);
    return made;
}
