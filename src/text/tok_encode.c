/* tok_encode.c - the steps of encoding a text: cut, normalize, split, model, frame, and limits. */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/num.h"
#include "text/tok_internal.h"
#include "text/unicode.h"

/* --- where ids go ----------------------------------------------------------------------- */

static void put(tok_sink *s, int32_t id) {
    s->count++;
    if (!tok_sink_is_over(s)) buf_put(s->ids, &id, sizeof id);
}

void tok_sink_put(tok_sink *s, int32_t id) {
    s->unknown_last = false;
    put(s, id);
}

void tok_sink_put_unknown(tok_sink *s, const tokenizer *t) {
    if (t->vocab.unk_id == TOK_ID_NONE || t->vocab.drop_unknown) return;
    if (!s->unknown_last || !t->vocab.fuse_unknown) put(s, t->vocab.unk_id);
    s->unknown_last = true;
}

static status check_limit(const tok_sink *s, uint64_t at_least, error *err) {
    if (at_least <= s->tokens_max) return OK;
    return error_set(err, ERR_LIMIT, "prompt: at least %" PRIu64 " tokens, at most %u", at_least,
                     s->tokens_max);
}

/* --- one call's memory -------------------------------------------------------------------- */

/* Each buffer is the output of one step; all grow to the longest fragment. */
typedef struct encode_job {
    const tokenizer *t;
    tok_sink *sink;
    const char *text; /* of the call: breaks count from here */
    special_breaks breaks;
    bool parse_special;
    buf repaired, normal, late, escaped, words, spare;
    merge_scratch merge;
    unigram_scratch unigram;
} encode_job;

static void job_init(encode_job *j, const tokenizer *t, str text, const tok_options *o,
                     tok_sink *sink) {
    *j = (encode_job){.t = t,
                      .sink = sink,
                      .text = text.p,
                      .breaks = {o->breaks, o->breaks_count},
                      .parse_special = o->parse_special};
    buf_init(&j->repaired, TOK_TEXT_BYTES_MAX);
    buf_init(&j->normal, TOK_TEXT_BYTES_MAX);
    buf_init(&j->late, TOK_TEXT_BYTES_MAX);
    buf_init(&j->escaped, (size_t)4 * TOK_TEXT_BYTES_MAX - 1);
    buf_init(&j->words, SIZE_MAX / 2);
    buf_init(&j->spare, SIZE_MAX / 2);
}

static void job_deinit(encode_job *j) {
    buf_deinit(&j->repaired);
    buf_deinit(&j->normal);
    buf_deinit(&j->late);
    buf_deinit(&j->escaped);
    buf_deinit(&j->words);
    buf_deinit(&j->spare);
    merge_scratch_deinit(&j->merge);
    unigram_scratch_deinit(&j->unigram);
}

/* --- model: words to ids ------------------------------------------------------------------- */

static status encode_word(encode_job *j, str word, error *err) {
    j->sink->unknown_last = false;
    switch (j->t->vocab.kind) {
    case TOK_KIND_SPM:
    case TOK_KIND_BPE:
        return merge_encode(j->t, word, &j->merge, j->sink, err);
    case TOK_KIND_UNIGRAM:
        return unigram_encode(j->t, word, &j->unigram, j->sink, err);
    case TOK_KIND_WORDPIECE:
        wordpiece_encode(j->t, word, j->sink);
        return OK;
    case TOK_KIND_RWKV:
        rwkv_encode(j->t, word, j->sink);
        return OK;
    case TOK_KIND_WORDLEVEL:
        wordlevel_encode(j->t, word, j->sink);
        return OK;
    case TOK_KIND_NONE:
        break;
    }
    return error_set(err, ERR_UNSUPPORTED, "tokenizer: no vocabulary");
}

/* --- split: text to words ------------------------------------------------------------------ */

static status encode_words(encode_job *j, str text, error *err) {
    if (text.n == 0) return OK;
    if (j->t->vocab.splits_count == 0) return encode_word(j, text, err);
    TRY(tok_split_text(j->t->splitter, text, &j->words, &j->spare, err));
    const tok_word *words = (const tok_word *)(const void *)j->words.p;
    size_t count = j->words.n / sizeof *words;
    for (size_t i = 0; i < count && !tok_sink_is_over(j->sink); i++) {
        str word = {text.p + words[i].begin, words[i].end - words[i].begin};
        TRY(encode_word(j, word, err));
    }
    return OK;
}

/* TOK_KIND_SPM: spaces become U+2581, and one more goes in front. */
static status escape_spaces(encode_job *j, str *text, error *err) {
    const str mark = S("\xE2\x96\x81");
    buf_clear(&j->escaped);
    if (j->t->spm_space) buf_put_str(&j->escaped, mark);
    while (text->n > 0) {
        const char *space = memchr(text->p, ' ', text->n);
        size_t n = space != NULL ? (size_t)(space - text->p) : text->n;
        buf_put_str(&j->escaped, (str){text->p, n});
        if (space != NULL) buf_put_str(&j->escaped, mark);
        *text = str_skip(*text, n + (space != NULL));
    }
    *text = buf_view(&j->escaped);
    return buf_status(&j->escaped, "prompt", err);
}

/* The first piece that is kept together, of those at that place the longest: its id, or
 * TOK_ID_NONE.  Texts and pieces are UTF-8, so what matches begins with a character. */
static int32_t find_in_place(const tok_trie *kept, str text, size_t *begin, size_t *bytes) {
    int32_t id = TOK_ID_NONE;
    for (*begin = 0; *begin < text.n; ++*begin) {
        id = tok_trie_longest(kept, TOK_TRIE_ROOT, str_skip(text, *begin), bytes);
        if (id != TOK_ID_NONE) break;
    }
    return id;
}

/* What is merged is what stands between them.  Other kinds look for pieces in a trie, where these
 * are like any other. */
static status encode_between(encode_job *j, str text, error *err) {
    size_t begin = 0, bytes = 0;
    while (text.n > 0 && !tok_sink_is_over(j->sink)) {
        int32_t id = find_in_place(&j->t->in_place, text, &begin, &bytes);
        TRY(encode_words(j, (str){text.p, begin}, err));
        if (id != TOK_ID_NONE) tok_sink_put(j->sink, id);
        text = str_skip(text, begin + bytes);
    }
    return OK;
}

static status encode_normal(encode_job *j, str text, error *err) {
    if (j->t->spm_escapes && text.n > 0) TRY(escape_spaces(j, &text, err));
    bool kept = j->t->vocab.kind == TOK_KIND_SPM && j->t->in_place.count > 1;
    return kept ? encode_between(j, text, err) : encode_words(j, text, err);
}

/* --- cut: special tokens ------------------------------------------------------------------- */

/* Encodes a piece of text between special tokens; `first`: none came before it. */
typedef status (*fragment_fn)(encode_job *j, str text, bool first, error *err);

static status encode_fragments(encode_job *j, const tok_special *special, str text, bool first,
                               fragment_fn encode_fragment, error *err) {
    special_cuts cuts = {0};
    special_breaks breaks = text.p == j->text ? j->breaks : (special_breaks){0};
    status st = special_find(special, text, &breaks, &cuts, err);
    size_t at = 0;
    for (size_t i = 0; st == OK && i <= cuts.count; i++) {
        size_t end = i < cuts.count ? cuts.cuts[i].begin : text.n;
        str fragment = {text.p + at, end - at};
        if (fragment.n > 0) st = encode_fragment(j, fragment, first && i == 0, err);
        if (i == cuts.count) break;
        tok_sink_put(j->sink, special->tokens[cuts.cuts[i].rank].id);
        at = cuts.cuts[i].end;
        if (st == OK) st = check_limit(j->sink, j->sink->count, err);
    }
    mem_free(cuts.cuts);
    return st;
}

static status encode_normalized(encode_job *j, str text, bool first, error *err) {
    if (!tok_normalizer_is_identity(j->t->late)) {
        TRY(tok_normalize(j->t->late, text, first, &j->late, &j->spare, err));
        text = buf_view(&j->late);
    }
    return encode_normal(j, text, err);
}

/* A sequence of two to four bytes by its form alone, which is a character too long or a surrogate
 * where unicode_decode() sees none; *cp stays as it is when the form is broken. */
static uint32_t decode_by_form(str text, uint32_t *cp) {
    const unsigned char *p = (const unsigned char *)text.p;
    uint32_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC0 || p[0] >= 0xF8 || text.n < n) return 1;
    uint32_t sum = p[0] & (0x7Fu >> n);
    for (uint32_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) return 1;
        sum = sum << 6 | (p[i] & 0x3F);
    }
    if (sum > UNICODE_POINT_MAX) return 1;
    *cp = sum;
    return n;
}

/* Makes a text of characters: those written too long get their proper bytes, bytes that are part
 * of none become U+FFFD, one for each.  Surrogates stay.  SentencePiece, which unigram vocabularies
 * come from, knows no such characters. */
static status repair(encode_job *j, str *text, error *err) {
    bool lenient = j->t->vocab.kind != TOK_KIND_UNIGRAM;
    buf_clear(&j->repaired);
    while (text->n > 0) {
        char bytes[UNICODE_BYTES_MAX];
        uint32_t cp = 0, n = unicode_decode(text->p, text->n, &cp);
        if (lenient && cp == UNICODE_REPLACEMENT && n == 1) n = decode_by_form(*text, &cp);
        buf_put(&j->repaired, bytes, unicode_encode(cp, bytes));
        *text = str_skip(*text, n);
    }
    *text = buf_view(&j->repaired);
    return buf_status(&j->repaired, "prompt", err);
}

/* Two kinds take any bytes as they are; the others were made for text. */
static bool needs_utf8(const tokenizer *t) {
    return t->vocab.kind != TOK_KIND_SPM && t->vocab.kind != TOK_KIND_RWKV;
}

static status encode_unbroken(encode_job *j, str text, bool first, error *err) {
    const tokenizer *t = j->t;
    if (needs_utf8(t) && !str_is_utf8(text)) TRY(repair(j, &text, err));
    if (!tok_normalizer_is_identity(t->normalizer)) {
        TRY(tok_normalize(t->normalizer, text, first, &j->normal, &j->spare, err));
        text = buf_view(&j->normal);
    }
    const tok_special *special = &t->specials[j->parse_special][1];
    if (special->count == 0) return encode_normalized(j, text, first, err);
    return encode_fragments(j, special, text, first, encode_normalized, err);
}

/* Normalizing moves the bytes that breaks count: where special tokens are looked for behind it,
 * the text is taken apart at its breaks before. */
static status encode_raw(encode_job *j, str text, bool first, error *err) {
    size_t at = (size_t)(text.p - j->text), end = at + text.n;
    bool whole = j->breaks.count == 0 || j->t->specials[j->parse_special][1].count == 0;
    uint32_t i = whole ? 0 : special_break_behind(&j->breaks, at);
    for (; !whole && i < j->breaks.count && j->breaks.at[i] < end; i++) {
        if (j->breaks.at[i] == at) continue;
        TRY(encode_unbroken(j, (str){j->text + at, j->breaks.at[i] - at}, first, err));
        at = j->breaks.at[i];
        first = false;
    }
    return encode_unbroken(j, (str){j->text + at, end - at}, first, err);
}

/* --- frame: the whole ---------------------------------------------------------------------- */

static status encode_text(const tokenizer *t, str text, const tok_options *options, tok_sink *sink,
                          error *err) {
    encode_job job;
    if (text.n == 0) return OK;
    job_init(&job, t, text, options, sink);
    const tok_special *special = &t->specials[options->parse_special][0];
    status st = encode_fragments(&job, special, text, true, encode_raw, err);
    job_deinit(&job);
    return st;
}

static status encode(const tokenizer *t, str text, const tok_options *options, tok_sink *sink,
                     error *err) {
    const tok_vocab *v = &t->vocab;
    /* Where the bytes that a token covers are bounded, huge texts are refused before the work. */
    if (t->covers_max > 0) TRY(check_limit(sink, num_div_up_size(text.n, t->covers_max), err));
    for (uint32_t i = 0; options->add_special && i < v->before_count; i++)
        tok_sink_put(sink, v->before[i]);
    TRY(encode_text(t, text, options, sink, err));
    for (uint32_t i = 0; options->add_special && i < v->after_count; i++)
        tok_sink_put(sink, v->after[i]);
    TRY(check_limit(sink, sink->count, err));
    return buf_status(sink->ids, "prompt ids", err);
}

status tok_encode(const tokenizer *t, str text, const tok_options *options, buf *ids, error *err) {
    tok_sink sink = {.ids = ids, .tokens_max = options->tokens_max};
    size_t before = ids->n;
    if (text.n > TOK_TEXT_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "prompt: %zu bytes, at most %d", text.n,
                         TOK_TEXT_BYTES_MAX);
    status st = encode(t, text, options, &sink, err);
    if (st != OK) ids->n = before;
    return st;
}
