/*
 * tests/fuzz/url.c - lt_url_normalize, lt_url_split, lt_url_decode, lt_url_query_get,
 * lt_url_absolute.
 * Input: one byte of settings, then a path. What must hold: a normal form begins with '/', has no
 * dot segment, no byte that a path must not carry, and is its own normal form.
 */
#include "http/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_normal(lt_str path, const struct lt_url_normal_opts *opts)
{
    LT_ASSERT(path.len > 0 && path.ptr[0] == '/');
    lt_str rest = lt_url_split(path).path, segment = LT_STR_NULL;
    for (size_t i = 0; i < rest.len; i++)
        LT_ASSERT(rest.ptr[i] > 0x20 && rest.ptr[i] != 0x7f && rest.ptr[i] != '\\');
    LT_ASSERT(!opts->merge_slashes || lt_str_find(rest, LT_STR("//")) < 0);
    LT_ASSERT(lt_str_find(rest, LT_STR("%00")) < 0);
    while (lt_str_split(&rest, '/', &segment))
        LT_ASSERT(!lt_str_eq(segment, LT_STR(".")) && !lt_str_eq(segment, LT_STR("..")));
}

/* What a redirect is followed to has a host, and no byte that would end a line or a field. */
static void check_absolute(lt_str text)
{
    struct lt_url url;
    if (!lt_url_absolute(text, &url))
        return;
    LT_ASSERT(url.authority.len > 0 && lt_str_find_char(url.authority, '@') < 0);
    LT_ASSERT(url.path.len == 0 || url.path.ptr[0] == '/' || url.path.ptr[0] == '?');
    for (size_t i = 0; i < url.path.len; i++)
        LT_ASSERT(url.path.ptr[i] > 0x20 && url.path.ptr[i] != 0x7f && url.path.ptr[i] != '#');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096)
        return 0;
    struct lt_arena *arena = lt_arena_new(0, (data[0] & 8) != 0 ? 256 : 0);
    const struct lt_url_normal_opts opts = {.normalize = (data[0] & 1) != 0,
                                            .merge_slashes = (data[0] & 2) != 0,
                                            .escaped_slashes = (lt_url_slashes)(data[0] >> 6)};
    lt_str path = lt_str_make(data + 1, size - 1), out, again;
    lt_url_outcome outcome = lt_url_normalize(path, &opts, arena, &out);
    if (outcome != LT_URL_REJECT && opts.normalize)
        check_normal(out, &opts);
    if (outcome != LT_URL_REJECT && (data[0] & 8) == 0 && opts.normalize)
        LT_ASSERT(lt_url_normalize(out, &opts, arena, &again) == LT_URL_UNCHANGED);
    check_absolute(path);
    (void)!lt_url_decode(path, true, arena, &out);
    (void)lt_url_query_get(lt_url_split(path).query, "a", arena);
    lt_arena_free(&arena);
    return 0;
}
