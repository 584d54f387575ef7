/* test_sched_follow.c - sched_follow(): when the next step is known before this one's tokens are,
 * and what becomes of it when a sequence ends or goes meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "sched/sched.h"
#include "test.h"

enum { VOCAB = 16, CTX = 64, SEATS = 3, BLOCKS = 16, EOS = 2, STOP = 9, WORD = 7 };

static const int32_t eog[] = {EOS};

typedef struct rig {
    kv_pool *kv;
    sched *s;
    step_plan *plans[2];
    step_plan *now, *next; /* of plans */
    buf events;
    engine_row rows[128], next_rows[128];
    sample_result results[SEATS];
} rig;

static rig *open_rig(uint32_t blocks) {
    rig *r = calloc(1, sizeof *r);
    sched_options o = {.seats = SEATS,
                       .rows_max = 64,
                       .queue_max = 8,
                       .park_ms_max = 1000,
                       .ctx_max = CTX,
                       .vocab = VOCAB,
                       .eog_ids = eog,
                       .eog_count = 1,
                       .finds_best = true};
    buf_init(&r->events, 1 << 20);
    CHECK_EQ(kv_pool_create(&r->kv, blocks, SEATS, CTX / KV_BLOCK_TOKENS, NULL), OK);
    CHECK_EQ(sched_create(&r->s, &o, r->kv, &r->events, NULL), OK);
    for (int i = 0; i < 2; i++) CHECK_EQ(step_plan_create(&r->plans[i], &o, NULL), OK);
    r->now = r->plans[0];
    r->next = r->plans[1];
    return r;
}

static void close_rig(rig *r) {
    sched_destroy(r->s);
    for (int i = 0; i < 2; i++) step_plan_destroy(r->plans[i]);
    kv_pool_destroy(r->kv);
    buf_deinit(&r->events);
    free(r);
}

static gen_sampling greedy(void) {
    gen_sampling s = gen_sampling_default();
    s.temperature = 0;
    return s;
}

static void submit(rig *r, uint64_t id, uint32_t credits, const gen_sampling *sampling) {
    static const int32_t ids[] = {5, 5, 5, 5};
    gen_request q = {.id = id,
                     .prompt = GEN_PROMPT_IDS,
                     .choices = 1,
                     .credits = credits,
                     .ids = {ids, 4},
                     .sampling = *sampling};
    sched_submit(r->s, &q, 1);
}

static void commit(rig *r) {
    sched_plan(r->s, 1, r->now);
    sched_commit(r->s, r->now, 1, r->rows);
}

static bool follow(rig *r) {
    const bool follows = sched_follow(r->s, r->now, 1, r->next, r->next_rows);
    for (uint32_t i = 0; follows && i < r->next->rows; i++) {
        const engine_row *row = &r->next_rows[i];
        CHECK(row->wants_best || row->wants_logits);
        CHECK(row->token < 0 && (uint32_t)~row->token < r->now->rows);
        CHECK_EQ(row->seat, r->rows[~row->token].seat);
        CHECK_EQ(row->pos, r->rows[~row->token].pos + 1);
        CHECK_EQ(kv_seat_tokens(r->kv, row->seat), row->pos + 1);
    }
    return follows;
}

/* What the step made, all words but that of one row; the step behind it, if any, is next. */
static void apply(rig *r, bool followed, uint32_t at, int32_t id) {
    for (uint32_t i = 0; i < SEATS; i++) r->results[i].id = i == at ? id : WORD;
    sched_apply(r->s, r->now, r->results, 1, 1000);
    CHECK(sched_validate(r->s));
    if (!followed) return;
    step_plan *applied = r->now;
    r->now = r->next;
    r->next = applied;
    memcpy(r->rows, r->next_rows, sizeof r->rows);
}

static void apply_words(rig *r, bool followed) { apply(r, followed, SEATS, 0); }

/* `count` sequences whose prompts are computed, each with a token; the next step is committed. */
static rig *open_decoding(uint32_t count, const gen_sampling *sampling) {
    rig *r = open_rig(BLOCKS);
    for (uint32_t i = 0; i < count; i++) submit(r, i + 1, 1000, sampling);
    commit(r);
    apply_words(r, false);
    commit(r);
    CHECK_EQ(r->now->rows, count);
    return r;
}

TEST(sched_follow_plans_a_token_more_of_all) {
    const gen_sampling s = greedy();
    rig *r = open_decoding(3, &s);
    for (uint32_t i = 0; i < 20; i++) { /* over ends of blocks */
        const bool follows = follow(r);
        CHECK(follows);
        if (follows) CHECK_EQ(r->next->rows, 3);
        apply_words(r, follows);
    }
    CHECK_EQ(sched_counters_get(r->s).decode_rows, 60);
    apply_words(r, false);
    CHECK_EQ(kv_blocks_free(r->kv), BLOCKS - 3 * kv_blocks_for(4 + 1 + 20));
    close_rig(r);
}

/* Does a row of the step that follows want no more than the largest logit? */
static bool follows_with_best(const gen_sampling *s, uint32_t steps) {
    rig *r = open_decoding(2, s);
    for (uint32_t i = 0; i < steps; i++) {
        apply_words(r, false);
        commit(r);
    }
    CHECK(follow(r));
    const bool best = r->next_rows[0].wants_best;
    CHECK_EQ(r->next_rows[0].wants_logits, !best);
    close_rig(r);
    return best;
}

TEST(sched_follow_is_for_tokens_of_any_kind) {
    gen_sampling s = greedy();
    CHECK(follows_with_best(&s, 0));
    s.temperature = 1;
    CHECK(!follows_with_best(&s, 0));
    s = greedy();
    s.logprobs = true;
    CHECK(!follows_with_best(&s, 0));
    s = greedy();
    s.frequency_penalty = 0.5f;
    CHECK(!follows_with_best(&s, 0));
    s = greedy();
    s.tokens_min = 4; /* this step makes the second token, the next one the third */
    CHECK(!follows_with_best(&s, 0));
    CHECK(!follows_with_best(&s, 1));
    CHECK(follows_with_best(&s, 2)); /* the fourth is here: ends are free behind it */
}

/* What penalties count, and what may end: as it is when the step before is applied. */
TEST(sched_follow_knows_the_history_once_the_step_before_is_applied) {
    static const int32_t want[] = {5, 5, 5, 5, WORD, STOP};
    gen_sampling s = greedy();
    s.tokens_min = 3;
    rig *r = open_decoding(2, &s);
    int32_t banned[1 + WIRE_STOP_IDS_MAX];
    CHECK(follow(r));
    const sample_history before = sched_history(&r->next->items[0]);
    CHECK_EQ(sched_banned(r->s, &r->next->items[0], banned), 1); /* the third is to come */
    apply(r, true, 0, STOP);
    const sample_history h = sched_history(&r->now->items[0]);
    CHECK_EQ(before.count, h.count);
    CHECK_EQ(h.count, 6);
    CHECK_EQ(h.prompt_count, 4);
    CHECK(memcmp(h.ids, want, sizeof want) == 0);
    CHECK(follow(r));
    CHECK_EQ(sched_banned(r->s, &r->next->items[0], banned), 0);
    close_rig(r);
}

TEST(sched_follow_never_computes_behind_an_end_that_is_known) {
    gen_sampling s = greedy(), brief = greedy();
    s.tokens_max = 3;
    rig *r = open_decoding(2, &s); /* the second token is on its way */
    bool follows = follow(r);
    CHECK(follows);
    apply_words(r, follows);
    CHECK(!follow(r)); /* the third is the last */
    apply_words(r, false);
    CHECK(sched_is_idle(r->s));
    close_rig(r);
    brief.tokens_max = 2;
    s.tokens_max = 30;
    r = open_rig(BLOCKS);
    submit(r, 1, 1000, &brief);
    submit(r, 2, 1000, &s);
    commit(r);
    apply_words(r, false);
    commit(r);
    follows = follow(r); /* one ends, the other goes on */
    CHECK(follows);
    CHECK_EQ(r->next->rows, 1);
    CHECK_EQ(r->next_rows[0].token, ~1);
    apply_words(r, follows);
    CHECK_EQ(sched_counters_get(r->s).running, 1);
    close_rig(r);
}

TEST(sched_follow_waits_for_who_could_come_in) {
    gen_sampling s = greedy();
    rig *r = open_decoding(2, &s);
    submit(r, 9, 1000, &s); /* there is a seat */
    CHECK(!follow(r));
    apply_words(r, false);
    commit(r);
    CHECK_EQ(sched_counters_get(r->s).running, 3);
    apply_words(r, false);
    commit(r);
    submit(r, 10, 1000, &s); /* there is none */
    CHECK(follow(r));
    close_rig(r);
    r = open_decoding(3, &s);
    CHECK(follow(r));
    apply_words(r, true); /* messages come behind this */
    sched_drain(r->s, 1);
    CHECK(!follow(r));
    apply_words(r, false);
    close_rig(r);
}

TEST(sched_follow_spends_the_credits_of_both_steps) {
    const gen_sampling s = greedy();
    rig *r = open_rig(BLOCKS);
    submit(r, 1, 3, &s);
    commit(r);
    apply_words(r, false);
    commit(r);
    const bool follows = follow(r); /* the second credit, and the third */
    CHECK(follows);
    apply_words(r, follows);
    CHECK(!follow(r));
    sched_credit(r->s, 1, 1);
    CHECK(follow(r));
    close_rig(r);
}

TEST(sched_follow_never_preempts) {
    const gen_sampling s = greedy();
    rig *r = open_rig(4); /* 64 tokens: two sequences of 32 */
    bool follows = false;
    uint32_t ahead = 0;
    submit(r, 1, 1000, &s);
    submit(r, 2, 1000, &s);
    for (uint32_t i = 0; i < 40; i++) {
        if (!follows) commit(r);
        follows = r->now->rows > 0 && follow(r);
        ahead += follows;
        CHECK(!follows || r->next->preempts_count == 0);
        apply_words(r, follows);
    }
    CHECK_EQ(sched_counters_get(r->s).preemptions, 1);
    CHECK(ahead > 20);
    close_rig(r);
}

/* --- ends that nobody could know of -------------------- */

/* The first of two sequences ends or goes; its row is still computed. */
static void check_gone(rig *r, bool followed) {
    CHECK(sched_validate(r->s));
    CHECK(followed && r->now->items[0].seq == NULL && r->now->items[1].seq != NULL);
    CHECK_EQ(r->now->rows, 2);
    const uint64_t rows = sched_counters_get(r->s).decode_rows;
    const bool follows = follow(r); /* behind the second row, which is of the other sequence */
    CHECK(follows);
    CHECK_EQ(r->next->rows, 1);
    CHECK_EQ(r->next_rows[0].token, ~1);
    apply(r, follows, 0, EOS); /* what the void row makes ends nobody */
    CHECK_EQ(sched_counters_get(r->s).decode_rows, rows + 1);
    CHECK_EQ(sched_counters_get(r->s).running, 1);
    close_rig(r);
}

TEST(sched_follow_forgets_a_sequence_that_ends_meanwhile) {
    static const int32_t stop[] = {STOP};
    gen_sampling s = greedy();
    s.stop_ids = (wire_array){stop, 1};
    for (int i = 0; i < 2; i++) {
        rig *r = open_decoding(2, &s);
        const bool follows = follow(r);
        apply(r, follows, 0, i == 0 ? EOS : STOP);
        check_gone(r, follows);
    }
}

TEST(sched_follow_forgets_a_sequence_that_is_canceled_meanwhile) {
    const gen_sampling s = greedy();
    rig *r = open_decoding(2, &s);
    const bool follows = follow(r);
    apply_words(r, follows);
    sched_cancel(r->s, 1, GEN_CHOICE_ALL, 1);
    check_gone(r, follows);
}

/* The seat is free at once: who gets it is computed behind the row that nobody wants. */
TEST(sched_follow_leaves_the_seat_of_one_that_has_gone) {
    const gen_sampling s = greedy();
    rig *r = open_decoding(3, &s);
    submit(r, 9, 1000, &s);
    const bool follows = follow(r);
    CHECK(follows);
    apply_words(r, follows);
    sched_cancel(r->s, 2, GEN_CHOICE_ALL, 1);
    CHECK(!follow(r)); /* somebody can come in now */
    apply_words(r, false);
    commit(r);
    CHECK_EQ(r->now->admits_count, 1);
    CHECK_EQ(r->now->rows, 2 + 4);
    apply_words(r, false);
    CHECK_EQ(sched_counters_get(r->s).running, 3);
    close_rig(r);
}

TEST(sched_fails_with_a_step_ahead) {
    const gen_sampling s = greedy();
    const error why = {.code = ERR_DEVICE, .msg = "cuda: the card is gone"};
    rig *r = open_decoding(2, &s);
    const bool follows = follow(r);
    CHECK(follows);
    apply(r, follows, 0, EOS);
    sched_fail(r->s, r->now, &why);
    CHECK(sched_is_idle(r->s) && sched_validate(r->s));
    close_rig(r);
}
