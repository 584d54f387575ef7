/* arch_table.c - every architecture, a row each, and the oddities of single ones.
 *
 * Sources: the papers and model cards of the families; key and tensor names from gguf-py; rotary
 * pairs as the files' converters leave them. */
#include "model/arch.h"

#include <math.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/log.h"

/* --- oddities ------------------------------------------------------------------ */
static bool has_scale(const model *m) { return model_key_has(m, "attention.scale"); }

/* The largest Gemma 2 and 3 divide scores by the root of n_embd / heads; they are told by their
 * number of layers, since no key says it. */
static void scale_by_share(model *m, uint32_t layers_27b) {
    model_hparams *hp = &m->hparams;
    if (hp->layers != layers_27b || has_scale(m)) return;
    uint32_t share = hp->n_embd / hp->heads;
    if (share > 0) hp->attn_scale = 1.0f / sqrtf((float)share);
}

static status adjust_gemma2(model *m, error *err) {
    (void)err;
    scale_by_share(m, 46);
    if (!model_key_has(m, "attn_logit_softcapping")) m->hparams.attn_softcap = 50.0f;
    if (!model_key_has(m, "final_logit_softcapping")) m->hparams.logit_softcap = 30.0f;
    return OK;
}

static status adjust_gemma3(model *m, error *err) {
    (void)err;
    scale_by_share(m, 62);
    return OK;
}

/* "rope.scaling.finetuned" turns positions on and off. */
static status adjust_granite(model *m, error *err) {
    bool on = true;
    TRY(model_key_bool_or(m, "rope.scaling.finetuned", true, &on, err));
    for (uint32_t i = 0; i < m->hparams.layers && !on; i++) m->layers[i].rope = MODEL_ROPE_NONE;
    return OK;
}

/* Files of some age have none of the scales.                          (Hu et al. 2024) */
static status adjust_minicpm(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    (void)err;
    if (!model_key_has(m, "embedding_scale")) hp->embd_scale = 12.0f;
    if (!model_key_has(m, "residual_scale")) hp->residual_scale = 1.4f / sqrtf((float)hp->layers);
    if (!model_key_has(m, "logit_scale")) hp->logit_scale = 256.0f / (float)hp->n_embd;
    return OK;
}

/* The 13B model, told by its layers, has ALiBi where the 7B model turns.   (Yang et al. 2023) */
static status adjust_baichuan(model *m, error *err) {
    if (m->hparams.layers != 40) return OK;
    for (uint32_t i = 0; i < m->hparams.layers; i++) m->layers[i].rope = MODEL_ROPE_NONE;
    return model_alibi_init(m, 8.0f, err);
}

/* Scores are divided by the head's dimension, not by its root.        (Sengupta et al. 2023) */
static status adjust_jais(model *m, error *err) {
    (void)err;
    if (!has_scale(m)) m->hparams.attn_scale = 1.0f / (float)m->hparams.head_dim;
    return OK;
}

/* Older files of the models for 4096 tokens, told by their layers, do not say their window; what
 * the longer models have hides nothing.  A directory says it.          (Abdin et al. 2024) */
static status adjust_phi3(model *m, error *err) {
    const model_hparams *hp = &m->hparams;
    bool short_ctx = hp->ctx_train == 4096 && (hp->layers == 32 || hp->layers == 40);
    bool told = m->internal->weights != NULL || model_key_has(m, "attention.sliding_window");
    (void)err;
    for (uint32_t i = 0; i < hp->layers && short_ctx && !told; i++) m->layers[i].window = 2047;
    return OK;
}

/* "feed_forward_length" counts gate and up together.                     (Bai et al. 2023) */
static status adjust_qwen(model *m, error *err) {
    if (m->hparams.n_ff % 2 != 0)
        return error_set(err, ERR_FORMAT,
                         "model: 'qwen.feed_forward_length' is %u, must be a multiple of 2",
                         m->hparams.n_ff);
    m->hparams.n_ff /= 2;
    return OK;
}

/* Files say which of two orders their blocks have.                 (Black et al. 2022) */
static status adjust_gptneox(model *m, error *err) {
    return model_key_bool_or(m, "use_parallel_residual", true, &m->hparams.parallel, err);
}

/* The key speaks of training; the norm that is or is not there decides. */
static status adjust_stablelm(model *m, error *err) {
    bool said = false;
    return model_key_bool_or(m, "use_parallel_residual", false, &said, err);
}

/* Queries and keys are turned first and normalised then. */
static status adjust_hunyuan(model *m, error *err) {
    (void)err;
    m->hparams.qk_norm_after_rope = true;
    return OK;
}

/* Queries grow with their position beyond the trained context; within it nothing changes, so that
 * is where the context ends here. */
static status adjust_mistral3(model *m, error *err) {
    model_hparams *hp = &m->hparams;
    float growth = 0, all = 0;
    double stretch = 0;
    uint32_t ctx = 0;
    TRY(model_key_f32_or(m, "attention.temperature_scale", 0, &growth, err));
    TRY(model_key_count_or(m, "rope.scaling.original_context_length", MODEL_CTX_MAX, 0, &ctx, err));
    if (growth != 0 && ctx > 0 && ctx < hp->ctx_train) {
        log_warn("model", "context_length cut to=%u of=%u tokens: attention.temperature_scale", ctx,
                 hp->ctx_train);
        hp->ctx_train = ctx;
    }
    /* YaRN's magnitude is divided by the one of "all dimensions" */
    TRY(model_key_f32_or(m, "rope.scaling.yarn_log_multiplier", 0, &all, err));
    TRY(model_rope_yarn_log(m, &stretch, err));
    if (all != 0) m->ropes[0].magnitude /= (float)(1 + 0.1 * (double)all * stretch);
    return OK;
}

/* --- the table ------------------------------------------------------------------- */
/* clang-format off */
#define RMS   NORM_RMS
#define LAYER NORM_LAYER

#define SWIGLU  {ACT_SILU, true}
#define GEGLU   {ACT_GELU, true}
#define CLAMPED {ACT_SWIGLU_CLAMPED, true}
#define GELU    {ACT_GELU, false}
#define RELU_2  {ACT_RELU_SQR, false}

#define ADJACENT .positions = POS_ADJACENT
#define HALVES   .positions = POS_HALVES
#define LEARNED  .positions = POS_LEARNED
#define ALIBI    .positions = POS_ALIBI

/* softmax over all, then the best; their weights as they come, or made to sum to 1 */
#define MOE      .experts = {.allowed = true, .route = ROUTE_SOFTMAX}
#define MOE_SUM1 .experts = {.allowed = true, .route = ROUTE_SOFTMAX, .normalize = true}

static const arch_traits archs[] = {
    /* name         norm   block                ffn      positions */
    {"arcee",       RMS,   BLOCK_PRE,           RELU_2,  ADJACENT},
    {"baichuan",    RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, .adjust = adjust_baichuan},
    {"bloom",       LAYER, BLOCK_PRE,           GELU,    ALIBI,    .embd_norm = true},
    {"chatglm",     RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT},
    {"codeshell",   LAYER, BLOCK_PRE,           GELU,    HALVES},
    {"cohere2",     LAYER, BLOCK_SHARED,        SWIGLU,  ADJACENT,
        .window = {.period = 4, .required = true, .global_nope = true}},
    {"command-r",   LAYER, BLOCK_SHARED,        SWIGLU,  ADJACENT, .qk_norm = QK_EACH_OPT},
    {"deepseek",    RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, MOE},
    {"deepseek2",   RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, MOE, .latent = true},
    {"ernie4_5",    RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT},
    {"exaone",      RMS,   BLOCK_PRE,           SWIGLU,  HALVES},
    {"falcon",      LAYER, BLOCK_SHARED_TWO,    GELU,    HALVES},
    {"gemma",       RMS,   BLOCK_PRE,           GEGLU,   HALVES,   .embd_sqrt = true},
    {"gemma2",      RMS,   BLOCK_PRE_POST,      GEGLU,   HALVES,   .embd_sqrt = true,
        .window = {.period = 2, .tokens = 4096}, .adjust = adjust_gemma2},
    {"gemma3",      RMS,   BLOCK_PRE_POST,      GEGLU,   HALVES,   .embd_sqrt = true,
        .window = {.period = 6, .required = true, .local_rope = true, .local_base = 10000.0f},
        .qk_norm = QK_HEADS, .adjust = adjust_gemma3},
    {"glm4",        RMS,   BLOCK_PRE_POST,      SWIGLU,  ADJACENT},
    {"glm4moe",     RMS,   BLOCK_PRE_LATE,      SWIGLU,  HALVES,   .qk_norm = QK_HEADS_OPT,
        .experts = {.allowed = true, .route = ROUTE_SIGMOID}},
    {"gpt-oss",     RMS,   BLOCK_PRE_LATE,      CLAMPED, HALVES,   .sinks = true,
        .window = {.period = 2, .required = true},
        .experts = {.allowed = true, .route = ROUTE_SOFTMAX_BEST}},
    {"gpt2",        LAYER, BLOCK_PRE,           GELU,    LEARNED},
    {"gptneox",     LAYER, BLOCK_PRE,           GELU,    HALVES,   .adjust = adjust_gptneox},
    {"granite",     RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, MOE_SUM1,
        .logit_divided = true, .adjust = adjust_granite},
    {"granitemoe",  RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, MOE_SUM1,
        .logit_divided = true, .adjust = adjust_granite},
    {"hunyuan-dense", RMS, BLOCK_PRE,           SWIGLU,  HALVES,   .qk_norm = QK_HEADS,
        .adjust = adjust_hunyuan},
    {"internlm2",   RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT},
    {"jais",        LAYER, BLOCK_PRE,           SWIGLU,  ALIBI,    .adjust = adjust_jais},
    {"llama",       RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, MOE_SUM1},
    {"minicpm",     RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, .logit_divided = true,
        .adjust = adjust_minicpm},
    {"mistral3",    RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, .adjust = adjust_mistral3},
    {"mpt",         LAYER, BLOCK_PRE,           GELU,    ALIBI,    .qk_norm = QK_WHOLE_OPT},
    {"nemotron",    LAYER, BLOCK_PRE,           RELU_2,  HALVES},
    {"olmo",        LAYER, BLOCK_PRE_BARE,      SWIGLU,  ADJACENT},
    {"olmo2",       RMS,   BLOCK_POST,          SWIGLU,  HALVES,   .qk_norm = QK_WHOLE,
        .window = {.period = 4, .local_rope = true}},
    {"olmoe",       RMS,   BLOCK_PRE,           SWIGLU,  HALVES,   MOE, .qk_norm = QK_WHOLE},
    {"orion",       LAYER, BLOCK_PRE,           SWIGLU,  HALVES},
    {"phi2",        LAYER, BLOCK_SHARED,        GELU,    HALVES},
    {"phi3",        RMS,   BLOCK_PRE,           SWIGLU,  HALVES,   .adjust = adjust_phi3},
    {"qwen",        RMS,   BLOCK_PRE,           SWIGLU,  HALVES,   .adjust = adjust_qwen},
    {"qwen2",       RMS,   BLOCK_PRE,           SWIGLU,  HALVES},
    {"qwen2moe",    RMS,   BLOCK_PRE,           SWIGLU,  HALVES,
        .experts = {.allowed = true, .ff_divided = true, .shared_ff = true}},
    {"qwen3",       RMS,   BLOCK_PRE,           SWIGLU,  HALVES,   .qk_norm = QK_HEADS},
    {"qwen3moe",    RMS,   BLOCK_PRE,           SWIGLU,  HALVES,   .qk_norm = QK_HEADS,
        .experts = {.allowed = true, .normalize = true, .ff_divided = true}},
    {"refact",      RMS,   BLOCK_PRE,           SWIGLU,  ALIBI},
    {"seed_oss",    RMS,   BLOCK_PRE_LATE,      SWIGLU,  HALVES},
    {"smollm3",     RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT, .nope_every = 4},
    {"stablelm",    LAYER, BLOCK_PRE_OR_SHARED, SWIGLU,  HALVES,   .qk_norm = QK_EACH_OPT,
        .adjust = adjust_stablelm},
    {"starcoder",   LAYER, BLOCK_PRE,           GELU,    LEARNED},
    {"starcoder2",  LAYER, BLOCK_PRE,           GELU,    HALVES},
    {"xverse",      RMS,   BLOCK_PRE,           SWIGLU,  ADJACENT},
    /* other families, which describe themselves */
    {"bert",           .describe = arch_encoder_describe},
    {"nomic-bert",     .describe = arch_encoder_describe},
    {"nomic-bert-moe", .describe = arch_encoder_describe},
    {"jina-bert-v2",   .describe = arch_encoder_describe},
    {"mamba",          .describe = arch_mamba_describe},
    {"rwkv6",          .describe = arch_rwkv6_describe},
};
/* clang-format on */

const arch_traits *arch_find(str name) {
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
        if (str_eq_c(name, archs[i].name)) return &archs[i];
    return NULL;
}

const arch_traits *arch_of(const model *m) {
    const arch_traits *a = arch_find(str_of(m->hparams.arch));
    ASSERT(a != NULL);
    return a;
}

const char *model_arch_names(void) {
    static _Thread_local char text[1024];
    size_t n = 0;
    for (size_t i = 0; i < sizeof archs / sizeof *archs && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", i > 0 ? ", " : "", archs[i].name);
    return text;
}
