/* bench_fill.cu - random bits for what is measured, made where they are needed: weights of many
 * gigabytes never cross the bus. */
#include "../../cuda/ck.h"
#include "gpu/bench_fill.h"

/* The same word for the same place and seed on every card: splitmix64, Steele et al. 2014. */
CK_DEV uint32_t random_word(uint64_t seed, uint64_t i) {
    uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

CK_KERNEL(k_bench_fill, 256) {
    uint32_t *out = (uint32_t *)a.out;
    const uint64_t step = (uint64_t)ck_gdim_x * ck_bdim;
    for (uint64_t i = (uint64_t)ck_bid_x * ck_bdim + ck_tid; i < a.words; i += step)
        ck_st(out + i, (random_word(a.seed, i) & a.keep[i % 4]) | a.set[i % 4]);
}
