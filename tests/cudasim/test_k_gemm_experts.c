/* test_k_gemm_experts.c - products of experts with pairs that were sorted by expert, on tensor
 * cores, with weights of every form that has them: of rows of prompts, and of others.
 *
 * Experts get every kind of company: none, one pair, tiles that are full and such that are nearly
 * empty, from all over the step.  Truth is a sum in double over the elements of the stored rows and
 * of the activations as they are multiplied; and the bits have to be those of the row alone, of
 * k_gemm_* for prompts, else of k_gemv_*_n1 or _m8.  Rows before the first are NaN, their results
 * are not written.  How much is read of the weights is counted, and how much is multiplied: each
 * expert once for a tile of its pairs, and products for as many rows as there are, of prompts in
 * steps of 16. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/cuda_experts.h"
#include "cudasim/product_rig.h"
#include "cudasim/rig.h"
#include "test.h"

enum { EXPERTS = 8, USED = 2, BEFORE = 3, TOGETHER = 16 };

typedef enum experts_kind { PROMPTS, OTHERS, EXPERTS_KINDS } experts_kind;

/* Pairs of each expert. */
static const uint32_t crowds[EXPERTS_KINDS][EXPERTS] = {
    [PROMPTS] = {0, 1, 17, 65, 33, 8, 0, 130}, [OTHERS] = {0, 1, 17, 9, 3, 8, 0, 2}};

/* Which kernels. */
typedef struct experts_kernels {
    const char *kind, *tail;             /* of pairs: k_KIND_FORMTAIL */
    const char *alone_kind, *alone_tail; /* of all rows of x with one expert */
    uint32_t tile, w_rows, threads;      /* pairs of a tile, rows of w and threads of a block */
    bool x_first;                        /* the grid of the latter has the rows of x first */
    uint32_t alone_x, alone_w, alone_threads;
} experts_kernels;

typedef struct experts_case {
    uint32_t w_rows, cols;
    bool shared, bias;
} experts_case;

typedef struct experts_work {
    product_weight w[EXPERTS];
    ck_matrix *table;
    product_x x;
    float *routed, *bias, *out;
    uint32_t rows, pairs, x_rows; /* rows of prompts, BEFORE not among them; all rows of x */
    uint32_t *expert_of;          /* [pairs] of the rows of prompts, on the heap */
} experts_work;

static uint32_t blocks(uint32_t n, uint32_t each) { return (n + each - 1) / each; }

static experts_kernels kernels_of(experts_kind kind, ck_form form) {
    const uint32_t rows = form == CK_FORM_Q8_0 ? CK_SKINNY_ROWS_Q8_0 : CK_SKINNY_ROWS;
    if (kind == PROMPTS)
        return (experts_kernels){"gemm_experts", "",           "gemm",          "",
                                 CK_GEMM_TILE,   CK_GEMM_TILE, CK_GEMM_THREADS, true,
                                 CK_GEMM_TILE,   CK_GEMM_TILE, CK_GEMM_THREADS};
    if (product_is_float(form))
        return (experts_kernels){
            "experts",         "_m8", "gemv",      "_m8",          CK_HALVES_X,      CK_HALVES_ROWS,
            CK_SKINNY_THREADS, false, CK_HALVES_X, CK_HALVES_ROWS, CK_SKINNY_THREADS};
    return (experts_kernels){"experts",
                             "_n16",
                             "gemv",
                             "_n1",
                             CK_SKINNY_X,
                             rows,
                             CK_SKINNY_THREADS,
                             false,
                             1,
                             CK_GEMV_BLOCK_ROWS,
                             CK_GEMV_THREADS};
}

static uint32_t sum_of(const uint32_t counts[EXPERTS]) {
    uint32_t sum = 0;
    for (uint32_t e = 0; e < EXPERTS; e++) sum += counts[e];
    return sum;
}

/* Experts by their number of pairs, scattered: 101 is a prime. */
static void choose_experts(experts_work *k, const uint32_t counts[EXPERTS]) {
    uint32_t at = 0;
    k->expert_of = malloc(k->pairs * sizeof *k->expert_of);
    for (uint32_t e = 0; e < EXPERTS; e++)
        for (uint32_t i = 0; i < counts[e]; i++, at++) k->expert_of[at * 101 % k->pairs] = e;
    k->routed = rig_buffer((size_t)(BEFORE + k->rows) * 2 * USED * sizeof *k->routed);
    for (uint32_t p = 0; p < k->pairs; p++)
        k->routed[(size_t)(BEFORE + p / USED) * 2 * USED + p % USED] = (float)k->expert_of[p];
}

static experts_work make_work(const product_form *f, const experts_case *c,
                              const uint32_t counts[EXPERTS]) {
    experts_work k = {.pairs = sum_of(counts), .table = rig_buffer(EXPERTS * sizeof(ck_matrix))};
    k.rows = k.pairs / USED;
    CHECK(k.pairs % USED == 0 && k.pairs % 101 != 0);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        k.w[e] = product_weight_make(f->type, c->w_rows, c->cols);
        k.table[e] = k.w[e].on_device;
    }
    const uint32_t before = BEFORE * (c->shared ? 1 : USED);
    k.x_rows = before + (c->shared ? k.rows : k.pairs);
    k.x = product_x_make(f->form, k.x_rows, c->cols);
    for (uint32_t r = 0; r < before; r++) product_x_spoil(f->form, &k.x, r, c->cols);
    k.bias = rig_buffer((size_t)EXPERTS * c->w_rows * sizeof *k.bias);
    rig_fill(k.bias, (size_t)EXPERTS * c->w_rows, 1.0f);
    k.out = rig_buffer((size_t)(BEFORE + k.rows) * USED * c->w_rows * sizeof *k.out);
    choose_experts(&k, counts);
    return k;
}

/* Both kernels, as a step launches them. */
static void run_experts(int arch, experts_kind kind, const product_form *f, const experts_case *c,
                        const experts_work *k) {
    const experts_kernels n = kernels_of(kind, f->form);
    const uint32_t most = cuda_tiles_max(k->pairs, EXPERTS, n.tile);
    k_group_args g = {.routed = rig_at(k->routed),
                      .pairs = rig_at(rig_buffer(k->pairs * sizeof(uint32_t))),
                      .tiles = rig_at(rig_buffer(most * sizeof(ck_tile))),
                      .tiles_count = rig_at(rig_buffer(sizeof(uint32_t))),
                      .first = rig_count(BEFORE),
                      .end = rig_count(BEFORE + k->rows),
                      .experts = EXPERTS,
                      .used = USED,
                      .tile = n.tile};
    k_experts_args a = {.experts = rig_at(k->table),
                        .routed = g.routed,
                        .x = product_x_at(&k->x),
                        .sums = rig_at(k->x.sums),
                        .bias = c->bias ? rig_at(k->bias) : 0,
                        .out = rig_at(k->out),
                        .pairs = kind == PROMPTS ? g.pairs : 0,
                        .tiles = kind == PROMPTS ? g.tiles : 0,
                        .tiles_count = kind == PROMPTS ? g.tiles_count : 0,
                        .few_pairs = kind == PROMPTS ? 0 : g.pairs,
                        .few_tiles = kind == PROMPTS ? 0 : g.tiles,
                        .few_tiles_count = kind == PROMPTS ? 0 : g.tiles_count,
                        .w_rows = c->w_rows,
                        .cols = c->cols,
                        .used = USED,
                        .shared_in = c->shared};
    rig_run(arch, "k_group", &g, EXPERTS, 1, 256, 0);
    rig_run(arch, product_kernel(n.kind, f->name, n.tail), &a, most, blocks(c->w_rows, n.w_rows),
            n.threads, 0);
}

/* Of pair p of the rows of prompts: its row of x, its row of out. */
static uint32_t x_row_of(const experts_case *c, uint32_t p) {
    return c->shared ? BEFORE + p / USED : BEFORE * USED + p;
}
static const float *out_of(const experts_work *k, const experts_case *c, uint32_t p) {
    return k->out + (size_t)(BEFORE * USED + p) * c->w_rows;
}

/* --- the numbers -------------------- */

static uint32_t wrong_in_pair(experts_kind kind, const product_form *f, const experts_case *c,
                              const experts_work *k, uint32_t p, const float *w) {
    const uint32_t e = k->expert_of[p];
    const float *x = k->x.values + (size_t)x_row_of(c, p) * c->cols;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < c->w_rows; i++) {
        const double extra = c->bias ? (double)k->bias[(size_t)e * c->w_rows + i] : 0;
        double sum = extra, all = fabs(extra);
        for (uint32_t n = 0; n < c->cols; n++) {
            const float of_x = kind == PROMPTS ? product_x_rounded(f->form, x[n]) : x[n];
            const double v = (double)w[(size_t)i * c->cols + n] * (double)of_x;
            sum += v;
            all += fabs(v);
        }
        wrong += !(fabs((double)out_of(k, c, p)[i] - sum) <= PRODUCT_ERROR_MAX * all);
    }
    return wrong;
}

static void check_numbers(experts_kind kind, const product_form *f, const experts_case *c,
                          const experts_work *k) {
    float *w = malloc((size_t)c->w_rows * c->cols * sizeof *w);
    uint32_t wrong = 0, written = 0;
    for (uint32_t e = 0; e < EXPERTS; e++) {
        for (uint32_t r = 0; r < c->w_rows; r++)
            product_weight_row(&k->w[e], r, w + (size_t)r * c->cols);
        for (uint32_t p = 0; p < k->pairs; p++)
            if (k->expert_of[p] == e) wrong += wrong_in_pair(kind, f, c, k, p, w);
    }
    for (size_t i = 0; i < (size_t)BEFORE * USED * c->w_rows; i++) written += !isnan(k->out[i]);
    if (wrong != 0)
        (void)fprintf(stderr, "%s: experts of [%u, %u]: %u elements\n", f->name, c->w_rows, c->cols,
                      wrong);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(written, 0);
    free(w);
}

/* --- the bits -------------------- */

/* What k_gemm_* or k_gemv_* makes of all rows of x with one expert. */
static float *run_alone(int arch, experts_kind kind, const product_form *f, const experts_case *c,
                        const experts_work *k, uint32_t e) {
    const experts_kernels n = kernels_of(kind, f->form);
    const uint32_t along_x = blocks(k->x_rows, n.alone_x), along_w = blocks(c->w_rows, n.alone_w);
    float *out = rig_buffer((size_t)k->x_rows * c->w_rows * sizeof *out);
    const uint32_t range[] = {0, k->x_rows};
    k_gemv_args a = {.w = k->table[e],
                     .x = product_x_at(&k->x),
                     .sums = rig_at(k->x.sums),
                     .bias = c->bias ? rig_at(k->bias + (size_t)e * c->w_rows) : 0,
                     .out = rig_at(out),
                     .count = kind == PROMPTS ? rig_at(rig_copy(range, sizeof range))
                                              : rig_count(k->x_rows),
                     .out_stride = c->w_rows};
    rig_run(arch, product_kernel(n.alone_kind, f->name, n.alone_tail), &a,
            n.x_first ? along_x : along_w, n.x_first ? along_w : along_x, n.alone_threads, 0);
    return out;
}

static void check_bits(int arch, experts_kind kind, const product_form *f, const experts_case *c,
                       const experts_work *k) {
    for (uint32_t e = 0; e < EXPERTS; e++) {
        if (crowds[kind][e] == 0) continue;
        const float *want = run_alone(arch, kind, f, c, k, e);
        for (uint32_t p = 0; p < k->pairs; p++)
            if (k->expert_of[p] == e)
                rig_same(out_of(k, c, p), want + (size_t)x_row_of(c, p) * c->w_rows,
                         c->w_rows * sizeof(float));
    }
}

static void check_case(int arch, experts_kind kind, const product_form *f, const experts_case *c) {
    if (!product_has_gemm(arch, f)) return;
    experts_work k = make_work(f, c, crowds[kind]);
    run_experts(arch, kind, f, c, &k);
    check_numbers(kind, f, c, &k);
    if (!rig_is_watched()) check_bits(arch, kind, f, c, &k);
    free(k.expert_of);
}

/* Odd sizes of the matrices, with rows of x of every kind. */
static void check_form(experts_kind kind, ck_form form) {
    const product_form *f = &product_forms[form];
    const experts_case cases[] = {{70, f->cols[0], true, true}, {33, f->cols[1], false, false}};
    const experts_case ragged[] = {{65, f->cols[4], true, false}, {1, f->cols[3], false, true}};
    for (size_t i = 0; i < 2; i++) {
        RIG_EACH(arch) check_case(arch, kind, f, &cases[i]);
        rig_done();
        if (!product_is_float(f->form)) continue;
        RIG_EACH(arch) check_case(arch, kind, f, &ragged[i]);
        rig_done();
    }
}

TEST(k_gemm_experts_f16) { check_form(PROMPTS, CK_FORM_F16); }
TEST(k_few_experts_f16) { check_form(OTHERS, CK_FORM_F16); }
TEST(k_gemm_experts_bf16) { check_form(PROMPTS, CK_FORM_BF16); }
TEST(k_few_experts_bf16) { check_form(OTHERS, CK_FORM_BF16); }
TEST(k_gemm_experts_q8_0) { check_form(PROMPTS, CK_FORM_Q8_0); }
TEST(k_few_experts_q8_0) { check_form(OTHERS, CK_FORM_Q8_0); }
TEST(k_gemm_experts_q4_0) { check_form(PROMPTS, CK_FORM_Q4_0); }
TEST(k_few_experts_q4_0) { check_form(OTHERS, CK_FORM_Q4_0); }
TEST(k_gemm_experts_q4_k) { check_form(PROMPTS, CK_FORM_Q4_K); }
TEST(k_few_experts_q4_k) { check_form(OTHERS, CK_FORM_Q4_K); }
TEST(k_gemm_experts_q5_k) { check_form(PROMPTS, CK_FORM_Q5_K); }
TEST(k_few_experts_q5_k) { check_form(OTHERS, CK_FORM_Q5_K); }
TEST(k_gemm_experts_q6_k) { check_form(PROMPTS, CK_FORM_Q6_K); }
TEST(k_few_experts_q6_k) { check_form(OTHERS, CK_FORM_Q6_K); }

/* --- traffic -------------------- */

static void check_traffic(experts_kind kind, const product_form *f,
                          const uint32_t counts[EXPERTS]) {
    enum { ROWS = 2 * CK_GEMM_TILE, COLS = 512 };
    const experts_case c = {ROWS, COLS, true, false};
    experts_work k = make_work(f, &c, counts);
    uint64_t all = 0, products = 0;
    const experts_kernels of = kernels_of(kind, f->form);
    run_experts(900, kind, f, &c, &k);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        const uint32_t together = kind == PROMPTS ? TOGETHER : of.tile;
        all += blocks(counts[e], of.tile);
        products += blocks(counts[e], together) * together;
    }
    if (kind == OTHERS && product_is_float(f->form)) products *= f->form == CK_FORM_F16 ? 2 : 3;
    const sim_counters *n = rig_counters();
    const uint64_t elements = (uint64_t)ROWS * COLS;
    CHECK_EQ(n->streamed_bytes,
             all * (kind == PROMPTS ? product_gemm_bytes(&k.w[0]) : product_skinny_bytes(&k.w[0])));
    CHECK_EQ(n->store_bytes, (uint64_t)k.pairs * ROWS * sizeof(float));
    CHECK_EQ(n->mma, products * elements / (16 * 8 * product_gemm_k(f->form)));
    free(k.expert_of);
}

static void check_all_traffic(experts_kind kind) {
    static const uint32_t few[EXPERTS] = {0, 1, 3, 0, 16, 0, 17, 1};
    for (uint32_t i = CK_FORM_F16; i < PRODUCT_FORMS; i++) {
        check_traffic(kind, &product_forms[i], few);
        check_traffic(kind, &product_forms[i], crowds[kind]);
        rig_done();
    }
}

TEST(k_gemm_experts_read_every_used_expert_once_for_a_tile_of_pairs) {
    RIG_SKIP_UNLESS_COUNTED();
    check_all_traffic(PROMPTS);
}
TEST(k_few_experts_read_every_used_expert_once_for_a_tile_of_pairs) {
    RIG_SKIP_UNLESS_COUNTED();
    check_all_traffic(OTHERS);
}
