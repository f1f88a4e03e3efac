/*
 * proxy/compile/local_limit.c - configuration of local rate limits. What would make a limit larger
 * than it is meant to be refuses the resource.
 */
#include <stdlib.h>

#include "base/env.h"

#include "proxy/compile/filter.h"
#include "proxy/compile/net_filter.h"
#include "proxy/compile/rate.h"
#include "proxy/filter/local_limit.h"
#include "wire/proto/http_local_ratelimit.pb-c.h"
#include "wire/proto/net_local_ratelimit.pb-c.h"

enum { FILL_MIN_MS = 50, CODE_DEFAULT = 429 };

/* Made by the main thread alone. */
static uint64_t limits_made;

static lt_rc make_bucket(struct px_build *build, const Xds__TokenBucket *in, bool is_shared,
                         struct px_limit_bucket *conf)
{
    uint64_t fill_ms = px_duration_ms(in->fill_interval, 0);
    uint32_t per_fill = px_u32(in->tokens_per_fill, 1);
    if (in->fill_interval == NULL)
        return px_bad(build, "token_bucket.fill_interval", "is missing");
    if (fill_ms < FILL_MIN_MS || fill_ms > (uint64_t)UINT32_MAX)
        return px_bad(build, "token_bucket.fill_interval", "must be at least %d ms", FILL_MIN_MS);
    if (per_fill == 0)
        return px_bad(build, "token_bucket.tokens_per_fill", "must be greater than 0");
    conf->id = ++limits_made;
    conf->size = px_bucket_conf_make(in->has_max_tokens ? in->max_tokens : 0, per_fill,
                                     fill_ms * LT_NS_PER_MS);
    if (!is_shared)
        return LT_OK;
    conf->bucket = lt_new(struct px_bucket);
    px_bucket_init(conf->bucket);
    px_own(build, conf->bucket, free);
    return LT_OK;
}

static struct px_stat stat_of(struct px_build *build, const char *prefix, const char *kind,
                              const char *name)
{
    return px_stat_plain(build->arena, lt_arena_printf(build->scratch, "%s.%s.%s",
                                                       prefix != NULL ? prefix : "", kind, name));
}

/* Envoy asks those that fill slower first. */
static int by_cost(const void *a, const void *b)
{
    const struct px_limit_rule *x = a, *y = b;
    return (x->bucket.size.cost < y->bucket.size.cost) -
           (x->bucket.size.cost > y->bucket.size.cost);
}

static lt_rc make_rule(struct px_build *build, const Xds__LocalRateLimitDescriptor *in,
                       bool is_shared, struct px_limit_rule *rule)
{
    struct px_rate_entry *entries = lt_arena_make_n(build->arena, struct px_rate_entry,
                                                    in->n_entries);
    if (in->n_entries == 0)
        return px_bad(build, "entries", "is empty");
    for (size_t i = 0; i < in->n_entries; i++) {
        entries[i].key = px_copy(build, in->entries[i]->key);
        entries[i].value = px_copy(build, in->entries[i]->value);
        if (entries[i].value.len == 0)
            return px_unsupported(build, "entries.value", "one bucket a value is not supported");
    }
    rule->entries = entries;
    rule->count = in->n_entries;
    if (in->token_bucket == NULL)
        return px_bad(build, "token_bucket", "is missing");
    return make_bucket(build, in->token_bucket, is_shared, &rule->bucket);
}

static lt_rc make_rules(struct px_build *build, const Xds__LocalRateLimit *in, bool is_shared,
                        struct px_limit_conf *conf)
{
    struct px_limit_rule *rules = lt_arena_make_n(build->arena, struct px_limit_rule,
                                                  in->n_descriptors);
    for (size_t i = 0; i < in->n_descriptors; i++) {
        size_t mark = px_path_enter(build, "descriptors", (ptrdiff_t)i);
        LT_TRY(make_rule(build, in->descriptors[i], is_shared, &rules[i]));
        px_path_leave(build, mark);
    }
    if (in->n_descriptors > 0 && in->token_bucket == NULL)
        return px_bad(build, "token_bucket", "is missing");
    qsort(rules, in->n_descriptors, sizeof(*rules), by_cost);
    conf->rules = rules;
    conf->rule_count = in->n_descriptors;
    conf->spares_all = !px_bool(in->always_consume_default_token_bucket, true);
    conf->stage = in->has_stage ? in->stage : 0;
    static const px_limit_vhost options[] = {PX_VHOST_IF_NONE, PX_VHOST_TOO, PX_VHOST_NEVER};
    size_t option = in->has_vh_rate_limits ? in->vh_rate_limits : 0;
    conf->vhost = option < LT_ARRAY_LEN(options) ? options[option] : PX_VHOST_IF_NONE;
    return px_make_rate_limits(build, in->rate_limits, in->n_rate_limits, &conf->own);
}

static lt_rc make_limit(struct px_build *build, const Xds__LocalRateLimit *in,
                        struct px_limit_conf *conf)
{
    bool is_per_connection = in->has_local_rate_limit_per_downstream_connection &&
                             in->local_rate_limit_per_downstream_connection;
    if (in->local_cluster_rate_limit != NULL)
        return px_unsupported(build, "local_cluster_rate_limit", "shared limits are not supported");
    if (in->token_bucket != NULL)
        LT_TRY(make_bucket(build, in->token_bucket, !is_per_connection, &conf->all));
    conf->has_bucket = in->token_bucket != NULL;
    LT_TRY(make_rules(build, in, !is_per_connection, conf));
    if (in->filter_enabled != NULL)
        conf->enabled_ppm = px_fraction_ppm(in->filter_enabled->default_value, 0);
    if (in->filter_enforced != NULL)
        conf->enforced_ppm = px_fraction_ppm(in->filter_enforced->default_value, 0);
    conf->code = in->status != NULL && in->status->has_code ? (uint32_t)in->status->code : 0;
    if (conf->code < 400 || conf->code > 599)
        conf->code = CODE_DEFAULT; /* as in Envoy: what is no error is none */
    conf->is_exhausted = in->has_rate_limited_as_resource_exhausted &&
                         in->rate_limited_as_resource_exhausted;
    conf->tells_limits = in->has_enable_x_ratelimit_headers && in->enable_x_ratelimit_headers != 0;
    LT_TRY(px_make_header_edits(build, in->response_headers_to_add, in->n_response_headers_to_add,
                                NULL, 0, "response_headers_to_add", &conf->reply));
    LT_TRY(px_make_header_edits(build, in->request_headers_to_add_when_not_enforced,
                                in->n_request_headers_to_add_when_not_enforced, NULL, 0,
                                "request_headers_to_add_when_not_enforced", &conf->request));
    static const char *const names[] = {"enabled", "enforced", "ok", "rate_limited"};
    struct px_stat *const stats[] = {&conf->enabled, &conf->enforced, &conf->ok, &conf->limited};
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++)
        *stats[i] = stat_of(build, in->stat_prefix, "http_local_rate_limit", names[i]);
    return LT_OK;
}

lt_rc px_make_limit_filter(struct px_build *build, const void *message,
                           struct px_hcm_conf *hcm LT_UNUSED, const void **ret_conf)
{
    struct px_limit_conf *conf = lt_arena_make(build->arena, struct px_limit_conf);
    *ret_conf = conf;
    return make_limit(build, message, conf);
}

lt_rc px_make_limit_route(struct px_build *build, const void *message, struct px_filter_conf *conf)
{
    struct px_limit_conf *limit = lt_arena_make(build->arena, struct px_limit_conf);
    const Xds__LocalRateLimit *in = message;
    conf->conf = limit;
    if (in->token_bucket == NULL)
        return px_bad(build, "token_bucket", "is missing");
    return make_limit(build, message, limit);
}

lt_rc px_make_net_limit(struct px_build *build, const Pb__Any *any, const void **ret_conf)
{
    Xds__NetLocalRatelimit__LocalRateLimit *in = NULL;
    struct px_limit_conf *conf = lt_arena_make(build->arena, struct px_limit_conf);
    *ret_conf = conf;
    LT_TRY(px_unpack_any(build, "typed_config", any,
                         &xds__net_local_ratelimit__local_rate_limit__descriptor, &in));
    if (in->token_bucket == NULL)
        return px_bad(build, "token_bucket", "is missing");
    if (in->share_key != NULL && in->share_key[0] != '\0')
        return px_unsupported(build, "share_key", "shared limits are not supported");
    LT_TRY(make_bucket(build, in->token_bucket, true, &conf->all));
    conf->has_bucket = true;
    bool is_on = in->runtime_enabled == NULL || px_bool(in->runtime_enabled->default_value, true);
    conf->enabled_ppm = is_on ? 1000000 : 0;
    conf->limited = px_stat_plain(
        build->arena, lt_arena_printf(build->scratch, "local_rate_limit.%s.rate_limited",
                                      in->stat_prefix != NULL ? in->stat_prefix : ""));
    return LT_OK;
}
