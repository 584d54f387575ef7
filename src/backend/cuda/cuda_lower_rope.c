/* cuda_lower_rope.c - heads get their positions, and keys and values their places in the cache.
 *
 * A layer turns the heads of q, then those of k, and writes k and v: one launch where nobody sees
 * that q is turned later than its op says, and that the turned k is nowhere but in the cache.  The
 * norm of k may stand between the two turns. */
#include "backend/cuda/cuda_lower.h"

enum { PAIRS_PER_BLOCK = 64 };
static const uint32_t NO_OP = 0; /* no op comes before the embedding */

status lower_rope_table(lowering *w, const cuda_rope *rope, error *err) {
    k_rope_table_args a = {.pos = lower_descriptor(w, w->l->desc.pos),
                           .freqs =
                               lower_constant(w, rope->freqs, rope->pairs * sizeof *rope->freqs),
                           .table = w->bases.workspace + rope->at,
                           .count = lower_count(w, ROWS_ALL),
                           .pairs = rope->pairs,
                           .magnitude = rope->magnitude};
    cuda_launch_entry e = {.kernel = CUDA_k_rope_table,
                           .many = CUDA_k_rope_table,
                           .grid = CUDA_GRID_ROWS_Y,
                           .rows = ROWS_ALL,
                           .width = lower_blocks(rope->pairs, PAIRS_PER_BLOCK)};
    return LOWER_EMIT(w, &e, &a, err);
}

/* --- what is fused -------------------- */

/* The KV_WRITE behind this turn of k, if it alone reads that, and the cache has heads like these:
 * the attention behind it says so. */
static const op *write_of(const lowering *w, uint32_t op_idx) {
    const program *p = w->p;
    const op *rope = &p->ops[op_idx], *write = lower_only_reader(w, op_idx, OP_KV_WRITE);
    if (write == NULL || write->in[0] != rope->out || write->in[1] == rope->out) return NULL;
    if (op_idx + 2 >= p->ops_count) return NULL;
    const op *next = &p->ops[op_idx + 2];
    const op_attention *attn = &next->attn;
    const bool fits = next->kind == OP_ATTENTION && next->layer == write->layer &&
                      attn->kv_heads == rope->rope.heads && attn->key_dim == rope->rope.head_dim &&
                      p->values[write->in[1]].cols == attn->kv_heads * attn->value_dim;
    return fits ? write : NULL;
}

static bool same_turn(const op_rope *a, const op_rope *b) {
    return a->head_dim == b->head_dim && a->first == b->first && a->dims == b->dims &&
           a->pairs == b->pairs && a->freqs == b->freqs && a->magnitude == b->magnitude;
}

/* May the turn of q at op_idx wait for that of k at k_idx?  What lies between must neither read the
 * turned q nor write over the other one, and the blocks of the launch must not meet. */
static bool may_wait(const lowering *w, uint32_t op_idx, uint32_t k_idx) {
    const program *p = w->p;
    const op *q = &p->ops[op_idx], *k = &p->ops[k_idx], *write = &p->ops[k_idx + 1];
    for (uint32_t i = op_idx + 1; i <= k_idx + 1; i++)
        for (uint32_t n = 0; n < OP_INPUTS_MAX; n++)
            if (p->ops[i].in[n] == q->out) return false;
    for (uint32_t i = op_idx + 1; i < k_idx; i++)
        if (lower_overlap(w, p->ops[i].out, q->in[0])) return false;
    return lower_apart_or_same(w, q->out, q->in[0]) && !lower_overlap(w, q->out, k->in[0]) &&
           !lower_overlap(w, q->out, write->in[1]);
}

/* The turn of k that takes this turn of q along; NO_OP. */
static uint32_t taken_along_by(const lowering *w, uint32_t op_idx) {
    const program *p = w->p;
    uint32_t k = op_idx + 1;
    if (k < p->ops_count && p->ops[k].kind == OP_NORM) k++;
    if (k >= p->ops_count || p->ops[k].kind != OP_ROPE || write_of(w, k) == NULL) return NO_OP;
    if (!same_turn(&p->ops[op_idx].rope, &p->ops[k].rope)) return NO_OP;
    return may_wait(w, op_idx, k) ? k : NO_OP;
}

/* The turn of q that waits for this turn of k, or NULL. */
static const op *waiting_for(const lowering *w, uint32_t op_idx) {
    for (uint32_t back = 1; back <= 2 && back <= op_idx; back++) {
        const op *o = &w->p->ops[op_idx - back];
        if (o->kind == OP_ROPE) return taken_along_by(w, op_idx - back) == op_idx ? o : NULL;
    }
    return NULL;
}

/* --- launches -------------------- */

static ck_rope turn_of(const lowering *w, const op_rope *r) {
    return (ck_rope){.table = r->dims > 0 ? w->bases.workspace + cuda_rope_of(w->l, r)->at : 0,
                     .head_dim = r->head_dim,
                     .first = r->first,
                     .dims = r->dims,
                     .halves = r->pairs == ROPE_HALVES};
}

/* What the batch says of the cache is patched in by the step: args begin with the ck_kv. */
_Static_assert(offsetof(k_kv_write_args, kv) == 0 && offsetof(k_rope_write_args, kv) == 0, "patch");

static ck_kv kv_of(const lowering *w) {
    const cuda_descriptor *d = &w->l->desc;
    return (ck_kv){.tables = lower_descriptor(w, d->tables), .table_stride = d->table_stride};
}

static status emit_rope(lowering *w, const op *o, error *err) {
    k_rope_args a = {.rope = turn_of(w, &o->rope),
                     .x = lower_value(w, o->in[0]),
                     .out = lower_value(w, o->out),
                     .count = lower_count(w, ROWS_ALL),
                     .heads = o->rope.heads};
    cuda_launch_entry e = {.kernel = CUDA_k_rope,
                           .many = CUDA_k_rope,
                           .grid = CUDA_GRID_ROWS_Y,
                           .rows = ROWS_ALL,
                           .width = o->rope.heads};
    return LOWER_EMIT(w, &e, &a, err);
}

static status emit_rope_write(lowering *w, const op *q, const op *k, const op *write, error *err) {
    const cuda_descriptor *d = &w->l->desc;
    k_rope_write_args a = {.kv = kv_of(w),
                           .rope = turn_of(w, &k->rope),
                           .k = lower_value(w, k->in[0]),
                           .v = lower_value(w, write->in[1]),
                           .pos = lower_descriptor(w, d->pos),
                           .seats = lower_descriptor(w, d->tables_of),
                           .count = lower_count(w, ROWS_ALL)};
    if (q != NULL) {
        a.q = lower_value(w, q->in[0]);
        a.q_out = lower_value(w, q->out);
        a.q_heads = q->rope.heads;
    }
    cuda_launch_entry e = {.kernel = CUDA_k_rope_write,
                           .many = CUDA_k_rope_write,
                           .grid = CUDA_GRID_ROWS_Y,
                           .rows = ROWS_ALL,
                           .width = a.q_heads + k->rope.heads,
                           .patch = CUDA_PATCH_KV,
                           .layer = write->layer};
    return LOWER_EMIT(w, &e, &a, err);
}

uint32_t lower_turn_of_k(const lowering *w, uint32_t op_idx) { return taken_along_by(w, op_idx); }

status lower_rope(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    if (taken_along_by(w, op_idx) != NO_OP) {
        w->out->ops_fused += !w->adapters; /* counted in the first list */
        return OK;
    }
    const op *write = write_of(w, op_idx);
    if (write == NULL) return emit_rope(w, o, err);
    const op *q = waiting_for(w, op_idx);
    w->done[op_idx + 1] = LOWER_FUSED;
    TRY(emit_rope_write(w, q, o, write, err));
    if (q != NULL) lower_covers(w, (uint32_t)(q - w->p->ops));
    return OK;
}

status lower_kv_write(lowering *w, uint32_t op_idx, error *err) {
    const op *o = &w->p->ops[op_idx];
    const cuda_descriptor *d = &w->l->desc;
    k_kv_write_args a = {.kv = kv_of(w),
                         .k = lower_value(w, o->in[0]),
                         .v = lower_value(w, o->in[1]),
                         .pos = lower_descriptor(w, d->pos),
                         .seats = lower_descriptor(w, d->tables_of),
                         .count = lower_count(w, ROWS_ALL),
                         .k_cols = w->p->values[o->in[0]].cols,
                         .v_cols = w->p->values[o->in[1]].cols};
    cuda_launch_entry e = {.kernel = CUDA_k_kv_write,
                           .many = CUDA_k_kv_write,
                           .grid = CUDA_GRID_ROWS_Y,
                           .rows = ROWS_ALL,
                           .patch = CUDA_PATCH_KV,
                           .layer = o->layer};
    return LOWER_EMIT(w, &e, &a, err); /* as wide as the cache has heads */
}
