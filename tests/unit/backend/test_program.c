/* test_program.c - program.h: what recording writes down, and that the layout never lets two
 * living values share memory.  The layout is checked pair by pair on random programs. */
#include "backend/program.h"
#include "base/alloc.h"
#include "test.h"

static float data[64 * 64];
static const program_limits limits = {.rows = 7, .taken = 3, .head = 2, .ctx = 100};

static weight f32_weight(uint32_t rows, uint32_t cols) {
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = cols, .data = data};
}

static op_norm plain_norm(uint32_t cols) { return (op_norm){.group = cols, .eps = 1e-5f}; }

static program *new_program(const program_limits *max) {
    program *p = NULL;
    CHECK_EQ(program_create(&p, max, NULL), OK);
    return p;
}

/* --- the layout, pair by pair ----------------------------------------------------- */

static size_t floats_of(const program *p, const value *v) {
    return (size_t)program_rows_max(p, v->rows) * v->cols;
}

static bool shares_memory(const program *p, const value *a, const value *b) {
    return a->offset < b->offset + floats_of(p, b) && b->offset < a->offset + floats_of(p, a);
}

static bool shares_time(const value *a, const value *b) {
    return a->op_def <= b->op_end && b->op_def <= a->op_end;
}

/* Is b the result of an element-wise op in the very place of its first operand a, which nobody
 * reads later? */
static bool is_in_place(const program *p, uint32_t a, uint32_t b) {
    const value *x = &p->values[a], *y = &p->values[b];
    const op *o = &p->ops[y->op_def];
    bool kind = o->kind == OP_ROPE || o->kind == OP_ACT || o->kind == OP_ACT_MUL ||
                o->kind == OP_ADD || o->kind == OP_ADD_ROW || o->kind == OP_MUL ||
                o->kind == OP_MUL_ROW || o->kind == OP_MUL_COL;
    return kind && o->in[0] == a && o->in[1] != a && x->op_end == y->op_def &&
           x->offset == y->offset && x->cols == y->cols && x->rows == y->rows;
}

static void check_layout(const program *p) {
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < p->values_count; i++) {
        const value *a = &p->values[i];
        CHECK_EQ(a->offset % 32, 0);
        CHECK(a->offset + floats_of(p, a) <= p->workspace_floats);
        for (uint32_t k = 0; k < i; k++) {
            const value *b = &p->values[k];
            if (shares_memory(p, a, b) && shares_time(a, b))
                wrong += !is_in_place(p, i, k) && !is_in_place(p, k, i);
        }
    }
    CHECK_EQ(wrong, 0);
}

/* op_def and op_end are what the list of ops says. */
static void check_lives(const program *p) {
    for (uint32_t v = 0; v < p->values_count; v++) {
        uint32_t def = UINT32_MAX, end = 0;
        for (uint32_t i = 0; i < p->ops_count; i++) {
            if (p->ops[i].out == v) def = end = i;
            for (uint32_t k = 0; k < OP_INPUTS_MAX; k++)
                if (p->ops[i].in[k] == v) end = i;
        }
        if (v == p->hidden || v == p->logits) end = UINT16_MAX;
        CHECK_EQ(p->values[v].op_def, def);
        CHECK_EQ(p->values[v].op_end, end);
    }
}

/* --- random programs: every op reads values that are already there ---------------- */

enum { VALUES_WANTED = 60 };

typedef struct recorder {
    program *p;
    uint64_t random;
} recorder;

static uint32_t below(recorder *r, uint32_t n) {
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(r->random >> 33) % n;
}

/* Some value, of these columns where there is one among a few tries. */
static value_id some_value(recorder *r, uint32_t cols, row_set rows) {
    for (int i = 0; i < 20; i++) {
        value_id v = (value_id)below(r, r->p->values_count);
        if (r->p->values[v].rows == rows && (cols == 0 || r->p->values[v].cols == cols)) return v;
    }
    return VALUE_NONE;
}

static void record_row_op(recorder *r, value_id a, value_id b, uint32_t cols) {
    program *p = r->p;
    const op_act act = {.kind = ACT_SILU};
    switch (below(r, 9)) {
    case 0:
        (void)pg_norm(p, a, plain_norm(cols));
        break;
    case 1:
        (void)pg_matmul(p, a, f32_weight(below(r, 2) ? 24 : 40, cols), NULL);
        break;
    case 2:
        (void)pg_act(p, a, act);
        break;
    case 3:
        (void)pg_add(p, a, b);
        break;
    case 4:
        (void)pg_act_mul(p, a, b, act);
        break;
    case 5:
        (void)pg_mul(p, a, b);
        break;
    case 6:
        (void)pg_mul_row(p, pg_add_row(p, a, data), data);
        break;
    case 7:
        (void)pg_mul_col(p, a, pg_matmul(p, b, f32_weight(1, cols), NULL));
        break;
    default:
        if (p->values[a].rows != ROWS_HEAD) (void)pg_take_rows(p, a);
        break;
    }
}

static void record_experts(recorder *r, value_id a, uint32_t cols) {
    program *p = r->p;
    value_id routed =
        pg_route(p, a, (op_route){.experts = cols, .used = 3, .scale = 1, .normalize = true});
    weight *w = pg_weights(p, cols);
    for (uint32_t i = 0; i < cols; i++) w[i] = f32_weight(8, cols);
    op_experts e = {.w = w, .experts = cols, .used = 3, .shared_in = true};
    (void)pg_experts_sum(p, pg_experts(p, a, routed, e), routed, 3);
}

static void record_sequence_op(recorder *r, value_id a, value_id b, uint32_t cols) {
    program *p = r->p;
    op_heads_matmul heads = {.heads = 2, .in_dim = cols / 4, .tail_dim = cols / 4, .w_rows = 16};
    value_id c = some_value(r, cols, ROWS_ALL), d = some_value(r, cols, ROWS_ALL);
    if (c == VALUE_NONE) c = a;
    if (d == VALUE_NONE) d = b;
    switch (below(r, 8)) {
    case 0:
        (void)pg_rope(p, a, (op_rope){.heads = 1, .head_dim = cols, .dims = 4, .magnitude = 1});
        break;
    case 1:
        pg_kv_write(p, a, b);
        break;
    case 2:
        (void)pg_attention(p, a, (op_attention){1, 1, cols, 8, 1, 0, 0, true, NULL, NULL});
        break;
    case 3:
        (void)pg_conv(p, a, data, NULL, 4);
        break;
    case 4:
        (void)pg_scan(p, a, b, c, d, data, data, cols);
        break;
    case 5:
        (void)pg_shift(p, a);
        break;
    case 6:
        (void)pg_wkv(p, a, b, c, d, data, cols / 2);
        break;
    default:
        heads.row_stride = heads.out_dim = 16;
        (void)pg_heads_matmul(p, a, f32_weight(32, cols / 4), heads);
        break;
    }
}

static program *record_random(uint64_t seed) {
    recorder r = {new_program(&limits), seed};
    (void)pg_embed(r.p, f32_weight(64, 24));
    (void)pg_embed_pos(r.p, f32_weight(100, 24));
    while (r.p->values_count < VALUES_WANTED) {
        row_set rows = (row_set)below(&r, 3);
        value_id a = some_value(&r, 0, rows);
        if (a == VALUE_NONE) continue;
        uint32_t cols = r.p->values[a].cols;
        value_id b = some_value(&r, cols, rows);
        if (b == VALUE_NONE) b = a;
        if (cols % 8 == 0 && rows == ROWS_ALL && below(&r, 2))
            record_sequence_op(&r, a, b, cols);
        else if (cols >= 3 && below(&r, 8) == 0)
            record_experts(&r, a, cols);
        else
            record_row_op(&r, a, b, cols);
    }
    return r.p;
}

TEST(program_layout_keeps_living_values_apart) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        program *p = record_random(seed);
        recorder r = {p, seed};
        value_id x = some_value(&r, 0, ROWS_ALL);
        if (x == VALUE_NONE) x = 0;
        value_id hidden = pg_take_rows(p, x), logits = VALUE_NONE;
        if (seed % 3 != 0) logits = pg_take_rows(p, hidden);
        CHECK_EQ(program_finish(p, hidden, logits, NULL), OK);
        check_lives(p);
        check_layout(p);
        program_destroy(p);
    }
}

/* --- the layout, by example ------------------------------------------------------- */

TEST(program_reuses_memory_and_works_in_place) {
    program *p = new_program(&(program_limits){.rows = 16, .taken = 16, .head = 16, .ctx = 100});
    value_id x = pg_embed(p, f32_weight(64, 64));
    for (int i = 0; i < 20; i++) {
        value_id y = pg_matmul(p, x, f32_weight(64, 64), NULL);
        x = pg_add(p, x, y);
    }
    CHECK_EQ(program_finish(p, pg_take_rows(p, x), VALUE_NONE, NULL), OK);
    CHECK(p->workspace_floats <= (size_t)3 * 16 * 64);
    CHECK_EQ(p->values[x].offset, p->values[0].offset);
    check_layout(p);
    program_destroy(p);
}

TEST(program_value_that_nobody_reads_takes_no_memory_later) {
    program *p = new_program(&limits);
    value_id x = pg_embed(p, f32_weight(64, 32));
    for (int i = 0; i < 50; i++) (void)pg_matmul(p, x, f32_weight(32, 32), NULL);
    CHECK_EQ(program_finish(p, pg_take_rows(p, x), VALUE_NONE, NULL), OK);
    CHECK(p->workspace_floats <= (size_t)3 * 7 * 32 + 96);
    check_layout(p);
    check_lives(p);
    program_destroy(p);
}

TEST(program_both_results_live_to_the_end) {
    program *p = new_program(&limits);
    value_id x = pg_take_rows(p, pg_embed(p, f32_weight(64, 32)));
    value_id hidden = pg_norm(p, x, plain_norm(32));
    value_id logits = pg_matmul(p, pg_take_rows(p, hidden), f32_weight(40, 32), NULL);
    (void)pg_act(p, hidden, (op_act){.kind = ACT_TANH}); /* not in place of a result */
    (void)pg_act(p, logits, (op_act){.kind = ACT_TANH});
    CHECK_EQ(program_finish(p, hidden, logits, NULL), OK);
    CHECK_EQ(p->hidden, hidden);
    CHECK_EQ(p->logits, logits);
    CHECK_EQ(p->values[hidden].op_end, UINT16_MAX);
    CHECK_EQ(p->values[logits].op_end, UINT16_MAX);
    check_layout(p);
    program_destroy(p);
}

TEST(program_operand_that_is_read_twice_by_one_op_is_given_once) {
    program *p = new_program(&limits);
    value_id x = pg_embed(p, f32_weight(64, 32));
    value_id y = pg_mul(p, pg_add(p, x, x), x);
    value_id z = pg_wkv(p, y, y, y, y, data, 8);
    CHECK_EQ(program_finish(p, pg_take_rows(p, z), VALUE_NONE, NULL), OK);
    check_lives(p);
    check_layout(p);
    program_destroy(p);
}

/* --- recording -------------------------------------------------------------------- */

TEST(program_stamps_layers_and_row_sets) {
    program *p = new_program(&limits);
    value_id x = pg_embed(p, f32_weight(64, 32));
    pg_layer(p, 3);
    value_id y = pg_matmul(p, x, f32_weight(16, 32), NULL);
    value_id t = pg_take_rows(p, y), u = pg_take_rows(p, t);
    value_id z = pg_matmul(p, u, f32_weight(8, 16), NULL);
    CHECK_EQ(program_finish(p, t, z, NULL), OK);
    CHECK_EQ(p->ops[0].layer, 0);
    CHECK_EQ(p->ops[1].layer, 3);
    CHECK_EQ(p->values[y].rows, ROWS_ALL);
    CHECK_EQ(p->values[t].rows, ROWS_TAKEN);
    CHECK_EQ(p->values[u].rows, ROWS_HEAD);
    CHECK_EQ(p->values[z].rows, ROWS_HEAD);
    CHECK_EQ(p->values[z].cols, 8);
    CHECK_EQ(program_rows_max(p, ROWS_ALL), 7);
    CHECK_EQ(program_rows_max(p, ROWS_TAKEN), 3);
    CHECK_EQ(program_rows_max(p, ROWS_HEAD), 2);
    program_destroy(p);
    program_destroy(NULL);
}

TEST(program_gives_every_state_a_piece_of_its_own) {
    program *p = new_program(&limits);
    value_id x = pg_embed(p, f32_weight(64, 32)), b = pg_matmul(p, x, f32_weight(4, 32), NULL);
    (void)pg_conv(p, x, data, NULL, 4);
    (void)pg_scan(p, x, x, b, b, data, data, 4);
    (void)pg_shift(p, x);
    (void)pg_wkv(p, x, x, x, x, data, 8);
    const size_t floats[] = {(size_t)3 * 32, (size_t)4 * 32, 32, (size_t)8 * 32};
    size_t end = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const op_state *s = &p->ops[2 + i].state;
        CHECK_EQ(s->offset, end);
        CHECK_EQ(s->floats, floats[i]);
        end += s->floats;
    }
    CHECK_EQ(p->state_floats, end);
    program_destroy(p);
}

static uint32_t slots_with_rank(uint32_t rank, uint16_t out[3]) {
    program_limits max = limits;
    max.lora_rank = rank;
    program *p = new_program(&max);
    weight named = f32_weight(32, 32);
    named.name = S("blk.0.attn_q.weight");
    value_id x = pg_embed(p, named);
    x = pg_matmul(p, x, named, NULL);
    x = pg_matmul(p, x, f32_weight(32, 32), NULL);
    (void)pg_matmul(p, x, named, NULL);
    CHECK_EQ(p->ops[0].lora_slot, LORA_SLOT_NONE);
    for (uint32_t i = 0; i < 3; i++) out[i] = p->ops[1 + i].lora_slot;
    uint32_t slots = p->lora_slots;
    program_destroy(p);
    return slots;
}

TEST(program_numbers_the_products_that_adapters_can_change) {
    uint16_t slot[3];
    CHECK_EQ(slots_with_rank(8, slot), 2);
    CHECK_EQ(slot[0], 0);
    CHECK_EQ(slot[1], LORA_SLOT_NONE); /* has no name */
    CHECK_EQ(slot[2], 1);
    CHECK_EQ(slots_with_rank(0, slot), 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(slot[i], LORA_SLOT_NONE);
}

TEST(program_owns_the_weights_of_experts) {
    program *p = new_program(&limits);
    weight *first = NULL;
    for (uint32_t i = 0; i < 200; i++) { /* more blocks than the list starts with */
        weight *w = pg_weights(p, 1 + i % 5);
        if (i == 0) first = w;
        CHECK(w[i % 5].data == NULL && w[i % 5].name.n == 0);
        w[i % 5] = f32_weight(1, 1);
    }
    CHECK(first->data == data); /* still where it was */
    program_destroy(p);
}

TEST(program_without_memory_is_an_error) {
    program *p = NULL;
    error err = {0};
    mem_fail_after(0);
    CHECK_EQ(program_create(&p, &limits, &err), ERR_NOMEM);
    mem_fail_after(-1);
    p = new_program(&limits);
    value_id t = pg_take_rows(p, pg_embed(p, f32_weight(64, 32)));
    mem_fail_after(0);
    CHECK_EQ(program_finish(p, t, VALUE_NONE, &err), ERR_NOMEM);
    mem_fail_after(-1);
    program_destroy(p);
}

TEST(program_names_its_ops) {
    CHECK_STR(op_kind_name(OP_EMBED), "EMBED");
    CHECK_STR(op_kind_name(OP_TAKE_ROWS), "TAKE_ROWS");
    CHECK_STR(op_kind_name(OP_KIND_COUNT), "?");
}
