/* tok_norm_internal.h - the steps of the normalizer, one function each.
 *
 * Each appends what its step makes of `text` to `out` and leaves running out of room to whoever
 * looks at buf_status(). */
#ifndef TEXT_TOK_NORM_INTERNAL_H
#define TEXT_TOK_NORM_INTERNAL_H

#include "base/buf.h"
#include "base/error.h"
#include "text/tok_norm.h"
#include "text/tok_trie.h"

/* --- tok_norm_form.c: NFC, NFD, NFKC, NFKD ----------------------------------------------- */

/* Is the text in this form for certain?  False when that would need a closer look. */
bool norm_form_is_plain(tok_norm_kind kind, str text);
/* The first character of the canonical decomposition. */
uint32_t norm_base_letter(uint32_t cp);
NODISCARD status norm_form(tok_norm_kind kind, str text, buf *out, error *err);

/* --- tok_norm_chars.c: character by character --------------------------------------------- */

/* TOK_NORM_LOWERCASE, _BASE_LETTERS, _STRIP_ACCENTS, _NMT, _BERT_CLEAN, _BERT_CHINESE. */
void norm_chars(tok_norm_kind kind, str text, buf *out);
/* The text without white space at its ends. */
str norm_strip(str text, bool left, bool right);

/* --- tok_norm_charsmap.c: the compiled maps of SentencePiece ------------------------------ */

typedef struct charsmap {
    str units;        /* u32 each, little-endian: the double array; borrowed */
    str replacements; /* NUL-ended strings, the last byte is NUL; borrowed */
} charsmap;

/* No source string of a map is near this; a hostile one could go on for ever. */
enum { CHARSMAP_MATCH_BYTES_MAX = 256 };

/* ERR_FORMAT for a blob that contradicts itself.  An empty one is the map that changes nothing. */
NODISCARD status charsmap_open(charsmap *m, str blob, error *err);
/* What the start of `text`, which is not empty, becomes, and how many of its bytes that is for. */
size_t charsmap_read(const charsmap *m, str text, str *out);
void charsmap_apply(const charsmap *m, str text, buf *out);

/* --- tok_norm_spm.c: TOK_NORM_SENTENCEPIECE ------------------------------------------------- */

/* `kept` texts stay as they are; it may be NULL. */
void norm_sentencepiece(const tok_norm *rule, const charsmap *map, const tok_trie *kept, str text,
                        buf *out);

#endif
