/* test_ladder.c - what an engine does without when memory is short (src/engine/ladder.c).
 *
 * The machine is made up: devices of `device.available` bytes on which weights take 1000, those of
 * a layer 400 of them, each row of a step device.row_bytes and each token of context
 * device.ctx_bytes, and opening fails as often as a test says.  It computes as the CPU backend
 * does.  The tiny model keeps 256 bytes of a token, 4096 of a block. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "engine/engine_rig.h"
#include "test.h"

enum { WEIGHTS_BYTES = 1000, LAYER_BYTES = 400, TOKEN_BYTES = 256, CTX_TRAIN = 4096 };

static struct {
    uint64_t available; /* now; devices "1" and "2" have: */
    uint64_t second, third;
    status refusal; /* of device "1", which cannot be asked, or once it was asked: */
    bool refuses_later;
    uint64_t later; /* from the first open on; 0: as much */
    uint32_t row_bytes;
    uint32_t ctx_bytes;
    int opens_fail;
    status failure;
    int plans, opens; /* calls */
    int asked;        /* plans that did not know what is free */
} device;

static status device_plan(const program *p, const backend_options *opt, backend_memory *out,
                          error *err) {
    const uint64_t have[] = {device.available, device.second, device.third};
    const uint64_t most = opt->device_bytes_max;
    const int number = opt->device != NULL ? opt->device[0] - '0' : 0;
    const bool asks = opt->device_available == 0;
    if (number == 1 && device.refusal != OK && asks != device.refuses_later)
        return error_set(err, device.refusal, "GPU 1 'Made-Up 1' is somebody else's");
    device.plans++;
    device.asked += opt->device_available == 0;
    *out = (backend_memory){.on_device = true,
                            .weights = (uint64_t)program_layers(p) * LAYER_BYTES,
                            .workspace = (size_t)p->max.rows * device.row_bytes +
                                         (size_t)p->max.ctx * device.ctx_bytes,
                            .available = have[number],
                            .ordinal = number};
    if (p->logits != VALUE_NONE) out->weights += WEIGHTS_BYTES - 2 * LAYER_BYTES;
    if (most != 0 && most < out->available) out->available = most;
    if (opt->device_available != 0) out->available = opt->device_available;
    str_copy_c(out->device, sizeof out->device, S("Made-Up 1"));
    return OK;
}

static status device_open(backend **out, const program *p, const backend_options *opt, error *err) {
    device.opens++;
    if (device.later != 0) device.available = device.later;
    if (device.opens <= device.opens_fail)
        return error_set(err, device.failure, "open %d came to nothing", device.opens);
    return backend_cpu.open(out, p, opt, err);
}

/* Of a layer on the host the devices have no weights. */
static status split_plan(const program *p, const backend_options *opt,
                         backend_memory out[BACKEND_PARTS_MAX], uint32_t *count, error *err) {
    uint32_t first = opt->host_layers;
    *count = 0;
    if (first > 0) out[(*count)++] = (backend_memory){.layers = first};
    for (uint32_t d = 0; d < opt->shares_count; d++) {
        const backend_share *share = &opt->shares[d];
        backend_options alone = *opt;
        program *part = NULL;
        alone.device = share->device;
        alone.device_available = share->available;
        alone.device_bytes_max = share->bytes_max;
        TRY(program_cut(&part, p, first, first + share->layers, err));
        const status st = device_plan(part, &alone, &out[*count], err);
        program_destroy(part);
        if (st != OK) return st;
        out[(*count)++].layers = share->layers;
        first += share->layers;
    }
    return OK;
}

static backend_ops made_up, made_up_split;

/* 512 rows and the model's context, either of which may be lowered. */
static engine_options lowerable(uint64_t available, uint32_t row_bytes) {
    made_up = backend_cpu;
    made_up.plan = device_plan;
    made_up.open = device_open;
    made_up_split = made_up;
    made_up_split.plan = NULL;
    made_up_split.plan_parts = split_plan;
    made_up.split = &made_up_split;
    device.available = available;
    device.row_bytes = row_bytes;
    device.later = device.second = device.third = 0;
    device.refusal = OK;
    device.refuses_later = false;
    device.ctx_bytes = 0;
    device.asked = 0;
    device.opens_fail = device.plans = device.opens = 0;
    device.failure = ERR_NOMEM;
    engine_options opt = rig_options(&rig_engines[1], DTYPE_F16, 0);
    opt.backend = &made_up;
    opt.taken_rows_max = 8;
    opt.rows_min = 128;
    opt.ctx_min = 64;
    return opt;
}

static model *tiny_of_long_context(void) {
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:tiny:q8_0", NULL), OK);
    m->hparams.ctx_train = CTX_TRAIN;
    log_set_level(LOG_ERROR);
    return m;
}

static void end(model *m) {
    model_close(m);
    log_set_level(LOG_INFO);
}

/* Plan, and compare what was cut: "error" for a plan that does not fit. */
static void check_cuts_at(const model *m, const engine_options *opt, const char *want, int line) {
    char got[MEM_CUTS_TEXT_BYTES] = "error";
    mem_plan plan;
    error err = {0};
    const status st = engine_plan(m, opt, &plan, &err);
    if (st == OK) mem_cuts_text(&plan.cuts, got);
    if (strcmp(got, want) != 0)
        (void)fprintf(stderr, "line %d: '%s', want '%s' (%s)\n", line, got, want, err.msg);
    CHECK_STR(got, want);
    CHECK(st == OK || st == ERR_NOMEM);
    CHECK(st != OK || plan.device_bytes <= device.available + device.second + device.third);
}
#define check_cuts(m, opt, want) check_cuts_at((m), (opt), (want), __LINE__)

/* --- going down -------------------- */

/* One sequence of 100 tokens: 7 blocks, which are 0.95 of 30182 bytes; eight: 0.95 of 241449. */
TEST(ladder_lowers_rows_as_far_as_it_has_to) {
    static const struct {
        uint64_t available;
        const char *cuts;
    } cases[] = {
        {1000 + 512000 + 241500, ""},
        {1000 + 512000 + 241000, "kv_tokens 896 -> 880"},
        {1000 + 512000 + 30200, "kv_tokens 896 -> 112"},
        {1000 + 512000 + 30100, "step_tokens 512 -> 256"},
        {1000 + 256000 + 30200, "step_tokens 512 -> 256, kv_tokens 896 -> 112"},
        {1000 + 256000 + 30100, "step_tokens 512 -> 128, kv_tokens 896 -> 576"},
        {1000 + 128000 + 30200, "step_tokens 512 -> 128, kv_tokens 896 -> 112"},
        {1000 + 128000 + 30100, "error"},
    };
    model *m = tiny_of_long_context();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine_options opt = lowerable(cases[i].available, 1000);
        opt.ctx_max = 100;
        check_cuts(m, &opt, cases[i].cuts);
    }
    end(m);
}

TEST(ladder_lowers_the_context_by_halves_and_no_more_than_it_has_to) {
    static const struct {
        uint64_t cache;
        const char *cuts;
    } cases[] = {
        {8 * CTX_TRAIN * TOKEN_BYTES, ""},
        {CTX_TRAIN * TOKEN_BYTES, "kv_tokens 32768 -> 4096"},
        {CTX_TRAIN * TOKEN_BYTES - 1, "ctx 4096 -> 2048, kv_tokens 16384 -> 4080"},
        {1024 * TOKEN_BYTES, "ctx 4096 -> 1024, kv_tokens 8192 -> 1024"},
        {64 * TOKEN_BYTES, "ctx 4096 -> 64, kv_tokens 512 -> 64"},
        {64 * TOKEN_BYTES - 1, "error"},
    };
    model *m = tiny_of_long_context();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine_options opt = lowerable(100 << 20, 10);
        opt.kv_bytes_max = cases[i].cache;
        check_cuts(m, &opt, cases[i].cuts);
        CHECK(device.plans <= 8); /* the context is computed, not searched for */
    }
    end(m);
}

/* Fewer rows alone are not enough, but the context is longer for them: as many come back as fit. */
TEST(ladder_gives_rows_back_that_were_no_help) {
    model *m = tiny_of_long_context();
    engine_options opt = lowerable(600000, 1000); /* 128 rows: 109 blocks, 256: 79, 512: 20 */
    check_cuts(m, &opt, "step_tokens 512 -> 256, ctx 4096 -> 1024, kv_tokens 8192 -> 1264");
    opt = lowerable(300000, 10);
    check_cuts(m, &opt, "ctx 4096 -> 1024, kv_tokens 8192 -> 1088");
    opt = lowerable(1000 + 128000 + 4096 * 4 / 95 * 100 + 5000, 1000);
    check_cuts(m, &opt, "step_tokens 512 -> 128, ctx 4096 -> 64, kv_tokens 512 -> 80");
    end(m);
}

/* What a context fits beside becomes smaller with it: from the workspace of 4096 tokens there
 * follow 256, but 512 have room. */
TEST(ladder_climbs_where_a_shorter_context_made_room) {
    model *m = tiny_of_long_context();
    engine_options opt = lowerable(300000, 10);
    device.ctx_bytes = 40;
    check_cuts(m, &opt, "ctx 4096 -> 512, kv_tokens 4096 -> 1008");
    end(m);
}

TEST(ladder_keeps_what_was_asked_for) {
    model *m = tiny_of_long_context();
    engine_options opt = lowerable(300000, 1000);
    opt.rows_min = 0;
    check_cuts(m, &opt, "error"); /* 512 rows */
    opt = lowerable(300000, 10);
    opt.ctx_max = CTX_TRAIN;
    check_cuts(m, &opt, "error");
    opt = lowerable(300000, 10);
    opt.ctx_min = 0;
    check_cuts(m, &opt, "error");
    opt = lowerable(300000, 10);
    opt.ctx_min = 2 * CTX_TRAIN; /* more than the model has is no reason for more */
    check_cuts(m, &opt, "error");
    opt = lowerable(1 << 20, 1000);
    opt.seats = opt.taken_rows_max = 300; /* a row for each */
    opt.ctx_max = 16;
    opt.kv_bytes_max = 4096;
    check_cuts(m, &opt, "kv_tokens 4800 -> 16");
    device.available = 400000;
    check_cuts(m, &opt, "step_tokens 512 -> 300, kv_tokens 4800 -> 16");
    end(m);
}

/* The model has two layers; one of them takes half of the cache with it. */
TEST(ladder_gives_layers_to_the_host_when_nothing_else_helps) {
    static const struct {
        uint64_t available;
        const char *cuts;
    } cases[] = {
        {1000 + 128000 + 30200, "step_tokens 512 -> 128, kv_tokens 896 -> 112"},
        {1000 + 128000 + 30100, "step_tokens 512 -> 128, gpu_layers 2 -> 1, kv_tokens 896 -> 224"},
        {600 + 128000 + 15200, "step_tokens 512 -> 128, gpu_layers 2 -> 1, kv_tokens 896 -> 112"},
        {600 + 128000 + 15000, "error"},
        {900, "error"},
    };
    model *m = tiny_of_long_context();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine_options opt = lowerable(cases[i].available, 1000);
        opt.ctx_max = 100;
        opt.may_split = true;
        check_cuts(m, &opt, cases[i].cuts);
    }
    end(m);
}

/* With one layer less there is room for what had gone down before. */
TEST(ladder_that_splits_gives_rows_and_context_back) {
    model *m = tiny_of_long_context();
    engine_options opt = lowerable(WEIGHTS_BYTES - 1 + 3000000, 10);
    opt.may_split = true;
    device.available = WEIGHTS_BYTES - 1; /* one row and one token of one layer: not all weights */
    opt.rows_max = opt.taken_rows_max = opt.hidden_rows_max = 8;
    opt.rows_min = 1;
    opt.seats = 1;
    check_cuts(m, &opt, "error");
    device.available = 600 + 8 * 10 + 64 * TOKEN_BYTES / 2 * 100 / 95 + 10;
    check_cuts(m, &opt, "ctx 4096 -> 64, gpu_layers 2 -> 1");
    opt.may_split = false;
    check_cuts(m, &opt, "error");
    end(m);
}

TEST(ladder_splits_as_it_is_told) {
    model *m = tiny_of_long_context();
    mem_plan plan;
    engine_options opt = lowerable(10 << 20, 10);
    opt.ctx_max = 100;
    opt.device_layers = 1;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.device_layers == 1 && plan.cuts.count == 0);
    CHECK_EQ(plan.device_weights_bytes, WEIGHTS_BYTES - LAYER_BYTES);
    opt.device_layers = 7; /* more than there are */
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.device_layers == 2 && plan.device_weights_bytes == WEIGHTS_BYTES);
    end(m);
}

/* --- several devices -------------------- */

/* Two, of which one is used as long as it is enough. */
static engine_options lowerable_on_two(uint64_t first, uint64_t second, uint32_t row_bytes) {
    engine_options opt = lowerable(first, row_bytes);
    device.second = second;
    opt.devices[0] = "0";
    opt.devices[1] = "1";
    opt.devices_count = 2;
    opt.devices_min = 1;
    opt.ctx_max = 100;
    return opt;
}

/* A layer on each: half of the cache, a sequence of which takes 7 blocks in 15100 bytes. */
TEST(ladder_takes_a_second_device_when_nothing_else_helps) {
    static const struct {
        uint64_t first, second;
        const char *cuts;
    } cases[] = {
        {1000 + 128000 + 30200, 1 << 30, "step_tokens 512 -> 128, kv_tokens 896 -> 112"},
        {1000 + 128000 + 30100, 1 << 30,
         "step_tokens 512 -> 128, gpus 1 -> 2, kv_tokens 896 -> 224"},
        {1000 + 128000 + 15200, 600 + 128000 + 15200,
         "step_tokens 512 -> 128, gpus 1 -> 2, kv_tokens 896 -> 112"},
        {1000 + 128000 + 15200, 600 + 128000 + 15000, "error"},
    };
    model *m = tiny_of_long_context();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine_options opt = lowerable_on_two(cases[i].first, cases[i].second, 1000);
        check_cuts(m, &opt, cases[i].cuts);
    }
    engine_options opt = lowerable_on_two(20000, 1 << 30, 1); /* all rows come back */
    check_cuts(m, &opt, "gpus 1 -> 2, kv_tokens 896 -> 128");
    end(m);
}

TEST(ladder_gives_layers_to_the_host_when_all_devices_are_too_small) {
    model *m = tiny_of_long_context();
    engine_options opt = lowerable_on_two(600 + 128000 + 15200, 400 + 100000, 1000);
    mem_plan plan;
    error err = {0};
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "12288 may be used of Made-Up 1: lower --ctx");
    CHECK_HAS(err.msg, "that is after step_tokens 512 -> 128");
    CHECK(strstr(err.msg, "gpus") == NULL); /* no layer has room on the second one */
    opt.may_split = true;
    check_cuts(m, &opt, "step_tokens 512 -> 128, gpu_layers 2 -> 1, kv_tokens 896 -> 112");
    end(m);
}

TEST(ladder_uses_the_devices_that_were_named) {
    model *m = tiny_of_long_context();
    mem_plan plan;
    char text[MEM_DEVICES_TEXT_BYTES];
    engine_options opt = lowerable_on_two(10 << 20, 10 << 20, 10);
    opt.devices_min = 2;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.on_device && plan.cuts.count == 0 && plan.device_layers == 2);
    CHECK_EQ(plan.devices_count, 2);
    CHECK(plan.devices[0].layers == 1 && plan.devices[1].layers == 1);
    CHECK_EQ(plan.devices[0].weights_bytes, LAYER_BYTES);
    CHECK_EQ(plan.devices[1].weights_bytes, WEIGHTS_BYTES - LAYER_BYTES);
    CHECK_EQ(plan.devices[0].bytes + plan.devices[1].bytes, plan.device_bytes);
    CHECK_EQ(plan.device_weights_bytes, WEIGHTS_BYTES);
    CHECK_STR(plan.devices[1].place, "GPU 1 'Made-Up 1'");
    CHECK_STR(plan.device, "Made-Up 1 x2");
    plan.devices[1].name[0] = 'N';
    mem_devices_text(&plan, text);
    CHECK_STR(text, "Made-Up 1, Nade-Up 1");
    opt.device_layers = 1; /* one layer is for one device, and the host has the other */
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.devices_count == 1 && plan.device_layers == 1);
    end(m);
}

TEST(ladder_names_the_device_that_is_too_small) {
    model *m = tiny_of_long_context();
    mem_plan plan;
    error err = {0};
    engine_options opt = lowerable_on_two(10 << 20, 500, 10);
    opt.devices_min = 2;
    opt.rows_min = 0;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "the weights need 600 bytes and the steps 5120, 500 may be taken of "
                       "GPU 1 'Made-Up 1'");
    opt = lowerable_on_two(10 << 20, 600 + 5120 + 10000, 10);
    opt.devices_min = 2;
    opt.rows_min = 0;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "one sequence of 100 tokens needs 14336 bytes, 8192 may be used of GPU 1 "
                       "'Made-Up 1'");
    end(m);
}

/* Eight layers of 64 kB each with a sequence's keys and values, on the host where nothing else is
 * said. */
static model *deep(void) {
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:deep:q8_0", NULL), OK);
    log_set_level(LOG_OFF);
    return m;
}

/* One row of one sequence of 16 tokens: a block on each layer. */
static engine_options three_devices(uint64_t first, uint64_t second, uint64_t third) {
    engine_options opt = lowerable_on_two(first, second, 1);
    device.third = third;
    opt.devices[2] = "2";
    opt.devices_count = 3;
    opt.rows_max = opt.taken_rows_max = opt.hidden_rows_max = opt.seats = 1;
    opt.rows_min = 0;
    opt.ctx_max = 16;
    return opt;
}

/* Bytes of so many of the last layers with their blocks, or of layers in the middle. */
static uint64_t bytes_of(const model *m, uint32_t layers, bool head) {
    const uint64_t block = m->hparams.kv_heads * m->hparams.head_dim * 2 * 16 * sizeof(uint16_t);
    const uint64_t fixed = layers * (uint64_t)LAYER_BYTES + 1;
    return fixed + (head ? WEIGHTS_BYTES - 2 * LAYER_BYTES : 0) + layers * block * 100 / 95 + 10;
}

/* What a full or a weak device leaves to the first one alone is not lost. */
TEST(ladder_keeps_the_layers_of_the_first_device_beside_a_useless_one) {
    model *m = deep();
    const uint64_t five = bytes_of(m, 5, true);
    const uint64_t seconds[] = {0, 100, bytes_of(m, 1, false)};
    for (size_t i = 0; i < 3; i++) {
        mem_plan plan;
        engine_options opt = three_devices(five, seconds[i], 1);
        opt.may_split = true;
        check_cuts(m, &opt, "gpu_layers 8 -> 5");
        CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
        CHECK(plan.devices_count == 1 && plan.device_layers == 5);
        opt.may_split = false;
        check_cuts(m, &opt, "error");
    }
    engine_options opt = three_devices(five, bytes_of(m, 2, true), 100);
    opt.may_split = true; /* one that helps is kept */
    check_cuts(m, &opt, "gpus 1 -> 2, gpu_layers 8 -> 7");
    end(m);
}

TEST(ladder_passes_a_full_device_over) {
    model *m = deep();
    mem_plan plan;
    const uint64_t five = bytes_of(m, 5, true), three = bytes_of(m, 3, true);
    engine_options opt = three_devices(five, 100, three);
    check_cuts(m, &opt, "gpus 1 -> 2");
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_STR(plan.devices[1].place, "GPU 2 'Made-Up 1'");
    CHECK(plan.devices[0].layers == 5 && plan.devices[1].layers == 3);
    opt.devices_min = 2; /* named, it is used */
    check_cuts(m, &opt, "error");
    end(m);
}

/* Of two that have room the one with more of it. */
TEST(ladder_takes_the_device_with_most_free_memory_first) {
    model *m = deep();
    mem_plan plan;
    const uint64_t five = bytes_of(m, 5, true), three = bytes_of(m, 3, true);
    engine_options opt = three_devices(five, bytes_of(m, 1, true), three);
    check_cuts(m, &opt, "gpus 1 -> 2");
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_STR(plan.devices[1].place, "GPU 2 'Made-Up 1'");
    opt = three_devices(five, three, three); /* as they stand where it is as much */
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.devices_count == 2);
    CHECK_STR(plan.devices[1].place, "GPU 1 'Made-Up 1'");
    end(m);
}

/* What is given up is that device's, wherever it stands in the plan. */
TEST(ladder_plans_anew_for_the_devices_that_it_chose) {
    model *m = deep();
    engine *e = NULL;
    engine_options opt = three_devices(bytes_of(m, 5, true), 100, 1 << 24);
    opt.seats = opt.rows_max = 8; /* which a smaller cache lets wait */
    made_up_split.open = device_open;
    device.opens_fail = 1;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    const mem_plan *plan = engine_mem_plan(e);
    CHECK(device.opens == 2 && plan->devices_count == 2);
    CHECK_STR(plan->devices[1].place, "GPU 2 'Made-Up 1'");
    CHECK(plan->devices[1].available < 1 << 23);
    engine_close(e);
    end(m);
}

/* Another program has it for itself, or there is no room for a context. */
TEST(ladder_uses_no_device_that_cannot_be_asked) {
    static const status refusals[] = {ERR_DEVICE, ERR_NOMEM, ERR_UNSUPPORTED};
    model *m = deep();
    const uint64_t five = bytes_of(m, 5, true), three = bytes_of(m, 3, true);
    for (size_t i = 0; i < 6; i++) {
        mem_plan plan;
        error err = {0};
        engine_options opt = three_devices(five, 1 << 24, 100);
        device.refusal = refusals[i / 2];
        device.refuses_later = i % 2 == 1; /* at first it seemed to work */
        CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
        CHECK_HAS(err.msg, "may be used");
        CHECK(strstr(err.msg, "somebody else's") == NULL && strstr(err.msg, "gpus") == NULL);
        opt.may_split = true;
        check_cuts(m, &opt, "gpu_layers 8 -> 5");
        if (device.refuses_later) continue;
        device.third = three;
        check_cuts(m, &opt, "gpus 1 -> 2");
        opt.devices_min = 2;
        CHECK_EQ(engine_plan(m, &opt, &plan, &err), device.refusal); /* it was named */
        CHECK_HAS(err.msg, "somebody else's");
    }
    end(m);
}

/* More devices than layers: why is what took the layers away. */
TEST(ladder_says_why_there_are_fewer_devices_than_were_named) {
    model *m = deep();
    mem_plan plan;
    engine_options opt = three_devices(bytes_of(m, 1, false), bytes_of(m, 1, true), 1);
    opt.devices_min = 3;
    opt.may_split = true;
    check_cuts(m, &opt, "gpus 3 -> 2, gpu_layers 8 -> 2");
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    for (uint32_t i = 0; i < plan.cuts.count; i++) CHECK(plan.cuts.list[i].why.what != NULL);
    end(m);
}

/* Each of them once for all plans of a ladder: that takes a context there. */
TEST(ladder_asks_each_of_several_devices_once) {
    model *m = tiny_of_long_context();
    engine_options opt = lowerable_on_two(1000 + 128000 + 15200, 600 + 128000 + 15200, 1000);
    opt.devices_min = 2;
    check_cuts(m, &opt, "step_tokens 512 -> 128, kv_tokens 896 -> 112");
    CHECK(device.plans > 10);
    CHECK_EQ(device.asked, 2);
    end(m);
}

/* What is given up is each device's own. */
TEST(ladder_plans_anew_for_several_devices) {
    model *m = tiny_of_long_context();
    engine *e = NULL;
    engine_options opt = lowerable_on_two(1 << 20, 2 << 20, 1000);
    opt.devices_min = 2;
    made_up_split.open = device_open;
    device.opens_fail = 1;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    const mem_plan *plan = engine_mem_plan(e);
    CHECK_EQ(device.opens, 2);
    CHECK_EQ(plan->rows_max, 256);
    CHECK(plan->devices[0].available < 1 << 20 && plan->devices[1].available < 1 << 20);
    engine_close(e);
    end(m);
}

/* Heads of 32 elements: 1024 bytes of a token as f16, 544 in 8 bits. */
TEST(ladder_takes_8_bits_for_a_context_that_was_asked_for) {
    static const struct {
        uint64_t cache;
        const char *cuts;
    } cases[] = {{8 * 4096 * 1024, ""},
                 {4096 * 1024, "kv_tokens 32768 -> 4096"},
                 {4096 * 1024 - 1, "kv_bits 16 -> 8, kv_tokens 32768 -> 7696"},
                 {4096 * 544, "kv_bits 16 -> 8, kv_tokens 32768 -> 4096"},
                 {4096 * 544 - 1, "error"}};
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:small:q8_0", NULL), OK);
    log_set_level(LOG_ERROR);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine_options opt = lowerable(100 << 20, 10);
        opt.rows_min = 0;
        opt.ctx_max = 4096;
        opt.kv_may_be_q8 = true;
        opt.kv_bytes_max = cases[i].cache;
        check_cuts(m, &opt, cases[i].cuts);
        opt.kv_may_be_q8 = false;
        check_cuts(m, &opt, i < 2 ? cases[i].cuts : "error");
    }
    end(m);
}

TEST(ladder_takes_8_bits_only_where_heads_allow_it) {
    model *m = tiny_of_long_context(); /* 16 elements */
    mem_plan plan;
    error err = {0};
    engine_options opt = lowerable(100 << 20, 10);
    opt.ctx_max = CTX_TRAIN;
    opt.kv_may_be_q8 = true;
    opt.kv_bytes_max = CTX_TRAIN * TOKEN_BYTES - 1;
    check_cuts(m, &opt, "error");
    opt = lowerable(100 << 20, 10);
    opt.kv_type = DTYPE_Q8_0;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "wants heads of a multiple of 32 elements, keys have 16 and values 16");
    opt.kv_type = DTYPE_Q4_0;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_UNSUPPORTED);
    CHECK_HAS(err.msg, "kv: a cache of Q4_0 wants heads");
    end(m);
}

TEST(ladder_refuses_with_the_numbers_of_its_end) {
    model *m = tiny_of_long_context();
    error err = {0};
    mem_plan plan;
    engine_options opt = lowerable(100000, 1000);
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "the weights need 1000 bytes and the steps 128000, 100000 may be taken of "
                       "Made-Up 1");
    CHECK_HAS(err.msg, "that is after step_tokens 512 -> 128, ctx 4096 -> 64");
    opt = lowerable(WEIGHTS_BYTES, 1000); /* what no rung can help is found out at once */
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK(strstr(err.msg, "after") == NULL);
    CHECK_EQ(device.plans, 1);
    end(m);
}

/* What is left to adapters is no part of what may be taken, and messages say so. */
TEST(ladder_says_what_is_left_to_adapters) {
    model *m = tiny_of_long_context();
    error err = {0};
    mem_plan plan;
    engine_options opt = lowerable(100000, 1000);
    opt.adapter_bytes = 300;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "99700 may be taken of Made-Up 1 beside 300 bytes for adapters of --lora");
    opt = lowerable(1000 + 512000 + 30100 + 300, 1000);
    opt.ctx_max = 100;
    opt.adapter_bytes = 300;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_STR(plan.cuts.list[0].name, "step_tokens");
    CHECK_STR(plan.cuts.list[0].why.where, "Made-Up 1 beside 300 bytes for adapters of --lora");
    CHECK_STR(plan.device, "Made-Up 1");
    opt = lowerable(1000 + 512000 + 30100 + 300, 1000);
    opt.ctx_max = 100;
    opt.rows_min = 0;
    opt.adapter_bytes = 300;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg,
              "may be used of Made-Up 1 beside 300 bytes for adapters of --lora: lower --ctx");
    end(m);
}

/* The whole of a text is one step: its rows are its context's. */
TEST(ladder_lowers_the_rows_of_encoders_with_their_context) {
    model *m = tiny_of_long_context();
    m->hparams.is_encoder = true;
    engine_options opt = lowerable(1000 + 160000 + 100 * TOKEN_BYTES, 1000);
    mem_plan plan;
    opt.rows_max = opt.hidden_rows_max = 512;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK(plan.rows_max == 128 && plan.ctx_max == 128);
    CHECK_STR(plan.cuts.list[0].name, "ctx");
    CHECK(plan.cuts.list[0].from == 512 && plan.cuts.list[0].to == 128);
    end(m);
}

/* --- what is said -------------------- */

TEST(ladder_names_what_was_short_and_by_how_much) {
    model *m = tiny_of_long_context();
    mem_plan plan;
    engine_options opt = lowerable(300000, 1000);
    opt.ctx_max = 100;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    const mem_cut *rows = &plan.cuts.list[0];
    CHECK_EQ(plan.rows_max, 256);
    CHECK_STR(rows->name, "step_tokens");
    CHECK_STR(rows->why.what, "weights and steps");
    CHECK_STR(rows->why.where, "Made-Up 1");
    CHECK_EQ(rows->why.needed_bytes, 1000 + 512 * 1000);
    CHECK_EQ(rows->why.available_bytes, 300000);
    end(m);
}

TEST(ladder_text_holds_the_largest_numbers) {
    char text[MEM_CUTS_TEXT_BYTES];
    const mem_cuts cuts = {.list = {{.name = "step_tokens", .from = UINT32_MAX, .to = UINT32_MAX},
                                    {.name = "ctx", .from = UINT32_MAX, .to = UINT32_MAX},
                                    {.name = "kv_bits", .from = 32, .to = 8},
                                    {.name = "gpus", .from = UINT32_MAX, .to = UINT32_MAX},
                                    {.name = "gpu_experts", .from = UINT32_MAX, .to = UINT32_MAX},
                                    {.name = "gpu_layers", .from = UINT32_MAX, .to = UINT32_MAX},
                                    {.name = "kv_tokens", .from = UINT64_MAX, .to = UINT64_MAX}},
                           .count = 7};
    mem_cuts_text(&cuts, text);
    CHECK_HAS(text, "gpu_layers 4294967295 -> 4294967295, kv_tokens 18446744073709551615 -> 1844");
    CHECK_EQ(strlen(text), 245);
    mem_cuts_text(&(mem_cuts){.count = 0}, text);
    CHECK_STR(text, "");
}

/* An option is no device's fault, and no device or layer less helps. */
TEST(ladder_blames_the_limit_that_was_asked_for) {
    model *m = tiny_of_long_context();
    mem_plan plan;
    error err = {0};
    engine_options opt = lowerable_on_two(10 << 20, 10 << 20, 10);
    opt.may_split = true;
    opt.kv_bytes_max = 100 * TOKEN_BYTES;
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "kv: one sequence of 100 tokens needs 28672 bytes, 25600 are allowed: raise "
                       "--kv-bytes-max, or lower --ctx");
    CHECK(strstr(err.msg, "gpus") == NULL && strstr(err.msg, "gpu_layers") == NULL);
    opt.devices_min = 2;
    opt.kv_bytes_max = 200 * TOKEN_BYTES;
    check_cuts(m, &opt, "kv_tokens 896 -> 192");
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_STR(plan.cuts.list[0].why.where, "--kv-bytes-max");
    CHECK_EQ(plan.cuts.list[0].why.available_bytes, 200 * TOKEN_BYTES);
    end(m);
}

/* --- opening -------------------- */

/* Rows whose logits or hidden states are wanted are no more than there are rows. */
TEST(ladder_engine_computes_with_what_is_left) {
    model *m = tiny_of_long_context();
    int32_t ids[128];
    for (int32_t i = 0; i < 128; i++) ids[i] = i;
    engine_options opt = lowerable(1000 + 128000 + 100000, 1000);
    opt.ctx_max = 256;
    opt.taken_rows_max = opt.hidden_rows_max = 512;
    float *want = rig_all_logits(m, &opt, ids, 128, 128);
    engine *e = NULL;
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    CHECK_EQ(engine_mem_plan(e)->rows_max, 128);
    engine_close(e);
    opt.backend = &backend_cpu;
    float *got = rig_all_logits(m, &opt, ids, 128, 128);
    CHECK(memcmp(got, want, 128 * m->hparams.vocab * sizeof *got) == 0);
    free(got);
    free(want);
    end(m);
}

TEST(ladder_plans_anew_when_a_device_cannot_be_opened) {
    model *m = tiny_of_long_context();
    for (int fails = 0; fails < 6; fails++) {
        engine *e = NULL;
        error err = {0};
        engine_options opt = lowerable(1 << 20, 1000);
        opt.ctx_max = 100;
        device.opens_fail = fails;
        const status st = engine_open(&e, m, &opt, &err);
        CHECK_EQ(st, fails < 4 ? OK : ERR_NOMEM);
        CHECK_EQ(device.opens, fails < 4 ? fails + 1 : 4);
        if (st == OK) {
            /* 742376 bytes at first, then three quarters of what is not weights */
            static const uint32_t rows[] = {512, 512, 256, 256};
            CHECK_EQ(engine_mem_plan(e)->rows_max, rows[fails]);
            CHECK(engine_mem_plan(e)->device_bytes <= device.available);
        } else {
            CHECK_STR(err.msg, "open 4 came to nothing");
        }
        engine_close(e);
    }
    end(m);
}

/* Somebody else has taken what was free, and holds it. */
TEST(ladder_measures_anew_after_a_failure) {
    model *m = tiny_of_long_context();
    engine *e = NULL;
    error err = {0};
    engine_options opt = lowerable(1 << 20, 1000);
    opt.ctx_max = 100;
    device.opens_fail = 1;
    device.later = 1000 + 128000 + 31000;
    CHECK_EQ(engine_open(&e, m, &opt, &err), OK);
    CHECK_EQ(engine_mem_plan(e)->rows_max, 128);
    engine_close(e);
    e = NULL;
    opt = lowerable(1 << 20, 1000);
    device.opens_fail = 1;
    device.later = 1000;
    CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_NOMEM);
    CHECK_HAS(err.msg, "open 1 came to nothing; planned anew: engine: the weights need 1000 bytes");
    CHECK(e == NULL && device.opens == 1);
    end(m);
}

TEST(ladder_opens_once_where_it_is_not_for_want_of_memory) {
    model *m = tiny_of_long_context();
    engine *e = NULL;
    error err = {0};
    engine_options opt = lowerable(1 << 20, 1000);
    opt.ctx_max = 100;
    device.opens_fail = 1;
    device.failure = ERR_DEVICE;
    CHECK_EQ(engine_open(&e, m, &opt, &err), ERR_DEVICE);
    CHECK_STR(err.msg, "open 1 came to nothing");
    CHECK_EQ(device.opens, 1);
    end(m);
}

/* A heap that is full is not the device's memory. */
TEST(ladder_is_not_for_the_heap) {
    model *m = tiny_of_long_context();
    mem_plan plan;
    error err = {0};
    const engine_options opt = lowerable(1 << 20, 1000);
    mem_fail_after(0);
    CHECK_EQ(engine_plan(m, &opt, &plan, &err), ERR_NOMEM);
    mem_fail_after(-1);
    CHECK(strstr(err.msg, "after") == NULL);
    CHECK_EQ(device.plans, 0);
    end(m);
}

/* --- a host -------------------- */

TEST(ladder_is_the_same_for_host_memory) {
    model *m = tiny_of_long_context();
    engine_options opt = lowerable(0, 0);
    char text[MEM_CUTS_TEXT_BYTES];
    mem_plan plan;
    opt.backend = &backend_cpu;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    CHECK_EQ(plan.cuts.count, 0);
    opt.kv_bytes_max = 300 * TOKEN_BYTES;
    CHECK_EQ(engine_plan(m, &opt, &plan, NULL), OK);
    mem_cuts_text(&plan.cuts, text);
    CHECK_STR(text, "ctx 4096 -> 256, kv_tokens 2048 -> 288");
    CHECK_STR(plan.cuts.list[0].why.where, "--kv-bytes-max");
    CHECK(plan.kv_cut && plan.rows_max == 512);
    end(m);
}
