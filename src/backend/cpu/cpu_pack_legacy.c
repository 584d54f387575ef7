/* cpu_pack_legacy.c - packs the types with blocks of 32 columns, and IQ4_XS.
 *
 * Their byte k holds column k in its low half and column k + 16 in its high half, which is how
 * the plane of nibbles has it too: vector i is word i.
 * Layouts: tensor/dequant_legacy.c, dequant_iq.c and dequant_fp4.c, in words at each function. */
#include "backend/cpu/cpu_pack_quads.h"

enum { XS_BLOCKS = 8, XS_CODES = XS_BLOCKS * NIBBLE_PLANE };

/* The 16 bytes of nibbles of one block. */
static inline void put_nibbles(const quad_rows *rows, size_t at, uint8_t *plane) {
    quad w[4];
    quad_words(rows, at, 4, w);
    for (uint32_t i = 0; i < 4; i++) quad_put(rows, w[i], plane + (size_t)i * PLANE_VECTOR);
}

/* In a word, change the bits of `mask` for those `shift` higher. */
static inline quad exchange(quad x, uint32_t shift, uint32_t mask) {
    const quad change = (x ^ (x >> shift)) & mask;
    return x ^ change ^ (change << shift);
}

/* The 32 fifth bits of one block: bit 4v + c, of column 4v + c, goes to bit v of byte c.  Of the
 * five digits of a bit's number, v v v c c, the c move up: four exchanges of two digits each. */
static inline void put_fifth_bits(const quad_rows *rows, size_t at, uint8_t *plane) {
    quad x = quad_word(rows, at);
    x = exchange(x, 16 - 2, 0x0000ccccu);
    x = exchange(x, 8 - 1, 0x00aa00aau);
    x = exchange(x, 4 - 2, 0x0c0c0c0cu);
    x = exchange(x, 2 - 1, 0x22222222u);
    quad_put(rows, x, plane);
}

/* scale, 16 bytes of nibbles */
void pack_q4_0(const quad_rows *rows, uint8_t *super) {
    put_nibbles(rows, 2, super);
    quad_put_half(rows, 0, super + NIBBLE_PLANE);
}

/* scale, minimum, 16 bytes of nibbles */
void pack_q4_1(const quad_rows *rows, uint8_t *super) {
    put_nibbles(rows, 4, super);
    quad_put_half(rows, 0, super + NIBBLE_PLANE);
    quad_put_half(rows, 2, super + NIBBLE_PLANE + HALF_VECTOR);
}

/* scale, 32 fifth bits, 16 bytes of nibbles */
void pack_q5_0(const quad_rows *rows, uint8_t *super) {
    put_nibbles(rows, 6, super);
    put_fifth_bits(rows, 2, super + NIBBLE_PLANE);
    quad_put_half(rows, 0, super + NIBBLE_PLANE + ONE_PLANE);
}

/* scale, minimum, 32 fifth bits, 16 bytes of nibbles */
void pack_q5_1(const quad_rows *rows, uint8_t *super) {
    uint8_t *scales = super + NIBBLE_PLANE + ONE_PLANE;
    put_nibbles(rows, 8, super);
    put_fifth_bits(rows, 4, super + NIBBLE_PLANE);
    quad_put_half(rows, 0, scales);
    quad_put_half(rows, 2, scales + HALF_VECTOR);
}

/* scale, 32 int8; the codes are 128 more */
void pack_q8_0(const quad_rows *rows, uint8_t *super) {
    quad w[PACK_VECTORS];
    quad_words(rows, 2, PACK_VECTORS, w);
    for (uint32_t v = 0; v < PACK_VECTORS; v++)
        quad_put(rows, w[v] ^ 0x80808080u, super + (size_t)v * PLANE_VECTOR);
    quad_put_half(rows, 0, super + BYTE_PLANE);
}

/* scale, 16 bytes of nibbles */
void pack_iq4_nl(const quad_rows *rows, uint8_t *super) { pack_q4_0(rows, super); }

/* scale of one byte, 16 bytes of nibbles */
void pack_mxfp4(const quad_rows *rows, uint8_t *super) {
    put_nibbles(rows, 1, super);
    uint8_t *scales = super + NIBBLE_PLANE + (size_t)rows->index * QUAD_ROWS;
    for (uint32_t r = 0; r < QUAD_ROWS; r++) scales[r] = rows->at[r][0];
}

/* scale factor; upper two bits of eight six-bit scales; their low nibbles in 4 bytes; 16 bytes of
 * nibbles for every block.  Scales are stored 32 higher. */
void pack_iq4_xs(const quad_rows *rows, uint8_t *super) {
    for (uint32_t b = 0; b < XS_BLOCKS; b++)
        put_nibbles(rows, 8 + (size_t)b * 16, super + (size_t)b * NIBBLE_PLANE);
    quad_put_half(rows, 0, super + XS_CODES);
    const quad high = quad_word(rows, 0) >> 16, low = quad_word(rows, 4);
    uint8_t *scales = super + XS_CODES + HALF_VECTOR;
    for (uint32_t b = 0; b < XS_BLOCKS; b += 4) {
        quad four = quad_all(0); /* scales b .. b + 3, a byte each */
        for (uint32_t k = 0; k < 4; k++) {
            const quad six = (low >> (b + k) * 4 & 15u) | (high >> (b + k) * 2 & 3u) << 4;
            four |= ((six - 32u) & 255u) << k * 8;
        }
        quad_put_bytes(rows, four, scales + (size_t)b * PACK_ROWS, PACK_ROWS);
    }
}
