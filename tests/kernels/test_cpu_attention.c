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

/* attention output of one row, after its k and v were stored */
static program *make_program(krig_weights *list, shape s) {
    krig_random random = {s.heads * 1000 + s.head_dim};
    program *p = krig_program(TOKENS);
    uint32_t q_cols = s.heads * s.head_dim, kv_cols = s.kv_heads * s.head_dim;
    op_rope rope = {s.heads, s.head_dim, s.head_dim / 2 * 2, 10000.0f, 1.0f, NULL}, rope_k = rope;
    rope_k.heads = s.kv_heads;
    value_id q = pg_embed(p, krig_table(list, &random, TABLE_ROWS, q_cols));
    value_id k = pg_embed(p, krig_table(list, &random, TABLE_ROWS, kv_cols));
    value_id v = pg_embed(p, krig_table(list, &random, TABLE_ROWS, kv_cols));
    q = pg_rope(p, q, rope);
    k = pg_rope(p, k, rope_k);
    pg_kv_write(p, k, v);
    op_attention attn = {s.heads, s.kv_heads, s.head_dim, 1.0f};
    attn.scale = 1.0f / (float)s.head_dim;
    (void)krig_finish(p, pg_attention(p, q, attn));
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
        in->seats[r] = r % seats; /* interleaved */
        in->pos[r] = from + r / seats;
        in->tokens[r] = token_of(in->seats[r], in->pos[r]);
        in->taken[r] = r;
    }
    const float *got = krig_logits(m, b, in);
    for (uint32_t r = 0; r < in->rows; r++)
        memcpy(out + ((size_t)in->seats[r] * TOKENS + in->pos[r]) * cols, got + (size_t)r * cols,
               cols * sizeof *out);
}

/* All positions of all sequences in chunks; [seats, TOKENS, cols], the caller frees. */
static float *run_sequences(const krig_machine *m, const program *p, kv_layout layout,
                            uint32_t seats, uint32_t chunk) {
    uint32_t cols = p->values[p->logits].cols;
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

static void check_attention(shape s, dtype kv_type) {
    krig_weights list = {0};
    program *p = make_program(&list, s);
    kv_layout layout = {kv_type, 1, s.kv_heads, s.head_dim};
    size_t one = (size_t)TOKENS * s.heads * s.head_dim;
    double nmse_max = kv_type == DTYPE_F16 ? f16_nmse_max : f32_nmse_max;
    float *want = run_sequences(&krig_machines[0], p, layout, 3, 17);
    for (int i = 0; i < RIG_MACHINES; i++) {
        const krig_machine *m = &krig_machines[i];
        float *chunks = run_sequences(m, p, layout, 3, 17);
        float *single = run_sequences(m, p, layout, 3, 1);
        float *alone = run_sequences(m, p, layout, 1, TOKENS);
        double nmse = krig_nmse(chunks, want, one * 3);
        bool cut = memcmp(chunks, single, one * 3 * sizeof *chunks) == 0;
        bool crowd = memcmp(chunks, alone, one * sizeof *chunks) == 0;
        if (nmse > nmse_max || !cut || !crowd)
            (void)fprintf(stderr, "attention %u/%u x %u %s on %s: nmse %g, chunks %d, alone %d\n",
                          s.heads, s.kv_heads, s.head_dim, dtype_name(kv_type), m->name, nmse, cut,
                          crowd);
        CHECK(nmse <= nmse_max);
        CHECK(cut);
        CHECK(crowd);
        free(chunks);
        free(single);
        free(alone);
    }
    free(want);
    program_destroy(p);
    krig_weights_deinit(&list);
}

TEST(kernel_attention_head_sizes_f32) {
    static const uint32_t dims[] = {1, 4, 8, 20, 64, 128};
    for (int i = 0; i < 6; i++) check_attention((shape){4, 2, dims[i]}, DTYPE_F32);
}

TEST(kernel_attention_head_sizes_f16) {
    static const uint32_t dims[] = {1, 4, 8, 20, 64, 128};
    for (int i = 0; i < 6; i++) check_attention((shape){4, 2, dims[i]}, DTYPE_F16);
}

TEST(kernel_attention_group_sizes) {
    static const shape shapes[] = {{1, 1, 8}, {4, 4, 8}, {4, 2, 8}, {8, 2, 16}, {8, 1, 8}};
    for (int i = 0; i < 5; i++) {
        check_attention(shapes[i], DTYPE_F32);
        check_attention(shapes[i], DTYPE_F16);
    }
}

/* The rows right before, on and after the edge of a block, each alone in its step. */
TEST(kernel_attention_at_block_edges) {
    static const uint32_t positions[] = {0, 14, 15, 16, 17, 30, 31, 32, 33, 39};
    shape s = {4, 2, 20};
    krig_weights list = {0};
    program *p = make_program(&list, s);
    kv_layout layout = {DTYPE_F32, 1, s.kv_heads, s.head_dim};
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
    (void)krig_finish(p, pg_attention(p, vq, (op_attention){1, 1, 8, 1.0f}));
    for (int i = 0; i < RIG_MACHINES; i++) {
        float *out = run_sequences(&krig_machines[i], p, (kv_layout){DTYPE_F32, 1, 1, 8}, 1, 7);
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
