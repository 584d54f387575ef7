/* program.h - a forward pass as a list of primitive operations, recorded once.
 *
 * An architecture's forward() calls the pg_* functions in the order of the paper; each
 * appends an op and returns the value it makes.  The finished program is what memory is
 * planned from, what backends fuse by pattern, and what a step runs again and again with
 * another batch.  Everything in it is a plain description: weights are borrowed views.
 *
 * Every value is a matrix of f32 with one row per row of the batch, or, after
 * pg_take_rows(), one row per row whose logits are wanted.
 * Owner: the engine that recorded it; immutable after program_finish(). */
#ifndef BACKEND_PROGRAM_H
#define BACKEND_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

/* X(name): the primitives.  Formulas stand at the pg_* functions below. */
#define OP_KINDS(X) \
    X(EMBED)        \
    X(NORM_RMS)     \
    X(MATMUL)       \
    X(ROPE)         \
    X(KV_WRITE)     \
    X(ATTENTION)    \
    X(ACT_MUL)      \
    X(ADD)          \
    X(TAKE_ROWS)

typedef enum op_kind {
#define OP_KIND_ENUM(name) OP_##name,
    OP_KINDS(OP_KIND_ENUM)
#undef OP_KIND_ENUM
        OP_KIND_COUNT
} op_kind;

const char *op_kind_name(op_kind kind);

/* [rows, cols] row-major, as stored; borrowed. */
typedef struct weight {
    dtype type;
    uint32_t rows;
    uint32_t cols;
    const void *data;
} weight;

typedef uint16_t value_id;
enum { VALUE_NONE = UINT16_MAX };

typedef struct op_rope {
    uint32_t heads;
    uint32_t head_dim;
    uint32_t dims;      /* rotated elements of each head, even */
    float base;         /* theta */
    float scale;        /* positions are divided by it */
    const float *freqs; /* [dims / 2] divisors of the frequencies, or NULL; borrowed */
} op_rope;

typedef struct op_attention {
    uint32_t heads;
    uint32_t kv_heads; /* divides heads */
    uint32_t head_dim;
    float scale; /* 1/sqrt(head_dim) */
} op_attention;

typedef struct op {
    op_kind kind;
    uint16_t layer;
    value_id out;
    value_id in[2];
    weight w;          /* EMBED, NORM_RMS, MATMUL */
    const float *bias; /* MATMUL: [w.rows] or NULL */
    union {
        float eps; /* NORM_RMS */
        op_rope rope;
        op_attention attn;
    };
} op;

typedef struct value {
    uint32_t cols;
    bool taken;      /* one row per wanted logits row */
    uint16_t op_def; /* index of the op that makes it */
    uint16_t op_end; /* index of the last op that reads it */
    size_t offset;   /* floats into the workspace; set by program_finish() */
} value;

typedef struct program {
    op *ops;
    uint32_t ops_count;
    value *values;
    uint32_t values_count;
    value_id logits;         /* the result: [taken rows, vocab] */
    uint32_t rows_max;       /* rows of a batch */
    uint32_t taken_rows_max; /* rows whose logits are wanted */
    uint32_t ctx_max;        /* tokens a row may look back on, itself included */
    size_t workspace_floats;
    uint32_t ops_cap, values_cap;
    uint16_t layer; /* stamped on the ops recorded now */
} program;

NODISCARD status program_create(program **out, uint32_t rows_max, uint32_t taken_rows_max,
                                uint32_t ctx_max, error *err);
/* Lay out the workspace: values whose lives do not overlap share memory, and an
 * element-wise result takes the place of an operand that dies with it. */
NODISCARD status program_finish(program *p, value_id logits, error *err);
void program_destroy(program *p);

/* The ops recorded from here on belong to this layer (its KV, reports). */
void pg_layer(program *p, uint32_t layer);

/* out[r] = table[token of row r]                                      [rows, w.cols] */
value_id pg_embed(program *p, weight table);
/* out = x * w / sqrt(mean(x^2) + eps)            (Zhang & Sennrich 2019, RMSNorm) */
value_id pg_norm_rms(program *p, value_id x, weight w, float eps);
/* out = x . w^T + bias                                                [rows, w.rows] */
value_id pg_matmul(program *p, value_id x, weight w, const float *bias);
/* Rotate pairs (2i, 2i+1) of each head by position / scale * base^(-2i/dims) / freqs[i]
 *                                           (Su et al. 2021, RoFormer, eq. 34) */
value_id pg_rope(program *p, value_id x, op_rope rope);
/* Store this row's keys and values in the KV cache of the current layer. */
void pg_kv_write(program *p, value_id k, value_id v);
/* Softmax(q . K^T * scale) . V over positions 0..own of the row's sequence; query head h
 * reads KV head h / (heads / kv_heads).               (Ainslie et al. 2023, GQA) */
value_id pg_attention(program *p, value_id q, op_attention attn);
/* out = silu(gate) * up                              (Shazeer 2020, SwiGLU) */
value_id pg_act_mul(program *p, value_id gate, value_id up);
value_id pg_add(program *p, value_id a, value_id b);
/* Keep the rows whose logits are wanted. */
value_id pg_take_rows(program *p, value_id x);

#endif
