/* tok_build.c - checks a vocabulary and builds the tables of its tokenizer. */
#include <inttypes.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"
#include "text/tok_bytes.h"
#include "text/tok_ends.h"
#include "text/tok_internal.h"

/* --- checks at the door ------------------------------------------------------------------- */

static status check_id(const tok_vocab *v, const char *name, int32_t id, bool needed, error *err) {
    if (id == TOK_ID_NONE && !needed) return OK;
    if (id >= 0 && (uint32_t)id < v->count) return OK;
    return error_set(err, ERR_FORMAT, "tokenizer: %s token is %d, the vocabulary has %u tokens",
                     name, id, v->count);
}

static status check_id_list(const tok_vocab *v, const char *name, const int32_t *ids,
                            uint32_t count, uint32_t max, error *err) {
    if (count > max)
        return error_set(err, ERR_LIMIT, "tokenizer: %u tokens %s, at most %u", count, name, max);
    for (uint32_t i = 0; i < count; i++) TRY(check_id(v, name, ids[i], true, err));
    return OK;
}

static status check_ids(const tok_vocab *v, error *err) {
    TRY(check_id(v, "bos", v->bos_id, false, err));
    TRY(check_id(v, "eos", v->eos_id, false, err));
    TRY(check_id(v, "eot", v->eot_id, false, err));
    TRY(check_id(v, "unknown", v->unk_id, false, err));
    TRY(check_id_list(v, "in front", v->before, v->before_count, TOK_AROUND_MAX, err));
    TRY(check_id_list(v, "behind", v->after, v->after_count, TOK_AROUND_MAX, err));
    return check_id_list(v, "that end", v->ends, v->ends_count, TOK_ENDS_MAX, err);
}

static bool walks_trie(tok_kind kind) {
    return kind == TOK_KIND_UNIGRAM || kind == TOK_KIND_WORDPIECE || kind == TOK_KIND_RWKV;
}

/* A space in front of each word must find room where pieces are written out. */
static uint32_t piece_bytes_max(const tok_vocab *v, uint32_t id) {
    bool walked = tok_is_in_place(v, id) || (walks_trie(v->kind) && tok_is_text(v, id));
    if (walked) return TOK_TRIE_PIECE_BYTES_MAX;
    return TOK_PIECE_BYTES_MAX - (v->form == TOK_FORM_HASH_MARK);
}

static status check_pieces(const tok_vocab *v, error *err) {
    for (uint32_t id = 0; id < v->count; id++) {
        uint32_t max = piece_bytes_max(v, id);
        if (v->pieces[id].n > max)
            return error_set(err, ERR_LIMIT, "tokenizer: token %u has %zu bytes, at most %u", id,
                             v->pieces[id].n, max);
        if (v->types[id] == TOK_TYPE_BYTE && tok_byte_of_piece(v->pieces[id]) < 0)
            return error_set(err, ERR_FORMAT, "tokenizer: byte token %u is '%.*s', not <0xXX>", id,
                             STR(v->pieces[id]));
    }
    if (v->continuing_prefix.n > TOK_PIECE_BYTES_MAX || v->end_of_word.n > TOK_PIECE_BYTES_MAX / 2)
        return error_set(err, ERR_LIMIT, "tokenizer: marks of %zu and %zu bytes, at most %d and %d",
                         v->continuing_prefix.n, v->end_of_word.n, TOK_PIECE_BYTES_MAX,
                         TOK_PIECE_BYTES_MAX / 2);
    return OK;
}

status tok_check_vocab(const tok_vocab *v, error *err) {
    if (v->kind == TOK_KIND_NONE || v->kind > TOK_KIND_WORDLEVEL)
        return error_set(err, ERR_UNSUPPORTED,
                         "tokenizer: vocabulary of kind %d, expected %d to %d", (int)v->kind,
                         (int)TOK_KIND_SPM, (int)TOK_KIND_WORDLEVEL);
    if (v->count == 0 || v->count > TOK_VOCAB_COUNT_MAX)
        return error_set(err, ERR_LIMIT, "tokenizer: %u tokens, at least 1 and at most %d",
                         v->count, TOK_VOCAB_COUNT_MAX);
    ASSERT(v->pieces != NULL && v->types != NULL && v->norms_late <= v->norms_count);
    if ((v->kind == TOK_KIND_SPM || v->kind == TOK_KIND_UNIGRAM) && v->scores == NULL)
        return error_set(err, ERR_FORMAT, "tokenizer: no scores for %u tokens, which need them",
                         v->count);
    TRY(check_pieces(v, err));
    return check_ids(v, err);
}

/* --- texts: what pieces stand for ---------------------------------------------------------- */

/* Is this piece written in the alphabet of bytes?  Tokens that a user named are plain text. */
static bool is_spelled(const tok_vocab *v, uint32_t id) {
    return v->types[id] == TOK_TYPE_NORMAL || v->types[id] == TOK_TYPE_UNUSED;
}

/* The bytes of a piece at `out`; {NULL, 0} for one that is outside the alphabet.  The mark at the
 * end of a word stays as it is. */
static str read_spelled(const tok_vocab *v, str piece, char *out) {
    size_t bytes = 0;
    bool ends = v->end_of_word.n > 0 && str_ends(piece, v->end_of_word);
    str mark = ends ? v->end_of_word : S("");
    if (!tok_alphabet_read((str){piece.p, piece.n - mark.n}, out, &bytes)) return (str){0};
    memcpy(out + bytes, mark.p, mark.n);
    return (str){out, bytes + mark.n};
}

static status fill_texts(tokenizer *t, error *err) {
    const tok_vocab *v = &t->vocab;
    size_t bytes = 0;
    t->texts = v->pieces;
    if (v->form != TOK_FORM_BYTE_LEVEL) return OK;
    for (uint32_t id = 0; id < v->count; id++) bytes += v->pieces[id].n;
    t->texts_owned = mem_try_calloc(v->count, sizeof *t->texts_owned);
    t->text_bytes = mem_try_alloc(bytes + 1);
    if (t->texts_owned == NULL || t->text_bytes == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %zu bytes of pieces", bytes);
    char *out = t->text_bytes;
    for (uint32_t id = 0; id < v->count; id++) {
        str text = is_spelled(v, id) ? read_spelled(v, v->pieces[id], out) : (str){0};
        t->texts_owned[id] = text.p != NULL ? text : v->pieces[id];
        if (text.p != NULL) out += text.n;
    }
    t->texts = t->texts_owned;
    return OK;
}

/* May text become this token?  Not where its piece is no spelling of bytes. */
static bool is_mergeable(const tokenizer *t, uint32_t id) {
    if (!tok_is_text(&t->vocab, id) || t->texts[id].n == 0) return false;
    bool plain = t->texts[id].p == t->vocab.pieces[id].p;
    return t->texts_owned == NULL || !is_spelled(&t->vocab, id) || !plain;
}

/* Of two tokens with the same text the one with the lower id is used. */
static status fill_pieces(tokenizer *t, error *err) {
    TRY(piece_table_init(&t->pieces, t->texts, t->vocab.count, err));
    for (uint32_t id = 0; id < t->vocab.count; id++)
        if (is_mergeable(t, id)) piece_table_add(&t->pieces, (int32_t)id);
    return OK;
}

/* --- byte tokens -------------------------------------------------------------------------- */

/* The tokens <0xXX>, where this kind goes back to them. */
static void fill_byte_tokens(tokenizer *t) {
    const tok_vocab *v = &t->vocab;
    for (int b = 0; b < 256; b++) t->bytes[b] = TOK_ID_NONE;
    if (v->kind != TOK_KIND_SPM && !v->byte_fallback) return;
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->types[id] != TOK_TYPE_BYTE) continue;
        int b = tok_byte_of_piece(v->pieces[id]);
        if (t->bytes[b] == TOK_ID_NONE) t->bytes[b] = (int32_t)id;
    }
}

/* SPM and bytes as units: where there is no byte token, a token of just that byte.  SPM must have
 * something for each byte, be it the unknown token. */
static status fill_bytes(tokenizer *t, error *err) {
    bool spm = t->vocab.kind == TOK_KIND_SPM, fused = t->vocab.fuse_unknown;
    fill_byte_tokens(t);
    if (!spm && !t->units_are_bytes) return OK;
    for (int b = 0; b < 256; b++) {
        char c = (char)b;
        int32_t single = piece_table_find(&t->pieces, (str){&c, 1});
        if (t->units_are_bytes && single != TOK_ID_NONE) t->bytes[b] = single;
        if (t->bytes[b] == TOK_ID_NONE) t->bytes[b] = single;
        if (spm && t->bytes[b] == TOK_ID_NONE && !fused) t->bytes[b] = t->vocab.unk_id;
        if (spm && t->bytes[b] == TOK_ID_NONE && t->vocab.unk_id == TOK_ID_NONE)
            return error_set(err, ERR_FORMAT,
                             "tokenizer: no token for byte 0x%02X, and no unknown token", b);
    }
    return OK;
}

/* --- neighbours --------------------------------------------------------------------------- */

static void join_text(tokenizer *t, str text) {
    tok_unit before = tok_unit_of(t, text);
    for (text = str_skip(text, before.bytes); text.n > 0;) {
        tok_unit unit = tok_unit_of(t, text);
        uint64_t bit = tok_join_bit(t, before, unit);
        t->joins[bit / 64] |= UINT64_C(1) << (bit % 64);
        text = str_skip(text, unit.bytes);
        before = unit;
    }
}

/* Four bits a token: vocabularies repeat their neighbours, so few of them are set.  None at all
 * where units are spelled differently inside words. */
static status fill_joins(tokenizer *t, error *err) {
    const tok_vocab *v = &t->vocab;
    bool merges = v->kind == TOK_KIND_SPM || v->kind == TOK_KIND_BPE;
    if (!merges && v->kind != TOK_KIND_UNIGRAM) return OK;
    if (v->end_of_word.n > 0 || v->continuing_prefix.n > 0) return OK;
    t->joins_log2 = 16;
    while (t->joins_log2 < 28 && UINT64_C(1) << t->joins_log2 < 4 * (uint64_t)v->count)
        t->joins_log2++;
    size_t words = (size_t)1 << (t->joins_log2 - 6);
    t->joins = mem_try_calloc(words, sizeof *t->joins);
    if (t->joins == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %zu words of neighbours", words);
    for (uint32_t id = 0; id < v->count; id++)
        if (is_mergeable(t, id)) join_text(t, t->texts[id]);
    return OK;
}

/* --- merges ------------------------------------------------------------------------------- */

/* A side of a merge as text: two of them fit into `out` with room for both. */
static str read_side(const tokenizer *t, str side, char *out) {
    if (side.n > TOK_PIECE_BYTES_MAX) return (str){0};
    if (t->texts_owned != NULL) return read_spelled(&t->vocab, side, out);
    memcpy(out, side.p, side.n);
    return (str){out, side.n};
}

/* The ids of a merge; false when one of the three is no token that text may become. */
static bool resolve_merge(const tokenizer *t, const tok_merge *merge, pair_slot *out) {
    char both[2 * TOK_PIECE_BYTES_MAX], other[TOK_PIECE_BYTES_MAX];
    str left = read_side(t, merge->left, both), right = read_side(t, merge->right, other);
    if (left.p == NULL || right.p == NULL) return false;
    out->left = piece_table_find(&t->pieces, left);
    out->right = piece_table_find(&t->pieces, right);
    str prefix = t->vocab.continuing_prefix;
    if (prefix.n > 0 && str_starts(right, prefix)) right = str_skip(right, prefix.n);
    memcpy(both + left.n, right.p, right.n);
    out->merged = piece_table_find(&t->pieces, (str){both, left.n + right.n});
    return out->left != TOK_ID_NONE && out->right != TOK_ID_NONE && out->merged != TOK_ID_NONE;
}

static status fill_merges(tokenizer *t, error *err) {
    const tok_vocab *v = &t->vocab;
    uint32_t left_out = 0;
    if (v->kind != TOK_KIND_BPE) return OK;
    TRY(pair_table_init(&t->pairs, v->merges_count, err));
    for (uint32_t rank = 0; rank < v->merges_count; rank++) {
        pair_slot merge = {.rank = rank};
        if (resolve_merge(t, &v->merges[rank], &merge))
            pair_table_add(&t->pairs, merge);
        else
            left_out++;
    }
    if (left_out > 0)
        log_warn("tokenizer", "merges of what is no token are left out merges=%u of=%u", left_out,
                 v->merges_count);
    return OK;
}

/* --- the trie ----------------------------------------------------------------------------- */

/* Where the pieces that begin a word and those that go on with it stand in the trie. */
static void find_marks(tokenizer *t) {
    const tok_vocab *v = &t->vocab;
    t->has_begins = t->has_goes_on = true;
    if (v->form == TOK_FORM_WORD_MARK)
        t->has_begins = tok_trie_walk(&t->trie, S("\xE2\x96\x81"), &t->begins_node);
    else
        t->has_goes_on = tok_trie_walk(&t->trie, v->continuing_prefix, &t->goes_on_node);
}

static bool is_in_place(const tokenizer *t, uint32_t id) { return tok_is_in_place(&t->vocab, id); }

/* Most vocabularies have none, and no trie of them. */
static bool has_in_place(const tokenizer *t) {
    for (uint32_t id = 0; id < t->vocab.count; id++)
        if (is_in_place(t, id)) return true;
    return false;
}

/* The trie of the tokens that are chosen. */
static status fill_trie(const tokenizer *t, tok_trie *out,
                        bool (*is_chosen)(const tokenizer *t, uint32_t id), error *err) {
    const tok_vocab *v = &t->vocab;
    bool *use = mem_try_calloc(v->count, sizeof *use);
    if (use == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %u pieces", v->count);
    for (uint32_t id = 0; id < v->count; id++) use[id] = is_chosen(t, id);
    status st = tok_trie_init(out, t->texts, use, v->count, err);
    mem_free(use);
    return st;
}

static status fill_tries(tokenizer *t, error *err) {
    const tok_vocab *v = &t->vocab;
    if (has_in_place(t)) TRY(fill_trie(t, &t->in_place, is_in_place, err));
    tok_normalizer_keep(t->normalizer, &t->in_place);
    tok_normalizer_keep(t->late, &t->in_place);
    if (!walks_trie(v->kind)) return OK;
    TRY(fill_trie(t, &t->trie, is_mergeable, err));
    if (v->kind == TOK_KIND_WORDPIECE) find_marks(t);
    if (v->kind == TOK_KIND_UNIGRAM) t->unknown_score = unigram_unknown_score(v);
    if (v->kind == TOK_KIND_UNIGRAM) t->best_score = unigram_best_score(v);
    return OK;
}

/* --- special tokens and the end of a generation --------------------------------------------- */

/* Without norms, raw and normalized text are the same, and all tokens are cut out of the raw. */
static status fill_specials(tokenizer *t, error *err) {
    bool identity = tok_normalizer_is_identity(t->normalizer);
    for (int control = 0; control < 2; control++) {
        special_choice raw = {.control = control != 0, .raw = true, .normalized = identity};
        special_choice normal = {.control = control != 0, .normalized = true};
        TRY(special_init(&t->specials[control][0], &t->vocab, NULL, raw, err));
        if (identity) continue;
        TRY(special_init(&t->specials[control][1], &t->vocab, t->normalizer, normal, err));
    }
    return OK;
}

static void add_eog(tokenizer *t, int32_t id) {
    if (id == TOK_ID_NONE || tok_is_eog(t, id) || t->eog_count == TOK_EOG_MAX) return;
    t->eog[t->eog_count++] = id;
}

static bool may_end(const tok_vocab *v, uint32_t id) {
    return v->types[id] == TOK_TYPE_CONTROL || v->types[id] == TOK_TYPE_USER_DEFINED;
}

static void fill_eog(tokenizer *t) {
    const tok_vocab *v = &t->vocab;
    tok_end_marks marks = {0};
    for (uint32_t id = 0; id < v->count; id++)
        if (may_end(v, id)) tok_end_marks_add(&marks, v->pieces[id]);
    add_eog(t, v->eos_id);
    if (v->eot_id != TOK_ID_NONE && !tok_is_end_revoked(&marks, v->pieces[v->eot_id]))
        add_eog(t, v->eot_id);
    for (uint32_t i = 0; i < v->ends_count; i++) add_eog(t, v->ends[i]);
    for (uint32_t id = 0; id < v->count; id++)
        if (may_end(v, id) && tok_is_end_text(v->pieces[id]) &&
            !tok_is_end_revoked(&marks, v->pieces[id]))
            add_eog(t, (int32_t)id);
}

/* --- the whole ---------------------------------------------------------------------------- */

/* Only where each byte of a text needs its share of a token can their number be bounded. */
static void fill_covers(tokenizer *t) {
    const tok_vocab *v = &t->vocab;
    t->piece_bytes_max = 1;
    for (uint32_t id = 0; id < v->count; id++)
        t->piece_bytes_max = num_max_u32(t->piece_bytes_max, (uint32_t)v->pieces[id].n);
    if (v->kind == TOK_KIND_SPM && v->norms_count == 0 && v->splits_count == 0 && v->flags == NULL)
        t->covers_max = t->piece_bytes_max;
}

static bool has_norm(const tok_vocab *v, tok_norm_kind kind) {
    for (uint32_t i = 0; i < v->norms_count; i++)
        if (v->norms[i].kind == kind) return true;
    return false;
}

status tok_build(tokenizer *t, error *err) {
    const tok_vocab *v = &t->vocab;
    t->units_are_bytes = v->kind == TOK_KIND_BPE && v->form == TOK_FORM_BYTE_LEVEL;
    t->spm_escapes = v->kind == TOK_KIND_SPM && !has_norm(v, TOK_NORM_SENTENCEPIECE);
    t->spm_space = t->spm_escapes && v->add_space_prefix && !has_norm(v, TOK_NORM_PREPEND);
    uint32_t early = v->norms_count - v->norms_late;
    TRY(tok_normalizer_create(&t->normalizer, v->norms, early, err));
    const tok_norm *late = v->norms_late > 0 ? v->norms + early : NULL;
    TRY(tok_normalizer_create(&t->late, late, v->norms_late, err));
    TRY(tok_splitter_create(&t->splitter, v->splits, v->splits_count, err));
    TRY(fill_texts(t, err));
    TRY(fill_pieces(t, err));
    TRY(fill_bytes(t, err));
    TRY(fill_joins(t, err));
    TRY(fill_merges(t, err));
    TRY(fill_tries(t, err));
    TRY(fill_specials(t, err));
    fill_covers(t);
    fill_eog(t);
    return OK;
}
