/* test_load.c - what an engine does before its first request: read the weights, one step. */
#include "engine/engine.h"

#include "base/log.h"
#include "engine/read_ahead.h"
#include "engine_rig.h"
#include "test.h"

typedef struct told {
    uint32_t calls;
    uint64_t last, total;
    uint32_t stop_after; /* calls; 0: never */
    bool ascending;
} told;

static bool tell(void *ctx, uint64_t done, uint64_t total) {
    told *t = ctx;
    t->ascending = t->ascending && done >= t->last && done <= total;
    t->calls++;
    t->last = done;
    t->total = total;
    return t->stop_after == 0 || t->calls < t->stop_after;
}

static engine *open_tiny(model **m) {
    engine *e = NULL;
    error err = {0};
    engine_options o = rig_options(&rig_engines[1], DTYPE_F32, 64);
    CHECK_EQ(model_open(m, "synth:tiny:f32", &err), OK);
    CHECK_EQ(engine_open(&e, *m, &o, &err), OK);
    return e;
}

TEST(engine_load_reads_all_weights_and_tells_how_far) {
    model *m = NULL;
    engine *e = open_tiny(&m);
    told t = {.ascending = true};
    error err = {0};
    CHECK_EQ(engine_load(e, &(backend_progress){tell, &t}, &err), OK);
    CHECK(t.calls > 10 && t.ascending);
    const model_hparams *h = &m->hparams; /* norms are few, and in memory already */
    uint64_t norms = (2 * h->layers + 1) * (uint64_t)h->n_embd * sizeof(float);
    CHECK(t.total + norms >= m->weight_bytes); /* a tied output is read twice */
    engine_close(e);
    model_close(m);
}

TEST(engine_load_stops_when_it_is_told_to) {
    model *m = NULL;
    engine *e = open_tiny(&m);
    told t = {.ascending = true, .stop_after = 3};
    error err = {0};
    CHECK_EQ(engine_load(e, &(backend_progress){tell, &t}, &err), ERR_CANCELED);
    CHECK_EQ(t.calls, 3);
    engine_close(e);
    model_close(m);
}

/* An embedding, whose rows are looked up, and a matrix of F32; *p is the caller's. */
static void record_two(program **p) {
    static float data[32 * 32];
    const program_limits max = {.rows = 1, .taken = 1, .head = 1, .ctx = 32};
    const weight w = {.type = DTYPE_F32, .rows = 32, .cols = 32, .data = data};
    CHECK_EQ(program_create(p, &max, NULL), OK);
    const value_id x = pg_take_rows(*p, pg_embed(*p, w));
    CHECK_EQ(program_finish(*p, x, pg_matmul(*p, pg_take_rows(*p, x), w, NULL), NULL), OK);
}

TEST(read_ahead_reads_what_there_is_room_for) {
    program *p = NULL;
    record_two(&p);
    const backend_place host = {.ops = &backend_cpu, .p = p},
                        device = {.ops = &backend_cuda, .p = p, .on_device = true};
    const uint64_t bytes = 32 * 32 * sizeof(float);
    told t = {.ascending = true};
    const backend_progress progress = {tell, &t};
    CHECK_EQ(read_ahead_all_bytes(&host, 1), 2 * bytes);
    CHECK_EQ(read_ahead_bytes(&host, 1), bytes);
    CHECK_EQ(read_ahead_bytes(&device, 1), 0);
    CHECK_EQ(read_ahead(&device, 1, 0, &progress, 0, 1, NULL), OK);
    log_set_level(LOG_ERROR);
    CHECK_EQ(read_ahead(&host, 1, bytes - 1, &progress, 0, bytes, NULL), OK);
    log_set_level(LOG_INFO);
    CHECK_EQ(t.calls, 0);
    CHECK_EQ(read_ahead(&host, 1, bytes, &progress, 0, bytes, NULL), OK);
    CHECK_EQ(t.calls, 1);
    program_destroy(p);
}

TEST(engine_warm_up_leaves_nothing_behind) {
    model *m = NULL;
    engine *e = open_tiny(&m);
    error err = {0};
    uint32_t free_before = kv_blocks_free(engine_kv(e));
    CHECK_EQ(engine_warm_up(e, &err), OK);
    CHECK_EQ(kv_blocks_free(engine_kv(e)), free_before);
    engine_close(e);
    model_close(m);
}
