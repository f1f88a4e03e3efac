/*
 * proxy/agent/dns_proxy.c - questions, and where their answers come from.
 * Start at: serve(), px_dns_proxy_new().
 */
#include "proxy/agent/dns_proxy.h"

#include <stdlib.h>

#include "base/file.h"
#include "net/dns_msg.h"
#include "net/dns_server.h"
#include "proxy/agent/dns_forward.h"
#include "proxy/agent/dns_names.h"

enum {
    TTL_S = 30, /* Istio's */
    CONNS_MAX = 256,
    CONN_TIMEOUT_S = 30,
    PORT = 53,
    SHUFFLED_MAX = 256,
    V4_BYTES = 4,
    V6_BYTES = 16,
};

struct px_dns_proxy {
    struct px_dns_proxy_opts opts;
    const struct lt_env *env;
    struct lt_arena *arena; /* owned; of facts */
    struct px_dns_facts facts;
    struct px_dns_names *names; /* owned; NULL: no table has come */
    struct px_dns_forward *forward;
    struct lt_dns_server *server;
    struct lt_counter *requests; /* borrowed */
};

/* --- answers of our own --- */

static void write_addresses(struct px_dns_proxy *dns, struct lt_dns_writer *writer,
                            const uint8_t *addrs, uint32_t count, size_t each)
{
    uint16_t order[SHUFFLED_MAX];
    uint32_t written = LT_MIN(count, (uint32_t)SHUFFLED_MAX);
    uint32_t first = count > SHUFFLED_MAX ? (uint32_t)(lt_env_random_u64(dns->env) % count) : 0;
    for (uint32_t i = 0; i < written; i++)
        order[i] = (uint16_t)i;
    for (uint32_t i = written; i > 1; i--) {
        uint32_t other = (uint32_t)(lt_env_random_u64(dns->env) % i);
        uint16_t moved = order[i - 1];
        order[i - 1] = order[other];
        order[other] = moved;
    }
    for (uint32_t i = 0; i < written; i++) {
        size_t at = (first + order[i]) % count;
        if (!lt_dns_write_address(writer, addrs + at * each, each, TTL_S))
            return;
    }
}

static size_t write_found(struct px_dns_proxy *dns, const struct lt_dns_question *q, lt_str query,
                          const struct px_dns_found *found, bool is_udp, void *out, size_t max)
{
    struct lt_dns_writer writer;
    bool is_v4 = q->type == LT_DNS_TYPE_A;
    uint32_t count = is_v4 ? found->v4_count : found->v6_count;
    lt_dns_write_begin(&writer, q, query, is_udp, out, max);
    if (count > 0 && found->target.len > 0 && !lt_dns_write_alias(&writer, found->target, TTL_S))
        count = 0;
    write_addresses(dns, &writer, is_v4 ? found->v4 : found->v6, count,
                    is_v4 ? (size_t)V4_BYTES : (size_t)V6_BYTES);
    return lt_dns_write_end(&writer, LT_DNS_AA);
}

/*
 * LT_OK: *ret_len bytes of out are the answer, 0: none is due. LT_E_NOT_FOUND: another server is to
 * be asked.
 */
static lt_rc answer(struct px_dns_proxy *dns, struct lt_dns_question *q, lt_str query, bool is_udp,
                    void *out, size_t max, size_t *ret_len)
{
    struct px_dns_found found;
    *ret_len = 0;
    lt_rc rc = lt_dns_question_read(query, q);
    if (rc == LT_AGAIN)
        return LT_OK;
    lt_counter_add(dns->requests, 1);
    if (rc != LT_OK)
        *ret_len = lt_dns_write_error(q, rc == LT_E_UNSUPPORTED ? LT_DNS_NOT_DONE : LT_DNS_FORMAT,
                                      out);
    else if (dns->names == NULL)
        *ret_len = lt_dns_write_error(q, LT_DNS_SERVER_FAILURE, out);
    else if (q->class != LT_DNS_CLASS_IN ||
             (q->type != LT_DNS_TYPE_A && q->type != LT_DNS_TYPE_AAAA) ||
             !px_dns_names_find(dns->names, lt_dns_question_name(q), &found))
        return LT_E_NOT_FOUND;
    else
        *ret_len = write_found(dns, q, query, &found, is_udp, out, max);
    return LT_OK;
}

/* --- what others are asked --- */

static void on_forwarded(void *ctx, lt_str text)
{
    struct lt_dns_request *request = ctx;
    lt_dns_request_answer(&request, text);
}

static void forget(void *ctx LT_UNUSED, void *user)
{
    struct px_dns_ask *ask = user;
    px_dns_ask_cancel(&ask);
}

static lt_rc serve(void *ctx, struct lt_dns_request *request, lt_str query, void *out, size_t max,
                   size_t *ret_len)
{
    struct px_dns_proxy *dns = ctx;
    struct lt_dns_question q;
    bool is_udp = lt_dns_request_is_udp(request);
    if (answer(dns, &q, query, is_udp, out, max, ret_len) == LT_OK)
        return LT_OK;
    struct lt_dns_request *kept = lt_dns_request_keep(request);
    struct px_dns_ask *ask = px_dns_forward_ask(dns->forward, query, q.end, !is_udp, on_forwarded,
                                                kept);
    if (ask != NULL) {
        lt_dns_request_set_user(kept, ask);
        return LT_AGAIN;
    }
    lt_dns_request_drop(&kept);
    *ret_len = lt_dns_write_error(&q, LT_DNS_SERVER_FAILURE, out);
    return LT_OK;
}

/* --- the system's servers --- */

struct system {
    struct lt_addr servers[PX_DNS_SERVERS_MAX];
    size_t server_count;
    lt_str search;
};

static void read_line(lt_str line, struct system *system)
{
    lt_str word, value = LT_STR_NULL;
    struct lt_addr addr;
    for (size_t i = 0; i < line.len; i++) {
        if (line.ptr[i] == '\t')
            ((char *)line.ptr)[i] = ' ';
    }
    line = lt_str_trim(line);
    if (!lt_str_split(&line, ' ', &word))
        return;
    line = lt_str_trim(line);
    if (line.len == 0 || !lt_str_split(&line, ' ', &value))
        return;
    if (lt_str_eqz(word, "nameserver") && system->server_count < PX_DNS_SERVERS_MAX &&
        (lt_addr_parse(value, PORT, &addr) == LT_OK ||
         lt_addr_parse_hostport(value, &addr) == LT_OK))
        system->servers[system->server_count++] = addr;
    else if (lt_str_eqz(word, "search"))
        system->search = value;
}

static void read_system(struct lt_arena *arena, const char *path, struct system *system)
{
    lt_str text, line;
    if (lt_file_read(arena, path, &text, NULL) != LT_OK)
        return;
    while (lt_str_split(&text, '\n', &line))
        read_line(line, system);
}

/* --- begin and end --- */

static lt_rc open_door(struct px_dns_proxy *dns, const struct lt_addr *addr, struct lt_err *err)
{
    struct lt_dns_door door = {.addr = *addr, .udp_fd = -1, .tcp_fd = -1};
    if (dns->opts.inherited != NULL) {
        door.udp_fd = px_sockets_take(dns->opts.inherited, PX_SOCKET_DNS_UDP, addr);
        door.tcp_fd = px_sockets_take(dns->opts.inherited, PX_SOCKET_DNS_TCP, addr);
    }
    return lt_dns_server_open(dns->server, &door, err);
}

/* "localhost" is 127.0.0.1, and ::1 where the system's servers are asked by IPv6. */
static lt_rc open_doors(struct px_dns_proxy *dns, const struct system *system, struct lt_err *err)
{
    struct lt_addr addr;
    lt_str rest = dns->opts.address, host;
    (void)lt_str_split(&rest, ':', &host);
    if (!lt_str_eqz(host, "localhost")) {
        if (lt_addr_parse_hostport(dns->opts.address, &addr) != LT_OK)
            return lt_err_set(err, LT_E_BAD, "DNS_PROXY_ADDR=%.*s: expected an address and a port",
                              LT_STR_ARG(dns->opts.address));
        return open_door(dns, &addr, err);
    }
    bool has_v4 = system->server_count == 0, has_v6 = false;
    uint64_t port = 0;
    for (size_t i = 0; i < system->server_count; i++) {
        bool is_v6 = system->servers[i].sa.sa_family == AF_INET6;
        has_v6 = has_v6 || is_v6;
        has_v4 = has_v4 || !is_v6;
    }
    if (lt_str_to_u64(rest, &port) != LT_OK || port > UINT16_MAX)
        return lt_err_set(err, LT_E_BAD, "DNS_PROXY_ADDR=%.*s: expected a port",
                          LT_STR_ARG(dns->opts.address));
    if (has_v4 && lt_addr_parse(LT_STR("127.0.0.1"), (uint16_t)port, &addr) == LT_OK)
        LT_TRY(open_door(dns, &addr, err));
    if (has_v6 && lt_addr_parse(LT_STR("::1"), (uint16_t)port, &addr) == LT_OK)
        LT_TRY(open_door(dns, &addr, err));
    return LT_OK;
}

/* Not this proxy itself: questions would go round. */
static void leave_out_own(struct system *system, lt_str address)
{
    struct lt_addr own;
    size_t kept = 0;
    if (lt_addr_parse_hostport(address, &own) != LT_OK)
        return;
    for (size_t i = 0; i < system->server_count; i++) {
        if (!lt_addr_eq(&system->servers[i], &own))
            system->servers[kept++] = system->servers[i];
    }
    system->server_count = kept;
}

static struct lt_counter *counter(struct lt_metric_set *metrics, const char *name)
{
    const struct lt_metric_desc desc = {.name = lt_str_of(name), .kind = LT_METRIC_COUNTER};
    return lt_metric_counter(lt_metric_family(metrics, &desc), NULL);
}

static void make_counts(struct px_dns_proxy *dns, struct px_dns_forward_counts *ret)
{
    static const double bounds[] = {.001, .005, .01, .1, 1, 5}; /* Istio's */
    static const struct lt_buckets buckets = {bounds, LT_ARRAY_LEN(bounds)};
    struct lt_metric_set *metrics = dns->opts.metrics;
    const struct lt_metric_desc took = {.name = LT_STR("istio_agent_dns_upstream_request_duration_"
                                                       "seconds"),
                                        .kind = LT_METRIC_HISTOGRAM,
                                        .buckets = &buckets};
    dns->requests = counter(metrics, "istio_agent_dns_requests_total");
    *ret = (struct px_dns_forward_counts){
        .requests = counter(metrics, "istio_agent_dns_upstream_requests_total"),
        .failures = counter(metrics, "istio_agent_dns_upstream_failures_total"),
        .refused = counter(metrics, "lateen_dns_refused_total"),
        .took_s = lt_metric_histogram(lt_metric_family(metrics, &took), NULL)};
}

static void make_server(struct px_dns_proxy *dns, const struct system *system)
{
    const struct lt_dns_server_opts server = {.loop = dns->opts.loop,
                                              .serve = serve,
                                              .forget = forget,
                                              .ctx = dns,
                                              .conns_max = CONNS_MAX,
                                              .conn_timeout_s = CONN_TIMEOUT_S};
    struct px_dns_forward_opts forward = {.loop = dns->opts.loop,
                                          .env = dns->env,
                                          .servers = system->servers,
                                          .server_count = system->server_count,
                                          .timeout_ns = dns->opts.timeout_ns,
                                          .asks_all = dns->opts.asks_all};
    make_counts(dns, &forward.counts);
    dns->forward = px_dns_forward_new(&forward);
    dns->server = lt_dns_server_new(&server);
}

lt_rc px_dns_proxy_new(const struct px_dns_proxy_opts *opts, struct px_dns_proxy **ret_dns,
                       struct lt_err *err)
{
    struct px_dns_proxy *dns = lt_new(struct px_dns_proxy);
    struct system system = {0};
    dns->opts = *opts;
    dns->env = lt_loop_env(opts->loop);
    dns->arena = lt_arena_new(1024, 0);
    read_system(dns->arena, opts->resolv_path, &system);
    leave_out_own(&system, opts->address);
    dns->facts = (struct px_dns_facts){opts->namespace, opts->domain, system.search};
    make_server(dns, &system);
    lt_rc rc = open_doors(dns, &system, err);
    if (rc != LT_OK) {
        px_dns_proxy_free(&dns);
        return rc;
    }
    if (opts->inherited == NULL)
        lt_dns_server_accept(dns->server);
    *ret_dns = dns;
    return LT_OK;
}

void px_dns_proxy_free(struct px_dns_proxy **pointer)
{
    struct px_dns_proxy *dns = *pointer;
    *pointer = NULL;
    if (dns == NULL)
        return;
    lt_dns_server_free(&dns->server);
    px_dns_forward_free(&dns->forward);
    px_dns_names_free(&dns->names);
    lt_arena_free(&dns->arena);
    free(dns);
}

lt_rc px_dns_proxy_set_table(struct px_dns_proxy *dns, lt_str table, struct lt_err *err)
{
    struct px_dns_names *names = NULL;
    LT_TRY(px_dns_names_make(table, &dns->facts, &names, err));
    px_dns_names_free(&dns->names);
    dns->names = names;
    return LT_OK;
}

bool px_dns_proxy_has_table(const struct px_dns_proxy *dns)
{
    return dns->names != NULL;
}

void px_dns_proxy_accept(struct px_dns_proxy *dns)
{
    lt_dns_server_accept(dns->server);
}

void px_dns_proxy_leave(struct px_dns_proxy *dns)
{
    lt_dns_server_leave(dns->server);
}

void px_dns_proxy_add_sockets(const struct px_dns_proxy *dns, struct lt_vec *sockets)
{
    struct lt_dns_door doors[LT_DNS_DOORS_MAX];
    size_t count = lt_dns_server_doors(dns->server, doors);
    for (size_t i = 0; i < count; i++) {
        px_sockets_add(sockets, PX_SOCKET_DNS_UDP, 0, &doors[i].addr, doors[i].udp_fd);
        px_sockets_add(sockets, PX_SOCKET_DNS_TCP, 0, &doors[i].addr, doors[i].tcp_fd);
    }
}
