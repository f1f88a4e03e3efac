/*
 * proxy/health/names.c - looking up the names of DNS clusters, when to do it again, and endpoints
 * from what was found (STRICT_DNS: each address is a host; LOGICAL_DNS: the first one is the host).
 */
#include "proxy/health/names.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>

#include "base/backoff.h"
#include "base/vec.h"

/* --- resolvers --- */

struct resolver {
    struct lt_dns *dns;     /* owned */
    struct px_dns_conf key; /* servers and how to ask; the rest is not compared */
    struct lt_addr servers[PX_RESOLVERS_MAX];
};

struct px_resolvers {
    struct lt_loop *loop;
    struct lt_vec items; /* of struct resolver, owned */
};

struct px_resolvers *px_resolvers_new(struct lt_loop *loop)
{
    struct px_resolvers *resolvers = lt_new(struct px_resolvers);
    resolvers->loop = loop;
    return resolvers;
}

void px_resolvers_free(struct px_resolvers **pointer)
{
    struct px_resolvers *resolvers = *pointer;
    *pointer = NULL;
    if (resolvers == NULL)
        return;
    while (resolvers->items.count > 0) {
        struct resolver *resolver = lt_vec_pop(&resolvers->items);
        lt_dns_free(&resolver->dns);
        free(resolver);
    }
    lt_vec_fini(&resolvers->items);
    free(resolvers);
}

static bool same_servers(const struct resolver *resolver, const struct px_dns_conf *conf)
{
    for (size_t i = 0; i < conf->server_count; i++) {
        if (!lt_addr_eq(&resolver->servers[i], &conf->servers[i]))
            return false;
    }
    return true;
}

static bool is_same(const struct resolver *resolver, const struct px_dns_conf *conf)
{
    const struct px_dns_conf *key = &resolver->key;
    return key->server_count == conf->server_count &&
           key->servers_are_fallback == conf->servers_are_fallback &&
           key->uses_tcp == conf->uses_tcp && key->has_no_search == conf->has_no_search &&
           key->rotates == conf->rotates && key->tries == conf->tries &&
           key->timeout_ms == conf->timeout_ms && same_servers(resolver, conf);
}

static struct lt_dns *get_resolver(struct px_resolvers *resolvers, const struct px_dns_conf *conf)
{
    for (size_t i = 0; i < resolvers->items.count; i++) {
        struct resolver *resolver = resolvers->items.items[i];
        if (is_same(resolver, conf))
            return resolver->dns;
    }
    struct lt_dns_opts opts = {.servers = conf->servers,
                               .server_count = conf->server_count,
                               .servers_are_fallback = conf->servers_are_fallback,
                               .uses_tcp = conf->uses_tcp,
                               .has_no_search = conf->has_no_search,
                               .rotates = conf->rotates,
                               .tries = conf->tries,
                               .timeout_ms = (uint32_t)conf->timeout_ms};
    struct resolver *resolver = lt_new(struct resolver);
    resolver->key = *conf;
    for (size_t i = 0; i < conf->server_count; i++)
        resolver->servers[i] = conf->servers[i];
    resolver->dns = lt_dns_new(resolvers->loop, &opts);
    lt_vec_push(&resolvers->items, resolver);
    return resolver->dns;
}

/* --- names --- */

/* One endpoint that is a name. */
struct target {
    struct px_names *names;
    const struct px_endpoint_conf *endpoint; /* of the conf */
    struct lt_dns_query *query;              /* owned; NULL: none is open */
    bool asks_second; /* the first family had none: the other is being asked */
    struct lt_timer again;
    struct lt_backoff backoff;
    struct lt_addr *addrs; /* owned; with port */
    size_t count;
    bool is_answered;
};

struct px_names {
    struct px_names_opts opts;
    struct lt_dns *dns;     /* borrowed of the resolvers */
    struct target *targets; /* owned; those of inline_endpoints that are names */
    size_t target_count;
    bool is_answered;
    struct px_names_stats stats;
};

static void ask(struct target *target);

/* --- what was found --- */

static int by_address(const void *a, const void *b)
{
    const struct lt_addr *x = a, *y = b;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return memcmp(&x->sa, &y->sa, x->len);
}

/* An address of a family that no interface has can't be reached (filter_unroutable_families). */
static bool has_interface(int family)
{
    struct ifaddrs *all = NULL;
    bool is_found = false;
    if (getifaddrs(&all) != 0)
        return true;
    for (const struct ifaddrs *it = all; it != NULL && !is_found; it = it->ifa_next)
        is_found = it->ifa_addr != NULL && it->ifa_addr->sa_family == family &&
                   (it->ifa_flags & IFF_LOOPBACK) == 0;
    freeifaddrs(all);
    return is_found;
}

static size_t copy_found(const struct target *target, const struct lt_dns_addr *found, size_t count,
                         struct lt_addr *out)
{
    const struct px_dns_conf *dns = target->names->opts.conf->dns;
    bool takes_v4 = !dns->skips_unroutable || has_interface(AF_INET);
    bool takes_v6 = !dns->skips_unroutable || has_interface(AF_INET6);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(found[i].addr.sa.sa_family == AF_INET ? takes_v4 : takes_v6))
            continue;
        out[kept] = found[i].addr;
        lt_addr_set_port(&out[kept++], target->endpoint->port);
    }
    return kept;
}

/* True when that is something else than before. Of a logical host only the first counts. */
static bool take_found(struct target *target, const struct lt_dns_addr *found, size_t count)
{
    struct lt_addr *addrs = lt_calloc(count + 1, sizeof(*addrs));
    count = copy_found(target, found, count, addrs);
    if (target->names->opts.conf->dns->is_one_host)
        count = LT_MIN(count, (size_t)1);
    else
        lt_sort(addrs, count, sizeof(*addrs), by_address); /* servers turn their answers round */
    bool is_same_list = count == target->count;
    for (size_t i = 0; is_same_list && i < count; i++)
        is_same_list = lt_addr_eq(&addrs[i], &target->addrs[i]);
    free(target->addrs);
    target->addrs = addrs;
    target->count = count;
    return !is_same_list;
}

/* --- when it is asked again --- */

static uint64_t least_ttl_ms(const struct lt_dns_addr *found, size_t count)
{
    uint32_t ttl_s = UINT32_MAX;
    for (size_t i = 0; i < count; i++)
        ttl_s = LT_MIN(ttl_s, found[i].ttl_s);
    return count == 0 ? 0 : ttl_s * 1000ull;
}

static void ask_later(struct target *target, const struct lt_dns_addr *found, size_t count)
{
    struct px_names *names = target->names;
    const struct px_dns_conf *dns = names->opts.conf->dns;
    uint64_t wait_ms = dns->refresh_ms, ttl_ms = least_ttl_ms(found, count);
    if (dns->respects_ttl && ttl_ms > 0)
        wait_ms = LT_MAX(ttl_ms, dns->min_refresh_ms);
    if (dns->jitter_ms > 0)
        wait_ms += lt_prng_next(names->opts.prng) % dns->jitter_ms;
    lt_backoff_reset(&target->backoff);
    lt_loop_timer_set(names->opts.loop, &target->again, wait_ms * LT_NS_PER_MS);
}

static void ask_after_failure(struct target *target)
{
    struct px_names *names = target->names;
    const struct px_dns_conf *dns = names->opts.conf->dns;
    bool is_steady = dns->failure_base_ms == dns->failure_max_ms;
    uint64_t wait_ns = is_steady ? dns->failure_base_ms * LT_NS_PER_MS
                                 : lt_backoff_next_ns(&target->backoff, names->opts.prng);
    names->stats.failures++;
    lt_loop_timer_set(names->opts.loop, &target->again, wait_ns);
}

static void on_again(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    ask(LT_CONTAINER_OF(timer, struct target, again));
}

/* --- asking --- */

static int first_family(px_dns_family family)
{
    switch (family) {
    case PX_FAMILY_V4:
    case PX_FAMILY_V4_PREFERRED: return AF_INET;
    case PX_FAMILY_V6:
    case PX_FAMILY_AUTO: return AF_INET6;
    case PX_FAMILY_ALL: break;
    }
    return AF_UNSPEC;
}

/* AF_UNSPEC: there is no other. */
static int second_family(px_dns_family family)
{
    return family == PX_FAMILY_V4_PREFERRED ? AF_INET6
           : family == PX_FAMILY_AUTO       ? AF_INET
                                            : AF_UNSPEC;
}

/* Found nothing: STRICT_DNS has no hosts then; a logical host keeps the address that it had. */
static void finish(struct target *target, lt_rc rc, const struct lt_dns_addr *found, size_t count)
{
    struct px_names *names = target->names;
    bool is_one_host = names->opts.conf->dns->is_one_host;
    bool is_known = rc == LT_OK || (rc == LT_E_NOT_FOUND && !is_one_host);
    bool is_changed = is_known && take_found(target, found, count);
    if (is_known) {
        names->stats.successes++;
        ask_later(target, found, count);
    } else {
        ask_after_failure(target);
    }
    bool is_first = !names->is_answered;
    target->is_answered = names->is_answered = true;
    if (is_first || is_changed)
        names->opts.on_change(names->opts.ctx);
}

static void on_found(void *ctx, lt_rc rc, const struct lt_dns_addr *found, size_t count,
                     const char *reason LT_UNUSED)
{
    struct target *target = ctx;
    struct px_names *names = target->names;
    int second = second_family(names->opts.conf->dns->family);
    target->query = NULL;
    if (rc != LT_OK && second != AF_UNSPEC && !target->asks_second) {
        target->asks_second = true;
        target->query = lt_dns_ask(names->dns, lt_str_of(target->endpoint->name), second, on_found,
                                   target);
        return;
    }
    finish(target, rc, found, count);
}

static void ask(struct target *target)
{
    struct px_names *names = target->names;
    names->stats.attempts++;
    target->asks_second = false;
    target->query = lt_dns_ask(names->dns, lt_str_of(target->endpoint->name),
                               first_family(names->opts.conf->dns->family), on_found, target);
}

/* --- endpoints --- */

static size_t count_endpoints(const struct px_names *names)
{
    size_t count = names->opts.conf->inline_endpoints->endpoint_count;
    for (size_t i = 0; i < names->target_count; i++)
        count += names->targets[i].count;
    return count;
}

/* Envoy has a host for each name that an address has; here it is one, with the weight of all. */
static bool add_weight(struct px_endpoint_conf *endpoints, uint32_t count,
                       const struct lt_addr *addr, uint32_t weight)
{
    for (uint32_t i = 0; i < count; i++) {
        struct lt_addr other = px_endpoint_addr(&endpoints[i]);
        if (!lt_addr_eq(&other, addr))
            continue;
        endpoints[i].weight = LT_MIN(endpoints[i].weight, UINT32_MAX - weight) + weight;
        return true;
    }
    return false;
}

struct px_endpoints_conf *px_names_endpoints(const struct px_names *names)
{
    const struct px_endpoints_conf *like = names->opts.conf->inline_endpoints;
    struct px_endpoints_conf *made = px_endpoints_new(names->opts.conf->res.name, like);
    struct lt_arena *arena = made->res.arena;
    struct px_endpoint_conf *endpoints = lt_arena_make_n(arena, struct px_endpoint_conf,
                                                         count_endpoints(names));
    uint32_t at = 0, target_at = 0;
    for (uint32_t i = 0; i < like->endpoint_count; i++) {
        struct px_endpoint_conf copy = px_endpoint_copy(arena, &like->endpoints[i]);
        if (copy.kind != PX_AT_NAME) {
            endpoints[at++] = copy;
            continue;
        }
        const struct target *target = &names->targets[target_at++];
        for (size_t j = 0; j < target->count; j++) {
            if (add_weight(endpoints, at, &target->addrs[j], copy.weight))
                continue;
            endpoints[at] = copy;
            px_endpoint_set_addr(arena, &endpoints[at++], &target->addrs[j]);
        }
    }
    made->endpoints = endpoints;
    made->endpoint_count = at;
    return made;
}

/* --- life --- */

/* A name that the version before knew: its addresses serve until they are asked for again. */
static void inherit(struct target *target, const struct px_names *before)
{
    for (size_t i = 0; before != NULL && i < before->target_count; i++) {
        const struct target *old = &before->targets[i];
        if (!old->is_answered || strcmp(old->endpoint->name, target->endpoint->name) != 0 ||
            old->count == 0)
            continue;
        target->addrs = lt_calloc(old->count, sizeof(*target->addrs));
        memcpy(target->addrs, old->addrs, old->count * sizeof(*target->addrs));
        target->count = old->count;
        for (size_t j = 0; j < target->count; j++)
            lt_addr_set_port(&target->addrs[j], target->endpoint->port);
        target->is_answered = target->names->is_answered = true;
        return;
    }
}

static void init_target(struct px_names *names, struct target *target,
                        const struct px_endpoint_conf *endpoint)
{
    const struct px_dns_conf *dns = names->opts.conf->dns;
    target->names = names;
    target->endpoint = endpoint;
    lt_timer_init(&target->again, on_again);
    lt_backoff_init(&target->backoff, dns->failure_base_ms * LT_NS_PER_MS,
                    dns->failure_max_ms * LT_NS_PER_MS);
    inherit(target, names->opts.before);
    lt_loop_timer_set(names->opts.loop, &target->again, 0);
}

struct px_names *px_names_new(const struct px_names_opts *opts)
{
    const struct px_endpoints_conf *inline_endpoints = opts->conf->inline_endpoints;
    struct px_names *names = lt_new(struct px_names);
    names->opts = *opts;
    names->dns = get_resolver(opts->resolvers, opts->conf->dns);
    names->targets = lt_calloc(inline_endpoints->endpoint_count + 1, sizeof(*names->targets));
    for (uint32_t i = 0; i < inline_endpoints->endpoint_count; i++) {
        const struct px_endpoint_conf *endpoint = &inline_endpoints->endpoints[i];
        if (endpoint->kind == PX_AT_NAME)
            init_target(names, &names->targets[names->target_count++], endpoint);
    }
    names->is_answered |= names->target_count == 0; /* literal addresses alone */
    names->opts.before = NULL;
    return names;
}

void px_names_free(struct px_names **pointer)
{
    struct px_names *names = *pointer;
    *pointer = NULL;
    if (names == NULL)
        return;
    for (size_t i = 0; i < names->target_count; i++) {
        struct target *target = &names->targets[i];
        lt_dns_cancel(&target->query);
        lt_loop_timer_cancel(names->opts.loop, &target->again);
        free(target->addrs);
    }
    free(names->targets);
    free(names);
}

bool px_names_are_answered(const struct px_names *names)
{
    return names->is_answered;
}

const struct px_names_stats *px_names_stats(const struct px_names *names)
{
    return &names->stats;
}
