/*
 * proxy/process/supervise.c - waits for children and passes signals on.
 * Who takes the place of a child in its turn is a child of ours, too (CLONE_PARENT), so there may
 * be several for a while: the last one that was not replaced says how it was.
 */
#include "proxy/process/supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"

enum { BY_SIGNAL = 128, CHILDREN_BYTES = 4096 };

void px_supervise_pass_on(int number)
{
    char path[64], text[CHILDREN_BYTES];
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    size_t len = file != NULL ? fread(text, 1, sizeof(text) - 1, file) : 0;
    if (file != NULL)
        fclose(file);
    text[len] = '\0';
    char *rest = text;
    for (;;) {
        char *end = rest;
        long pid = strtol(rest, &end, 10);
        if (end == rest)
            return;
        if (pid > 1)
            (void)kill((pid_t)pid, number);
        rest = end;
    }
}

bool px_supervise_reap(int *code)
{
    int status = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (!WIFEXITED(status) || WEXITSTATUS(status) != PX_EXIT_FOLLOWS)
            *code = WIFSIGNALED(status) ? BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
    }
    return pid == 0;
}

int px_supervise(void)
{
    static const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t set;
    int code = EXIT_FAILURE;
    sigemptyset(&set);
    for (size_t i = 0; i < LT_ARRAY_LEN(passed); i++)
        sigaddset(&set, passed[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    while (px_supervise_reap(&code)) {
        int number = 0;
        if (sigwait(&set, &number) == 0 && number != SIGCHLD)
            px_supervise_pass_on(number);
    }
    return code;
}
