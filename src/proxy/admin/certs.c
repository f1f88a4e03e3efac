/*
 * proxy/admin/certs.c - certificates of the TLS contexts in use as JSON, in the shape of
 * envoy.admin.v3.Certificates. One entry for each context; clusters that share one are not told
 * apart (Envoy makes one for each).
 * Start at: px_admin_write_certs().
 */
#include "proxy/admin/certs.h"

#include <time.h>

#include "net/x509.h"

struct page {
    struct lt_json_writer *w;
    int64_t now_s;
};

static void write_time(struct lt_json_writer *w, const char *key, int64_t time_s)
{
    struct tm parts;
    time_t seconds = (time_t)time_s;
    char text[32];
    gmtime_r(&seconds, &parts);
    lt_json_kv_str(w, key,
                   lt_str_make(text, strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts)));
}

/* In the order of their types, as Envoy has them; e-mail addresses it leaves out. */
static void write_names(struct lt_json_writer *w, const struct lt_cert *cert)
{
    static const struct {
        lt_san_type type;
        const char *key;
    } kinds[] = {{LT_SAN_DNS, "dns"}, {LT_SAN_URI, "uri"}, {LT_SAN_IP, "ip_address"}};
    lt_json_kv_array(w, "subject_alt_names");
    for (size_t k = 0; k < LT_ARRAY_LEN(kinds); k++) {
        for (size_t i = 0; i < cert->san_count; i++) {
            if (cert->sans[i].type != kinds[k].type)
                continue;
            lt_json_object_open(w);
            lt_json_kv_str(w, kinds[k].key, cert->sans[i].value);
            lt_json_object_close(w);
        }
    }
    lt_json_array_close(w);
}

static void write_cert(const struct page *page, lt_str path, const struct lt_cert *cert)
{
    struct lt_json_writer *w = page->w;
    lt_json_object_open(w);
    lt_json_kv_str(w, "path", path);
    lt_json_key(w, LT_STR("serial_number")); /* whole bytes */
    lt_json_strf(w, "%s%.*s", cert->serial.len % 2 != 0 ? "0" : "", LT_STR_ARG(cert->serial));
    write_names(w, cert);
    lt_json_key(w, LT_STR("days_until_expiration"));
    lt_json_strf(w, "%llu", (unsigned long long)lt_cert_days_left(cert, page->now_s));
    write_time(w, "valid_from", cert->not_before_s);
    write_time(w, "expiration_time", cert->not_after_s);
    lt_json_object_close(w);
}

static void write_certs(const struct page *page, lt_str path, lt_str pem, size_t count_max)
{
    struct lt_arena *arena = lt_arena_new(16 * 1024, 0);
    struct lt_cert *certs = NULL;
    size_t count = 0;
    if (pem.len > 0 && lt_cert_parse_chain(arena, pem, &certs, &count, NULL) == LT_OK)
        for (size_t i = 0; i < LT_MIN(count, count_max); i++)
            write_cert(page, path, &certs[i]);
    lt_arena_free(&arena);
}

static void write_context(void *ctx, const struct px_tls_certs *certs)
{
    const struct page *page = ctx;
    lt_json_object_open(page->w);
    lt_json_kv_array(page->w, "ca_cert");
    write_certs(page, certs->ca_path, certs->ca_pem, SIZE_MAX);
    lt_json_array_close(page->w);
    lt_json_kv_array(page->w, "cert_chain");
    for (size_t i = 0; i < certs->count; i++) /* the leaves, as Envoy */
        write_certs(page, certs->own[i]->path, certs->own[i]->chain_pem, 1);
    lt_json_array_close(page->w);
    lt_json_object_close(page->w);
}

void px_admin_write_certs(const struct px_table *table, int64_t now_s, struct lt_json_writer *w)
{
    struct page page = {w, now_s};
    lt_json_object_open(w);
    lt_json_kv_array(w, "certificates");
    px_table_each_tls(table, write_context, &page);
    lt_json_array_close(w);
    lt_json_object_close(w);
}
