/*
 * tests/unit/proxy/dns_names_test.c - a name table and the names that are found by it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/agent/dns_names.h"
#include "wire/pb.h"
#include "wire/proto/istio_nds.pb-c.h"

static const struct px_dns_facts facts = {LT_STR("shop"), LT_STR("shop.svc.cluster.local"),
                                          LT_STR("Shop.svc.cluster.local.")};

struct row {
    const char *host, *registry, *short_name, *namespace;
    const char *ips[3];
};

static const struct row rows[] = {
    {"web.shop.svc.cluster.local", "Kubernetes", "web", "shop", {"10.0.0.1", "fd00::1"}},
    {"web.stock.svc.cluster.local", "Kubernetes", "web", "stock", {"10.0.0.2"}},
    {"Web.Stock", "External", "", "shop", {"10.0.0.3"}}, /* another's short form */
    {"*.wild", "External", "", "shop", {"10.0.0.4", "10.0.0.0/8", "nonsense"}},
    {"exact.wild", "External", "", "shop", {"10.0.0.5"}},
};

static lt_str pack_table(struct lt_arena *arena)
{
    Istio__NameTable table = ISTIO__NAME_TABLE__INIT;
    table.n_table = LT_ARRAY_LEN(rows);
    table.table = lt_arena_make_n(arena, Istio__NameTable__TableEntry *, table.n_table);
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        Istio__NameTable__TableEntry *entry = lt_arena_make(arena, Istio__NameTable__TableEntry);
        Istio__NameTable__NameInfo *info = lt_arena_make(arena, Istio__NameTable__NameInfo);
        istio__name_table__table_entry__init(entry);
        istio__name_table__name_info__init(info);
        info->registry = rows[i].registry;
        info->shortname = rows[i].short_name;
        info->namespace_ = rows[i].namespace;
        info->ips = lt_arena_make_n(arena, const char *, 3);
        for (size_t k = 0; k < 3 && rows[i].ips[k] != NULL; k++)
            info->ips[info->n_ips++] = rows[i].ips[k];
        entry->key = rows[i].host;
        entry->value = info;
        table.table[i] = entry;
    }
    return lt_pb_pack(arena, &table.base);
}

static unsigned last_byte(const struct px_dns_names *names, const char *name)
{
    struct px_dns_found found;
    if (!px_dns_names_find(names, lt_str_of(name), &found))
        return 0;
    return found.v4_count > 0 ? found.v4[3] : UINT32_MAX;
}

static void test_names(void **state)
{
    (void)state;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct px_dns_names *names = NULL;
    struct px_dns_found found;
    struct lt_err err = {0};
    assert_int_equal(px_dns_names_make(pack_table(arena), &facts, &names, &err), LT_OK);
    static const struct {
        const char *name;
        unsigned last;
    } wanted[] = {
        {"web.shop.svc.cluster.local", 1},
        {"web.shop", 1},
        {"web.shop.svc", 1},
        {"web", 1},
        {"web.stock.svc", 2},
        {"web.stock.svc.cluster.local", 2},
        {"web.stock", 3},
        {"a.wild", 4},
        {"a.b.wild", 4},
        {"exact.wild", 5},
        {"a.exact.wild", 4},
        {"wild", 0},
        {"svc.cluster.local", 0},
        {"", 0},
        {"web.other", 0},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(wanted); i++)
        assert_int_equal(last_byte(names, wanted[i].name), wanted[i].last);
    assert_true(px_dns_names_find(names, LT_STR("web"), &found));
    assert_int_equal(found.v6_count, 1);
    assert_int_equal(found.target.len, 0);
    assert_true(px_dns_names_find(names, LT_STR("x.wild.shop.svc.cluster.local"), &found));
    assert_int_equal(found.v4_count, 1); /* what is no address is left out */
    assert_true(lt_str_eqz(found.target, "x.wild"));
    px_dns_names_free(&names);
    assert_int_equal(px_dns_names_make(LT_STR("\x0a\xff"), &facts, &names, &err), LT_E_BAD);
    assert_int_equal(px_dns_names_make(LT_STR(""), &facts, &names, &err), LT_OK);
    assert_int_equal(last_byte(names, "web"), 0);
    px_dns_names_free(&names);
    lt_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
