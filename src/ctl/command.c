/*
 * ctl/command.c - command lines.
 */
#include "ctl/command.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

enum { OPTIONS_MAX = 24, LONG_BASE = 256 };

static void print_help(const struct ctl_command *command)
{
    printf("usage: lateen %s %s\n\n%s.\n%s%s", command->name, command->arguments, command->summary,
           command->help[0] != '\0' ? "\n" : "", command->help);
}

int ctl_fail(const struct lt_err *err)
{
    fprintf(stderr, "lateen: %s\n", err->text);
    return CTL_EXIT_FAILED;
}

int ctl_fail_usage(const struct ctl_command *command, const char *fmt, ...)
{
    va_list args;
    fprintf(stderr, "lateen %s: ", command->name);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nusage: lateen %s %s\n`lateen %s --help` says more.\n", command->name,
            command->arguments, command->name);
    return CTL_EXIT_USAGE;
}

static void list_options(const struct ctl_option *options, size_t count)
{
    fprintf(stderr, "its options:");
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, " --%s", options[i].name);
    fprintf(stderr, "%s\n", count == 0 ? " none" : "");
}

static void take(const struct ctl_option *option, const char *value)
{
    if (option->is_given != NULL)
        *option->is_given = true;
    if (option->on_value != NULL)
        option->on_value(value, option->ctx);
    else if (option->value != NULL)
        *option->value = value;
}

static const struct ctl_option *find_option(const struct ctl_option *options, size_t count,
                                            int found)
{
    for (size_t i = 0; i < count; i++) {
        if (found == LONG_BASE + (int)i || (options[i].letter != 0 && found == options[i].letter))
            return &options[i];
    }
    return NULL;
}

static int refuse(const struct ctl_command *command, int found, char **argv,
                  const struct ctl_option *options, size_t count)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    bool is_letter = optopt > 0 && optopt < LONG_BASE; /* maybe one of several in a word */
    const char *word = is_letter ? letter : argv[optind - 1];
    int rc = found == ':' ? ctl_fail_usage(command, "option %s needs a value", word)
                          : ctl_fail_usage(command, "unknown option %s", word);
    list_options(options, count);
    return rc;
}

bool ctl_options_parse(const struct ctl_command *command, int *argc, char **argv,
                       const struct ctl_option *options, size_t count, int *ret_exit)
{
    struct option longs[OPTIONS_MAX + 2] = {0};
    char shorts[2 * OPTIONS_MAX + 4] = ":h";
    size_t at = 2;
    LT_ASSERT(count <= OPTIONS_MAX);
    for (size_t i = 0; i < count; i++) {
        bool has_value = options[i].value != NULL || options[i].on_value != NULL;
        longs[i] = (struct option){options[i].name, has_value ? required_argument : no_argument,
                                   NULL, LONG_BASE + (int)i};
        if (options[i].letter != 0) {
            shorts[at++] = options[i].letter;
            if (has_value)
                shorts[at++] = ':';
        }
    }
    longs[count] = (struct option){"help", no_argument, NULL, 'h'};
    opterr = 0;
    optind = 1;
    for (int found; (found = getopt_long(*argc, argv, shorts, longs, NULL)) != -1;) {
        const struct ctl_option *option = find_option(options, count, found);
        if (option != NULL) {
            take(option, optarg);
            continue;
        }
        if (found == 'h')
            print_help(command);
        *ret_exit = found == 'h' ? CTL_EXIT_OK : refuse(command, found, argv, options, count);
        return false;
    }
    int words = *argc - optind;
    memmove(&argv[1], &argv[optind], (size_t)words * sizeof(*argv));
    argv[1 + words] = NULL;
    *argc = 1 + words;
    return true;
}
