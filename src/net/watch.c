/*
 * net/watch.c - inotify on directories: of some any name counts, of others (those in which a link
 * or a root lies) a few names.
 */
#include "net/watch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/str.h"
#include "base/vec.h"
#include "net/tree.h"

enum { LINKS_MAX = 40, NAMES_MAX = 64, READS_MAX = 64 };

static const uint32_t watched = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO |
                                IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR;

/* A directory. */
struct spot {
    int wd;
    bool is_any;         /* any name counts; else: */
    struct lt_vec names; /* char *, owned */
};

struct spots {
    struct spot *items; /* owned */
    size_t count, cap;
};

struct lt_watch {
    int fd;
    struct spots now; /* sorted by wd once they are ended */
    struct spots before;
    bool is_whole; /* everything so far is watched */
};

/* ---- spots ---- */

static void free_spots(struct spots *spots)
{
    for (size_t i = 0; i < spots->count; i++) {
        for (size_t j = 0; j < spots->items[i].names.count; j++)
            free(spots->items[i].names.items[j]);
        lt_vec_fini(&spots->items[i].names);
    }
    free(spots->items);
    *spots = (struct spots){0};
}

static int cmp_spots(const void *a, const void *b)
{
    int x = ((const struct spot *)a)->wd, y = ((const struct spot *)b)->wd;
    return x < y ? -1 : x > y;
}

static const struct spot *find_spot(const struct spots *spots, int wd)
{
    const struct spot like = {.wd = wd};
    return spots->count == 0 ? NULL
                             : bsearch(&like, spots->items, spots->count, sizeof(like), cmp_spots);
}

static void add_spot(struct spots *spots, struct spot spot)
{
    if (spots->count == spots->cap) {
        spots->cap = spots->cap == 0 ? 16 : spots->cap * 2;
        spots->items = lt_realloc(spots->items, spots->cap * sizeof(*spots->items));
    }
    spots->items[spots->count++] = spot;
}

/* Sorted, and one for each directory. */
static void settle(struct spots *spots)
{
    size_t kept = 0;
    lt_sort(spots->items, spots->count, sizeof(*spots->items), cmp_spots);
    for (size_t i = 0; i < spots->count; i++) {
        struct spot *spot = &spots->items[i];
        if (kept == 0 || spots->items[kept - 1].wd != spot->wd) {
            spots->items[kept++] = *spot;
            continue;
        }
        struct spot *first = &spots->items[kept - 1];
        for (size_t j = 0; j < spot->names.count; j++)
            lt_vec_push(&first->names, spot->names.items[j]);
        lt_vec_fini(&spot->names);
        first->is_any |= spot->is_any || first->names.count > NAMES_MAX;
    }
    spots->count = kept;
}

/* name NULL: any. */
static void add_dir(struct lt_watch *w, const char *dir, const char *name)
{
    int wd = w->now.count >= LT_WATCH_DIRS_MAX ? -1 : inotify_add_watch(w->fd, dir, watched);
    if (wd < 0) {
        w->is_whole = false;
        return;
    }
    struct spot spot = {.wd = wd, .is_any = name == NULL};
    if (name != NULL)
        lt_vec_push(&spot.names, lt_str_dupz(lt_str_of(name)));
    add_spot(&w->now, spot);
}

/* ---- paths ---- */

/* The directory and the name of a path; "/" and "." have none. */
static bool split(const char *path, char dir[PATH_MAX], char name[NAME_MAX + 1])
{
    lt_str text = lt_str_of(path);
    while (text.len > 1 && text.ptr[text.len - 1] == '/')
        text.len--;
    ptrdiff_t slash = lt_str_rfind_char(text, '/');
    lt_str last = lt_str_from(text, (size_t)(slash + 1));
    if (last.len == 0 || last.len > NAME_MAX || text.len >= PATH_MAX)
        return false;
    snprintf(name, NAME_MAX + 1, "%.*s", LT_STR_ARG(last));
    if (slash > 0)
        snprintf(dir, PATH_MAX, "%.*s", (int)slash, text.ptr);
    else
        snprintf(dir, PATH_MAX, "%s", slash == 0 ? "/" : ".");
    return true;
}

/* Replaces path by what the link at its first `end` bytes leads to, and the rest of it. */
static bool follow(char path[PATH_MAX], size_t end)
{
    char target[PATH_MAX], link[PATH_MAX], dir[PATH_MAX], name[NAME_MAX + 1], next[PATH_MAX];
    snprintf(link, sizeof(link), "%.*s", (int)end, path);
    ssize_t len = readlink(link, target, sizeof(target) - 1);
    if (len <= 0 || !split(link, dir, name))
        return false;
    target[len] = '\0';
    int used = target[0] == '/' ? snprintf(next, sizeof(next), "%s%s", target, path + end)
                                : snprintf(next, sizeof(next), "%s/%s%s", dir, target, path + end);
    if (used < 0 || used >= PATH_MAX)
        return false;
    memcpy(path, next, (size_t)used + 1);
    return true;
}

/* The length of the first part of path that is a link; 0: none is. */
static size_t find_link(const char *path)
{
    char part[PATH_MAX], unused[1];
    for (const char *at = path; *at != '\0';) {
        at += strspn(at, "/");
        at += strcspn(at, "/");
        snprintf(part, sizeof(part), "%.*s", (int)(at - path), path);
        if (readlink(part, unused, sizeof(unused)) >= 0)
            return (size_t)(at - path);
    }
    return 0;
}

void lt_watch_add_path(struct lt_watch *watch, const char *path)
{
    char at[PATH_MAX], dir[PATH_MAX], name[NAME_MAX + 1];
    if (path[0] == '\0' || strlen(path) >= sizeof(at))
        return;
    snprintf(at, sizeof(at), "%s", path);
    for (int links = 0; links < LINKS_MAX; links++) {
        size_t end = find_link(at);
        char part[PATH_MAX];
        snprintf(part, sizeof(part), "%.*s", end > 0 ? (int)end : PATH_MAX - 1, at);
        if (split(part, dir, name))
            add_dir(watch, dir, name);
        if (end == 0 || !follow(at, end))
            return;
    }
}

static void on_tree_dir(void *ctx, const char *path, bool is_link)
{
    add_dir(ctx, path, NULL);
    if (is_link)
        lt_watch_add_path(ctx, path);
}

static void on_tree_file(void *ctx, const char *path, bool is_link)
{
    if (is_link)
        lt_watch_add_path(ctx, path);
}

static void on_tree_error(void *ctx, const char *path, const struct lt_err *err)
{
    (void)path;
    (void)err;
    ((struct lt_watch *)ctx)->is_whole = false;
}

void lt_watch_add_tree(struct lt_watch *watch, const char *dir)
{
    const struct lt_tree_visitor visitor = {on_tree_dir, on_tree_file, on_tree_error, watch};
    lt_watch_add_path(watch, dir);
    if (lt_tree_walk(dir, &visitor, NULL) != LT_OK)
        watch->is_whole = false;
}

/* ---- life ---- */

lt_rc lt_watch_new(struct lt_watch **ret_watch, struct lt_err *err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0)
        return lt_err_errno(err, "can't watch files");
    *ret_watch = lt_new(struct lt_watch);
    (*ret_watch)->fd = fd;
    return LT_OK;
}

void lt_watch_free(struct lt_watch **watch)
{
    struct lt_watch *w = *watch;
    *watch = NULL;
    if (w == NULL)
        return;
    free_spots(&w->now);
    free_spots(&w->before);
    close(w->fd);
    free(w);
}

int lt_watch_fd(const struct lt_watch *watch)
{
    return watch->fd;
}

void lt_watch_begin(struct lt_watch *watch)
{
    free_spots(&watch->before);
    watch->before = watch->now;
    watch->now = (struct spots){0};
    watch->is_whole = true;
}

bool lt_watch_end(struct lt_watch *watch)
{
    settle(&watch->now);
    for (size_t i = 0; i < watch->before.count; i++) {
        if (find_spot(&watch->now, watch->before.items[i].wd) == NULL)
            inotify_rm_watch(watch->fd, watch->before.items[i].wd);
    }
    free_spots(&watch->before);
    return watch->is_whole;
}

/* ---- events ---- */

static bool counts(const struct lt_watch *w, const struct inotify_event *event)
{
    const struct spot *spot = find_spot(&w->now, event->wd);
    if (event->mask & IN_Q_OVERFLOW)
        return true;
    if (spot == NULL || (event->mask & IN_IGNORED))
        return false;
    if (spot->is_any || event->len == 0)
        return true;
    for (size_t i = 0; i < spot->names.count; i++) {
        if (strcmp(spot->names.items[i], event->name) == 0)
            return true;
    }
    return false;
}

bool lt_watch_read(struct lt_watch *watch)
{
    char room[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
    bool has_change = false;
    for (int reads = 0; reads < READS_MAX; reads++) {
        ssize_t len = read(watch->fd, room, sizeof(room));
        if (len < 0 && errno == EINTR)
            continue;
        if (len <= 0)
            break;
        for (char *at = room; at < room + len;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)at;
            has_change |= counts(watch, event);
            at += sizeof(*event) + event->len;
        }
    }
    return has_change;
}
