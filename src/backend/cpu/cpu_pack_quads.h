/* cpu_pack_quads.h - four rows at a time, for cpu_pack_*.c.
 *
 * Packing is turning a table [16 rows][words of 4 bytes] into [words][16 rows], and then shifting
 * bits between words of the same row.  A quad is one word of four rows, so that the second half is
 * plain arithmetic.  These are the compiler's vectors of 16 bytes, which every machine has, and
 * quick enough: packing is bound by memory.
 * All machines are little-endian. */
#ifndef BACKEND_CPU_CPU_PACK_QUADS_H
#define BACKEND_CPU_CPU_PACK_QUADS_H

#include <stdint.h>
#include <string.h>

#include "backend/cpu/cpu_pack_formats.h"

enum { QUAD_ROWS = 4, QUADS = PACK_ROWS / QUAD_ROWS /* of a group */ };

typedef uint32_t quad __attribute__((vector_size(16)));
typedef uint8_t quad_bytes __attribute__((vector_size(16)));

/* The same place in four rows of the type's own layout, and where they go. */
typedef struct quad_rows {
    const uint8_t *at[QUAD_ROWS]; /* the superblock in each row */
    size_t step[QUAD_ROWS];       /* bytes to the next one */
    uint32_t index;               /* rows 4 * index .. of the group */
} quad_rows;

static inline quad quad_all(uint32_t v) { return (quad){v, v, v, v}; }

/* --- reading -------------------- */

/* The word at byte `at`. */
static inline quad quad_word(const quad_rows *rows, size_t at) {
    quad v;
    for (uint32_t r = 0; r < QUAD_ROWS; r++) {
        uint32_t word;
        memcpy(&word, rows->at[r] + at, sizeof word);
        v[r] = word;
    }
    return v;
}

/* `count` words from byte `at` on, a multiple of 4. */
static inline void quad_words(const quad_rows *rows, size_t at, uint32_t count, quad *out) {
    for (uint32_t i = 0; i < count; i += 4, at += sizeof(quad)) {
        quad a, b, c, d;
        memcpy(&a, rows->at[0] + at, sizeof a);
        memcpy(&b, rows->at[1] + at, sizeof b);
        memcpy(&c, rows->at[2] + at, sizeof c);
        memcpy(&d, rows->at[3] + at, sizeof d);
        const quad ab01 = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        const quad ab23 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const quad cd01 = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        const quad cd23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        out[i] = __builtin_shufflevector(ab01, cd01, 0, 1, 4, 5);
        out[i + 1] = __builtin_shufflevector(ab01, cd01, 2, 3, 6, 7);
        out[i + 2] = __builtin_shufflevector(ab23, cd23, 0, 1, 4, 5);
        out[i + 3] = __builtin_shufflevector(ab23, cd23, 2, 3, 6, 7);
    }
}

/* --- moving bits -------------------- */

/* In every byte, change the bits of a above `shift` for those of b below: mask says which. */
static inline void quad_swap(quad *a, quad *b, uint32_t shift, uint32_t mask) {
    const quad change = ((*a >> shift) ^ *b) & mask;
    *b ^= change;
    *a ^= change << shift;
}

/* Pair of bits j of word k goes to pair k of word j, in every byte. */
static inline void quad_turn_pairs(quad x[4]) {
    for (uint32_t k = 0; k < 2; k++) quad_swap(&x[k], &x[k + 2], 4, 0x0f0f0f0fu);
    for (uint32_t k = 0; k < 4; k += 2) quad_swap(&x[k], &x[k + 1], 2, 0x33333333u);
}

/* Bit j of word k goes to bit k of word j, in every byte. */
static inline void quad_turn_bits(quad x[8]) {
    for (uint32_t k = 0; k < 4; k++) quad_swap(&x[k], &x[k + 4], 4, 0x0f0f0f0fu);
    for (uint32_t i = 0; i < 4; i++) /* 0, 1, 4, 5 with 2, 3, 6, 7 */
        quad_swap(&x[i + i / 2 * 2], &x[i + i / 2 * 2 + 2], 2, 0x33333333u);
    for (uint32_t k = 0; k < 8; k += 2) quad_swap(&x[k], &x[k + 1], 1, 0x55555555u);
}

/* --- writing -------------------- */

/* `vector` is [16 rows][4] bytes. */
static inline void quad_put(const quad_rows *rows, quad v, uint8_t *vector) {
    memcpy(vector + sizeof v * rows->index, &v, sizeof v);
}

/* Byte k of every word becomes the row's byte of the vector at out + k * stride, [16] bytes. */
static inline void quad_put_bytes(const quad_rows *rows, quad v, uint8_t *out, size_t stride) {
    for (int turn = 0; turn < 2; turn++) { /* a perfect shuffle of 16 bytes is half of a turn */
        const quad upper = __builtin_shufflevector(v, v, 2, 3, 0, 1);
        v = (quad)__builtin_shufflevector((quad_bytes)v, (quad_bytes)upper, 0, 16, 1, 17, 2, 18, 3,
                                          19, 4, 20, 5, 21, 6, 22, 7, 23);
    }
    for (uint32_t k = 0; k < 4; k++) {
        const uint32_t bytes = v[k];
        memcpy(out + k * stride + sizeof bytes * rows->index, &bytes, sizeof bytes);
    }
}

/* The f16 at byte `at`; `halves` is f16 [16]. */
static inline void quad_put_half(const quad_rows *rows, size_t at, uint8_t *halves) {
    uint8_t *out = halves + (size_t)rows->index * QUAD_ROWS * 2;
    for (uint32_t r = 0; r < QUAD_ROWS; r++) memcpy(out + (size_t)r * 2, rows->at[r] + at, 2);
}

/* --- one superblock, by type -------------------- */

/* super: the place of the group's superblock, of which four rows are written. */
typedef void pack_quad_fn(const quad_rows *rows, uint8_t *super);

/* cpu_pack_legacy.c: blocks of 32 columns, and IQ4_XS, whose nibbles are like theirs */
pack_quad_fn pack_q4_0, pack_q4_1, pack_q5_0, pack_q5_1, pack_q8_0;
pack_quad_fn pack_iq4_nl, pack_iq4_xs, pack_mxfp4;
/* cpu_pack_k.c */
pack_quad_fn pack_q2_k, pack_q3_k, pack_q4_k, pack_q5_k, pack_q6_k;

#endif
