/* synth.c - see synth.h.  One table of shapes, one of the tensors of a llama file. */
#include "model/synth.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "model/gguf_write.h"
#include "model/quant_mix.h"
#include "model/synth_internal.h"

#define PREFIX "synth:"

typedef struct synth_shape {
    const char *name;
    uint32_t n_embd, layers, heads, kv_heads, n_ff, vocab, ctx;
    float rope_base;
} synth_shape;

static const synth_shape shapes[] = {
    {"tiny", 64, 2, 4, 2, 160, 512, 2048, 10000.0f},
    {"thin", 64, 8, 4, 2, 96, 512, 2048, 10000.0f},    /* many layers, and little else */
    {"small", 256, 2, 8, 4, 512, 512, 2048, 10000.0f}, /* rows of whole K blocks */
    {"deep", 256, 8, 8, 4, 512, 512, 2048, 10000.0f},  /* layers for several places */
    {"llama-1.1b", 2048, 22, 32, 4, 5632, 32000, 2048, 10000.0f},
    {"llama-7b", 4096, 32, 32, 32, 11008, 32000, 4096, 10000.0f},
    {"llama-8b", 4096, 32, 32, 8, 14336, 128256, 8192, 500000.0f},
    {"llama-70b", 8192, 80, 64, 8, 28672, 128256, 8192, 500000.0f},
};
#define SHAPE_NAMES "tiny, thin, small, deep, llama-1.1b, llama-7b, llama-8b, llama-70b"

/* "general.file_type" of types that no mix is named after. */
static const struct {
    dtype type;
    uint32_t file_type;
} file_types[] = {
    {DTYPE_IQ2_XXS, 19}, {DTYPE_IQ2_XS, 20}, {DTYPE_IQ3_XXS, 23}, {DTYPE_IQ1_S, 24},
    {DTYPE_IQ3_S, 26},   {DTYPE_IQ2_S, 28},  {DTYPE_IQ1_M, 31},
};

/* The TYPE of a spec: one type for all matrices, or a mix. */
typedef struct synth_kind {
    char name[16];
    bool is_mix;
    quant_mix mix; /* also of a type, when `has_mix` */
    bool has_mix;
    dtype type;
} synth_kind;

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

/* A type's own name means that type everywhere; names that are only a mix's mean the mix. */
static status find_kind(str name, synth_kind *out, error *err) {
    synth_kind k = {0};
    k.has_mix = quant_mix_from_name(name, &k.mix);
    const bool is_type = dtype_from_name(name, &k.type);
    k.is_mix = k.has_mix && !is_type;
    if (!is_type && !k.has_mix)
        return error_set(err, ERR_INVALID, "synth: type '%.*s' is not known; known: %s", STR(name),
                         quant_mix_names());
    if (is_type && dtype_get((uint32_t)k.type)->is_integer)
        return error_set(err, ERR_UNSUPPORTED, "synth: weights cannot be integers (%.*s)",
                         STR(name));
    str_copy_c(k.name, sizeof k.name,
               str_of(k.is_mix ? quant_mix_name(k.mix) : dtype_name(k.type)));
    *out = k;
    return OK;
}

static status parse_spec(str spec, const synth_shape **shape, synth_kind *kind, error *err) {
    const char *colon = spec.n != 0 ? memchr(spec.p, ':', spec.n) : NULL;
    if (colon == NULL)
        return error_set(err, ERR_INVALID, "synth: '%.*s' must be SHAPE:TYPE, like tiny:f32",
                         STR(spec));
    size_t n = (size_t)(colon - spec.p);
    TRY(find_shape((str){spec.p, n}, shape, err));
    return find_kind(str_skip(spec, n + 1), kind, err);
}

/* --- tensors --------------------------------------------------------------- */
typedef struct synth_tensor {
    dtype type;
    uint64_t rows; /* 0: a vector of ones */
    uint32_t cols;
    float sigma;
} synth_tensor;

typedef struct synth_job {
    gguf_writer *writer; /* owned */
    const synth_shape *shape;
    synth_kind kind;
    status planned; /* ERR_INVALID: `plan_err` says which matrix the type does not fit */
    error plan_err;
    synth_tensor *tensors; /* owned; [count], in file order */
    uint32_t count;
    uint8_t *rows; /* owned; [rows_bytes], some rows on their way out */
} synth_job;

enum {
    TENSORS_PER_LAYER = 9,
    TENSORS_OUTSIDE = 3,
    ROWS_BYTES = 1 << 20, /* more than one row of every shape */
};

/* The type of a matrix: by the mix, with its stand-ins for rows that are no whole number of
 * blocks; a type without a mix has no stand-ins. */
static dtype matrix_type(synth_job *j, const char *name, uint64_t rows, uint32_t cols) {
    const synth_shape *s = j->shape;
    const synth_kind *k = &j->kind;
    const quant_mix_plan mix = {.mix = k->mix,
                                .layers = s->layers,
                                .heads_per_kv = s->heads / s->kv_heads,
                                .pure = !k->is_mix};
    const quant_mix_tensor_info info = {str_of(name), DTYPE_F32, 2, {cols, rows, 1, 1}};
    if (k->has_mix) return quant_mix_tensor(&mix, &info, NULL);
    const uint32_t block = dtype_get((uint32_t)k->type)->block_elems;
    if (cols % block != 0)
        j->planned = error_set(&j->plan_err, ERR_INVALID,
                               "synth: %s of '%s' has rows of %u, which is no multiple of the %u "
                               "elements of a %s block",
                               name, s->name, cols, block, k->name);
    return k->type;
}

/* After the first matrix that the type does not fit, nothing more is planned. */
static void plan(synth_job *j, const char *name, uint64_t rows, uint32_t cols, float sigma) {
    if (j->planned != OK) return;
    const dtype type = rows != 0 ? matrix_type(j, name, rows, cols) : DTYPE_F32;
    if (j->planned != OK) return;
    gguf_write_tensor(j->writer, name, type, rows, cols);
    j->tensors[j->count++] = (synth_tensor){type, rows, cols, sigma};
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
    ASSERT(dtype_row_bytes(t->type, t->cols, &row_bytes) && row_bytes <= ROWS_BYTES);
    const uint64_t batch = ROWS_BYTES / row_bytes;
    for (uint64_t row = 0; row < t->rows; row += batch) {
        uint64_t n = num_min_u64(batch, t->rows - row);
        for (uint64_t i = 0; i < n; i++)
            synth_fill_row(t->type, idx, row + i, t->sigma, t->cols, j->rows + i * row_bytes);
        TRY(gguf_sink_put(sink, j->rows, (size_t)(n * row_bytes), err));
    }
    return OK;
}

/* --- the file -------------------------------------------------------------- */
/* False: files of this type have no number. */
static bool file_type_of(const synth_kind *k, uint32_t *file_type) {
    if (k->has_mix) {
        *file_type = quant_mix_file_type(k->mix);
        return true;
    }
    for (size_t i = 0; i < sizeof file_types / sizeof *file_types; i++) {
        if (file_types[i].type != k->type) continue;
        *file_type = file_types[i].file_type;
        return true;
    }
    return false;
}

static void write_keys(synth_job *j) {
    const synth_shape *s = j->shape;
    gguf_writer *w = j->writer;
    char name[64];
    uint32_t file_type = 0;
    (void)snprintf(name, sizeof name, "synth %s %s", s->name, j->kind.name);
    gguf_write_str(w, "general.architecture", S("llama"));
    gguf_write_str(w, "general.name", str_of(name));
    gguf_write_str(w, "general.description", S("random weights, for tests and benchmarks"));
    if (file_type_of(&j->kind, &file_type)) gguf_write_u32(w, "general.file_type", file_type);
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
    if (j->planned != OK) return error_set(err, j->planned, "%s", j->plan_err.msg);
    ASSERT(j->count == count);
    return gguf_write_finish(j->writer, fd, put_rows, j, err);
}

status synth_write(str spec, int fd, error *err) {
    synth_job j = {0};
    TRY(parse_spec(spec, &j.shape, &j.kind, err));
    status st = write_file(&j, fd, err);
    gguf_writer_destroy(j.writer);
    mem_free(j.tensors);
    mem_free(j.rows);
    return st;
}
