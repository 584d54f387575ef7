/* test_sched_tier.c - sched.h with a tier: a sequence that is preempted goes on where it was.  What
 * the blocks hold is the simulation's to check; here it is who moves, and what is computed. */
#include <stdlib.h>

#include "sched/sched.h"
#include "test.h"

enum { VOCAB = 16, CTX = 64, ROWS = 32, BLOCK_BYTES = 100 };

typedef struct rig {
    kv_pool *kv;
    kv_tier *tier;
    sched *s;
    step_plan *plan;
    buf events;
    engine_row rows[ROWS];
    sample_result results[8];
    uint64_t now_ns;
} rig;

static const int32_t eog[] = {2};

static void move_nothing(void *ctx, const kv_move *moves, uint32_t count) {
    (void)ctx;
    (void)moves;
    CHECK(count > 0);
}

static rig *open_narrow_rig(uint32_t seats, uint32_t blocks, uint32_t host_blocks,
                            uint32_t rows_max) {
    rig *r = calloc(1, sizeof *r);
    const kv_tier_options t = {.blocks_max = host_blocks,
                               .seat_blocks_max = CTX / KV_BLOCK_TOKENS,
                               .block_bytes = BLOCK_BYTES,
                               .mover = {r, move_nothing, move_nothing}};
    CHECK_EQ(kv_tier_create(&r->tier, &t, NULL), OK);
    const sched_options o = {.seats = seats,
                             .rows_max = rows_max,
                             .queue_max = 8,
                             .park_ms_max = 1000,
                             .ctx_max = CTX,
                             .vocab = VOCAB,
                             .eog_ids = eog,
                             .eog_count = 1,
                             .tier = r->tier};
    buf_init(&r->events, 1 << 20);
    CHECK_EQ(kv_pool_create(&r->kv, blocks, seats, CTX / KV_BLOCK_TOKENS, NULL), OK);
    CHECK_EQ(sched_create(&r->s, &o, r->kv, &r->events, NULL), OK);
    CHECK_EQ(step_plan_create(&r->plan, &o, NULL), OK);
    r->now_ns = 1000000000u;
    return r;
}

static rig *open_rig(uint32_t seats, uint32_t blocks, uint32_t host_blocks) {
    return open_narrow_rig(seats, blocks, host_blocks, ROWS);
}

static void close_rig(rig *r) {
    sched_destroy(r->s);
    CHECK_EQ(kv_tier_blocks_free(r->tier), kv_tier_blocks_max(r->tier));
    step_plan_destroy(r->plan);
    kv_tier_destroy(r->tier);
    kv_pool_destroy(r->kv);
    buf_deinit(&r->events);
    free(r);
}

static void submit(rig *r, uint64_t id, uint32_t prompt, uint16_t choices, uint32_t credits) {
    static int32_t ids[CTX];
    for (int i = 0; i < CTX; i++) ids[i] = 5;
    const gen_request q = {.id = id,
                           .prompt = GEN_PROMPT_IDS,
                           .choices = choices,
                           .credits = credits,
                           .ids = {ids, prompt},
                           .sampling = gen_sampling_default()};
    sched_submit(r->s, &q, r->now_ns);
}

/* One whole turn; every sampled token is 7.  Returns the rows computed. */
static uint32_t turn(rig *r) {
    sched_plan(r->s, r->now_ns, r->plan);
    sched_commit(r->s, r->plan, r->now_ns, r->rows);
    for (uint32_t i = 0; i < 8; i++) r->results[i].id = 7;
    sched_apply(r->s, r->plan, r->results, r->now_ns, 1000);
    CHECK(sched_validate(r->s));
    return r->plan->rows;
}

static sched_counters counters(const rig *r) { return sched_counters_get(r->s); }
static uint32_t host_used(const rig *r) {
    return kv_tier_blocks_max(r->tier) - kv_tier_blocks_free(r->tier);
}

/* Sequence 1 is parked, and gives its only seat to another one, which leaves again. */
static void preempt_parked(rig *r) {
    submit(r, 2, 5, 1, 100);
    r->now_ns += 1500000000u;
    for (int i = 0; i < CTX && counters(r).preemptions == 0; i++) (void)turn(r);
    sched_cancel(r->s, 2, GEN_CHOICE_ALL, r->now_ns);
}

TEST(sched_with_a_tier_goes_on_where_it_was) {
    rig *r = open_rig(1, 8, 8);
    submit(r, 1, 20, 1, 3);
    CHECK_EQ(turn(r), 20);
    for (int i = 0; i < 2; i++) CHECK_EQ(turn(r), 1);
    preempt_parked(r);
    CHECK_EQ(counters(r).preemptions_saved, 1);
    CHECK_EQ(host_used(r), 2); /* 22 tokens */
    CHECK_EQ(kv_blocks_free(r->kv), 8);
    sched_credit(r->s, 1, 100);
    CHECK_EQ(turn(r), 1);
    CHECK(r->rows[0].pos == 22 && !r->rows[0].prompt);
    CHECK_EQ(host_used(r), 0);
    CHECK_EQ(turn(r), 1);
    CHECK_EQ(counters(r).prefill_rows, 20); /* no row twice */
    CHECK_EQ(kv_tier_counters_get(r->tier).loaded_bytes, 2 * BLOCK_BYTES);
    close_rig(r);
}

/* Two sequences that generate grow by more than was kept free for them, and the youngest, which is
 * reading its prompt still, gives way. */
TEST(sched_with_a_tier_keeps_what_it_has_of_a_prompt) {
    rig *r = open_narrow_rig(3, 10, 8, 4);
    submit(r, 1, 20, 1, 100);
    submit(r, 2, 20, 1, 100);
    while (counters(r).decode_rows < 2) (void)turn(r);
    submit(r, 3, 63, 1, 100);
    for (int i = 0; i < CTX && counters(r).preemptions == 0; i++) (void)turn(r);
    const uint32_t read = (uint32_t)counters(r).prefill_rows - 40;
    CHECK_EQ(counters(r).preemptions_saved, 1);
    CHECK(read > 32 && read < 63);
    CHECK_EQ(host_used(r), kv_blocks_for(read));
    sched_cancel(r->s, 1, GEN_CHOICE_ALL, r->now_ns);
    sched_cancel(r->s, 2, GEN_CHOICE_ALL, r->now_ns);
    CHECK(turn(r) > 0);
    CHECK(r->rows[0].pos == read && r->rows[0].prompt);
    CHECK_EQ(host_used(r), 0);
    while (!sched_is_idle(r->s)) (void)turn(r);
    CHECK_EQ(counters(r).prefill_rows, 40 + 63);
    close_rig(r);
}

TEST(sched_with_a_full_tier_computes_again) {
    rig *r = open_rig(1, 8, 1);
    submit(r, 1, 20, 1, 3);
    for (int i = 0; i < 3; i++) (void)turn(r);
    preempt_parked(r);
    CHECK_EQ(counters(r).preemptions_saved, 0);
    CHECK_EQ(host_used(r), 0);
    sched_credit(r->s, 1, 100);
    CHECK_EQ(turn(r), 20);
    CHECK_EQ(turn(r), 3);
    CHECK_EQ(counters(r).prefill_rows, 20 + 20 + 3);
    close_rig(r);
}

TEST(sched_drops_what_is_saved_of_a_sequence_that_ends) {
    for (int how = 0; how < 4; how++) {
        const error why = {.code = ERR_DEVICE, .msg = "the device is gone"};
        rig *r = open_rig(1, 8, 8);
        submit(r, 1, 20, 1, 3);
        for (int i = 0; i < 3; i++) (void)turn(r);
        preempt_parked(r);
        CHECK_EQ(host_used(r), 2);
        if (how == 0) sched_cancel(r->s, 1, GEN_CHOICE_ALL, r->now_ns);
        if (how == 1) sched_drain(r->s, r->now_ns);
        r->plan->items_count = r->plan->admits_count = r->plan->rows = 0;
        if (how == 2) sched_fail(r->s, r->plan, &why);
        if (how < 3) CHECK_EQ(host_used(r), 0);
        close_rig(r); /* it is dropped with the scheduler, too */
    }
}

/* Two choices share two blocks of their prompt.  The second one has no block for its 49th token and
 * is saved, all three of its blocks; what it shares it shares again, and loads one. */
TEST(sched_shares_again_what_a_saved_choice_has_shared) {
    rig *r = open_rig(3, 8, 8);
    submit(r, 1, 40, 2, 100);
    submit(r, 2, 30, 1, 100);
    for (int i = 0; i < CTX && counters(r).preemptions == 0; i++) (void)turn(r);
    CHECK_EQ(counters(r).preemptions_saved, 1);
    CHECK_EQ(host_used(r), 3);
    CHECK_EQ(counters(r).prefill_rows, 40 + 30 + 8);
    sched_cancel(r->s, 2, GEN_CHOICE_ALL, r->now_ns);
    CHECK_EQ(turn(r), 2);
    CHECK_EQ(r->plan->admits[0].share_blocks, 2);
    CHECK_EQ(kv_tier_counters_get(r->tier).loaded_bytes, BLOCK_BYTES);
    CHECK_EQ(host_used(r), 0);
    CHECK_EQ(kv_blocks_free(r->kv), 8 - 4 - 2);
    CHECK_EQ(counters(r).prefill_rows, 40 + 30 + 8);
    while (!sched_is_idle(r->s)) (void)turn(r);
    close_rig(r);
}
