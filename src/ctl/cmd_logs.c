/*
 * ctl/cmd_logs.c - `lateen logs WORKLOAD`: what a container has written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/control.h"
#include "wire/json.h"

enum { POLL_US = 100000 };

static bool copy_out(int fd)
{
    char room[65536];
    ssize_t len;
    while ((len = read(fd, room, sizeof(room))) > 0) {
        if (fwrite(room, 1, (size_t)len, stdout) != (size_t)len)
            return false;
    }
    return fflush(stdout) == 0;
}

static bool is_replaced(int fd, const char *path)
{
    struct stat ours, now;
    return stat(path, &now) == 0 && fstat(fd, &ours) == 0 && ours.st_ino != now.st_ino;
}

/* Until the mesh ends, or whoever reads has gone. */
static void follow(const struct ctl_state *state, const char *path, int *fd)
{
    while (copy_out(*fd) && ctl_state_is_running(state)) {
        usleep(POLL_US);
        if (!is_replaced(*fd, path))
            continue;
        copy_out(*fd);
        int next = open(path, O_RDONLY | O_CLOEXEC);
        if (next < 0)
            continue;
        close(*fd);
        *fd = next;
    }
}

static lt_rc show(const struct ctl_state *state, const char *path, bool follows, struct lt_err *err)
{
    char old[PATH_MAX];
    snprintf(old, sizeof(old), "%s.1", path); /* the part before it was turned over (clog.h) */
    int fd = open(old, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        copy_out(fd);
        close(fd);
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return LT_OK; /* it has not started yet */
    if (fd < 0)
        return lt_err_errno(err, "%s", path);
    if (follows)
        follow(state, path, &fd);
    else
        copy_out(fd);
    close(fd);
    return LT_OK;
}

static lt_rc ask_path(const struct ctl_state *state, const char *workload, const char *container,
                      struct lt_arena *arena, const char **ret_path, struct lt_err *err)
{
    struct lt_buf request;
    struct lt_json_writer w;
    const struct lt_doc *answer;
    lt_buf_init(&request, CTL_CONTROL_REQUEST_MAX);
    lt_json_writer_init(&w, &request, 0);
    lt_json_object_open(&w);
    lt_json_kv_str(&w, "command", LT_STR("logs"));
    lt_json_kv_str(&w, "workload", lt_str_of(workload));
    lt_json_kv_str(&w, "container", lt_str_of(container));
    lt_json_object_close(&w);
    lt_rc rc = lt_json_writer_finish(&w);
    if (rc == LT_OK)
        rc = ctl_control_ask(state, lt_buf_str(&request), arena, &answer, NULL, err);
    lt_buf_fini(&request);
    if (rc == LT_OK)
        *ret_path = lt_arena_strz(arena, lt_doc_string(lt_doc_findz(answer, "path")));
    return rc;
}

static int run_logs(int argc, char **argv, const struct lt_env *env LT_UNUSED)
{
    const char *mesh = NULL, *container = NULL, *path = NULL;
    bool follows = false;
    const struct ctl_option options[] = {
        {.name = "mesh", .letter = 'm', .value = &mesh},
        {.name = "container", .letter = 'c', .value = &container},
        {.name = "follow", .letter = 'f', .is_given = &follows},
    };
    struct ctl_state state;
    struct lt_err err = {0};
    int code;
    if (!ctl_options_parse(&ctl_cmd_logs, &argc, argv, options, LT_ARRAY_LEN(options), &code))
        return code;
    if (argc != 2)
        return ctl_fail_usage(&ctl_cmd_logs, "of which workload?");
    struct lt_arena *arena = lt_arena_new(0, 0);
    lt_rc rc = ctl_state_find_running(mesh, &state, &err);
    if (rc == LT_OK)
        rc = ask_path(&state, argv[1], container, arena, &path, &err);
    if (rc == LT_OK)
        rc = show(&state, path, follows, &err);
    lt_arena_free(&arena);
    return rc == LT_OK ? CTL_EXIT_OK : ctl_fail(&err);
}

const struct ctl_command ctl_cmd_logs = {
    .name = "logs",
    .arguments = "[-f] [-c CONTAINER] WORKLOAD",
    .summary = "show what a workload has written",
    .help =
        "  -f, --follow           go on until the mesh ends\n"
        "  -c, --container NAME   another container than the first; the sidecar is istio-proxy,\n"
        "                         lateend itself is workload istiod\n"
        "  -m, --mesh DIR         which mesh, when several run\n",
    .run = run_logs,
};
