/*
 * tests/unit/net/dns_test.c - names asked of a server that this test plays, over UDP on loopback:
 * answers of both families, names that do not exist, silence, and answers of people with bad
 * intentions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <unistd.h>

#include "net/dns.h"
#include "net/sock.h"

enum { PACKET_MAX = 1500, TYPE_A = 1, TYPE_AAAA = 28, TURNS_MAX = 400 };

/* --- the server --- */

typedef enum { ANSWER, NXDOMAIN, NODATA, SERVFAIL, SILENCE, WRONG_ID, LOOP, GARBAGE, CUT } manner;

static struct {
    struct lt_io io;
    struct lt_addr addr;
    manner manner;
    unsigned records; /* of each answer */
    unsigned asked[64];
    char last_name[256];
} server;

struct packet {
    unsigned char bytes[PACKET_MAX];
    size_t len;
};

static void put16(struct packet *packet, unsigned value)
{
    packet->bytes[packet->len++] = (unsigned char)(value >> 8);
    packet->bytes[packet->len++] = (unsigned char)value;
}

/* The question's name as text; returns the offset behind the question. */
static size_t read_question(const unsigned char *in, size_t len, unsigned *ret_type)
{
    size_t at = 12, out = 0;
    while (at < len && in[at] != 0) {
        memcpy(server.last_name + out, in + at + 1, in[at]);
        out += in[at];
        server.last_name[out++] = '.';
        at += in[at] + 1u;
    }
    server.last_name[out > 0 ? out - 1 : 0] = '\0';
    *ret_type = (unsigned)in[at + 1] << 8 | in[at + 2];
    return at + 5;
}

static void put_record(struct packet *packet, unsigned type, unsigned number)
{
    put16(packet, server.manner == LOOP ? 0xc000u | (unsigned)packet->len : 0xc00cu);
    put16(packet, type);
    put16(packet, 1);
    put16(packet, 0);
    put16(packet, 30 + number); /* time to live */
    put16(packet, type == TYPE_A ? 4 : 16);
    if (type == TYPE_AAAA) {
        memset(packet->bytes + packet->len, 0, 12);
        packet->bytes[packet->len] = 0xfd;
        packet->len += 12;
    }
    put16(packet, 0x0a00u | number >> 8);
    put16(packet, (number & 255) << 8 | 7);
}

static void on_question(struct lt_io *io, uint32_t events)
{
    (void)events;
    unsigned char in[PACKET_MAX];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t got = recvfrom(io->fd, in, sizeof(in), 0, (struct sockaddr *)&from, &from_len);
    unsigned type = 0;
    if (got < 17)
        return;
    size_t end = read_question(in, (size_t)got, &type);
    server.asked[LT_MIN(type, 63u)]++;
    if (server.manner == SILENCE)
        return;
    struct packet out = {.len = 0};
    put16(&out, ((unsigned)in[0] << 8 | in[1]) ^ (server.manner == WRONG_ID ? 1u : 0u));
    unsigned code = server.manner == NXDOMAIN ? 3 : server.manner == SERVFAIL ? 2 : 0;
    bool has_records = server.manner != NXDOMAIN && server.manner != NODATA && code == 0;
    put16(&out, 0x8180u | code);
    put16(&out, 1);
    put16(&out, has_records ? server.records : 0);
    put16(&out, 0);
    put16(&out, 0);
    memcpy(out.bytes + out.len, in + 12, end - 12);
    out.len += end - 12;
    for (unsigned i = 0; has_records && i < server.records; i++)
        put_record(&out, type, i);
    if (server.manner == GARBAGE)
        memset(out.bytes + 12, 0xff, out.len - 12);
    if (server.manner == CUT)
        out.len -= 3;
    assert_true(sendto(io->fd, out.bytes, out.len, 0, (struct sockaddr *)&from, from_len) > 0);
}

/* --- the asking side --- */

static struct lt_env env;
static struct lt_loop *loop;
static struct lt_dns *dns;

static struct {
    int calls;
    lt_rc rc;
    size_t count;
    struct lt_dns_addr addrs[16];
} result;

static void on_done(void *ctx, lt_rc rc, const struct lt_dns_addr *addrs, size_t count,
                    const char *reason)
{
    (void)ctx;
    (void)reason;
    result.calls++;
    result.rc = rc;
    result.count = count;
    for (size_t i = 0; i < LT_MIN(count, LT_ARRAY_LEN(result.addrs)); i++)
        result.addrs[i] = addrs[i];
}

static int set_up(void **state)
{
    (void)state;
    lt_env_init(&env, "test");
    loop = lt_loop_new(&env);
    memset(&server, 0, sizeof(server));
    memset(&result, 0, sizeof(result));
    server.records = 2;
    assert_int_equal(lt_addr_parse(LT_STR("127.0.0.1"), 0, &server.addr), LT_OK);
    lt_io_init(&server.io, on_question);
    server.io.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server.io.fd, &server.addr.sa, server.addr.len), 0);
    assert_int_equal(lt_sock_local(server.io.fd, &server.addr), LT_OK);
    lt_loop_io_set(loop, &server.io, EPOLLIN);
    struct lt_dns_opts opts = {.servers = &server.addr,
                               .server_count = 1,
                               .has_no_search = true,
                               .tries = 1,
                               .timeout_ms = 200};
    dns = lt_dns_new(loop, &opts);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lt_dns_free(&dns);
    lt_loop_io_del(loop, &server.io);
    close(server.io.fd);
    lt_loop_free(&loop);
    return 0;
}

static void ask(const char *name, int family)
{
    memset(&result, 0, sizeof(result));
    (void)lt_dns_ask(dns, lt_str_of(name), family, on_done, NULL);
    assert_int_equal(result.calls, 0); /* never before it has returned */
    for (int i = 0; i < TURNS_MAX && result.calls == 0; i++)
        lt_loop_turn(loop, 50);
    lt_loop_turn(loop, 0);
    assert_int_equal(result.calls, 1);
}

static void assert_addr(size_t at, const char *wanted)
{
    char text[LT_ADDR_TEXT_MAX];
    assert_true(lt_str_eqz(lt_addr_format_ip(&result.addrs[at].addr, text), wanted));
}

static void test_addresses(void **state)
{
    (void)state;
    ask("web.example", AF_INET);
    assert_int_equal(result.rc, LT_OK);
    assert_int_equal(result.count, 2);
    assert_string_equal(server.last_name, "web.example");
    assert_addr(0, "10.0.0.7");
    assert_addr(1, "10.0.1.7");
    assert_int_equal(result.addrs[1].ttl_s, 31);
    assert_int_equal(server.asked[TYPE_AAAA], 0);
    ask("web.example", AF_INET6);
    assert_int_equal(result.count, 2);
    assert_addr(0, "fd00::a00:7");
    ask("web.example", AF_UNSPEC);
    assert_int_equal(result.count, 4);
}

static void test_literals(void **state)
{
    (void)state;
    ask("10.9.8.7", AF_INET);
    assert_addr(0, "10.9.8.7");
    assert_int_equal(server.asked[TYPE_A], 0);
}

static void test_nobody(void **state)
{
    (void)state;
    server.manner = NXDOMAIN;
    ask("no.example", AF_INET);
    assert_int_equal(result.rc, LT_E_NOT_FOUND);
    server.manner = NODATA;
    ask("empty.example", AF_INET);
    assert_int_equal(result.rc, LT_E_NOT_FOUND);
}

static void test_failures(void **state)
{
    (void)state;
    static const manner manners[] = {SERVFAIL, SILENCE, WRONG_ID, GARBAGE, CUT, LOOP};
    for (size_t i = 0; i < LT_ARRAY_LEN(manners); i++) {
        server.manner = manners[i];
        ask("bad.example", AF_INET);
        assert_int_equal(result.rc, LT_E_IO);
        assert_int_equal(result.count, 0);
    }
    server.manner = ANSWER; /* and then all is well again */
    ask("good.example", AF_INET);
    assert_int_equal(result.rc, LT_OK);
}

static void test_bad_names(void **state)
{
    (void)state;
    static char long_name[600];
    memset(long_name, 'a', sizeof(long_name) - 1);
    ask(long_name, AF_INET);
    assert_int_equal(result.rc, LT_E_IO);
    memset(long_name + 70, 0, 1); /* one label of 70 */
    ask(long_name, AF_INET);
    assert_int_not_equal(result.rc, LT_OK);
    assert_int_equal(server.asked[TYPE_A], 0);
}

static void test_cancelled(void **state)
{
    (void)state;
    struct lt_dns_query *query = lt_dns_ask(dns, LT_STR("web.example"), AF_INET, on_done, NULL);
    lt_dns_cancel(&query);
    assert_null(query);
    for (int i = 0; i < TURNS_MAX && server.asked[TYPE_A] == 0; i++)
        lt_loop_turn(loop, 50);
    for (int i = 0; i < 5; i++)
        lt_loop_turn(loop, 10);
    assert_int_equal(result.calls, 0);
    (void)lt_dns_ask(dns, LT_STR("other.example"), AF_INET, on_done, NULL); /* open at the end */
}

static void test_many_at_once(void **state)
{
    (void)state;
    enum { MANY = 200 };
    for (int i = 0; i < MANY; i++)
        (void)lt_dns_ask(dns, LT_STR("web.example"), AF_INET, on_done, NULL);
    for (int i = 0; i < TURNS_MAX * 10 && result.calls < MANY; i++)
        lt_loop_turn(loop, 50);
    assert_int_equal(result.calls, MANY);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_addresses), CASE(test_literals),  CASE(test_nobody),       CASE(test_failures),
        CASE(test_bad_names), CASE(test_cancelled), CASE(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
