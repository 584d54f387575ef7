/* tokenizer.h - text to token ids and back, for every kind of vocabulary in text/tok_vocab.h.
 *
 * Owner: whoever created it.  Immutable after creation: any thread may use it at once.
 *
 * Encoding, in the order it happens:
 *   1. cut        Special tokens are cut out of the text: user-defined ones always, control and
 *                 unknown ones with parse_special.  Longer specials go first over the whole
 *                 text, then lower ids, then earlier places.  Those with TOK_FLAG_NORMALIZED
 *                 are looked for behind step 2.
 *   2. normalize  Each text between them passes the norms.  Kinds made for text get U+FFFD for
 *                 each byte that is no UTF-8; SPM and RWKV take any bytes.
 *   3. split      The splits cut it into words.
 *   4. model      Each word becomes ids.  Control, unknown and byte tokens are never the result:
 *                 text cannot forge them.  What is no token becomes byte tokens, the unknown
 *                 token or nothing, as the vocabulary says.
 *   5. frame      The ids of `before` and `after` go around the whole, with add_special.
 * Sources: Sennrich et al. 2016 (BPE), Kudo and Richardson 2018 (SentencePiece), Kudo 2018
 * (unigram), Schuster and Nakajima 2012 (WordPiece). */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "text/tok_vocab.h"

enum {
    TOK_PIECE_BYTES_MAX = 1024,      /* one piece; tok_create refuses longer ones */
    TOK_TRIE_PIECE_BYTES_MAX = 256,  /* where the longest or the likeliest piece is looked for */
    TOK_VOCAB_COUNT_MAX = 1 << 24,   /* tokens in a vocabulary */
    TOK_TEXT_BYTES_MAX = 1 << 30,    /* one tok_encode() call */
    TOK_SCRATCH_BYTES_PER_BYTE = 512 /* bound on tok_encode()'s scratch per byte of text */
};

typedef struct tokenizer tokenizer;

typedef struct tok_options {
    bool add_special;    /* `before` and `after` of the vocabulary go around the text */
    bool parse_special;  /* the text of control and unknown tokens stands for those tokens */
    uint32_t tokens_max; /* more is ERR_LIMIT; UINT32_MAX is no limit */
    /* [breaks_count] bytes of the text, ascending: no special token is seen across one.  Text on
     * both sides is one text otherwise. */
    const uint32_t *breaks;
    uint32_t breaks_count;
} tok_options;

/* `vocab` and everything it points to is borrowed and must outlive the tokenizer.
 * ERR_UNSUPPORTED for no kind of vocabulary, ERR_FORMAT for one that contradicts itself (a
 * special id outside it, a byte that nothing stands for, a broken pattern), ERR_LIMIT,
 * ERR_NOMEM. */
NODISCARD status tok_create(tokenizer **out, const tok_vocab *vocab, error *err);
void tok_destroy(tokenizer *t);

/* Appends the ids of `text` to `ids`, int32 each in the machine's byte order.  The text may be
 * any bytes.  Time is O(n log n) where pieces are merged and O(n) elsewhere, with a factor of at
 * most TOK_TRIE_PIECE_BYTES_MAX; scratch memory is at most TOK_SCRATCH_BYTES_PER_BYTE times
 * the longest text between special tokens.
 * ERR_LIMIT past options->tokens_max ("prompt: at least N tokens, at most M"), past
 * TOK_TEXT_BYTES_MAX or past the limit of `ids`; ERR_NOMEM.  What a failed call appended is
 * taken back. */
NODISCARD status tok_encode(const tokenizer *t, str text, const tok_options *options, buf *ids,
                            error *err);

/* A question and a document as cross-encoders are trained on them, each with the vocabulary's
 * special tokens: one separator between the two for BERT ([CLS] q [SEP] d [SEP]), two for RoBERTa
 * and its kin (<s> q </s></s> d </s>).  Errors as above. */
NODISCARD status tok_encode_pair(const tokenizer *t, str first, str second, uint32_t tokens_max,
                                 buf *ids, error *err);

/* The bytes a token stands for, written to `out`; returns how many.  U+2581 becomes a space,
 * <0xXX> its byte, the alphabet of bytes what it spells.  Control and unknown tokens give their
 * text only with `special`; unused tokens and ids outside the vocabulary give nothing. */
size_t tok_piece_bytes(const tokenizer *t, int32_t id, bool special, char out[TOK_PIECE_BYTES_MAX]);

/* The piece as stored; empty for an id outside the vocabulary.  Borrowed from the vocabulary. */
str tok_piece_view(const tokenizer *t, int32_t id);

bool tok_is_valid(const tokenizer *t, int32_t id);
/* Do the bytes of this token end with a space because its piece has the mark of a word's end? */
bool tok_ends_word(const tokenizer *t, int32_t id);
bool tok_is_control(const tokenizer *t, int32_t id);
/* Does this token end a generation (EOS or end of turn)? */
bool tok_is_eog(const tokenizer *t, int32_t id);
uint32_t tok_vocab_count(const tokenizer *t);
/* TOK_ID_NONE when the vocabulary has none. */
int32_t tok_bos(const tokenizer *t);
int32_t tok_eos(const tokenizer *t);
int32_t tok_eot(const tokenizer *t);
int32_t tok_unk(const tokenizer *t);
/* Does the vocabulary put BOS in front (with add_special)? */
bool tok_adds_bos(const tokenizer *t);
/* Does decoding a whole text drop the space in front of . ? ! , and English contractions? */
bool tok_cleans_up(const tokenizer *t);
/* Does decoding take one space away in front of the text? */
bool tok_adds_space_prefix(const tokenizer *t);

#endif
