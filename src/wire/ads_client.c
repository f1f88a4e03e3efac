/*
 * wire/ads_client.c - the proxy's side of ADS: what is asked for, held, and to be answered. What
 * the messages look like: ads_client_delta.c, ads_client_sotw.c. Requests are pulled
 * (lt_ads_client_next), one at a time, from what has gathered: the first request of each type, then
 * answers, then changes of subscription. Trust: responses are a stranger's.   Start at:
 * lt_ads_client_feed(), lt_ads_client_next().
 */
#include "wire/ads_client_priv.h"

#include <stdlib.h>

enum { NAMES_MAX_DEFAULT = 1000000, PENDING_MAX_DEFAULT = 64, TICKET_TYPE_BITS = 5 };

/* A response that the owner has not answered. Names and versions are copies in one block. */
struct pending {
    struct lt_list link;
    uint64_t ticket;
    lt_str nonce, system_version;
    size_t resource_count;
    size_t removed_count;
    lt_str *names;    /* resources, then removed */
    lt_str *versions; /* of the resources */
};

/* --- birth and death --- */

static void drop_list(struct lt_list *head)
{
    while (!lt_list_is_empty(head)) {
        struct lt_list *link = head->next;
        lt_list_remove(link);
        free(link); /* it is the first member of pending and of answer */
    }
}

_Static_assert(offsetof(struct pending, link) == 0 && offsetof(struct lt_ads_answer, link) == 0,
               "drop_list frees by it");

struct lt_ads_client *lt_ads_client_new(const struct lt_ads_client_opts *opts)
{
    struct lt_ads_client *client = lt_new(struct lt_ads_client);
    client->form = opts->is_sotw ? &lt_ads_form_sotw : &lt_ads_form_delta;
    client->says_node_always = opts->says_node_always;
    client->names_max = opts->names_max != 0 ? opts->names_max : NAMES_MAX_DEFAULT;
    client->pending_max = opts->pending_max != 0 ? opts->pending_max : PENDING_MAX_DEFAULT;
    lt_ads_client_set_node(client, opts->node);
    lt_map_init(&client->seen);
    return client;
}

static void free_name(struct lt_ads_client_name *name)
{
    free(name->version);
    free(name);
}

void lt_ads_client_free(struct lt_ads_client **client_ref)
{
    struct lt_ads_client *client = *client_ref;
    if (client == NULL)
        return;
    *client_ref = NULL;
    for (uint32_t i = 0; i < client->watch_count; i++) {
        struct lt_ads_watch *watch = client->watches[i];
        for (size_t j = 0; j < watch->names.count; j++)
            free_name(watch->names.entries[j].value);
        lt_map_fini(&watch->names);
        drop_list(&watch->pending);
        drop_list(&watch->answers);
        free(watch->version);
        free(watch->nonce);
        free(watch->type_url);
        free(watch);
    }
    free(client->views);
    lt_ads_strs_fini(&client->removed);
    lt_ads_strs_fini(&client->aliases);
    lt_map_fini(&client->seen);
    free((char *)client->node.ptr);
    free(client);
}

void lt_ads_client_set_node(struct lt_ads_client *client, lt_str node)
{
    free((char *)client->node.ptr);
    client->node = (lt_str){lt_str_dupz(node), node.len};
}

/* --- watches and names --- */

struct lt_ads_watch *lt_ads_client_find(const struct lt_ads_client *client, lt_str type_url)
{
    for (uint32_t i = 0; i < client->watch_count; i++) {
        if (lt_str_eq(lt_ads_watch_type(client->watches[i]), type_url))
            return client->watches[i];
    }
    return NULL;
}

struct lt_ads_watch *lt_ads_client_watch(struct lt_ads_client *client, lt_str type_url,
                                         bool is_wildcard)
{
    struct lt_ads_watch *watch = lt_ads_client_find(client, type_url);
    if (watch != NULL || client->watch_count == LT_ADS_TYPES_MAX)
        return watch;
    watch = lt_new(struct lt_ads_watch);
    watch->client = client;
    watch->type_url = lt_str_dupz(type_url);
    watch->type_len = type_url.len;
    watch->index = client->watch_count;
    watch->is_wildcard = is_wildcard;
    lt_map_init(&watch->names);
    lt_list_init(&watch->pending);
    lt_list_init(&watch->answers);
    client->watches[client->watch_count++] = watch;
    return watch;
}

void lt_ads_watch_take_all(struct lt_ads_watch *watch)
{
    watch->takes_all = true;
}

lt_str lt_ads_watch_type(const struct lt_ads_watch *watch)
{
    return lt_str_make(watch->type_url, watch->type_len);
}

static lt_rc put_name(struct lt_ads_watch *watch, lt_str text, struct lt_ads_client_name **ret_name)
{
    struct lt_ads_client_name *name = lt_map_find(&watch->names, text);
    if (name == NULL) {
        if (text.len > LT_ADS_NAME_BYTES_MAX ||
            watch->client->name_count >= watch->client->names_max)
            return LT_E_LIMIT;
        name = lt_calloc(1, sizeof(*name) + text.len + 1);
        memcpy(name + 1, text.ptr != NULL ? text.ptr : "", text.len);
        name->text = lt_str_make(name + 1, text.len);
        lt_map_put(&watch->names, name->text, name);
        watch->client->name_count++;
    }
    *ret_name = name;
    return LT_OK;
}

static void drop_name(struct lt_ads_watch *watch, struct lt_ads_client_name *name)
{
    lt_map_remove(&watch->names, name->text);
    watch->client->name_count--;
    free_name(name);
}

static void set_change(struct lt_ads_watch *watch, struct lt_ads_client_name *name, bool is_joining,
                       bool is_leaving)
{
    watch->changes -= (size_t)(name->is_joining + name->is_leaving);
    name->is_joining = is_joining;
    name->is_leaving = is_leaving;
    watch->changes += (size_t)(is_joining + is_leaving);
}

static void set_held(struct lt_ads_client_name *name, lt_str version)
{
    free(name->version);
    name->version = version.len == 0 ? NULL : lt_str_dupz(version);
    name->version_len = (uint32_t)version.len;
    name->is_held = true;
}

static void set_not_held(struct lt_ads_client_name *name)
{
    free(name->version);
    name->version = NULL;
    name->version_len = 0;
    name->is_held = false;
}

lt_rc lt_ads_watch_subscribe(struct lt_ads_watch *watch, lt_str text)
{
    struct lt_ads_client_name *name = NULL;
    LT_TRY(put_name(watch, text, &name));
    if (!name->is_subscribed)
        set_change(watch, name, true, false);
    name->is_subscribed = true;
    return LT_OK;
}

lt_rc lt_ads_watch_refresh(struct lt_ads_watch *watch, lt_str text)
{
    LT_TRY(lt_ads_watch_subscribe(watch, text));
    set_change(watch, lt_map_find(&watch->names, text), true, false);
    return LT_OK;
}

void lt_ads_watch_unsubscribe(struct lt_ads_watch *watch, lt_str text)
{
    struct lt_ads_client_name *name = lt_map_find(&watch->names, text);
    if (name == NULL || !name->is_subscribed)
        return;
    name->is_subscribed = false;
    if (!watch->is_wildcard)
        set_not_held(name);
    bool is_known_there = watch->is_asked && !name->is_joining;
    set_change(watch, name, false, is_known_there);
    if (!is_known_there && !name->is_held)
        drop_name(watch, name);
}

bool lt_ads_watch_is_subscribed(const struct lt_ads_watch *watch, lt_str text)
{
    const struct lt_ads_client_name *name = lt_map_find(&watch->names, text);
    return name != NULL && name->is_subscribed;
}

lt_rc lt_ads_watch_preload(struct lt_ads_watch *watch, lt_str text, lt_str version)
{
    struct lt_ads_client_name *name = NULL;
    LT_TRY(put_name(watch, text, &name));
    set_held(name, version);
    name->is_present = watch->is_wildcard;
    return LT_OK;
}

void lt_ads_watch_pause(struct lt_ads_watch *watch)
{
    watch->is_paused = true;
}

void lt_ads_watch_resume(struct lt_ads_watch *watch)
{
    watch->is_paused = false;
}

lt_rc lt_ads_watch_version(const struct lt_ads_watch *watch, lt_str text, lt_str *ret_version)
{
    const struct lt_ads_client_name *name = lt_map_find(&watch->names, text);
    if (name == NULL || !name->is_held)
        return LT_E_NOT_FOUND;
    *ret_version = lt_str_make(name->version, name->version_len);
    return LT_OK;
}

/* --- streams --- */

static void set_text(char **text, lt_str s)
{
    free(*text);
    *text = s.len == 0 ? NULL : lt_str_dupz(s);
}

/* Forgets what is still to be told; names that only waited for that go. */
static void clear_changes(struct lt_ads_watch *watch)
{
    for (size_t i = 0; i < watch->names.count && watch->changes > 0;) {
        struct lt_ads_client_name *name = watch->names.entries[i].value;
        set_change(watch, name, false, false);
        if (!name->is_subscribed && !name->is_held)
            drop_name(watch, name); /* the last entry takes its place */
        else
            i++;
    }
}

void lt_ads_client_open(struct lt_ads_client *client)
{
    lt_ads_client_close(client);
    client->is_open = true;
    client->has_sent_node = false;
    for (uint32_t i = 0; i < client->watch_count; i++) {
        struct lt_ads_watch *watch = client->watches[i];
        drop_list(&watch->pending);
        watch->pending_count = 0;
    }
}

void lt_ads_client_close(struct lt_ads_client *client)
{
    client->is_open = false;
    for (uint32_t i = 0; i < client->watch_count; i++) {
        struct lt_ads_watch *watch = client->watches[i];
        drop_list(&watch->answers);
        set_text(&watch->nonce, LT_STR_NULL);
        watch->is_asked = false;
    }
}

/* --- requests --- */

size_t lt_ads_subscribed_count(const struct lt_ads_watch *watch)
{
    size_t count = 0;
    for (size_t i = 0; i < watch->names.count; i++)
        count += ((const struct lt_ads_client_name *)watch->names.entries[i].value)->is_subscribed;
    return count;
}

static lt_rc put_oldest_answer(struct lt_ads_watch *watch, struct lt_buf *out)
{
    struct lt_ads_answer *answer = lt_list_first(&watch->answers, struct lt_ads_answer, link);
    LT_TRY(watch->client->form->put_answer(watch, answer, out));
    lt_list_remove(&answer->link);
    free(answer);
    return LT_OK;
}

static bool has_next(const struct lt_ads_watch *watch)
{
    if (watch->is_paused)
        return false;
    if (!watch->is_asked)
        return watch->is_wildcard || watch->takes_all || lt_ads_subscribed_count(watch) > 0;
    return !lt_list_is_empty(&watch->answers) || watch->changes > 0;
}

static lt_rc next_of_watch(struct lt_ads_watch *watch, struct lt_buf *out)
{
    const struct lt_ads_form *form = watch->client->form;
    if (!has_next(watch))
        return LT_AGAIN;
    if (!watch->is_asked) {
        LT_TRY(form->put_first(watch, out));
        watch->is_asked = true;
        clear_changes(watch);
        return LT_OK;
    }
    if (!lt_list_is_empty(&watch->answers)) {
        LT_TRY(put_oldest_answer(watch, out));
        if (form->is_sotw) /* an answer there has all names in it */
            clear_changes(watch);
        return LT_OK;
    }
    LT_TRY(form->put_changes(watch, out));
    clear_changes(watch);
    return LT_OK;
}

bool lt_ads_client_has_next(const struct lt_ads_client *client)
{
    for (uint32_t i = 0; i < client->watch_count && client->is_open; i++) {
        if (has_next(client->watches[i]))
            return true;
    }
    return false;
}

lt_rc lt_ads_client_next(struct lt_ads_client *client, struct lt_buf *out)
{
    for (uint32_t i = 0; i < client->watch_count && client->is_open; i++) {
        lt_rc rc = next_of_watch(client->watches[i], out);
        if (rc == LT_OK)
            client->has_sent_node = true;
        if (rc != LT_AGAIN)
            return rc;
    }
    return LT_AGAIN;
}

/* --- a response: taking it in --- */

static bool has_doubles(struct lt_ads_client *client)
{
    bool found = false;
    lt_map_clear(&client->seen);
    for (size_t i = 0; i < client->view_count; i++)
        found |= lt_map_put(&client->seen, client->views[i].name, client) != NULL;
    for (size_t i = 0; i < client->removed.count; i++)
        found |= lt_map_put(&client->seen, client->removed.items[i], client) != NULL;
    /* a large table is not kept: the first push is by far the largest */
    lt_map_fini(&client->seen);
    return found;
}

/* What nobody asked for (any more) is left out: an unsubscription may cross a push. */
static void leave_out_unasked(struct lt_ads_watch *watch)
{
    struct lt_ads_client *client = watch->client;
    if (watch->is_wildcard || watch->takes_all)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < client->view_count; i++) {
        if (lt_ads_watch_is_subscribed(watch, client->views[i].name))
            client->views[kept++] = client->views[i];
    }
    client->update.unasked_count = client->view_count - kept;
    client->view_count = kept;
    kept = 0;
    for (size_t i = 0; i < client->removed.count; i++) {
        if (lt_ads_watch_is_subscribed(watch, client->removed.items[i]))
            client->removed.items[kept++] = client->removed.items[i];
    }
    client->removed.count = kept;
}

/*
 * State of the world: what was there in the last response and isn't in this one has gone. A set is
 * whole only of a wildcard type; of others a response may have any part of what was asked for.
 */
static lt_rc find_gone(struct lt_ads_watch *watch)
{
    struct lt_ads_client *client = watch->client;
    for (size_t i = 0; i < client->view_count; i++) {
        struct lt_ads_client_name *name = NULL;
        LT_TRY(put_name(watch, client->views[i].name, &name));
        name->is_seen = true;
    }
    for (size_t i = 0; i < watch->names.count; i++) {
        struct lt_ads_client_name *name = watch->names.entries[i].value;
        if (name->is_present && !name->is_seen)
            lt_ads_strs_add(&client->removed, name->text);
        name->is_present = name->is_seen;
        name->is_seen = false;
    }
    return LT_OK;
}

static void queue_answer(struct lt_ads_watch *watch, lt_str nonce, bool is_nack, lt_str error)
{
    if (watch->client->form->is_sotw) {
        drop_list(&watch->answers); /* one request stands for them all */
        set_text(&watch->nonce, nonce);
    }
    error = lt_str_slice(error, 0, LT_ADS_ERROR_BYTES_MAX);
    struct lt_ads_answer *answer = lt_malloc(sizeof(*answer) + nonce.len + error.len);
    lt_list_init(&answer->link);
    answer->is_nack = is_nack;
    answer->nonce = lt_str_make(answer->bytes, nonce.len);
    answer->error = lt_str_make(answer->bytes + nonce.len, error.len);
    if (nonce.len > 0)
        memcpy(answer->bytes, nonce.ptr, nonce.len);
    if (error.len > 0)
        memcpy(answer->bytes + nonce.len, error.ptr, error.len);
    /* a server's parser refuses what is not UTF-8, and the stream with it */
    bool is_utf8 = lt_str_is_utf8(error);
    for (size_t i = nonce.len; i < nonce.len + error.len && !is_utf8; i++) {
        if ((uint8_t)answer->bytes[i] >= 0x80)
            answer->bytes[i] = '?';
    }
    lt_list_push_back(&watch->answers, &answer->link);
}

static lt_str copy_to(char **at, lt_str s)
{
    lt_str copy = {*at, s.len};
    if (s.len > 0)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return copy;
}

/* What lt_ads_client_ack needs of the update, when the message is long gone. */
static struct pending *keep_pending(struct lt_ads_watch *watch)
{
    struct lt_ads_client *client = watch->client;
    size_t resources = client->view_count, removed = client->removed.count,
           bytes = client->update.nonce.len;
    for (size_t i = 0; i < resources; i++)
        bytes += client->views[i].name.len + client->views[i].version.len;
    for (size_t i = 0; i < removed; i++)
        bytes += client->removed.items[i].len;
    bytes += client->update.system_version.len;
    size_t slices = resources * 2 + removed;
    struct pending *pending = lt_malloc(sizeof(*pending) + slices * sizeof(lt_str) + bytes);
    char *at = (char *)(pending + 1) + slices * sizeof(lt_str);
    *pending = (struct pending){
        .ticket = ++client->tickets << TICKET_TYPE_BITS | watch->index,
        .nonce = copy_to(&at, client->update.nonce),
        .system_version = copy_to(&at, client->update.system_version),
        .resource_count = resources,
        .removed_count = removed,
        .names = (lt_str *)(pending + 1),
    };
    pending->versions = pending->names + resources + removed;
    for (size_t i = 0; i < resources; i++) {
        pending->names[i] = copy_to(&at, client->views[i].name);
        pending->versions[i] = copy_to(&at, client->views[i].version);
    }
    for (size_t i = 0; i < removed; i++)
        pending->names[resources + i] = copy_to(&at, client->removed.items[i]);
    lt_list_push_back(&watch->pending, &pending->link);
    watch->pending_count++;
    return pending;
}

/* The list of aliases has stopped moving. Views that were left out have theirs in it, too. */
static void place_aliases(struct lt_ads_client *client)
{
    for (size_t i = 0; i < client->view_count; i++) {
        struct lt_ads_resource_view *view = &client->views[i];
        view->aliases = client->aliases.count > 0 ? client->aliases.items + view->alias_start
                                                  : NULL;
    }
}

_Static_assert(LT_ADS_TYPES_MAX <= 1 << TICKET_TYPE_BITS, "a ticket holds the type's index");

static lt_rc take_response(struct lt_ads_client *client, struct lt_ads_watch *watch,
                           struct lt_err *err)
{
    struct lt_ads_update *update = &client->update;
    if (watch->pending_count >= client->pending_max)
        return lt_err_set(err, LT_E_LIMIT, "the server sends without waiting for answers");
    if (has_doubles(client)) {
        queue_answer(watch, update->nonce, true,
                     LT_STR("a resource name occurs twice in one response"));
        return lt_err_set(err, LT_E_EXISTS, "a resource name occurs twice in one response");
    }
    leave_out_unasked(watch);
    if (client->form->is_sotw && watch->is_wildcard && find_gone(watch) != LT_OK)
        return lt_err_set(err, LT_E_LIMIT, "a response has more names than may be held");
    const struct pending *pending = keep_pending(watch);
    place_aliases(client);
    update->watch = watch;
    update->ticket = pending->ticket;
    update->resources = client->views;
    update->resource_count = client->view_count;
    update->removed = pending->names + pending->resource_count;
    update->removed_count = client->removed.count;
    return LT_OK;
}

lt_rc lt_ads_client_feed(struct lt_ads_client *client, lt_str message,
                         const struct lt_ads_update **ret_update, struct lt_err *err)
{
    lt_str type_url = LT_STR_NULL;
    client->update = (struct lt_ads_update){0};
    client->view_count = client->removed.count = client->aliases.count = 0;
    lt_rc rc = client->form->read(client, message, &type_url);
    if (rc == LT_E_LIMIT)
        return lt_err_set(err, rc, "a response has more names than may be held");
    if (rc != LT_OK)
        return lt_err_set(err, rc, "the bytes are no discovery response");
    struct lt_ads_watch *watch = lt_ads_client_find(client, type_url);
    if (watch == NULL || !watch->is_asked)
        return lt_err_set(err, LT_E_NOT_FOUND, "nobody asked for type %.*s", LT_STR_ARG(type_url));
    LT_TRY(take_response(client, watch, err));
    *ret_update = &client->update;
    return LT_OK;
}

/* --- answers --- */

static struct pending *find_pending(struct lt_ads_client *client, uint64_t ticket,
                                    struct lt_ads_watch **ret_watch)
{
    uint32_t index = ticket & ((1u << TICKET_TYPE_BITS) - 1);
    if (index >= client->watch_count)
        return NULL;
    struct lt_ads_watch *watch = client->watches[index];
    struct lt_list *link = NULL, *next = NULL;
    lt_list_each (&watch->pending, link, next) {
        struct pending *pending = LT_CONTAINER_OF(link, struct pending, link);
        if (pending->ticket == ticket) {
            *ret_watch = watch;
            return pending;
        }
    }
    return NULL;
}

static bool is_among(const lt_str *list, size_t count, lt_str s)
{
    for (size_t i = 0; i < count; i++) {
        if (lt_str_eq(list[i], s))
            return true;
    }
    return false;
}

static void hold_resource(struct lt_ads_watch *watch, lt_str text, lt_str version)
{
    struct lt_ads_client_name *name = lt_map_find(&watch->names, text);
    if (name == NULL && !watch->is_wildcard && !watch->takes_all)
        return; /* unsubscribed meanwhile */
    if (name == NULL && put_name(watch, text, &name) != LT_OK)
        return; /* over the limit: not reported at a reconnect, so the server sends it again */
    if (watch->is_wildcard || watch->takes_all || name->is_subscribed)
        set_held(name, version);
}

static void forget_resource(struct lt_ads_watch *watch, lt_str text)
{
    struct lt_ads_client_name *name = lt_map_find(&watch->names, text);
    if (name == NULL)
        return;
    set_not_held(name);
    if (!name->is_subscribed && !name->is_leaving)
        drop_name(watch, name);
}

/* Holds what was taken, and lets the pending response go. */
static void close_pending(struct lt_ads_watch *watch, struct pending *pending,
                          const lt_str *refused, size_t count)
{
    for (size_t i = 0; i < pending->resource_count; i++) {
        if (!is_among(refused, count, pending->names[i]))
            hold_resource(watch, pending->names[i], pending->versions[i]);
    }
    for (size_t i = 0; i < pending->removed_count; i++)
        forget_resource(watch, pending->names[pending->resource_count + i]);
}

static void drop_pending(struct lt_ads_watch *watch, struct pending *pending)
{
    lt_list_remove(&pending->link);
    watch->pending_count--;
    free(pending);
}

void lt_ads_client_ack(struct lt_ads_client *client, uint64_t ticket)
{
    struct lt_ads_watch *watch = NULL;
    struct pending *pending = find_pending(client, ticket, &watch);
    if (pending == NULL)
        return;
    close_pending(watch, pending, NULL, 0);
    if (client->form->is_sotw)
        set_text(&watch->version, pending->system_version);
    if (watch->is_asked)
        queue_answer(watch, pending->nonce, false, LT_STR_NULL);
    drop_pending(watch, pending);
}

void lt_ads_client_nack(struct lt_ads_client *client, uint64_t ticket, lt_str text,
                        const lt_str *refused, size_t count)
{
    struct lt_ads_watch *watch = NULL;
    struct pending *pending = find_pending(client, ticket, &watch);
    if (pending == NULL)
        return;
    if (count > 0)
        close_pending(watch, pending, refused, count);
    if (watch->is_asked)
        queue_answer(watch, pending->nonce, true, text);
    drop_pending(watch, pending);
}
