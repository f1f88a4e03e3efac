/*
 * model/model_priv.h - the model while it is being built: model.c (services, workloads),
 * model_endpoint.c (endpoints) and model_policy.c (rules, routes, peers).
 */
#ifndef LT_MODEL_MODEL_PRIV_H
#define LT_MODEL_MODEL_PRIV_H

#include "base/vec.h"
#include "model/model.h"

struct lt_model_builder {
    struct lt_model *model;
    const struct lt_model_input *input;
    struct lt_notes *notes;
    struct lt_arena *scratch; /* gone when the model is built */
    struct lt_map nodes;      /* name to Node object */
    struct lt_map identities; /* SPIFFE ID to itself, in the model's arena */
};

/*
 * The objects of a kind, oldest first, then by name and namespace; the array lives in the model's
 * arena.
 */
const struct lt_object **lt_model_pick(struct lt_model_builder *b, lt_kind_id kind,
                                       size_t *ret_count);

/* ports: of each service, the array that it has, not frozen yet. */
void lt_model_build_endpoints(struct lt_model_builder *b, struct lt_service *services,
                              struct lt_port *const *ports);
void lt_model_build_rules(struct lt_model_builder *b);
void lt_model_build_routes(struct lt_model_builder *b);

#endif
