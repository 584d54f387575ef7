/* test_ref_sequence.c - the reference backend's ops that know which rows follow each other:
 * rotary positions, attention over the KV cache, states.  Results are compared with the formulas
 * over whole sequences, without blocks, seats or states; and the same sequence gives the same bits
 * alone, in chunks and in a crowd. */
#include <math.h>

#include "ref_rig.h"
#include "tensor/convert.h"
#include "test.h"

static const kv_layout no_kv = {.type = DTYPE_F32};

/* --- rotary positions ------------------------------------------------------------- */

/* Heads of 8, of which elements 2 .. 5 turn; as complex numbers: pair * e^(i angle) * magnitude. */
static void check_rope(rope_pairs pairs) {
    enum { HEADS = 3, DIM = 8, FIRST = 2, DIMS = 4, COLS = HEADS * DIM, ROWS = 9 };
    static const double freqs[2] = {1.0, 0.25};
    program *p = refrig_program();
    op_rope rope = {HEADS, DIM, FIRST, DIMS, pairs, freqs, 1.5f};
    const float *y = refrig_rows(p, pg_rope(p, refrig_input(p, 0, COLS), rope), ROWS);
    for (uint32_t i = 0; i < ROWS * COLS; i++) {
        uint32_t pos = i / COLS, c = i % COLS, d = c % DIM - FIRST; /* wraps below FIRST */
        uint32_t pair = pairs == ROPE_HALVES ? d % 2 : d / 2;
        uint32_t step = pairs == ROPE_HALVES ? 2 : 1;
        bool second = pairs == ROPE_HALVES ? d >= 2 : d % 2 == 1;
        double want = refrig_x(0, COLS, 0, pos, c);
        if (d < DIMS) {
            double re = refrig_x(0, COLS, 0, pos, second ? c - step : c);
            double im = refrig_x(0, COLS, 0, pos, second ? c : c + step);
            double angle = atan2(im, re) + pos * freqs[pair];
            want = 1.5 * hypot(re, im) * (second ? sin(angle) : cos(angle));
        }
        refrig_check(y[i], want, "rope", i);
    }
}

TEST(ref_rope_turns_adjacent_pairs_or_halves) {
    check_rope(ROPE_ADJACENT);
    check_rope(ROPE_HALVES);
}

/* In the place of its operand, which dies there, and beside one that lives on. */
TEST(ref_rope_gives_the_same_in_place) {
    static const double freqs[4] = {1.0, 0.5, 0.25, 0.125};
    op_rope rope = {2, 8, 0, 8, ROPE_HALVES, freqs, 1};
    float first[5 * 16];
    program *p = refrig_program();
    memcpy(first, refrig_rows(p, pg_rope(p, refrig_input(p, 0, 16), rope), 5), sizeof first);
    p = refrig_program();
    value_id x = refrig_input(p, 0, 16), y = pg_rope(p, x, rope);
    (void)pg_act(p, x, (op_act){.kind = ACT_RELU});
    CHECK(memcmp(first, refrig_rows(p, y, 5), sizeof first) == 0);
}

/* --- attention -------------------------------------------------------------------- */

enum { HEADS = 4, KV_HEADS = 2, KEY_DIM = 6, VALUE_DIM = 4, LAYER = 1 };
enum { Q_TABLE, K_TABLE, V_TABLE };

typedef struct attention_case {
    op_attention attn;
    dtype type;
    bool v_in_k;
} attention_case;

static kv_layout layout_of(const attention_case *c) {
    return (kv_layout){c->type, 2, KV_HEADS, KEY_DIM, VALUE_DIM, c->v_in_k};
}

/* With v_in_k, K_TABLE holds the latents and V_TABLE what follows them in a key. */
static program *attention_program(const attention_case *c) {
    program *p = refrig_program();
    uint32_t k_dim = c->v_in_k ? VALUE_DIM : KEY_DIM;
    uint32_t v_dim = c->v_in_k ? KEY_DIM - VALUE_DIM : VALUE_DIM;
    value_id q = refrig_input(p, Q_TABLE, HEADS * KEY_DIM);
    pg_layer(p, LAYER);
    pg_kv_write(p, refrig_input(p, K_TABLE, KV_HEADS * k_dim),
                refrig_input(p, V_TABLE, KV_HEADS * v_dim));
    refrig_finish(p, pg_attention(p, q, c->attn));
    return p;
}

static double stored(const attention_case *c, double x) {
    return c->type == DTYPE_F16 ? (double)convert_f16_to_f32(convert_f32_to_f16((float)x)) : x;
}

/* Element i of the key or value of KV head h of a token. */
static double key(const attention_case *c, uint32_t seq, uint32_t pos, uint32_t h, uint32_t i) {
    const uint32_t rest = KEY_DIM - VALUE_DIM;
    if (!c->v_in_k)
        return stored(c, refrig_x(K_TABLE, KV_HEADS * KEY_DIM, seq, pos, h * KEY_DIM + i));
    if (i < VALUE_DIM)
        return stored(c, refrig_x(K_TABLE, KV_HEADS * VALUE_DIM, seq, pos, h * VALUE_DIM + i));
    return stored(c, refrig_x(V_TABLE, KV_HEADS * rest, seq, pos, h * rest + i - VALUE_DIM));
}

static double val(const attention_case *c, uint32_t seq, uint32_t pos, uint32_t h, uint32_t i) {
    uint32_t table = c->v_in_k ? K_TABLE : V_TABLE;
    return stored(c, refrig_x(table, KV_HEADS * VALUE_DIM, seq, pos, h * VALUE_DIM + i));
}

static bool sees(const op_attention *a, uint32_t i, uint32_t j) {
    uint32_t apart = i > j ? i - j : j - i;
    return (!a->causal || j <= i) && (a->window == 0 || apart < a->window);
}

/* Element e of query head h at position i of a sequence of `tokens`. */
static double attended(const attention_case *c, uint32_t seq, uint32_t tokens, uint32_t i,
                       uint32_t h, uint32_t e) {
    const op_attention *a = &c->attn;
    uint32_t kv_head = h / (HEADS / KV_HEADS);
    double sum = a->sinks != NULL ? exp((double)a->sinks[h]) : 0, out = 0;
    for (uint32_t j = 0; j < tokens; j++) {
        if (!sees(a, i, j)) continue;
        double s = 0;
        for (uint32_t d = 0; d < KEY_DIM; d++)
            s += refrig_x(Q_TABLE, HEADS * KEY_DIM, seq, i, h * KEY_DIM + d) *
                 key(c, seq, j, kv_head, d);
        s *= (double)a->scale;
        if (a->softcap != 0) s = (double)a->softcap * tanh(s / (double)a->softcap);
        if (a->slopes != NULL) s -= (double)a->slopes[h] * fabs((double)i - j);
        sum += exp(s);
        out += exp(s) * val(c, seq, j, kv_head, e);
    }
    return out / sum;
}

static void check_attended(const attention_case *c, const float *y, uint32_t seq, uint32_t tokens,
                           uint32_t pos0, uint32_t rows) {
    for (uint32_t i = 0; i < rows * HEADS * VALUE_DIM; i++) {
        uint32_t pos = pos0 + i / (HEADS * VALUE_DIM), h = i / VALUE_DIM % HEADS;
        refrig_check(y[i], attended(c, seq, tokens, pos, h, i % VALUE_DIM), "attention", i);
    }
}

/* Two sequences; causal ones in two steps, the second of which reads what the first stored. */
static void check_attention(const attention_case *c) {
    program *p = attention_program(c);
    refrig_batch b;
    refrig_forget();
    refrig_batch_init(&b, p, layout_of(c));
    refrig_batch_run(&b, 2, 0, 0, 20);
    refrig_batch_run(&b, 1, 1, 0, 37);
    const float *y = refrig_step(p, &b);
    check_attended(c, y, 0, 20, 0, 20);
    check_attended(c, y + (size_t)20 * HEADS * VALUE_DIM, 1, 37, 0, 37);
    if (c->attn.causal) {
        refrig_batch_init(&b, p, layout_of(c));
        refrig_batch_run(&b, 1, 1, 37, 1);
        refrig_batch_run(&b, 2, 0, 20, 15);
        y = refrig_step(p, &b);
        check_attended(c, y, 1, 38, 37, 1);
        check_attended(c, y + (size_t)HEADS * VALUE_DIM, 0, 35, 20, 15);
    }
    program_destroy(p);
}

/* Every combination of what may be on or off. */
TEST(ref_attention_is_the_formula) {
    static const float sinks[HEADS] = {-1, 0, 2, 0.5f}, slopes[HEADS] = {0.5f, 0.25f, 0.125f, 1};
    for (uint32_t on = 0; on < 128; on++) {
        attention_case c = {
            .attn = {HEADS, KV_HEADS, KEY_DIM, VALUE_DIM, 1.5f, 0, 0, true, NULL, NULL}};
        c.attn.softcap = on & 1 ? 0.75f : 0;
        c.attn.window = on & 2 ? 5 : 0;
        c.attn.causal = !(on & 4);
        c.attn.sinks = on & 8 ? sinks : NULL;
        c.attn.slopes = on & 16 ? slopes : NULL;
        c.type = on & 32 ? DTYPE_F16 : DTYPE_F32;
        c.v_in_k = on & 64;
        check_attention(&c);
    }
}

TEST(ref_attention_window_edges) {
    for (uint32_t window = 1; window <= 40; window += 13) {
        attention_case c = {
            .attn = {HEADS, KV_HEADS, KEY_DIM, VALUE_DIM, 1, 0, window, true, NULL, NULL},
            .type = DTYPE_F32};
        check_attention(&c);
        c.attn.causal = false;
        check_attention(&c);
    }
}

/* exp() of scores of 1e4 is out of range: the maximum is taken off first. */
TEST(ref_attention_has_room_for_large_scores) {
    static const float sinks[HEADS] = {2e4f, -2e4f, 0, 1e4f};
    attention_case c = {
        .attn = {HEADS, KV_HEADS, KEY_DIM, VALUE_DIM, 1e4f, 0, 0, true, sinks, NULL},
        .type = DTYPE_F32};
    program *p = attention_program(&c);
    refrig_batch b;
    refrig_batch_init(&b, p, layout_of(&c));
    refrig_batch_run(&b, 0, 0, 0, 8);
    const float *y = refrig_step(p, &b);
    for (uint32_t i = 0; i < 8 * HEADS * VALUE_DIM; i++) CHECK(fabsf(y[i]) <= 1);
    program_destroy(p);
}

/* --- states ----------------------------------------------------------------------- */

enum { COLS = 8, STATES = 3, DIM = 4, WIDTH = 4, TOKENS = 11 };

/* Element of table `id` that is as wide as `cols`, of sequence 0. */
static double at(uint32_t id, uint32_t cols, uint32_t pos, uint32_t c) {
    return refrig_x(id, cols, 0, pos, c);
}

TEST(ref_conv_looks_back) {
    for (uint32_t width = 1; width <= 5; width++) {
        program *p = refrig_program();
        const float *w = refrig_vector(5), *bias = width % 2 ? refrig_vector(6) : NULL;
        const float *y =
            refrig_rows(p, pg_conv(p, refrig_input(p, 0, COLS), w, bias, width), TOKENS);
        for (uint32_t i = 0; i < TOKENS * COLS; i++) {
            uint32_t r = i / COLS, c = i % COLS;
            double want = bias != NULL ? (double)bias[c] : 0;
            for (uint32_t back = 0; back < width && back <= r; back++)
                want += (double)w[c * width + width - 1 - back] * at(0, COLS, r - back, c);
            refrig_check(y[i], want, "conv", i);
        }
    }
}

/* The recurrence unrolled: what token j left has decayed by the product of all later steps. */
TEST(ref_scan_is_the_sum_over_the_past) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, COLS), dt = refrig_input(p, 1, COLS);
    value_id b = refrig_input(p, 2, STATES), c = refrig_input(p, 3, STATES);
    const float *a = refrig_vector(5), *d = refrig_vector(6);
    const float *y = refrig_rows(p, pg_scan(p, x, dt, b, c, a, d, STATES), TOKENS);
    for (uint32_t i = 0; i < TOKENS * COLS; i++) {
        uint32_t r = i / COLS, col = i % COLS;
        double want = (double)d[col] * at(0, COLS, r, col);
        for (uint32_t s = 0; s < STATES; s++) {
            double time = 0;
            for (uint32_t j = r + 1; j-- > 0;) {
                want += at(3, STATES, r, s) * exp(time * (double)a[col * STATES + s]) *
                        at(1, COLS, j, col) * at(2, STATES, j, s) * at(0, COLS, j, col);
                time += at(1, COLS, j, col);
            }
        }
        refrig_check(y[i], want, "scan", i);
    }
}

TEST(ref_shift_is_the_row_before) {
    program *p = refrig_program();
    const float *y = refrig_rows(p, pg_shift(p, refrig_input(p, 0, COLS)), TOKENS);
    for (uint32_t i = 0; i < TOKENS * COLS; i++)
        refrig_check(y[i], i < COLS ? 0 : at(0, COLS, 0, i - COLS), "shift", i);
}

/* Unrolled: token j reaches row r through the decays between them; r itself through `first`. */
TEST(ref_wkv_is_the_sum_over_the_past) {
    program *p = refrig_program();
    value_id in[4];
    for (uint32_t i = 0; i < 4; i++) in[i] = refrig_input(p, i, COLS);
    const float *first = refrig_vector(5);
    const float *y = refrig_rows(p, pg_wkv(p, in[0], in[1], in[2], in[3], first, DIM), TOKENS);
    for (uint32_t i = 0; i < TOKENS * COLS; i++) {
        uint32_t r = i / COLS, c = i % COLS, head = c / DIM * DIM;
        double want = 0;
        for (uint32_t k = head; k < head + DIM; k++) {
            double reach = 1;
            want += at(0, COLS, r, k) * (double)first[k] * at(1, COLS, r, k) * at(2, COLS, r, c);
            for (uint32_t j = r; j-- > 0; reach *= at(3, COLS, j, k))
                want += at(0, COLS, r, k) * reach * at(1, COLS, j, k) * at(2, COLS, j, c);
        }
        refrig_check(y[i], want, "wkv", i);
    }
}

/* --- alone, in chunks, in a crowd: the same bits ---------------------------------- */

enum { LEN = 29, OUT_FLOATS = LEN * COLS };

/* One of everything that looks at other rows, one after the other. */
static program *mixed_program(void) {
    static const double freqs[2] = {1, 0.1};
    program *p = refrig_program();
    weight to_states = refrig_table(4, STATES, COLS);
    value_id x = refrig_input(p, 0, COLS);
    x = pg_conv(p, x, refrig_vector(5), refrig_vector(6), WIDTH);
    x = pg_add(p, x, pg_shift(p, x));
    value_id b = pg_matmul(p, x, to_states, NULL);
    value_id dt = pg_act(p, x, (op_act){.kind = ACT_SIGMOID});
    value_id decay = pg_act(p, x, (op_act){.kind = ACT_EXP_NEG_EXP});
    x = pg_add(p, x, pg_scan(p, x, dt, b, b, refrig_vector(5), refrig_vector(6), STATES));
    x = pg_add(p, x, pg_wkv(p, x, x, x, decay, refrig_vector(7), DIM));
    value_id q = pg_rope(p, x, (op_rope){2, 4, 0, 4, ROPE_ADJACENT, freqs, 1});
    pg_kv_write(p, q, x);
    x = pg_add(p, x, pg_attention(p, q, (op_attention){2, 2, 4, 4, 0.5f, 0, 9, true, NULL, NULL}));
    refrig_finish(p, pg_norm(p, x, (op_norm){.kind = NORM_LAYER, .group = COLS, .eps = 1e-5f}));
    return p;
}

static const kv_layout mixed_kv = {DTYPE_F32, 1, 2, 4, 4, false};

/* The next `rows` tokens of sequence 0 on `seat`, before others of `crowd` sequences. */
static void mixed_step(const program *p, uint32_t seat, uint32_t pos0, uint32_t rows,
                       uint32_t crowd, float *out) {
    refrig_batch b;
    refrig_batch_init(&b, p, mixed_kv);
    for (uint32_t i = 1; i <= crowd; i++)
        refrig_batch_run(&b, (seat + i) % REFRIG_SEQS, i, pos0, 2 + i);
    uint32_t row0 = b.in.rows;
    refrig_batch_run(&b, seat, 0, pos0, rows);
    memcpy(out, refrig_step(p, &b) + (size_t)row0 * COLS, rows * COLS * sizeof(float));
}

TEST(ref_sequence_has_the_same_bits_in_any_company) {
    static float alone[OUT_FLOATS], other[OUT_FLOATS];
    program *p = mixed_program();
    refrig_forget();
    mixed_step(p, 0, 0, LEN, 0, alone);
    for (uint32_t i = 0; i < OUT_FLOATS; i++) CHECK(isfinite(alone[i]));
    for (uint32_t chunk = 1; chunk <= LEN; chunk += 2) {
        refrig_forget();
        memset(other, 0, sizeof other);
        for (uint32_t pos = 0; pos < LEN; pos += chunk) {
            uint32_t rows = pos + chunk < LEN ? chunk : LEN - pos;
            mixed_step(p, chunk % REFRIG_SEQS, pos, rows, pos < LEN / 2 ? 2 : 0,
                       other + (size_t)pos * COLS);
        }
        CHECK(memcmp(alone, other, sizeof alone) == 0);
    }
    program_destroy(p);
}

/* Position 0 begins with zeros, whoever sat there before. */
TEST(ref_sequence_forgets_who_sat_there_before) {
    static float first[OUT_FLOATS], again[OUT_FLOATS];
    program *p = mixed_program();
    refrig_forget();
    mixed_step(p, 1, 0, LEN, 0, first);
    mixed_step(p, 0, 0, LEN, 1, again); /* another sequence on seat 1 */
    mixed_step(p, 1, 0, LEN, 0, again);
    CHECK(memcmp(first, again, sizeof first) == 0);
    program_destroy(p);
}

/* A state belongs to a seat, and rows of no run leave it alone. */
TEST(ref_states_of_other_seats_stay) {
    program *p = refrig_program();
    refrig_finish(p, pg_shift(p, refrig_input(p, 0, COLS)));
    refrig_batch b;
    refrig_forget();
    for (uint32_t seat = 0; seat < REFRIG_SEQS; seat++) {
        refrig_batch_init(&b, p, no_kv);
        refrig_batch_run(&b, seat, seat, 0, 3 + seat);
        (void)refrig_step(p, &b);
    }
    refrig_batch_init(&b, p, no_kv);
    for (uint32_t seat = 0; seat < REFRIG_SEQS; seat++)
        refrig_batch_run(&b, seat, seat, 3 + seat, 1);
    const float *y = refrig_step(p, &b);
    for (uint32_t i = 0; i < REFRIG_SEQS * COLS; i++) {
        uint32_t seat = i / COLS;
        refrig_check(y[i], refrig_x(0, COLS, seat, 2 + seat, i % COLS), "state", i);
    }
    program_destroy(p);
}
