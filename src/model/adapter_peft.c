/* adapter_peft.c - an adapter in a PEFT directory: adapter_config.json, adapter_model.safetensors.
 *
 * Tensors are named after the modules of the Hugging Face model:
 *   base_model.model.MODULE.lora_A.weight [rank, inputs], ....lora_B.weight [outputs, rank]
 * MODULE becomes the name of the tensor in GGUF by the same tables that read whole models. */
#include <math.h>
#include <stdio.h>

#include "model/adapter_internal.h"
#include "model/adapter_rows.h"
#include "model/hf_internal.h"

typedef struct peft {
    adapter *a;            /* borrowed */
    const hf_class *class; /* of the model */
    json_fields config;
    float alpha;
    bool sqrt_rank;   /* rsLoRA (Kalajdzievski 2023) */
    json_node alphas; /* "alpha_pattern" or nothing */
} peft;

/* --- adapter_config.json -------------------- */

static status refuse_set(peft *p, const char *key, error *err) {
    json_node n = json_field(&p->config, key);
    bool off = !json_node_is_set(&n) || json_is_false(n.value) ||
               (json_is_array(n.value) && json_node_count(&n) == 0) ||
               (json_is_string(n.value) && strcmp(json_string_value(n.value), "none") == 0);
    if (off) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "adapter_config.json: '%s' is set, which is not supported", key);
}

static status read_config(peft *p, error *err) {
    static const char *const refused[] = {"use_dora",  "modules_to_save", "bias",
                                          "lora_bias", "megatron_config", "layer_replication",
                                          "use_qalora"};
    str type = S("LORA");
    TRY(json_get_str(&p->config, "peft_type", 64, &type, err));
    if (!str_eq(type, S("LORA")))
        return error_set(err, ERR_UNSUPPORTED,
                         "adapter_config.json: peft_type is '%.*s', only LORA", STR(type));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        TRY(refuse_set(p, refused[i], err));
    p->alpha = 8; /* PEFT's default */
    TRY(json_get_f32(&p->config, "lora_alpha", -1e6f, 1e6f, &p->alpha, err));
    TRY(json_get_bool(&p->config, "use_rslora", &p->sqrt_rank, err));
    return json_get_object(&p->config, "alpha_pattern", &p->alphas, err);
}

/* The module's own alpha, by its whole name or its last parts. */
typedef struct alpha_search {
    str module;
    float alpha;
    bool found;
} alpha_search;

static void look_at_alpha(void *ctx, const json_node *member) {
    alpha_search *s = ctx;
    if (s->found || !json_is_number(member->value) || !str_ends(s->module, member->key)) return;
    size_t before = s->module.n - member->key.n;
    if (before > 0 && s->module.p[before - 1] != '.') return;
    s->alpha = (float)json_number_value(member->value);
    s->found = true;
}

static float scale_of(const peft *p, str module, uint32_t rank) {
    alpha_search s = {.module = module, .alpha = p->alpha};
    if (p->alphas.value != NULL) json_node_each(&p->alphas, look_at_alpha, &s);
    return s.alpha / (p->sqrt_rank ? sqrtf((float)rank) : (float)rank);
}

/* --- tensors -------------------- */

/* "base_model.model.MODULE.lora_A.weight", where "default" may stand before "weight". */
static bool split_name(str name, str *module, adapter_half *half) {
    static const struct {
        str text;
        adapter_half half;
    } ends[] = {{{".lora_A.weight", 14}, ADAPTER_A},
                {{".lora_B.weight", 14}, ADAPTER_B},
                {{".lora_A.default.weight", 22}, ADAPTER_A},
                {{".lora_B.default.weight", 22}, ADAPTER_B}};
    if (str_starts(name, S("base_model.model."))) name = str_skip(name, S("base_model.model.").n);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (!str_ends(name, ends[i].text)) continue;
        *module = (str){name.p, name.n - ends[i].text.n};
        *half = ends[i].half;
        return true;
    }
    return false;
}

static status take_matrix(const safetensor *t, model_tensor *out, error *err) {
    static const struct {
        safetensors_type from;
        dtype to;
    } types[] = {
        {SAFETENSORS_F32, DTYPE_F32}, {SAFETENSORS_F16, DTYPE_F16}, {SAFETENSORS_BF16, DTYPE_BF16}};
    if (t->dims_count != 2 || t->dims[0] > MODEL_VOCAB_MAX || t->dims[1] > MODEL_FF_MAX)
        return error_set(err, ERR_FORMAT, "lora: '%.*s' has %u dimensions, or is too large",
                         STR(t->name), t->dims_count);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].from != t->type) continue;
        *out = (model_tensor){.name = t->name,
                              .type = types[i].to,
                              .rows = (uint32_t)t->dims[0],
                              .cols = (uint32_t)t->dims[1],
                              .data = t->data,
                              .bytes = t->bytes};
        return OK;
    }
    return error_set(err, ERR_UNSUPPORTED, "lora: '%.*s' is %s; F32, F16 and BF16 can be used",
                     STR(t->name), safetensors_type_name(t->type));
}

/* What the module is called in GGUF. */
static status find_name(const peft *p, str module, hf_match *match, char *out, size_t out_bytes,
                        error *err) {
    enum {
        NOT_ROWS = HF_TRANSPOSED | HF_QKV_BY_HEAD | HF_STACKED | HF_GATE_UP | HF_PER_HEAD |
                   HF_MXFP4 | HF_SKIPPED
    };
    char text[HF_NAME_BYTES_MAX], stem[HF_NAME_BYTES_MAX];
    if (module.n + sizeof ".weight" > sizeof text)
        return error_set(err, ERR_LIMIT, "lora: a module name of %zu bytes, at most %zu", module.n,
                         sizeof text - sizeof ".weight");
    (void)snprintf(text, sizeof text, "%.*s.weight", STR(module));
    hf_name_match(p->class, str_of(text), match);
    if (match->row == NULL)
        return error_set(err, ERR_FORMAT, "lora: module '%.*s' is not known in %s", STR(module),
                         p->class->name);
    bool plain = (match->row->bits & NOT_ROWS) == 0 && strchr(match->row->hf, '@') == NULL;
    if (!plain || !hf_name_expand(match->row->gguf, match->layer, 0, stem, sizeof stem))
        return error_set(err, ERR_UNSUPPORTED, "lora: module '%.*s' of %s cannot be adapted",
                         STR(module), p->class->name);
    (void)snprintf(out, out_bytes, "%s.weight", stem);
    return OK;
}

/* SafeTensors need not be aligned for their type; products want them so. */
static status align(const peft *p, model_tensor *t, error *err) {
    enum { ALIGN = 4 };
    if ((uintptr_t)t->data % ALIGN == 0) return OK;
    void *copy = arena_take(&p->a->arena, (size_t)t->bytes);
    if (copy == NULL) return error_set(err, ERR_NOMEM, "lora: no memory for '%.*s'", STR(t->name));
    memcpy(copy, t->data, (size_t)t->bytes);
    t->data = copy;
    return OK;
}

static status order_rows(const peft *p, const hf_match *match, str tensor, model_tensor *b,
                         error *err) {
    uint32_t bits = match->row->bits;
    const model_hparams *h = &p->a->m->hparams;
    if ((p->class->bits & HF_HALVES) == 0) return OK;
    if ((bits & HF_QUERY_ROWS) != 0)
        return adapter_rows_from_halves(p->a, tensor, h->heads, b, err);
    if ((bits & HF_KEY_ROWS) != 0)
        return adapter_rows_from_halves(p->a, tensor, h->kv_heads, b, err);
    return OK;
}

static status take_tensor(peft *p, const safetensor *t, error *err) {
    str module = S("");
    adapter_half half = ADAPTER_A;
    hf_match match;
    model_tensor m;
    char name[HF_NAME_BYTES_MAX + sizeof ".weight"];
    if (!split_name(t->name, &module, &half))
        return error_set(err, ERR_UNSUPPORTED, "lora: tensor '%.*s' is no part of a plain LoRA",
                         STR(t->name));
    TRY(find_name(p, module, &match, name, sizeof name, err));
    TRY(take_matrix(t, &m, err));
    TRY(align(p, &m, err));
    if (half == ADAPTER_B) TRY(order_rows(p, &match, str_of(name), &m, err));
    TRY(adapter_add(p->a, str_of(name), half, &m, err));
    uint32_t at = 0;
    bool known = map_get(&p->a->index, str_of(name), &at);
    if (known && half == ADAPTER_A && m.rows > 0)
        p->a->pairs[at].scale = scale_of(p, module, m.rows);
    return OK;
}

/* --- both files -------------------- */

static status read_tensors(peft *p, error *err) {
    const safetensors *t = p->a->tensors;
    for (uint32_t i = 0; i < safetensors_count(t); i++)
        TRY(take_tensor(p, safetensors_get(t, i), err));
    return OK;
}

status adapter_read_peft(adapter *a, str config, error *err) {
    peft p = {.a = a, .class = hf_class_of_arch(str_of(a->m->hparams.arch))};
    json_doc doc;
    if (p.class == NULL)
        return error_set(err, ERR_UNSUPPORTED,
                         "lora: names of PEFT modules are not known for architecture '%s'",
                         a->m->hparams.arch);
    if (config.n > HF_CONFIG_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "adapter_config.json: has %zu bytes, at most %d", config.n,
                         HF_CONFIG_BYTES_MAX);
    TRY(json_parse(config, &doc, err));
    json_node root = json_root(&doc);
    status st = json_fields_open(&p.config, &root, err);
    if (st == OK) st = read_config(&p, err);
    if (st == OK) st = read_tensors(&p, err);
    json_doc_deinit(&doc);
    return st;
}
