/*
 * proxy/admin/dump.c - /config_dump: every resource that this proxy holds, in the shape of
 * envoy.admin.v3.ConfigDump. The page is a list of counted resources; each is turned into JSON when
 * the reader has taken the one before.
 * Start at: px_admin_dump().
 */
#include "proxy/admin/dump.h"

#include <stdlib.h>

#include "base/regex.h"
#include "http/url.h"
#include "proxy/table/vhosts.h"
#include "wire/pbjson.h"
#include "wire/proto/bootstrap.pb-c.h"
#include "wire/proto/cluster.pb-c.h"

#define DUMP_TYPE LT_ANY_PREFIX "envoy.admin.v3."

enum { PART_BYTES = 64 * 1024, PIECE_MAX = 128 * 1024, MASK_MAX = 4096 };

/* Messages of ConfigDump.configs, in Envoy's order. */
typedef enum {
    BOOTSTRAP,
    CLUSTERS,
    ECDS,
    ENDPOINTS,
    LISTENERS,
    SCOPED_ROUTES,
    ROUTES,
    SECRETS,
    SECTIONS
} section;

static const char *const section_types[SECTIONS] = {
    [BOOTSTRAP] = DUMP_TYPE "BootstrapConfigDump",
    [CLUSTERS] = DUMP_TYPE "ClustersConfigDump",
    [ECDS] = DUMP_TYPE "EcdsConfigDump",
    [ENDPOINTS] = DUMP_TYPE "EndpointsConfigDump",
    [LISTENERS] = DUMP_TYPE "ListenersConfigDump",
    [SCOPED_ROUTES] = DUMP_TYPE "ScopedRoutesConfigDump",
    [ROUTES] = DUMP_TYPE "RoutesConfigDump",
    [SECRETS] = DUMP_TYPE "SecretsConfigDump",
};

static const struct {
    section section;
    const char *name, *type;
} fields[PX_DUMP_FIELDS] = {
    [PX_DUMP_STATIC_CLUSTERS] = {CLUSTERS, "static_clusters",
                                 DUMP_TYPE "ClustersConfigDump.StaticCluster"},
    [PX_DUMP_DYNAMIC_CLUSTERS] = {CLUSTERS, "dynamic_active_clusters",
                                  DUMP_TYPE "ClustersConfigDump.DynamicCluster"},
    [PX_DUMP_WARMING_CLUSTERS] = {CLUSTERS, "dynamic_warming_clusters",
                                  DUMP_TYPE "ClustersConfigDump.DynamicCluster"},
    [PX_DUMP_ECDS_FILTERS] = {ECDS, "ecds_filters", DUMP_TYPE "EcdsConfigDump.EcdsFilterConfig"},
    [PX_DUMP_STATIC_ENDPOINTS] = {ENDPOINTS, "static_endpoint_configs",
                                  DUMP_TYPE "EndpointsConfigDump.StaticEndpointConfig"},
    [PX_DUMP_DYNAMIC_ENDPOINTS] = {ENDPOINTS, "dynamic_endpoint_configs",
                                   DUMP_TYPE "EndpointsConfigDump.DynamicEndpointConfig"},
    [PX_DUMP_STATIC_LISTENERS] = {LISTENERS, "static_listeners",
                                  DUMP_TYPE "ListenersConfigDump.StaticListener"},
    [PX_DUMP_DYNAMIC_LISTENERS] = {LISTENERS, "dynamic_listeners",
                                   DUMP_TYPE "ListenersConfigDump.DynamicListener"},
    [PX_DUMP_STATIC_ROUTES] = {ROUTES, "static_route_configs",
                               DUMP_TYPE "RoutesConfigDump.StaticRouteConfig"},
    [PX_DUMP_DYNAMIC_ROUTES] = {ROUTES, "dynamic_route_configs",
                                DUMP_TYPE "RoutesConfigDump.DynamicRouteConfig"},
    [PX_DUMP_STATIC_SECRETS] = {SECRETS, "static_secrets",
                                DUMP_TYPE "SecretsConfigDump.StaticSecret"},
    [PX_DUMP_DYNAMIC_SECRETS] = {SECRETS, "dynamic_active_secrets",
                                 DUMP_TYPE "SecretsConfigDump.DynamicSecret"},
    [PX_DUMP_WARMING_SECRETS] = {SECRETS, "dynamic_warming_secrets",
                                 DUMP_TYPE "SecretsConfigDump.DynamicSecret"},
};

struct dump {
    struct lt_stream_source source;
    struct px_admin *admin;
    struct lt_vec items;         /* of struct px_dump_item, owned; of the page, in order */
    struct lt_regex *name_regex; /* owned; NULL: all */
    char mask[MASK_MAX];
    int only;                /* px_dump_field; -1: all */
    bool sections[SECTIONS]; /* that are shown */
    section at_section;      /* the one that is written */
    bool is_section_open;
    int open_field; /* px_dump_field; -1: none */
    size_t at;      /* in items */
    bool is_over;
    struct lt_arena *scratch; /* owned */
    struct lt_buf text;       /* written and not handed out */
    struct lt_json_writer w;
};

/* --- what is on the page --- */

static bool is_wanted(const struct dump *dump, px_dump_field field, lt_str name)
{
    if (dump->only >= 0 ? dump->only != (int)field : !dump->sections[fields[field].section])
        return false;
    return dump->name_regex == NULL || lt_regex_matches(dump->name_regex, name);
}

static struct px_dump_item *add(struct dump *dump, px_dump_field field, lt_str name,
                                const struct px_resource *resource,
                                const struct px_resource *warming, unsigned nth)
{
    if (!is_wanted(dump, field, name))
        return NULL;
    struct px_dump_item *item = lt_new(struct px_dump_item);
    item->field = field;
    item->resource = resource != NULL ? px_resource_ref((struct px_resource *)resource) : NULL;
    item->warming = warming != NULL ? px_resource_ref((struct px_resource *)warming) : NULL;
    item->nth = nth;
    lt_vec_push(&dump->items, item);
    return item;
}

/* What the control plane sent last for it was refused. */
static void add_error(const struct dump *dump, struct px_dump_item *item, px_resource_kind kind,
                      lt_str key)
{
    const struct px_row *row = px_row_find(px_table_rows(dump->admin->opts.table), kind, key);
    if (item != NULL && row != NULL && row->error != NULL)
        item->error = px_row_error_ref(row->error);
}

/* Kinds of which a serving and a warming version are two elements. */
struct pass {
    struct dump *dump;
    px_dump_field field; /* that is collected now */
};

static void add_cluster(void *ctx, const struct px_resource *serving,
                        const struct px_resource *warming, bool is_static)
{
    const struct pass *pass = ctx;
    if (pass->field == PX_DUMP_WARMING_CLUSTERS && warming != NULL)
        add(pass->dump, pass->field, warming->name, warming, NULL, 0);
    else if (pass->field == (is_static ? PX_DUMP_STATIC_CLUSTERS : PX_DUMP_DYNAMIC_CLUSTERS) &&
             serving != NULL)
        add_error(pass->dump, add(pass->dump, pass->field, serving->name, serving, NULL, 0),
                  PX_CLUSTER, serving->name);
}

static void add_extension(void *ctx, const struct px_resource *serving,
                          const struct px_resource *warming LT_UNUSED, bool is_static LT_UNUSED)
{
    const struct pass *pass = ctx;
    if (serving != NULL)
        add_error(pass->dump, add(pass->dump, pass->field, serving->name, serving, NULL, 0),
                  PX_EXTENSION, serving->name);
}

/* As Envoy: by where the cluster came from, whoever has told its endpoints. */
static void add_endpoints(void *ctx, const struct px_resource *serving,
                          const struct px_resource *warming LT_UNUSED, bool is_static)
{
    const struct pass *pass = ctx;
    const struct px_table *table = pass->dump->admin->opts.table;
    if (serving == NULL ||
        pass->field != (is_static ? PX_DUMP_STATIC_ENDPOINTS : PX_DUMP_DYNAMIC_ENDPOINTS))
        return;
    const struct px_endpoints_conf *endpoints = px_table_endpoints(
        table, (const struct px_cluster_conf *)serving);
    if (endpoints == NULL)
        return;
    bool is_own = endpoints->res.kind == PX_ENDPOINTS && px_dump_message(&endpoints->res).len > 0;
    add(pass->dump, pass->field, serving->name, is_own ? &endpoints->res : serving, NULL, 0);
}

static void add_listener(void *ctx, const struct px_resource *serving,
                         const struct px_resource *warming, bool is_static)
{
    const struct pass *pass = ctx;
    const struct px_resource *any = serving != NULL ? serving : warming;
    if (pass->field == PX_DUMP_STATIC_ROUTES) {
        unsigned count = px_dump_inline_routes((const struct px_listener_conf *)any);
        for (unsigned i = 0; i < count; i++)
            add(pass->dump, pass->field, any->name, any, NULL, i);
    } else if (is_static && pass->field == PX_DUMP_STATIC_LISTENERS) {
        add(pass->dump, pass->field, any->name, any, NULL, 0);
    } else if (!is_static && pass->field == PX_DUMP_DYNAMIC_LISTENERS) {
        add_error(pass->dump, add(pass->dump, pass->field, any->name, serving, warming, 0),
                  PX_LISTENER, any->name);
    }
}

/* Those of which nothing was ever good. */
static void add_refused_listeners(struct dump *dump)
{
    const struct px_row_set *set = px_row_set(px_table_rows(dump->admin->opts.table), PX_LISTENER);
    for (uint32_t i = 0; i < set->slot_count; i++) {
        const struct px_row *row = set->by_slot[i];
        if (row != NULL && px_row_any(row) == NULL && row->error != NULL)
            add_error(dump, add(dump, PX_DUMP_DYNAMIC_LISTENERS, px_row_name(row), NULL, NULL, 0),
                      PX_LISTENER, row->key);
    }
}

static void add_routes(void *ctx, const struct px_resource *serving,
                       const struct px_resource *warming, bool is_static LT_UNUSED)
{
    const struct pass *pass = ctx;
    const struct px_resource *any = serving != NULL ? serving : warming;
    const struct px_row *space = ((const struct px_routes_conf *)any)->vhds_row;
    struct px_dump_item *item = add(pass->dump, pass->field, any->name, any, NULL, 0);
    add_error(pass->dump, item, PX_ROUTES, any->name);
    if (item != NULL && space != NULL)
        item->hosts = px_vhost_set_new(px_table_rows(pass->dump->admin->opts.table), space);
}

static void add_secret(void *ctx, const struct px_resource *serving,
                       const struct px_resource *warming, bool is_static)
{
    const struct pass *pass = ctx;
    if (pass->field == PX_DUMP_WARMING_SECRETS && warming != NULL && !is_static)
        add(pass->dump, pass->field, warming->name, warming, NULL, 0);
    else if (pass->field == (is_static ? PX_DUMP_STATIC_SECRETS : PX_DUMP_DYNAMIC_SECRETS) &&
             serving != NULL)
        add(pass->dump, pass->field, serving->name, serving, NULL, 0);
}

static void collect(struct dump *dump)
{
    static const struct {
        px_resource_kind kind;
        px_resource_fn *visit;
    } passes[PX_DUMP_FIELDS] = {
        [PX_DUMP_STATIC_CLUSTERS] = {PX_CLUSTER, add_cluster},
        [PX_DUMP_DYNAMIC_CLUSTERS] = {PX_CLUSTER, add_cluster},
        [PX_DUMP_WARMING_CLUSTERS] = {PX_CLUSTER, add_cluster},
        [PX_DUMP_ECDS_FILTERS] = {PX_EXTENSION, add_extension},
        [PX_DUMP_STATIC_ENDPOINTS] = {PX_CLUSTER, add_endpoints},
        [PX_DUMP_DYNAMIC_ENDPOINTS] = {PX_CLUSTER, add_endpoints},
        [PX_DUMP_STATIC_LISTENERS] = {PX_LISTENER, add_listener},
        [PX_DUMP_DYNAMIC_LISTENERS] = {PX_LISTENER, add_listener},
        [PX_DUMP_STATIC_ROUTES] = {PX_LISTENER, add_listener},
        [PX_DUMP_DYNAMIC_ROUTES] = {PX_ROUTES, add_routes},
        [PX_DUMP_STATIC_SECRETS] = {PX_SECRET, add_secret},
        [PX_DUMP_DYNAMIC_SECRETS] = {PX_SECRET, add_secret},
        [PX_DUMP_WARMING_SECRETS] = {PX_SECRET, add_secret},
    };
    for (int field = 0; field < PX_DUMP_FIELDS; field++) {
        struct pass pass = {dump, (px_dump_field)field};
        px_table_each(dump->admin->opts.table, passes[field].kind, passes[field].visit, &pass);
        if (field == PX_DUMP_DYNAMIC_LISTENERS)
            add_refused_listeners(dump);
    }
}

/* --- writing --- */

struct statics {
    struct dump *dump;
    const ProtobufCMessageDescriptor *type;
    void **messages;
    size_t count;
};

static void add_static(void *ctx, const struct px_resource *serving,
                       const struct px_resource *warming, bool is_static)
{
    struct statics *statics = ctx;
    const struct px_resource *any = serving != NULL ? serving : warming;
    void *message = NULL;
    if (is_static && lt_pb_unpack(statics->dump->scratch, statics->type, px_dump_message(any), NULL,
                                  &message, NULL) == LT_OK)
        statics->messages[statics->count++] = message;
}

static void *collect_statics(struct dump *dump, px_resource_kind kind,
                             const ProtobufCMessageDescriptor *type, size_t *ret_count)
{
    const struct px_table *table = dump->admin->opts.table;
    struct statics statics = {.dump = dump, .type = type};
    statics.messages = lt_arena_make_n(dump->scratch, void *, px_table_count(table, kind) + 1);
    px_table_each(table, kind, add_static, &statics);
    *ret_count = statics.count;
    return statics.messages;
}

/* Its static resources are in the table. */
static void write_bootstrap(struct dump *dump)
{
    lt_str bytes = dump->admin->opts.bootstrap;
    Xds__Bootstrap *message = NULL;
    Xds__Bootstrap__StaticResources resources;
    if (bytes.len == 0 || lt_pb_unpack(dump->scratch, &xds__bootstrap__descriptor, bytes, NULL,
                                       &message, NULL) != LT_OK)
        return;
    xds__bootstrap__static_resources__init(&resources);
    resources.listeners = collect_statics(dump, PX_LISTENER, &xds__listener__descriptor,
                                          &resources.n_listeners);
    resources.clusters = collect_statics(dump, PX_CLUSTER, &xds__cluster__descriptor,
                                         &resources.n_clusters);
    if (resources.n_listeners + resources.n_clusters > 0)
        message->static_resources = &resources;
    lt_json_key(&dump->w, LT_STR("bootstrap"));
    lt_pbjson_write(&dump->w, dump->scratch, message, NULL);
}

/* With a mask or without; false: the mask names nothing in it. */
static bool write_item(struct dump *dump, const struct px_dump_item *item, const char *type)
{
    bool is_masked = dump->only >= 0 && dump->mask[0] != '\0', found = true;
    lt_arena_reset(dump->scratch);
    if (!is_masked) {
        px_dump_write_item(item, type, dump->scratch, &dump->w);
        return true;
    }
    struct lt_buf text;
    struct lt_json_writer w;
    lt_buf_init(&text, PX_PAGE_BYTES_MAX);
    lt_json_writer_init(&w, &text, 0);
    px_dump_write_item(item, type, dump->scratch, &w);
    found = lt_json_writer_finish(&w) == LT_OK &&
            px_dump_write_masked(lt_buf_str(&text), lt_str_of(dump->mask), dump->scratch, &dump->w);
    lt_buf_fini(&text);
    return found;
}

static void close_field(struct dump *dump)
{
    if (dump->open_field >= 0)
        lt_json_array_close(&dump->w);
    dump->open_field = -1;
}

static void open_section(struct dump *dump)
{
    lt_json_object_open(&dump->w);
    lt_json_kv_str(&dump->w, "@type", lt_str_of(section_types[dump->at_section]));
    dump->is_section_open = true;
    bool has_version = dump->at_section == CLUSTERS || dump->at_section == LISTENERS;
    lt_str version = !has_version ? LT_STR_NULL
                                  : px_table_version(dump->admin->opts.table,
                                                     dump->at_section == CLUSTERS ? PX_CLUSTER
                                                                                  : PX_LISTENER);
    if (version.len > 0)
        lt_json_kv_str(&dump->w, "version_info", version);
    if (dump->at_section != BOOTSTRAP)
        return;
    lt_arena_reset(dump->scratch);
    write_bootstrap(dump);
}

/* The next element of the open section; false: it has no more. */
static bool write_next_item(struct dump *dump)
{
    const struct px_dump_item *item = dump->at < dump->items.count ? dump->items.items[dump->at]
                                                                   : NULL;
    if (item == NULL || fields[item->field].section != dump->at_section)
        return false;
    if (dump->open_field != (int)item->field) {
        close_field(dump);
        lt_json_key(&dump->w, lt_str_of(fields[item->field].name));
        lt_json_array_open(&dump->w);
        dump->open_field = (int)item->field;
    }
    (void)write_item(dump, item, NULL);
    dump->at++;
    return true;
}

static void step_sections(struct dump *dump)
{
    if (dump->at_section == SECTIONS) {
        dump->is_over = true;
    } else if (!dump->sections[dump->at_section]) {
        dump->at_section++;
    } else if (!dump->is_section_open) {
        open_section(dump);
    } else if (!write_next_item(dump)) {
        close_field(dump);
        lt_json_object_close(&dump->w);
        dump->is_section_open = false;
        dump->at_section++;
    }
}

/* ?resource=: elements of one field, each by itself. */
static void step_resource(struct dump *dump)
{
    if (dump->at < dump->items.count)
        (void)write_item(dump, dump->items.items[dump->at++], fields[dump->only].type);
    else
        dump->is_over = true;
}

static void begin(struct dump *dump)
{
    lt_json_writer_init(&dump->w, &dump->text, 1);
    lt_json_object_open(&dump->w);
    lt_json_key(&dump->w, LT_STR("configs"));
    lt_json_array_open(&dump->w);
}

static void end(struct dump *dump)
{
    lt_json_array_close(&dump->w);
    lt_json_object_close(&dump->w);
    lt_buf_addf(&dump->text, "\n");
}

static lt_rc produce(struct lt_stream_source *source, struct lt_buf *out)
{
    struct dump *dump = LT_CONTAINER_OF(source, struct dump, source);
    while (!dump->is_over && lt_buf_len(&dump->text) < PART_BYTES) {
        if (dump->only >= 0)
            step_resource(dump);
        else
            step_sections(dump);
        if (dump->is_over)
            end(dump);
        LT_TRY(dump->w.rc);
    }
    lt_str part = lt_str_slice(lt_buf_str(&dump->text), 0, PIECE_MAX);
    LT_TRY(lt_buf_append_str(out, part));
    lt_buf_consume(&dump->text, part.len);
    return dump->is_over && lt_buf_len(&dump->text) == 0 ? LT_EOF : LT_OK;
}

/* --- asking --- */

static void free_dump(struct dump *dump)
{
    for (size_t i = 0; i < dump->items.count; i++) {
        px_dump_item_free(dump->items.items[i]);
    }
    lt_vec_fini(&dump->items);
    lt_regex_free(&dump->name_regex);
    lt_arena_free(&dump->scratch);
    lt_buf_fini(&dump->text);
    free(dump);
}

static void done(struct lt_stream_source *source)
{
    free_dump(LT_CONTAINER_OF(source, struct dump, source));
}

static int find_field(lt_str name)
{
    for (int i = 0; i < PX_DUMP_FIELDS; i++) {
        if (lt_str_eqz(name, fields[i].name))
            return i;
    }
    return -1;
}

/* ?mask= without ?resource=: whole fields. Each path is "bootstrap..." or the name of a field. */
static bool choose_by_mask(struct dump *dump, lt_str mask)
{
    bool found = false;
    lt_str path;
    memset(dump->sections, 0, sizeof(dump->sections));
    while (lt_str_split(&mask, ',', &path)) {
        int field = find_field(path);
        if (lt_str_eqz(path, "bootstrap"))
            dump->sections[BOOTSTRAP] = true;
        else if (field >= 0)
            dump->sections[fields[field].section] = true;
        else
            continue;
        found = true;
    }
    return found;
}

/* Those fields of the chosen sections that the mask does not name. */
static void drop_unnamed(struct dump *dump)
{
    size_t kept = 0;
    for (size_t i = 0; i < dump->items.count; i++) {
        struct px_dump_item *item = dump->items.items[i];
        lt_str mask = lt_str_of(dump->mask), path;
        bool is_named = false;
        while (lt_str_split(&mask, ',', &path))
            is_named |= lt_str_eqz(path, fields[item->field].name);
        if (is_named) {
            dump->items.items[kept++] = item;
            continue;
        }
        px_dump_item_free(item);
    }
    dump->items.count = kept;
}

static bool refuse(struct lt_exchange *exchange, unsigned status, const char *fmt, ...)
    LT_PRINTF(3, 4);
static bool refuse(struct lt_exchange *exchange, unsigned status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    struct lt_buf out;
    lt_buf_init(&out, 2 * MASK_MAX);
    lt_rc rc = lt_buf_vprintf(&out, fmt, args);
    va_end(args);
    lt_exchange_reply(exchange, status, "text/plain",
                      rc == LT_OK ? lt_buf_str(&out) : LT_STR("too long"));
    lt_buf_fini(&out);
    return false;
}

static bool read_resource(struct dump *dump, struct lt_exchange *exchange)
{
    lt_str name = lt_url_query_get(exchange->query, "resource", exchange->arena);
    dump->only = -1;
    if (name.len == 0)
        return true;
    if (lt_str_eqz(name, "bootstrap"))
        return refuse(
            exchange, 400,
            "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field");
    dump->only = find_field(name);
    if (dump->only >= 0)
        return true;
    static const char *const others[] = {"inline_scoped_route_configs",
                                         "dynamic_scoped_route_configs"};
    for (size_t i = 0; i < LT_ARRAY_LEN(others); i++) {
        if (lt_str_eqz(name, others[i])) {
            dump->only = PX_DUMP_FIELDS; /* there never is one */
            return true;
        }
    }
    return refuse(exchange, 404, "%.*s not found in config dump", LT_STR_ARG(name));
}

static bool read_query(struct dump *dump, struct lt_exchange *exchange)
{
    lt_str mask = lt_url_query_get(exchange->query, "mask", exchange->arena);
    lt_str regex = lt_url_query_get(exchange->query, "name_regex", exchange->arena);
    lt_str name, value, rest = exchange->query;
    struct lt_err err = {0};
    for (int i = 0; i < SECTIONS; i++)
        dump->sections[i] = true;
    dump->sections[ENDPOINTS] = false;
    dump->sections[ECDS] = px_table_count(dump->admin->opts.table, PX_EXTENSION) > 0;
    while (lt_url_query_next(&rest, &name, &value))
        dump->sections[ENDPOINTS] |= lt_str_eqz(name, "include_eds");
    if (regex.len > 0 && lt_regex_new(regex, &dump->name_regex, &err) != LT_OK)
        return refuse(exchange, 400,
                      "INVALID_ARGUMENT: Error while parsing name_regex from %.*s: %s",
                      LT_STR_ARG(regex), err.text);
    if (mask.len >= MASK_MAX)
        return refuse(exchange, 400, "the mask is longer than %d bytes", MASK_MAX - 1);
    memcpy(dump->mask, mask.ptr != NULL ? mask.ptr : "", mask.len);
    if (!read_resource(dump, exchange))
        return false;
    if (dump->only < 0 && mask.len > 0 && !choose_by_mask(dump, mask))
        return refuse(exchange, 400,
                      "FieldMask %.*s could not be successfully applied to any configs.",
                      LT_STR_ARG(mask));
    return true;
}

/* Whether the mask fits what there is: told before the page begins. */
static bool check_mask(struct dump *dump, struct lt_exchange *exchange)
{
    if (dump->only < 0 || dump->mask[0] == '\0' || dump->items.count == 0)
        return true;
    struct lt_buf text;
    lt_buf_init(&text, PX_PAGE_BYTES_MAX);
    struct lt_buf kept = dump->text;
    dump->text = text;
    lt_json_writer_init(&dump->w, &dump->text, 1);
    bool fits = write_item(dump, dump->items.items[0], NULL);
    lt_buf_fini(&dump->text);
    dump->text = kept;
    return fits ||
           refuse(exchange, 400, "FieldMask %s could not be successfully used.", dump->mask);
}

void px_admin_dump(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct dump *dump = lt_new(struct dump);
    dump->admin = admin;
    dump->open_field = -1;
    dump->scratch = lt_arena_new(64 * 1024, 0);
    lt_buf_init(&dump->text, PX_PAGE_BYTES_MAX);
    if (!read_query(dump, exchange)) {
        free_dump(dump);
        return;
    }
    collect(dump);
    if (dump->only < 0 && dump->mask[0] != '\0')
        drop_unnamed(dump);
    if (!check_mask(dump, exchange)) {
        free_dump(dump);
        return;
    }
    if (dump->only >= 0 && dump->items.count == 0) {
        lt_exchange_reply(exchange, 200, "application/json", LT_STR("{}\n"));
        free_dump(dump);
        return;
    }
    begin(dump);
    dump->source.produce = produce;
    dump->source.done = done;
    lt_exchange_reply_stream(exchange, 200, "application/json", &dump->source);
}
