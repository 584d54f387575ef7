/* roofline.h - what an op of a program must move and compute, whoever computes it.
 *
 * The roofline of a kernel (Williams, Waterman & Patterson 2009): by its operations per byte it is
 * bound by memory or by arithmetic, and its speed is a fraction of that limit.  These functions
 * give bytes and operations from shapes and from the rows of a batch; they know no device, and no
 * clock.
 *
 * Bytes are those that must move at least once in a step: weights as they are stored, values as
 * f32, keys, values and states as the cache has them.  What a backend moves besides (codes of
 * activations, copies) is its own cost and counts for nothing here.  Of experts those count that
 * independent rows would choose; adapters do not count.
 *
 * Operations are additions and multiplications of the formulas in program.h, a multiply-add being
 * two; exp, tanh, a division and a root are one each.  Comparisons, look-ups and unpacking are
 * none.
 * Owner: none (pure functions). */
#ifndef BACKEND_ROOFLINE_H
#define BACKEND_ROOFLINE_H

#include "backend/batch.h"

typedef struct roof_work {
    uint64_t weight_bytes; /* of weights, biases, gains: read */
    uint64_t value_bytes;  /* of activations: read and written */
    uint64_t cache_bytes;  /* of keys, values and states: read and written */
    uint64_t flops;
} roof_work;

/* X(ID, name): which instructions could do it. */
#define ROOF_ARITHS(X)                                             \
    X(FLOAT, "float")     /* f32 */                                \
    X(HALF, "half")       /* products with F16 and BF16 weights */ \
    X(INTEGER, "integer") /* products with quantized weights */

typedef enum roof_arith {
#define ROOF_ARITH_ENUM(id, name) ROOF_##id,
    ROOF_ARITHS(ROOF_ARITH_ENUM)
#undef ROOF_ARITH_ENUM
        ROOF_ARITH_COUNT
} roof_arith;

uint64_t roof_work_bytes(const roof_work *w);

/* One op on the rows of this batch, by itself: all that it reads and writes. */
roof_work roofline_op(const program *p, uint32_t op_idx, const batch *in);

/* Ops [count] that are computed together: what several of them read counts once, and a value that
 * is made and used up among them does not count at all. */
roof_work roofline_task(const program *p, const uint32_t *ops, uint32_t count, const batch *in);

/* Of the products among these ops; FLOAT without any. */
roof_arith roofline_arith(const program *p, const uint32_t *ops, uint32_t count);

enum { ROOF_WHAT_BYTES = 128 };

/* The weights of these ops without their layer, and their types: "attn_q, attn_k Q4_K, attn_v
 * Q6_K"; "" without weights.  Cut where it does not fit. */
void roofline_what(const program *p, const uint32_t *ops, uint32_t count,
                   char out[ROOF_WHAT_BYTES]);

#endif
