/*
 * proxy/told/access_log.c - lines of access logs: formatted into the file's buffer; the buffers are
 * written at the end of the turn, or when they are large.
 * Start at: px_access_log_write().
 */
#include "proxy/told/access_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "proxy/conf/log_filter.h"
#include "wire/json.h"

enum {
    FILE_BUFFER_MAX = 2 << 20,
    VALUES_MAX = 512 * 1024, /* of one line: several heads as large as they come by default */
    JSON_GROWTH_MAX = 6,     /* a byte as \u0001 */
    FLUSH_AT = 16 * 1024,
    RETRY_MS = 50,
};

/* --- files --- */

struct log_file {
    char *path; /* owned; the key */
    int fd;     /* -1: it could not be opened */
    struct lt_buf out;
};

struct px_access_logger {
    struct lt_loop *loop; /* borrowed */
    struct lt_map files;  /* path -> struct log_file, owned */
    struct lt_buf value;  /* of a JSON member, while it is made */
    bool omits_empty;     /* of the line in hand */
    size_t line_from;     /* bytes of the file's buffer before the line in hand */
    struct lt_counter *dropped;
    struct lt_task flush;
    struct lt_timer retry; /* a reader was too slow, or a disk full */
};

static void flush_file(struct log_file *file)
{
    while (lt_buf_len(&file->out) > 0) {
        lt_str text = lt_buf_str(&file->out);
        ssize_t put = write(file->fd, text.ptr, text.len);
        if (put <= 0)
            return; /* tried again later; the buffer has a maximum */
        lt_buf_consume(&file->out, (size_t)put);
    }
    lt_buf_clear(&file->out, 2 * FLUSH_AT);
}

static bool flush_files(struct px_access_logger *logger)
{
    bool is_done = true;
    for (size_t i = 0; i < logger->files.count; i++) {
        struct log_file *file = logger->files.entries[i].value;
        flush_file(file);
        is_done &= lt_buf_len(&file->out) == 0;
    }
    return is_done;
}

static void flush_all(struct lt_task *task)
{
    struct px_access_logger *logger = LT_CONTAINER_OF(task, struct px_access_logger, flush);
    if (!flush_files(logger) && !lt_timer_is_set(&logger->retry))
        lt_loop_timer_set(logger->loop, &logger->retry, RETRY_MS * LT_NS_PER_MS);
}

static void on_retry(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_access_logger *logger = LT_CONTAINER_OF(timer, struct px_access_logger, retry);
    flush_all(&logger->flush);
}

struct px_access_logger *px_access_logger_new(struct lt_loop *loop, struct lt_metric_set *metrics)
{
    static const struct lt_metric_desc dropped = {
        .name = {"lateen_access_log_lines_dropped_total", 37},
        .kind = LT_METRIC_COUNTER,
        .stat = {"lateen.access_log.lines_dropped", 31}};
    struct px_access_logger *logger = lt_new(struct px_access_logger);
    logger->loop = loop;
    logger->dropped = lt_metric_counter(lt_metric_family(metrics, &dropped), NULL);
    lt_buf_init(&logger->value, FILE_BUFFER_MAX);
    lt_task_init(&logger->flush, flush_all);
    lt_timer_init(&logger->retry, on_retry);
    return logger;
}

void px_access_logger_free(struct px_access_logger **pointer)
{
    struct px_access_logger *logger = *pointer;
    *pointer = NULL;
    if (logger == NULL)
        return;
    lt_task_cancel(&logger->flush);
    lt_loop_timer_cancel(logger->loop, &logger->retry);
    (void)flush_files(logger);
    for (size_t i = 0; i < logger->files.count; i++) {
        struct log_file *file = logger->files.entries[i].value;
        if (file->fd > STDERR_FILENO)
            close(file->fd);
        lt_buf_fini(&file->out);
        free(file->path);
        free(file);
    }
    lt_map_fini(&logger->files);
    lt_buf_fini(&logger->value);
    free(logger);
}

/*
 * Traffic must not wait for who reads the log: a pipe is opened anew, so that not blocking is our
 * own business and not that of all who write to it.
 */
static int open_stream(int fd)
{
    struct stat info;
    char path[32];
    if (fstat(fd, &info) != 0 || !S_ISFIFO(info.st_mode))
        return fd;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return own >= 0 ? own : fd;
}

static int open_path(const char *path)
{
    if (strcmp(path, "/dev/stdout") == 0)
        return open_stream(STDOUT_FILENO);
    if (strcmp(path, "/dev/stderr") == 0)
        return open_stream(STDERR_FILENO);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0644);
}

void px_access_logger_reopen(struct px_access_logger *logger)
{
    (void)flush_files(logger);
    for (size_t i = 0; i < logger->files.count; i++) {
        struct log_file *file = logger->files.entries[i].value;
        bool is_stream = strcmp(file->path, "/dev/stdout") == 0 ||
                         strcmp(file->path, "/dev/stderr") == 0;
        if (is_stream || file->fd < 0)
            continue;
        close(file->fd);
        file->fd = open_path(file->path);
    }
}

static struct log_file *get_file(struct px_access_logger *logger, lt_str path)
{
    struct log_file *file = lt_map_find(&logger->files, path);
    if (file == NULL) {
        file = lt_new(struct log_file);
        file->path = lt_str_dupz(path);
        file->fd = -1;
        lt_buf_init(&file->out, FILE_BUFFER_MAX);
        lt_map_put(&logger->files, lt_str_of(file->path), file);
    }
    if (file->fd < 0)
        file->fd = open_path(file->path);
    return file;
}

/* --- lines --- */

static lt_rc write_json_value(struct px_access_logger *logger, const struct px_log_node *node,
                              const struct px_log_facts *facts, struct lt_json_writer *w);

static lt_rc write_json_string(struct px_access_logger *logger, const struct px_format *format,
                               const struct px_log_facts *facts, struct lt_json_writer *w,
                               size_t line_bytes)
{
    const struct lt_doc *tree = NULL;
    if (px_format_tree(format, facts, &tree)) {
        if (tree != NULL)
            lt_json_doc(w, tree);
        else
            lt_json_null(w);
        return LT_OK;
    }
    bool is_one = px_format_is_one(format);
    size_t left = VALUES_MAX - LT_MIN(line_bytes, (size_t)VALUES_MAX);
    struct px_format_opts opts = {.values_max = left / JSON_GROWTH_MAX,
                                  .has_dash = !is_one && !logger->omits_empty};
    lt_buf_clear(&logger->value, FLUSH_AT);
    LT_TRY(px_format_write(format, facts, &opts, &logger->value));
    lt_str value = lt_buf_str(&logger->value);
    uint64_t number = 0;
    if (is_one && value.len == 0)
        lt_json_null(w);
    else if (px_format_is_number(format) && lt_str_to_u64(value, &number) == LT_OK)
        lt_json_uint(w, number);
    else
        lt_json_str(w, value);
    return LT_OK;
}

/* omit_empty_values: one operator, and it says nothing. */
static bool is_empty(struct px_access_logger *logger, const struct px_log_node *node,
                     const struct px_log_facts *facts)
{
    struct px_format_opts opts = {.values_max = 1};
    if (node->format == NULL || !px_format_is_one(node->format))
        return false;
    lt_buf_clear(&logger->value, FLUSH_AT);
    return px_format_write(node->format, facts, &opts, &logger->value) == LT_OK &&
           lt_buf_len(&logger->value) == 0;
}

static lt_rc write_json_members(struct px_access_logger *logger, const struct px_log_node *node,
                                const struct px_log_facts *facts, struct lt_json_writer *w)
{
    for (size_t i = 0; i < node->count; i++) {
        if (node->is_object && logger->omits_empty && is_empty(logger, &node->nodes[i], facts))
            continue;
        if (node->is_object)
            lt_json_key(w, node->nodes[i].key);
        LT_TRY(write_json_value(logger, &node->nodes[i], facts, w));
    }
    return LT_OK;
}

static lt_rc write_json_value(struct px_access_logger *logger, const struct px_log_node *node,
                              const struct px_log_facts *facts, struct lt_json_writer *w)
{
    if (node->format != NULL)
        return write_json_string(logger, node->format, facts, w,
                                 lt_buf_len(w->out) - logger->line_from);
    if (node->plain != NULL) {
        lt_json_doc(w, node->plain);
        return LT_OK;
    }
    if (node->is_object)
        lt_json_object_open(w);
    else
        lt_json_array_open(w);
    LT_TRY(write_json_members(logger, node, facts, w));
    if (node->is_object)
        lt_json_object_close(w);
    else
        lt_json_array_close(w);
    return LT_OK;
}

static lt_rc write_json(struct px_access_logger *logger, const struct px_access_log *log,
                        const struct px_log_facts *facts, struct lt_buf *out)
{
    struct lt_json_writer w;
    lt_json_writer_init(&w, out, 0);
    logger->omits_empty = log->omits_empty;
    LT_TRY(write_json_value(logger, log->json, facts, &w));
    LT_TRY(lt_json_writer_finish(&w));
    return lt_buf_append_str(out, LT_STR("\n"));
}

/* A line ends as its format says, as Envoy's do. */
static lt_rc write_text(const struct px_access_log *log, const struct px_log_facts *facts,
                        size_t from, struct lt_buf *out)
{
    struct px_format_opts opts = {
        .from = from, .values_max = VALUES_MAX, .has_dash = !log->omits_empty};
    return px_format_write(log->format, facts, &opts, out);
}

void px_access_log_write(struct px_access_logger *logger, const struct px_access_log *log,
                         const struct px_log_facts *facts)
{
    if (log->filter != NULL && !px_log_filter_takes(log->filter, facts))
        return;
    struct log_file *file = get_file(logger, log->path);
    struct lt_buf *out = &file->out;
    size_t before = lt_buf_len(out);
    lt_rc rc = LT_E_IO;
    logger->line_from = before;
    if (file->fd >= 0)
        rc = log->form == PX_LOG_JSON ? write_json(logger, log, facts, out)
                                      : write_text(log, facts, before, out);
    if (rc != LT_OK) {
        out->end -= lt_buf_len(out) - before; /* whole or not at all */
        lt_counter_add(logger->dropped, 1);
    }
    if (lt_buf_len(out) >= FLUSH_AT)
        flush_file(file);
    if (lt_buf_len(out) > 0)
        lt_loop_defer(logger->loop, &logger->flush);
}
