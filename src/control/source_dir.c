/*
 * control/source_dir.c - inotify over directories of manifests.
 * A watch says only that something is different; what, the reading finds out. So a lost event (an
 * overflow) costs nothing but time.
 */
#include "control/source_dir.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

struct cp_source_dir {
    struct lt_manifests *manifests;      /* owned */
    lt_str dirs[CP_SOURCE_DIRS_MAX + 1]; /* owned; the live one is the last */
    size_t dir_count;
    int fd;
    size_t watch_count;
    uint64_t first_ns; /* of the changes not read yet; 0: none */
    uint64_t last_ns;
};

/*
 * The names are watched, not only the files: editors and `git checkout` put a new file in the old
 * one's place.
 */
static const uint32_t watched = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO |
                                IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR;

static void watch_tree(struct cp_source_dir *s, const char *dir, unsigned depth)
{
    if (depth > LT_MANIFEST_DIR_DEPTH_MAX || s->watch_count >= CP_SOURCE_WATCHES_MAX)
        return;
    /* one that is watched already gives its old number again */
    if (inotify_add_watch(s->fd, dir, watched) < 0)
        return;
    s->watch_count++;
    DIR *handle = opendir(dir);
    if (handle == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(handle)) != NULL;) {
        char path[PATH_MAX];
        struct stat st;
        bool fits = (size_t)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) <
                    sizeof(path);
        if (entry->d_name[0] != '.' && fits && lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            watch_tree(s, path, depth + 1);
    }
    closedir(handle);
}

static void add_dir(struct cp_source_dir *s, lt_str dir)
{
    s->dirs[s->dir_count++] = lt_str_make(lt_str_dupz(dir), dir.len);
}

lt_rc cp_source_dir_open(const lt_str *dirs, size_t count, lt_str live_dir,
                         struct cp_source_dir **ret_source, struct lt_err *err)
{
    if (count > CP_SOURCE_DIRS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d directories", CP_SOURCE_DIRS_MAX);
    struct cp_source_dir *s = lt_new(struct cp_source_dir);
    s->manifests = lt_manifests_new();
    s->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    for (size_t i = 0; i < count; i++)
        add_dir(s, dirs[i]);
    if (live_dir.len > 0) {
        lt_manifests_set_live(s->manifests, live_dir);
        add_dir(s, live_dir);
    }
    lt_rc rc = s->fd < 0 ? lt_err_errno(err, "can't watch directories")
                         : cp_source_dir_reload(s, err);
    if (rc != LT_OK) {
        cp_source_dir_free(&s);
        return rc;
    }
    *ret_source = s;
    return LT_OK;
}

void cp_source_dir_free(struct cp_source_dir **source)
{
    struct cp_source_dir *s = *source;
    *source = NULL;
    if (s == NULL)
        return;
    if (s->fd >= 0)
        close(s->fd);
    for (size_t i = 0; i < s->dir_count; i++)
        free((char *)s->dirs[i].ptr);
    lt_manifests_free(&s->manifests);
    free(s);
}

int cp_source_dir_fd(const struct cp_source_dir *source)
{
    return source->fd;
}

struct lt_manifests *cp_source_dir_manifests(struct cp_source_dir *source)
{
    return source->manifests;
}

lt_rc cp_source_dir_events(struct cp_source_dir *source, uint64_t now_ns, uint64_t quiet_ns,
                           uint64_t max_ns, uint64_t *ret_due_ns, struct lt_err *err)
{
    char events[8192] __attribute__((aligned(__alignof__(struct inotify_event))));
    for (int turns = 0; turns < 64; turns++) {
        ssize_t n = read(source->fd, events, sizeof(events));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            return lt_err_errno(err, "can't read changes of directories");
        if (n <= 0)
            break;
        source->last_ns = now_ns;
        if (source->first_ns == 0)
            source->first_ns = now_ns;
    }
    *ret_due_ns = UINT64_MAX;
    if (source->first_ns != 0)
        *ret_due_ns = LT_MIN(source->last_ns + quiet_ns, source->first_ns + max_ns);
    return LT_OK;
}

/*
 * New directories are watched before they are read: what comes into them meanwhile is an event, not
 * a loss.
 */
lt_rc cp_source_dir_reload(struct cp_source_dir *source, struct lt_err *err)
{
    lt_rc first = LT_OK;
    source->first_ns = source->last_ns = 0;
    source->watch_count = 0;
    for (size_t i = 0; i < source->dir_count; i++) {
        watch_tree(source, source->dirs[i].ptr, 0);
        lt_rc rc = lt_manifests_load_dir(source->manifests, source->dirs[i],
                                         first == LT_OK ? err : NULL);
        if (first == LT_OK)
            first = rc;
    }
    return first;
}
