/*
 * model/model_priv.h - the model while it is being built: model.c (services, workloads) and
 * model_policy.c (rules, routes, peers).
 */
#ifndef LT_MODEL_MODEL_PRIV_H
#define LT_MODEL_MODEL_PRIV_H

#include "base/vec.h"
#include "model/model.h"

struct lt_model_builder {
    struct lt_model *model;
    const struct lt_model_input *input;
    struct lt_notes *notes;
    const struct lt_object **nodes; /* Node objects, in the model's arena */
    size_t node_count;
};

/*
 * The objects of a kind, oldest first, then by name and namespace; the array lives in the model's
 * arena.
 */
const struct lt_object **lt_model_pick(struct lt_model_builder *b, lt_kind_id kind,
                                       size_t *ret_count);

void lt_model_build_rules(struct lt_model_builder *b);
void lt_model_build_routes(struct lt_model_builder *b);

#endif
