/* logprobs.cu - log-probabilities of a drawn token and of the largest logits of its row, as
 * tensor/sample.h says: 168 bytes go to the host instead of the row.
 *
 * One block does a row, as in sample.cu.  A pass finds the largest logit of each thread's columns,
 * and whether there is a NaN; another one adds up the weights, as integers.  Then, for each of the
 * largest that are wanted, the block takes the largest that its threads have, and the warp of the
 * thread it came from looks for that thread's next one, which is all that changes: a logit and its
 * id are one number (rank.h), no two are alike, so what is next is what is largest below it.
 *
 * Of 128,000 logits the passes take some 8,000 and 30,000 clocks, and each of the largest some
 * 1,000: 30 microseconds in all on an H100.  (Estimated, not measured.) */
#include "rank.h"

#include "ck_math.h"
#include "tensor/sample.h"

enum { THREADS = 1024, WARPS = 32, EACH = 8 };
static_assert((int)WARPS == 32, "a lane looks at the part of each warp");

struct row {
    const float *x;
    uint32_t cols;
};

/* --- over the warp and the block, in all threads -------------------- */

CK_DEV uint64_t swapped(uint64_t v, unsigned mask) {
    const uint32_t high = ck_shfl_xor((uint32_t)(v >> 32), mask);
    return (uint64_t)high << 32 | ck_shfl_xor((uint32_t)v, mask);
}

CK_DEV uint64_t warp_largest(uint64_t v) {
    for (unsigned m = 16; m > 0; m >>= 1) v = rank_larger(v, swapped(v, m));
    return v;
}

CK_DEV uint64_t warp_total(uint64_t v) {
    for (unsigned m = 16; m > 0; m >>= 1) v += swapped(v, m);
    return v;
}

/* The warp's value, to where all lanes read one; part [WARPS]. */
CK_DEV uint64_t shared_part(uint64_t v, uint64_t *part) {
    ck_sync(); /* `part` may still be read */
    if (ck_lane() == 0) part[ck_warp()] = v;
    ck_sync();
    return part[ck_lane()];
}

CK_DEV uint64_t block_largest(uint64_t v, uint64_t *part) {
    return warp_largest(shared_part(warp_largest(v), part));
}

CK_DEV uint64_t block_total(uint64_t v, uint64_t *part) {
    return warp_total(shared_part(warp_total(v), part));
}

/* --- passes over the row -------------------- */

/* EACH logits per thread; behind the end of the row is what no pass looks at. */
CK_DEV void load(const row &w, uint32_t first, float *v) {
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) {
        const uint32_t c = first + i * THREADS;
        v[i] = c < w.cols ? ck_ld(w.x + c) : -CK_INFINITY;
    }
}

/* Of the thread's columns; *nans counts what is none. */
CK_DEV uint64_t largest_of(const row &w, uint64_t *nans) {
    uint64_t best = 0;
    for (uint32_t first = ck_tid; first < w.cols; first += THREADS * EACH) {
        float v[EACH];
        load(w, first, v);
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++) {
            const uint32_t c = first + i * THREADS;
            *nans += v[i] != v[i];
            if (c < w.cols) best = rank_larger(best, rank_of(v[i], c));
        }
    }
    return best;
}

/* The largest of a thread's columns that is below one of them, by the whole warp. */
CK_DEV uint64_t next_of(const row &w, uint32_t thread, uint64_t below) {
    uint64_t best = 0;
    for (uint32_t c = thread + ck_lane() * THREADS; c < w.cols; c += 32 * THREADS) {
        const uint64_t rank = rank_of(ck_ld(w.x + c), c);
        if (rank < below) best = rank_larger(best, rank);
    }
    return warp_largest(best);
}

/* Of the thread's columns; largest is finite. */
CK_DEV uint64_t weight_of(const row &w, float largest) {
    uint64_t weight = 0;
    for (uint32_t first = ck_tid; first < w.cols; first += THREADS * EACH) {
        float v[EACH];
        load(w, first, v);
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++) {
            const uint32_t distance = sample_distance(largest, v[i], 1.0f);
            if (distance != SAMPLE_FAR) weight += sample_weight(distance);
        }
    }
    return weight;
}

/* --- the whole -------------------- */

/* log(all weights / SAMPLE_ONE); the largest logit's own is SAMPLE_ONE. */
CK_DEV float log_of(uint64_t weights) {
    return ck_log1p(ck_mul((float)(weights - SAMPLE_ONE), 0x1p-42f));
}

/* Thread n has the id of the n-th largest then; the others have 0. */
CK_DEV uint32_t top_of(const row &w, uint64_t mine, uint32_t count, uint64_t *part) {
    uint32_t id = 0;
#pragma unroll 1
    for (uint32_t n = 0; n < count; n++) {
        const uint64_t top = block_largest(mine, part);
        const uint32_t top_id = rank_id(top), from = top_id % THREADS;
        if (ck_tid == n) id = top_id;
        if (from / 32 != ck_warp()) continue;
        const uint64_t next = next_of(w, from, top);
        if (ck_tid == from) mine = next;
    }
    return id;
}

CK_KERNEL(k_logprobs, 1024) {
    CK_SHARED(uint64_t, part, WARPS);
    const uint32_t r = ck_bid_x;
    if (r >= ck_ld((const uint32_t *)a.count)) return;
    const uint32_t wanted = ck_ld(&((const sample_rule *)a.rules + r)->logprobs);
    if (wanted == 0) return;
    const row w = {(const float *)a.x + (uint64_t)r * a.cols, a.cols};
    sample_logprobs *out = (sample_logprobs *)a.out + r;
    uint64_t nans = 0;
    const uint64_t mine = largest_of(w, &nans);
    const float largest = ck_ld(w.x + rank_id(block_largest(mine, part)));
    const bool is_sound = block_total(nans, part) == 0 && largest - largest == 0;
    /* NaN, where it is not: whatever is taken away from it is, too */
    const float from = is_sound ? largest : ck_u2f(0x7fc00000u);
    const float all = is_sound ? log_of(block_total(weight_of(w, largest), part)) : 0;
    const uint32_t count = ck_min_u(wanted - 1, w.cols), id = top_of(w, mine, count, part);
    if (ck_tid == 0) {
        const uint32_t drawn = ck_ld((const uint32_t *)a.drawn + r);
        ck_st(&out->drawn, (ck_ld(w.x + drawn) - from) - all);
        ck_st(&out->top_count, count);
    }
    if (ck_tid >= SAMPLE_TOP_MAX) return;
    ck_st(&out->top_ids[ck_tid], id);
    ck_st(&out->top[ck_tid], ck_tid < count ? (ck_ld(w.x + id) - from) - all : 0);
}
