/* cpu_packs_avx2.h - what the AVX2 files of the packed layout share (cpu_kernels.h says what the
 * functions do). */
#ifndef BACKEND_CPU_CPU_PACKS_AVX2_H
#define BACKEND_CPU_CPU_PACKS_AVX2_H

#include "backend/cpu/cpu_kernels.h"

/* cpu_expand_avx2.c */
void cpu_expand_avx2(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
                     const pack_panel *out);
/* cpu_decode_avx2.c */
void cpu_dots_packed_avx2(const packed_dots_args *a);
/* cpu_digits_avx2.c */
void cpu_digits_avx2(const float *x, act_block *out, uint32_t cols);

#endif
