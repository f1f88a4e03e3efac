/*
 * proxy/conf/format_parts.h - private to format.c and format_more.c: what an operator is.
 */
#ifndef LT_PROXY_CONF_FORMAT_PARTS_H
#define LT_PROXY_CONF_FORMAT_PARTS_H

#include "proxy/conf/format.h"

/* Where a value goes: no further than room; what does not fit is counted. */
struct px_sink {
    struct lt_buf *buf;
    size_t room;
    size_t missing;
};

void px_sink_put(struct px_sink *out, lt_str text);
void px_sink_put_number(struct px_sink *out, uint64_t number);

/* Appends what the operator stands for; nothing at all means "-". */
typedef void px_op_fn(const struct px_log_facts *facts, lt_str argument, struct px_sink *out);

/* Those that few formats have (format_more.c); false: there is none of that name. */
bool px_format_more(lt_str name, px_op_fn **ret_op, bool *ret_is_number);

#endif
