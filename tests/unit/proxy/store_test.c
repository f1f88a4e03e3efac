/*
 * tests/unit/proxy/store_test.c - records of the last good resources: whole, torn, spoilt; and the
 * key that is kept over a restart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/x509.h"
#include "proxy/agent/kept.h"
#include "proxy/xds/store.h"

static const struct px_store_record record = {.op = PX_STORE_PUT,
                                              .kind = PX_LISTENER,
                                              .at_ns = -7,
                                              .source = LT_STR("ads"),
                                              .name = LT_STR("main"),
                                              .version = LT_STR("v1"),
                                              .bytes = LT_STR("\0bytes")};

static void test_round_trip(void **state)
{
    (void)state;
    struct lt_buf out;
    struct px_store_record read;
    lt_buf_init(&out, 4096);
    px_store_write(&out, &record);
    px_store_write(&out, &(struct px_store_record){.op = PX_STORE_STATE, .kind = PX_CLUSTER});
    lt_str rest = lt_buf_str(&out);
    assert_int_equal(px_store_read(&rest, &read), LT_OK);
    assert_int_equal(read.kind, PX_LISTENER);
    assert_int_equal(read.at_ns, -7);
    assert_true(lt_str_eq(read.name, record.name) && lt_str_eq(read.version, record.version));
    assert_true(lt_str_eq(read.source, record.source) && lt_str_eq(read.bytes, record.bytes));
    assert_int_equal(px_store_read(&rest, &read), LT_OK);
    assert_int_equal(read.op, PX_STORE_STATE);
    assert_int_equal(px_store_read(&rest, &read), LT_AGAIN);
    lt_buf_fini(&out);
}

/* Whatever bit is another, and wherever it ends: it isn't believed. */
static void test_spoilt(void **state)
{
    (void)state;
    struct lt_buf out;
    struct px_store_record read;
    lt_buf_init(&out, 4096);
    px_store_write(&out, &record);
    size_t len = lt_buf_len(&out);
    for (size_t i = 1; i < len; i++) {
        lt_str torn = lt_str_make(lt_buf_str(&out).ptr, i);
        assert_int_equal(px_store_read(&torn, &read), LT_E_BAD);
        assert_int_equal(torn.len, i);
    }
    char *bytes = (char *)lt_buf_str(&out).ptr;
    for (size_t bit = 0; bit < len * 8; bit++) {
        lt_str rest = lt_buf_str(&out);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_equal(px_store_read(&rest, &read), LT_E_BAD);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    lt_buf_fini(&out);
}

/* --- the key --- */

#define ID "spiffe://cluster.local/ns/a/sa/b"

static lt_rc read_kept(const char *directory, const char *id, int64_t now_s)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct px_identity_cert cert;
    const struct px_agent_settings settings = {.config_path = lt_str_of(directory),
                                               .spiffe_id = lt_str_of(id)};
    lt_rc rc = px_kept_read(arena, &settings, now_s, &cert);
    if (rc == LT_OK)
        assert_true(cert.not_after_s > now_s);
    lt_arena_free(&arena);
    return rc;
}

static void make_cert(struct lt_arena *arena, int64_t not_after_s, struct px_identity_cert *cert)
{
    struct lt_err err = {0};
    struct lt_key *key = lt_key_new(LT_KEY_ECDSA_P256);
    const struct lt_san san = {.type = LT_SAN_URI, .value = LT_STR(ID)};
    const struct lt_cert_template template = {.subject_key = key,
                                              .sans = &san,
                                              .san_count = 1,
                                              .not_before_s = 1,
                                              .not_after_s = not_after_s};
    if (lt_cert_self_sign(&template, arena, &cert->chain_pem, &err) != LT_OK)
        fail_msg("%s", err.text);
    char *key_pem = lt_key_private_pem(key);
    cert->key_pem = lt_arena_str(arena, lt_str_of(key_pem));
    cert->root_pem = cert->chain_pem;
    lt_key_pem_free(&key_pem);
    lt_key_free(&key);
}

static void test_kept_identity(void **state)
{
    (void)state;
    char in_memory[] = "/dev/shm/lateen-kept-XXXXXX";
    enum { END_S = 2000000000 };
    struct stat info;
    assert_non_null(mkdtemp(in_memory));
    struct lt_arena *arena = lt_arena_new(0, 0);
    const struct px_agent_settings settings = {.config_path = lt_str_of(in_memory)};
    struct px_identity_cert cert, other;
    lt_str path = lt_arena_printf(arena, "%s/identity.pem", in_memory);
    make_cert(arena, END_S, &cert);
    make_cert(arena, END_S, &other);
    assert_int_equal(read_kept(in_memory, ID, END_S - 100), LT_E_NOT_FOUND);
    px_kept_write(&settings, &cert);
    assert_int_equal(stat(path.ptr, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(read_kept(in_memory, ID, END_S - 100), LT_OK);
    assert_int_equal(read_kept(in_memory, ID, END_S), LT_E_BAD);
    assert_int_equal(read_kept(in_memory, "spiffe://cluster.local/ns/a/sa/c", 100), LT_E_BAD);
    cert.key_pem = other.key_pem;
    px_kept_write(&settings, &cert);
    assert_int_equal(read_kept(in_memory, ID, END_S - 100), LT_E_BAD);
    assert_int_equal(truncate(path.ptr, info.st_size / 2), 0);
    assert_int_equal(read_kept(in_memory, ID, END_S - 100), LT_E_BAD);
    px_kept_remove(&settings);
    assert_int_not_equal(stat(path.ptr, &info), 0);
    rmdir(in_memory);
    lt_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_spoilt),
        cmocka_unit_test(test_kept_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
