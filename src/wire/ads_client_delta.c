/*
 * wire/ads_client_delta.c - the delta form's messages, as a client writes and reads them.
 * Trust: responses are a stranger's.
 */
#include "wire/ads_client_priv.h"
#include "wire/ads_delta.h"

/* envoy.service.discovery.v3.Resource; Any; Duration */
enum {
    RESOURCE_VERSION = 1,
    RESOURCE_ANY = 2,
    RESOURCE_NAME = 3,
    RESOURCE_ALIAS = 4,
    RESOURCE_TTL = 6,
    ANY_TYPE_URL = 1,
    ANY_VALUE = 2,
    DURATION_SECONDS = 1,
    DURATION_NANOS = 2,
    CONTROL_PLANE_IDENTIFIER = 1,
};
/* --- requests --- */

static lt_rc put_begin(struct lt_ads_watch *watch, struct lt_buf *out)
{
    const struct lt_ads_client *client = watch->client;
    if ((!client->has_sent_node || client->says_node_always) && client->node.len > 0)
        LT_TRY(lt_ads_put_bytes(out, REQUEST_NODE, client->node));
    return lt_ads_put_bytes(out, REQUEST_TYPE_URL, lt_ads_watch_type(watch));
}

/* The first of its type on this stream: everything that is wanted, and what is held. */
static lt_rc put_first(struct lt_ads_watch *watch, struct lt_buf *out)
{
    LT_TRY(put_begin(watch, out));
    /* an empty list is the wildcard; beside names it has to be said */
    if (watch->is_wildcard && lt_ads_subscribed_count(watch) > 0)
        LT_TRY(lt_ads_put_bytes(out, REQUEST_SUBSCRIBE, LT_STR("*")));
    for (size_t i = 0; i < watch->names.count; i++) {
        const struct lt_ads_client_name *name = watch->names.entries[i].value;
        if (name->is_subscribed)
            LT_TRY(lt_ads_put_bytes(out, REQUEST_SUBSCRIBE, name->text));
        if (name->is_held && (name->is_subscribed || watch->is_wildcard || watch->takes_all))
            LT_TRY(lt_ads_put_pair(out, REQUEST_INITIAL_VERSIONS, name->text,
                                   lt_str_make(name->version, name->version_len)));
    }
    return LT_OK;
}

lt_rc lt_ads_put_error(struct lt_buf *out, uint32_t number, lt_str text)
{
    struct lt_buf status;
    lt_buf_init(&status, LT_ADS_ERROR_BYTES_MAX + LT_ADS_HEAD_MAX * 2);
    lt_rc rc = lt_ads_put_varint(&status, STATUS_CODE, LT_ADS_NACK_CODE);
    if (rc == LT_OK)
        rc = lt_ads_put_bytes(&status, STATUS_MESSAGE, text);
    LT_ASSERT(rc == LT_OK);
    rc = lt_ads_put_bytes(out, number, lt_buf_str(&status));
    lt_buf_fini(&status);
    return rc;
}

static lt_rc put_answer(struct lt_ads_watch *watch, const struct lt_ads_answer *answer,
                        struct lt_buf *out)
{
    LT_TRY(put_begin(watch, out));
    LT_TRY(lt_ads_put_bytes(out, REQUEST_NONCE, answer->nonce));
    return answer->is_nack ? lt_ads_put_error(out, REQUEST_ERROR, answer->error) : LT_OK;
}

static lt_rc put_changes(struct lt_ads_watch *watch, struct lt_buf *out)
{
    LT_TRY(put_begin(watch, out));
    for (size_t i = 0; i < watch->names.count; i++) {
        const struct lt_ads_client_name *name = watch->names.entries[i].value;
        if (name->is_joining)
            LT_TRY(lt_ads_put_bytes(out, REQUEST_SUBSCRIBE, name->text));
        else if (name->is_leaving)
            LT_TRY(lt_ads_put_bytes(out, REQUEST_UNSUBSCRIBE, name->text));
    }
    return LT_OK;
}

/* --- responses --- */

lt_rc lt_ads_read_any(lt_str any, struct lt_ads_resource_view *view)
{
    struct lt_ads_field field;
    lt_rc rc = LT_OK;
    while ((rc = lt_ads_field_next(&any, &field)) == LT_OK) {
        if (field.number == ANY_TYPE_URL)
            LT_TRY(lt_ads_field_text(&field, LT_ADS_NAME_BYTES_MAX, &view->type_url));
        else if (field.number == ANY_VALUE && field.wire == LT_ADS_WIRE_BYTES)
            view->value = field.bytes;
    }
    return rc == LT_EOF ? LT_OK : rc;
}

static lt_rc read_ttl(lt_str duration, uint64_t *ret_ns)
{
    struct lt_ads_field field;
    uint64_t seconds = 0, nanos = 0;
    lt_rc rc = LT_OK;
    while ((rc = lt_ads_field_next(&duration, &field)) == LT_OK) {
        if (field.number == DURATION_SECONDS)
            seconds = field.value;
        else if (field.number == DURATION_NANOS)
            nanos = field.value;
    }
    /* 2^33 s are 272 years; more, or a negative one, is a mistake */
    if (rc != LT_EOF || seconds >> 33 != 0 || nanos > 999999999)
        return LT_E_BAD;
    *ret_ns = seconds * 1000000000 + nanos;
    return LT_OK;
}

static lt_rc read_resource_field(struct lt_ads_client *client, const struct lt_ads_field *field,
                                 struct lt_ads_resource_view *view)
{
    lt_str alias = LT_STR_NULL;
    switch (field->number) {
    case RESOURCE_VERSION:
        return lt_ads_field_text(field, LT_ADS_VERSION_BYTES_MAX, &view->version);
    case RESOURCE_NAME: return lt_ads_field_text(field, LT_ADS_NAME_BYTES_MAX, &view->name);
    case RESOURCE_ALIAS:
        LT_TRY(lt_ads_field_text(field, LT_ADS_NAME_BYTES_MAX, &alias));
        if (client->aliases.count >= client->names_max)
            return LT_E_LIMIT;
        lt_ads_strs_add(&client->aliases, alias);
        view->alias_count++;
        return LT_OK;
    case RESOURCE_ANY:
        view->has_body = true;
        return field->wire == LT_ADS_WIRE_BYTES ? lt_ads_read_any(field->bytes, view) : LT_E_BAD;
    case RESOURCE_TTL:
        return field->wire == LT_ADS_WIRE_BYTES ? read_ttl(field->bytes, &view->ttl_ns) : LT_E_BAD;
    default: return LT_OK;
    }
}

lt_rc lt_ads_read_resource(struct lt_ads_client *client, lt_str bytes,
                           struct lt_ads_resource_view *view)
{
    struct lt_ads_field inner;
    lt_rc rc = LT_OK;
    while ((rc = lt_ads_field_next(&bytes, &inner)) == LT_OK)
        LT_TRY(read_resource_field(client, &inner, view));
    return rc == LT_EOF ? LT_OK : rc;
}

lt_rc lt_ads_add_view(struct lt_ads_client *client, const struct lt_ads_resource_view *view)
{
    if (client->view_count >= client->names_max)
        return LT_E_LIMIT;
    if (client->view_count == client->view_cap) {
        client->view_cap = client->view_cap == 0 ? 64 : client->view_cap * 2;
        client->views = lt_realloc(client->views, client->view_cap * sizeof(*client->views));
    }
    client->views[client->view_count++] = *view;
    return LT_OK;
}

static lt_rc read_resource(struct lt_ads_client *client, const struct lt_ads_field *field)
{
    struct lt_ads_resource_view view = {
        .name = LT_STR(""), .version = LT_STR(""), .alias_start = client->aliases.count};
    if (field->wire != LT_ADS_WIRE_BYTES)
        return LT_E_BAD;
    LT_TRY(lt_ads_read_resource(client, field->bytes, &view));
    return lt_ads_add_view(client, &view);
}

static lt_rc read_removed(struct lt_ads_client *client, const struct lt_ads_field *field)
{
    lt_str name = LT_STR_NULL;
    LT_TRY(lt_ads_field_text(field, LT_ADS_NAME_BYTES_MAX, &name));
    if (client->removed.count >= client->names_max)
        return LT_E_LIMIT;
    lt_ads_strs_add(&client->removed, name);
    return LT_OK;
}

lt_rc lt_ads_read_control_plane(const struct lt_ads_field *field, lt_str *ret_identifier)
{
    struct lt_ads_field inner;
    lt_str rest = field->bytes;
    lt_rc rc = LT_OK;
    if (field->wire != LT_ADS_WIRE_BYTES)
        return LT_E_BAD;
    while ((rc = lt_ads_field_next(&rest, &inner)) == LT_OK) {
        if (inner.number == CONTROL_PLANE_IDENTIFIER && inner.wire == LT_ADS_WIRE_BYTES)
            *ret_identifier = inner.bytes;
    }
    return rc == LT_EOF ? LT_OK : rc;
}

static lt_rc read_field(struct lt_ads_client *client, const struct lt_ads_field *field,
                        lt_str *ret_type)
{
    struct lt_ads_update *update = &client->update;
    switch (field->number) {
    case RESPONSE_SYSTEM_VERSION:
        return lt_ads_field_text(field, LT_ADS_VERSION_BYTES_MAX, &update->system_version);
    case RESPONSE_RESOURCE: return read_resource(client, field);
    case RESPONSE_TYPE_URL: return lt_ads_field_text(field, LT_ADS_NAME_BYTES_MAX, ret_type);
    case RESPONSE_NONCE: return lt_ads_field_text(field, LT_ADS_NONCE_BYTES_MAX, &update->nonce);
    case RESPONSE_REMOVED: return read_removed(client, field);
    case RESPONSE_CONTROL_PLANE: return lt_ads_read_control_plane(field, &update->control_plane);
    default: return LT_OK;
    }
}

static lt_rc read_response(struct lt_ads_client *client, lt_str message, lt_str *ret_type)
{
    struct lt_ads_field field;
    lt_rc rc = LT_OK;
    while ((rc = lt_ads_field_next(&message, &field)) == LT_OK)
        LT_TRY(read_field(client, &field, ret_type));
    return rc == LT_EOF ? LT_OK : rc;
}

const struct lt_ads_form lt_ads_form_delta = {.put_first = put_first,
                                              .put_answer = put_answer,
                                              .put_changes = put_changes,
                                              .read = read_response};
