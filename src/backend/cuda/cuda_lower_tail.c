/* cuda_lower_tail.c - what products of one row go on with, in the same launch.
 *
 * Of one row there is so little to do behind a product that a launch of its own costs more than the
 * work.  So the last blocks to finish do it (cuda/gemv_tail.h), with the arguments of that launch,
 * which there is for many rows:
 *   a product, or its sum with another value, then NORM    once all results are there
 *   two products, then ACT_MUL of them                     for each 32 results
 *   q, k and v, then their turns and KV_WRITE              for each head; v may have weights of
 *                                                          another form: then it comes first
 *
 * While the gates of some results are made, other blocks still read what the products read, and
 * write their own results.  So codes of gates have a place apart, and memory must not be shared. */
#include <string.h>

#include "backend/cuda/cuda_lower.h"
#include "base/assert.h"

static const op *op_at(const lowering *w, uint32_t idx, op_kind kind) {
    const program *p = w->p;
    return idx < p->ops_count && p->ops[idx].kind == kind ? &p->ops[idx] : NULL;
}

/* May blocks write this value while others still read what the products read? */
static bool may_write_early(const lowering *w, uint32_t op_idx, value_id v) {
    return lower_reads_codes(w, op_idx) || !lower_overlap(w, v, w->p->ops[op_idx].in[0]);
}

/* --- which -------------------- */

static bool find_norm(const lowering *w, uint32_t op_idx, const op *add, lower_tail *out) {
    const program *p = w->p;
    const uint32_t idx = op_idx + (add != NULL ? 2 : 1);
    const value_id v = add != NULL ? add->out : p->ops[op_idx].out;
    const op *norm = op_at(w, idx, OP_NORM);
    if (norm == NULL || norm->in[0] != v || norm->norm.group != p->values[v].cols) return false;
    *out = (lower_tail){.kind = CK_TAIL_NORM, .op_idx = idx, .groups = 1};
    return p->values[norm->out].rows == p->values[v].rows;
}

/* Their codes are where only the product right behind looks for them. */
static bool find_gates(const lowering *w, uint32_t op_idx, lower_tail *out) {
    const program *p = w->p;
    const op *first = &p->ops[op_idx], *second = &p->ops[op_idx + 1];
    const op *act = op_at(w, op_idx + 2, OP_ACT_MUL), *next = op_at(w, op_idx + 3, OP_MATMUL);
    if (act == NULL || next == NULL || next->in[0] != act->out) return false;
    const bool in_order = act->in[0] == first->out && act->in[1] == second->out;
    const bool turned = act->in[1] == first->out && act->in[0] == second->out;
    if (!in_order && !turned) return false;
    *out = (lower_tail){.kind = CK_TAIL_ACT_MUL,
                        .op_idx = op_idx + 2,
                        .groups = lower_blocks(p->values[act->out].cols, 32)};
    return first->w.rows == second->w.rows && may_write_early(w, op_idx, act->out) &&
           lower_apart_or_same(w, act->out, first->out) &&
           lower_apart_or_same(w, act->out, second->out);
}

/* The product of v comes before those of q and k then: it must not write over what they read. */
static bool v_may_come_first(const lowering *w, uint32_t op_idx, uint32_t v_idx) {
    const op *v = op_at(w, v_idx, OP_MATMUL);
    return v != NULL && v->in[0] == w->p->ops[op_idx].in[0] && may_write_early(w, op_idx, v->out) &&
           !lower_overlap(w, v->out, w->p->ops[op_idx].out) &&
           !lower_overlap(w, v->out, w->p->ops[op_idx + 1].out);
}

static bool find_turn(const lowering *w, uint32_t op_idx, uint32_t count, lower_tail *out) {
    const program *p = w->p;
    const op *q = &p->ops[op_idx], *k = &p->ops[op_idx + 1], *v = &p->ops[op_idx + 2];
    const op *turn_q = op_at(w, op_idx + 3, OP_ROPE), *turn_k = op_at(w, op_idx + 4, OP_ROPE);
    if (turn_q == NULL || turn_k == NULL || lower_turn_of_k(w, op_idx + 3) != op_idx + 4)
        return false;
    if (turn_q->in[0] != q->out || turn_k->in[0] != k->out) return false;
    const op *write = &p->ops[op_idx + 5];
    const uint32_t kv_heads = turn_k->rope.heads, head_dim = turn_k->rope.head_dim;
    const uint32_t value_dim = p->values[write->in[1]].cols / kv_heads;
    const uint32_t rows = lower_in_halves(w, op_idx) ? CK_HALVES_ROWS : CK_GEMV_BLOCK_ROWS;
    if (write->in[1] != v->out || head_dim % rows != 0) return false;
    if (count == 2 && !v_may_come_first(w, op_idx, op_idx + 2)) return false;
    *out = (lower_tail){.kind = CK_TAIL_TURN,
                        .op_idx = op_idx + 4,
                        .v_idx = count == 2 ? op_idx + 2 : 0,
                        .groups = turn_q->rope.heads + 2 * kv_heads};
    return value_dim % rows == 0 && may_write_early(w, op_idx, turn_q->out);
}

bool lower_find_tail(const lowering *w, uint32_t op_idx, uint32_t count, const op *add,
                     lower_tail *out) {
    if (cuda_in_pairs(w->l, op_idx)) return false;
    bool found = false;
    if (count == 1) found = find_norm(w, op_idx, add, out);
    if (count == 2) found = find_gates(w, op_idx, out);
    if (count >= 2 && !found) found = find_turn(w, op_idx, count, out);
    return found && out->groups <= w->l->tickets;
}

/* --- both ways -------------------- */

static cuda_kernel_id kernel_of(const lowering *w, uint32_t op_idx) {
    static const cuda_kernel_id all[CK_FORM_COUNT] = {
        [CK_FORM_F32] = CUDA_k_gemvt_f32,   [CK_FORM_F16] = CUDA_k_gemvt_f16,
        [CK_FORM_BF16] = CUDA_k_gemvt_bf16, [CK_FORM_Q8_0] = CUDA_k_gemvt_q8_0,
        [CK_FORM_Q4_0] = CUDA_k_gemvt_q4_0, [CK_FORM_Q4_K] = CUDA_k_gemvt_q4_k,
        [CK_FORM_Q5_K] = CUDA_k_gemvt_q5_k, [CK_FORM_Q6_K] = CUDA_k_gemvt_q6_k};
    const ck_form form = cuda_weight_of(w->l, op_idx)->form;
    if (!lower_in_halves(w, op_idx)) return all[form];
    return form == CK_FORM_F16 ? CUDA_k_gemvt_f16_m1 : CUDA_k_gemvt_bf16_m1;
}

/* The launch of its own, for many rows; returns it with its arguments. */
static status emit_apart(lowering *w, const lower_tail *tail, cuda_launch_entry *e,
                         k_gemvt_args *out, error *err) {
    static lower_fn *const fns[] = {[CK_TAIL_NORM] = lower_norm,
                                    [CK_TAIL_ACT_MUL] = lower_act_mul,
                                    [CK_TAIL_TURN] = lower_rope};
    w->when = CUDA_FOR_MANY_ROWS;
    const status st = fns[tail->kind](w, tail->op_idx, err);
    w->when = CUDA_ALWAYS;
    if (st != OK) return st;
    *e = w->out->launches[w->out->count - 1];
    ASSERT(e->args_bytes <= sizeof out->then);
    memcpy(&out->then, w->out->args + e->args_at, e->args_bytes);
    w->done[tail->op_idx] = LOWER_FUSED;
    lower_covers(w, tail->op_idx);
    if (tail->kind != CK_TAIL_TURN) return OK;
    w->done[tail->op_idx - 1] = LOWER_FUSED;
    lower_covers(w, tail->op_idx + 1);
    return OK;
}

/* What is not as in a launch of its own. */
static void adapt(lowering *w, const lower_tail *tail, k_gemvt_args *a) {
    if (tail->kind == CK_TAIL_NORM) a->then.norm.in_shared = 0;
    if (tail->kind != CK_TAIL_ACT_MUL || a->then.act_mul.codes == 0) return;
    a->then.act_mul.codes = w->bases.workspace + w->l->gated_codes_at;
    a->then.act_mul.sums = w->bases.workspace + w->l->gated_sums_at;
    w->gated = w->p->ops[tail->op_idx].out;
}

/* All ops from the first product on, but for a v that came before. */
static void cover(lowering *w, uint32_t op_idx, const lower_tail *tail) {
    const uint32_t last = tail->op_idx + (tail->kind == CK_TAIL_TURN ? 1 : 0);
    for (uint32_t i = op_idx; i <= last; i++)
        if (i != tail->v_idx) lower_covers(w, i);
}

status lower_emit_tail(lowering *w, uint32_t op_idx, const lower_tail *tail,
                       const cuda_launch_entry *e, const k_gemv_args of[CK_GEMVS_MAX], error *err) {
    k_gemvt_args a = {.tickets = w->bases.workspace + w->l->tickets_at, .tail = tail->kind};
    cuda_launch_entry apart, together = *e;
    memcpy(a.of, of, sizeof a.of);
    if (tail->v_idx != 0) {
        TRY(lower_matmul(w, tail->v_idx, err));
        w->done[tail->v_idx] = LOWER_EMITTED;
        lower_covers(w, tail->v_idx);
    }
    TRY(emit_apart(w, tail, &apart, &a, err));
    adapt(w, tail, &a);
    together.kernel = together.many = kernel_of(w, op_idx);
    together.patch = apart.patch;
    together.layer = apart.layer;
    TRY(LOWER_EMIT(w, &together, &a, err));
    cover(w, op_idx, tail);
    return OK;
}
