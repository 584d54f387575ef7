/* walk.c - documents in the order of an epoch, packed into batches. */
#include "base/alloc.h"
#include "train/dataset.h"
#include "train/random.h"

enum { STREAM_SPLIT = 1, STREAM_EPOCH = 1000 }; /* epochs count on from there */

/* --- order ------------------------------------------------------------------------------- */

static status walk_init(walk *w, const dataset *d, uint64_t seed, const uint32_t *docs,
                        uint32_t count, error *err) {
    *w = (walk){.data = d, .count = count, .seed = seed};
    w->docs = mem_try_calloc(count, sizeof *w->docs);
    w->order = mem_try_calloc(count, sizeof *w->order);
    if (w->docs == NULL || w->order == NULL)
        return error_set(err, ERR_NOMEM, "train: no memory for %u documents", count);
    memcpy(w->docs, docs, count * sizeof *docs);
    memcpy(w->order, docs, count * sizeof *docs);
    return OK;
}

void walk_deinit(walk *w) {
    mem_free(w->docs);
    mem_free(w->order);
    *w = (walk){0};
}

/* From the same order each time, so that an epoch does not depend on those before it. */
static void begin_epoch(walk *w, uint32_t epoch) {
    w->state = (walk_state){.epoch = epoch};
    if (!w->shuffled) return;
    random_stream r = random_stream_of(w->seed, STREAM_EPOCH + (uint64_t)epoch);
    memcpy(w->order, w->docs, w->count * sizeof *w->order);
    random_shuffle(&r, w->order, w->count);
}

void walk_restore(walk *w, walk_state state) {
    begin_epoch(w, state.epoch);
    w->state.at = state.at;
}

status walk_split(const dataset *d, uint64_t seed, uint32_t held_out, walk *train, walk *validation,
                  error *err) {
    if (held_out >= d->docs)
        return error_set(err, ERR_INVALID,
                         "train: %u documents are held out for validation of %u in all", held_out,
                         d->docs);
    uint32_t *docs = mem_try_calloc(d->docs, sizeof *docs);
    if (docs == NULL)
        return error_set(err, ERR_NOMEM, "train: no memory for %u documents", d->docs);
    random_stream r = random_stream_of(seed, STREAM_SPLIT);
    for (uint32_t i = 0; i < d->docs; i++) docs[i] = i;
    random_shuffle(&r, docs, d->docs);
    *validation = (walk){0};
    status st = walk_init(train, d, seed, docs + held_out, d->docs - held_out, err);
    if (st == OK && held_out > 0) st = walk_init(validation, d, seed, docs, held_out, err);
    mem_free(docs);
    if (st != OK) return st;
    train->shuffled = true;
    begin_epoch(train, 0);
    return OK;
}

/* --- batches ----------------------------------------------------------------------------- */

status batch_buffer_init(batch_buffer *b, uint32_t tokens_max, error *err) {
    *b = (batch_buffer){.tokens_max = tokens_max};
    b->ids = mem_try_calloc(tokens_max, sizeof *b->ids);
    b->targets = mem_try_calloc(tokens_max, sizeof *b->targets);
    b->weights = mem_try_calloc(tokens_max, sizeof *b->weights);
    b->positions = mem_try_calloc(tokens_max, sizeof *b->positions);
    b->begins = mem_try_calloc((size_t)tokens_max + 1, sizeof *b->begins);
    if (b->ids != NULL && b->targets != NULL && b->weights != NULL && b->positions != NULL &&
        b->begins != NULL)
        return OK;
    batch_buffer_deinit(b);
    return error_set(err, ERR_NOMEM, "train: no memory for batches of %u tokens", tokens_max);
}

void batch_buffer_deinit(batch_buffer *b) {
    mem_free(b->ids);
    mem_free(b->targets);
    mem_free(b->weights);
    mem_free(b->positions);
    mem_free(b->begins);
    *b = (batch_buffer){0};
}

/* Tokens of a document that predict one: all but the last. */
static uint32_t inputs_of(const dataset *d, uint32_t doc) {
    const uint32_t *begins = (const uint32_t *)(const void *)d->begins.p;
    return begins[doc + 1] - begins[doc] - 1;
}

static void add_document(const dataset *d, uint32_t doc, batch_buffer *b) {
    const size_t from = ((const uint32_t *)(const void *)d->begins.p)[doc];
    const int32_t *ids = (const int32_t *)(const void *)d->ids.p + from;
    const float *weights = (const float *)(const void *)d->weights.p + from;
    doc_batch *v = &b->view;
    for (uint32_t i = 0; i < inputs_of(d, doc); i++, v->tokens++) {
        b->ids[v->tokens] = ids[i];
        b->targets[v->tokens] = ids[i + 1];
        b->weights[v->tokens] = weights[i + 1];
        b->positions[v->tokens] = i;
        b->weight += (double)weights[i + 1];
    }
    b->begins[++v->docs] = v->tokens;
}

bool walk_next(walk *w, batch_buffer *b, bool once) {
    b->view = (doc_batch){0, b->ids, b->targets, b->weights, b->positions, 0, b->begins};
    b->weight = 0;
    b->begins[0] = 0;
    for (;;) {
        if (w->state.at == w->count) {
            if (once) break;
            begin_epoch(w, w->state.epoch + 1);
        }
        const uint32_t doc = w->order[w->state.at];
        if (b->view.tokens + inputs_of(w->data, doc) > b->tokens_max) break;
        add_document(w->data, doc, b);
        w->state.at++;
    }
    return b->view.docs > 0;
}
