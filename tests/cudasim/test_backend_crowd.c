/* test_backend_crowd.c - many sequences in one step on backend_cuda: what each is told has the bits
 * of the same sequence alone, though products with quantized weights are other kernels by then. */
#include <stdlib.h>
#include <string.h>

#include "cudasim/backend_rig.h"
#include "engine/engine_rig.h"

static const rig_engine on_cuda = {"cuda", &backend_cuda, 1, CPU_ISA_AUTO};

enum { CROWD = 17, TOKENS = 3 };

/* Tokens of a sequence; any will do. */
static void fill_ids(int32_t ids[CROWD][TOKENS], uint32_t vocab) {
    for (uint32_t s = 0; s < CROWD; s++)
        for (uint32_t i = 0; i < TOKENS; i++) ids[s][i] = (int32_t)((s * 37 + i * 11 + 3) % vocab);
}

/* Logits [CROWD, TOKENS, vocab], of `together` sequences at a time: one token of each to a step. */
static float *logits_of(const model *m, uint32_t together) {
    const size_t each = (size_t)TOKENS * m->hparams.vocab;
    engine_options opt = rig_options(&on_cuda, DTYPE_F16, 32);
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

/* The first step of a size is launched, the second recorded, the third played as a graph for up to
 * 8 rows, or 32. */
static void check_crowd(const char *machine, const char *path) {
    static const uint32_t together[] = {5, CROWD};
    HOST_MACHINE(machine);
    model *m = NULL;
    CHECK_EQ(model_open(&m, path, NULL), OK);
    if (m == NULL) return;
    const size_t bytes = (size_t)CROWD * TOKENS * m->hparams.vocab * sizeof(float);
    float *want = logits_of(m, 1);
    CHECK_EQ(skinny_launches(), 0);
    for (size_t i = 0; i < sizeof together / sizeof together[0]; i++) {
        const uint64_t before = skinny_launches();
        float *got = logits_of(m, together[i]);
        const bool same = memcmp(got, want, bytes) == 0;
        if (!same) (void)fprintf(stderr, "%s, %u together: other bits\n", path, together[i]);
        CHECK(same);
        CHECK(skinny_launches() > before);
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
    static const char *const h100 = "{\"gpus\":[{\"preset\":\"h100\"}]}";
    check_crowd("t4", "synth:tiny:q4_0");
    check_crowd(h100, "synth:tiny:q8_0");
    check_crowd("t4", "synth:small:q4_k_m");
}
