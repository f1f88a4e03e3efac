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
