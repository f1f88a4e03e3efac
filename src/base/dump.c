/*
 * base/dump.c - the writer behind all dumps. A line is made whole on the stack, then handed on.
 */
#include "base/dump.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { LINE_BYTES = 1024, INDENT = 4, DEPTH_SHOWN = 16 };

struct line {
    char text[LINE_BYTES];
    size_t len; /* at most LINE_BYTES - 4: "..." and the line end always fit */
    bool is_cut;
};

void lt_dump_init(struct lt_dump *dump, struct lt_buf *out)
{
    LT_ASSERT(out != NULL);
    *dump = (struct lt_dump){.out = out, .fd = -1};
}

void lt_dump_init_fd(struct lt_dump *dump, int fd)
{
    *dump = (struct lt_dump){.fd = fd};
}

static void put(struct line *line, const char *text, size_t len)
{
    size_t room = LINE_BYTES - 4 - line->len;
    line->is_cut |= len > room;
    len = LT_MIN(len, room);
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

static void begin(struct line *line, const struct lt_dump *dump)
{
    line->len = 0;
    line->is_cut = false;
    for (unsigned i = 0; i < LT_MIN(dump->depth, (unsigned)DEPTH_SHOWN); i++)
        put(line, "    ", INDENT);
}

/* Once a buffer was full nothing more is written, so that no line is missing in the middle. */
static void emit(struct lt_dump *dump, struct line *line)
{
    if (line->is_cut) {
        memcpy(line->text + line->len, "...", 3);
        line->len += 3;
    }
    line->text[line->len++] = '\n';
    if (dump->out == NULL) {
        ssize_t ignored = write(dump->fd, line->text, line->len);
        (void)ignored;
    } else if (!dump->is_cut && lt_buf_append(dump->out, line->text, line->len) != LT_OK) {
        dump->is_cut = true;
    }
}

/* In quotes; what could end the quotes or the line, and what no terminal shows, as escapes. */
static void put_quoted(struct line *line, lt_str value)
{
    put(line, "\"", 1);
    for (size_t i = 0; i < value.len && !line->is_cut; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        char escape[5];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            put(line, &value.ptr[i], 1);
            continue;
        }
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", c);
        else
            snprintf(escape, sizeof(escape), "\\x%02x", c);
        put_text(line, escape);
    }
    put(line, "\"", 1);
}

void lt_dump_open(struct lt_dump *dump, const char *kind, lt_str name)
{
    struct line line;
    begin(&line, dump);
    put_text(&line, kind);
    if (name.len > 0) {
        put(&line, " ", 1);
        put_quoted(&line, name);
    }
    put_text(&line, " {");
    emit(dump, &line);
    dump->depth++;
}

void lt_dump_close(struct lt_dump *dump)
{
    struct line line;
    LT_ASSERT(dump->depth > 0);
    dump->depth--;
    begin(&line, dump);
    put(&line, "}", 1);
    emit(dump, &line);
}

static void begin_field(struct line *line, const struct lt_dump *dump, const char *name)
{
    begin(line, dump);
    put_text(line, name);
    put(line, ": ", 2);
}

void lt_dump_fmt(struct lt_dump *dump, const char *name, const char *fmt, ...)
{
    struct line line;
    char text[LINE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    begin_field(&line, dump, name);
    put_text(&line, text);
    emit(dump, &line);
}

void lt_dump_str(struct lt_dump *dump, const char *name, lt_str value)
{
    struct line line;
    begin_field(&line, dump, name);
    put_quoted(&line, value);
    emit(dump, &line);
}

void lt_dump_int(struct lt_dump *dump, const char *name, int64_t value)
{
    lt_dump_fmt(dump, name, "%" PRId64, value);
}

void lt_dump_uint(struct lt_dump *dump, const char *name, uint64_t value)
{
    lt_dump_fmt(dump, name, "%" PRIu64, value);
}

void lt_dump_bool(struct lt_dump *dump, const char *name, bool value)
{
    lt_dump_fmt(dump, name, "%s", value ? "true" : "false");
}
