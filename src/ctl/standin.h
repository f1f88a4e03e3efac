/*
 * ctl/standin.h - the server that answers in place of a program that is not on this machine.
 * It says in JSON who it is and what it saw, and calls other services when told to, so that chains
 * work:
 *     /call?url=http://ratings:9080/&url=... calls these, all at once, and shows what they answered
 *     LATEEN_CALLS=http://a/,http://b/         the same for every other path
 *     /status/503   answers with that status       /delay/250   answers after so many milliseconds
 * Trust: callers are strangers within the mesh; calls, sizes and times are limited.
 */
#ifndef LT_CTL_STANDIN_H
#define LT_CTL_STANDIN_H

#include "base/env.h"
#include "base/err.h"

struct ctl_standin_opts {
    const uint16_t *ports;
    size_t port_count;
    const char *pod, *ns, *workload, *version; /* "" when not known */
    const char *calls;                         /* comma list; "" */
};

/* Until SIGTERM or SIGINT. The error names a port that is taken. */
LT_MUST lt_rc ctl_standin_run(const struct lt_env *env, const struct ctl_standin_opts *opts,
                              struct lt_err *err);

#endif
