/* tok_norm.h - the normalizing step of a tokenizer: text to text.
 *
 * Immutable after creation, any thread.  Canonical and compatibility forms come from utf8proc,
 * which is a decision of docs/adr; everything else is ours.  Text may be any bytes: broken UTF-8
 * becomes U+FFFD only in steps that look at characters (never in REPLACE, PREPEND or
 * COLLAPSE_SPACES), and no step is worse than linear in its input.
 * Source: Unicode Standard Annex 15 (normalization forms); SentencePiece "Normalization", the
 * layout of precompiled_charsmap: u32 trie bytes, a darts-clone double array, then NUL-ended
 * replacement strings. */
#ifndef TEXT_TOK_NORM_H
#define TEXT_TOK_NORM_H

#include "base/buf.h"
#include "base/error.h"
#include "text/tok_trie.h"
#include "text/tok_vocab.h"

typedef struct tok_normalizer tok_normalizer;

/* The steps and their strings are borrowed and must outlive it.  ERR_FORMAT for a charsmap or
 * regex that is broken ("tokenizer: ..."), ERR_UNSUPPORTED, ERR_NOMEM.  No steps is fine. */
NODISCARD status tok_normalizer_create(tok_normalizer **out, const tok_norm *steps, uint32_t count,
                                       error *err);
/* TOK_NORM_SENTENCEPIECE leaves these texts, which are borrowed, as they are. */
void tok_normalizer_keep(tok_normalizer *n, const tok_trie *kept);
void tok_normalizer_destroy(tok_normalizer *n);

/* Does it change nothing, whatever the text? */
bool tok_normalizer_is_identity(const tok_normalizer *n);

/* Replaces the content of `out` by `text` normalized.  `first`: no special token came before it.
 * `spare` is scratch of the caller, kept between calls to save allocations.  ERR_LIMIT past the
 * limit of `out`, ERR_NOMEM. */
NODISCARD status tok_normalize(const tok_normalizer *n, str text, bool first, buf *out, buf *spare,
                               error *err);

#endif
