/* doctor_gpu.c - kernels, driver, NVML and every GPU; and whether what was asked for is there. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "app/doctor_internal.h"
#include "backend/backend.h"
#include "backend/cuda/cuda_host.h"

/* Bits of throttle reasons that mean trouble: slowed down by hardware, for heat or for power. */
enum { THROTTLED_BADLY = 0x8 | 0x20 | 0x40 | 0x80 };

static double gib(uint64_t bytes) { return (double)bytes / 0x1p30; }

/* A GPU that could be used and is not is worth a look; that a machine has none is not. */
static doctor_verdict missing(const doctor *d) {
    return gpu_list_expects_gpu(&d->gpus) ? DOCTOR_WARN : DOCTOR_OK;
}

/* --- what is in the binary -------------------- */

static void check_kernels(doctor *d) {
    uint64_t fatbin = 0, ptx = 0;
    for (size_t i = 0; i < cuda_blobs_count; i++) {
        fatbin += (uint64_t)(cuda_blobs[i].fatbin_end - cuda_blobs[i].fatbin);
        ptx += (uint64_t)(cuda_blobs[i].ptx_end - cuda_blobs[i].ptx);
    }
    if (cuda_blobs_count == 0) {
        doctor_say(d, "kernels", missing(d), "this program was built without GPU kernels");
        if (missing(d) != DOCTOR_OK) doctor_fix(d, "build it where nvcc or clang is installed");
        return;
    }
    doctor_say(d, "kernels", DOCTOR_OK,
               "%zu files: %" PRIu64 " KiB of machine code, %" PRIu64 " KiB of PTX",
               cuda_blobs_count, fatbin >> 10, ptx >> 10);
}

/* --- how to get at a GPU -------------------- */

static void check_access(doctor *d) {
    cuda_host host = cuda_host_look(NULL);
    const char *where = host.container ? "this container" : "this machine";
    if (host.nodes) {
        doctor_say(d, "gpu access", DOCTOR_OK, "%s has the driver's device files", where);
    } else if (d->gpus.cuda.driver_usable) {
        doctor_say(d, "gpu access", DOCTOR_OK, "the driver answers");
    } else if (host.module || host.pci_count > 0) {
        doctor_say(d, "gpu access", DOCTOR_WARN,
                   "%s has an NVIDIA GPU or its driver, but no /dev/nvidiactl", where);
        doctor_fix(d, "%s",
                   host.container
                       ? "start it with docker run --gpus all"
                       : "install and load the driver: modprobe nvidia, nvidia-modprobe");
    } else {
        doctor_say(d, "gpu access", DOCTOR_OK, "%s has no NVIDIA GPU", where);
    }
}

static void check_driver(doctor *d) {
    const cuda_probe_report *r = &d->gpus.cuda;
    if (!r->driver_usable) {
        doctor_say(d, "driver", missing(d), "%s", r->why);
        if (missing(d) != DOCTOR_OK) doctor_fix(d, "%s", r->fix);
        return;
    }
    doctor_say(d, "driver", DOCTOR_OK, "CUDA %d.%d, %s", r->driver_version / 1000,
               r->driver_version % 1000 / 10, r->driver_path);
}

static void check_nvml(doctor *d) {
    const gpu_snapshot *s = &d->gpus.nvml;
    if (s->source != GPU_SOURCE_OK) {
        doctor_say(d, "nvml", missing(d), "no temperatures and loads of GPUs: %s", s->why);
        if (missing(d) != DOCTOR_OK) doctor_fix(d, "%s", s->fix);
        return;
    }
    doctor_say(d, "nvml", DOCTOR_OK, "%u GPU%s, driver %s", s->count, s->count == 1 ? "" : "s",
               s->driver_version);
}

/* --- each GPU -------------------- */

/* What is wrong with a GPU that works; false: nothing. */
static bool ails(const gpu_info *g, char *out, size_t out_bytes, const char **fix) {
    uint64_t bad =
        g->throttle_reasons_bits == GPU_UNKNOWN ? 0 : g->throttle_reasons_bits & THROTTLED_BADLY;
    if (g->state != GPU_STATE_OK && g->state != GPU_STATE_UNREADABLE) {
        (void)snprintf(out, out_bytes, "%s", nvml_result_words(g->result));
        *fix = nvml_result_fix(g->result);
    } else if (g->ecc_uncorrected_errors != GPU_UNKNOWN && g->ecc_uncorrected_errors > 0) {
        (void)snprintf(out, out_bytes, "%" PRIu64 " memory errors that could not be corrected",
                       g->ecc_uncorrected_errors);
        *fix = "reset it (nvidia-smi -r); have it replaced when they come back";
    } else if (bad != 0) {
        (void)snprintf(out, out_bytes, "slowed down: %s", gpu_throttle_reason_next(&bad));
        *fix = "look after its cooling and its power supply";
    } else if (g->pcie_width != GPU_UNKNOWN && g->pcie_width_max != GPU_UNKNOWN &&
               g->pcie_width < g->pcie_width_max) {
        (void)snprintf(out, out_bytes, "%" PRIu64 " PCIe lanes of %" PRIu64 ": loading is slower",
                       g->pcie_width, g->pcie_width_max);
        *fix = "look whether it sits in the right slot; virtual machines may show fewer";
    } else {
        return false;
    }
    return true;
}

static void check_gpu(doctor *d, uint32_t i) {
    const gpu_row *row = &d->gpus.rows[i];
    const gpu_info *g = &d->gpus.nvml.gpus[i];
    const char *name = g->name[0] != '\0' ? g->name : "a GPU", *fix = "";
    const char *uuid = g->uuid[0] != '\0' ? g->uuid : "which one is not known";
    char ailment[160];
    if (row->device == NULL || !row->device->usable) {
        doctor_say(d, "gpu", DOCTOR_WARN, "%s (%s) is not used: %s", name, uuid, row->why);
        doctor_fix(d, "%s", row->fix);
    } else if (ails(g, ailment, sizeof ailment, &fix)) {
        doctor_say(d, "gpu", DOCTOR_WARN, "%s (%s): %s", name, uuid, ailment);
        doctor_fix(d, "%s", fix);
    } else {
        doctor_say(d, "gpu", DOCTOR_OK, "%s (%s): device %d, %s, %.1f GiB", name, uuid,
                   row->device->ordinal, row->device->image, gib(row->device->memory_bytes));
    }
}

/* --- what was asked for -------------------- */

/* "Tesla T4, NVIDIA A10" */
static status name_chosen(const doctor *d, char *out, size_t out_bytes, error *err) {
    const cuda_device_info *of[BACKEND_DEVICES_MAX];
    uint32_t count = 0;
    size_t n = 0;
    TRY(cuda_choose_list(&d->gpus.cuda, d->c->device.p, BACKEND_DEVICES_MAX, of, &count, err));
    for (uint32_t i = 0; i < count && n < out_bytes; i++)
        n += (size_t)snprintf(out + n, out_bytes - n, "%s%.64s", i > 0 ? ", " : "", of[i]->name);
    return OK;
}

static void check_wish(doctor *d) {
    const config *c = d->c;
    error err = {0};
    char chosen[256] = "";
    if (c->device.n > 0 && name_chosen(d, chosen, sizeof chosen, &err) != OK) {
        doctor_say(d, "wish", DOCTOR_FAIL, "--device %.64s: %s", c->device.p, err.msg);
        doctor_fix(d, "%s",
                   d->gpus.cuda.usable_count > 0 ? "choose one that gantry gpus lists"
                                                 : d->gpus.cuda.fix);
    } else if (chosen[0] != '\0') {
        doctor_say(d, "wish", DOCTOR_OK, "--device %.64s is %s", c->device.p, chosen);
    } else if (c->gpu == CONFIG_GPU_REQUIRE && d->gpus.cuda.usable_count == 0) {
        doctor_say(d, "wish", DOCTOR_FAIL, "--gpu require: no GPU can be used: %s",
                   d->gpus.cuda.why);
        doctor_fix(d, "%s", d->gpus.cuda.fix);
    } else {
        doctor_say(d, "wish", DOCTOR_OK, "models are computed on %s",
                   d->gpus.cuda.usable_count > 0 ? "a GPU" : "the CPU");
    }
}

void doctor_check_gpus(doctor *d) {
    if (d->c->gpu == CONFIG_GPU_OFF && d->c->device.n == 0) {
        doctor_say(d, "gpu", DOCTOR_OK, "not looked at: --gpu off");
        return;
    }
    gpu_list_look(&d->gpus, config_visible_gpus());
    check_kernels(d);
    check_access(d);
    check_driver(d);
    check_nvml(d);
    for (uint32_t i = 0; i < d->gpus.nvml.count; i++) check_gpu(d, i);
    check_wish(d);
}
