/*
 * proxy/conf/cel.c - expressions: read by recursive descent into a tree, evaluated over it.
 * Start at: px_cel_compile(), px_cel_eval().
 */
#include "proxy/conf/cel.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/regex.h"

enum { NODES_MAX = 512, ARGUMENTS_MAX = 16, TEXT_MAX = 64 * 1024 };

typedef enum {
    NODE_VALUE,
    NODE_PATH,
    NODE_IF,
    NODE_OR,
    NODE_AND,
    NODE_NOT,
    NODE_MINUS,
    NODE_EQ,
    NODE_NE,
    NODE_LT,
    NODE_LE,
    NODE_GT,
    NODE_GE,
    NODE_IN,
    NODE_ADD,
    NODE_SUB,
    NODE_MUL,
    NODE_DIV,
    NODE_MOD,
    NODE_LIST,
    NODE_HAS,
    NODE_STARTS,
    NODE_ENDS,
    NODE_CONTAINS,
    NODE_MATCHES,
    NODE_SIZE,
    NODE_STRING,
    NODE_INT,
    NODE_LOWER,
    NODE_UPPER,
} node_kind;

struct px_cel {
    node_kind kind;
    struct px_cel_value value;        /* VALUE */
    const lt_str *path;               /* PATH */
    size_t count;                     /* of path, or of args */
    const struct px_cel *const *args; /* operands; of a function its target first */
    const struct lt_regex *regex;     /* MATCHES */
};

/* --- reading --- */

struct reader {
    struct lt_arena *arena;
    struct lt_vec *regexes;
    lt_str text;
    size_t at;
    unsigned depth, nodes;
    const char *error; /* NULL so far */
};

static const struct px_cel *read_expr(struct reader *r);

static const struct px_cel *fail(struct reader *r, const char *what)
{
    if (r->error == NULL)
        r->error = what;
    return NULL;
}

static char peek(struct reader *r)
{
    while (r->at < r->text.len && strchr(" \t\r\n", r->text.ptr[r->at]) != NULL)
        r->at++;
    return r->at < r->text.len ? r->text.ptr[r->at] : '\0';
}

static bool takes(struct reader *r, const char *token)
{
    lt_str want = lt_str_of(token);
    (void)peek(r);
    if (!lt_str_starts(lt_str_from(r->text, r->at), want))
        return false;
    r->at += want.len;
    return true;
}

static struct px_cel *make(struct reader *r, node_kind kind, const struct px_cel *a,
                           const struct px_cel *b, const struct px_cel *c)
{
    if (++r->nodes > NODES_MAX)
        return (struct px_cel *)fail(r, "is too large");
    struct px_cel *node = lt_arena_make(r->arena, struct px_cel);
    const struct px_cel **args = lt_arena_make_n(r->arena, const struct px_cel *, 3);
    args[0] = a;
    args[1] = b;
    args[2] = c;
    node->kind = kind;
    node->args = args;
    node->count = c != NULL ? 3 : b != NULL ? 2 : a != NULL ? 1 : 0;
    return node;
}

static bool is_name_char(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!is_first && c >= '0' && c <= '9');
}

static lt_str read_name(struct reader *r)
{
    (void)peek(r);
    size_t from = r->at;
    while (r->at < r->text.len && is_name_char(r->text.ptr[r->at], r->at == from))
        r->at++;
    return lt_str_slice(r->text, from, r->at);
}

static char escaped(char c)
{
    switch (c) {
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    default: return c;
    }
}

/* 'x' or "x", with \-escapes; the quote is at hand. False: it has no end. */
static bool read_quoted(struct reader *r, lt_str *ret_text)
{
    char quote = r->text.ptr[r->at++];
    char *out = lt_arena_bytes(r->arena, r->text.len - r->at + 1);
    size_t len = 0;
    for (; r->at < r->text.len && r->text.ptr[r->at] != quote; r->at++) {
        bool is_escape = r->text.ptr[r->at] == '\\' && r->at + 1 < r->text.len;
        r->at += is_escape ? 1 : 0;
        out[len++] = is_escape ? escaped(r->text.ptr[r->at]) : r->text.ptr[r->at];
    }
    *ret_text = lt_str_make(out, len);
    return r->at++ < r->text.len;
}

static const struct px_cel *read_string(struct reader *r)
{
    lt_str text;
    if (!read_quoted(r, &text))
        return fail(r, "has a text without end");
    struct px_cel *node = make(r, NODE_VALUE, NULL, NULL, NULL);
    if (node != NULL)
        node->value = (struct px_cel_value){.kind = PX_CEL_STRING, .string = text};
    return node;
}

static const struct px_cel *read_number(struct reader *r)
{
    char text[40], *end = NULL;
    size_t from = r->at;
    while (r->at < r->text.len && strchr("0123456789.", r->text.ptr[r->at]) != NULL)
        r->at++;
    lt_str digits = lt_str_slice(r->text, from, r->at);
    bool is_whole = lt_str_find_char(digits, '.') < 0;
    if (digits.len >= sizeof(text))
        return fail(r, "has a number that is too long");
    memcpy(text, digits.ptr, digits.len);
    text[digits.len] = '\0';
    struct px_cel *node = make(r, NODE_VALUE, NULL, NULL, NULL);
    if (node == NULL)
        return NULL;
    if (is_whole)
        node->value = (struct px_cel_value){.kind = PX_CEL_INT, .integer = strtoll(text, &end, 10)};
    else
        node->value = (struct px_cel_value){.kind = PX_CEL_DOUBLE, .number = strtod(text, &end)};
    if (*end != '\0')
        return fail(r, "has a number that is none");
    if (is_whole)
        (void)takes(r, "u"); /* unsigned ones are the same here */
    return node;
}

/* Up to the closing bracket, which is taken. */
static const struct px_cel *read_arguments(struct reader *r, node_kind kind,
                                           const struct px_cel *target, const char *close)
{
    const struct px_cel **args = lt_arena_make_n(r->arena, const struct px_cel *, ARGUMENTS_MAX);
    size_t count = 0;
    if (target != NULL)
        args[count++] = target;
    while (!takes(r, close)) {
        bool is_first = count == (target != NULL ? 1u : 0u);
        if (count == ARGUMENTS_MAX || (!is_first && !takes(r, ",")))
            return fail(r, "has an argument list without end");
        args[count] = read_expr(r);
        if (args[count++] == NULL)
            return NULL;
    }
    struct px_cel *node = make(r, kind, NULL, NULL, NULL);
    if (node == NULL)
        return NULL;
    node->args = args;
    node->count = count;
    return node;
}

static const struct {
    const char *name;
    node_kind kind;
    bool is_member; /* target.name(...) */
    unsigned count; /* of arguments, with the target */
} functions[] = {
    {"has", NODE_HAS, false, 1},          {"size", NODE_SIZE, false, 1},
    {"string", NODE_STRING, false, 1},    {"int", NODE_INT, false, 1},
    {"startsWith", NODE_STARTS, true, 2}, {"endsWith", NODE_ENDS, true, 2},
    {"contains", NODE_CONTAINS, true, 2}, {"matches", NODE_MATCHES, true, 2},
    {"size", NODE_SIZE, true, 1},         {"lowerAscii", NODE_LOWER, true, 1},
    {"upperAscii", NODE_UPPER, true, 1},
};

static const struct px_cel *finish_call(struct reader *r, struct px_cel *node)
{
    if (node->kind == NODE_HAS && node->args[0]->kind != NODE_PATH)
        return fail(r, "asks has() of what is no attribute");
    if (node->kind != NODE_MATCHES)
        return node;
    const struct px_cel *pattern = node->args[1];
    struct lt_regex *regex = NULL;
    struct lt_err err;
    if (pattern->kind != NODE_VALUE || pattern->value.kind != PX_CEL_STRING ||
        lt_regex_new(pattern->value.string, &regex, &err) != LT_OK)
        return fail(r, "matches what is no regular expression");
    lt_vec_push(r->regexes, regex);
    node->regex = regex;
    return node;
}

/* Behind the '('. target NULL: a plain function. */
static const struct px_cel *read_call(struct reader *r, lt_str name, const struct px_cel *target)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(functions); i++) {
        if (!lt_str_eqz(name, functions[i].name) || functions[i].is_member != (target != NULL))
            continue;
        struct px_cel *node = (struct px_cel *)read_arguments(r, functions[i].kind, target, ")");
        if (node == NULL)
            return NULL;
        if (node->count != functions[i].count)
            return fail(r, "calls a function with too many or too few arguments");
        return finish_call(r, node);
    }
    return fail(r, "calls a function that we don't have");
}

static const struct px_cel *add_step(struct reader *r, const struct px_cel *target, lt_str name)
{
    bool is_path = target == NULL || target->kind == NODE_PATH;
    size_t count = target != NULL ? target->count : 0;
    if (!is_path || count == PX_CEL_PATH_MAX)
        return fail(r, "looks into what is no attribute");
    struct px_cel *node = make(r, NODE_PATH, NULL, NULL, NULL);
    lt_str *path = lt_arena_make_n(r->arena, lt_str, PX_CEL_PATH_MAX);
    if (node == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        path[i] = target->path[i];
    path[count] = name;
    node->path = path;
    node->count = count + 1;
    return node;
}

static const struct px_cel *read_word(struct reader *r, lt_str name)
{
    static const struct {
        const char *word;
        struct px_cel_value value;
    } words[] = {{"true", {.kind = PX_CEL_BOOL, .boolean = true}},
                 {"false", {.kind = PX_CEL_BOOL, .boolean = false}},
                 {"null", {.kind = PX_CEL_NULL, .boolean = false}}};
    for (size_t i = 0; i < LT_ARRAY_LEN(words); i++) {
        if (!lt_str_eqz(name, words[i].word))
            continue;
        struct px_cel *node = make(r, NODE_VALUE, NULL, NULL, NULL);
        if (node != NULL)
            node->value = words[i].value;
        return node;
    }
    return takes(r, "(") ? read_call(r, name, NULL) : add_step(r, NULL, name);
}

static const struct px_cel *read_primary(struct reader *r)
{
    char c = peek(r);
    if (c == '\'' || c == '"')
        return read_string(r);
    if (c >= '0' && c <= '9')
        return read_number(r);
    if (takes(r, "[")) /* a list, for "in" */
        return read_arguments(r, NODE_LIST, NULL, "]");
    if (takes(r, "(")) {
        const struct px_cel *inner = read_expr(r);
        return inner == NULL || takes(r, ")") ? inner : fail(r, "has a '(' without end");
    }
    lt_str name = read_name(r);
    return name.len == 0 ? fail(r, "has nothing where a value belongs") : read_word(r, name);
}

/* ['key'] */
static const struct px_cel *read_index(struct reader *r, const struct px_cel *target)
{
    lt_str key;
    char c = peek(r);
    if ((c != '\'' && c != '"') || !read_quoted(r, &key) || !takes(r, "]"))
        return fail(r, "has an index that is no text");
    return add_step(r, target, key);
}

static const struct px_cel *read_postfix(struct reader *r)
{
    const struct px_cel *node = read_primary(r);
    while (node != NULL) {
        if (takes(r, "[")) {
            node = read_index(r, node);
        } else if (takes(r, ".")) {
            lt_str name = read_name(r);
            if (name.len == 0)
                return fail(r, "has a '.' without a name");
            node = takes(r, "(") ? read_call(r, name, node) : add_step(r, node, name);
        } else {
            return node;
        }
    }
    return NULL;
}

static const struct px_cel *read_unary(struct reader *r)
{
    node_kind kind = peek(r) == '!' ? NODE_NOT : NODE_MINUS;
    bool is_operator = peek(r) == '-' || peek(r) == '!';
    if (!is_operator)
        return read_postfix(r);
    if (++r->depth > PX_CEL_DEPTH_MAX)
        return fail(r, "nests too deep");
    r->at++;
    const struct px_cel *operand = read_unary(r);
    r->depth--;
    return operand != NULL ? make(r, kind, operand, NULL, NULL) : NULL;
}

/* Binary operators by how tightly they bind, loosest first; longer tokens before shorter. */
static const struct {
    unsigned level;
    const char *token;
    node_kind kind;
} operators[] = {
    {0, "||", NODE_OR},  {1, "&&", NODE_AND}, {2, "==", NODE_EQ}, {2, "!=", NODE_NE},
    {2, "<=", NODE_LE},  {2, ">=", NODE_GE},  {2, "<", NODE_LT},  {2, ">", NODE_GT},
    {2, "in ", NODE_IN}, {3, "+", NODE_ADD},  {3, "-", NODE_SUB}, {4, "*", NODE_MUL},
    {4, "/", NODE_DIV},  {4, "%", NODE_MOD},
};
enum { LEVELS = 5 };

static bool take_operator(struct reader *r, unsigned level, node_kind *ret_kind)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(operators); i++) {
        if (operators[i].level != level || !takes(r, operators[i].token))
            continue;
        *ret_kind = operators[i].kind;
        return true;
    }
    return false;
}

static const struct px_cel *read_binary(struct reader *r, unsigned level)
{
    if (level == LEVELS)
        return read_unary(r);
    const struct px_cel *left = read_binary(r, level + 1);
    node_kind kind;
    while (left != NULL && take_operator(r, level, &kind)) {
        const struct px_cel *right = read_binary(r, level + 1);
        left = right != NULL ? make(r, kind, left, right, NULL) : NULL;
    }
    return left;
}

static const struct px_cel *read_expr(struct reader *r)
{
    if (++r->depth > PX_CEL_DEPTH_MAX)
        return fail(r, "nests too deep");
    const struct px_cel *node = read_binary(r, 0);
    if (node != NULL && takes(r, "?")) {
        const struct px_cel *yes = read_expr(r);
        const struct px_cel *no = yes != NULL && takes(r, ":") ? read_expr(r) : NULL;
        node = no != NULL ? make(r, NODE_IF, node, yes, no) : fail(r, "has a '?' without a ':'");
    }
    r->depth--;
    return node;
}

lt_rc px_cel_compile(struct lt_arena *arena, struct lt_vec *regexes, lt_str text,
                     const struct px_cel **ret_cel, struct lt_err *err)
{
    struct reader r = {.arena = arena, .regexes = regexes, .text = text};
    if (text.len > PX_CEL_BYTES_MAX)
        return lt_err_set(err, LT_E_BAD, "is longer than %d bytes", PX_CEL_BYTES_MAX);
    r.text = lt_arena_str(arena, text);
    *ret_cel = read_expr(&r);
    if (*ret_cel != NULL && peek(&r) != '\0')
        *ret_cel = fail(&r, "goes on where it should end");
    return *ret_cel != NULL ? LT_OK
                            : lt_err_set(err, LT_E_BAD, "%s, at %zu",
                                         r.error != NULL ? r.error : "is no expression", r.at);
}

/* --- evaluating --- */

struct run {
    struct lt_arena *arena;
    px_cel_find_fn *find;
    void *ctx;
};

static struct px_cel_value eval(const struct run *run, const struct px_cel *node);

static struct px_cel_value error(void)
{
    return (struct px_cel_value){.kind = PX_CEL_ERROR};
}

static struct px_cel_value of_bool(bool value)
{
    return (struct px_cel_value){.kind = PX_CEL_BOOL, .boolean = value};
}

static struct px_cel_value of_int(int64_t value)
{
    return (struct px_cel_value){.kind = PX_CEL_INT, .integer = value};
}

static struct px_cel_value of_string(lt_str value)
{
    return (struct px_cel_value){.kind = PX_CEL_STRING, .string = value};
}

static bool is_number(const struct px_cel_value *value)
{
    return value->kind == PX_CEL_INT || value->kind == PX_CEL_DOUBLE;
}

static double number_of(const struct px_cel_value *value)
{
    return value->kind == PX_CEL_INT ? (double)value->integer : value->number;
}

static bool are_equal(const struct px_cel_value *a, const struct px_cel_value *b)
{
    if (is_number(a) && is_number(b))
        return a->kind == PX_CEL_INT && b->kind == PX_CEL_INT ? a->integer == b->integer
                                                              : number_of(a) == number_of(b);
    if (a->kind != b->kind)
        return false;
    return a->kind == PX_CEL_STRING ? lt_str_eq(a->string, b->string)
           : a->kind == PX_CEL_BOOL ? a->boolean == b->boolean
                                    : true;
}

/* a < b: -1; equal: 0; a > b: 1. False: they can't be compared. */
static bool compare(const struct px_cel_value *a, const struct px_cel_value *b, int *ret_order)
{
    if (a->kind == PX_CEL_STRING && b->kind == PX_CEL_STRING) {
        *ret_order = lt_str_cmp(a->string, b->string);
        return true;
    }
    if (!is_number(a) || !is_number(b))
        return false;
    double x = number_of(a), y = number_of(b);
    *ret_order = x < y ? -1 : x > y ? 1 : 0;
    return true;
}

static struct px_cel_value eval_compare(node_kind kind, const struct px_cel_value *a,
                                        const struct px_cel_value *b)
{
    int order = 0;
    if (kind == NODE_EQ || kind == NODE_NE)
        return of_bool(are_equal(a, b) == (kind == NODE_EQ));
    if (!compare(a, b, &order))
        return error();
    return of_bool(kind == NODE_LT   ? order < 0
                   : kind == NODE_LE ? order <= 0
                   : kind == NODE_GT ? order > 0
                                     : order >= 0);
}

static struct px_cel_value eval_whole(node_kind kind, int64_t a, int64_t b)
{
    int64_t out = 0;
    bool is_over = false;
    switch (kind) {
    case NODE_ADD: is_over = __builtin_add_overflow(a, b, &out); break;
    case NODE_SUB: is_over = __builtin_sub_overflow(a, b, &out); break;
    case NODE_MUL: is_over = __builtin_mul_overflow(a, b, &out); break;
    default:
        is_over = b == 0 || (a == INT64_MIN && b == -1);
        if (!is_over)
            out = kind == NODE_DIV ? a / b : a % b;
    }
    return is_over ? error() : of_int(out);
}

static struct px_cel_value eval_math(const struct run *run, node_kind kind,
                                     const struct px_cel_value *a, const struct px_cel_value *b)
{
    bool are_texts = a->kind == PX_CEL_STRING && b->kind == PX_CEL_STRING;
    if (are_texts && (kind != NODE_ADD || a->string.len + b->string.len > TEXT_MAX))
        return error();
    if (are_texts)
        return of_string(
            lt_arena_printf(run->arena, "%.*s%.*s", LT_STR_ARG(a->string), LT_STR_ARG(b->string)));
    if (a->kind == PX_CEL_INT && b->kind == PX_CEL_INT)
        return eval_whole(kind, a->integer, b->integer);
    if (!is_number(a) || !is_number(b) || kind == NODE_MOD)
        return error();
    double x = number_of(a), y = number_of(b);
    double out = kind == NODE_ADD   ? x + y
                 : kind == NODE_SUB ? x - y
                 : kind == NODE_MUL ? x * y
                                    : x / y;
    return (struct px_cel_value){.kind = PX_CEL_DOUBLE, .number = out};
}

/* One side may decide alone, even when the other is an error. */
static struct px_cel_value eval_logic(const struct run *run, const struct px_cel *node)
{
    bool decides = node->kind == NODE_OR;
    struct px_cel_value left = eval(run, node->args[0]);
    if (left.kind == PX_CEL_BOOL && left.boolean == decides)
        return left;
    struct px_cel_value right = eval(run, node->args[1]);
    if (right.kind == PX_CEL_BOOL && right.boolean == decides)
        return right;
    bool are_good = left.kind == PX_CEL_BOOL && right.kind == PX_CEL_BOOL;
    return are_good ? of_bool(!decides) : error();
}

static bool find(const struct run *run, const struct px_cel *node, const lt_str *more,
                 struct px_cel_value *ret_value)
{
    lt_str path[PX_CEL_PATH_MAX + 1];
    for (size_t i = 0; i < node->count; i++)
        path[i] = node->path[i];
    if (more != NULL)
        path[node->count] = *more;
    *ret_value = error();
    return run->find(run->ctx, path, node->count + (more != NULL ? 1 : 0), ret_value);
}

/* Of a list, or of the keys of an attribute. */
static struct px_cel_value eval_in(const struct run *run, const struct px_cel *node)
{
    struct px_cel_value wanted = eval(run, node->args[0]), found;
    const struct px_cel *where = node->args[1];
    if (wanted.kind == PX_CEL_ERROR)
        return error();
    if (where->kind == NODE_PATH && wanted.kind == PX_CEL_STRING)
        return of_bool(find(run, where, &wanted.string, &found));
    if (where->kind != NODE_LIST)
        return error();
    for (size_t i = 0; i < where->count; i++) {
        struct px_cel_value item = eval(run, where->args[i]);
        if (are_equal(&wanted, &item))
            return of_bool(true);
    }
    return of_bool(false);
}

static struct px_cel_value eval_int(const struct px_cel_value *value)
{
    uint64_t number = 0;
    if (value->kind == PX_CEL_INT)
        return *value;
    if (value->kind == PX_CEL_DOUBLE)
        return value->number > -9e18 && value->number < 9e18 ? of_int((int64_t)value->number)
                                                             : error();
    bool is_digits = value->kind == PX_CEL_STRING &&
                     lt_str_to_u64(value->string, &number) == LT_OK && number <= INT64_MAX;
    return is_digits ? of_int((int64_t)number) : error();
}

static lt_str in_case(const struct run *run, lt_str text, bool is_upper)
{
    char *out = lt_arena_bytes(run->arena, text.len);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_other = is_upper ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z';
        out[i] = is_other ? (char)(c ^ 0x20) : c;
    }
    return lt_str_make(out, text.len);
}

/* Functions of one text, and of a second. */
static struct px_cel_value eval_text(const struct run *run, const struct px_cel *node)
{
    struct px_cel_value target = eval(run, node->args[0]);
    struct px_cel_value other = node->count > 1 ? eval(run, node->args[1]) : of_string(LT_STR(""));
    if (target.kind != PX_CEL_STRING || other.kind != PX_CEL_STRING)
        return error();
    switch (node->kind) {
    case NODE_STARTS: return of_bool(lt_str_starts(target.string, other.string));
    case NODE_ENDS: return of_bool(lt_str_ends(target.string, other.string));
    case NODE_CONTAINS: return of_bool(lt_str_find(target.string, other.string) >= 0);
    case NODE_MATCHES: return of_bool(lt_regex_finds(node->regex, target.string));
    case NODE_SIZE: return of_int((int64_t)target.string.len);
    case NODE_LOWER: return of_string(in_case(run, target.string, false));
    default: return of_string(in_case(run, target.string, true));
    }
}

static struct px_cel_value eval_unary(const struct run *run, const struct px_cel *node)
{
    struct px_cel_value value = eval(run, node->args[0]);
    if (node->kind == NODE_NOT)
        return value.kind == PX_CEL_BOOL ? of_bool(!value.boolean) : error();
    if (value.kind == PX_CEL_INT && value.integer != INT64_MIN)
        return of_int(-value.integer);
    if (value.kind != PX_CEL_DOUBLE)
        return error();
    value.number = -value.number;
    return value;
}

static struct px_cel_value eval_if(const struct run *run, const struct px_cel *node)
{
    struct px_cel_value condition = eval(run, node->args[0]);
    if (condition.kind != PX_CEL_BOOL)
        return error();
    return eval(run, node->args[condition.boolean ? 1 : 2]);
}

static struct px_cel_value eval_string(const struct run *run, const struct px_cel *node)
{
    struct px_cel_value value = eval(run, node->args[0]);
    if (value.kind == PX_CEL_ERROR || value.kind == PX_CEL_NULL)
        return error();
    return of_string(px_cel_text(&value, run->arena));
}

static struct px_cel_value eval_pair(const struct run *run, const struct px_cel *node)
{
    struct px_cel_value a = eval(run, node->args[0]), b = eval(run, node->args[1]);
    if (a.kind == PX_CEL_ERROR || b.kind == PX_CEL_ERROR)
        return error();
    return node->kind >= NODE_ADD ? eval_math(run, node->kind, &a, &b)
                                  : eval_compare(node->kind, &a, &b);
}

/* As deep as what was read: PX_CEL_DEPTH_MAX levels of the five of operators. */
static struct px_cel_value eval(const struct run *run, const struct px_cel *node)
{
    struct px_cel_value value;
    switch (node->kind) {
    case NODE_VALUE: return node->value;
    case NODE_PATH: return find(run, node, NULL, &value) ? value : error();
    case NODE_IF: return eval_if(run, node);
    case NODE_OR:
    case NODE_AND: return eval_logic(run, node);
    case NODE_NOT:
    case NODE_MINUS: return eval_unary(run, node);
    case NODE_IN: return eval_in(run, node);
    case NODE_HAS: return of_bool(find(run, node->args[0], NULL, &value));
    case NODE_STRING: return eval_string(run, node);
    case NODE_INT: value = eval(run, node->args[0]); return eval_int(&value);
    case NODE_LIST: return error();
    case NODE_STARTS:
    case NODE_ENDS:
    case NODE_CONTAINS:
    case NODE_MATCHES:
    case NODE_SIZE:
    case NODE_LOWER:
    case NODE_UPPER: return eval_text(run, node);
    default: return eval_pair(run, node);
    }
}

struct px_cel_value px_cel_eval(const struct px_cel *cel, struct lt_arena *arena,
                                px_cel_find_fn *find_fn, void *ctx)
{
    struct run run = {arena, find_fn, ctx};
    return eval(&run, cel);
}

lt_str px_cel_text(const struct px_cel_value *value, struct lt_arena *arena)
{
    switch (value->kind) {
    case PX_CEL_BOOL: return value->boolean ? LT_STR("true") : LT_STR("false");
    case PX_CEL_INT: return lt_arena_printf(arena, "%lld", (long long)value->integer);
    case PX_CEL_DOUBLE: return lt_arena_printf(arena, "%g", value->number);
    case PX_CEL_STRING: return value->string;
    default: return LT_STR("unknown");
    }
}
