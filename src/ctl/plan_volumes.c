/*
 * ctl/plan_volumes.c - what a container of the application mounts: emptyDir and ConfigMaps. Both
 * are the Pod's own (volumes.h); other kinds are not there, and named (ctl_plan_note_volumes).
 * Start at: ctl_plan_add_volumes().
 */
#include "ctl/plan_priv.h"

enum { USER_MOUNTS_MAX = CTL_MOUNTS_MAX / 2 };

static const struct lt_volume *find_volume(const struct ctl_pod_source *source, lt_str name)
{
    for (size_t i = 0; i < source->spec->volumes.count; i++) {
        if (lt_str_eq(source->spec->volumes.items[i].name, name))
            return &source->spec->volumes.items[i];
    }
    return NULL;
}

const struct lt_kvs *ctl_plan_config_data(const struct ctl_pod_source *source, lt_str name)
{
    for (size_t i = 0; i < source->object_count; i++) {
        const struct lt_object *object = source->objects[i];
        if (object->key.kind == LT_KIND_CONFIG_MAP &&
            lt_str_eq(object->key.ns, source->object->key.ns) && lt_str_eq(object->key.name, name))
            return &object->config_map->data;
    }
    return NULL;
}

/* A key is a file's name, and no way out of the directory. */
static bool is_file_name(lt_str key)
{
    return key.len > 0 && lt_str_find_char(key, '/') < 0 && !lt_str_eqz(key, ".") &&
           !lt_str_eqz(key, "..");
}

/* All keys, or those that are listed. */
static void add_files(const struct ctl_pod_source *source, struct lt_arena *arena,
                      const struct lt_config_map_volume *volume, struct ctl_mount *mount)
{
    const struct lt_kvs *data = ctl_plan_config_data(source, volume->name);
    size_t room = data == NULL ? 0 : LT_MAX(data->count, volume->items.count);
    struct ctl_mount_file *files = lt_arena_make_n(arena, struct ctl_mount_file, room + 1);
    mount->files = files;
    for (size_t i = 0; data != NULL && volume->items.count == 0 && i < data->count; i++) {
        if (is_file_name(data->items[i].key))
            files[mount->file_count++] = (struct ctl_mount_file){
                lt_arena_strz(arena, data->items[i].key), data->items[i].value};
    }
    for (size_t i = 0; data != NULL && i < volume->items.count; i++) {
        lt_str text = lt_kvs_find(data, volume->items.items[i].key);
        if (text.ptr != NULL)
            files[mount->file_count++] = (struct ctl_mount_file){
                lt_arena_strz(arena, volume->items.items[i].path), text};
    }
}

void ctl_plan_add_volumes(const struct ctl_pod_source *source, struct lt_arena *arena,
                          const struct lt_container *c, struct ctl_mounts *mounts)
{
    for (size_t i = 0; i < c->volume_mounts.count && i < USER_MOUNTS_MAX; i++) {
        const struct lt_volume_mount *at = &c->volume_mounts.items[i];
        const struct lt_volume *volume = find_volume(source, at->name);
        if (volume == NULL || at->unread.count > 0 ||
            (volume->empty_dir == NULL && volume->config_map == NULL))
            continue;
        bool is_empty = volume->empty_dir != NULL;
        struct ctl_mount mount = {.kind = CTL_MOUNT_VOLUME,
                                  .target = lt_arena_strz(arena, at->mount_path),
                                  .source = ctl_text(arena, "%s/%.*s",
                                                     is_empty ? CTL_EMPTY_DIRS : "config",
                                                     LT_STR_ARG(volume->name)),
                                  .is_read_only = !is_empty || lt_opt_or(at->read_only, 0) != 0,
                                  .uid = is_empty ? CTL_APP_UID : 0,
                                  .gid = is_empty ? CTL_APP_UID : 0,
                                  .mode = is_empty ? 0777 : 0755};
        if (!is_empty)
            add_files(source, arena, volume->config_map, &mount);
        ctl_mounts_add(mounts, mount);
    }
}

/* --- notes --- */

static const char *why_not(const struct ctl_pod_source *source, const struct lt_volume_mount *at,
                           size_t index, lt_note_level *ret_level)
{
    const struct lt_volume *volume = find_volume(source, at->name);
    *ret_level = LT_NOTE_WARNING;
    if (volume == NULL)
        return "there is no volume of this name";
    if (volume->config_map != NULL && lt_opt_or(volume->config_map->optional, 0) == 0 &&
        ctl_plan_config_data(source, volume->config_map->name) == NULL)
        return "there is no ConfigMap of that name";
    *ret_level = LT_NOTE_INFO;
    if (index >= USER_MOUNTS_MAX)
        return "more mounts than a container can have here";
    if (at->unread.count > 0)
        return "subPath is not acted on yet";
    if (volume->empty_dir == NULL && volume->config_map == NULL)
        return "only emptyDir and configMap are acted on yet";
    return NULL;
}

void ctl_plan_note_volumes(const struct ctl_pod_source *source, const struct lt_container *c)
{
    char name[LT_OBJECT_NAME_MAX];
    for (size_t i = 0; i < c->volume_mounts.count; i++) {
        const struct lt_volume_mount *at = &c->volume_mounts.items[i];
        lt_note_level level = LT_NOTE_INFO;
        const char *why = why_not(source, at, i, &level);
        if (why == NULL)
            continue;
        struct lt_note where = lt_object_note(source->object, level, name);
        lt_notes_addf(source->notes, &where, "container %.*s: volume %.*s at %.*s is not there: %s",
                      LT_STR_ARG(c->name), LT_STR_ARG(at->name), LT_STR_ARG(at->mount_path), why);
    }
}
