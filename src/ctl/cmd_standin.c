/*
 * ctl/cmd_standin.c - `lateen standin`: what `lateen up` starts for a container whose program is
 * not here. Not for people.
 */
#include <stdio.h>

#include "ctl/command.h"
#include "ctl/standin.h"

enum { PORTS_MAX = 64 };

struct ports {
    uint16_t items[PORTS_MAX];
    size_t count;
    bool is_bad;
};

static void add_port(const char *text, void *ctx)
{
    struct ports *ports = ctx;
    uint64_t port;
    if (ports->count == PORTS_MAX || lt_str_to_u64(lt_str_of(text), &port) != LT_OK || port == 0 ||
        port > UINT16_MAX)
        ports->is_bad = true;
    else
        ports->items[ports->count++] = (uint16_t)port;
}

static const char *env_or_empty(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

static int run_standin(int argc, char **argv, const struct lt_env *env)
{
    struct ports ports = {0};
    const char *ends_for = NULL;
    const struct ctl_option options[] = {
        {.name = "port", .letter = 'p', .on_value = add_port, .ctx = &ports},
        {.name = "ends-for", .value = &ends_for}};
    struct lt_err err = {0};
    int code;
    if (!ctl_options_parse(&ctl_cmd_standin, &argc, argv, options, LT_ARRAY_LEN(options), &code))
        return code;
    if (ports.is_bad)
        return ctl_fail_usage(&ctl_cmd_standin,
                              "--port expects a number from 1 to 65535, at most %d times",
                              PORTS_MAX);
    if (ends_for != NULL) {
        printf("lateen: %s is not on this machine; its stand-in ends at once, with exit code 0\n",
               ends_for);
        return CTL_EXIT_OK;
    }
    const struct ctl_standin_opts opts = {
        .ports = ports.items,
        .port_count = ports.count,
        .pod = env_or_empty("LATEEN_POD"),
        .ns = env_or_empty("LATEEN_NAMESPACE"),
        .workload = env_or_empty("LATEEN_WORKLOAD"),
        .version = env_or_empty("LATEEN_VERSION"),
        .calls = env_or_empty("LATEEN_CALLS"),
    };
    return ctl_standin_run(env, &opts, &err) == LT_OK ? CTL_EXIT_OK : ctl_fail(&err);
}

const struct ctl_command ctl_cmd_standin = {
    .name = "standin",
    .arguments = "[--port PORT]... | --ends-for PROGRAM",
    .summary = NULL,
    .help = "",
    .run = run_standin,
};
