/* models.c - GET /v1/models and /v1/models/{id}: names, and what the front knows of each. */
#include "api/front_internal.h"
#include "json/write.h"

/* Says in words which text a chat becomes, since answers depend on it. */
static str chat_note(const model_desc *d) {
    str kind = str_of(d->chat);
    if (str_eq(kind, S("jinja"))) return S("chats are written with the model's own template");
    if (str_eq(kind, S("plain")))
        return S("chats are written as 'User: ...' and 'Assistant: ...' lines; the model's own "
                 "template is not used");
    return S("no chats: the model does not generate");
}

/* What can be asked of it, and the sizes of vectors. */
static void write_capabilities(json_writer *w, const model_desc *d) {
    json_kv_array(w, "capabilities");
    if (d->generates) json_str(w, S("completion"));
    if (d->embed_tokens_max > 0) json_str(w, S("embedding"));
    if (d->rank_labels > 0) json_str(w, S("rerank"));
    json_end_array(w);
    json_kv_uint(w, "embedding_dimensions", d->embed_dims);
    json_kv_uint(w, "embedding_tokens_max", d->embed_tokens_max);
}

static void write_meta(json_writer *w, const model_desc *d) {
    json_kv_object(w, "meta");
    json_kv_str(w, "name", str_of(d->name));
    json_kv_str(w, "arch", str_of(d->arch));
    json_kv_str(w, "types", str_of(d->types));
    json_kv_uint(w, "params", d->params);
    json_kv_uint(w, "file_bytes", d->file_bytes);
    json_kv_uint(w, "kv_bytes", d->kv_bytes);
    json_kv_str(w, "kv_type", str_of(d->kv_type));
    json_kv_uint(w, "vocab", d->vocab);
    json_kv_uint(w, "n_embd", d->n_embd);
    json_kv_uint(w, "layers", d->layers);
    json_kv_uint(w, "ctx_train", d->ctx_train);
    json_kv_uint(w, "ctx", d->ctx_max);
    json_kv_uint(w, "parallel", d->parallel);
    json_kv_uint(w, "threads", d->threads);
    json_kv_str(w, "backend", str_of(d->backend));
    json_kv_str(w, "numerics", str_of(d->numerics));
    write_capabilities(w, d);
    json_kv_str(w, "chat_template", str_of(d->chat));
    json_kv_str(w, "chat_template_note", chat_note(d));
    json_kv_str(w, "chat_template_check", str_of(d->chat_check));
    front_write_list(w, "chat_template_caps", str_of(d->chat_caps));
    json_end_object(w);
}

/* What the file says it is. */
static void write_about(json_writer *w, const model_desc *d) {
    if (d->description[0] != '\0') json_kv_str(w, "description", str_of(d->description));
    if (d->license[0] != '\0') json_kv_str(w, "license", str_of(d->license));
}

static void write_model(json_writer *w, const model_entry *m) {
    json_begin_object(w);
    json_kv_str(w, "id", str_of(m->name));
    json_kv_str(w, "object", S("model"));
    json_kv_uint(w, "created", m->created_s);
    json_kv_str(w, "owned_by", S("gantry"));
    if (m->described) write_about(w, &m->desc);
    if (m->described)
        write_meta(w, &m->desc);
    else
        json_kv_null(w, "meta");
    json_kv_object(w, "status");
    json_kv_str(w, "value", m->described ? S("loaded") : S("loading"));
    if (!m->described) {
        json_kv_f64(w, "progress", m->loading.permille / 1e3);
        json_kv_str(w, "phase", str_of(load_phase_name(m->loading.phase)));
    }
    json_end_object(w);
    json_end_object(w);
}

/* An adapter answers to a name of its own, and is the model it changes in everything else. */
static void write_adapter(json_writer *w, const adapter_entry *a) {
    json_begin_object(w);
    json_kv_str(w, "id", str_of(a->name));
    json_kv_str(w, "object", S("model"));
    json_kv_uint(w, "created", a->created_s);
    json_kv_str(w, "owned_by", S("gantry"));
    json_kv_str(w, "root", adapter_file_name(a));
    json_kv_str(w, "parent", str_of(a->model->name));
    json_kv_object(w, "status");
    json_kv_str(w, "value", a->model->described ? S("loaded") : S("loading"));
    json_end_object(w);
    json_end_object(w);
}

void models_list(front *f, http_call *c, str tail) {
    (void)tail;
    buf *out = front_scratch(f);
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "object", S("list"));
    json_kv_array(&w, "data");
    for (uint32_t i = 0; i < f->registry.count; i++) write_model(&w, f->registry.models[i]);
    for (uint32_t i = 0; i < f->adapters.count; i++)
        if (f->adapters.items[i]->stage == ADAPTER_LOADED) write_adapter(&w, f->adapters.items[i]);
    json_end_array(&w);
    json_end_object(&w);
    front_reply(f, c, 200, "application/json", out);
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The tail with %XX decoded; n == 0 when it is longer than any name or badly encoded. */
static str decode_name(str tail, char out[MODEL_NAME_BYTES_MAX]) {
    size_t n = 0;
    for (size_t i = 0; i < tail.n; i++) {
        if (n == MODEL_NAME_BYTES_MAX) return (str){out, 0};
        if (tail.p[i] != '%') {
            out[n++] = tail.p[i];
            continue;
        }
        int hi = tail.n - i > 2 ? hex_value(tail.p[i + 1]) : -1;
        int lo = tail.n - i > 2 ? hex_value(tail.p[i + 2]) : -1;
        if (hi < 0 || lo < 0) return (str){out, 0};
        out[n++] = (char)(hi * 16 + lo);
        i += 2;
    }
    return (str){out, n};
}

void models_one(front *f, http_call *c, str tail) {
    char room[MODEL_NAME_BYTES_MAX];
    str name = decode_name(tail, room);
    const model_entry *m = name.n > 0 ? registry_find(&f->registry, name) : NULL;
    const adapter_entry *a = adapters_find_loaded(&f->adapters, name);
    if (m == NULL && a == NULL) {
        api_fault fault;
        registry_no_model(&f->registry, tail, &fault);
        front_refuse(f, c, &fault);
        return;
    }
    buf *out = front_scratch(f);
    json_writer w;
    json_writer_init(&w, out);
    if (m != NULL)
        write_model(&w, m);
    else
        write_adapter(&w, a);
    front_reply(f, c, 200, "application/json", out);
}
