/*
 * model/share.h - memory in which equal things are one: what was read from one file. Ten thousand
 * Pods differ in a name and an address; labels, owners, containers and conditions are the same.
 * Things go in from the inside out (strings, then what points to them), so that two are equal when
 * their bytes are. Nothing in it changes; it is freed whole, with the last object that counts it.
 */
#ifndef LT_MODEL_SHARE_H
#define LT_MODEL_SHARE_H

#include "base/arena.h"

struct lt_share;

/* One count, the caller's. */
struct lt_share *lt_share_new(void);
struct lt_share *lt_share_ref(struct lt_share *share);
void lt_share_unref(struct lt_share **share);

/* A string with these bytes and a NUL behind. */
lt_str lt_share_str(struct lt_share *share, lt_str s);
/* A block with these bytes, aligned for any type. All that it points to must be in the share. */
const void *lt_share_block(struct lt_share *share, const void *block, size_t size);
/* For what only one will ever have: memory, zeroed. */
void *lt_share_alloc(struct lt_share *share, size_t size);
/* No more will come: what was needed to find equals is freed. */
void lt_share_seal(struct lt_share *share);

#endif
