/* rwkv6.h - the weights of an RWKV-6 layer and the computation that they are cut for.
 *
 * A layer mixes over time, with a matrix-valued state per head, and then over channels; both look
 * at the row before theirs (`prev`, zeros before position 0).  D is n_embd, every f32 vector
 * [D] stands in `data`.  In the words of backend/program.h, with h = hparams, w = *layer.rwkv:
 *
 *   x = pg_norm(pg_embed(token_embd), model.embd_norm)        LayerNorm, eps h.norm_eps, as are all
 *   for each layer:                                           norms below but w.ln
 *     n    = pg_norm(x, layer.attn_norm)
 *     diff = pg_add(pg_shift(n), pg_act(n, ACT_SCALE a = -1))               prev - n
 *     mix  = pg_add(n, pg_mul_row(diff, w.lerp_x))
 *     for i in RWKV6_W .. RWKV6_G:                            how much of prev, for each of five
 *       m[i]  = pg_matmul(pg_act(pg_matmul(mix, w.mix_down[i]), ACT_TANH), w.mix_up[i].w, .bias)
 *       in[i] = pg_add(n, pg_mul(diff, m[i]))
 *     r, k, v = pg_matmul(in[RWKV6_R], w.receptance), (in[RWKV6_K], w.key), (in[RWKV6_V], w.value)
 *     g    = pg_act(pg_matmul(in[RWKV6_G], w.gate), ACT_SILU)
 *     d    = pg_matmul(pg_act(pg_matmul(in[RWKV6_W], w.decay_down), ACT_TANH), w.decay_up.w, .bias)
 *     d    = pg_act(d, ACT_EXP_NEG_EXP)
 *     y    = pg_wkv(r, k, v, d, w.first, h.wkv_dim)
 *     y    = pg_norm(y, w.ln: NORM_LAYER, group h.wkv_dim, eps RWKV6_GROUP_EPS, gain_len D)
 *     x    = pg_add(x, pg_matmul(pg_mul(y, g), w.output))
 *
 *     n    = pg_norm(x, layer.ffn_norm)
 *     diff = prev - n, as above, with a pg_shift of its own
 *     k    = pg_act(pg_matmul(pg_add(n, pg_mul_row(diff, w.channel_lerp_k)), w.channel_key),
 *                   ACT_RELU_SQR)
 *     r    = pg_act(pg_matmul(pg_add(n, pg_mul_row(diff, w.channel_lerp_r)), w.channel_receptance),
 *                   ACT_SIGMOID)
 *     x    = pg_add(x, pg_mul(r, pg_matmul(k, w.channel_value)))
 *     if h.wkv_rescale_every != 0 and (layer index + 1) % h.wkv_rescale_every == 0:
 *       x  = pg_act(x, ACT_SCALE a = 0.5)
 *   logits = pg_matmul(pg_norm(x, model.output_norm), model.output)
 *
 * The five low-rank adapters are stored as one matrix down and one stack up; here each is a slice
 * of its own, and the static part of a mix is the bias of its matrix up, as the static decay is.
 * Source: Peng et al. 2024, "Eagle and Finch: RWKV with Matrix-Valued States and Dynamic
 * Recurrence", section 3; docs/models/rwkv6.md. */
#ifndef MODEL_RWKV6_H
#define MODEL_RWKV6_H

#include "model/model.h"

/* 1e-5 times the square of the head-size divisor (8) of the model's training code; it is in no key
 * of the file. */
#define RWKV6_GROUP_EPS 64e-5f

/* What the five mixes are for, in the order of the fused tensors. */
enum { RWKV6_W, RWKV6_K, RWKV6_V, RWKV6_R, RWKV6_G, RWKV6_MIXES };

struct model_rwkv6 {
    /* time mix */
    model_tensor lerp_x;                               /* [D] f32 */
    model_tensor mix_down[RWKV6_MIXES];                /* [wkv_mix_rank, D] */
    model_linear mix_up[RWKV6_MIXES];                  /* [D, wkv_mix_rank] and [D] */
    model_tensor decay_down;                           /* [wkv_decay_rank, D] */
    model_linear decay_up;                             /* [D, wkv_decay_rank] and [D] */
    model_tensor first;                                /* [D] f32, head after head */
    model_tensor receptance, key, value, gate, output; /* [D, D] */
    model_norm ln;                                     /* of each head; [D] */

    /* channel mix */
    model_tensor channel_lerp_k, channel_lerp_r; /* [D] f32 */
    model_tensor channel_key;                    /* [n_ff, D] */
    model_tensor channel_value;                  /* [D, n_ff] */
    model_tensor channel_receptance;             /* [D, D] */
};

#endif
