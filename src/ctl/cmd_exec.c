/*
 * ctl/cmd_exec.c - `lateen exec WORKLOAD -- CMD`: a command inside a workload's container, with its
 * environment, as its user.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/enter.h"
#include "ctl/proc.h"

static const char *find_path(char *const *env)
{
    for (; *env != NULL; env++) {
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    }
    return "/usr/bin:/bin";
}

static int exec_child(const struct ctl_inside *inside, void *ctx)
{
    char **argv = ctx;
    char path[PATH_MAX];
    if (!ctl_find_program(argv[0], find_path(inside->env), path, sizeof(path))) {
        fprintf(stderr, "lateen exec: %s: no such program in there\n", argv[0]);
        return 127;
    }
    execve(path, argv, inside->env);
    fprintf(stderr, "lateen exec: %s: %s\n", path, strerror(errno));
    return 126;
}

static int run_exec(int argc, char **argv, const struct lt_env *env LT_UNUSED)
{
    const char *mesh = NULL, *container = NULL;
    bool has_stdin, has_tty; /* kubectl's -it: always so here */
    const struct ctl_option options[] = {
        {.name = "mesh", .letter = 'm', .value = &mesh},
        {.name = "container", .letter = 'c', .value = &container},
        {.name = "stdin", .letter = 'i', .is_given = &has_stdin},
        {.name = "tty", .letter = 't', .is_given = &has_tty},
    };
    struct ctl_state state;
    struct ctl_inside inside;
    struct lt_err err = {0};
    int code;
    if (!ctl_options_parse(&ctl_cmd_exec, &argc, argv, options, LT_ARRAY_LEN(options), &code))
        return code;
    if (argc < 3)
        return ctl_fail_usage(&ctl_cmd_exec, argc < 2 ? "in which workload?"
                                                      : "which command? It stands behind \"--\"");
    struct lt_arena *arena = lt_arena_new(0, 0);
    lt_rc rc = ctl_state_find_running(mesh, &state, &err);
    if (rc == LT_OK)
        rc = ctl_enter(&state, lt_str_of(argv[1]), lt_str_of(container), arena, &inside, &err);
    code = rc == LT_OK ? ctl_enter_run(&inside, exec_child, argv + 2) : ctl_fail(&err);
    lt_arena_free(&arena);
    return code;
}

const struct ctl_command ctl_cmd_exec = {
    .name = "exec",
    .arguments = "[-c CONTAINER] WORKLOAD -- COMMAND [ARGS]",
    .summary = "run a command inside a workload",
    .help =
        "  -c, --container NAME   another container than the first; the sidecar is istio-proxy\n"
        "  -i, -t                 as kubectl has them: input and terminal are the caller's anyway\n"
        "  -m, --mesh DIR         which mesh, when several run\n\n"
        "WORKLOAD is a Deployment, Job or Pod by name, or one of their Pods; NAMESPACE/NAME where\n"
        "a name is not enough.\n"
        "    lateen exec reviews-v1 -- curl -s http://ratings:9080/\n"
        "    lateen exec -c istio-proxy reviews-v1 -- pilot-agent request GET clusters\n",
    .run = run_exec,
};
