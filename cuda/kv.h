/* kv.h - where the cache has the keys and values of a token, as one layer sees it (ck_kv). */
#ifndef CUDA_KV_H
#define CUDA_KV_H
#include "ck.h"

/* --- rows of tokens -------------------- */

CK_DEV uint32_t kv_elem_bytes(const ck_kv &kv) { return kv.is_f16 ? 2 : 4; }
CK_DEV uint64_t kv_key_bytes(const ck_kv &kv) { return (uint64_t)kv.key_dim * kv_elem_bytes(kv); }
/* With v_in_k a value is the beginning of its key's row. */
CK_DEV uint64_t kv_value_bytes(const ck_kv &kv) {
    return (uint64_t)(kv.v_in_k ? kv.key_dim : kv.value_dim) * kv_elem_bytes(kv);
}

/* --- blocks of them -------------------- */

/* The CK_KV_BLOCK_TOKENS keys or values of one head in a block. */
CK_DEV uint64_t kv_keys_at(const ck_kv &kv, uint32_t block, uint32_t head) {
    return kv.blocks + block * kv.block_bytes + head * (kv_key_bytes(kv) * CK_KV_BLOCK_TOKENS);
}
CK_DEV uint64_t kv_values_at(const ck_kv &kv, uint32_t block, uint32_t head) {
    if (kv.v_in_k) return kv_keys_at(kv, block, head);
    return kv_keys_at(kv, block, kv.kv_heads) + head * (kv_value_bytes(kv) * CK_KV_BLOCK_TOKENS);
}

CK_DEV uint32_t kv_block_of(const ck_kv &kv, uint32_t seat, uint32_t idx) {
    return ck_ld((const uint32_t *)kv.tables + (uint64_t)seat * kv.table_stride + idx);
}

/* --- writing -------------------- */

/* The rows of a head's key and value at one position. */
typedef struct kv_rows {
    uint64_t k, v;
} kv_rows;

CK_DEV kv_rows kv_rows_at(const ck_kv &kv, uint32_t seat, uint32_t pos, uint32_t head) {
    uint32_t block = kv_block_of(kv, seat, pos / CK_KV_BLOCK_TOKENS);
    uint32_t t = pos % CK_KV_BLOCK_TOKENS;
    return {kv_keys_at(kv, block, head) + t * kv_key_bytes(kv),
            kv_values_at(kv, block, head) + t * kv_value_bytes(kv)};
}

/* Element c of a row of f16 or of f32. */
CK_DEV void kv_put(uint64_t row, bool is_f16, uint32_t c, float x) {
    if (is_f16)
        ck_st((uint16_t *)row + c, ck_f2h(x));
    else
        ck_st((float *)row + c, x);
}

/* `count` numbers to a row from its element `first` on, by a block of so many threads. */
CK_DEV void kv_put_all(const ck_kv &kv, uint64_t row, uint32_t first, const float *x,
                       uint32_t count) {
    for (uint32_t c = ck_tid; c < count; c += ck_bdim)
        kv_put(row, kv.is_f16 != 0, first + c, ck_ld(x + c));
}

#endif
