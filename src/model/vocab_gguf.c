/* vocab_gguf.c - the vocabulary and chat template of a GGUF file.
 *
 * Keys: "tokenizer.ggml.*" and "tokenizer.chat_template[.tool_use]".  "tokenizer.ggml.model"
 * names the kind, "tokenizer.ggml.pre" the family of pre-tokenizers.  Arrays must agree in type
 * and length, ids must lie in the vocabulary.  What is absent gets the values that files of that
 * kind count on.  Source: the GGUF specification, "Tokenizer"; for defaults, llama.cpp. */
#include <inttypes.h>
#include <math.h>

#include "base/log.h"
#include "model/vocab_gguf.h"
#include "text/tok_bytes.h"
#include "text/tok_split.h"

/* --- kinds ----------------------------------------------------------------- */
/* X(name in the file, kind, form, bos, eos, unknown, separator, add_bos, add_eos, space prefix) */
#define VOCAB_KINDS(X)                                                       \
    X("llama", SPM, METASPACE, 1, 2, 0, TOK_ID_NONE, true, false, true)      \
    X("gpt2", BPE, BYTE_LEVEL, 11, 11, -1, TOK_ID_NONE, false, false, false) \
    X("bert", WORDPIECE, WORD_MARK, 101, -1, 100, 102, true, false, false)   \
    X("t5", UNIGRAM, METASPACE, -1, 1, 2, TOK_ID_NONE, false, true, false)   \
    X("rwkv", RWKV, PLAIN, -1, -1, -1, TOK_ID_NONE, false, false, false)     \
    X("gemma4", BPE, METASPACE, -1, -1, -1, TOK_ID_NONE, true, false, false) \
    X("whitespace", BPE, PLAIN, 11, 11, -1, TOK_ID_NONE, false, false, false)

typedef struct vocab_kind {
    const char *name;
    tok_kind kind;
    tok_form form;
    vocab_defaults defaults;
} vocab_kind;

static const vocab_kind KINDS[] = {
#define KIND_ROW(name, kind, form, bos, eos, unk, sep, add_bos, add_eos, prefix) \
    {name, TOK_KIND_##kind, TOK_FORM_##form, {bos, eos, unk, sep, add_bos, add_eos, prefix, false}},
    VOCAB_KINDS(KIND_ROW)
#undef KIND_ROW
};

/* *out stays NULL for the names files use to say that there is no tokenizer. */
static status find_kind(const model *m, const vocab_kind **out, error *err) {
    const gguf *g = m->internal->gguf;
    char text[MODEL_TEXT_BYTES];
    str name = S("none"), key = S("tokenizer.ggml.model");
    if (gguf_kv_find(g, key) != NULL) TRY(gguf_get_str(g, key, &name, err));
    if (str_eq_c(name, "none") || str_eq_c(name, "no_vocab")) return OK;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (str_eq_c(name, KINDS[i].name)) *out = &KINDS[i];
    if (*out != NULL) return OK;
    model_copy_text(text, sizeof text, name);
#define KIND_NAME(name, ...) " " name
    return error_set(err, ERR_UNSUPPORTED,
                     "vocab: tokenizer '%s' is not known; known:" //
                     VOCAB_KINDS(KIND_NAME),
                     text);
#undef KIND_NAME
}

/* --- tokens ---------------------------------------------------------------- */
static status read_pieces(model *m, str **out, error *err) {
    gguf_array a;
    void *pieces = NULL;
    TRY(gguf_get_array(m->internal->gguf, S("tokenizer.ggml.tokens"), GGUF_TYPE_STRING, &a, err));
    if (a.count < 1 || a.count > MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "vocab: %" PRIu64 " tokens, must be 1 to %u", a.count,
                         MODEL_VOCAB_MAX);
    TRY(model_take(m, a.count, sizeof(str), "the tokens", &pieces, err));
    *out = pieces;
    gguf_strings it = gguf_strings_of(&a);
    for (str *piece = pieces; gguf_strings_next(&it, piece);) piece++;
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

/* Only two kinds have a use for them. */
static status read_scores(model *m, error *err) {
    gguf_array a;
    void *taken = NULL;
    if (m->vocab.kind != TOK_KIND_SPM && m->vocab.kind != TOK_KIND_UNIGRAM) return OK;
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

static status check_type(const model *m, uint32_t id, int32_t type, error *err) {
    if (type < TOK_TYPE_NORMAL || type > TOK_TYPE_BYTE)
        return error_set(err, ERR_FORMAT, "vocab: token %u has type %" PRId32 ", must be %d to %d",
                         id, type, TOK_TYPE_NORMAL, TOK_TYPE_BYTE);
    if (type == TOK_TYPE_BYTE && tok_byte_of_piece(m->vocab.pieces[id]) < 0)
        return error_set(err, ERR_FORMAT,
                         "vocab: byte token %u of %zu bytes is not of the form <0x00> to <0xFF>",
                         id, m->vocab.pieces[id].n);
    return OK;
}

/* Without types every token is normal, but for those that vocab_mend_tokens() knows. */
static status read_types(model *m, uint8_t **out, bool *typed, error *err) {
    gguf_array a = {0};
    void *taken = NULL;
    str key = S("tokenizer.ggml.token_type");
    *typed = gguf_kv_find(m->internal->gguf, key) != NULL;
    if (*typed) TRY(get_per_token(m, key, GGUF_TYPE_I32, &a, err));
    TRY(model_take(m, m->vocab.count, sizeof(uint8_t), "the token types", &taken, err));
    uint8_t *types = taken;
    for (uint32_t i = 0; i < m->vocab.count; i++) {
        int32_t type = *typed ? gguf_array_i32(&a, i) : TOK_TYPE_NORMAL;
        TRY(check_type(m, i, type, err));
        types[i] = (uint8_t)type;
    }
    *out = types;
    m->vocab.types = types;
    return OK;
}

/* --- BPE ------------------------------------------------------------------- */
/* "left right"; a side may begin with a space, but not hold one. */
static bool read_merge(str text, tok_merge *out) {
    const char *space = text.n > 2 ? memchr(text.p + 1, ' ', text.n - 2) : NULL;
    if (space == NULL) return false;
    out->left = (str){text.p, (size_t)(space - text.p)};
    out->right = str_skip(text, out->left.n + 1);
    return true;
}

static status read_merges(model *m, error *err) {
    gguf_array a;
    void *taken = NULL;
    TRY(gguf_get_array(m->internal->gguf, S("tokenizer.ggml.merges"), GGUF_TYPE_STRING, &a, err));
    if (a.count > MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "vocab: %" PRIu64 " merges, at most %u", a.count,
                         MODEL_VOCAB_MAX);
    TRY(model_take(m, a.count, sizeof(tok_merge), "the merges", &taken, err));
    tok_merge *merges = taken;
    gguf_strings it = gguf_strings_of(&a);
    uint32_t count = 0;
    for (str text; gguf_strings_next(&it, &text); count++)
        if (!read_merge(text, &merges[count]))
            return error_set(err, ERR_FORMAT, "vocab: merge %u '%.*s' is no pair", count,
                             STR(text));
    m->vocab.merges = merges;
    m->vocab.merges_count = count;
    return OK;
}

static bool is_listed(str name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (str_eq_c(name, names[i])) return true;
    return false;
}

/* Families whose files count on BOS without saying so. */
static bool family_adds_bos(str name) {
    static const char *const names[] = {
        "llama3", "llama-v3", "llama-bpe",    "falcon3",   "falcon-h1", "pixtral",   "midm-2.0",
        "lfm2",   "tekken",   "jina-v5-nano", "chameleon", "gemma4",    "sarvam-moe"};
    return is_listed(name, names, sizeof names / sizeof *names);
}

/* Families of the time when decoding tidied up the spaces of English; later ones give the text as
 * it is. */
static bool family_cleans_up(str name) {
    static const char *const names[] = {"",           "default",      "minicpm5",
                                        "llama3",     "llama-v3",     "llama-bpe",
                                        "falcon3",    "falcon-h1",    "pixtral",
                                        "midm-2.0",   "lfm2",         "jina-v5-nano",
                                        "falcon",     "mpt",          "starcoder",
                                        "gpt-2",      "phi-2",        "jina-es",
                                        "jina-de",    "gigachat",     "jina-v2-es",
                                        "jina-v2-de", "a.x-4.0",      "mellum",
                                        "mellum2",    "modern-bert",  "jais-2",
                                        "jina-v1-en", "jina-v2-code", "roberta-bpe",
                                        "refact",     "stablelm2",    "olmo",
                                        "dbrx",       "smaug-bpe",    "glm4",
                                        "codeshell",  "chatglm-bpe",  "jais",
                                        "bloom",      "gpt3-finnish", "exaone",
                                        "exaone4",    "exaone-moe",   "minerva-7b",
                                        "megrez",     "gemma4",       "granite-embed-multi-311m",
                                        "whitespace"};
    return is_listed(name, names, sizeof names / sizeof *names);
}

/* The norms of a model, at most `count` of them, to be filled in order. */
static status take_norms(model *m, uint32_t count, tok_norm **out, error *err) {
    void *taken = NULL;
    TRY(model_take(m, count, sizeof(tok_norm), "the norms", &taken, err));
    m->vocab.norms = taken;
    m->vocab.norms_count = 0;
    *out = taken;
    return OK;
}

static void add_norm(model *m, tok_norm *norms, tok_norm norm) {
    norms[m->vocab.norms_count++] = norm;
}

#define SPACE_MARK "\xE2\x96\x81" /* U+2581 */

static status read_family(model *m, str name, error *err) {
    char text[MODEL_TEXT_BYTES];
    tok_vocab *v = &m->vocab;
    tok_norm *norms = NULL;
    const tok_family *family = tok_family_find(name);
    if (family == NULL) {
        model_copy_text(text, sizeof text, name);
        log_warn("vocab", "pre-tokenizer '%s' is not known, 'default' in its place", text);
        family = tok_family_find(S("default"));
    }
    v->splits = family->splits;
    v->splits_count = family->splits_count;
    v->ignore_merges = family->ignore_merges;
    v->decode_cleanup = family_cleans_up(name);
    TRY(take_norms(m, 1, &norms, err));
    if (v->form == TOK_FORM_METASPACE)
        add_norm(m, norms, (tok_norm){.kind = TOK_NORM_REPLACE, .a = S(" "), .b = S(SPACE_MARK)});
    return OK;
}

/* Words between white space, which is dropped; the kind "whitespace". */
static status read_blank_separated(model *m, error *err) {
    static const tok_split split = {.kind = TOK_SPLIT_SPACES};
    tok_norm *norms = NULL;
    bool lower = false;
    str key = S("tokenizer.ggml.normalizer.lowercase");
    TRY(gguf_get_bool_or(m->internal->gguf, key, false, &lower, err));
    m->vocab.splits = &split;
    m->vocab.splits_count = 1;
    if (!lower) return OK;
    TRY(take_norms(m, 1, &norms, err));
    add_norm(m, norms, (tok_norm){.kind = TOK_NORM_LOWERCASE});
    return OK;
}

/* How the pieces of these families are spelled, which is not in the alphabet of bytes.  Gemma 4
 * writes spaces as U+2581 and bytes as <0xXX>, as SentencePiece does. */
static void read_form(tok_vocab *v, str name) {
    if (str_eq_c(name, "gemma4") || str_eq_c(name, "sarvam-moe") ||
        str_eq_c(name, "granite-embed-multi-311m"))
        v->form = TOK_FORM_METASPACE;
    if (str_eq_c(name, "whitespace")) v->form = TOK_FORM_PLAIN;
    v->byte_fallback = v->form != TOK_FORM_BYTE_LEVEL;
}

static status read_bpe(model *m, vocab_defaults *defaults, error *err) {
    const gguf *g = m->internal->gguf;
    tok_vocab *v = &m->vocab;
    str name = S(""), key = S("tokenizer.ggml.pre");
    bool gemma = v->form == TOK_FORM_METASPACE, blanks = v->form == TOK_FORM_PLAIN;
    if (gguf_kv_find(g, key) != NULL) TRY(gguf_get_str(g, key, &name, err));
    if (gemma) name = S("gemma4");
    if (blanks) name = S("whitespace");
    read_form(v, name);
    TRY(read_family(m, name, err));
    if (blanks) TRY(read_blank_separated(m, err));
    TRY(read_merges(m, err));
    v->drop_unknown = v->form != TOK_FORM_METASPACE;
    v->ignore_merges = v->ignore_merges || gemma; /* lines of newlines are tokens without merges */
    if (family_adds_bos(name)) defaults->add_bos = true;
    /* there are files of Gemma 4 that say no, and talk nonsense without it */
    defaults->always_bos = str_eq_c(name, "gemma4") || str_eq_c(name, "granite-embed-multi-311m");
    if (str_eq_c(name, "chatglm-bpe") || str_eq_c(name, "glm4")) defaults->bos_id = TOK_ID_NONE;
    return OK;
}

/* --- the other kinds -------------------------------------------------------- */
static status read_bert(model *m, error *err) {
    static const tok_split split = {.kind = TOK_SPLIT_BERT};
    const gguf *g = m->internal->gguf;
    tok_norm *norms = NULL;
    bool lower = true, strip = true;
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.normalizer.lowercase"), true, &lower, err));
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.normalizer.strip_accents"), lower, &strip, err));
    TRY(take_norms(m, 8, &norms, err));
    /* white space in these files is what Unicode calls so; BERT's clean-up drops some of it */
    add_norm(m, norms, (tok_norm){.kind = TOK_NORM_REPLACE, .a = S("\v"), .b = S(" ")});
    add_norm(m, norms, (tok_norm){.kind = TOK_NORM_REPLACE, .a = S("\f"), .b = S(" ")});
    add_norm(m, norms, (tok_norm){.kind = TOK_NORM_REPLACE, .a = S("\xC2\x85"), .b = S(" ")});
    add_norm(m, norms, (tok_norm){.kind = TOK_NORM_BERT_CLEAN});
    add_norm(m, norms, (tok_norm){.kind = TOK_NORM_BERT_CHINESE});
    /* The engine these files are written for keeps the base letter of a composed character and
     * leaves marks that stand alone; files of such models were evaluated that way. */
    if (strip) add_norm(m, norms, (tok_norm){.kind = TOK_NORM_BASE_LETTERS});
    if (lower) add_norm(m, norms, (tok_norm){.kind = TOK_NORM_LOWERCASE});
    m->vocab.splits = &split;
    m->vocab.splits_count = 1;
    m->vocab.decode_cleanup = true;
    return OK;
}

/* The compiled map of SentencePiece: bytes, which some writers call signed. */
static status read_charsmap(const model *m, str *out, error *err) {
    const gguf *g = m->internal->gguf;
    gguf_array a = {0};
    str key = S("tokenizer.ggml.precompiled_charsmap");
    const gguf_value *value = gguf_kv_find(g, key);
    if (value == NULL) return OK;
    bool is_signed = value->type == GGUF_TYPE_ARRAY && value->as.array.type == GGUF_TYPE_I8;
    TRY(gguf_get_array(g, key, is_signed ? GGUF_TYPE_I8 : GGUF_TYPE_U8, &a, err));
    *out = (str){a.data, (size_t)a.count};
    return OK;
}

/* The prefix goes in front of what is left of the text, so that blank text stays empty. */
static status read_unigram(model *m, error *err) {
    const gguf *g = m->internal->gguf;
    tok_norm *norms = NULL;
    str map = {0};
    bool prefix = false, collapse = false;
    TRY(read_charsmap(m, &map, err));
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.add_space_prefix"), false, &prefix, err));
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.remove_extra_whitespaces"), false, &collapse, err));
    TRY(take_norms(m, 4, &norms, err));
    if (map.n > 0) add_norm(m, norms, (tok_norm){.kind = TOK_NORM_CHARSMAP, .a = map});
    if (collapse) add_norm(m, norms, (tok_norm){.kind = TOK_NORM_COLLAPSE_SPACES});
    add_norm(m, norms, (tok_norm){.kind = TOK_NORM_REPLACE, .a = S(" "), .b = S(SPACE_MARK)});
    if (prefix || collapse)
        add_norm(m, norms, (tok_norm){.kind = TOK_NORM_PREPEND, .a = S(SPACE_MARK)});
    m->vocab.fuse_unknown = true;
    return OK;
}

/* --- RWKV: pieces are written like string literals of Python ------------------ */
static int hex_value(char c) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)((at - digits) % 16) : -1;
}

/* The character of an escape at the start of `in`, which is moved on; false when it is broken. */
static bool read_escape(str *in, char *out) {
    if (in->n < 2) return false;
    char c = in->p[1];
    *out = c;
    if (c == 't') *out = '\t';
    if (c == 'n') *out = '\n';
    if (c == 'r') *out = '\r';
    if (c != 'x') {
        *in = str_skip(*in, 2);
        return true;
    }
    int high = in->n < 4 ? -1 : hex_value(in->p[2]), low = in->n < 4 ? -1 : hex_value(in->p[3]);
    if (high < 0 || low < 0) return false;
    *out = (char)(unsigned char)(high * 16 + low);
    *in = str_skip(*in, 4);
    return true;
}

/* Writes the bytes of a piece to `out`, which has room for as many as it is written with. */
static bool unescape(str piece, char *out, size_t *bytes) {
    for (*bytes = 0; piece.n > 0; ++*bytes) {
        if (piece.p[0] != '\\') {
            out[*bytes] = piece.p[0];
            piece = str_skip(piece, 1);
        } else if (!read_escape(&piece, &out[*bytes])) {
            return false;
        }
    }
    return true;
}

static status unescape_pieces(model *m, str *pieces, error *err) {
    uint64_t total = 0;
    void *taken = NULL;
    for (uint32_t i = 0; i < m->vocab.count; i++) total += pieces[i].n;
    TRY(model_take(m, total + 1, 1, "the tokens", &taken, err));
    char *out = taken;
    for (uint32_t i = 0; i < m->vocab.count; i++) {
        size_t bytes = 0;
        if (!unescape(pieces[i], out, &bytes))
            return error_set(err, ERR_FORMAT, "vocab: token %u '%.*s' has a broken escape", i,
                             STR(pieces[i]));
        pieces[i] = (str){out, bytes};
        out += bytes;
    }
    return OK;
}

/* --- the whole ------------------------------------------------------------- */
static status read_chat_template(model *m, str key, str *out, error *err) {
    *out = S("");
    if (gguf_kv_find(m->internal->gguf, key) == NULL) return OK;
    TRY(gguf_get_str(m->internal->gguf, key, out, err));
    if (out->n > MODEL_CHAT_TEMPLATE_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "model: '%.*s' has %zu bytes, at most %u", STR(key),
                         out->n, MODEL_CHAT_TEMPLATE_BYTES_MAX);
    return OK;
}

/* Those with other names than tool_use are nobody's: a request cannot ask for one.
 * Source: the gguf specification, "Chat template"; llama.cpp's converter for the names. */
static status read_chat_templates(model *m, error *err) {
    TRY(read_chat_template(m, S("tokenizer.chat_template"), &m->chat_template, err));
    return read_chat_template(m, S("tokenizer.chat_template.tool_use"), &m->chat_template_tools,
                              err);
}

static status read_kind(model *m, const vocab_kind *kind, str *pieces, error *err) {
    vocab_defaults defaults = kind->defaults;
    uint8_t *types = NULL;
    bool typed = false;
    TRY(read_scores(m, err));
    TRY(read_types(m, &types, &typed, err));
    if (kind->kind == TOK_KIND_BPE) TRY(read_bpe(m, &defaults, err));
    if (kind->kind == TOK_KIND_WORDPIECE) TRY(read_bert(m, err));
    if (kind->kind == TOK_KIND_UNIGRAM) TRY(read_unigram(m, err));
    if (kind->kind == TOK_KIND_RWKV) TRY(unescape_pieces(m, pieces, err));
    TRY(vocab_read_special(m, &defaults, err));
    return vocab_mend_tokens(m, types, typed, err);
}

status model_read_vocab(model *m, error *err) {
    const tok_vocab none = {.kind = TOK_KIND_NONE,
                            .bos_id = TOK_ID_NONE,
                            .eos_id = TOK_ID_NONE,
                            .eot_id = TOK_ID_NONE,
                            .unk_id = TOK_ID_NONE};
    const vocab_kind *kind = NULL;
    str *pieces = NULL;
    m->vocab = none;
    TRY(read_chat_templates(m, err));
    TRY(find_kind(m, &kind, err));
    if (kind == NULL) return OK;
    m->vocab.kind = kind->kind;
    m->vocab.form = kind->form;
    status st = read_pieces(m, &pieces, err);
    if (st == OK) st = read_kind(m, kind, pieces, err);
    if (st != OK) m->vocab = none;
    return st;
}
