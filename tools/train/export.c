/* export.c - see export.h.  Keys: the GGUF specification, "llama". */
#include "train/export.h"

#include "base/outfile.h"
#include "model/gguf_write.h"

static void write_about(gguf_writer *w, const export_about *about) {
    const char *const values[][2] = {{"general.name", about->name},
                                     {"general.description", about->description},
                                     {"general.license", about->license}};
    gguf_write_str(w, "general.architecture", S("llama"));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (values[i][1] != NULL && values[i][1][0] != '\0')
            gguf_write_str(w, values[i][0], str_of(values[i][1]));
    gguf_write_u32(w, "general.file_type", 0); /* all F32 */
}

static void write_shape(gguf_writer *w, const shape *s) {
    gguf_write_u32(w, "llama.vocab_size", s->vocab);
    gguf_write_u32(w, "llama.context_length", s->ctx);
    gguf_write_u32(w, "llama.embedding_length", s->embd);
    gguf_write_u32(w, "llama.block_count", s->layers);
    gguf_write_u32(w, "llama.feed_forward_length", s->ff);
    gguf_write_u32(w, "llama.attention.head_count", s->heads);
    gguf_write_u32(w, "llama.attention.head_count_kv", s->kv_heads);
    gguf_write_u32(w, "llama.attention.key_length", s->head_dim);
    gguf_write_u32(w, "llama.attention.value_length", s->head_dim);
    gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", s->norm_eps);
    gguf_write_u32(w, "llama.rope.dimension_count", s->head_dim);
    gguf_write_f32(w, "llama.rope.freq_base", s->rope_base);
}

static void copy_tokenizer(gguf_writer *w, const gguf *vocab) {
    for (uint32_t i = 0; i < gguf_kv_count(vocab); i++) {
        const gguf_value *v = gguf_kv_get(vocab, i);
        if (str_starts(v->key, S("tokenizer."))) gguf_write_copy(w, v);
    }
}

typedef struct export_source {
    const shape *shape;
    const float *params;
} export_source;

static status put_tensor(void *ctx, uint32_t idx, gguf_sink *sink, error *err) {
    const export_source *e = ctx;
    const shape_tensor t = shape_tensor_get(e->shape, idx);
    return gguf_sink_put(sink, e->params + t.at, shape_tensor_count(&t) * sizeof(float), err);
}

status export_gguf(const char *path, const shape *s, const float *params, const gguf *vocab,
                   const export_about *about, error *err) {
    export_source source = {s, params};
    gguf_writer *w = NULL;
    outfile f;
    status st = outfile_open(&f, path, err);
    if (st == OK) st = gguf_writer_create(&w, err);
    if (st == OK) {
        write_about(w, about);
        write_shape(w, s);
        copy_tokenizer(w, vocab);
        for (uint32_t i = 0; i < shape_tensors(s); i++) {
            const shape_tensor t = shape_tensor_get(s, i);
            gguf_write_tensor(w, t.name, DTYPE_F32, t.rows, t.cols);
        }
        st = gguf_write_finish(w, f.fd, put_tensor, &source, err);
    }
    if (st == OK) st = outfile_commit(&f, err);
    outfile_abort(&f);
    gguf_writer_destroy(w);
    return st;
}
