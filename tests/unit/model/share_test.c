/*
 * share_test.c - equal things are one, and what others hold lives on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "model/load.h"

static void equal_strings_and_blocks_are_one(void **state)
{
    (void)state;
    struct lt_share *share = lt_share_new();
    lt_str a = lt_share_str(share, LT_STR("app")), b = lt_share_str(share, LT_STR("app"));
    assert_ptr_equal(a.ptr, b.ptr);
    assert_string_equal(a.ptr, "app");
    assert_ptr_not_equal(a.ptr, lt_share_str(share, LT_STR("ap")).ptr);
    uint64_t block[] = {1, 2}, same[] = {1, 2}, other[] = {2, 1};
    assert_ptr_equal(lt_share_block(share, block, sizeof(block)),
                     lt_share_block(share, same, sizeof(same)));
    assert_ptr_not_equal(lt_share_block(share, block, sizeof(block)),
                         lt_share_block(share, other, sizeof(other)));
    lt_share_seal(share);
    lt_share_unref(&share);
}

/* Blocks are aligned, whatever string has the same bytes. */
static void a_string_never_stands_for_a_block(void **state)
{
    (void)state;
    struct lt_share *share = lt_share_new();
    lt_share_str(share, LT_STR("x"));
    lt_str text = lt_share_str(share, LT_STR("12345678"));
    const void *block = lt_share_block(share, "12345678", 8);
    assert_ptr_not_equal(text.ptr, block);
    assert_int_equal((uintptr_t)block % 16, 0);
    lt_share_unref(&share);
}

static void pods_of_one_file_share_what_is_equal(void **state)
{
    (void)state;
    static const char two[] =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: web, v: one}}\nspec: {containers: [{name: c}]}\n---\n"
        "apiVersion: v1\nkind: Pod\nmetadata: {name: b, labels: {v: one, app: web}}\nspec: {containers: [{name: c}]}\n";
    struct lt_manifests *m = lt_manifests_new();
    size_t count = 0;
    lt_manifests_put(m, LT_STR("f.yaml"), lt_str_of(two));
    const struct lt_object *const *objects = lt_manifests_objects(m, &count, NULL);
    assert_int_equal(count, 2);
    assert_ptr_equal(objects[0]->pod->spec, objects[1]->pod->spec);
    assert_ptr_equal(objects[0]->meta->labels.items, objects[1]->meta->labels.items);
    struct lt_object *kept = lt_object_ref(objects[1]);
    lt_manifests_free(&m);
    assert_true(lt_str_eqz(kept->key.name, "b")); /* who counts one keeps what it stands on */
    lt_object_unref(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_strings_and_blocks_are_one),
        cmocka_unit_test(a_string_never_stands_for_a_block),
        cmocka_unit_test(pods_of_one_file_share_what_is_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
