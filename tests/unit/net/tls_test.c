/*
 * tests/unit/net/tls_test.c - both ends of TLS over a socket pair: what is agreed, what is refused
 * and with which words.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include "net/client_hello.h"
#include "net/tls.h"
#include "tls_fixture.h"

enum { TURNS_MAX = 2000 };

static struct lt_arena *arena;
static struct fixture_ca mesh_ca, other_ca;
static struct fixture_leaf server_id, client_id, expired_id, foreign_id;

static const char *const SERVER_URI = "spiffe://cluster.local/ns/shop/sa/backend";
static const char *const CLIENT_URI = "spiffe://cluster.local/ns/shop/sa/frontend";

struct pair {
    struct lt_tls_ctx *server_ctx, *client_ctx;
    struct lt_transport server, client;
    lt_rc server_rc, client_rc; /* of the handshakes */
};

static struct lt_tls_opts server_opts(void)
{
    static const lt_str alpn[] = {LT_STR("h2"), LT_STR("http/1.1")};
    return (struct lt_tls_opts){.is_server = true,
                                .cert_chain_pem = server_id.chain_pem,
                                .key_pem = lt_str_of(server_id.key_pem),
                                .ca_pem = mesh_ca.cert_pem,
                                .verify_peer = true,
                                .require_peer_cert = true,
                                .alpn = alpn,
                                .alpn_count = 2};
}

static struct lt_tls_opts client_opts(void)
{
    return (struct lt_tls_opts){.cert_chain_pem = client_id.chain_pem,
                                .key_pem = lt_str_of(client_id.key_pem),
                                .ca_pem = mesh_ca.cert_pem,
                                .verify_peer = true};
}

static void socket_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
}

static void pair_open(struct pair *pair, const struct lt_tls_opts *server,
                      const struct lt_tls_opts *client, const struct lt_tls_conn_opts *server_conn,
                      const struct lt_tls_conn_opts *client_conn)
{
    struct lt_err err = {0};
    int fds[2];
    *pair = (struct pair){.server_rc = LT_AGAIN, .client_rc = LT_AGAIN};
    assert_int_equal(lt_tls_ctx_new(server, &pair->server_ctx, &err), LT_OK);
    assert_int_equal(lt_tls_ctx_new(client, &pair->client_ctx, &err), LT_OK);
    socket_pair(fds);
    lt_transport_init_tls(&pair->server, fds[0], pair->server_ctx, server_conn);
    lt_transport_init_tls(&pair->client, fds[1], pair->client_ctx, client_conn);
}

static void pair_handshake(struct pair *pair)
{
    for (int i = 0; i < TURNS_MAX && (pair->server_rc == LT_AGAIN || pair->client_rc == LT_AGAIN);
         i++) {
        if (pair->client_rc == LT_AGAIN)
            pair->client_rc = lt_transport_handshake(&pair->client);
        if (pair->client_rc != LT_OK && pair->client_rc != LT_AGAIN)
            (void)lt_transport_shutdown_write(&pair->client);
        if (pair->server_rc == LT_AGAIN)
            pair->server_rc = lt_transport_handshake(&pair->server);
        if (pair->server_rc != LT_OK && pair->server_rc != LT_AGAIN)
            (void)lt_transport_shutdown_write(&pair->server);
    }
}

static void pair_close(struct pair *pair)
{
    lt_transport_fini(&pair->server);
    lt_transport_fini(&pair->client);
    lt_tls_ctx_unref(&pair->server_ctx);
    lt_tls_ctx_unref(&pair->client_ctx);
}

static void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' does not contain '%s'", text, part);
}

static lt_rc read_some(struct lt_transport *from, void *to, size_t room, size_t *ret_len)
{
    lt_rc rc = LT_AGAIN;
    for (int i = 0; i < 10 && rc == LT_AGAIN; i++)
        rc = lt_transport_read(from, to, room, ret_len);
    return rc;
}

static void assert_carries(struct lt_transport *from, struct lt_transport *to, const char *text)
{
    struct iovec iov = {(void *)text, strlen(text)};
    char got[256];
    size_t put = 0, len = 0;
    assert_int_equal(lt_transport_writev(from, &iov, 1, &put), LT_OK);
    assert_int_equal(put, strlen(text));
    assert_int_equal(read_some(to, got, sizeof(got), &len), LT_OK);
    assert_int_equal(len, put);
    assert_memory_equal(got, text, len);
}

/* --- what works --- */

static void test_mutual_identity(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    struct lt_san_matcher trust_domain = {
        LT_SAN_URI, LT_SAN_PREFIX, false, LT_STR("spiffe://cluster.local/"), NULL, {0}};
    struct lt_san_matcher backend = {LT_SAN_URI, LT_SAN_EXACT, false, lt_str_of(SERVER_URI),
                                     NULL,       {0}};
    lt_str offered[] = {LT_STR("istio-http/1.1"), LT_STR("istio"), LT_STR("http/1.1")};
    struct lt_tls_conn_opts by_server = {.sans = &trust_domain, .san_count = 1};
    struct lt_tls_conn_opts by_client = {
        .sans = &backend,
        .san_count = 1,
        .alpn = offered,
        .alpn_count = 3,
        .sni = LT_STR("outbound_.80_._.backend.shop.svc.cluster.local")};
    pair_open(&pair, &server, &client, &by_server, &by_client);
    assert_true(lt_str_eqz(lt_tls_peer_uri(&pair.server), ""));
    pair_handshake(&pair);
    assert_int_equal(pair.server_rc, LT_OK);
    assert_int_equal(pair.client_rc, LT_OK);
    assert_true(lt_str_eqz(lt_tls_peer_uri(&pair.server), CLIENT_URI));
    assert_true(lt_str_eqz(lt_tls_peer_uri(&pair.client), SERVER_URI));
    assert_true(lt_str_eqz(lt_tls_peer_dns(&pair.client), "backend.example"));
    assert_true(lt_str_eqz(lt_tls_peer_subject(&pair.client), ""));
    assert_int_equal(lt_tls_peer_sha256(&pair.client).len, 64);
    assert_true(lt_tls_has_verified_peer(&pair.server));
    assert_true(lt_str_eqz(lt_tls_alpn(&pair.server), "http/1.1"));
    assert_true(lt_str_eqz(lt_tls_alpn(&pair.client), "http/1.1"));
    assert_true(lt_str_eq(lt_tls_sni(&pair.server), by_client.sni));
    assert_string_equal(lt_tls_version(&pair.client), "TLSv1.3");
    assert_true(lt_str_eqz(lt_tls_ctx_own_uri(pair.server_ctx), SERVER_URI));
    assert_carries(&pair.client, &pair.server, "GET / HTTP/1.1");
    assert_carries(&pair.server, &pair.client, "HTTP/1.1 200 OK");
    pair_close(&pair);
}

static void test_tls12_with_istio_ciphers(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    client.version_max = 0x0303;
    server.cipher_list = LT_STR(
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
        "ECDHE-RSA-AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-GCM-SHA256");
    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    assert_int_equal(pair.server_rc, LT_OK);
    assert_string_equal(lt_tls_version(&pair.server), "TLSv1.2");
    assert_string_equal(lt_tls_cipher(&pair.server), "ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_carries(&pair.client, &pair.server, "x");
    pair_close(&pair);
}

static void test_no_common_alpn_goes_on(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    lt_str offered = LT_STR("istio-peer-exchange");
    struct lt_tls_conn_opts by_client = {.alpn = &offered, .alpn_count = 1};
    pair_open(&pair, &server, &client, NULL, &by_client);
    pair_handshake(&pair);
    assert_int_equal(pair.client_rc, LT_OK);
    assert_int_equal(lt_tls_alpn(&pair.server).len, 0);
    pair_close(&pair);
}

static void test_server_prefers_its_own_alpn(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    lt_str offered[] = {LT_STR("http/1.1"), LT_STR("h2")};
    client.alpn = offered;
    client.alpn_count = 2;
    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    assert_true(lt_str_eqz(lt_tls_alpn(&pair.client), "h2"));
    pair_close(&pair);
}

static void test_pieces_go_out_as_one_record(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    struct iovec iov[3] = {
        {"HTTP/1.1 200 OK\r\n", 17}, {"content-length: 2\r\n\r\n", 21}, {"ok", 2}};
    size_t put = 0;
    char raw[512];
    assert_int_equal(lt_transport_writev(&pair.server, iov, 3, &put), LT_OK);
    assert_int_equal(put, 40);
    ssize_t len = recv(pair.client.fd, raw, sizeof(raw), MSG_PEEK);
    assert_int_equal(len, 5 + 40 + 1 + 16); /* header, text, content type, tag */
    size_t got = 0;
    assert_int_equal(lt_transport_read(&pair.client, raw, sizeof(raw), &got), LT_OK);
    assert_int_equal(got, 40);
    pair_close(&pair);
}

/* A megabyte through small socket buffers, in pieces that never fit records. */
static void test_large_transfer(void **state)
{
    (void)state;
    enum { TOTAL = 1 << 20 };
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    char *data = lt_malloc(TOTAL), *got = lt_malloc(TOTAL);
    for (size_t i = 0; i < TOTAL; i++)
        data[i] = (char)(i * 31 + i / 257);
    size_t sent = 0, received = 0;
    for (int i = 0; i < 100000 && received < TOTAL; i++) {
        struct iovec iov[3] = {
            {data + sent, LT_MIN((size_t)1000, TOTAL - sent)}, {NULL, 0}, {NULL, 0}};
        iov[1] = (struct iovec){data + sent + iov[0].iov_len,
                                LT_MIN((size_t)40000, TOTAL - sent - iov[0].iov_len)};
        size_t len = 0;
        lt_rc rc = sent == TOTAL ? LT_AGAIN : lt_transport_writev(&pair.server, iov, 3, &len);
        assert_true(rc == LT_OK || rc == LT_AGAIN);
        sent += rc == LT_OK ? len : 0;
        rc = lt_transport_read(&pair.client, got + received, LT_MIN((size_t)3000, TOTAL - received),
                               &len);
        assert_true(rc == LT_OK || rc == LT_AGAIN);
        received += rc == LT_OK ? len : 0;
    }
    assert_int_equal(received, TOTAL);
    assert_memory_equal(data, got, TOTAL);
    free(data);
    free(got);
    pair_close(&pair);
}

static void test_pending_is_told(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    struct iovec iov = {"0123456789", 10};
    char got[4];
    size_t len = 0;
    assert_int_equal(lt_transport_writev(&pair.server, &iov, 1, &len), LT_OK);
    assert_int_equal(read_some(&pair.client, got, 4, &len), LT_OK);
    assert_true(pair.client.has_pending);
    assert_int_equal(lt_transport_read(&pair.client, got, 4, &len), LT_OK);
    assert_int_equal(lt_transport_read(&pair.client, got, 4, &len), LT_OK);
    assert_int_equal(len, 2);
    assert_int_equal(lt_transport_read(&pair.client, got, 4, &len), LT_AGAIN);
    assert_false(pair.client.has_pending);
    pair_close(&pair);
}

static void test_ends(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    char got[16];
    size_t len = 0;
    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    assert_int_equal(lt_transport_shutdown_write(&pair.client), LT_OK);
    assert_int_equal(read_some(&pair.server, got, sizeof(got), &len), LT_EOF);
    assert_carries(&pair.server, &pair.client,
                   "late answer"); /* half-closed: the other way still works */
    pair_close(&pair);

    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    lt_transport_fini(&pair.client); /* a bare FIN */
    assert_int_equal(read_some(&pair.server, got, sizeof(got), &len), LT_EOF);
    struct iovec iov = {"x", 1};
    lt_rc rc = LT_OK;
    for (int i = 0; i < 3 && rc == LT_OK; i++)
        rc = lt_transport_writev(&pair.server, &iov, 1, &len);
    assert_int_equal(rc, LT_E_CLOSED); /* and no SIGPIPE */
    pair_close(&pair);
}

/* The client's bytes arrive one by one; the first dozen through an inspector. */
static void test_split_and_prefilled(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    struct lt_tls_conn_opts by_client = {.sni = LT_STR("backend.shop")};
    pair_open(&pair, &server, &client, NULL, &by_client);
    int trickle[2];
    socket_pair(trickle);
    assert_int_equal(lt_transport_handshake(&pair.client), LT_AGAIN);
    char hello[2048];
    ssize_t len = recv(pair.server.fd, hello, sizeof(hello), 0);
    assert_true(len > 100);
    struct lt_client_hello parsed;
    char room[LT_CLIENT_HELLO_BYTES_MAX];
    for (ssize_t i = 0; i < len; i++)
        assert_int_equal(lt_client_hello_parse(lt_str_make(hello, (size_t)i), room, &parsed),
                         LT_AGAIN);
    assert_int_equal(lt_client_hello_parse(lt_str_make(hello, (size_t)len), room, &parsed), LT_OK);
    assert_true(lt_str_eqz(parsed.server_name, "backend.shop"));
    assert_int_equal(lt_transport_tls_prefill(&pair.server, lt_str_make(hello, 12)), LT_OK);
    for (ssize_t i = 12; i < len; i++) {
        assert_int_equal(lt_transport_handshake(&pair.server), LT_AGAIN);
        assert_false(pair.server.wants_write);
        assert_int_equal(send(pair.client.fd, hello + i, 1, 0), 1);
    }
    pair_handshake(&pair);
    assert_int_equal(pair.server_rc, LT_OK);
    assert_true(lt_str_eqz(lt_tls_sni(&pair.server), "backend.shop"));
    close(trickle[0]);
    close(trickle[1]);
    pair_close(&pair);
}

/* --- what is refused --- */

static void refuse(const struct lt_tls_opts *server, const struct lt_tls_opts *client,
                   const struct lt_tls_conn_opts *by_server,
                   const struct lt_tls_conn_opts *by_client, bool is_by_server, const char *reason)
{
    struct pair pair;
    pair_open(&pair, server, client, by_server, by_client);
    pair_handshake(&pair);
    struct lt_transport *who = is_by_server ? &pair.server : &pair.client;
    assert_int_equal(is_by_server ? pair.server_rc : pair.client_rc, LT_E_TLS);
    assert_contains(lt_tls_error(who), reason);
    assert_false(lt_tls_has_verified_peer(who));
    assert_int_equal(lt_tls_peer_uri(who).len, 0);
    char byte;
    size_t len = 0;
    /*
     * the other side hears of it, at the latest when it reads; and nothing can be read where it
     * failed
     */
    assert_int_not_equal(read_some(is_by_server ? &pair.client : &pair.server, &byte, 1, &len),
                         LT_OK);
    assert_int_equal(lt_transport_read(who, &byte, 1, &len), LT_E_CLOSED);
    pair_close(&pair);
}

static void test_refuses_wrong_root(void **state)
{
    (void)state;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    client.cert_chain_pem = foreign_id.chain_pem;
    client.key_pem = lt_str_of(foreign_id.key_pem);
    refuse(&server, &client, NULL, NULL, true,
           "CERTIFICATE_VERIFY_FAILED: certificate verification error at depth 0");
    client = client_opts();
    client.ca_pem = other_ca.cert_pem;
    refuse(&server, &client, NULL, NULL, false, "unable to get local issuer certificate");
}

static void test_refuses_missing_client_cert(void **state)
{
    (void)state;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    client.cert_chain_pem = client.key_pem = LT_STR_NULL;
    refuse(&server, &client, NULL, NULL, true, "PEER_DID_NOT_RETURN_A_CERTIFICATE");
}

static void test_refuses_expired(void **state)
{
    (void)state;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    client.cert_chain_pem = expired_id.chain_pem;
    client.key_pem = lt_str_of(expired_id.key_pem);
    refuse(&server, &client, NULL, NULL, true, "certificate has expired");
}

static void test_refuses_san_mismatch(void **state)
{
    (void)state;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    struct lt_san_matcher sans[] = {
        {LT_SAN_URI,
         LT_SAN_EXACT,
         false,
         LT_STR("spiffe://cluster.local/ns/shop/sa/other"),
         NULL,
         {0}},
        {LT_SAN_DNS, LT_SAN_EXACT, false, lt_str_of(SERVER_URI), NULL, {0}},
        {LT_SAN_URI, LT_SAN_SUFFIX, false, LT_STR("/sa/Backend"), NULL, {0}},
        {LT_SAN_URI, LT_SAN_PREFIX, false, LT_STR("spiffe://cluster.localx/"), NULL, {0}}};
    struct lt_tls_conn_opts conn = {.sans = sans, .san_count = 4};
    refuse(&server, &client, NULL, &conn, false,
           "verify SAN list: the peer is [spiffe://cluster.local/ns/shop/sa/backend");
    struct lt_san_matcher domain = {
        LT_SAN_URI, LT_SAN_PREFIX, false, LT_STR("spiffe://other/"), NULL, {0}};
    struct lt_tls_conn_opts by_server = {.sans = &domain, .san_count = 1};
    refuse(&server, &client, &by_server, NULL, true, "expected spiffe://other/");
}

static void test_refuses_sans_that_nobody_vouches_for(void **state)
{
    (void)state;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    client.verify_peer = false;
    struct lt_san_matcher san = {LT_SAN_URI, LT_SAN_EXACT, false, lt_str_of(SERVER_URI), NULL, {0}};
    struct lt_tls_conn_opts conn = {.sans = &san, .san_count = 1};
    refuse(&server, &client, NULL, &conn, false, "no CA is trusted");
}

static void test_san_kinds(void **state)
{
    (void)state;
    static const struct lt_san_matcher good[] = {
        {LT_SAN_ANY_TYPE, LT_SAN_CONTAINS, false, LT_STR("ns/shop"), NULL, {0}},
        {LT_SAN_URI, LT_SAN_SUFFIX, true, LT_STR("/SA/BACKEND"), NULL, {0}},
        {LT_SAN_DNS, LT_SAN_EXACT, false, LT_STR("backend.example"), NULL, {0}},
        {LT_SAN_DNS,
         LT_SAN_EXACT,
         false,
         LT_STR("a.wild.example"),
         NULL,
         {0}}, /* by *.wild.example */
        {LT_SAN_IP, LT_SAN_EXACT, false, LT_STR("10.1.2.3"), NULL, {0}},
        {LT_SAN_IP, LT_SAN_EXACT, false, LT_STR("fd00::1"), NULL, {0}},
    };
    struct lt_tls_opts server = server_opts(), client = client_opts();
    for (size_t i = 0; i < LT_ARRAY_LEN(good); i++) {
        struct pair pair;
        struct lt_tls_conn_opts conn = {.sans = &good[i], .san_count = 1};
        pair_open(&pair, &server, &client, NULL, &conn);
        pair_handshake(&pair);
        assert_int_equal(pair.client_rc, LT_OK);
        pair_close(&pair);
    }
    struct lt_san_matcher deeper = {LT_SAN_DNS, LT_SAN_EXACT, false, LT_STR("a.b.wild.example"),
                                    NULL,       {0}};
    struct lt_tls_conn_opts conn = {.sans = &deeper, .san_count = 1};
    refuse(&server, &client, NULL, &conn, false, "verify SAN list");
}

/* A name that the peer must have beside what the configuration asks for. */
static void test_name_of_the_peer(void **state)
{
    (void)state;
    static const lt_str good[] = {{"backend.example", 15},
                                  {"BACKEND.example", 15},
                                  {"a.wild.example", 14},
                                  {"10.1.2.3", 8},
                                  {"fd00::1", 7}};
    static const lt_str bad[] = {{"example", 7}, {"a.b.wild.example", 16}, {"10.1.2.4", 8}};
    struct lt_san_matcher uri = {LT_SAN_URI, LT_SAN_EXACT, false, lt_str_of(SERVER_URI), NULL, {0}};
    struct lt_san_matcher other = {LT_SAN_URI, LT_SAN_EXACT, false, LT_STR("spiffe://other/x"),
                                   NULL,       {0}};
    struct lt_tls_opts server = server_opts(), client = client_opts();
    for (size_t i = 0; i < LT_ARRAY_LEN(good); i++) {
        struct pair pair;
        struct lt_tls_conn_opts conn = {.must_be = good[i], .sans = &uri, .san_count = i % 2};
        pair_open(&pair, &server, &client, NULL, &conn);
        pair_handshake(&pair);
        assert_int_equal(pair.client_rc, LT_OK);
        pair_close(&pair);
    }
    for (size_t i = 0; i < LT_ARRAY_LEN(bad); i++) {
        struct lt_tls_conn_opts conn = {.must_be = bad[i], .sans = &uri, .san_count = i % 2};
        refuse(&server, &client, NULL, &conn, false, "verify SAN list: the peer is [");
    }
    struct lt_tls_conn_opts both = {.must_be = good[0], .sans = &other, .san_count = 1};
    refuse(&server, &client, NULL, &both, false, "expected spiffe://other/x");
    client.verify_peer = false;
    struct lt_tls_conn_opts unvouched = {.must_be = good[0]};
    refuse(&server, &client, NULL, &unvouched, false, "no CA is trusted");
}

static void test_garbage(void **state)
{
    (void)state;
    struct pair pair;
    struct lt_tls_opts server = server_opts(), client = client_opts();
    pair_open(&pair, &server, &client, NULL, NULL);
    assert_int_equal(send(pair.client.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    assert_int_equal(lt_transport_handshake(&pair.server), LT_E_TLS);
    assert_contains(lt_tls_error(&pair.server), "HTTP_REQUEST");
    pair_close(&pair);

    pair_open(&pair, &server, &client, NULL, NULL);
    pair_handshake(&pair);
    assert_int_equal(
        send(pair.client.fd, "\x17\x03\x03\x00\x20 some bytes that nobody sealed..", 37, 0), 37);
    char got[16];
    size_t len = 0;
    assert_int_equal(lt_transport_read(&pair.server, got, sizeof(got), &len), LT_E_TLS);
    assert_contains(lt_tls_error(&pair.server), "BAD_RECORD_MAC");
    pair_close(&pair);

    pair_open(&pair, &server, &client, NULL, NULL);
    lt_transport_fini(&pair.client); /* gone before it spoke */
    assert_int_equal(lt_transport_handshake(&pair.server), LT_E_CLOSED);
    assert_contains(lt_tls_error(&pair.server), "closed by the peer");
    pair_close(&pair);
}

/*
 * A client of another make, that keeps its session. Steps both ends; the server's verdict comes
 * back.
 */
static lt_rc shake_with(SSL *ssl, struct lt_transport *server)
{
    lt_rc rc = LT_AGAIN;
    for (int i = 0; i < TURNS_MAX && rc == LT_AGAIN; i++) {
        (void)SSL_do_handshake(ssl);
        rc = lt_transport_handshake(server);
    }
    return rc;
}

static SSL *foreign_client(SSL_CTX *ssl_ctx, struct lt_transport *server, struct lt_tls_ctx *ctx,
                           const struct lt_tls_conn_opts *conn)
{
    int fds[2];
    socket_pair(fds);
    lt_transport_init_tls(server, fds[0], ctx, conn);
    SSL *ssl = SSL_new(ssl_ctx);
    SSL_set_fd(ssl, fds[1]);
    BIO_set_close(SSL_get_rbio(ssl), BIO_CLOSE);
    SSL_set_connect_state(ssl);
    return ssl;
}

static SSL_CTX *foreign_client_ctx(void)
{
    SSL_CTX *ssl_ctx = SSL_CTX_new(TLS_client_method());
    BIO *bio = BIO_new_mem_buf(client_id.chain_pem.ptr, (int)client_id.chain_pem.len);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    bio = BIO_new_mem_buf(client_id.key_pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    assert_int_equal(SSL_CTX_use_certificate(ssl_ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ssl_ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ssl_ctx;
}

/* A resumed session skips the chain; the names are looked at all the same. */
static void test_resumption_checks_sans_again(void **state)
{
    (void)state;
    struct lt_tls_opts opts = server_opts();
    struct lt_tls_ctx *ctx = NULL;
    struct lt_err err;
    opts.allow_session_resumption = true;
    assert_int_equal(lt_tls_ctx_new(&opts, &ctx, &err), LT_OK);
    SSL_CTX *ssl_ctx = foreign_client_ctx();

    struct lt_transport server;
    SSL *ssl = foreign_client(ssl_ctx, &server, ctx, NULL);
    assert_int_equal(shake_with(ssl, &server), LT_OK);
    char byte;
    size_t len = 0;
    struct iovec iov = {"x", 1};
    assert_int_equal(lt_transport_writev(&server, &iov, 1, &len), LT_OK);
    assert_int_equal(SSL_read(ssl, &byte, 1), 1); /* the tickets came with it */
    SSL_SESSION *session = SSL_get1_session(ssl);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    lt_transport_fini(&server);

    struct lt_san_matcher sans[] = {
        {LT_SAN_URI, LT_SAN_PREFIX, false, LT_STR("spiffe://cluster.local/"), NULL, {0}},
        {LT_SAN_URI, LT_SAN_PREFIX, false, LT_STR("spiffe://other/"), NULL, {0}}};
    for (size_t i = 0; i < 2; i++) {
        struct lt_tls_conn_opts conn = {.sans = &sans[i], .san_count = 1};
        ssl = foreign_client(ssl_ctx, &server, ctx, &conn);
        assert_int_equal(SSL_set_session(ssl, session), 1);
        assert_int_equal(shake_with(ssl, &server), i == 0 ? LT_OK : LT_E_TLS);
        /* who may not resume shakes hands in full, and hears there what is wrong */
        assert_int_equal(SSL_session_reused(ssl), i == 0);
        if (i == 0)
            assert_true(lt_str_eqz(lt_tls_peer_uri(&server), CLIENT_URI));
        else
            assert_contains(lt_tls_error(&server), "verify SAN list");
        SSL_shutdown(ssl); /* or OpenSSL forgets the session */
        SSL_free(ssl);
        lt_transport_fini(&server);
    }
    SSL_SESSION_free(session);
    SSL_CTX_free(ssl_ctx);
    lt_tls_ctx_unref(&ctx);
}

/* One connection of a client that keeps sessions; true when it was resumed. */
static bool is_resumed(struct lt_tls_ctx *server_ctx, struct lt_tls_ctx *client_ctx,
                       struct lt_tls_sessions *sessions, const char *sni, lt_rc expected)
{
    struct lt_san_matcher san = {LT_SAN_URI, LT_SAN_EXACT, false, lt_str_of(SERVER_URI), NULL, {0}};
    struct lt_tls_conn_opts conn = {
        .sni = lt_str_of(sni), .sans = &san, .san_count = 1, .sessions = sessions};
    struct pair pair = {.server_ctx = lt_tls_ctx_ref(server_ctx),
                        .client_ctx = lt_tls_ctx_ref(client_ctx),
                        .server_rc = LT_AGAIN,
                        .client_rc = LT_AGAIN};
    int fds[2];
    socket_pair(fds);
    lt_transport_init_tls(&pair.server, fds[0], server_ctx, NULL);
    lt_transport_init_tls(&pair.client, fds[1], client_ctx, &conn);
    pair_handshake(&pair);
    assert_int_equal(pair.server_rc, expected);
    if (expected == LT_OK)
        assert_carries(&pair.server, &pair.client, "and the ticket");
    bool is_client = lt_tls_is_resumed(&pair.client), is_server = lt_tls_is_resumed(&pair.server);
    assert_int_equal(is_client, is_server);
    pair_close(&pair);
    return is_client;
}

/* What a session proves is good for the contexts, and the name, that it was made with. */
static void test_a_client_keeps_sessions(void **state)
{
    (void)state;
    for (int version = 0x0303; version <= 0x0304; version++) {
        struct lt_tls_opts server = server_opts(), client = client_opts();
        struct lt_tls_ctx *servers[2], *clients[2];
        struct lt_err err;
        server.allow_session_resumption = client.allow_session_resumption = true;
        server.version_max = version;
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(lt_tls_ctx_new(&server, &servers[i], &err), LT_OK);
            assert_int_equal(lt_tls_ctx_new(&client, &clients[i], &err), LT_OK);
        }
        struct lt_tls_sessions *sessions = lt_tls_sessions_new(1);
        assert_false(is_resumed(servers[0], clients[0], sessions, "a.test", LT_OK));
        assert_true(is_resumed(servers[0], clients[0], sessions, "a.test", LT_OK));
        assert_true(is_resumed(servers[0], clients[0], sessions, "a.test", LT_OK));
        assert_false(is_resumed(servers[0], clients[0], sessions, "b.test", LT_OK));
        assert_true(is_resumed(servers[0], clients[0], sessions, "b.test", LT_OK));
        /* the server's secrets changed: its tickets are sealed anew */
        assert_false(is_resumed(servers[1], clients[0], sessions, "b.test", LT_OK));
        assert_true(is_resumed(servers[1], clients[0], sessions, "b.test", LT_OK));
        /* ours did: nothing from before is offered */
        assert_false(is_resumed(servers[1], clients[1], sessions, "b.test", LT_OK));
        assert_true(is_resumed(servers[1], clients[1], sessions, "b.test", LT_OK));
        lt_tls_sessions_free(&sessions);
        for (size_t i = 0; i < 2; i++) {
            lt_tls_ctx_unref(&servers[i]);
            lt_tls_ctx_unref(&clients[i]);
        }
    }
}

static void expect_bad(const struct lt_tls_opts *opts, const char *reason)
{
    struct lt_tls_ctx *ctx = NULL;
    struct lt_err err = {0};
    assert_int_equal(lt_tls_ctx_new(opts, &ctx, &err), LT_E_BAD);
    assert_null(ctx);
    assert_contains(err.text, reason);
}

static void test_bad_options(void **state)
{
    (void)state;
    struct lt_tls_opts opts = server_opts();
    opts.key_pem = lt_str_of(client_id.key_pem);
    expect_bad(&opts, "private key does not fit the certificate");
    opts = server_opts();
    opts.cert_chain_pem = LT_STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    expect_bad(&opts, "not the PEM text of a certificate");
    opts = server_opts();
    opts.ca_pem = LT_STR("nothing");
    expect_bad(&opts, "no certificate in the PEM text");
    opts = server_opts();
    opts.ca_pem = LT_STR_NULL;
    expect_bad(&opts, "no CA is trusted");
    opts = server_opts();
    opts.cipher_list = LT_STR("NO-SUCH-CIPHER");
    expect_bad(&opts, "NO_CIPHER_MATCH");
    opts = server_opts();
    opts.key_pem = LT_STR_NULL;
    expect_bad(&opts, "go together");
}

static int set_up(void **state)
{
    (void)state;
    int64_t soon = time(NULL) + HOUR_S;
    arena = lt_arena_new(0, 0);
    fixture_ca_init(&mesh_ca, arena, "cluster.local");
    fixture_ca_init(&other_ca, arena, "elsewhere");
    const struct lt_san server_sans[] = {{LT_SAN_URI, lt_str_of(SERVER_URI)},
                                         {LT_SAN_DNS, LT_STR("backend.example")},
                                         {LT_SAN_DNS, LT_STR("*.wild.example")},
                                         {LT_SAN_IP, LT_STR("10.1.2.3")},
                                         {LT_SAN_IP, LT_STR("fd00::1")}};
    const struct lt_san client_san = {LT_SAN_URI, lt_str_of(CLIENT_URI)};
    fixture_leaf_init(&server_id, arena, &mesh_ca, server_sans, LT_ARRAY_LEN(server_sans), soon);
    fixture_leaf_init(&client_id, arena, &mesh_ca, &client_san, 1, soon);
    fixture_leaf_init(&expired_id, arena, &mesh_ca, &client_san, 1, time(NULL) - 10);
    fixture_leaf_init(&foreign_id, arena, &other_ca, &client_san, 1, soon);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_leaf_fini(&server_id);
    fixture_leaf_fini(&client_id);
    fixture_leaf_fini(&expired_id);
    fixture_leaf_fini(&foreign_id);
    fixture_ca_fini(&mesh_ca);
    fixture_ca_fini(&other_ca);
    lt_arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutual_identity),
        cmocka_unit_test(test_tls12_with_istio_ciphers),
        cmocka_unit_test(test_no_common_alpn_goes_on),
        cmocka_unit_test(test_server_prefers_its_own_alpn),
        cmocka_unit_test(test_pieces_go_out_as_one_record),
        cmocka_unit_test(test_large_transfer),
        cmocka_unit_test(test_pending_is_told),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_split_and_prefilled),
        cmocka_unit_test(test_refuses_wrong_root),
        cmocka_unit_test(test_refuses_missing_client_cert),
        cmocka_unit_test(test_refuses_expired),
        cmocka_unit_test(test_refuses_san_mismatch),
        cmocka_unit_test(test_refuses_sans_that_nobody_vouches_for),
        cmocka_unit_test(test_san_kinds),
        cmocka_unit_test(test_name_of_the_peer),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_resumption_checks_sans_again),
        cmocka_unit_test(test_a_client_keeps_sessions),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
