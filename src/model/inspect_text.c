/* inspect_text.c - a model report for people.
 *
 * File content reaches a terminal here, so control characters and bytes that are not
 * UTF-8 are written as escapes. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/num.h"
#include "model/inspect_internal.h"
#include "model/model_internal.h"
#include "json/write.h"

enum { TEXT_BYTES_MAX = 160, LABEL_WIDTH = 14 };

/* --- pieces ---------------------------------------------------------------- */
static void put_escaped(buf *out, str s) {
    bool utf8 = str_is_utf8(s);
    while (s.n > 0) {
        uint32_t command = model_command_bytes(s, utf8);
        if (s.p[0] == '\n')
            buf_put_str(out, S("\\n"));
        else if (command == 0)
            buf_put_char(out, s.p[0]);
        else
            for (uint32_t i = 0; i < command; i++)
                buf_printf(out, "\\x%02x", (unsigned char)s.p[i]);
        s = str_skip(s, command > 0 ? command : 1);
    }
}

/* At most TEXT_BYTES_MAX bytes, cut between characters. */
static void put_cut(buf *out, str s) {
    size_t n = num_min_size(s.n, TEXT_BYTES_MAX);
    while (n > 0 && n < s.n && ((unsigned char)s.p[n] & 0xC0) == 0x80) n--;
    put_escaped(out, (str){s.p, n});
    if (n < s.n) buf_printf(out, "... (%zu bytes)", s.n);
}

static void put_bytes(buf *out, uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double n = (double)bytes;
    uint32_t unit = 0;
    for (; n >= 1024 && unit < 6; unit++) n /= 1024;
    if (unit == 0)
        buf_printf(out, "%" PRIu64 " bytes", bytes);
    else
        buf_printf(out, "%.1f %s", n, units[unit]);
}

static void put_label(buf *out, const char *label) { buf_printf(out, "%-*s", LABEL_WIDTH, label); }

static void put_line(buf *out, const char *label, str value) {
    put_label(out, label);
    put_cut(out, value.n != 0 ? value : S("-"));
    buf_put_char(out, '\n');
}

/* --- summary --------------------------------------------------------------- */
static void put_file(const inspect_report *r, buf *out) {
    put_line(out, "file", str_of(r->path));
    put_line(out, "name", str_of(r->model->name));
    if (r->file == NULL) return;
    put_label(out, "size");
    put_bytes(out, gguf_file_bytes(r->file));
    buf_printf(out, " (%" PRIu64 " bytes), ", gguf_file_bytes(r->file));
    if (r->model->internal->weights != NULL)
        buf_put_str(out, S("SafeTensors\n"));
    else
        buf_printf(out, "GGUF version %u\n", gguf_version(r->file));
    put_line(out, "architecture", r->arch);
}

static void put_about(const inspect_report *r, buf *out) {
    for (uint32_t i = 0; i < r->about_count; i++)
        put_line(out, r->about[i].label, r->about[i].text);
}

static void put_memory(const inspect_report *r, buf *out) {
    if (r->kv_bytes_per_1k == 0) return;
    put_label(out, "memory");
    put_bytes(out, r->weight_bytes);
    buf_put_str(out, S(" weights; KV cache in f16 "));
    put_bytes(out, r->kv_bytes_per_1k);
    buf_put_str(out, S(" per 1024 tokens"));
    if (r->kv_bytes_full > 0) {
        buf_put_str(out, S(", "));
        put_bytes(out, r->kv_bytes_full);
        buf_printf(out, " for all %u", r->ctx_train);
    }
    buf_put_char(out, '\n');
}

static void put_types(const inspect_report *r, buf *out) {
    put_label(out, "parameters");
    buf_printf(out, "%" PRIu64 " in %u tensors, ", r->params, gguf_tensor_count(r->file));
    put_bytes(out, r->weight_bytes);
    buf_put_char(out, '\n');
    for (uint32_t id = 0; id < DTYPE_ID_END; id++) {
        if (r->types[id].tensors == 0) continue;
        put_label(out, "");
        buf_printf(out, "%-8s %u tensors, ", dtype_name((dtype)id), r->types[id].tensors);
        put_bytes(out, r->types[id].bytes);
        if (r->options->how != NULL) buf_printf(out, ", %s", r->options->how((dtype)id));
        buf_put_char(out, '\n');
    }
}

static void put_hparams(const inspect_report *r, buf *out) {
    for (uint32_t i = 0; i < r->hparams_count; i++) {
        const inspect_hparam *h = &r->hparams[i];
        put_label(out, i == 0 ? "shape" : "");
        if (h->is_float)
            buf_printf(out, "%-20s %.6g\n", h->label, (double)h->number);
        else
            buf_printf(out, "%-20s %u\n", h->label, h->count);
    }
}

static void put_id(const inspect_id *id, buf *out) {
    put_label(out, "");
    buf_printf(out, "%-4s %u ", id->label, id->id);
    put_cut(out, id->text);
    buf_put_char(out, '\n');
}

static void put_tokenizer(const inspect_report *r, buf *out) {
    put_label(out, "tokenizer");
    if (r->tokenizer.n == 0) {
        buf_put_str(out, S("none\n"));
        return;
    }
    put_cut(out, r->tokenizer);
    if (r->pre.n > 0) {
        buf_put_str(out, S(" ("));
        put_cut(out, r->pre);
        buf_put_char(out, ')');
    }
    buf_printf(out, ", %" PRIu64 " tokens, %s\n", r->tokens,
               r->add_bos ? "adds BOS" : "adds no BOS");
    for (uint32_t i = 0; i < r->ids_count; i++) put_id(&r->ids[i], out);
    for (uint32_t i = 0; i < r->ends_count; i++) put_id(&r->ends[i], out);
    if (r->tok_error.code == OK) return;
    put_label(out, "");
    put_escaped(out, str_of(r->tok_error.msg));
    buf_put_char(out, '\n');
}

/* What a person sees first: does it work, and what can it do? */
static void put_template(const inspect_report *r, buf *out) {
    put_label(out, "chat template");
    if (r->chat_template.n == 0) {
        buf_put_str(out, S("none: chats are written as 'User: ...' lines\n"));
        return;
    }
    buf_printf(out, "%zu bytes", r->chat_template.n);
    if (r->chat_template_tools.n > 0)
        buf_printf(out, ", and %zu bytes for tools", r->chat_template_tools.n);
    if (r->chat != NULL) {
        char caps[CHAT_CAPS_BYTES];
        chat_caps_text(chat_template_caps(r->chat), caps);
        buf_put_str(out, S(", check: "));
        put_escaped(out, str_of(chat_template_check(r->chat)));
        if (caps[0] != '\0') {
            buf_put_char(out, '\n');
            put_label(out, "");
            buf_printf(out, "can: %s", caps);
        }
    }
    buf_put_char(out, '\n');
    const char *end = memchr(r->chat_template.p, '\n', r->chat_template.n);
    size_t first_line = end != NULL ? (size_t)(end - r->chat_template.p) : r->chat_template.n;
    put_label(out, "");
    put_cut(out, (str){r->chat_template.p, first_line});
    buf_put_char(out, '\n');
}

/* --- metadata -------------------------------------------------------------- */
/* The shortest digits that give the value back. */
static void put_number(const gguf_value *v, buf *out) {
    char text[JSON_NUMBER_BYTES];
    if (!isfinite(v->as.f64)) {
        buf_printf(out, "%g", v->as.f64);
        return;
    }
    size_t n = v->type == GGUF_TYPE_F32 ? json_format_f32(text, (float)v->as.f64)
                                        : json_format_f64(text, v->as.f64);
    buf_put(out, text, n);
}

static void put_scalar(const gguf_value *v, buf *out) {
    switch (v->type) {
    case GGUF_TYPE_STRING:
        put_cut(out, v->as.string);
        break;
    case GGUF_TYPE_BOOL:
        buf_put_str(out, v->as.boolean ? S("true") : S("false"));
        break;
    case GGUF_TYPE_F32:
    case GGUF_TYPE_F64:
        put_number(v, out);
        break;
    case GGUF_TYPE_I8:
    case GGUF_TYPE_I16:
    case GGUF_TYPE_I32:
    case GGUF_TYPE_I64:
        buf_printf(out, "%" PRId64, v->as.i64);
        break;
    case GGUF_TYPE_U8:
    case GGUF_TYPE_U16:
    case GGUF_TYPE_U32:
    case GGUF_TYPE_U64:
        buf_printf(out, "%" PRIu64, v->as.u64);
        break;
    case GGUF_TYPE_ARRAY:
        break;
    }
}

static void put_strings(const gguf_array *a, buf *out) {
    gguf_strings it = gguf_strings_of(a);
    for (str s; gguf_strings_next(&it, &s);) {
        put_cut(out, s);
        if (it.left > 0) buf_put_str(out, S(", "));
    }
}

static void put_numbers(const gguf_array *a, buf *out) {
    for (uint64_t i = 0; i < a->count; i++) {
        gguf_value v = gguf_array_get(a, i);
        if (i > 0) buf_put_str(out, S(", "));
        put_scalar(&v, out);
    }
}

static void put_array(const gguf_array *a, buf *out) {
    bool strings = a->type == GGUF_TYPE_STRING;
    buf_put_char(out, '[');
    if (a->count > INSPECT_ARRAY_MAX)
        buf_printf(out, "%" PRIu64 " %s%s", a->count, gguf_type_name(a->type), strings ? "s" : "");
    else if (strings)
        put_strings(a, out);
    else
        put_numbers(a, out);
    buf_put_char(out, ']');
}

static void put_metadata(const inspect_report *r, buf *out) {
    buf_printf(out, "\nmetadata, %u keys\n", gguf_kv_count(r->file));
    for (uint32_t i = 0; i < gguf_kv_count(r->file); i++) {
        const gguf_value *v = gguf_kv_get(r->file, i);
        buf_put_str(out, S("  "));
        put_cut(out, v->key);
        buf_put_str(out, S(" = "));
        if (v->type == GGUF_TYPE_ARRAY)
            put_array(&v->as.array, out);
        else
            put_scalar(v, out);
        buf_put_char(out, '\n');
    }
}

/* --- tensors --------------------------------------------------------------- */
/* Outermost dimension first, as everywhere but in the file. */
static void put_tensor(const gguf_tensor *t, buf *out) {
    char shape[96] = "[";
    for (uint32_t i = t->dims_count; i-- > 0;) {
        size_t n = strlen(shape);
        (void)snprintf(shape + n, sizeof shape - n, "%" PRIu64 "%s", t->dims[i],
                       i > 0 ? ", " : "]");
    }
    buf_printf(out, "  %-28.*s %-7s %-16s ", STR(t->name), dtype_name(t->type), shape);
    put_bytes(out, t->bytes);
    buf_put_char(out, '\n');
}

static void put_verdict(const inspect_report *r, buf *out) {
    if (r->verdict.code == OK) {
        buf_put_str(out, S("can be run by this version\n"));
        return;
    }
    buf_put_str(out, S("cannot be run by this version: "));
    put_escaped(out, str_of(r->verdict.msg));
    buf_put_char(out, '\n');
}

void inspect_put_text(const inspect_report *r, buf *out) {
    put_file(r, out);
    put_about(r, out);
    if (r->file != NULL) put_types(r, out);
    put_hparams(r, out);
    put_memory(r, out);
    put_tokenizer(r, out);
    put_template(r, out);
    if (r->file != NULL) {
        put_metadata(r, out);
        buf_printf(out, "\ntensors, %u\n", gguf_tensor_count(r->file));
        for (uint32_t i = 0; i < gguf_tensor_count(r->file); i++)
            put_tensor(gguf_tensor_get(r->file, i), out);
    }
    buf_put_char(out, '\n');
    put_verdict(r, out);
}
