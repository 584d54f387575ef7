/* test_backend_lora_memory.c - what adapters take of a card: as much as was planned for them, with
 * what their matrices share only once, and on small cards, too. */
#include <stdlib.h>
#include <string.h>

#include "cudasim/host_rig.h"
#include "cudasim/lora_rig.h"
#include "golden_paths.h"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

/* --- adapters of fused matrices -------------------- */

/* The tensor that slot `i` is the first part of: its rows in all; 0 for the other parts. */
static uint32_t rows_from(const engine *e, uint32_t i) {
    const lora_slot first = engine_lora_slot(e, i);
    uint32_t rows = 0;
    if (first.row0 != 0) return 0;
    for (uint32_t k = 0; k < engine_lora_slots(e); k++) {
        const lora_slot s = engine_lora_slot(e, k);
        if (str_eq(s.tensor, first.tensor) && s.row0 + s.rows > rows) rows = s.row0 + s.rows;
    }
    return rows;
}

/* An adapter of every tensor, whole. */
static void write_whole(rig_adapter *out, const engine *e, uint32_t rank) {
    char name[128];
    for (uint32_t i = 0; i < engine_lora_slots(e); i++) {
        const lora_slot s = engine_lora_slot(e, i);
        const uint32_t rows = rows_from(e, i);
        if (rows == 0 || str_eq(s.tensor, S("token_embd.weight"))) continue;
        (void)snprintf(name, sizeof name, "%.*s.lora_a", STR(s.tensor));
        rig_fill(rig_matrix_add(out, name, rank, s.cols, NULL), (size_t)rank * s.cols, 0.2f, i);
        (void)snprintf(name, sizeof name, "%.*s.lora_b", STR(s.tensor));
        rig_fill(rig_matrix_add(out, name, rows, rank, NULL), (size_t)rank * rows, 0.2f, 500 + i);
    }
    rig_write_gguf(out, engine_model(e)->hparams.arch, (float)rank);
}

/* --- an engine with one adapter -------------------- */

enum { TOKENS = 5, RANK = 4 };

typedef struct one {
    engine *e;
    lora_table *t;
    rig_adapter file;
} one;

static engine_options options(const rig_engine *on) {
    engine_options opt = rig_options(on, DTYPE_F32, 64);
    opt.rows_max = opt.taken_rows_max = opt.hidden_rows_max = 8;
    opt.lora_rank_max = 8;
    return opt;
}

static bool open_one(one *o, const model *m, const engine_options *opt, uint32_t rank) {
    error err = {0};
    status st = engine_open(&o->e, m, opt, &err);
    if (st == OK) st = lora_table_create(&o->t, o->e, 2, &err);
    CHECK_STR(err.msg, "");
    if (st == OK && o->file.count == 0) write_whole(&o->file, o->e, rank);
    return st == OK;
}

static void close_one(one *o) {
    lora_table_destroy(o->t);
    engine_close(o->e);
    o->t = NULL;
    o->e = NULL;
}

static status load(one *o, uint32_t number, error *err) {
    lora_report report;
    return lora_table_load(o->t, number, o->file.path, &report, err);
}

/* Logits [TOKENS, vocab] of a prompt with adapter 0; the caller frees. */
static float *logits_of(one *o, size_t *floats) {
    engine_row rows[TOKENS];
    lora_mix mix = {0};
    CHECK(lora_table_use(o->t, 0, 1.0f, &mix));
    CHECK_EQ(kv_seat_grow(engine_kv(o->e), 0, TOKENS, NULL), OK);
    for (uint32_t i = 0; i < TOKENS; i++)
        rows[i] = (engine_row){.token = (int32_t)(i * 31 + 5),
                               .pos = i,
                               .prompt = true,
                               .wants_logits = true,
                               .lora = &mix};
    const float *got = engine_step(o->e, rows, TOKENS);
    CHECK(got != NULL);
    *floats = (size_t)TOKENS * engine_vocab(o->e);
    float *out = calloc(*floats, sizeof *out);
    if (got != NULL) memcpy(out, got, *floats * sizeof *out);
    lora_table_give(o->t, &mix);
    return out;
}

/* --- as planned -------------------- */

/* As much is planned as is taken, to the byte, and a limit of just that leaves no room for more. */
static void check_planned(const model *m, uint32_t rank) {
    static one o;
    engine_options opt = options(&on_cuda);
    uint64_t bytes = 0;
    error err = {0};
    if (!open_one(&o, m, &opt, rank)) return;
    const mem_plan plan = *engine_mem_plan(o.e);
    CHECK_EQ(lora_device_bytes(m, &opt, o.file.path, &bytes, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK(bytes > 0);
    close_one(&o);
    opt.adapter_bytes = bytes;
    opt.device_bytes_max = plan.device_bytes + bytes;
    opt.kv_bytes_max = plan.kv_bytes;
    if (!open_one(&o, m, &opt, rank)) return;
    CHECK_EQ(engine_mem_plan(o.e)->device_bytes, plan.device_bytes);
    CHECK_EQ(load(&o, 0, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_EQ(host.memory(0).asked_now, opt.device_bytes_max);
    CHECK_EQ(load(&o, 1, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "that is the limit of the plan, --gpu-bytes-max");
    close_one(&o);
    rig_adapter_drop(&o.file);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_adapter_takes_what_is_planned_for_it) {
    model *m = NULL;
    HOST_MACHINE("t4");
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    check_planned(m, 1);
    check_planned(m, RANK);
    model_close(m);
}

static uint64_t aligned(uint64_t bytes) { return (bytes + 255) / 256 * 256; }

/* Of an adapter of RANK numbers of f32: rows of B are 16 bytes, which need no padding. */
static uint64_t bytes_with_shared_a(const engine *e) {
    uint64_t bytes = aligned((uint64_t)engine_lora_slots(e) * 32), parts = 0;
    for (uint32_t i = 0; i < engine_lora_slots(e); i++) {
        const lora_slot s = engine_lora_slot(e, i);
        bytes += aligned((uint64_t)s.rows * RANK * sizeof(float));
        if (s.row0 == 0) bytes += aligned((uint64_t)s.cols * RANK * sizeof(float));
        parts += s.row0 != 0;
    }
    CHECK(parts > 0);
    return bytes;
}

/* Parts of one matrix have one A: it is there once, and they all compute with it. */
TEST(cuda_adapter_of_fused_matrices_has_their_a_once) {
    SHARED_OR_SKIP(path, "oracle/public/models/phi3-longrope/model-f32.gguf");
    HOST_MACHINE("t4");
    static one o;
    model *m = NULL;
    size_t n = 0;
    const rig_engine *const on[2] = {&on_cuda, &rig_engines[0]};
    float *got[2] = {NULL, NULL};
    CHECK_EQ(model_open(&m, path, NULL), OK);
    if (m == NULL) return;
    check_planned(m, 1);
    check_planned(m, RANK);
    for (int i = 0; i < 2; i++) {
        const engine_options opt = options(on[i]);
        if (!open_one(&o, m, &opt, RANK)) break;
        const uint64_t before = host.memory(0).asked_now;
        CHECK_EQ(load(&o, 0, NULL), OK);
        if (i == 0) CHECK_EQ(host.memory(0).asked_now - before, bytes_with_shared_a(o.e));
        got[i] = logits_of(&o, &n);
        close_one(&o);
    }
    const double nmse = rig_nmse(got[0], got[1], n);
    if (!(nmse <= 1e-9)) (void)fprintf(stderr, "fused: nmse %g\n", nmse);
    CHECK(nmse <= 1e-9);
    rig_adapter_drop(&o.file);
    free(got[0]);
    free(got[1]);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- a small card -------------------- */

/* The driver has spent what the plan left to it: an adapter that the plan knew of has its room, one
 * that it did not know of must leave some to the driver. */
TEST(cuda_adapter_that_is_announced_has_room_on_a_small_card) {
    enum { MIB = 1 << 20, CONTEXT_MIB = 8, RESERVE_MIB = 32 };
    static one o;
    model *m = NULL;
    error err = {0};
    char card[128];
    cu_ptr code = 0;
    engine_options opt = options(&on_cuda);
    HOST_MACHINE("t4");
    CHECK_EQ(model_open(&m, "synth:small:q8_0", NULL), OK);
    if (m == NULL || !open_one(&o, m, &opt, RANK)) return;
    const mem_plan plan = *engine_mem_plan(o.e);
    CHECK_EQ(lora_device_bytes(m, &opt, o.file.path, &opt.adapter_bytes, &err), OK);
    close_one(&o);
    const uint64_t needed = plan.device_bytes + opt.adapter_bytes;
    (void)snprintf(card, sizeof card,
                   "{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":%u,\"context_mib\":%d}]}",
                   (uint32_t)(needed / MIB) + 1 + CONTEXT_MIB + RESERVE_MIB, CONTEXT_MIB);
    CHECK(host_machine(card));
    opt.kv_bytes_max = plan.kv_bytes;
    if (!open_one(&o, m, &opt, RANK)) return;
    CHECK_EQ(engine_mem_plan(o.e)->device_bytes, plan.device_bytes);
    CHECK_EQ(host.driver.mem_alloc(&code, 24 * MIB), CU_SUCCESS);
    CHECK_EQ(load(&o, 0, &err), OK);
    CHECK_STR(err.msg, "");
    CHECK_EQ(load(&o, 1, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "that is what the card has free");
    CHECK_EQ(host.driver.mem_free(code), CU_SUCCESS);
    close_one(&o);
    rig_adapter_drop(&o.file);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}
