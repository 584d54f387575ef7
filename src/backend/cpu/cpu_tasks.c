/* cpu_tasks.c - see cpu_tasks.h. */
#include "backend/cpu/cpu_tasks.h"

#include "base/alloc.h"
#include "base/assert.h"

bool cpu_weight_is_block(dtype t) { return t == DTYPE_Q8_0 || t == DTYPE_Q4_0; }

void cpu_tasks_destroy(task_list *l) {
    mem_free(l->tasks);
    *l = (task_list){0};
}

/* Does any matmul read the int16 form of v? */
static bool wants_int16(const program *p, value_id v) {
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].kind == OP_MATMUL && p->ops[i].in[0] == v &&
            cpu_weight_is_block(p->ops[i].w.type))
            return true;
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

static bool rope_kv_follows(const program *p, uint32_t i) {
    if (i + 2 >= p->ops_count) return false;
    const op *q = &p->ops[i], *k = &p->ops[i + 1], *w = &p->ops[i + 2];
    return q->kind == OP_ROPE && k->kind == OP_ROPE && w->kind == OP_KV_WRITE &&
           w->in[0] == k->out && in_place(p, q->out, q->in[0]) && in_place(p, k->out, k->in[0]);
}

/* How many matmuls from i on read the same value? */
static uint32_t matmul_group(const program *p, uint32_t i) {
    uint32_t n = 1;
    while (n < TASK_OPS_MAX && i + n < p->ops_count && p->ops[i + n].kind == OP_MATMUL &&
           p->ops[i + n].in[0] == p->ops[i].in[0])
        n++;
    return n;
}

static task *append(task_list *l, task_kind kind, const program *p, uint32_t i, uint32_t count) {
    task *t = &l->tasks[l->count++];
    *t = (task){.kind = kind, .ops_count = count};
    for (uint32_t k = 0; k < count; k++) t->ops[k] = &p->ops[i + k];
    const op *o = t->ops[0];
    t->taken = o->out != VALUE_NONE && p->values[o->out].taken;
    l->ops_unfused++;
    l->ops_fused += count - 1;
    return t;
}

/* Tasks for the op at i; returns how many ops they cover. */
static uint32_t build_matmul(task_list *l, const program *p, uint32_t i) {
    const op *o = &p->ops[i];
    uint32_t n = matmul_group(p, i);
    bool block = false;
    for (uint32_t k = 0; k < n; k++) block |= cpu_weight_is_block(p->ops[i + k].w.type);
    const task *maker = l->count > 0 ? &l->tasks[l->count - 1] : NULL;
    bool made = maker != NULL && maker->quantize && maker->ops[0]->out == o->in[0];
    if (block && !made) {
        task *q = append(l, TASK_QUANTIZE, p, i, 1);
        q->taken = p->values[o->in[0]].taken;
        l->ops_unfused--; /* part of the matmul, not a primitive */
    }
    task *t = append(l, TASK_MATMUL, p, i, n);
    if (n == 1 && add_follows(p, i)) {
        t->add_op = &p->ops[i + 1];
        l->ops_fused++;
        return 2;
    }
    return n;
}

static uint32_t build_next(task_list *l, const program *p, uint32_t i) {
    const op *o = &p->ops[i];
    static const task_kind simple[OP_KIND_COUNT] = {
        [OP_EMBED] = TASK_EMBED,         [OP_NORM_RMS] = TASK_NORM,   [OP_KV_WRITE] = TASK_KV_WRITE,
        [OP_ATTENTION] = TASK_ATTENTION, [OP_ACT_MUL] = TASK_ACT_MUL, [OP_ADD] = TASK_ADD,
        [OP_TAKE_ROWS] = TASK_TAKE_ROWS, [OP_ROPE] = TASK_ROPE,
    };
    if (o->kind == OP_MATMUL) return build_matmul(l, p, i);
    if (rope_kv_follows(p, i)) {
        (void)append(l, TASK_ROPE_KV, p, i, 3);
        return 3;
    }
    task *t = append(l, simple[o->kind], p, i, 1);
    if (o->kind == OP_NORM_RMS || o->kind == OP_ACT_MUL) {
        /* only when the next op is the reader, so that the shadow is still whole then */
        const op *next = i + 1 < p->ops_count ? &p->ops[i + 1] : NULL;
        t->quantize = next != NULL && next->kind == OP_MATMUL && next->in[0] == o->out &&
                      wants_int16(p, o->out);
    }
    return 1;
}

status cpu_tasks_build(task_list *out, const program *p, error *err) {
    /* a matmul may need a quantize task before it */
    task_list l = {.tasks = mem_try_calloc((size_t)p->ops_count * 2, sizeof(task))};
    if (l.tasks == NULL) return error_set(err, ERR_NOMEM, "cpu: no memory for the tasks");
    for (uint32_t i = 0; i < p->ops_count;) i += build_next(&l, p, i);
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].kind == OP_MATMUL) l.any_quantized |= cpu_weight_is_block(p->ops[i].w.type);
    *out = l;
    return OK;
}
