/*
 * tests/fuzz/metric_carry.c - lt_metric_add_saved, lt_metric_save.
 * Input: bytes as another process may have saved them. What must hold: what was taken can be saved
 * and added again.
 */
#include "base/metric_carry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 65536)
        return 0;
    struct lt_metric_set *set = lt_metric_set_new(64), *again = lt_metric_set_new(64);
    struct lt_buf out;
    lt_buf_init(&out, 1 << 24);
    (void)!lt_metric_add_saved(set, lt_str_make(data, size));
    if (lt_metric_save(set, &out) == LT_OK)
        LT_ASSERT(lt_metric_add_saved(again, lt_buf_str(&out)) == LT_OK);
    lt_buf_fini(&out);
    lt_metric_set_free(&set);
    lt_metric_set_free(&again);
    return 0;
}
