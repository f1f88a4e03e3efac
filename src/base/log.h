/*
 * base/log.h - log lines of the programs. Libraries return errors; programs log, once.
 * One line: time, level, scope, message. A struct lt_log is carried in lt_env; it is safe to use
 * from several threads (one write call a line).
 */
#ifndef LT_BASE_LOG_H
#define LT_BASE_LOG_H

#include "base/str.h"

typedef enum {
    LT_LOG_TRACE,
    LT_LOG_DEBUG,
    LT_LOG_INFO,
    LT_LOG_WARN,
    LT_LOG_ERROR,
    LT_LOG_OFF
} lt_log_level;

struct lt_log {
    int fd;              /* borrowed; where lines go */
    lt_log_level level;  /* lines below it are not made */
    const char *program; /* borrowed; scope prefix, e.g. "lateen-proxy" */
};

const char *lt_log_level_name(lt_log_level level);
/* "trace" "debug" "info" "warn"/"warning" "error"/"critical" "off"/"none". */
LT_MUST lt_rc lt_log_level_parse(lt_str name, lt_log_level *ret_level);

void lt_log_write(const struct lt_log *log, lt_log_level level, const char *fmt, ...)
    LT_PRINTF(3, 4);

#define lt_log_debug(log, ...) LT_LOG_AT(log, LT_LOG_DEBUG, __VA_ARGS__)
#define lt_log_info(log, ...) LT_LOG_AT(log, LT_LOG_INFO, __VA_ARGS__)
#define lt_log_warn(log, ...) LT_LOG_AT(log, LT_LOG_WARN, __VA_ARGS__)
#define lt_log_error(log, ...) LT_LOG_AT(log, LT_LOG_ERROR, __VA_ARGS__)
#define LT_LOG_AT(log, at, ...) \
    do { \
        if ((log)->level <= (at)) \
            lt_log_write((log), (at), __VA_ARGS__); \
    } while (0)

#endif
