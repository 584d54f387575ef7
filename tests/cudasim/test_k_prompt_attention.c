/* test_k_prompt_attention.c - attention of the rows of prompts on tensor cores.
 *
 * Truth is the reference in double.  Rows that were generated stand before those of prompts, and
 * nothing is written of them.  What a row gives has to be the same bits however its prompt is cut
 * into steps and whatever other rows there are; of one cut all are compared with the truth. */
#include <math.h>
#include <string.h>

#include "backend/kv_q4.h"
#include "backend/kv_q8.h"
#include "base/num.h"
#include "cudasim/attention_rig.h"
#include "cudasim/oracle.h"
#include "cudasim/quantized.h"
#include "cudasim/rig.h"
#include "tensor/convert.h"
#include "test.h"

/* backend.h; of f16 the rounding is 2^-12 at most, of queries, keys of Q8, and weights. */
static const double NMSE_MAX = 1e-6;

enum { RUNS_MAX = ATTENTION_SEATS, EXTRA_TILES = 2 };

/* Runs of a step, of which the first rows were generated. */
typedef struct prompt_step {
    batch_run runs[RUNS_MAX];
    uint32_t count, generated;
} prompt_step;

static const prompt_step steps[] = {
    {{{0, 1, 2, 137}, {1, 15, 0, 0}, {16, 16, 1, 14}}, 3, 0},
    {{{0, 17, 1, 60}, {17, 63, 0, 31}, {80, 65, 2, 0}}, 3, 0},
    {{{0, 200, 0, 0}}, 1, 0},
    {{{0, 1, 1, 300}, {1, 2, 2, 96}, {3, 40, 0, 250}}, 3, 1},
};
enum { STEPS = sizeof steps / sizeof steps[0] };
/* Not causal: all of each sequence. */
static const prompt_step whole_step = {{{0, 70, 1, 0}, {70, 1, 0, 0}, {71, 33, 2, 0}}, 3, 0};

static uint32_t rows_of(const prompt_step *s) {
    return s->runs[s->count - 1].row0 + s->runs[s->count - 1].rows;
}

/* --- launches -------------------- */

static void run_step(int arch, attention_rig *a, const prompt_step *s) {
    const ck_kv *kv = &a->args.kv;
    const uint32_t group = a->args.heads / kv->kv_heads;
    ck_counts counts = {.generated = s->generated, .rows = rows_of(s), .runs = s->count};
    while (counts.prompt_run < s->count &&
           s->runs[counts.prompt_run].row0 + s->runs[counts.prompt_run].rows <= s->generated)
        counts.prompt_run++;
    char kernel[CUDA_ATTENTION_NAME_BYTES];
    cuda_prompt_name(&a->args, kernel);
    a->args.counts = rig_at(rig_copy(&counts, sizeof counts));
    a->args.runs = rig_at(rig_copy(s->runs, s->count * sizeof s->runs[0]));
    const uint32_t queries = cuda_prompt_tile_queries(kv->key_dim, kv->value_dim);
    const uint32_t tiles = cuda_prompt_tiles(counts.rows - counts.generated,
                                             s->count - counts.prompt_run, group, queries);
    const bool is_wide = queries == CK_PROMPT_WIDE_QUERIES;
    rig_run(arch, kernel, &a->args, tiles + EXTRA_TILES, kv->kv_heads,
            is_wide ? CK_PROMPT_WIDE_THREADS : CK_PROMPT_THREADS,
            cuda_prompt_shared_bytes(kv->key_dim, kv->value_dim, kv->v_in_k));
}

static attention_rig make_rig(const attention_case *c, const prompt_step *s) {
    return attention_rig_make(c, s->runs, s->count, ATTENTION_STRIDE);
}

/* Elements before those of prompts. */
static size_t generated_floats(const attention_case *c, const prompt_step *s) {
    return (size_t)s->generated * c->heads * c->layout.value_dim;
}

static void check_untouched(const float *out, size_t count) {
    size_t wrong = 0;
    for (size_t i = 0; i < count; i++) wrong += !isnan(out[i]); /* as buffers are filled */
    CHECK_EQ(wrong, 0);
}

static void check_step(int arch, const attention_case *c, const prompt_step *s) {
    attention_rig a = make_rig(c, s);
    const float *want = attention_rig_want(c, &a);
    const size_t first = generated_floats(c, s);
    run_step(arch, &a, s);
    check_untouched(a.out, first);
    if (!rig_close(a.out + first, want + first, attention_rig_floats(c, &a) - first, NMSE_MAX))
        (void)fprintf(stderr, "heads %u over %u of %u and %u, step %zu\n", c->heads,
                      c->layout.kv_heads, c->layout.key_dim, c->layout.value_dim,
                      (size_t)(s - steps));
}

/* --- shapes -------------------- */

/* The long steps in one order of threads only. */
static bool is_wanted(size_t step) { return step == 0 || rig_order() == SIM_SHUFFLED; }

static void check_cases(const attention_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) RIG_EACH(arch) {
            for (size_t s = 0; s < STEPS; s++)
                if (rig_is_card() || (is_wanted(s) && (s == 0 || s % 3 == i % 3)))
                    check_step(arch, &cases[i], &steps[s]);
        }
    rig_done();
}
#define CHECK_CASES(cases) check_cases((cases), sizeof(cases) / sizeof(cases)[0])

TEST(k_prompt_attention_f16_of_heads_of_any_shape) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 2, 64, 64, false), .heads = 8},
        {.layout = KV_LAYOUT(F16, 1, 80, 80, false), .heads = 7},
        {.layout = KV_LAYOUT(F16, 1, 96, 96, false), .heads = 8},
        {.layout = KV_LAYOUT(F16, 2, 128, 128, false), .heads = 8},
        {.layout = KV_LAYOUT(F16, 1, 128, 128, false), .heads = 7},
        {.layout = KV_LAYOUT(F16, 1, 256, 256, false), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 192, 128, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 1, 16, 48, false), .heads = 3},
        {.layout = KV_LAYOUT(F16, 1, 48, 16, false), .heads = 71},
        {.layout = KV_LAYOUT(F16, 3, 32, 112, false), .heads = 6},
        {.layout = KV_LAYOUT(F16, 1, 144, 240, false), .heads = 2},
    };
    CHECK_CASES(cases);
}

TEST(k_prompt_attention_q8_of_heads_of_any_shape) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(Q8_0, 1, 64, 64, false), .heads = 4},
        {.layout = KV_LAYOUT(Q8_0, 2, 128, 128, false), .heads = 8},
        {.layout = KV_LAYOUT(Q8_0, 1, 96, 96, false), .heads = 7},
        {.layout = KV_LAYOUT(Q8_0, 1, 256, 256, false), .heads = 2},
        {.layout = KV_LAYOUT(Q8_0, 1, 32, 128, false), .heads = 1},
        {.layout = KV_LAYOUT(Q8_0, 1, 192, 160, false), .heads = 3},
    };
    CHECK_CASES(cases);
}

TEST(k_prompt_attention_q4_of_heads_of_any_shape) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(Q4_0, 1, 64, 64, false), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 2, 128, 128, false), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 1, 96, 96, false), .heads = 5},
        {.layout = KV_LAYOUT(Q4_0, 1, 256, 256, false), .heads = 2},
        {.layout = KV_LAYOUT(Q4_0, 1, 32, 128, false), .heads = 1},
        {.layout = KV_LAYOUT(Q4_0, 1, 192, 160, false), .heads = 3},
    };
    CHECK_CASES(cases);
}

/* Several warps to the same queries. */
TEST(k_prompt_attention_of_wide_heads) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 512, 512, false), .heads = 2},
        {.layout = KV_LAYOUT(Q8_0, 1, 288, 320, false), .heads = 3},
        {.layout = KV_LAYOUT(F16, 2, 272, 16, false), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 1, 32, 288, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 1, 16, 272, false), .heads = 1, .softcap = 3},
        {.layout = KV_LAYOUT(Q4_0, 1, 544, 96, false), .heads = 2, .window = 40, .sinks = true},
    };
    CHECK_CASES(cases);
}

/* Those of DeepSeek V2 and V3, with fewer heads. */
TEST(k_prompt_attention_of_latents) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 576, 512, true), .heads = 5},
        {.layout = KV_LAYOUT(Q8_0, 1, 576, 512, true), .heads = 2},
        {.layout = KV_LAYOUT(Q4_0, 1, 576, 512, true), .heads = 1},
        {.layout = KV_LAYOUT(F16, 1, 320, 256, true), .heads = 1, .window = 50, .slopes = true},
    };
    CHECK_CASES(cases);
}

/* The first key of many models draws all queries and has a value of nothing: what there is of a
 * result comes from weights of e^-16. */
TEST(k_prompt_attention_beside_a_key_that_takes_all) {
    static const attention_case c = {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 2};
    const prompt_step *s = &steps[2];
    RIG_EACH(arch) {
        attention_rig a = make_rig(&c, s);
        uint16_t *key = attention_rig_f16_row(&a, KV_K, s->runs[0].seat, 0);
        uint16_t *none = attention_rig_f16_row(&a, KV_V, s->runs[0].seat, 0);
        for (size_t i = 0; i < (size_t)a.rows * c.heads; i++)
            for (size_t e = 0; e < 64; e++) a.q[i * 64 + e] = e % 3 == 0 ? -1 : 1;
        for (size_t e = 0; e < 64; e++) {
            key[e] = convert_f32_to_f16((e % 3 == 0 ? -1 : 1) * 16 / (64 * a.args.scale));
            none[e] = 0;
        }
        const float *want = attention_rig_want(&c, &a);
        run_step(arch, &a, s);
        CHECK(fabsf(want[64 * 2 * 199]) < 1e-3f);
        rig_close(a.out + 128, want + 128, attention_rig_floats(&c, &a) - 128, NMSE_MAX);
    }
    rig_done();
}

TEST(k_prompt_attention_of_values_within_keys) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 80, 64, true), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 48, 32, true), .heads = 5},
        {.layout = KV_LAYOUT(F16, 1, 256, 192, true), .heads = 2},
        {.layout = KV_LAYOUT(Q8_0, 1, 96, 64, true), .heads = 3},
        {.layout = KV_LAYOUT(Q4_0, 1, 96, 64, true), .heads = 3},
    };
    CHECK_CASES(cases);
}

static const attention_case special_cases[] = {
    {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 1},
    {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 20, .sinks = true},
    {.layout = KV_LAYOUT(F16, 2, 32, 32, false), .heads = 4, .window = 138, .slopes = true},
    {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .softcap = 2.5f},
    {.layout = KV_LAYOUT(Q8_0, 1, 32, 32, false), .heads = 2, .window = 33, .sinks = true},
    {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 3, .sinks = true, .slopes = true},
    {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .softcap = 30, .slopes = true},
    {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .window = 4000000000u},
    {.layout = KV_LAYOUT(Q8_0, 1, 32, 64, false), .heads = 8, .softcap = 50, .window = 64},
    {.layout = KV_LAYOUT(Q4_0, 1, 64, 32, false), .heads = 3, .sinks = true, .slopes = true},
    {.layout = KV_LAYOUT(Q4_0, 1, 32, 32, false), .heads = 2, .softcap = 5, .window = 20},
};

TEST(k_prompt_attention_with_windows_caps_sinks_and_slopes) {
    CHECK_CASES(special_cases);
    static const attention_case whole[] = {
        {.layout = KV_LAYOUT(F16, 1, 32, 32, false), .heads = 2, .whole = true, .slopes = true},
        {.layout = KV_LAYOUT(F16, 1, 48, 32, false), .heads = 1, .whole = true, .window = 5},
        {.layout = KV_LAYOUT(Q8_0, 1, 32, 32, false), .heads = 4, .whole = true},
        {.layout = KV_LAYOUT(Q4_0, 1, 32, 32, false), .heads = 4, .whole = true},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < 4; i++) check_step(arch, &whole[i], &whole_step);
    }
    rig_done();
}

/* As f32 and as codes; then as codes only. */
TEST(k_prompt_attention_writes_the_codes_of_what_it_makes) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 3},
        {.layout = KV_LAYOUT(Q8_0, 1, 96, 96, false), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 32, 160, false), .heads = 2, .window = 20},
        {.layout = KV_LAYOUT(Q4_0, 1, 32, 96, false), .heads = 2},
        {.layout = KV_LAYOUT(Q8_0, 1, 352, 288, true), .heads = 1},
    };
    RIG_EACH(arch) {
        for (size_t i = 0; i < 5; i++) {
            attention_rig a = make_rig(&cases[i], &steps[0]);
            const uint32_t cols = cases[i].heads * cases[i].layout.value_dim;
            const quantized both = quantized_buffers(a.rows, cols);
            const quantized alone = quantized_buffers(a.rows, cols);
            a.args.codes = rig_at(both.codes);
            a.args.sums = rig_at(both.sums);
            run_step(arch, &a, &steps[0]);
            quantized_same(arch, both, a.out, a.rows, cols);
            a.args.out = 0;
            a.args.codes = rig_at(alone.codes);
            a.args.sums = rig_at(alone.sums);
            run_step(arch, &a, &steps[0]);
            quantized_same(arch, alone, a.out, a.rows, cols);
        }
    }
    rig_done();
}

/* --- the bits -------------------- */

/* Rows first .. end - 1 of a rig with one run, as a step of their own, into a fresh result. */
static const float *run_rows(int arch, const attention_case *c, const attention_rig *of,
                             const prompt_step *s, uint32_t first, uint32_t end,
                             uint32_t generated) {
    const size_t cols = (size_t)c->heads * c->layout.value_dim;
    attention_rig a = *of;
    const prompt_step part = {
        {{0, end - first, s->runs[0].seat, s->runs[0].pos0 + first}}, 1, generated};
    a.rows = end - first;
    a.out = rig_buffer((end - first) * cols * sizeof(float));
    a.args.q += (uint64_t)first * c->heads * c->layout.key_dim * sizeof(float);
    a.args.pos += (uint64_t)first * 4;
    a.args.seats += (uint64_t)first * 4;
    a.args.seen += (uint64_t)first * 4;
    a.args.out = rig_at(a.out);
    run_step(arch, &a, &part);
    return a.out;
}

/* Whole, in chunks of every kind, and row by row; with rows before that were generated. */
static void check_chunks(int arch, const attention_case *c) {
    static const prompt_step s = {{{0, 100, 1, 37}}, 1, 0};
    static const uint32_t cuts[][3] = {{0, 1, 0},   {0, 64, 0},  {64, 100, 0}, {13, 14, 0},
                                       {31, 33, 0}, {7, 71, 20}, {90, 100, 9}, {26, 27, 0}};
    const size_t cols = (size_t)c->heads * c->layout.value_dim;
    attention_rig a = make_rig(c, &s);
    run_step(arch, &a, &s);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        const uint32_t first = cuts[i][0], end = cuts[i][1], generated = cuts[i][2];
        const float *some = run_rows(arch, c, &a, &s, first, end, generated);
        rig_same(some + generated * cols, a.out + (first + generated) * cols,
                 (end - first - generated) * cols * sizeof(float));
    }
}

TEST(k_prompt_attention_gives_the_same_bits_for_every_chunking) {
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 3},
        {.layout = KV_LAYOUT(F16, 1, 80, 128, false), .heads = 2, .window = 40},
        {.layout = KV_LAYOUT(Q8_0, 1, 32, 32, false), .heads = 7, .sinks = true, .softcap = 5},
        {.layout = KV_LAYOUT(F16, 1, 256, 16, false), .heads = 1, .slopes = true},
        {.layout = KV_LAYOUT(F16, 1, 32, 16, true), .heads = 2, .window = 7},
        {.layout = KV_LAYOUT(Q4_0, 1, 64, 32, false), .heads = 5, .window = 50},
        {.layout = KV_LAYOUT(F16, 1, 304, 272, true), .heads = 3},
        {.layout = KV_LAYOUT(Q4_0, 1, 288, 32, false), .heads = 1, .sinks = true},
    };
    RIG_EACH(arch) {
        if (rig_order() == SIM_DESCENDING) continue;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += rig_is_watched() ? 3 : 1)
            check_chunks(arch, &cases[i]);
    }
    rig_done();
}

/* The runs of a step, each as a step of its own. */
TEST(k_prompt_attention_gives_a_run_the_same_bits_in_every_batch) {
    static const attention_case c = {.layout = KV_LAYOUT(F16, 2, 48, 64, false), .heads = 6};
    RIG_EACH(arch) {
        const prompt_step *s = &steps[1];
        const size_t cols = (size_t)c.heads * c.layout.value_dim;
        if (rig_order() == SIM_DESCENDING) continue;
        attention_rig a = make_rig(&c, s);
        run_step(arch, &a, s);
        for (uint32_t i = 0; i < s->count; i++) {
            const batch_run *r = &s->runs[i];
            const prompt_step alone = {{{0, r->rows, r->seat, r->pos0 - r->row0}}, 1, 0};
            const float *some = run_rows(arch, &c, &a, &alone, r->row0, r->row0 + r->rows, 0);
            rig_same(some, a.out + r->row0 * cols, r->rows * cols * sizeof(float));
        }
    }
    rig_done();
}

/* --- what is no number -------------------- */

/* A value, a key that are not finite: of rows that see them, and of the tile's others. */
TEST(k_prompt_attention_keeps_infinities_where_they_are) {
    enum { PLUS = 0x7c00, TOKEN = 45, ROWS = 60, HEADS = 2, DIM = 48 };
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 80, DIM, false), .heads = HEADS},
        {.layout = KV_LAYOUT(F16, 1, 80, DIM, true), .heads = HEADS},
        {.layout = KV_LAYOUT(F16, 1, 192, DIM, false), .heads = HEADS, .window = 9},
        {.layout = KV_LAYOUT(F16, 1, 272, DIM, true), .heads = HEADS, .window = 20},
    };
    static const prompt_step s = {{{0, ROWS, 2, 0}}, 1, 0};
    RIG_EACH(arch) {
        for (size_t i = 0; i < 4; i++) {
            const attention_case *c = &cases[i];
            attention_rig a = make_rig(c, &s);
            run_step(arch, &a, &s);
            float *before = rig_copy(a.out, attention_rig_floats(c, &a) * sizeof(float));
            attention_rig_f16_row(&a, KV_V, 2, TOKEN)[DIM - 1] = PLUS;
            run_step(arch, &a, &s);
            uint32_t wrong = 0;
            for (uint32_t r = 0; r < ROWS; r++)
                for (uint32_t e = 0; e < HEADS * DIM; e++) {
                    const bool sees = r >= TOKEN && (c->window == 0 || r < TOKEN + c->window);
                    const size_t at = (size_t)r * HEADS * DIM + e;
                    /* With values in keys it is a score as well. */
                    if (c->layout.v_in_k && sees) continue;
                    const bool infinite = sees && e % DIM == DIM - 1;
                    wrong += infinite ? !(isinf(a.out[at]) && a.out[at] > 0)
                                      : memcmp(&a.out[at], &before[at], sizeof(float)) != 0;
                }
            CHECK_EQ(wrong, 0);
        }
    }
    rig_done();
}

/* A key whose score is minus infinity has weight 0; queries beyond F16 are its largest number. */
TEST(k_prompt_attention_of_scores_without_end) {
    enum { MINUS = 0xfc00, DIM = 32, ROWS = 40 };
    static const attention_case c = {.layout = KV_LAYOUT(F16, 1, DIM, DIM, false), .heads = 1};
    static const prompt_step s = {{{0, ROWS, 0, 0}}, 1, 0};
    RIG_EACH(arch) {
        attention_rig a = make_rig(&c, &s);
        for (uint32_t r = 0; r < ROWS; r++) a.q[r * DIM + 5] = 0.5f;
        attention_rig_f16_row(&a, KV_K, 0, 17)[5] = MINUS;
        const float *want = attention_rig_want(&c, &a);
        run_step(arch, &a, &s);
        rig_close(a.out, want, ROWS * DIM, NMSE_MAX);
        for (uint32_t e = 0; e < DIM; e++) a.q[e] = e % 2 == 0 ? 1e9f : -1e9f;
        for (uint32_t e = 0; e < DIM; e++) a.q[DIM + e] = NAN;
        run_step(arch, &a, &s);
        CHECK(isfinite(a.out[0]));
        CHECK(isnan(a.out[DIM]) && isnan(a.out[2 * DIM - 1]) && isfinite(a.out[2 * DIM]));
    }
    rig_done();
}

/* Token t of a seat, of head 0: the scales of its value. */
static uint16_t *scales_of(const attention_case *c, const attention_rig *a, uint32_t seat,
                           uint32_t t) {
    const kv_view view = attention_cache_view(&a->cache);
    void *head = kv_at(&view, seat, t / KV_BLOCK_TOKENS, ATTENTION_LAYER, KV_V, 0);
    if (c->layout.type == DTYPE_Q4_0)
        return kv_q4_row_at(&a->cache.layout, head, KV_V, t % KV_BLOCK_TOKENS).scales;
    return kv_q8_row_at(&a->cache.layout, head, KV_V, t % KV_BLOCK_TOKENS).scales;
}

/* A group that is no number: of rows that see it its columns, and nothing else. */
TEST(k_prompt_attention_keeps_codes_that_are_no_number_where_they_are) {
    enum { TOKEN = 45, ROWS = 60, DIM = 96, GROUP = 1 };
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(Q8_0, 1, 64, DIM, false), .heads = 1},
        {.layout = KV_LAYOUT(Q4_0, 1, 64, DIM, false), .heads = 1},
        {.layout = KV_LAYOUT(Q4_0, 1, 288, DIM, false), .heads = 1},
    };
    static const prompt_step s = {{{0, ROWS, 2, 0}}, 1, 0};
    RIG_EACH(arch) {
        for (size_t i = 0; i < 3; i++) {
            attention_rig a = make_rig(&cases[i], &s);
            run_step(arch, &a, &s);
            const float *before = rig_copy(a.out, sizeof(float) * ROWS * DIM);
            scales_of(&cases[i], &a, 2, TOKEN)[GROUP] = 0x7e00;
            run_step(arch, &a, &s);
            uint32_t wrong = 0;
            for (uint32_t at = 0; at < ROWS * DIM; at++) {
                const bool hit = at / DIM >= TOKEN && at % DIM / KV_GROUP == GROUP;
                wrong += hit ? !isnan(a.out[at]) : memcmp(&a.out[at], &before[at], 4) != 0;
            }
            CHECK_EQ(wrong, 0);
        }
    }
    rig_done();
}

/* What codes stand for may be more than F16 reaches: it is the largest number then. */
TEST(k_prompt_attention_of_codes_that_f16_does_not_reach) {
    enum { ROWS = 20, DIM = 64 };
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(Q8_0, 1, 32, DIM, false), .heads = 1},
        {.layout = KV_LAYOUT(Q4_0, 1, 32, DIM, false), .heads = 1},
    };
    static const uint16_t just[] = {0x6008 /* 516 */, 0xf000 /* -8192 */};
    static const prompt_step s = {{{0, ROWS, 0, 0}}, 1, 0};
    RIG_EACH(arch) {
        for (size_t i = 0; i < 2; i++) {
            attention_rig a = make_rig(&cases[i], &s);
            for (uint32_t t = 0; t < ROWS; t++) scales_of(&cases[i], &a, 0, t)[1] = just[i];
            const float *want = attention_rig_want(&cases[i], &a);
            run_step(arch, &a, &s);
            rig_close(a.out, want, ROWS * DIM, NMSE_MAX);
            for (uint32_t t = 0; t < ROWS; t++) scales_of(&cases[i], &a, 0, t)[1] = 0x7800;
            run_step(arch, &a, &s);
            uint32_t wrong = 0;
            for (uint32_t e = 0; e < DIM; e++) wrong += !(fabsf(a.out[e]) <= 65504.0f * 8);
            CHECK_EQ(wrong, 0);
        }
    }
    rig_done();
}

/* --- traffic -------------------- */

/* A tile's beside the cache and queries: runs, positions, tables. */
enum { OTHER_BYTES = 2048 };

/* Of a prompt from position 0 on, in tiles of so many queries: the tokens that each sees. */
static uint64_t tokens_read(uint32_t rows, uint32_t group, uint32_t tile) {
    uint64_t tokens = 0;
    const uint32_t queries = rows * group;
    for (uint32_t i = 0; i < queries; i += tile)
        tokens += (num_min_u32(i + tile, queries) - 1) / group + 1;
    return tokens;
}

TEST(k_prompt_attention_reads_the_cache_once_for_a_tile_without_bank_conflicts) {
    RIG_SKIP_UNLESS_COUNTED();
    static const attention_case cases[] = {
        {.layout = KV_LAYOUT(F16, 1, 64, 64, false), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 128, 128, false), .heads = 1},
        {.layout = KV_LAYOUT(F16, 1, 80, 96, false), .heads = 8},
        {.layout = KV_LAYOUT(F16, 1, 256, 256, false), .heads = 4},
        {.layout = KV_LAYOUT(Q8_0, 1, 128, 128, false), .heads = 4},
        {.layout = KV_LAYOUT(Q8_0, 1, 96, 64, false), .heads = 4},
        {.layout = KV_LAYOUT(Q8_0, 1, 256, 256, false), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 1, 128, 128, false), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 1, 96, 64, false), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 1, 256, 256, false), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 576, 512, true), .heads = 4},
        {.layout = KV_LAYOUT(Q8_0, 1, 576, 512, true), .heads = 4},
        {.layout = KV_LAYOUT(Q4_0, 1, 576, 512, true), .heads = 4},
        {.layout = KV_LAYOUT(F16, 1, 512, 512, false), .heads = 4},
    };
    enum { ROWS = 160 };
    static const prompt_step s = {{{0, ROWS, 0, 0}}, 1, 0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const attention_case *c = &cases[i];
        const kv_layout *l = &c->layout;
        attention_rig a = make_rig(c, &s);
        run_step(900, &a, &s);
        const sim_counters *n = rig_counters();
        const uint32_t tile = cuda_prompt_tile_queries(l->key_dim, l->value_dim);
        const uint64_t tokens = tokens_read(ROWS, c->heads, tile);
        const uint64_t tiles = num_div_up_u32(ROWS * c->heads, tile);
        const uint64_t cached =
            tokens * (kv_row_bytes(l, KV_K) + (l->v_in_k ? 0 : kv_row_bytes(l, KV_V)));
        const uint64_t queries = (uint64_t)ROWS * c->heads * l->key_dim * sizeof(float);
        CHECK_EQ(n->shared_conflicts, 0);
        CHECK(n->load_sectors * 32 >= cached + queries);
        /* A load is of 128 codes of a row and their scales, and may share sectors with the next. */
        const uint32_t loads = l->v_in_k ? num_div_up_u32(l->key_dim, 128) : 1;
        const uint64_t scales = kv_type_has_codes(l->type) ? tokens * 32 * loads : 0;
        CHECK(n->load_sectors * 32 <= cached + queries + scales + tiles * OTHER_BYTES);
        CHECK_EQ(n->store_bytes, (uint64_t)ROWS * c->heads * l->value_dim * sizeof(float));
        CHECK_EQ(n->store_sectors * 32, n->store_bytes);
        /* Of each piece the scores of 16 queries and 8 tokens, values of 8 columns, and weights. */
        const uint64_t pieces = tiles + tokens / CK_PROMPT_PIECE;
        const uint64_t fragments = tile / 16; /* of queries; each warp sums weights by itself */
        const uint64_t sums = tile == CK_PROMPT_QUERIES ? 2 : 2 * 4;
        CHECK(n->mma <= pieces * fragments * (l->key_dim / 16 * 4 + l->value_dim / 16 * 4 + sums));
        CHECK(n->mma > 0);
    }
    rig_done();
}
