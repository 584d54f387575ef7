/* test_k_logprobs.c - k_logprobs behind k_sample against the host's sampler: the same ids in the
 * same order, and values as near as tensor/sample.h says; and logits that are what they were. */
#include <math.h>
#include <string.h>

#include "cudasim/sample_rig.h"
#include "test.h"

#include "abi.h"

enum { ROWS_MAX = 6, CHANGES = ROWS_MAX * 64 };

/* Of a launch of both kernels; buffers of the rig. */
typedef struct made {
    float *x;
    int32_t *ids;
    sample_logprobs *said;
} made;

/* Rows as a step has them. */
typedef struct ordered {
    sample_rule rules[ROWS_MAX];
    sample_change changes[CHANGES];
    const uint32_t *allowed[ROWS_MAX];
    uint32_t changes_count;
} ordered;

static void order_rows(ordered *o, sampler *s, const sample_asked *rows, uint32_t count) {
    o->changes_count = 0;
    for (uint32_t r = 0; r < count; r++) {
        const sample_asked *d = &rows[r];
        const sample_room room = {o->changes + o->changes_count, CHANGES - o->changes_count};
        sample_order one = {0};
        if (d->wanted)
            CHECK(sampler_order(s, &d->p, d->history, d->choice, d->banned, d->banned_count, room,
                                &one));
        o->rules[r] = one.rule;
        o->rules[r].changes_at = o->changes_count;
        o->allowed[r] = one.allowed;
        o->changes_count += one.rule.changes_count;
    }
}

static made run_rows(int arch, const float *x, const ordered *o, uint32_t first, uint32_t count,
                     uint32_t cols) {
    made m = {.x = rig_copy(x + (size_t)first * cols, (size_t)count * cols * sizeof *x),
              .ids = rig_buffer(count * sizeof *m.ids),
              .said = rig_buffer(count * sizeof *m.said)};
    sample_rule own[ROWS_MAX];
    memcpy(own, o->rules + first, count * sizeof *own);
    const void *masks = sample_masks(own, o->allowed + first, count, cols);
    const void *rules = rig_copy(own, count * sizeof *own);
    const void *changes = rig_copy(o->changes, o->changes_count * sizeof *o->changes);
    k_sample_args draw = {.x = rig_at(m.x),
                          .rules = rig_at(rules),
                          .changes = rig_at(changes),
                          .masks = rig_at(masks),
                          .out = rig_at(m.ids),
                          .count = rig_count(count),
                          .cols = cols};
    k_logprobs_args say = {.x = rig_at(m.x),
                           .rules = rig_at(rules),
                           .drawn = rig_at(m.ids),
                           .out = rig_at(m.said),
                           .count = draw.count,
                           .cols = cols};
    rig_run(arch, "k_sample", &draw, count, 1, 1024, 0);
    rig_run(arch, "k_logprobs", &say, count + 1, 1, 1024, 0);
    return m;
}

/* --- comparing -------------------- */

static bool is_near(float got, float want) {
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want);
    return got == want || fabsf(got - want) <= 1e-6f + 4e-7f * fabsf(want);
}

static void check_said(const sample_logprobs *got, const sample_result *want) {
    CHECK_EQ(got->top_count, want->top_count);
    CHECK(is_near(got->drawn, want->logprob));
    for (uint32_t i = 0; i < SAMPLE_TOP_MAX; i++) {
        const bool has = i < want->top_count;
        CHECK_EQ(got->top_ids[i], has ? (uint32_t)want->top_ids[i] : 0);
        CHECK(has ? is_near(got->top[i], want->top_logprobs[i]) : got->top[i] == 0);
    }
}

static void check_rows(int arch, const float *x, const sample_asked *rows, uint32_t count,
                       uint32_t cols) {
    sampler *s = NULL;
    ordered o;
    sample_logprobs untouched;
    memset(&untouched, 0xff, sizeof untouched); /* as the rig's buffers are */
    CHECK_EQ(sampler_create(&s, cols, NULL), OK);
    order_rows(&o, s, rows, count);
    const made m = run_rows(arch, x, &o, 0, count, cols);
    for (uint32_t r = 0; r < count; r++) {
        const sample_asked *d = &rows[r];
        const float *logits = x + (size_t)r * cols;
        if (!d->wanted || !d->p.logprobs) {
            CHECK(memcmp(&m.said[r], &untouched, sizeof untouched) == 0);
            continue;
        }
        sample_result want;
        sampler_pick(s, logits, &d->p, d->history, d->choice, d->banned, d->banned_count, &want);
        CHECK_EQ(m.ids[r], want.id);
        check_said(&m.said[r], &want);
        rig_same(m.x + (size_t)r * cols, logits, cols * sizeof *logits);
    }
    sampler_destroy(s);
}

/* --- rows -------------------- */

static void ask(sample_asked *d, uint32_t cols) {
    static const uint8_t tops[] = {0, 1, 2, 5, SAMPLE_TOP_MAX - 1, SAMPLE_TOP_MAX};
    sample_ask(d, cols);
    d->p.logprobs = rig_random(4) != 0;
    d->p.top_logprobs = tops[rig_random(6)];
}

static void check_random(int arch, uint32_t rows, uint32_t cols) {
    sample_asked d[ROWS_MAX];
    float *x = rig_buffer((size_t)rows * cols * sizeof *x);
    for (uint32_t r = 0; r < rows; r++) {
        ask(&d[r], cols);
        sample_fills[rig_random(SAMPLE_FILLS)](x + (size_t)r * cols, cols);
    }
    check_rows(arch, x, d, rows, cols);
}

/* Greedy, of the most alternatives. */
static sample_asked most(void) {
    sample_asked d = {.wanted = true, .p = sample_params_default()};
    d.p.temperature = 0;
    d.p.logprobs = true;
    d.p.top_logprobs = SAMPLE_TOP_MAX;
    return d;
}

/* --- tests -------------------- */

TEST(k_logprobs_are_those_of_the_sampler) {
    static const uint32_t cols[] = {1, 2, 19, 33, 1023, 1025, 8193};
    RIG_EACH(arch)
    for (uint32_t i = 0; i < 7; i++) check_random(arch, 2 + i % 3, cols[i]);
    rig_done();
}

TEST(k_logprobs_are_those_of_the_sampler_many_times) {
    for (uint32_t i = 0; i < (rig_is_watched() ? 3 : 50); i++) {
        rig_seed(2000 + i);
        check_random(i % 2 == 0 ? 750 : 900, ROWS_MAX, 1 + rig_random(i % 4 == 0 ? 9000 : 700));
        rig_done();
    }
}

TEST(k_logprobs_of_a_large_vocabulary) {
    enum { COLS = 150001 };
    for (uint32_t i = 0; i < SAMPLE_FILLS; i++) {
        sample_asked d = most();
        float *x = rig_buffer(COLS * sizeof *x);
        d.p.temperature = i % 2 == 0 ? 1.1f : 0;
        d.p.seed = i;
        sample_fills[i](x, COLS);
        check_rows(800, x, &d, 1, COLS);
        rig_done();
    }
}

/* The same bits alone as in a crowd. */
TEST(k_logprobs_do_not_depend_on_other_rows) {
    enum { COLS = 3001 };
    sampler *s = NULL;
    CHECK_EQ(sampler_create(&s, COLS, NULL), OK);
    RIG_EACH(arch) {
        sample_asked d[ROWS_MAX];
        ordered o;
        float *x = rig_buffer(ROWS_MAX * COLS * sizeof *x);
        for (uint32_t r = 0; r < ROWS_MAX; r++) {
            ask(&d[r], COLS);
            sample_fills[r % SAMPLE_FILLS](x + (size_t)r * COLS, COLS);
        }
        order_rows(&o, s, d, ROWS_MAX);
        const made all = run_rows(arch, x, &o, 0, ROWS_MAX, COLS);
        for (uint32_t r = 0; r < ROWS_MAX; r++) {
            const made one = run_rows(arch, x, &o, r, 1, COLS);
            rig_same(one.said, all.said + r, sizeof *one.said);
        }
    }
    sampler_destroy(s);
    rig_done();
}

TEST(k_logprobs_of_equals_are_of_the_first_ids) {
    enum { COLS = 5000 };
    const sample_asked d = most();
    sampler *s = NULL;
    ordered o;
    float *x = rig_buffer(COLS * sizeof *x);
    for (uint32_t c = 0; c < COLS; c++) x[c] = 2;
    CHECK_EQ(sampler_create(&s, COLS, NULL), OK);
    order_rows(&o, s, &d, 1);
    const made m = run_rows(750, x, &o, 0, 1, COLS);
    for (uint32_t i = 0; i < SAMPLE_TOP_MAX; i++) {
        CHECK_EQ(m.said->top_ids[i], i);
        CHECK(is_near(m.said->top[i], -logf(COLS)));
    }
    sampler_destroy(s);
    rig_done();
}

/* All of the largest are one thread's to find. */
TEST(k_logprobs_of_columns_of_one_thread) {
    enum { APART = 1024, COLS = 30 * APART + 11, FROM = 7 };
    const sample_asked d = most();
    float *x = rig_buffer(COLS * sizeof *x);
    rig_fill(x, COLS, 4);
    for (uint32_t i = 0; i < 30; i++) x[FROM + i * APART] = 10 + (float)(i * 7 % 30) / 3;
    RIG_EACH(arch) check_rows(arch, x, &d, 1, COLS);
    rig_done();
}

TEST(k_logprobs_beside_a_nan_are_none) {
    enum { COLS = 2000 };
    const sample_asked d = most();
    sampler *s = NULL;
    ordered o;
    float *x = rig_buffer(COLS * sizeof *x);
    rig_fill(x, COLS, 4);
    x[1234] = NAN;
    CHECK_EQ(sampler_create(&s, COLS, NULL), OK);
    order_rows(&o, s, &d, 1);
    const made m = run_rows(900, x, &o, 0, 1, COLS);
    CHECK(isnan(m.said->drawn) && isnan(m.said->top[0]) && isnan(m.said->top[19]));
    check_rows(900, x, &d, 1, COLS);
    sampler_destroy(s);
    rig_done();
}
