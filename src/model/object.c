/*
 * model/object.c - documents to objects.
 */
#include "model/object.h"

#include <stdlib.h>

#include "base/buf.h"
#include "wire/json.h"

enum { SCRATCH_CHUNK = 16 << 10, OBJECT_BYTES_MAX = 16 << 20 };

#define ROOT false
#define SPEC true
static const struct lt_kind kinds[] = {
#define KIND(id, group, name, type, member, is_namespaced, where, unknown) \
    {group, name, is_namespaced, where, unknown, &type##_schema},
#include "model/kinds.def"
#undef KIND
};
#undef ROOT
#undef SPEC

const struct lt_kind *lt_kind_get(lt_kind_id id)
{
    LT_ASSERT(id < LT_KIND_COUNT);
    return &kinds[id];
}

static lt_str group_of(lt_str api_version)
{
    ptrdiff_t slash = lt_str_find_char(api_version, '/');
    return lt_str_slice(api_version, 0, slash < 0 ? 0 : (size_t)slash);
}

lt_kind_id lt_kind_find(lt_str api_version, lt_str kind)
{
    lt_str group = group_of(api_version);
    for (lt_kind_id id = 0; id < LT_KIND_COUNT; id++) {
        if (lt_str_eqz(group, kinds[id].group) && lt_str_eqz(kind, kinds[id].name))
            return id;
    }
    return LT_KIND_COUNT;
}

bool lt_object_key_eq(const struct lt_object_key *a, const struct lt_object_key *b)
{
    return lt_object_key_cmp(a, b) == 0;
}

int lt_object_key_cmp(const struct lt_object_key *a, const struct lt_object_key *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    int order = lt_str_cmp(a->ns, b->ns);
    return order != 0 ? order : lt_str_cmp(a->name, b->name);
}

char *lt_object_key_format(const struct lt_object_key *key, char out[LT_OBJECT_NAME_MAX])
{
    snprintf(out, LT_OBJECT_NAME_MAX, "%s %.*s%s%.*s", lt_kind_get(key->kind)->name,
             LT_STR_ARG(key->ns), key->ns.len > 0 ? "/" : "", LT_STR_ARG(key->name));
    return out;
}

struct lt_note lt_object_note(const struct lt_object *object, lt_note_level level,
                              char name[LT_OBJECT_NAME_MAX])
{
    return (struct lt_note){.level = level,
                            .file = object->file,
                            .line = object->line,
                            .object = lt_str_of(lt_object_key_format(&object->key, name))};
}

/* Exactly `digits` digits at *at. */
static bool take_number(lt_str text, size_t *at, size_t digits, int64_t *ret)
{
    uint64_t value = 0;
    lt_str part = lt_str_slice(text, *at, *at + digits);
    if (part.len != digits || lt_str_to_u64(part, &value) != LT_OK)
        return false;
    *at += digits + 1;
    *ret = (int64_t)value;
    return true;
}

int64_t lt_timestamp_parse(lt_str text)
{
    int64_t part[6];
    static const size_t digits[6] = {4, 2, 2, 2, 2, 2};
    size_t at = 0;
    for (int i = 0; i < 6; i++) {
        if (!take_number(text, &at, digits[i], &part[i]))
            return 0;
    }
    struct tm tm = {.tm_year = (int)part[0] - 1900,
                    .tm_mon = (int)part[1] - 1,
                    .tm_mday = (int)part[2],
                    .tm_hour = (int)part[3],
                    .tm_min = (int)part[4],
                    .tm_sec = (int)part[5]};
    return (int64_t)timegm(&tm);
}

/* ---- reading ---- */

struct reading {
    const struct lt_doc *doc;
    const struct lt_kind *kind;
    struct lt_object *object;
    struct lt_meta *meta; /* in the reader's arena, as body, until all is well */
    void *body;
    struct lt_field_reader reader;
    char name[LT_OBJECT_NAME_MAX];
};

static void read_meta(struct reading *r)
{
    struct lt_doc_path root = {0}, at = {&root, LT_STR("metadata"), 0};
    struct lt_meta *meta = r->meta;
    const struct lt_doc *node = lt_doc_findz(r->doc, "metadata");
    if (node == NULL) {
        lt_field_error(&r->reader, r->doc, &root, "metadata is required");
        return;
    }
    size_t errors = r->reader.errors;
    lt_field_read(&r->reader, node, &lt_meta_schema, meta, &at);
    if (meta->name.len == 0 && r->reader.errors == errors)
        lt_field_error_at(&r->reader, node, &at, "name", "is required");
    if (meta->ns.len == 0)
        meta->ns = LT_STR("default");
    struct lt_object_key *key = &r->object->key;
    key->name = meta->name;
    key->ns = r->kind->is_namespaced ? meta->ns : LT_STR("");
    r->object->created_s = lt_timestamp_parse(meta->creation_timestamp);
    r->reader.ns = key->ns;
    if (key->name.len > 0)
        r->reader.where.object = lt_str_of(lt_object_key_format(key, r->name));
}

/* The message as the only member, or beside what every object has. */
static void read_body(struct reading *r)
{
    void *body = r->body;
    struct lt_doc_path root = {0}, at = {&root, LT_STR("spec"), 0};
    const struct lt_doc *node = lt_doc_findz(r->doc, "spec");
    if (r->kind->is_in_spec && node == NULL) {
        lt_field_error(&r->reader, r->doc, &root, "spec is required");
        return;
    }
    if (r->kind->is_in_spec) {
        lt_field_read(&r->reader, node, r->kind->schema, body, &at);
        return;
    }
    struct lt_doc rest = *r->doc;
    rest.count = 0;
    rest.members = lt_malloc(((size_t)r->doc->count + 1) * sizeof(*rest.members));
    for (uint32_t i = 0; i < r->doc->count; i++) {
        lt_str name = r->doc->members[i].key;
        bool is_common = lt_str_eq(name, LT_STR("apiVersion")) || lt_str_eq(name, LT_STR("kind")) ||
                         lt_str_eq(name, LT_STR("metadata"));
        if (!is_common)
            rest.members[rest.count++] = r->doc->members[i];
    }
    lt_field_read(&r->reader, &rest, r->kind->schema, body, &root);
    free(rest.members);
}

/* Istio's kinds: what stands beside spec. */
static void check_root(struct reading *r)
{
    static const char *const known[] = {"apiVersion", "kind", "metadata", "spec", "status"};
    struct lt_doc_path root = {0};
    for (uint32_t i = 0; i < r->doc->count && r->kind->is_in_spec; i++) {
        bool is_known = false;
        for (size_t k = 0; k < LT_ARRAY_LEN(known); k++)
            is_known |= lt_str_eqz(r->doc->members[i].key, known[k]);
        struct lt_doc_path at = {&root, r->doc->members[i].key, 0};
        if (!is_known)
            lt_field_error(&r->reader, &r->doc->members[i].value, &at,
                           "unknown field beside metadata and spec");
    }
}

static uint64_t hash_doc(const struct lt_doc *doc)
{
    struct lt_buf buf;
    lt_buf_init(&buf, OBJECT_BYTES_MAX);
    struct lt_json_writer w;
    lt_json_writer_init(&w, &buf, 0);
    lt_json_doc(&w, doc);
    uint64_t hash = 0;
    if (lt_json_writer_finish(&w) == LT_OK)
        hash = lt_hash64(lt_buf_str(&buf).ptr, lt_buf_len(&buf), 0);
    lt_buf_fini(&buf);
    return hash;
}

/*
 * The kind that somebody meant who wrote one of ours under a wrong name, or in a wrong group. Kinds
 * that others define have groups of their own. NULL: none.
 */
static const struct lt_kind *nearest_kind(lt_str group, lt_str name)
{
    bool is_our_group = false;
    for (size_t i = 0; i < LT_KIND_COUNT; i++)
        is_our_group |= lt_str_eqz(group, kinds[i].group);
    for (size_t i = 0; i < LT_KIND_COUNT; i++) {
        lt_str our_group = lt_str_of(kinds[i].group), our_name = lt_str_of(kinds[i].name);
        bool has_name = lt_str_eq(name, our_name), has_group = lt_str_eq(group, our_group);
        if ((has_group && lt_name_is_near(name, our_name)) ||
            (has_name && (is_our_group || lt_name_is_near(group, our_group))))
            return &kinds[i];
    }
    return NULL;
}

/* Kinds of objects that forbid something: whoever wrote one must not think that it does. */
static const struct guard {
    const char *group, *kind;
} guards[] = {
    {"security.istio.io", "AuthorizationPolicy"},
    {"security.istio.io", "RequestAuthentication"},
    {"networking.k8s.io", "NetworkPolicy"},
};

static bool is_guard(lt_str group, lt_str kind)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(guards); i++) {
        if (lt_str_eqz(group, guards[i].group) && lt_str_eqz(kind, guards[i].kind))
            return true;
    }
    return false;
}

static void note_unread(const struct lt_doc *doc, lt_str file, struct lt_notes *notes,
                        lt_str api_version, lt_str kind)
{
    char object[LT_OBJECT_NAME_MAX];
    const struct lt_doc *meta = lt_doc_findz(doc, "metadata");
    lt_str ns = lt_doc_string(lt_doc_findz(meta, "namespace")),
           name = lt_doc_string(lt_doc_findz(meta, "name"));
    snprintf(object, sizeof(object), "%.*s %.*s%s%.*s", LT_STR_ARG(kind), LT_STR_ARG(ns),
             ns.len > 0 ? "/" : "", LT_STR_ARG(name));
    struct lt_note where = {.level = LT_NOTE_INFO,
                            .line = doc->line,
                            .file = file,
                            .object = name.len > 0 ? lt_str_of(object) : LT_STR("")};
    const struct lt_kind *near = nearest_kind(group_of(api_version), kind);
    if (near == NULL) {
        bool guards_something = is_guard(group_of(api_version), kind);
        where.level = guards_something ? LT_NOTE_WARNING : LT_NOTE_INFO;
        lt_notes_addf(notes, &where, "%.*s of %.*s is not read yet%s", LT_STR_ARG(kind),
                      LT_STR_ARG(api_version), guards_something ? ": it forbids nothing" : "");
        return;
    }
    where.level = LT_NOTE_WARNING;
    lt_notes_addf(notes, &where, "%.*s of %.*s is unknown, did you mean %s of %s?; it is ignored",
                  LT_STR_ARG(kind), LT_STR_ARG(api_version), near->name,
                  near->group[0] != '\0' ? near->group : "v1");
}

/* LT_E_BAD with *ret_key as far as it is known. */
static lt_rc read_into(struct lt_share *share, struct reading *r, struct lt_object_key *ret_key)
{
    struct lt_arena *scratch = r->reader.arena;
    r->meta = lt_arena_make(scratch, struct lt_meta);
    r->body = lt_arena_alloc(scratch, r->kind->schema->size);
    read_meta(r);
    check_root(r);
    read_body(r);
    if (r->reader.errors > 0) {
        if (ret_key != NULL)
            *ret_key = (struct lt_object_key){
                r->object->key.kind, lt_arena_str(r->reader.notes->arena, r->object->key.ns),
                lt_arena_str(r->reader.notes->arena, r->object->key.name)};
        return LT_E_BAD;
    }
    r->object->meta = lt_share_block(share, r->meta, sizeof(*r->meta));
    r->object->body = lt_share_block(share, r->body, r->kind->schema->size);
    return LT_OK;
}

static lt_rc read_kind(const struct lt_doc *doc, lt_kind_id id, struct lt_share *share,
                       const struct lt_note *where, struct lt_notes *notes,
                       struct lt_object_key *ret_key, struct lt_object **ret_object)
{
    struct lt_object object = {
        .refs = 1, .line = doc->line, .file = lt_share_str(share, where->file)};
    object.key.kind = id;
    struct reading r = {.doc = doc, .kind = lt_kind_get(id), .object = &object};
    r.reader = (struct lt_field_reader){.arena = lt_arena_new(SCRATCH_CHUNK, 0),
                                        .share = share,
                                        .notes = notes,
                                        .where = *where,
                                        .unknown = r.kind->unknown,
                                        .has_lines = r.kind->is_in_spec};
    lt_rc rc = read_into(share, &r, ret_key);
    lt_arena_free(&r.reader.arena);
    if (rc != LT_OK)
        return rc;
    object.hash = hash_doc(doc);
    object.share = lt_share_ref(share);
    *ret_object = lt_share_alloc(share, sizeof(object));
    **ret_object = object;
    return LT_OK;
}

lt_rc lt_object_read(const struct lt_doc *doc, lt_str file, struct lt_share *share,
                     struct lt_notes *notes, struct lt_object_key *ret_key,
                     struct lt_object **ret_object)
{
    struct lt_note where = {.level = LT_NOTE_ERROR, .line = doc->line, .file = file};
    lt_str api_version = lt_doc_string(lt_doc_findz(doc, "apiVersion")),
           kind = lt_doc_string(lt_doc_findz(doc, "kind"));
    if (ret_key != NULL)
        *ret_key = (struct lt_object_key){0};
    if (api_version.len == 0 || kind.len == 0) {
        bool is_object = doc->kind == LT_DOC_OBJECT, has_kind = kind.len > 0;
        lt_notes_addf(notes, &where, "expected an object with apiVersion and kind, got %s",
                      !is_object             ? lt_doc_kind_name(doc->kind)
                      : has_kind             ? "one without apiVersion"
                      : api_version.len == 0 ? "one without them"
                                             : "one without kind");
        return LT_E_BAD;
    }
    lt_kind_id id = lt_kind_find(api_version, kind);
    if (id == LT_KIND_COUNT) {
        note_unread(doc, file, notes, api_version, kind);
        return LT_E_UNSUPPORTED;
    }
    return read_kind(doc, id, share, &where, notes, ret_key, ret_object);
}

/* ---- completing ---- */

static const struct lt_service_object *complete_service(struct lt_share *share,
                                                        const struct lt_service_object *wanted,
                                                        const struct lt_service_object *live)
{
    struct lt_service_object *service = lt_share_alloc(share, sizeof(*service));
    struct lt_service_spec *spec = lt_share_alloc(share, sizeof(*spec));
    *spec = *wanted->spec;
    if (spec->cluster_ip.len == 0)
        spec->cluster_ip = live->spec->cluster_ip;
    *service = *wanted;
    service->spec = spec;
    return service;
}

struct lt_object *lt_object_complete(struct lt_share *share, const struct lt_object *wanted,
                                     const struct lt_object *live)
{
    LT_ASSERT(lt_object_key_eq(&wanted->key, &live->key));
    const uint64_t hashes[] = {wanted->hash, live->hash};
    struct lt_object *object = lt_share_alloc(share, sizeof(*object));
    bool is_service = wanted->key.kind == LT_KIND_SERVICE;
    *object = is_service ? *wanted : *live;
    object->refs = 1;
    object->share = lt_share_ref(share);
    object->file = wanted->file;
    object->line = wanted->line;
    object->hash = lt_hash64(hashes, sizeof(hashes), 0);
    object->parts = lt_share_alloc(share, sizeof(*object->parts));
    object->parts->wanted = lt_object_ref(wanted);
    object->parts->live = lt_object_ref(live);
    if (is_service)
        object->service = complete_service(share, wanted->service, live->service);
    return object;
}

/* ---- counts ---- */

struct lt_object *lt_object_ref(const struct lt_object *object)
{
    struct lt_object *counted =
        (struct lt_object *)object; /* the count is the one thing that changes */
    LT_ASSERT(counted->refs > 0);
    counted->refs++;
    return counted;
}

void lt_object_unref(struct lt_object **object)
{
    struct lt_object *o = *object;
    *object = NULL;
    if (o == NULL)
        return;
    LT_ASSERT(o->refs > 0);
    if (--o->refs > 0)
        return;
    if (o->parts != NULL) {
        lt_object_unref(&o->parts->wanted);
        lt_object_unref(&o->parts->live);
    }
    struct lt_share *share = o->share; /* the object lies in it */
    lt_share_unref(&share);
}
