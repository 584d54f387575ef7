/* test_backend_fused.c - how few launches a layer of a transformer is, and that nobody sees it: the
 * same bits come out when something stands between any two ops that become one launch. */
#include <math.h>
#include <string.h>

#include "backend/cuda/blob.h"
#include "cudasim/backend_rig.h"

enum { DIM = 256, HEADS = 4, KV_HEADS = 2, ROWS = 5 };

typedef struct layer_kind {
    dtype type, v_type; /* of its weights, but for v's */
    dtype kv_type;
    uint32_t head_dim;
    bool qk_norm;
    bool no_rope;
} layer_kind;

static bool no_pdl; /* of what run_layers() opens */

typedef struct launch_counts {
    uint64_t all;
    uint64_t early; /* of them, before the one ahead had ended */
} launch_counts;

static launch_counts launches_now(void) {
    return (launch_counts){host.launches(NULL), host.early_launches(NULL)};
}

static launch_counts launches_less(launch_counts a, launch_counts b) {
    return (launch_counts){a.all - b.all, a.early - b.early};
}

static weight matrix(lab *l, dtype type, uint32_t rows, uint32_t cols) {
    return krig_weight(&l->weights, &l->random, type, rows, cols);
}

/* Something that changes no bit, and keeps two ops from becoming one launch. */
static value_id between(lab *l, value_id v, bool apart) {
    if (!apart) return v;
    const uint32_t cols = l->p->values[v].cols;
    float *ones = krig_memory(&l->weights, cols * sizeof *ones);
    for (uint32_t i = 0; i < cols; i++) ones[i] = 1;
    return pg_mul_row(l->p, v, ones);
}

static value_id product(lab *l, value_id x, dtype type, uint32_t rows, bool bias, bool apart) {
    const float *row = bias ? krig_vector(&l->weights, &l->random, rows) : NULL;
    return between(l, pg_matmul(l->p, x, matrix(l, type, rows, l->p->values[x].cols), row), apart);
}

static value_id normed(lab *l, value_id x, uint32_t group, bool apart) {
    op_norm norm = {.kind = NORM_RMS,
                    .group = group,
                    .eps = 1e-5f,
                    .gain = krig_vector(&l->weights, &l->random, group),
                    .gain_len = group};
    return between(l, pg_norm(l->p, x, norm), apart);
}

/* Normed and turned, as the kind has it. */
static value_id shaped(lab *l, value_id x, uint32_t heads, const layer_kind *kind,
                       const op_rope *rope, bool apart) {
    op_rope own = *rope;
    own.heads = heads;
    if (kind->qk_norm) x = normed(l, x, kind->head_dim, apart);
    return kind->no_rope ? x : between(l, pg_rope(l->p, x, own), apart);
}

static value_id attention_block(lab *l, value_id n, const layer_kind *kind, const op_rope *rope,
                                bool apart) {
    const uint32_t head = kind->head_dim;
    value_id q = product(l, n, kind->type, HEADS * head, true, apart);
    value_id k = product(l, n, kind->type, KV_HEADS * head, true, apart);
    value_id v = product(l, n, kind->v_type, KV_HEADS * head, false, apart);
    q = shaped(l, q, HEADS, kind, rope, apart);
    k = shaped(l, k, KV_HEADS, kind, rope, apart);
    op_attention attn = {.heads = HEADS,
                         .kv_heads = KV_HEADS,
                         .key_dim = head,
                         .value_dim = head,
                         .scale = 1.0f / sqrtf((float)head),
                         .causal = true};
    pg_kv_write(l->p, k, v);
    value_id a = between(l, pg_attention(l->p, q, attn), apart);
    return product(l, a, kind->type, DIM, false, apart);
}

static value_id feed_forward(lab *l, value_id n, const layer_kind *kind, bool apart) {
    value_id gate = product(l, n, kind->type, DIM, true, apart);
    value_id up = product(l, n, kind->type, DIM, false, apart);
    value_id y = between(l, krig_silu_mul(l->p, gate, up), apart);
    return product(l, y, kind->type, DIM, false, apart);
}

static value_id layer(lab *l, value_id x, const layer_kind *kind, const op_rope *rope, bool apart) {
    value_id n = normed(l, x, DIM, apart);
    x = between(l, pg_add(l->p, x, attention_block(l, n, kind, rope, apart)), apart);
    n = normed(l, x, DIM, apart);
    return between(l, pg_add(l->p, x, feed_forward(l, n, kind, apart)), apart);
}

/* A step of the next `rows` rows of what there is to compute; their results go to out. */
static void step_rows(lab *l, const lab_machine *cuda, const krig_batch *all, uint32_t row0,
                      uint32_t rows, float *out) {
    l->in.rows = l->in.taken_rows = rows;
    for (uint32_t i = 0; i < rows; i++) {
        l->in.tokens[i] = all->tokens[row0 + i];
        l->in.pos[i] = all->pos[row0 + i];
        l->in.seats[i] = all->seats[row0 + i];
        l->in.taken[i] = i;
    }
    const float *got = lab_step(l, cuda);
    if (got != NULL) memcpy(out + (size_t)row0 * DIM, got, (size_t)rows * DIM * sizeof *out);
}

/* What the layers make of ROWS rows of two sequences, `rows` in a step, goes to out [ROWS, DIM].
 * Returns the launches of the last step. */
static launch_counts run_layers(const layer_kind *kind, uint32_t layers, bool apart, uint32_t rows,
                                float *out) {
    lab *l = lab_begin(0, 64);
    lab_machine cuda;
    backend_report report = {0};
    launch_counts launches = {0};
    l->no_pdl = no_pdl;
    kv_layout layout = {.type = kind->kv_type,
                        .layers = layers,
                        .kv_heads = KV_HEADS,
                        .key_dim = kind->head_dim,
                        .value_dim = kind->head_dim};
    lab_kv(l, layout, 3, 64);
    lab_run(l, 2, 0, ROWS - 1);
    lab_run(l, 0, 0, 1);
    const krig_batch all = l->in;
    op_rope rope = krig_rope(&l->weights, HEADS, kind->head_dim, kind->head_dim, 10000.0);
    value_id x = lab_input(l, DIM);
    for (uint32_t i = 0; i < layers; i++) {
        pg_layer(l->p, i);
        x = layer(l, x, kind, &rope, apart);
    }
    lab_finish(l, x);
    if (lab_open(l, &backend_cuda, &cuda)) {
        for (uint32_t row = 0; row < ROWS; row += rows) {
            const launch_counts before = launches_now();
            step_rows(l, &cuda, &all, row, rows, out);
            launches = launches_less(launches_now(), before);
        }
        backend_cuda.report(cuda.b, &report);
        CHECK_EQ(report.ops_fused + report.ops_unfused, l->p->ops_count);
        CHECK(rows > 1 || report.tasks == launches.all);
        lab_close(&cuda);
    }
    lab_free(l);
    return launches;
}

/* Launches that one layer more is, in a step of so many rows. */
static launch_counts launches_of(const layer_kind *kind, uint32_t rows) {
    static float fused[ROWS * DIM], apart[ROWS * DIM];
    const launch_counts two = run_layers(kind, 2, false, rows, fused);
    (void)run_layers(kind, 2, true, ROWS, apart);
    CHECK(memcmp(fused, apart, sizeof fused) == 0);
    return launches_less(two, run_layers(kind, 1, false, rows, fused));
}

/* Norm; q, k and v; the turns of q and k, and writing k and v; attention; o with its sum; norm;
 * gate and up; their product; down with its sum.  It was 16: each product and turn, the write, and
 * the codes of the attention and of the gates were launches of their own.
 *
 * Of one row: q, k and v to the write; attention; o to the norm; gate and up to their product; down
 * to the next norm. */
TEST(cuda_layers_are_few_launches) {
    static const struct {
        layer_kind kind;
        uint32_t many, one;
    } cases[] = {
        {{DTYPE_F32, DTYPE_F32, DTYPE_F16, 64, false, false}, 9, 5},
        {{DTYPE_F16, DTYPE_F16, DTYPE_F32, 32, false, false}, 9, 5},
        {{DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_F16, 64, false, false}, 9, 5},
        {{DTYPE_Q4_0, DTYPE_Q4_0, DTYPE_Q8_0, 64, false, false}, 9, 5},
        {{DTYPE_Q5_K, DTYPE_Q5_K, DTYPE_F16, 64, false, false}, 9, 5},
        {{DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_F16, 64, false, false}, 10, 6}, /* v alone */
        {{DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_F16, 64, true, false}, 11, 8},  /* norms of q and of k */
        {{DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_F16, 64, false, true}, 9, 6},
        {{DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_F16, 48, false, false},
         10,
         6}, /* no whole blocks in a head */
    };
    LAB_MACHINE("t4");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const launch_counts many = launches_of(&cases[i].kind, ROWS);
        const launch_counts one = launches_of(&cases[i].kind, 1);
        CHECK_EQ(many.all, cases[i].many);
        CHECK_EQ(one.all, cases[i].one);
        CHECK_EQ(many.early + one.early, 0); /* that card has no such thing */
    }
}

/* A card that can starts every launch of a layer while the one ahead of it ends, of one row and of
 * many, and the first launch of a step never; the bits are those of launches that wait. */
TEST(cuda_layers_overlap_on_cards_that_can) {
    static const layer_kind kinds[] = {
        {DTYPE_F16, DTYPE_F16, DTYPE_F16, 64, false, false},
        {DTYPE_Q8_0, DTYPE_Q8_0, DTYPE_F16, 64, false, false},
        {DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_Q8_0, 64, false, false}}; /* v alone */
    static const uint32_t of_one[] = {5, 5, 6}, of_many[] = {9, 9, 10};
    static float early[ROWS * DIM], waiting[ROWS * DIM];
    HOST_MACHINE("h100");
    if (cuda_blobs[0].fatbin == cuda_blobs[0].fatbin_end) SKIP("the kernels are PTX of cc 7.5");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        CHECK_EQ(launches_of(&kinds[i], 1).early, of_one[i]);
        CHECK_EQ(launches_of(&kinds[i], ROWS).early, of_many[i]);
        for (uint32_t rows = 1; rows <= ROWS; rows += ROWS - 1) {
            const launch_counts step = run_layers(&kinds[i], 2, false, rows, early);
            CHECK_EQ(step.early, step.all - 1);
            no_pdl = true;
            const launch_counts plain = run_layers(&kinds[i], 2, false, rows, waiting);
            no_pdl = false;
            CHECK_EQ(plain.early, 0);
            CHECK_EQ(plain.all, step.all);
            CHECK(memcmp(early, waiting, sizeof early) == 0);
        }
    }
}

/* --- what must stay apart -------------------- */

/* Ops that share a launch with another one, of a program that gives what ref gives. */
static uint32_t fused_of(lab *l, value_id v) {
    lab_machine cuda, ref;
    backend_report report = {0};
    lab_finish(l, v);
    const bool opened = lab_open(l, &backend_cuda, &cuda) && lab_open(l, &backend_ref, &ref);
    CHECK(opened);
    const float *got = lab_step(l, &cuda), *want = lab_step(l, &ref);
    const size_t count = (size_t)l->in.taken_rows * krig_cols(l->p);
    CHECK(got != NULL && krig_nmse(got, want, count) <= 1e-9);
    backend_cuda.report(cuda.b, &report);
    lab_close(&cuda);
    lab_close(&ref);
    lab_free(l);
    return report.ops_fused;
}

/* A turned q is read behind the attention, or by nobody: then the norm of k takes its memory. */
static uint32_t fused_with_turn(bool read, bool other_turn) {
    enum { HEAD = 32 };
    lab *l = lab_begin(0, 64);
    kv_layout layout = {
        .type = DTYPE_F32, .layers = 1, .kv_heads = KV_HEADS, .key_dim = HEAD, .value_dim = HEAD};
    lab_kv(l, layout, 3, 64);
    lab_run(l, 2, 0, 5);
    op_rope rope = krig_rope(&l->weights, HEADS, HEAD, HEAD, 10000.0);
    op_attention attn = {.heads = HEADS,
                         .kv_heads = KV_HEADS,
                         .key_dim = HEAD,
                         .value_dim = HEAD,
                         .scale = 0.2f,
                         .causal = true};
    value_id asked = lab_input(l, HEADS * HEAD), q = lab_input(l, HEADS * HEAD);
    value_id k = lab_input(l, KV_HEADS * HEAD), v = lab_input(l, KV_HEADS * HEAD);
    value_id turned = pg_rope(l->p, q, rope), n = normed(l, k, HEAD, false);
    rope.heads = KV_HEADS;
    if (other_turn) rope.magnitude = 1.5f;
    pg_kv_write(l->p, pg_rope(l->p, n, rope), v);
    value_id a = pg_attention(l->p, asked, attn);
    if (read) a = pg_add(l->p, a, turned);
    return fused_of(l, a);
}

TEST(cuda_turns_wait_only_where_nobody_sees_it) {
    LAB_MACHINE("t4");
    CHECK_EQ(fused_with_turn(true, false), 2);  /* the turn of q, and the write */
    CHECK_EQ(fused_with_turn(true, true), 1);   /* the write only: q turns by another table */
    CHECK_EQ(fused_with_turn(false, false), 1); /* k is normed to where the turned q would go */
}

/* Products of one value, of which nobody reads the first: the second takes its place. */
static uint32_t fused_products(bool read, dtype second) {
    lab *l = lab_begin(5, 16);
    value_id x = lab_input(l, DIM);
    value_id a = pg_matmul(l->p, x, matrix(l, DTYPE_F32, 64, DIM), NULL);
    value_id b = pg_matmul(l->p, x, matrix(l, second, 64, DIM), NULL);
    value_id y = pg_matmul(l->p, x, matrix(l, DTYPE_F32, 64, DIM), NULL);
    y = pg_mul(l->p, y, b);
    return fused_of(l, read ? pg_mul(l->p, y, a) : y);
}

TEST(cuda_products_are_together_only_where_they_lie_apart) {
    LAB_MACHINE("t4");
    CHECK_EQ(fused_products(true, DTYPE_F32), 2);
    CHECK_EQ(fused_products(true, DTYPE_F16), 0);  /* of two forms */
    CHECK_EQ(fused_products(false, DTYPE_F32), 1); /* the second and the third */
}
