/* test_train_muon.c - Muon's steps: orthogonal, along the gradient, the same on every machine. */
#include <string.h>

#include "train/adamw.h"
#include "train_rig.h"

enum { VECTORS = 20 };

/* One block with wide, tall and square matrices. */
static const shape SMALL = {.vocab = 7,
                            .embd = 24,
                            .layers = 1,
                            .heads = 3,
                            .kv_heads = 1,
                            .head_dim = 8,
                            .ff = 40,
                            .ctx = 8,
                            .rope_base = 10000.0f,
                            .norm_eps = 1e-5f};
static const adamw_options PLAIN_STEP = {
    .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .muon = true, .momentum = 0.95f};

/* Weights from 0 after `steps` steps of rate 1, each with a gradient of its own. */
static float *walked(const char *kernels_name, uint32_t threads, uint32_t steps) {
    crew c = rig_crew(kernels_name, threads);
    adamw a;
    CHECK_EQ(adamw_init(&a, &SMALL, NULL), OK);
    float *params = rig_zeros(a.count);
    for (uint32_t i = 0; i < steps; i++) {
        float *grads = rig_random(i, a.count);
        CHECK(isfinite(adamw_step(&a, &c, &PLAIN_STEP, 1.0f, params, grads)));
        mem_free(grads);
    }
    adamw_deinit(&a);
    pool_destroy(c.pool);
    return params;
}

/* |x W|^2 / |x|^2 for x over the shorter side of W, which is turned when it is tall. */
static double stretch(const float *w, const shape_tensor *t, const float *x) {
    const bool wide = t->rows <= t->cols;
    const uint32_t side = wide ? t->rows : t->cols, other = wide ? t->cols : t->rows;
    double sum = 0;
    for (uint32_t j = 0; j < other; j++) {
        double y = 0;
        for (uint32_t i = 0; i < side; i++)
            y += (double)x[i] * (double)(wide ? w[i * t->cols + j] : w[j * t->cols + i]);
        sum += y * y;
    }
    return sum / rig_dot(x, x, side);
}

TEST(train_muon_steps_are_nearly_orthogonal_and_go_down) {
    float *params = walked(NULL, 2, 1), *grads = rig_random(0, shape_params(&SMALL));
    uint32_t seen = 0;
    for (uint32_t i = 0; i < shape_tensors(&SMALL); i++) {
        const shape_tensor t = shape_tensor_get(&SMALL, i);
        if (!muon_takes(&t)) continue;
        seen++;
        const double size = 0.2 * sqrt(t.rows > t.cols ? t.rows : t.cols);
        for (uint32_t k = 0; k < VECTORS; k++) {
            float *x = rig_random(100 + k, t.rows + t.cols);
            const double by = sqrt(stretch(params + t.at, &t, x)) / size;
            CHECK(by > 0.5 && by < 1.3);
            mem_free(x);
        }
        CHECK(rig_dot(params + t.at, grads + t.at, shape_tensor_count(&t)) < 0);
    }
    CHECK_EQ(seen, 7);
    mem_free(params);
    mem_free(grads);
}

TEST(train_muon_leaves_embedding_and_gains_to_adamw) {
    float *params = walked(NULL, 1, 1);
    for (uint32_t i = 0; i < shape_tensors(&SMALL); i++) {
        const shape_tensor t = shape_tensor_get(&SMALL, i);
        if (muon_takes(&t)) continue;
        /* the first step of Adam is the gradient's sign, whatever its length */
        for (size_t k = 0; k < shape_tensor_count(&t); k++)
            CHECK(fabsf(fabsf(params[t.at + k]) - 1.0f) < 1e-3f);
    }
    mem_free(params);
}

TEST(train_muon_gives_the_same_bits_with_any_threads_and_kernels) {
    static const char *const names[] = {"plain", "avx2", "avx512"};
    const size_t bytes = shape_params(&SMALL) * sizeof(float);
    float *wanted = walked("plain", 1, 3);
    for (int i = 0; i < 3; i++) {
        if (kernels_find(names[i]) == NULL) continue;
        float *got = walked(names[i], 3, 3);
        CHECK(memcmp(wanted, got, bytes) == 0);
        mem_free(got);
    }
    mem_free(wanted);
}
