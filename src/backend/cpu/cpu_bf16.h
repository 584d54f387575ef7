/* cpu_bf16.h - products of prompt rows on matrix units (Intel AMX), mode `fast` only.
 *
 * A run of weight rows becomes a panel of bf16 once per step, whatever its type; the activations
 * of prompt rows are rounded to bf16 where their digits are made; sums are f32 in the tiles over
 * the whole width, so there is no scale to apply behind them.  Every prompt row goes this way
 * however few there are, so that its bits do not depend on the others.
 *
 *   panel of a group of PACK_ROWS weight rows:  [cols / 2][16 rows][2] bf16
 *
 * The order in which the unit sums is its own (Intel SDM, TDPBF16PS); another machine may give
 * other bits.  Owner: the cpu backend. */
#ifndef BACKEND_CPU_CPU_BF16_H
#define BACKEND_CPU_CPU_BF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cpu/cpu_pack.h"

enum {
    BF16_COLS = 32,  /* columns of one tile: widths are multiples */
    BF16_ROWS = 32,  /* activation rows at a time */
    BF16_GROUPS = 4, /* groups of weight rows at most */
};

typedef struct bf16_args {
    const uint16_t *panel; /* [groups] panels one behind the other */
    uint32_t groups;       /* 1..BF16_GROUPS */
    uint32_t cols;         /* a multiple of BF16_COLS */
    const uint16_t *x;     /* [rows] bf16, row r at x + r * x_stride */
    size_t x_stride;       /* elements */
    uint32_t rows;         /* 1..BF16_ROWS */
    float *out;            /* [rows][groups * PACK_ROWS] */
} bf16_args;

typedef struct bf16_kernels {
    /* nearest bf16, ties to even */
    void (*round)(const float *x, uint16_t *out, uint32_t cols);
    /* `blocks` blocks of packed weights to a panel */
    void (*from_codes)(const pack_panel *p, uint32_t blocks, uint16_t *panel);
    /* [PACK_ROWS][stride] f32 of `cols` columns to a panel */
    void (*from_rows)(const float *rows, size_t stride, uint32_t cols, uint16_t *panel);
    /* out = x . panel^T */
    void (*multiply)(const bf16_args *a);
} bf16_kernels;

/* NULL: this machine has no AMX-BF16, or the system does not allow it, or it computes wrongly: it
 * is tried on a small product first. */
const bf16_kernels *cpu_bf16_find(void);
/* That small product, for tests of other implementations. */
bool cpu_bf16_is_right(const bf16_kernels *k);

#if defined(__x86_64__)
extern const bf16_kernels cpu_bf16_amx;
#endif

#endif
