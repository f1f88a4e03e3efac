/*
 * control/view.h - who sees the same: proxies with one key share one set of resources, translated
 * when the first of them asks. The key of a type names everything that its translation reads of a
 * node, and nothing else, so that forgetting an input would show as a key without it here. A cache
 * lives as long as its model. What only one proxy sees (its own ports) is translated each time, and
 * in no cache: strangers choose who they say they are.
 */
#ifndef CP_CONTROL_VIEW_H
#define CP_CONTROL_VIEW_H

#include "control/translate.h"

/*
 * What is kept. A key is made of a proxy's words about itself (place, application, cluster), and
 * the plaintext port asks nobody to prove them: whoever comes when there are so many has one of his
 * own.
 */
enum { CP_VIEW_SETS_MAX = 8192 };

/* What of the node the translation of this type and part depends on, as text; lives in arena. */
lt_str cp_view_key_for(struct lt_arena *arena, const struct lt_model *model,
                       const struct cp_node *node, cp_type type, cp_part part);

struct cp_views {
    struct lt_ads_pool *pool; /* borrowed */
    struct lt_model *model;   /* counted; NULL before the first */
    uint64_t generation;      /* counts models from 1 */
    struct lt_map sets;       /* key to struct cp_resources, counted; keys in arena */
    struct lt_arena *arena;   /* owned; of the keys */
};

void cp_views_init(struct cp_views *views, struct lt_ads_pool *pool);
void cp_views_fini(struct cp_views *views);
/*
 * The world has changed: what was translated before is forgotten (proxies keep what they hold a
 * count of).
 */
void cp_views_set_model(struct cp_views *views, const struct lt_model *model);
/* One count for the caller. A model must have been set. */
struct cp_resources *cp_views_get(struct cp_views *views, const struct cp_node *node, cp_type type);

#endif
