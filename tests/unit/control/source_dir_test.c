/*
 * source_dir_test.c - a directory is followed: edits, new files, whole new trees, deletions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/source_dir.h"

struct world {
    char dir[64];
    struct cp_source_dir *source;
};

static void write_service(const struct world *w, const char *file, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", w->dir, file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: 80}]}\n",
            name);
    fclose(f);
}

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    snprintf(w->dir, sizeof(w->dir), "/tmp/lateen-source-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    write_service(w, "a.yaml", "one");
    lt_str dir = lt_str_of(w->dir);
    struct lt_err err = {0};
    assert_int_equal(cp_source_dir_open(&dir, 1, LT_STR_NULL, &w->source, &err), LT_OK);
    *state = w;
    return 0;
}

static void delete (const struct world *w, const char *file)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", w->dir, file);
    if (unlink(path) != 0)
        rmdir(path);
}

static int tear_down(void **state)
{
    struct world *w = *state;
    cp_source_dir_free(&w->source);
    static const char *const files[] = {"a.yaml",   "b.yaml", "sub/c.yaml", "sub/deep/d.yaml",
                                        "sub/deep", "sub",    "x.txt",      ""};
    for (size_t i = 0; i < LT_ARRAY_LEN(files); i++)
        delete (w, files[i]);
    free(w);
    return 0;
}

static size_t count_of(const struct world *w)
{
    size_t count = 0;
    lt_manifests_objects(cp_source_dir_manifests(w->source), &count, NULL);
    return count;
}

/* The next change is seen within the deadline, and read. */
static void follow(struct world *w)
{
    struct pollfd p = {.fd = cp_source_dir_fd(w->source), .events = POLLIN};
    struct lt_err err = {0};
    uint64_t due = 0;
    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(cp_source_dir_events(w->source, 1000, 50, 500, &due, &err), LT_OK);
    assert_true(due == 1050);
    assert_int_equal(cp_source_dir_reload(w->source, &err), LT_OK);
}

static void edits_and_deletions_are_seen(void **state)
{
    struct world *w = *state;
    assert_int_equal(count_of(w), 1);
    write_service(w, "b.yaml", "two");
    follow(w);
    assert_int_equal(count_of(w), 2);
    delete (w, "a.yaml");
    follow(w);
    assert_int_equal(count_of(w), 1);
}

static void new_directories_are_watched_too(void **state)
{
    struct world *w = *state;
    char path[256];
    snprintf(path, sizeof(path), "%s/sub", w->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/sub/deep", w->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    follow(w);
    write_service(w, "sub/deep/d.yaml", "three");
    follow(w);
    assert_int_equal(count_of(w), 2);
}

static void a_burst_is_waited_out_but_not_for_ever(void **state)
{
    struct world *w = *state;
    struct lt_err err = {0};
    uint64_t due = 0;
    assert_int_equal(cp_source_dir_events(w->source, 1, 50, 500, &due, &err), LT_OK);
    assert_true(due == UINT64_MAX);
    for (uint64_t now = 1000; now <= 1600; now += 40) {
        write_service(w, "b.yaml", now % 80 == 0 ? "two" : "three");
        assert_int_equal(cp_source_dir_events(w->source, now, 50, 500, &due, &err), LT_OK);
        assert_true(due == LT_MIN(now + 50, (uint64_t)1500));
    }
}

static void a_directory_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    lt_str dir = LT_STR("/tmp/lateen-there-is-no-such-directory");
    struct cp_source_dir *source = NULL;
    struct lt_err err = {0};
    assert_int_equal(cp_source_dir_open(&dir, 1, LT_STR_NULL, &source, &err), LT_E_IO);
    assert_null(source);
    assert_non_null(strstr(err.text, "lateen-there-is-no-such-directory"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(edits_and_deletions_are_seen),
        CASE(new_directories_are_watched_too),
        CASE(a_burst_is_waited_out_but_not_for_ever),
        CASE(a_directory_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
