/* cuda_modules.c - device code onto a GPU, and every kernel of kernels.def found in it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "abi.h"
#include "backend/cuda/cuda_device_internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"

enum { SHARED_DEFAULT_BYTES = 48 * 1024, JIT_LOG_BYTES = 2048 };

static const struct {
    const char *file, *name;
    uint32_t args_bytes, threads_max;
    int path_min; /* it is on code paths from this one on */
} KERNELS[CUDA_KERNEL_COUNT] = {
#define X(file, name, args, threads)    {#file, #name, sizeof(args), threads, 750},
#define X800(file, name, args, threads) {#file, #name, sizeof(args), threads, 800},
#include "kernels.def"
#undef X
};

const char *cuda_kernel_name(cuda_kernel_id id) {
    ASSERT(id < CUDA_KERNEL_COUNT);
    return KERNELS[id].name;
}

/* --- modules --------------------------------------------------------------- */

/* The compiler's complaint in one line. */
static void make_line(char *text) {
    size_t n = strlen(text);
    while (n > 0 && (unsigned char)text[n - 1] <= ' ') text[--n] = '\0';
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ') text[i] = ' ';
}

/* The values of options are what they say, or numbers cast to a pointer. */
static cu_result load_image(const cu_driver *d, cu_module *out, const void *image, char *why) {
    char info[JIT_LOG_BYTES] = "";
    why[0] = '\0';
    int options[] = {CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_BYTES, CU_JIT_ERROR_LOG_BUFFER,
                     CU_JIT_ERROR_LOG_BUFFER_BYTES};
    void *values[] = {info, (void *)(uintptr_t)sizeof info, why,
                      (void *)(uintptr_t)JIT_LOG_BYTES}; /* NOLINT: how the driver wants it */
    cu_result code = d->module_load(out, image, 4, options, values);
    why[JIT_LOG_BYTES - 1] = '\0';
    make_line(why);
    return code;
}

static status load_module(cuda_device *dev, const cuda_blob *blob, cu_result *code, error *err) {
    bool ptx = dev->image.kind == CUDA_IMAGE_PTX;
    const unsigned char *image = ptx ? blob->ptx : blob->fatbin;
    if (image == (ptx ? blob->ptx_end : blob->fatbin_end))
        return error_set(err, ERR_NOT_FOUND, "cuda: this program has no %s of cuda/%s.cu",
                         ptx ? "PTX" : "machine code", blob->name);
    char why[JIT_LOG_BYTES], what[64];
    *code = load_image(dev->driver, &dev->modules[dev->modules_count], image, why);
    if (*code == CU_SUCCESS) {
        dev->modules_count++;
        return OK;
    }
    (void)snprintf(what, sizeof what, "loading cuda/%s.cu", blob->name);
    error first = {0};
    status st = cuda_check(dev, *code, what, &first);
    if (why[0] == '\0') return error_set(err, st, "%s", first.msg);
    return error_set(err, st, "%.360s: %.380s", first.msg, why);
}

static status load_modules(cuda_device *dev, const cuda_images *images, cu_result *code,
                           error *err) {
    ASSERT(images->count <= CUDA_MODULES_MAX);
    uint64_t start_ns = os_now_ns();
    for (size_t i = 0; i < images->count; i++) TRY(load_module(dev, &images->blobs[i], code, err));
    if (dev->image.kind == CUDA_IMAGE_PTX)
        log_info("cuda", "compiled gpu=%d files=%u ms=%" PRIu64, dev->ordinal, dev->modules_count,
                 (os_now_ns() - start_ns) / 1000000u);
    return OK;
}

/* The driver does not take this machine code, but perhaps the PTX. */
static bool wants_other_image(const cuda_device *dev, cu_result code) {
    return dev->image.kind == CUDA_IMAGE_FATBIN &&
           (code == CU_INVALID_IMAGE || code == CU_NO_BINARY_FOR_GPU ||
            code == CU_UNSUPPORTED_PTX_VERSION || code == CU_INVALID_PTX);
}

/* --- kernels --------------------------------------------------------------- */

static status find_function(cuda_device *dev, const cuda_images *images, int id, error *err) {
    cuda_kernel *k = &dev->kernels[id];
    for (size_t i = 0; i < images->count; i++) {
        if (strcmp(images->blobs[i].name, KERNELS[id].file) != 0) continue;
        cu_result code =
            dev->driver->module_function(&k->function, dev->modules[i], KERNELS[id].name);
        if (code == CU_NOT_FOUND) break;
        return cuda_check(dev, code, KERNELS[id].name, err);
    }
    return error_set(err, ERR_NOT_FOUND, "cuda: kernel %s of cuda/%s.cu is not in this program",
                     KERNELS[id].name, KERNELS[id].file);
}

static status find_kernel(cuda_device *dev, const cuda_images *images, int id, error *err) {
    TRY(find_function(dev, images, id, err));
    cuda_kernel *k = &dev->kernels[id];
    int shared = 0, local = 0, registers = 0;
    const struct {
        int *out, attribute;
    } asked[] = {{&shared, CU_FUNC_SHARED_BYTES},
                 {&local, CU_FUNC_LOCAL_BYTES},
                 {&registers, CU_FUNC_REGISTERS}};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        TRY(cuda_check(dev,
                       dev->driver->function_get(asked[i].out, asked[i].attribute, k->function),
                       KERNELS[id].name, err));
    k->threads_max = KERNELS[id].threads_max;
    k->args_bytes = KERNELS[id].args_bytes;
    k->shared_bytes = (uint32_t)shared;
    k->shared_dynamic_max =
        SHARED_DEFAULT_BYTES - num_min_u32((uint32_t)shared, SHARED_DEFAULT_BYTES);
    k->local_bytes = (uint32_t)local;
    k->registers = (uint32_t)registers;
    if (local > 0) {
        dev->spilled_count++;
        log_debug("cuda", "kernel %s keeps %d bytes per thread in local memory", KERNELS[id].name,
                  local);
    }
    return OK;
}

status cuda_modules_load(cuda_device *dev, const cuda_images *images, error *err) {
    cu_result code = CU_SUCCESS;
    error why = {0};
    status st = load_modules(dev, images, &code, &why);
    if (st != OK && wants_other_image(dev, code)) {
        cuda_image other = cuda_image_ptx(images, dev->cc);
        if (other.kind != CUDA_IMAGE_NONE) {
            log_info("cuda", "PTX instead of machine code: %s", why.msg);
            cuda_modules_unload(dev);
            dev->image = other;
            st = load_modules(dev, images, &code, &why);
        }
    }
    if (st != OK) return error_set(err, st, "%s", why.msg);
    for (int id = 0; id < CUDA_KERNEL_COUNT; id++) {
        dev->kernels[id] = (cuda_kernel){0};
        if (KERNELS[id].path_min <= dev->image.code_path) TRY(find_kernel(dev, images, id, err));
    }
    return OK;
}

void cuda_modules_unload(cuda_device *dev) {
    for (uint32_t i = 0; i < dev->modules_count; i++)
        (void)dev->driver->module_unload(dev->modules[i]);
    dev->modules_count = 0;
}
