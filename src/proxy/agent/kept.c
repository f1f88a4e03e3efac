/*
 * proxy/agent/kept.c - one file with key, chain and root, 0600 on tmpfs: "identity.pem" beside the
 * bootstrap. Its parts are told apart by the lengths in its first line.
 * Trust: the file is our own user's, but may be of another identity, or of yesterday.
 */
#include "proxy/agent/kept.h"

#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "net/x509.h"

/* linux/magic.h */
enum { TMPFS = 0x01021994, RAMFS = 0x858458f6 };

enum { PATH_BYTES = 1024, PARTS = 3 };

/* False: it would be on a disk. */
static bool find_path(const struct px_agent_settings *settings, char path[PATH_BYTES])
{
    struct statfs where;
    (void)snprintf(path, PATH_BYTES, "%.*s", LT_STR_ARG(settings->config_path));
    if (statfs(path, &where) != 0)
        return false;
    bool is_memory = (uint32_t)where.f_type == (uint32_t)TMPFS ||
                     (uint32_t)where.f_type == (uint32_t)RAMFS;
    int len = snprintf(path, PATH_BYTES, "%.*s/identity.pem", LT_STR_ARG(settings->config_path));
    return is_memory && len < PATH_BYTES;
}

void px_kept_write(const struct px_agent_settings *settings, const struct px_identity_cert *cert)
{
    char path[PATH_BYTES];
    if (!find_path(settings, path))
        return;
    struct lt_arena *arena = lt_arena_new(16 << 10, 0);
    lt_str text = lt_arena_printf(arena, "%zu %zu %zu\n%.*s%.*s%.*s", cert->key_pem.len,
                                  cert->chain_pem.len, cert->root_pem.len,
                                  LT_STR_ARG(cert->key_pem), LT_STR_ARG(cert->chain_pem),
                                  LT_STR_ARG(cert->root_pem));
    (void)!lt_file_write(path, text, 0600, NULL); /* without it the CA is asked */
    lt_arena_wipe_free(&arena);
}

static lt_rc split(lt_str text, lt_str parts[PARTS])
{
    lt_str line;
    uint64_t lens[PARTS];
    if (!lt_str_split(&text, '\n', &line))
        return LT_E_BAD;
    for (size_t i = 0; i < PARTS; i++) {
        lt_str number;
        if (!lt_str_split(&line, ' ', &number) || lt_str_to_u64(number, &lens[i]) != LT_OK ||
            lens[i] > text.len)
            return LT_E_BAD;
        parts[i] = lt_str_slice(text, 0, lens[i]);
        text = lt_str_from(text, lens[i]);
    }
    return LT_OK;
}

static lt_rc check_key(lt_str key_pem, lt_str leaf_pem)
{
    struct lt_key *key = NULL, *certified = NULL;
    lt_rc rc = lt_key_parse_private(key_pem, &key, NULL);
    if (rc == LT_OK)
        rc = lt_key_parse_public(leaf_pem, &certified, NULL);
    if (rc == LT_OK && !lt_key_eq(key, certified))
        rc = LT_E_BAD;
    lt_key_free(&key);
    lt_key_free(&certified);
    return rc;
}

lt_rc px_kept_read(struct lt_arena *arena, const struct px_agent_settings *settings, int64_t now_s,
                   struct px_identity_cert *ret_cert)
{
    char path[PATH_BYTES];
    lt_str text, parts[PARTS];
    struct lt_cert *leaf = NULL, *root = NULL;
    size_t count = 0;
    if (!find_path(settings, path))
        return LT_E_NOT_FOUND;
    LT_TRY(lt_file_read(arena, path, &text, NULL));
    LT_TRY(split(text, parts));
    LT_TRY(lt_cert_parse_chain(arena, parts[1], &leaf, &count, NULL));
    LT_TRY(lt_cert_parse_chain(arena, parts[2], &root, &count, NULL));
    if (!lt_str_eq(lt_cert_uri(&leaf[0]), settings->spiffe_id) || leaf[0].not_after_s <= now_s)
        return LT_E_BAD;
    LT_TRY(check_key(parts[0], leaf[0].pem));
    *ret_cert = (struct px_identity_cert){.chain_pem = parts[1],
                                          .key_pem = parts[0],
                                          .root_pem = parts[2],
                                          .not_after_s = leaf[0].not_after_s};
    return LT_OK;
}

void px_kept_remove(const struct px_agent_settings *settings)
{
    char path[PATH_BYTES];
    if (find_path(settings, path))
        (void)unlink(path);
}
