/*
 * tests/fuzz/store.c - px_store_read: the file of the last good resources, torn and spoilt. What is
 * read is written again and must be read as the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/xds/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The fuzzer does not find hashes by itself: the first record gets the right one. */
static void mend(char *text, size_t size)
{
    if (size < 48)
        return;
    uint32_t len = 0;
    memcpy(&len, text + 8, sizeof(len));
    if (len < 8 || len > size)
        return;
    uint64_t hash = lt_hash64(text + 8, len - 8, 0);
    memcpy(text, &hash, sizeof(hash));
}

static void check_same(const struct px_store_record *a, const struct px_store_record *b)
{
    LT_ASSERT(a->op == b->op && a->kind == b->kind && a->at_ns == b->at_ns);
    LT_ASSERT(lt_str_eq(a->source, b->source) && lt_str_eq(a->name, b->name));
    LT_ASSERT(lt_str_eq(a->version, b->version) && lt_str_eq(a->bytes, b->bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = lt_malloc(size + 1);
    memcpy(text, data, size);
    mend(text, size);
    lt_str rest = lt_str_make(text, size);
    struct px_store_record record, again;
    while (px_store_read(&rest, &record) == LT_OK) {
        struct lt_buf out;
        lt_buf_init(&out, size + 64);
        px_store_write(&out, &record);
        lt_str written = lt_buf_str(&out);
        lt_rc rc = px_store_read(&written, &again);
        LT_ASSERT(rc == LT_OK && written.len == 0);
        check_same(&record, &again);
        lt_buf_fini(&out);
    }
    free(text);
    return 0;
}
