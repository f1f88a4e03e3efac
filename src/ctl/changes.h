/*
 * ctl/changes.h - which objects an edit has changed, for a person who wants to know that it was
 * seen. Remembers the objects of the last look.
 */
#ifndef LT_CTL_CHANGES_H
#define LT_CTL_CHANGES_H

#include "model/object.h"

enum { CTL_CHANGES_SAID_MAX = 20 }; /* lines; a checkout may change everything */

struct ctl_changes {
    struct lt_object **objects; /* owned, counted; sorted by key */
    size_t count;
    bool has_looked;
};

typedef void ctl_changes_fn(void *ctx, const char *line);

/*
 * Objects as from lt_manifests_objects. Says "changed VirtualService shop/catalog" and its like,
 * nothing at the first look. All zero to begin with.
 */
void ctl_changes_look(struct ctl_changes *changes, const struct lt_object *const *objects,
                      size_t count, ctl_changes_fn *say, void *ctx);
void ctl_changes_fini(struct ctl_changes *changes);

#endif
