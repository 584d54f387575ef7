/* tokenizer.c - building a tokenizer from a vocabulary, and asking about its tokens. */
#include "text/tokenizer.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "text/tok_internal.h"

/* --- checks at the door ------------------------------------------------------------------- */

static status check_id(const tok_vocab *v, const char *name, int32_t id, bool needed, error *err) {
    if (id == TOK_ID_NONE && !needed) return OK;
    if (id >= 0 && (uint32_t)id < v->count) return OK;
    return error_set(err, ERR_FORMAT, "tokenizer: %s token is %d, the vocabulary has %u tokens",
                     name, id, v->count);
}

static status check_ids(const tok_vocab *v, error *err) {
    TRY(check_id(v, "bos", v->bos_id, v->add_bos, err));
    TRY(check_id(v, "eos", v->eos_id, v->add_eos, err));
    TRY(check_id(v, "eot", v->eot_id, false, err));
    return check_id(v, "unknown", v->unk_id, false, err);
}

static status check_vocab(const tok_vocab *v, error *err) {
    if (v->kind != TOK_KIND_SPM)
        return error_set(err, ERR_UNSUPPORTED, "tokenizer: vocabulary of kind %d, expected %d",
                         (int)v->kind, (int)TOK_KIND_SPM);
    if (v->count == 0 || v->count > TOK_VOCAB_COUNT_MAX)
        return error_set(err, ERR_LIMIT, "tokenizer: %u tokens, at least 1 and at most %d",
                         v->count, TOK_VOCAB_COUNT_MAX);
    ASSERT(v->pieces != NULL && v->scores != NULL && v->types != NULL);
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->pieces[id].n > TOK_PIECE_BYTES_MAX)
            return error_set(err, ERR_LIMIT, "tokenizer: token %u has %zu bytes, at most %d", id,
                             v->pieces[id].n, TOK_PIECE_BYTES_MAX);
    }
    return check_ids(v, err);
}

/* --- byte tokens -------------------------------------------------------------------------- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* The byte of a piece "<0xXX>", -1 when it is not of that form. */
static int byte_of_piece(str piece) {
    if (piece.n != 6 || !str_starts(piece, S("<0x")) || piece.p[5] != '>') return -1;
    int high = hex_digit(piece.p[3]), low = hex_digit(piece.p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The id for each byte: its byte token, else a token of just that byte, else unknown. */
static status fill_bytes(tokenizer *t, error *err) {
    const tok_vocab *v = &t->vocab;
    for (int b = 0; b < 256; b++) t->bytes[b] = TOK_ID_NONE;
    for (uint32_t id = 0; id < v->count; id++) {
        if (v->types[id] != TOK_TYPE_BYTE) continue;
        int b = byte_of_piece(v->pieces[id]);
        if (b < 0)
            return error_set(err, ERR_FORMAT, "tokenizer: byte token %u is '%.*s', not <0xXX>", id,
                             STR(v->pieces[id]));
        if (t->bytes[b] == TOK_ID_NONE) t->bytes[b] = (int32_t)id;
    }
    for (int b = 0; b < 256; b++) {
        char c = (char)b;
        if (t->bytes[b] != TOK_ID_NONE) continue;
        t->bytes[b] = piece_table_find(&t->pieces, (str){&c, 1});
        if (t->bytes[b] == TOK_ID_NONE) t->bytes[b] = v->unk_id;
        if (t->bytes[b] == TOK_ID_NONE)
            return error_set(err, ERR_FORMAT,
                             "tokenizer: no token for byte 0x%02X, and no unknown token", b);
    }
    return OK;
}

/* --- pieces and neighbours ---------------------------------------------------------------- */

/* May text become this token by merging?  Control, unknown and byte tokens are excluded, so that
 * no text of a user can forge them. */
static bool is_mergeable(const tok_vocab *v, uint32_t id) {
    uint8_t type = v->types[id];
    return v->pieces[id].n > 0 && type != TOK_TYPE_CONTROL && type != TOK_TYPE_UNKNOWN &&
           type != TOK_TYPE_BYTE;
}

/* Of two tokens with the same text the one with the lower id is used. */
static status fill_pieces(tokenizer *t, error *err) {
    TRY(piece_table_init(&t->pieces, t->vocab.pieces, t->vocab.count, err));
    t->piece_bytes_max = 1;
    for (uint32_t id = 0; id < t->vocab.count; id++) {
        str piece = t->vocab.pieces[id];
        t->piece_bytes_max = num_max_u32(t->piece_bytes_max, (uint32_t)piece.n);
        if (is_mergeable(&t->vocab, id)) piece_table_add(&t->pieces, (int32_t)id);
    }
    return OK;
}

static void join_piece(tokenizer *t, str piece) {
    tok_unit before = tok_unit_first(piece);
    for (piece = str_skip(piece, before.bytes); piece.n > 0;) {
        tok_unit unit = tok_unit_first(piece);
        uint64_t bit = tok_join_bit(t, before, unit);
        t->joins[bit / 64] |= UINT64_C(1) << (bit % 64);
        piece = str_skip(piece, unit.bytes);
        before = unit;
    }
}

/* Four bits a token: vocabularies repeat their neighbours, so few of them are set. */
static status fill_joins(tokenizer *t, error *err) {
    t->joins_log2 = 16;
    while (t->joins_log2 < 28 && UINT64_C(1) << t->joins_log2 < 4 * (uint64_t)t->vocab.count)
        t->joins_log2++;
    size_t words = (size_t)1 << (t->joins_log2 - 6);
    t->joins = mem_try_calloc(words, sizeof *t->joins);
    if (t->joins == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %zu words of neighbours", words);
    for (uint32_t id = 0; id < t->vocab.count; id++)
        if (is_mergeable(&t->vocab, id)) join_piece(t, t->vocab.pieces[id]);
    return OK;
}

/* --- the end of a generation -------------------------------------------------------------- */

/* Texts that end a turn in published chat formats; files often name only one of them by id. */
static const char *const END_TEXTS[] = {
    "<|im_end|>", "<|end|>",         "<end_of_turn>", "<|eot_id|>",
    "<|eom_id|>", "<|end_of_turn|>", "<|endoftext|>", "<EOT>",
};

static bool is_end_text(str piece) {
    for (size_t i = 0; i < sizeof END_TEXTS / sizeof *END_TEXTS; i++)
        if (str_eq_c(piece, END_TEXTS[i])) return true;
    return false;
}

static void add_eog(tokenizer *t, int32_t id) {
    if (id == TOK_ID_NONE || tok_is_eog(t, id) || t->eog_count == TOK_EOG_MAX) return;
    t->eog[t->eog_count++] = id;
}

static void fill_eog(tokenizer *t) {
    add_eog(t, t->vocab.eos_id);
    add_eog(t, t->vocab.eot_id);
    for (uint32_t i = 0; i < t->specials.count; i++)
        if (is_end_text(t->specials.tokens[i].text)) add_eog(t, t->specials.tokens[i].id);
}

/* --- lifecycle ---------------------------------------------------------------------------- */

static status fill(tokenizer *t, error *err) {
    TRY(fill_pieces(t, err));
    TRY(fill_bytes(t, err));
    TRY(fill_joins(t, err));
    TRY(special_init(&t->specials, &t->vocab, false, err));
    TRY(special_init(&t->user_defined, &t->vocab, true, err));
    fill_eog(t);
    return OK;
}

status tok_create(tokenizer **out, const tok_vocab *vocab, error *err) {
    TRY(check_vocab(vocab, err));
    tokenizer *t = mem_try_calloc(1, sizeof *t);
    if (t == NULL)
        return error_set(err, ERR_NOMEM, "tokenizer: no memory for %zu bytes", sizeof *t);
    t->vocab = *vocab;
    status st = fill(t, err);
    if (st != OK)
        tok_destroy(t);
    else
        *out = t;
    return st;
}

void tok_destroy(tokenizer *t) {
    if (t == NULL) return;
    piece_table_deinit(&t->pieces);
    mem_free(t->joins);
    special_deinit(&t->specials);
    special_deinit(&t->user_defined);
    mem_free(t);
}

/* --- questions ---------------------------------------------------------------------------- */

bool tok_is_valid(const tokenizer *t, int32_t id) {
    return id >= 0 && (uint32_t)id < t->vocab.count;
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
bool tok_adds_bos(const tokenizer *t) { return t->vocab.add_bos; }
bool tok_adds_space_prefix(const tokenizer *t) { return t->vocab.add_space_prefix; }

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

size_t tok_piece_bytes(const tokenizer *t, int32_t id, bool special,
                       char out[TOK_PIECE_BYTES_MAX]) {
    str piece = tok_piece_view(t, id);
    if (piece.n == 0) return 0;
    switch (t->vocab.types[id]) {
    case TOK_TYPE_NORMAL:
        return copy_unescaped(piece, out);
    case TOK_TYPE_USER_DEFINED:
        return copy_piece(piece, out);
    case TOK_TYPE_CONTROL:
    case TOK_TYPE_UNKNOWN:
        return special ? copy_piece(piece, out) : 0;
    case TOK_TYPE_BYTE:
        out[0] = (char)byte_of_piece(piece);
        return 1;
    default:
        return 0;
    }
}
