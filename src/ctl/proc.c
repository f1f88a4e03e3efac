/*
 * ctl/proc.c - processes and files for `lateen up`.
 */
#include "ctl/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

enum { FILES_MAX = 1 << 20 /* some programs close every one that they could have */ };

pid_t ctl_proc_clone(uint64_t flags, int *ret_pidfd)
{
    int pidfd = -1;
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    if (ret_pidfd != NULL) {
        args.flags |= CLONE_PIDFD;
        args.pidfd = (uint64_t)(uintptr_t)&pidfd;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid > 0 && ret_pidfd != NULL)
        *ret_pidfd = pidfd;
    return pid;
}

int ctl_proc_wait(int pidfd)
{
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        return -1;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

void ctl_proc_signal(int pidfd, int signal)
{
    syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

void ctl_proc_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = LT_MIN(limit.rlim_max, (rlim_t)FILES_MAX);
    setrlimit(RLIMIT_NOFILE, &limit);
}

lt_rc ctl_proc_drop(uid_t uid, gid_t gid, struct lt_err *err)
{
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EINVAL)
            return lt_err_errno(err, "dropping capability %d", cap);
    }
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return lt_err_errno(err, "becoming uid %u gid %u", uid, gid);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capset, &header, none) < 0)
        return lt_err_errno(err, "dropping capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return lt_err_errno(err, "setting no_new_privs");
    return LT_OK;
}

lt_rc ctl_file_read(const char *path, size_t bytes_max, char **ret_text, size_t *ret_len,
                    struct lt_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return lt_err_errno(err, "%s", path);
    size_t len = 0, cap = 4096;
    char *text = lt_malloc(cap + 1);
    for (;;) {
        ssize_t got = read(fd, text + len, cap - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            close(fd);
            if (got < 0) {
                free(text);
                return lt_err_errno(err, "%s", path);
            }
            text[len] = '\0';
            *ret_text = text;
            *ret_len = len;
            return LT_OK;
        }
        len += (size_t)got;
        if (len > bytes_max) {
            close(fd);
            free(text);
            return lt_err_set(err, LT_E_LIMIT, "%s: larger than %zu bytes", path, bytes_max);
        }
        if (len == cap)
            text = lt_realloc(text, (cap *= 2) + 1);
    }
}

lt_rc ctl_file_write(const char *path, lt_str text, mode_t mode, struct lt_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return lt_err_errno(err, "%s", path);
    lt_rc rc = lt_fd_write_all(fd, text);
    if (rc != LT_OK)
        rc = lt_err_errno(err, "%s", path);
    close(fd);
    return rc;
}

lt_rc ctl_file_replace(const char *path, lt_str text, mode_t mode, struct lt_err *err)
{
    char beside[PATH_MAX];
    /* a leading dot, so that whoever reads the directory passes over it */
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    snprintf(beside, sizeof(beside), "%.*s.%s.new", (int)(name - path), path, name);
    LT_TRY(ctl_file_write(beside, text, mode, err));
    if (rename(beside, path) < 0) {
        unlink(beside);
        return lt_err_errno(err, "%s", path);
    }
    return LT_OK;
}

lt_rc ctl_mkdirs(const char *path, mode_t mode, struct lt_err *err)
{
    char part[PATH_MAX];
    if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
        return lt_err_set(err, LT_E_LIMIT, "%s: path too long", path);
    for (char *at = part + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return lt_err_errno(err, "mkdir %s", part);
        *at = '/';
    }
    if (mkdir(part, mode) < 0 && errno != EEXIST)
        return lt_err_errno(err, "mkdir %s", part);
    return LT_OK;
}

static int remove_one(const char *path, const struct stat *stat LT_UNUSED, int type LT_UNUSED,
                      struct FTW *ftw LT_UNUSED)
{
    remove(path);
    return 0;
}

void ctl_remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool ctl_find_program(const char *name, const char *path_list, char *out, size_t size)
{
    if (strchr(name, '/') != NULL)
        return (size_t)snprintf(out, size, "%s", name) < size && is_program(name);
    lt_str rest = lt_str_of(path_list), dir;
    while (lt_str_split(&rest, ':', &dir)) {
        int len = snprintf(out, size, "%.*s/%s", LT_STR_ARG(dir), name);
        if (dir.len > 0 && (size_t)len < size && is_program(out))
            return true;
    }
    return false;
}
