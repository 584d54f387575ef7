/* cpu_tasks.c - see cpu_tasks.h. */
#include "backend/cpu/cpu_tasks.h"

#include "backend/cpu/cpu_internal.h"
#include "base/alloc.h"
#include "base/assert.h"

const char *task_kind_name(task_kind kind) {
    static const char *const names[] = {
#define TASK_KIND_NAME(name) #name,
        TASK_KINDS(TASK_KIND_NAME)
#undef TASK_KIND_NAME
    };
    return names[kind];
}

void cpu_tasks_destroy(task_list *l) {
    mem_free(l->tasks);
    *l = (task_list){0};
}

/* --- patterns -------------------- */

/* Does the op read the digits of its input? */
static bool reads_digits(const op *o) {
    if (o->kind == OP_MATMUL) return cpu_weight_packs(&o->w);
    return o->kind == OP_EXPERTS && cpu_weight_packs(&o->experts.w[0]);
}

/* Does it read prompt rows of its input in bf16? */
static bool reads_rounded(const op *o, const bf16_kernels *bf16) {
    return o->kind == OP_MATMUL && cpu_bf16_takes(bf16, &o->w);
}

/* Does any op read v in another form than f32? */
static bool wants_digits(const program *p, value_id v, const bf16_kernels *bf16) {
    if (v == VALUE_NONE) return false;
    for (uint32_t i = p->values[v].op_def; i < p->ops_count && i <= p->values[v].op_end; i++) {
        const op *o = &p->ops[i];
        if (o->in[0] == v && (reads_digits(o) || reads_rounded(o, bf16))) return true;
    }
    return false;
}

static bool in_place(const program *p, value_id out, value_id in) {
    return p->values[out].offset == p->values[in].offset;
}

/* The add can be the store of the matmul when nothing else reads the product and the sum
 * lands on the other operand, which is not what the matmul reads: then no element is
 * written that another unit still reads. */
static bool add_follows(const program *p, uint32_t i) {
    if (i + 1 >= p->ops_count || p->ops[i + 1].kind != OP_ADD) return false;
    const op *product = &p->ops[i], *sum = &p->ops[i + 1];
    return sum->in[1] == product->out && sum->in[0] != product->out &&
           sum->in[0] != product->in[0] && p->values[product->out].op_end == i + 1 &&
           in_place(p, sum->out, sum->in[0]);
}

/* The rotated part of the key is all of it, or the one behind the latent (batch.h, v_in_k). */
static bool rope_kv_follows(const program *p, uint32_t i) {
    if (i + 2 >= p->ops_count) return false;
    const op *q = &p->ops[i], *k = &p->ops[i + 1], *w = &p->ops[i + 2];
    return q->kind == OP_ROPE && k->kind == OP_ROPE && w->kind == OP_KV_WRITE &&
           (w->in[0] == k->out || w->in[1] == k->out) && k->in[0] != q->out &&
           in_place(p, q->out, q->in[0]) && in_place(p, k->out, k->in[0]);
}

/* How many matmuls from i on read the same value?  A product that nobody reads lends its memory
 * to the next one, so it must be done before that begins. */
static uint32_t matmul_group(const program *p, uint32_t i) {
    uint32_t n = 1;
    while (n < TASK_OPS_MAX && i + n < p->ops_count && p->ops[i + n].kind == OP_MATMUL &&
           p->ops[i + n].in[0] == p->ops[i].in[0] &&
           p->values[p->ops[i + n - 1].out].op_end > i + n - 1)
        n++;
    return n;
}

/* --- building -------------------- */

typedef struct builder {
    task_list l;
    const program *p;
    bool *has_digits; /* [values_count] its digits are there, and stay while it lives: what
                          lives at the same time has other memory */
    value_id grouped; /* the routed value that the last GROUP task sorted */
    bool tables_made;
    const bf16_kernels *bf16;
} builder;

static task *append(builder *b, task_kind kind, uint32_t i, uint32_t count) {
    task *t = &b->l.tasks[b->l.count++];
    const op *o = &b->p->ops[i];
    *t = (task){.kind = kind, .ops_count = count};
    for (uint32_t k = 0; k < count; k++) t->ops[k] = o + k;
    t->rows = b->p->values[o->out != VALUE_NONE ? o->out : o->in[0]].rows;
    b->l.ops_unfused++;
    b->l.ops_fused += count - 1;
    return t;
}

/* A task that is part of the op at i, and no primitive. */
static void append_helper(builder *b, task_kind kind, uint32_t i, uint32_t count) {
    task *t = append(b, kind, i, count);
    t->rows = b->p->values[b->p->ops[i].in[0]].rows;
    b->l.ops_unfused--;
    b->l.ops_fused -= count - 1;
}

/* What ops i .. i + n - 1, of one input, read of it besides the floats must be there. */
static void need_digits(builder *b, uint32_t i, uint32_t n) {
    const op *o = &b->p->ops[i];
    bool digits = false, rounded = false;
    for (uint32_t k = 0; k < n; k++) {
        digits |= reads_digits(o + k);
        rounded |= reads_rounded(o + k, b->bf16);
    }
    b->l.any_digits |= digits;
    b->l.any_rounded |= rounded;
    if ((!digits && !rounded) || b->has_digits[o->in[0]]) return;
    append_helper(b, TASK_DIGITS, i, 1);
    b->has_digits[o->in[0]] = true;
}

/* Tasks for the op at i; returns how many ops they cover. */
static uint32_t build_matmul(builder *b, uint32_t i) {
    const program *p = b->p;
    uint32_t n = matmul_group(p, i);
    bool adaptable = false;
    for (uint32_t k = 0; k < n; k++) adaptable |= p->ops[i + k].lora_slot != LORA_SLOT_NONE;
    need_digits(b, i, n);
    if (adaptable && p->max.lora_rank > 0) append_helper(b, TASK_LORA, i, n);
    task *t = append(b, TASK_MATMUL, i, n);
    if (n == 1 && add_follows(p, i)) {
        t->add_op = &p->ops[i + 1];
        b->l.ops_fused++;
        return 2;
    }
    return n;
}

static uint32_t build_experts(builder *b, uint32_t i) {
    const op *o = &b->p->ops[i];
    need_digits(b, i, 1);
    if (b->grouped != o->in[1]) append_helper(b, TASK_GROUP, i, 1);
    b->grouped = o->in[1];
    (void)append(b, TASK_EXPERTS, i, 1);
    return 1;
}

/* Tasks whose unit is a whole row of the result. */
static bool is_by_rows(task_kind kind) {
    switch (kind) {
    case TASK_HEADS_MATMUL:
    case TASK_ATTENTION:
    case TASK_CONV:
    case TASK_SCAN:
    case TASK_SHIFT:
    case TASK_WKV:
    case TASK_KV_WRITE:
        return false;
    default:
        return true;
    }
}

static uint32_t build_next(builder *b, uint32_t i) {
    static const task_kind simple[OP_KIND_COUNT] = {
        [OP_INPUT] = TASK_INPUT,
        [OP_EMBED] = TASK_EMBED,
        [OP_EMBED_POS] = TASK_EMBED_POS,
        [OP_NORM] = TASK_NORM,
        [OP_HEADS_MATMUL] = TASK_HEADS_MATMUL,
        [OP_ROPE] = TASK_ROPE,
        [OP_KV_WRITE] = TASK_KV_WRITE,
        [OP_ATTENTION] = TASK_ATTENTION,
        [OP_ACT] = TASK_ACT,
        [OP_ACT_MUL] = TASK_ACT_MUL,
        [OP_ADD] = TASK_ADD,
        [OP_ADD_ROW] = TASK_ADD_ROW,
        [OP_MUL] = TASK_MUL,
        [OP_MUL_ROW] = TASK_MUL_ROW,
        [OP_MUL_COL] = TASK_MUL_COL,
        [OP_ROUTE] = TASK_ROUTE,
        [OP_EXPERTS_SUM] = TASK_EXPERTS_SUM,
        [OP_CONV] = TASK_CONV,
        [OP_SCAN] = TASK_SCAN,
        [OP_SHIFT] = TASK_SHIFT,
        [OP_WKV] = TASK_WKV,
        [OP_TAKE_ROWS] = TASK_TAKE_ROWS,
    };
    const op *o = &b->p->ops[i];
    if (o->kind == OP_MATMUL) return build_matmul(b, i);
    if (o->kind == OP_EXPERTS) return build_experts(b, i);
    if (rope_kv_follows(b->p, i)) {
        (void)append(b, TASK_ROPE_KV, i, 3);
        return 3;
    }
    task *t = append(b, simple[o->kind], i, 1);
    if (is_by_rows(t->kind) && wants_digits(b->p, o->out, b->bf16))
        t->digits = b->has_digits[o->out] = true;
    const bool begins = o->kind == OP_INPUT || o->kind == OP_EMBED || o->kind == OP_EMBED_POS;
    t->tables = begins && !b->tables_made;
    b->tables_made |= begins;
    return 1;
}

status cpu_tasks_build(task_list *out, const program *p, const bf16_kernels *bf16, error *err) {
    /* an op may need two helpers before it */
    builder b = {.p = p, .grouped = VALUE_NONE, .bf16 = bf16};
    b.l.tasks = mem_try_calloc((size_t)p->ops_count * 3, sizeof(task));
    b.has_digits = mem_try_calloc((size_t)p->values_count + 1, sizeof *b.has_digits);
    if (b.l.tasks == NULL || b.has_digits == NULL) {
        mem_free(b.l.tasks);
        mem_free(b.has_digits);
        return error_set(err, ERR_NOMEM, "cpu: no memory for the tasks");
    }
    for (uint32_t i = 0; i < p->ops_count;) i += build_next(&b, i);
    mem_free(b.has_digits);
    *out = b.l;
    return OK;
}
