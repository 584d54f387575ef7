/* test_k_attention.c - the KV cache and attention over it against the reference.
 *
 * Memory that no token was written to is NaN: a kernel that so much as multiplies it by 0 fails. */
#include <math.h>

#include "backend/kv_q8.h"
#include "cudasim/oracle.h"
#include "cudasim/quantized.h"
#include "cudasim/rig.h"
#include "tensor/convert.h"
#include "test.h"

#include "abi.h"

enum { SEATS = 3, STRIDE = 20, BLOCKS = SEATS * STRIDE, LAYERS = 2, LAYER = 1 };

/* Of outputs within -1..1 whose scores are up to about 10: 2^x and the sums are good to 1e-6. */
static const double NEAR = 4e-6;

typedef struct cache {
    kv_layout layout;
    void *blocks;
    uint32_t *tables;
} cache;

static cache make_cache(kv_layout layout) {
    layout.layers = LAYERS;
    cache c = {layout, rig_buffer(kv_block_bytes(&layout) * BLOCKS),
               rig_buffer(BLOCKS * sizeof(uint32_t))};
    for (uint32_t i = 0; i < BLOCKS; i++) c.tables[i] = i * 17 % BLOCKS; /* 17: prime to 60 */
    return c;
}

static kv_view view_of(const cache *c) {
    return (kv_view){c->layout, c->blocks, c->tables, STRIDE};
}

static ck_kv_type type_of(dtype type) {
    if (type == DTYPE_Q8_0) return CK_KV_Q8;
    return type == DTYPE_F16 ? CK_KV_F16 : CK_KV_F32;
}

static ck_kv kv_of(const cache *c) {
    const kv_layout *l = &c->layout;
    return (ck_kv){.blocks = rig_at(c->blocks) + LAYER * kv_layer_bytes(l),
                   .tables = rig_at(c->tables),
                   .block_bytes = kv_block_bytes(l),
                   .table_stride = STRIDE,
                   .type = type_of(l->type),
                   .kv_heads = l->kv_heads,
                   .key_dim = l->key_dim,
                   .value_dim = l->value_dim,
                   .v_in_k = l->v_in_k};
}

/* Random rows for tokens 0 .. tokens - 1 of a seat. */
static void fill_seat(const cache *c, uint32_t seat, uint32_t tokens) {
    kv_view view = view_of(c);
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < 2 * c->layout.kv_heads; i++) {
            kv_part part = (kv_part)(i % 2);
            uint32_t n = kv_row_elems(&c->layout, (int)part);
            void *head = kv_at(&view, seat, t / KV_BLOCK_TOKENS, LAYER, part, i / 2);
            float x[CK_ATTENTION_DIM_MAX];
            rig_fill(x, n, 1);
            if (c->layout.type == DTYPE_Q8_0)
                kv_q8_put(kv_q8_row_at(&c->layout, head, (int)part, t % KV_BLOCK_TOKENS), 0, x, n);
            for (uint32_t e = 0; c->layout.type != DTYPE_Q8_0 && e < n; e++) {
                size_t at = (size_t)(t % KV_BLOCK_TOKENS) * n + e;
                if (c->layout.type == DTYPE_F16)
                    ((uint16_t *)head)[at] = convert_f32_to_f16(x[e]);
                else
                    ((float *)head)[at] = x[e];
            }
        }
}

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
    cache got = make_cache(*l), want = make_cache(*l);
    float *k = rig_buffer(ROWS * k_cols * sizeof *k), *v = rig_buffer(ROWS * v_cols * sizeof *v);
    rig_fill(k, (size_t)ROWS * k_cols, 3);
    rig_fill(v, (size_t)ROWS * v_cols, 70000); /* some become infinite in f16 */
    oracle_begin(ROWS);
    oracle_runs(runs, 3);
    oracle_rows *rows = oracle_batch();
    rows->in.kv = view_of(&want);
    pg_layer(oracle_program(), LAYER);
    value_id k_value = oracle_input(k, k_cols);
    pg_kv_write(oracle_program(), k_value, oracle_input(v, v_cols));
    (void)oracle_end(k_value);
    k_kv_write_args a = {.kv = kv_of(&got),
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
    cache got = make_cache(*l), want = make_cache(*l);
    const float *want_q = turned(arch, &t, t.q, t.q_floats, c->q_heads);
    k_kv_write_args write = {.kv = kv_of(&want),
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
    a.kv = kv_of(&got);
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

typedef struct attention_case {
    kv_layout layout;
    uint32_t heads, window;
    float softcap;
    bool sinks, slopes, whole; /* whole: not causal */
} attention_case;

/* The sequences' lengths are below, at and above block borders, one of several rounds of blocks. */
static const batch_run some_runs[] = {{0, 3, 2, 137}, {3, 1, 0, 0}, {4, 2, 1, 14}};
static const batch_run whole_runs[] = {{0, 9, 1, 0}, {9, 1, 0, 0}, {10, 17, 2, 0}};
enum { RUNS = 3 };

typedef struct attention_rig {
    cache cache;
    uint32_t rows;
    float *q, *out, *sinks, *slopes;
    k_attention_args args;
} attention_rig;

static uint32_t *seen_of(const attention_case *c, const oracle_rows *rows) {
    uint32_t *seen = rig_buffer(rows->in.rows * sizeof *seen);
    for (uint32_t r = 0; r < rows->in.rows; r++)
        seen[r] = c->whole ? batch_seen_whole(&rows->in, r) : rows->pos[r] + 1;
    return seen;
}

/* Fills the cache with what the runs see, and starts the oracle on it. */
static attention_rig make_rig(const attention_case *c) {
    const batch_run *runs = c->whole ? whole_runs : some_runs;
    const kv_layout *l = &c->layout;
    attention_rig a = {.cache = make_cache(*l), .rows = runs[RUNS - 1].row0 + runs[RUNS - 1].rows};
    for (uint32_t i = 0; i < RUNS; i++)
        fill_seat(&a.cache, runs[i].seat, runs[i].pos0 + runs[i].rows);
    size_t q_floats = (size_t)a.rows * c->heads * l->key_dim;
    a.q = rig_buffer(q_floats * sizeof(float));
    rig_fill(a.q, q_floats, 3);
    a.out = rig_buffer((size_t)a.rows * c->heads * l->value_dim * sizeof(float));
    a.sinks = rig_buffer(c->heads * sizeof(float));
    a.slopes = rig_buffer(c->heads * sizeof(float));
    rig_fill(a.sinks, c->heads, 4);
    for (uint32_t h = 0; h < c->heads; h++) a.slopes[h] = exp2f(-(float)h - 2);

    oracle_begin(a.rows);
    oracle_runs(runs, RUNS);
    oracle_rows *rows = oracle_batch();
    rows->in.kv = view_of(&a.cache);
    a.args = (k_attention_args){.kv = kv_of(&a.cache),
                                .q = rig_at(a.q),
                                .out = rig_at(a.out),
                                .pos = rig_at(rig_copy(rows->pos, a.rows * 4)),
                                .seats = rig_at(rig_copy(rows->seats, a.rows * 4)),
                                .seen = rig_at(seen_of(c, rows)),
                                .sinks = c->sinks ? rig_at(a.sinks) : 0,
                                .slopes = c->slopes ? rig_at(a.slopes) : 0,
                                .count = rig_count(a.rows),
                                .heads = c->heads,
                                .window = c->window,
                                .scale = 1.5f / sqrtf((float)l->key_dim),
                                .softcap = c->softcap};
    return a;
}

static const float *wanted(const attention_case *c, const attention_rig *a) {
    op_attention attn = {.heads = c->heads,
                         .kv_heads = c->layout.kv_heads,
                         .key_dim = c->layout.key_dim,
                         .value_dim = c->layout.value_dim,
                         .scale = a->args.scale,
                         .softcap = c->softcap,
                         .window = c->window,
                         .causal = !c->whole,
                         .sinks = c->sinks ? a->sinks : NULL,
                         .slopes = c->slopes ? a->slopes : NULL};
    pg_layer(oracle_program(), LAYER);
    value_id q = oracle_input(a->q, c->heads * c->layout.key_dim);
    return oracle_end(pg_attention(oracle_program(), q, attn));
}

static const char *kernel_of(const attention_rig *a) {
    return a->args.kv.type == CK_KV_Q8 ? "k_attention_q8" : "k_attention";
}

static void check_attention(int arch, const attention_case *c) {
    attention_rig a = make_rig(c);
    const float *want = wanted(c, &a);
    rig_run(arch, kernel_of(&a), &a.args, c->heads, a.rows + 1, 128, 0);
    rig_near(a.out, want, (size_t)a.rows * c->heads * c->layout.value_dim, NEAR);
}

/* X(type, kv_heads, key_dim, value_dim, v_in_k) */
#define LAYOUT(t, h, k, v, in) \
    { .type = DTYPE_##t, .kv_heads = (h), .key_dim = (k), .value_dim = (v), .v_in_k = (in) }

TEST(k_attention_of_heads_of_any_shape) {
    static const attention_case cases[] = {
        {.layout = LAYOUT(F16, 1, 64, 64, false), .heads = 2},
        {.layout = LAYOUT(F16, 2, 128, 128, false), .heads = 4},
        {.layout = LAYOUT(F32, 1, 128, 128, false), .heads = 1},
        {.layout = LAYOUT(F16, 1, 80, 96, false), .heads = 3},
        {.layout = LAYOUT(F32, 1, 8, 256, false), .heads = 2},
        {.layout = LAYOUT(F16, 1, 1, 1, false), .heads = 1},
        {.layout = LAYOUT(F16, 2, 33, 31, false), .heads = 2},
        {.layout = LAYOUT(F32, 1, 100, 257, false), .heads = 1},
        {.layout = LAYOUT(Q8_0, 2, 32, 32, false), .heads = 4},
        {.layout = LAYOUT(Q8_0, 1, 128, 128, false), .heads = 2},
        {.layout = LAYOUT(Q8_0, 1, 96, 288, false), .heads = 1},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            check_attention(arch, &cases[i]);
    }
    rig_done();
}

TEST(k_attention_of_latent_heads_and_of_the_widest) {
    static const attention_case cases[] = {
        {.layout = LAYOUT(F16, 1, 576, 512, true), .heads = 2},
        {.layout = LAYOUT(F32, 1, 40, 33, true), .heads = 2},
        {.layout = LAYOUT(Q8_0, 1, 576, 512, true), .heads = 2},
        {.layout = LAYOUT(F16, 1, 1024, 1024, false), .heads = 1},
        {.layout = LAYOUT(F32, 1, 1023, 1021, false), .heads = 1},
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
        {.layout = LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 1},
        {.layout = LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 20, .sinks = true},
        {.layout = LAYOUT(F32, 2, 32, 24, false), .heads = 4, .window = 138, .slopes = true},
        {.layout = LAYOUT(F16, 1, 32, 32, false), .heads = 2, .softcap = 2.5f},
        {.layout = LAYOUT(Q8_0, 1, 32, 32, false), .heads = 2, .window = 20, .sinks = true},
        {.layout = LAYOUT(F16, 1, 32, 32, false), .heads = 2, .sinks = true, .slopes = true},
        {.layout = LAYOUT(F16, 1, 32, 32, false), .heads = 2, .whole = true, .slopes = true},
        {.layout = LAYOUT(F32, 1, 30, 32, false), .heads = 1, .whole = true, .window = 5},
        {.layout = LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 4000000000u},
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
        {.layout = LAYOUT(F16, 1, 64, 64, false), .heads = 2},
        {.layout = LAYOUT(F32, 1, 33, 32, false), .heads = 3, .window = 20},
        {.layout = LAYOUT(F16, 2, 80, 96, false), .heads = 2},
        {.layout = LAYOUT(Q8_0, 1, 64, 96, false), .heads = 2},
        {.layout = LAYOUT(F16, 1, 128, 128, false), .heads = 1, .sinks = true},
        {.layout = LAYOUT(F32, 1, 8, 160, false), .heads = 2},
        {.layout = LAYOUT(F16, 1, 16, 288, false), .heads = 1},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            attention_rig a = make_rig(&cases[i]);
            const uint32_t cols = cases[i].heads * cases[i].layout.value_dim;
            const quantized both = quantized_buffers(a.rows, cols);
            const quantized alone = quantized_buffers(a.rows, cols);
            a.args.codes = rig_at(both.codes);
            a.args.sums = rig_at(both.sums);
            rig_run(arch, kernel_of(&a), &a.args, cases[i].heads, a.rows + 1, 128, 0);
            quantized_same(arch, both, a.out, a.rows, cols);
            a.args.out = 0;
            a.args.codes = rig_at(alone.codes);
            a.args.sums = rig_at(alone.sums);
            rig_run(arch, kernel_of(&a), &a.args, cases[i].heads, a.rows + 1, 128, 0);
            quantized_same(arch, alone, a.out, a.rows, cols);
        }
    }
    rig_done();
}

/* Every row of a batch once more, alone. */
TEST(k_attention_gives_a_row_the_same_bits_in_every_batch) {
    attention_case c = {.layout = LAYOUT(F16, 1, 48, 64, false), .heads = 2, .window = 100};
    RIG_EACH(arch) {
        attention_rig a = make_rig(&c);
        rig_run(arch, kernel_of(&a), &a.args, c.heads, a.rows, 128, 0);
        for (uint32_t r = 0; r < a.rows; r++) {
            size_t floats = (size_t)c.heads * c.layout.value_dim;
            float *out = rig_buffer(floats * sizeof *out);
            k_attention_args alone = a.args;
            alone.q += (uint64_t)r * c.heads * c.layout.key_dim * sizeof(float);
            alone.pos += r * 4;
            alone.seats += r * 4;
            alone.seen += r * 4;
            alone.out = rig_at(out);
            alone.count = rig_count(1);
            rig_run(arch, "k_attention", &alone, c.heads, 1, 128, 0);
            rig_same(out, a.out + r * floats, floats * sizeof *out);
        }
    }
    rig_done();
}
