/* host_experts.c - see host_experts.h. */
#include "backend/host_experts.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"

struct host_experts {
    backend *cpu; /* owned */
    /* Held for as long as a layer takes: who else wants the pool can do nothing but wait for it. */
    pthread_mutex_t computing;
};

const backend_ops *const host_experts_ops = &backend_cpu;

status host_experts_plan(const program *p, const backend_options *opt, backend_memory *out,
                         error *err) {
    TRY(host_experts_ops->plan(p, opt, out, err));
    out->stored = program_stored_bytes(p);
    ASSERT(out->replaced <= out->stored);
    return OK;
}

status host_experts_open(host_experts **out, const program *p, const backend_options *opt,
                         error *err) {
    host_experts *h = mem_try_calloc(1, sizeof *h);
    if (h == NULL) return error_set(err, ERR_NOMEM, "cpu: no memory for experts");
    (void)pthread_mutex_init(&h->computing, NULL);
    const status st = host_experts_ops->open(&h->cpu, p, opt, err);
    if (st != OK) {
        host_experts_close(h);
        return st;
    }
    *out = h;
    return OK;
}

void host_experts_close(host_experts *h) {
    if (h == NULL) return;
    host_experts_ops->close(h->cpu);
    (void)pthread_mutex_destroy(&h->computing);
    mem_free(h);
}

status host_experts_load(host_experts *h, const backend_progress *progress, error *err) {
    return host_experts_ops->load(h->cpu, progress, err);
}

void host_experts_sums(host_experts *h, uint32_t layer, const batch *in, float *out, size_t count) {
    (void)pthread_mutex_lock(&h->computing);
    memcpy(out, host_experts_ops->step_layer(h->cpu, layer, in), count * sizeof *out);
    (void)pthread_mutex_unlock(&h->computing);
}

void host_experts_report(const host_experts *h, backend_report *out) {
    backend_report of;
    host_experts_ops->report(h->cpu, &of);
    if (str_eq(str_of(of.numerics), S("fast"))) out->numerics = of.numerics;
    out->tasks += of.tasks;
    out->ops_fused += of.ops_fused;
    out->ops_unfused += of.ops_unfused;
    const size_t n = strlen(out->what);
    (void)snprintf(out->what + n, sizeof out->what - n, " + %s experts", of.what);
}

status host_experts_profile(host_experts *h, bool on, error *err) {
    return host_experts_ops->profile(h->cpu, on, err);
}

uint32_t host_experts_profiled(const host_experts *h, backend_profile *out) {
    return host_experts_ops->profiled(h->cpu, out);
}
