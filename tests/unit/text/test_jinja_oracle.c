/* test_jinja_oracle.c - templates against what Python's jinja2 made of them, as transformers sets
 * it up: every shared case must give the same text, or an error where the original has one. */
#include <jansson.h>
#include <stdlib.h>

#include "golden_paths.h"
#include "text/jinja.h"

/* 2025-07-04 12:34:56, the clock of the recordings. */
static const int64_t RECORDED_S = 1751632496;

static jinja_env recorded_env(void) {
    return (jinja_env){.now_unix_s = RECORDED_S, .limits = jinja_default_limits()};
}

/* Appends a shared file to `out`. */
static bool read_shared(const char *relative, buf *out) {
    const char *path = shared_path(relative);
    FILE *fp = path != NULL ? fopen(path, "rb") : NULL;
    if (fp == NULL) return false;
    for (char chunk[4096];;) {
        size_t n = fread(chunk, 1, sizeof chunk, fp);
        if (n == 0) break;
        buf_put(out, chunk, n);
    }
    (void)fclose(fp);
    return true;
}

/* A shared file as JSON; NULL when there is none. */
static json_t *load_shared(const char *relative) {
    buf text;
    json_error_t why;
    buf_init(&text, SIZE_MAX);
    json_t *root = NULL;
    bool there = read_shared(relative, &text);
    /* no JSON reader of ours takes NUL in a key: another control character does as well */
    for (char *p = text.p;
         there && (p = memmem(p, text.n - (size_t)(p - text.p), "\\u0000", 6)) != NULL;)
        p[5] = '1';
    if (there) root = json_loadb(text.p, text.n, JSON_ALLOW_NUL, &why);
    buf_deinit(&text);
    if (root == NULL) (void)fprintf(stderr, "  %s: %s\n", relative, why.text);
    return root;
}

static str text_of(const json_t *value) {
    return (str){json_string_value(value), json_string_length(value)};
}

/* Parses and renders; ERR_* of whichever failed. */
static status render(str source, const jinja_options *options, const json_t *context,
                     const jinja_env *env, buf *out, error *err) {
    jinja_template *t = NULL;
    TRY(jinja_parse(&t, source, options, err));
    char *text = json_dumps(context, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    status st = jinja_render(t, str_of(text), env, out, err);
    free(text);
    jinja_destroy(t);
    return st;
}

typedef struct tally {
    const char *suite;
    int cases, texts, errors;
} tally;

/* `want` is the text, or NULL for an error whose message contains `words` (NULL: anything). */
static void check_case(tally *t, const char *name, status st, const buf *out, const error *err,
                       const json_t *want, const char *words) {
    bool same = want != NULL ? st == OK && str_eq(buf_view(out), text_of(want))
                             : st != OK && (words == NULL || strstr(err->msg, words) != NULL);
    t->cases++;
    if (want != NULL)
        t->texts++;
    else
        t->errors++;
    CHECK(same);
    if (same) return;
    (void)fprintf(stderr, "  %s: %s: %s\n   got  \"%.*s\"\n   want \"%s\"\n", t->suite, name,
                  st != OK ? err->msg : "", (int)out->n, out->n != 0 ? out->p : "",
                  want != NULL    ? json_string_value(want)
                  : words != NULL ? words
                                  : "an error");
}

static void report(const tally *t) {
    printf("%s: %d cases, %d texts and %d errors\n", t->suite, t->cases, t->texts, t->errors);
}

/* --- chat: 25 templates by named conversations ---------------------------------------- */

/* The two variables that one template wants besides. */
static void add_firefunction(json_t *context, const json_t *tools) {
    char *text = json_is_array(tools) ? json_dumps(tools, JSON_INDENT(4)) : NULL;
    (void)json_object_set_new(context, "functions", json_string(text != NULL ? text : ""));
    (void)json_object_set_new(context, "datetime", json_string("2025-07-04 12:34:56"));
    free(text);
}

/* What transformers passes: messages, tools, documents and the conversation's own variables. */
static json_t *chat_context(const json_t *file, const json_t *input, const json_t *c) {
    json_t *context = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    (void)json_object_set(context, "messages", json_object_get(input, "messages"));
    if (!json_is_true(json_object_get(c, "tools_omitted"))) {
        (void)json_object_set(context, "tools", json_object_get(input, "tools"));
        (void)json_object_set_new(context, "documents", json_null());
    }
    (void)json_object_set(context, "add_generation_prompt",
                          json_object_get(c, "add_generation_prompt"));
    (void)json_object_set(context, "bos_token", json_object_get(file, "bos_token"));
    (void)json_object_set(context, "eos_token", json_object_get(file, "eos_token"));
    if (json_object_get(file, "extra_context") != NULL &&
        !json_is_null(json_object_get(file, "extra_context")))
        add_firefunction(context, json_object_get(input, "tools"));
    json_object_foreach(json_object_get(input, "extra"), key, value)(void)
        json_object_set(context, key, value);
    return context;
}

static const char *error_words(const json_t *c) {
    const char *kind = json_string_value(json_object_get(c, "error_kind"));
    bool raised = kind != NULL && strcmp(kind, "raise_exception") == 0;
    return raised ? json_string_value(json_object_get(c, "error")) : NULL;
}

static void run_chat_case(tally *t, const json_t *file, const json_t *inputs, str source,
                          const json_t *c) {
    jinja_options options = jinja_chat_options();
    const json_t *permissive = json_object_get(c, "expected_permissive");
    json_t *input = json_object_get(inputs, json_string_value(json_object_get(c, "input")));
    json_t *context = chat_context(file, input, c);
    for (int pass = 0; pass < (permissive != NULL ? 2 : 1); pass++) {
        jinja_env env = recorded_env();
        error err = {0};
        buf out;
        env.permissive = pass == 1;
        buf_init(&out, SIZE_MAX);
        status st = render(source, &options, context, &env, &out, &err);
        check_case(t, json_string_value(json_object_get(c, "input")), st, &out, &err,
                   pass == 1 ? permissive : json_object_get(c, "expected"), error_words(c));
        buf_deinit(&out);
    }
    json_decref(context);
}

/* One line of index.tsv: name, template, cases ... */
static void run_chat_file(tally *t, str line, const json_t *inputs) {
    char path[256];
    const char *tab = memchr(line.p, '\t', line.n);
    str name = {line.p, (size_t)(tab - line.p)};
    buf source;
    size_t i = 0;
    json_t *c = NULL;
    buf_init(&source, SIZE_MAX);
    (void)snprintf(path, sizeof path, "oracle/public/chat/templates/%.*s.jinja", STR(name));
    CHECK(read_shared(path, &source));
    (void)snprintf(path, sizeof path, "oracle/public/chat/%.*s.cases.json", STR(name));
    json_t *file = load_shared(path);
    CHECK(json_array_size(json_object_get(file, "cases")) > 0);
    json_array_foreach(json_object_get(file, "cases"), i, c)
        run_chat_case(t, file, inputs, buf_view(&source), c);
    json_decref(file);
    buf_deinit(&source);
}

TEST(jinja_renders_chats_as_the_original_does) {
    tally t = {.suite = "chat"};
    SHARED_OR_SKIP(path, "oracle/public/chat/inputs.json");
    buf index;
    (void)path;
    buf_init(&index, SIZE_MAX);
    json_t *inputs = load_shared("oracle/public/chat/inputs.json");
    CHECK(read_shared("oracle/public/chat/index.tsv", &index));
    str rest = buf_view(&index);
    for (bool header = true; rest.n != 0; header = false) {
        const char *end = memchr(rest.p, '\n', rest.n);
        str line = {rest.p, end != NULL ? (size_t)(end - rest.p) : rest.n};
        rest = str_skip(rest, line.n + (end != NULL));
        if (!header && line.n != 0) run_chat_file(&t, line, inputs);
    }
    CHECK_EQ(t.texts >= 1047, 1);
    report(&t);
    json_decref(inputs);
    buf_deinit(&index);
}

/* --- single features ------------------------------------------------------------------ */

static void run_micro(tally *t, const json_t *context, const json_t *c, bool permissive) {
    jinja_options options = jinja_chat_options();
    jinja_env env = recorded_env();
    const json_t *source = json_object_get(c, "template");
    const json_t *want = json_object_get(c, permissive ? "expected_permissive" : "expected");
    error err = {0};
    buf out;
    env.permissive = permissive;
    buf_init(&out, SIZE_MAX);
    status st = render(text_of(source), &options, context, &env, &out, &err);
    check_case(t, json_string_value(source), st, &out, &err, want, error_words(c));
    buf_deinit(&out);
}

TEST(jinja_renders_single_features_as_the_original_does) {
    tally t = {.suite = "micro"};
    size_t i = 0;
    SHARED_OR_SKIP(path, "oracle/public/chat/micro.json");
    json_t *c = NULL, *file = load_shared("oracle/public/chat/micro.json");
    (void)path;
    json_array_foreach(json_object_get(file, "cases"), i, c) {
        run_micro(&t, json_object_get(file, "context"), c, false);
        if (json_object_get(c, "expected_permissive") != NULL)
            run_micro(&t, json_object_get(file, "context"), c, true);
    }
    CHECK_EQ(t.cases >= 70, 1);
    report(&t);
    json_decref(file);
}

/* --- cases of other implementations that agree with the original ---------------------- */

static bool option(const json_t *c, const char *name) {
    return json_is_true(json_object_get(json_object_get(c, "options"), name));
}

TEST(jinja_agrees_with_other_implementations_where_these_agree_with_the_original) {
    tally t = {.suite = "jinja cases"};
    size_t i = 0;
    SHARED_OR_SKIP(path, "suites/jinja-chat-templates/cases.json");
    json_t *c = NULL, *file = load_shared("suites/jinja-chat-templates/cases.json");
    (void)path;
    json_array_foreach(file, i, c) {
        const char *verdict = json_string_value(json_object_get(c, "jinja2"));
        const json_t *source = json_object_get(c, "template");
        jinja_options options = {.trim_blocks = option(c, "trim_blocks"),
                                 .lstrip_blocks = option(c, "lstrip_blocks"),
                                 .keep_trailing_newline = option(c, "keep_trailing_newline")};
        jinja_env env = recorded_env();
        error err = {0};
        buf out;
        if (verdict == NULL || strncmp(verdict, "same", 4) != 0) continue;
        buf_init(&out, SIZE_MAX);
        status st =
            render(text_of(source), &options, json_object_get(c, "context"), &env, &out, &err);
        check_case(&t, json_string_value(source), st, &out, &err, json_object_get(c, "expected"),
                   NULL);
        buf_deinit(&out);
    }
    CHECK_EQ(t.cases, 586);
    report(&t);
    json_decref(file);
}

/* --- one conversation through the templates of llama.cpp's tests ---------------------- */

static json_t *message(const char *role, const char *content) {
    return json_pack("{s:s, s:s}", "role", role, "content", content);
}

static json_t *sample_context(const json_t *c) {
    json_t *messages = json_array();
    (void)json_array_append_new(messages, message("system", "You are a helpful assistant"));
    (void)json_array_append_new(messages, message("user", "Hello"));
    (void)json_array_append_new(messages, message("assistant", "Hi there"));
    (void)json_array_append_new(messages, message("user", "Who are you"));
    (void)json_array_append_new(messages, message("assistant", "   I am an assistant   "));
    (void)json_array_append_new(messages, message("user", "Another question"));
    return json_pack("{s:o, s:b, s:O, s:O}", "messages", messages, "add_generation_prompt", 1,
                     "bos_token", json_object_get(c, "bos_token"), "eos_token",
                     json_object_get(c, "eos_token"));
}

TEST(jinja_renders_the_templates_of_llama_cpp) {
    tally t = {.suite = "llama.cpp templates"};
    jinja_options options = jinja_chat_options();
    buf lines;
    SHARED_OR_SKIP(path, "suites/chat-templates/llamacpp-expected.jsonl");
    (void)path;
    buf_init(&lines, SIZE_MAX);
    CHECK(read_shared("suites/chat-templates/llamacpp-expected.jsonl", &lines));
    str rest = buf_view(&lines);
    while (rest.n != 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end != NULL ? (size_t)(end - rest.p) : rest.n;
        json_t *c = json_loadb(rest.p, n, 0, NULL);
        rest = str_skip(rest, n + (end != NULL));
        if (json_is_true(json_object_get(c, "jinja2_same"))) {
            jinja_env env = recorded_env();
            json_t *context = sample_context(c);
            error err = {0};
            buf out;
            buf_init(&out, SIZE_MAX);
            status st = render(text_of(json_object_get(c, "template")), &options, context, &env,
                               &out, &err);
            check_case(&t, json_string_value(json_object_get(c, "name")), st, &out, &err,
                       json_object_get(c, "expected_jinja"), NULL);
            buf_deinit(&out);
            json_decref(context);
        }
        json_decref(c);
    }
    CHECK_EQ(t.cases, 22);
    report(&t);
    buf_deinit(&lines);
}

/* --- all templates of the suite -------------------------------------------------------- */

#define RECORDED_PLAIN                                                                       \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},"     \
    "{\"role\":\"user\",\"content\":\"Hello\"},{\"role\":\"assistant\",\"content\":"         \
    "\"Hi there\"},{\"role\":\"user\",\"content\":\"Who are you\"},{\"role\":\"assistant\"," \
    "\"content\":\"   I am an assistant   \"},{\"role\":\"user\",\"content\":"               \
    "\"Another question\"}],\"tools\":null,"
#define RECORDED_TOOLS                                                                         \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"You know lakes.\"},{\"role\":\"user\"," \
    "\"content\":\"How deep is it?\"},{\"role\":\"assistant\",\"content\":\"\","               \
    "\"reasoning_content\":\"Ask the tool.\",\"tool_calls\":[{\"id\":\"call00001\",\"type\":"  \
    "\"function\",\"function\":{\"name\":\"depth\",\"arguments\":{\"lake\":\"Ober\","          \
    "\"unit\":\"m\"}}}]},{\"role\":\"tool\",\"tool_call_id\":\"call00001\",\"name\":"          \
    "\"depth\",\"content\":\"{\\\"m\\\": 31}\"},{\"role\":\"assistant\",\"content\":"          \
    "\"31 m <deep>\"},{\"role\":\"user\",\"content\":\"And the \\u00fc one?\"}],"              \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"depth\",\"description\":"      \
    "\"Depth of a lake\",\"parameters\":{\"type\":\"object\",\"properties\":{\"lake\":"        \
    "{\"type\":\"string\",\"description\":\"Its name\"},\"unit\":{\"type\":\"string\","        \
    "\"enum\":[\"m\",\"ft\"]}},\"required\":[\"lake\"]}}}],"
#define RECORDED_REST                                                          \
    "\"documents\":null,\"add_generation_prompt\":true,\"bos_token\":\"<s>\"," \
    "\"eos_token\":\"</s>\"}"

/* What jinja2 3.1.2 made of the two conversations: length and FNV-1a of the text, zeros for an
 * error. */
typedef struct recorded_render {
    size_t bytes;
    uint64_t hash;
} recorded_render;

static const struct {
    const char *name;
    recorded_render plain_and_tools[2];
} RECORDED[] = {
    {"Apertus-8B-Instruct.jinja",
     {{379, UINT64_C(0x431af54255832789)}, {451, UINT64_C(0x18c6ceabf1ecdae3)}}},
    {"Apriel-1.6-15b-Thinker-fixed.jinja",
     {{508, UINT64_C(0xff0ff574bf72f07a)}, {1667, UINT64_C(0xe9a713e02539a9ec)}}},
    {"Bielik-11B-v3.0-Instruct.jinja",
     {{293, UINT64_C(0xf9d57f09b8e94508)}, {1040, UINT64_C(0x83e2bb75dd91c05b)}}},
    {"ByteDance-Seed-OSS.jinja",
     {{267, UINT64_C(0xcfe9118e11f85929)}, {849, UINT64_C(0x04f7ed61779e44a5)}}},
    {"Cohere2MoE.jinja",
     {{1264, UINT64_C(0x294bbea9ab434b06)}, {1787, UINT64_C(0xf85a8593ab6c7b25)}}},
    {"CohereForAI-c4ai-command-r-plus-tool_use.jinja", {{0, 0}, {0, 0}}},
    {"CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
     {{3203, UINT64_C(0x67f0c7904937090f)}, {7006, UINT64_C(0xe04c1f33b5530bff)}}},
    {"GLM-4.6.jinja", {{208, UINT64_C(0xa92768e2160abd21)}, {1075, UINT64_C(0x0d57e2dec147995e)}}},
    {"GLM-4.7-Flash.jinja",
     {{193, UINT64_C(0x517e91718f9786f9)}, {1047, UINT64_C(0xe524981b258b0328)}}},
    {"GLM-5.2.jinja", {{238, UINT64_C(0xfb8b5a1bba20bea0)}, {1058, UINT64_C(0x995989f3f5d3d395)}}},
    {"GigaChat3-10B-A1.8B.jinja",
     {{5248, UINT64_C(0x500ec8265d73b6bf)}, {5537, UINT64_C(0x8c6519f97421107a)}}},
    {"GigaChat3.1-10B-A1.8B.jinja",
     {{5248, UINT64_C(0x500ec8265d73b6bf)}, {5511, UINT64_C(0x99141c1e0f9af086)}}},
    {"HuggingFaceTB-SmolLM3-3B.jinja",
     {{389, UINT64_C(0xd59a1fe40145259a)}, {363, UINT64_C(0x7bd8b4c058f9dc91)}}},
    {"Kimi-K2-Instruct.jinja", {{381, UINT64_C(0x6cf07f43f99f3de1)}, {0, 0}}},
    {"Kimi-K2-Thinking.jinja", {{411, UINT64_C(0x6fb8a0b98ebe7c85)}, {0, 0}}},
    {"LFM2-8B-A1B.jinja",
     {{296, UINT64_C(0x604b8f02026a845c)}, {629, UINT64_C(0x1c72176352aecbd8)}}},
    {"LFM2.5-Instruct.jinja",
     {{296, UINT64_C(0x604b8f02026a845c)}, {549, UINT64_C(0x8f1935ee30162d1c)}}},
    {"MiMo-VL.jinja", {{293, UINT64_C(0x1e967adbcc0d3b8d)}, {1021, UINT64_C(0xf231e43d7bd85bdb)}}},
    {"MiroThinker.jinja", {{0, 0}, {0, 0}}},
    {"Mistral-Small-3.2-24B-Instruct-2506.jinja",
     {{172, UINT64_C(0x2ff763525b96e401)}, {553, UINT64_C(0xec43f51afa219dd7)}}},
    {"NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.jinja",
     {{328, UINT64_C(0xf5a5d69e28e4c78f)}, {1679, UINT64_C(0x978545d62b4217fc)}}},
    {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja",
     {{0, 0}, {1537, UINT64_C(0x3f031d0791d7344f)}}},
    {"NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja",
     {{0, 0}, {1537, UINT64_C(0x3f031d0791d7344f)}}},
    {"Qwen-QwQ-32B.jinja",
     {{309, UINT64_C(0xa4890c275ffd7c5a)}, {1037, UINT64_C(0x5be3e67fb84d4730)}}},
    {"Qwen-Qwen2.5-7B-Instruct.jinja",
     {{293, UINT64_C(0x1e967adbcc0d3b8d)}, {1021, UINT64_C(0xf231e43d7bd85bdb)}}},
    {"Qwen-Qwen3-0.6B.jinja",
     {{293, UINT64_C(0x1e967adbcc0d3b8d)}, {1021, UINT64_C(0xf231e43d7bd85bdb)}}},
    {"Qwen3-Coder.jinja",
     {{293, UINT64_C(0x1e967adbcc0d3b8d)}, {1578, UINT64_C(0x210e2f4568ed062e)}}},
    {"Qwen3.5-4B.jinja",
     {{295, UINT64_C(0x49b5ca01c1c01179)}, {1579, UINT64_C(0x741f35631d67f6cc)}}},
    {"Reka-Edge.jinja", {{188, UINT64_C(0x55b563ecfffa4dee)}, {916, UINT64_C(0x893c8d4a09cc7862)}}},
    {"StepFun3.5-Flash.jinja",
     {{304, UINT64_C(0xc3c59763450741d8)}, {1352, UINT64_C(0x9a2985655541d268)}}},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja",
     {{243, UINT64_C(0xb6a8cfd38e75eb3e)}, {302, UINT64_C(0x17c22014ef8b35a0)}}},
    {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
     {{251, UINT64_C(0x4a2cd038ab5e80b9)}, {533, UINT64_C(0xbe813660c8607174)}}},
    {"deepseek-ai-DeepSeek-V3.1.jinja",
     {{280, UINT64_C(0x779bc09bb3c3c91b)}, {424, UINT64_C(0x1cf72a12c4016b5c)}}},
    {"deepseek-ai-DeepSeek-V3.2.jinja",
     {{266, UINT64_C(0x7fec8ac77a0d0e99)}, {1900, UINT64_C(0xe69d96fcff728347)}}},
    {"deepseek-ai-DeepSeek-V4.jinja",
     {{259, UINT64_C(0x018b4bf3cb278b43)}, {1723, UINT64_C(0xadec53d1fd06730e)}}},
    {"fireworks-ai-llama-3-firefunction-v2.jinja", {{0, 0}, {0, 0}}},
    {"google-gemma-2-2b-it.jinja", {{0, 0}, {0, 0}}},
    {"google-gemma-4-31B-it-interleaved.jinja",
     {{253, UINT64_C(0xe545fcf2396d0948)}, {570, UINT64_C(0x4418f4b3e9b35802)}}},
    {"google-gemma-4-31B-it.jinja",
     {{253, UINT64_C(0xe545fcf2396d0948)}, {593, UINT64_C(0x0e4567185d787f9e)}}},
    {"ibm-granite-granite-3.3-2B-Instruct.jinja",
     {{456, UINT64_C(0xd89802801d480e6b)}, {1210, UINT64_C(0xdd01afaf60cbe360)}}},
    {"llama-cpp-deepseek-r1.jinja", {{324, UINT64_C(0xf065a7d2463531ef)}, {0, 0}}},
    {"llama-cpp-rwkv-world.jinja",
     {{158, UINT64_C(0xc1c4bffe70a64f8b)}, {121, UINT64_C(0xede83cf82c65d5f4)}}},
    {"meetkai-functionary-medium-v3.1.jinja",
     {{559, UINT64_C(0x9cbd5131f096c554)}, {1841, UINT64_C(0x643d8d3d6be41c78)}}},
    {"meetkai-functionary-medium-v3.2.jinja", {{921, UINT64_C(0xc622e619a544398c)}, {0, 0}}},
    {"meta-llama-Llama-3.1-8B-Instruct.jinja",
     {{522, UINT64_C(0xde51fcd3e56d60de)}, {1470, UINT64_C(0x53d70c12aa67202c)}}},
    {"meta-llama-Llama-3.2-3B-Instruct.jinja",
     {{522, UINT64_C(0xd1250f0933880401)}, {1470, UINT64_C(0xaa371c67e646b52d)}}},
    {"meta-llama-Llama-3.3-70B-Instruct.jinja",
     {{522, UINT64_C(0xde51fcd3e56d60de)}, {1470, UINT64_C(0x53d70c12aa67202c)}}},
    {"microsoft-Phi-3.5-mini-instruct.jinja",
     {{219, UINT64_C(0x46d2dea1e32ed19e)}, {167, UINT64_C(0xfe7d3018307f77a2)}}},
    {"mistralai-Ministral-3-14B-Reasoning-2512.jinja",
     {{172, UINT64_C(0x2ff763525b96e401)}, {512, UINT64_C(0xe3fb9fc7c30e5869)}}},
    {"mistralai-Mistral-Nemo-Instruct-2407.jinja",
     {{143, UINT64_C(0xeab124119e3bb0c2)}, {562, UINT64_C(0xeaa3daa24436d69a)}}},
    {"moonshotai-Kimi-K2.jinja",
     {{381, UINT64_C(0x6cf07f43f99f3de1)}, {856, UINT64_C(0xa551b79ad2489f45)}}},
    {"ollama-gemma4_31b_chat_template.jinja2",
     {{253, UINT64_C(0xe545fcf2396d0948)}, {593, UINT64_C(0x0e4567185d787f9e)}}},
    {"ollama-gemma4_e2b_chat_template.jinja2",
     {{225, UINT64_C(0x970957a2eb9b947b)}, {565, UINT64_C(0xe8901fdf8a557065)}}},
    {"ollama-glimmer_chat_template.jinja",
     {{390, UINT64_C(0x8b457d89632d6560)}, {2206, UINT64_C(0xe347e8fcc9c4651c)}}},
    {"ollama-laguna_v2_chat_template.jinja2",
     {{255, UINT64_C(0x948eb8f61c2546b1)}, {1088, UINT64_C(0xf45b14a8b6cb824c)}}},
    {"ollama-laguna_v8_chat_template.jinja2",
     {{245, UINT64_C(0x2b3c7902e7e4c2dd)}, {779, UINT64_C(0x8a13bc0588460605)}}},
    {"ollama-nemotron35_chat_template.jinja2",
     {{328, UINT64_C(0xf5a5d69e28e4c78f)}, {1679, UINT64_C(0x978545d62b4217fc)}}},
    {"ollama-nemotron3nano_chat_template.jinja2",
     {{328, UINT64_C(0xf5a5d69e28e4c78f)}, {1679, UINT64_C(0x978545d62b4217fc)}}},
    {"ollama-qwen38_chat_template.jinja",
     {{542, UINT64_C(0x149e23641c79726f)}, {1839, UINT64_C(0x64b187f4dd768034)}}},
    {"openai-gpt-oss-120b.jinja",
     {{613, UINT64_C(0xb15c32af59b87d2d)}, {929, UINT64_C(0x4abc1ec3a0aeb8b5)}}},
    {"stepfun-ai-Step-3.5-Flash.jinja",
     {{304, UINT64_C(0xc3c59763450741d8)}, {1352, UINT64_C(0x9a2985655541d268)}}},
    {"unsloth-Apriel-1.5.jinja",
     {{571, UINT64_C(0x1b9b68b8c4c8f4d3)}, {1284, UINT64_C(0xbe81a540299275be)}}},
    {"unsloth-mistral-Devstral-Small-2507.jinja",
     {{172, UINT64_C(0x2ff763525b96e401)}, {512, UINT64_C(0xe3fb9fc7c30e5869)}}},
};

/* Source: Fowler, Noll, Vo. */
static uint64_t fnv1a(str s) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < s.n; i++)
        hash = (hash ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001B3);
    return hash;
}

static void check_recorded(const char *name, const jinja_template *t, const char *context,
                           const recorded_render *want) {
    jinja_env env = recorded_env();
    error err = {0};
    buf out;
    buf_init(&out, SIZE_MAX);
    status st = jinja_render(t, str_of(context), &env, &out, &err);
    bool same = want->bytes == 0
                    ? st != OK
                    : st == OK && out.n == want->bytes && fnv1a(buf_view(&out)) == want->hash;
    CHECK(same);
    if (!same)
        (void)fprintf(stderr, "  %s: %s\n   got %zu bytes \"%.*s\"\n   want %zu bytes\n", name,
                      err.msg, out.n, STR(buf_view(&out)), want->bytes);
    buf_deinit(&out);
}

TEST(jinja_renders_every_template_of_the_suite_as_the_original_does) {
    static const char *const contexts[] = {RECORDED_PLAIN RECORDED_REST,
                                           RECORDED_TOOLS RECORDED_REST};
    size_t count = sizeof RECORDED / sizeof *RECORDED;
    SHARED_OR_SKIP(folder, "suites/chat-templates/README.md");
    (void)folder;
    CHECK_EQ(count, 63);
    for (size_t i = 0; i < count; i++) {
        jinja_options options = jinja_chat_options();
        jinja_template *t = NULL;
        error err = {0};
        char path[256];
        buf source;
        buf_init(&source, SIZE_MAX);
        (void)snprintf(path, sizeof path, "suites/chat-templates/%s", RECORDED[i].name);
        CHECK(read_shared(path, &source));
        CHECK_EQ(jinja_parse(&t, buf_view(&source), &options, &err), OK);
        CHECK_STR(err.msg, "");
        for (size_t k = 0; t != NULL && k < 2; k++)
            check_recorded(path, t, contexts[k], &RECORDED[i].plain_and_tools[k]);
        jinja_destroy(t);
        buf_deinit(&source);
    }
}
