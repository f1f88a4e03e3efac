/*
 * proxy/admin/dump.h - private to admin_dump*.c: the parts of /config_dump.
 */
#ifndef LT_PROXY_ADMIN_DUMP_H
#define LT_PROXY_ADMIN_DUMP_H

#include "proxy/admin/admin_priv.h"
#include "wire/json.h"

/* The repeated fields of Envoy's config dumps that we fill; in the order of the page. */
typedef enum {
    PX_DUMP_STATIC_CLUSTERS,
    PX_DUMP_DYNAMIC_CLUSTERS,
    PX_DUMP_WARMING_CLUSTERS,
    PX_DUMP_ECDS_FILTERS,
    PX_DUMP_STATIC_ENDPOINTS,
    PX_DUMP_DYNAMIC_ENDPOINTS,
    PX_DUMP_STATIC_LISTENERS,
    PX_DUMP_DYNAMIC_LISTENERS,
    PX_DUMP_STATIC_ROUTES,
    PX_DUMP_DYNAMIC_ROUTES,
    PX_DUMP_STATIC_SECRETS,
    PX_DUMP_DYNAMIC_SECRETS,
    PX_DUMP_WARMING_SECRETS,
    PX_DUMP_FIELDS,
} px_dump_field;

/* One element of such a field. */
struct px_dump_item {
    px_dump_field field;
    struct px_resource *resource, *warming; /* counted; either may be NULL */
    struct px_row_error *error;             /* counted; NULL: the last update was good */
    struct px_vhost_set *hosts;             /* counted; DYNAMIC_ROUTES: on demand; NULL: none */
    unsigned nth;                           /* STATIC_ROUTES: of the listener's own ones */
};

void px_dump_item_free(struct px_dump_item *item);
/* Into w, as one object; type: its "@type", or NULL. scratch is the caller's to reset. */
void px_dump_write_item(const struct px_dump_item *item, const char *type, struct lt_arena *scratch,
                        struct lt_json_writer *w);
/* The message as it came; empty when it is not kept. */
lt_str px_dump_message(const struct px_resource *resource);
/* How many route configurations the listener has in itself. */
unsigned px_dump_inline_routes(const struct px_listener_conf *listener);

/* --- masks (dump_mask.c) --- */

/* The part of json (an object) that the mask names, into w; false: it names nothing. */
bool px_dump_write_masked(lt_str json, lt_str mask, struct lt_arena *scratch,
                          struct lt_json_writer *w);

#endif
