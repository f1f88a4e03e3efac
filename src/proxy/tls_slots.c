/*
 * proxy/tls_slots.c - the SSL contexts of a table's resources, one for all that need the same
 * certificates and parameters, rebuilt when their secrets change.
 * Start at: px_tls_slots_intern(), px_tls_slots_refresh().
 */
#include <stdlib.h>

#include <openssl/crypto.h>

#include "base/vec.h"
#include "proxy/conf_compile.h"
#include "proxy/row.h"

struct px_tls_slot {
    struct px_tls_slots *owner; /* borrowed */
    uint32_t id, refs;
    struct lt_arena *arena;           /* owned; of `conf` */
    struct px_tls_conf conf;          /* what the context is made from, no names or SANs */
    struct px_row *cert_row, *ca_row; /* counted; NULL: inline, or none */
    struct lt_tls_ctx *ctx;           /* counted; NULL while a secret is missing */
    struct px_resource *cert, *ca;    /* counted; the secrets that ctx was made from */
};

struct px_tls_slots {
    struct lt_vec slots;  /* of struct px_tls_slot, owned; NULL where one went */
    struct px_rows *rows; /* owned */
    struct px_measures measures;
    struct lt_bytes *version; /* counted; the last that was made */
    bool is_stale;
};

struct px_tls_slots *px_tls_slots_new(void)
{
    struct px_tls_slots *slots = lt_new(struct px_tls_slots);
    slots->rows = px_rows_new();
    return slots;
}

struct px_rows *px_tls_slots_rows(const struct px_tls_slots *slots)
{
    return slots->rows;
}

struct px_measures *px_tls_slots_measures(struct px_tls_slots *slots)
{
    return &slots->measures;
}

void px_tls_slots_free(struct px_tls_slots **slots)
{
    if (*slots == NULL)
        return;
    for (size_t i = 0; i < (*slots)->slots.count; i++)
        LT_ASSERT((*slots)->slots.items[i] == NULL);
    lt_vec_fini(&(*slots)->slots);
    lt_bytes_unref(&(*slots)->version);
    px_rows_free(&(*slots)->rows);
    free(*slots);
    *slots = NULL;
}

struct lt_bytes *px_version_make(struct px_tls_slots *slots, lt_str version)
{
    if (version.len == 0)
        return NULL;
    if (slots->version == NULL || !lt_str_eq(lt_bytes_str(slots->version), version)) {
        lt_bytes_unref(&slots->version);
        slots->version = lt_bytes_new(version);
    }
    return lt_bytes_ref(slots->version);
}

/* --- slots --- */

static bool strs_eq(const lt_str *a, size_t a_count, const lt_str *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++) {
        if (!lt_str_eq(a[i], b[i]))
            return false;
    }
    return true;
}

/* The client's ALPN goes with the connection (net/tls.h), the server's with the context. */
static bool shares_context(const struct px_tls_conf *a, const struct px_tls_conf *b)
{
    return a->is_server == b->is_server && a->verify_peer == b->verify_peer &&
           a->require_client_certificate == b->require_client_certificate &&
           a->version_min == b->version_min && a->version_max == b->version_max &&
           lt_str_eq(a->cipher_list, b->cipher_list) && lt_str_eq(a->ecdh_curves, b->ecdh_curves) &&
           lt_str_eq(a->cert_chain_pem, b->cert_chain_pem) && lt_str_eq(a->key_pem, b->key_pem) &&
           lt_str_eq(a->ca_pem, b->ca_pem) &&
           (!a->is_server || strs_eq(a->alpn, a->alpn_count, b->alpn, b->alpn_count));
}

static struct px_tls_slot *make_slot(const struct px_tls_conf *conf)
{
    struct px_tls_slot *slot = lt_new(struct px_tls_slot);
    slot->arena = lt_arena_new(512, 0);
    slot->conf = *conf;
    slot->conf.sni = LT_STR_NULL;
    slot->conf.sans = NULL;
    slot->conf.san_count = 0;
    lt_str *const kept[] = {&slot->conf.cipher_list,    &slot->conf.ecdh_curves,
                            &slot->conf.cert_chain_pem, &slot->conf.key_pem,
                            &slot->conf.ca_pem,         &slot->conf.cert_path,
                            &slot->conf.ca_path};
    for (size_t i = 0; i < LT_ARRAY_LEN(kept); i++)
        *kept[i] = lt_arena_str(slot->arena, *kept[i]);
    slot->conf.alpn_count = conf->is_server ? conf->alpn_count : 0;
    lt_str *alpn = lt_arena_make_n(slot->arena, lt_str, slot->conf.alpn_count);
    for (size_t i = 0; i < slot->conf.alpn_count; i++)
        alpn[i] = lt_arena_str(slot->arena, conf->alpn[i]);
    slot->conf.alpn = alpn;
    return slot;
}

static struct px_tls_slot *add_slot(struct px_tls_slots *slots, struct px_tls_slot *slot)
{
    size_t id = 0;
    while (id < slots->slots.count && slots->slots.items[id] != NULL)
        id++;
    if (id == slots->slots.count)
        lt_vec_push(&slots->slots, slot);
    else
        slots->slots.items[id] = slot;
    slot->owner = slots;
    slot->id = (uint32_t)id;
    slot->refs = 1;
    slots->is_stale = true;
    return slot;
}

struct px_tls_slot *px_tls_slots_intern(struct px_tls_slots *slots, const struct px_tls_conf *conf,
                                        struct px_row *cert, struct px_row *ca)
{
    for (size_t i = 0; i < slots->slots.count; i++) {
        struct px_tls_slot *slot = slots->slots.items[i];
        if (slot != NULL && slot->cert_row == cert && slot->ca_row == ca &&
            shares_context(&slot->conf, conf)) {
            slot->refs++;
            return slot;
        }
    }
    struct px_tls_slot *slot = make_slot(conf);
    slot->cert_row = cert == NULL ? NULL : px_row_ref(cert);
    slot->ca_row = ca == NULL ? NULL : px_row_ref(ca);
    return add_slot(slots, slot);
}

uint32_t px_tls_slot_id(const struct px_tls_slot *slot)
{
    return slot->id;
}

void px_tls_slot_drop(void *pointer)
{
    struct px_tls_slot *slot = pointer;
    if (--slot->refs > 0)
        return;
    slot->owner->slots.items[slot->id] = NULL;
    lt_tls_ctx_unref(&slot->ctx);
    px_resource_unref(&slot->cert);
    px_resource_unref(&slot->ca);
    px_row_unref(&slot->cert_row);
    px_row_unref(&slot->ca_row);
    OPENSSL_cleanse((char *)slot->conf.key_pem.ptr, slot->conf.key_pem.len);
    lt_arena_free(&slot->arena);
    free(slot);
}

size_t px_tls_slots_count(const struct px_tls_slots *slots)
{
    return slots->slots.count;
}

static const struct px_tls_slot *slot_at(const struct px_tls_slots *slots, uint32_t id)
{
    LT_ASSERT(id < slots->slots.count);
    return slots->slots.items[id];
}

struct lt_tls_ctx *px_tls_slots_ctx(const struct px_tls_slots *slots, uint32_t id)
{
    const struct px_tls_slot *slot = slot_at(slots, id);
    return slot != NULL ? slot->ctx : NULL;
}

/* --- contexts --- */

static void hold(struct px_resource **slot, struct px_secret_conf *secret)
{
    px_resource_unref(slot);
    *slot = secret == NULL ? NULL : px_resource_ref(&secret->res);
}

static lt_rc rebuild(struct px_tls_slot *slot, struct px_secret_conf *cert,
                     struct px_secret_conf *ca, struct lt_err *err)
{
    const struct px_tls_conf *conf = &slot->conf;
    struct lt_tls_opts opts = {
        .is_server = conf->is_server,
        .cert_chain_pem = cert != NULL ? cert->cert_chain_pem : conf->cert_chain_pem,
        .key_pem = cert != NULL ? cert->key_pem : conf->key_pem,
        .ca_pem = ca != NULL ? ca->ca_pem : conf->ca_pem,
        .crl_pem = ca != NULL ? ca->crl_pem : LT_STR_NULL,
        .verify_peer = conf->verify_peer,
        .require_peer_cert = conf->require_client_certificate,
        .alpn = conf->alpn,
        .alpn_count = conf->alpn_count,
        .version_min = conf->version_min,
        .version_max = conf->version_max,
        .cipher_list = conf->cipher_list,
        .ecdh_curves = conf->ecdh_curves,
    };
    struct lt_tls_ctx *ctx = NULL;
    LT_TRY(lt_tls_ctx_new(&opts, &ctx, err));
    lt_tls_ctx_unref(&slot->ctx);
    slot->ctx = ctx;
    hold(&slot->cert, cert);
    hold(&slot->ca, ca);
    return LT_OK;
}

static struct px_secret_conf *secret_of(const struct px_row *row)
{
    return row == NULL ? NULL : (struct px_secret_conf *)row->serving;
}

static bool is_missing(const struct px_row *row)
{
    return row != NULL && row->serving == NULL;
}

static bool is_same(const struct px_resource *held, const struct px_secret_conf *secret)
{
    return secret == NULL ? held == NULL : held != NULL && held->hash == secret->res.hash;
}

/* A secret that the control plane took away: who has nothing to show or to judge by, fails. */
static bool forget(struct px_tls_slot *slot)
{
    bool had_any = slot->ctx != NULL;
    lt_tls_ctx_unref(&slot->ctx);
    px_resource_unref(&slot->cert);
    px_resource_unref(&slot->ca);
    return had_any;
}

static bool refresh(struct px_tls_slot *slot, struct lt_err *ret_bad)
{
    if (is_missing(slot->cert_row) || is_missing(slot->ca_row))
        return forget(slot);
    struct px_secret_conf *cert = secret_of(slot->cert_row), *ca = secret_of(slot->ca_row);
    if (slot->ctx != NULL && is_same(slot->cert, cert) && is_same(slot->ca, ca))
        return false;
    struct lt_err err = {0};
    if (rebuild(slot, cert, ca, &err) == LT_OK)
        return true;
    if (ret_bad->text[0] == '\0')
        *ret_bad = err;
    return false;
}

void px_tls_slots_mark(struct px_tls_slots *slots)
{
    slots->is_stale = true;
}

bool px_tls_slots_refresh(struct px_tls_slots *slots, struct lt_err *ret_bad)
{
    bool has_changed = false;
    lt_err_clear(ret_bad);
    if (!slots->is_stale)
        return false;
    slots->is_stale = false;
    for (size_t i = 0; i < slots->slots.count; i++) {
        if (slots->slots.items[i] != NULL && refresh(slots->slots.items[i], ret_bad))
            has_changed = true;
    }
    return has_changed;
}

struct px_tls_certs px_tls_slots_certs(const struct px_tls_slots *slots, uint32_t id)
{
    const struct px_tls_slot *slot = slot_at(slots, id);
    if (slot == NULL || slot->ctx == NULL)
        return (struct px_tls_certs){0};
    const struct px_tls_conf *conf = &slot->conf;
    const struct px_secret_conf *cert = (const struct px_secret_conf *)slot->cert,
                                *ca = (const struct px_secret_conf *)slot->ca;
    return (struct px_tls_certs){
        .cert_path = cert != NULL ? cert->path : conf->cert_path,
        .cert_pem = cert != NULL ? cert->cert_chain_pem : conf->cert_chain_pem,
        .ca_path = ca != NULL ? ca->path : conf->ca_path,
        .ca_pem = ca != NULL ? ca->ca_pem : conf->ca_pem,
    };
}
