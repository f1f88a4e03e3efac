/*
 * proxy/admin/dump_mask.c - ?mask= of /config_dump: field masks, applied to what was written. Few
 * ask for it, so it costs a reading of the text and nothing else.
 */
#include "proxy/admin/dump.h"

enum { PATHS_MAX = 32, SEGMENT_MAX = 128 };

/* "a.b,a.c" at `object`: what paths say of the member `key`: nothing, all of it, or paths in it. */
static bool paths_below(lt_str mask, lt_str key, struct lt_arena *scratch, lt_str *ret_below,
                        bool *ret_is_all)
{
    lt_str path, below = LT_STR("");
    bool is_named = false;
    *ret_is_all = false;
    for (int i = 0; i < PATHS_MAX && lt_str_split(&mask, ',', &path); i++) {
        lt_str head;
        if (!lt_str_split(&path, '.', &head) || !lt_str_eq(head, key))
            continue;
        is_named = true;
        if (path.len == 0)
            *ret_is_all = true;
        else
            below = lt_arena_printf(scratch, "%.*s%s%.*s", LT_STR_ARG(below),
                                    below.len > 0 ? "," : "", LT_STR_ARG(path));
    }
    *ret_below = below;
    return is_named;
}

/* An object, as deep as what lt_json_parse has let in. */
static bool write_part(const struct lt_doc *object, lt_str mask, struct lt_arena *scratch,
                       struct lt_json_writer *w)
{
    bool found = false;
    lt_json_object_open(w);
    for (uint32_t i = 0; i < object->count; i++) {
        const struct lt_doc_member *member = &object->members[i];
        lt_str below;
        bool is_all;
        bool is_type = lt_str_eqz(member->key, "@type");
        if (!is_type && !paths_below(mask, member->key, scratch, &below, &is_all))
            continue;
        found |= !is_type;
        lt_json_key(w, member->key);
        if (is_type || is_all || member->value.kind != LT_DOC_OBJECT)
            lt_json_doc(w, &member->value);
        else
            (void)write_part(&member->value, below, scratch, w);
    }
    lt_json_object_close(w);
    return found;
}

bool px_dump_write_masked(lt_str json, lt_str mask, struct lt_arena *scratch,
                          struct lt_json_writer *w)
{
    const struct lt_doc *doc = NULL;
    struct lt_doc_limits limits = LT_DOC_LIMITS_DEFAULT;
    limits.bytes_max = PX_PAGE_BYTES_MAX;
    if (lt_json_parse(scratch, json, &limits, &doc, NULL) != LT_OK || doc->kind != LT_DOC_OBJECT)
        return false;
    return write_part(doc, mask, scratch, w);
}
