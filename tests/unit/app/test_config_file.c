/* test_config_file.c - the option file: what is read, and what is refused with its line. */
#include <stdlib.h>
#include <unistd.h>

#include "app/config.h"
#include "app/config_internal.h"
#include "base/alloc.h"
#include "test.h"

static error err;

/* Defaults, then the text as "f.yaml". */
static status parse(config *c, command cmd, const char *text) {
    err = (error){0};
    CHECK_EQ(config_init(c, cmd, &err), OK);
    return config_file_parse(c, str_of(text), "f.yaml", &err);
}

static void check_refused(const char *text, const char *words) {
    config c;
    CHECK_EQ(parse(&c, COMMAND_SERVE, text), ERR_FORMAT);
    CHECK_HAS(err.msg, words);
    config_deinit(&c);
}

TEST(config_file_reads_yaml) {
    config c;
    CHECK_EQ(parse(&c, COMMAND_SERVE,
                   "# a comment\n"
                   "models: [tiny=/m/t.gguf, b.gguf]\n"
                   "server:\n"
                   "  host: 0.0.0.0\n"
                   "  port: 9000\n"
                   "  cors_origins:\n"
                   "    - https://a.example\n"
                   "    - '*'\n"
                   "  api_key: \"s3cret\"\n"
                   "engine:\n"
                   "  gpu: off\n"
                   "  kv_bytes_max: 2GiB\n"
                   "sched.queue_max: 7\n"
                   "limits: {choices_max: 4, idle_ms_max: 5s}\n"),
             OK);
    CHECK_EQ(c.models.count, 2);
    CHECK_STR(c.models.items[1].p, "b.gguf");
    CHECK_STR(c.host.p, "0.0.0.0");
    CHECK_EQ(c.port, 9000);
    CHECK_EQ(c.cors_origins.count, 2);
    CHECK_STR(c.cors_origins.items[1].p, "*");
    CHECK_STR(c.api_key.p, "s3cret");
    CHECK_EQ(c.gpu, CONFIG_GPU_OFF);
    CHECK_EQ(c.kv_bytes_max, 2LL << 30);
    CHECK_EQ(c.queue_max, 7);
    CHECK_EQ(c.choices_max, 4);
    CHECK_EQ(c.idle_ms_max, 5000);
    CHECK(config_is_given(&c, "port") && !config_is_given(&c, "threads"));
    config_deinit(&c);
}

TEST(config_file_reads_json) {
    config c;
    CHECK_EQ(parse(&c, COMMAND_SERVE,
                   "{\"server\": {\"port\": 9000, \"host\": \"::1\"},\n"
                   " \"models\": [\"a\"], \"engine.numerics\": \"exact\", \"log\": null,\n"
                   "\t\"engine\": {\"threads\": null}}"),
             OK);
    CHECK_EQ(c.port, 9000);
    CHECK_STR(c.host.p, "::1");
    CHECK_EQ(c.models.count, 1);
    CHECK_EQ(c.numerics, CONFIG_NUMERICS_EXACT);
    config_deinit(&c);
}

TEST(config_file_may_be_empty) {
    static const char *const texts[] = {
        "",   "\n",     "# nothing\n", "---\n",
        "{}", "null\n", "server:\n",   "server:\n  #port: 1\nengine: ~\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        config c;
        CHECK_EQ(parse(&c, COMMAND_SERVE, texts[i]), OK);
        CHECK_EQ(c.port, 8080);
        config_deinit(&c);
    }
}

TEST(config_file_errors_name_line_and_option) {
    check_refused("server:\n  host: h\n  port: 99999\n",
                  "f.yaml:3: server.port: 99999 is outside 0 to 65535");
    check_refused("server:\n  prot: 1\n",
                  "f.yaml:2: unknown option 'server.prot'; did you mean 'server.port'?");
    check_refused("serve:\n  port: 1\n", "f.yaml:1: unknown option 'serve'");
    check_refused("run.temperature: 1\n", "'run.temperature' cannot be set in a file");
    check_refused("engine:\n  gpu: maybe\n", "engine.gpu: 'maybe' is not one of require");
    check_refused("server: 5\n", "'server' is a group of options, want a map");
    check_refused("server: [a]\n", "'server' is a group of options, want a map");
    check_refused("server:\n  port: [1]\n", "server.port: want one value, found a list");
    check_refused("server:\n  port: {a: 1}\n", "server.port: want one value, found a map");
    check_refused("models: [[a]]\n", "models: want one value, found a list");
    check_refused("- a\n", "want a map of options");
    check_refused("[1]: 2\n", "a key must be a name");
    check_refused("server:\n  api_key: ''\n", "server.api_key: is empty");
    check_refused("server:\n  host: \"a\\0b\"\n", "server.host: contains a NUL byte");
}

TEST(config_file_refuses_surprises) {
    check_refused("server:\n  port: 1\n  port: 2\n", "f.yaml:3: 'server.port' is given twice");
    check_refused("server.port: 1\nserver: {port: 2}\n", "'server.port' is given twice");
    check_refused("server:\n  port: 1\nserver:\n  host: a\n", "f.yaml:3: 'server' is given twice");
    check_refused("server: &a\n  port: 1\n", "anchors are not supported");
    check_refused("server:\n  host: &a x\n", "anchors are not supported");
    check_refused("server:\n  host: *a\n", "aliases are not supported");
    check_refused("server:\n  port: !!int 5\n", "tags are not supported");
    check_refused("server:\n  port: 1\n---\nserver:\n  port: 2\n", "a second document begins");
    check_refused("server: {port: 1\n", "f.yaml:2: ");
    check_refused("\x80\n", "f.yaml:1: ");
}

TEST(config_file_is_weaker_than_what_is_there) {
    config c;
    char *env[] = {"GANTRY_THREADS=2", NULL};
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/gantry-test-config-%d.yaml", (int)getpid());
    FILE *fp = fopen(path, "w");
    CHECK(fp != NULL);
    if (fp == NULL) return;
    (void)fputs("engine: {threads: 1, ctx: 64, parallel: 3}\nmodels: [x]\n"
                "server: {host: 'h:90'}\n",
                fp);
    (void)fclose(fp);
    char *argv[] = {"--config", path, "--ctx", "128", NULL};
    CHECK_EQ(config_load_from(&c, COMMAND_SERVE, 4, argv, env, &err), OK);
    CHECK_EQ(c.ctx_tokens, 128); /* flag */
    CHECK_EQ(c.threads, 2);      /* variable */
    CHECK_EQ(c.parallel, 3);     /* file */
    CHECK_EQ(c.models.count, 1);
    CHECK_EQ(c.port, 90);
    CHECK_STR(c.config_file.p, path);
    config_deinit(&c);
    (void)unlink(path);
    CHECK_EQ(config_load_from(&c, COMMAND_SERVE, 4, argv, env, &err), ERR_NOT_FOUND);
    CHECK_HAS(err.msg, path);
}

TEST(config_file_serves_other_commands_too) {
    config c;
    CHECK_EQ(parse(&c, COMMAND_RUN, "server: {port: 9}\nengine: {threads: 3, kv: f32}\n"), OK);
    CHECK_EQ(c.threads, 3);
    CHECK_EQ(c.kv, CONFIG_KV_F32);
    CHECK_EQ(c.port, 8080); /* not an option of run: checked, not taken */
    config_deinit(&c);
    CHECK_EQ(parse(&c, COMMAND_RUN, "server: {port: 99999}\n"), ERR_FORMAT);
    config_deinit(&c);
    CHECK_EQ(parse(&c, COMMAND_LOGITS, "engine: {kv: f16}\n"), OK);
    CHECK_EQ(c.kv, CONFIG_KV_F32); /* logits has its own default, which no file changes */
    config_deinit(&c);
}

TEST(config_file_has_a_size_limit) {
    config c;
    size_t n = (1u << 20) + 1;
    char *text = mem_alloc(n);
    memset(text, '#', n);
    CHECK_EQ(config_init(&c, COMMAND_SERVE, &err), OK);
    CHECK_EQ(config_file_parse(&c, (str){text, n}, "f.yaml", &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "1048577 bytes, at most 1048576 are read");
    CHECK_EQ(config_file_parse(&c, (str){text, n - 1}, "f.yaml", &err), OK);
    config_deinit(&c);
    mem_free(text);
}
