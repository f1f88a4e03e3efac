/*
 * wire/ads_client_sotw.c - the messages of state of the world, as a client writes and reads them.
 * Each request says everything: all names, the version that was taken last, the nonce that was
 * answered last; so a later one stands for an earlier one. Resources have no name around them: it
 * is their first field, whatever the type.
 * Trust: responses are a stranger's.
 */
#include "wire/ads_client_priv.h"

/* envoy.service.discovery.v3.DiscoveryRequest, DiscoveryResponse */
enum {
    REQUEST_VERSION = 1,
    REQUEST_NODE = 2,
    REQUEST_NAME = 3,
    REQUEST_TYPE_URL = 4,
    REQUEST_NONCE = 5,
    REQUEST_ERROR = 6,
    RESPONSE_VERSION = 1,
    RESPONSE_RESOURCE = 2,
    RESPONSE_TYPE_URL = 4,
    RESPONSE_NONCE = 5,
    RESPONSE_CONTROL_PLANE = 6,
};
#define RESOURCE_TYPE "type.googleapis.com/envoy.service.discovery.v3.Resource"

/* --- requests --- */

static lt_rc put_names(const struct lt_ads_watch *watch, struct lt_buf *out)
{
    if (watch->is_wildcard && lt_ads_subscribed_count(watch) > 0)
        LT_TRY(lt_ads_put_bytes(out, REQUEST_NAME, LT_STR("*")));
    for (size_t i = 0; i < watch->names.count; i++) {
        const struct lt_ads_client_name *name = watch->names.entries[i].value;
        if (name->is_subscribed)
            LT_TRY(lt_ads_put_bytes(out, REQUEST_NAME, name->text));
    }
    return LT_OK;
}

static lt_rc put_request(const struct lt_ads_watch *watch, struct lt_buf *out)
{
    const struct lt_ads_client *client = watch->client;
    if (watch->version != NULL)
        LT_TRY(lt_ads_put_bytes(out, REQUEST_VERSION, lt_str_of(watch->version)));
    if ((!client->has_sent_node || client->says_node_always) && client->node.len > 0)
        LT_TRY(lt_ads_put_bytes(out, REQUEST_NODE, client->node));
    LT_TRY(put_names(watch, out));
    LT_TRY(lt_ads_put_bytes(out, REQUEST_TYPE_URL, lt_ads_watch_type(watch)));
    return watch->nonce == NULL ? LT_OK
                                : lt_ads_put_bytes(out, REQUEST_NONCE, lt_str_of(watch->nonce));
}

static lt_rc put_any(struct lt_ads_watch *watch, struct lt_buf *out)
{
    return put_request(watch, out);
}

static lt_rc put_answer(struct lt_ads_watch *watch, const struct lt_ads_answer *answer,
                        struct lt_buf *out)
{
    LT_TRY(put_request(watch, out));
    return answer->is_nack ? lt_ads_put_error(out, REQUEST_ERROR, answer->error) : LT_OK;
}

/* --- responses --- */

/* Istio's own two types have one resource, without a name. */
static bool has_name(lt_str type_url)
{
    return !lt_str_starts(type_url, LT_STR("type.googleapis.com/istio."));
}

lt_str lt_ads_name_of(lt_str type_url, lt_str value)
{
    struct lt_ads_field field;
    lt_str name = LT_STR("");
    while (has_name(type_url) && lt_ads_field_next(&value, &field) == LT_OK) {
        if (field.number == 1)
            return lt_ads_field_text(&field, LT_ADS_NAME_BYTES_MAX, &name) == LT_OK ? name
                                                                                    : LT_STR("");
    }
    return name;
}

static lt_rc read_resource(struct lt_ads_client *client, const struct lt_ads_field *field)
{
    struct lt_ads_resource_view view = {
        .name = LT_STR(""), .version = LT_STR(""), .alias_start = client->aliases.count};
    if (field->wire != LT_ADS_WIRE_BYTES)
        return LT_E_BAD;
    view.has_body = true;
    LT_TRY(lt_ads_read_any(field->bytes, &view));
    if (lt_str_eqz(view.type_url, RESOURCE_TYPE)) {
        lt_str wrapped = view.value;
        view.has_body = false;
        view.type_url = view.value = LT_STR_NULL;
        LT_TRY(lt_ads_read_resource(client, wrapped, &view));
    }
    if (view.name.len == 0 && view.has_body)
        view.name = lt_ads_name_of(view.type_url, view.value);
    return lt_ads_add_view(client, &view);
}

static lt_rc read_field(struct lt_ads_client *client, const struct lt_ads_field *field,
                        lt_str *ret_type)
{
    struct lt_ads_update *update = &client->update;
    switch (field->number) {
    case RESPONSE_VERSION:
        return lt_ads_field_text(field, LT_ADS_VERSION_BYTES_MAX, &update->system_version);
    case RESPONSE_RESOURCE: return read_resource(client, field);
    case RESPONSE_TYPE_URL: return lt_ads_field_text(field, LT_ADS_NAME_BYTES_MAX, ret_type);
    case RESPONSE_NONCE: return lt_ads_field_text(field, LT_ADS_NONCE_BYTES_MAX, &update->nonce);
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
    if (rc != LT_EOF)
        return rc;
    for (size_t i = 0; i < client->view_count; i++) {
        if (client->views[i].version.len == 0)
            client->views[i].version = client->update.system_version;
    }
    return LT_OK;
}

const struct lt_ads_form lt_ads_form_sotw = {.put_first = put_any,
                                             .put_answer = put_answer,
                                             .put_changes = put_any,
                                             .read = read_response,
                                             .is_sotw = true};
