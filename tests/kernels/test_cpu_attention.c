/* test_cpu_attention.c - attention over paged KV: group sizes, head sizes, block edges.
 *
 * Method: several sequences are fed token by token or in chunks through
 * embed -> (q, k, v tables) -> rope -> kv_write -> attention.  The blocks of the
 * sequences are shuffled into each other. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rig.h"
#include "test.h"

/* backend.h: f32 arithmetic against double. */
static const double f32_nmse_max = 1e-11;
/* K and V are rounded to f16 from values that differ in the last bit of f32, so a few of
 * them land on the other side of a rounding edge: 2^-11 relative, rarely. */
static const double f16_nmse_max = 1e-8;

typedef struct shape {
    uint32_t heads, kv_heads, head_dim;
} shape;

enum { TOKENS = 40, TABLE_ROWS = 128 };

static op_attention attention_of(shape s) {
    return (op_attention){.heads = s.heads,
                          .kv_heads = s.kv_heads,
                          .key_dim = s.head_dim,
                          .value_dim = s.head_dim,
                          .scale = 1.0f / (float)s.head_dim,
                          .causal = true};
}

static kv_layout layout_of(shape s, dtype type) {
    return (kv_layout){.type = type,
                       .layers = 1,
                       .kv_heads = s.kv_heads,
                       .key_dim = s.head_dim,
                       .value_dim = s.head_dim};
}

/* attention output of one row, after its k and v were stored; a latent is rotated in its tail */
static program *make_program(krig_weights *list, const op_attention *a, const kv_layout *l) {
    krig_random random = {a->heads * 1000 + a->key_dim};
    program *p = krig_program(TOKENS);
    uint32_t k_dim = l->v_in_k ? l->value_dim : l->key_dim;
    uint32_t v_dim = l->v_in_k ? l->key_dim - l->value_dim : l->value_dim;
    uint32_t turned = l->v_in_k ? v_dim : k_dim;
    op_rope rope = krig_rope(list, a->heads, a->key_dim, turned / 2 * 2, 10000.0), rope_k = rope;
    rope.first = a->key_dim - rope.dims;
    rope_k.first = turned - rope.dims;
    rope_k.heads = a->kv_heads;
    rope_k.head_dim = turned;
    value_id q = pg_embed(p, krig_table(list, &random, TABLE_ROWS, a->heads * a->key_dim));
    value_id k = pg_embed(p, krig_table(list, &random, TABLE_ROWS, a->kv_heads * k_dim));
    value_id v = pg_embed(p, krig_table(list, &random, TABLE_ROWS, a->kv_heads * v_dim));
    q = pg_rope(p, q, rope);
    if (l->v_in_k)
        v = pg_rope(p, v, rope_k);
    else
        k = pg_rope(p, k, rope_k);
    pg_kv_write(p, k, v);
    (void)krig_finish(p, pg_attention(p, q, *a));
    return p;
}

static int32_t token_of(uint32_t seat, uint32_t pos) {
    return (int32_t)((seat * 31 + pos * 7) % TABLE_ROWS);
}

/* Compute positions [from, from + rows) of each of `seats` sequences into
 * out [seats, TOKENS, cols]. */
static void step_chunk(const krig_machine *m, backend *b, krig_batch *in, uint32_t from,
                       uint32_t rows, uint32_t seats, float *out, uint32_t cols) {
    in->rows = in->taken_rows = rows * seats;
    ASSERT(in->rows <= RIG_ROWS_MAX);
    for (uint32_t r = 0; r < in->rows; r++) {
        in->seats[r] = r / rows;
        in->pos[r] = from + r % rows;
        in->tokens[r] = token_of(in->seats[r], in->pos[r]);
        in->taken[r] = r;
    }
    const float *got = krig_step(m, b, in);
    for (uint32_t r = 0; r < in->rows; r++)
        memcpy(out + ((size_t)in->seats[r] * TOKENS + in->pos[r]) * cols, got + (size_t)r * cols,
               cols * sizeof *out);
}

/* All positions of all sequences in chunks; [seats, TOKENS, cols], the caller frees. */
static float *run_sequences(const krig_machine *m, const program *p, kv_layout layout,
                            uint32_t seats, uint32_t chunk) {
    uint32_t cols = krig_cols(p);
    float *out = calloc((size_t)seats * TOKENS * cols, sizeof *out);
    krig_random random = {seats + chunk};
    krig_batch in;
    backend *b = krig_open(m, p);
    krig_batch_init(&in, 1);
    krig_batch_kv(&in, &random, layout, seats, TOKENS);
    for (uint32_t from = 0; from < TOKENS; from += chunk) {
        uint32_t rows = TOKENS - from < chunk ? TOKENS - from : chunk;
        step_chunk(m, b, &in, from, rows, seats, out, cols);
    }
    krig_batch_deinit(&in);
    m->ops->close(b);
    return out;
}

/* Rows that look ahead need their whole sequence in one step: 40 rows of 64. */
static void check_attention_of(op_attention a, kv_layout layout) {
    krig_weights list = {0};
    program *p = make_program(&list, &a, &layout);
    const uint32_t seats = a.causal ? 3 : 1, chunk = a.causal ? 17 : TOKENS;
    size_t one = (size_t)TOKENS * a.heads * a.value_dim;
    double nmse_max = layout.type == DTYPE_F16 ? f16_nmse_max : f32_nmse_max;
    float *want = run_sequences(&krig_machines[0], p, layout, seats, chunk), *first = NULL;
    for (int i = 0; i < RIG_MACHINES; i++) {
        const krig_machine *m = &krig_machines[i];
        float *chunks = run_sequences(m, p, layout, seats, chunk);
        float *single = run_sequences(m, p, layout, seats, a.causal ? 1 : chunk);
        float *alone = run_sequences(m, p, layout, 1, TOKENS);
        double nmse = krig_nmse(chunks, want, one * seats);
        bool cut = memcmp(chunks, single, one * seats * sizeof *chunks) == 0;
        bool crowd = memcmp(chunks, alone, one * sizeof *chunks) == 0;
        bool threads = i == 0 || i % 2 == 1 || memcmp(chunks, first, one * sizeof *chunks) == 0;
        if (nmse > nmse_max || !cut || !crowd || !threads)
            (void)fprintf(stderr,
                          "attention %u/%u x %u, %u %s window %u on %s: nmse %g, chunks %d, "
                          "alone %d, threads %d\n",
                          a.heads, a.kv_heads, a.key_dim, a.value_dim, dtype_name(layout.type),
                          a.window, m->name, nmse, cut, crowd, threads);
        CHECK(nmse <= nmse_max);
        CHECK(cut && crowd && threads);
        free(single);
        free(alone);
        free(first);
        first = chunks;
    }
    free(first);
    free(want);
    program_destroy(p);
    krig_weights_deinit(&list);
}

static void check_attention(shape s, dtype kv_type) {
    check_attention_of(attention_of(s), layout_of(s, kv_type));
}

TEST(kernel_attention_head_sizes_f32) {
    static const uint32_t dims[] = {1, 4, 8, 12, 20, 24, 48, 64, 80, 128};
    for (int i = 0; i < 10; i++) check_attention((shape){4, 2, dims[i]}, DTYPE_F32);
}

TEST(kernel_attention_head_sizes_f16) {
    static const uint32_t dims[] = {1, 4, 8, 12, 20, 24, 48, 64, 80, 128};
    for (int i = 0; i < 10; i++) check_attention((shape){4, 2, dims[i]}, DTYPE_F16);
}

TEST(kernel_attention_group_sizes) {
    static const shape shapes[] = {{1, 1, 8}, {4, 4, 8}, {4, 2, 8},  {8, 2, 16},
                                   {8, 1, 8}, {9, 1, 8}, {34, 2, 4}, {16, 1, 12}};
    for (int i = 0; i < 8; i++) {
        check_attention(shapes[i], DTYPE_F32);
        check_attention(shapes[i], DTYPE_F16);
    }
}

/* The rows right before, on and after the edge of a block, each alone in its step. */
TEST(kernel_attention_at_block_edges) {
    static const uint32_t positions[] = {0, 14, 15, 16, 17, 30, 31, 32, 33, 39};
    shape s = {4, 2, 20};
    krig_weights list = {0};
    op_attention attn = attention_of(s);
    kv_layout layout = layout_of(s, DTYPE_F32);
    program *p = make_program(&list, &attn, &layout);
    uint32_t cols = s.heads * s.head_dim;
    float *all = run_sequences(&krig_machines[3], p, layout, 1, TOKENS);
    float *out = calloc((size_t)TOKENS * cols, sizeof *out);
    krig_random random = {5};
    krig_batch in;
    backend *b = krig_open(&krig_machines[3], p);
    krig_batch_init(&in, 1);
    krig_batch_kv(&in, &random, layout, 1, TOKENS);
    uint32_t done = 0;
    for (int i = 0; i < 10; i++) { /* what lies between is computed in one go */
        if (positions[i] > done)
            step_chunk(&krig_machines[3], b, &in, done, positions[i] - done, 1, out, cols);
        step_chunk(&krig_machines[3], b, &in, positions[i], 1, 1, out, cols);
        done = positions[i] + 1;
        CHECK(memcmp(out + (size_t)positions[i] * cols, all + (size_t)positions[i] * cols,
                     cols * sizeof *out) == 0);
    }
    krig_batch_deinit(&in);
    krig_machines[3].ops->close(b);
    free(all);
    free(out);
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* --- kinds -------------------- */

TEST(kernel_attention_keys_and_values_of_different_size) {
    static const uint32_t dims[][2] = {{12, 8}, {8, 12}, {24, 16}, {5, 3}, {48, 32}};
    for (int i = 0; i < 5; i++) {
        for (int type = DTYPE_F32; type <= DTYPE_F16; type++) {
            shape s = {4, 2, dims[i][0]};
            op_attention a = attention_of(s);
            kv_layout l = layout_of(s, (dtype)type);
            a.value_dim = l.value_dim = dims[i][1];
            check_attention_of(a, l);
        }
    }
}

/* Multi-head latent attention: one KV head, values are the first part of the keys. */
TEST(kernel_attention_of_values_within_the_keys) {
    static const uint32_t dims[][2] = {{12, 8}, {20, 16}, {7, 3}, {72, 64}};
    for (int i = 0; i < 4; i++) {
        for (int type = DTYPE_F32; type <= DTYPE_F16; type++) {
            shape s = {i == 3 ? 19 : 4, i == 1 ? 2 : 1, dims[i][0]};
            op_attention a = attention_of(s);
            kv_layout l = layout_of(s, (dtype)type);
            a.value_dim = l.value_dim = dims[i][1];
            l.v_in_k = true;
            check_attention_of(a, l);
        }
    }
}

TEST(kernel_attention_windows) {
    static const uint32_t windows[] = {1, 2, 15, 16, 17, 31, 32, 33, 40, 100};
    shape s = {4, 2, 12};
    for (int i = 0; i < 10; i++) {
        op_attention a = attention_of(s);
        a.window = windows[i];
        check_attention_of(a, layout_of(s, DTYPE_F32));
        a.causal = false;
        check_attention_of(a, layout_of(s, DTYPE_F16));
    }
}

TEST(kernel_attention_that_looks_ahead) {
    static const uint32_t dims[] = {4, 20, 64};
    for (int i = 0; i < 3; i++) {
        shape s = {4, 2, dims[i]};
        op_attention a = attention_of(s);
        a.causal = false;
        check_attention_of(a, layout_of(s, DTYPE_F32));
    }
}

/* Each alone, then all at once. */
TEST(kernel_attention_softcap_sinks_and_slopes) {
    static const float sinks[4] = {0.5f, -3.0f, 30.0f, 0.0f};
    static const float slopes[4] = {0.5f, 0.25f, 0.0625f, 0.0f};
    shape s = {4, 2, 24};
    for (int i = 1; i < 16; i++) {
        op_attention a = attention_of(s);
        a.scale = 0.5f;
        if ((i & 1) != 0) a.softcap = i < 8 ? 3.0f : 50.0f;
        if ((i & 2) != 0) a.sinks = sinks;
        if ((i & 4) != 0) a.slopes = slopes;
        if ((i & 8) != 0) a.window = 9;
        check_attention_of(a, layout_of(s, i % 3 == 0 ? DTYPE_F16 : DTYPE_F32));
    }
}

/* What a window hides is not even looked at: its block of the cache holds no numbers. */
TEST(kernel_attention_leaves_blocks_behind_the_window_alone) {
    shape s = {4, 2, 8};
    krig_weights list = {0};
    op_attention attn = attention_of(s);
    kv_layout layout = layout_of(s, DTYPE_F32);
    attn.window = 3;
    program *p = make_program(&list, &attn, &layout);
    uint32_t cols = krig_cols(p);
    for (int i = 0; i < RIG_MACHINES; i++) {
        const krig_machine *m = &krig_machines[i];
        krig_random random = {5};
        krig_batch in;
        float *out = calloc((size_t)TOKENS * cols, sizeof *out);
        backend *b = krig_open(m, p);
        krig_batch_init(&in, 1);
        krig_batch_kv(&in, &random, layout, 1, TOKENS);
        step_chunk(m, b, &in, 0, 18, 1, out, cols);
        memset(kv_at(&in.kv, 0, 0, 0, KV_K, 0), 0xFF, kv_block_bytes(&layout));
        step_chunk(m, b, &in, 18, 9, 1, out, cols);
        unsigned wrong = 0;
        for (uint32_t c = 0; c < TOKENS * cols; c++) wrong += out[c] != out[c];
        CHECK_EQ(wrong, 0);
        krig_batch_deinit(&in);
        m->ops->close(b);
        free(out);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}

/* Keys that are all the same give equal scores: the output is the mean of the values. */
TEST(kernel_attention_of_equal_keys_is_the_mean) {
    float q[8] = {1, 2, 3, 4, 5, 6, 7, 8}, k[TABLE_ROWS * 8], v[TABLE_ROWS * 8];
    krig_weights list = {0};
    for (int i = 0; i < TABLE_ROWS * 8; i++) {
        k[i] = 0.5f;
        v[i] = (float)(i / 8);
    }
    program *p = krig_program(TOKENS);
    float q_table[TABLE_ROWS * 8];
    for (int i = 0; i < TABLE_ROWS; i++) memcpy(q_table + i * 8, q, sizeof q);
    value_id vq = pg_embed(p, krig_table_of(&list, q_table, TABLE_ROWS, 8));
    value_id vk = pg_embed(p, krig_table_of(&list, k, TABLE_ROWS, 8));
    value_id vv = pg_embed(p, krig_table_of(&list, v, TABLE_ROWS, 8));
    pg_kv_write(p, vk, vv);
    (void)krig_finish(p, pg_attention(p, vq, attention_of((shape){1, 1, 8})));
    for (int i = 0; i < RIG_MACHINES; i++) {
        float *out =
            run_sequences(&krig_machines[i], p, layout_of((shape){1, 1, 8}, DTYPE_F32), 1, 7);
        for (uint32_t pos = 0; pos < TOKENS; pos++) {
            double mean = 0;
            for (uint32_t t = 0; t <= pos; t++) mean += (double)token_of(0, t) / (pos + 1);
            double wrong = (double)out[pos * 8] - mean;
            CHECK(wrong < 1e-4 && wrong > -1e-4);
        }
        free(out);
    }
    program_destroy(p);
    krig_weights_deinit(&list);
}
