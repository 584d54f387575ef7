/* group.cu - the pairs of a row and an expert that it uses, sorted by expert.
 *
 * A counting sort without a word between blocks: there is one for each expert, and every one of
 * them counts the pairs of all experts, so it knows where its own begin.  Its warps have a piece of
 * the pairs each, and look at it twice: first to count, then to write.  So the lists are the same
 * whoever comes first. */
#include "ck.h"

enum { THREADS = 256, WARPS = THREADS / 32 };

/* Pairs in the step's order, those of `first` .. `end` - 1. */
typedef struct group_span {
    uint32_t first, end;
} group_span;

CK_DEV uint32_t expert_of(const k_group_args &a, uint32_t pair) {
    const uint64_t row = pair / a.used;
    return (uint32_t)ck_ld((const float *)a.routed + row * 2 * a.used + pair % a.used);
}

/* This warp's piece, in whole rounds of 32. */
CK_DEV group_span piece_of(const k_group_args &a) {
    const uint32_t first = a.first != 0 ? ck_ld((const uint32_t *)a.first) * a.used : 0;
    const uint32_t end = ck_ld((const uint32_t *)a.end) * a.used;
    const uint32_t rounds = (end - first + THREADS - 1) / THREADS;
    const uint32_t from = first + ck_warp() * rounds * 32, to = from + rounds * 32;
    return {from < end ? from : end, to < end ? to : end};
}

/* Adds the piece to `counts`; how many of it are the block's. */
CK_DEV uint32_t count_piece(const k_group_args &a, group_span piece, uint32_t *counts) {
    uint32_t own = 0;
    for (uint32_t i = piece.first; i < piece.end; i += 32) {
        const bool there = i + ck_lane() < piece.end;
        const uint32_t expert = there ? expert_of(a, i + ck_lane()) : a.experts;
        if (there) (void)ck_shared_add(&counts[expert], 1);
        own += ck_popc(ck_ballot(expert == ck_bid_x));
    }
    return own;
}

/* The block's pairs of the piece, from place `at` of the list on. */
CK_DEV void write_piece(const k_group_args &a, group_span piece, uint32_t at) {
    const uint32_t before = (1u << ck_lane()) - 1;
    for (uint32_t i = piece.first; i < piece.end; i += 32) {
        const uint32_t pair = i + ck_lane();
        const bool own = pair < piece.end && expert_of(a, pair) == ck_bid_x;
        const uint32_t owners = ck_ballot(own);
        if (own) ck_st((uint32_t *)a.pairs + at + ck_popc(owners & before), pair);
        at += ck_popc(owners);
    }
}

CK_DEV uint32_t tiles_of(const k_group_args &a, uint32_t pairs) {
    return (pairs + a.tile - 1) / a.tile;
}

/* Pairs, and tiles, of the experts before this one; the same in all threads. */
typedef struct group_before {
    uint32_t pairs, tiles;
} group_before;

CK_DEV group_before before_of(const k_group_args &a, const uint32_t *counts) {
    uint32_t pairs = 0, tiles = 0;
    for (uint32_t e = ck_lane(); e < ck_bid_x; e += 32) {
        pairs += counts[e];
        tiles += tiles_of(a, counts[e]);
    }
    return {(uint32_t)ck_warp_sum_i((int)pairs), (uint32_t)ck_warp_sum_i((int)tiles)};
}

CK_DEV void write_tiles(const k_group_args &a, group_before before, uint32_t own) {
    const uint32_t tiles = tiles_of(a, own);
    for (uint32_t i = ck_tid; i < tiles; i += THREADS) {
        uint32_t *tile = (uint32_t *)a.tiles + (uint64_t)(before.tiles + i) * 3;
        const uint32_t left = own - i * a.tile;
        ck_st(tile, ck_bid_x);
        ck_st(tile + 1, before.pairs + i * a.tile);
        ck_st(tile + 2, left < a.tile ? left : a.tile);
    }
    if (ck_bid_x + 1 == a.experts && ck_tid == 0)
        ck_st((uint32_t *)a.tiles_count, before.tiles + tiles);
}

CK_KERNEL(k_group, THREADS) {
    CK_SHARED(uint32_t, counts, CK_EXPERTS_MAX);
    CK_SHARED(uint32_t, of_warp, WARPS);
    for (uint32_t e = ck_tid; e < a.experts; e += THREADS) counts[e] = 0;
    ck_sync();
    const group_span piece = piece_of(a);
    const uint32_t in_piece = count_piece(a, piece, counts);
    if (ck_lane() == 0) of_warp[ck_warp()] = in_piece;
    ck_sync();
    const group_before before = before_of(a, counts);
    uint32_t at = before.pairs;
    for (uint32_t w = 0; w < ck_warp(); w++) at += of_warp[w];
    write_piece(a, piece, at);
    write_tiles(a, before, counts[ck_bid_x]);
}
