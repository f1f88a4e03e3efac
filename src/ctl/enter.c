/*
 * ctl/enter.c - setns by the container's pidfd.
 */
#include "ctl/enter.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/control.h"
#include "ctl/proc.h"
#include "wire/json.h"

static lt_str write_request(struct lt_arena *arena, lt_str workload, lt_str container)
{
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, CTL_CONTROL_REQUEST_MAX);
    lt_json_writer_init(&w, &buf, 0);
    lt_json_object_open(&w);
    lt_json_kv_str(&w, "command", LT_STR("enter"));
    lt_json_kv_str(&w, "workload", workload);
    lt_json_kv_str(&w, "container", container);
    lt_json_object_close(&w);
    lt_str text = lt_json_writer_finish(&w) == LT_OK ? lt_arena_str(arena, lt_buf_str(&buf))
                                                     : LT_STR("{}");
    lt_buf_fini(&buf);
    return text;
}

static void read_inside(const struct lt_doc *answer, struct lt_arena *arena,
                        struct ctl_inside *inside)
{
    const struct lt_doc *env = lt_doc_findz(answer, "env");
    int64_t uid = 0, gid = 0;
    size_t count = lt_doc_is(env, LT_DOC_ARRAY) ? env->count : 0;
    (void)lt_doc_is_int(lt_doc_findz(answer, "uid"), &uid);
    (void)lt_doc_is_int(lt_doc_findz(answer, "gid"), &gid);
    *inside = (struct ctl_inside){
        .uid = (uid_t)uid,
        .gid = (gid_t)gid,
        .working_dir = lt_arena_strz(arena, lt_doc_string(lt_doc_findz(answer, "workingDir"))),
        .env = lt_arena_make_n(arena, char *, count + 2),
    };
    for (size_t i = 0; i < count; i++)
        inside->env[i] = lt_arena_strz(arena, lt_doc_string(&env->items[i]));
    const char *term = getenv(
        "TERM"); /* the caller's terminal is what an interactive program will draw on */
    if (term != NULL)
        inside->env[count] = lt_arena_strz(arena, lt_arena_printf(arena, "TERM=%s", term));
}

lt_rc ctl_enter(const struct ctl_state *state, lt_str workload, lt_str container,
                struct lt_arena *arena, struct ctl_inside *ret_inside, struct lt_err *err)
{
    const struct lt_doc *answer;
    int fd;
    LT_TRY(ctl_control_ask(state, write_request(arena, workload, container), arena, &answer, &fd,
                           err));
    if (fd < 0)
        return lt_err_set(err, LT_E_IO, "the mesh sent no process to enter");
    read_inside(answer, arena, ret_inside);
    int rc = setns(fd, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC |
                           CLONE_NEWUTS);
    lt_rc result = rc < 0 ? lt_err_errno(err, "entering %.*s", LT_STR_ARG(workload)) : LT_OK;
    close(fd);
    return result;
}

int ctl_enter_run(const struct ctl_inside *inside,
                  int (*child)(const struct ctl_inside *inside, void *ctx), void *ctx)
{
    struct lt_err err = {0};
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (ctl_proc_drop(inside->uid, inside->gid, &err) != LT_OK) {
            fprintf(stderr, "lateen: %s\n", err.text);
            _exit(126);
        }
        if (chdir(inside->working_dir) < 0 && chdir("/") < 0)
            _exit(126);
        int code = child(inside, ctx);
        fflush(stdout);
        _exit(code);
    }
    if (pid < 0)
        return 126;
    signal(SIGINT,
           SIG_IGN); /* the terminal tells the child as well; we wait for what it makes of it */
    signal(SIGQUIT, SIG_IGN);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return 126;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
