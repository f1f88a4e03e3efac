/*
 * tests/unit/wire/wire_test.h - what the tests of this room share: an arena, text in, text out.
 */
#ifndef LT_WIRE_TEST_H
#define LT_WIRE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/json.h"
#include "wire/pbjson.h"
#include "wire/struct.h"
#include "wire/yaml.h"

/* One arena for the group, emptied before each test. */
static struct lt_arena *arena;
static struct lt_err err;

static inline int arena_up(LT_UNUSED void **state)
{
    arena = lt_arena_new(0, 0);
    return 0;
}

static inline int arena_down(LT_UNUSED void **state)
{
    lt_arena_free(&arena);
    return 0;
}

static inline const struct lt_doc *parse_json(const char *text)
{
    const struct lt_doc *doc = NULL;
    err.text[0] = '\0';
    if (lt_json_parse(arena, lt_str_of(text), NULL, &doc, &err) != LT_OK)
        fail_msg("%s: %s", text, err.text);
    return doc;
}

static inline const struct lt_doc *parse_yaml(const char *text)
{
    const struct lt_doc *doc = NULL;
    err.text[0] = '\0';
    if (lt_yaml_parse(arena, lt_yaml_whole(lt_str_of(text)), NULL, &doc, &err) != LT_OK)
        fail_msg("%s: %s", text, err.text);
    return doc;
}

static inline const char *finish_json(struct lt_json_writer *w, struct lt_buf *buf)
{
    assert_int_equal(lt_json_writer_finish(w), LT_OK);
    const char *text = lt_arena_strz(arena, lt_buf_str(buf));
    lt_buf_fini(buf);
    return text;
}

static inline const char *doc_text(const struct lt_doc *doc)
{
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, 64u << 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_json_doc(&w, doc);
    return finish_json(&w, &buf);
}

static inline const char *message_text_with(const void *message, bool shows_secrets)
{
    struct lt_pbjson_write_opts opts = {.shows_secrets = shows_secrets};
    struct lt_buf buf;
    struct lt_json_writer w;
    lt_buf_init(&buf, 64u << 20);
    lt_json_writer_init(&w, &buf, 0);
    lt_pbjson_write(&w, arena, message, &opts);
    return finish_json(&w, &buf);
}

static inline const char *message_text(const void *message)
{
    return message_text_with(message, false);
}

#define assert_text_has(text, piece) \
    do { \
        if (strstr((text), (piece)) == NULL) \
            fail_msg("no \"%s\" in \"%s\"", (piece), (text)); \
    } while (0)

#endif
