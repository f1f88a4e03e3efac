/*
 * ctl/state.h - where a mesh keeps its files while it runs, and how the other commands find it.
 *
 *     <base>/<id>.lock        locked by `lateen up` and all that it starts; holds its pid
 *     <base>/<id>/ base: /run/lateen, or $XDG_RUNTIME_DIR/lateen; id: a hash of the manifests'
 *     directory
 *         dir                the manifests' directory
 *         ctl.sock           the control socket (control.h)
 *         logs/<workload>/<container>.log
 *         live/              Kubernetes objects as they are now, for lateend
 *         istiod/            lateend's own: its root certificate
 *         stage/             empty directory that containers build their root on
 * Nothing here survives the mesh, or, when it was killed, the next up or down of the same user.
 */
#ifndef LT_CTL_STATE_H
#define LT_CTL_STATE_H

#include <limits.h>

#include "base/err.h"

struct ctl_state {
    char path[PATH_MAX / 2];
    char dir[PATH_MAX / 2]; /* real path of the manifests */
    int lock_fd;            /* -1: not the owner */
};

/* path of the file `name` of the state directory; returns out. */
const char *ctl_state_path(const struct ctl_state *state, const char *name, char out[PATH_MAX]);

/*
 * For `up`: takes the lock, clears what an earlier mesh left, makes the directories. LT_E_EXISTS:
 * it runs already.
 */
LT_MUST lt_rc ctl_state_claim(const char *manifests, struct ctl_state *ret_state,
                              struct lt_err *err);
/* Removes all of it and lets the lock go. */
void ctl_state_release(struct ctl_state *state);

/* What a mesh left that was killed; waits for its end. LT_E_EXISTS: it runs. */
LT_MUST lt_rc ctl_state_clear(struct ctl_state *state, struct lt_err *err);
/* The same for all of this user's, without waiting; how many there were. */
unsigned ctl_state_clear_dead(void);

/* Finds the mesh of `manifests`; running or not. LT_E_NOT_FOUND. */
LT_MUST lt_rc ctl_state_find(const char *manifests, struct ctl_state *ret_state,
                             struct lt_err *err);
/*
 * The running mesh that a command means: that of `manifests`; NULL: that of the working directory
 * or one above it, else the only one. The error lists what runs.
 */
LT_MUST lt_rc ctl_state_find_running(const char *manifests, struct ctl_state *ret_state,
                                     struct lt_err *err);
bool ctl_state_is_running(const struct ctl_state *state);

#endif
