/*
 * wire/yaml.c - libyaml's events to lt_doc, with Kubernetes' reading of plain scalars.
 * What a plain scalar means follows sigs.k8s.io/yaml: YAML 1.1 in what is a bool or a number,
 * dates stay strings.
 * Trust: the text is a stranger's. libyaml keeps no recursion and limits nesting itself; depth,
 * count and the sum of what aliases stand for are limited in doc_build.c.
 * Start at: lt_yaml_parse().
 */
#include "wire/yaml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/map.h"
#include "base/vec.h"
#include "wire/doc_build.h"
#include "wire/json.h"

struct reader {
    yaml_parser_t parser;
    struct lt_doc_builder build;
    struct lt_map anchors;       /* name to struct lt_doc_built, both in the arena */
    struct lt_vec level_anchors; /* a name or NULL for each open level */
    uint32_t line_offset;        /* what libyaml calls line 0 */
    uint32_t documents;
    lt_str text; /* borrowed */
    struct lt_err *err;
};

/* --- one file, many documents --- */

/* A marker stands at the start of a line, with a blank or the end behind it. */
static bool is_marker(lt_str line, lt_str marker)
{
    return lt_str_starts(line, marker) &&
           (line.len == marker.len || strchr(" \t\r\n", line.ptr[marker.len]) != NULL);
}

static bool has_content(lt_str line)
{
    lt_str text = lt_str_trim(line);
    return text.len > 0 && text.ptr[0] != '#' && line.ptr[0] != '%';
}

/* The first line with its line feed. */
static lt_str first_line(lt_str text)
{
    ptrdiff_t at = lt_str_find_char(text, '\n');
    return at < 0 ? text : lt_str_slice(text, 0, (size_t)at + 1);
}

bool lt_yaml_split_next(struct lt_yaml_split *split, struct lt_yaml_part *ret_part)
{
    if (split->rest.len == 0)
        return false;
    *ret_part = (struct lt_yaml_part){lt_str_slice(split->rest, 0, 0), split->line};
    bool is_begun = false; /* a "---" or content was seen; comments and directives before belong to
                              what follows */
    while (split->rest.len > 0) {
        lt_str line = first_line(split->rest);
        bool is_start = is_marker(line, LT_STR("---"));
        if (is_start && is_begun)
            return true;
        ret_part->text.len += line.len;
        split->rest = lt_str_from(split->rest, line.len);
        split->line++;
        if (is_marker(line, LT_STR("...")))
            return true;
        is_begun |= is_start || has_content(line);
    }
    return true;
}

/* --- what a plain scalar means --- */

static bool is_one_of(lt_str text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (lt_str_eqz(text, *words))
            return true;
    }
    return false;
}

static const char *const null_words[] = {"", "~", "null", "Null", "NULL", NULL};
static const char *const true_words[] = {"true", "True", "TRUE", "yes", "Yes", "YES",
                                         "on",   "On",   "ON",   "y",   "Y",   NULL};
static const char *const false_words[] = {"false", "False", "FALSE", "no", "No", "NO",
                                          "off",   "Off",   "OFF",   "n",  "N",  NULL};
static const char *const odd_numbers[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",
                                          ".INF",  "+.inf", "+.Inf", "+.INF", "-.inf",
                                          "-.Inf", "-.INF", NULL};

/* The base by its prefix, as Go's ParseInt with base 0 has it; moves *digits behind the prefix. */
static int number_base(const char **digits)
{
    const char *at = *digits;
    if (at[0] != '0' || at[1] == '\0')
        return 10;
    char letter = (char)(at[1] | 0x20);
    int base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    *digits += base != 0 ? 2 : 1;
    return base != 0 ? base : 8;
}

static bool parse_whole(const char *text, struct lt_doc *node)
{
    bool is_negative = text[0] == '-';
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    int base = number_base(&digits);
    uint64_t value = 0;
    if (*digits == '\0')
        return false;
    for (; *digits != '\0'; digits++) {
        char c = (char)(*digits | 0x20);
        int digit = *digits >= '0' && *digits <= '9' ? *digits - '0'
                    : c >= 'a' && c <= 'f'           ? c - 'a' + 10
                                                     : 99;
        if (digit >= base || __builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value))
            return false;
    }
    if (value <= (uint64_t)INT64_MAX + (is_negative ? 1 : 0)) {
        node->kind = LT_DOC_INT;
        node->integer = (int64_t)(is_negative ? 0 - value : value);
        return true;
    }
    node->kind = LT_DOC_DOUBLE;
    node->number = (double)value;
    return !is_negative;
}

static const char *skip_digits(const char *at)
{
    while (*at >= '0' && *at <= '9')
        at++;
    return at;
}

/* [-+]? (.digits | digits (.digits?)?) ([eE][-+]?digits)? */
static bool is_float(const char *at)
{
    at += *at == '-' || *at == '+';
    const char *whole = at;
    at = skip_digits(at);
    bool has_whole = at > whole;
    if (*at == '.') {
        const char *fraction = ++at;
        at = skip_digits(at);
        if (!has_whole && at == fraction)
            return false;
    } else if (!has_whole) {
        return false;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '-' || *at == '+';
        const char *exponent = at;
        at = skip_digits(at);
        if (at == exponent)
            return false;
    }
    return *at == '\0';
}

static bool parse_number(lt_str text, struct lt_doc *node)
{
    char plain[128];
    size_t len = 0;
    if (text.len >= sizeof(plain) || strchr("+-.0123456789", text.ptr[0]) == NULL)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '_')
            plain[len++] = text.ptr[i];
    }
    plain[len] = '\0';
    if (parse_whole(plain, node))
        return true;
    if (!is_float(plain))
        return false;
    node->kind = LT_DOC_DOUBLE;
    node->number = strtod(plain, NULL);
    return isfinite(node->number);
}

/* node->string is set; the kind and value follow from it. LT_E_BAD: a number that JSON doesn't
 * have. */
static lt_rc resolve_plain(struct reader *r, struct lt_doc *node)
{
    lt_str text = node->string;
    if (is_one_of(text, null_words)) {
        node->kind = LT_DOC_NULL;
    } else if (is_one_of(text, true_words) || is_one_of(text, false_words)) {
        node->kind = LT_DOC_BOOL;
        node->boolean = is_one_of(text, true_words);
    } else if (is_one_of(text, odd_numbers)) {
        return lt_err_set(r->err, LT_E_BAD, "line %u: %.*s is not a number that JSON can write",
                          node->line, LT_STR_ARG(text));
    } else if (!parse_number(text, node)) {
        node->kind = LT_DOC_STRING;
        node->string = text;
    }
    return LT_OK;
}

#define YAML_TAG "tag:yaml.org,2002:"

static bool tag_fits(lt_str tag, lt_doc_kind kind)
{
    if (lt_str_eqz(tag, "null"))
        return kind == LT_DOC_NULL;
    if (lt_str_eqz(tag, "bool"))
        return kind == LT_DOC_BOOL;
    if (lt_str_eqz(tag, "int"))
        return kind == LT_DOC_INT;
    return kind == LT_DOC_INT || kind == LT_DOC_DOUBLE; /* float */
}

/* A scalar with a tag: only the four that aren't strings change anything; unknown tags make
 * strings, as in Kubernetes. */
static lt_rc resolve_tagged(struct reader *r, lt_str tag, struct lt_doc *node)
{
    static const char *const typed[] = {"null", "bool", "int", "float", NULL};
    if (!lt_str_starts(tag, LT_STR(YAML_TAG)))
        return LT_OK;
    tag = lt_str_from(tag, sizeof(YAML_TAG) - 1);
    if (!is_one_of(tag, typed))
        return LT_OK;
    LT_TRY(resolve_plain(r, node));
    if (!tag_fits(tag, node->kind))
        return lt_err_set(r->err, LT_E_BAD, "line %u: not a value for !!%.*s", node->line,
                          LT_STR_ARG(tag));
    return LT_OK;
}

/* --- events --- */

static uint32_t line_of(const struct reader *r, const yaml_event_t *event)
{
    return r->line_offset + (uint32_t)event->start_mark.line;
}

static lt_rc copy_z(struct reader *r, const yaml_char_t *text, lt_str *ret_copy)
{
    return lt_doc_builder_text(&r->build, lt_str_of((const char *)text), ret_copy, r->err);
}

static lt_rc scalar_of(struct reader *r, const yaml_event_t *event, struct lt_doc *node)
{
    lt_str raw = lt_str_make(event->data.scalar.value, event->data.scalar.length);
    *node = (struct lt_doc){.kind = LT_DOC_STRING, .line = line_of(r, event)};
    if (memchr(raw.ptr, '\0', raw.len) != NULL)
        return lt_err_set(r->err, LT_E_BAD, "line %u: NUL in a string", node->line);
    LT_TRY(lt_doc_builder_text(&r->build, raw, &node->string, r->err));
    lt_str tag = lt_str_of((const char *)event->data.scalar.tag);
    if (tag.len > 0)
        return resolve_tagged(r, tag, node);
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? resolve_plain(r, node) : LT_OK;
}

/* Remembers the node under the name; a name may be given again, then the later one counts. */
static lt_rc remember(struct reader *r, lt_str name, const struct lt_doc_built *built)
{
    struct lt_doc_built *copy = lt_arena_try_alloc(r->build.arena, sizeof(*copy));
    if (copy == NULL)
        return lt_err_set(r->err, LT_E_LIMIT, "more than the memory set aside for it");
    *copy = *built;
    lt_map_put(&r->anchors, name, copy);
    return LT_OK;
}

static lt_rc remember_scalar(struct reader *r, const yaml_event_t *event, const struct lt_doc *node)
{
    lt_str name = LT_STR_NULL;
    if (event->data.scalar.anchor == NULL)
        return LT_OK;
    LT_TRY(copy_z(r, event->data.scalar.anchor, &name));
    return remember(r, name, &(struct lt_doc_built){*node, 1, 0});
}

/* A key is a string in the end: bools and numbers are written out, as Kubernetes does. */
static lt_rc add_key(struct reader *r, const struct lt_doc *node, bool is_merge)
{
    char text[32] = "";
    switch (node->kind) {
    case LT_DOC_STRING: lt_doc_builder_key(&r->build, node->string, is_merge); return LT_OK;
    case LT_DOC_BOOL: snprintf(text, sizeof(text), "%s", node->boolean ? "true" : "false"); break;
    case LT_DOC_INT: snprintf(text, sizeof(text), "%lld", (long long)node->integer); break;
    case LT_DOC_DOUBLE: snprintf(text, sizeof(text), "%.17g", node->number); break;
    default:
        return lt_err_set(r->err, LT_E_BAD, "line %u: a key must be a string, not %s", node->line,
                          lt_doc_kind_name(node->kind));
    }
    lt_str key = LT_STR_NULL;
    LT_TRY(lt_doc_builder_text(&r->build, lt_str_of(text), &key, r->err));
    lt_doc_builder_key(&r->build, key, false);
    return LT_OK;
}

static lt_rc on_scalar(struct reader *r, const yaml_event_t *event)
{
    struct lt_doc node;
    LT_TRY(scalar_of(r, event, &node));
    LT_TRY(remember_scalar(r, event, &node));
    if (!lt_doc_builder_wants_key(&r->build))
        return lt_doc_builder_add_scalar(&r->build, node, r->err);
    bool is_merge = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                    lt_str_eqz(lt_doc_string(&node), "<<");
    return add_key(r, &node, is_merge);
}

static lt_rc on_alias(struct reader *r, const yaml_event_t *event)
{
    lt_str name = lt_str_of((const char *)event->data.alias.anchor);
    const struct lt_doc_built *built = lt_map_find(&r->anchors, name);
    if (built == NULL)
        return lt_err_set(r->err, LT_E_BAD, "line %u: no anchor \"%.*s\" before this",
                          line_of(r, event), (int)LT_MIN(name.len, (size_t)100), name.ptr);
    if (lt_doc_builder_wants_key(&r->build))
        return add_key(r, &built->node, false);
    return lt_doc_builder_add(&r->build, built, r->err);
}

static lt_rc on_open(struct reader *r, const yaml_event_t *event, lt_doc_kind kind,
                     const yaml_char_t *anchor)
{
    lt_str name = LT_STR_NULL;
    if (lt_doc_builder_wants_key(&r->build))
        return lt_err_set(r->err, LT_E_BAD, "line %u: a key must be a string, not %s",
                          line_of(r, event), lt_doc_kind_name(kind));
    if (anchor != NULL)
        LT_TRY(copy_z(r, anchor, &name));
    LT_TRY(lt_doc_builder_open(&r->build, kind, line_of(r, event), r->err));
    lt_vec_push(&r->level_anchors, (void *)name.ptr);
    return LT_OK;
}

static lt_rc on_close(struct reader *r)
{
    const char *name = lt_vec_pop(&r->level_anchors);
    LT_TRY(lt_doc_builder_close(&r->build, r->err));
    return name == NULL ? LT_OK : remember(r, lt_str_of(name), &r->build.last);
}

static lt_rc on_document(struct reader *r, const yaml_event_t *event)
{
    if (r->documents++ > 0)
        return lt_err_set(r->err, LT_E_BAD, "line %u: more than one document", line_of(r, event));
    return LT_OK;
}

static lt_rc on_event(struct reader *r, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT: return on_document(r, event);
    case YAML_SCALAR_EVENT: return on_scalar(r, event);
    case YAML_ALIAS_EVENT: return on_alias(r, event);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(r, event, LT_DOC_ARRAY, event->data.sequence_start.anchor);
    case YAML_MAPPING_START_EVENT:
        return on_open(r, event, LT_DOC_OBJECT, event->data.mapping_start.anchor);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: return on_close(r);
    default: return LT_OK;
    }
}

/* Is there a tab among the blanks that begin this line (from 0)? */
static bool is_indented_by_tab(lt_str text, size_t line)
{
    while (line-- > 0)
        text = lt_str_from(text, first_line(text).len);
    lt_str row = first_line(text);
    size_t blanks = 0;
    while (blanks < row.len && (row.ptr[blanks] == ' ' || row.ptr[blanks] == '\t'))
        blanks++;
    return lt_str_find_char(lt_str_slice(row, 0, blanks), '\t') >= 0;
}

static lt_rc parser_error(const struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem != NULL ? p->problem : "not YAML";
    if (p->error != YAML_READER_ERROR && is_indented_by_tab(r->text, p->problem_mark.line))
        return lt_err_set(r->err, LT_E_BAD,
                          "line %zu, column %zu: a tab in the indentation, where YAML takes only "
                          "blanks",
                          r->line_offset + p->problem_mark.line, p->problem_mark.column + 1);
    if (p->error == YAML_READER_ERROR)
        return lt_err_set(r->err, LT_E_BAD, "line %zu: %s", r->line_offset + p->mark.line, problem);
    if (p->context == NULL)
        return lt_err_set(r->err, LT_E_BAD, "line %zu, column %zu: %s",
                          r->line_offset + p->problem_mark.line, p->problem_mark.column + 1,
                          problem);
    return lt_err_set(r->err, LT_E_BAD, "line %zu, column %zu: %s %s from line %zu on",
                      r->line_offset + p->problem_mark.line, p->problem_mark.column + 1, problem,
                      p->context, r->line_offset + p->context_mark.line);
}

static lt_rc read_events(struct reader *r)
{
    for (bool is_end = false; !is_end;) {
        yaml_event_t event;
        if (yaml_parser_parse(&r->parser, &event) == 0)
            return parser_error(r);
        is_end = event.type == YAML_STREAM_END_EVENT;
        lt_rc rc = on_event(r, &event);
        yaml_event_delete(&event);
        LT_TRY(rc);
    }
    return LT_OK;
}

static lt_rc read_part(struct reader *r, struct lt_yaml_part part, const struct lt_doc **ret_doc)
{
    if (yaml_parser_initialize(&r->parser) == 0)
        return lt_err_set(r->err, LT_E_LIMIT, "no memory for a parser");
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(
        &r->parser, (const unsigned char *)(part.text.len > 0 ? part.text.ptr : ""), part.text.len);
    lt_rc rc = read_events(r);
    yaml_parser_delete(&r->parser);
    LT_TRY(rc);
    struct lt_doc *root = lt_arena_try_alloc(r->build.arena, sizeof(*root));
    if (root == NULL)
        return lt_err_set(r->err, LT_E_LIMIT, "more than the memory set aside for it");
    if (r->build.is_done)
        *root = r->build.last.node;
    else
        root->line = part.line; /* kind 0 is LT_DOC_NULL */
    *ret_doc = root;
    return LT_OK;
}

lt_rc lt_yaml_parse(struct lt_arena *arena, struct lt_yaml_part part,
                    const struct lt_doc_limits *limits, const struct lt_doc **ret_doc,
                    struct lt_err *err)
{
    size_t bytes_max = limits != NULL ? limits->bytes_max : LT_DOC_LIMITS_DEFAULT.bytes_max;
    if (part.text.len > bytes_max)
        return lt_err_set(err, LT_E_LIMIT, "%zu bytes, more than %zu", part.text.len, bytes_max);
    struct reader r = {.line_offset = part.line, .text = part.text, .err = err};
    lt_doc_builder_init(&r.build, arena, limits);
    lt_map_init(&r.anchors);
    lt_vec_init(&r.level_anchors);
    lt_rc rc = read_part(&r, part, ret_doc);
    lt_vec_fini(&r.level_anchors);
    lt_map_fini(&r.anchors);
    lt_doc_builder_fini(&r.build);
    return rc;
}

lt_rc lt_yaml_or_json_parse(struct lt_arena *arena, lt_str text, const struct lt_doc_limits *limits,
                            const struct lt_doc **ret_doc, struct lt_err *err)
{
    lt_str trimmed = lt_str_trim(text);
    return trimmed.len > 0 && trimmed.ptr[0] == '{'
               ? lt_json_parse(arena, text, limits, ret_doc, err)
               : lt_yaml_parse(arena, lt_yaml_whole(text), limits, ret_doc, err);
}
