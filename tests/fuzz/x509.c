/*
 * tests/fuzz/x509.c - fuzzes the readers of PEM: lt_cert_parse_chain(), lt_csr_parse(),
 * lt_key_parse_public().
 */
#include <stdint.h>

#include "net/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lt_str pem = lt_str_make(data, size);
    struct lt_err err;
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_cert *certs = NULL;
    size_t count = 0;
    if (lt_cert_parse_chain(arena, pem, &certs, &count, &err) == LT_OK) {
        LT_ASSERT(count > 0);
        for (size_t i = 0; i < count; i++)
            (void)lt_cert_uri(&certs[i]);
    }
    struct lt_csr csr = {0};
    if (lt_csr_parse(pem, &csr, &err) == LT_OK)
        lt_csr_fini(&csr);
    struct lt_key *key = NULL;
    if (lt_key_parse_public(pem, &key, &err) == LT_OK)
        lt_key_free(&key);
    lt_arena_free(&arena);
    return 0;
}
