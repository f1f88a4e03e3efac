/*
 * proxy/start/bootstrap_check.h - what Envoy refuses of a bootstrap beyond single resources: routes
 * to clusters that are not there, TLS contexts that cannot be made.
 */
#ifndef LT_PROXY_START_BOOTSTRAP_CHECK_H
#define LT_PROXY_START_BOOTSTRAP_CHECK_H

#include "proxy/table/table.h"

/* Of a table that holds static resources only. LT_E_BAD names what is wrong. */
LT_MUST lt_rc px_bootstrap_check(struct px_table *table, struct lt_err *err);

#endif
