/* nvml.c - see nvml.h. */
#include "gpu/nvml.h"

#include <string.h>

#include "base/os.h"

#define LIBRARY "libnvidia-ml.so.1"

/* --- the library -------------------- */

enum { OPTIONAL, REQUIRED };

/* `slot` is a function pointer; ISO C has no cast to it from what dlsym() gives. */
static status resolve(void *library, void *slot, int need, const char *symbol, error *err) {
    void *address = os_library_symbol(library, symbol);
    if (address == NULL && need == REQUIRED)
        return error_set(err, ERR_UNSUPPORTED, "nvml: " LIBRARY " has no %s", symbol);
    memcpy(slot, &address, sizeof address);
    return OK;
}

status nvml_load(nvml *out, const char *path, error *err) {
    nvml n = {0};
    status st = os_library_open(path != NULL ? path : LIBRARY, &n.library, err);
    if (st != OK)
        return error_set(err, ERR_NOT_FOUND, "nvml: there is no " LIBRARY " that can be loaded");
#define NVML_RESOLVE(need, field, symbol, args) \
    if (st == OK) st = resolve(n.library, &n.field, need, #symbol, err);
    NVML_FUNCTIONS(NVML_RESOLVE)
#undef NVML_RESOLVE
    if (st == OK)
        *out = n;
    else
        nvml_unload(&n);
    return st;
}

void nvml_unload(nvml *n) {
    if (n->library != NULL) os_library_close(n->library);
    *n = (nvml){0};
}

status nvml_start(const nvml *n, nvml_result *result, error *err) {
    *result = n->init();
    if (*result == NVML_SUCCESS) return OK;
    return error_set(err, ERR_DEVICE, "nvml: nvmlInit_v2 answers %d: %s", *result,
                     nvml_result_words(*result));
}

void nvml_stop(const nvml *n) {
    if (n->shutdown != NULL) (void)n->shutdown();
}

/* --- words -------------------- */

const char *nvml_result_words(nvml_result r) {
    switch (r) {
#define NVML_RESULT_WORDS(name, number, words) \
    case number:                               \
        return words;
        NVML_RESULTS(NVML_RESULT_WORDS)
#undef NVML_RESULT_WORDS
    default:
        return "an answer that is not known here";
    }
}

const char *nvml_result_fix(nvml_result r) {
    switch (r) {
    case NVML_DRIVER_NOT_LOADED:
        return "load the driver (modprobe nvidia); after a kernel update reinstall it, or reboot";
    case NVML_LIB_RM_VERSION_MISMATCH:
        return "the driver was updated while its old module was loaded: reboot the machine";
    case NVML_NO_PERMISSION:
    case NVML_OPERATING_SYSTEM:
        return "let this user and container use /dev/nvidia* (docker run --gpus all)";
    case NVML_GPU_IS_LOST:
    case NVML_RESET_REQUIRED:
        return "look for Xid lines in dmesg; reset the GPU (nvidia-smi -r) or reboot";
    case NVML_INSUFFICIENT_POWER:
        return "plug in the power cables of the GPU";
    default:
        return "look what nvidia-smi and dmesg say";
    }
}

const char *nvml_missing_fix(void) {
    return "install the NVIDIA driver; in a container start it with the NVIDIA runtime "
           "(docker run --gpus all) and NVIDIA_DRIVER_CAPABILITIES=compute,utility";
}
