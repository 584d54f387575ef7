/* cuda_lower.c - the ops of a program as launches of kernels.  See cuda_lower.h. */
#include "backend/cuda/cuda_lower.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

/* --- addresses -------------------- */

cu_ptr lower_value(const lowering *w, value_id v) {
    if (v == VALUE_NONE) return 0;
    return w->bases.workspace + w->p->values[v].offset * sizeof(float);
}

cu_ptr lower_constant(const lowering *w, const void *data, uint64_t bytes) {
    return data == NULL ? 0 : w->bases.workspace + cuda_constant_at(w->l, data, bytes);
}

cu_ptr lower_floats(const lowering *w, const float *data, uint64_t count) {
    return lower_constant(w, data, count * sizeof *data);
}

cu_ptr lower_descriptor(const lowering *w, uint64_t offset) {
    return w->bases.workspace + w->l->desc_at + offset;
}

cu_ptr lower_count(const lowering *w, row_set rows) {
    static const size_t fields[] = {[ROWS_ALL] = offsetof(ck_counts, rows),
                                    [ROWS_TAKEN] = offsetof(ck_counts, taken),
                                    [ROWS_HEAD] = offsetof(ck_counts, head)};
    return lower_descriptor(w, w->l->desc.counts + fields[rows]);
}

cu_ptr lower_count_runs(const lowering *w) {
    return lower_descriptor(w, w->l->desc.counts + offsetof(ck_counts, runs));
}

cu_ptr lower_count_generated(const lowering *w) {
    _Static_assert(offsetof(ck_counts, rows) == offsetof(ck_counts, generated) + sizeof(uint32_t),
                   "k_gemm_* reads both");
    return lower_descriptor(w, w->l->desc.counts + offsetof(ck_counts, generated));
}

ck_matrix lower_matrix(const lowering *w, uint32_t op_idx) {
    return cuda_matrix(cuda_weight_of(w->l, op_idx), w->bases.weights);
}

row_set lower_rows(const lowering *w, const op *o) {
    return w->p->values[o->out != VALUE_NONE ? o->out : o->in[0]].rows;
}

/* --- launches -------------------- */

static status out_of_memory(const cuda_lowered *out, error *err) {
    return error_set(err, ERR_NOMEM, "cuda: no memory for %u launches", out->count + 1);
}

static status room_for(cuda_lowered *out, size_t args_bytes, error *err) {
    if (out->count == out->cap) {
        uint32_t cap = out->cap == 0 ? 256 : out->cap * 2;
        void *grown = mem_try_realloc(out->launches, cap * sizeof *out->launches);
        if (grown == NULL) return out_of_memory(out, err);
        out->launches = grown;
        out->cap = cap;
    }
    if (out->args_cap - out->args_bytes < args_bytes) {
        size_t cap = out->args_cap == 0 ? 1 << 15 : out->args_cap * 2;
        void *grown = mem_try_realloc(out->args, cap);
        if (grown == NULL) return out_of_memory(out, err);
        out->args = grown;
        out->args_cap = cap;
    }
    return OK;
}

status lower_emit(lowering *w, const cuda_launch_entry *e, const void *args, size_t args_bytes,
                  error *err) {
    cuda_lowered *out = w->out;
    const size_t bytes = num_align_size(args_bytes, 8);
    TRY(room_for(out, bytes, err));
    cuda_launch_entry *entry = &out->launches[out->count++];
    *entry = *e;
    if (w->when != CUDA_ALWAYS) entry->when = w->when;
    if (!w->adapters) {
        const bool one = entry->when == CUDA_ALWAYS || entry->when == CUDA_FOR_ONE_ROW;
        out->count_for_one += one;
        out->plain_count = out->count;
    }
    if (entry->per_row == 0) entry->per_row = 1;
    if (entry->width == 0) entry->width = 1;
    out->prompt_products += entry->prompt_tiles > 0;
    out->prompt_attentions += entry->prompt_queries > 0;
    entry->args_at = (uint32_t)out->args_bytes;
    entry->args_bytes = (uint32_t)args_bytes;
    memcpy(out->args + out->args_bytes, args, args_bytes);
    out->args_bytes += bytes;
    return OK;
}

/* --- the whole -------------------- */

static lower_fn *const lower_kinds[OP_KIND_COUNT] = {
    [OP_INPUT] = lower_input,
    [OP_EMBED] = lower_embed,
    [OP_EMBED_POS] = lower_embed,
    [OP_NORM] = lower_norm,
    [OP_MATMUL] = lower_matmul,
    [OP_HEADS_MATMUL] = lower_heads_matmul,
    [OP_ROPE] = lower_rope,
    [OP_KV_WRITE] = lower_kv_write,
    [OP_ATTENTION] = lower_attention,
    [OP_ACT] = lower_act,
    [OP_ACT_MUL] = lower_act_mul,
    [OP_ADD] = lower_add,
    [OP_ADD_ROW] = lower_binary,
    [OP_MUL] = lower_binary,
    [OP_MUL_ROW] = lower_binary,
    [OP_MUL_COL] = lower_binary,
    [OP_ROUTE] = lower_route,
    [OP_EXPERTS] = lower_experts,
    [OP_EXPERTS_SUM] = lower_experts_sum,
    [OP_CONV] = lower_conv,
    [OP_SCAN] = lower_scan,
    [OP_SHIFT] = lower_shift,
    [OP_WKV] = lower_wkv,
    [OP_TAKE_ROWS] = lower_take_rows,
    [OP_HOST] = lower_host,
};

/* Is the launch one of steps with many rows (0), with one (1)? */
static bool runs_for(const cuda_launch_entry *e, uint32_t one) {
    return e->when == CUDA_ALWAYS || e->when == (one ? CUDA_FOR_ONE_ROW : CUDA_FOR_MANY_ROWS);
}

/* [ops] of this list. */
static uint32_t *op_launches(const lowering *w, uint32_t one) {
    return w->out->op_launches + (size_t)((w->adapters ? 2 : 0) + one) * w->p->ops_count;
}

void lower_covers(lowering *w, uint32_t op_idx) {
    const uint32_t last = w->out->count - 1;
    for (uint32_t one = 0; one < 2; one++)
        if (runs_for(&w->out->launches[last], one)) op_launches(w, one)[op_idx] = last;
}

/* Making codes, or x . A^T, helps the products behind it, and so does grouping pairs, which not
 * all steps do; what follows the kernel of an op helps, too. */
static uint32_t main_launch(const cuda_lowered *l, uint32_t first, uint32_t one) {
    for (uint32_t i = first; i < l->count; i++) {
        const cuda_kernel_id kernel = l->launches[i].kernel;
        if (kernel == CUDA_k_quantize || kernel == CUDA_k_lora_shrink) continue;
        if (runs_for(&l->launches[i], one)) return i;
    }
    return CUDA_NO_LAUNCH;
}

/* Launches from `first` on are this op's, and those of the ops that were fused with it, but for
 * what lower_covers() was told. */
static void note_launches(lowering *w, uint32_t op_idx, uint32_t first) {
    const uint32_t end = num_min_u32(op_idx + BACKEND_TASK_OPS_MAX, w->p->ops_count);
    for (uint32_t one = 0; one < 2; one++) {
        uint32_t *of = op_launches(w, one);
        const uint32_t idx = main_launch(w->out, first, one);
        if (of[op_idx] == CUDA_NO_LAUNCH) of[op_idx] = idx;
        for (uint32_t i = op_idx + 1; i < end; i++)
            if (w->done[i] != LOWER_TODO && of[i] == CUDA_NO_LAUNCH) of[i] = idx;
    }
}

/* A list from its beginning. */
static status lower_ops(lowering *w, error *err) {
    w->codes_of = w->gated = w->grouped = w->few_grouped = VALUE_NONE;
    w->when = CUDA_ALWAYS;
    memset(w->done, 0, w->p->ops_count * sizeof *w->done);
    memset(w->only_codes, 0, w->p->values_count * sizeof *w->only_codes);
    for (uint32_t i = 0; i < w->l->ropes_count; i++) TRY(lower_rope_table(w, &w->l->ropes[i], err));
    for (uint32_t i = 0; i < w->p->ops_count; i++) {
        const uint32_t first = w->out->count;
        if (w->done[i] == LOWER_FUSED && !w->adapters) w->out->ops_fused++;
        if (w->done[i] != LOWER_TODO) continue;
        TRY(lower_kinds[w->p->ops[i].kind](w, i, err));
        note_launches(w, i, first);
    }
    TRY(lower_argmax(w, err));
    TRY(lower_sample(w, err));
    return lower_logprobs(w, err);
}

static status lower_lists(lowering *w, error *err) {
    cuda_lowered *out = w->out;
    for (uint32_t i = 0; i < out->op_maps * w->p->ops_count; i++)
        out->op_launches[i] = CUDA_NO_LAUNCH;
    TRY(lower_ops(w, err));
    out->ops_unfused = w->p->ops_count - out->ops_fused;
    w->adapters = w->l->lora.bytes > 0;
    return w->adapters ? lower_ops(w, err) : OK;
}

status cuda_lower(cuda_lowered *out, const cuda_layout *l, cuda_bases bases, cuda_prompts prompts,
                  error *err) {
    lowering w = {.out = out, .l = l, .p = l->p, .bases = bases, .prompts = prompts};
    *out = (cuda_lowered){.op_maps = l->lora.bytes > 0 ? 4 : 2};
    w.done = mem_try_calloc(l->p->ops_count, sizeof *w.done);
    w.only_codes = mem_try_calloc(l->p->values_count, sizeof *w.only_codes);
    out->op_launches =
        mem_try_calloc((size_t)out->op_maps * l->p->ops_count, sizeof *out->op_launches);
    status st = OK;
    if (w.done == NULL || w.only_codes == NULL || out->op_launches == NULL)
        st = error_set(err, ERR_NOMEM, "cuda: no memory for %u ops", l->p->ops_count);
    if (st == OK) st = lower_lists(&w, err);
    if (st != OK) cuda_lowered_deinit(out);
    mem_free(w.done);
    mem_free(w.only_codes);
    return st;
}

void cuda_lowered_deinit(cuda_lowered *l) {
    mem_free(l->launches);
    mem_free(l->args);
    mem_free(l->op_launches);
    *l = (cuda_lowered){0};
}
