/*
 * proxy/table/vhosts.c - virtual hosts on demand, by route configuration.
 */
#include "proxy/table/vhosts.h"

#include <stdlib.h>

#include "proxy/conf/domains.h"

lt_str px_vhost_space(lt_str name)
{
    ptrdiff_t slash = lt_str_rfind_char(name, '/');
    bool is_name = slash > 0 && (size_t)slash + 1 < name.len;
    return is_name ? lt_str_slice(name, 0, (size_t)slash + 1) : LT_STR_NULL;
}

/* --- sets --- */

/* Serves, and is of this route configuration. */
static const struct px_vhost_conf *vhost_at(const struct px_row *row, const struct px_row *space)
{
    if (row == NULL || row->serving == NULL || row->source != space->source ||
        !lt_str_eq(px_vhost_space(px_row_name(row)), px_row_name(space)))
        return NULL;
    return (const struct px_vhost_conf *)row->serving;
}

static struct px_vhost_set *make_set(struct lt_vec *confs)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct px_vhost_set *set = lt_arena_make(arena, struct px_vhost_set);
    const struct px_vhost **vhosts = lt_arena_make_n(arena, const struct px_vhost *, confs->count);
    lt_str twice = LT_STR_NULL;
    set->refs = 1;
    set->arena = arena;
    set->count = confs->count;
    set->vhosts = lt_arena_make_n(arena, const struct px_vhost_conf *, confs->count);
    for (size_t i = 0; i < confs->count; i++) {
        set->vhosts[i] = (const struct px_vhost_conf *)px_resource_ref(confs->items[i]);
        vhosts[i] = &set->vhosts[i]->vhost;
    }
    /* two of one answer may have the same domain: the first keeps it */
    lt_rc rc = px_domains_make(arena, vhosts, set->count, true, &set->domains, &twice);
    LT_ASSERT(rc == LT_OK);
    return set;
}

struct px_vhost_set *px_vhost_set_new(const struct px_rows *rows, const struct px_row *space)
{
    const struct px_row_set *all = px_row_set(rows, PX_VHOST);
    struct lt_vec confs = {0};
    for (uint32_t i = 0; i < all->slot_count; i++) {
        const struct px_vhost_conf *conf = vhost_at(all->by_slot[i], space);
        if (conf != NULL)
            lt_vec_push(&confs, (void *)conf);
    }
    struct px_vhost_set *set = confs.count > 0 ? make_set(&confs) : NULL;
    lt_vec_fini(&confs);
    return set;
}

struct px_vhost_set *px_vhost_set_ref(struct px_vhost_set *set)
{
    set->refs++;
    return set;
}

void px_vhost_set_unref(struct px_vhost_set **pointer)
{
    struct px_vhost_set *set = *pointer;
    *pointer = NULL;
    if (set == NULL || --set->refs > 0)
        return;
    for (size_t i = 0; i < set->count; i++) {
        struct px_resource *conf = (struct px_resource *)set->vhosts[i];
        px_resource_unref(&conf);
    }
    lt_map_fini(&set->domains.exact);
    struct lt_arena *arena = set->arena;
    lt_arena_free(&arena);
}

/* --- domains that are taken --- */

/* NULL: nobody, or the predecessor of conf. */
static const struct px_vhost *owner_of(const struct px_vhost_set *set,
                                       const struct px_vhost_conf *conf, lt_str domain)
{
    const struct px_vhost *owner = set == NULL ? NULL : px_domains_owner(&set->domains, domain);
    if (owner == NULL)
        return NULL;
    const struct px_vhost_conf *other = LT_CONTAINER_OF(owner, const struct px_vhost_conf, vhost);
    return lt_str_eq(other->res.name, conf->res.name) ? NULL : owner;
}

static lt_rc check(const struct px_routes_conf *routes, const struct px_vhost_set *set,
                   const struct px_vhost_conf *conf, struct lt_err *err)
{
    for (size_t i = 0; i < conf->vhost.domain_count; i++) {
        lt_str domain = conf->vhost.domains[i];
        if (px_domains_owner(&routes->domains, domain) != NULL ||
            owner_of(set, conf, domain) != NULL)
            return lt_err_set(err, LT_E_EXISTS,
                              "Only unique values for domains are permitted. Duplicate entry of "
                              "domain %.*s in route %.*s",
                              LT_STR_ARG(domain), LT_STR_ARG(routes->res.name));
    }
    return LT_OK;
}

lt_rc px_vhost_check(const struct px_rows *rows, const struct px_shelf *shelf,
                     const struct px_source *source, const struct px_vhost_conf *conf,
                     struct lt_err *err)
{
    const struct px_row *space = px_row_look_up(rows, PX_VHOST, source,
                                                px_vhost_space(conf->res.name));
    const struct px_row_set *all = px_row_set(rows, PX_ROUTES);
    for (uint32_t i = 0; space != NULL && i < all->slot_count; i++) {
        const struct px_row *row = all->by_slot[i];
        const struct px_routes_conf *routes = row == NULL
                                                  ? NULL
                                                  : (const struct px_routes_conf *)px_row_any(row);
        const struct px_routes_entry *entry = px_shelf_at(shelf, i);
        if (routes != NULL && routes->vhds_row == space)
            LT_TRY(check(routes, entry != NULL ? entry->on_demand : NULL, conf, err));
    }
    return LT_OK;
}
