/*
 * proxy/xds/store.c - the log of resources: records, and the file that they are in. Appended to;
 * written anew when most of it is of the past. No fsync but of a new file: a killed process loses
 * nothing, and what a dead machine tears the hashes tell. Start at: px_store_open(), run_flush().
 */
#include "proxy/xds/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define MAGIC "lateen resources 1\n"

enum {
    HEAD_BYTES = 48, /* hash 8, length 4, op 1, kind 1, 2 spare, time 8, lengths 4 * 4, spare 8 */
    MAGIC_BYTES = sizeof(MAGIC) - 1,
    IDENTITY_BYTES = 8,
    RECORD_BYTES_MAX = 128 << 20,
    FILE_BYTES_MAX = 512 << 20,
    SLACK_BYTES = 1 << 20, /* of the past that a small file may have */
    BUFFER_KEPT = 64 * 1024,
    LOCK_AGAIN_MS = 500,
    TRY_AGAIN_MS = 30000,
};

/* --- records --- */

static void put_u32(char *at, size_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (char)(value >> (8 * i));
}

static void put_u64(char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (char)(value >> (8 * i));
}

static uint64_t get_u64(const char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)(unsigned char)at[i] << (8 * i);
    return value;
}

void px_store_write(struct lt_buf *out, const struct px_store_record *record)
{
    const lt_str parts[] = {record->source, record->name, record->version, record->bytes};
    size_t len = HEAD_BYTES;
    char *head = NULL;
    for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++)
        len += parts[i].len;
    if (len > RECORD_BYTES_MAX || lt_buf_reserve(out, len, &head) != LT_OK)
        return; /* too large to be kept: it is asked for again after a restart */
    memset(head, 0, HEAD_BYTES);
    put_u32(head + 8, len);
    head[12] = (char)record->op;
    head[13] = (char)record->kind;
    put_u64(head + 16, (uint64_t)record->at_ns);
    char *at = head + HEAD_BYTES;
    for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++) {
        put_u32(head + 24 + 4 * i, parts[i].len);
        if (parts[i].len > 0)
            memcpy(at, parts[i].ptr, parts[i].len);
        at += parts[i].len;
    }
    put_u64(head, lt_hash64(head + 8, len - 8, 0));
    lt_buf_commit(out, len);
}

lt_rc px_store_read(lt_str *rest, struct px_store_record *ret_record)
{
    if (rest->len == 0)
        return LT_AGAIN;
    if (rest->len < HEAD_BYTES)
        return LT_E_BAD;
    const char *head = rest->ptr;
    uint64_t len = get_u64(head + 8, 4);
    if (len < HEAD_BYTES || len > rest->len || get_u64(head, 8) != lt_hash64(head + 8, len - 8, 0))
        return LT_E_BAD;
    unsigned op = (unsigned char)head[12], kind = (unsigned char)head[13];
    struct px_store_record record = {.op = (px_store_op)op,
                                     .kind = (px_resource_kind)kind,
                                     .at_ns = (int64_t)get_u64(head + 16, 8)};
    lt_str *const parts[] = {&record.source, &record.name, &record.version, &record.bytes};
    uint64_t at = HEAD_BYTES;
    for (size_t i = 0; i < LT_ARRAY_LEN(parts); i++) {
        uint64_t part = get_u64(head + 24 + 4 * i, 4);
        if (part > len - at)
            return LT_E_BAD;
        *parts[i] = lt_str_make(head + at, part);
        at += part;
    }
    if (at != len || op >= PX_STORE_OPS || kind >= PX_RESOURCE_KINDS)
        return LT_E_BAD;
    *ret_record = record;
    *rest = lt_str_from(*rest, len);
    return LT_OK;
}

/* --- the file --- */

struct px_store {
    struct px_store_opts opts;
    char *path, *beside, *lock_path; /* owned */
    int fd, lock_fd;                 /* -1: none */
    uint64_t bytes;                  /* of the file */
    uint64_t bytes_of_all;           /* as it was when everything was written anew */
    struct lt_buf out;               /* noted, and not written */
    struct lt_task flush;
    struct lt_timer again;
    bool is_behind; /* something could not be written: all of it is to be, before anything else */
};

static bool lock(struct px_store *store)
{
    if (store->lock_fd < 0)
        store->lock_fd = open(store->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return store->lock_fd >= 0 && flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0;
}

static bool write_whole(int fd, lt_str text)
{
    while (text.len > 0) {
        ssize_t done = write(fd, text.ptr, text.len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        text = lt_str_from(text, (size_t)done);
    }
    return true;
}

static void put_begin(const struct px_store *store, struct lt_buf *out)
{
    char hash[IDENTITY_BYTES];
    put_u64(hash, lt_hash64(store->opts.identity.ptr, store->opts.identity.len, 0));
    lt_buf_add(out, LT_STR(MAGIC));
    lt_buf_add(out, lt_str_make(hash, sizeof(hash)));
}

static bool write_anew(struct px_store *store)
{
    struct lt_buf all;
    lt_buf_init(&all, FILE_BYTES_MAX);
    put_begin(store, &all);
    store->opts.write_all(store->opts.ctx, &all);
    int fd = open(store->beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool is_good = fd >= 0 && write_whole(fd, lt_buf_str(&all)) && fdatasync(fd) == 0 &&
                   rename(store->beside, store->path) == 0;
    if (!is_good && fd >= 0)
        close(fd);
    if (is_good) {
        if (store->fd >= 0)
            close(store->fd);
        store->fd = fd;
        store->bytes = store->bytes_of_all = lt_buf_len(&all);
    }
    lt_buf_fini(&all);
    return is_good;
}

static bool is_mostly_past(const struct px_store *store)
{
    return store->bytes + lt_buf_len(&store->out) > store->bytes_of_all * 2 + SLACK_BYTES;
}

/* What could not be written now is in what is written anew. */
static void fall_behind(struct px_store *store, const char *what)
{
    if (!store->is_behind)
        lt_log_warn(&store->opts.env->log, "%s: %s: %s; tried again every %d s", store->path, what,
                    strerror(errno), TRY_AGAIN_MS / 1000);
    store->is_behind = true;
    lt_buf_clear(&store->out, 0);
    lt_loop_timer_set(store->opts.loop, &store->again, TRY_AGAIN_MS * LT_NS_PER_MS);
}

static void rewrite(struct px_store *store)
{
    if (!write_anew(store)) {
        fall_behind(store, "cannot be written");
        return;
    }
    store->is_behind = false;
    lt_buf_clear(&store->out, 0); /* it is in it */
}

static void run_flush(struct lt_task *task)
{
    struct px_store *store = LT_CONTAINER_OF(task, struct px_store, flush);
    lt_str out = lt_buf_str(&store->out);
    if (store->is_behind || out.len == 0)
        return;
    if (store->fd < 0 || is_mostly_past(store)) {
        rewrite(store);
        return;
    }
    if (!write_whole(store->fd, out)) {
        fall_behind(store, "cannot be written");
        return;
    }
    store->bytes += out.len;
    lt_buf_clear(&store->out, BUFFER_KEPT);
}

void px_store_note(struct px_store *store, const struct px_store_record *record)
{
    if (store == NULL || store->is_behind)
        return;
    px_store_write(&store->out, record);
    lt_loop_defer(store->opts.loop, &store->flush);
}

/* Somebody else writes, or nobody may. */
static void wait_for_lock(struct px_store *store)
{
    if (store->lock_fd < 0) {
        fall_behind(store, "cannot be written");
        return;
    }
    store->is_behind = true;
    lt_loop_timer_set(store->opts.loop, &store->again, LOCK_AGAIN_MS * LT_NS_PER_MS);
}

/* The one before has ended, or there is room again. */
static void on_again(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_store *store = LT_CONTAINER_OF(timer, struct px_store, again);
    if (lock(store))
        rewrite(store);
    else
        wait_for_lock(store);
}

/* --- begin and end --- */

/* Where the part that can be believed ends; 0: nothing can. */
static uint64_t visit_all(const struct px_store *store, lt_str text, px_store_visit_fn *visit)
{
    struct lt_buf begin;
    lt_buf_init(&begin, MAGIC_BYTES + IDENTITY_BYTES);
    put_begin(store, &begin);
    bool is_ours = lt_str_starts(text, lt_buf_str(&begin));
    lt_buf_fini(&begin);
    if (!is_ours)
        return 0;
    lt_str rest = lt_str_from(text, MAGIC_BYTES + IDENTITY_BYTES);
    struct px_store_record record;
    lt_rc rc;
    while ((rc = px_store_read(&rest, &record)) == LT_OK)
        visit(store->opts.ctx, &record);
    if (rc == LT_E_BAD)
        lt_log_warn(&store->opts.env->log, "%s: the last %zu bytes are spoilt, and left out",
                    store->path, rest.len);
    return text.len - rest.len;
}

static void open_for_writing(struct px_store *store, uint64_t good)
{
    if (!lock(store)) {
        wait_for_lock(store);
        return;
    }
    if (good == 0)
        return; /* begun with the first record */
    int fd = open(store->path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)good) != 0 || lseek(fd, 0, SEEK_END) < 0) {
        if (fd >= 0)
            close(fd);
        return;
    }
    store->fd = fd;
    store->bytes = store->bytes_of_all = good;
}

static char *path_of(const struct px_store_opts *opts, const char *name)
{
    struct lt_buf path;
    lt_buf_init(&path, 4096);
    char *text = NULL;
    if (lt_buf_printf(&path, "%.*s/%s", LT_STR_ARG(opts->directory), name) == LT_OK)
        text = lt_str_dupz(lt_buf_str(&path));
    lt_buf_fini(&path);
    return text != NULL ? text : lt_str_dupz(LT_STR(""));
}

struct px_store *px_store_open(const struct px_store_opts *opts, px_store_visit_fn *visit)
{
    struct px_store *store = lt_new(struct px_store);
    struct lt_arena *arena = lt_arena_new(64 * 1024, 0);
    lt_str text = LT_STR_NULL;
    store->opts = *opts;
    store->path = path_of(opts, "resources");
    store->beside = path_of(opts, "resources.new");
    store->lock_path = path_of(opts, "resources.lock");
    store->fd = store->lock_fd = -1;
    lt_buf_init(&store->out, FILE_BYTES_MAX);
    lt_task_init(&store->flush, run_flush);
    lt_timer_init(&store->again, on_again);
    uint64_t good = 0;
    if (lt_file_read_max(arena, store->path, FILE_BYTES_MAX, &text, NULL) == LT_OK)
        good = visit_all(store, text, visit);
    open_for_writing(store, good);
    lt_arena_free(&arena);
    return store;
}

void px_store_close(struct px_store **pointer)
{
    struct px_store *store = *pointer;
    *pointer = NULL;
    if (store == NULL)
        return;
    run_flush(&store->flush);
    lt_task_cancel(&store->flush);
    lt_loop_timer_cancel(store->opts.loop, &store->again);
    if (store->fd >= 0)
        close(store->fd);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    lt_buf_fini(&store->out);
    free(store->path);
    free(store->beside);
    free(store->lock_path);
    free(store);
}
