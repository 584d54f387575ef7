/* vocab_txt.c - the vocab.txt of BERT: one piece a line, the line's number is its id.
 *
 * All else is the class's: text is cleaned and lower-cased unless the configuration says no, split
 * at white space and punctuation, and goes between [CLS] and [SEP].
 * Source: transformers, BertTokenizerFast and the converter behind it. */
#include "model/vocab_json.h"

/* Classes that are BertTokenizer under another name. */
static status check_class(const vocab_draft *d, error *err) {
    static const char *const names[] = {"",
                                        "BertTokenizer",
                                        "DistilBertTokenizer",
                                        "ElectraTokenizer",
                                        "MobileBertTokenizer",
                                        "ConvBertTokenizer",
                                        "LayoutLMTokenizer",
                                        "PreTrainedTokenizer"};
    str name = d->config.tokenizer_class;
    if (str_ends(name, S("Fast"))) name.n -= 4;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq_c(name, names[i])) return OK;
    return error_set(err, ERR_UNSUPPORTED, "%s: %.*s needs its tokenizer.json, known is %s",
                     d->file, STR(name), names[1]);
}

/* An empty line has a number, but is no token. */
static status read_line(vocab_draft *d, str line, uint32_t id, error *err) {
    if (line.n > 0 && line.p[line.n - 1] == '\r') line.n--;
    if (line.n == 0) return OK;
    if (!str_is_utf8(line))
        return error_set(err, ERR_FORMAT, "%s: line %u of %zu bytes is not UTF-8", d->file, id + 1,
                         line.n);
    return vocab_draft_entry(d, &(vocab_entry){.piece = line, .id = id, .type = TOK_TYPE_NORMAL},
                             err);
}

static status read_lines(vocab_draft *d, str text, error *err) {
    for (uint32_t id = 0; text.n > 0; id++) {
        const char *end = memchr(text.p, '\n', text.n);
        str line = {text.p, end != NULL ? (size_t)(end - text.p) : text.n};
        text = str_skip(text, line.n + (end != NULL));
        TRY(read_line(d, line, id, err));
    }
    return OK;
}

/* --- what the class adds --------------------------------------------------- */
/* The token that a configuration names, or the class; its id, or TOK_ID_NONE. */
static status find_special(vocab_draft *d, str named, const char *otherwise, int32_t *id,
                           error *err) {
    const vocab_entry *e = (const vocab_entry *)(const void *)d->entries.p;
    str name = named.p != NULL ? named : str_of(otherwise);
    *id = TOK_ID_NONE;
    for (size_t i = 0; i < d->entries.n / sizeof *e; i++)
        if (str_eq(e[i].piece, name)) *id = (int32_t)e[i].id;
    return vocab_draft_name(d, name, err);
}

static status add_norms(vocab_draft *d, error *err) {
    const vocab_config *c = &d->config;
    bool lower = c->lower_case != 0;
    bool accents = c->strip_accents < 0 ? lower : c->strip_accents > 0;
    TRY(vocab_draft_norm(d, (tok_norm){.kind = TOK_NORM_BERT_CLEAN}, err));
    if (c->chinese_chars != 0)
        TRY(vocab_draft_norm(d, (tok_norm){.kind = TOK_NORM_BERT_CHINESE}, err));
    if (accents) TRY(vocab_draft_norm(d, (tok_norm){.kind = TOK_NORM_NFD}, err));
    if (accents) TRY(vocab_draft_norm(d, (tok_norm){.kind = TOK_NORM_STRIP_ACCENTS}, err));
    return lower ? vocab_draft_norm(d, (tok_norm){.kind = TOK_NORM_LOWERCASE}, err) : OK;
}

static status add_specials(vocab_draft *d, error *err) {
    tok_vocab *v = &d->v;
    int32_t ignored = TOK_ID_NONE;
    TRY(find_special(d, d->config.cls, "[CLS]", &v->before[0], err));
    TRY(find_special(d, d->config.sep, "[SEP]", &v->after[0], err));
    v->before_count = v->before[0] != TOK_ID_NONE;
    v->after_count = v->after[0] != TOK_ID_NONE;
    TRY(find_special(d, d->config.unk, "[UNK]", &v->unk_id, err));
    TRY(find_special(d, (str){0}, "[PAD]", &ignored, err));
    return find_special(d, (str){0}, "[MASK]", &ignored, err);
}

status vocab_txt_read(vocab_draft *d, str text, error *err) {
    TRY(check_class(d, err));
    TRY(read_lines(d, text, err));
    d->v.kind = TOK_KIND_WORDPIECE;
    d->v.continuing_prefix = S("##");
    d->v.word_chars_max = 100;
    d->v.cleanup_tokens = true;
    d->decoder = VOCAB_DECODER_WORDPIECE;
    d->unk = d->config.unk.p != NULL ? d->config.unk : S("[UNK]");
    TRY(add_norms(d, err));
    TRY(vocab_draft_split(d, (tok_split){.kind = TOK_SPLIT_BERT}, err));
    return add_specials(d, err);
}
