/* test_k_sample.c - k_sample against the host's sampler: the same token of the same logits,
 * whatever is asked for and whatever the logits are. */
#include <math.h>
#include <string.h>

#include "cudasim/rig.h"
#include "engine/sampler.h"
#include "test.h"

#include "abi.h"

enum { ROWS_MAX = 6, HISTORY = 40, BANNED = 3, BIASES = 4, CHANGES = ROWS_MAX * 64 };

/* What a row is drawn by. */
typedef struct drawn {
    bool wanted;
    sample_params p;
    uint32_t choice, banned_count;
    sample_history history;
    int32_t ids[HISTORY], banned[BANNED];
    sample_bias biases[BIASES];
} drawn;

static int32_t by_host(sampler *s, const float *x, const drawn *d) {
    sample_result out;
    sampler_pick(s, x, &d->p, d->history, d->choice, d->banned, d->banned_count, &out);
    return out.id;
}

/* Runs all rows in one launch; x [rows, cols] stays as it is. */
static void check_rows(int arch, const float *x, const drawn *rows, uint32_t count, uint32_t cols) {
    sampler *s = NULL;
    sample_rule rules[ROWS_MAX];
    sample_change changes[CHANGES];
    int32_t want[ROWS_MAX];
    uint32_t at = 0;
    CHECK_EQ(sampler_create(&s, cols, NULL), OK);
    for (uint32_t r = 0; r < count; r++) {
        const drawn *d = &rows[r];
        sample_order o = {0};
        want[r] = -7;
        if (d->wanted)
            CHECK(sampler_order(s, &d->p, d->history, d->choice, d->banned, d->banned_count,
                                (sample_room){changes + at, CHANGES - at}, &o));
        rules[r] = o.rule;
        rules[r].changes_at = at;
        at += o.rule.changes_count;
        if (d->wanted) want[r] = by_host(s, x + (size_t)r * cols, d);
    }
    sampler_destroy(s);
    int32_t *out = rig_buffer(count * sizeof *out);
    for (uint32_t r = 0; r < count; r++) out[r] = -7;
    k_sample_args a = {.x = rig_at(rig_copy(x, (size_t)count * cols * sizeof *x)),
                       .rules = rig_at(rig_copy(rules, count * sizeof *rules)),
                       .changes = rig_at(rig_copy(changes, at * sizeof *changes)),
                       .out = rig_at(out),
                       .count = rig_count(count),
                       .cols = cols};
    rig_run(arch, "k_sample", &a, count + 1, 1, 1024, 0);
    rig_same(out, want, count * sizeof *out);
}

/* --- what is asked for -------------------- */

static float one_of(const float *list, uint32_t count) { return list[rig_random(count)]; }

/* Anything, of a vocabulary of `cols`. */
static void ask(drawn *d, uint32_t cols) {
    static const float temperatures[] = {0, 1e-45f, 1e-6f, 0.01f, 0.3f, 0.7f, 1, 1, 1.3f, 9, 1e30f};
    static const float top_ps[] = {0, 1e-9f, 0.1f, 0.5f, 0.9f, 0.95f, 0.9999999f, 1, 1};
    static const float min_ps[] = {0, 0, 0, 1e-30f, 0.001f, 0.05f, 0.5f, 1};
    static const float penalties[] = {1, 1, 1, 1.1f, 0.5f, 2};
    *d = (drawn){.wanted = rig_random(8) != 0, .p = sample_params_default()};
    d->p.temperature = one_of(temperatures, 11);
    d->p.top_p = one_of(top_ps, 9);
    d->p.min_p = one_of(min_ps, 8);
    const uint32_t top_ks[] = {0, 0, 1, 2, 20, 40, 1 + rig_random(cols), cols, cols + 1};
    d->p.top_k = top_ks[rig_random(9)];
    d->p.seed = (uint64_t)rig_random(1 << 30) << 40 | rig_random(1 << 30);
    d->choice = rig_random(3);
    d->p.repetition_penalty = one_of(penalties, 6);
    d->p.presence_penalty = rig_random(3) == 0 ? 0.7f : 0;
    d->p.frequency_penalty = rig_random(3) == 0 ? -0.3f : 0;
    d->history = (sample_history){d->ids, rig_random(HISTORY), rig_random(HISTORY / 2)};
    for (uint32_t i = 0; i < HISTORY; i++) d->ids[i] = (int32_t)rig_random(cols < 30 ? cols : 30);
    d->banned_count = rig_random(3) == 0 ? BANNED : 0;
    for (uint32_t i = 0; i < BANNED; i++) d->banned[i] = (int32_t)rig_random(cols);
    d->p.biases_count = rig_random(3) == 0 ? BIASES : 0;
    d->p.biases = d->biases;
    for (uint32_t i = 0; i < BIASES; i++)
        d->biases[i] = (sample_bias){(int32_t)rig_random(2 * cols), (float)rig_random(9) - 4};
}

/* --- what there is to draw from -------------------- */

typedef void fill_fn(float *x, uint32_t cols);

static void fill_even(float *x, uint32_t cols) { rig_fill(x, cols, 12); }

/* The sum of some even ones: few are likely. */
static void fill_peaked(float *x, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) {
        x[c] = 0;
        for (uint32_t i = 0; i < 4; i++) x[c] += (float)rig_random(1 << 20) * 4e-6f - 2;
    }
}

static void fill_ties(float *x, uint32_t cols) {
    const uint32_t kinds = 1 + rig_random(4);
    for (uint32_t c = 0; c < cols; c++) x[c] = 0.5f * (float)rig_random(kinds);
}

/* Nearer to each other than the first two digits tell. */
static void fill_near(float *x, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) x[c] = (float)rig_random(5000) * 0x1p-26f;
}

static void fill_odd(float *x, uint32_t cols) {
    static const float odd[] = {NAN, -INFINITY, 3.4e38f, INFINITY, 0.0f, -0.0f, 1e-45f, -3.4e38f};
    const uint32_t first = rig_random(8), kinds = 1 + rig_random(8 - first);
    rig_fill(x, cols, 5);
    for (uint32_t c = 0; c < cols; c++)
        if (rig_random(4) != 0) x[c] = odd[first + rig_random(kinds)];
}

static fill_fn *const fills[] = {fill_even, fill_peaked, fill_ties, fill_near, fill_odd};
enum { FILLS = sizeof fills / sizeof fills[0] };

static void check_random(int arch, uint32_t rows, uint32_t cols) {
    drawn d[ROWS_MAX];
    float *x = rig_buffer((size_t)rows * cols * sizeof *x);
    for (uint32_t r = 0; r < rows; r++) {
        ask(&d[r], cols);
        fills[rig_random(FILLS)](x + (size_t)r * cols, cols);
    }
    check_rows(arch, x, d, rows, cols);
}

/* --- tests -------------------- */

TEST(k_sample_draws_what_the_sampler_draws) {
    static const uint32_t cols[] = {1, 2, 33, 1023, 1025, 8192};
    RIG_EACH(arch)
    for (uint32_t i = 0; i < 6; i++) check_random(arch, 1 + i % 3, cols[i]);
    rig_done();
}

#ifdef __SANITIZE_THREAD__
enum { TIMES = 8 }; /* some fifty times slower */
#else
enum { TIMES = 50 };
#endif

TEST(k_sample_draws_what_the_sampler_draws_many_times) {
    for (uint32_t i = 0; i < TIMES; i++) {
        rig_seed(1000 + i);
        check_random(i % 2 == 0 ? 750 : 900, ROWS_MAX, 1 + rig_random(i % 4 == 0 ? 9000 : 700));
        rig_done();
    }
}

TEST(k_sample_of_a_large_vocabulary) {
    enum { COLS = 150001 };
    for (uint32_t i = 0; i < FILLS; i++) {
        drawn d;
        float *x = rig_buffer(COLS * sizeof *x);
        ask(&d, COLS);
        d.wanted = true;
        d.p.temperature = 0.9f;
        d.p.top_k = i % 2 == 0 ? 50 : 0;
        d.p.top_p = 0.95f;
        fills[i](x, COLS);
        check_rows(800, x, &d, 1, COLS);
        rig_done();
    }
}

/* Everything is alike: places differ in their ids only, at every digit. */
TEST(k_sample_of_equals_goes_by_ids) {
    enum { COLS = 5000 };
    drawn d[ROWS_MAX];
    float *x = rig_buffer(ROWS_MAX * COLS * sizeof *x);
    for (uint32_t c = 0; c < ROWS_MAX * COLS; c++) x[c] = 2;
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        d[r] = (drawn){.wanted = true, .p = sample_params_default()};
        d[r].p.seed = r;
        d[r].p.top_k = r % 2 == 0 ? 0 : 1025 * r;
        d[r].p.top_p = r < 4 ? 1 : 0.31f;
    }
    check_rows(750, x, d, ROWS_MAX, COLS);
    rig_done();
}

/* Many changes: more than the block has threads are of no row, but as many are. */
TEST(k_sample_applies_a_thousand_changes) {
    enum { COLS = 4000 };
    sample_bias biases[SAMPLE_CHANGES_MAX];
    sample_change changes[SAMPLE_CHANGES_MAX];
    sampler *s = NULL;
    drawn d = {.wanted = true, .p = sample_params_default()};
    float *x = rig_buffer(COLS * sizeof *x);
    rig_fill(x, COLS, 3);
    for (uint32_t i = 0; i < SAMPLE_CHANGES_MAX; i++)
        biases[i] = (sample_bias){(int32_t)(i * 3), i % 2 == 0 ? 4.5f : -100};
    d.p.biases = biases;
    d.p.biases_count = SAMPLE_CHANGES_MAX;
    CHECK_EQ(sampler_create(&s, COLS, NULL), OK);
    for (d.p.seed = 0; d.p.seed < 5; d.p.seed++) {
        sample_order o = {0};
        CHECK(sampler_order(s, &d.p, d.history, 0, NULL, 0,
                            (sample_room){changes, SAMPLE_CHANGES_MAX}, &o));
        int32_t *out = rig_buffer(sizeof *out), want = by_host(s, x, &d);
        k_sample_args a = {.x = rig_at(rig_copy(x, COLS * sizeof *x)),
                           .rules = rig_at(rig_copy(&o.rule, sizeof o.rule)),
                           .changes = rig_at(rig_copy(changes, sizeof changes)),
                           .out = rig_at(out),
                           .count = rig_count(1),
                           .cols = COLS};
        rig_run(750, "k_sample", &a, 1, 1, 1024, 0);
        CHECK_EQ(*out, want);
    }
    sampler_destroy(s);
    rig_done();
}
