/* cuda_device.c - opening and closing a GPU; see cuda_device.h. */
#include "backend/cuda/cuda_device.h"

#include <inttypes.h>
#include <stdio.h>

#include "backend/cuda/cuda_device_internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"

/* Lower is more urgent; the driver moves it into the range that the card has. */
enum { PRIORITY_COMPUTE = -100, PRIORITY_COPY = 0 };

status cuda_check(const cuda_device *dev, cu_result code, const char *call, error *err) {
    if (code == CU_SUCCESS) return OK;
    char what[256];
    (void)snprintf(what, sizeof what, "%s on GPU %d '%s'", call, dev->ordinal, dev->name);
    return cu_check(dev->driver, code, what, err);
}

/* --- what it is ------------------------------------------------------------ */

static status describe(cuda_device *dev, error *err) {
    const cu_driver *d = dev->driver;
    int major = 0, minor = 0, sms = 0, shared = 0;
    size_t bytes = 0;
    TRY(cuda_check(dev, d->device_name(dev->name, sizeof dev->name, dev->handle), "cuDeviceGetName",
                   err));
    TRY(cuda_check(dev, d->device_memory(&bytes, dev->handle), "cuDeviceTotalMem_v2", err));
    const struct {
        int *out, attribute;
    } asked[] = {{&major, CU_ATTR_CC_MAJOR},
                 {&minor, CU_ATTR_CC_MINOR},
                 {&sms, CU_ATTR_SM_COUNT},
                 {&shared, CU_ATTR_MAX_SHARED_OPTIN}};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        TRY(cuda_check(dev, d->device_attribute(asked[i].out, asked[i].attribute, dev->handle),
                       "cuDeviceGetAttribute", err));
    dev->cc = major * 10 + minor;
    dev->sm_count = (uint32_t)sms;
    dev->shared_block_max = (uint32_t)shared;
    dev->memory_bytes = bytes;
    return OK;
}

static status choose_image(cuda_device *dev, const cuda_images *images, error *err) {
    dev->image = cuda_image_pick(images, dev->cc, dev->driver->version);
    if (dev->image.kind != CUDA_IMAGE_NONE) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "cuda: no kernels for GPU %d '%s': it has compute capability %d.%d and a "
                     "driver for CUDA %d.%d; this program has kernels from %zu files",
                     dev->ordinal, dev->name, dev->cc / 10, dev->cc % 10,
                     dev->driver->version / 1000, dev->driver->version % 1000 / 10, images->count);
}

/* --- what it gets ---------------------------------------------------------- */

static status open_context(cuda_device *dev, error *err) {
    const cu_driver *d = dev->driver;
    TRY(cuda_check(dev, d->context_retain(&dev->context, dev->handle), "cuDevicePrimaryCtxRetain",
                   err));
    return cuda_check(dev, d->context_set(dev->context), "cuCtxSetCurrent", err);
}

static status open_streams(cuda_device *dev, error *err) {
    const struct {
        cu_stream *out;
        int priority;
    } wanted[] = {{&dev->compute, PRIORITY_COMPUTE},
                  {&dev->upload, PRIORITY_COPY},
                  {&dev->download, PRIORITY_COPY}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        TRY(cuda_check(dev,
                       dev->driver->stream_create(wanted[i].out, CU_STREAM_NON_BLOCKING_FLAG,
                                                  wanted[i].priority),
                       "cuStreamCreateWithPriority", err));
    return cuda_check(dev, dev->driver->event_create(&dev->order, CU_EVENT_DISABLE_TIMING_FLAG),
                      "cuEventCreate", err);
}

/* By default the driver keeps a kilobyte of stack for every thread that the card can have; ours
 * need what spilled.  Only memory is lost where the driver does not want to hear of it. */
static void limit_stack(cuda_device *dev) {
    uint32_t bytes = 0;
    for (int i = 0; i < CUDA_KERNEL_COUNT; i++)
        bytes = num_max_u32(bytes, dev->kernels[i].local_bytes);
    cu_result code = dev->driver->context_limit(CU_LIMIT_STACK_BYTES, bytes);
    if (code != CU_SUCCESS)
        log_debug("cuda", "stack limit of %u bytes refused: %s", bytes,
                  cu_result_name(dev->driver, code));
}

static status open_all(cuda_device *dev, const cuda_images *images, error *err) {
    uint64_t before = 0, after = 0, total = 0;
    TRY(open_context(dev, err));
    TRY(cuda_device_memory(dev, &before, &total, err));
    TRY(open_streams(dev, err));
    TRY(cuda_modules_load(dev, images, err));
    limit_stack(dev);
    TRY(cuda_device_memory(dev, &after, &total, err));
    dev->modules_bytes = before - num_min_u64(before, after);
    dev->context_bytes = total - num_min_u64(total, after);
    return OK;
}

static void log_open(const cuda_device *dev) {
    log_info("cuda",
             "open gpu=%d name='%s' cc=%d.%d sms=%u code='%s' kernels=%d spilled=%u "
             "memory_mib=%" PRIu64 " taken_mib=%" PRIu64 " code_mib=%" PRIu64,
             dev->ordinal, dev->name, dev->cc / 10, dev->cc % 10, dev->sm_count, dev->image.name,
             CUDA_KERNEL_COUNT, dev->spilled_count, dev->memory_bytes >> 20,
             dev->context_bytes >> 20, dev->modules_bytes >> 20);
}

status cuda_device_open(cuda_device *out, const cu_driver *driver, int ordinal,
                        const cuda_images *images, error *err) {
    *out = (cuda_device){.driver = driver, .ordinal = ordinal};
    cu_result code = driver->device_get(&out->handle, ordinal);
    status st = cu_check(driver, code, "cuDeviceGet", err);
    if (code == CU_INVALID_DEVICE)
        st = error_set(err, ERR_NOT_FOUND, "cuda: there is no GPU %d", ordinal);
    if (st == OK) st = describe(out, err);
    if (st == OK) st = choose_image(out, images, err);
    if (st == OK) st = open_all(out, images, err);
    if (st == OK)
        log_open(out);
    else
        cuda_device_close(out);
    return st;
}

/* --- the end --------------------------------------------------------------- */

static void close_streams(cuda_device *dev) {
    cu_stream *streams[] = {&dev->compute, &dev->upload, &dev->download};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++)
        if (*streams[i] != NULL) (void)dev->driver->stream_destroy(*streams[i]);
    if (dev->order != NULL) (void)dev->driver->event_destroy(dev->order);
}

/* Results do not matter here: on a lost GPU all of these fail, and there is nothing else to do. */
void cuda_device_close(cuda_device *dev) {
    if (dev->context != NULL) {
        (void)dev->driver->context_set(dev->context);
        (void)dev->driver->context_sync();
        cuda_modules_unload(dev);
        close_streams(dev);
        (void)dev->driver->context_set(NULL);
        (void)dev->driver->context_release(dev->handle);
    }
    *dev = (cuda_device){.driver = NULL};
}

/* --- in between ------------------------------------------------------------ */

status cuda_device_enter(cuda_device *dev, error *err) {
    return cuda_try(dev, dev->driver->context_set(dev->context), "cuCtxSetCurrent", err);
}

void cuda_device_freeze(cuda_device *dev) { dev->frozen = true; }

bool cuda_device_thaw(cuda_device *dev) {
    const bool was = dev->frozen;
    dev->frozen = false;
    return was;
}

status cuda_device_memory(cuda_device *dev, uint64_t *free_bytes, uint64_t *total_bytes,
                          error *err) {
    size_t left = 0, all = 0;
    TRY(cuda_check(dev, dev->driver->mem_info(&left, &all), "cuMemGetInfo_v2", err));
    *free_bytes = left;
    *total_bytes = all;
    return OK;
}

bool cuda_device_is_lost(const cuda_device *dev) { return cu_is_sticky(dev->fault); }
