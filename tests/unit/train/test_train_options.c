/* test_train_options.c - the option table, the schedule, the optimizer, the progress line. */
#include <stddef.h>
#include <stdlib.h>

#include "base/os.h"
#include "train/adamw.h"
#include "train/options.h"
#include "train/progress.h"
#include "train/schedule.h"
#include "train_rig.h"

/* --- options ----------------------------------------------------------------------------- */

typedef struct sample {
    const char *text;
    uint32_t count;
    float number;
    bool yes;
} sample;

static const option_row ROWS[] = {
    {"text", OPTION_TEXT, offsetof(sample, text), 0, 0, NULL, "wanted"},
    {"count", OPTION_COUNT, offsetof(sample, count), 1, 9, "3", "a count"},
    {"number", OPTION_NUMBER, offsetof(sample, number), 0, 1, "0.5", "a number"},
    {"yes", OPTION_SWITCH, offsetof(sample, yes), 0, 0, "false", "a switch"},
};

/* The values stay while *o does. */
static status parse(option_set *o, sample *s, const char *const *args, int count, error *err) {
    options_init(o, ROWS, 4, s);
    return options_parse(o, count, (char **)(uintptr_t)args, err);
}

static void is_refused(const char *const *args, int count, const char *why) {
    option_set o;
    sample s;
    error err = {0};
    CHECK_EQ(parse(&o, &s, args, count, &err), ERR_INVALID);
    CHECK_HAS(err.msg, why);
    options_deinit(&o);
}

TEST(train_options_come_from_flags_and_a_file) {
    char path[] = "/tmp/gantry-options-XXXXXX";
    const int fd = mkstemp(path);
    const str file = S("# a comment\ncount: 4\n text :  from file \nyes: true\n");
    const char *const args[] = {"--count=7", "--config", path};
    option_set o;
    sample s;
    error err = {0};
    CHECK_EQ(os_write_full(fd, file.p, file.n, NULL), OK);
    os_close(fd);
    CHECK_EQ(parse(&o, &s, args, 3, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_STR(s.text, "from file");
    CHECK(s.count == 7 && s.number == 0.5f && s.yes);
    options_deinit(&o);
    os_unlink(path);
}

TEST(train_options_say_what_is_wrong) {
    is_refused((const char *const[]){"--count", "10"}, 2, "usage: --count '10' is not 1 to 9");
    is_refused((const char *const[]){"--other", "1"}, 2, "usage: no option --other");
    is_refused((const char *const[]){"--count"}, 1, "usage: --count wants a value");
    is_refused((const char *const[]){"what"}, 1, "usage: 'what' is no option");
    is_refused((const char *const[]){"--yes"}, 1, "usage: --text is wanted");
    is_refused((const char *const[]){"--yes=perhaps"}, 1, "'perhaps' is not true or false");
}

/* --- schedule ---------------------------------------------------------------------------- */

TEST(train_rate_rises_and_falls) {
    const schedule s = {.rate_max = 1.0f, .rate_min = 0.1f, .warmup_steps = 10, .steps = 101};
    CHECK(schedule_rate(&s, 0) == 0.1f);
    CHECK(schedule_rate(&s, 9) == 1.0f);
    CHECK(schedule_rate(&s, 10) == 1.0f);
    CHECK(rig_close((double)schedule_rate(&s, 55), 0.55, 1e-6)); /* half way */
    CHECK(schedule_rate(&s, 100) == 0.1f);
    for (uint32_t i = 10; i < 100; i++) CHECK(schedule_rate(&s, i + 1) <= schedule_rate(&s, i));
}

/* --- optimizer --------------------------------------------------------------------------- */

static const shape ONE = {.vocab = 3,
                          .embd = 4,
                          .layers = 1,
                          .heads = 1,
                          .kv_heads = 1,
                          .head_dim = 4,
                          .ff = 4,
                          .ctx = 8};

/* The first step moves every weight by the rate against its gradient; matrices decay. */
TEST(train_adamw_steps_as_published) {
    const adamw_options opt = {
        .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-12f, .decay = 0.5f, .clip = 0};
    const float rate = 0.01f;
    crew c = rig_crew(NULL, 2);
    const size_t count = shape_params(&ONE);
    float *params = rig_random(1, count), *before = rig_random(1, count);
    float *grads = rig_random(2, count);
    adamw a;
    CHECK_EQ(adamw_init(&a, &ONE, NULL), OK);
    const float norm = adamw_step(&a, &c, &opt, rate, params, grads);
    CHECK(rig_close((double)norm, sqrt(rig_dot(grads, grads, count)), 1e-6));
    for (uint32_t i = 0; i < shape_tensors(&ONE); i++) {
        const shape_tensor t = shape_tensor_get(&ONE, i);
        for (size_t k = t.at; k < t.at + shape_tensor_count(&t); k++) {
            const float kept = before[k] * (t.rows > 0 ? 1.0f - rate * 0.5f : 1.0f);
            const float want = kept - (grads[k] > 0 ? rate : -rate);
            CHECK(rig_close((double)params[k], (double)want, 1e-4));
        }
    }
    adamw_deinit(&a);
    mem_free(params);
    mem_free(before);
    mem_free(grads);
    pool_destroy(c.pool);
}

TEST(train_adamw_leaves_everything_when_the_gradient_is_no_number) {
    const adamw_options opt = {
        .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f, .clip = 1.0f};
    crew c = rig_crew(NULL, 1);
    const size_t count = shape_params(&ONE);
    float *params = rig_random(1, count), *before = rig_random(1, count), *grads = rig_zeros(count);
    adamw a;
    CHECK_EQ(adamw_init(&a, &ONE, NULL), OK);
    grads[count / 2] = NAN;
    CHECK(!isfinite(adamw_step(&a, &c, &opt, 0.1f, params, grads)));
    CHECK(a.steps == 0 && memcmp(params, before, count * sizeof *params) == 0);
    adamw_deinit(&a);
    mem_free(params);
    mem_free(before);
    mem_free(grads);
    pool_destroy(c.pool);
}

/* --- progress ---------------------------------------------------------------------------- */

TEST(train_progress_is_one_line) {
    progress p = {.steps = 200, .first = 0, .tokens = 50000, .loss = 1.5, .validation = 2.25};
    const train_progress_step s = {.step = 50};
    char text[PROGRESS_BYTES];
    train_progress_text(&p, &s, 10.0, text);
    CHECK_STR(text, "step 50/200 [#####---------------] loss 1.500  validation 2.250  5000 "
                    "tokens/s  0:30 left");
}
