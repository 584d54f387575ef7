/* test_k_heads.c - heads times matrices of their own, both ways, in every form. */
#include "cudasim/oracle.h"
#include "cudasim/packed_weight.h"
#include "cudasim/rig.h"
#include "test.h"

#include "abi.h"

/* NMSE: the weights are exact, the sums in f32. */
static const double CLOSE = 1e-12;

typedef struct heads_case {
    uint32_t heads, rows;
    uint32_t w_rows, cols; /* of a head's matrix */
    uint32_t row0, row_stride, tail_dim;
    bool transposed;
} heads_case;

static k_heads_matmul_args args_of(const heads_case *c, const packed_weight *w) {
    return (k_heads_matmul_args){.w = w->matrix,
                                 .count = rig_count(c->rows),
                                 .heads = c->heads,
                                 .in_dim = c->transposed ? c->w_rows : c->cols,
                                 .tail_dim = c->tail_dim,
                                 .w_rows = c->w_rows,
                                 .row0 = c->row0,
                                 .row_stride = c->row_stride,
                                 .out_dim = c->transposed ? c->cols : c->w_rows,
                                 .transposed = c->transposed};
}

static void check_heads(int arch, const heads_case *c, dtype type) {
    uint32_t all_rows = c->row0 + (c->heads - 1) * c->row_stride + c->w_rows;
    packed_weight w = packed_weight_random(type, all_rows, c->cols, 1);
    k_heads_matmul_args a = args_of(c, &w);
    uint32_t x_cols = c->heads * (a.in_dim + a.tail_dim),
             out_cols = c->heads * (a.out_dim + a.tail_dim);
    float *x = rig_buffer((size_t)c->rows * x_cols * sizeof *x);
    float *out = rig_buffer((size_t)c->rows * out_cols * sizeof *out);
    rig_fill(x, (size_t)c->rows * x_cols, 1);
    a.x = rig_at(x);
    a.out = rig_at(out);
    op_heads_matmul heads = {a.heads, a.in_dim,     a.tail_dim, a.w_rows,
                             a.row0,  a.row_stride, a.out_dim,  c->transposed};
    oracle_begin(c->rows);
    value_id v = oracle_input(x, x_cols);
    const float *want = oracle_end(pg_heads_matmul(oracle_program(), v, w.stored, heads));
    rig_run(arch, "k_heads_matmul", &a, c->heads, c->rows + 1, 128, 0);
    rig_close(out, want, (size_t)c->rows * out_cols, CLOSE);
}

TEST(k_heads_matmul_of_every_form_both_ways) {
    RIG_EACH(arch) {
        for (uint32_t i = 0; i < 2 * PACKED_TYPES; i++) {
            bool super = packed_types[i / 2] >= DTYPE_Q4_K && packed_types[i / 2] <= DTYPE_Q6_K;
            heads_case c = {.heads = 2,
                            .rows = 3,
                            .w_rows = i % 2 == 0 ? 7 : 33,
                            .cols = super ? 256 : 96,
                            .row0 = 3,
                            .row_stride = 40,
                            .tail_dim = 5,
                            .transposed = i % 2 != 0};
            check_heads(arch, &c, packed_types[i / 2]);
        }
    }
    rig_done();
}

TEST(k_heads_matmul_of_odd_shapes) {
    static const heads_case cases[] = {
        {1, 1, 1, 1, 0, 1, 0, false},      {1, 2, 31, 33, 0, 31, 0, true},
        {3, 1, 100, 31, 2, 100, 1, false}, {2, 1, 1, 257, 0, 0, 70, true},
        {1, 3, 257, 1, 0, 257, 3, true},
    };
    static const heads_case blocks[] = {{2, 2, 128, 512, 0, 128, 64, true},
                                        {2, 2, 128, 512, 0, 128, 0, false},
                                        {1, 1, 9, 1088, 0, 9, 0, false},
                                        {1, 1, 9, 4160, 0, 9, 0, true}};
    RIG_EACH(arch) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            check_heads(arch, &cases[i], packed_types[i % 3]);
        for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
            check_heads(arch, &blocks[i], DTYPE_Q8_0);
    }
    rig_done();
}
