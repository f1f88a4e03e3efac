/*
 * proxy/process/main.c - lateen-proxy: options, and which of the two ways it runs.
 * The main thread has configuration, admin and agent; the data path runs in workers.
 * With a bootstrap file: run_bootstrap() here. Under a control plane: mesh.c. What both share:
 * program.c.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/version.h"
#include "proxy/process/ask_admin.h"
#include "proxy/process/program.h"
#include "proxy/process/run_job.h"
#include "proxy/process/supervise.h"

enum { CONFIG_BYTES_MAX = 256 << 20, EXIT_USAGE = 2 };

/* --- the file --- */

static lt_rc read_config(const struct px_options *options, struct lt_buf *out, struct lt_err *err)
{
    if (options->config_yaml != NULL)
        return lt_buf_append_str(out, lt_str_of(options->config_yaml));
    int fd = open(options->config_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return lt_err_errno(err, "cannot read %s", options->config_path);
    lt_rc rc = LT_OK;
    for (;;) {
        char *at = NULL;
        rc = lt_buf_reserve(out, 64 * 1024, &at);
        ssize_t got = rc == LT_OK ? read(fd, at, 64 * 1024) : 0;
        if (got <= 0) {
            rc = rc != LT_OK ? lt_err_set(err, rc, "%s is too large", options->config_path)
                 : got < 0   ? lt_err_errno(err, "cannot read %s", options->config_path)
                             : LT_OK;
            break;
        }
        lt_buf_commit(out, (size_t)got);
    }
    close(fd);
    return rc;
}

static lt_rc load(struct px_program *program, struct lt_err *err)
{
    struct lt_buf text;
    lt_buf_init(&text, CONFIG_BYTES_MAX);
    lt_rc rc = read_config(&program->options, &text, err);
    if (rc == LT_OK)
        rc = px_bootstrap_load(lt_buf_str(&text), program->table, &program->bootstrap, err);
    if (rc != LT_OK && program->options.config_path != NULL && text.end > 0)
        rc = lt_err_wrap(err, rc, "%s", program->options.config_path);
    lt_buf_fini(&text);
    return rc;
}

static void log_unhonoured(void *ctx, const struct px_resource *serving,
                           const struct px_resource *warming, bool is_static LT_UNUSED)
{
    struct px_program *program = ctx;
    const struct px_resource *resource = serving != NULL ? serving : warming;
    for (size_t i = 0; i < px_unhonoured_count(resource); i++)
        lt_log_warn(&program->env.log, "%s '%.*s': %.*s is accepted, but does nothing here",
                    px_resource_kind_name(resource->kind), LT_STR_ARG(resource->name),
                    LT_STR_ARG(resource->extras->unhonoured[i]));
}

static void say_unhonoured(struct px_program *program)
{
    const struct px_bootstrap *bootstrap = &program->bootstrap;
    for (size_t i = 0; i < bootstrap->unhonoured_count; i++)
        lt_log_warn(&program->env.log, "bootstrap: %.*s is accepted, but does nothing here",
                    LT_STR_ARG(bootstrap->unhonoured[i]));
    for (int kind = 0; kind < PX_RESOURCE_KINDS; kind++)
        px_table_each(program->table, (px_resource_kind)kind, log_unhonoured, program);
}

static int run_bootstrap(struct px_program *program)
{
    struct lt_err err = {0};
    if (load(program, &err) != LT_OK) {
        lt_log_error(&program->env.log, "%s", err.text);
        return EXIT_FAILURE;
    }
    if (program->options.mode == PX_MODE_VALIDATE) {
        printf("configuration '%s' OK\n", program->options.config_path != NULL
                                              ? program->options.config_path
                                              : "--config-yaml");
        return EXIT_SUCCESS;
    }
    say_unhonoured(program);
    px_program_watch_signals(program);
    if (px_program_start(program, NULL, &err) != LT_OK) {
        lt_log_error(&program->env.log, "%s", err.text);
        return EXIT_FAILURE;
    }
    lt_log_info(&program->env.log, "serving %zu listeners, %zu clusters, %u workers",
                px_table_count(program->table, PX_LISTENER),
                px_table_count(program->table, PX_CLUSTER), program->options.concurrency);
    px_takeover_serve(program);
    lt_loop_run(program->loop);
    return program->status;
}

static void set_log_level(struct px_program *program)
{
    const char *name = program->options.log_level != NULL ? program->options.log_level
                                                          : program->options.proxy_log_level;
    if (name != NULL && lt_log_level_parse(lt_str_of(name), &program->env.log.level) != LT_OK)
        lt_log_warn(&program->env.log, "unknown log level '%s', using info", name);
    for (size_t i = 0; i < program->options.ignored.count; i++)
        lt_log_info(&program->env.log, "%s is accepted, but does nothing here",
                    (const char *)program->options.ignored.items[i]);
}

/* Before anything is opened. */
static int begin(struct px_program *program, char **argv, struct lt_err *err)
{
    const struct px_options *options = &program->options;
    if (options->mode == PX_MODE_VALIDATE)
        return EXIT_SUCCESS;
    if (px_takeover_begin(program, argv, err) == LT_OK)
        return EXIT_SUCCESS;
    lt_log_error(&program->env.log, "%s", err->text);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct px_program program = {.signals = {.fd = -1}};
    struct lt_err err = {0};
    lt_env_init(&program.env, "lateen-proxy");
    if (argc > 1 && strcmp(argv[1], "request") == 0)
        return px_ask_admin(argc - 1, argv + 1, &program.env);
    if (argc > 1 && strcmp(argv[1], "supervise") == 0)
        return px_supervise();
    if (argc > 1 && (strcmp(argv[1], "run") == 0 || strcmp(argv[1], "wait") == 0))
        return px_run_job(argc - 1, argv + 1, &program.env);
    if (px_options_parse(argc, argv, &program.options, &err) != LT_OK) {
        fprintf(stderr, "lateen-proxy: %s\n", err.text);
        return EXIT_USAGE;
    }
    int status = EXIT_SUCCESS;
    if (program.options.mode == PX_MODE_HELP || program.options.mode == PX_MODE_VERSION) {
        fputs(program.options.mode == PX_MODE_HELP ? px_options_help
                                                   : "lateen-proxy " LT_VERSION "\n",
              stdout);
    } else {
        set_log_level(&program);
        px_program_init(&program);
        bool is_file = program.options.mode == PX_MODE_BOOTSTRAP ||
                       program.options.mode == PX_MODE_VALIDATE;
        status = begin(&program, argv, &err);
        if (status == EXIT_SUCCESS)
            status = is_file ? run_bootstrap(&program) : px_mesh_run(&program);
        px_program_fini(&program);
        status = px_takeover_end(&program, status);
    }
    px_options_fini(&program.options);
    return status;
}
