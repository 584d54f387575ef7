/* random.h - numbers that depend on a seed alone: no libm, no machine.
 *
 * SplitMix64: a counter through a mixing function, so a state is one number that a checkpoint can
 * hold.  Plain values.  Source: Steele, Lea and Flood 2014. */
#ifndef TRAIN_RANDOM_H
#define TRAIN_RANDOM_H

#include <stdint.h>

typedef struct random_stream {
    uint64_t state;
} random_stream;

/* Streams of one seed with different numbers have nothing to do with each other. */
static inline random_stream random_stream_of(uint64_t seed, uint64_t number) {
    return (random_stream){seed * UINT64_C(0x9E3779B97F4A7C15) ^
                           number * UINT64_C(0xD1B54A32D192ED03)};
}

static inline uint64_t random_next(random_stream *r) {
    uint64_t z = r->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* 0 .. below - 1, below > 0; the bias of one in 2^32 / below does not matter for shuffling. */
static inline uint32_t random_below(random_stream *r, uint32_t below) {
    return (uint32_t)((random_next(r) >> 32) * below >> 32);
}

/* Near enough to a normal distribution of variance 1: twelve uniform numbers of variance 1/12,
 * added up (Irwin-Hall).  None is beyond 6, which is welcome for weights. */
static inline float random_normal(random_stream *r) {
    int64_t sum = 0;
    for (int i = 0; i < 12; i++) sum += (int64_t)(random_next(r) >> 40);
    return (float)(sum - 6 * (INT64_C(1) << 24)) * (1.0f / 16777216.0f);
}

/* Every order of ids [count] is as likely as any other (Fisher and Yates). */
static inline void random_shuffle(random_stream *r, uint32_t *ids, uint32_t count) {
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t k = random_below(r, i), id = ids[k];
        ids[k] = ids[i - 1];
        ids[i - 1] = id;
    }
}

#endif
