/* forward_rwkv6.c - an RWKV-6 layer: a matrix of memory per head, then a mix of channels.
 *
 * Both parts look at a blend of their row and the row before it; in the time mix each of the five
 * inputs learns from the row itself how much of its predecessor it takes.
 * Source: Peng et al. 2024, "Eagle and Finch", section 3; model/rwkv6.h names the weights. */
#include "engine/forward_internal.h"
#include "model/rwkv6.h"

/* The row before, minus the row. */
static value_id step_back(const forward *f, value_id n) {
    value_id prev = pg_shift(f->p, n);
    return pg_add(f->p, prev, forward_scale(f, n, -1.0f));
}

/* up . tanh(down . x) + bias */
static value_id low_rank(const forward *f, value_id x, const model_tensor *down,
                         const model_linear *up) {
    return forward_linear(f, forward_act(f, forward_matmul(f, x, down), ACT_TANH), up);
}

/* n + share * diff, where a fixed row says how much of each column. */
static value_id blend(const forward *f, value_id n, value_id diff, const model_tensor *share) {
    return pg_add(f->p, n, pg_mul_row(f->p, diff, share->data));
}

static value_id time_mix(const forward *f, const struct model_rwkv6 *w, value_id n) {
    program *p = f->p;
    value_id diff = step_back(f, n), in[RWKV6_MIXES];
    value_id mix = blend(f, n, diff, &w->lerp_x);
    for (int i = 0; i < RWKV6_MIXES; i++) {
        value_id share = low_rank(f, mix, &w->mix_down[i], &w->mix_up[i]);
        in[i] = pg_add(p, n, pg_mul(p, diff, share));
    }
    value_id r = forward_matmul(f, in[RWKV6_R], &w->receptance); /* [rows, n_embd]; so are all */
    value_id k = forward_matmul(f, in[RWKV6_K], &w->key);
    value_id v = forward_matmul(f, in[RWKV6_V], &w->value);
    value_id g = forward_matmul(f, in[RWKV6_G], &w->gate);
    value_id decay = low_rank(f, in[RWKV6_W], &w->decay_down, &w->decay_up);
    decay = forward_act(f, decay, ACT_EXP_NEG_EXP);

    value_id y = pg_wkv(p, r, k, v, decay, w->first.data, f->h->wkv_dim);
    y = forward_norm_groups(f, y, &w->ln, f->h->wkv_dim, NORM_LAYER, RWKV6_GROUP_EPS);
    y = pg_act_mul(p, g, y, (op_act){.kind = ACT_SILU});
    return forward_matmul(f, y, &w->output);
}

static value_id channel_mix(const forward *f, const struct model_rwkv6 *w, value_id n) {
    value_id diff = step_back(f, n);
    value_id k = forward_matmul(f, blend(f, n, diff, &w->channel_lerp_k), &w->channel_key);
    k = forward_act(f, k, ACT_RELU_SQR); /* [rows, n_ff] */
    value_id r = forward_matmul(f, blend(f, n, diff, &w->channel_lerp_r), &w->channel_receptance);
    value_id v = forward_matmul(f, k, &w->channel_value);
    return pg_act_mul(f->p, r, v, (op_act){.kind = ACT_SIGMOID});
}

value_id forward_rwkv6_layer(const forward *f, const model_layer *l, uint32_t layer, value_id x) {
    uint32_t every = f->h->wkv_rescale_every;
    x = pg_add(f->p, x, time_mix(f, l->rwkv, forward_norm(f, x, &l->attn_norm)));
    x = pg_add(f->p, x, channel_mix(f, l->rwkv, forward_norm(f, x, &l->ffn_norm)));
    bool halve = every != 0 && (layer + 1) % every == 0;
    return halve ? forward_scale(f, x, 0.5f) : x;
}
