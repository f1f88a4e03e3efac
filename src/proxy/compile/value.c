/*
 * proxy/compile/value.c - the small values that every resource is made of: paths of fields,
 * matchers, header edits. Start at: px_make_string_match(), px_make_header_edits().
 */
#include "proxy/compile/build.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "wire/struct.h"

/* --- where we are, and what is wrong there --- */

size_t px_path_enter(struct px_build *build, const char *field, ptrdiff_t index)
{
    size_t mark = build->path_len;
    size_t room = sizeof(build->path) - mark;
    const char *dot = mark > 0 ? "." : "";
    int len = index < 0 ? snprintf(build->path + mark, room, "%s%s", dot, field)
                        : snprintf(build->path + mark, room, "%s%s[%td]", dot, field, index);
    build->path_len = LT_MIN(mark + (size_t)len, sizeof(build->path) - 1);
    return mark;
}

void px_path_leave(struct px_build *build, size_t mark)
{
    build->path_len = mark;
    build->path[mark] = '\0';
}

static lt_rc fail_at(struct px_build *build, lt_rc rc, const char *field, const char *fmt,
                     va_list args)
{
    char text[LT_ERR_TEXT_MAX / 2];
    vsnprintf(text, sizeof(text), fmt, args);
    const char *dot = build->path_len > 0 && field != NULL ? "." : "";
    const char *colon = build->path_len > 0 || field != NULL ? ": " : "";
    return lt_err_set(build->err, rc, "%s%s%s%s%s", build->path, dot, field != NULL ? field : "",
                      colon, text);
}

lt_rc px_bad(struct px_build *build, const char *field, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    lt_rc rc = fail_at(build, LT_E_BAD, field, fmt, args);
    va_end(args);
    return rc;
}

lt_rc px_unsupported(struct px_build *build, const char *field, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    lt_rc rc = fail_at(build, LT_E_UNSUPPORTED, field, fmt, args);
    va_end(args);
    return rc;
}

/* --- plain values --- */

lt_str px_copy(struct px_build *build, const char *text)
{
    return text == NULL || text[0] == '\0' ? LT_STR_NULL
                                           : lt_arena_str(build->arena, lt_str_of(text));
}

lt_str px_copy_lower(struct px_build *build, const char *text)
{
    lt_str copy = px_copy(build, text);
    for (size_t i = 0; i < copy.len; i++) {
        char *c = (char *)&copy.ptr[i];
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    return copy;
}

uint64_t px_duration_ms(const Pb__Duration *duration, uint64_t absent_ms)
{
    if (duration == NULL)
        return absent_ms;
    int64_t seconds = duration->has_seconds ? duration->seconds : 0;
    int64_t nanos = duration->has_nanos ? duration->nanos : 0;
    if (seconds < 0 || nanos < 0)
        return 0;
    /*
     * google.protobuf.Duration spans 10,000 years; a value below 1 ms but above 0 must not become
     * "none"
     */
    seconds = LT_MIN(seconds, (int64_t)315576000000);
    uint64_t ms = (uint64_t)seconds * 1000 + (uint64_t)nanos / 1000000;
    return ms == 0 && nanos > 0 ? 1 : ms;
}

uint32_t px_fraction_ppm(const Xds__FractionalPercent *percent, uint32_t absent)
{
    if (percent == NULL)
        return absent;
    uint64_t numerator = percent->has_numerator ? percent->numerator : 0;
    switch (percent->has_denominator ? percent->denominator
                                     : XDS__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__HUNDRED) {
    case XDS__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__HUNDRED: numerator *= 10000; break;
    case XDS__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__TEN_THOUSAND: numerator *= 100; break;
    default: break;
    }
    return (uint32_t)LT_MIN(numerator, (uint64_t)1000000);
}

lt_rc px_make_strings(struct px_build *build, const char *const *texts, size_t count,
                      const lt_str **ret_strs)
{
    lt_str *strs = lt_arena_make_n(build->arena, lt_str, count);
    for (size_t i = 0; i < count; i++)
        strs[i] = px_copy(build, texts[i]);
    *ret_strs = strs;
    return LT_OK;
}

enum { FILE_BYTES_MAX = 1 << 20 };

static lt_rc read_file(struct px_build *build, const char *field, const char *path,
                       lt_str *ret_text)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return px_bad(build, field, "cannot read file '%s'", path);
    char *text = lt_arena_bytes(build->arena, FILE_BYTES_MAX);
    size_t len = fread(text, 1, FILE_BYTES_MAX, file);
    bool is_whole = len < FILE_BYTES_MAX && ferror(file) == 0;
    fclose(file);
    if (!is_whole)
        return px_bad(build, field, "file '%s' is not readable or larger than 1 MiB", path);
    *ret_text = lt_str_make(text, len);
    return LT_OK;
}

lt_rc px_make_data(struct px_build *build, const char *field, const Xds__DataSource *source,
                   lt_str *ret_text)
{
    *ret_text = LT_STR_NULL;
    if (source == NULL)
        return LT_OK;
    switch (source->specifier_case) {
    case XDS__DATA_SOURCE__SPECIFIER_INLINE_BYTES:
        *ret_text = lt_arena_str(build->arena, lt_pb_bytes(source->inline_bytes));
        return LT_OK;
    case XDS__DATA_SOURCE__SPECIFIER_INLINE_STRING:
        *ret_text = px_copy(build, source->inline_string);
        return LT_OK;
    case XDS__DATA_SOURCE__SPECIFIER_FILENAME:
        return read_file(build, field, source->filename, ret_text);
    case XDS__DATA_SOURCE__SPECIFIER_ENVIRONMENT_VARIABLE:
        *ret_text = px_copy(build, getenv(source->environment_variable));
        return LT_OK;
    default: return px_bad(build, field, "needs a filename, inline_bytes or inline_string");
    }
}

lt_str px_data_path(struct px_build *build, const Xds__DataSource *source)
{
    bool is_file = source != NULL && source->specifier_case == XDS__DATA_SOURCE__SPECIFIER_FILENAME;
    return is_file ? px_copy(build, source->filename) : LT_STR("<inline>");
}

lt_rc px_make_http_uri(struct px_build *build, const char *field, const Xds__HttpUri *uri,
                       lt_str *ret_cluster, lt_str *ret_scheme, lt_str *ret_authority,
                       lt_str *ret_path, uint64_t *ret_timeout_ms)
{
    if (uri == NULL || uri->uri == NULL || uri->uri[0] == '\0')
        return px_bad(build, field, "needs a URI");
    lt_str text = px_copy(build, uri->uri), mark = LT_STR("://");
    ptrdiff_t at = lt_str_find(text, mark);
    *ret_scheme = at > 0 ? lt_str_slice(text, 0, (size_t)at) : LT_STR("http");
    text = at > 0 ? lt_str_from(text, (size_t)at + mark.len) : text;
    ptrdiff_t slash = lt_str_find_char(text, '/');
    *ret_authority = slash < 0 ? text : lt_str_slice(text, 0, (size_t)slash);
    *ret_path = slash < 0 ? LT_STR("/") : lt_str_from(text, (size_t)slash);
    *ret_cluster = px_copy(build, uri->cluster);
    *ret_timeout_ms = px_duration_ms(uri->timeout, 0);
    if (ret_cluster->len == 0)
        return px_bad(build, field, "needs a cluster");
    return ret_authority->len > 0 ? LT_OK : px_bad(build, field, "the URI has no host");
}

lt_rc px_make_address(struct px_build *build, const char *field, const Xds__Address *address,
                      struct lt_addr *ret_addr)
{
    if (address == NULL)
        return px_bad(build, field, "is missing");
    if (address->address_case == XDS__ADDRESS__ADDRESS_PIPE)
        return lt_addr_unix(lt_str_of(address->pipe->path), ret_addr) == LT_OK
                   ? LT_OK
                   : px_bad(build, field, "pipe path is empty or too long");
    if (address->address_case != XDS__ADDRESS__ADDRESS_SOCKET_ADDRESS)
        return px_unsupported(build, field, "internal addresses are not supported");
    const Xds__SocketAddress *socket = address->socket_address;
    if (socket->has_protocol && socket->protocol != XDS__SOCKET_ADDRESS__PROTOCOL__TCP)
        return px_unsupported(build, field, "only TCP addresses are supported");
    uint32_t port = socket->port_specifier_case == XDS__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE
                        ? socket->port_value
                        : 0;
    if (port > UINT16_MAX)
        return px_bad(build, field, "port %u is out of range", port);
    if (lt_addr_parse(lt_str_of(socket->address), (uint16_t)port, ret_addr) != LT_OK)
        return px_bad(build, field, "malformed IP address: %s",
                      socket->address != NULL ? socket->address : "");
    return LT_OK;
}

/* --- matchers --- */

lt_rc px_make_regex(struct px_build *build, const char *field, const Xds__RegexMatcher *matcher,
                    const struct lt_regex **ret_regex)
{
    struct lt_err inner = {0};
    struct lt_regex *regex = NULL;
    lt_str pattern = matcher == NULL ? LT_STR_NULL : lt_str_of(matcher->regex);
    if (pattern.len == 0)
        return px_bad(build, field, "regex is empty");
    if (lt_regex_new(pattern, &regex, &inner) != LT_OK)
        return px_bad(build, field, "%s", inner.text);
    lt_vec_push(&build->regexes, regex);
    *ret_regex = regex;
    return LT_OK;
}

/* A text without meaning in a regular expression; "\." stands for a dot. Empty: there is more. */
static bool read_literal(struct px_build *build, lt_str pattern, lt_str *ret_text)
{
    char *text = lt_arena_bytes(build->arena, pattern.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < pattern.len; i++) {
        char c = pattern.ptr[i];
        if (c == '\\' && i + 1 < pattern.len && pattern.ptr[i + 1] == '.')
            c = pattern.ptr[++i];
        else if (strchr("\\.+*?()|[]{}^$", c) != NULL || (unsigned char)c >= 0x80)
            return false;
        text[len++] = c;
    }
    *ret_text = lt_str_make(text, len);
    return true;
}

static void simplify_regex(struct px_build *build, lt_str pattern, struct px_string_match *match)
{
    static const px_match_kind kinds[2][2] = {{PX_MATCH_EXACT, PX_MATCH_PREFIX},
                                              {PX_MATCH_SUFFIX, PX_MATCH_CONTAINS}};
    lt_str any = LT_STR(".*");
    if (lt_str_eqz(pattern, ".+") || lt_str_eq(pattern, any)) {
        match->is_simple = true;
        match->simple = PX_MATCH_CONTAINS;
        match->is_not_empty = pattern.ptr[1] == '+';
        return;
    }
    bool has_head = lt_str_starts(pattern, any);
    pattern = lt_str_from(pattern, has_head ? any.len : 0);
    bool has_tail = lt_str_ends(pattern, any);
    pattern = lt_str_slice(pattern, 0, pattern.len - (has_tail ? any.len : 0));
    match->is_simple = read_literal(build, pattern, &match->text);
    match->simple = kinds[has_head][has_tail];
}

lt_rc px_make_string_match(struct px_build *build, const char *field,
                           const Xds__StringMatcher *matcher, struct px_string_match *ret_match)
{
    *ret_match = (struct px_string_match){.ignore_case = matcher->has_ignore_case &&
                                                         matcher->ignore_case};
    switch (matcher->match_pattern_case) {
    case XDS__STRING_MATCHER__MATCH_PATTERN_EXACT:
        ret_match->kind = PX_MATCH_EXACT;
        ret_match->text = px_copy(build, matcher->exact);
        return LT_OK;
    case XDS__STRING_MATCHER__MATCH_PATTERN_PREFIX:
        ret_match->kind = PX_MATCH_PREFIX;
        ret_match->text = px_copy(build, matcher->prefix);
        return LT_OK;
    case XDS__STRING_MATCHER__MATCH_PATTERN_SUFFIX:
        ret_match->kind = PX_MATCH_SUFFIX;
        ret_match->text = px_copy(build, matcher->suffix);
        return LT_OK;
    case XDS__STRING_MATCHER__MATCH_PATTERN_CONTAINS:
        ret_match->kind = PX_MATCH_CONTAINS;
        ret_match->text = px_copy(build, matcher->contains);
        return LT_OK;
    case XDS__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX:
        ret_match->kind = PX_MATCH_REGEX;
        LT_TRY(px_make_regex(build, field, matcher->safe_regex, &ret_match->regex));
        simplify_regex(build, lt_str_of(matcher->safe_regex->regex), ret_match);
        return LT_OK;
    default: return px_unsupported(build, field, "this kind of string match is not supported");
    }
}

static void set_literal(struct px_build *build, struct px_header_match *match, px_match_kind kind,
                        const char *text)
{
    match->value.kind = kind;
    match->value.text = px_copy(build, text);
}

static lt_rc make_header_match(struct px_build *build, const Xds__HeaderMatcher *matcher,
                               struct px_header_match *match)
{
    if (matcher->name == NULL || matcher->name[0] == '\0')
        return px_bad(build, "name", "is empty");
    char *name = lt_arena_strz(build->arena, lt_str_of(matcher->name));
    for (char *c = name; *c != '\0'; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    match->name = lt_str_of(name);
    match->invert = matcher->has_invert_match && matcher->invert_match;
    match->treat_missing_as_empty = matcher->has_treat_missing_header_as_empty &&
                                    matcher->treat_missing_header_as_empty;
    match->present_value = true;
    match->value.kind = PX_MATCH_PRESENT; /* Envoy: no specifier means present */
    switch (matcher->header_match_specifier_case) {
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_STRING_MATCH:
        return px_make_string_match(build, "string_match", matcher->string_match, &match->value);
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_SAFE_REGEX_MATCH:
        match->value.kind = PX_MATCH_REGEX;
        return px_make_regex(build, "safe_regex_match", matcher->safe_regex_match,
                             &match->value.regex);
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_EXACT_MATCH:
        set_literal(build, match, PX_MATCH_EXACT, matcher->exact_match);
        break;
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PREFIX_MATCH:
        set_literal(build, match, PX_MATCH_PREFIX, matcher->prefix_match);
        break;
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_SUFFIX_MATCH:
        set_literal(build, match, PX_MATCH_SUFFIX, matcher->suffix_match);
        break;
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_CONTAINS_MATCH:
        set_literal(build, match, PX_MATCH_CONTAINS, matcher->contains_match);
        break;
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_RANGE_MATCH:
        match->value.kind = PX_MATCH_RANGE;
        match->range_from = matcher->range_match->has_start ? matcher->range_match->start : 0;
        match->range_to = matcher->range_match->has_end ? matcher->range_match->end : 0;
        break;
    case XDS__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PRESENT_MATCH:
        match->present_value = matcher->present_match;
        break;
    default: break;
    }
    return LT_OK;
}

lt_rc px_make_header_matches(struct px_build *build, Xds__HeaderMatcher *const *matchers,
                             size_t count, const struct px_header_match **ret_matches)
{
    struct px_header_match *matches = lt_arena_make_n(build->arena, struct px_header_match, count);
    for (size_t i = 0; i < count; i++) {
        size_t mark = px_path_enter(build, "headers", (ptrdiff_t)i);
        LT_TRY(make_header_match(build, matchers[i], &matches[i]));
        px_path_leave(build, mark);
    }
    *ret_matches = matches;
    return LT_OK;
}

/* --- header edits --- */

static px_append_action append_action(const Xds__HeaderValueOption *option)
{
    /* the older wrapper wins when it is there: istiod's older releases send append: false */
    if (option->append != NULL)
        return px_bool(option->append, true) ? PX_APPEND : PX_OVERWRITE_OR_ADD;
    switch (option->has_append_action
                ? option->append_action
                : XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD) {
    case XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__ADD_IF_ABSENT: return PX_ADD_IF_ABSENT;
    case XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD:
        return PX_OVERWRITE_OR_ADD;
    case XDS__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS:
        return PX_OVERWRITE_IF_EXISTS;
    default: return PX_APPEND;
    }
}

lt_rc px_make_format(struct px_build *build, const char *field, lt_str text,
                     const struct px_format **ret_format)
{
    struct lt_err err = {0};
    lt_str unknown;
    if (px_format_make(build->arena, text, ret_format, &unknown, &err) != LT_OK)
        return px_bad(build, field, "%s", err.text);
    if (unknown.len > 0) {
        char name[128];
        (void)snprintf(name, sizeof(name), "%s: %%%.*s%%", field, LT_STR_ARG(unknown));
        px_unhonoured(build, name);
    }
    return LT_OK;
}

static lt_rc make_header_edit(struct px_build *build, const char *field,
                              const Xds__HeaderValueOption *option, struct px_header_edit *edit)
{
    const Xds__HeaderValue *header = option->header;
    if (header == NULL || header->key == NULL || header->key[0] == '\0')
        return px_bad(build, field, "a header without a name");
    edit->name = px_copy(build, header->key);
    if (edit->name.ptr[0] == ':' || lt_str_case_eq(edit->name, LT_STR("host")))
        return px_bad(build, field, ":-prefixed or host headers may not be modified");
    edit->value = header->has_raw_value && header->raw_value.len > 0
                      ? lt_arena_str(build->arena, lt_pb_bytes(header->raw_value))
                      : px_copy(build, header->value);
    edit->action = append_action(option);
    edit->keeps_empty = option->has_keep_empty_value && option->keep_empty_value;
    return lt_str_find_char(edit->value, '%') < 0
               ? LT_OK
               : px_make_format(build, field, edit->value, &edit->format);
}

lt_rc px_make_header_edits(struct px_build *build, Xds__HeaderValueOption *const *add,
                           size_t add_count, const char *const *remove, size_t remove_count,
                           const char *field, struct px_header_edits *ret_edits)
{
    struct px_header_edit *edits = lt_arena_make_n(build->arena, struct px_header_edit, add_count);
    for (size_t i = 0; i < add_count; i++)
        LT_TRY(make_header_edit(build, field, add[i], &edits[i]));
    ret_edits->add = edits;
    ret_edits->add_count = add_count;
    ret_edits->remove_count = remove_count;
    return px_make_strings(build, remove, remove_count, &ret_edits->remove);
}

/* --- metadata --- */

const Pb__Struct *px_find_metadata(const Xds__Metadata *metadata, const char *filter)
{
    if (metadata == NULL)
        return NULL;
    for (size_t i = 0; i < metadata->n_filter_metadata; i++) {
        const Xds__Metadata__FilterMetadataEntry *entry = metadata->filter_metadata[i];
        if (entry->key != NULL && strcmp(entry->key, filter) == 0)
            return entry->value;
    }
    return NULL;
}

lt_rc px_make_prefixes(struct px_build *build, const char *field, Xds__CidrRange *const *ranges,
                       size_t count, const struct px_cidr **ret_prefixes)
{
    struct px_cidr *prefixes = lt_arena_make_n(build->arena, struct px_cidr, count);
    for (size_t i = 0; i < count; i++) {
        const Xds__CidrRange *range = ranges[i];
        if (lt_addr_parse(lt_str_of(range->address_prefix), 0, &prefixes[i].prefix) != LT_OK)
            return px_bad(build, field, "malformed IP address: %s", range->address_prefix);
        prefixes[i].bits = px_u32(range->prefix_len, 0);
        if (prefixes[i].bits > (prefixes[i].prefix.sa.sa_family == AF_INET ? 32u : 128u))
            return px_bad(build, field, "a prefix of %u bits is too long", prefixes[i].bits);
    }
    *ret_prefixes = prefixes;
    return LT_OK;
}
