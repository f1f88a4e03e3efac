/*
 * proxy/http/steer.c - what headers of a request say about its timeouts and tries.
 */
#include "proxy/http/steer.h"

#include "proxy/conf/retry_on.h"

enum { CODES_MAX = 32, NAMES_MAX = 16, BACKOFF_BASE_MS = 25, BACKOFF_TIMES = 10 };

/* --- numbers --- */

static bool read_number(const struct px_request *request, lt_header_id id, uint64_t *ret_number)
{
    const struct lt_header *header = lt_headers_find(&request->head.headers, id);
    return header != NULL && lt_str_to_u64(header->value, ret_number) == LT_OK;
}

static bool take_number(struct px_request *request, lt_header_id id, uint64_t *ret_number)
{
    bool is_there = read_number(request, id, ret_number);
    lt_headers_remove(&request->head.headers, id);
    return is_there;
}

/* --- are they what they must be? --- */

static bool is_number(lt_str value)
{
    uint64_t number = 0;
    return lt_str_to_u64(value, &number) == LT_OK;
}

static bool is_retry_on(lt_str value)
{
    uint32_t bits = 0;
    return px_retry_on_parse(value, PX_RETRY_WORDS_HTTP, &bits);
}

static bool is_retry_grpc_on(lt_str value)
{
    uint32_t bits = 0;
    return px_retry_on_parse(value, PX_RETRY_WORDS_GRPC, &bits);
}

/* In the order of px_strict_header. */
static const struct {
    lt_header_id id;
    bool (*is_good)(lt_str value);
} checks[PX_STRICT_HEADERS] = {
    [PX_STRICT_TIMEOUT] = {LT_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, is_number},
    [PX_STRICT_PER_TRY] = {LT_H_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, is_number},
    [PX_STRICT_MAX_RETRIES] = {LT_H_X_ENVOY_MAX_RETRIES, is_number},
    [PX_STRICT_RETRY_ON] = {LT_H_X_ENVOY_RETRY_ON, is_retry_on},
    [PX_STRICT_RETRY_GRPC_ON] = {LT_H_X_ENVOY_RETRY_GRPC_ON, is_retry_grpc_on},
};

static void refuse(struct px_request *request, lt_str name, lt_str value)
{
    lt_str details = lt_arena_printf(request->arena, "request_headers_failed_strict_check{%.*s}",
                                     LT_STR_ARG(name));
    lt_str body = lt_arena_printf(request->arena, "invalid header '%.*s' with value '%.*s'",
                                  LT_STR_ARG(name), LT_STR_ARG(value));
    if (request->down->protocol == PX_PROTO_H1)
        request->conn->is_closing = true;
    px_request_reply(request, 400, PX_FLAG_INVALID_ENVOY_HEADERS,
                     lt_arena_strz(request->arena, details), body, "text/plain");
}

bool px_steer_check(struct px_request *request)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(checks); i++) {
        const struct lt_header *header = lt_headers_find(&request->head.headers, checks[i].id);
        bool is_checked = (request->hcm->router.strict_headers >> i & 1) != 0;
        if (!is_checked || header == NULL || checks[i].is_good(header->value))
            continue;
        refuse(request, lt_header_name(checks[i].id), header->value);
        return false;
    }
    return true;
}

/* --- times --- */

void px_steer_times(struct px_request *request)
{
    uint64_t number = 0;
    bool is_told = request->hcm->router.respects_expected_timeout &&
                   read_number(request, LT_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, &number);
    if (is_told || take_number(request, LT_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, &number))
        request->timeout_ms = number;
    if (!is_told)
        lt_headers_remove(&request->head.headers, LT_H_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS);
    /* series of somebody's choosing: no */
    lt_headers_remove(&request->head.headers, LT_H_X_ENVOY_UPSTREAM_ALT_STAT_NAME);
    if (take_number(request, LT_H_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, &number))
        request->try_timeout_ms = number;
    request->answers_timeout_with_204 =
        lt_headers_remove(&request->head.headers, LT_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE) >
        0;
}

/* --- tries --- */

static void read_codes(struct px_request *request, struct px_retry *retry)
{
    static const lt_str name = {"x-envoy-retriable-status-codes", 30};
    lt_str list = lt_headers_value_of(&request->head.headers, name), item;
    uint32_t *codes = lt_arena_make_n(request->arena, uint32_t,
                                      retry->status_code_count + CODES_MAX);
    size_t count = retry->status_code_count;
    if (list.len == 0)
        return;
    if (count > 0)
        memcpy(codes, retry->status_codes, count * sizeof(*codes));
    for (size_t i = 0; i < CODES_MAX && lt_str_split(&list, ',', &item); i++) {
        uint64_t code = 0;
        if (lt_str_to_u64(lt_str_trim(item), &code) == LT_OK && code < 1000)
            codes[count++] = (uint32_t)code;
    }
    retry->status_codes = codes;
    retry->status_code_count = count;
    lt_headers_remove_name(&request->head.headers, name);
}

static void read_names(struct px_request *request, struct px_retry *retry)
{
    static const lt_str name = {"x-envoy-retriable-header-names", 30};
    lt_str list = lt_headers_value_of(&request->head.headers, name), item;
    if (list.len == 0)
        return;
    struct px_header_match *matches = lt_arena_make_n(request->arena, struct px_header_match,
                                                      retry->response_header_count + NAMES_MAX);
    size_t count = retry->response_header_count;
    if (count > 0)
        memcpy(matches, retry->response_headers, count * sizeof(*matches));
    for (size_t i = 0; i < NAMES_MAX && lt_str_split(&list, ',', &item); i++) {
        matches[count].name = lt_arena_str(request->arena, lt_str_trim(item));
        matches[count].value.kind = PX_MATCH_PRESENT;
        matches[count++].present_value = true;
    }
    retry->response_headers = matches;
    retry->response_header_count = count;
    lt_headers_remove_name(&request->head.headers, name);
}

/* A policy of the request's own, over the route's. */
static struct px_retry *own_policy(struct px_request *request)
{
    struct px_retry *retry = lt_arena_make(request->arena, struct px_retry);
    if (request->retry != NULL)
        *retry = *request->retry;
    else
        *retry = (struct px_retry){.num_retries = 1,
                                   .backoff_base_ms = BACKOFF_BASE_MS,
                                   .backoff_max_ms = BACKOFF_TIMES * BACKOFF_BASE_MS,
                                   .host_attempts = 1};
    return retry;
}

void px_steer_retries(struct px_request *request)
{
    struct lt_headers *headers = &request->head.headers;
    uint32_t http = 0, grpc = 0;
    uint64_t number = 0;
    (void)px_retry_on_parse(lt_headers_value(headers, LT_H_X_ENVOY_RETRY_ON), PX_RETRY_WORDS_HTTP,
                            &http);
    (void)px_retry_on_parse(lt_headers_value(headers, LT_H_X_ENVOY_RETRY_GRPC_ON),
                            PX_RETRY_WORDS_GRPC, &grpc);
    lt_headers_remove(headers, LT_H_X_ENVOY_RETRY_ON);
    lt_headers_remove(headers, LT_H_X_ENVOY_RETRY_GRPC_ON);
    lt_headers_remove(headers, LT_H_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT);
    bool has_max = take_number(request, LT_H_X_ENVOY_MAX_RETRIES, &number);
    if (request->retry == NULL && (http | grpc) == 0)
        return;
    struct px_retry *retry = own_policy(request);
    retry->on |= http | grpc;
    if (has_max)
        retry->num_retries = (uint32_t)LT_MIN(number, UINT32_MAX);
    read_codes(request, retry);
    read_names(request, retry);
    request->retry = retry;
}
