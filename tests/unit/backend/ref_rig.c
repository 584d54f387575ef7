/* ref_rig.c - see ref_rig.h. */
#include "ref_rig.h"

#include <math.h>

#include "test.h"

enum { BLOCKS_PER_SEAT = 4, KV_FLOATS = 1 << 16, STATE_FLOATS = 1 << 16 };

static float tables[REFRIG_TABLES][REFRIG_SEQS * REFRIG_TOKENS_MAX * REFRIG_COLS_MAX];
static float kv_memory[KV_FLOATS], state_memory[STATE_FLOATS];
static float hidden_copy[REFRIG_ROWS_MAX * REFRIG_COLS_MAX];
/* block ids in no order, [seats, BLOCKS_PER_SEAT] */
static const uint32_t block_table[REFRIG_SEQS * BLOCKS_PER_SEAT] = {9, 2, 14, 7, 0,  11, 5,  3,
                                                                    8, 1, 13, 6, 15, 4,  10, 12};

const float *refrig_vector(uint32_t id) {
    float *t = tables[id];
    uint64_t random = id + 1;
    for (size_t i = 0; i < sizeof tables[0] / sizeof tables[0][0]; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        t[i] = (float)(int32_t)(random >> 32) / 0x1p31f;
    }
    return t;
}

weight refrig_table(uint32_t id, uint32_t rows, uint32_t cols) {
    CHECK((size_t)rows * cols <= sizeof tables[0] / sizeof tables[0][0]);
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = cols, .data = refrig_vector(id)};
}

value_id refrig_input(program *p, uint32_t id, uint32_t cols) {
    return pg_embed(p, refrig_table(id, REFRIG_SEQS * REFRIG_TOKENS_MAX, cols));
}

double refrig_x(uint32_t id, uint32_t cols, uint32_t seq, uint32_t pos, uint32_t c) {
    return (double)tables[id][(size_t)(seq * REFRIG_TOKENS_MAX + pos) * cols + c];
}

program *refrig_program(void) {
    program_limits max = {.rows = REFRIG_ROWS_MAX,
                          .taken = REFRIG_ROWS_MAX,
                          .head = REFRIG_ROWS_MAX,
                          .ctx = REFRIG_TOKENS_MAX,
                          .lora_rank = REFRIG_RANK_MAX};
    program *p = NULL;
    CHECK_EQ(program_create(&p, &max, NULL), OK);
    return p;
}

void refrig_finish(program *p, value_id v) {
    CHECK_EQ(program_finish(p, pg_take_rows(p, v), VALUE_NONE, NULL), OK);
}

/* --- batches --- */

void refrig_forget(void) {
    for (size_t i = 0; i < KV_FLOATS; i++) kv_memory[i] = NAN;
    for (size_t i = 0; i < STATE_FLOATS; i++) state_memory[i] = NAN;
}

void refrig_batch_init(refrig_batch *b, const program *p, kv_layout layout) {
    CHECK(kv_block_bytes(&layout) * REFRIG_SEQS * BLOCKS_PER_SEAT <= sizeof kv_memory);
    CHECK(p->state_floats * REFRIG_SEQS <= STATE_FLOATS);
    memset(b, 0, sizeof *b);
    b->in = (batch){.tokens = b->tokens,
                    .pos = b->pos,
                    .seats = b->seats,
                    .runs = b->runs,
                    .taken = b->taken,
                    .head = b->head,
                    .kv = {layout, kv_memory, block_table, BLOCKS_PER_SEAT},
                    .states = state_memory,
                    .loras = b->loras};
}

void refrig_batch_run(refrig_batch *b, uint32_t seat, uint32_t seq, uint32_t pos0, uint32_t rows) {
    b->runs[b->in.runs_count++] = (batch_run){b->in.rows, rows, seat, pos0};
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t r = b->in.rows++;
        b->tokens[r] = (int32_t)(seq * REFRIG_TOKENS_MAX + pos0 + i);
        b->pos[r] = pos0 + i;
        b->seats[r] = seat;
        b->taken[r] = b->head[r] = r;
    }
    b->in.taken_rows = b->in.head_rows = b->in.rows;
}

/* --- running --- */

const float *refrig_step(const program *p, const refrig_batch *b) {
    backend *ref = NULL;
    CHECK_EQ(
        backend_ref.open(&ref, p, &(backend_options){.threads = 1, .isa_cap = CPU_ISA_AUTO}, NULL),
        OK);
    step_result result = backend_ref.step(ref, &b->in);
    CHECK(p->logits != VALUE_NONE || result.logits == NULL);
    size_t floats = (size_t)b->in.taken_rows * p->values[p->hidden].cols;
    CHECK(floats <= sizeof hidden_copy / sizeof hidden_copy[0]);
    memcpy(hidden_copy, result.hidden, floats * sizeof(float));
    backend_ref.close(ref);
    return hidden_copy;
}

const float *refrig_rows(program *p, value_id v, uint32_t rows) {
    refrig_batch b;
    refrig_finish(p, v);
    refrig_forget();
    refrig_batch_init(&b, p, (kv_layout){.type = DTYPE_F32});
    refrig_batch_run(&b, 0, 0, 0, rows);
    const float *out = refrig_step(p, &b);
    program_destroy(p);
    return out;
}

void refrig_check(float got, double want, const char *what, uint32_t at) {
    bool near = fabs((double)got - want) <= 1e-6 * (1 + fabs(want));
    if (!near) (void)fprintf(stderr, "%s [%u]: %.9g, want %.9g\n", what, at, (double)got, want);
    CHECK(near);
}
