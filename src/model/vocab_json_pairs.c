/* vocab_json_pairs.c - vocab.json and merges.txt: byte-level BPE as GPT-2 published it.
 *
 * These two files do not say how text is split into words.  tokenizer_config.json may name a class
 * that is built to one pattern; else the vocabulary itself is evidence: no piece ever crosses a
 * border of the pattern it was trained with.
 * Source: GPT-2, encoder.py; the tokenizer classes of transformers. */
#include "base/assert.h"
#include "base/log.h"
#include "model/vocab_json.h"
#include "text/tok_split.h"

/* --- merges ---------------------------------------------------------------- */
static status read_merges(vocab_draft *d, str text, error *err) {
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        str line = {text.p, end != NULL ? (size_t)(end - text.p) : text.n};
        text = str_skip(text, line.n + (end != NULL));
        if (line.n > 0 && line.p[line.n - 1] == '\r') line.n--;
        if (line.n == 0 || str_starts(line, S("#version"))) continue;
        TRY(vocab_draft_merge_line(d, line, err));
    }
    return OK;
}

/* --- what the vocabulary tells --------------------------------------------- */
typedef struct evidence {
    uint32_t digits[5]; /* pieces of that many digits; [4] are four and more */
    uint32_t mixed;     /* a sign and letters behind it: ".com" */
    bool word_ends;     /* "</w>" behind a piece: BPE over characters */
} evidence;

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The apostrophe is left out: contractions are words in every pattern. */
static bool is_sign(char c) {
    const str signs = S("!\"#$%&()*+,-./:;<=>?@[]^_`{|}~");
    return memchr(signs.p, c, signs.n) != NULL;
}

static size_t run(str s, size_t i, bool (*is)(char)) {
    size_t begin = i;
    while (i < s.n && is(s.p[i])) i++;
    return i - begin;
}

static void look_at(evidence *e, str piece) {
    size_t digits = run(piece, 0, is_digit);
    if (digits > 0 && digits == piece.n) e->digits[digits < 4 ? digits : 4]++;
    if (piece.n >= 3 && is_sign(piece.p[0]) && run(piece, 1, is_letter) == piece.n - 1) e->mixed++;
    if (str_eq_c(piece, "a</w>")) e->word_ends = true;
}

/* The name of a family of text/tok_split.h. */
static const char *family_of(const evidence *e) {
    enum { MIXED_MIN = 16 }; /* fewer may be special tokens */
    bool any = e->digits[2] + e->digits[3] + e->digits[4] > 0;
    if (e->mixed < MIXED_MIN) return "gpt-2";
    if (e->digits[3] == 1000 && e->digits[4] == 0) return "llama-bpe";
    return e->digits[1] == 10 && !any ? "qwen2" : "gpt-2";
}

/* --- the class -------------------------------------------------------------- */
typedef struct pairs_class {
    const char *name; /* of tokenizer_class, "Fast" left out */
    const char *family;
    const char *bos, *eos; /* where the files name none */
    bool around;           /* BOS and EOS go around a text */
} pairs_class;

static const pairs_class classes[] = {
    {"GPT2Tokenizer", "gpt-2", "<|endoftext|>", "<|endoftext|>", false},
    {"CodeGenTokenizer", "gpt-2", "<|endoftext|>", "<|endoftext|>", false},
    {"Qwen2Tokenizer", "qwen2", NULL, "<|endoftext|>", false},
    {"RobertaTokenizer", "gpt-2", "<s>", "</s>", true},
    {"BartTokenizer", "gpt-2", "<s>", "</s>", true},
};

static const pairs_class *find_class(str name) {
    if (str_ends(name, S("Fast"))) name.n -= 4;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (str_eq_c(name, classes[i].name)) return &classes[i];
    return NULL;
}

/* The token that the class names, where the files name none. */
static status presume(vocab_draft *d, const char *text, str *out, error *err) {
    if (text == NULL || out->p != NULL) return OK;
    *out = str_of(text);
    return vocab_draft_name(d, *out, err);
}

/* The pattern alone, but for Qwen 2, whose class composes characters first. */
static status apply_family(vocab_draft *d, const char *name, error *err) {
    const tok_family *family = tok_family_find(str_of(name));
    ASSERT(family != NULL);
    if (str_eq_c(str_of(name), "qwen2"))
        TRY(vocab_draft_norm(d, (tok_norm){.kind = TOK_NORM_NFC}, err));
    for (uint32_t i = 0; i < family->splits_count; i++)
        TRY(vocab_draft_split(d, family->splits[i], err));
    d->v.ignore_merges = family->ignore_merges;
    return OK;
}

/* --- the whole ------------------------------------------------------------- */
status vocab_json_pairs(vocab_draft *d, str vocab, str merges, error *err) {
    evidence e = {0};
    const pairs_class *class = find_class(d->config.tokenizer_class);
    TRY(vocab_json_vocab(d, vocab, err));
    TRY(read_merges(d, merges, err));
    const vocab_entry *entries = (const vocab_entry *)(const void *)d->entries.p;
    for (size_t i = 0; i < d->entries.n / sizeof *entries; i++) look_at(&e, entries[i].piece);
    if (e.word_ends)
        return error_set(err, ERR_UNSUPPORTED,
                         "%s: pieces end in </w>: such a vocabulary needs its tokenizer.json",
                         d->file);
    const char *family = class != NULL ? class->family : family_of(&e);
    log_info("vocab", "family file=%s family=%s by=%s", d->file, family,
             class != NULL ? "class" : "vocabulary");
    if (class == NULL) class = &classes[0];
    d->v.kind = TOK_KIND_BPE;
    d->byte_level = true;
    TRY(presume(d, class->bos, &d->config.bos, err));
    TRY(presume(d, class->eos, &d->config.eos, err));
    if (class->around && d->config.add_bos < 0) d->config.add_bos = 1;
    if (class->around && d->config.add_eos < 0) d->config.add_eos = 1;
    return apply_family(d, family, err);
}
