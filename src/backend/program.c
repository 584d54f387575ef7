/* program.c - see program.h. */
#include "backend/program.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"

enum { ALIGN_FLOATS = 32 }; /* two cache lines; also one int16 block, see backend/cpu */

const char *op_kind_name(op_kind kind) {
    static const char *const names[] = {
#define OP_KIND_NAME(name) #name,
        OP_KINDS(OP_KIND_NAME)
#undef OP_KIND_NAME
    };
    return (unsigned)kind < OP_KIND_COUNT ? names[kind] : "?";
}

status program_create(program **out, uint32_t rows_max, uint32_t taken_rows_max, uint32_t ctx_max,
                      error *err) {
    program *p = mem_try_calloc(1, sizeof *p);
    if (p == NULL) return error_set(err, ERR_NOMEM, "program: no memory");
    p->rows_max = rows_max;
    p->taken_rows_max = taken_rows_max;
    p->ctx_max = ctx_max;
    *out = p;
    return OK;
}

void program_destroy(program *p) {
    if (p == NULL) return;
    mem_free(p->ops);
    mem_free(p->values);
    mem_free(p);
}

/* --- recording ----------------------------------------------------------------- */

void pg_layer(program *p, uint32_t layer) { p->layer = (uint16_t)layer; }

/* Programs are small (about 15 ops a layer), so growing aborts rather than fails. */
static void *grown(void *items, uint32_t *cap, size_t item_bytes) {
    *cap = *cap == 0 ? 64 : *cap * 2;
    void *p = mem_try_realloc(items, *cap * item_bytes);
    ASSERT(p != NULL);
    return p;
}

static value_id add_value(program *p, uint32_t cols, bool taken) {
    if (p->values_count == p->values_cap)
        p->values = grown(p->values, &p->values_cap, sizeof(value));
    ASSERT(p->values_count < VALUE_NONE);
    p->values[p->values_count] =
        (value){.cols = cols, .taken = taken, .op_def = (uint16_t)p->ops_count};
    return (value_id)p->values_count++;
}

static op *add_op(program *p, op_kind kind, value_id a, value_id b) {
    if (p->ops_count == p->ops_cap) p->ops = grown(p->ops, &p->ops_cap, sizeof(op));
    ASSERT(p->ops_count < UINT16_MAX);
    op *o = &p->ops[p->ops_count];
    *o = (op){.kind = kind, .layer = p->layer, .out = VALUE_NONE, .in = {a, b}};
    for (int i = 0; i < 2; i++)
        if (o->in[i] != VALUE_NONE) p->values[o->in[i]].op_end = (uint16_t)p->ops_count;
    return o;
}

/* Append the op and the value it makes. */
static op *add_op_value(program *p, op_kind kind, value_id a, value_id b, uint32_t cols) {
    bool taken = kind == OP_TAKE_ROWS || (a != VALUE_NONE && p->values[a].taken);
    op *o = add_op(p, kind, a, b);
    o->out = add_value(p, cols, taken);
    p->ops_count++;
    return o;
}

static uint32_t cols_of(const program *p, value_id v) { return p->values[v].cols; }

value_id pg_embed(program *p, weight table) {
    op *o = add_op_value(p, OP_EMBED, VALUE_NONE, VALUE_NONE, table.cols);
    o->w = table;
    return o->out;
}

value_id pg_norm_rms(program *p, value_id x, weight w, float eps) {
    ASSERT(w.type == DTYPE_F32 && w.cols == cols_of(p, x));
    op *o = add_op_value(p, OP_NORM_RMS, x, VALUE_NONE, w.cols);
    o->w = w;
    o->eps = eps;
    return o->out;
}

value_id pg_matmul(program *p, value_id x, weight w, const float *bias) {
    ASSERT(w.cols == cols_of(p, x));
    op *o = add_op_value(p, OP_MATMUL, x, VALUE_NONE, w.rows);
    o->w = w;
    o->bias = bias;
    return o->out;
}

value_id pg_rope(program *p, value_id x, op_rope rope) {
    ASSERT(cols_of(p, x) == rope.heads * rope.head_dim && rope.dims <= rope.head_dim);
    op *o = add_op_value(p, OP_ROPE, x, VALUE_NONE, cols_of(p, x));
    o->rope = rope;
    return o->out;
}

void pg_kv_write(program *p, value_id k, value_id v) {
    ASSERT(cols_of(p, k) == cols_of(p, v));
    (void)add_op(p, OP_KV_WRITE, k, v);
    p->ops_count++;
}

value_id pg_attention(program *p, value_id q, op_attention attn) {
    ASSERT(cols_of(p, q) == attn.heads * attn.head_dim && attn.heads % attn.kv_heads == 0);
    op *o = add_op_value(p, OP_ATTENTION, q, VALUE_NONE, cols_of(p, q));
    o->attn = attn;
    return o->out;
}

value_id pg_act_mul(program *p, value_id gate, value_id up) {
    ASSERT(cols_of(p, gate) == cols_of(p, up));
    return add_op_value(p, OP_ACT_MUL, gate, up, cols_of(p, gate))->out;
}

value_id pg_add(program *p, value_id a, value_id b) {
    ASSERT(cols_of(p, a) == cols_of(p, b));
    return add_op_value(p, OP_ADD, a, b, cols_of(p, a))->out;
}

value_id pg_take_rows(program *p, value_id x) {
    return add_op_value(p, OP_TAKE_ROWS, x, VALUE_NONE, cols_of(p, x))->out;
}

/* --- layout ----------------------------------------------------------------------
 *
 *   floats 0 ............................................................ high water
 *          | x ........................ | q ... | k . | v . |  free  |
 *                                       | gate ......... | up ......... |
 * Ops are visited in order; a value gets the first gap that is large enough among the
 * values still alive, or the place of its first operand when that dies here. */

typedef struct region {
    size_t offset;
    size_t floats;
} region;

typedef struct layout {
    region *live; /* [count] by offset */
    uint32_t count;
    size_t high;
} layout;

static size_t value_floats(const program *p, const value *v) {
    size_t rows = v->taken ? p->taken_rows_max : p->rows_max;
    return num_align_size(rows * v->cols, ALIGN_FLOATS);
}

static size_t layout_take(layout *l, size_t floats) {
    size_t at = 0;
    uint32_t i = 0;
    for (; i < l->count && l->live[i].offset - at < floats; i++)
        at = l->live[i].offset + l->live[i].floats;
    memmove(&l->live[i + 1], &l->live[i], (l->count - i) * sizeof l->live[0]);
    l->live[i] = (region){at, floats};
    l->count++;
    if (at + floats > l->high) l->high = at + floats;
    return at;
}

static void layout_give(layout *l, size_t offset) {
    uint32_t i = 0;
    while (l->live[i].offset != offset) i++;
    l->count--;
    memmove(&l->live[i], &l->live[i + 1], (l->count - i) * sizeof l->live[0]);
}

/* May the result overwrite operand 0?  Only where row r, column c of the result depends
 * on nothing of that operand but a region the op has read by then. */
static bool can_be_in_place(op_kind kind) {
    return kind == OP_ROPE || kind == OP_ACT_MUL || kind == OP_ADD;
}

static void place_op(program *p, layout *l, uint32_t i) {
    const op *o = &p->ops[i];
    bool reused = false;
    if (o->out != VALUE_NONE) {
        value *out = &p->values[o->out];
        const value *a = o->in[0] != VALUE_NONE ? &p->values[o->in[0]] : NULL;
        reused = a != NULL && can_be_in_place(o->kind) && a->op_end == i && o->in[0] != o->in[1];
        out->offset = reused ? a->offset : layout_take(l, value_floats(p, out));
    }
    for (int k = 0; k < 2; k++) {
        if (o->in[k] == VALUE_NONE || p->values[o->in[k]].op_end != i) continue;
        if (k == 0 && reused) continue;
        if (k == 1 && o->in[1] == o->in[0]) continue;
        layout_give(l, p->values[o->in[k]].offset);
    }
}

status program_finish(program *p, value_id logits, error *err) {
    ASSERT(p->values[logits].taken);
    p->logits = logits;
    p->values[logits].op_end = UINT16_MAX; /* outlives the last op */
    layout l = {.live = mem_try_calloc(p->values_count + 1, sizeof(region))};
    if (l.live == NULL) return error_set(err, ERR_NOMEM, "program: no memory for the layout");
    for (uint32_t i = 0; i < p->ops_count; i++) place_op(p, &l, i);
    p->workspace_floats = l.high;
    mem_free(l.live);
    return OK;
}
