/*
 * proxy/compile/meta.c - metadata as key and text: of endpoints, of routes, of what matches them.
 */
#include <stdlib.h>

#include "proxy/compile/build.h"
#include "proxy/conf/meta.h"
#include "wire/json.h"
#include "wire/struct.h"

enum { VALUE_BYTES_MAX = 16 * 1024 };

lt_rc px_make_metas(struct px_build *build, const Pb__Struct *st, struct px_metas *ret_metas)
{
    *ret_metas = (struct px_metas){0};
    if (st == NULL || st->n_fields == 0)
        return LT_OK;
    struct px_meta_pair *pairs = lt_arena_make_n(build->arena, struct px_meta_pair, st->n_fields);
    size_t count = 0;
    for (size_t i = 0; i < st->n_fields; i++) {
        const Pb__Value *value = st->fields[i]->value;
        if (value == NULL || value->kind_case != PB__VALUE__KIND_STRING_VALUE)
            continue;
        pairs[count].key = px_copy(build, st->fields[i]->key);
        pairs[count++].value = px_copy(build, value->string_value);
    }
    *ret_metas = (struct px_metas){pairs, count};
    return LT_OK;
}

static lt_rc to_json(struct px_build *build, const char *field, const Pb__Value *value,
                     lt_str *ret_text)
{
    struct lt_doc doc;
    struct lt_err inner = {0};
    if (lt_struct_value_to_doc(build->scratch, value, NULL, &doc, &inner) != LT_OK)
        return px_bad(build, field, "%s", inner.text);
    struct lt_buf out;
    struct lt_json_writer w;
    lt_buf_init(&out, VALUE_BYTES_MAX);
    lt_json_writer_init(&w, &out, 0);
    lt_json_doc(&w, &doc);
    lt_rc rc = lt_json_writer_finish(&w);
    if (rc == LT_OK)
        *ret_text = lt_arena_str(build->arena, lt_buf_str(&out));
    lt_buf_fini(&out);
    return rc == LT_OK ? LT_OK
                       : px_bad(build, field, "a value is larger than %d bytes", VALUE_BYTES_MAX);
}

static int by_key(const void *a, const void *b)
{
    return lt_str_cmp(((const struct px_meta_pair *)a)->key, ((const struct px_meta_pair *)b)->key);
}

lt_rc px_make_json_metas(struct px_build *build, const char *field, const Pb__Struct *st,
                         struct px_metas *ret_metas)
{
    *ret_metas = (struct px_metas){0};
    if (st == NULL || st->n_fields == 0)
        return LT_OK;
    struct px_meta_pair *pairs = lt_arena_make_n(build->arena, struct px_meta_pair, st->n_fields);
    size_t count = 0;
    for (size_t i = 0; i < st->n_fields; i++) {
        if (st->fields[i]->value == NULL)
            continue;
        pairs[count].key = px_copy(build, st->fields[i]->key);
        LT_TRY(to_json(build, field, st->fields[i]->value, &pairs[count].value));
        count++;
    }
    qsort(pairs, count, sizeof(*pairs), by_key);
    *ret_metas = (struct px_metas){pairs, count};
    return LT_OK;
}

static bool has_a_place(const char *filter)
{
    static const char *const known[] = {"istio", "envoy.lb", "envoy.transport_socket_match"};
    for (size_t i = 0; i < LT_ARRAY_LEN(known); i++) {
        if (strcmp(filter, known[i]) == 0)
            return true;
    }
    return false;
}

lt_rc px_make_other_meta(struct px_build *build, const Xds__Metadata *in,
                         const struct px_meta **ret_meta)
{
    for (size_t i = 0; in != NULL && i < in->n_filter_metadata; i++) {
        const char *filter = in->filter_metadata[i]->key;
        struct lt_doc doc;
        if (filter == NULL || has_a_place(filter))
            continue;
        if (lt_struct_to_doc(build->scratch, in->filter_metadata[i]->value, NULL, &doc, NULL) !=
            LT_OK)
            return px_bad(build, "metadata.filter_metadata", "'%s' is not a readable Struct",
                          filter);
        struct px_meta *meta = lt_arena_make(build->arena, struct px_meta);
        meta->filter = px_copy(build, filter);
        meta->doc = lt_doc_copy(build->arena, &doc);
        meta->next = *ret_meta;
        *ret_meta = meta;
    }
    return LT_OK;
}
