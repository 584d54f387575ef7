/* evaluation.h - a model opened to be measured: logits, embeddings, perplexity.
 *
 * Model, tokenizer, engine for one sequence and the ids to compute, of one command. */
#ifndef APP_EVALUATION_H
#define APP_EVALUATION_H

#include "app/config.h"
#include "app/pass.h"
#include "base/buf.h"
#include "engine/lora.h"
#include "text/tokenizer.h"

enum {
    EVALUATION_TEXT_BYTES_MAX = 1 << 30,
    EVALUATION_ROWS_MAX = 64, /* a chunk's logits: 64 x 128k x 4 bytes = 32 MiB at most */
};

typedef struct evaluation {
    model *model;
    tokenizer *tok; /* NULL where the model has none */
    engine *engine;
    lora_table *loras; /* NULL without --lora */
    lora_mix mix;
    engine_row *rows; /* behind pass.rows */
    pass pass;
    buf ids; /* int32 */
} evaluation;

void evaluation_init(evaluation *e);
void evaluation_close(evaluation *e);

/* The model of that name; errors name it. */
NODISCARD status evaluation_model(evaluation *e, const config *c, const char *path, error *err);

/* An engine for one sequence of up to ctx_tokens; a chunk has at most rows_max rows, each of which
 * may want its logits or its hidden state. */
NODISCARD status evaluation_engine(evaluation *e, const config *c, uint32_t ctx_tokens,
                                   uint32_t rows_max, error *err);

/* Append the ids of a text, with the tokens the model wants around it. */
NODISCARD status evaluation_encode(evaluation *e, str text, error *err);
/* The ids of --tokens or -p, one of which must be given; checked. */
NODISCARD status evaluation_prompt(evaluation *e, const config *c, error *err);
/* At least one, all in the vocabulary? */
NODISCARD status evaluation_check_ids(const evaluation *e, error *err);

static inline int32_t *evaluation_ids(evaluation *e) { return (int32_t *)(void *)e->ids.p; }
static inline uint32_t evaluation_count(const evaluation *e) {
    return (uint32_t)(e->ids.n / sizeof(int32_t));
}

#endif
