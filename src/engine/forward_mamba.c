/* forward_mamba.c - a Mamba layer: a selective state space between two gates, and no attention.
 *
 *   [x | z] = in(norm(stream));  x = silu(conv(x));  [dt | B | C] = project(x)
 *   dt = softplus(dt_proj(dt));  y = scan(x, dt, A, B, C, D);  stream += out(y * silu(z))
 * Source: Gu & Dao 2023, "Mamba", section 3.4; Zuo et al. 2024, "Falcon Mamba" (norms of dt, B
 * and C); docs/models/mamba.md. */
#include "engine/forward_internal.h"

value_id forward_mamba_layer(const forward *f, const model_layer *l, value_id stream) {
    program *p = f->p;
    value_id n = forward_norm(f, stream, &l->attn_norm);
    value_id x = forward_matmul(f, n, &l->ssm_x); /* [rows, ssm_inner] */
    value_id z = forward_matmul(f, n, &l->ssm_z); /* [rows, ssm_inner] */
    x = pg_conv(p, x, l->ssm_conv.data, l->ssm_conv_bias.data, f->h->ssm_conv);
    x = forward_act(f, x, ACT_SILU);

    value_id dt = forward_matmul(f, x, &l->ssm_dt_in); /* [rows, dt_rank] */
    value_id b = forward_matmul(f, x, &l->ssm_b);      /* [rows, states] */
    value_id c = forward_matmul(f, x, &l->ssm_c);      /* [rows, states] */
    dt = forward_norm(f, dt, &l->ssm_dt_norm);
    b = forward_norm(f, b, &l->ssm_b_norm);
    c = forward_norm(f, c, &l->ssm_c_norm);
    dt = forward_act(f, forward_linear(f, dt, &l->ssm_dt), ACT_SOFTPLUS); /* [rows, ssm_inner] */

    value_id y = pg_scan(p, x, dt, b, c, l->ssm_a.data, l->ssm_d.data, f->h->ssm_state);
    y = pg_act_mul(p, z, y, (op_act){.kind = ACT_SILU});
    return pg_add(p, stream, forward_matmul(f, y, &l->ssm_out));
}
