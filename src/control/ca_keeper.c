/*
 * control/ca_keeper.c - one timer, two dates: the next look at the root, and the day on which the
 * serving certificate is renewed. Start at: on_timer().
 */
#include "control/ca_keeper.h"

enum {
    RENEW_PERCENT = 20, /* of the serving certificate's life left, or what the root's is */
    LOOK_S_MAX = 3600,  /* clocks are set: no sleep is longer */
    RETRY_S_MAX = 60,   /* after a failure */
    RETRY_S_LEAST = 1,
};

struct cp_keeper {
    struct cp_keeper_opts opts;
    const struct lt_env *env; /* borrowed */
    struct lt_timer timer;
    uint64_t check_at_ns; /* monotonic; UINT64_MAX: never */
    int64_t serving_begin_s;
    uint32_t failures_in_row;
    struct cp_keeper_stats stats;
};

static int64_t wall_s(const struct cp_keeper *keeper)
{
    return lt_env_wall_ns(keeper->env) / (int64_t)LT_NS_PER_S;
}

static uint32_t percent_of(const struct cp_keeper *keeper)
{
    return keeper->opts.store.renew_percent != 0 ? keeper->opts.store.renew_percent
                                                 : (uint32_t)RENEW_PERCENT;
}

/* --- the serving certificate --- */

static lt_rc make_context(const struct cp_keeper *keeper, const struct cp_ca_serving *serving,
                          struct lt_tls_ctx **ret_tls, struct lt_err *err)
{
    static const lt_str alpn[] = {{"h2", 2}};
    struct lt_tls_opts opts = {.is_server = true,
                               .cert_chain_pem = serving->chain_pem,
                               .key_pem = lt_str_of(serving->key_pem),
                               .ca_pem = cp_ca_root_pem(keeper->opts.ca),
                               .verify_peer = true,
                               .alpn = alpn,
                               .alpn_count = 1};
    return lt_tls_ctx_new(&opts, ret_tls, err);
}

static lt_rc renew_serving(struct cp_keeper *keeper, struct lt_err *err)
{
    const struct cp_keeper_opts *opts = &keeper->opts;
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    struct cp_ca_serving serving = {0};
    struct lt_tls_ctx *tls = NULL;
    int64_t now_s = wall_s(keeper), root_ttl_s = opts->store.root_ttl_s;
    int64_t ttl_s = root_ttl_s > 0 ? LT_MIN(root_ttl_s, (int64_t)CP_CA_SERVING_TTL_S)
                                   : CP_CA_SERVING_TTL_S;
    lt_rc rc = cp_ca_issue_serving(opts->ca, arena, opts->dns_names, opts->dns_name_count, ttl_s,
                                   now_s, &serving, err);
    if (rc == LT_OK)
        rc = make_context(keeper, &serving, &tls, err);
    if (rc == LT_OK) {
        opts->on_serving(opts->ctx, tls);
        keeper->serving_begin_s = now_s;
        keeper->stats.serving_not_after_s = serving.not_after_s;
        keeper->stats.serving_renewals++;
    }
    lt_tls_ctx_unref(&tls);
    lt_key_pem_free(&serving.key_pem);
    lt_arena_free(&arena);
    return rc == LT_OK ? LT_OK : lt_err_wrap(err, rc, "serving certificate");
}

/* --- the root --- */

static bool has_same_key(lt_str cert_pem, lt_str other_pem)
{
    struct lt_key *key = NULL, *other = NULL;
    bool is_same = lt_key_parse_public(cert_pem, &key, NULL) == LT_OK &&
                   lt_key_parse_public(other_pem, &other, NULL) == LT_OK && lt_key_eq(key, other);
    lt_key_free(&key);
    lt_key_free(&other);
    return is_same;
}

static lt_rc take_over(struct cp_keeper *keeper, const struct cp_ca_store *store, int64_t now_s,
                       struct lt_err *err)
{
    if (!has_same_key(store->material.root_pem, cp_ca_root_pem(keeper->opts.ca)))
        return lt_err_set(err, LT_E_BAD, "the root in %s has another key: it waits for a restart",
                          keeper->opts.store.state_dir);
    return cp_ca_replace(keeper->opts.ca, &store->material, now_s, err);
}

/*
 * Reads it anew, so that what another process has renewed is taken over, too. Never another key:
 * a root that is gone from the disk, or a CA that was plugged in meanwhile, waits for a start.
 */
static lt_rc check_root(struct cp_keeper *keeper, bool *ret_is_new, struct lt_err *err)
{
    struct cp_ca_store_opts opts = keeper->opts.store;
    struct cp_ca_store store;
    int64_t now_s = wall_s(keeper);
    keeper->stats.root_checks++;
    *ret_is_new = false;
    opts.only_own = true;
    LT_TRY(cp_ca_store_load(&opts, now_s, &store, err));
    lt_rc rc = LT_OK;
    if (!lt_str_eq(store.material.root_pem, cp_ca_root_pem(keeper->opts.ca))) {
        rc = take_over(keeper, &store, now_s, err);
        *ret_is_new = rc == LT_OK;
    }
    keeper->stats.root_renewals += store.was_renewed && rc == LT_OK ? 1 : 0;
    cp_ca_store_fini(&store);
    return rc;
}

static void read_root_end(struct cp_keeper *keeper)
{
    struct lt_arena *arena = lt_arena_new(8 << 10, 0);
    struct lt_cert *certs = NULL;
    size_t count = 0;
    if (lt_cert_parse_chain(arena, cp_ca_root_pem(keeper->opts.ca), &certs, &count, NULL) == LT_OK)
        keeper->stats.root_not_after_s = certs[0].not_after_s;
    lt_arena_free(&arena);
}

/* --- the calendar --- */

static bool is_check_due(const struct cp_keeper *keeper)
{
    return lt_loop_now_ns(keeper->opts.loop) >= keeper->check_at_ns;
}

static bool is_serving_due(const struct cp_keeper *keeper)
{
    return cp_ca_is_renewal_due(keeper->serving_begin_s, keeper->stats.serving_not_after_s,
                                percent_of(keeper), wall_s(keeper));
}

static uint64_t serving_wait_ns(const struct cp_keeper *keeper)
{
    int64_t end_s = keeper->stats.serving_not_after_s;
    int64_t kept_s = (end_s - keeper->serving_begin_s) * (int64_t)percent_of(keeper) / 100;
    int64_t wait_s = end_s - kept_s - wall_s(keeper) + 1;
    return (uint64_t)LT_MAX(wait_s, (int64_t)RETRY_S_LEAST) * LT_NS_PER_S;
}

static uint64_t retry_wait_ns(const struct cp_keeper *keeper)
{
    uint64_t wait_s = (uint64_t)RETRY_S_LEAST << LT_MIN(keeper->failures_in_row - 1, 6u);
    return LT_MIN(wait_s, (uint64_t)RETRY_S_MAX) * LT_NS_PER_S;
}

static void schedule(struct cp_keeper *keeper)
{
    uint64_t now_ns = lt_loop_now_ns(keeper->opts.loop);
    uint64_t wait_ns = LT_MIN(serving_wait_ns(keeper), LOOK_S_MAX * LT_NS_PER_S);
    if (keeper->failures_in_row > 0)
        wait_ns = retry_wait_ns(keeper);
    else if (keeper->check_at_ns != UINT64_MAX)
        wait_ns = LT_MIN(wait_ns, keeper->check_at_ns - LT_MIN(keeper->check_at_ns, now_ns));
    lt_loop_timer_set(keeper->opts.loop, &keeper->timer, wait_ns);
}

static lt_rc look_at_root(struct cp_keeper *keeper, bool *ret_is_new, struct lt_err *err)
{
    LT_TRY(check_root(keeper, ret_is_new, err));
    keeper->check_at_ns = lt_loop_now_ns(keeper->opts.loop) +
                          (uint64_t)keeper->opts.check_interval_ns;
    if (!*ret_is_new)
        return LT_OK;
    read_root_end(keeper);
    lt_log_info(&keeper->env->log, "ca: the root was renewed, it ends in %lld s",
                (long long)(keeper->stats.root_not_after_s - wall_s(keeper)));
    return LT_OK;
}

static lt_rc look_at_serving(struct cp_keeper *keeper, struct lt_err *err)
{
    LT_TRY(renew_serving(keeper, err));
    lt_log_info(&keeper->env->log, "ca: the serving certificate was renewed, it ends in %lld s",
                (long long)(keeper->stats.serving_not_after_s - wall_s(keeper)));
    return LT_OK;
}

static bool is_good(struct cp_keeper *keeper, lt_rc rc, const struct lt_err *err)
{
    if (rc != LT_OK)
        lt_log_error(&keeper->env->log, "ca: %s", err->text);
    return rc == LT_OK;
}

static void on_timer(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct cp_keeper *keeper = LT_CONTAINER_OF(timer, struct cp_keeper, timer);
    struct lt_err err = {0};
    bool is_new = false, is_all_good = true;
    if (is_check_due(keeper))
        is_all_good = is_good(keeper, look_at_root(keeper, &is_new, &err), &err);
    /* the port's context holds the root, too: callers show what the new one signed */
    if (is_new || is_serving_due(keeper))
        is_all_good &= is_good(keeper, look_at_serving(keeper, &err), &err);
    keeper->failures_in_row = is_all_good ? 0 : keeper->failures_in_row + 1;
    keeper->stats.failures += is_all_good ? 0 : 1;
    schedule(keeper);
}

/* --- begin and end --- */

static uint64_t first_check_ns(const struct cp_keeper *keeper)
{
    const struct cp_keeper_opts *opts = &keeper->opts;
    if (opts->is_plugged_in || opts->check_interval_ns <= 0)
        return UINT64_MAX;
    uint64_t wait_ns = (uint64_t)opts->check_interval_ns;
    if (opts->has_jitter)
        wait_ns = lt_env_random_u64(keeper->env) % wait_ns;
    return lt_loop_now_ns(opts->loop) + wait_ns;
}

lt_rc cp_keeper_new(const struct cp_keeper_opts *opts, struct cp_keeper **ret_keeper,
                    struct lt_err *err)
{
    struct cp_keeper *keeper = lt_new(struct cp_keeper);
    keeper->opts = *opts;
    keeper->env = lt_loop_env(opts->loop);
    lt_timer_init(&keeper->timer, on_timer);
    keeper->check_at_ns = first_check_ns(keeper);
    read_root_end(keeper);
    lt_rc rc = renew_serving(keeper, err);
    if (rc != LT_OK) {
        cp_keeper_free(&keeper);
        return rc;
    }
    schedule(keeper);
    *ret_keeper = keeper;
    return LT_OK;
}

void cp_keeper_free(struct cp_keeper **keeper)
{
    if (*keeper == NULL)
        return;
    lt_loop_timer_cancel((*keeper)->opts.loop, &(*keeper)->timer);
    free(*keeper);
    *keeper = NULL;
}

const struct cp_keeper_stats *cp_keeper_stats(const struct cp_keeper *keeper)
{
    return &keeper->stats;
}
