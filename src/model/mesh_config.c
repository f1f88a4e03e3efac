/*
 * model/mesh_config.c - MeshConfig over its defaults.
 */
#include "base/env.h"
#include "model/model.h"
#include "wire/yaml.h"

struct lt_mesh lt_mesh_default(void)
{
    return (struct lt_mesh){
        .trust_domain = LT_STR("cluster.local"),
        .domain = LT_STR(LT_DEFAULT_DOMAIN),
        .root_ns = LT_STR("istio-system"),
        .cluster_id = LT_STR("Kubernetes"),
        .has_auto_mtls = true,
        .allows_any_outbound = true,
        .connect_timeout_ns = 10 * (int64_t)LT_NS_PER_S,
    };
}

static void take_str(lt_str *to, lt_str from)
{
    if (from.ptr != NULL)
        *to = from;
}

/* A trust domain may not hold what ends it in a SPIFFE ID (security.md 5). */
static lt_str clean_trust_domain(struct lt_arena *arena, lt_str text)
{
    char *copy = lt_arena_strz(arena, text);
    for (size_t i = 0; i < text.len; i++) {
        if (copy[i] == '@')
            copy[i] = '.';
    }
    return lt_str_make(copy, text.len);
}

static void take(struct lt_arena *arena, const struct lt_mesh_config *config, struct lt_mesh *mesh)
{
    if (config->trust_domain.len > 0)
        mesh->trust_domain = clean_trust_domain(arena, config->trust_domain);
    if (config->root_namespace.len > 0)
        mesh->root_ns = config->root_namespace;
    take_str(&mesh->access_log_file, config->access_log_file);
    take_str(&mesh->access_log_format, config->access_log_format);
    if (config->trust_domain_aliases.count > 0)
        mesh->trust_domain_aliases = config->trust_domain_aliases;
    mesh->access_log_is_json = lt_opt_or(config->access_log_encoding,
                                         mesh->access_log_is_json ? LT_LOG_JSON : LT_LOG_TEXT);
    mesh->has_auto_mtls = lt_opt_or(config->enable_auto_mtls, mesh->has_auto_mtls);
    mesh->connect_timeout_ns = lt_opt_or(config->connect_timeout, mesh->connect_timeout_ns);
    mesh->detection_timeout_ns = lt_opt_or(config->protocol_detection_timeout,
                                           mesh->detection_timeout_ns);
    if (config->outbound != NULL && config->outbound->mode.is_set)
        mesh->allows_any_outbound = config->outbound->mode.value != LT_OUTBOUND_REGISTRY_ONLY;
    if (config->default_retry != NULL)
        mesh->default_retry = config->default_retry;
    if (config->default_service_export_to.count > 0)
        mesh->service_export_to = config->default_service_export_to;
    if (config->default_vs_export_to.count > 0)
        mesh->vs_export_to = config->default_vs_export_to;
    if (config->default_dr_export_to.count > 0)
        mesh->dr_export_to = config->default_dr_export_to;
}

/* Lines inside a ConfigMap's text are no lines of the file. */
static void move_notes(const struct lt_notes *from, const struct lt_note *where,
                       struct lt_notes *notes)
{
    for (size_t i = 0; i < from->vec.count && notes != NULL; i++) {
        char path[256];
        struct lt_note note = *lt_notes_at(from, i);
        if (note.path.len > 0) {
            snprintf(path, sizeof(path), "data.mesh, line %u: %.*s", note.line,
                     LT_STR_ARG(note.path));
            note.path = lt_str_of(path);
        }
        note.line = where->line;
        lt_notes_add(notes, &note);
    }
}

lt_rc lt_mesh_read_map(struct lt_arena *arena, const struct lt_object *map, struct lt_notes *notes,
                       struct lt_mesh *mesh)
{
    lt_str text = lt_kvs_find(&map->config_map->data, LT_STR("mesh"));
    char name[LT_OBJECT_NAME_MAX];
    struct lt_note where = lt_object_note(map, LT_NOTE_ERROR, name);
    struct lt_notes inner;
    if (text.ptr == NULL)
        return LT_E_NOT_FOUND;
    lt_notes_init(&inner);
    lt_rc rc = lt_mesh_read(arena, text, &where, &inner, mesh);
    move_notes(&inner, &where, notes);
    lt_notes_fini(&inner);
    return rc;
}

lt_rc lt_mesh_read(struct lt_arena *arena, lt_str text, const struct lt_note *where,
                   struct lt_notes *notes, struct lt_mesh *mesh)
{
    const struct lt_doc *doc = NULL;
    struct lt_err err = {0};
    struct lt_note note = *where;
    note.level = LT_NOTE_ERROR;
    lt_rc rc = lt_yaml_parse(arena, lt_yaml_whole(text), NULL, &doc, &err);
    if (rc != LT_OK) {
        if (notes != NULL)
            lt_notes_addf(notes, &note, "mesh configuration: %s", err.text);
        return rc;
    }
    struct lt_mesh_config *config = lt_arena_make(arena, struct lt_mesh_config);
    struct lt_doc_path root = {0};
    struct lt_field_reader reader = {
        .arena = arena, .notes = notes, .where = note, .unknown = LT_NOTE_WARNING};
    LT_TRY(lt_field_read(&reader, doc, &lt_mesh_config_schema, config, &root));
    take(arena, config, mesh);
    return LT_OK;
}
