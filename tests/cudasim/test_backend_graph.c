/* test_backend_graph.c - steps played as CUDA graphs: the same bits as launched one by one, one
 * call in place of all launches, nothing recorded or updated once it is under way, and a driver
 * that records nothing costs only time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "base/log.h"
#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

enum { SEATS = 6, TOKENS = 14 };

static engine_options options(bool no_graphs) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, 64);
    opt.rows_max = 24;
    opt.taken_rows_max = 12;
    opt.no_graphs = no_graphs;
    return opt;
}

/* Tokens of a sequence; any will do. */
static int32_t token_of(uint32_t seat, uint32_t pos) {
    return (int32_t)((seat * 37 + pos * 11 + 3) % 64);
}

/* One token more of each of the seats 0 .. count - 1.  What the engine says goes to out: logits
 * [count, vocab], or the best ids. */
static void advance(engine *e, uint32_t count, uint32_t pos[SEATS], bool best, float *out) {
    engine_row rows[SEATS];
    for (uint32_t s = 0; s < count; s++) {
        CHECK_EQ(kv_seat_grow(engine_kv(e), s, pos[s] + 1, NULL), OK);
        rows[s] = (engine_row){.token = token_of(s, pos[s]),
                               .pos = pos[s],
                               .seat = s,
                               .wants_logits = !best,
                               .wants_best = best};
        pos[s]++;
    }
    const float *logits = engine_step(e, rows, count);
    if (engine_fault(e) != NULL) (void)fprintf(stderr, "%s\n", engine_fault(e)->msg);
    CHECK(engine_fault(e) == NULL);
    if (engine_fault(e) != NULL) return;
    if (best)
        memcpy(out, engine_best(e), count * sizeof(int32_t));
    else
        memcpy(out, logits, (size_t)count * engine_vocab(e) * sizeof *out);
}

/* A first prompt of three tokens in seat 0, which no graph is for. */
static void begin_with_a_prompt(engine *e, uint32_t pos[SEATS]) {
    engine_row rows[3];
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 3, NULL), OK);
    for (uint32_t i = 0; i < 3; i++)
        rows[i] = (engine_row){.token = token_of(0, i), .pos = i, .seat = 0};
    (void)engine_step(e, rows, 3);
    pos[0] = 3;
}

/* All that a crowd of changing size is told, in one piece. */
static float *run_crowd(const model *m, bool no_graphs, size_t *bytes) {
    static const uint32_t sizes[TOKENS] = {1, 1, 1, 2, 2, 3, 4, 3, 6, 5, 6, 1, 2, 4};
    const engine_options opt = options(no_graphs);
    engine *e = NULL;
    uint32_t pos[SEATS] = {0};
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    if (e == NULL) return NULL;
    const size_t step = (size_t)SEATS * engine_vocab(e);
    float *all = calloc(2 * TOKENS * step, sizeof *all);
    *bytes = 2 * TOKENS * step * sizeof *all;
    begin_with_a_prompt(e, pos);
    for (uint32_t i = 0; i < 2 * TOKENS; i++)
        advance(e, sizes[i % TOKENS], pos, i % 4 == 3, all + i * step);
    engine_close(e);
    return all;
}

TEST(cuda_graphs_give_the_bits_of_single_launches) {
    static const char *const specs[] = {"synth:tiny:q8_0", "synth:tiny:f32"};
    static const char *const machines[] = {"t4", "{\"gpus\":[{\"preset\":\"h100\"}],"
                                                 "\"streams\":\"deferred\",\"seed\":7}"};
    for (int i = 0; i < 2; i++) {
        HOST_MACHINE(machines[i]);
        size_t bytes = 0;
        model *m = rig_open_model(specs[i]);
        float *want = run_crowd(m, true, &bytes);
        CHECK_EQ(host.calls("cuGraphLaunch"), 0);
        float *got = run_crowd(m, false, &bytes);
        CHECK(host.calls("cuGraphLaunch") > 0);
        CHECK(want != NULL && got != NULL && memcmp(got, want, bytes) == 0);
        free(want);
        free(got);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

typedef struct calls {
    uint64_t launches, graphs, records, copies;
} calls;

static calls calls_now(void) {
    return (calls){.launches = host.calls("cuLaunchKernel"),
                   .graphs = host.calls("cuGraphLaunch"),
                   .records = host.calls("cuStreamBeginCapture_v2") +
                              host.calls("cuGraphInstantiateWithFlags"),
                   .copies =
                       host.calls("cuMemcpyHtoDAsync_v2") + host.calls("cuMemcpyDtoHAsync_v2")};
}

/* Under way a step is one upload, one graph, and what comes back. */
TEST(cuda_graphs_are_recorded_once) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options opt = options(false);
    engine *e = NULL;
    uint32_t pos[SEATS] = {0};
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    float *out = calloc((size_t)SEATS * engine_vocab(e), sizeof *out);
    for (uint32_t i = 0; i < 2; i++) advance(e, 3, pos, true, out); /* loads, too */
    const calls first = calls_now();
    CHECK_EQ(first.graphs, 1);
    CHECK_EQ(first.records, 2);
    for (uint32_t i = 0; i < 5; i++) advance(e, 3 + i % 2, pos, true, out);
    const calls then = calls_now();
    CHECK_EQ(then.graphs, 6);
    CHECK_EQ(then.records, 2);
    CHECK_EQ(then.launches, first.launches);
    CHECK_EQ(then.copies - first.copies, 5 * 2);
    advance(e, 1, pos, true, out); /* of another size: not before its second step */
    CHECK_EQ(calls_now().graphs, 6);
    CHECK(calls_now().launches > then.launches);
    advance(e, 1, pos, true, out);
    CHECK_EQ(calls_now().graphs, 7);
    CHECK_EQ(calls_now().records, 4);
    free(out);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* A prompt almost as long as a span that one block computes, then tokens behind it: the last of
 * them have blocks that share the span. */
static float *run_long(const model *m, bool no_graphs, size_t *bytes) {
    enum { PROMPT = CK_SPLIT_BLOCKS * CK_KV_BLOCK_TOKENS - 4, CHUNK = 42, STEPS = 10 };
    engine_options opt = options(no_graphs);
    opt.ctx_max = PROMPT + STEPS + 1;
    opt.rows_max = CHUNK;
    engine *e = NULL;
    engine_row rows[CHUNK];
    uint32_t pos[SEATS] = {0};
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    if (e == NULL) return NULL;
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, PROMPT, NULL), OK);
    while (pos[0] < PROMPT) {
        uint32_t n = 0;
        for (; n < CHUNK && pos[0] < PROMPT; n++, pos[0]++)
            rows[n] = (engine_row){.token = token_of(0, pos[0]), .pos = pos[0], .seat = 0};
        (void)engine_step(e, rows, n);
    }
    const size_t step = (size_t)SEATS * engine_vocab(e);
    float *all = calloc(STEPS * step, sizeof *all);
    *bytes = STEPS * step * sizeof *all;
    for (uint32_t i = 0; i < STEPS; i++) advance(e, 2, pos, false, all + i * step);
    engine_close(e);
    return all;
}

/* Of those two sizes each is recorded, in its second step. */
TEST(cuda_graphs_are_for_long_spans_too) {
    HOST_MACHINE("t4");
    size_t bytes = 0;
    model *m = rig_open_model("synth:tiny:q8_0");
    float *want = run_long(m, true, &bytes);
    CHECK_EQ(host.calls("cuGraphLaunch"), 0);
    float *got = run_long(m, false, &bytes);
    CHECK_EQ(host.calls("cuGraphInstantiateWithFlags"), 2);
    CHECK_EQ(host.calls("cuGraphLaunch"), 10 - 2);
    CHECK(want != NULL && got != NULL && memcmp(got, want, bytes) == 0);
    free(want);
    free(got);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* Each call that makes a graph fails, or plays it: the bits are those of single launches, and it is
 * not tried again. */
TEST(cuda_graphs_that_the_driver_refuses_cost_only_time) {
    static const char *const refused[] = {"cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags",
                                          "cuGraphLaunch"};
    HOST_MACHINE("t4");
    size_t bytes = 0;
    model *m = rig_open_model("synth:tiny:q8_0");
    float *want = run_crowd(m, true, &bytes);
    log_set_level(LOG_ERROR);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        CHECK(host_machine("t4"));
        host.fault_add(refused[i], NULL, 1, CU_NOT_SUPPORTED);
        float *got = run_crowd(m, false, &bytes);
        CHECK(want != NULL && got != NULL && memcmp(got, want, bytes) == 0);
        CHECK_EQ(host.calls("cuStreamBeginCapture_v2"), 1);
        CHECK_EQ(host.calls("cuGraphLaunch"), i == 2 ? 1 : 0);
        free(got);
        CHECK_EQ(host.leaks(), 0);
    }
    log_set_level(LOG_INFO);
    free(want);
    model_close(m);
}

/* One launch may not be recorded: no graph, and no fault. */
TEST(cuda_graphs_need_every_launch) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options opt = options(false);
    engine *e = NULL;
    uint32_t pos[SEATS] = {0};
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    float *out = calloc((size_t)SEATS * engine_vocab(e), sizeof *out);
    advance(e, 1, pos, true, out);
    host.fault_add("cuLaunchKernel", NULL, 3, CU_STREAM_CAPTURE_UNSUPPORTED);
    log_set_level(LOG_ERROR);
    for (uint32_t i = 0; i < 3; i++) advance(e, 1, pos, true, out);
    log_set_level(LOG_INFO);
    CHECK_EQ(host.calls("cuStreamBeginCapture_v2"), 1);
    CHECK_EQ(host.calls("cuStreamEndCapture"), 1);
    CHECK_EQ(host.calls("cuGraphInstantiateWithFlags"), 0);
    free(out);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* A kernel that breaks the GPU inside of a graph is a fault as any other. */
TEST(cuda_graphs_fail_as_launches_do) {
    HOST_MACHINE("t4");
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options opt = options(false);
    engine *e = NULL;
    error err = {0};
    uint32_t pos[SEATS] = {0};
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    float *out = calloc((size_t)SEATS * engine_vocab(e), sizeof *out);
    for (uint32_t i = 0; i < 3; i++) advance(e, 1, pos, true, out);
    CHECK_EQ(host.calls("cuGraphLaunch"), 2);
    host.fault_add(NULL, "k_norm", 1, CU_ILLEGAL_ADDRESS);
    engine_row row = {.token = 1, .pos = pos[0], .seat = 0, .wants_best = true};
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, pos[0] + 1, NULL), OK);
    (void)engine_step(e, &row, 1);
    CHECK(engine_fault(e) != NULL);
    CHECK_EQ(engine_check(e, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "a graph");
    free(out);
    engine_close(e);
    model_close(m);
}

/* A cache that lies elsewhere from one step to the next: graphs have addresses in them. */
TEST(cuda_graphs_follow_the_cache) {
    enum { DIM = 64, STEPS = 8 };
    HOST_MACHINE("t4");
    const kv_layout layout = {
        .type = DTYPE_F16, .layers = 1, .kv_heads = 1, .key_dim = 32, .value_dim = 32};
    float got[STEPS][32];
    lab *l = lab_begin(0, 64);
    lab_kv(l, layout, 2, 64);
    lab_run(l, 1, 0, 1);
    op_attention attn = {
        .heads = 1, .kv_heads = 1, .key_dim = 32, .value_dim = 32, .scale = 0.2f, .causal = true};
    value_id x = lab_input(l, 32);
    pg_kv_write(l->p, x, x);
    lab_finish(l, pg_attention(l->p, x, attn));
    lab_machine cuda;
    if (lab_open(l, &backend_cuda, &cuda)) {
        void *const first = cuda.kv;
        const size_t half = (size_t)l->in.kv.table_stride * kv_block_bytes(&layout);
        for (uint32_t i = 0; i < STEPS; i++) {
            /* there and back, each twice: the values are of the token alone */
            for (uint32_t b = 0; b < l->in.kv.table_stride; b++)
                ((uint32_t *)(uintptr_t)l->in.kv.tables)[l->in.kv.table_stride + b] = b;
            cuda.kv = (char *)first + (i / 2 % 2) * half;
            l->in.tokens[0] = (int32_t)i;
            const float *out = lab_step(l, &cuda);
            if (out != NULL) memcpy(got[i], out, sizeof got[i]);
        }
        cuda.kv = first;
        CHECK(host.calls("cuGraphLaunch") >= STEPS / 2 - 1);
        lab_close(&cuda);
        lab_machine ref;
        CHECK(lab_open(l, &backend_ref, &ref));
        for (uint32_t i = 0; i < STEPS; i++) {
            l->in.tokens[0] = (int32_t)i;
            const float *want = lab_step(l, &ref);
            CHECK(want != NULL && krig_nmse(got[i], want, 32) < 1e-6);
        }
        lab_close(&ref);
    }
    lab_free(l);
    CHECK_EQ(host.leaks(), 0);
}
