/*
 * tests/fuzz/resource.c - px_conf_compile: a resource of any kind (the first byte), its Anys at whatever depth, and the
 * walker that lists what nobody reads. No file is opened meanwhile: a resource may name any.
 */
#include <stdint.h>
#include <sys/resource.h>

#include "proxy/compile/compile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES_MAX = 257 };

static void check_lines(const struct px_resource *made)
{
    LT_ASSERT(px_unhonoured_count(made) <= LINES_MAX);
    for (size_t i = 0; i < px_unhonoured_count(made); i++)
        LT_ASSERT(made->extras->unhonoured[i].len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct px_tls_slots *slots;
    struct px_resource *made = NULL;
    struct lt_err err = {0};
    struct rlimit usual, none;
    if (slots == NULL)
        slots = px_tls_slots_new();
    if (size == 0)
        return 0;
    LT_ASSERT(getrlimit(RLIMIT_NOFILE, &usual) == 0);
    none = (struct rlimit){0, usual.rlim_max};
    LT_ASSERT(setrlimit(RLIMIT_NOFILE, &none) == 0);
    lt_rc rc = px_conf_compile((px_resource_kind)(data[0] % PX_RESOURCE_KINDS), LT_STR_NULL,
                               LT_STR_NULL, lt_str_make(data + 1, size - 1), slots, &made, &err);
    LT_ASSERT(setrlimit(RLIMIT_NOFILE, &usual) == 0);
    LT_ASSERT((rc == LT_OK) == (made != NULL));
    if (rc == LT_OK)
        check_lines(made);
    else
        LT_ASSERT(err.text[0] != '\0');
    px_resource_unref(&made);
    return 0;
}
