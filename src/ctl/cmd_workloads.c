/*
 * ctl/cmd_workloads.c - `lateen workloads`: what runs in a mesh.
 */
#include <stdio.h>
#include <unistd.h>

#include "ctl/command.h"
#include "ctl/control.h"
#include "wire/json.h"

enum { POLL_US = 100000, WAIT_DEFAULT_S = 60 };

/* --- asking --- */

static lt_rc ask(const struct ctl_state *state, struct lt_arena *arena,
                 const struct lt_doc **ret_answer, struct lt_err *err)
{
    return ctl_control_ask(state, LT_STR("{\"command\":\"workloads\"}"), arena, ret_answer, NULL,
                           err);
}

static bool is_true(const struct lt_doc *object, const char *key)
{
    const struct lt_doc *value = lt_doc_findz(object, key);
    return lt_doc_is(value, LT_DOC_BOOL) && value->boolean;
}

static int64_t number(const struct lt_doc *object, const char *key)
{
    int64_t value = 0;
    (void)lt_doc_is_int(lt_doc_findz(object, key), &value);
    return value;
}

static lt_str text(const struct lt_doc *object, const char *key)
{
    return lt_doc_string(lt_doc_findz(object, key));
}

/* Everybody who is wanted is ready or has ended, and nobody else is left. */
static bool is_settled(const struct lt_doc *answer)
{
    const struct lt_doc *list = lt_doc_findz(answer, "workloads");
    if (number(answer, "waiting") > 0 || !lt_doc_is(list, LT_DOC_ARRAY))
        return false;
    for (size_t i = 0; i < list->count; i++) {
        const struct lt_doc *pod = &list->items[i];
        bool has_ended = lt_str_eqz(text(pod, "state"), "Ended") && !is_true(pod, "willRetry");
        bool is_job = lt_str_eqz(text(pod, "kind"), "Job");
        if (!is_true(pod, "isWanted") || (!has_ended && (is_job || !is_true(pod, "isReady"))))
            return false;
    }
    return true;
}

/* --- showing --- */

static const struct lt_doc *find_container(const struct lt_doc *pod, const char *role)
{
    const struct lt_doc *list = lt_doc_findz(pod, "containers");
    for (size_t i = 0; lt_doc_is(list, LT_DOC_ARRAY) && i < list->count; i++) {
        if (lt_str_eqz(text(&list->items[i], "role"), role))
            return &list->items[i];
    }
    return NULL;
}

static void format_state(const struct lt_doc *pod, char *out, size_t size)
{
    lt_str state = text(pod, "state");
    if (lt_str_eqz(state, "Ended"))
        snprintf(out, size, "exit code %lld%s", (long long)number(pod, "exitCode"),
                 is_true(pod, "willRetry") ? ", will retry" : "");
    else if (lt_str_eqz(state, "Running"))
        snprintf(out, size, "%s", is_true(pod, "isReady") ? "ready" : "not ready");
    else
        snprintf(out, size, "%.*s", LT_STR_ARG(state));
}

/* "image registry.example/shop/catalog:1.4" is known well enough by its end. */
static lt_str short_image(lt_str wanted)
{
    ptrdiff_t slash = lt_str_starts(wanted, LT_STR("image ")) ? lt_str_rfind_char(wanted, '/') : -1;
    return slash < 0 ? wanted : lt_str_from(wanted, (size_t)slash + 1);
}

static void format_runs(const struct lt_doc *pod, char *out, size_t size)
{
    const struct lt_doc *app = find_container(pod, "app");
    bool has_envoy = text(find_container(pod, "proxy"), "envoy").len > 0;
    const char *beside = has_envoy ? ", real Envoy" : "";
    lt_str wanted = text(app, "wanted");
    if (is_true(pod, "isControl"))
        snprintf(out, size, "lateend");
    else if (app == NULL)
        snprintf(out, size, "gateway%s", beside);
    else if (!is_true(app, "isStandIn"))
        snprintf(out, size, "%.*s%s", LT_STR_ARG(wanted), beside);
    else if (lt_str_starts(wanted, LT_STR("image")))
        snprintf(out, size, "stand-in for %.*s%s", LT_STR_ARG(short_image(wanted)), beside);
    else
        snprintf(out, size, "stand-in for %.*s (no such program)%s", LT_STR_ARG(wanted), beside);
}

static void format_memory(const struct lt_doc *pod, char *out, size_t size)
{
    const struct lt_doc *proxy = find_container(pod, "proxy");
    int64_t kb = number(proxy, "pssKb");
    if (proxy == NULL)
        snprintf(out, size, "none");
    else if (kb == 0)
        snprintf(out, size, "-");
    else
        snprintf(out, size, "%.1f MB", (double)kb / 1024);
}

/* Under the table: whatever a person would want to know and the columns do not say. */
static void print_remarks(const struct lt_doc *pod)
{
    const struct lt_doc *list = lt_doc_findz(pod, "containers");
    lt_str ns = text(pod, "namespace"), name = text(pod, "name"), reason = text(pod, "reason");
    if (reason.len > 0)
        printf("  %.*s/%.*s: %.*s\n", LT_STR_ARG(ns), LT_STR_ARG(name), LT_STR_ARG(reason));
    if (!is_true(pod, "hasProxy") && !is_true(pod, "isControl"))
        printf("  %.*s/%.*s has no sidecar: %.*s\n", LT_STR_ARG(ns), LT_STR_ARG(name),
               LT_STR_ARG(text(pod, "why")));
    if (number(pod, "hostPort") != 0)
        printf("  %.*s/%.*s is reached by http://localhost:%lld%s\n", LT_STR_ARG(ns),
               LT_STR_ARG(name), (long long)number(pod, "hostPort"),
               is_true(pod, "takesSockets")
                   ? ""
                   : " (through a TCP relay: it sees the relay's address)");
    const struct lt_doc *first = find_container(pod, "app");
    for (size_t i = 0; lt_doc_is(list, LT_DOC_ARRAY) && i < list->count; i++) {
        const struct lt_doc *c = &list->items[i];
        lt_str why = text(c, "reason");
        if (is_true(c, "isStandIn") && c != first)
            printf("  %.*s/%.*s: container %.*s: stand-in for %.*s\n", LT_STR_ARG(ns),
                   LT_STR_ARG(name), LT_STR_ARG(text(c, "name")), LT_STR_ARG(text(c, "wanted")));
        if (why.len > 0 || number(c, "restarts") > 0)
            printf("  %.*s/%.*s: container %.*s: %lld restarts, last exit code %lld%s%.*s\n",
                   LT_STR_ARG(ns), LT_STR_ARG(name), LT_STR_ARG(text(c, "name")),
                   (long long)number(c, "restarts"), (long long)number(c, "exitCode"),
                   why.len > 0 ? ": " : "", LT_STR_ARG(why));
    }
}

static int compare_pods(const void *a, const void *b)
{
    const struct lt_doc *left = *(const struct lt_doc *const *)a,
                        *right = *(const struct lt_doc *const *)b;
    int by_ns = lt_str_cmp(text(left, "namespace"), text(right, "namespace"));
    return by_ns != 0 ? by_ns : lt_str_cmp(text(left, "name"), text(right, "name"));
}

/* --- the table: as wide as what is in it --- */

enum { COLUMNS = 7, CELL_BYTES = 384 };

struct row {
    char cells[COLUMNS][CELL_BYTES];
};

static void set_cell(struct row *row, size_t column, lt_str value)
{
    snprintf(row->cells[column], CELL_BYTES, "%.*s", LT_STR_ARG(value));
}

static void fill_row(struct row *row, const struct lt_doc *pod)
{
    lt_str identity = text(pod, "identity");
    set_cell(row, 0, text(pod, "namespace"));
    set_cell(row, 1, text(pod, "name"));
    set_cell(row, 2, text(pod, "address"));
    format_state(pod, row->cells[3], CELL_BYTES);
    format_memory(pod, row->cells[4], CELL_BYTES);
    set_cell(row, 5, identity.len > 0 ? identity : LT_STR("-"));
    format_runs(pod, row->cells[6], CELL_BYTES);
}

static void print_rows(const struct row *rows, size_t count)
{
    int widths[COLUMNS] = {0};
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < COLUMNS; k++)
            widths[k] = LT_MAX(widths[k], (int)strlen(rows[i].cells[k]));
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k + 1 < COLUMNS; k++)
            printf("%-*s  ", widths[k], rows[i].cells[k]);
        printf("%s\n", rows[i].cells[COLUMNS - 1]);
    }
}

static void print_table(const struct lt_doc *answer, struct lt_arena *arena)
{
    static const char *const titles[COLUMNS] = {"NAMESPACE", "POD",      "ADDRESS", "STATE",
                                                "SIDECAR",   "IDENTITY", "RUNS"};
    const struct lt_doc *list = lt_doc_findz(answer, "workloads");
    size_t count = lt_doc_is(list, LT_DOC_ARRAY) ? list->count : 0;
    const struct lt_doc **pods = lt_arena_make_n(arena, const struct lt_doc *, count + 1);
    struct row *rows = lt_arena_make_n(arena, struct row, count + 1);
    for (size_t i = 0; i < count; i++)
        pods[i] = &list->items[i];
    qsort(pods, count, sizeof(*pods), compare_pods);
    for (size_t k = 0; k < COLUMNS; k++)
        set_cell(&rows[0], k, lt_str_of(titles[k]));
    for (size_t i = 0; i < count; i++)
        fill_row(&rows[i + 1], pods[i]);
    print_rows(rows, count + 1);
    for (size_t i = 0; i < count; i++)
        print_remarks(pods[i]);
}

static lt_rc print_json(const struct lt_doc *answer)
{
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, 2 * CTL_CONTROL_ANSWER_MAX);
    lt_json_writer_init(&w, &out, 2);
    lt_json_doc(&w, answer);
    lt_rc rc = lt_json_writer_finish(&w);
    printf("%.*s\n", LT_STR_ARG(lt_buf_str(&out)));
    lt_buf_fini(&out);
    return rc;
}

/* --- the command --- */

static lt_rc ask_settled(const struct ctl_state *state, const struct lt_env *env, uint64_t wait_s,
                         struct lt_arena *arena, const struct lt_doc **ret_answer,
                         struct lt_err *err)
{
    uint64_t deadline = lt_env_mono_ns(env) + wait_s * LT_NS_PER_S;
    for (;;) {
        lt_arena_reset(arena);
        LT_TRY(ask(state, arena, ret_answer, err));
        if (is_settled(*ret_answer))
            return LT_OK;
        if (lt_env_mono_ns(env) > deadline)
            return lt_err_set(
                err, LT_E_TIMEOUT,
                "not all workloads are ready after %llu s; `lateen workloads` says which",
                (unsigned long long)wait_s);
        usleep(POLL_US);
    }
}

static int run_workloads(int argc, char **argv, const struct lt_env *env)
{
    const char *mesh = NULL, *timeout = NULL;
    bool waits = false, as_json = false;
    const struct ctl_option options[] = {
        {.name = "mesh", .letter = 'm', .value = &mesh},
        {.name = "wait", .letter = 'w', .is_given = &waits},
        {.name = "timeout", .value = &timeout},
        {.name = "json", .letter = 'j', .is_given = &as_json},
    };
    struct ctl_state state;
    struct lt_err err = {0};
    uint64_t wait_s = WAIT_DEFAULT_S;
    const struct lt_doc *answer = NULL;
    int code;
    if (!ctl_options_parse(&ctl_cmd_workloads, &argc, argv, options, LT_ARRAY_LEN(options), &code))
        return code;
    if (argc != 1)
        return ctl_fail_usage(&ctl_cmd_workloads, "unexpected word \"%s\"", argv[1]);
    if (timeout != NULL && lt_str_to_u64(lt_str_of(timeout), &wait_s) != LT_OK)
        return ctl_fail_usage(&ctl_cmd_workloads, "--timeout expects seconds, got \"%s\"", timeout);
    struct lt_arena *arena = lt_arena_new(65536, 0);
    lt_rc rc = ctl_state_find_running(mesh, &state, &err);
    if (rc == LT_OK)
        rc = waits ? ask_settled(&state, env, wait_s, arena, &answer, &err)
                   : ask(&state, arena, &answer, &err);
    if (rc == LT_OK && as_json)
        rc = print_json(answer);
    else if (rc == LT_OK)
        print_table(answer, arena);
    lt_arena_free(&arena);
    return rc == LT_OK ? CTL_EXIT_OK : ctl_fail(&err);
}

const struct ctl_command ctl_cmd_workloads = {
    .name = "workloads",
    .arguments = "[--wait] [--json]",
    .summary = "list the workloads of a mesh: address, state, sidecar, what runs",
    .help = "  -w, --wait        wait until all are ready, and Jobs have ended\n"
            "      --timeout S   how long; 60 by default\n"
            "  -j, --json        for programs\n"
            "  -m, --mesh DIR    which mesh, when several run\n",
    .run = run_workloads,
};
