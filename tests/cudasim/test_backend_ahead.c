/* test_backend_ahead.c - steps that are begun while the one before them is computed: the tokens
 * that one step after the other gives, taken on the GPU from where the step before leaves them. */
#include <stdlib.h>
#include <string.h>

#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"
#include "engine/sampler.h"
#include "golden_paths.h"

enum { SEATS = 5, STEPS = 12, CTX = 64 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};
static const char *const deferred = "{\"gpus\":[{\"preset\":\"h100\"}],\"streams\":\"deferred\","
                                    "\"seed\":7}";

/* A crowd that gets smaller: sequence s ends after so many tokens. */
static const uint32_t lengths[SEATS] = {STEPS, 3, STEPS - 2, 7, STEPS};

typedef struct crowd {
    engine *e;
    sampler *sampler;
    bool drawn; /* tokens are, of every other sequence; else all are the best */
    int32_t ids[SEATS][STEPS + 1];
    engine_row rows[SEATS];
    sample_order orders[SEATS];
    sample_change changes[2 * SEATS];
    uint32_t seats[2][SEATS]; /* of the rows of step i, i % 2 */
    uint32_t counts[2];
} crowd;

static engine_options options(bool no_graphs) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, CTX);
    opt.rows_max = 16;
    opt.taken_rows_max = 8;
    opt.no_graphs = no_graphs;
    return opt;
}

/* The rule that the position and the sequence give, and nothing of the tokens before it. */
static void order(crowd *c, uint32_t seat, uint32_t step, engine_row *row) {
    static const sample_bias biases[] = {{3, 2.5f}, {7, -1}};
    sample_params p = sample_params_default();
    p.temperature = 0.9f;
    p.top_k = seat == 3 ? 8 : 0;
    p.top_p = 0.9f;
    p.seed = 40 + seat;
    p.biases = biases;
    p.biases_count = seat == 1 ? 2 : 0;
    const sample_history h = {NULL, step + 1, 1};
    CHECK(sampler_order(c->sampler, &p, h, 0, NULL, 0,
                        (sample_room){c->changes + 2 * (size_t)seat, 2}, &c->orders[seat]));
    row->sample = &c->orders[seat];
}

static uint32_t row_of(const uint32_t *seats, uint32_t count, uint32_t seat) {
    uint32_t i = 0;
    while (i < count && seats[i] != seat) i++;
    return i;
}

/* Rows of the step, of those that go on; ahead: their tokens are those of the step before. */
static uint32_t fill(crowd *c, uint32_t step, bool ahead) {
    uint32_t *seats = c->seats[step % 2], *before = c->seats[(step + 1) % 2];
    uint32_t n = 0;
    for (uint32_t s = 0; s < SEATS; s++) {
        if (step >= lengths[s]) continue;
        const int32_t token = ahead && step > 0
                                  ? ~(int32_t)row_of(before, c->counts[(step + 1) % 2], s)
                                  : c->ids[s][step];
        CHECK_EQ(kv_seat_grow(engine_kv(c->e), s, step + 1, NULL), OK);
        c->rows[n] = (engine_row){.token = token, .pos = step, .seat = s, .prompt = step == 0};
        c->rows[n].wants_best = !c->drawn || s % 2 == 0;
        if (!c->rows[n].wants_best) order(c, s, step, &c->rows[n]);
        seats[n++] = s;
    }
    return c->counts[step % 2] = n;
}

static void take(crowd *c, uint32_t step) {
    const int32_t *best = engine_best(c->e);
    CHECK(engine_fault(c->e) == NULL && best != NULL);
    for (uint32_t i = 0; i < c->counts[step % 2] && best != NULL; i++)
        c->ids[c->seats[step % 2][i]][step + 1] = best[i];
}

static void run_in_turn(crowd *c) {
    for (uint32_t step = 0; step < STEPS; step++) {
        const uint32_t n = fill(c, step, false);
        (void)engine_step(c->e, c->rows, n);
        take(c, step);
    }
}

/* All host memory of a step is written anew before the step before it has ended. */
static void run_ahead(crowd *c) {
    for (uint32_t step = 0; step < STEPS; step++) {
        const uint32_t n = fill(c, step, true);
        engine_begin(c->e, c->rows, n);
        memset(c->rows, 0xff, sizeof c->rows);
        memset(c->orders, 0xff, sizeof c->orders);
        memset(c->changes, 0xff, sizeof c->changes);
        if (step == 0) continue;
        (void)engine_end(c->e);
        take(c, step - 1);
    }
    (void)engine_end(c->e);
    take(c, STEPS - 1);
}

static void run_crowd(const model *m, const engine_options *opt, bool drawn, bool ahead,
                      int32_t out[SEATS][STEPS + 1]) {
    crowd *c = calloc(1, sizeof *c);
    c->drawn = drawn;
    CHECK_EQ(engine_open(&c->e, m, opt, NULL), OK);
    CHECK_EQ(sampler_create(&c->sampler, engine_vocab(c->e), NULL), OK);
    CHECK(engine_runs_ahead(c->e));
    for (int32_t s = 0; s < SEATS; s++) c->ids[s][0] = 5 + 9 * s;
    if (ahead)
        run_ahead(c);
    else
        run_in_turn(c);
    memcpy(out, c->ids, sizeof c->ids);
    sampler_destroy(c->sampler);
    engine_close(c->e);
    free(c);
}

/* Do sequences take several tokens, so that a wrong one is seen? */
static bool is_varied(int32_t ids[SEATS][STEPS + 1]) {
    uint32_t changes = 0;
    for (uint32_t i = 1; i < STEPS; i++) changes += ids[0][i] != ids[0][i + 1];
    return changes > 2 && memcmp(ids[0], ids[4], sizeof ids[0]) != 0;
}

TEST(cuda_steps_ahead_make_the_tokens_of_steps_in_turn) {
    static int32_t want[SEATS][STEPS + 1], got[SEATS][STEPS + 1];
    for (int i = 0; i < 8; i++) {
        HOST_MACHINE(i % 2 == 0 ? "t4" : deferred);
        const engine_options opt = options(i / 2 % 2 == 0);
        const bool drawn = i / 4 == 1;
        model *m = NULL;
        CHECK_EQ(model_open(&m, i % 2 == 0 ? "synth:tiny:q8_0" : "synth:tiny:f32", NULL), OK);
        run_crowd(m, &opt, drawn, false, want);
        run_crowd(m, &opt, drawn, true, got);
        CHECK(!drawn || is_varied(want));
        CHECK(memcmp(want, got, sizeof want) == 0);
        CHECK_EQ(host.calls("cuGraphLaunch") > 0, i / 2 % 2 == 1);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* Experts on the CPU: the call of the host knows which of two steps it is in. */
TEST(cuda_steps_ahead_call_the_host_for_one_after_the_other) {
    SHARED_OR_SKIP(path, "oracle/public/models/mixtral/model-f32.gguf");
    static int32_t want[SEATS][STEPS + 1], got[SEATS][STEPS + 1];
#ifdef __SANITIZE_THREAD__
    const int first = 3;
#else
    const int first = 0;
#endif
    for (int i = first; i < 4; i++) {
        HOST_MACHINE(i % 2 == 0 ? "t4" : deferred);
        engine_options opt = options(i / 2 == 0);
        model *m = NULL;
        opt.host_experts = 1 + (uint32_t)i % 2;
        CHECK_EQ(model_open(&m, path, NULL), OK);
        run_crowd(m, &opt, true, false, want);
        run_crowd(m, &opt, true, true, got);
        CHECK(is_varied(want));
        CHECK(memcmp(want, got, sizeof want) == 0);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* Two at a time on the way, and then the GPU has all that it needs: the host asks for nothing but
 * the end of the older one. */
TEST(cuda_step_ahead_waits_for_the_older_one_only) {
    HOST_MACHINE(deferred);
    const engine_options opt = options(false);
    model *m = NULL;
    crowd *c = calloc(1, sizeof *c);
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    CHECK_EQ(engine_open(&c->e, m, &opt, NULL), OK);
    for (uint32_t step = 0; step < 2; step++) engine_begin(c->e, c->rows, fill(c, step, true));
    const uint64_t syncs = host.calls("cuStreamSynchronize");
    const uint64_t waits = host.calls("cuEventSynchronize");
    const uint64_t before = host.launches("k_argmax");
    (void)engine_end(c->e);
    CHECK(engine_best(c->e) != NULL);
    CHECK_EQ(host.launches("k_argmax") - before, 1); /* of two that are queued */
    CHECK_EQ(host.calls("cuStreamSynchronize"), syncs);
    CHECK_EQ(host.calls("cuEventSynchronize"), waits + 1);
    engine_close(c->e); /* with the other one still on its way */
    model_close(m);
    free(c);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_step_ahead_that_fails_is_told) {
    HOST_MACHINE(deferred);
    const engine_options opt = options(true);
    model *m = NULL;
    error why = {0};
    crowd *c = calloc(1, sizeof *c);
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    CHECK_EQ(engine_open(&c->e, m, &opt, NULL), OK);
    engine_begin(c->e, c->rows, fill(c, 0, true));
    host.fault_lines(false);
    host.fault_add(NULL, "k_argmax", 2, 700);
    engine_begin(c->e, c->rows, fill(c, 1, true));
    (void)engine_end(c->e);
    CHECK(engine_fault(c->e) == NULL);
    CHECK(engine_end(c->e) == NULL);
    CHECK(engine_fault(c->e) != NULL && strstr(engine_fault(c->e)->msg, "700") != NULL);
    /* What was measured ends as well, and nothing is measured any more. */
    CHECK_EQ(engine_profile_switch(c->e, true, &why), ERR_DEVICE);
    CHECK_HAS(why.msg, "700");
    CHECK_EQ(engine_profile_switch(c->e, false, NULL), OK);
    engine_close(c->e);
    model_close(m);
    free(c);
}

/* --- tokens that no table has -------------------- */

/* The largest logit is that of an id behind the table's end. */
static void record(lab *l, uint32_t cols, uint32_t logits) {
    float *bias = krig_memory(&l->weights, logits * sizeof *bias);
    bias[logits - 1] = 1e6f;
    const value_id taken = pg_take_rows(l->p, lab_input(l, cols));
    const weight w = krig_table(&l->weights, &l->random, logits, cols);
    const value_id head = pg_take_rows(l->p, taken);
    CHECK_EQ(program_finish(l->p, taken, pg_matmul(l->p, head, w, bias), NULL), OK);
}

TEST(cuda_step_ahead_names_the_row_of_a_token_that_no_table_has) {
    enum { COLS = 64, LOGITS = 2 * RIG_ROWS_MAX };
    static const bool best[2] = {true, true};
    static const uint32_t rows[2] = {0, 1}, pos[2] = {7, 9};
    static const int32_t known[2] = {3, 4}, made[2] = {5, ~0};
    static const batch_run runs[2] = {{0, 1, 0, 7}, {1, 1, 1, 9}};
    HOST_MACHINE(deferred);
    lab *l = lab_begin(2, 16);
    lab_machine gpu;
    record(l, COLS, LOGITS);
    CHECK(lab_open(l, &backend_cuda, &gpu));
    batch in = {.rows = 2, .tokens = known, .pos = pos, .seats = rows, .runs_count = 2};
    in.runs = runs;
    in.taken = in.head = rows;
    in.taken_rows = in.head_rows = 2;
    in.best = best;
    gpu.ops->begin(gpu.b, &in);
    in.tokens = made;
    gpu.ops->begin(gpu.b, &in);
    step_result r = gpu.ops->end(gpu.b);
    CHECK(r.fault == NULL && r.best != NULL && r.best[0] == LOGITS - 1);
    r = gpu.ops->end(gpu.b);
    CHECK(r.fault != NULL);
    if (r.fault != NULL)
        CHECK(strstr(r.fault->msg, "row 1 of a step has token -1, of row 0 of the step before, at "
                                   "position 9") != NULL);
    lab_close(&gpu);
    lab_free(l);
    CHECK_EQ(host.leaks(), 0);
}
