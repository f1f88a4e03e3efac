/*
 * proxy/process/run_job.c - waits for a sidecar, runs a command, ends the sidecar.
 * WAIT: asks for readiness until it is there or the time is over. RUN: the command runs, signals go
 * on to it. QUIT: it has ended; the sidecar is told.
 * Start at: px_run_job().
 */
#include "proxy/process/run_job.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "http/client.h"
#include "http/url.h"

enum {
    HEALTH_PORT = 15021,
    STATUS_PORT = 15020,
    QUIT_TIMEOUT_MS = 5000,
    QUIT_TRIES = 3,
    /* as env(1), nohup(1) and container engines use them */
    EXIT_OURS = 125,
    EXIT_CANNOT_RUN = 126,
    EXIT_NOT_FOUND = 127,
    EXIT_BY_SIGNAL = 128,
};

struct job {
    const struct lt_env *env;
    struct lt_loop *loop;
    const char *name; /* "run" or "wait" */
    char **command;   /* NULL: only wait */
    /* where, and for how long */
    struct lt_addr ready_addr;
    lt_str ready_host, ready_target;
    uint64_t status_port;
    uint64_t timeout_s, request_ms, period_ms; /* timeout 0: for ever */
    bool keeps_sidecar;
    /* how far it is */
    struct lt_call *call; /* owned; the question that runs */
    struct lt_timer again;
    struct lt_timer too_late;
    struct lt_io signals;
    struct lt_io pidfd;
    pid_t pid;      /* 0: does not run */
    char last[256]; /* why the sidecar was not ready */
    bool has_answered;
    unsigned quit_tries;
    int exit_code;
};

static void end(struct job *job, int exit_code)
{
    job->exit_code = exit_code;
    lt_loop_stop(job->loop);
}

/* --- QUIT --- */

static void tell_to_quit(struct job *job);

static void on_quit_answer(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                           void *ctx)
{
    struct job *job = ctx;
    job->call = NULL;
    if (result->rc == LT_OK && result->status == 200) {
        lt_loop_stop(job->loop);
    } else if (++job->quit_tries < QUIT_TRIES) {
        lt_loop_timer_set(job->loop, &job->again, job->period_ms * LT_NS_PER_MS);
    } else {
        fprintf(stderr, "lateen-proxy run: the sidecar was not told to quit: %s\n",
                result->rc != LT_OK ? result->error : "it refused");
        lt_loop_stop(job->loop);
    }
}

static void tell_to_quit(struct job *job)
{
    struct lt_call_opts opts = {
        .method = LT_STR("POST"), .target = LT_STR("/quitquitquit"), .timeout_ms = QUIT_TIMEOUT_MS};
    lt_rc rc = lt_addr_parse(LT_STR("127.0.0.1"), (uint16_t)job->status_port, &opts.addr);
    LT_ASSERT(rc == LT_OK);
    job->call = lt_call_start(job->loop, &opts, on_quit_answer, job);
}

/* --- RUN --- */

static void finish(struct job *job, int exit_code)
{
    job->exit_code = exit_code;
    lt_loop_io_del(job->loop, &job->pidfd);
    if (job->keeps_sidecar)
        lt_loop_stop(job->loop);
    else
        tell_to_quit(job);
}

/* Others may have become our children when we are the first process of a container. */
static void on_child(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct job *job = LT_CONTAINER_OF(io, struct job, pidfd);
    int status = 0;
    if (waitpid(job->pid, &status, WNOHANG) != job->pid)
        return;
    job->pid = 0;
    finish(job, WIFSIGNALED(status) ? EXIT_BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status));
}

static _Noreturn void run_child(char **command)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL); /* a shell without job control ignores these two for us */
    (void)signal(SIGQUIT, SIG_DFL);
    (void)execvp(command[0], command);
    int code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
    fprintf(stderr, "lateen-proxy run: cannot run %s: %s\n", command[0], strerror(errno));
    _exit(code);
}

static void start_command(struct job *job)
{
    pid_t pid = fork();
    if (pid == 0)
        run_child(job->command);
    if (pid < 0) {
        fprintf(stderr, "lateen-proxy run: fork: %s\n", strerror(errno));
        end(job, EXIT_OURS);
        return;
    }
    job->pid = pid;
    job->pidfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    LT_ASSERT(job->pidfd.fd >= 0);
    lt_loop_io_set(job->loop, &job->pidfd, EPOLLIN);
}

/* The zombies of others, but never the command itself: on_child wants its status. */
static void reap_strangers(const struct job *job)
{
    siginfo_t info = {0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0 &&
           info.si_pid != job->pid) {
        (void)waitpid(info.si_pid, NULL, WNOHANG);
        info.si_pid = 0;
    }
}

static void on_signal(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct job *job = LT_CONTAINER_OF(io, struct job, signals);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        int number = (int)info.ssi_signo;
        if (number == SIGCHLD)
            reap_strangers(job);
        else if (job->pid > 0)
            (void)kill(job->pid, number);
        else if (number != SIGWINCH && number != SIGCONT)
            end(job, EXIT_BY_SIGNAL + number);
    }
}

/* --- WAIT --- */

static void ask_ready(struct job *job);

static void on_ready_answer(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                            void *ctx)
{
    struct job *job = ctx;
    job->call = NULL;
    job->has_answered |= result->rc == LT_OK;
    if (result->rc == LT_OK && result->status == 200) {
        lt_loop_timer_cancel(job->loop, &job->too_late);
        if (job->command != NULL)
            start_command(job);
        else
            end(job, EXIT_SUCCESS);
        return;
    }
    if (result->rc == LT_OK)
        snprintf(job->last, sizeof(job->last), "status %u %.*s", result->status,
                 (int)LT_MIN(lt_str_trim(result->body).len, (size_t)200), result->body.ptr);
    else
        snprintf(job->last, sizeof(job->last), "%s", result->error);
    lt_loop_timer_set(job->loop, &job->again, job->period_ms * LT_NS_PER_MS);
}

static void ask_ready(struct job *job)
{
    struct lt_call_opts opts = {.addr = job->ready_addr,
                                .host = job->ready_host,
                                .target = job->ready_target,
                                .timeout_ms = (uint32_t)job->request_ms};
    job->call = lt_call_start(job->loop, &opts, on_ready_answer, job);
}

static void on_again(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct job *job = LT_CONTAINER_OF(timer, struct job, again);
    if (job->quit_tries > 0)
        tell_to_quit(job);
    else
        ask_ready(job);
}

static void on_too_late(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct job *job = LT_CONTAINER_OF(timer, struct job, too_late);
    char text[LT_ADDR_TEXT_MAX];
    lt_addr_format(&job->ready_addr, text);
    fprintf(stderr, "lateen-proxy %s: %s on %s after %llu s: %s\n", job->name,
            job->has_answered ? "the sidecar is not ready" : "no sidecar answers", text,
            (unsigned long long)job->timeout_s, job->last[0] != '\0' ? job->last : "no answer yet");
    if (!job->has_answered)
        fprintf(stderr,
                "lateen-proxy %s: is this Pod injected (namespace label istio-injection, or label "
                "sidecar.istio.io/inject)?\n",
                job->name);
    end(job, job->command != NULL ? EXIT_OURS : EXIT_FAILURE);
}

/* --- the command line --- */

static const char usage[] =
    "usage: lateen-proxy run [FLAGS] -- COMMAND [ARGUMENT...]\n"
    "Waits until the sidecar is ready, runs the command, tells the sidecar to quit, and ends with the command's\n"
    "exit code (128 + n when signal n ended it; 125: no sidecar in time, 126: not executable, 127: no such command).\n"
    "Signals go on to the command.\n"
    "  --timeoutSeconds N        how long to wait for the sidecar (60; 0: for ever)\n"
    "  --requestTimeoutMillis N  of one question (500)\n"
    "  --periodMillis N          between two questions (500)\n"
    "  --url URL                 what is asked (http://localhost:15021/healthz/ready)\n"
    "  --status-port N           where the sidecar is told to quit (15020)\n"
    "  --keep-sidecar            it is not told to quit\n"
    "lateen-proxy wait takes the first four, and runs nothing.\n";

static int fail_usage(const struct job *job, const char *what)
{
    fprintf(stderr, "lateen-proxy %s: %s\n%s", job->name, what, usage);
    return EXIT_OURS;
}

static bool read_url(struct job *job, const char *text)
{
    lt_str url = lt_str_of(text), scheme = LT_STR("http://");
    if (!lt_str_starts(url, scheme))
        return false;
    url = lt_str_from(url, scheme.len);
    ptrdiff_t slash = lt_str_find_char(url, '/');
    lt_str authority = slash < 0 ? url : lt_str_slice(url, 0, (size_t)slash);
    ptrdiff_t colon = lt_str_rfind_char(authority, ':');
    lt_str host = colon < 0 ? authority : lt_str_slice(authority, 0, (size_t)colon);
    uint64_t port = 80;
    if (colon >= 0 && (lt_str_to_u64(lt_str_from(authority, (size_t)colon + 1), &port) != LT_OK ||
                       port == 0 || port > UINT16_MAX))
        return false;
    job->ready_host = authority;
    job->ready_target = slash < 0 ? LT_STR("/") : lt_str_from(url, (size_t)slash);
    if (lt_str_eqz(host, "localhost"))
        host = LT_STR("127.0.0.1");
    return lt_addr_parse(host, (uint16_t)port, &job->ready_addr) == LT_OK;
}

static bool read_number(const char *text, uint64_t max, uint64_t *ret)
{
    return lt_str_to_u64(lt_str_of(text), ret) == LT_OK && *ret <= max;
}

enum { FLAG_TIMEOUT = 1, FLAG_REQUEST, FLAG_PERIOD, FLAG_URL, FLAG_PORT, FLAG_KEEP, FLAG_HELP };

static bool take_flag(struct job *job, int flag, const char *value)
{
    switch (flag) {
    case FLAG_TIMEOUT: return read_number(value, 86400, &job->timeout_s);
    case FLAG_REQUEST: return read_number(value, 600000, &job->request_ms) && job->request_ms > 0;
    case FLAG_PERIOD: return read_number(value, 600000, &job->period_ms) && job->period_ms > 0;
    case FLAG_URL: return read_url(job, value);
    case FLAG_PORT:
        return read_number(value, UINT16_MAX, &job->status_port) && job->status_port > 0;
    case FLAG_KEEP: job->keeps_sidecar = true; return true;
    default: return false;
    }
}

/* 0: run it; else the exit code. */
static int parse(struct job *job, int argc, char **argv, bool *ret_is_done)
{
    static const struct option options[] = {
        {"timeoutSeconds", required_argument, NULL, FLAG_TIMEOUT},
        {"requestTimeoutMillis", required_argument, NULL, FLAG_REQUEST},
        {"periodMillis", required_argument, NULL, FLAG_PERIOD},
        {"url", required_argument, NULL, FLAG_URL},
        {"status-port", required_argument, NULL, FLAG_PORT},
        {"keep-sidecar", no_argument, NULL, FLAG_KEEP},
        {"help", no_argument, NULL, FLAG_HELP},
        {NULL, 0, NULL, 0},
    };
    int at = 0;
    *ret_is_done = true;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "+", options, &at)) != -1;) {
        if (c == FLAG_HELP) {
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        }
        if (c == '?')
            return EXIT_OURS; /* getopt has said why */
        if (!take_flag(job, c, optarg)) {
            char what[300];
            snprintf(what, sizeof(what), "--%s: '%.200s' is not understood", options[at].name,
                     optarg);
            return fail_usage(job, what);
        }
    }
    bool is_run = strcmp(job->name, "run") == 0;
    if (is_run && optind == argc)
        return fail_usage(job, "which command?");
    if (!is_run && optind < argc)
        return fail_usage(job, "wait runs no command (lateen-proxy run does)");
    job->command = is_run ? argv + optind : NULL;
    *ret_is_done = false;
    return EXIT_SUCCESS;
}

/* All that can be passed on. */
static void watch_signals(struct job *job)
{
    static const int passed[] = {SIGTERM, SIGINT,  SIGHUP,  SIGQUIT,  SIGUSR1,
                                 SIGUSR2, SIGALRM, SIGCONT, SIGWINCH, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < LT_ARRAY_LEN(passed); i++)
        sigaddset(&set, passed[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    lt_io_init(&job->signals, on_signal);
    job->signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    LT_ASSERT(job->signals.fd >= 0);
    lt_loop_io_set(job->loop, &job->signals, EPOLLIN);
}

int px_run_job(int argc, char **argv, const struct lt_env *env)
{
    struct job job = {.env = env,
                      .name = argv[0],
                      .ready_host = LT_STR("localhost"),
                      .ready_target = LT_STR("/healthz/ready"),
                      .status_port = STATUS_PORT,
                      .timeout_s = 60,
                      .request_ms = 500,
                      .period_ms = 500,
                      .exit_code = EXIT_OURS};
    bool is_done = false;
    lt_rc rc = lt_addr_parse(LT_STR("127.0.0.1"), HEALTH_PORT, &job.ready_addr);
    LT_ASSERT(rc == LT_OK);
    int code = parse(&job, argc, argv, &is_done);
    if (is_done)
        return code;
    job.loop = lt_loop_new(env);
    lt_timer_init(&job.again, on_again);
    lt_timer_init(&job.too_late, on_too_late);
    lt_io_init(&job.pidfd, on_child);
    watch_signals(&job);
    if (job.timeout_s > 0)
        lt_loop_timer_set(job.loop, &job.too_late, job.timeout_s * LT_NS_PER_S);
    ask_ready(&job);
    lt_loop_run(job.loop);
    lt_call_cancel(&job.call);
    lt_loop_timer_cancel(job.loop, &job.again);
    lt_loop_timer_cancel(job.loop, &job.too_late);
    lt_loop_io_del(job.loop, &job.signals);
    lt_loop_io_del(job.loop, &job.pidfd);
    if (job.pidfd.fd >= 0)
        close(job.pidfd.fd);
    close(job.signals.fd);
    for (int turn = 0; turn < 4; turn++)
        lt_loop_turn(job.loop, 0);
    lt_loop_free(&job.loop);
    return job.exit_code;
}
