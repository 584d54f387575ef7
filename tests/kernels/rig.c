/* rig.c - see rig.h. */
#include "rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "model/synth_internal.h"
#include "tensor/convert.h"
#include "tensor/quant.h"
#include "test.h"

#define CLASS(name, isa)                                                     \
    {name ", 1 thread", &backend_cpu, {.threads = 1, .isa_cap = (isa)}}, {   \
        name ", 2 threads", &backend_cpu, { .threads = 2, .isa_cap = (isa) } \
    }
const krig_machine krig_machines[RIG_MACHINES] = {
    {"ref", &backend_ref, {.threads = 1}},
    CLASS("scalar", CPU_ISA_SCALAR),
#if defined(__x86_64__)
    CLASS("avx2", CPU_ISA_AVX2),
#else
    CLASS("best", CPU_ISA_AUTO),
#endif
    CLASS("best", CPU_ISA_AUTO),
};
#undef CLASS

/* --- random numbers -------------------- */

uint32_t krig_u32(krig_random *r, uint32_t below) {
    r->state = r->state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((r->state >> 33) % below);
}

float krig_uniform(krig_random *r) { return (float)krig_u32(r, 1 << 24) / (float)(1 << 23) - 1.0f; }

/* The sum of 12 uniform numbers of variance 1/3 each, scaled: nearly normal. */
void krig_normal(krig_random *r, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float sum = 0;
        for (int k = 0; k < 12; k++) sum += krig_uniform(r);
        out[i] = sum * 0.5f;
    }
}

void krig_shuffle(krig_random *r, uint32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) ids[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t k = krig_u32(r, i), t = ids[k];
        ids[k] = ids[i - 1];
        ids[i - 1] = t;
    }
}

/* --- weights -------------------- */

void *krig_memory(krig_weights *list, size_t bytes) {
    ASSERT(list->count < sizeof list->owned / sizeof list->owned[0]);
    void *p = calloc(1, bytes > 0 ? bytes : 1);
    ASSERT(p != NULL);
    return list->owned[list->count++] = p;
}

/* Types whose quantizer is quick are rounded from normal numbers, the others made directly. */
static void fill_weight_row(krig_random *r, dtype type, uint32_t j, uint32_t cols, void *row) {
    const float sigma = 1.0f / sqrtf((float)cols);
    const bool is_block = dtype_get((uint32_t)type)->block_elems > 1;
    if ((is_block && type != DTYPE_Q8_0 && type != DTYPE_Q4_0) || type == DTYPE_F64) {
        synth_fill_row(type, krig_u32(r, 1 << 30), j, sigma, cols, row);
        return;
    }
    float *f32 = malloc(cols * sizeof *f32);
    krig_normal(r, f32, cols);
    for (uint32_t c = 0; c < cols; c++) f32[c] *= sigma;
    quant_row(type, f32, NULL, row, cols);
    free(f32);
}

weight krig_weight(krig_weights *list, krig_random *r, dtype type, uint32_t rows, uint32_t cols) {
    uint64_t row_bytes = 0;
    bool whole = dtype_row_bytes(type, cols, &row_bytes);
    ASSERT(whole);
    char *data = krig_memory(list, (size_t)row_bytes * rows);
    for (uint32_t j = 0; j < rows; j++) fill_weight_row(r, type, j, cols, data + row_bytes * j);
    return (weight){.type = type, .rows = rows, .cols = cols, .data = data};
}

weight krig_table(krig_weights *list, krig_random *r, uint32_t rows, uint32_t cols) {
    float *data = krig_memory(list, (size_t)rows * cols * sizeof *data);
    krig_normal(r, data, (size_t)rows * cols);
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = cols, .data = data};
}

weight krig_table_of(krig_weights *list, const float *values, uint32_t rows, uint32_t cols) {
    size_t bytes = (size_t)rows * cols * sizeof *values;
    const void *data = memcpy(krig_memory(list, bytes), values, bytes);
    return (weight){.type = DTYPE_F32, .rows = rows, .cols = cols, .data = data};
}

const float *krig_vector(krig_weights *list, krig_random *r, uint32_t count) {
    return krig_table(list, r, 1, count).data;
}

op_rope krig_rope(krig_weights *list, uint32_t heads, uint32_t head_dim, uint32_t dims,
                  double base) {
    double *freqs = krig_memory(list, dims / 2 * sizeof *freqs);
    for (uint32_t i = 0; i < dims / 2; i++) freqs[i] = pow(base, -2.0 * i / dims);
    return (op_rope){
        .heads = heads, .head_dim = head_dim, .dims = dims, .freqs = freqs, .magnitude = 1.0f};
}

void krig_weights_deinit(krig_weights *list) {
    while (list->count > 0) free(list->owned[--list->count]);
}

/* --- batches -------------------- */

void krig_batch_init(krig_batch *b, uint32_t rows) {
    ASSERT(rows <= RIG_ROWS_MAX);
    *b = (krig_batch){.rows = rows, .taken_rows = rows};
    for (uint32_t r = 0; r < rows; r++) {
        b->tokens[r] = (int32_t)r;
        b->taken[r] = r;
    }
}

void krig_batch_kv(krig_batch *b, krig_random *r, kv_layout layout, uint32_t seats,
                   uint32_t tokens) {
    uint32_t stride = tokens / KV_BLOCK_TOKENS + (tokens % KV_BLOCK_TOKENS != 0);
    uint32_t *tables = malloc((size_t)seats * stride * sizeof *tables);
    krig_shuffle(r, tables, seats * stride);
    b->kv = (kv_view){.layout = layout,
                      .blocks = calloc((size_t)seats * stride, kv_block_bytes(&layout)),
                      .tables = tables,
                      .table_stride = stride};
}

void krig_batch_deinit(krig_batch *b) {
    free(b->kv.blocks);
    free((void *)(uintptr_t)b->kv.tables);
}

/* --- running -------------------- */

program *krig_program(uint32_t ctx_max) {
    program *p = NULL;
    program_limits max = {.rows = RIG_ROWS_MAX,
                          .taken = RIG_ROWS_MAX,
                          .head = RIG_ROWS_MAX,
                          .ctx = ctx_max,
                          .lora_rank = RIG_LORA_RANK};
    status st = program_create(&p, &max, NULL);
    ASSERT(st == OK);
    return p;
}

uint32_t krig_finish(program *p, value_id v) {
    value_id out = pg_take_rows(p, v);
    status st = program_finish(p, out, VALUE_NONE, NULL);
    ASSERT(st == OK);
    return krig_cols(p);
}

uint32_t krig_cols(const program *p) { return p->values[p->hidden].cols; }

value_id krig_norm_rms(program *p, value_id x, const float *gain) {
    uint32_t cols = p->values[x].cols;
    op_norm norm = {.group = cols, .eps = 1e-5f, .gain = gain, .gain_len = cols};
    return pg_norm(p, x, norm);
}

value_id krig_silu_mul(program *p, value_id gate, value_id up) {
    return pg_act_mul(p, gate, up, (op_act){.kind = ACT_SILU});
}

backend *krig_open(const krig_machine *m, const program *p) {
    backend *b = NULL;
    error err = {0};
    status st = m->ops->open(&b, p, &m->options, &err);
    if (st != OK) (void)fprintf(stderr, "%s: %s\n", m->name, err.msg);
    ASSERT(st == OK);
    return b;
}

static uint32_t find_runs(const krig_batch *in, batch_run *runs) {
    uint32_t count = 0;
    for (uint32_t r = 0; r < in->rows; r++) {
        if (r > 0 && in->seats[r] == in->seats[r - 1] && in->pos[r] == in->pos[r - 1] + 1)
            runs[count - 1].rows++;
        else
            runs[count++] =
                (batch_run){.row0 = r, .rows = 1, .seat = in->seats[r], .pos0 = in->pos[r]};
    }
    return count;
}

step_result krig_step_both(const krig_machine *m, backend *b, const krig_batch *in) {
    batch_run runs[RIG_ROWS_MAX];
    batch view = {.runs_count = find_runs(in, runs),
                  .runs = runs,
                  .rows = in->rows,
                  .tokens = in->tokens,
                  .pos = in->pos,
                  .seats = in->seats,
                  .taken_rows = in->taken_rows,
                  .taken = in->taken,
                  .head_rows = in->head_rows,
                  .head = in->head,
                  .best = in->best,
                  .states = in->states,
                  .prompt = in->prompt,
                  .loras = in->use_loras ? in->loras : NULL,
                  .kv = in->kv};
    return m->ops->step(b, &view);
}

const float *krig_step(const krig_machine *m, backend *b, const krig_batch *in) {
    return krig_step_both(m, b, in).hidden;
}

float *krig_run(const krig_machine *m, const program *p, const krig_batch *in) {
    backend *b = krig_open(m, p);
    size_t bytes = (size_t)in->taken_rows * krig_cols(p) * sizeof(float);
    float *out = malloc(bytes);
    memcpy(out, krig_step(m, b, in), bytes);
    m->ops->close(b);
    return out;
}

double krig_nmse_max(dtype t) {
    return backend_cpu.path(t) == BACKEND_PATH_REPACKED ? 1e-8 : 1e-11;
}

double krig_nmse(const float *a, const float *b, size_t count) {
    double wrong = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)b[i];
        wrong += d * d;
        all += (double)b[i] * (double)b[i];
    }
    return all > 0 ? wrong / all : wrong;
}

void krig_check_all(const program *p, const krig_batch *in, double nmse_max, const char *what) {
    size_t count = (size_t)in->taken_rows * krig_cols(p);
    float *want = krig_run(&krig_machines[0], p, in);
    for (int i = 1; i < RIG_MACHINES; i += 2) {
        float *one = krig_run(&krig_machines[i], p, in);
        float *two = krig_run(&krig_machines[i + 1], p, in);
        double nmse = krig_nmse(one, want, count);
        bool good = nmse <= nmse_max, same = memcmp(one, two, count * sizeof *one) == 0;
        if (!good || !same)
            (void)fprintf(stderr, "%s on %s: nmse %g, at most %g; threads agree: %d\n", what,
                          krig_machines[i].name, nmse, nmse_max, same);
        CHECK(good);
        CHECK(same);
        free(one);
        free(two);
    }
    free(want);
}
