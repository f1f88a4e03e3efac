/*
 * proxy/start/options.h - the command line of lateen-proxy: Envoy's flags, pilot-agent's `proxy
 * sidecar|router`. Flags that mean nothing here are accepted with one log line, so that scripts
 * written for Envoy work.
 */
#ifndef LT_PROXY_START_OPTIONS_H
#define LT_PROXY_START_OPTIONS_H

#include "base/vec.h"
#include "net/addr.h"

typedef enum {
    PX_MODE_BOOTSTRAP,
    PX_MODE_SIDECAR,
    PX_MODE_ROUTER,
    PX_MODE_HELP,
    PX_MODE_VERSION,
    PX_MODE_VALIDATE
} px_mode;

struct px_options {
    px_mode mode;
    const char *config_path; /* -c */
    const char *config_yaml; /* --config-yaml; merged over the file by Envoy, alone here */
    /* workers; 0: one for each CPU of a -c proxy, 2 for a sidecar (Istio's default) */
    unsigned concurrency;
    const char *log_level; /* -l */
    const char *service_node, *service_cluster, *service_zone;
    const char *admin_address_path;
    unsigned drain_time_s;           /* 600 */
    const char *drain_strategy;      /* "gradual" (default) or "immediate" */
    unsigned parent_shutdown_time_s; /* 900 */
    unsigned restart_epoch, base_id; /* 0 */
    const char *socket_path;         /* where processes of one base id meet */
    const char *base_id_path;        /* where to write the base id */
    bool has_no_hot_restart, skips_missing_parent, picks_base_id;
    const char *memory_limit;        /* "64Mi"; NULL: the control group's */
    const char *domain;              /* --domain, of the agent */
    const char *proxy_log_level;     /* --proxyLogLevel */
    const char *component_log_level; /* --proxyComponentLogLevel */
    const char *run_mode;            /* --mode: "serve" or "validate" */
    struct lt_vec ignored;           /* of const char *: flags that were accepted and do nothing */
};

/*
 * argv[0] decides too: a program called "envoy" takes Envoy's flags, "pilot-agent" the agent's
 * commands. LT_E_BAD names the flag.
 */
LT_MUST lt_rc px_options_parse(int argc, char **argv, struct px_options *ret_options,
                               struct lt_err *err);
void px_options_fini(struct px_options *options);
extern const char px_options_help[];

#endif
