/*
 * net/watch.h - says that something about files has changed, not what: that, reading finds out, and
 * so a lost event (an overflow of the queue) costs nothing but a reading.
 * Names are watched, not only what they stand for: editors, `git checkout` and Kubernetes put a new
 * file or link in the old one's place, also where a link leads. What is watched is said anew for
 * each reading, before it, so that nothing falls between the two.
 * Start at: lt_watch_begin().
 */
#ifndef LT_NET_WATCH_H
#define LT_NET_WATCH_H

#include "base/err.h"

enum { LT_WATCH_DIRS_MAX = 8192 };

struct lt_watch;

LT_MUST lt_rc lt_watch_new(struct lt_watch **ret_watch, struct lt_err *err);
void lt_watch_free(struct lt_watch **watch);
/* Readable when there are events. */
int lt_watch_fd(const struct lt_watch *watch);

void lt_watch_begin(struct lt_watch *watch);
/* A directory and all below it (tree.h), and the places that its links lead over. */
void lt_watch_add_tree(struct lt_watch *watch, const char *dir);
/* A file or directory under this name, which need not be there yet (but the directory of it). */
void lt_watch_add_path(struct lt_watch *watch, const char *path);
/*
 * What was not added since the begin is let go. False: something can't be watched (too many, no
 * rights, not there): look again after a while.
 */
LT_MUST bool lt_watch_end(struct lt_watch *watch);

/* Takes the events. True: something of it has changed. */
LT_MUST bool lt_watch_read(struct lt_watch *watch);

#endif
