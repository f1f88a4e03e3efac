/*
 * proxy/health/members_stats.c - what is known of clusters on the main thread, for /stats and
 * /clusters.
 */
#include <stdio.h>

#include "proxy/health/members_priv.h"
#include "proxy/lb/stat_name.h"

/* --- series --- */

struct writer {
    struct lt_metric_set *sum;
    lt_str cluster;
};

static void add_counter(const struct writer *w, const char *group, const char *stat, uint64_t value)
{
    if (value > 0)
        lt_counter_add(px_cluster_counter(w->sum, w->cluster, group, stat), value);
}

static void add_gauge(const struct writer *w, const char *group, const char *stat, double value)
{
    lt_gauge_set(px_cluster_gauge(w->sum, w->cluster, group, stat), value);
}

static void add_outlier(const struct writer *w, const struct px_outlier *outlier)
{
    char stat[96];
    add_gauge(w, "outlier_detection.", "ejections_active", outlier->ejected);
    add_counter(w, "outlier_detection.", "ejections_enforced_total", outlier->enforced_total);
    add_counter(w, "outlier_detection.", "ejections_overflow", outlier->overflows);
    for (int kind = 0; kind < PX_OUTLIER_KINDS; kind++) {
        const char *name = px_outlier_kind_name((px_outlier_kind)kind);
        snprintf(stat, sizeof(stat), "ejections_detected_%s", name);
        add_counter(w, "outlier_detection.", stat, outlier->detected[kind]);
        snprintf(stat, sizeof(stat), "ejections_enforced_%s", name);
        add_counter(w, "outlier_detection.", stat, outlier->enforced[kind]);
    }
}

static void add_checks(const struct writer *w, const struct px_care *care)
{
    const struct px_check_stats *stats = &care->check_stats;
    unsigned healthy = 0, degraded = 0;
    for (size_t i = 0; i < care->hosts.count; i++) {
        const struct px_member *member = care->hosts.entries[i].value;
        uint32_t flags = px_shared_get(&member->state->flags);
        healthy += member->is_checked && (flags & PX_HOST_FLAG(FAILED_CHECK)) == 0;
        degraded += (flags & PX_HOST_FLAG(DEGRADED_CHECK)) != 0;
    }
    add_counter(w, "health_check.", "attempt", stats->attempts);
    add_counter(w, "health_check.", "success", stats->successes);
    add_counter(w, "health_check.", "failure", stats->failures);
    add_counter(w, "health_check.", "passive_failure", stats->passive_failures);
    add_counter(w, "health_check.", "network_failure", stats->network_failures);
    add_counter(w, "health_check.", "verify_cluster", stats->verifications);
    add_gauge(w, "health_check.", "healthy", healthy);
    add_gauge(w, "health_check.", "degraded", degraded);
}

static const struct {
    const char *open, *left;
} limit_names[PX_LIMITS] = {
    [PX_LIMIT_CONNECTIONS] = {"cx_open", "remaining_cx"},
    [PX_LIMIT_PENDING] = {"rq_pending_open", "remaining_pending"},
    [PX_LIMIT_REQUESTS] = {"rq_open", "remaining_rq"},
    [PX_LIMIT_RETRIES] = {"rq_retry_open", "remaining_retries"},
    [PX_LIMIT_POOLS] = {"cx_pool_open", "remaining_cx_pools"},
};

static void add_circuits(const struct writer *w, const struct px_care *care)
{
    static const char *const groups[PX_PRIORITIES] = {"circuit_breakers.default.",
                                                      "circuit_breakers.high."};
    for (int priority = 0; priority < PX_PRIORITIES; priority++) {
        const struct px_circuit *circuit = care->conf->circuits[priority];
        for (int i = 0; i < PX_LIMITS; i++) {
            uint32_t used = px_shared_get(&care->state->used[priority][i]), max = circuit->max[i];
            if ((circuit->counted >> i & 1) == 0)
                continue;
            add_gauge(w, groups[priority], limit_names[i].open, used >= max);
            if (circuit->tracks_remaining)
                add_gauge(w, groups[priority], limit_names[i].left, max > used ? max - used : 0);
        }
    }
}

void px_members_add_stats(const struct px_members *members, struct lt_metric_set *sum)
{
    for (size_t i = 0; i < members->cares.count; i++) {
        const struct px_care *care = members->cares.entries[i].value;
        struct writer w = {sum, px_cluster_shown_name(care->conf)};
        if (care->outlier.conf != NULL)
            add_outlier(&w, &care->outlier);
        if (care->conf->check != NULL)
            add_checks(&w, care);
        if (care->names != NULL) {
            const struct px_names_stats *stats = px_names_stats(care->names);
            add_counter(&w, "", "update_attempt", stats->attempts);
            add_counter(&w, "", "update_success", stats->successes);
            add_counter(&w, "", "update_failure", stats->failures);
        }
        if (px_shared_get(&care->state->is_used) != 0)
            add_circuits(&w, care);
    }
}

/* --- /clusters --- */

static const struct px_member *find_member(const struct px_members *members, lt_str cluster,
                                           lt_str address)
{
    const struct px_care *care = lt_map_find(&members->cares, cluster);
    if (care == NULL)
        return NULL;
    lt_str name = care->conf->discovery == PX_DISCOVERY_LOGICAL_DNS ? LT_STR("logical") : address;
    return lt_map_find(&care->hosts, name);
}

struct px_member_status px_members_host_status(const struct px_members *members, lt_str cluster,
                                               lt_str address)
{
    struct px_member_status status = {.success_rate = -1, .local_success_rate = -1};
    const struct px_member *member = find_member(members, cluster, address);
    if (member == NULL)
        return status;
    status.flags = px_shared_get(&member->state->flags);
    if (member->care->outlier.conf != NULL) {
        status.success_rate = member->outlier.success_rate;
        status.local_success_rate = member->outlier.local_success_rate;
    }
    return status;
}

const struct px_outlier *px_members_outlier(const struct px_members *members, lt_str cluster)
{
    const struct px_care *care = lt_map_find(&members->cares, cluster);
    return care != NULL && care->outlier.conf != NULL ? &care->outlier : NULL;
}

const struct px_endpoints_conf *px_members_endpoints(const struct px_members *members,
                                                     lt_str cluster)
{
    const struct px_care *care = lt_map_find(&members->cares, cluster);
    return care != NULL && care->roster != NULL ? care->roster->endpoints : NULL;
}
