/* program.h - a forward pass as a list of primitive operations, recorded once.
 *
 * An architecture's forward() calls the pg_* functions in the order of the paper; each
 * appends an op and returns the value it makes.  The finished program is what memory is
 * planned from, what backends fuse by pattern, and what a step runs again and again with
 * another batch.  Everything in it is a plain description: weights are borrowed views.
 *
 * Every value is a matrix of f32 with one row per row of a row set: all rows of the batch; after
 * the first pg_take_rows() the taken rows, whose hidden state is wanted; after the second one the
 * head rows, whose logits are wanted.
 * Owner: the engine that recorded it; immutable after program_finish(). */
#ifndef BACKEND_PROGRAM_H
#define BACKEND_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "tensor/dtype.h"
#include "tensor/formula.h"
#include "tensor/packed.h"

/* X(name): the primitives.  Formulas stand at the pg_* functions below. */
#define OP_KINDS(X) \
    X(INPUT)        \
    X(EMBED)        \
    X(EMBED_POS)    \
    X(NORM)         \
    X(MATMUL)       \
    X(HEADS_MATMUL) \
    X(ROPE)         \
    X(KV_WRITE)     \
    X(ATTENTION)    \
    X(ACT)          \
    X(ACT_MUL)      \
    X(ADD)          \
    X(ADD_ROW)      \
    X(MUL)          \
    X(MUL_ROW)      \
    X(MUL_COL)      \
    X(ROUTE)        \
    X(EXPERTS)      \
    X(EXPERTS_SUM)  \
    X(CONV)         \
    X(SCAN)         \
    X(SHIFT)        \
    X(WKV)          \
    X(TAKE_ROWS)    \
    X(HOST)

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
    const void *data;            /* NULL with `packed` */
    const packed_matrix *packed; /* instead of data: rows that packed_rows() unpacks, or NULL */
    str name;                    /* of the tensor in the model, for adapters and messages */
    uint32_t row0;               /* this is rows row0.. of that tensor, and of `packed`; data
                                    begins at them */
} weight;

typedef uint16_t value_id;
enum { VALUE_NONE = UINT16_MAX, OP_INPUTS_MAX = 6, LORA_SLOT_NONE = UINT16_MAX };

typedef struct op_norm {
    norm_kind kind;
    uint32_t group;    /* consecutive columns that are normalised together; divides the columns */
    float eps;         /* added to the mean square or variance */
    const float *gain; /* [gain_len] or NULL */
    const float *bias; /* [gain_len] or NULL */
    uint32_t gain_len; /* group: every group has the same; all columns: each group its own */
} op_norm;

typedef struct op_rope {
    uint32_t heads;
    uint32_t head_dim;
    uint32_t first; /* the rotated elements of each head are first .. first + dims */
    uint32_t dims;  /* even */
    rope_pairs pairs;
    const double *freqs; /* [dims / 2] radians per position of each pair; borrowed */
    float magnitude;     /* the rotated elements are multiplied by it; 1 mostly */
} op_rope;

typedef struct op_attention {
    uint32_t heads;
    uint32_t kv_heads;   /* divides heads */
    uint32_t key_dim;    /* of a head of q and of K */
    uint32_t value_dim;  /* of a head of V and of the result */
    float scale;         /* of the scores; mostly 1/sqrt(key_dim) */
    float softcap;       /* scores become softcap * tanh(score / softcap); 0: not */
    uint32_t window;     /* position i sees j where i - j < window; 0: all */
    bool causal;         /* i sees no j > i; else it sees all tokens of its sequence, which is
                             whole in the batch */
    const float *sinks;  /* [heads] logits that take part in the softmax and have no value;
                             borrowed, or NULL              (Xiao et al. 2023; gpt-oss) */
    const float *slopes; /* [heads] scores get -slope * |i - j|; borrowed, or NULL
                                                            (Press et al. 2021, ALiBi) */
} op_attention;

/* out of each head = [ its first in_dim elements . W_head | its other elements as they are ].
 * W_head is rows row0 + head * row_stride .. + w_rows of w; out_dim elements come from it:
 *   transposed: w_rows is in_dim, out_dim is w.cols:   out[c] = sum over j of x[j] * W[j][c]
 *   else:       w.cols is in_dim, out_dim is w_rows:   out[j] = x . W[j]  */
typedef struct op_heads_matmul {
    uint32_t heads;
    uint32_t in_dim;
    uint32_t tail_dim; /* elements of each head behind in_dim */
    uint32_t w_rows;
    uint32_t row0;
    uint32_t row_stride;
    uint32_t out_dim;
    bool transposed;
} op_heads_matmul;

typedef struct op_act {
    act_kind kind;
    float a, b;
} op_act;

typedef struct op_route {
    route_kind kind;
    uint32_t experts;
    uint32_t used;     /* 1..experts */
    bool normalize;    /* weights of the used ones sum to 1 */
    float scale;       /* weights are multiplied by it, last */
    const float *bias; /* [experts] added for the choice only, not to the weight; or NULL */
    uint32_t groups;   /* > 1: only experts of the groups_used best groups; a group's score
                              is the sum of its two best (with bias), or its best (without) */
    uint32_t groups_used;
} op_route;

/* One matrix per expert, all of one shape and type. */
typedef struct op_experts {
    const weight *w; /* [experts]; owned by the program */
    uint32_t experts;
    uint32_t used;
    const float *bias; /* [experts, rows] or NULL */
    bool shared_in;    /* all used experts read the same columns; else each its own */
} op_experts;

/* States live outside the program: a piece of each sequence's state memory, at this offset. */
typedef struct op_state {
    size_t offset; /* floats */
    size_t floats;
    const float *w;    /* CONV: [cols, width]; SCAN: A [cols, states]; WKV: first [cols] */
    const float *bias; /* CONV: [cols] or NULL; SCAN: D [cols] */
    uint32_t width;    /* CONV: taps; SCAN: states per column; WKV: elements per head */
} op_state;

typedef struct op {
    op_kind kind;
    uint16_t layer;
    value_id out;
    value_id in[OP_INPUTS_MAX];
    uint16_t lora_slot; /* MATMUL: index among the program's adaptable weights, or NONE */
    weight w;           /* EMBED, EMBED_POS, MATMUL, HEADS_MATMUL */
    const float *row;   /* MATMUL: bias [w.rows] or NULL; ADD_ROW, MUL_ROW: [cols] */
    union {
        op_norm norm;
        op_rope rope;
        op_attention attn;
        op_heads_matmul heads;
        op_act act; /* ACT, ACT_MUL */
        op_route route;
        op_experts experts;
        op_state state; /* CONV, SCAN, SHIFT, WKV */
        bool routed;    /* INPUT: of batch.routed */
    };
} op;

typedef enum row_set { ROWS_ALL, ROWS_TAKEN, ROWS_HEAD } row_set;

typedef struct value {
    uint32_t cols;
    row_set rows;
    uint16_t op_def; /* index of the op that makes it */
    uint16_t op_end; /* index of the last op that reads it */
    size_t offset;   /* floats into the workspace; set by program_finish() */
} value;

/* How many rows a step has at most. */
typedef struct program_limits {
    uint32_t rows;      /* of a batch */
    uint32_t taken;     /* whose hidden state is wanted */
    uint32_t head;      /* whose logits are wanted */
    uint32_t ctx;       /* tokens a row may look at, itself included */
    uint32_t ctx_asked; /* what the context was asked to be, >= ctx: LongRoPE chooses by it */
    uint32_t lora_rank; /* of an adapter; 0: no adapters */
    uint32_t seats;     /* sequences in a batch; 0: as many as rows */
} program_limits;

typedef struct program {
    op *ops;
    uint32_t ops_count;
    value *values;
    uint32_t values_count;
    program_limits max;
    value_id hidden; /* [taken rows, n_embd] after the last norm */
    value_id logits; /* [head rows, vocab]; VALUE_NONE where the model has no head */
    size_t workspace_floats;
    size_t state_floats; /* of each sequence */
    uint32_t lora_slots; /* adaptable weights; of a part all those of the whole */
    bool goes_on;        /* a part whose hidden states are what the next one's INPUT takes */
    uint32_t ops_cap, values_cap;
    weight **blocks; /* owned arrays behind op_experts.w */
    uint32_t blocks_count, blocks_cap;
    uint16_t layer; /* stamped on the ops recorded now */
} program;

NODISCARD status program_create(program **out, const program_limits *max, error *err);
/* Lay out the workspace: values whose lives do not overlap share memory, and an
 * element-wise result takes the place of its first operand when that dies with it.  Both results
 * live to the end of the step. */
NODISCARD status program_finish(program *p, value_id hidden, value_id logits, error *err);
void program_destroy(program *p);

/* Layers first .. end - 1 of a program as one of its own, first < end <= program_layers(p); its
 * layers count from 0.  With layer 0 comes what is before all layers, with the last one what is
 * behind them, and p's results.  One that does not begin p begins with INPUT; one that does not end
 * it has the rows that go on as its hidden states: every step of it takes all rows.  *out borrows
 * from p.  States of a part are a run of p's; what can be adapted keeps its slot.  ERR_UNSUPPORTED:
 * not just one value crosses. */
NODISCARD status program_cut(program **out, const program *p, uint32_t first, uint32_t end,
                             error *err);

/* A program whose routed experts are computed in two places, as two programs.  In `device` what the
 * EXPERTS of the first `layers` layers that have any compute, from the router's choice to their
 * sum, is a single op HOST of the normed rows and that choice.  In `host` these are layers 0 ..
 * layers - 1, each of which begins with two INPUTs, the normed rows and the choice, and ends with
 * the EXPERTS_SUM: for backend_ops.step_layer.  Both borrow from p.  1 <= layers <=
 * program_expert_layers(p).  ERR_UNSUPPORTED: a layer's experts are made of something else. */
NODISCARD status program_split_experts(program **device, program **host, const program *p,
                                       uint32_t layers, error *err);
uint32_t program_expert_layers(const program *p); /* that have experts */
uint32_t program_host_layers(const program *p);   /* whose experts are computed elsewhere */

/* Layers that its ops belong to. */
uint32_t program_layers(const program *p);

/* Of its weights as they are stored; one that several ops read counts for each of them. */
uint64_t program_stored_bytes(const program *p);

/* The most rows a value of this set can have. */
uint32_t program_rows_max(const program *p, row_set rows);

/* The ops recorded from here on belong to this layer (its KV, reports). */
void pg_layer(program *p, uint32_t layer);
/* `count` weights that live as long as the program, for the caller to fill: experts. */
weight *pg_weights(program *p, uint32_t count);

/* --- rows in and out --- */
/* out = batch.input: what another program has left.  The first op, or of a layer  [rows, cols] */
value_id pg_input(program *p, uint32_t cols);
/* out = batch.routed                                                       [rows, 2 * used] */
value_id pg_input_routed(program *p, uint32_t used);
/* out[r] = table[token of row r]                                      [rows, w.cols] */
value_id pg_embed(program *p, weight table);
/* out[r] = table[position of row r]                                   [rows, w.cols] */
value_id pg_embed_pos(program *p, weight table);
/* First call: keep the rows whose hidden state is wanted; second: those whose logits are. */
value_id pg_take_rows(program *p, value_id x);

/* --- row by row --- */
/* out = normalised x, group by group, * gain + bias */
value_id pg_norm(program *p, value_id x, op_norm norm);
/* out = x . w^T + bias                                                [rows, w.rows]
 * A weight with a name can be adapted: + scale * (x . A^T) . B^T for the adapters of the row
 *                                                            (Hu et al. 2021, LoRA) */
value_id pg_matmul(program *p, value_id x, weight w, const float *bias);
/* See op_heads_matmul.      [rows, heads * (in_dim + tail)] -> [rows, heads * (out_dim + tail)] */
value_id pg_heads_matmul(program *p, value_id x, weight w, op_heads_matmul heads);
/* Turn each pair of a head by position * freqs[i], and scale it by magnitude
 *                                           (Su et al. 2021, RoFormer, eq. 34) */
value_id pg_rope(program *p, value_id x, op_rope rope);
value_id pg_act(program *p, value_id x, op_act act);
/* out = act(gate) * up                      (Shazeer 2020, "GLU Variants") */
value_id pg_act_mul(program *p, value_id gate, value_id up, op_act act);
value_id pg_add(program *p, value_id a, value_id b);
value_id pg_mul(program *p, value_id a, value_id b);
value_id pg_add_row(program *p, value_id x, const float *row); /* out[r] = x[r] + row */
value_id pg_mul_row(program *p, value_id x, const float *row); /* out[r] = x[r] * row */
value_id pg_mul_col(program *p, value_id x, value_id s);       /* s [rows, 1]: x[r] * s[r] */

/* --- attention --- */
/* Store this row's keys and values in the KV cache of the current layer.  Where the layout says
 * v_in_k, a K row is k followed by v. */
void pg_kv_write(program *p, value_id k, value_id v);
/* Softmax(q . K^T * scale ...) . V over what the row sees; query head h reads KV head
 * h / (heads / kv_heads).                                 (Ainslie et al. 2023, GQA)
 *                                   [rows, heads * key_dim] -> [rows, heads * value_dim] */
value_id pg_attention(program *p, value_id q, op_attention attn);

/* --- mixture of experts (Shazeer et al. 2017) --- */
/* Router logits [rows, experts] -> [rows, 2 * used]: the numbers of the used experts (as floats),
 * best first, ties to the lower number; then their weights. */
value_id pg_route(program *p, value_id logits, op_route route);
/* x [rows, w.cols] when shared_in, else [rows, used * w.cols] -> [rows, used * w.rows] */
value_id pg_experts(program *p, value_id x, value_id routed, op_experts experts);
/* [rows, used * cols] -> [rows, cols]: sum over the used experts, each times its weight */
value_id pg_experts_sum(program *p, value_id x, value_id routed, uint32_t used);
/* Experts that are computed elsewhere: program_split_experts().  -> [rows, cols] */
value_id pg_host(program *p, value_id x, value_id routed, uint32_t cols);

/* --- state-space layers: rows of one sequence are taken in order, and what they leave is kept in
 * the sequence's state; a row at position 0 begins with a state of zeros --- */
/* Causal depthwise convolution: out[r][c] = bias[c] + sum over i < width of
 * w[c][i] * x[r - width + 1 + i][c]; state: the last width - 1 rows. */
value_id pg_conv(program *p, value_id x, const float *w, const float *bias, uint32_t width);
/* Selective scan (Gu & Dao 2023, Mamba): h = exp(dt * A) * h + dt * B * x; out = C . h + D * x,
 * for each column c of x with `states` states of its own.
 *   x, dt [rows, cols]   B, C [rows, states]   A [cols, states]   D [cols] */
value_id pg_scan(program *p, value_id x, value_id dt, value_id b, value_id c, const float *a,
                 const float *d, uint32_t states);
/* out[r] = x[r - 1]; state: the last row. */
value_id pg_shift(program *p, value_id x);
/* RWKV-6 (Peng et al. 2024): for each head with state S [dim (of k), dim (of v)]:
 *   out = r . (S + first * k^T v);  S = decay * S + k^T v     (rows of S scaled by decay)
 *   r, k, v, decay [rows, heads * dim]   first [heads * dim] */
value_id pg_wkv(program *p, value_id r, value_id k, value_id v, value_id decay, const float *first,
                uint32_t dim);

#endif
