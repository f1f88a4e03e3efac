/*
 * proxy/agent/agent.c - the agent's parts put together.
 *   agent_settings, agent_node, agent_bootstrap   who we are, as values
 *   agent_upstream    the way to the control plane, and to its CA
 *   agent_identity    our certificate       agent_secrets  what is handed out
 *   agent_sds, agent_xds, agent_envoy       a real Envoy and its two sockets
 *   agent_status, agent_probe               the status port
 * Start at: px_agent_start().
 */
#include "proxy/agent/agent.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/rope.h"
#include "net/x509.h"
#include "proxy/agent/envoy.h"
#include "proxy/agent/identity.h"
#include "proxy/agent/kept.h"
#include "proxy/agent/sds.h"
#include "proxy/agent/settings.h"
#include "proxy/agent/status.h"
#include "proxy/agent/upstream.h"
#include "proxy/agent/xds.h"
#include "wire/pb.h"
#include "wire/proto/istio_proxyconfig.pb-c.h"

_Static_assert((int)PX_XDS_METADATA_MAX == (int)PX_AGENT_METADATA_MAX, "one array for both");

enum {
    STATS_TIMEOUT_MS = 3000,
    STATS_BYTES_MAX = 32 << 20,
    ROOTS_MAX = 1000, /* of PCDS */
    ROOTS_BYTES_MAX = 4 << 20,
};

extern char **environ;

struct px_agent {
    struct px_agent_opts opts;
    struct lt_loop *loop;
    const struct lt_env *env;
    struct lt_arena *arena;         /* owned; settings and bootstrap */
    const char *const *environment; /* borrowed during px_agent_new */
    struct px_agent_settings settings;
    lt_str bootstrap;
    bool runs_envoy;
    bool is_stopping;
    bool is_leaving; /* to another process */
    bool is_drained;
    struct px_upstream *xds_upstream; /* owned, all below; NULL before px_agent_start */
    struct px_upstream *ca_upstream;  /* NULL: the same as xds_upstream */
    struct px_identity *identity;
    struct px_secrets *secrets;
    struct px_sds *sds;
    struct px_xds_relay *relay;
    struct px_envoy *envoy;
    struct px_probes *probes;
    struct px_scraper *scraper; /* NULL: the application has no metrics of its own */
    struct px_status *status;
    struct lt_bytes *own_root;   /* counted; of the certificate; NULL: none yet */
    struct lt_bytes *more_roots; /* counted; of PCDS; NULL: none */
    struct lt_metric_set *metrics;
    struct lt_list scrapes; /* of Envoy's metrics, that run */
    uint64_t scrapes_total, scrape_failures;
};

/* --- reading the world --- */

static lt_str get_env(void *ctx, const char *name)
{
    const struct px_agent *agent = ctx;
    size_t len = strlen(name);
    for (const char *const *at = agent->environment; *at != NULL; at++) {
        if (strncmp(*at, name, len) == 0 && (*at)[len] == '=')
            return lt_arena_str(agent->arena, lt_str_of(*at + len + 1));
    }
    return LT_STR_NULL;
}

static lt_rc read_file(void *ctx LT_UNUSED, struct lt_arena *arena, const char *path,
                       lt_str *ret_text)
{
    return lt_file_read(arena, path, ret_text, NULL);
}

static bool is_this_program(const char *path)
{
    struct stat self, other;
    return stat("/proc/self/exe", &self) == 0 && stat(path, &other) == 0 &&
           self.st_dev == other.st_dev && self.st_ino == other.st_ino;
}

/*
 * A path that somebody set must be right. Istio's own default is different: where lateen-proxy
 * stands in for Envoy, there often is nothing, or ourselves.
 */
static lt_rc choose_proxy(struct px_agent *agent, struct lt_err *err)
{
    const char *path = lt_arena_strz(agent->arena, agent->settings.binary_path);
    bool is_there = access(path, X_OK) == 0;
    bool is_default = lt_str_eqz(agent->settings.binary_path, "/usr/local/bin/envoy");
    if (!is_there && agent->settings.has_binary_path && !is_default)
        return lt_err_errno(err, "ProxyConfig.binaryPath %s", path);
    agent->runs_envoy = is_there && agent->settings.has_binary_path && !is_this_program(path);
    return LT_OK;
}

static void on_secret(void *ctx, const struct px_secret_view *secret)
{
    struct px_agent *agent = ctx;
    if (agent->sds != NULL)
        px_sds_push(agent->sds, secret);
    if (!agent->runs_envoy)
        agent->opts.hooks->on_secret(agent->opts.ctx, secret->name, secret->version, secret->bytes);
}

lt_rc px_agent_new(const struct px_agent_opts *opts, struct px_agent **ret_agent,
                   struct lt_err *err)
{
    struct px_agent *agent = lt_new(struct px_agent);
    agent->opts = *opts;
    agent->loop = opts->loop;
    agent->env = lt_loop_env(opts->loop);
    agent->arena = lt_arena_new(16 << 10, 0);
    agent->environment = opts->environment != NULL ? opts->environment
                                                   : (const char *const *)environ;
    lt_list_init(&agent->scrapes);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    struct px_agent_sources sources = {.get_env = get_env,
                                       .all_env = agent->environment,
                                       .read_file = read_file,
                                       .ctx = agent,
                                       .is_router = opts->is_router,
                                       .domain = opts->domain,
                                       .log_level = opts->log_level,
                                       .component_log_level = opts->component_log_level,
                                       .concurrency = opts->concurrency,
                                       .cpu_count = cpus > 0 ? (unsigned)cpus : 1};
    lt_rc rc = px_agent_settings_read(agent->arena, &sources, &agent->settings, err);
    if (rc == LT_OK)
        rc = choose_proxy(agent, err);
    if (rc == LT_OK)
        rc = px_probes_new(agent->loop, agent->settings.app_probers, agent->settings.instance_ip,
                           agent->settings.status_port, &agent->probes, err);
    if (rc == LT_OK)
        rc = px_scraper_new(agent->loop, agent->settings.app_metrics, agent->settings.status_port,
                            &agent->scraper, err);
    agent->environment = NULL;
    if (rc != LT_OK) {
        px_agent_free(&agent);
        return rc;
    }
    agent->bootstrap = px_agent_bootstrap_text(agent->arena, &agent->settings);
    agent->secrets = px_secrets_new(agent->loop, on_secret, agent);
    agent->metrics = lt_metric_set_new(64);
    *ret_agent = agent;
    return LT_OK;
}

/* --- the control plane --- */

static size_t make_metadata(void *ctx, struct lt_arena *arena,
                            struct lt_grpc_metadata out[PX_AGENT_METADATA_MAX])
{
    const struct px_agent_settings *settings = &((struct px_agent *)ctx)->settings;
    size_t count = 0;
    lt_str token;
    if (lt_file_read(arena, settings->token_path.ptr, &token, NULL) == LT_OK &&
        lt_str_trim(token).len > 0)
        out[count++] = (struct lt_grpc_metadata){
            LT_STR("authorization"),
            lt_arena_printf(arena, "Bearer %.*s", LT_STR_ARG(lt_str_trim(token))), true};
    out[count++] = (struct lt_grpc_metadata){LT_STR("clusterid"), settings->cluster_id, false};
    for (size_t i = 0; i < settings->xds_header_count; i++)
        out[count++] = (struct lt_grpc_metadata){settings->xds_headers[i].name,
                                                 settings->xds_headers[i].value, false};
    return count;
}

size_t px_agent_metadata(struct px_agent *agent, struct lt_arena *arena,
                         struct lt_grpc_metadata out[PX_AGENT_METADATA_MAX])
{
    return make_metadata(agent, arena, out);
}

static void on_ca_upstream(void *ctx, struct lt_grpc_channel *channel)
{
    px_identity_start(((struct px_agent *)ctx)->identity, channel);
}

static void on_xds_upstream(void *ctx, struct lt_grpc_channel *channel)
{
    struct px_agent *agent = ctx;
    if (agent->ca_upstream == NULL)
        px_identity_start(agent->identity, channel);
    if (agent->relay != NULL)
        px_xds_relay_set_upstream(agent->relay, channel);
    agent->opts.hooks->on_upstream(agent->opts.ctx, channel);
}

/* Usually the CA and discovery are one server, and one connection will do. */
static bool is_ca_apart(const struct px_agent_settings *settings)
{
    return !lt_str_eq(settings->ca_host, settings->discovery_host) ||
           settings->ca_port != settings->discovery_port ||
           settings->ca_is_plaintext != settings->discovery_is_plaintext ||
           !lt_str_eq(settings->ca_name, settings->xds_name) ||
           !lt_str_eq(settings->ca_root_path, settings->xds_root_path);
}

static void start_upstreams(struct px_agent *agent)
{
    const struct px_agent_settings *settings = &agent->settings;
    struct px_upstream_opts xds = {.loop = agent->loop,
                                   .host = settings->discovery_host,
                                   .port = settings->discovery_port,
                                   .tls_name = settings->xds_name,
                                   .root_path = settings->xds_root_path,
                                   .is_plaintext = settings->discovery_is_plaintext,
                                   .on_ready = on_xds_upstream,
                                   .ctx = agent};
    struct px_upstream_opts ca = {.loop = agent->loop,
                                  .host = settings->ca_host,
                                  .port = settings->ca_port,
                                  .tls_name = settings->ca_name,
                                  .root_path = settings->ca_root_path,
                                  .is_plaintext = settings->ca_is_plaintext,
                                  .on_ready = on_ca_upstream,
                                  .ctx = agent};
    if (is_ca_apart(settings))
        agent->ca_upstream = px_upstream_new(&ca);
    agent->xds_upstream = px_upstream_new(&xds);
}

/* --- certificates and secrets --- */

/* The certificate's root, and those that the mesh trusts beside it. */
static void put_roots(struct px_agent *agent)
{
    if (agent->secrets == NULL || agent->own_root == NULL)
        return;
    struct lt_arena *scratch = lt_arena_new(0, 0);
    lt_str crl = LT_STR_NULL, roots = lt_bytes_str(agent->own_root);
    (void)!lt_file_read(scratch, agent->settings.crl_path.ptr, &crl, NULL);
    if (agent->more_roots != NULL)
        roots = lt_arena_printf(scratch, "%.*s\n%.*s", LT_STR_ARG(roots),
                                LT_STR_ARG(lt_bytes_str(agent->more_roots)));
    px_secrets_put_root(agent->secrets, LT_STR("ROOTCA"), roots, lt_str_trim(crl));
    lt_arena_free(&scratch);
}

static void on_cert(void *ctx, const struct px_identity_cert *cert)
{
    struct px_agent *agent = ctx;
    lt_bytes_unref(&agent->own_root);
    agent->own_root = lt_bytes_new(cert->root_pem);
    /* the root first: whoever has the new certificate must be able to judge its like */
    put_roots(agent);
    px_secrets_put_cert(agent->secrets, LT_STR("default"), cert->chain_pem, cert->key_pem);
}

static lt_rc read_roots(struct lt_arena *arena, lt_str message, struct lt_buf *roots,
                        struct lt_err *err)
{
    Istio__ProxyConfig *config = NULL;
    LT_TRY(lt_pb_unpack(arena, &istio__proxy_config__descriptor, message, NULL, &config, err));
    if (config->n_ca_certificates_pem > ROOTS_MAX || message.len > ROOTS_BYTES_MAX)
        return lt_err_set(err, LT_E_LIMIT, "ca_certificates_pem: more than %d, or %d bytes",
                          ROOTS_MAX, ROOTS_BYTES_MAX);
    for (size_t i = 0; i < config->n_ca_certificates_pem; i++) {
        struct lt_cert *certs = NULL;
        size_t count = 0;
        lt_str pem = lt_str_of(config->ca_certificates_pem[i]);
        lt_rc rc = lt_cert_parse_chain(arena, pem, &certs, &count, err);
        if (rc != LT_OK)
            return lt_err_wrap(err, LT_E_BAD, "ca_certificates_pem[%zu]", i);
        for (size_t j = 0; j < count; j++)
            LT_TRY(lt_buf_append_str(roots, certs[j].pem));
    }
    return LT_OK;
}

lt_rc px_agent_take_proxy_config(struct px_agent *agent, lt_str message, struct lt_err *err)
{
    struct lt_arena *scratch = lt_arena_new(0, 0);
    struct lt_buf roots;
    lt_buf_init(&roots, 2 * ROOTS_BYTES_MAX);
    lt_rc rc = read_roots(scratch, message, &roots, err);
    if (rc == LT_OK) {
        lt_bytes_unref(&agent->more_roots);
        agent->more_roots = lt_buf_len(&roots) > 0 ? lt_bytes_new(lt_buf_str(&roots)) : NULL;
        put_roots(agent);
    }
    lt_buf_fini(&roots);
    lt_arena_free(&scratch);
    return rc;
}

lt_rc px_agent_want_secret(struct px_agent *agent, lt_str name)
{
    struct px_secret_view view;
    LT_TRY(px_secrets_want(agent->secrets, name));
    if (px_secrets_find(agent->secrets, name, &view)) /* it came when nothing needed it yet */
        agent->opts.hooks->on_secret(agent->opts.ctx, view.name, view.version, view.bytes);
    return LT_OK;
}

/* --- the status port --- */

static void reply_ready(void *ctx, bool is_ready, const char *why)
{
    struct lt_exchange *exchange = ctx;
    lt_exchange_reply(exchange, is_ready ? 200 : 503, is_ready ? NULL : "text/plain; charset=utf-8",
                      lt_str_of(why));
}

static void on_ready_asked(void *ctx, struct lt_exchange *exchange)
{
    struct px_agent *agent = ctx;
    if (agent->is_stopping)
        reply_ready(exchange, false, "the proxy is stopping\n");
    else if (!agent->opts.hooks->is_ready(agent->opts.ctx))
        reply_ready(exchange, false, "configuration or certificate has not come yet\n");
    else if (agent->runs_envoy)
        px_envoy_check_ready(agent->envoy, reply_ready, exchange);
    else
        reply_ready(exchange, true, "");
}

/* Envoy's own metrics on their way through us, behind the agent's. */
struct scrape {
    struct lt_list link;
    struct px_agent *agent;
    struct lt_exchange *exchange;
    struct lt_call *call;       /* owned */
    struct px_app_metrics *app; /* owned; NULL */
};

static void render_own(struct px_agent *agent, struct lt_buf *out)
{
    struct lt_metric_cursor cursor = {0};
    while (lt_metric_render(px_agent_metrics(agent), LT_METRIC_PROMETHEUS, NULL, NULL, &cursor,
                            64 << 10, out) == LT_OK)
        continue;
    lt_metric_cursor_fini(&cursor);
}

static void on_scraped(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                       void *ctx)
{
    struct scrape *scrape = ctx;
    struct px_agent *agent = scrape->agent;
    struct lt_buf out;
    lt_buf_init(&out, 2 * STATS_BYTES_MAX);
    bool is_good = result != NULL && result->rc == LT_OK && result->status == 200;
    agent->scrape_failures += is_good ? 0 : 1;
    render_own(agent, &out);
    if (is_good && lt_buf_append_str(&out, result->body) != LT_OK)
        agent->scrape_failures++;
    if (scrape->app != NULL) /* last: its format may say where it ends */
        lt_buf_add(&out, lt_buf_str(&scrape->app->text));
    lt_exchange_reply(scrape->exchange, 200,
                      scrape->app != NULL ? scrape->app->content_type
                                          : "text/plain; version=0.0.4; charset=utf-8",
                      lt_buf_str(&out));
    lt_buf_fini(&out);
    px_app_metrics_free(&scrape->app);
    lt_list_remove(&scrape->link);
    free(scrape);
}

static void scrape_envoy(struct px_agent *agent, struct lt_exchange *exchange,
                         struct px_app_metrics *app)
{
    struct scrape *scrape = lt_new(struct scrape);
    struct lt_call_opts opts = {.timeout_ms = STATS_TIMEOUT_MS, .body_bytes_max = STATS_BYTES_MAX};
    *scrape = (struct scrape){.agent = agent, .exchange = exchange, .app = app};
    lt_list_push_back(&agent->scrapes, &scrape->link);
    opts.target = lt_arena_printf(exchange->arena, "/stats/prometheus%s%.*s",
                                  exchange->query.len > 0 ? "?" : "", LT_STR_ARG(exchange->query));
    lt_rc rc = lt_addr_parse(LT_STR("127.0.0.1"), agent->settings.prometheus_port, &opts.addr);
    LT_ASSERT(rc == LT_OK);
    scrape->call = lt_call_start(agent->loop, &opts, on_scraped, scrape);
}

static void on_app_scraped(void *ctx, struct lt_exchange *exchange, struct px_app_metrics *app)
{
    struct px_agent *agent = ctx;
    if (agent->runs_envoy)
        scrape_envoy(agent, exchange, app);
    else
        agent->opts.hooks->on_stats(agent->opts.ctx, exchange, app);
}

static void on_stats_asked(void *ctx, struct lt_exchange *exchange)
{
    struct px_agent *agent = ctx;
    agent->scrapes_total++;
    if (agent->scraper != NULL)
        px_scraper_start(agent->scraper, exchange, on_app_scraped, agent);
    else
        on_app_scraped(agent, exchange, NULL);
}

static void on_quit(void *ctx)
{
    struct px_agent *agent = ctx;
    lt_log_info(&agent->env->log, "agent: asked to quit");
    agent->is_stopping = true;
    if (agent->runs_envoy)
        px_envoy_kill(agent->envoy);
    else
        agent->opts.hooks->on_exit(agent->opts.ctx, 0);
}

static void on_drain(void *ctx)
{
    struct px_agent *agent = ctx;
    agent->is_drained = true;
    if (agent->runs_envoy)
        px_envoy_drain(agent->envoy, true);
    else
        agent->opts.hooks->on_drain(agent->opts.ctx);
}

static lt_rc start_status(struct px_agent *agent, struct lt_err *err)
{
    static const struct px_status_hooks hooks = {.on_ready = on_ready_asked,
                                                 .on_stats = on_stats_asked,
                                                 .on_quit = on_quit,
                                                 .on_drain = on_drain};
    struct px_status_opts opts = {.loop = agent->loop,
                                  .hooks = &hooks,
                                  .ctx = agent,
                                  .port = agent->settings.status_port,
                                  .is_v6 = lt_str_find_char(agent->settings.instance_ip, ':') >= 0,
                                  .is_metrics_local_only = agent->settings.is_metrics_local_only,
                                  .probes = agent->probes,
                                  .inherited = agent->opts.inherited};
    return agent->settings.status_port == 0 ? LT_OK : px_status_new(&opts, &agent->status, err);
}

/* --- a real Envoy --- */

static void on_envoy_exit(void *ctx, int code)
{
    struct px_agent *agent = ctx;
    lt_log_info(&agent->env->log, "agent: envoy has ended with code %d", code);
    agent->opts.hooks->on_exit(agent->opts.ctx, code);
}

/* Where something else (SPIRE) answers on the identity socket already, it keeps it. */
static bool is_socket_taken(lt_str path)
{
    struct lt_addr addr;
    if (lt_addr_unix(path, &addr) != LT_OK)
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_taken = fd >= 0 && connect(fd, &addr.sa, addr.len) == 0;
    if (fd >= 0)
        close(fd);
    return is_taken;
}

static lt_rc start_envoy(struct px_agent *agent, struct lt_err *err)
{
    struct px_xds_relay_opts relay = {.loop = agent->loop,
                                      .socket_path = agent->settings.xds_socket,
                                      .metadata = make_metadata,
                                      .ctx = agent};
    struct px_envoy_opts envoy = {.loop = agent->loop,
                                  .settings = &agent->settings,
                                  .bootstrap = agent->bootstrap,
                                  .on_exit = on_envoy_exit,
                                  .ctx = agent};
    if (is_socket_taken(agent->settings.sds_socket))
        lt_log_info(&agent->env->log, "agent: another identity provider answers on %.*s",
                    LT_STR_ARG(agent->settings.sds_socket));
    else
        LT_TRY(
            px_sds_new(agent->loop, agent->secrets, agent->settings.sds_socket, &agent->sds, err));
    LT_TRY(px_xds_relay_new(&relay, &agent->relay, err));
    return px_envoy_start(&envoy, &agent->envoy, err);
}

/* --- begin and end --- */

lt_rc px_agent_start(struct px_agent *agent, struct lt_err *err)
{
    struct px_identity_opts identity = {
        .loop = agent->loop, .settings = &agent->settings, .on_cert = on_cert, .ctx = agent};
    agent->identity = px_identity_new(&identity);
    LT_TRY(start_status(agent, err));
    if (agent->runs_envoy)
        LT_TRY(start_envoy(agent, err));
    px_identity_restore(agent->identity);
    start_upstreams(agent);
    return LT_OK;
}

void px_agent_stop(struct px_agent *agent)
{
    agent->is_stopping = true;
    if (!agent->runs_envoy || agent->envoy == NULL)
        return;
    if (agent->is_drained)
        px_envoy_kill(agent->envoy);
    else
        px_envoy_stop(agent->envoy);
}

void px_agent_leave(struct px_agent *agent)
{
    agent->is_leaving = true;
}

static void remove_outputs(const struct px_agent *agent)
{
    static const char *const names[] = {"key.pem", "cert-chain.pem", "root-cert.pem"};
    for (size_t i = 0; i < LT_ARRAY_LEN(names) && agent->settings.output_certs.len > 0; i++) {
        lt_str path = lt_arena_printf(agent->arena, "%.*s/%s",
                                      LT_STR_ARG(agent->settings.output_certs), names[i]);
        (void)unlink(path.ptr);
    }
}

static void end_scrapes(struct px_agent *agent)
{
    while (!lt_list_is_empty(&agent->scrapes)) {
        struct scrape *scrape = lt_list_first(&agent->scrapes, struct scrape, link);
        lt_call_cancel(&scrape->call);
        on_scraped(NULL, NULL, scrape);
    }
}

void px_agent_free(struct px_agent **agent)
{
    struct px_agent *dying = *agent;
    *agent = NULL;
    if (dying == NULL)
        return;
    px_scraper_free(&dying->scraper);
    end_scrapes(dying);
    px_envoy_free(&dying->envoy);
    px_probes_free(&dying->probes);
    px_status_free(&dying->status);
    px_identity_free(&dying->identity);
    px_xds_relay_free(&dying->relay);
    px_sds_free(&dying->sds);
    px_upstream_free(&dying->ca_upstream);
    px_upstream_free(&dying->xds_upstream);
    px_secrets_free(&dying->secrets);
    lt_bytes_unref(&dying->own_root);
    lt_bytes_unref(&dying->more_roots);
    if (dying->metrics != NULL)
        lt_metric_set_free(&dying->metrics);
    if (!dying->is_leaving) {
        remove_outputs(dying);
        px_kept_remove(&dying->settings);
    }
    lt_arena_free(&dying->arena);
    free(dying);
}

/* --- small questions --- */

struct lt_server *px_agent_status_server(const struct px_agent *agent)
{
    return agent->status != NULL ? px_status_server(agent->status) : NULL;
}

bool px_agent_runs_envoy(const struct px_agent *agent)
{
    return agent->runs_envoy;
}

lt_str px_agent_bootstrap(const struct px_agent *agent)
{
    return agent->bootstrap;
}

const struct px_agent_settings *px_agent_settings(const struct px_agent *agent)
{
    return &agent->settings;
}

bool px_agent_is_drained(const struct px_agent *agent)
{
    return agent->is_drained;
}

/* --- metrics --- */

static void set_counter(struct px_agent *agent, const char *name, const char *label,
                        const char *value, uint64_t count)
{
    lt_str labels = lt_str_of(label), values = lt_str_of(value);
    struct lt_metric_desc desc = {.name = lt_str_of(name),
                                  .kind = LT_METRIC_COUNTER,
                                  .labels = &labels,
                                  .label_count = label != NULL ? 1 : 0};
    lt_metric_counter(lt_metric_family(agent->metrics, &desc), &values)->value = count;
}

static void set_gauge(struct px_agent *agent, const char *name, const char *label,
                      const char *value, double number)
{
    lt_str labels = lt_str_of(label), values = lt_str_of(value);
    struct lt_metric_desc desc = {
        .name = lt_str_of(name), .kind = LT_METRIC_GAUGE, .labels = &labels, .label_count = 1};
    lt_metric_gauge(lt_metric_family(agent->metrics, &desc), &values)->value = number;
}

/* Mostly a view, made when it is looked at. */
struct lt_metric_set *px_agent_metrics(struct px_agent *agent)
{
    set_counter(agent, "istio_agent_scrapes_total", NULL, NULL, agent->scrapes_total);
    set_counter(agent, "istio_agent_scrape_failures_total", "type", "envoy",
                agent->scrape_failures);
    if (agent->scraper != NULL)
        set_counter(agent, "istio_agent_scrape_failures_total", "type", "application",
                    px_scraper_failures(agent->scraper));
    if (agent->identity != NULL) {
        const struct px_identity_stats *stats = px_identity_stats(agent->identity);
        int64_t now_s = lt_env_wall_ns(agent->env) / (int64_t)LT_NS_PER_S;
        set_counter(agent, "istio_agent_num_outgoing_requests", "request_type", "csr",
                    stats->requests);
        set_counter(agent, "istio_agent_num_failed_outgoing_requests", "request_type", "csr",
                    stats->failures);
        set_counter(agent, "istio_agent_num_outgoing_retries", "request_type", "csr",
                    stats->retries);
        set_counter(agent, "istio_agent_outgoing_latency", "request_type", "csr",
                    stats->latency_ms);
        if (stats->not_after_s > 0)
            set_gauge(agent, "istio_agent_cert_expiry_seconds", "resource_name", "default",
                      (double)(stats->not_after_s - now_s));
    }
    if (agent->xds_upstream != NULL)
        set_counter(agent, "istio_agent_istiod_connection_failures", NULL, NULL,
                    px_upstream_failures(agent->xds_upstream));
    if (agent->secrets != NULL)
        set_counter(agent, "istio_agent_num_file_secret_failures_total", NULL, NULL,
                    px_secrets_file_failures(agent->secrets));
    if (agent->relay != NULL) {
        const struct px_xds_relay_stats *stats = px_xds_relay_stats(agent->relay);
        set_counter(agent, "istio_agent_xds_proxy_requests", NULL, NULL, stats->requests);
        set_counter(agent, "istio_agent_xds_proxy_responses", NULL, NULL, stats->responses);
    }
    return agent->metrics;
}
