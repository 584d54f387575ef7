/* inspect.c - see inspect.h.  Gathers; inspect_text.c and inspect_json.c render. */
#include "model/inspect.h"

#include "base/num.h"
#include "model/inspect_internal.h"
#include "model/model_internal.h"

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

/* Of a model this version understands, with every default in place. */
static void gather_known(inspect_report *r) {
    const model_hparams *hp = &r->model->hparams;
    add_count(r, "context_length", hp->ctx_train);
    add_count(r, "vocabulary", hp->vocab);
    add_count(r, "embedding_length", hp->n_embd);
    add_count(r, "layers", hp->layers);
    add_count(r, "heads", hp->heads);
    add_count(r, "kv_heads", hp->kv_heads);
    add_count(r, "head_dim", hp->head_dim);
    add_count(r, "feed_forward_length", hp->n_ff);
    add_number(r, "norm_epsilon", hp->norm_eps);
    add_count(r, "rope_dims", hp->rope_dims);
    add_number(r, "rope_base", hp->rope_base);
    add_number(r, "rope_scale", hp->rope_scale);
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
/* Keys and values of every layer in f16, the default of serving.  Models whose layers differ in
 * their number of heads, or that keep a state instead, say nothing here. */
static void gather_memory(inspect_report *r) {
    uint32_t layers = 0, embd = 0, heads = 0, kv_heads = 0, key = 0, value = 0;
    if (!arch_u32(r, ".block_count", &layers) || !arch_u32(r, ".embedding_length", &embd) ||
        !arch_u32(r, ".attention.head_count", &heads) || heads == 0)
        return;
    if (!arch_u32(r, ".attention.head_count_kv", &kv_heads)) {
        char text[160];
        str_copy_c(text, sizeof text - 40, r->arch);
        str_copy_c(text + strlen(text), 40, S(".attention.head_count_kv"));
        if (gguf_kv_find(r->file, str_of(text)) != NULL) return; /* one number per layer */
        kv_heads = heads;
    }
    if (!arch_u32(r, ".attention.key_length", &key)) key = embd / heads;
    if (!arch_u32(r, ".attention.value_length", &value)) value = key;
    uint64_t row = 0;
    if (!num_mul_u64(&row, (uint64_t)layers * kv_heads, ((uint64_t)key + value) * 2)) return;
    if (!num_mul_u64(&r->kv_bytes_per_1k, row, 1024)) r->kv_bytes_per_1k = 0;
    if (arch_u32(r, ".context_length", &r->ctx_train) &&
        !num_mul_u64(&r->kv_bytes_full, row, r->ctx_train))
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
    if (r->file == NULL) return;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        uint32_t id = 0;
        if (gguf_get_u32(r->file, str_of(ids[i].key), &id, NULL) != OK) continue;
        r->ids[r->ids_count++] = (inspect_id){ids[i].label, id, S("")};
    }
    if (gguf_get_bool(r->file, S("tokenizer.ggml.add_bos_token"), &r->add_bos, NULL) != OK)
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
    gguf_array tokens;
    r->tokenizer = string_or_empty(r->file, S("tokenizer.ggml.model"));
    r->pre = string_or_empty(r->file, S("tokenizer.ggml.pre"));
    if (r->file == NULL) r->tokenizer = kind_name(r->model->vocab.kind);
    if (r->file != NULL &&
        gguf_get_array(r->file, S("tokenizer.ggml.tokens"), GGUF_TYPE_STRING, &tokens, NULL) == OK)
        r->tokens = tokens.count;
    if (r->model->vocab.kind != TOK_KIND_NONE)
        gather_vocab(r);
    else
        gather_vocab_keys(r);
}

/* --- chat template ----------------------------------------------------------- */
static status gather_chat(inspect_report *r, error *err) {
    r->chat_template = r->file != NULL ? string_or_empty(r->file, S("tokenizer.chat_template"))
                                       : r->model->chat_template;
    r->chat_template_tools = r->file != NULL
                                 ? string_or_empty(r->file, S("tokenizer.chat_template.tool_use"))
                                 : r->model->chat_template_tools;
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

/* A directory, or a tokenizer's file: no blob, or none that is a GGUF. */
static status inspect_vocab(const char *path, const inspect_options *o, buf *out, error *err) {
    model *m = NULL;
    inspect_report r = {.options = o, .path = path};
    TRY(model_open_vocab(&m, path, err));
    (void)error_set(&r.verdict, ERR_UNSUPPORTED,
                    "model: weights are read from GGUF files; this is a tokenizer");
    return report(m, &r, out, err);
}

/* The GGUF's own error counts where neither it nor a tokenizer is there. */
status model_inspect_with(const char *path, const inspect_options *o, buf *out, error *err) {
    blob *b = NULL;
    error why = {0};
    size_t before = out->n;
    status st = model_open_file(&b, path, &why);
    if (st == OK) st = inspect_blob(b, o, out, &why);
    if (st == OK) return OK;
    if (st == ERR_FORMAT || st == ERR_IO || st == ERR_INVALID) {
        out->n = before;
        if (inspect_vocab(path, o, out, NULL) == OK) return OK;
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
