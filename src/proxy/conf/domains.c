/*
 * proxy/conf/domains.c - domains of virtual hosts, sorted and found.
 * Start at: px_domains_make(), px_domains_find().
 */
#include "proxy/conf/domains.h"

#include <stdlib.h>

/* --- making it --- */

static int by_length(const void *a, const void *b)
{
    const struct px_domain_suffix *x = a, *y = b;
    return (x->text.len < y->text.len) - (x->text.len > y->text.len);
}

static lt_str lower(struct lt_arena *arena, lt_str text)
{
    lt_str copy = lt_arena_str(arena, text);
    for (size_t i = 0; i < copy.len; i++) {
        char *c = (char *)&copy.ptr[i];
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    return copy;
}

struct lists {
    struct px_domain_suffix *suffixes, *prefixes;
    size_t suffix_count, prefix_count;
};

static const struct px_vhost *text_owner(const struct px_domain_suffix *list, size_t count,
                                         lt_str text)
{
    for (size_t i = 0; i < count; i++) {
        if (lt_str_eq(list[i].text, text))
            return list[i].vhost;
    }
    return NULL;
}

static bool add_text(struct px_domain_suffix *list, size_t *count, lt_str text,
                     const struct px_vhost *vhost)
{
    if (text_owner(list, *count, text) != NULL)
        return false;
    list[(*count)++] = (struct px_domain_suffix){text, vhost};
    return true;
}

/* False: another has it. */
static bool add_domain(struct px_domains *domains, struct lists *lists,
                       const struct px_vhost *vhost, lt_str domain)
{
    if (lt_str_eqz(domain, "*")) {
        bool is_taken = domains->catch_all != NULL;
        domains->catch_all = is_taken ? domains->catch_all : vhost;
        return !is_taken;
    }
    if (domain.ptr[0] == '*')
        return add_text(lists->suffixes, &lists->suffix_count, lt_str_from(domain, 1), vhost);
    if (domain.ptr[domain.len - 1] == '*')
        return add_text(lists->prefixes, &lists->prefix_count,
                        lt_str_slice(domain, 0, domain.len - 1), vhost);
    if (lt_map_find(&domains->exact, domain) != NULL)
        return false;
    lt_map_put(&domains->exact, domain, (void *)vhost);
    return true;
}

static lt_rc add_vhost(struct lt_arena *arena, const struct px_vhost *vhost, bool first_wins,
                       struct px_domains *domains, struct lists *lists, lt_str *ret_twice)
{
    for (size_t i = 0; i < vhost->domain_count; i++) {
        lt_str domain = lower(arena, vhost->domains[i]);
        if (domain.len == 0)
            return LT_E_BAD;
        if (add_domain(domains, lists, vhost, domain) || first_wins)
            continue;
        *ret_twice = domain;
        return LT_E_EXISTS;
    }
    return LT_OK;
}

lt_rc px_domains_make(struct lt_arena *arena, const struct px_vhost *const *vhosts, size_t count,
                      bool first_wins, struct px_domains *domains, lt_str *ret_twice)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += vhosts[i]->domain_count;
    struct lists lists = {
        .suffixes = lt_arena_make_n(arena, struct px_domain_suffix, total),
        .prefixes = lt_arena_make_n(arena, struct px_domain_suffix, total),
    };
    for (size_t i = 0; i < count; i++)
        LT_TRY(add_vhost(arena, vhosts[i], first_wins, domains, &lists, ret_twice));
    qsort(lists.suffixes, lists.suffix_count, sizeof(*lists.suffixes), by_length);
    qsort(lists.prefixes, lists.prefix_count, sizeof(*lists.prefixes), by_length);
    domains->suffixes = lists.suffixes;
    domains->suffix_count = lists.suffix_count;
    domains->prefixes = lists.prefixes;
    domains->prefix_count = lists.prefix_count;
    return LT_OK;
}

/* --- finding --- */

static const struct px_domain_suffix *find_suffix(const struct px_domains *domains, lt_str host)
{
    for (size_t i = 0; i < domains->suffix_count; i++) {
        /* "*.x" needs at least one character for the star */
        if (host.len > domains->suffixes[i].text.len &&
            lt_str_ends(host, domains->suffixes[i].text))
            return &domains->suffixes[i];
    }
    return NULL;
}

static const struct px_domain_suffix *find_prefix(const struct px_domains *domains, lt_str host)
{
    for (size_t i = 0; i < domains->prefix_count; i++) {
        if (host.len > domains->prefixes[i].text.len &&
            lt_str_starts(host, domains->prefixes[i].text))
            return &domains->prefixes[i];
    }
    return NULL;
}

static const struct px_vhost *longer(const struct px_domain_suffix *a,
                                     const struct px_domain_suffix *b)
{
    if (a == NULL || b == NULL)
        return a != NULL ? a->vhost : b != NULL ? b->vhost : NULL;
    return b->text.len > a->text.len ? b->vhost : a->vhost;
}

static const struct px_vhost *find_one(const struct px_domains *domains, lt_str host)
{
    const struct px_vhost *vhost = lt_map_find(&domains->exact, host);
    if (vhost == NULL)
        vhost = longer(find_suffix(domains, host), NULL);
    if (vhost == NULL)
        vhost = longer(find_prefix(domains, host), NULL);
    return vhost != NULL ? vhost : domains->catch_all;
}

static const struct px_vhost *find_both(const struct px_domains *a, const struct px_domains *b,
                                        lt_str host)
{
    const struct px_vhost *vhost = lt_map_find(&a->exact, host);
    if (vhost == NULL)
        vhost = lt_map_find(&b->exact, host);
    if (vhost == NULL)
        vhost = longer(find_suffix(a, host), find_suffix(b, host));
    if (vhost == NULL)
        vhost = longer(find_prefix(a, host), find_prefix(b, host));
    if (vhost == NULL)
        vhost = a->catch_all;
    return vhost != NULL ? vhost : b->catch_all;
}

const struct px_vhost *px_domains_find(const struct px_domains *domains,
                                       const struct px_domains *more, lt_str host)
{
    return more == NULL ? find_one(domains, host) : find_both(domains, more, host);
}

const struct px_vhost *px_domains_owner(const struct px_domains *domains, lt_str domain)
{
    char text[512];
    if (domain.len == 0 || domain.len > sizeof(text))
        return NULL;
    for (size_t i = 0; i < domain.len; i++)
        text[i] = domain.ptr[i] >= 'A' && domain.ptr[i] <= 'Z' ? (char)(domain.ptr[i] + 32)
                                                               : domain.ptr[i];
    domain.ptr = text;
    if (lt_str_eqz(domain, "*"))
        return domains->catch_all;
    if (text[0] == '*')
        return text_owner(domains->suffixes, domains->suffix_count, lt_str_from(domain, 1));
    if (text[domain.len - 1] == '*')
        return text_owner(domains->prefixes, domains->prefix_count,
                          lt_str_slice(domain, 0, domain.len - 1));
    return lt_map_find(&domains->exact, domain);
}
