/* test_quant_mix.c - which tensor of a mix gets which type. */
#include "model/quant_mix.h"

#include "test.h"

static quant_mix_tensor_info matrix_info(const char *name, uint64_t cols) {
    return (quant_mix_tensor_info){str_of(name), DTYPE_F16, 2, {cols, 64, 1, 1}};
}

static dtype mix_type_of(const quant_mix_plan *p, const char *name) {
    const quant_mix_tensor_info t = matrix_info(name, 512);
    return quant_mix_tensor(p, &t, NULL);
}

TEST(quant_mix_names_go_both_ways) {
    quant_mix m = QUANT_MIX_F32;
    for (uint32_t i = 0; i < QUANT_MIX_COUNT; i++) {
        CHECK(quant_mix_from_name(str_of(quant_mix_name((quant_mix)i)), &m));
        CHECK_EQ(m, i);
        CHECK_HAS(quant_mix_names(), quant_mix_name((quant_mix)i));
    }
    CHECK(quant_mix_from_name(S("q4_k"), &m) && m == QUANT_MIX_Q4_K_M);
    CHECK(quant_mix_from_name(S("mxfp4_moe"), &m) && m == QUANT_MIX_MXFP4);
    CHECK(!quant_mix_from_name(S("Q9"), &m) && !quant_mix_from_name(S(""), &m));
}

TEST(quant_mix_file_types_are_those_of_the_format) {
    CHECK_EQ(quant_mix_file_type(QUANT_MIX_F32), 0);
    CHECK_EQ(quant_mix_file_type(QUANT_MIX_Q8_0), 7);
    CHECK_EQ(quant_mix_file_type(QUANT_MIX_Q4_K_M), 15);
    CHECK_EQ(quant_mix_file_type(QUANT_MIX_Q2_K_S), 21);
    CHECK_EQ(quant_mix_file_type(QUANT_MIX_IQ4_XS), 30);
    CHECK_EQ(quant_mix_file_type(QUANT_MIX_MXFP4), 38);
}

TEST(quant_mix_of_a_dense_model_gives_some_layers_more_bits) {
    const quant_mix_plan p = {.mix = QUANT_MIX_Q4_K_M, .layers = 32, .heads_per_kv = 4};
    CHECK_EQ(mix_type_of(&p, "token_embd.weight"), DTYPE_Q4_K);
    CHECK_EQ(mix_type_of(&p, "output.weight"), DTYPE_Q6_K);
    CHECK_EQ(mix_type_of(&p, "blk.0.attn_q.weight"), DTYPE_Q4_K);
    CHECK_EQ(mix_type_of(&p, "blk.3.attn_v.weight"), DTYPE_Q6_K);
    CHECK_EQ(mix_type_of(&p, "blk.4.attn_v.weight"), DTYPE_Q4_K);
    CHECK_EQ(mix_type_of(&p, "blk.6.attn_v.weight"), DTYPE_Q6_K);
    CHECK_EQ(mix_type_of(&p, "blk.31.ffn_down.weight"), DTYPE_Q6_K);
    CHECK_EQ(mix_type_of(&p, "blk.27.ffn_down.weight"), DTYPE_Q6_K);
    CHECK_EQ(mix_type_of(&p, "blk.26.ffn_down.weight"), DTYPE_Q4_K);
}

TEST(quant_mix_knows_the_shape_of_the_model) {
    quant_mix_plan p = {.mix = QUANT_MIX_Q4_K_M, .layers = 4, .heads_per_kv = 1, .tied = true};
    CHECK_EQ(mix_type_of(&p, "token_embd.weight"), DTYPE_Q6_K);
    p.experts = 8;
    CHECK_EQ(mix_type_of(&p, "blk.1.attn_k.weight"), DTYPE_Q8_0);
    CHECK_EQ(mix_type_of(&p, "blk.1.attn_output.weight"), DTYPE_Q5_K);
    p = (quant_mix_plan){.mix = QUANT_MIX_Q4_0, .layers = 16};
    CHECK_EQ(mix_type_of(&p, "blk.1.ffn_down.weight"), DTYPE_Q4_0);
    p.has_importance = true;
    CHECK_EQ(mix_type_of(&p, "blk.1.ffn_down.weight"), DTYPE_Q4_1);
    CHECK_EQ(mix_type_of(&p, "blk.2.ffn_down.weight"), DTYPE_Q4_0);
}

TEST(quant_mix_gives_fp4_to_experts_only) {
    const quant_mix_plan p = {.mix = QUANT_MIX_MXFP4, .layers = 4, .experts = 32};
    quant_mix_tensor_info t = matrix_info("blk.0.ffn_up_exps.weight", 64);
    t.dims_count = 3;
    t.dims[2] = 32;
    CHECK_EQ(quant_mix_tensor(&p, &t, NULL), DTYPE_MXFP4);
    CHECK_EQ(mix_type_of(&p, "blk.0.attn_q.weight"), DTYPE_Q8_0);
}

TEST(quant_mix_can_be_told_otherwise) {
    const dtype q8 = DTYPE_Q8_0, f16 = DTYPE_F16;
    quant_mix_plan p = {.mix = QUANT_MIX_Q4_K_M, .layers = 8, .pure = true};
    CHECK_EQ(mix_type_of(&p, "output.weight"), DTYPE_Q4_K);
    CHECK_EQ(mix_type_of(&p, "blk.7.ffn_down.weight"), DTYPE_Q4_K);
    p.output = &q8;
    p.token_embd = &f16;
    CHECK_EQ(mix_type_of(&p, "output.weight"), DTYPE_Q8_0);
    CHECK_EQ(mix_type_of(&p, "token_embd.weight"), DTYPE_F16);
}

TEST(quant_mix_leaves_vectors_norms_and_routers) {
    const quant_mix_plan p = {.mix = QUANT_MIX_Q4_0, .layers = 2};
    static const char *const kept[] = {"blk.0.attn_norm.weight",  "blk.0.ffn_gate_inp.weight",
                                       "blk.0.ssm_conv1d.weight", "position_embd.weight",
                                       "blk.0.attn_q.bias",       "rope_freqs"};
    for (uint32_t i = 0; i < sizeof kept / sizeof *kept; i++)
        CHECK_EQ(mix_type_of(&p, kept[i]), DTYPE_F16);
    quant_mix_tensor_info t = matrix_info("blk.0.attn_q.weight", 512);
    t.dims_count = 1;
    CHECK(!quant_mix_converts(&t));
    t.dims_count = 2;
    t.type = DTYPE_I32;
    CHECK(!quant_mix_converts(&t));
}

TEST(quant_mix_falls_back_where_rows_do_not_divide) {
    static const struct {
        quant_mix mix;
        uint64_t cols;
        dtype wanted, got;
    } cases[] = {
        {QUANT_MIX_Q4_K_S, 64, DTYPE_Q4_K, DTYPE_Q5_0},
        {QUANT_MIX_Q5_K_S, 96, DTYPE_Q5_K, DTYPE_Q5_1},
        {QUANT_MIX_Q6_K, 32, DTYPE_Q6_K, DTYPE_Q8_0},
        {QUANT_MIX_Q3_K_S, 288, DTYPE_Q3_K, DTYPE_Q4_0},
        {QUANT_MIX_IQ4_XS, 64, DTYPE_IQ4_XS, DTYPE_IQ4_NL},
        {QUANT_MIX_Q4_0, 172, DTYPE_Q4_0, DTYPE_F16},
        {QUANT_MIX_Q4_K_S, 172, DTYPE_Q4_K, DTYPE_F16},
        {QUANT_MIX_F16, 7, DTYPE_F16, DTYPE_F16},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const quant_mix_plan p = {.mix = cases[i].mix, .layers = 8};
        const quant_mix_tensor_info t = matrix_info("blk.7.attn_q.weight", cases[i].cols);
        dtype wanted = DTYPE_I8;
        CHECK_EQ(quant_mix_tensor(&p, &t, &wanted), cases[i].got);
        CHECK_EQ(wanted, cases[i].wanted);
    }
}
