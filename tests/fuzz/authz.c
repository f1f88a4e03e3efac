/*
 * tests/fuzz/authz.c - aims at px_authz_read_grpc: a CheckResponse by whoever answers there. What
 * it makes of it must be fit for a head, or said to be invalid.
 */
#include "http/http.h"
#include "proxy/filter/ext_authz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_edits(const struct px_authz_edits *edits)
{
    for (size_t i = 0; i < edits->count; i++) {
        lt_str name = edits->items[i].name;
        bool is_pseudo = name.len > 0 && name.ptr[0] == ':';
        LT_ASSERT(lt_http_is_token(is_pseudo ? lt_str_from(name, 1) : name));
        LT_ASSERT(lt_http_is_field_value(edits->items[i].value));
        LT_ASSERT(!lt_str_eqz(name, "content-length") && !lt_str_eqz(name, "transfer-encoding"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct px_authz_answer answer;
    px_authz_read_grpc(arena, lt_str_make(data, size), &answer);
    check_edits(&answer.client);
    check_edits(&answer.host);
    check_edits(&answer.response);
    LT_ASSERT(answer.code == 0 || (answer.code >= 200 && answer.code <= 599));
    LT_ASSERT(answer.result == PX_AUTHZ_OK || answer.host.count + answer.response.count == 0);
    lt_arena_free(&arena);
    return 0;
}
