/* perplexity.c - `gantry perplexity`: how well a model predicts a text, alone or beside another
 * one.
 *
 * The text is cut into windows of ctx tokens.  The first begins with what the tokenizer puts in
 * front; each later one with BOS in the place of its first token, where the model has one, as it
 * was trained.  Every token after the first of its window is scored.
 *
 * With a reference (usually the same model with more precise weights) both compute the same
 * windows, and the two distributions P (reference) and Q at every scored position are compared:
 *   KL(P || Q) = sum over tokens of p * (log p - log q)           (Kullback & Leibler 1951)
 *   top-1      share of positions where both put the same token first. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/commands.h"
#include "app/evaluation.h"
#include "base/alloc.h"
#include "base/num.h"
#include "json/write.h"

typedef struct comparison {
    evaluation model;
    evaluation reference; /* engine NULL: there is none */
    uint32_t vocab;
    double nll, reference_nll; /* sums of -log p over scored tokens */
    uint64_t scored;
    uint64_t agreed;     /* positions with the same most likely token */
    double *divergences; /* [scored at the end] KL at each position */
} comparison;

/* --- one position -------------------- */

/* log of the sum of exp(logits) */
static double log_sum(const float *logits, uint32_t vocab) {
    double max = (double)logits[0], sum = 0;
    for (uint32_t i = 1; i < vocab; i++) max = fmax(max, (double)logits[i]);
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - max);
    return log(sum) + max;
}

static uint32_t best_of(const float *logits, uint32_t vocab) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static double divergence(const float *p, double p_log_sum, const float *q, double q_log_sum,
                         uint32_t vocab) {
    double sum = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        double log_p = (double)p[i] - p_log_sum;
        sum += exp(log_p) * (log_p - ((double)q[i] - q_log_sum));
    }
    return fmax(sum, 0); /* never below but for rounding */
}

/* The token that follows, under both models. */
static void score(comparison *c, const float *q, const float *p, int32_t next) {
    double q_log_sum = log_sum(q, c->vocab);
    c->nll += q_log_sum - (double)q[next];
    if (p != NULL) {
        double p_log_sum = log_sum(p, c->vocab);
        c->reference_nll += p_log_sum - (double)p[next];
        c->agreed += best_of(p, c->vocab) == best_of(q, c->vocab);
        c->divergences[c->scored] = divergence(p, p_log_sum, q, q_log_sum, c->vocab);
    }
    c->scored++;
}

/* --- windows -------------------- */

static status score_window(comparison *c, const int32_t *ids, uint32_t count, error *err) {
    for (uint32_t from = 0; from < count; from += EVALUATION_ROWS_MAX) {
        uint32_t n = num_min_u32(count - from, EVALUATION_ROWS_MAX);
        const float *q = NULL, *p = NULL;
        TRY(pass_chunk(&c->model.pass, ids + from, from, n, PASS_LOGITS, &q, err));
        if (c->reference.engine != NULL)
            TRY(pass_chunk(&c->reference.pass, ids + from, from, n, PASS_LOGITS, &p, err));
        for (uint32_t i = 0; i < n && from + i + 1 < count; i++)
            score(c, q + (size_t)i * c->vocab, p != NULL ? p + (size_t)i * c->vocab : NULL,
                  ids[from + i + 1]);
    }
    return OK;
}

static status score_windows(comparison *c, uint32_t ctx_tokens, error *err) {
    int32_t *ids = evaluation_ids(&c->model);
    uint32_t count = evaluation_count(&c->model);
    const tokenizer *tok = c->model.tok;
    int32_t bos = tok_adds_bos(tok) ? tok_bos(tok) : TOK_ID_NONE;
    for (uint32_t at = 0; at + 1 < count; at += ctx_tokens) {
        if (at > 0 && bos != TOK_ID_NONE) ids[at] = bos;
        TRY(score_window(c, ids + at, num_min_u32(ctx_tokens, count - at), err));
    }
    return OK;
}

/* --- results -------------------- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The smallest value that `share` of the sorted ones do not exceed. */
static double quantile(const double *sorted, uint64_t count, double share) {
    uint64_t rank = (uint64_t)ceil(share * (double)count);
    return sorted[rank > 0 ? rank - 1 : 0];
}

typedef struct kl_figures {
    double mean, median, p99, max;
} kl_figures;

static kl_figures kl_figures_of(comparison *c) {
    double sum = 0;
    for (uint64_t i = 0; i < c->scored; i++) sum += c->divergences[i];
    qsort(c->divergences, c->scored, sizeof *c->divergences, by_size);
    return (kl_figures){.mean = sum / (double)c->scored,
                        .median = quantile(c->divergences, c->scored, 0.5),
                        .p99 = quantile(c->divergences, c->scored, 0.99),
                        .max = c->divergences[c->scored - 1]};
}

static void print_text(comparison *c) {
    double n = (double)c->scored;
    printf("ppl %.6f tokens %llu\n", exp(c->nll / n), (unsigned long long)c->scored);
    if (c->reference.engine == NULL) return;
    kl_figures kl = kl_figures_of(c);
    printf("reference ppl %.6f ratio %.6f\n", exp(c->reference_nll / n),
           exp((c->nll - c->reference_nll) / n));
    printf("kl mean %.6g median %.6g p99 %.6g max %.6g\n", kl.mean, kl.median, kl.p99, kl.max);
    printf("top1 %.6f\n", (double)c->agreed / n);
}

static status print_json(comparison *c, error *err) {
    double n = (double)c->scored;
    buf text;
    buf_init(&text, 4096);
    json_writer w;
    json_writer_init(&w, &text);
    json_begin_object(&w);
    json_kv_f64(&w, "ppl", exp(c->nll / n));
    json_kv_uint(&w, "tokens", c->scored);
    if (c->reference.engine != NULL) {
        kl_figures kl = kl_figures_of(c);
        json_kv_f64(&w, "reference_ppl", exp(c->reference_nll / n));
        json_kv_f64(&w, "kl_mean", kl.mean);
        json_kv_f64(&w, "kl_median", kl.median);
        json_kv_f64(&w, "kl_p99", kl.p99);
        json_kv_f64(&w, "kl_max", kl.max);
        json_kv_f64(&w, "top1", (double)c->agreed / n);
    }
    json_end_object(&w);
    buf_put_char(&text, '\n');
    status st = buf_status(&text, "perplexity", err);
    if (st == OK) st = command_write_stdout(text.p, text.n, err);
    buf_deinit(&text);
    return st;
}

/* --- the command -------------------- */

static status read_text(comparison *c, const config *cfg, error *err) {
    buf text;
    buf_init(&text, EVALUATION_TEXT_BYTES_MAX);
    status st = command_read_file(cfg->text_file.p, &text, err);
    if (st == OK) st = evaluation_encode(&c->model, buf_view(&text), err);
    buf_deinit(&text);
    if (st == OK) st = evaluation_check_ids(&c->model, err);
    return st;
}

static status check_predicts(const model_hparams *h, error *err) {
    if (!h->is_encoder) return OK;
    return error_set(err, ERR_UNSUPPORTED, "model: '%s' is an encoder and predicts no text",
                     h->arch);
}

static status open_reference(comparison *c, const config *cfg, uint32_t ctx, error *err) {
    if (cfg->reference.n == 0) return OK;
    evaluation *r = &c->reference;
    TRY(evaluation_model(r, cfg, cfg->reference.p, err));
    TRY(check_predicts(&r->model->hparams, err));
    if (r->model->hparams.vocab != c->vocab)
        return error_set(err, ERR_INVALID,
                         "perplexity: the reference has %u tokens, the model %u: their "
                         "distributions cannot be compared",
                         r->model->hparams.vocab, c->vocab);
    uint64_t count = evaluation_count(&c->model);
    c->divergences = mem_try_calloc(count, sizeof *c->divergences);
    if (c->divergences == NULL)
        return error_set(err, ERR_NOMEM, "perplexity: no memory for %llu positions",
                         (unsigned long long)count);
    config plain = *cfg; /* adapters belong to the model that is measured */
    plain.loras.count = 0;
    return evaluation_engine(r, &plain, ctx, EVALUATION_ROWS_MAX, err);
}

static status run(comparison *c, const config *cfg, error *err) {
    TRY(read_text(c, cfg, err));
    const model_hparams *h = &c->model.model->hparams;
    TRY(check_predicts(h, err));
    uint32_t ctx = cfg->ctx_tokens != 0 ? cfg->ctx_tokens : h->ctx_train;
    uint32_t count = evaluation_count(&c->model);
    if (ctx < 2 || count < 2)
        return error_set(err, ERR_INVALID,
                         "perplexity: a window of %u and a text of %u tokens; both need 2", ctx,
                         count);
    ctx = num_min_u32(ctx, count);
    c->vocab = h->vocab;
    TRY(evaluation_engine(&c->model, cfg, ctx, EVALUATION_ROWS_MAX, err));
    TRY(open_reference(c, cfg, ctx, err));
    TRY(score_windows(c, ctx, err));
    if (cfg->json) return print_json(c, err);
    print_text(c);
    return OK;
}

status command_perplexity(const config *cfg, error *err) {
    comparison c = {0};
    const char *path = NULL;
    evaluation_init(&c.model);
    evaluation_init(&c.reference);
    status st = OK;
    if (cfg->text_file.n == 0) st = error_set(err, ERR_INVALID, "usage: -f FILE is wanted");
    if (st == OK) st = command_model_arg(cfg, &path, err);
    if (st == OK) st = evaluation_model(&c.model, cfg, path, err);
    if (st == OK) st = run(&c, cfg, err);
    evaluation_close(&c.model);
    evaluation_close(&c.reference);
    mem_free(c.divergences);
    return st;
}
