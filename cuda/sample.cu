/* sample.cu - a token drawn from a row of logits, as tensor/sample.h says and as the host's sampler
 * does it, to the bit: 4 bytes go to the host instead of the row.
 *
 * One block does a row, in a few passes over it: find the largest logit that is allowed; make all
 * logits distances and weigh them into 2048 bins; then, for each place in the order that is looked
 * for (the end of top_k, that of top_p, the drawn one), split the bin it is in by the next digit
 * until one candidate is left, which the second or third digit nearly always does.  The first bins
 * serve all searches.
 *
 * Distances take the place of logits.  Where these are wanted afterwards, for log-probabilities
 * (logprobs.cu), they stay, each split measures anew, and what was changed is put back at the end.
 *
 * Why one block: it needs no partial results in memory, no tickets and no second launch, whatever
 * the logits are.  A row of 128,000 logits comes from L2, which gives an SM some 64 bytes a clock:
 * 8,000 clocks for each pass, and about 30,000 for the one with weights at 30 instructions a logit,
 * 50 microseconds in all on an H100, where a step of an 8B model takes 2,000.  Rows of a batch have
 * their blocks side by side.  (Estimated, not measured.) */
#include "rank.h"

#include "tensor/sample.h"

enum { THREADS = 1024, WARPS = 32, EACH = 8 };
static const uint32_t NOBODY = 0xffffffffu; /* the id of rank 0, which no logit has */
static_assert((int)SAMPLE_CHANGES_MAX <= (int)THREADS, "a thread has one change at most");

/* A bin's weight is in two halves: additions of 32 bits are what shared memory is good at. */
struct bins {
    uint32_t *low, *high, *count;
    uint32_t *id; /* sums of ids: of one candidate it is its id; or NULL */
};

/* Looked for: the first at which the count, or the weight, from the beginning on is `need`. */
struct search {
    bool by_count;
    uint64_t need;   /* still to be reached */
    uint64_t weight; /* passed; at the end the found one's is in it */
    uint32_t id;     /* the found one */
};

/* What a search found in some bins, in shared memory. */
struct found {
    uint64_t need, before, weight;
    uint32_t bin, count;
};

/* --- sums over the block -------------------- */

CK_DEV uint64_t shuffled(uint64_t v, unsigned lane) {
    const uint32_t high = ck_shfl((uint32_t)(v >> 32), lane), low = ck_shfl((uint32_t)v, lane);
    return (uint64_t)high << 32 | low;
}

/* The sum of the threads up to and with this one; part [WARPS]. */
CK_DEV uint64_t sum_so_far(uint64_t v, uint64_t *part) {
    const unsigned lane = ck_lane();
    for (unsigned step = 1; step < 32; step *= 2) {
        const uint64_t other = shuffled(v, lane >= step ? lane - step : lane);
        if (lane >= step) v += other;
    }
    ck_sync(); /* `part` may still be read */
    if (lane == 31) part[ck_warp()] = v;
    ck_sync();
    for (unsigned w = 0; w < ck_warp(); w++) v += part[w];
    return v;
}

CK_DEV uint64_t sum_of_all(uint64_t v, uint64_t *part) {
    (void)sum_so_far(v, part);
    uint64_t all = 0; /* the last warp's part is its own sum, not the one so far */
    for (unsigned w = 0; w < WARPS; w++) all += part[w];
    return all;
}

/* --- bins -------------------- */

CK_DEV void bins_clear(const bins &b, uint32_t count) {
    for (uint32_t i = ck_tid; i < count; i += THREADS) {
        b.low[i] = b.high[i] = b.count[i] = 0;
        if (b.id) b.id[i] = 0;
    }
}

CK_DEV void bins_add(const bins &b, uint32_t i, uint64_t weight, uint32_t id) {
    const uint32_t low = (uint32_t)weight, sum = ck_shared_add(b.low + i, low) + low;
    const uint32_t high = (uint32_t)(weight >> 32) + (sum < low);
    if (high != 0) (void)ck_shared_add(b.high + i, high);
    (void)ck_shared_add(b.count + i, 1);
    if (b.id) (void)ck_shared_add(b.id + i, id);
}

/* The bin in which the need is reached, to *f.  What is before it counts as passed. */
CK_DEV void bins_find(const bins &b, uint32_t count, search *s, uint64_t *part, found *f) {
    const uint32_t each = count / THREADS, first = ck_tid * each;
    uint64_t has = 0, weight = 0;
    for (uint32_t i = first; i < first + each; i++) {
        const uint64_t w = (uint64_t)b.high[i] << 32 | b.low[i];
        weight += w;
        has += s->by_count ? b.count[i] : w;
    }
    uint64_t end = sum_so_far(has, part);
    uint64_t before = s->by_count ? sum_so_far(weight, part) - weight : end - has;
    if (end - has < s->need && s->need <= end) { /* one thread's */
        uint64_t need = s->need - (end - has), w = 0, n = 0;
        uint32_t i = first;
        for (;; i++) {
            w = (uint64_t)b.high[i] << 32 | b.low[i];
            n = s->by_count ? b.count[i] : w;
            if (need <= n || i + 1 == first + each) break;
            need -= n;
            before += w;
        }
        f->need = need;
        f->before = before;
        f->weight = w;
        f->bin = i;
        f->count = b.count[i];
    }
    ck_sync();
    s->need = f->need;
    s->weight += f->before;
}

/* --- passes over the row -------------------- */

/* was [THREADS]: the logits as they were. */
CK_DEV void change(float *x, const k_sample_args &a, const sample_rule &r, float *was) {
    if (ck_tid < r.changes_count) {
        const ck_u4 c = ck_ld16((const sample_change *)a.changes + r.changes_at + ck_tid);
        const float logit = ck_ld(x + c.x);
        was[ck_tid] = logit;
        ck_st(x + c.x, sample_changed(logit, ck_u2f(c.y), ck_u2f(c.z), c.w, r.repetition));
    }
    ck_sync();
}

CK_DEV void change_back(float *x, const k_sample_args &a, const sample_rule &r, const float *was) {
    if (ck_tid >= r.changes_count) return;
    const sample_change *c = (const sample_change *)a.changes + r.changes_at + ck_tid;
    ck_st(x + ck_ld(&c->id), was[ck_tid]);
}

/* Fills EACH of the row's logits per thread; behind its end is what no pass looks at. */
CK_DEV void load(const float *x, uint32_t first, uint32_t cols, float *v) {
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) {
        const uint32_t c = first + i * THREADS;
        v[i] = c < cols ? ck_ld(x + c) : ck_u2f(SAMPLE_FAR); /* as a logit it is NaN */
    }
}

struct row {
    float *x; /* distances; or, where it keeps them, logits */
    uint32_t cols;
    bool keeps;
    const uint64_t *mask; /* where it is, in shared memory, as registers are short; or 0 */
    const float *from; /* what logits are measured by, in shared memory: the largest, temperature */
    bins first, more;
    uint64_t *part;
    found *f;
};

/* Is the column one of the row's, and may its token come out?  A warp looks at one word of the
 * mask. */
CK_DEV bool is_allowed(const row &w, uint32_t c) {
    const uint32_t *mask = (const uint32_t *)*w.mask;
    return c < w.cols && (!mask || sample_is_in(ck_ld(mask + c / 32), c));
}
/* Bit i: that of column first + i * THREADS. */
CK_DEV uint32_t allowed_bits(const row &w, uint32_t first) {
    uint32_t bits = 0;
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++)
        if (is_allowed(w, first + i * THREADS)) bits |= 1u << i;
    return bits;
}

/* The largest that is allowed, in all threads; NOBODY: none is. */
CK_DEV uint32_t largest_of(const row &w, uint32_t *id) {
    uint64_t best = 0;
    for (uint32_t first = ck_tid; first < w.cols; first += THREADS * EACH) {
        const uint32_t bits = allowed_bits(w, first);
        float v[EACH];
        load(w.x, first, w.cols, v);
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++)
            if (bits >> i & 1) best = rank_larger(best, rank_of(v[i], first + i * THREADS));
    }
    best = rank_block(best, w.part, WARPS);
    if (ck_tid == 0) *id = rank_id(best);
    ck_sync();
    return *id;
}

/* Logits become distances; all candidates go into their bins.  Weight of those within min_p. */
CK_DEV uint64_t measure(const row &w, uint32_t min_p) {
    const float largest = w.from[0], temperature = w.from[1];
    uint64_t within = 0;
    for (uint32_t first = ck_tid; first < w.cols; first += THREADS * EACH) {
        const uint32_t bits = allowed_bits(w, first);
        float v[EACH];
        load(w.x, first, w.cols, v);
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++) {
            const uint32_t c = first + i * THREADS;
            uint32_t distance = sample_distance(largest, v[i], temperature);
            if ((bits >> i & 1) == 0) distance = SAMPLE_FAR;
            if (c < w.cols && !w.keeps) ck_st(w.x + c, ck_u2f(distance));
            if (distance == SAMPLE_FAR) continue;
            const uint64_t weight = sample_weight(distance);
            if (distance <= min_p) within += weight;
            bins_add(w.first, (uint32_t)(sample_place(distance, c) >> SAMPLE_FIRST_SHIFT), weight,
                     c);
        }
    }
    return within;
}

/* The same again, of EACH logits; also of those that are not allowed. */
CK_DEV void measure_again(const row &w, float *v) {
    const float largest = w.from[0], temperature = w.from[1];
#pragma unroll
    for (uint32_t i = 0; i < EACH; i++) v[i] = ck_u2f(sample_distance(largest, v[i], temperature));
}

/* The bins of the next digit, of candidates that begin like `digits`. */
CK_DEV void split(const row &w, uint64_t digits, uint32_t shift) {
    const bins &b = w.more;
    bins_clear(b, SAMPLE_MORE_BINS);
    ck_sync();
    for (uint32_t first = ck_tid; first < w.cols; first += THREADS * EACH) {
        float v[EACH];
        load(w.x, first, w.cols, v);
        if (w.keeps) measure_again(w, v);
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++) {
            const uint32_t c = first + i * THREADS, distance = ck_f2u(v[i]);
            const uint64_t place = sample_place(distance, c);
            if (place >> (shift + SAMPLE_MORE_BITS) == digits && is_allowed(w, c))
                bins_add(b, (uint32_t)(place >> shift) % SAMPLE_MORE_BINS, sample_weight(distance),
                         c);
        }
    }
    ck_sync();
}

/* --- the whole -------------------- */

/* By the whole block; s->need can be reached.  Whose id nobody wants need not be split down to. */
CK_DEV void find(const row &w, search *s, bool wants_id) {
    bins_find(w.first, SAMPLE_FIRST_BINS, s, w.part, w.f);
    uint64_t digits = w.f->bin;
    uint32_t shift = SAMPLE_FIRST_SHIFT;
    while (w.f->count > 1 || (wants_id && shift == SAMPLE_FIRST_SHIFT)) {
        shift -= SAMPLE_MORE_BITS;
        split(w, digits, shift);
        bins_find(w.more, SAMPLE_MORE_BINS, s, w.part, w.f);
        digits = digits << SAMPLE_MORE_BITS | w.f->bin;
    }
    s->weight += w.f->weight;
    s->id = wants_id ? w.more.id[w.f->bin] : 0;
    ck_sync(); /* bins and *f are for the next search */
}

/* One after the other, each in what the one before leaves. */
enum { TOP_K, TOP_P, DRAWN };

CK_DEV uint64_t need_of(uint32_t what, const sample_rule &r, uint64_t kept) {
    if (what == TOP_K) return r.top_k;
    return what == TOP_P ? sample_top_p_need(r.top_p, kept) : sample_drawn_need(r.random, kept);
}

/* The largest logit is finite. */
CK_DEV uint32_t draw(const row &w, const sample_rule &r) {
    bins_clear(w.first, SAMPLE_FIRST_BINS);
    ck_sync();
    const uint64_t some = measure(w, r.min_p);
    ck_sync();
    uint64_t weight = 0, count = 0;
    for (uint32_t i = ck_tid; i < SAMPLE_FIRST_BINS; i += THREADS) {
        weight += (uint64_t)w.first.high[i] << 32 | w.first.low[i];
        count += w.first.count[i];
    }
    uint64_t kept = sum_of_all(weight, w.part);
    count = sum_of_all(count, w.part);
    const uint64_t within = sum_of_all(some, w.part);
    uint32_t id = 0;
#pragma unroll 1
    for (uint32_t what = TOP_K; what <= DRAWN; what++) {
        if (what == TOP_K && r.top_k >= count) continue;
        if (what == TOP_P && r.top_p == SAMPLE_TOP_P_ALL) continue;
        if (what == DRAWN && within < kept) kept = within;
        search s = {what == TOP_K, need_of(what, r, kept), 0, 0};
        find(w, &s, what == DRAWN);
        kept = s.weight;
        id = s.id;
    }
    return id;
}

CK_DEV sample_rule rule_of(const k_sample_args &a) {
    const sample_rule *at = (const sample_rule *)a.rules + ck_bid_x;
    sample_rule r;
    r.random = ck_ld(&at->random);
    r.top_p = ck_ld(&at->top_p);
    r.top_k = ck_ld(&at->top_k);
    r.min_p = ck_ld(&at->min_p);
    r.temperature = ck_ld(&at->temperature);
    r.repetition = ck_ld(&at->repetition);
    r.changes_at = ck_ld(&at->changes_at);
    r.changes_count = ck_ld(&at->changes_count);
    r.wanted = ck_ld(&at->wanted);
    r.logprobs = ck_ld(&at->logprobs);
    r.mask = ck_ld(&at->mask);
    return r;
}

CK_DEV uint64_t mask_of(const k_sample_args &a, const sample_rule &r) {
    if (r.mask == 0) return 0;
    return a.masks + (uint64_t)(r.mask - 1) * sample_mask_words(a.cols) * sizeof(uint32_t);
}

CK_KERNEL(k_sample, 1024) {
    CK_SHARED(uint32_t, first, 3 * SAMPLE_FIRST_BINS);
    CK_SHARED(uint32_t, more, 4 * SAMPLE_MORE_BINS);
    CK_SHARED(uint64_t, part, WARPS);
    CK_SHARED(found, f, 1);
    CK_SHARED(uint32_t, best, 1);
    CK_SHARED(float, was, THREADS);
    CK_SHARED(float, from, 2);
    CK_SHARED(uint64_t, mask, 1);
    if (ck_bid_x >= ck_ld((const uint32_t *)a.count)) return;
    const sample_rule r = rule_of(a);
    if (r.wanted == 0) return;
    const row w = {
        (float *)a.x + (uint64_t)ck_bid_x * a.cols,
        a.cols,
        r.logprobs != 0,
        mask,
        from,
        {first, first + SAMPLE_FIRST_BINS, first + 2 * SAMPLE_FIRST_BINS, nullptr},
        {more, more + SAMPLE_MORE_BINS, more + 2 * SAMPLE_MORE_BINS, more + 3 * SAMPLE_MORE_BINS},
        part,
        f};
    if (ck_tid == 0) *mask = mask_of(a, r);
    change(w.x, a, r, was); /* and all wait for the mask */
    uint32_t id = largest_of(w, best);
    const bool nobody = id == NOBODY;
    if (nobody) id = 0;
    const float largest = ck_ld(w.x + id);
    const bool is_greedy =
        r.temperature == 0 || r.top_k == 1 || nobody || !(largest - largest == 0);
    if (ck_tid == 0) {
        from[0] = largest;
        from[1] = r.temperature;
    }
    ck_sync(); /* the largest logit is about to become a distance, or what it was */
    if (!is_greedy) id = draw(w, r);
    if (w.keeps) change_back(w.x, a, r, was);
    if (ck_tid == 0) ck_st((uint32_t *)a.out + ck_bid_x, id);
}
