/* test_program_cut.c - a program in two parts gives the bits of the whole (program_cut.c). */
#include <string.h>

#include "backend/ref_rig.h"
#include "base/assert.h"
#include "test.h"

enum { COLS = 16, HEADS = 2, DIM = 8, ROWS = 9, LAYERS = 4, STATES = 4 };

static const kv_layout layout = {
    .type = DTYPE_F32, .kv_heads = 1, .key_dim = DIM, .value_dim = DIM};

static value_id linear(program *p, value_id x, uint32_t id, uint32_t rows) {
    return pg_matmul(p, x, refrig_table(id, rows, p->values[x].cols), NULL);
}

static value_id attend(program *p, value_id x) {
    static const double freqs[DIM / 2] = {1, 0.5, 0.25, 0.125};
    op_rope rope = {.heads = 1, .head_dim = DIM, .dims = DIM, .freqs = freqs, .magnitude = 1};
    value_id k = pg_rope(p, linear(p, x, 2, DIM), rope);
    rope.heads = HEADS;
    value_id q = pg_rope(p, linear(p, x, 1, HEADS * DIM), rope);
    pg_kv_write(p, k, linear(p, x, 3, DIM));
    return pg_attention(p, q,
                        (op_attention){.heads = HEADS,
                                       .kv_heads = 1,
                                       .key_dim = DIM,
                                       .value_dim = DIM,
                                       .scale = 0.3f,
                                       .causal = true});
}

static value_id scan(program *p, value_id x) {
    value_id c = pg_conv(p, x, refrig_vector(4), NULL, 3);
    value_id dt = pg_act(p, x, (op_act){.kind = ACT_SIGMOID});
    value_id b = linear(p, c, 5, STATES);
    return pg_scan(p, c, dt, b, linear(p, c, 6, STATES), refrig_vector(7), refrig_vector(4),
                   STATES);
}

/* Layers with attention and with states in turn, each of which looks at what tokens before it left:
 * x = x + layer(norm(x)). */
static program *recorded(void) {
    program *p = refrig_program();
    value_id x = refrig_input(p, 0, COLS);
    for (uint32_t i = 0; i < LAYERS; i++) {
        pg_layer(p, i);
        value_id n = pg_norm(p, x, (op_norm){.group = COLS, .eps = 1e-6f});
        x = pg_add(p, x, i % 2 == 0 ? attend(p, n) : scan(p, pg_shift(p, n)));
    }
    refrig_finish(p, x);
    return p;
}

/* Tokens 0 .. ROWS - 1 of one sequence, and three of another; the last ones' results are wanted. */
static void fill(refrig_batch *b, const program *p, uint32_t layers) {
    kv_layout of = layout;
    of.layers = layers;
    refrig_forget();
    refrig_batch_init(b, p, of);
    refrig_batch_run(b, 1, 0, 0, ROWS);
    refrig_batch_run(b, 3, 2, 0, 3);
}

static void take_two(refrig_batch *b) {
    b->taken[0] = 4;
    b->taken[1] = ROWS + 2;
    b->in.taken_rows = 2;
}

TEST(program_cut_anywhere_gives_the_same_bits) {
    float want[2 * COLS], half[(ROWS + 3) * COLS];
    refrig_batch b;
    program *p = recorded();
    CHECK_EQ(program_layers(p), LAYERS);
    fill(&b, p, LAYERS);
    take_two(&b);
    memcpy(want, refrig_step(p, &b), sizeof want);
    for (uint32_t at = 1; at < LAYERS; at++) {
        program *front = NULL, *back = NULL;
        CHECK_EQ(program_cut(&front, &back, p, at, NULL), OK);
        CHECK_EQ(program_layers(front), at);
        CHECK_EQ(program_layers(back), LAYERS - at);
        CHECK_EQ(front->state_floats + back->state_floats, p->state_floats);
        CHECK_EQ(front->ops_count + back->ops_count, p->ops_count + 2); /* TAKE_ROWS, INPUT */
        fill(&b, front, at); /* memory is forgotten in between: nothing of it is shared */
        memcpy(half, refrig_step(front, &b), sizeof half);
        fill(&b, back, LAYERS - at);
        take_two(&b);
        b.in.input = half;
        CHECK(memcmp(refrig_step(back, &b), want, sizeof want) == 0);
        program_destroy(front);
        program_destroy(back);
    }
    program_destroy(p);
}

TEST(program_cut_counts_bytes_of_either_part) {
    program *p = recorded(), *front = NULL, *back = NULL;
    CHECK_EQ(program_cut(&front, &back, p, 2, NULL), OK);
    CHECK(program_stored_bytes(front) > 0 && program_stored_bytes(back) > 0);
    CHECK_EQ(program_stored_bytes(front) + program_stored_bytes(back), program_stored_bytes(p));
    program_destroy(front);
    program_destroy(back);
    program_destroy(p);
}

/* So one list of an adapter's matrices does for both. */
TEST(program_cut_keeps_the_slots_of_what_can_be_adapted) {
    uint32_t found[LAYERS] = {0};
    program *p = refrig_program(), *parts[2] = {NULL, NULL};
    value_id x = refrig_input(p, 0, COLS);
    for (uint32_t i = 0; i < LAYERS; i++) {
        pg_layer(p, i);
        weight w = refrig_table(i + 1, COLS, COLS);
        w.name = S("adaptable");
        x = pg_matmul(p, linear(p, x, i + 1, COLS), w, NULL);
    }
    refrig_finish(p, x);
    CHECK_EQ(p->lora_slots, LAYERS);
    CHECK_EQ(program_cut(&parts[0], &parts[1], p, 3, NULL), OK);
    for (int k = 0; k < 2; k++) {
        CHECK_EQ(parts[k]->lora_slots, LAYERS);
        CHECK_EQ(parts[k]->max.lora_rank, p->max.lora_rank);
        for (uint32_t i = 0; i < parts[k]->ops_count; i++) {
            const op *o = &parts[k]->ops[i];
            if (o->lora_slot == LORA_SLOT_NONE) continue;
            CHECK_EQ(o->lora_slot, o->layer + (k == 1 ? 3 : 0));
            found[o->lora_slot]++;
        }
        program_destroy(parts[k]);
    }
    for (uint32_t i = 0; i < LAYERS; i++) CHECK_EQ(found[i], 1);
    program_destroy(p);
}

TEST(program_cut_refuses_where_more_than_one_value_crosses) {
    error err = {0};
    program *p = refrig_program(), *front = NULL, *back = NULL;
    value_id x = refrig_input(p, 0, COLS), early = pg_add(p, x, x);
    pg_layer(p, 1);
    value_id y = pg_add(p, x, x);
    pg_layer(p, 2);
    refrig_finish(p, pg_add(p, y, early));
    CHECK_EQ(program_cut(&front, &back, p, 2, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "2 values reach from layer 1 into layer 2, want 1");
    CHECK(front == NULL && back == NULL);
    program_destroy(p);
}
