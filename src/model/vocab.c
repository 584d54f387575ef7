/* vocab.c - the vocabulary and chat template of a model file.
 *
 * Keys: "tokenizer.ggml.*" and "tokenizer.chat_template".  Arrays must agree in type and
 * length, ids must lie in the vocabulary.  Absent ids get the values of the original
 * Llama SentencePiece model.  Source: the GGUF specification, "Tokenizer". */
#include <inttypes.h>
#include <math.h>

#include "model/model_internal.h"

/* X(field, key, id when the key is absent) */
#define SPECIAL_IDS(X)      \
    X(bos_id, "bos", 1)     \
    X(eos_id, "eos", 2)     \
    X(unk_id, "unknown", 0) \
    X(eot_id, "eot", TOK_ID_NONE)

/* --- tokens ---------------------------------------------------------------- */
static status read_pieces(model *m, error *err) {
    gguf_array a;
    void *pieces = NULL;
    TRY(gguf_get_array(m->internal->gguf, S("tokenizer.ggml.tokens"), GGUF_TYPE_STRING, &a, err));
    if (a.count < 1 || a.count > MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "vocab: %" PRIu64 " tokens, must be 1 to %u", a.count,
                         MODEL_VOCAB_MAX);
    TRY(model_take(m, a.count, sizeof(str), "the tokens", &pieces, err));
    gguf_strings it = gguf_strings_of(&a);
    for (str *out = pieces; gguf_strings_next(&it, out);) out++;
    m->vocab.pieces = pieces;
    m->vocab.count = (uint32_t)a.count;
    return OK;
}

/* An array with one element per token. */
static status get_per_token(const model *m, str key, gguf_type type, gguf_array *out, error *err) {
    TRY(gguf_get_array(m->internal->gguf, key, type, out, err));
    if (out->count != m->vocab.count)
        return error_set(err, ERR_FORMAT, "vocab: '%.*s' has %" PRIu64 " elements for %u tokens",
                         STR(key), out->count, m->vocab.count);
    return OK;
}

static status read_scores(model *m, error *err) {
    gguf_array a;
    void *taken = NULL;
    TRY(get_per_token(m, S("tokenizer.ggml.scores"), GGUF_TYPE_F32, &a, err));
    TRY(model_take(m, a.count, sizeof(float), "the scores", &taken, err));
    float *scores = taken;
    for (uint32_t i = 0; i < m->vocab.count; i++) {
        scores[i] = gguf_array_f32(&a, i);
        if (isnan(scores[i]))
            return error_set(err, ERR_FORMAT, "vocab: token %u has no number as its score", i);
    }
    m->vocab.scores = scores;
    return OK;
}

static bool is_hex_digit(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* "<0x0A>" */
static bool is_byte_piece(str s) {
    return s.n == 6 && memcmp(s.p, "<0x", 3) == 0 && s.p[5] == '>' && is_hex_digit(s.p[3]) &&
           is_hex_digit(s.p[4]);
}

static status check_type(const model *m, uint32_t id, int32_t type, error *err) {
    if (type < TOK_TYPE_NORMAL || type > TOK_TYPE_BYTE)
        return error_set(err, ERR_FORMAT, "vocab: token %u has type %" PRId32 ", must be %d to %d",
                         id, type, TOK_TYPE_NORMAL, TOK_TYPE_BYTE);
    if (type == TOK_TYPE_BYTE && !is_byte_piece(m->vocab.pieces[id]))
        return error_set(err, ERR_FORMAT,
                         "vocab: byte token %u of %zu bytes is not of the form <0x00> to <0xFF>",
                         id, m->vocab.pieces[id].n);
    return OK;
}

static status read_types(model *m, error *err) {
    gguf_array a;
    void *taken = NULL;
    TRY(get_per_token(m, S("tokenizer.ggml.token_type"), GGUF_TYPE_I32, &a, err));
    TRY(model_take(m, a.count, sizeof(uint8_t), "the token types", &taken, err));
    uint8_t *types = taken;
    for (uint32_t i = 0; i < m->vocab.count; i++) {
        int32_t type = gguf_array_i32(&a, i);
        TRY(check_type(m, i, type, err));
        types[i] = (uint8_t)type;
    }
    m->vocab.types = types;
    return OK;
}

/* --- special ids and switches ---------------------------------------------- */
/* Every id the file names has to be a token, also those that are not used here. */
static status check_ids(const model *m, error *err) {
    const gguf *g = m->internal->gguf;
    for (uint32_t i = 0; i < gguf_kv_count(g); i++) {
        str key = gguf_kv_get(g, i)->key;
        uint32_t id = 0;
        if (!str_starts(key, S("tokenizer.ggml.")) || !str_ends(key, S("_token_id"))) continue;
        TRY(gguf_get_u32(g, key, &id, err));
        if (id >= m->vocab.count)
            return error_set(err, ERR_FORMAT, "vocab: '%.*s' is %u, there are %u tokens", STR(key),
                             id, m->vocab.count);
    }
    return OK;
}

static status read_id(const model *m, str key, int32_t fallback, int32_t *out, error *err) {
    uint32_t id = 0;
    bool usable = fallback >= 0 && (uint32_t)fallback < m->vocab.count;
    *out = usable ? fallback : TOK_ID_NONE;
    if (gguf_kv_find(m->internal->gguf, key) == NULL) return OK;
    TRY(gguf_get_u32(m->internal->gguf, key, &id, err));
    *out = (int32_t)id; /* below the token count, hence below 2^22 */
    return OK;
}

static status read_special(model *m, error *err) {
    const gguf *g = m->internal->gguf;
    tok_vocab *v = &m->vocab;
    TRY(check_ids(m, err));
#define READ_ID(field, key, absent) \
    TRY(read_id(m, S("tokenizer.ggml." key "_token_id"), (absent), &v->field, err));
    SPECIAL_IDS(READ_ID)
#undef READ_ID
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.add_bos_token"), true, &v->add_bos, err));
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.add_eos_token"), false, &v->add_eos, err));
    return gguf_get_bool_or(g, S("tokenizer.ggml.add_space_prefix"), true, &v->add_space_prefix,
                            err);
}

/* --- the whole ------------------------------------------------------------- */
static status read_chat_template(model *m, error *err) {
    str key = S("tokenizer.chat_template");
    m->chat_template = S("");
    if (gguf_kv_find(m->internal->gguf, key) == NULL) return OK;
    TRY(gguf_get_str(m->internal->gguf, key, &m->chat_template, err));
    if (m->chat_template.n > MODEL_CHAT_TEMPLATE_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "model: '%.*s' has %zu bytes, at most %u", STR(key),
                         m->chat_template.n, MODEL_CHAT_TEMPLATE_BYTES_MAX);
    return OK;
}

/* TOK_KIND_NONE also for the names files use to say that there is no tokenizer. */
static status read_kind(const model *m, tok_kind *out, error *err) {
    const gguf *g = m->internal->gguf;
    str name = S("none"), key = S("tokenizer.ggml.model");
    if (gguf_kv_find(g, key) != NULL) TRY(gguf_get_str(g, key, &name, err));
    bool spm = str_eq_c(name, "llama");
    if (!spm && !str_eq_c(name, "none") && !str_eq_c(name, "no_vocab")) {
        char text[MODEL_TEXT_BYTES];
        model_copy_text(text, sizeof text, name);
        return error_set(err, ERR_UNSUPPORTED, "vocab: tokenizer '%s' is not known; known: llama",
                         text);
    }
    *out = spm ? TOK_KIND_SPM : TOK_KIND_NONE;
    return OK;
}

status model_read_vocab(model *m, error *err) {
    tok_kind kind = TOK_KIND_NONE;
    m->vocab = (tok_vocab){.kind = TOK_KIND_NONE,
                           .bos_id = TOK_ID_NONE,
                           .eos_id = TOK_ID_NONE,
                           .eot_id = TOK_ID_NONE,
                           .unk_id = TOK_ID_NONE};
    TRY(read_chat_template(m, err));
    TRY(read_kind(m, &kind, err));
    if (kind == TOK_KIND_NONE) return OK;
    TRY(read_pieces(m, err));
    TRY(read_scores(m, err));
    TRY(read_types(m, err));
    TRY(read_special(m, err));
    m->vocab.kind = kind;
    return OK;
}
