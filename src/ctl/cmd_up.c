/*
 * ctl/cmd_up.c - `lateen up DIR`: the supervisor.
 * It stays in the host's namespaces, makes the mesh's, hands host ports in, and waits. All that
 * runs in the mesh hangs on one process (node.h), which the kernel kills when this one dies,
 * whatever the reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/host_port.h"
#include "ctl/node.h"
#include "ctl/proc.h"
#include "ctl/userns.h"

struct supervisor {
    int node_pidfd;
    int broker_fd;
    int signal_fd;
    unsigned signals; /* how often a person has asked for the end */
};

/* --- the node's side of the fork --- */

/* Waits until its ids are mapped; false: the supervisor gave up. */
static bool wait_for_map(int fd)
{
    char go;
    ssize_t len;
    do
        len = read(fd, &go, 1);
    while (len < 0 && errno == EINTR);
    return len == 1;
}

_Noreturn static void node_main(const struct lt_env *env, const struct ctl_state *state,
                                int broker_fd)
{
    struct lt_err err = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!wait_for_map(broker_fd))
        _exit(CTL_EXIT_FAILED);
    setsid(); /* a Ctrl-C at the terminal is the supervisor's to hear */
    if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
        (void)lt_err_errno(&err, "becoming root inside");
        _exit(ctl_fail(&err));
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* changing ids clears it */
    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0) {
        (void)lt_err_errno(&err, "namespaces for the node");
        _exit(ctl_fail(&err));
    }
    const struct ctl_node_opts opts = {.state = state, .supervisor_fd = broker_fd};
    _exit(ctl_node_main(env, &opts));
}

/* --- the supervisor's --- */

static lt_rc start_node(struct supervisor *s, const struct lt_env *env,
                        const struct ctl_state *state, struct lt_err *err)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return lt_err_errno(err, "socketpair");
    pid_t pid = ctl_proc_clone(CLONE_NEWUSER | CLONE_NEWPID, &s->node_pidfd);
    if (pid == 0) {
        close(ends[0]);
        node_main(env, state, ends[1]);
    }
    close(ends[1]);
    s->broker_fd = ends[0];
    if (pid < 0)
        return lt_err_errno(err, "a user and a PID namespace");
    lt_rc rc = ctl_userns_map(pid, err);
    if (rc == LT_OK && send(s->broker_fd, "", 1, MSG_NOSIGNAL) != 1)
        rc = lt_err_errno(err, "starting the node");
    if (rc != LT_OK)
        ctl_proc_signal(s->node_pidfd, SIGKILL);
    return rc;
}

static void on_signal(struct supervisor *s)
{
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    s->signals++;
    if (s->signals == 1)
        fprintf(stderr, "lateen: ending the mesh; once more to end it at once\n");
    ctl_proc_signal(s->node_pidfd, s->signals == 1 ? SIGTERM : SIGKILL);
}

/* Until the node has ended; its exit code. */
static int supervise(struct supervisor *s)
{
    struct pollfd fds[] = {{.fd = s->node_pidfd, .events = POLLIN},
                           {.fd = s->signal_fd, .events = POLLIN},
                           {.fd = s->broker_fd, .events = POLLIN}};
    for (;;) {
        if (poll(fds, LT_ARRAY_LEN(fds), -1) < 0)
            continue;
        if (fds[1].revents != 0)
            on_signal(s);
        if (fds[2].revents != 0 && ctl_host_port_serve(s->broker_fd) == LT_EOF)
            fds[2].fd = -1; /* it is ending */
        int code = fds[0].revents != 0 ? ctl_proc_wait(s->node_pidfd) : -1;
        if (code >= 0)
            return s->signals > 0 && code >= 128 ? CTL_EXIT_OK : code;
    }
}

static int hold_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run_up(int argc, char **argv, const struct lt_env *env)
{
    struct ctl_state state;
    struct lt_err err = {0};
    struct supervisor s = {.node_pidfd = -1, .broker_fd = -1};
    int code;
    if (!ctl_options_parse(&ctl_cmd_up, &argc, argv, NULL, 0, &code))
        return code;
    if (argc != 2)
        return ctl_fail_usage(&ctl_cmd_up, argc < 2 ? "which directory?" : "one directory, please");
    ctl_state_clear_dead();
    if (ctl_userns_check(&err) != LT_OK || ctl_state_claim(argv[1], &state, &err) != LT_OK)
        return ctl_fail(&err);
    s.signal_fd = hold_signals();
    code = start_node(&s, env, &state, &err) == LT_OK ? CTL_EXIT_OK : ctl_fail(&err);
    if (s.node_pidfd >= 0) {
        int ended = supervise(&s);
        code = code != CTL_EXIT_OK ? code : ended;
    }
    ctl_state_release(&state);
    return code;
}

const struct ctl_command ctl_cmd_up = {
    .name = "up",
    .arguments = "DIR",
    .summary = "bring up the mesh that the manifests of a directory describe",
    .help =
        "Reads all *.yaml, *.yml and *.json of DIR and below, runs each replica as a workload with\n"
        "a network and an address of its own, its sidecar and its containers, and follows the\n"
        "files as they change. Nothing is left when it ends: Ctrl-C, `lateen down`, or kill -9.\n\n"
        "A container's command runs if that program exists on this machine; otherwise a stand-in\n"
        "answers on its ports with JSON that says what it saw; `lateen workloads` tells which.\n",
    .run = run_up,
};
