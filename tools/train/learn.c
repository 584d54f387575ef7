/* learn.c - see learn.h.
 *
 * A step: as many batches as are accumulated, one after the other; their losses are divided by the
 * weight of all of them, so a step is the same as one large batch would be; then the optimizer. */
#include "train/learn.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/os.h"
#include "model/model.h"
#include "train/checkpoint.h"
#include "train/export.h"
#include "train/files.h"
#include "train/progress.h"
#include "train/random.h"

enum { STREAM_INIT = 2, ACCUMULATE_MAX = 64, FINGERPRINT_BYTES_MAX = 4096 };

/* Everything a run holds. */
typedef struct learner {
    learn_settings s;    /* with what files have added */
    model *vocab;        /* owned */
    tokenizer *tok;      /* owned */
    chat_template *chat; /* owned */
    dataset data;
    walk train, validation;
    crew crew;             /* pool owned */
    net *net;              /* owned */
    float *params, *grads; /* owned */
    adamw optimizer;
    schedule schedule;
    batch_buffer batches[ACCUMULATE_MAX];
    uint64_t fingerprint;
    progress progress;
} learner;

/* --- files ------------------------------------------------------------------------------- */

static status open_vocab(learner *l, error *err) {
    TRY(model_open_vocab(&l->vocab, l->s.vocab, err));
    if (l->vocab->vocab.kind != TOK_KIND_BPE || l->vocab->vocab.form != TOK_FORM_BYTE_LEVEL)
        return error_set(err, ERR_UNSUPPORTED, "train: '%s' is no vocabulary of byte-level BPE",
                         l->s.vocab);
    if (l->vocab->chat_template.n == 0)
        return error_set(err, ERR_INVALID, "train: '%s' has no chat template", l->s.vocab);
    TRY(tok_create(&l->tok, &l->vocab->vocab, err));
    const chat_source source = {
        .kind = CHAT_KIND_JINJA, .text = l->vocab->chat_template, .tok = l->tok};
    TRY(chat_template_create(&l->chat, &source, err));
    TRY(chat_template_usable(l->chat, err));
    l->s.shape.vocab = l->vocab->vocab.count;
    return OK;
}

/* Of everything that has a say in what comes out. */
static uint64_t fingerprint(const learner *l, const corpus *c) {
    const learn_settings *s = &l->s;
    const shape *h = &s->shape;
    const adamw_options *o = &s->optimizer;
    char text[FINGERPRINT_BYTES_MAX];
    const int n = snprintf(
        text, sizeof text,
        "%u %u %u %u %u %u %u %u %a %a | %u %u %a %u | %a %a %u | %a %a %a %a %a | %a %" PRIu64
        " %u | %d %a",
        h->vocab, h->embd, h->layers, h->heads, h->kv_heads, h->head_dim, h->ff, h->ctx,
        (double)h->rope_base, (double)h->norm_eps, s->batch_tokens, s->accumulate,
        (double)s->prompt_weight, s->steps, (double)s->rate, (double)s->rate_end, s->warmup,
        (double)o->beta1, (double)o->beta2, (double)o->eps, (double)o->decay, (double)o->clip,
        (double)s->init_std, s->seed, s->held_out, (int)o->muon, (double)o->momentum);
    uint64_t hash = file_hash(FILE_HASH_BEGIN, text, (size_t)n);
    hash = file_hash(hash, l->data.ids.p, l->data.ids.n);
    return file_hash(hash, c->text.p, c->text.n);
}

static uint32_t steps_of(const learner *l) {
    if (l->s.steps > 0) return l->s.steps;
    const double step = (double)l->s.batch_tokens * l->s.accumulate;
    const size_t all = l->data.ids.n / sizeof(int32_t);
    const double tokens = (double)all * l->train.count / l->data.docs;
    return (uint32_t)fmax(1.0, ceil((double)l->s.epochs * tokens / step));
}

static status open_data(learner *l, error *err) {
    const dataset_options opt = {l->s.shape.ctx, l->s.prompt_weight};
    corpus c;
    status st = corpus_open(&c, l->s.corpus, err);
    if (st == OK) st = dataset_read(&l->data, &c, l->chat, l->tok, &opt, err);
    if (st == OK && l->data.docs == 0)
        st = error_set(err, ERR_INVALID, "corpus: '%s' has no document of up to %u tokens",
                       l->s.corpus, l->s.shape.ctx);
    if (st == OK)
        st = walk_split(&l->data, l->s.seed, l->s.held_out, &l->train, &l->validation, err);
    if (st == OK) {
        l->s.steps = steps_of(l);
        l->fingerprint = fingerprint(l, &c);
    }
    corpus_close(&c);
    return st;
}

/* --- the model --------------------------------------------------------------------------- */

/* Matrices small and random, those that add to the residual stream smaller with more layers
 * (Radford et al. 2019, GPT-2); gains 1. */
static void init_params(learner *l) {
    const shape *s = &l->s.shape;
    const float residual = 1.0f / sqrtf(2.0f * (float)s->layers);
    for (uint32_t i = 0; i < shape_tensors(s); i++) {
        const shape_tensor t = shape_tensor_get(s, i);
        random_stream r = random_stream_of(l->s.seed, STREAM_INIT + ((uint64_t)i << 32));
        const float std = l->s.init_std * (t.residual ? residual : 1.0f);
        for (size_t k = 0; k < shape_tensor_count(&t); k++)
            l->params[t.at + k] = t.rows > 0 ? std * random_normal(&r) : 1.0f;
    }
}

static status make_model(learner *l, error *err) {
    const shape *s = &l->s.shape;
    const size_t count = shape_params(s);
    const uint32_t threads = l->s.threads > 0 ? l->s.threads : os_cpu_count();
    l->crew.kern = l->s.kernels[0] != '\0' ? kernels_find(l->s.kernels) : kernels_best();
    if (l->crew.kern == NULL)
        return error_set(err, ERR_UNSUPPORTED, "train: this machine has no kernels '%s'",
                         l->s.kernels);
    TRY(pool_create(&l->crew.pool, threads < POOL_THREADS_MAX ? threads : POOL_THREADS_MAX,
                    crew_scratch_bytes(s->ctx), err));
    TRY(net_create(&l->net, s, &l->crew, l->s.batch_tokens, err));
    l->params = mem_try_calloc(count, sizeof *l->params);
    l->grads = mem_try_calloc(count, sizeof *l->grads);
    if (l->params == NULL || l->grads == NULL)
        return error_set(err, ERR_NOMEM, "train: no memory for %zu parameters", count);
    TRY(adamw_init(&l->optimizer, s, err));
    for (uint32_t i = 0; i < l->s.accumulate; i++)
        TRY(batch_buffer_init(&l->batches[i], l->s.batch_tokens, err));
    init_params(l);
    return OK;
}

/* --- steps ------------------------------------------------------------------------------- */

/* Mean loss of the documents held out. */
static double validate(learner *l) {
    batch_buffer *b = &l->batches[0];
    double loss = 0, weight = 0;
    walk_restore(&l->validation, (walk_state){0});
    while (walk_next(&l->validation, b, true)) {
        loss += net_loss(l->net, l->params, &b->view);
        weight += b->weight;
    }
    return weight > 0 ? loss / weight : 0;
}

static status one_step(learner *l, error *err) {
    train_progress_step done = {.step = l->optimizer.steps + 1};
    double weight = 0;
    for (uint32_t i = 0; i < l->s.accumulate; i++) {
        (void)walk_next(&l->train, &l->batches[i], false);
        weight += l->batches[i].weight;
        done.tokens += l->batches[i].view.tokens;
    }
    memset(l->grads, 0, l->optimizer.count * sizeof *l->grads);
    for (uint32_t i = 0; i < l->s.accumulate; i++)
        done.loss +=
            net_gradient(l->net, l->params, l->grads, &l->batches[i].view, (float)(1.0 / weight)) /
            weight;
    done.rate = schedule_rate(&l->schedule, l->optimizer.steps);
    done.norm =
        adamw_step(&l->optimizer, &l->crew, &l->s.optimizer, done.rate, l->params, l->grads);
    if (!isfinite(done.norm))
        return error_set(err, ERR_INVALID,
                         "train: the gradient of step %u is no number; a lower --rate than %g may "
                         "help",
                         done.step, (double)l->s.rate);
    train_progress_show(&l->progress, &done);
    return OK;
}

static bool is_due(uint32_t step, uint32_t every) { return every > 0 && step % every == 0; }

static status save(learner *l, error *err) {
    const checkpoint c = {l->fingerprint, l->params, &l->optimizer, &l->train};
    if (l->s.checkpoint[0] == '\0') return OK;
    return checkpoint_write(l->s.checkpoint, &c, err);
}

static status stopped(learner *l, error *err) {
    TRY(save(l, err));
    train_progress_end(&l->progress);
    return error_set(err, ERR_CANCELED, "train: stopped at step %u of %u%s", l->optimizer.steps,
                     l->s.steps,
                     l->s.checkpoint[0] != '\0' ? "; --resume goes on" : ", without a checkpoint");
}

static status run_steps(learner *l, const volatile sig_atomic_t *stop, error *err) {
    const uint32_t first = l->optimizer.steps;
    train_progress_begin(&l->progress, first, l->s.steps, l->s.log_every, l->s.quiet);
    while (l->optimizer.steps < l->s.steps) {
        TRY(one_step(l, err));
        const uint32_t step = l->optimizer.steps;
        const bool last = step == l->s.steps;
        if (l->validation.count > 0 && (last || is_due(step, l->s.validate_every)))
            train_progress_validation(&l->progress, step, validate(l));
        if (is_due(step, l->s.checkpoint_every)) TRY(save(l, err));
        const bool enough = l->s.stop_after > 0 && step - first >= l->s.stop_after;
        if (!last && (enough || (stop != NULL && *stop != 0))) return stopped(l, err);
    }
    train_progress_end(&l->progress);
    return save(l, err);
}

/* --- the whole --------------------------------------------------------------------------- */

static status choose_optimizer(learn_settings *s, error *err) {
    s->optimizer.muon = strcmp(s->method, "muon") == 0;
    if (s->optimizer.muon || strcmp(s->method, "adamw") == 0) return OK;
    return error_set(err, ERR_INVALID, "usage: --optimizer '%s' is neither adamw nor muon",
                     s->method);
}

static status check_settings(learner *l, error *err) {
    learn_settings *s = &l->s;
    TRY(shape_check(&s->shape, err));
    TRY(choose_optimizer(s, err));
    if (s->batch_tokens < s->shape.ctx)
        return error_set(err, ERR_INVALID,
                         "usage: --batch-tokens %u does not hold a document of --ctx %u",
                         s->batch_tokens, s->shape.ctx);
    if (s->resume && s->checkpoint[0] == '\0')
        return error_set(err, ERR_INVALID, "usage: --resume wants --checkpoint FILE");
    return OK;
}

static void say_what_is_there(const learner *l) {
    const learn_settings *s = &l->s;
    if (s->quiet) return;
    (void)fprintf(stderr,
                  "%u documents (%u held out, %u too long), %zu tokens, %" PRIu64 " of answers"
                  " (%" PRIu64 " cut by a token)\n",
                  l->data.docs, l->validation.count, l->data.too_long,
                  l->data.ids.n / sizeof(int32_t), l->data.answers, l->data.straddles);
    (void)fprintf(stderr, "%zu parameters, %u steps of up to %u tokens, kernels %s, %u threads\n",
                  shape_params(&s->shape), s->steps, s->batch_tokens * s->accumulate,
                  l->crew.kern->name, pool_threads(l->crew.pool));
}

static status prepare(learner *l, error *err) {
    TRY(open_vocab(l, err));
    TRY(check_settings(l, err));
    TRY(open_data(l, err));
    TRY(make_model(l, err));
    l->schedule = (schedule){.rate_max = l->s.rate,
                             .rate_min = l->s.rate * l->s.rate_end,
                             .warmup_steps = l->s.warmup,
                             .steps = l->s.steps};
    say_what_is_there(l);
    if (!l->s.resume) return OK;
    const checkpoint c = {l->fingerprint, l->params, &l->optimizer, &l->train};
    return checkpoint_read(l->s.checkpoint, &c, err);
}

static void release(learner *l) {
    for (uint32_t i = 0; i < ACCUMULATE_MAX; i++) batch_buffer_deinit(&l->batches[i]);
    adamw_deinit(&l->optimizer);
    mem_free(l->params);
    mem_free(l->grads);
    net_destroy(l->net);
    pool_destroy(l->crew.pool);
    walk_deinit(&l->train);
    walk_deinit(&l->validation);
    dataset_deinit(&l->data);
    chat_template_destroy(l->chat);
    tok_destroy(l->tok);
    model_close(l->vocab);
    mem_free(l);
}

status learn_run(const learn_settings *s, const volatile sig_atomic_t *stop, error *err) {
    learner *l = mem_calloc(1, sizeof *l);
    l->s = *s;
    status st = prepare(l, err);
    if (st == OK) st = run_steps(l, stop, err);
    if (st == OK) {
        const export_about about = {s->name, s->description, s->license};
        st = export_gguf(s->out, &l->s.shape, l->params, model_gguf(l->vocab), &about, err);
    }
    release(l);
    return st;
}
