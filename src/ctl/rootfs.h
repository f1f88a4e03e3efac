/*
 * ctl/rootfs.h - what a container sees as its file system.
 * The host's, read-only, with /proc, /sys, /dev, /run and /tmp of its own, and what its pod mounts
 * into it. Paths that the host does not have are made in a copy of their directory (rootfs.c), so
 * nothing is ever written to the host. Runs in the container's first process, inside its new mount,
 * PID and network namespaces.
 */
#ifndef LT_CTL_ROOTFS_H
#define LT_CTL_ROOTFS_H

#include <sys/types.h>

#include "base/err.h"

typedef enum {
    CTL_MOUNT_BIND,   /* a directory or file of the host (source) */
    CTL_MOUNT_VOLUME, /* a directory of the Pod's own (source: "group/name", volumes.h) */
    CTL_MOUNT_FILE,   /* a small read-only file with this text */
} ctl_mount_kind;

#define CTL_EMPTY_DIRS "empty" /* the group of a Pod's emptyDirs */

struct ctl_mount_file {
    const char *path; /* in the directory */
    lt_str text;
};

struct ctl_mount {
    ctl_mount_kind kind;
    const char *target; /* absolute */
    const char *source; /* BIND, VOLUME */
    lt_str text;        /* FILE */
    bool is_read_only;  /* BIND, VOLUME */
    uid_t uid;          /* VOLUME: whose, and who may what, when it is made */
    gid_t gid;
    mode_t mode;
    const struct ctl_mount_file *files; /* VOLUME: what is in it from the start */
    size_t file_count;
};

enum { CTL_MOUNTS_MAX = 64 };

/*
 * Builds it on the empty directory `stage` and makes it the root of the caller's mount namespace;
 * the working directory is "/" then. Mounts are made in the order given. LT_E_BAD for a target that
 * cannot be. volumes: the directory with the Pod's.
 */
LT_MUST lt_rc ctl_rootfs_enter(const char *stage, const char *volumes,
                               const struct ctl_mount *mounts, size_t count, struct lt_err *err);

#endif
