/*
 * proxy/admin/info.c - small admin pages: what this process is, and orders to the workers.
 */
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/version.h"
#include "http/url.h"
#include "proxy/admin/admin_priv.h"
#include "wire/json.h"
#include "wire/pbjson.h"
#include "wire/proto/bootstrap.pb-c.h"
#include "wire/struct.h"

static const char text_type[] = "text/plain; charset=UTF-8";

static void reply_text(struct lt_exchange *exchange, unsigned status, const char *text)
{
    lt_exchange_reply(exchange, status, text_type, lt_str_of(text));
}

static void reply_json(struct lt_exchange *exchange, const struct lt_json_writer *w,
                       struct lt_buf *out)
{
    lt_buf_addf(out, "\n");
    if (lt_json_writer_finish(w) == LT_OK)
        lt_exchange_reply(exchange, 200, "application/json", lt_buf_str(out));
    else
        reply_text(exchange, 500, "the page is too large\n");
    lt_buf_fini(out);
}

static void begin_json(struct lt_json_writer *w, struct lt_buf *out)
{
    lt_buf_init(out, PX_PAGE_BYTES_MAX);
    lt_json_writer_init(w, out, 1);
    lt_json_object_open(w);
}

static const Xds__Bootstrap *read_bootstrap(const struct px_admin *admin, struct lt_arena *arena)
{
    Xds__Bootstrap *message = NULL;
    lt_str bytes = admin->opts.bootstrap;
    if (bytes.len == 0 ||
        lt_pb_unpack(arena, &xds__bootstrap__descriptor, bytes, NULL, &message, NULL) != LT_OK)
        return NULL;
    return message;
}

/* --- /server_info --- */

static void write_options(const struct px_admin *admin, struct lt_json_writer *w)
{
    const struct px_options *options = admin->opts.options;
    lt_json_kv_object(w, "command_line_options");
    lt_json_kv_str(w, "base_id", LT_STR("0"));
    lt_json_kv_uint(w, "concurrency", options->concurrency);
    lt_json_kv_str(w, "config_path", lt_str_of(options->config_path));
    lt_json_kv_str(w, "config_yaml", LT_STR(""));
    lt_json_kv_str(w, "admin_address_path", lt_str_of(options->admin_address_path));
    lt_json_kv_str(w, "log_level", lt_str_of(lt_log_level_name(admin->opts.env->log.level)));
    lt_json_kv_str(w, "service_cluster", lt_str_of(options->service_cluster));
    lt_json_kv_str(w, "service_node", lt_str_of(options->service_node));
    lt_json_kv_str(w, "service_zone", lt_str_of(options->service_zone));
    lt_json_key(w, LT_STR("drain_time"));
    lt_json_strf(w, "%us", options->drain_time_s);
    lt_json_kv_str(w, "mode", LT_STR("Serve"));
    lt_json_kv_bool(w, "disable_hot_restart", true);
    lt_json_kv_uint(w, "restart_epoch", 0);
    lt_json_object_close(w);
}

void px_admin_server_info(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct lt_buf out;
    struct lt_json_writer w;
    begin_json(&w, &out);
    uint64_t up_s = (lt_loop_now_ns(admin->opts.loop) - admin->started_ns) / LT_NS_PER_S;
    lt_json_kv_str(&w, "version", LT_STR("lateen/" LT_VERSION "/Clean/RELEASE/OpenSSL"));
    lt_json_kv_str(&w, "state", lt_str_of(admin->opts.state(admin->opts.ctx)));
    lt_json_key(&w, LT_STR("uptime_current_epoch"));
    lt_json_strf(&w, "%llus", (unsigned long long)up_s);
    lt_json_key(&w, LT_STR("uptime_all_epochs"));
    lt_json_strf(&w, "%llus", (unsigned long long)up_s);
    lt_json_kv_str(&w, "hot_restart_version", LT_STR("disabled"));
    write_options(admin, &w);
    lt_json_key(&w, LT_STR("node"));
    const Xds__Bootstrap *bootstrap = read_bootstrap(admin, exchange->arena);
    if (bootstrap != NULL && bootstrap->node != NULL) {
        lt_pbjson_write(&w, exchange->arena, bootstrap->node, NULL);
    } else {
        lt_json_object_open(&w);
        lt_json_kv_str(&w, "id", admin->opts.node_id);
        lt_json_kv_str(&w, "cluster", admin->opts.node_cluster);
        lt_json_object_close(&w);
    }
    lt_json_object_close(&w);
    reply_json(exchange, &w, &out);
}

void px_admin_hot_restart(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    reply_text(exchange, 200, "disabled");
}

void px_admin_contention(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    reply_text(exchange, 200, "Mutex contention tracing is not enabled.");
}

/* --- /memory --- */

static uint64_t resident_bytes(void)
{
    unsigned long long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%llu %llu", &pages, &resident) != 2)
        resident = 0;
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void px_admin_memory(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    struct mallinfo2 info = mallinfo2();
    const struct {
        const char *key;
        uint64_t bytes;
    } rows[] = {
        {"allocated", info.uordblks + info.hblkhd},
        {"heap_size", info.arena + info.hblkhd},
        {"pageheap_unmapped", 0},
        {"pageheap_free", info.fordblks},
        {"total_thread_cache", info.fsmblks},
        {"total_physical_bytes", resident_bytes()},
    };
    struct lt_buf out;
    struct lt_json_writer w;
    begin_json(&w, &out);
    for (size_t i = 0; i < LT_ARRAY_LEN(rows); i++) {
        lt_json_key(&w, lt_str_of(rows[i].key));
        lt_json_strf(&w, "%llu", (unsigned long long)rows[i].bytes);
    }
    lt_json_object_close(&w);
    reply_json(exchange, &w, &out);
}

/* --- /runtime: static layers of the bootstrap --- */

enum { LAYERS_MAX = 16, ENTRIES_MAX = 4096 };

struct entry {
    lt_str values[LAYERS_MAX];
};

struct runtime {
    struct lt_arena *arena;
    struct lt_map entries; /* dotted name -> struct entry, in the arena */
    lt_str layers[LAYERS_MAX];
    size_t layer_count;
};

static lt_str value_text(struct lt_arena *arena, const struct lt_doc *value)
{
    switch (value->kind) {
    case LT_DOC_STRING: return value->string;
    case LT_DOC_BOOL: return value->boolean ? LT_STR("true") : LT_STR("false");
    case LT_DOC_INT: return lt_arena_printf(arena, "%lld", (long long)value->integer);
    case LT_DOC_DOUBLE: return lt_arena_printf(arena, "%g", value->number);
    default: return LT_STR("");
    }
}

/* "a: {b: 1}" is a.b; as deep as a Struct may be (lt_struct_to_doc has checked it). */
static void add_entries(struct runtime *runtime, lt_str prefix, const struct lt_doc *doc)
{
    for (uint32_t i = 0; i < doc->count; i++) {
        const struct lt_doc_member *member = &doc->members[i];
        lt_str name = prefix.len == 0
                          ? member->key
                          : lt_arena_printf(runtime->arena, "%.*s.%.*s", LT_STR_ARG(prefix),
                                            LT_STR_ARG(member->key));
        if (member->value.kind == LT_DOC_OBJECT) {
            add_entries(runtime, name, &member->value);
            continue;
        }
        struct entry *entry = lt_map_find(&runtime->entries, name);
        if (entry == NULL && runtime->entries.count >= ENTRIES_MAX)
            return;
        if (entry == NULL) {
            entry = lt_arena_make(runtime->arena, struct entry);
            lt_map_put(&runtime->entries, name, entry);
        }
        entry->values[runtime->layer_count] = value_text(runtime->arena, &member->value);
    }
}

static void read_layers(struct runtime *runtime, const Xds__LayeredRuntime *in)
{
    for (size_t i = 0; in != NULL && i < in->n_layers && runtime->layer_count < LAYERS_MAX; i++) {
        const Xds__RuntimeLayer *layer = in->layers[i];
        struct lt_doc doc;
        runtime->layers[runtime->layer_count] = lt_str_of(layer->name);
        if (layer->layer_specifier_case == XDS__RUNTIME_LAYER__LAYER_SPECIFIER_STATIC_LAYER &&
            lt_struct_to_doc(runtime->arena, layer->static_layer, NULL, &doc, NULL) == LT_OK)
            add_entries(runtime, LT_STR(""), &doc);
        runtime->layer_count++;
    }
}

static void write_entry(const struct runtime *runtime, const struct entry *entry,
                        struct lt_json_writer *w)
{
    lt_str final = LT_STR("");
    for (size_t i = 0; i < runtime->layer_count; i++)
        final = entry->values[i].len > 0 ? entry->values[i] : final;
    lt_json_object_open(w);
    lt_json_kv_str(w, "final_value", final);
    lt_json_kv_array(w, "layer_values");
    for (size_t i = 0; i < runtime->layer_count; i++)
        lt_json_str(w, entry->values[i]);
    lt_json_array_close(w);
    lt_json_object_close(w);
}

void px_admin_runtime(struct px_admin *admin, struct lt_exchange *exchange)
{
    struct runtime *runtime = lt_arena_make(exchange->arena, struct runtime);
    struct lt_buf out;
    struct lt_json_writer w;
    const Xds__Bootstrap *bootstrap = read_bootstrap(admin, exchange->arena);
    runtime->arena = exchange->arena;
    lt_map_init(&runtime->entries);
    if (bootstrap != NULL)
        read_layers(runtime, bootstrap->layered_runtime);
    begin_json(&w, &out);
    lt_json_key(&w, LT_STR("entries"));
    lt_json_object_open(&w);
    for (size_t i = 0; i < runtime->entries.count; i++) {
        lt_json_key(&w, runtime->entries.entries[i].key);
        write_entry(runtime, runtime->entries.entries[i].value, &w);
    }
    lt_json_object_close(&w);
    lt_json_key(&w, LT_STR("layers"));
    lt_json_array_open(&w);
    for (size_t i = 0; i < runtime->layer_count; i++)
        lt_json_str(&w, runtime->layers[i]);
    lt_json_array_close(&w);
    lt_json_object_close(&w);
    lt_map_fini(&runtime->entries);
    reply_json(exchange, &w, &out);
}

void px_admin_runtime_modify(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    if (exchange->query.len == 0)
        reply_text(exchange, 400, "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n");
    else
        reply_text(exchange, 503, "No admin layer specified");
}

/* --- /init_dump: what still warms --- */

static void add_waiting(void *ctx, const struct px_resource *serving LT_UNUSED,
                        const struct px_resource *warming, bool is_static LT_UNUSED)
{
    if (warming != NULL)
        lt_vec_push(ctx, (void *)warming);
}

void px_admin_init(struct px_admin *admin, struct lt_exchange *exchange)
{
    static const px_resource_kind kinds[] = {PX_CLUSTER, PX_LISTENER};
    struct lt_buf out;
    struct lt_json_writer w;
    struct lt_vec waiting;
    lt_vec_init(&waiting);
    for (size_t i = 0; i < LT_ARRAY_LEN(kinds); i++)
        px_table_each(admin->opts.table, kinds[i], add_waiting, &waiting);
    begin_json(&w, &out);
    if (waiting.count > 0) {
        lt_json_key(&w, LT_STR("unready_targets_dumps"));
        lt_json_array_open(&w);
        lt_json_object_open(&w);
        lt_json_kv_str(&w, "name", LT_STR("init manager Server"));
        lt_json_key(&w, LT_STR("target_names"));
        lt_json_array_open(&w);
        for (size_t i = 0; i < waiting.count; i++) {
            const struct px_resource *resource = waiting.items[i];
            lt_json_strf(&w, "%s %.*s", px_resource_kind_name((px_resource_kind)resource->kind),
                         LT_STR_ARG(resource->name));
        }
        lt_json_array_close(&w);
        lt_json_object_close(&w);
        lt_json_array_close(&w);
    }
    lt_json_object_close(&w);
    lt_vec_fini(&waiting);
    reply_json(exchange, &w, &out);
}

/* --- /stats/recentlookups: names are looked up when the configuration is read --- */

void px_admin_lookups(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    reply_text(exchange, 200,
               "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\n"
               "total: 0\n");
}

void px_admin_lookups_turn(struct px_admin *admin LT_UNUSED, struct lt_exchange *exchange)
{
    reply_text(exchange, 200, "OK\n");
}

/* --- orders to the workers --- */

static void on_obeyed(void *ctx)
{
    reply_text(ctx, 200, "OK\n");
}

void px_admin_reset_counters(struct px_admin *admin, struct lt_exchange *exchange)
{
    px_workers_order(admin->opts.workers, PX_ORDER_RESET_COUNTERS, on_obeyed, exchange);
}

void px_admin_reopen_logs(struct px_admin *admin, struct lt_exchange *exchange)
{
    px_workers_order(admin->opts.workers, PX_ORDER_REOPEN_LOGS, on_obeyed, exchange);
}
