/* vocab_file.h - a learnt vocabulary as a GGUF file without tensors.
 *
 * That is the file `gantry-train bpe` makes and `gantry-train run` reads; Gantry's other commands
 * read it too (`gantry tokenize`, `gantry render`), since it holds the same keys that the model
 * will: tokens, merges, types, "tokenizer.ggml.pre", the ids of special tokens, the chat template.
 * Ids: the 256 bytes, the merges, the special tokens in the order they were given.
 *
 * Special tokens are of two kinds (tokenizer.ggml.token_type): TOK_TYPE_CONTROL ones frame turns, and
 * neither come from a user's text nor go into an answer's; TOK_TYPE_USER_DEFINED ones are text
 * that is one token wherever it stands. */
#ifndef TRAIN_VOCAB_FILE_H
#define TRAIN_VOCAB_FILE_H

#include "train/bpe.h"

enum { VOCAB_SPECIALS_MAX = 64 };

typedef struct vocab_plan {
    str pre; /* "qwen2" */
    str specials[VOCAB_SPECIALS_MAX];
    int32_t types[VOCAB_SPECIALS_MAX]; /* TOK_TYPE_CONTROL or TOK_TYPE_USER_DEFINED */
    uint32_t specials_count;
    str bos, eos, eot; /* among the specials; empty: none */
    str chat_template;
} vocab_plan;

/* "A,B,C" into plan->specials, of one type; ERR_INVALID for an empty one, one that is there
 * already, more than VOCAB_SPECIALS_MAX. */
NODISCARD status vocab_plan_specials(vocab_plan *plan, str list, int32_t type, error *err);

/* ERR_INVALID when bos, eos or eot is not among the specials. */
NODISCARD status vocab_file_write(const char *path, const vocab_plan *plan, const bpe *b,
                                  error *err);

#endif
