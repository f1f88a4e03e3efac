/*
 * proxy/compile/retry.c - RetryPolicy to px_retry. What it means for a failed try: retry.c.
 */
#include "proxy/compile/kinds.h"
#include "proxy/conf/retry_on.h"
#include "wire/proto/retry_omit_canary_hosts.pb-c.h"
#include "wire/proto/retry_omit_host_metadata.pb-c.h"
#include "wire/proto/retry_previous_hosts.pb-c.h"
#include "wire/proto/retry_previous_priorities.pb-c.h"

enum { BACKOFF_BASE_DEFAULT_MS = 25, RESET_MAX_DEFAULT_MS = 300 * 1000 };

static lt_rc avoid_metadata(struct px_build *build, const Pb__Any *any, struct px_retry *retry)
{
    Xds__OmitHostMetadataConfig *config = NULL;
    LT_TRY(px_unpack_any(build, "retry_policy.retry_host_predicate", any,
                         &xds__omit_host_metadata_config__descriptor, &config));
    return px_make_metadata_match(build, config->metadata_match, NULL, &retry->avoid_metas);
}

static lt_rc avoid_hosts(struct px_build *build, const Xds__RetryPolicy *policy,
                         struct px_retry *retry)
{
    for (size_t i = 0; i < policy->n_retry_host_predicate; i++) {
        const Xds__RetryPolicy__RetryHostPredicate *in = policy->retry_host_predicate[i];
        lt_str name = lt_str_of(in->name != NULL ? in->name : "");
        lt_str type = px_any_type(build, in->typed_config);
        if (lt_str_eqz(type, xds__omit_canary_hosts_predicate__descriptor.name))
            retry->avoid_canaries = true;
        else if (lt_str_eqz(type, xds__omit_host_metadata_config__descriptor.name))
            LT_TRY(avoid_metadata(build, in->typed_config, retry));
        else if (lt_str_eqz(name, "envoy.retry_host_predicates.previous_hosts") ||
                 lt_str_eqz(type, xds__previous_hosts_predicate__descriptor.name))
            retry->avoid_previous_hosts = true;
        else
            px_unhonoured(build, "retry_policy.retry_host_predicate");
    }
    return LT_OK;
}

static lt_rc wait_as_told(struct px_build *build,
                          const Xds__RetryPolicy__RateLimitedRetryBackOff *in,
                          struct px_retry *retry)
{
    if (in == NULL)
        return LT_OK;
    struct px_reset_header *headers = lt_arena_make_n(build->arena, struct px_reset_header,
                                                      in->n_reset_headers);
    for (size_t i = 0; i < in->n_reset_headers; i++) {
        headers[i].name = px_copy_lower(build, in->reset_headers[i]->name);
        headers[i].is_timestamp = in->reset_headers[i]->has_format &&
                                  in->reset_headers[i]->format != 0;
        if (headers[i].name.len == 0)
            return px_bad(build, "retry_policy.rate_limited_retry_back_off.reset_headers.name",
                          "is empty");
    }
    if (in->n_reset_headers == 0)
        return px_bad(build, "retry_policy.rate_limited_retry_back_off.reset_headers", "is empty");
    retry->reset_headers = headers;
    retry->reset_header_count = in->n_reset_headers;
    retry->reset_max_ms = px_duration_ms(in->max_interval, RESET_MAX_DEFAULT_MS);
    return LT_OK;
}

static lt_rc avoid_priorities(struct px_build *build, const Xds__RetryPolicy__RetryPriority *in,
                              struct px_retry *retry)
{
    if (in == NULL)
        return LT_OK;
    lt_str type = px_any_type(build, in->typed_config);
    if (!lt_str_eqz(type, xds__previous_priorities_config__descriptor.name)) {
        px_unhonoured(build, "retry_policy.retry_priority");
        return LT_OK;
    }
    Xds__PreviousPrioritiesConfig *config = NULL;
    LT_TRY(px_unpack_any(build, "retry_policy.retry_priority.typed_config", in->typed_config,
                         &xds__previous_priorities_config__descriptor, &config));
    if (config->update_frequency <= 0)
        return px_bad(build, "retry_policy.retry_priority.typed_config.update_frequency",
                      "must be greater than 0");
    retry->priority_every = (uint32_t)config->update_frequency;
    return LT_OK;
}

lt_rc px_make_retry(struct px_build *build, const Xds__RetryPolicy *policy,
                    const struct px_retry **ret_retry)
{
    *ret_retry = NULL;
    if (policy == NULL)
        return LT_OK;
    struct px_retry *retry = lt_arena_make(build->arena, struct px_retry);
    if (!px_retry_on_parse(lt_str_of(policy->retry_on != NULL ? policy->retry_on : ""),
                           PX_RETRY_WORDS_ALL, &retry->on))
        px_unhonoured(build, "retry_policy.retry_on");
    retry->num_retries = px_u32(policy->num_retries, 1);
    retry->per_try_timeout_ms = px_duration_ms(policy->per_try_timeout, 0);
    uint32_t *codes = lt_arena_make_n(build->arena, uint32_t, policy->n_retriable_status_codes);
    for (size_t i = 0; i < policy->n_retriable_status_codes; i++)
        codes[i] = policy->retriable_status_codes[i];
    retry->status_codes = codes;
    retry->status_code_count = policy->n_retriable_status_codes;
    retry->backoff_base_ms = BACKOFF_BASE_DEFAULT_MS;
    if (policy->retry_back_off != NULL)
        retry->backoff_base_ms = LT_MAX(
            px_duration_ms(policy->retry_back_off->base_interval, BACKOFF_BASE_DEFAULT_MS), 1u);
    retry->backoff_max_ms = retry->backoff_base_ms * 10;
    if (policy->retry_back_off != NULL)
        retry->backoff_max_ms = px_duration_ms(policy->retry_back_off->max_interval,
                                               retry->backoff_max_ms);
    retry->host_attempts = policy->has_host_selection_retry_max_attempts &&
                                   policy->host_selection_retry_max_attempts > 0
                               ? (uint32_t)LT_MIN(policy->host_selection_retry_max_attempts, 100)
                               : 1;
    LT_TRY(avoid_hosts(build, policy, retry));
    LT_TRY(wait_as_told(build, policy->rate_limited_retry_back_off, retry));
    LT_TRY(avoid_priorities(build, policy->retry_priority, retry));
    LT_TRY(px_make_header_matches(build, policy->retriable_headers, policy->n_retriable_headers,
                                  &retry->response_headers));
    retry->response_header_count = policy->n_retriable_headers;
    LT_TRY(px_make_header_matches(build, policy->retriable_request_headers,
                                  policy->n_retriable_request_headers, &retry->request_headers));
    retry->request_header_count = policy->n_retriable_request_headers;
    retry->per_try_idle_ms = px_duration_ms(policy->per_try_idle_timeout, 0);
    *ret_retry = retry;
    return LT_OK;
}
