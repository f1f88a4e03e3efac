/*
 * proxy/conf/format.c - texts with operators: cut into literals and operators once, written for
 * each request.
 * Start at: px_format_make(), px_format_write(). The table of operators stands before the reader
 * that looks it up.
 */
#include "proxy/conf/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/env.h"
#include "proxy/conf/flags.h"
#include "proxy/conf/format_parts.h"
#include "proxy/conf/meta.h"
#include "wire/json.h"

enum {
    PARTS_MAX = 4096, /* a format is a person's; beyond this it is a mistake */
    TIME_FORMAT_MAX = 4096,
    CUT_VALUE_LEAST = 64, /* of each value there is always so much */
};

/* --- operators --- */

typedef px_op_fn op_fn;

void px_sink_put(struct px_sink *out, lt_str text)
{
    size_t len = LT_MIN(text.len, out->room);
    lt_rc rc = len == 0 ? LT_OK : lt_buf_append(out->buf, text.ptr, len);
    if (rc != LT_OK)
        len = 0; /* the buffer is full before its time: all of it is missing */
    out->room -= len;
    out->missing += text.len - len;
}

static void put(struct px_sink *out, lt_str text)
{
    px_sink_put(out, text);
}

void px_sink_put_number(struct px_sink *out, uint64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    put(out, lt_str_make(text, (size_t)len));
}

/* Envoy's own: %f or %3f, the fraction of a second in so many digits; %s, seconds since 1970. */
static bool expand_time(struct lt_buf *to, lt_str spec, int64_t wall_ns)
{
    char digits[16];
    char last = spec.ptr[spec.len - 1];
    if (last == 's' && spec.len == 1) {
        lt_buf_addf(to, "%lld", (long long)(wall_ns / (int64_t)LT_NS_PER_S));
        return true;
    }
    bool has_digit = spec.len == 2 && spec.ptr[0] >= '1' && spec.ptr[0] <= '9';
    if (last != 'f' || (spec.len != 1 && !has_digit))
        return false;
    snprintf(digits, sizeof(digits), "%09lld", (long long)(wall_ns % (int64_t)LT_NS_PER_S));
    lt_buf_add(to, lt_str_make(digits, has_digit ? (size_t)(spec.ptr[0] - '0') : 9));
    return true;
}

/* What strftime does not know is written out; the rest is left for it. */
static void expand_times(struct lt_buf *to, lt_str format, int64_t wall_ns)
{
    for (size_t i = 0; i < format.len; i++) {
        size_t len = i + 1 < format.len && format.ptr[i + 1] >= '1' && format.ptr[i + 1] <= '9' ? 2
                                                                                                : 1;
        lt_str spec = lt_str_slice(format, i + 1, i + 1 + len);
        if (format.ptr[i] == '%' && spec.len == len && expand_time(to, spec, wall_ns)) {
            i += len;
        } else {
            bool is_pair = format.ptr[i] == '%' && i + 1 < format.len;
            lt_buf_add(to, lt_str_slice(format, i, i + (is_pair ? 2 : 1)));
            i += is_pair ? 1 : 0;
        }
    }
    lt_buf_add(to, LT_STR("\0"));
}

static void put_formatted(struct px_sink *out, lt_str format, int64_t wall_ns, bool is_local)
{
    enum { GROWTH_MAX = 32, LEAST = 256 }; /* of one specification, "%c" and the like */
    time_t seconds = (time_t)(wall_ns / (int64_t)LT_NS_PER_S);
    size_t room = format.len * GROWTH_MAX + LEAST;
    struct tm parts;
    struct lt_buf expanded;
    char *text = lt_malloc(room);
    lt_buf_init(&expanded, room);
    if (is_local)
        localtime_r(&seconds, &parts);
    else
        gmtime_r(&seconds, &parts);
    expand_times(&expanded, format, wall_ns);
    put(out, lt_str_make(text, strftime(text, room, lt_buf_str(&expanded).ptr, &parts)));
    lt_buf_fini(&expanded);
    free(text);
}

void px_sink_put_time(struct px_sink *out, lt_str format, int64_t wall_ns, bool is_local)
{
    char text[32];
    if (format.len == 0 && is_local)
        format = LT_STR("%Y-%m-%dT%H:%M:%S.%3f%z");
    if (format.len > 0) {
        put_formatted(out, format, wall_ns, is_local);
        return;
    }
    lt_time_format(wall_ns, text);
    put(out, lt_str_of(text));
}

/* START_TIME or START_TIME(strftime) in UTC. */
static void op_start_time(const struct px_log_facts *facts, lt_str argument, struct px_sink *out)
{
    px_sink_put_time(out, argument, facts->start_wall_ns, false);
}

static void op_start_local(const struct px_log_facts *facts, lt_str argument, struct px_sink *out)
{
    px_sink_put_time(out, argument, facts->start_wall_ns, true);
}

static lt_str pseudo(const struct px_log_facts *facts, lt_str name)
{
    if (lt_str_case_eq(name, LT_STR(":method")))
        return facts->method;
    if (lt_str_case_eq(name, LT_STR(":path")))
        return facts->path;
    if (lt_str_case_eq(name, LT_STR(":authority")))
        return facts->authority;
    if (lt_str_case_eq(name, LT_STR(":scheme")))
        return facts->scheme;
    return LT_STR_NULL;
}

static lt_str find_header(const struct px_log_facts *facts, const struct lt_headers *headers,
                          lt_str name)
{
    if (name.len > 0 && name.ptr[0] == ':')
        return pseudo(facts, name);
    return headers == NULL ? LT_STR_NULL : lt_headers_value_of(headers, name);
}

/* "X-A?X-B": the alternative when the first is not there. */
static void op_req(const struct px_log_facts *facts, lt_str argument, struct px_sink *out)
{
    lt_str name, value = LT_STR_NULL;
    while (value.len == 0 && lt_str_split(&argument, '?', &name))
        value = find_header(facts, facts->request, name);
    put(out, value);
}

static void op_resp(const struct px_log_facts *facts, lt_str argument, struct px_sink *out)
{
    lt_str name, value = LT_STR_NULL;
    while (value.len == 0 && lt_str_split(&argument, '?', &name))
        value = find_header(facts, facts->response, name);
    put(out, value);
}

static void op_trailer(const struct px_log_facts *facts, lt_str argument, struct px_sink *out)
{
    put(out,
        facts->trailers == NULL ? LT_STR_NULL : lt_headers_value_of(facts->trailers, argument));
}

const struct lt_doc *px_tree_walk(const struct lt_doc *node, lt_str path)
{
    lt_str part;
    while (node != NULL && path.len > 0 && lt_str_split(&path, ':', &part))
        node = lt_doc_find(node, part);
    return node == NULL || node->kind == LT_DOC_NULL ? NULL : node;
}

void px_sink_put_tree(struct px_sink *out, const struct lt_doc *node)
{
    enum { JSON_MAX = 1024 * 1024 };
    if (node == NULL)
        return;
    if (node->kind == LT_DOC_STRING) {
        put(out, node->string);
        return;
    }
    struct lt_buf json;
    struct lt_json_writer w;
    lt_buf_init(&json, JSON_MAX);
    lt_json_writer_init(&w, &json, 0);
    lt_json_doc(&w, node);
    if (lt_json_writer_finish(&w) == LT_OK)
        put(out, lt_buf_str(&json));
    lt_buf_fini(&json);
}

/* "filter:key:key" */
static const struct lt_doc *tree_of_meta(const struct px_log_facts *facts, lt_str argument)
{
    lt_str filter;
    lt_str_split(&argument, ':', &filter);
    return px_tree_walk(px_meta_find(facts->meta, filter), argument);
}

static void op_dynamic_metadata(const struct px_log_facts *facts, lt_str argument,
                                struct px_sink *out)
{
    px_sink_put_tree(out, tree_of_meta(facts, argument));
}

static void op_flags(const struct px_log_facts *facts, lt_str argument LT_UNUSED,
                     struct px_sink *out)
{
    char text[PX_FLAGS_TEXT_MAX];
    put(out, px_flags_format(facts->flags, text));
}

static void op_code(const struct px_log_facts *facts, lt_str argument LT_UNUSED,
                    struct px_sink *out)
{
    px_sink_put_number(out, facts->code);
}

#define TEXT_OP(name, expression) \
    static void op_##name(const struct px_log_facts *facts, lt_str argument LT_UNUSED, \
                          struct px_sink *out) \
    { \
        put(out, expression); \
    }
#define NUMBER_OP(name, expression) \
    static void op_##name(const struct px_log_facts *facts, lt_str argument LT_UNUSED, \
                          struct px_sink *out) \
    { \
        px_sink_put_number(out, expression); \
    }

lt_str px_address_ip(lt_str address)
{
    ptrdiff_t colon = lt_str_rfind_char(address, ':');
    lt_str host = colon < 0 ? address : lt_str_slice(address, 0, (size_t)colon);
    bool has_brackets = host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    return has_brackets ? lt_str_slice(host, 1, host.len - 1) : host;
}

lt_str px_address_port(lt_str address)
{
    ptrdiff_t colon = lt_str_rfind_char(address, ':');
    return colon < 0 ? LT_STR_NULL : lt_str_from(address, (size_t)colon + 1);
}

/* Envoy: in one word, for those who split lines at blanks. */
static void put_one_word(const char *text, struct px_sink *out)
{
    lt_str rest = lt_str_of(text), word;
    for (bool is_first = true; lt_str_split(&rest, ' ', &word); is_first = false) {
        if (!is_first)
            put(out, LT_STR("_"));
        put(out, word);
    }
}

static void op_transport_failure(const struct px_log_facts *facts, lt_str argument LT_UNUSED,
                                 struct px_sink *out)
{
    put_one_word(facts->transport_failure, out);
}

static void op_client_failure(const struct px_log_facts *facts, lt_str argument LT_UNUSED,
                              struct px_sink *out)
{
    put_one_word(facts->client_failure, out);
}

TEXT_OP(protocol, facts->protocol)
TEXT_OP(details, lt_str_of(facts->details))
TEXT_OP(termination, lt_str_of(facts->termination_details))
TEXT_OP(upstream_host, facts->upstream_host)
TEXT_OP(upstream_cluster, facts->upstream_cluster)
TEXT_OP(upstream_local, facts->upstream_local)
TEXT_OP(downstream_local, facts->downstream_local)
TEXT_OP(downstream_local_ip, px_address_ip(facts->downstream_local))
TEXT_OP(downstream_local_port, px_address_port(facts->downstream_local))
TEXT_OP(downstream_remote, facts->downstream_remote)
TEXT_OP(downstream_remote_ip, px_address_ip(facts->downstream_remote))
TEXT_OP(downstream_remote_port, px_address_port(facts->downstream_remote))
TEXT_OP(downstream_direct, facts->downstream_direct_remote)
TEXT_OP(downstream_direct_ip, px_address_ip(facts->downstream_direct_remote))
/* "SNI_ONLY", or which of SNI and Host goes first. */
static void op_server_name(const struct px_log_facts *facts, lt_str argument, struct px_sink *out)
{
    lt_str which, sni = facts->requested_server_name;
    lt_str_split(&argument, ':', &which);
    bool is_host_first = lt_str_eqz(which, "HOST_FIRST");
    bool may_be_host = is_host_first || lt_str_eqz(which, "SNI_FIRST");
    lt_str host = may_be_host ? facts->authority : LT_STR_NULL;
    lt_str first = is_host_first ? host : sni, second = is_host_first ? sni : host;
    put(out, first.len > 0 ? first : second);
}

TEXT_OP(route_name, facts->route_name)
TEXT_OP(peer_uri, facts->downstream_peer_uri)
TEXT_OP(local_uri, facts->downstream_local_uri)
TEXT_OP(tls_version, facts->tls_version)
TEXT_OP(tls_cipher, facts->tls_cipher)
NUMBER_OP(received, facts->bytes_received)
NUMBER_OP(sent, facts->bytes_sent)
NUMBER_OP(duration, facts->duration_ns / LT_NS_PER_MS)
NUMBER_OP(request_duration, facts->request_ns / LT_NS_PER_MS)
NUMBER_OP(response_duration, facts->response_ns / LT_NS_PER_MS)
NUMBER_OP(attempts, facts->attempts)
NUMBER_OP(connection_id, facts->connection_id)

static const struct px_op ops[] = {
    {"BYTES_RECEIVED", op_received, true, NULL},
    {"BYTES_SENT", op_sent, true, NULL},
    {"CONNECTION_ID", op_connection_id, true, NULL},
    {"CONNECTION_TERMINATION_DETAILS", op_termination, false, NULL},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", op_downstream_direct, false, NULL},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", op_downstream_direct_ip, false, NULL},
    {"DOWNSTREAM_LOCAL_ADDRESS", op_downstream_local, false, NULL},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", op_downstream_local_ip, false, NULL},
    {"DOWNSTREAM_LOCAL_PORT", op_downstream_local_port, true, NULL},
    {"DOWNSTREAM_LOCAL_URI_SAN", op_local_uri, false, NULL},
    {"DOWNSTREAM_PEER_URI_SAN", op_peer_uri, false, NULL},
    {"DOWNSTREAM_REMOTE_ADDRESS", op_downstream_remote, false, NULL},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", op_downstream_remote_ip, false, NULL},
    {"DOWNSTREAM_REMOTE_PORT", op_downstream_remote_port, true, NULL},
    {"DOWNSTREAM_TLS_CIPHER", op_tls_cipher, false, NULL},
    {"DOWNSTREAM_TRANSPORT_FAILURE_REASON", op_client_failure, false, NULL},
    {"DOWNSTREAM_TLS_VERSION", op_tls_version, false, NULL},
    {"DURATION", op_duration, true, NULL},
    {"DYNAMIC_METADATA", op_dynamic_metadata, false, tree_of_meta},
    {"PROTOCOL", op_protocol, false, NULL},
    {"REQ", op_req, false, NULL},
    {"REQUESTED_SERVER_NAME", op_server_name, false, NULL},
    {"REQUEST_HEADER", op_req, false, NULL},
    {"REQUEST_DURATION", op_request_duration, true, NULL},
    {"RESP", op_resp, false, NULL},
    {"RESPONSE_CODE", op_code, true, NULL},
    {"RESPONSE_CODE_DETAILS", op_details, false, NULL},
    {"RESPONSE_DURATION", op_response_duration, true, NULL},
    {"RESPONSE_FLAGS", op_flags, false, NULL},
    {"RESPONSE_HEADER", op_resp, false, NULL},
    {"RESPONSE_TRAILER", op_trailer, false, NULL},
    {"ROUTE_NAME", op_route_name, false, NULL},
    {"START_TIME", op_start_time, false, NULL},
    {"START_TIME_LOCAL", op_start_local, false, NULL},
    {"TRAILER", op_trailer, false, NULL},
    {"UPSTREAM_CLUSTER", op_upstream_cluster, false, NULL},
    {"UPSTREAM_CLUSTER_RAW", op_upstream_cluster, false, NULL},
    {"UPSTREAM_HOST", op_upstream_host, false, NULL},
    {"UPSTREAM_LOCAL_ADDRESS", op_upstream_local, false, NULL},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", op_attempts, true, NULL},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", op_transport_failure, false, NULL},
};

/* --- from text to parts --- */

struct part {
    lt_str literal; /* when op is NULL */
    op_fn *op;
    bool is_number;
    px_tree_fn *tree;
    lt_str argument;
    size_t length_max; /* 0: none */
};

struct px_format {
    const struct part *parts;
    size_t count;
};

static void op_nothing(const struct px_log_facts *facts LT_UNUSED, lt_str argument LT_UNUSED,
                       struct px_sink *out LT_UNUSED)
{
}

static bool is_name(lt_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '_')
            return false;
    }
    return text.len > 0;
}

static bool find_op(lt_str name, struct part *part)
{
    const struct px_op *op = NULL;
    for (size_t i = 0; i < LT_ARRAY_LEN(ops) && op == NULL; i++)
        op = lt_str_eqz(name, ops[i].name) ? &ops[i] : NULL;
    if (op == NULL)
        op = px_format_more(name);
    if (op == NULL)
        return false;
    part->op = op->run;
    part->is_number = op->is_number;
    part->tree = op->tree;
    return true;
}

/* What is between two '%': NAME, NAME(argument), each with :length. */
static lt_rc read_operator(lt_str text, struct part *part, lt_str *unknown)
{
    lt_str name, rest;
    ptrdiff_t open = lt_str_find_char(text, '('), close = lt_str_rfind_char(text, ')');
    *part = (struct part){.op = op_nothing};
    if (open >= 0 && close > open) {
        name = lt_str_slice(text, 0, (size_t)open);
        part->argument = lt_str_slice(text, (size_t)open + 1, (size_t)close);
        rest = lt_str_from(text, (size_t)close + 1);
    } else {
        ptrdiff_t colon = lt_str_find_char(text, ':');
        name = colon < 0 ? text : lt_str_slice(text, 0, (size_t)colon);
        rest = colon < 0 ? LT_STR_NULL : lt_str_from(text, (size_t)colon);
    }
    uint64_t length = 0;
    if (rest.len > 0 &&
        (rest.ptr[0] != ':' || lt_str_to_u64(lt_str_from(rest, 1), &length) != LT_OK))
        return LT_E_BAD;
    part->length_max = (size_t)length;
    if (!is_name(name) || part->argument.len > TIME_FORMAT_MAX)
        return LT_E_BAD;
    if (!find_op(name, part) && unknown->len == 0)
        *unknown = name;
    return LT_OK;
}

/*
 * An operator's argument may hold '%' (START_TIME's format): the end is the '%' behind the closing
 * parenthesis.
 */
static ptrdiff_t find_end(lt_str text)
{
    size_t depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '(')
            depth++;
        else if (text.ptr[i] == ')' && depth > 0)
            depth--;
        else if (text.ptr[i] == '%' && depth == 0)
            return (ptrdiff_t)i;
    }
    return -1;
}

/* The next part of *text; a literal reaches to the next '%'. */
static lt_rc next_part(lt_str *text, struct part *part, lt_str *unknown)
{
    ptrdiff_t at = lt_str_find_char(*text, '%');
    if (at != 0) {
        size_t len = at < 0 ? text->len : (size_t)at;
        *part = (struct part){.literal = lt_str_slice(*text, 0, len)};
        *text = lt_str_from(*text, len);
        return LT_OK;
    }
    lt_str inner = lt_str_from(*text, 1);
    ptrdiff_t end = find_end(inner);
    if (end < 0)
        return LT_E_BAD;
    *text = lt_str_from(inner, (size_t)end + 1);
    if (end > 0)
        return read_operator(lt_str_slice(inner, 0, (size_t)end), part, unknown);
    *part = (struct part){.literal = LT_STR("%")};
    return LT_OK;
}

lt_rc px_format_make(struct lt_arena *arena, lt_str text, const struct px_format **ret_format,
                     lt_str *ret_unknown, struct lt_err *err)
{
    lt_str rest = lt_arena_str(arena, text);
    size_t count_max = 1;
    for (size_t i = 0; i < text.len; i++)
        count_max += text.ptr[i] == '%' ? 1 : 0;
    if (count_max > PARTS_MAX)
        return lt_err_set(err, LT_E_BAD, "more than %d operators", PARTS_MAX);
    struct part *parts = lt_arena_make_n(arena, struct part, count_max);
    struct px_format *format = lt_arena_make(arena, struct px_format);
    *ret_unknown = LT_STR_NULL;
    for (; rest.len > 0; format->count++) {
        LT_ASSERT(format->count < count_max);
        size_t at = text.len - rest.len;
        if (next_part(&rest, &parts[format->count], ret_unknown) != LT_OK)
            return lt_err_set(
                err, LT_E_BAD,
                "at %zu: '%%' begins an operator, %%NAME(ARGUMENT):LENGTH%%; %%%% is a '%%'", at);
    }
    format->parts = parts;
    *ret_format = format;
    return LT_OK;
}

bool px_format_is_number(const struct px_format *format)
{
    return px_format_is_one(format) && format->parts[0].is_number;
}

bool px_format_is_one(const struct px_format *format)
{
    return format->count == 1 && format->parts[0].op != NULL;
}

bool px_format_tree(const struct px_format *format, const struct px_log_facts *facts,
                    const struct lt_doc **ret_tree)
{
    const struct part *part = &format->parts[0];
    if (!px_format_is_one(format) || part->tree == NULL || part->length_max != 0)
        return false;
    *ret_tree = part->tree(facts, part->argument);
    return true;
}

/* --- from parts to text --- */

/* What is said in place of what is missing. */
static lt_rc mark_cut(struct lt_buf *out, size_t missing)
{
    return lt_buf_printf(out, "[%zu bytes more]", missing);
}

static lt_rc write_value(const struct part *part, const struct px_log_facts *facts,
                         const struct px_format_opts *opts, struct lt_buf *out)
{
    size_t before = lt_buf_len(out);
    size_t used = before - LT_MIN(before, opts->from);
    size_t room = used < opts->values_max ? opts->values_max - used : 0;
    struct px_sink sink = {.buf = out, .room = LT_MAX(room, (size_t)CUT_VALUE_LEAST)};
    part->op(facts, part->argument, &sink);
    size_t made = lt_buf_len(out) - before;
    if (made + sink.missing == 0 && opts->has_dash)
        return lt_buf_append_str(out, LT_STR("-"));
    if (part->length_max != 0 && made >= part->length_max) {
        out->end -= made - part->length_max;
        return LT_OK; /* it was asked to be cut there */
    }
    return sink.missing == 0    ? LT_OK
           : opts->refuses_cuts ? LT_E_LIMIT
                                : mark_cut(out, sink.missing);
}

lt_rc px_format_write(const struct px_format *format, const struct px_log_facts *facts,
                      const struct px_format_opts *opts, struct lt_buf *out)
{
    for (size_t i = 0; i < format->count; i++) {
        const struct part *part = &format->parts[i];
        if (part->op == NULL)
            LT_TRY(lt_buf_append_str(out, part->literal));
        else
            LT_TRY(write_value(part, facts, opts, out));
    }
    return LT_OK;
}
