/* inspect.c - see inspect.h.  Gathers; inspect_text.c and inspect_json.c render. */
#include "model/inspect.h"

#include "model/inspect_internal.h"
#include "model/model_internal.h"

/* A key of another type is as good as none here; its metadata line shows it. */
static str string_or_empty(const gguf *g, str key) {
    str s = S("");
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
        char key[160];
        uint32_t n = 0;
        str_copy_c(key, sizeof key - 40, r->arch);
        str_copy_c(key + strlen(key), 40, str_of(usual[i].suffix));
        if (gguf_get_u32(r->file, str_of(key), &n, NULL) == OK) add_count(r, usual[i].label, n);
    }
}

/* --- tokenizer ------------------------------------------------------------- */
static void add_id(inspect_report *r, const char *label, int32_t id) {
    if (id != TOK_ID_NONE) r->ids[r->ids_count++] = (inspect_id){label, (uint32_t)id};
}

static void gather_vocab(inspect_report *r) {
    const tok_vocab *v = &r->model->vocab;
    add_id(r, "bos", v->bos_id);
    add_id(r, "eos", v->eos_id);
    add_id(r, "eot", v->eot_id);
    add_id(r, "unk", v->unk_id);
    r->add_bos = v->add_bos;
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
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        uint32_t id = 0;
        if (gguf_get_u32(r->file, str_of(ids[i].key), &id, NULL) != OK) continue;
        r->ids[r->ids_count++] = (inspect_id){ids[i].label, id};
    }
    if (gguf_get_bool(r->file, S("tokenizer.ggml.add_bos_token"), &r->add_bos, NULL) != OK)
        r->add_bos = false;
}

static void gather_tokenizer(inspect_report *r) {
    gguf_array tokens;
    r->tokenizer = string_or_empty(r->file, S("tokenizer.ggml.model"));
    r->chat_template = string_or_empty(r->file, S("tokenizer.chat_template"));
    if (gguf_get_array(r->file, S("tokenizer.ggml.tokens"), GGUF_TYPE_STRING, &tokens, NULL) == OK)
        r->tokens = tokens.count;
    if (r->model->vocab.kind != TOK_KIND_NONE)
        gather_vocab(r);
    else
        gather_vocab_keys(r);
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

static void gather(inspect_report *r) {
    r->arch = string_or_empty(r->file, S("general.architecture"));
    gather_tensors(r);
    gather_tokenizer(r);
    if (r->verdict.code == OK)
        gather_known(r);
    else
        gather_usual(r);
}

status model_inspect_blob(blob *b, bool json, buf *out, error *err) {
    model *m = NULL;
    inspect_report r = {0};
    TRY(model_open_any(&m, b, &r.verdict, err));
    r.path = blob_name(b);
    r.model = m;
    r.file = model_gguf(m);
    gather(&r);
    if (json)
        inspect_put_json(&r, out);
    else
        inspect_put_text(&r, out);
    model_close(m);
    return buf_status(out, "inspect", err);
}

status model_inspect(const char *path, bool json, buf *out, error *err) {
    blob *b = NULL;
    TRY(model_open_file(&b, path, err));
    return model_inspect_blob(b, json, out, err);
}
