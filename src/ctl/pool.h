/*
 * ctl/pool.h - addresses by name from a private /16: the same name gets the same address, in every
 * run where it can. An address is where the hash of its name points; a taken one gives way to the
 * next.
 */
#ifndef LT_CTL_POOL_H
#define LT_CTL_POOL_H

#include "base/map.h"

enum {
    CTL_POOL_SIZE = 1 << 16,
    CTL_POOL_RESERVED = 256 /* the first ones are for the mesh itself */
};

struct ctl_pool {
    uint32_t base;       /* 10.244.0.0 in host order */
    struct lt_map names; /* "ns/name" -> struct entry, owned */
    uint8_t used[CTL_POOL_SIZE / 8];
};

void ctl_pool_init(struct ctl_pool *pool, uint32_t base);
void ctl_pool_fini(struct ctl_pool *pool);

/*
 * 0 when none is left. wanted: take this one if it is free and inside; 0: any. Marks the name as in
 * use.
 */
uint32_t ctl_pool_get(struct ctl_pool *pool, const char *ns, const char *name, uint32_t wanted);
/* Names that were not asked for since the last begin are given up at sweep. */
void ctl_pool_begin(struct ctl_pool *pool);
void ctl_pool_sweep(struct ctl_pool *pool);

#endif
