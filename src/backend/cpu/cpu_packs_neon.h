/* cpu_packs_neon.h - what the NEON files of the packed layout share (cpu_kernels.h says what the
 * functions do).  A u-vector is four registers of four weight rows. */
#ifndef BACKEND_CPU_CPU_PACKS_NEON_H
#define BACKEND_CPU_CPU_PACKS_NEON_H

#include "backend/cpu/cpu_kernels.h"

#define INLINE static inline __attribute__((always_inline))

enum { QUADS = 4, QUAD_ROWS = PACK_ROWS / QUADS, QUAD_BYTES = 16 };

/* cpu_expand_neon.c */
void cpu_expand_neon(const pack_format *f, const uint8_t *group, uint32_t first, uint32_t count,
                     const pack_panel *out);
/* cpu_digits_neon.c */
void cpu_digits_neon(const float *x, act_block *out, uint32_t cols);

#endif
