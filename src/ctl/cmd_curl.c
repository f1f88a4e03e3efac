/*
 * ctl/cmd_curl.c - `lateen curl FROM URL`: an HTTP request as a workload makes it, captured and
 * all.
 */
#include <netdb.h>
#include <stdio.h>

#include "ctl/command.h"
#include "ctl/enter.h"
#include "http/client.h"

enum {
    HEADERS_MAX = 64,
    BODY_BYTES_MAX = 64 << 20,
    TIMEOUT_S = 30,
    SECONDS_MAX = 86400,
    EXIT_RESOLVE = 6,
    EXIT_CONNECT = 7,
    EXIT_STATUS = 22
};

struct ask {
    const struct lt_env *env;
    const char *url;
    char host[256]; /* to be resolved */
    char authority[270];
    char port[8];
    const char *target;
    const char *method;
    const char *data;
    double max_time_s;
    bool with_head, head_only, fails_on_status, is_silent;
    struct lt_call_header headers[HEADERS_MAX];
    size_t header_count;
    bool has_too_many;
    int exit_code;
    struct lt_loop *loop;
};

static void add_header(const char *text, void *ctx)
{
    struct ask *ask = ctx;
    lt_str line = lt_str_of(text);
    ptrdiff_t colon = lt_str_find_char(line, ':');
    if (ask->header_count == HEADERS_MAX || colon <= 0) {
        ask->has_too_many = true;
        return;
    }
    ask->headers[ask->header_count++] = (struct lt_call_header){
        lt_str_slice(line, 0, (size_t)colon), lt_str_trim(lt_str_from(line, (size_t)colon + 1))};
}

/* "http://host[:port][/path]", the scheme may be missing as with curl. */
static bool split_url(struct ask *ask)
{
    lt_str url = lt_str_of(ask->url);
    if (lt_str_starts(url, LT_STR("http://")))
        url = lt_str_from(url, 7);
    else if (lt_str_find(url, LT_STR("://")) >= 0)
        return false;
    ptrdiff_t slash = lt_str_find_char(url, '/');
    lt_str authority = slash < 0 ? url : lt_str_slice(url, 0, (size_t)slash);
    ask->target = slash < 0 ? "/" : url.ptr + slash;
    ptrdiff_t colon = lt_str_rfind_char(authority, ':');
    lt_str host = colon < 0 ? authority : lt_str_slice(authority, 0, (size_t)colon);
    lt_str port = colon < 0 ? LT_STR("80") : lt_str_from(authority, (size_t)colon + 1);
    uint64_t number;
    if (host.len == 0 || host.len >= sizeof(ask->host) || lt_str_to_u64(port, &number) != LT_OK ||
        number > UINT16_MAX)
        return false;
    snprintf(ask->host, sizeof(ask->host), "%.*s", LT_STR_ARG(host));
    snprintf(ask->authority, sizeof(ask->authority), "%.*s", LT_STR_ARG(authority));
    snprintf(ask->port, sizeof(ask->port), "%u", (unsigned)number);
    return true;
}

static bool read_seconds(const char *text, double *ret)
{
    return lt_str_to_double(lt_str_of(text), ret) == LT_OK && *ret > 0 && *ret < SECONDS_MAX;
}

static void print_answer(const struct ask *ask, const struct lt_call_result *result)
{
    if (ask->with_head || ask->head_only) {
        printf("HTTP/1.1 %u\r\n", result->status);
        for (uint32_t i = 0; i < result->headers->count; i++)
            printf("%.*s: %.*s\r\n", LT_STR_ARG(result->headers->items[i].name),
                   LT_STR_ARG(result->headers->items[i].value));
        printf("\r\n");
    }
    if (!ask->head_only)
        fwrite(result->body.ptr, 1, result->body.len, stdout);
}

static void on_done(struct lt_call *call LT_UNUSED, const struct lt_call_result *result, void *ctx)
{
    struct ask *ask = ctx;
    if (result->rc != LT_OK) {
        if (!ask->is_silent)
            fprintf(stderr, "lateen curl: %s: %s\n", ask->url, result->error);
        ask->exit_code = EXIT_CONNECT;
    } else if (ask->fails_on_status && result->status >= 400) {
        if (!ask->is_silent)
            fprintf(stderr, "lateen curl: %s: status %u\n", ask->url, result->status);
        ask->exit_code = EXIT_STATUS;
    } else {
        bool shows_nothing = result->body.len == 0 && !ask->with_head && !ask->head_only;
        if (result->status >= 400 && shows_nothing && !ask->is_silent)
            fprintf(stderr, "lateen curl: %s: status %u, without a body\n", ask->url,
                    result->status);
        print_answer(ask, result);
    }
    lt_loop_stop(ask->loop);
}

static bool resolve(const struct ask *ask, struct lt_addr *ret_addr)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(ask->host, ask->port, &hints, &found);
    if (rc != 0) {
        if (!ask->is_silent)
            fprintf(stderr, "lateen curl: %s: %s\n", ask->host, gai_strerror(rc));
        return false;
    }
    *ret_addr = (struct lt_addr){.len = found->ai_addrlen};
    memcpy(&ret_addr->sa, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static int curl_child(const struct ctl_inside *inside LT_UNUSED, void *ctx)
{
    struct ask *ask = ctx;
    struct lt_call_opts opts = {
        .method = lt_str_of(ask->method != NULL ? ask->method
                            : ask->head_only    ? "HEAD"
                            : ask->data != NULL ? "POST"
                                                : "GET"),
        .target = lt_str_of(ask->target),
        .host = lt_str_of(ask->authority),
        .headers = ask->headers,
        .header_count = ask->header_count,
        .body = lt_str_of(ask->data),
        .timeout_ms = (uint32_t)(ask->max_time_s * 1000),
        .body_bytes_max = BODY_BYTES_MAX,
    };
    if (!resolve(ask, &opts.addr))
        return EXIT_RESOLVE;
    ask->loop = lt_loop_new(ask->env);
    lt_call_start(ask->loop, &opts, on_done, ask);
    lt_loop_run(ask->loop);
    return ask->exit_code;
}

static int run_curl(int argc, char **argv, const struct lt_env *env)
{
    const char *mesh = NULL, *container = NULL, *max_time = NULL;
    struct ask ask = {.env = env, .max_time_s = TIMEOUT_S};
    const struct ctl_option options[] = {
        {.name = "mesh", .letter = 'm', .value = &mesh},
        {.name = "container", .letter = 'c', .value = &container},
        {.name = "header", .letter = 'H', .on_value = add_header, .ctx = &ask},
        {.name = "request", .letter = 'X', .value = &ask.method},
        {.name = "data", .letter = 'd', .value = &ask.data},
        {.name = "include", .letter = 'i', .is_given = &ask.with_head},
        {.name = "head", .letter = 'I', .is_given = &ask.head_only},
        {.name = "fail", .letter = 'f', .is_given = &ask.fails_on_status},
        {.name = "silent", .letter = 's', .is_given = &ask.is_silent},
        {.name = "max-time", .value = &max_time},
    };
    struct ctl_state state;
    struct ctl_inside inside;
    struct lt_err err = {0};
    int code;
    if (!ctl_options_parse(&ctl_cmd_curl, &argc, argv, options, LT_ARRAY_LEN(options), &code))
        return code;
    if (argc != 3)
        return ctl_fail_usage(&ctl_cmd_curl, argc < 2   ? "from which workload?"
                                             : argc < 3 ? "which URL?"
                                                        : "one URL, please");
    ask.url = argv[2];
    if (ask.has_too_many)
        return ctl_fail_usage(&ctl_cmd_curl,
                              "a header is \"name: value\", and there are at most %d", HEADERS_MAX);
    if (max_time != NULL && !read_seconds(max_time, &ask.max_time_s))
        return ctl_fail_usage(&ctl_cmd_curl, "--max-time expects seconds, got \"%s\"", max_time);
    if (!split_url(&ask))
        return ctl_fail_usage(&ctl_cmd_curl, "\"%s\": expected http://HOST[:PORT][/PATH]", ask.url);
    struct lt_arena *arena = lt_arena_new(0, 0);
    lt_rc rc = ctl_state_find_running(mesh, &state, &err);
    if (rc == LT_OK)
        rc = ctl_enter(&state, lt_str_of(argv[1]), lt_str_of(container), arena, &inside, &err);
    code = rc == LT_OK ? ctl_enter_run(&inside, curl_child, &ask) : ctl_fail(&err);
    lt_arena_free(&arena);
    return code;
}

const struct ctl_command ctl_cmd_curl = {
    .name = "curl",
    .arguments = "FROM URL",
    .summary = "send a request from inside a workload",
    .help =
        "FROM is a workload as for `lateen exec`; its sidecar captures the request as it would\n"
        "the application's own.\n\n"
        "  -H, --header 'NAME: VALUE'   may be given several times\n"
        "  -X, --request METHOD\n"
        "  -d, --data TEXT              a body; makes it a POST\n"
        "  -i, --include                show the answer's head too\n"
        "  -I, --head                   ask for the head only\n"
        "  -f, --fail                   exit with 22 when the status is 400 or more\n"
        "  -s, --silent                 no messages\n"
        "      --max-time SECONDS       30 by default\n"
        "  -c, --container NAME         from another container than the first\n"
        "  -m, --mesh DIR               which mesh, when several run\n",
    .run = run_curl,
};
