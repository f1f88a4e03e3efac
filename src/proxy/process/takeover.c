/*
 * proxy/process/takeover.c - both sides of an upgrade in place.
 * Start at: px_takeover_begin() for the new one, take_messages() for the old one.
 */
#include "proxy/process/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/metric_carry.h"
#include "proxy/process/program.h"
#include "proxy/process/supervise.h"
#include "proxy/process/takeover_msg.h"

enum {
    TALK_TIMEOUT_S = 10, /* to hand sockets over, and to be handed them */
    LOOK_MS = 10,
    TELL_MS = 100,
    PATIENCE_S = 120, /* with a new one that we started, until it could serve */
    COUNTERS_BYTES_MAX = 256 << 20,
};

extern char **environ;

static const struct lt_log *log_of(const struct px_takeover *takeover)
{
    return &takeover->program->env.log;
}

/* --- the new one: sockets first --- */

static void set_timeouts(int fd)
{
    struct timeval tv = {.tv_sec = TALK_TIMEOUT_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* Blocks: nothing runs yet. */
static lt_rc take_sockets(struct px_takeover *takeover, int fd, struct lt_err *err)
{
    set_timeouts(fd);
    lt_rc rc = px_takeover_send(fd, PX_TAKEOVER_HELLO, NULL, -1);
    for (;;) {
        px_takeover_type type = 0;
        struct px_socket *socket = NULL;
        int stray = -1;
        if (rc == LT_OK)
            rc = px_takeover_receive(fd, &type, &socket, &stray);
        if (stray >= 0)
            close(stray);
        if (rc == LT_E_BAD)
            return lt_err_set(err, rc, "the process that runs speaks another version");
        if (rc != LT_OK)
            return lt_err_set(err, LT_E_IO, "the process that runs did not hand its sockets over");
        if (type == PX_TAKEOVER_END)
            return LT_OK;
        if (socket != NULL)
            lt_vec_push(&takeover->inherited, socket);
    }
}

/* -1: there is none before us. */
static lt_rc find_old(struct px_takeover *takeover, int *ret_fd, struct lt_err *err)
{
    const struct px_options *options = &takeover->program->options;
    const char *text = getenv(PX_TAKEOVER_ENV);
    uint64_t number = 0;
    *ret_fd = -1;
    if (text != NULL && lt_str_to_u64(lt_str_of(text), &number) == LT_OK && number < INT32_MAX &&
        fcntl((int)number, F_SETFD, FD_CLOEXEC) == 0) {
        *ret_fd = (int)number;
        takeover->was_spawned = true;
        (void)unsetenv(PX_TAKEOVER_ENV);
        return LT_OK;
    }
    if (options->restart_epoch == 0 || options->mode != PX_MODE_BOOTSTRAP)
        return LT_OK;
    lt_rc rc = px_takeover_connect(options->socket_path, options->base_id,
                                   options->restart_epoch - 1, ret_fd);
    if (rc == LT_OK && px_takeover_is_ours(*ret_fd))
        return LT_OK;
    if (rc != LT_OK && options->skips_missing_parent)
        return LT_OK;
    return lt_err_set(err, LT_E_IO,
                      "--restart-epoch %u: no process of ours with base id %u and epoch %u "
                      "can be spoken with",
                      options->restart_epoch, options->base_id, options->restart_epoch - 1);
}

/* --use-dynamic-base-id, --base-id-path. */
static void settle_base_id(struct px_program *program)
{
    struct px_options *options = &program->options;
    if (options->picks_base_id) {
        struct lt_prng prng;
        lt_prng_seed(&prng, &program->env);
        options->base_id = (unsigned)(lt_prng_next(&prng) % INT32_MAX);
    }
    FILE *file = options->base_id_path != NULL ? fopen(options->base_id_path, "we") : NULL;
    if (file != NULL) {
        fprintf(file, "%u", options->base_id);
        fclose(file);
    } else if (options->base_id_path != NULL) {
        lt_log_warn(&program->env.log, "--base-id-path %s: %s", options->base_id_path,
                    strerror(errno));
    }
}

lt_rc px_takeover_begin(struct px_program *program, char **argv, struct lt_err *err)
{
    struct px_takeover *takeover = &program->takeover;
    char path[4096];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[LT_MAX(len, 0)] = '\0';
    takeover->path = lt_str_dupz(lt_str_of(path));
    takeover->argv = argv;
    settle_base_id(program);
    int fd = -1;
    LT_TRY(find_old(takeover, &fd, err));
    if (fd < 0)
        return LT_OK;
    takeover->old.fd = fd;
    takeover->is_new = true;
    lt_rc rc = take_sockets(takeover, fd, err);
    if (rc == LT_OK)
        lt_log_info(log_of(takeover), "takes the place of another: %zu sockets",
                    takeover->inherited.count);
    return rc;
}

/* --- the new one: it serves --- */

static void take_counters(struct px_takeover *takeover, int fd)
{
    struct stat info;
    char *at = NULL;
    lt_buf_clear(&takeover->carried, 0);
    if (fstat(fd, &info) == 0 && info.st_size > 0 && info.st_size <= COUNTERS_BYTES_MAX &&
        lt_buf_reserve(&takeover->carried, (size_t)info.st_size, &at) == LT_OK) {
        ssize_t got = pread(fd, at, (size_t)info.st_size, 0);
        lt_buf_commit(&takeover->carried, (size_t)LT_MAX(got, 0));
    }
    close(fd);
}

static void on_old(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_takeover *takeover = LT_CONTAINER_OF(io, struct px_takeover, old);
    px_takeover_type type = 0;
    struct px_socket *socket = NULL;
    int fd = -1;
    lt_rc rc;
    while ((rc = px_takeover_receive(io->fd, &type, &socket, &fd)) == LT_OK) {
        px_socket_free(&socket);
        if (type == PX_TAKEOVER_COUNTERS && fd >= 0)
            take_counters(takeover, fd);
        else if (fd >= 0)
            close(fd);
    }
    if (rc == LT_AGAIN)
        return;
    lt_loop_io_close(takeover->program->loop, io); /* it has ended; what it counted is ours */
}

static void take_handovers(struct px_takeover *takeover)
{
    struct px_program *program = takeover->program;
    for (size_t i = 0; i < takeover->inherited.count; i++) {
        struct px_socket *socket = takeover->inherited.items[i];
        if (socket->kind != PX_SOCKET_HANDED)
            continue;
        px_workers_hand(program->workers, &socket->message, socket->fd);
        socket->fd = -1;
    }
    px_program_take_handovers(program,
                              px_sockets_take(&takeover->inherited, PX_SOCKET_HANDOVERS, NULL));
}

static void go(struct px_takeover *takeover)
{
    struct px_program *program = takeover->program;
    px_workers_accept(program->workers);
    px_program_accept(program);
    take_handovers(takeover);
    px_sockets_free(&takeover->inherited);
    if (px_takeover_send(takeover->old.fd, PX_TAKEOVER_GO, NULL, -1) != LT_OK)
        lt_log_warn(log_of(takeover), "the process before this one does not listen any more");
    (void)fcntl(takeover->old.fd, F_SETFL, O_NONBLOCK);
    lt_loop_io_set(program->loop, &takeover->old, EPOLLIN);
    lt_log_info(log_of(takeover), "has taken the place of the other");
}

static void on_look(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_takeover *takeover = LT_CONTAINER_OF(timer, struct px_takeover, look);
    if (strcmp(px_program_state(takeover->program), "LIVE") == 0)
        go(takeover);
    else
        lt_loop_timer_set(takeover->program->loop, timer, LOOK_MS * LT_NS_PER_MS);
}

/* --- the old one --- */

static void send_counters(struct px_takeover *takeover, const struct lt_metric_set *sum)
{
    struct lt_buf bytes;
    if (takeover->next.fd < 0)
        return;
    lt_buf_init(&bytes, COUNTERS_BYTES_MAX);
    int fd = memfd_create("counters", MFD_CLOEXEC);
    if (fd >= 0 && lt_metric_save(sum, &bytes) == LT_OK) {
        lt_str text = lt_buf_str(&bytes);
        if (pwrite(fd, text.ptr, text.len, 0) == (ssize_t)text.len)
            (void)!px_takeover_send(takeover->next.fd, PX_TAKEOVER_COUNTERS, NULL, fd);
    }
    if (fd >= 0)
        close(fd);
    lt_buf_fini(&bytes);
}

static void on_counters(void *ctx, struct lt_metric_set *sum,
                        const struct lt_map *clusters LT_UNUSED)
{
    struct px_takeover *takeover = ctx;
    px_program_add_metrics(takeover->program, sum);
    send_counters(takeover, sum);
    lt_metric_set_free(&sum);
    if (takeover->has_told_last)
        lt_loop_stop(takeover->program->loop);
    else
        lt_loop_timer_set(takeover->program->loop, &takeover->tell, TELL_MS * LT_NS_PER_MS);
}

static void on_left(void *ctx, uint64_t count)
{
    struct px_takeover *takeover = ctx;
    struct px_program *program = takeover->program;
    uint64_t now_ns = lt_loop_now_ns(program->loop);
    takeover->has_told_last = count == 0 || now_ns >= takeover->leave_by_ns;
    if (takeover->has_told_last)
        lt_log_info(log_of(takeover), "nobody is left: the other has it all");
    if (!takeover->has_told_last && now_ns < takeover->tell_at_ns) {
        lt_loop_timer_set(program->loop, &takeover->tell, TELL_MS * LT_NS_PER_MS);
        return;
    }
    takeover->tell_at_ns = now_ns + LT_NS_PER_S;
    px_workers_collect_metrics(program->workers, on_counters, takeover);
}

/* The one that we started was replaced itself; its successors are children of ours. */
static bool has_lost_all(struct px_takeover *takeover)
{
    int code = EXIT_FAILURE;
    if (!takeover->has_next || takeover->child_pid != 0 || px_supervise_reap(&code))
        return false;
    takeover->has_next = false;
    takeover->program->status = code;
    lt_loop_stop(takeover->program->loop);
    return true;
}

static void on_tell(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_takeover *takeover = LT_CONTAINER_OF(timer, struct px_takeover, tell);
    if (has_lost_all(takeover))
        return;
    px_workers_count_connections(takeover->program->workers, NULL, 0, on_left, takeover);
}

static void leave(struct px_takeover *takeover)
{
    struct px_program *program = takeover->program;
    if (takeover->is_leaving)
        return;
    takeover->is_leaving = true;
    takeover->has_next = takeover->child_pid != 0;
    lt_log_info(log_of(takeover),
                "another takes this process's place; connections are asked to go");
    lt_loop_timer_cancel(program->loop, &takeover->patience);
    px_workers_give_away(program->workers);
    px_program_leave(program);
    takeover->leave_by_ns = lt_loop_now_ns(program->loop) +
                            program->options.parent_shutdown_time_s * LT_NS_PER_S;
    lt_loop_timer_set(program->loop, &takeover->tell, 0);
}

/* Blocks, for as long as the other reads. */
static void on_sockets(void *ctx, struct lt_vec *sockets)
{
    struct px_takeover *takeover = ctx;
    int fd = takeover->next.fd;
    if (fd < 0)
        return;
    px_program_add_sockets(takeover->program, sockets);
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    set_timeouts(fd);
    lt_rc rc = LT_OK;
    for (size_t i = 0; i < sockets->count && rc == LT_OK; i++)
        rc = px_takeover_send(fd, PX_TAKEOVER_SOCKET, sockets->items[i], -1);
    if (rc == LT_OK)
        rc = px_takeover_send(fd, PX_TAKEOVER_END, NULL, -1);
    (void)fcntl(fd, F_SETFL, flags);
    if (rc != LT_OK) {
        lt_log_warn(log_of(takeover), "a new process was not handed all sockets");
        lt_loop_io_close(takeover->program->loop, &takeover->next);
    }
}

static void on_next(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_takeover *takeover = LT_CONTAINER_OF(io, struct px_takeover, next);
    px_takeover_type type = 0;
    struct px_socket *socket = NULL;
    int fd = -1;
    lt_rc rc;
    while ((rc = px_takeover_receive(io->fd, &type, &socket, &fd)) == LT_OK) {
        px_socket_free(&socket);
        if (fd >= 0)
            close(fd);
        if (type == PX_TAKEOVER_HELLO)
            px_workers_list_sockets(takeover->program->workers, on_sockets, takeover);
        else if (type == PX_TAKEOVER_GO)
            leave(takeover);
    }
    if (rc == LT_AGAIN)
        return;
    lt_loop_io_close(takeover->program->loop, io);
    if (!takeover->is_leaving)
        lt_log_warn(log_of(takeover), "a new process went before it could serve; this one goes on");
}

static void take_next(struct px_takeover *takeover, int fd)
{
    takeover->next.fd = fd;
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    lt_loop_io_set(takeover->program->loop, &takeover->next, EPOLLIN);
}

static void on_knock(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_takeover *takeover = LT_CONTAINER_OF(io, struct px_takeover, door);
    int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (takeover->next.fd >= 0 || takeover->is_leaving || !px_takeover_is_ours(fd))
        close(fd);
    else
        take_next(takeover, fd);
}

static void open_door(struct px_takeover *takeover)
{
    struct px_program *program = takeover->program;
    const struct px_options *options = &program->options;
    if (program->mesh != NULL || options->has_no_hot_restart)
        return;
    lt_rc rc = px_takeover_listen(options->socket_path, options->base_id, options->restart_epoch,
                                  &takeover->door.fd);
    if (rc == LT_OK)
        lt_loop_io_set(program->loop, &takeover->door, EPOLLIN);
    else
        lt_log_info(log_of(takeover),
                    "--restart-epoch %u can't follow: base id %u is somebody else's here",
                    options->restart_epoch + 1, options->base_id);
}

void px_takeover_serve(struct px_program *program)
{
    struct px_takeover *takeover = &program->takeover;
    open_door(takeover);
    if (takeover->is_new)
        lt_loop_timer_set(program->loop, &takeover->look, LOOK_MS * LT_NS_PER_MS);
}

/* --- starting the next --- */

/* False: it runs. A sibling's code is its parent's to know: then *ret_code is EXIT_FOLLOWS. */
static bool has_ended(const struct px_takeover *takeover, int pidfd, int *ret_code)
{
    siginfo_t info = {0};
    *ret_code = PX_EXIT_FOLLOWS;
    if (takeover->was_spawned)
        return true;
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return false;
    *ret_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
    return true;
}

static void on_child(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_takeover *takeover = LT_CONTAINER_OF(io, struct px_takeover, child);
    int code = 0;
    if (!has_ended(takeover, io->fd, &code))
        return;
    lt_loop_io_close(takeover->program->loop, io);
    takeover->child_pid = 0;
    if (!takeover->is_leaving) {
        lt_log_warn(log_of(takeover),
                    "the new process ended before it could serve (code %d); this one goes on",
                    code);
        return;
    }
    if (code == PX_EXIT_FOLLOWS && !takeover->was_spawned)
        return; /* it was replaced, too, by another child of ours */
    /* nobody accepts any more: whoever started us must hear of it at once */
    takeover->has_next = false;
    takeover->program->status = code;
    lt_loop_stop(takeover->program->loop);
}

static void on_patience(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_takeover *takeover = LT_CONTAINER_OF(timer, struct px_takeover, patience);
    lt_log_warn(log_of(takeover), "the new process could not serve within %d s: it is ended",
                PATIENCE_S);
    if (takeover->child_pid > 0)
        (void)kill(takeover->child_pid, SIGKILL);
}

/* Between fork and exec, in a process of many threads: only what is safe there. */
static _Noreturn void run_child(const char *path, char **argv, char **env, int fd)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)fcntl(fd, F_SETFD, 0);
    (void)execve(path, argv, env);
    _exit(127);
}

/* Our environment and one more; only the array and its last entry are new. */
static char **make_env(struct lt_arena *arena, int fd)
{
    size_t count = 0;
    while (environ[count] != NULL)
        count++;
    char **env = lt_arena_make_n(arena, char *, count + 2);
    memcpy(env, environ, count * sizeof(*env));
    env[count] = (char *)lt_arena_printf(arena, "%s=%d", PX_TAKEOVER_ENV, fd).ptr;
    return env;
}

/*
 * The first one is our child; later ones are siblings of whom they replace, so that the supervisor
 * knows them from the start and its signals reach them.
 */
static pid_t fork_next(const struct px_takeover *takeover)
{
    if (takeover->was_spawned)
        return (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
    return fork();
}

void px_takeover_spawn(struct px_program *program)
{
    struct px_takeover *takeover = &program->takeover;
    int pair[2];
    if (takeover->next.fd >= 0 || takeover->is_leaving || program->is_stopping) {
        lt_log_warn(log_of(takeover), "SIGUSR2: there is one already that takes over, or the end");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    struct lt_arena *arena = lt_arena_new(4096, 0);
    char **env = make_env(arena, pair[1]);
    pid_t pid = fork_next(takeover);
    if (pid == 0)
        run_child(takeover->path, takeover->argv, env, pair[1]);
    lt_arena_free(&arena);
    close(pair[1]);
    if (pid < 0) {
        lt_log_error(log_of(takeover), "fork: %s", strerror(errno));
        close(pair[0]);
        return;
    }
    lt_log_info(log_of(takeover), "SIGUSR2: started %s, pid %d", takeover->path, (int)pid);
    takeover->child_pid = pid;
    takeover->child.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    LT_ASSERT(takeover->child.fd >= 0);
    lt_loop_io_set(program->loop, &takeover->child, EPOLLIN);
    lt_loop_timer_set(program->loop, &takeover->patience, PATIENCE_S * LT_NS_PER_S);
    take_next(takeover, pair[0]);
}

bool px_takeover_pass_signal(struct px_program *program, int number)
{
    struct px_takeover *takeover = &program->takeover;
    if (!takeover->is_leaving)
        return false;
    if (takeover->was_spawned) /* the supervisor has told the other, too */
        return number == SIGUSR2;
    if (!takeover->has_next)
        return false;
    px_supervise_pass_on(number);
    return true;
}

/* --- life --- */

/* A new program image is the surest way to hold nothing of what was. */
int px_takeover_end(struct px_program *program, int status)
{
    struct px_takeover *takeover = &program->takeover;
    if (takeover->is_leaving && takeover->was_spawned) {
        status = PX_EXIT_FOLLOWS;
    } else if (takeover->is_leaving && takeover->has_next) {
        char name[] = "lateen-proxy", word[] = "supervise";
        char *argv[] = {name, word, NULL};
        (void)execve(takeover->path, argv, environ);
        status = px_supervise();
    }
    free(takeover->path);
    takeover->path = NULL;
    return status;
}

void px_takeover_init(struct px_program *program)
{
    struct px_takeover *takeover = &program->takeover;
    takeover->program = program;
    lt_io_init(&takeover->old, on_old);
    lt_io_init(&takeover->door, on_knock);
    lt_io_init(&takeover->next, on_next);
    lt_io_init(&takeover->child, on_child);
    lt_timer_init(&takeover->look, on_look);
    lt_timer_init(&takeover->patience, on_patience);
    lt_timer_init(&takeover->tell, on_tell);
    lt_buf_init(&takeover->carried, COUNTERS_BYTES_MAX);
}

void px_takeover_fini(struct px_program *program)
{
    struct px_takeover *takeover = &program->takeover;
    lt_loop_timer_cancel(program->loop, &takeover->look);
    lt_loop_timer_cancel(program->loop, &takeover->patience);
    lt_loop_timer_cancel(program->loop, &takeover->tell);
    lt_loop_io_close(takeover->program->loop, &takeover->old);
    lt_loop_io_close(takeover->program->loop, &takeover->door);
    lt_loop_io_close(takeover->program->loop, &takeover->next);
    lt_loop_io_close(takeover->program->loop, &takeover->child);
    px_sockets_free(&takeover->inherited);
    lt_buf_fini(&takeover->carried);
}
