/* cuda_lower.h - a program on its way to launches: what the files of the lowering share.
 *
 * Ops are taken in their order.  Several become one launch where nobody sees it:
 *   NORM, ACT, ACT_MUL or ATTENTION, then       what makes the value writes codes and sums as well,
 *   products with quantized weights             and its f32 only when somebody else reads them
 *   ADD, then NORM of the sum                   the norm adds first
 *   MATMUL, then ADD of the product             the product adds
 *   MATMULs of one value next to each other,    up to three have their blocks in one launch: q, k
 *   with weights of one form                    and v; gate and up
 *   ROPE of q and of k, then KV_WRITE           k is turned on its way into the cache, q beside it;
 *                                               the norm of k may stand between the turns
 * A dense layer is nine launches: norm; q, k, v; turns and write; attention; o with the sum; norm;
 * gate, up; their product; down with the sum.  A step of one row has five of them, as products go
 * on with what comes behind (cuda_lower_tail.c): q, k, v, turns and write; attention; o, sum and
 * norm; gate, up and their product; down, sum and the next norm.
 *
 * In mode `fast` a product over all rows is two launches with the same arguments where the device
 * has a kernel for prompts: of the generated rows, and of those of prompts.  So is attention with
 * heads of the dimensions that there are kernels for, where the cache is of F16 or Q8.  A step that
 * has no rows of one kind has no launch for it.  So are the products of EXPERTS, ahead of which
 * k_group sorts what the rows of prompts use: once for each ROUTE unless another one comes between,
 * as there is one place for its lists.  Where rows that are none of a prompt are many enough for
 * some to meet at an expert, they have the same, in smaller tiles and a place of their own.
 *
 * Products with weights of F16 and BF16 are made on tensor cores in this mode also for these rows,
 * from one row on: their bits are others than those of mode `exact`.
 *
 * Where products may be adapted there is a second list, for steps in which rows have adapters: no
 * product goes on with what comes behind it, those that can be adapted have two launches more
 * (cuda_lower_adapter.c), and what they read is there as f32.  The first list is as if there were
 * none.
 *
 * A value is turned into codes once, however many products read it, as long as no other value was
 * in between: there is one place for codes, and one for a row of gates. */
#ifndef BACKEND_CUDA_LOWER_H
#define BACKEND_CUDA_LOWER_H

#include "backend/cuda/cuda_internal.h"

typedef enum lower_state {
    LOWER_TODO,
    LOWER_FUSED,   /* computed together with another op */
    LOWER_EMITTED, /* ahead of its turn, by launches of its own */
} lower_state;

typedef struct lowering {
    cuda_lowered *out;
    const cuda_layout *l;
    const program *p;
    cuda_bases bases;
    cuda_prompts prompts;
    value_id codes_of; /* whose codes are in their place; VALUE_NONE */
    value_id gated;    /* whose codes of a step of one row are in the place for gates; VALUE_NONE */
    value_id grouped;  /* the ROUTE whose pairs are in the place for those; VALUE_NONE */
    value_id few_grouped; /* of rows that are none of a prompt, likewise, ... */
    uint32_t few_tile;    /* ... in such tiles */
    cuda_when when;       /* for launches that are emitted now */
    bool adapters;        /* they are those of the second list */
    lower_state *done;    /* owned; [ops] */
    bool *only_codes;     /* owned; [values] its f32 are never written */
} lowering;

/* --- addresses; 0 for what there is none of --- */
cu_ptr lower_value(const lowering *w, value_id v);
cu_ptr lower_constant(const lowering *w, const void *data, uint64_t bytes);
cu_ptr lower_floats(const lowering *w, const float *data, uint64_t count);
cu_ptr lower_descriptor(const lowering *w, uint64_t offset);
/* Where the step has the number of rows of this set, or of its runs. */
cu_ptr lower_count(const lowering *w, row_set rows);
cu_ptr lower_count_runs(const lowering *w);
/* ... of rows that were generated, and behind it of all. */
cu_ptr lower_count_generated(const lowering *w);
ck_matrix lower_matrix(const lowering *w, uint32_t op_idx); /* the op's weight */

/* A launch is described by what differs from one block per row. */
status lower_emit(lowering *w, const cuda_launch_entry *e, const void *args, size_t args_bytes,
                  error *err);
#define LOWER_EMIT(w, entry, args, err) lower_emit((w), (entry), (args), sizeof *(args), (err))

/* The launch that was emitted last computes this op, too. */
void lower_covers(lowering *w, uint32_t op_idx);

/* Blocks that cover `cols` elements, `per` each. */
static inline uint32_t lower_blocks(uint32_t cols, uint32_t per) {
    return cols / per + (cols % per != 0);
}

/* Are rows that are none of a prompt multiplied on tensor cores with this op's weights, of F16 or
 * BF16, however few they are? */
bool lower_in_halves(const lowering *w, uint32_t op_idx);

/* The rows of an op are those of its result, or of what it reads. */
row_set lower_rows(const lowering *w, const op *o);

/* --- cuda_lower_values.c: who reads a value, and where it lies --- */
/* Does this op read the codes of its first operand?  One that wants pairs makes them for itself. */
bool lower_reads_codes(const lowering *w, uint32_t op_idx);
/* The op behind this one, if it is of that kind and the only one that reads this one's result. */
const op *lower_only_reader(const lowering *w, uint32_t op_idx, op_kind kind);
/* Where a launch that can make codes writes its value; 0 for what is not wanted of it. */
typedef struct lower_result {
    cu_ptr floats, codes, sums;
} lower_result;
/* The launch that asks is the next one: from there on its codes are in the place for codes. */
lower_result lower_result_of(lowering *w, value_id v);
bool lower_overlap(const lowering *w, value_id a, value_id b);
/* Not at all, or element on element. */
bool lower_apart_or_same(const lowering *w, value_id a, value_id b);

/* --- cuda_lower_ops.c: one launch each --- */
typedef status lower_fn(lowering *w, uint32_t op_idx, error *err);
lower_fn lower_input, lower_embed, lower_take_rows, lower_attention, lower_act, lower_act_mul,
    lower_binary, lower_heads_matmul, lower_route, lower_experts_sum, lower_conv, lower_scan,
    lower_shift, lower_wkv;

/* --- cuda_elsewhere.c: a call of the host --- */
lower_fn lower_host;

/* --- cuda_lower_rope.c: positions, and the way into the cache --- */
lower_fn lower_rope, lower_kv_write;
/* The turn of k whose launch takes this turn of q along, with the KV_WRITE behind it; 0: none. */
uint32_t lower_turn_of_k(const lowering *w, uint32_t op_idx);
/* Not of an op: the cosines and sines of a step; the largest logits; drawn tokens. */
status lower_rope_table(lowering *w, const cuda_rope *rope, error *err);
status lower_argmax(lowering *w, error *err);
status lower_sample(lowering *w, error *err);
status lower_logprobs(lowering *w, error *err);

/* --- cuda_lower_tail.c: what products of one row go on with --- */
typedef struct lower_tail {
    ck_tail kind;
    uint32_t op_idx; /* whose launch it would be: the norm, the gates, the turn of k */
    uint32_t v_idx;  /* the product of v, where it is none of these products; else 0 */
    uint32_t groups;
} lower_tail;
/* Of the `count` products from op_idx on, which `add` may sum up with a value; false: none. */
bool lower_find_tail(const lowering *w, uint32_t op_idx, uint32_t count, const op *add,
                     lower_tail *out);
/* Both ways: the tail as launches of its own, for many rows, and `e` and its products with it, for
 * one.  `e` has the width of the products from op_idx on. */
status lower_emit_tail(lowering *w, uint32_t op_idx, const lower_tail *tail,
                       const cuda_launch_entry *e, const k_gemv_args of[CK_GEMVS_MAX], error *err);

/* --- cuda_lower_adapter.c: around products that can be adapted --- */
/* In this list, can the op be? */
bool lower_adapts(const lowering *w, uint32_t op_idx);
/* Of the `count` products from op_idx on, which read one value and may be none that can: before
 * they are emitted, and behind them.  `add`, of a single one: as whose result it was written. */
status lower_shrink(lowering *w, uint32_t op_idx, uint32_t count, error *err);
status lower_expand(lowering *w, uint32_t op_idx, uint32_t count, const op *add, error *err);

/* --- cuda_lower_products.c: with what is fused --- */
lower_fn lower_norm, lower_add, lower_matmul, lower_experts;

#endif
