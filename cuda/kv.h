/* kv.h - where the cache has the keys and values of a token, as one layer sees it (ck_kv), and how
 * they get there. */
#ifndef CUDA_KV_H
#define CUDA_KV_H
#include "quantize.h"
#include "tensor/formula.h"

/* --- rows of tokens -------------------- */

CK_DEV bool kv_has_codes(ck_kv_type type) { return type == CK_KV_Q8 || type == CK_KV_Q4; }

/* Numbers or codes of so many elements. */
CK_DEV uint64_t kv_bytes_of(ck_kv_type type, uint64_t elems) {
    if (type == CK_KV_Q4) return elems / 2;
    return elems * (type == CK_KV_Q8 ? 1 : type == CK_KV_F16 ? 2 : 4);
}

/* Of a head with so many elements; of codes with their scales, which lie behind those of all rows.
 */
CK_DEV uint64_t kv_row_bytes(const ck_kv &kv, uint32_t dim) {
    const ck_kv_type type = (ck_kv_type)kv.type;
    return kv_bytes_of(type, dim) + (kv_has_codes(type) ? dim / CK_KV_GROUP * 2 : 0);
}
/* With v_in_k a value is the beginning of its key's row. */
CK_DEV uint32_t kv_value_elems(const ck_kv &kv) { return kv.v_in_k ? kv.key_dim : kv.value_dim; }

typedef struct kv_row {
    uint64_t at;     /* numbers, or codes */
    uint64_t scales; /* f16, of codes */
} kv_row;

/* Row t of a head whose rows have so many elements. */
template <ck_kv_type TYPE> CK_DEV kv_row kv_row_of(uint64_t head, uint32_t dim, uint32_t t) {
    const uint64_t at = head + kv_bytes_of(TYPE, (uint64_t)t * dim);
    if (!kv_has_codes(TYPE)) return {at, 0};
    const uint64_t scales = head + kv_bytes_of(TYPE, (uint64_t)dim * CK_KV_BLOCK_TOKENS);
    return {at, scales + (uint64_t)t * (dim / CK_KV_GROUP) * 2};
}
/* So many rows behind this one. */
template <ck_kv_type TYPE>
CK_DEV kv_row kv_row_after(const kv_row &row, uint32_t dim, uint32_t rows) {
    const uint64_t at = row.at + kv_bytes_of(TYPE, rows * dim);
    return {at, kv_has_codes(TYPE) ? row.scales + rows * (dim / CK_KV_GROUP) * 2 : 0};
}
CK_DEV kv_row kv_row_at(const ck_kv &kv, uint64_t head, uint32_t dim, uint32_t t) {
    if (kv.type == CK_KV_Q8) return kv_row_of<CK_KV_Q8>(head, dim, t);
    if (kv.type == CK_KV_Q4) return kv_row_of<CK_KV_Q4>(head, dim, t);
    return kv.type == CK_KV_F16 ? kv_row_of<CK_KV_F16>(head, dim, t)
                                : kv_row_of<CK_KV_F32>(head, dim, t);
}

/* --- blocks of them -------------------- */

/* The CK_KV_BLOCK_TOKENS keys or values of one head in a block. */
CK_DEV uint64_t kv_keys_at(const ck_kv &kv, uint32_t block, uint32_t head) {
    return kv.blocks + block * kv.block_bytes +
           head * (kv_row_bytes(kv, kv.key_dim) * CK_KV_BLOCK_TOKENS);
}
CK_DEV uint64_t kv_values_at(const ck_kv &kv, uint32_t block, uint32_t head) {
    if (kv.v_in_k) return kv_keys_at(kv, block, head);
    return kv_keys_at(kv, block, kv.kv_heads) +
           head * (kv_row_bytes(kv, kv.value_dim) * CK_KV_BLOCK_TOKENS);
}

CK_DEV uint32_t kv_block_of(const ck_kv &kv, uint32_t seat, uint32_t idx) {
    return ck_ld((const uint32_t *)kv.tables + (uint64_t)seat * kv.table_stride + idx);
}

/* --- writing -------------------- */

/* The rows of a head's key and value at one position. */
typedef struct kv_rows {
    kv_row k, v;
} kv_rows;

CK_DEV kv_rows kv_rows_at(const ck_kv &kv, uint32_t seat, uint32_t pos, uint32_t head) {
    uint32_t block = kv_block_of(kv, seat, pos / CK_KV_BLOCK_TOKENS);
    uint32_t t = pos % CK_KV_BLOCK_TOKENS;
    return {kv_row_at(kv, kv_keys_at(kv, block, head), kv.key_dim, t),
            kv_row_at(kv, kv_values_at(kv, block, head), kv_value_elems(kv), t)};
}

/* 32 elements from `first` on by a warp, x the lane's; as put_group() of backend/kv_q8.c. */
CK_DEV void kv_put_q8(const kv_row &row, uint32_t first, float x) {
    const float magnitude = x < 0.0f ? -x : x;
    const bool finite = ck_ballot(!(magnitude <= 3.402823466e38f)) == 0;
    const uint16_t half = ck_f2h(ck_warp_max(finite ? magnitude : 0.0f) / 127.0f);
    const float scale = ck_h2f(half);
    const bool ok = finite && scale <= 65504.0f;
    int code = ok && scale > 0.0f ? quantize_code(x, 1.0f / scale) : 0;
    if (code > 127) code = 127;
    if (code < -127) code = -127;
    ck_st((int8_t *)row.at + first + ck_lane(), (int8_t)code);
    if (ck_lane() == 0)
        ck_st((uint16_t *)row.scales + first / CK_KV_GROUP, (uint16_t)(ok ? half : 0x7e00));
}

/* The lane's element of 32, turned as turn_group() of backend/kv_q4.c does. */
CK_DEV float kv_turned(float x) {
#pragma unroll
    for (uint32_t apart = 1; apart < 32; apart *= 2) {
        const float other = ck_shfl_xor_f(x, apart);
        x = (ck_lane() & apart) != 0 ? other - x : x + other;
    }
    return ck_mul(x, FORMULA_TURN_32);
}

/* The same of 32 of which 4 neighbouring lanes have 8 elements each, as tensor cores have them:
 * x[2 n] and x[2 n + 1] are elements 8 n + 2 q and the next one, q = lane % 4.  All 32 lanes. */
CK_DEV void kv_turn_quad(float x[8]) {
#pragma unroll
    for (uint32_t apart = 1; apart < 32; apart *= 2)
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            if (apart == 2 || apart == 4) {
                const float other = ck_shfl_xor_f(x[i], apart / 2);
                x[i] = (ck_lane() & apart / 2) != 0 ? other - x[i] : x[i] + other;
                continue;
            }
            const uint32_t own = apart == 1 ? 1 : apart / 4; /* here these elements are so far */
            if ((i & own) != 0) continue;
            const float low = x[i], high = x[i + own];
            x[i] = low + high;
            x[i + own] = low - high;
        }
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) x[i] = ck_mul(x[i], FORMULA_TURN_32);
}

/* kv_put_q8 of 4 bits; as put_group() there. */
CK_DEV void kv_put_q4(const kv_row &row, uint32_t first, float x) {
    x = kv_turned(x);
    const float magnitude = x < 0.0f ? -x : x;
    const bool finite = ck_ballot(!(magnitude <= 3.402823466e38f)) == 0;
    const float high = ck_warp_max(finite && x > 0.0f ? x : 0.0f);
    const float low = ck_warp_max(finite && x < 0.0f ? -x : 0.0f);
    const uint16_t half = ck_f2h((high > low ? high : 0.0f - low) / -8.0f);
    const float scale = ck_h2f(half);
    const bool ok = finite && scale <= 65504.0f && scale >= -65504.0f;
    int code = ok && scale != 0.0f ? quantize_code(x, 1.0f / scale) : 0;
    if (code > 7) code = 7;
    if (code < -8) code = -8;
    const uint32_t mine = (uint32_t)(code + 8), next = ck_shfl_xor(mine, 1);
    if (ck_lane() % 2 == 0)
        ck_st((uint8_t *)row.at + (first + ck_lane()) / 2, (uint8_t)(mine | next << 4));
    if (ck_lane() == 0)
        ck_st((uint16_t *)row.scales + first / CK_KV_GROUP, (uint16_t)(ok ? half : 0x7e00));
}

/* `count` elements to a row from its element `first` on, by a block: a warp takes 32 neighbours at
 * a time.  elements::at(x, c) is element c of them. */
template <typename elements>
CK_DEV void kv_put(const ck_kv &kv, const kv_row &row, uint32_t first, uint32_t count,
                   const elements &x) {
    for (uint32_t base = ck_warp() * 32; base < count; base += ck_bdim) {
        const uint32_t c = base + ck_lane();
        const float v = c < count ? elements::at(x, c) : 0.0f;
        if (kv.type == CK_KV_Q8)
            kv_put_q8(row, first + base, v);
        else if (kv.type == CK_KV_Q4)
            kv_put_q4(row, first + base, v);
        else if (c < count && kv.type == CK_KV_F16)
            ck_st((uint16_t *)row.at + first + c, ck_f2h(v));
        else if (c < count)
            ck_st((float *)row.at + first + c, v);
    }
}

/* Numbers as they are. */
struct kv_plain {
    const float *x;
    CK_DEV float at(const kv_plain &p, uint32_t c) { return ck_ld(p.x + c); }
};

#endif
