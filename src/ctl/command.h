/*
 * ctl/command.h - the commands of `lateen`: one file each (cmd_*.c), one table (main.c).
 */
#ifndef LT_CTL_COMMAND_H
#define LT_CTL_COMMAND_H

#include "base/env.h"
#include "base/err.h"

/* Exit codes besides the command's own. */
enum { CTL_EXIT_OK = 0, CTL_EXIT_FAILED = 1, CTL_EXIT_USAGE = 2 };

struct ctl_command {
    const char *name;
    const char *arguments; /* "DIR", as in the usage line */
    const char *summary;   /* one line; NULL: not listed */
    const char *help;      /* the rest of its help: options and examples */
    /* argv[0] is the command's name. Returns the exit code. */
    int (*run)(int argc, char **argv, const struct lt_env *env);
};

extern const struct ctl_command ctl_cmd_up, ctl_cmd_down, ctl_cmd_workloads, ctl_cmd_exec,
    ctl_cmd_logs, ctl_cmd_curl, ctl_cmd_standin;

/*
 * Options of a command, in the manner of getopt_long: the value of each is put where it says. The
 * words that are no options remain in argv from 1 to *argc - 1.
 */
struct ctl_option {
    const char *name;   /* "mesh" for --mesh */
    char letter;        /* 'm' for -m, or 0 */
    const char **value; /* takes one; NULL: a switch */
    bool *is_given;     /* may be NULL for options with a value */
    void (*on_value)(const char *value,
                     void *ctx); /* instead of `value`, for options that may come several times */
    void *ctx;
};

/*
 * Everything behind "--" is left alone and counts as words. False: something was wrong and has been
 * said, or --help was asked for and given; *ret_exit is what to exit with.
 */
bool ctl_options_parse(const struct ctl_command *command, int *argc, char **argv,
                       const struct ctl_option *options, size_t count, int *ret_exit);

/* "lateen: <text>" on stderr; CTL_EXIT_FAILED. */
int ctl_fail(const struct lt_err *err);
/* Says what is wrong with the command line and how it should be; CTL_EXIT_USAGE. */
int ctl_fail_usage(const struct ctl_command *command, const char *fmt, ...) LT_PRINTF(2, 3);

#endif
