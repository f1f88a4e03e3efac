/*
 * proxy/conf/retry_on.h - the words of retry policies, in configurations and in headers.
 */
#ifndef LT_PROXY_CONF_RETRY_ON_H
#define LT_PROXY_CONF_RETRY_ON_H

#include "base/str.h"

typedef enum {
    PX_RETRY_WORDS_HTTP = 1, /* x-envoy-retry-on */
    PX_RETRY_WORDS_GRPC = 2, /* x-envoy-retry-grpc-on */
    PX_RETRY_WORDS_ALL = 3,  /* RetryPolicy.retry_on */
} px_retry_words;

/* "5xx,reset" to PX_RETRY_* in *ret_bits. False: a word is none of those; the others count. */
bool px_retry_on_parse(lt_str text, px_retry_words words, uint32_t *ret_bits);

#endif
