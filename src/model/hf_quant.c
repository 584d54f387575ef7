/* hf_quant.c - quantization_config: which tensors of a module together are its weight.
 *
 * The tensors stay as they are; tensor/packed.h names them in place.  Only weights are used in
 * their quantized form: scales for activations ("input_scale") are left aside, so results are
 * at least as exact as those of an engine that quantizes activations, too.
 * Sources: the checkpoint formats of AutoGPTQ and AutoAWQ; the compressed-tensors format pages; the
 * fine-grained FP8 page of transformers. */
#include <inttypes.h>

#include "model/hf_internal.h"

/* --- names of pieces ------------------------------------------------------------------ */
bool hf_piece_find(str suffix, hf_piece *out) {
    static const struct {
        const char *name;
        hf_piece piece;
    } names[] = {
        {"weight", HF_PIECE_WEIGHT},
        {"", HF_PIECE_WEIGHT}, /* the pattern was the whole name */
        {"bias", HF_PIECE_BIAS},
        {"qweight", HF_PIECE_DATA},
        {"weight_packed", HF_PIECE_DATA},
        {"blocks", HF_PIECE_DATA},
        {"scales", HF_PIECE_SCALES},
        {"weight_scale", HF_PIECE_SCALES},
        {"weight_scale_inv", HF_PIECE_SCALES_INV},
        {"qzeros", HF_PIECE_ZEROS},
        {"weight_zero_point", HF_PIECE_ZEROS},
        {"g_idx", HF_PIECE_GROUPS},
        {"weight_g_idx", HF_PIECE_GROUPS},
        {"weight_shape", HF_PIECE_SHAPE},
        {"input_scale", HF_PIECE_UNUSED},
        {"activation_scale", HF_PIECE_UNUSED},
        {"input_scale_ub", HF_PIECE_UNUSED},
        {"output_scale", HF_PIECE_UNUSED},
        {"input_zero_point", HF_PIECE_UNUSED},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!str_eq_c(suffix, names[i].name)) continue;
        *out = names[i].piece;
        return true;
    }
    return false;
}

/* --- quantization_config --------------------------------------------------------------- */
typedef struct part {
    json_node node;
    json_fields f;
} part;

static status open_part(part *p, json_node n, error *err) {
    p->node = n;
    return hf_blame(json_fields_open(&p->f, &p->node, err), err);
}

static status read_u32(part *p, const char *key, uint32_t *inout, error *err) {
    return hf_blame(json_get_u32(&p->f, key, 0, 1u << 20, inout, err), err);
}

static status read_str(part *p, const char *key, str *inout, error *err) {
    return hf_blame(json_get_str(&p->f, key, 128, inout, err), err);
}

static status refuse(const char *what, str value, const char *known, error *err) {
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, value);
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: quantization_config: %s '%s' is not known; known: %s", what,
                     text, known);
}

static status only_bits(uint32_t bits, uint32_t want, const char *method, error *err) {
    if (bits == want) return OK;
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: quantization_config: %s with %u bits, only %u can be read",
                     method, bits, want);
}

/* -1 is a scale for each whole row. */
static status read_group(part *p, const char *key, uint32_t *out, error *err) {
    int32_t group = 128;
    TRY(hf_blame(json_get_i32(&p->f, key, -1, 1 << 20, &group, err), err));
    *out = group > 0 ? (uint32_t)group : 0;
    return OK;
}

static status read_gptq(hf_quant *q, part *p, error *err) {
    str format = S("gptq");
    q->method = HF_METHOD_GPTQ;
    q->bits = 4;
    TRY(read_u32(p, "bits", &q->bits, err));
    TRY(only_bits(q->bits, 4, "gptq", err));
    TRY(read_group(p, "group_size", &q->group, err));
    TRY(read_str(p, "checkpoint_format", &format, err));
    if (!str_eq_c(format, "gptq") && !str_eq_c(format, "gptq_v2"))
        return refuse("checkpoint_format", format, "gptq, gptq_v2", err);
    q->zero_added = str_eq_c(format, "gptq") ? 1 : 0;
    return OK;
}

static status read_awq(hf_quant *q, part *p, error *err) {
    str version = S("gemm");
    q->method = HF_METHOD_AWQ;
    q->bits = 4;
    TRY(read_u32(p, "w_bit", &q->bits, err));
    TRY(read_u32(p, "bits", &q->bits, err));
    TRY(only_bits(q->bits, 4, "awq", err));
    TRY(read_group(p, "q_group_size", &q->group, err));
    json_node group = json_field(&p->f, "group_size");
    if (json_node_is_set(&group)) TRY(read_group(p, "group_size", &q->group, err));
    TRY(read_str(p, "version", &version, err));
    if (!str_eq_nocase(version, S("gemm"))) return refuse("version", version, "gemm", err);
    return OK;
}

/* [rows, columns] of a block with one scale; absent: no blocks. */
static status read_block(hf_quant *q, part *p, const char *key, error *err) {
    json_node block = json_field(&p->f, key);
    if (!json_node_is_set(&block)) return OK;
    if (json_node_count(&block) != 2)
        return error_set(err, ERR_FORMAT,
                         "config.json: quantization_config: %s has %zu numbers, not 2", key,
                         json_node_count(&block));
    json_node rows = json_node_element(&block, 0), cols = json_node_element(&block, 1);
    TRY(hf_blame(json_node_u32(&rows, 1, 1u << 20, &q->block_rows, err), err));
    return hf_blame(json_node_u32(&cols, 1, 1u << 20, &q->block_cols, err), err);
}

static status read_fp8(hf_quant *q, part *p, error *err) {
    str format = S("e4m3");
    q->method = HF_METHOD_FP8;
    q->bits = 8;
    TRY(read_str(p, "fmt", &format, err));
    if (!str_eq_c(format, "e4m3")) return refuse("fmt", format, "e4m3", err);
    return read_block(q, p, "weight_block_size", err);
}

/* "config_groups": {"group_0": {"weights": {...}, "targets": [...]}} */
typedef struct groups_read {
    hf_quant *q;
    uint32_t count;
    status st;
    error *err;
} groups_read;

static status read_weights(hf_quant *q, part *w, error *err) {
    str strategy = S(""), type = S("int");
    q->symmetric = true;
    TRY(read_u32(w, "num_bits", &q->bits, err));
    TRY(read_str(w, "strategy", &strategy, err));
    TRY(read_str(w, "type", &type, err));
    TRY(hf_blame(json_get_bool(&w->f, "symmetric", &q->symmetric, err), err));
    json_node group = json_field(&w->f, "group_size");
    if (json_node_is_set(&group)) TRY(read_group(w, "group_size", &q->group, err));
    if (str_eq_c(strategy, "block")) TRY(read_block(q, w, "block_structure", err));
    if (str_eq_c(strategy, "tensor_group"))
        return refuse("strategy", strategy, "tensor, channel, group, block", err);
    if (q->bits == 4 && str_eq_c(type, "int") && q->block_rows == 0) return OK;
    if (q->bits == 8 && q->group == 0 && q->symmetric) return OK;
    char text[MODEL_TEXT_BYTES];
    model_copy_text(text, sizeof text, type);
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: quantization_config: weights of type '%s' with %u bits and "
                     "groups of %u are not known; known: int with 4 bits, symmetric int and float "
                     "with 8 bits and a scale for each row or tensor",
                     text, q->bits, q->group);
}

static void read_config_group(void *arg, const json_node *member) {
    groups_read *g = arg;
    part p, w;
    json_node weights;
    if (g->st != OK) return;
    if (++g->count > 1) {
        g->st = error_set(g->err, ERR_UNSUPPORTED,
                          "config.json: quantization_config has several config_groups; only models "
                          "with one can be read");
        return;
    }
    g->st = open_part(&p, *member, g->err);
    if (g->st == OK) g->st = hf_blame(json_field_need(&p.f, "weights", &weights, g->err), g->err);
    if (g->st == OK) g->st = open_part(&w, weights, g->err);
    if (g->st == OK) g->st = read_weights(g->q, &w, g->err);
}

static status read_compressed(hf_quant *q, part *p, error *err) {
    str format = S("");
    json_node groups;
    q->method = HF_METHOD_COMPRESSED;
    TRY(read_str(p, "format", &format, err));
    if (!str_eq_c(format, "pack-quantized") && !str_eq_c(format, "int-quantized") &&
        !str_eq_c(format, "float-quantized") && !str_eq_c(format, "naive-quantized"))
        return refuse("format", format,
                      "pack-quantized, int-quantized, float-quantized, naive-quantized", err);
    TRY(hf_blame(json_field_need(&p->f, "config_groups", &groups, err), err));
    groups_read g = {.q = q, .err = err, .st = OK};
    if (strcmp(json_node_type(&groups), "object") != 0)
        return hf_blame(json_node_wrong_type(&groups, "object", err), err);
    json_node_each(&groups, read_config_group, &g);
    if (g.st == OK && g.count == 0)
        return error_set(err, ERR_FORMAT,
                         "config.json: quantization_config.config_groups is empty");
    return g.st;
}

status hf_quant_read(hf_job *j, error *err) {
    part p;
    str method = S("");
    json_node n = hf_node(j, "quantization_config|compression_config");
    if (!json_node_is_set(&n)) return OK;
    TRY(open_part(&p, n, err));
    TRY(read_str(&p, "quant_method", &method, err));
    if (str_eq_c(method, "gptq")) return read_gptq(&j->quant, &p, err);
    if (str_eq_c(method, "awq")) return read_awq(&j->quant, &p, err);
    if (str_eq_c(method, "fp8") || str_eq_c(method, "fbgemm_fp8"))
        return read_fp8(&j->quant, &p, err);
    if (str_eq_c(method, "compressed-tensors") || str_eq_c(method, "sparseml"))
        return read_compressed(&j->quant, &p, err);
    if (str_eq_c(method, "mxfp4") && strcmp(j->class->arch, "gpt-oss") == 0) return OK;
    return refuse("quant_method", method, "gptq, awq, fp8, fbgemm_fp8, compressed-tensors", err);
}

/* --- one module ------------------------------------------------------------------------- */
static bool is_quanta(safetensors_type t) {
    return t == SAFETENSORS_I8 || t == SAFETENSORS_F8_E4M3 || t == SAFETENSORS_F8_E5M2;
}

bool hf_quant_is_packed(const hf_module *mod) {
    const safetensor *w = mod->pieces[HF_PIECE_WEIGHT];
    return mod->pieces[HF_PIECE_DATA] != NULL || (w != NULL && is_quanta(w->type));
}

static status need(const hf_module *mod, hf_piece piece, const char *what, safetensors_type type,
                   uint32_t dims, const safetensor **out, error *err) {
    const safetensor *t = mod->pieces[piece];
    if (t == NULL)
        return error_set(err, ERR_FORMAT, "module '%.*s' has quantized weights, but no %s",
                         STR(mod->match.module), what);
    if (t->type != type || t->dims_count != dims)
        return error_set(err, ERR_FORMAT,
                         "tensor '%.*s' is %s with %u dimensions, must be %s with %u", STR(t->name),
                         safetensors_type_name(t->type), t->dims_count, safetensors_type_name(type),
                         dims);
    *out = t;
    return OK;
}

/* Dimensions beyond these bounds would not fit the 32 bits of a packed_matrix. */
static status small_dims(const safetensor *t, error *err) {
    for (uint32_t i = 0; i < t->dims_count; i++)
        if (t->dims[i] == 0 || t->dims[i] > 1u << 27)
            return error_set(err, ERR_LIMIT,
                             "tensor '%.*s': dimension %u is %" PRIu64 ", must be 1 to %u",
                             STR(t->name), i, t->dims[i], 1u << 27);
    return OK;
}

static status set_scales(packed_matrix *p, packed_sizes *have, const hf_module *mod, error *err) {
    const safetensor *t = mod->pieces[HF_PIECE_SCALES];
    if (t == NULL) t = mod->pieces[HF_PIECE_SCALES_INV];
    if (t == NULL)
        return error_set(err, ERR_FORMAT, "module '%.*s' has quantized weights, but no scales",
                         STR(mod->match.module));
    if (t->type != SAFETENSORS_F32 && t->type != SAFETENSORS_F16 && t->type != SAFETENSORS_BF16)
        return error_set(err, ERR_UNSUPPORTED,
                         "tensor '%.*s' is %s, scales must be F32, F16 or BF16", STR(t->name),
                         safetensors_type_name(t->type));
    p->scale_type = t->type == SAFETENSORS_F32   ? DTYPE_F32
                    : t->type == SAFETENSORS_F16 ? DTYPE_F16
                                                 : DTYPE_BF16;
    p->scales = t->data;
    have->scales = t->bytes;
    return OK;
}

static status set_zeros(packed_matrix *p, packed_sizes *have, const hf_module *mod, bool required,
                        error *err) {
    const safetensor *t = NULL;
    if (!required && mod->pieces[HF_PIECE_ZEROS] == NULL) return OK;
    TRY(need(mod, HF_PIECE_ZEROS, "zero points", SAFETENSORS_I32, 2, &t, err));
    p->zeros = t->data;
    have->zeros = t->bytes;
    return OK;
}

static status set_groups(packed_matrix *p, packed_sizes *have, const hf_module *mod, error *err) {
    const safetensor *t = NULL;
    if (mod->pieces[HF_PIECE_GROUPS] == NULL) return OK;
    TRY(need(mod, HF_PIECE_GROUPS, "groups", SAFETENSORS_I32, 1, &t, err));
    p->g_idx = t->data;
    have->g_idx = t->bytes;
    return OK;
}

/* Files of four bits have eight quanta in an i32. */
static status set_words(packed_matrix *p, packed_sizes *have, const hf_module *mod,
                        const hf_quant *q, error *err) {
    const safetensor *t = NULL;
    TRY(need(mod, HF_PIECE_DATA, "weights", SAFETENSORS_I32, 2, &t, err));
    TRY(small_dims(t, err));
    uint32_t outer = (uint32_t)t->dims[0], inner = (uint32_t)t->dims[1];
    p->kind = q->method == HF_METHOD_GPTQ  ? PACKED_GPTQ
              : q->method == HF_METHOD_AWQ ? PACKED_AWQ
                                           : PACKED_INT4;
    p->rows = p->kind == PACKED_GPTQ ? inner : p->kind == PACKED_AWQ ? inner * 8 : outer;
    p->cols = p->kind == PACKED_GPTQ ? outer * 8 : p->kind == PACKED_AWQ ? outer : inner * 8;
    p->data = t->data;
    have->data = t->bytes;
    p->group = q->group != 0 ? q->group : p->cols;
    p->row_group = 1;
    p->zero_offset = q->zero_added;
    return OK;
}

static int64_t load_i64(const void *data, uint32_t i) {
    int64_t v;
    memcpy(&v, (const char *)data + i * sizeof v, sizeof v);
    return v;
}

/* compressed-tensors says the shape before packing. */
static status check_said_shape(const packed_matrix *p, const hf_module *mod, error *err) {
    const safetensor *t = mod->pieces[HF_PIECE_SHAPE];
    if (t == NULL || t->type != SAFETENSORS_I64 || t->elems != 2) return OK;
    int64_t rows = load_i64(t->data, 0), cols = load_i64(t->data, 1);
    if (rows == p->rows && cols == p->cols) return OK;
    return error_set(err, ERR_FORMAT,
                     "tensor '%.*s' says [%" PRId64 ", %" PRId64 "], the weights are [%u, %u]",
                     STR(t->name), rows, cols, p->rows, p->cols);
}

static status read_words(hf_job *j, const hf_module *mod, packed_matrix *p, packed_sizes *have,
                         error *err) {
    if (j->quant.method == HF_METHOD_NONE || j->quant.bits != 4)
        return error_set(err, ERR_FORMAT,
                         "module '%.*s' is packed in 4 bits, which config.json does not say",
                         STR(mod->match.module));
    bool zeros = j->quant.method != HF_METHOD_COMPRESSED || !j->quant.symmetric;
    TRY(set_words(p, have, mod, &j->quant, err));
    TRY(set_scales(p, have, mod, err));
    TRY(set_zeros(p, have, mod, zeros, err));
    TRY(set_groups(p, have, mod, err));
    return check_said_shape(p, mod, err);
}

/* Symmetric weights of some versions come with zero points of 0. */
static status check_no_zeros(const hf_module *mod, error *err) {
    const safetensor *t = mod->pieces[HF_PIECE_ZEROS];
    const char *bytes = t != NULL ? t->data : NULL;
    for (uint64_t i = 0; t != NULL && i < t->bytes; i++)
        if (bytes[i] != 0)
            return error_set(err, ERR_UNSUPPORTED, "module '%.*s' has zero points with 8 bits",
                             STR(mod->match.module));
    return OK;
}

/* One scale for a row, for all, or for a block of both: the number of scales says which. */
static status read_bytes(hf_job *j, const hf_module *mod, packed_matrix *p, packed_sizes *have,
                         error *err) {
    const safetensor *t = mod->pieces[HF_PIECE_WEIGHT];
    if (t->type == SAFETENSORS_F8_E5M2)
        return error_set(err, ERR_UNSUPPORTED, "tensor '%.*s' is F8_E5M2, only F8_E4M3 can be read",
                         STR(t->name));
    TRY(need(mod, HF_PIECE_WEIGHT, "weights", t->type, 2, &t, err));
    TRY(small_dims(t, err));
    TRY(check_no_zeros(mod, err));
    p->kind = t->type == SAFETENSORS_I8 ? PACKED_INT8 : PACKED_FP8;
    p->rows = (uint32_t)t->dims[0];
    p->cols = (uint32_t)t->dims[1];
    p->data = t->data;
    have->data = t->bytes;
    TRY(set_scales(p, have, mod, err));
    uint64_t scales = have->scales / (p->scale_type == DTYPE_F32 ? 4 : 2);
    bool inverse = mod->pieces[HF_PIECE_SCALES_INV] != NULL; /* the name in files with blocks */
    bool blocks = j->quant.block_rows != 0 && (inverse || j->quant.method == HF_METHOD_COMPRESSED);
    p->group = blocks ? j->quant.block_cols : p->cols;
    p->row_group = blocks ? j->quant.block_rows : scales == 1 ? p->rows : 1;
    return OK;
}

status hf_quant_matrix(hf_job *j, const hf_module *mod, packed_matrix *out, error *err) {
    packed_matrix p = {.rows = 0};
    packed_sizes have = {0};
    TRY(mod->pieces[HF_PIECE_DATA] != NULL ? read_words(j, mod, &p, &have, err)
                                           : read_bytes(j, mod, &p, &have, err));
    TRY(packed_check(&p, mod->match.module, &have, err));
    *out = p;
    return OK;
}
