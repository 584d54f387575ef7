/* device.c - see device.h. */
#include "app/device.h"

#include <pthread.h>
#include <stdio.h>

#include "backend/cuda/cuda_probe.h"
#include "base/log.h"
#include "base/num.h"

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

/* As it is given: a number, or "all". */
typedef struct moe_layers {
    char text[12];
} moe_layers;

static moe_layers moe_layers_of(const config *c) {
    moe_layers m = {.text = "all"};
    if (c->cpu_moe_layers != CONFIG_LAYERS_ALL)
        (void)snprintf(m.text, sizeof m.text, "%u", c->cpu_moe_layers);
    return m;
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
    if (c->cpu_moe_layers != 0 && (c->gpu == CONFIG_GPU_OFF || other))
        return error_set(
            err, ERR_INVALID, "usage: --cpu-moe-layers %s leaves all else to a GPU, but %s",
            moe_layers_of(c).text, other ? "--backend chooses another one" : "--gpu is off");
    if (c->cpu_moe_layers != 0 && c->gpu_layers != 0)
        return error_set(err, ERR_INVALID,
                         "usage: --cpu-moe-layers %s wants all layers on GPUs, --gpu-layers %u "
                         "says how many: one of them, not both",
                         moe_layers_of(c).text, c->gpu_layers);
    return OK;
}

static void use_cpu(const config *c, device_choice *out, const char *why) {
    *out =
        (device_choice){.backend = backend_find(c->backend == CONFIG_BACKEND_REF ? "ref" : "cpu")};
    (void)snprintf(out->note, sizeof out->note, "none used: %.600s", why);
}

/* "Tesla T4 (device 0, sm_75 cubin), and 3 more GPUs for models that are larger" */
static void note_gpus(const cuda_device_info *const *of, device_choice *out) {
    const uint32_t spare = out->devices_count - out->devices_min;
    size_t n = 0;
    for (uint32_t i = 0; i < out->devices_min; i++)
        n += (size_t)snprintf(out->note + n, sizeof out->note - n, "%s%.48s (device %d, %s)",
                              i > 0 ? ", " : "", of[i]->name, of[i]->ordinal, of[i]->image);
    if (spare > 0)
        (void)snprintf(out->note + n, sizeof out->note - n,
                       ", and %u more GPU%s for models that are larger", spare,
                       spare > 1 ? "s" : "");
}

/* Those that were named compute together; of those that there are the first one, while a model
 * fits on it. */
static void use_gpus(const config *c, const cuda_device_info *const *of, uint32_t count,
                     device_choice *out) {
    const bool named = c->device.n > 0;
    *out = (device_choice){.backend = backend_find("cuda"),
                           .devices_count = count,
                           .devices_min = named ? count : 1,
                           .preferred = c->gpu == CONFIG_GPU_PREFER && !named &&
                                        c->backend != CONFIG_BACKEND_CUDA};
    for (uint32_t i = 0; i < count; i++) out->devices[i] = of[i]->uuid;
    _Static_assert(sizeof out->note > BACKEND_DEVICES_MAX * (48 + 20 + sizeof of[0]->image),
                   "all of them fit");
    note_gpus(of, out);
}

/* Why there is nothing to choose from, or nothing that was asked for. */
static status find(const config *c, const cuda_device_info **out, uint32_t *count, error *err) {
    if (c->device.n > 0)
        return cuda_choose_list(&machine, c->device.p, BACKEND_DEVICES_MAX, out, count, err);
    if (machine.usable_count == 0)
        return error_set(err, ERR_DEVICE, "%s; %s", machine.why, machine.fix);
    *count = num_min_u32(cuda_usable(&machine, BACKEND_DEVICES_MAX, out), BACKEND_DEVICES_MAX);
    return OK;
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
    const cuda_device_info *found[BACKEND_DEVICES_MAX];
    uint32_t count = 0;
    error why = {0};
    if (find(c, found, &count, &why) == OK) {
        use_gpus(c, found, count, out);
        return OK;
    }
    if (required) return error_set(err, why.code, "a GPU is required: %s", why.msg);
    use_cpu(c, out, why.msg);
    return OK;
}

void device_log_unused(const config *c, const device_choice *d) {
    if (d->devices_count > 0) return;
    if (c->gpu_layers != 0)
        log_warn("gpu", "--gpu-layers %u is without effect: %s", c->gpu_layers, d->note);
    if (c->cpu_moe_layers != 0)
        log_warn("gpu", "--cpu-moe-layers %s is without effect: %s", moe_layers_of(c).text,
                 d->note);
}
