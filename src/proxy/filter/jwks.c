/*
 * proxy/filter/jwks.c - fetched key sets of a worker. Start at: px_jwks_find().
 */
#include "proxy/filter/jwks.h"

#include <stdlib.h>

#include "proxy/http/inside.h"
#include "proxy/run/workers.h"
#include "proxy/told/count.h"

/* Numbers of fetched sets; those of the configuration count from 1. */
#define REMOTE_IDS (UINT64_C(1) << 63)
/* Envoy: a set that is fetched ahead is fetched again this long before its end. */
#define AHEAD_NS (5 * LT_NS_PER_S)

struct px_jwks_source {
    struct px_worker *worker;
    char *id;             /* owned; the key in worker->jwks */
    struct lt_jwks *keys; /* owned; NULL: never had */
    uint64_t keys_id;
    uint64_t good_until_ns; /* of the keys; from then on they are fetched again */
    uint64_t retry_at_ns;   /* after a failure nobody tries again before */
    struct px_fetch *fetch; /* owned; NULL: none under way */
    struct lt_list waiting; /* of px_jwks_wait.link */
    struct lt_timer timer;  /* the next fetch, when it is made ahead */
    uint64_t used_ns;
    /* as the configuration has it now; strings are copies in: */
    struct lt_arena *arena; /* owned */
    struct px_jwt_remote remote;
    struct px_stat fetched, failed;
};

static void start_fetch(struct px_jwks_source *source);

/* --- telling --- */

static void wake_all(struct px_jwks_source *source)
{
    while (!lt_list_is_empty(&source->waiting)) {
        struct px_jwks_wait *wait = lt_list_first(&source->waiting, struct px_jwks_wait, link);
        lt_list_remove(&wait->link);
        wait->on_keys(wait);
    }
}

struct keys_letter {
    struct lt_letter letter;
    char *id, *text; /* owned */
    size_t len;
    unsigned from; /* the worker that fetched it */
};

static void take_keys(struct px_jwks_source *source, struct lt_jwks *keys)
{
    struct px_worker *worker = source->worker;
    lt_jwks_free(&source->keys);
    source->keys = keys;
    source->keys_id = REMOTE_IDS + ++worker->jwks_count;
    source->good_until_ns = px_now_ns(worker) + source->remote.cache_ms * LT_NS_PER_MS;
    source->retry_at_ns = 0;
}

static void free_letter(struct keys_letter *letter)
{
    free(letter->id);
    free(letter->text);
    free(letter);
}

static struct keys_letter *copy_letter(lt_str id, lt_str text, unsigned from, lt_letter_fn *open)
{
    struct keys_letter *letter = lt_new(struct keys_letter);
    letter->letter.open = open;
    letter->id = lt_str_dupz(id);
    letter->text = lt_str_dupz(text);
    letter->len = text.len;
    letter->from = from;
    return letter;
}

/* In a worker that did not fetch. */
static void open_in_worker(struct lt_letter *opened, void *receiver)
{
    struct px_worker *worker = receiver;
    struct keys_letter *letter = LT_CONTAINER_OF(opened, struct keys_letter, letter);
    struct px_jwks_source *source = lt_map_find(&worker->jwks, lt_str_of(letter->id));
    struct lt_jwks *keys = NULL;
    if (source != NULL &&
        lt_jwks_parse(lt_str_make(letter->text, letter->len), &keys, NULL) == LT_OK) {
        take_keys(source, keys);
        wake_all(source);
    }
    free_letter(letter);
}

/* In the main thread: to all the others. */
static void open_in_main(struct lt_letter *opened, void *receiver)
{
    struct px_workers *workers = receiver;
    struct keys_letter *letter = LT_CONTAINER_OF(opened, struct keys_letter, letter);
    for (unsigned i = 0; i < workers->opts.count; i++) {
        struct px_worker *worker = workers->threads[i].worker;
        if (i == letter->from || worker == NULL)
            continue;
        struct keys_letter *copy = copy_letter(lt_str_of(letter->id),
                                               lt_str_make(letter->text, letter->len), letter->from,
                                               open_in_worker);
        lt_mailbox_post(worker->mailbox, &copy->letter);
    }
    free_letter(letter);
}

static void tell_others(const struct px_jwks_source *source, lt_str text)
{
    struct px_worker *worker = source->worker;
    if (worker->owner->opts.count < 2)
        return;
    struct keys_letter *letter = copy_letter(lt_str_of(source->id), text, worker->index,
                                             open_in_main);
    lt_mailbox_post(worker->owner->mailbox, &letter->letter);
}

/* --- fetching --- */

/* One worker does it for all. */
static bool is_fetched_ahead(const struct px_jwks_source *source)
{
    return source->remote.is_async && source->worker->index == 0;
}

static void plan_next(struct px_jwks_source *source, bool is_good)
{
    struct px_worker *worker = source->worker;
    uint64_t now_ns = px_now_ns(worker);
    uint64_t wait_ns = source->remote.failed_refetch_ms * LT_NS_PER_MS;
    if (!is_good)
        source->retry_at_ns = now_ns + wait_ns;
    if (is_good && source->remote.cache_ms * LT_NS_PER_MS > 2 * AHEAD_NS)
        wait_ns = source->remote.cache_ms * LT_NS_PER_MS - AHEAD_NS;
    if (is_fetched_ahead(source))
        lt_loop_timer_set(worker->loop, &source->timer, LT_MAX(wait_ns, LT_NS_PER_MS));
}

static void on_fetched(void *ctx, const struct px_fetch_result *result)
{
    struct px_jwks_source *source = ctx;
    struct lt_jwks *keys = NULL;
    source->fetch = NULL;
    bool is_good = result->status == 200 && lt_jwks_parse(result->body, &keys, NULL) == LT_OK;
    px_stat_add(source->worker, is_good ? &source->fetched : &source->failed, 1);
    if (is_good) {
        take_keys(source, keys);
        tell_others(source, result->body);
    }
    plan_next(source, is_good);
    wake_all(source);
}

static void start_fetch(struct px_jwks_source *source)
{
    const struct px_jwt_remote *remote = &source->remote;
    if (source->fetch != NULL)
        return;
    struct px_retry retry = {
        .on = PX_RETRY_5XX | PX_RETRY_GATEWAY_ERROR | PX_RETRY_CONNECT_FAILURE | PX_RETRY_RESET,
        .num_retries = remote->retries,
        .backoff_base_ms = 200,
        .backoff_max_ms = 2000,
        .host_attempts = 1,
    };
    struct px_fetch_opts opts = {
        .cluster = remote->cluster,
        .method = LT_STR("GET"),
        .scheme = remote->scheme,
        .authority = remote->authority,
        .path = remote->path,
        .timeout_ms = remote->timeout_ms,
        .retry = remote->retries > 0 ? &retry : NULL,
        .body_bytes_max = LT_JWKS_BYTES_MAX,
        .on_done = on_fetched,
        .ctx = source,
    };
    px_fetch_start(source->worker, &opts, &source->fetch);
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    start_fetch(LT_CONTAINER_OF(timer, struct px_jwks_source, timer));
}

/* --- sources --- */

static void free_source(struct px_jwks_source *source)
{
    struct px_worker *worker = source->worker;
    lt_map_remove(&worker->jwks, lt_str_of(source->id));
    px_fetch_cancel(&source->fetch);
    lt_loop_timer_cancel(worker->loop, &source->timer);
    lt_jwks_free(&source->keys);
    lt_arena_free(&source->arena);
    free(source->id);
    free(source);
}

/* The one that nobody has asked for the longest; not one that is waited for. */
static void make_room(struct px_worker *worker)
{
    struct px_jwks_source *oldest = NULL;
    for (size_t i = 0; i < worker->jwks.count; i++) {
        struct px_jwks_source *source = worker->jwks.entries[i].value;
        bool is_free = lt_list_is_empty(&source->waiting) && source->fetch == NULL;
        if (is_free && (oldest == NULL || source->used_ns < oldest->used_ns))
            oldest = source;
    }
    if (oldest != NULL && worker->jwks.count >= PX_JWKS_SOURCES_MAX)
        free_source(oldest);
}

static lt_str keep(struct px_jwks_source *source, lt_str text)
{
    return lt_arena_str(source->arena, text);
}

static struct px_stat keep_stat(struct px_jwks_source *source, const struct px_stat *stat)
{
    struct px_stat copy = *stat;
    copy.name = keep(source, stat->name);
    copy.family = keep(source, stat->family);
    copy.pattern = keep(source, stat->pattern);
    for (uint32_t i = 0; i < stat->label_count; i++) {
        copy.labels[i] = keep(source, stat->labels[i]);
        copy.values[i] = keep(source, stat->values[i]);
    }
    return copy;
}

/* It outlives the configuration: the id tells all that matters for what is fetched. */
static struct px_jwks_source *get_source(struct px_worker *worker, const struct px_jwt_conf *conf,
                                         const struct px_jwt_remote *remote)
{
    struct px_jwks_source *source = lt_map_find(&worker->jwks, remote->id);
    if (source == NULL) {
        make_room(worker);
        source = lt_new(struct px_jwks_source);
        source->worker = worker;
        source->id = lt_str_dupz(remote->id);
        source->arena = lt_arena_new(512, 0);
        source->remote = *remote;
        source->remote.id = LT_STR_NULL;
        source->remote.cluster = keep(source, remote->cluster);
        source->remote.scheme = keep(source, remote->scheme);
        source->remote.authority = keep(source, remote->authority);
        source->remote.path = keep(source, remote->path);
        source->fetched = keep_stat(source, &conf->fetched);
        source->failed = keep_stat(source, &conf->fetch_failed);
        lt_list_init(&source->waiting);
        lt_timer_init(&source->timer, on_timer);
        lt_map_put(&worker->jwks, lt_str_of(source->id), source);
    }
    source->used_ns = px_now_ns(worker);
    return source;
}

lt_rc px_jwks_find(struct px_worker *worker, const struct px_jwt_conf *conf,
                   const struct px_jwt_remote *remote, struct px_jwks_wait *wait,
                   const struct lt_jwks **ret_keys, uint64_t *ret_id)
{
    struct px_jwks_source *source = get_source(worker, conf, remote);
    uint64_t now_ns = source->used_ns;
    bool is_fresh = source->keys != NULL && now_ns < source->good_until_ns;
    bool may_fetch = now_ns >= source->retry_at_ns;
    if (!is_fresh && may_fetch)
        start_fetch(source);
    bool may_wait = !is_fresh && source->fetch != NULL;
    if (may_wait) {
        if (wait != NULL && !lt_list_is_linked(&wait->link))
            lt_list_push_back(&source->waiting, &wait->link);
        return LT_AGAIN;
    }
    if (source->keys == NULL)
        return LT_E_IO;
    *ret_keys = source->keys;
    *ret_id = source->keys_id;
    return LT_OK;
}

/* --- ahead --- */

static void prefetch_filters(struct px_worker *worker, const struct px_hcm_conf *hcm)
{
    for (size_t i = 0; hcm != NULL && hcm->has_remote_keys && i < hcm->filter_count; i++) {
        if (hcm->filters[i].kind != PX_FILTER_JWT_AUTHN)
            continue;
        const struct px_jwt_conf *conf = hcm->filters[i].conf;
        for (size_t p = 0; p < conf->provider_count; p++) {
            if (conf->providers[p].keys != NULL)
                continue;
            /* from now on it hears what others fetch */
            struct px_jwks_source *source = get_source(worker, conf, &conf->providers[p].remote);
            bool is_fresh = source->keys != NULL && source->used_ns < source->good_until_ns;
            if (is_fetched_ahead(source) && !is_fresh)
                start_fetch(source);
        }
    }
}

static void prefetch_listener(void *ctx, const void *at)
{
    const struct px_listener_conf *listener = ((const struct px_listener_entry *)at)->conf;
    struct px_worker *worker = ctx;
    for (size_t c = 0; c < listener->chain_count; c++)
        prefetch_filters(worker, listener->chains[c].hcm);
    if (listener->default_chain != NULL)
        prefetch_filters(worker, listener->default_chain->hcm);
}

void px_jwks_prefetch(struct px_worker *worker)
{
    px_shelf_each(&worker->pin->snapshot->listeners, prefetch_listener, worker);
}

void px_jwks_free(struct px_worker *worker)
{
    while (worker->jwks.count > 0)
        free_source(worker->jwks.entries[0].value);
    lt_map_fini(&worker->jwks);
}
