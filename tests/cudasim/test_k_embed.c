/* test_k_embed.c - rows of tables of every form, and rows taken by index. */
#include "cudasim/oracle.h"
#include "cudasim/packed_weight.h"
#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

static k_embed_args embed_args(const packed_weight *w, const uint32_t *ids, uint32_t rows,
                               float *out, uint32_t *fault) {
    return (k_embed_args){.table = w->matrix,
                          .ids = rig_at(ids),
                          .out = rig_at(out),
                          .count = rig_count(rows),
                          .error = rig_at(fault)};
}

TEST(k_embed_reads_every_form_exactly) {
    enum { TABLE = 9, ROWS = 3 };
    static const uint32_t ids[ROWS] = {8, 0, 5}, zero[1];
    static const uint32_t float_cols[] = {1, 31, 33, 257};
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < PACKED_TYPES + 4; i++) {
            uint32_t cols = i < PACKED_TYPES ? 768 : float_cols[i - PACKED_TYPES];
            packed_weight w =
                packed_weight_random(packed_types[i < PACKED_TYPES ? i : i % 3], TABLE, cols, 2);
            uint32_t *fault = rig_copy(zero, sizeof zero);
            float *out = rig_buffer((size_t)ROWS * cols * sizeof *out);
            oracle_begin(ROWS);
            for (uint32_t r = 0; r < ROWS; r++) oracle_batch()->tokens[r] = (int32_t)ids[r];
            const float *want = oracle_end(pg_embed(oracle_program(), w.stored));
            k_embed_args a = embed_args(&w, rig_copy(ids, sizeof ids), ROWS, out, fault);
            rig_run(arch, "k_embed", &a, ROWS + 1, 1, 256, 0);
            rig_near(out, want, (size_t)ROWS * cols, 0); /* but for the sign of zeros */
            CHECK_EQ(*fault, 0);
        }
    }
    rig_done();
}

TEST(k_embed_of_ids_that_are_not_in_the_table) {
    enum { COLS = 300, ROWS = 4 };
    static const uint32_t ids[ROWS] = {1, 2, 0xffffffffu, 0}, zero[1];
    RIG_EACH(arch) {
        packed_weight w = packed_weight_random(DTYPE_F16, 2, COLS, 1);
        uint32_t *fault = rig_copy(zero, sizeof zero);
        float *out = rig_buffer((size_t)ROWS * COLS * sizeof *out);
        k_embed_args a = embed_args(&w, rig_copy(ids, sizeof ids), ROWS, out, fault);
        rig_run(arch, "k_embed", &a, ROWS, 1, 256, 0);
        CHECK_EQ(*fault, 3); /* the last row that is wrong, from 1 */
        uint32_t zeros = 0;
        for (uint32_t c = 0; c < 2 * COLS; c++) zeros += out[COLS + c] == 0;
        CHECK_EQ(zeros, 2 * COLS);
        CHECK(out[0] != 0 && out[3 * COLS] != 0);
    }
    rig_done();
}

TEST(k_take_rows_takes_them_in_the_order_of_the_index) {
    enum { COLS = 257, ROWS = 5, TAKEN = 3 };
    static const uint32_t index[TAKEN] = {4, 0, 2};
    RIG_EACH(arch) {
        float *x = rig_buffer(sizeof(float) * ROWS * COLS),
              *out = rig_buffer(sizeof(float) * TAKEN * COLS);
        rig_fill(x, (size_t)ROWS * COLS, 1);
        k_take_rows_args a = {.x = rig_at(x),
                              .index = rig_at(rig_copy(index, sizeof index)),
                              .out = rig_at(out),
                              .count = rig_count(TAKEN),
                              .cols = COLS};
        rig_run(arch, "k_take_rows", &a, TAKEN + 2, 1, 256, 0);
        for (uint32_t i = 0; i < TAKEN; i++)
            rig_same(out + (size_t)i * COLS, x + (size_t)index[i] * COLS, COLS * sizeof *x);
    }
    rig_done();
}

TEST(k_embed_takes_tokens_of_the_step_before) {
    enum { COLS = 40, ROWS = 4, TABLE = 6 };
    static const uint32_t ids[ROWS] = {~1u, 3, ~0u, ~2u}, made[3] = {5, 0, TABLE}, zero[1];
    static const uint32_t want[ROWS] = {0, 3, 5, TABLE};
    RIG_EACH(arch) {
        packed_weight w = packed_weight_random(DTYPE_F16, TABLE, COLS, 1);
        uint32_t *fault = rig_copy(zero, sizeof zero), *plain_fault = rig_copy(zero, sizeof zero);
        float *out = rig_buffer((size_t)ROWS * COLS * sizeof *out),
              *plain = rig_buffer((size_t)ROWS * COLS * sizeof *plain);
        k_embed_args a = embed_args(&w, rig_copy(ids, sizeof ids), ROWS, out, fault);
        a.made = rig_at(rig_copy(made, sizeof made));
        rig_run(arch, "k_embed", &a, ROWS, 1, 256, 0);
        a = embed_args(&w, rig_copy(want, sizeof want), ROWS, plain, plain_fault);
        rig_run(arch, "k_embed", &a, ROWS, 1, 256, 0);
        rig_same(out, plain, (size_t)ROWS * COLS * sizeof *out);
        CHECK_EQ(*fault, 4); /* the last row's, which is in no table either way */
        CHECK_EQ(*plain_fault, 4);
    }
    rig_done();
}
