/* synth.c - see synth.h.  One table of shapes, one of the tensors of a llama file. */
#include "model/synth.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "model/gguf_write.h"
#include "model/synth_internal.h"

#define PREFIX "synth:"

typedef struct synth_shape {
    const char *name;
    uint32_t n_embd, layers, heads, kv_heads, n_ff, vocab, ctx;
    float rope_base;
} synth_shape;

static const synth_shape shapes[] = {
    {"tiny", 64, 2, 4, 2, 160, 512, 2048, 10000.0f},
    {"llama-1.1b", 2048, 22, 32, 4, 5632, 32000, 2048, 10000.0f},
    {"llama-7b", 4096, 32, 32, 32, 11008, 32000, 4096, 10000.0f},
    {"llama-8b", 4096, 32, 32, 8, 14336, 128256, 8192, 500000.0f},
    {"llama-70b", 8192, 80, 64, 8, 28672, 128256, 8192, 500000.0f},
};
#define SHAPE_NAMES "tiny, llama-1.1b, llama-7b, llama-8b, llama-70b"

/* Mixes of types that files are named after, but that are no ggml type. */
static const char *const mix_names[] = {"q4_k_m", "q5_k_m", "q4_k_s", "q5_k_s"};

/* "general.file_type" of a file whose matrices have this type. */
static const struct {
    dtype type;
    uint32_t file_type;
} file_types[] = {
    {DTYPE_F32, 0}, {DTYPE_F16, 1}, {DTYPE_Q4_0, 2}, {DTYPE_Q8_0, 7}, {DTYPE_BF16, 32},
};

/* --- spec ------------------------------------------------------------------ */
bool synth_is(const char *model_arg) { return str_starts(str_of(model_arg), S(PREFIX)); }

str synth_spec(const char *model_arg) {
    ASSERT(synth_is(model_arg));
    return str_skip(str_of(model_arg), S(PREFIX).n);
}

static status find_shape(str name, const synth_shape **out, error *err) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (!str_eq_nocase(name, str_of(shapes[i].name))) continue;
        *out = &shapes[i];
        return OK;
    }
    return error_set(err, ERR_INVALID, "synth: shape '%.*s' is not known; known: %s", STR(name),
                     SHAPE_NAMES);
}

static bool is_mix(str name) {
    for (size_t i = 0; i < sizeof mix_names / sizeof *mix_names; i++)
        if (str_eq_nocase(name, str_of(mix_names[i]))) return true;
    return false;
}

static status find_type(str name, dtype *out, error *err) {
    dtype t = DTYPE_F32;
    bool is_type = dtype_from_name(name, &t);
    if (!is_type && !is_mix(name))
        return error_set(err, ERR_INVALID, "synth: type '%.*s' is not known; known: %s", STR(name),
                         dtype_computable_names());
    if (!is_type || !dtype_get((uint32_t)t)->can_compute)
        return error_set(err, ERR_UNSUPPORTED,
                         "synth: type '%.*s' cannot be computed; computable types: %s", STR(name),
                         dtype_computable_names());
    *out = t;
    return OK;
}

static status parse_spec(str spec, const synth_shape **shape, dtype *type, error *err) {
    const char *colon = spec.n != 0 ? memchr(spec.p, ':', spec.n) : NULL;
    if (colon == NULL)
        return error_set(err, ERR_INVALID, "synth: '%.*s' must be SHAPE:TYPE, like tiny:f32",
                         STR(spec));
    size_t n = (size_t)(colon - spec.p);
    TRY(find_shape((str){spec.p, n}, shape, err));
    return find_type(str_skip(spec, n + 1), type, err);
}

/* --- tensors --------------------------------------------------------------- */
typedef struct synth_tensor {
    uint64_t rows; /* 0: a vector of ones */
    uint32_t cols;
    float sigma;
} synth_tensor;

typedef struct synth_job {
    gguf_writer *writer; /* owned */
    const synth_shape *shape;
    dtype type;
    synth_tensor *tensors; /* owned; [count], in file order */
    uint32_t count;
    uint8_t *rows; /* owned; [rows_bytes], some rows on their way out */
} synth_job;

enum {
    TENSORS_PER_LAYER = 9,
    TENSORS_OUTSIDE = 3,
    ROWS_BYTES = 1 << 20, /* more than one row of every shape */
};

static void plan(synth_job *j, const char *name, uint64_t rows, uint32_t cols, float sigma) {
    gguf_write_tensor(j->writer, name, rows != 0 ? j->type : DTYPE_F32, rows, cols);
    j->tensors[j->count++] = (synth_tensor){rows, cols, sigma};
}

/* Deviation 1/sqrt(cols) keeps the variance of an input of unit variance. */
static void plan_matrix(synth_job *j, const char *name, uint64_t rows, uint32_t cols) {
    plan(j, name, rows, cols, 1.0f / sqrtf((float)cols));
}

static void plan_layer(synth_job *j, uint32_t idx) {
    const synth_shape *s = j->shape;
    const uint32_t kv_rows = s->n_embd / s->heads * s->kv_heads;
    const struct {
        const char *name;
        uint32_t rows, cols;
    } parts[TENSORS_PER_LAYER] = {
        {"attn_norm", 0, s->n_embd},           {"attn_q", s->n_embd, s->n_embd},
        {"attn_k", kv_rows, s->n_embd},        {"attn_v", kv_rows, s->n_embd},
        {"attn_output", s->n_embd, s->n_embd}, {"ffn_norm", 0, s->n_embd},
        {"ffn_gate", s->n_ff, s->n_embd},      {"ffn_up", s->n_ff, s->n_embd},
        {"ffn_down", s->n_embd, s->n_ff},
    };
    for (uint32_t i = 0; i < TENSORS_PER_LAYER; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.%u.%s.weight", idx, parts[i].name);
        plan_matrix(j, name, parts[i].rows, parts[i].cols);
    }
}

static void plan_tensors(synth_job *j) {
    const synth_shape *s = j->shape;
    /* the embedding is the residual stream itself: unit variance */
    plan(j, "token_embd.weight", s->vocab, s->n_embd, 1.0f);
    for (uint32_t i = 0; i < s->layers; i++) plan_layer(j, i);
    plan(j, "output_norm.weight", 0, s->n_embd, 0.0f);
    plan_matrix(j, "output.weight", s->vocab, s->n_embd);
}

/* Norm weights; ROWS_BYTES holds any of them. */
static status put_ones(synth_job *j, uint32_t cols, gguf_sink *sink, error *err) {
    float *ones = (float *)(void *)j->rows;
    for (uint32_t i = 0; i < cols; i++) ones[i] = 1.0f;
    return gguf_sink_put(sink, ones, cols * sizeof *ones, err);
}

static status put_rows(void *ctx, uint32_t idx, gguf_sink *sink, error *err) {
    synth_job *j = ctx;
    const synth_tensor *t = &j->tensors[idx];
    uint64_t row_bytes = 0;
    if (t->rows == 0) return put_ones(j, t->cols, sink, err);
    ASSERT(dtype_row_bytes(j->type, t->cols, &row_bytes) && row_bytes <= ROWS_BYTES);
    const uint64_t batch = ROWS_BYTES / row_bytes;
    for (uint64_t row = 0; row < t->rows; row += batch) {
        uint64_t n = num_min_u64(batch, t->rows - row);
        for (uint64_t i = 0; i < n; i++)
            synth_fill_row(j->type, idx, row + i, t->sigma, t->cols, j->rows + i * row_bytes);
        TRY(gguf_sink_put(sink, j->rows, (size_t)(n * row_bytes), err));
    }
    return OK;
}

/* --- the file -------------------------------------------------------------- */
static uint32_t file_type_of(dtype t) {
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++)
        if (file_types[i].type == t) return file_types[i].file_type;
    ASSERT(!"every computable type has a file type");
    return 0;
}

static void write_keys(synth_job *j) {
    const synth_shape *s = j->shape;
    gguf_writer *w = j->writer;
    char name[64];
    (void)snprintf(name, sizeof name, "synth %s %s", s->name, dtype_name(j->type));
    gguf_write_str(w, "general.architecture", S("llama"));
    gguf_write_str(w, "general.name", str_of(name));
    gguf_write_str(w, "general.description", S("random weights, for tests and benchmarks"));
    gguf_write_u32(w, "general.file_type", file_type_of(j->type));
    gguf_write_u32(w, "general.quantization_version", 2);
    gguf_write_u32(w, "llama.vocab_size", s->vocab);
    gguf_write_u32(w, "llama.context_length", s->ctx);
    gguf_write_u32(w, "llama.embedding_length", s->n_embd);
    gguf_write_u32(w, "llama.block_count", s->layers);
    gguf_write_u32(w, "llama.feed_forward_length", s->n_ff);
    gguf_write_u32(w, "llama.attention.head_count", s->heads);
    gguf_write_u32(w, "llama.attention.head_count_kv", s->kv_heads);
    gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_write_u32(w, "llama.rope.dimension_count", s->n_embd / s->heads);
    gguf_write_f32(w, "llama.rope.freq_base", s->rope_base);
}

static status write_file(synth_job *j, int fd, error *err) {
    const uint32_t count = j->shape->layers * TENSORS_PER_LAYER + TENSORS_OUTSIDE;
    TRY(gguf_writer_create(&j->writer, err));
    j->tensors = mem_try_calloc(count, sizeof *j->tensors);
    j->rows = mem_try_alloc(ROWS_BYTES);
    if (j->tensors == NULL || j->rows == NULL)
        return error_set(err, ERR_NOMEM, "synth: no memory for %u tensors and %d bytes of rows",
                         count, ROWS_BYTES);
    write_keys(j);
    TRY(synth_write_vocab(j->writer, j->shape->vocab, err));
    plan_tensors(j);
    ASSERT(j->count == count);
    return gguf_write_finish(j->writer, fd, put_rows, j, err);
}

status synth_write(str spec, int fd, error *err) {
    synth_job j = {0};
    TRY(parse_spec(spec, &j.shape, &j.type, err));
    status st = write_file(&j, fd, err);
    gguf_writer_destroy(j.writer);
    mem_free(j.tensors);
    mem_free(j.rows);
    return st;
}
