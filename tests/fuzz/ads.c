/*
 * tests/fuzz/ads.c - aims at lt_ads_session_feed and _respond, lt_ads_client_feed, _ack, _nack and
 * _next. First byte: bit 0 the client's or the server's side, bit 1 the client's form. Then
 * messages, each behind its length (two bytes, big endian).
 */
#include "wire/ads.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool take_message(lt_str *rest, lt_str *ret_message)
{
    if (rest->len < 2)
        return false;
    size_t len = (size_t)(uint8_t)rest->ptr[0] << 8 | (uint8_t)rest->ptr[1];
    *rest = lt_str_from(*rest, 2);
    *ret_message = lt_str_slice(*rest, 0, len);
    *rest = lt_str_from(*rest, ret_message->len);
    return true;
}

/* Answers what was asked for; every third name is removed. */
static void answer(struct lt_ads_session *session, const struct lt_ads_request *request,
                   struct lt_rope *out)
{
    for (size_t i = 0; i < request->subscribed_count; i++) {
        struct lt_ads_resource *resource = lt_ads_resource_new(
            lt_ads_sub_type(request->sub), request->subscribed[i], LT_STR_NULL, LT_STR("value"));
        size_t is_removed = i % 3 == 2;
        lt_rc rc = lt_ads_session_respond(session, request->sub, &resource, 1 - is_removed,
                                          &request->subscribed[i], is_removed, LT_STR("1"), out,
                                          NULL);
        LT_ASSERT(rc == LT_OK || rc == LT_E_LIMIT);
        if (rc == LT_OK && !is_removed)
            LT_ASSERT(lt_ads_sub_has(request->sub, resource));
        lt_ads_resource_unref(&resource);
    }
}

static void check_sub(const struct lt_ads_sub *sub)
{
    LT_ASSERT(lt_ads_sub_settled_seq(sub) <= lt_ads_sub_sent_seq(sub));
    for (size_t i = 0; i < lt_ads_sub_count(sub); i++) {
        struct lt_ads_held held, again;
        lt_ads_sub_at(sub, i, &held);
        LT_ASSERT(lt_ads_sub_held(sub, held.name, &again) == LT_OK &&
                  again.name.ptr == held.name.ptr);
        LT_ASSERT(!held.is_pending || held.sent_seq > lt_ads_sub_settled_seq(sub));
    }
}

static void run_session(lt_str rest)
{
    struct lt_ads_session_opts opts = {.names_max = 1000};
    struct lt_ads_session *session = lt_ads_session_new(&opts);
    struct lt_rope out;
    lt_rope_init(&out, 1 << 20);
    lt_str message;
    while (take_message(&rest, &message)) {
        const struct lt_ads_request *request = NULL;
        struct lt_err err;
        lt_rc rc = lt_ads_session_feed(session, message, &request, &err);
        if (rc != LT_OK)
            break;
        answer(session, request, &out);
        check_sub(request->sub);
    }
    lt_rope_fini(&out);
    lt_ads_session_free(&session);
}

static void pull_requests(struct lt_ads_client *client)
{
    struct lt_buf buf;
    lt_buf_init(&buf, 1 << 20);
    for (int i = 0; i < 100 && lt_ads_client_next(client, &buf) == LT_OK; i++)
        lt_buf_clear(&buf, 1 << 16);
    lt_buf_fini(&buf);
}

static void run_client(lt_str rest, bool is_sotw)
{
    struct lt_ads_client_opts opts = {.names_max = 1000, .is_sotw = is_sotw};
    struct lt_ads_client *client = lt_ads_client_new(&opts);
    lt_ads_client_watch(client, LT_STR(LT_ADS_CLUSTER), true);
    lt_ads_watch_take_all(lt_ads_client_watch(client, LT_STR("v"), false));
    struct lt_ads_watch *eds = lt_ads_client_watch(client, LT_STR("e"), false);
    lt_rc rc = lt_ads_watch_subscribe(eds, LT_STR("a"));
    LT_ASSERT(rc == LT_OK);
    lt_ads_client_open(client);
    pull_requests(client);
    lt_str message;
    for (unsigned i = 0; take_message(&rest, &message); i++) {
        const struct lt_ads_update *update = NULL;
        struct lt_err err;
        rc = lt_ads_client_feed(client, message, &update, &err);
        for (size_t j = 0; rc == LT_OK && j < update->resource_count; j++)
            LT_ASSERT(update->resources[j].alias_count == 0 ||
                      update->resources[j].aliases != NULL);
        if (rc == LT_OK && i % 3 == 0)
            lt_ads_client_ack(client, update->ticket);
        else if (rc == LT_OK && i % 3 == 1 && update->resource_count > 0)
            lt_ads_client_nack(client, update->ticket, update->nonce, &update->resources[0].name,
                               1);
        else if (rc == LT_E_BAD)
            lt_ads_client_open(client); /* as its owner would: a new stream */
        pull_requests(client);
    }
    lt_ads_client_free(&client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    lt_str rest = lt_str_make(data + 1, size - 1);
    if (data[0] & 1)
        run_client(rest, (data[0] & 2) != 0);
    else
        run_session(rest);
    return 0;
}
