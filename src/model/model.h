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
#include "text/tok_vocab.h"

/* Beyond these a file is refused: they bound every product of two hyper-parameters. */
enum {
    MODEL_VOCAB_MAX = 4 << 20,
    MODEL_EMBD_MAX = 131072,
    MODEL_FF_MAX = 1 << 20,
    MODEL_LAYERS_MAX = 512,
    MODEL_HEADS_MAX = 1024,
    MODEL_HEAD_DIM_MAX = 4096,
    MODEL_CTX_MAX = 1 << 27,
};

typedef struct model_hparams {
    char arch[32];
    uint32_t vocab; /* tokens */
    uint32_t n_embd;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads; /* divides heads */
    uint32_t head_dim;
    uint32_t n_ff;
    uint32_t ctx_train; /* tokens */
    float norm_eps;
    uint32_t rope_dims; /* even, <= head_dim */
    float rope_base;
    float rope_scale; /* positions are divided by it; 1 when there is no scaling */
    bool tied_output; /* output is token_embd */
} model_hparams;

/* [rows, cols] row-major; a vector has rows 1.  data is NULL when the file has none, and
 * 4-byte aligned otherwise. */
typedef struct model_tensor {
    str name;
    dtype type;
    uint32_t rows;
    uint32_t cols;
    const void *data; /* borrowed from the file, or f32 owned by the model */
    uint64_t bytes;
} model_tensor;

typedef struct model_layer {
    model_tensor attn_norm; /* [n_embd] f32 */
    model_tensor wq;        /* [heads * head_dim, n_embd] */
    model_tensor wk;        /* [kv_heads * head_dim, n_embd] */
    model_tensor wv;        /* [kv_heads * head_dim, n_embd] */
    model_tensor wo;        /* [n_embd, heads * head_dim] */
    model_tensor ffn_norm;  /* [n_embd] f32 */
    model_tensor w_gate;    /* [n_ff, n_embd] */
    model_tensor w_up;      /* [n_ff, n_embd] */
    model_tensor w_down;    /* [n_embd, n_ff] */
    /* optional, f32, as long as their weight has rows */
    model_tensor bq, bk, bv, bo;
    model_tensor b_gate, b_up, b_down;
} model_layer;

typedef struct model {
    model_hparams hparams;
    model_tensor token_embd;  /* [vocab, n_embd] */
    model_tensor output_norm; /* [n_embd] f32 */
    model_tensor output;      /* [vocab, n_embd]; token_embd when tied */
    model_tensor rope_freqs;  /* optional, [rope_dims / 2] f32: frequencies are divided by it */
    model_layer *layers;      /* owned; [hparams.layers] */
    tok_vocab vocab;
    str chat_template;       /* empty when the file has none */
    str chat_template_tools; /* the one for requests with tools, where there are two */
    char name[64];           /* general.name, else the file's name */
    uint64_t file_bytes;
    uint64_t weight_bytes;           /* of all tensors, as stored */
    uint64_t params;                 /* elements of all tensors */
    struct model_internal *internal; /* owned: file, arrays behind the views */
} model;

/* --- lifecycle --------------------------------------------------------------- */
/* A GGUF file, or "synth:SHAPE:TYPE" for random weights made in memory (model/synth.h). */
NODISCARD status model_open(model **out, const char *path_or_synth, error *err);

/* Takes b, also on failure. */
NODISCARD status model_open_blob(model **out, blob *b, error *err);

/* Only name, vocab, chat templates, file_bytes and model_gguf(); works for files without
 * tensors, of unknown architectures and of types that cannot be computed, and for tokenizers that
 * are not GGUF: a model directory or one of its files (model/vocab_dir.h).  A file without a
 * tokenizer gives vocab.kind == TOK_KIND_NONE. */
NODISCARD status model_open_vocab(model **out, const char *path_or_synth, error *err);

/* Harmless on NULL. */
void model_close(model *m);

/* --- introspection ----------------------------------------------------------- */
/* NULL for a vocabulary that is not from a GGUF file. */
const gguf *model_gguf(const model *m);

/* "llama": for messages. */
const char *model_arch_names(void);

#endif
