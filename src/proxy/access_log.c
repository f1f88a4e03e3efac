/*
 * proxy/access_log.c - lines of access logs. A format is cut into literals and operators once; a
 * line is formatted into the file's buffer, and the buffers are written at the end of the turn or
 * when they are large.
 * Start at: px_access_log_write(). The table of operators stands before the compiler that reads it.
 */
#include "proxy/access_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"
#include "base/vec.h"
#include "proxy/flags.h"
#include "wire/doc.h"
#include "wire/json.h"

enum { FILE_BUFFER_MAX = 1 << 20, FLUSH_AT = 16 * 1024, PARTS_MAX = 128, FORMATS_MAX = 256 };

/* --- operators --- */

/* Appends what the operator stands for; nothing at all means "-". */
typedef void op_fn(const struct px_log_facts *facts, lt_str argument, struct lt_buf *out);

static void put(struct lt_buf *out, lt_str text)
{
    if (text.len > 0 && lt_buf_append_str(out, text) != LT_OK)
        return; /* the buffer is full: the line is cut */
}

static void put_number(struct lt_buf *out, uint64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    put(out, lt_str_make(text, (size_t)len));
}

/* START_TIME or START_TIME(strftime) in UTC. */
static void op_start_time(const struct px_log_facts *facts, lt_str argument, struct lt_buf *out)
{
    char text[128], format[64];
    if (argument.len == 0 || argument.len >= sizeof(format)) {
        lt_time_format(facts->start_wall_ns, text);
        put(out, lt_str_of(text));
        return;
    }
    memcpy(format, argument.ptr, argument.len);
    format[argument.len] = '\0';
    time_t seconds = (time_t)(facts->start_wall_ns / (int64_t)LT_NS_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    put(out, lt_str_make(text, strftime(text, sizeof(text), format, &parts)));
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
static void op_req(const struct px_log_facts *facts, lt_str argument, struct lt_buf *out)
{
    lt_str name, value = LT_STR_NULL;
    while (value.len == 0 && lt_str_split(&argument, '?', &name))
        value = find_header(facts, facts->request, name);
    put(out, value);
}

static void op_resp(const struct px_log_facts *facts, lt_str argument, struct lt_buf *out)
{
    lt_str name, value = LT_STR_NULL;
    while (value.len == 0 && lt_str_split(&argument, '?', &name))
        value = find_header(facts, facts->response, name);
    put(out, value);
}

static void op_trailer(const struct px_log_facts *facts, lt_str argument, struct lt_buf *out)
{
    put(out,
        facts->trailers == NULL ? LT_STR_NULL : lt_headers_value_of(facts->trailers, argument));
}

static void op_flags(const struct px_log_facts *facts, lt_str argument LT_UNUSED,
                     struct lt_buf *out)
{
    char text[PX_FLAGS_TEXT_MAX];
    put(out, px_flags_format(facts->flags, text));
}

static void op_code(const struct px_log_facts *facts, lt_str argument LT_UNUSED, struct lt_buf *out)
{
    put_number(out, facts->code);
}

#define TEXT_OP(name, expression) \
    static void op_##name(const struct px_log_facts *facts, lt_str argument LT_UNUSED, \
                          struct lt_buf *out) \
    { \
        put(out, expression); \
    }
#define NUMBER_OP(name, expression) \
    static void op_##name(const struct px_log_facts *facts, lt_str argument LT_UNUSED, \
                          struct lt_buf *out) \
    { \
        put_number(out, expression); \
    }

/* "10.0.0.1:80" without its port. */
static lt_str without_port(lt_str address)
{
    ptrdiff_t colon = lt_str_rfind_char(address, ':');
    return colon < 0 ? address : lt_str_slice(address, 0, (size_t)colon);
}

static lt_str port_of(lt_str address)
{
    ptrdiff_t colon = lt_str_rfind_char(address, ':');
    return colon < 0 ? LT_STR_NULL : lt_str_from(address, (size_t)colon + 1);
}

TEXT_OP(protocol, facts->protocol)
TEXT_OP(details, lt_str_of(facts->details))
TEXT_OP(termination, lt_str_of(facts->termination_details))
TEXT_OP(transport_failure, lt_str_of(facts->transport_failure))
TEXT_OP(upstream_host, facts->upstream_host)
TEXT_OP(upstream_cluster, facts->upstream_cluster)
TEXT_OP(upstream_local, facts->upstream_local)
TEXT_OP(downstream_local, facts->downstream_local)
TEXT_OP(downstream_local_ip, without_port(facts->downstream_local))
TEXT_OP(downstream_local_port, port_of(facts->downstream_local))
TEXT_OP(downstream_remote, facts->downstream_remote)
TEXT_OP(downstream_remote_ip, without_port(facts->downstream_remote))
TEXT_OP(downstream_remote_port, port_of(facts->downstream_remote))
TEXT_OP(downstream_direct, facts->downstream_direct_remote)
TEXT_OP(downstream_direct_ip, without_port(facts->downstream_direct_remote))
TEXT_OP(server_name, facts->requested_server_name)
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

static const struct {
    const char *name;
    op_fn *run;
    bool is_number; /* bare in JSON */
} ops[] = {
    {"BYTES_RECEIVED", op_received, true},
    {"BYTES_SENT", op_sent, true},
    {"CONNECTION_ID", op_connection_id, true},
    {"CONNECTION_TERMINATION_DETAILS", op_termination, false},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", op_downstream_direct, false},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", op_downstream_direct_ip, false},
    {"DOWNSTREAM_LOCAL_ADDRESS", op_downstream_local, false},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", op_downstream_local_ip, false},
    {"DOWNSTREAM_LOCAL_PORT", op_downstream_local_port, true},
    {"DOWNSTREAM_LOCAL_URI_SAN", op_local_uri, false},
    {"DOWNSTREAM_PEER_URI_SAN", op_peer_uri, false},
    {"DOWNSTREAM_REMOTE_ADDRESS", op_downstream_remote, false},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", op_downstream_remote_ip, false},
    {"DOWNSTREAM_REMOTE_PORT", op_downstream_remote_port, true},
    {"DOWNSTREAM_TLS_CIPHER", op_tls_cipher, false},
    {"DOWNSTREAM_TLS_VERSION", op_tls_version, false},
    {"DURATION", op_duration, true},
    {"PROTOCOL", op_protocol, false},
    {"REQ", op_req, false},
    {"REQUESTED_SERVER_NAME", op_server_name, false},
    {"REQUEST_DURATION", op_request_duration, true},
    {"RESP", op_resp, false},
    {"RESPONSE_CODE", op_code, true},
    {"RESPONSE_CODE_DETAILS", op_details, false},
    {"RESPONSE_DURATION", op_response_duration, true},
    {"RESPONSE_FLAGS", op_flags, false},
    {"ROUTE_NAME", op_route_name, false},
    {"START_TIME", op_start_time, false},
    {"TRAILER", op_trailer, false},
    {"UPSTREAM_CLUSTER", op_upstream_cluster, false},
    {"UPSTREAM_CLUSTER_RAW", op_upstream_cluster, false},
    {"UPSTREAM_HOST", op_upstream_host, false},
    {"UPSTREAM_LOCAL_ADDRESS", op_upstream_local, false},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", op_attempts, true},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", op_transport_failure, false},
};

/* --- compiled formats --- */

struct part {
    lt_str literal; /* when op is NULL */
    op_fn *op;
    bool is_number;
    lt_str argument;
    size_t length_max; /* 0: none */
};

struct format {
    struct part parts[PARTS_MAX];
    size_t count;
};

static void op_nothing(const struct px_log_facts *facts LT_UNUSED, lt_str argument LT_UNUSED,
                       struct lt_buf *out LT_UNUSED)
{
}

/* What is between two '%': NAME, NAME(argument), each with :length. */
static struct part read_operator(lt_str text)
{
    struct part part = {.op = op_nothing};
    lt_str name = text, rest = LT_STR_NULL;
    ptrdiff_t open = lt_str_find_char(text, '('), close = lt_str_rfind_char(text, ')');
    if (open >= 0 && close > open) {
        name = lt_str_slice(text, 0, (size_t)open);
        part.argument = lt_str_slice(text, (size_t)open + 1, (size_t)close);
        rest = lt_str_from(text, (size_t)close + 1);
    } else if (lt_str_find_char(text, ':') >= 0) {
        rest = text;
        lt_str_split(&rest, ':', &name);
    }
    uint64_t length = 0;
    if (rest.len > 0 &&
        lt_str_to_u64(rest.ptr[0] == ':' ? lt_str_from(rest, 1) : rest, &length) == LT_OK)
        part.length_max = (size_t)length;
    for (size_t i = 0; i < LT_ARRAY_LEN(ops); i++) {
        if (lt_str_eqz(name, ops[i].name)) {
            part.op = ops[i].run;
            part.is_number = ops[i].is_number;
        }
    }
    return part;
}

static void add_literal(struct format *format, lt_str text)
{
    if (text.len > 0 && format->count < PARTS_MAX)
        format->parts[format->count++] = (struct part){.literal = text};
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

static void compile(lt_str text, struct format *format)
{
    format->count = 0;
    while (text.len > 0) {
        ptrdiff_t at = lt_str_find_char(text, '%');
        if (at < 0) {
            add_literal(format, text);
            return;
        }
        add_literal(format, lt_str_slice(text, 0, (size_t)at));
        text = lt_str_from(text, (size_t)at + 1);
        ptrdiff_t end = find_end(text);
        if (end == 0)
            add_literal(format, LT_STR("%"));
        else if (end > 0 && format->count < PARTS_MAX)
            format->parts[format->count++] = read_operator(lt_str_slice(text, 0, (size_t)end));
        if (end < 0)
            return;
        text = lt_str_from(text, (size_t)end + 1);
    }
}

static void run_part(const struct part *part, const struct px_log_facts *facts, bool has_dash,
                     struct lt_buf *out)
{
    if (part->op == NULL) {
        put(out, part->literal);
        return;
    }
    size_t before = lt_buf_len(out);
    part->op(facts, part->argument, out);
    size_t made = lt_buf_len(out) - before;
    if (made == 0 && has_dash)
        put(out, LT_STR("-"));
    else if (part->length_max != 0 && made > part->length_max)
        out->end -= made - part->length_max;
}

lt_rc px_format_text(lt_str text, const struct px_log_facts *facts, struct lt_buf *out)
{
    struct format *format = lt_new(struct format);
    compile(text, format);
    for (size_t i = 0; i < format->count; i++)
        run_part(&format->parts[i], facts, false, out);
    free(format);
    return lt_buf_len(out) < out->bytes_max ? LT_OK : LT_E_LIMIT;
}

/* --- files --- */

struct log_file {
    char *path; /* owned; the key */
    int fd;
    struct lt_buf out;
    uint64_t dropped; /* lines that found the buffer full */
};

struct compiled {
    char *text; /* owned; the key, and what the parts point into */
    struct format format;
};

struct px_access_logger {
    struct lt_loop *loop;  /* borrowed */
    struct lt_map files;   /* path -> struct log_file, owned */
    struct lt_map formats; /* text -> struct compiled, owned */
    struct lt_task flush;
};

static void flush_file(struct log_file *file)
{
    while (lt_buf_len(&file->out) > 0) {
        lt_str text = lt_buf_str(&file->out);
        ssize_t put_bytes = file->fd < 0 ? (ssize_t)text.len : write(file->fd, text.ptr, text.len);
        if (put_bytes <= 0)
            return; /* a full pipe: the next turn tries again, the buffer has a maximum */
        lt_buf_consume(&file->out, (size_t)put_bytes);
    }
    lt_buf_clear(&file->out, 2 * FLUSH_AT);
}

static void flush_all(struct lt_task *task)
{
    struct px_access_logger *logger = LT_CONTAINER_OF(task, struct px_access_logger, flush);
    for (size_t i = 0; i < logger->files.count; i++)
        flush_file(logger->files.entries[i].value);
}

struct px_access_logger *px_access_logger_new(struct lt_loop *loop)
{
    struct px_access_logger *logger = lt_new(struct px_access_logger);
    logger->loop = loop;
    lt_task_init(&logger->flush, flush_all);
    return logger;
}

void px_access_logger_free(struct px_access_logger **pointer)
{
    struct px_access_logger *logger = *pointer;
    *pointer = NULL;
    if (logger == NULL)
        return;
    lt_task_cancel(&logger->flush);
    flush_all(&logger->flush);
    for (size_t i = 0; i < logger->files.count; i++) {
        struct log_file *file = logger->files.entries[i].value;
        if (file->fd > STDERR_FILENO)
            close(file->fd);
        lt_buf_fini(&file->out);
        free(file->path);
        free(file);
    }
    for (size_t i = 0; i < logger->formats.count; i++) {
        struct compiled *compiled = logger->formats.entries[i].value;
        free(compiled->text);
        free(compiled);
    }
    lt_map_fini(&logger->files);
    lt_map_fini(&logger->formats);
    free(logger);
}

static int open_path(const char *path)
{
    if (strcmp(path, "/dev/stdout") == 0)
        return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0)
        return STDERR_FILENO;
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static struct log_file *get_file(struct px_access_logger *logger, lt_str path)
{
    struct log_file *file = lt_map_find(&logger->files, path);
    if (file != NULL)
        return file;
    file = lt_new(struct log_file);
    file->path = lt_str_dupz(path);
    file->fd = open_path(file->path);
    lt_buf_init(&file->out, FILE_BUFFER_MAX);
    lt_map_put(&logger->files, lt_str_of(file->path), file);
    return file;
}

/* Envoy ends a text line by itself when the format does not. */
static const struct format *get_format(struct px_access_logger *logger, lt_str text)
{
    struct compiled *compiled = lt_map_find(&logger->formats, text);
    if (compiled == NULL) {
        if (logger->formats.count >= FORMATS_MAX)
            return NULL;
        compiled = lt_new(struct compiled);
        compiled->text = lt_str_dupz(text);
        compile(lt_str_make(compiled->text, text.len), &compiled->format);
        lt_map_put(&logger->formats, lt_str_make(compiled->text, text.len), compiled);
    }
    return &compiled->format;
}

/* --- lines --- */

static void write_json_value(struct px_access_logger *logger, const struct lt_doc *node,
                             const struct px_log_facts *facts, struct lt_json_writer *w);

static void write_json_string(struct px_access_logger *logger, lt_str text,
                              const struct px_log_facts *facts, struct lt_json_writer *w)
{
    const struct format *format = get_format(logger, text);
    struct lt_buf out;
    lt_buf_init(&out, 64 * 1024);
    for (size_t i = 0; format != NULL && i < format->count; i++)
        run_part(&format->parts[i], facts, format->count > 1, &out);
    lt_str value = lt_buf_str(&out);
    uint64_t number = 0;
    bool is_alone = format != NULL && format->count == 1 && format->parts[0].op != NULL;
    if (is_alone && value.len == 0)
        lt_json_null(w);
    else if (is_alone && format->parts[0].is_number && lt_str_to_u64(value, &number) == LT_OK)
        lt_json_uint(w, number);
    else
        lt_json_str(w, value);
    lt_buf_fini(&out);
}

static void write_json_object(struct px_access_logger *logger, const struct lt_doc *node,
                              const struct px_log_facts *facts, struct lt_json_writer *w)
{
    lt_json_object_open(w);
    for (uint32_t i = 0; i < node->count; i++) {
        lt_json_key(w, node->members[i].key);
        write_json_value(logger, &node->members[i].value, facts, w);
    }
    lt_json_object_close(w);
}

static void write_json_value(struct px_access_logger *logger, const struct lt_doc *node,
                             const struct px_log_facts *facts, struct lt_json_writer *w)
{
    switch (node->kind) {
    case LT_DOC_OBJECT: write_json_object(logger, node, facts, w); break;
    case LT_DOC_ARRAY:
        lt_json_array_open(w);
        for (uint32_t i = 0; i < node->count; i++)
            write_json_value(logger, &node->items[i], facts, w);
        lt_json_array_close(w);
        break;
    case LT_DOC_STRING: write_json_string(logger, node->string, facts, w); break;
    case LT_DOC_INT: lt_json_int(w, node->integer); break;
    case LT_DOC_DOUBLE: lt_json_double(w, node->number); break;
    case LT_DOC_BOOL: lt_json_bool(w, node->boolean); break;
    case LT_DOC_NULL: lt_json_null(w); break;
    }
}

static void write_text(struct px_access_logger *logger, const struct px_access_log *log,
                       const struct px_log_facts *facts, struct lt_buf *out)
{
    const struct format *format = get_format(logger, log->format);
    for (size_t i = 0; format != NULL && i < format->count; i++)
        run_part(&format->parts[i], facts, true, out);
    if (!lt_str_ends(log->format, LT_STR("\n")))
        put(out, LT_STR("\n"));
}

void px_access_log_write(struct px_access_logger *logger, const struct px_access_log *log,
                         const struct px_log_facts *facts)
{
    if (log->only_no_route && (facts->flags & PX_FLAG_NO_ROUTE) == 0)
        return;
    struct log_file *file = get_file(logger, log->path);
    if (lt_buf_len(&file->out) > FILE_BUFFER_MAX / 2) {
        file->dropped++;
        return;
    }
    if (log->form == PX_LOG_JSON) {
        struct lt_json_writer w;
        lt_json_writer_init(&w, &file->out, 0);
        write_json_object(logger, log->json, facts, &w);
        if (lt_json_writer_finish(&w) == LT_OK)
            put(&file->out, LT_STR("\n"));
    } else {
        write_text(logger, log, facts, &file->out);
    }
    if (lt_buf_len(&file->out) >= FLUSH_AT)
        flush_file(file);
    else
        lt_loop_defer(logger->loop, &logger->flush);
}
