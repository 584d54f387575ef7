/* attention_piece.h - a piece of the cache on its way into shared memory, for attention on tensor
 * cores (attention_prompt.h).
 *
 * ROW_THREADS neighbours of the block bring a token's row, 16 bytes each at a time, which codes
 * make 32 or 64 of: so that the next piece can be on its way into registers while one is
 * multiplied.  Rows in shared memory have an odd number of granules of 16 bytes, so that the 8 rows
 * that ldmatrix reads at once are in different banks.  Codes become halves on the way: the f16 that
 * is nearest to code * scale. */
#ifndef CUDA_ATTENTION_PIECE_H
#define CUDA_ATTENTION_PIECE_H
#include "ck_math.h"
#include "halves.h"
#include "kv.h"

enum : uint32_t {
    PIECE = CK_PROMPT_PIECE,
    BLOCK_TOKENS = CK_KV_BLOCK_TOKENS,
    BLOCKS = PIECE / BLOCK_TOKENS, /* of the cache, in a piece */
    STEP = 16,                     /* elements, or tokens, of one product */
    TOKEN_TILES = PIECE / 8,
    GRANULE = 8,      /* halves */
    ROW_THREADS = 8,  /* that bring a token's row */
    WARP_QUERIES = 16 /* the rows of one fragment */
};

/* Of heads of up to so many elements: what a block and a warp have.  PARTS warps share the same
 * queries, each with its own elements of the keys and columns of the values. */
template <ck_kv_type TYPE, uint32_t DIM> struct prompt_shape {
    enum : uint32_t {
        IS_WIDE = DIM > 256,
        THREADS = IS_WIDE ? CK_PROMPT_WIDE_THREADS : CK_PROMPT_THREADS,
        QUERIES = IS_WIDE ? CK_PROMPT_WIDE_QUERIES : CK_PROMPT_QUERIES,
        PARTS = THREADS / 32 * WARP_QUERIES / QUERIES,
        /* Whole steps, and of Q4 whole groups, of which queries are turned. */
        KEYS_UNIT = TYPE == CK_KV_Q4 ? (uint32_t)CK_KV_GROUP : (uint32_t)STEP,
        KEYS = (DIM / PARTS + KEYS_UNIT - 1) / KEYS_UNIT * KEYS_UNIT,
        VALUES = IS_WIDE ? CK_PROMPT_WIDE_VALUES / PARTS : DIM,
        AT_ONCE = THREADS / ROW_THREADS, /* tokens that the block brings */
        ROUNDS = PIECE / AT_ONCE,
        UNIT = TYPE == CK_KV_F16 ? 8 : 16, /* elements that a thread has next to each other */
        UNITS = (DIM + UNIT * ROW_THREADS - 1) / (UNIT * ROW_THREADS),
    };
    CK_DEV uint32_t part() { return PARTS == 1 ? 0 : ck_warp() % PARTS; }
    CK_DEV uint32_t first_query() { return ck_warp() / PARTS * WARP_QUERIES; }
};

/* Of `dim` elements those from `first` on. */
CK_DEV uint32_t from_element(uint32_t dim, uint32_t first) { return dim > first ? dim - first : 0; }

typedef struct alignas(16) granule {
    ck_u4 words;
} granule;

/* Keys or values of a piece: row t is that of its token t. */
typedef struct cache_tile {
    granule *rows;
    uint32_t stride; /* granules of a row */
} cache_tile;

CK_DEV uint32_t tile_stride(uint32_t dim) { return dim / GRANULE | 1u; }
/* The columns from `first` on. */
CK_DEV cache_tile from_column(const cache_tile &t, uint32_t first) {
    return {t.rows + first / GRANULE, t.stride};
}

/* Positions begin .. end - 1. */
typedef struct span {
    uint32_t begin, end;
} span;

CK_DEV bool sees(span s, uint32_t pos) { return pos >= s.begin && pos < s.end; }
CK_DEV bool sees_some(span s, uint32_t piece) {
    return s.begin < (piece + 1) * PIECE && s.end > piece * PIECE;
}
CK_DEV bool sees_all(span s, uint32_t piece) {
    return s.begin <= piece * PIECE && s.end >= (piece + 1) * PIECE;
}

/* --- from the cache into shared memory -------------------- */

/* Blocks of the cache that a piece is in; of those that nobody sees the number is not known. */
typedef struct piece_blocks {
    uint32_t id[BLOCKS];
} piece_blocks;

CK_DEV piece_blocks blocks_of(const ck_kv &kv, uint32_t seat, uint32_t piece, span seen) {
    piece_blocks p;
#pragma unroll
    for (uint32_t b = 0; b < BLOCKS; b++) {
        const uint32_t idx = piece * BLOCKS + b, first = idx * BLOCK_TOKENS;
        const bool wanted = first < seen.end && first + BLOCK_TOKENS > seen.begin;
        p.id[b] = wanted ? kv_block_of(kv, seat, idx) : 0;
    }
    return p;
}

/* What a thread has of a piece of rows, UNIT elements together: 16 bytes, or 8 of Q4, in the first
 * two words. */
template <ck_kv_type TYPE, uint32_t DIM> struct staged {
    typedef prompt_shape<TYPE, DIM> shape;
    ck_u4 words[shape::ROUNDS][shape::UNITS];
    uint16_t scales[shape::ROUNDS][shape::UNITS]; /* of codes */
};
/* Its token of a round, and the first of its elements. */
template <typename shape> CK_DEV uint32_t own_token(uint32_t round) {
    return round * shape::AT_ONCE + ck_tid / ROW_THREADS;
}
template <typename shape> CK_DEV uint32_t own_element(uint32_t i) {
    return ck_tid % ROW_THREADS * shape::UNIT + i * (shape::UNIT * ROW_THREADS);
}
/* In the block of the cache with that token its row. */
template <typename shape> CK_DEV uint32_t own_row() {
    const uint32_t t = ck_tid / ROW_THREADS;
    return shape::ROUNDS > 1 ? t : t % BLOCK_TOKENS;
}
/* The block of the cache with that token: a round has one, or all. */
template <typename shape> CK_DEV uint32_t own_block(const piece_blocks &at, uint32_t round) {
    if (shape::ROUNDS > 1) return at.id[round];
    return ck_tid / ROW_THREADS < BLOCK_TOKENS ? at.id[0] : at.id[1];
}

template <ck_kv_type TYPE> CK_DEV ck_u4 load_words(const kv_row &row, uint32_t e) {
    const void *at = (const void *)(row.at + (uint32_t)kv_bytes_of(TYPE, e));
    if (TYPE != CK_KV_Q4) return ck_ld16(at);
    const uint64_t both = ck_ld((const uint64_t *)at);
    return {(uint32_t)both, (uint32_t)(both >> 32), 0, 0};
}

/* Where the head's keys, or its values, are: rows of `dim` elements. */
struct cache_keys {
    CK_DEV uint64_t at(const ck_kv &kv, uint32_t block, uint32_t head) {
        return kv_keys_at(kv, block, head);
    }
    CK_DEV uint32_t dim(const ck_kv &kv) { return kv.key_dim; }
};
struct cache_values {
    CK_DEV uint64_t at(const ck_kv &kv, uint32_t block, uint32_t head) {
        return kv_values_at(kv, block, head);
    }
    CK_DEV uint32_t dim(const ck_kv &kv) { return kv.value_dim; }
};

/* Of tokens that nobody of the tile sees: 0. */
template <typename part, ck_kv_type TYPE, uint32_t DIM>
CK_DEV void load_piece(staged<TYPE, DIM> &s, const ck_kv &kv, uint32_t head, const piece_blocks &at,
                       uint32_t piece, span seen) {
    typedef prompt_shape<TYPE, DIM> shape;
#pragma unroll
    for (uint32_t b = 0; b < shape::ROUNDS; b++) {
        const uint32_t t = own_token<shape>(b);
        const uint64_t block = part::at(kv, own_block<shape>(at, b), head);
        const kv_row row = kv_row_of<TYPE>(block, part::dim(kv), own_row<shape>());
#pragma unroll
        for (uint32_t i = 0; i < shape::UNITS; i++) {
            const uint32_t e = own_element<shape>(i);
            const bool wanted = sees(seen, piece * PIECE + t) && e < part::dim(kv);
            s.words[b][i] = {0, 0, 0, 0};
            if (wanted) s.words[b][i] = load_words<TYPE>(row, e);
            if (kv_has_codes(TYPE)) {
                s.scales[b][i] = 0;
                if (wanted) s.scales[b][i] = ck_ld((const uint16_t *)row.scales + e / CK_KV_GROUP);
            }
        }
    }
}

/* --- codes -------------------- */

/* A unit's codes as bytes, 128 or of Q4 8 more than they are. */
template <ck_kv_type TYPE> CK_DEV ck_u4 bytes_of_codes(ck_u4 w) {
    if (TYPE == CK_KV_Q8)
        return {w.x ^ 0x80808080u, w.y ^ 0x80808080u, w.z ^ 0x80808080u, w.w ^ 0x80808080u};
    const uint32_t even[2] = {w.x & 0x0f0f0f0fu, w.y & 0x0f0f0f0fu},
                   odd[2] = {w.x >> 4 & 0x0f0f0f0fu, w.y >> 4 & 0x0f0f0f0fu};
    return {ck_bytes(even[0], odd[0], 0x5140), ck_bytes(even[0], odd[0], 0x7362),
            ck_bytes(even[1], odd[1], 0x5140), ck_bytes(even[1], odd[1], 0x7362)};
}

/* Those of a code of 0, and 1024 more, as two halves. */
template <ck_kv_type TYPE> CK_DEV uint32_t halves_of_zero() {
    return TYPE == CK_KV_Q8 ? 0x64806480u : 0x64086408u;
}
/* Are there codes whose number F16 does not reach?  127 * 516 and 8 * 8192 are more than 65504. */
template <ck_kv_type TYPE> CK_DEV bool is_large(float scale) {
    return ck_abs(scale) > (TYPE == CK_KV_Q8 ? 515.0f : 8188.0f);
}

/* Infinities become the largest numbers; what is no number stays that. */
CK_DEV uint32_t largest_for_infinite(uint32_t both) {
    return both - (((both & 0x7c007c00u) + 0x04000400u) >> 15 & 0x00010001u);
}

/* Eight bytes as halves.  A byte below a high one of 0x64 is 1024 more as a half; what is left of
 * that is exact, and the product is rounded once. */
template <ck_kv_type TYPE>
CK_DEV ck_u4 granule_of_bytes(uint32_t low, uint32_t high, uint16_t scale) {
    const uint32_t of[4] = {ck_bytes(low, 0x64, 0x4140), ck_bytes(low, 0x64, 0x4342),
                            ck_bytes(high, 0x64, 0x4140), ck_bytes(high, 0x64, 0x4342)};
    uint32_t x[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        x[i] = ck_h2_mul(ck_h2_sub(of[i], halves_of_zero<TYPE>()), scale | (uint32_t)scale << 16);
    if (is_large<TYPE>(ck_h2f(scale)))
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) x[i] = largest_for_infinite(x[i]);
    return {x[0], x[1], x[2], x[3]};
}

CK_DEV bool is_finite(ck_u4 g) {
    return halves_are_finite(g.x) && halves_are_finite(g.y) && halves_are_finite(g.z) &&
           halves_are_finite(g.w);
}

/* Two granules of neighbours: half of the threads begin with the second, so that 8 of them write
 * to different banks. */
template <ck_kv_type TYPE> CK_DEV bool put_codes(granule *at, ck_u4 codes, uint16_t scale) {
    const bool second = ck_tid % ROW_THREADS >= ROW_THREADS / 2;
    const ck_u4 of = bytes_of_codes<TYPE>(codes);
    const ck_u4 a = granule_of_bytes<TYPE>(of.x, of.y, scale);
    const ck_u4 b = granule_of_bytes<TYPE>(of.z, of.w, scale);
    ck_put16(at + (second ? 1 : 0), second ? b : a);
    ck_put16(at + (second ? 0 : 1), second ? a : b);
    return is_finite(a) && is_finite(b);
}

/* Are all numbers of this thread finite? */
template <ck_kv_type TYPE, uint32_t DIM>
CK_DEV bool put_piece(const staged<TYPE, DIM> &s, uint32_t dim, const cache_tile &to) {
    typedef prompt_shape<TYPE, DIM> shape;
    bool finite = true;
#pragma unroll
    for (uint32_t b = 0; b < shape::ROUNDS; b++)
#pragma unroll
        for (uint32_t i = 0; i < shape::UNITS; i++) {
            const uint32_t e = own_element<shape>(i);
            if (e >= dim) continue;
            granule *at = to.rows + own_token<shape>(b) * to.stride + e / GRANULE;
            if (kv_has_codes(TYPE)) {
                finite &= put_codes<TYPE>(at, s.words[b][i], s.scales[b][i]);
            } else {
                ck_put16(at, s.words[b][i]);
                finite &= is_finite(s.words[b][i]);
            }
        }
    return finite;
}

#endif
