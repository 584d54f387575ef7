/* test_config_table.c - the table is sound, and the texts made from it are true. */
#include <ctype.h>

#include "app/config.h"
#include "app/config_internal.h"
#include "base/alloc.h"
#include "test.h"

static error err;
static char text[1 << 16];

static void take_text(buf *out) {
    CHECK(!out->failed);
    str_copy_c(text, sizeof text, buf_view(out));
    buf_deinit(out);
}

/* Is one of the flag's spellings also one of another option of the same command? */
static void check_spelling(const config_option *o, str flag) {
    for (uint32_t i = 0; i < COMMAND_COUNT; i++)
        if (config_option_is_for(o, (command)i)) CHECK(config_find_flag(flag, (command)i) == o);
}

TEST(config_table_is_sound) {
    for (uint32_t i = 0; i < config_options_count; i++) {
        const config_option *o = &config_options[i];
        CHECK(config_find_name(str_of(o->name)) == o);
        CHECK(o->commands != 0 && strlen(o->help) > 5 && strlen(o->help) < 80);
        CHECK_EQ(o->operand == NULL, o->type == CONFIG_BOOL);
        CHECK(o->choices != NULL || o->type != CONFIG_CHOICE);
        if (o->choices != NULL && o->type != CONFIG_CHOICE) /* one word instead of a number */
            CHECK((o->type == CONFIG_BYTES || o->type == CONFIG_U32) &&
                  strpbrk(o->choices, "|/") == NULL);
        CHECK(o->min <= o->max);
        check_spelling(o, str_of(o->flag));
        for (const char *p = o->aliases; *p != '\0'; p += strspn(p, " ")) {
            size_t n = strcspn(p, " ");
            check_spelling(o, (str){p, n});
            p += n;
        }
        for (const char *p = o->name; *p != '\0'; p++)
            CHECK(islower((unsigned char)*p) || *p == '.' || *p == '_');
    }
}

TEST(config_enums_are_in_the_order_of_the_table) {
    static const struct {
        const char *name;
        uint32_t value;
        const char *printed;
    } cases[] = {
        {"engine.gpu", CONFIG_GPU_OFF, "off"},
        {"engine.backend", CONFIG_BACKEND_CUDA, "cuda"},
        {"engine.numerics", CONFIG_NUMERICS_FAST, "fast"},
        {"logits.numerics", CONFIG_NUMERICS_EXACT, "exact"},
        {"engine.kv", CONFIG_KV_Q4_0, "q4_0"},
        {"logits.kv", CONFIG_KV_Q4_0, "q4_0"},
        {"engine.cpu_isa", CONFIG_CPU_ISA_NEON, "neon"},
        {"log.level", CONFIG_LOG_LEVEL_ERROR, "error"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const config_option *o = config_find_name(str_of(cases[i].name));
        str printed = {0};
        CHECK(o != NULL && config_choice_name(o, cases[i].value, &printed));
        CHECK(str_eq_c(printed, cases[i].printed));
        bool last = !config_choice_name(o, cases[i].value + 1, &printed);
        CHECK(last || strcmp(cases[i].name, "logits.numerics") == 0);
    }
}

TEST(config_variables_are_named_after_flags) {
    char name[CONFIG_ENV_BYTES];
    config_env_name(config_find_name(S("limits.request_bytes_max")), name);
    CHECK_STR(name, "GANTRY_REQUEST_BYTES_MAX");
    config_env_name(config_find_name(S("engine.cpu_isa")), name);
    CHECK_STR(name, "GANTRY_CPU_ISA");
    CHECK(config_find_env(S("GANTRY_RAW"), COMMAND_RUN) == NULL); /* a flag only */
    CHECK(config_find_env(S("GANTRY_KV"), COMMAND_LOGITS) == config_find_name(S("logits.kv")));
    CHECK(config_find_env(S("GANTRY_KV"), COMMAND_RUN) == config_find_name(S("engine.kv")));
}

TEST(config_help_lists_the_options_of_the_command_only) {
    buf out;
    buf_init(&out, sizeof text);
    config_help(COMMAND_RUN, &out);
    take_text(&out);
    CHECK_HAS(text, "usage: gantry run [MODEL] [options]\n");
    CHECK_HAS(text, "\n  -p, --prompt TEXT ");
    CHECK_HAS(text, "[0.95]\n");
    CHECK(strstr(text, "--port") == NULL);
    buf_init(&out, sizeof text);
    config_help(COMMAND_SERVE, &out);
    take_text(&out);
    CHECK_HAS(text, "\n  -m, --model, --model-path [NAME=]MODEL\n");
    CHECK_HAS(text, "use a GPU always, when there is one, or never: require, prefer, off [prefer]");
    CHECK(strstr(text, "--prompt ") == NULL);
}

TEST(config_markdown_names_every_option) {
    buf out;
    buf_init(&out, sizeof text);
    config_doc_markdown(&out);
    take_text(&out);
    for (uint32_t i = 0; i < config_options_count; i++) {
        char flag[64];
        (void)snprintf(flag, sizeof flag, "--%s", config_options[i].flag);
        CHECK_HAS(text, flag);
        CHECK_HAS(text, config_options[i].help);
    }
    CHECK_HAS(text, "| `server.port` | `--port N` | `GANTRY_PORT` | 0 to 65535 | `8080` | serve |");
}

/* "  #port: 8080" becomes "  port: 8080"; "# words" stay. */
static void uncomment(char *at) {
    for (; (at = strchr(at, '#')) != NULL; at++)
        if (at[1] != ' ') memmove(at, at + 1, strlen(at));
}

TEST(config_example_holds_the_defaults) {
    config c, defaults;
    buf out;
    buf_init(&out, sizeof text);
    config_doc_example(&out);
    take_text(&out);
    CHECK_EQ(config_init(&defaults, COMMAND_SERVE, &err), OK);
    for (int round = 0; round < 2; round++) { /* as it is, then with every option switched on */
        CHECK_EQ(config_init(&c, COMMAND_SERVE, &err), OK);
        CHECK_EQ(config_file_parse(&c, str_of(text), "example", &err), OK);
        CHECK_EQ(c.port, defaults.port);
        CHECK_EQ(c.drain_ms_max, defaults.drain_ms_max);
        CHECK_EQ(c.request_bytes_max, defaults.request_bytes_max);
        CHECK_EQ(c.gpu, defaults.gpu);
        CHECK_EQ(c.api_key.n, 0);
        CHECK_EQ(config_is_given(&c, "port"), round == 1);
        CHECK_EQ(config_is_given(&c, "log-level"), round == 1);
        config_deinit(&c);
        uncomment(text);
    }
    config_deinit(&defaults);
}
