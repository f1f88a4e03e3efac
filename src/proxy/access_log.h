/*
 * proxy/access_log.h - access logs: formats compiled once, lines gathered, files written in one
 * piece a turn. Operators: Envoy's %COMMAND(ARG?ALT):LENGTH%, those of Istio's default format and
 * their relatives (access_log.c has the table); an operator that we don't know shows as "-".
 */
#ifndef LT_PROXY_ACCESS_LOG_H
#define LT_PROXY_ACCESS_LOG_H

#include "base/buf.h"
#include "http/headers.h"
#include "net/loop.h"
#include "proxy/conf.h"

/* What a line can tell. Empty slices show as "-". */
struct px_log_facts {
    int64_t start_wall_ns;
    lt_str method, path, original_path, protocol, authority, scheme;
    const struct lt_headers *request;  /* NULL on TCP */
    const struct lt_headers *response; /* NULL when there is none */
    const struct lt_headers *trailers; /* NULL when there is none */
    uint32_t code;
    uint32_t flags;
    const char *details;             /* response code details; NULL */
    const char *termination_details; /* NULL */
    const char *transport_failure;   /* upstream; NULL or "" */
    uint64_t bytes_received, bytes_sent;
    uint64_t duration_ns;
    uint64_t request_ns;  /* until the last byte of the request */
    uint64_t response_ns; /* until the first byte of the response */
    lt_str upstream_host, upstream_cluster;
    lt_str upstream_local;
    lt_str downstream_local, downstream_remote, downstream_direct_remote;
    lt_str requested_server_name, route_name;
    lt_str downstream_peer_uri, downstream_local_uri, tls_version, tls_cipher;
    uint32_t attempts;
    uint64_t connection_id;
};

struct px_access_logger;

struct px_access_logger *px_access_logger_new(struct lt_loop *loop);
/* Writes what is left. */
void px_access_logger_free(struct px_access_logger **logger);

void px_access_log_write(struct px_access_logger *logger, const struct px_access_log *log,
                         const struct px_log_facts *facts);

/*
 * One text with operators, for header edits (%PROTOCOL% and so on); appended to out. LT_E_LIMIT
 * when it is full.
 */
LT_MUST lt_rc px_format_text(lt_str format, const struct px_log_facts *facts, struct lt_buf *out);

#endif
