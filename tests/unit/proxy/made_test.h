/*
 * tests/unit/proxy/made_test.h - for tests that compile one resource at a time: set_up and tear_down
 * go into cmocka's lists, `made` is the latest one, `err` says why there is none.
 */
#ifndef LT_PROXY_MADE_TEST_H
#define LT_PROXY_MADE_TEST_H

#include "conf_test.h"

static struct lt_arena *arena;
static struct px_tls_slots *slots;
static struct px_resource *made;
static struct lt_err err;

static inline int set_up(void **state)
{
    (void)state;
    arena = lt_arena_new(0, 0);
    slots = px_tls_slots_new();
    made = NULL;
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    px_resource_unref(&made);
    px_tls_slots_free(&slots);
    lt_arena_free(&arena);
    return 0;
}

/* A listener with one filter: pack_filter(). */
static inline lt_rc compile_filter(const char *type, const char *fields)
{
    lt_err_clear(&err);
    px_resource_unref(&made);
    lt_str bytes = pack_filter(arena, type, fields);
    return px_conf_compile(PX_LISTENER, LT_STR_NULL, LT_STR_NULL, bytes, slots, &made, &err);
}

#endif
