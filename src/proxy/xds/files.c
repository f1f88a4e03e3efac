/*
 * proxy/xds/files.c - files of configuration: one inotify descriptor for all; which of them has
 * changed, their stamps say.
 */
#include "proxy/xds/files.h"

#include <stdlib.h>

#include "base/file.h"
#include "net/watch.h"

enum {
    SETTLE_MS = 20, /* links and files of one replacement come one after the other */
    POLL_MS = 1000, /* where the kernel has no watch for us, and for what is not there yet */
};

struct px_file {
    struct lt_list link;
    struct px_files *files;
    char *path, *directory; /* owned; directory may be NULL */
    uint64_t stamp;
    void (*on_change)(void *ctx);
    void *ctx;
};

struct px_files {
    struct lt_loop *loop;
    struct lt_list list;
    struct lt_watch *watch; /* owned; NULL: there is none to be had */
    struct lt_io io;
    struct lt_timer look;
};

/* What is watched is said before it is looked at, so that nothing falls between the two. */
static bool watch_all(struct px_files *files)
{
    if (files->watch == NULL)
        return false;
    struct lt_list *it, *next;
    lt_watch_begin(files->watch);
    lt_list_each (&files->list, it, next) {
        const struct px_file *file = LT_CONTAINER_OF(it, struct px_file, link);
        lt_watch_add_path(files->watch, file->path);
        if (file->directory != NULL)
            lt_watch_add_tree(files->watch, file->directory);
    }
    return lt_watch_end(files->watch);
}

/* A callback may take any file out of the list: begin again after each. */
static struct px_file *next_changed(struct px_files *files)
{
    struct lt_list *it, *next;
    lt_list_each (&files->list, it, next) {
        struct px_file *file = LT_CONTAINER_OF(it, struct px_file, link);
        uint64_t stamp = lt_file_stamp(file->path);
        if (stamp == file->stamp)
            continue;
        file->stamp = stamp;
        if (stamp != 0) /* while it is away, what was in it holds */
            return file;
    }
    return NULL;
}

static void on_look(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_files *files = LT_CONTAINER_OF(timer, struct px_files, look);
    bool is_whole = watch_all(files);
    for (struct px_file *file; (file = next_changed(files)) != NULL;)
        file->on_change(file->ctx);
    if (!is_whole && !lt_list_is_empty(&files->list))
        lt_loop_timer_set(files->loop, timer, POLL_MS * LT_NS_PER_MS);
}

static void on_events(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_files *files = LT_CONTAINER_OF(io, struct px_files, io);
    if (lt_watch_read(files->watch))
        lt_loop_timer_set(files->loop, &files->look, SETTLE_MS * LT_NS_PER_MS);
}

struct px_files *px_files_new(struct lt_loop *loop)
{
    struct px_files *files = lt_new(struct px_files);
    files->loop = loop;
    lt_list_init(&files->list);
    lt_timer_init(&files->look, on_look);
    lt_io_init(&files->io, on_events);
    return files;
}

/* With the first file: most proxies watch none. */
static void start_watching(struct px_files *files)
{
    struct lt_err err = {0};
    if (files->watch != NULL || lt_watch_new(&files->watch, &err) != LT_OK)
        return;
    files->io.fd = lt_watch_fd(files->watch);
    lt_loop_io_set(files->loop, &files->io, EPOLLIN);
}

void px_files_free(struct px_files **pointer)
{
    struct px_files *files = *pointer;
    *pointer = NULL;
    if (files == NULL)
        return;
    LT_ASSERT(lt_list_is_empty(&files->list));
    lt_loop_timer_cancel(files->loop, &files->look);
    if (files->watch != NULL)
        lt_loop_io_del(files->loop, &files->io);
    lt_watch_free(&files->watch);
    free(files);
}

struct px_file *px_file_watch(struct px_files *files, lt_str path, lt_str directory,
                              void (*on_change)(void *ctx), void *ctx)
{
    struct px_file *file = lt_new(struct px_file);
    *file = (struct px_file){.files = files,
                             .path = lt_str_dupz(path),
                             .directory = directory.len > 0 ? lt_str_dupz(directory) : NULL,
                             .on_change = on_change,
                             .ctx = ctx};
    file->stamp = lt_file_stamp(file->path);
    lt_list_push_back(&files->list, &file->link);
    start_watching(files);
    lt_loop_timer_set(files->loop, &files->look, 0);
    return file;
}

void px_file_unwatch(struct px_file **pointer)
{
    struct px_file *file = *pointer;
    *pointer = NULL;
    if (file == NULL)
        return;
    lt_list_remove(&file->link);
    free(file->path);
    free(file->directory);
    free(file);
}
