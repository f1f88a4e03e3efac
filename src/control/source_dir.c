/*
 * control/source_dir.c - what is watched is read.
 */
#include "control/source_dir.h"

#include <stdlib.h>

#include "net/watch.h"

struct cp_source_dir {
    struct lt_manifests *manifests;      /* owned */
    lt_str dirs[CP_SOURCE_DIRS_MAX + 1]; /* owned; the live one is the last */
    size_t dir_count;
    char *mesh_file;        /* owned, or NULL */
    lt_str mesh;            /* owned */
    struct lt_watch *watch; /* owned */
    bool is_blind;
    uint64_t first_ns; /* of the changes not read yet; 0: none */
    uint64_t last_ns;
};

static void add_dir(struct cp_source_dir *s, lt_str dir)
{
    s->dirs[s->dir_count++] = lt_str_make(lt_str_dupz(dir), dir.len);
}

lt_rc cp_source_dir_open(const struct cp_source_opts *opts, struct cp_source_dir **ret_source,
                         struct lt_err *err)
{
    if (opts->dir_count > CP_SOURCE_DIRS_MAX)
        return lt_err_set(err, LT_E_LIMIT, "more than %d directories", CP_SOURCE_DIRS_MAX);
    struct cp_source_dir *s = lt_new(struct cp_source_dir);
    s->manifests = lt_manifests_new();
    for (size_t i = 0; i < opts->dir_count; i++)
        add_dir(s, opts->dirs[i]);
    if (opts->live_dir.len > 0) {
        lt_manifests_set_live(s->manifests, opts->live_dir);
        add_dir(s, opts->live_dir);
    }
    if (opts->mesh_file != NULL)
        s->mesh_file = lt_str_dupz(lt_str_of(opts->mesh_file));
    lt_rc rc = lt_watch_new(&s->watch, err);
    if (rc == LT_OK)
        rc = cp_source_dir_reload(s, err);
    if (rc != LT_OK) {
        cp_source_dir_free(&s);
        return rc;
    }
    *ret_source = s;
    return LT_OK;
}

void cp_source_dir_free(struct cp_source_dir **source)
{
    struct cp_source_dir *s = *source;
    *source = NULL;
    if (s == NULL)
        return;
    lt_watch_free(&s->watch);
    for (size_t i = 0; i < s->dir_count; i++)
        free((char *)s->dirs[i].ptr);
    lt_manifests_free(&s->manifests);
    free(s->mesh_file);
    free((char *)s->mesh.ptr);
    free(s);
}

int cp_source_dir_fd(const struct cp_source_dir *source)
{
    return lt_watch_fd(source->watch);
}

bool cp_source_dir_is_blind(const struct cp_source_dir *source)
{
    return source->is_blind;
}

struct lt_manifests *cp_source_dir_manifests(struct cp_source_dir *source)
{
    return source->manifests;
}

lt_str cp_source_dir_mesh(const struct cp_source_dir *source)
{
    return source->mesh;
}

lt_str cp_source_dir_mesh_path(const struct cp_source_dir *source)
{
    return lt_str_of(source->mesh_file);
}

uint64_t cp_source_dir_events(struct cp_source_dir *source, uint64_t now_ns, uint64_t quiet_ns,
                              uint64_t max_ns)
{
    if (lt_watch_read(source->watch)) {
        source->last_ns = now_ns;
        if (source->first_ns == 0)
            source->first_ns = now_ns;
    }
    return source->first_ns == 0 ? UINT64_MAX
                                 : LT_MIN(source->last_ns + quiet_ns, source->first_ns + max_ns);
}

/* New places are watched before they are read: what comes meanwhile is an event, not a loss. */
static bool watch_all(struct cp_source_dir *source)
{
    lt_watch_begin(source->watch);
    for (size_t i = 0; i < source->dir_count; i++)
        lt_watch_add_tree(source->watch, source->dirs[i].ptr);
    if (source->mesh_file != NULL)
        lt_watch_add_path(source->watch, source->mesh_file);
    return lt_watch_end(source->watch);
}

static lt_rc read_mesh(struct cp_source_dir *source, struct lt_err *err)
{
    char *text = NULL;
    size_t len = 0;
    if (source->mesh_file == NULL)
        return LT_OK;
    LT_TRY(lt_manifest_read_file(source->mesh_file, &text, &len, err));
    free((char *)source->mesh.ptr);
    source->mesh = lt_str_make(text, len);
    return LT_OK;
}

lt_rc cp_source_dir_reload(struct cp_source_dir *source, struct lt_err *err)
{
    lt_rc first = LT_OK;
    source->first_ns = source->last_ns = 0;
    source->is_blind = !watch_all(source);
    for (size_t i = 0; i < source->dir_count; i++) {
        lt_rc rc = lt_manifests_load_dir(source->manifests, source->dirs[i],
                                         first == LT_OK ? err : NULL);
        first = first == LT_OK ? rc : first;
    }
    lt_rc rc = read_mesh(source, first == LT_OK ? err : NULL);
    first = first == LT_OK ? rc : first;
    source->is_blind |= first != LT_OK;
    return first;
}
