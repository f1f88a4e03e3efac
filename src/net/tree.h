/*
 * net/tree.h - a directory and all below it, as manifests are laid out: without hidden names, in
 * the order of names, symbolic links followed. Each real directory is visited once: links to
 * directories come last, and one that leads back is no loop. A Kubernetes ConfigMap mount is such a
 * tree: its files and directories are links into a hidden one.
 */
#ifndef LT_NET_TREE_H
#define LT_NET_TREE_H

#include "base/err.h"

enum { LT_TREE_DEPTH_MAX = 16 }; /* of real directories, also below a link */

struct lt_tree_visitor {
    /* Before what is in it. May be NULL, as the others. */
    void (*on_dir)(void *ctx, const char *path, bool is_link);
    /* Whatever is no directory: it may be gone when it is looked at, or a link to nothing. */
    void (*on_file)(void *ctx, const char *path, bool is_link);
    /* A directory below that can't be read, or is too deep. */
    void (*on_error)(void *ctx, const char *path, const struct lt_err *err);
    void *ctx;
};

/* LT_E_IO: the directory itself can't be read. */
LT_MUST lt_rc lt_tree_walk(const char *dir, const struct lt_tree_visitor *visitor,
                           struct lt_err *err);

#endif
