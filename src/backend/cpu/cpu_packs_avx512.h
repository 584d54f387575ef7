/* cpu_packs_avx512.h - what cpu_packs_avx512() puts into the table (cpu_kernels.h).  Needs F, BW,
 * DQ, VL and VNNI. */
#ifndef BACKEND_CPU_CPU_PACKS_AVX512_H
#define BACKEND_CPU_CPU_PACKS_AVX512_H
#if defined(__x86_64__)

#include "backend/cpu/cpu_kernels.h"

#define INLINE static inline __attribute__((always_inline))

/* cpu_expand_avx512.c */
void cpu_expand_avx512(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
                       const pack_panel *out);
/* cpu_dots_avx512.c */
void cpu_dots_avx512(const dots_args *a);

/* cpu_dots_quad_avx512.c */
void cpu_dots_quad_avx512(const dots_quad_args *a);

/* cpu_decode_avx512.c */
void cpu_dots_packed_avx512(const packed_dots_args *a);

/* cpu_digits_avx512.c */
void cpu_digits_avx512(const float *x, act_block *out, uint32_t cols);

#endif
#endif
