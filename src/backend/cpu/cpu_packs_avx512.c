/* cpu_packs_avx512.c - the integer kernels of AVX-512 VNNI, for the table. */
#if defined(__x86_64__)
#include "backend/cpu/cpu_packs_avx512.h"

void cpu_packs_avx512(cpu_kernels *k) {
    k->expand = cpu_expand_avx512;
    k->dots = cpu_dots_avx512;
    k->dots_quad = cpu_dots_quad_avx512;
    k->dots_packed = cpu_dots_packed_avx512;
    k->digits = cpu_digits_avx512;
}

#endif
