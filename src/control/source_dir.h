/*
 * control/source_dir.h - directories of manifests, followed as they change.
 * inotify says that something changed; then the directories are read again whole (unchanged files
 * cost one hash). A burst of changes (an editor, `git checkout`) is waited out.
 */
#ifndef CP_CONTROL_SOURCE_DIR_H
#define CP_CONTROL_SOURCE_DIR_H

#include "model/load.h"

enum { CP_SOURCE_DIRS_MAX = 16, CP_SOURCE_WATCHES_MAX = 4096 };

struct cp_source_dir;

/*
 * dirs are copied, and live_dir, whose files complete those of the others (lt_manifests_set_live;
 * empty: there is none). Each must be there. The first reading has been done when this returns.
 */
LT_MUST lt_rc cp_source_dir_open(const lt_str *dirs, size_t count, lt_str live_dir,
                                 struct cp_source_dir **ret_source, struct lt_err *err);
void cp_source_dir_free(struct cp_source_dir **source);

/* Readable when something has changed; for the loop. */
int cp_source_dir_fd(const struct cp_source_dir *source);
/*
 * Takes the events off the descriptor. Says when the directories should be read: *ret_due_ns is
 * `quiet_ns` after the last event, but not later than `max_ns` after the first (monotonic clock);
 * UINT64_MAX: nothing has changed.
 */
LT_MUST lt_rc cp_source_dir_events(struct cp_source_dir *source, uint64_t now_ns, uint64_t quiet_ns,
                                   uint64_t max_ns, uint64_t *ret_due_ns, struct lt_err *err);
/*
 * Reads the directories again and watches new ones. What can't be read is a note; the rest goes on.
 */
LT_MUST lt_rc cp_source_dir_reload(struct cp_source_dir *source, struct lt_err *err);
/* What they say; borrowed from the source. */
struct lt_manifests *cp_source_dir_manifests(struct cp_source_dir *source);

#endif
