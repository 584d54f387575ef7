/* test_backend_crowd.c - many sequences in one step on backend_cuda: what each is told has the bits
 * of the same sequence alone, though products, and experts that several use, are other kernels by
 * then. */
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/blob.h"
#include "backend/cuda/cuda_internal.h"
#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"
#include "golden_paths.h"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

enum { CROWD = 17, TOKENS = 3 };

static const double NMSE_MAX = 1e-6; /* backend.h */
static const char *const h100 = "{\"gpus\":[{\"preset\":\"h100\"}]}";

/* Tokens of a sequence; any will do. */
static void fill_ids(int32_t ids[CROWD][TOKENS], uint32_t vocab) {
    for (uint32_t s = 0; s < CROWD; s++)
        for (uint32_t i = 0; i < TOKENS; i++) ids[s][i] = (int32_t)((s * 37 + i * 11 + 3) % vocab);
}

/* Logits [CROWD, TOKENS, vocab], of `together` sequences at a time: one token of each to a step,
 * all of them generated. */
static float *logits_of(const rig_engine *on, const model *m, bool fast, uint32_t together) {
    const size_t each = (size_t)TOKENS * m->hparams.vocab;
    engine_options opt = rig_options(on, DTYPE_F16, 32);
    opt.fast = fast;
    opt.seats = opt.rows_max = opt.taken_rows_max = CROWD;
    int32_t ids[CROWD][TOKENS];
    rig_sequence list[CROWD];
    engine *e = NULL;
    float *logits = calloc(CROWD * each, sizeof *logits);
    fill_ids(ids, m->hparams.vocab);
    for (uint32_t s = 0; s < CROWD; s++)
        list[s] =
            (rig_sequence){.ids = ids[s], .count = TOKENS, .seat = s, .logits = logits + s * each};
    CHECK_EQ(engine_open(&e, m, &opt, NULL), OK);
    for (uint32_t s = 0; e != NULL && s < CROWD; s += together) {
        const uint32_t n = CROWD - s < together ? CROWD - s : together;
        for (uint32_t i = 0; i < TOKENS; i++) rig_advance(e, list + s, n, 1);
    }
    engine_close(e);
    return logits;
}

/* Of all formats, alone, together and as one of the output matrix. */
static uint64_t skinny_launches(void) {
    static const char *const formats[] = {"q8_0", "q4_0", "q4_k", "q5_k", "q6_k"};
    static const char *const names[] = {"k_gemv_%s_n16", "k_gemvs_%s_n16", "k_gemv_%s_p8"};
    uint64_t sum = 0;
    char name[32];
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            (void)snprintf(name, sizeof name, names[k], formats[i]);
            sum += host.launches(name);
        }
    return sum;
}

static uint64_t crowd_of_f16(void) {
    return host.launches("k_gemv_f16_m32") + host.launches("k_gemvs_f16_m32");
}
static uint64_t crowd_of_bf16(void) {
    return host.launches("k_gemv_bf16_m32") + host.launches("k_gemvs_bf16_m32");
}
static uint64_t experts_together(void) { return host.launches("k_experts_q8_0_n16"); }

typedef struct crowd_case {
    const char *machine, *path;
    bool fast;
    uint64_t (*launches)(void);
    uint32_t from; /* sequences in a step that has some of them */
} crowd_case;

/* The first step of a size is launched, the second recorded, the third played as a graph for up to
 * 8 rows, or 32. */
static void check_crowd(const crowd_case *c) {
    static const uint32_t together[] = {5, CROWD};
    const char *path = c->path;
    HOST_MACHINE(c->machine);
    model *m = NULL;
    CHECK_EQ(model_open(&m, path, NULL), OK);
    if (m == NULL) return;
    const size_t bytes = (size_t)CROWD * TOKENS * m->hparams.vocab * sizeof(float);
    float *want = logits_of(&on_cuda, m, c->fast, 1);
    CHECK_EQ(c->launches(), 0);
    for (size_t i = 0; i < sizeof together / sizeof together[0]; i++) {
        const uint64_t before = c->launches();
        float *got = logits_of(&on_cuda, m, c->fast, together[i]);
        const bool same = memcmp(got, want, bytes) == 0;
        if (!same) (void)fprintf(stderr, "%s, %u together: other bits\n", path, together[i]);
        CHECK(same);
        CHECK_EQ(c->launches() > before, together[i] >= c->from);
        free(got);
    }
    free(want);
    model_close(m);
    CHECK_EQ(host.leaks(), 0);
}

TEST(cuda_crowd_has_the_bits_of_each_sequence_alone) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the tests of k_skinny have every kernel");
#endif
    static const crowd_case cases[] = {
        {"t4", "synth:tiny:q4_0", false, skinny_launches, CUDA_SKINNY_FROM},
        {h100, "synth:tiny:q8_0", false, skinny_launches, CUDA_SKINNY_FROM},
        {"t4", "synth:small:q4_k_m", false, skinny_launches, CUDA_SKINNY_FROM}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_crowd(&cases[i]);
}

/* A row alone has the kernels of tensor cores, too.  Without nvcc BF16 becomes F16. */
TEST(cuda_fast_crowd_with_weights_of_floats_has_the_bits_of_each_sequence_alone) {
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the tests of k_skinny_halves have every kernel");
#endif
    const bool has_bf16 = cuda_blobs[0].fatbin < cuda_blobs[0].fatbin_end;
    const crowd_case cases[] = {
        {"t4", "synth:tiny:f16", true, crowd_of_f16, CK_HALVES_X + 1},
        {h100, "synth:tiny:bf16", true, has_bf16 ? crowd_of_bf16 : crowd_of_f16, CK_HALVES_X + 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_crowd(&cases[i]);
}

/* In both modes: a mixture of 2 of 4 or more, whose experts several of five sequences use. */
TEST(cuda_crowd_with_experts_has_the_bits_of_each_sequence_alone) {
    SHARED_OR_SKIP(path, "oracle/public/models/mixtral/quant/model-Q8_0.gguf");
#ifdef __SANITIZE_THREAD__
    SKIP("ThreadSanitizer is slow, and the tests of k_few_experts have every kernel");
#endif
    const crowd_case cases[] = {{"t4", path, true, experts_together, 5},
                                {h100, path, false, experts_together, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check_crowd(&cases[i]);
}

/* Activations are taken apart, not rounded: what is left is the cache of F16. */
TEST(cuda_fast_generated_rows_with_weights_of_floats_are_near_the_reference) {
    HOST_MACHINE("t4");
    model *m = NULL;
    CHECK_EQ(model_open(&m, "synth:tiny:f16", NULL), OK);
    if (m == NULL) return;
    const size_t count = (size_t)CROWD * TOKENS * m->hparams.vocab;
    float *got = logits_of(&on_cuda, m, true, CROWD);
    float *want = logits_of(&rig_engines[0], m, true, CROWD);
    const double nmse = rig_nmse(got, want, count);
    if (!(nmse <= NMSE_MAX)) (void)fprintf(stderr, "nmse %g\n", nmse);
    CHECK(nmse <= NMSE_MAX);
    free(got);
    free(want);
    model_close(m);
}
