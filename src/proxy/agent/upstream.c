/*
 * proxy/agent/upstream.c - resolve, load the root, make the channel; after every failed connection
 * again.
 * Start at: px_upstream_new(), refresh().
 */
#include "proxy/agent/upstream.h"

#include "base/file.h"
#include "net/resolve.h"

enum {
    RETRY_BASE_MS = 200,
    RETRY_MAX_MS = 10000,
    /*
     * Of connecting to the address that is known: who comes back is to be found within a second. It
     * costs a SYN where nobody listens.
     */
    CONNECT_RETRY_MAX_MS = 1000,
};

struct px_upstream {
    struct px_upstream_opts opts;
    const struct lt_env *env;        /* borrowed */
    struct lt_grpc_channel *channel; /* owned; NULL until the first address is known */
    struct lt_resolve *resolve;      /* owned; NULL while no lookup runs */
    struct lt_tls_ctx *tls;          /* counted; NULL: plaintext, or not yet */
    uint64_t root_stamp;             /* of the file that tls was made from */
    struct lt_addr addr;
    struct lt_timer retry;
    struct lt_backoff backoff;
    struct lt_prng prng;
    char *root_path; /* owned, NUL-terminated */
    uint64_t failures;
    uint64_t in_a_row; /* of them, since it was ready */
};

static void refresh(struct px_upstream *upstream);

static void retry_later(struct px_upstream *upstream, const char *what, const char *why)
{
    lt_log_warn(&upstream->env->log, "agent: control plane %.*s: %s: %s",
                LT_STR_ARG(upstream->opts.host), what, why);
    lt_loop_timer_set(upstream->opts.loop, &upstream->retry,
                      lt_backoff_next_ns(&upstream->backoff, &upstream->prng));
}

/* A changed root file makes a new context; a broken one leaves the old. */
static lt_rc load_root(struct px_upstream *upstream, struct lt_err *err)
{
    uint64_t stamp = lt_file_stamp(upstream->root_path);
    if (upstream->opts.is_plaintext ||
        (upstream->tls != NULL && (stamp == 0 || stamp == upstream->root_stamp)))
        return LT_OK;
    static const lt_str h2 = {"h2", 2};
    struct lt_arena *scratch = lt_arena_new(16 << 10, 0);
    struct lt_tls_opts opts = {.verify_peer = true, .alpn = &h2, .alpn_count = 1};
    struct lt_tls_ctx *fresh = NULL;
    lt_rc rc = lt_file_read(scratch, upstream->root_path, &opts.ca_pem, err);
    if (rc == LT_OK)
        rc = lt_tls_ctx_new(&opts, &fresh, err);
    lt_arena_free(&scratch);
    if (rc != LT_OK)
        return lt_err_wrap(err, rc, "%s", upstream->root_path);
    lt_tls_ctx_unref(&upstream->tls);
    upstream->tls = fresh;
    upstream->root_stamp = stamp;
    return LT_OK;
}

static void on_channel_state(void *ctx, lt_grpc_channel_state state, const char *reason)
{
    struct px_upstream *upstream = ctx;
    if (state == LT_GRPC_READY) {
        lt_backoff_reset(&upstream->backoff);
        upstream->in_a_row = 0;
    }
    if (state != LT_GRPC_BACKING_OFF)
        return;
    upstream->failures++;
    upstream->in_a_row++;
    if ((upstream->in_a_row & (upstream->in_a_row - 1)) ==
        0) /* 1, 2, 4 ...: a long outage is no news */
        lt_log_warn(&upstream->env->log, "agent: control plane %.*s: %s (%llu times in a row)",
                    LT_STR_ARG(upstream->opts.host), reason,
                    (unsigned long long)upstream->in_a_row);
    /* it may have moved, or have a new root; the channel itself keeps trying with what it has */
    if (upstream->resolve == NULL && !lt_timer_is_set(&upstream->retry))
        lt_loop_timer_set(upstream->opts.loop, &upstream->retry,
                          lt_backoff_next_ns(&upstream->backoff, &upstream->prng));
}

static void make_channel(struct px_upstream *upstream)
{
    struct lt_grpc_channel_opts opts = LT_GRPC_CHANNEL_OPTS_DEFAULT;
    char authority[LT_RESOLVE_HOST_MAX + 16];
    bool is_v6 = lt_str_find_char(upstream->opts.host, ':') >= 0;
    (void)snprintf(authority, sizeof(authority), "%s%.*s%s:%u", is_v6 ? "[" : "",
                   LT_STR_ARG(upstream->opts.host), is_v6 ? "]" : "", upstream->opts.port);
    struct lt_addr literal;
    bool is_ip = lt_addr_parse(upstream->opts.tls_name, 0, &literal) == LT_OK;
    struct lt_san_matcher san = {.type = is_ip ? LT_SAN_IP : LT_SAN_DNS,
                                 .match = LT_SAN_EXACT,
                                 .ignore_case = true,
                                 .value = upstream->opts.tls_name};
    opts.addr = upstream->addr;
    opts.authority = lt_str_of(authority);
    opts.tls = upstream->tls;
    opts.backoff_base_ns = RETRY_BASE_MS * LT_NS_PER_MS;
    opts.backoff_max_ns = CONNECT_RETRY_MAX_MS * LT_NS_PER_MS;
    if (upstream->tls != NULL) {
        opts.sni = is_ip ? LT_STR_NULL : upstream->opts.tls_name;
        opts.sans = &san;
        opts.san_count = 1;
    }
    upstream->channel = lt_grpc_channel_new(upstream->opts.loop, &opts, on_channel_state, upstream);
}

static void on_resolved(void *ctx, lt_rc rc, const struct lt_addr *addrs, size_t count,
                        const char *reason)
{
    struct px_upstream *upstream = ctx;
    struct lt_err err = {0};
    upstream->resolve = NULL;
    if (rc != LT_OK) {
        retry_later(upstream, "cannot be found", reason);
        return;
    }
    upstream->addr = addrs[lt_prng_below(&upstream->prng, (uint32_t)count)];
    if (load_root(upstream, &err) != LT_OK) {
        retry_later(upstream, "cannot be trusted", err.text);
        return;
    }
    if (upstream->channel != NULL) {
        lt_grpc_channel_set_addr(upstream->channel, &upstream->addr);
        if (upstream->tls != NULL)
            lt_grpc_channel_set_tls(upstream->channel, upstream->tls);
        return;
    }
    make_channel(upstream);
    upstream->opts.on_ready(upstream->opts.ctx, upstream->channel);
}

static void refresh(struct px_upstream *upstream)
{
    if (upstream->resolve == NULL)
        upstream->resolve = lt_resolve_start(upstream->opts.loop, upstream->opts.host,
                                             upstream->opts.port, on_resolved, upstream);
}

static void on_retry(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    refresh(LT_CONTAINER_OF(timer, struct px_upstream, retry));
}

struct px_upstream *px_upstream_new(const struct px_upstream_opts *opts)
{
    struct px_upstream *upstream = lt_new(struct px_upstream);
    upstream->opts = *opts;
    upstream->env = lt_loop_env(opts->loop);
    upstream->root_path = lt_str_dupz(opts->root_path);
    lt_timer_init(&upstream->retry, on_retry);
    lt_backoff_init(&upstream->backoff, RETRY_BASE_MS * LT_NS_PER_MS, RETRY_MAX_MS * LT_NS_PER_MS);
    lt_prng_seed(&upstream->prng, upstream->env);
    refresh(upstream);
    return upstream;
}

void px_upstream_free(struct px_upstream **upstream)
{
    struct px_upstream *dying = *upstream;
    *upstream = NULL;
    if (dying == NULL)
        return;
    lt_resolve_cancel(&dying->resolve);
    lt_loop_timer_cancel(dying->opts.loop, &dying->retry);
    if (dying->channel != NULL)
        lt_grpc_channel_close(&dying->channel, NULL, NULL);
    lt_tls_ctx_unref(&dying->tls);
    free(dying->root_path);
    free(dying);
}

uint64_t px_upstream_failures(const struct px_upstream *upstream)
{
    return upstream->failures;
}
