/* cpu_rope.c - see cpu_rope.h. */
#include "backend/cpu/cpu_rope.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

static bool same_table(const op_rope *a, const op_rope *b) {
    return a->dims == b->dims && a->magnitude == b->magnitude &&
           (a->freqs == b->freqs ||
            memcmp(a->freqs, b->freqs, a->dims / 2 * sizeof *a->freqs) == 0);
}

static uint16_t find_or_add(rope_tables *t, const op_rope *attrs) {
    for (uint32_t i = 0; i < t->count; i++)
        if (same_table(&t->tables[i].attrs, attrs)) return (uint16_t)i;
    t->tables[t->count].attrs = *attrs;
    return (uint16_t)t->count++;
}

status rope_tables_init(rope_tables *t, const program *p, error *err) {
    uint32_t ropes = 1; /* calloc of nothing may give NULL */
    for (uint32_t i = 0; i < p->ops_count; i++) ropes += p->ops[i].kind == OP_ROPE;
    *t = (rope_tables){.tables = mem_try_calloc(ropes, sizeof *t->tables),
                       .of_op = mem_try_calloc((size_t)p->ops_count + 1, sizeof *t->of_op)};
    if (t->tables == NULL || t->of_op == NULL) {
        rope_tables_deinit(t);
        return error_set(err, ERR_NOMEM, "cpu: no memory for %u rope ops", ropes - 1);
    }
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].kind == OP_ROPE) t->of_op[i] = find_or_add(t, &p->ops[i].rope);
    return OK;
}

void rope_tables_deinit(rope_tables *t) {
    mem_free(t->tables);
    mem_free(t->of_op);
    *t = (rope_tables){0};
}

void rope_tables_fill(const rope_tables *t, uint32_t r, uint32_t pos) {
    for (uint32_t i = 0; i < t->count; i++) {
        const op_rope *a = &t->tables[i].attrs;
        float *cs = t->tables[i].cos_sin + (size_t)r * a->dims;
        for (size_t k = 0; k < a->dims / 2; k++) {
            double angle = pos * a->freqs[k], magnitude = (double)a->magnitude;
            cs[2 * k] = (float)(magnitude * cos(angle));
            cs[2 * k + 1] = (float)(magnitude * sin(angle));
        }
    }
}

/* Pairs of neighbours. */
static void turn_adjacent(const float *cs, uint32_t dims, const float *x, float *y) {
    for (uint32_t i = 0; i < dims; i += 2) {
        float x0 = x[i], x1 = x[i + 1], c = cs[i], s = cs[i + 1];
        y[i] = x0 * c - x1 * s;
        y[i + 1] = x0 * s + x1 * c;
    }
}

/* Pairs of the same place in both halves. */
static void turn_halves(const float *cs, uint32_t dims, const float *x, float *y) {
    const uint32_t half = dims / 2;
    for (size_t i = 0; i < half; i++) {
        float x0 = x[i], x1 = x[i + half], c = cs[2 * i], s = cs[2 * i + 1];
        y[i] = x0 * c - x1 * s;
        y[i + half] = x0 * s + x1 * c;
    }
}

void rope_turn(const op_rope *a, const float *cos_sin, const float *x, float *y) {
    const uint32_t end = a->first + a->dims;
    for (uint32_t h = 0; h < a->heads; h++, x += a->head_dim, y += a->head_dim) {
        if (a->pairs == ROPE_ADJACENT)
            turn_adjacent(cos_sin, a->dims, x + a->first, y + a->first);
        else
            turn_halves(cos_sin, a->dims, x + a->first, y + a->first);
        if (y == x) continue;
        memcpy(y, x, a->first * sizeof *x);
        memcpy(y + end, x + end, (a->head_dim - end) * sizeof *x);
    }
}
