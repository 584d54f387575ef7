/* quantized.h - codes that a kernel makes of its result, held against those of k_quantize. */
#ifndef CUDASIM_QUANTIZED_H
#define CUDASIM_QUANTIZED_H

#include "abi.h"
#include "cudasim/rig.h"

typedef struct quantized {
    int8_t *codes; /* [rows, cols] */
    ck_sums *sums; /* [rows, cols / 32] */
} quantized;

quantized quantized_buffers(uint32_t rows, uint32_t cols);

/* Fails unless they are, bit by bit, what k_quantize makes of x [rows, cols]. */
#define quantized_same(arch, got, x, rows, cols) \
    quantized_same_at((arch), (got), (x), (rows), (cols), __FILE__, __LINE__)
void quantized_same_at(int arch, quantized got, const float *x, uint32_t rows, uint32_t cols,
                       const char *file, int line);

#endif
