/* ck.h - the words that device code is written in: one source for nvcc, for clang, and for the
 * software GPU of tests/cudasim.
 *
 * Kernels use nothing else of CUDA: no inline assembly, no warp intrinsics, no libraries; that is
 * what lets the very same source run on a CPU under the sanitizers.  Rules:
 *   - every access to global memory goes through ck_ld / ck_st (or the 16-byte ck_ldg16): checked
 *     and counted there;
 *   - warp operations are by all 32 lanes: no early return before one, leave by predicate;
 *   - CK_ARCH is the code path: 750, 800, 900.  Never __CUDA_ARCH__;
 *   - kernels may overlap: every thread waits before it touches memory, see below. */
#ifndef CUDA_CK_H
#define CUDA_CK_H
#include "abi.h"

#if defined(CK_HOST)
#include "cudasim/ck_host.h"
#elif defined(__CUDACC__) || defined(__CUDA__)
#include "ck_device.h"
#else
#error "device code is for nvcc, for clang -x cuda, or for tests/cudasim"
#endif

/* --- what both sides have, and what is made of it --------------------
 *
 *   CK_KERNEL(name, threads) { ... a.field ... }    entry; its argument is `const name_args &a`,
 *                                                   or CK_KERNEL_OF(name, args, threads)
 *                                                   or CK_KERNEL_FEW(name, args, threads, blocks)
 *   CK_EARLY_OF, CK_EARLY_FEW                       the same for bodies that wait themselves
 *   CK_DEV                   static inline of device code
 *   ck_tid ck_bdim ck_bid_x ck_bid_y ck_bid_z ck_gdim_x     unsigned
 *   CK_SHARED(T, name, n);   n elements of static shared memory
 *   CK_SHARED_DYN(T, name);  the dynamic one of the launch
 *   ck_sync() ck_syncwarp()
 *   uint32_t ck_shfl_xor(uint32_t v, unsigned m), ck_shfl(uint32_t v, unsigned lane)
 *   float    ck_shfl_xor_f(float v, unsigned m),  ck_shfl_f(float v, unsigned lane)
 *   uint32_t ck_ballot(bool p);  uint32_t ck_popc(uint32_t v)     bits that are 1
 *   int      ck_dp4a(uint32_t a, uint32_t b, int c)          four signed bytes each
 *   void     ck_mma_mMnNkK_TYPE(c, a, b)   c += a . b on tensor cores, see below
 *   void     ck_ldmatrix_x4(uint32_t r[4], const void *row)   see below
 *   void     ck_ldmatrix_x4_trans(uint32_t r[4], const void *row)
 *   ck_u4    ck_get16(const void *p);  void ck_put16(void *p, ck_u4 v)   shared memory, 16-aligned
 *   T        ck_ld<T>(const T *p);  void ck_st(T *p, T v)    global memory, T of 1, 2, 4 or 8 bytes
 *   ck_u4    ck_ldg16(const void *p)   16 bytes read once: not kept in L1
 *   ck_u2    ck_ldg8(const void *p), uint32_t ck_ldg4(const void *p), uint16_t ck_ldg2(..)   alike
 *   ck_u4    ck_ld16(const void *p)    16 bytes that other blocks read, too
 *   float    ck_h2f(uint16_t), ck_bf2f(uint16_t);  uint16_t ck_f2h(float)
 *   float    ck_rsqrt(float) ck_exp(float) ck_tanh(float) ck_log1p(float) ck_erf(float)
 *   void     ck_sincos(double angle, float *s, float *c)     any angle, reduced in double
 *   float    ck_mul(float, float)      a product that no compiler joins with the sum behind it
 *   uint32_t ck_h2_sub(uint32_t a, uint32_t b), ck_h2_mul(..)     of two halves each, rounded once
 *   uint32_t ck_bytes(uint32_t a, uint32_t b, uint32_t which)     byte i is that which digit i of
 *                                      `which` says: 0 .. 3 of a, lowest first, 4 .. 7 of b
 *   uint32_t ck_atomic_add(uint32_t *p, uint32_t v), ck_atomic_max(uint32_t *p, uint32_t v)
 *   uint32_t ck_shared_add(uint32_t *p, uint32_t v)          the same in shared memory
 *   void     ck_fence()                                      device-wide
 *   void     ck_pdl_wait(), ck_pdl_launch(), ck_prefetch(const void *p)     see below
 *
 * Kernels that overlap (programmatic dependent launch; CUDA C++ Programming Guide; PTX ISA,
 * griddepcontrol).  From CK_ARCH 900 on a kernel may start while the one before it in the stream
 * still runs: once each block of that one has called ck_pdl_launch(), or has ended.
 * ck_pdl_wait() returns when all blocks of that one have ended and what they wrote is seen; at
 * once where nothing overlaps.  Before CK_ARCH 900 these words are nothing.  Rules:
 *   1. Every thread calls ck_pdl_wait() on every path through the kernel, and before that it
 *      neither reads nor writes global memory: counts of the descriptor, tables and what it will
 *      overwrite included.  Its arguments it may read.
 *   2. It may ck_prefetch() weights before, which no step writes: a hint to bring the 32 bytes
 *      around p into the L2 cache, and no access.
 *   3. ck_pdl_launch() comes behind the thread's own ck_pdl_wait().
 * Of kernels A, B, C in a row C waits for B alone.  By rule 1 B has not ended before A has, so
 * whoever is past its wait sees all before it ended, however long the row is; a B that left
 * without waiting would break that.  By rule 3 C does not even start before A has ended: at most
 * two kernels are on the card, and none that only waits takes the room of one that computes.
 * CK_KERNEL* wait and launch first thing, so that a body cannot forget to; only products, which
 * have weights to prefetch, are CK_EARLY_*.  The software GPU reports who breaks rules 1 and 3 in
 * a launch that is early.
 * ck_ldg* are for memory that nobody writes while the kernel or the one before it runs: weights.
 *
 * Tensor cores: c [M, N] += a [M, K] . b [K, N] by all 32 lanes, each of which has a piece of all
 * three.  With g = lane / 4, q = lane % 4 and a word of 4 bytes or of 2 halves, lowest k lowest:
 *
 *                          a: row, words of it     b: column, words     c: row, columns
 *   m8n8k16_s8             [0]  g,     q           [0]  g, q            [0, 1]  g, 2q and 2q + 1
 *   m16n8k16_s8, also      [0]  g,     q           [0]  g, q            [0, 1]  g, 2q and 2q + 1
 *   m16n8k8_f16            [1]  g + 8, q                                [2, 3]  g + 8, the same
 *   m16n8k32_s8, also      [0]  g,     q           [0]  g, q            [0, 1]  g, 2q and 2q + 1
 *   m16n8k16_f16, _bf16    [1]  g + 8, q           [1]  g, q + 4        [2, 3]  g + 8, the same
 *                          [2]  g,     q + 4
 *                          [3]  g + 8, q + 4
 *
 * c is int32 for s8 and exact, f32 for halves: exact products, sums in f32 whose order and rounding
 * are the card's.  m8n8k16_s8 and m16n8k8_f16 are on all cards, the others from CK_ARCH 800 on.
 * ck_ldmatrix_x4 reads four matrices of 8 rows of 16 bytes from shared memory: lane l names row
 * l % 8 of matrix l / 8, 16-aligned, and gets word q of row g of each; with _trans it gets halves
 * g of the rows 2q and 2q + 1 instead.
 * Source: PTX ISA 7.4, 9.7.13.4 "Matrix multiply-accumulate operation using mma instruction",
 * figures "Fragment layout for ...", and 9.7.13.4.12 "ldmatrix".                               */

CK_DEV unsigned ck_lane() { return ck_tid & 31u; }
CK_DEV unsigned ck_warp() { return ck_tid >> 5; }

/* Over the warp, the same bits in every lane. */
CK_DEV float ck_warp_sum(float v) {
    for (unsigned m = 16; m > 0; m >>= 1) v += ck_shfl_xor_f(v, m);
    return v;
}
CK_DEV float ck_warp_max(float v) {
    for (unsigned m = 16; m > 0; m >>= 1) {
        float o = ck_shfl_xor_f(v, m);
        v = o > v ? o : v;
    }
    return v;
}
CK_DEV int ck_warp_sum_i(int v) {
    for (unsigned m = 16; m > 0; m >>= 1) v += (int)ck_shfl_xor((uint32_t)v, m);
    return v;
}

#endif
