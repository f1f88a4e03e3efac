/*
 * ctl/plan_notes.c - where a Pod will not be quite what its manifest says: what is not acted on
 * yet, values that are missing, programs that this machine does not have.
 */
#include <stdarg.h>
#include <stdio.h>

#include "ctl/plan_priv.h"

struct noting {
    const struct ctl_pod_source *source;
    const struct lt_container *container;
};

static void note(const struct noting *n, lt_note_level level, const char *fmt, ...) LT_PRINTF(3, 4);

static void note(const struct noting *n, lt_note_level level, const char *fmt, ...)
{
    char name[LT_OBJECT_NAME_MAX], text[LT_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct lt_note where = lt_object_note(n->source->object, level, name);
    lt_notes_addf(n->source->notes, &where, "container %.*s: %s", LT_STR_ARG(n->container->name),
                  text);
}

static void note_unread(const struct noting *n)
{
    const struct lt_strs *unread = &n->container->unread;
    char list[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < unread->count && used < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%.*s", i > 0 ? ", " : "",
                                 LT_STR_ARG(unread->items[i]));
    if (unread->count > 0)
        note(n, LT_NOTE_INFO, "not acted on yet: %s", list);
}

static void note_variable(const struct noting *n, const struct lt_env_var *var)
{
    const struct lt_env_source *from = var->value_from;
    if (from == NULL)
        return;
    const struct lt_key_selector *key = from->config_map_key_ref;
    if (from->unread.count > 0)
        note(n, LT_NOTE_WARNING, "env %.*s is not set: %.*s is not acted on yet",
             LT_STR_ARG(var->name), LT_STR_ARG(from->unread.items[0]));
    if (key != NULL && lt_opt_or(key->optional, 0) == 0 &&
        ctl_plan_config_value(n->source, key).ptr == NULL)
        note(n, LT_NOTE_WARNING, "env %.*s is not set: there is no ConfigMap %.*s with a key %.*s",
             LT_STR_ARG(var->name), LT_STR_ARG(key->name), LT_STR_ARG(key->key));
}

/* Without a command it is the image's that is stood in for, which is nothing to wonder about. */
static void note_program(const struct noting *n)
{
    const struct ctl_plan_world *world = n->source->world;
    struct lt_arena *scratch = lt_arena_new(4096, 0);
    if (n->container->command.count > 0) {
        const char *program = lt_arena_strz(scratch, n->container->command.items[0]);
        if (strchr(program, '$') == NULL && !world->has_program(program, world->ctx))
            note(n, LT_NOTE_INFO, "%s is no program of this machine: a stand-in answers instead",
                 program);
    }
    lt_arena_free(&scratch);
}

static void note_source(const struct noting *n, const struct lt_env_from *from)
{
    const struct lt_config_map_ref *map = from->config_map_ref;
    if (from->unread.count > 0)
        note(n, LT_NOTE_WARNING, "envFrom: %.*s is not acted on yet",
             LT_STR_ARG(from->unread.items[0]));
    if (map != NULL && lt_opt_or(map->optional, 0) == 0 &&
        ctl_plan_config_data(n->source, map->name) == NULL)
        note(n, LT_NOTE_WARNING, "envFrom: there is no ConfigMap %.*s", LT_STR_ARG(map->name));
}

static void note_container(const struct ctl_pod_source *source,
                           const struct lt_container *container)
{
    const struct noting n = {source, container};
    note_program(&n);
    note_unread(&n);
    ctl_plan_note_volumes(source, container);
    for (size_t i = 0; i < container->env_from.count; i++)
        note_source(&n, &container->env_from.items[i]);
    for (size_t i = 0; i < container->env.count; i++)
        note_variable(&n, &container->env.items[i]);
}

void ctl_plan_note_pod(const struct ctl_pod_source *source, const struct ctl_pod_plan *pod)
{
    const struct lt_pod_spec *spec = source->spec;
    if (source->index > 0 || pod->is_gateway)
        return; /* once for all replicas; a gateway's containers are not run */
    for (size_t i = 0; i < spec->init_containers.count; i++)
        note_container(source, &spec->init_containers.items[i]);
    for (size_t i = 0; i < spec->containers.count; i++)
        note_container(source, &spec->containers.items[i]);
}
