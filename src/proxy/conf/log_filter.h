/*
 * proxy/conf/log_filter.h - which requests an access log tells of: AccessLogFilter of Envoy's API.
 */
#ifndef LT_PROXY_CONF_LOG_FILTER_H
#define LT_PROXY_CONF_LOG_FILTER_H

#include "proxy/conf/conf.h"
#include "proxy/conf/format.h"

typedef enum {
    PX_LOG_IF_STATUS,
    PX_LOG_IF_DURATION,
    PX_LOG_IF_NOT_HEALTH_CHECK, /* there are none that a filter of ours answers */
    PX_LOG_IF_TRACED,
    PX_LOG_IF_RANDOM, /* runtime_filter: its default, of a million */
    PX_LOG_IF_ALL,
    PX_LOG_IF_ANY,
    PX_LOG_IF_HEADER,
    PX_LOG_IF_FLAG,
    PX_LOG_IF_GRPC,
    PX_LOG_IF_METADATA,
    PX_LOG_IF_TYPE,
} px_log_filter_kind;

typedef enum { PX_LOG_EQ, PX_LOG_GE, PX_LOG_LE, PX_LOG_NE } px_log_op;

struct px_log_filter {
    px_log_filter_kind kind;
    px_log_op op;                     /* STATUS, DURATION (milliseconds) */
    uint32_t value;                   /* the same; RANDOM: ppm */
    uint64_t set;                     /* FLAG: PX_FLAG_*, 0 any; GRPC, TYPE: a bit for each */
    bool excludes;                    /* GRPC, TYPE */
    bool ignores_id;                  /* RANDOM: use_independent_randomness */
    bool match_missing;               /* METADATA: match_if_key_not_found */
    const struct px_meta_match *meta; /* METADATA; NULL: no key is found */
    const struct px_header_match *header;
    const struct px_log_filter *parts; /* ALL, ANY */
    size_t part_count;
};

enum { PX_LOG_FILTER_DEPTH_MAX = 16 };

/* envoy.data.accesslog.v3.AccessLogType */
enum {
    PX_LOG_TYPE_NOT_SET = 0, /* of listeners */
    PX_LOG_TYPE_TCP_CONNECTED = 1,
    PX_LOG_TYPE_TCP_PERIODIC = 2,
    PX_LOG_TYPE_TCP_END = 3,
    PX_LOG_TYPE_HTTP_START = 4,
    PX_LOG_TYPE_HTTP_PERIODIC = 5,
    PX_LOG_TYPE_HTTP_END = 6,
    PX_LOG_TYPE_TUNNEL = 10,
};

/* Of trailers, head, or what the status stands for; not known: there was no response. */
uint32_t px_log_grpc_status(const struct px_log_facts *facts, bool *ret_is_known);
bool px_log_filter_takes(const struct px_log_filter *filter, const struct px_log_facts *facts);

#endif
