/* candidates.c - see candidates.h. */
#include "engine/candidates.h"

#include <string.h>

#include "base/assert.h"

static void add(candidates_bin *bin, uint64_t weight, uint32_t id) {
    bin->weight += weight;
    bin->count++;
    bin->id += id;
}

void candidates_init(candidates *c, const uint32_t *distances, uint32_t vocab) {
    ASSERT(vocab > 0 && vocab <= SAMPLE_VOCAB_MAX);
    c->distances = distances;
    c->vocab = vocab;
    memset(c->first, 0, sizeof c->first);
    for (uint32_t i = 0; i < vocab; i++) {
        if (distances[i] == SAMPLE_FAR) continue;
        const uint64_t bin = sample_place(distances[i], i) >> SAMPLE_FIRST_SHIFT;
        add(&c->first[bin], sample_weight(distances[i]), i);
    }
    c->count = 0;
    c->weight = 0;
    for (uint32_t i = 0; i < SAMPLE_FIRST_BINS; i++) {
        c->count += c->first[i].count;
        c->weight += c->first[i].weight;
    }
    ASSERT(c->count > 0);
}

/* --- places -------------------- */

/* What is still to be reached, from the beginning of a bin on. */
typedef struct search {
    bool by_count;
    uint64_t need;
    uint64_t weight; /* passed */
} search;

/* The bin in which the need is reached; what is before it has been passed. */
static uint32_t bin_of(search *s, const candidates_bin *bins) {
    uint32_t i = 0;
    for (;; i++) {
        const uint64_t has = s->by_count ? bins[i].count : bins[i].weight;
        if (s->need <= has) return i;
        s->need -= has;
        s->weight += bins[i].weight;
    }
}

/* Fill the bins of the next digit, of candidates that begin like `digits`. */
static void split(candidates *c, uint64_t digits, uint32_t shift) {
    memset(c->more, 0, sizeof c->more);
    const uint32_t bits = shift + SAMPLE_MORE_BITS;
    const uint32_t least = (uint32_t)(digits << bits >> SAMPLE_ID_BITS);
    const uint32_t more = (uint32_t)(((1ull << bits) - 1) >> SAMPLE_ID_BITS);
    for (uint32_t i = 0; i < c->vocab; i++) {
        if (c->distances[i] - least > more) continue; /* nearly all */
        const uint64_t place = sample_place(c->distances[i], i);
        if (place >> bits != digits) continue;
        add(&c->more[(place >> shift) % SAMPLE_MORE_BINS], sample_weight(c->distances[i]), i);
    }
}

static candidates_found find(candidates *c, search s) {
    uint32_t shift = SAMPLE_FIRST_SHIFT;
    uint64_t digits = bin_of(&s, c->first);
    const candidates_bin *bin = &c->first[digits];
    while (bin->count > 1) {
        shift -= SAMPLE_MORE_BITS;
        split(c, digits, shift);
        const uint32_t digit = bin_of(&s, c->more);
        digits = digits << SAMPLE_MORE_BITS | digit;
        bin = &c->more[digit];
    }
    return (candidates_found){.place = sample_place(c->distances[bin->id], bin->id),
                              .weight = s.weight + bin->weight};
}

candidates_found candidates_at_count(candidates *c, uint32_t need) {
    ASSERT(need > 0 && need <= c->count);
    return find(c, (search){.by_count = true, .need = need});
}

candidates_found candidates_at_weight(candidates *c, uint64_t need) {
    ASSERT(need > 0 && need <= c->weight);
    return find(c, (search){.need = need});
}

uint64_t candidates_weight_within(const candidates *c, uint32_t distance) {
    const uint32_t bin = (uint32_t)(sample_place(distance, 0) >> SAMPLE_FIRST_SHIFT);
    const uint32_t least = (uint32_t)((uint64_t)bin << SAMPLE_FIRST_SHIFT >> SAMPLE_ID_BITS);
    uint64_t weight = 0;
    for (uint32_t i = 0; i < bin; i++) weight += c->first[i].weight;
    for (uint32_t i = 0; i < c->vocab; i++)
        if (c->distances[i] - least <= distance - least) weight += sample_weight(c->distances[i]);
    return weight;
}
