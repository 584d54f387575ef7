/* stack.c - see stack.h. */
#include "app/stack.h"

#include <inttypes.h>
#include <stdio.h>

#include "app/commands.h"
#include "backend/cuda/blob.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "base/thread.h"
#include "model/model.h"
#include "worker/engine_worker.h"
#include "worker/text_worker.h"

enum {
    DOWN_BYTES_MIN = 1 << 20, /* room of a ring towards the engine, besides one whole request */
    UP_BYTES = 4 << 20,
    EOG_MAX = 32,
    PARK_MS_MAX = 1000,
};

struct stack {
    model *model;
    tokenizer *tok;
    engine *engine;
    model_desc desc;
    wire_link front; /* above the text role */
    wire_link inner; /* between text and engine */
    text_worker *text;
    engine_worker *worker;
    thread text_thread;
    thread engine_thread;
    int32_t eog_ids[EOG_MAX];
};

/* --- options -------------------- */

static status check_device(const config *c, error *err) {
    const char *why = cuda_blobs_count > 0
                          ? "this version computes on CPUs only; its CUDA backend is not built in"
                          : "this binary was built without CUDA kernels (nvcc was not found)";
    if (c->gpu == CONFIG_GPU_REQUIRE || c->backend == CONFIG_BACKEND_CUDA)
        return error_set(err, ERR_DEVICE, "a GPU is required, but %s", why);
    if (c->gpu == CONFIG_GPU_PREFER && c->cmd == COMMAND_SERVE)
        log_warn("gpu", "none used: %s (--gpu off silences this)", why);
    if (c->numerics == CONFIG_NUMERICS_FAST)
        log_warn("numerics", "fast asked for, exact used: this version has exact kernels only");
    return OK;
}

status stack_engine_options(const config *c, engine_options *out, error *err) {
    static const cpu_isa isas[] = {CPU_ISA_AUTO,   CPU_ISA_SCALAR, CPU_ISA_AVX2,
                                   CPU_ISA_AVX512, CPU_ISA_AMX,    CPU_ISA_NEON};
    TRY(check_device(c, err));
    uint32_t seats = c->cmd == COMMAND_SERVE ? c->parallel : 1;
    *out = (engine_options){
        .spoken_for_bytes = out->spoken_for_bytes,
        .backend = backend_find(c->backend == CONFIG_BACKEND_REF ? "ref" : "cpu"),
        .threads = c->threads != 0 ? c->threads : os_cpu_count(),
        .isa_cap = isas[c->cpu_isa],
        .kv_type = c->kv == CONFIG_KV_F32 ? DTYPE_F32 : DTYPE_F16,
        .ctx_max = c->ctx_tokens,
        .seats = seats,
        .rows_max = num_max_u32(c->step_tokens_max, seats),
        .taken_rows_max = seats,
        .kv_bytes_max = c->kv_bytes_max,
    };
    return OK;
}

/* --- description -------------------- */

/* "Q4_0 92%, F32 8%" by bytes, largest first. */
static void describe_types(const model *m, char *out, size_t out_bytes) {
    uint64_t bytes[DTYPE_ID_END] = {0}, total = 0;
    const gguf *g = model_gguf(m);
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++) {
        const gguf_tensor *t = gguf_tensor_get(g, i);
        bytes[t->type] += t->bytes;
        total += t->bytes;
    }
    size_t n = 0;
    out[0] = '\0';
    for (;;) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < DTYPE_ID_END; i++)
            if (bytes[i] > bytes[best]) best = i;
        if (bytes[best] == 0 || n + 24 > out_bytes) return;
        n += (size_t)snprintf(out + n, out_bytes - n, "%s%s %.0f%%", n > 0 ? ", " : "",
                              dtype_name(best), 100.0 * (double)bytes[best] / (double)total);
        bytes[best] = 0;
    }
}

static const char *chat_name(const model *m, const config *c) {
    if (m->vocab.kind == TOK_KIND_NONE) return "none";
    return m->chat_template.n > 0 && c->chat_template == CONFIG_CHAT_TEMPLATE_AUTO ? "jinja"
                                                                                   : "plain";
}

static void describe(stack *s, const config *c, str name, const engine_options *opt) {
    const model_hparams *h = &s->model->hparams;
    const mem_plan *plan = engine_mem_plan(s->engine);
    backend_report report;
    engine_report(s->engine, &report);
    model_desc *d = &s->desc;
    *d = (model_desc){
        .params = s->model->params,
        .file_bytes = s->model->file_bytes,
        .kv_bytes = plan->kv_bytes,
        .vocab = h->vocab,
        .n_embd = h->n_embd,
        .layers = h->layers,
        .ctx_train = h->ctx_train,
        .ctx_max = plan->ctx_max,
        .parallel = opt->seats,
        .threads = opt->threads,
    };
    str_copy_c(d->name, sizeof d->name, name);
    str_copy_c(d->arch, sizeof d->arch, str_of(h->arch));
    str_copy_c(d->chat, sizeof d->chat, str_of(chat_name(s->model, c)));
    str_copy_c(d->backend, sizeof d->backend, str_of(report.what));
    str_copy_c(d->numerics, sizeof d->numerics, str_of(report.numerics));
    str_copy_c(d->kv_type, sizeof d->kv_type, str_of(dtype_name(opt->kv_type)));
    describe_types(s->model, d->types, sizeof d->types);
}

static void log_loaded(const stack *s) {
    const mem_plan *p = engine_mem_plan(s->engine);
    const model_desc *d = &s->desc;
    log_info("model",
             "loaded name=%s arch=%s params=%" PRIu64 " types=\"%s\" backend=\"%s\" numerics=%s "
             "threads=%u ctx_tokens=%u parallel=%u",
             d->name, d->arch, d->params, d->types, d->backend, d->numerics, d->threads, d->ctx_max,
             d->parallel);
    log_info("model",
             "memory name=%s weights_bytes=%" PRIu64 " kv_bytes=%" PRIu64 " kv_blocks=%u "
             "workspace_bytes=%" PRIu64,
             d->name, p->weights_bytes, p->kv_bytes, p->kv_blocks, p->workspace_bytes);
    if (p->kv_cut)
        log_warn("model",
                 "kv cache holds %u tokens, %u sequences of %u tokens would need more memory: when "
                 "it is full the youngest wait",
                 p->kv_blocks * KV_BLOCK_TOKENS, p->seats, p->ctx_max);
    if (d->ctx_max > d->ctx_train)
        log_warn("model", "ctx_tokens=%u is more than the %u the model was trained for", d->ctx_max,
                 d->ctx_train);
    if (str_eq_c(S("jinja"), d->chat))
        log_warn("chat",
                 "name=%s has a Jinja chat template, which this version does not run: "
                 "/v1/chat/completions is refused (--chat-template plain overrides)",
                 d->name);
    else if (s->model->chat_template.n > 0)
        log_warn("chat", "name=%s has its own chat template; the plain one is used as asked",
                 d->name);
    else
        log_info("chat", "name=%s has no chat template: the plain one is used (README)", d->name);
}

/* --- opening -------------------- */

static status open_engine(stack *s, const config *c, const char *path, engine_options *opt,
                          error *err) {
    TRY(stack_engine_options(c, opt, err));
    TRY(model_open(&s->model, path, err));
    if (s->model->vocab.kind == TOK_KIND_NONE)
        return error_set(err, ERR_UNSUPPORTED, "'%s' has no tokenizer", path);
    TRY(tok_create(&s->tok, &s->model->vocab, err));
    TRY(engine_open(&s->engine, s->model, opt, err));
    uint32_t ctx = engine_mem_plan(s->engine)->ctx_max;
    if (ctx < 2)
        return error_set(err, ERR_INVALID,
                         "a context of %u tokens, want 2: one of a prompt and one of an answer",
                         ctx);
    return OK;
}

static status collect_eog(stack *s, uint32_t *count, error *err) {
    *count = 0;
    for (uint32_t i = 0; i < tok_vocab_count(s->tok); i++) {
        if (!tok_is_eog(s->tok, (int32_t)i)) continue;
        if (*count == EOG_MAX)
            return error_set(err, ERR_LIMIT, "tokenizer: more than %d tokens end a turn", EOG_MAX);
        s->eog_ids[(*count)++] = (int32_t)i;
    }
    return OK;
}

static const float *step_engine(void *ctx, const engine_row *rows, uint32_t count) {
    return engine_step(ctx, rows, count);
}

static status open_roles(stack *s, const config *c, const engine_options *opt, error *err) {
    uint32_t eog_count = 0;
    TRY(collect_eog(s, &eog_count, err));
    engine_worker_options eo = {
        .sched = {.seats = opt->seats,
                  .rows_max = opt->rows_max,
                  .step_ms_target = c->step_ms_target,
                  .queue_max = c->queue_max,
                  .park_ms_max = PARK_MS_MAX,
                  .ctx_max = s->desc.ctx_max,
                  .vocab = s->desc.vocab,
                  .eog_ids = s->eog_ids,
                  .eog_count = eog_count},
        .stepper = {.ctx = s->engine, .step = step_engine},
        .kv = engine_kv(s->engine),
        .link = &s->inner,
    };
    engine_report(s->engine, &eo.report);
    text_worker_options to = {
        .tok = s->tok,
        .chat = str_eq_c(S("jinja"), s->desc.chat) ? CHAT_KIND_JINJA : CHAT_KIND_PLAIN,
        .desc = s->desc,
        .requests_max = c->queue_max + opt->seats,
        .prompt_tokens_max = c->prompt_tokens_max,
        .front = &s->front,
        .engine = &s->inner,
    };
    size_t text = (size_t)c->request_bytes_max * 2 + DOWN_BYTES_MIN;
    size_t ids = (size_t)s->desc.ctx_max * sizeof(int32_t) * 2 + DOWN_BYTES_MIN;
    TRY(link_open(&s->front, text, UP_BYTES, err));
    TRY(link_open(&s->inner, ids, UP_BYTES, err));
    TRY(engine_worker_create(&s->worker, &eo, err));
    return text_worker_create(&s->text, &to, err);
}

static status check_name(str name, error *err) {
    model_desc d;
    if (name.n < sizeof d.name) return OK;
    return error_set(err, ERR_INVALID, "model name '%.*s' has %zu bytes, at most %zu", STR(name),
                     name.n, sizeof d.name - 1);
}

status stack_open(stack **out, const config *c, str name, str path, uint64_t spoken_for_bytes,
                  error *err) {
    TRY(check_name(name, err));
    stack *s = mem_try_calloc(1, sizeof *s);
    if (s == NULL) return error_set(err, ERR_NOMEM, "no memory");
    engine_options opt = {.spoken_for_bytes = spoken_for_bytes};
    status st = open_engine(s, c, path.p, &opt, err); /* config strings are terminated */
    if (st != OK) (void)command_blame(path.p, err);
    if (st == OK) {
        describe(s, c, name, &opt);
        st = open_roles(s, c, &opt, err);
    }
    if (st != OK) {
        stack_close(s);
        return st;
    }
    log_loaded(s);
    *out = s;
    return OK;
}

static void text_main(void *arg) { text_worker_run(((stack *)arg)->text); }
static void engine_main(void *arg) { engine_worker_run(((stack *)arg)->worker); }

status stack_start(stack *s, error *err) {
    TRY(thread_start(&s->engine_thread, "engine", engine_main, s, err));
    return thread_start(&s->text_thread, "text", text_main, s, err);
}

wire_link *stack_link(stack *s) { return &s->front; }
const model_desc *stack_desc(const stack *s) { return &s->desc; }
uint64_t stack_planned_bytes(const stack *s) {
    const mem_plan *p = engine_mem_plan(s->engine);
    return p->kv_bytes + p->workspace_bytes;
}

/* --- closing -------------------- */

/* Nobody reads the events any more: throw them away, or the roles would wait for room. */
static void drop_events(ring *up) {
    os_event_clear(ring_fd(up));
    while (ring_next_bytes(up) > 0) ring_drop(up);
}

/* Drain from the top role that runs; it passes the message on and ends, and the engine after
 * it.  Until both have, the events of either are taken off their rings. */
static void join_roles(stack *s) {
    bool text = s->text_thread.started;
    wire_link *top = text ? &s->front : &s->inner;
    buf drain;
    buf_init(&drain, 64);
    wire_put_drain(&drain);
    bool sent = false;
    while (!thread_has_ended(&s->text_thread) || !thread_has_ended(&s->engine_thread)) {
        sent = sent || link_flush(top->down, &drain);
        drop_events(top->up);
        if (thread_has_ended(&s->text_thread)) drop_events(s->inner.up);
        os_sleep_ms(1);
    }
    buf_deinit(&drain);
    thread_join(&s->text_thread);
    thread_join(&s->engine_thread);
}

void stack_close(stack *s) {
    if (s == NULL) return;
    if (s->engine_thread.started) join_roles(s);
    text_worker_destroy(s->text);
    engine_worker_destroy(s->worker);
    link_close(&s->front);
    link_close(&s->inner);
    engine_close(s->engine);
    tok_destroy(s->tok);
    model_close(s->model);
    mem_free(s);
}
