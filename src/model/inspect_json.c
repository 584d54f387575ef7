/* inspect_json.c - a model report for programs: one JSON object. */
#include <inttypes.h>
#include <stdio.h>

#include "model/inspect_internal.h"
#include "json/write.h"

static void put_str_or_null(json_writer *w, const char *key, str s) {
    if (s.n == 0)
        json_kv_null(w, key);
    else
        json_kv_str(w, key, s);
}

static void put_types(const inspect_report *r, json_writer *w) {
    json_kv_array(w, "types");
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        if (r->types[id].tensors == 0) continue;
        json_begin_object(w);
        json_kv_str(w, "type", str_of(dtype_name((dtype)id)));
        json_kv_uint(w, "tensors", r->types[id].tensors);
        json_kv_uint(w, "bytes", r->types[id].bytes);
        if (r->options->how != NULL) json_kv_str(w, "computed", str_of(r->options->how((dtype)id)));
        json_end_object(w);
    }
    json_end_array(w);
}

static void put_hparams(const inspect_report *r, json_writer *w) {
    json_kv_object(w, "hparams");
    for (uint32_t i = 0; i < r->hparams_count; i++) {
        const inspect_hparam *h = &r->hparams[i];
        if (h->is_float)
            json_kv_f32(w, h->label, h->number);
        else
            json_kv_uint(w, h->label, h->count);
    }
    json_end_object(w);
}

static void put_tokenizer(const inspect_report *r, json_writer *w) {
    if (r->tokenizer.n == 0) {
        json_kv_null(w, "tokenizer");
        return;
    }
    json_kv_object(w, "tokenizer");
    json_kv_str(w, "model", r->tokenizer);
    put_str_or_null(w, "pre", r->pre);
    json_kv_uint(w, "tokens", r->tokens);
    for (uint32_t i = 0; i < r->ids_count; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%s_id", r->ids[i].label);
        json_kv_uint(w, key, r->ids[i].id);
        (void)snprintf(key, sizeof key, "%s_text", r->ids[i].label);
        json_kv_str(w, key, r->ids[i].text);
    }
    json_kv_array(w, "end_ids");
    for (uint32_t i = 0; i < r->ends_count; i++) json_uint(w, r->ends[i].id);
    json_end_array(w);
    json_kv_bool(w, "add_bos", r->add_bos);
    put_str_or_null(w, "error", r->tok_error.code == OK ? S("") : str_of(r->tok_error.msg));
    json_end_object(w);
}

static void put_about(const inspect_report *r, json_writer *w) {
    json_kv_object(w, "about");
    for (uint32_t i = 0; i < r->about_count; i++)
        json_kv_str(w, r->about[i].label, r->about[i].text);
    json_end_object(w);
}

static void put_memory(const inspect_report *r, json_writer *w) {
    json_kv_object(w, "memory");
    json_kv_uint(w, "weight_bytes", r->weight_bytes);
    json_kv_uint(w, "kv_bytes_per_1k", r->kv_bytes_per_1k);
    json_kv_uint(w, "kv_bytes_full", r->kv_bytes_full);
    json_end_object(w);
}

/* "check" is null when there is no template. */
static void put_chat(const inspect_report *r, json_writer *w) {
    json_kv_object(w, "chat");
    if (r->chat == NULL) {
        json_kv_null(w, "check");
    } else {
        const chat_caps *caps = chat_template_caps(r->chat);
        json_kv_str(w, "check", str_of(chat_template_check(r->chat)));
        json_kv_object(w, "caps");
#define PUT_CAP(field, name) json_kv_bool(w, name, caps->field);
        CHAT_CAPS(PUT_CAP)
#undef PUT_CAP
        json_end_object(w);
    }
    json_kv_uint(w, "tools_template_bytes", r->chat_template_tools.n);
    json_end_object(w);
}

/* --- metadata -------------------------------------------------------------- */
static void put_scalar(const gguf_value *v, json_writer *w) {
    switch (v->type) {
    case GGUF_TYPE_STRING:
        json_str(w, v->as.string);
        break;
    case GGUF_TYPE_BOOL:
        json_bool(w, v->as.boolean);
        break;
    case GGUF_TYPE_F32:
        json_f32(w, (float)v->as.f64);
        break;
    case GGUF_TYPE_F64:
        json_f64(w, v->as.f64);
        break;
    case GGUF_TYPE_I8:
    case GGUF_TYPE_I16:
    case GGUF_TYPE_I32:
    case GGUF_TYPE_I64:
        json_int(w, v->as.i64);
        break;
    case GGUF_TYPE_U8:
    case GGUF_TYPE_U16:
    case GGUF_TYPE_U32:
    case GGUF_TYPE_U64:
        json_uint(w, v->as.u64);
        break;
    case GGUF_TYPE_ARRAY:
        break;
    }
}

/* "[32000 strings]" */
static void put_array_size(const gguf_array *a, json_writer *w) {
    char text[64];
    (void)snprintf(text, sizeof text, "[%" PRIu64 " %s%s]", a->count, gguf_type_name(a->type),
                   a->type == GGUF_TYPE_STRING ? "s" : "");
    json_str(w, str_of(text));
}

static void put_strings(const gguf_array *a, json_writer *w) {
    gguf_strings it = gguf_strings_of(a);
    for (str s; gguf_strings_next(&it, &s);) json_str(w, s);
}

static void put_numbers(const gguf_array *a, json_writer *w) {
    for (uint64_t i = 0; i < a->count; i++) {
        gguf_value v = gguf_array_get(a, i);
        put_scalar(&v, w);
    }
}

static void put_array(const gguf_array *a, json_writer *w) {
    if (a->count > INSPECT_ARRAY_MAX) {
        put_array_size(a, w);
        return;
    }
    json_begin_array(w);
    if (a->type == GGUF_TYPE_STRING)
        put_strings(a, w);
    else
        put_numbers(a, w);
    json_end_array(w);
}

static void put_metadata(const inspect_report *r, json_writer *w) {
    json_kv_object(w, "metadata");
    for (uint32_t i = 0; i < gguf_kv_count(r->file); i++) {
        const gguf_value *v = gguf_kv_get(r->file, i);
        json_key(w, v->key);
        if (v->type == GGUF_TYPE_ARRAY)
            put_array(&v->as.array, w);
        else
            put_scalar(v, w);
    }
    json_end_object(w);
}

/* --- tensors --------------------------------------------------------------- */
/* "shape" is outermost dimension first. */
static void put_tensors(const inspect_report *r, json_writer *w) {
    json_kv_array(w, "tensors");
    for (uint32_t i = 0; i < gguf_tensor_count(r->file); i++) {
        const gguf_tensor *t = gguf_tensor_get(r->file, i);
        json_begin_object(w);
        json_kv_str(w, "name", t->name);
        json_kv_str(w, "type", str_of(dtype_name(t->type)));
        json_kv_array(w, "shape");
        for (uint32_t d = t->dims_count; d-- > 0;) json_uint(w, t->dims[d]);
        json_end_array(w);
        json_kv_uint(w, "bytes", t->bytes);
        json_end_object(w);
    }
    json_end_array(w);
}

/* What only a GGUF file has. */
static void put_file(const inspect_report *r, json_writer *w) {
    json_kv_uint(w, "file_bytes", gguf_file_bytes(r->file));
    json_kv_uint(w, "gguf_version", gguf_version(r->file));
    put_str_or_null(w, "architecture", r->arch);
    put_about(r, w);
    json_kv_uint(w, "parameters", r->params);
    json_kv_uint(w, "weight_bytes", r->weight_bytes);
    put_types(r, w);
    put_hparams(r, w);
    put_memory(r, w);
}

void inspect_put_json(const inspect_report *r, buf *out) {
    json_writer w;
    json_writer_init(&w, out);
    json_begin_object(&w);
    json_kv_str(&w, "file", str_of(r->path));
    json_kv_str(&w, "name", str_of(r->model->name));
    if (r->file != NULL) put_file(r, &w);
    put_tokenizer(r, &w);
    put_str_or_null(&w, "chat_template", r->chat_template);
    put_chat(r, &w);
    if (r->file != NULL) {
        put_metadata(r, &w);
        put_tensors(r, &w);
    }
    json_kv_bool(&w, "runnable", r->verdict.code == OK);
    put_str_or_null(&w, "reason", r->verdict.code == OK ? S("") : str_of(r->verdict.msg));
    json_end_object(&w);
    buf_put_char(out, '\n');
}
