/* muon.h - the optimizer for matrices: momentum, made orthogonal.
 *
 * The gradient's momentum, with Nesterov's look ahead, is a matrix M = U S V^T; the step goes along
 * U V^T, near enough: all directions at once, not only those few that the gradient is long in.
 * Newton and Schulz's iteration finds it with products alone:
 *
 *   X = M / |M|     five times:  X = a X + b (X X^T) X + c (X X^T)^2 X
 *
 * whose singular values end between 0.7 and 1.2.  A step has the length of one of AdamW: times
 * 0.2 sqrt(max(rows, cols)), so that rate and decay mean the same in both.
 * Sources: Jordan et al. 2024, "Muon"; Liu et al. 2025, "Muon is scalable for LLM training".
 * Owner: whoever holds the struct, together with the pool of its crew. */
#ifndef TRAIN_MUON_H
#define TRAIN_MUON_H

#include "train/layers.h"
#include "train/shape.h"

typedef struct muon_room muon_room;

typedef struct muon {
    shape shape;
    uint32_t count;   /* matrices of the blocks */
    muon_room *rooms; /* [count] owned: what the work on each needs */
    float *memory;    /* of all rooms, owned */
} muon;

NODISCARD status muon_init(muon *m, const shape *s, error *err);
void muon_deinit(muon *m);

/* Is this a tensor for it?  Matrices of the blocks are; the embedding, which is read by rows, and
 * gains are not. */
bool muon_takes(const shape_tensor *t);

typedef struct muon_scalars {
    float momentum;
    float rate, decay; /* keeps 1 - rate * decay of the weights */
    float grad_scale;  /* of clipping */
} muon_scalars;

/* One step of all its tensors; params, momentum and grads are arrays of shape_params(), which hold
 * finite numbers only. */
void muon_step(muon *m, const crew *c, const muon_scalars *s, float *params, float *momentum,
               const float *grads);

#endif
