/* cuda_halves.c - matrices of BF16 for cards whose tensor cores know F16 only.
 *
 * Cards before compute capability 8.0 multiply no BF16 on tensor cores, and so prompts would stream
 * such a matrix once for every four of their rows.  As F16 it takes the same bytes, and is the same
 * numbers but for those below 2^-17, which round to multiples of 2^-24.  So a matrix becomes F16 if
 * all of it is in range and the rounding can take no more than LOSS_MAX of its square; the others
 * stay what they are.  That takes a look at all elements, once, when an instance opens.
 *
 * Activations of prompts are then rounded to F16 as well, and such beyond 65504 become that
 * (halves.h), as with weights that are stored as F16. */
#include <string.h>

#include "backend/cuda/cuda_internal.h"
#include "tensor/convert.h"

enum {
    MAGNITUDE = 0x7fff,
    TOO_LARGE = 0x4780, /* 2^16: f16 ends at 65504, and BF16 has nothing between 65280 and this */
    ROUNDED = 0x3700,   /* 2^-17: below it BF16 has more digits than F16 */
    PIECE = 4096,       /* elements at a time */
    SQUARE_ROWS = 16,   /* of so many rows one is squared: what the square is at least */
};
static const double LOSS_MAX = 1e-9;        /* of the square of the matrix */
static const double ROUNDING_MAX = 0x1p-25; /* of an element */

typedef struct halves_look {
    int largest;
    uint64_t rounded; /* elements, at most */
    double square;    /* at least */
} halves_look;

/* Whole numbers of 16 bits: compilers make eight or more at a time of them. */
static void look_at_piece(halves_look *l, const uint8_t *from, uint32_t count) {
    int16_t bits[PIECE], largest = 0, rounded = 0;
    memcpy(bits, from, count * sizeof *bits);
    for (uint32_t i = 0; i < count; i++) {
        const int16_t size = (int16_t)(bits[i] & MAGNITUDE);
        if (size > largest) largest = size;
        rounded = (int16_t)(rounded + ((size > 0) & (size < ROUNDED)));
    }
    l->largest = largest > l->largest ? largest : l->largest;
    l->rounded += (uint64_t)rounded;
}

static void add_square(halves_look *l, const uint8_t *row, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) {
        uint16_t bits;
        memcpy(&bits, row + (size_t)c * sizeof bits, sizeof bits);
        const double x = convert_bf16_to_f32(bits);
        l->square += x * x;
    }
}

bool cuda_halves_fit(const weight *w, cuda_conversion *how) {
    halves_look l = {0};
    const uint8_t *row = w->data;
    const size_t row_bytes = (size_t)w->cols * sizeof(uint16_t);
    for (uint32_t r = 0; r < w->rows && l.largest < TOO_LARGE; r++, row += row_bytes) {
        for (uint32_t c = 0; c < w->cols; c += PIECE)
            look_at_piece(&l, row + (size_t)c * sizeof(uint16_t), num_min_u32(w->cols - c, PIECE));
        if (r % SQUARE_ROWS == 0) add_square(&l, row, w->cols);
    }
    if (l.largest >= TOO_LARGE) return false;
    *how = l.rounded == 0 ? CUDA_EXACT : CUDA_ROUNDED;
    return (double)l.rounded * ROUNDING_MAX * ROUNDING_MAX <= LOSS_MAX * l.square;
}

/* All matrices of an op, or none: experts are read by one kernel. */
static void convert(cuda_weight *placed, uint32_t count) {
    cuda_conversion how = CUDA_EXACT;
    for (uint32_t i = 0; i < count; i++) {
        cuda_conversion one = CUDA_EXACT;
        if (!cuda_halves_fit(placed[i].w, &one)) return;
        if (one > how) how = one;
    }
    for (uint32_t i = 0; i < count; i++) {
        placed[i].form = CK_FORM_F16;
        placed[i].how = how;
    }
}

void cuda_layout_halve(cuda_layout *l, const cuda_device *d) {
    const program *p = l->p;
    if (d->kernels[CUDA_k_gemm_bf16].function != NULL) return;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const op *o = &p->ops[i];
        const bool experts = o->kind == OP_EXPERTS;
        if (!experts && o->kind != OP_MATMUL) continue;
        cuda_weight *placed = &l->weights[l->op_weights[i]];
        if (placed->form != CK_FORM_BF16 || p->values[o->out].rows != ROWS_ALL) continue;
        convert(placed, experts ? o->experts.experts : 1);
    }
}
