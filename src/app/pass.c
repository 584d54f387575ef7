/* pass.c - see pass.h. */
#include "app/pass.h"

#include "base/assert.h"
#include "base/num.h"

status pass_run(pass *p, const int32_t *ids, uint32_t count, bool all, uint32_t chunk_rows_max,
                pass_fn *fn, void *ctx, error *err) {
    kv_pool *kv = engine_kv(p->engine);
    ASSERT(chunk_rows_max > 0);
    kv_seat_clear(kv, 0);
    for (uint32_t from = 0; from < count;) {
        uint32_t n = num_min_u32(num_min_u32(count - from, chunk_rows_max), PASS_ROWS_MAX);
        TRY(kv_seat_grow(kv, 0, from + n, err));
        for (uint32_t i = 0; i < n; i++)
            p->rows[i] = (engine_row){.token = ids[from + i],
                                      .pos = from + i,
                                      .wants_logits = all || from + i + 1 == count};
        const float *logits = engine_step(p->engine, p->rows, n);
        if (all)
            TRY(fn(ctx, logits, from, n, err));
        else if (from + n == count)
            TRY(fn(ctx, logits, count - 1, 1, err));
        from += n;
    }
    return OK;
}
