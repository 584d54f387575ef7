/* logits.c - `gantry logits` and `gantry perplexity`: numbers of one forward pass. */
#include <math.h>
#include <stdio.h>

#include "app/commands.h"
#include "app/pass.h"
#include "app/stack.h"
#include "base/alloc.h"
#include "base/num.h"
#include "base/os.h"
#include "text/tokenizer.h"

enum {
    TEXT_BYTES_MAX = 1 << 30,
    ROWS_WITH_LOGITS_MAX = 64, /* a chunk's logits: 64 x 128k x 4 bytes = 32 MiB at most */
};

typedef struct evaluation {
    model *model;
    tokenizer *tok;
    engine *engine;
    pass pass;
    buf ids; /* int32 */
} evaluation;

static void evaluation_close(evaluation *e) {
    engine_close(e->engine);
    tok_destroy(e->tok);
    model_close(e->model);
    buf_deinit(&e->ids);
}

static status evaluation_model(evaluation *e, const config *c, error *err) {
    const char *path = NULL;
    TRY(command_model_arg(c, &path, err));
    status st = model_open(&e->model, path, err);
    if (st == OK && e->model->vocab.kind != TOK_KIND_NONE)
        st = tok_create(&e->tok, &e->model->vocab, err);
    return st == OK ? OK : command_blame(path, err);
}

/* An engine for one sequence of up to ctx_tokens. */
static status evaluation_engine(evaluation *e, const config *c, uint32_t ctx_tokens, error *err) {
    engine_options opt = {0};
    TRY(stack_engine_options(c, &opt, err));
    opt.seats = 1;
    opt.ctx_max = ctx_tokens;
    opt.rows_max = ROWS_WITH_LOGITS_MAX;
    opt.taken_rows_max = ROWS_WITH_LOGITS_MAX;
    TRY(engine_open(&e->engine, e->model, &opt, err));
    e->pass.engine = e->engine;
    return OK;
}

static status encode_text(evaluation *e, str text, error *err) {
    tok_options opt = {.add_special = true, .parse_special = true, .tokens_max = UINT32_MAX};
    if (e->tok == NULL) return error_set(err, ERR_UNSUPPORTED, "the model has no tokenizer");
    return tok_encode(e->tok, text, &opt, &e->ids, err);
}

static const int32_t *ids_of(const evaluation *e) {
    return (const int32_t *)(const void *)e->ids.p;
}
static uint32_t ids_count(const evaluation *e) { return (uint32_t)(e->ids.n / sizeof(int32_t)); }

static status check_ids(const evaluation *e, error *err) {
    uint32_t vocab = e->model->hparams.vocab;
    if (ids_count(e) == 0) return error_set(err, ERR_INVALID, "no tokens: want at least one");
    for (uint32_t i = 0; i < ids_count(e); i++)
        if (ids_of(e)[i] < 0 || (uint32_t)ids_of(e)[i] >= vocab)
            return error_set(err, ERR_INVALID, "token %u is %d, the vocabulary has %u", i,
                             ids_of(e)[i], vocab);
    return OK;
}

/* --- logits -------------------- */

typedef struct logits_file {
    int fd;
    uint32_t vocab;
} logits_file;

static status write_rows(void *ctx, const float *logits, uint32_t from, uint32_t count,
                         error *err) {
    const logits_file *f = ctx;
    (void)from;
    return os_write_full(f->fd, logits, (size_t)count * f->vocab * sizeof *logits, err);
}

static status logits_prompt(evaluation *e, const config *c, error *err) {
    bool tokens = config_is_given(c, "tokens"), text = config_is_given(c, "prompt");
    if (tokens == text)
        return error_set(err, ERR_INVALID, "usage: one of --tokens and -p is wanted");
    TRY(tokens ? command_parse_ids(c->token_ids, &e->ids, err) : encode_text(e, c->prompt, err));
    return check_ids(e, err);
}

static status logits_write(evaluation *e, const config *c, error *err) {
    logits_file f = {.fd = -1, .vocab = e->model->hparams.vocab};
    TRY(os_open_write(c->out_file.p, &f.fd, err));
    status st = pass_run(&e->pass, ids_of(e), ids_count(e), !c->last, ROWS_WITH_LOGITS_MAX,
                         write_rows, &f, err);
    os_close(f.fd);
    if (st == OK) printf("%u %u\n", c->last ? 1 : ids_count(e), f.vocab);
    return st;
}

status command_logits(const config *c, error *err) {
    evaluation e = {0};
    buf_init(&e.ids, TEXT_BYTES_MAX);
    status st = OK;
    if (c->out_file.n == 0) st = error_set(err, ERR_INVALID, "usage: -o FILE is wanted");
    if (st == OK) st = evaluation_model(&e, c, err);
    if (st == OK) st = logits_prompt(&e, c, err);
    if (st == OK) st = evaluation_engine(&e, c, ids_count(&e), err);
    if (st == OK) st = logits_write(&e, c, err);
    evaluation_close(&e);
    return st;
}

/* --- perplexity --------------------
 *
 * The text is cut into windows of ctx tokens.  The first begins with what the tokenizer
 * puts in front; each later one with BOS in the place of its first token, where the model
 * has one, as it was trained.  Every token after the first of its window is scored. */

typedef struct nll_sum {
    const int32_t *ids; /* of the window */
    uint32_t count;
    uint32_t vocab;
    double sum;
    uint64_t scored;
} nll_sum;

static double neg_log_prob(const float *logits, uint32_t vocab, int32_t id) {
    double max = (double)logits[0], sum = 0;
    for (uint32_t i = 1; i < vocab; i++) max = fmax(max, (double)logits[i]);
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - max);
    return log(sum) + max - (double)logits[id];
}

static status score_rows(void *ctx, const float *logits, uint32_t from, uint32_t count,
                         error *err) {
    nll_sum *s = ctx;
    (void)err;
    for (uint32_t i = 0; i < count && from + i + 1 < s->count; i++) {
        s->sum += neg_log_prob(logits + (size_t)i * s->vocab, s->vocab, s->ids[from + i + 1]);
        s->scored++;
    }
    return OK;
}

static status score_windows(evaluation *e, uint32_t ctx_tokens, nll_sum *s, error *err) {
    int32_t *ids = (int32_t *)(void *)e->ids.p;
    int32_t bos = tok_adds_bos(e->tok) ? tok_bos(e->tok) : TOK_ID_NONE;
    for (uint32_t at = 0; at + 1 < ids_count(e); at += ctx_tokens) {
        if (at > 0 && bos != TOK_ID_NONE) ids[at] = bos;
        s->ids = ids + at;
        s->count = num_min_u32(ctx_tokens, ids_count(e) - at);
        TRY(pass_run(&e->pass, s->ids, s->count, true, ROWS_WITH_LOGITS_MAX, score_rows, s, err));
    }
    return OK;
}

static status perplexity_run(evaluation *e, const config *c, error *err) {
    buf text;
    buf_init(&text, TEXT_BYTES_MAX);
    status st = command_read_file(c->text_file.p, &text, err);
    if (st == OK) st = encode_text(e, buf_view(&text), err);
    buf_deinit(&text);
    if (st != OK) return st;
    TRY(check_ids(e, err));
    uint32_t ctx = c->ctx_tokens != 0 ? c->ctx_tokens : e->model->hparams.ctx_train;
    if (ctx < 2 || ids_count(e) < 2)
        return error_set(err, ERR_INVALID,
                         "perplexity: a window of %u and a text of %u tokens; both need 2", ctx,
                         ids_count(e));
    ctx = num_min_u32(ctx, ids_count(e));
    TRY(evaluation_engine(e, c, ctx, err));
    nll_sum s = {.vocab = e->model->hparams.vocab};
    TRY(score_windows(e, ctx, &s, err));
    printf("ppl %.6f tokens %llu\n", exp(s.sum / (double)s.scored), (unsigned long long)s.scored);
    return OK;
}

status command_perplexity(const config *c, error *err) {
    evaluation e = {0};
    buf_init(&e.ids, TEXT_BYTES_MAX);
    status st = OK;
    if (c->text_file.n == 0) st = error_set(err, ERR_INVALID, "usage: -f FILE is wanted");
    if (st == OK) st = evaluation_model(&e, c, err);
    if (st == OK) st = perplexity_run(&e, c, err);
    evaluation_close(&e);
    return st;
}
