/*
 * proxy/lb/outlier.c - who is ejected, for how long, and who comes back.
 */
#include "proxy/lb/outlier.h"

#include <math.h>

static const char *const kind_names[] = {
    [PX_OUTLIER_5XX] = "consecutive_5xx",
    [PX_OUTLIER_GATEWAY] = "consecutive_gateway_failure",
    [PX_OUTLIER_LOCAL] = "consecutive_local_origin_failure",
    [PX_OUTLIER_SUCCESS_RATE] = "success_rate",
    [PX_OUTLIER_LOCAL_SUCCESS_RATE] = "local_origin_success_rate",
    [PX_OUTLIER_FAILURE_PERCENT] = "failure_percentage",
    [PX_OUTLIER_LOCAL_FAILURE_PERCENT] = "local_origin_failure_percentage",
};

const char *px_outlier_kind_name(px_outlier_kind kind)
{
    return kind_names[kind];
}

/* --- hosts --- */

void px_outlier_init(struct px_outlier *outlier, struct lt_prng *prng, px_outlier_fn *on_change,
                     void *ctx)
{
    *outlier = (struct px_outlier){.prng = prng,
                                   .on_change = on_change,
                                   .ctx = ctx,
                                   .average = -1,
                                   .threshold = -1,
                                   .local_average = -1,
                                   .local_threshold = -1};
}

void px_outlier_fini(struct px_outlier *outlier)
{
    while (outlier->hosts.count > 0)
        px_outlier_remove(outlier, outlier->hosts.items[outlier->hosts.count - 1]);
    lt_vec_fini(&outlier->hosts);
}

void px_outlier_add(struct px_outlier *outlier, struct px_outlier_host *host,
                    struct px_host_state *state)
{
    *host = (struct px_outlier_host){.state = state, .success_rate = -1, .local_success_rate = -1};
    lt_vec_push(&outlier->hosts, host);
}

static void set_ejected(struct px_outlier *outlier, struct px_outlier_host *host, bool is_ejected)
{
    uint32_t flags = px_shared_get(&host->state->flags);
    host->is_ejected = is_ejected;
    outlier->ejected += is_ejected ? 1 : -1u;
    px_shared_set(&host->state->flags,
                  is_ejected ? flags | PX_HOST_FLAG(EJECTED) : flags & ~PX_HOST_FLAG(EJECTED));
    outlier->on_change(outlier->ctx, host);
}

/* Rows of failures that were nearly complete would take it out again at once. */
static void reset_rows(struct px_host_state *state)
{
    px_shared_set(&state->consecutive_5xx, 0);
    px_shared_set(&state->consecutive_gateway, 0);
    px_shared_set(&state->consecutive_local, 0);
}

static void take_back(struct px_outlier *outlier, struct px_outlier_host *host)
{
    reset_rows(host->state);
    set_ejected(outlier, host, false);
}

void px_outlier_remove(struct px_outlier *outlier, struct px_outlier_host *host)
{
    ptrdiff_t at = lt_vec_find(&outlier->hosts, host);
    if (at < 0)
        return;
    if (host->is_ejected)
        take_back(outlier, host);
    lt_vec_swap_remove(&outlier->hosts, (size_t)at);
}

/* --- ejection --- */

static uint32_t enforced_percent(const struct px_outlier_conf *conf, px_outlier_kind kind)
{
    switch (kind) {
    case PX_OUTLIER_5XX: return conf->enforce_5xx;
    case PX_OUTLIER_GATEWAY: return conf->enforce_gateway;
    case PX_OUTLIER_LOCAL: return conf->enforce_local;
    case PX_OUTLIER_SUCCESS_RATE: return conf->enforce_success_rate;
    case PX_OUTLIER_LOCAL_SUCCESS_RATE: return conf->enforce_local_success_rate;
    case PX_OUTLIER_FAILURE_PERCENT: return conf->enforce_failure_percent;
    case PX_OUTLIER_LOCAL_FAILURE_PERCENT: return conf->enforce_local_failure_percent;
    case PX_OUTLIER_KINDS: break;
    }
    LT_UNREACHABLE();
}

/* Not judged by priority, as in Envoy: all hosts of one priority may be taken out. */
static bool may_eject(const struct px_outlier *outlier)
{
    double percent = 100.0 * (outlier->ejected + 1) / (double)outlier->hosts.count;
    return percent <= outlier->conf->max_ejection_percent ||
           (outlier->conf->always_ejects_one && outlier->ejected == 0);
}

static void eject(struct px_outlier *outlier, struct px_outlier_host *host, px_outlier_kind kind,
                  uint64_t now_ns)
{
    const struct px_outlier_conf *conf = outlier->conf;
    outlier->detected[kind]++;
    if (!may_eject(outlier)) {
        outlier->overflows++;
        return;
    }
    if (lt_prng_below(outlier->prng, 100) >= enforced_percent(conf, kind))
        return;
    outlier->enforced[kind]++;
    outlier->enforced_total++;
    host->ejected_ns = now_ns;
    if (host->multiplier * conf->base_ejection_ms < conf->max_ejection_ms + conf->base_ejection_ms)
        host->multiplier++;
    set_ejected(outlier, host, true);
}

void px_outlier_report(struct px_outlier *outlier, struct px_outlier_host *host,
                       px_outlier_kind kind, uint64_t now_ns)
{
    if (host->is_ejected || lt_vec_find(&outlier->hosts, host) < 0)
        return; /* it was reported while the host was on its way out */
    eject(outlier, host, kind, now_ns);
    if (kind == PX_OUTLIER_5XX)
        px_shared_set(&host->state->consecutive_5xx, 0);
    else if (kind == PX_OUTLIER_GATEWAY)
        px_shared_set(&host->state->consecutive_gateway, 0);
    else
        px_shared_set(&host->state->consecutive_local, 0);
}

void px_outlier_check_passed(struct px_outlier *outlier, struct px_outlier_host *host)
{
    if (host->is_ejected && outlier->conf->check_unejects)
        take_back(outlier, host);
}

/* --- once an interval --- */

static void maybe_take_back(struct px_outlier *outlier, struct px_outlier_host *host,
                            uint64_t now_ns)
{
    const struct px_outlier_conf *conf = outlier->conf;
    if (!host->is_ejected) { /* what it has done wrong is forgotten step by step */
        host->multiplier -= host->multiplier > 0 ? 1 : 0;
        return;
    }
    uint64_t out_ms = LT_MIN(conf->base_ejection_ms * host->multiplier, conf->max_ejection_ms);
    if (conf->ejection_jitter_ms > 0)
        out_ms += lt_prng_next(outlier->prng) % (conf->ejection_jitter_ms + 1);
    if (now_ns - host->ejected_ns >= out_ms * LT_NS_PER_MS)
        take_back(outlier, host);
}

/* What one interval has brought of one kind of answer. */
struct sample {
    struct px_outlier_host *host;
    double rate; /* of success, percent */
    uint64_t volume;
};

/* The interval's counts start anew. */
static struct sample take_sample(struct px_outlier_host *host, struct px_host_tally *tally)
{
    uint32_t requests = atomic_exchange_explicit(&tally->requests, 0, memory_order_relaxed);
    uint32_t successes = atomic_exchange_explicit(&tally->successes, 0, memory_order_relaxed);
    double rate = requests == 0 ? -1 : 100.0 * LT_MIN(successes, requests) / requests;
    return (struct sample){host, rate, requests};
}

static void judge_by_deviation(struct px_outlier *outlier, const struct sample *samples,
                               size_t count, bool is_local, uint64_t now_ns)
{
    const struct px_outlier_conf *conf = outlier->conf;
    double sum = 0, squares = 0;
    size_t valid = 0;
    for (size_t i = 0; i < count; i++) {
        bool counts = samples[i].volume > 0 && samples[i].volume >= conf->success_rate_volume;
        sum += counts ? samples[i].rate : 0;
        valid += counts;
    }
    if (valid == 0 || valid < conf->success_rate_hosts)
        return;
    double mean = sum / (double)valid;
    for (size_t i = 0; i < count; i++) {
        bool counts = samples[i].volume > 0 && samples[i].volume >= conf->success_rate_volume;
        squares += counts ? (samples[i].rate - mean) * (samples[i].rate - mean) : 0;
    }
    double threshold = mean -
                       conf->success_rate_stdev_thousandth / 1000.0 * sqrt(squares / (double)valid);
    *(is_local ? &outlier->local_average : &outlier->average) = mean;
    *(is_local ? &outlier->local_threshold : &outlier->threshold) = threshold;
    for (size_t i = 0; i < count; i++) {
        bool counts = samples[i].volume > 0 && samples[i].volume >= conf->success_rate_volume;
        if (counts && samples[i].rate < threshold && !samples[i].host->is_ejected)
            eject(outlier, samples[i].host,
                  is_local ? PX_OUTLIER_LOCAL_SUCCESS_RATE : PX_OUTLIER_SUCCESS_RATE, now_ns);
    }
}

static void judge_by_percent(struct px_outlier *outlier, const struct sample *samples, size_t count,
                             bool is_local, uint64_t now_ns)
{
    const struct px_outlier_conf *conf = outlier->conf;
    size_t valid = 0;
    for (size_t i = 0; i < count; i++)
        valid += samples[i].volume > 0 && samples[i].volume >= conf->failure_percent_volume;
    if (valid == 0 || valid < conf->failure_percent_hosts)
        return;
    for (size_t i = 0; i < count; i++) {
        bool counts = samples[i].volume > 0 && samples[i].volume >= conf->failure_percent_volume;
        if (counts && 100.0 - samples[i].rate >= conf->failure_percent_threshold &&
            !samples[i].host->is_ejected)
            eject(outlier, samples[i].host,
                  is_local ? PX_OUTLIER_LOCAL_FAILURE_PERCENT : PX_OUTLIER_FAILURE_PERCENT, now_ns);
    }
}

static void judge(struct px_outlier *outlier, bool is_local, uint64_t now_ns)
{
    const struct px_outlier_conf *conf = outlier->conf;
    size_t count = 0;
    struct sample *samples = lt_calloc(outlier->hosts.count + 1, sizeof(*samples));
    *(is_local ? &outlier->local_average : &outlier->average) = -1;
    *(is_local ? &outlier->local_threshold : &outlier->threshold) = -1;
    for (size_t i = 0; i < outlier->hosts.count; i++) {
        struct px_outlier_host *host = outlier->hosts.items[i];
        struct sample sample = take_sample(host,
                                           is_local ? &host->state->local : &host->state->external);
        bool is_known = sample.volume > 0 && sample.volume >= LT_MIN(conf->success_rate_volume,
                                                                     conf->failure_percent_volume);
        *(is_local ? &host->local_success_rate
                   : &host->success_rate) = is_known && !host->is_ejected ? sample.rate : -1;
        if (!host->is_ejected)
            samples[count++] = sample;
    }
    judge_by_deviation(outlier, samples, count, is_local, now_ns);
    judge_by_percent(outlier, samples, count, is_local, now_ns);
    free(samples);
}

void px_outlier_sweep(struct px_outlier *outlier, uint64_t now_ns)
{
    for (size_t i = 0; i < outlier->hosts.count; i++)
        maybe_take_back(outlier, outlier->hosts.items[i], now_ns);
    judge(outlier, false, now_ns);
    judge(outlier, true, now_ns);
}
