/* cuda_planar.h - weights as the GPU's kernels read them.
 *
 * A quantized block of GGUF keeps scales and codes together and starts at any even address; a warp
 * wants 512 neighbouring, aligned bytes per load.  So the bits of each matrix are sorted into
 * planes (cuda/abi.h has the table), at load, on the host, some rows at a time: the ranges that
 * rows take in the planes do not overlap, and a loader may pack any rows in any order and by many
 * threads. Five quantized types are only permuted and can be had back bit by bit; the other types
 * become one of the forms by cuda_planar_choose().  Pure functions, any thread.
 *
 * The order of the bits, with element numbers counted within a group of cols/32, cols/64 or
 * cols/256, whose bytes are neighbours in their plane:
 *   Q8_0        as stored, the codes cut in two granules
 *   Q4_0        as stored: byte k has element k in its low half and k + 16 in its high half
 *   Q4_K, Q5_K  of 64: plane 0 byte k has elements k and k + 32, plane 1 byte k elements k + 16 and
 *               k + 48; the 16 bytes of scales as stored.  Fifth bits, two words: bit 8 b + w of
 *               the first is that of element 4 w + b, of the second of element 32 + 4 w + b
 *   Q6_K        of 64: plane 0 byte k has the low nibbles of k and k + 16, plane 1 byte k those of
 *               k + 32 and k + 48, plane 2 byte k the upper pairs of k, k + 16, k + 32 and k + 48
 *               from its lowest bits up; four scales of 16 elements each in order
 * Source: the block structs of ggml-common.h, in words at tensor/dequant_*.c. */
#ifndef BACKEND_CUDA_PLANAR_H
#define BACKEND_CUDA_PLANAR_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"
#include "backend/program.h"
#include "base/error.h"

/* What a weight loses on its way into its form. */
typedef enum cuda_conversion {
    CUDA_AS_STORED, /* nothing, and its bytes are the same in another order */
    CUDA_EXACT,     /* nothing: every element is the same number */
    CUDA_ROUNDED    /* elements are rounded to nearest, to f16 or f32 */
} cuda_conversion;

/* "as stored", "converted exactly", "rounded" */
const char *cuda_conversion_name(cuda_conversion c);
/* "F32", "Q4_K" ... */
const char *cuda_form_name(ck_form form);

/* The form that weights of type t get when their values allow it; false for integers, which are no
 * weights. */
bool cuda_planar_form(dtype t, ck_form *out);
/* What that form makes of them. */
cuda_conversion cuda_planar_conversion(dtype t);

/* The form of this weight.  Reads all of it where the form has less range than the type: a matrix
 * with an element beyond the largest f16 becomes F32, and one of MXFP4 with scales below the
 * smallest f16 is rounded.  Packed matrices become F16, or F32 where their scales could need it.
 * `how` may be NULL. */
ck_form cuda_planar_choose(const weight *w, cuda_conversion *how);

/* May a matrix of this form have so many columns? */
bool cuda_planar_cols_fit(ck_form form, uint32_t cols);

/* Bytes that a row takes in each plane; 0 in planes that the form lacks. */
void cuda_planar_row_bytes(ck_form form, uint32_t cols, uint64_t out[CK_PLANES_MAX]);

/* Where the planes of a matrix begin, from its first byte, 256-aligned, and what it takes in all,
 * a multiple of 256.  Row r lies in plane p at offsets[p] + r * row_bytes[p].  Planes that the form
 * lacks get the offset of the end.  False when cols does not fit the form, on overflow, or with
 * more than 2^32 granules in a plane, which kernels do not count. */
bool cuda_planar_sizes(ck_form form, uint32_t rows, uint32_t cols, uint64_t offsets[CK_PLANES_MAX],
                       uint64_t *bytes);

/* Rows row0 .. row0 + rows - 1 of w (of the view: w->row0 is not part of row0) into buffers that
 * stand for their ranges of the planes: plane_out[p] gets rows * row_bytes[p] bytes.  The form is
 * the one of cuda_planar_choose().  ERR_NOMEM: packed matrices are unpacked through f32 rows, eight
 * at a time, so begin at multiples of eight with them. */
NODISCARD status cuda_planar_pack(ck_form form, const weight *w, uint32_t row0, uint32_t rows,
                                  void *const plane_out[CK_PLANES_MAX], error *err);

/* The way back: `rows` rows of the stored type of that name, from planes as pack made them. */
void cuda_planar_unpack(ck_form form, uint32_t cols, uint32_t rows,
                        const void *const planes[CK_PLANES_MAX], void *rows_out);

#endif
