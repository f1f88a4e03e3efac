/*
 * ctl/userns.h - which users exist inside a mesh: the mapping of its user namespace.
 * Inside, 0 is whoever runs `lateen up`; 1 to 65535 are ids that own nothing on the host: for an
 * ordinary user those that /etc/subuid and /etc/subgid lend (written by newuidmap, newgidmap), for
 * root a range far above all accounts.
 */
#ifndef LT_CTL_USERNS_H
#define LT_CTL_USERNS_H

#include <sys/types.h>

#include "base/err.h"

/*
 * Writes the mapping of process `pid`, which has just been made with CLONE_NEWUSER and waits. The
 * error tells an ordinary user which command is missing.
 */
LT_MUST lt_rc ctl_userns_map(pid_t pid, struct lt_err *err);

/* Whether this kernel and this user can have a mesh at all; one clear message otherwise. */
LT_MUST lt_rc ctl_userns_check(struct lt_err *err);

/*
 * The first range of `user` (or of `uid` in decimal) with at least 65535 ids, in the text of
 * /etc/subuid. LT_E_NOT_FOUND.
 */
LT_MUST lt_rc ctl_subid_find(lt_str text, lt_str user, uid_t uid, uint64_t *ret_first);
/* The first id behind all that the text gives away. */
uint64_t ctl_subid_next(lt_str text);

#endif
