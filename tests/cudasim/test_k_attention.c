/* test_k_attention.c - the KV cache and attention over it against the reference.
 *
 * Memory that no token was written to is NaN: a kernel that so much as multiplies it by 0 fails. */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "cudasim/attention_rig.h"
#include "cudasim/oracle.h"
#include "cudasim/quantized.h"
#include "cudasim/rig.h"
#include "test.h"

enum { BLOCKS = ATTENTION_SEATS * ATTENTION_STRIDE, LAYER = ATTENTION_LAYER };
enum { LONG_STRIDE = 70 }; /* of spans of several splits */

/* Of outputs within -1..1 whose scores are up to about 10: 2^x and the sums are good to 1e-6. */
static const double NEAR = 4e-6;

/* --- writing -------------------- */

typedef struct write_case {
    kv_layout layout;
    uint32_t k_dim, v_dim; /* of a head of k and v as given */
} write_case;

static void check_write(int arch, const write_case *w) {
    static const batch_run runs[] = {{0, 3, 2, 14}, {3, 1, 0, 0}, {4, 2, 1, 100}};
    enum { ROWS = 6 };
    const kv_layout *l = &w->layout;
    uint32_t k_cols = w->k_dim * l->kv_heads, v_cols = w->v_dim * l->kv_heads;
    attention_cache got = attention_cache_make(*l, ATTENTION_STRIDE),
                    want = attention_cache_make(*l, ATTENTION_STRIDE);
    float *k = rig_buffer(ROWS * k_cols * sizeof *k), *v = rig_buffer(ROWS * v_cols * sizeof *v);
    rig_fill(k, (size_t)ROWS * k_cols, 3);
    rig_fill(v, (size_t)ROWS * v_cols, 70000); /* some become infinite in f16 */
    memset(v, 0, w->v_dim * sizeof *v);        /* and one head is all zeros */
    oracle_begin(ROWS);
    oracle_runs(runs, 3);
    oracle_rows *rows = oracle_batch();
    rows->in.kv = attention_cache_view(&want);
    pg_layer(oracle_program(), LAYER);
    value_id k_value = oracle_input(k, k_cols);
    pg_kv_write(oracle_program(), k_value, oracle_input(v, v_cols));
    (void)oracle_end(k_value);
    k_kv_write_args a = {.kv = attention_cache_kv(&got),
                         .k = rig_at(k),
                         .v = rig_at(v),
                         .pos = rig_at(rig_copy(rows->pos, ROWS * sizeof *rows->pos)),
                         .seats = rig_at(rig_copy(rows->seats, ROWS * sizeof *rows->seats)),
                         .count = rig_count(ROWS),
                         .k_cols = k_cols,
                         .v_cols = v_cols};
    rig_run(arch, "k_kv_write", &a, l->kv_heads, ROWS + 2, 128, 0);
    rig_same(got.blocks, want.blocks, kv_block_bytes(&got.layout) * BLOCKS);
}

TEST(k_kv_write_stores_rows_where_the_tables_say) {
    static const write_case cases[] = {
        {{.type = DTYPE_F16, .kv_heads = 2, .key_dim = 64, .value_dim = 64}, 64, 64},
        {{.type = DTYPE_F32, .kv_heads = 1, .key_dim = 33, .value_dim = 31}, 33, 31},
        {{.type = DTYPE_F16, .kv_heads = 3, .key_dim = 200, .value_dim = 1}, 200, 1},
        {{.type = DTYPE_F16, .kv_heads = 1, .key_dim = 48, .value_dim = 40, .v_in_k = true}, 8, 40},
        {{.type = DTYPE_F32, .kv_heads = 1, .key_dim = 48, .value_dim = 40, .v_in_k = true}, 40, 8},
        {{.type = DTYPE_Q8_0, .kv_heads = 2, .key_dim = 32, .value_dim = 160}, 32, 160},
        {{.type = DTYPE_Q8_0, .kv_heads = 1, .key_dim = 96, .value_dim = 64, .v_in_k = true},
         64,
         32},
        {{.type = DTYPE_Q4_0, .kv_heads = 2, .key_dim = 32, .value_dim = 160}, 32, 160},
        {{.type = DTYPE_Q4_0, .kv_heads = 1, .key_dim = 96, .value_dim = 64, .v_in_k = true},
         64,
         32},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_write(arch, &cases[i]);
    }
    rig_done();
}

/* --- turning on the way -------------------- */

typedef struct turn_case {
    kv_layout layout;
    uint32_t q_heads, first, dims;
    bool halves, in_place;
} turn_case;

typedef struct turn_rig {
    uint32_t rows, q_floats, k_floats;
    float *q, *k, *v;
    k_rope_write_args args;
} turn_rig;

/* Rows of two sequences, the first across a border of blocks; the table holds any numbers. */
static turn_rig make_turn(const turn_case *c, uint32_t rows) {
    const kv_layout *l = &c->layout;
    const uint32_t table_floats = rows * c->dims, v_floats = rows * l->kv_heads * l->value_dim;
    turn_rig t = {.rows = rows,
                  .q_floats = rows * c->q_heads * l->key_dim,
                  .k_floats = rows * l->kv_heads * l->key_dim};
    uint32_t *pos = rig_buffer(rows * sizeof *pos), *seats = rig_buffer(rows * sizeof *seats);
    float *table = rig_buffer(table_floats * sizeof *table);
    t.q = rig_buffer(t.q_floats * sizeof(float));
    t.k = rig_buffer(t.k_floats * sizeof(float));
    t.v = rig_buffer(v_floats * sizeof(float));
    rig_fill(table, table_floats, 1);
    rig_fill(t.q, t.q_floats, 3);
    rig_fill(t.k, t.k_floats, 3);
    rig_fill(t.v, v_floats, 70000); /* some become infinite in f16 */
    for (uint32_t r = 0; r < rows; r++) {
        pos[r] = r < 3 ? 14 + r : r - 3;
        seats[r] = r < 3 ? 2 : 0;
    }
    t.args = (k_rope_write_args){.rope = {.table = rig_at(table),
                                          .head_dim = l->key_dim,
                                          .first = c->first,
                                          .dims = c->dims,
                                          .halves = c->halves},
                                 .k = rig_at(t.k),
                                 .v = rig_at(t.v),
                                 .pos = rig_at(pos),
                                 .seats = rig_at(seats),
                                 .count = rig_count(rows),
                                 .q_heads = c->q_heads};
    return t;
}

/* k_rope into a fresh buffer. */
static float *turned(int arch, const turn_rig *t, const float *x, uint32_t floats, uint32_t heads) {
    float *out = rig_buffer(floats * sizeof *out);
    k_rope_args a = {.rope = t->args.rope,
                     .x = rig_at(x),
                     .out = rig_at(out),
                     .count = t->args.count,
                     .heads = heads};
    if (heads > 0) rig_run(arch, "k_rope", &a, heads, t->rows, 128, 0);
    return out;
}

/* The bits are those of k_rope twice and k_kv_write, which are held against the reference. */
static void check_turn(int arch, const turn_case *c, uint32_t rows) {
    const turn_rig t = make_turn(c, rows);
    const kv_layout *l = &c->layout;
    attention_cache got = attention_cache_make(*l, ATTENTION_STRIDE),
                    want = attention_cache_make(*l, ATTENTION_STRIDE);
    const float *want_q = turned(arch, &t, t.q, t.q_floats, c->q_heads);
    k_kv_write_args write = {.kv = attention_cache_kv(&want),
                             .k = rig_at(turned(arch, &t, t.k, t.k_floats, l->kv_heads)),
                             .v = t.args.v,
                             .pos = t.args.pos,
                             .seats = t.args.seats,
                             .count = t.args.count,
                             .k_cols = l->kv_heads * l->key_dim,
                             .v_cols = l->kv_heads * l->value_dim};
    rig_run(arch, "k_kv_write", &write, l->kv_heads, rows, 128, 0);
    float *q_out = c->in_place ? t.q : rig_buffer(t.q_floats * sizeof *q_out);
    k_rope_write_args a = t.args;
    a.kv = attention_cache_kv(&got);
    a.q = c->q_heads > 0 ? rig_at(t.q) : 0;
    a.q_out = c->q_heads > 0 ? rig_at(q_out) : 0;
    rig_run(arch, "k_rope_write", &a, c->q_heads + l->kv_heads, rows + 2, 128, 0);
    rig_same(q_out, want_q, t.q_floats * sizeof *q_out);
    rig_same(got.blocks, want.blocks, kv_block_bytes(&got.layout) * BLOCKS);
}

TEST(k_rope_write_is_both_turns_and_the_write) {
    static const uint32_t rows[] = {1, 4, 5};
    static const turn_case cases[] = {
        {{.type = DTYPE_F16, .kv_heads = 2, .key_dim = 64, .value_dim = 64}, 4, 0, 64, true, true},
        {{.type = DTYPE_F32, .kv_heads = 1, .key_dim = 1, .value_dim = 1}, 1, 0, 0, true, false},
        {{.type = DTYPE_F32, .kv_heads = 1, .key_dim = 127, .value_dim = 129},
         3,
         1,
         126,
         false,
         false},
        {{.type = DTYPE_F16, .kv_heads = 1, .key_dim = 128, .value_dim = 128},
         2,
         0,
         128,
         false,
         true},
        {{.type = DTYPE_F16, .kv_heads = 1, .key_dim = 129, .value_dim = 127},
         1,
         64,
         32,
         true,
         true},
        {{.type = DTYPE_Q8_0, .kv_heads = 2, .key_dim = 64, .value_dim = 32},
         3,
         0,
         64,
         true,
         false},
        {{.type = DTYPE_Q8_0, .kv_heads = 1, .key_dim = 160, .value_dim = 96},
         1,
         9,
         130,
         false,
         false},
        {{.type = DTYPE_Q4_0, .kv_heads = 1, .key_dim = 96, .value_dim = 64},
         2,
         3,
         90,
         true,
         false},
        {{.type = DTYPE_F32, .kv_heads = 2, .key_dim = 260, .value_dim = 2},
         0,
         0,
         260,
         true,
         false},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            for (size_t r = 0; r < 3; r++) check_turn(arch, &cases[i], rows[r]);
    }
    rig_done();
}

/* --- attention -------------------- */

/* The sequences' lengths are below, at and above block borders, one of several rounds of blocks. */
static const batch_run some_runs[] = {{0, 3, 2, 137}, {3, 1, 0, 0}, {4, 2, 1, 14}};
static const batch_run whole_runs[] = {{0, 9, 1, 0}, {9, 1, 0, 0}, {10, 17, 2, 0}};
enum { RUNS = 3 };

static attention_rig make_rig(const attention_case *c) {
    return attention_rig_make(c, c->whole ? whole_runs : some_runs, RUNS, ATTENTION_STRIDE);
}

/* The first rows, as many as can be, are shared by `blocks` each; their slots are not in order. */
static void share_rows(attention_rig *a, uint32_t blocks) {
    static const uint32_t none[CK_SPLIT_ROWS_MAX * 16];
    const kv_layout *l = &a->cache.layout;
    const uint32_t rows = num_min_u32(a->rows, CK_SPLIT_ROWS_MAX), stride = a->cache.stride;
    const cuda_attention_cut cut = {.per_block = a->args.per_block, .groups = a->args.groups};
    uint32_t *slots = rig_buffer(a->rows * sizeof *slots);
    a->splits = (ck_splits){.rows = rows, .blocks = blocks};
    for (uint32_t r = 0; r < a->rows; r++) slots[r] = CK_SPLIT_NONE;
    for (uint32_t i = 0; i < rows; i++) {
        a->splits.row[i] = rows - 1 - i;
        slots[rows - 1 - i] = i;
    }
    a->args.splits = rig_at(rig_copy(&a->splits, sizeof a->splits));
    a->args.slots = rig_at(slots);
    a->args.parts_stride = stride;
    a->args.parts =
        rig_at(rig_buffer(cuda_attention_parts_bytes(&cut, l->value_dim, rows, stride)));
    a->tickets = rig_copy(none, (size_t)rows * a->args.groups * sizeof *none);
    a->args.tickets = rig_at(a->tickets);
}

/* `more` rows of the grid are behind the last one. */
static void run_rig(int arch, const attention_rig *a, uint32_t more) {
    const uint32_t rows = a->rows + cuda_attention_further(&a->splits) + more;
    char kernel[CUDA_ATTENTION_NAME_BYTES];
    cuda_attention_name(&a->args, kernel);
    rig_run(arch, kernel, &a->args, a->args.groups, rows, 128, a->shared_bytes);
}

static void check_attention(int arch, const attention_case *c) {
    attention_rig a = make_rig(c);
    const float *want = attention_rig_want(c, &a);
    run_rig(arch, &a, 1);
    rig_near(a.out, want, attention_rig_floats(c, &a), NEAR);
}

TEST(k_attention_of_heads_of_any_shape) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 2},
        {.layout = KV_LAYOUT(F16, 2, 128, 128, false), .heads = 4},
        {.layout = KV_LAYOUT(F32, 1, 128, 128, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 1, 80, 96, false), .heads = 3},
        {.layout = KV_LAYOUT(F32, 1, 8, 256, false), .heads = 2},
        {.layout = KV_LAYOUT(F16, 1, 1, 1, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 2, 33, 31, false), .heads = 2},
        {.layout = KV_LAYOUT(F32, 1, 100, 257, false), .heads = 1},
        {.layout = KV_LAYOUT(Q8_0, 2, 32, 32, false), .heads = 4},
        {.layout = KV_LAYOUT(Q8_0, 1, 128, 128, false), .heads = 2},
        {.layout = KV_LAYOUT(Q8_0, 1, 96, 288, false), .heads = 1},
        {.layout = KV_LAYOUT(Q4_0, 2, 32, 32, false), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 1, 128, 128, false), .heads = 2},
        {.layout = KV_LAYOUT(Q4_0, 1, 96, 288, false), .heads = 1},
        {.layout = KV_LAYOUT(Q4_0, 1, 64, 96, false), .heads = 7},
        {.layout = KV_LAYOUT(F16, 1, 96, 80, false), .heads = 3},
        {.layout = KV_LAYOUT(F32, 2, 16, 24, false), .heads = 10},
        {.layout = KV_LAYOUT(Q8_0, 1, 64, 96, false), .heads = 6},
        {.layout = KV_LAYOUT(F16, 1, 24, 128, false), .heads = 7},
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 8},
        {.layout = KV_LAYOUT(F32, 1, 72, 40, false), .heads = 8},
        {.layout = KV_LAYOUT(Q8_0, 1, 32, 32, false), .heads = 8},
        {.layout = KV_LAYOUT(F16, 1, 16, 256, false), .heads = 5},
        {.layout = KV_LAYOUT(F16, 2, 8, 8, false), .heads = 22},
        {.layout = KV_LAYOUT(F16, 1, 20, 12, false), .heads = 3},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            check_attention(arch, &cases[i]);
    }
    rig_done();
}

TEST(k_attention_of_latent_heads_and_of_the_widest) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 576, 512, true), .heads = 2},
        {.layout = KV_LAYOUT(F32, 1, 40, 33, true), .heads = 2},
        {.layout = KV_LAYOUT(Q8_0, 1, 576, 512, true), .heads = 2},
        {.layout = KV_LAYOUT(Q4_0, 1, 576, 512, true), .heads = 2},
        {.layout = KV_LAYOUT(F16, 1, 1024, 1024, false), .heads = 1},
        {.layout = KV_LAYOUT(F32, 1, 1023, 1021, false), .heads = 1},
    };
    RIG_EACH(arch) {
        if (rig_order() == SIM_DESCENDING) continue; /* large: two orders will do */
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            check_attention(arch, &cases[i]);
    }
    rig_done();
}

TEST(k_attention_with_windows_caps_sinks_and_slopes) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 1},
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 20, .sinks = true},
        {.layout = KV_LAYOUT(F32, 2, 32, 24, false), .heads = 4, .window = 138, .slopes = true},
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .softcap = 2.5f},
        {.layout = KV_LAYOUT(Q8_0, 1, 32, 32, false), .heads = 2, .window = 20, .sinks = true},
        {.layout = KV_LAYOUT(Q4_0, 1, 32, 32, false), .heads = 2, .window = 20, .sinks = true},
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .sinks = true, .slopes = true},
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .whole = true, .slopes = true},
        {.layout = KV_LAYOUT(F32, 1, 30, 32, false), .heads = 1, .whole = true, .window = 5},
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 4000000000u},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            check_attention(arch, &cases[i]);
    }
    rig_done();
}

/* As f32 and as codes; then as codes only. */
TEST(k_attention_writes_the_codes_of_what_it_makes) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 2},
        {.layout = KV_LAYOUT(F32, 1, 33, 32, false), .heads = 3, .window = 20},
        {.layout = KV_LAYOUT(F16, 2, 80, 96, false), .heads = 2},
        {.layout = KV_LAYOUT(Q8_0, 1, 64, 96, false), .heads = 2},
        {.layout = KV_LAYOUT(Q4_0, 1, 64, 96, false), .heads = 2},
        {.layout = KV_LAYOUT(F16, 1, 128, 128, false), .heads = 1, .sinks = true},
        {.layout = KV_LAYOUT(F32, 1, 8, 160, false), .heads = 2},
        {.layout = KV_LAYOUT(F16, 1, 16, 288, false), .heads = 1},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            attention_rig a = make_rig(&cases[i]);
            const uint32_t cols = cases[i].heads * cases[i].layout.value_dim;
            const quantized both = quantized_buffers(a.rows, cols);
            const quantized alone = quantized_buffers(a.rows, cols);
            a.args.codes = rig_at(both.codes);
            a.args.sums = rig_at(both.sums);
            run_rig(arch, &a, 1);
            quantized_same(arch, both, a.out, a.rows, cols);
            a.args.out = 0;
            a.args.codes = rig_at(alone.codes);
            a.args.sums = rig_at(alone.sums);
            run_rig(arch, &a, 1);
            quantized_same(arch, alone, a.out, a.rows, cols);
        }
    }
    rig_done();
}

/* --- splits -------------------- */

/* One row each that sees so many tokens: around the borders of splits, and of several of them. */
static const batch_run split_runs[][RUNS] = {
    {{0, 1, 2, 0}, {1, 1, 0, 254}, {2, 1, 1, 255}},
    {{0, 1, 2, 256}, {1, 1, 0, 511}, {2, 1, 1, 512}},
    {{0, 1, 2, 1024}, {1, 2, 0, 766}, {3, 1, 1, 1100}},
};

TEST(k_attention_of_spans_around_the_borders_of_splits) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2},
        {.layout = KV_LAYOUT(F32, 1, 16, 136, false), .heads = 4, .sinks = true},
        {.layout = KV_LAYOUT(Q8_0, 1, 32, 32, false), .heads = 7, .slopes = true},
        {.layout = KV_LAYOUT(F16, 1, 10, 9, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 1, 16, 16, false), .heads = 1, .window = 257},
        {.layout = KV_LAYOUT(F16, 1, 16, 8, true), .heads = 3, .window = 600, .sinks = true},
    };
    RIG_EACH(arch) {
        if (rig_order() == SIM_DESCENDING) continue; /* large: two orders will do */
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            for (size_t k = 0; k < sizeof split_runs / sizeof split_runs[0]; k++) {
                attention_rig a = attention_rig_make(&cases[i], split_runs[k], RUNS, LONG_STRIDE);
                const float *want = attention_rig_want(&cases[i], &a);
                share_rows(&a, 1 + (uint32_t)(i + k) % 5);
                run_rig(arch, &a, 1);
                rig_near(a.out, want, attention_rig_floats(&cases[i], &a), NEAR);
            }
    }
    rig_done();
}

/* By one block for each row; then by more and more of them, up to more than there are splits, whose
 * tickets are all given back.  Short spans are few splits of many blocks, too. */
TEST(k_attention_gives_the_same_bits_however_many_blocks_share_a_row) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 2, 24, 40, false), .heads = 6, .sinks = true},
        {.layout = KV_LAYOUT(F32, 1, 16, 264, false), .heads = 2, .window = 700},
        {.layout = KV_LAYOUT(Q8_0, 1, 32, 32, false), .heads = 11},
        {.layout = KV_LAYOUT(Q4_0, 1, 32, 32, false), .heads = 5},
    };
    static const uint32_t blocks[] = {1, 2, 7};
    static const uint32_t none[CK_SPLIT_ROWS_MAX * 16];
    RIG_EACH(arch) {
        if (rig_order() == SIM_DESCENDING) continue;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            attention_rig a = attention_rig_make(&cases[i], split_runs[2], RUNS, LONG_STRIDE);
            const size_t bytes = attention_rig_floats(&cases[i], &a) * sizeof(float);
            if (rig_order() == SIM_SHUFFLED) a.args.splits_max = 3;
            run_rig(arch, &a, 0);
            for (size_t k = 0; k < sizeof blocks / sizeof blocks[0]; k++) {
                attention_rig shared = a;
                float *out = rig_buffer(bytes);
                share_rows(&shared, blocks[k]);
                shared.args.out = rig_at(out);
                run_rig(arch, &shared, (uint32_t)k % 2 * 3);
                rig_same(out, a.out, bytes);
                rig_same(shared.tickets, none,
                         (size_t)shared.splits.rows * shared.args.groups * sizeof *none);
            }
        }
    }
    rig_done();
}

/* Every row of a batch once more, alone. */
TEST(k_attention_gives_a_row_the_same_bits_in_every_batch) {
    attention_case c = {.layout = KV_LAYOUT(F16, 1, 48, 64, false), .heads = 2, .window = 100};
    RIG_EACH(arch) {
        attention_rig a = make_rig(&c);
        run_rig(arch, &a, 0);
        for (uint32_t r = 0; r < a.rows; r++) {
            size_t floats = (size_t)c.heads * c.layout.value_dim;
            attention_rig alone = a;
            alone.rows = 1;
            alone.out = rig_buffer(floats * sizeof(float));
            alone.args.q += (uint64_t)r * c.heads * c.layout.key_dim * sizeof(float);
            alone.args.pos += r * 4;
            alone.args.seats += r * 4;
            alone.args.seen += r * 4;
            alone.args.out = rig_at(alone.out);
            alone.args.count = rig_count(1);
            run_rig(arch, &alone, 0);
            rig_same(alone.out, a.out + r * floats, floats * sizeof(float));
        }
    }
    rig_done();
}

/* --- what is no number -------------------- */

/* Lanes beyond the end of a key, which is no multiple of what they read together, and tokens that
 * are not seen have neighbours that are infinite. */
TEST(k_attention_keeps_infinities_where_they_are) {
    enum { MINUS = 0xfc00, PLUS = 0x7c00 };
    static const attention_case c = {.layout = KV_LAYOUT(F16, 1, 80, 48, false), .heads = 2};
    RIG_EACH(arch) {
        attention_rig a = make_rig(&c);
        for (uint32_t i = 0; i < a.rows * c.heads; i++)
            for (uint32_t e = 72; e < 80; e++) a.q[i * 80 + e] = 0.5f;
        for (uint32_t e = 72; e < 80; e++)
            attention_rig_f16_row(&a, KV_K, 2, 100)[e] = MINUS; /* weight 0 */
        const float *want = attention_rig_want(&c, &a);
        run_rig(arch, &a, 0);
        rig_near(a.out, want, attention_rig_floats(&c, &a), NEAR);
        attention_rig_f16_row(&a, KV_V, 1, 15)[47] = PLUS; /* the last token of the last row */
        run_rig(arch, &a, 0);
        float *last = a.out + (a.rows - 1) * c.heads * 48;
        for (uint32_t h = 0; h < c.heads; h++) {
            CHECK(isinf(last[h * 48 + 47]) && last[h * 48 + 47] > 0);
            last[h * 48 + 47] = want[((a.rows - 1) * c.heads + h) * 48 + 47];
        }
        rig_near(a.out, want, attention_rig_floats(&c, &a), NEAR);
    }
    rig_done();
}

/* --- traffic -------------------- */

/* Sectors beside the cache's, of one warp: the arguments in global memory, tables, slopes. */
enum { OTHER_SECTORS = 24 };

TEST(k_attention_reads_keys_and_values_once_for_all_their_heads) {
    RIG_SKIP_UNLESS_COUNTED();
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 128, 128, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 2, 128, 128, false), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 128, 128, false), .heads = 8},
        {.layout = KV_LAYOUT(F16, 1, 80, 96, false), .heads = 7},
    };
    static const batch_run runs[RUNS] = {{0, 1, 2, 767}, {1, 1, 0, 767}, {2, 1, 1, 767}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (uint32_t blocks = 1; blocks <= 3; blocks += 2) {
            const attention_case *c = &cases[i];
            attention_rig a = attention_rig_make(c, runs, RUNS, LONG_STRIDE);
            share_rows(&a, blocks);
            run_rig(750, &a, 0);
            const sim_counters *n = rig_counters();
            const kv_layout *l = &a.cache.layout;
            const uint64_t cached = (uint64_t)768 * RUNS * l->kv_heads *
                                    (kv_row_bytes(l, KV_K) + kv_row_bytes(l, KV_V));
            const uint64_t queries = (uint64_t)RUNS * blocks * c->heads * l->key_dim * 4;
            const uint64_t parts =
                blocks == 1 ? 0 : (uint64_t)RUNS * 3 * c->heads * (l->value_dim * 4 + 32);
            const uint64_t others =
                queries + parts +
                (uint64_t)RUNS * blocks * a.args.groups * 4 * (OTHER_SECTORS * 32);
            CHECK(n->load_sectors * 32 >= cached);
            CHECK((double)(n->load_sectors * 32) <= 1.05 * (double)cached + (double)others);
        }
    rig_done();
}
