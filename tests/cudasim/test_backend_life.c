/* test_backend_life.c - opening, failing and closing backend_cuda: what was planned is what is
 * allocated, nothing is allocated later, nothing stays behind, and faults are told. */
#include <string.h>

#include "base/alloc.h"
#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

static engine_options small_options(void) {
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, 64);
    opt.rows_max = 16;
    opt.taken_rows_max = 8;
    return opt;
}

static model *tiny(const char *spec) {
    model *m = NULL;
    CHECK_EQ(model_open(&m, spec, NULL), OK);
    return m;
}

static void step_some(engine *e, uint32_t count) {
    engine_row rows[16];
    kv_seat_clear(engine_kv(e), 3);
    CHECK_EQ(kv_seat_grow(engine_kv(e), 3, count, NULL), OK);
    for (uint32_t i = 0; i < count; i++)
        rows[i] =
            (engine_row){.token = (int32_t)i, .pos = i, .seat = 3, .wants_logits = i + 1 == count};
    (void)engine_step(e, rows, count);
}

static bool tell_nobody(void *ctx, uint64_t done, uint64_t total) {
    (void)ctx, (void)done, (void)total;
    return true;
}

/* --- memory -------------------- */

TEST(cuda_takes_exactly_what_it_planned) {
    static const char *const specs[] = {"synth:tiny:f32", "synth:tiny:q8_0", "synth:small:q4_k_m",
                                        "synth:tiny:q5_1"};
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        model *m = tiny(specs[i]);
        engine *e = NULL;
        mem_plan plan;
        const engine_options opt = small_options();
        CHECK(host_machine("t4"));
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK_EQ(host.memory(0).asked_now, 0);
        CHECK(plan.on_device && plan.kv_bytes > 0 && plan.weights_bytes > 0);
        CHECK_STR(plan.device, "Tesla T4");
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        CHECK_EQ(host.memory(0).asked_now, plan.device_bytes);
        CHECK_EQ(engine_mem_plan(e)->device_bytes, plan.device_bytes);
        CHECK_EQ(engine_load(e, &(backend_progress){tell_nobody, NULL}, NULL), OK);
        CHECK_EQ(host.memory(0).asked_now, plan.device_bytes);
        host.mark();
        step_some(e, 9);
        step_some(e, 1);
        CHECK(engine_fault(e) == NULL);
        CHECK_EQ(host.allocs_since_mark(), 0);
        CHECK_EQ(host.memory(0).asked_peak, plan.device_bytes);
        engine_close(e);
        model_close(m);
        CHECK_EQ(host.leaks(), 0);
        CHECK_EQ(host.default_stream_uses(), 0);
    }
}

TEST(cuda_shares_tied_embeddings) {
    HOST_MACHINE("t4");
    uint64_t bytes[2];
    for (int tied = 0; tied < 2; tied++) {
        lab *l = lab_begin(2, 16);
        weight table = krig_weight(&l->weights, &l->random, DTYPE_Q8_0, RIG_ROWS_MAX, 64);
        weight other = krig_weight(&l->weights, &l->random, DTYPE_Q8_0, RIG_ROWS_MAX, 64);
        value_id hidden = pg_take_rows(l->p, pg_embed(l->p, table));
        value_id logits = pg_matmul(l->p, pg_take_rows(l->p, hidden), tied ? table : other, NULL);
        CHECK_EQ(program_finish(l->p, hidden, logits, NULL), OK);
        backend_memory memory;
        const backend_options opt = {.threads = 1};
        CHECK_EQ(backend_cuda.plan(l->p, &opt, &memory, NULL), OK);
        bytes[tied] = memory.weights;
        lab_free(l);
    }
    CHECK_EQ(bytes[0], 2 * bytes[1]);
}

TEST(cuda_plan_stays_below_a_limit_of_ours) {
    HOST_MACHINE("t4");
    model *m = tiny("synth:tiny:q8_0");
    mem_plan plan;
    error err = {0};
    engine_options opt = small_options();
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(!plan.kv_cut);
    const uint64_t fixed = plan.weights_bytes + plan.workspace_bytes;
    opt.device_bytes_max = fixed + plan.kv_bytes / 2;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.kv_cut && plan.device_bytes <= opt.device_bytes_max);
    opt.device_bytes_max = fixed - 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "may be taken of Tesla T4");
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* Allocations fail one after the other: each time an error, and nothing stays behind. */
TEST(cuda_open_without_memory_leaves_nothing) {
    HOST_MACHINE("t4");
    model *m = tiny("synth:tiny:q8_0");
    engine *e = NULL;
    const engine_options opt = small_options();
    static const char *const calls[] = {"cuMemAlloc_v2", "cuMemHostAlloc",
                                        "cuDevicePrimaryCtxRetain", "cuStreamCreateWithPriority"};
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        status st = ERR_NOMEM;
        for (uint64_t at = 1; at < 12 && st != OK; at++) {
            error err = {0};
            CHECK(host_machine("t4"));
            host.fault_add(calls[c], NULL, at, CU_OUT_OF_MEMORY);
            st = engine_open(&e, m, &opt, &err);
            if (st == OK) break;
            CHECK_EQ(st, ERR_NOMEM);
            CHECK(err.msg[0] != '\0');
            CHECK_EQ(host.leaks(), 0);
        }
        CHECK_EQ(st, OK);
        engine_close(e);
        CHECK_EQ(host.leaks(), 0);
    }
    model_close(m);
}

TEST(cuda_open_without_host_memory_leaves_nothing) {
    HOST_MACHINE("t4");
    model *m = tiny("synth:tiny:q8_0");
    engine *e = NULL;
    const engine_options opt = small_options();
    status st = ERR_NOMEM;
    for (int64_t after = 0; after < 200 && st != OK; after++) {
        if (after == 2 || after == 3) continue; /* a program that cannot grow aborts by design */
        mem_fail_after(after);
        st = engine_open(&e, m, &opt, NULL);
        mem_fail_after(-1);
        if (st != OK) CHECK_EQ(st, ERR_NOMEM);
        if (st != OK) CHECK_EQ(host.leaks(), 0);
    }
    CHECK_EQ(st, OK);
    engine_close(e);
    model_close(m);
}

TEST(cuda_model_that_does_not_fit_is_told_in_numbers) {
    HOST_MACHINE("{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":340,\"context_mib\":300}]}");
    model *m = tiny("synth:small:f32");
    mem_plan plan;
    error err = {0};
    engine_options opt = small_options();
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK); /* 40 MiB less the reserve are enough */
    CHECK(host_machine("{\"gpus\":[{\"preset\":\"t4\",\"memory_mib\":334,\"context_mib\":300}]}"));
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "the weights need");
    model_close(m);
}

/* --- loading -------------------- */

typedef struct told {
    uint64_t last, total;
    uint32_t calls, stop_at;
} told;

static bool tell(void *ctx, uint64_t done, uint64_t total) {
    told *t = ctx;
    CHECK(done >= t->last && done <= total);
    t->last = done;
    t->total = total;
    return ++t->calls != t->stop_at;
}

TEST(cuda_load_tells_how_far_it_is_and_stops) {
    HOST_MACHINE("t4");
    model *m = tiny("synth:tiny:q8_0");
    engine *e = NULL;
    told t = {.stop_at = 3};
    error err = {0};
    const engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_load(e, &(backend_progress){tell, &t}, &err), ERR_CANCELED);
    CHECK_HAS(err.msg, "stopped");
    t = (told){0};
    CHECK_EQ(engine_load(e, &(backend_progress){tell, &t}, &err), OK);
    CHECK(t.calls > 3 && t.last == t.total && t.total == engine_mem_plan(e)->weights_bytes);
    CHECK_EQ(engine_warm_up(e, NULL), OK);
    engine_close(e);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

/* --- no GPU, no adapters -------------------- */

TEST(cuda_says_why_there_is_no_gpu) {
    HOST_MACHINE("{\"gpus\":[{\"preset\":\"k80\"}]}");
    model *m = tiny("synth:tiny:q8_0");
    mem_plan plan;
    error err = {0};
    engine_options opt = small_options();
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_DEVICE);
    CHECK_HAS(err.msg, "cuda: no usable GPU: ");
    CHECK_HAS(err.msg, "compute capability 3.7");
    CHECK(host_machine("t4,t4"));
    opt.device = "1";
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), OK);
    opt.device = "2";
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOT_FOUND);
    model_close(m);
}

TEST(cuda_computes_without_adapters) {
    HOST_MACHINE("t4");
    model *m = tiny("synth:tiny:q8_0");
    engine *e = NULL;
    engine_options opt = small_options();
    opt.lora_rank_max = 16;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_lora_slots(e), 0);
    CHECK_EQ(engine_lora_rank_max(e), 0);
    engine_close(e);
    model_close(m);
}

TEST(cuda_names_what_it_cannot_compute) {
    HOST_MACHINE("t4");
    lab *l = lab_begin(2, 16);
    op_attention attn = {.heads = 1, .kv_heads = 1, .key_dim = 2048, .value_dim = 16, .scale = 1};
    lab_finish(l, pg_attention(l->p, lab_input(l, 2048), attn));
    backend_memory memory;
    error err = {0};
    const backend_options opt = {.threads = 1};
    CHECK_EQ(backend_cuda.plan(l->p, &opt, &memory, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "ATTENTION of layer 0: 2048 elements of a key, at most 1024");
    lab_free(l);
}

/* --- faults -------------------- */

TEST(cuda_fault_in_a_step_is_told_once_and_for_all) {
    HOST_MACHINE("t4");
    static const struct {
        const char *call, *kernel;
        int result;
    } faults[] = {{NULL, "k_attention", CU_ILLEGAL_ADDRESS},
                  {NULL, "k_norm", CU_LAUNCH_FAILED},
                  {"cuLaunchKernel", NULL, CU_LAUNCH_OUT_OF_RESOURCES},
                  {"cuMemcpyDtoHAsync_v2", NULL, CU_ECC_UNCORRECTABLE},
                  {"cuStreamSynchronize", NULL, CU_LAUNCH_TIMEOUT}};
    model *m = tiny("synth:tiny:q8_0");
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        engine *e = NULL;
        error err = {0};
        const engine_options opt = small_options();
        CHECK(host_machine("t4"));
        CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
        step_some(e, 4);
        CHECK(engine_fault(e) == NULL && engine_check(e, &err) == OK);
        host.fault_add(faults[i].call, faults[i].kernel, 1, faults[i].result);
        step_some(e, 4);
        CHECK(engine_fault(e) != NULL);
        CHECK_EQ(engine_check(e, &err), ERR_DEVICE);
        CHECK_HAS(err.msg, "GPU 0 'Tesla T4'");
        CHECK_HAS(err.msg, "CUDA_ERROR_");
        if (faults[i].kernel != NULL) CHECK_HAS(err.msg, "k_");
        engine_close(e);
        /* a context that is broken gives nothing back: the process has to end */
        CHECK(cu_is_sticky(faults[i].result) || host.leaks() == 0);
    }
    model_close(m);
}

TEST(cuda_gpu_that_is_lost_is_an_error_and_closes) {
    HOST_MACHINE("t4");
    model *m = tiny("synth:tiny:q8_0");
    engine *e = NULL;
    error err = {0};
    const engine_options opt = small_options();
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    step_some(e, 2);
    host.lose_gpu(0);
    step_some(e, 2);
    CHECK_EQ(engine_check(e, &err), ERR_DEVICE);
    engine_close(e);
    model_close(m);
}

/* The engine checks tokens; what gets past it is found out, not read from elsewhere. */
TEST(cuda_token_of_no_table_is_a_fault) {
    HOST_MACHINE("t4");
    lab *l = lab_begin(3, 16);
    lab_machine cuda;
    const krig_machine machine = {.ops = &backend_cuda};
    lab_finish(l, lab_input(l, 32));
    l->in.tokens[1] = RIG_ROWS_MAX;
    if (lab_open(l, &backend_cuda, &cuda)) {
        step_result result = krig_step_both(&machine, cuda.b, &l->in);
        CHECK(result.fault != NULL && result.fault->code == ERR_INTERNAL);
        if (result.fault != NULL) CHECK_HAS(result.fault->msg, "row 1 of a step has token 64");
        lab_close(&cuda);
    }
    lab_free(l);
}
