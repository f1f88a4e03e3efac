/*
 * net/tree.c - walking a tree: names first, then one after the other, links to directories at last.
 */
#include "net/tree.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/str.h"
#include "base/vec.h"

struct place {
    dev_t device;
    ino_t inode;
};

struct walk {
    const struct lt_tree_visitor *visitor;
    struct place *visited; /* owned; directories */
    size_t visited_count, visited_cap;
    struct lt_vec links; /* char *, owned: paths of links to directories */
};

/* False: it was visited already. */
static bool visit(struct walk *w, const struct stat *st)
{
    for (size_t i = 0; i < w->visited_count; i++) {
        if (w->visited[i].device == st->st_dev && w->visited[i].inode == st->st_ino)
            return false;
    }
    if (w->visited_count == w->visited_cap) {
        w->visited_cap = w->visited_cap == 0 ? 16 : w->visited_cap * 2;
        w->visited = lt_realloc(w->visited, w->visited_cap * sizeof(*w->visited));
    }
    w->visited[w->visited_count++] = (struct place){st->st_dev, st->st_ino};
    return true;
}

static int cmp_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the directory, sorted; the caller frees them. */
static lt_rc list_names(const char *dir, struct lt_vec *ret_names, struct lt_err *err)
{
    DIR *handle = opendir(dir);
    if (handle == NULL)
        return lt_err_errno(err, "can't open directory %s", dir);
    for (const struct dirent *entry; (entry = readdir(handle)) != NULL;) {
        if (entry->d_name[0] != '.')
            lt_vec_push(ret_names, lt_str_dupz(lt_str_of(entry->d_name)));
    }
    closedir(handle);
    lt_sort(ret_names->items, ret_names->count, sizeof(void *), cmp_names);
    return LT_OK;
}

static lt_rc walk_dir(struct walk *w, const char *dir, unsigned depth, bool is_link,
                      struct lt_err *err);

static void walk_below(struct walk *w, const char *path, unsigned depth, bool is_link)
{
    struct lt_err err = {0};
    lt_rc rc = depth > LT_TREE_DEPTH_MAX
                   ? lt_err_set(&err, LT_E_LIMIT, "%s: directories nested more than %d deep", path,
                                LT_TREE_DEPTH_MAX)
                   : walk_dir(w, path, depth, is_link, &err);
    if (rc != LT_OK && w->visitor->on_error != NULL)
        w->visitor->on_error(w->visitor->ctx, path, &err);
}

static void walk_name(struct walk *w, const char *dir, const char *name, unsigned depth)
{
    char path[PATH_MAX];
    struct stat st, target;
    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path) ||
        lstat(path, &st) != 0)
        return; /* gone between two looks */
    bool is_link = S_ISLNK(st.st_mode);
    if (S_ISDIR(st.st_mode) && visit(w, &st))
        walk_below(w, path, depth + 1, false);
    else if (is_link && stat(path, &target) == 0 && S_ISDIR(target.st_mode))
        lt_vec_push(&w->links, lt_str_dupz(lt_str_of(path)));
    else if (!S_ISDIR(st.st_mode) && w->visitor->on_file != NULL)
        w->visitor->on_file(w->visitor->ctx, path, is_link);
}

static lt_rc walk_dir(struct walk *w, const char *dir, unsigned depth, bool is_link,
                      struct lt_err *err)
{
    struct lt_vec names = {0};
    if (w->visitor->on_dir != NULL)
        w->visitor->on_dir(w->visitor->ctx, dir, is_link);
    lt_rc rc = list_names(dir, &names, err);
    for (size_t i = 0; i < names.count; i++) {
        walk_name(w, dir, names.items[i], depth);
        free(names.items[i]);
    }
    lt_vec_fini(&names);
    return rc;
}

/* What they lead to may have links of its own, which come after them. */
static void walk_links(struct walk *w)
{
    for (size_t i = 0; i < w->links.count; i++) {
        struct stat st;
        char *path = w->links.items[i];
        if (stat(path, &st) == 0 && visit(w, &st))
            walk_below(w, path, 1, true);
        free(path);
    }
}

lt_rc lt_tree_walk(const char *dir, const struct lt_tree_visitor *visitor, struct lt_err *err)
{
    struct walk w = {.visitor = visitor};
    struct stat st;
    if (stat(dir, &st) == 0)
        (void)visit(&w, &st);
    lt_rc rc = walk_dir(&w, dir, 0, false, err);
    walk_links(&w);
    lt_vec_fini(&w.links);
    free(w.visited);
    return rc;
}
