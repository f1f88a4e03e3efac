/*
 * tests/unit/proxy/captures_test.c - every resource that was recorded from an istiod compiles, or is refused for a reason that is
 * written down here. The recordings lie beside the source tree, or where LATEEN_CONTRACT says; without them the test is skipped.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf_test.h"
#include "wire/json.h"

enum { FILE_BYTES_MAX = 16 << 20, PATH_BYTES = 1024 };

/* What a mesh may send and this proxy refuses to this day, by what the error says. */
static const char *const known_refusals[] = {
    "envoy.extensions.filters.http.lua.v3.Lua",
    "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
    "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
    "cluster_type: 'envoy.clusters.dynamic_forward_proxy'",
    "crl: cannot read file '/etc/c/crl.pem'", /* it was on the captured machine */
    "BAD_BASE64_DECODE",                      /* the captures have no certificates: "(left out)" */
};

/* What a mesh may send and this proxy lists as without effect, by the end of the path: nothing else is noise in a mesh. */
static const char *const known_idle[] = {
    ".extension_filter", /* expressions: step 2b */
    ".tracing.provider", /* spans: step 2b */
    " (envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig)",
    " (envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig)",
    ".HttpProtocolOptions.outlier_detection", /* of applications that set retries by an EnvoyFilter */
    ".stat_prefix",
    "per_connection_buffer_limit_bytes",
};

static const struct {
    const char *prefix; /* of the file's name */
    px_resource_kind kind;
} files[] = {{"cds", PX_CLUSTER},
             {"eds", PX_ENDPOINTS},
             {"lds", PX_LISTENER},
             {"rds", PX_ROUTES},
             {"sds", PX_SECRET}};

struct tally {
    unsigned files, taken, refused, listed, bad;
    unsigned hits[LT_ARRAY_LEN(known_refusals)];
};

static bool is_known(struct tally *tally, const char *error)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(known_refusals); i++) {
        if (strstr(error, known_refusals[i]) != NULL) {
            tally->hits[i]++;
            return true;
        }
    }
    return false;
}

static void check_listed(const char *path, const struct px_resource *resource, struct tally *tally)
{
    for (size_t i = 0; i < px_unhonoured_count(resource); i++) {
        lt_str line = resource->extras->unhonoured[i];
        ptrdiff_t times = lt_str_ends(line, LT_STR(" times)")) ? lt_str_rfind_char(line, '(') - 1
                                                               : (ptrdiff_t)line.len;
        bool is_known_line = false;
        for (size_t j = 0; j < LT_ARRAY_LEN(known_idle); j++)
            is_known_line |= lt_str_ends(lt_str_slice(line, 0, (size_t)times),
                                         lt_str_of(known_idle[j]));
        tally->listed++;
        if (is_known_line)
            continue;
        tally->bad++;
        print_message("# %s: %.*s: %.*s does nothing\n", path, LT_STR_ARG(resource->name),
                      LT_STR_ARG(line));
    }
}

static void compile_one(struct px_tls_slots *slots, px_resource_kind kind, const struct lt_doc *doc,
                        const char *path, struct tally *tally)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err = {0};
    struct px_resource *resource = NULL;
    lt_str bytes = pack_doc(arena, kind, doc);
    lt_rc rc = px_conf_compile(kind, LT_STR_NULL, LT_STR_NULL, bytes, slots, &resource, &err);
    if (rc == LT_OK) {
        tally->taken++;
        check_listed(path, resource, tally);
        assert_true(resource->name.len > 0);
    } else if ((rc == LT_E_UNSUPPORTED || rc == LT_E_BAD) && is_known(tally, err.text)) {
        tally->refused++;
    } else {
        tally->bad++;
        print_message("# %s: %.*s: %s\n", path,
                      LT_STR_ARG(lt_doc_string(lt_doc_findz(doc, "name"))), err.text);
    }
    px_resource_unref(&resource);
    lt_arena_free(&arena);
}

static void compile_file(const char *path, px_resource_kind kind, struct tally *tally)
{
    struct lt_arena *arena = lt_arena_new(0, 0);
    struct lt_err err = {0};
    const struct lt_doc *list = NULL;
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    char *text = lt_arena_bytes(arena, FILE_BYTES_MAX);
    size_t len = fread(text, 1, FILE_BYTES_MAX, file);
    fclose(file);
    assert_true(len < FILE_BYTES_MAX);
    if (lt_json_parse(arena, lt_str_make(text, len), NULL, &list, &err) != LT_OK)
        fail_msg("%s: %s", path, err.text);
    struct px_tls_slots *slots = px_tls_slots_new();
    tally->files++;
    for (uint32_t i = 0; i < list->count; i++)
        compile_one(slots, kind, &list->items[i], path, tally);
    px_tls_slots_free(&slots);
    lt_arena_free(&arena);
}

static void compile_directory(const char *path, struct tally *tally)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char file[PATH_BYTES];
        int len = snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        assert_true(len > 0 && (size_t)len < sizeof(file));
        for (size_t i = 0; i < LT_ARRAY_LEN(files); i++) {
            if (strncmp(entry->d_name, files[i].prefix, 3) == 0 &&
                lt_str_ends(lt_str_of(entry->d_name), LT_STR(".json")))
                compile_file(file, files[i].kind, tally);
        }
    }
    if (dir != NULL)
        closedir(dir);
}

static DIR *open_captures(char path[PATH_BYTES])
{
    const char *contract = getenv("LATEEN_CONTRACT"), *root = getenv("LATEEN_SOURCE_ROOT");
    if (contract != NULL)
        snprintf(path, PATH_BYTES, "%s/captures", contract);
    else
        snprintf(path, PATH_BYTES, "%s/../shared/contract/captures", root != NULL ? root : ".");
    return opendir(path);
}

static void test_captures(void **state)
{
    (void)state;
    char path[PATH_BYTES];
    struct tally tally = {0};
    DIR *dir = open_captures(path);
    assert_non_null(dir);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char inner[PATH_BYTES + 256];
        snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.')
            compile_directory(inner, &tally);
    }
    closedir(dir);
    print_message(
        "# %u files: %u resources taken, %u refused as expected; %u lines of what does nothing\n",
        tally.files, tally.taken, tally.refused, tally.listed);
    assert_true(tally.files > 0 && tally.taken > 0);
    assert_int_equal(tally.bad, 0);
    for (size_t i = 0; i < LT_ARRAY_LEN(known_refusals); i++) {
        if (tally.hits[i] == 0) /* what is supported by now must leave the list */
            print_message("# nothing was refused for: %s\n", known_refusals[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_captures)};
    char path[PATH_BYTES];
    DIR *dir = open_captures(path);
    if (dir == NULL) {
        printf("1..0 # SKIP no recordings at %s\n", path);
        return 0;
    }
    closedir(dir);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
