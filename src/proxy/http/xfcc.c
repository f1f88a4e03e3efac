/*
 * proxy/http/xfcc.c - x-forwarded-client-cert: what the application is told of the client's
 * certificate (HttpConnectionManager.forward_client_cert_details, set_current_client_cert_details).
 * An element is made once for a connection, which keeps it.
 * Trust: names in certificates are as their CA let them be; what would end a value is quoted.
 * Start at: px_xfcc_forward().
 */
#include "proxy/http/xfcc.h"

#include <stdlib.h>

enum { ELEMENT_BYTES_MAX = 1 << 20 };

/* --- an element --- */

static void begin(struct lt_buf *out, const char *key)
{
    lt_buf_addf(out, "%s%s=", lt_buf_str(out).len > 0 ? ";" : "", key);
}

static bool needs_quotes(lt_str value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (strchr(",;=\"", value.ptr[i]) != NULL)
            return true;
    }
    return false;
}

/* A value that would begin another key, or another element, says so in quotes. */
static void add_value(struct lt_buf *out, const char *key, lt_str value)
{
    begin(out, key);
    if (!needs_quotes(value)) {
        lt_buf_add(out, value);
        return;
    }
    lt_buf_add(out, LT_STR("\""));
    for (size_t i = 0; i < value.len; i++)
        lt_buf_addf(out, value.ptr[i] == '"' ? "\\%c" : "%c", value.ptr[i]);
    lt_buf_add(out, LT_STR("\""));
}

/* Returns how many there were. */
static size_t add_names(struct lt_buf *out, const char *key, char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        add_value(out, key, lt_str_of(names[i]));
    lt_tls_sans_free(&names, count);
    return count;
}

static size_t add_peer_names(struct lt_buf *out, const struct lt_transport *transport,
                             const char *key, lt_san_type type)
{
    size_t count = 0;
    char **names = lt_tls_peer_sans(transport, type, &count);
    return add_names(out, key, names, count);
}

static void add_pem(struct lt_buf *out, const char *key, lt_str pem)
{
    begin(out, key);
    lt_buf_add(out, LT_STR("\""));
    for (size_t i = 0; i < pem.len; i++) {
        const char *coded = NULL;
        switch (pem.ptr[i]) {
        case '\n': coded = "%0A"; break;
        case ' ': coded = "%20"; break;
        case '+': coded = "%2B"; break;
        case '/': coded = "%2F"; break;
        case '=': coded = "%3D"; break;
        default: break;
        }
        lt_buf_add(out, coded != NULL ? lt_str_of(coded) : lt_str_slice(pem, i, i + 1));
    }
    lt_buf_add(out, LT_STR("\""));
}

static char *make_element(const struct lt_transport *transport, const struct px_hcm_conf *hcm)
{
    struct lt_buf out;
    size_t own_count = 0;
    lt_buf_init(&out, ELEMENT_BYTES_MAX);
    char **own = lt_tls_own_sans(transport, LT_SAN_URI, &own_count);
    (void)add_names(&out, "By", own, own_count);
    add_value(&out, "Hash", lt_tls_peer_sha256(transport));
    if (hcm->xfcc_cert)
        add_pem(&out, "Cert", lt_tls_peer_pem(transport));
    if (hcm->xfcc_chain)
        add_pem(&out, "Chain", lt_tls_peer_chain_pem(transport));
    if (hcm->xfcc_subject) {
        begin(&out, "Subject");
        lt_buf_addf(&out, "\"%.*s\"", LT_STR_ARG(lt_tls_peer_subject(transport)));
    }
    if (hcm->xfcc_uri && add_peer_names(&out, transport, "URI", LT_SAN_URI) == 0)
        begin(&out, "URI");
    if (hcm->xfcc_dns)
        (void)add_peer_names(&out, transport, "DNS", LT_SAN_DNS);
    char *element = lt_str_dupz(lt_buf_str(&out));
    lt_buf_fini(&out);
    return element;
}

/* --- the header --- */

static lt_rc append(struct px_request *request, struct lt_headers *headers, lt_str element)
{
    struct lt_buf all;
    lt_buf_init(&all, 2 * ELEMENT_BYTES_MAX);
    const struct lt_header *header = lt_headers_find(headers, LT_H_X_FORWARDED_CLIENT_CERT);
    for (; header != NULL; header = lt_headers_find_next(headers, header)) {
        lt_buf_add(&all, header->value);
        lt_buf_add(&all, LT_STR(","));
    }
    lt_buf_add(&all, element);
    lt_str value = lt_arena_str(request->arena, lt_buf_str(&all));
    lt_buf_fini(&all);
    return lt_headers_set_id(headers, LT_H_X_FORWARDED_CLIENT_CERT, value);
}

/* Without mutual TLS whoever claims an identity here is not believed. */
lt_rc px_xfcc_forward(struct px_request *request, struct lt_headers *headers)
{
    struct px_conn *conn = request->conn;
    px_xfcc_mode mode = request->hcm->xfcc;
    if (mode == PX_XFCC_ALWAYS_FORWARD)
        return LT_OK;
    if (mode == PX_XFCC_SANITIZE || !lt_tls_has_verified_peer(&conn->transport)) {
        lt_headers_remove(headers, LT_H_X_FORWARDED_CLIENT_CERT);
        return LT_OK;
    }
    if (mode == PX_XFCC_FORWARD_ONLY)
        return LT_OK;
    if (conn->xfcc == NULL)
        conn->xfcc = make_element(&conn->transport, request->hcm);
    lt_str element = lt_str_of(conn->xfcc);
    bool has_before = lt_headers_may_have(headers, LT_H_X_FORWARDED_CLIENT_CERT);
    if (mode == PX_XFCC_APPEND_FORWARD && has_before)
        return append(request, headers, element);
    return lt_headers_set_id(headers, LT_H_X_FORWARDED_CLIENT_CERT, element);
}
