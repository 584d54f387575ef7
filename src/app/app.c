/* app.c - argv to a command, its error to stderr and an exit status. */
#include "app/app.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "app/commands.h"
#include "backend/cuda/blob.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/os.h"
#include "obs/metrics.h"

enum { TEXT_BYTES_MAX = 1 << 20 };

typedef status command_fn(const config *c, error *err);

static command_fn *const command_fns[COMMAND_COUNT] = {
    [COMMAND_LORA] = command_lora,
    [COMMAND_RENDER] = command_render,
    [COMMAND_SERVE] = command_serve,
    [COMMAND_RUN] = command_run,
    [COMMAND_TOKENIZE] = command_tokenize,
    [COMMAND_DETOKENIZE] = command_detokenize,
    [COMMAND_LOGITS] = command_logits,
    [COMMAND_PERPLEXITY] = command_perplexity,
    [COMMAND_EMBED] = command_embed,
    [COMMAND_BENCH] = command_bench,
    [COMMAND_DEQUANTIZE] = command_dequantize,
    [COMMAND_QUANTIZE] = command_quantize,
    [COMMAND_CONVERT] = command_convert,
    [COMMAND_INSPECT] = command_inspect,
    [COMMAND_GPUS] = command_gpus,
    [COMMAND_DOCTOR] = command_doctor,
};

/* --- text on stdout -------------------- */

static int print(const buf *b) {
    error err = {0};
    if (os_write_full(1, b->p, b->n, &err) == OK) return 0;
    (void)fprintf(stderr, "gantry: %s\n", err.msg);
    return 1;
}

static int print_version(void) {
    if (cuda_blobs_count > 0)
        printf("gantry %s, cuda kernels: %zu embedded\n", GANTRY_VERSION, cuda_blobs_count);
    else
        printf("gantry %s, built without cuda kernels (nvcc was not found)\n", GANTRY_VERSION);
    return 0;
}

static int print_usage(FILE *to, int exit_status) {
    static const char *const lines[] = {
#define COMMAND_LINE(id, name, args, help) "  " name "\t" args "\t" help,
        COMMANDS(COMMAND_LINE)
#undef COMMAND_LINE
    };
    (void)fprintf(to, "usage: gantry COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        int name = (int)strcspn(lines[i], "\t");
        const char *args = lines[i] + name + 1;
        int args_n = (int)strcspn(args, "\t");
        (void)fprintf(to, "%-*.*s %-11.*s %s\n", 14, name, lines[i], args_n, args,
                      args + args_n + 1);
    }
    (void)fprintf(to,
                  "\ngantry COMMAND --help tells its options; gantry --version what is built in\n");
    return exit_status;
}

/* --- generated documents: `make docs` -------------------- */

static int print_document(const char *which) {
    static const struct {
        const char *name;
        void (*fill)(buf *out);
    } documents[] = {
        {"config", config_doc_markdown},
        {"example", config_doc_example},
        {"metrics", metrics_doc},
    };
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        if (strcmp(documents[i].name, which) != 0) continue;
        buf out;
        buf_init(&out, TEXT_BYTES_MAX);
        documents[i].fill(&out);
        int rc = print(&out);
        buf_deinit(&out);
        return rc;
    }
    (void)fprintf(stderr, "gantry: no document '%s'; there are config, example, metrics\n", which);
    return 2;
}

/* --- commands -------------------- */

static int print_help(command cmd) {
    buf out;
    buf_init(&out, TEXT_BYTES_MAX);
    config_help(cmd, &out);
    int rc = print(&out);
    buf_deinit(&out);
    return rc;
}

static int run_command(command cmd, int argc, char **argv) {
    static const log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR};
    config c;
    error err = {0};
    /* Only the server logs its life; other commands speak through results and errors. */
    log_set_level(cmd == COMMAND_SERVE ? LOG_INFO : LOG_WARN);
    if (config_load(&c, cmd, argc, argv, &err) != OK) {
        (void)fprintf(stderr, "gantry %s: %s\n", command_name(cmd), err.msg);
        return err.code == ERR_INVALID ? 2 : 1;
    }
    int rc = 0;
    if (c.help) {
        rc = print_help(cmd);
    } else {
        if (cmd == COMMAND_SERVE || config_is_given(&c, "log-level"))
            log_set_level(levels[c.log_level]);
        bool usage = false;
        status st = command_fns[cmd](&c, &err);
        if (st != OK) {
            usage = st == ERR_INVALID && strncmp(err.msg, "usage: ", 7) == 0;
            (void)fprintf(stderr, "gantry %s: %s\n", command_name(cmd), err.msg);
        }
        rc = st == OK ? 0 : usage ? 2 : 1;
    }
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
        (void)fprintf(stderr, "gantry %s: stdout cannot be written\n", command_name(cmd));
        rc = 1;
    }
    config_deinit(&c);
    return rc;
}

int app_run(int argc, char **argv) {
    command cmd = COMMAND_SERVE;
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of the write */
    if (argc < 2) return print_usage(stderr, 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return print_usage(stdout, 0);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0)
        return print_version();
    if (strcmp(argv[1], "docs") == 0 && argc == 3) return print_document(argv[2]);
    if (command_from_name(argv[1], &cmd)) return run_command(cmd, argc - 2, argv + 2);
    (void)fprintf(stderr, "gantry: no command '%s'\n\n", argv[1]);
    return print_usage(stderr, 2);
}
