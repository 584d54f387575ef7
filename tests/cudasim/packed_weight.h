/* packed_weight.h - a random matrix twice: as in a file, for the oracle, and as kernels read it. */
#ifndef CUDASIM_PACKED_WEIGHT_H
#define CUDASIM_PACKED_WEIGHT_H

#include "abi.h"
#include "backend/program.h"

/* The types that have a form of their own. */
enum { PACKED_TYPES = 8 };
extern const dtype packed_types[PACKED_TYPES];

typedef struct packed_weight {
    weight stored;
    ck_matrix matrix;
} packed_weight;

/* In buffers of the rig.  cols: a multiple of the type's block. */
packed_weight packed_weight_random(dtype type, uint32_t rows, uint32_t cols, float scale);

#endif
