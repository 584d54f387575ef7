/* test_k_lora.c - what adapters add to products, against sums in double over the elements of their
 * matrices; and the same bits whatever segments the rows are in. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "cudasim/product_rig.h"
#include "cudasim/rig.h"
#include "test.h"

/* Of the sum of the magnitudes of all terms: f32 sums of up to 300 of them, one after the other in
 * a thread only a few. */
static const double ERROR_MAX = 1e-6;

enum { ADAPTERS = 3, PRODUCTS = 3, SLOTS = 5, RANK_ROOM = 72, MIXES = 4, ROWS_MAX = 65 };

/* Slots of the products of a launch; an adapter leaves slot 3 alone, the others have no pair. */
static const uint32_t slots[PRODUCTS] = {4, 1, 3};

typedef struct shape {
    uint32_t rows, cols, rank;
    uint32_t out[PRODUCTS]; /* 0: there is no such product */
    dtype a, b;
} shape;

typedef struct pair_data {
    float *a, *b; /* what the stored elements stand for */
    uint32_t rank;
    float scale;
} pair_data;

/* Everything of one launch, and its truth. */
typedef struct scene {
    shape s;
    uint32_t products;
    pair_data pairs[ADAPTERS][PRODUCTS];
    uint64_t tables[ADAPTERS];
    float *x, *out[PRODUCTS], *before[PRODUCTS];
    ck_lora_mix mixes[MIXES];
    uint32_t mix_of[ROWS_MAX]; /* MIXES: none */
} scene;

/* Adapters have ranks and types of their own, as different files have. */
static uint32_t rank_of(const shape *s, uint32_t adapter) {
    return adapter == 0 ? s->rank : adapter == 1 ? 4 : 1;
}

static float *elements_of(const product_weight *w) {
    float *all = malloc((size_t)w->w.rows * w->w.cols * sizeof *all);
    for (uint32_t r = 0; r < w->w.rows; r++) product_weight_row(w, r, all + (size_t)r * w->w.cols);
    return all;
}

static void make_adapter(scene *c, uint32_t adapter) {
    ck_lora_pair table[SLOTS] = {0};
    const uint32_t rank = rank_of(&c->s, adapter);
    for (uint32_t p = 0; p < c->products; p++) {
        if (adapter == 1 && slots[p] == 3) continue; /* it leaves this matrix as it is */
        const bool other = adapter == 2;
        const product_weight a = product_weight_make(other ? DTYPE_F32 : c->s.a, rank, c->s.cols);
        const product_weight b =
            product_weight_make(other ? DTYPE_BF16 : c->s.b, c->s.out[p], rank);
        const float scale = 0.5f + 0.25f * (float)p;
        table[slots[p]] = (ck_lora_pair){.a = a.on_device.plane[0],
                                         .b = b.on_device.plane[0],
                                         .rank = rank,
                                         .a_form = a.form,
                                         .b_form = b.form,
                                         .scale = scale};
        c->pairs[adapter][p] = (pair_data){elements_of(&a), elements_of(&b), rank, scale};
    }
    c->tables[adapter] = rig_at(rig_copy(table, sizeof table));
}

/* Mix 0: one adapter; 1: two; 2: all, one of them twice; 3: as many as there can be. */
static void make_mixes(scene *c) {
    static const uint32_t counts[MIXES] = {1, 2, 4, CK_LORA_USES_MAX};
    for (uint32_t m = 0; m < MIXES; m++)
        for (uint32_t u = 0; u < counts[m]; u++)
            c->mixes[m].uses[u] = (ck_lora_use){.pairs = c->tables[(m + u) % ADAPTERS],
                                                .scale = 0.25f * (float)(u + 1) - 0.9f};
    for (uint32_t r = 0; r < c->s.rows; r++)
        c->mix_of[r] = c->s.rows > 8 ? r / 9 % (MIXES + 1) : (r + c->s.rank) % (MIXES + 1);
}

static void make_scene(scene *c, shape s) {
    *c = (scene){.s = s};
    while (c->products < PRODUCTS && s.out[c->products] > 0) c->products++;
    for (uint32_t i = 0; i < ADAPTERS; i++) make_adapter(c, i);
    make_mixes(c);
    c->x = rig_buffer((size_t)s.rows * s.cols * sizeof *c->x);
    rig_fill(c->x, (size_t)s.rows * s.cols, 1.7f);
    for (uint32_t p = 0; p < c->products; p++) {
        const size_t bytes = (size_t)s.rows * s.out[p] * sizeof(float);
        c->out[p] = rig_buffer(bytes);
        rig_fill(c->out[p], (size_t)s.rows * s.out[p], 1);
        c->before[p] = malloc(bytes);
        memcpy(c->before[p], c->out[p], bytes);
    }
}

static void free_scene(scene *c) {
    for (uint32_t p = 0; p < c->products; p++) {
        free(c->before[p]);
        for (uint32_t i = 0; i < ADAPTERS; i++) {
            free(c->pairs[i][p].a);
            free(c->pairs[i][p].b);
        }
    }
}

/* Neighbours of one mix, up to `most` of them. */
static uint32_t segments_of(const scene *c, uint32_t most, ck_lora_segment *out) {
    uint32_t count = 0;
    for (uint32_t r = 0; r < c->s.rows; r++) {
        ck_lora_segment *last = count > 0 ? &out[count - 1] : NULL;
        if (c->mix_of[r] == MIXES) continue;
        if (last != NULL && last->mix == c->mix_of[r] && last->row0 + last->rows == r &&
            last->rows < most)
            last->rows++;
        else
            out[count++] = (ck_lora_segment){.row0 = r, .rows = 1, .mix = c->mix_of[r]};
    }
    return count;
}

/* Grids have a row more than there are segments; `blocks` share the tiles of a product. */
static void launch(int arch, scene *c, uint32_t most, uint32_t blocks) {
    ck_lora_segment segments[ROWS_MAX];
    const uint32_t count = segments_of(c, most, segments);
    const size_t stride = (size_t)c->s.rows * CK_LORA_USES_MAX * RANK_ROOM;
    float *mid = rig_buffer(stride * c->products * sizeof *mid);
    ck_lora lora = {.segments = rig_at(rig_copy(segments, sizeof segments)),
                    .mixes = rig_at(rig_copy(c->mixes, sizeof c->mixes)),
                    .count = rig_count(count),
                    .mid = rig_at(mid),
                    .mid_stride = stride,
                    .rank_max = RANK_ROOM};
    memcpy(lora.slots, slots, sizeof slots);
    k_lora_shrink_args shrink = {
        .lora = lora, .x = rig_at(c->x), .cols = c->s.cols, .blocks = blocks};
    k_lora_expand_args expand = {.lora = lora};
    uint32_t width = 0;
    for (uint32_t p = 0; p < c->products; p++) {
        expand.out[p] = rig_at(c->out[p]);
        expand.rows[p] = c->s.out[p];
        width += (c->s.out[p] + CK_LORA_THREADS - 1) / CK_LORA_THREADS;
    }
    rig_run(arch, "k_lora_shrink", &shrink, c->products * blocks, count + 1, CK_LORA_THREADS, 0);
    rig_run(arch, "k_lora_expand", &expand, width, count + 1, CK_LORA_THREADS, 0);
}

static uint32_t adapter_of(const scene *c, const ck_lora_use *use) {
    uint32_t i = 0;
    while (c->tables[i] != use->pairs) i++;
    return i;
}

/* A sum, and that of the magnitudes of all its terms. */
typedef struct truth {
    double sum, all;
} truth;

/* want [out] += scale * (x . A^T) . B^T */
static void add_pair(const pair_data *d, double scale, const float *x, uint32_t cols, uint32_t out,
                     truth *want) {
    for (uint32_t k = 0; k < d->rank; k++) {
        truth mid = {0, 0};
        for (uint32_t i = 0; i < cols; i++) {
            const double term = (double)x[i] * (double)d->a[(size_t)k * cols + i];
            mid.sum += term;
            mid.all += fabs(term);
        }
        for (uint32_t j = 0; j < out; j++) {
            const double b = scale * (double)d->b[(size_t)j * d->rank + k];
            want[j].sum += mid.sum * b;
            want[j].all += mid.all * fabs(b);
        }
    }
}

static void find_truth(const scene *c, uint32_t p, uint32_t r, truth *want) {
    const uint32_t out = c->s.out[p];
    const float *before = c->before[p] + (size_t)r * out;
    for (uint32_t j = 0; j < out; j++)
        want[j] = (truth){(double)before[j], fabs((double)before[j])};
    for (uint32_t u = 0; u < CK_LORA_USES_MAX; u++) {
        const ck_lora_use *use = &c->mixes[c->mix_of[r]].uses[u];
        if (use->pairs == 0) break;
        const pair_data *d = &c->pairs[adapter_of(c, use)][p];
        if (d->a == NULL) continue;
        add_pair(d, (double)use->scale * (double)d->scale, c->x + (size_t)r * c->s.cols, c->s.cols,
                 out, want);
    }
}

static void check_row(const scene *c, uint32_t p, uint32_t r) {
    const uint32_t out = c->s.out[p];
    const float *got = c->out[p] + (size_t)r * out;
    if (c->mix_of[r] == MIXES) {
        rig_same(got, c->before[p] + (size_t)r * out, out * sizeof *got);
        return;
    }
    truth *want = malloc(out * sizeof *want);
    uint32_t wrong = 0;
    find_truth(c, p, r, want);
    for (uint32_t j = 0; j < out; j++)
        wrong += !(fabs((double)got[j] - want[j].sum) <= ERROR_MAX * want[j].all);
    if (wrong > 0)
        (void)fprintf(stderr, "rank %u, row %u of %u, product %u: %u of %u are wrong\n", c->s.rank,
                      r, c->s.rows, p, wrong, out);
    CHECK_EQ(wrong, 0);
    free(want);
}

static void check_shape(int arch, shape s) {
    static scene c;
    make_scene(&c, s);
    launch(arch, &c, CK_LORA_SEGMENT_ROWS, 3);
    for (uint32_t p = 0; p < c.products; p++)
        for (uint32_t r = 0; r < s.rows; r++) check_row(&c, p, r);
    float *first[PRODUCTS];
    for (uint32_t p = 0; p < c.products; p++) {
        const size_t bytes = (size_t)s.rows * s.out[p] * sizeof(float);
        first[p] = malloc(bytes);
        memcpy(first[p], c.out[p], bytes);
        memcpy(c.out[p], c.before[p], bytes);
    }
    launch(arch, &c, 1, 8); /* every row alone, and other blocks */
    for (uint32_t p = 0; p < c.products; p++) {
        rig_same(c.out[p], first[p], (size_t)s.rows * s.out[p] * sizeof(float));
        free(first[p]);
    }
    free_scene(&c);
}

TEST(k_lora_adds_what_adapters_say) {
    static const uint32_t ranks[] = {1, 4, 8, 16, 17, 64};
    static const dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    for (uint32_t i = 0; i < sizeof ranks / sizeof ranks[0]; i++) RIG_EACH(arch) {
            check_shape(arch, (shape){.rows = 3,
                                      .cols = 96,
                                      .rank = ranks[i],
                                      .out = {130, 32, 7},
                                      .a = types[i % 3],
                                      .b = types[(i + 1) % 3]});
        }
    rig_done();
}

TEST(k_lora_takes_any_number_of_rows_and_columns) {
    static const shape shapes[] = {
        {1, 33, 16, {5}, DTYPE_F16, DTYPE_F16},       {8, 257, 5, {129, 3}, DTYPE_BF16, DTYPE_F32},
        {65, 36, 4, {40, 1}, DTYPE_F16, DTYPE_BF16},  {3, 1, 1, {1}, DTYPE_F32, DTYPE_F32},
        {8, 1030, 17, {64}, DTYPE_F32, DTYPE_F16},    {2, 1100, 8, {260}, DTYPE_F16, DTYPE_F16},
        {65, 7, 65, {9, 9, 9}, DTYPE_BF16, DTYPE_F32}};
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) RIG_EACH(arch) {
            if (shapes[i].rows < 65 || !rig_is_watched()) check_shape(arch, shapes[i]);
        }
    rig_done();
}

/* Where no row has an adapter nothing is read but the count. */
TEST(k_lora_without_segments_touches_nothing) {
    RIG_EACH(arch) {
        const ck_lora lora = {.count = rig_count(0)};
        k_lora_shrink_args shrink = {.lora = lora, .cols = 64, .blocks = 2};
        k_lora_expand_args expand = {.lora = lora, .rows = {64}};
        rig_run(arch, "k_lora_shrink", &shrink, 2, 4, CK_LORA_THREADS, 0);
        rig_run(arch, "k_lora_expand", &expand, 1, 4, CK_LORA_THREADS, 0);
    }
    rig_done();
}
