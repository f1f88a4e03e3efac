/*
 * control/options.h - lateend's command line: istiod's flags. Those that mean nothing here are
 * taken and named, so that a chart's arguments work as they are.
 */
#ifndef CP_CONTROL_OPTIONS_H
#define CP_CONTROL_OPTIONS_H

#include "base/log.h"
#include "control/source_dir.h"

struct cp_options {
    lt_str dirs[CP_SOURCE_DIRS_MAX];
    size_t dir_count;
    lt_str live_dir;                                                   /* empty: none */
    const char *mesh_config;                                           /* NULL: none */
    const char *grpc_addr, *secure_addr, *http_addr, *monitoring_addr; /* "": see main.c */
    lt_str domain;
    lt_log_level log_level;
    int64_t keepalive_interval_ns, keepalive_timeout_ns;
    int64_t connection_age_ns; /* 0: connections may be of any age */
    char ignored[512];         /* flags that were given and mean nothing here; "" */
};

/*
 * LT_OK; LT_EOF: the help was asked for, and written; LT_E_BAD: err says what is wrong. Everything
 * is borrowed from argv.
 */
LT_MUST lt_rc cp_options_parse(int argc, char **argv, struct cp_options *ret_options,
                               struct lt_err *err);

#endif
