/* test_k_gemvt.c - products of one row that go on with the next launch: for every form and tail the
 * bits of the products, and of that launch behind them. */
#include <math.h>
#include <string.h>

#include "cudasim/packed_weight.h"
#include "cudasim/rig.h"
#include "test.h"

enum { COLS = 256, HEAD = 32, Q_HEADS = 4, KV_HEADS = 2, TICKETS = 64 };

static const char *const form_names[CK_FORM_COUNT] = {
    [CK_FORM_F32] = "f32",   [CK_FORM_F16] = "f16",   [CK_FORM_BF16] = "bf16",
    [CK_FORM_Q8_0] = "q8_0", [CK_FORM_Q4_0] = "q4_0", [CK_FORM_Q4_K] = "q4_k",
    [CK_FORM_Q5_K] = "q5_k", [CK_FORM_Q6_K] = "q6_k"};

/* Products of one row of x, and the results that they have to have. */
typedef struct products {
    k_gemvt_args args;
    uint32_t blocks;
    const char *form;
    float *out[CK_GEMVS_MAX], *want[CK_GEMVS_MAX];
    uint32_t rows[CK_GEMVS_MAX];
    uint64_t tickets;
} products;

static uint64_t row_of_x(int arch, bool quantized, uint64_t *sums) {
    float *x = rig_buffer(COLS * sizeof *x);
    rig_fill(x, COLS, 2.0f);
    *sums = 0;
    if (!quantized) return rig_at(x);
    int8_t *codes = rig_buffer(COLS);
    ck_sums *of = rig_buffer(COLS / 32 * sizeof *of);
    k_quantize_args a = {.x = rig_at(x),
                         .codes = rig_at(codes),
                         .sums = rig_at(of),
                         .count = rig_count(1),
                         .cols = COLS};
    rig_run(arch, "k_quantize", &a, 1, 1, 256, 0);
    *sums = rig_at(of);
    return rig_at(codes);
}

static void run_apart(int arch, const products *p, uint32_t i) {
    char name[32];
    k_gemv_args a = p->args.of[i];
    a.out = rig_at(p->want[i]);
    (void)snprintf(name, sizeof name, "k_gemv_%s_n1", p->form);
    rig_run(arch, name, &a, (p->rows[i] + CK_GEMV_BLOCK_ROWS - 1) / CK_GEMV_BLOCK_ROWS, 1,
            CK_GEMV_THREADS, 0);
}

/* rows: of the weights, 0 where there is none; the first has a bias and something added. */
static products make_products(int arch, dtype type, const uint32_t rows[CK_GEMVS_MAX]) {
    products p = {0};
    uint64_t sums = 0, x = 0;
    for (uint32_t i = 0; i < CK_GEMVS_MAX && rows[i] != 0; i++) {
        const packed_weight w = packed_weight_random(type, rows[i], COLS, 0.1f);
        float *bias = rig_buffer(rows[i] * sizeof *bias);
        rig_fill(bias, rows[i], 1.0f);
        if (i == 0) x = row_of_x(arch, w.matrix.form >= CK_FORM_Q8_0, &sums);
        p.form = form_names[w.matrix.form];
        p.rows[i] = rows[i];
        p.out[i] = rig_buffer(rows[i] * sizeof(float));
        p.want[i] = rig_buffer(rows[i] * sizeof(float));
        p.args.of[i] = (k_gemv_args){.w = w.matrix,
                                     .x = x,
                                     .sums = sums,
                                     .bias = i == 0 ? rig_at(bias) : 0,
                                     .add = i == 0 ? rig_at(bias) : 0,
                                     .out = rig_at(p.out[i]),
                                     .count = rig_count(1),
                                     .out_stride = rows[i]};
        p.blocks += (rows[i] + CK_GEMV_BLOCK_ROWS - 1) / CK_GEMV_BLOCK_ROWS;
        run_apart(arch, &p, i);
    }
    uint32_t *tickets = rig_buffer(TICKETS * sizeof *tickets);
    memset(tickets, 0, TICKETS * sizeof *tickets);
    p.args.tickets = p.tickets = rig_at(tickets);
    return p;
}

/* Twice, for tickets have to be 0 again. */
static void run_products(int arch, products *p, ck_tail tail) {
    char name[32];
    p->args.tail = tail;
    (void)snprintf(name, sizeof name, "k_gemvt_%s", p->form);
    for (int i = 0; i < 2; i++) rig_run(arch, name, &p->args, p->blocks, 1, CK_GEMV_THREADS, 0);
    for (uint32_t i = 0; i < CK_GEMVS_MAX && p->rows[i] != 0; i++)
        rig_same(p->out[i], p->want[i], p->rows[i] * sizeof(float));
}

/* Where a value goes, as f32 and as codes. */
typedef struct result {
    float *out;
    int8_t *codes;
    ck_sums *sums;
} result;

static result result_of(uint32_t cols, bool codes) {
    result r = {.out = rig_buffer(cols * sizeof(float))};
    if (!codes) return r;
    r.codes = rig_buffer(cols);
    r.sums = rig_buffer(cols / 32 * sizeof *r.sums);
    return r;
}

static void same_results(const result *got, const result *want, uint32_t cols) {
    rig_same(got->out, want->out, cols * sizeof(float));
    if (got->codes == NULL) return;
    rig_same(got->codes, want->codes, cols);
    rig_same(got->sums, want->sums, cols / 32 * sizeof(ck_sums));
}

/* --- norm -------------------- */

static void check_norm(int arch, dtype type, uint32_t rows, uint32_t kind) {
    products p = make_products(arch, type, (uint32_t[CK_GEMVS_MAX]){rows});
    const bool codes = rows % 32 == 0;
    float *gain = rig_buffer(rows * sizeof *gain);
    rig_fill(gain, rows, 1.0f);
    const result got = result_of(rows, codes), want = result_of(rows, codes);
    k_norm_args a = {.x = rig_at(p.want[0]),
                     .gain = rig_at(gain),
                     .out = rig_at(want.out),
                     .codes = rig_at(want.codes),
                     .sums = rig_at(want.sums),
                     .count = rig_count(1),
                     .cols = rows,
                     .group = rows,
                     .gain_len = rows,
                     .kind = kind,
                     .eps = 1e-5f,
                     .in_shared = 1};
    rig_run(arch, "k_norm", &a, 1, 1, 256, rows * 4);
    a.x = rig_at(p.out[0]);
    a.out = rig_at(got.out);
    a.codes = rig_at(got.codes);
    a.sums = rig_at(got.sums);
    a.in_shared = 0;
    p.args.then.norm = a;
    run_products(arch, &p, CK_TAIL_NORM);
    same_results(&got, &want, rows);
}

/* Sums of a norm by a warp up to 1024 elements, by the block beyond. */
TEST(k_gemvt_goes_on_with_the_norm) {
    for (uint32_t i = 0; i < PACKED_TYPES; i++) {
        RIG_EACH(arch) check_norm(arch, packed_types[i], i % 2 == 0 ? 96 : 1056, i % 2);
        rig_done();
    }
    RIG_EACH(arch) check_norm(arch, DTYPE_F16, 13, 0);
    rig_done();
}

/* --- gates -------------------- */

static void check_act_mul(int arch, dtype type, uint32_t rows) {
    products p = make_products(arch, type, (uint32_t[CK_GEMVS_MAX]){rows, rows});
    const bool codes = rows % 32 == 0;
    const result got = result_of(rows, codes), want = result_of(rows, codes);
    k_act_mul_args a = {.gate = rig_at(p.want[0]),
                        .up = rig_at(p.want[1]),
                        .out = rig_at(want.out),
                        .codes = rig_at(want.codes),
                        .sums = rig_at(want.sums),
                        .count = rig_count(1),
                        .cols = rows};
    rig_run(arch, "k_act_mul", &a, (rows + 255) / 256, 1, 256, 0);
    a.gate = rig_at(p.out[0]);
    a.up = rig_at(p.out[1]);
    a.out = rig_at(got.out);
    a.codes = rig_at(got.codes);
    a.sums = rig_at(got.sums);
    p.args.then.act_mul = a;
    run_products(arch, &p, CK_TAIL_ACT_MUL);
    same_results(&got, &want, rows);
}

TEST(k_gemvt_goes_on_with_the_gates) {
    static const uint32_t rows[] = {32, 96, 33, 7};
    for (uint32_t i = 0; i < PACKED_TYPES; i++) {
        RIG_EACH(arch) check_act_mul(arch, packed_types[i], rows[i % 4]);
        rig_done();
    }
}

/* --- turns -------------------- */

typedef struct cache {
    uint8_t *blocks;
    size_t bytes;
    ck_kv kv;
} cache;

/* Two blocks for one sequence, in the wrong order. */
static cache make_cache(ck_kv_type type) {
    const uint32_t row_bytes[] = {[CK_KV_F32] = HEAD * 4,
                                  [CK_KV_F16] = HEAD * 2,
                                  [CK_KV_Q8] = HEAD + 2,
                                  [CK_KV_Q4] = HEAD / 2 + 2};
    const size_t block = (size_t)2 * KV_HEADS * CK_KV_BLOCK_TOKENS * row_bytes[type];
    cache c = {.blocks = rig_buffer(2 * block), .bytes = 2 * block};
    static const uint32_t table[] = {1, 0};
    memset(c.blocks, 0, c.bytes);
    c.kv = (ck_kv){.blocks = rig_at(c.blocks),
                   .tables = rig_at(rig_copy(table, sizeof table)),
                   .block_bytes = block,
                   .table_stride = 2,
                   .type = type,
                   .kv_heads = KV_HEADS,
                   .key_dim = HEAD,
                   .value_dim = HEAD};
    return c;
}

static void check_turn(int arch, dtype type, ck_kv_type kv_type, bool with_v) {
    products p = make_products(
        arch, type,
        (uint32_t[CK_GEMVS_MAX]){Q_HEADS * HEAD, KV_HEADS * HEAD, with_v ? KV_HEADS * HEAD : 0});
    const cache got = make_cache(kv_type), want = make_cache(kv_type);
    static const uint32_t pos[] = {19}, seats[] = {0};
    float angles[HEAD], *q_got = rig_buffer(Q_HEADS * HEAD * sizeof *q_got);
    float *q_want = rig_buffer(Q_HEADS * HEAD * sizeof *q_want);
    for (uint32_t i = 0; i < HEAD; i++)
        angles[i] = i % 2 == 0 ? cosf((float)i) : sinf((float)i - 1);
    float *v = rig_buffer(KV_HEADS * HEAD * sizeof *v);
    rig_fill(v, KV_HEADS * HEAD, 1.0f);
    k_rope_write_args a = {.kv = want.kv,
                           .rope = {.table = rig_at(rig_copy(angles, sizeof angles)),
                                    .head_dim = HEAD,
                                    .dims = HEAD,
                                    .halves = with_v},
                           .q = rig_at(p.want[0]),
                           .q_out = rig_at(q_want),
                           .k = rig_at(p.want[1]),
                           .v = rig_at(with_v ? p.want[2] : v),
                           .pos = rig_at(rig_copy(pos, sizeof pos)),
                           .seats = rig_at(rig_copy(seats, sizeof seats)),
                           .count = rig_count(1),
                           .q_heads = Q_HEADS};
    rig_run(arch, "k_rope_write", &a, Q_HEADS + KV_HEADS, 1, 128, 0);
    a.kv = got.kv;
    a.q = rig_at(p.out[0]);
    a.q_out = rig_at(q_got);
    a.k = rig_at(p.out[1]);
    if (with_v) a.v = rig_at(p.out[2]);
    p.args.then.turn = a;
    run_products(arch, &p, CK_TAIL_TURN);
    rig_same(q_got, q_want, Q_HEADS * HEAD * sizeof *q_got);
    rig_same(got.blocks, want.blocks, got.bytes);
}

TEST(k_gemvt_goes_on_with_the_turns) {
    for (uint32_t i = 0; i < PACKED_TYPES; i++) {
        RIG_EACH(arch) check_turn(arch, packed_types[i], (ck_kv_type)(i % 3), i % 2 == 0);
        rig_done();
    }
}
