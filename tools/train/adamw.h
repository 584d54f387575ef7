/* adamw.h - the optimizer: Adam with weight decay apart from the gradient, or, with `muon`, that for
 * the embedding and gains and muon.h for the matrices of the blocks.
 *
 * Matrices decay, gains of norms do not.  Gradients are clipped to a length over all tensors
 * together.  Source: Kingma and Ba 2015; Loshchilov and Hutter 2019, "Decoupled weight decay
 * regularization"; clipping, Pascanu et al. 2013. */
#ifndef TRAIN_ADAMW_H
#define TRAIN_ADAMW_H

#include "train/layers.h"
#include "train/muon.h"
#include "train/shape.h"

typedef struct adamw_options {
    float beta1, beta2, eps;
    float decay; /* per step and unit of learning rate */
    float clip;  /* longest gradient; 0: no limit */
    bool muon;
    float momentum; /* of muon */
} adamw_options;

typedef struct adamw {
    shape shape;
    size_t count;  /* parameters */
    float *m, *v;  /* [count] moments, owned; muon has its momentum in m, and no v */
    double *parts; /* of the gradient's length, owned */
    muon muon;
    uint32_t steps; /* done so far */
} adamw;

NODISCARD status adamw_init(adamw *a, const shape *s, error *err);
void adamw_deinit(adamw *a);

/* One step on params [count]; returns the length of grads before clipping.  When that is no number
 * nothing is changed. */
float adamw_step(adamw *a, const crew *c, const adamw_options *opt, float rate, float *params,
                 const float *grads);

#endif
