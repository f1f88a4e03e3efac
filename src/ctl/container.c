/*
 * ctl/container.c - from a spec to a running program.
 *
 *     node ── clone(PID, mount, IPC, UTS) ── its init: enters the network, builds the root
 *                                              └─ fork ── the program: drops all privileges, execve
 *
 * Start at: ctl_container_start(), init_main().
 */
#include "ctl/container.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/proc.h"

_Noreturn static void fail(int start_fd, const struct lt_err *err)
{
    ssize_t ignored = write(start_fd, err->text, strlen(err->text));
    (void)ignored;
    _exit(127);
}

/* --- the program --- */

enum { HIGH_FD = 64 /* out of the way of those that the program gets */ };

/*
 * Descriptors 0 to 2 and the extra one; the others end by execve, or here. *start_fd moves out of
 * their way. The pipe behind 1 and 2 becomes the program's own, as container runtimes have it: it
 * may open /dev/stdout by name.
 */
static lt_rc arrange_fds(const struct ctl_container_spec *spec, int *start_fd, struct lt_err *err)
{
    int high = fcntl(*start_fd, F_DUPFD_CLOEXEC, HIGH_FD), extra = -1;
    if (high < 0)
        return lt_err_errno(err, "moving a descriptor");
    *start_fd = high;
    if (spec->extra_fd >= 0 && (extra = fcntl(spec->extra_fd, F_DUPFD_CLOEXEC, HIGH_FD)) < 0)
        return lt_err_errno(err, "moving a descriptor");
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(spec->log_fd, STDOUT_FILENO) < 0 ||
        dup2(spec->log_fd, STDERR_FILENO) < 0 || fchown(spec->log_fd, spec->uid, spec->gid) < 0)
        return lt_err_errno(err, "standard streams");
    syscall(SYS_close_range, STDERR_FILENO + 1, HIGH_FD - 1, 0);
    if (extra >= 0 && dup2(extra, spec->extra_at) < 0) /* which stays open over execve */
        return lt_err_errno(err, "descriptor %d", spec->extra_at);
    return LT_OK;
}

static const char *env_value(const char *const *env, const char *name)
{
    size_t len = strlen(name);
    for (; *env != NULL; env++) {
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    }
    return NULL;
}

_Noreturn static void program_main(const struct ctl_container_spec *spec, int start_fd)
{
    struct lt_err err = {0};
    char path[PATH_MAX];
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    if (arrange_fds(spec, &start_fd, &err) != LT_OK ||
        ctl_proc_drop(spec->uid, spec->gid, &err) != LT_OK)
        fail(start_fd, &err);
    const char *dir = spec->working_dir != NULL ? spec->working_dir : "/";
    if (chdir(dir) < 0) {
        (void)lt_err_errno(&err, "working directory %s", dir);
        fail(start_fd, &err);
    }
    if (!ctl_find_program(spec->argv[0], env_value(spec->env, "PATH"), path, sizeof(path))) {
        (void)lt_err_set(&err, LT_E_NOT_FOUND, "%s: no such program", spec->argv[0]);
        fail(start_fd, &err);
    }
    execve(path, (char *const *)(uintptr_t)spec->argv, (char *const *)(uintptr_t)spec->env);
    (void)lt_err_errno(&err, "%s", path);
    fail(start_fd, &err);
}

/* --- its init --- */

static pid_t program_pid; /* for the signal handler, which gets no context */

static void pass_on(int signal)
{
    kill(program_pid, signal);
}

/* Waits for everybody; ends when the program does. */
_Noreturn static void reap(void)
{
    for (;;) {
        int status;
        pid_t pid = wait(&status);
        if (pid < 0 && errno != EINTR)
            _exit(127);
        if (pid == program_pid)
            _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
}

static lt_rc enter(const struct ctl_container_spec *spec, struct lt_err *err)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* the node's memory is in here, with its signing key: nothing for the program to read */
    prctl(PR_SET_DUMPABLE, 0);
    if (setns(spec->netns_fd, CLONE_NEWNET) < 0)
        return lt_err_errno(err, "entering the workload's network");
    if (sethostname(spec->hostname, strlen(spec->hostname)) < 0)
        return lt_err_errno(err, "setting the host name");
    return ctl_rootfs_enter(spec->stage, spec->volumes, spec->mounts, spec->mount_count, err);
}

_Noreturn static void init_main(const struct ctl_container_spec *spec, int start_fd)
{
    static const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    struct lt_err err = {0};
    sigset_t held;
    sigfillset(&held);
    sigprocmask(SIG_SETMASK, &held, NULL); /* until the handlers know whom to pass them to */
    if (enter(spec, &err) != LT_OK)
        fail(start_fd, &err);
    program_pid = fork();
    if (program_pid < 0) {
        (void)lt_err_errno(&err, "fork");
        fail(start_fd, &err);
    }
    if (program_pid == 0)
        program_main(spec, start_fd);
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < LT_ARRAY_LEN(passed); i++)
        sigaction(passed[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    syscall(SYS_close_range, 0, ~0u, 0);
    prctl(PR_SET_NAME, "lateen-init", 0, 0, 0);
    if (ctl_proc_drop(spec->uid, spec->gid, &err) != LT_OK)
        _exit(127);
    sigemptyset(&held);
    sigprocmask(SIG_SETMASK, &held, NULL);
    reap();
}

lt_rc ctl_container_start(const struct ctl_container_spec *spec, struct ctl_container *ret,
                          struct lt_err *err)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return lt_err_errno(err, "pipe");
    int pidfd = -1;
    pid_t pid = ctl_proc_clone(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS, &pidfd);
    if (pid == 0)
        init_main(spec, pipe_fds[1]);
    close(pipe_fds[1]);
    if (pid < 0) {
        close(pipe_fds[0]);
        return lt_err_errno(err, "a new container");
    }
    *ret = (struct ctl_container){.pidfd = pidfd, .pid = pid, .start_fd = pipe_fds[0]};
    return LT_OK;
}

lt_rc ctl_container_started(struct ctl_container *container, struct lt_err *err)
{
    char text[LT_ERR_TEXT_MAX];
    ssize_t len;
    do
        len = read(container->start_fd, text, sizeof(text) - 1);
    while (len < 0 && errno == EINTR);
    close(container->start_fd);
    container->start_fd = -1;
    if (len <= 0)
        return LT_OK;
    text[len] = '\0';
    return lt_err_set(err, LT_E_BAD, "%s", text);
}
