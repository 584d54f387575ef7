/* cuda_fake.c - see cuda_fake.h. */
#include "cuda_fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cuda_fake fake;

/* Logs the call, and says whether it fails. */
static cu_result fake_call(const char *name) {
    size_t at = strlen(fake.log);
    const int n = snprintf(fake.log + at, sizeof fake.log - at, "%s ", name);
    if ((size_t)n >= sizeof fake.log - at) { /* counts would be wrong */
        (void)fprintf(stderr, "cuda_fake: the log of %zu bytes is full\n", sizeof fake.log);
        abort();
    }
    if (fake.fail_call == NULL || strcmp(fake.fail_call, name) != 0) return CU_SUCCESS;
    return cuda_fake_count(name) == fake.fail_at ? fake.fail_result : CU_SUCCESS;
}

int cuda_fake_count(const char *call) {
    int count = 0;
    size_t n = strlen(call);
    for (const char *at = fake.log; (at = strstr(at, call)) != NULL; at += n)
        count += at[n] == ' ' && (at == fake.log || at[-1] == ' ');
    return count;
}

#define FAKE_CALL(name)                        \
    do {                                       \
        cu_result code_ = fake_call(name);     \
        if (code_ != CU_SUCCESS) return code_; \
    } while (0)

/* A handle that is not NULL. */
static void *handle(size_t number) { return (void *)(uintptr_t)(0x1000 + number * 16); }

/* --- devices ----------------------------------------------------------------- */

static cu_result fake_init(unsigned flags) {
    (void)flags;
    FAKE_CALL("cuInit");
    return fake.init_result;
}

static cu_result fake_device_count(int *count) {
    FAKE_CALL("cuDeviceGetCount");
    *count = fake.devices_count;
    return CU_SUCCESS;
}

static cu_result fake_device_get(cu_device *out, int ordinal) {
    FAKE_CALL("cuDeviceGet");
    if (ordinal < 0 || ordinal >= fake.devices_count) return CU_INVALID_DEVICE;
    *out = ordinal;
    return CU_SUCCESS;
}

static cu_result fake_device_name(char *name, int name_bytes, cu_device dev) {
    FAKE_CALL("cuDeviceGetName");
    (void)snprintf(name, (size_t)name_bytes, "%s", fake.devices[dev].name);
    return CU_SUCCESS;
}

static cu_result fake_device_uuid(cu_uuid *out, cu_device dev) {
    FAKE_CALL("cuDeviceGetUuid");
    memset(out->bytes, 0x11, sizeof out->bytes);
    out->bytes[0] = fake.devices[dev].uuid0;
    return CU_SUCCESS;
}

static cu_result fake_device_memory(size_t *bytes, cu_device dev) {
    FAKE_CALL("cuDeviceTotalMem_v2");
    *bytes = fake.devices[dev].memory;
    return CU_SUCCESS;
}

static cu_result fake_device_attribute(int *out, int attribute, cu_device dev) {
    FAKE_CALL("cuDeviceGetAttribute");
    const fake_device *d = &fake.devices[dev];
    switch (attribute) {
    case CU_ATTR_CC_MAJOR:
        *out = d->major;
        return CU_SUCCESS;
    case CU_ATTR_CC_MINOR:
        *out = d->minor;
        return CU_SUCCESS;
    case CU_ATTR_SM_COUNT:
        *out = d->sms;
        return CU_SUCCESS;
    case CU_ATTR_COMPUTE_MODE:
        *out = d->mode;
        return CU_SUCCESS;
    case CU_ATTR_MAX_SHARED_OPTIN:
        *out = 64 * 1024;
        return CU_SUCCESS;
    default:
        return CU_INVALID_VALUE;
    }
}

static cu_result fake_device_pci(char *id, int id_bytes, cu_device dev) {
    FAKE_CALL("cuDeviceGetPCIBusId");
    (void)snprintf(id, (size_t)id_bytes, "%s", fake.devices[dev].pci);
    return CU_SUCCESS;
}

/* --- contexts ---------------------------------------------------------------- */

static cu_context current;

static cu_result fake_context_retain(cu_context *out, cu_device dev) {
    FAKE_CALL("cuDevicePrimaryCtxRetain");
    fake.contexts++;
    *out = handle((size_t)dev);
    return CU_SUCCESS;
}

static cu_result fake_context_release(cu_device dev) {
    (void)dev;
    FAKE_CALL("cuDevicePrimaryCtxRelease");
    fake.contexts--;
    return CU_SUCCESS;
}

static cu_result fake_context_set(cu_context ctx) {
    FAKE_CALL("cuCtxSetCurrent");
    current = ctx;
    return CU_SUCCESS;
}

static cu_result fake_context_get(cu_context *out) {
    FAKE_CALL("cuCtxGetCurrent");
    *out = current;
    return CU_SUCCESS;
}

static cu_result fake_context_sync(void) { return fake_call("cuCtxSynchronize"); }

static cu_result fake_context_limit(int limit, size_t value) {
    (void)limit;
    (void)value;
    return fake_call("cuCtxSetLimit");
}

static cu_result fake_mem_info(size_t *free_bytes, size_t *total_bytes) {
    FAKE_CALL("cuMemGetInfo_v2");
    size_t idx = current == NULL ? 0 : ((uintptr_t)current - 0x1000) / 16;
    *free_bytes = fake.devices[idx].free;
    *total_bytes = fake.devices[idx].memory;
    return CU_SUCCESS;
}

/* --- code -------------------------------------------------------------------- */

static cu_result fake_module_load(cu_module *out, const void *image, unsigned options_count,
                                  int *options, void **values) {
    const unsigned char *bytes = image;
    cu_result code = fake_call(bytes[0] == 'p' ? "load-ptx" : "load-fatbin");
    for (unsigned i = 0; code != CU_SUCCESS && fake.jit_error != NULL && i < options_count; i++)
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
            (void)snprintf(values[i], 2048, "%s", fake.jit_error);
    if (code != CU_SUCCESS) return code;
    fake.devices[0].free -= fake.code_bytes;
    *out = handle((size_t)++fake.modules);
    return CU_SUCCESS;
}

static cu_result fake_module_unload(cu_module module) {
    (void)module;
    fake.modules--;
    return CU_SUCCESS;
}

/* The name is the handle. */
static cu_result fake_module_function(cu_function *out, cu_module module, const char *name) {
    (void)module;
    FAKE_CALL("cuModuleGetFunction");
    *out = (cu_function)(uintptr_t)name;
    return CU_SUCCESS;
}

static cu_result fake_function_get(int *out, int attribute, cu_function f) {
    const char *name = (const char *)(uintptr_t)f;
    bool spills = fake.spilled != NULL && strcmp(name, fake.spilled) == 0;
    *out = attribute == CU_FUNC_SHARED_BYTES  ? fake.shared_static
           : attribute == CU_FUNC_LOCAL_BYTES ? (spills ? 96 : 0)
                                              : 40;
    return CU_SUCCESS;
}

static cu_result fake_function_set(cu_function f, int attribute, int value) {
    (void)f;
    (void)attribute;
    (void)value;
    return fake_call("cuFuncSetAttribute");
}

static cu_result fake_occupancy(int *blocks, cu_function f, int threads, size_t shared_bytes) {
    (void)f;
    (void)shared_bytes;
    *blocks = 1024 / threads;
    return fake_call("occupancy");
}

static cu_result fake_launch(cu_function f, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                             unsigned block_x, unsigned block_y, unsigned block_z,
                             unsigned shared_bytes, cu_stream stream, void **args, void **extra) {
    (void)grid_z;
    (void)block_x;
    (void)block_y;
    (void)block_z;
    (void)stream;
    (void)extra;
    FAKE_CALL((const char *)(uintptr_t)f);
    fake.launched_grid[0] = grid_x;
    fake.launched_grid[1] = grid_y;
    fake.launched_shared = shared_bytes;
    memcpy(&fake.launched_args, args[0], sizeof fake.launched_args);
    return CU_SUCCESS;
}

/* --- memory ------------------------------------------------------------------ */

static cu_result fake_mem_alloc(cu_ptr *out, size_t bytes) {
    FAKE_CALL("cuMemAlloc_v2");
    if (bytes > fake.devices[0].free) return CU_OUT_OF_MEMORY;
    *out = 0x100000 + (cu_ptr)fake.blocks++ * 0x10000000;
    return CU_SUCCESS;
}

static cu_result fake_mem_free(cu_ptr ptr) {
    (void)ptr;
    fake.blocks--;
    return CU_SUCCESS;
}

static cu_result fake_host_alloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    FAKE_CALL("cuMemHostAlloc");
    *out = malloc(bytes);
    fake.pinned++;
    return CU_SUCCESS;
}

static cu_result fake_host_free(void *ptr) {
    free(ptr);
    fake.pinned--;
    return CU_SUCCESS;
}

static cu_result fake_copy_to_device(cu_ptr dst, const void *src, size_t bytes, cu_stream stream) {
    (void)dst;
    (void)src;
    (void)bytes;
    (void)stream;
    return fake_call("cuMemcpyHtoDAsync_v2");
}

static cu_result fake_copy_to_host(void *dst, cu_ptr src, size_t bytes, cu_stream stream) {
    (void)dst;
    (void)src;
    (void)bytes;
    (void)stream;
    return fake_call("cuMemcpyDtoHAsync_v2");
}

static cu_result fake_copy_on_device(cu_ptr dst, cu_ptr src, size_t bytes, cu_stream stream) {
    (void)dst;
    (void)src;
    (void)bytes;
    (void)stream;
    return fake_call("cuMemcpyDtoDAsync_v2");
}

static cu_result fake_fill_bytes(cu_ptr dst, unsigned char value, size_t bytes, cu_stream stream) {
    (void)dst;
    (void)value;
    (void)bytes;
    (void)stream;
    return fake_call("cuMemsetD8Async");
}

/* --- streams and events ------------------------------------------------------ */

static cu_result fake_stream_create(cu_stream *out, unsigned flags, int priority) {
    (void)flags;
    (void)priority;
    FAKE_CALL("cuStreamCreateWithPriority");
    *out = handle((size_t)++fake.streams);
    return CU_SUCCESS;
}

static cu_result fake_stream_destroy(cu_stream stream) {
    (void)stream;
    fake.streams--;
    return CU_SUCCESS;
}

static cu_result fake_stream_sync(cu_stream stream) {
    (void)stream;
    return fake_call("cuStreamSynchronize");
}

static cu_result fake_stream_wait(cu_stream stream, cu_event event, unsigned flags) {
    (void)stream;
    (void)event;
    (void)flags;
    return fake_call("cuStreamWaitEvent");
}

static cu_result fake_event_create(cu_event *out, unsigned flags) {
    (void)flags;
    FAKE_CALL("cuEventCreate");
    *out = handle((size_t)++fake.events);
    return CU_SUCCESS;
}

static cu_result fake_event_destroy(cu_event event) {
    (void)event;
    fake.events--;
    return CU_SUCCESS;
}

static cu_result fake_event_record(cu_event event, cu_stream stream) {
    (void)event;
    (void)stream;
    return fake_call("cuEventRecord");
}

static cu_result fake_event_sync(cu_event event) {
    (void)event;
    return fake_call("cuEventSynchronize");
}

/* --- the table --------------------------------------------------------------- */

static cu_result fake_error_name(cu_result code, const char **name) {
    *name = code == CU_OUT_OF_MEMORY     ? "NAME_OF_2"
            : code == CU_ILLEGAL_ADDRESS ? "NAME_OF_700"
                                         : NULL;
    return *name != NULL ? CU_SUCCESS : CU_INVALID_VALUE;
}

static cu_result fake_error_string(cu_result code, const char **text) {
    (void)code;
    *text = "what the driver says";
    return CU_SUCCESS;
}

cu_driver cuda_fake_driver(void) {
    current = NULL;
    fake = (cuda_fake){.version = 13000, .devices_count = 1};
    fake.devices[0] = (fake_device){.name = "Tesla T4",
                                    .pci = "0000:00:04.0",
                                    .uuid0 = 0xa0,
                                    .major = 7,
                                    .minor = 5,
                                    .sms = 40,
                                    .memory = (size_t)16 << 30,
                                    .free = (size_t)15 << 30};
    return (cu_driver){
        .init = fake_init,
        .error_name = fake_error_name,
        .error_string = fake_error_string,
        .device_count = fake_device_count,
        .device_get = fake_device_get,
        .device_name = fake_device_name,
        .device_uuid = fake_device_uuid,
        .device_memory = fake_device_memory,
        .device_attribute = fake_device_attribute,
        .device_pci = fake_device_pci,
        .context_retain = fake_context_retain,
        .context_release = fake_context_release,
        .context_set = fake_context_set,
        .context_get = fake_context_get,
        .context_sync = fake_context_sync,
        .context_limit = fake_context_limit,
        .module_load = fake_module_load,
        .module_unload = fake_module_unload,
        .module_function = fake_module_function,
        .function_get = fake_function_get,
        .function_set = fake_function_set,
        .occupancy = fake_occupancy,
        .launch = fake_launch,
        .mem_alloc = fake_mem_alloc,
        .mem_free = fake_mem_free,
        .mem_info = fake_mem_info,
        .host_alloc = fake_host_alloc,
        .host_free = fake_host_free,
        .copy_to_device = fake_copy_to_device,
        .copy_to_host = fake_copy_to_host,
        .copy_on_device = fake_copy_on_device,
        .fill_bytes = fake_fill_bytes,
        .stream_create = fake_stream_create,
        .stream_destroy = fake_stream_destroy,
        .stream_sync = fake_stream_sync,
        .stream_wait = fake_stream_wait,
        .event_create = fake_event_create,
        .event_destroy = fake_event_destroy,
        .event_record = fake_event_record,
        .event_sync = fake_event_sync,
        .path = "/usr/lib/libcuda.so.1",
        .version = 13000,
    };
}

/* --- images ------------------------------------------------------------------ */

/* Three entries of 48 bytes and no payload; see src/backend/cuda/cuda_image.c for the form. */
/* clang-format off */
#define ENTRY(kind, arch, exact)                                                      \
    kind, 0, 1, 1, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,       \
    8, 0, 1, 0, arch, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, (exact) ? 0x10 : 0, 0, \
    0, 0, 0, 0
const unsigned char fake_fatbin[] = {
    0x50, 0xed, 0x55, 0xba, 1, 0, 16, 0, 144, 0, 0, 0, 0, 0, 0, 0,
    ENTRY(2, 75, 0), ENTRY(2, 90, 1), ENTRY(1, 120, 0)};
/* clang-format on */
const size_t fake_fatbin_bytes = sizeof fake_fatbin;
static const unsigned char fake_ptx[] = "ptx";

/* In the order of kernels.def, each file once: a file's kernels need not stand together. */
cuda_images cuda_fake_images(void) {
    static cuda_blob blobs[64];
    static const char *const files[] = {
#define X(file, name, args, threads) #file,
#include "kernels.def"
#undef X
    };
    size_t count = 0;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        size_t k = 0;
        while (k < count && strcmp(blobs[k].name, files[i]) != 0) k++;
        if (k < count) continue;
        blobs[count++] = (cuda_blob){.name = files[i],
                                     .fatbin = fake_fatbin,
                                     .fatbin_end = fake_fatbin + sizeof fake_fatbin,
                                     .ptx = fake_ptx,
                                     .ptx_end = fake_ptx + sizeof fake_ptx - 1};
    }
    return (cuda_images){blobs, count};
}
