/* quant_mix.c - see quant_mix.h. */
#include "model/quant_mix.h"

#include "base/assert.h"

typedef struct mix_info {
    const char *name;
    uint32_t file_type;
    dtype type;
} mix_info;

static const mix_info mixes[QUANT_MIX_COUNT] = {
#define QUANT_MIX_ROW(name, file_type, type) {#name, file_type, DTYPE_##type},
    QUANT_MIXES(QUANT_MIX_ROW)
#undef QUANT_MIX_ROW
};

static const struct {
    const char *name;
    quant_mix mix;
} aliases[] = {
    {"Q3_K", QUANT_MIX_Q3_K_M},
    {"Q4_K", QUANT_MIX_Q4_K_M},
    {"Q5_K", QUANT_MIX_Q5_K_M},
    {"MXFP4_MOE", QUANT_MIX_MXFP4},
};

/* --- names ----------------------------------------------------------------- */
bool quant_mix_from_name(str name, quant_mix *out) {
    for (uint32_t i = 0; i < QUANT_MIX_COUNT; i++) {
        if (!str_eq_nocase(name, str_of(mixes[i].name))) continue;
        *out = (quant_mix)i;
        return true;
    }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
        if (!str_eq_nocase(name, str_of(aliases[i].name))) continue;
        *out = aliases[i].mix;
        return true;
    }
    return false;
}

static const mix_info *info_of(quant_mix m) {
    ASSERT((uint32_t)m < QUANT_MIX_COUNT);
    return &mixes[m];
}

const char *quant_mix_name(quant_mix m) { return info_of(m)->name; }
dtype quant_mix_type(quant_mix m) { return info_of(m)->type; }
uint32_t quant_mix_file_type(quant_mix m) { return info_of(m)->file_type; }

const char *quant_mix_names(void) {
#define QUANT_MIX_TEXT(name, file_type, type) ", " #name
    return &(QUANT_MIXES(QUANT_MIX_TEXT))[2];
#undef QUANT_MIX_TEXT
}

/* --- what a tensor is ------------------------------------------------------ */
typedef enum role {
    ROLE_OTHER,
    ROLE_OUTPUT,
    ROLE_TOKEN_EMBD,
    ROLE_ATTN_QKV,
    ROLE_ATTN_KV_B,
    ROLE_ATTN_V,
    ROLE_ATTN_K,
    ROLE_ATTN_OUTPUT,
    ROLE_FFN_DOWN
} role;

static bool contains(str s, const char *part) {
    return memmem(s.p, s.n, part, strlen(part)) != NULL;
}

static role role_of(str name) {
    static const struct {
        const char *part;
        role role;
    } parts[] = {
        {"attn_qkv.weight", ROLE_ATTN_QKV},       {"attn_kv_b.weight", ROLE_ATTN_KV_B},
        {"attn_v.weight", ROLE_ATTN_V},           {"attn_k.weight", ROLE_ATTN_K},
        {"attn_output.weight", ROLE_ATTN_OUTPUT}, {"ffn_down", ROLE_FFN_DOWN},
    };
    if (str_eq(name, S("output.weight"))) return ROLE_OUTPUT;
    if (str_eq(name, S("token_embd.weight")) || str_eq(name, S("per_layer_token_embd.weight")))
        return ROLE_TOKEN_EMBD;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (contains(name, parts[i].part)) return parts[i].role;
    return ROLE_OTHER;
}

/* Matrices that are small and decide much (routers, recurrent gates, positions, convolutions
 * over a few taps), or that are tables. */
static const char *const kept_parts[] = {
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "position_embd.weight",
    "token_types.weight",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
};

static bool is_integer(dtype t) {
    return t == DTYPE_I8 || t == DTYPE_I16 || t == DTYPE_I32 || t == DTYPE_I64;
}

bool quant_mix_converts(const quant_mix_tensor_info *t) {
    uint32_t dims_count = t->dims_count;
    while (dims_count > 1 && t->dims[dims_count - 1] == 1) dims_count--;
    if (dims_count < 2 || !str_ends(t->name, S("weight")) || is_integer(t->type)) return false;
    for (size_t i = 0; i < sizeof kept_parts / sizeof *kept_parts; i++)
        if (contains(t->name, kept_parts[i])) return false;
    return true;
}

/* The number after "blk."; 0 where there is none. */
static uint32_t layer_of(str name) {
    uint32_t layer = 0;
    if (!str_starts(name, S("blk."))) return 0;
    for (size_t i = 4; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && layer < 1u << 20; i++)
        layer = layer * 10 + (uint32_t)(name.p[i] - '0');
    return layer;
}

/* --- rules ------------------------------------------------------------------
 * Each answers with the type its role gets, `t` where the mix has no rule of its own. */

typedef struct place {
    uint32_t layer;
    uint32_t layers;
} place;

static bool is_in_first(place at, uint32_t part) { return at.layer < at.layers / part; }

/* The first and last eighth of the layers and every third one between. */
static bool wants_more_bits(place at) {
    const uint32_t eighth = at.layers / 8;
    return at.layer < eighth || at.layer >= 7 * at.layers / 8 || (at.layer - eighth) % 3 == 2;
}

static dtype output_type(const quant_mix_plan *p, const quant_mix_tensor_info *info, dtype t) {
    if (p->mix == QUANT_MIX_MXFP4 || p->falcon) return DTYPE_Q8_0;
    if (info->dims[0] % dtype_get((uint32_t)t)->block_elems != 0) return DTYPE_Q8_0;
    return t == DTYPE_Q8_0 ? t : DTYPE_Q6_K;
}

/* A model of 80 layers whose heads share keys: attn_v is so much smaller than attn_q that
 * more bits for it cost next to nothing. */
static bool has_small_values(const quant_mix_plan *p) {
    return p->layers == 80 && p->heads_per_kv > 1;
}

static dtype attn_v_by_mix(const quant_mix_plan *p, place at, dtype t) {
    const bool shared = p->heads_per_kv >= 4;
    switch (p->mix) {
    case QUANT_MIX_Q2_K:
        return shared ? DTYPE_Q4_K : DTYPE_Q3_K;
    case QUANT_MIX_Q2_K_S:
        return shared ? DTYPE_Q4_K : t;
    case QUANT_MIX_Q3_K_M:
        return at.layer < 2 ? DTYPE_Q5_K : DTYPE_Q4_K;
    case QUANT_MIX_Q3_K_L:
        return DTYPE_Q5_K;
    case QUANT_MIX_IQ4_NL:
    case QUANT_MIX_IQ4_XS:
        return shared ? DTYPE_Q5_K : t;
    case QUANT_MIX_Q4_K_M:
    case QUANT_MIX_Q5_K_M:
        return wants_more_bits(at) ? DTYPE_Q6_K : t;
    case QUANT_MIX_Q4_K_S:
        return at.layer < 4 ? DTYPE_Q5_K : t;
    default:
        return t;
    }
}

static dtype attn_v_type(const quant_mix_plan *p, place at, dtype t) {
    if (p->experts == 8) return DTYPE_Q8_0;
    t = attn_v_by_mix(p, at, t);
    return has_small_values(p) && (t == DTYPE_Q3_K || t == DTYPE_Q4_K) ? DTYPE_Q5_K : t;
}

static dtype falcon_ffn_down_type(const quant_mix_plan *p, place at, dtype t) {
    switch (p->mix) {
    case QUANT_MIX_Q3_K_M:
        return is_in_first(at, 16) ? DTYPE_Q5_K : wants_more_bits(at) ? DTYPE_Q4_K : t;
    case QUANT_MIX_Q3_K_L:
        return DTYPE_Q4_K;
    case QUANT_MIX_Q4_K_M:
        return is_in_first(at, 16) ? DTYPE_Q6_K : wants_more_bits(at) ? DTYPE_Q5_K : t;
    default:
        return t;
    }
}

static dtype ffn_down_type(const quant_mix_plan *p, place at, dtype t) {
    switch (p->mix) {
    case QUANT_MIX_Q2_K:
        return DTYPE_Q3_K;
    case QUANT_MIX_Q2_K_S:
        return is_in_first(at, 8) ? DTYPE_Q4_K : t;
    case QUANT_MIX_Q3_K_M:
        if (p->falcon) return falcon_ffn_down_type(p, at, t);
        return is_in_first(at, 16) ? DTYPE_Q5_K : DTYPE_Q4_K;
    case QUANT_MIX_Q3_K_L:
        return p->falcon ? falcon_ffn_down_type(p, at, t) : DTYPE_Q5_K;
    case QUANT_MIX_Q4_K_M:
        if (p->falcon) return falcon_ffn_down_type(p, at, t);
        return wants_more_bits(at) ? DTYPE_Q6_K : t;
    case QUANT_MIX_Q5_K_M:
        return wants_more_bits(at) ? DTYPE_Q6_K : t;
    case QUANT_MIX_Q4_K_S:
        return !p->falcon && is_in_first(at, 8) ? DTYPE_Q5_K : t;
    case QUANT_MIX_IQ4_NL:
    case QUANT_MIX_IQ4_XS:
        return is_in_first(at, 8) && !p->has_importance ? DTYPE_Q5_K : t;
    case QUANT_MIX_Q4_0:
        return is_in_first(at, 8) && p->has_importance ? DTYPE_Q4_1 : t;
    case QUANT_MIX_Q5_0:
        return is_in_first(at, 8) && p->has_importance ? DTYPE_Q5_1 : t;
    default:
        return t;
    }
}

/* With eight experts attention is a sliver of the file: more bits for all of its output. */
static dtype shared_attn_output_type(const quant_mix_plan *p, dtype t) {
    switch (p->mix) {
    case QUANT_MIX_Q2_K:
    case QUANT_MIX_Q3_K_S:
    case QUANT_MIX_Q3_K_M:
    case QUANT_MIX_Q4_K_S:
    case QUANT_MIX_Q4_K_M:
    case QUANT_MIX_IQ4_NL:
    case QUANT_MIX_IQ4_XS:
        return DTYPE_Q5_K;
    default:
        return t;
    }
}

static dtype attn_output_type(const quant_mix_plan *p, dtype t) {
    if (p->falcon) return p->mix == QUANT_MIX_Q3_K_L ? DTYPE_Q4_K : t;
    if (p->experts == 8) return shared_attn_output_type(p, t);
    switch (p->mix) {
    case QUANT_MIX_Q2_K:
        return DTYPE_Q3_K;
    case QUANT_MIX_Q3_K_M:
        return DTYPE_Q4_K;
    case QUANT_MIX_Q3_K_L:
        return DTYPE_Q5_K;
    default:
        return t;
    }
}

/* The ternary and one- and two-bit types leave too little of an embedding. */
static dtype token_embd_type(const quant_mix_plan *p, dtype t) {
    switch (p->mix) {
    case QUANT_MIX_TQ1_0:
    case QUANT_MIX_TQ2_0:
    case QUANT_MIX_Q2_0:
        return DTYPE_Q4_K;
    default:
        return t;
    }
}

static dtype mixed_type(const quant_mix_plan *p, const quant_mix_tensor_info *info, dtype t) {
    const place at = {layer_of(info->name), p->layers};
    const role r = role_of(info->name);
    if (r == ROLE_OUTPUT || (p->tied && r == ROLE_TOKEN_EMBD)) return output_type(p, info, t);
    if (p->mix == QUANT_MIX_MXFP4)
        return info->dims_count > 2 && info->dims[2] > 1 ? DTYPE_MXFP4 : DTYPE_Q8_0;
    switch (r) {
    case ROLE_TOKEN_EMBD:
        return token_embd_type(p, t);
    case ROLE_ATTN_QKV:
    case ROLE_ATTN_KV_B:
    case ROLE_ATTN_V:
        return attn_v_type(p, at, t);
    case ROLE_ATTN_K:
        return p->experts == 8 ? DTYPE_Q8_0 : t;
    case ROLE_FFN_DOWN:
        return ffn_down_type(p, at, t);
    case ROLE_ATTN_OUTPUT:
        return attn_output_type(p, t);
    case ROLE_OUTPUT:
    case ROLE_OTHER:
        break;
    }
    return t;
}

/* --- rows that are no whole number of blocks --------------------------------- */
static dtype smaller_blocks(dtype t) {
    switch (t) {
    case DTYPE_IQ4_XS:
        return DTYPE_IQ4_NL;
    case DTYPE_Q2_K:
    case DTYPE_Q3_K:
    case DTYPE_TQ1_0:
    case DTYPE_TQ2_0:
    case DTYPE_Q1_0:
    case DTYPE_Q2_0:
    case DTYPE_NVFP4:
        return DTYPE_Q4_0;
    case DTYPE_Q4_K:
        return DTYPE_Q5_0;
    case DTYPE_Q5_K:
        return DTYPE_Q5_1;
    case DTYPE_Q6_K:
        return DTYPE_Q8_0;
    default:
        return DTYPE_F16;
    }
}

static dtype fitting_type(dtype t, uint64_t cols) {
    while (cols % dtype_get((uint32_t)t)->block_elems != 0) t = smaller_blocks(t);
    return t;
}

/* A type that the caller has set for this very tensor, or NULL. */
static const dtype *given_type(const quant_mix_plan *p, const quant_mix_tensor_info *t) {
    const role r = role_of(t->name);
    if (r == ROLE_TOKEN_EMBD && p->token_embd != NULL) return p->token_embd;
    const bool is_output = r == ROLE_OUTPUT || (r == ROLE_TOKEN_EMBD && p->tied);
    return is_output ? p->output : NULL;
}

dtype quant_mix_tensor(const quant_mix_plan *p, const quant_mix_tensor_info *t, dtype *wanted) {
    dtype type = t->type;
    if (quant_mix_converts(t)) {
        const dtype *given = given_type(p, t);
        type = given != NULL ? *given : quant_mix_type(p->mix);
        const bool has_blocks = dtype_get((uint32_t)type)->block_elems > 1;
        if (given == NULL && has_blocks && !p->pure) type = mixed_type(p, t, type);
    }
    if (wanted != NULL) *wanted = type;
    return quant_mix_converts(t) ? fitting_type(type, t->dims[0]) : type;
}
