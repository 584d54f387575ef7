/* kv_q8.h - keys and values in 8 bits: how a row of the KV cache is stored as DTYPE_Q8_0.
 *
 * Of one head in one block of the cache the codes come first, then the scales:
 *
 *   int8 [KV_BLOCK_TOKENS][dim]   f16 [KV_BLOCK_TOKENS][dim / 32]
 *
 * so that codes are read 16 bytes at a time.  Of 32 neighbouring elements
 *
 *   scale = amax / 127 rounded to f16,   code = x / scale rounded to nearest, ties to even
 *
 * with x / scale as x * (1 / scale) in one operation (fma): host and device agree on every bit.  A
 * value that is not finite, or too large for a scale, makes all 32 NaN. */
#ifndef BACKEND_KV_Q8_H
#define BACKEND_KV_Q8_H

#include "backend/batch.h"

/* One token's row of a head. */
typedef struct kv_q8_row {
    int8_t *codes;    /* [dim] */
    uint16_t *scales; /* f16 [dim / 32] */
} kv_q8_row;

/* Row t of a head: `head` as kv_at() gives it. */
static inline kv_q8_row kv_q8_row_at(const kv_layout *l, void *head, int part, uint32_t t) {
    const size_t dim = kv_row_elems(l, part);
    int8_t *codes = head;
    uint16_t *scales = (uint16_t *)(void *)(codes + dim * KV_BLOCK_TOKENS);
    return (kv_q8_row){codes + dim * t, scales + dim / KV_GROUP * t};
}

/* Elements first .. first + n - 1, both whole groups. */
void kv_q8_put(kv_q8_row row, uint32_t first, const float *x, uint32_t n);

#endif
