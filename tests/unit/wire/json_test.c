/*
 * tests/unit/wire/json_test.c - JSON in, JSON out.
 */
#include "wire_test.h"

static void round_trips(LT_UNUSED void **state)
{
    static const char *const texts[] = {
        "null",
        "true",
        "[]",
        "{}",
        "[1,2,[3,{\"a\":[]}]]",
        "{\"a\":{\"b\":[null,false,\"x\"]},\"c\":-1}",
        "9223372036854775807",
        "-9223372036854775808",
        "0.5",
        "1e+300",
        "0.1",
        "\"\\\"\\\\\\n\\t\\u0001\"",
        "\"\xc3\xa9\xf0\x9f\x98\x80\"",
        "{\"\":1}",
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(texts); i++)
        assert_string_equal(doc_text(parse_json(texts[i])), texts[i]);
}

static void reads_what_it_should(LT_UNUSED void **state)
{
    assert_string_equal(doc_text(parse_json(" { \"a\" : 1 ,\n\"b\":[ ] } \r\n")),
                        "{\"a\":1,\"b\":[]}");
    assert_string_equal(lt_doc_string(parse_json("\"\\u00e9\\ud83d\\ude00\\/\"")).ptr,
                        "\xc3\xa9\xf0\x9f\x98\x80/");
    assert_int_equal(parse_json("12")->kind, LT_DOC_INT);
    assert_int_equal(parse_json("12.0")->kind, LT_DOC_DOUBLE);
    assert_int_equal(parse_json("9223372036854775808")->kind, LT_DOC_DOUBLE);
    assert_int_equal(parse_json("1e2")->kind, LT_DOC_DOUBLE);
    int64_t whole = 0;
    assert_true(lt_doc_is_int(parse_json("1e2"), &whole));
    assert_int_equal(whole, 100);
    assert_false(lt_doc_is_int(parse_json("1.5"), &whole));
    assert_false(lt_doc_is_int(parse_json("9223372036854775808"), &whole));
}

static void refuses_with_line_and_column(LT_UNUSED void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"", "expected a value"},
        {"{", "expected a key"},
        {"[1,]", "expected a value"},
        {"{\"a\":1,}", "expected a key"},
        {"{\"a\"}", "expected \":\""},
        {"[1 2]", "expected \",\" or \"]\""},
        {"{\"a\":1]", "expected \",\" or \"}\""},
        {"1 2", "more text"},
        {"nul", "expected a value"},
        {"01", "malformed number"},
        {"-", "malformed number"},
        {"1.", "malformed number"},
        {"1e", "malformed number"},
        {"+1", "expected a value"},
        {"1e999", "too large"},
        {"\"", "ends inside"},
        {"\"\\", "ends inside"},
        {"\"\\x\"", "unknown escape"},
        {"\"\\u12\"", "hexadecimal"},
        {"\"\\ud800\"", "surrogate"},
        {"\"\\ud800\\u0041\"", "surrogate"},
        {"\"\\udc00\"", "surrogate"},
        {"\"\\u0000\"", "NUL"},
        {"\"\t\"", "control character"},
        {"\"\xff\"", "not UTF-8"},
        {"\"\xc0\xaf\"", "not UTF-8"},
        {"// x\n1", "expected a value"},
        {"{\"a\":1,\"a\":2}", "key \"a\" is written twice"},
        {"[1,\n 2,\n  x]", "line 3, column 3: expected a value"},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(cases); i++) {
        const struct lt_doc *doc = NULL;
        assert_int_equal(lt_json_parse(arena, lt_str_of(cases[i].text), NULL, &doc, &err),
                         LT_E_BAD);
        assert_text_has(err.text, cases[i].message);
        assert_null(doc);
    }
}

static void finds_a_double_among_many_keys(LT_UNUSED void **state)
{
    struct lt_buf text;
    const struct lt_doc *doc = NULL;
    lt_buf_init(&text, 1u << 20);
    lt_buf_addf(&text, "{\"k7\":0");
    for (int i = 0; i < 1000; i++)
        lt_buf_addf(&text, ",\n\"%s%d\":%d", i == 7 ? "j" : "k", i, i);
    lt_buf_addf(&text, "}");
    assert_int_equal(lt_json_parse(arena, lt_buf_str(&text), NULL, &doc, &err), LT_OK);
    assert_int_equal(doc->count, 1001);
    text.end--;
    lt_buf_addf(&text, ",\n\"k500\":1}");
    assert_int_equal(lt_json_parse(arena, lt_buf_str(&text), NULL, &doc, &err), LT_E_BAD);
    assert_text_has(err.text, "line 1002: key \"k500\" is written twice");
    lt_buf_fini(&text);
}

static char *repeat(const char *piece, size_t times)
{
    char *text = lt_arena_bytes(arena, strlen(piece) * times + 1);
    for (size_t i = 0; i < times; i++)
        memcpy(text + i * strlen(piece), piece, strlen(piece));
    text[strlen(piece) * times] = '\0';
    return text;
}

static void keeps_its_limits(LT_UNUSED void **state)
{
    const struct lt_doc *doc = NULL;
    struct lt_doc_limits limits = {100, 10, 3};
    assert_int_equal(lt_json_parse(arena, LT_STR("[[[1]]]"), &limits, &doc, &err), LT_OK);
    assert_int_equal(lt_json_parse(arena, LT_STR("[[[[1]]]]"), &limits, &doc, &err), LT_E_LIMIT);
    assert_int_equal(lt_json_parse(arena, LT_STR("[1,2,3,4,5,6,7,8,9]"), &limits, &doc, &err),
                     LT_OK);
    assert_int_equal(lt_json_parse(arena, LT_STR("[1,2,3,4,5,6,7,8,9,10]"), &limits, &doc, &err),
                     LT_E_LIMIT);
    assert_int_equal(lt_json_parse(arena, lt_str_of(repeat(" ", 101)), &limits, &doc, &err),
                     LT_E_LIMIT);
    /* a million brackets must neither recurse nor pass */
    assert_int_equal(lt_json_parse(arena, lt_str_of(repeat("[", 1000000)), NULL, &doc, &err),
                     LT_E_LIMIT);
    assert_int_equal(lt_json_parse(arena, lt_str_of(repeat("{\"a\":", 1000000)), NULL, &doc, &err),
                     LT_E_LIMIT);
}

static void small_arenas_are_a_limit(LT_UNUSED void **state)
{
    static const char text[] =
        "{\"a\":[1,2,{\"bcdefghijklmnopqrstuvwxyz\":\"some longer text than the others\"}],\"c\":{}}";
    for (size_t room = 1; room < 600; room += 7) {
        struct lt_arena *small = lt_arena_new(16, room);
        const struct lt_doc *doc = NULL;
        lt_rc rc = lt_json_parse(small, lt_str_of(text), NULL, &doc, &err);
        assert_true(rc == LT_OK || rc == LT_E_LIMIT);
        if (rc == LT_OK)
            assert_string_equal(doc_text(doc), text);
        lt_arena_free(&small);
    }
}

static void writer_indents_and_repairs(LT_UNUSED void **state)
{
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, 1000);
    lt_json_writer_init(&w, &buf, 2);
    lt_json_object_open(&w);
    lt_json_kv_str(&w, "bad", lt_str_make("a\xff\"b\xe2\x82", 6));
    lt_json_key(&w, LT_STR("list"));
    lt_json_array_open(&w);
    lt_json_int(&w, -1);
    lt_json_uint(&w, UINT64_MAX);
    lt_json_array_close(&w);
    lt_json_key(&w, LT_STR("none"));
    lt_json_object_open(&w);
    lt_json_object_close(&w);
    lt_json_object_close(&w);
    assert_string_equal(
        finish_json(&w, &buf),
        "{\n  \"bad\": \"a\xEF\xBF\xBD\\\"b\xEF\xBF\xBD\xEF\xBF\xBD\",\n  \"list\": [\n    -1,\n"
        "    18446744073709551615\n  ],\n  \"none\": {}\n}");
}

static void writer_remembers_a_full_buffer(LT_UNUSED void **state)
{
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_json_array_open(&w);
    for (int i = 0; i < 100; i++)
        lt_json_str(&w, LT_STR("word"));
    lt_json_array_close(&w);
    assert_int_equal(lt_json_writer_finish(&w), LT_E_LIMIT);
    lt_buf_fini(&buf);
}

static void paths_read_well(LT_UNUSED void **state)
{
    struct lt_doc_path root = {0}, a = {&root, LT_STR("metadata"), 0},
                       b = {&a, LT_STR("labels"), 0}, c = {&b, LT_STR("app.kubernetes.io/name"), 0},
                       d = {&b, LT_STR_NULL, 3};
    char text[64], small[16];
    assert_string_equal(lt_doc_path_format(&c, text, sizeof(text)),
                        "metadata.labels[\"app.kubernetes.io/name\"]");
    assert_string_equal(lt_doc_path_format(&d, text, sizeof(text)), "metadata.labels[3]");
    assert_string_equal(lt_doc_path_format(&root, text, sizeof(text)), "");
    assert_string_equal(lt_doc_path_format(&d, small, sizeof(small)), "....labels[3]");
    struct lt_doc node = {.kind = LT_DOC_INT, .line = 7};
    assert_int_equal(lt_doc_expected(&err, &d, &node, "string"), LT_E_BAD);
    assert_string_equal(err.text, "line 7: metadata.labels[3]: expected string, got number");
}

static void builders_build(LT_UNUSED void **state)
{
    struct lt_doc object = lt_doc_of_object();
    struct lt_doc *list = lt_doc_set(arena, &object, LT_STR("list"), lt_doc_of_array());
    for (int i = 0; i < 9; i++)
        lt_doc_push(arena, list, lt_doc_of_int(i));
    lt_doc_set(arena, &object, LT_STR("a"), lt_doc_of_str(LT_STR("x")));
    lt_doc_set(arena, &object, LT_STR("a"), lt_doc_of_str(LT_STR("y")));
    assert_string_equal(doc_text(&object), "{\"list\":[0,1,2,3,4,5,6,7,8],\"a\":\"y\"}");
    struct lt_doc copy = lt_doc_copy(arena, &object);
    assert_true(lt_doc_eq(&copy, &object));
    lt_doc_push(arena, lt_doc_set(arena, &copy, LT_STR("list"), copy.members[0].value),
                lt_doc_of_null());
    assert_false(lt_doc_eq(&copy, &object));
    assert_true(
        lt_doc_eq(parse_json("{\"a\":1,\"b\":[2.0]}"), parse_json("{\"b\":[2],\"a\":1.0}")));
    assert_false(lt_doc_eq(parse_json("{\"a\":1}"), parse_json("{\"b\":1}")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(reads_what_it_should),
        cmocka_unit_test(refuses_with_line_and_column),
        cmocka_unit_test(finds_a_double_among_many_keys),
        cmocka_unit_test(keeps_its_limits),
        cmocka_unit_test(small_arenas_are_a_limit),
        cmocka_unit_test(writer_indents_and_repairs),
        cmocka_unit_test(writer_remembers_a_full_buffer),
        cmocka_unit_test(paths_read_well),
        cmocka_unit_test(builders_build),
    };
    return cmocka_run_group_tests(tests, arena_up, arena_down);
}
