/*
 * proxy/told/format_tls.c - operators about certificates: the peer's and our own, to the client and
 * to the host.
 * Trust: names in certificates are as their CA let them be; lines of JSON quote them.
 * Start at: px_format_tls.
 */
#include "net/x509.h"
#include "proxy/told/format_more.h"

typedef enum { DOWN, UP } side;
typedef enum { PEER, OWN } whose;
typedef enum {
    URI_SAN,
    DNS_SAN,
    IP_SAN,
    EMAIL_SAN,
    SUBJECT,
    ISSUER,
    SERIAL,
    SHA256,
    SHA1,
    PEM,
    BEGINS,
    ENDS
} field;

static const struct lt_transport *transport_of(const struct px_log_facts *facts, side of)
{
    const struct lt_transport *transport = of == UP && facts->up != NULL ? &facts->up->transport
                                           : of == DOWN && facts->conn != NULL
                                               ? &facts->conn->transport
                                               : NULL;
    return transport != NULL && transport->tls != NULL ? transport : NULL;
}

static void put_names(const struct lt_cert *cert, lt_san_type type, struct px_sink *out)
{
    bool is_first = true;
    for (size_t i = 0; i < cert->san_count; i++) {
        if (cert->sans[i].type != type)
            continue;
        px_sink_put(out, is_first ? LT_STR("") : LT_STR(","));
        px_sink_put(out, cert->sans[i].value);
        is_first = false;
    }
}

/* As in x-forwarded-client-cert: what ends lines and values is spelled out. */
static void put_pem(lt_str pem, struct px_sink *out)
{
    static const char bad[] = "\n +/=";
    static const char *const spelled[] = {"%0A", "%20", "%2B", "%2F", "%3D"};
    size_t from = 0;
    for (size_t i = 0; i < pem.len; i++) {
        const char *hit = pem.ptr[i] == '\0' ? NULL : strchr(bad, pem.ptr[i]);
        if (hit == NULL)
            continue;
        px_sink_put(out, lt_str_slice(pem, from, i));
        px_sink_put(out, lt_str_of(spelled[hit - bad]));
        from = i + 1;
    }
    px_sink_put(out, lt_str_from(pem, from));
}

/* Whole bytes. */
static void put_serial(lt_str serial, struct px_sink *out)
{
    px_sink_put(out, serial.len % 2 == 1 ? LT_STR("0") : LT_STR(""));
    px_sink_put(out, serial);
}

static void put_field(const struct lt_cert *cert, field what, lt_str argument, struct px_sink *out)
{
    int64_t second = (int64_t)LT_NS_PER_S;
    switch (what) {
    case URI_SAN: put_names(cert, LT_SAN_URI, out); break;
    case DNS_SAN: put_names(cert, LT_SAN_DNS, out); break;
    case IP_SAN: put_names(cert, LT_SAN_IP, out); break;
    case EMAIL_SAN: put_names(cert, LT_SAN_EMAIL, out); break;
    case SUBJECT: px_sink_put(out, cert->subject); break;
    case ISSUER: px_sink_put(out, cert->issuer); break;
    case SERIAL: put_serial(cert->serial, out); break;
    case SHA256: px_sink_put(out, cert->sha256); break;
    case SHA1: px_sink_put(out, cert->sha1); break;
    case PEM: put_pem(cert->pem, out); break;
    case BEGINS: px_sink_put_time(out, argument, cert->not_before_s * second, false); break;
    case ENDS: px_sink_put_time(out, argument, cert->not_after_s * second, false); break;
    }
}

static void put_cert(const struct px_log_facts *facts, side of, whose owner, field what,
                     lt_str argument, struct px_sink *out)
{
    const struct lt_transport *transport = transport_of(facts, of);
    if (transport == NULL)
        return;
    struct lt_arena *arena = lt_arena_new(8192, 0);
    const struct lt_cert *cert = owner == OWN ? lt_tls_own_cert(transport, arena)
                                              : lt_tls_peer_cert(transport, arena);
    if (cert != NULL)
        put_field(cert, what, argument, out);
    lt_arena_free(&arena);
}

static void put_chain(const struct px_log_facts *facts, field what, struct px_sink *out)
{
    const struct lt_transport *transport = transport_of(facts, DOWN);
    struct lt_cert *certs = NULL;
    size_t count = 0;
    if (transport == NULL)
        return;
    struct lt_arena *arena = lt_arena_new(8192, 0);
    lt_str pem = lt_tls_peer_chain_pem(transport);
    bool is_read = pem.len > 0 && lt_cert_parse_chain(arena, pem, &certs, &count, NULL) == LT_OK;
    for (size_t i = 0; is_read && i < count; i++) {
        px_sink_put(out, i == 0 ? LT_STR("") : LT_STR(","));
        put_field(&certs[i], what, LT_STR_NULL, out);
    }
    lt_arena_free(&arena);
}

#define CERT(name, of, owner, what) \
    PX_OP(name) \
    { \
        put_cert(facts, of, owner, what, argument, out); \
    }
#define CHAIN(name, what) \
    PX_OP(name) \
    { \
        put_chain(facts, what, out); \
    }

CERT(down_peer_uri, DOWN, PEER, URI_SAN)
CERT(down_peer_dns, DOWN, PEER, DNS_SAN)
CERT(down_peer_ip, DOWN, PEER, IP_SAN)
CERT(down_peer_email, DOWN, PEER, EMAIL_SAN)
CERT(down_peer_subject, DOWN, PEER, SUBJECT)
CERT(down_peer_issuer, DOWN, PEER, ISSUER)
CERT(down_peer_serial, DOWN, PEER, SERIAL)
CERT(down_peer_sha256, DOWN, PEER, SHA256)
CERT(down_peer_sha1, DOWN, PEER, SHA1)
CERT(down_peer_pem, DOWN, PEER, PEM)
CERT(down_peer_begins, DOWN, PEER, BEGINS)
CERT(down_peer_ends, DOWN, PEER, ENDS)
CERT(down_own_uri, DOWN, OWN, URI_SAN)
CERT(down_own_dns, DOWN, OWN, DNS_SAN)
CERT(down_own_ip, DOWN, OWN, IP_SAN)
CERT(down_own_email, DOWN, OWN, EMAIL_SAN)
CERT(down_own_subject, DOWN, OWN, SUBJECT)
CERT(up_peer_uri, UP, PEER, URI_SAN)
CERT(up_peer_dns, UP, PEER, DNS_SAN)
CERT(up_peer_ip, UP, PEER, IP_SAN)
CERT(up_peer_subject, UP, PEER, SUBJECT)
CERT(up_peer_issuer, UP, PEER, ISSUER)
CERT(up_peer_pem, UP, PEER, PEM)
CERT(up_peer_begins, UP, PEER, BEGINS)
CERT(up_peer_ends, UP, PEER, ENDS)
CERT(up_own_uri, UP, OWN, URI_SAN)
CERT(up_own_dns, UP, OWN, DNS_SAN)
CERT(up_own_ip, UP, OWN, IP_SAN)
CHAIN(chain_serials, SERIAL)
CHAIN(chain_sha256, SHA256)
CHAIN(chain_sha1, SHA1)

PX_OP(up_version)
{
    const struct lt_transport *transport = transport_of(facts, UP);
    if (transport != NULL)
        px_sink_put(out, lt_str_of(lt_tls_version(transport)));
}

PX_OP(up_cipher)
{
    const struct lt_transport *transport = transport_of(facts, UP);
    if (transport != NULL)
        px_sink_put(out, lt_str_of(lt_tls_cipher(transport)));
}

static const struct px_op ops[] = {
    {"DOWNSTREAM_LOCAL_DNS_SAN", op_down_own_dns, false, NULL},
    {"DOWNSTREAM_LOCAL_EMAIL_SAN", op_down_own_email, false, NULL},
    {"DOWNSTREAM_LOCAL_IP_SAN", op_down_own_ip, false, NULL},
    {"DOWNSTREAM_LOCAL_SUBJECT", op_down_own_subject, false, NULL},
    {"DOWNSTREAM_LOCAL_URI_SAN", op_down_own_uri, false, NULL},
    {"DOWNSTREAM_PEER_CERT", op_down_peer_pem, false, NULL},
    {"DOWNSTREAM_PEER_CERT_V_END", op_down_peer_ends, false, NULL},
    {"DOWNSTREAM_PEER_CERT_V_START", op_down_peer_begins, false, NULL},
    {"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", op_chain_sha1, false, NULL},
    {"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", op_chain_sha256, false, NULL},
    {"DOWNSTREAM_PEER_CHAIN_SERIALS", op_chain_serials, false, NULL},
    {"DOWNSTREAM_PEER_DNS_SAN", op_down_peer_dns, false, NULL},
    {"DOWNSTREAM_PEER_EMAIL_SAN", op_down_peer_email, false, NULL},
    {"DOWNSTREAM_PEER_FINGERPRINT_1", op_down_peer_sha1, false, NULL},
    {"DOWNSTREAM_PEER_FINGERPRINT_256", op_down_peer_sha256, false, NULL},
    {"DOWNSTREAM_PEER_IP_SAN", op_down_peer_ip, false, NULL},
    {"DOWNSTREAM_PEER_ISSUER", op_down_peer_issuer, false, NULL},
    {"DOWNSTREAM_PEER_SERIAL", op_down_peer_serial, false, NULL},
    {"DOWNSTREAM_PEER_SUBJECT", op_down_peer_subject, false, NULL},
    {"DOWNSTREAM_PEER_URI_SAN", op_down_peer_uri, false, NULL},
    {"UPSTREAM_LOCAL_DNS_SAN", op_up_own_dns, false, NULL},
    {"UPSTREAM_LOCAL_IP_SAN", op_up_own_ip, false, NULL},
    {"UPSTREAM_LOCAL_URI_SAN", op_up_own_uri, false, NULL},
    {"UPSTREAM_PEER_CERT", op_up_peer_pem, false, NULL},
    {"UPSTREAM_PEER_CERT_V_END", op_up_peer_ends, false, NULL},
    {"UPSTREAM_PEER_CERT_V_START", op_up_peer_begins, false, NULL},
    {"UPSTREAM_PEER_DNS_SAN", op_up_peer_dns, false, NULL},
    {"UPSTREAM_PEER_IP_SAN", op_up_peer_ip, false, NULL},
    {"UPSTREAM_PEER_ISSUER", op_up_peer_issuer, false, NULL},
    {"UPSTREAM_PEER_SUBJECT", op_up_peer_subject, false, NULL},
    {"UPSTREAM_PEER_URI_SAN", op_up_peer_uri, false, NULL},
    {"UPSTREAM_TLS_CIPHER", op_up_cipher, false, NULL},
    {"UPSTREAM_TLS_VERSION", op_up_version, false, NULL},
};
const struct px_ops px_format_tls = {ops, LT_ARRAY_LEN(ops)};
