/* net.h - a model with its activations: batches in, loss and gradients out.
 *
 * Weights and gradients are borrowed arrays of shape_params() floats.  A batch is whole documents
 * one behind the other, without padding; attention stays within each.  The embedding is also the
 * output matrix.  Nothing is allocated after creation.
 * Owner: the thread that created it, together with the pool of its crew. */
#ifndef TRAIN_NET_H
#define TRAIN_NET_H

#include "train/layers.h"
#include "train/shape.h"

typedef struct doc_batch {
    uint32_t tokens;
    const int32_t *ids;        /* [tokens] */
    const int32_t *targets;    /* [tokens] the next one; any id where the weight is 0 */
    const float *weights;      /* [tokens] of the losses */
    const uint32_t *positions; /* [tokens] within the document */
    uint32_t docs;
    const uint32_t *begins; /* [docs + 1] */
} doc_batch;

typedef struct net net;

/* For batches of up to tokens_max tokens.  The shape has been checked.  ERR_NOMEM. */
NODISCARD status net_create(net **out, const shape *s, const crew *c, uint32_t tokens_max,
                            error *err);
/* Harmless on NULL. */
void net_destroy(net *n);

/* Sum of weight * loss over the batch. */
double net_loss(net *n, const float *params, const doc_batch *b);

/* The same, and grads += its gradient times `scale`. */
double net_gradient(net *n, const float *params, float *grads, const doc_batch *b, float scale);

/* logits [tokens, vocab] of every token; weights and targets are not looked at. */
void net_logits(net *n, const float *params, const doc_batch *b, float *logits);

#endif
