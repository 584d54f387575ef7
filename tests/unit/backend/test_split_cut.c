/* test_split_cut.c - where a step is cut into micro-batches, and what each of them is. */
#include <string.h>

#include "backend/split/split_internal.h"
#include "test.h"

enum { ROWS = 600, RUNS = 40 };

/* Runs of a batch whose rows want their logits every third, and their hidden state every other. */
typedef struct whole {
    program p;
    op ops[1];
    batch in;
    int32_t tokens[ROWS];
    uint32_t pos[ROWS], seats[ROWS], taken[ROWS], head[ROWS];
    bool prompt[ROWS], best[ROWS];
    batch_run runs[RUNS];
} whole;

static whole w;

static void add_run(uint32_t seat, uint32_t pos0, uint32_t rows, bool prompt) {
    batch *in = &w.in;
    w.runs[in->runs_count++] = (batch_run){in->rows, rows, seat, pos0};
    for (uint32_t i = 0; i < rows; i++, in->rows++) {
        const uint32_t r = in->rows;
        w.tokens[r] = (int32_t)(seat * 1000 + pos0 + i);
        w.pos[r] = pos0 + i;
        w.seats[r] = seat;
        w.prompt[r] = prompt;
        if (r % 2 != 0 && r % 3 != 0) continue;
        w.best[in->head_rows] = r % 9 == 0;
        if (r % 3 == 0) w.head[in->head_rows++] = in->taken_rows;
        w.taken[in->taken_rows++] = r;
    }
}

static void begin(bool causal) {
    memset(&w, 0, sizeof w);
    w.ops[0] = (op){.kind = OP_ATTENTION, .attn.causal = causal};
    w.p =
        (program){.ops = w.ops, .ops_count = 1, .max = {.rows = ROWS, .taken = ROWS, .head = ROWS}};
    w.in = (batch){.tokens = w.tokens,
                   .pos = w.pos,
                   .seats = w.seats,
                   .prompt = w.prompt,
                   .runs = w.runs,
                   .taken = w.taken,
                   .head = w.head,
                   .best = w.best};
}

/* The rows of all of them, one behind the other, are those of the whole. */
static void check_views(const split_cut *c) {
    batch_before at = {0};
    for (uint32_t i = 0; i < c->count; i++) {
        const batch *of = &c->of[i];
        CHECK_EQ(of->before.rows, at.rows);
        CHECK_EQ(of->before.taken, at.taken);
        CHECK_EQ(of->before.head, at.head);
        CHECK(of->rows > 0 && of->tokens == w.tokens + at.rows && of->pos == w.pos + at.rows);
        CHECK(of->prompt == w.prompt + at.rows && of->seats == w.seats + at.rows);
        uint32_t r = 0;
        for (uint32_t k = 0; k < of->runs_count; k++) {
            const batch_run *run = &of->runs[k];
            CHECK_EQ(run->row0, r);
            for (uint32_t j = 0; j < run->rows; j++, r++)
                CHECK(of->pos[r] == run->pos0 + j && of->seats[r] == run->seat);
        }
        CHECK_EQ(r, of->rows);
        for (uint32_t k = 0; k < of->taken_rows; k++)
            CHECK_EQ(of->taken[k] + at.rows, w.taken[at.taken + k]);
        for (uint32_t k = 0; k < of->head_rows; k++) {
            CHECK_EQ(of->head[k] + at.taken, w.head[at.head + k]);
            CHECK_EQ(batch_wants_logits(of, k), !w.best[at.head + k]);
        }
        at = (batch_before){at.rows + of->rows, at.taken + of->taken_rows, at.head + of->head_rows};
    }
    CHECK(at.rows == w.in.rows && at.taken == w.in.taken_rows && at.head == w.in.head_rows);
}

/* `want`: rows of each, 0 behind the last. */
static void check_cut(const backend_options *opt, uint32_t places, const uint32_t *want) {
    split_cut c;
    uint32_t count = 0;
    while (want[count] != 0) count++;
    CHECK_EQ(split_cut_init(&c, &w.p, opt, places, NULL), OK);
    CHECK_EQ(split_cut_step(&c, &w.in), count);
    for (uint32_t i = 0; i < count && count == c.count && count > 1; i++)
        CHECK_EQ(c.of[i].rows, want[i]);
    if (c.count > 1) check_views(&c);
    split_cut_deinit(&c);
}

/* --- where -------------------- */

TEST(split_cut_leaves_steps_that_are_not_worth_it) {
    static const backend_options plain = {0}, off = {.no_micro_batches = true};
    begin(true);
    add_run(0, 0, 255, true);
    check_cut(&plain, 2, (const uint32_t[]){255, 0});
    add_run(1, 7, 1, true);
    check_cut(&plain, 2, (const uint32_t[]){128, 128, 0});
    check_cut(&off, 2, (const uint32_t[]){256, 0});
}

TEST(split_cut_makes_two_for_each_place_at_most) {
    static const backend_options plain = {0};
    begin(true);
    add_run(0, 0, 600, true);
    check_cut(&plain, 2, (const uint32_t[]){128, 128, 192, 152, 0});
    check_cut(&plain, 1, (const uint32_t[]){256, 344, 0});
    check_cut(&(backend_options){.micro_rows = 100}, 3,
              (const uint32_t[]){100, 100, 100, 100, 100, 100, 0});
}

/* Tiles of the kernels for prompts begin with the first row that is of one. */
TEST(split_cut_is_behind_whole_tiles_of_prompts) {
    static const backend_options plain = {0};
    begin(true);
    for (uint32_t i = 0; i < 30; i++) add_run(i, 50 + i, 1, false);
    add_run(30, 3, 100, true);
    add_run(31, 0, 270, true);
    check_cut(&plain, 2, (const uint32_t[]){30 + 64, 128, 178, 0});
}

TEST(split_cut_may_cut_generated_rows_anywhere) {
    begin(true);
    for (uint32_t i = 0; i < 30; i++) add_run(i, 50 + i, 1, false);
    check_cut(&(backend_options){.micro_rows = 7}, 2, (const uint32_t[]){7, 8, 7, 8, 0});
    w.in.prompt = NULL;
    split_cut c;
    CHECK_EQ(split_cut_init(&c, &w.p, &(backend_options){.micro_rows = 7}, 2, NULL), OK);
    CHECK_EQ(split_cut_step(&c, &w.in), 4);
    for (uint32_t i = 0; i < c.count; i++) CHECK(c.of[i].prompt == NULL);
    split_cut_deinit(&c);
}

TEST(split_cut_keeps_texts_whole_that_see_all_of_themselves) {
    begin(false);
    add_run(0, 0, 100, true);
    add_run(1, 0, 300, true);
    add_run(2, 0, 90, true);
    add_run(3, 0, 110, true);
    check_cut(&(backend_options){0}, 2, (const uint32_t[]){400, 90, 110, 0});
    begin(false);
    add_run(0, 0, 512, true);
    check_cut(&(backend_options){0}, 4, (const uint32_t[]){512, 0});
}

/* Each expert reads its weights anew for each micro-batch: it has to have rows for that. */
TEST(split_cut_wants_rows_for_each_expert) {
    static const backend_options plain = {0};
    begin(true);
    w.ops[0] = (op){.kind = OP_EXPERTS, .experts = {.experts = 8, .used = 2}};
    add_run(0, 0, 511, true);
    check_cut(&plain, 2, (const uint32_t[]){511, 0});
    add_run(1, 0, 1, true);
    check_cut(&plain, 2, (const uint32_t[]){256, 256, 0});
    w.ops[0].experts = (op_experts){.experts = 128, .used = 8};
    check_cut(&plain, 2, (const uint32_t[]){512, 0});
}
