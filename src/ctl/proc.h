/*
 * ctl/proc.h - processes and files, the few calls that libc does not have in the form `lateen up`
 * needs. Not here: namespaces (userns.h, netns.h), what a container sees (rootfs.h).
 */
#ifndef LT_CTL_PROC_H
#define LT_CTL_PROC_H

#include <sys/types.h>

#include "base/err.h"

/*
 * fork() into new namespaces: flags are CLONE_NEW*. Returns the child's pid as the caller sees it,
 * 0 in the child, -1 with errno. *ret_pidfd (close-on-exec; may be NULL) is the caller's to close.
 * Only for a process with one thread.
 */
pid_t ctl_proc_clone(uint64_t flags, int *ret_pidfd);
/*
 * The exit code of a child whose pidfd has become readable: its code, or 128 + signal. -1 when it
 * is not there to wait for.
 */
int ctl_proc_wait(int pidfd);
/* Like kill(); a process that is gone already is no error. */
void ctl_proc_signal(int pidfd, int signal);

/*
 * As many descriptors as the system allows, for the node (seven a workload) and for every proxy: a
 * shell's usual 1024 is a sidecar's five hundred connections.
 */
void ctl_proc_raise_files(void);

/* Becomes uid/gid without further groups, capabilities or a way to get some back (no_new_privs). */
LT_MUST lt_rc ctl_proc_drop(uid_t uid, gid_t gid, struct lt_err *err);

/* Whole files. Reading is limited; the result has a NUL behind and is freed with free(). */
LT_MUST lt_rc ctl_file_read(const char *path, size_t bytes_max, char **ret_text, size_t *ret_len,
                            struct lt_err *err);
LT_MUST lt_rc ctl_file_write(const char *path, lt_str text, mode_t mode, struct lt_err *err);
/* Writes beside it and renames, so that a reader sees the old text or the new one. */
LT_MUST lt_rc ctl_file_replace(const char *path, lt_str text, mode_t mode, struct lt_err *err);
/* mkdir -p; existing directories are left as they are. */
LT_MUST lt_rc ctl_mkdirs(const char *path, mode_t mode, struct lt_err *err);
/* rm -rf, without following links or leaving the file system. What cannot be removed stays. */
void ctl_remove_tree(const char *path);
/*
 * Where `name` is found by PATH (or is itself, with a slash) as an executable file; false when
 * nowhere.
 */
bool ctl_find_program(const char *name, const char *path_list, char *out, size_t size);

#endif
