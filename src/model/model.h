/* model.h - what a model file says, in the terms the engine and the tokenizer use.
 *
 * A model is a description over mapped bytes: hyper-parameters, one named field per
 * weight, the vocabulary.  Weights stay where they are in the file; norms, biases and
 * other small vectors are turned into f32 that the model owns.  Every tensor of the file
 * is part of the description or the file is refused: nothing is computed that differs
 * from what the file says.  Immutable once open; any thread may read; views live as long
 * as the model. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "model/gguf.h"
#include "store/blob.h"
#include "tensor/dtype.h"
#include "tensor/formula.h"
#include "tensor/packed.h"
#include "text/tok_vocab.h"

/* Beyond these a file is refused: they bound every product of two hyper-parameters. */
enum {
    MODEL_VOCAB_MAX = 4 << 20,
    MODEL_EMBD_MAX = 131072,
    MODEL_FF_MAX = 1 << 20,
    MODEL_LAYERS_MAX = 512,
    MODEL_HEADS_MAX = 1024,
    MODEL_EXPERTS_MAX = 1024,
    MODEL_RANK_MAX = 1 << 16,
    MODEL_HEAD_DIM_MAX = 4096,
    MODEL_CTX_MAX = 1 << 27,
};

/* How the tokens of a layer look at each other. */
typedef enum model_mixer {
    MODEL_MIXER_ATTENTION, /* multi-head, multi-query, grouped-query */
    MODEL_MIXER_LATENT,    /* multi-head latent attention (DeepSeek-V2) */
    MODEL_MIXER_MAMBA,
    MODEL_MIXER_RWKV6,
} model_mixer;

/* What becomes of the final hidden states of an embedding model; the file's own choice. */
typedef enum model_pooling {
    MODEL_POOLING_NONE, /* one vector per token */
    MODEL_POOLING_MEAN,
    MODEL_POOLING_CLS, /* the first token's */
    MODEL_POOLING_LAST,
    MODEL_POOLING_RANK, /* a score: the head reads the first (encoders) or last token */
} model_pooling;

enum { MODEL_ROPES_MAX = 2, MODEL_ROPE_NONE = UINT8_MAX };

/* One rotary position scheme.  All scalings (linear, YaRN, Llama 3, LongRoPE) end in one angle
 * per pair and one magnitude: docs/models/rope.md. */
typedef struct model_rope {
    rope_pairs pairs;
    uint32_t dims;       /* rotated elements of each head, even, <= head_dim */
    const double *freqs; /* [dims / 2] radians per position; in the model's arena */
    float magnitude;
    /* LongRoPE: what holds instead when the context is created for more than ctx_short tokens;
     * freqs_long is NULL where there is no such second set. */
    uint32_t ctx_short;
    const double *freqs_long;
    float magnitude_long;
} model_rope;

typedef struct model_experts {
    uint32_t count; /* 0: none */
    uint32_t used;
    uint32_t n_ff;        /* of one expert */
    uint32_t shared_n_ff; /* of the always active expert, all its parts together; 0: none */
    route_kind route;
    bool normalize;
    float scale;
    uint32_t groups, groups_used; /* 0 or 1: no groups */
} model_experts;

typedef struct model_hparams {
    char arch[32];
    uint32_t vocab; /* tokens */
    uint32_t n_embd;
    uint32_t layers;
    uint32_t n_ff;      /* of dense layers */
    uint32_t ctx_train; /* tokens */
    bool tied_output;   /* output is token_embd */
    bool is_encoder;    /* every token sees all; there are no logits to sample from */
    model_pooling pooling;

    model_mixer mixer; /* of every layer */
    uint32_t heads;    /* 0 without attention */
    uint32_t kv_heads; /* divides heads */
    uint32_t head_dim; /* of queries and keys */
    uint32_t value_dim;
    float attn_scale;          /* of the scores */
    float attn_softcap;        /* 0: none */
    float alibi_bias_max;      /* 0: no ALiBi */
    const float *alibi_slopes; /* [heads] in the arena, or NULL */
    float qkv_clamp;           /* 0: none */
    bool qk_norm_after_rope;   /* queries and keys are turned first and normalised then */

    norm_kind norm;
    float norm_eps;
    act_kind act;  /* of the feed-forward block */
    bool parallel; /* attention and feed-forward read the same x and are added together */

    float embd_scale;     /* 1: none; and so on */
    float residual_scale; /* of what each block adds */
    float logit_scale;    /* logits are multiplied by it */
    float logit_softcap;  /* 0: none */

    model_experts experts;

    /* MODEL_MIXER_LATENT */
    uint32_t q_rank;   /* 0: queries are not compressed */
    uint32_t kv_rank;  /* of the latent */
    uint32_t nope_dim; /* elements of a head's key without position; head_dim = nope + rope */

    /* MODEL_MIXER_MAMBA */
    uint32_t ssm_conv;  /* taps */
    uint32_t ssm_inner; /* columns */
    uint32_t ssm_state; /* states per column */
    uint32_t ssm_dt_rank;
    bool ssm_norms; /* dt, B and C are RMS-normalised (Falcon Mamba) */

    /* MODEL_MIXER_RWKV6 */
    uint32_t wkv_dim;      /* elements per head */
    uint32_t wkv_mix_rank; /* of the token-shift adapter */
    uint32_t wkv_decay_rank;
    uint32_t wkv_rescale_every; /* layers after which the residual stream is halved; 0: never */
} model_hparams;

/* [rows, cols] row-major; a vector has rows 1.  data is NULL when the file has none, and
 * 4-byte aligned otherwise. */
typedef struct model_tensor {
    str name; /* of the tensor in the file */
    dtype type;
    uint32_t rows;
    uint32_t cols;
    const void *data; /* a matrix: borrowed from the file; f32 vectors: the model's own */
    uint64_t bytes;
    uint32_t row0; /* it is rows row0 .. of the tensor `name` (fused q, k and v; gate and up) */
    const packed_matrix *packed;      /* instead of data (tensor/packed.h), or NULL */
    const struct model_tensor *parts; /* [experts] one matrix each, in the arena, or NULL: then
                                         rows and cols are of one part and data is NULL */
} model_tensor;

/* Is it in the file? */
static inline bool model_has(const model_tensor *t) {
    return t->data != NULL || t->packed != NULL || t->parts != NULL;
}

/* A norm's parameters: f32 [cols], both optional.  gain absent and `on` set: a norm without
 * parameters. */
typedef struct model_norm {
    bool on;
    model_tensor gain, bias;
} model_norm;

/* Rows of `bias` go with rows of `w`; bias is optional, f32. */
typedef struct model_linear {
    model_tensor w, bias;
} model_linear;

/* Every part is optional as far as this struct knows; what an architecture must have is said where
 * it is bound (model/arch_*.c).  Forward passes do what is there. */
typedef struct model_layer {
    uint32_t window; /* sliding window of its attention; 0: all */
    uint8_t rope;    /* index into model.ropes, or MODEL_ROPE_NONE */

    model_norm attn_norm;   /* before attention */
    model_norm attn_norm_2; /* before attention, attn_norm being the feed-forward's then (Falcon) */
    model_linear q, k, v;   /* [heads * head_dim, n_embd], [kv_heads * head_dim, ...], ... */
    model_linear o;         /* [n_embd, heads * value_dim] */
    model_norm q_norm, k_norm;  /* over a head, all heads with one gain or each its own; or over
                                  the full width: by the length of the gain */
    uint32_t qk_norm_group;     /* columns that are normalised together; 0: all of them */
    model_tensor sinks;         /* [heads] f32 */
    model_norm post_attn_norm;  /* on what attention adds */
    model_norm attn_out_norm;   /* on the sum after it (post-LN models) */
    model_norm attn_out_norm_2; /* on its result plus the layer's input once more (Jina BERT) */

    /* latent attention; without q_rank, `q` is used */
    model_tensor q_a; /* [q_rank, n_embd] */
    model_norm q_a_norm;
    model_tensor q_b;     /* [heads * head_dim, q_rank] */
    model_tensor kv_a;    /* [kv_rank, n_embd]: to the latent */
    model_tensor k_rope;  /* [rope dims, n_embd]: to the shared rotary key */
    model_norm kv_a_norm; /* [kv_rank] */
    model_tensor k_b;     /* W_head: nope_dim elements of a query to kv_rank of the latent */
    uint32_t k_b_row0, k_b_stride, k_b_rows; /* op_heads_matmul, rows of k_b */
    bool k_b_transposed;
    model_tensor v_b; /* W_head [value_dim, kv_rank]: latent to value */
    uint32_t v_b_row0, v_b_stride;

    model_norm ffn_norm;
    model_linear gate; /* [n_ff, n_embd]; absent: act(up) */
    model_linear up;   /* [n_ff, n_embd] */
    model_linear down; /* [n_embd, n_ff] */
    model_norm post_ffn_norm;
    model_norm layer_out_norm; /* on the sum after it (post-LN models) */

    model_linear router;                        /* [experts, n_embd] */
    model_tensor router_choice;                 /* [experts] f32, added for the choice only */
    model_tensor gate_exps, up_exps, down_exps; /* parts */
    model_tensor gate_exps_bias, up_exps_bias, down_exps_bias; /* [experts, rows] f32 */
    model_linear shared_gate, shared_up, shared_down;
    model_tensor shared_router; /* [1, n_embd]: its sigmoid scales the shared expert */

    /* mamba: in = [x | z] */
    model_tensor ssm_x, ssm_z;            /* [ssm_inner, n_embd] */
    model_tensor ssm_conv, ssm_conv_bias; /* [ssm_inner, taps], [ssm_inner] f32 */
    model_tensor ssm_dt_in, ssm_b, ssm_c; /* [dt_rank | states | states, ssm_inner] */
    model_linear ssm_dt;                  /* [ssm_inner, dt_rank] */
    model_norm ssm_dt_norm, ssm_b_norm, ssm_c_norm;
    model_tensor ssm_a, ssm_d; /* [ssm_inner, states] and [ssm_inner] f32; A is negative */
    model_tensor ssm_out;      /* [n_embd, ssm_inner] */

    struct model_rwkv6 *rwkv; /* model/rwkv6.h; in the arena, or NULL */
} model_layer;

typedef struct model {
    model_hparams hparams;
    model_tensor token_embd;    /* [vocab, n_embd] */
    model_tensor position_embd; /* [ctx_train, n_embd], optional: learned positions */
    model_tensor type_embd;     /* [n_embd] f32, optional: added to every token (type 0) */
    model_norm embd_norm;       /* optional: on the embeddings */
    model_norm output_norm;
    model_linear output; /* [vocab, n_embd]; token_embd when tied */
    /* optional: turns pooled states into scores (rerankers): score = out . tanh(dense . x) */
    model_linear cls_dense, cls_out;
    model_rope ropes[MODEL_ROPES_MAX];
    model_layer *layers; /* in the arena; [hparams.layers] */
    tok_vocab vocab;
    str chat_template;       /* empty when the file has none */
    str chat_template_tools; /* the one for requests with tools, where there are two */
    char name[64];           /* general.name, else the file's name */
    char description[200];   /* general.description, or empty; cut to fit, like the next */
    char license[64];        /* general.license */
    uint64_t file_bytes;
    uint64_t weight_bytes;           /* of all tensors, as stored */
    uint64_t params;                 /* elements of all tensors */
    struct model_internal *internal; /* owned: files, arrays behind the views */
} model;

/* --- lifecycle --------------------------------------------------------------- */
/* A MODEL is a GGUF file, a SafeTensors directory (model/hf_dir.h), "synth:SHAPE:TYPE" for random
 * weights made in memory (model/synth.h), or "gantry-mini", the one in the binary
 * (store/embedded.h).  A file or directory of that name goes before it, with a warning. */
NODISCARD status model_open(model **out, const char *model_arg, error *err);

/* Does it mean the model in the binary? */
bool model_is_embedded(const char *model_arg);

/* Takes b, also on failure. */
NODISCARD status model_open_blob(model **out, blob *b, error *err);

/* Only name, vocab, chat templates, file_bytes and model_gguf(); works for files without
 * tensors, of unknown architectures and of types that cannot be computed, and for tokenizers that
 * are not GGUF: a model directory or one of its files (model/vocab_dir.h).  A file without a
 * tokenizer gives vocab.kind == TOK_KIND_NONE. */
NODISCARD status model_open_vocab(model **out, const char *model_arg, error *err);

/* Harmless on NULL. */
void model_close(model *m);

/* --- introspection ----------------------------------------------------------- */
/* Keys and tensors in GGUF terms, also of a SafeTensors directory; NULL for a vocabulary that is
 * not from a GGUF file. */
const gguf *model_gguf(const model *m);

/* "arcee, baichuan, ...": all that can be run, for messages; valid until the thread asks again. */
const char *model_arch_names(void);

#endif
