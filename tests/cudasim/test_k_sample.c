/* test_k_sample.c - k_sample against the host's sampler: the same token of the same logits,
 * whatever is asked for and whatever the logits are. */
#include <string.h>

#include "cudasim/sample_rig.h"
#include "test.h"

#include "abi.h"

enum { ROWS_MAX = 6, CHANGES = ROWS_MAX * 64 };

static int32_t by_host(sampler *s, const float *x, const sample_asked *d) {
    sample_result out;
    sampler_pick(s, x, &d->p, d->history, d->choice, d->banned, d->banned_count, &out);
    return out.id;
}

/* Runs all rows in one launch; x [rows, cols] stays as it is. */
static void check_rows(int arch, const float *x, const sample_asked *rows, uint32_t count,
                       uint32_t cols) {
    sampler *s = NULL;
    sample_rule rules[ROWS_MAX];
    sample_change changes[CHANGES];
    const uint32_t *allowed[ROWS_MAX];
    int32_t want[ROWS_MAX];
    uint32_t at = 0;
    CHECK_EQ(sampler_create(&s, cols, NULL), OK);
    for (uint32_t r = 0; r < count; r++) {
        const sample_asked *d = &rows[r];
        sample_order o = {0};
        want[r] = -7;
        if (d->wanted)
            CHECK(sampler_order(s, &d->p, d->history, d->choice, d->banned, d->banned_count,
                                (sample_room){changes + at, CHANGES - at}, &o));
        rules[r] = o.rule;
        rules[r].changes_at = at;
        allowed[r] = o.allowed;
        at += o.rule.changes_count;
        if (d->wanted) want[r] = by_host(s, x + (size_t)r * cols, d);
    }
    sampler_destroy(s);
    int32_t *out = rig_buffer(count * sizeof *out);
    for (uint32_t r = 0; r < count; r++) out[r] = -7;
    k_sample_args a = {.x = rig_at(rig_copy(x, (size_t)count * cols * sizeof *x)),
                       .changes = rig_at(rig_copy(changes, at * sizeof *changes)),
                       .out = rig_at(out),
                       .count = rig_count(count),
                       .cols = cols};
    a.masks = rig_at(sample_masks(rules, allowed, count, cols));
    a.rules = rig_at(rig_copy(rules, count * sizeof *rules));
    rig_run(arch, "k_sample", &a, count + 1, 1, 1024, 0);
    rig_same(out, want, count * sizeof *out);
}

/* --- tests -------------------- */

static void check_random(int arch, uint32_t rows, uint32_t cols) {
    sample_asked d[ROWS_MAX];
    float *x = rig_buffer((size_t)rows * cols * sizeof *x);
    for (uint32_t r = 0; r < rows; r++) {
        sample_ask(&d[r], cols);
        sample_fills[rig_random(SAMPLE_FILLS)](x + (size_t)r * cols, cols);
    }
    check_rows(arch, x, d, rows, cols);
}

TEST(k_sample_draws_what_the_sampler_draws) {
    static const uint32_t cols[] = {1, 2, 33, 1023, 1025, 8192};
    RIG_EACH(arch)
    for (uint32_t i = 0; i < 6; i++) check_random(arch, 1 + i % 3, cols[i]);
    rig_done();
}

TEST(k_sample_draws_what_the_sampler_draws_many_times) {
    for (uint32_t i = 0; i < (rig_is_watched() ? 3 : 50); i++) {
        rig_seed(1000 + i);
        check_random(i % 2 == 0 ? 750 : 900, ROWS_MAX, 1 + rig_random(i % 4 == 0 ? 9000 : 700));
        rig_done();
    }
}

TEST(k_sample_of_a_large_vocabulary) {
    enum { COLS = 150001 };
    for (uint32_t i = 0; i < SAMPLE_FILLS; i++) {
        sample_asked d;
        float *x = rig_buffer(COLS * sizeof *x);
        sample_ask(&d, COLS);
        d.wanted = true;
        d.p.temperature = 0.9f;
        d.p.top_k = i % 2 == 0 ? 50 : 0;
        d.p.top_p = 0.95f;
        sample_fills[i](x, COLS);
        check_rows(800, x, &d, 1, COLS);
        rig_done();
    }
}

/* Everything is alike: places differ in their ids only, at every digit. */
TEST(k_sample_of_equals_goes_by_ids) {
    enum { COLS = 5000 };
    sample_asked d[ROWS_MAX];
    float *x = rig_buffer(ROWS_MAX * COLS * sizeof *x);
    for (uint32_t c = 0; c < ROWS_MAX * COLS; c++) x[c] = 2;
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        d[r] = (sample_asked){.wanted = true, .p = sample_params_default()};
        d[r].p.seed = r;
        d[r].p.top_k = r % 2 == 0 ? 0 : 1025 * r;
        d[r].p.top_p = r < 4 ? 1 : 0.31f;
    }
    check_rows(750, x, d, ROWS_MAX, COLS);
    rig_done();
}

/* Rows with masks of their own, and one without, whatever else is asked; also where bans and mask
 * leave nothing, and where a mask does. */
TEST(k_sample_draws_what_is_allowed) {
    static const uint32_t cols[] = {1, 31, 32, 65, 1000, 8195};
    for (uint32_t i = 0; i < 36; i++) {
        const uint32_t n = cols[i % 6];
        sample_asked d[ROWS_MAX];
        rig_seed(77 + i);
        float *x = rig_buffer((size_t)ROWS_MAX * n * sizeof *x);
        for (uint32_t r = 0; r < ROWS_MAX; r++) {
            sample_ask(&d[r], n);
            d[r].wanted = true;
            if (r != 2) d[r].p.allowed = sample_mask(n, r == 3 && i % 3 == 0);
            sample_fills[rig_random(SAMPLE_FILLS)](x + (size_t)r * n, n);
        }
        uint32_t *only = sample_mask(n, true); /* it may not come out, and nothing else may */
        only[d[0].banned[0] / 32] = 1u << d[0].banned[0] % 32;
        d[0].p.allowed = only;
        d[0].banned_count = 1;
        check_rows(i % 2 == 0 ? 750 : 900, x, d, ROWS_MAX, n);
        rig_done();
    }
}

/* Many changes: more than the block has threads are of no row, but as many are. */
TEST(k_sample_applies_a_thousand_changes) {
    enum { COLS = 4000 };
    sample_bias biases[SAMPLE_CHANGES_MAX];
    sample_change changes[SAMPLE_CHANGES_MAX];
    sampler *s = NULL;
    sample_asked d = {.wanted = true, .p = sample_params_default()};
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
