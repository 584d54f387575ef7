/* attention_rig.h - what the tests of attention share: a cache of several sequences with random
 * keys and values, queries over it, and what the reference makes of them.
 *
 * Memory that no token was written to is NaN: a kernel that so much as multiplies it by 0 fails. */
#ifndef CUDASIM_ATTENTION_RIG_H
#define CUDASIM_ATTENTION_RIG_H

#include "abi.h"
#include "backend/backend.h"
#include "backend/cuda/cuda_attention.h"

enum {
    ATTENTION_SEATS = 3,
    ATTENTION_STRIDE = 20, /* blocks of a seat, mostly */
    ATTENTION_LAYERS = 2,
    ATTENTION_LAYER = 1 /* the one that is looked at */
};

typedef struct attention_cache {
    kv_layout layout;
    void *blocks;
    uint32_t *tables;
    uint32_t stride; /* blocks of a seat */
} attention_cache;

/* In buffers of the rig, empty; 17 is prime to the number of its blocks. */
attention_cache attention_cache_make(kv_layout layout, uint32_t stride);
kv_view attention_cache_view(const attention_cache *c);
ck_kv attention_cache_kv(const attention_cache *c);
/* Random rows for tokens 0 .. tokens - 1 of a seat. */
void attention_cache_fill(const attention_cache *c, uint32_t seat, uint32_t tokens);

typedef struct attention_case {
    kv_layout layout;
    uint32_t heads, window;
    float softcap;
    bool sinks, slopes, whole; /* whole: not causal */
} attention_case;

/* (type, kv_heads, key_dim, value_dim, v_in_k) */
#define KV_LAYOUT(t, h, k, v, in) \
    { .type = DTYPE_##t, .kv_heads = (h), .key_dim = (k), .value_dim = (v), .v_in_k = (in) }

typedef struct attention_rig {
    attention_cache cache;
    uint32_t rows, shared_bytes;
    float *q, *out, *sinks, *slopes;
    ck_splits splits; /* as the arguments have it; 0 rows: they have none */
    uint32_t *tickets;
    k_attention_args args;
} attention_rig;

/* Fills the cache with what the runs see, and starts the oracle on it. */
attention_rig attention_rig_make(const attention_case *c, const batch_run *runs, uint32_t count,
                                 uint32_t stride);
/* The oracle's answer [rows, heads * value_dim]. */
const float *attention_rig_want(const attention_case *c, const attention_rig *a);
size_t attention_rig_floats(const attention_case *c, const attention_rig *a); /* of the result */
/* Token t of a seat, of head 0 in a cache of F16. */
uint16_t *attention_rig_f16_row(const attention_rig *a, kv_part part, uint32_t seat, uint32_t t);

#endif
