/*
 * proxy/agent/dns_proxy.c - sockets, questions, and where their answers come from.
 * Start at: answer(), px_dns_proxy_new().
 */
#include "proxy/agent/dns_proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "net/dns_msg.h"
#include "net/sock.h"
#include "proxy/agent/dns_forward.h"
#include "proxy/agent/dns_names.h"

enum {
    TTL_S = 30, /* Istio's */
    CONNS_MAX = 256,
    CONN_TIMEOUT_S = 30,
    QUERY_MAX = 4096,
    DATAGRAMS_A_TURN = 64,
    PORT = 53,
    SHUFFLED_MAX = 256,
    V4_BYTES = 4,
    V6_BYTES = 16,
};

struct door {
    struct px_dns_proxy *dns;
    struct lt_io udp, tcp;
};

struct conn {
    struct lt_list link;
    struct px_dns_proxy *dns;
    struct lt_io io;
    struct lt_timer timer;
    struct px_dns_ask *ask; /* while another server is asked */
    struct lt_buf in, out;
};

/* A datagram's question that another server is asked. */
struct datagram {
    struct lt_list link;
    struct door *door;
    struct lt_addr peer;
    struct px_dns_ask *ask;
};

struct px_dns_proxy {
    struct px_dns_proxy_opts opts;
    const struct lt_env *env;
    struct lt_arena *arena; /* owned; of facts */
    struct px_dns_facts facts;
    struct px_dns_names *names; /* owned; NULL: no table has come */
    struct px_dns_forward *forward;
    struct door doors[2]; /* IPv4, IPv6 */
    size_t door_count;
    struct lt_list conns, datagrams;
    size_t conn_count;
    uint64_t requests, refused;
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
    dns->requests++;
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

/* --- datagrams --- */

static void send_to(const struct door *door, const struct lt_addr *peer, const void *bytes,
                    size_t len)
{
    (void)sendto(door->udp.fd, bytes, len, MSG_DONTWAIT, &peer->sa, peer->len); /* or asked again */
}

static void send_failure(const struct door *door, const struct lt_addr *peer,
                         const struct lt_dns_question *q)
{
    char out[LT_DNS_HEADER];
    send_to(door, peer, out, lt_dns_write_error(q, LT_DNS_SERVER_FAILURE, out));
}

static void on_datagram_done(void *ctx, lt_str text)
{
    struct datagram *datagram = ctx;
    send_to(datagram->door, &datagram->peer, text.ptr, text.len);
    lt_list_remove(&datagram->link);
    free(datagram);
}

static void pass_on(struct door *door, const struct lt_addr *peer, const struct lt_dns_question *q,
                    lt_str query)
{
    struct datagram *datagram = lt_new(struct datagram);
    *datagram = (struct datagram){.door = door, .peer = *peer};
    datagram->ask = px_dns_forward_ask(door->dns->forward, query, q->end, false, on_datagram_done,
                                       datagram);
    if (datagram->ask != NULL) {
        lt_list_push_back(&door->dns->datagrams, &datagram->link);
        return;
    }
    free(datagram);
    send_failure(door, peer, q);
}

static void on_datagrams(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct door *door = LT_CONTAINER_OF(io, struct door, udp);
    for (int i = 0; i < DATAGRAMS_A_TURN; i++) {
        char query[QUERY_MAX], out[LT_DNS_UDP_MAX];
        struct lt_dns_question q;
        struct lt_addr peer = {.len = sizeof(struct sockaddr_in6)};
        size_t len = 0;
        ssize_t got = recvfrom(io->fd, query, sizeof(query), MSG_DONTWAIT, &peer.sa, &peer.len);
        if (got < 0)
            return;
        lt_str text = lt_str_make(query, (size_t)got);
        if (answer(door->dns, &q, text, true, out, sizeof(out), &len) != LT_OK)
            pass_on(door, &peer, &q, text);
        else if (len > 0)
            send_to(door, &peer, out, len);
    }
}

/* --- connections (RFC 7766: one question after the other) --- */

static void close_conn(struct conn *conn)
{
    struct px_dns_proxy *dns = conn->dns;
    px_dns_ask_cancel(&conn->ask);
    lt_loop_io_del(dns->opts.loop, &conn->io);
    lt_loop_timer_cancel(dns->opts.loop, &conn->timer);
    close(conn->io.fd);
    lt_buf_fini(&conn->in);
    lt_buf_fini(&conn->out);
    lt_list_remove(&conn->link);
    dns->conn_count--;
    free(conn);
}

static void on_conn_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    close_conn(LT_CONTAINER_OF(timer, struct conn, timer));
}

static void put_answer(struct conn *conn, const void *bytes, size_t len)
{
    const uint8_t head[] = {(uint8_t)(len >> 8), (uint8_t)len};
    lt_buf_add(&conn->out, lt_str_make((const char *)head, sizeof(head)));
    lt_buf_add(&conn->out, lt_str_make(bytes, len));
}

static lt_rc send_out(struct conn *conn)
{
    while (lt_buf_len(&conn->out) > 0) {
        lt_str out = lt_buf_str(&conn->out);
        ssize_t done = send(conn->io.fd, out.ptr, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done < 0)
            return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
        lt_buf_consume(&conn->out, (size_t)done);
    }
    return LT_OK;
}

static void run_conn(struct conn *conn);

static void on_conn_done(void *ctx, lt_str text)
{
    struct conn *conn = ctx;
    conn->ask = NULL;
    put_answer(conn, text.ptr, text.len);
    run_conn(conn);
}

static lt_rc take_query(struct conn *conn)
{
    lt_str in = lt_buf_str(&conn->in);
    if (in.len < 2)
        return LT_AGAIN;
    size_t len = (size_t)(uint8_t)in.ptr[0] << 8 | (uint8_t)in.ptr[1], answer_len = 0;
    if (len > QUERY_MAX)
        return LT_E_LIMIT;
    if (in.len < 2 + len)
        return LT_AGAIN;
    char out[LT_DNS_MSG_MAX];
    struct lt_dns_question q;
    lt_str query = lt_str_slice(in, 2, 2 + len);
    if (answer(conn->dns, &q, query, false, out, sizeof(out), &answer_len) != LT_OK) {
        conn->ask = px_dns_forward_ask(conn->dns->forward, query, q.end, true, on_conn_done, conn);
        if (conn->ask == NULL)
            answer_len = lt_dns_write_error(&q, LT_DNS_SERVER_FAILURE, out);
    } else if (answer_len == 0) {
        return LT_E_BAD;
    }
    if (answer_len > 0)
        put_answer(conn, out, answer_len);
    lt_buf_consume(&conn->in, 2 + len);
    return LT_OK;
}

static lt_rc read_in(struct conn *conn)
{
    char *at = NULL;
    LT_TRY(lt_buf_reserve(&conn->in, 2 + QUERY_MAX - lt_buf_len(&conn->in), &at));
    ssize_t got = recv(conn->io.fd, at, 2 + QUERY_MAX - lt_buf_len(&conn->in), MSG_DONTWAIT);
    if (got == 0)
        return LT_EOF;
    if (got < 0)
        return errno == EAGAIN ? LT_AGAIN : LT_E_IO;
    lt_buf_commit(&conn->in, (size_t)got);
    return LT_OK;
}

/* LT_AGAIN: it waits, for its client or for another server. */
static lt_rc serve(struct conn *conn)
{
    for (;;) {
        LT_TRY(send_out(conn));
        if (conn->ask != NULL)
            return LT_AGAIN;
        lt_rc rc = take_query(conn);
        if (rc == LT_AGAIN)
            rc = read_in(conn);
        if (rc != LT_OK)
            return rc;
    }
}

static void run_conn(struct conn *conn)
{
    if (serve(conn) != LT_AGAIN) {
        close_conn(conn);
        return;
    }
    uint32_t events = lt_buf_len(&conn->out) > 0 ? EPOLLOUT : conn->ask != NULL ? 0 : EPOLLIN;
    lt_loop_io_set(conn->dns->opts.loop, &conn->io, events);
}

static void on_conn(struct lt_io *io, uint32_t events)
{
    struct conn *conn = LT_CONTAINER_OF(io, struct conn, io);
    if ((events & (EPOLLHUP | EPOLLERR)) != 0)
        close_conn(conn);
    else
        run_conn(conn);
}

static void on_connections(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct px_dns_proxy *dns = LT_CONTAINER_OF(io, struct door, tcp)->dns;
    int fd;
    while (lt_sock_accept(io->fd, &fd, NULL) == LT_OK) {
        if (dns->conn_count == CONNS_MAX) {
            dns->refused++;
            close(fd);
            continue;
        }
        struct conn *conn = lt_new(struct conn);
        conn->dns = dns;
        lt_io_init(&conn->io, on_conn);
        conn->io.fd = fd;
        lt_buf_init(&conn->in, 2 + QUERY_MAX);
        lt_buf_init(&conn->out, 2 * (2 + LT_DNS_MSG_MAX));
        lt_timer_init(&conn->timer, on_conn_timeout);
        lt_list_push_back(&dns->conns, &conn->link);
        dns->conn_count++;
        lt_loop_io_set(dns->opts.loop, &conn->io, EPOLLIN);
        lt_loop_timer_set(dns->opts.loop, &conn->timer, CONN_TIMEOUT_S * LT_NS_PER_S);
    }
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
    struct door *door = &dns->doors[dns->door_count++];
    const struct lt_listen_opts opts = {0};
    door->dns = dns;
    lt_io_init(&door->udp, on_datagrams);
    lt_io_init(&door->tcp, on_connections);
    door->tcp.fd = -1;
    door->udp.fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (door->udp.fd < 0 || bind(door->udp.fd, &addr->sa, addr->len) < 0)
        return lt_err_errno(err, "DNS by UDP");
    LT_TRY(lt_sock_listen(addr, &opts, &door->tcp.fd, err));
    lt_loop_io_set(dns->opts.loop, &door->udp, EPOLLIN);
    lt_loop_io_set(dns->opts.loop, &door->tcp, EPOLLIN);
    return LT_OK;
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

lt_rc px_dns_proxy_new(const struct px_dns_proxy_opts *opts, struct px_dns_proxy **ret_dns,
                       struct lt_err *err)
{
    struct px_dns_proxy *dns = lt_new(struct px_dns_proxy);
    struct system system = {0};
    dns->opts = *opts;
    dns->env = lt_loop_env(opts->loop);
    dns->arena = lt_arena_new(1024, 0);
    lt_list_init(&dns->conns);
    lt_list_init(&dns->datagrams);
    read_system(dns->arena, opts->resolv_path, &system);
    leave_out_own(&system, opts->address);
    dns->facts = (struct px_dns_facts){opts->namespace, opts->domain, system.search};
    struct px_dns_forward_opts forward = {.loop = opts->loop,
                                          .env = dns->env,
                                          .servers = system.servers,
                                          .server_count = system.server_count,
                                          .timeout_ns = opts->timeout_ns,
                                          .asks_all = opts->asks_all};
    dns->forward = px_dns_forward_new(&forward);
    lt_rc rc = open_doors(dns, &system, err);
    if (rc != LT_OK) {
        px_dns_proxy_free(&dns);
        return rc;
    }
    *ret_dns = dns;
    return LT_OK;
}

void px_dns_proxy_free(struct px_dns_proxy **pointer)
{
    struct px_dns_proxy *dns = *pointer;
    *pointer = NULL;
    if (dns == NULL)
        return;
    while (!lt_list_is_empty(&dns->conns))
        close_conn(lt_list_first(&dns->conns, struct conn, link));
    while (!lt_list_is_empty(&dns->datagrams)) {
        struct datagram *datagram = lt_list_first(&dns->datagrams, struct datagram, link);
        px_dns_ask_cancel(&datagram->ask);
        lt_list_remove(&datagram->link);
        free(datagram);
    }
    for (size_t i = 0; i < dns->door_count; i++) {
        lt_loop_io_close(dns->opts.loop, &dns->doors[i].udp);
        lt_loop_io_close(dns->opts.loop, &dns->doors[i].tcp);
    }
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

struct px_dns_stats px_dns_proxy_stats(const struct px_dns_proxy *dns)
{
    const struct px_dns_forward_stats *forward = px_dns_forward_stats(dns->forward);
    return (struct px_dns_stats){.requests = dns->requests,
                                 .upstream_requests = forward->requests,
                                 .upstream_failures = forward->failures,
                                 .refused = dns->refused + forward->refused,
                                 .took_ms = forward->took_ns / LT_NS_PER_MS};
}
