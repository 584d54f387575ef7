/* cpu_pack.h - weights repacked for the integer kernels.
 *
 * A matrix is cut into groups of 16 rows; the last group is padded with rows of zero bits (in the
 * type's own layout), whose results nobody reads.  A vector register holds the same columns of
 * all 16 rows, so that scales are vectors, a sum over columns stays in its lane, and one layout
 * serves VNNI, AVX2, NEON and AMX tiles alike.
 *
 *   u-vector v of a block of 32 columns: [16 rows][4] bytes, columns 4v .. 4v + 3; v = 0..7
 *
 * A group is a run of superblocks of `super_blocks` blocks of 32 columns, each `super_bytes` long:
 *
 *   | codes of block 0 | .. of the last block | scales of the superblock |
 *
 * Codes of a block, plane after plane:
 *   nibbles   4 x 64 bytes: the low nibbles of vector i are u-vector i, the high ones i + 4
 *   twos      2 x 64 bytes: bits 2k, 2k+1 of vector i are u-vector i + 2k        (k = 0..3)
 *   ones      1 x 64 bytes: bit v is u-vector v
 *   bytes     8 x 64 bytes: the u-vectors
 * in this order: nibbles, twos, ones; types of bytes have nothing else.  A code is
 * nibble | two << 4 | one << 4, for types without nibbles two | one << 2; with a table of 16 the
 * code is table[nibble], which may be anything to 255, like a byte.
 *
 *   Q4_0, Q4_1, Q4_K, IQ4_NL, IQ4_XS, MXFP4   nibbles         Q6_K   nibbles, twos
 *   Q5_0, Q5_1, Q5_K                          nibbles, ones   Q2_K   twos
 *   Q8_0  (int8 + 128)                        bytes           Q3_K   twos, ones
 *
 * A weight is  scale * code - offset,  with one scale and offset for every row and 32 columns
 * (subs 1), or every 16 columns (subs 2).  Both are f32, made of what is stored (scale_form):
 *
 *   HALF       f16 d[16] for every block           scale = d            offset = zero * scale
 *   HALF_MIN   f16 d[16], f16 m[16]                scale = d            offset = -m
 *   K32        f16 d[16], f16 dmin[16]; then for every block u8 sc[16], u8 mn[16]
 *                                                  scale = d * sc       offset = dmin * mn
 *   K16        the same for every 16 columns
 *   SIGNED32   f16 d[16]; then for every block i8 sc[16]
 *                                                  scale = d * sc       offset = zero * scale
 *   SIGNED16   the same for every 16 columns
 *   POWER      u8 e[16] for every block            scale = 2^(e - 128)  offset = zero * scale
 *              (e 0 and 1 are the denormals 2^-128 and 2^-127)
 *
 * The parts of 16 columns follow each other: 0..15 and 16..31 of block 0, then those of block 1.
 * An f16 has 11 bits, sc and mn at most 8 and zero is small, so all the products are exact in
 * f32.  HALF, HALF_MIN and POWER have superblocks of one block, the others of eight.  Nothing in
 * a group is aligned to more than 16 bytes: those of POWER are 272 long.
 *
 * Owner: the cpu backend, which packs when it opens; read-only after that. */
#ifndef BACKEND_CPU_CPU_PACK_H
#define BACKEND_CPU_CPU_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"

enum {
    PACK_ROWS = 16,        /* of a group */
    PACK_BLOCK = 32,       /* columns of a block */
    PACK_VECTORS = 8,      /* u-vectors of a block */
    PACK_BLOCK_CODES = 512 /* bytes of the u-vectors of a block */
};

typedef enum scale_form {
    SCALE_HALF,
    SCALE_HALF_MIN,
    SCALE_K32,
    SCALE_K16,
    SCALE_SIGNED32,
    SCALE_SIGNED16,
    SCALE_POWER
} scale_form;

typedef struct pack_format {
    dtype type;
    bool nibbles, twos, ones, bytes;
    const uint8_t *table; /* [16] codes of nibbles, or NULL */
    scale_form form;
    uint32_t zero;         /* the code that is 0 */
    uint32_t subs;         /* 1 or 2 */
    uint32_t super_blocks; /* 1 or 8 */
    size_t codes_bytes;    /* of a block */
    size_t super_bytes;    /* a multiple of 16 */
} pack_format;

/* NULL: weights of this type are not packed. */
const pack_format *pack_format_of(dtype t);

/* Can a matrix of this type and width be packed?  The width must be whole superblocks. */
bool pack_fits(dtype t, uint32_t cols);

size_t pack_group_bytes(const pack_format *f, uint32_t cols);
/* Of all groups of [rows, cols]. */
size_t pack_bytes(const pack_format *f, uint32_t rows, uint32_t cols);

/* Pack groups first .. first + count - 1 of [rows, cols] in the type's own layout (tensor/dtype.h,
 * row-major) to `out`, which is group `first`.  Pure: groups can be packed in parallel. */
void pack_groups(const pack_format *f, const void *weights, uint32_t rows, uint32_t cols,
                 uint32_t first, uint32_t count, uint8_t *out);

/* --- what kernels compute with -------------------- */

/* Blocks of one group, unpacked; the arrays are 64-byte aligned. */
typedef struct pack_panel {
    uint8_t *codes; /* [blocks][8][16][4] u-vectors */
    float *scales;  /* [blocks][subs][16] */
    float *offsets; /* [blocks][subs][16] */
    uint32_t subs;
    uint32_t code_max; /* no code is larger (pack_code_max); 0: not known, up to 255 */
} pack_panel;

/* The largest code of a format: kernels with narrow sums may add more terms of small codes. */
static inline uint32_t pack_code_max(const pack_format *f) {
    if (f->bytes) return 255;
    if (!f->nibbles) return f->ones ? 7 : 3;
    uint32_t max = 15;
    for (int i = 0; f->table != NULL && i < 16; i++) max = f->table[i] > max ? f->table[i] : max;
    return f->twos ? max | 48 : f->ones ? max | 16 : max;
}

/* 32 activations x, as digits of base 255:  x ~ scale * (255 * hi + lo).  Without lo it is x
 * rounded to 8 bits.  In f32, every operation rounded to nearest:
 *
 *   max      the largest |x| that is not NaN, 0 when it is below 2^-100
 *   scale    max / 32512                           scale_hi   255 * scale
 *   inverse  32512 / max, or 0 when max is 0
 *   q        x * inverse, a NaN as -32512, cut to -32512..32512, as integer, ties to even
 *   hi, lo   q = 255 * hi + lo with both in -127..127: there is one such pair, and hi is q / 255
 *            rounded to nearest, which has no ties
 *
 * Sums of integers are exact; [0], [1]: of columns 0..15 and 16..31; [2]: of all. */
typedef struct act_block {
    int8_t hi[PACK_BLOCK]; /* the first cache line: all that `fast` reads */
    float scale;
    float scale_hi;      /* 255 * scale: of hi alone */
    float sum_hi[3];     /* f32(sum of hi) * scale_hi */
    int32_t count_hi[2]; /* sums of hi */
    int32_t unused_hi;   /* 0 */
    int8_t lo[PACK_BLOCK];
    float sum[3]; /* f32(sum of q) * scale */
    int32_t count_lo[2];
    int32_t unused_lo[3]; /* 0 */
} act_block;

_Static_assert(sizeof(act_block) == 128, "two cache lines");

#endif
