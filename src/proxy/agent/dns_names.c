/*
 * proxy/agent/dns_names.c - names to addresses, as a table from the control plane says.
 * Start at: px_dns_names_make(), px_dns_names_find().
 */
#include "proxy/agent/dns_names.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "base/map.h"
#include "net/dns_msg.h"
#include "wire/pb.h"
#include "wire/proto/istio_nds.pb-c.h"

enum { NAMES_MAX = 1 << 20, MEMORY_MAX = 512 << 20, V4_BYTES = 4, V6_BYTES = 16 };

struct px_dns_names {
    struct lt_arena *arena; /* owned; holds names and addresses */
    struct lt_map by_name;  /* struct px_dns_found; "*.x" of wildcards */
    lt_str search;          /* with a dot in front; or empty */
};

/* --- making --- */

static lt_str lower(struct lt_arena *arena, lt_str name)
{
    char *text = lt_arena_bytes(arena, name.len + 1);
    size_t len = name.len > 0 && name.ptr[name.len - 1] == '.' ? name.len - 1 : name.len;
    for (size_t i = 0; i < len; i++)
        text[i] = name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? (char)(name.ptr[i] | 0x20)
                                                           : name.ptr[i];
    text[len] = '\0';
    return lt_str_make(text, len);
}

static struct px_dns_found *read_addresses(struct lt_arena *arena,
                                           const Istio__NameTable__NameInfo *info)
{
    struct px_dns_found *found = lt_arena_make(arena, struct px_dns_found);
    uint8_t *v4 = (uint8_t *)lt_arena_bytes(arena, info->n_ips * V4_BYTES + 1),
            *v6 = (uint8_t *)lt_arena_bytes(arena, info->n_ips * V6_BYTES + 1);
    for (size_t i = 0; i < info->n_ips; i++) {
        if (inet_pton(AF_INET, info->ips[i], v4 + found->v4_count * V4_BYTES) == 1)
            found->v4_count++;
        else if (inet_pton(AF_INET6, info->ips[i], v6 + found->v6_count * V6_BYTES) == 1)
            found->v6_count++;
    }
    found->v4 = v4;
    found->v6 = v6;
    return found;
}

/* The first that has a name keeps it, but a full name is nobody else's. */
static void add(struct px_dns_names *names, lt_str name, struct px_dns_found *found, bool is_full)
{
    name = lower(names->arena, name);
    bool fits = name.len > 0 && name.len < LT_DNS_TEXT_MAX && names->by_name.count < NAMES_MAX;
    if (fits && (is_full || lt_map_find(&names->by_name, name) == NULL))
        lt_map_put(&names->by_name, name, found);
}

/* "svc.cluster.local" of "shop.svc.cluster.local" in the namespace shop. */
static lt_str domain_of(const struct px_dns_facts *facts)
{
    lt_str rest = facts->domain, first;
    if (lt_str_split(&rest, '.', &first) && rest.ptr != NULL && lt_str_eq(first, facts->namespace))
        return rest;
    return facts->domain;
}

static void add_short_forms(struct px_dns_names *names, lt_str host,
                            const Istio__NameTable__NameInfo *info, struct px_dns_found *found,
                            const struct px_dns_facts *facts)
{
    lt_str domain = domain_of(facts), first, short_name = lt_str_of(info->shortname),
           namespace = lt_str_of(info->namespace_);
    if (short_name.len == 0 || domain.len == 0 || !lt_str_ends(host, domain))
        return; /* of another domain */
    lt_str rest = domain;
    (void)lt_str_split(&rest, '.', &first);
    add(names,
        lt_arena_printf(names->arena, "%.*s.%.*s", LT_STR_ARG(short_name), LT_STR_ARG(namespace)),
        found, false);
    add(names,
        lt_arena_printf(names->arena, "%.*s.%.*s.%.*s", LT_STR_ARG(short_name),
                        LT_STR_ARG(namespace), LT_STR_ARG(first)),
        found, false);
    if (lt_str_eq(namespace, facts->namespace))
        add(names, short_name, found, false);
}

static void add_entry(struct px_dns_names *names, lt_str host,
                      const Istio__NameTable__NameInfo *info, const struct px_dns_facts *facts)
{
    struct px_dns_found *found = read_addresses(names->arena, info);
    add(names, host, found, true);
    for (size_t i = 0; i < info->n_alt_hosts; i++)
        add(names, lt_str_of(info->alt_hosts[i]), found, false);
    if (lt_str_eqz(lt_str_of(info->registry), "Kubernetes"))
        add_short_forms(names, host, info, found, facts);
}

lt_rc px_dns_names_make(lt_str table, const struct px_dns_facts *facts,
                        struct px_dns_names **ret_names, struct lt_err *err)
{
    struct lt_pb_opts opts = LT_PB_OPTS_DEFAULT;
    Istio__NameTable *message = NULL;
    struct lt_arena *scratch = lt_arena_new(64 * 1024, MEMORY_MAX);
    lt_rc rc = lt_pb_unpack(scratch, &istio__name_table__descriptor, table, &opts, &message, err);
    if (rc != LT_OK) {
        lt_arena_free(&scratch);
        return rc;
    }
    struct px_dns_names *names = lt_new(struct px_dns_names);
    names->arena = lt_arena_new(16 * 1024, 0);
    if (facts->search.len > 0)
        names->search = lower(names->arena,
                              lt_arena_printf(names->arena, ".%.*s", LT_STR_ARG(facts->search)));
    for (size_t i = 0; i < message->n_table; i++) {
        if (message->table[i]->value != NULL)
            add_entry(names, lt_str_of(message->table[i]->key), message->table[i]->value, facts);
    }
    lt_arena_free(&scratch);
    *ret_names = names;
    return LT_OK;
}

void px_dns_names_free(struct px_dns_names **pointer)
{
    struct px_dns_names *names = *pointer;
    *pointer = NULL;
    if (names == NULL)
        return;
    lt_map_fini(&names->by_name);
    lt_arena_free(&names->arena);
    free(names);
}

/* --- questions --- */

/* Of "a.b.c" also "*.b.c" and "*.c". */
static const struct px_dns_found *find_wildcard(const struct px_dns_names *names, lt_str name)
{
    char text[LT_DNS_TEXT_MAX + 2];
    lt_str label;
    while (lt_str_split(&name, '.', &label) && name.ptr != NULL && name.len < LT_DNS_TEXT_MAX) {
        text[0] = '*';
        text[1] = '.';
        memcpy(text + 2, name.ptr, name.len);
        const struct px_dns_found *found = lt_map_find(&names->by_name,
                                                       lt_str_make(text, name.len + 2));
        if (found != NULL)
            return found;
    }
    return NULL;
}

static const struct px_dns_found *find(const struct px_dns_names *names, lt_str name)
{
    const struct px_dns_found *found = lt_map_find(&names->by_name, name);
    return found != NULL ? found : find_wildcard(names, name);
}

bool px_dns_names_find(const struct px_dns_names *names, lt_str name, struct px_dns_found *ret)
{
    const struct px_dns_found *found = find(names, name);
    if (found != NULL) {
        *ret = *found;
        return true;
    }
    if (names->search.len == 0 || !lt_str_ends(name, names->search))
        return false;
    lt_str target = lt_str_slice(name, 0, name.len - names->search.len);
    found = find(names, target);
    if (found == NULL)
        return false;
    *ret = *found;
    ret->target = target;
    return true;
}
