/*
 * proxy/process/ask_admin.c - the admin port from the command line.
 */
#include "proxy/process/ask_admin.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "http/client.h"

enum {
    PORT_DEFAULT = 15000,
    TIMEOUT_MS = 60000,
    ANSWER_BYTES_MAX = 256 << 20,
    EXIT_USAGE = 2,
    STATUS_GOOD_MAX = 299
};

struct asking {
    struct lt_loop *loop;
    int exit_code;
};

static void on_done(struct lt_call *call LT_UNUSED, const struct lt_call_result *result, void *ctx)
{
    struct asking *asking = ctx;
    if (result->rc != LT_OK) {
        fprintf(stderr, "lateen-proxy request: %s\n", result->error);
        asking->exit_code = EXIT_FAILURE;
    } else {
        fwrite(result->body.ptr, 1, result->body.len, stdout);
        if (result->status > STATUS_GOOD_MAX)
            fprintf(stderr, "lateen-proxy request: status %u\n", result->status);
        asking->exit_code = result->status > STATUS_GOOD_MAX ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    lt_loop_stop(asking->loop);
}

static int ask(const struct lt_env *env, const struct lt_call_opts *opts)
{
    struct asking asking = {.loop = lt_loop_new(env)};
    lt_call_start(asking.loop, opts, on_done, &asking);
    lt_loop_run(asking.loop);
    lt_loop_free(&asking.loop);
    return asking.exit_code;
}

static int fail_usage(const char *what)
{
    fprintf(stderr,
            "lateen-proxy request: %s\n"
            "usage: lateen-proxy request [--debug-port PORT] [METHOD] PATH [BODY]\n",
            what);
    return EXIT_USAGE;
}

/* As pilot-agent has it, one word is a path, and the slash before it may be missing. */
int px_ask_admin(int argc, char **argv, const struct lt_env *env)
{
    static const struct option options[] = {{"debug-port", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    uint64_t port = PORT_DEFAULT;
    char target[8192];
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'p')
            return EXIT_USAGE; /* getopt has said why */
        if (lt_str_to_u64(lt_str_of(optarg), &port) != LT_OK || port == 0 || port > UINT16_MAX)
            return fail_usage("--debug-port expects a port");
    }
    int words = argc - optind;
    if (words < 1 || words > 3)
        return fail_usage("which path?");
    const char *path = argv[words == 1 ? optind : optind + 1];
    int len = snprintf(target, sizeof(target), "%s%s", path[0] == '/' ? "" : "/", path);
    if (len >= (int)sizeof(target))
        return fail_usage("the path is too long");
    struct lt_call_opts opts = {.method = words > 1 ? lt_str_of(argv[optind]) : LT_STR("GET"),
                                .target = lt_str_of(target),
                                .body = words > 2 ? lt_str_of(argv[optind + 2]) : LT_STR_NULL,
                                .timeout_ms = TIMEOUT_MS,
                                .body_bytes_max = ANSWER_BYTES_MAX};
    if (lt_addr_parse(LT_STR("127.0.0.1"), (uint16_t)port, &opts.addr) != LT_OK)
        return EXIT_FAILURE;
    return ask(env, &opts);
}
