/*
 * proxy/compile/mutations.c - HeaderMutation, and the filter that is made of it.
 */
#include "proxy/compile/mutations.h"

#include "proxy/compile/filter.h"
#include "wire/proto/http_header_mutation.pb-c.h"

static lt_rc make_mutation(struct px_build *build, const char *field, const Xds__HeaderMutation *in,
                           struct px_mutation *mutation)
{
    switch (in->action_case) {
    case XDS__HEADER_MUTATION__ACTION_REMOVE:
        mutation->kind = PX_MUTATE_REMOVE;
        mutation->edit.name = px_copy_lower(build, in->remove);
        if (mutation->edit.name.len == 0 || mutation->edit.name.ptr[0] == ':' ||
            lt_str_eqz(mutation->edit.name, "host"))
            return px_bad(build, field, ":-prefixed or host headers may not be removed");
        return LT_OK;
    case XDS__HEADER_MUTATION__ACTION_APPEND: {
        struct px_header_edits one;
        Xds__HeaderValueOption *const list[] = {in->append};
        LT_TRY(px_make_header_edits(build, list, 1, NULL, 0, field, &one));
        mutation->kind = PX_MUTATE_ADD;
        mutation->edit = one.add[0];
        return LT_OK;
    }
    case XDS__HEADER_MUTATION__ACTION_REMOVE_ON_MATCH:
        mutation->kind = PX_MUTATE_REMOVE_MATCHING;
        if (in->remove_on_match->key_matcher == NULL)
            return px_bad(build, field, "remove_on_match needs a key_matcher");
        return px_make_string_match(build, field, in->remove_on_match->key_matcher,
                                    &mutation->match);
    default: return px_bad(build, field, "needs remove, append or remove_on_match");
    }
}

lt_rc px_make_mutations(struct px_build *build, const char *field, Xds__HeaderMutation *const *in,
                        size_t count, struct px_mutations *mutations)
{
    struct px_mutation *items = lt_arena_make_n(build->arena, struct px_mutation, count);
    for (size_t i = 0; i < count; i++)
        LT_TRY(make_mutation(build, field, in[i], &items[i]));
    mutations->items = items;
    mutations->count = count;
    return LT_OK;
}

/* --- the filter --- */

static px_append_action action_of(const Xds__KeyValueAppend *in)
{
    switch (in->has_action ? in->action : 0) {
    case XDS__KEY_VALUE_APPEND__KEY_VALUE_APPEND_ACTION__ADD_IF_ABSENT: return PX_ADD_IF_ABSENT;
    case XDS__KEY_VALUE_APPEND__KEY_VALUE_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD:
        return PX_OVERWRITE_OR_ADD;
    case XDS__KEY_VALUE_APPEND__KEY_VALUE_APPEND_ACTION__OVERWRITE_IF_EXISTS:
        return PX_OVERWRITE_IF_EXISTS;
    default: return PX_APPEND;
    }
}

static lt_rc make_query(struct px_build *build, const Xds__KeyValueMutation *in,
                        struct px_query_mutation *query)
{
    const char *field = "mutations.query_parameter_mutations";
    if (in->append == NULL) {
        query->name = px_copy(build, in->remove);
        return query->name.len > 0 ? LT_OK : px_bad(build, field, "needs append or remove");
    }
    const Xds__KeyValuePair *record = in->append->record;
    bool has_text = record != NULL && record->value != NULL &&
                    record->value->kind_case == PB__VALUE__KIND_STRING_VALUE;
    if (!has_text || record->key == NULL || record->key[0] == '\0')
        return px_bad(build, field, "only string values are supported");
    query->name = px_copy(build, record->key);
    query->value = lt_arena_str(build->arena, lt_str_of(record->value->string_value));
    query->action = action_of(in->append);
    return lt_str_find_char(query->value, '%') < 0
               ? LT_OK
               : px_make_format(build, field, query->value, &query->format);
}

static lt_rc make_all(struct px_build *build, const Xds__HttpHeaderMutation__Mutations *in,
                      struct px_mutation_conf *conf)
{
    if (in == NULL)
        return LT_OK;
    LT_TRY(px_make_mutations(build, "mutations.request_mutations", in->request_mutations,
                             in->n_request_mutations, &conf->request));
    LT_TRY(px_make_mutations(build, "mutations.response_mutations", in->response_mutations,
                             in->n_response_mutations, &conf->response));
    struct px_query_mutation *queries = lt_arena_make_n(build->arena, struct px_query_mutation,
                                                        in->n_query_parameter_mutations);
    for (size_t i = 0; i < in->n_query_parameter_mutations; i++)
        LT_TRY(make_query(build, in->query_parameter_mutations[i], &queries[i]));
    conf->queries = queries;
    conf->query_count = in->n_query_parameter_mutations;
    return LT_OK;
}

lt_rc px_make_mutation_filter(struct px_build *build, const void *message,
                              struct px_hcm_conf *hcm LT_UNUSED, const void **ret_conf)
{
    const Xds__HttpHeaderMutation__HeaderMutation *in = message;
    struct px_mutation_conf *conf = lt_arena_make(build->arena, struct px_mutation_conf);
    *ret_conf = conf;
    conf->most_specific_wins = in->has_most_specific_header_mutations_wins &&
                               in->most_specific_header_mutations_wins;
    return make_all(build, in->mutations, conf);
}

lt_rc px_make_mutation_route(struct px_build *build, const void *message,
                             struct px_filter_conf *conf)
{
    const Xds__HttpHeaderMutation__HeaderMutationPerRoute *in = message;
    struct px_mutation_conf *own = lt_arena_make(build->arena, struct px_mutation_conf);
    conf->conf = own;
    return make_all(build, in->mutations, own);
}
