/*
 * control/world.h - the mesh as the source has it now: source, hold, model and views, one after the
 * other, whenever files change or something that is held ends. Here meet these (pure, or nearly)
 * with the loop and the clock.
 * Not here: who is told of it (discovery.h).
 * Start at: cp_world_new(), rebuild().
 */
#ifndef CP_CONTROL_WORLD_H
#define CP_CONTROL_WORLD_H

#include "control/metrics.h"
#include "control/source_dir.h"
#include "control/view.h"
#include "net/loop.h"

struct cp_world;

struct cp_world_opts {
    struct lt_loop *loop;         /* borrowed, as all below */
    struct cp_source_dir *source; /* has been read once */
    struct cp_metrics *metrics;
    lt_str domain;    /* "cluster.local" */
    uint64_t hold_ns; /* 0: nothing is held */
    /* The views are new ones. since_ns: monotonic, when the change that they show was noticed. */
    void (*on_change)(void *ctx, uint64_t since_ns);
    void *ctx;
};

/* Builds the first model; on_change is not called for it. */
struct cp_world *cp_world_new(const struct cp_world_opts *opts);
void cp_world_free(struct cp_world **world);
struct cp_views *cp_world_views(struct cp_world *world);

#endif
