/* test_engine.c - engine.h: the plan is the allocation, and its limits are errors. */
#include "base/alloc.h"
#include "base/os.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static model *tiny(void) {
    model *m = NULL;
    error err = {0};
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", &err), OK);
    return m;
}

static uint64_t block_bytes(const model *m, dtype kv_type) {
    const model_hparams *h = &m->hparams;
    kv_layout layout = {.type = kv_type,
                        .layers = h->layers,
                        .kv_heads = h->kv_heads,
                        .key_dim = h->head_dim,
                        .value_dim = h->head_dim};
    return kv_block_bytes(&layout);
}

static engine_row row_at(int32_t token, uint32_t pos, uint32_t seat, bool wants_logits) {
    return (engine_row){.token = token, .pos = pos, .seat = seat, .wants_logits = wants_logits};
}

static engine_options small_options(void) {
    engine_options opt = rig_options(&rig_engines[3], DTYPE_F16, 100);
    opt.rows_max = 32;
    opt.taken_rows_max = 8;
    return opt;
}

TEST(engine_opens_exactly_what_it_planned) {
    for (int i = 0; i < RIG_ENGINES; i++) {
        model *m = tiny();
        engine *e = NULL;
        mem_plan plan;
        engine_options opt = small_options();
        opt.backend = rig_engines[i].backend;
        opt.threads = rig_engines[i].threads;
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        const mem_plan *opened = engine_mem_plan(e);
        CHECK_EQ(opened->kv_bytes, plan.kv_bytes);
        CHECK_EQ(opened->kv_blocks, plan.kv_blocks);
        CHECK_EQ(opened->workspace_bytes, plan.workspace_bytes);
        CHECK_EQ(opened->repacked_bytes, plan.repacked_bytes);
        /* what is repacked is not read from the file any more */
        CHECK((opened->repacked_bytes > 0) == (opened->weights_bytes < m->weight_bytes));
        CHECK(opened->ctx_max == 100 && opened->seats == 8 && !opened->kv_cut);
        CHECK_EQ(plan.kv_blocks, 8 * 7); /* 100 tokens: 7 blocks */
        CHECK_EQ(plan.kv_bytes, plan.kv_blocks * block_bytes(m, DTYPE_F16));
        CHECK_EQ(kv_blocks_max(engine_kv(e)), plan.kv_blocks);
        CHECK_EQ(kv_seat_blocks_max(engine_kv(e)), 7);
        CHECK_EQ(engine_vocab(e), m->hparams.vocab);
        engine_close(e);
        model_close(m);
    }
    engine_close(NULL);
}

static status plan_too_much(const program *p, const backend_options *opt, backend_memory *out,
                            error *err) {
    (void)p, (void)opt, (void)err;
    *out = (backend_memory){.repacked = SIZE_MAX / 2};
    return OK;
}

TEST(engine_refuses_copies_of_weights_that_do_not_fit) {
    model *m = tiny();
    mem_plan plan;
    error err = {0};
    engine_options opt = small_options();
    backend_ops greedy = backend_cpu;
    greedy.plan = plan_too_much;
    opt.backend = &greedy;
    opt.kv_bytes_max = 1 << 20; /* what is asked for does not count what is free */
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "the weights, repacked, need 9223372036854775807 bytes");
    model_close(m);
}

TEST(engine_context_defaults_to_the_models) {
    model *m = tiny();
    mem_plan plan;
    engine_options opt = small_options();
    opt.ctx_max = 0;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.ctx_max, m->hparams.ctx_train);
    model_close(m);
}

TEST(engine_kv_limit_cuts_the_plan) {
    model *m = tiny();
    mem_plan plan;
    engine_options opt = small_options();
    uint64_t block = block_bytes(m, DTYPE_F16);
    opt.kv_bytes_max = 20 * block + block - 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_blocks, 20);
    CHECK(plan.kv_bytes <= opt.kv_bytes_max);
    CHECK(plan.kv_cut);
    opt.kv_bytes_max = 7 * block;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.kv_blocks, 7);
    opt.kv_bytes_max = 56 * block;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(!plan.kv_cut && plan.kv_blocks == 56);
    model_close(m);
}

TEST(engine_kv_that_holds_no_sequence_is_an_error) {
    model *m = tiny();
    engine *e = NULL;
    mem_plan plan;
    error err = {0};
    char need[32], have[32];
    engine_options opt = small_options();
    uint64_t block = block_bytes(m, DTYPE_F16);
    opt.kv_bytes_max = 7 * block - 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    (void)snprintf(need, sizeof need, "%llu", (unsigned long long)(7 * block));
    (void)snprintf(have, sizeof have, "%llu", (unsigned long long)opt.kv_bytes_max);
    CHECK_HAS(err.msg, need);
    CHECK_HAS(err.msg, have);
    CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
    CHECK(e == NULL);
    model_close(m);
}

TEST(engine_open_fails_cleanly) {
    model *m = tiny();
    engine *e = NULL;
    error err = {0};
    engine_options opt = small_options();
    opt.threads = 2;
    status st = ERR_NOMEM;
    for (int64_t after = 0; after < 100 && st != OK; after++) {
        if (after == 2 || after == 3) continue; /* a program that cannot grow aborts by design */
        mem_fail_after(after);
        st = engine_open(&e, m, &opt, &err);
        mem_fail_after(-1);
        if (st != OK) CHECK_EQ(st, ERR_NOMEM);
    }
    CHECK_EQ(st, OK);
    engine_close(e);
    for (int calls = 0; calls < 2; calls++) {
        e = NULL;
        os_fail_after(OS_CALL_MMAP, calls, ENOMEM);
        CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
        os_fail_after(OS_CALL_MMAP, -1, 0);
        CHECK(e == NULL);
    }
    os_fail_after(OS_CALL_THREAD, 0, EAGAIN);
    CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
    os_fail_after(OS_CALL_THREAD, -1, 0);
    model_close(m);
}

TEST(engine_returns_logits_of_the_rows_that_want_them) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    size_t vocab = m->hparams.vocab;
    int32_t ids[10] = {1, 5, 9, 13, 17, 21, 25, 29, 33, 37};
    engine_row rows[10];
    float *all = rig_all_logits(m, &opt, ids, 8, 8);
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 8, NULL), OK);
    for (uint32_t i = 0; i < 8; i++) rows[i] = row_at(ids[i], i, 0, i == 2 || i == 7);
    const float *logits = engine_step(e, rows, 8);
    CHECK(memcmp(logits, all + 2 * vocab, vocab * sizeof *all) == 0);
    CHECK(memcmp(logits + vocab, all + 7 * vocab, vocab * sizeof *all) == 0);
    kv_seat_clear(engine_kv(e), 0);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 8, NULL), OK);
    for (uint32_t i = 0; i < 8; i++) rows[i].wants_logits = false;
    (void)engine_step(e, rows, 4); /* nobody wants any: only the cache is filled */
    for (uint32_t i = 4; i < 8; i++) rows[i].wants_logits = i == 7;
    logits = engine_step(e, rows + 4, 4);
    CHECK(memcmp(logits, all + 7 * vocab, vocab * sizeof *all) == 0);
    backend_report report;
    engine_report(e, &report);
    CHECK_HAS(report.what, "cpu ");
    CHECK(report.ops_fused > 0 && report.tasks > 0);
    free(all);
    engine_close(e);
    model_close(m);
}

TEST(engine_finds_the_best_of_the_rows_that_want_only_it) {
    model *m = tiny();
    for (int i = 0; i < RIG_ENGINES; i++) {
        const engine_options opt = rig_options(&rig_engines[i], DTYPE_F32, 64);
        rig_check_best(m, &opt);
    }
    model_close(m);
}

/* --- our own mistakes die at once -------------------- */

static void step_one(engine *e, int32_t token, uint32_t pos, uint32_t seat) {
    engine_row row = row_at(token, pos, seat, true);
    (void)engine_step(e, &row, 1);
}

/* Run it in a child; true when that was killed. */
static bool dies(void (*run)(engine *e), engine *e) {
    pid_t pid = fork();
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        run(e);
        _exit(0);
    }
    int wait_status = 0;
    (void)waitpid(pid, &wait_status, 0);
    return WIFSIGNALED(wait_status);
}

static void step_id_out_of_vocabulary(engine *e) { step_one(e, (int32_t)engine_vocab(e), 0, 0); }
static void step_negative_id(engine *e) { step_one(e, -1, 0, 0); }
static void step_beyond_the_seat(engine *e) { step_one(e, 1, 16, 0); }
static void step_seat_that_is_none(engine *e) { step_one(e, 1, 0, 8); }
static void step_well(engine *e) { step_one(e, 1, 0, 0); }
static void step_seat_twice(engine *e) {
    engine_row rows[] = {row_at(1, 0, 0, true), row_at(1, 0, 1, true), row_at(1, 1, 0, true)};
    (void)engine_step(e, rows, 3);
}
static void step_with_a_gap(engine *e) {
    engine_row rows[] = {row_at(1, 0, 0, true), row_at(1, 2, 0, true)};
    (void)engine_step(e, rows, 2);
}
static void step_for_the_best_and_logits(engine *e) {
    engine_row row = row_at(1, 0, 0, true);
    row.wants_best = true;
    (void)engine_step(e, &row, 1);
}
static void step_with_an_adapter(engine *e) {
    lora_mix mix = {0};
    engine_row row = row_at(1, 0, 0, true);
    row.lora = &mix;
    (void)engine_step(e, &row, 1);
}

/* --- hidden states and adapters -------------------- */

TEST(engine_returns_hidden_states_of_the_rows_that_want_them) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    int32_t ids[8] = {1, 5, 9, 13, 17, 21, 25, 29};
    engine_row rows[8];
    size_t vocab = m->hparams.vocab, n_embd = m->hparams.n_embd;
    float *all = rig_all_logits(m, &opt, ids, 8, 8), *states = rig_all_hidden(m, &opt, ids, 8, 8);
    opt.taken_rows_max = 1;
    opt.hidden_rows_max = 3;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_hidden_cols(e), n_embd);
    CHECK_EQ(engine_logits_cols(e), vocab);
    CHECK(engine_can_share(e) && !engine_is_encoder(e));
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 8, NULL), OK);
    for (uint32_t i = 0; i < 8; i++) {
        rows[i] = row_at(ids[i], i, 0, i == 5); /* its hidden state comes with the logits */
        rows[i].wants_hidden = i == 2 || i == 7;
    }
    const float *logits = engine_step(e, rows, 8), *hidden = engine_hidden(e);
    CHECK(memcmp(logits, all + 5 * vocab, vocab * sizeof *all) == 0);
    CHECK(memcmp(hidden, states + 2 * n_embd, n_embd * sizeof *all) == 0);
    CHECK(memcmp(hidden + n_embd, states + 5 * n_embd, n_embd * sizeof *all) == 0);
    CHECK(memcmp(hidden + 2 * n_embd, states + 7 * n_embd, n_embd * sizeof *all) == 0);
    free(all);
    free(states);
    engine_close(e);
    model_close(m);
}

TEST(engine_names_what_adapters_can_change) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_lora_slots(e), 0);
    engine_close(e);
    opt.lora_rank_max = 4;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_lora_slots(e), 7 * m->hparams.layers + 1); /* q k v o gate up down; output */
    bool found = false;
    for (uint32_t i = 0; i < engine_lora_slots(e); i++) {
        lora_slot slot = engine_lora_slot(e, i);
        CHECK(slot.tensor.n > 0 && slot.rows > 0 && slot.cols > 0);
        if (!str_eq(slot.tensor, S("blk.1.ffn_up.weight"))) continue;
        found = true;
        CHECK(slot.rows == m->hparams.n_ff && slot.cols == m->hparams.n_embd && slot.row0 == 0);
    }
    CHECK(found);
    engine_close(e);
    model_close(m);
}

/* --- models without a KV cache, or without logits -------------------- */

/* Of the reference data; the caller has seen that it is there. */
static model *of_family(const char *name) {
    char path[256];
    model *m = NULL;
    error err = {0};
    (void)snprintf(path, sizeof path, "oracle/public/models/%s/model-f32.gguf", name);
    CHECK_EQ(model_open(&m, shared_path(path), &err), OK);
    return m;
}

static void step_behind_the_state(engine *e) { step_one(e, 1, 2, 0); }
static void step_after_the_state(engine *e) { step_one(e, 1, 4, 0); }

/* One thread, for the children. */
TEST(engine_states_are_planned_and_begin_anew) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    enum { TOKENS = 12 };
    CHECK(index != NULL);
    model *m = of_family("mamba");
    engine *e = NULL;
    int32_t ids[TOKENS] = {1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45};
    if (m == NULL) return;
    const model_hparams *h = &m->hparams;
    engine_options opt = small_options();
    size_t floats = (size_t)h->layers * h->ssm_inner * (h->ssm_conv - 1 + h->ssm_state);
    size_t bytes = TOKENS * h->vocab * sizeof(float);
    opt.taken_rows_max = 32;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    const mem_plan *plan = engine_mem_plan(e);
    CHECK(plan->kv_bytes == 0 && plan->kv_blocks == 8 * 7 && !plan->kv_cut);
    CHECK_EQ(plan->state_bytes, 8 * floats * sizeof(float));
    CHECK(!engine_can_share(e) && !engine_is_encoder(e));
    float *want = rig_all_logits(m, &opt, ids, TOKENS, TOKENS);
    rig_sequence s = {.ids = ids, .count = TOKENS, .logits = malloc(bytes)};
    rig_advance(e, &s, 1, 7); /* preempted in the middle: all over again, on the same seat */
    kv_seat_clear(engine_kv(e), 0);
    s.done = 0;
    while (s.done < TOKENS) rig_advance(e, &s, 1, 3);
    CHECK(memcmp(s.logits, want, bytes) == 0);
    kv_seat_clear(engine_kv(e), 0);
    s.done = 0;
    rig_advance(e, &s, 1, 3);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 5, NULL), OK);
    CHECK(dies(step_behind_the_state, e));
    CHECK(dies(step_after_the_state, e));
    CHECK(!dies(step_well, e));
    free(want);
    free(s.logits);
    engine_close(e);
    mem_plan cut = {0};
    opt.kv_bytes_max = 10 * KV_BLOCK_COST_BYTES; /* blocks without bytes are not free, either */
    CHECK_EQ(engine_plan(m, &opt, &cut, NULL), OK);
    CHECK(cut.kv_blocks == 10 && cut.kv_cut && cut.kv_bytes == 0);
    opt.kv_bytes_max = 0;
    opt.seats = UINT32_MAX; /* such states fit nowhere */
    opt.rows_max = opt.taken_rows_max = 1;
    error err = {0};
    CHECK_EQ(engine_plan(m, &opt, &(mem_plan){0}, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "states of 4294967295 sequences");
    model_close(m);
}

static void step_half_a_sequence(engine *e) { step_one(e, 1, 0, 0); }

TEST(engine_encoders_take_whole_sequences) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    model *m = of_family("bert");
    engine *e = NULL;
    if (m == NULL) return;
    engine_options opt = small_options();
    opt.hidden_rows_max = 2;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_mem_plan(e)->ctx_max, opt.rows_max); /* not 100 */
    CHECK(engine_is_encoder(e) && !engine_can_share(e));
    CHECK_EQ(engine_logits_cols(e), 0);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 2, NULL), OK);
    engine_row rows[] = {row_at(2, 0, 0, false), row_at(3, 1, 0, false)};
    rows[0].wants_hidden = true;
    CHECK(engine_step(e, rows, 2) == NULL);
    CHECK(engine_hidden(e) != NULL);
    CHECK(dies(step_half_a_sequence, e));
    kv_seat_clear(engine_kv(e), 0);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    engine_close(e);
    model_close(m);
}

TEST(engine_context_ends_with_the_learned_positions) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    model *m = of_family("gpt2");
    mem_plan plan;
    error err = {0};
    if (m == NULL) return;
    engine_options opt = small_options();
    opt.ctx_max = 192;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    opt.ctx_max = 193;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_LIMIT);
    CHECK_HAS(err.msg, "193");
    CHECK_HAS(err.msg, "192");
    model_close(m);
}

TEST(engine_latent_cache_holds_one_row_for_all_heads) {
    SHARED_OR_SKIP(index, "oracle/public/models/index.tsv");
    CHECK(index != NULL);
    model *m = of_family("deepseek2");
    mem_plan plan;
    if (m == NULL) return;
    const model_hparams *h = &m->hparams;
    engine_options opt = small_options();
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    uint64_t row_bytes = (h->kv_rank + h->head_dim - h->nope_dim) * 2; /* F16 */
    CHECK_EQ(plan.kv_bytes, row_bytes * h->layers * KV_BLOCK_TOKENS * plan.kv_blocks);
    model_close(m);
}

/* --- what callers promise -------------------- */

/* One thread: a child has only the thread that forked. */
TEST(engine_asserts_its_callers_promises) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 16, NULL), OK);
    CHECK(!dies(step_well, e));
    CHECK(dies(step_id_out_of_vocabulary, e));
    CHECK(dies(step_negative_id, e));
    CHECK(dies(step_beyond_the_seat, e));
    CHECK(dies(step_seat_that_is_none, e));
    CHECK(dies(step_with_a_gap, e));
    CHECK(dies(step_with_an_adapter, e));
    CHECK(dies(step_for_the_best_and_logits, e));
    CHECK_EQ(kv_seat_grow(engine_kv(e), 1, 16, NULL), OK);
    CHECK(dies(step_seat_twice, e));
    engine_close(e);
    model_close(m);
}

/* A backend whose step allocates must be found out by the frozen heap. */
static step_result greedy_step(backend *b, const batch *in) {
    (void)b;
    (void)in;
    return (step_result){.logits = mem_try_alloc(4)};
}

TEST(engine_step_runs_with_the_heap_frozen) {
    model *m = tiny();
    engine *e = NULL;
    engine_options opt = small_options();
    backend_ops leaky = backend_cpu;
    leaky.step = greedy_step;
    opt.backend = &leaky;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 0, 16, NULL), OK);
    CHECK(dies(step_well, e));
    engine_close(e);
    model_close(m);
}

/* Keys and values as codes: near those in f32, the same bits in chunks of any size, and so many
 * 32nds of the memory that f16 takes. */
static void check_code_cache(dtype type, uint32_t memory, double bound) {
    enum { IDS = 40 };
    int32_t ids[IDS];
    model *m = NULL;
    mem_plan half, codes;
    CHECK_EQ(model_open(&m, "synth:small:f32", NULL), OK);
    for (int32_t i = 0; i < IDS; i++) ids[i] = i * 37 % 512;
    const size_t count = IDS * (size_t)m->hparams.vocab;
    for (int i = 0; i < RIG_ENGINES; i++) {
        engine_options opt = rig_options(&rig_engines[i], DTYPE_F32, IDS);
        float *want = rig_all_logits(m, &opt, ids, IDS, IDS);
        opt.kv_type = DTYPE_F16;
        CHECK_EQ(engine_plan(m, &opt, &half, NULL), OK);
        opt.kv_type = type;
        CHECK_EQ(engine_plan(m, &opt, &codes, NULL), OK);
        CHECK_EQ(codes.kv_bytes * 32, half.kv_bytes * memory);
        float *got = rig_all_logits(m, &opt, ids, IDS, IDS);
        float *parts = rig_all_logits(m, &opt, ids, IDS, 9);
        const double nmse = rig_nmse(got, want, count);
        if (!(nmse <= bound)) (void)fprintf(stderr, "%s: nmse %g\n", rig_engines[i].name, nmse);
        CHECK(nmse <= bound && nmse > 0);
        CHECK(memcmp(got, parts, count * sizeof *got) == 0);
        free(parts);
        free(got);
        free(want);
    }
    model_close(m);
}

TEST(engine_with_a_cache_of_8_bits_is_near_that_of_f32) { check_code_cache(DTYPE_Q8_0, 17, 1e-4); }
TEST(engine_with_a_cache_of_4_bits_is_near_that_of_f32) { check_code_cache(DTYPE_Q4_0, 9, 2e-2); }
