/* test_backend_sample.c - tokens that steps on the GPU draw: those that the sampler picks from the
 * logits of the same rows, in steps launched one by one and played as graphs, and 4 bytes each; and
 * their log-probabilities, where they are wanted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"
#include "engine/sampler.h"
#include "tensor/best.h"

enum { SEATS = 6, CTX = 64, VOCAB_MAX = 512, CHANGES = SEATS * CTX, BANNED = 2 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};
static const int32_t banned_ids[BANNED] = {2, 11};

/* Two engines at the same place of the same sequences: one is asked for logits, one for tokens. */
typedef struct scene {
    model *m;
    engine *logits, *tokens;
    sampler *sampler;
    uint32_t steps;
    uint32_t pos[SEATS];
    int32_t ids[SEATS][CTX];
    engine_row rows[SEATS];
    sample_order orders[SEATS];
    sample_change changes[CHANGES];
    uint32_t masks[2][VOCAB_MAX / 32]; /* of every third token, and of some in the middle */
    uint32_t drawn;                    /* rows, so far */
    uint32_t said;                     /* of them, those with log-probabilities */
} scene;

static engine_options options(bool no_graphs, uint32_t device_layers) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, CTX);
    opt.rows_max = 16;
    opt.taken_rows_max = 8;
    opt.no_graphs = no_graphs;
    opt.device_layers = device_layers;
    return opt;
}

static scene *open_scene(const char *spec, const engine_options *opt) {
    scene *s = calloc(1, sizeof *s);
    CHECK_EQ(model_open(&s->m, spec, NULL), OK);
    CHECK_EQ(engine_open(&s->logits, s->m, opt, NULL), OK);
    CHECK_EQ(engine_open(&s->tokens, s->m, opt, NULL), OK);
    CHECK(engine_can_sample(s->tokens));
    CHECK_EQ(sampler_create(&s->sampler, engine_vocab(s->tokens), NULL), OK);
    for (uint32_t i = 0; i < VOCAB_MAX; i += 3) s->masks[0][i / 32] |= 1u << i % 32;
    for (uint32_t i = 30; i < 70; i++) s->masks[1][i / 32] |= 1u << i % 32;
    for (int32_t i = 0; i < SEATS * CTX; i++) s->ids[i / CTX][i % CTX] = 1 + i * 7 % 60;
    return s;
}

static void close_scene(scene *s) {
    sampler_destroy(s->sampler);
    engine_close(s->logits);
    engine_close(s->tokens);
    model_close(s->m);
    free(s);
}

/* Something else in each step and seat. */
static sample_params params_of(const scene *s, uint32_t seat) {
    static const sample_bias biases[] = {{3, 2.5f}, {7, -1}, {40, 3}};
    const uint32_t i = s->steps + seat;
    sample_params p = sample_params_default();
    p.seed = 100 * s->steps + seat;
    p.temperature = 0.4f * (float)(i % 4);
    p.top_k = i % 2 == 0 ? 0 : 5;
    p.top_p = i % 3 == 1 ? 0.8f : 1;
    p.min_p = i % 5 == 4 ? 0.1f : 0;
    p.repetition_penalty = i % 4 == 1 ? 1.3f : 1;
    p.frequency_penalty = i % 4 == 2 ? 0.5f : 0;
    p.biases = biases;
    p.biases_count = i % 6 == 5 ? 3 : 0;
    p.allowed = i % 4 < 2 ? s->masks[i % 7 < 4] : NULL;
    p.logprobs = i % 3 == 2;
    p.top_logprobs = (uint8_t)(i * 7 % (SAMPLE_TOP_MAX + 1));
    return p;
}

static sample_history history_of(const scene *s, uint32_t seat) {
    return (sample_history){s->ids[seat], s->pos[seat] + 1, s->pos[seat] / 2};
}

static uint32_t banned_count(uint32_t seat) { return seat % 2 * BANNED; }

/* The next row of each of the first seats, that wants a token as far as a step can draw it. */
static void fill_rows(scene *s, uint32_t count) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const sample_params p = params_of(s, i);
        engine_row *row = &s->rows[i];
        *row = (engine_row){.token = s->ids[i][s->pos[i]], .pos = s->pos[i], .seat = i};
        row->wants_best = (s->steps + i) % 8 == 3;
        row->wants_logits = (s->steps + i) % 9 == 6;
        if (row->wants_best || row->wants_logits) continue;
        CHECK(sampler_order(s->sampler, &p, history_of(s, i), 1, banned_ids, banned_count(i),
                            (sample_room){s->changes + used, CHANGES - used}, &s->orders[i]));
        row->sample = &s->orders[i];
        used += row->sample->rule.changes_count;
        s->drawn++;
        s->said += p.logprobs;
    }
}

static bool is_near(float got, float want) {
    return fabsf(got - want) <= 1e-6f + 4e-7f * fabsf(want);
}

static void check_logprobs(const sample_logprobs *got, const sample_result *want) {
    CHECK(is_near(got->drawn, want->logprob));
    CHECK_EQ(got->top_count, want->top_count);
    for (uint32_t i = 0; i < want->top_count; i++) {
        CHECK_EQ(got->top_ids[i], (uint32_t)want->top_ids[i]);
        CHECK(is_near(got->top[i], want->top_logprobs[i]));
    }
}

/* logits [count, vocab]: what all rows have; got: what those have that want them. */
static void check_rows(scene *s, uint32_t count, const float *logits, const float *got) {
    const size_t vocab = engine_vocab(s->tokens);
    const int32_t *best = engine_best(s->tokens);
    for (uint32_t i = 0; i < count; i++, logits += vocab, got += vocab) {
        const sample_params p = params_of(s, i);
        sample_result want;
        sampler_pick(s->sampler, logits, &p, history_of(s, i), 1, banned_ids, banned_count(i),
                     &want);
        if (s->rows[i].wants_logits) CHECK(memcmp(got, logits, vocab * sizeof *got) == 0);
        if (!s->rows[i].wants_logits) CHECK(best != NULL);
        if (s->rows[i].wants_best) CHECK_EQ(best[i], best_of(logits, (uint32_t)vocab));
        if (s->rows[i].sample != NULL) CHECK_EQ(best[i], want.id);
        if (s->rows[i].sample != NULL && p.logprobs)
            check_logprobs(&engine_logprobs(s->tokens)[i], &want);
    }
}

static void advance(scene *s, uint32_t count) {
    engine_row all[SEATS];
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(kv_seat_grow(engine_kv(s->logits), i, s->pos[i] + 1, NULL), OK);
        CHECK_EQ(kv_seat_grow(engine_kv(s->tokens), i, s->pos[i] + 1, NULL), OK);
    }
    fill_rows(s, count);
    for (uint32_t i = 0; i < count; i++) {
        all[i] = s->rows[i];
        all[i].sample = NULL;
        all[i].wants_best = false;
        all[i].wants_logits = true;
    }
    const float *logits = engine_step(s->logits, all, count);
    const float *got = engine_step(s->tokens, s->rows, count);
    CHECK(engine_fault(s->logits) == NULL && engine_fault(s->tokens) == NULL);
    if (logits != NULL && got != NULL) check_rows(s, count, logits, got);
    for (uint32_t i = 0; i < count; i++) s->pos[i]++;
    s->steps++;
}

static void run_scene(const char *spec, const engine_options *opt) {
    static const uint32_t sizes[] = {1, 1, 1, 4, 4, 6, 3, 5, 6, 1, 4};
    scene *s = open_scene(spec, opt);
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) advance(s, sizes[i]);
    CHECK(s->drawn > 25 && s->said > 7);
    close_scene(s);
}

TEST(cuda_steps_draw_the_samplers_tokens) {
    static const char *const machines[] = {"t4", "{\"gpus\":[{\"preset\":\"h100\"}],"
                                                 "\"streams\":\"deferred\",\"seed\":7}"};
    for (int i = 0; i < 4; i++) {
        HOST_MACHINE(machines[i % 2]);
        const engine_options opt = options(i / 2 == 0, 0);
        run_scene(i % 2 == 0 ? "synth:tiny:q8_0" : "synth:tiny:f32", &opt);
        CHECK_EQ(host.calls("cuGraphLaunch") > 0, i / 2 == 1);
        CHECK_EQ(host.leaks(), 0);
    }
}

TEST(cuda_steps_of_a_split_model_draw_the_samplers_tokens) {
    HOST_MACHINE("t4");
    const engine_options opt = options(false, 1);
    run_scene("synth:small:q8_0", &opt);
    CHECK_EQ(host.leaks(), 0);
}

/* --- what goes there and comes back -------------------- */

static sim_copied_bytes copied_by(scene *s, uint32_t count) {
    const sim_copied_bytes before = host.copied();
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQ(kv_seat_grow(engine_kv(s->tokens), i, ++s->pos[i], NULL), OK);
    for (uint32_t i = 0; i < count; i++) s->rows[i].pos = s->pos[i] - 1;
    (void)engine_step(s->tokens, s->rows, count);
    const sim_copied_bytes now = host.copied();
    return (sim_copied_bytes){.in = now.in - before.in, .out = now.out - before.out};
}

/* Four bytes a row, and the word that says whether the step went well; the rules go there in a copy
 * of their own, and no more changes than there are. */
TEST(cuda_step_that_draws_brings_no_logits) {
    HOST_MACHINE("t4");
    const engine_options opt = options(true, 0);
    scene *s = open_scene("synth:tiny:q8_0", &opt);
    sample_order order = {.rule = {.random = 1,
                                   .top_p = SAMPLE_TOP_P_ALL,
                                   .top_k = 40,
                                   .min_p = SAMPLE_FAR,
                                   .temperature = 1,
                                   .repetition = 1,
                                   .wanted = 1},
                          .changes = s->changes};
    for (uint32_t i = 0; i < SEATS; i++) s->rows[i] = (engine_row){.token = 1, .seat = i};
    (void)copied_by(s, 4); /* loads */
    const uint64_t plain = copied_by(s, 4).in;
    CHECK_EQ(host.launches("k_sample"), 0);
    for (uint32_t i = 0; i < 4; i++) s->rows[i].sample = &order;
    const sim_copied_bytes drawn = copied_by(s, 4);
    CHECK_EQ(drawn.out, 4 + 4 * 4);
    CHECK(drawn.in > plain && drawn.in <= plain + 512);
    CHECK_EQ(host.launches("k_sample"), 1);
    order.rule.changes_count = 3;
    for (uint32_t i = 0; i < 3; i++) s->changes[i].id = i;
    CHECK_EQ(copied_by(s, 4).in, drawn.in + 4 * 3 * sizeof(sample_change));
    order.rule.changes_count = 0;
    order.allowed = s->masks[0]; /* one for all */
    const uint64_t mask_bytes = 4 * sample_mask_words(engine_vocab(s->tokens));
    CHECK_EQ(copied_by(s, 4).in, drawn.in + mask_bytes);
    sample_order other = order;
    other.allowed = s->masks[1];
    s->rows[2].sample = &other;
    CHECK_EQ(copied_by(s, 4).in, drawn.in + 3 * mask_bytes);
    s->rows[2].sample = &order;
    order.allowed = NULL;
    CHECK_EQ(host.launches("k_argmax"), 0);
    s->rows[0].sample = NULL;
    s->rows[0].wants_best = true;
    CHECK_EQ(copied_by(s, 4).out, 4 + 4 * 4);
    CHECK_EQ(host.launches("k_argmax"), 1);
    s->rows[0].wants_best = false;
    s->rows[0].wants_logits = true;
    const uint64_t row_bytes = 4u * (engine_logits_cols(s->tokens) + engine_hidden_cols(s->tokens));
    CHECK_EQ(copied_by(s, 4).out, 4 + 4 * 4 + row_bytes);
    CHECK(engine_logprobs(s->tokens) == NULL);
    CHECK_EQ(host.launches("k_logprobs"), 0);
    close_scene(s);
    CHECK_EQ(host.leaks(), 0);
}

/* Whatever their number, a row that wants log-probabilities costs their bytes, and the others
 * nothing; what goes there does not grow. */
TEST(cuda_step_brings_logprobs_of_rows_that_want_them) {
    HOST_MACHINE("t4");
    const engine_options opt = options(true, 0);
    scene *s = open_scene("synth:tiny:q8_0", &opt);
    sample_params p = sample_params_default();
    sample_order plain, with;
    const sample_room none = {s->changes, 0};
    CHECK(sampler_order(s->sampler, &p, history_of(s, 0), 0, NULL, 0, none, &plain));
    p.logprobs = true;
    CHECK(sampler_order(s->sampler, &p, history_of(s, 0), 0, NULL, 0, none, &with));
    for (uint32_t i = 0; i < SEATS; i++)
        s->rows[i] = (engine_row){.token = 1, .seat = i, .sample = &plain};
    (void)copied_by(s, 6); /* loads */
    const sim_copied_bytes drawn = copied_by(s, 6);
    CHECK(host.launches("k_logprobs") == 0 && engine_logprobs(s->tokens) == NULL);
    s->rows[1].sample = s->rows[2].sample = s->rows[5].sample = &with;
    const sim_copied_bytes said = copied_by(s, 6);
    CHECK_EQ(said.out, drawn.out + 3 * sizeof(sample_logprobs));
    CHECK_EQ(said.in, drawn.in);
    CHECK(host.launches("k_logprobs") == 1 && engine_logprobs(s->tokens) != NULL);
    close_scene(s);
    CHECK_EQ(host.leaks(), 0);
}

enum { REPEATS = 6, TOGETHER = 3 };

/* Log-probabilities of steps of equal rows, [REPEATS, TOGETHER]. */
static void say_steps(bool no_graphs, sample_logprobs *out) {
    const engine_options opt = options(no_graphs, 0);
    scene *s = open_scene("synth:tiny:f32", &opt);
    for (uint32_t k = 0; k < REPEATS; k++) {
        for (uint32_t i = 0; i < TOGETHER; i++) {
            sample_params p = sample_params_default();
            p.seed = k;
            p.logprobs = true;
            p.top_logprobs = (uint8_t)(10 * i);
            CHECK(sampler_order(s->sampler, &p, history_of(s, i), 0, NULL, 0,
                                (sample_room){s->changes, 0}, &s->orders[i]));
            s->rows[i] = (engine_row){.token = (int32_t)(1 + i), .seat = i};
            s->rows[i].sample = &s->orders[i];
        }
        (void)copied_by(s, TOGETHER);
        memcpy(out + (size_t)k * TOGETHER, engine_logprobs(s->tokens), TOGETHER * sizeof *out);
    }
    close_scene(s);
}

TEST(cuda_logprobs_have_the_same_bits_in_graphs) {
    sample_logprobs eager[REPEATS * TOGETHER], played[REPEATS * TOGETHER];
    HOST_MACHINE("a10");
    say_steps(true, eager);
    CHECK_EQ(host.calls("cuGraphLaunch"), 0);
    say_steps(false, played);
    CHECK(host.calls("cuGraphLaunch") >= REPEATS - 2);
    for (uint32_t i = 0; i < REPEATS * TOGETHER; i++) {
        CHECK(memcmp(&eager[i], &played[i], sizeof eager[i]) == 0);
        CHECK_EQ(eager[i].top_count, 10 * (i % TOGETHER));
        CHECK(eager[i].drawn < 0);
    }
    CHECK_EQ(host.leaks(), 0);
}
