/* test_forward.c - forward.h: the ops that a description becomes, in order.
 *
 * The models are made by hand and never computed: every matrix points at the same zeros.  What the
 * ops compute is tested with them, and whole passes against recorded numbers. */
#include "engine/forward.h"
#include "model/rwkv6.h"
#include "test.h"

enum { EMBD = 8, FF = 6, VOCAB = 10, HEADS = 2, HEAD_DIM = 4, EXPERTS = 3, CTX = 64 };

static const float zeros[VOCAB * EMBD * 4];
static const double freqs_short[2] = {1, 0.5}, freqs_long[2] = {0.5, 0.25};

typedef struct hand {
    model m;
    model_layer layer;
    model_tensor parts[EXPERTS];
    struct model_rwkv6 rwkv;
    program *p;
    char ops[1024]; /* names with a space behind each */
} hand;

static model_tensor matrix(uint32_t rows, uint32_t cols) {
    return (model_tensor){
        .name = S("w"), .type = DTYPE_F32, .rows = rows, .cols = cols, .data = zeros};
}
static model_tensor vector(uint32_t cols) { return matrix(1, cols); }
static model_linear linear(uint32_t rows, uint32_t cols) {
    return (model_linear){.w = matrix(rows, cols)};
}
static model_norm norm(uint32_t cols) { return (model_norm){.on = true, .gain = vector(cols)}; }

/* A Llama of one layer. */
static hand *new_llama(hand *h) {
    model_layer *l = &h->layer;
    *h = (hand){.m = {.hparams = {.vocab = VOCAB,
                                  .n_embd = EMBD,
                                  .layers = 1,
                                  .n_ff = FF,
                                  .ctx_train = CTX,
                                  .heads = HEADS,
                                  .kv_heads = 1,
                                  .head_dim = HEAD_DIM,
                                  .value_dim = HEAD_DIM,
                                  .attn_scale = 0.5f,
                                  .norm_eps = 1e-5f,
                                  .embd_scale = 1,
                                  .residual_scale = 1,
                                  .logit_scale = 1},
                      .token_embd = matrix(VOCAB, EMBD),
                      .output_norm = norm(EMBD),
                      .output = linear(VOCAB, EMBD)}};
    h->m.ropes[0] = (model_rope){.pairs = ROPE_HALVES,
                                 .dims = 4,
                                 .freqs = freqs_short,
                                 .magnitude = 1,
                                 .ctx_short = 32,
                                 .freqs_long = freqs_long,
                                 .magnitude_long = 2};
    *l = (model_layer){.attn_norm = norm(EMBD),
                       .q = linear(HEADS * HEAD_DIM, EMBD),
                       .k = linear(HEAD_DIM, EMBD),
                       .v = linear(HEAD_DIM, EMBD),
                       .o = linear(EMBD, HEADS * HEAD_DIM),
                       .ffn_norm = norm(EMBD),
                       .gate = linear(FF, EMBD),
                       .up = linear(FF, EMBD),
                       .down = linear(EMBD, FF)};
    h->m.layers = l;
    return h;
}

static const program *record(hand *h, uint32_t ctx) {
    program_limits limits = {.rows = 4, .taken = 2, .head = 1, .ctx = ctx, .ctx_asked = ctx};
    size_t n = 0;
    program_destroy(h->p);
    h->p = NULL;
    CHECK_EQ(forward_record(&h->p, &h->m, &limits, NULL), OK);
    for (uint32_t i = 0; i < h->p->ops_count; i++)
        n +=
            (size_t)snprintf(h->ops + n, sizeof h->ops - n, "%s ", op_kind_name(h->p->ops[i].kind));
    return h->p;
}

/* The n-th op of a kind. */
static const op *find(const program *p, op_kind kind, int n) {
    for (uint32_t i = 0; i < p->ops_count; i++)
        if (p->ops[i].kind == kind && n-- == 0) return &p->ops[i];
    CHECK(!"there is such an op");
    static const op none;
    return &none;
}

#define ATTENTION    "MATMUL MATMUL MATMUL ROPE ROPE KV_WRITE ATTENTION MATMUL "
#define FEED_FORWARD "MATMUL MATMUL ACT_MUL MATMUL "
#define HEAD         "TAKE_ROWS NORM TAKE_ROWS MATMUL "

TEST(forward_llama_is_the_paper) {
    hand h;
    const program *p = record(new_llama(&h), CTX);
    CHECK_STR(h.ops, "EMBED NORM " ATTENTION "ADD NORM " FEED_FORWARD "ADD " HEAD);
    const op *a = find(p, OP_ATTENTION, 0);
    CHECK(a->attn.causal && a->attn.heads == HEADS && a->attn.kv_heads == 1);
    CHECK(a->attn.key_dim == HEAD_DIM && a->attn.value_dim == HEAD_DIM && a->attn.scale == 0.5f);
    CHECK(p->values[p->hidden].rows == ROWS_TAKEN && p->values[p->hidden].cols == EMBD);
    CHECK(p->values[p->logits].rows == ROWS_HEAD && p->values[p->logits].cols == VOCAB);
    program_destroy(h.p);
}

TEST(forward_long_factors_hold_where_the_context_is_long) {
    hand h;
    const op *r = find(record(new_llama(&h), 32), OP_ROPE, 0);
    CHECK(r->rope.freqs == freqs_short && r->rope.magnitude == 1);
    CHECK(r->rope.heads == HEADS && r->rope.head_dim == HEAD_DIM && r->rope.first == 0);
    r = find(record(&h, 33), OP_ROPE, 1);
    CHECK(r->rope.freqs == freqs_long && r->rope.magnitude == 2 && r->rope.heads == 1);
    program_destroy(h.p);
}

TEST(forward_traits_stand_where_they_belong) {
    hand h;
    model_hparams *hp = &new_llama(&h)->m.hparams;
    hp->embd_scale = 2;
    hp->residual_scale = 0.5f;
    hp->qkv_clamp = 8;
    hp->logit_scale = 3;
    hp->logit_softcap = 30;
    hp->attn_softcap = 50;
    hp->alibi_slopes = zeros;
    h.layer.window = 7;
    h.layer.rope = MODEL_ROPE_NONE;
    h.layer.sinks = vector(HEADS);
    h.layer.q_norm = norm(HEADS * HEAD_DIM);
    h.layer.k_norm = norm(HEAD_DIM);
    h.layer.qk_norm_group = HEADS * HEAD_DIM; /* the full width, of the keys too */
    h.layer.post_attn_norm = h.layer.post_ffn_norm = norm(EMBD);
    h.m.position_embd = matrix(CTX, EMBD);
    h.m.type_embd = vector(EMBD);
    h.m.embd_norm = norm(EMBD);
    const program *p = record(&h, CTX);
    CHECK_STR(h.ops, "EMBED ACT EMBED_POS ADD ADD_ROW NORM "
                     "NORM MATMUL ACT MATMUL ACT MATMUL ACT NORM NORM KV_WRITE ATTENTION MATMUL "
                     "NORM ACT ADD NORM " FEED_FORWARD "NORM ACT ADD " HEAD "ACT ACT ");
    const op *clamp = find(p, OP_ACT, 1), *a = find(p, OP_ATTENTION, 0);
    CHECK(clamp->act.kind == ACT_CLAMP && clamp->act.a == -8 && clamp->act.b == 8);
    CHECK_EQ(find(p, OP_NORM, 2)->norm.group, HEADS * HEAD_DIM);
    CHECK_EQ(find(p, OP_NORM, 3)->norm.group, HEAD_DIM);
    CHECK(a->attn.window == 7 && a->attn.softcap == 50);
    CHECK(a->attn.sinks == zeros && a->attn.slopes == zeros);
    CHECK(find(p, OP_ACT, 6)->act.kind == ACT_SCALE && find(p, OP_ACT, 6)->act.a == 3);
    CHECK(find(p, OP_ACT, 7)->act.kind == ACT_SOFTCAP && find(p, OP_ACT, 7)->act.a == 30);
    program_destroy(h.p);
}

TEST(forward_parallel_blocks_read_the_same_rows) {
    hand h;
    new_llama(&h)->m.hparams.parallel = true;
    const program *p = record(&h, CTX);
    CHECK_STR(h.ops, "EMBED NORM NORM " ATTENTION FEED_FORWARD "ADD ADD " HEAD);
    CHECK(find(p, OP_NORM, 0)->in[0] == find(p, OP_NORM, 1)->in[0]);
    h.layer.ffn_norm.on = false; /* one norm for both */
    p = record(&h, CTX);
    CHECK_STR(h.ops, "EMBED NORM " ATTENTION FEED_FORWARD "ADD ADD " HEAD);
    CHECK(find(p, OP_MATMUL, 4)->in[0] == find(p, OP_NORM, 0)->out);
    h.layer.attn_norm_2 = norm(EMBD); /* attn_norm is the feed-forward's then */
    p = record(&h, CTX);
    CHECK(find(p, OP_MATMUL, 0)->in[0] == find(p, OP_NORM, 1)->out);
    CHECK(find(p, OP_MATMUL, 4)->in[0] == find(p, OP_NORM, 0)->out);
    program_destroy(h.p);
}

TEST(forward_experts_are_routed_beside_the_shared_one) {
    hand h;
    model_layer *l = &new_llama(&h)->layer;
    h.m.hparams.experts =
        (model_experts){.count = EXPERTS, .used = 2, .n_ff = FF, .scale = 1, .normalize = true};
    h.m.hparams.act = ACT_SWIGLU_CLAMPED;
    for (int i = 0; i < EXPERTS; i++) h.parts[i] = matrix(EMBD, EMBD);
    l->router = linear(EXPERTS, EMBD);
    l->gate_exps = l->up_exps = l->down_exps =
        (model_tensor){.rows = EMBD, .cols = EMBD, .parts = h.parts};
    const program *p = record(&h, CTX);
#define ROUTED "MATMUL ROUTE EXPERTS EXPERTS ACT_MUL EXPERTS EXPERTS_SUM "
    CHECK_STR(h.ops, "EMBED NORM " ATTENTION "ADD NORM " ROUTED "ADD " HEAD);
    const op *first = find(p, OP_EXPERTS, 0), *last = find(p, OP_EXPERTS, 2);
    CHECK(first->experts.shared_in && !last->experts.shared_in && first->experts.used == 2);
    CHECK(find(p, OP_ROUTE, 0)->route.normalize);
    CHECK(find(p, OP_ACT_MUL, 0)->act.a == 1.702f && find(p, OP_ACT_MUL, 0)->act.b == 7);
    h.m.hparams.act = ACT_GELU;
    l->gate_exps.parts = NULL;
    l->shared_up = linear(FF, EMBD);
    l->shared_down = linear(EMBD, FF);
    l->shared_router = vector(EMBD);
    (void)record(&h, CTX);
    CHECK_STR(h.ops,
              "EMBED NORM " ATTENTION "ADD NORM MATMUL ROUTE EXPERTS ACT EXPERTS EXPERTS_SUM "
              "MATMUL ACT MATMUL MATMUL ACT MUL_COL ADD ADD " HEAD);
    program_destroy(h.p);
}

TEST(forward_latent_attention_keeps_one_latent_and_one_key) {
    enum { RANK = 6, NOPE = 2, ROPE = 2, VALUE = 5 };
    hand h;
    model_hparams *hp = &new_llama(&h)->m.hparams;
    model_layer *l = &h.layer;
    hp->mixer = MODEL_MIXER_LATENT;
    hp->nope_dim = NOPE;
    hp->kv_rank = RANK;
    hp->q_rank = 3;
    hp->value_dim = VALUE;
    h.m.ropes[0].dims = ROPE;
    l->q_a = matrix(3, EMBD);
    l->q_a_norm = norm(3);
    l->q_b = matrix(HEADS * HEAD_DIM, 3);
    l->kv_a = matrix(RANK, EMBD);
    l->k_rope = matrix(ROPE, EMBD);
    l->kv_a_norm = norm(RANK);
    l->k_b = l->v_b = matrix(HEADS * (NOPE + VALUE), RANK); /* one tensor, head after head */
    l->k_b_rows = l->v_b_row0 = NOPE;
    l->k_b_stride = l->v_b_stride = NOPE + VALUE;
    l->k_b_transposed = true;
    l->o = linear(EMBD, HEADS * VALUE);
    const program *p = record(&h, CTX);
    CHECK_STR(h.ops, "EMBED NORM MATMUL NORM MATMUL ROPE HEADS_MATMUL MATMUL NORM MATMUL ROPE "
                     "KV_WRITE ATTENTION HEADS_MATMUL MATMUL ADD NORM " FEED_FORWARD "ADD " HEAD);
    const op *r = find(p, OP_ROPE, 0), *a = find(p, OP_ATTENTION, 0);
    CHECK(r->rope.first == NOPE && r->rope.dims == ROPE && r->rope.head_dim == HEAD_DIM);
    r = find(p, OP_ROPE, 1);
    CHECK(r->rope.first == 0 && r->rope.head_dim == ROPE && r->rope.heads == 1);
    CHECK(a->attn.kv_heads == 1 && a->attn.key_dim == RANK + ROPE && a->attn.value_dim == RANK);
    CHECK_EQ(p->values[a->out].cols, HEADS * RANK);
    program_destroy(h.p);
}

TEST(forward_encoders_norm_the_sums_and_score_with_their_own_head) {
    hand h;
    model_layer *l = &new_llama(&h)->layer;
    h.m.hparams.is_encoder = true;
    h.m.hparams.norm = NORM_LAYER;
    h.m.output_norm.on = l->attn_norm.on = l->ffn_norm.on = false;
    l->attn_out_norm = l->layer_out_norm = norm(EMBD);
    const program *p = record(&h, CTX);
    CHECK_STR(h.ops, "EMBED " ATTENTION "ADD NORM " FEED_FORWARD "ADD NORM TAKE_ROWS ");
    CHECK(p->logits == VALUE_NONE && !find(p, OP_ATTENTION, 0)->attn.causal);
    CHECK_EQ(find(p, OP_NORM, 0)->norm.kind, NORM_LAYER);
    h.m.cls_dense = linear(EMBD, EMBD);
    h.m.cls_out = linear(1, EMBD);
    l->attn_out_norm_2 = norm(EMBD);
    p = record(&h, CTX);
    CHECK_STR(h.ops, "EMBED " ATTENTION "ADD NORM ADD NORM " FEED_FORWARD
                     "ADD NORM TAKE_ROWS TAKE_ROWS MATMUL ACT MATMUL ");
    CHECK_EQ(p->values[p->logits].cols, 1);
    program_destroy(h.p);
}

TEST(forward_mamba_scans) {
    enum { INNER = 4, STATES = 2, RANK = 3, TAPS = 3 };
    hand h;
    model_layer *l = &new_llama(&h)->layer;
    model_hparams *hp = &h.m.hparams;
    hp->mixer = MODEL_MIXER_MAMBA;
    hp->ssm_conv = TAPS;
    hp->ssm_inner = INNER;
    hp->ssm_state = STATES;
    hp->ssm_dt_rank = RANK;
    *l = (model_layer){.attn_norm = norm(EMBD),
                       .ssm_x = matrix(INNER, EMBD),
                       .ssm_z = matrix(INNER, EMBD),
                       .ssm_conv = matrix(INNER, TAPS),
                       .ssm_dt_in = matrix(RANK, INNER),
                       .ssm_b = matrix(STATES, INNER),
                       .ssm_c = matrix(STATES, INNER),
                       .ssm_dt = linear(INNER, RANK),
                       .ssm_a = matrix(INNER, STATES),
                       .ssm_d = vector(INNER),
                       .ssm_out = matrix(EMBD, INNER)};
    const program *p = record(&h, CTX);
    CHECK_STR(h.ops, "EMBED NORM MATMUL MATMUL CONV ACT MATMUL MATMUL MATMUL MATMUL ACT SCAN "
                     "ACT_MUL MATMUL ADD " HEAD);
    CHECK_EQ(p->state_floats, (TAPS - 1) * INNER + INNER * STATES);
    l->ssm_dt_norm.on = l->ssm_b_norm.on = l->ssm_c_norm.on = true; /* without parameters */
    p = record(&h, CTX);
    CHECK(find(p, OP_NORM, 1)->norm.gain == NULL && find(p, OP_NORM, 1)->norm.group == RANK);
    CHECK_EQ(find(p, OP_NORM, 3)->norm.group, STATES);
    program_destroy(h.p);
}

TEST(forward_rwkv6_mixes_time_and_channels) {
    hand h;
    struct model_rwkv6 *w = &new_llama(&h)->rwkv;
    h.m.hparams.mixer = MODEL_MIXER_RWKV6;
    h.m.hparams.wkv_dim = 4;
    h.m.hparams.wkv_rescale_every = 1;
    w->lerp_x = w->first = w->channel_lerp_k = w->channel_lerp_r = vector(EMBD);
    for (int i = 0; i < RWKV6_MIXES; i++) {
        w->mix_down[i] = matrix(2, EMBD);
        w->mix_up[i] = linear(EMBD, 2);
    }
    w->decay_down = matrix(3, EMBD);
    w->decay_up = linear(EMBD, 3);
    w->receptance = w->key = w->value = w->gate = w->output = matrix(EMBD, EMBD);
    w->ln = norm(EMBD);
    w->channel_key = matrix(FF, EMBD);
    w->channel_value = matrix(EMBD, FF);
    w->channel_receptance = matrix(EMBD, EMBD);
    h.layer.rwkv = w;
    const program *p = record(&h, CTX);
#define BACK "SHIFT ACT ADD "
#define MIX  "MATMUL ACT MATMUL MUL ADD "
    CHECK_STR(h.ops,
              "EMBED NORM " BACK "MUL_ROW ADD " MIX MIX MIX MIX MIX
              "MATMUL MATMUL MATMUL MATMUL MATMUL ACT MATMUL ACT WKV NORM ACT_MUL MATMUL ADD "
              "NORM " BACK "MUL_ROW ADD MATMUL ACT MUL_ROW ADD MATMUL MATMUL ACT_MUL ADD "
              "ACT " HEAD);
    const op *group = find(p, OP_NORM, 1);
    CHECK(group->norm.group == 4 && group->norm.gain_len == EMBD && group->norm.eps == 64e-5f);
    CHECK_EQ(p->state_floats, 2 * EMBD + EMBD * 4); /* two rows before, and S of each head */
    program_destroy(h.p);
}
