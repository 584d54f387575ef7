/* tok_split.h - the splitting step of a tokenizer: text to words that no token crosses.
 *
 * Immutable after creation, any thread.  The published patterns of the model families are known by
 * their text and run as hand-written linear scanners over the project's own Unicode table, so
 * tokens depend neither on the machine nor on a library's version; any other pattern runs in PCRE2
 * with limits, and the work on one text is bounded: a pattern that blows up is ERR_LIMIT, not a
 * hang.  Text may be any bytes; a broken UTF-8 sequence counts as U+FFFD, one for each byte. */
#ifndef TEXT_TOK_SPLIT_H
#define TEXT_TOK_SPLIT_H

#include "base/buf.h"
#include "base/error.h"
#include "text/tok_vocab.h"

typedef struct tok_splitter tok_splitter;

/* The steps and their patterns are borrowed and must outlive it.  ERR_FORMAT for a pattern that
 * does not compile (with place and reason), ERR_NOMEM.  No steps: the text is one word. */
NODISCARD status tok_splitter_create(tok_splitter **out, const tok_split *steps, uint32_t count,
                                     error *err);
void tok_splitter_destroy(tok_splitter *s);

/* The words of `text`, in order, as {uint32 begin, uint32 end} in `words`, whose content is
 * replaced; each step cuts the words of the one before.  Empty words are left out.  `spare` is
 * scratch of the caller.  text.n <= TOK_TEXT_BYTES_MAX. */
typedef struct tok_word {
    uint32_t begin, end;
} tok_word;
NODISCARD status tok_split_text(const tok_splitter *s, str text, buf *words, buf *spare,
                                error *err);

/* The splits and norms that a name in "tokenizer.ggml.pre" stands for (llama-bpe, qwen2, tekken,
 * ...): static data.  A row says also what files leave unsaid of their family. */
typedef struct tok_family {
    const char *name;
    const tok_split *splits;
    uint32_t splits_count;
    bool ignore_merges; /* words that are tokens need no merges */
} tok_family;

/* NULL for a name nobody has published.  "" and "default" are the GPT-2 style default. */
const tok_family *tok_family_find(str name);

#endif
