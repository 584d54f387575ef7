/* forward_internal.h - what the files of a forward pass share.
 *
 * Every function appends ops to the program and returns the value that they make.  A part that the
 * model does not have costs nothing: its input is its result. */
#ifndef ENGINE_FORWARD_INTERNAL_H
#define ENGINE_FORWARD_INTERNAL_H

#include "engine/forward.h"

typedef struct forward {
    program *p;
    const model *m;
    const model_hparams *h; /* of m */
} forward;

/* --- forward.c: building bricks -------------------- */
weight forward_weight(const model_tensor *t);
value_id forward_matmul(const forward *f, value_id x, const model_tensor *w);
value_id forward_linear(const forward *f, value_id x, const model_linear *l);
value_id forward_act(const forward *f, value_id x, act_kind kind);
value_id forward_scale(const forward *f, value_id x, float scale);
value_id forward_norm(const forward *f, value_id x, const model_norm *n);
/* Each `group` columns on their own; 0: all together. */
value_id forward_norm_groups(const forward *f, value_id x, const model_norm *n, uint32_t group,
                             norm_kind kind, float eps);

/* --- blocks: what is added to the residual stream -------------------- */
/* n, the normalised rows -> [rows, n_embd] */
value_id forward_attention(const forward *f, const model_layer *l, value_id n);
value_id forward_latent_attention(const forward *f, const model_layer *l, value_id n);
value_id forward_ffn(const forward *f, const model_layer *l, value_id n);

/* --- layers: the residual stream x before and after -------------------- */
value_id forward_mamba_layer(const forward *f, const model_layer *l, value_id x);
value_id forward_rwkv6_layer(const forward *f, const model_layer *l, uint32_t layer, value_id x);

#endif
