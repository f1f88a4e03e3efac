/*
 * wire/ads_session.c - the server's side of one delta ADS stream: what was asked for, sent, and
 * acknowledged. Reading a request and taking it in are two steps: a broken one changes nothing.
 * Trust: requests are a stranger's.   Start at: lt_ads_session_feed(), lt_ads_session_respond().
 */
#include "wire/ads_delta.h"
#include "wire/ads_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAMES_MAX_DEFAULT = 1000000, NODE_BYTES_MAX_DEFAULT = 1 << 20 };

static const lt_str STAR = {"*", 1};

struct lt_ads_sub {
    struct lt_ads_session *session; /* borrowed */
    char *type_url;                 /* owned */
    size_t type_len;
    uint32_t index;
    uint32_t sent_seq;
    uint32_t settled_seq;
    uint32_t acked_seq;
    size_t pending_count; /* names whose is_pending is set */
    struct lt_ads_names names;
    bool is_wildcard;
};

/* A request as read, before anything is taken from it. */
struct parsed {
    lt_str node;
    lt_str type_url;
    lt_str nonce;
    lt_str error_text;
    uint32_t error_code;
    bool has_error;
};

struct lt_ads_session {
    struct lt_ads_session_opts opts;
    struct lt_ads_sub *subs[LT_ADS_TYPES_MAX]; /* owned */
    uint32_t sub_count;
    size_t name_count;             /* of all subs */
    struct lt_ads_request request; /* the last; its lists: */
    struct lt_ads_strs subscribe, unsubscribe, initial_names, initial_versions;
    struct lt_ads_strs subscribed, unsubscribed;
    struct lt_vec refused;  /* struct lt_ads_resource, counted */
    struct lt_vec suspects; /* struct lt_bytes, counted */
};

struct lt_ads_session *lt_ads_session_new(const struct lt_ads_session_opts *opts)
{
    struct lt_ads_session *session = lt_new(struct lt_ads_session);
    if (opts != NULL)
        session->opts = *opts;
    if (session->opts.names_max == 0)
        session->opts.names_max = NAMES_MAX_DEFAULT;
    if (session->opts.node_bytes_max == 0)
        session->opts.node_bytes_max = NODE_BYTES_MAX_DEFAULT;
    return session;
}

/* What the last NACK was about. */
static void forget_nack(struct lt_ads_session *session)
{
    while (session->refused.count > 0) {
        struct lt_ads_resource *resource = lt_vec_pop(&session->refused);
        lt_ads_resource_unref(&resource);
    }
    while (session->suspects.count > 0) {
        struct lt_bytes *name = lt_vec_pop(&session->suspects);
        lt_bytes_unref(&name);
    }
}

void lt_ads_session_free(struct lt_ads_session **session_ref)
{
    struct lt_ads_session *session = *session_ref;
    if (session == NULL)
        return;
    *session_ref = NULL;
    for (uint32_t i = 0; i < session->sub_count; i++) {
        lt_ads_names_fini(&session->subs[i]->names);
        free(session->subs[i]->type_url);
        free(session->subs[i]);
    }
    lt_ads_strs_fini(&session->subscribe);
    lt_ads_strs_fini(&session->unsubscribe);
    lt_ads_strs_fini(&session->initial_names);
    lt_ads_strs_fini(&session->initial_versions);
    lt_ads_strs_fini(&session->subscribed);
    lt_ads_strs_fini(&session->unsubscribed);
    forget_nack(session);
    lt_vec_fini(&session->refused);
    lt_vec_fini(&session->suspects);
    free(session);
}

/* --- reading --- */

static lt_rc read_error(lt_str status, struct parsed *parsed)
{
    struct lt_ads_field field;
    lt_rc rc = LT_OK;
    parsed->has_error = true;
    while ((rc = lt_ads_field_next(&status, &field)) == LT_OK) {
        if (field.number == STATUS_CODE && field.wire == LT_ADS_WIRE_VARINT)
            parsed->error_code = (uint32_t)field.value;
        else if (field.number == STATUS_MESSAGE && field.wire == LT_ADS_WIRE_BYTES)
            parsed->error_text = lt_str_slice(field.bytes, 0, LT_ADS_ERROR_BYTES_MAX);
    }
    return rc == LT_EOF ? LT_OK : rc;
}

static lt_rc read_name(const struct lt_ads_field *field, struct lt_ads_strs *list)
{
    lt_str name = LT_STR_NULL;
    LT_TRY(lt_ads_field_text(field, LT_ADS_NAME_BYTES_MAX, &name));
    lt_ads_strs_add(list, name);
    return LT_OK;
}

static lt_rc read_initial_version(struct lt_ads_session *session, const struct lt_ads_field *field)
{
    lt_str name, version;
    if (field->wire != LT_ADS_WIRE_BYTES)
        return LT_E_BAD;
    LT_TRY(lt_ads_pair_read(field->bytes, &name, &version));
    lt_ads_strs_add(&session->initial_names, name);
    lt_ads_strs_add(&session->initial_versions, version);
    return LT_OK;
}

static lt_rc read_field(struct lt_ads_session *session, const struct lt_ads_field *field,
                        struct parsed *parsed)
{
    size_t names = session->subscribe.count + session->unsubscribe.count +
                   session->initial_names.count;
    if (names > (size_t)session->opts.names_max * 2)
        return LT_E_LIMIT;
    switch (field->number) {
    case REQUEST_NODE:
        if (field->wire != LT_ADS_WIRE_BYTES || field->bytes.len > session->opts.node_bytes_max)
            return LT_E_BAD;
        parsed->node = field->bytes;
        return LT_OK;
    case REQUEST_TYPE_URL:
        return lt_ads_field_text(field, LT_ADS_NAME_BYTES_MAX, &parsed->type_url);
    case REQUEST_SUBSCRIBE: return read_name(field, &session->subscribe);
    case REQUEST_UNSUBSCRIBE: return read_name(field, &session->unsubscribe);
    case REQUEST_INITIAL_VERSIONS: return read_initial_version(session, field);
    case REQUEST_NONCE: return lt_ads_field_text(field, LT_ADS_NONCE_BYTES_MAX, &parsed->nonce);
    case REQUEST_ERROR:
        return field->wire == LT_ADS_WIRE_BYTES ? read_error(field->bytes, parsed) : LT_E_BAD;
    default: return LT_OK;
    }
}

static lt_rc read_request(struct lt_ads_session *session, lt_str message, struct parsed *parsed)
{
    struct lt_ads_field field;
    lt_rc rc = LT_OK;
    session->subscribe.count = session->unsubscribe.count = 0;
    session->initial_names.count = session->initial_versions.count = 0;
    while ((rc = lt_ads_field_next(&message, &field)) == LT_OK)
        LT_TRY(read_field(session, &field, parsed));
    if (rc != LT_EOF)
        return rc;
    return parsed->type_url.len > 0 ? LT_OK : LT_E_BAD;
}

/* --- acknowledgement --- */

static void set_pending(struct lt_ads_sub *sub, struct lt_ads_name *entry, bool is_pending)
{
    if (entry->is_pending == is_pending)
        return;
    entry->is_pending = is_pending;
    sub->pending_count += is_pending ? 1 : (size_t)-1;
}

static void drop_name(struct lt_ads_sub *sub, struct lt_ads_name *entry)
{
    set_pending(sub, entry, false);
    sub->session->name_count--;
    lt_ads_names_remove(&sub->names, entry);
}

/* The client took what was sent. True: the entry is gone, another may stand in its place. */
static bool settle(struct lt_ads_sub *sub, struct lt_ads_name *entry)
{
    bool is_removal = entry->sent == NULL;
    set_pending(sub, entry, false);
    lt_ads_name_set_held(entry, entry->sent);
    entry->sent = NULL;
    if (is_removal && !entry->is_subscribed)
        drop_name(sub, entry);
    return is_removal && !entry->is_subscribed;
}

static void take_ack(struct lt_ads_sub *sub, uint32_t seq)
{
    sub->settled_seq = seq;
    for (size_t i = 0; i < sub->names.count && sub->pending_count > 0;) {
        struct lt_ads_name *entry = &sub->names.items[i];
        bool is_gone = entry->is_pending && entry->sent_seq <= seq && settle(sub, entry);
        i += is_gone ? 0 : 1;
    }
}

/*
 * Envoy writes "...<name>: <why>" for each refused cluster or listener, behind a blank or a new
 * line.
 */
static bool text_names(lt_str text, lt_str name)
{
    for (lt_str rest = text; name.len > 0 && rest.len > name.len;) {
        ptrdiff_t at = lt_str_find(rest, name);
        if (at < 0)
            return false;
        size_t begin = (size_t)(rest.ptr - text.ptr) + (size_t)at, end = begin + name.len;
        bool begins = begin == 0 || text.ptr[begin - 1] == ' ' || text.ptr[begin - 1] == '\n';
        if (begins && end < text.len && text.ptr[end] == ':')
            return true;
        rest = lt_str_from(rest, (size_t)at + 1);
    }
    return false;
}

/* The client has what it had before. */
static void refuse(struct lt_ads_session *session, struct lt_ads_sub *sub,
                   struct lt_ads_name *entry)
{
    set_pending(sub, entry, false);
    lt_vec_push(&session->refused, entry->sent);
    entry->sent = NULL;
}

/* It may have been taken or not. */
static void suspect(struct lt_ads_session *session, struct lt_ads_sub *sub,
                    struct lt_ads_name *entry)
{
    set_pending(sub, entry, false);
    lt_vec_push(&session->suspects, lt_bytes_ref(entry->name));
    lt_ads_resource_unref(&entry->sent);
}

/* How many were in the response; of those that its refusal names, refuses each. */
static size_t refuse_named(struct lt_ads_session *session, struct lt_ads_sub *sub, uint32_t seq,
                           lt_str text)
{
    size_t count = 0;
    for (size_t i = 0; i < sub->names.count; i++) {
        struct lt_ads_name *entry = &sub->names.items[i];
        if (!entry->is_pending || entry->sent_seq != seq)
            continue;
        count++;
        if (entry->sent != NULL && text_names(text, lt_bytes_str(entry->name)))
            refuse(session, sub, entry);
    }
    return count;
}

/*
 * What came before was taken. Of this response: what the text names is refused and the rest taken,
 * as Envoy does it. When it names nothing: the only one is refused, one of several can't be told
 * (but a removal alone, where nothing is left to be refused, is done with).
 */
static void take_nack(struct lt_ads_session *session, struct lt_ads_sub *sub, uint32_t seq,
                      lt_str text)
{
    take_ack(sub, seq - 1);
    sub->settled_seq = seq;
    size_t count = refuse_named(session, sub, seq, text);
    bool has_resource = false;
    for (size_t i = 0; i < sub->names.count && !has_resource; i++) {
        const struct lt_ads_name *entry = &sub->names.items[i];
        has_resource = entry->is_pending && entry->sent_seq == seq && entry->sent != NULL;
    }
    if (session->refused.count > 0 || !has_resource) {
        take_ack(sub, seq);
        return;
    }
    for (size_t i = 0; i < sub->names.count; i++) {
        struct lt_ads_name *entry = &sub->names.items[i];
        if (!entry->is_pending || entry->sent_seq != seq)
            continue;
        if (count == 1)
            refuse(session, sub, entry);
        else
            suspect(session, sub, entry);
    }
}

/* "<type>.<seq>", both as we wrote them. */
static bool read_nonce(const struct lt_ads_sub *sub, lt_str nonce, uint32_t *ret_seq)
{
    lt_str head = LT_STR_NULL;
    uint64_t index = 0, seq = 0;
    if (!lt_str_split(&nonce, '.', &head) || lt_str_to_u64(head, &index) != LT_OK ||
        index != sub->index || lt_str_to_u64(nonce, &seq) != LT_OK || seq <= sub->settled_seq ||
        seq > sub->sent_seq)
        return false;
    *ret_seq = (uint32_t)seq;
    return true;
}

static void take_nonce(struct lt_ads_session *session, struct lt_ads_sub *sub,
                       const struct parsed *parsed)
{
    struct lt_ads_request *request = &session->request;
    uint32_t seq = 0;
    request->error_code = parsed->error_code;
    request->error_text = parsed->error_text;
    if (request->is_first || (parsed->nonce.len == 0 && !parsed->has_error))
        return;
    if (!read_nonce(sub, parsed->nonce, &seq)) {
        request->is_stale = true;
        return;
    }
    request->seq = seq;
    request->is_nack = parsed->has_error;
    request->is_ack = !parsed->has_error;
    if (request->is_ack)
        sub->acked_seq = seq;
    if (request->is_ack)
        take_ack(sub, seq);
    else
        take_nack(session, sub, seq, parsed->error_text);
}

/* --- subscription --- */

/* NULL: too many names. */
static struct lt_ads_name *put_name(struct lt_ads_sub *sub, lt_str name, struct lt_bytes *shared)
{
    struct lt_ads_session *session = sub->session;
    size_t before = sub->names.count;
    if (session->name_count >= session->opts.names_max &&
        lt_ads_names_find(&sub->names, name) == NULL)
        return NULL;
    struct lt_ads_name *entry = lt_ads_names_put(&sub->names, name, shared);
    session->name_count += sub->names.count - before;
    return entry;
}

/* What the client had before this stream. */
static lt_rc take_initial_versions(struct lt_ads_session *session, struct lt_ads_sub *sub)
{
    for (size_t i = 0; i < session->initial_names.count; i++) {
        struct lt_ads_name *entry = put_name(sub, session->initial_names.items[i], NULL);
        if (entry == NULL)
            return LT_E_LIMIT;
        lt_ads_name_report(entry, lt_ads_version_hash(session->initial_versions.items[i]));
    }
    return LT_OK;
}

/*
 * A name that is asked for outside the first request is wanted whatever was sent before: the client
 * dropped it meanwhile, or lost it.
 */
static lt_rc subscribe(struct lt_ads_session *session, struct lt_ads_sub *sub, lt_str name)
{
    struct lt_ads_name *entry = put_name(sub, name, NULL);
    if (entry == NULL)
        return LT_E_LIMIT;
    entry->is_subscribed = true;
    if (!session->request.is_first) {
        set_pending(sub, entry, false);
        lt_ads_name_set_held(entry, NULL);
        lt_ads_resource_unref(&entry->sent);
    }
    lt_ads_strs_add(&session->subscribed, name);
    return LT_OK;
}

static void begin_wildcard(struct lt_ads_session *session, struct lt_ads_sub *sub)
{
    session->request.wildcard_began = !sub->is_wildcard;
    sub->is_wildcard = true;
}

static lt_rc take_subscribes(struct lt_ads_session *session, struct lt_ads_sub *sub)
{
    for (size_t i = 0; i < session->subscribe.count; i++) {
        if (lt_str_eq(session->subscribe.items[i], STAR))
            begin_wildcard(session, sub);
        else
            LT_TRY(subscribe(session, sub, session->subscribe.items[i]));
    }
    if (!session->request.is_first)
        return LT_OK;
    if (session->subscribe.count == 0)
        begin_wildcard(session, sub); /* the legacy way */
    /* by istiod's reading, what a client holds of a type it asks for by name it also wants */
    for (size_t i = 0; i < session->initial_names.count && !sub->is_wildcard; i++) {
        lt_str name = session->initial_names.items[i];
        if (!lt_ads_names_find(&sub->names, name)->is_subscribed)
            LT_TRY(subscribe(session, sub, name));
    }
    return LT_OK;
}

/* Without the wildcard only names count that were asked for. */
static void end_wildcard(struct lt_ads_session *session, struct lt_ads_sub *sub)
{
    session->request.wildcard_ended = sub->is_wildcard;
    sub->is_wildcard = false;
    for (size_t i = 0; i < sub->names.count;) {
        if (sub->names.items[i].is_subscribed)
            i++;
        else
            drop_name(sub, &sub->names.items[i]);
    }
}

static void take_unsubscribes(struct lt_ads_session *session, struct lt_ads_sub *sub)
{
    for (size_t i = 0; i < session->unsubscribe.count; i++) {
        lt_str name = session->unsubscribe.items[i];
        if (lt_str_eq(name, STAR)) {
            end_wildcard(session, sub);
            continue;
        }
        struct lt_ads_name *entry = lt_ads_names_find(&sub->names, name);
        if (entry == NULL || !entry->is_subscribed)
            continue;
        entry->is_subscribed = false;
        if (!sub->is_wildcard)
            drop_name(sub, entry);
        lt_ads_strs_add(&session->unsubscribed, name);
    }
}

/* --- a request --- */

struct lt_ads_sub *lt_ads_session_find(const struct lt_ads_session *session, lt_str type_url)
{
    for (uint32_t i = 0; i < session->sub_count; i++) {
        if (lt_str_eq(lt_ads_sub_type(session->subs[i]), type_url))
            return session->subs[i];
    }
    return NULL;
}

static struct lt_ads_sub *add_sub(struct lt_ads_session *session, lt_str type_url)
{
    if (session->sub_count == LT_ADS_TYPES_MAX)
        return NULL;
    struct lt_ads_sub *sub = lt_new(struct lt_ads_sub);
    sub->session = session;
    sub->type_url = lt_str_dupz(type_url);
    sub->type_len = type_url.len;
    sub->index = session->sub_count;
    session->subs[session->sub_count++] = sub;
    return sub;
}

static lt_rc take_request(struct lt_ads_session *session, const struct parsed *parsed)
{
    struct lt_ads_sub *sub = lt_ads_session_find(session, parsed->type_url);
    struct lt_ads_request *request = &session->request;
    *request = (struct lt_ads_request){.node = parsed->node, .is_first = sub == NULL};
    session->subscribed.count = session->unsubscribed.count = 0;
    forget_nack(session);
    if (sub == NULL)
        sub = add_sub(session, parsed->type_url);
    if (sub == NULL)
        return LT_E_LIMIT;
    request->sub = sub;
    take_nonce(session, sub, parsed);
    if (request->is_first)
        LT_TRY(take_initial_versions(session, sub));
    LT_TRY(take_subscribes(session, sub));
    take_unsubscribes(session, sub);
    request->reported_count = request->is_first ? session->initial_names.count : 0;
    request->subscribed = session->subscribed.items;
    request->subscribed_count = session->subscribed.count;
    request->unsubscribed = session->unsubscribed.items;
    request->unsubscribed_count = session->unsubscribed.count;
    request->refused = (struct lt_ads_resource *const *)session->refused.items;
    request->refused_count = session->refused.count;
    request->suspects = (struct lt_bytes *const *)session->suspects.items;
    request->suspect_count = session->suspects.count;
    return LT_OK;
}

lt_rc lt_ads_session_feed(struct lt_ads_session *session, lt_str message,
                          const struct lt_ads_request **ret_request, struct lt_err *err)
{
    struct parsed parsed = {0};
    lt_rc rc = read_request(session, message, &parsed);
    if (rc == LT_E_BAD)
        return lt_err_set(err, rc, "the bytes are no DeltaDiscoveryRequest with a type URL");
    if (rc == LT_OK)
        rc = take_request(session, &parsed);
    if (rc != LT_OK)
        return lt_err_set(err, rc, "more names or types than one stream may ask for");
    *ret_request = &session->request;
    return LT_OK;
}

/* --- a response --- */

static lt_rc add_head(struct lt_rope *rope, uint32_t number, size_t len)
{
    char head[LT_ADS_HEAD_MAX];
    return lt_rope_add(rope, lt_str_make(head, lt_ads_put_head(head, number, len)));
}

static lt_rc add_text(struct lt_rope *rope, uint32_t number, lt_str text)
{
    if (text.len == 0)
        return LT_OK;
    LT_TRY(add_head(rope, number, text.len));
    return lt_rope_add(rope, text);
}

static lt_rc build_response(const struct lt_ads_sub *sub, struct lt_ads_resource *const *resources,
                            size_t resource_count, const lt_str *removed, size_t removed_count,
                            lt_str system_version, struct lt_rope *out)
{
    char nonce[LT_ADS_NONCE_TEXT_MAX];
    LT_TRY(add_text(out, RESPONSE_SYSTEM_VERSION, system_version));
    for (size_t i = 0; i < resource_count; i++) {
        struct lt_bytes *body = &resources[i]->body;
        LT_TRY(add_head(out, RESPONSE_RESOURCE, body->len));
        LT_TRY(lt_rope_add_bytes(out, body, lt_bytes_str(body)));
    }
    LT_TRY(add_text(out, RESPONSE_TYPE_URL, lt_ads_sub_type(sub)));
    LT_TRY(add_text(out, RESPONSE_NONCE, lt_ads_sub_nonce(sub, sub->sent_seq + 1, nonce)));
    for (size_t i = 0; i < removed_count; i++) {
        LT_TRY(add_head(out, RESPONSE_REMOVED, removed[i].len));
        LT_TRY(lt_rope_add(out, removed[i]));
    }
    return LT_OK;
}

/* resource NULL: a removal. */
static void note_sent(struct lt_ads_sub *sub, struct lt_ads_name *entry,
                      struct lt_ads_resource *resource)
{
    set_pending(sub, entry, true);
    entry->sent_seq = sub->sent_seq;
    lt_ads_resource_unref(&entry->sent);
    entry->sent = resource != NULL ? lt_ads_resource_ref(resource) : NULL;
}

lt_rc lt_ads_session_respond(struct lt_ads_session *session, struct lt_ads_sub *sub,
                             struct lt_ads_resource *const *resources, size_t resource_count,
                             const lt_str *removed, size_t removed_count, lt_str system_version,
                             struct lt_rope *out, uint64_t *ret_seq)
{
    LT_ASSERT(sub->session == session && sub->sent_seq < UINT32_MAX);
    struct lt_rope rope;
    lt_rope_init(&rope, SIZE_MAX);
    lt_rc rc = build_response(sub, resources, resource_count, removed, removed_count,
                              system_version, &rope);
    if (rc == LT_OK)
        rc = lt_rope_move(out, &rope);
    lt_rope_fini(&rope);
    if (rc != LT_OK)
        return rc;
    sub->sent_seq++;
    for (size_t i = 0; i < resource_count; i++) {
        size_t before = sub->names.count;
        struct lt_bytes *name = resources[i]->name;
        note_sent(sub, lt_ads_names_put(&sub->names, lt_bytes_str(name), name), resources[i]);
        session->name_count += sub->names.count - before;
    }
    for (size_t i = 0; i < removed_count; i++) {
        struct lt_ads_name *entry = lt_ads_names_find(&sub->names, removed[i]);
        if (entry != NULL)
            note_sent(sub, entry, NULL);
    }
    if (ret_seq != NULL)
        *ret_seq = sub->sent_seq;
    return LT_OK;
}

/* --- questions --- */

lt_str lt_ads_sub_type(const struct lt_ads_sub *sub)
{
    return lt_str_make(sub->type_url, sub->type_len);
}

bool lt_ads_sub_is_wildcard(const struct lt_ads_sub *sub)
{
    return sub->is_wildcard;
}

bool lt_ads_sub_wants(const struct lt_ads_sub *sub, lt_str name)
{
    if (sub->is_wildcard)
        return true;
    const struct lt_ads_name *entry = lt_ads_names_find(&sub->names, name);
    return entry != NULL && entry->is_subscribed;
}

uint64_t lt_ads_sub_sent_seq(const struct lt_ads_sub *sub)
{
    return sub->sent_seq;
}

uint64_t lt_ads_sub_settled_seq(const struct lt_ads_sub *sub)
{
    return sub->settled_seq;
}

uint64_t lt_ads_sub_acked_seq(const struct lt_ads_sub *sub)
{
    return sub->acked_seq;
}

lt_str lt_ads_sub_nonce(const struct lt_ads_sub *sub, uint64_t seq, char out[LT_ADS_NONCE_TEXT_MAX])
{
    int len = seq == 0 ? 0
                       : snprintf(out, LT_ADS_NONCE_TEXT_MAX, "%u.%llu", sub->index,
                                  (unsigned long long)seq);
    return lt_str_make(out, (size_t)len);
}

static struct lt_ads_held held_of(const struct lt_ads_name *entry)
{
    bool is_known = entry->is_held && !entry->is_reported;
    return (struct lt_ads_held){
        .name = lt_bytes_str(entry->name),
        .is_subscribed = entry->is_subscribed,
        .is_held = entry->is_held,
        .is_pending = entry->is_pending,
        .held_version = is_known         ? entry->held.resource->version_hash
                        : entry->is_held ? entry->held.version
                                         : 0,
        .sent_seq = entry->sent_seq,
        .held = is_known ? entry->held.resource : NULL,
        .sent = entry->sent,
    };
}

lt_rc lt_ads_sub_held(const struct lt_ads_sub *sub, lt_str name, struct lt_ads_held *ret_held)
{
    const struct lt_ads_name *entry = lt_ads_names_find(&sub->names, name);
    if (entry == NULL)
        return LT_E_NOT_FOUND;
    *ret_held = held_of(entry);
    return LT_OK;
}

bool lt_ads_sub_has(const struct lt_ads_sub *sub, const struct lt_ads_resource *resource)
{
    const struct lt_ads_name *entry = lt_ads_names_find(&sub->names,
                                                        lt_ads_resource_name(resource));
    if (entry == NULL)
        return false;
    if (entry->is_pending)
        return entry->sent != NULL && entry->sent->version_hash == resource->version_hash;
    return entry->is_held && held_of(entry).held_version == resource->version_hash;
}

size_t lt_ads_sub_count(const struct lt_ads_sub *sub)
{
    return sub->names.count;
}

void lt_ads_sub_at(const struct lt_ads_sub *sub, size_t at, struct lt_ads_held *ret_held)
{
    LT_ASSERT(at < sub->names.count);
    *ret_held = held_of(&sub->names.items[at]);
}
