/* test_model.c - from a file to a description, and every reason to refuse one. */
#include "model/model.h"

#include <errno.h>
#include <math.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/os.h"
#include "gguf_build.h"
#include "golden_paths.h"
#include "tensor/convert.h"

static model *open_built(build *b, str *bytes) {
    blob *file = NULL;
    model *m = NULL;
    error err = {0};
    *bytes = build_finish(b);
    CHECK_EQ(blob_open_memory(&file, *bytes, "folder/test.gguf", &err), OK);
    CHECK_EQ(model_open_blob(&m, file, &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

static void close_built(model *m, str bytes) {
    model_close(m);
    free((void *)(uintptr_t)bytes.p);
}

/* The refusal of the small model with `key` replaced by another count. */
static const char *count_refusal(const char *key, uint32_t value) {
    build b;
    build_good(&b, key);
    add_u32(&b, key, value);
    return model_refusal(&b);
}

/* --- what a good file gives ------------------------------------------------ */
TEST(model_defaults_follow_from_the_shape) {
    build b;
    str bytes;
    build_good(&b, NULL);
    model *m = open_built(&b, &bytes);
    const model_hparams *hp = &m->hparams;
    CHECK_STR(hp->arch, "llama");
    CHECK_EQ(hp->vocab, BUILD_VOCAB);
    CHECK_EQ(hp->kv_heads, 2);
    CHECK_EQ(hp->head_dim, BUILD_EMBD / 2);
    CHECK_EQ(m->ropes[0].dims, hp->head_dim);
    CHECK(m->ropes[0].freqs[4] == 0.01 && m->ropes[0].magnitude == 1.0f && hp->tied_output);
    CHECK(m->output.w.data == m->token_embd.data && m->output.bias.data == NULL);
    CHECK(m->ropes[0].freqs_long == NULL && m->layers[0].q.bias.data == NULL);
    CHECK_EQ(m->layers[0].q.w.rows, BUILD_EMBD);
    CHECK(hp->embd_scale == 1.0f && hp->residual_scale == 1.0f && hp->logit_scale == 1.0f);
    CHECK(hp->attn_scale == 0.25f && !hp->is_encoder && !hp->parallel && hp->experts.count == 0);
    CHECK_EQ(m->params, (7 * BUILD_EMBD + BUILD_VOCAB + 3) * BUILD_EMBD);
    CHECK_EQ(m->weight_bytes, m->params * 4);
    CHECK_EQ(m->file_bytes, bytes.n);
    CHECK_STR(m->name, "test.gguf");
    CHECK_EQ(m->chat_template.n, 0);
    close_built(m, bytes);
}

TEST(model_name_comes_from_the_file_and_is_safe_to_print) {
    build b;
    str bytes;
    build_good(&b, NULL);
    add_str(&b, "general.name",
            "a\nb \xc3\xa9 0123456789012345678901234567890123456789012345678901234\xc3\xa9xyz");
    model *m = open_built(&b, &bytes);
    CHECK(strncmp(m->name, "a?b \xc3\xa9 0123", 11) == 0);
    CHECK(strlen(m->name) == 62); /* the cut falls inside a character: it goes as a whole */
    CHECK(str_is_utf8(str_of(m->name)));
    close_built(m, bytes);
}

TEST(model_vectors_are_f32_whatever_the_file_stores) {
    build b;
    str bytes;
    build_good(&b, "output_norm.weight");
    add_tensor(&b, "output_norm.weight", DTYPE_BF16, 0, BUILD_EMBD);
    add_tensor(&b, "blk.0.attn_q.bias", DTYPE_F16, 0, BUILD_EMBD);
    model *m = open_built(&b, &bytes);
    CHECK_EQ(m->output_norm.gain.type, DTYPE_F32);
    CHECK_EQ(m->output_norm.gain.bytes, BUILD_EMBD * 4);
    CHECK_EQ(m->layers[0].q.bias.type, DTYPE_F32);
    CHECK(((const float *)m->layers[0].q.bias.data)[BUILD_EMBD - 1] == 0.0f);
    close_built(m, bytes);
}

static bool is_within(str file, const void *p) { return (uintptr_t)p - (uintptr_t)file.p < file.n; }

/* Every step reads them: they must not leave memory with the weights they lie between. */
TEST(model_vectors_are_no_part_of_the_file) {
    build b;
    str bytes;
    build_good(&b, NULL);
    add_tensor(&b, "blk.0.attn_q.bias", DTYPE_F32, 0, BUILD_EMBD);
    model *m = open_built(&b, &bytes);
    CHECK(is_within(bytes, m->token_embd.data) && is_within(bytes, m->layers[0].q.w.data));
    CHECK(!is_within(bytes, m->output_norm.gain.data));
    CHECK(!is_within(bytes, m->layers[0].attn_norm.gain.data));
    CHECK(!is_within(bytes, m->layers[0].q.bias.data));
    close_built(m, bytes);
}

TEST(model_chat_template_is_shown_as_it_is) {
    build b;
    str bytes;
    build_good(&b, NULL);
    add_str(&b, "tokenizer.chat_template", "{{ x }}\n");
    model *m = open_built(&b, &bytes);
    CHECK(str_eq(m->chat_template, S("{{ x }}\n")));
    close_built(m, bytes);
}

TEST(model_linear_rope_scaling_has_an_old_and_a_new_name) {
    static const char *const keys[] = {"llama.rope.scaling.factor", "llama.rope.scale_linear"};
    for (size_t i = 0; i < 2; i++) {
        build b;
        str bytes;
        build_good(&b, NULL);
        add_f32(&b, keys[i], 4.0f);
        model *m = open_built(&b, &bytes);
        CHECK(m->ropes[0].freqs[0] == 0.25);
        close_built(m, bytes);
    }
    build b;
    str bytes;
    build_good(&b, NULL);
    add_str(&b, "llama.rope.scaling.type", "none");
    add_f32(&b, "llama.rope.scaling.factor", 4.0f);
    model *m = open_built(&b, &bytes);
    CHECK(m->ropes[0].freqs[0] == 1.0);
    close_built(m, bytes);
}

/* --- hyper-parameters ------------------------------------------------------ */
TEST(model_required_keys_are_named_when_missing) {
    static const char *const keys[] = {
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        build b;
        char want[80];
        build_good(&b, keys[i]);
        (void)snprintf(want, sizeof want, "key '%s' is missing", keys[i]);
        CHECK_HAS(model_refusal(&b), want);
    }
}

TEST(model_counts_have_limits) {
    CHECK_HAS(count_refusal("llama.block_count", 0), "is 0, must be 1 to 512");
    CHECK_HAS(count_refusal("llama.block_count", 513), "is 513, must be 1 to 512");
    CHECK_HAS(count_refusal("llama.block_count", UINT32_MAX), "must be 1 to 512");
    CHECK_HAS(count_refusal("llama.block_count", 2), "'blk.1.attn_norm.weight' is missing");
    CHECK_HAS(count_refusal("llama.context_length", 1u << 31), "must be 1 to 134217728");
    CHECK_HAS(count_refusal("llama.embedding_length", 0), "must be 1 to 131072");
    CHECK_HAS(count_refusal("llama.feed_forward_length", 0), "must be 1 to 1048576");
    CHECK_HAS(count_refusal("llama.attention.head_count", 0), "must be 1 to 1024");
    CHECK_HAS(count_refusal("llama.attention.head_count_kv", 0), "cannot share 0");
    CHECK_HAS(count_refusal("llama.attention.head_count_kv", 1025), "must be 0 to 1024");
    CHECK_HAS(count_refusal("llama.vocab_size", 0), "is 0, tensor 'token_embd.weight' has 4 rows");
    CHECK_HAS(count_refusal("llama.vocab_size", 1u << 30), "must be 0 to 4194304");
}

TEST(model_heads_must_divide) {
    CHECK_HAS(count_refusal("llama.attention.head_count", 3), "32 is no multiple of 3");
    CHECK_HAS(count_refusal("llama.attention.head_count_kv", 4),
              "2 attention heads cannot share 4");
    CHECK_HAS(count_refusal("llama.attention.value_length", 8),
              "'blk.0.attn_v.weight' has 32 rows, must have 16");
    CHECK_HAS(count_refusal("llama.attention.key_length", 8192), "must be 1 to 4096");
}

TEST(model_rotary_dimensions_are_even_and_fit_the_head) {
    CHECK_HAS(count_refusal("llama.rope.dimension_count", 15), "15 rotary dimensions");
    CHECK_HAS(count_refusal("llama.rope.dimension_count", 18), "at most head dimension 16");
    CHECK_HAS(count_refusal("llama.rope.dimension_count", 0), "0 rotary dimensions");
    CHECK_HAS(count_refusal("llama.rope.dimension_count", 1u << 31), "must be 0 to 4096");
}

TEST(model_numbers_must_be_above_zero) {
    static const char *const keys[] = {"llama.rope.freq_base", "llama.rope.scaling.attn_factor",
                                       "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < 3; i++) {
        build b;
        build_good(&b, keys[i]);
        add_f32(&b, keys[i], 0.0f);
        CHECK_HAS(model_refusal(&b), "is 0, must be above 0");
        build_good(&b, keys[i]);
        add_f32(&b, keys[i], NAN);
        CHECK_HAS(model_refusal(&b), "must be finite");
    }
}

TEST(model_keys_that_are_understood_must_hold_what_they_say) {
    build b;
    CHECK_HAS(count_refusal("llama.expert_count", 8), "'llama.expert_used_count' is missing");
    CHECK_HAS(count_refusal("llama.expert_count", 1u << 31), "'llama.expert_count' is 2147483648");
    CHECK_STR(count_refusal("llama.expert_count", 0), "opened");
    CHECK_STR(count_refusal("llama.attention.sliding_window", 4096), "opened");
    build_good(&b, NULL);
    add_str(&b, "llama.rope.scaling.type", "dynamic");
    CHECK_HAS(model_refusal(&b), "'dynamic'; known are none, linear, yarn and longrope");
    build_good(&b, NULL);
    add_str(&b, "llama.logit_scale", "much");
    CHECK_HAS(model_refusal(&b), "'llama.logit_scale'");
}

TEST(model_without_causality_is_an_encoder) {
    build b;
    str bytes;
    build_good(&b, NULL);
    add_bool(&b, "llama.attention.causal", 0);
    add_u32(&b, "llama.pooling_type", 3);
    model *m = open_built(&b, &bytes);
    CHECK(m->hparams.is_encoder && m->hparams.pooling == MODEL_POOLING_LAST);
    close_built(m, bytes);
}

TEST(model_keys_without_a_meaning_do_not_stop_it) {
    log_set_level(LOG_OFF);
    CHECK_STR(count_refusal("llama.something_new", 1), "opened");
    log_set_level(LOG_INFO);
}

TEST(model_architectures_are_refused_by_name_with_the_known_ones) {
    build b;
    build_good(&b, "general.architecture");
    add_str(&b, "general.architecture", "gpt9");
    CHECK_HAS(model_refusal(&b), "'gpt9' is not known; known: arcee, baichuan, ");
    build_good(&b, "general.architecture");
    add_str(&b, "general.architecture", "\x1b[31m\xff");
    CHECK_HAS(model_refusal(&b), "'?[31m?' is not known");
    build_good(&b, "general.architecture");
    add_u32(&b, "general.architecture", 1);
    CHECK_HAS(model_refusal(&b), "is u32, must be string");
}

/* --- tensors --------------------------------------------------------------- */
TEST(model_missing_tensors_are_named) {
    static const char *const names[] = {"token_embd.weight", "output_norm.weight",
                                        "blk.0.attn_v.weight", "blk.0.ffn_down.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        build b;
        char want[80];
        build_good(&b, names[i]);
        (void)snprintf(want, sizeof want, "tensor '%s' is missing", names[i]);
        CHECK_HAS(model_refusal(&b), want);
    }
}

/* The refusal of the small model with one tensor replaced. */
static const char *tensor_refusal(const char *name, dtype type, uint64_t rows, uint64_t cols) {
    build b;
    build_good(&b, name);
    add_tensor(&b, name, type, rows, cols);
    return model_refusal(&b);
}

TEST(model_shapes_that_disagree_show_both_numbers) {
    CHECK_HAS(tensor_refusal("blk.0.attn_q.weight", DTYPE_F32, 16, 32),
              "has 16 rows, must have 32");
    CHECK_HAS(tensor_refusal("blk.0.attn_q.weight", DTYPE_F32, 32, 16),
              "has 16 columns, must have 32");
    CHECK_HAS(tensor_refusal("output_norm.weight", DTYPE_F32, 2, 32),
              "has 64 elements, must have 32");
    CHECK_HAS(tensor_refusal("blk.0.attn_k.bias", DTYPE_F32, 0, 8), "has 8 elements, must have 32");
    CHECK_HAS(tensor_refusal("token_embd.weight", DTYPE_F32, 5, 32),
              "tokenizer has 4 tokens, tensor 'token_embd.weight' has 5 rows");
    CHECK_HAS(tensor_refusal("rope_freqs.weight", DTYPE_F32, 0, 16), "must have 8");
    CHECK_HAS(count_refusal("llama.vocab_size", 5), "is 5, tensor 'token_embd.weight' has 4 rows");
}

TEST(model_a_third_dimension_is_refused) {
    const uint64_t dims[3] = {BUILD_EMBD, BUILD_EMBD, 2};
    build b;
    build_good(&b, "blk.0.ffn_up.weight");
    add_tensor_raw(&b, S("blk.0.ffn_up.weight"), 3, 3, dims, DTYPE_F16, b.data_bytes);
    b.data_bytes += (uint64_t)BUILD_EMBD * BUILD_EMBD * 4;
    CHECK_HAS(model_refusal(&b), "has 3 dimensions, must have at most 2");
}

TEST(model_integers_are_no_weights) {
    CHECK_HAS(tensor_refusal("blk.0.ffn_up.weight", DTYPE_I8, 32, 32),
              "tensor 'blk.0.ffn_up.weight' is I8, weights cannot be integers");
    CHECK_HAS(tensor_refusal("output_norm.weight", DTYPE_I32, 0, 32), "is I32");
}

TEST(model_every_tensor_must_have_a_place) {
    CHECK_HAS(tensor_refusal("blk.0.attn_sinks.weight", DTYPE_F32, 0, 2),
              "tensor 'blk.0.attn_sinks.weight' has no place");
    CHECK_HAS(tensor_refusal("blk.1.attn_q.weight", DTYPE_F32, 32, 32), "has no place");
}

TEST(model_rope_factors_must_be_above_zero) {
    CHECK_HAS(tensor_refusal("rope_freqs.weight", DTYPE_F32, 0, 8), "has 0 at 0");
}

TEST(model_tensors_that_kernels_could_not_read_in_place_are_refused) {
    const uint64_t dims[1] = {BUILD_EMBD};
    build b;
    build_good(&b, "output_norm.weight");
    add_u32(&b, "general.alignment", 1);
    add_tensor_raw(&b, S("output_norm.weight"), 1, 1, dims, DTYPE_F32, b.data_bytes + 1);
    b.data_bytes += 256;
    b.align = 1;
    CHECK_HAS(model_refusal(&b), "must be a multiple of 4");
}

/* --- failing calls --------------------------------------------------------- */
TEST(model_every_allocation_may_fail) {
    build b;
    str bytes;
    build_good(&b, "output_norm.weight");
    add_tensor(&b, "output_norm.weight", DTYPE_F16, 0, BUILD_EMBD);
    bytes = build_finish(&b);
    int64_t n = 0;
    for (; n < 100; n++) {
        blob *file = NULL;
        model *m = NULL;
        error err = {0};
        CHECK_EQ(blob_open_memory(&file, bytes, "test", &err), OK);
        mem_fail_after(n);
        status st = model_open_blob(&m, file, &err);
        mem_fail_after(-1);
        model_close(m);
        if (st == OK) break;
        CHECK_EQ(st, ERR_NOMEM);
        CHECK(err.msg[0] != '\0');
    }
    CHECK(n > 6 && n < 100);
    free((void *)(uintptr_t)bytes.p);
}

TEST(model_every_system_call_may_fail) {
    static const os_call calls[] = {OS_CALL_OPEN, OS_CALL_STAT, OS_CALL_WRITE, OS_CALL_MMAP};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int64_t n = 0;
        for (; n < 1000; n++) {
            model *m = NULL;
            error err = {0};
            os_fail_after(calls[i], n, EIO);
            status st = model_open(&m, "synth:tiny:q8_0", &err);
            os_fail_after(calls[i], -1, 0);
            model_close(m);
            if (st == OK) break;
            CHECK(err.msg[0] != '\0');
        }
        CHECK(n > 0 && n < 1000);
    }
}

/* --- recorded models ------------------------------------------------------- */
static model *open_shared(const char *relative, error *err) {
    const char *path = shared_path(relative);
    model *m = NULL;
    *err = (error){0};
    CHECK(path != NULL);
    if (path != NULL && model_open(&m, path, err) != OK) return NULL;
    return m;
}

TEST(model_opens_every_variant_of_the_trained_model) {
    SHARED_OR_SKIP(folder, "oracle/public/stories260k/gguf");
    static const char *const types[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"};
    (void)folder;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char relative[96];
        error err;
        (void)snprintf(relative, sizeof relative,
                       "oracle/public/stories260k/gguf/stories260K-%s.gguf", types[i]);
        model *m = open_shared(relative, &err);
        CHECK_STR(err.msg, "");
        if (m == NULL) continue;
        CHECK_EQ(m->hparams.layers, 5);
        CHECK_EQ(m->hparams.kv_heads, 4);
        CHECK_EQ(m->params, 260032);
        CHECK_STR(dtype_name(m->token_embd.type), types[i]);
        CHECK_EQ(m->layers[4].down.w.cols, 172);
        CHECK_EQ(m->vocab.count, 512);
        CHECK_STR(m->name, "stories260K");
        model_close(m);
    }
}

TEST(model_opens_the_whole_llama_family) {
    SHARED_OR_SKIP(folder, "oracle/public/models");
    (void)folder;
    error err;
    model *m = open_shared("oracle/public/models/llama-attn-bias/model-f32.gguf", &err);
    CHECK(m != NULL && m->layers[1].o.bias.cols == 64 && m->layers[1].up.bias.data == NULL);
    model_close(m);
    m = open_shared("oracle/public/models/llama-headdim/model-f32.gguf", &err);
    CHECK(m != NULL && m->hparams.head_dim == 32 && m->layers[0].o.w.cols == 96);
    CHECK(m != NULL && m->layers[0].down.bias.cols == 48 && !m->hparams.tied_output);
    model_close(m);
    m = open_shared("oracle/public/models/llama-mha/model-f32.gguf", &err);
    CHECK(m != NULL && m->hparams.kv_heads == m->hparams.heads);
    model_close(m);
}
