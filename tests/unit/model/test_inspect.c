/* test_inspect.c - the report on a file, for people and for programs. */
#include "model/inspect.h"

#include <unistd.h>

#include "base/alloc.h"
#include "base/os.h"
#include "gguf_build.h"
#include "golden_paths.h"
#include "model/model.h"

/* The report on a built file, which needs a path: a descriptor of this process has one. */
static status inspect_built(build *b, bool json, buf *out, error *err) {
    char path[64];
    int fd = -1;
    str bytes = build_finish(b);
    CHECK_EQ(os_memfd("test", &fd, err), OK);
    CHECK_EQ(os_write_full(fd, bytes.p, bytes.n, err), OK);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    buf_init(out, 4 << 20);
    status st = model_inspect(path, json, out, err);
    buf_put_char(out, '\0');
    os_close(fd);
    free((void *)(uintptr_t)bytes.p);
    return st;
}

TEST(inspect_says_what_a_good_file_holds_and_that_it_runs) {
    build b;
    buf out;
    error err = {0};
    build_good(&b, NULL);
    add_str(&b, "tokenizer.chat_template", "first line\nsecond");
    add_str(&b, "general.license", "cc0");
    add_str(&b, "general.author", "nobody");
    CHECK_EQ(inspect_built(&b, false, &out, &err), OK);
    CHECK_HAS(out.p, "architecture  llama\n");
    CHECK_HAS(out.p, "head_dim             16\n");
    CHECK_HAS(out.p, "tokenizer     llama, 4 tokens, adds BOS\n");
    CHECK_HAS(out.p, "              bos  1 <s>\n              eos  2 </s>\n");
    CHECK_HAS(out.p, "              end  2 </s>\n");
    CHECK_HAS(out.p, "license       cc0\n");
    CHECK_HAS(out.p, "author        nobody\n");
    CHECK_HAS(out.p, "chat template 17 bytes, check: ");
    CHECK_HAS(out.p, "              first line\n");
    CHECK_HAS(out.p, " weights; KV cache in f16 ");
    CHECK_HAS(out.p, "llama.attention.layer_norm_rms_epsilon = 1e-05\n");
    CHECK_HAS(out.p, "tokenizer.ggml.tokens = [<unk>, <s>, </s>, a]\n");
    CHECK_HAS(out.p, "token_embd.weight");
    CHECK_HAS(out.p, "[4, 32]");
    CHECK_HAS(out.p, "\ncan be run by this version\n");
    buf_deinit(&out);
}

TEST(inspect_shows_both_chat_templates_and_what_they_can) {
    build b;
    buf out;
    error err = {0};
    build_good(&b, NULL);
    add_str(&b, "tokenizer.chat_template",
            "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}");
    add_str(&b, "tokenizer.chat_template.tool_use", "{{ tools }}");
    CHECK_EQ(inspect_built(&b, false, &out, &err), OK);
    CHECK_HAS(out.p, "chat template 62 bytes, and 11 bytes for tools, check: ");
    CHECK_HAS(out.p, "can: system, strings, tools");
    buf_deinit(&out);
}

TEST(inspect_says_why_a_file_cannot_run) {
    build b;
    buf out;
    error err = {0};
    build_good(&b, "general.architecture");
    add_str(&b, "general.architecture", "other");
    add_u32(&b, "other.block_count", 9);
    CHECK_EQ(inspect_built(&b, false, &out, &err), OK);
    CHECK_HAS(out.p, "layers               9\n");
    CHECK_HAS(out.p, "bos  1 ");
    CHECK_HAS(out.p, "cannot be run by this version: model: architecture 'other' is not known");
    buf_deinit(&out);
}

TEST(inspect_works_without_any_key_and_without_data) {
    build b;
    buf out;
    error err = {0};
    build_init(&b);
    CHECK_EQ(inspect_built(&b, false, &out, &err), OK);
    CHECK_HAS(out.p, "architecture  -\n");
    buf_deinit(&out);
    build_good(&b, NULL);
    b.data_bytes = 0;
    CHECK_EQ(inspect_built(&b, true, &out, &err), OK);
    CHECK_HAS(out.p, "\"runnable\":false");
    CHECK_HAS(out.p, "describes 11 tensors but ends before their data");
    buf_deinit(&out);
}

TEST(inspect_lets_nothing_reach_the_terminal_unescaped) {
    build b;
    buf out;
    error err = {0};
    build_good(&b, NULL);
    add_str(&b, "a", "red \x1b[31m\nline");
    add_str(&b, "c",
            "caf\xC3\xA9 \xC2\x9B"
            "31m \xE2\x80\xAEtxt");
    add_str(&b, "b", "\xff\xfe");
    CHECK_EQ(inspect_built(&b, false, &out, &err), OK);
    CHECK_HAS(out.p, "a = red \\x1b[31m\\nline\n");
    CHECK_HAS(out.p, "b = \\xff\\xfe\n");
    CHECK_HAS(out.p, "c = caf\xC3\xA9 \\xc2\\x9b31m \\xe2\\x80\\xaetxt\n");
    buf_deinit(&out);
}

TEST(inspect_long_values_are_cut_and_long_arrays_counted) {
    static char text[2000];
    float many[9] = {0};
    build b;
    buf out;
    error err = {0};
    memset(text, 'x', sizeof text - 1);
    build_good(&b, NULL);
    add_str(&b, "long", text);
    add_f32s(&b, "many", 9, many);
    add_f32s(&b, "few", 2, (float[]){0.1f, -2.0f});
    CHECK_EQ(inspect_built(&b, false, &out, &err), OK);
    CHECK_HAS(out.p, "xxx... (1999 bytes)\n");
    CHECK_HAS(out.p, "many = [9 f32]\n");
    CHECK_HAS(out.p, "few = [0.1, -2]\n");
    buf_deinit(&out);
}

TEST(inspect_json_has_the_same_facts) {
    build b;
    buf out;
    error err = {0};
    build_good(&b, NULL);
    add_f32s(&b, "few", 2, (float[]){0.1f, -2.0f});
    add_i32(&b, "minus", -7);
    add_bool(&b, "yes", 1);
    CHECK_EQ(inspect_built(&b, true, &out, &err), OK);
    CHECK_HAS(out.p, "\"architecture\":\"llama\"");
    CHECK_HAS(out.p, "\"types\":[{\"type\":\"F32\",\"tensors\":11,");
    CHECK_HAS(out.p, "\"tokenizer\":{\"model\":\"llama\",\"pre\":null,\"tokens\":4,\"bos_id\":1,"
                     "\"bos_text\":\"<s>\"");
    CHECK_HAS(out.p, "\"end_ids\":[2]");
    CHECK_HAS(out.p, "\"about\":{},");
    CHECK_HAS(out.p, "\"chat\":{\"check\":null,");
    CHECK_HAS(out.p, "\"few\":[0.1,-2");
    CHECK_HAS(out.p, "\"minus\":-7");
    CHECK_HAS(out.p, "\"yes\":true");
    CHECK_HAS(out.p, "\"shape\":[4,32]");
    CHECK_HAS(out.p, "\"chat_template\":null");
    CHECK_HAS(out.p, "\"runnable\":true,\"reason\":null}\n");
    buf_deinit(&out);
}

TEST(inspect_tells_the_memory_of_the_kv_cache) {
    build b;
    buf out;
    error err = {0};
    build_good(&b, NULL);
    CHECK_EQ(inspect_built(&b, true, &out, &err), OK);
    const char *at = strstr(out.p, "\"kv_bytes_per_1k\":");
    CHECK(at != NULL);
    /* the file's layers x kv_heads x (key + value) x 2 bytes x 1024 tokens */
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:tiny:f32", &err), OK);
    const model_hparams *h = &m->hparams;
    uint64_t bytes = (uint64_t)h->layers * h->kv_heads * h->head_dim * 2 * 2 * 1024;
    char want[64];
    (void)snprintf(want, sizeof want, "\"kv_bytes_per_1k\":%llu,", (unsigned long long)bytes);
    buf_clear(&out);
    CHECK_EQ(model_inspect("synth:tiny:f32", true, &out, &err), OK);
    buf_put_char(&out, '\0');
    CHECK_HAS(out.p, want);
    model_close(m);
    buf_deinit(&out);
}

static const char *say_how(dtype t) { return t == DTYPE_F32 ? "as it is" : "somehow"; }

TEST(inspect_says_how_each_type_is_computed) {
    buf out;
    error err = {0};
    buf_init(&out, 1 << 20);
    inspect_options o = {.how = say_how};
    CHECK_EQ(model_inspect_with("synth:tiny:q8_0", &o, &out, &err), OK);
    buf_put_char(&out, '\0');
    CHECK_HAS(out.p, "KiB, as it is\n");
    CHECK_HAS(out.p, "KiB, somehow\n");
    buf_deinit(&out);
}

TEST(inspect_shows_the_whole_of_a_directory) {
    SHARED_OR_SKIP(folder, "oracle/public/stories260k/hf-f32");
    buf out;
    error err = {0};
    buf_init(&out, 1 << 20);
    CHECK_EQ(model_inspect(folder, false, &out, &err), OK);
    CHECK_STR(err.msg, "");
    buf_put_char(&out, '\0');
    CHECK_HAS(out.p, ", 512 tokens, ");
    CHECK_HAS(out.p, "architecture  llama\n");
    CHECK_HAS(out.p, "\ncan be run by this version\n");
    buf_deinit(&out);
}

TEST(inspect_a_report_larger_than_allowed_is_an_error) {
    buf out;
    error err = {0};
    buf_init(&out, 100);
    CHECK_EQ(model_inspect("synth:tiny:f32", false, &out, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "inspect");
    buf_deinit(&out);
}

TEST(inspect_every_allocation_may_fail) {
    int64_t n = 0;
    for (; n < 1000; n++) {
        buf out;
        error err = {0};
        buf_init(&out, 1 << 20);
        mem_fail_after(n);
        status st = model_inspect("synth:tiny:f32", true, &out, &err);
        mem_fail_after(-1);
        buf_deinit(&out);
        if (st == OK) break;
        CHECK(err.msg[0] != '\0');
    }
    CHECK(n > 10 && n < 1000);
}

/* The report of a recorded model. */
static void inspect_recorded(const char *folder, const char *name, buf *out) {
    char path[1200];
    error err = {0};
    (void)snprintf(path, sizeof path, "%s/%s/model-f32.gguf", folder, name);
    buf_init(out, 4 << 20);
    CHECK_EQ(model_inspect(path, false, out, &err), OK);
    buf_put_char(out, '\0');
}

TEST(inspect_reports_on_every_recorded_architecture) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    static const char *const archs[] = {"bert", "gemma3", "gpt-oss", "mamba", "mixtral", "qwen3"};
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        buf out;
        inspect_recorded(folder, archs[i], &out);
        CHECK_HAS(out.p, "\ncan be run by this version\n");
        buf_deinit(&out);
    }
}

TEST(inspect_tells_experts_windows_and_rope) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    buf out;
    inspect_recorded(folder, "gpt-oss", &out);
    CHECK_HAS(out.p, "experts              4\n");
    CHECK_HAS(out.p, "experts_used         2\n");
    CHECK_HAS(out.p, "window               20\n");
    CHECK_HAS(out.p, "layers_with_window   1\n");
    CHECK_HAS(out.p, "rope_magnitude       1.20794\n");
    CHECK_HAS(out.p, "rope_base            150000\n");
    buf_deinit(&out);
    inspect_recorded(folder, "deepseek2", &out);
    CHECK_HAS(out.p, "kv_rank              32\n");
    /* 2 layers x (latent 32 + rotary key 16) x 2 bytes x 1024 tokens */
    CHECK_HAS(out.p, "KV cache in f16 192.0 KiB per 1024 tokens");
    buf_deinit(&out);
    inspect_recorded(folder, "mamba", &out);
    CHECK(strstr(out.p, "KV cache") == NULL && strstr(out.p, "heads") == NULL);
    buf_deinit(&out);
}
