/* inspect.c - see inspect.h.  Gathers; inspect_text.c and inspect_json.c render. */
#include "model/inspect.h"

#include <stdio.h>

#include "base/num.h"
#include "model/hf_dir.h"
#include "model/inspect_internal.h"
#include "model/model_internal.h"
#include "model/synth.h"

/* Where the tokenizer's keys are: NULL for directories, whose tokenizer has files of its own. */
static const gguf *tokenizer_file(const inspect_report *r) {
    return r->model->internal->weights == NULL ? r->file : NULL;
}

/* A key of another type is as good as none here; its metadata line shows it. */
static str string_or_empty(const gguf *g, str key) {
    str s = S("");
    if (g == NULL) return s;
    return gguf_get_str(g, key, &s, NULL) == OK ? s : S("");
}

/* --- hyper-parameters ------------------------------------------------------ */
static void add_count(inspect_report *r, const char *label, uint32_t n) {
    r->hparams[r->hparams_count++] = (inspect_hparam){.label = label, .count = n};
}

static void add_number(inspect_report *r, const char *label, float f) {
    r->hparams[r->hparams_count++] =
        (inspect_hparam){.label = label, .is_float = true, .number = f};
}

/* A number that is only said when there is something to say. */
static void add_some(inspect_report *r, const char *label, uint32_t n) {
    if (n > 0) add_count(r, label, n);
}

static void gather_attention(inspect_report *r) {
    const model_hparams *hp = &r->model->hparams;
    if (hp->heads == 0) return;
    add_count(r, "heads", hp->heads);
    add_count(r, "kv_heads", hp->kv_heads);
    add_count(r, "head_dim", hp->head_dim);
    if (hp->value_dim != hp->head_dim) add_count(r, "value_dim", hp->value_dim);
    add_some(r, "kv_rank", hp->kv_rank);
}

static void gather_experts(inspect_report *r) {
    const model_experts *e = &r->model->hparams.experts;
    if (e->count == 0) return;
    add_count(r, "experts", e->count);
    add_count(r, "experts_used", e->used);
    add_count(r, "expert_length", e->n_ff);
    add_some(r, "shared_expert_length", e->shared_n_ff);
}

/* How far layers look, when not all of them see everything. */
static void gather_window(inspect_report *r) {
    const model *m = r->model;
    uint32_t tokens = 0, layers = 0;
    for (uint32_t i = 0; i < m->hparams.layers; i++) {
        if (m->layers[i].window == 0) continue;
        tokens = m->layers[i].window;
        layers++;
    }
    add_some(r, "window", tokens);
    add_some(r, "layers_with_window", layers);
}

/* A magnitude other than 1 is YaRN's or LongRoPE's. */
static void gather_rope(inspect_report *r) {
    const model_rope *rope = &r->model->ropes[0];
    float base = 0;
    char key[80];
    if (rope->dims == 0) return;
    add_count(r, "rope_dims", rope->dims);
    (void)snprintf(key, sizeof key, "%s.rope.freq_base", r->model->hparams.arch);
    if (gguf_get_f32_or(r->file, str_of(key), 10000.0f, &base, NULL) == OK)
        add_number(r, "rope_base", base);
    if (rope->magnitude != 1.0f) add_number(r, "rope_magnitude", rope->magnitude);
    if (rope->freqs_long != NULL) add_count(r, "rope_short_context", rope->ctx_short);
}

/* Of a model this version understands, with every default in place. */
static void gather_known(inspect_report *r) {
    const model_hparams *hp = &r->model->hparams;
    add_count(r, "context_length", hp->ctx_train);
    add_count(r, "vocabulary", hp->vocab);
    add_count(r, "embedding_length", hp->n_embd);
    add_count(r, "layers", hp->layers);
    gather_attention(r);
    add_some(r, "feed_forward_length", hp->n_ff);
    gather_experts(r);
    gather_window(r);
    add_number(r, "norm_epsilon", hp->norm_eps);
    gather_rope(r);
}

/* "ARCH.SUFFIX" of any integer type. */
static bool arch_u32(const inspect_report *r, const char *suffix, uint32_t *out) {
    char key[160];
    str_copy_c(key, sizeof key - 40, r->arch);
    str_copy_c(key + strlen(key), 40, str_of(suffix));
    return gguf_get_u32(r->file, str_of(key), out, NULL) == OK;
}

/* Of any other: the keys that nearly every architecture has. */
static void gather_usual(inspect_report *r) {
    static const struct {
        const char *label, *suffix;
    } usual[] = {
        {"context_length", ".context_length"},
        {"embedding_length", ".embedding_length"},
        {"layers", ".block_count"},
        {"heads", ".attention.head_count"},
        {"kv_heads", ".attention.head_count_kv"},
        {"head_dim", ".attention.key_length"},
        {"feed_forward_length", ".feed_forward_length"},
        {"experts", ".expert_count"},
    };
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        uint32_t n = 0;
        if (arch_u32(r, usual[i].suffix, &n)) add_count(r, usual[i].label, n);
    }
}

/* --- memory ---------------------------------------------------------------- */
/* Elements of keys and values of one token in all layers, as the keys say them.  Models whose
 * layers differ in their number of heads, or that keep a state instead, say nothing here. */
static uint64_t kv_elems_by_keys(const inspect_report *r) {
    uint32_t layers = 0, embd = 0, heads = 0, kv_heads = 0, key = 0, value = 0;
    if (!arch_u32(r, ".block_count", &layers) || !arch_u32(r, ".embedding_length", &embd) ||
        !arch_u32(r, ".attention.head_count", &heads) || heads == 0)
        return 0;
    if (!arch_u32(r, ".attention.head_count_kv", &kv_heads)) {
        char text[160];
        str_copy_c(text, sizeof text - 40, r->arch);
        str_copy_c(text + strlen(text), 40, S(".attention.head_count_kv"));
        if (gguf_kv_find(r->file, str_of(text)) != NULL) return 0; /* one number per layer */
        kv_heads = heads;
    }
    if (!arch_u32(r, ".attention.key_length", &key)) key = embd / heads;
    if (!arch_u32(r, ".attention.value_length", &value)) value = key;
    uint64_t elems = 0;
    return num_mul_u64(&elems, (uint64_t)layers * kv_heads, (uint64_t)key + value) ? elems : 0;
}

/* The same of a model that is understood; of latent attention only the latent and the rotary key
 * are kept, and encoders keep nothing. */
static uint64_t kv_elems_known(const model_hparams *hp) {
    uint64_t row = (uint64_t)hp->kv_heads * (hp->head_dim + hp->value_dim);
    if (hp->mixer == MODEL_MIXER_LATENT) row = hp->kv_rank + hp->head_dim - hp->nope_dim;
    return hp->is_encoder ? 0 : hp->layers * row;
}

/* In f16, the default of serving. */
static void gather_memory(inspect_report *r) {
    bool known = r->verdict.code == OK;
    uint64_t elems = known ? kv_elems_known(&r->model->hparams) : kv_elems_by_keys(r);
    if (!num_mul_u64(&r->kv_bytes_per_1k, elems, (uint64_t)2 * 1024)) r->kv_bytes_per_1k = 0;
    bool said = known || arch_u32(r, ".context_length", &r->ctx_train);
    if (known) r->ctx_train = r->model->hparams.ctx_train;
    if (said && !num_mul_u64(&r->kv_bytes_full, elems, (uint64_t)2 * r->ctx_train))
        r->kv_bytes_full = 0;
}

/* --- who made it ------------------------------------------------------------- */
static void gather_about(inspect_report *r) {
    static const struct {
        const char *label, *key;
    } keys[] = {
        {"basename", "general.basename"},
        {"size_label", "general.size_label"},
        {"finetune", "general.finetune"},
        {"description", "general.description"},
        {"author", "general.author"},
        {"organization", "general.organization"},
        {"quantized_by", "general.quantized_by"},
        {"license", "general.license"},
        {"license_link", "general.license.link"},
        {"url", "general.url"},
        {"source_url", "general.source.url"},
        {"repo_url", "general.repo_url"},
    };
    _Static_assert(sizeof keys / sizeof *keys <= INSPECT_ABOUT_MAX, "a place for each");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        str text = string_or_empty(r->file, str_of(keys[i].key));
        if (text.n > 0) r->about[r->about_count++] = (inspect_about){keys[i].label, text};
    }
}

/* --- tokenizer ------------------------------------------------------------- */
static str piece_of(const inspect_report *r, uint32_t id) {
    const tok_vocab *v = &r->model->vocab;
    return v->kind != TOK_KIND_NONE && id < v->count ? v->pieces[id] : S("");
}

static void add_id(inspect_report *r, const char *label, int32_t id) {
    if (id == TOK_ID_NONE) return;
    r->ids[r->ids_count++] = (inspect_id){label, (uint32_t)id, piece_of(r, (uint32_t)id)};
}

static void gather_vocab(inspect_report *r) {
    const tok_vocab *v = &r->model->vocab;
    add_id(r, "bos", v->bos_id);
    add_id(r, "eos", v->eos_id);
    add_id(r, "eot", v->eot_id);
    add_id(r, "unk", v->unk_id);
    if (r->tokens == 0) r->tokens = v->count;
    if (tok_create(&r->tok, v, &r->tok_error) != OK) return;
    r->add_bos = tok_adds_bos(r->tok);
    for (uint32_t i = 0; i < v->count && r->ends_count < INSPECT_ENDS_MAX; i++)
        if (tok_is_eog(r->tok, (int32_t)i))
            r->ends[r->ends_count++] = (inspect_id){"end", i, piece_of(r, i)};
}

/* Of a tokenizer this version does not know: what its keys say. */
static void gather_vocab_keys(inspect_report *r) {
    static const struct {
        const char *label, *key;
    } ids[] = {
        {"bos", "tokenizer.ggml.bos_token_id"},
        {"eos", "tokenizer.ggml.eos_token_id"},
        {"eot", "tokenizer.ggml.eot_token_id"},
        {"unk", "tokenizer.ggml.unknown_token_id"},
    };
    const gguf *file = tokenizer_file(r);
    if (file == NULL) return;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        uint32_t id = 0;
        if (gguf_get_u32(file, str_of(ids[i].key), &id, NULL) != OK) continue;
        r->ids[r->ids_count++] = (inspect_id){ids[i].label, id, S("")};
    }
    if (gguf_get_bool(file, S("tokenizer.ggml.add_bos_token"), &r->add_bos, NULL) != OK)
        r->add_bos = false;
}

static str kind_name(tok_kind kind) {
    static const char *const names[] = {
        [TOK_KIND_NONE] = "",
        [TOK_KIND_SPM] = "SentencePiece BPE",
        [TOK_KIND_BPE] = "BPE",
        [TOK_KIND_UNIGRAM] = "unigram",
        [TOK_KIND_WORDPIECE] = "WordPiece",
        [TOK_KIND_RWKV] = "RWKV",
        [TOK_KIND_WORDLEVEL] = "word level",
    };
    return (size_t)kind < sizeof names / sizeof *names ? str_of(names[kind]) : S("");
}

static void gather_tokenizer(inspect_report *r) {
    const gguf *file = tokenizer_file(r);
    gguf_array tokens;
    r->tokenizer = string_or_empty(file, S("tokenizer.ggml.model"));
    r->pre = string_or_empty(file, S("tokenizer.ggml.pre"));
    if (file == NULL) r->tokenizer = kind_name(r->model->vocab.kind);
    if (file != NULL &&
        gguf_get_array(file, S("tokenizer.ggml.tokens"), GGUF_TYPE_STRING, &tokens, NULL) == OK)
        r->tokens = tokens.count;
    if (r->model->vocab.kind != TOK_KIND_NONE)
        gather_vocab(r);
    else
        gather_vocab_keys(r);
}

/* --- chat template ----------------------------------------------------------- */
static status gather_chat(inspect_report *r, error *err) {
    const gguf *file = tokenizer_file(r);
    r->chat_template = r->model->chat_template;
    r->chat_template_tools = r->model->chat_template_tools;
    if (file != NULL) {
        r->chat_template = string_or_empty(file, S("tokenizer.chat_template"));
        r->chat_template_tools = string_or_empty(file, S("tokenizer.chat_template.tool_use"));
    }
    if (r->chat_template.n == 0) return OK;
    chat_source s = {.kind = CHAT_KIND_JINJA,
                     .text = r->chat_template,
                     .tool_text = r->chat_template_tools,
                     .tok = r->tok};
    status st = chat_template_create(&r->chat, &s, err);
    return st == ERR_LIMIT ? OK : st; /* shown without its check */
}

/* --- the whole ------------------------------------------------------------- */
static void gather_tensors(inspect_report *r) {
    for (uint32_t i = 0; i < gguf_tensor_count(r->file); i++) {
        const gguf_tensor *t = gguf_tensor_get(r->file, i);
        r->params += t->elems;
        r->weight_bytes += t->bytes;
        r->types[t->type].tensors++;
        r->types[t->type].bytes += t->bytes;
    }
}

static status gather(inspect_report *r, error *err) {
    gather_tokenizer(r);
    TRY(gather_chat(r, err));
    if (r->tok_error.code == ERR_NOMEM) return error_set(err, ERR_NOMEM, "%s", r->tok_error.msg);
    if (r->file == NULL) return OK;
    r->arch = string_or_empty(r->file, S("general.architecture"));
    gather_tensors(r);
    gather_about(r);
    gather_memory(r);
    if (r->verdict.code == OK)
        gather_known(r);
    else
        gather_usual(r);
    return OK;
}

/* Takes m. */
static status report(model *m, inspect_report *r, buf *out, error *err) {
    r->model = m;
    r->file = model_gguf(m);
    status st = gather(r, err);
    if (st == OK && r->options->json)
        inspect_put_json(r, out);
    else if (st == OK)
        inspect_put_text(r, out);
    chat_template_destroy(r->chat);
    tok_destroy(r->tok);
    model_close(m);
    return st == OK ? buf_status(out, "inspect", err) : st;
}

static status inspect_blob(blob *b, const inspect_options *o, buf *out, error *err) {
    model *m = NULL;
    inspect_report r = {.options = o};
    TRY(model_open_any(&m, b, &r.verdict, err));
    r.path = blob_name(b);
    return report(m, &r, out, err);
}

/* A directory whose weights are understood as far as their names go. */
static status inspect_dir(const char *path, const inspect_options *o, buf *out, error *err) {
    model *m = NULL;
    inspect_report r = {.options = o, .path = path};
    TRY(model_open_any_dir(&m, path, &r.verdict, err));
    return report(m, &r, out, err);
}

/* A directory of which only the tokenizer is understood, or a tokenizer's file: no blob, or none
 * that is a GGUF.  *why says what is wrong with the rest. */
static status inspect_vocab(const char *path, const inspect_options *o, const error *why, buf *out,
                            error *err) {
    model *m = NULL;
    inspect_report r = {.options = o, .path = path, .verdict = *why};
    TRY(model_open_vocab(&m, path, err));
    return report(m, &r, out, err);
}

/* The GGUF's or directory's own error counts where neither it nor a tokenizer is there. */
status model_inspect_with(const char *path, const inspect_options *o, buf *out, error *err) {
    blob *b = NULL;
    error why = {0};
    size_t before = out->n;
    bool is_dir = !synth_is(path) && hf_dir_is(path);
    status st = is_dir ? inspect_dir(path, o, out, &why) : model_open_file(&b, path, &why);
    if (st == OK && !is_dir) st = inspect_blob(b, o, out, &why);
    if (st == OK) return OK;
    bool is_file = st == ERR_FORMAT || st == ERR_IO || st == ERR_INVALID;
    if (is_dir ? st != ERR_NOMEM : is_file) {
        out->n = before;
        error file_why = {.code = ERR_UNSUPPORTED,
                          .msg = "model: weights are read from GGUF files and SafeTensors "
                                 "directories; this is a tokenizer"};
        if (inspect_vocab(path, o, is_dir ? &why : &file_why, out, NULL) == OK) return OK;
        out->n = before;
    }
    return error_set(err, st, "%s", why.msg);
}

status model_inspect(const char *path, bool json, buf *out, error *err) {
    return model_inspect_with(path, &(inspect_options){.json = json}, out, err);
}

status model_inspect_blob(blob *b, bool json, buf *out, error *err) {
    return inspect_blob(b, &(inspect_options){.json = json}, out, err);
}
