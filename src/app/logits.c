/* logits.c - `gantry logits`: one forward pass, its logits as raw numbers. */
#include <stdio.h>

#include "app/commands.h"
#include "app/evaluation.h"
#include "base/os.h"

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

static status write_logits(evaluation *e, const config *c, error *err) {
    logits_file f = {.fd = -1, .vocab = engine_vocab(e->engine)};
    uint32_t count = evaluation_count(e);
    TRY(os_open_write(c->out_file.p, &f.fd, err));
    status st = pass_run(&e->pass, evaluation_ids(e), count, !c->last, EVALUATION_ROWS_MAX,
                         write_rows, &f, err);
    os_close(f.fd);
    if (st == OK) printf("%u %u\n", c->last ? 1 : count, f.vocab);
    return st;
}

static status check_head(const evaluation *e, error *err) {
    if (!e->model->hparams.is_encoder) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "model: '%s' is an encoder and has no logits: see gantry embed",
                     e->model->hparams.arch);
}

status command_logits(const config *c, error *err) {
    evaluation e;
    const char *path = NULL;
    evaluation_init(&e);
    status st = OK;
    if (c->out_file.n == 0) st = error_set(err, ERR_INVALID, "usage: -o FILE is wanted");
    if (st == OK) st = command_model_arg(c, &path, err);
    if (st == OK) st = evaluation_model(&e, c, path, err);
    if (st == OK) st = check_head(&e, err);
    if (st == OK) st = evaluation_prompt(&e, c, err);
    if (st == OK) st = evaluation_engine(&e, c, evaluation_count(&e), EVALUATION_ROWS_MAX, err);
    if (st == OK) st = write_logits(&e, c, err);
    evaluation_close(&e);
    return st;
}
