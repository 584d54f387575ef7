/* cu_abi.h - the part of the CUDA driver API that we use, in our own words.
 *
 * No NVIDIA header is needed to build: types, codes and prototypes below follow the CUDA Driver API
 * reference (11.4 to 13.0).  Symbols are the oldest versioned names that do what we need, so that
 * one binary works with every driver from 470 on; a newer header would rename some silently.
 * The list is also the contract of the software GPU in tests/cudasim, which exports them. */
#ifndef BACKEND_CUDA_CU_ABI_H
#define BACKEND_CUDA_CU_ABI_H

#include <stddef.h>
#include <stdint.h>

typedef int cu_result; /* 0: success */
typedef int cu_device; /* ordinal after CUDA_VISIBLE_DEVICES */
typedef unsigned long long cu_ptr;
typedef struct cu_context_st *cu_context;
typedef struct cu_module_st *cu_module;
typedef struct cu_function_st *cu_function;
typedef struct cu_stream_st *cu_stream;
typedef struct cu_event_st *cu_event;
typedef struct cu_graph_st *cu_graph;
typedef struct cu_graph_exec_st *cu_graph_exec;
/* On a thread of the driver's; it may call nothing of the driver. */
typedef void (*cu_host_fn)(void *ctx);
typedef struct cu_uuid {
    unsigned char bytes[16];
} cu_uuid;

/* X(name, number): the results that we tell apart. */
#define CU_RESULTS(X)                      \
    X(SUCCESS, 0)                          \
    X(INVALID_VALUE, 1)                    \
    X(OUT_OF_MEMORY, 2)                    \
    X(NOT_INITIALIZED, 3)                  \
    X(DEINITIALIZED, 4)                    \
    X(STUB_LIBRARY, 34)                    \
    X(DEVICE_UNAVAILABLE, 46)              \
    X(NO_DEVICE, 100)                      \
    X(INVALID_DEVICE, 101)                 \
    X(INVALID_IMAGE, 200)                  \
    X(INVALID_CONTEXT, 201)                \
    X(NO_BINARY_FOR_GPU, 209)              \
    X(ECC_UNCORRECTABLE, 214)              \
    X(INVALID_PTX, 218)                    \
    X(NVLINK_UNCORRECTABLE, 220)           \
    X(JIT_COMPILER_NOT_FOUND, 221)         \
    X(UNSUPPORTED_PTX_VERSION, 222)        \
    X(JIT_COMPILATION_DISABLED, 223)       \
    X(CONTAINED, 226)                      \
    X(OPERATING_SYSTEM, 304)               \
    X(INVALID_HANDLE, 400)                 \
    X(NOT_FOUND, 500)                      \
    X(NOT_READY, 600)                      \
    X(ILLEGAL_ADDRESS, 700)                \
    X(LAUNCH_OUT_OF_RESOURCES, 701)        \
    X(LAUNCH_TIMEOUT, 702)                 \
    X(PEER_ACCESS_ALREADY_ENABLED, 704)    \
    X(ASSERT, 710)                         \
    X(HOST_MEMORY_ALREADY_REGISTERED, 712) \
    X(HARDWARE_STACK_ERROR, 714)           \
    X(ILLEGAL_INSTRUCTION, 715)            \
    X(MISALIGNED_ADDRESS, 716)             \
    X(INVALID_ADDRESS_SPACE, 717)          \
    X(INVALID_PC, 718)                     \
    X(LAUNCH_FAILED, 719)                  \
    X(TENSOR_MEMORY_LEAK, 721)             \
    X(NOT_PERMITTED, 800)                  \
    X(NOT_SUPPORTED, 801)                  \
    X(SYSTEM_NOT_READY, 802)               \
    X(SYSTEM_DRIVER_MISMATCH, 803)         \
    X(COMPAT_NOT_SUPPORTED_ON_DEVICE, 804) \
    X(MPS_CLIENT_TERMINATED, 810)          \
    X(STREAM_CAPTURE_UNSUPPORTED, 900)     \
    X(STREAM_CAPTURE_INVALIDATED, 901)     \
    X(STREAM_CAPTURE_IMPLICIT, 906)        \
    X(EXTERNAL_DEVICE, 911)                \
    X(UNKNOWN, 999)

enum {
#define CU_RESULT_ENUM(name, number) CU_##name = number,
    CU_RESULTS(CU_RESULT_ENUM)
#undef CU_RESULT_ENUM
};

/* CUdevice_attribute */
enum {
    CU_ATTR_MAX_THREADS_PER_BLOCK = 1,
    CU_ATTR_MAX_SHARED_PER_BLOCK = 8,
    CU_ATTR_WARP_SIZE = 10,
    CU_ATTR_MAX_REGISTERS_PER_BLOCK = 12,
    CU_ATTR_CLOCK_KHZ = 13,
    CU_ATTR_SM_COUNT = 16,
    CU_ATTR_INTEGRATED = 18,
    CU_ATTR_COMPUTE_MODE = 20, /* 0 default, 2 prohibited, 3 exclusive process */
    CU_ATTR_ECC_ENABLED = 32,
    CU_ATTR_PCI_BUS = 33,
    CU_ATTR_PCI_DEVICE = 34,
    CU_ATTR_MEMORY_CLOCK_KHZ = 36,
    CU_ATTR_MEMORY_BUS_BITS = 37,
    CU_ATTR_L2_BYTES = 38,
    CU_ATTR_MAX_THREADS_PER_SM = 39,
    CU_ATTR_PCI_DOMAIN = 50,
    CU_ATTR_CC_MAJOR = 75,
    CU_ATTR_CC_MINOR = 76,
    CU_ATTR_MAX_SHARED_PER_SM = 81,
    CU_ATTR_MAX_SHARED_OPTIN = 97,
    CU_ATTR_VMM_SUPPORTED = 102
};

/* CUfunction_attribute */
enum {
    CU_FUNC_SHARED_BYTES = 1,
    CU_FUNC_LOCAL_BYTES = 3,
    CU_FUNC_REGISTERS = 4,
    CU_FUNC_PTX_VERSION = 5,
    CU_FUNC_BINARY_VERSION = 6,
    CU_FUNC_MAX_DYNAMIC_SHARED = 8
};

/* flags */
enum {
    CU_STREAM_NON_BLOCKING_FLAG = 1,
    CU_EVENT_DEFAULT_FLAG = 0,
    CU_EVENT_BLOCKING_SYNC_FLAG = 1,
    CU_EVENT_DISABLE_TIMING_FLAG = 2,
    CU_HOST_ALLOC_PORTABLE = 1,
    CU_LIMIT_STACK_BYTES = 0,
    CU_CAPTURE_THREAD_LOCAL = 1,
    /* cuModuleLoadDataEx options */
    CU_JIT_INFO_LOG_BUFFER = 3,
    CU_JIT_INFO_LOG_BUFFER_BYTES = 4,
    CU_JIT_ERROR_LOG_BUFFER = 5,
    CU_JIT_ERROR_LOG_BUFFER_BYTES = 6
};

/* CUlaunchAttributeID, of which we use one: the kernel may start before the one ahead of it in the
 * stream has ended.  CUlaunchAttribute and its value have these sizes by contract. */
enum { CU_LAUNCH_PROGRAMMATIC_SERIALIZATION = 6 };

typedef struct cu_launch_attribute {
    int id;
    char pad[4];
    union {
        unsigned long long words[8];
        int number;
    } value;
} cu_launch_attribute;
_Static_assert(sizeof(cu_launch_attribute) == 72, "CUlaunchAttribute");

typedef struct cu_launch_config { /* CUlaunchConfig */
    unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
    cu_stream stream;
    const cu_launch_attribute *attributes; /* [attributes_count] */
    unsigned attributes_count;
} cu_launch_config;
_Static_assert(sizeof(cu_launch_config) == 56, "CUlaunchConfig");

/* X(need, field, symbol, arguments): need is REQUIRED, or OPTIONAL where we do without. */
#define CU_FUNCTIONS(X)                                                                            \
    X(REQUIRED, init, cuInit, (unsigned flags))                                                    \
    X(REQUIRED, driver_version, cuDriverGetVersion, (int *version))                                \
    X(REQUIRED, error_name, cuGetErrorName, (cu_result code, const char **name))                   \
    X(REQUIRED, error_string, cuGetErrorString, (cu_result code, const char **text))               \
    X(REQUIRED, device_count, cuDeviceGetCount, (int *count))                                      \
    X(REQUIRED, device_get, cuDeviceGet, (cu_device * out, int ordinal))                           \
    X(REQUIRED, device_name, cuDeviceGetName, (char *name, int name_bytes, cu_device dev))         \
    X(REQUIRED, device_uuid, cuDeviceGetUuid, (cu_uuid * out, cu_device dev))                      \
    X(REQUIRED, device_memory, cuDeviceTotalMem_v2, (size_t * bytes, cu_device dev))               \
    X(REQUIRED, device_attribute, cuDeviceGetAttribute, (int *out, int attribute, cu_device dev))  \
    X(REQUIRED, device_pci, cuDeviceGetPCIBusId, (char *id, int id_bytes, cu_device dev))          \
    X(REQUIRED, context_retain, cuDevicePrimaryCtxRetain, (cu_context * out, cu_device dev))       \
    X(REQUIRED, context_release, cuDevicePrimaryCtxRelease_v2, (cu_device dev))                    \
    X(REQUIRED, context_set, cuCtxSetCurrent, (cu_context ctx))                                    \
    X(REQUIRED, context_get, cuCtxGetCurrent, (cu_context * out))                                  \
    X(REQUIRED, context_sync, cuCtxSynchronize, (void))                                            \
    X(REQUIRED, context_limit, cuCtxSetLimit, (int limit, size_t value))                           \
    X(REQUIRED, module_load, cuModuleLoadDataEx,                                                   \
      (cu_module * out, const void *image, unsigned options_count, int *options, void **values))   \
    X(REQUIRED, module_unload, cuModuleUnload, (cu_module module))                                 \
    X(REQUIRED, module_function, cuModuleGetFunction,                                              \
      (cu_function * out, cu_module module, const char *name))                                     \
    X(REQUIRED, function_get, cuFuncGetAttribute, (int *out, int attribute, cu_function f))        \
    X(REQUIRED, function_set, cuFuncSetAttribute, (cu_function f, int attribute, int value))       \
    X(REQUIRED, occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor,                            \
      (int *blocks, cu_function f, int threads, size_t shared_bytes))                              \
    X(REQUIRED, launch, cuLaunchKernel,                                                            \
      (cu_function f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,         \
       unsigned block_y, unsigned block_z, unsigned shared_bytes, cu_stream stream, void **args,   \
       void **extra))                                                                              \
    X(REQUIRED, launch_host, cuLaunchHostFunc, (cu_stream stream, cu_host_fn fn, void *ctx))       \
    X(REQUIRED, mem_alloc, cuMemAlloc_v2, (cu_ptr * out, size_t bytes))                            \
    X(REQUIRED, mem_free, cuMemFree_v2, (cu_ptr ptr))                                              \
    X(REQUIRED, mem_info, cuMemGetInfo_v2, (size_t * free_bytes, size_t * total_bytes))            \
    X(REQUIRED, host_alloc, cuMemHostAlloc, (void **out, size_t bytes, unsigned flags))            \
    X(REQUIRED, host_free, cuMemFreeHost, (void *ptr))                                             \
    X(REQUIRED, host_register, cuMemHostRegister_v2, (void *ptr, size_t bytes, unsigned flags))    \
    X(REQUIRED, host_unregister, cuMemHostUnregister, (void *ptr))                                 \
    X(REQUIRED, copy_to_device, cuMemcpyHtoDAsync_v2,                                              \
      (cu_ptr dst, const void *src, size_t bytes, cu_stream stream))                               \
    X(REQUIRED, copy_to_host, cuMemcpyDtoHAsync_v2,                                                \
      (void *dst, cu_ptr src, size_t bytes, cu_stream stream))                                     \
    X(REQUIRED, copy_on_device, cuMemcpyDtoDAsync_v2,                                              \
      (cu_ptr dst, cu_ptr src, size_t bytes, cu_stream stream))                                    \
    X(REQUIRED, fill_bytes, cuMemsetD8Async,                                                       \
      (cu_ptr dst, unsigned char value, size_t bytes, cu_stream stream))                           \
    X(REQUIRED, fill_words, cuMemsetD32Async,                                                      \
      (cu_ptr dst, unsigned value, size_t words, cu_stream stream))                                \
    X(REQUIRED, stream_create, cuStreamCreateWithPriority,                                         \
      (cu_stream * out, unsigned flags, int priority))                                             \
    X(REQUIRED, stream_destroy, cuStreamDestroy_v2, (cu_stream stream))                            \
    X(REQUIRED, stream_sync, cuStreamSynchronize, (cu_stream stream))                              \
    X(REQUIRED, stream_query, cuStreamQuery, (cu_stream stream))                                   \
    X(REQUIRED, stream_wait, cuStreamWaitEvent,                                                    \
      (cu_stream stream, cu_event event, unsigned flags))                                          \
    X(REQUIRED, event_create, cuEventCreate, (cu_event * out, unsigned flags))                     \
    X(REQUIRED, event_destroy, cuEventDestroy_v2, (cu_event event))                                \
    X(REQUIRED, event_record, cuEventRecord, (cu_event event, cu_stream stream))                   \
    X(REQUIRED, event_query, cuEventQuery, (cu_event event))                                       \
    X(REQUIRED, event_sync, cuEventSynchronize, (cu_event event))                                  \
    X(REQUIRED, event_elapsed, cuEventElapsedTime, (float *ms, cu_event from, cu_event to))        \
    X(REQUIRED, capture_begin, cuStreamBeginCapture_v2, (cu_stream stream, int mode))              \
    X(REQUIRED, capture_end, cuStreamEndCapture, (cu_stream stream, cu_graph * out))               \
    X(REQUIRED, graph_instantiate, cuGraphInstantiateWithFlags,                                    \
      (cu_graph_exec * out, cu_graph graph, unsigned long long flags))                             \
    X(REQUIRED, graph_launch, cuGraphLaunch, (cu_graph_exec exec, cu_stream stream))               \
    X(REQUIRED, graph_exec_destroy, cuGraphExecDestroy, (cu_graph_exec exec))                      \
    X(REQUIRED, graph_destroy, cuGraphDestroy, (cu_graph graph))                                   \
    X(OPTIONAL, can_access_peer, cuDeviceCanAccessPeer, (int *can, cu_device dev, cu_device peer)) \
    X(OPTIONAL, enable_peer, cuCtxEnablePeerAccess, (cu_context peer, unsigned flags))             \
    X(OPTIONAL, copy_peer, cuMemcpyPeerAsync,                                                      \
      (cu_ptr dst, cu_context dst_ctx, cu_ptr src, cu_context src_ctx, size_t bytes,               \
       cu_stream stream))                                                                          \
    X(OPTIONAL, launch_ex, cuLaunchKernelEx,                                                       \
      (const cu_launch_config *config, cu_function f, void **args, void **extra))

#endif
