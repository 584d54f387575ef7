/* test_config.c - flags, variables, their order, and messages that help. */
#include <stdlib.h>

#include "app/config.h"
#include "app/config_internal.h"
#include "base/alloc.h"
#include "base/log.h"
#include "test.h"

static error err;
static char *no_env[] = {NULL};

/* Loads with the blank-separated arguments; a test looks at one configuration at a time. */
static status load_env(config *c, command cmd, const char *arguments, char *const *env) {
    static char line[1024];
    static char *argv[64];
    int argc = 0;
    char *save = NULL;
    (void)snprintf(line, sizeof line, "%s", arguments);
    for (char *p = strtok_r(line, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
        argv[argc++] = p;
    argv[argc] = NULL;
    err = (error){0};
    return config_load_from(c, cmd, argc, argv, env, &err);
}

static status load(config *c, command cmd, const char *arguments) {
    return load_env(c, cmd, arguments, no_env);
}

/* The arguments are refused with words in the message. */
static void check_refused(command cmd, const char *arguments, const char *words) {
    config c;
    CHECK_EQ(load(&c, cmd, arguments), ERR_INVALID);
    CHECK_HAS(err.msg, words);
    config_deinit(&c);
}

TEST(config_defaults_are_those_of_the_table) {
    config c;
    CHECK_EQ(load(&c, COMMAND_SERVE, ""), OK);
    CHECK_STR(c.host.p, "127.0.0.1");
    CHECK_EQ(c.port, 8080);
    CHECK_EQ(c.parallel, 32);
    CHECK_EQ(c.gpu, CONFIG_GPU_PREFER);
    CHECK_EQ(c.kv, CONFIG_KV_F16);
    CHECK_EQ(c.step_ms_target, 250);
    CHECK_EQ(c.drain_ms_max, 30000);
    CHECK_EQ(c.request_bytes_max, 16 << 20);
    CHECK_EQ(c.log_level, CONFIG_LOG_LEVEL_INFO);
    CHECK_EQ(c.api_key.n, 0);
    CHECK_EQ(c.models.count, 0);
    CHECK(c.temperature == 0.8F); /* of another command, but set */
    CHECK_EQ(c.batch.count, 1);
    CHECK(!config_is_given(&c, "port"));
    config_deinit(&c);
}

TEST(config_logits_has_defaults_of_its_own) {
    config c;
    CHECK_EQ(load(&c, COMMAND_LOGITS, "m.gguf"), OK);
    CHECK_EQ(c.kv, CONFIG_KV_F32);
    CHECK_EQ(c.numerics, CONFIG_NUMERICS_EXACT);
    CHECK_EQ(c.parallel, 32);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_LOGITS, "m.gguf --kv f16"), OK);
    CHECK_EQ(c.kv, CONFIG_KV_F16);
    config_deinit(&c);
}

TEST(config_flags_take_their_value_in_both_ways) {
    config c;
    CHECK_EQ(load(&c, COMMAND_SERVE,
                  "-m tiny=/m/tiny.gguf --model-path b.gguf --model=c --port=9000 --host 0.0.0.0 "
                  "--gpu-backend cuda --kv f32 --kv-bytes-max 8GiB --threads 3"),
             OK);
    CHECK_EQ(c.models.count, 3);
    CHECK_STR(c.models.items[0].p, "tiny=/m/tiny.gguf");
    CHECK_STR(c.models.items[2].p, "c");
    CHECK_EQ(c.port, 9000);
    CHECK_STR(c.host.p, "0.0.0.0");
    CHECK_EQ(c.gpu, CONFIG_GPU_REQUIRE);
    CHECK_EQ(c.kv, CONFIG_KV_F32);
    CHECK_EQ(c.kv_bytes_max, 8LL << 30);
    CHECK_EQ(c.threads, 3);
    CHECK(config_is_given(&c, "port") && config_is_given(&c, "bind"));
    CHECK(!config_is_given(&c, "ctx"));
    config_deinit(&c);
}

TEST(config_one_letter_means_what_the_command_says) {
    config c;
    CHECK_EQ(load(&c, COMMAND_RUN, "m -p hello -n 5 --temp 0 --seed 18446744073709551615"), OK);
    CHECK_STR(c.prompt.p, "hello");
    CHECK_EQ(c.tokens_max, 5);
    CHECK(c.temperature == 0.0F);
    CHECK(c.seed == UINT64_MAX);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_BENCH, "m -p 64 -n 0 --batch 1,8,32 --json"), OK);
    CHECK_EQ(c.bench_prompt_tokens, 64);
    CHECK_EQ(c.bench_tokens, 0);
    CHECK_EQ(c.batch.count, 3);
    CHECK_EQ(c.batch.items[2], 32);
    CHECK(c.json);
    CHECK(!config_is_given(&c, "repeat"));
    config_deinit(&c);
}

TEST(config_booleans_can_be_switched_off) {
    config c;
    CHECK_EQ(load(&c, COMMAND_BENCH, "m --json --no-json"), OK);
    CHECK(!c.json);
    CHECK(config_is_given(&c, "json"));
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_BENCH, "m --json=off --json=YES"), OK);
    CHECK(c.json);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_TOKENIZE, "m --no-special"), OK); /* a flag of its own */
    CHECK(c.no_special && !c.no_parse_special);
    config_deinit(&c);
    check_refused(COMMAND_TOKENIZE, "m --special", "unknown flag --special");
    check_refused(COMMAND_SERVE, "--no-port", "unknown flag --no-port");
    check_refused(COMMAND_BENCH, "m --json=maybe", "--json: want true or false, found 'maybe'");
}

TEST(config_leaves_other_arguments_alone) {
    config c;
    CHECK_EQ(load(&c, COMMAND_RUN, "model.gguf --raw - -- --port -p"), OK);
    CHECK_EQ(c.argc_rest, 4);
    CHECK_STR(c.argv_rest[0], "model.gguf");
    CHECK_STR(c.argv_rest[1], "-");
    CHECK_STR(c.argv_rest[2], "--port");
    CHECK_STR(c.argv_rest[3], "-p");
    CHECK(c.argv_rest[4] == NULL);
    CHECK(c.raw && !config_is_given(&c, "prompt"));
    config_deinit(&c);
}

TEST(config_an_empty_prompt_is_one_too) {
    config c;
    char *argv[] = {"m", "-p", "", NULL};
    CHECK_EQ(config_load_from(&c, COMMAND_RUN, 3, argv, no_env, &err), OK);
    CHECK(config_is_given(&c, "prompt"));
    CHECK_STR(c.prompt.p, "");
    config_deinit(&c);
}

TEST(config_values_may_look_like_flags) {
    config c;
    CHECK_EQ(load(&c, COMMAND_RUN, "m -p --help --stop -- --stop a,b"), OK);
    CHECK_STR(c.prompt.p, "--help");
    CHECK_EQ(c.stop.count, 2);
    CHECK_STR(c.stop.items[0].p, "--");
    CHECK_STR(c.stop.items[1].p, "a,b"); /* a comma is text here */
    config_deinit(&c);
}

TEST(config_help_is_enough_by_itself) {
    config c;
    CHECK_EQ(load(&c, COMMAND_SERVE, "--port 9 -h --nonsense"), OK);
    CHECK(c.help);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_RUN, "--help"), OK);
    CHECK(c.help);
    config_deinit(&c);
}

TEST(config_refuses_what_is_out_of_range) {
    check_refused(COMMAND_SERVE, "--port 99999", "--port: 99999 is outside 0 to 65535");
    check_refused(COMMAND_SERVE, "--port 99999999999999999999999", "is outside 0 to 65535");
    check_refused(COMMAND_SERVE, "--port -5", "--port: want a whole number, found '-5'");
    check_refused(COMMAND_SERVE, "--port=", "--port: want a whole number, found ''");
    check_refused(COMMAND_SERVE, "--port 80x", "found '80x'");
    check_refused(COMMAND_SERVE, "--parallel 0", "--parallel: 0 is outside 1 to 4096");
    check_refused(COMMAND_RUN, "--top-p 1.5", "--top-p: 1.5 is outside 0 to 1");
    check_refused(COMMAND_RUN, "--temp nan", "--temp: want a number, found 'nan'");
    check_refused(COMMAND_RUN, "--seed 18446744073709551616",
                  "is outside 0 to 18446744073709551615");
    check_refused(COMMAND_SERVE, "--gpu maybe", "'maybe' is not one of require, prefer, off");
    check_refused(COMMAND_SERVE, "--kv-bytes-max 8XB", "want a size such as 512MiB or 8GiB");
    check_refused(COMMAND_SERVE, "--request-bytes-max 2GiB",
                  "2GiB is outside 1024 to 50331648 bytes");
    check_refused(COMMAND_SERVE, "--head-ms-max 2h", "2h is outside 100 to 3600000 ms");
    check_refused(COMMAND_SERVE, "--head-ms-max 2d", "want a time such as 250ms or 30s");
    check_refused(COMMAND_BENCH, "--batch 1,,2", "--batch: want a whole number, found ''");
    check_refused(COMMAND_BENCH, "--batch 1,99999", "--batch: 99999 is outside 1 to 4096");
    check_refused(COMMAND_SERVE, "--host=", "--host: is empty");
}

TEST(config_sizes_may_be_auto) {
    config c;
    CHECK_EQ(load(&c, COMMAND_SERVE, ""), OK);
    CHECK_EQ(c.kv_host_bytes, CONFIG_BYTES_AUTO);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_SERVE, "--kv-host-bytes 0"), OK);
    CHECK_EQ(c.kv_host_bytes, 0);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_SERVE, "--kv-host-bytes 2GiB --kv-host-bytes auto"), OK);
    CHECK_EQ(c.kv_host_bytes, CONFIG_BYTES_AUTO);
    config_deinit(&c);
    check_refused(COMMAND_SERVE, "--kv-bytes-max auto", "want a size such as 512MiB or 8GiB");
    check_refused(COMMAND_SERVE, "--kv-host-bytes much", "want a size such as 512MiB or 8GiB");
}

TEST(config_knows_units) {
    config c;
    CHECK_EQ(load(&c, COMMAND_SERVE,
                  "--kv-bytes-max 1.5GiB --request-bytes-max 64kb --header-bytes-max 2048 "
                  "--head-ms-max 1.5s --body-ms-max 2m --idle-ms-max 500 --drain-ms-max 1h"),
             OK);
    CHECK_EQ(c.kv_bytes_max, 3LL << 29);
    CHECK_EQ(c.request_bytes_max, 64000);
    CHECK_EQ(c.header_bytes_max, 2048);
    CHECK_EQ(c.head_ms_max, 1500);
    CHECK_EQ(c.body_ms_max, 120000);
    CHECK_EQ(c.idle_ms_max, 500);
    CHECK_EQ(c.drain_ms_max, 3600000);
    config_deinit(&c);
}

TEST(config_unknown_flags_name_the_nearest) {
    check_refused(COMMAND_SERVE, "--prot 80", "unknown flag --prot; did you mean '--port'?");
    check_refused(COMMAND_SERVE, "--zzzzzz", "unknown flag --zzzzzz");
    check_refused(COMMAND_RUN, "m --port 80", "--port is no flag of 'gantry run', but of 'serve'");
    check_refused(COMMAND_SERVE, "-z", "unknown flag -z");
    check_refused(COMMAND_SERVE, "-port 80", "-port is no flag");
    check_refused(COMMAND_SERVE, "--m x", "--m is no flag");
    check_refused(COMMAND_SERVE, "--=x", "unknown flag --");
    check_refused(COMMAND_SERVE, "--port", "--port: wants a value (N)");
}

TEST(config_host_may_name_the_port) {
    config c;
    CHECK_EQ(load(&c, COMMAND_SERVE, "--bind 0.0.0.0:11435"), OK);
    CHECK_STR(c.host.p, "0.0.0.0");
    CHECK_EQ(c.port, 11435);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_SERVE, "--host [::1]:81"), OK);
    CHECK_STR(c.host.p, "::1");
    CHECK_EQ(c.port, 81);
    config_deinit(&c);
    CHECK_EQ(load(&c, COMMAND_SERVE, "--host ::1"), OK);
    CHECK_STR(c.host.p, "::1");
    CHECK_EQ(c.port, 8080);
    config_deinit(&c);
    char *env[] = {"GANTRY_HOST=localhost:7", NULL};
    CHECK_EQ(load_env(&c, COMMAND_SERVE, "--port 8", env), OK);
    CHECK_STR(c.host.p, "localhost");
    CHECK_EQ(c.port, 8);
    config_deinit(&c);
    check_refused(COMMAND_SERVE, "--bind h:1 --port 2", "names port 1, but --port is 2");
    check_refused(COMMAND_SERVE, "--bind h:99999", "port of --host: 99999 is outside");
}

TEST(config_variables_are_weaker_than_flags) {
    config c;
    char *env[] = {"PATH=/bin",
                   "GANTRY_PORT=1000",
                   "GANTRY_THREADS=4",
                   "GANTRY_CPU_ISA=scalar",
                   "GANTRY_ALLOWED_HOSTS=a.example,b.example",
                   NULL};
    CHECK_EQ(load_env(&c, COMMAND_SERVE, "--port 2000", env), OK);
    CHECK_EQ(c.port, 2000);
    CHECK_EQ(c.threads, 4);
    CHECK_EQ(c.cpu_isa, CONFIG_CPU_ISA_SCALAR);
    CHECK_EQ(c.allowed_hosts.count, 2);
    CHECK_STR(c.allowed_hosts.items[1].p, "b.example");
    config_deinit(&c);
}

TEST(config_a_flag_replaces_the_list_of_a_variable) {
    config c;
    char *env[] = {"GANTRY_MODEL=a,b", NULL};
    CHECK_EQ(load_env(&c, COMMAND_SERVE, "-m c", env), OK);
    CHECK_EQ(c.models.count, 1);
    CHECK_STR(c.models.items[0].p, "c");
    config_deinit(&c);
}

TEST(config_variables_of_other_commands_are_no_error) {
    config c;
    char *env[] = {"GANTRY_PORT=nonsense", "GANTRY_SHARED=/x", "GANTRY_NO_SUCH_THING=1", NULL};
    log_set_level(LOG_ERROR); /* the unknown one is warned about */
    CHECK_EQ(load_env(&c, COMMAND_RUN, "m", env), OK);
    config_deinit(&c);
    CHECK_EQ(load_env(&c, COMMAND_SERVE, "", env), ERR_INVALID);
    log_set_level(LOG_INFO);
    CHECK_HAS(err.msg, "GANTRY_PORT: want a whole number, found 'nonsense'");
}

TEST(config_service_links_of_kubernetes_are_not_ours) {
    config c;
    char *env[] = {"GANTRY_PORT=tcp://10.0.0.7:8080", "GANTRY_PORT_8080_TCP_PROTO=tcp",
                   "GANTRY_SERVICE_HOST=10.0.0.7", NULL};
    CHECK_EQ(load_env(&c, COMMAND_SERVE, "", env), OK);
    CHECK_EQ(c.port, 8080);
    config_deinit(&c);
}

TEST(config_keeps_secrets) {
    config c;
    buf out;
    char *env[] = {"GANTRY_API_KEY=hunter2", NULL};
    char *empty[] = {"GANTRY_API_KEY=", NULL};
    CHECK_EQ(load_env(&c, COMMAND_SERVE, "", env), OK);
    CHECK_STR(c.api_key.p, "hunter2");
    buf_init(&out, 1 << 16);
    config_dump(&c, &out);
    buf_put_char(&out, '\0');
    CHECK(strstr(out.p, "hunter2") == NULL);
    CHECK_HAS(out.p, "\"server.api_key\":{\"is_set\":true,\"source\":\"env\"}");
    CHECK_HAS(out.p, "\"server.port\":{\"value\":8080,\"source\":\"default\"}");
    CHECK_HAS(out.p, "\"engine.gpu\":{\"value\":\"prefer\",\"source\":\"default\"}");
    buf_deinit(&out);
    config_deinit(&c);
    /* An empty key would let everybody in where a key was meant. */
    CHECK_EQ(load_env(&c, COMMAND_SERVE, "", empty), ERR_INVALID);
    CHECK_HAS(err.msg, "GANTRY_API_KEY: is empty");
}

TEST(config_lists_have_a_limit) {
    char arguments[1024] = "";
    for (int i = 0; i <= CONFIG_LIST_MAX; i++)
        (void)snprintf(arguments + strlen(arguments), 1024 - strlen(arguments), "--stop=%d ", i);
    static char *argv[CONFIG_LIST_MAX + 2];
    int argc = 0;
    char *save = NULL;
    for (char *p = strtok_r(arguments, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
        argv[argc++] = p;
    config c;
    CHECK_EQ(config_load_from(&c, COMMAND_RUN, argc, argv, no_env, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "--stop: more than 64 of them");
}

TEST(config_names_models) {
    static const struct {
        const char *item, *name, *path;
    } cases[] = {
        {"tiny=/m/t.gguf", "tiny", "/m/t.gguf"},
        {"/m/llama-7b.Q4_0.gguf", "llama-7b.Q4_0", "/m/llama-7b.Q4_0.gguf"},
        {"m.gguf", "m", "m.gguf"},
        {"/models/phi3/", "phi3", "/models/phi3/"},
        {"x=a=b.gguf", "x", "a=b.gguf"},
        {"synth:llama-1.1b:q4_k_m", "synth:llama-1.1b:q4_k_m", "synth:llama-1.1b:q4_k_m"},
        {"s=synth:llama-7b:f16", "s", "synth:llama-7b:f16"},
        {"/", "/", "/"},
        {".gguf", ".gguf", ".gguf"},
        {"", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        str name, path;
        config_model_split(str_of(cases[i].item), &name, &path);
        CHECK(str_eq_c(name, cases[i].name));
        CHECK(str_eq_c(path, cases[i].path));
    }
}

TEST(config_commands_have_names) {
    command cmd = COMMAND_RUN;
    CHECK(command_from_name("perplexity", &cmd));
    CHECK_EQ(cmd, COMMAND_PERPLEXITY);
    CHECK(!command_from_name("servo", &cmd));
    CHECK_STR(command_name(COMMAND_SERVE), "serve");
}

TEST(config_survives_every_failed_allocation) {
    status st = ERR_LIMIT;
    for (int64_t n = 0; st == ERR_LIMIT && n < 100; n++) {
        config c;
        mem_fail_after(n);
        st = load(&c, COMMAND_SERVE, "-m a -m b --bind [::1]:80");
        mem_fail_after(-1);
        config_deinit(&c);
    }
    CHECK_EQ(st, OK);
}
