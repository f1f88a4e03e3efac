/*
 * proxy/told/access_log.h - access logs: lines gathered, files written in one piece a turn. A line
 * is written whole, or counted as dropped (lateen_access_log_lines_dropped_total). What lines say:
 * format.h.
 */
#ifndef LT_PROXY_TOLD_ACCESS_LOG_H
#define LT_PROXY_TOLD_ACCESS_LOG_H

#include "base/metric.h"
#include "net/loop.h"
#include "proxy/conf/conf.h"
#include "proxy/conf/format.h"

struct px_access_logger;

/* metrics: for the count of dropped lines. Both are borrowed. */
struct px_access_logger *px_access_logger_new(struct lt_loop *loop, struct lt_metric_set *metrics);
/* Writes what is left. */
void px_access_logger_free(struct px_access_logger **logger);

/* Files are opened anew, as after a rotation; what is buffered goes into the old ones. */
void px_access_logger_reopen(struct px_access_logger *logger);

void px_access_log_write(struct px_access_logger *logger, const struct px_access_log *log,
                         const struct px_log_facts *facts);

#endif
