/*
 * proxy/health/members_host.c - one host as the main thread looks after it: it is asked how it is,
 * and taken out and in by outlier detection.
 */
#include <stdlib.h>

#include "proxy/health/members_priv.h"

static void on_next(struct lt_timer *timer, uint64_t now_ns);
static void on_result(void *ctx, px_check_result result, bool says_excluded);

/* --- life --- */

struct px_member *px_member_new(struct px_care *care, lt_str name)
{
    struct px_member *member = lt_new(struct px_member);
    member->care = care;
    member->name = lt_str_dupz(name);
    member->state = px_host_state_new();
    member->state->owner = member;
    member->authority = lt_str_dupz(LT_STR_NULL);
    lt_timer_init(&member->next, on_next);
    if (care->outlier.conf != NULL)
        px_outlier_add(&care->outlier, &member->outlier, member->state);
    return member;
}

static void stop_checks(struct px_member *member)
{
    lt_loop_timer_cancel(member->care->members->opts.loop, &member->next);
    px_asker_free(&member->asker);
    if (member->is_checked)
        px_check_end(&member->check);
    member->is_checked = member->is_paused = false;
}

void px_member_free(struct px_member *member)
{
    stop_checks(member);
    px_outlier_remove(&member->care->outlier, &member->outlier);
    member->state->owner = NULL; /* reports of workers may still come */
    px_host_state_unref(&member->state);
    free(member->name);
    free(member->authority);
    free(member);
}

/* --- checks --- */

static struct px_asker *make_asker(struct px_member *member)
{
    const struct px_members_opts *opts = &member->care->members->opts;
    const struct px_cluster_conf *conf = member->care->conf;
    struct px_asker_opts asker = {
        .loop = opts->loop,
        .conf = conf->check,
        .addr = member->addr,
        .authority = lt_str_of(member->authority),
        .tls = member->tls,
        .tls_ctx = opts->tls_ctx,
        .tls_arg = opts->ctx,
        .on_result = on_result,
        .ctx = member,
    };
    if (conf->socket != NULL)
        asker.source = conf->socket->source;
    return px_asker_new(&asker);
}

static void on_next(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_member *member = LT_CONTAINER_OF(timer, struct px_member, next);
    if (member->asker == NULL)
        member->asker = make_asker(member);
    member->care->check_stats.attempts++;
    if (member->care->conf->check->service != NULL)
        member->care->check_stats.verifications++;
    px_asker_ask(member->asker);
}

static void begin_checks(struct px_member *member, bool is_new)
{
    struct px_care *care = member->care;
    struct px_members *members = care->members;
    px_check_begin(&member->check, care->conf->check, member->state, &care->check_stats, is_new,
                   care->conf->ignores_new_until_check);
    member->is_checked = true;
    uint64_t delay_ms = px_check_first_delay_ms(&member->check, &members->prng);
    lt_loop_timer_set(members->opts.loop, &member->next, delay_ms * LT_NS_PER_MS);
}

static void set_flag(struct px_member *member, uint32_t flag, bool is_on)
{
    uint32_t flags = px_shared_get(&member->state->flags);
    px_shared_set(&member->state->flags, is_on ? flags | flag : flags & ~flag);
}

/* A host that the control plane has taken away stays only as long as it passes. */
static void look_at_removal(struct px_member *member)
{
    uint32_t gone = PX_HOST_FLAG(PENDING_REMOVAL) | PX_HOST_FLAG(FAILED_CHECK);
    if ((px_shared_get(&member->state->flags) & gone) == gone)
        member->care->is_stale = true;
}

static uint64_t take_result(struct px_member *member, px_check_result result)
{
    struct px_care *care = member->care;
    uint64_t delay_ms = 0;
    bool was_pending = px_member_is_pending(member);
    bool has_traffic = px_shared_get(&care->state->has_traffic) != 0;
    if (px_check_take(&member->check, result, has_traffic, &care->members->prng, &delay_ms))
        px_care_mark(care);
    bool has_passed = result == PX_CHECK_PASSED || result == PX_CHECK_PASSED_DEGRADED;
    if (has_passed && care->outlier.conf != NULL)
        px_outlier_check_passed(&care->outlier, &member->outlier);
    look_at_removal(member);
    if (was_pending || care->is_stale)
        px_care_changed(care);
    return delay_ms;
}

static void on_result(void *ctx, px_check_result result, bool says_excluded)
{
    struct px_member *member = ctx;
    struct px_members *members = member->care->members;
    if (says_excluded && result != PX_CHECK_PASSED)
        set_flag(member, PX_HOST_FLAG(EXCLUDED), true);
    uint64_t delay_ms = take_result(member, result);
    lt_loop_timer_set(members->opts.loop, &member->next, delay_ms * LT_NS_PER_MS);
}

/* --- what it is checked by --- */

static void set_text(char **text, lt_str to)
{
    free(*text);
    *text = lt_str_dupz(to);
}

static struct lt_addr check_addr(const struct px_check_conf *conf,
                                 const struct px_endpoint_conf *endpoint)
{
    const struct px_endpoint_check *own = endpoint->facts->check;
    struct lt_addr addr = own != NULL && own->addr.len > 0 ? own->addr : px_endpoint_addr(endpoint);
    if (addr.sa.sa_family == AF_UNIX)
        return addr;
    if (own != NULL && own->port != 0)
        lt_addr_set_port(&addr, own->port);
    else if (conf->alt_port != 0)
        lt_addr_set_port(&addr, conf->alt_port);
    return addr;
}

/* By another version of the cluster: the host has served, and is what it was found to be. */
static void resume_checks(struct px_member *member)
{
    bool was_checked = member->check.was_checked;
    begin_checks(member, false);
    member->check.was_checked = was_checked;
    member->is_paused = false;
}

void px_member_set(struct px_member *member, const struct px_endpoint_conf *endpoint)
{
    const struct px_cluster_conf *conf = member->care->conf;
    const struct px_check_conf *check = conf->check;
    const struct px_endpoint_check *own = endpoint->facts->check;
    set_flag(member, PX_HOST_FLAG(PENDING_REMOVAL), false);
    if (check == NULL || (own != NULL && own->is_off)) {
        stop_checks(member);
        return;
    }
    struct lt_addr addr = check_addr(check, endpoint);
    lt_str authority = own != NULL && own->hostname.len > 0 ? own->hostname
                       : check->host.len > 0                ? check->host
                                                            : conf->res.name;
    member->tls = check->has_transport ? check->tls
                                       : px_cluster_find_tls(conf, &endpoint->facts->transport);
    if (!lt_addr_eq(&addr, &member->addr) || !lt_str_eqz(authority, member->authority)) {
        bool was_busy = member->asker != NULL && px_asker_is_busy(member->asker);
        px_asker_free(&member->asker);
        if (was_busy) /* the question went with it */
            lt_loop_timer_set(member->care->members->opts.loop, &member->next, 0);
    }
    member->addr = addr;
    set_text(&member->authority, authority);
    if (member->is_paused)
        resume_checks(member);
    else if (!member->is_checked)
        begin_checks(member, true);
}

void px_member_follow(struct px_member *member)
{
    lt_loop_timer_cancel(member->care->members->opts.loop, &member->next);
    px_asker_free(&member->asker);
    member->is_paused = member->is_checked;
}

/* --- ejections --- */

void px_member_on_ejection(void *ctx, struct px_outlier_host *host LT_UNUSED)
{
    px_care_mark(ctx);
}

void px_members_report(struct px_members *members, struct px_host_state *host, unsigned kind)
{
    struct px_member *member = host->owner;
    if (member == NULL)
        return;
    struct px_care *care = member->care;
    if (kind != PX_REPORT_IMMEDIATE_FAIL) {
        if (care->outlier.conf != NULL)
            px_outlier_report(&care->outlier, &member->outlier, (px_outlier_kind)kind,
                              lt_loop_now_ns(members->opts.loop));
    } else if (member->is_checked) {
        take_result(member, PX_CHECK_PASSIVE);
    }
}
