/* cpu.c - the CPU backend: runs the tasks of a program on a thread pool.
 *
 * Memory of one instance, laid out once:
 *
 *   | workspace floats | digits | rounded to bf16 | rope tables | expert groups | x . A^T |
 *   | scratch, one per worker | best ids |
 *
 * The digits of a value (cpu_pack.h) stand at the value's own place: those of 32 floats from
 * workspace[32 i] on are digits[i].  Values whose lives overlap do not share floats, so their
 * digits do not meet either.  The scratch of a worker is as large as the hungriest unit needs:
 * scores, panels (backend/cpu/cpu_matmul.h), rows that were gathered.  The packed copies of weights
 * (backend/cpu/cpu_repack.h) have pages of their own.
 *
 * Every worker walks the whole task list; a task begins when all units of the one before
 * are done.  Which worker computes a unit does not matter for its bits. */
#include <stdio.h>

#include "backend/cpu/cpu_internal.h"
#include "backend/host_best.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/os.h"

enum { SCRATCH_ALIGN_FLOATS = 16 };

/* --- memory -------------------- */

static void *carve(backend *b, size_t bytes) {
    void *at = b->memory != NULL ? (char *)b->memory + b->memory_bytes : NULL;
    b->memory_bytes += num_align_size(bytes, 64);
    return at;
}

/* What one unit of this op needs. */
static size_t op_scratch_floats(const backend *b, const op *o) {
    const program *p = b->p;
    switch (o->kind) {
    case OP_ATTENTION:
        return cpu_attention_floats(&o->attn, b->bf16);
    case OP_MATMUL:
    case OP_HEADS_MATMUL:
        return cpu_product_floats(p, o, b->bf16);
    case OP_ROUTE:
        return cpu_route_floats(o);
    case OP_EXPERTS:
        return cpu_experts_floats(o);
    default:
        return 0;
    }
}

static size_t scratch_floats(const backend *b) {
    size_t floats = 0;
    for (uint32_t i = 0; i < b->p->ops_count; i++)
        floats = num_max_u64(floats, op_scratch_floats(b, &b->p->ops[i]));
    return num_align_size(floats, SCRATCH_ALIGN_FLOATS);
}

static void lay_out_groups(backend *b) {
    uint32_t experts = 0, used = 0;
    for (uint32_t i = 0; i < b->p->ops_count; i++) {
        const op *o = &b->p->ops[i];
        if (o->kind != OP_EXPERTS) continue;
        experts = num_max_u32(experts, o->experts.experts);
        used = num_max_u32(used, o->experts.used);
    }
    if (experts == 0) return;
    b->groups.begin = carve(b, ((size_t)experts + 1) * sizeof *b->groups.begin);
    b->groups.active = carve(b, experts * sizeof *b->groups.active);
    b->groups.pairs = carve(b, (size_t)b->p->max.rows * used * sizeof *b->groups.pairs);
}

/* Lay the instance out from b->memory on; with b->memory NULL it only adds up the bytes. */
static void lay_out(backend *b, uint32_t threads) {
    const program *p = b->p;
    b->memory_bytes = 0;
    b->workspace = carve(b, p->workspace_floats * sizeof(float));
    const size_t blocks = p->workspace_floats / PACK_BLOCK + 1;
    if (b->list.any_digits) b->digits = carve(b, blocks * sizeof *b->digits);
    if (b->list.any_rounded) b->rounded = carve(b, p->workspace_floats * sizeof *b->rounded);
    for (uint32_t i = 0; i < b->ropes.count; i++) {
        rope_table *table = &b->ropes.tables[i];
        table->cos_sin = carve(b, (size_t)p->max.rows * table->attrs.dims * sizeof(float));
    }
    lay_out_groups(b);
    b->lora = carve(b, cpu_lora_floats(p) * sizeof(float));
    b->scratch_floats = scratch_floats(b);
    b->scratch = carve(b, threads * b->scratch_floats * sizeof(float));
    b->best = carve(b, p->max.head * sizeof *b->best);
}

/* --- life cycle -------------------- */

static void deinit_lists(backend *b) {
    cpu_tasks_destroy(&b->list);
    rope_tables_deinit(&b->ropes);
    pack_set_deinit(&b->packs);
}

static status choose_kernels(backend *b, const backend_options *opt, error *err) {
    b->fast = opt->fast;
    TRY(cpu_kernels_choose(opt->isa_cap, &b->k, err));
    b->bf16 = b->fast ? b->k->bf16 : NULL;
    return OK;
}

/* Everything that the layout depends on. */
static status init_lists(backend *b, error *err) {
    status st = cpu_tasks_build(&b->list, b->p, b->bf16, err);
    if (st == OK) st = rope_tables_init(&b->ropes, b->p, err);
    if (st == OK) st = pack_set_init(&b->packs, b->p, err);
    if (st != OK) deinit_lists(b);
    return st;
}

static status cpu_plan(const program *p, const backend_options *opt, backend_memory *out,
                       error *err) {
    backend b = {.p = p};
    TRY(choose_kernels(&b, opt, err));
    TRY(init_lists(&b, err));
    lay_out(&b, opt->threads);
    *out = (backend_memory){
        .workspace = b.memory_bytes, .repacked = b.packs.bytes, .replaced = b.packs.replaced_bytes};
    deinit_lists(&b);
    return OK;
}

static void cpu_close(backend *b) {
    if (b == NULL) return;
    cpu_pool_destroy(b->pool);
    cpu_profile_deinit(&b->profile);
    deinit_lists(b);
    os_unmap(b->memory, b->memory_bytes);
    host_memory_close(&b->host);
    mem_free(b->phases);
    mem_free(b);
}

static status open_memory(backend *b, const backend_options *opt, error *err) {
    lay_out(b, opt->threads);
    TRY(os_map_pages(b->memory_bytes, &b->memory, err));
    lay_out(b, opt->threads);
    TRY(pack_set_map(&b->packs, err));
    b->phases = mem_try_alloc_aligned(64, b->list.count * sizeof *b->phases);
    if (b->phases == NULL)
        return error_set(err, ERR_NOMEM, "cpu: no memory for %u tasks", b->list.count);
    memset(b->phases, 0, b->list.count * sizeof *b->phases); /* of no run: a late worker may look */
    return OK;
}

static status cpu_open(backend **out, const program *p, const backend_options *opt, error *err) {
    backend *b = mem_try_calloc(1, sizeof *b);
    if (b == NULL) return error_set(err, ERR_NOMEM, "cpu: no memory");
    b->p = p;
    status st = choose_kernels(b, opt, err);
    if (st == OK) st = init_lists(b, err);
    if (st == OK) st = open_memory(b, opt, err);
    if (st == OK) st = cpu_pool_create(&b->pool, opt->threads, err);
    if (st != OK) {
        cpu_close(b);
        return st;
    }
    *out = b;
    return OK;
}

static status cpu_memory(backend *b, size_t kv_bytes, size_t state_bytes, void **kv, float **states,
                         error *err) {
    TRY(host_memory_open(&b->host, kv_bytes, state_bytes, err));
    *kv = b->host.kv;
    *states = b->host.states;
    return OK;
}

static status cpu_kv_host(backend *b, size_t block_bytes, uint32_t blocks, error *err) {
    return host_memory_copies(&b->host, block_bytes, blocks, err);
}

static void cpu_kv_save(backend *b, const kv_move *moves, uint32_t count) {
    host_memory_save(&b->host, moves, count);
}

static void cpu_kv_load(backend *b, const kv_move *moves, uint32_t count) {
    host_memory_load(&b->host, moves, count);
}

static status cpu_load(backend *b, const backend_progress *progress, error *err) {
    return pack_set_load(&b->packs, b->pool, progress, err);
}

/* --- the step -------------------- */

static const struct {
    unit_fn *run;
    units_fn *units;
} kinds[TASK_KIND_COUNT] = {
    [TASK_INPUT] = {cpu_input, cpu_units_rows},
    [TASK_EMBED] = {cpu_embed, cpu_units_rows},
    [TASK_EMBED_POS] = {cpu_embed, cpu_units_rows},
    [TASK_NORM] = {cpu_norm, cpu_units_rows},
    [TASK_DIGITS] = {cpu_digits, cpu_units_digits},
    [TASK_LORA] = {cpu_lora, cpu_units_lora},
    [TASK_MATMUL] = {cpu_product, cpu_units_product},
    [TASK_HEADS_MATMUL] = {cpu_heads_matmul, cpu_units_heads},
    [TASK_ROPE] = {cpu_rope, cpu_units_rows},
    [TASK_ROPE_KV] = {cpu_rope_kv, cpu_units_rows},
    [TASK_KV_WRITE] = {cpu_kv_write, cpu_units_rows},
    [TASK_ATTENTION] = {cpu_attention, cpu_units_attention},
    [TASK_ACT] = {cpu_act, cpu_units_rows},
    [TASK_ACT_MUL] = {cpu_act_mul, cpu_units_rows},
    [TASK_ADD] = {cpu_add, cpu_units_rows},
    [TASK_ADD_ROW] = {cpu_add_row, cpu_units_rows},
    [TASK_MUL] = {cpu_mul, cpu_units_rows},
    [TASK_MUL_ROW] = {cpu_mul_row, cpu_units_rows},
    [TASK_MUL_COL] = {cpu_mul_col, cpu_units_rows},
    [TASK_ROUTE] = {cpu_route, cpu_units_rows},
    [TASK_GROUP] = {cpu_group, cpu_units_group},
    [TASK_EXPERTS] = {cpu_experts, cpu_units_experts},
    [TASK_EXPERTS_SUM] = {cpu_experts_sum, cpu_units_rows},
    [TASK_CONV] = {cpu_conv, cpu_units_columns},
    [TASK_SCAN] = {cpu_scan, cpu_units_columns},
    [TASK_SHIFT] = {cpu_shift, cpu_units_runs},
    [TASK_WKV] = {cpu_wkv, cpu_units_state_heads},
    [TASK_TAKE_ROWS] = {cpu_take_rows, cpu_units_rows},
};

static void run_unit(backend *b, const task *t, uint32_t unit, uint32_t worker) {
    kinds[t->kind].run(b, t, unit, worker);
    if (t->digits) cpu_digits_row(b, t->ops[0]->out, unit);
}

static void run_tasks(void *ctx, uint32_t run, uint32_t worker) {
    backend *b = ctx;
    const uint32_t end = atomic_load_explicit(&b->end_task, memory_order_relaxed);
    for (uint32_t i = atomic_load_explicit(&b->first_task, memory_order_relaxed); i < end; i++) {
        cpu_phase *phase = &b->phases[i];
        cpu_units units;
        while (cpu_phase_claim(phase, run, &units)) {
            for (uint32_t u = 0; u < units.count; u++)
                run_unit(b, &b->list.tasks[i], units.first + u, worker);
            if (b->profile.ends_ns != NULL) cpu_profile_unit(&b->profile, i);
            cpu_phase_done(b->pool, phase, units.count);
        }
        if (!cpu_phase_wait(b->pool, phase, run)) return;
    }
}

/* Weights that a worker reads one behind the other it has fetched itself: products come in large
 * helpings, which become smaller so that nobody waits long for the last.  Units of other tasks are
 * not of one cost. */
static uint32_t parts_of(const backend *b, const task *t) {
    enum { HELPINGS_PER_WORKER = 8 };
    return t->kind == TASK_MATMUL ? cpu_pool_threads(b->pool) * HELPINGS_PER_WORKER : UINT32_MAX;
}

static bool has_prompt(const batch *in) {
    for (uint32_t r = 0; in->prompt != NULL && r < in->rows; r++)
        if (in->prompt[r]) return true;
    return false;
}

/* Tasks first .. end - 1. */
static void run_some(backend *b, const batch *in, uint32_t first, uint32_t end) {
    const status loaded = cpu_load(b, NULL, NULL);
    ASSERT(loaded == OK); /* nobody can have stopped it */
    ASSERT(in->rows <= b->p->max.rows);
    uint32_t run = cpu_pool_next_run(b->pool);
    b->in = in;
    b->fast_rows = b->fast && has_prompt(in) ? in->prompt : NULL;
    atomic_store_explicit(&b->first_task, first, memory_order_relaxed);
    atomic_store_explicit(&b->end_task, end, memory_order_relaxed);
    for (uint32_t i = first; i < end; i++) {
        const task *t = &b->list.tasks[i];
        cpu_phase_open(&b->phases[i], run, kinds[t->kind].units(b, t), parts_of(b, t));
    }
    if (b->profile.ends_ns != NULL) cpu_profile_begin_tasks(&b->profile);
    cpu_pool_run(b->pool, run_tasks, b);
}

static step_result run_step(backend *b, const batch *in) {
    const program *p = b->p;
    ASSERT(in->taken_rows <= p->max.taken && in->head_rows <= p->max.head);
    run_some(b, in, 0, b->list.count);
    step_result result = {.hidden = value_row(b, p->hidden, 0)};
    if (p->logits == VALUE_NONE) return result;
    result.logits = value_row(b, p->logits, 0);
    result.best = host_best(in, result.logits, p->values[p->logits].cols, b->best);
    return result;
}

static step_result cpu_step(backend *b, const batch *in) {
    if (b->profile.ends_ns == NULL) return run_step(b, in);
    cpu_profile_begin(&b->profile);
    const step_result result = run_step(b, in);
    cpu_profile_end(&b->profile, b->p, in);
    return result;
}

/* A layer of experts is a handful of tasks. */
static const float *cpu_step_layer(backend *b, uint32_t layer, const batch *in) {
    const task *tasks = b->list.tasks;
    uint32_t first = 0, end = 0;
    while (tasks[first].ops[0]->layer < layer) first++;
    for (end = first; tasks[end].ops[0]->layer == layer;) end++; /* TAKE_ROWS is behind all */
    const bool measured = b->profile.ends_ns != NULL;
    if (measured) cpu_profile_begin_some(&b->profile, first, end);
    run_some(b, in, first, end);
    if (measured) cpu_profile_end_some(&b->profile, b->p, in, first, end);
    return value_row(b, tasks[end - 1].ops[0]->out, 0);
}

/* --- reports -------------------- */

static status cpu_profile_switch(backend *b, bool on, error *err) {
    cpu_profile_deinit(&b->profile);
    return on ? cpu_profile_init(&b->profile, b->p, &b->list, b->bf16, err) : OK;
}

/* What the machine can do is for whoever asks to measure. */
static uint32_t cpu_profiled(const backend *b, backend_profile out[BACKEND_PARTS_MAX]) {
    out[0] = (backend_profile){
        .p = b->p, .tasks = b->profile.tasks, .count = b->profile.count, .ns = b->profile.ns};
    (void)snprintf(out[0].where, sizeof out[0].where, "cpu %s", b->k->isa);
    return 1;
}

static bool any_attention_in_bf16(const backend *b) {
    for (uint32_t i = 0; i < b->p->ops_count; i++) {
        const op *o = &b->p->ops[i];
        if (o->kind == OP_ATTENTION && cpu_attention_bf16_takes(b->bf16, &o->attn)) return true;
    }
    return false;
}

static void cpu_report(const backend *b, backend_report *out) {
    const bool coarse =
        b->fast && (b->list.any_digits || b->list.any_rounded || any_attention_in_bf16(b));
    *out = (backend_report){.numerics = coarse ? "fast" : "exact",
                            .tasks = b->list.count,
                            .ops_fused = b->list.ops_fused,
                            .ops_unfused = b->list.ops_unfused};
    (void)snprintf(out->what, sizeof out->what, "cpu %s", b->k->isa);
}

const backend_ops backend_cpu = {
    .name = "cpu",
    .path = cpu_matmul_path,
    .packed_path = BACKEND_PATH_ROWS,
    .plan = cpu_plan,
    .open = cpu_open,
    .memory = cpu_memory,
    .kv_host = cpu_kv_host,
    .kv_save = cpu_kv_save,
    .kv_load = cpu_kv_load,
    .load = cpu_load,
    .step = cpu_step,
    .step_layer = cpu_step_layer,
    .report = cpu_report,
    .profile = cpu_profile_switch,
    .profiled = cpu_profiled,
    .close = cpu_close,
};
