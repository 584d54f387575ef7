/* device.c - see device.h. */
#include "app/device.h"

#include <pthread.h>
#include <stdio.h>

#include "backend/cuda/cuda_probe.h"

static cuda_probe_report machine;
static pthread_once_t machine_once = PTHREAD_ONCE_INIT;

static void look(void) {
    const cuda_probe_options opt = {.visible = config_visible_gpus(),
                                    .images = CUDA_IMAGES_EMBEDDED};
    cuda_probe(&opt, &machine);
}

/* Commands that measure a model compute on the CPU, which has mode `exact`, unless told to. */
static bool takes_gpu_unasked(const config *c) {
    return c->cmd == COMMAND_SERVE || c->cmd == COMMAND_RUN || c->cmd == COMMAND_BENCH;
}

static status check_contradictions(const config *c, error *err) {
    const bool other = c->backend == CONFIG_BACKEND_REF || c->backend == CONFIG_BACKEND_CPU;
    if (c->gpu == CONFIG_GPU_REQUIRE && other)
        return error_set(err, ERR_INVALID,
                         "usage: --gpu require asks for a GPU, --backend %s for none",
                         c->backend == CONFIG_BACKEND_REF ? "ref" : "cpu");
    if (c->gpu == CONFIG_GPU_OFF && c->backend == CONFIG_BACKEND_CUDA)
        return error_set(err, ERR_INVALID,
                         "usage: --backend cuda asks for a GPU, --gpu off for "
                         "none");
    if (c->device.n > 0 && (c->gpu == CONFIG_GPU_OFF || other))
        return error_set(err, ERR_INVALID, "usage: --device names a GPU, but %s",
                         other ? "--backend chooses another one" : "--gpu is off");
    if (c->gpu_layers != 0 && (c->gpu == CONFIG_GPU_OFF || other))
        return error_set(err, ERR_INVALID,
                         "usage: --gpu-layers %u asks for layers on a GPU, but %s", c->gpu_layers,
                         other ? "--backend chooses another one" : "--gpu is off");
    return OK;
}

static void use_cpu(const config *c, device_choice *out, const char *why) {
    *out =
        (device_choice){.backend = backend_find(c->backend == CONFIG_BACKEND_REF ? "ref" : "cpu")};
    (void)snprintf(out->note, sizeof out->note, "none used: %.600s", why);
}

static void use_gpu(const config *c, const cuda_device_info *d, device_choice *out) {
    *out = (device_choice){.backend = backend_find("cuda"),
                           .device = d->uuid,
                           .preferred = c->gpu == CONFIG_GPU_PREFER && c->device.n == 0 &&
                                        c->backend != CONFIG_BACKEND_CUDA};
    (void)snprintf(out->note, sizeof out->note, "%.90s (device %d, %s)", d->name, d->ordinal,
                   d->image);
}

/* Why there is nothing to choose from, or nothing that was asked for. */
static status find(const config *c, const cuda_device_info **out, error *err) {
    if (machine.usable_count == 0 && c->device.n == 0)
        return error_set(err, ERR_DEVICE, "%s; %s", machine.why, machine.fix);
    return cuda_choose(&machine, c->device.n > 0 ? c->device.p : NULL, out, err);
}

status device_choose(const config *c, device_choice *out, error *err) {
    TRY(check_contradictions(c, err));
    const bool required =
        c->gpu == CONFIG_GPU_REQUIRE || c->backend == CONFIG_BACKEND_CUDA || c->device.n > 0;
    if (c->gpu == CONFIG_GPU_OFF) {
        use_cpu(c, out, "--gpu off");
        return OK;
    }
    if (c->backend == CONFIG_BACKEND_CPU || c->backend == CONFIG_BACKEND_REF) {
        use_cpu(c, out, "--backend chose otherwise");
        return OK;
    }
    if (!required && !takes_gpu_unasked(c)) {
        use_cpu(c, out, "this command computes on the CPU unless told --gpu require");
        return OK;
    }
    (void)pthread_once(&machine_once, look);
    const cuda_device_info *device = NULL;
    error why = {0};
    if (find(c, &device, &why) == OK) {
        use_gpu(c, device, out);
        return OK;
    }
    if (required) return error_set(err, why.code, "a GPU is required: %s", why.msg);
    use_cpu(c, out, why.msg);
    return OK;
}
