/* quantized.c - see quantized.h. */
#include "cudasim/quantized.h"

enum { THREADS = 256, PER_BLOCK = 1024 };

quantized quantized_buffers(uint32_t rows, uint32_t cols) {
    const size_t n = (size_t)rows * cols;
    return (quantized){rig_buffer(n), rig_buffer(n / 32 * sizeof(ck_sums))};
}

void quantized_same_at(int arch, quantized got, const float *x, uint32_t rows, uint32_t cols,
                       const char *file, int line) {
    const quantized want = quantized_buffers(rows, cols);
    k_quantize_args a = {.x = rig_at(x),
                         .codes = rig_at(want.codes),
                         .sums = rig_at(want.sums),
                         .count = rig_count(rows),
                         .cols = cols};
    rig_run(arch, "k_quantize", &a, (cols + PER_BLOCK - 1) / PER_BLOCK, rows, THREADS, 0);
    (void)rig_same_at(got.codes, want.codes, (size_t)rows * cols, file, line);
    (void)rig_same_at(got.sums, want.sums, (size_t)rows * cols / 32 * sizeof(ck_sums), file, line);
}
