/*
 * proxy/start/runtime.c - what the keys of a runtime would change, as far as we know them.
 * Start at: px_read_runtime().
 */
#include "proxy/start/runtime.h"

#include "wire/struct.h"

/* Istio's bootstrap sets this one, to "no limit", and so do most that were ever written. */
static const char MAX_CONNECTIONS[] = "overload.global_downstream_max_connections";

enum { NO_LIMIT = INT32_MAX };

/* A whole number, bare or as text; -1: none. */
static int64_t number_of(const struct lt_doc *doc)
{
    int64_t number = -1;
    if (lt_doc_is(doc, LT_DOC_STRING))
        return lt_str_to_i64(doc->string, &number) == LT_OK ? number : -1;
    return lt_doc_is_int(doc, &number) ? number : -1;
}

static bool is_of_envoys_code(lt_str key)
{
    return lt_str_starts(key, LT_STR("envoy.")) || lt_str_starts(key, LT_STR("re2."));
}

static void read_key(struct px_build *build, lt_str key, const struct lt_doc *value,
                     struct px_pressure_conf *conf)
{
    if (lt_str_eqz(key, MAX_CONNECTIONS)) { /* a later layer's word counts */
        int64_t max = number_of(value);
        conf->connections_max = max > 0 && max < NO_LIMIT ? (uint64_t)max : 0;
    } else if (!is_of_envoys_code(key)) {
        lt_str field = lt_arena_printf(build->scratch, "layered_runtime: %.*s", LT_STR_ARG(key));
        px_unhonoured(build, field.ptr);
    }
}

/* {a: {b: 1}} is {"a.b": 1}; as deep as a Struct may be. */
static void read_keys(struct px_build *build, lt_str prefix, const struct lt_doc *doc,
                      struct px_pressure_conf *conf)
{
    for (uint32_t i = 0; i < doc->count; i++) {
        const struct lt_doc_member *member = &doc->members[i];
        lt_str key = prefix.len == 0 ? member->key
                                     : lt_arena_printf(build->scratch, "%.*s.%.*s",
                                                       LT_STR_ARG(prefix), LT_STR_ARG(member->key));
        if (lt_doc_is(&member->value, LT_DOC_OBJECT))
            read_keys(build, key, &member->value, conf);
        else
            read_key(build, key, &member->value, conf);
    }
}

void px_read_runtime(struct px_build *build, const Xds__LayeredRuntime *in,
                     struct px_pressure_conf *conf)
{
    for (size_t i = 0; in != NULL && i < in->n_layers; i++) {
        const Xds__RuntimeLayer *layer = in->layers[i];
        struct lt_doc doc;
        if (layer->layer_specifier_case == XDS__RUNTIME_LAYER__LAYER_SPECIFIER_STATIC_LAYER &&
            lt_struct_to_doc(build->scratch, layer->static_layer, NULL, &doc, NULL) == LT_OK)
            read_keys(build, LT_STR_NULL, &doc, conf);
    }
}
