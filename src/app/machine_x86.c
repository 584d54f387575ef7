/* machine_x86.c - what x86-64 processors are measured with: AVX2, AVX-512 with VNNI and BF16, AMX
 * tiles.
 *
 * Each function carries its instruction set as an attribute; it is chosen when the processor has
 * it (CPUID) and the system saves its registers.  Multiplications and additions count as one
 * operation each: an instruction on v lanes of 4 int8 products is 8 v operations, of 2 of bf16 4 v.
 */
#include "app/machine_internal.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"

#define INLINE static inline __attribute__((always_inline))
#define AVX2   __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define AMX    __attribute__((target("amx-tile,amx-int8,amx-bf16")))

enum { LINE = 64, PREFETCH_BYTES = 1024, LANES_512 = 16, LANES_256 = 8 };

/* --- AVX-512 -------------------- */

AVX512 static uint64_t read_512(const uint8_t *chunk) {
    enum { STREAM = READ_CHUNK_BYTES / READ_STREAMS };
    __m512i sum[READ_STREAMS] = {0};
    for (size_t i = 0; i < STREAM; i += LINE) {
        for (int s = 0; s < READ_STREAMS; s++) {
            const uint8_t *p = chunk + (size_t)s * STREAM + i;
            _mm_prefetch((const char *)p + PREFETCH_BYTES, _MM_HINT_T0);
            sum[s] = _mm512_xor_si512(sum[s], _mm512_loadu_si512(p));
        }
    }
    for (int s = 1; s < READ_STREAMS; s++) sum[0] = _mm512_xor_si512(sum[0], sum[s]);
    return (uint64_t)_mm512_reduce_add_epi64(sum[0]);
}

AVX512 static uint64_t fma_512(const uint8_t *chunk) {
    const __m512 x = _mm512_set1_ps(0.5F);
    __m512 sum[LOOP_SUMS];
    (void)chunk;
    for (int k = 0; k < LOOP_SUMS; k++) sum[k] = _mm512_set1_ps((float)k);
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < LOOP_SUMS; k++) sum[k] = _mm512_fmadd_ps(sum[k], x, x);
    for (int k = 1; k < LOOP_SUMS; k++) sum[0] = _mm512_add_ps(sum[0], sum[k]);
    return (uint64_t)_mm512_reduce_add_ps(sum[0]);
}

/* In assembly: from the intrinsic gcc 12 makes copies of the sums between the products. */
AVX512 INLINE __m512i dpbusd(__m512i sum, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

AVX512 static uint64_t dpbusd_512(const uint8_t *chunk) {
    const __m512i a = _mm512_loadu_si512(chunk), b = _mm512_loadu_si512(chunk + LINE);
    __m512i sum[LOOP_SUMS];
    for (int k = 0; k < LOOP_SUMS; k++) sum[k] = _mm512_set1_epi32(k);
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < LOOP_SUMS; k++) sum[k] = dpbusd(sum[k], a, b);
    for (int k = 1; k < LOOP_SUMS; k++) sum[0] = _mm512_xor_si512(sum[0], sum[k]);
    return (uint64_t)_mm512_reduce_add_epi32(sum[0]);
}

AVX512 INLINE __m512 dpbf16(__m512 sum, __m512i a, __m512i b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

AVX512 static uint64_t dpbf16_512(const uint8_t *chunk) {
    const __m512i ones = _mm512_set1_epi16(0x3F80);
    __m512 sum[LOOP_SUMS];
    (void)chunk;
    for (int k = 0; k < LOOP_SUMS; k++) sum[k] = _mm512_set1_ps((float)k);
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < LOOP_SUMS; k++) sum[k] = dpbf16(sum[k], ones, ones);
    for (int k = 1; k < LOOP_SUMS; k++) sum[0] = _mm512_add_ps(sum[0], sum[k]);
    return (uint64_t)_mm512_reduce_add_ps(sum[0]);
}

/* --- AVX2 -------------------- */

AVX2 static uint64_t fold_256(__m256i x) {
    const __m256i y = _mm256_xor_si256(x, _mm256_permute4x64_epi64(x, 0x4e));
    return (uint64_t)_mm256_extract_epi64(y, 0) + (uint64_t)_mm256_extract_epi64(y, 1);
}

AVX2 static uint64_t read_256(const uint8_t *chunk) {
    enum { STREAM = READ_CHUNK_BYTES / READ_STREAMS, HALF = LINE / 2 };
    __m256i sum[READ_STREAMS] = {0};
    for (size_t i = 0; i < STREAM; i += LINE) {
        for (int s = 0; s < READ_STREAMS; s++) {
            const uint8_t *p = chunk + (size_t)s * STREAM + i;
            _mm_prefetch((const char *)p + PREFETCH_BYTES, _MM_HINT_T0);
            sum[s] = _mm256_xor_si256(sum[s], _mm256_loadu_si256((const __m256i *)p));
            sum[s] = _mm256_xor_si256(sum[s], _mm256_loadu_si256((const __m256i *)(p + HALF)));
        }
    }
    for (int s = 1; s < READ_STREAMS; s++) sum[0] = _mm256_xor_si256(sum[0], sum[s]);
    return fold_256(sum[0]);
}

/* Fewer sums than elsewhere: with the factors they fit into sixteen registers. */
enum { FMA_SUMS = 12, MADDUBS_SUMS = 8 };

AVX2 static uint64_t fma_256(const uint8_t *chunk) {
    const __m256 x = _mm256_set1_ps(0.5F);
    __m256 sum[FMA_SUMS];
    (void)chunk;
    for (int k = 0; k < FMA_SUMS; k++) sum[k] = _mm256_set1_ps((float)k);
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < FMA_SUMS; k++) sum[k] = _mm256_fmadd_ps(sum[k], x, x);
    for (int k = 1; k < FMA_SUMS; k++) sum[0] = _mm256_add_ps(sum[0], sum[k]);
    return fold_256(_mm256_castps_si256(sum[0]));
}

/* Hide from the compiler that it has seen this value before. */
AVX2 INLINE __m256i unknown(__m256i x) {
    __asm__ volatile("" : "+x"(x));
    return x;
}

/* Products of u8 and s8 the way AVX2 has them: pairs to s16, pairs of pairs to s32, then a sum.
 * Known factors would be multiplied once for all sums. */
AVX2 static uint64_t maddubs_256(const uint8_t *chunk) {
    const __m256i b = _mm256_loadu_si256((const __m256i *)chunk), ones = _mm256_set1_epi16(1);
    __m256i sum[MADDUBS_SUMS] = {0};
    for (int i = 0; i < LOOP_ROUNDS; i++)
        for (int k = 0; k < MADDUBS_SUMS; k++)
            sum[k] = _mm256_add_epi32(sum[k],
                                      _mm256_madd_epi16(_mm256_maddubs_epi16(unknown(b), b), ones));
    for (int k = 1; k < MADDUBS_SUMS; k++) sum[0] = _mm256_xor_si256(sum[0], sum[k]);
    return fold_256(sum[0]);
}

/* --- AMX -------------------- */

/* Palette 1: tiles of 16 rows of 64 bytes (Intel SDM vol. 1, chapter 18). */
typedef struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
} tile_config;

_Static_assert(sizeof(tile_config) == LINE, "what ldtilecfg reads");

enum { TILE_ROWS = 16, TILES = 8, TILE_PRODUCTS = 4 };

AMX static void tiles_begin(const uint8_t *chunk) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        c.bytes_per_row[i] = LINE;
        c.rows[i] = TILE_ROWS;
    }
    _tile_loadconfig(&c);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, chunk, LINE);
    _tile_loadd(5, chunk, LINE);
    _tile_loadd(6, chunk, LINE);
    _tile_loadd(7, chunk, LINE);
}

AMX static uint64_t tiles_end(void) {
    int32_t sums[TILE_ROWS * LINE / 4];
    uint64_t sum = 0;
    _tile_stored(0, sums, LINE);
    sum += (uint32_t)sums[0];
    _tile_stored(1, sums, LINE);
    sum += (uint32_t)sums[0];
    _tile_stored(2, sums, LINE);
    sum += (uint32_t)sums[0];
    _tile_stored(3, sums, LINE);
    sum += (uint32_t)sums[0];
    _tile_release();
    return sum;
}

/* 2 x 2 tiles of sums, the shape of a product of matrices. */
AMX static uint64_t tiles_int8(const uint8_t *chunk) {
    tiles_begin(chunk);
    for (int i = 0; i < LOOP_ROUNDS; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    return tiles_end();
}

AMX static uint64_t tiles_bf16(const uint8_t *chunk) {
    tiles_begin(chunk);
    for (int i = 0; i < LOOP_ROUNDS; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    return tiles_end();
}

/* Linux gives the tile registers to a process that asks (Documentation/arch/x86/xstate.rst). */
static bool tiles_are_granted(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* --- what there is -------------------- */

/* CPUID leaf 7, EDX (Intel SDM vol. 2A). */
enum { LEAF_7_AMX_BF16 = 1 << 22, LEAF_7_AMX_TILE = 1 << 24, LEAF_7_AMX_INT8 = 1 << 25 };

static unsigned leaf_7_edx(void) {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 ? edx : 0;
}

static void use_avx2(machine_loop *loops) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return;
    loops[MACHINE_READ] = (machine_loop){"avx2 loads", read_256, READ_CHUNK_BYTES};
    loops[MACHINE_F32] =
        (machine_loop){"avx2 fma", fma_256, 2.0 * LOOP_ROUNDS * FMA_SUMS * LANES_256};
    loops[MACHINE_INT8] = (machine_loop){"avx2 vpmaddubsw", maddubs_256,
                                         8.0 * LOOP_ROUNDS * MADDUBS_SUMS * LANES_256};
}

static void use_avx512(machine_loop *loops) {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return;
    const double instructions = 1.0 * LOOP_ROUNDS * LOOP_SUMS;
    loops[MACHINE_READ] = (machine_loop){"avx512 loads", read_512, READ_CHUNK_BYTES};
    loops[MACHINE_F32] = (machine_loop){"avx512 fma", fma_512, instructions * 2 * LANES_512};
    if (__builtin_cpu_supports("avx512vnni"))
        loops[MACHINE_INT8] =
            (machine_loop){"avx512 vpdpbusd", dpbusd_512, instructions * 8 * LANES_512};
    if (__builtin_cpu_supports("avx512bf16"))
        loops[MACHINE_AVX512_BF16] =
            (machine_loop){"avx512 vdpbf16ps", dpbf16_512, instructions * 4 * LANES_512};
}

static void use_amx(machine_loop *loops) {
    const unsigned has = leaf_7_edx();
    if ((has & LEAF_7_AMX_TILE) == 0 || !tiles_are_granted()) return;
    const double products = 1.0 * LOOP_ROUNDS * TILE_PRODUCTS * TILE_ROWS * TILE_ROWS;
    if ((has & LEAF_7_AMX_INT8) != 0)
        loops[MACHINE_AMX_INT8] = (machine_loop){"amx tdpbssd", tiles_int8, products * 2 * LINE};
    if ((has & LEAF_7_AMX_BF16) != 0)
        loops[MACHINE_AMX_BF16] = (machine_loop){"amx tdpbf16ps", tiles_bf16, products * LINE};
}

void machine_loops_x86(cpu_isa cap, machine_loop *loops) {
    __builtin_cpu_init();
    use_avx2(loops);
    if (cap == CPU_ISA_AVX2) return;
    use_avx512(loops);
    if (cap == CPU_ISA_AVX512) return;
    use_amx(loops);
}

/* Leaf 4 of Intel's processors and 0x8000001d of AMD's tell of a cache each time until its type
 * is 0: ways, partitions, line and sets, all less one. */
static size_t largest_cache(unsigned leaf) {
    enum { SUBLEAVES_MAX = 16 };
    uint64_t largest = 0;
    for (unsigned i = 0; i < SUBLEAVES_MAX; i++) {
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        if (__get_cpuid_count(leaf, i, &eax, &ebx, &ecx, &edx) == 0 || (eax & 31) == 0) break;
        uint64_t ways = (ebx >> 22) + 1, parts = (ebx >> 12 & 1023) + 1, line = (ebx & 4095) + 1;
        largest = num_max_u64(largest, ways * parts * line * ((uint64_t)ecx + 1));
    }
    return (size_t)largest;
}

size_t machine_cache_bytes(void) {
    const size_t intel = largest_cache(4);
    return intel > 0 ? intel : largest_cache(0x8000001d);
}

#endif
