/*
 * tests/unit/ctl/changes_test.c - what an edit has changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "ctl/changes.h"
#include "model/load.h"

struct world {
    struct lt_manifests *manifests;
    struct ctl_changes changes;
    struct lt_buf said; /* lines, each with a ';' behind it */
};

static void say(void *ctx, const char *line)
{
    struct world *w = ctx;
    lt_buf_addf(&w->said, "%s;", line);
}

static int set_up(void **state)
{
    struct world *w = lt_new(struct world);
    w->manifests = lt_manifests_new();
    lt_buf_init(&w->said, 1 << 16);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    ctl_changes_fini(&w->changes);
    lt_manifests_free(&w->manifests);
    lt_buf_fini(&w->said);
    free(w);
    return 0;
}

static lt_str look(struct world *w, lt_str text)
{
    size_t count = 0;
    lt_manifests_put(w->manifests, LT_STR("a.yaml"), text);
    lt_buf_clear(&w->said, 0);
    const struct lt_object *const *objects = lt_manifests_objects(w->manifests, &count, NULL);
    ctl_changes_look(&w->changes, objects, count, say, w);
    return lt_buf_str(&w->said);
}

static void assert_said(struct world *w, const char *text, const char *wanted)
{
    lt_str said = look(w, lt_str_of(text));
    if (!lt_str_eqz(said, wanted))
        fail_msg("wanted \"%s\", got \"%.*s\"", wanted, LT_STR_ARG(said));
}

#define SERVICE(name, port) \
    "apiVersion: v1\nkind: Service\nmetadata: {name: " name "}\nspec: {ports: [{port: " port \
    "}]}\n---\n"

static void each_kind_of_change(void **state)
{
    struct world *w = *state;
    assert_said(w, SERVICE("b", "1") SERVICE("d", "1"), "");
    assert_said(w, "# a comment\n" SERVICE("d", "1") SERVICE("b", "1"), "");
    assert_said(w, SERVICE("a", "1") SERVICE("b", "2") SERVICE("c", "1"),
                "added   Service default/a;changed Service default/b;added   Service default/c;"
                "removed Service default/d;");
    assert_said(w, "",
                "removed Service default/a;removed Service default/b;removed Service default/c;");
    assert_said(w, SERVICE("a", "1"), "added   Service default/a;");
}

static void a_flood_is_cut(void **state)
{
    struct world *w = *state;
    struct lt_buf text;
    assert_said(w, "", "");
    lt_buf_init(&text, 1 << 16);
    for (char c = 'a'; c <= 'z'; c++)
        lt_buf_addf(&text, SERVICE("s%c", "1"), c);
    assert_true(lt_str_ends(look(w, lt_buf_str(&text)),
                            LT_STR("added   Service default/st;and 6 objects more;")));
    lt_buf_fini(&text);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {CASE(each_kind_of_change), CASE(a_flood_is_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
