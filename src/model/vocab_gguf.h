/* vocab_gguf.h - what the two files that read a GGUF vocabulary share, for src/model only. */
#ifndef MODEL_VOCAB_GGUF_H
#define MODEL_VOCAB_GGUF_H

#include "model/model_internal.h"

/* What a kind of tokenizer, or a family of pre-tokenizers, leaves unsaid in its files. */
typedef struct vocab_defaults {
    int32_t bos_id, eos_id, unk_id, sep_id; /* TOK_ID_NONE when absent */
    bool add_bos, add_eos, add_space_prefix;
    bool always_bos; /* whatever the file says */
} vocab_defaults;

/* --- vocab_gguf_special.c: special ids, frame, ends, flags ---------------------- */
/* Fills ids, before, after, ends and add_space_prefix of m->vocab, whose kind, pieces and
 * types are there already. */
NODISCARD status vocab_read_special(model *m, const vocab_defaults *defaults, error *err);

/* Corrects types by what tokens are known to be, and gives some of them flags.  `types` are
 * those of m->vocab; `typed`: they come from the file. */
NODISCARD status vocab_mend_tokens(model *m, uint8_t *types, bool typed, error *err);

#endif
