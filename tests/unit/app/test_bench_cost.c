/* test_bench_cost.c - bytes and multiply-adds that the limits of `gantry bench` are made of.
 *
 * The tiny shape has 2 layers, n_embd 64, 4 heads and 2 KV heads of 16, n_ff 160 and a vocabulary
 * of 512 with an output matrix of its own: its numbers are added up by hand. */
#include "app/bench_internal.h"
#include "test.h"

enum {
    LAYERS = 2,
    LAYER_ELEMS = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 160 * 64,
    HEAD_ELEMS = 512 * 64,
    NORM_ELEMS = 5 * 64,
    BODY_ELEMS = LAYERS * LAYER_ELEMS + NORM_ELEMS,
    PAIR_PRODUCTS = 4 * (16 + 16),           /* a query with a key, a weight with a value */
    KV_TOKEN_BYTES = LAYERS * 2 * 2 * 16 * 2 /* keys and values in f16 */
};

static const mem_plan plan = {
    .kv_blocks = 3, .kv_bytes = 3 * KV_BLOCK_TOKENS * KV_TOKEN_BYTES, .rows_max = 512, .seats = 1};

static model *open_tiny(void) {
    model *m = NULL;
    error err;
    CHECK_EQ(model_open(&m, "synth:tiny:f32", &err), OK);
    CHECK(!m->hparams.tied_output);
    return m;
}

TEST(bench_cost_of_generation_is_the_weights_once_and_what_every_sequence_sees) {
    model *m = open_tiny();
    bench_cost c = bench_cost_of(m, &plan, &(bench_test){.tokens = 1, .batch = 1});
    CHECK_EQ(c.bytes, 4.0 * (BODY_ELEMS + HEAD_ELEMS) + KV_TOKEN_BYTES);
    CHECK_EQ(c.products, BODY_ELEMS + HEAD_ELEMS + LAYERS * PAIR_PRODUCTS);
    c = bench_cost_of(m, &plan, &(bench_test){.tokens = 2, .batch = 4, .depth = 100});
    CHECK_EQ(c.bytes, 2 * 4.0 * (BODY_ELEMS + HEAD_ELEMS) + 4.0 * KV_TOKEN_BYTES * (101 + 102));
    CHECK_EQ(c.products,
             8.0 * (BODY_ELEMS + HEAD_ELEMS) + 4.0 * LAYERS * PAIR_PRODUCTS * (101 + 102));
    model_close(m);
}

TEST(bench_cost_of_a_prompt_is_the_weights_per_step_and_one_row_of_logits) {
    model *m = open_tiny();
    bench_cost c = bench_cost_of(m, &plan, &(bench_test){.tokens = 600});
    CHECK_EQ(c.bytes, 2 * 4.0 * (BODY_ELEMS + HEAD_ELEMS) + KV_TOKEN_BYTES * (512.0 + 600));
    CHECK_EQ(c.products,
             600.0 * BODY_ELEMS + HEAD_ELEMS + (double)LAYERS * PAIR_PRODUCTS * (600.0 * 601 / 2));
    model_close(m);
}

TEST(bench_cost_counts_what_a_sliding_window_shows) {
    model *m = open_tiny();
    for (uint32_t i = 0; i < m->hparams.layers; i++) m->layers[i].window = 50;
    bench_cost c = bench_cost_of(m, &plan, &(bench_test){.tokens = 4, .batch = 1, .depth = 48});
    CHECK_EQ(c.products, 4.0 * (BODY_ELEMS + HEAD_ELEMS) +
                             (double)LAYERS * PAIR_PRODUCTS * (49 + 50 + 50 + 50));
    model_close(m);
}

/* Half of 8 experts per row: one row leaves 4 alone, two independent rows 2 on average. */
TEST(bench_cost_reads_the_experts_that_independent_rows_would_choose) {
    model *m = open_tiny();
    model_tensor expert = m->layers[0].gate.w;
    m->hparams.experts.count = 8;
    m->hparams.experts.used = 4;
    m->layers[0].gate_exps.parts = &expert;
    double all = bench_cost_of(m, &plan, &(bench_test){.tokens = 1, .batch = 512}).bytes;
    double one = bench_cost_of(m, &plan, &(bench_test){.tokens = 1, .batch = 1}).bytes;
    double two = bench_cost_of(m, &plan, &(bench_test){.tokens = 1, .batch = 2}).bytes;
    CHECK_EQ(one, all - 511.0 * KV_TOKEN_BYTES - 4.0 * (double)expert.bytes);
    CHECK_EQ(two, all - 510.0 * KV_TOKEN_BYTES - 2.0 * (double)expert.bytes);
    m->layers[0].gate_exps.parts = NULL;
    model_close(m);
}
