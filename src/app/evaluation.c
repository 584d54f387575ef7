/* evaluation.c - see evaluation.h. */
#include "app/evaluation.h"

#include "app/commands.h"
#include "app/lora_args.h"
#include "app/model_source.h"
#include "app/stack.h"
#include "base/alloc.h"

void evaluation_init(evaluation *e) {
    *e = (evaluation){0};
    buf_init(&e->ids, EVALUATION_TEXT_BYTES_MAX);
}

void evaluation_close(evaluation *e) {
    lora_table_destroy(e->loras);
    engine_close(e->engine);
    tok_destroy(e->tok);
    model_close(e->model);
    mem_free(e->rows);
    buf_deinit(&e->ids);
}

status evaluation_model(evaluation *e, const config *c, const char *path, error *err) {
    status st = model_source_open(&e->model, c, path, err);
    if (st == OK && e->model->vocab.kind != TOK_KIND_NONE)
        st = tok_create(&e->tok, &e->model->vocab, err);
    return st == OK ? OK : command_blame(path, err);
}

status evaluation_engine(evaluation *e, const config *c, uint32_t ctx_tokens, uint32_t rows_max,
                         error *err) {
    engine_options opt = {0};
    TRY(stack_engine_options(c, &opt, err));
    opt.seats = 1;
    opt.ctx_max = ctx_tokens;
    /* the numbers are those of the model as it is served, however short the text is */
    opt.ctx_asked = c->ctx_tokens != 0 ? c->ctx_tokens : e->model->hparams.ctx_train;
    opt.rows_max = opt.taken_rows_max = opt.hidden_rows_max = rows_max;
    opt.adapter_bytes = lora_args_bytes(c, e->model, &opt);
    TRY(engine_open(&e->engine, e->model, &opt, err));
    e->rows = mem_try_calloc(rows_max, sizeof *e->rows);
    if (e->rows == NULL) return error_set(err, ERR_NOMEM, "no memory for %u rows", rows_max);
    e->pass = (pass){.engine = e->engine, .rows = e->rows, .rows_max = rows_max};
    TRY(lora_args_load(c, e->engine, &e->loras, &e->mix, err));
    e->pass.lora = e->mix.count > 0 ? &e->mix : NULL;
    return OK;
}

status evaluation_encode(evaluation *e, str text, error *err) {
    tok_options opt = {.add_special = true, .parse_special = true, .tokens_max = UINT32_MAX};
    if (e->tok == NULL) return error_set(err, ERR_UNSUPPORTED, "the model has no tokenizer");
    return tok_encode(e->tok, text, &opt, &e->ids, err);
}

status evaluation_check_ids(const evaluation *e, error *err) {
    const int32_t *ids = (const int32_t *)(const void *)e->ids.p;
    uint32_t vocab = e->model->hparams.vocab, count = evaluation_count(e);
    if (count == 0) return error_set(err, ERR_INVALID, "no tokens: want at least one");
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab)
            return error_set(err, ERR_INVALID, "token %u is %d, the vocabulary has %u", i, ids[i],
                             vocab);
    return OK;
}

status evaluation_prompt(evaluation *e, const config *c, error *err) {
    bool tokens = config_is_given(c, "tokens"), text = config_is_given(c, "prompt");
    if (tokens == text)
        return error_set(err, ERR_INVALID, "usage: one of --tokens and -p is wanted");
    TRY(tokens ? command_parse_ids(c->token_ids, &e->ids, err)
               : evaluation_encode(e, c->prompt, err));
    return evaluation_check_ids(e, err);
}
