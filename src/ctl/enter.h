/*
 * ctl/enter.h - into a running container, from another command: its namespaces, then its user,
 * without its privileges growing.
 */
#ifndef LT_CTL_ENTER_H
#define LT_CTL_ENTER_H

#include <sys/types.h>

#include "base/arena.h"
#include "ctl/state.h"

struct ctl_inside {
    uid_t uid;
    gid_t gid;
    const char *working_dir;
    char **env; /* NULL at the end; in the arena */
};

/*
 * Steps into the namespaces of the workload's container (empty: its first); only children are in
 * its PID namespace. LT_E_BAD: what the mesh says. There is no way back.
 */
LT_MUST lt_rc ctl_enter(const struct ctl_state *state, lt_str workload, lt_str container,
                        struct lt_arena *arena, struct ctl_inside *ret_inside, struct lt_err *err);

/*
 * Runs `child` in a new process inside, as the container's user in its working directory. Its exit
 * code (128 + signal), like a shell's.
 */
int ctl_enter_run(const struct ctl_inside *inside,
                  int (*child)(const struct ctl_inside *inside, void *ctx), void *ctx);

#endif
