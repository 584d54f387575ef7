/* engine_rig.c - see engine_rig.h. */
#include "engine/engine_rig.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "test.h"

#if defined(__x86_64__)
#define BEST CPU_ISA_AVX2
#else
#define BEST CPU_ISA_AUTO
#endif

const rig_engine rig_engines[RIG_ENGINES] = {
    {"ref", &backend_ref, 1, CPU_ISA_AUTO},
    {"scalar, 1 thread", &backend_cpu, 1, CPU_ISA_SCALAR},
    {"scalar, 2 threads", &backend_cpu, 2, CPU_ISA_SCALAR},
    {"best, 1 thread", &backend_cpu, 1, BEST},
    {"best, 2 threads", &backend_cpu, 2, BEST},
};

engine_options rig_options(const rig_engine *e, dtype kv_type, uint32_t ctx_max) {
    return (engine_options){.backend = e->backend,
                            .threads = e->threads,
                            .isa_cap = e->isa_cap,
                            .kv_type = kv_type,
                            .ctx_max = ctx_max,
                            .seats = 8,
                            .rows_max = RIG_TOKENS_MAX,
                            .taken_rows_max = RIG_TOKENS_MAX};
}

void rig_advance(engine *e, rig_sequence *list, uint32_t count, uint32_t rows) {
    static engine_row step_rows[RIG_TOKENS_MAX];
    static uint32_t owner[RIG_TOKENS_MAX];
    uint32_t n = 0;
    size_t vocab = engine_vocab(e);
    for (uint32_t i = 0; i < count; i++) {
        rig_sequence *s = &list[i];
        uint32_t end = s->count - s->done < rows ? s->count : s->done + rows;
        status st = kv_seat_grow(engine_kv(e), s->seat, end, NULL);
        ASSERT(st == OK);
    }
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < count; i++) {
            rig_sequence *s = &list[i];
            if (s->done + r >= s->count) continue;
            ASSERT(n < RIG_TOKENS_MAX);
            step_rows[n] = (engine_row){s->ids[s->done + r], s->done + r, s->seat, true};
            owner[n++] = i;
        }
    }
    if (n == 0) return;
    const float *logits = engine_step(e, step_rows, n);
    for (uint32_t r = 0; r < n; r++) {
        rig_sequence *s = &list[owner[r]];
        memcpy(s->logits + step_rows[r].pos * vocab, logits + r * vocab, vocab * sizeof *logits);
        if (step_rows[r].pos >= s->done) s->done = step_rows[r].pos + 1;
    }
}

float *rig_all_logits(const model *m, const engine_options *opt, const int32_t *ids, uint32_t count,
                      uint32_t chunk) {
    engine *e = NULL;
    error err = {0};
    status st = engine_open(&e, m, opt, &err);
    if (st != OK) (void)fprintf(stderr, "%s\n", err.msg);
    CHECK_EQ(st, OK);
    if (st != OK) return NULL;
    rig_sequence s = {.ids = ids, .count = count, .seat = 3};
    s.logits = calloc((size_t)count * engine_vocab(e), sizeof *s.logits);
    while (s.done < count) rig_advance(e, &s, 1, chunk);
    engine_close(e);
    return s.logits;
}
