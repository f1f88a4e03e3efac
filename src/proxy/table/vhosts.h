/*
 * proxy/table/vhosts.h - virtual hosts that came on demand: which route configuration each belongs
 * to, and the sets of them that snapshots have.
 * A route configuration `r` with VHDS has a row "r/" (px_routes_conf.vhds_row) that never serves: it
 * says that the hosts of `r` are wanted, and who waits for it waits for the first answer. Virtual
 * hosts are rows "r/<any>" of the same source.
 * Main thread only.
 */
#ifndef LT_PROXY_TABLE_VHOSTS_H
#define LT_PROXY_TABLE_VHOSTS_H

#include "proxy/table/table.h"

/* "r/" of "r/host"; empty: that is no name of a virtual host. */
lt_str px_vhost_space(lt_str name);

/* Those that serve now for the row "r/"; one reference. NULL: none. */
struct px_vhost_set *px_vhost_set_new(const struct px_rows *rows, const struct px_row *space);
struct px_vhost_set *px_vhost_set_ref(struct px_vhost_set *set);
void px_vhost_set_unref(struct px_vhost_set **set);

/*
 * LT_E_EXISTS: some domain is another's, of the route configurations that the virtual host would
 * be of; routes: of the last snapshot.
 */
LT_MUST lt_rc px_vhost_check(const struct px_rows *rows, const struct px_shelf *routes,
                             const struct px_source *source, const struct px_vhost_conf *conf,
                             struct lt_err *err);

#endif
