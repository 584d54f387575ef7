/* cuda_probe.c - see cuda_probe.h; cuda_choose.c picks from what is found here. */
#include "backend/cuda/cuda_probe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "backend/cuda/cuda_host.h"
#include "base/str.h"

enum { LINE_BYTES = 256, COMPUTE_MODE_PROHIBITED = 2 };

/* Why something is not used, and what would help: the two lines of a report or a device. */
typedef struct verdict {
    char *why, *fix; /* [LINE_BYTES] each */
} verdict;

__attribute__((format(printf, 2, 3))) static void say_why(verdict v, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(v.why, LINE_BYTES, fmt, args);
    va_end(args);
}

__attribute__((format(printf, 2, 3))) static void say_fix(verdict v, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(v.fix, LINE_BYTES, fmt, args);
    va_end(args);
}

/* --- no driver ---------------------------------------------------------------- */

static void no_gpu(verdict v) {
    say_why(v, "there is no NVIDIA GPU in this machine");
    say_fix(v, "none needed: models run on the CPU");
}

static void no_library(verdict v, const cuda_host *host, const char *library) {
    if (host->module || host->nodes) {
        say_why(v, "the NVIDIA driver runs on this machine, but its %s is not here", library);
        say_fix(v, host->container
                       ? "start the container with the NVIDIA runtime: docker run --gpus all"
                       : "install the libraries of the driver's own version (libcuda1, "
                         "libnvidia-compute)");
    } else if (host->pci_count > 0) {
        say_why(v, "%u NVIDIA GPU%s in this machine, but no driver: there is no %s",
                host->pci_count, host->pci_count == 1 ? "" : "s", library);
        say_fix(v, host->container ? "install the NVIDIA driver on the host, and start the "
                                     "container with docker run --gpus all"
                                   : "install the NVIDIA driver, version 470 or newer");
    } else {
        no_gpu(v);
    }
}

/* Was the library itself not found, rather than found and unfit? */
static bool is_missing(const error *err, const char *library) {
    char words[LINE_BYTES + 64];
    (void)snprintf(words, sizeof words, "%s: cannot open shared object file: No such", library);
    return err->code == ERR_NOT_FOUND && strstr(err->msg, words) != NULL;
}

static bool find_driver(const cuda_probe_options *opt, cuda_probe_report *out, verdict v) {
    const char *library = opt->library != NULL ? opt->library : "libcuda.so.1";
    error err = {0};
    if (opt->driver != NULL) {
        out->driver = *opt->driver;
    } else if (cu_driver_load(&out->driver, library, &err) != OK) {
        cuda_host host = cuda_host_look(opt->root);
        if (is_missing(&err, library)) {
            no_library(v, &host, library);
        } else {
            say_why(v, "%s", err.msg);
            say_fix(v, "install the NVIDIA driver anew, version 470 or newer");
        }
        return false;
    }
    out->driver_found = true;
    out->driver_version = out->driver.version;
    str_copy_c(out->driver_path, sizeof out->driver_path, str_of(out->driver.path));
    return true;
}

/* --- a driver that refuses ---------------------------------------------------- */

static void no_nodes(verdict v, const cuda_host *host) {
    if (host->container) {
        say_why(v, "this container has no GPU: there is no /dev/nvidiactl");
        say_fix(v, "start it with docker run --gpus all, or add the devices by hand");
    } else if (host->pci_count == 0 && !host->module) {
        no_gpu(v);
    } else {
        say_why(v, "the driver has no device node: there is no /dev/nvidiactl");
        say_fix(v, "load the kernel module: modprobe nvidia, then nvidia-modprobe");
    }
}

static void no_device(verdict v, const cuda_host *host, const char *visible) {
    if (visible != NULL) {
        say_why(v, "CUDA_VISIBLE_DEVICES='%.64s' leaves no GPU", visible);
        say_fix(v, "unset CUDA_VISIBLE_DEVICES, or name the GPUs that nvidia-smi -L lists");
    } else if (!host->nodes) {
        no_nodes(v, host);
    } else {
        say_why(v, "the driver finds no GPU that computes");
        say_fix(v, "look at nvidia-smi: in MIG mode a GPU needs an instance (nvidia-smi mig -cgi "
                   "19 -C), a failed one a reboot");
    }
}

static void no_init(const cuda_probe_report *out, const cuda_probe_options *opt, cu_result code,
                    verdict v) {
    cuda_host host = cuda_host_look(opt->root);
    error err = {0};
    switch (code) {
    case CU_NO_DEVICE:
        no_device(v, &host, opt->visible);
        return;
    case CU_STUB_LIBRARY:
        say_why(v, "'%.160s' is the CUDA toolkit's stub, not a driver", out->driver_path);
        say_fix(v, "take the toolkit's stubs folder out of LD_LIBRARY_PATH");
        return;
    case CU_SYSTEM_DRIVER_MISMATCH:
        say_why(v, "the driver's library and its kernel module have different versions");
        say_fix(v, "reboot after the driver's update, or start the container anew");
        return;
    case CU_SYSTEM_NOT_READY:
        say_why(v, "the GPUs' links are not ready: the fabric manager does not run");
        say_fix(v, "systemctl start nvidia-fabricmanager, of the driver's own version");
        return;
    case CU_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        say_why(v, "the compatibility library '%.160s' does not work on this GPU",
                out->driver_path);
        say_fix(v, "take the cuda-compat folder out of LD_LIBRARY_PATH, or update the driver");
        return;
    default:
        if (!host.nodes) {
            no_nodes(v, &host);
            return;
        }
        (void)cu_check(&out->driver, code, "cuInit", &err);
        say_why(v, "%s", err.msg);
        say_fix(v, "look at nvidia-smi and at the kernel's log: dmesg | grep NVRM");
    }
}

static bool start_driver(const cuda_probe_options *opt, cuda_probe_report *out, verdict v) {
    int version = out->driver.version;
    if (version != 0 && version < CUDA_DRIVER_MIN) {
        say_why(v, "the driver knows CUDA %d.%d, but 11.4 is needed", version / 1000,
                version % 1000 / 10);
        say_fix(v, "update the NVIDIA driver to version 470 or newer");
        return false;
    }
    cu_result code = out->driver.init(0);
    int count = 0;
    if (code == CU_SUCCESS) code = out->driver.device_count(&count);
    if (code == CU_SUCCESS && count <= 0) code = CU_NO_DEVICE;
    if (code != CU_SUCCESS) {
        no_init(out, opt, code, v);
        return false;
    }
    out->driver_usable = true;
    out->devices_count = (uint32_t)count < CUDA_DEVICES_MAX ? (uint32_t)count : CUDA_DEVICES_MAX;
    out->devices_left_out = (uint32_t)count - out->devices_count;
    return true;
}

/* --- devices ------------------------------------------------------------------ */

static void write_uuid(char *out, size_t out_bytes, const cu_uuid *uuid) {
    const unsigned char *b = uuid->bytes;
    (void)snprintf(out, out_bytes,
                   "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                   b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
                   b[14], b[15]);
}

/* Everything that the driver tells without a context. */
static status describe(const cu_driver *d, cuda_device_info *info, int *mode, error *err) {
    cu_device dev = 0;
    cu_uuid uuid = {{0}};
    size_t bytes = 0;
    int major = 0, minor = 0, sms = 0;
    TRY(cu_check(d, d->device_get(&dev, info->ordinal), "cuDeviceGet", err));
    TRY(cu_check(d, d->device_name(info->name, sizeof info->name, dev), "cuDeviceGetName", err));
    TRY(cu_check(d, d->device_uuid(&uuid, dev), "cuDeviceGetUuid", err));
    write_uuid(info->uuid, sizeof info->uuid, &uuid);
    TRY(cu_check(d, d->device_pci(info->pci, sizeof info->pci, dev), "cuDeviceGetPCIBusId", err));
    TRY(cu_check(d, d->device_memory(&bytes, dev), "cuDeviceTotalMem_v2", err));
    const struct {
        int *out, attribute;
    } asked[] = {{&major, CU_ATTR_CC_MAJOR},
                 {&minor, CU_ATTR_CC_MINOR},
                 {&sms, CU_ATTR_SM_COUNT},
                 {mode, CU_ATTR_COMPUTE_MODE}};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        TRY(cu_check(d, d->device_attribute(asked[i].out, asked[i].attribute, dev),
                     "cuDeviceGetAttribute", err));
    info->cc = major * 10 + minor;
    info->sm_count = (uint32_t)sms;
    info->memory_bytes = bytes;
    return OK;
}

static void no_image(verdict v, const cuda_probe_options *opt, int cc, int driver_version) {
    if (opt->images.count == 0) {
        say_why(v, "this program was built without GPU kernels");
        say_fix(v, "build it where nvcc or clang is installed");
    } else if (driver_version < CUDA_DRIVER_FATBIN_MIN) {
        say_why(v, "the driver knows CUDA %d.%d, but the kernels in this program need 13.0",
                driver_version / 1000, driver_version % 1000 / 10);
        say_fix(v, "update the NVIDIA driver to version 580 or newer");
    } else {
        say_why(v, "this program has no kernels for compute capability %d.%d", cc / 10, cc % 10);
        say_fix(v, "build it with make SM=%d", cc);
    }
}

static bool judge(const cuda_probe_options *opt, const cu_driver *d, cuda_device_info *info,
                  int mode, verdict v) {
    if (info->cc < CUDA_CC_MIN) {
        say_why(v, "compute capability %d.%d; 7.5 (Turing) is the oldest that works", info->cc / 10,
                info->cc % 10);
        say_fix(v, "use a newer GPU");
        return false;
    }
    if (mode == COMPUTE_MODE_PROHIBITED) {
        say_why(v, "its compute mode is 'prohibited'");
        say_fix(v, "nvidia-smi -i %s -c DEFAULT", info->pci);
        return false;
    }
    cuda_image image = cuda_image_pick(&opt->images, info->cc, d->version);
    if (image.kind == CUDA_IMAGE_NONE) {
        no_image(v, opt, info->cc, d->version);
        return false;
    }
    info->code_path = image.code_path;
    memcpy(info->image, image.name, sizeof info->image);
    return true;
}

/* --- free memory: needs a context --------------------------------------------- */

static cu_result measure_in_context(const cu_driver *d, cu_context context, size_t *free_bytes) {
    cu_context before = NULL;
    size_t total = 0;
    cu_result code = d->context_get(&before);
    if (code != CU_SUCCESS) return code;
    code = d->context_set(context);
    if (code == CU_SUCCESS) code = d->mem_info(free_bytes, &total);
    cu_result back = d->context_set(before);
    return code != CU_SUCCESS ? code : back;
}

cu_result cuda_free_bytes(const cu_driver *d, int ordinal, size_t *free_bytes) {
    cu_device dev = 0;
    cu_context context = NULL;
    cu_result code = d->device_get(&dev, ordinal);
    if (code == CU_SUCCESS) code = d->context_retain(&context, dev);
    if (code != CU_SUCCESS) return code;
    code = measure_in_context(d, context, free_bytes);
    cu_result released = d->context_release(dev);
    return code != CU_SUCCESS ? code : released;
}

static void measure_free(const cu_driver *d, cuda_device_info *info, verdict v) {
    size_t free_bytes = 0;
    error err = {0};
    cu_result code = cuda_free_bytes(d, info->ordinal, &free_bytes);
    if (code == CU_SUCCESS) {
        info->free_bytes = free_bytes;
        info->free_known = true;
        return;
    }
    info->usable = false;
    if (code == CU_OUT_OF_MEMORY) {
        say_why(v, "its memory is full: there is no room for a context");
        say_fix(v, "end other programs on that GPU (nvidia-smi lists them)");
    } else if (code == CU_DEVICE_UNAVAILABLE) {
        say_why(v, "another program has it for itself");
        say_fix(v, "end that program, or nvidia-smi -i %s -c DEFAULT", info->pci);
    } else {
        (void)cu_check(d, code, "a context", &err);
        say_why(v, "%s", err.msg);
        say_fix(v, "look at nvidia-smi and at the kernel's log: dmesg | grep NVRM");
    }
}

static void probe_device(const cuda_probe_options *opt, const cu_driver *d, int ordinal,
                         cuda_device_info *info) {
    *info = (cuda_device_info){.ordinal = ordinal};
    verdict v = {info->why, info->fix};
    error err = {0};
    int mode = 0;
    if (describe(d, info, &mode, &err) != OK) {
        say_why(v, "%s", err.msg);
        say_fix(v, "look at nvidia-smi and at the kernel's log: dmesg | grep NVRM");
        return;
    }
    info->usable = judge(opt, d, info, mode, v);
    if (info->usable && opt->measure_free) measure_free(d, info, v);
}

static void count_usable(cuda_probe_report *out, verdict v) {
    for (uint32_t i = 0; i < out->devices_count; i++) out->usable_count += out->devices[i].usable;
    if (out->usable_count > 0) return;
    const cuda_device_info *first = &out->devices[0];
    say_why(v, "GPU %d '%.64s': %.150s", first->ordinal, first->name, first->why);
    say_fix(v, "%s", first->fix);
}

void cuda_probe(const cuda_probe_options *opt, cuda_probe_report *out) {
    *out = (cuda_probe_report){.driver_found = false};
    verdict v = {out->why, out->fix};
    if (!find_driver(opt, out, v) || !start_driver(opt, out, v)) return;
    for (uint32_t i = 0; i < out->devices_count; i++)
        probe_device(opt, &out->driver, (int)i, &out->devices[i]);
    count_usable(out, v);
}
