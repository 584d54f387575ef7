/* shape.h - the sizes of a model, and where each of its weights lies.
 *
 * All weights are one array of f32 in the order of the GGUF file; gradients and the optimizer's
 * moments are arrays of the same layout.  Plain values. */
#ifndef TRAIN_SHAPE_H
#define TRAIN_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    SHAPE_LAYERS_MAX = 64,
    SHAPE_VOCAB_MAX = 65536,
    SHAPE_EMBD_MAX = 4096,
    SHAPE_FF_MAX = 16384,
    SHAPE_CTX_MAX = 8192,
    SHAPE_NAME_BYTES = 32,
};

typedef struct shape {
    uint32_t vocab;
    uint32_t embd;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads; /* divides heads */
    uint32_t head_dim; /* even */
    uint32_t ff;
    uint32_t ctx; /* tokens of the longest document */
    float rope_base;
    float norm_eps;
} shape;

/* Tensors of a layer, in their order. */
typedef enum layer_tensor {
    LAYER_ATTN_NORM, /* [embd] */
    LAYER_Q,         /* [heads * head_dim, embd] */
    LAYER_K,         /* [kv_heads * head_dim, embd] */
    LAYER_V,         /* the same */
    LAYER_O,         /* [embd, heads * head_dim] */
    LAYER_FFN_NORM,  /* [embd] */
    LAYER_GATE,      /* [ff, embd] */
    LAYER_UP,        /* [ff, embd] */
    LAYER_DOWN,      /* [embd, ff] */
    LAYER_TENSORS,
} layer_tensor;

typedef struct shape_tensor {
    char name[SHAPE_NAME_BYTES]; /* as in GGUF */
    size_t at;                   /* its first element */
    uint32_t rows, cols;         /* rows 0: a vector, the gain of a norm */
    bool residual;               /* its output is added to the residual stream */
} shape_tensor;

/* ERR_INVALID naming the two numbers that do not fit together. */
NODISCARD status shape_check(const shape *s, error *err);

uint32_t shape_tensors(const shape *s); /* token_embd, layers, output_norm */
shape_tensor shape_tensor_get(const shape *s, uint32_t index);
size_t shape_tensor_count(const shape_tensor *t); /* elements */
size_t shape_params(const shape *s);              /* elements of all */

/* Where tensor `which` of layer `layer`, the embedding and the last norm begin. */
size_t shape_layer_at(const shape *s, uint32_t layer, layer_tensor which);
size_t shape_output_norm_at(const shape *s);

#endif
