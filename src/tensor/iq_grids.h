/* iq_grids.h - the codebooks of the IQ types, and other levels of unequal steps.
 *
 * These types store groups of eight or four magnitudes as one number: the index of a point in a
 * codebook that is part of the format.  A codebook is a selection from all points whose
 * coordinates take a few levels, in ascending order of the point's number; the first
 * coordinate is its lowest digit.  So one bit per possible point says everything, and the
 * tables below are made from those bits once, at first use.  Any thread; never freed.
 * Source: the values are facts of the GGUF types (ggml-common.h); the form is ours. */
#ifndef TENSOR_IQ_GRIDS_H
#define TENSOR_IQ_GRIDS_H

#include <stdint.h>

typedef struct iq_grids {
    int8_t iq2_xxs[256][8]; /* 8, 25, 43 */
    int8_t iq2_xs[512][8];
    int8_t iq2_s[1024][8];
    int8_t iq3_xxs[256][4]; /* 4, 12, 20, 28, 36, 44, 52, 62 */
    int8_t iq3_s[512][4];   /* 1, 3, 5, .. 15 */
    int8_t iq1[2048][8];    /* -1, 0, 1: IQ1_S and IQ1_M */
} iq_grids;

const iq_grids *iq_grids_get(void);

/* The 16 levels of IQ4_NL and IQ4_XS: steps that widen away from zero. */
extern const int8_t iq4_levels[16];
/* Those of MXFP4 and NVFP4, doubled: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. */
extern const int8_t e2m1_levels[16];

#endif
