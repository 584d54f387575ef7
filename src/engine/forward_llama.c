/* forward_llama.c - the Llama forward pass: pre-norm attention with rotary positions and
 * grouped KV heads, then a gated feed-forward block, each added to the residual stream.
 * Source: Touvron et al. 2023, "LLaMA"; docs/models/llama.md tells every detail. */
#include <math.h>

#include "engine/forward.h"

static weight w(const model_tensor *t) { return (weight){t->type, t->rows, t->cols, t->data}; }

static value_id layer(program *p, const model *m, const model_layer *l, value_id x) {
    const model_hparams *h = &m->hparams;
    op_rope rope = {.heads = h->heads,
                    .head_dim = h->head_dim,
                    .dims = h->rope_dims,
                    .base = h->rope_base,
                    .scale = h->rope_scale,
                    .freqs = m->rope_freqs.data};
    op_rope rope_k = rope;
    rope_k.heads = h->kv_heads;
    op_attention attn = {.heads = h->heads,
                         .kv_heads = h->kv_heads,
                         .head_dim = h->head_dim,
                         .scale = 1.0f / sqrtf((float)h->head_dim)};

    value_id n = pg_norm_rms(p, x, w(&l->attn_norm), h->norm_eps); /* [rows, n_embd] */
    value_id q = pg_matmul(p, n, w(&l->wq), l->bq.data);           /* [rows, heads * head_dim] */
    value_id k = pg_matmul(p, n, w(&l->wk), l->bk.data);           /* [rows, kv_heads * head_dim] */
    value_id v = pg_matmul(p, n, w(&l->wv), l->bv.data);
    q = pg_rope(p, q, rope);
    k = pg_rope(p, k, rope_k);
    pg_kv_write(p, k, v);
    value_id a = pg_attention(p, q, attn);
    x = pg_add(p, x, pg_matmul(p, a, w(&l->wo), l->bo.data));

    n = pg_norm_rms(p, x, w(&l->ffn_norm), h->norm_eps);
    value_id gate = pg_matmul(p, n, w(&l->w_gate), l->b_gate.data); /* [rows, n_ff] */
    value_id up = pg_matmul(p, n, w(&l->w_up), l->b_up.data);
    value_id f = pg_act_mul(p, gate, up);
    return pg_add(p, x, pg_matmul(p, f, w(&l->w_down), l->b_down.data));
}

status forward_record(program **out, const model *m, uint32_t rows_max, uint32_t taken_rows_max,
                      uint32_t ctx_max, error *err) {
    program *p = NULL;
    TRY(program_create(&p, rows_max, taken_rows_max, ctx_max, err));
    value_id x = pg_embed(p, w(&m->token_embd));
    for (uint32_t i = 0; i < m->hparams.layers; i++) {
        pg_layer(p, i);
        x = layer(p, m, &m->layers[i], x);
    }
    x = pg_norm_rms(p, pg_take_rows(p, x), w(&m->output_norm), m->hparams.norm_eps);
    value_id logits = pg_matmul(p, x, w(&m->output), NULL); /* [taken rows, vocab] */
    status st = program_finish(p, logits, err);
    if (st != OK) {
        program_destroy(p);
        return st;
    }
    *out = p;
    return OK;
}
