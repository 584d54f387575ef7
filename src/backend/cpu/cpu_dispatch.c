/* cpu_dispatch.c - which instruction set runs: asked of the processor once. */
#include "backend/cpu/cpu_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* The builtin also asks whether the system saves the vector registers; clang 14 has no
 * name for F16C there, so that bit is read from leaf 1 (Intel SDM vol. 2A, CPUID). */
static bool has_avx2(void) {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

status cpu_kernels_choose(cpu_isa cap, const cpu_kernels **out, error *err) {
    if (cap == CPU_ISA_NEON)
        return error_set(err, ERR_INVALID, "cpu: 'neon' is no instruction set of this x86-64 CPU");
    *out = cap != CPU_ISA_SCALAR && has_avx2() ? &cpu_kernels_avx2 : &cpu_kernels_scalar;
    return OK;
}
#else
status cpu_kernels_choose(cpu_isa cap, const cpu_kernels **out, error *err) {
    if (cap == CPU_ISA_AVX2 || cap == CPU_ISA_AVX512 || cap == CPU_ISA_AMX)
        return error_set(err, ERR_INVALID, "cpu: x86 instruction sets are not on this CPU");
    *out = &cpu_kernels_scalar;
    return OK;
}
#endif
