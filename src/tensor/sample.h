/* sample.h - what it means to draw a token from a row of logits, said once for the host's sampler
 * and for cuda/sample.cu: which token comes out never depends on where it was drawn.
 *
 * What is said of a drawn token besides, when it is asked for, are log-probabilities: they decide
 * nothing, and are below.
 *
 * Everything that decides is an operation whose result IEEE 754 fixes, or one of integers:
 *
 *   logits      sample_changed() of those that have a sample_change: bias, penalties, bans
 *   allowed     where there is a mask, the tokens in it; all below is about these, as if there were
 *               no others: none of those is the largest or a candidate, whatever its logit is
 *   greedy      temperature 0, top_k 1 or a largest logit that is not finite: the one that stands
 *               first (best.h), and nothing below applies
 *   distance    of a token: (largest logit - its logit) / temperature in units of 2^-26, cut off
 *   candidates  tokens whose distance is below SAMPLE_REACH, the largest logit's among them; in
 *               their order the smaller distance goes first, then the smaller id
 *   weight      SAMPLE_ONE * e^-distance as an integer >= 1, so that sums do not depend on order
 *   kept        the first candidates, as many as each of these leaves:
 *               top_k   so many
 *               top_p   the fewest whose weights reach that share of the weights top_k leaves
 *               min_p   those at most that far away
 *   drawn       the first whose weight and all before it exceed floor(random * kept / 2^64)
 *
 * All three limits keep a beginning of one order, so the kept are told by the sum of their weights.
 * Against softmax in exact arithmetic a probability is off by some 2e-8 of itself, plus 2^-42 of
 * the largest one; and by the roundings of the difference and the quotient, 2^-23 of the distance.
 *
 * Bans lower what is allowed to -inf.  If that leaves nothing finite, the first of the allowed ones
 * comes out, banned though it is: of those at -inf the smallest id.  So a ban gives way to a mask.
 * Of a mask that allows nothing token 0 comes out; whoever makes masks refuses such a one.
 *
 * Shared by C and by device code, which includes ck.h before this. */
#ifndef TENSOR_SAMPLE_H
#define TENSOR_SAMPLE_H

#include <stdint.h>

#ifdef CUDA_CK_H
#define SAMPLE_FN        CK_DEV
#define SAMPLE_MUL(a, b) ck_mul((a), (b))
#else
#define SAMPLE_FN static inline
#define SAMPLE_MUL(a, b) \
    ((a) * (b)) /* no compiler joins it with the sum behind: FLOAT in Makefile */
#endif

/* --- what the logits of single tokens get -------------------- */

enum { SAMPLE_REPEATED = 1, SAMPLE_BANNED = 2 };

/* Of one token; no token twice in a list. */
typedef struct sample_change {
    uint32_t id; /* in the vocabulary */
    float bias;  /* added first */
    float minus; /* presence and frequency, taken away last */
    uint32_t flags;
} sample_change;

/* Repetition divides what is above 0 and multiplies the rest: Keskar et al. 2019 (CTRL). */
SAMPLE_FN float sample_changed(float logit, float bias, float minus, uint32_t flags,
                               float repetition) {
    float x = logit + bias;
    if ((flags & SAMPLE_REPEATED) != 0) x = x > 0 ? x / repetition : SAMPLE_MUL(x, repetition);
    x = x - minus;
    return (flags & SAMPLE_BANNED) != 0 ? -__builtin_inff() : x;
}

/* --- what decides a draw -------------------- */

enum {
    SAMPLE_CHANGES_MAX = 1024,       /* of a row that a device draws from */
    SAMPLE_STEP_CHANGES_MAX = 65536, /* of all rows of a step: 1 MiB */
    SAMPLE_ID_BITS = 20,
    SAMPLE_VOCAB_MAX = 1 << SAMPLE_ID_BITS, /* so that weights add up to less than 2^63, too */
};

#define SAMPLE_ONE       (1ull << 42) /* weight of the largest logit */
#define SAMPLE_FAR       0xffffffffu  /* distance of what is no candidate */
#define SAMPLE_REACH     29.0f        /* where weights are just above 1 */
#define SAMPLE_TOP_P_ALL 0xffffffffffffffffull

/* The same bytes on the host and on a device. */
typedef struct sample_rule {
    uint64_t random;     /* evenly in 0 .. 2^64 - 1 */
    uint64_t top_p;      /* the share, in units of 2^-64; SAMPLE_TOP_P_ALL: no limit */
    uint32_t top_k;      /* UINT32_MAX: no limit; never 0 */
    uint32_t min_p;      /* the distance -log(min_p); SAMPLE_FAR: no limit */
    float temperature;   /* >= 0 */
    float repetition;    /* penalty */
    uint32_t changes_at; /* its first one in a list for several rows */
    uint32_t changes_count;
    uint32_t wanted;   /* 0: nothing is drawn from this row, all the rest is 0 */
    uint32_t logprobs; /* 0: none are wanted; else 1 + how many of the largest logits, too */
    uint32_t mask;     /* 0: all tokens are allowed; else 1 + its mask's place in a list for several
                          rows */
    uint32_t pad;      /* 0 */
} sample_rule;

/* A bit for each token of the vocabulary, that of token i in word i / 32, 1 << i % 32; those behind
 * the last token are 0. */
SAMPLE_FN uint32_t sample_mask_words(uint32_t vocab) { return vocab / 32 + (vocab % 32 != 0); }
SAMPLE_FN uint32_t sample_is_in(uint32_t word, uint32_t id) { return word >> id % 32 & 1; }

/* One row's, on the host. */
typedef struct sample_order {
    sample_rule rule;             /* changes_at and mask 0 */
    const sample_change *changes; /* [rule.changes_count]; borrowed, like the next one */
    const uint32_t *allowed;      /* [sample_mask_words(vocabulary)] the mask; NULL: none */
} sample_order;

/* --- log-probabilities -------------------- */

enum { SAMPLE_TOP_MAX = 20 };

/* Natural logarithms of probabilities under softmax of the untouched logits: no bias, no penalty,
 * no ban, no temperature.  The same bytes on the host and on a device, which finds
 *
 *   (logit - largest) - log(sum of weights / SAMPLE_ONE)
 *
 * in f32, the weights being those of all distances at temperature 1, as integers: the sum, and so
 * every bit, is the same in whatever order it is made.  Against double precision that is off by
 * 1e-6 and 4e-7 of the value at most.  A NaN, or a largest logit that is not finite, makes all of
 * them NaN, as the sums in double do. */
typedef struct sample_logprobs {
    float drawn;                      /* of the drawn token */
    uint32_t top_count;               /* min(wanted, vocabulary) */
    uint32_t top_ids[SAMPLE_TOP_MAX]; /* in the order of best.h; behind top_count 0 */
    float top[SAMPLE_TOP_MAX];        /* theirs */
} sample_logprobs;

/* --- distances and weights -------------------- */

SAMPLE_FN uint32_t sample_units(float distance) {
    return distance < SAMPLE_REACH ? (uint32_t)(distance * 67108864.0f) : SAMPLE_FAR;
}

/* largest: of all logits, finite.  NaN and -inf are far. */
SAMPLE_FN uint32_t sample_distance(float largest, float logit, float temperature) {
    return sample_units((largest - logit) / temperature);
}

SAMPLE_FN uint32_t sample_high(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }

/* 2^-n * 2^-f of distance = (n + f) * ln 2, 0 <= f < 1.  2^-f = 1 - f (c0 - f (c1 - ...)) in 32
 * bits behind the point: (1 - 2^-f) / f interpolated at 7 Chebyshev nodes, good to 1.6e-9.
 * Never 0; the distance is not SAMPLE_FAR. */
SAMPLE_FN uint64_t sample_weight(uint32_t distance) {
    const uint64_t t = (uint64_t)distance * 3098164009u; /* log2(e) * 2^31: t has 57 bits behind */
    const uint32_t n = (uint32_t)(t >> 57), f = (uint32_t)(t >> 25);
    uint32_t p = 0x9c200u - sample_high(f, 0xbda6u);
    p = 0x5728b0u - sample_high(f, p);
    p = 0x27641a9u - sample_high(f, p);
    p = 0xe358127u - sample_high(f, p);
    p = 0x3d7f7bcbu - sample_high(f, p);
    p = 0xb17217f7u - sample_high(f, p);
    return ((1ull << 32) - sample_high(f, p)) << 10 >> n;
}

/* a * b / 2^64, rounded down; *rest is what that leaves, in units of 2^-64. */
SAMPLE_FN uint64_t sample_share(uint64_t a, uint64_t b, uint64_t *rest) {
    const uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    const uint64_t low = al * bl, mid = ah * bl + (low >> 32), mid2 = al * bh + (uint32_t)mid;
    *rest = mid2 << 32 | (uint32_t)low;
    return ah * bh + (mid >> 32) + (mid2 >> 32);
}

/* Weights that top_p wants of `kept`: rounded up, and at least the first candidate. */
SAMPLE_FN uint64_t sample_top_p_need(uint64_t top_p, uint64_t kept) {
    uint64_t rest = 0;
    const uint64_t need = sample_share(top_p, kept, &rest) + (rest != 0);
    return need > 0 ? need : 1;
}

/* What the drawn candidate and those before it reach: 1 .. kept. */
SAMPLE_FN uint64_t sample_drawn_need(uint64_t random, uint64_t kept) {
    uint64_t rest = 0;
    return sample_share(random, kept, &rest) + 1;
}

/* --- finding a place in the order -------------------- */

/* A candidate as a number, smaller ones first: 31 bits of distance, SAMPLE_ID_BITS of id.  Places
 * are found by histograms of digits: the first of 11 bits, 2^-6 of the exponent, then four of 10
 * bits each among candidates that are alike so far. */
enum { SAMPLE_FIRST_BITS = 11, SAMPLE_MORE_BITS = 10, SAMPLE_FIRST_SHIFT = 40 };
enum { SAMPLE_FIRST_BINS = 1 << SAMPLE_FIRST_BITS, SAMPLE_MORE_BINS = 1 << SAMPLE_MORE_BITS };

SAMPLE_FN uint64_t sample_place(uint32_t distance, uint32_t id) {
    return (uint64_t)distance << SAMPLE_ID_BITS | id;
}

#endif
