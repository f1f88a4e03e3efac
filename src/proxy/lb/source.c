/*
 * proxy/lb/source.c - drawing a host from a list: round robin, least request, random; with weights
 * and slow start by earliest deadline first.
 * Start at: px_lb_draw().
 */
#include <math.h>
#include <stdlib.h>

#include "proxy/lb/lb_priv.h"

/* --- lists --- */

static void make_list(struct px_lb *lb, struct px_lb_source *source, uint32_t first, uint32_t count,
                      uint32_t wanted, px_lb_from from)
{
    source->is_made = true;
    source->count = wanted;
    if (wanted == count) {
        source->hosts = &lb->hosts[first];
        return;
    }
    source->is_own = true;
    source->hosts = lt_calloc(wanted + 1, sizeof(struct px_lb_host *));
    uint32_t at = 0;
    for (uint32_t i = first; i < first + count; i++) {
        if (px_lb_is_from(lb->hosts[i], from))
            source->hosts[at++] = lb->hosts[i];
    }
    LT_ASSERT(at == wanted);
}

struct px_lb_source *px_lb_level_source(struct px_lb *lb, struct px_lb_level *level,
                                        px_lb_from from)
{
    struct px_lb_source *source = &level->sources[from];
    if (!source->is_made)
        make_list(lb, source, level->first, level->count, px_lb_count_of(&level->hosts, from),
                  from);
    return source;
}

struct px_lb_source *px_lb_place_source(struct px_lb *lb, struct px_lb_place *place,
                                        px_lb_from from)
{
    struct px_lb_source *source = &place->sources[from];
    if (!source->is_made)
        make_list(lb, source, place->first, place->count, px_lb_count_of(&place->hosts, from),
                  from);
    return source;
}

void px_lb_source_fini(struct px_lb_source *source)
{
    if (source->is_own)
        free(source->hosts);
    free(source->edf);
    *source = (struct px_lb_source){0};
}

/* --- weights --- */

/* Envoy: weight * max(min, (time / window) ^ (1 / aggression)) */
static double slow_factor(const struct px_lb_conf *conf, const struct px_lb_host *host,
                          uint64_t now_ns)
{
    uint64_t window_ns = conf->slow_start_ms * LT_NS_PER_MS;
    if (window_ns == 0 || host->since_ns == 0 || host->health != PX_LB_HEALTHY)
        return 1.0;
    uint64_t age_ns = now_ns > host->since_ns ? now_ns - host->since_ns : 0;
    if (age_ns >= window_ns)
        return 1.0;
    double part = (double)LT_MAX(age_ns, (uint64_t)LT_NS_PER_MS) / (double)window_ns;
    double grown = conf->slow_start_aggression == 1.0
                       ? part
                       : pow(part, 1.0 / conf->slow_start_aggression);
    return LT_MAX(grown, conf->slow_start_min);
}

static double weight_of(const struct px_lb_conf *conf, const struct px_lb_host *host,
                        uint64_t now_ns)
{
    double weight = host->weight * slow_factor(conf, host, now_ns);
    if (conf->policy == PX_LB_LEAST_REQUEST && conf->active_request_bias > 0) {
        double busy = (double)host->rq_active + 1.0;
        weight /= conf->active_request_bias == 1.0 ? busy : pow(busy, conf->active_request_bias);
    }
    return LT_MAX(weight, 1e-9); /* min_weight_percent may be 0 */
}

/* Until when some host of it is in slow start; 0: none is. */
static uint64_t slow_until(const struct px_lb_conf *conf, const struct px_lb_source *source,
                           uint64_t now_ns)
{
    uint64_t window_ns = conf->slow_start_ms * LT_NS_PER_MS, until_ns = 0;
    for (uint32_t i = 0; window_ns > 0 && i < source->count; i++) {
        uint64_t since_ns = source->hosts[i]->since_ns;
        if (since_ns != 0 && since_ns + window_ns > now_ns)
            until_ns = LT_MAX(until_ns, since_ns + window_ns);
    }
    return until_ns;
}

static bool has_weights(const struct px_lb_source *source)
{
    for (uint32_t i = 1; i < source->count; i++) {
        if (source->hosts[i]->weight != source->hosts[0]->weight)
            return true;
    }
    return false;
}

/* Looks at the weights: once for each list, and again when a slow start has ended. */
static void weigh(const struct px_lb *lb, struct px_lb_source *source, const struct px_lb_ask *ask)
{
    free(source->edf);
    source->edf = NULL;
    source->slow_until_ns = slow_until(lb->conf, source, ask->now_ns);
    if (source->slow_until_ns == 0) {
        source->slow_until_ns = UINT64_MAX;
        if (!has_weights(source))
            return;
    }
    source->edf = px_edf_new(source->count);
    for (uint32_t i = 0; i < source->count; i++)
        px_edf_add(source->edf, i, weight_of(lb->conf, source->hosts[i], ask->now_ns), ask->prng);
}

/* --- policies --- */

static struct px_lb_host *draw_weighted(const struct px_lb *lb, struct px_lb_source *source,
                                        const struct px_lb_ask *ask)
{
    struct px_lb_host *host = source->hosts[px_edf_first(source->edf)];
    px_edf_again(source->edf, weight_of(lb->conf, host, ask->now_ns));
    return host;
}

/* Envoy's power of some choices: of random hosts the one with the fewest requests. */
static struct px_lb_host *draw_least_request(const struct px_lb *lb,
                                             const struct px_lb_source *source,
                                             const struct px_lb_ask *ask)
{
    struct px_lb_host *best = NULL;
    for (uint32_t i = 0; i < lb->conf->choice_count; i++) {
        struct px_lb_host *host = source->hosts[lt_prng_below(ask->prng, source->count)];
        if (best == NULL || host->rq_active < best->rq_active)
            best = host;
    }
    return best;
}

struct px_lb_host *px_lb_draw(struct px_lb *lb, struct px_lb_source *source,
                              const struct px_lb_ask *ask)
{
    if (source->count <= 1)
        return source->count == 1 ? source->hosts[0] : NULL;
    if (lb->conf->policy == PX_LB_RANDOM) /* Envoy: it knows no weights */
        return source->hosts[lt_prng_below(ask->prng, source->count)];
    if (ask->now_ns >= source->slow_until_ns) {
        if (source->slow_until_ns == 0)
            source->next = lt_prng_below(ask->prng, source->count);
        weigh(lb, source, ask);
    }
    if (source->edf != NULL)
        return draw_weighted(lb, source, ask);
    if (lb->conf->policy == PX_LB_LEAST_REQUEST)
        return draw_least_request(lb, source, ask);
    if (source->next >= source->count)
        source->next = 0;
    return source->hosts[source->next++];
}
