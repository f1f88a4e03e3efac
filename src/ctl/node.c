/*
 * ctl/node.c - from a fresh PID namespace to a running node, and back to nothing.
 * Start at: ctl_node_main().
 */
#include "ctl/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/link.h"
#include "ctl/nft.h"
#include "ctl/node_priv.h"
#include "ctl/proc.h"

void ctl_node_say(const struct ctl_node *node LT_UNUSED, const char *fmt, ...)
{
    char line[2048];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(line, sizeof(line) - 1, fmt, args);
    va_end(args);
    size_t end = len < 0 ? 0 : LT_MIN((size_t)len, sizeof(line) - 2);
    line[end++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, end);
    (void)ignored;
}

void ctl_node_end(struct ctl_node *node, int exit_code)
{
    if (node->is_ending)
        return;
    node->is_ending = true;
    node->exit_code = exit_code;
    lt_loop_stop(node->loop);
}

/* --- set-up --- */

static lt_rc set_up_mounts(struct lt_err *err)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return lt_err_errno(err, "making mounts private");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return lt_err_errno(
            err,
            "mounting /proc (a container that hides parts of its own /proc does not allow it)");
    return LT_OK;
}

/*
 * Containers have no capabilities; a user namespace of their own would give them some over new
 * things in it.
 */
static lt_rc forbid_user_namespaces(struct lt_err *err)
{
    return ctl_sysctl_set("user.max_user_namespaces", "0", err);
}

static lt_rc set_up_network(struct lt_err *err)
{
    LT_TRY(ctl_link_up("lo", err));
    LT_TRY(ctl_link_add_address("lo", CTL_NODE_IP, 32, err));
    LT_TRY(ctl_link_add_address("lo", CTL_DNS_IP, 32, err));
    LT_TRY(ctl_link_add_address("lo", CTL_GATEWAY_IP, 32, err));
    return ctl_sysctl_set("net.ipv4.ip_forward", "1", err);
}

/* Where `path` (a file) is, and `name` beside it. */
static bool find_beside(const char *path, const char *name, char out[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    int len = slash == NULL ? snprintf(out, PATH_MAX, "./%s", name)
                            : snprintf(out, PATH_MAX, "%.*s/%s", (int)(slash - path), path, name);
    return len < PATH_MAX && access(out, X_OK) == 0;
}

/*
 * Beside the name that lateen was called by (which may be a link, as in build/), else beside the
 * file itself.
 */
static lt_rc find_own_program(const char *name, char out[PATH_MAX], struct lt_err *err)
{
    char self[PATH_MAX];
    const char *called = (const char *)getauxval(AT_EXECFN);
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len < 0)
        return lt_err_errno(err, "/proc/self/exe");
    self[len] = '\0';
    if ((called != NULL && find_beside(called, name, out)) || find_beside(self, name, out))
        return LT_OK;
    return lt_err_set(err, LT_E_NOT_FOUND, "%s is missing: expected beside lateen (%s)", name, out);
}

static lt_rc bind_program(const char *dir, const char *name, struct lt_err *err)
{
    char source[PATH_MAX], path[PATH_MAX];
    LT_TRY(find_own_program(name, source, err));
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return lt_err_set(err, LT_E_LIMIT, "%s: path too long", dir);
    LT_TRY(ctl_file_write(path, LT_STR(""), 0755, err));
    return mount(source, path, NULL, MS_BIND, NULL) < 0 ? lt_err_errno(err, "binding %s", source)
                                                        : LT_OK;
}

/* Our programs, and Istio's names for them, in one directory that every container has. */
static lt_rc set_up_programs(const struct ctl_state *state, struct lt_err *err)
{
    static const char *const programs[] = {"lateen", "lateend", "lateen-proxy"};
    static const char *const names[] = {"pilot-agent", "envoy", "istio-iptables"};
    char dir[PATH_MAX], path[PATH_MAX];
    LT_TRY(ctl_mkdirs(ctl_state_path(state, "bin", dir), 0755, err));
    for (size_t i = 0; i < LT_ARRAY_LEN(programs); i++)
        LT_TRY(bind_program(dir, programs[i], err));
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++) {
        if (snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >= (int)sizeof(path) ||
            symlink("lateen-proxy", path) < 0)
            return lt_err_errno(err, "%s", path);
    }
    return LT_OK;
}

/* What every workload will need, tried once, so that a kernel without it is told in one line. */
static lt_rc check_kernel(struct lt_err *err)
{
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return lt_err_errno(err, "/proc/self/ns/net");
    lt_rc rc = ctl_link_add_veth("lt-check", "lt-peer", own, err);
    close(own);
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "this kernel has no veth interfaces (module veth)");
    ctl_link_delete("lt-check");
    rc = ctl_nft_apply("table inet lateen-check {\n  chain output {\n"
                       "    type nat hook output priority -100; policy accept;\n"
                       "    meta skuid 1337 tcp dport 1 counter redirect to :2\n"
                       "    ip daddr 127.0.0.9 tcp dport 1 dnat ip to numgen random mod 2 map "
                       "{ 0 : 127.0.0.1 . 1, 1 : 127.0.0.1 . 2 }\n"
                       "  }\n}\ndelete table inet lateen-check\n",
                       err);
    if (rc != LT_OK)
        return lt_err_wrap(
            err, rc,
            "this kernel lacks nftables with NAT (modules nf_tables, nft_chain_nat, nft_redir, "
            "nft_nat, nft_numgen)");
    return LT_OK;
}

static lt_rc set_up(struct ctl_node *node, struct lt_err *err)
{
    char path[PATH_MAX];
    umask(022);
    LT_TRY(set_up_mounts(err));
    LT_TRY(forbid_user_namespaces(err));
    LT_TRY(set_up_network(err));
    LT_TRY(check_kernel(err));
    LT_TRY(set_up_programs(node->state, err));
    LT_TRY(ctl_mkdirs(ctl_state_path(node->state, "root", path), 0755, err));
    LT_TRY(ctl_mkdirs(ctl_state_path(node->state, "tokens", path), 0755, err));
    LT_TRY(ctl_node_net_init(node, err));
    LT_TRY(ctl_node_control_init(node, err));
    return ctl_node_pods_init(node, err);
}

/* --- ending --- */

static void on_signal(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_node *node = LT_CONTAINER_OF(io, struct ctl_node, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo != SIGCHLD)
            ctl_node_end(node, 0);
    }
}

/* The supervisor never writes without being asked: this is its end. */
static void on_supervisor(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_node *node = LT_CONTAINER_OF(io, struct ctl_node, supervisor);
    char byte;
    if (recv(io->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        ctl_node_end(node, 1);
}

static void watch_signals(struct ctl_node *node)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    lt_io_init(&node->signals, on_signal);
    node->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    LT_ASSERT(node->signals.fd >= 0);
    lt_loop_io_set(node->loop, &node->signals, EPOLLIN);
}

int ctl_node_main(const struct lt_env *env, const struct ctl_node_opts *opts)
{
    struct lt_err err = {0};
    struct ctl_node *node = lt_new(struct ctl_node);
    prctl(PR_SET_NAME, "lateen-node", 0, 0, 0);
    ctl_proc_raise_files();
    node->env = env;
    node->state = opts->state;
    node->arena = lt_arena_new(0, 0);
    node->loop = lt_loop_new(env);
    watch_signals(node);
    lt_io_init(&node->supervisor, on_supervisor);
    node->supervisor.fd = opts->supervisor_fd;
    lt_rc rc = set_up(node, &err);
    if (rc == LT_OK) {
        lt_loop_io_set(node->loop, &node->supervisor, EPOLLIN | EPOLLRDHUP);
        lt_loop_run(node->loop);
        ctl_node_pods_end(node);
    } else {
        ctl_node_say(node, "lateen: %s", err.text);
        node->exit_code = 1;
    }
    /*
     * the kernel ends every process in here with this one; what is left to do is to answer who
     * waits
     */
    ctl_control_free(&node->control);
    return node->exit_code;
}
