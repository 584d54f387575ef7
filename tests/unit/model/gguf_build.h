/* gguf_build.h - builds GGUF files in memory, good ones and ones that lie.
 *
 * build_good() makes the smallest model that opens; pass the key or tensor to leave out,
 * then add the bad one in its place.  The counts can be made to lie. */
#ifndef GGUF_BUILD_H
#define GGUF_BUILD_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "model/gguf.h"
#include "model/model.h"
#include "test.h"

enum { BUILD_EMBD = 32, BUILD_VOCAB = 4, BUILD_BYTES_MAX = 4 << 20 };

typedef struct build {
    uint32_t version;
    uint32_t align;
    buf kv;
    uint64_t kv_count;
    buf tensors;
    uint64_t tensors_count;
    uint64_t data_bytes;
} build;

static inline void build_init(build *b) {
    *b = (build){.version = 3, .align = 32};
    buf_init(&b->kv, BUILD_BYTES_MAX);
    buf_init(&b->tensors, BUILD_BYTES_MAX);
}

/* --- primitives ------------------------------------------------------------ */
static inline void put_u32(buf *b, uint32_t v) { buf_put(b, &v, sizeof v); }
static inline void put_u64(buf *b, uint64_t v) { buf_put(b, &v, sizeof v); }
static inline void put_f32(buf *b, float v) { buf_put(b, &v, sizeof v); }
static inline void put_str(buf *b, str s) {
    put_u64(b, s.n);
    buf_put_str(b, s);
}

/* --- key-values ------------------------------------------------------------ */
static inline void add_key(build *b, str key, uint32_t type) {
    put_str(&b->kv, key);
    put_u32(&b->kv, type);
    b->kv_count++;
}

static inline void add_u32(build *b, const char *key, uint32_t v) {
    add_key(b, str_of(key), GGUF_TYPE_U32);
    put_u32(&b->kv, v);
}

static inline void add_i32(build *b, const char *key, int32_t v) {
    add_key(b, str_of(key), GGUF_TYPE_I32);
    put_u32(&b->kv, (uint32_t)v);
}

static inline void add_f32(build *b, const char *key, float v) {
    add_key(b, str_of(key), GGUF_TYPE_F32);
    put_f32(&b->kv, v);
}

static inline void add_bool(build *b, const char *key, char v) {
    add_key(b, str_of(key), GGUF_TYPE_BOOL);
    buf_put_char(&b->kv, v);
}

static inline void add_str(build *b, const char *key, const char *v) {
    add_key(b, str_of(key), GGUF_TYPE_STRING);
    put_str(&b->kv, str_of(v));
}

static inline void add_array(build *b, const char *key, uint32_t type, uint64_t count) {
    add_key(b, str_of(key), GGUF_TYPE_ARRAY);
    put_u32(&b->kv, type);
    put_u64(&b->kv, count);
}

static inline void add_strs(build *b, const char *key, uint32_t count, const char *const *v) {
    add_array(b, key, GGUF_TYPE_STRING, count);
    for (uint32_t i = 0; i < count; i++) put_str(&b->kv, str_of(v[i]));
}

static inline void add_f32s(build *b, const char *key, uint32_t count, const float *v) {
    add_array(b, key, GGUF_TYPE_F32, count);
    buf_put(&b->kv, v, count * sizeof *v);
}

static inline void add_i32s(build *b, const char *key, uint32_t count, const int32_t *v) {
    add_array(b, key, GGUF_TYPE_I32, count);
    buf_put(&b->kv, v, count * sizeof *v);
}

/* --- tensors --------------------------------------------------------------- */
static inline void add_tensor_raw(build *b, str name, uint32_t dims_said, uint32_t dims_count,
                                  const uint64_t *dims, uint32_t type, uint64_t offset) {
    put_str(&b->tensors, name);
    put_u32(&b->tensors, dims_said);
    for (uint32_t i = 0; i < dims_count; i++) put_u64(&b->tensors, dims[i]);
    put_u32(&b->tensors, type);
    put_u64(&b->tensors, offset);
    b->tensors_count++;
}

/* A tensor as it should be, behind the ones before it; rows 0 makes a vector. */
static inline void add_tensor(build *b, const char *name, dtype type, uint64_t rows,
                              uint64_t cols) {
    const uint64_t dims[2] = {cols, rows};
    uint64_t bytes = 0;
    uint32_t count = rows != 0 ? 2 : 1;
    CHECK(dtype_row_bytes(type, cols, &bytes));
    add_tensor_raw(b, str_of(name), count, count, dims, type, b->data_bytes);
    b->data_bytes += bytes * (rows != 0 ? rows : 1);
    b->data_bytes = (b->data_bytes + b->align - 1) / b->align * b->align; /* the padding */
}

/* One tensor [4, 32] of zeros whose description is given; data_bytes as is. */
static inline void add_lie(build *b, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset) {
    const uint64_t dims[2] = {cols, rows};
    add_tensor_raw(b, S("token_embd.weight"), 2, 2, dims, type, offset);
}

/* --- the smallest model ---------------------------------------------------- */
static inline bool is_left_out(const char *name, const char *without) {
    return without != NULL && strcmp(name, without) == 0;
}

static inline void good_counts(build *b, const char *without) {
    static const struct {
        const char *key;
        uint32_t value;
    } counts[] = {
        {"llama.block_count", 1},
        {"llama.context_length", 64},
        {"llama.embedding_length", BUILD_EMBD},
        {"llama.feed_forward_length", BUILD_EMBD},
        {"llama.attention.head_count", 2},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (!is_left_out(counts[i].key, without)) add_u32(b, counts[i].key, counts[i].value);
}

static inline void good_vocab(build *b, const char *without) {
    static const char *const tokens[BUILD_VOCAB] = {"<unk>", "<s>", "</s>", "a"};
    static const float scores[BUILD_VOCAB];
    static const int32_t types[BUILD_VOCAB] = {2, 3, 3, 1};
    if (!is_left_out("tokenizer.ggml.model", without)) add_str(b, "tokenizer.ggml.model", "llama");
    if (!is_left_out("tokenizer.ggml.tokens", without))
        add_strs(b, "tokenizer.ggml.tokens", BUILD_VOCAB, tokens);
    if (!is_left_out("tokenizer.ggml.scores", without))
        add_f32s(b, "tokenizer.ggml.scores", BUILD_VOCAB, scores);
    if (!is_left_out("tokenizer.ggml.token_type", without))
        add_i32s(b, "tokenizer.ggml.token_type", BUILD_VOCAB, types);
}

static inline void good_keys(build *b, const char *without) {
    if (!is_left_out("general.architecture", without)) add_str(b, "general.architecture", "llama");
    good_counts(b, without);
    if (!is_left_out("llama.attention.layer_norm_rms_epsilon", without))
        add_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    good_vocab(b, without);
}

/* Tensor `name` of the small model, unless left out. */
static inline void good_tensor(build *b, const char *without, const char *name, uint64_t rows) {
    if (!is_left_out(name, without)) add_tensor(b, name, DTYPE_F32, rows, BUILD_EMBD);
}

static inline void good_tensors(build *b, const char *without) {
    static const char *const matrices[] = {
        "blk.0.attn_q.weight",   "blk.0.attn_k.weight",      "blk.0.attn_v.weight",
        "blk.0.ffn_gate.weight", "blk.0.attn_output.weight", "blk.0.ffn_up.weight",
        "blk.0.ffn_down.weight",
    };
    good_tensor(b, without, "token_embd.weight", BUILD_VOCAB);
    good_tensor(b, without, "output_norm.weight", 0);
    good_tensor(b, without, "blk.0.attn_norm.weight", 0);
    good_tensor(b, without, "blk.0.ffn_norm.weight", 0);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        good_tensor(b, without, matrices[i], BUILD_EMBD);
}

static inline void build_good(build *b, const char *without) {
    build_init(b);
    good_keys(b, without);
    good_tensors(b, without);
}

/* The keys of the small model, without tensors. */
static inline void build_keys(build *b, const char *without) {
    build_init(b);
    good_keys(b, without);
}

/* --- the file -------------------------------------------------------------- */
/* An exact heap block, so that the sanitizer sees the first byte read past it; free().
 * The builder is spent afterwards. */
static inline str build_finish(build *b) {
    buf out;
    buf_init(&out, BUILD_BYTES_MAX);
    buf_put_str(&out, S("GGUF"));
    put_u32(&out, b->version);
    put_u64(&out, b->tensors_count);
    put_u64(&out, b->kv_count);
    buf_put_str(&out, buf_view(&b->kv));
    buf_put_str(&out, buf_view(&b->tensors));
    while (out.n % b->align != 0) buf_put_char(&out, 0);
    for (uint64_t i = 0; i < b->data_bytes; i++) buf_put_char(&out, 0);
    CHECK(!out.failed);
    char *exact = malloc(out.n);
    CHECK(exact != NULL);
    memcpy(exact, out.p, out.n);
    str file = {exact, out.n};
    buf_deinit(&out);
    buf_deinit(&b->kv);
    buf_deinit(&b->tensors);
    return file;
}

/* --- what the readers say -------------------------------------------------- */
static inline status try_gguf(str bytes, error *err) {
    blob *file = NULL;
    gguf *g = NULL;
    status st = blob_open_memory(&file, bytes, "test", err);
    if (st != OK) return st;
    st = gguf_open(&g, file, err);
    gguf_close(g);
    blob_close(file);
    return st;
}

static inline status try_model(str bytes, error *err) {
    blob *file = NULL;
    model *m = NULL;
    status st = blob_open_memory(&file, bytes, "test", err);
    if (st != OK) return st;
    st = model_open_blob(&m, file, err);
    model_close(m);
    return st;
}

/* The message with which a built file is refused; "opened" when it is not. */
static inline const char *refusal_by(build *b, status (*reader)(str, error *)) {
    static error err;
    err = (error){0};
    str bytes = build_finish(b);
    status st = reader(bytes, &err);
    CHECK(st == OK || err.code == st);
    CHECK(st == OK || err.msg[0] != '\0');
    free((void *)(uintptr_t)bytes.p);
    return st == OK ? "opened" : err.msg;
}

static inline const char *refusal(build *b) { return refusal_by(b, try_gguf); }
static inline const char *model_refusal(build *b) { return refusal_by(b, try_model); }

#endif
