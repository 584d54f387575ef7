/* test_backend_lora.c - adapters on the software GPU, through the engine: the numbers, the bits of
 * every row alone and in a crowd, graphs, what steps without adapters cost, memory. */
#include <stdlib.h>
#include <string.h>

#include "cudasim/host_rig.h"
#include "cudasim/lora_rig.h"

/* Sets of lanes. */
enum { ALL = (1u << CROWD_LANES) - 1, WITHOUT = 1u << 3 | 1u << 7, SOME = 1u << 2 | 1u << 3 };

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

#ifdef __SANITIZE_THREAD__
#define SKIP_UNDER_TSAN SKIP("ThreadSanitizer is slow, and the tests of kernels have these")
#else
#define SKIP_UNDER_TSAN (void)0
#endif

/* --- the numbers -------------------- */

static float *run_all(const char *spec, const engine_options *opt, uint32_t lanes, size_t *floats) {
    crowd *c = crowd_open(spec, opt);
    if (c == NULL) return NULL;
    crowd_run(c, lanes);
    float *out = crowd_logits(c, lanes, floats);
    crowd_close(c);
    return out;
}

/* A cache of f16 would round what is nearly the same to one side or the other. */
static engine_options exact_options(const rig_engine *on, bool no_adapters) {
    engine_options opt = crowd_options(on, false, no_adapters);
    opt.kv_type = DTYPE_F32;
    return opt;
}

/* Quantized weights round activations, whatever adapters add. */
TEST(cuda_adapters_are_near_the_reference) {
    SKIP_UNDER_TSAN;
    static const struct {
        const char *spec;
        double nmse_max;
        uint32_t lanes;
    } cases[] = {
        {"synth:tiny:f32", 1e-10, ALL},     {"synth:tiny:f16", 1e-10, ALL},
        {"synth:tiny:bf16", 1e-10, SOME},   {"synth:tiny:q8_0", 1e-3, ALL},
        {"synth:tiny:q4_0", 1e-3, SOME},    {"synth:small:q4_k_m", 1e-3, SOME},
        {"synth:small:q5_k_m", 1e-3, SOME},
    };
    HOST_MACHINE("t4");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const engine_options cuda = exact_options(&on_cuda, false);
        const engine_options ref = exact_options(&rig_engines[0], false);
        const engine_options plain = exact_options(&rig_engines[0], true);
        size_t n = 0;
        float *got = run_all(cases[i].spec, &cuda, cases[i].lanes, &n);
        float *want = run_all(cases[i].spec, &ref, cases[i].lanes, &n);
        float *without = run_all(cases[i].spec, &plain, cases[i].lanes, &n);
        const double nmse = got != NULL ? rig_nmse(got, want, n) : 1;
        if (!(nmse <= cases[i].nmse_max))
            (void)fprintf(stderr, "%s: nmse %g\n", cases[i].spec, nmse);
        CHECK(nmse <= cases[i].nmse_max);
        CHECK(rig_nmse(without, want, n) > 10 * cases[i].nmse_max); /* they do something */
        free(got);
        free(want);
        free(without);
    }
    CHECK_EQ(host.leaks(), 0);
}

/* --- the bits -------------------- */

/* Each sequence alone, then all of them, with and without graphs. */
static void check_bits(const char *spec, bool fast, uint32_t lanes) {
    engine_options opt = crowd_options(&on_cuda, fast, false);
    size_t n = 0, floats = 0;
    float *crowded = run_all(spec, &opt, lanes, &n);
    crowd *c = crowd_open(spec, &opt);
    if (c == NULL || crowded == NULL) return;
    for (uint32_t i = 0; i < CROWD_LANES; i++)
        if (lanes >> i & 1) crowd_run(c, 1u << i);
    float *alone = crowd_logits(c, lanes, &floats);
    CHECK(floats == n && memcmp(alone, crowded, n * sizeof *alone) == 0);
    crowd_close(c);
    opt.no_graphs = true;
    float *eager = run_all(spec, &opt, lanes, &n);
    CHECK(eager != NULL && memcmp(eager, crowded, n * sizeof *eager) == 0);
    free(crowded);
    free(alone);
    free(eager);
}

TEST(cuda_adapters_change_no_bits_of_others) {
    SKIP_UNDER_TSAN;
    HOST_MACHINE("t4");
    check_bits("synth:tiny:f32", false, ALL);
    check_bits("synth:tiny:f16", true, 0x1b);
    check_bits("synth:tiny:q8_0", true, ALL);
    check_bits("synth:small:q4_k_m", true, SOME);
    CHECK_EQ(host.leaks(), 0);
}

/* Those without an adapter have beside others the bits of an engine that knows of none. */
TEST(cuda_sequences_without_adapters_do_not_see_them) {
    HOST_MACHINE("t4");
    const engine_options opt = crowd_options(&on_cuda, true, false);
    const engine_options plain = crowd_options(&on_cuda, true, true);
    size_t n = 0, floats = 0;
    float *want = run_all("synth:tiny:q4_0", &plain, WITHOUT, &n);
    crowd *c = crowd_open("synth:tiny:q4_0", &opt);
    if (c == NULL || want == NULL) return;
    crowd_run(c, ALL);
    float *got = crowd_logits(c, WITHOUT, &floats);
    CHECK(floats == n && memcmp(got, want, n * sizeof *got) == 0);
    crowd_close(c);
    free(want);
    free(got);
    CHECK_EQ(host.leaks(), 0);
}

/* --- streams and cards -------------------- */

TEST(cuda_adapters_on_late_streams_and_other_cards) {
    static const char *const machines[] = {
        "{\"streams\":\"deferred\"}",
        "{\"gpus\":[{\"preset\":\"h100\"}],\"streams\":\"random\",\"threads\":\"shuffled\","
        "\"seed\":5}"};
    HOST_MACHINE("t4");
    const engine_options opt = crowd_options(&on_cuda, false, false);
    size_t n = 0;
    float *want = run_all("synth:tiny:q8_0", &opt, ALL, &n);
    for (int i = 0; i < 2; i++) {
        CHECK(host_machine(machines[i]));
        float *got = run_all("synth:tiny:q8_0", &opt, ALL, &n);
        CHECK(got != NULL && want != NULL && memcmp(got, want, n * sizeof *got) == 0);
        free(got);
        CHECK_EQ(host.leaks(), 0);
    }
    free(want);
}

/* --- what it costs where there are none -------------------- */

typedef struct cost {
    uint64_t launches, copies, bytes, graphs;
} cost;

static cost cost_now(void) {
    return (cost){.launches = host.launches(NULL),
                  .copies = host.calls("cuMemcpyHtoDAsync_v2"),
                  .bytes = host.copied().in,
                  .graphs = host.calls("cuGraphLaunch")};
}

/* Of one sequence from its second step on, when all is loaded. */
static cost cost_of(crowd *c, uint32_t lane) {
    crowd_run(c, 1u << lane);
    const cost before = cost_now();
    crowd_run(c, 1u << lane);
    const cost after = cost_now();
    return (cost){.launches = after.launches - before.launches,
                  .copies = after.copies - before.copies,
                  .bytes = after.bytes - before.bytes,
                  .graphs = after.graphs - before.graphs};
}

TEST(cuda_steps_without_adapters_launch_nothing_more) {
    HOST_MACHINE("t4");
    const engine_options opt = crowd_options(&on_cuda, true, false);
    const engine_options plain = crowd_options(&on_cuda, true, true);
    crowd *with = crowd_open("synth:tiny:q8_0", &opt);
    crowd *without = crowd_open("synth:tiny:q8_0", &plain);
    if (with == NULL || without == NULL) return;
    const cost want = cost_of(without, 3), got = cost_of(with, 3);
    CHECK_EQ(got.launches, want.launches);
    CHECK_EQ(got.copies, want.copies);
    CHECK_EQ(got.bytes, want.bytes);
    CHECK_EQ(got.graphs, want.graphs);
    CHECK(got.graphs > 0);
    CHECK_EQ(host.launches("k_lora_shrink"), 0);
    /* Around q, k and v; o; gate and up; down; and what is no layer's.  A prompt is one step. */
    const crowd_lane *lane = &with->lanes[1];
    const uint32_t layers = with->m->hparams.layers, steps = lane->count - lane->prompt_count + 1;
    const uint32_t each = 4 * layers + engine_lora_slots(with->e) - 7 * layers;
    CHECK(cost_of(with, 1).graphs > 0);
    CHECK_EQ(host.launches("k_lora_shrink"), (uint64_t)2 * steps * each);
    CHECK_EQ(host.launches("k_lora_expand"), (uint64_t)2 * steps * each);
    crowd_close(with);
    crowd_close(without);
    CHECK_EQ(host.leaks(), 0);
}

/* A graph for adapters is made once, and a step of it is one copy more. */
TEST(cuda_graphs_with_adapters_are_recorded_once) {
    HOST_MACHINE("t4");
    const engine_options opt = crowd_options(&on_cuda, false, false);
    crowd *c = crowd_open("synth:tiny:q8_0", &opt);
    if (c == NULL) return;
    crowd_run(c, 1u << 0);
    const uint64_t records = host.calls("cuGraphInstantiateWithFlags");
    const cost before = cost_now();
    crowd_run(c, 1u << 0);
    const cost after = cost_now();
    CHECK_EQ(after.graphs - before.graphs, c->lanes[0].count);
    CHECK_EQ(after.copies - before.copies, 2 * c->lanes[0].count);
    CHECK_EQ(host.calls("cuGraphInstantiateWithFlags"), records);
    crowd_close(c);
    CHECK_EQ(host.leaks(), 0);
}

/* --- time -------------------- */

TEST(cuda_times_the_launches_of_adapters) {
    HOST_MACHINE("t4");
    backend_profile parts[BACKEND_PARTS_MAX];
    const engine_options opt = crowd_options(&on_cuda, false, false);
    crowd *c = crowd_open("synth:tiny:q8_0", &opt);
    if (c == NULL) return;
    crowd_run(c, ALL);
    CHECK_EQ(engine_profile_switch(c->e, true, NULL), OK);
    for (uint32_t lanes = 1; lanes <= ALL; lanes += ALL - 1) {
        uint32_t seen[256] = {0}, ran = 0, shrinks = 0;
        crowd_rewind(c);
        const uint64_t before = host.calls("cuLaunchKernel");
        CHECK(crowd_step(c, lanes, 4));
        CHECK_EQ(engine_profiled(c->e, parts), 1);
        for (uint32_t i = 0; i < parts->count; i++) {
            const backend_task *t = &parts->tasks[i];
            if (!t->ran) continue;
            ran++;
            shrinks += strcmp(t->name, "k_lora_shrink") == 0;
            for (uint32_t k = 0; k < t->ops_count; k++) seen[t->ops[k]]++;
        }
        CHECK_EQ(ran, host.calls("cuLaunchKernel") - before);
        CHECK(shrinks > 0);
        for (uint32_t i = 0; i < parts->p->ops_count; i++) CHECK_EQ(seen[i], 1);
    }
    crowd_close(c);
    CHECK_EQ(host.leaks(), 0);
}

/* --- memory: adapters come and go -------------------- */

/* While sequences run one is loaded, used, and unloaded before its use is given back; its memory
 * comes and goes with it, and nobody else sees anything. */
TEST(cuda_adapters_come_and_go_between_steps) {
    HOST_MACHINE("t4");
    const engine_options opt = crowd_options(&on_cuda, false, false);
    static rig_adapter file;
    lora_report report;
    size_t n = 0, floats = 0;
    float *want = run_all("synth:tiny:q8_0", &opt, ALL, &n);
    crowd *c = crowd_open("synth:tiny:q8_0", &opt);
    if (c == NULL || want == NULL) return;
    crowd_write_adapter(&file, c->e, 5, 0, 77);
    crowd_rewind(c);
    const sim_memory_use before = host.memory(0);
    bool more = true;
    for (uint32_t step = 0; more; step++) {
        lora_mix mix = {0};
        const bool loads = step % 2 == 1;
        if (loads) {
            CHECK_EQ(lora_table_load(c->t, 9, file.path, &report, NULL), OK);
            CHECK_EQ(host.memory(0).blocks, before.blocks + 1);
            CHECK(host.memory(0).asked_now >= before.asked_now + report.bytes);
            CHECK(lora_table_use(c->t, 9, 1.0f, &mix));
            CHECK_EQ(lora_table_unload(c->t, 9, NULL), OK);
            CHECK_EQ(host.memory(0).blocks, before.blocks + 1);
        }
        more = crowd_step(c, ALL, step);
        if (loads) lora_table_give(c->t, &mix);
        CHECK_EQ(host.memory(0).asked_now, before.asked_now);
        CHECK_EQ(host.memory(0).blocks, before.blocks);
    }
    float *got = crowd_logits(c, ALL, &floats);
    CHECK(memcmp(got, want, n * sizeof *got) == 0);
    rig_adapter_drop(&file);
    crowd_close(c);
    free(want);
    free(got);
    CHECK_EQ(host.leaks(), 0);
}

/* Of a limit of ours, the model has taken all but a little. */
TEST(cuda_adapter_without_room_is_told_in_numbers) {
    HOST_MACHINE("t4");
    engine_options opt = crowd_options(&on_cuda, false, false);
    static rig_adapter file;
    lora_report report;
    error err = {0};
    crowd *c = crowd_open("synth:small:q8_0", &opt);
    if (c == NULL) return;
    const uint64_t taken = engine_mem_plan(c->e)->device_bytes;
    const uint64_t adapters = host.memory(0).asked_now - taken;
    crowd_close(c);
    opt.device_bytes_max = taken + adapters + 1000;
    c = crowd_open("synth:small:q8_0", &opt); /* three of them have room */
    if (c == NULL) return;
    crowd_run(c, ALL);
    size_t n = 0;
    float *want = crowd_logits(c, ALL, &n);
    crowd_write_adapter(&file, c->e, CROWD_RANK_MAX, 0, 77);
    const sim_memory_use before = host.memory(0);
    CHECK_EQ(lora_table_load(c->t, 9, file.path, &report, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "the adapter needs ");
    CHECK_HAS(err.msg, " MiB, 0.0 MiB may be taken of GPU 0 'Tesla T4'");
    CHECK_HAS(err.msg, "--kv-bytes-max");
    CHECK_EQ(lora_table_count(c->t), CROWD_ADAPTERS);
    CHECK_EQ(host.memory(0).asked_now, before.asked_now);
    crowd_run(c, ALL);
    float *got = crowd_logits(c, ALL, &n);
    CHECK(memcmp(got, want, n * sizeof *got) == 0);
    CHECK_EQ(lora_table_unload(c->t, 2, NULL), OK); /* in use: it has its memory still */
    CHECK_EQ(lora_table_load(c->t, 9, file.path, &report, &err), ERR_NOMEM);
    rig_adapter_drop(&file);
    free(want);
    free(got);
    crowd_close(c);
    CHECK_EQ(host.leaks(), 0);
}

/* Those that are known beforehand have their room: the cache is smaller by it. */
TEST(cuda_plan_leaves_room_for_adapters_that_are_announced) {
    HOST_MACHINE("t4");
    engine_options opt = crowd_options(&on_cuda, false, false);
    opt.ctx_max = 1024;
    crowd *c = crowd_open("synth:small:q8_0", &opt);
    if (c == NULL) return;
    const mem_plan whole = *engine_mem_plan(c->e);
    const uint64_t adapters = host.memory(0).asked_now - whole.device_bytes;
    CHECK_EQ(whole.cuts.count, 0);
    crowd_close(c);
    opt.device_bytes_max = whole.device_bytes;
    opt.adapter_bytes = adapters;
    c = crowd_open("synth:small:q8_0", &opt);
    if (c == NULL) return;
    const mem_plan *less = engine_mem_plan(c->e);
    CHECK(less->kv_cut && less->device_bytes <= whole.device_bytes - adapters);
    CHECK_EQ(lora_table_count(c->t), CROWD_ADAPTERS);
    CHECK(host.memory(0).asked_now <= whole.device_bytes);
    crowd_run(c, SOME);
    crowd_close(c);
    CHECK_EQ(host.leaks(), 0);
}

/* The card's memory is gone, or that of the host which the card can read: nothing is left behind,
 * the others go on, and the next time it works. */
TEST(cuda_adapter_that_cannot_be_copied_leaves_nothing) {
    static const char *const calls[] = {"cuMemAlloc_v2", "cuMemHostAlloc", "cuEventCreate"};
    HOST_MACHINE("t4");
    const engine_options opt = crowd_options(&on_cuda, false, false);
    static rig_adapter file;
    lora_report report;
    size_t n = 0;
    crowd *c = crowd_open("synth:tiny:q8_0", &opt);
    if (c == NULL) return;
    crowd_run(c, ALL);
    float *want = crowd_logits(c, ALL, &n);
    crowd_write_adapter(&file, c->e, 2, 0, 77);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        error err = {0};
        const sim_memory_use before = host.memory(0);
        host.fault_add(calls[i], NULL, 1, CU_OUT_OF_MEMORY);
        CHECK_EQ(lora_table_load(c->t, 9, file.path, &report, &err), ERR_NOMEM);
        CHECK(err.msg[0] != '\0');
        CHECK_EQ(host.memory(0).asked_now, before.asked_now);
        crowd_run(c, ALL);
        float *got = crowd_logits(c, ALL, &n);
        CHECK(memcmp(got, want, n * sizeof *got) == 0);
        free(got);
        CHECK_EQ(lora_table_load(c->t, 9, file.path, &report, &err), OK);
        CHECK_EQ(lora_table_unload(c->t, 9, NULL), OK);
    }
    rig_adapter_drop(&file);
    free(want);
    crowd_close(c);
    CHECK_EQ(host.leaks(), 0);
}

/* A card that is lost: adapters go with the engine, whoever is closed first. */
TEST(cuda_adapters_of_a_lost_gpu_are_closed) {
    HOST_MACHINE("t4");
    const engine_options opt = crowd_options(&on_cuda, false, false);
    crowd *c = crowd_open("synth:tiny:q8_0", &opt);
    static rig_adapter file;
    lora_report report;
    if (c == NULL) return;
    crowd_write_adapter(&file, c->e, 2, 0, 77);
    host.fault_lines(false);
    host.lose_gpu(0);
    CHECK(lora_table_load(c->t, 9, file.path, &report, NULL) != OK);
    host.fault_lines(true);
    rig_adapter_drop(&file);
    crowd_close(c);
}

/* --- a model in two places -------------------- */

TEST(split_model_has_its_adapters_in_both_places) {
    HOST_MACHINE("t4");
    engine_options opt = exact_options(&on_cuda, false);
    const engine_options ref = exact_options(&rig_engines[0], false);
    size_t n = 0;
    opt.device_layers = 1;
    float *got = run_all("synth:tiny:f32", &opt, ALL, &n);
    float *want = run_all("synth:tiny:f32", &ref, ALL, &n);
    const double nmse = got != NULL ? rig_nmse(got, want, n) : 1;
    if (!(nmse <= 1e-10)) (void)fprintf(stderr, "split: nmse %g\n", nmse);
    CHECK(nmse <= 1e-10);
    CHECK(host.launches("k_lora_expand") > 0);
    free(got);
    free(want);
    CHECK_EQ(host.leaks(), 0);
}
