/*
 * ctl/main.c - `lateen`: a whole mesh on one machine, and what a person does with it.
 */
#include <stdio.h>

#include "ctl/command.h"

static const struct ctl_command *const commands[] = {
    &ctl_cmd_up,   &ctl_cmd_down, &ctl_cmd_workloads, &ctl_cmd_exec,
    &ctl_cmd_logs, &ctl_cmd_curl, &ctl_cmd_standin,
};

static int print_commands(FILE *out)
{
    fprintf(out, "lateen brings up a service mesh on this machine from ordinary Kubernetes and "
                 "Istio manifests.\n\n"
                 "usage: lateen COMMAND ...\n\n");
    for (size_t i = 0; i < LT_ARRAY_LEN(commands); i++) {
        if (commands[i]->summary != NULL)
            fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    }
    fprintf(out, "\n`lateen COMMAND --help` says more about one.\n");
    return out == stdout ? CTL_EXIT_OK : CTL_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct lt_env env;
    lt_env_init(&env, "lateen");
    if (argc < 2)
        return print_commands(stderr);
    for (size_t i = 0; i < LT_ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(argc - 1, argv + 1, &env);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return print_commands(stdout);
    fprintf(stderr, "lateen: there is no command \"%s\"\n\n", argv[1]);
    return print_commands(stderr);
}
