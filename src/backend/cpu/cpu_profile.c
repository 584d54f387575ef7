/* cpu_profile.c - see cpu_profile.h.
 *
 * Ordering.  A unit's stamp is written before cpu_phase_done(), whose increment the caller sees
 * before it reads the stamps; those of the next step are cleared before any unit of it can
 * be claimed. */
#include "backend/cpu/cpu_profile.h"

#include "backend/cpu/cpu_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"

/* Helpers are part of an op that another task is made of. */
static bool is_helper(task_kind kind) {
    return kind == TASK_DIGITS || kind == TASK_LORA || kind == TASK_GROUP;
}

static void add_op(backend_task *to, const program *p, const op *o) {
    ASSERT(to->ops_count < BACKEND_TASK_OPS_MAX);
    to->ops[to->ops_count++] = (uint32_t)(o - p->ops);
}

static void describe(backend_task *to, const program *p, const task *t, const bf16_kernels *bf16) {
    *to = (backend_task){.name = task_kind_name(t->kind), .ran = true};
    if (is_helper(t->kind)) return;
    for (uint32_t i = 0; i < t->ops_count; i++) add_op(to, p, t->ops[i]);
    if (t->add_op != NULL) add_op(to, p, t->add_op);
    to->halves = t->kind == TASK_ATTENTION && cpu_attention_bf16_takes(bf16, &t->ops[0]->attn);
}

status cpu_profile_init(cpu_profile *f, const program *p, const task_list *list,
                        const bf16_kernels *bf16, error *err) {
    *f = (cpu_profile){.count = list->count};
    f->tasks = mem_try_calloc(list->count, sizeof *f->tasks);
    f->ends_ns = mem_try_calloc(list->count, sizeof *f->ends_ns);
    if (f->tasks == NULL || f->ends_ns == NULL) {
        cpu_profile_deinit(f);
        return error_set(err, ERR_NOMEM, "cpu: no memory to measure %u tasks", list->count);
    }
    for (uint32_t i = 0; i < list->count; i++) describe(&f->tasks[i], p, &list->tasks[i], bf16);
    return OK;
}

void cpu_profile_deinit(cpu_profile *f) {
    mem_free(f->tasks);
    mem_free(f->ends_ns);
    *f = (cpu_profile){0};
}

void cpu_profile_begin_some(cpu_profile *f, uint32_t first, uint32_t end) {
    f->began_ns = os_now_ns();
    for (uint32_t i = first; i < end; i++)
        atomic_store_explicit(&f->ends_ns[i], 0, memory_order_relaxed);
}

void cpu_profile_begin(cpu_profile *f) { cpu_profile_begin_some(f, 0, f->count); }

void cpu_profile_begin_tasks(cpu_profile *f) { f->tasks_ns = os_now_ns(); }

void cpu_profile_unit(cpu_profile *f, uint32_t idx) {
    const uint64_t now_ns = os_now_ns();
    uint64_t last_ns = atomic_load_explicit(&f->ends_ns[idx], memory_order_relaxed);
    while (last_ns < now_ns && !atomic_compare_exchange_weak(&f->ends_ns[idx], &last_ns, now_ns)) {
    }
}

/* A task without units takes no time. */
void cpu_profile_end_some(cpu_profile *f, const program *p, const batch *in, uint32_t first,
                          uint32_t end) {
    uint64_t before_ns = f->tasks_ns;
    f->ns = (first > 0 ? f->ns : 0) + (os_now_ns() - f->began_ns);
    for (uint32_t i = first; i < end; i++) {
        backend_task *t = &f->tasks[i];
        const uint64_t end_ns = num_max_u64(atomic_load(&f->ends_ns[i]), before_ns);
        t->ns = end_ns - before_ns;
        t->work = roofline_task(p, t->ops, t->ops_count, in);
        before_ns = end_ns;
    }
}

void cpu_profile_end(cpu_profile *f, const program *p, const batch *in) {
    cpu_profile_end_some(f, p, in, 0, f->count);
}
