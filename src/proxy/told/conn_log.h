/*
 * proxy/told/conn_log.h - access logs of listeners: one line for each connection, at its end.
 */
#ifndef LT_PROXY_TOLD_CONN_LOG_H
#define LT_PROXY_TOLD_CONN_LOG_H

#include "proxy/conf/format.h"
#include "proxy/run/run.h"

/* A request of it went over the wire; flags: of it. */
void px_conn_log_bytes(struct px_conn *conn, uint64_t received, uint64_t sent, uint32_t flags);
/* Once; of raw TCP, which knows more. */
void px_conn_log(struct px_conn *conn, const struct px_log_facts *facts);
/* It ends, and nothing was told yet. */
void px_conn_log_end(struct px_conn *conn);

#endif
