/* cpu_repack.c - see cpu_repack.h. */
#include "backend/cpu/cpu_repack.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"

enum { MATRIX_ALIGN = 4096, UNIT_GROUPS = 16 };

bool cpu_weight_packs(const weight *w) {
    return w->data != NULL && w->packed == NULL && pack_fits(w->type, w->cols);
}

/* --- which -------------------- */

static const weight *weights_of(const op *o, uint32_t *count) {
    *count = 0;
    if (o->kind == OP_MATMUL) *count = 1;
    if (o->kind == OP_EXPERTS) *count = o->experts.experts;
    return o->kind == OP_EXPERTS ? o->experts.w : &o->w;
}

static uint32_t count_matrices(const program *p) {
    uint32_t total = 0, count = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        (void)weights_of(&p->ops[i], &count);
        total += count;
    }
    return total;
}

static uint64_t stored_bytes(const weight *w) {
    uint64_t row = 0;
    const bool whole = dtype_row_bytes(w->type, w->cols, &row);
    ASSERT(whole);
    return row * w->rows;
}

static void add_matrix(pack_set *s, const weight *w) {
    pack_matrix *m = &s->list[s->count++];
    *m = (pack_matrix){.w = w};
    if (!cpu_weight_packs(w)) return;
    m->format = pack_format_of(w->type);
    m->group_bytes = pack_group_bytes(m->format, w->cols);
    s->bytes += num_align_size(pack_bytes(m->format, w->rows, w->cols), MATRIX_ALIGN);
    s->replaced_bytes += stored_bytes(w);
}

status pack_set_init(pack_set *s, const program *p, error *err) {
    *s = (pack_set){0};
    s->list = mem_try_calloc((size_t)count_matrices(p) + 1, sizeof *s->list);
    s->first = mem_try_calloc((size_t)p->ops_count + 1, sizeof *s->first);
    s->work = mem_try_alloc_aligned(64, sizeof *s->work);
    if (s->work != NULL) *s->work = (packing){0};
    if (s->list == NULL || s->first == NULL || s->work == NULL) {
        pack_set_deinit(s);
        return error_set(err, ERR_NOMEM, "cpu: no memory for a list of %u weights",
                         count_matrices(p));
    }
    for (uint32_t i = 0; i < p->ops_count; i++) {
        uint32_t count = 0;
        const weight *w = weights_of(&p->ops[i], &count);
        s->first[i] = s->count;
        for (uint32_t k = 0; k < count; k++) add_matrix(s, &w[k]);
    }
    return OK;
}

status pack_set_map(pack_set *s, error *err) {
    if (s->bytes == 0) return OK;
    TRY(os_map_pages(s->bytes, &s->memory, err));
    uint8_t *at = s->memory;
    for (uint32_t i = 0; i < s->count; i++) {
        pack_matrix *m = &s->list[i];
        if (m->format == NULL) continue;
        m->groups = at;
        at += num_align_size(pack_bytes(m->format, m->w->rows, m->w->cols), MATRIX_ALIGN);
    }
    return OK;
}

void pack_set_deinit(pack_set *s) {
    os_unmap(s->memory, s->bytes);
    mem_free(s->list);
    mem_free(s->first);
    mem_free(s->work);
    *s = (pack_set){0};
}

/* --- packing: units are runs of groups of one matrix -------------------- */

static uint32_t groups_of(const pack_matrix *m) { return num_div_up_u32(m->w->rows, PACK_ROWS); }

static void pack_units(void *ctx, uint32_t run, uint32_t worker) {
    packing *p = ctx;
    cpu_units unit;
    (void)worker;
    while (cpu_phase_claim(&p->phase, run, &unit)) {
        const pack_matrix *m = p->m;
        const uint32_t first = unit.first * UNIT_GROUPS;
        pack_groups(m->format, m->w->data, m->w->rows, m->w->cols, first,
                    num_min_u32(UNIT_GROUPS, groups_of(m) - first),
                    m->groups + first * m->group_bytes);
        cpu_phase_done(p->pool, &p->phase, unit.count);
    }
    (void)cpu_phase_wait(p->pool, &p->phase, run);
}

status pack_set_load(pack_set *s, cpu_pool *pool, const backend_progress *progress, error *err) {
    if (s->loaded || s->bytes == 0) return OK;
    /* workers may be on their way out of a run when the next one begins: what they look at lives
     * as long as the pool (cpu_pool.h) */
    packing *p = s->work;
    p->pool = pool; /* the same each time: a load that was stopped may be begun again */
    uint64_t done = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->list[i].format == NULL) continue;
        if (progress != NULL && !progress->tell(progress->ctx, done, s->replaced_bytes))
            return error_set(err, ERR_CANCELED, "cpu: stopped while repacking the weights");
        p->m = &s->list[i];
        cpu_phase_open(&p->phase, cpu_pool_next_run(pool),
                       num_div_up_u32(groups_of(p->m), UNIT_GROUPS), UINT32_MAX);
        cpu_pool_run(pool, pack_units, p);
        done += stored_bytes(p->m->w);
    }
    s->loaded = true;
    return OK;
}
