/* kv_q4.h - keys and values in 4 bits: how a row of the KV cache is stored as DTYPE_Q4_0.
 *
 * Of one head in one block of the cache the codes come first, then the scales:
 *
 *   u8 [KV_BLOCK_TOKENS][dim / 2]   f16 [KV_BLOCK_TOKENS][dim / 32]
 *
 * the even element in the low half of a byte.  32 neighbouring elements are turned before they are
 * rounded: x becomes H x, H the Walsh-Hadamard matrix of order 32 divided by sqrt(32), its own
 * inverse and orthogonal.  What one large element would take from its 31 neighbours is so shared by
 * all of them (Ashkboos et al. 2024, QuaRot).  Turned queries times turned keys are what they were,
 * and sums of turned values are the sums, turned: nothing but queries and results needs to be
 * turned to read such a cache.  Of the 32
 *
 *   scale = m / -8 rounded to f16, m being the largest or the smallest, whichever is further
 *           from 0, the smallest of two alike
 *   code  = x / scale rounded to nearest, ties to even, -8 .. 7, stored with 8 added
 *
 * with x / scale as x * (1 / scale) in one operation (fma), and H x as five rounds of sums and
 * differences, of elements 1, 2, 4, 8 and 16 apart, then the factor: host and device agree on every
 * bit.  A value that is not finite, or too large for a scale, makes all 32 NaN. */
#ifndef BACKEND_KV_Q4_H
#define BACKEND_KV_Q4_H

#include "backend/batch.h"

/* One token's row of a head. */
typedef struct kv_q4_row {
    uint8_t *codes;   /* [dim / 2] */
    uint16_t *scales; /* f16 [dim / 32] */
} kv_q4_row;

/* Row t of a head: `head` as kv_at() gives it. */
static inline kv_q4_row kv_q4_row_at(const kv_layout *l, void *head, int part, uint32_t t) {
    const size_t dim = kv_row_elems(l, part);
    uint8_t *codes = head;
    uint16_t *scales = (uint16_t *)(void *)(codes + dim / 2 * KV_BLOCK_TOKENS);
    return (kv_q4_row){codes + dim / 2 * t, scales + dim / KV_GROUP * t};
}

/* Code i of a row, -8 .. 7. */
static inline int kv_q4_code(kv_q4_row row, uint32_t i) {
    return (row.codes[i / 2] >> i % 2 * 4 & 15) - 8;
}

/* x becomes H x, group by group; n is whole groups. */
void kv_q4_turn(float *x, uint32_t n);

/* Elements first .. first + n - 1, both whole groups. */
void kv_q4_put(kv_q4_row row, uint32_t first, const float *x, uint32_t n);

#endif
