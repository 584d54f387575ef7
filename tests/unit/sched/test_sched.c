/* test_sched.c - sched.h: single decisions that the simulation reaches only by chance. */
#include "sched/sched.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "test.h"

enum { VOCAB = 16, CTX = 64 };

typedef struct rig {
    kv_pool *kv;
    sched *s;
    step_plan *plan;
    buf events;
    engine_row rows[256];
    sample_result results[8];
    uint64_t now_ns;
    uint64_t step_ns; /* that a turn takes */
} rig;

static const int32_t eog[] = {2};

static rig *open_timed_rig(uint32_t seats, uint32_t blocks, uint32_t step_ms_target) {
    rig *r = calloc(1, sizeof *r);
    sched_options o = {.seats = seats,
                       .rows_max = 128,
                       .step_ms_target = step_ms_target,
                       .queue_max = 8,
                       .park_ms_max = 1000,
                       .ctx_max = CTX,
                       .vocab = VOCAB,
                       .eog_ids = eog,
                       .eog_count = 1};
    buf_init(&r->events, 1 << 20);
    CHECK_EQ(kv_pool_create(&r->kv, blocks, seats, CTX / KV_BLOCK_TOKENS, NULL), OK);
    CHECK_EQ(sched_create(&r->s, &o, r->kv, &r->events, NULL), OK);
    CHECK_EQ(step_plan_create(&r->plan, &o, NULL), OK);
    r->now_ns = 1000000000u;
    r->step_ns = 1000;
    return r;
}

static rig *open_rig(uint32_t seats, uint32_t blocks) { return open_timed_rig(seats, blocks, 0); }

static void close_rig(rig *r) {
    sched_destroy(r->s);
    step_plan_destroy(r->plan);
    kv_pool_destroy(r->kv);
    buf_deinit(&r->events);
    free(r);
}

static void submit(rig *r, uint64_t id, uint32_t prompt, uint16_t choices, uint32_t credits) {
    static int32_t ids[CTX];
    for (int i = 0; i < CTX; i++) ids[i] = 5;
    gen_request q = {.id = id,
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
    sched_apply(r->s, r->plan, r->results, r->now_ns, r->step_ns);
    CHECK(sched_validate(r->s));
    return r->plan->rows;
}

TEST(sched_gives_the_seat_of_a_client_that_does_not_read_to_one_that_waits) {
    rig *r = open_rig(1, 16);
    submit(r, 1, 4, 1, 1); /* one credit: parked after its first token */
    submit(r, 2, 4, 1, 100);
    CHECK_EQ(turn(r), 4);
    CHECK_EQ(turn(r), 0); /* parked, but only just: clients may be slow */
    CHECK_EQ(sched_counters_get(r->s).parked, 1);
    r->now_ns += 1500000000u;
    CHECK_EQ(turn(r), 0); /* gives way */
    CHECK_EQ(turn(r), 4); /* the other one runs */
    CHECK_EQ(sched_counters_get(r->s).preemptions, 1);
    sched_credit(r->s, 1, 100);
    for (int i = 0; i < 3 * CTX; i++) (void)turn(r);
    CHECK(sched_is_idle(r->s)); /* both got everything */
    close_rig(r);
}

TEST(sched_leaves_a_parked_sequence_alone_while_nobody_waits) {
    rig *r = open_rig(1, 16);
    submit(r, 1, 4, 1, 1);
    (void)turn(r);
    r->now_ns += 5000000000u;
    CHECK_EQ(turn(r), 0);
    CHECK_EQ(sched_counters_get(r->s).preemptions, 0);
    close_rig(r);
}

TEST(sched_without_memory_fails_one_request_and_goes_on_with_the_others) {
    for (int64_t n = 0; n < 4; n++) {
        rig *r = open_rig(4, 16);
        submit(r, 1, 20, 2, 100);
        submit(r, 2, 20, 1, 100);
        sched_plan(r->s, r->now_ns, r->plan);
        mem_fail_after(n);
        sched_commit(r->s, r->plan, r->now_ns, r->rows);
        mem_fail_after(-1);
        for (uint32_t i = 0; i < 8; i++) r->results[i].id = 2;
        sched_apply(r->s, r->plan, r->results, r->now_ns, 1000);
        CHECK(sched_validate(r->s));
        for (int i = 0; i < 8; i++) (void)turn(r);
        sched_cancel(r->s, 1, GEN_CHOICE_ALL, r->now_ns);
        sched_cancel(r->s, 2, GEN_CHOICE_ALL, r->now_ns);
        CHECK(sched_is_idle(r->s));
        CHECK_EQ(kv_blocks_free(r->kv), 16);
        close_rig(r);
    }
}

/* Rows of the last turn that were generated; none may stand behind one of a prompt. */
static uint32_t generated_rows(const rig *r) {
    uint32_t n = 0;
    while (n < r->plan->rows && !r->rows[n].prompt) n++;
    for (uint32_t i = n; i < r->plan->rows; i++) CHECK(r->rows[i].prompt);
    return n;
}

/* Sequence 1 gives its seat away with three tokens, and is computed again: its prompt, and in the
 * next step, before the prompt that is new then, what was generated. */
TEST(sched_has_the_rows_that_were_generated_before_those_of_prompts) {
    rig *r = open_rig(2, 16);
    submit(r, 1, 4, 1, 3);
    for (int i = 0; i < 4; i++) (void)turn(r);
    CHECK_EQ(sched_counters_get(r->s).parked, 1);
    submit(r, 2, 5, 1, 100);
    submit(r, 3, 30, 1, 100);
    r->now_ns += 1500000000u;
    while (sched_counters_get(r->s).preemptions == 0) {
        (void)turn(r);
        (void)generated_rows(r);
    }
    sched_credit(r->s, 1, 100);
    sched_cancel(r->s, 2, GEN_CHOICE_ALL, r->now_ns);
    CHECK_EQ(turn(r), 34); /* the prompts of 1, the head of the queue, and of 3 */
    CHECK_EQ(generated_rows(r), 0);
    sched_cancel(r->s, 3, GEN_CHOICE_ALL, r->now_ns);
    submit(r, 4, 9, 1, 100);
    CHECK_EQ(turn(r), 3 + 9);
    CHECK_EQ(generated_rows(r), 3);
    CHECK_EQ(turn(r), 2);
    CHECK_EQ(generated_rows(r), 2);
    close_rig(r);
}

/* The one that runs is parked, and gives its seat to another one, which is cancelled. */
static void preempt(rig *r, uint64_t id) {
    const uint64_t before = sched_counters_get(r->s).preemptions;
    submit(r, id, 5, 1, 100);
    r->now_ns += 1500000000u;
    while (sched_counters_get(r->s).preemptions == before) (void)turn(r);
    sched_cancel(r->s, id, GEN_CHOICE_ALL, r->now_ns);
}

/* Rows that were generated and are computed again have a pace of their own: slow as they are, they
 * come in small chunks, and prompts go on in large ones. */
TEST(sched_computes_again_at_a_pace_of_its_own) {
    enum { PROMPT = 4, GENERATED = 40 };
    rig *r = open_timed_rig(1, 16, 1);
    submit(r, 1, PROMPT, 1, GENERATED);
    for (int i = 0; i < GENERATED; i++) (void)turn(r);
    preempt(r, 2);
    sched_credit(r->s, 1, 1);
    CHECK_EQ(turn(r), PROMPT);
    r->step_ns = (uint64_t)GENERATED * 100000;
    CHECK_EQ(turn(r), GENERATED); /* nothing is known yet */
    r->step_ns = 1000;
    preempt(r, 3);
    sched_credit(r->s, 1, 1);
    CHECK_EQ(turn(r), PROMPT);
    CHECK_EQ(turn(r), 17); /* a millisecond has room for 10; there is a least size */
    sched_cancel(r->s, 1, GEN_CHOICE_ALL, r->now_ns);
    submit(r, 4, 50, 1, 100);
    CHECK_EQ(turn(r), 50);
    close_rig(r);
}

TEST(sched_drain_ends_what_runs_and_what_waits) {
    rig *r = open_rig(1, 16);
    submit(r, 1, 4, 2, 100);
    submit(r, 2, 4, 1, 100);
    (void)turn(r);
    sched_drain(r->s, r->now_ns);
    CHECK(sched_is_idle(r->s));
    submit(r, 3, 4, 1, 100);
    CHECK(sched_is_idle(r->s)); /* refused */
    close_rig(r);
}

TEST(sched_fail_ends_everything_and_refuses_what_comes) {
    const error why = {.code = ERR_DEVICE, .msg = "the device is gone"};
    rig *r = open_rig(2, 16);
    submit(r, 1, 4, 2, 100);
    submit(r, 2, 4, 1, 100);
    (void)turn(r);
    sched_plan(r->s, r->now_ns, r->plan);
    sched_commit(r->s, r->plan, r->now_ns, r->rows);
    sched_fail(r->s, r->plan, &why);
    CHECK(sched_is_idle(r->s) && sched_validate(r->s));
    CHECK_EQ(r->plan->rows, 0);
    CHECK_EQ(kv_blocks_free(r->kv), 16);
    const size_t before = r->events.n;
    submit(r, 3, 4, 1, 100);
    CHECK(sched_is_idle(r->s));
    CHECK(r->events.n > before); /* its error */
    close_rig(r);
}

/* --- masks -------------------- */

static void submit_allowing(rig *r, uint64_t id, const int32_t *allowed, uint32_t count) {
    static const int32_t ids[] = {5, 5};
    gen_request q = {.id = id,
                     .prompt = GEN_PROMPT_IDS,
                     .choices = 1,
                     .credits = 10,
                     .ids = {ids, 2},
                     .sampling = gen_sampling_default()};
    q.sampling.allowed_ids = (wire_array){allowed, count};
    sched_submit(r->s, &q, r->now_ns);
}

TEST(sched_makes_a_mask_of_allowed_ids) {
    static const int32_t ids[] = {15, 0, 3, 0};
    rig *r = open_rig(2, 16);
    submit_allowing(r, 1, ids, 4);
    submit_allowing(r, 2, NULL, 0);
    sched_plan(r->s, r->now_ns, r->plan);
    CHECK_EQ(r->plan->items_count, 2);
    const uint32_t *mask = r->plan->items[0].seq->request->sampling.allowed;
    CHECK(mask != NULL && mask[0] == (1u << 15 | 1u << 3 | 1u));
    CHECK(r->plan->items[1].seq->request->sampling.allowed == NULL);
    close_rig(r);
}

TEST(sched_refuses_an_allowed_id_that_the_vocabulary_lacks) {
    static const int32_t ids[] = {3, VOCAB, -1};
    rig *r = open_rig(1, 16);
    for (uint32_t i = 0; i < 2; i++) {
        const size_t before = r->events.n;
        submit_allowing(r, 1, ids + i, 2);
        CHECK(r->events.n > before && sched_is_idle(r->s));
    }
    submit_allowing(r, 1, ids, 1);
    CHECK(!sched_is_idle(r->s));
    close_rig(r);
}

TEST(sched_without_memory_for_a_mask_refuses_the_request) {
    static const int32_t ids[] = {3};
    bool taken = false;
    for (int64_t n = 0; n < 12 && !taken; n++) {
        rig *r = open_rig(1, 16);
        mem_fail_after(n);
        submit_allowing(r, 1, ids, 1);
        mem_fail_after(-1);
        taken = !sched_is_idle(r->s);
        CHECK(n >= 4 || !taken);
        close_rig(r);
    }
    CHECK(taken);
}
