/*
 * control/source_dir.h - directories of manifests, and the file of the mesh configuration, followed
 * as they change. A change is noticed (net/watch.h), a burst of them (an editor, `git checkout`)
 * waited out, and then everything is read again whole: unchanged files cost one hash.
 */
#ifndef CP_CONTROL_SOURCE_DIR_H
#define CP_CONTROL_SOURCE_DIR_H

#include "model/load.h"

enum { CP_SOURCE_DIRS_MAX = 16, CP_SOURCE_RETRY_S = 2 };

struct cp_source_dir;

struct cp_source_opts {
    const lt_str *dirs; /* copied; each must be there */
    size_t dir_count;
    lt_str live_dir;       /* copied; completes the others (lt_manifests_set_live); empty: none */
    const char *mesh_file; /* copied; NULL: none */
};

/* The first reading has been done when this returns. */
LT_MUST lt_rc cp_source_dir_open(const struct cp_source_opts *opts,
                                 struct cp_source_dir **ret_source, struct lt_err *err);
void cp_source_dir_free(struct cp_source_dir **source);

/* Readable when something has changed; for the loop. */
int cp_source_dir_fd(const struct cp_source_dir *source);
/*
 * Takes the events off the descriptor. Says when everything should be read: `quiet_ns` after the
 * last event, but not later than `max_ns` after the first (monotonic clock); UINT64_MAX: nothing
 * has changed.
 */
uint64_t cp_source_dir_events(struct cp_source_dir *source, uint64_t now_ns, uint64_t quiet_ns,
                              uint64_t max_ns);
/*
 * Reads everything again. What can't be read stays as it was; the error is about a whole directory
 * or the mesh configuration, all else are notes.
 */
LT_MUST lt_rc cp_source_dir_reload(struct cp_source_dir *source, struct lt_err *err);
/* Something can't be watched, or is not there: read again after CP_SOURCE_RETRY_S. */
bool cp_source_dir_is_blind(const struct cp_source_dir *source);

/* What they say; borrowed from the source. */
struct lt_manifests *cp_source_dir_manifests(struct cp_source_dir *source);
/* Text of the mesh configuration, empty without one; borrowed until the next reload. */
lt_str cp_source_dir_mesh(const struct cp_source_dir *source);
lt_str cp_source_dir_mesh_path(const struct cp_source_dir *source);

#endif
