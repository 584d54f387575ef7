/* api_module.c - modules, functions, their attributes and launches. */
#include "cudasim/driver/sim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REGISTERS_PER_THREAD = 64, /* as our kernels have at most, about */
    REGISTERS_PER_SM = 65536,
    BLOCKS_PER_SM = 16,
    THREADS_MAX = 1024,
    BLOCK_Z_MAX = 64,
    GRID_YZ_MAX = 65535,
    EARLY_CC_MAJOR = 9,
    EARLY_CAPTURE_CUDA = 12030,
    FUNC_MAX_THREADS = 0 /* CUfunction_attribute */
};

/* --- modules -------------------- */

/* The compilation of our kernels that stands for a machine code of that arch; 0: there is none. */
static int path_of(int arch) {
    if (arch < 75) return 0;
    return arch < 80 ? 750 : arch < 90 ? 800 : 900;
}

/* The host's buffer for the JIT's complaint, if it passed one. */
static void put_jit_log(unsigned count, const int *options, void **values, const char *text) {
    char *buffer = NULL;
    size_t bytes = 0;
    for (unsigned i = 0; options != NULL && values != NULL && i < count; i++) {
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER) buffer = values[i];
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER_BYTES) bytes = (size_t)(uintptr_t)values[i];
    }
    if (buffer != NULL && bytes > 0) (void)snprintf(buffer, bytes, "%s", text);
}

static sim_module *module_new(sim_device *device, const image_choice *choice) {
    sim_module *m = sim_new(sizeof *m);
    m->device = device;
    m->arch = choice->arch;
    m->is_ptx = choice->is_ptx;
    m->path = path_of(choice->arch);
    if (choice->text != NULL) {
        m->text = sim_new(choice->text_bytes + 1);
        memcpy(m->text, choice->text, choice->text_bytes);
        m->text_bytes = choice->text_bytes;
    }
    m->handle = sim_handle_new(SIM_MODULE, m);
    return m;
}

static void module_free(sim_module *m) {
    while (m->functions != NULL) {
        sim_function *f = m->functions;
        m->functions = f->next;
        sim_handle_drop(f->handle);
        free(f);
    }
    sim_handle_drop(m->handle);
    free(m->text);
    free(m);
}

static cu_result module_load(sim_device *device, cu_module *out, const void *image,
                             unsigned options_count, const int *options, void **values) {
    if (out == NULL || image == NULL) return CU_INVALID_VALUE;
    cu_result result = capture_unsafe();
    if (result != CU_SUCCESS) return result;
    image_choice choice = {0};
    result = image_choose(image, device->gpu, sim.topology->cuda, &choice);
    if (result == CU_UNSUPPORTED_PTX_VERSION || result == CU_INVALID_PTX)
        put_jit_log(options_count, options, values,
                    result == CU_INVALID_PTX ? "ptxas fatal: .target is newer than this GPU"
                                             : "ptxas fatal: unsupported .version");
    if (result != CU_SUCCESS) return result;
    *out = module_new(device, &choice)->handle;
    return CU_SUCCESS;
}

cu_result cuModuleLoadDataEx(cu_module *out, const void *image, unsigned options_count,
                             int *options, void **values) {
    SIM_IN_CONTEXT(cuModuleLoadDataEx,
                   module_load(device, out, image, options_count, options, values));
}

static cu_result module_unload(const sim_device *device, cu_module handle) {
    sim_module *m = sim_handle_get(SIM_MODULE, handle);
    if (m == NULL || m->device != device) return CU_INVALID_HANDLE;
    cu_result unsafe = capture_unsafe();
    if (unsafe != CU_SUCCESS) return unsafe;
    module_free(m);
    return CU_SUCCESS;
}

cu_result cuModuleUnload(cu_module module) {
    SIM_IN_CONTEXT(cuModuleUnload, module_unload(device, module));
}

uint64_t modules_release(const sim_device *device) {
    uint64_t count = 0;
    sim_module *m;
    for (uint32_t at = 0; (m = sim_handle_next(SIM_MODULE, &at)) != NULL;) {
        if (m->device != device) continue;
        module_free(m);
        count++;
    }
    return count;
}

/* --- functions -------------------- */

static sim_function *function_of(sim_module *m, const sim_kernel *kernel) {
    for (sim_function *f = m->functions; f != NULL; f = f->next) {
        if (f->kernel == kernel) return f;
    }
    sim_function *f = sim_new(sizeof *f);
    f->module = m;
    f->kernel = kernel;
    f->dynamic_max = SIM_SHARED_DEFAULT;
    f->handle = sim_handle_new(SIM_FUNCTION, f);
    f->next = m->functions;
    m->functions = f;
    return f;
}

/* With lazy loading this call may load code, which a capture does not allow. */
static cu_result module_function(const sim_device *device, cu_function *out, cu_module handle,
                                 const char *name) {
    sim_module *m = sim_handle_get(SIM_MODULE, handle);
    if (out == NULL || name == NULL || name[0] == '\0') return CU_INVALID_VALUE;
    if (m == NULL || m->device != device) return CU_INVALID_HANDLE;
    cu_result unsafe = capture_unsafe();
    if (unsafe != CU_SUCCESS) return unsafe;
    const sim_kernel *kernel = m->path == 0 ? NULL : sim_kernel_find(m->path, name);
    if (kernel == NULL || !image_has_kernel(m, name)) return CU_NOT_FOUND;
    *out = function_of(m, kernel)->handle;
    return CU_SUCCESS;
}

cu_result cuModuleGetFunction(cu_function *out, cu_module module, const char *name) {
    SIM_IN_CONTEXT(cuModuleGetFunction, module_function(device, out, module, name));
}

static sim_function *function_find(const sim_device *device, cu_function handle) {
    sim_function *f = sim_handle_get(SIM_FUNCTION, handle);
    return f != NULL && f->module->device == device ? f : NULL;
}

static cu_result function_get(const sim_device *device, int *out, int attribute,
                              cu_function handle) {
    const sim_function *f = function_find(device, handle);
    if (out == NULL) return CU_INVALID_VALUE;
    if (f == NULL) return CU_INVALID_HANDLE;
    int device_arch = device->gpu->cc_major * 10 + device->gpu->cc_minor;
    switch (attribute) {
    case FUNC_MAX_THREADS:
        *out = (int)f->kernel->threads_max;
        break;
    case CU_FUNC_SHARED_BYTES: /* the executor knows when the kernel runs */
    case CU_FUNC_LOCAL_BYTES:
        *out = 0;
        break;
    case CU_FUNC_REGISTERS:
        *out = REGISTERS_PER_THREAD;
        break;
    case CU_FUNC_PTX_VERSION:
        *out = f->module->arch;
        break;
    case CU_FUNC_BINARY_VERSION:
        *out = f->module->is_ptx ? device_arch : f->module->arch;
        break;
    case CU_FUNC_MAX_DYNAMIC_SHARED:
        *out = (int)f->dynamic_max;
        break;
    default:
        return CU_INVALID_VALUE;
    }
    return CU_SUCCESS;
}

cu_result cuFuncGetAttribute(int *out, int attribute, cu_function f) {
    SIM_IN_CONTEXT(cuFuncGetAttribute, function_get(device, out, attribute, f));
}

static cu_result function_set(const sim_device *device, cu_function handle, int attribute,
                              int value) {
    sim_function *f = function_find(device, handle);
    if (f == NULL) return CU_INVALID_HANDLE;
    if (attribute != CU_FUNC_MAX_DYNAMIC_SHARED || value < 0 ||
        (uint64_t)value > device->gpu->shared_optin_bytes)
        return CU_INVALID_VALUE;
    f->dynamic_max = (uint32_t)value;
    f->opted_in = true;
    return CU_SUCCESS;
}

cu_result cuFuncSetAttribute(cu_function f, int attribute, int value) {
    SIM_IN_CONTEXT(cuFuncSetAttribute, function_set(device, f, attribute, value));
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static cu_result occupancy(const sim_device *device, int *blocks, cu_function handle, int threads,
                           size_t shared_bytes) {
    const sim_function *f = function_find(device, handle);
    if (f == NULL) return CU_INVALID_HANDLE;
    if (blocks == NULL || threads <= 0) return CU_INVALID_VALUE;
    uint64_t rounded = ((uint64_t)threads + 31) / 32 * 32;
    uint64_t fit = least(BLOCKS_PER_SM, device->gpu->threads_per_sm / rounded);
    fit = least(fit, REGISTERS_PER_SM / (REGISTERS_PER_THREAD * rounded));
    if (shared_bytes > 0) fit = least(fit, device->gpu->shared_optin_bytes / shared_bytes);
    if (rounded > f->kernel->threads_max || shared_bytes > f->dynamic_max) fit = 0;
    *blocks = (int)fit;
    return CU_SUCCESS;
}

cu_result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, cu_function f, int threads,
                                                      size_t shared_bytes) {
    SIM_IN_CONTEXT(cuOccupancyMaxActiveBlocksPerMultiprocessor,
                   occupancy(device, blocks, f, threads, shared_bytes));
}

/* --- launches -------------------- */

static bool shape_is_valid(const sim_kernel_op *op) {
    const uint32_t *g = op->grid, *b = op->block;
    if (g[0] == 0 || g[1] == 0 || g[2] == 0 || b[0] == 0 || b[1] == 0 || b[2] == 0) return false;
    if (g[0] > INT32_MAX || g[1] > GRID_YZ_MAX || g[2] > GRID_YZ_MAX) return false;
    if (b[0] > THREADS_MAX || b[1] > THREADS_MAX || b[2] > BLOCK_Z_MAX) return false;
    return (uint64_t)b[0] * b[1] * b[2] <= THREADS_MAX;
}

static cu_result check_launch(const sim_function *f, const sim_kernel_op *op, void **args,
                              void **extra) {
    if (!shape_is_valid(op) || op->shared_bytes > f->dynamic_max) return CU_INVALID_VALUE;
    if (extra != NULL || args == NULL || args[0] == NULL) return CU_INVALID_VALUE;
    uint32_t threads = op->block[0] * op->block[1] * op->block[2];
    return threads > f->kernel->threads_max ? CU_LAUNCH_OUT_OF_RESOURCES : CU_SUCCESS;
}

/* Static and dynamic together: 48 KiB, or what the GPU has once the function opted in. */
static uint32_t shared_max(const sim_function *f) {
    uint64_t optin = f->module->device->gpu->shared_optin_bytes;
    return f->opted_in && optin > SIM_SHARED_DEFAULT ? (uint32_t)optin : SIM_SHARED_DEFAULT;
}

static cu_result launch(sim_device *device, cu_function handle, sim_kernel_op *op,
                        cu_stream stream_handle, void **args, void **extra) {
    cu_result result;
    const sim_function *f = function_find(device, handle);
    if (f == NULL) return CU_INVALID_HANDLE;
    sim_stream *stream = stream_find(device, stream_handle, &result);
    if (stream == NULL) return result;
    result = check_launch(f, op, args, extra);
    if (result != CU_SUCCESS) return result;
    result = sim_kernel_rule(f->kernel->name, account_ask(f->kernel->name), true);
    if (result != CU_SUCCESS) return result;
    op->kernel = f->kernel;
    op->module = f->module->handle;
    op->shared_max = shared_max(f);
    op->args = sim_new(f->kernel->args_bytes);
    memcpy(op->args, args[0], f->kernel->args_bytes);
    sim_op *queued = op_new(OP_KERNEL);
    queued->kernel = *op;
    return queue_submit(stream, queued);
}

cu_result cuLaunchKernel(cu_function f, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                         unsigned block_x, unsigned block_y, unsigned block_z,
                         unsigned shared_bytes, cu_stream stream, void **args, void **extra) {
    sim_kernel_op op = {.grid = {grid_x, grid_y, grid_z},
                        .block = {block_x, block_y, block_z},
                        .shared_bytes = shared_bytes};
    SIM_IN_CONTEXT(cuLaunchKernel, launch(device, f, &op, stream, args, extra));
}

/* CUDA programming guide, programmatic dependent launch: from compute capability 9.0 on, and in
 * captures from CUDA 12.3 on. */
static cu_result allow_early(sim_device *device, cu_stream handle, sim_kernel_op *op) {
    cu_result result;
    const sim_stream *stream = stream_find(device, handle, &result);
    if (device->gpu->cc_major < EARLY_CC_MAJOR) return CU_NOT_SUPPORTED;
    if (stream == NULL) return result;
    if (stream->capture != NULL && sim.topology->cuda < EARLY_CAPTURE_CUDA) {
        stream->capture->broken = true;
        return CU_STREAM_CAPTURE_UNSUPPORTED;
    }
    op->early = true;
    return CU_SUCCESS;
}

static cu_result launch_ex(sim_device *device, const cu_launch_config *c, cu_function f,
                           void **args, void **extra) {
    if (c == NULL || (c->attributes_count > 0 && c->attributes == NULL)) return CU_INVALID_VALUE;
    sim_kernel_op op = {.grid = {c->grid_x, c->grid_y, c->grid_z},
                        .block = {c->block_x, c->block_y, c->block_z},
                        .shared_bytes = c->shared_bytes};
    for (unsigned i = 0; i < c->attributes_count; i++) {
        const cu_launch_attribute *a = &c->attributes[i];
        if (a->id != CU_LAUNCH_PROGRAMMATIC_SERIALIZATION) return CU_INVALID_VALUE;
        cu_result result = a->value.number != 0 ? allow_early(device, c->stream, &op) : CU_SUCCESS;
        if (result != CU_SUCCESS) return result;
    }
    return launch(device, f, &op, c->stream, args, extra);
}

cu_result cuLaunchKernelEx(const cu_launch_config *config, cu_function f, void **args,
                           void **extra) {
    SIM_IN_CONTEXT(cuLaunchKernelEx, launch_ex(device, config, f, args, extra));
}
