/* test_train_layers.c - gradients of single operations against central differences.
 *
 * Each operation y = f(x, w) is made a number by y . r with random r.  Its gradient by an input,
 * times a random direction, must be the slope along that direction.  The products in f32 leave
 * noise of about 1e-7 of the value over the step, hence the tolerances. */
#include "train_rig.h"

enum { N = 9, IN = 24, OUT = 20, VOCAB = 37 };
#define STEP      4e-3f
#define TOLERANCE 2e-3

/* One operation under test: `run` computes y from the inputs; slopes are of y . r. */
typedef struct subject {
    crew c;
    float *x, *w, *y, *r;
    size_t y_count;
    void (*run)(struct subject *s);
} subject;

static double value(void *ctx) {
    subject *s = ctx;
    s->run(s);
    return rig_dot(s->y, s->r, s->y_count);
}

static bool slope_is(subject *s, const char *what, float *input, const float *gradient,
                     size_t count) {
    float *direction = rig_random(11, count);
    const double slope = rig_slope(value, s, input, direction, count, STEP);
    const double wanted = rig_dot(gradient, direction, count);
    mem_free(direction);
    return rig_agrees(what, wanted, slope, TOLERANCE);
}

static subject subject_of(void (*run)(subject *), size_t x, size_t w, size_t y) {
    return (subject){.c = rig_crew(NULL, 2),
                     .x = rig_random(1, x),
                     .w = rig_random(2, w),
                     .y = rig_zeros(y),
                     .r = rig_random(3, y),
                     .y_count = y,
                     .run = run};
}

static void subject_end(subject *s) {
    pool_destroy(s->c.pool);
    mem_free(s->x);
    mem_free(s->w);
    mem_free(s->y);
    mem_free(s->r);
}

/* --- linear ------------------------------------------------------------------------------ */

static void run_linear(subject *s) { linear_forward(&s->c, s->x, s->w, s->y, N, IN, OUT, false); }

TEST(train_gradient_of_linear) {
    subject s = subject_of(run_linear, N * IN, OUT * IN, N * OUT);
    float *dx = rig_zeros(N * IN), *dw = rig_zeros(OUT * IN);
    linear_backward_input(&s.c, s.r, s.w, dx, N, IN, OUT, false);
    linear_backward_weight(&s.c, s.r, s.x, dw, N, IN, OUT);
    CHECK(slope_is(&s, "linear dx", s.x, dx, N * IN));
    CHECK(slope_is(&s, "linear dw", s.w, dw, OUT * IN));
    mem_free(dx);
    mem_free(dw);
    subject_end(&s);
}

/* --- embedding --------------------------------------------------------------------------- */

static const int32_t IDS[N] = {3, 5, 3, 0, 36, 5, 5, 1, 2};

static void run_embed(subject *s) { embed_forward(&s->c, IDS, s->w, s->y, N, IN); }

TEST(train_gradient_of_embedding) {
    subject s = subject_of(run_embed, 1, VOCAB * IN, N * IN);
    float *dw = rig_zeros(VOCAB * IN);
    embed_backward(&s.c, IDS, s.r, dw, N, IN);
    CHECK(slope_is(&s, "embedding", s.w, dw, VOCAB * IN));
    mem_free(dw);
    subject_end(&s);
}

/* --- norm -------------------------------------------------------------------------------- */

static void run_norm(subject *s) {
    float inv[N];
    norm_forward(&s->c, s->x, s->w, s->y, inv, N, IN, 1e-5f);
}

TEST(train_gradient_of_norm) {
    subject s = subject_of(run_norm, N * IN, IN, N * IN);
    float *dx = rig_zeros(N * IN), *dgain = rig_zeros(IN), inv[N];
    norm_forward(&s.c, s.x, s.w, s.y, inv, N, IN, 1e-5f);
    const norm_gradient g = {s.r, s.x, s.w, inv, dx, dgain, N, IN};
    norm_backward(&s.c, &g);
    CHECK(slope_is(&s, "norm dx", s.x, dx, N * IN));
    CHECK(slope_is(&s, "norm dgain", s.w, dgain, IN));
    mem_free(dx);
    mem_free(dgain);
    subject_end(&s);
}

/* --- rope -------------------------------------------------------------------------------- */

static const uint32_t POSITIONS[N] = {0, 1, 2, 3, 0, 1, 2, 3, 40};
static rope_table table;

static void run_rope(subject *s) {
    memcpy(s->y, s->x, s->y_count * sizeof *s->y);
    rope_apply(&s->c, &table, POSITIONS, s->y, N, 3, false);
}

TEST(train_gradient_of_rope) {
    error err = {0};
    CHECK_EQ(rope_table_init(&table, RIG_CTX, 8, 10000.0f, &err), OK);
    subject s = subject_of(run_rope, N * 24, 1, N * 24);
    float *dx = rig_zeros(N * 24);
    memcpy(dx, s.r, N * 24 * sizeof *dx);
    rope_apply(&s.c, &table, POSITIONS, dx, N, 3, true);
    CHECK(slope_is(&s, "rope", s.x, dx, N * 24));
    mem_free(dx);
    subject_end(&s);
    rope_table_deinit(&table);
}

/* --- swiglu ------------------------------------------------------------------------------ */

static void run_swiglu(subject *s) { swiglu_forward(&s->c, s->x, s->w, s->y, N, OUT); }

TEST(train_gradient_of_swiglu) {
    subject s = subject_of(run_swiglu, N * OUT, N * OUT, N * OUT);
    float *dgate = rig_random(1, N * OUT), *dup = rig_random(2, N * OUT);
    swiglu_backward(&s.c, dgate, dup, s.r, N, OUT);
    CHECK(slope_is(&s, "swiglu gate", s.x, dgate, N * OUT));
    CHECK(slope_is(&s, "swiglu up", s.w, dup, N * OUT));
    mem_free(dgate);
    mem_free(dup);
    subject_end(&s);
}

/* --- attention: x is q, w is k and then v ------------------------------------------------ */

enum { TOKENS = 90, HEADS = 4, KV_HEADS = 2, DIM = 8, Q = HEADS * DIM, KV = KV_HEADS * DIM };
static const uint32_t BEGINS[] = {0, 1, 18, 90}; /* one document is longer than a block */

static attention attention_of(subject *s, float *softmax) {
    return (attention){.docs = 3,
                       .begins = BEGINS,
                       .heads = HEADS,
                       .kv_heads = KV_HEADS,
                       .head_dim = DIM,
                       .ctx = RIG_CTX,
                       .q = s->x,
                       .k = s->w,
                       .v = s->w + TOKENS * KV,
                       .out = s->y,
                       .max = softmax,
                       .sum = softmax + TOKENS * HEADS};
}

static void run_attention(subject *s) {
    float softmax[2 * TOKENS * HEADS];
    const attention a = attention_of(s, softmax);
    attention_forward(&s->c, &a);
}

TEST(train_gradient_of_attention) {
    float softmax[2 * TOKENS * HEADS];
    subject s = subject_of(run_attention, TOKENS * Q, 2 * TOKENS * KV, TOKENS * Q);
    float *dq = rig_random(8, TOKENS * Q), *dkv = rig_random(9, 2 * TOKENS * KV);
    attention a = attention_of(&s, softmax);
    attention_forward(&s.c, &a);
    a.dout = s.r;
    a.dq = dq;
    a.dk = dkv;
    a.dv = dkv + TOKENS * KV;
    attention_backward(&s.c, &a);
    CHECK(slope_is(&s, "attention dq", s.x, dq, TOKENS * Q));
    CHECK(slope_is(&s, "attention dk", s.w, dkv, TOKENS * KV));
    CHECK(slope_is(&s, "attention dv", s.w + TOKENS * KV, dkv + TOKENS * KV, TOKENS * KV));
    mem_free(dq);
    mem_free(dkv);
    subject_end(&s);
}

TEST(train_attention_stays_in_its_document_and_looks_back_only) {
    subject s = subject_of(run_attention, TOKENS * Q, 2 * TOKENS * KV, TOKENS * Q);
    float *before = rig_zeros(TOKENS * Q);
    s.run(&s);
    memcpy(before, s.y, TOKENS * Q * sizeof *before);
    for (size_t i = 30 * KV; i < 31 * KV; i++) s.w[i] += 1.0f; /* the key of token 30 */
    s.run(&s);
    CHECK(memcmp(before, s.y, 30 * Q * sizeof *before) == 0);
    CHECK(memcmp(before + 30 * Q, s.y + 30 * Q, 60 * Q * sizeof *before) != 0);
    for (size_t i = 3 * KV; i < 4 * KV; i++) s.w[i] += 1.0f; /* of token 3, another document */
    memcpy(before, s.y, TOKENS * Q * sizeof *before);
    s.run(&s);
    CHECK(memcmp(before + 18 * Q, s.y + 18 * Q, 72 * Q * sizeof *before) == 0);
    mem_free(before);
    subject_end(&s);
}

/* --- loss -------------------------------------------------------------------------------- */

TEST(train_gradient_of_loss) {
    static const float weights[N] = {1, 0.5f, 1, 0, 1, 2, 1, 1, 0.25f};
    crew c = rig_crew(NULL, 1);
    float *direction = rig_random(12, N * VOCAB), *at[3];
    double losses[N], sums[3] = {0};
    for (int i = 0; i < 3; i++) { /* at x, above, below */
        at[i] = rig_random(1, N * VOCAB);
        for (size_t k = 0; k < N * VOCAB; k++)
            at[i][k] += (i == 1 ? STEP : i == 2 ? -STEP : 0) * direction[k];
        loss_rows(&c, at[i], IDS, weights, losses, N, VOCAB, 3.0f);
        for (int t = 0; t < N; t++) sums[i] += (double)weights[t] * losses[t];
    }
    const double slope = 3.0 * (sums[1] - sums[2]) / (2.0 * (double)STEP);
    CHECK(rig_agrees("loss", rig_dot(at[0], direction, N * VOCAB), slope, TOLERANCE));
    for (int i = 0; i < 3; i++) mem_free(at[i]);
    mem_free(direction);
    pool_destroy(c.pool);
}
