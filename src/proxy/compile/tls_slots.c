/*
 * proxy/compile/tls_slots.c - the SSL contexts of a table's resources, one for all that need the
 * same certificates, trust and parameters, rebuilt when their secrets change. Main thread only.
 * A slot is kept while a resource holds it; a snapshot has the contexts that it was made with, so
 * that a slot's id may be given to another meanwhile.
 * Start at: px_tls_slots_intern(), px_tls_slots_refresh().
 */
#include <stdlib.h>

#include <openssl/crypto.h>

#include "base/vec.h"
#include "net/x509.h"
#include "proxy/compile/compile.h"
#include "proxy/compile/fields.h"
#include "proxy/compile/row.h"

/* Envoy's default; ours has what was taken out of use elsewhere, too. */
#define CIPHERS_DEFAULT \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:" \
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:" \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"

enum {
    SECRETS_MAX = LT_TLS_CERTS_MAX + 2, /* of a slot: certificates, trust, ticket keys */
    TRUST_AT = LT_TLS_CERTS_MAX,
    TICKETS_AT = LT_TLS_CERTS_MAX + 1,
    KEY_BYTES_MAX = 64 << 20,
};

struct px_tls_slot {
    struct px_tls_slots *owner; /* borrowed */
    uint32_t id, refs;
    unsigned char key[LT_SHA256_BYTES];          /* of all that the context is made from */
    struct lt_arena *arena;                      /* owned; of `conf`; wiped when it goes */
    struct px_tls_conf conf;                     /* no names or SANs; rows are counted */
    struct lt_tls_ctx *ctx;                      /* counted; NULL while a secret is missing */
    struct px_secret_conf *secrets[SECRETS_MAX]; /* counted; what ctx was made from */
};

struct px_tls_slots {
    struct lt_vec slots;  /* of struct px_tls_slot, owned; NULL where one went */
    struct px_rows *rows; /* owned */
    struct px_measures measures;
    struct px_fields *fields; /* owned */
    struct lt_bytes *version; /* counted; the last that was made */
    bool is_stale;
};

struct px_tls_slots *px_tls_slots_new(void)
{
    struct px_tls_slots *slots = lt_new(struct px_tls_slots);
    slots->rows = px_rows_new();
    slots->fields = px_fields_new();
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

struct px_fields *px_tls_slots_fields(const struct px_tls_slots *slots)
{
    return slots->fields;
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
    px_fields_free(&(*slots)->fields);
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

/* --- what makes two contexts one --- */

static void key_str(struct lt_buf *key, lt_str text)
{
    lt_buf_addf(key, "%zu:", text.len);
    lt_buf_add(key, text);
}

static void key_strs(struct lt_buf *key, const lt_str *texts, size_t count)
{
    lt_buf_addf(key, "[%zu]", count);
    for (size_t i = 0; i < count; i++)
        key_str(key, texts[i]);
}

static void key_trust(struct lt_buf *key, const struct px_trust_conf *trust)
{
    LT_ASSERT(trust->san_count == 0);
    key_str(key, trust->ca_pem);
    key_str(key, trust->crl_pem);
    key_str(key, trust->path);
    key_strs(key, trust->cert_hashes, trust->cert_hash_count);
    key_strs(key, trust->key_hashes, trust->key_hash_count);
    lt_buf_addf(key, "[%zu]", trust->domain_count);
    for (size_t i = 0; i < trust->domain_count; i++) {
        key_str(key, trust->domains[i].name);
        key_str(key, trust->domains[i].ca_pem);
    }
    lt_buf_addf(key, "%u,%d,%d,%d,%d;", trust->depth_max, trust->crl_leaf_only,
                trust->allow_expired, trust->accept_untrusted, trust->hides_ca_names);
}

/* The client's ALPN goes with the connection (net/tls.h), the server's with the context. */
static void make_key(const struct px_tls_conf *conf, unsigned char out[LT_SHA256_BYTES])
{
    struct lt_buf key;
    lt_buf_init(&key, KEY_BYTES_MAX);
    lt_buf_addf(&key, "%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%llu;", conf->is_server, conf->verify_peer,
                conf->require_client_certificate, conf->sessions_max > 0, conf->version_min,
                conf->version_max, conf->scans_all_certs, conf->prefers_client_ciphers,
                conf->without_tickets, conf->without_session_ids,
                (unsigned long long)conf->session_timeout_s);
    for (size_t i = 0; i < conf->cert_count; i++) {
        const struct px_cert_conf *cert = &conf->certs[i];
        const lt_str parts[] = {lt_str_make(&cert->row, sizeof(cert->row)), cert->chain_pem,
                                cert->key_pem, cert->ocsp_der, cert->path};
        key_strs(&key, parts, LT_ARRAY_LEN(parts));
    }
    const struct px_row *const rows[] = {conf->validation_row, conf->ticket_row};
    key_str(&key, lt_str_make(rows, sizeof(rows)));
    key_strs(&key, conf->ticket_keys, conf->ticket_key_count);
    key_trust(&key, &conf->trust);
    key_str(&key, conf->cipher_list);
    key_str(&key, conf->ecdh_curves);
    key_str(&key, conf->signature_algorithms);
    key_strs(&key, conf->alpn, conf->is_server ? conf->alpn_count : 0);
    lt_str bytes = lt_buf_str(&key);
    lt_sha256(bytes, out);
    OPENSSL_cleanse((char *)bytes.ptr, bytes.len);
    lt_buf_fini(&key);
}

/* --- a slot --- */

static const lt_str *copy_strs(struct lt_arena *arena, const lt_str *texts, size_t count)
{
    lt_str *copies = lt_arena_make_n(arena, lt_str, count);
    for (size_t i = 0; i < count; i++)
        copies[i] = lt_arena_str(arena, texts[i]);
    return copies;
}

static void copy_trust(struct lt_arena *arena, struct px_trust_conf *trust)
{
    trust->ca_pem = lt_arena_str(arena, trust->ca_pem);
    trust->crl_pem = lt_arena_str(arena, trust->crl_pem);
    trust->path = lt_arena_str(arena, trust->path);
    trust->cert_hashes = copy_strs(arena, trust->cert_hashes, trust->cert_hash_count);
    trust->key_hashes = copy_strs(arena, trust->key_hashes, trust->key_hash_count);
    struct lt_tls_domain *domains = lt_arena_make_n(arena, struct lt_tls_domain,
                                                    trust->domain_count);
    for (size_t i = 0; i < trust->domain_count; i++) {
        domains[i].name = lt_arena_str(arena, trust->domains[i].name);
        domains[i].ca_pem = lt_arena_str(arena, trust->domains[i].ca_pem);
    }
    trust->domains = domains;
}

static struct px_row *row_ref(struct px_row *row)
{
    return row == NULL ? NULL : px_row_ref(row);
}

static void fill_slot(struct px_tls_slot *slot, const struct px_tls_conf *from)
{
    struct px_tls_conf *conf = &slot->conf;
    slot->arena = lt_arena_new(512, 0);
    *conf = *from;
    conf->sni = LT_STR_NULL;
    conf->sans = NULL;
    conf->san_count = 0;
    struct px_cert_conf *certs = lt_arena_make_n(slot->arena, struct px_cert_conf,
                                                 conf->cert_count);
    for (size_t i = 0; i < conf->cert_count; i++) {
        const struct px_cert_conf *cert = &from->certs[i];
        certs[i] = (struct px_cert_conf){
            row_ref(cert->row), lt_arena_str(slot->arena, cert->chain_pem),
            lt_arena_str(slot->arena, cert->key_pem), lt_arena_str(slot->arena, cert->ocsp_der),
            lt_arena_str(slot->arena, cert->path)};
    }
    conf->certs = certs;
    conf->validation_row = row_ref(conf->validation_row);
    conf->ticket_row = row_ref(conf->ticket_row);
    lt_str *const kept[] = {&conf->cipher_list, &conf->ecdh_curves, &conf->signature_algorithms};
    for (size_t i = 0; i < LT_ARRAY_LEN(kept); i++)
        *kept[i] = lt_arena_str(slot->arena, *kept[i]);
    copy_trust(slot->arena, &conf->trust);
    conf->ticket_keys = copy_strs(slot->arena, conf->ticket_keys, conf->ticket_key_count);
    conf->alpn_count = conf->is_server ? conf->alpn_count : 0;
    conf->alpn = copy_strs(slot->arena, conf->alpn, conf->alpn_count);
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

struct px_tls_slot *px_tls_slots_intern(struct px_tls_slots *slots, struct px_tls_conf *conf)
{
    unsigned char key[LT_SHA256_BYTES];
    make_key(conf, key);
    memcpy(&conf->ctx_id, key, sizeof(conf->ctx_id));
    for (size_t i = 0; i < slots->slots.count; i++) {
        struct px_tls_slot *slot = slots->slots.items[i];
        if (slot == NULL || memcmp(slot->key, key, sizeof(key)) != 0)
            continue;
        slot->refs++;
        conf->ctx_slot = slot->id;
        return slot;
    }
    struct px_tls_slot *slot = add_slot(slots, lt_new(struct px_tls_slot));
    memcpy(slot->key, key, sizeof(key));
    fill_slot(slot, conf);
    conf->ctx_slot = slot->id;
    return slot;
}

static void hold(struct px_secret_conf **held, struct px_secret_conf *secret)
{
    struct px_resource *before = *held == NULL ? NULL : &(*held)->res;
    *held = secret;
    if (secret != NULL)
        (void)px_resource_ref(&secret->res);
    px_resource_unref(&before);
}

static void drop_context(struct px_tls_slot *slot)
{
    lt_tls_ctx_unref(&slot->ctx);
    for (size_t i = 0; i < SECRETS_MAX; i++)
        hold(&slot->secrets[i], NULL);
}

void px_tls_slot_drop(void *pointer)
{
    struct px_tls_slot *slot = pointer;
    if (--slot->refs > 0)
        return;
    slot->owner->slots.items[slot->id] = NULL;
    drop_context(slot);
    for (size_t i = 0; i < slot->conf.cert_count; i++) {
        struct px_row *row = slot->conf.certs[i].row;
        px_row_unref(&row);
    }
    px_row_unref(&slot->conf.validation_row);
    px_row_unref(&slot->conf.ticket_row);
    lt_arena_wipe_free(&slot->arena);
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

/* --- its secrets --- */

/* By the order of slot->secrets. */
static void find_rows(const struct px_tls_conf *conf, const struct px_row *rows[SECRETS_MAX])
{
    memset(rows, 0, SECRETS_MAX * sizeof(rows[0]));
    for (size_t i = 0; i < conf->cert_count; i++)
        rows[i] = conf->certs[i].row;
    rows[TRUST_AT] = conf->validation_row;
    rows[TICKETS_AT] = conf->ticket_row;
}

/* False: one is missing. */
static bool find_secrets(const struct px_tls_conf *conf, struct px_secret_conf *found[SECRETS_MAX])
{
    const struct px_row *rows[SECRETS_MAX];
    find_rows(conf, rows);
    for (size_t i = 0; i < SECRETS_MAX; i++) {
        found[i] = rows[i] == NULL ? NULL : (struct px_secret_conf *)rows[i]->serving;
        if (rows[i] != NULL && found[i] == NULL)
            return false;
    }
    return true;
}

static bool is_same(struct px_secret_conf *const held[SECRETS_MAX],
                    struct px_secret_conf *const found[SECRETS_MAX])
{
    for (size_t i = 0; i < SECRETS_MAX; i++) {
        if ((held[i] == NULL) != (found[i] == NULL) ||
            (held[i] != NULL && held[i]->res.hash != found[i]->res.hash))
            return false;
    }
    return true;
}

/* --- making a context --- */

static const lt_str *both(struct lt_arena *arena, const lt_str *a, size_t a_count, const lt_str *b,
                          size_t b_count)
{
    lt_str *all = lt_arena_make_n(arena, lt_str, a_count + b_count);
    if (a_count > 0)
        memcpy(all, a, a_count * sizeof(*a));
    if (b_count > 0)
        memcpy(all + a_count, b, b_count * sizeof(*b));
    return all;
}

/* A combined context: what the secret says goes over what is inline, lists are joined. */
static void set_trust(struct lt_arena *arena, const struct px_trust_conf *base,
                      const struct px_trust_conf *over, struct lt_tls_opts *opts)
{
    opts->ca_pem = over->ca_pem.len > 0 ? over->ca_pem : base->ca_pem;
    opts->crl_pem = over->crl_pem.len > 0 ? over->crl_pem : base->crl_pem;
    opts->cert_hashes = both(arena, base->cert_hashes, base->cert_hash_count, over->cert_hashes,
                             over->cert_hash_count);
    opts->cert_hash_count = base->cert_hash_count + over->cert_hash_count;
    opts->key_hashes = both(arena, base->key_hashes, base->key_hash_count, over->key_hashes,
                            over->key_hash_count);
    opts->key_hash_count = base->key_hash_count + over->key_hash_count;
    opts->sans = over->sans;
    opts->san_count = over->san_count;
    opts->domains = over->domain_count > 0 ? over->domains : base->domains;
    opts->domain_count = over->domain_count > 0 ? over->domain_count : base->domain_count;
    opts->depth_max = over->depth_max != 0 ? over->depth_max : base->depth_max;
    opts->crl_leaf_only = base->crl_leaf_only || over->crl_leaf_only;
    opts->allow_expired = base->allow_expired || over->allow_expired;
    opts->accept_untrusted = base->accept_untrusted || over->accept_untrusted;
    opts->hides_ca_names = base->hides_ca_names || over->hides_ca_names;
}

static lt_rc set_certs(struct lt_arena *arena, const struct px_tls_conf *conf,
                       struct px_secret_conf *const found[SECRETS_MAX], struct lt_tls_opts *opts,
                       struct lt_err *err)
{
    struct lt_tls_cert *certs = lt_arena_make_n(arena, struct lt_tls_cert, conf->cert_count);
    for (size_t i = 0; i < conf->cert_count; i++) {
        const struct px_cert_conf *cert = found[i] != NULL ? &found[i]->cert : &conf->certs[i];
        if (found[i] != NULL && found[i]->is != PX_SECRET_CERT)
            return lt_err_set(err, LT_E_BAD, "secret '%.*s' holds no certificate",
                              LT_STR_ARG(found[i]->res.name));
        certs[i] = (struct lt_tls_cert){cert->chain_pem, cert->key_pem, cert->ocsp_der};
    }
    if (conf->cert_count == 0)
        return LT_OK;
    opts->cert_chain_pem = certs[0].chain_pem;
    opts->key_pem = certs[0].key_pem;
    opts->ocsp_der = certs[0].ocsp_der;
    opts->more_certs = certs + 1;
    opts->more_cert_count = conf->cert_count - 1;
    return LT_OK;
}

static lt_rc set_secrets(struct lt_arena *arena, const struct px_tls_conf *conf,
                         struct px_secret_conf *const found[SECRETS_MAX], struct lt_tls_opts *opts,
                         struct lt_err *err)
{
    static const struct px_trust_conf nothing;
    const struct px_secret_conf *trust = found[TRUST_AT], *keys = found[TICKETS_AT];
    LT_TRY(set_certs(arena, conf, found, opts, err));
    if (trust != NULL && trust->is != PX_SECRET_TRUST)
        return lt_err_set(err, LT_E_BAD, "secret '%.*s' holds no validation context",
                          LT_STR_ARG(trust->res.name));
    if (keys != NULL && keys->is != PX_SECRET_TICKET_KEYS)
        return lt_err_set(err, LT_E_BAD, "secret '%.*s' holds no ticket keys",
                          LT_STR_ARG(keys->res.name));
    set_trust(arena, &conf->trust, trust != NULL ? &trust->trust : &nothing, opts);
    opts->ticket_keys = keys != NULL ? keys->ticket_keys : conf->ticket_keys;
    opts->ticket_key_count = keys != NULL ? keys->ticket_key_count : conf->ticket_key_count;
    return LT_OK;
}

static lt_rc make_ctx(const struct px_tls_conf *conf,
                      struct px_secret_conf *const found[SECRETS_MAX], struct lt_tls_ctx **ret_ctx,
                      struct lt_err *err)
{
    struct lt_tls_opts opts = {
        .is_server = conf->is_server,
        .verify_peer = conf->verify_peer,
        .require_peer_cert = conf->require_client_certificate,
        .scans_all_certs = conf->scans_all_certs,
        .alpn = conf->alpn,
        .alpn_count = conf->alpn_count,
        .version_min = conf->version_min,
        .version_max = conf->version_max,
        .cipher_list = conf->cipher_list.len > 0 ? conf->cipher_list : LT_STR(CIPHERS_DEFAULT),
        .ecdh_curves = conf->ecdh_curves,
        .signature_algorithms = conf->signature_algorithms,
        .prefers_client_ciphers = conf->prefers_client_ciphers,
        .allow_session_resumption = conf->is_server || conf->sessions_max > 0,
        .without_tickets = conf->without_tickets,
        .without_session_ids = conf->without_session_ids,
        .session_timeout_s = conf->session_timeout_s,
    };
    struct lt_arena *arena = lt_arena_new(4096, 0);
    lt_rc rc = set_secrets(arena, conf, found, &opts, err);
    if (rc == LT_OK)
        rc = lt_tls_ctx_new(&opts, ret_ctx, err);
    lt_arena_free(&arena);
    return rc;
}

static lt_rc rebuild(struct px_tls_slot *slot, struct px_secret_conf *const found[SECRETS_MAX],
                     struct lt_err *err)
{
    struct lt_tls_ctx *ctx = NULL;
    LT_TRY(make_ctx(&slot->conf, found, &ctx, err));
    lt_tls_ctx_unref(&slot->ctx);
    slot->ctx = ctx;
    for (size_t i = 0; i < SECRETS_MAX; i++)
        hold(&slot->secrets[i], found[i]);
    return LT_OK;
}

/* A secret that the control plane took away: who has nothing to show or to judge by, fails. */
static bool forget(struct px_tls_slot *slot)
{
    bool had_any = slot->ctx != NULL;
    drop_context(slot);
    return had_any;
}

static bool refresh(struct px_tls_slot *slot, struct lt_err *ret_bad)
{
    struct px_secret_conf *found[SECRETS_MAX];
    if (!find_secrets(&slot->conf, found))
        return forget(slot);
    if (slot->ctx != NULL && is_same(slot->secrets, found))
        return false;
    struct lt_err err = {0};
    if (rebuild(slot, found, &err) == LT_OK)
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
    const struct px_secret_conf *trust = slot->secrets[TRUST_AT];
    bool is_secret = trust != NULL && trust->trust.ca_pem.len > 0;
    struct px_tls_certs certs = {
        .ca_path = is_secret ? trust->trust.path : conf->trust.path,
        .ca_pem = is_secret ? trust->trust.ca_pem : conf->trust.ca_pem,
        .count = conf->cert_count,
    };
    for (size_t i = 0; i < conf->cert_count; i++)
        certs.own[i] = slot->secrets[i] != NULL ? &slot->secrets[i]->cert : &conf->certs[i];
    return certs;
}
