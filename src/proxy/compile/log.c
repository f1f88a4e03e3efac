/*
 * proxy/compile/log.c - AccessLog entries: files in text or JSON form. Logs over gRPC and OTLP come
 * later and are listed. Which requests are told: log_filter.c.
 */
#include "proxy/compile/build.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "wire/json.h"
#include "wire/proto/log_file.pb-c.h"
#include "wire/proto/log_stream.pb-c.h"
#include "wire/struct.h"

/* Envoy's default format, which istiod also sends as the mesh default with a few more operators. */
static const char default_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% "
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" "
    "\"%UPSTREAM_HOST%\"\n";

static lt_rc make_node(struct px_build *build, const struct lt_doc *doc, struct px_log_node *node);

static lt_rc make_nodes(struct px_build *build, const struct lt_doc *doc, struct px_log_node *node)
{
    struct px_log_node *nodes = lt_arena_make_n(build->arena, struct px_log_node, doc->count);
    node->is_object = doc->kind == LT_DOC_OBJECT;
    node->nodes = nodes;
    node->count = doc->count;
    for (uint32_t i = 0; i < doc->count; i++) {
        if (node->is_object)
            nodes[i].key = lt_arena_str(build->arena, doc->members[i].key);
        LT_TRY(
            make_node(build, node->is_object ? &doc->members[i].value : &doc->items[i], &nodes[i]));
    }
    return LT_OK;
}

/* As deep as a Struct may be (lt_struct_to_doc has checked it). */
static lt_rc make_node(struct px_build *build, const struct lt_doc *doc, struct px_log_node *node)
{
    if (doc->kind == LT_DOC_OBJECT || doc->kind == LT_DOC_ARRAY)
        return make_nodes(build, doc, node);
    if (doc->kind == LT_DOC_STRING)
        return px_make_format(build, "log_format.json_format", doc->string, &node->format);
    struct lt_doc *plain = lt_arena_make(build->arena, struct lt_doc);
    *plain = lt_doc_copy(build->arena, doc);
    node->plain = plain;
    return LT_OK;
}

static lt_rc make_json(struct px_build *build, const char *field, const Pb__Struct *in,
                       struct px_access_log *log)
{
    struct lt_doc doc;
    log->form = PX_LOG_JSON;
    if (lt_struct_to_doc(build->scratch, in, NULL, &doc, NULL) != LT_OK)
        return px_bad(build, field, "is not a readable Struct");
    struct px_log_node *root = lt_arena_make(build->arena, struct px_log_node);
    log->json = root;
    return make_node(build, &doc, root);
}

static lt_rc make_format(struct px_build *build, const Xds__SubstitutionFormatString *format,
                         struct px_access_log *log)
{
    if (format != NULL)
        log->omits_empty = format->has_omit_empty_values && format->omit_empty_values;
    if (format == NULL) {
        log->form = PX_LOG_TEXT;
        return px_make_format(build, "log_format", lt_str_of(default_format), &log->format);
    }
    if (format->format_case == XDS__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE) {
        lt_str text;
        log->form = PX_LOG_TEXT;
        LT_TRY(px_make_data(build, "log_format.text_format_source", format->text_format_source,
                            &text));
        return px_make_format(build, "log_format.text_format_source", text, &log->format);
    }
    if (format->format_case == XDS__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT) {
        log->form = PX_LOG_TEXT;
        return px_make_format(build, "log_format.text_format", lt_str_of(format->text_format),
                              &log->format);
    }
    if (format->format_case == XDS__SUBSTITUTION_FORMAT_STRING__FORMAT_JSON_FORMAT)
        return make_json(build, "log_format.json_format", format->json_format, log);
    return px_bad(build, "log_format", "a text or JSON format is needed");
}

/*
 * A log that nobody could ever read is refused at once, as Envoy does, and not lost line by line.
 */
static lt_rc check_path(struct px_build *build, lt_str path)
{
    if (path.len == 0)
        return px_bad(build, "typed_config.path", "is empty");
    if (lt_str_starts(path, LT_STR("/dev/")))
        return LT_OK;
    int fd = open(lt_arena_strz(build->scratch, path),
                  O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0644);
    if (fd < 0 && errno != ENXIO) /* a FIFO whose reader is still to come */
        return px_bad(build, "typed_config.path", "'%.*s' cannot be opened: %s", LT_STR_ARG(path),
                      strerror(errno));
    if (fd >= 0)
        close(fd);
    return LT_OK;
}

#define FORMAT(name) XDS__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_##name

/* log_format, and what stood for it before there was one. */
static lt_rc make_file_format(struct px_build *build, const Xds__FileAccessLog *file,
                              struct px_access_log *log)
{
    switch (file->access_log_format_case) {
    case FORMAT(LOG_FORMAT): return make_format(build, file->log_format, log);
    case FORMAT(FORMAT):
        if (file->format[0] == '\0')
            return make_format(build, NULL, log);
        log->form = PX_LOG_TEXT;
        return px_make_format(build, "format", lt_str_of(file->format), &log->format);
    case FORMAT(JSON_FORMAT): return make_json(build, "json_format", file->json_format, log);
    case FORMAT(TYPED_JSON_FORMAT):
        return make_json(build, "typed_json_format", file->typed_json_format, log);
    default: return make_format(build, NULL, log);
    }
}

static lt_rc make_one(struct px_build *build, const Xds__AccessLog *in, struct px_access_log *log,
                      bool *ret_is_kept)
{
    const Pb__Any *any = in->config_type_case == XDS__ACCESS_LOG__CONFIG_TYPE_TYPED_CONFIG
                             ? in->typed_config
                             : NULL;
    lt_str type = px_any_type(build, any);
    *ret_is_kept = true;
    if (lt_str_eqz(type, xds__file_access_log__descriptor.name)) {
        Xds__FileAccessLog *file = NULL;
        LT_TRY(px_unpack_any(build, "typed_config", any, &xds__file_access_log__descriptor, &file));
        log->path = px_copy(build, file->path);
        LT_TRY(check_path(build, log->path));
        LT_TRY(make_file_format(build, file, log));
    } else if (lt_str_eqz(type, xds__stdout_access_log__descriptor.name)) {
        Xds__StdoutAccessLog *out = NULL;
        LT_TRY(
            px_unpack_any(build, "typed_config", any, &xds__stdout_access_log__descriptor, &out));
        log->path = LT_STR("/dev/stdout");
        LT_TRY(make_format(build, out->log_format, log));
    } else if (lt_str_eqz(type, xds__stderr_access_log__descriptor.name)) {
        Xds__StderrAccessLog *out = NULL;
        LT_TRY(
            px_unpack_any(build, "typed_config", any, &xds__stderr_access_log__descriptor, &out));
        log->path = LT_STR("/dev/stderr");
        LT_TRY(make_format(build, out->log_format, log));
    } else {
        *ret_is_kept = false;
        return LT_OK;
    }
    return px_make_log_filter(build, in->filter, &log->filter);
}

lt_rc px_make_access_logs(struct px_build *build, Xds__AccessLog *const *in, size_t count,
                          const struct px_access_log **ret_logs, size_t *ret_count)
{
    struct px_access_log *logs = lt_arena_make_n(build->arena, struct px_access_log, count);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        bool is_kept = false;
        size_t mark = px_path_enter(build, "access_log", (ptrdiff_t)i);
        LT_TRY(make_one(build, in[i], &logs[kept], &is_kept));
        px_path_leave(build, mark);
        kept += is_kept ? 1 : 0;
    }
    *ret_logs = logs;
    *ret_count = kept;
    return LT_OK;
}

lt_rc px_make_log_interval(struct px_build *build, const Pb__Duration *in, uint32_t *ret_ms)
{
    uint64_t ms = px_duration_ms(in, 0);
    if (in != NULL && ms == 0)
        return px_bad(build, "access_log_options.access_log_flush_interval",
                      "must be at least 1 ms");
    *ret_ms = (uint32_t)LT_MIN(ms, (uint64_t)UINT32_MAX);
    return LT_OK;
}
