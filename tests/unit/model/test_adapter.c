/* test_adapter.c - adapter files as they are read: names, scales, orders of rows, and what is
 * refused by name. */
#include "model/adapter.h"

#include <math.h>

#include "base/alloc.h"
#include "gguf_build.h"
#include "model/adapter_internal.h"
#include "model/adapter_rig.h"

#define Q "blk.0.attn_q.weight"
#define P "base_model.model.model.layers.0."

/* A model of two layers; the caller closes. */
static model *a_model(void) {
    model *m = NULL;
    error err = {0};
    CHECK_EQ(model_open(&m, "synth:tiny:f32", &err), OK);
    CHECK_STR(err.msg, "");
    return m;
}

static const char *open_refusal(const model *m, const char *path) {
    static error err;
    adapter *a = NULL;
    err = (error){0};
    status st = adapter_open(&a, m, path, &err);
    adapter_close(a);
    CHECK(st == OK || err.msg[0] != '\0');
    return st == OK ? "opened" : err.msg;
}

/* --- GGUF -------------------- */

static void add_pair(build *b, const char *tensor, dtype type, uint64_t rows, uint64_t cols,
                     uint64_t rank) {
    char name[128];
    (void)snprintf(name, sizeof name, "%s.lora_a", tensor);
    add_tensor(b, name, type, rank, cols);
    (void)snprintf(name, sizeof name, "%s.lora_b", tensor);
    add_tensor(b, name, DTYPE_F32, rows, rank);
}

static void build_adapter(build *b, const char *without) {
    build_init(b);
    if (!is_left_out("general.type", without)) add_str(b, "general.type", "adapter");
    if (!is_left_out("adapter.type", without)) add_str(b, "adapter.type", "lora");
    if (!is_left_out("general.architecture", without)) add_str(b, "general.architecture", "llama");
    if (!is_left_out("adapter.lora.alpha", without)) add_f32(b, "adapter.lora.alpha", 16);
}

static status try_adapter(str bytes, error *err) {
    model *m = a_model();
    adapter *a = NULL;
    status st = adapter_open_gguf_bytes(&a, m, bytes, err);
    adapter_close(a);
    model_close(m);
    return st;
}

static const char *said_without(const char *key, const char *value) {
    build b;
    build_adapter(&b, key);
    if (value != NULL) add_str(&b, key, value);
    add_pair(&b, Q, DTYPE_F32, 64, 64, 2);
    return refusal_by(&b, try_adapter);
}

TEST(adapter_gguf_keys_say_what_it_is) {
    CHECK_STR(said_without("none", NULL), "opened");
    CHECK_HAS(said_without("general.type", NULL), "holds a model of type 'lora', no LoRA");
    CHECK_HAS(said_without("general.type", "model"), "holds a model of type 'lora', no LoRA");
    CHECK_HAS(said_without("adapter.type", NULL), "no LoRA");
    CHECK_HAS(said_without("adapter.type", "control_vector"), "type 'control_vector', no LoRA");
    CHECK_HAS(said_without("general.architecture", "qwen2"),
              "is for 'qwen2', the model is 'llama'");
    CHECK_HAS(said_without("general.architecture", NULL), "is for '', the model is 'llama'");
    CHECK_HAS(said_without("adapter.lora.alpha", NULL), "adapter.lora.alpha");
    CHECK_HAS(said_without("adapter.lora.alpha", "16"), "adapter.lora.alpha");
}

/* What an adapter with one more tensor of that name and shape says. */
static const char *said_with(const char *name, dtype type, uint64_t rows, uint64_t cols) {
    build b;
    build_adapter(&b, NULL);
    add_pair(&b, Q, DTYPE_F32, 64, 64, 2);
    add_tensor(&b, name, type, rows, cols);
    return refusal_by(&b, try_adapter);
}

TEST(adapter_gguf_tensors_are_checked_by_name) {
    build b;
    CHECK_HAS(said_with("blk.0.attn_k.weight", DTYPE_F32, 2, 64),
              "'blk.0.attn_k.weight' is neither");
    CHECK_HAS(said_with("blk.0.attn_k.weight.lora_a", DTYPE_F32, 2, 64),
              "'blk.0.attn_k.weight' has no matrix B");
    CHECK_HAS(said_with("blk.0.attn_k.weight.lora_b", DTYPE_F32, 64, 2),
              "'blk.0.attn_k.weight' has no matrix A");
    CHECK_HAS(said_with("blk.0.attn_k.weight.lora_a", DTYPE_Q8_0, 2, 64),
              "matrices of 'blk.0.attn_k.weight' are Q8_0; F32, F16 and BF16 can be used");
    build_adapter(&b, NULL);
    CHECK_HAS(refusal_by(&b, try_adapter), "no matrices");
    build_adapter(&b, NULL);
    add_tensor(&b, Q ".lora_a", DTYPE_F32, 2, 64);
    add_tensor(&b, Q ".lora_b", DTYPE_F32, 64, 3);
    CHECK_HAS(refusal_by(&b, try_adapter), "matrix A has rank 2, matrix B has rank 3");
    build_adapter(&b, NULL);
    add_pair(&b, Q, DTYPE_F32, 64, 4, ADAPTER_RANK_MAX + 1);
    CHECK_HAS(refusal_by(&b, try_adapter), "rank 4097, want 1 to 4096");
}

TEST(adapter_gguf_experts_are_refused) {
    const uint64_t dims[3] = {4, 2, 2};
    build b;
    build_adapter(&b, NULL);
    add_tensor_raw(&b, S("blk.0.ffn_up_exps.weight.lora_a"), 3, 3, dims, DTYPE_F32, 0);
    b.data_bytes = 64;
    CHECK_HAS(refusal_by(&b, try_adapter), "'blk.0.ffn_up_exps.weight.lora_a' has 3 dimensions");
}

TEST(adapter_gguf_scale_is_alpha_over_rank) {
    static rig_adapter file;
    static const float alphas[] = {16, 0, 1}, scales[] = {8, 1, 0.5f};
    model *m = a_model();
    for (int i = 0; i < 3; i++) {
        adapter *a = NULL;
        (void)rig_matrix_add(&file, Q ".lora_a", 2, 64, NULL);
        (void)rig_matrix_add(&file, Q ".lora_b", 64, 2, NULL);
        rig_write_gguf(&file, "llama", alphas[i]);
        CHECK_EQ(adapter_open(&a, m, file.path, NULL), OK);
        CHECK_EQ(adapter_count(a), 1);
        CHECK_EQ(adapter_rank(a), 2);
        CHECK_EQ(adapter_bytes(a), 2 * 2 * 64 * 4);
        CHECK(adapter_get(a, 0)->scale == scales[i]);
        CHECK(str_eq(adapter_get(a, 0)->tensor, S(Q)));
        adapter_close(a);
        rig_adapter_drop(&file);
    }
    (void)rig_matrix_add(&file, Q ".lora_a", 2, 64, NULL);
    (void)rig_matrix_add(&file, Q ".lora_b", 64, 2, NULL);
    rig_write_gguf(&file, "llama", INFINITY);
    CHECK_HAS(open_refusal(m, file.path), "'adapter.lora.alpha' is inf");
    rig_adapter_drop(&file);
    model_close(m);
}

/* --- PEFT -------------------- */

static void add_peft_pair(rig_adapter *a, const char *module, uint32_t rows, uint32_t cols,
                          uint32_t rank) {
    char name[160];
    (void)snprintf(name, sizeof name, P "%s.lora_A.weight", module);
    (void)rig_matrix_add(a, name, rank, cols, NULL);
    (void)snprintf(name, sizeof name, P "%s.lora_B.weight", module);
    (void)rig_matrix_add(a, name, rows, rank, NULL);
}

/* The scale of q_proj (rank 4) under that configuration. */
static float peft_scale(const char *config) {
    static rig_adapter dir;
    model *m = a_model();
    adapter *a = NULL;
    error err = {0};
    add_peft_pair(&dir, "self_attn.q_proj", 64, 64, 4);
    rig_write_peft(&dir, config);
    CHECK_EQ(adapter_open(&a, m, dir.path, &err), OK);
    CHECK_STR(err.msg, "");
    float scale = a != NULL ? adapter_get(a, 0)->scale : 0;
    if (a != NULL) CHECK(str_eq(adapter_get(a, 0)->tensor, S(Q)));
    adapter_close(a);
    rig_adapter_drop(&dir);
    model_close(m);
    return scale;
}

TEST(adapter_peft_scales_follow_its_configuration) {
    CHECK(peft_scale("{}") == 2); /* PEFT's default alpha is 8 */
    CHECK(peft_scale("{\"lora_alpha\":2}") == 0.5f);
    CHECK(peft_scale("{\"lora_alpha\":2,\"use_rslora\":true}") == 1);
    CHECK(peft_scale("{\"alpha_pattern\":{\"q_proj\":12}}") == 3);
    CHECK(peft_scale("{\"alpha_pattern\":{\"self_attn.q_proj\":12}}") == 3);
    CHECK(peft_scale("{\"alpha_pattern\":{\"_proj\":12,\"k_proj\":16}}") == 2);
    CHECK(peft_scale("{\"bias\":\"none\",\"use_dora\":false,\"modules_to_save\":[],"
                     "\"layer_replication\":null}") == 2);
}

static const char *peft_refusal(const char *config, const char *module, const char *more) {
    static rig_adapter dir;
    model *m = a_model();
    add_peft_pair(&dir, module, 64, 64, 4);
    if (more != NULL) (void)rig_matrix_add(&dir, more, 4, 64, NULL);
    rig_write_peft(&dir, config);
    const char *said = open_refusal(m, dir.path);
    rig_adapter_drop(&dir);
    model_close(m);
    return said;
}

TEST(adapter_peft_refuses_what_is_no_plain_lora) {
    const char *q = "self_attn.q_proj";
    CHECK_STR(peft_refusal("{}", q, NULL), "opened");
    CHECK_HAS(peft_refusal("{\"use_dora\":true}", q, NULL), "'use_dora' is set");
    CHECK_HAS(peft_refusal("{\"bias\":\"all\"}", q, NULL), "'bias' is set");
    CHECK_HAS(peft_refusal("{\"modules_to_save\":[\"lm_head\"]}", q, NULL), "'modules_to_save'");
    CHECK_HAS(peft_refusal("{\"peft_type\":\"IA3\"}", q, NULL), "peft_type is 'IA3', only LORA");
    CHECK_HAS(peft_refusal("{\"lora_alpha\":\"x\"}", q, NULL), "lora_alpha");
    CHECK_HAS(peft_refusal("[]", q, NULL), "object");
    CHECK_HAS(peft_refusal("", q, NULL), "adapter_config.json");
    CHECK_HAS(peft_refusal("{}", "self_attn.nose", NULL),
              "module 'model.layers.0.self_attn.nose' is not known in LlamaForCausalLM");
    CHECK_HAS(peft_refusal("{}", "mlp.experts.3.up_proj", NULL), "cannot be adapted");
    CHECK_HAS(peft_refusal("{}", q, P "self_attn.q_proj.lora_magnitude_vector"), "no part of a");
    CHECK_HAS(peft_refusal("{}", q, P "self_attn.v_proj.lora_A.weight"), "has no matrix B");
    CHECK_HAS(peft_refusal("{}", q, P "self_attn.q_proj.lora_A.default.weight"), "two matrices A");
}

TEST(adapter_paths_that_lead_nowhere_are_named) {
    model *m = a_model();
    CHECK_HAS(open_refusal(m, "/no/such/file"), "/no/such/file");
    CHECK_HAS(open_refusal(m, "/proc"), "adapter_config.json");
    CHECK_HAS(open_refusal(m, "/dev/zero"), "not a regular file");
    model_close(m);
}

/* Rows of queries come in halves of a head and leave as pairs. */
TEST(adapter_peft_rows_are_put_into_the_order_of_the_model) {
    static rig_adapter dir;
    enum { DIM = 16, RANK = 2 };
    model *m = a_model();
    adapter *a = NULL;
    CHECK_EQ(m->hparams.head_dim, DIM);
    add_peft_pair(&dir, "self_attn.q_proj", 64, 64, RANK);
    for (uint32_t i = 0; i < 64 * RANK; i++) dir.items[1].data[i] = (float)i;
    rig_write_peft(&dir, "{}");
    CHECK_EQ(adapter_open(&a, m, dir.path, NULL), OK);
    const float *b = adapter_get(a, 0)->b.data;
    for (uint32_t r = 0; r < 64; r++) {
        uint32_t from = r / DIM * DIM + (r % DIM) / 2 + (r % 2) * (DIM / 2);
        for (uint32_t k = 0; k < RANK; k++) CHECK(b[r * RANK + k] == (float)(from * RANK + k));
    }
    adapter_close(a);
    rig_adapter_drop(&dir);
    model_close(m);
}

/* --- memory -------------------- */

static void check_memory(const model *m, const char *path) {
    enum { TRIES_MAX = 400 };
    int64_t n = 0;
    for (; n < TRIES_MAX; n++) {
        adapter *a = NULL;
        error err = {0};
        mem_fail_after(n);
        status st = adapter_open(&a, m, path, &err);
        mem_fail_after(-1);
        adapter_close(a);
        if (st == OK) break;
        CHECK(err.msg[0] != '\0');
    }
    CHECK(n > 0 && n < TRIES_MAX);
}

TEST(adapter_opening_fails_cleanly_wherever_memory_ends) {
    static rig_adapter file, dir;
    model *m = a_model();
    (void)rig_matrix_add(&file, Q ".lora_a", 2, 64, NULL);
    (void)rig_matrix_add(&file, Q ".lora_b", 64, 2, NULL);
    rig_write_gguf(&file, "llama", 1);
    add_peft_pair(&dir, "self_attn.q_proj", 64, 64, 4);
    rig_write_peft(&dir, "{\"alpha_pattern\":{\"v_proj\":1}}");
    check_memory(m, file.path);
    check_memory(m, dir.path);
    rig_adapter_drop(&file);
    rig_adapter_drop(&dir);
    model_close(m);
}
