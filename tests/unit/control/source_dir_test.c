/*
 * source_dir_test.c - directories are followed: edits, new files, whole new trees, deletions, and
 * what editors, `git checkout` and Kubernetes do instead of writing a file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/source_dir.h"
#include "net/tree.h"

struct world {
    char top[64]; /* what the test made is in it */
    char dir[80]; /* that is followed */
    char mesh[80];
    struct cp_source_dir *source;
};

/* ---- files ---- */

static const char *path_of(const struct world *w, const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof(path[0]), "%s/%s", w->top, name);
    return out;
}

static void write_text(const struct world *w, const char *name, const char *text)
{
    FILE *f = fopen(path_of(w, name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void write_service(const struct world *w, const char *file, const char *name)
{
    char text[256];
    snprintf(text, sizeof(text),
             "apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: 80}]}\n",
             name);
    write_text(w, file, text);
}

static void make_dir(const struct world *w, const char *name)
{
    assert_int_equal(mkdir(path_of(w, name), 0700), 0);
}

static void link_to(const struct world *w, const char *target, const char *name)
{
    assert_int_equal(symlink(target, path_of(w, name)), 0);
}

static void move(const struct world *w, const char *from, const char *to)
{
    const char *old = path_of(w, from), *new = path_of(w, to);
    assert_int_equal(rename(old, new), 0);
}

static void drop(const struct world *w, const char *name)
{
    assert_int_equal(unlink(path_of(w, name)), 0);
}

/* ---- the source ---- */

static void open_source(struct world *w)
{
    lt_str dir = lt_str_of(w->dir);
    struct lt_err err = {0};
    const struct cp_source_opts opts = {
        .dirs = &dir, .dir_count = 1, .mesh_file = access(w->mesh, F_OK) == 0 ? w->mesh : NULL};
    cp_source_dir_free(&w->source);
    if (cp_source_dir_open(&opts, &w->source, &err) != LT_OK)
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    snprintf(w->top, sizeof(w->top), "/tmp/lateen-source-XXXXXX");
    assert_non_null(mkdtemp(w->top));
    snprintf(w->dir, sizeof(w->dir), "%s/conf", w->top);
    snprintf(w->mesh, sizeof(w->mesh), "%s/mesh/mesh.yaml", w->top);
    make_dir(w, "conf");
    write_service(w, "conf/a.yaml", "one");
    open_source(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    char command[256];
    cp_source_dir_free(&w->source);
    snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", w->top, w->top);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static size_t count_of(const struct world *w)
{
    size_t count = 0;
    lt_manifests_objects(cp_source_dir_manifests(w->source), &count, NULL);
    return count;
}

static bool has_service(const struct world *w, const char *name)
{
    size_t count = 0;
    const struct lt_object *const *objects = lt_manifests_objects(
        cp_source_dir_manifests(w->source), &count, NULL);
    for (size_t i = 0; i < count; i++) {
        if (lt_str_eqz(objects[i]->key.name, name))
            return true;
    }
    return false;
}

/* A change is noticed before the deadline, and then there are no more of it. */
static void notice(struct world *w)
{
    struct pollfd p = {.fd = cp_source_dir_fd(w->source), .events = POLLIN};
    uint64_t due = UINT64_MAX;
    while (due == UINT64_MAX) {
        assert_int_equal(poll(&p, 1, 5000), 1);
        due = cp_source_dir_events(w->source, 1000, 50, 500);
    }
    assert_true(due == 1050);
}

static void follow(struct world *w)
{
    struct lt_err err = {0};
    notice(w);
    if (cp_source_dir_reload(w->source, &err) != LT_OK)
        fail_msg("%s", err.text);
    assert_false(cp_source_dir_is_blind(w->source));
}

/* Nothing of it counts, whatever wakes us. */
static void notice_nothing(struct world *w)
{
    assert_true(cp_source_dir_events(w->source, 1000, 50, 500) == UINT64_MAX);
}

/* ---- ordinary changes ---- */

static void edits_and_deletions_are_seen(void **state)
{
    struct world *w = *state;
    assert_int_equal(count_of(w), 1);
    write_service(w, "conf/b.yaml", "two");
    follow(w);
    assert_int_equal(count_of(w), 2);
    drop(w, "conf/a.yaml");
    follow(w);
    assert_int_equal(count_of(w), 1);
}

static void new_directories_are_watched_too(void **state)
{
    struct world *w = *state;
    make_dir(w, "conf/sub");
    make_dir(w, "conf/sub/deep");
    follow(w);
    write_service(w, "conf/sub/deep/d.yaml", "three");
    follow(w);
    assert_int_equal(count_of(w), 2);
}

/* Beside the file, then over it: what most editors do, and `git checkout`. */
static void a_file_put_in_anothers_place_is_seen(void **state)
{
    struct world *w = *state;
    write_service(w, "conf/.a.yaml.swp", "unfinished");
    follow(w);
    assert_true(has_service(w, "one"));
    move(w, "conf/.a.yaml.swp", "conf/a.yaml");
    follow(w);
    assert_true(has_service(w, "unfinished"));
    /* others move the old one away first */
    move(w, "conf/a.yaml", "conf/a.yaml~");
    write_service(w, "conf/a.yaml", "again");
    follow(w);
    assert_true(has_service(w, "again"));
    assert_int_equal(count_of(w), 1);
}

static void a_tree_that_moves_away_is_let_go(void **state)
{
    struct world *w = *state;
    make_dir(w, "conf/sub");
    follow(w);
    write_service(w, "conf/sub/b.yaml", "two");
    follow(w);
    assert_int_equal(count_of(w), 2);
    move(w, "conf/sub", "elsewhere");
    follow(w);
    assert_int_equal(count_of(w), 1);
    write_service(w, "elsewhere/c.yaml", "three");
    notice_nothing(w);
}

static void a_burst_is_waited_out_but_not_for_ever(void **state)
{
    struct world *w = *state;
    assert_true(cp_source_dir_events(w->source, 1, 50, 500) == UINT64_MAX);
    for (uint64_t now = 1000; now <= 1600; now += 40) {
        write_service(w, "conf/b.yaml", now % 80 == 0 ? "two" : "three");
        assert_true(cp_source_dir_events(w->source, now, 50, 500) ==
                    LT_MIN(now + 50, (uint64_t)1500));
    }
}

/* More events than the kernel keeps, none of which counts: it says so, and everything is read. */
static void an_overflow_of_the_queue_costs_nothing(void **state)
{
    struct world *w = *state;
    char limit[32] = "";
    FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
    assert_non_null(f);
    assert_non_null(fgets(limit, sizeof(limit), f));
    fclose(f);
    make_dir(w, "mesh");
    write_text(w, "mesh/mesh.yaml", "");
    open_source(w);
    for (long i = strtol(limit, NULL, 10); i > 0; i--) /* each is one event at least */
        write_text(w, i % 2 == 0 ? "mesh/x.txt" : "mesh/y.txt", "");
    write_service(w, "conf/b.yaml", "two");
    follow(w);
    assert_int_equal(count_of(w), 2);
    /* and the watch works on */
    while (cp_source_dir_events(w->source, 1000, 50, 500) != UINT64_MAX)
        assert_int_equal(cp_source_dir_reload(w->source, NULL), LT_OK);
    drop(w, "conf/b.yaml");
    follow(w);
    assert_int_equal(count_of(w), 1);
}

/* ---- links ---- */

/* As the kubelet writes it: files are links over `..data`, which changes at once. */
static void a_config_map_mount_is_followed(void **state)
{
    struct world *w = *state;
    make_dir(w, "conf/..2026_01");
    make_dir(w, "conf/..2026_01/sub");
    write_service(w, "conf/..2026_01/m.yaml", "m1");
    write_service(w, "conf/..2026_01/sub/n.yaml", "n1");
    link_to(w, "..2026_01", "conf/..data");
    link_to(w, "..data/m.yaml", "conf/m.yaml");
    link_to(w, "..data/sub", "conf/sub");
    follow(w);
    assert_true(has_service(w, "m1") && has_service(w, "n1"));
    assert_int_equal(count_of(w), 3);
    make_dir(w, "conf/..2026_02");
    make_dir(w, "conf/..2026_02/sub");
    write_service(w, "conf/..2026_02/m.yaml", "m2");
    write_service(w, "conf/..2026_02/sub/n.yaml", "n2");
    link_to(w, "..2026_02", "conf/..data_tmp");
    move(w, "conf/..data_tmp", "conf/..data");
    follow(w);
    assert_true(has_service(w, "m2") && has_service(w, "n2"));
    assert_int_equal(count_of(w), 3);
}

static void the_target_of_a_link_is_watched(void **state)
{
    struct world *w = *state;
    make_dir(w, "other");
    write_service(w, "other/real.yaml", "two");
    link_to(w, path_of(w, "other/real.yaml"), "conf/b.yaml");
    follow(w);
    assert_int_equal(count_of(w), 2);
    write_service(w, "other/real.yaml", "three");
    follow(w);
    assert_true(has_service(w, "three"));
    write_service(w, "other/new.yaml", "four");
    notice_nothing(w); /* a neighbour of the target */
    move(w, "other/new.yaml", "other/real.yaml");
    follow(w);
    assert_true(has_service(w, "four"));
}

static void the_directory_may_be_a_link_itself(void **state)
{
    struct world *w = *state;
    make_dir(w, "release-2");
    write_service(w, "release-2/a.yaml", "two");
    move(w, "conf", "release-1");
    link_to(w, "release-1", "conf");
    open_source(w);
    assert_true(has_service(w, "one"));
    link_to(w, "release-2", "conf.new");
    move(w, "conf.new", "conf");
    follow(w);
    assert_true(has_service(w, "two"));
    assert_int_equal(count_of(w), 1);
}

static void links_that_lead_round_are_no_loop(void **state)
{
    struct world *w = *state;
    make_dir(w, "conf/sub");
    write_service(w, "conf/sub/b.yaml", "two");
    link_to(w, "..", "conf/sub/up");
    link_to(w, "sub", "conf/again");
    link_to(w, "self", "conf/self");
    follow(w);
    assert_int_equal(count_of(w), 2);
}

/* ---- what can't be read ---- */

static void a_directory_that_is_gone_leaves_what_it_said(void **state)
{
    struct world *w = *state;
    struct lt_err err = {0};
    move(w, "conf", "away");
    notice(w);
    assert_int_equal(cp_source_dir_reload(w->source, &err), LT_E_IO);
    assert_non_null(strstr(err.text, "conf"));
    assert_true(cp_source_dir_is_blind(w->source));
    assert_int_equal(count_of(w), 1);
    make_dir(w, "conf");
    write_service(w, "conf/a.yaml", "new");
    follow(w);
    assert_true(has_service(w, "new"));
}

/* One of more levels than are read; root could read one without rights. */
static void an_unreadable_directory_hurts_nobody_beside(void **state)
{
    struct world *w = *state;
    char deep[256] = "conf";
    const struct lt_notes *notes = NULL;
    size_t count = 0;
    for (int level = 0; level <= LT_TREE_DEPTH_MAX; level++) {
        strncat(deep, "/d", sizeof(deep) - strlen(deep) - 1);
        make_dir(w, deep);
    }
    write_service(w, "conf/z.yaml", "two");
    notice(w);
    assert_int_equal(cp_source_dir_reload(w->source, NULL), LT_OK);
    assert_true(cp_source_dir_is_blind(w->source));
    lt_manifests_objects(cp_source_dir_manifests(w->source), &count, &notes);
    assert_int_equal(count, 2);
    assert_int_equal(notes->errors, 1);
    assert_true(lt_str_ends(lt_notes_at(notes, 0)->file, LT_STR("/d")));
}

static void a_link_to_nothing_is_a_note(void **state)
{
    struct world *w = *state;
    const struct lt_notes *notes = NULL;
    size_t count = 0;
    link_to(w, "../later.yaml", "conf/b.yaml");
    follow(w);
    lt_manifests_objects(cp_source_dir_manifests(w->source), &count, &notes);
    assert_int_equal(count, 1);
    assert_int_equal(notes->errors, 1);
    assert_false(lt_manifests_have_changed(cp_source_dir_manifests(w->source)));
    assert_int_equal(cp_source_dir_reload(w->source, NULL), LT_OK);
    assert_false(lt_manifests_have_changed(cp_source_dir_manifests(w->source))); /* still so */
    write_service(w, "later.yaml", "two");
    follow(w);
    assert_int_equal(count_of(w), 2);
}

static void a_directory_that_is_not_there_is_an_error(void **state)
{
    struct world *w = *state;
    struct cp_source_dir *source = NULL;
    struct lt_err err = {0};
    lt_str dir = lt_str_of(path_of(w, "there-is-no-such-directory"));
    assert_int_equal(
        cp_source_dir_open(&(struct cp_source_opts){.dirs = &dir, .dir_count = 1}, &source, &err),
        LT_E_IO);
    assert_null(source);
    assert_non_null(strstr(err.text, "there-is-no-such-directory"));
}

/* ---- several ---- */

static lt_str address_of_one(struct world *w)
{
    size_t count = 0;
    const struct lt_object *const *objects = lt_manifests_objects(
        cp_source_dir_manifests(w->source), &count, NULL);
    assert_int_equal(count, 1);
    assert_true(lt_str_ends(objects[0]->file, LT_STR("conf/a.yaml")));
    return objects[0]->service->spec->cluster_ip;
}

static void the_live_directory_completes_the_others(void **state)
{
    static const char live[] = "apiVersion: v1\nkind: Service\nmetadata: {name: one}\n"
                               "spec: {clusterIP: 10.0.0.%d, ports: [{port: 80}]}\n";
    struct world *w = *state;
    struct lt_err err = {0};
    char dir[80], text[256];
    make_dir(w, "live");
    snprintf(dir, sizeof(dir), "%s", path_of(w, "live"));
    snprintf(text, sizeof(text), live, 1);
    write_text(w, "live/cluster.yaml", text);
    lt_str conf = lt_str_of(w->dir);
    const struct cp_source_opts opts = {.dirs = &conf, .dir_count = 1, .live_dir = lt_str_of(dir)};
    cp_source_dir_free(&w->source);
    assert_int_equal(cp_source_dir_open(&opts, &w->source, &err), LT_OK);
    assert_true(lt_str_eqz(address_of_one(w), "10.0.0.1"));
    snprintf(text, sizeof(text), live, 2);
    write_text(w, "live/cluster.yaml", text);
    follow(w);
    assert_true(lt_str_eqz(address_of_one(w), "10.0.0.2"));
}

static void the_mesh_file_is_followed(void **state)
{
    struct world *w = *state;
    struct lt_err err = {0};
    make_dir(w, "mesh");
    write_text(w, "mesh/mesh.yaml", "accessLogFile: /dev/stdout\n");
    open_source(w);
    assert_true(lt_str_eqz(cp_source_dir_mesh(w->source), "accessLogFile: /dev/stdout\n"));
    write_text(w, "mesh/other.yaml", "");
    notice_nothing(w);
    write_text(w, "mesh/new", "trustDomain: td\n");
    move(w, "mesh/new", "mesh/mesh.yaml");
    follow(w);
    assert_true(lt_str_eqz(cp_source_dir_mesh(w->source), "trustDomain: td\n"));
    drop(w, "mesh/mesh.yaml");
    notice(w);
    assert_int_equal(cp_source_dir_reload(w->source, &err), LT_E_IO);
    assert_true(lt_str_eqz(cp_source_dir_mesh(w->source), "trustDomain: td\n"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(edits_and_deletions_are_seen),
        CASE(new_directories_are_watched_too),
        CASE(a_file_put_in_anothers_place_is_seen),
        CASE(a_tree_that_moves_away_is_let_go),
        CASE(a_burst_is_waited_out_but_not_for_ever),
        CASE(an_overflow_of_the_queue_costs_nothing),
        CASE(a_config_map_mount_is_followed),
        CASE(the_target_of_a_link_is_watched),
        CASE(the_directory_may_be_a_link_itself),
        CASE(links_that_lead_round_are_no_loop),
        CASE(a_directory_that_is_gone_leaves_what_it_said),
        CASE(an_unreadable_directory_hurts_nobody_beside),
        CASE(a_link_to_nothing_is_a_note),
        CASE(a_directory_that_is_not_there_is_an_error),
        CASE(the_live_directory_completes_the_others),
        CASE(the_mesh_file_is_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
