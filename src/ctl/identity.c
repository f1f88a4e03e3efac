/*
 * ctl/identity.c - a client that goes away as soon as it has seen the server's certificate, or a
 * look at a page of certificates.
 */
#include "ctl/identity.h"

#include <arpa/inet.h>

#include "ctl/netns.h"
#include "net/sock.h"
#include "wire/json.h"

enum { TIMEOUT_MS = 2000, ADMIN_PORT = 15000 };

/* What Istio's sidecars offer each other; it makes the inbound side choose its mTLS chain. */
static const lt_str mesh_alpn[] = {{"istio-peer-exchange", 19}, {"istio", 5}};

lt_rc ctl_identity_trust(lt_str root_pem, struct lt_tls_ctx **ret_tls, struct lt_err *err)
{
    const struct lt_tls_opts opts = {.ca_pem = root_pem,
                                     .verify_peer = true,
                                     .alpn = mesh_alpn,
                                     .alpn_count = LT_ARRAY_LEN(mesh_alpn)};
    return lt_tls_ctx_new(&opts, ret_tls, err);
}

void ctl_identity_cancel(struct ctl_identity *identity)
{
    if (!identity->is_running)
        return;
    lt_loop_timer_cancel(identity->loop, &identity->timer);
    if (identity->io.fd >= 0) {
        lt_loop_io_del(identity->loop, &identity->io);
        lt_transport_fini(&identity->transport);
        identity->io.fd = -1;
    }
    lt_tls_ctx_unref(&identity->tls);
    if (identity->call != NULL)
        lt_call_cancel(&identity->call);
    identity->is_running = false;
}

/* --- a handshake --- */

static void finish(struct ctl_identity *identity, bool is_good)
{
    char uri[512];
    lt_str seen = is_good && identity->io.fd >= 0 && lt_tls_has_verified_peer(&identity->transport)
                      ? lt_tls_peer_uri(&identity->transport)
                      : LT_STR_NULL;
    size_t len = LT_MIN(seen.len, sizeof(uri)); /* it lives in the transport, which ends first */
    if (len > 0)
        memcpy(uri, seen.ptr, len);
    ctl_identity_cancel(identity);
    identity->on_done(identity, lt_str_make(uri, len));
}

static void on_ready(struct lt_io *io, uint32_t events LT_UNUSED)
{
    struct ctl_identity *identity = LT_CONTAINER_OF(io, struct ctl_identity, io);
    lt_rc rc = lt_sock_error(io->fd) == 0 ? lt_transport_handshake(&identity->transport)
                                          : LT_E_CLOSED;
    if (rc != LT_AGAIN)
        finish(identity, rc == LT_OK);
    else
        lt_loop_io_set(identity->loop, io, identity->transport.wants_write ? EPOLLOUT : EPOLLIN);
}

static void on_timeout(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    finish(LT_CONTAINER_OF(timer, struct ctl_identity, timer), false);
}

void ctl_identity_init(struct ctl_identity *identity, struct lt_loop *loop,
                       ctl_identity_fn *on_done)
{
    *identity = (struct ctl_identity){.loop = loop, .on_done = on_done};
    lt_io_init(&identity->io, on_ready);
    lt_timer_init(&identity->timer, on_timeout);
}

void ctl_identity_start(struct ctl_identity *identity, struct lt_tls_ctx *tls, uint32_t ip,
                        uint16_t port)
{
    struct lt_addr addr = {.len = sizeof(addr.v4)};
    int fd;
    LT_ASSERT(!identity->is_running);
    addr.v4 = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
    identity->is_running = true;
    identity->tls = lt_tls_ctx_ref(tls);
    lt_loop_timer_set(identity->loop, &identity->timer, TIMEOUT_MS * LT_NS_PER_MS);
    if (lt_sock_connect(&addr, NULL, &fd) != LT_OK)
        return; /* the timer says so */
    lt_transport_init_tls(&identity->transport, fd, identity->tls, NULL);
    identity->io.fd = fd;
    lt_loop_io_set(identity->loop, &identity->io, EPOLLOUT);
}

/* --- the page --- */

static const struct lt_doc *item(const struct lt_doc *list, size_t i)
{
    return lt_doc_is(list, LT_DOC_ARRAY) && i < list->count ? &list->items[i] : NULL;
}

/* certificates[].cert_chain[].subject_alt_names[].uri (Envoy's admin.v3.Certificates) */
static lt_str find_uri(const struct lt_doc *page)
{
    const struct lt_doc *context, *cert, *name;
    const struct lt_doc *contexts = lt_doc_findz(page, "certificates");
    for (size_t i = 0; (context = item(contexts, i)) != NULL; i++) {
        const struct lt_doc *chain = lt_doc_findz(context, "cert_chain");
        for (size_t k = 0; (cert = item(chain, k)) != NULL; k++) {
            const struct lt_doc *names = lt_doc_findz(cert, "subject_alt_names");
            for (size_t n = 0; (name = item(names, n)) != NULL; n++) {
                lt_str uri = lt_doc_string(lt_doc_findz(name, "uri"));
                if (lt_str_starts(uri, LT_STR("spiffe://")))
                    return uri;
            }
        }
    }
    return LT_STR_NULL;
}

static void on_page(struct lt_call *call LT_UNUSED, const struct lt_call_result *result, void *ctx)
{
    struct ctl_identity *identity = ctx;
    struct lt_arena *arena = lt_arena_new(16384, 0);
    const struct lt_doc *page = NULL;
    lt_str uri = LT_STR_NULL;
    identity->call = NULL;
    ctl_identity_cancel(identity);
    if (result->rc == LT_OK && result->status == 200 &&
        lt_json_parse(arena, result->body, NULL, &page, NULL) == LT_OK)
        uri = find_uri(page);
    identity->on_done(identity, uri);
    lt_arena_free(&arena);
}

void ctl_identity_ask(struct ctl_identity *identity, int netns_fd)
{
    struct lt_call_opts opts = {.target = LT_STR("/certs"), .timeout_ms = TIMEOUT_MS};
    int back;
    LT_ASSERT(!identity->is_running);
    identity->is_running = true;
    lt_loop_timer_set(identity->loop, &identity->timer, 2 * TIMEOUT_MS * LT_NS_PER_MS);
    if (lt_addr_parse(LT_STR("127.0.0.1"), ADMIN_PORT, &opts.addr) != LT_OK ||
        ctl_netns_enter(netns_fd, &back, NULL) != LT_OK)
        return; /* the timer says so */
    identity->call = lt_call_start(identity->loop, &opts, on_page, identity);
    ctl_netns_leave(&back);
}
