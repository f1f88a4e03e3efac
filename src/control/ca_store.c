/*
 * control/ca_store.c - the CA's keys on disk. Start at: cp_ca_store_load().
 */
#include "control/ca_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

enum {
    FILE_BYTES_MAX = 1 << 20,
    RENEW_PERCENT = 20, /* CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE */
};

/* --- files --- */

static lt_rc read_fd(int fd, char *to, size_t room, size_t *ret_len)
{
    size_t len = 0;
    while (len < room) {
        ssize_t got = read(fd, to + len, room - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return LT_E_IO;
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *ret_len = len;
    return len == room ? LT_E_LIMIT : LT_OK;
}

/*
 * On the heap, NUL-terminated; whoever reads a key frees it by lt_key_pem_free. LT_E_NOT_FOUND: no
 * such file.
 */
static lt_rc read_file(const char *dir, const char *name, char **ret_text, struct lt_err *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return lt_err_set(err, LT_E_LIMIT, "%s: path too long", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return lt_err_set(err, LT_E_NOT_FOUND, "%s is missing", path);
    if (fd < 0)
        return lt_err_errno(err, "cannot open %s", path);
    char *text = lt_malloc(FILE_BYTES_MAX);
    size_t len = 0;
    lt_rc rc = read_fd(fd, text, FILE_BYTES_MAX, &len);
    close(fd);
    if (rc == LT_OK)
        *ret_text = lt_str_dupz(lt_str_make(text, len));
    explicit_bzero(text, len);
    free(text);
    return rc == LT_OK ? LT_OK : lt_err_set(err, rc, "cannot read %s", path);
}

static lt_rc read_text(struct cp_ca_store *store, const char *dir, const char *name,
                       lt_str *ret_text, struct lt_err *err)
{
    char *text = NULL;
    LT_TRY(read_file(dir, name, &text, err));
    *ret_text = lt_arena_str(store->arena, lt_str_of(text));
    free(text);
    return LT_OK;
}

/* Whole or not at all: beside the file, synced, then renamed. */
static lt_rc write_file(const char *dir, const char *name, lt_str text, struct lt_err *err)
{
    char path[PATH_MAX], fresh[PATH_MAX];
    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
        snprintf(fresh, sizeof(fresh), "%s/.%s.new", dir, name) >= (int)sizeof(fresh))
        return lt_err_set(err, LT_E_LIMIT, "%s: path too long", dir);
    (void)unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return lt_err_errno(err, "cannot write %s", fresh);
    lt_rc rc = lt_fd_write_all(fd, text);
    if (rc == LT_OK && fsync(fd) != 0)
        rc = LT_E_IO;
    close(fd);
    if (rc == LT_OK && rename(fresh, path) != 0)
        rc = LT_E_IO;
    if (rc != LT_OK) {
        rc = lt_err_errno(err, "cannot write %s", path);
        (void)unlink(fresh);
    }
    return rc;
}

/* --- plugged in --- */

static bool has_file(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path) &&
           access(path, F_OK) == 0;
}

static bool has_any(const char *dir, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (has_file(dir, names[i]))
            return true;
    }
    return false;
}

static lt_rc load_key(struct cp_ca_store *store, const char *dir, const char *name,
                      struct lt_err *err)
{
    LT_TRY(read_file(dir, name, &store->key_pem, err));
    store->material.key_pem = lt_str_of(store->key_pem);
    return LT_OK;
}

static lt_rc load_plugged(struct cp_ca_store *store, const char *dir, bool is_tls_style,
                          struct lt_err *err)
{
    struct cp_ca_material *material = &store->material;
    store->is_plugged_in = true;
    LT_TRY(
        read_text(store, dir, is_tls_style ? "tls.crt" : "ca-cert.pem", &material->cert_pem, err));
    LT_TRY(load_key(store, dir, is_tls_style ? "tls.key" : "ca-key.pem", err));
    LT_TRY(
        read_text(store, dir, is_tls_style ? "ca.crt" : "root-cert.pem", &material->root_pem, err));
    if (!is_tls_style)
        return read_text(store, dir, "cert-chain.pem", &material->chain_pem, err);
    material->chain_pem = material->cert_pem;
    return LT_OK;
}

/* --- made here --- */

/* Those above it are as for everybody. */
static lt_rc make_dir(const char *dir, struct lt_err *err)
{
    char above[PATH_MAX];
    if (snprintf(above, sizeof(above), "%s", dir) >= (int)sizeof(above))
        return lt_err_set(err, LT_E_LIMIT, "%s: path too long", dir);
    for (char *at = strchr(above + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(above, 0755) != 0 && errno != EEXIST)
            return lt_err_errno(err, "cannot make %s", above);
        *at = '/';
    }
    return mkdir(dir, 0700) == 0 || errno == EEXIST ? LT_OK
                                                    : lt_err_errno(err, "cannot make %s", dir);
}

static lt_rc save_root(const char *dir, lt_str cert_pem, lt_str key_pem, struct lt_err *err)
{
    LT_TRY(make_dir(dir, err));
    /* the key first: a certificate without its key must never stand there */
    LT_TRY(write_file(dir, "ca-key.pem", key_pem, err));
    return write_file(dir, "ca-cert.pem", cert_pem, err);
}

static int64_t root_ttl_s(const struct cp_ca_store_opts *opts)
{
    return opts->root_ttl_s > 0 ? opts->root_ttl_s : CP_CA_ROOT_TTL_S;
}

static lt_rc make_root(struct cp_ca_store *store, const struct cp_ca_store_opts *opts,
                       int64_t now_s, struct lt_err *err)
{
    LT_TRY(cp_ca_make_root(store->arena, opts->trust_domain, root_ttl_s(opts), now_s,
                           &store->material.cert_pem, &store->key_pem, err));
    store->material.key_pem = lt_str_of(store->key_pem);
    store->was_made = true;
    return save_root(opts->state_dir, store->material.cert_pem, store->material.key_pem, err);
}

static lt_rc load_own(struct cp_ca_store *store, const struct cp_ca_store_opts *opts, int64_t now_s,
                      struct lt_err *err)
{
    struct cp_ca_material *material = &store->material;
    struct lt_cert *cert = NULL;
    size_t count = 0;
    LT_TRY(load_key(store, opts->state_dir, "ca-key.pem", err));
    LT_TRY(read_text(store, opts->state_dir, "ca-cert.pem", &material->cert_pem, err));
    LT_TRY(lt_cert_parse_chain(store->arena, material->cert_pem, &cert, &count, err));
    uint32_t percent = opts->renew_percent != 0 ? opts->renew_percent : RENEW_PERCENT;
    if (!cp_ca_is_renewal_due(cert[0].not_before_s + CP_CA_BACKDATE_S, cert[0].not_after_s, percent,
                              now_s))
        return LT_OK;
    LT_TRY(cp_ca_renew_root(store->arena, opts->trust_domain, material->key_pem, root_ttl_s(opts),
                            now_s, &material->cert_pem, err));
    store->was_renewed = true;
    return write_file(opts->state_dir, "ca-cert.pem", material->cert_pem, err);
}

static lt_rc load_self_signed(struct cp_ca_store *store, const struct cp_ca_store_opts *opts,
                              int64_t now_s, struct lt_err *err)
{
    /* a key alone is left of a first start that was cut short: nobody has seen its certificate */
    lt_rc rc = has_file(opts->state_dir, "ca-cert.pem") ? load_own(store, opts, now_s, err)
                                                        : make_root(store, opts, now_s, err);
    store->material.root_pem = store->material.cert_pem;
    return rc;
}

static lt_rc load(struct cp_ca_store *store, const struct cp_ca_store_opts *opts, int64_t now_s,
                  struct lt_err *err)
{
    static const char *const istio_style[] = {"ca-cert.pem", "ca-key.pem", "cert-chain.pem",
                                              "root-cert.pem"};
    static const char *const tls_style[] = {"tls.crt", "tls.key", "ca.crt"};
    if (opts->only_own && !has_file(opts->state_dir, "ca-cert.pem"))
        return lt_err_set(err, LT_E_NOT_FOUND, "%s/ca-cert.pem is gone", opts->state_dir);
    if (opts->only_own)
        return load_self_signed(store, opts, now_s, err);
    if (has_any(opts->plugged_dir, istio_style, LT_ARRAY_LEN(istio_style)))
        return load_plugged(store, opts->plugged_dir, false, err);
    if (has_any(opts->plugged_dir, tls_style, LT_ARRAY_LEN(tls_style)))
        return load_plugged(store, opts->plugged_dir, true, err);
    return load_self_signed(store, opts, now_s, err);
}

lt_rc cp_ca_store_load(const struct cp_ca_store_opts *opts, int64_t now_s,
                       struct cp_ca_store *ret_store, struct lt_err *err)
{
    struct cp_ca_store store = {.arena = lt_arena_new(0, 0)};
    lt_rc rc = load(&store, opts, now_s, err);
    if (rc != LT_OK) {
        cp_ca_store_fini(&store);
        return lt_err_wrap(err, rc, "CA");
    }
    *ret_store = store;
    return LT_OK;
}

void cp_ca_store_fini(struct cp_ca_store *store)
{
    lt_key_pem_free(&store->key_pem);
    if (store->arena != NULL)
        lt_arena_free(&store->arena);
    *store = (struct cp_ca_store){0};
}
