/* test_train_net.c - the whole model: its gradient against central differences for every tensor,
 * and the same bits with any number of threads and any instruction set. */
#include "train/net.h"

#include "train_rig.h"

static const shape SMALL = {.vocab = 37,
                            .embd = 24,
                            .layers = 2,
                            .heads = 4,
                            .kv_heads = 2,
                            .head_dim = 8,
                            .ff = 40,
                            .ctx = RIG_CTX,
                            .rope_base = 10000.0f,
                            .norm_eps = 1e-5f};
enum { TOKENS = 50 };

typedef struct net_rig {
    crew c;
    net *n;
    float *params, *grads;
    int32_t ids[TOKENS], targets[TOKENS];
    float weights[TOKENS];
    uint32_t positions[TOKENS];
    doc_batch b;
} net_rig;

static const uint32_t BEGINS[] = {0, 7, 30, 50};

static void rig_init(net_rig *r, const char *kernels_name, uint32_t threads) {
    error err = {0};
    const size_t count = shape_params(&SMALL);
    r->c = rig_crew(kernels_name, threads);
    CHECK_EQ(net_create(&r->n, &SMALL, &r->c, TOKENS, &err), OK);
    r->params = rig_random(21, count);
    r->grads = rig_zeros(count);
    for (size_t i = 0; i < count; i++) r->params[i] *= 0.25f;
    for (uint32_t i = 0; i < shape_tensors(&SMALL); i++) { /* gains are near 1 */
        const shape_tensor t = shape_tensor_get(&SMALL, i);
        for (size_t k = 0; t.rows == 0 && k < t.cols; k++) r->params[t.at + k] += 1.0f;
    }
    random_stream s = random_stream_of(5, 0);
    for (uint32_t i = 0, doc = 0; i < TOKENS; i++) {
        if (i == BEGINS[doc + 1]) doc++;
        r->ids[i] = (int32_t)random_below(&s, SMALL.vocab);
        r->targets[i] = (int32_t)random_below(&s, SMALL.vocab);
        r->weights[i] = (float)random_below(&s, 3) * 0.5f;
        r->positions[i] = i - BEGINS[doc];
    }
    r->b = (doc_batch){TOKENS, r->ids, r->targets, r->weights, r->positions, 3, BEGINS};
}

static void rig_end(net_rig *r) {
    net_destroy(r->n);
    pool_destroy(r->c.pool);
    mem_free(r->params);
    mem_free(r->grads);
}

static double loss_of(void *ctx) {
    net_rig *r = ctx;
    return net_loss(r->n, r->params, &r->b);
}

/* Along the gradient itself a wrong size shows best, along a random direction a wrong sign. */
static bool tensor_agrees(net_rig *r, const shape_tensor *t) {
    const size_t count = shape_tensor_count(t);
    const float *g = r->grads + t->at;
    float *direction = rig_random(31, count);
    const double size = sqrt(rig_dot(g, g, count));
    bool good = size > 0;
    for (int way = 0; way < 2; way++) {
        if (way == 0)
            for (size_t i = 0; i < count; i++) direction[i] = g[i] / (float)size;
        const float step = way == 0 ? 1e-2f : 2e-3f;
        const double slope = rig_slope(loss_of, r, r->params + t->at, direction, count, step);
        const double wanted = rig_dot(g, direction, count);
        /* what is left of a slope by noise is measured against the gradient's size */
        if (fabs(slope - wanted) > 2e-3 * (way == 0 ? size : size * sqrt((double)count))) {
            good = rig_agrees(t->name, wanted, slope, 0);
        }
        mem_free(direction);
        direction = rig_random(32, count);
    }
    mem_free(direction);
    return good;
}

TEST(train_gradient_of_the_whole_model) {
    net_rig r;
    rig_init(&r, NULL, 2);
    const double loss = net_gradient(r.n, r.params, r.grads, &r.b, 1.0f);
    CHECK(rig_close(loss, loss_of(&r), 1e-12));
    for (uint32_t i = 0; i < shape_tensors(&SMALL); i++) {
        const shape_tensor t = shape_tensor_get(&SMALL, i);
        CHECK(tensor_agrees(&r, &t));
    }
    rig_end(&r);
}

TEST(train_gradients_are_added_and_scaled) {
    net_rig r;
    rig_init(&r, NULL, 1);
    const size_t count = shape_params(&SMALL);
    float *twice = rig_zeros(count);
    (void)net_gradient(r.n, r.params, r.grads, &r.b, 0.5f);
    (void)net_gradient(r.n, r.params, twice, &r.b, 0.25f);
    (void)net_gradient(r.n, r.params, twice, &r.b, 0.25f);
    double worst = 0;
    for (size_t i = 0; i < count; i++)
        worst = fmax(worst, fabs((double)twice[i] - (double)r.grads[i]));
    CHECK(worst < 1e-5);
    mem_free(twice);
    rig_end(&r);
}

TEST(train_gradients_are_the_same_bits_everywhere) {
    static const char *const names[] = {"plain", "avx2", "avx512"};
    const size_t bytes = shape_params(&SMALL) * sizeof(float);
    net_rig first, other;
    rig_init(&first, "plain", 1);
    (void)net_gradient(first.n, first.params, first.grads, &first.b, 1.0f);
    for (uint32_t i = 0; i < 3; i++) {
        if (kernels_find(names[i]) == NULL) continue;
        rig_init(&other, names[i], 1 + i);
        (void)net_gradient(other.n, other.params, other.grads, &other.b, 1.0f);
        CHECK(memcmp(first.grads, other.grads, bytes) == 0);
        rig_end(&other);
    }
    rig_end(&first);
}

TEST(train_logits_have_the_loss_in_them) {
    net_rig r;
    rig_init(&r, NULL, 1);
    float *logits = rig_zeros((size_t)TOKENS * SMALL.vocab);
    double loss = 0;
    net_logits(r.n, r.params, &r.b, logits);
    for (uint32_t t = 0; t < TOKENS; t++) {
        const float *row = logits + (size_t)t * SMALL.vocab;
        double sum = 0;
        for (uint32_t i = 0; i < SMALL.vocab; i++) sum += exp((double)row[i]);
        loss += (double)r.weights[t] * (log(sum) - (double)row[r.targets[t]]);
    }
    CHECK(rig_close(loss, loss_of(&r), 1e-5));
    mem_free(logits);
    rig_end(&r);
}

TEST(train_shape_names_what_does_not_fit) {
    error err = {0};
    shape s = SMALL;
    CHECK_EQ(shape_check(&s, &err), OK);
    s.kv_heads = 3;
    CHECK_EQ(shape_check(&s, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "4 heads cannot share 3");
    s.kv_heads = 2;
    s.layers = 0;
    CHECK_EQ(shape_check(&s, &err), ERR_INVALID);
    CHECK_HAS(err.msg, "layers is 0, must be 1 to 64");
}
