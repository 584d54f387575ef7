/* draw_by_sorting.c - see draw_by_sorting.h. */
#include "draw_by_sorting.h"

#include <math.h>
#include <stdlib.h>

#include "tensor/best.h"
#include "test.h"

typedef struct placed {
    uint64_t place, weight;
} placed;

static int by_place(const void *a, const void *b) {
    const placed *x = a, *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

static unsigned __int128 weight_of(const placed *list, uint32_t count) {
    unsigned __int128 sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += list[i].weight;
    return sum;
}

/* How many of the n first are kept. */
static uint32_t kept_of(const placed *list, uint32_t n, const sample_rule *r) {
    unsigned __int128 sum = 0;
    if (r->top_k < n) n = r->top_k;
    const unsigned __int128 all = weight_of(list, n);
    for (uint32_t i = 0; i < n && r->top_p != SAMPLE_TOP_P_ALL; i++) {
        sum += list[i].weight;
        if (sum << 64 >= r->top_p * all) n = i + 1;
    }
    const uint64_t last = sample_place(r->min_p, SAMPLE_VOCAB_MAX - 1);
    while (r->min_p != SAMPLE_FAR && list[n - 1].place > last) n--;
    return n;
}

static bool is_allowed(const uint32_t *allowed, uint32_t id) {
    return allowed == NULL || (allowed[id / 32] & 1u << id % 32) != 0;
}

/* -1: none is. */
static int32_t first_allowed(const float *x, uint32_t vocab, const uint32_t *allowed) {
    int32_t best = -1;
    for (int32_t i = 0; (uint32_t)i < vocab; i++)
        if (is_allowed(allowed, (uint32_t)i) && (best < 0 || best_before(x[i], i, x[best], best)))
            best = i;
    return best;
}

int32_t draw_by_sorting(const float *logits, uint32_t vocab, const sample_order *o) {
    static float x[DRAW_VOCAB_MAX];
    static placed list[DRAW_VOCAB_MAX];
    const sample_rule *r = &o->rule;
    uint32_t n = 0;
    CHECK(vocab <= DRAW_VOCAB_MAX);
    for (uint32_t i = 0; i < vocab; i++) x[i] = logits[i];
    for (uint32_t i = 0; i < r->changes_count; i++) {
        const sample_change *c = &o->changes[i];
        x[c->id] = sample_changed(x[c->id], c->bias, c->minus, c->flags, r->repetition);
    }
    const int32_t best = first_allowed(x, vocab, o->allowed);
    if (best < 0) return 0;
    if (r->temperature == 0 || r->top_k == 1 || !isfinite(x[best])) return best;
    for (uint32_t i = 0; i < vocab; i++) {
        if (!is_allowed(o->allowed, i)) continue;
        const uint32_t d = sample_distance(x[best], x[i], r->temperature);
        if (d != SAMPLE_FAR) list[n++] = (placed){sample_place(d, i), sample_weight(d)};
    }
    qsort(list, n, sizeof *list, by_place);
    n = kept_of(list, n, r);
    unsigned __int128 target = r->random * weight_of(list, n) >> 64;
    uint32_t i = 0;
    for (; list[i].weight <= target; i++) target -= list[i].weight;
    return (int32_t)(list[i].place % SAMPLE_VOCAB_MAX);
}
