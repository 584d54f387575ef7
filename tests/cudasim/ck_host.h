/* ck_host.h - the words of cuda/ck.h on the software GPU: C++17 for the host's compiler.
 *
 * A kernel becomes a sim_kernel called NAME_ARCH, which tests/cudasim/exec/table.c collects.  What
 * is checked here and not on a GPU: every access to global memory lies in memory that was allocated
 * and is aligned to its size.  Float words are as exact as the host's libm: a GPU's approximations
 * differ from them by a few units in the last place, and tolerances have to allow for that. */
#ifndef CUDASIM_CK_HOST_H
#define CUDASIM_CK_HOST_H

#include <math.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "cudasim/exec.h"
#include "cudasim/exec/place.h"

#ifndef CK_ARCH
#error "CK_ARCH is 750, 800 or 900: the code path to compile"
#endif

/* --- entries -------------------- */

#define CK_PASTE_TWO(a, b) a##_##b
#define CK_PASTE(a, b)     CK_PASTE_TWO(a, b)
#define CK_ENTRY(name)     CK_PASTE(name, CK_ARCH)

#define CK_ENTRY_OF(name, args, threads, first)                                   \
    static void name##_body(const args &a);                                       \
    static void name##_run(const void *p) {                                       \
        first;                                                                    \
        name##_body(*static_cast<const args *>(p));                               \
    }                                                                             \
    extern "C" {                                                                  \
    extern const sim_kernel CK_ENTRY(name);                                       \
    }                                                                             \
    const sim_kernel CK_ENTRY(name) = {#name, name##_run, sizeof(args), threads}; \
    static void name##_body(const args &a)
#define CK_KERNEL_OF(name, args, threads) \
    CK_ENTRY_OF(name, args, threads, (ck_pdl_wait(), ck_pdl_launch()))
#define CK_KERNEL(name, threads)                   CK_KERNEL_OF(name, name##_args, threads)
#define CK_KERNEL_FEW(name, args, threads, blocks) CK_KERNEL_OF(name, args, threads)
#define CK_EARLY_OF(name, args, threads)           CK_ENTRY_OF(name, args, threads, (void)0)
#define CK_EARLY_FEW(name, args, threads, blocks)  CK_EARLY_OF(name, args, threads)

/* Always inlined, as on a GPU: sim_touch() is then called from where the access stands. */
#define CK_DEV static inline __attribute__((always_inline, unused))

#define ck_tid    (sim_here.tid)
#define ck_bdim   (sim_here.bdim)
#define ck_bid_x  (sim_here.bid[0])
#define ck_bid_y  (sim_here.bid[1])
#define ck_bid_z  (sim_here.bid[2])
#define ck_gdim_x (sim_here.gdim[0])

/* --- shared memory: 16-aligned, filled with 0xCD for each block -------------------- */

#define CK_SHARED(T, name, n)           \
    static const char name##_array = 0; \
    T(&name)[n] = *static_cast<T(*)[n]>(sim_shared(&name##_array, sizeof(T) * (n)))
#define CK_SHARED_DYN(T, name) T *name = reinterpret_cast<T *>(sim_here.shared_dyn)

/* --- threads together -------------------- */

CK_DEV void ck_sync() { sim_block_sync(); }
CK_DEV void ck_syncwarp() { sim_warp_sync(); }
CK_DEV void ck_fence() { sim_fence(); }

CK_DEV float ck_u2f(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
CK_DEV uint32_t ck_f2u(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

CK_DEV uint32_t ck_bits(float f) { return ck_f2u(f); }

CK_DEV uint32_t ck_shfl(uint32_t v, unsigned lane) { return sim_warp_shuffle(v, lane & 31u); }
CK_DEV uint32_t ck_shfl_xor(uint32_t v, unsigned m) {
    return sim_warp_shuffle(v, (sim_here.tid ^ m) & 31u);
}
CK_DEV float ck_shfl_xor_f(float v, unsigned m) { return ck_u2f(ck_shfl_xor(ck_f2u(v), m)); }
CK_DEV float ck_shfl_f(float v, unsigned lane) { return ck_u2f(ck_shfl(ck_f2u(v), lane)); }
CK_DEV uint32_t ck_ballot(bool p) { return sim_warp_ballot(p); }
CK_DEV uint32_t ck_popc(uint32_t v) { return static_cast<uint32_t>(__builtin_popcount(v)); }

/* --- global memory -------------------- */

#if defined(__SANITIZE_THREAD__)
#define CK_HOST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CK_HOST_TSAN 1
#endif
#endif

/* Most accesses end here.  Not under ThreadSanitizer, which would watch the table itself. */
CK_DEV void ck_host_touch(const void *p, uint32_t bytes, sim_access access) {
#ifndef CK_HOST_TSAN
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    const sim_span &s = sim_here.spans[(at >> SIM_SPAN_SHIFT) % SIM_SPANS];
    if (__builtin_expect(at >= s.first && at + bytes <= s.end && at % bytes == 0, 1)) return;
#endif
    sim_touch(p, bytes, access);
}

typedef struct ck_u2 {
    uint32_t x, y;
} ck_u2;
typedef struct ck_u4 {
    uint32_t x, y, z, w;
} ck_u4;

template <typename T> CK_DEV T ck_ld(const T *p) {
    static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8,
                  "one load is of 1, 2, 4 or 8 bytes; 16 are ck_ld16");
    ck_host_touch(p, sizeof(T), SIM_LOAD);
    return *p;
}
template <typename T> CK_DEV void ck_st(T *p, T v) {
    static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8,
                  "one store is of 1, 2, 4 or 8 bytes");
    ck_host_touch(p, sizeof(T), SIM_STORE);
    *p = v;
}
CK_DEV ck_u4 ck_ld16(const void *p) {
    ck_host_touch(p, 16, SIM_LOAD);
    return *static_cast<const ck_u4 *>(p);
}
CK_DEV ck_u4 ck_ldg16(const void *p) {
    ck_host_touch(p, 16, SIM_LOAD_STREAMED);
    return *static_cast<const ck_u4 *>(p);
}
CK_DEV ck_u2 ck_ldg8(const void *p) {
    ck_host_touch(p, 8, SIM_LOAD_STREAMED);
    return *static_cast<const ck_u2 *>(p);
}
CK_DEV uint32_t ck_ldg4(const void *p) {
    ck_host_touch(p, 4, SIM_LOAD_STREAMED);
    return *static_cast<const uint32_t *>(p);
}
CK_DEV uint16_t ck_ldg2(const void *p) {
    ck_host_touch(p, 2, SIM_LOAD_STREAMED);
    return *static_cast<const uint16_t *>(p);
}

/* What may come before ck_pdl_wait() of a launch that overlaps: sim_touch() asks. */
CK_DEV void ck_pdl_wait() {
    if (CK_ARCH >= 900) sim_pdl_wait();
}
CK_DEV void ck_pdl_launch() {
    if (CK_ARCH >= 900) sim_pdl_launch();
}
CK_DEV void ck_prefetch(const void *p) {
    if (CK_ARCH >= 900) sim_prefetch(p);
}

/* Relaxed, as on a GPU: only ck_fence() orders what lies around them. */
CK_DEV uint32_t ck_atomic_add(uint32_t *p, uint32_t v) {
    ck_host_touch(p, sizeof *p, SIM_ATOMIC);
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
CK_DEV uint32_t ck_shared_add(uint32_t *p, uint32_t v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
CK_DEV uint32_t ck_atomic_max(uint32_t *p, uint32_t v) {
    ck_host_touch(p, sizeof *p, SIM_ATOMIC);
    uint32_t old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (old < v &&
           !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return old;
}

/* --- numbers -------------------- */

/* c + the products of four pairs of signed bytes; wraps.  Half the time of a product kernel. */
CK_DEV int ck_dp4a(uint32_t a, uint32_t b, int c) {
    if (__builtin_expect(sim_here.counting, 0)) sim_count_dp4a();
    uint32_t sum = static_cast<uint32_t>(c);
#if defined(__SSE2__)
    __m128i x = _mm_cvtsi32_si128(static_cast<int>(a)), y = _mm_cvtsi32_si128(static_cast<int>(b));
    x = _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8); /* bytes to int16 */
    y = _mm_srai_epi16(_mm_unpacklo_epi8(y, y), 8);
    const __m128i pairs = _mm_madd_epi16(x, y);
    sum += static_cast<uint32_t>(_mm_cvtsi128_si32(pairs));
    sum += static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_srli_epi64(pairs, 32)));
#else
    for (unsigned i = 0; i < 32; i += 8)
        sum += static_cast<uint32_t>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
#endif
    return static_cast<int>(sum);
}

CK_DEV float ck_bf2f(uint16_t h) { return ck_u2f(static_cast<uint32_t>(h) << 16); }

CK_DEV float ck_h2f(uint16_t h) {
    const uint32_t sign = (h & 0x8000u) << 16, rest = (h & 0x7fffu) << 13;
    if ((h & 0x7c00u) == 0x7c00u) return ck_u2f(sign | 0x7f800000u | rest);
    return ck_u2f(sign | ck_f2u(ck_u2f(rest) * 0x1p112f)); /* exact; subnormals, too */
}

/* To nearest, ties to even; beyond 65520 infinity; NaN is 0x7fff. */
CK_DEV uint16_t ck_f2h(float f) {
    const uint32_t u = ck_f2u(f), sign = (u >> 16) & 0x8000u, rest = u & 0x7fffffffu;
    if (rest > 0x7f800000u) return 0x7fff;
    if (rest >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    /* Below 2^-14 the unit is 2^-24: adding 0.5 leaves it in the lowest bit, and rounds. */
    if (rest < 0x38800000u)
        return static_cast<uint16_t>(sign | (ck_f2u(ck_u2f(rest) + 0.5f) - 0x3f000000u));
    const uint32_t odd = (rest >> 13) & 1u;
    return static_cast<uint16_t>(sign | ((rest - 0x38000000u + 0xfffu + odd) >> 13));
}

/* f32 has more than twice the bits of halves, and two: rounding twice is rounding once. */
CK_DEV uint32_t ck_h2_sub(uint32_t a, uint32_t b) {
    uint32_t r = 0;
    for (unsigned i = 0; i < 32; i += 16)
        r |= static_cast<uint32_t>(ck_f2h(ck_h2f(static_cast<uint16_t>(a >> i)) -
                                          ck_h2f(static_cast<uint16_t>(b >> i))))
             << i;
    return r;
}
CK_DEV uint32_t ck_h2_mul(uint32_t a, uint32_t b) {
    uint32_t r = 0;
    for (unsigned i = 0; i < 32; i += 16)
        r |= static_cast<uint32_t>(ck_f2h(ck_h2f(static_cast<uint16_t>(a >> i)) *
                                          ck_h2f(static_cast<uint16_t>(b >> i))))
             << i;
    return r;
}
CK_DEV uint32_t ck_bytes(uint32_t a, uint32_t b, uint32_t which) {
    const uint64_t both = a | static_cast<uint64_t>(b) << 32;
    uint32_t r = 0;
    for (unsigned i = 0; i < 4; i++)
        r |= static_cast<uint32_t>(both >> (which >> 4 * i & 7u) * 8 & 0xffu) << 8 * i;
    return r;
}

CK_DEV float ck_mul(float a, float b) { return a * b; } /* built without contraction */
CK_DEV float ck_ex2(float x) { return static_cast<float>(exp2(static_cast<double>(x))); }
CK_DEV float ck_lg2(float x) { return static_cast<float>(log2(static_cast<double>(x))); }
CK_DEV float ck_rsqrt(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
CK_DEV float ck_rcp(float x) { return 1.0f / x; }

/* --- tensor cores: ck.h has the layout --------------------
 *
 * With the words of a fragment side by side, words 4 g .. 4 g + 3 of the lanes are row g of a, and
 * column g of b: 16 bytes or 8 halves. */

/* c + the products of 16 pairs of signed bytes; wraps. */
CK_DEV int ck_host_dot_bytes(const uint32_t *a, const uint32_t *b, int c) {
    uint32_t sum = static_cast<uint32_t>(c);
#if defined(__SSE2__)
    const __m128i x = _mm_load_si128(reinterpret_cast<const __m128i *>(a));
    const __m128i y = _mm_load_si128(reinterpret_cast<const __m128i *>(b));
    const __m128i low = _mm_madd_epi16(_mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8),
                                       _mm_srai_epi16(_mm_unpacklo_epi8(y, y), 8));
    const __m128i high = _mm_madd_epi16(_mm_srai_epi16(_mm_unpackhi_epi8(x, x), 8),
                                        _mm_srai_epi16(_mm_unpackhi_epi8(y, y), 8));
    __m128i all = _mm_add_epi32(low, high);
    all = _mm_add_epi32(all, _mm_srli_si128(all, 8));
    all = _mm_add_epi32(all, _mm_srli_si128(all, 4));
    sum += static_cast<uint32_t>(_mm_cvtsi128_si32(all));
#else
    for (unsigned i = 0; i < 128; i += 8)
        sum += static_cast<uint32_t>(static_cast<int8_t>(a[i / 32] >> i % 32) *
                                     static_cast<int8_t>(b[i / 32] >> i % 32));
#endif
    return static_cast<int>(sum);
}

/* c + the products of 8 pairs of halves, one after the other. */
template <float half(uint16_t)>
CK_DEV float ck_host_dot_halves(const uint32_t *a, const uint32_t *b, float c) {
    for (unsigned i = 0; i < 8; i++)
        c = __builtin_fmaf(half(static_cast<uint16_t>(a[i / 2] >> i % 2 * 16)),
                           half(static_cast<uint16_t>(b[i / 2] >> i % 2 * 16)), c);
    return c;
}

/* m8n8 has ROWS 1, m16n8 2; K_WORDS words of a row and of a column lie in a lane. */
template <typename T, T dot(const uint32_t *, const uint32_t *, T), unsigned ROWS, unsigned K_WORDS>
CK_DEV void ck_host_mma(T *c, const uint32_t *a, const uint32_t *b) {
    constexpr unsigned a_words = ROWS * K_WORDS, lanes = SIM_WARP_LANES;
    uint32_t words[a_words + K_WORDS];
    memcpy(words, a, a_words * sizeof *a);
    memcpy(words + a_words, b, K_WORDS * sizeof *b);
    const uint32_t *all = sim_warp_gather(SIM_GATHER_MMA, words, a_words + K_WORDS);
    const unsigned g = sim_here.tid % lanes / 4, q = sim_here.tid % 4;
    for (unsigned i = 0; i < 2 * ROWS; i++)
        for (unsigned k = 0; k < K_WORDS; k++)
            c[i] = dot(all + (k * ROWS + i / 2) * lanes + 4 * g,
                       all + (a_words + k) * lanes + 4 * (2 * q + i % 2), c[i]);
}

CK_DEV void ck_mma_m8n8k16_s8(int c[2], const uint32_t a[1], const uint32_t b[1]) {
    ck_host_mma<int, ck_host_dot_bytes, 1, 1>(c, a, b);
}
CK_DEV void ck_mma_m16n8k8_f16(float c[4], const uint32_t a[2], const uint32_t b[1]) {
    ck_host_mma<float, ck_host_dot_halves<ck_h2f>, 2, 1>(c, a, b);
}
#if CK_ARCH >= 800
CK_DEV void ck_mma_m16n8k16_s8(int c[4], const uint32_t a[2], const uint32_t b[1]) {
    ck_host_mma<int, ck_host_dot_bytes, 2, 1>(c, a, b);
}
CK_DEV void ck_mma_m16n8k32_s8(int c[4], const uint32_t a[4], const uint32_t b[2]) {
    ck_host_mma<int, ck_host_dot_bytes, 2, 2>(c, a, b);
}
CK_DEV void ck_mma_m16n8k16_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    ck_host_mma<float, ck_host_dot_halves<ck_h2f>, 2, 2>(c, a, b);
}
CK_DEV void ck_mma_m16n8k16_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    ck_host_mma<float, ck_host_dot_halves<ck_bf2f>, 2, 2>(c, a, b);
}
#endif
/* The rows that the lanes name, as addresses. */
CK_DEV const uint32_t *ck_host_rows(const void *row) {
    const uint64_t at = reinterpret_cast<uintptr_t>(row);
    if (at % 16 != 0) sim_fail_misaligned_row(row);
    const uint32_t words[2] = {static_cast<uint32_t>(at), static_cast<uint32_t>(at >> 32)};
    const uint32_t *all = sim_warp_gather(SIM_GATHER_LDMATRIX, words, 2);
    if (__builtin_expect(sim_here.counting, 0) && sim_here.tid % SIM_WARP_LANES == 0)
        sim_count_ldmatrix(all);
    return all;
}
CK_DEV const uint16_t *ck_host_row(const uint32_t *all, unsigned i) {
    const uint64_t of = all[i] | static_cast<uint64_t>(all[SIM_WARP_LANES + i]) << 32;
    return reinterpret_cast<const uint16_t *>(static_cast<uintptr_t>(of));
}
CK_DEV void ck_ldmatrix_x4(uint32_t r[4], const void *row) {
    const uint32_t *all = ck_host_rows(row);
    const unsigned g = sim_here.tid % SIM_WARP_LANES / 4, q = sim_here.tid % 4;
    for (unsigned i = 0; i < 4; i++)
        memcpy(&r[i], ck_host_row(all, 8 * i + g) + 2 * q, sizeof r[i]);
}
CK_DEV void ck_ldmatrix_x4_trans(uint32_t r[4], const void *row) {
    const uint32_t *all = ck_host_rows(row);
    const unsigned g = sim_here.tid % SIM_WARP_LANES / 4, q = sim_here.tid % 4;
    for (unsigned i = 0; i < 4; i++)
        r[i] = ck_host_row(all, 8 * i + 2 * q)[g] |
               static_cast<uint32_t>(ck_host_row(all, 8 * i + 2 * q + 1)[g]) << 16;
}

/* --- shared memory, 16 bytes at a time: bank conflicts are counted -------------------- */

CK_DEV ck_u4 ck_get16(const void *p) {
    if (__builtin_expect(sim_here.counting, 0)) sim_shared_touch(p);
    return *static_cast<const ck_u4 *>(p);
}
CK_DEV void ck_put16(void *p, ck_u4 v) {
    if (__builtin_expect(sim_here.counting, 0)) sim_shared_touch(p);
    *static_cast<ck_u4 *>(p) = v;
}

#endif
