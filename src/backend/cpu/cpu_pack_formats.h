/* cpu_pack_formats.h - what the types look like packed (cpu_pack.h), as a list: for the table of
 * formats, and for kernels that are compiled once for every type. */
#ifndef BACKEND_CPU_CPU_PACK_FORMATS_H
#define BACKEND_CPU_CPU_PACK_FORMATS_H

#include "backend/cpu/cpu_pack.h"

/* Bytes. */
enum {
    PLANE_VECTOR = PACK_ROWS * 4,    /* a vector of a plane */
    HALF_VECTOR = PACK_ROWS * 2,     /* f16 [16] */
    NIBBLE_PLANE = 4 * PLANE_VECTOR, /* the planes of a block */
    TWO_PLANE = 2 * PLANE_VECTOR,
    ONE_PLANE = PLANE_VECTOR,
    BYTE_PLANE = PACK_VECTORS * PLANE_VECTOR
};

/* Bytes of a superblock's scales by their form. */
enum {
    HALF_BYTES = HALF_VECTOR,
    HALF_MIN_BYTES = 2 * HALF_VECTOR,
    K32_BYTES = 2 * HALF_VECTOR + 8 * 2 * PACK_ROWS,
    K16_BYTES = 2 * HALF_VECTOR + 16 * 2 * PACK_ROWS,
    SIGNED32_BYTES = HALF_VECTOR + 8 * PACK_ROWS,
    SIGNED16_BYTES = HALF_VECTOR + 16 * PACK_ROWS,
    POWER_BYTES = PACK_ROWS
};

/* X(type, packer, nibbles, twos, ones, bytes, table, form, zero, subs, super_blocks); the table is
 * none, iq4 or e2m1 */
#define PACK_FORMATS(X)                                     \
    X(Q4_0, q4_0, 1, 0, 0, 0, none, HALF, 8, 1, 1)          \
    X(Q4_1, q4_1, 1, 0, 0, 0, none, HALF_MIN, 0, 1, 1)      \
    X(Q5_0, q5_0, 1, 0, 1, 0, none, HALF, 16, 1, 1)         \
    X(Q5_1, q5_1, 1, 0, 1, 0, none, HALF_MIN, 0, 1, 1)      \
    X(Q8_0, q8_0, 0, 0, 0, 1, none, HALF, 128, 1, 1)        \
    X(Q2_K, q2_k, 0, 1, 0, 0, none, K16, 0, 2, 8)           \
    X(Q3_K, q3_k, 0, 1, 1, 0, none, SIGNED16, 4, 2, 8)      \
    X(Q4_K, q4_k, 1, 0, 0, 0, none, K32, 0, 1, 8)           \
    X(Q5_K, q5_k, 1, 0, 1, 0, none, K32, 0, 1, 8)           \
    X(Q6_K, q6_k, 1, 1, 0, 0, none, SIGNED16, 32, 2, 8)     \
    X(IQ4_NL, iq4_nl, 1, 0, 0, 0, iq4, HALF, 128, 1, 1)     \
    X(IQ4_XS, iq4_xs, 1, 0, 0, 0, iq4, SIGNED32, 128, 1, 8) \
    X(MXFP4, mxfp4, 1, 0, 0, 0, e2m1, POWER, 12, 1, 1)

/* Of a block that has these planes, 1, and not those, 0. */
#define PACK_CODES_BYTES(n, t, o, b) \
    ((n)*NIBBLE_PLANE + (t)*TWO_PLANE + (o)*ONE_PLANE + (b)*BYTE_PLANE)

#endif
