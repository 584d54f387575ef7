/* backend_rig.c - see backend_rig.h. */
#include "cudasim/backend_rig.h"

#include <stdlib.h>
#include <string.h>

lab *lab_begin(uint32_t rows, uint32_t ctx_max) {
    lab *l = calloc(1, sizeof *l);
    l->random.state = 1;
    l->p = krig_program(ctx_max);
    krig_batch_init(&l->in, rows);
    for (uint32_t r = 0; r < rows; r++) l->in.pos[r] = r;
    l->seats = 1;
    return l;
}

value_id lab_input(lab *l, uint32_t cols) {
    return pg_embed(l->p, krig_table(&l->weights, &l->random, RIG_ROWS_MAX, cols));
}

void lab_kv(lab *l, kv_layout layout, uint32_t seats, uint32_t tokens) {
    krig_batch_kv(&l->in, &l->random, layout, seats, tokens);
    l->kv = layout;
    l->seats = seats;
    l->kv_tokens = tokens;
    l->in.rows = l->in.taken_rows = 0; /* lab_run() adds them */
}

void lab_run(lab *l, uint32_t seat, uint32_t pos0, uint32_t rows) {
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t r = l->in.rows++;
        l->in.tokens[r] = (int32_t)((seat * 16 + pos0 + i) % RIG_ROWS_MAX);
        l->in.pos[r] = pos0 + i;
        l->in.seats[r] = seat;
        l->in.taken[l->in.taken_rows++] = r;
    }
}

void lab_finish(lab *l, value_id v) { (void)krig_finish(l->p, v); }

/* --- machines -------------------- */

bool lab_open(const lab *l, const backend_ops *ops, lab_machine *out) {
    const backend_options opt = {
        .threads = 1, .fast = l->fast, .kv_type = l->kv.type, .no_pdl = l->no_pdl};
    error err = {0};
    *out = (lab_machine){.ops = ops};
    const size_t blocks = (size_t)l->seats * l->in.kv.table_stride;
    const size_t kv_bytes = l->kv.kv_heads == 0 ? 0 : blocks * kv_block_bytes(&l->kv);
    const size_t state_bytes = l->seats * l->p->state_floats * sizeof(float);
    status st = ops->open(&out->b, l->p, &opt, &err);
    if (st == OK) st = ops->memory(out->b, kv_bytes, state_bytes, &out->kv, &out->states, &err);
    if (st == OK) st = ops->load(out->b, NULL, &err);
    if (st == OK) return true;
    (void)fprintf(stderr, "%s: %s\n", ops->name, err.msg);
    CHECK(st == OK);
    lab_close(out);
    return false;
}

const float *lab_step(lab *l, const lab_machine *m) {
    void *own = l->in.kv.blocks;
    const krig_machine machine = {.name = m->ops->name, .ops = m->ops};
    l->in.kv.blocks = m->kv;
    l->in.states = m->states;
    const step_result result = krig_step_both(&machine, m->b, &l->in);
    l->in.kv.blocks = own;
    if (result.fault != NULL) (void)fprintf(stderr, "%s: %s\n", m->ops->name, result.fault->msg);
    CHECK(result.fault == NULL);
    return result.fault == NULL ? result.hidden : NULL;
}

void lab_step_rows(const lab *l, const lab_machine *m, const bool *is_prompt, uint32_t first,
                   uint32_t end, float *out) {
    lab part = *l;
    const size_t cols = krig_cols(l->p);
    part.in.rows = part.in.taken_rows = end - first;
    for (uint32_t i = 0; i < end - first; i++) {
        part.in.tokens[i] = l->in.tokens[first + i];
        part.in.pos[i] = l->in.pos[first + i];
    }
    part.in.prompt = is_prompt + first;
    const float *got = lab_step(&part, m);
    if (got != NULL) memcpy(out + first * cols, got, (end - first) * cols * sizeof *got);
}

void lab_close(lab_machine *m) {
    if (m->b != NULL) m->ops->close(m->b);
    *m = (lab_machine){0};
}

void lab_free(lab *l) {
    program_destroy(l->p);
    krig_batch_deinit(&l->in);
    krig_weights_deinit(&l->weights);
    free(l);
}

/* --- comparing -------------------- */

double lab_generated_nmse_max(dtype type, bool as_f16) {
    if (as_f16) return 1e-9;
    return type == DTYPE_F16 || type == DTYPE_BF16 ? 1e-11 : 0;
}

void lab_end_at(lab *l, value_id v, double nmse_max, const char *file, int line) {
    lab_machine cuda, ref;
    lab_finish(l, v);
    if (lab_open(l, &backend_cuda, &cuda)) {
        const bool opened = lab_open(l, &backend_ref, &ref);
        CHECK(opened);
        const float *got = lab_step(l, &cuda), *want = lab_step(l, &ref);
        const size_t count = (size_t)l->in.taken_rows * krig_cols(l->p);
        const double nmse = got != NULL ? krig_nmse(got, want, count) : 0;
        if (!(nmse <= nmse_max))
            (void)fprintf(stderr, "%s:%d: nmse %g, at most %g\n", file, line, nmse, nmse_max);
        CHECK(nmse <= nmse_max);
        lab_close(&cuda);
        lab_close(&ref);
    }
    lab_free(l);
    CHECK_EQ(host.leaks(), 0);
}
