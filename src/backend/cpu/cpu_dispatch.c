/* cpu_dispatch.c - which instruction set runs: asked of the processor once.
 *
 * A class is the scalar table with the overlays of the instruction sets that it stands for, lesser
 * ones first. */
#include <pthread.h>

#include "backend/cpu/cpu_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* The builtins also ask whether the system saves the vector registers; clang 14 has no
 * name for F16C there, so that bit is read from leaf 1 (Intel SDM vol. 2A, CPUID). */
static bool has_avx2(void) {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static cpu_kernels scalar, avx2, avx512, amx;

static void build_tables(void) {
    __builtin_cpu_init();
    scalar = cpu_kernels_scalar;
    cpu_packs_scalar(&scalar);
    avx2 = scalar;
    if (!has_avx2()) return;
    avx2 = cpu_kernels_avx2;
    cpu_packs_avx2(&avx2);
    cpu_floats_avx2(&avx2);
    cpu_attention_avx2(&avx2);
    avx512 = avx2;
    if (!has_avx512()) return;
    avx512.isa = "avx512";
    cpu_packs_avx512(&avx512);
    cpu_floats_avx512(&avx512);
    cpu_attention_avx512(&avx512);
    avx512.bf16 = cpu_bf16_find_avx512();
}

/* Not before it may be used: asking for tiles changes the process. */
static void build_amx(void) {
    const bf16_kernels *tiles = has_avx512() ? cpu_bf16_find_amx() : NULL;
    amx = avx512;
    if (tiles == NULL) return;
    amx.bf16 = tiles;
    amx.isa = "amx";
}

static const cpu_kernels *table_of(cpu_isa cap) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (cap == CPU_ISA_SCALAR || !has_avx2()) return &scalar;
    if (cap == CPU_ISA_AVX2) return &avx2;
    if (cap == CPU_ISA_AVX512) return &avx512;
    (void)pthread_once(&once, build_amx);
    return &amx;
}

static status check_cap(cpu_isa cap, error *err) {
    if (cap != CPU_ISA_NEON) return OK;
    return error_set(err, ERR_INVALID, "cpu: 'neon' is no instruction set of this x86-64 CPU");
}
#else
static cpu_kernels scalar, neon;

static void build_tables(void) {
    scalar = cpu_kernels_scalar;
    cpu_packs_scalar(&scalar);
    neon = scalar;
#if defined(__aarch64__)
    cpu_packs_neon(&neon); /* changes nothing on CPUs without dot products */
#endif
}

static const cpu_kernels *table_of(cpu_isa cap) { return cap == CPU_ISA_SCALAR ? &scalar : &neon; }

static status check_cap(cpu_isa cap, error *err) {
    if (cap != CPU_ISA_AVX2 && cap != CPU_ISA_AVX512 && cap != CPU_ISA_AMX) return OK;
    return error_set(err, ERR_INVALID, "cpu: x86 instruction sets are not on this CPU");
}
#endif

status cpu_kernels_choose(cpu_isa cap, const cpu_kernels **out, error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    TRY(check_cap(cap, err));
    (void)pthread_once(&once, build_tables);
    *out = table_of(cap);
    return OK;
}
