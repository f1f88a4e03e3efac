/*
 * proxy/run/on_demand.c - waiting for what the control plane is asked for while a request stands.
 * Start at: px_waiter_start(), open_answer().
 */
#include "proxy/run/on_demand.h"

#include <stdlib.h>

#include "proxy/run/run.h"
#include "proxy/run/workers.h"

enum {
    ABSENT_CELLS = 1024,
    ABSENT_MS = 1000, /* then the main thread is asked again, who remembers it for longer */
};

/* Those that wait for one name. */
struct px_wait_group {
    struct px_worker *worker;
    struct lt_list waiters;
    bool is_answered; /* it is in no map any more */
    uint64_t hash;
    px_resource_kind kind;
    uint16_t source;
    lt_str name; /* behind the struct */
};

struct absent {
    uint64_t hash, until_ns;
};

/* Made when a request first needs something. */
struct px_on_demand {
    uint64_t seed;         /* clients shall not know which names share a cell */
    struct lt_map by_hash; /* of struct px_wait_group, owned; each has a waiter */
    struct absent absent[ABSENT_CELLS];
};

static uint64_t hash_of(const struct px_on_demand *all, px_resource_kind kind, uint16_t source,
                        lt_str name)
{
    uint64_t seed = all->seed ^ ((uint64_t)kind << 32 | source);
    return lt_hash64(name.ptr, name.len, seed);
}

static lt_str key_of(const uint64_t *hash)
{
    return lt_str_make(hash, sizeof(*hash));
}

/* --- groups --- */

static struct px_wait_group *find(const struct px_on_demand *all, uint64_t hash,
                                  px_resource_kind kind, uint16_t source, lt_str name)
{
    struct px_wait_group *group = lt_map_find(&all->by_hash, key_of(&hash));
    bool is_it = group != NULL && group->kind == kind && group->source == source &&
                 lt_str_eq(group->name, name);
    return is_it ? group : NULL;
}

static struct px_wait_group *make_group(struct px_worker *worker, uint64_t hash,
                                        const struct px_demand *what)
{
    struct px_wait_group *group = lt_calloc(1, sizeof(*group) + what->name.len + 1);
    memcpy(group + 1, what->name.ptr, what->name.len);
    group->name = lt_str_make(group + 1, what->name.len);
    group->kind = what->kind;
    group->source = what->source;
    group->hash = hash;
    group->worker = worker;
    lt_list_init(&group->waiters);
    lt_map_put(&worker->on_demand->by_hash, key_of(&group->hash), group);
    return group;
}

/* --- to the main thread --- */

struct question {
    struct lt_letter letter;
    struct px_workers *workers;
    unsigned index; /* of who asks */
    struct px_demand what;
    char name[];
};

struct answer {
    struct lt_letter letter;
    struct px_demand what;
    px_demand_outcome outcome;
    char name[];
};

static void open_answer(struct lt_letter *letter, void *receiver);

static void post_answer(struct px_worker *worker, const struct px_demand *what,
                        px_demand_outcome outcome)
{
    struct answer *answer = lt_calloc(1, sizeof(*answer) + what->name.len + 1);
    memcpy(answer->name, what->name.ptr, what->name.len);
    answer->letter.open = open_answer;
    answer->what = *what;
    answer->what.name = lt_str_make(answer->name, what->name.len);
    answer->outcome = outcome;
    lt_mailbox_post(worker->mailbox, &answer->letter);
}

static void open_question(struct lt_letter *letter, void *receiver LT_UNUSED)
{
    struct question *question = LT_CONTAINER_OF(letter, struct question, letter);
    const struct px_workers_opts *opts = &question->workers->opts;
    struct px_worker *worker = question->workers->threads[question->index].worker;
    px_demand_outcome outcome = worker == NULL ? PX_DEMAND_WAITS
                                : opts->on_demand == NULL
                                    ? PX_DEMAND_ABSENT
                                    : opts->on_demand(opts->ctx, &question->what);
    if (outcome != PX_DEMAND_WAITS)
        post_answer(worker, &question->what, outcome);
    free(question);
}

static void post_question(struct px_worker *worker, const struct px_demand *what)
{
    struct question *question = lt_calloc(1, sizeof(*question) + what->name.len + 1);
    memcpy(question->name, what->name.ptr, what->name.len);
    question->letter.open = open_question;
    question->workers = worker->owner;
    question->index = worker->index;
    question->what = *what;
    question->what.name = lt_str_make(question->name, what->name.len);
    lt_mailbox_post(worker->owner->mailbox, &question->letter);
}

void px_workers_tell_decided(struct px_workers *workers, const struct px_demand *what,
                             px_demand_outcome outcome)
{
    for (unsigned i = 0; i < workers->opts.count; i++)
        post_answer(workers->threads[i].worker, what, outcome);
}

/* --- and back --- */

static void finish(struct px_waiter *waiter, px_demand_outcome outcome)
{
    px_waiter_stop(waiter);
    waiter->done(waiter, outcome);
}

static void note_absent(struct px_worker *worker, uint64_t hash)
{
    struct absent *cell = &worker->on_demand->absent[hash % ABSENT_CELLS];
    *cell = (struct absent){hash, px_now_ns(worker) + ABSENT_MS * LT_NS_PER_MS};
}

static void open_answer(struct lt_letter *letter, void *receiver)
{
    struct px_worker *worker = receiver;
    struct answer *answer = LT_CONTAINER_OF(letter, struct answer, letter);
    struct px_on_demand *all = worker->on_demand;
    const struct px_demand *what = &answer->what;
    uint64_t hash = all == NULL ? 0 : hash_of(all, what->kind, what->source, what->name);
    struct px_wait_group *group = all == NULL
                                      ? NULL
                                      : find(all, hash, what->kind, what->source, what->name);
    if (group != NULL) {
        if (answer->outcome == PX_DEMAND_ABSENT)
            note_absent(worker, hash);
        lt_map_remove(&all->by_hash, key_of(&group->hash));
        group->is_answered = true;
        while (!lt_list_is_empty(&group->waiters))
            finish(lt_list_first(&group->waiters, struct px_waiter, link), answer->outcome);
        free(group);
    }
    free(answer);
}

/* --- who waits --- */

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    finish(LT_CONTAINER_OF(timer, struct px_waiter, timer), PX_DEMAND_LATE);
}

static struct px_on_demand *all_of(struct px_worker *worker)
{
    if (worker->on_demand == NULL) {
        worker->on_demand = lt_new(struct px_on_demand);
        worker->on_demand->seed = lt_prng_next(&worker->prng);
        lt_map_init(&worker->on_demand->by_hash);
    }
    return worker->on_demand;
}

px_demand_outcome px_waiter_start(struct px_waiter *waiter, struct px_worker *worker,
                                  const struct px_demand *what, uint32_t timeout_ms)
{
    struct px_on_demand *all = all_of(worker);
    uint64_t hash = hash_of(all, what->kind, what->source, what->name);
    const struct absent *cell = &all->absent[hash % ABSENT_CELLS];
    if (cell->hash == hash && px_now_ns(worker) < cell->until_ns)
        return PX_DEMAND_ABSENT;
    struct px_wait_group *group = find(all, hash, what->kind, what->source, what->name);
    if (group == NULL && lt_map_find(&all->by_hash, key_of(&hash)) != NULL)
        return PX_DEMAND_REFUSED; /* once in a lifetime: another name with this hash */
    if (group == NULL) {
        group = make_group(worker, hash, what);
        post_question(worker, what);
    }
    waiter->group = group;
    lt_list_push_back(&group->waiters, &waiter->link);
    lt_timer_init(&waiter->timer, on_timeout);
    lt_loop_timer_set(worker->loop, &waiter->timer, timeout_ms * LT_NS_PER_MS);
    return PX_DEMAND_WAITS;
}

uint32_t px_waiter_owner(const struct lt_addr *client)
{
    char text[LT_ADDR_TEXT_MAX];
    return (uint32_t)lt_str_hash(lt_addr_format_ip(client, text));
}

void px_waiter_stop(struct px_waiter *waiter)
{
    struct px_wait_group *group = waiter->group;
    if (group == NULL)
        return;
    waiter->group = NULL;
    lt_list_remove(&waiter->link);
    lt_loop_timer_cancel(group->worker->loop, &waiter->timer);
    if (group->is_answered || !lt_list_is_empty(&group->waiters))
        return;
    lt_map_remove(&group->worker->on_demand->by_hash, key_of(&group->hash));
    free(group); /* the answer, if one comes, is for whoever asks next */
}

void px_on_demand_free(struct px_worker *worker)
{
    struct px_on_demand *all = worker->on_demand;
    worker->on_demand = NULL;
    if (all == NULL)
        return;
    LT_ASSERT(all->by_hash.count == 0);
    lt_map_fini(&all->by_hash);
    free(all);
}
