/*
 * ctl/container.h - one container: a process in namespaces of its own with a small init in front of
 * it. The init (PID 1 of the container) passes signals on, reaps orphans, and ends with the
 * program's exit code; when it is killed, all inside dies.
 * Not here: which containers a pod has and when they start (pod.h).
 */
#ifndef LT_CTL_CONTAINER_H
#define LT_CTL_CONTAINER_H

#include "ctl/rootfs.h"

/* Everything is borrowed for the call. */
struct ctl_container_spec {
    const char *hostname;
    const char *stage;   /* an empty directory, for the new root */
    const char *volumes; /* the directory with the Pod's (volumes.h) */
    int netns_fd;
    const char *const *argv; /* argv[0] is found by PATH of env; NULL at the end */
    const char *const *env;  /* "NAME=value", NULL at the end */
    const char *working_dir; /* "/" when NULL */
    uid_t uid;
    gid_t gid;
    const struct ctl_mount *mounts;
    size_t mount_count;
    int log_fd;   /* stdout and stderr */
    int extra_fd; /* becomes extra_at (3 or more); -1: none */
    int extra_at;
};

struct ctl_container {
    int pidfd;    /* of its init; readable when it has ended */
    pid_t pid;    /* of its init, as the node sees it */
    int start_fd; /* readable when it has started (end of file) or failed to (a message) */
};

LT_MUST lt_rc ctl_container_start(const struct ctl_container_spec *spec, struct ctl_container *ret,
                                  struct lt_err *err);
/*
 * To be called when start_fd is readable; closes it. LT_OK: the program runs. Otherwise err says
 * why it does not, and the process is about to end.
 */
LT_MUST lt_rc ctl_container_started(struct ctl_container *container, struct lt_err *err);

#endif
