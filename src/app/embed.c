/* embed.c - `gantry embed`: one text as a vector of its final hidden states, as raw numbers.
 *
 * The states of the tokens are pooled as the model's file says, or as asked; nothing is normalised
 * unless asked. */
#include <math.h>
#include <stdio.h>

#include "app/commands.h"
#include "app/embed_pooling.h"
#include "app/evaluation.h"
#include "base/alloc.h"
#include "base/num.h"
#include "base/os.h"

typedef struct embedding {
    uint32_t dims;
    uint32_t count; /* tokens */
    model_pooling pooling;
    double *sum;   /* [dims] */
    float *vector; /* [dims] */
    int fd;        /* NONE writes states as they come */
} embedding;

/* Does the state at this position go into the vector? */
static bool pools(const embedding *b, uint32_t pos) {
    if (b->pooling == MODEL_POOLING_CLS) return pos == 0;
    return b->pooling == MODEL_POOLING_MEAN || pos + 1 == b->count;
}

static status take_states(embedding *b, const float *states, uint32_t from, uint32_t count,
                          error *err) {
    if (b->pooling == MODEL_POOLING_NONE)
        return os_write_full(b->fd, states, (size_t)count * b->dims * sizeof *states, err);
    for (uint32_t r = 0; r < count; r++)
        for (uint32_t i = 0; i < b->dims && pools(b, from + r); i++)
            b->sum[i] += (double)states[(size_t)r * b->dims + i];
    return OK;
}

/* An encoder sees its text whole; others are computed in chunks. */
static status compute(evaluation *e, embedding *b, uint32_t chunk, error *err) {
    for (uint32_t from = 0; from < b->count; from += chunk) {
        uint32_t n = num_min_u32(b->count - from, chunk);
        const float *logits = NULL;
        TRY(pass_chunk(&e->pass, evaluation_ids(e) + from, from, n, PASS_HIDDEN, &logits, err));
        TRY(take_states(b, engine_hidden(e->engine), from, n, err));
    }
    return OK;
}

static status write_vector(embedding *b, bool normalize, error *err) {
    double share = b->pooling == MODEL_POOLING_MEAN ? 1.0 / b->count : 1.0, squares = 0;
    for (uint32_t i = 0; i < b->dims; i++) squares += b->sum[i] * share * b->sum[i] * share;
    if (normalize && squares > 0) share /= sqrt(squares);
    for (uint32_t i = 0; i < b->dims; i++) b->vector[i] = (float)(b->sum[i] * share);
    return os_write_full(b->fd, b->vector, b->dims * sizeof *b->vector, err);
}

static status embed_into(evaluation *e, const config *c, uint32_t chunk, error *err) {
    embedding b = {.dims = e->model->hparams.n_embd,
                   .count = evaluation_count(e),
                   .pooling = embed_pooling(e->model, c->pooling),
                   .fd = -1};
    b.sum = mem_try_calloc(b.dims, sizeof *b.sum);
    b.vector = mem_try_calloc(b.dims, sizeof *b.vector);
    status st = OK;
    if (b.sum == NULL || b.vector == NULL)
        st = error_set(err, ERR_NOMEM, "embed: no memory for a vector of %u values", b.dims);
    if (st == OK) st = os_open_write(c->out_file.p, &b.fd, err);
    if (st == OK) st = compute(e, &b, chunk, err);
    if (st == OK && b.pooling != MODEL_POOLING_NONE) st = write_vector(&b, c->normalize, err);
    if (b.fd >= 0) os_close(b.fd);
    mem_free(b.sum);
    mem_free(b.vector);
    if (st == OK && b.pooling == MODEL_POOLING_NONE) printf("%u ", b.count);
    if (st == OK) printf("%u\n", b.dims);
    return st;
}

/* Tokens of a step: all of them for an encoder. */
static status chunk_of(const evaluation *e, uint32_t *chunk, error *err) {
    uint32_t count = evaluation_count(e), most = EVALUATION_ROWS_MAX;
    if (e->model->hparams.is_encoder) most = e->model->hparams.ctx_train;
    *chunk = num_min_u32(count, most);
    if (!e->model->hparams.is_encoder || count <= most) return OK;
    return error_set(err, ERR_LIMIT, "embed: the text has %u tokens, at most %u are computed",
                     count, most);
}

status command_embed(const config *c, error *err) {
    evaluation e;
    const char *path = NULL;
    uint32_t chunk = 0;
    evaluation_init(&e);
    status st = OK;
    if (c->out_file.n == 0) st = error_set(err, ERR_INVALID, "usage: -o FILE is wanted");
    if (st == OK) st = command_model_arg(c, &path, err);
    if (st == OK) st = evaluation_model(&e, c, path, err);
    if (st == OK) st = evaluation_prompt(&e, c, err);
    if (st == OK) st = chunk_of(&e, &chunk, err);
    if (st == OK) st = evaluation_engine(&e, c, evaluation_count(&e), chunk, err);
    if (st == OK) st = embed_into(&e, c, chunk, err);
    evaluation_close(&e);
    return st;
}
