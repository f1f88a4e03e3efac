/*
 * proxy/conf/uri_template.c - path templates.
 *
 *   template = 1*( "/" segment ) [ suffix ]
 *   segment  = literal / "*" / "**" / "{" name [ "=" part *( "/" part ) ] "}"      part: no variable
 *
 * "*" is a segment, "**" any number of them. A '*' inside a literal, which Envoy takes for an
 * operator of the regular expression that it makes, is refused.
 */
#include "proxy/conf/uri_template.h"

#include "base/buf.h"

/* What a segment may hold: pchar of RFC 3986. */
#define SEGMENT_CHARS "a-zA-Z0-9\\-._~%!$&'()*+,;:@="
enum { REGEX_BYTES_MAX = 16 * 1024 };

struct parser {
    lt_str rest;
    struct px_uri_template *out;
    struct lt_buf regex;
    struct lt_err *err;
};

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_literal(char c)
{
    return is_alnum(c) || (c != '\0' && strchr("-._~%!$&'()+,;:@=", c) != NULL);
}

static bool next_is(const struct parser *p, char c)
{
    return p->rest.len > 0 && p->rest.ptr[0] == c;
}

static void skip(struct parser *p, size_t count)
{
    p->rest = lt_str_from(p->rest, count);
}

static lt_rc parse_literal(struct parser *p)
{
    size_t len = 0;
    while (len < p->rest.len && is_literal(p->rest.ptr[len])) {
        char c = p->rest.ptr[len++];
        LT_TRY(is_alnum(c) ? lt_buf_append(&p->regex, &c, 1) : lt_buf_printf(&p->regex, "\\%c", c));
    }
    if (len == 0)
        return lt_err_set(p->err, LT_E_BAD, "path template: unexpected '%.*s'",
                          (int)LT_MIN(p->rest.len, (size_t)16), p->rest.ptr);
    skip(p, len);
    return LT_OK;
}

/* A part without a variable. */
static lt_rc parse_part(struct parser *p)
{
    if (!next_is(p, '*'))
        return parse_literal(p);
    skip(p, 1);
    if (!next_is(p, '*'))
        return lt_buf_printf(&p->regex, "[%s]+", SEGMENT_CHARS);
    skip(p, 1);
    return lt_buf_printf(&p->regex, "[%s/]*", SEGMENT_CHARS);
}

/* A letter, then letters, digits and '_'. */
static lt_rc read_name(lt_str *rest, lt_str *ret_name, struct lt_err *err)
{
    size_t len = 0;
    while (len < rest->len && (is_alnum(rest->ptr[len]) || rest->ptr[len] == '_'))
        len++;
    bool is_name = len > 0 && len <= PX_TEMPLATE_NAME_MAX && is_alnum(rest->ptr[0]) &&
                   !(rest->ptr[0] >= '0' && rest->ptr[0] <= '9');
    if (!is_name)
        return lt_err_set(err, LT_E_BAD, "path template: a variable needs a name of at most %d",
                          PX_TEMPLATE_NAME_MAX);
    *ret_name = lt_str_slice(*rest, 0, len);
    *rest = lt_str_from(*rest, len);
    return LT_OK;
}

static ptrdiff_t find_variable(const struct px_uri_template *template, lt_str name)
{
    for (size_t i = 0; i < template->variable_count; i++) {
        if (lt_str_eq(template->variables[i], name))
            return (ptrdiff_t)i;
    }
    return -1;
}

static lt_rc parse_variable(struct parser *p)
{
    lt_str name = LT_STR_NULL;
    skip(p, 1);
    LT_TRY(read_name(&p->rest, &name, p->err));
    if (find_variable(p->out, name) >= 0)
        return lt_err_set(p->err, LT_E_BAD, "path template: '%.*s' twice", LT_STR_ARG(name));
    if (p->out->variable_count == PX_TEMPLATE_VARIABLES_MAX)
        return lt_err_set(p->err, LT_E_LIMIT, "path template: more than %d variables",
                          PX_TEMPLATE_VARIABLES_MAX);
    p->out->variables[p->out->variable_count++] = name;
    LT_TRY(lt_buf_append_str(&p->regex, LT_STR("(")));
    if (next_is(p, '=')) {
        skip(p, 1);
        LT_TRY(parse_part(p));
        while (next_is(p, '/')) {
            skip(p, 1);
            LT_TRY(lt_buf_append_str(&p->regex, LT_STR("/")));
            LT_TRY(parse_part(p));
        }
    } else {
        LT_TRY(lt_buf_printf(&p->regex, "[%s]+", SEGMENT_CHARS));
    }
    if (!next_is(p, '}'))
        return lt_err_set(p->err, LT_E_BAD, "path template: a variable without its end");
    skip(p, 1);
    return lt_buf_append_str(&p->regex, LT_STR(")"));
}

static lt_rc parse_all(struct parser *p)
{
    if (!next_is(p, '/'))
        return lt_err_set(p->err, LT_E_BAD, "path template: must begin with '/'");
    while (next_is(p, '/')) {
        skip(p, 1);
        LT_TRY(lt_buf_append_str(&p->regex, LT_STR("/")));
        if (p->rest.len > 0)
            LT_TRY(next_is(p, '{') ? parse_variable(p) : parse_part(p));
    }
    return p->rest.len == 0 ? LT_OK : parse_literal(p); /* the suffix */
}

lt_rc px_uri_template_parse(struct lt_arena *arena, lt_str text,
                            struct px_uri_template *ret_template, struct lt_err *err)
{
    *ret_template = (struct px_uri_template){0};
    struct parser p = {.rest = lt_arena_str(arena, text), .out = ret_template, .err = err};
    lt_buf_init(&p.regex, REGEX_BYTES_MAX);
    lt_rc rc = parse_all(&p);
    if (rc == LT_OK && p.rest.len > 0)
        rc = lt_err_set(err, LT_E_BAD, "path template: unexpected '%.*s' at its end",
                        (int)LT_MIN(p.rest.len, (size_t)16), p.rest.ptr);
    if (rc == LT_OK)
        ret_template->regex = lt_arena_str(arena, lt_buf_str(&p.regex));
    lt_buf_fini(&p.regex);
    return rc;
}

static lt_rc substitute_one(lt_str *rest, const struct px_uri_template *template,
                            struct lt_buf *out, struct lt_err *err)
{
    lt_str name = LT_STR_NULL;
    if (rest->ptr[0] != '{') {
        if (!is_literal(rest->ptr[0]) && rest->ptr[0] != '/')
            return lt_err_set(err, LT_E_BAD, "path rewrite: unexpected '%c'", rest->ptr[0]);
        LT_TRY(lt_buf_append(out, rest->ptr, 1));
        *rest = lt_str_from(*rest, 1);
        return LT_OK;
    }
    *rest = lt_str_from(*rest, 1);
    LT_TRY(read_name(rest, &name, err));
    ptrdiff_t at = find_variable(template, name);
    if (at < 0 || rest->len == 0 || rest->ptr[0] != '}')
        return lt_err_set(err, LT_E_BAD, "path rewrite: '%.*s' is no variable of the match",
                          LT_STR_ARG(name));
    *rest = lt_str_from(*rest, 1);
    return lt_buf_printf(out, "\\%td", at + 1);
}

lt_rc px_uri_template_substitution(struct lt_arena *arena, const struct px_uri_template *template,
                                   lt_str text, lt_str *ret_substitution, struct lt_err *err)
{
    struct lt_buf out;
    lt_rc rc = LT_OK;
    if (text.len == 0 || text.ptr[0] != '/')
        return lt_err_set(err, LT_E_BAD, "path rewrite: must begin with '/'");
    lt_buf_init(&out, REGEX_BYTES_MAX);
    while (rc == LT_OK && text.len > 0)
        rc = substitute_one(&text, template, &out, err);
    if (rc == LT_OK)
        *ret_substitution = lt_arena_str(arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return rc;
}
