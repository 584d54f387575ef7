/* engine.c - see engine.h. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "base/os.h"
#include "engine/forward.h"

struct engine {
    const model *m; /* borrowed */
    engine_options opt;
    mem_plan plan;
    kv_layout layout;
    program *program;
    backend *backend;
    kv_pool *kv;
    void *blocks;    /* owned pages; [plan.kv_blocks] of kv_block_bytes() */
    int32_t *tokens; /* [rows_max] */
    uint32_t *pos;   /* [rows_max] */
    uint32_t *seats; /* [rows_max] */
    uint32_t *taken; /* [rows_max] */
};

/* Of the memory that is free, the KV cache gets at most this much. */
static const double kv_memory_share = 0.8;

/* --- planning -------------------- */

static kv_layout layout_of(const model *m, dtype kv_type) {
    return (kv_layout){.type = kv_type,
                       .layers = m->hparams.layers,
                       .kv_heads = m->hparams.kv_heads,
                       .head_dim = m->hparams.head_dim};
}

static uint64_t kv_bytes_limit(const model *m, const engine_options *opt, uint64_t workspace) {
    if (opt->kv_bytes_max != 0) return opt->kv_bytes_max;
    uint64_t available = os_memory_available(),
             needed = m->weight_bytes + workspace + opt->spoken_for_bytes;
    return available > needed ? (uint64_t)((double)(available - needed) * kv_memory_share) : 0;
}

static status plan_kv(const model *m, const engine_options *opt, mem_plan *plan, error *err) {
    kv_layout layout = layout_of(m, opt->kv_type);
    uint64_t block_bytes = kv_block_bytes(&layout);
    uint64_t seat_blocks = kv_blocks_for(plan->ctx_max);
    uint64_t wanted = seat_blocks * plan->seats;
    uint64_t affordable = kv_bytes_limit(m, opt, plan->workspace_bytes) / block_bytes;
    uint64_t blocks = num_min_u64(num_min_u64(wanted, affordable), UINT32_MAX);
    if (blocks < seat_blocks)
        return error_set(err, ERR_NOMEM,
                         "kv: one sequence of %u tokens needs %llu bytes, %llu may be used: lower "
                         "--ctx, or raise --kv-bytes-max or memory",
                         plan->ctx_max, (unsigned long long)(seat_blocks * block_bytes),
                         (unsigned long long)(affordable * block_bytes));
    plan->kv_blocks = (uint32_t)blocks;
    plan->kv_bytes = blocks * block_bytes;
    plan->kv_cut = blocks < wanted;
    return OK;
}

/* The plan and the program it stands on. */
static status plan_with_program(const model *m, const engine_options *opt, mem_plan *plan,
                                program **p, error *err) {
    *plan = (mem_plan){.weights_bytes = m->weight_bytes,
                       .ctx_max = opt->ctx_max != 0 ? opt->ctx_max : m->hparams.ctx_train,
                       .seats = opt->seats};
    backend_options bopt = {.threads = opt->threads, .isa_cap = opt->isa_cap};
    size_t workspace = 0;
    TRY(forward_record(p, m, opt->rows_max, opt->taken_rows_max, plan->ctx_max, err));
    status st = opt->backend->plan(*p, &bopt, &workspace, err);
    plan->workspace_bytes = workspace;
    if (st == OK) st = plan_kv(m, opt, plan, err);
    if (st != OK) program_destroy(*p);
    return st;
}

status engine_plan(const model *m, const engine_options *opt, mem_plan *out, error *err) {
    program *p = NULL;
    TRY(plan_with_program(m, opt, out, &p, err));
    program_destroy(p);
    return OK;
}

/* --- life cycle -------------------- */

static status open_rows(engine *e, error *err) {
    size_t n = e->opt.rows_max;
    e->tokens = mem_try_calloc(n, sizeof *e->tokens);
    e->pos = mem_try_calloc(n, sizeof *e->pos);
    e->seats = mem_try_calloc(n, sizeof *e->seats);
    e->taken = mem_try_calloc(n, sizeof *e->taken);
    if (e->tokens == NULL || e->pos == NULL || e->seats == NULL || e->taken == NULL)
        return error_set(err, ERR_NOMEM, "engine: no memory for %zu rows", n);
    return OK;
}

status engine_open(engine **out, const model *m, const engine_options *opt, error *err) {
    ASSERT(opt->seats > 0 && opt->rows_max > 0 && opt->taken_rows_max <= opt->rows_max);
    engine *e = mem_try_calloc(1, sizeof *e);
    if (e == NULL) return error_set(err, ERR_NOMEM, "engine: no memory");
    e->m = m;
    e->opt = *opt;
    e->layout = layout_of(m, opt->kv_type);
    backend_options bopt = {.threads = opt->threads, .isa_cap = opt->isa_cap};
    status st = plan_with_program(m, opt, &e->plan, &e->program, err);
    if (st != OK) {
        mem_free(e);
        return st;
    }
    st = opt->backend->open(&e->backend, e->program, &bopt, err);
    if (st == OK)
        st = kv_pool_create(&e->kv, e->plan.kv_blocks, opt->seats, kv_blocks_for(e->plan.ctx_max),
                            err);
    if (st == OK) st = os_map_pages((size_t)e->plan.kv_bytes, &e->blocks, err);
    if (st == OK) st = open_rows(e, err);
    if (st != OK) {
        engine_close(e);
        return st;
    }
    *out = e;
    return OK;
}

void engine_close(engine *e) {
    if (e == NULL) return;
    if (e->backend != NULL) e->opt.backend->close(e->backend);
    program_destroy(e->program);
    kv_pool_destroy(e->kv);
    os_unmap(e->blocks, (size_t)e->plan.kv_bytes);
    mem_free(e->tokens);
    mem_free(e->pos);
    mem_free(e->seats);
    mem_free(e->taken);
    mem_free(e);
}

/* --- stepping -------------------- */

const float *engine_step(engine *e, const engine_row *rows, uint32_t count) {
    ASSERT(count > 0 && count <= e->opt.rows_max);
    mem_freeze("step");
    batch b = {.rows = count,
               .tokens = e->tokens,
               .pos = e->pos,
               .seats = e->seats,
               .taken = e->taken,
               .kv = {.layout = e->layout,
                      .blocks = e->blocks,
                      .tables = kv_tables(e->kv),
                      .table_stride = kv_seat_blocks_max(e->kv)}};
    for (uint32_t i = 0; i < count; i++) {
        ASSERT(rows[i].token >= 0 && (uint32_t)rows[i].token < e->m->hparams.vocab);
        ASSERT(rows[i].pos < kv_seat_tokens(e->kv, rows[i].seat));
        e->tokens[i] = rows[i].token;
        e->pos[i] = rows[i].pos;
        e->seats[i] = rows[i].seat;
        if (rows[i].wants_logits) e->taken[b.taken_rows++] = i;
    }
    ASSERT(b.taken_rows <= e->opt.taken_rows_max);
    const float *logits = e->opt.backend->step(e->backend, &b);
    mem_thaw();
    return logits;
}

kv_pool *engine_kv(engine *e) { return e->kv; }
const mem_plan *engine_mem_plan(const engine *e) { return &e->plan; }
uint32_t engine_vocab(const engine *e) { return e->m->hparams.vocab; }
void engine_report(const engine *e, backend_report *out) {
    e->opt.backend->report(e->backend, out);
}

/* --- before the first step -------------------- */

static size_t weight_bytes(const weight *w) {
    uint64_t row = 0;
    bool stored = w->data != NULL && dtype_row_bytes(w->type, w->cols, &row);
    return stored ? (size_t)(w->rows * row) : 0;
}

static uint64_t program_weight_bytes(const program *p) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < p->ops_count; i++) total += weight_bytes(&p->ops[i].w);
    return total;
}

void engine_log_weights(const engine *e) { backend_log_weights(e->opt.backend, e->program); }

status engine_prefault(const engine *e, const engine_progress *p, error *err) {
    enum { PAGE = 4096, CHUNK = 8 << 20 };
    uint64_t total = program_weight_bytes(e->program), done = 0;
    if (total > os_memory_available()) return OK;
    for (uint32_t i = 0; i < e->program->ops_count; i++) {
        const volatile char *data = e->program->ops[i].w.data;
        size_t bytes = weight_bytes(&e->program->ops[i].w);
        for (size_t at = 0; at < bytes; at += PAGE) {
            (void)data[at];
            if (at % CHUNK == 0 && !p->tell(p->ctx, done + at, total))
                return error_set(err, ERR_CANCELED, "engine: stopped while reading the weights");
        }
        done += bytes;
    }
    return OK;
}

status engine_warm_up(engine *e, error *err) {
    engine_row row = {.wants_logits = e->opt.taken_rows_max > 0};
    status st = kv_seat_grow(e->kv, 0, 1, err);
    if (st == OK) (void)engine_step(e, &row, 1);
    kv_seat_clear(e->kv, 0);
    return st;
}
