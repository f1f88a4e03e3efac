/*
 * proxy/conf/format.h - texts with operators, for access logs and header edits: Envoy's
 * %COMMAND(ARG?ALT):LENGTH%, those of Istio's default format and their relatives (format.c has the
 * table). Compiled once, into the resource that has them; written for each request.
 */
#ifndef LT_PROXY_CONF_FORMAT_H
#define LT_PROXY_CONF_FORMAT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/headers.h"

struct px_meta;
struct px_request;
struct px_conn;
struct px_upstream;
struct px_host;
struct px_cluster;
struct lt_doc;

/* What a text can tell. */
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
    const struct px_meta *meta; /* dynamic metadata; NULL: none */
    uint64_t random;            /* the same for all that is said of one request */
    bool is_traced;
    lt_str trace_id;
    /* for what few formats ask for */
    const struct px_request *rq; /* NULL on TCP */
    const struct px_conn *conn;
    const struct px_upstream *up;     /* NULL: none */
    const struct px_host *host;       /* NULL: none */
    const struct px_cluster *cluster; /* NULL: none */
    uint32_t type;                    /* AccessLogType: PX_LOG_TYPE_* */
    const char *client_failure;       /* why TLS with the client failed; NULL */
};

struct px_format;

/*
 * Everything is made in arena. LT_E_BAD: a '%' that neither begins an operator nor is doubled (what
 * follows it would be lost), or a length that is no number; Envoy refuses it, too. ret_unknown: the
 * first operator that we don't have, which says nothing; or empty.
 */
LT_MUST lt_rc px_format_make(struct lt_arena *arena, lt_str text,
                             const struct px_format **ret_format, lt_str *ret_unknown,
                             struct lt_err *err);
/* One operator and nothing else; and one whose value is a number. */
bool px_format_is_one(const struct px_format *format);
bool px_format_is_number(const struct px_format *format);

/* One operator whose value may be a tree: that, or NULL in *ret_tree. False: it is a text. */
bool px_format_tree(const struct px_format *format, const struct px_log_facts *facts,
                    const struct lt_doc **ret_tree);

struct px_format_opts {
    /*
     * Values get so many bytes behind the first `from` of the buffer, and the later ones 64 each:
     * what is longer is cut and says so, as in "abc[90 bytes more]".
     */
    size_t from, values_max;
    bool has_dash;     /* an operator without value says "-" */
    bool refuses_cuts; /* LT_E_LIMIT instead of a cut */
};

/* Appends; LT_E_LIMIT when out is full. */
LT_MUST lt_rc px_format_write(const struct px_format *format, const struct px_log_facts *facts,
                              const struct px_format_opts *opts, struct lt_buf *out);

#endif
