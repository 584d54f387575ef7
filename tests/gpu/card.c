/* card.c - see card.h. */
#include "gpu/card.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/os.h"

extern const cuda_blob card_blobs[]; /* card_kernels.cu, embedded by gpu.mk */

/* --- opening -------------------- */

/* The embedded kernels without their machine code. */
static cuda_images images_of(card_path path) {
    static cuda_blob ptx_only[CUDA_MODULES_MAX];
    if (path == CARD_NATIVE) return CUDA_IMAGES_EMBEDDED;
    ASSERT(cuda_blobs_count <= CUDA_MODULES_MAX);
    for (size_t i = 0; i < cuda_blobs_count; i++) {
        ptx_only[i] = cuda_blobs[i];
        ptx_only[i].fatbin_end = ptx_only[i].fatbin;
    }
    return (cuda_images){ptx_only, cuda_blobs_count};
}

static status load_own(card *c, error *err) {
    const bool ptx = c->dev.image.kind == CUDA_IMAGE_PTX;
    const void *image = ptx ? card_blobs[0].ptx : card_blobs[0].fatbin;
    cu_result code = c->report.driver.module_load(&c->own, image, 0, NULL, NULL);
    return cu_check(&c->report.driver, code, "loading card_kernels.cu", err);
}

status card_open(card *out, const char *device, card_path path, error *err) {
    const cuda_images images = images_of(path);
    const cuda_probe_options opt = {.visible = getenv("CUDA_VISIBLE_DEVICES"), .images = images};
    *out = (card){.own = NULL};
    cuda_probe(&opt, &out->report);
    if (out->report.usable_count == 0) return error_set(err, ERR_NOT_FOUND, "%s", out->report.why);
    TRY(cuda_choose(&out->report, device, &out->info, err));
    const uint64_t start_ns = os_now_ns();
    TRY(cuda_device_open(&out->dev, &out->report.driver, out->info->ordinal, &images, err));
    out->open_ms = (double)(os_now_ns() - start_ns) * 1e-6;
    status st = load_own(out, err);
    if (st != OK) card_close(out);
    return st;
}

void card_close(card *c) {
    if (c->own != NULL) (void)c->report.driver.module_unload(c->own);
    c->own = NULL;
    cuda_device_close(&c->dev);
}

/* --- kernels -------------------- */

status card_find(card *c, const char *name, card_kernel *out, error *err) {
    const cu_driver *d = &c->report.driver;
    for (int id = 0; id < CUDA_KERNEL_COUNT; id++)
        if (strcmp(cuda_kernel_name((cuda_kernel_id)id), name) == 0) {
            if (c->dev.kernels[id].function == NULL)
                return error_set(err, ERR_NOT_FOUND, "cuda: code path %d has no kernel %s",
                                 c->dev.image.code_path, name);
            *out = (card_kernel){.id = (cuda_kernel_id)id, .name = name};
            return OK;
        }
    cu_function f = NULL;
    TRY(cu_check(d, d->module_function(&f, c->own, name), name, err));
    *out = (card_kernel){.function = f, .name = name};
    return OK;
}

void card_launch(card *c, const card_kernel *k, card_grid g, const void *args, size_t args_bytes) {
    if (k->function == NULL) {
        (void)cuda_launch(&c->dev, k->id, g.x, g.y, g.threads, g.shared_bytes, args, args_bytes);
        return;
    }
    if (c->dev.fault != CU_SUCCESS) return;
    void *params[] = {(void *)(uintptr_t)args}; /* the driver reads it only */
    cu_result code = c->report.driver.launch(k->function, g.x, g.y, 1, g.threads, 1, 1,
                                             g.shared_bytes, c->dev.compute, params, NULL);
    (void)cuda_note(&c->dev, code, k->name);
}

/* --- what it says -------------------- */

void card_describe(const card *c, json_writer *w) {
    const cuda_device *dev = &c->dev;
    char cc[16], cuda[16];
    (void)snprintf(cc, sizeof cc, "%d.%d", dev->cc / 10, dev->cc % 10);
    const int version = c->report.driver_version;
    (void)snprintf(cuda, sizeof cuda, "%d.%d", version / 1000, version % 1000 / 10);
    json_kv_str(w, "name", str_of(dev->name));
    json_kv_str(w, "uuid", str_of(c->info->uuid));
    json_kv_str(w, "compute_capability", str_of(cc));
    json_kv_str(w, "cuda", str_of(cuda));
    json_kv_str(w, "code", str_of(dev->image.name));
    json_kv_uint(w, "code_path", (uint64_t)dev->image.code_path);
    json_kv_uint(w, "sms", dev->sm_count);
    json_kv_uint(w, "memory_bytes", dev->memory_bytes);
    json_kv_uint(w, "context_bytes", dev->context_bytes);
    json_kv_uint(w, "modules_bytes", dev->modules_bytes);
    json_kv_uint(w, "spilling_kernels", dev->spilled_count);
    json_kv_f64(w, "open_ms", c->open_ms);
}

void card_say_none(const error *err) { printf("gpu: nothing to run on: %s\n", err->msg); }

bool card_option(card_options *o, const char *name, const char *value) {
    if (strcmp(name, "--device") == 0) {
        o->device = value;
        return true;
    }
    if (strcmp(name, "--path") != 0) return false;
    o->path = strcmp(value, "ptx") == 0 ? CARD_PTX : CARD_NATIVE;
    return strcmp(value, "ptx") == 0 || strcmp(value, "native") == 0;
}
