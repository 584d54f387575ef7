/* hf_vocab.c - the vocabulary of a directory: as long as its embedding, and as GGUF keys.
 *
 * A tok_vocab can say more than the keys: normalizers in any order, splits by any pattern, frames
 * of several tokens.  What the keys cannot say is refused by name, so that a file never gives other
 * tokens than its directory.  Source: the GGUF specification, "tokenizer.ggml.*". */
#include <inttypes.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/map.h"
#include "base/num.h"
#include "model/hf_internal.h"
#include "text/tok_split.h"

/* --- padding --------------------------------------------------------------------------- */
typedef struct padded {
    str *pieces;
    float *scores;
    uint8_t *types, *flags;
} padded;

static status take_padded(model *m, uint32_t rows, padded *p, error *err) {
    void *pieces = NULL, *scores = NULL, *types = NULL, *flags = NULL;
    TRY(model_take(m, rows, sizeof(str), "the tokens", &pieces, err));
    TRY(model_take(m, rows, sizeof(float), "the scores", &scores, err));
    TRY(model_take(m, rows, sizeof(uint8_t), "the token types", &types, err));
    TRY(model_take(m, rows, sizeof(uint8_t), "the token flags", &flags, err));
    *p = (padded){pieces, scores, types, flags};
    return OK;
}

static status fill_padding(model *m, const padded *p, uint32_t rows, error *err) {
    enum { NAME_BYTES = 24 };
    void *taken = NULL;
    uint32_t count = m->vocab.count;
    TRY(model_take(m, rows - count, NAME_BYTES, "the names of unused tokens", &taken, err));
    for (uint32_t i = count; i < rows; i++) {
        char *name = (char *)taken + (size_t)(i - count) * NAME_BYTES;
        int n = snprintf(name, NAME_BYTES, "[PAD%u]", i);
        p->pieces[i] = (str){name, (size_t)n};
        p->types[i] = TOK_TYPE_UNUSED;
    }
    return OK;
}

status hf_vocab_pad(model *m, error *err) {
    const gguf_tensor *t = gguf_tensor_find(m->internal->gguf, S("token_embd.weight"));
    tok_vocab *v = &m->vocab;
    padded p;
    if (t == NULL || v->kind == TOK_KIND_NONE || t->dims[1] == v->count) return OK;
    if (t->dims[1] > MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT, "the embedding has %" PRIu64 " rows, at most %d",
                         t->dims[1], MODEL_VOCAB_MAX);
    if (t->dims[1] < v->count)
        return error_set(err, ERR_FORMAT, "the embedding has %" PRIu64 " rows for %u tokens",
                         t->dims[1], v->count);
    uint32_t rows = (uint32_t)t->dims[1], count = v->count;
    TRY(take_padded(m, rows, &p, err));
    memcpy(p.pieces, v->pieces, count * sizeof *p.pieces);
    memcpy(p.types, v->types, count);
    if (v->scores != NULL) memcpy(p.scores, v->scores, count * sizeof *p.scores);
    if (v->flags != NULL) memcpy(p.flags, v->flags, count);
    TRY(fill_padding(m, &p, rows, err));
    v->pieces = p.pieces;
    v->types = p.types;
    if (v->scores != NULL) v->scores = p.scores;
    if (v->flags != NULL) v->flags = p.flags;
    v->count = rows;
    return OK;
}

/* --- what every kind has ------------------------------------------------------------------ */
static status refuse(const char *what, error *err) {
    return error_set(err, ERR_UNSUPPORTED,
                     "the keys of a GGUF file cannot say what this tokenizer does: %s", what);
}

static void put_id(hf_job *j, const char *key, int32_t id) {
    if (id != TOK_ID_NONE) gguf_make_u32(j->maker, key, (uint32_t)id);
}

static status put_frame(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    bool bos = v->before_count == 1 && v->before[0] == v->bos_id;
    bool eos = v->after_count == 1 && v->after[0] == v->eos_id;
    if ((v->before_count > 0 && !bos) || (v->after_count > 0 && !eos))
        return refuse("it puts other tokens than BOS and EOS around a text", err);
    gguf_make_bool(j->maker, "tokenizer.ggml.add_bos_token", bos);
    gguf_make_bool(j->maker, "tokenizer.ggml.add_eos_token", eos);
    return OK;
}

static void put_ids(hf_job *j) {
    const tok_vocab *v = &j->m->vocab;
    put_id(j, "tokenizer.ggml.bos_token_id", v->bos_id);
    put_id(j, "tokenizer.ggml.eos_token_id", v->eos_id);
    put_id(j, "tokenizer.ggml.eot_token_id", v->eot_id);
    put_id(j, "tokenizer.ggml.unknown_token_id", v->unk_id);
    if (v->ends_count > 0)
        gguf_make_i32s(j->maker, "tokenizer.ggml.eos_token_ids", v->ends, v->ends_count);
}

static status put_types(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    int32_t *types = mem_try_calloc(v->count, sizeof *types);
    if (types == NULL) return error_set(err, ERR_NOMEM, "no memory for %u token types", v->count);
    for (uint32_t i = 0; i < v->count; i++) types[i] = v->types[i];
    gguf_make_i32s(j->maker, "tokenizer.ggml.token_type", types, v->count);
    mem_free(types);
    return OK;
}

static void put_templates(hf_job *j) {
    const model *m = j->m;
    if (m->chat_template.n > 0)
        gguf_make_str(j->maker, "tokenizer.chat_template", m->chat_template);
    if (m->chat_template_tools.n > 0)
        gguf_make_str(j->maker, "tokenizer.chat_template.tool_use", m->chat_template_tools);
}

static void put_model(hf_job *j, const char *model_name) {
    const tok_vocab *v = &j->m->vocab;
    gguf_make_str(j->maker, "tokenizer.ggml.model", str_of(model_name));
    gguf_make_strs(j->maker, "tokenizer.ggml.tokens", v->pieces, v->count);
}

/* --- SentencePiece --------------------------------------------------------------------------- */
static status check_spm_norms(const tok_vocab *v, error *err) {
    for (uint32_t i = 0; i < v->norms_count; i++) {
        const tok_norm *n = &v->norms[i];
        if (n->kind == TOK_NORM_SENTENCEPIECE && n->a.n > 0)
            return refuse("its BPE has a map of characters", err);
        if (n->kind == TOK_NORM_SENTENCEPIECE && n->collapse)
            return refuse("its BPE removes spaces", err);
    }
    return OK;
}

static status put_spm(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    TRY(check_spm_norms(v, err));
    put_model(j, "llama");
    gguf_make_f32s(j->maker, "tokenizer.ggml.scores", v->scores, v->count);
    gguf_make_bool(j->maker, "tokenizer.ggml.add_space_prefix", v->add_space_prefix);
    return OK;
}

static status put_unigram(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    bool known = v->norms_count == 1 && v->norms[0].kind == TOK_NORM_SENTENCEPIECE;
    if (!known || v->norms[0].right)
        return refuse("its unigrams do not normalize as SentencePiece", err);
    if (v->norms[0].a.n > 0) return refuse("its unigrams have a map of characters", err);
    put_model(j, "t5");
    gguf_make_f32s(j->maker, "tokenizer.ggml.scores", v->scores, v->count);
    gguf_make_bool(j->maker, "tokenizer.ggml.add_space_prefix", v->norms[0].left);
    gguf_make_bool(j->maker, "tokenizer.ggml.remove_extra_whitespaces", v->norms[0].collapse);
    return OK;
}

/* A tokenizer.json says SentencePiece's BPE by merges.  It is the same where every way to put a
 * token together from two others is a merge: then the rank of a token's first merge is its
 * score. */
typedef struct merge_ranks {
    map pieces;    /* to id */
    map pairs;     /* "left right" */
    float *scores; /* [count]; owned */
    char *joined;  /* text of the pairs; owned */
} merge_ranks;

static status rank_merges(const tok_vocab *v, merge_ranks *r, error *err) {
    char *at = r->joined;
    for (uint32_t i = 0; i < v->merges_count; i++) {
        const tok_merge *m = &v->merges[i];
        str pair = {at, m->left.n + m->right.n + 1};
        char text[1 << 10];
        uint32_t id = 0;
        memcpy(at, m->left.p, m->left.n);
        at[m->left.n] = '\n';
        memcpy(at + m->left.n + 1, m->right.p, m->right.n);
        at += pair.n;
        (void)map_add(&r->pairs, pair, i);
        if (pair.n > sizeof text) return refuse("a merge is too long", err);
        memcpy(text, m->left.p, m->left.n);
        memcpy(text + m->left.n, m->right.p, m->right.n);
        if (!map_get(&r->pieces, (str){text, pair.n - 1}, &id)) continue;
        if (r->scores[id] == 0) r->scores[id] = -(float)(i + 1);
    }
    return OK;
}

/* Is every cut of this token into two tokens a merge? */
static bool is_complete(const merge_ranks *r, str piece) {
    char text[1 << 10];
    if (piece.n + 1 > sizeof text) return false;
    for (size_t cut = 1; cut < piece.n; cut++) {
        str left = {piece.p, cut}, right = str_skip(piece, cut);
        if (!map_get(&r->pieces, left, NULL) || !map_get(&r->pieces, right, NULL)) continue;
        memcpy(text, left.p, left.n);
        text[cut] = '\n';
        memcpy(text + cut + 1, right.p, right.n);
        if (!map_get(&r->pairs, (str){text, piece.n + 1}, NULL)) return false;
    }
    return true;
}

static status check_complete(const tok_vocab *v, const merge_ranks *r, error *err) {
    for (uint32_t i = 0; i < v->count; i++)
        if (v->types[i] == TOK_TYPE_NORMAL && r->scores[i] < 0 && !is_complete(r, v->pieces[i]))
            return refuse("its merges are not those of SentencePiece", err);
    return OK;
}

static status rank(const tok_vocab *v, merge_ranks *r, error *err) {
    size_t bytes = 1;
    for (uint32_t i = 0; i < v->merges_count; i++)
        bytes += v->merges[i].left.n + v->merges[i].right.n + 1;
    r->scores = mem_try_calloc(v->count, sizeof *r->scores);
    r->joined = mem_try_alloc(bytes);
    if (r->scores == NULL || r->joined == NULL)
        return error_set(err, ERR_NOMEM, "no memory for the ranks of %u merges", v->merges_count);
    TRY(map_init(&r->pieces, v->count, err));
    TRY(map_init(&r->pairs, v->merges_count, err));
    for (uint32_t i = 0; i < v->count; i++) (void)map_add(&r->pieces, v->pieces[i], i);
    TRY(rank_merges(v, r, err));
    return check_complete(v, r, err);
}

/* A space in front, spaces as U+2581, nothing cut: what GGUF's "llama" does. */
static status check_metaspace(const tok_vocab *v, bool *prefix, error *err) {
    *prefix = false;
    if (v->splits_count > 0) return refuse("its BPE over characters splits the text", err);
    for (uint32_t i = 0; i < v->norms_count; i++) {
        const tok_norm *n = &v->norms[i];
        bool spaces =
            n->kind == TOK_NORM_REPLACE && str_eq_c(n->a, " ") && str_eq_c(n->b, "\xE2\x96\x81");
        bool front =
            n->kind == TOK_NORM_PREPEND && (str_eq_c(n->a, "\xE2\x96\x81") || str_eq_c(n->a, " "));
        if (!spaces && !front) return refuse("its BPE over characters normalizes", err);
        *prefix |= front;
    }
    return v->byte_fallback ? OK : refuse("its BPE over characters has no bytes", err);
}

static status put_ranked(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    merge_ranks r = {0};
    bool prefix = false;
    TRY(check_metaspace(v, &prefix, err));
    status st = rank(v, &r, err);
    if (st == OK) {
        put_model(j, "llama");
        gguf_make_f32s(j->maker, "tokenizer.ggml.scores", r.scores, v->count);
        gguf_make_bool(j->maker, "tokenizer.ggml.add_space_prefix", prefix);
    }
    map_deinit(&r.pieces);
    map_deinit(&r.pairs);
    mem_free(r.scores);
    mem_free(r.joined);
    return st;
}

/* --- BPE over bytes ---------------------------------------------------------------- */
/* Digits one by one are a pattern in GGUF's families; a pattern that covers every text cuts the
 * same places whether matches are kept or what is between them is dropped. */
static bool is_same_split(const tok_split *a, const tok_split *b) {
    bool digits = a->kind == TOK_SPLIT_DIGITS && a->each && b->kind == TOK_SPLIT_REGEX &&
                  str_eq_c(b->pattern, "\\p{N}");
    bool kept = a->behavior == TOK_SPLIT_ISOLATED && !a->invert;
    bool inverted = a->behavior == TOK_SPLIT_REMOVED && a->invert;
    return digits || (a->kind == b->kind && (kept || inverted) && str_eq(a->pattern, b->pattern));
}

static bool is_family(const tok_vocab *v, const tok_family *f) {
    if (v->ignore_merges != f->ignore_merges || v->splits_count != f->splits_count) return false;
    for (uint32_t i = 0; i < v->splits_count; i++)
        if (!is_same_split(&v->splits[i], &f->splits[i])) return false;
    return true;
}

/* The name in "tokenizer.ggml.pre" for these steps; NULL when there is none. */
static const char *find_family(const tok_vocab *v) {
    static const char *const names[] = {
        "gpt-2",       "llama-bpe",      "qwen2",       "tekken",    "gpt-4o",   "deepseek-llm",
        "deepseek-v3", "deepseek-coder", "starcoder",   "refact",    "falcon",   "command-r",
        "smollm",      "chatglm-bpe",    "glm4",        "stablelm2", "dbrx",     "bloom",
        "poro-chat",   "viking",         "exaone",      "smaug-bpe", "superbpe", "trillion",
        "seed-coder",  "bailingmoe",     "minerva-7b",  "hunyuan",   "kimi-k2",  "hunyuan-dense",
        "falcon3",     "qwen35",         "gpt3-finnish"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const tok_family *f = tok_family_find(str_of(names[i]));
        if (f != NULL && is_family(v, f)) return names[i];
    }
    return NULL;
}

/* "left right" */
static status put_merges(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    size_t bytes = 1;
    for (uint32_t i = 0; i < v->merges_count; i++)
        bytes += v->merges[i].left.n + v->merges[i].right.n + 1;
    str *lines = mem_try_calloc(v->merges_count + (size_t)1, sizeof *lines);
    char *text = mem_try_alloc(bytes), *at = text;
    for (uint32_t i = 0; lines != NULL && text != NULL && i < v->merges_count; i++) {
        const tok_merge *m = &v->merges[i];
        lines[i] = (str){at, m->left.n + 1 + m->right.n};
        memcpy(at, m->left.p, m->left.n);
        at[m->left.n] = ' ';
        memcpy(at + m->left.n + 1, m->right.p, m->right.n);
        at += lines[i].n;
    }
    bool made = lines != NULL && text != NULL;
    if (made) gguf_make_strs(j->maker, "tokenizer.ggml.merges", lines, v->merges_count);
    mem_free(lines);
    mem_free(text);
    return made ? OK : error_set(err, ERR_NOMEM, "no memory for %u merges", v->merges_count);
}

static status put_bpe(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    const char *family = find_family(v);
    if (family == NULL) return refuse("its splits have no name among tokenizer.ggml.pre", err);
    bool nfc = v->norms_count == 1 && v->norms[0].kind == TOK_NORM_NFC;
    if (v->norms_count > 0 && !nfc) return refuse("it normalizes the text", err);
    if (nfc)
        log_warn("convert", "GGUF keys cannot say that text is put into NFC first: decomposed "
                            "characters will give other tokens");
    if (v->end_of_word.n > 0 || v->continuing_prefix.n > 0)
        return refuse("its words have marks at their ends", err);
    put_model(j, "gpt2");
    gguf_make_str(j->maker, "tokenizer.ggml.pre", str_of(family));
    return put_merges(j, err);
}

/* --- WordPiece --------------------------------------------------------------------- */
static bool has_norm(const tok_vocab *v, tok_norm_kind kind) {
    for (uint32_t i = 0; i < v->norms_count; i++)
        if (v->norms[i].kind == kind) return true;
    return false;
}

/* U+2581 in front begins a word, "##" in front goes. */
static void spell_words(const tok_vocab *v, str *pieces, char *text) {
    const str mark = S("\xE2\x96\x81");
    char *at = text;
    for (uint32_t i = 0; i < v->count; i++) {
        str p = v->pieces[i];
        bool special =
            v->types[i] != TOK_TYPE_NORMAL || (str_starts(p, S("[")) && str_ends(p, S("]")));
        pieces[i] = p;
        if (special) continue;
        if (v->continuing_prefix.n > 0 && str_starts(p, v->continuing_prefix)) {
            pieces[i] = str_skip(p, v->continuing_prefix.n);
            continue;
        }
        pieces[i] = (str){at, p.n + 3};
        memcpy(at, mark.p, mark.n);
        memcpy(at + mark.n, p.p, p.n);
        at += p.n + 3;
    }
}

static status put_wordpiece(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    size_t bytes = 1;
    if (v->before_count != 1 || v->after_count != 1)
        return refuse("it does not put one token in front and one behind", err);
    for (uint32_t i = 0; i < v->count; i++) bytes += v->pieces[i].n + 3;
    str *pieces = mem_try_calloc(v->count, sizeof *pieces);
    char *text = mem_try_alloc(bytes);
    bool made = pieces != NULL && text != NULL;
    if (made) spell_words(v, pieces, text);
    gguf_make_str(j->maker, "tokenizer.ggml.model", S("bert"));
    if (made) gguf_make_strs(j->maker, "tokenizer.ggml.tokens", pieces, v->count);
    mem_free(pieces);
    mem_free(text);
    gguf_make_bool(j->maker, "tokenizer.ggml.normalizer.lowercase",
                   has_norm(v, TOK_NORM_LOWERCASE));
    gguf_make_bool(j->maker, "tokenizer.ggml.normalizer.strip_accents",
                   has_norm(v, TOK_NORM_STRIP_ACCENTS));
    put_id(j, "tokenizer.ggml.cls_token_id", v->before[0]);
    put_id(j, "tokenizer.ggml.seperator_token_id", v->after[0]);
    return made ? OK : error_set(err, ERR_NOMEM, "no memory for %u tokens", v->count);
}

/* --- the choice -------------------------------------------------------------------- */
static status put_kind(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    switch (v->kind) {
    case TOK_KIND_SPM:
        return put_spm(j, err);
    case TOK_KIND_UNIGRAM:
        return put_unigram(j, err);
    case TOK_KIND_BPE:
        return v->form == TOK_FORM_BYTE_LEVEL ? put_bpe(j, err) : put_ranked(j, err);
    case TOK_KIND_WORDPIECE:
        return put_wordpiece(j, err);
    default:
        return refuse("its kind has no name in tokenizer.ggml.model", err);
    }
}

status hf_vocab_put(hf_job *j, error *err) {
    const tok_vocab *v = &j->m->vocab;
    put_templates(j);
    if (v->kind == TOK_KIND_NONE) return OK;
    TRY(put_kind(j, err));
    TRY(put_types(j, err));
    put_ids(j);
    return v->kind == TOK_KIND_WORDPIECE ? OK : put_frame(j, err);
}
