/*
 * proxy/admin/certs.h - the page /certs: what this proxy shows and trusts, in Envoy's shape.
 */
#ifndef LT_PROXY_ADMIN_CERTS_H
#define LT_PROXY_ADMIN_CERTS_H

#include "proxy/table/table.h"
#include "wire/json.h"

/* The whole object; now_s: for the days that are left. */
void px_admin_write_certs(const struct px_table *table, int64_t now_s, struct lt_json_writer *w);

#endif
