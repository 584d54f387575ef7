/* test_sched_vector.c - sched.h: requests that want a vector of their prompt, not tokens.
 *
 * A stand-in for the engine gives each row a state that tells its position: [1, pos]. */
#include "base/alloc.h"
#include "sched/sched.h"
#include "test.h"

enum { CTX_TOKENS = 64, ROWS = 32, DIMS = 2, LABELS = 3, SEATS = 3, WIDE = 65536 };

typedef struct vector_rig {
    sched_options opt;
    kv_pool *kv;
    sched *s;
    step_plan *plan;
    buf events;
    engine_row rows[ROWS];
    uint64_t now_ns;
} vector_rig;

static void open_vector_rig(vector_rig *r, bool encoder, gen_pooling pooling, uint32_t blocks,
                            uint32_t rows) {
    *r = (vector_rig){.now_ns = 1000000000u};
    r->opt = (sched_options){.seats = SEATS,
                             .rows_max = rows,
                             .queue_max = 8,
                             .park_ms_max = 1000,
                             .ctx_max = CTX_TOKENS,
                             .vocab = 16,
                             .no_generate = encoder,
                             .whole_prompts = encoder,
                             .embed_dims = DIMS,
                             .rank_labels = LABELS,
                             .embed_tokens_max = encoder ? ROWS : CTX_TOKENS,
                             .pooling = pooling};
    buf_init(&r->events, 1 << 20);
    CHECK_EQ(kv_pool_create(&r->kv, blocks, SEATS, CTX_TOKENS / KV_BLOCK_TOKENS, NULL), OK);
    CHECK_EQ(sched_create(&r->s, &r->opt, r->kv, &r->events, NULL), OK);
    CHECK_EQ(step_plan_create(&r->plan, &r->opt, NULL), OK);
    (void)wire_events_begin(&r->events);
}

static void close_vector_rig(vector_rig *r) {
    sched_destroy(r->s);
    step_plan_destroy(r->plan);
    kv_pool_destroy(r->kv);
    buf_deinit(&r->events);
}

static void ask(vector_rig *r, uint64_t id, gen_kind kind, uint32_t prompt) {
    static const int32_t ids[CTX_TOKENS];
    gen_request q = {.id = id,
                     .kind = kind,
                     .prompt = GEN_PROMPT_IDS,
                     .choices = 1,
                     .credits = 100,
                     .ids = {ids, prompt},
                     .sampling = gen_sampling_default()};
    sched_submit(r->s, &q, r->now_ns);
}

/* One whole turn; returns the rows computed. */
static uint32_t vector_turn(vector_rig *r) {
    sample_result sampled[SEATS] = {{.id = 7}, {.id = 7}, {.id = 7}};
    sched_plan(r->s, r->now_ns, r->plan);
    sched_commit(r->s, r->plan, r->now_ns, r->rows);
    const engine_row *row = r->rows;
    for (uint32_t i = 0; i < r->plan->items_count; i++) {
        seq *q = r->plan->items[i].seq;
        for (uint32_t k = 0; k < r->plan->items[i].rows; k++, row++) {
            static float state[WIDE];
            state[0] = 1, state[1] = (float)row->pos;
            bool wanted = q->request->kind == GEN_KIND_RANK ? row->wants_logits : row->wants_hidden;
            if (q->request->kind != GEN_KIND_GENERATE && wanted) seq_vector_add(q, state);
        }
    }
    sched_apply(r->s, r->plan, sampled, r->now_ns, 1000);
    CHECK(sched_validate(r->s));
    return r->plan->rows;
}

/* The next event of that kind about that request; false when there is none. */
static bool next_event(const vector_rig *r, uint64_t id, gen_event_kind kind, gen_event *out) {
    str body = str_skip(buf_view(&r->events), WIRE_HEADER_BYTES);
    bool more = true;
    while (wire_get_event(&body, out, &more, NULL) == OK && more)
        if (out->id == id && out->kind == kind) return true;
    return false;
}

static void check_vector(const vector_rig *r, uint64_t id, float first, float second) {
    gen_event e;
    bool found = next_event(r, id, GEN_VECTOR, &e);
    CHECK(found);
    if (!found) return;
    CHECK(wire_f32_at(e.vector, 0) == first && wire_f32_at(e.vector, 1) == second);
    CHECK(next_event(r, id, GEN_FINISH, &e) && e.finish.reason == GEN_FINISH_VECTOR);
    CHECK(next_event(r, id, GEN_USAGE, &e) && e.usage.completion_tokens == 0);
}

TEST(sched_pools_the_states_of_a_prompt_that_takes_many_steps) {
    static const struct {
        gen_pooling pooling;
        float first, second;
    } cases[] = {
        {GEN_POOLING_MEAN, 1, 24.5f}, {GEN_POOLING_FIRST, 1, 0}, {GEN_POOLING_LAST, 1, 49}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vector_rig r;
        open_vector_rig(&r, false, cases[i].pooling, 16, ROWS);
        ask(&r, 1, GEN_KIND_EMBED, 50);
        CHECK_EQ(vector_turn(&r), ROWS);
        CHECK_EQ(vector_turn(&r), 50 - ROWS);
        CHECK(sched_is_idle(r.s));
        check_vector(&r, 1, cases[i].first, cases[i].second);
        close_vector_rig(&r);
    }
}

TEST(sched_a_preempted_vector_starts_from_nothing) {
    vector_rig r;
    open_vector_rig(&r, false, GEN_POOLING_MEAN, 8, SEATS);
    ask(&r, 1, GEN_KIND_GENERATE, 3); /* these two grow into blocks that the youngest holds */
    ask(&r, 2, GEN_KIND_GENERATE, 3);
    ask(&r, 3, GEN_KIND_EMBED, 63);
    for (int i = 0; i < 400 && !sched_is_idle(r.s); i++) (void)vector_turn(&r);
    CHECK(sched_is_idle(r.s));
    CHECK(sched_counters_get(r.s).preemptions > 0);
    check_vector(&r, 3, 1, 31);
    close_vector_rig(&r);
}

TEST(sched_an_encoder_sees_each_prompt_whole) {
    vector_rig r;
    open_vector_rig(&r, true, GEN_POOLING_MEAN, 16, ROWS);
    ask(&r, 1, GEN_KIND_EMBED, 20);
    ask(&r, 2, GEN_KIND_EMBED, 20);
    ask(&r, 3, GEN_KIND_EMBED, 12);
    CHECK_EQ(vector_turn(&r), 20); /* 12 rows are left, but the next one needs 20 */
    CHECK_EQ(vector_turn(&r), 32);
    CHECK(sched_is_idle(r.s));
    for (uint64_t id = 1; id <= 2; id++) check_vector(&r, id, 1, 9.5f);
    check_vector(&r, 3, 1, 5.5f);
    close_vector_rig(&r);
}

TEST(sched_scores_come_from_the_first_token) {
    vector_rig r;
    gen_event e;
    open_vector_rig(&r, true, GEN_POOLING_MEAN, 16, ROWS);
    ask(&r, 1, GEN_KIND_RANK, 9);
    CHECK_EQ(vector_turn(&r), 9);
    CHECK(r.rows[0].wants_logits && !r.rows[0].wants_hidden && !r.rows[8].wants_logits);
    check_vector(&r, 1, 1, 0);
    CHECK(next_event(&r, 1, GEN_VECTOR, &e) && e.vector.count == LABELS);
    close_vector_rig(&r);
}

static void check_fault(const vector_rig *r, uint64_t id, gen_fault fault, const char *words) {
    gen_event e;
    char text[200];
    bool found = next_event(r, id, GEN_ERROR, &e);
    CHECK(found);
    if (!found) return;
    str_copy_c(text, sizeof text, e.error.message);
    CHECK_EQ(e.error.fault, fault);
    CHECK_HAS(text, words);
}

TEST(sched_refuses_what_the_model_does_not_do) {
    vector_rig r;
    open_vector_rig(&r, true, GEN_POOLING_MEAN, 16, ROWS);
    ask(&r, 1, GEN_KIND_GENERATE, 4);
    check_fault(&r, 1, GEN_FAULT_KIND, "encoder");
    ask(&r, 2, GEN_KIND_EMBED, ROWS + 1);
    check_fault(&r, 2, GEN_FAULT_INPUT_LENGTH, "33 tokens, at most 32");
    CHECK(sched_is_idle(r.s));
    close_vector_rig(&r);
    open_vector_rig(&r, false, GEN_POOLING_LAST, 16, ROWS);
    r.opt.rank_labels = 0;
    sched_destroy(r.s);
    CHECK_EQ(sched_create(&r.s, &r.opt, r.kv, &r.events, NULL), OK);
    ask(&r, 3, GEN_KIND_RANK, 4);
    check_fault(&r, 3, GEN_FAULT_KIND, "classification head");
    uint32_t adapter = 5;
    float scale = 1;
    static const int32_t id = 3;
    gen_request q = {.id = 4,
                     .prompt = GEN_PROMPT_IDS,
                     .choices = 1,
                     .credits = 1,
                     .ids = {&id, 1},
                     .adapters = {&adapter, 1},
                     .adapter_scales = {&scale, 1},
                     .sampling = gen_sampling_default()};
    sched_submit(r.s, &q, r.now_ns);
    check_fault(&r, 4, GEN_FAULT_ADAPTER, "adapter 5 is not loaded");
    CHECK(sched_is_idle(r.s));
    close_vector_rig(&r);
}

/* The events of a step travel in one frame, and a frame has to fit a ring. */
TEST(sched_bounds_the_bytes_of_the_vectors_of_a_step) {
    for (int encoder = 0; encoder < 2; encoder++) {
        vector_rig r;
        gen_event e;
        open_vector_rig(&r, encoder != 0, GEN_POOLING_MEAN, 16, ROWS);
        r.opt.embed_dims = WIDE;
        sched_destroy(r.s);
        CHECK_EQ(sched_create(&r.s, &r.opt, r.kv, &r.events, NULL), OK);
        for (uint64_t id = 1; id <= SEATS; id++) ask(&r, id, GEN_KIND_EMBED, 4);
        (void)vector_turn(&r);
        CHECK(next_event(&r, 2, GEN_VECTOR, &e) && !next_event(&r, 3, GEN_VECTOR, &e));
        CHECK(r.events.n <= SCHED_STEP_VECTOR_BYTES + 1024);
        buf_clear(&r.events);
        (void)wire_events_begin(&r.events);
        (void)vector_turn(&r);
        check_vector(&r, 3, 1, 1.5f);
        CHECK(sched_is_idle(r.s));
        close_vector_rig(&r);
    }
}
