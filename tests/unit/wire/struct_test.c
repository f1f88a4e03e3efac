/*
 * tests/unit/wire/struct_test.c - Structs level by level, and base64.
 */
#include "wire_test.h"

#include "wire/base64.h"

static Pb__Struct *struct_of(const char *json)
{
    return lt_struct_from_doc(arena, parse_json(json));
}

static void finds_on_the_first_level(LT_UNUSED void **state)
{
    Pb__Struct *st = struct_of("{\"a\":\"x\",\"b\":{\"c\":\"y\"},\"n\":1}"), *inner = NULL;
    assert_string_equal(lt_struct_find_str(st, "a").ptr, "x");
    assert_null(lt_struct_find_str(st, "n").ptr);
    assert_null(lt_struct_find_str(st, "nobody").ptr);
    assert_null(lt_struct_find(NULL, LT_STR("a")));
    assert_int_equal(lt_struct_find_struct(arena, st, "b", &inner, &err), LT_OK);
    assert_string_equal(lt_struct_find_str(inner, "c").ptr, "y");
    assert_int_equal(lt_struct_find_struct(arena, st, "a", &inner, &err), LT_E_NOT_FOUND);
}

static void converts_there_and_back(LT_UNUSED void **state)
{
    static const char text[] = "{\"a\":[1,-2.5,[],{}],\"b\":{\"c\":[null,true]},\"s\":\"\"}";
    struct lt_doc doc;
    assert_int_equal(lt_struct_to_doc(arena, struct_of(text), NULL, &doc, &err), LT_OK);
    assert_string_equal(doc_text(&doc), text);
    assert_int_equal(lt_struct_to_doc(arena, NULL, NULL, &doc, &err), LT_OK);
    assert_string_equal(doc_text(&doc), "{}");
    assert_int_equal(lt_struct_to_doc(arena, struct_of("{\"n\":1e300,\"m\":9007199254740992}"),
                                      NULL, &doc, &err),
                     LT_OK);
    assert_int_equal(lt_doc_findz(&doc, "n")->kind, LT_DOC_DOUBLE);
    assert_int_equal(lt_doc_findz(&doc, "m")->integer, 9007199254740992);
}

/* Depth is made of bytes here, as a stranger would make it. */
static void depth_count_and_size_are_limited(LT_UNUSED void **state)
{
    Pb__Struct *st = struct_of("{\"a\":1}");
    struct lt_doc_limits limits = {1000, 100, 5};
    struct lt_doc doc;
    for (int depth = 1; depth <= 8; depth++) {
        lt_rc rc = lt_struct_to_doc(arena, st, &limits, &doc, &err);
        assert_int_equal(rc, depth <= 6 ? LT_OK : LT_E_LIMIT);
        Pb__Value *value = lt_pb_new(arena, Pb__Value, pb__value);
        value->kind_case = PB__VALUE__KIND_STRUCT_VALUE;
        value->struct_value = lt_pb_pack_data(arena, st);
        Pb__Struct__FieldsEntry *entry = lt_pb_new(arena, Pb__Struct__FieldsEntry,
                                                   pb__struct__fields_entry);
        entry->key = "k";
        entry->value = value;
        st = lt_pb_new(arena, Pb__Struct, pb__struct);
        st->n_fields = 1;
        st->fields = lt_arena_make(arena, Pb__Struct__FieldsEntry *);
        st->fields[0] = entry;
    }
    limits = (struct lt_doc_limits){1000, 3, 5};
    assert_int_equal(lt_struct_to_doc(arena, struct_of("{\"a\":[1,2]}"), &limits, &doc, &err),
                     LT_OK);
    assert_int_equal(lt_struct_to_doc(arena, struct_of("{\"a\":[1,2,3]}"), &limits, &doc, &err),
                     LT_E_LIMIT);
    limits = (struct lt_doc_limits){10, 100, 5};
    assert_int_equal(
        lt_struct_to_doc(arena, struct_of("{\"a\":[\"0123456789\"]}"), &limits, &doc, &err),
        LT_E_LIMIT);
    st = struct_of("{\"a\":{}}");
    st->fields[0]->value->struct_value = (ProtobufCBinaryData){1, (uint8_t *)"\x0b"};
    assert_int_equal(lt_struct_to_doc(arena, st, NULL, &doc, &err), LT_E_BAD);
}

static void base64_both_ways(LT_UNUSED void **state)
{
    static const char *const bytes[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    static const char *const texts[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                        "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"}; /* RFC 4648, 10 */
    static const char *const wrong[] = {
        "A", "Zg=", "Zg===", "=", "Z===", "Zh==", "Zm9=", "Zm 9", "Zm9v\n", "Zg==Zg==", "Zm9v===="};
    lt_str out = LT_STR_NULL;
    for (size_t i = 0; i < LT_ARRAY_LEN(bytes); i++) {
        assert_string_equal(lt_base64_encode(arena, lt_str_of(bytes[i])).ptr, texts[i]);
        assert_int_equal(lt_base64_decode(arena, lt_str_of(texts[i]), &out), LT_OK);
        assert_true(lt_str_eqz(out, bytes[i]));
    }
    assert_int_equal(lt_base64_decode(arena, LT_STR("-_8"), &out), LT_OK);
    assert_true(lt_str_eq(out, LT_STR("\xfb\xff")));
    for (size_t i = 0; i < LT_ARRAY_LEN(wrong); i++) {
        if (lt_base64_decode(arena, lt_str_of(wrong[i]), &out) != LT_E_BAD)
            fail_msg("%s passed", wrong[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_on_the_first_level),
        cmocka_unit_test(converts_there_and_back),
        cmocka_unit_test(depth_count_and_size_are_limited),
        cmocka_unit_test(base64_both_ways),
    };
    return cmocka_run_group_tests(tests, arena_up, arena_down);
}
