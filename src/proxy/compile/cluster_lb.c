/*
 * proxy/compile/cluster_lb.c - how a cluster chooses its hosts: lb_policy and its settings,
 * subsets.
 * Start at: px_make_lb(). At run time: lb.h.
 */
#include <math.h>

#include "proxy/compile/kinds.h"

enum {
    PANIC_DEFAULT_PERCENT = 50,
    RING_MIN_DEFAULT = 1024,
    RING_MAX = 8 * 1024 * 1024,
    TABLE_DEFAULT = 65537,
    TABLE_MAX = 5000011,
    ZONE_MIN_HOSTS_DEFAULT = 6,
    BALANCE_PERCENT_MIN = 100,
};

/* What most clusters have; they share it. */
static const struct px_lb_conf plain = {
    .panic_percent = PANIC_DEFAULT_PERCENT,
    .choice_count = 2,
    .active_request_bias = 1.0,
    .slow_start_aggression = 1.0,
    .slow_start_min = 0.1,
    .ring_min = RING_MIN_DEFAULT,
    .ring_max = RING_MAX,
    .table_size = TABLE_DEFAULT,
    .zone_routing_percent = 100,
    .zone_min_hosts = ZONE_MIN_HOSTS_DEFAULT,
};

static uint32_t percent_of(const Xds__Percent *percent, uint32_t absent)
{
    if (percent == NULL)
        return absent;
    double value = percent->has_value ? percent->value : 0;
    return value <= 0 ? 0 : value >= 100 ? 100 : (uint32_t)lround(value);
}

/* --- policies --- */

static lt_rc make_slow_start(struct px_build *build, const char *field,
                             const Xds__Cluster__SlowStartConfig *in, struct px_lb_conf *lb)
{
    if (in == NULL)
        return LT_OK;
    lb->slow_start_ms = px_duration_ms(in->slow_start_window, 0);
    if (in->aggression != NULL && in->aggression->has_default_value)
        lb->slow_start_aggression = in->aggression->default_value;
    if (!(lb->slow_start_aggression > 0))
        return px_bad(build, field, "aggression must be above 0");
    if (in->min_weight_percent != NULL)
        lb->slow_start_min = in->min_weight_percent->has_value
                                 ? in->min_weight_percent->value / 100.0
                                 : 0;
    if (!(lb->slow_start_min >= 0 && lb->slow_start_min <= 1))
        return px_bad(build, field, "min_weight_percent must be between 0 and 100");
    return LT_OK;
}

static lt_rc make_least_request(struct px_build *build,
                                const Xds__Cluster__LeastRequestLbConfig *in, struct px_lb_conf *lb)
{
    lb->choice_count = px_u32(in->choice_count, 2);
    if (lb->choice_count < 2)
        return px_bad(build, "least_request_lb_config.choice_count", "must be at least 2");
    if (in->active_request_bias != NULL)
        lb->active_request_bias = in->active_request_bias->has_default_value
                                      ? in->active_request_bias->default_value
                                      : 0;
    if (!(lb->active_request_bias >= 0))
        return px_bad(build, "least_request_lb_config.active_request_bias", "must not be negative");
    return make_slow_start(build, "least_request_lb_config.slow_start_config",
                           in->slow_start_config, lb);
}

static lt_rc make_ring(struct px_build *build, const Xds__Cluster__RingHashLbConfig *in,
                       struct px_lb_conf *lb)
{
    lb->ring_is_murmur = in->has_hash_function &&
                         in->hash_function ==
                             XDS__CLUSTER__RING_HASH_LB_CONFIG__HASH_FUNCTION__MURMUR_HASH_2;
    if (in->minimum_ring_size != NULL)
        lb->ring_min = in->minimum_ring_size->has_value ? in->minimum_ring_size->value : 0;
    if (in->maximum_ring_size != NULL)
        lb->ring_max = in->maximum_ring_size->has_value ? in->maximum_ring_size->value : 0;
    if (lb->ring_min > RING_MAX)
        return px_bad(build, "ring_hash_lb_config.minimum_ring_size", "must be at most %d",
                      RING_MAX);
    if (lb->ring_max > RING_MAX)
        return px_bad(build, "ring_hash_lb_config.maximum_ring_size", "must be at most %d",
                      RING_MAX);
    if (lb->ring_min > lb->ring_max)
        return px_bad(build, "ring_hash_lb_config",
                      "minimum_ring_size (%llu) > maximum_ring_size (%llu)",
                      (unsigned long long)lb->ring_min, (unsigned long long)lb->ring_max);
    return LT_OK;
}

static bool is_prime(uint64_t number)
{
    for (uint64_t i = 2; i * i <= number; i++) {
        if (number % i == 0)
            return false;
    }
    return number >= 2;
}

static lt_rc make_maglev(struct px_build *build, const Xds__Cluster__MaglevLbConfig *in,
                         struct px_lb_conf *lb)
{
    if (in->table_size == NULL)
        return LT_OK;
    uint64_t size = in->table_size->has_value ? in->table_size->value : 0;
    if (size > TABLE_MAX)
        return px_bad(build, "maglev_lb_config.table_size", "must be at most %d", TABLE_MAX);
    if (!is_prime(size))
        return px_bad(build, "maglev_lb_config.table_size",
                      "The table size of maglev must be prime number");
    lb->table_size = (uint32_t)size;
    return LT_OK;
}

/* The settings of a policy that was not chosen are nobody's. */
static lt_rc make_policy(struct px_build *build, const Xds__Cluster *cluster, struct px_lb_conf *lb)
{
    switch (cluster->has_lb_policy ? cluster->lb_policy : XDS__CLUSTER__LB_POLICY__ROUND_ROBIN) {
    case XDS__CLUSTER__LB_POLICY__ROUND_ROBIN:
        lb->policy = PX_LB_ROUND_ROBIN;
        return cluster->lb_config_case != XDS__CLUSTER__LB_CONFIG_ROUND_ROBIN_LB_CONFIG
                   ? LT_OK
                   : make_slow_start(build, "round_robin_lb_config.slow_start_config",
                                     cluster->round_robin_lb_config->slow_start_config, lb);
    case XDS__CLUSTER__LB_POLICY__LEAST_REQUEST:
        lb->policy = PX_LB_LEAST_REQUEST;
        return cluster->lb_config_case != XDS__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG
                   ? LT_OK
                   : make_least_request(build, cluster->least_request_lb_config, lb);
    case XDS__CLUSTER__LB_POLICY__RANDOM: lb->policy = PX_LB_RANDOM; return LT_OK;
    case XDS__CLUSTER__LB_POLICY__RING_HASH:
        lb->policy = PX_LB_RING_HASH;
        return cluster->lb_config_case != XDS__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG
                   ? LT_OK
                   : make_ring(build, cluster->ring_hash_lb_config, lb);
    case XDS__CLUSTER__LB_POLICY__MAGLEV:
        lb->policy = PX_LB_MAGLEV;
        return cluster->lb_config_case != XDS__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG
                   ? LT_OK
                   : make_maglev(build, cluster->maglev_lb_config, lb);
    case XDS__CLUSTER__LB_POLICY__CLUSTER_PROVIDED:
        lb->policy = PX_LB_CLUSTER_PROVIDED;
        return LT_OK;
    case XDS__CLUSTER__LB_POLICY__LOAD_BALANCING_POLICY_CONFIG: return LT_OK;
    default: return px_bad(build, "lb_policy", "unknown value %d", (int)cluster->lb_policy);
    }
}

/* --- what all policies have --- */

static lt_rc make_common(struct px_build *build, const Xds__Cluster__CommonLbConfig *in,
                         struct px_cluster_conf *conf, struct px_lb_conf *lb)
{
    conf->override_health_mask = 1u << PX_HEALTH_UNKNOWN | 1u << PX_HEALTH_HEALTHY |
                                 1u << PX_HEALTH_DEGRADED;
    if (in == NULL)
        return LT_OK;
    lb->panic_percent = percent_of(in->healthy_panic_threshold, PANIC_DEFAULT_PERCENT);
    if (in->locality_config_specifier_case ==
        XDS__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_ZONE_AWARE_LB_CONFIG) {
        const Xds__Cluster__CommonLbConfig__ZoneAwareLbConfig *zone = in->zone_aware_lb_config;
        lb->locality = PX_LOCALITY_ZONE_AWARE;
        lb->zone_routing_percent = percent_of(zone->routing_enabled, 100);
        if (zone->min_cluster_size != NULL)
            lb->zone_min_hosts = zone->min_cluster_size->has_value ? zone->min_cluster_size->value
                                                                   : 0;
        lb->fails_on_panic = zone->has_fail_traffic_on_panic && zone->fail_traffic_on_panic;
    } else if (
        in->locality_config_specifier_case ==
        XDS__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG) {
        lb->locality = PX_LOCALITY_WEIGHTED;
    }
    const Xds__Cluster__CommonLbConfig__ConsistentHashingLbConfig *hashing =
        in->consistent_hashing_lb_config;
    if (hashing != NULL) {
        lb->hash_by_hostname = hashing->has_use_hostname_for_hashing &&
                               hashing->use_hostname_for_hashing;
        lb->balance_percent = px_u32(hashing->hash_balance_factor, 0);
        if (hashing->hash_balance_factor != NULL && lb->balance_percent < BALANCE_PERCENT_MIN)
            return px_bad(build,
                          "common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
                          "must be at least %d", BALANCE_PERCENT_MIN);
    }
    conf->ignores_new_until_check = in->has_ignore_new_hosts_until_first_hc &&
                                    in->ignore_new_hosts_until_first_hc;
    conf->closes_on_set_change = in->has_close_connections_on_host_set_change &&
                                 in->close_connections_on_host_set_change;
    if (in->override_host_status != NULL) {
        conf->override_health_mask = 0;
        for (size_t i = 0; i < in->override_host_status->n_statuses; i++)
            conf->override_health_mask |= 1u
                                          << ((unsigned)in->override_host_status->statuses[i] & 31);
    }
    return LT_OK;
}

/* --- subsets --- */

static int by_text(const void *a, const void *b)
{
    return lt_str_cmp(*(const lt_str *)a, *(const lt_str *)b);
}

/* Sorted, each once. */
static lt_rc make_keys(struct px_build *build, char *const *in, size_t count,
                       const lt_str **ret_keys, size_t *ret_count)
{
    lt_str *keys = lt_arena_make_n(build->arena, lt_str, count);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        keys[i] = px_copy(build, in[i]);
    lt_sort(keys, count, sizeof(*keys), by_text);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || !lt_str_eq(keys[kept - 1], keys[i]))
            keys[kept++] = keys[i];
    }
    *ret_keys = keys;
    *ret_count = kept;
    return LT_OK;
}

static bool has_key(const struct px_subset_selector *selector, lt_str key)
{
    for (size_t i = 0; i < selector->key_count; i++) {
        if (lt_str_eq(selector->keys[i], key))
            return true;
    }
    return false;
}

static lt_rc check_fallback_keys(struct px_build *build, const struct px_subset_selector *selector)
{
    if (selector->fallback != PX_SUBSET_KEYS)
        return selector->fallback_key_count == 0
                   ? LT_OK
                   : px_bad(build, "fallback_keys_subset",
                            "can be set only for KEYS_SUBSET fallback_policy");
    if (selector->fallback_key_count == 0)
        return px_bad(build, "fallback_keys_subset", "cannot be empty");
    for (size_t i = 0; i < selector->fallback_key_count; i++) {
        if (!has_key(selector, selector->fallback_keys[i]))
            return px_bad(build, "fallback_keys_subset", "must be a subset of selector keys");
    }
    return selector->fallback_key_count < selector->key_count
               ? LT_OK
               : px_bad(build, "fallback_keys_subset",
                        "cannot be equal to keys: it would never end");
}

static lt_rc make_selector(struct px_build *build,
                           const Xds__Cluster__LbSubsetConfig__LbSubsetSelector *in,
                           struct px_subset_selector *selector)
{
    static const px_subset_fallback fallbacks[] = {
        PX_SUBSET_UNDEFINED, PX_SUBSET_NONE, PX_SUBSET_ANY, PX_SUBSET_DEFAULT, PX_SUBSET_KEYS};
    size_t fallback = in->has_fallback_policy ? in->fallback_policy : 0;
    if (fallback >= LT_ARRAY_LEN(fallbacks))
        return px_bad(build, "fallback_policy", "unknown value %zu", fallback);
    selector->fallback = fallbacks[fallback];
    LT_TRY(make_keys(build, (char *const *)in->keys, in->n_keys, &selector->keys,
                     &selector->key_count));
    LT_TRY(make_keys(build, (char *const *)in->fallback_keys_subset, in->n_fallback_keys_subset,
                     &selector->fallback_keys, &selector->fallback_key_count));
    selector->is_single_host = in->has_single_host_per_subset && in->single_host_per_subset;
    if (selector->is_single_host && selector->key_count != 1)
        return px_bad(build, "single_host_per_subset", "needs exactly one key");
    return check_fallback_keys(build, selector);
}

static lt_rc make_subset(struct px_build *build, const Xds__Cluster__LbSubsetConfig *in,
                         struct px_lb_conf *lb)
{
    if (in == NULL || in->n_subset_selectors == 0)
        return LT_OK; /* Envoy: without selectors there are no subsets */
    if (lb->policy == PX_LB_CLUSTER_PROVIDED)
        return px_bad(build, NULL, "subsets don't go with CLUSTER_PROVIDED");
    static const px_subset_fallback fallbacks[] = {PX_SUBSET_NONE, PX_SUBSET_ANY,
                                                   PX_SUBSET_DEFAULT};
    struct px_subset_conf *subset = lt_arena_make(build->arena, struct px_subset_conf);
    struct px_subset_selector *selectors = lt_arena_make_n(build->arena, struct px_subset_selector,
                                                           in->n_subset_selectors);
    size_t fallback = in->has_fallback_policy ? in->fallback_policy : 0;
    if (fallback >= LT_ARRAY_LEN(fallbacks))
        return px_bad(build, "fallback_policy", "unknown value %zu", fallback);
    subset->fallback = fallbacks[fallback];
    for (size_t i = 0; i < in->n_subset_selectors; i++) {
        size_t mark = px_path_enter(build, "subset_selectors", (ptrdiff_t)i);
        LT_TRY(make_selector(build, in->subset_selectors[i], &selectors[i]));
        px_path_leave(build, mark);
    }
    subset->selectors = selectors;
    subset->selector_count = in->n_subset_selectors;
    LT_TRY(
        px_make_json_metas(build, "default_subset", in->default_subset, &subset->default_subset));
    subset->locality_weight_aware = in->has_locality_weight_aware && in->locality_weight_aware;
    subset->scale_locality_weight = in->has_scale_locality_weight && in->scale_locality_weight;
    subset->panic_mode_any = in->has_panic_mode_any && in->panic_mode_any;
    subset->list_as_any = in->has_list_as_any && in->list_as_any;
    lb->subset = subset;
    return LT_OK;
}

/* --- all of it --- */

static lt_rc make_original_dst(struct px_build *build, const Xds__Cluster *cluster,
                               struct px_cluster_conf *conf)
{
    if (cluster->lb_config_case != XDS__CLUSTER__LB_CONFIG_ORIGINAL_DST_LB_CONFIG)
        return LT_OK;
    const Xds__Cluster__OriginalDstLbConfig *in = cluster->original_dst_lb_config;
    struct px_original_dst_conf *made = lt_arena_make(build->arena, struct px_original_dst_conf);
    uint32_t port = px_u32(in->upstream_port_override, 0);
    if (port > UINT16_MAX)
        return px_bad(build, "original_dst_lb_config.upstream_port_override", "%u is out of range",
                      port);
    made->port = (uint16_t)port;
    if (in->has_use_http_header && in->use_http_header) {
        made->header = px_copy_lower(build, in->http_header_name);
        if (made->header.len == 0)
            made->header = LT_STR("x-envoy-original-dst-host");
    } else if (in->http_header_name != NULL && in->http_header_name[0] != '\0') {
        return px_bad(build, "original_dst_lb_config.http_header_name",
                      "use_http_header must be set, too");
    }
    conf->original_dst = made;
    return LT_OK;
}

lt_rc px_make_lb(struct px_build *build, const Xds__Cluster *cluster, struct px_cluster_conf *conf)
{
    struct px_lb_conf lb = plain;
    LT_TRY(make_policy(build, cluster, &lb));
    if ((lb.policy == PX_LB_CLUSTER_PROVIDED) != (conf->discovery == PX_DISCOVERY_ORIGINAL_DST))
        return px_bad(build, "lb_policy",
                      "CLUSTER_PROVIDED goes with ORIGINAL_DST, and only with it");
    LT_TRY(make_common(build, cluster->common_lb_config, conf, &lb));
    if (lb.hash_by_hostname && conf->discovery != PX_DISCOVERY_STRICT_DNS) /* as Envoy */
        return px_bad(build,
                      "common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing",
                      "only STRICT_DNS clusters have host names");
    size_t mark = px_path_enter(build, "lb_subset_config", -1);
    LT_TRY(make_subset(build, cluster->lb_subset_config, &lb));
    px_path_leave(build, mark);
    LT_TRY(make_original_dst(build, cluster, conf));
    /* were padding to differ, the cluster had a copy of its own, and nothing else */
    if (memcmp(&lb, &plain, sizeof(lb)) == 0) { // NOLINT(bugprone-suspicious-memory-comparison)
        conf->lb = &plain;
        return LT_OK;
    }
    struct px_lb_conf *made = lt_arena_make(build->arena, struct px_lb_conf);
    *made = lb;
    conf->lb = made;
    return LT_OK;
}
