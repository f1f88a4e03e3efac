/*
 * ctl/changes.c - two sorted lists of objects, side by side.
 */
#include "ctl/changes.h"

#include <stdio.h>
#include <stdlib.h>

struct looking {
    ctl_changes_fn *say;
    void *ctx;
    size_t said;
};

static void tell(struct looking *l, const char *what, const struct lt_object *object)
{
    char name[LT_OBJECT_NAME_MAX], line[LT_OBJECT_NAME_MAX + 16];
    if (l->said++ >= CTL_CHANGES_SAID_MAX)
        return;
    snprintf(line, sizeof(line), "%-7s %s", what, lt_object_key_format(&object->key, name));
    l->say(l->ctx, line);
}

static void compare(struct looking *l, const struct ctl_changes *before,
                    const struct lt_object *const *now, size_t count)
{
    size_t i = 0, k = 0;
    while (i < before->count || k < count) {
        int order = i == before->count ? 1
                    : k == count       ? -1
                                       : lt_object_key_cmp(&before->objects[i]->key, &now[k]->key);
        if (order < 0)
            tell(l, "removed", before->objects[i]);
        else if (order > 0)
            tell(l, "added", now[k]);
        else if (before->objects[i]->hash != now[k]->hash)
            tell(l, "changed", now[k]);
        i += order <= 0;
        k += order >= 0;
    }
}

void ctl_changes_look(struct ctl_changes *changes, const struct lt_object *const *objects,
                      size_t count, ctl_changes_fn *say, void *ctx)
{
    struct looking l = {.say = say, .ctx = ctx};
    struct ctl_changes now = {.count = count, .has_looked = true};
    if (changes->has_looked)
        compare(&l, changes, objects, count);
    if (l.said > CTL_CHANGES_SAID_MAX) {
        char line[64];
        snprintf(line, sizeof(line), "and %zu objects more", l.said - CTL_CHANGES_SAID_MAX);
        say(ctx, line);
    }
    now.objects = lt_calloc(count + 1, sizeof(*now.objects));
    for (size_t i = 0; i < count; i++)
        now.objects[i] = lt_object_ref(objects[i]);
    ctl_changes_fini(changes);
    *changes = now;
}

void ctl_changes_fini(struct ctl_changes *changes)
{
    for (size_t i = 0; i < changes->count; i++)
        lt_object_unref(&changes->objects[i]);
    free(changes->objects);
    *changes = (struct ctl_changes){0};
}
