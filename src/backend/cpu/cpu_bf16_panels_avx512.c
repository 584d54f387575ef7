/* cpu_bf16_panels_avx512.c - what comes before and between products of bf16 (cpu_bf16.h), on
 * processors that have no instruction for it. */
#if defined(__x86_64__)
#include "backend/cpu/cpu_bf16_panels_avx512.h"

void cpu_bf16_round(const float *x, uint16_t *out, uint32_t cols) { round_row(x, out, cols); }

void cpu_bf16_from_codes(const pack_panel *p, uint32_t blocks, uint16_t *panel) {
    panel_of_codes(p, blocks, panel);
}

void cpu_bf16_from_rows(dtype type, const void *rows, uint32_t count, uint32_t cols,
                        uint16_t *panel) {
    panel_of_rows(type, rows, count, cols, panel);
}

bool cpu_bf16_from_values(const bf16_values *v) { return panel_of_values(v); }

void cpu_bf16_soften(const bf16_softmax *a) { soften_rows(a); }
#endif
