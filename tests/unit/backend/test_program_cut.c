/* test_program_cut.c - a program in parts gives the bits of the whole (program_cut.c). */
#include <string.h>

#include "backend/ref_rig.h"
#include "base/assert.h"
#include "test.h"

enum { COLS = 16, HEADS = 2, DIM = 8, ROWS = 9, LAYERS = 4, STATES = 4, RESULTS = 2 * COLS };

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

/* What goes from part to part, of all rows. */
static float crossing[(ROWS + 3) * COLS];

/* One part's step.  Memory is forgotten before it: nothing of it is shared. */
static const float *step_part(const program *part, bool begins, bool ends) {
    static refrig_batch b;
    fill(&b, part, program_layers(part));
    if (ends) take_two(&b);
    if (!begins) b.in.input = crossing;
    return refrig_step(part, &b);
}

/* Parts that end before these layers, one after the other: the results of the last one, and how
 * many ops and floats of states they have together. */
static void step_parts(const program *p, const uint32_t *ends, uint32_t count, float *results,
                       uint32_t *ops, size_t *states) {
    *ops = 0;
    *states = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t first = i > 0 ? ends[i - 1] : 0;
        const bool last = i + 1 == count;
        program *part = NULL;
        CHECK_EQ(program_cut(&part, p, first, ends[i], NULL), OK);
        CHECK_EQ(program_layers(part), ends[i] - first);
        *ops += part->ops_count;
        *states += part->state_floats;
        const float *got = step_part(part, i == 0, last);
        memcpy(last ? results : crossing, got, last ? RESULTS * sizeof *got : sizeof crossing);
        program_destroy(part);
    }
}

TEST(program_cut_anywhere_gives_the_same_bits) {
    static const struct {
        uint32_t count, ends[LAYERS];
    } cases[] = {{1, {4}},       {2, {1, 4}},    {2, {2, 4}},      {2, {3, 4}},
                 {3, {1, 2, 4}}, {3, {1, 3, 4}}, {4, {1, 2, 3, 4}}};
    float want[RESULTS], got[RESULTS];
    program *p = recorded();
    CHECK_EQ(program_layers(p), LAYERS);
    memcpy(want, step_part(p, true, true), sizeof want);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t ops = 0;
        size_t states = 0;
        step_parts(p, cases[i].ends, cases[i].count, got, &ops, &states);
        CHECK_EQ(ops, p->ops_count + 2 * (cases[i].count - 1)); /* TAKE_ROWS, INPUT */
        CHECK_EQ(states, p->state_floats);
        CHECK(memcmp(got, want, sizeof want) == 0);
    }
    program_destroy(p);
}

TEST(program_cut_counts_bytes_of_every_part) {
    program *p = recorded();
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < LAYERS; i++) {
        program *part = NULL;
        CHECK_EQ(program_cut(&part, p, i, i + 1, NULL), OK);
        CHECK(program_stored_bytes(part) > 0);
        bytes += program_stored_bytes(part);
        program_destroy(part);
    }
    CHECK_EQ(bytes, program_stored_bytes(p));
    program_destroy(p);
}

/* So one list of an adapter's matrices does for all parts. */
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
    CHECK_EQ(program_cut(&parts[0], p, 0, 3, NULL), OK);
    CHECK_EQ(program_cut(&parts[1], p, 3, LAYERS, NULL), OK);
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
    program *p = refrig_program(), *part = NULL;
    value_id x = refrig_input(p, 0, COLS), early = pg_add(p, x, x);
    pg_layer(p, 1);
    value_id y = pg_add(p, x, x);
    pg_layer(p, 2);
    refrig_finish(p, pg_add(p, y, early));
    for (uint32_t first = 0; first < 3; first += 2) { /* at either end of the part */
        CHECK_EQ(program_cut(&part, p, first, first == 0 ? 2 : 3, &err), ERR_UNSUPPORTED);
        CHECK_HAS(err.msg, "2 values reach from layer 1 into layer 2, want 1");
        CHECK(part == NULL);
    }
    program_destroy(p);
}
