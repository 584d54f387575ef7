/* cuda_plan.c - where everything of a program lies on the device.  See cuda_internal.h.
 *
 * The same layout is what is planned, what is allocated and what launches get their addresses from:
 * nothing is measured twice. */
#include <inttypes.h>

#include "backend/cuda/cuda_experts.h"
#include "backend/cuda/cuda_internal.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

enum { GRID_Y_MAX = 65535, CODES_PER_SUMS = 32 };

/* --- lists that grow -------------------- */

/* Items with room for one more behind `count`; NULL, and all as it was, without memory. */
static void *with_room(void *items, uint32_t count, uint32_t *cap, size_t item_bytes) {
    if (count < *cap) return items;
    uint32_t more = *cap == 0 ? 64 : *cap * 2;
    void *grown = mem_try_realloc(items, more * item_bytes);
    if (grown != NULL) *cap = more;
    return grown;
}

static status no_memory(const program *p, error *err) {
    return error_set(err, ERR_NOMEM, "cuda: no memory for the layout of %" PRIu32 " ops",
                     p->ops_count);
}

/* The place of `bytes` behind what *end covers already. */
static uint64_t place(uint64_t *end, uint64_t bytes) {
    uint64_t at = *end;
    *end = at + cuda_arena_cost(bytes);
    return at;
}

/* --- weights -------------------- */

static bool same_weight(const weight *a, const weight *b) {
    return a->data == b->data && a->packed == b->packed && a->row0 == b->row0 &&
           a->rows == b->rows && a->cols == b->cols && a->type == b->type;
}

/* Embeddings that are the output as well, matrices with the keys and the values of all heads. */
static bool find_weight(const cuda_layout *l, const weight *w, uint32_t *idx) {
    for (*idx = 0; *idx < l->weights_count; (*idx)++)
        if (same_weight(l->weights[*idx].w, w)) return true;
    return false;
}

static status place_weight(cuda_layout *l, const op *o, const weight *w, ck_form form,
                           cuda_conversion how, error *err) {
    cuda_weight placed = {.w = w, .form = form, .how = how};
    uint64_t bytes = 0;
    if (!cuda_planar_sizes(form, w->rows, w->cols, placed.planes, &bytes))
        return error_set(err, ERR_UNSUPPORTED,
                         "cuda: %s with '%.*s': rows of %u elements are no whole number of %s "
                         "blocks",
                         op_kind_name(o->kind), STR(w->name), w->cols, cuda_form_name(form));
    for (uint32_t i = 0; i < CK_PLANES_MAX; i++) placed.planes[i] += l->weights_bytes;
    if (!num_add_u64(&l->weights_bytes, l->weights_bytes, bytes))
        return error_set(err, ERR_LIMIT, "cuda: the weights have more than 2^64 bytes");
    cuda_weight *list = with_room(l->weights, l->weights_count, &l->weights_cap, sizeof *list);
    if (list == NULL) return no_memory(l->p, err);
    l->weights = list;
    l->weights[l->weights_count++] = placed;
    return OK;
}

/* The form that all experts of an op can have: that of the first, or one with more range. */
static ck_form form_of_experts(const op_experts *a, cuda_conversion *how) {
    ck_form form = cuda_planar_choose(&a->w[0], how);
    for (uint32_t i = 1; i < a->experts; i++) {
        cuda_conversion other_how = CUDA_AS_STORED;
        ck_form other = cuda_planar_choose(&a->w[i], &other_how);
        if (other_how > *how) *how = other_how;
        if (other == form) continue;
        form = form == CK_FORM_F32 || other == CK_FORM_F32 ? CK_FORM_F32 : CK_FORM_F16;
    }
    return form;
}

static status place_experts(cuda_layout *l, uint32_t op_idx, error *err) {
    const op *o = &l->p->ops[op_idx];
    cuda_conversion how = CUDA_AS_STORED;
    ck_form form = form_of_experts(&o->experts, &how);
    l->op_weights[op_idx] = l->weights_count;
    for (uint32_t i = 0; i < o->experts.experts; i++)
        TRY(place_weight(l, o, &o->experts.w[i], form, how, err));
    cuda_matrices *list = with_room(l->matrices, l->matrices_count, &l->matrices_cap, sizeof *list);
    if (list == NULL) return no_memory(l->p, err);
    l->matrices = list;
    l->matrices[l->matrices_count++] = (cuda_matrices){.op_idx = op_idx};
    return OK;
}

static status place_weights(cuda_layout *l, uint32_t op_idx, error *err) {
    const op *o = &l->p->ops[op_idx];
    if (o->kind == OP_EXPERTS) return place_experts(l, op_idx, err);
    if (o->w.data == NULL && o->w.packed == NULL) return OK;
    if (find_weight(l, &o->w, &l->op_weights[op_idx])) return OK;
    cuda_conversion how = CUDA_AS_STORED;
    ck_form form = cuda_planar_choose(&o->w, &how);
    return place_weight(l, o, &o->w, form, how, err);
}

ck_matrix cuda_matrix(const cuda_weight *placed, cu_ptr base) {
    ck_matrix m = {
        .rows = placed->w->rows, .cols = placed->w->cols, .form = (uint32_t)placed->form};
    for (uint32_t i = 0; i < CK_PLANES_MAX; i++) m.plane[i] = base + placed->planes[i];
    return m;
}

/* --- constants -------------------- */

static uint32_t find_constant(const cuda_layout *l, const void *data, uint64_t bytes) {
    uint32_t i = 0;
    while (i < l->constants_count &&
           (l->constants[i].data != data || l->constants[i].bytes != bytes))
        i++;
    return i;
}

static status add_constant(cuda_layout *l, const void *data, uint64_t bytes, error *err) {
    if (data == NULL || bytes == 0 || find_constant(l, data, bytes) < l->constants_count) return OK;
    cuda_constant *list =
        with_room(l->constants, l->constants_count, &l->constants_cap, sizeof *list);
    if (list == NULL) return no_memory(l->p, err);
    l->constants = list;
    l->constants[l->constants_count++] = (cuda_constant){.data = data, .bytes = bytes};
    return OK;
}

static status add_floats(cuda_layout *l, const float *data, uint64_t count, error *err) {
    return add_constant(l, data, count * sizeof *data, err);
}

static uint32_t find_rope(const cuda_layout *l, const op_rope *rope) {
    uint32_t i = 0;
    while (i < l->ropes_count &&
           (l->ropes[i].freqs != rope->freqs || l->ropes[i].pairs != rope->dims / 2 ||
            l->ropes[i].magnitude != rope->magnitude))
        i++;
    return i;
}

static status add_rope(cuda_layout *l, const op_rope *rope, error *err) {
    if (rope->dims == 0 || find_rope(l, rope) < l->ropes_count) return OK;
    TRY(add_constant(l, rope->freqs, rope->dims / 2 * sizeof *rope->freqs, err));
    cuda_rope *list = with_room(l->ropes, l->ropes_count, &l->ropes_cap, sizeof *list);
    if (list == NULL) return no_memory(l->p, err);
    l->ropes = list;
    l->ropes[l->ropes_count++] =
        (cuda_rope){.freqs = rope->freqs, .pairs = rope->dims / 2, .magnitude = rope->magnitude};
    return OK;
}

/* What the op reads besides values and weights. */
static status add_constants(cuda_layout *l, const op *o, error *err) {
    const uint64_t cols = o->out != VALUE_NONE ? l->p->values[o->out].cols : 0;
    TRY(add_floats(l, o->row, cols, err));
    switch (o->kind) {
    case OP_NORM:
        TRY(add_floats(l, o->norm.gain, o->norm.gain_len, err));
        return add_floats(l, o->norm.bias, o->norm.gain_len, err);
    case OP_ROPE:
        return add_rope(l, &o->rope, err);
    case OP_ATTENTION:
        TRY(add_floats(l, o->attn.sinks, o->attn.heads, err));
        return add_floats(l, o->attn.slopes, o->attn.heads, err);
    case OP_ROUTE:
        return add_floats(l, o->route.bias, o->route.experts, err);
    case OP_EXPERTS:
        return add_floats(l, o->experts.bias, (uint64_t)o->experts.experts * o->experts.w[0].rows,
                          err);
    case OP_CONV:
    case OP_SCAN:
        TRY(add_floats(l, o->state.w, cols * o->state.width, err));
        return add_floats(l, o->state.bias, cols, err);
    case OP_WKV:
        return add_floats(l, o->state.w, cols, err);
    default:
        return OK;
    }
}

uint64_t cuda_constant_at(const cuda_layout *l, const void *data, uint64_t bytes) {
    uint32_t i = find_constant(l, data, bytes);
    ASSERT(i < l->constants_count);
    return l->constants[i].at;
}

const cuda_rope *cuda_rope_of(const cuda_layout *l, const op_rope *rope) {
    uint32_t i = find_rope(l, rope);
    ASSERT(i < l->ropes_count);
    return &l->ropes[i];
}

uint64_t cuda_matrices_at(const cuda_layout *l, uint32_t op_idx) {
    uint32_t i = 0;
    while (i < l->matrices_count && l->matrices[i].op_idx != op_idx) i++;
    ASSERT(i < l->matrices_count);
    return l->matrices[i].at;
}

/* --- what cannot be computed -------------------- */

static status check_rows(uint64_t rows, const char *what, error *err) {
    if (rows <= GRID_Y_MAX) return OK;
    return error_set(err, ERR_LIMIT,
                     "cuda: steps of %" PRIu64 " %s, at most %d: lower --step-tokens-max", rows,
                     what, GRID_Y_MAX);
}

/* Every kind of op has a kernel; what may not fit are shapes. */
static status check_most(const op *o, const char *what, uint64_t have, uint64_t most, str name,
                         error *err) {
    if (have <= most) return OK;
    if (name.n == 0) name = S("");
    return error_set(
        err, ERR_UNSUPPORTED,
        "cuda: %s of layer %u%s%.*s: %" PRIu64 " %s, at most %" PRIu64 ": start with --gpu off",
        op_kind_name(o->kind), o->layer, name.n > 0 ? " with " : "", STR(name), have, what, most);
}

static status check_op(const program *p, const op *o, error *err) {
    switch (o->kind) {
    case OP_ATTENTION:
        TRY(check_most(o, "elements of a key", o->attn.key_dim, CK_ATTENTION_DIM_MAX, (str){0},
                       err));
        return check_most(o, "elements of a value", o->attn.value_dim, CK_ATTENTION_DIM_MAX,
                          (str){0}, err);
    case OP_ROUTE:
        return check_most(o, "experts", o->route.experts, CK_EXPERTS_MAX, (str){0}, err);
    case OP_EXPERTS:
        TRY(check_most(o, "experts", o->experts.experts, CK_EXPERTS_MAX, (str){0}, err));
        return check_rows((uint64_t)p->max.rows * o->experts.used, "rows of used experts", err);
    default:
        return OK;
    }
}

/* --- the workspace -------------------- */

/* Blocks along the heads of an attention, at most. */
static uint32_t most_groups(const program *p) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].kind == OP_ATTENTION)
            most = num_max_u32(most, cuda_attention_cut_of_op(&p->ops[i]).groups);
    return most;
}

static void lay_out_descriptor(cuda_descriptor *d, const program *p) {
    const uint64_t rows_bytes = (uint64_t)p->max.rows * sizeof(uint32_t);
    uint32_t seats = p->max.seats != 0 ? p->max.seats : p->max.rows;
    uint64_t end = 0;
    d->sequences = num_min_u32(seats, p->max.rows);
    d->table_stride = num_max_u32(num_div_up_u32(p->max.ctx, KV_BLOCK_TOKENS), 1);
    d->counts = place(&end, sizeof(ck_counts));
    d->tickets = place(&end, (uint64_t)p->max.head * sizeof(uint32_t));
    d->split_rows = num_min_u32(p->max.rows, CK_SPLIT_ROWS_MAX);
    d->splits = place(&end, sizeof(ck_splits));
    d->split_tickets = place(&end, (uint64_t)d->split_rows * most_groups(p) * sizeof(uint32_t));
    d->slots = place(&end, rows_bytes);
    d->ids = place(&end, rows_bytes);
    d->pos = place(&end, rows_bytes);
    d->tables_of = place(&end, rows_bytes);
    d->seen = place(&end, rows_bytes);
    d->whole = place(&end, rows_bytes);
    d->taken = place(&end, (uint64_t)p->max.taken * sizeof(uint32_t));
    d->head = place(&end, (uint64_t)p->max.head * sizeof(uint32_t));
    d->runs = place(&end, d->sequences * sizeof(ck_run));
    d->tables = place(&end, (uint64_t)d->sequences * d->table_stride * sizeof(uint32_t));
    d->bytes = end;
}

/* Rows of a step may have the most changes, as many of them as there is room for in all; and each
 * a mask. */
static void lay_out_sample(cuda_sample *s, const program *p) {
    if (p->logits == VALUE_NONE) return;
    const uint64_t most = (uint64_t)p->max.head * SAMPLE_CHANGES_MAX;
    uint64_t end = 0;
    s->changes_max = (uint32_t)num_min_u64(most, SAMPLE_STEP_CHANGES_MAX);
    s->rules = place(&end, (uint64_t)p->max.head * sizeof(sample_rule));
    s->changes = place(&end, (uint64_t)s->changes_max * sizeof(sample_change));
    s->mask_words = sample_mask_words(p->values[p->logits].cols);
    s->masks = place(&end, (uint64_t)p->max.head * s->mask_words * sizeof(uint32_t));
    s->bytes = end;
}

/* Each row may be a segment of its own, with a mix of its own. */
static void lay_out_lora(cuda_lora *s, const program *p) {
    if (p->lora_slots == 0) return;
    const uint64_t rows = p->max.rows;
    uint64_t end = 0;
    s->counts = place(&end, sizeof(uint32_t) * 3);
    for (row_set set = ROWS_ALL; set <= ROWS_HEAD; set++)
        s->segments[set] = place(&end, program_rows_max(p, set) * sizeof(ck_lora_segment));
    s->mixes = place(&end, rows * sizeof(ck_lora_mix));
    s->bytes = end;
}

/* 8-bit elements of the largest value that a product reads in this form. */
static uint64_t codes_bytes(const cuda_layout *l) {
    const program *p = l->p;
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_MATMUL && o->kind != OP_EXPERTS) continue;
        if (!cuda_form_is_quantized(cuda_weight_of(l, i)->form)) continue;
        const value *x = &p->values[o->in[0]];
        const uint64_t rows = (uint64_t)program_rows_max(p, x->rows) << cuda_in_pairs(l, i);
        most = num_max_u64(most, rows * x->cols);
    }
    return most;
}

/* Elements of the largest row of gates, and groups of results that a launch may go on with. */
static void measure_tails(cuda_layout *l, uint64_t *gated_cols) {
    const program *p = l->p;
    *gated_cols = 0;
    l->tickets = 1;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind == OP_ATTENTION)
            l->tickets = num_max_u32(l->tickets, o->attn.heads + 2 * o->attn.kv_heads);
        if (o->kind != OP_ACT_MUL) continue;
        const uint32_t cols = p->values[o->out].cols;
        *gated_cols = num_max_u64(*gated_cols, cols);
        l->tickets = num_max_u32(l->tickets, num_div_up_u32(cols, CODES_PER_SUMS));
    }
}

/* Parts of the attention that needs most room for them. */
static uint64_t split_bytes(const cuda_layout *l) {
    const program *p = l->p;
    uint64_t most = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_ATTENTION) continue;
        const cuda_attention_cut cut = cuda_attention_cut_of_op(o);
        const uint32_t splits = cuda_attention_splits_room(p, &cut);
        if (splits < 2) continue; /* no row is shared then */
        most = num_max_u64(
            most, cuda_attention_parts_bytes(&cut, o->attn.value_dim, l->desc.split_rows, splits));
    }
    return most;
}

static cuda_groups place_groups(uint64_t *end, uint32_t pairs, uint32_t tiles) {
    cuda_groups g;
    g.pairs_at = place(end, (uint64_t)pairs * sizeof(uint32_t));
    g.tiles_at = place(end, (uint64_t)tiles * sizeof(ck_tile));
    g.tiles_count_at = place(end, pairs > 0 ? sizeof(uint32_t) : 0);
    return g;
}

/* Pairs and tiles of the experts that make the most of them. */
static void lay_out_groups(cuda_layout *l, uint64_t *end) {
    const program *p = l->p;
    uint32_t pairs = 0, tiles = 0, few_pairs = 0, few_tiles = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_EXPERTS) continue;
        const uint32_t most = p->max.rows * o->experts.used; /* check_op() has seen it */
        pairs = num_max_u32(pairs, most);
        tiles = num_max_u32(tiles, cuda_tiles_max(most, o->experts.experts, CK_GEMM_TILE));
        const uint32_t few = cuda_few_tile(cuda_weight_of(l, i)->form);
        if (few == 0) continue;
        few_pairs = num_max_u32(few_pairs, most);
        few_tiles = num_max_u32(few_tiles, cuda_tiles_max(most, o->experts.experts, few));
    }
    l->groups = place_groups(end, pairs, tiles);
    l->few_groups = place_groups(end, few_pairs, few_tiles);
}

static uint64_t result_bytes(const program *p, value_id v) {
    if (v == VALUE_NONE) return 0;
    const value *d = &p->values[v];
    return (uint64_t)program_rows_max(p, d->rows) * d->cols * sizeof(float);
}

static void lay_out_workspace(cuda_layout *l) {
    const program *p = l->p;
    uint64_t end = 0, codes = codes_bytes(l);
    (void)place(&end, p->workspace_floats * sizeof(float));
    l->codes_at = place(&end, codes);
    l->sums_at = place(&end, codes / CODES_PER_SUMS * sizeof(ck_sums));
    uint64_t gated_cols = 0;
    measure_tails(l, &gated_cols);
    l->gated_codes_at = place(&end, gated_cols);
    l->gated_sums_at = place(&end, gated_cols / CODES_PER_SUMS * sizeof(ck_sums));
    l->tickets_at = place(&end, (uint64_t)l->tickets * sizeof(uint32_t));
    for (uint32_t i = 0; i < l->ropes_count; i++)
        l->ropes[i].at = place(&end, (uint64_t)p->max.rows * l->ropes[i].pairs * 2 * sizeof(float));
    lay_out_descriptor(&l->desc, p);
    l->desc_at = place(&end, l->desc.bytes);
    l->answer_logprobs = (1 + (uint64_t)p->max.head) * sizeof(uint32_t);
    l->answer_at = place(&end, l->answer_logprobs);
    lay_out_sample(&l->sample, p);
    l->sample_at = place(&end, l->sample.bytes);
    if (p->logits != VALUE_NONE)
        l->logprobs_at = place(&end, (uint64_t)p->max.head * sizeof(sample_logprobs));
    lay_out_lora(&l->lora, p);
    l->lora_at = place(&end, l->lora.bytes);
    if (l->lora.bytes > 0)
        l->lora_mid_stride = (uint64_t)p->max.rows * CK_LORA_USES_MAX * p->max.lora_rank;
    l->parts_at = place(&end, (uint64_t)p->max.head * cuda_argmax_blocks(p) * sizeof(uint64_t));
    /* Parts of attention live as long as its launch, x . A^T as long as a product: never both. */
    l->splits_at = l->lora_mid_at =
        place(&end, num_max_u64(split_bytes(l), l->lora_mid_stride * CK_GEMVS_MAX * sizeof(float)));
    lay_out_groups(l, &end);
    l->given_at = place(&end, p->goes_on ? result_bytes(p, p->hidden) : 0);
    for (uint32_t i = 0; i < l->constants_count; i++)
        l->constants[i].at = place(&end, l->constants[i].bytes);
    for (uint32_t i = 0; i < l->matrices_count; i++) {
        const op *o = &p->ops[l->matrices[i].op_idx];
        l->matrices[i].at = place(&end, o->experts.experts * sizeof(ck_matrix));
    }
    l->workspace_bytes = end;
}

/* --- the whole -------------------- */

static status lay_out(cuda_layout *l, error *err) {
    const program *p = l->p;
    TRY(check_rows((uint64_t)p->max.rows + CUDA_ATTENTION_FURTHER_MAX, "blocks of rows", err));
    l->op_weights = mem_try_calloc(p->ops_count, sizeof *l->op_weights);
    if (l->op_weights == NULL)
        return error_set(err, ERR_NOMEM, "cuda: no memory for %u ops", p->ops_count);
    for (uint32_t i = 0; i < p->ops_count; i++) {
        TRY(check_op(p, &p->ops[i], err));
        TRY(place_weights(l, i, err));
        TRY(add_constants(l, &p->ops[i], err));
    }
    lay_out_workspace(l);
    if (p->ops[0].kind == OP_INPUT) l->input_bytes = result_bytes(p, p->ops[0].out);
    l->hidden_bytes = result_bytes(p, p->hidden);
    l->logits_bytes = result_bytes(p, p->logits);
    l->answer_bytes = l->answer_logprobs;
    if (p->logits != VALUE_NONE) l->answer_bytes += (uint64_t)p->max.head * sizeof(sample_logprobs);
    return OK;
}

status cuda_layout_init(cuda_layout *l, const program *p, error *err) {
    *l = (cuda_layout){.p = p};
    status st = lay_out(l, err);
    if (st != OK) cuda_layout_deinit(l);
    return st;
}

void cuda_layout_deinit(cuda_layout *l) {
    mem_free(l->weights);
    mem_free(l->op_weights);
    mem_free(l->constants);
    mem_free(l->matrices);
    mem_free(l->ropes);
    *l = (cuda_layout){0};
}
