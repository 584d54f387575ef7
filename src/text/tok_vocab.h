/* tok_vocab.h - what a tokenizer needs to know, as borrowed views.
 *
 * Filled by model/vocab.c from a model file, by tests by hand.  Everything pointed to
 * must outlive the tokenizer built from it.  Source of the token types and defaults:
 * the GGUF specification, "tokenizer.ggml.*". */
#ifndef TEXT_TOK_VOCAB_H
#define TEXT_TOK_VOCAB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

typedef enum tok_kind {
    TOK_KIND_NONE, /* the file has no tokenizer */
    TOK_KIND_SPM,  /* SentencePiece BPE with scores: "llama" */
} tok_kind;

typedef enum tok_type {
    TOK_TYPE_NORMAL = 1,
    TOK_TYPE_UNKNOWN = 2,
    TOK_TYPE_CONTROL = 3,
    TOK_TYPE_USER_DEFINED = 4,
    TOK_TYPE_UNUSED = 5,
    TOK_TYPE_BYTE = 6,
} tok_type;

enum { TOK_ID_NONE = -1 };

typedef struct tok_vocab {
    tok_kind kind;
    uint32_t count;       /* tokens */
    const str *pieces;    /* [count] raw bytes, U+2581 where SentencePiece writes a space */
    const float *scores;  /* [count] */
    const uint8_t *types; /* [count] tok_type */
    int32_t bos_id;       /* TOK_ID_NONE when absent, like all of these */
    int32_t eos_id;
    int32_t eot_id;
    int32_t unk_id;
    bool add_bos;
    bool add_eos;
    bool add_space_prefix;
} tok_vocab;

#endif
