/*
 * proxy/told/format_more.h - private to format_*.c: the operators that look at requests and
 * connections themselves. One table for each group.
 */
#ifndef LT_PROXY_TOLD_FORMAT_MORE_H
#define LT_PROXY_TOLD_FORMAT_MORE_H

#include "proxy/conf/format_parts.h"
#include "proxy/http/request.h"

#define PX_OP(name) \
    static void op_##name(const struct px_log_facts *facts LT_UNUSED, lt_str argument LT_UNUSED, \
                          struct px_sink *out LT_UNUSED)

struct px_ops {
    const struct px_op *items;
    size_t count;
};

extern const struct px_ops px_format_meta, px_format_tls, px_format_wire;

#endif
