/*
 * control/world.c - from files to views.
 */
#include "control/world.h"

#include <stdlib.h>

#include "control/hold.h"
#include "model/check.h"

static const uint64_t QUIET_NS = 50 * LT_NS_PER_MS, BURST_NS = 1000 * LT_NS_PER_MS;

struct cp_world {
    struct cp_world_opts opts;
    const struct lt_env *env; /* borrowed */
    struct lt_io source_io;
    struct lt_timer source_timer; /* a burst of file changes is waited out */
    struct lt_timer hold_timer;   /* something that is held ends */
    uint64_t changed_ns;          /* since when there are changes that no model shows; 0: none */
    struct cp_hold *hold;
    struct lt_ads_pool pool;
    struct cp_views views;
    uint64_t generation;
    struct lt_told told;
    struct lt_mesh mesh; /* as the mesh file says, or the default */
    struct lt_arena *mesh_arena;
    uint64_t mesh_hash; /* of the text that it was read from */
    struct lt_notes mesh_notes;
    struct lt_object *mesh_map; /* counted; the last good ConfigMap, or NULL */
};

struct cp_views *cp_world_views(struct cp_world *world)
{
    return &world->views;
}

/* --- what there is to say --- */

static void say(void *ctx, const struct lt_note *note, const char *line)
{
    static const lt_log_level levels[] = {[LT_NOTE_INFO] = LT_LOG_INFO,
                                          [LT_NOTE_WARNING] = LT_LOG_WARN,
                                          [LT_NOTE_ERROR] = LT_LOG_ERROR};
    struct cp_world *world = ctx;
    lt_log_write(&world->env->log, levels[note->level], "%s", line);
    if (note->level == LT_NOTE_ERROR)
        cp_metrics_add_rejected_config(world->opts.metrics, note->object);
}

static void note_held(struct cp_world *world, struct lt_notes *notes)
{
    size_t count = 0;
    const struct cp_hold_entry *entries = cp_hold_entries(world->hold, &count);
    for (size_t i = 0; i < count; i++) {
        const struct cp_hold_entry *e = &entries[i];
        char name[LT_OBJECT_NAME_MAX], until[32];
        struct lt_note where = lt_object_note(e->routes, LT_NOTE_WARNING, name);
        lt_time_format(e->until_ns, until);
        if (e->is_over)
            lt_notes_addf(notes, &where, "%s; it applies as written now", e->reason);
        else
            lt_notes_addf(notes, &where, "%s; until %s %s", e->reason, until,
                          e->instead != NULL ? "its last good form stays in force"
                                             : "the rules that need it are left out");
    }
    lt_gauge_set(world->opts.metrics->held, (double)count);
}

/* All that there is to say, of which only what is new is said. */
static void say_all(struct cp_world *world, const struct lt_notes *file_notes,
                    struct lt_notes *notes)
{
    note_held(world, notes);
    const struct lt_notes *const lists[] = {file_notes, &world->mesh_notes, notes};
    lt_told_tell(&world->told, lists, LT_ARRAY_LEN(lists), say, world);
    size_t errors = file_notes->errors + world->mesh_notes.errors + notes->errors;
    lt_gauge_set(world->opts.metrics->config_errors, (double)errors);
}

/* --- the mesh configuration --- */

static struct lt_mesh default_mesh(const struct cp_world *world)
{
    struct lt_mesh mesh = lt_mesh_default();
    mesh.domain = world->opts.domain;
    return mesh;
}

/* A broken file leaves what it said before. */
static void read_mesh(struct cp_world *world)
{
    lt_str text = cp_source_dir_mesh(world->opts.source);
    uint64_t hash = lt_hash64(text.ptr, text.len, 1);
    if (text.ptr == NULL || hash == world->mesh_hash)
        return;
    const struct lt_note where = {.file = cp_source_dir_mesh_path(world->opts.source)};
    struct lt_arena *arena = lt_arena_new(4096, 0);
    struct lt_mesh mesh = default_mesh(world);
    world->mesh_hash = hash;
    lt_notes_clear(&world->mesh_notes);
    if (lt_mesh_read(arena, text, &where, &world->mesh_notes, &mesh) != LT_OK) {
        lt_arena_free(&arena);
        return;
    }
    lt_arena_free(&world->mesh_arena);
    world->mesh_arena = arena;
    world->mesh = mesh;
}

/* --- the model --- */

static void set_hold_timer(struct cp_world *world, int64_t now_ns)
{
    int64_t due_ns = cp_hold_deadline_ns(world->hold);
    if (due_ns == INT64_MAX)
        lt_loop_timer_cancel(world->opts.loop, &world->hold_timer);
    else
        lt_loop_timer_set(world->opts.loop, &world->hold_timer,
                          due_ns > now_ns ? (uint64_t)(due_ns - now_ns) : 0);
}

static void build(struct cp_world *world)
{
    uint64_t begin_ns = lt_env_mono_ns(world->env);
    const struct lt_notes *file_notes = NULL;
    struct lt_notes notes;
    size_t count = 0;
    int64_t now_ns = lt_env_wall_ns(world->env);
    const struct lt_object *const *objects = lt_manifests_objects(
        cp_source_dir_manifests(world->opts.source), &count, &file_notes);
    read_mesh(world);
    struct cp_hold_input input = {objects, count, world->opts.domain, now_ns,
                                  (int64_t)world->opts.hold_ns};
    cp_hold_step(world->hold, &input);
    lt_notes_init(&notes);
    struct lt_model *model = lt_model_build(
        &(struct lt_model_input){objects, count, &world->mesh, cp_hold_held(world->hold),
                                 world->mesh_map, ++world->generation},
        &notes);
    lt_object_unref(&world->mesh_map);
    world->mesh_map = model->mesh_map != NULL ? lt_object_ref(model->mesh_map) : NULL;
    lt_check_references(objects, count, input.domain, &notes);
    cp_views_set_model(&world->views, model);
    lt_gauge_set(world->opts.metrics->services, (double)model->service_count);
    lt_gauge_set(world->opts.metrics->virtual_services, (double)model->routes_count);
    lt_model_unref(&model);
    say_all(world, file_notes, &notes);
    lt_notes_fini(&notes);
    set_hold_timer(world, now_ns);
    lt_histogram_observe(world->opts.metrics->build_s,
                         (double)(lt_env_mono_ns(world->env) - begin_ns) / (double)LT_NS_PER_S);
}

/* Objects, what is held of them, the model, and then everybody is told. */
static void rebuild(struct cp_world *world, uint64_t since_ns)
{
    build(world);
    world->opts.on_change(world->opts.ctx, since_ns);
    lt_ads_pool_prune(&world->pool);
}

static void on_hold_timer(struct lt_timer *timer, uint64_t now_ns)
{
    rebuild(LT_CONTAINER_OF(timer, struct cp_world, hold_timer), now_ns);
}

/* --- the source --- */

static void retry_if_blind(struct cp_world *world)
{
    if (cp_source_dir_is_blind(world->opts.source))
        lt_loop_timer_set(world->opts.loop, &world->source_timer, CP_SOURCE_RETRY_S * LT_NS_PER_S);
}

static void on_source_timer(struct lt_timer *timer, uint64_t now_ns)
{
    struct cp_world *world = LT_CONTAINER_OF(timer, struct cp_world, source_timer);
    struct cp_source_dir *source = world->opts.source;
    struct lt_err err = {0};
    uint64_t since_ns = world->changed_ns != 0 ? world->changed_ns : now_ns;
    bool was_blind = cp_source_dir_is_blind(source);
    if (cp_source_dir_reload(source, &err) != LT_OK && !was_blind)
        lt_log_error(&world->env->log, "%s; what was read before stays in force", err.text);
    world->changed_ns = 0;
    lt_str mesh = cp_source_dir_mesh(source);
    bool has_changed = lt_manifests_have_changed(cp_source_dir_manifests(source)) ||
                       (mesh.ptr != NULL && lt_hash64(mesh.ptr, mesh.len, 1) != world->mesh_hash);
    if (has_changed)
        rebuild(world, since_ns);
    retry_if_blind(world);
}

static void on_source(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct cp_world *world = LT_CONTAINER_OF(io, struct cp_world, source_io);
    struct lt_loop *loop = world->opts.loop;
    uint64_t now_ns = lt_loop_now_ns(loop);
    uint64_t due_ns = cp_source_dir_events(world->opts.source, now_ns, QUIET_NS, BURST_NS);
    if (due_ns == UINT64_MAX)
        return;
    if (world->changed_ns == 0)
        world->changed_ns = now_ns;
    lt_loop_timer_set(loop, &world->source_timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

/* --- life --- */

struct cp_world *cp_world_new(const struct cp_world_opts *opts)
{
    struct cp_world *world = lt_new(struct cp_world);
    world->opts = *opts;
    world->env = lt_loop_env(opts->loop);
    world->mesh = default_mesh(world);
    lt_timer_init(&world->source_timer, on_source_timer);
    lt_timer_init(&world->hold_timer, on_hold_timer);
    world->hold = cp_hold_new();
    lt_ads_pool_init(&world->pool);
    cp_views_init(&world->views, &world->pool);
    lt_notes_init(&world->mesh_notes);
    lt_io_init(&world->source_io, on_source);
    world->source_io.fd = cp_source_dir_fd(opts->source);
    lt_loop_io_set(opts->loop, &world->source_io, EPOLLIN);
    build(world);
    retry_if_blind(world);
    return world;
}

void cp_world_free(struct cp_world **pointer)
{
    struct cp_world *world = *pointer;
    *pointer = NULL;
    if (world == NULL)
        return;
    lt_loop_io_del(world->opts.loop, &world->source_io);
    lt_loop_timer_cancel(world->opts.loop, &world->source_timer);
    lt_loop_timer_cancel(world->opts.loop, &world->hold_timer);
    cp_views_fini(&world->views);
    lt_ads_pool_fini(&world->pool);
    cp_hold_free(&world->hold);
    lt_told_fini(&world->told);
    lt_notes_fini(&world->mesh_notes);
    lt_object_unref(&world->mesh_map);
    lt_arena_free(&world->mesh_arena);
    free(world);
}
