/*
 * ctl/watch.h - tells when something below a directory has changed (inotify, with all directories
 * below it). A burst (git checkout, an editor's save) is told once, after it has been quiet for a
 * moment.
 */
#ifndef LT_CTL_WATCH_H
#define LT_CTL_WATCH_H

#include "net/loop.h"

struct ctl_watch;
typedef void ctl_watch_fn(void *ctx);

LT_MUST lt_rc ctl_watch_new(struct lt_loop *loop, const char *dir, ctl_watch_fn *on_change,
                            void *ctx, struct ctl_watch **ret_watch, struct lt_err *err);

#endif
