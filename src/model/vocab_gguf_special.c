/* vocab_gguf_special.c - special tokens of a GGUF vocabulary: ids, what goes around a text, what
 * ends a generation, and what files leave unsaid about single tokens. */
#include <inttypes.h>

#include "model/vocab_gguf.h"
#include "text/tok_ends.h"

/* --- ids ------------------------------------------------------------------- */
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

/* The id under `key`, which check_ids() has seen; absent, `fallback` where the vocabulary is that
 * long. */
static int32_t read_id(const model *m, str key, int32_t fallback) {
    uint32_t id = 0;
    if (gguf_get_u32(m->internal->gguf, key, &id, NULL) == OK) return (int32_t)id;
    bool usable = fallback >= 0 && (uint32_t)fallback < m->vocab.count;
    return usable ? fallback : TOK_ID_NONE;
}

/* --- what goes around a text ----------------------------------------------- */
static status put_around(const char *key, int32_t id, int32_t *list, uint32_t *count, error *err) {
    if (id == TOK_ID_NONE)
        return error_set(err, ERR_FORMAT, "vocab: %s is set, but there is no such token", key);
    list[(*count)++] = id;
    return OK;
}

/* BERT puts [CLS] and [SEP] around a text, whatever the file says of BOS and EOS; RWKV nothing.
 * The key of the separator is misspelled in the specification. */
static status read_frame(model *m, const vocab_defaults *defaults, error *err) {
    const gguf *g = m->internal->gguf;
    tok_vocab *v = &m->vocab;
    bool add_bos = defaults->add_bos, add_eos = defaults->add_eos;
    if (v->kind == TOK_KIND_WORDPIECE) {
        int32_t sep = read_id(m, S("tokenizer.ggml.separator_token_id"), defaults->sep_id);
        sep = read_id(m, S("tokenizer.ggml.seperator_token_id"), sep);
        v->bos_id = read_id(m, S("tokenizer.ggml.cls_token_id"), v->bos_id);
        TRY(put_around("the class token", v->bos_id, v->before, &v->before_count, err));
        return put_around("the separator", sep, v->after, &v->after_count, err);
    }
    if (v->kind == TOK_KIND_RWKV) return OK;
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.add_bos_token"), add_bos, &add_bos, err));
    TRY(gguf_get_bool_or(g, S("tokenizer.ggml.add_eos_token"), add_eos, &add_eos, err));
    if (defaults->always_bos && v->bos_id != TOK_ID_NONE) add_bos = true;
    if (add_bos) TRY(put_around("add_bos_token", v->bos_id, v->before, &v->before_count, err));
    if (add_eos) TRY(put_around("add_eos_token", v->eos_id, v->after, &v->after_count, err));
    return OK;
}

/* --- ends ------------------------------------------------------------------ */
/* There is room: four come by their names, and lists are checked. */
static void add_end(tok_vocab *v, int32_t id) {
    if (id != TOK_ID_NONE) v->ends[v->ends_count++] = id;
}

static status add_end_list(model *m, str key, error *err) {
    const gguf_value *value = gguf_kv_find(m->internal->gguf, key);
    gguf_array a = {0};
    if (value == NULL) return OK;
    bool is_signed = value->type == GGUF_TYPE_ARRAY && value->as.array.type == GGUF_TYPE_I32;
    TRY(gguf_get_array(m->internal->gguf, key, is_signed ? GGUF_TYPE_I32 : GGUF_TYPE_U32, &a, err));
    if (a.count > TOK_ENDS_MAX - m->vocab.ends_count)
        return error_set(err, ERR_LIMIT, "vocab: '%.*s' has %" PRIu64 " tokens, room for %u",
                         STR(key), a.count, TOK_ENDS_MAX - m->vocab.ends_count);
    for (uint64_t i = 0; i < a.count; i++) {
        gguf_value id = gguf_array_get(&a, i);
        int64_t n = is_signed ? id.as.i64 : (int64_t)id.as.u64;
        if (n < 0 || n >= m->vocab.count)
            return error_set(err, ERR_FORMAT,
                             "vocab: '%.*s' holds %" PRId64 ", there are %u tokens", STR(key), n,
                             m->vocab.count);
        add_end(&m->vocab, (int32_t)n);
    }
    return OK;
}

/* The end of a message to a tool, and in code models what stands between files. */
static status read_ends(model *m, error *err) {
    static const char *const keys[] = {
        "tokenizer.ggml.eom_token_id", "tokenizer.ggml.fim_pad_token_id",
        "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        add_end(&m->vocab, read_id(m, str_of(keys[i]), TOK_ID_NONE));
    TRY(add_end_list(m, S("tokenizer.ggml.eos_token_ids"), err));
    return add_end_list(m, S("tokenizer.ggml.eog_token_ids"), err);
}

status vocab_read_special(model *m, const vocab_defaults *defaults, error *err) {
    tok_vocab *v = &m->vocab;
    TRY(check_ids(m, err));
    v->bos_id = read_id(m, S("tokenizer.ggml.bos_token_id"), defaults->bos_id);
    v->eos_id = read_id(m, S("tokenizer.ggml.eos_token_id"), defaults->eos_id);
    v->unk_id = read_id(m, S("tokenizer.ggml.unknown_token_id"), defaults->unk_id);
    v->eot_id = read_id(m, S("tokenizer.ggml.eot_token_id"), TOK_ID_NONE);
    TRY(read_frame(m, defaults, err));
    TRY(read_ends(m, err));
    return gguf_get_bool_or(m->internal->gguf, S("tokenizer.ggml.add_space_prefix"),
                            defaults->add_space_prefix, &v->add_space_prefix, err);
}

/* --- types ----------------------------------------------------------------- */
/* Ids that the file gives a part are not ordinary text, though nothing says so. */
static void type_named_tokens(model *m, uint8_t *types) {
    const tok_vocab *v = &m->vocab;
    const int32_t named[] = {v->bos_id, v->eos_id, v->eot_id};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (named[i] != TOK_ID_NONE) types[named[i]] = TOK_TYPE_CONTROL;
    if (v->unk_id != TOK_ID_NONE) types[v->unk_id] = TOK_TYPE_UNKNOWN;
    for (uint32_t i = 0; i < v->ends_count; i++) types[v->ends[i]] = TOK_TYPE_CONTROL;
}

/* Some converters leave the end of a turn among ordinary text, where every user could write it. */
static void type_end_texts(model *m, uint8_t *types) {
    const tok_vocab *v = &m->vocab;
    tok_end_marks marks = {0};
    for (uint32_t id = 0; id < v->count; id++) tok_end_marks_add(&marks, v->pieces[id]);
    for (uint32_t id = 0; id < v->count; id++) {
        bool text = types[id] == TOK_TYPE_NORMAL || types[id] == TOK_TYPE_USER_DEFINED;
        if (!text || !tok_is_end_text(v->pieces[id]) || str_eq_c(v->pieces[id], "</s>")) continue;
        if (!tok_is_end_revoked(&marks, v->pieces[id])) types[id] = TOK_TYPE_CONTROL;
    }
}

/* --- flags ----------------------------------------------------------------- */
static bool holds(str text, const char *part) {
    str p = str_of(part);
    for (; text.n >= p.n; text = str_skip(text, 1))
        if (str_eq_nocase((str){text.p, p.n}, p)) return true;
    return false;
}

static str string_or_empty(const model *m, str key) {
    str s = S("");
    return gguf_get_str(m->internal->gguf, key, &s, NULL) == OK ? s : S("");
}

static bool is_special(uint8_t type) {
    return type == TOK_TYPE_CONTROL || type == TOK_TYPE_USER_DEFINED || type == TOK_TYPE_UNKNOWN;
}

/* GGUF has no place for flags, so the models whose tokens have some are known by name: the special
 * tokens of Phi 3 take the blanks behind them along, the mask of some encoders those before. */
static uint8_t flags_of(const model *m, uint32_t id, bool phi3, const char *mask) {
    str piece = m->vocab.pieces[id];
    if (mask != NULL && str_eq_c(piece, mask)) return TOK_FLAG_LSTRIP;
    if (!phi3 || !is_special(m->vocab.types[id])) return 0;
    bool plain =
        str_eq_c(piece, "<unk>") || str_eq_c(piece, "<s>") || str_eq_c(piece, "<|endoftext|>");
    return plain ? 0 : TOK_FLAG_RSTRIP;
}

static const char *mask_with_blanks(const model *m) {
    str pre = string_or_empty(m, S("tokenizer.ggml.pre"));
    str arch = string_or_empty(m, S("general.architecture"));
    if (str_eq_c(pre, "jina-v2-de") || str_eq_c(pre, "jina-v2-es") ||
        str_eq_c(pre, "jina-v2-code") || str_eq_c(arch, "nomic-bert-moe") ||
        str_eq_c(arch, "jina-bert-v3"))
        return "<mask>";
    return holds(string_or_empty(m, S("general.name")), "modern-bert") ? "[MASK]" : NULL;
}

status vocab_mend_tokens(model *m, uint8_t *types, bool typed, error *err) {
    void *taken = NULL;
    str name = string_or_empty(m, S("general.name"));
    bool phi3 = holds(name, "phi-3") || holds(name, "phi3");
    const char *mask = mask_with_blanks(m);
    if (!typed) type_named_tokens(m, types);
    type_end_texts(m, types);
    if (!phi3 && mask == NULL) return OK;
    TRY(model_take(m, m->vocab.count, sizeof(uint8_t), "the token flags", &taken, err));
    uint8_t *flags = taken;
    for (uint32_t id = 0; id < m->vocab.count; id++) flags[id] = flags_of(m, id, phi3, mask);
    m->vocab.flags = flags;
    return OK;
}
