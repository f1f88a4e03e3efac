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

/* "10.0.0.1" of "10.0.0.1:80", "::1" of "[::1]:80". */
lt_str px_address_ip(lt_str address);
/* LT_STR_NULL: it has none. */
lt_str px_address_port(lt_str address);

/* Appends what the operator stands for; nothing at all means "-". */
typedef void px_op_fn(const struct px_log_facts *facts, lt_str argument, struct px_sink *out);

/* What it stands for, where that may be more than a text; NULL: nothing. For the call. */
typedef const struct lt_doc *px_tree_fn(const struct px_log_facts *facts, lt_str argument);

struct px_op {
    const char *name;
    px_op_fn *run;
    bool is_number;   /* bare in JSON */
    px_tree_fn *tree; /* as it is in JSON; NULL: it is a text */
};

/* A string as it is, anything else as JSON. */
void px_sink_put_tree(struct px_sink *out, const struct lt_doc *node);
/* Down the keys of "a:b:c". */
const struct lt_doc *px_tree_walk(const struct lt_doc *node, lt_str path);
/* An strftime with Envoy's fractions; empty: "2026-08-01T10:00:00.000Z" and the like. */
void px_sink_put_time(struct px_sink *out, lt_str format, int64_t wall_ns, bool is_local);

/* Those that few formats have (told/format_more.c); NULL: there is none of that name. */
const struct px_op *px_format_more(lt_str name);

#endif
