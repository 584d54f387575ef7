/* ck_clang.h - what clang needs to compile device code to PTX without NVIDIA's headers.
 *
 * clang knows the language's attributes and special registers by itself; a CUDA header would give
 * them their usual names (LLVM, "Compiling CUDA with clang"; NVPTX usage guide). */
#ifndef CUDA_CK_CLANG_H
#define CUDA_CK_CLANG_H

#define __global__             __attribute__((global))
#define __device__             __attribute__((device))
#define __shared__             __attribute__((shared))
#define __forceinline__        __inline__ __attribute__((always_inline))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __align__(n)           __attribute__((aligned(n)))
#define __restrict__ __restrict

/* Reading a field reads the register. */
#define CK_SPECIAL(field, builtin)                          \
    __declspec(property(get = get_##field)) unsigned field; \
    static __device__ __forceinline__ unsigned get_##field() { return builtin(); }

struct ck_tid_registers {
    CK_SPECIAL(x, __nvvm_read_ptx_sreg_tid_x)
};
struct ck_bid_registers {
    CK_SPECIAL(x, __nvvm_read_ptx_sreg_ctaid_x)
    CK_SPECIAL(y, __nvvm_read_ptx_sreg_ctaid_y)
    CK_SPECIAL(z, __nvvm_read_ptx_sreg_ctaid_z)
};
struct ck_bdim_registers {
    CK_SPECIAL(x, __nvvm_read_ptx_sreg_ntid_x)
};
struct ck_gdim_registers {
    CK_SPECIAL(x, __nvvm_read_ptx_sreg_nctaid_x)
};
extern const __device__ ck_tid_registers threadIdx;
extern const __device__ ck_bid_registers blockIdx;
extern const __device__ ck_bdim_registers blockDim;
extern const __device__ ck_gdim_registers gridDim;

#define __syncthreads() __nvvm_bar_sync(0)

#endif
