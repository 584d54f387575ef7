/* philox.h - counter-based random numbers: the same (seed, choice, position) always
 * draws the same number, whatever was drawn before and whoever runs beside.
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox4x32-10). */
#ifndef ENGINE_PHILOX_H
#define ENGINE_PHILOX_H

#include <stdint.h>

typedef struct philox_block {
    uint32_t v[4];
} philox_block;

static inline philox_block philox(philox_block counter, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        uint64_t a = 0xD2511F53ull * counter.v[0], b = 0xCD9E8D57ull * counter.v[2];
        counter = (philox_block){{(uint32_t)(b >> 32) ^ counter.v[1] ^ key0, (uint32_t)b,
                                  (uint32_t)(a >> 32) ^ counter.v[3] ^ key1, (uint32_t)a}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/* Evenly in 0 .. 2^64 - 1. */
static inline uint64_t philox_u64(uint64_t seed, uint32_t choice, uint32_t position) {
    const philox_block r =
        philox((philox_block){{position, choice, 0, 0}}, (uint32_t)seed, (uint32_t)(seed >> 32));
    return (uint64_t)r.v[0] << 32 | r.v[1];
}

#endif
