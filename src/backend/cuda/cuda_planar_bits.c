/* cuda_planar_bits.c - quantized blocks of GGUF to planes and back, bit by bit.
 *
 * Every put has its get beside it.  A block of 256 makes four groups of 64; `index` counts blocks,
 * so group g of block i is number 4 i + g of its planes.  Layouts of blocks: tensor/dequant_*.c. */
#include <string.h>

#include "backend/cuda/cuda_planar_internal.h"
#include "base/assert.h"

enum { GRANULE = 16, PAIR = 32, GROUPS = 4, Q5_NIBBLES = 48, EIGHTHS = 0x01010101 };

static uint8_t *at(uint8_t *const planes[CK_PLANES_MAX], uint32_t plane, uint64_t index,
                   uint32_t bytes) {
    return planes[plane] + index * bytes;
}

static const uint8_t *from(const uint8_t *const planes[CK_PLANES_MAX], uint32_t plane,
                           uint64_t index, uint32_t bytes) {
    return planes[plane] + index * bytes;
}

/* --- Q8_0, Q4_0: scale, codes -------------------- */

static void put_q8_0(const uint8_t *block, uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(at(planes, 0, index, GRANULE), block + 2, GRANULE);
    memcpy(at(planes, 1, index, GRANULE), block + 2 + GRANULE, GRANULE);
    memcpy(at(planes, 2, index, 2), block, 2);
}

static void get_q8_0(uint8_t *block, const uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(block + 2, from(planes, 0, index, GRANULE), GRANULE);
    memcpy(block + 2 + GRANULE, from(planes, 1, index, GRANULE), GRANULE);
    memcpy(block, from(planes, 2, index, 2), 2);
}

static void put_q4_0(const uint8_t *block, uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(at(planes, 0, index, GRANULE), block + 2, GRANULE);
    memcpy(at(planes, 1, index, 2), block, 2);
}

static void get_q4_0(uint8_t *block, const uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(block + 2, from(planes, 0, index, GRANULE), GRANULE);
    memcpy(block, from(planes, 1, index, 2), 2);
}

/* --- Q4_K: 16 bytes of scales, 4 x 32 bytes of nibbles -------------------- */

static void put_nibbles_k(const uint8_t *nibbles, uint8_t *const planes[CK_PLANES_MAX],
                          uint64_t index) {
    for (uint64_t g = 0; g < GROUPS; g++, nibbles += PAIR) {
        memcpy(at(planes, 0, index * GROUPS + g, GRANULE), nibbles, GRANULE);
        memcpy(at(planes, 1, index * GROUPS + g, GRANULE), nibbles + GRANULE, GRANULE);
    }
}

static void get_nibbles_k(uint8_t *nibbles, const uint8_t *const planes[CK_PLANES_MAX],
                          uint64_t index) {
    for (uint64_t g = 0; g < GROUPS; g++, nibbles += PAIR) {
        memcpy(nibbles, from(planes, 0, index * GROUPS + g, GRANULE), GRANULE);
        memcpy(nibbles + GRANULE, from(planes, 1, index * GROUPS + g, GRANULE), GRANULE);
    }
}

static void put_q4_k(const uint8_t *block, uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(at(planes, 2, index, GRANULE), block, GRANULE);
    put_nibbles_k(block + GRANULE, planes, index);
}

static void get_q4_k(uint8_t *block, const uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(block, from(planes, 2, index, GRANULE), GRANULE);
    get_nibbles_k(block + GRANULE, planes, index);
}

/* --- Q5_K: scales, 32 bytes of fifth bits, nibbles -------------------- */

/* Byte k of the block's fifth bits has one bit of each part of 32: four bytes are a word of the
 * plane at every eighth bit. */
static uint32_t fifths_get(const uint8_t *fifths, uint32_t part) {
    uint32_t word = 0;
    for (size_t w = 0; w < 8; w++) {
        uint32_t four;
        memcpy(&four, fifths + w * 4, sizeof four);
        word |= (four >> part & EIGHTHS) << w;
    }
    return word;
}

static void fifths_add(uint8_t *fifths, uint32_t part, uint32_t word) {
    for (size_t w = 0; w < 8; w++) {
        uint32_t four;
        memcpy(&four, fifths + w * 4, sizeof four);
        four |= (word >> w & EIGHTHS) << part;
        memcpy(fifths + w * 4, &four, sizeof four);
    }
}

static void put_q5_k(const uint8_t *block, uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(at(planes, 2, index, GRANULE), block, GRANULE);
    put_nibbles_k(block + Q5_NIBBLES, planes, index);
    for (uint32_t part = 0; part < 2 * GROUPS; part++) {
        const uint32_t word = fifths_get(block + GRANULE, part);
        memcpy(at(planes, 3, index * GROUPS * 2 + part, 4), &word, sizeof word);
    }
}

static void get_q5_k(uint8_t *block, const uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memcpy(block, from(planes, 2, index, GRANULE), GRANULE);
    get_nibbles_k(block + Q5_NIBBLES, planes, index);
    memset(block + GRANULE, 0, PAIR);
    for (uint32_t part = 0; part < 2 * GROUPS; part++) {
        uint32_t word;
        memcpy(&word, from(planes, 3, index * GROUPS * 2 + part, 4), sizeof word);
        fifths_add(block + GRANULE, part, word);
    }
}

/* --- Q6_K: 128 bytes of low nibbles, 64 of upper pairs, 16 scales, a factor
 * -------------------- */

enum { Q6_PAIRS = 128, Q6_SCALES = 192, Q6_D = 208 };

/* A half of a block, 128 elements, has quarters of 32: nibbles of quarters 0 and 2 share the bytes
 * 0..31, those of 1 and 3 the bytes 32..63, and all four share the 32 bytes of pairs.  Group g is
 * quarters 0 and 1, or 2 and 3, of half g / 2. */
typedef struct q6_group {
    uint32_t nibbles, pairs; /* bytes of the block */
    uint32_t shift;          /* of nibbles, and of the pairs of the first quarter */
} q6_group;

static q6_group q6_group_of(uint32_t g) {
    return (q6_group){g / 2 * 64, Q6_PAIRS + g / 2 * 32, g % 2 * 4};
}

static void put_q6_group(const uint8_t *block, q6_group g, uint8_t *first, uint8_t *second,
                         uint8_t *upper) {
    const uint8_t *a = block + g.nibbles, *b = a + PAIR, *pairs = block + g.pairs;
    for (size_t k = 0; k < GRANULE; k++) {
        const uint32_t lo = (uint32_t)pairs[k] >> g.shift & 15u;
        const uint32_t hi = (uint32_t)pairs[k + GRANULE] >> g.shift & 15u;
        first[k] = (uint8_t)((a[k] >> g.shift & 15) | (a[k + GRANULE] >> g.shift & 15) << 4);
        second[k] = (uint8_t)((b[k] >> g.shift & 15) | (b[k + GRANULE] >> g.shift & 15) << 4);
        upper[k] = (uint8_t)((lo & 3u) | (hi & 3u) << 2 | (lo & 12u) << 2 | (hi & 12u) << 4);
    }
}

/* Into a block of zeros. */
static void get_q6_group(uint8_t *block, q6_group g, const uint8_t *first, const uint8_t *second,
                         const uint8_t *upper) {
    uint8_t *a = block + g.nibbles, *b = a + PAIR, *pairs = block + g.pairs;
    for (size_t k = 0; k < GRANULE; k++) {
        const uint32_t u = upper[k];
        a[k] |= (uint8_t)((first[k] & 15u) << g.shift);
        a[k + GRANULE] |= (uint8_t)(first[k] >> 4 << g.shift);
        b[k] |= (uint8_t)((second[k] & 15u) << g.shift);
        b[k + GRANULE] |= (uint8_t)(second[k] >> 4 << g.shift);
        pairs[k] |= (uint8_t)(((u & 3u) | (u >> 2 & 12u)) << g.shift);
        pairs[k + GRANULE] |= (uint8_t)(((u >> 2 & 3u) | (u >> 4 & 12u)) << g.shift);
    }
}

static void put_q6_k(const uint8_t *block, uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    for (uint32_t g = 0; g < GROUPS; g++) {
        const uint64_t i = index * GROUPS + g;
        put_q6_group(block, q6_group_of(g), at(planes, 0, i, GRANULE), at(planes, 1, i, GRANULE),
                     at(planes, 2, i, GRANULE));
    }
    memcpy(at(planes, 3, index, GRANULE), block + Q6_SCALES, GRANULE);
    memcpy(at(planes, 4, index, 2), block + Q6_D, 2);
}

static void get_q6_k(uint8_t *block, const uint8_t *const planes[CK_PLANES_MAX], uint64_t index) {
    memset(block, 0, Q6_SCALES);
    for (uint32_t g = 0; g < GROUPS; g++) {
        const uint64_t i = index * GROUPS + g;
        get_q6_group(block, q6_group_of(g), from(planes, 0, i, GRANULE),
                     from(planes, 1, i, GRANULE), from(planes, 2, i, GRANULE));
    }
    memcpy(block + Q6_SCALES, from(planes, 3, index, GRANULE), GRANULE);
    memcpy(block + Q6_D, from(planes, 4, index, 2), 2);
}

cuda_bits cuda_bits_of(ck_form form) {
    switch (form) {
    case CK_FORM_Q8_0:
        return (cuda_bits){put_q8_0, get_q8_0};
    case CK_FORM_Q4_0:
        return (cuda_bits){put_q4_0, get_q4_0};
    case CK_FORM_Q4_K:
        return (cuda_bits){put_q4_k, get_q4_k};
    case CK_FORM_Q5_K:
        return (cuda_bits){put_q5_k, get_q5_k};
    case CK_FORM_Q6_K:
        return (cuda_bits){put_q6_k, get_q6_k};
    default:
        break;
    }
    ASSERT(!"a quantized form");
    return (cuda_bits){0};
}
