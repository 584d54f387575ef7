/* test_roofline.c - bytes and operations of each kind of op, against figures counted by hand.
 *
 * The batch has two runs: three rows at positions 0 to 2 of one sequence, one row at position 9 of
 * another.  The last row of each is taken, and of these the second has logits. */
#include "backend/ref_rig.h"
#include "backend/roofline.h"
#include "test.h"

enum { ROWS = 4, RUNS = 2, F = 4 /* bytes of a float */ };

static refrig_batch rows;

static void init_batch(const program *p, kv_layout layout) {
    refrig_batch_init(&rows, p, layout);
    refrig_batch_run(&rows, 0, 0, 0, 3);
    refrig_batch_run(&rows, 1, 1, 9, 1);
    rows.in.taken_rows = 2;
    rows.in.head_rows = 1;
}

static const kv_layout no_cache = {.type = DTYPE_F16};

/* Finish with v, and count the op that was recorded last before it. */
static roof_work work_of(program *p, value_id v, uint32_t op_idx) {
    refrig_finish(p, v);
    init_batch(p, no_cache);
    const roof_work w = roofline_op(p, op_idx, &rows.in);
    program_destroy(p);
    return w;
}

static void check_work(roof_work w, uint64_t weights, uint64_t values, uint64_t cache,
                       uint64_t flops) {
    CHECK_EQ(w.weight_bytes, weights);
    CHECK_EQ(w.value_bytes, values);
    CHECK_EQ(w.cache_bytes, cache);
    CHECK_EQ(w.flops, flops);
    CHECK_EQ(roof_work_bytes(&w), weights + values + cache);
}

TEST(roofline_of_look_ups_is_the_rows_that_are_looked_up) {
    program *p = refrig_program();
    check_work(work_of(p, refrig_input(p, 0, 8), 0), ROWS * 8 * F, ROWS * 8 * F, 0, 0);
    p = refrig_program();
    value_id x = pg_embed_pos(p, refrig_table(0, 64, 8));
    check_work(work_of(p, x, 0), ROWS * 8 * F, ROWS * 8 * F, 0, 0);
    p = refrig_program(); /* two rows are read and written of four that are there */
    check_work(work_of(p, refrig_input(p, 0, 8), 1), 0, 2 * (2 * 8 * F), 0, 0);
}

TEST(roofline_of_a_product_is_its_matrix_once_and_two_operations_per_weight_and_row) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, 8);
    value_id y = pg_matmul(p, x, refrig_table(1, 5, 8), refrig_vector(2));
    check_work(work_of(p, y, 1), (5 * 8 + 5) * F, ROWS * (8 + 5) * F, 0,
               2 * ROWS * 5 * 8 + ROWS * 5);
    static char blocks[6 * 34]; /* Q8_0: 34 bytes for 32 weights */
    p = refrig_program();
    x = refrig_input(p, 0, 32);
    y = pg_matmul(p, x, (weight){.type = DTYPE_Q8_0, .rows = 6, .cols = 32, .data = blocks}, NULL);
    check_work(work_of(p, y, 1), 6 * 34, ROWS * (32 + 6) * F, 0, 2 * ROWS * 6 * 32);
}

TEST(roofline_of_a_product_without_rows_is_nothing) {
    program *p = refrig_program();
    value_id x = pg_take_rows(p, pg_take_rows(p, refrig_input(p, 0, 8)));
    value_id logits = pg_matmul(p, x, refrig_table(1, 5, 8), NULL);
    CHECK_EQ(program_finish(p, p->ops[1].out, logits, NULL), OK);
    init_batch(p, no_cache);
    check_work(roofline_op(p, 3, &rows.in), 5 * 8 * F, (8 + 5) * F, 0, 2 * 5 * 8);
    rows.in.head_rows = 0;
    check_work(roofline_op(p, 3, &rows.in), 0, 0, 0, 0);
    program_destroy(p);
}

TEST(roofline_of_products_head_by_head_reads_the_heads_rows) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, 2 * (4 + 1)); /* two heads of 4 and a tail of 1 */
    op_heads_matmul h = {
        .heads = 2, .in_dim = 4, .tail_dim = 1, .w_rows = 3, .row_stride = 5, .out_dim = 3};
    value_id y = pg_heads_matmul(p, x, refrig_table(1, 10, 4), h);
    check_work(work_of(p, y, 1), 2 * 3 * 4 * F, ROWS * (10 + 2 * (3 + 1)) * F, 0,
               2 * ROWS * 2 * 4 * 3);
}

TEST(roofline_of_what_goes_row_by_row_is_the_rows) {
    const uint64_t both = 2 * ROWS * 8 * F, elems = ROWS * 8;
    program *p = refrig_program();
    op_norm rms = {.kind = NORM_RMS, .group = 8, .gain = refrig_vector(1), .gain_len = 8};
    check_work(work_of(p, pg_norm(p, refrig_input(p, 0, 8), rms), 1), 8 * F, both, 0, 4 * elems);
    p = refrig_program();
    op_norm layer = {.kind = NORM_LAYER,
                     .group = 8,
                     .gain = refrig_vector(1),
                     .bias = refrig_vector(2),
                     .gain_len = 8};
    check_work(work_of(p, pg_norm(p, refrig_input(p, 0, 8), layer), 1), 16 * F, both, 0, 7 * elems);
    static const double freqs[2] = {1, 0.5};
    p = refrig_program();
    op_rope rope = {.heads = 2, .head_dim = 4, .dims = 4, .freqs = freqs, .magnitude = 1};
    check_work(work_of(p, pg_rope(p, refrig_input(p, 0, 8), rope), 1), 0, both, 0, 3 * elems);
    p = refrig_program();
    check_work(work_of(p, pg_act(p, refrig_input(p, 0, 8), (op_act){ACT_SILU, 0, 0}), 1), 0, both,
               0, 4 * elems);
    p = refrig_program();
    value_id a = refrig_input(p, 0, 8), b = refrig_input(p, 1, 8);
    check_work(work_of(p, pg_act_mul(p, a, b, (op_act){ACT_SILU, 0, 0}), 2), 0, both / 2 * 3, 0,
               5 * elems);
    p = refrig_program();
    a = refrig_input(p, 0, 8), b = refrig_input(p, 1, 8);
    check_work(work_of(p, pg_add(p, a, b), 2), 0, both / 2 * 3, 0, elems);
    p = refrig_program();
    a = refrig_input(p, 0, 8); /* with itself: read once */
    check_work(work_of(p, pg_mul(p, a, a), 1), 0, both, 0, elems);
    p = refrig_program();
    check_work(work_of(p, pg_add_row(p, refrig_input(p, 0, 8), refrig_vector(1)), 1), 8 * F, both,
               0, elems);
    p = refrig_program();
    check_work(work_of(p, pg_mul_row(p, refrig_input(p, 0, 8), refrig_vector(1)), 1), 8 * F, both,
               0, elems);
    p = refrig_program();
    a = refrig_input(p, 0, 8), b = refrig_input(p, 1, 1);
    check_work(work_of(p, pg_mul_col(p, a, b), 2), 0, both + ROWS * F, 0, elems);
}

/* --- attention -------------------- */

/* Two heads of 4 on one head of keys and values; op 1 writes them, op 2 is the attention. */
static program *attention_program(const op_attention *attn) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, 8), k = refrig_input(p, 1, 4);
    pg_kv_write(p, k, k);
    refrig_finish(p, pg_attention(p, x, *attn));
    return p;
}

static const kv_layout cache_f16 = {
    .type = DTYPE_F16, .layers = 1, .kv_heads = 1, .key_dim = 4, .value_dim = 4};
enum { TOKEN_BYTES = (4 + 4) * 2, PAIR_FLOPS = 2 * (4 + 4) + 5 };

static roof_work attention_work(op_attention attn) {
    program *p = attention_program(&attn);
    init_batch(p, cache_f16);
    const roof_work w = roofline_op(p, 3, &rows.in);
    program_destroy(p);
    return w;
}

TEST(roofline_of_attention_is_what_the_rows_see) {
    op_attention a = {
        .heads = 2, .kv_heads = 1, .key_dim = 4, .value_dim = 4, .scale = 0.5F, .causal = true};
    const uint64_t values = 2 * ROWS * 8 * F;
    /* 1 + 2 + 3 tokens, and 10; the cache is read once by each run */
    check_work(attention_work(a), 0, values, (3 + 10) * TOKEN_BYTES, (6 + 10) * 2 * PAIR_FLOPS);
    a.window = 2; /* 1 + 2 + 2, and 2 */
    check_work(attention_work(a), 0, values, (3 + 2) * TOKEN_BYTES, (5 + 2) * 2 * PAIR_FLOPS);
    a.window = 0;
    a.causal = false; /* 3 each, and 10 */
    check_work(attention_work(a), 0, values, (3 + 10) * TOKEN_BYTES, (9 + 10) * 2 * PAIR_FLOPS);
    a.window = 2; /* what is behind, and all before: 3 + 3 + 2, and 2 */
    check_work(attention_work(a), 0, values, (3 + 2) * TOKEN_BYTES, (8 + 2) * 2 * PAIR_FLOPS);
    a = (op_attention){.heads = 2, .kv_heads = 1, .key_dim = 4, .value_dim = 4, .causal = true};
    a.softcap = 30;
    a.slopes = refrig_vector(3);
    check_work(attention_work(a), 2 * F, values, 13 * TOKEN_BYTES, 16 * 2 * (PAIR_FLOPS + 5));
}

TEST(roofline_of_the_way_into_the_cache_is_as_it_is_stored) {
    const op_attention a = {
        .heads = 2, .kv_heads = 1, .key_dim = 4, .value_dim = 4, .causal = true};
    program *p = attention_program(&a);
    init_batch(p, cache_f16);
    check_work(roofline_op(p, 2, &rows.in), 0, ROWS * 4 * F, ROWS * TOKEN_BYTES, 0);
    kv_layout l = cache_f16;
    l.v_in_k = true; /* one row of keys, of which the values are a part */
    init_batch(p, l);
    check_work(roofline_op(p, 2, &rows.in), 0, ROWS * 4 * F, ROWS * 4 * 2, 0);
    l = (kv_layout){.type = DTYPE_Q8_0, .layers = 1, .kv_heads = 1, .key_dim = 32, .value_dim = 64};
    init_batch(p, l);
    check_work(roofline_op(p, 2, &rows.in), 0, ROWS * 4 * F, ROWS * (34 + 68), 0);
    program_destroy(p);
}

/* --- experts, states -------------------- */

/* Half of four experts for a row: two for one row, on average three for two, 3.75 for four. */
TEST(roofline_of_experts_reads_those_that_independent_rows_would_choose) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, 8), router = refrig_input(p, 1, 4);
    value_id routed = pg_route(p, router, (op_route){.experts = 4, .used = 2});
    weight *w = pg_weights(p, 4);
    for (int i = 0; i < 4; i++) w[i] = refrig_table(2, 6, 8);
    value_id y =
        pg_experts(p, x, routed, (op_experts){.w = w, .experts = 4, .used = 2, .shared_in = true});
    refrig_finish(p, pg_experts_sum(p, y, routed, 2));
    init_batch(p, no_cache);
    check_work(roofline_op(p, 2, &rows.in), 0, ROWS * (4 + 4) * F, 0, ROWS * 4 * 4);
    check_work(roofline_op(p, 3, &rows.in), 4 * (6 * 8 * F), ROWS * (8 + 4 + 2 * 6) * F, 0,
               2 * ROWS * 2 * 6 * 8);
    check_work(roofline_op(p, 4, &rows.in), 0, ROWS * (12 + 4 + 6) * F, 0, 2 * ROWS * 2 * 6);
    rows.in.rows = 2;
    CHECK_EQ(roofline_op(p, 3, &rows.in).weight_bytes, 3 * 6 * 8 * F);
    rows.in.rows = 1;
    CHECK_EQ(roofline_op(p, 3, &rows.in).weight_bytes, 2 * 6 * 8 * F);
    program_destroy(p);
}

TEST(roofline_of_layers_with_states_reads_and_writes_the_state_of_each_run) {
    const uint64_t both = 2 * ROWS * 8 * F;
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, 8);
    value_id y = pg_conv(p, x, refrig_vector(1), refrig_vector(2), 3);
    check_work(work_of(p, y, 1), (8 * 3 + 8) * F, both, RUNS * 2 * (2 * 8) * F,
               ROWS * 8 * (2 * 3 + 1));
    p = refrig_program();
    check_work(work_of(p, pg_shift(p, refrig_input(p, 0, 8)), 1), 0, both, RUNS * 2 * 8 * F, 0);
    p = refrig_program(); /* two states for each of eight columns */
    x = refrig_input(p, 0, 8);
    value_id dt = refrig_input(p, 1, 8), b = refrig_input(p, 2, 2), c = refrig_input(p, 3, 2);
    y = pg_scan(p, x, dt, b, c, refrig_vector(4), refrig_vector(5), 2);
    check_work(work_of(p, y, 4), (8 * 2 + 8) * F, ROWS * (3 * 8 + 2 * 2) * F,
               RUNS * 2 * (8 * 2) * F, ROWS * 8 * (7 * 2 + 3));
    p = refrig_program(); /* two heads of 4 */
    value_id in[4];
    for (uint32_t i = 0; i < 4; i++) in[i] = refrig_input(p, i, 8);
    y = pg_wkv(p, in[0], in[1], in[2], in[3], refrig_vector(5), 4);
    check_work(work_of(p, y, 4), 8 * F, ROWS * 5 * 8 * F, RUNS * 2 * (2 * 4 * 4) * F,
               ROWS * 2 * 4 * 4 * 7);
}

/* --- ops together -------------------- */

TEST(roofline_of_fused_ops_leaves_out_what_stays_inside) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, 8);                           /* 0 */
    value_id q = pg_matmul(p, x, refrig_table(1, 6, 8), NULL);    /* 1 */
    value_id k = pg_matmul(p, x, refrig_table(2, 6, 8), NULL);    /* 2 */
    value_id sum = pg_add(p, q, k);                               /* 3 */
    value_id up = pg_matmul(p, sum, refrig_table(3, 8, 6), NULL); /* 4 */
    refrig_finish(p, pg_add(p, x, up));                           /* 5 */
    init_batch(p, no_cache);
    const uint64_t product = 2 * ROWS * 6 * 8;
    check_work(roofline_task(p, (uint32_t[]){1, 2}, 2, &rows.in), 2 * 6 * 8 * F,
               ROWS * (8 + 6 + 6) * F, 0, 2 * product); /* x once */
    check_work(roofline_task(p, (uint32_t[]){4, 5}, 2, &rows.in), 6 * 8 * F, ROWS * (6 + 8 + 8) * F,
               0, product + ROWS * 8); /* the product stays inside */
    check_work(roofline_task(p, (uint32_t[]){1, 2, 3}, 3, &rows.in), 2 * 6 * 8 * F,
               ROWS * (8 + 6) * F, 0, 2 * product + ROWS * 6);
    check_work(roofline_task(p, NULL, 0, &rows.in), 0, 0, 0, 0);
    program_destroy(p);
}

TEST(roofline_names_tensors_and_types) {
    static char blocks[8 * 34];
    char what[ROOF_WHAT_BYTES];
    program *p = refrig_program();
    weight a = refrig_table(1, 32, 32), b = a, c = {.type = DTYPE_Q8_0, .rows = 8, .cols = 32};
    a.name = S("blk.11.attn_q.weight");
    b.name = S("blk.11.attn_k.weight");
    c.name = S("output.weight");
    c.data = blocks;
    value_id x = refrig_input(p, 0, 32);
    value_id y = pg_matmul(p, pg_matmul(p, x, a, NULL), b, NULL);
    refrig_finish(p, pg_matmul(p, pg_act(p, y, (op_act){ACT_SILU, 0, 0}), c, NULL));
    roofline_what(p, (uint32_t[]){1, 2, 3, 4}, 4, what);
    CHECK_STR(what, "attn_q, attn_k F32, output Q8_0");
    roofline_what(p, (uint32_t[]){3}, 1, what);
    CHECK_STR(what, "");
    CHECK_EQ(roofline_arith(p, (uint32_t[]){1, 4}, 2), ROOF_FLOAT);
    CHECK_EQ(roofline_arith(p, (uint32_t[]){3, 4}, 2), ROOF_INTEGER);
    CHECK_EQ(roofline_arith(p, (uint32_t[]){3}, 1), ROOF_FLOAT);
    p->ops[1].w.type = DTYPE_BF16;
    CHECK_EQ(roofline_arith(p, (uint32_t[]){1}, 1), ROOF_HALF);
    program_destroy(p);
}

TEST(roofline_cuts_names_that_are_too_long) {
    char what[ROOF_WHAT_BYTES], name[2 * ROOF_WHAT_BYTES];
    program *p = refrig_program();
    weight w = refrig_table(1, 8, 8);
    memset(name, 'x', sizeof name);
    w.name = (str){name, sizeof name};
    refrig_finish(p, pg_matmul(p, pg_matmul(p, refrig_input(p, 0, 8), w, NULL), w, NULL));
    roofline_what(p, (uint32_t[]){1, 2}, 2, what);
    CHECK_EQ(strlen(what), ROOF_WHAT_BYTES - 1);
    program_destroy(p);
}
