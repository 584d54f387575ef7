/* dataset.h - the corpus as tokens, and batches of whole documents from it.
 *
 * A document of L tokens teaches L - 1 of them, each from those before it; its last token is a
 * target only.  Answers weigh 1, everything else `prompt_weight`.  Behind the token that ends an
 * answer nothing is learnt: generation stops there.
 * The order of documents is a function of seed and epoch.  Documents longer than the context are
 * left out and counted.  Owner: whoever holds the structs; one thread. */
#ifndef TRAIN_DATASET_H
#define TRAIN_DATASET_H

#include "train/corpus.h"
#include "train/net.h"

typedef struct dataset {
    buf ids;     /* int32, all documents one behind the other */
    buf weights; /* float for each: as a target */
    buf begins;  /* uint32 [docs + 1] */
    uint32_t docs;
    uint32_t too_long;  /* documents left out */
    uint64_t answers;   /* tokens that are learnt with weight 1 */
    uint64_t straddles; /* tokens that begin before an answer and end in it: not learnt */
} dataset;

typedef struct dataset_options {
    uint32_t ctx;
    float prompt_weight;
} dataset_options;

/* Renders and encodes every conversation.  Errors name the line. */
NODISCARD status dataset_read(dataset *d, corpus *c, const chat_template *t, const tokenizer *tok,
                              const dataset_options *opt, error *err);
void dataset_deinit(dataset *d);

/* --- batches ----------------------------------------------------------------------------- */
/* Where a walk over documents is: all that a checkpoint needs. */
typedef struct walk_state {
    uint32_t epoch, at;
} walk_state;

/* A part of the documents, in the order of each epoch. */
typedef struct walk {
    const dataset *data; /* borrowed */
    uint32_t *docs;      /* [count] owned: which */
    uint32_t *order;     /* [count] owned: the same, in this epoch's order */
    uint32_t count;
    uint64_t seed;
    bool shuffled; /* anew in each epoch; else always in the same order */
    walk_state state;
} walk;

/* The documents in two: `held_out` of them, drawn by the seed, are for validation and never
 * trained on.  ERR_INVALID when one side would be empty. */
NODISCARD status walk_split(const dataset *d, uint64_t seed, uint32_t held_out, walk *train,
                            walk *validation, error *err);
void walk_deinit(walk *w);
/* Puts it where it was. */
void walk_restore(walk *w, walk_state state);

/* Memory for one batch. */
typedef struct batch_buffer {
    uint32_t tokens_max;
    int32_t *ids, *targets;
    float *weights;
    uint32_t *positions, *begins;
    doc_batch view;
    double weight; /* sum of weights */
} batch_buffer;

NODISCARD status batch_buffer_init(batch_buffer *b, uint32_t tokens_max, error *err);
void batch_buffer_deinit(batch_buffer *b);

/* The next documents that fit; over the end of an epoch it goes on with the next one, or, with
 * `once`, stops there: false when there was none left. */
bool walk_next(walk *w, batch_buffer *b, bool once);

#endif
