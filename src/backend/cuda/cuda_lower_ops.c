/* cuda_lower_ops.c - ops that are one launch each.  See cuda_lower.h. */
#include "backend/cuda/cuda_lower.h"
#include "base/assert.h"

enum {
    COLS_PER_BLOCK = 256,
    STATE_COLS_PER_BLOCK = 128,
    CODES_PER_SUMS = 32,
};

/* --- rows in and out -------------------- */

/* The step sends it: there is nothing to launch. */
status lower_input(lowering *w, uint32_t op_idx, error *err) {
    (void)w, (void)op_idx, (void)err;
    return OK;
}

/* Where steps leave the tokens that they find: u32 [head]. */
static cu_ptr lower_best(const lowering *w) {
    return w->bases.workspace + w->l->answer_at + sizeof(uint32_t);
}

status lower_embed(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const cuda_descriptor *d = &w->l->desc;
    k_embed_args a = {.table = lower_matrix(w, op_idx),
                      .ids = lower_descriptor(w, o->kind == OP_EMBED ? d->ids : d->pos),
                      .made = o->kind == OP_EMBED ? lower_best(w) : 0,
                      .out = lower_value(w, o->out),
                      .count = lower_count(w, ROWS_ALL),
                      .error = w->bases.workspace + w->l->answer_at};
    cuda_launch_entry e = {.kernel = CUDA_k_embed, .many = CUDA_k_embed, .rows = ROWS_ALL};
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_take_rows(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const cuda_descriptor *d = &w->l->desc;
    row_set rows = lower_rows(w, o);
    k_take_rows_args a = {.x = lower_value(w, o->in[0]),
                          .index = lower_descriptor(w, rows == ROWS_HEAD ? d->head : d->taken),
                          .out = lower_value(w, o->out),
                          .count = lower_count(w, rows),
                          .cols = w->p->values[o->out].cols};
    cuda_launch_entry e = {.kernel = CUDA_k_take_rows, .many = CUDA_k_take_rows, .rows = rows};
    return LOWER_EMIT(w, &e, &a, err);
}

/* Behind all ops, in steps that want the best. */
status lower_argmax(lowering *w, error *err) {
    const value_id logits = w->p->logits;
    const cuda_descriptor *d = &w->l->desc;
    if (logits == VALUE_NONE) return OK;
    k_argmax_args a = {.x = lower_value(w, logits),
                       .parts = w->bases.workspace + w->l->parts_at,
                       .tickets = lower_descriptor(w, d->tickets),
                       .out = lower_best(w),
                       .count = lower_count(w, ROWS_HEAD),
                       .cols = w->p->values[logits].cols};
    cuda_launch_entry e = {.kernel = CUDA_k_argmax,
                           .many = CUDA_k_argmax,
                           .grid = CUDA_GRID_ROWS_Y,
                           .when = CUDA_WHEN_BEST,
                           .rows = ROWS_HEAD,
                           .width = cuda_argmax_blocks(w->p)};
    return LOWER_EMIT(w, &e, &a, err);
}

/* Behind that, in steps that draw: it uses up the logits of its rows that want nothing else, and
 * their best ids are not what is wanted of them. */
status lower_sample(lowering *w, error *err) {
    const value_id logits = w->p->logits;
    const cu_ptr base = w->bases.workspace + w->l->sample_at;
    if (logits == VALUE_NONE) return OK;
    k_sample_args a = {.x = lower_value(w, logits),
                       .rules = base + w->l->sample.rules,
                       .changes = base + w->l->sample.changes,
                       .masks = base + w->l->sample.masks,
                       .out = lower_best(w),
                       .count = lower_count(w, ROWS_HEAD),
                       .cols = w->p->values[logits].cols};
    cuda_launch_entry e = {.kernel = CUDA_k_sample,
                           .many = CUDA_k_sample,
                           .when = CUDA_WHEN_SAMPLED,
                           .rows = ROWS_HEAD};
    return LOWER_EMIT(w, &e, &a, err);
}

/* Behind that, where it has left the logits as they are. */
status lower_logprobs(lowering *w, error *err) {
    const value_id logits = w->p->logits;
    if (logits == VALUE_NONE) return OK;
    k_logprobs_args a = {
        .x = lower_value(w, logits),
        .rules = w->bases.workspace + w->l->sample_at + w->l->sample.rules,
        .drawn = lower_best(w),
        .out = w->bases.workspace + w->l->logprobs_at,
        .count = lower_count(w, ROWS_HEAD),
        .cols = w->p->values[logits].cols,
    };
    cuda_launch_entry e = {.kernel = CUDA_k_logprobs,
                           .many = CUDA_k_logprobs,
                           .when = CUDA_WHEN_LOGPROBS,
                           .rows = ROWS_HEAD};
    return LOWER_EMIT(w, &e, &a, err);
}

/* --- attention -------------------- */

/* What the batch says of the cache is patched in by the step: args begin with the ck_kv. */
_Static_assert(offsetof(k_attention_args, kv) == 0, "patch");

/* Query heads of a head of the cache, where prompts have a kernel of their own; else 0. */
static uint32_t prompt_queries(const lowering *w, const op_attention *t) {
    const bool has_dims = cuda_prompt_width_of(t->key_dim, t->value_dim) != CUDA_PROMPT_NONE;
    const bool has_type = w->prompts.kv != DTYPE_F32; /* F16, Q8_0 and Q4_0 */
    return w->prompts.on != NULL && has_dims && has_type ? t->heads / t->kv_heads : 0;
}

status lower_attention(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const op_attention *t = &o->attn;
    const cuda_descriptor *d = &w->l->desc;
    const cuda_attention_cut cut = cuda_attention_cut_of_op(o);
    lower_result to = {.floats = lower_value(w, o->out)}; /* a block makes codes of a whole head */
    if (t->value_dim % CODES_PER_SUMS == 0) to = lower_result_of(w, o->out);
    k_attention_args a = {.kv.tables = lower_descriptor(w, d->tables),
                          .kv.table_stride = d->table_stride,
                          .q = lower_value(w, o->in[0]),
                          .out = to.floats,
                          .codes = to.codes,
                          .sums = to.sums,
                          .pos = lower_descriptor(w, d->pos),
                          .seats = lower_descriptor(w, d->tables_of),
                          .seen = lower_descriptor(w, t->causal ? d->seen : d->whole),
                          .sinks = lower_floats(w, t->sinks, t->heads),
                          .slopes = lower_floats(w, t->slopes, t->heads),
                          .count = lower_count(w, ROWS_ALL),
                          .splits = lower_descriptor(w, d->splits),
                          .slots = lower_descriptor(w, d->slots),
                          .parts = w->bases.workspace + w->l->splits_at,
                          .tickets = lower_descriptor(w, d->split_tickets),
                          .heads = t->heads,
                          .window = t->window,
                          .scale = t->scale,
                          .softcap = t->softcap,
                          .per_block = cut.per_block,
                          .groups = cut.groups,
                          .splits_max = cut.splits_max,
                          .parts_stride = cuda_attention_splits_room(w->p, &cut),
                          .counts = lower_descriptor(w, d->counts),
                          .runs = lower_descriptor(w, d->runs)};
    cuda_launch_entry e = {.kernel = CUDA_k_attention_f16_any, /* until the cache is known */
                           .many = CUDA_k_attention_f16_any,
                           .grid = CUDA_GRID_SPLIT_Y,
                           .rows = ROWS_ALL,
                           .width = cut.groups,
                           .prompt_queries = prompt_queries(w, t),
                           .prompt_tile = cuda_prompt_tile_queries(t->key_dim, t->value_dim),
                           .shared_bytes = cut.shared_bytes,
                           .patch = CUDA_PATCH_KV,
                           .layer = o->layer};
    return LOWER_EMIT(w, &e, &a, err);
}

/* --- element by element -------------------- */

/* One element per thread. */
static cuda_launch_entry elements(const lowering *w, const op *o, cuda_kernel_id kernel) {
    return (cuda_launch_entry){.kernel = kernel,
                               .many = kernel,
                               .grid = CUDA_GRID_ROWS_Y,
                               .rows = lower_rows(w, o),
                               .width = lower_blocks(w->p->values[o->out].cols, COLS_PER_BLOCK)};
}

status lower_act(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const lower_result to = lower_result_of(w, o->out);
    k_act_args a = {.x = lower_value(w, o->in[0]),
                    .out = to.floats,
                    .codes = to.codes,
                    .sums = to.sums,
                    .count = lower_count(w, lower_rows(w, o)),
                    .cols = w->p->values[o->out].cols,
                    .kind = o->act.kind,
                    .a = o->act.a,
                    .b = o->act.b};
    cuda_launch_entry e = elements(w, o, CUDA_k_act);
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_act_mul(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const lower_result to = lower_result_of(w, o->out);
    k_act_mul_args a = {.gate = lower_value(w, o->in[0]),
                        .up = lower_value(w, o->in[1]),
                        .out = to.floats,
                        .codes = to.codes,
                        .sums = to.sums,
                        .count = lower_count(w, lower_rows(w, o)),
                        .cols = w->p->values[o->out].cols,
                        .kind = o->act.kind,
                        .a = o->act.a,
                        .b = o->act.b};
    cuda_launch_entry e = elements(w, o, CUDA_k_act_mul);
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_binary(lowering *w, uint32_t op_idx, error *err) {
    static const ck_binary kinds[OP_KIND_COUNT] = {[OP_ADD] = CK_ADD,
                                                   [OP_MUL] = CK_MUL,
                                                   [OP_ADD_ROW] = CK_ADD_ROW,
                                                   [OP_MUL_ROW] = CK_MUL_ROW,
                                                   [OP_MUL_COL] = CK_MUL_COL};
    const op *o = &w->p->ops[op_idx];
    uint32_t cols = w->p->values[o->out].cols;
    k_binary_args a = {.x = lower_value(w, o->in[0]),
                       .y = o->row != NULL ? lower_floats(w, o->row, cols)
                                           : lower_value(w, o->in[1]),
                       .out = lower_value(w, o->out),
                       .count = lower_count(w, lower_rows(w, o)),
                       .cols = cols,
                       .kind = kinds[o->kind]};
    cuda_launch_entry e = elements(w, o, CUDA_k_binary);
    return LOWER_EMIT(w, &e, &a, err);
}

/* --- products head by head, experts -------------------- */

status lower_heads_matmul(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const op_heads_matmul *h = &o->heads;
    k_heads_matmul_args a = {.w = lower_matrix(w, op_idx),
                             .x = lower_value(w, o->in[0]),
                             .out = lower_value(w, o->out),
                             .count = lower_count(w, lower_rows(w, o)),
                             .heads = h->heads,
                             .in_dim = h->in_dim,
                             .tail_dim = h->tail_dim,
                             .w_rows = h->w_rows,
                             .row0 = h->row0,
                             .row_stride = h->row_stride,
                             .out_dim = h->out_dim,
                             .transposed = h->transposed};
    cuda_launch_entry e = {.kernel = CUDA_k_heads_matmul,
                           .many = CUDA_k_heads_matmul,
                           .grid = CUDA_GRID_ROWS_Y,
                           .rows = lower_rows(w, o),
                           .width = h->heads};
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_route(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const op_route *t = &o->route;
    k_route_args a = {.logits = lower_value(w, o->in[0]),
                      .out = lower_value(w, o->out),
                      .bias = lower_floats(w, t->bias, t->experts),
                      .count = lower_count(w, lower_rows(w, o)),
                      .experts = t->experts,
                      .used = t->used,
                      .kind = t->kind,
                      .normalize = t->normalize,
                      .groups = t->groups,
                      .groups_used = t->groups_used,
                      .scale = t->scale};
    cuda_launch_entry e = {.kernel = CUDA_k_route, .many = CUDA_k_route, .rows = lower_rows(w, o)};
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_experts_sum(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    k_experts_sum_args a = {.x = lower_value(w, o->in[0]),
                            .routed = lower_value(w, o->in[1]),
                            .out = lower_value(w, o->out),
                            .count = lower_count(w, lower_rows(w, o)),
                            .used = o->experts.used,
                            .cols = w->p->values[o->out].cols};
    cuda_launch_entry e = elements(w, o, CUDA_k_experts_sum);
    return LOWER_EMIT(w, &e, &a, err);
}

/* --- layers with states -------------------- */

/* Args begin with the ck_state, whose memory the batch brings. */
_Static_assert(offsetof(k_conv_args, state) == 0 && offsetof(k_scan_args, state) == 0 &&
                   offsetof(k_shift_args, state) == 0 && offsetof(k_wkv_args, state) == 0,
               "patch");

static ck_state state_of(const lowering *w, const op *o) {
    return (ck_state){.runs = lower_descriptor(w, w->l->desc.runs),
                      .stride = w->p->state_floats,
                      .offset = o->state.offset};
}

static cuda_launch_entry columns(const lowering *w, const op *o, cuda_kernel_id kernel) {
    return (cuda_launch_entry){.kernel = kernel,
                               .many = kernel,
                               .grid = CUDA_GRID_RUNS_Y,
                               .width =
                                   lower_blocks(w->p->values[o->out].cols, STATE_COLS_PER_BLOCK),
                               .patch = CUDA_PATCH_STATE};
}

status lower_conv(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    uint32_t cols = w->p->values[o->out].cols;
    k_conv_args a = {.state = state_of(w, o),
                     .x = lower_value(w, o->in[0]),
                     .w = lower_floats(w, o->state.w, (uint64_t)cols * o->state.width),
                     .bias = lower_floats(w, o->state.bias, cols),
                     .out = lower_value(w, o->out),
                     .count = lower_count_runs(w),
                     .cols = cols,
                     .width = o->state.width};
    cuda_launch_entry e = columns(w, o, CUDA_k_conv);
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_scan(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    uint32_t cols = w->p->values[o->out].cols;
    k_scan_args a = {.state = state_of(w, o),
                     .x = lower_value(w, o->in[0]),
                     .dt = lower_value(w, o->in[1]),
                     .b = lower_value(w, o->in[2]),
                     .c = lower_value(w, o->in[3]),
                     .a = lower_floats(w, o->state.w, (uint64_t)cols * o->state.width),
                     .d = lower_floats(w, o->state.bias, cols),
                     .out = lower_value(w, o->out),
                     .count = lower_count_runs(w),
                     .cols = cols,
                     .states = o->state.width};
    cuda_launch_entry e = columns(w, o, CUDA_k_scan);
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_shift(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    k_shift_args a = {.state = state_of(w, o),
                      .x = lower_value(w, o->in[0]),
                      .out = lower_value(w, o->out),
                      .count = lower_count_runs(w),
                      .cols = w->p->values[o->out].cols};
    cuda_launch_entry e = columns(w, o, CUDA_k_shift);
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_wkv(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    uint32_t cols = w->p->values[o->out].cols;
    k_wkv_args a = {.state = state_of(w, o),
                    .r = lower_value(w, o->in[0]),
                    .k = lower_value(w, o->in[1]),
                    .v = lower_value(w, o->in[2]),
                    .decay = lower_value(w, o->in[3]),
                    .first = lower_floats(w, o->state.w, cols),
                    .out = lower_value(w, o->out),
                    .count = lower_count_runs(w),
                    .heads = cols / o->state.width,
                    .dim = o->state.width};
    cuda_launch_entry e = {.kernel = CUDA_k_wkv,
                           .many = CUDA_k_wkv,
                           .grid = CUDA_GRID_RUNS_Y,
                           .width = cols / o->state.width,
                           .patch = CUDA_PATCH_STATE};
    return LOWER_EMIT(w, &e, &a, err);
}
