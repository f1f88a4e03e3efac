/*
 * proxy/told/tls_stats.h - private to the run time: counters of listeners and TLS handshakes.
 */
#ifndef LT_PROXY_TOLD_TLS_STATS_H
#define LT_PROXY_TOLD_TLS_STATS_H

#include "proxy/http/request.h"

/* listener.<address>.<stat> */
void px_listener_count(const struct px_conn *conn, const char *stat);
/* How the handshake with a client, with a host ended. */
void px_tls_count_client(const struct px_conn *conn, bool is_good);
void px_tls_count_server(struct px_upstream *up, bool is_good);

#endif
