/* stack.c - see stack.h. */
#include "app/stack.h"

#include <inttypes.h>
#include <stdio.h>

#include "app/commands.h"
#include "app/device.h"
#include "app/embed_pooling.h"
#include "app/lora_args.h"
#include "app/model_source.h"
#include "app/progress.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/num.h"
#include "base/os.h"
#include "base/thread.h"
#include "model/model.h"
#include "model/synth.h"
#include "text/chat.h"
#include "worker/engine_worker.h"
#include "worker/text_worker.h"

enum {
    DOWN_BYTES_MIN = 1 << 20, /* room of a ring towards the engine, besides one whole request */
    UP_BYTES = 4 << 20,
    EOG_MAX = 32,
    PARK_MS_MAX = 1000,
    ENCODER_ROWS_MAX = 8192, /* tokens of a text that an encoder sees at once, at most */
    CHAT_FILE_BYTES_MAX = 1 << 20,
    STEP_TOKENS_MIN = 128, /* when memory is short; likewise: */
    CTX_TOKENS_MIN = 2048,
};

struct stack {
    const config *c; /* borrowed */
    str path;        /* the config's */
    engine_options options;
    load_watch watch;
    model_loading told; /* what was said last */
    buf frame;          /* a LOADING frame */
    model *model;
    tokenizer *tok;
    chat_template *chat;
    engine *engine;
    lora_table *loras; /* NULL: no adapters here */
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

/* What serves people is fast, what measures a model is exact, unless asked otherwise. */
static bool wants_fast(const config *c) {
    const bool serves = c->cmd == COMMAND_SERVE || c->cmd == COMMAND_RUN || c->cmd == COMMAND_BENCH;
    return c->numerics == CONFIG_NUMERICS_FAST || (c->numerics == CONFIG_NUMERICS_AUTO && serves);
}

/* What was asked for is kept or refused, never lowered. */
static bool may_lower_steps(const config *c) {
    return c->cmd != COMMAND_SERVE || !config_is_given(c, "step-tokens-max");
}

static bool may_lower_kv(const config *c) {
    return (c->cmd == COMMAND_SERVE || c->cmd == COMMAND_RUN) && !config_is_given(c, "kv");
}

/* Other commands have one sequence, or wait for each other. */
static uint64_t kv_host_bytes_of(const config *c) {
    if (c->cmd != COMMAND_SERVE) return 0;
    return c->kv_host_bytes == CONFIG_BYTES_AUTO ? ENGINE_KV_HOST_AUTO : c->kv_host_bytes;
}

status stack_engine_options(const config *c, engine_options *out, error *err) {
    static const dtype kv_types[] = {[CONFIG_KV_F16] = DTYPE_F16,
                                     [CONFIG_KV_F32] = DTYPE_F32,
                                     [CONFIG_KV_Q8_0] = DTYPE_Q8_0,
                                     [CONFIG_KV_Q4_0] = DTYPE_Q4_0};
    static const cpu_isa isas[] = {CPU_ISA_AUTO,   CPU_ISA_SCALAR, CPU_ISA_AVX2,
                                   CPU_ISA_AVX512, CPU_ISA_AMX,    CPU_ISA_NEON};
    device_choice device;
    TRY(device_choose(c, &device, err));
    device_log_unused(c, &device);
    uint32_t seats = c->cmd == COMMAND_SERVE ? c->parallel : 1;
    *out = (engine_options){
        .spoken_for_bytes = out->spoken_for_bytes,
        .backend = device.backend,
        .devices_count = device.devices_count,
        .devices_min = device.devices_min,
        .device_bytes_max = c->gpu_bytes_max,
        .device_layers = c->gpu_layers,
        .no_graphs = !c->gpu_graphs,
        .no_pdl = !c->gpu_pdl,
        .no_peers = !c->gpu_peers,
        .no_ahead = !c->gpu_ahead,
        .no_micro_batches = !c->gpu_pipeline,
        .host_experts = c->cpu_moe_layers,
        .may_move_experts = device.preferred && c->gpu_layers == 0,
        .may_split = device.preferred,
        .threads = c->threads != 0 ? c->threads : os_cpu_count(),
        .isa_cap = isas[c->cpu_isa],
        .fast = wants_fast(c),
        .kv_type = kv_types[c->kv],
        .kv_may_be_q8 = may_lower_kv(c),
        .ctx_max = c->ctx_tokens,
        .ctx_min = CTX_TOKENS_MIN,
        .seats = seats,
        .rows_max = num_max_u32(c->step_tokens_max, seats),
        .rows_min = may_lower_steps(c) ? STEP_TOKENS_MIN : 0,
        .taken_rows_max = seats,
        .lora_rank_max = c->cmd == COMMAND_SERVE || c->loras.count > 0 ? c->lora_rank_max : 0,
        .kv_bytes_max = c->kv_bytes_max,
        .kv_host_bytes = kv_host_bytes_of(c),
    };
    memcpy(out->devices, device.devices, sizeof out->devices);
    return OK;
}

/* --- an engine, on the CPU if need be -------------------- */

static status open_on_cpu(const config *c, const char *name, const model *m, engine_options *opt,
                          engine **out, const error *why, error *err) {
    device_choice device;
    TRY(device_choose(c, &device, err));
    if (!device.preferred) return error_set(err, why->code, "%s", why->msg);
    log_warn("gpu", "name=%s is computed on the CPU: %s (--gpu require refuses instead)", name,
             why->msg);
    opt->backend = backend_find("cpu");
    return engine_open(out, m, opt, err);
}

status stack_engine_open(const config *c, const char *name, const model *m, engine_options *opt,
                         engine **out, error *why, error *err) {
    *why = (error){0};
    opt->adapter_bytes = lora_args_bytes(c, m, opt);
    const status st = engine_open(out, m, opt, why);
    if (st == OK) return OK;
    if (st == ERR_INVALID) return error_set(err, st, "%s", why->msg); /* an option, not the GPU */
    return open_on_cpu(c, name, m, opt, out, why, err);
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

static gen_pooling pooling_of(const stack *s) {
    switch (embed_pooling(s->model, s->c->pooling)) {
    case MODEL_POOLING_MEAN:
        return GEN_POOLING_MEAN;
    case MODEL_POOLING_CLS:
        return GEN_POOLING_FIRST;
    default:
        return GEN_POOLING_LAST;
    }
}

/* Numbers that the head of a reranker gives; 0 without one. */
static uint32_t labels_of(const model *m) {
    const model_tensor *head = model_has(&m->cls_out.w) ? &m->cls_out.w : &m->cls_dense.w;
    return m->hparams.is_encoder && model_has(head) ? head->rows : 0;
}

/* What besides generating it does. */
static void describe_vectors(stack *s, const engine_options *opt) {
    const model *m = s->model;
    model_desc *d = &s->desc;
    bool encoder = m->hparams.is_encoder;
    d->generates = !encoder;
    d->embed_dims = m->hparams.n_embd;
    d->embed_tokens_max = encoder ? num_min_u32(opt->rows_max, d->ctx_max) : d->ctx_max;
    d->rank_labels = labels_of(m);
    d->adapter_rank_max = s->loras != NULL ? engine_lora_rank_max(s->engine) : 0;
}

/* What the template is and can do, for the front. */
static void describe_chat(stack *s) {
    model_desc *d = &s->desc;
    if (s->model->hparams.is_encoder) { /* nothing to say to it */
        str_copy_c(d->chat, sizeof d->chat, S("none"));
        str_copy_c(d->chat_check, sizeof d->chat_check, S("ok"));
        return;
    }
    bool plain = chat_template_kind(s->chat) == CHAT_KIND_PLAIN;
    str_copy_c(d->chat, sizeof d->chat, plain ? S("plain") : S("jinja"));
    str_copy_c(d->chat_check, sizeof d->chat_check, str_of(chat_template_check(s->chat)));
    _Static_assert(sizeof d->chat_caps >= CHAT_CAPS_BYTES, "every name fits");
    chat_caps_text(chat_template_caps(s->chat), d->chat_caps);
}

static void describe(stack *s, const engine_options *opt) {
    const model_hparams *h = &s->model->hparams;
    const mem_plan *plan = engine_mem_plan(s->engine);
    backend_report report;
    engine_report(s->engine, &report);
    model_desc *d = &s->desc, before = *d;
    *d = (model_desc){
        .params = s->model->params,
        .file_bytes = s->model->file_bytes,
        .kv_bytes = plan->kv_bytes,
        .vocab = h->vocab,
        .n_embd = h->n_embd,
        .layers = h->layers,
        .ctx_train = h->ctx_train,
        .ctx_max = plan->ctx_max,
        .device_bytes = plan->device_bytes,
        .device_layers = plan->device_layers,
        .host_experts = plan->host_experts,
        .parallel = opt->seats,
        .threads = opt->threads,
    };
    memcpy(d->name, before.name, sizeof d->name);
    memcpy(d->fallback, before.fallback, sizeof d->fallback);
    str_copy_c(d->description, sizeof d->description, str_of(s->model->description));
    str_copy_c(d->license, sizeof d->license, str_of(s->model->license));
    str_copy_c(d->arch, sizeof d->arch, str_of(h->arch));
    str_copy_c(d->backend, sizeof d->backend, str_of(report.what));
    _Static_assert(sizeof d->device >= MEM_DEVICES_TEXT_BYTES, "all names fit");
    _Static_assert(sizeof d->backend >= BACKEND_WHAT_BYTES, "all backends fit");
    str_copy_c(d->device, sizeof d->device, str_of(plan->device));
    _Static_assert(sizeof d->reduced >= MEM_CUTS_TEXT_BYTES, "all cuts fit");
    mem_cuts_text(&plan->cuts, d->reduced);
    str_copy_c(d->numerics, sizeof d->numerics, str_of(report.numerics));
    str_copy_c(d->kv_type, sizeof d->kv_type, str_of(dtype_name(plan->kv_type)));
    describe_types(s->model, d->types, sizeof d->types);
    describe_chat(s);
    describe_vectors(s, opt);
}

/* Other commands tell people in words of their own. */
static void log_chat(const stack *s) {
    const model_desc *d = &s->desc;
    if (s->c->cmd != COMMAND_SERVE || !d->generates) return;
    bool plain = chat_template_kind(s->chat) == CHAT_KIND_PLAIN;
    if (plain && s->model->chat_template.n > 0)
        log_warn("chat", "name=%s has its own chat template; the plain one is used as asked",
                 d->name);
    else if (plain)
        log_info("chat", "name=%s has no chat template: the plain one is used (README)", d->name);
    else if (str_eq_c(S("ok"), d->chat_check))
        log_info("chat", "name=%s template=jinja check=ok caps=\"%s\"", d->name, d->chat_caps);
    else
        log_warn("chat", "name=%s template=jinja check=\"%s\" caps=\"%s\"", d->name, d->chat_check,
                 d->chat_caps);
}

static void log_loaded(const stack *s) {
    const mem_plan *p = engine_mem_plan(s->engine);
    const model_desc *d = &s->desc;
    log_info("model",
             "loaded name=%s arch=%s params=%" PRIu64 " types=\"%s\" backend=\"%s\" numerics=%s "
             "threads=%u ctx_tokens=%u parallel=%u",
             d->name, d->arch, d->params, d->types, d->backend, d->numerics, d->threads, d->ctx_max,
             d->parallel);
    if (d->description[0] != '\0')
        log_info("model", "about name=%s description=\"%s\" license=\"%s\"", d->name,
                 d->description, d->license);
    log_info("model",
             "memory name=%s weights_bytes=%" PRIu64 " repacked_bytes=%" PRIu64 " kv_bytes=%" PRIu64
             " kv_blocks=%u state_bytes=%" PRIu64 " workspace_bytes=%" PRIu64
             " pinned_bytes=%" PRIu64 " kv_host_bytes=%" PRIu64 " kv_host_blocks=%u",
             d->name, p->weights_bytes, p->repacked_bytes, p->kv_bytes, p->kv_blocks,
             p->state_bytes, p->workspace_bytes, p->pinned_bytes, p->kv_host_bytes,
             p->kv_host_blocks);
    if (d->ctx_max > d->ctx_train)
        log_warn("model", "ctx_tokens=%u is more than the %u the model was trained for", d->ctx_max,
                 d->ctx_train);
    engine_log_weights(s->engine);
    log_chat(s);
}

/* --- opening -------------------- */

/* Tell everybody who waits, at most once per percent; false: stop. */
static bool tell(stack *s, load_phase phase, uint32_t permille) {
    bool news = s->told.phase != phase || s->told.permille / 10 != permille / 10;
    if (news) {
        s->told = (model_loading){.phase = phase, .permille = permille};
        buf_clear(&s->frame);
        wire_put_loading(&s->frame, &s->told);
        (void)link_flush(s->front.up, &s->frame); /* a full ring has enough to say */
    }
    return s->watch.tell == NULL || s->watch.tell(s->watch.ctx, phase, permille);
}

/* Where the phases begin, in permille of the whole: nearly all of the time goes into weights. */
enum { AT_TOKENIZER = 20, AT_MEMORY = 60, AT_WEIGHTS = 80, AT_WARM_UP = 980 };

static bool tell_weights(void *ctx, uint64_t done, uint64_t total) {
    double share = total > 0 ? (double)done / (double)total : 1;
    return tell(ctx, LOAD_PHASE_WEIGHTS,
                AT_WEIGHTS + (uint32_t)(share * (AT_WARM_UP - AT_WEIGHTS)));
}

static status step_to(stack *s, load_phase phase, uint32_t permille, error *err) {
    if (tell(s, phase, permille)) return OK;
    return error_set(err, ERR_CANCELED, "loading was stopped");
}

/* The template that was asked for, or the model's own, or the plain one. */
static status open_chat(stack *s, error *err) {
    str asked = s->c->chat_template;
    bool plain = str_eq(asked, S("plain")), own = str_eq(asked, S("auto"));
    buf file;
    buf_init(&file, CHAT_FILE_BYTES_MAX);
    chat_source source = {.kind = CHAT_KIND_PLAIN, .tok = s->tok};
    status st = OK;
    if (own && s->model->chat_template.n > 0) {
        source.kind = CHAT_KIND_JINJA;
        source.text = s->model->chat_template;
        source.tool_text = s->model->chat_template_tools;
    } else if (!plain && !own) {
        source.kind = CHAT_KIND_JINJA;
        st = command_read_file(asked.p, &file, err);
        source.text = buf_view(&file);
    }
    if (st == OK) st = chat_template_create(&s->chat, &source, err);
    buf_deinit(&file);
    return st;
}

/* An encoder computes a text in one step, and has no use for more of them. */
static void fit_options(stack *s) {
    engine_options *o = &s->options;
    const model_hparams *h = &s->model->hparams;
    o->hidden_rows_max = o->rows_max;
    if (!h->is_encoder) return;
    /* its keys and values live for one step: full precision costs next to nothing */
    if (!config_is_given(s->c, "kv")) o->kv_type = DTYPE_F32;
    uint32_t ctx = o->ctx_max != 0 ? o->ctx_max : h->ctx_train;
    o->rows_max = num_max_u32(num_min_u32(ctx, ENCODER_ROWS_MAX), o->seats);
    o->hidden_rows_max = o->rows_max;
}

/* The adapters of the command line are there before the first request, or nothing is. */
static status open_adapters(stack *s, error *err) {
    const config *c = s->c;
    uint32_t most = c->cmd == COMMAND_SERVE ? num_max_u32(c->lora_adapters_max, c->loras.count)
                                            : c->loras.count;
    if (s->options.lora_rank_max == 0 || most == 0) {
        if (c->loras.count == 0) return OK;
        return error_set(err, ERR_INVALID,
                         "--lora: --lora-rank-max is 0, which allows no adapters");
    }
    TRY(lora_table_create(&s->loras, s->engine, most, err));
    return lora_args_load_into(c, s->loras, err);
}

static void close_engine(stack *s) {
    lora_table_destroy(s->loras);
    engine_close(s->engine);
    s->loras = NULL;
    s->engine = NULL;
}

/* What the GPU that computes cannot be used for any more is computed on the CPU, or an error. */
static status fall_back(stack *s, const error *why, error *err) {
    str_copy_c(s->desc.fallback, sizeof s->desc.fallback, str_of(why->msg));
    return open_on_cpu(s->c, s->desc.name, s->model, &s->options, &s->engine, why, err);
}

static status open_on_device(stack *s, error *err) {
    error why = {0};
    TRY(stack_engine_open(s->c, s->desc.name, s->model, &s->options, &s->engine, &why, err));
    str_copy_c(s->desc.fallback, sizeof s->desc.fallback, str_of(why.msg));
    return OK;
}

/* What the command line names may have no room beside the model on its GPU, or the GPU may fail. */
static status open_adapters_somewhere(stack *s, error *err) {
    error why = {0};
    const status st = open_adapters(s, &why);
    if (st == OK) return OK;
    const bool of_gpu = st == ERR_NOMEM || st == ERR_DEVICE; /* and not of the file */
    if (!of_gpu || !engine_mem_plan(s->engine)->on_device) return error_set(err, st, "%s", why.msg);
    close_engine(s);
    TRY(fall_back(s, &why, err));
    return open_adapters(s, err);
}

static status open_engine(stack *s, error *err) {
    TRY(step_to(s, LOAD_PHASE_HEADERS, 0, err));
    TRY(model_source_open(&s->model, s->c, s->path.p, err));
    if (s->model->vocab.kind == TOK_KIND_NONE)
        return error_set(err, ERR_UNSUPPORTED, "'%s' has no tokenizer", s->path.p);
    TRY(step_to(s, LOAD_PHASE_TOKENIZER, AT_TOKENIZER, err));
    TRY(tok_create(&s->tok, &s->model->vocab, err));
    TRY(open_chat(s, err));
    TRY(step_to(s, LOAD_PHASE_MEMORY, AT_MEMORY, err));
    fit_options(s);
    TRY(open_on_device(s, err));
    TRY(open_adapters_somewhere(s, err));
    uint32_t ctx = engine_mem_plan(s->engine)->ctx_max;
    if (ctx < 2)
        return error_set(err, ERR_INVALID,
                         "a context of %u tokens, want 2: one of a prompt and one of an answer",
                         ctx);
    return OK;
}

static status load_weights(stack *s, error *err) {
    TRY(step_to(s, LOAD_PHASE_WEIGHTS, AT_WEIGHTS, err));
    TRY(engine_load(s->engine, &(backend_progress){tell_weights, s}, err));
    TRY(step_to(s, LOAD_PHASE_WARM_UP, AT_WARM_UP, err));
    return engine_warm_up(s->engine, err);
}

/* A GPU may fail as late as now: its driver puts code into its memory when it is first run. */
static status wake_engine(stack *s, error *err) {
    error why = {0};
    const status st = load_weights(s, &why);
    if (st == OK) return OK;
    const bool on_device = engine_mem_plan(s->engine)->on_device;
    if (st == ERR_CANCELED || !on_device) return error_set(err, st, "%s", why.msg);
    close_engine(s);
    TRY(fall_back(s, &why, err));
    TRY(open_adapters(s, err));
    return load_weights(s, err);
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

static void begin_engine(void *ctx, const engine_row *rows, uint32_t count) {
    engine_begin(ctx, rows, count);
}

static void draw_in_engine(void *ctx) { engine_draw(ctx); }
static const float *end_engine(void *ctx) { return engine_end(ctx); }
static const float *hidden_of_engine(void *ctx) { return engine_hidden(ctx); }
static const int32_t *best_of_engine(void *ctx) { return engine_best(ctx); }
static const sample_logprobs *logprobs_of_engine(void *ctx) { return engine_logprobs(ctx); }
static uint32_t micro_batches_of_engine(void *ctx) { return engine_micro_batches(ctx); }
static const error *fault_of_engine(void *ctx) { return engine_fault(ctx); }
static status profile_engine(void *ctx, bool on, error *err) {
    return engine_profile_switch(ctx, on, err);
}
static uint32_t profiled_by_engine(void *ctx, backend_profile out[BACKEND_PARTS_MAX]) {
    return engine_profiled(ctx, out);
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
                  .eog_count = eog_count,
                  .no_generate = !s->desc.generates,
                  .no_sharing = !engine_can_share(s->engine),
                  .whole_prompts = s->model->hparams.is_encoder,
                  .embed_dims = s->desc.embed_dims,
                  .rank_labels = s->desc.rank_labels,
                  .embed_tokens_max = s->desc.embed_tokens_max,
                  .pooling = pooling_of(s),
                  .loras = s->loras,
                  .tier = engine_kv_tier(s->engine)},
        .stepper = {.ctx = s->engine,
                    .step = step_engine,
                    .hidden = hidden_of_engine,
                    .best = best_of_engine,
                    .samples = engine_can_sample(s->engine),
                    .logprobs = logprobs_of_engine,
                    .micro_batches = micro_batches_of_engine,
                    .fault = fault_of_engine,
                    .profile = profile_engine,
                    .profiled = profiled_by_engine},
        .kv = engine_kv(s->engine),
        .link = &s->inner,
    };
    if (engine_runs_ahead(s->engine)) {
        eo.stepper.begin = begin_engine;
        eo.stepper.end = end_engine;
        eo.stepper.draw = draw_in_engine;
    }
    engine_report(s->engine, &eo.report);
    text_worker_options to = {
        .tok = s->tok,
        .chat = s->chat,
        .trust_content = c->trust_content,
        .request_templates = c->request_templates,
        .desc = s->desc,
        .requests_max = c->queue_max + opt->seats,
        .prompt_tokens_max = c->prompt_tokens_max,
        .front = &s->front,
        .engine = &s->inner,
    };
    const size_t ids = (size_t)s->desc.ctx_max + WIRE_ALLOWED_IDS_MAX; /* of a request, at most */
    TRY(link_open(&s->inner, ids * sizeof(int32_t) * 2 + DOWN_BYTES_MIN, UP_BYTES, err));
    TRY(engine_worker_create(&s->worker, &eo, err));
    return text_worker_create(&s->text, &to, err);
}

static status check_name(str name, error *err) {
    model_desc d;
    if (name.n < sizeof d.name) return OK;
    return error_set(err, ERR_INVALID, "model name '%.*s' has %zu bytes, at most %zu", STR(name),
                     name.n, sizeof d.name - 1);
}

/* Is there something to load?  Said before anybody listens. */
static status check_path(const char *path, error *err) {
    int fd = -1;
    if (synth_is(path) || model_is_embedded(path)) return OK;
    TRY(os_open_read(path, &fd, err));
    os_close(fd);
    return OK;
}

status stack_create(stack **out, const config *c, str name, str path, error *err) {
    TRY(check_name(name, err));
    stack *s = mem_try_calloc(1, sizeof *s);
    if (s == NULL) return error_set(err, ERR_NOMEM, "no memory");
    s->c = c;
    s->path = path; /* config strings are terminated */
    s->told.phase = LOAD_PHASE_END;
    str_copy_c(s->desc.name, sizeof s->desc.name, name);
    buf_init(&s->frame, 256);
    size_t down_bytes = (size_t)c->request_bytes_max * 2 + DOWN_BYTES_MIN;
    status st = check_path(path.p, err);
    if (st != OK) (void)command_blame(path.p, err);
    if (st == OK) st = stack_engine_options(c, &s->options, err);
    if (st == OK) st = link_open(&s->front, down_bytes, UP_BYTES, err);
    if (st != OK) {
        stack_close(s);
        return st;
    }
    *out = s;
    return OK;
}

status stack_load(stack *s, uint64_t spoken_for_bytes, const load_watch *watch, error *err) {
    if (watch != NULL) s->watch = *watch;
    s->options.spoken_for_bytes = spoken_for_bytes;
    status st = open_engine(s, err);
    if (st == OK) st = wake_engine(s, err);
    if (st != OK) return command_blame(s->path.p, err);
    s->options.rows_max = engine_mem_plan(s->engine)->rows_max; /* where memory was short: fewer */
    describe(s, &s->options);
    TRY(open_roles(s, s->c, &s->options, err));
    log_loaded(s);
    return OK;
}

static bool show_progress(void *ctx, load_phase phase, uint32_t permille) {
    progress_show(ctx, load_phase_name(phase), permille);
    return true;
}

status stack_open(stack **out, const config *c, str name, str path, error *err) {
    stack *s = NULL;
    progress_line line;
    TRY(stack_create(&s, c, name, path, err));
    progress_begin(&line, name);
    status st = stack_load(s, 0, &(load_watch){show_progress, &line}, err);
    progress_end(&line);
    if (st != OK) {
        stack_close(s);
        return st;
    }
    *out = s;
    return OK;
}

const char *stack_name(const stack *s) { return s->desc.name; }

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
    return p->untouched_bytes;
}
bool stack_is_broken(const stack *s) {
    return s->worker != NULL && engine_worker_is_broken(s->worker);
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
    close_engine(s);
    chat_template_destroy(s->chat);
    buf_deinit(&s->frame);
    tok_destroy(s->tok);
    model_close(s->model);
    mem_free(s);
}
