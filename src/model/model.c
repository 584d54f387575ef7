/* model.c - see model.h.  Opens the file, picks the architecture, checks that nothing in
 * the file was left over. */
#include "model/model.h"

#include <inttypes.h>

#include "base/alloc.h"
#include "base/num.h"
#include "model/arch.h"
#include "model/hf_dir.h"
#include "model/model_internal.h"
#include "model/synth.h"
#include "model/vocab_dir.h"
#include "store/safetensors.h"
#include "text/unicode.h"

status model_take(model *m, uint64_t count, size_t bytes, const char *what, void **out,
                  error *err) {
    size_t need = 0;
    void *p = NULL;
    if (num_mul_size(&need, (size_t)count, bytes)) p = arena_take(&m->internal->arena, need);
    if (p == NULL)
        return error_set(err, ERR_NOMEM, "model: no memory for %s: %zu bytes, limit %zu", what,
                         need, MODEL_ARENA_BYTES_MAX);
    *out = p;
    return OK;
}

/* --- what the file says about itself -------------------------------------- */
static str base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return str_of(slash != NULL ? slash + 1 : path);
}

/* Controls in one byte or two, and what turns the direction of text. */
static bool is_command(uint32_t cp) {
    return cp < 0x20 || (cp >= 0x7F && cp <= 0x9F) || cp == 0x61C || cp == 0x200E || cp == 0x200F ||
           (cp >= 0x202A && cp <= 0x202E) || (cp >= 0x2066 && cp <= 0x2069);
}

uint32_t model_command_bytes(str s, bool utf8) {
    uint32_t cp = (unsigned char)s.p[0], bytes = 1;
    if (!utf8) return is_command(cp) || cp >= 0x80 ? 1 : 0;
    if (cp >= 0xC0) bytes = unicode_decode(s.p, s.n, &cp);
    bool inside = cp >= 0x80 && bytes == 1; /* of a character that was asked about before */
    return is_command(cp) && !inside ? bytes : 0;
}

void model_copy_text(char *out, size_t out_bytes, str s) {
    size_t n = num_min_size(s.n, out_bytes - 1);
    bool utf8 = str_is_utf8(s);
    while (utf8 && n > 0 && n < s.n && ((unsigned char)s.p[n] & 0xC0) == 0x80) n--;
    str_copy_c(out, out_bytes, (str){s.p, n});
    for (size_t i = 0; i < n; i++) {
        uint32_t bytes = model_command_bytes((str){out + i, n - i}, utf8);
        if (bytes > 0) memset(out + i, '?', bytes);
    }
}

/* Empty when the key is absent, no text, or no UTF-8. */
static str text_of(const model *m, const char *key) {
    const gguf_value *v = gguf_kv_find(m->internal->gguf, str_of(key));
    bool usable = v != NULL && v->type == GGUF_TYPE_STRING && str_is_utf8(v->as.string);
    return usable ? v->as.string : S("");
}

/* What the file says about itself. */
static void read_about(model *m) {
    str name = text_of(m, "general.name");
    if (name.n == 0) name = base_name(blob_name(m->internal->file));
    model_copy_text(m->name, sizeof m->name, name);
    model_copy_text(m->description, sizeof m->description, text_of(m, "general.description"));
    model_copy_text(m->license, sizeof m->license, text_of(m, "general.license"));
}

/* --- description ----------------------------------------------------------- */
static status find_arch(const gguf *g, const arch_traits **out, error *err) {
    str name, key = S("general.architecture");
    if (gguf_kv_find(g, key) == NULL)
        return error_set(err, ERR_FORMAT, "model: key '%.*s' is missing", STR(key));
    TRY(gguf_get_str(g, key, &name, err));
    const arch_traits *a = arch_find(name);
    if (a != NULL) {
        *out = a;
        return OK;
    }
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, name);
    return error_set(err, ERR_UNSUPPORTED, "model: architecture '%s' is not known; known: %s", text,
                     model_arch_names());
}

/* What marks which tensors and keys have been read. */
static status take_marks(model *m, error *err) {
    const gguf *g = m->internal->gguf;
    void *bound = NULL, *read = NULL;
    TRY(model_take(m, gguf_tensor_count(g), sizeof(bool), "tensor marks", &bound, err));
    TRY(model_take(m, gguf_kv_count(g), sizeof(bool), "key marks", &read, err));
    m->internal->bound = bound;
    m->internal->keys_read = read;
    return OK;
}

/* The embedding's rows; the tokenizer and the key must agree with them. */
static status read_vocab_size(model *m, error *err) {
    const gguf_tensor *t = gguf_tensor_find(m->internal->gguf, S("token_embd.weight"));
    uint32_t said = 0;
    if (t == NULL)
        return error_set(err, ERR_FORMAT, "model: tensor 'token_embd.weight' is missing");
    if (t->dims[1] > MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT,
                         "model: tensor 'token_embd.weight' has %" PRIu64 " rows, at most %u",
                         t->dims[1], MODEL_VOCAB_MAX);
    uint32_t rows = (uint32_t)t->dims[1];
    TRY(model_key_count_or(m, "vocab_size", MODEL_VOCAB_MAX, rows, &said, err));
    if (said != rows)
        return error_set(err, ERR_FORMAT,
                         "model: '%s.vocab_size' is %u, tensor 'token_embd.weight' has %u rows",
                         m->hparams.arch, said, rows);
    if (m->vocab.kind != TOK_KIND_NONE && m->vocab.count != rows)
        return error_set(err, ERR_FORMAT,
                         "model: tokenizer has %u tokens, tensor 'token_embd.weight' has %u rows",
                         m->vocab.count, rows);
    m->hparams.vocab = rows;
    return OK;
}

static void sum_tensors(model *m) {
    const gguf *g = m->internal->gguf;
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++) {
        m->params += gguf_tensor_get(g, i)->elems;
        m->weight_bytes += gguf_tensor_get(g, i)->bytes;
    }
}

/* Of a directory the vocabulary is there already. */
static status describe(model *m, error *err) {
    const arch_traits *a = NULL;
    TRY(find_arch(m->internal->gguf, &a, err));
    str_copy_c(m->hparams.arch, sizeof m->hparams.arch, str_of(a->name));
    if (m->internal->weights == NULL) TRY(model_read_vocab(m, err));
    TRY(take_marks(m, err));
    TRY(read_vocab_size(m, err));
    TRY(model_key_count(m, "embedding_length", MODEL_EMBD_MAX, &m->hparams.n_embd, err));
    TRY(a->describe != NULL ? a->describe(m, err) : arch_decoder_describe(m, err));
    TRY(model_check_keys(m, err));
    TRY(model_check_bound(m, err));
    sum_tensors(m);
    return OK;
}

/* --- open ------------------------------------------------------------------ */
/* A model around b, which it owns from here on (also when this fails); NULL: a directory. */
static status create(model **out, blob *b, const char *name, error *err) {
    model *m = mem_try_calloc(1, sizeof *m);
    struct model_internal *internal = mem_try_calloc(1, sizeof *internal);
    if (m == NULL || internal == NULL) {
        (void)error_set(err, ERR_NOMEM, "model: no memory to open '%s'", name);
        mem_free(m);
        mem_free(internal);
        if (b != NULL) blob_close(b);
        return ERR_NOMEM;
    }
    *internal = (struct model_internal){.file = b};
    arena_init(&internal->arena, MODEL_ARENA_BYTES_MAX);
    m->internal = internal;
    if (b != NULL) m->file_bytes = blob_view(b).n;
    *out = m;
    return OK;
}

static status fill(model *m, error *err) {
    TRY(gguf_open(&m->internal->gguf, m->internal->file, err));
    read_about(m);
    return describe(m, err);
}

static status fill_vocab(model *m, error *err) {
    TRY(gguf_open_header(&m->internal->gguf, m->internal->file, err));
    read_about(m);
    return model_read_vocab(m, err);
}

static status open_with(model **out, blob *b, status (*fill_in)(model *, error *), error *err) {
    model *m = NULL;
    TRY(create(&m, b, blob_name(b), err));
    status st = fill_in(m, err);
    if (st != OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return OK;
}

status model_open_blob(model **out, blob *b, error *err) { return open_with(out, b, fill, err); }

/* Directory, gguf in memory and vocabulary, but no description. */
static status open_dir(model **out, const char *dir, error *err) {
    model *m = NULL;
    model_note_namesake(dir);
    TRY(create(&m, NULL, dir, err));
    status st = hf_dir_open(m, dir, err);
    if (st != OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return OK;
}

static status open_dir_described(model **out, const char *dir, error *err) {
    model *m = NULL;
    TRY(open_dir(&m, dir, err));
    status st = describe(m, err);
    if (st != OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return OK;
}

status model_open(model **out, const char *model_arg, error *err) {
    blob *b = NULL;
    if (!synth_is(model_arg) && hf_dir_is(model_arg))
        return open_dir_described(out, model_arg, err);
    TRY(model_open_file(&b, model_arg, err));
    return open_with(out, b, fill, err);
}

/* Takes place->file, also on failure. */
static status open_place(model **out, const vocab_place *place, error *err) {
    model *m = NULL;
    TRY(create(&m, place->file, blob_name(place->file), err));
    status st = vocab_dir_read(m, place, err);
    if (st != OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return OK;
}

status model_open_vocab(model **out, const char *model_arg, error *err) {
    blob *b = NULL;
    if (!synth_is(model_arg) && !model_is_embedded(model_arg)) {
        vocab_place place = {.source = VOCAB_SOURCE_NONE};
        TRY(vocab_dir_find(&place, model_arg, err));
        if (place.source != VOCAB_SOURCE_NONE) {
            model_note_namesake(model_arg);
            return open_place(out, &place, err);
        }
    }
    TRY(model_open_file(&b, model_arg, err));
    return open_with(out, b, fill_vocab, err);
}

/* Why the model cannot be run; OK when it can. */
static status judge(model *m, error *verdict) {
    const gguf *g = m->internal->gguf;
    if (!gguf_has_data(g))
        return error_set(verdict, ERR_FORMAT,
                         "model: the file describes %u tensors but ends before "
                         "their data, at %" PRIu64 " bytes",
                         gguf_tensor_count(g), m->file_bytes);
    return describe(m, verdict);
}

/* Takes m, also on failure. */
static status open_judged(model **out, model *m, error *verdict, error *err) {
    *verdict = (error){.code = OK};
    status st = judge(m, verdict);
    if (st == ERR_NOMEM) { /* says nothing about the file */
        (void)error_set(err, st, "%s", verdict->msg);
        model_close(m);
        return st;
    }
    /* an unknown architecture ends the description before the vocabulary */
    bool unread = st != OK && m->vocab.kind == TOK_KIND_NONE && m->internal->weights == NULL;
    if (unread && model_read_vocab(m, NULL) != OK) m->vocab.kind = TOK_KIND_NONE;
    *out = m;
    return OK;
}

status model_open_any(model **out, blob *b, error *verdict, error *err) {
    model *m = NULL;
    TRY(create(&m, b, blob_name(b), err));
    status st = gguf_open_header(&m->internal->gguf, b, err);
    if (st != OK) {
        model_close(m);
        return st;
    }
    read_about(m);
    return open_judged(out, m, verdict, err);
}

status model_open_any_dir(model **out, const char *dir, error *verdict, error *err) {
    model *m = NULL;
    TRY(open_dir(&m, dir, err));
    return open_judged(out, m, verdict, err);
}

void model_close(model *m) {
    if (m == NULL) return;
    struct model_internal *internal = m->internal;
    gguf_close(internal->gguf);
    safetensors_close(internal->weights);
    arena_deinit(&internal->arena);
    if (internal->file != NULL) blob_close(internal->file);
    mem_free(internal);
    mem_free(m);
}

const gguf *model_gguf(const model *m) { return m->internal->gguf; }
