/* test_backend_micro.c - steps cut into micro-batches, which several software GPUs, or the CPU and
 * GPUs, compute at a time: the bits of one GPU, whatever the cuts and however rows get across.
 *
 * Streams are deferred or random: whatever is not waited for is late, and fresh memory is no
 * number. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cudasim/host_rig.h"
#include "cudasim/lora_rig.h"
#include "engine/engine_rig.h"
#include "engine/sampler.h"
#include "golden_paths.h"

enum { SEATS = 6, CTX = 64, STEPS = 4, GPUS_MAX = 4, ROWS_MAX = 64, OUT_FLOATS = 1 << 17 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 2, CPU_ISA_AUTO};

#define FOUR "\"gpus\":[{},{},{},{}]"
#define WAYS "\"p2p\":[[0,1],[1,2],[2,3]]"

/* Straight, by the host, and both in turn. */
static const char *const machines[] = {
    "{" FOUR "," WAYS ",\"streams\":\"deferred\",\"seed\":3}",
    "{" FOUR ",\"streams\":\"random\",\"seed\":11}",
    "{" FOUR ",\"p2p\":[[1,2]],\"streams\":\"random\",\"seed\":4}",
    "{" FOUR "," WAYS ",\"streams\":\"random\",\"seed\":9}",
    "{" FOUR ",\"streams\":\"deferred\",\"seed\":2}",
};
enum { MACHINES = sizeof machines / sizeof machines[0] };

static engine_options options_of(uint32_t gpus, uint32_t micro_rows) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, CTX);
    opt.rows_max = opt.taken_rows_max = ROWS_MAX;
    opt.devices_count = opt.devices_min = gpus;
    opt.micro_rows = micro_rows;
    opt.no_micro_batches = micro_rows == 0;
    memcpy(opt.devices, host_gpu_numbers, sizeof host_gpu_numbers);
    return opt;
}

#ifdef __SANITIZE_THREAD__
#define SKIP_UNDER_TSAN SKIP("ThreadSanitizer is slow, and the smaller ones cut steps as well")
#else
#define SKIP_UNDER_TSAN (void)0
#endif

/* --- a script of steps -------------------- */

/* Prompt rows of each seat in each step, in the order of the seats; 0 from a prompt's end on: then
 * it generates.  Cut in many ways, also between seats and in the middle of a block of the cache. */
static const uint32_t prompts[STEPS][SEATS] = {
    {8, 5, 0, 0, 0, 0}, {0, 3, 9, 1, 0, 0}, {0, 0, 0, 0, 6, 2}, {0, 0, 0, 0, 0, 0}};

typedef struct script {
    engine *e;
    sampler *sampler;
    uint32_t pos[SEATS];
    engine_row rows[ROWS_MAX];
    sample_order orders[ROWS_MAX];
    uint32_t count;
    uint32_t cut;      /* micro-batches of all steps */
    uint32_t steps;    /* that were cut */
    size_t out_floats; /* of out */
    float out[OUT_FLOATS];
} script;

static void keep(script *s, const void *floats, size_t count) {
    CHECK(count <= OUT_FLOATS - s->out_floats);
    memcpy(s->out + s->out_floats, floats, count * sizeof *s->out);
    s->out_floats += count;
}

static void add_row(script *s, uint32_t seat, bool prompt) {
    const uint32_t r = s->count++, pos = s->pos[seat]++;
    engine_row *row = &s->rows[r];
    *row = (engine_row){.token = (int32_t)((seat * 31 + pos * 7) % 60 + 1),
                        .pos = pos,
                        .seat = seat,
                        .prompt = prompt};
    const uint32_t what = (r * 7 + seat) % 6;
    row->wants_logits = what == 0 || what == 5;
    row->wants_hidden = what == 1;
    row->wants_best = what == 2;
    if (what != 3) return;
    sample_params p = sample_params_default();
    p.temperature = 0.9f;
    p.seed = 7 * seat + pos;
    p.logprobs = r % 4 != 0;
    p.top_logprobs = 3;
    const sample_history h = {NULL, pos + 1, 1};
    CHECK(sampler_order(s->sampler, &p, h, 0, NULL, 0, (sample_room){NULL, 0}, &s->orders[r]));
    row->sample = &s->orders[r];
}

/* Generated rows come first. */
static void fill_step(script *s, uint32_t step) {
    s->count = 0;
    for (uint32_t seat = 0; seat < SEATS; seat++)
        if (prompts[step][seat] == 0 && s->pos[seat] > 0) add_row(s, seat, false);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        for (uint32_t i = 0; i < prompts[step][seat]; i++) add_row(s, seat, true);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        if (s->pos[seat] > 0) CHECK_EQ(kv_seat_grow(engine_kv(s->e), seat, s->pos[seat], NULL), OK);
}

static void keep_logprobs(script *s, const sample_logprobs *l) {
    const uint32_t count = l->top_count;
    keep(s, &l->drawn, 1);
    keep(s, l->top_ids, count);
    keep(s, l->top, count);
}

static void keep_results(script *s, const float *logits) {
    const size_t vocab = engine_logits_cols(s->e), n_embd = engine_hidden_cols(s->e);
    const float *hidden = engine_hidden(s->e);
    const int32_t *best = engine_best(s->e);
    const sample_logprobs *said = engine_logprobs(s->e);
    CHECK(logits != NULL && hidden != NULL && engine_fault(s->e) == NULL);
    for (uint32_t r = 0; r < s->count && logits != NULL; r++) {
        const engine_row *row = &s->rows[r];
        const bool token = row->wants_best || row->sample != NULL;
        if (!token && !row->wants_logits && !row->wants_hidden) continue;
        CHECK(!token || best != NULL);
        if (!token) keep(s, hidden, n_embd);
        hidden += n_embd;
        if (row->wants_hidden) continue;
        if (row->wants_logits) keep(s, logits, vocab);
        if (token && best != NULL) keep(s, best, 1);
        if (row->sample != NULL && row->sample->rule.logprobs != 0) {
            CHECK(said != NULL);
            if (said != NULL) keep_logprobs(s, said);
        }
        logits += vocab;
        if (best != NULL) best++;
        if (said != NULL) said++;
    }
}

static script *open_script(const model *m, const engine_options *opt) {
    script *s = calloc(1, sizeof *s);
    error err = {0};
    CHECK_EQ(engine_open(&s->e, m, opt, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_EQ(sampler_create(&s->sampler, engine_vocab(s->e), NULL), OK);
    return s;
}

static void close_engine(script *s) {
    sampler_destroy(s->sampler);
    engine_close(s->e);
    s->sampler = NULL;
    s->e = NULL;
}

static void close_script(script *s) {
    close_engine(s);
    free(s);
}

static const float *run_step(script *s, uint32_t step) {
    fill_step(s, step);
    const float *logits = engine_step(s->e, s->rows, s->count);
    s->cut += engine_micro_batches(s->e);
    s->steps += engine_micro_batches(s->e) > 0;
    return logits;
}

/* All steps; what they gave is kept, and nothing else. */
static script *run_script(const model *m, const engine_options *opt) {
    script *s = open_script(m, opt);
    for (uint32_t step = 0; step < STEPS; step++) keep_results(s, run_step(s, step));
    close_engine(s);
    return s;
}

static void check_same(const script *got, const script *want, const char *what) {
    const bool same = got->out_floats == want->out_floats &&
                      memcmp(got->out, want->out, want->out_floats * sizeof *want->out) == 0;
    if (!same) (void)fprintf(stderr, "%s: other bits\n", what);
    CHECK(same && want->out_floats > 0);
}

static script *run_on_one(const model *m, bool fast) {
    engine_options one = options_of(1, 0);
    one.fast = fast;
    script *s = run_script(m, &one);
    CHECK_EQ(s->cut, 0);
    return s;
}

static void check_cut(const model *m, bool fast, uint32_t gpus, uint32_t micro_rows,
                      const script *want, const char *what) {
    engine_options opt = options_of(gpus, micro_rows);
    opt.fast = fast;
    script *got = run_script(m, &opt);
    check_same(got, want, what);
    CHECK(got->steps >= STEPS - 1 && got->cut > 2 * got->steps);
    close_script(got);
    CHECK_EQ(host.leaks(), 0);
    CHECK_EQ(host.default_stream_uses(), 0);
}

static void check_model(const char *spec, bool fast, uint32_t gpus, uint32_t micro_rows,
                        const char *machine) {
    HOST_MACHINE(machine);
    model *m = rig_open_model(spec);
    script *want = run_on_one(m, fast);
    check_cut(m, fast, gpus, micro_rows, want, spec);
    close_script(want);
    model_close(m);
}

/* --- the numbers -------------------- */

TEST(micro_batches_give_the_bits_of_one_gpu) {
    SKIP_UNDER_TSAN;
    HOST_MACHINE(machines[0]);
    model *m = rig_open_model("synth:thin:q8_0");
    script *const want[2] = {run_on_one(m, false), run_on_one(m, true)};
    for (uint32_t i = 0; i < MACHINES; i++) {
        HOST_MACHINE(machines[i]);
        check_cut(m, i % 2 == 0, 2 + i % 3, 2 + i % 3, want[i % 2 == 0], machines[i]);
    }
    close_script(want[0]);
    close_script(want[1]);
    model_close(m);
}

TEST(micro_batches_of_other_weights_give_the_bits_of_one_gpu) {
    SKIP_UNDER_TSAN;
    check_model("synth:thin:q4_0", true, 3, 3, machines[0]);
}

/* With the rows that pay: prompts in chunks, behind rows of a sequence that generates. */
static void check_chunk(engine *one, engine *two, uint32_t chunk, uint32_t *pos) {
    static engine_row rows[RIG_TOKENS_MAX + 1];
    const size_t vocab = engine_logits_cols(one);
    engine *const both[2] = {one, two};
    rows[0] = (engine_row){.token = 5, .pos = *pos, .seat = 1, .wants_logits = true};
    rows[0].prompt = *pos == 0;
    for (uint32_t i = 0; i < chunk; i++)
        rows[1 + i] = (engine_row){.token = (int32_t)(i * 11 % 500),
                                   .pos = i,
                                   .prompt = true,
                                   .wants_logits = i == chunk / 2 || i == chunk - 1};
    const float *logits[2];
    for (int k = 0; k < 2; k++) {
        kv_seat_clear(engine_kv(both[k]), 0);
        CHECK_EQ(kv_seat_grow(engine_kv(both[k]), 0, chunk, NULL), OK);
        CHECK_EQ(kv_seat_grow(engine_kv(both[k]), 1, *pos + 1, NULL), OK);
        logits[k] = engine_step(both[k], rows, chunk + 1);
        CHECK(logits[k] != NULL);
    }
    const uint32_t all = (chunk + 1) / 128, want = all < 4 ? all : 4, heads = chunk > 1 ? 3 : 2;
    CHECK_EQ(engine_micro_batches(two), want > 1 ? want : 0);
    CHECK_EQ(engine_micro_batches(one), 0);
    CHECK(memcmp(logits[0], logits[1], heads * vocab * sizeof(float)) == 0);
    ++*pos;
}

TEST(micro_batches_are_as_many_as_pay) {
    SKIP_UNDER_TSAN;
    static const uint32_t chunks[] = {257, 1, 63, 64, 65, 511};
    for (int fast = 0; fast < 2; fast++) {
        const size_t count = fast == 0 ? 2 : sizeof chunks / sizeof chunks[0];
        HOST_MACHINE(machines[3 * fast]);
        model *m = rig_open_model("synth:tiny:q8_0");
        engine *one = NULL, *two = NULL;
        uint32_t pos = 0;
        engine_options opt = options_of(2, 0);
        opt.ctx_max = opt.rows_max = RIG_TOKENS_MAX;
        opt.seats = 2;
        opt.taken_rows_max = 4;
        opt.fast = fast == 1;
        opt.no_micro_batches = false;
        CHECK_EQ(engine_open(&two, m, &opt, NULL), OK);
        opt.devices_count = opt.devices_min = 1;
        CHECK_EQ(engine_open(&one, m, &opt, NULL), OK);
        for (size_t i = 0; i < count; i++) check_chunk(one, two, chunks[i], &pos);
        engine_close(one);
        engine_close(two);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
    }
}

/* The CPU has the first layers, and computes while GPUs do: the bits of one after the other. */
TEST(micro_batches_go_through_the_cpu_as_well) {
    SKIP_UNDER_TSAN;
    HOST_MACHINE(machines[0]);
    model *m = rig_open_model("synth:thin:q8_0");
    for (uint32_t gpus = 1; gpus <= 2; gpus++) {
        engine_options opt = options_of(gpus, 3), in_turn = options_of(gpus, 0);
        opt.device_layers = in_turn.device_layers = 5;
        opt.fast = in_turn.fast = true;
        script *want = run_script(m, &in_turn), *got = run_script(m, &opt);
        check_same(got, want, "behind the CPU");
        CHECK(want->cut == 0 && got->cut > 2 * got->steps);
        close_script(want);
        close_script(got);
    }
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(micro_batches_have_their_adapters) {
    SKIP_UNDER_TSAN;
    HOST_MACHINE(machines[0]);
    const uint32_t lanes = 0x3e; /* the fourth of them has none */
    float *logits[2];
    size_t n = 0;
    for (uint32_t i = 0; i < 2; i++) {
        engine_options opt = crowd_options(&on_cuda, true, false);
        opt.devices_count = opt.devices_min = 1 + i;
        opt.micro_rows = 2;
        memcpy(opt.devices, host_gpu_numbers, sizeof host_gpu_numbers);
        crowd *c = crowd_open("synth:tiny:q8_0", &opt);
        CHECK(c != NULL);
        if (c == NULL) return;
        uint32_t cut = 0;
        crowd_rewind(c);
        for (uint32_t step = 0; crowd_step(c, lanes, step); step++)
            cut += engine_micro_batches(c->e);
        CHECK_EQ(cut > 10, i == 1);
        logits[i] = crowd_logits(c, lanes, &n);
        crowd_close(c);
    }
    CHECK(n > 0 && memcmp(logits[0], logits[1], n * sizeof(float)) == 0);
    free(logits[0]);
    free(logits[1]);
    CHECK_EQ(host.leaks(), 0);
}

/* --- models of other kinds -------------------- */

/* Texts of an encoder see all of themselves: they are in one micro-batch each. */
static float *run_texts(const model *m, const engine_options *opt, uint32_t *cut, size_t *floats) {
    static const uint32_t lengths[] = {7, 1, 12, 3};
    engine_row rows[ROWS_MAX];
    engine *e = NULL;
    uint32_t n = 0;
    CHECK_EQ(engine_open(&e, m, opt, NULL), OK);
    for (uint32_t seat = 0; seat < sizeof lengths / sizeof lengths[0]; seat++) {
        CHECK_EQ(kv_seat_grow(engine_kv(e), seat, lengths[seat], NULL), OK);
        for (uint32_t i = 0; i < lengths[seat]; i++)
            rows[n++] = (engine_row){.token = (int32_t)(3 + seat * 5 + i),
                                     .pos = i,
                                     .seat = seat,
                                     .wants_hidden = true,
                                     .prompt = true};
    }
    *floats = n * (size_t)engine_hidden_cols(e);
    float *out = calloc(*floats, sizeof *out);
    (void)engine_step(e, rows, n);
    CHECK(engine_hidden(e) != NULL);
    if (engine_hidden(e) != NULL) memcpy(out, engine_hidden(e), *floats * sizeof *out);
    *cut = engine_micro_batches(e);
    engine_close(e);
    return out;
}

TEST(micro_batches_leave_texts_of_encoders_whole) {
    SHARED_OR_SKIP(path, "oracle/public/models/bert/model-f32.gguf");
    HOST_MACHINE(machines[4]);
    model *m = rig_open_model(path);
    uint32_t cut[2];
    size_t n = 0;
    const engine_options one = options_of(1, 0), two = options_of(2, 4);
    float *want = run_texts(m, &one, &cut[0], &n), *got = run_texts(m, &two, &cut[1], &n);
    CHECK(memcmp(want, got, n * sizeof *got) == 0);
    CHECK_EQ(cut[0], 0);
    CHECK_EQ(cut[1], 3); /* of 7, 1 and 12, and 3 rows */
    free(want);
    free(got);
    model_close(m);
}

TEST(micro_batches_of_every_family_give_the_bits_of_one_gpu) {
    SKIP_UNDER_TSAN;
    static const char *const families[] = {"deepseek2", "mamba", "mixtral"};
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, "oracle/public/models/%s/model-f32.gguf", families[i]);
        check_model(shared_path(path), i % 2 == 0, 2, 3, machines[i % MACHINES]);
    }
}

/* --- where it is not done -------------------- */

TEST(micro_batches_are_none_while_tasks_are_measured) {
    HOST_MACHINE(machines[0]);
    model *m = rig_open_model("synth:tiny:q8_0");
    const engine_options opt = options_of(2, 3);
    backend_profile parts[BACKEND_PARTS_MAX];
    script *s = open_script(m, &opt);
    (void)run_step(s, 0);
    const uint32_t cut = s->cut;
    CHECK(cut > 2);
    CHECK_EQ(engine_profile_switch(s->e, true, NULL), OK);
    (void)run_step(s, 1);
    CHECK_EQ(s->cut, cut);
    CHECK_EQ(engine_profiled(s->e, parts), 2);
    CHECK_EQ(engine_profile_switch(s->e, false, NULL), OK);
    (void)run_step(s, 2);
    CHECK(s->cut > cut);
    close_script(s);
    model_close(m);
}

/* --- faults -------------------- */

/* In any of its kernels, on any GPU, with others having begun: it is named, and the rest ends. */
static void check_fault(const char *call, const char *kernel, uint32_t at) {
    HOST_MACHINE(machines[at % MACHINES]);
    model *m = rig_open_model("synth:thin:q8_0");
    const engine_options opt = options_of(3, 4);
    error why = {0};
    log_set_level(LOG_OFF);
    script *s = open_script(m, &opt);
    CHECK(run_step(s, 0) != NULL);
    host.fault_add(call, kernel, at, CU_ILLEGAL_ADDRESS);
    CHECK(run_step(s, 1) == NULL && engine_fault(s->e) != NULL);
    if (engine_fault(s->e) != NULL) CHECK_HAS(engine_fault(s->e)->msg, "on GPU ");
    CHECK(engine_profile_switch(s->e, true, &why) != OK);
    CHECK_EQ(engine_profile_switch(s->e, false, NULL), OK);
    close_script(s);
    model_close(m);
    log_set_level(LOG_INFO);
}

TEST(micro_batches_end_with_the_gpu_that_fails) {
    SKIP_UNDER_TSAN;
    static const char *const calls[] = {"cuCtxSetCurrent", "cuEventRecord", "cuMemcpyHtoDAsync_v2"};
    for (uint32_t at = 1; at <= 23; at += 4) check_fault(NULL, "k_attention_f16_n2", at);
    for (uint32_t i = 0; i < 3; i++) check_fault(calls[i], NULL, 1 + i);
}

TEST(micro_batches_name_the_gpu_that_was_lost) {
    SKIP_UNDER_TSAN;
    for (uint32_t i = 0; i < 3; i++) {
        char name[16];
        HOST_MACHINE(machines[i]);
        model *m = rig_open_model("synth:thin:q8_0");
        const engine_options opt = options_of(3, 4);
        log_set_level(LOG_OFF);
        script *s = open_script(m, &opt);
        CHECK(run_step(s, 0) != NULL);
        host.lose_gpu(i);
        (void)snprintf(name, sizeof name, "GPU %u ", i);
        CHECK(run_step(s, 1) == NULL && engine_fault(s->e) != NULL);
        if (engine_fault(s->e) != NULL) CHECK_HAS(engine_fault(s->e)->msg, name);
        close_script(s);
        model_close(m);
        log_set_level(LOG_INFO);
    }
}
