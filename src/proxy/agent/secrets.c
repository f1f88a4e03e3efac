/*
 * proxy/agent/secrets.c - secrets by name. Start at: px_secrets_put_cert(), px_secrets_want().
 */
#include "proxy/agent/secrets.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/file.h"
#include "base/map.h"
#include "wire/pb.h"
#include "wire/proto/tls.pb-c.h"

enum { POLL_MS = 1000 };

#define SYSTEM_ROOTS "/etc/ssl/certs/ca-certificates.crt"

struct secret {
    char *name;  /* owned */
    char *bytes; /* owned, wiped; NULL: not there yet */
    size_t len;
    char version[17];
    char *paths[2]; /* owned; of a file secret: chain and key, or the root */
    size_t path_count;
    uint64_t stamps[2]; /* of what was read last */
};

struct px_secrets {
    struct lt_loop *loop; /* borrowed */
    px_secrets_fn *on_change;
    void *ctx;
    struct lt_map by_name; /* struct secret, owned */
    struct lt_timer poll;
    size_t file_count;
    uint64_t file_failures;
};

/* --- the table --- */

static void wipe(struct secret *secret)
{
    if (secret->bytes != NULL)
        explicit_bzero(secret->bytes, secret->len);
    free(secret->bytes);
    secret->bytes = NULL;
    secret->len = 0;
}

static struct secret *find_or_add(struct px_secrets *secrets, lt_str name)
{
    struct secret *secret = lt_map_find(&secrets->by_name, name);
    if (secret == NULL && secrets->by_name.count < PX_SECRETS_MAX) {
        secret = lt_new(struct secret);
        secret->name = lt_str_dupz(name);
        lt_map_put(&secrets->by_name, lt_str_of(secret->name), secret);
    }
    return secret;
}

static struct px_secret_view view_of(const struct secret *secret)
{
    return (struct px_secret_view){lt_str_of(secret->name), lt_str_of(secret->version),
                                   lt_str_make(secret->bytes, secret->len)};
}

/* Takes a copy of the message; tells when it differs from what was there. */
static void set_message(struct px_secrets *secrets, lt_str name, Xds__Secret *message)
{
    struct secret *secret = find_or_add(secrets, name);
    if (secret == NULL)
        return;
    struct lt_arena *scratch = lt_arena_new(16 << 10, 0);
    message->name = secret->name;
    lt_str packed = lt_pb_pack(scratch, message);
    if (secret->bytes == NULL || !lt_str_eq(packed, lt_str_make(secret->bytes, secret->len))) {
        wipe(secret);
        secret->bytes = lt_malloc(packed.len);
        memcpy(secret->bytes, packed.ptr, packed.len);
        secret->len = packed.len;
        (void)snprintf(secret->version, sizeof(secret->version), "%016" PRIx64,
                       lt_hash64(packed.ptr, packed.len, 0));
        struct px_secret_view view = view_of(secret);
        secrets->on_change(secrets->ctx, &view);
    }
    lt_arena_wipe_free(&scratch);
}

static Xds__DataSource inline_source(lt_str text)
{
    Xds__DataSource source = XDS__DATA_SOURCE__INIT;
    source.specifier_case = XDS__DATA_SOURCE__SPECIFIER_INLINE_BYTES;
    source.inline_bytes = (ProtobufCBinaryData){text.len, (uint8_t *)text.ptr};
    return source;
}

void px_secrets_put_cert(struct px_secrets *secrets, lt_str name, lt_str chain_pem, lt_str key_pem)
{
    Xds__DataSource chain = inline_source(chain_pem), key = inline_source(key_pem);
    Xds__TlsCertificate cert = XDS__TLS_CERTIFICATE__INIT;
    Xds__Secret message = XDS__SECRET__INIT;
    cert.certificate_chain = &chain;
    cert.private_key = &key;
    message.type_case = XDS__SECRET__TYPE_TLS_CERTIFICATE;
    message.tls_certificate = &cert;
    set_message(secrets, name, &message);
}

void px_secrets_put_root(struct px_secrets *secrets, lt_str name, lt_str root_pem, lt_str crl_pem)
{
    Xds__DataSource root = inline_source(root_pem), crl = inline_source(crl_pem);
    Xds__CertificateValidationContext context = XDS__CERTIFICATE_VALIDATION_CONTEXT__INIT;
    Xds__Secret message = XDS__SECRET__INIT;
    context.trusted_ca = &root;
    context.crl = crl_pem.len > 0 ? &crl : NULL;
    message.type_case = XDS__SECRET__TYPE_VALIDATION_CONTEXT;
    message.validation_context = &context;
    set_message(secrets, name, &message);
}

bool px_secrets_find(const struct px_secrets *secrets, lt_str name, struct px_secret_view *ret_view)
{
    const struct secret *secret = lt_map_find(&secrets->by_name, name);
    if (secret == NULL || secret->bytes == NULL)
        return false;
    *ret_view = view_of(secret);
    return true;
}

/* --- files --- */

static bool has_changed(const struct secret *secret)
{
    for (size_t i = 0; i < secret->path_count; i++) {
        if (lt_file_stamp(secret->paths[i]) != secret->stamps[i])
            return true;
    }
    return false;
}

/*
 * A pair that is being exchanged may not fit for a moment: the takers judge it, and the next change
 * is seen.
 */
static void load_files(struct px_secrets *secrets, struct secret *secret)
{
    struct lt_arena *scratch = lt_arena_new(16 << 10, 0);
    lt_str texts[2] = {LT_STR_NULL, LT_STR_NULL};
    lt_rc rc = LT_OK;
    for (size_t i = 0; i < secret->path_count && rc == LT_OK; i++) {
        secret->stamps[i] = lt_file_stamp(secret->paths[i]);
        rc = lt_file_read(scratch, secret->paths[i], &texts[i], NULL);
    }
    if (rc != LT_OK)
        secrets->file_failures++;
    else if (secret->path_count == 2)
        px_secrets_put_cert(secrets, lt_str_of(secret->name), texts[0], texts[1]);
    else
        px_secrets_put_root(secrets, lt_str_of(secret->name), texts[0], LT_STR_NULL);
    lt_arena_wipe_free(&scratch);
}

static void on_poll(struct lt_timer *timer, uint64_t now_ns LT_UNUSED)
{
    struct px_secrets *secrets = LT_CONTAINER_OF(timer, struct px_secrets, poll);
    for (size_t i = 0; i < secrets->by_name.count; i++) {
        struct secret *secret = secrets->by_name.entries[i].value;
        if (secret->path_count > 0 && has_changed(secret))
            load_files(secrets, secret);
    }
    lt_loop_timer_set(secrets->loop, timer, POLL_MS * LT_NS_PER_MS);
}

static lt_rc watch(struct px_secrets *secrets, lt_str name, const lt_str *paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (paths[i].len == 0 || lt_str_find_char(paths[i], '\0') >= 0)
            return LT_E_BAD;
    }
    struct secret *secret = find_or_add(secrets, name);
    if (secret == NULL)
        return LT_E_LIMIT;
    if (secret->path_count > 0)
        return LT_OK;
    for (size_t i = 0; i < count; i++)
        secret->paths[i] = lt_str_dupz(paths[i]);
    secret->path_count = count;
    secrets->file_count++;
    lt_loop_timer_set(secrets->loop, &secrets->poll, 0);
    return LT_OK;
}

lt_rc px_secrets_want(struct px_secrets *secrets, lt_str name)
{
    static const lt_str cert_prefix = {"file-cert:", sizeof("file-cert:") - 1};
    static const lt_str root_prefix = {"file-root:", sizeof("file-root:") - 1};
    if (lt_str_eqz(name, "default") || lt_str_eqz(name, "ROOTCA"))
        return LT_OK;
    if (lt_str_starts(name, cert_prefix)) {
        lt_str rest = lt_str_from(name, cert_prefix.len), paths[2];
        if (!lt_str_split(&rest, '~', &paths[0]) || rest.ptr == NULL)
            return LT_E_BAD;
        paths[1] = rest;
        return watch(secrets, name, paths, 2);
    }
    if (!lt_str_starts(name, root_prefix))
        return LT_E_NOT_FOUND;
    lt_str path = lt_str_from(name, root_prefix.len);
    if (lt_str_eqz(path, "system"))
        path = LT_STR(SYSTEM_ROOTS);
    return watch(secrets, name, &path, 1);
}

uint64_t px_secrets_file_failures(const struct px_secrets *secrets)
{
    return secrets->file_failures;
}

/* --- begin and end --- */

struct px_secrets *px_secrets_new(struct lt_loop *loop, px_secrets_fn *on_change, void *ctx)
{
    struct px_secrets *secrets = lt_new(struct px_secrets);
    secrets->loop = loop;
    secrets->on_change = on_change;
    secrets->ctx = ctx;
    lt_map_init(&secrets->by_name);
    lt_timer_init(&secrets->poll, on_poll);
    return secrets;
}

void px_secrets_free(struct px_secrets **secrets)
{
    struct px_secrets *dying = *secrets;
    *secrets = NULL;
    if (dying == NULL)
        return;
    lt_loop_timer_cancel(dying->loop, &dying->poll);
    for (size_t i = 0; i < dying->by_name.count; i++) {
        struct secret *secret = dying->by_name.entries[i].value;
        wipe(secret);
        free(secret->paths[0]);
        free(secret->paths[1]);
        free(secret->name);
        free(secret);
    }
    lt_map_fini(&dying->by_name);
    free(dying);
}
