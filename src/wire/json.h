/*
 * wire/json.h - JSON (RFC 8259) text to lt_doc, and a writer that streams JSON into an lt_buf.
 * Ours, because the tree needs lines, limits and an arena. Strict: no comments, no trailing
 * commas, UTF-8 only, no NUL in strings (what comes out goes into C strings), and a key written
 * twice is an error.
 */
#ifndef LT_WIRE_JSON_H
#define LT_WIRE_JSON_H

#include "base/buf.h"
#include "wire/doc.h"

/* The tree lives in arena. limits NULL: LT_DOC_LIMITS_DEFAULT. LT_E_BAD "line 3, column 5: ..." or
 * LT_E_LIMIT. */
LT_MUST lt_rc lt_json_parse(struct lt_arena *arena, lt_str text, const struct lt_doc_limits *limits,
                            const struct lt_doc **ret_doc, struct lt_err *err);

/*
 * The writer puts commas and, with indent > 0, line breaks and that many blanks a level. Values are
 * written in the order of the calls; inside an object each is preceded by its key. A full buffer is
 * remembered and told by finish. Using it wrongly (two keys in a row, a close too many) is our bug
 * and asserts.
 */
enum { LT_JSON_DEPTH_MAX = 256 };

struct lt_json_writer {
    struct lt_buf *out; /* borrowed */
    lt_rc rc;           /* of the first write that failed */
    uint32_t indent;
    uint32_t depth;
    bool has_items;                             /* at this level */
    bool has_key;                               /* a key waits for its value */
    uint64_t is_object[LT_JSON_DEPTH_MAX / 64]; /* a bit per level */
};

void lt_json_writer_init(struct lt_json_writer *w, struct lt_buf *out, uint32_t indent);
/* LT_OK, or LT_E_LIMIT when the buffer was full. Every open was closed. */
LT_MUST lt_rc lt_json_writer_finish(const struct lt_json_writer *w);

void lt_json_object_open(struct lt_json_writer *w);
void lt_json_object_close(struct lt_json_writer *w);
void lt_json_array_open(struct lt_json_writer *w);
void lt_json_array_close(struct lt_json_writer *w);
void lt_json_key(struct lt_json_writer *w, lt_str key);

void lt_json_null(struct lt_json_writer *w);
void lt_json_bool(struct lt_json_writer *w, bool value);
void lt_json_int(struct lt_json_writer *w, int64_t value);
void lt_json_uint(struct lt_json_writer *w, uint64_t value);
/* Shortest text that reads back the same; NaN and the infinities as the strings that protojson
 * uses. */
void lt_json_double(struct lt_json_writer *w, double value);
/* Bytes that are not UTF-8 become U+FFFD. */
void lt_json_str(struct lt_json_writer *w, lt_str value);
void lt_json_strf(struct lt_json_writer *w, const char *fmt, ...) LT_PRINTF(2, 3);
void lt_json_doc(struct lt_json_writer *w, const struct lt_doc *doc);

/* key and value in one. */
void lt_json_kv_object(struct lt_json_writer *w, const char *key); /* closed by the caller */
void lt_json_kv_array(struct lt_json_writer *w, const char *key);
void lt_json_kv_str(struct lt_json_writer *w, const char *key, lt_str value);
void lt_json_kv_int(struct lt_json_writer *w, const char *key, int64_t value);
void lt_json_kv_uint(struct lt_json_writer *w, const char *key, uint64_t value);
void lt_json_kv_bool(struct lt_json_writer *w, const char *key, bool value);

#endif
