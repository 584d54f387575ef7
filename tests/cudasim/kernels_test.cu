/* kernels_test.cu - small kernels for the executor's own tests: good ones, and all kinds of bad.
 * Not part of Gantry; linked into the test binary only. */
#include "../../cuda/ck.h"
#include "cudasim/kernels_test.h"

/* Sums and maxima by shuffles, ballots, a value from a lane: of each warp. */
CK_KERNEL_OF(k_test_warp, k_test_args, 1024) {
    const float *in = (const float *)a.in;
    uint32_t *out = (uint32_t *)a.out + 4 * (ck_bid_x * ck_bdim + ck_tid);
    float v = ck_ld(in + ck_bid_x * ck_bdim + ck_tid);
    float sum = ck_warp_sum(v);
    uint32_t ballot = ck_ballot(v > 0.0f);
    uint32_t from = ck_shfl(ck_tid, (ck_tid * 7 + 3) & 31u);
    ck_syncwarp();
    ck_st(out, ck_f2u(sum));
    ck_st(out + 1, ballot);
    ck_st(out + 2, from);
    ck_st(out + 3, ck_f2u(ck_warp_max(v)));
}

/* Rotates its numbers n times through shared memory; with a barrier left out when mode is 1. */
CK_DEV void rotate(const k_test_args &a, bool with_barrier) {
    CK_SHARED(uint32_t, box, 1024);
    uint32_t v = ck_tid;
    for (uint32_t i = 0; i < a.n; i++) {
        box[ck_tid] = v;
        if (with_barrier) ck_sync();
        v = box[(ck_tid + 1) % ck_bdim];
        ck_sync();
    }
    ck_st((uint32_t *)a.out + ck_bid_x * ck_bdim + ck_tid, v);
}

CK_KERNEL_OF(k_test_barrier, k_test_args, 1024) { rotate(a, true); }
CK_KERNEL_OF(k_test_no_barrier, k_test_args, 1024) { rotate(a, false); }

/* All blocks write the same words: mode 0 from the same threads, else from others. */
CK_KERNEL_OF(k_test_block_race, k_test_args, 1024) {
    uint32_t i = a.mode == 0 ? ck_tid : (ck_tid + ck_bid_x) % ck_bdim;
    ck_st((uint32_t *)a.out + i, i);
}

/* Half of each warp leaves before a shuffle. */
CK_KERNEL_OF(k_test_half_warp, k_test_args, 1024) {
    uint32_t v = ck_tid;
    if (ck_lane() < 16) v = ck_shfl_xor(v, 1);
    ck_st((uint32_t *)a.out + ck_tid, v);
}

/* Half of each warp is in a shuffle, the other in a ballot. */
CK_KERNEL_OF(k_test_mixed_warp, k_test_args, 1024) {
    uint32_t v;
    if (ck_lane() < 16)
        v = ck_shfl_xor(ck_tid, 1);
    else
        v = ck_ballot(true);
    ck_st((uint32_t *)a.out + ck_tid, v);
}

/* Warps from n on end before the second barrier. */
CK_KERNEL_OF(k_test_half_barrier, k_test_args, 1024) {
    ck_sync();
    if (ck_warp() >= a.n) return;
    ck_sync();
    ck_st((uint32_t *)a.out + ck_tid, 1u);
}

/* Thread n of block 1 reads or writes where mode says. */
CK_KERNEL_OF(k_test_address, k_test_args, 1024) {
    if (ck_bid_x != 1 || ck_tid != a.n) return;
    uint32_t v = 0;
    if (a.mode == 0) v = ck_ld((const uint32_t *)a.in);
    if (a.mode == 1) ck_st((uint32_t *)a.in, 1u);
    if (a.mode == 2) v = ck_ldg16((const void *)a.in).x;
    if (a.mode == 3) v = ck_atomic_add((uint32_t *)a.in, 1);
    if (a.mode == 4) v = ck_ldg2((const void *)a.in);
    ck_st((uint32_t *)a.out, v);
}

/* What shared memory holds before it is written: block 1 must not see block 0's. */
CK_KERNEL_OF(k_test_shared, k_test_args, 1024) {
    CK_SHARED(uint32_t, first, 64);
    CK_SHARED(uint8_t, odd, 5);
    CK_SHARED(double, second, 32);
    CK_SHARED_DYN(uint32_t, dyn);
    uint32_t *out = (uint32_t *)a.out + 4 * (ck_bid_x * ck_bdim + ck_tid);
    ck_st(out, first[ck_tid]);
    ck_st(out + 1, dyn[ck_tid]);
    ck_st(out + 2, (uint32_t)odd[ck_tid % 5]);
    const uintptr_t all = (uintptr_t)first | (uintptr_t)odd | (uintptr_t)second | (uintptr_t)dyn;
    ck_st(out + 3, (uint32_t)all);
    ck_sync();
    first[ck_tid] = 1;
    dyn[ck_tid] = 2;
    if (ck_tid < 5) odd[ck_tid] = 3;
    second[ck_tid] = 4;
}

/* One word beyond its dynamic (mode 0) or static array. */
CK_KERNEL_OF(k_test_shared_over, k_test_args, 1024) {
    CK_SHARED(uint32_t, fixed, 32);
    CK_SHARED_DYN(uint32_t, dyn);
    volatile uint32_t *p = a.mode == 0 ? dyn : fixed;
    if (ck_tid == 0) p[a.n] = 1;
}

/* Accesses with known numbers of sectors, n times in a row; lanes from `mode >> 8` on make none. */
CK_KERNEL_OF(k_test_sectors, k_test_args, 1024) {
    const char *in = (const char *)a.in;
    uint32_t lanes = a.mode >> 8 ? a.mode >> 8 : 32, mode = a.mode & 255u, sum = 0;
    for (uint32_t i = 0; i < a.n; i++) {
        if (ck_lane() >= lanes) continue;
        uint32_t at = ck_warp() * 32 + ck_lane();
        if (mode == 0) sum += ck_ldg16(in + 16 * at).x;
        if (mode == 1) sum += ck_ldg16(in + 32 * at).x;
        if (mode == 2) sum += ck_ld16(in).x;
        if (mode == 3) sum += ck_ld((const uint8_t *)in + 7);
        if (mode == 4) sum += ck_ldg4(in + 4 * (31 - ck_lane()));
        if (mode == 5) sum += ck_ld((const uint32_t *)(in + 16 + 4 * ck_lane()));
    }
    if (mode == 6) ck_st((uint32_t *)a.out + 2 * ck_tid, sum);
    if (mode == 7 && ck_lane() == 5) ck_st((uint32_t *)a.out + ck_warp(), sum);
    if (sum == 12345) ck_st((uint32_t *)a.out, sum);
}

CK_KERNEL_OF(k_test_atomic, k_test_args, 1024) {
    uint32_t *out = (uint32_t *)a.out;
    ck_atomic_add(out, ck_tid);
    ck_atomic_max(out + 1, ck_bid_x * ck_bdim + ck_tid);
}

/* The last block to finish adds up what the others wrote: needs the fences. */
CK_KERNEL_OF(k_test_last_block, k_test_args, 1024) {
    CK_SHARED(uint32_t, last, 1);
    uint32_t *out = (uint32_t *)a.out, blocks = ck_gdim_x;
    if (ck_tid == 0) {
        ck_st(out + 2 + ck_bid_x, ck_bid_x + 1);
        if (a.mode == 0) ck_fence();
        last[0] = ck_atomic_add(out, 1) == blocks - 1;
        if (a.mode == 0) ck_fence();
    }
    ck_sync();
    if (last[0] == 0 || ck_tid != 0) return;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < blocks; i++) sum += ck_ld(out + 2 + i);
    ck_st(out + 1, sum);
}

/* Every half to float and back, sums of products of bytes, the float words. */
CK_KERNEL_OF(k_test_words, k_test_args, 1024) {
    uint32_t i = ck_bid_x * ck_bdim + ck_tid;
    float *out = (float *)a.out + 12 * i;
    float h = ck_h2f((uint16_t)i);
    float x = ck_ld((const float *)a.in + i);
    ck_st(out, h);
    ck_st(out + 1, ck_u2f(ck_f2h(h)));
    ck_st(out + 2, ck_u2f(ck_f2h(x)));
    ck_st(out + 3, ck_u2f((uint32_t)ck_dp4a(i * 0x9E3779B9u, i * 0x85EBCA6Bu, (int)i)));
    ck_st(out + 4, ck_ex2(x));
    ck_st(out + 5, ck_lg2(x));
    ck_st(out + 6, ck_rsqrt(x));
    ck_st(out + 7, ck_rcp(ck_bf2f((uint16_t)(ck_bits(x) >> 16))));
    ck_st(out + 8, (float)ck_popc(i * 0x9E3779B9u));
    ck_st((uint32_t *)out + 9, ck_h2_sub(i * 0x9E3779B9u, i * 0x85EBCA6Bu));
    ck_st((uint32_t *)out + 10, ck_h2_mul(i * 0x9E3779B9u, i * 0x85EBCA6Bu));
    ck_st((uint32_t *)out + 11, ck_bytes(i * 0x9E3779B9u, i * 0x85EBCA6Bu, i & 0x7777u));
}

/* What the counters count besides memory: n barriers, n shuffles, n dp4a each. */
CK_KERNEL_OF(k_test_counted, k_test_args, 1024) {
    int c = 0;
    for (uint32_t i = 0; i < a.n; i++) {
        ck_sync();
        c = ck_dp4a((uint32_t)c, ck_shfl_xor(ck_tid, 1), (int)i);
    }
    ck_st((int *)a.out + ck_tid, c);
}

/* --- kernels that overlap -------------------- */

/* Good in mode 0, else wrong in one way each; thread n of block 1 is the one that is wrong. */
CK_EARLY_OF(k_test_early, k_test_args, 1024) {
    const uint32_t *in = (const uint32_t *)a.in;
    uint32_t *out = (uint32_t *)a.out, i = ck_bid_x * ck_bdim + ck_tid, early = 0;
    const bool wrong = ck_bid_x == 1 && ck_tid == a.n;
    ck_prefetch(in + i);
    if (wrong && a.mode == 1) early = ck_ld(in + i);
    if (wrong && a.mode == 2) ck_st(out + i, 0u);
    if (wrong && a.mode == 3) early = ck_atomic_add(out + i, 1);
    if (wrong && a.mode == 4) early = ck_ldg4(in + i);
    if (wrong && a.mode == 5) ck_pdl_launch();
    if (wrong && a.mode == 6) return;
    if (wrong && a.mode == 7) ck_prefetch(in - 1);
    if (wrong && a.mode == 8) ck_prefetch(in + ck_gdim_x * ck_bdim + 256);
    ck_sync(); /* whoever waits does not wait for the others */
    if (wrong && a.mode == 9) ck_st(out + i, 0u);
    ck_pdl_wait();
    ck_pdl_launch();
    ck_st(out + i, ck_ld(in + i) + early);
}

/* --- tensor cores -------------------- */

/* The fragments word by word, as PTX ISA 7.4, 9.7.13.4 draws them.  Block n multiplies its own
 * in: a [ROWS][K_WORDS * 4], b by columns [8][K_WORDS * 4] words, c [ROWS][8]; out [ROWS][8]. */
template <typename shape, typename T, uint32_t ROWS, uint32_t K_WORDS>
CK_DEV void test_mma(const k_test_args &a) {
    enum { HALVES = ROWS / 8, K = K_WORDS * 4 }; /* words of a row */
    const uint32_t g = ck_lane() / 4, q = ck_lane() % 4;
    const uint32_t *in_a = (const uint32_t *)a.in + ck_bid_x * (ROWS * K + 8 * K + ROWS * 8);
    const uint32_t *in_b = in_a + ROWS * K;
    const T *in_c = (const T *)(in_b + 8 * K);
    T *out = (T *)a.out + ck_bid_x * ROWS * 8, c[2 * HALVES];
    uint32_t fa[HALVES * K_WORDS], fb[K_WORDS];
#pragma unroll
    for (uint32_t i = 0; i < HALVES * K_WORDS; i++)
        fa[i] = ck_ld(in_a + (g + i % HALVES * 8) * K + q + i / HALVES * 4);
#pragma unroll
    for (uint32_t i = 0; i < K_WORDS; i++) fb[i] = ck_ld(in_b + g * K + q + i * 4);
#pragma unroll
    for (uint32_t i = 0; i < 2 * HALVES; i++)
        c[i] = ck_ld(in_c + (g + i / 2 * 8) * 8 + 2 * q + i % 2);
    shape::mma(c, fa, fb);
#pragma unroll
    for (uint32_t i = 0; i < 2 * HALVES; i++)
        ck_st(out + (g + i / 2 * 8) * 8 + 2 * q + i % 2, c[i]);
}

#define TEST_MMA(shape, T, rows, k_words)                                                        \
    struct shape {                                                                               \
        CK_DEV void mma(T *c, const uint32_t *a, const uint32_t *b) { ck_mma_##shape(c, a, b); } \
    };                                                                                           \
    CK_KERNEL_OF(k_test_mma_##shape, k_test_args, 32) { test_mma<shape, T, rows, k_words>(a); }

TEST_MMA(m8n8k16_s8, int, 8, 1)
TEST_MMA(m16n8k8_f16, float, 16, 1)
#if CK_ARCH >= 800
TEST_MMA(m16n8k16_s8, int, 16, 1)
TEST_MMA(m16n8k32_s8, int, 16, 2)
TEST_MMA(m16n8k16_f16, float, 16, 2)
TEST_MMA(m16n8k16_bf16, float, 16, 2)
#endif

/* in: 32 rows of 4 words; out: 4 words for each lane.  Lane l names row n * l modulo 32, `mode`
 * bytes into it. */
struct ldmatrix_plain {
    CK_DEV void load(uint32_t r[4], const void *row) { ck_ldmatrix_x4(r, row); }
};
struct ldmatrix_trans {
    CK_DEV void load(uint32_t r[4], const void *row) { ck_ldmatrix_x4_trans(r, row); }
};

template <typename word> CK_DEV void test_ldmatrix(const k_test_args &a) {
    CK_SHARED(uint32_t, rows, 32 * 4 + 4);
    uint32_t r[4];
    for (uint32_t i = 0; i < 4; i++)
        rows[ck_lane() * 4 + i] = ck_ld((const uint32_t *)a.in + ck_lane() * 4 + i);
    ck_syncwarp();
    word::load(r, (const uint8_t *)rows + ck_lane() * a.n % 32 * 16 + a.mode);
    for (uint32_t i = 0; i < 4; i++) ck_st((uint32_t *)a.out + ck_lane() * 4 + i, r[i]);
}
CK_KERNEL_OF(k_test_ldmatrix, k_test_args, 32) { test_ldmatrix<ldmatrix_plain>(a); }
CK_KERNEL_OF(k_test_ldmatrix_trans, k_test_args, 32) { test_ldmatrix<ldmatrix_trans>(a); }

/* Lane l has to do with granule n * l of 16 bytes of shared memory.  Mode 0 writes lane numbers, 1
 * reads, 2 reads as rows of matrices; lanes from 8 on leave it out in mode 3, which reads. */
CK_KERNEL_OF(k_test_granules, k_test_args, 32) {
    CK_SHARED(uint32_t, rows, 32 * 8 * 4);
    uint32_t r[4] = {}, *own = rows + ck_lane() * a.n * 4;
    for (uint32_t i = ck_lane(); i < 32 * 8 * 4; i += 32) rows[i] = i / 4 / a.n;
    ck_syncwarp();
    if (a.mode == 0) ck_put16(own, {ck_lane(), ck_lane(), ck_lane(), ck_lane()});
    if (a.mode == 2) ck_ldmatrix_x4(r, own);
    if (a.mode == 1 || (a.mode == 3 && ck_lane() < 8)) r[0] = ck_get16(own).x;
    ck_syncwarp();
    ck_st((uint32_t *)a.out + ck_lane(), a.mode == 0 ? own[3] : r[0]);
}
