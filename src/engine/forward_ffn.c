/* forward_ffn.c - feed-forward blocks: dense, and mixtures of experts.
 *
 * Sources: Shazeer 2020, "GLU Variants Improve Transformer"; Shazeer et al. 2017, "Outrageously
 * Large Neural Networks"; Dai et al. 2024, "DeepSeekMoE" (shared experts). */
#include "engine/forward_internal.h"

/* The numbers of gpt-oss, the one family with such gates; no key holds them.
 * Source: OpenAI 2025, gpt-oss model code. */
static const float swiglu_alpha = 1.702f, swiglu_limit = 7.0f;

static op_act ffn_act(const forward *f) {
    bool clamped = f->h->act == ACT_SWIGLU_CLAMPED;
    return (op_act){
        .kind = f->h->act, .a = clamped ? swiglu_alpha : 0, .b = clamped ? swiglu_limit : 0};
}

/* down(act(gate(n)) * up(n)), or down(act(up(n))) */
static value_id dense(const forward *f, const model_linear *gate, const model_linear *up,
                      const model_linear *down, value_id n) {
    value_id y = VALUE_NONE; /* [rows, n_ff] */
    if (model_has(&gate->w)) {
        value_id g = forward_linear(f, n, gate);
        y = pg_act_mul(f->p, g, forward_linear(f, n, up), ffn_act(f));
    } else {
        y = pg_act(f->p, forward_linear(f, n, up), ffn_act(f));
    }
    return forward_linear(f, y, down);
}

/* --- mixture of experts -------------------- */

static value_id route(const forward *f, const model_layer *l, value_id n) {
    const model_experts *e = &f->h->experts;
    return pg_route(f->p, forward_linear(f, n, &l->router),
                    (op_route){.kind = e->route,
                               .experts = e->count,
                               .used = e->used,
                               .normalize = e->normalize,
                               .scale = e->scale,
                               .bias = l->router_choice.data,
                               .groups = e->groups,
                               .groups_used = e->groups_used});
}

/* The matrix `w` of each used expert: one result per row and used expert. */
static value_id each_expert(const forward *f, value_id x, value_id routed, const model_tensor *w,
                            const model_tensor *bias, bool shared_in) {
    const model_experts *e = &f->h->experts;
    weight *list = pg_weights(f->p, e->count);
    for (uint32_t i = 0; i < e->count; i++) list[i] = forward_weight(&w->parts[i]);
    return pg_experts(f->p, x, routed,
                      (op_experts){.w = list,
                                   .experts = e->count,
                                   .used = e->used,
                                   .bias = bias->data,
                                   .shared_in = shared_in});
}

static value_id experts(const forward *f, const model_layer *l, value_id n) {
    value_id routed = route(f, l, n);
    value_id y = each_expert(f, n, routed, &l->up_exps, &l->up_exps_bias, true);
    if (model_has(&l->gate_exps)) {
        value_id g = each_expert(f, n, routed, &l->gate_exps, &l->gate_exps_bias, true);
        y = pg_act_mul(f->p, g, y, ffn_act(f));
    } else {
        y = pg_act(f->p, y, ffn_act(f));
    }
    y = each_expert(f, y, routed, &l->down_exps, &l->down_exps_bias, false);
    return pg_experts_sum(f->p, y, routed, f->h->experts.used);
}

/* The expert that every row visits; a router of its own may weigh it (Qwen2-MoE). */
static value_id shared_expert(const forward *f, const model_layer *l, value_id n) {
    value_id y = dense(f, &l->shared_gate, &l->shared_up, &l->shared_down, n);
    if (!model_has(&l->shared_router)) return y;
    value_id s = forward_act(f, forward_matmul(f, n, &l->shared_router), ACT_SIGMOID);
    return pg_mul_col(f->p, y, s);
}

value_id forward_ffn(const forward *f, const model_layer *l, value_id n) {
    if (!model_has(&l->router.w)) return dense(f, &l->gate, &l->up, &l->down, n);
    value_id y = experts(f, l, n);
    return model_has(&l->shared_up.w) ? pg_add(f->p, y, shared_expert(f, l, n)) : y;
}
