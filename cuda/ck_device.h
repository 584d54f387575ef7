/* ck_device.h - the words of ck.h on a GPU. */
#ifndef CUDA_CK_DEVICE_H
#define CUDA_CK_DEVICE_H

#ifdef __CUDACC__
#define CK_CONST_PARAM const __grid_constant__
#else
#include "ck_clang.h" /* clang has no CUDA headers here: threadIdx and friends */
#define CK_CONST_PARAM const
#endif

/* The code path follows from what is compiled for; the host chooses by compute capability. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 800
#define CK_ARCH 750
#elif __CUDA_ARCH__ < 900
#define CK_ARCH 800
#else
#define CK_ARCH 900
#endif

#define CK_EARLY_OF(name, args, threads) \
    extern "C" __global__ void __launch_bounds__(threads) name(CK_CONST_PARAM args a)
/* Of which an SM need not hold more than `blocks`: registers are not saved for more of them. */
#define CK_EARLY_FEW(name, args, threads, blocks) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(CK_CONST_PARAM args a)
/* The entry waits, and goes on with the body that follows. */
#define CK_WAITING(name, args, entry)       \
    CK_DEV void name##_body(const args &a); \
    entry {                                 \
        ck_pdl_wait();                      \
        ck_pdl_launch();                    \
        name##_body(a);                     \
    }                                       \
    CK_DEV void name##_body(const args &a)
#define CK_KERNEL_OF(name, args, threads) CK_WAITING(name, args, CK_EARLY_OF(name, args, threads))
#define CK_KERNEL_FEW(name, args, threads, blocks) \
    CK_WAITING(name, args, CK_EARLY_FEW(name, args, threads, blocks))
#define CK_KERNEL(name, threads) CK_KERNEL_OF(name, name##_args, threads)
#define CK_DEV                   static __device__ __forceinline__
#define CK_SHARED(T, name, n)    __shared__ __align__(16) T name[n]
#define CK_SHARED_DYN(T, name)                                     \
    extern __shared__ __align__(16) unsigned char ck_shared_dyn[]; \
    T *name = (T *)ck_shared_dyn

#define ck_tid    threadIdx.x
#define ck_bdim   blockDim.x
#define ck_bid_x  blockIdx.x
#define ck_bid_y  blockIdx.y
#define ck_bid_z  blockIdx.z
#define ck_gdim_x gridDim.x

typedef struct ck_u2 {
    uint32_t x, y;
} ck_u2;
typedef struct ck_u4 {
    uint32_t x, y, z, w;
} ck_u4;

CK_DEV void ck_sync() { __syncthreads(); }
CK_DEV void ck_syncwarp() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
CK_DEV uint32_t ck_shfl_xor(uint32_t v, unsigned m) {
    uint32_t r;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(r) : "r"(v), "r"(m));
    return r;
}
CK_DEV uint32_t ck_shfl(uint32_t v, unsigned lane) {
    uint32_t r;
    asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(r) : "r"(v), "r"(lane));
    return r;
}
CK_DEV float ck_u2f(uint32_t u) {
    float f;
    asm("mov.b32 %0, %1;" : "=f"(f) : "r"(u));
    return f;
}
CK_DEV uint32_t ck_f2u(float f) {
    uint32_t u;
    asm("mov.b32 %0, %1;" : "=r"(u) : "f"(f));
    return u;
}
CK_DEV uint32_t ck_bits(float f) { return ck_f2u(f); }
CK_DEV float ck_shfl_xor_f(float v, unsigned m) { return ck_u2f(ck_shfl_xor(ck_f2u(v), m)); }
CK_DEV float ck_shfl_f(float v, unsigned lane) { return ck_u2f(ck_shfl(ck_f2u(v), lane)); }
CK_DEV uint32_t ck_ballot(bool p) {
    uint32_t r;
    asm volatile("{ .reg .pred q; setp.ne.u32 q, %1, 0; vote.sync.ballot.b32 %0, q, 0xffffffff; }"
                 : "=r"(r)
                 : "r"((uint32_t)p));
    return r;
}
CK_DEV uint32_t ck_popc(uint32_t v) {
    uint32_t r;
    asm("popc.b32 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}
CK_DEV int ck_dp4a(uint32_t a, uint32_t b, int c) {
    int r;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}

/* --- tensor cores -------------------- */

CK_DEV void ck_mma_m8n8k16_s8(int c[2], const uint32_t a[1], const uint32_t b[1]) {
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(c[0]), "+r"(c[1])
                 : "r"(a[0]), "r"(b[0]));
}
CK_DEV void ck_mma_m16n8k8_f16(float c[4], const uint32_t a[2], const uint32_t b[1]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
#if CK_ARCH >= 800
CK_DEV void ck_mma_m16n8k16_s8(int c[4], const uint32_t a[2], const uint32_t b[1]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
CK_DEV void ck_mma_m16n8k32_s8(int c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
CK_DEV void ck_mma_m16n8k16_f16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
CK_DEV void ck_mma_m16n8k16_bf16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif
/* Where it is within shared memory. */
CK_DEV uint32_t ck_shared_at(const void *p) {
#ifdef __CUDACC__
    return (uint32_t)__cvta_generic_to_shared(p);
#else
    return (uint32_t)(uint64_t)(const __attribute__((address_space(3))) void *)p;
#endif
}
CK_DEV void ck_ldmatrix_x4(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ck_shared_at(row))
                 : "memory");
}
CK_DEV void ck_ldmatrix_x4_trans(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ck_shared_at(row))
                 : "memory");
}

/* --- shared memory -------------------- */

typedef struct alignas(16) ck_granule {
    ck_u4 words;
} ck_granule;
CK_DEV ck_u4 ck_get16(const void *p) { return ((const ck_granule *)p)->words; }
CK_DEV void ck_put16(void *p, ck_u4 v) { ((ck_granule *)p)->words = v; }

/* --- global memory -------------------- */

template <typename T> CK_DEV T ck_ld(const T *p) { return *p; }
template <typename T> CK_DEV void ck_st(T *p, T v) { *p = v; }
CK_DEV ck_u4 ck_ld16(const void *p) {
    ck_u4 r;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
                 : "l"(p));
    return r;
}
/* `.nc` without `.L1::no_allocate`: the latter needs PTX 7.4, and old drivers read 6.5. */
CK_DEV ck_u4 ck_ldg16(const void *p) {
    ck_u4 r;
    asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
                 : "l"(p));
    return r;
}
CK_DEV ck_u2 ck_ldg8(const void *p) {
    ck_u2 r;
    asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(r.x), "=r"(r.y) : "l"(p));
    return r;
}
CK_DEV uint32_t ck_ldg4(const void *p) {
    uint32_t r;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(r) : "l"(p));
    return r;
}
CK_DEV uint16_t ck_ldg2(const void *p) {
    uint16_t r;
    asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(r) : "l"(p));
    return r;
}

CK_DEV float ck_h2f(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
CK_DEV uint16_t ck_f2h(float f) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
CK_DEV uint32_t ck_h2_sub(uint32_t a, uint32_t b) {
    uint32_t r;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
CK_DEV uint32_t ck_h2_mul(uint32_t a, uint32_t b) {
    uint32_t r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
CK_DEV uint32_t ck_bytes(uint32_t a, uint32_t b, uint32_t which) {
    uint32_t r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(which));
    return r;
}
CK_DEV float ck_bf2f(uint16_t h) { return ck_u2f((uint32_t)h << 16); }
/* Good to about 2 ulp each; ck_math.h makes functions of them. */
CK_DEV float ck_ex2(float x) {
    float y;
    asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
CK_DEV float ck_lg2(float x) {
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
CK_DEV float ck_rsqrt(float x) {
    float y;
    asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
CK_DEV float ck_rcp(float x) {
    float y;
    asm("rcp.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
CK_DEV float ck_mul(float a, float b) {
    float r;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}
CK_DEV uint32_t ck_atomic_add(uint32_t *p, uint32_t v) {
    uint32_t r;
    asm volatile("atom.global.add.u32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory");
    return r;
}
CK_DEV uint32_t ck_atomic_max(uint32_t *p, uint32_t v) {
    uint32_t r;
    asm volatile("atom.global.max.u32 %0, [%1], %2;" : "=r"(r) : "l"(p), "r"(v) : "memory");
    return r;
}
CK_DEV uint32_t ck_shared_add(uint32_t *p, uint32_t v) {
    uint32_t r;
    asm volatile("{ .reg .u64 at; cvta.to.shared.u64 at, %1; atom.shared.add.u32 %0, [at], %2; }"
                 : "=r"(r)
                 : "l"(p), "r"(v)
                 : "memory");
    return r;
}
/* Before a ticket it releases what was written, behind it it acquires (PTX ISA, memory model);
 * membar.gl would also order them among all fences there are. */
CK_DEV void ck_fence() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

/* --- kernels that overlap -------------------- */

#if CK_ARCH >= 900
/* No compiler moves an access of memory across these. */
CK_DEV void ck_pdl_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
CK_DEV void ck_pdl_launch() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
CK_DEV void ck_prefetch(const void *p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
#else
CK_DEV void ck_pdl_wait() {}
CK_DEV void ck_pdl_launch() {}
CK_DEV void ck_prefetch(const void *p) { (void)p; }
#endif

#endif
