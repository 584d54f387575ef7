/* cuda_lower_values.c - what the lowering asks about values: who reads them and how, and where they
 * lie.  See cuda_lower.h. */
#include "backend/cuda/cuda_lower.h"

/* --- who reads a value -------------------- */

static bool is_product(const op *o) { return o->kind == OP_MATMUL || o->kind == OP_EXPERTS; }

bool lower_reads_codes(const lowering *w, uint32_t op_idx) {
    return is_product(&w->p->ops[op_idx]) && !cuda_in_pairs(w->l, op_idx) &&
           cuda_form_is_quantized(cuda_weight_of(w->l, op_idx)->form);
}

static bool reads_floats(const lowering *w, uint32_t op_idx, value_id v) {
    const op *o = &w->p->ops[op_idx];
    const uint32_t first = lower_reads_codes(w, op_idx) && !lower_adapts(w, op_idx) ? 1 : 0;
    for (uint32_t i = first; i < OP_INPUTS_MAX; i++)
        if (o->in[i] == v) return true;
    return false;
}

const op *lower_only_reader(const lowering *w, uint32_t op_idx, op_kind kind) {
    const program *p = w->p;
    const op *o = &p->ops[op_idx];
    if (op_idx + 1 >= p->ops_count || p->values[o->out].op_end != op_idx + 1) return NULL;
    return p->ops[op_idx + 1].kind == kind ? &p->ops[op_idx + 1] : NULL;
}

/* --- codes -------------------- */

/* How the codes of a value that is about to be made would be used. */
typedef struct codes_use {
    bool wanted; /* by the next product that reads any */
    bool enough; /* nobody reads anything else of the value */
} codes_use;

static codes_use use_of_codes(const lowering *w, value_id v) {
    const program *p = w->p;
    codes_use use = {.enough = p->values[v].op_end < p->ops_count}; /* results are read as f32 */
    bool there = true;
    const uint32_t end = use.enough ? p->values[v].op_end : p->ops_count - 1;
    for (uint32_t i = p->values[v].op_def + 1u; i <= end; i++) {
        if (reads_floats(w, i, v)) use.enough = false;
        if (cuda_in_pairs(w->l, i)) there = false; /* it makes them in the same place */
        if (!lower_reads_codes(w, i)) continue;
        const bool of_v = p->ops[i].in[0] == v;
        if (!of_v) there = false;
        if (of_v && there) use.wanted = true;
        if (of_v && !there) use.enough = false;
    }
    return use;
}

lower_result lower_result_of(lowering *w, value_id v) {
    const codes_use use = use_of_codes(w, v);
    lower_result to = {0};
    if (use.wanted) {
        to.codes = w->bases.workspace + w->l->codes_at;
        to.sums = w->bases.workspace + w->l->sums_at;
        w->codes_of = v;
        w->gated = VALUE_NONE;
    }
    w->only_codes[v] = use.wanted && use.enough;
    if (!w->only_codes[v]) to.floats = lower_value(w, v);
    return to;
}

/* --- memory -------------------- */

typedef struct span {
    size_t begin, end; /* floats of the workspace */
} span;

static span span_of(const program *p, value_id v) {
    const value *d = &p->values[v];
    return (span){d->offset, d->offset + (size_t)program_rows_max(p, d->rows) * d->cols};
}

bool lower_overlap(const lowering *w, value_id a, value_id b) {
    const span x = span_of(w->p, a), y = span_of(w->p, b);
    return x.begin < y.end && y.begin < x.end;
}

bool lower_apart_or_same(const lowering *w, value_id a, value_id b) {
    const value *x = &w->p->values[a], *y = &w->p->values[b];
    return !lower_overlap(w, a, b) || (x->offset == y->offset && x->cols == y->cols);
}
