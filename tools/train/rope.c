/* rope.c - rotary positions: pair i of a head turns by position * base^(-2i / head_dim). */
#include <math.h>

#include "base/alloc.h"
#include "train/layers.h"
#include "train/slices.h"

status rope_table_init(rope_table *t, uint32_t ctx, uint32_t head_dim, float base, error *err) {
    const uint32_t pairs = head_dim / 2;
    size_t count = 0;
    float *both = num_mul_size(&count, ctx, pairs) ? mem_try_calloc(count, 2 * sizeof *both) : NULL;
    if (both == NULL) return error_set(err, ERR_NOMEM, "train: no memory for %u positions", ctx);
    *t = (rope_table){.ctx = ctx, .pairs = pairs, .cos = both, .sin = both + count};
    for (uint32_t i = 0; i < pairs; i++) {
        const double turn = pow((double)base, -2.0 * i / head_dim);
        for (size_t p = 0; p < ctx; p++) {
            t->cos[p * pairs + i] = (float)cos((double)p * turn);
            t->sin[p * pairs + i] = (float)sin((double)p * turn);
        }
    }
    return OK;
}

void rope_table_deinit(rope_table *t) {
    mem_free(t->cos);
    *t = (rope_table){0};
}

typedef struct rope_job {
    const rope_table *table;
    const uint32_t *positions;
    float *x;
    uint32_t n, heads;
    float sign; /* of the angle */
} rope_job;

static void turn_head(const rope_job *j, uint32_t position, float *x) {
    const uint32_t pairs = j->table->pairs;
    const float *cosine = j->table->cos + (size_t)position * pairs;
    const float *sine = j->table->sin + (size_t)position * pairs;
    for (size_t i = 0; i < pairs; i++) {
        const float c = cosine[i], s = sine[i] * j->sign;
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * c - b * s;
        x[2 * i + 1] = a * s + b * c;
    }
}

static void turn_slice(void *arg, uint32_t index, void *scratch) {
    const rope_job *j = arg;
    const slice s = slice_of(index, SLICE_ROWS, j->n);
    const size_t head = 2 * (size_t)j->table->pairs;
    (void)scratch;
    for (size_t t = s.begin; t < s.begin + s.count; t++)
        for (uint32_t h = 0; h < j->heads; h++)
            turn_head(j, j->positions[t], j->x + (t * j->heads + h) * head);
}

void rope_apply(const crew *c, const rope_table *t, const uint32_t *positions, float *x, uint32_t n,
                uint32_t heads, bool back) {
    rope_job j = {t, positions, x, n, heads, back ? -1.0f : 1.0f};
    slices_run(c, n, SLICE_ROWS, turn_slice, &j);
}
