/*
 * base/log.c - one line, one write.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };

static const char *const level_names[] = {"trace", "debug", "info", "warning", "error", "off"};

const char *lt_log_level_name(lt_log_level level)
{
    LT_ASSERT((size_t)level < LT_ARRAY_LEN(level_names));
    return level_names[level];
}

lt_rc lt_log_level_parse(lt_str name, lt_log_level *ret_level)
{
    static const struct {
        const char *name;
        lt_log_level level;
    } names[] = {
        {"trace", LT_LOG_TRACE}, {"debug", LT_LOG_DEBUG},    {"info", LT_LOG_INFO},
        {"warn", LT_LOG_WARN},   {"warning", LT_LOG_WARN},   {"error", LT_LOG_ERROR},
        {"fatal", LT_LOG_ERROR}, {"critical", LT_LOG_ERROR}, {"off", LT_LOG_OFF},
        {"none", LT_LOG_OFF},
    };
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++) {
        if (lt_str_eqz(name, names[i].name)) {
            *ret_level = names[i].level;
            return LT_OK;
        }
    }
    return LT_E_BAD;
}

/* A stranger's words (names, reasons) stay in the line that tells of them. */
static void flatten(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = ' ';
    }
}

void lt_log_write(const struct lt_log *log, lt_log_level level, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &parts);
    len += (size_t)snprintf(line + len, sizeof(line) - len, ".%06ldZ\t%s\t%s\t", now.tv_nsec / 1000,
                            lt_log_level_name(level), log->program);
    va_list args;
    va_start(args, fmt);
    int text = vsnprintf(line + len, sizeof(line) - len - 1, fmt, args);
    va_end(args);
    size_t end = text < 0 ? len : LT_MIN(len + (size_t)text, sizeof(line) - 2);
    flatten(line + len, end - len);
    len = end;
    line[len++] = '\n';
    ssize_t ignored = write(log->fd, line, len);
    (void)ignored; /* a log that cannot be written has nobody left to tell */
}
