/*
 * ctl/main.c - `lateen`: a whole mesh on one machine, and what a person does with it.
 */
#include <stdio.h>

#include "base/version.h"
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

static const struct ctl_command *find_command(const char *name)
{
    for (size_t i = 0; i < LT_ARRAY_LEN(commands); i++) {
        if (strcmp(name, commands[i]->name) == 0)
            return commands[i];
    }
    return NULL;
}

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words != NULL && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

/* `lateen help up` is `lateen up --help`. */
static int help(char **words, const struct lt_env *env)
{
    const struct ctl_command *command = words[0] != NULL ? find_command(words[0]) : NULL;
    char *argv[] = {words[0], "--help", NULL};
    return command != NULL ? command->run(2, argv, env) : print_commands(stdout);
}

int main(int argc, char **argv)
{
    static const char *const help_words[] = {"help", "--help", "-h", NULL},
                             *const version_words[] = {"version", "--version", NULL};
    struct lt_env env;
    lt_env_init(&env, "lateen");
    if (argc < 2)
        return print_commands(stderr);
    const struct ctl_command *command = find_command(argv[1]);
    if (command != NULL)
        return command->run(argc - 1, argv + 1, &env);
    if (is_one_of(argv[1], help_words))
        return help(argv + 2, &env);
    if (is_one_of(argv[1], version_words))
        return puts("lateen " LT_VERSION) >= 0 ? CTL_EXIT_OK : CTL_EXIT_FAILED;
    fprintf(stderr, "lateen: there is no command \"%s\"\n\n", argv[1]);
    return print_commands(stderr);
}
