/* tokenizer.c - building a tokenizer from a vocabulary, and asking about its tokens. */
#include "text/tokenizer.h"

#include "base/alloc.h"
#include "text/tok_bytes.h"
#include "text/tok_internal.h"

/* --- lifecycle ---------------------------------------------------------------------------- */

status tok_create(tokenizer **out, const tok_vocab *vocab, error *err) {
    TRY(tok_check_vocab(vocab, err));
    tokenizer *t = mem_try_calloc(1, sizeof *t);
    if (t == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %zu bytes", sizeof *t);
    t->vocab = *vocab;
    if (vocab->end_of_word.n == 0) t->vocab.end_of_word = S("");
    if (vocab->continuing_prefix.n == 0) t->vocab.continuing_prefix = S("");
    status st = tok_build(t, err);
    if (st != OK)
        tok_destroy(t);
    else
        *out = t;
    return st;
}

void tok_destroy(tokenizer *t) {
    if (t == NULL) return;
    for (int i = 0; i < 4; i++) special_deinit(&t->specials[i / 2][i % 2]);
    tok_trie_deinit(&t->trie);
    tok_trie_deinit(&t->in_place);
    pair_table_deinit(&t->pairs);
    mem_free(t->joins);
    piece_table_deinit(&t->pieces);
    mem_free(t->texts_owned);
    mem_free(t->text_bytes);
    tok_splitter_destroy(t->splitter);
    tok_normalizer_destroy(t->normalizer);
    tok_normalizer_destroy(t->late);
    mem_free(t);
}

/* --- questions ---------------------------------------------------------------------------- */

bool tok_is_valid(const tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->vocab.count;
}

bool tok_ends_word(const tokenizer *t, int32_t id) {
    const tok_vocab *v = &t->vocab;
    return v->end_of_word.n > 0 && tok_is_valid(t, id) && v->types[id] == TOK_TYPE_NORMAL &&
           str_ends(t->texts[id], v->end_of_word);
}

bool tok_is_control(const tokenizer *t, int32_t id) {
    return tok_is_valid(t, id) && t->vocab.types[id] == TOK_TYPE_CONTROL;
}

bool tok_is_eog(const tokenizer *t, int32_t id) {
    for (uint32_t i = 0; i < t->eog_count; i++)
        if (t->eog[i] == id) return true;
    return false;
}

uint32_t tok_vocab_count(const tokenizer *t) { return t->vocab.count; }
int32_t tok_bos(const tokenizer *t) { return t->vocab.bos_id; }
int32_t tok_eos(const tokenizer *t) { return t->vocab.eos_id; }
int32_t tok_eot(const tokenizer *t) { return t->vocab.eot_id; }
int32_t tok_unk(const tokenizer *t) { return t->vocab.unk_id; }
bool tok_adds_bos(const tokenizer *t) { return tok_vocab_adds_bos(&t->vocab); }
bool tok_cleans_up(const tokenizer *t) { return t->vocab.decode_cleanup; }

/* With marks on what goes on, each other word brings its space, the first one too. */
bool tok_adds_space_prefix(const tokenizer *t) {
    return t->vocab.add_space_prefix || t->vocab.form == TOK_FORM_HASH_MARK;
}

str tok_piece_view(const tokenizer *t, int32_t id) {
    return tok_is_valid(t, id) ? t->vocab.pieces[id] : (str){"", 0};
}

static size_t copy_piece(str piece, char *out) {
    memcpy(out, piece.p, piece.n);
    return piece.n;
}

/* The piece with U+2581 turned back into spaces. */
static size_t copy_unescaped(str piece, char *out) {
    const str mark = S("\xE2\x96\x81");
    size_t n = 0;
    while (piece.n > 0) {
        bool space = str_starts(piece, mark);
        out[n] = piece.p[0];
        if (space) out[n] = ' ';
        n++;
        piece = str_skip(piece, space ? mark.n : 1);
    }
    return n;
}

/* "##ing" goes on with a word, anything else begins one. */
static size_t copy_word_part(const tok_vocab *v, str piece, char *out) {
    str mark = v->continuing_prefix;
    if (mark.n > 0 && str_starts(piece, mark)) return copy_piece(str_skip(piece, mark.n), out);
    out[0] = ' ';
    return 1 + copy_piece(piece, out + 1);
}

static size_t copy_normal(const tokenizer *t, int32_t id, char *out) {
    const tok_vocab *v = &t->vocab;
    str text = t->texts[id];
    bool ends_word = tok_ends_word(t, id);
    if (ends_word) text.n -= v->end_of_word.n;
    size_t n = 0;
    if (v->form == TOK_FORM_METASPACE || v->form == TOK_FORM_WORD_MARK)
        n = copy_unescaped(text, out);
    else if (v->form == TOK_FORM_HASH_MARK)
        n = copy_word_part(v, text, out);
    else
        n = copy_piece(text, out);
    if (ends_word) out[n++] = ' ';
    return n;
}

/* Special tokens are words of their own where words are told apart by marks. */
static size_t copy_special(const tok_vocab *v, str piece, char *out) {
    if (v->unescape_all) return copy_unescaped(piece, out);
    return v->form == TOK_FORM_HASH_MARK ? copy_word_part(v, piece, out) : copy_piece(piece, out);
}

static size_t copy_token(const tokenizer *t, int32_t id, bool special, char *out) {
    str piece = tok_piece_view(t, id);
    if (piece.n == 0) return 0;
    switch (t->vocab.types[id]) {
    case TOK_TYPE_NORMAL:
        return copy_normal(t, id, out);
    case TOK_TYPE_USER_DEFINED:
        return copy_special(&t->vocab, piece, out);
    case TOK_TYPE_CONTROL:
    case TOK_TYPE_UNKNOWN:
        return special ? copy_special(&t->vocab, piece, out) : 0;
    case TOK_TYPE_BYTE:
        out[0] = (char)tok_byte_of_piece(piece);
        return 1;
    default:
        return 0;
    }
}

/* Every `from` in the text becomes the shorter `to`; returns how long the text is then. */
static size_t replace_all(char *text, size_t n, str from, str to) {
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        bool found = str_starts((str){text + i, n - i}, from);
        if (found) memcpy(text + out, to.p, to.n);
        if (!found) text[out] = text[i];
        out += found ? to.n : 1;
        i += found ? from.n : 1;
    }
    return out;
}

/* Source: Hugging Face tokenizers, the clean-up of the decoder "WordPiece". */
static size_t clean_token(char *text, size_t n) {
    static const struct {
        str from, to;
    } rules[] = {{S(" ."), S(".")},     {S(" ?"), S("?")},           {S(" !"), S("!")},
                 {S(" ,"), S(",")},     {S(" ' "), S("'")},          {S(" n't"), S("n't")},
                 {S(" 'm"), S("'m")},   {S(" do not"), S(" don't")}, {S(" 's"), S("'s")},
                 {S(" 've"), S("'ve")}, {S(" 're"), S("'re")}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        n = replace_all(text, n, rules[i].from, rules[i].to);
    return n;
}

size_t tok_piece_bytes(const tokenizer *t, int32_t id, bool special,
                       char out[TOK_PIECE_BYTES_MAX]) {
    size_t n = copy_token(t, id, special, out);
    return t->vocab.cleanup_tokens ? clean_token(out, n) : n;
}
