/* machine_neon.c - what aarch64 processors are measured with: NEON, and its dot products. */
#include "app/machine_internal.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <sys/auxv.h>

enum { LINE = 64, VECTORS = 4, F32_LANES = 4, S32_LANES = 4 };

/* HWCAP_ASIMDDP: the UDOT and SDOT instructions (Documentation/arch/arm64/elf_hwcaps.rst). */
enum { HAS_DOT_PRODUCTS = 1 << 20 };

static uint64_t read_neon(const uint8_t *chunk) {
    uint8x16_t sum[VECTORS] = {0};
    for (size_t i = 0; i < READ_CHUNK_BYTES; i += LINE)
        for (int k = 0; k < VECTORS; k++)
            sum[k] = veorq_u8(sum[k], vld1q_u8(chunk + i + (size_t)k * sizeof *sum));
    for (int k = 1; k < VECTORS; k++) sum[0] = veorq_u8(sum[0], sum[k]);
    return vaddvq_u8(sum[0]);
}

static uint64_t fma_neon(const uint8_t *chunk) {
    const float32x4_t x = vdupq_n_f32(0.5F);
    float32x4_t sum[LOOP_SUMS];
    (void)chunk;
    for (int k = 0; k < LOOP_SUMS; k++) sum[k] = vdupq_n_f32((float)k);
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < LOOP_SUMS; k++) sum[k] = vfmaq_f32(x, sum[k], x);
    for (int k = 1; k < LOOP_SUMS; k++) sum[0] = vaddq_f32(sum[0], sum[k]);
    return (uint64_t)vaddvq_f32(sum[0]);
}

/* sum + a . a; by name, since compilers know the intrinsic only where the whole file may use it */
static inline int32x4_t dot(int32x4_t sum, int8x16_t a) {
    __asm__(".arch_extension dotprod\n\tsdot %0.4s, %1.16b, %1.16b" : "+w"(sum) : "w"(a));
    return sum;
}

static uint64_t sdot_neon(const uint8_t *chunk) {
    const int8x16_t a = vreinterpretq_s8_u8(vld1q_u8(chunk));
    int32x4_t sum[LOOP_SUMS];
    for (int k = 0; k < LOOP_SUMS; k++) sum[k] = vdupq_n_s32(k);
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < LOOP_SUMS; k++) sum[k] = dot(sum[k], a);
    for (int k = 1; k < LOOP_SUMS; k++) sum[0] = veorq_s32(sum[0], sum[k]);
    return (uint32_t)vaddvq_s32(sum[0]);
}

void machine_loops_neon(cpu_isa cap, machine_loop *loops) {
    const double instructions = 1.0 * LOOP_ROUNDS * LOOP_SUMS;
    (void)cap;
    loops[MACHINE_READ] = (machine_loop){"neon loads", read_neon, READ_CHUNK_BYTES};
    loops[MACHINE_F32] = (machine_loop){"neon fmla", fma_neon, instructions * 2 * F32_LANES};
    if ((getauxval(AT_HWCAP) & HAS_DOT_PRODUCTS) != 0)
        loops[MACHINE_INT8] = (machine_loop){"neon sdot", sdot_neon, instructions * 8 * S32_LANES};
}

#endif
