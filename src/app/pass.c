/* pass.c - see pass.h. */
#include "app/pass.h"

#include "base/assert.h"
#include "base/num.h"

status pass_chunk(pass *p, const int32_t *ids, uint32_t from, uint32_t count, pass_want want,
                  const float **logits, error *err) {
    kv_pool *kv = engine_kv(p->engine);
    ASSERT(count > 0 && count <= p->rows_max);
    if (from == 0) kv_seat_clear(kv, 0);
    TRY(kv_seat_grow(kv, 0, from + count, err));
    for (uint32_t i = 0; i < count; i++)
        p->rows[i] = (engine_row){.token = ids[i],
                                  .pos = from + i,
                                  .wants_logits = want == PASS_LOGITS,
                                  .wants_hidden = want == PASS_HIDDEN,
                                  .prompt = true,
                                  .lora = p->lora};
    *logits = engine_step(p->engine, p->rows, count);
    return engine_check(p->engine, err);
}

/* Up to where the chunk that begins at `from` goes.  The last token stands alone when only its
 * logits are wanted: the engine may have room for no more. */
static uint32_t chunk_end(uint32_t from, uint32_t count, bool all, uint32_t rows_max) {
    uint32_t end = from + num_min_u32(count - from, rows_max);
    return !all && end == count && from + 1 < count ? count - 1 : end;
}

status pass_run(pass *p, const int32_t *ids, uint32_t count, bool all, uint32_t chunk_rows_max,
                pass_fn *fn, void *ctx, error *err) {
    ASSERT(chunk_rows_max > 0);
    uint32_t rows_max = num_min_u32(chunk_rows_max, p->rows_max);
    for (uint32_t from = 0, end; from < count; from = end) {
        end = chunk_end(from, count, all, rows_max);
        bool wanted = all || end == count;
        const float *logits = NULL;
        TRY(pass_chunk(p, ids + from, from, end - from, wanted ? PASS_LOGITS : PASS_NOTHING,
                       &logits, err));
        if (wanted) TRY(fn(ctx, logits, from, end - from, err));
    }
    return OK;
}
