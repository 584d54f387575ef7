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

status program_create(program **out, const program_limits *max, error *err) {
    program *p = mem_try_calloc(1, sizeof *p);
    if (p == NULL) return error_set(err, ERR_NOMEM, "program: no memory");
    p->max = *max;
    p->hidden = p->logits = VALUE_NONE;
    *out = p;
    return OK;
}

void program_destroy(program *p) {
    if (p == NULL) return;
    for (uint32_t i = 0; i < p->blocks_count; i++) mem_free(p->blocks[i]);
    mem_free(p->blocks);
    mem_free(p->ops);
    mem_free(p->values);
    mem_free(p);
}

uint32_t program_rows_max(const program *p, row_set rows) {
    const uint32_t max[] = {
        [ROWS_ALL] = p->max.rows, [ROWS_TAKEN] = p->max.taken, [ROWS_HEAD] = p->max.head};
    return max[rows];
}

/* --- recording -------------------------------------------------------------------- */

/* Programs are small (15 to 60 ops a layer), so growing aborts rather than fails. */
static void *grown(void *items, uint32_t *cap, size_t item_bytes) {
    *cap = *cap == 0 ? 64 : *cap * 2;
    void *p = mem_try_realloc(items, *cap * item_bytes);
    ASSERT(p != NULL);
    return p;
}

void pg_layer(program *p, uint32_t layer) { p->layer = (uint16_t)layer; }

weight *pg_weights(program *p, uint32_t count) {
    if (p->blocks_count == p->blocks_cap)
        p->blocks = grown(p->blocks, &p->blocks_cap, sizeof(weight *));
    weight *w = mem_try_calloc(count, sizeof *w);
    ASSERT(w != NULL);
    return p->blocks[p->blocks_count++] = w;
}

static uint32_t cols_of(const program *p, value_id v) {
    ASSERT(v < p->values_count);
    return p->values[v].cols;
}

/* A weight is as wide as its packed matrix and within its rows. */
static void check_weight(const weight *w) {
    const packed_matrix *m = w->packed;
    ASSERT((w->data != NULL) != (m != NULL));
    ASSERT(m == NULL || (m->cols == w->cols && (uint64_t)w->row0 + w->rows <= m->rows));
}

static value_id add_value(program *p, uint32_t cols, row_set rows) {
    if (p->values_count == p->values_cap)
        p->values = grown(p->values, &p->values_cap, sizeof(value));
    ASSERT(p->values_count < VALUE_NONE);
    uint16_t def = (uint16_t)p->ops_count;
    p->values[p->values_count] = (value){.cols = cols, .rows = rows, .op_def = def, .op_end = def};
    return (value_id)p->values_count++;
}

/* Append an op that reads in[0 .. count - 1], which have the same rows, and makes no value. */
static op *add_op(program *p, op_kind kind, uint32_t count, const value_id *in) {
    if (p->ops_count == p->ops_cap) p->ops = grown(p->ops, &p->ops_cap, sizeof(op));
    ASSERT(p->ops_count < UINT16_MAX && count <= OP_INPUTS_MAX);
    op *o = &p->ops[p->ops_count];
    *o = (op){.kind = kind, .layer = p->layer, .out = VALUE_NONE, .lora_slot = LORA_SLOT_NONE};
    for (uint32_t i = 0; i < OP_INPUTS_MAX; i++) {
        o->in[i] = i < count ? in[i] : VALUE_NONE;
        if (i >= count) continue;
        ASSERT(in[i] < p->values_count && p->values[in[i]].rows == p->values[in[0]].rows);
        p->values[in[i]].op_end = (uint16_t)p->ops_count;
    }
    p->ops_count++;
    return o;
}

/* The same for an op that makes a value of these columns, with the rows of its inputs. */
static op *add_op_value(program *p, op_kind kind, uint32_t cols, uint32_t count,
                        const value_id *in) {
    value_id out = add_value(p, cols, count > 0 ? p->values[in[0]].rows : ROWS_ALL);
    op *o = add_op(p, kind, count, in);
    o->out = out;
    return o;
}

/* From one value to another as wide. */
static op *add_same(program *p, op_kind kind, value_id x) {
    return add_op_value(p, kind, cols_of(p, x), 1, &x);
}

/* From two values of the same shape to a third. */
static op *add_pair(program *p, op_kind kind, value_id a, value_id b) {
    ASSERT(cols_of(p, a) == cols_of(p, b));
    return add_op_value(p, kind, cols_of(p, a), 2, (value_id[]){a, b});
}

/* Only rows of the whole batch have positions, keys and states. */
static bool is_whole(const program *p, value_id v) {
    return v < p->values_count && p->values[v].rows == ROWS_ALL;
}

/* --- rows in and out --- */

value_id pg_input(program *p, uint32_t cols) {
    ASSERT(p->ops_count == 0 || p->layer > p->ops[p->ops_count - 1].layer);
    return add_op_value(p, OP_INPUT, cols, 0, NULL)->out;
}

value_id pg_input_routed(program *p, uint32_t used) {
    op *o = add_op_value(p, OP_INPUT, 2 * used, 0, NULL);
    o->routed = true;
    return o->out;
}

value_id pg_embed(program *p, weight table) {
    check_weight(&table);
    op *o = add_op_value(p, OP_EMBED, table.cols, 0, NULL);
    o->w = table;
    return o->out;
}

value_id pg_embed_pos(program *p, weight table) {
    check_weight(&table);
    op *o = add_op_value(p, OP_EMBED_POS, table.cols, 0, NULL);
    o->w = table;
    return o->out;
}

value_id pg_take_rows(program *p, value_id x) {
    op *o = add_same(p, OP_TAKE_ROWS, x);
    ASSERT(p->values[x].rows != ROWS_HEAD);
    p->values[o->out].rows = p->values[x].rows == ROWS_ALL ? ROWS_TAKEN : ROWS_HEAD;
    return o->out;
}

/* --- row by row --- */

value_id pg_norm(program *p, value_id x, op_norm norm) {
    uint32_t cols = cols_of(p, x);
    ASSERT(norm.group > 0 && cols % norm.group == 0);
    ASSERT((norm.gain == NULL && norm.bias == NULL) || norm.gain_len == norm.group ||
           norm.gain_len == cols);
    op *o = add_same(p, OP_NORM, x);
    o->norm = norm;
    return o->out;
}

value_id pg_matmul(program *p, value_id x, weight w, const float *bias) {
    check_weight(&w);
    ASSERT(w.cols == cols_of(p, x));
    op *o = add_op_value(p, OP_MATMUL, w.rows, 1, &x);
    o->w = w;
    o->row = bias;
    if (p->max.lora_rank > 0 && w.name.n > 0) o->lora_slot = (uint16_t)p->lora_slots++;
    return o->out;
}

value_id pg_heads_matmul(program *p, value_id x, weight w, op_heads_matmul heads) {
    const op_heads_matmul *h = &heads;
    check_weight(&w);
    ASSERT(h->heads > 0 && cols_of(p, x) == h->heads * (h->in_dim + h->tail_dim));
    ASSERT(h->row0 + (uint64_t)(h->heads - 1) * h->row_stride + h->w_rows <= w.rows);
    ASSERT(h->in_dim == (h->transposed ? h->w_rows : w.cols));
    ASSERT(h->out_dim == (h->transposed ? w.cols : h->w_rows));
    op *o = add_op_value(p, OP_HEADS_MATMUL, h->heads * (h->out_dim + h->tail_dim), 1, &x);
    o->w = w;
    o->heads = heads;
    return o->out;
}

value_id pg_rope(program *p, value_id x, op_rope rope) {
    ASSERT(is_whole(p, x) && cols_of(p, x) == rope.heads * rope.head_dim);
    ASSERT(rope.dims % 2 == 0 && rope.first + rope.dims <= rope.head_dim);
    op *o = add_same(p, OP_ROPE, x);
    o->rope = rope;
    return o->out;
}

value_id pg_act(program *p, value_id x, op_act act) {
    ASSERT(act.kind != ACT_SWIGLU_CLAMPED);
    op *o = add_same(p, OP_ACT, x);
    o->act = act;
    return o->out;
}

value_id pg_act_mul(program *p, value_id gate, value_id up, op_act act) {
    op *o = add_pair(p, OP_ACT_MUL, gate, up);
    o->act = act;
    return o->out;
}

value_id pg_add(program *p, value_id a, value_id b) { return add_pair(p, OP_ADD, a, b)->out; }

value_id pg_mul(program *p, value_id a, value_id b) { return add_pair(p, OP_MUL, a, b)->out; }

value_id pg_add_row(program *p, value_id x, const float *row) {
    op *o = add_same(p, OP_ADD_ROW, x);
    o->row = row;
    return o->out;
}

value_id pg_mul_row(program *p, value_id x, const float *row) {
    op *o = add_same(p, OP_MUL_ROW, x);
    o->row = row;
    return o->out;
}

value_id pg_mul_col(program *p, value_id x, value_id s) {
    ASSERT(cols_of(p, s) == 1);
    return add_op_value(p, OP_MUL_COL, cols_of(p, x), 2, (value_id[]){x, s})->out;
}

/* --- attention --- */

void pg_kv_write(program *p, value_id k, value_id v) {
    ASSERT(is_whole(p, k) && is_whole(p, v));
    (void)add_op(p, OP_KV_WRITE, 2, (value_id[]){k, v});
}

value_id pg_attention(program *p, value_id q, op_attention attn) {
    ASSERT(is_whole(p, q) && attn.kv_heads > 0 && attn.heads % attn.kv_heads == 0);
    ASSERT(cols_of(p, q) == attn.heads * attn.key_dim);
    op *o = add_op_value(p, OP_ATTENTION, attn.heads * attn.value_dim, 1, &q);
    o->attn = attn;
    return o->out;
}

/* --- mixture of experts --- */

value_id pg_route(program *p, value_id logits, op_route route) {
    const op_route *t = &route;
    ASSERT(cols_of(p, logits) == t->experts && t->used >= 1 && t->used <= t->experts);
    if (t->groups > 1) {
        ASSERT(t->experts % t->groups == 0 && t->groups_used <= t->groups);
        ASSERT((uint64_t)t->groups_used * (t->experts / t->groups) >= t->used);
    }
    op *o = add_op_value(p, OP_ROUTE, 2 * t->used, 1, &logits);
    o->route = route;
    return o->out;
}

value_id pg_experts(program *p, value_id x, value_id routed, op_experts experts) {
    const weight *w = &experts.w[0];
    uint32_t used = experts.used;
    ASSERT(cols_of(p, x) == (experts.shared_in ? 1 : used) * w->cols);
    ASSERT(cols_of(p, routed) == 2 * used);
    for (uint32_t i = 0; i < experts.experts; i++) {
        check_weight(&w[i]);
        ASSERT(w[i].rows == w->rows && w[i].cols == w->cols && w[i].type == w->type);
    }
    op *o = add_op_value(p, OP_EXPERTS, used * w->rows, 2, (value_id[]){x, routed});
    o->experts = experts;
    return o->out;
}

value_id pg_experts_sum(program *p, value_id x, value_id routed, uint32_t used) {
    ASSERT(used > 0 && cols_of(p, x) % used == 0 && cols_of(p, routed) == 2 * used);
    op *o = add_op_value(p, OP_EXPERTS_SUM, cols_of(p, x) / used, 2, (value_id[]){x, routed});
    o->experts = (op_experts){.used = used};
    return o->out;
}

value_id pg_host(program *p, value_id x, value_id routed, uint32_t cols) {
    return add_op_value(p, OP_HOST, cols, 2, (value_id[]){x, routed})->out;
}

/* --- state-space layers --- */

/* The next piece of a sequence's state memory. */
static op_state take_state(program *p, size_t floats) {
    op_state state = {.offset = p->state_floats, .floats = floats};
    p->state_floats += floats;
    return state;
}

value_id pg_conv(program *p, value_id x, const float *w, const float *bias, uint32_t width) {
    ASSERT(is_whole(p, x) && width >= 1);
    op *o = add_same(p, OP_CONV, x);
    o->state = take_state(p, (size_t)(width - 1) * cols_of(p, x));
    o->state.w = w;
    o->state.bias = bias;
    o->state.width = width;
    return o->out;
}

value_id pg_scan(program *p, value_id x, value_id dt, value_id b, value_id c, const float *a,
                 const float *d, uint32_t states) {
    uint32_t cols = cols_of(p, x);
    ASSERT(is_whole(p, x) && cols_of(p, dt) == cols);
    ASSERT(cols_of(p, b) == states && cols_of(p, c) == states);
    op *o = add_op_value(p, OP_SCAN, cols, 4, (value_id[]){x, dt, b, c});
    o->state = take_state(p, (size_t)cols * states);
    o->state.w = a;
    o->state.bias = d;
    o->state.width = states;
    return o->out;
}

value_id pg_shift(program *p, value_id x) {
    ASSERT(is_whole(p, x));
    op *o = add_same(p, OP_SHIFT, x);
    o->state = take_state(p, cols_of(p, x));
    return o->out;
}

value_id pg_wkv(program *p, value_id r, value_id k, value_id v, value_id decay, const float *first,
                uint32_t dim) {
    uint32_t cols = cols_of(p, r);
    ASSERT(is_whole(p, r) && dim > 0 && cols % dim == 0);
    ASSERT(cols_of(p, k) == cols && cols_of(p, v) == cols && cols_of(p, decay) == cols);
    op *o = add_op_value(p, OP_WKV, cols, 4, (value_id[]){r, k, v, decay});
    o->state = take_state(p, (size_t)cols * dim);
    o->state.w = first;
    o->state.width = dim;
    return o->out;
}

/* --- weights --- */

static uint64_t stored_bytes(const weight *w) {
    uint64_t row = 0;
    if (w->packed != NULL) return packed_bytes(w->packed);
    const bool stored = w->data != NULL && dtype_row_bytes(w->type, w->cols, &row);
    return stored ? row * w->rows : 0;
}

uint64_t program_stored_bytes(const program *p) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        if (o->kind != OP_EXPERTS) total += stored_bytes(&o->w);
        for (uint32_t e = 0; o->kind == OP_EXPERTS && e < o->experts.experts; e++)
            total += stored_bytes(&o->experts.w[e]);
    }
    return total;
}

/* --- layout -----------------------------------------------------------------------
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

/* At least one line, so that no two values alive have the same offset. */
static size_t value_floats(const program *p, const value *v) {
    size_t floats = (size_t)program_rows_max(p, v->rows) * v->cols;
    return num_align_size(floats > 0 ? floats : 1, ALIGN_FLOATS);
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

/* May the result overwrite operand 0, which has its shape?  Only where an element of the result
 * depends on no element of that operand that may have been overwritten before: the same one, and
 * the other one of a rotary pair, which are turned together. */
static bool can_be_in_place(op_kind kind) {
    switch (kind) {
    case OP_ROPE:
    case OP_ACT:
    case OP_ACT_MUL:
    case OP_ADD:
    case OP_ADD_ROW:
    case OP_MUL:
    case OP_MUL_ROW:
    case OP_MUL_COL:
        return true;
    default:
        return false;
    }
}

/* Is it operand k of op i that ends with it?  A value that is read twice counts once. */
static bool dies_here(const program *p, uint32_t i, uint32_t k) {
    const op *o = &p->ops[i];
    if (o->in[k] == VALUE_NONE || p->values[o->in[k]].op_end != i) return false;
    for (uint32_t j = 0; j < k; j++)
        if (o->in[j] == o->in[k]) return false;
    return true;
}

static void place_op(program *p, layout *l, uint32_t i) {
    const op *o = &p->ops[i];
    bool reuse = can_be_in_place(o->kind) && dies_here(p, i, 0) && o->in[0] != o->in[1];
    if (o->out != VALUE_NONE) {
        value *out = &p->values[o->out];
        out->offset = reuse ? p->values[o->in[0]].offset : layout_take(l, value_floats(p, out));
    }
    for (uint32_t k = reuse ? 1 : 0; k < OP_INPUTS_MAX; k++)
        if (dies_here(p, i, k)) layout_give(l, p->values[o->in[k]].offset);
    if (o->out != VALUE_NONE && p->values[o->out].op_end == i)
        layout_give(l, p->values[o->out].offset); /* nobody reads it */
}

/* The value outlives the last op. */
static void keep(program *p, value_id v, row_set rows) {
    ASSERT(v < p->values_count && p->values[v].rows == rows);
    p->values[v].op_end = UINT16_MAX;
}

status program_finish(program *p, value_id hidden, value_id logits, error *err) {
    keep(p, hidden, ROWS_TAKEN);
    if (logits != VALUE_NONE) keep(p, logits, ROWS_HEAD);
    p->hidden = hidden;
    p->logits = logits;
    layout l = {.live = mem_try_calloc((size_t)p->values_count + 1, sizeof(region))};
    if (l.live == NULL) return error_set(err, ERR_NOMEM, "program: no memory for the layout");
    for (uint32_t i = 0; i < p->ops_count; i++) place_op(p, &l, i);
    p->workspace_floats = l.high;
    mem_free(l.live);
    return OK;
}
