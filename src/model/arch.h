/* arch.h - what makes one architecture differ from another, for src/model only.
 *
 * Decoders are variations of one layer.  Each is a row of traits in arch_table.c; arch_decoder.c
 * reads the keys and arch_tensors.c binds the tensors as the row says.  What only one family does
 * is a hook of a few lines next to the table. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include "model/model_internal.h"

/* Where a layer has its norms, and which of them its file must have.
 *   a = attention, f = feed-forward */
typedef enum arch_block {
    BLOCK_PRE,          /* x += a(norm x);  x += f(norm x)                       (Llama) */
    BLOCK_PRE_LATE,     /* the same, f's norm being called "post_attention_norm" (gpt-oss) */
    BLOCK_PRE_POST,     /* x += norm a(norm x);  x += norm f(norm x)             (Gemma 2) */
    BLOCK_POST,         /* x += norm a(x);  x += norm f(x)                       (OLMo 2) */
    BLOCK_PRE_BARE,     /* BLOCK_PRE, norms without parameters                   (OLMo) */
    BLOCK_SHARED,       /* n = norm x;  x += a(n) + f(n)                         (Phi-2) */
    BLOCK_SHARED_TWO,   /* the same, a with a norm of its own where it has one   (Falcon) */
    BLOCK_PRE_OR_SHARED /* BLOCK_PRE, or BLOCK_SHARED where f has no norm        (StableLM) */
} arch_block;

/* The norms of queries and keys after their projection. */
typedef enum arch_qk_norm {
    QK_NONE,
    QK_HEADS,     /* required: one gain [head_dim] for all heads */
    QK_HEADS_OPT, /* the same where the file has them */
    QK_EACH_OPT,  /* each head with a gain of its own, where the file has them */
    QK_WHOLE,     /* required: all heads together are one row */
    QK_WHOLE_OPT,
} arch_qk_norm;

/* How a token knows its place. */
typedef enum arch_positions {
    POS_ADJACENT, /* rotary, pairs (2i, 2i + 1) */
    POS_HALVES,   /* rotary, pairs (i, i + dims / 2) */
    POS_LEARNED,  /* a table */
    POS_ALIBI,    /* a bias on scores; a table too where the file has one */
} arch_positions;

/* act(gate) * up, or act(up). */
typedef struct arch_ffn {
    act_kind act;
    bool gated;
} arch_ffn;

/* Which layers look through the sliding window: all but every `period`-th; 0 or 1: all. */
typedef struct arch_window {
    uint32_t period;
    bool required;    /* a key must say how many tokens */
    uint32_t tokens;  /* where no key says it; 0: none then */
    bool local_rope;  /* its layers turn by "rope.freq_base_swa", without scaling */
    float local_base; /* where no key says that; 0: "rope.freq_base" */
    bool global_nope; /* the other layers have no positions */
} arch_window;

/* What keys may leave out about experts. */
typedef struct arch_experts {
    bool allowed;
    route_kind route;
    bool normalize;
    bool ff_divided; /* an expert's length is "feed_forward_length" / used; else all of it */
    bool shared_ff;  /* the shared expert has "feed_forward_length" */
} arch_experts;

typedef struct arch_traits {
    const char *name; /* "general.architecture" */
    norm_kind norm;
    arch_block block;
    arch_ffn ffn;
    arch_positions positions;

    arch_qk_norm qk_norm;
    arch_window window;
    arch_experts experts;
    bool sinks;          /* "attn_sinks" is required */
    bool latent;         /* multi-head latent attention */
    bool embd_norm;      /* "token_embd_norm" is required */
    bool embd_sqrt;      /* embeddings are multiplied by sqrt(n_embd) */
    bool logit_divided;  /* "logit_scale" is what logits are divided by */
    uint32_t nope_every; /* every nope_every-th layer has no positions; 0: none */
    /* After keys, layers, windows and positions, before tensors; or NULL. */
    status (*adjust)(model *m, error *err);
    /* Instead of all of the above: another family. */
    status (*describe)(model *m, error *err);
} arch_traits;

/* --- arch_table.c ------------------------------------------------------------------ */
/* NULL when it is not known. */
const arch_traits *arch_find(str name);
/* Of an opened model; it is known. */
const arch_traits *arch_of(const model *m);

/* --- arch_decoder.c ---------------------------------------------------------------- */
/* The whole description of a decoder. */
NODISCARD status arch_decoder_describe(model *m, error *err);

/* --- arch_tensors.c: tensors as the traits say ---------------------------------------- */
NODISCARD status arch_bind_outside(model *m, const arch_traits *a, error *err);
NODISCARD status arch_bind_layer(model *m, const arch_traits *a, uint32_t i, bool experts,
                                 error *err);

/* --- arch_deepseek2.c: latent attention --------------------------------------------- */
/* Dimensions of heads and ranks, instead of those of ordinary attention. */
NODISCARD status arch_latent_keys(model *m, error *err);
NODISCARD status arch_latent_rope(model *m, float base, error *err);
NODISCARD status arch_latent_bind(model *m, uint32_t i, error *err);

#endif
