/*
 * proxy/agent/probe.c - probe relay. Start at: px_probes_handle().
 */
#include "proxy/agent/probe.h"

#include <errno.h>
#include <unistd.h>

#include "base/map.h"
#include "http/client.h"
#include "wire/json.h"

enum {
    PROBES_MAX = 64,
    BODY_BYTES_MAX = 10 << 10, /* of the application's answer, Kubernetes' own limit */
    TIMEOUT_DEFAULT_S = 1,
    HEADERS_MAX = 64,
    REDIRECTS_MAX = 10,
};

typedef enum { PROBE_HTTP, PROBE_HTTPS, PROBE_TCP, PROBE_GRPC } probe_kind;

struct probe {
    lt_str path; /* here */
    probe_kind kind;
    uint16_t port;
    lt_str target; /* there */
    uint32_t timeout_ms;
};

/* One that runs. */
struct run {
    struct lt_list link;
    struct px_probes *probes;
    const struct probe *probe;
    struct lt_exchange *exchange; /* ours to answer */
    struct lt_call *call;         /* owned; HTTP */
    unsigned redirects;
    struct lt_io io;       /* TCP */
    struct lt_timer timer; /* TCP */
};

struct px_probes {
    struct lt_loop *loop;   /* borrowed */
    struct lt_arena *arena; /* owned; holds all probes */
    struct lt_map by_path;
    struct lt_list runs;
    lt_str instance_ip;
    uint16_t status_port;
    struct lt_tls_ctx *tls; /* counted; trusts anybody, as the kubelet does; made on first use */
};

/* --- configuration --- */

static bool is_probe_path(lt_str path)
{
    static const char *const kinds[] = {"livez", "readyz", "startupz", "prestopz", "poststartz"};
    lt_str rest = path, empty, where, container;
    if (!lt_str_split(&rest, '/', &empty) || empty.len != 0 || !lt_str_split(&rest, '/', &where) ||
        !lt_str_split(&rest, '/', &container) || container.len == 0)
        return false;
    if (!lt_str_eqz(where, "app-health") && !lt_str_eqz(where, "app-lifecycle"))
        return false;
    for (size_t i = 0; i < LT_ARRAY_LEN(kinds); i++) {
        if (lt_str_eqz(rest, kinds[i]))
            return true;
    }
    return false;
}

static lt_rc read_port(const struct lt_doc *action, struct probe *probe, struct lt_err *err)
{
    int64_t port = 0;
    if (!lt_doc_is_int(lt_doc_findz(action, "port"), &port) || port <= 0 || port > UINT16_MAX)
        return lt_err_set(err, LT_E_BAD, "port must be a number");
    probe->port = (uint16_t)port;
    return LT_OK;
}

static lt_rc read_probe(struct px_probes *probes, const struct lt_doc *doc, struct probe *probe,
                        struct lt_err *err)
{
    const struct lt_doc *http = lt_doc_findz(doc, "httpGet"), *tcp = lt_doc_findz(doc, "tcpSocket");
    const struct lt_doc *grpc = lt_doc_findz(doc, "grpc");
    if ((http != NULL) + (tcp != NULL) + (grpc != NULL) != 1)
        return lt_err_set(err, LT_E_BAD, "exactly one of httpGet, tcpSocket and grpc is needed");
    int64_t timeout_s = TIMEOUT_DEFAULT_S;
    if (!lt_doc_is_int(lt_doc_findz(doc, "timeoutSeconds"), &timeout_s) || timeout_s <= 0)
        timeout_s = TIMEOUT_DEFAULT_S;
    probe->timeout_ms = (uint32_t)LT_MIN(timeout_s, (int64_t)3600) * 1000;
    probe->kind = tcp != NULL ? PROBE_TCP : grpc != NULL ? PROBE_GRPC : PROBE_HTTP;
    if (http != NULL) {
        lt_str path = lt_doc_string(lt_doc_findz(http, "path"));
        bool is_tls = lt_str_case_eq(lt_doc_string(lt_doc_findz(http, "scheme")), LT_STR("HTTPS"));
        probe->kind = is_tls ? PROBE_HTTPS : PROBE_HTTP;
        probe->target = lt_arena_printf(
            probes->arena, "%s%.*s", lt_str_starts(path, LT_STR("/")) ? "" : "/", LT_STR_ARG(path));
    }
    return read_port(http != NULL ? http : tcp != NULL ? tcp : grpc, probe, err);
}

static lt_rc read_all(struct px_probes *probes, lt_str json, struct lt_err *err)
{
    const struct lt_doc *doc = NULL;
    LT_TRY(lt_json_parse(probes->arena, json, NULL, &doc, err));
    if (doc->kind != LT_DOC_OBJECT || doc->count > PROBES_MAX)
        return lt_err_set(err, LT_E_BAD, "expected an object of at most %d probes", PROBES_MAX);
    for (uint32_t i = 0; i < doc->count; i++) {
        struct probe *probe = lt_arena_make(probes->arena, struct probe);
        probe->path = doc->members[i].key;
        if (!is_probe_path(probe->path))
            return lt_err_set(err, LT_E_BAD, "%.*s: no path of a probe", LT_STR_ARG(probe->path));
        lt_rc rc = read_probe(probes, &doc->members[i].value, probe, err);
        if (rc != LT_OK)
            return lt_err_wrap(err, rc, "%.*s", LT_STR_ARG(probe->path));
        lt_map_put(&probes->by_path, probe->path, probe);
    }
    return LT_OK;
}

/* --- running one --- */

static void end_run(struct run *run, unsigned status, const char *content_type, lt_str body)
{
    lt_list_remove(&run->link);
    lt_loop_timer_cancel(run->probes->loop, &run->timer);
    if (run->io.fd >= 0) {
        lt_loop_io_del(run->probes->loop, &run->io);
        close(run->io.fd);
    }
    lt_exchange_reply(run->exchange, status, content_type, body);
    free(run);
}

/* A loopback source that capture rules let through. */
static void source_address(const struct px_probes *probes, struct lt_addr *ret_addr)
{
    bool is_v6 = lt_str_find_char(probes->instance_ip, ':') >= 0;
    lt_rc rc = lt_addr_parse(is_v6 ? LT_STR("::6") : LT_STR("127.0.0.6"), 0, ret_addr);
    LT_ASSERT(rc == LT_OK);
}

static void on_tcp_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct run *run = LT_CONTAINER_OF(io, struct run, io);
    int error = lt_sock_error(io->fd);
    end_run(run, error == 0 ? 200 : 500, NULL,
            error == 0 ? LT_STR_NULL : lt_str_of(strerror(error)));
}

static void on_tcp_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    end_run(LT_CONTAINER_OF(timer, struct run, timer), 500, NULL, LT_STR("timeout"));
}

static void run_tcp(struct run *run, const struct lt_addr *addr)
{
    struct lt_addr source;
    source_address(run->probes, &source);
    if (lt_sock_connect(addr, &source, &run->io.fd) != LT_OK) {
        end_run(run, 500, NULL, lt_str_of(strerror(errno)));
        return;
    }
    lt_loop_io_set(run->probes->loop, &run->io, EPOLLOUT);
    lt_loop_timer_set(run->probes->loop, &run->timer, run->probe->timeout_ms * LT_NS_PER_MS);
}

/* "example:15020" becomes "example:8080": applications may look at it. */
static lt_str host_header(struct run *run)
{
    struct lt_exchange *exchange = run->exchange;
    lt_str host = lt_headers_value_of(&exchange->headers, LT_STR("host"));
    char own[8];
    (void)snprintf(own, sizeof(own), ":%u", run->probes->status_port);
    if (!lt_str_ends(host, lt_str_of(own)))
        return host;
    return lt_arena_printf(exchange->arena, "%.*s:%u", (int)(host.len - strlen(own)), host.ptr,
                           run->probe->port);
}

static bool is_hop_header(lt_str name)
{
    static const char *const names[] = {
        "host",       "connection", "content-length", "transfer-encoding", "upgrade",
        "keep-alive", "te",         "trailer"};
    for (size_t i = 0; i < LT_ARRAY_LEN(names); i++) {
        if (lt_str_case_eq(name, lt_str_of(names[i])))
            return true;
    }
    return false;
}

static void start_http(struct run *run, lt_str target);

static void on_http_done(struct lt_call *call LT_UNUSED, const struct lt_call_result *result,
                         void *ctx)
{
    struct run *run = ctx;
    run->call = NULL;
    if (result->rc != LT_OK) {
        end_run(run, 500, NULL, lt_str_of(result->error));
        return;
    }
    lt_str location = lt_headers_value_of(result->headers, LT_STR("location"));
    bool is_redirect = result->status >= 300 && result->status < 400;
    bool is_same_host = lt_str_starts(location, LT_STR("/")) &&
                        !lt_str_starts(location, LT_STR("//"));
    if (is_redirect && is_same_host && ++run->redirects <= REDIRECTS_MAX) {
        start_http(run, lt_arena_str(run->exchange->arena, location));
        return;
    }
    /* to another host: the application is well, says Kubernetes */
    lt_str type = lt_headers_value_of(result->headers, LT_STR("content-type"));
    end_run(run, is_redirect ? 200 : result->status,
            type.len > 0 ? lt_arena_strz(run->exchange->arena, type) : NULL,
            lt_str_slice(result->body, 0, BODY_BYTES_MAX));
}

static struct lt_tls_ctx *probe_tls(struct px_probes *probes)
{
    struct lt_tls_opts opts = {0};
    if (probes->tls == NULL && lt_tls_ctx_new(&opts, &probes->tls, NULL) != LT_OK)
        return NULL;
    return probes->tls;
}

static void start_http(struct run *run, lt_str target)
{
    const struct lt_headers *in = &run->exchange->headers;
    struct lt_call_header headers[HEADERS_MAX];
    struct lt_call_opts opts = {.target = target,
                                .host = host_header(run),
                                .headers = headers,
                                .timeout_ms = run->probe->timeout_ms};
    lt_rc rc = lt_addr_parse(run->probes->instance_ip, run->probe->port, &opts.addr);
    LT_ASSERT(rc == LT_OK); /* the settings were checked */
    source_address(run->probes, &opts.source);
    for (uint32_t i = 0; i < in->count && opts.header_count < HEADERS_MAX; i++) {
        if (!is_hop_header(in->items[i].name))
            headers[opts.header_count++] = (struct lt_call_header){in->items[i].name,
                                                                   in->items[i].value};
    }
    if (run->probe->kind == PROBE_HTTPS)
        opts.tls = probe_tls(run->probes);
    run->call = lt_call_start(run->probes->loop, &opts, on_http_done, run);
}

static void start_run(struct px_probes *probes, const struct probe *probe,
                      struct lt_exchange *exchange)
{
    struct lt_addr addr;
    struct run *run = lt_new(struct run);
    run->probes = probes;
    run->probe = probe;
    run->exchange = exchange;
    lt_list_push_back(&probes->runs, &run->link);
    lt_io_init(&run->io, on_tcp_ready);
    lt_timer_init(&run->timer, on_tcp_timeout);
    if (probe->kind == PROBE_GRPC)
        end_run(run, 500, NULL, LT_STR("grpc probes are not relayed yet"));
    else if (probe->kind != PROBE_TCP)
        start_http(run, probe->target);
    else if (lt_addr_parse(probes->instance_ip, probe->port, &addr) == LT_OK)
        run_tcp(run, &addr);
}

bool px_probes_handle(struct px_probes *probes, struct lt_exchange *exchange)
{
    if (!lt_str_starts(exchange->path, LT_STR("/app-health/")) &&
        !lt_str_starts(exchange->path, LT_STR("/app-lifecycle/")))
        return false;
    const struct probe *probe = lt_map_find(&probes->by_path, exchange->path);
    if (probe == NULL)
        lt_exchange_replyf(exchange, 400, "app prober config does not exists for %.*s",
                           LT_STR_ARG(exchange->path));
    else
        start_run(probes, probe, exchange);
    return true;
}

/* --- begin and end --- */

lt_rc px_probes_new(struct lt_loop *loop, lt_str json, lt_str instance_ip, uint16_t status_port,
                    struct px_probes **ret_probes, struct lt_err *err)
{
    struct px_probes *probes = lt_new(struct px_probes);
    probes->loop = loop;
    probes->arena = lt_arena_new(0, 0);
    probes->instance_ip = lt_arena_str(probes->arena, instance_ip);
    probes->status_port = status_port;
    lt_map_init(&probes->by_path);
    lt_list_init(&probes->runs);
    lt_rc rc = json.len == 0 ? LT_OK : read_all(probes, json, err);
    if (rc != LT_OK) {
        px_probes_free(&probes);
        return lt_err_wrap(err, rc, "ISTIO_KUBE_APP_PROBERS");
    }
    *ret_probes = probes;
    return LT_OK;
}

void px_probes_free(struct px_probes **probes)
{
    struct px_probes *dying = *probes;
    *probes = NULL;
    if (dying == NULL)
        return;
    while (!lt_list_is_empty(&dying->runs)) {
        struct run *run = lt_list_first(&dying->runs, struct run, link);
        lt_call_cancel(&run->call);
        end_run(run, 500, NULL, LT_STR("the proxy is ending"));
    }
    lt_tls_ctx_unref(&dying->tls);
    lt_map_fini(&dying->by_path);
    lt_arena_free(&dying->arena);
    free(dying);
}
