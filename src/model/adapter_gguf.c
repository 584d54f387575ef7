/* adapter_gguf.c - an adapter in a GGUF file: NAME.lora_a [rank, cols], .lora_b [rows, rank]. */
#include <inttypes.h>

#include "model/adapter_internal.h"
#include "model/adapter_rows.h"

static status get_text(const gguf *g, str key, str *out, error *err) {
    return gguf_kv_find(g, key) != NULL ? gguf_get_str(g, key, out, err) : OK;
}

static status check_kind(const adapter *a, error *err) {
    str type = S("model"), kind = S(""), arch = S(""); /* of files that do not say */
    TRY(get_text(a->gguf, S("general.type"), &type, err));
    TRY(get_text(a->gguf, S("adapter.type"), &kind, err));
    TRY(get_text(a->gguf, S("general.architecture"), &arch, err));
    if (!str_eq(type, S("adapter")) || !str_eq(kind, S("lora")))
        return error_set(err, ERR_FORMAT, "lora: the file holds a %.*s of type '%.*s', no LoRA",
                         STR(type), STR(kind));
    if (!str_eq_c(arch, a->m->hparams.arch))
        return error_set(err, ERR_FORMAT, "lora: the adapter is for '%.*s', the model is '%s'",
                         STR(arch), a->m->hparams.arch);
    return OK;
}

static status take_matrix(const gguf_tensor *t, model_tensor *out, error *err) {
    if (t->dims[2] != 1 || t->dims[3] != 1)
        return error_set(err, ERR_UNSUPPORTED,
                         "lora: '%.*s' has %u dimensions; matrices of experts cannot be adapted",
                         STR(t->name), t->dims_count);
    if (t->dims[0] > MODEL_FF_MAX || t->dims[1] > MODEL_VOCAB_MAX)
        return error_set(err, ERR_LIMIT,
                         "lora: '%.*s' is %" PRIu64 " x %" PRIu64 ", at most %d x %d", STR(t->name),
                         t->dims[1], t->dims[0], MODEL_VOCAB_MAX, MODEL_FF_MAX);
    *out = (model_tensor){.name = t->name,
                          .type = t->type,
                          .rows = (uint32_t)t->dims[1],
                          .cols = (uint32_t)t->dims[0],
                          .data = t->data,
                          .bytes = t->bytes};
    return OK;
}

static status take_tensor(adapter *a, const gguf_tensor *t, error *err) {
    bool is_a = str_ends(t->name, S(".lora_a")), is_b = str_ends(t->name, S(".lora_b"));
    model_tensor m;
    if (!is_a && !is_b)
        return error_set(err, ERR_UNSUPPORTED,
                         "lora: tensor '%.*s' is neither NAME.lora_a nor NAME.lora_b",
                         STR(t->name));
    str tensor = {t->name.p, t->name.n - S(".lora_a").n};
    TRY(take_matrix(t, &m, err));
    if (is_b) TRY(adapter_rows_from_gguf(a, tensor, &m, err));
    return adapter_add(a, tensor, is_a ? ADAPTER_A : ADAPTER_B, &m, err);
}

status adapter_read_gguf(adapter *a, float *alpha, error *err) {
    TRY(gguf_open(&a->gguf, a->file, err));
    TRY(check_kind(a, err));
    TRY(gguf_get_f32(a->gguf, S("adapter.lora.alpha"), alpha, err));
    for (uint32_t i = 0; i < gguf_tensor_count(a->gguf); i++)
        TRY(take_tensor(a, gguf_tensor_get(a->gguf, i), err));
    return OK;
}
