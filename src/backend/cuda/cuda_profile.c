/* cuda_profile.c - see cuda_profile.h. */
#include "backend/cuda/cuda_profile.h"

#include <stdio.h>

#include "backend/cuda/cuda_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/os.h"

/* --- what the card could do -------------------- */

/* Operations of one SM per clock, a multiply-add being two, dense: f32 cores from "Arithmetic
 * Instructions" of the CUDA C++ Programming Guide, matrix units (f16 with sums in f32; 8-bit
 * integers) from the rates that the data sheets of T4, A100, A10, L4 and H100 give. */
static const struct {
    int cc;
    uint32_t per_clock[ROOF_ARITH_COUNT];
} sm_rates[] = {
    {75, {[ROOF_FLOAT] = 128, [ROOF_HALF] = 1024, [ROOF_INTEGER] = 2048}},
    {80, {[ROOF_FLOAT] = 128, [ROOF_HALF] = 2048, [ROOF_INTEGER] = 4096}},
    {86, {[ROOF_FLOAT] = 256, [ROOF_HALF] = 1024, [ROOF_INTEGER] = 2048}},
    {89, {[ROOF_FLOAT] = 256, [ROOF_HALF] = 1024, [ROOF_INTEGER] = 2048}},
    {90, {[ROOF_FLOAT] = 256, [ROOF_HALF] = 4096, [ROOF_INTEGER] = 8192}},
};

/* 0: the driver does not say. */
static uint64_t attribute_of(const cuda_device *dev, int attribute) {
    int got = 0;
    if (dev->driver->device_attribute(&got, attribute, dev->handle) != CU_SUCCESS) return 0;
    return got > 0 ? (uint64_t)got : 0;
}

backend_limit cuda_limit_bytes(const cuda_device *dev) {
    const uint64_t clock_khz = attribute_of(dev, CU_ATTR_MEMORY_CLOCK_KHZ),
                   bits = attribute_of(dev, CU_ATTR_MEMORY_BUS_BITS);
    return (backend_limit){.per_s = 2000 * clock_khz * bits / 8, .name = "memory clock x bus"};
}

backend_limit cuda_limit_ops(const cuda_device *dev, roof_arith arith) {
    static const char *const names[] = {[ROOF_FLOAT] = "f32 cores x clock",
                                        [ROOF_HALF] = "f16 matrix units x clock",
                                        [ROOF_INTEGER] = "int8 matrix units x clock"};
    backend_limit limit = {0};
    const uint64_t clock_khz = attribute_of(dev, CU_ATTR_CLOCK_KHZ);
    for (size_t i = 0; i < sizeof sm_rates / sizeof sm_rates[0]; i++)
        if (sm_rates[i].cc == dev->cc)
            limit.per_s = 1000 * clock_khz * dev->sm_count * sm_rates[i].per_clock[arith];
    str_copy_c(limit.name, sizeof limit.name, str_of(names[arith]));
    return limit;
}

/* --- life cycle -------------------- */

static void describe_tasks(cuda_profile *f, const program *p, const cuda_lowered *l) {
    const uint32_t copy = f->count - 1;
    for (uint32_t i = 0; i < l->count; i++)
        f->tasks[i].name = cuda_launch_name(l->launches[i].kernel);
    f->tasks[copy].name = "copy to the device";
    for (uint32_t i = 0; i < l->op_maps * p->ops_count; i++) {
        const uint32_t idx = l->op_launches[i] == CUDA_NO_LAUNCH ? copy : l->op_launches[i];
        backend_task *t = &f->tasks[idx];
        const uint32_t op_idx = i % p->ops_count;
        if (t->ops_count > 0 && t->ops[t->ops_count - 1] >= op_idx) continue; /* of every step */
        ASSERT(t->ops_count < BACKEND_TASK_OPS_MAX);
        t->ops[t->ops_count++] = op_idx;
    }
}

static status open_events(cuda_profile *f, cuda_device *dev, error *err) {
    for (uint32_t i = 0; i < 2 * f->count; i++) {
        const cu_result code = dev->driver->event_create(&f->events[i], CU_EVENT_DEFAULT_FLAG);
        TRY(cu_check(dev->driver, code, "cuEventCreate", err));
    }
    return OK;
}

status cuda_profile_init(cuda_profile *f, cuda_device *dev, const program *p, const cuda_lowered *l,
                         error *err) {
    *f = (cuda_profile){.count = l->count + 1};
    f->tasks = mem_try_calloc(f->count, sizeof *f->tasks);
    f->events = mem_try_calloc((size_t)f->count * 2, sizeof(cu_event));
    status st = OK;
    if (f->tasks == NULL || f->events == NULL)
        st = error_set(err, ERR_NOMEM, "cuda: no memory to measure %u launches", l->count);
    if (st == OK) st = open_events(f, dev, err);
    if (st != OK) {
        cuda_profile_deinit(f, dev);
        return st;
    }
    describe_tasks(f, p, l);
    f->bytes = cuda_limit_bytes(dev);
    for (int i = 0; i < ROOF_ARITH_COUNT; i++) f->ops[i] = cuda_limit_ops(dev, (roof_arith)i);
    return OK;
}

void cuda_profile_deinit(cuda_profile *f, const cuda_device *dev) {
    for (uint32_t i = 0; f->events != NULL && i < 2 * f->count; i++)
        if (f->events[i] != NULL) (void)dev->driver->event_destroy(f->events[i]);
    mem_free(f->events);
    mem_free(f->tasks);
    *f = (cuda_profile){0};
}

/* --- a step -------------------- */

void cuda_profile_begin(cuda_profile *f) {
    f->began_ns = os_now_ns();
    for (uint32_t i = 0; i < f->count; i++) f->tasks[i].ran = false;
}

void cuda_profile_before(cuda_profile *f, cuda_device *dev, uint32_t idx, const char *name) {
    f->tasks[idx].name = name;
    f->tasks[idx].ran = true;
    (void)cuda_note(dev, dev->driver->event_record(f->events[2 * (size_t)idx], dev->compute),
                    "cuEventRecord");
}

void cuda_profile_after(const cuda_profile *f, cuda_device *dev, uint32_t idx) {
    (void)cuda_note(dev, dev->driver->event_record(f->events[2 * (size_t)idx + 1], dev->compute),
                    "cuEventRecord");
}

/* A time that the driver does not have is none. */
static uint64_t elapsed_ns(const cuda_profile *f, const cuda_device *dev, uint32_t idx) {
    float ms = 0;
    const cu_event *pair = &f->events[2 * (size_t)idx];
    if (dev->driver->event_elapsed(&ms, pair[0], pair[1]) != CU_SUCCESS || !(ms > 0)) return 0;
    return (uint64_t)((double)ms * 1e6);
}

void cuda_profile_end(cuda_profile *f, const cuda_device *dev, const program *p, const batch *in) {
    f->ns = os_now_ns() - f->began_ns;
    for (uint32_t i = 0; i < f->count; i++) {
        backend_task *t = &f->tasks[i];
        t->ns = t->ran ? elapsed_ns(f, dev, i) : 0;
        t->work = roofline_task(p, t->ops, t->ops_count, in);
    }
}
