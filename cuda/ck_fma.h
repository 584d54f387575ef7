/* ck_fma.h - multiply and add with one rounding, said out loud.
 *
 * Compilers for GPUs fuse a * b + c as they see fit, those for CPUs are told not to.  Where the
 * products are computed every sum of a product is therefore written with this word: a kernel then
 * gives the same bits in each of its variants, by each compiler, and on the software GPU. */
#ifndef CUDA_CK_FMA_H
#define CUDA_CK_FMA_H
#include "ck.h"

CK_DEV float ck_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

#endif
