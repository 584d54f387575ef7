/* test_arch_encoder.c - BERT, Nomic BERT and Jina BERT v2 files: every tensor finds its field,
 * fused ones are cut right, and what cannot be computed is refused. */
#include <math.h>

#include "arch_rig.h"
#include "golden_paths.h"

/* --- bert -------------------------------------------------------------------- */
static const arch_key bert_keys[] = {
    {"bert.block_count", 1},          {"bert.context_length", 8},
    {"bert.embedding_length", 16},    {"bert.feed_forward_length", 24},
    {"bert.attention.head_count", 2},
};
static const arch_tensor bert_tensors[] = {
    {"token_embd.weight", BUILD_VOCAB, 16, false},
    {"token_types.weight", 2, 16, true},
    {"position_embd.weight", 8, 16, false},
    {"token_embd_norm.weight", 0, 16, false},
    {"blk.0.attn_q.weight", 16, 16, false},
    {"blk.0.attn_q.bias", 0, 16, true},
    {"blk.0.attn_k.weight", 16, 16, false},
    {"blk.0.attn_v.weight", 16, 16, false},
    {"blk.0.attn_output.weight", 16, 16, false},
    {"blk.0.attn_output_norm.weight", 0, 16, false},
    {"blk.0.attn_output_norm.bias", 0, 16, true},
    {"blk.0.ffn_up.weight", 24, 16, false},
    {"blk.0.ffn_up.bias", 0, 24, true},
    {"blk.0.ffn_down.weight", 16, 24, false},
    {"blk.0.layer_output_norm.weight", 0, 16, false},
};
static const arch_case bert = {
    "bert",
    bert_keys,
    ARCH_COUNT(bert_keys),
    bert_tensors,
    ARCH_COUNT(bert_tensors),
    "bert.attention.layer_norm_epsilon",
};

TEST(encoder_bert_has_learned_positions_and_norms_on_sums) {
    build b;
    str bytes;
    arch_build(&b, &bert, NULL);
    model *m = arch_open(&b, &bytes);
    const model_hparams *hp = &m->hparams;
    const model_layer *l = &m->layers[0];
    CHECK(hp->is_encoder && hp->act == ACT_GELU && hp->norm == NORM_LAYER);
    CHECK_EQ(hp->pooling, MODEL_POOLING_MEAN);
    CHECK_EQ(hp->kv_heads, 2);
    CHECK_EQ(hp->head_dim, 8);
    CHECK(fabsf(hp->attn_scale - 1.0f / sqrtf(8.0f)) < 1e-7f);
    CHECK_EQ(m->position_embd.rows, 8);
    CHECK_EQ(m->type_embd.rows * m->type_embd.cols, 16);
    CHECK(m->embd_norm.on && !m->output_norm.on && !model_has(&m->output.w));
    CHECK(!l->attn_norm.on && l->attn_out_norm.on && !l->ffn_norm.on && l->layer_out_norm.on);
    CHECK(!model_has(&l->gate.w) && !model_has(&l->router.w));
    CHECK(model_has(&l->q.bias) && !model_has(&l->k.bias));
    CHECK_EQ(l->rope, MODEL_ROPE_NONE);
    CHECK(hp->alibi_slopes == NULL);
    arch_close(m, bytes);
}

TEST(encoder_bert_takes_its_own_tensors_and_no_others) {
    arch_check_tensors(&bert);
    build b;
    arch_build(&b, &bert, NULL);
    add_tensor(&b, "blk.0.ffn_gate.weight", DTYPE_F32, 24, 16);
    CHECK_HAS(model_refusal(&b), "'blk.0.ffn_gate.weight' has no place in architecture 'bert'");
}

TEST(encoder_keys_are_required_and_bounded) {
    for (size_t i = 0; i < ARCH_COUNT(bert_keys); i++) {
        CHECK_HAS(arch_without(&bert, bert_keys[i].key), bert_keys[i].key);
        CHECK_HAS(arch_with_key(&bert, bert_keys[i].key, 0), bert_keys[i].key);
        CHECK_HAS(arch_with_key(&bert, bert_keys[i].key, UINT32_MAX), bert_keys[i].key);
    }
    CHECK_HAS(arch_without(&bert, bert.eps_key), bert.eps_key);
    CHECK_HAS(arch_with_key(&bert, "bert.attention.head_count", 3),
              "length 16 cannot be cut into 3");
    CHECK_HAS(arch_with_key(&bert, "bert.attention.head_count_kv", 0), "cannot share 0 kv heads");
    CHECK_HAS(arch_with_key(&bert, "bert.context_length", 9), "has 8 rows, must have 9");
}

TEST(encoder_refuses_to_look_only_back) {
    build b;
    arch_build(&b, &bert, NULL);
    add_bool(&b, "bert.attention.causal", 1);
    CHECK_HAS(model_refusal(&b), "'bert.attention.causal' is 1; encoders are computed with 0");
    arch_build(&b, &bert, NULL);
    add_bool(&b, "bert.attention.causal", 0);
    CHECK_STR(model_refusal(&b), "opened");
}

TEST(encoder_token_type_is_one_f32_row_whatever_the_file_stores) {
    build b;
    str bytes;
    arch_build(&b, &bert, "token_types.weight");
    add_tensor(&b, "token_types.weight", DTYPE_F16, 3, 16);
    model *m = arch_open(&b, &bytes);
    CHECK_EQ(m->type_embd.type, DTYPE_F32);
    CHECK_EQ(m->type_embd.bytes, 16 * sizeof(float));
    CHECK(((const float *)m->type_embd.data)[15] == 0.0f);
    arch_close(m, bytes);
}

/* --- pooling and heads ----------------------------------------------------------- */
static const char *pooled(uint32_t pooling, uint64_t dense_rows, uint64_t out_rows) {
    build b;
    arch_build(&b, &bert, NULL);
    add_u32(&b, "bert.pooling_type", pooling);
    if (dense_rows > 0) add_tensor(&b, "cls.weight", DTYPE_F32, dense_rows, 16);
    if (out_rows > 0) add_tensor(&b, "cls.output.weight", DTYPE_F32, out_rows, 16);
    return model_refusal(&b);
}

TEST(encoder_scores_need_a_head_of_one_row) {
    CHECK_STR(pooled(MODEL_POOLING_CLS, 0, 0), "opened");
    CHECK_STR(pooled(MODEL_POOLING_RANK, 16, 1), "opened");
    CHECK_STR(pooled(MODEL_POOLING_RANK, 1, 0), "opened");
    CHECK_STR(pooled(MODEL_POOLING_RANK, 0, 1), "opened");
    CHECK_HAS(pooled(MODEL_POOLING_RANK, 0, 0), "has neither tensor 'cls.weight'");
    CHECK_HAS(pooled(MODEL_POOLING_RANK, 16, 3), "'cls.output.weight' has 3 rows, must have 1");
    CHECK_HAS(pooled(MODEL_POOLING_RANK, 16, 0), "'cls.weight' has 16 rows, must have 1");
    CHECK_HAS(pooled(5, 0, 0), "'bert.pooling_type' is 5, must be 0 to 4");
}

TEST(encoder_with_a_head_scores_unless_the_file_says_otherwise) {
    build b;
    str bytes;
    arch_build(&b, &bert, NULL);
    add_tensor(&b, "cls.weight", DTYPE_F32, 16, 16);
    add_tensor(&b, "cls.bias", DTYPE_F32, 0, 16);
    add_tensor(&b, "cls.output.weight", DTYPE_F32, 1, 16);
    model *m = arch_open(&b, &bytes);
    CHECK_EQ(m->hparams.pooling, MODEL_POOLING_RANK);
    CHECK_EQ(m->cls_dense.w.rows, 16);
    CHECK(model_has(&m->cls_dense.bias) && !model_has(&m->cls_out.bias));
    arch_close(m, bytes);
}

/* --- nomic ------------------------------------------------------------------- */
static const arch_key nomic_keys[] = {
    {"nomic-bert.block_count", 1},          {"nomic-bert.context_length", 8},
    {"nomic-bert.embedding_length", 16},    {"nomic-bert.feed_forward_length", 24},
    {"nomic-bert.attention.head_count", 4}, {"nomic-bert.attention.head_count_kv", 2},
};
static const arch_tensor nomic_tensors[] = {
    {"token_embd.weight", BUILD_VOCAB, 16, false}, {"token_types.weight", 2, 16, true},
    {"token_embd_norm.weight", 0, 16, false},      {"blk.0.attn_qkv.weight", 32, 16, false},
    {"blk.0.attn_output.weight", 16, 16, false},   {"blk.0.attn_output_norm.weight", 0, 16, false},
    {"blk.0.ffn_gate.weight", 24, 16, false},      {"blk.0.ffn_up.weight", 24, 16, false},
    {"blk.0.ffn_down.weight", 16, 24, false},      {"blk.0.layer_output_norm.weight", 0, 16, false},
};
static const arch_case nomic = {
    "nomic-bert",
    nomic_keys,
    ARCH_COUNT(nomic_keys),
    nomic_tensors,
    ARCH_COUNT(nomic_tensors),
    "nomic-bert.attention.layer_norm_epsilon",
};

TEST(encoder_nomic_rotates_and_cuts_its_fused_tensor) {
    build b;
    str bytes;
    arch_build(&b, &nomic, NULL);
    add_tensor(&b, "blk.0.attn_qkv.bias", DTYPE_F32, 0, 32);
    add_f32(&b, "nomic-bert.rope.freq_base", 100.0f);
    model *m = arch_open(&b, &bytes);
    const model_layer *l = &m->layers[0];
    CHECK_EQ(m->hparams.act, ACT_SILU);
    CHECK(!model_has(&m->position_embd) && model_has(&l->gate.w));
    CHECK_EQ(l->rope, 0);
    CHECK_EQ(m->ropes[0].pairs, ROPE_HALVES);
    CHECK_EQ(m->ropes[0].dims, 4);
    CHECK(fabs(m->ropes[0].freqs[1] - 0.1) < 1e-7); /* 100^(-2/4) */
    CHECK_EQ(l->q.w.rows, 16);
    CHECK_EQ(l->k.w.rows, 8);
    CHECK_EQ(arch_row_of(&l->k.w, &l->q.w), 16);
    CHECK_EQ(arch_row_of(&l->v.w, &l->q.w), 24);
    CHECK_EQ(l->v.w.row0, 24);
    CHECK_EQ((const float *)l->v.bias.data - (const float *)l->q.bias.data, 24);
    arch_close(m, bytes);
}

TEST(encoder_nomic_takes_its_own_tensors_and_no_others) {
    for (size_t i = 0; i < ARCH_COUNT(nomic_tensors); i++) {
        const arch_tensor *t = &nomic_tensors[i];
        const char *said = arch_without(&nomic, t->name);
        if (t->optional)
            CHECK_STR(said, "opened");
        else if (strcmp(t->name, "blk.0.attn_qkv.weight") == 0)
            CHECK_HAS(said, "'blk.0.attn_q.weight' is missing"); /* then it may be three */
        else if (strcmp(t->name, "blk.0.ffn_gate.weight") == 0)
            CHECK_HAS(said, "'blk.0.ffn_up.weight' has 24 rows, must have 48"); /* or in one */
        else
            CHECK_HAS(said, t->name);
    }
    build b;
    arch_build(&b, &nomic, NULL);
    add_tensor(&b, "position_embd.weight", DTYPE_F32, 8, 16);
    CHECK_HAS(model_refusal(&b), "'position_embd.weight' has no place");
}

/* --- nomic, mixture ------------------------------------------------------------ */
static const arch_key moe_keys[] = {
    {"nomic-bert-moe.block_count", 2},          {"nomic-bert-moe.context_length", 8},
    {"nomic-bert-moe.embedding_length", 16},    {"nomic-bert-moe.feed_forward_length", 24},
    {"nomic-bert-moe.attention.head_count", 4}, {"nomic-bert-moe.moe_every_n_layers", 2},
    {"nomic-bert-moe.expert_count", 3},         {"nomic-bert-moe.expert_used_count", 2},
};
static const arch_tensor moe_tensors[] = {
    {"token_embd.weight", BUILD_VOCAB, 16, false},
    {"token_embd_norm.weight", 0, 16, false},
    {"blk.0.attn_qkv.weight", 48, 16, false},
    {"blk.0.attn_output.weight", 16, 16, false},
    {"blk.0.attn_output_norm.weight", 0, 16, false},
    {"blk.0.ffn_up.weight", 24, 16, false},
    {"blk.0.ffn_down.weight", 16, 24, false},
    {"blk.0.layer_output_norm.weight", 0, 16, false},
    {"blk.1.attn_qkv.weight", 48, 16, false},
    {"blk.1.attn_output.weight", 16, 16, false},
    {"blk.1.attn_output_norm.weight", 0, 16, false},
    {"blk.1.ffn_gate_inp.weight", 3, 16, false},
    {"blk.1.layer_output_norm.weight", 0, 16, false},
};
static const arch_case moe = {
    "nomic-bert-moe",        moe_keys,
    ARCH_COUNT(moe_keys),    moe_tensors,
    ARCH_COUNT(moe_tensors), "nomic-bert-moe.attention.layer_norm_epsilon",
};

static void add_experts(build *b, const char *name, uint64_t rows, uint64_t cols, uint64_t count) {
    const uint64_t dims[3] = {cols, rows, count};
    add_tensor_raw(b, str_of(name), 3, 3, dims, DTYPE_F32, b->data_bytes);
    b->data_bytes += rows * cols * count * sizeof(float);
}

TEST(encoder_nomic_mixture_has_experts_in_every_second_layer) {
    build b;
    str bytes;
    arch_build(&b, &moe, NULL);
    add_experts(&b, "blk.1.ffn_up_exps.weight", 24, 16, 3);
    add_experts(&b, "blk.1.ffn_down_exps.weight", 16, 24, 3);
    model *m = arch_open(&b, &bytes);
    const model_experts *e = &m->hparams.experts;
    CHECK(model_has(&m->layers[0].up.w) && !model_has(&m->layers[0].router.w));
    CHECK(!model_has(&m->layers[1].up.w) && model_has(&m->layers[1].router.w));
    CHECK(!model_has(&m->layers[1].gate_exps));
    CHECK_EQ(m->layers[1].up_exps.parts[2].row0, 48);
    CHECK(e->count == 3 && e->used == 2 && e->route == ROUTE_SOFTMAX && !e->normalize);
    CHECK(e->scale == 1.0f);
    arch_close(m, bytes);
    arch_build(&b, &moe, NULL);
    add_experts(&b, "blk.1.ffn_up_exps.weight", 24, 16, 2);
    CHECK_HAS(model_refusal(&b), "has 2 matrices, must have 3");
    CHECK_HAS(arch_with_key(&moe, "nomic-bert-moe.expert_used_count", 4), "is 4, must be 1 to 3");
}

/* --- jina ------------------------------------------------------------------- */
static const arch_key jina_keys[] = {
    {"jina-bert-v2.block_count", 1},          {"jina-bert-v2.context_length", 8},
    {"jina-bert-v2.embedding_length", 24},    {"jina-bert-v2.feed_forward_length", 40},
    {"jina-bert-v2.attention.head_count", 6},
};
static const arch_tensor jina_tensors[] = {
    {"token_embd.weight", BUILD_VOCAB, 24, false},
    {"token_types.weight", 2, 24, true},
    {"token_embd_norm.weight", 0, 24, false},
    {"blk.0.attn_q.weight", 24, 24, false},
    {"blk.0.attn_k.weight", 24, 24, false},
    {"blk.0.attn_v.weight", 24, 24, false},
    {"blk.0.attn_q_norm.weight", 0, 24, true},
    {"blk.0.attn_k_norm.weight", 0, 24, true},
    {"blk.0.attn_output.weight", 24, 24, false},
    {"blk.0.attn_output_norm.weight", 0, 24, false},
    {"blk.0.attn_norm_2.weight", 0, 24, true},
    {"blk.0.ffn_up.weight", 80, 24, false},
    {"blk.0.ffn_up.bias", 0, 80, true},
    {"blk.0.ffn_down.weight", 24, 40, false},
    {"blk.0.ffn_down.bias", 0, 24, true},
    {"blk.0.layer_output_norm.weight", 0, 24, false},
};
static const arch_case jina = {
    "jina-bert-v2",           jina_keys,
    ARCH_COUNT(jina_keys),    jina_tensors,
    ARCH_COUNT(jina_tensors), "jina-bert-v2.attention.layer_norm_epsilon",
};

TEST(encoder_jina_has_slopes_for_any_number_of_heads) {
    static const float slopes[] = {0.25f,       0.0625f, 0.015625f,
                                   0.00390625f, 0.5f,    0.125f}; /* 2^-2h, then 2^-(2h + 1) */
    build b;
    str bytes;
    arch_build(&b, &jina, NULL);
    model *m = arch_open(&b, &bytes);
    const model_layer *l = &m->layers[0];
    CHECK(m->hparams.alibi_bias_max == 8.0f && m->hparams.act == ACT_GELU);
    for (size_t i = 0; i < ARCH_COUNT(slopes); i++) CHECK(m->hparams.alibi_slopes[i] == slopes[i]);
    CHECK(l->attn_out_norm.on && l->attn_out_norm_2.on && !l->attn_norm_2.on);
    CHECK(l->q_norm.on && l->k_norm.on);
    CHECK_EQ(l->qk_norm_group, 24);
    CHECK_EQ(l->rope, MODEL_ROPE_NONE);
    arch_close(m, bytes);
}

TEST(encoder_jina_has_gate_and_up_in_one_tensor_or_in_two) {
    build b;
    str bytes;
    arch_build(&b, &jina, NULL);
    model *m = arch_open(&b, &bytes);
    const model_layer *l = &m->layers[0];
    CHECK_EQ(l->gate.w.rows, 40);
    CHECK_EQ(arch_row_of(&l->up.w, &l->gate.w), 40);
    CHECK_EQ((const float *)l->up.bias.data - (const float *)l->gate.bias.data, 40);
    arch_close(m, bytes);
    arch_build(&b, &jina, "blk.0.ffn_up.weight");
    add_tensor(&b, "blk.0.ffn_up.weight", DTYPE_F32, 40, 24);
    add_tensor(&b, "blk.0.ffn_gate.weight", DTYPE_F32, 40, 24);
    CHECK_HAS(model_refusal(&b), "'blk.0.ffn_up.bias' has 80 elements, must have 40");
    arch_check_tensors(&jina);
}

TEST(arch_encoders_survive_every_lack_of_memory) {
    arch_check_memory(&bert);
    arch_check_memory(&nomic);
    arch_check_memory(&jina);
}

/* --- a file from elsewhere ------------------------------------------------------- */
TEST(encoder_bert_of_the_oracle_is_described) {
    SHARED_OR_SKIP(path, "oracle/public/models/bert/model-f32.gguf");
    model *m = NULL;
    error err = {0};
    CHECK_EQ(model_open(&m, path, &err), OK);
    CHECK_STR(err.msg, "");
    if (m == NULL) return;
    CHECK_EQ(m->hparams.layers, 2);
    CHECK_EQ(m->hparams.pooling, MODEL_POOLING_MEAN);
    CHECK_EQ(m->position_embd.rows, 192);
    CHECK(m->hparams.norm_eps > 0.9e-12f && m->hparams.norm_eps < 1.1e-12f);
    CHECK(model_has(&m->type_embd) && model_has(&m->layers[1].down.bias));
    model_close(m);
}
