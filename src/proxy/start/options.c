/*
 * proxy/start/options.c - the command line. The table of flags first, for the parser walks it.
 */
#include "proxy/start/options.h"

#include "proxy/run/pressure.h"

#include <stdlib.h>

typedef enum {
    FLAG_TEXT,
    FLAG_NUMBER,
    FLAG_SWITCH,
    FLAG_IGNORED_TEXT,
    FLAG_IGNORED_BARE
} flag_kind;

struct flag {
    const char *name; /* "--x" */
    const char *short_name;
    flag_kind kind;
    size_t offset;
};

#define TEXT(name, short_name, field) \
    { \
        name, short_name, FLAG_TEXT, offsetof(struct px_options, field) \
    }
#define NUMBER(name, field) \
    { \
        name, NULL, FLAG_NUMBER, offsetof(struct px_options, field) \
    }
#define SWITCH(name, field) \
    { \
        name, NULL, FLAG_SWITCH, offsetof(struct px_options, field) \
    }
#define IGNORED(name, short_name) \
    { \
        name, short_name, FLAG_IGNORED_TEXT, 0 \
    }
#define BARE(name) \
    { \
        name, NULL, FLAG_IGNORED_BARE, 0 \
    }

static const struct flag flags[] = {
    TEXT("--config-path", "-c", config_path),
    TEXT("--config-yaml", NULL, config_yaml),
    TEXT("--mode", NULL, run_mode),
    TEXT("--log-level", "-l", log_level),
    TEXT("--service-node", NULL, service_node),
    TEXT("--service-cluster", NULL, service_cluster),
    TEXT("--service-zone", NULL, service_zone),
    TEXT("--admin-address-path", NULL, admin_address_path),
    TEXT("--domain", NULL, domain),
    TEXT("--proxyComponentLogLevel", NULL, component_log_level),
    TEXT("--proxyLogLevel", NULL, proxy_log_level),
    TEXT("--memory-limit", NULL, memory_limit),
    TEXT("--socket-path", NULL, socket_path),
    TEXT("--base-id-path", NULL, base_id_path),
    NUMBER("--base-id", base_id),
    NUMBER("--restart-epoch", restart_epoch),
    SWITCH("--disable-hot-restart", has_no_hot_restart),
    SWITCH("--skip-hot-restart-on-no-parent", skips_missing_parent),
    SWITCH("--use-dynamic-base-id", picks_base_id),
    NUMBER("--concurrency", concurrency),
    TEXT("--drain-strategy", NULL, drain_strategy),
    NUMBER("--drain-time-s", drain_time_s),
    NUMBER("--parent-shutdown-time-s", parent_shutdown_time_s),
    IGNORED("--component-log-level", NULL),
    IGNORED("--file-flush-interval-msec", NULL),
    IGNORED("--file-flush-min-size-kb", NULL),
    IGNORED("--hot-restart-version", NULL),
    IGNORED("--local-address-ip-version", NULL),
    IGNORED("--log-format", NULL),
    IGNORED("--log-path", NULL),
    IGNORED("--log_output_level", NULL),
    IGNORED("--outlierLogPath", NULL),
    IGNORED("--socket-mode", NULL),
    IGNORED("--stats-tag", NULL),
    IGNORED("--stsPort", NULL),
    IGNORED("--templateFile", NULL),
    IGNORED("--tokenManagerPlugin", NULL),
    BARE("--allow-unknown-fields"),
    BARE("--allow-unknown-static-fields"),
    BARE("--cpuset-threads"),
    BARE("--disable-extensions"),
    BARE("--enable-core-dump"),
    BARE("--enable-fine-grain-logging"),
    BARE("--enable-mutex-tracing"),
    BARE("--ignore-unknown-dynamic-fields"),
    BARE("--log-format-escaped"),
    BARE("--reject-unknown-dynamic-fields"),
    BARE("--skip-deprecated-logs"),
    BARE("--skip-hot-restart-parent-stats"),
};

static const struct flag *find_flag(lt_str name)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(flags); i++) {
        if (lt_str_eqz(name, flags[i].name) ||
            (flags[i].short_name != NULL && lt_str_eqz(name, flags[i].short_name)))
            return &flags[i];
    }
    return NULL;
}

static lt_rc set_flag(struct px_options *options, const struct flag *flag, const char *value,
                      struct lt_err *err)
{
    char *at = (char *)options + flag->offset;
    uint64_t number = 0;
    switch (flag->kind) {
    case FLAG_SWITCH: *(bool *)(void *)at = true; return LT_OK;
    case FLAG_TEXT: *(const char **)(void *)at = value; return LT_OK;
    case FLAG_NUMBER:
        if (lt_str_to_u64(lt_str_of(value), &number) != LT_OK || number > 100000)
            return lt_err_set(err, LT_E_BAD, "%s: expected a number, got '%s'", flag->name, value);
        *(unsigned *)(void *)at = (unsigned)number;
        return LT_OK;
    default: lt_vec_push(&options->ignored, (void *)flag->name); return LT_OK;
    }
}

static lt_rc parse_flag(int argc, char **argv, int *at, struct px_options *options,
                        struct lt_err *err)
{
    lt_str arg = lt_str_of(argv[*at]);
    ptrdiff_t equals = lt_str_find_char(arg, '=');
    lt_str name = equals < 0 ? arg : lt_str_slice(arg, 0, (size_t)equals);
    const struct flag *flag = find_flag(name);
    if (flag == NULL)
        return lt_err_set(err, LT_E_BAD, "unknown flag %.*s (lateen-proxy --help lists them)",
                          LT_STR_ARG(name));
    if (flag->kind == FLAG_IGNORED_BARE || flag->kind == FLAG_SWITCH)
        return set_flag(options, flag, "", err);
    if (equals >= 0)
        return set_flag(options, flag, arg.ptr + equals + 1, err);
    if (*at + 1 >= argc)
        return lt_err_set(err, LT_E_BAD, "%.*s needs a value", LT_STR_ARG(name));
    return set_flag(options, flag, argv[++*at], err);
}

static bool is_any(const char *arg, const char *a, const char *b)
{
    return strcmp(arg, a) == 0 || strcmp(arg, b) == 0;
}

/* `proxy sidecar` and `proxy router`; the type may be left out. */
static int parse_command(int argc, char **argv, struct px_options *options)
{
    if (argc < 2 || strcmp(argv[1], "proxy") != 0)
        return 1;
    options->mode = PX_MODE_SIDECAR;
    if (argc < 3 || argv[2][0] == '-')
        return 2;
    if (strcmp(argv[2], "router") == 0)
        options->mode = PX_MODE_ROUTER;
    else if (strcmp(argv[2], "sidecar") != 0)
        return 2; /* to be refused as an argument that means nothing */
    return 3;
}

static lt_rc check(const struct px_options *options, const char *mode, struct lt_err *err)
{
    if (mode != NULL && strcmp(mode, "serve") != 0 && strcmp(mode, "validate") != 0)
        return lt_err_set(err, LT_E_BAD, "--mode: expected serve or validate, got '%s'", mode);
    const char *strategy = options->drain_strategy;
    if (strategy != NULL && !is_any(strategy, "gradual", "immediate"))
        return lt_err_set(err, LT_E_BAD,
                          "--drain-strategy: expected gradual or immediate, got '%s'", strategy);
    uint64_t limit = 0;
    if (options->memory_limit != NULL &&
        px_pressure_parse(lt_str_of(options->memory_limit), &limit) != LT_OK)
        return lt_err_set(err, LT_E_BAD, "--memory-limit: expected a quantity as 64Mi, got '%s'",
                          options->memory_limit);
    if (options->mode <= PX_MODE_BOOTSTRAP && options->config_path == NULL &&
        options->config_yaml == NULL)
        return lt_err_set(
            err, LT_E_BAD,
            "a configuration is needed: -c FILE, or `proxy sidecar` under a control plane");
    return LT_OK;
}

lt_rc px_options_parse(int argc, char **argv, struct px_options *ret, struct lt_err *err)
{
    struct px_options options = {.mode = PX_MODE_BOOTSTRAP,
                                 .drain_time_s = 600,
                                 .parent_shutdown_time_s = 900,
                                 .socket_path = "@lateen_proxy"};
    lt_rc rc = LT_OK;
    for (int at = parse_command(argc, argv, &options); at < argc && rc == LT_OK; at++) {
        if (is_any(argv[at], "--help", "-h"))
            options.mode = PX_MODE_HELP;
        else if (is_any(argv[at], "--version", "version"))
            options.mode = PX_MODE_VERSION;
        else if (argv[at][0] != '-')
            rc = lt_err_set(err, LT_E_BAD, "unexpected argument '%s'", argv[at]);
        else
            rc = parse_flag(argc, argv, &at, &options, err);
    }
    if (rc == LT_OK)
        rc = check(&options, options.run_mode, err);
    if (rc == LT_OK && options.mode == PX_MODE_BOOTSTRAP && options.run_mode != NULL &&
        strcmp(options.run_mode, "validate") == 0)
        options.mode = PX_MODE_VALIDATE;
    if (rc != LT_OK) {
        px_options_fini(&options);
        return rc;
    }
    *ret = options;
    return LT_OK;
}

void px_options_fini(struct px_options *options)
{
    lt_vec_fini(&options->ignored);
}

const char px_options_help[] =
    "lateen-proxy: sidecar and gateway proxy\n"
    "\n"
    "  lateen-proxy -c FILE                 run an Envoy bootstrap (JSON or YAML)\n"
    "  lateen-proxy proxy sidecar|router    run under a control plane, configured by Istio's environment\n"
    "  lateen-proxy request [METHOD] PATH   ask the admin port of the one that runs (--debug-port 15000)\n"
    "  lateen-proxy run -- COMMAND          wait for the sidecar, run a job, end the sidecar (run --help)\n"
    "  lateen-proxy wait                    wait for the sidecar (--timeoutSeconds 60)\n"
    "\n"
    "Flags of the first form, as Envoy's:\n"
    "  -c, --config-path FILE     the bootstrap\n"
    "      --config-yaml TEXT     the bootstrap, given here\n"
    "      --mode serve|validate  validate: say whether the bootstrap is good, and end\n"
    "      --concurrency N        worker threads (default: one a CPU)\n"
    "  -l, --log-level LEVEL      trace debug info warning error off\n"
    "      --service-node ID, --service-cluster NAME, --service-zone ZONE\n"
    "      --admin-address-path FILE   where to write the admin server's address\n"
    "      --drain-time-s N       how long connections drain (default 600)\n"
    "      --drain-strategy gradual|immediate   whether they are asked to leave within that time, or at once\n"
    "      --restart-epoch N      take the place of the one that runs with epoch N - 1 and the same --base-id\n"
    "      --base-id N, --base-id-path FILE, --use-dynamic-base-id, --socket-path PATH, --disable-hot-restart\n"
    "      --parent-shutdown-time-s N   when the one before ends whoever is left (default 900)\n"
    "      --memory-limit 64Mi    the ceiling of its memory (default: nine tenths of the control group's limit; 0: none)\n"
    "SIGUSR2 does the same by itself in both forms: the program at the same path takes over.\n"
    "Flags of the second form, as pilot-agent's: --domain, --proxyLogLevel,\n"
    "--proxyComponentLogLevel (of a real Envoy), --concurrency.\n"
    "Other flags of Envoy and pilot-agent are accepted and do nothing.\n";
