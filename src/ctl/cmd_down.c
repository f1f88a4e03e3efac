/*
 * ctl/cmd_down.c - `lateen down [DIR]`: ends a mesh, or clears what one left that was killed.
 */
#include <stdio.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/control.h"

enum { WAIT_S = 20, POLL_US = 20000 };

static int end_mesh(const struct ctl_state *state, const struct lt_env *env)
{
    struct lt_err err = {0};
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct lt_doc *answer;
    uint64_t deadline = lt_env_mono_ns(env) + WAIT_S * LT_NS_PER_S;
    lt_rc rc = ctl_control_ask(state, LT_STR("{\"command\":\"down\"}"), arena, &answer, NULL, &err);
    lt_arena_free(&arena);
    while (rc == LT_OK && ctl_state_is_running(state)) {
        if (lt_env_mono_ns(env) > deadline)
            rc = lt_err_set(&err, LT_E_TIMEOUT, "the mesh of %s has not ended after %d s",
                            state->dir, WAIT_S);
        usleep(POLL_US);
    }
    return rc == LT_OK ? CTL_EXIT_OK : ctl_fail(&err);
}

static int run_down(int argc, char **argv, const struct lt_env *env)
{
    const char *mesh = NULL;
    const struct ctl_option options[] = {{.name = "mesh", .letter = 'm', .value = &mesh}};
    struct ctl_state state;
    struct lt_err err = {0};
    int code;
    if (!ctl_options_parse(&ctl_cmd_down, &argc, argv, options, LT_ARRAY_LEN(options), &code))
        return code;
    if (argc > 2 || (argc == 2 && mesh != NULL))
        return ctl_fail_usage(&ctl_cmd_down, "one directory, please");
    const char *dir = argc == 2 ? argv[1] : mesh;
    if (dir != NULL && ctl_state_find(dir, &state, &err) != LT_OK)
        return ctl_fail(&err);
    unsigned cleared = ctl_state_clear_dead();
    if (dir == NULL) {
        lt_rc rc = ctl_state_find_running(NULL, &state, &err);
        if (rc == LT_E_NOT_FOUND && cleared > 0) {
            puts("no mesh runs; what one left that was killed is cleared");
            return CTL_EXIT_OK;
        }
        return rc == LT_OK ? end_mesh(&state, env) : ctl_fail(&err);
    }
    if (ctl_state_is_running(&state))
        return end_mesh(&state, env);
    return ctl_state_clear(&state, &err) == LT_OK ? CTL_EXIT_OK : ctl_fail(&err);
}

const struct ctl_command ctl_cmd_down = {
    .name = "down",
    .arguments = "[DIR]",
    .summary = "end a running mesh",
    .help =
        "DIR (or -m DIR) is only needed when several meshes run. What a mesh left that was killed\n"
        "is cleared.\n",
    .run = run_down,
};
