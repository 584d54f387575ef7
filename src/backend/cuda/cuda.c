/* cuda.c - the CUDA backend: a program on one NVIDIA GPU.
 *
 * The driver is found when the program runs (cu_driver.h), so this is part of every binary; where
 * there is no usable GPU plan() says why.  All memory is taken when an instance opens and when the
 * engine asks for its KV cache, but for that of adapters, which come and go between steps
 * (cuda_adapter.c). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend/cuda/cuda_internal.h"
#include "backend/host_experts.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/str.h"

enum { RESERVE_BYTES_MIN = 32 << 20, RESERVE_SHARE = 64 };

static backend_path cuda_path(dtype t) {
    return cuda_planar_conversion(t) == CUDA_AS_STORED ? BACKEND_PATH_PLANAR
                                                       : BACKEND_PATH_CONVERTED;
}

/* --- which GPU -------------------- */

/* The driver's functions stay in the report: it is the owner's as long as the GPU is used. */
static status find_device(cuda_probe_report *report, const backend_options *opt,
                          const cuda_device_info **out, error *err) {
    const cuda_probe_options asked = {.images = CUDA_IMAGES_EMBEDDED};
    cuda_probe(&asked, report);
    if (report->usable_count == 0)
        return error_set(err, ERR_DEVICE, "cuda: no usable GPU: %s (%s)", report->why, report->fix);
    return cuda_choose(report, opt->device, out, err);
}

/* Less what the driver takes for code, streams and whole pages. */
static uint64_t available_of(uint64_t free_bytes, const backend_options *opt) {
    const uint64_t reserve = num_max_u64(RESERVE_BYTES_MIN, free_bytes / RESERVE_SHARE);
    const uint64_t available = free_bytes - num_min_u64(free_bytes, reserve);
    return opt->device_bytes_max == 0 ? available : num_min_u64(available, opt->device_bytes_max);
}

static status ask_available(const cuda_probe_report *report, const cuda_device_info *info,
                            const backend_options *opt, uint64_t *out, error *err) {
    size_t free_bytes = 0;
    error why = {0};
    const status st =
        cu_check(&report->driver, cuda_free_bytes(&report->driver, info->ordinal, &free_bytes),
                 "cuMemGetInfo_v2", &why);
    if (st != OK)
        return error_set(err, st, "cuda: GPU %d '%s' cannot be asked what is free: %s",
                         info->ordinal, info->name, why.msg);
    *out = available_of(free_bytes, opt);
    return OK;
}

/* --- planning -------------------- */

static uint64_t pinned_bytes(const cuda_layout *l) {
    return CUDA_STEPS_MAX * (l->desc.bytes + l->sample.bytes + l->lora.bytes + l->answer_bytes) +
           l->input_bytes + l->hidden_bytes + l->logits_bytes;
}

static status plan_with(cuda_probe_report *report, const program *p, const backend_options *opt,
                        backend_memory *out, error *err) {
    const cuda_device_info *info = NULL;
    cuda_layout l;
    uint64_t available = opt->device_available;
    TRY(find_device(report, opt, &info, err));
    if (available == 0) TRY(ask_available(report, info, opt, &available, err));
    TRY(cuda_layout_init(&l, p, err));
    *out = (backend_memory){.on_device = true,
                            .workspace = (size_t)l.workspace_bytes,
                            .weights = l.weights_bytes,
                            .pinned = pinned_bytes(&l) + cuda_elsewhere_pinned_bytes(p),
                            .available = available,
                            .ordinal = info->ordinal};
    str_copy_c(out->device, sizeof out->device, str_of(info->name));
    cuda_layout_deinit(&l);
    return OK;
}

/* Of a program whose experts are in two places, the host first. */
static status plan_split(cuda_probe_report *report, const cuda_elsewhere *e,
                         const backend_options *opt, backend_memory out[BACKEND_PARTS_MAX],
                         error *err) {
    TRY(host_experts_plan(e->host, opt, &out[0], err));
    TRY(plan_with(report, e->device, opt, &out[1], err));
    out[1].layers = program_layers(e->device);
    out[1].states = e->device->state_floats * sizeof(float);
    return OK;
}

static status cuda_plan_parts(const program *p, const backend_options *opt,
                              backend_memory out[BACKEND_PARTS_MAX], uint32_t *count, error *err) {
    cuda_elsewhere e = {0};
    TRY(cuda_elsewhere_split(&e, p, opt->host_experts, err));
    cuda_probe_report *report = mem_try_calloc(1, sizeof *report);
    status st = report != NULL ? plan_split(report, &e, opt, out, err)
                               : error_set(err, ERR_NOMEM, "cuda: no memory to look for GPUs");
    mem_free(report);
    program_destroy(e.device);
    program_destroy(e.host);
    *count = 2;
    return st;
}

static status cuda_plan(const program *p, const backend_options *opt, backend_memory *out,
                        error *err) {
    cuda_probe_report *report = mem_try_calloc(1, sizeof *report);
    if (report == NULL) return error_set(err, ERR_NOMEM, "cuda: no memory to look for GPUs");
    status st = plan_with(report, p, opt, out, err);
    mem_free(report);
    return st;
}

/* --- life cycle -------------------- */

static void close_staging(backend *b) {
    for (uint32_t i = 0; i < CUDA_STEPS_MAX; i++) {
        cuda_staging *s = &b->staging[i];
        cuda_pinned_close(&s->desc);
        cuda_pinned_close(&s->sample);
        cuda_pinned_close(&s->lora);
        cuda_pinned_close(&s->answer);
    }
    if (b->first_done != NULL) (void)b->dev.driver->event_destroy(b->first_done);
}

static void cuda_close(backend *b) {
    if (b == NULL) return;
    error ignored; /* of a GPU that is lost: nothing can be done about it */
    if (b->dev.context != NULL) (void)!cuda_device_enter(&b->dev, &ignored);
    cuda_abandon(b);
    cuda_graphs_drop(b);
    cuda_profile_deinit(&b->profile, &b->dev);
    cuda_adapters_close(b);
    cuda_elsewhere_close(b);
    close_staging(b);
    cuda_pinned_close(&b->input);
    cuda_pinned_close(&b->hidden);
    cuda_pinned_close(&b->logits);
    cuda_kv_host_close(b);
    cuda_arena_close(&b->weights);
    cuda_arena_close(&b->workspace);
    cuda_arena_close(&b->kv);
    cuda_arena_close(&b->states);
    cuda_device_close(&b->dev);
    cuda_lowered_deinit(&b->lowered);
    cuda_layout_deinit(&b->layout);
    mem_free(b->row_mixes);
    mem_free(b);
}

static status open_staging(backend *b, cuda_staging *s, error *err) {
    const cuda_layout *l = &b->layout;
    TRY(cuda_pinned_open(&s->desc, &b->dev, (size_t)l->desc.bytes, err));
    TRY(cuda_pinned_open(&s->answer, &b->dev, (size_t)l->answer_bytes, err));
    if (l->sample.bytes > 0) TRY(cuda_pinned_open(&s->sample, &b->dev, l->sample.bytes, err));
    if (l->lora.bytes == 0) return OK;
    return cuda_pinned_open(&s->lora, &b->dev, (size_t)l->lora.bytes, err);
}

static status open_pinned(backend *b, error *err) {
    const cuda_layout *l = &b->layout;
    const cu_driver *d = b->dev.driver;
    for (uint32_t i = 0; i < CUDA_STEPS_MAX; i++) TRY(open_staging(b, &b->staging[i], err));
    const unsigned sleeps = program_host_layers(b->p) > 0 ? CU_EVENT_BLOCKING_SYNC_FLAG : 0;
    const cu_result code = d->event_create(&b->first_done, CU_EVENT_DISABLE_TIMING_FLAG | sleeps);
    TRY(cu_check(d, code, "cuEventCreate", err));
    if (l->input_bytes > 0) TRY(cuda_pinned_open(&b->input, &b->dev, (size_t)l->input_bytes, err));
    TRY(cuda_pinned_open(&b->hidden, &b->dev, num_max_u64(l->hidden_bytes, 1), err));
    return cuda_pinned_open(&b->logits, &b->dev, num_max_u64(l->logits_bytes, 1), err);
}

static status open_row_mixes(backend *b, error *err) {
    const uint32_t rows = b->p->max.rows;
    if (b->layout.lora.bytes == 0) return OK;
    b->row_mixes = mem_try_calloc(rows, sizeof *b->row_mixes);
    if (b->row_mixes != NULL) return OK;
    return error_set(err, ERR_NOMEM, "cuda: no memory for %u rows", rows);
}

static status open_parts(backend *b, const backend_options *opt, error *err) {
    const cuda_device_info *info = NULL;
    const cuda_images images = CUDA_IMAGES_EMBEDDED;
    if (opt->host_experts > 0) {
        TRY(cuda_elsewhere_split(&b->elsewhere, b->p, opt->host_experts, err));
        b->p = b->elsewhere.device;
    }
    TRY(find_device(&b->report, opt, &info, err));
    TRY(cuda_layout_init(&b->layout, b->p, err));
    TRY(cuda_device_open(&b->dev, &b->report.driver, info->ordinal, &images, err));
    cuda_device_overlap(&b->dev, !opt->no_pdl);
    TRY(cuda_arena_open(&b->weights, &b->dev, "weights", (size_t)b->layout.weights_bytes, err));
    TRY(cuda_arena_open(&b->workspace, &b->dev, "workspace", (size_t)b->layout.workspace_bytes,
                        err));
    if (opt->fast) cuda_layout_halve(&b->layout, &b->dev);
    TRY(open_pinned(b, err));
    TRY(cuda_elsewhere_open(b, opt, err));
    TRY(open_row_mixes(b, err));
    const cuda_bases bases = {.weights = b->weights.base, .workspace = b->workspace.base};
    const cuda_prompts prompts = {.on = opt->fast ? &b->dev : NULL, .kv = opt->kv_type};
    return cuda_lower(&b->lowered, &b->layout, bases, prompts, err);
}

static status cuda_open(backend **out, const program *p, const backend_options *opt, error *err) {
    backend *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "cuda: no memory");
    b->p = p;
    b->graphs.refused = opt->no_graphs;
    b->device_bytes_max = opt->device_bytes_max;
    b->adapter_bytes = opt->adapter_bytes;
    b->no_peers = opt->no_peers;
    status st = open_parts(b, opt, err);
    if (st != OK) {
        cuda_close(b);
        return st;
    }
    *out = b;
    return OK;
}

static status cuda_memory(backend *b, size_t kv_bytes, size_t state_bytes, void **kv,
                          float **states, error *err) {
    ASSERT(b->kv.bytes == 0 && b->states.bytes == 0);
    TRY(cuda_device_enter(&b->dev, err));
    TRY(cuda_arena_open(&b->kv, &b->dev, "kv cache", kv_bytes, err));
    TRY(cuda_arena_open(&b->states, &b->dev, "states", state_bytes, err));
    *kv = (void *)(uintptr_t)b->kv.base;
    *states = (float *)(uintptr_t)b->states.base;
    return OK;
}

static void cuda_report(const backend *b, backend_report *out) {
    *out = (backend_report){.numerics = cuda_lowered_has_prompts(&b->lowered) ? "fast" : "exact",
                            .tasks = b->lowered.count_for_one,
                            .ops_fused = b->lowered.ops_fused,
                            .ops_unfused = b->lowered.ops_unfused};
    (void)snprintf(out->what, sizeof out->what, "cuda sm_%d", b->dev.cc);
    cuda_elsewhere_report(b, out);
}

static uint32_t cuda_places(const backend *b, backend_place out[BACKEND_PARTS_MAX]) {
    const program *host = b->elsewhere.host;
    out[0] = (backend_place){.ops = &backend_cuda, .p = b->p, .on_device = true};
    if (host == NULL) return 1;
    out[1] = (backend_place){.ops = host_experts_ops, .p = host};
    return 2;
}

/* A step that failed has not ended, and another one may be behind it. */
static status profile_after_fault(backend *b, bool on, error *err) {
    error ignored; /* it is known that all is not well */
    (void)!cuda_device_enter(&b->dev, &ignored);
    cuda_abandon(b);
    cuda_profile_deinit(&b->profile, &b->dev);
    return on ? error_set(err, b->fault.code, "%s", b->fault.msg) : OK;
}

static status cuda_profile_switch(backend *b, bool on, error *err) {
    if (b->fault.code != OK) return profile_after_fault(b, on, err);
    ASSERT(b->steps_begun == b->steps_ended);
    status st = cuda_device_enter(&b->dev, err);
    cuda_profile_deinit(&b->profile, &b->dev);
    if (st == OK) st = cuda_elsewhere_profile(b, on, err);
    if (st != OK || !on) return st;
    st = cuda_profile_init(&b->profile, &b->dev, b->p, &b->lowered, err);
    error ignored; /* to switch off takes nothing */
    if (st != OK) (void)!cuda_elsewhere_profile(b, false, &ignored);
    return st;
}

static uint32_t cuda_profiled(const backend *b, backend_profile out[BACKEND_PARTS_MAX]) {
    const cuda_profile *f = &b->profile;
    out[0] = (backend_profile){
        .p = b->p, .tasks = f->tasks, .count = f->count, .ns = f->ns, .bytes = f->bytes};
    for (int i = 0; i < ROOF_ARITH_COUNT; i++) out[0].ops[i] = f->ops[i];
    (void)snprintf(out[0].where, sizeof out[0].where, "cuda sm_%d", b->dev.cc);
    return 1 + cuda_elsewhere_profiled(b, &out[1]);
}

const backend_ops backend_cuda = {
    .name = "cuda",
    .samples = true,
    .split = &backend_split,
    .path = cuda_path,
    .packed_path = BACKEND_PATH_CONVERTED,
    .plan = cuda_plan,
    .plan_parts = cuda_plan_parts,
    .open = cuda_open,
    .memory = cuda_memory,
    .kv_host = cuda_kv_host,
    .kv_save = cuda_kv_save,
    .kv_load = cuda_kv_load,
    .load = cuda_load,
    .adapter_bytes = cuda_adapter_bytes,
    .adapter_add = cuda_adapter_add,
    .adapter_drop = cuda_adapter_drop,
    .link = cuda_link,
    .step = cuda_step,
    .begin = cuda_begin,
    .draw = cuda_draw,
    .end = cuda_end,
    .report = cuda_report,
    .places = cuda_places,
    .profile = cuda_profile_switch,
    .profiled = cuda_profiled,
    .close = cuda_close,
};
