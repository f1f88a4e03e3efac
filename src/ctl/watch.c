/*
 * ctl/watch.c - inotify over a tree.
 * After each burst all directories are watched again (adding a watched one again changes nothing),
 * which finds new ones without keeping account of names.
 */
#include "ctl/watch.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
    DIRS_MAX = 1024, /* a tree of manifests; not a home directory */
    DEPTH_MAX = 16,
    QUIET_MS = 100,
    LATEST_MS = 1000, /* a tree that never rests is read all the same */
};

static const uint32_t EVENTS = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
                               IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR;

struct ctl_watch {
    struct lt_loop *loop; /* borrowed */
    struct lt_io io;
    struct lt_timer quiet;
    uint64_t latest_ns; /* of the current burst */
    char dir[PATH_MAX];
    ctl_watch_fn *on_change;
    void *ctx;
};

static void add_tree(struct ctl_watch *watch, const char *path, unsigned depth, unsigned *left)
{
    if (*left == 0 || depth > DEPTH_MAX || inotify_add_watch(watch->io.fd, path, EVENTS) < 0)
        return;
    (*left)--;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char below[PATH_MAX];
        if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
            continue;
        if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) < (int)sizeof(below))
            add_tree(watch, below, depth + 1, left);
    }
    closedir(dir);
}

static void watch_all(struct ctl_watch *watch)
{
    unsigned left = DIRS_MAX;
    add_tree(watch, watch->dir, 0, &left);
}

static void on_quiet(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct ctl_watch *watch = LT_CONTAINER_OF(timer, struct ctl_watch, quiet);
    watch->latest_ns = 0;
    watch_all(watch);
    watch->on_change(watch->ctx);
}

static void on_events(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_watch *watch = LT_CONTAINER_OF(io, struct ctl_watch, io);
    char room[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
    while (read(io->fd, room, sizeof(room)) > 0)
        ;
    uint64_t now = lt_loop_now_ns(watch->loop);
    if (watch->latest_ns == 0)
        watch->latest_ns = now + LATEST_MS * LT_NS_PER_MS;
    uint64_t quiet = QUIET_MS * LT_NS_PER_MS;
    uint64_t left = watch->latest_ns > now ? watch->latest_ns - now : 0;
    lt_loop_timer_set(watch->loop, &watch->quiet, LT_MIN(quiet, left));
}

lt_rc ctl_watch_new(struct lt_loop *loop, const char *dir, ctl_watch_fn *on_change, void *ctx,
                    struct ctl_watch **ret_watch, struct lt_err *err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0)
        return lt_err_errno(err, "inotify");
    struct ctl_watch *watch = lt_new(struct ctl_watch);
    *watch = (struct ctl_watch){.loop = loop, .on_change = on_change, .ctx = ctx};
    lt_io_init(&watch->io, on_events);
    watch->io.fd = fd;
    lt_timer_init(&watch->quiet, on_quiet);
    snprintf(watch->dir, sizeof(watch->dir), "%s", dir);
    watch_all(watch);
    lt_loop_io_set(loop, &watch->io, EPOLLIN);
    *ret_watch = watch;
    return LT_OK;
}
