/* vocab_dir.h - the tokenizer of a model directory that is not GGUF.
 *
 * Where to look, best first: tokenizer.json; tokenizer.model or spiece.model (SentencePiece);
 * vocab.json with merges.txt; encoder.json with vocab.bpe; vocab.txt (BERT).  Beside each of them
 * tokenizer_config.json, special_tokens_map.json, added_tokens.json, generation_config.json,
 * config.json, chat_template.jinja and chat_template.json are read where they exist: what each
 * contributes is in docs/tokenizers.md. */
#ifndef MODEL_VOCAB_DIR_H
#define MODEL_VOCAB_DIR_H

#include "model/model_internal.h"

typedef enum vocab_source {
    VOCAB_SOURCE_NONE, /* a file that is something else: GGUF, perhaps */
    VOCAB_SOURCE_TOKENIZER_JSON,
    VOCAB_SOURCE_SPM,
    VOCAB_SOURCE_PAIRS, /* vocab.json and merges.txt */
    VOCAB_SOURCE_TXT,   /* vocab.txt */
} vocab_source;

enum { VOCAB_PATH_BYTES_MAX = 4096 };

typedef struct vocab_place {
    vocab_source source;
    char dir[VOCAB_PATH_BYTES_MAX]; /* where the files lie; empty: the current directory */
    char name[64];                  /* base name of the main file */
    blob *file;                     /* the main file; the caller's, NULL with SOURCE_NONE */
} vocab_place;

/* A directory, or one of the main files above by name or content.  ERR_NOT_FOUND when a
 * directory has none of them (the message lists all), ERR_LIMIT for a file or path that is too
 * large. */
NODISCARD status vocab_dir_find(vocab_place *out, const char *path, error *err);

/* Fills m->vocab, the chat templates and m->name; m owns place->file by now, whose source is not
 * NONE. */
NODISCARD status vocab_dir_read(model *m, const vocab_place *place, error *err);

#endif
