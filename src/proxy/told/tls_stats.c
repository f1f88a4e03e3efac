/*
 * proxy/told/tls_stats.c - what became of TLS handshakes, by Envoy's names:
 * listener.<address>.ssl.* and cluster.<name>.ssl.*. Series exist once there is something to count.
 */
#include "proxy/told/tls_stats.h"

#include <stdio.h>

enum { NAME_BYTES = 128 };

/* --- of a listener --- */

void px_listener_count(const struct px_conn *conn, const char *stat)
{
    static const lt_str label = LT_STR("listener_address");
    char name[NAME_BYTES], short_name[NAME_BYTES], address[LT_ADDR_TEXT_MAX];
    (void)snprintf(short_name, sizeof(short_name), "listener.$0.%s", stat);
    (void)snprintf(name, sizeof(name), "envoy_listener_%s", stat);
    for (char *at = name; *at != '\0'; at++)
        *at = *at == '.' ? '_' : *at;
    lt_addr_format(&conn->listener->addr, address);
    for (char *at = address; *at != '\0'; at++)
        *at = *at == ':' ? '_' : *at;
    const struct lt_metric_desc desc = {
        .name = lt_str_of(name),
        .kind = LT_METRIC_COUNTER,
        .stat = lt_str_of(short_name),
        .labels = &label,
        .label_count = 1,
    };
    lt_str value = lt_str_of(address);
    struct lt_metric_family *family = lt_metric_family(conn->worker->metrics, &desc);
    lt_counter_add(lt_metric_counter(family, &value), 1);
}

void px_tls_count_client(const struct px_conn *conn, bool is_good)
{
    static const char *const faults[] = {
        [LT_TLS_FAULT_NONE] = "ssl.connection_error",
        [LT_TLS_FAULT_NO_CERT] = "ssl.fail_verify_no_cert",
        [LT_TLS_FAULT_CHAIN] = "ssl.fail_verify_error",
        [LT_TLS_FAULT_SAN] = "ssl.fail_verify_san",
        [LT_TLS_FAULT_HASH] = "ssl.fail_verify_cert_hash",
    };
    if (!is_good) {
        px_listener_count(conn, faults[lt_tls_fault_of(&conn->transport)]);
        return;
    }
    px_listener_count(conn, "ssl.handshake");
    if (lt_tls_is_resumed(&conn->transport))
        px_listener_count(conn, "ssl.session_reused");
    if (!lt_tls_has_peer_cert(&conn->transport))
        px_listener_count(conn, "ssl.no_certificate");
}

/* --- of a cluster --- */

void px_tls_count_server(struct px_upstream *up, bool is_good)
{
    static const px_cluster_stat faults[] = {
        [LT_TLS_FAULT_NONE] = PX_STAT_SSL_CONNECTION_ERROR,
        [LT_TLS_FAULT_NO_CERT] = PX_STAT_SSL_FAIL_NO_CERT,
        [LT_TLS_FAULT_CHAIN] = PX_STAT_SSL_FAIL_CHAIN,
        [LT_TLS_FAULT_SAN] = PX_STAT_SSL_FAIL_SAN,
        [LT_TLS_FAULT_HASH] = PX_STAT_SSL_FAIL_HASH,
    };
    struct px_cluster *cluster = up->host->cluster;
    if (up->transport.tls == NULL)
        return;
    if (!is_good) {
        px_cluster_count(cluster, faults[lt_tls_fault_of(&up->transport)]);
        return;
    }
    px_cluster_count(cluster, PX_STAT_SSL_HANDSHAKE);
    if (lt_tls_is_resumed(&up->transport))
        px_cluster_count(cluster, PX_STAT_SSL_RESUMED);
}
