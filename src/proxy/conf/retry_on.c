/*
 * proxy/conf/retry_on.c - the words of retry policies.
 */
#include "proxy/conf/retry_on.h"

#include "proxy/conf/conf.h"

static const struct {
    const char *name;
    px_retry_words of;
    uint32_t bit;
} words[] = {
    {"5xx", PX_RETRY_WORDS_HTTP, PX_RETRY_5XX},
    {"gateway-error", PX_RETRY_WORDS_HTTP, PX_RETRY_GATEWAY_ERROR},
    {"reset", PX_RETRY_WORDS_HTTP, PX_RETRY_RESET},
    {"connect-failure", PX_RETRY_WORDS_HTTP, PX_RETRY_CONNECT_FAILURE},
    {"refused-stream", PX_RETRY_WORDS_HTTP, PX_RETRY_REFUSED_STREAM},
    {"retriable-4xx", PX_RETRY_WORDS_HTTP, PX_RETRY_4XX},
    {"retriable-status-codes", PX_RETRY_WORDS_HTTP, PX_RETRY_STATUS_CODES},
    {"reset-before-request", PX_RETRY_WORDS_HTTP, PX_RETRY_RESET_BEFORE_REQUEST},
    {"retriable-headers", PX_RETRY_WORDS_HTTP, PX_RETRY_HEADERS},
    {"envoy-ratelimited", PX_RETRY_WORDS_HTTP, PX_RETRY_RATE_LIMITED},
    {"http3-post-connect-failure", PX_RETRY_WORDS_HTTP, 0}, /* what cannot happen here */
    {"cancelled", PX_RETRY_WORDS_GRPC, PX_RETRY_GRPC_CANCELLED},
    {"unavailable", PX_RETRY_WORDS_GRPC, PX_RETRY_GRPC_UNAVAILABLE},
    {"deadline-exceeded", PX_RETRY_WORDS_GRPC, PX_RETRY_GRPC_DEADLINE},
    {"resource-exhausted", PX_RETRY_WORDS_GRPC, PX_RETRY_GRPC_EXHAUSTED},
    {"internal", PX_RETRY_WORDS_GRPC, PX_RETRY_GRPC_INTERNAL},
};

static bool add(lt_str name, px_retry_words of, uint32_t *bits)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(words); i++) {
        if ((words[i].of & of) == 0 || !lt_str_eqz(name, words[i].name))
            continue;
        *bits |= words[i].bit;
        return true;
    }
    return name.len == 0;
}

bool px_retry_on_parse(lt_str text, px_retry_words of, uint32_t *ret_bits)
{
    lt_str name;
    bool are_all_known = true;
    *ret_bits = 0;
    while (lt_str_split(&text, ',', &name))
        are_all_known &= add(lt_str_trim(name), of, ret_bits);
    return are_all_known;
}
