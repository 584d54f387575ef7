/* cpu_pack_k.c - packs the K types: superblocks of 256 columns.
 *
 * Layouts: tensor/dequant_k.c, in words at each function.  A row's own superblock keeps one bit
 * or pair of bits of several blocks in a byte; here a byte has those of several columns of one
 * block, so these are turned. */
#include "backend/cpu/cpu_pack_quads.h"

enum {
    BLOCKS = 8,
    WORDS = PACK_BLOCK / 4, /* of 32 bytes */
    LOW_NIBBLES = 0x0f0f0f0f,
    LOW_PAIRS = 0x03030303
};

/* --- codes -------------------- */

/* 32 bytes with the low nibbles of one block and the high ones of another, as planes. */
static inline void put_nibbles(const quad_rows *rows, const quad w[WORDS], uint8_t *low,
                               uint8_t *high) {
    for (uint32_t i = 0; i < WORDS / 2; i++) {
        const quad a = w[i], b = w[i + WORDS / 2];
        const size_t at = (size_t)i * PLANE_VECTOR;
        quad_put(rows, (a & LOW_NIBBLES) | (b & LOW_NIBBLES) << 4, low + at);
        quad_put(rows, (a >> 4 & LOW_NIBBLES) | (b & ~LOW_NIBBLES), high + at);
    }
}

/* 64 bytes in planes of 32: bits 2j of a byte are of block j, in the second plane of block 4 + j.
 * planes: that of block 0, and those of the others `stride` bytes apart. */
static inline void put_twos(const quad_rows *rows, const quad w[2 * WORDS], uint8_t *planes,
                            size_t stride) {
    for (uint32_t p = 0; p < 2; p++, w += WORDS) {
        for (size_t i = 0; i < 2; i++) {
            quad x[4] = {w[i], w[i + 2], w[i + 4], w[i + 6]};
            quad_turn_pairs(x);
            for (size_t j = 0; j < 4; j++, planes += stride)
                quad_put(rows, x[j], planes + i * PLANE_VECTOR);
            if (i == 0) planes -= 4 * stride;
        }
    }
}

/* 32 bytes, bit p of each of block p.  planes as for put_twos(). */
static inline void put_ones(const quad_rows *rows, const quad w[WORDS], uint8_t *planes,
                            size_t stride) {
    quad x[BLOCKS];
    memcpy(x, w, sizeof x);
    quad_turn_bits(x);
    for (size_t p = 0; p < BLOCKS; p++) quad_put(rows, x[p], planes + p * stride);
}

/* --- scales -------------------- */

/* Q4_K and Q5_K: factors of scales and minima, then 12 bytes with eight six-bit scales and minima:
 * 0..3 and 4..7 hold scales and minima 0..3 in their low six bits; 8..11 the low nibbles of scales
 * and minima 4..7, whose upper bits are on top of bytes 0..7. */
static inline void put_k32(const quad_rows *rows, uint8_t *scales) {
    enum { LOW_SIXES = 0x3f3f3f3f, STRIDE = 2 * PACK_ROWS };
    quad w[4];
    quad_words(rows, 0, 4, w);
    quad_put_half(rows, 0, scales);
    quad_put_half(rows, 2, scales + HALF_VECTOR);
    uint8_t *sc = scales + (size_t)2 * HALF_VECTOR, *mn = sc + PACK_ROWS;
    quad_put_bytes(rows, w[1] & LOW_SIXES, sc, STRIDE);
    quad_put_bytes(rows, w[2] & LOW_SIXES, mn, STRIDE);
    sc += (size_t)4 * STRIDE, mn += (size_t)4 * STRIDE;
    quad_put_bytes(rows, (w[3] & LOW_NIBBLES) | (w[1] >> 6 & LOW_PAIRS) << 4, sc, STRIDE);
    quad_put_bytes(rows, (w[3] >> 4 & LOW_NIBBLES) | (w[2] >> 6 & LOW_PAIRS) << 4, mn, STRIDE);
}

/* Q3_K: 8 bytes with the low nibbles of scales 0..7 and 8..15, 4 bytes with the upper two bits,
 * those of scale s in byte s % 4.  Scales are stored 32 higher. */
static inline void put_q3_k_scales(const quad_rows *rows, uint8_t *sc) {
    quad w[4];
    quad_words(rows, 92, 4, w); /* from 96 on it would be 2 bytes more than there are */
    for (uint32_t t = 0; t < 4; t++) {
        const quad low = w[1 + t % 2] >> t / 2 * 4 & LOW_NIBBLES, high = w[3] >> t * 2 & LOW_PAIRS;
        /* byte - 32: with the top bit set nothing is borrowed from the next one */
        const quad signs = quad_all(0x80808080u), six = low | high << 4;
        quad_put_bytes(rows, ((six | signs) - 0x20202020u) ^ signs, sc + (size_t)t * 4 * PACK_ROWS,
                       PACK_ROWS);
    }
}

/* --- types -------------------- */

/* 16 bytes of scales (low nibble) and minima; 64 bytes of pairs; factors of both */
void pack_q2_k(const quad_rows *rows, uint8_t *super) {
    enum { STRIDE = 2 * PACK_ROWS };
    quad w[2 * WORDS], s[4];
    quad_words(rows, 16, 2 * WORDS, w);
    put_twos(rows, w, super, TWO_PLANE);
    uint8_t *scales = super + (size_t)BLOCKS * TWO_PLANE;
    quad_put_half(rows, 80, scales);
    quad_put_half(rows, 82, scales + HALF_VECTOR);
    uint8_t *sc = scales + (size_t)2 * HALF_VECTOR;
    quad_words(rows, 0, 4, s);
    for (uint32_t t = 0; t < 4; t++, sc += (size_t)4 * STRIDE) {
        quad_put_bytes(rows, s[t] & LOW_NIBBLES, sc, STRIDE);
        quad_put_bytes(rows, s[t] >> 4 & LOW_NIBBLES, sc + PACK_ROWS, STRIDE);
    }
}

/* 32 bytes of third bits; 64 bytes of pairs; 12 bytes of scales; their factor */
void pack_q3_k(const quad_rows *rows, uint8_t *super) {
    enum { STRIDE = TWO_PLANE + ONE_PLANE };
    quad w[3 * WORDS];
    quad_words(rows, 0, 3 * WORDS, w);
    put_twos(rows, w + WORDS, super, STRIDE);
    put_ones(rows, w, super + TWO_PLANE, STRIDE);
    uint8_t *scales = super + (size_t)BLOCKS * STRIDE;
    quad_put_half(rows, 108, scales);
    put_q3_k_scales(rows, scales + HALF_VECTOR);
}

/* factors and scales; 128 bytes of nibbles, 32 for two blocks */
void pack_q4_k(const quad_rows *rows, uint8_t *super) {
    for (size_t pair = 0; pair < BLOCKS / 2; pair++) {
        quad w[WORDS];
        uint8_t *low = super + pair * 2 * NIBBLE_PLANE;
        quad_words(rows, 16 + pair * PACK_BLOCK, WORDS, w);
        put_nibbles(rows, w, low, low + NIBBLE_PLANE);
    }
    put_k32(rows, super + (size_t)BLOCKS * NIBBLE_PLANE);
}

/* factors and scales; 32 bytes of fifth bits; nibbles as in Q4_K */
void pack_q5_k(const quad_rows *rows, uint8_t *super) {
    enum { STRIDE = NIBBLE_PLANE + ONE_PLANE };
    quad w[WORDS];
    for (size_t pair = 0; pair < BLOCKS / 2; pair++) {
        uint8_t *low = super + pair * 2 * STRIDE;
        quad_words(rows, 48 + pair * PACK_BLOCK, WORDS, w);
        put_nibbles(rows, w, low, low + STRIDE);
    }
    quad_words(rows, 16, WORDS, w);
    put_ones(rows, w, super + NIBBLE_PLANE, STRIDE);
    put_k32(rows, super + (size_t)BLOCKS * STRIDE);
}

/* 128 bytes of nibbles, 64 for four blocks: low ones of 0 and 1, high ones of 2 and 3; 64 bytes of
 * pairs; 16 scales; their factor */
void pack_q6_k(const quad_rows *rows, uint8_t *super) {
    enum { STRIDE = NIBBLE_PLANE + TWO_PLANE };
    quad w[2 * WORDS];
    for (size_t part = 0; part < 4; part++) {
        uint8_t *low = super + (part / 2 * 4 + part % 2) * STRIDE;
        quad_words(rows, part * PACK_BLOCK, WORDS, w);
        put_nibbles(rows, w, low, low + (size_t)2 * STRIDE);
    }
    quad_words(rows, 128, 2 * WORDS, w);
    put_twos(rows, w, super + NIBBLE_PLANE, STRIDE);
    uint8_t *scales = super + (size_t)BLOCKS * STRIDE;
    quad_put_half(rows, 208, scales);
    quad s[4];
    quad_words(rows, 192, 4, s);
    for (size_t t = 0; t < 4; t++)
        quad_put_bytes(rows, s[t], scales + HALF_VECTOR + t * 4 * PACK_ROWS, PACK_ROWS);
}
