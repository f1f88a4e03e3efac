/*
 * proxy/health/check.c - thresholds and intervals of active health checks.
 */
#include "proxy/health/check.h"

static uint32_t flags_of(const struct px_check *check)
{
    return px_shared_get(&check->state->flags);
}

/* True when that changed something. */
static bool set_flag(struct px_check *check, uint32_t flag, bool is_on)
{
    uint32_t before = flags_of(check), after = is_on ? before | flag : before & ~flag;
    px_shared_set(&check->state->flags, after);
    return before != after;
}

void px_check_begin(struct px_check *check, const struct px_check_conf *conf,
                    struct px_host_state *state, struct px_check_stats *stats, bool is_new,
                    bool excludes_new)
{
    *check = (struct px_check){.conf = conf, .state = state, .stats = stats};
    if (!is_new)
        return;
    set_flag(check, PX_HOST_FLAG(FAILED_CHECK), true);
    set_flag(check, PX_HOST_FLAG(PENDING_CHECK), excludes_new);
}

void px_check_end(struct px_check *check)
{
    set_flag(check,
             PX_HOST_FLAG(FAILED_CHECK) | PX_HOST_FLAG(PENDING_CHECK) |
                 PX_HOST_FLAG(DEGRADED_CHECK) | PX_HOST_FLAG(CHECK_TIMEOUT) |
                 PX_HOST_FLAG(EXCLUDED),
             false);
}

uint64_t px_check_first_delay_ms(const struct px_check *check, struct lt_prng *prng)
{
    uint64_t jitter_ms = check->conf->initial_jitter_ms;
    return jitter_ms == 0 ? 0 : lt_prng_next(prng) % jitter_ms;
}

/* --- when --- */

static uint64_t with_jitter(const struct px_check_conf *conf, uint64_t ms, struct lt_prng *prng)
{
    uint64_t part = conf->interval_jitter_percent * ms / 100;
    if (part > 0)
        ms += lt_prng_next(prng) % part;
    if (conf->interval_jitter_ms > 0)
        ms += lt_prng_next(prng) % conf->interval_jitter_ms;
    return LT_MAX(ms, (uint64_t)1);
}

/* is_pending: a change is on its way, but not complete (the edge intervals). */
static uint64_t next_delay_ms(const struct px_check_conf *conf, bool is_healthy, bool is_pending,
                              bool has_traffic)
{
    if (!has_traffic)
        return is_healthy && !is_pending ? conf->no_traffic_healthy_ms : conf->no_traffic_ms;
    if (is_healthy)
        return is_pending ? conf->healthy_edge_ms : conf->interval_ms;
    return is_pending ? conf->unhealthy_edge_ms : conf->unhealthy_ms;
}

/* --- what it makes of the host --- */

/* *ret_is_pending: not often enough yet. Returns whether flags have changed. */
static bool pass(struct px_check *check, bool is_degraded, bool *ret_is_pending)
{
    bool is_changed = set_flag(check, PX_HOST_FLAG(PENDING_CHECK) | PX_HOST_FLAG(EXCLUDED), false);
    check->unhealthy_row = 0;
    check->stats->successes++;
    if ((flags_of(check) & PX_HOST_FLAG(FAILED_CHECK)) != 0) {
        /* the very first success counts at once: that makes a start faster */
        bool is_enough = !check->was_checked ||
                         ++check->healthy_row >= check->conf->healthy_threshold;
        *ret_is_pending = !is_enough;
        if (is_enough)
            is_changed |= set_flag(check, PX_HOST_FLAG(FAILED_CHECK) | PX_HOST_FLAG(CHECK_TIMEOUT),
                                   false);
    }
    return set_flag(check, PX_HOST_FLAG(DEGRADED_CHECK), is_degraded) || is_changed;
}

static void count_failure(struct px_check_stats *stats, px_check_result result)
{
    stats->failures++;
    if (result == PX_CHECK_NETWORK || result == PX_CHECK_TIMEOUT)
        stats->network_failures++;
    else if (result == PX_CHECK_PASSIVE)
        stats->passive_failures++;
}

static bool fail(struct px_check *check, px_check_result result, bool *ret_is_pending)
{
    bool is_final = result == PX_CHECK_FAILED || result == PX_CHECK_PASSIVE;
    bool is_changed = set_flag(check, PX_HOST_FLAG(PENDING_CHECK), false);
    check->healthy_row = 0;
    count_failure(check->stats, result);
    if (result == PX_CHECK_PASSIVE)
        is_changed |= set_flag(check, PX_HOST_FLAG(EXCLUDED), true);
    if ((flags_of(check) & PX_HOST_FLAG(FAILED_CHECK)) == 0) {
        bool is_enough = is_final || ++check->unhealthy_row >= check->conf->unhealthy_threshold;
        *ret_is_pending = !is_enough;
        if (is_enough)
            is_changed |= set_flag(check, PX_HOST_FLAG(FAILED_CHECK), true);
    }
    if ((flags_of(check) & PX_HOST_FLAG(FAILED_CHECK)) != 0)
        is_changed |= set_flag(check, PX_HOST_FLAG(CHECK_TIMEOUT), result == PX_CHECK_TIMEOUT);
    return is_changed;
}

bool px_check_take(struct px_check *check, px_check_result result, bool has_traffic,
                   struct lt_prng *prng, uint64_t *ret_delay_ms)
{
    bool is_healthy = result == PX_CHECK_PASSED || result == PX_CHECK_PASSED_DEGRADED;
    bool is_pending = false;
    bool is_changed = is_healthy ? pass(check, result == PX_CHECK_PASSED_DEGRADED, &is_pending)
                                 : fail(check, result, &is_pending);
    check->was_checked = true;
    *ret_delay_ms = with_jitter(
        check->conf, next_delay_ms(check->conf, is_healthy, is_pending, has_traffic), prng);
    return is_changed;
}

static bool is_in(const struct px_status_range *ranges, size_t count, uint32_t status)
{
    for (size_t i = 0; i < count; i++) {
        if (status >= ranges[i].from && status < ranges[i].to)
            return true;
    }
    return false;
}

px_check_result px_check_judge_status(const struct px_check_conf *conf, uint32_t status)
{
    bool is_expected = conf->expected_count > 0
                           ? is_in(conf->expected, conf->expected_count, status)
                           : status == 200;
    if (is_expected)
        return PX_CHECK_PASSED;
    return is_in(conf->retriable, conf->retriable_count, status) ? PX_CHECK_RETRIABLE
                                                                 : PX_CHECK_FAILED;
}
