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

/* How the tokens of every other sequence are made: as those of all others, which are the best; or
 * drawn by what the position says, or by what the tokens before say, too. */
typedef enum crowd_kind { BEST, DRAWN, PENALIZED, CROWD_KINDS } crowd_kind;

enum { CHANGES_EACH = STEPS + 2 };

typedef struct crowd_made {
    int32_t ids[SEATS][STEPS + 1];
    sample_logprobs said[SEATS][STEPS + 1]; /* of seat 3, PENALIZED */
} crowd_made;

typedef struct crowd {
    engine *e;
    sampler *sampler;
    crowd_kind kind;
    crowd_made made;
    engine_row rows[SEATS];
    sample_order orders[SEATS];
    sample_change changes[CHANGES_EACH * SEATS];
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

static void order(crowd *c, uint32_t seat, uint32_t step) {
    static const sample_bias biases[] = {{3, 2.5f}, {7, -1}};
    static const uint32_t some[512 / 32] = {0x5a5a5a5a, 0xffff, 0, 0x10101010};
    sample_params p = sample_params_default();
    p.temperature = 0.9f;
    p.top_k = seat == 3 ? 8 : 0;
    p.top_p = 0.9f;
    p.seed = 40 + seat;
    p.biases = biases;
    p.biases_count = seat == 1 ? 2 : 0;
    p.frequency_penalty = c->kind == PENALIZED ? 1.5f : 0;
    p.repetition_penalty = c->kind == PENALIZED && seat == 3 ? 1.4f : 1;
    p.logprobs = c->kind == PENALIZED && seat == 3;
    p.top_logprobs = (uint8_t)(step % 4);
    p.allowed = c->kind == PENALIZED && seat == 3 ? some : NULL;
    const sample_history h = {c->kind == PENALIZED ? c->made.ids[seat] : NULL, step + 1, 1};
    const sample_room room = {c->changes + CHANGES_EACH * (size_t)seat, CHANGES_EACH};
    CHECK(sampler_order(c->sampler, &p, h, 0, NULL, 0, room, &c->orders[seat]));
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
        const bool follows = ahead && step > 0;
        const int32_t token =
            follows ? ~(int32_t)row_of(before, c->counts[(step + 1) % 2], s) : c->made.ids[s][step];
        CHECK_EQ(kv_seat_grow(engine_kv(c->e), s, step + 1, NULL), OK);
        c->rows[n] = (engine_row){.token = token, .pos = step, .seat = s, .prompt = step == 0};
        c->rows[n].wants_best = c->kind == BEST || s % 2 == 0;
        if (!c->rows[n].wants_best) c->rows[n].sample = &c->orders[s];
        c->rows[n].draws_later = c->rows[n].sample != NULL && c->kind == PENALIZED && follows;
        if (c->rows[n].sample != NULL && !c->rows[n].draws_later) order(c, s, step);
        seats[n++] = s;
    }
    return c->counts[step % 2] = n;
}

static void take(crowd *c, uint32_t step) {
    const int32_t *best = engine_best(c->e);
    CHECK(engine_fault(c->e) == NULL && best != NULL);
    for (uint32_t i = 0; i < c->counts[step % 2] && best != NULL; i++) {
        const uint32_t seat = c->seats[step % 2][i];
        c->made.ids[seat][step + 1] = best[i];
        if (c->kind != PENALIZED || seat != 3) continue;
        CHECK(engine_logprobs(c->e) != NULL);
        c->made.said[seat][step + 1] = engine_logprobs(c->e)[i];
    }
}

/* The tokens before are here: the step that was begun last draws its own.  What it draws by is
 * written anew as soon as it was read. */
static void draw(crowd *c, uint32_t step) {
    bool any = false;
    for (uint32_t s = 1; s < SEATS && c->kind == PENALIZED; s += 2) {
        if (step >= lengths[s]) continue;
        order(c, s, step);
        any = true;
    }
    if (any) engine_draw(c->e);
    memset(c->orders, 0xff, sizeof c->orders);
    memset(c->changes, 0xff, sizeof c->changes);
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
        draw(c, step);
    }
    (void)engine_end(c->e);
    take(c, STEPS - 1);
}

static crowd *open_crowd(const model *m, const engine_options *opt, crowd_kind kind) {
    crowd *c = calloc(1, sizeof *c);
    c->kind = kind;
    CHECK_EQ(engine_open(&c->e, m, opt, NULL), OK);
    CHECK_EQ(sampler_create(&c->sampler, engine_vocab(c->e), NULL), OK);
    CHECK(engine_runs_ahead(c->e));
    for (int32_t s = 0; s < SEATS; s++) c->made.ids[s][0] = 5 + 9 * s;
    return c;
}

static void close_crowd(crowd *c) {
    sampler_destroy(c->sampler);
    engine_close(c->e);
    free(c);
}

static void run_crowd(const model *m, const engine_options *opt, crowd_kind kind, bool ahead,
                      crowd_made *out) {
    crowd *c = open_crowd(m, opt, kind);
    if (ahead)
        run_ahead(c);
    else
        run_in_turn(c);
    *out = c->made;
    close_crowd(c);
}

/* Do sequences take several tokens, so that a wrong one is seen? */
static bool is_varied(int32_t ids[SEATS][STEPS + 1]) {
    uint32_t changes = 0;
    for (uint32_t i = 1; i < STEPS; i++) changes += ids[0][i] != ids[0][i + 1];
    return changes > 2 && memcmp(ids[0], ids[4], sizeof ids[0]) != 0;
}

TEST(cuda_steps_ahead_make_the_tokens_of_steps_in_turn) {
    static crowd_made want, got;
    for (int i = 0; i < 4 * CROWD_KINDS; i++) {
        HOST_MACHINE(i % 2 == 0 ? "t4" : deferred);
        const engine_options opt = options(i / 2 % 2 == 0);
        const crowd_kind kind = (crowd_kind)(i / 4);
        model *m = NULL;
        CHECK_EQ(model_open(&m, i % 2 == 0 ? "synth:tiny:q8_0" : "synth:tiny:f32", NULL), OK);
        run_crowd(m, &opt, kind, false, &want);
        run_crowd(m, &opt, kind, true, &got);
        CHECK(kind == BEST || is_varied(want.ids));
        CHECK(memcmp(&want, &got, sizeof want) == 0);
        CHECK_EQ(host.calls("cuGraphLaunch") > 0, i / 2 % 2 == 1);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* Experts on the CPU: the call of the host knows which of two steps it is in. */
TEST(cuda_steps_ahead_call_the_host_for_one_after_the_other) {
    SHARED_OR_SKIP(path, "oracle/public/models/mixtral/model-f32.gguf");
    static crowd_made want, got;
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
        const crowd_kind kind = i % 2 == i / 2 ? DRAWN : PENALIZED;
        run_crowd(m, &opt, kind, false, &want);
        run_crowd(m, &opt, kind, true, &got);
        CHECK(is_varied(want.ids));
        CHECK(memcmp(&want, &got, sizeof want) == 0);
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

/* --- what is drawn later -------------------- */

typedef struct counted {
    uint64_t launches, graphs, records, drawn, in, out;
} counted;

static counted count_now(void) {
    return (counted){.launches = host.calls("cuLaunchKernel"),
                     .graphs = host.calls("cuGraphLaunch"),
                     .records = host.calls("cuStreamBeginCapture_v2") +
                                host.calls("cuGraphInstantiateWithFlags"),
                     .drawn = host.launches("k_sample"),
                     .in = host.calls("cuMemcpyHtoDAsync_v2"),
                     .out = host.calls("cuMemcpyDtoHAsync_v2")};
}

/* Once it is under way a step is a graph that draws nothing, and when its orders come one launch
 * for the tokens and one for what is said of them. */
TEST(cuda_step_that_draws_later_computes_all_else_meanwhile) {
    enum { STEADY_FROM = 5 }; /* two steps of five rows and two of four are first of a kind */
    HOST_MACHINE("t4");
    const engine_options opt = options(false);
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    crowd *c = open_crowd(m, &opt, PENALIZED);
    engine_begin(c->e, c->rows, fill(c, 0, true));
    for (uint32_t step = 1; step < lengths[3]; step++) {
        const counted before = count_now();
        engine_begin(c->e, c->rows, fill(c, step, true));
        const counted begun = count_now();
        CHECK_EQ(begun.drawn, before.drawn);
        CHECK_EQ(begun.out, before.out);
        CHECK_EQ(begun.in, before.in + 1);
        (void)engine_end(c->e);
        take(c, step - 1);
        draw(c, step);
        const counted drawn = count_now();
        CHECK_EQ(drawn.drawn, begun.drawn + 1);
        CHECK_EQ(drawn.launches, begun.launches + 2);
        CHECK_EQ(drawn.in, begun.in + 2); /* rules, and the mask of seat 3 */
        CHECK_EQ(drawn.out, begun.out + 2);
        CHECK_EQ(drawn.graphs, begun.graphs);
        if (step < STEADY_FROM) continue;
        CHECK_EQ(begun.graphs, before.graphs + 1);
        CHECK_EQ(begun.launches, before.launches);
        CHECK_EQ(drawn.records, before.records);
    }
    close_crowd(c);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* A sequence that ended with the step before draws nothing of this one; the others are none the
 * worse, and what is said stands where it belongs. */
TEST(cuda_step_that_draws_later_leaves_out_who_has_gone) {
    HOST_MACHINE(deferred);
    const engine_options opt = options(true);
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    crowd *all = open_crowd(m, &opt, PENALIZED), *some = open_crowd(m, &opt, PENALIZED);
    for (uint32_t step = 0; step < 2; step++) {
        engine_begin(all->e, all->rows, fill(all, step, true));
        engine_begin(some->e, some->rows, fill(some, step, true));
    }
    (void)engine_end(all->e);
    (void)engine_end(some->e);
    take(all, 0);
    take(some, 0);
    order(some, 3, 1);
    some->orders[1] = (sample_order){.rule = {0}};
    engine_draw(some->e);
    draw(all, 1);
    (void)engine_end(all->e);
    (void)engine_end(some->e);
    take(all, 1);
    take(some, 1);
    for (uint32_t s = 0; s < SEATS; s++)
        if (s != 1) CHECK_EQ(all->made.ids[s][2], some->made.ids[s][2]);
    CHECK(memcmp(all->made.said, some->made.said, sizeof all->made.said) == 0);
    close_crowd(all);
    close_crowd(some);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* Before it draws, or while it does. */
TEST(cuda_step_that_draws_later_and_fails_is_told) {
    static const char *const kernels[] = {"k_argmax", "k_sample"};
    for (int i = 0; i < 2; i++) {
        HOST_MACHINE(i == 0 ? deferred : "t4");
        const engine_options opt = options(i == 0);
        model *m = NULL;
        CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
        crowd *c = open_crowd(m, &opt, PENALIZED);
        host.fault_lines(false);
        host.fault_add(NULL, kernels[i], 2, 700); /* that of the second step */
        engine_begin(c->e, c->rows, fill(c, 0, true));
        engine_begin(c->e, c->rows, fill(c, 1, true));
        (void)engine_end(c->e);
        CHECK(engine_fault(c->e) == NULL);
        if (engine_fault(c->e) == NULL) {
            take(c, 0);
            draw(c, 1);
            CHECK(engine_end(c->e) == NULL);
            CHECK(engine_fault(c->e) != NULL && strstr(engine_fault(c->e)->msg, "700") != NULL);
        }
        close_crowd(c);
        model_close(m);
    }
}

TEST(cuda_step_that_never_draws_can_be_closed) {
    HOST_MACHINE(deferred);
    const engine_options opt = options(false);
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    crowd *c = open_crowd(m, &opt, PENALIZED);
    for (uint32_t step = 0; step < 2; step++) engine_begin(c->e, c->rows, fill(c, step, true));
    close_crowd(c);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- failures -------------------- */

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
