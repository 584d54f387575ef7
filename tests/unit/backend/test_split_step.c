/* test_split_step.c - in which order micro-batches go through the parts: each part begins one as
 * soon as the part before it has ended it, two are begun and not ended at most, and whatever fails,
 * nothing stays begun. */
#include <stdio.h>
#include <string.h>

#include "backend/split/split_internal.h"
#include "test.h"

enum { ROWS = 16, LOG_BYTES = 1024 };

/* A part that takes notes, as "B0.2" for its beginning of number 2 on part 0, "E" for the end, and
 * "S" for all at once. */
typedef struct fake {
    uint32_t idx, begun, ended;
    uint32_t fails; /* the number whose end is a fault; UINT32_MAX: none */
    bool over;
    error fault;
    float hidden[1];
} fake;

static char notes[LOG_BYTES];
static fake fakes[3];

static void note(char what, const fake *f, uint32_t number) {
    const size_t n = strlen(notes);
    (void)snprintf(notes + n, sizeof notes - n, "%s%c%u.%u", n > 0 ? " " : "", what, f->idx,
                   number);
}

static void check_input(const fake *f, const batch *in) {
    CHECK(in->input == (f->idx == 0 ? NULL : fakes[f->idx - 1].hidden));
}

static void fake_begin(backend *b, const batch *in) {
    fake *f = (fake *)(void *)b;
    CHECK(!f->over && f->begun - f->ended < 2);
    check_input(f, in);
    note('B', f, f->begun++);
}

static step_result fake_end(backend *b) {
    fake *f = (fake *)(void *)b;
    CHECK(!f->over && f->begun > f->ended);
    note('E', f, f->ended);
    f->over = f->ended == f->fails;
    if (f->over) return (step_result){.fault = &f->fault};
    f->ended++;
    return (step_result){.hidden = f->hidden};
}

static step_result fake_step(backend *b, const batch *in) {
    fake *f = (fake *)(void *)b;
    check_input(f, in);
    note('S', f, f->begun++);
    f->ended = f->begun;
    return (step_result){.hidden = f->hidden};
}

static const backend_ops on_gpu = {.step = fake_step, .begin = fake_begin, .end = fake_end};
static const backend_ops on_host = {.step = fake_step};

/* Three parts and a step of so many micro-batches of two rows. */
static step_result run(bool host_first, uint32_t count, uint32_t failing, uint32_t fails) {
    static uint32_t all_rows[ROWS];
    static const int32_t tokens[ROWS];
    static const uint32_t pos[ROWS];
    backend b = {.parts.count = 3, .all_rows = all_rows};
    program p = {.max = {.rows = ROWS}};
    const batch_run whole = {.rows = 2 * count};
    const batch in = {.rows = 2 * count,
                      .tokens = tokens,
                      .pos = pos,
                      .seats = pos,
                      .runs_count = 1,
                      .runs = &whole};
    notes[0] = '\0';
    for (uint32_t i = 0; i < 3; i++) {
        fakes[i] = (fake){.idx = i, .fails = i == failing ? fails : UINT32_MAX};
        b.parts.of[i].ops = i == 0 && host_first ? &on_host : &on_gpu;
        b.of[i].b = (backend *)(void *)&fakes[i];
    }
    CHECK_EQ(split_cut_init(&b.cut, &p, &(backend_options){.micro_rows = 2}, 3, NULL), OK);
    const step_result r = split_step(&b, &in);
    split_cut_deinit(&b.cut);
    for (uint32_t i = 0; i < 3; i++) CHECK(fakes[i].over || fakes[i].begun == fakes[i].ended);
    return r;
}

TEST(split_step_keeps_all_parts_busy) {
    const step_result r = run(false, 4, 3, 0);
    CHECK(r.fault == NULL && r.micro_batches == 4 && r.hidden == fakes[2].hidden);
    CHECK_STR(notes, "B0.0 B0.1 E0.0 B1.0 B0.2 E0.1 B1.1 E1.0 B2.0 B0.3 E0.2 B1.2 E1.1 B2.1 "
                     "E0.3 B1.3 E1.2 E2.0 B2.2 E1.3 E2.1 B2.3 E2.2 E2.3");
}

/* What the host computes it computes while the others have something to do. */
TEST(split_step_sets_others_to_work_before_the_host) {
    const step_result r = run(true, 3, 3, 0);
    CHECK(r.fault == NULL && r.micro_batches == 3);
    CHECK_STR(notes, "S0.0 B1.0 S0.1 B1.1 E1.0 B2.0 S0.2 B1.2 E1.1 B2.1 E1.2 E2.0 B2.2 E2.1 E2.2");
}

TEST(split_step_of_few_rows_is_one_part_after_the_other) {
    const step_result r = run(false, 1, 3, 0);
    CHECK(r.fault == NULL && r.micro_batches == 0);
    CHECK_STR(notes, "S0.0 S1.0 S2.0");
}

/* Whichever part fails at whichever micro-batch: the others end what they have begun. */
TEST(split_step_that_fails_leaves_nothing_begun) {
    for (uint32_t idx = 0; idx < 3; idx++)
        for (uint32_t at = 0; at < 5; at++) {
            const step_result r = run(false, 5, idx, at);
            CHECK(r.fault == &fakes[idx].fault && r.hidden == NULL && r.micro_batches == 0);
            CHECK_EQ(fakes[idx].ended, at);
        }
}
