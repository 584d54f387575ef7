/* test_sampler.c - sampler.h: ties, seeds, bans, log-probabilities and broken logits. */
#include "base/alloc.h"
#include "draw_by_sorting.h"
#include "engine/philox.h"
#include "engine/sampler.h"
#include "tensor/best.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 64 };

static const sample_history no_history = {NULL, 0, 0};

/* One draw with everything else at rest. */
static int32_t pick(const float *logits, uint32_t vocab, const sample_params *p, uint32_t choice,
                    uint32_t position) {
    static const int32_t ids[4096];
    sampler *s = NULL;
    sample_result out;
    CHECK_EQ(sampler_create(&s, vocab, NULL), OK);
    sampler_pick(s, logits, p, (sample_history){ids, position, 0}, choice, NULL, 0, &out);
    sampler_destroy(s);
    return out.id;
}

static void ramp(float *logits, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) logits[i] = 0.1f * (float)((i * 37) % n);
}

/* Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; known answers of the
 * Random123 distribution. */
TEST(philox_known_answers) {
    philox_block zero = philox((philox_block){{0, 0, 0, 0}}, 0, 0);
    CHECK(zero.v[0] == 0x6627e8d5 && zero.v[1] == 0xe169c58d);
    CHECK(zero.v[2] == 0xbc57ac4c && zero.v[3] == 0x9b00dbd8);
    uint32_t f = UINT32_MAX;
    philox_block ones = philox((philox_block){{f, f, f, f}}, f, f);
    CHECK(ones.v[0] == 0x408f276d && ones.v[1] == 0x41c83b0e);
    CHECK(ones.v[2] == 0xa20bc7c6 && ones.v[3] == 0x6d5451fd);
    philox_block pi = philox((philox_block){{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
                             0xa4093822, 0x299f31d0);
    CHECK(pi.v[0] == 0xd16cfe09 && pi.v[1] == 0x94fdcceb);
    CHECK(pi.v[2] == 0x5001e420 && pi.v[3] == 0x24126ea1);
}

TEST(philox_numbers_fill_their_range) {
    enum { DRAWS = 20000, BINS = 20 };
    uint32_t bins[BINS] = {0};
    double chi = 0;
    for (uint32_t i = 0; i < DRAWS; i++)
        bins[(int)(ldexp((double)philox_u64(12345, 1, i), -64) * BINS)]++;
    for (int i = 0; i < BINS; i++) {
        double d = bins[i] - (double)DRAWS / BINS;
        chi += d * d / ((double)DRAWS / BINS);
    }
    CHECK(chi < 45); /* 19 degrees of freedom: 99.9 % lie below 43.8; the draws are fixed */
    CHECK(philox_u64(1, 0, 0) != philox_u64(2, 0, 0));
    CHECK(philox_u64(1, 0, 0) != philox_u64(1ull << 32 | 1, 0, 0));
}

TEST(sampler_greedy_takes_the_best_and_the_smaller_id_of_equals) {
    float logits[VOCAB];
    sample_params p = sample_params_default();
    p.temperature = 0;
    ramp(logits, VOCAB);
    logits[9] = logits[40] = logits[17] = 50.0f;
    CHECK_EQ(pick(logits, VOCAB, &p, 0, 5), 9);
    logits[9] = 49.0f;
    CHECK_EQ(pick(logits, VOCAB, &p, 0, 5), 17);
    for (int i = 0; i < VOCAB; i++) logits[i] = -3.0f;
    CHECK_EQ(pick(logits, VOCAB, &p, 0, 5), 0);
    p.temperature = 1;
    p.top_k = 1;
    CHECK_EQ(pick(logits, VOCAB, &p, 0, 5), 0);
}

TEST(sampler_tiny_temperatures_are_greedy) {
    static const float temperatures[] = {1e-45f, 1e-38f, 1e-30f, 1e-10f, 1e-5f};
    float logits[VOCAB];
    sample_params p = sample_params_default();
    ramp(logits, VOCAB);
    for (int sign = 0; sign < 2; sign++) {
        logits[23] = sign == 0 ? 20.0f : -1.0f;
        if (sign == 1)
            for (int i = 0; i < VOCAB; i++) logits[i] -= 30.0f;
        int32_t best = 0;
        for (int i = 1; i < VOCAB; i++)
            if (logits[i] > logits[best]) best = i;
        for (int i = 0; i < 5; i++) {
            p.temperature = temperatures[i];
            CHECK_EQ(pick(logits, VOCAB, &p, 0, 5), best);
            p.top_p = 0.9f;
            p.min_p = 0.1f;
            CHECK_EQ(pick(logits, VOCAB, &p, 0, 5), best);
            p.top_p = 1;
            p.min_p = 0;
        }
    }
}

TEST(sampler_draws_repeat_and_differ_where_they_should) {
    float logits[VOCAB];
    sample_params p = sample_params_default();
    uint32_t by_seed = 0, by_choice = 0, by_position = 0;
    ramp(logits, VOCAB);
    for (uint32_t i = 0; i < 100; i++) {
        p.seed = i;
        int32_t id = pick(logits, VOCAB, &p, 0, 7);
        CHECK_EQ(pick(logits, VOCAB, &p, 0, 7), id);
        by_choice += pick(logits, VOCAB, &p, 1, 7) != id;
        by_position += pick(logits, VOCAB, &p, 0, 8) != id;
        p.seed = i | 1ull << 40;
        by_seed += pick(logits, VOCAB, &p, 0, 7) != id;
    }
    CHECK(by_seed > 80 && by_choice > 80 && by_position > 80);
}

/* Pearson's chi-square of many draws against the exact distribution. */
TEST(sampler_draws_follow_the_distribution) {
    enum { IDS = 12, DRAWS = 8000 };
    static const int32_t ids[DRAWS];
    float logits[IDS], probs[IDS];
    uint32_t counts[IDS] = {0};
    sampler *s = NULL;
    sample_params p = sample_params_default();
    static const sample_stage chain[] = {SAMPLE_TEMPERATURE, SAMPLE_TOP_K};
    for (int i = 0; i < IDS; i++) logits[i] = (float)(i % 5);
    p.temperature = 1.5f;
    p.top_k = 10;
    p.seed = 4711;
    CHECK_EQ(sampler_create(&s, IDS, NULL), OK);
    for (uint32_t i = 0; i < DRAWS; i++) {
        sample_result out;
        sampler_pick(s, logits, &p, (sample_history){ids, i, 0}, 0, NULL, 0, &out);
        counts[out.id]++;
    }
    sampler_distribution(s, logits, &p, no_history, chain, 2, probs);
    double chi = 0;
    for (int i = 0; i < IDS; i++) {
        double want = (double)probs[i] * DRAWS, d = counts[i] - want;
        if (want == 0.0)
            CHECK_EQ(counts[i], 0);
        else
            chi += d * d / want;
    }
    CHECK(chi < 30); /* 9 degrees of freedom: 99.9 % lie below 27.9; the draws are fixed */
    sampler_destroy(s);
}

/* --- the definition of tensor/sample.h -------------------- */

/* Of the exponential: 2e-8 of itself and what is below 1. */
TEST(sample_weights_are_those_of_softmax) {
    double worst = 0;
    for (uint32_t i = 0; i < 200000; i++) {
        const float d = (float)i * (SAMPLE_REACH / 200000);
        const uint32_t units = sample_units(d);
        const double want = exp(-(double)d) * (double)SAMPLE_ONE;
        const double got = (double)sample_weight(units);
        CHECK(got >= 1);
        worst = fmax(worst, (fabs(got - want) - 1) / want);
    }
    CHECK(worst < 2e-8);
    CHECK_EQ(sample_weight(0), SAMPLE_ONE);
    CHECK_EQ(sample_units(SAMPLE_REACH), SAMPLE_FAR);
    CHECK_EQ(sample_units(NAN), SAMPLE_FAR);
}

TEST(sample_shares_are_exact) {
    uint64_t state = 7, rest = 0;
    for (int i = 0; i < 1000; i++) {
        const uint64_t a = state = state * 6364136223846793005ull + 1442695040888963407ull;
        const uint64_t b = (state = state * 6364136223846793005ull + 1442695040888963407ull) >> 1;
        const unsigned __int128 want = (unsigned __int128)a * b;
        CHECK_EQ(sample_share(a, b, &rest), (uint64_t)(want >> 64));
        CHECK_EQ(rest, (uint64_t)want);
    }
    CHECK_EQ(sample_top_p_need(1ull << 63, 10), 5);
    CHECK_EQ(sample_top_p_need((1ull << 63) + 1, 10), 6);
    CHECK_EQ(sample_top_p_need(0, 10), 1);
    CHECK_EQ(sample_drawn_need(0, 10), 1);
    CHECK_EQ(sample_drawn_need(UINT64_MAX, 10), 10);
}

static int32_t pick_by_sorting(const float *logits, uint32_t vocab, const sample_params *p,
                               uint32_t position) {
    static const int32_t ids[4096];
    sampler *s = NULL;
    sample_order o = {0};
    CHECK_EQ(sampler_create(&s, vocab, NULL), OK);
    CHECK(
        sampler_order(s, p, (sample_history){ids, position, 0}, 0, NULL, 0, (sample_room){0}, &o));
    sampler_destroy(s);
    return draw_by_sorting(logits, vocab, &o);
}

/* About one of `each` tokens, and at least the last one. */
static void fill_mask(uint32_t *mask, uint32_t vocab, uint32_t each) {
    memset(mask, 0, sample_mask_words(vocab) * sizeof *mask);
    for (uint32_t i = 0; i < vocab; i++)
        if (i * 2654435761u % (1 + each % 60) == 0 || i + 1 == vocab) mask[i / 32] |= 1u << i % 32;
}

TEST(sampler_picks_what_sorting_would) {
    static const float temperatures[] = {0.01f, 0.5f, 1, 1.7f, 30}, top_ps[] = {0, 0.3f, 0.95f, 1};
    static const float min_ps[] = {0, 0.02f, 0.6f, 1};
    static float logits[3000];
    static uint32_t mask[3000 / 32 + 1];
    uint64_t state = 3;
    for (uint32_t i = 0; i < 400; i++) {
        const uint32_t n = i % 5 == 0 ? 3000 : 1 + i;
        const uint32_t grain = 1u << (i % 4 * 8); /* of many ties, and of none */
        for (uint32_t k = 0; k < n; k++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            logits[k] = (float)((state >> 40) / grain * grain) * 0x1p-20f;
            if (i % 7 == 0 && k % 3 == 0) logits[k] = k % 2 == 0 ? NAN : -INFINITY;
        }
        sample_params p = sample_params_default();
        p.seed = i;
        p.temperature = temperatures[i % 5];
        p.top_p = top_ps[i / 5 % 4];
        p.min_p = min_ps[i / 20 % 4];
        p.top_k = i % 3 == 0 ? 1 + (uint32_t)(state >> 33) % n : 0;
        fill_mask(mask, n, i);
        p.allowed = i % 2 == 0 ? mask : NULL;
        CHECK_EQ(pick(logits, n, &p, 0, i), pick_by_sorting(logits, n, &p, i));
    }
}

TEST(sampler_orders_only_what_a_device_can_draw) {
    sample_bias biases[SAMPLE_CHANGES_MAX + 1];
    static sample_change room[SAMPLE_CHANGES_MAX + 1];
    static const int32_t ids[] = {5, 6, 6, 7}, banned[] = {6, 9};
    static const uint32_t mask[4096 / 32] = {1};
    sampler *s = NULL;
    sample_order o;
    sample_params p = sample_params_default();
    CHECK_EQ(sampler_create(&s, 4096, NULL), OK);
    CHECK(sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, 0}, &o));
    CHECK_EQ(o.rule.changes_count, 0);
    CHECK_EQ(o.rule.logprobs, 0);
    CHECK(o.allowed == NULL);
    p.allowed = mask;
    CHECK(sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, 0}, &o));
    CHECK(o.allowed == mask && o.rule.mask == 0);
    p.allowed = NULL;
    p.logprobs = true;
    CHECK(sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, 0}, &o));
    CHECK_EQ(o.rule.logprobs, 1);
    p.top_logprobs = SAMPLE_TOP_MAX;
    CHECK(sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, 0}, &o));
    CHECK_EQ(o.rule.logprobs, 1 + SAMPLE_TOP_MAX);
    p.logprobs = false;
    CHECK(sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, 0}, &o));
    CHECK_EQ(o.rule.logprobs, 0);
    for (int32_t i = 0; i <= SAMPLE_CHANGES_MAX; i++) biases[i] = (sample_bias){i, 1};
    p.biases = biases;
    p.biases_count = SAMPLE_CHANGES_MAX;
    CHECK(sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, SAMPLE_CHANGES_MAX + 1},
                        &o));
    CHECK_EQ(o.rule.changes_count, SAMPLE_CHANGES_MAX);
    CHECK(!sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, SAMPLE_CHANGES_MAX - 1},
                         &o));
    p.biases_count++;
    CHECK(!sampler_order(s, &p, no_history, 0, NULL, 0, (sample_room){room, SAMPLE_CHANGES_MAX + 1},
                         &o));
    p.biases_count = 1; /* of token 0 */
    p.presence_penalty = 1;
    p.frequency_penalty = 0.25f;
    CHECK(sampler_order(s, &p, (sample_history){ids, 4, 1}, 0, banned, 2, (sample_room){room, 8},
                        &o));
    CHECK_EQ(o.rule.changes_count, 4); /* 0, 6, 7, 9; 5 is only in the prompt */
    CHECK(room[0].id == 0 && room[0].bias == 1 && room[0].minus == 0);
    CHECK(room[1].id == 6 && room[1].minus == 1.5f && room[1].flags == SAMPLE_BANNED);
    CHECK(room[2].id == 7 && room[2].minus == 1.25f && room[2].flags == 0);
    CHECK(room[3].id == 9 && room[3].flags == SAMPLE_BANNED);
    p.repetition_penalty = 1.5f;
    CHECK(
        sampler_order(s, &p, (sample_history){ids, 4, 1}, 0, NULL, 0, (sample_room){room, 8}, &o));
    CHECK_EQ(o.rule.changes_count, 4);
    CHECK(room[1].id == 5 && room[1].minus == 0 && room[1].flags == SAMPLE_REPEATED);
    sampler_destroy(s);
}

TEST(sampler_results_are_made_of_what_a_device_says) {
    sample_logprobs said = {.drawn = -0.5f, .top_count = 2};
    said.top_ids[0] = 9;
    said.top_ids[1] = 4;
    said.top_ids[2] = 77; /* behind the end */
    said.top[0] = -0.25f;
    said.top[1] = -0.5f;
    const sample_result none = sample_result_of(4, NULL), some = sample_result_of(4, &said);
    CHECK(none.id == 4 && none.top_count == 0 && none.logprob == 0);
    CHECK(some.id == 4 && some.top_count == 2 && some.logprob == -0.5f);
    CHECK(some.top_ids[0] == 9 && some.top_ids[1] == 4 && some.top_ids[2] == 0);
    CHECK(some.top_logprobs[0] == -0.25f && some.top_logprobs[1] == -0.5f);
}

/* --- bans -------------------- */

TEST(sampler_never_returns_a_banned_id) {
    static const int32_t banned[] = {3, 40, 41, 63};
    float logits[VOCAB];
    sampler *s = NULL;
    sample_result out;
    ramp(logits, VOCAB);
    logits[40] = 90;
    logits[3] = 80;
    CHECK_EQ(sampler_create(&s, VOCAB, NULL), OK);
    for (uint32_t i = 0; i < 400; i++) {
        static const int32_t ids[400];
        sample_bias bias = {40, 100.0f};
        sample_params p = sample_params_default();
        p.temperature = i % 4 == 0 ? 0.0f : 2.0f * (float)(i % 4);
        p.top_k = i % 5;
        p.top_p = i % 3 == 0 ? 0.5f : 1.0f;
        p.min_p = i % 7 == 0 ? 0.3f : 0.0f;
        p.repetition_penalty = i % 2 == 0 ? 0.5f : 1.0f;
        p.presence_penalty = -5.0f;
        p.biases = &bias;
        p.biases_count = 1;
        p.seed = i;
        sampler_pick(s, logits, &p, (sample_history){ids, i, 0}, 0, banned, 4, &out);
        CHECK(out.id >= 0 && out.id < VOCAB);
        for (int k = 0; k < 4; k++) CHECK(out.id != banned[k]);
    }
    /* only one id is left */
    int32_t all_but_one[VOCAB - 1];
    for (int32_t i = 0, n = 0; i < VOCAB; i++)
        if (i != 17) all_but_one[n++] = i;
    for (int t = 0; t < 3; t++) {
        sample_params p = sample_params_default();
        p.temperature = (float)t;
        sampler_pick(s, logits, &p, no_history, 0, all_but_one, VOCAB - 1, &out);
        CHECK_EQ(out.id, 17);
    }
    sampler_destroy(s);
}

/* --- masks -------------------- */

typedef struct masked {
    sampler *s;
    float logits[VOCAB];
    uint32_t mask[VOCAB / 32];
    sample_params p;
} masked;

static int32_t pick_masked(masked *m, const int32_t *banned, uint32_t banned_count) {
    sample_result out;
    m->p.allowed = m->mask;
    sampler_pick(m->s, m->logits, &m->p, no_history, 0, banned, banned_count, &out);
    return out.id;
}

static void allow(masked *m, const int32_t *ids, uint32_t count) {
    memset(m->mask, 0, sizeof m->mask);
    for (uint32_t i = 0; i < count; i++) m->mask[ids[i] / 32] |= 1u << ids[i] % 32;
}

static void open_masked(masked *m) {
    *m = (masked){.p = sample_params_default()};
    ramp(m->logits, VOCAB);
    CHECK_EQ(sampler_create(&m->s, VOCAB, NULL), OK);
}

TEST(sampler_draws_what_is_allowed_and_nothing_else) {
    static const int32_t ids[] = {0, 31, 32, 63};
    masked m;
    bool came[VOCAB] = {false};
    open_masked(&m);
    allow(&m, ids, 4);
    for (m.p.seed = 0; m.p.seed < 400; m.p.seed++) {
        m.p.temperature = m.p.seed % 4 == 0 ? 0.5f : 30;
        m.p.top_k = (uint32_t)m.p.seed % 5 * 2;
        m.p.top_p = m.p.seed % 3 == 0 ? 0.7f : 1;
        m.p.repetition_penalty = m.p.seed % 2 == 0 ? 1.5f : 1;
        const int32_t id = pick_masked(&m, NULL, 0);
        CHECK(id == 0 || id == 31 || id == 32 || id == 63);
        came[id] = true;
    }
    for (int i = 0; i < 4; i++) CHECK(came[ids[i]]);
    m.p.temperature = 0;
    m.logits[32] = m.logits[63] = 7; /* of equals the smaller id, and 40 is not there */
    m.logits[40] = 1000;
    CHECK_EQ(pick_masked(&m, NULL, 0), 32);
    sampler_destroy(m.s);
}

TEST(sampler_of_a_mask_says_log_probabilities_of_all_tokens) {
    static const int32_t ids[] = {5};
    masked m;
    sample_result with, without;
    open_masked(&m);
    allow(&m, ids, 1);
    m.p.logprobs = true;
    m.p.top_logprobs = 3;
    m.p.allowed = m.mask;
    sampler_pick(m.s, m.logits, &m.p, no_history, 0, NULL, 0, &with);
    m.p.allowed = NULL;
    m.p.biases = &(sample_bias){5, 100};
    m.p.biases_count = 1;
    sampler_pick(m.s, m.logits, &m.p, no_history, 0, NULL, 0, &without);
    CHECK(with.id == 5 && without.id == 5 && with.logprob == without.logprob);
    CHECK(memcmp(with.top_ids, without.top_ids, 3 * sizeof with.top_ids[0]) == 0);
    sampler_destroy(m.s);
}

/* As sample.h has it: a ban gives way to a mask, and a mask of nothing leaves token 0. */
TEST(sampler_of_bans_and_a_mask_that_leave_nothing_takes_the_first_that_is_allowed) {
    static const int32_t ids[] = {40, 9, 60}, some[] = {60, 9}, others[] = {60, 40};
    masked m;
    open_masked(&m);
    for (int i = 0; i < 3; i++) {
        m.p.temperature = (float)i;
        allow(&m, ids, 3);
        CHECK_EQ(pick_masked(&m, some, 2), 40);
        CHECK_EQ(pick_masked(&m, ids, 3), 9);
        m.logits[9] = NAN; /* behind -inf */
        CHECK_EQ(pick_masked(&m, others, 2), 40);
        m.logits[9] = 1;
        allow(&m, ids, 0);
        CHECK_EQ(pick_masked(&m, NULL, 0), 0);
    }
    sampler_destroy(m.s);
}

TEST(sampler_bans_do_not_outlive_their_call) {
    float logits[VOCAB];
    sampler *s = NULL;
    sample_result out;
    sample_params p = sample_params_default();
    int32_t best = 5;
    ramp(logits, VOCAB);
    logits[5] = 60;
    p.temperature = 0;
    CHECK_EQ(sampler_create(&s, VOCAB, NULL), OK);
    sampler_pick(s, logits, &p, no_history, 0, &best, 1, &out);
    CHECK(out.id != 5);
    sampler_pick(s, logits, &p, no_history, 0, NULL, 0, &out);
    CHECK_EQ(out.id, 5);
    CHECK(logits[5] == 60);
    sampler_destroy(s);
}

/* --- penalties and biases -------------------- */

TEST(sampler_penalties_tell_prompt_from_output) {
    static const sample_stage stage = SAMPLE_PENALTIES;
    static const int32_t ids[] = {1, 1, 2, 2, 3, 2};
    float logits[8] = {0}, probs[8];
    sampler *s = NULL;
    sample_params p = sample_params_default();
    CHECK_EQ(sampler_create(&s, 8, NULL), OK);
    p.presence_penalty = 1.0f;
    p.frequency_penalty = 0.5f;
    sampler_distribution(s, logits, &p, (sample_history){ids, 6, 3}, &stage, 1, probs);
    CHECK(probs[1] == probs[0]); /* only in the prompt */
    CHECK(fabsf(logf(probs[0] / probs[2]) - 2.0f) < 1e-5f);
    CHECK(fabsf(logf(probs[0] / probs[3]) - 1.5f) < 1e-5f);
    p.penalty_tokens = 2; /* sees 3 and the last 2 */
    sampler_distribution(s, logits, &p, (sample_history){ids, 6, 3}, &stage, 1, probs);
    CHECK(fabsf(logf(probs[0] / probs[2]) - 1.5f) < 1e-5f);
    p = sample_params_default();
    p.repetition_penalty = 2.0f;
    for (int i = 0; i < 8; i++) logits[i] = i % 2 == 0 ? 1.0f : -1.0f;
    sampler_distribution(s, logits, &p, (sample_history){ids, 6, 6}, &stage, 1, probs);
    CHECK(fabsf(logf(probs[0] / probs[2]) - 0.5f) < 1e-5f); /* 1 -> 0.5, prompt too */
    CHECK(fabsf(logf(probs[5] / probs[1]) - 1.0f) < 1e-5f); /* -1 -> -2 */
    sampler_destroy(s);
}

TEST(sampler_ignores_bias_for_ids_outside_the_vocabulary) {
    sample_bias biases[] = {{-1, 5}, {8, 5}, {INT32_MAX, 5}, {INT32_MIN, 5}, {2, 3}};
    static const sample_stage stage = SAMPLE_PENALTIES;
    float logits[8] = {0}, probs[8];
    sampler *s = NULL;
    sample_params p = sample_params_default();
    p.biases = biases;
    p.biases_count = 5;
    CHECK_EQ(sampler_create(&s, 8, NULL), OK);
    sampler_distribution(s, logits, &p, no_history, &stage, 1, probs);
    CHECK(fabsf(logf(probs[2] / probs[0]) - 3.0f) < 1e-5f);
    CHECK(probs[1] == probs[0] && probs[7] == probs[0]);
    sampler_destroy(s);
}

/* --- log-probabilities -------------------- */

TEST(sampler_logprobs_are_of_the_untouched_logits) {
    float logits[VOCAB];
    sampler *s = NULL;
    sample_result out;
    sample_params p = sample_params_default();
    double total = 0;
    ramp(logits, VOCAB);
    logits[30] = logits[31]; /* a tie inside the list */
    for (int i = 0; i < VOCAB; i++) total += exp((double)logits[i]);
    p.temperature = 0.3f;
    p.top_k = 3;
    p.logprobs = true;
    p.top_logprobs = SAMPLE_TOP_MAX;
    CHECK_EQ(sampler_create(&s, VOCAB, NULL), OK);
    for (uint64_t seed = 0; seed < 20; seed++) {
        p.seed = seed;
        sampler_pick(s, logits, &p, no_history, 0, NULL, 0, &out);
        CHECK(fabs((double)out.logprob - ((double)logits[out.id] - log(total))) < 1e-5);
        CHECK_EQ(out.top_count, SAMPLE_TOP_MAX);
        for (uint32_t i = 0; i < out.top_count; i++) {
            double want = (double)logits[out.top_ids[i]] - log(total);
            CHECK(fabs((double)out.top_logprobs[i] - want) < 1e-5);
            if (i == 0) continue;
            float before = logits[out.top_ids[i - 1]], now = logits[out.top_ids[i]];
            CHECK(before > now || (before == now && out.top_ids[i - 1] < out.top_ids[i]));
        }
        uint32_t better = 0;
        for (int i = 0; i < VOCAB; i++) better += logits[i] > logits[out.top_ids[19]];
        CHECK(better <= 19);
    }
    sampler_destroy(s);
}

TEST(sampler_top_logprobs_sum_to_one_over_a_small_vocabulary) {
    float logits[6] = {1, 2, 3, -1, 0, 2};
    sampler *s = NULL;
    sample_result out;
    sample_params p = sample_params_default();
    double sum = 0;
    p.logprobs = true;
    p.top_logprobs = SAMPLE_TOP_MAX;
    CHECK_EQ(sampler_create(&s, 6, NULL), OK);
    sampler_pick(s, logits, &p, no_history, 0, NULL, 0, &out);
    CHECK_EQ(out.top_count, 6);
    for (int i = 0; i < 6; i++) sum += exp((double)out.top_logprobs[i]);
    CHECK(fabs(sum - 1) < 1e-6);
    CHECK(out.top_ids[0] == 2 && out.top_ids[1] == 1 && out.top_ids[2] == 5);
    p.logprobs = false;
    sampler_pick(s, logits, &p, no_history, 0, NULL, 0, &out);
    CHECK_EQ(out.top_count, 0);
    sampler_destroy(s);
}

TEST(sampler_logprobs_of_large_logits_keep_what_is_small) {
    float logits[8];
    sampler *s = NULL;
    sample_result out;
    sample_params p = sample_params_default();
    for (int i = 0; i < 8; i++) logits[i] = i % 2 == 0 ? 3e38f : 1e38f;
    p.logprobs = true;
    p.top_logprobs = 2;
    CHECK_EQ(sampler_create(&s, 8, NULL), OK);
    sampler_pick(s, logits, &p, no_history, 0, NULL, 0, &out);
    CHECK(fabsf(out.logprob + logf(4)) < 1e-6f && out.top_logprobs[1] == out.logprob);
    sampler_destroy(s);
}

/* --- what must not happen -------------------- */

TEST(sampler_broken_logits_give_some_id) {
    static const float broken[] = {NAN, INFINITY, -INFINITY};
    sampler *s = NULL;
    sample_result out;
    CHECK_EQ(sampler_create(&s, VOCAB, NULL), OK);
    for (unsigned i = 0; i < 3 * 4 * 4; i++) {
        float logits[VOCAB];
        sample_params p = sample_params_default();
        ramp(logits, VOCAB);
        for (int k = 0; k < VOCAB; k++) /* one, every third, all */
            if (i % 4 == 3 || (i % 4 == 2 && k % 3 == 0) || (i % 4 == 1 && k == 11))
                logits[k] = broken[i / 4 % 3];
        p.temperature = 0.5f * (float)(i / 12);
        p.top_k = i % 2 == 0 ? 5 : 0;
        p.top_p = 0.9f;
        p.min_p = 0.05f;
        p.repetition_penalty = 1.1f;
        p.logprobs = true;
        p.top_logprobs = 5;
        sampler_pick(s, logits, &p, no_history, 0, NULL, 0, &out);
        CHECK(out.id >= 0 && out.id < VOCAB);
    }
    sampler_destroy(s);
}

TEST(sampler_greedy_steps_around_nan) {
    float logits[VOCAB];
    sample_params p = sample_params_default();
    p.temperature = 0;
    ramp(logits, VOCAB);
    logits[50] = 30;
    logits[0] = logits[10] = logits[63] = NAN;
    CHECK_EQ(pick(logits, VOCAB, &p, 0, 0), 50);
}

TEST(sampler_of_one_token) {
    float logit = -4.0f;
    sample_params p = sample_params_default();
    CHECK_EQ(pick(&logit, 1, &p, 0, 0), 0);
    p.temperature = 0;
    p.top_k = 40;
    CHECK_EQ(pick(&logit, 1, &p, 0, 0), 0);
}

TEST(sampler_stages_agree_with_a_full_sort_on_a_large_vocabulary) {
    enum { LARGE = 32000 };
    static float logits[LARGE], probs[LARGE];
    sampler *s = NULL;
    sample_params p = sample_params_default();
    uint64_t state = 1;
    for (int i = 0; i < LARGE; i++) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        logits[i] = (float)(state >> 50) / 2048.0f; /* many ties */
    }
    CHECK_EQ(sampler_create(&s, LARGE, NULL), OK);
    static const sample_stage top_k = SAMPLE_TOP_K, top_p = SAMPLE_TOP_P;
    p.top_k = 1000;
    sampler_distribution(s, logits, &p, no_history, &top_k, 1, probs);
    float worst_kept = INFINITY, best_dropped = -INFINITY;
    int kept = 0, last_kept = 0, first_dropped = LARGE;
    for (int i = 0; i < LARGE; i++) {
        kept += probs[i] > 0;
        if (probs[i] > 0) worst_kept = fminf(worst_kept, logits[i]);
        if (probs[i] == 0.0f) best_dropped = fmaxf(best_dropped, logits[i]);
    }
    for (int i = 0; i < LARGE; i++) {
        if (logits[i] != worst_kept) continue;
        if (probs[i] > 0) last_kept = i;
        if (probs[i] == 0.0f && i < first_dropped) first_dropped = i;
    }
    CHECK_EQ(kept, 1000);
    CHECK(worst_kept >= best_dropped);
    CHECK(last_kept < first_dropped); /* of equals the smaller ids stay */
    p.top_p = 0.7f;
    sampler_distribution(s, logits, &p, no_history, &top_p, 1, probs);
    double mass = 0, total = 0, worst = 1e9;
    for (int i = 0; i < LARGE; i++) {
        total += exp((double)logits[i]);
        if (probs[i] > 0) worst = fmin(worst, (double)logits[i]);
    }
    for (int i = 0; i < LARGE; i++)
        if (probs[i] > 0) mass += exp((double)logits[i]) / total;
    CHECK(mass >= 0.7 && mass - exp(worst) / total < 0.7);
    sampler_destroy(s);
}

TEST(sampler_says_when_it_only_takes_the_best) {
    static const sample_bias bias = {1, 0};
    sample_params p = sample_params_default();
    CHECK(!sample_is_best(&p));
    p.top_k = 1;
    CHECK(sample_is_best(&p));
    p.temperature = 0.5f;
    CHECK(sample_is_best(&p));
    p.top_k = 2;
    CHECK(!sample_is_best(&p));
    p.temperature = 0;
    p.top_k = 40;
    p.top_p = 0.1f;
    p.min_p = 0.5f;
    p.top_logprobs = 3; /* of no effect alone */
    CHECK(sample_is_best(&p));
    sample_params other[5] = {p, p, p, p, p};
    other[0].repetition_penalty = 1.1f;
    other[1].presence_penalty = -0.5f;
    other[2].frequency_penalty = 0.1f;
    other[3].biases = &bias;
    other[3].biases_count = 1;
    other[4].logprobs = true;
    for (int i = 0; i < 5; i++) CHECK(!sample_is_best(&other[i]));
    p.allowed = (const uint32_t[]){2};
    CHECK(!sample_is_best(&p));
}

/* Whatever the logits are. */
TEST(sampler_takes_the_best_when_it_says_so) {
    static const float odd[] = {NAN, -INFINITY, INFINITY, 0.0f, -0.0f, 3, 3, -3, 1e-45f, 3e38f};
    float logits[VOCAB];
    uint64_t state = 1;
    for (uint32_t i = 0; i < 2000; i++) {
        sample_params p = sample_params_default();
        p.temperature = i % 2 == 0 ? 0 : 0.01f * (float)(1 + i % 200);
        p.top_k = i % 2;
        p.top_p = i % 3 == 0 ? 0.3f : 1;
        p.min_p = i % 5 == 0 ? 0.2f : 0;
        const uint32_t first = i % 10, kinds = 1 + i / 10 % (10 - first), n = 1 + i % VOCAB;
        for (uint32_t k = 0; k < n; k++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            logits[k] = odd[first + (uint32_t)(state >> 40) % kinds];
        }
        CHECK(sample_is_best(&p));
        CHECK_EQ(pick(logits, n, &p, 0, i), best_of(logits, n));
    }
}

TEST(sampler_without_memory_is_an_error) {
    sampler *s = NULL;
    error err = {0};
    for (int after = 0; after < 5; after++) {
        mem_fail_after(after);
        CHECK_EQ(sampler_create(&s, 100, &err), ERR_NOMEM);
        mem_fail_after(-1);
    }
    CHECK_EQ(sampler_create(&s, SAMPLE_VOCAB_MAX + 1, &err), ERR_LIMIT);
    CHECK(s == NULL);
    sampler_destroy(NULL);
}

TEST(sampler_allocates_nothing_after_creation) {
    float logits[VOCAB];
    static const int32_t ids[] = {1, 2, 3, 2};
    sampler *s = NULL;
    sample_result out;
    sample_params p = sample_params_default();
    ramp(logits, VOCAB);
    p.temperature = 0.8f;
    p.top_k = 20;
    p.top_p = 0.9f;
    p.frequency_penalty = 0.5f;
    p.logprobs = true;
    p.top_logprobs = 20;
    CHECK_EQ(sampler_create(&s, VOCAB, NULL), OK);
    mem_freeze("pick"); /* an allocation aborts the run */
    sampler_pick(s, logits, &p, (sample_history){ids, 4, 1}, 0, NULL, 0, &out);
    mem_thaw();
    CHECK(out.id >= 0);
    sampler_destroy(s);
}
