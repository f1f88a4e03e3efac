/*
 * model/refs.c - the index of references.
 */
#include "model/refs.h"

#include "model/host.h"

static void add_rule(struct lt_refs *refs, const struct lt_object *rule)
{
    lt_str host = lt_host_lower(refs->arena,
                                lt_refs_host(refs, rule->destination_rule->host, rule->key.ns));
    if (lt_host_is_wildcard(host)) {
        lt_vec_push(&refs->wildcard_rules, (void *)rule);
        return;
    }
    struct lt_vec *rules = lt_map_find(&refs->rules, host);
    if (rules == NULL) {
        rules = lt_arena_make(refs->arena, struct lt_vec);
        lt_map_put(&refs->rules, host, rules);
    }
    lt_vec_push(rules, (void *)rule);
}

void lt_refs_init(struct lt_refs *refs, const struct lt_object *const *objects, size_t count,
                  lt_str domain)
{
    *refs = (struct lt_refs){
        .objects = objects, .count = count, .domain = domain, .arena = lt_arena_new(0, 0)};
    lt_map_init(&refs->services);
    lt_map_init(&refs->rules);
    for (size_t i = 0; i < count; i++) {
        const struct lt_object *o = objects[i];
        if (o->key.kind == LT_KIND_SERVICE)
            lt_map_put(&refs->services, lt_refs_host(refs, o->key.name, o->key.ns), (void *)o);
        if (o->key.kind == LT_KIND_DESTINATION_RULE)
            add_rule(refs, o);
    }
}

void lt_refs_fini(struct lt_refs *refs)
{
    for (size_t i = 0; i < refs->rules.count; i++)
        lt_vec_fini(refs->rules.entries[i].value);
    lt_vec_fini(&refs->wildcard_rules);
    lt_map_fini(&refs->rules);
    lt_map_fini(&refs->services);
    lt_arena_free(&refs->arena);
}

/* The first object that is not before the key. */
static size_t lower_bound(const struct lt_refs *refs, const struct lt_object_key *key)
{
    size_t low = 0, high = refs->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (lt_object_key_cmp(&refs->objects[mid]->key, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct lt_object *lt_refs_find(const struct lt_refs *refs, const struct lt_object_key *key)
{
    size_t at = lower_bound(refs, key);
    return at < refs->count && lt_object_key_eq(&refs->objects[at]->key, key) ? refs->objects[at]
                                                                              : NULL;
}

size_t lt_refs_begin(const struct lt_refs *refs, lt_kind_id kind, lt_str ns)
{
    return lower_bound(refs, &(struct lt_object_key){kind, ns, LT_STR("")});
}

lt_str lt_refs_host(struct lt_refs *refs, lt_str host, lt_str ns)
{
    return lt_host_expand(refs->arena, host, ns, refs->domain);
}

bool lt_refs_is_mesh_host(const struct lt_refs *refs, lt_str host)
{
    static const lt_str svc = {".svc.", 5};
    if (lt_host_is_wildcard(host) || !lt_str_ends(host, refs->domain))
        return false;
    return lt_str_ends(lt_str_slice(host, 0, host.len - refs->domain.len), svc);
}

const struct lt_object *lt_refs_service(const struct lt_refs *refs, lt_str host)
{
    return lt_map_find(&refs->services, host);
}

bool lt_rule_defines(const struct lt_object *rule, lt_str subset)
{
    for (size_t i = 0; i < rule->destination_rule->subsets.count; i++) {
        if (lt_str_eq(rule->destination_rule->subsets.items[i].name, subset))
            return true;
    }
    return false;
}

const struct lt_object *lt_refs_subset(const struct lt_refs *refs, lt_str host, lt_str subset)
{
    const struct lt_vec *rules = lt_map_find(&refs->rules, host);
    for (size_t i = 0; rules != NULL && i < rules->count; i++) {
        if (lt_rule_defines(rules->items[i], subset))
            return rules->items[i];
    }
    for (size_t i = 0; i < refs->wildcard_rules.count; i++) {
        const struct lt_object *rule = refs->wildcard_rules.items[i];
        if (lt_host_is_subset(host, rule->destination_rule->host) && lt_rule_defines(rule, subset))
            return rule;
    }
    return NULL;
}

/* ---- Pods, and what will make one ---- */

static const struct lt_pod_template *template_of(const struct lt_object *o)
{
    return o->key.kind == LT_KIND_DEPLOYMENT ? o->deployment->spec->pod : o->job->spec->pod;
}

const struct lt_kvs *lt_refs_pod_labels(const struct lt_object *pod)
{
    static const struct lt_kvs none = {0};
    const struct lt_meta *meta = pod->key.kind == LT_KIND_POD ? pod->meta : template_of(pod)->meta;
    return meta != NULL ? &meta->labels : &none;
}

const struct lt_pod_spec *lt_refs_pod_spec(const struct lt_object *pod)
{
    return pod->key.kind == LT_KIND_POD ? pod->pod->spec : template_of(pod)->spec;
}

bool lt_refs_has_pod(const struct lt_refs *refs, const lt_str *ns, const struct lt_kvs *labels,
                     lt_refs_pod_fn *test, const void *ctx)
{
    static const lt_kind_id kinds[] = {LT_KIND_POD, LT_KIND_DEPLOYMENT, LT_KIND_JOB};
    for (size_t k = 0; k < LT_ARRAY_LEN(kinds); k++) {
        size_t i = lt_refs_begin(refs, kinds[k], ns != NULL ? *ns : LT_STR(""));
        for (; i < refs->count; i++) {
            const struct lt_object *o = refs->objects[i];
            if (o->key.kind != kinds[k] || (ns != NULL && !lt_str_eq(o->key.ns, *ns)))
                break;
            if (lt_kvs_contain(lt_refs_pod_labels(o), labels) && (test == NULL || test(o, ctx)))
                return true;
        }
    }
    return false;
}
