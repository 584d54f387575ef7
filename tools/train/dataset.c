/* dataset.c - conversations to tokens and weights. */
#include "train/dataset.h"

enum { SPARE_BYTES_MAX = 16 << 20 };
#define DATA_BYTES_MAX ((size_t)8 << 30)

/* --- which tokens are learnt ------------------------------------------------------------- */

/* Bytes of the text that the token spells. */
static uint32_t token_bytes(const tokenizer *tok, int32_t id) {
    char text[TOK_PIECE_BYTES_MAX];
    return (uint32_t)tok_piece_bytes(tok, id, true, text);
}

/* A conversation's tokens with the places they stand at. */
typedef struct tokens {
    const tokenizer *tok;
    const int32_t *ids;
    uint32_t count;
    uint32_t at;   /* the token looked at */
    uint32_t byte; /* where it begins */
    float *weights;
} tokens;

/* Everything before the answer; counts a token that reaches into it. */
static void pass_prompt(tokens *t, span answer, uint64_t *straddles) {
    while (t->at < t->count && t->byte < answer.begin) {
        t->byte += token_bytes(t->tok, t->ids[t->at++]);
        if (t->byte > answer.begin) ++*straddles;
    }
}

/* The answer up to its last end-of-generation token; *learnt says how many tokens that are. */
static status mark_answer(tokens *t, span answer, uint64_t *learnt, error *err) {
    const uint32_t first = t->at;
    uint32_t end = first;
    while (t->at < t->count && t->byte < answer.end) {
        t->byte += token_bytes(t->tok, t->ids[t->at]);
        if (tok_is_eog(t->tok, t->ids[t->at++])) end = t->at;
    }
    if (end == first)
        return error_set(err, ERR_INVALID,
                         "bytes %u to %u are an answer without an end-of-generation token: the "
                         "template must write one",
                         answer.begin, answer.end);
    for (uint32_t i = first; i < end; i++) t->weights[i] = 1.0f;
    *learnt += end - first;
    return OK;
}

static status mark_answers(dataset *d, const conversation *c, tokens *t, error *err) {
    const span *answers = (const span *)(const void *)c->answers.p;
    const uint32_t bytes = (uint32_t)c->whole.text.n;
    for (size_t i = 0; i < c->answers.n / sizeof *answers; i++) {
        pass_prompt(t, answers[i], &d->straddles);
        TRY(mark_answer(t, answers[i], &d->answers, err));
    }
    if (t->byte == bytes && t->at == t->count) return OK;
    return error_set(err, ERR_FORMAT, "%u of %u tokens spell %u of %u bytes", t->at, t->count,
                     t->byte, bytes);
}

/* --- one conversation -------------------------------------------------------------------- */

/* Has encoding put a BOS there that the text has not? */
static bool has_bos_in_front(const tokens *t, str text) {
    char bos[TOK_PIECE_BYTES_MAX];
    if (!tok_adds_bos(t->tok) || t->ids[0] != tok_bos(t->tok)) return false;
    return !str_starts(text, (str){bos, tok_piece_bytes(t->tok, t->ids[0], true, bos)});
}

static status add_document(dataset *d, const conversation *c, const tokenizer *tok, const buf *ids,
                           const dataset_options *opt, error *err) {
    const size_t count = ids->n / sizeof(int32_t), bytes = count * sizeof(float);
    if (count < 2)
        return error_set(err, ERR_INVALID, "%zu tokens: one must come before another", count);
    if (count - 1 > opt->ctx) {
        d->too_long++;
        return OK;
    }
    float *weights = buf_reserve(&d->weights, bytes);
    if (weights == NULL) return buf_status(&d->weights, "the tokens", err);
    for (size_t i = 0; i < count; i++) weights[i] = opt->prompt_weight;
    tokens t = {.tok = tok,
                .ids = (const int32_t *)(const void *)ids->p,
                .count = (uint32_t)count,
                .weights = weights};
    if (has_bos_in_front(&t, buf_view(&c->whole.text))) t.at = 1;
    TRY(mark_answers(d, c, &t, err));
    d->weights.n += bytes;
    buf_put(&d->ids, ids->p, ids->n);
    const uint32_t end = (uint32_t)(d->ids.n / sizeof(int32_t));
    buf_put(&d->begins, &end, sizeof end);
    d->docs++;
    TRY(buf_status(&d->ids, "the tokens", err));
    return buf_status(&d->begins, "the documents", err);
}

static status read_lines(dataset *d, corpus *c, const chat_template *t, const tokenizer *tok,
                         const dataset_options *opt, conversation *talk, buf *ids, error *err) {
    for (str line; corpus_next(c, &line);) {
        buf_clear(ids);
        status st = conversation_read(talk, t, line, err);
        if (st == OK) st = chat_encode(t, tok, &talk->whole, UINT32_MAX, ids, err);
        if (st == OK) st = add_document(d, talk, tok, ids, opt, err);
        if (st != OK) return corpus_blame(c, err);
    }
    return OK;
}

status dataset_read(dataset *d, corpus *c, const chat_template *t, const tokenizer *tok,
                    const dataset_options *opt, error *err) {
    conversation talk;
    buf ids;
    const uint32_t zero = 0;
    *d = (dataset){0};
    buf_init(&d->ids, DATA_BYTES_MAX);
    buf_init(&d->weights, DATA_BYTES_MAX);
    buf_init(&d->begins, DATA_BYTES_MAX);
    buf_put(&d->begins, &zero, sizeof zero);
    buf_init(&ids, SPARE_BYTES_MAX);
    conversation_init(&talk);
    corpus_rewind(c);
    status st = read_lines(d, c, t, tok, opt, &talk, &ids, err);
    conversation_deinit(&talk);
    buf_deinit(&ids);
    return st;
}

void dataset_deinit(dataset *d) {
    buf_deinit(&d->ids);
    buf_deinit(&d->weights);
    buf_deinit(&d->begins);
    *d = (dataset){0};
}
