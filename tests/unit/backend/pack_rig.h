/* pack_rig.h - random block weights, packed, for the tests of the repacked layout. */
#ifndef PACK_RIG_H
#define PACK_RIG_H

#include "backend/cpu/cpu_kernels.h"

/* Every type that is packed. */
enum { PRIG_TYPES = 13 };
extern const dtype prig_types[PRIG_TYPES];

uint32_t prig_next(uint64_t *seed);
float prig_normal(uint64_t *seed); /* about variance 1 */

typedef enum prig_scales {
    PRIG_TAME,   /* 2^-8 .. 2^-1: products with activations stay near 1 */
    PRIG_FINITE, /* every f16 that is finite; powers whose products are finite */
    PRIG_ANY     /* every bit pattern */
} prig_scales;

/* A matrix [rows, cols] of random codes.  All buffers have no byte to spare at their end. */
typedef struct prig_matrix {
    const pack_format *f;
    uint32_t rows, cols;
    size_t row_bytes;
    uint8_t *weights;
    uint8_t *packed; /* 64-byte aligned */
} prig_matrix;

prig_matrix prig_matrix_make(dtype t, uint32_t rows, uint32_t supers, prig_scales scales,
                             uint64_t *seed);
void prig_matrix_free(prig_matrix *m);

/* [elems] or bytes, 64-byte aligned, filled with bytes 0xa5; free(). */
void *prig_memory(size_t bytes);

/* Room for the panel of `blocks` blocks. */
pack_panel prig_panel_make(const pack_format *f, uint32_t blocks);
void prig_panel_free(pack_panel *p);

#endif
