/* hf_config.c - config.json: numbers by the names that transformers gives them, as GGUF keys.
 *
 * What every class has is read here, what only some have in hf_class.c.  Sources: the configuration
 * classes of transformers for names and defaults; the GGUF specification for keys. */
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "model/hf_internal.h"

/* --- reading ----------------------------------------------------------------------- */
status hf_blame(status st, error *err) {
    if (st == OK || err == NULL) return st;
    return error_set(err, st == ERR_INVALID ? ERR_FORMAT : st, "config.json: %.720s", err->msg);
}

/* The first of the names that is in `f`. */
static json_node find_in(json_fields *f, const char *names) {
    json_node n = {0};
    for (const char *p = names; !json_node_is_set(&n);) {
        size_t len = strcspn(p, "|");
        char key[64];
        str_copy_c(key, sizeof key, (str){p, len});
        n = json_field(f, key);
        n.key = (str){p, len}; /* outlives this call, unlike the copy */
        if (p[len] == '\0') break;
        p += len + 1;
    }
    return n;
}

json_node hf_node(hf_job *j, const char *names) {
    json_node n = find_in(&j->text, names);
    return json_node_is_set(&n) ? n : find_in(&j->top, names);
}

bool hf_has(hf_job *j, const char *names) {
    json_node n = hf_node(j, names);
    return json_node_is_set(&n);
}

status hf_u32(hf_job *j, const char *names, uint32_t max, uint32_t *inout, error *err) {
    json_node n = hf_node(j, names);
    return hf_blame(json_node_u32(&n, 0, max, inout, err), err);
}

status hf_need_u32(hf_job *j, const char *names, uint32_t max, uint32_t *out, error *err) {
    json_node n = hf_node(j, names);
    if (!json_node_is_set(&n))
        return error_set(err, ERR_FORMAT, "config.json: %.*s is required", (int)strcspn(names, "|"),
                         names);
    return hf_blame(json_node_u32(&n, 1, max, out, err), err);
}

status hf_f32(hf_job *j, const char *names, float *inout, error *err) {
    json_node n = hf_node(j, names);
    return hf_blame(json_node_f32(&n, -3e38F, 3e38F, inout, err), err);
}

status hf_bool(hf_job *j, const char *names, bool *inout, error *err) {
    json_node n = hf_node(j, names);
    return hf_blame(json_node_bool(&n, inout, err), err);
}

status hf_str(hf_job *j, const char *names, str *inout, error *err) {
    json_node n = hf_node(j, names);
    return hf_blame(json_node_str(&n, 256, inout, err), err);
}

status hf_only_bool(hf_job *j, const char *names, bool fallback, bool want, error *err) {
    bool value = fallback;
    TRY(hf_bool(j, names, &value, err));
    if (value == want) return OK;
    return error_set(err, ERR_UNSUPPORTED, "config.json: %s is %s, only %s can be computed for %s",
                     names, value ? "true" : "false", want ? "true" : "false", j->class->name);
}

/* --- writing ------------------------------------------------------------------------- */
static const char *key_of(const hf_job *j, const char *suffix, char out[128]) {
    (void)snprintf(out, 128, "%s.%s", j->class->arch, suffix);
    return out;
}

void hf_put_u32(hf_job *j, const char *suffix, uint32_t value) {
    char key[128];
    gguf_make_u32(j->maker, key_of(j, suffix, key), value);
}

void hf_put_f32(hf_job *j, const char *suffix, float value) {
    char key[128];
    gguf_make_f32(j->maker, key_of(j, suffix, key), value);
}

void hf_put_bool(hf_job *j, const char *suffix, bool value) {
    char key[128];
    gguf_make_bool(j->maker, key_of(j, suffix, key), value);
}

void hf_put_str(hf_job *j, const char *suffix, const char *value) {
    char key[128];
    gguf_make_str(j->maker, key_of(j, suffix, key), str_of(value));
}

status hf_copy_u32(hf_job *j, const char *names, const char *suffix, uint32_t max, error *err) {
    uint32_t value = 0;
    if (!hf_has(j, names)) return OK;
    TRY(hf_u32(j, names, max, &value, err));
    hf_put_u32(j, suffix, value);
    return OK;
}

status hf_copy_f32(hf_job *j, const char *names, const char *suffix, error *err) {
    float value = 0;
    if (!hf_has(j, names)) return OK;
    TRY(hf_f32(j, names, &value, err));
    hf_put_f32(j, suffix, value);
    return OK;
}

/* --- the class ----------------------------------------------------------------------- */
static status open_document(hf_job *j, error *err) {
    j->root = json_root(&j->doc);
    TRY(hf_blame(json_fields_open(&j->top, &j->root, err), err));
    j->text_node = j->root;
    return hf_blame(json_fields_open(&j->text, &j->text_node, err), err);
}

static status find_class(hf_job *j, error *err) {
    char text[MODEL_TEXT_BYTES], known[HF_CLASS_NAMES_BYTES];
    json_node list = json_field(&j->top, "architectures");
    str name = {0};
    if (json_node_count(&list) == 0)
        return error_set(err, ERR_FORMAT, "config.json: architectures names no class");
    json_node first = json_node_element(&list, 0);
    TRY(hf_blame(json_node_str(&first, 256, &name, err), err));
    j->class = hf_class_find(name);
    if (j->class != NULL) return OK;
    model_copy_text(text, sizeof text, name);
    hf_class_names(known, sizeof known);
    return error_set(err, ERR_UNSUPPORTED, "config.json: class '%s' is not known; known: %s", text,
                     known);
}

/* Models of several media keep the numbers of the text part in an object of their own. */
static status find_text(hf_job *j, error *err) {
    json_node n = {0};
    if ((j->class->bits & HF_TEXT_PART) == 0) return OK;
    TRY(hf_blame(json_get_object(&j->top, "text_config", &n, err), err));
    if (n.value == NULL) return OK;
    j->text_node = n;
    return hf_blame(json_fields_open(&j->text, &j->text_node, err), err);
}

/* --- what all have --------------------------------------------------------------------- */
static status read_heads(hf_job *j, error *err) {
    const hf_class *c = j->class;
    const char *names = "num_attention_heads|n_head|n_heads";
    if ((c->bits & HF_NO_ATTENTION) != 0) return OK;
    j->heads = c->heads;
    if (c->heads == 0 || hf_has(j, names))
        TRY(hf_need_u32(j, names, MODEL_HEADS_MAX, &j->heads, err));
    j->kv_heads = c->kv_heads != 0 ? c->kv_heads : j->heads;
    TRY(hf_u32(j, "num_key_value_heads|n_head_kv|num_kv_heads|num_query_groups", MODEL_HEADS_MAX,
               &j->kv_heads, err));
    if (j->kv_heads == 0 || j->heads % j->kv_heads != 0)
        return error_set(err, ERR_FORMAT,
                         "config.json: num_attention_heads %u is no multiple of "
                         "num_key_value_heads %u",
                         j->heads, j->kv_heads);
    j->head_dim = c->head_dim != 0 ? c->head_dim : j->n_embd / j->heads;
    TRY(hf_u32(j, "head_dim|attention_head_dim|kv_channels", MODEL_HEAD_DIM_MAX, &j->head_dim,
               err));
    if (j->head_dim == 0)
        return error_set(err, ERR_FORMAT, "config.json: hidden_size %u for %u heads: none is left",
                         j->n_embd, j->heads);
    return OK;
}

static status read_ff(hf_job *j, error *err) {
    const char *names = "intermediate_size|n_inner|ffn_dim|ffn_hidden_size";
    if ((j->class->bits & HF_NO_ATTENTION) != 0) return OK;
    j->n_ff = 4 * j->n_embd;
    if (j->class->n_ff == HF_FF_TIMES_4) return hf_u32(j, names, MODEL_FF_MAX, &j->n_ff, err);
    return hf_need_u32(j, names, MODEL_FF_MAX, &j->n_ff, err);
}

static status read_sizes(hf_job *j, error *err) {
    TRY(hf_need_u32(j, "hidden_size|n_embd|n_embed|d_model", MODEL_EMBD_MAX, &j->n_embd, err));
    TRY(hf_need_u32(j, "num_hidden_layers|n_layer|n_layers|num_layers", MODEL_LAYERS_MAX,
                    &j->layers, err));
    TRY(read_heads(j, err));
    TRY(read_ff(j, err));
    j->ctx = j->class->ctx;
    TRY(hf_u32(j,
               "max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length|"
               "seq_length|model_max_length",
               MODEL_CTX_MAX, &j->ctx, err));
    if (j->ctx == 0)
        return error_set(err, ERR_FORMAT, "config.json: max_position_embeddings is required");
    TRY(hf_u32(j, "vocab_size", MODEL_VOCAB_MAX, &j->vocab, err));
    return OK;
}

static void put_sizes(hf_job *j) {
    const hf_class *c = j->class;
    bool plain = j->heads != 0 && j->head_dim * j->heads == j->n_embd && c->head_dim == 0;
    hf_put_u32(j, "context_length", j->ctx);
    hf_put_u32(j, "embedding_length", j->n_embd);
    hf_put_u32(j, "block_count", j->layers);
    hf_put_u32(j, "feed_forward_length", j->n_ff);
    hf_put_u32(j, "attention.head_count", j->heads);
    if (j->heads == 0) return;
    hf_put_u32(j, "attention.head_count_kv", j->kv_heads);
    if (plain || strcmp(c->arch, "deepseek2") == 0) return;
    hf_put_u32(j, "attention.key_length", j->head_dim);
    hf_put_u32(j, "attention.value_length", j->head_dim);
}

static status put_epsilon(hf_job *j, error *err) {
    float eps = j->class->eps;
    TRY(hf_f32(j,
               "rms_norm_eps|layer_norm_eps|layer_norm_epsilon|norm_epsilon|norm_eps|"
               "layernorm_epsilon",
               &eps, err));
    if (!(eps > 0 && eps < 1))
        return error_set(err, ERR_FORMAT, "config.json: epsilon of norms is %g", (double)eps);
    bool mean = (j->class->bits & HF_LAYER_NORM) != 0;
    hf_put_f32(j, mean ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", eps);
    return OK;
}

static bool is_listed(str name, const char *list) {
    for (const char *p = list; *p != '\0';) {
        size_t len = strcspn(p, " ");
        if (str_eq(name, (str){p, len})) return true;
        p += len + (p[len] == ' ');
    }
    return false;
}

static status check_activation(hf_job *j, error *err) {
    char text[MODEL_TEXT_BYTES];
    const char *acts = j->class->acts;
    str name = {acts, strcspn(acts, " ")};
    TRY(hf_str(j, "hidden_activation|hidden_act|activation_function|activation|mlp_hidden_act",
               &name, err));
    if (is_listed(name, acts)) return OK;
    model_copy_text(text, sizeof text, name);
    return error_set(err, ERR_UNSUPPORTED,
                     "config.json: activation '%s' is not computed for %s, only %s", text,
                     j->class->name, acts);
}

static status read_rope(hf_job *j, error *err) {
    float rotary = j->class->rotary != 0 ? j->class->rotary : 1;
    if (j->theta == 0) j->theta = j->class->theta;
    if ((j->class->bits & HF_NO_ROPE) != 0) return OK;
    TRY(hf_f32(j, "rope_theta|rotary_emb_base|rope_base", &j->theta, err));
    TRY(hf_f32(j, "partial_rotary_factor|rotary_pct|rope_pct|rotary_emb_fraction", &rotary, err));
    if (!(rotary > 0 && rotary <= 1))
        return error_set(err, ERR_FORMAT,
                         "config.json: partial_rotary_factor is %g, must be 0 to 1",
                         (double)rotary);
    j->rope_dims = (uint32_t)((float)j->head_dim * rotary);
    if (strcmp(j->class->arch, "deepseek2") == 0)
        TRY(hf_need_u32(j, "qk_rope_head_dim", MODEL_HEAD_DIM_MAX, &j->rope_dims, err));
    TRY(hf_rope_read(j, err));
    hf_put_f32(j, "rope.freq_base", j->theta);
    hf_put_u32(j, "rope.dimension_count", j->rope_dims);
    return OK;
}

static status read_tied(hf_job *j, error *err) {
    j->tied = (j->class->bits & HF_TIED) != 0;
    j->tied_said = hf_has(j, "tie_word_embeddings");
    return hf_bool(j, "tie_word_embeddings", &j->tied, err);
}

static void put_pooling(hf_job *j) {
    static const char *const poolings[] = {"", "mean", "cls", "last"};
    for (uint32_t i = 1; i < sizeof poolings / sizeof *poolings; i++)
        if (strcmp(j->pooling, poolings[i]) == 0) hf_put_u32(j, "pooling_type", i);
}

status hf_config_read(hf_job *j, error *err) {
    TRY(open_document(j, err));
    TRY(find_class(j, err));
    TRY(find_text(j, err));
    gguf_make_str(j->maker, "general.architecture", str_of(j->class->arch));
    gguf_make_str(j->maker, "general.name", str_of(j->m->name));
    put_pooling(j);
    TRY(read_sizes(j, err));
    TRY(check_activation(j, err));
    TRY(read_tied(j, err));
    TRY(hf_quant_read(j, err));
    if (j->class->keys != NULL) TRY(j->class->keys(j, err));
    put_sizes(j);
    TRY(put_epsilon(j, err));
    TRY(read_rope(j, err));
    if ((j->class->bits & HF_HALVES) != 0) gguf_make_bool(j->maker, "gantry.rope.halves", true);
    return OK;
}
