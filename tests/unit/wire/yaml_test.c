/*
 * tests/unit/wire/yaml_test.c - YAML in, with Kubernetes' reading of plain scalars.
 */
#include "wire_test.h"

static void scalars_mean_what_kubernetes_makes_of_them(LT_UNUSED void **state)
{
    static const struct {
        const char *yaml;
        const char *json;
    } cases[] = {
        {"", "null"},
        {"# only a comment\n", "null"},
        {"---\n", "null"},
        {"~", "null"},
        {"Null", "null"},
        {"yes", "true"},
        {"On", "true"},
        {"y", "true"},
        {"no", "false"},
        {"OFF", "false"},
        {"nO", "\"nO\""},
        {"'yes'", "\"yes\""},
        {"\"1\"", "\"1\""},
        {"1", "1"},
        {"-12", "-12"},
        {"+12", "12"},
        {"0644", "420"},
        {"0x1F", "31"},
        {"0o17", "15"},
        {"0b101", "5"},
        {"08", "8"},
        {"1_000", "1000"},
        {"1.10", "1.1"},
        {".5", "0.5"},
        {"1.", "1"},
        {"1e3", "1000"},
        {"1e400", "\"1e400\""},
        {"1.2.3", "\"1.2.3\""},
        {"-", "[null]"},
        {"0x", "\"0x\""},
        {"12:30:45", "\"12:30:45\""},
        {"2026-01-02", "\"2026-01-02\""},
        {"10Mi", "\"10Mi\""},
        {"!!str 12", "\"12\""},
        {"!!int '12'", "12"},
        {"!!float 1", "1"},
        {"! 12", "\"12\""},
        {"!mine x", "\"x\""},
        {"|\n  a\n  b\n", "\"a\\nb\\n\""},
        {">-\n  a\n  b\n", "\"a b\""},
        {"{yes: 1, 2: b, 1.5: c}", "{\"true\":1,\"2\":\"b\",\"1.5\":\"c\"}"},
        {"a: 1\nb:\n- x\n- {c: d}\n", "{\"a\":1,\"b\":[\"x\",{\"c\":\"d\"}]}"},
        {"%YAML 1.2\n---\na: 1\n...\n", "{\"a\":1}"},
        {"\xEF\xBB\xBF"
         "a: 1",
         "{\"a\":1}"},
        {"a: \"\\u00e9\\x41\"", "{\"a\":\"\xc3\xa9"
                                "A\"}"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++)
        assert_string_equal(doc_text(parse_yaml(cases[i].yaml)), cases[i].json);
}

static void anchors_and_merges(LT_UNUSED void **state)
{
    assert_string_equal(doc_text(parse_yaml("a: &x {k: [1]}\nb: *x\n")),
                        "{\"a\":{\"k\":[1]},\"b\":{\"k\":[1]}}");
    assert_string_equal(doc_text(parse_yaml("a: &x one\nb: {*x : 2}\n")),
                        "{\"a\":\"one\",\"b\":{\"one\":2}}");
    assert_string_equal(doc_text(parse_yaml("a: &x 1\nb: &x 2\nc: *x\n")),
                        "{\"a\":1,\"b\":2,\"c\":2}");
    assert_string_equal(doc_text(parse_yaml("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n")),
                        "{\"a\":{\"k\":1,\"l\":2},\"b\":{\"l\":3,\"k\":1}}");
    assert_string_equal(doc_text(parse_yaml("a: {<<: [{k: 1}, {k: 2, m: 3}]}")),
                        "{\"a\":{\"k\":1,\"m\":3}}");
    assert_string_equal(doc_text(parse_yaml("{'<<': {k: 1}}")), "{\"<<\":{\"k\":1}}");
}

static void refuses_with_a_line(LT_UNUSED void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"a: b: c", "line 1, column 5"},
        {"a:\n  - b\n c: d\n", "line 3"},
        {"a: [1, 2", "while parsing a flow sequence from line 1 on"},
        {"a: 1\na: 2\n", "line 2: key \"a\" is written twice"},
        {"a: {<<: {}, b: 1, b: 2}", "key \"b\" is written twice"},
        {"a: *nobody", "line 1: no anchor \"nobody\""},
        {"a: &x [*x]", "no anchor \"x\""},
        {"? [a]\n: b\n", "a key must be a string, not array"},
        {"{~: 1}", "a key must be a string, not null"},
        {"a: .inf", "not a number that JSON can write"},
        {"!!int x", "not a value for !!int"},
        {"a: {<<: 1}", "\"<<\" needs an object"},
        {"a: \"\\0\"", "NUL in a string"},
        {"a: \xff", "line"},
        {"a: 1\n---\nb: 2\n", "more than one document"},
        {"\ta: 1", "line 1, column 1: a tab in the indentation"},
        {"a:\n  b: 1\n \tc: 2\n", "line 3, column 2: a tab in the indentation"},
        {"a: 1\nb: {\tc: [}\n", "line 2, column 10: did not find expected"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        const struct lt_doc *doc = NULL;
        lt_rc rc = lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(cases[i].text)), NULL, &doc, &err);
        if (rc != LT_E_BAD)
            fail_msg("%s: %s", cases[i].text, lt_rc_name(rc));
        assert_text_has(err.text, cases[i].message);
    }
}

static void splits_documents(LT_UNUSED void **state)
{
    static const char file[] =
        "# head\n%YAML 1.2\n---\na: 1\n--- \nb: |\n  x\n  --- not a marker\n---text\n---\n\n---\n{c: 3}\n...\nd: 4\n";
    static const struct {
        uint32_t line;
        const char *json; /* NULL: an error of this document alone */
    } wanted[] = {{1, "{\"a\":1}"}, {5, NULL}, {10, "null"}, {12, "{\"c\":3}"}, {15, "{\"d\":4}"}};
    struct lt_yaml_split split = lt_yaml_split_init(lt_str_of(file));
    struct lt_yaml_part part;
    size_t at = 0;
    while (lt_yaml_split_next(&split, &part)) {
        const struct lt_doc *doc = NULL;
        assert_true(at < LT_ARRAY_LEN(wanted));
        assert_int_equal(part.line, wanted[at].line);
        lt_rc rc = lt_yaml_parse(arena, part, NULL, &doc, &err);
        assert_int_equal(rc == LT_OK, wanted[at].json != NULL);
        if (rc == LT_OK)
            assert_string_equal(doc_text(doc), wanted[at].json);
        else
            assert_text_has(err.text, "line 10");
        at++;
    }
    assert_int_equal(at, LT_ARRAY_LEN(wanted));
}

static void knows_lines_inside_a_file(LT_UNUSED void **state)
{
    struct lt_yaml_split split = lt_yaml_split_init(LT_STR("a: 1\n---\nb:\n  c: [1,\n    2]\n"));
    struct lt_yaml_part part;
    const struct lt_doc *doc = NULL;
    assert_true(lt_yaml_split_next(&split, &part));
    assert_true(lt_yaml_split_next(&split, &part));
    assert_int_equal(lt_yaml_parse(arena, part, NULL, &doc, &err), LT_OK);
    const struct lt_doc *list = lt_doc_findz(lt_doc_findz(doc, "b"), "c");
    assert_int_equal(list->line, 4);
    assert_int_equal(list->items[1].line, 5);
    assert_false(lt_yaml_split_next(&split, &part));
}

static void bombs_are_limits(LT_UNUSED void **state)
{
    static const char laughs[] =
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"
        "f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    const struct lt_doc *doc = NULL;
    assert_int_equal(lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(laughs)), NULL, &doc, &err),
                     LT_E_LIMIT);
    assert_text_has(err.text, "more than 1000000 values");
    /* depth grows by aliases too */
    struct lt_doc_limits limits = {1000, 1000, 4};
    assert_int_equal(
        lt_yaml_parse(arena, lt_yaml_whole(LT_STR("a: &x [[1]]\nb: [*x]\n")), &limits, &doc, &err),
        LT_OK);
    assert_int_equal(lt_yaml_parse(arena, lt_yaml_whole(LT_STR("a: &x [[1]]\nb: [[*x]]\n")),
                                   &limits, &doc, &err),
                     LT_E_LIMIT);
    char *deep = lt_arena_alloc(arena, 200001);
    memset(deep, '[', 200000);
    assert_int_not_equal(lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(deep)), NULL, &doc, &err),
                         LT_OK);
    for (size_t i = 0; i + 1 < 200000; i += 2)
        memcpy(deep + i, "- ", 2);
    assert_int_not_equal(lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(deep)), NULL, &doc, &err),
                         LT_OK);
}

static void small_arenas_are_a_limit(LT_UNUSED void **state)
{
    static const char text[] =
        "a: &x {k: some longer text than others, l: [1, 2]}\nb:\n  <<: *x\n  l: *x\n";
    for (size_t room = 1; room < 1500; room += 13) {
        struct lt_arena *small = lt_arena_new(16, room);
        const struct lt_doc *doc = NULL;
        lt_rc rc = lt_yaml_parse(small, lt_yaml_whole(lt_str_of(text)), NULL, &doc, &err);
        assert_true(rc == LT_OK || rc == LT_E_LIMIT);
        lt_arena_free(&small);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_mean_what_kubernetes_makes_of_them),
        cmocka_unit_test(anchors_and_merges),
        cmocka_unit_test(refuses_with_a_line),
        cmocka_unit_test(splits_documents),
        cmocka_unit_test(knows_lines_inside_a_file),
        cmocka_unit_test(bombs_are_limits),
        cmocka_unit_test(small_arenas_are_a_limit),
    };
    return cmocka_run_group_tests(tests, arena_up, arena_down);
}
