/* sample_rig.c - see sample_rig.h. */
#include "cudasim/sample_rig.h"

#include <math.h>
#include <string.h>

/* --- what is asked for -------------------- */

uint32_t *sample_mask(uint32_t cols, bool none) {
    uint32_t *mask = rig_buffer(sample_mask_words(cols) * sizeof *mask);
    const uint32_t shares[] = {2, 3, 50, cols + 1}, share = shares[rig_random(4)];
    const bool most = rig_random(3) == 0;
    memset(mask, 0, sample_mask_words(cols) * sizeof *mask);
    for (uint32_t c = 0; c < cols && !none; c++)
        if ((rig_random(share) == 0) != most) mask[c / 32] |= 1u << c % 32;
    const uint32_t one = rig_random(cols);
    if (!none) mask[one / 32] |= 1u << one % 32;
    return mask;
}

const void *sample_masks(sample_rule *rules, const uint32_t *const *allowed, uint32_t count,
                         uint32_t cols) {
    const size_t words = sample_mask_words(cols);
    uint32_t *all = rig_buffer((count * words + 1) * sizeof *all), used = 0;
    for (uint32_t r = 0; r < count; r++) {
        rules[r].mask = 0;
        if (allowed[r] == NULL) continue;
        memcpy(all + words * used++, allowed[r], words * sizeof *all);
        rules[r].mask = used;
    }
    return rig_copy(all, used * words * sizeof *all);
}

static float one_of(const float *list, uint32_t count) { return list[rig_random(count)]; }

/* Anything, of a vocabulary of `cols`. */
void sample_ask(sample_asked *d, uint32_t cols) {
    static const float temperatures[] = {0, 1e-45f, 1e-6f, 0.01f, 0.3f, 0.7f, 1, 1, 1.3f, 9, 1e30f};
    static const float top_ps[] = {0, 1e-9f, 0.1f, 0.5f, 0.9f, 0.95f, 0.9999999f, 1, 1};
    static const float min_ps[] = {0, 0, 0, 1e-30f, 0.001f, 0.05f, 0.5f, 1};
    static const float penalties[] = {1, 1, 1, 1.1f, 0.5f, 2};
    *d = (sample_asked){.wanted = rig_random(8) != 0, .p = sample_params_default()};
    d->p.temperature = one_of(temperatures, 11);
    d->p.top_p = one_of(top_ps, 9);
    d->p.min_p = one_of(min_ps, 8);
    const uint32_t top_ks[] = {0, 0, 1, 2, 20, 40, 1 + rig_random(cols), cols, cols + 1};
    d->p.top_k = top_ks[rig_random(9)];
    d->p.seed = (uint64_t)rig_random(1 << 30) << 40 | rig_random(1 << 30);
    d->choice = rig_random(3);
    d->p.repetition_penalty = one_of(penalties, 6);
    d->p.presence_penalty = rig_random(3) == 0 ? 0.7f : 0;
    d->p.frequency_penalty = rig_random(3) == 0 ? -0.3f : 0;
    d->history =
        (sample_history){d->ids, rig_random(SAMPLE_HISTORY), rig_random(SAMPLE_HISTORY / 2)};
    for (uint32_t i = 0; i < SAMPLE_HISTORY; i++)
        d->ids[i] = (int32_t)rig_random(cols < 30 ? cols : 30);
    d->banned_count = rig_random(3) == 0 ? SAMPLE_BANS : 0;
    for (uint32_t i = 0; i < SAMPLE_BANS; i++) d->banned[i] = (int32_t)rig_random(cols);
    d->p.allowed = rig_random(3) == 0 ? sample_mask(cols, rig_random(20) == 0) : NULL;
    d->p.biases_count = rig_random(3) == 0 ? SAMPLE_BIASES : 0;
    d->p.biases = d->biases;
    for (uint32_t i = 0; i < SAMPLE_BIASES; i++)
        d->biases[i] = (sample_bias){(int32_t)rig_random(2 * cols), (float)rig_random(9) - 4};
}

/* --- what there is to draw from -------------------- */

static void fill_even(float *x, uint32_t cols) { rig_fill(x, cols, 12); }

/* The sum of some even ones: few are likely. */
static void fill_peaked(float *x, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) {
        x[c] = 0;
        for (uint32_t i = 0; i < 4; i++) x[c] += (float)rig_random(1 << 20) * 4e-6f - 2;
    }
}

static void fill_ties(float *x, uint32_t cols) {
    const uint32_t kinds = 1 + rig_random(4);
    for (uint32_t c = 0; c < cols; c++) x[c] = 0.5f * (float)rig_random(kinds);
}

/* Nearer to each other than the first two digits tell. */
static void fill_near(float *x, uint32_t cols) {
    for (uint32_t c = 0; c < cols; c++) x[c] = (float)rig_random(5000) * 0x1p-26f;
}

static void fill_odd(float *x, uint32_t cols) {
    static const float odd[] = {NAN, -INFINITY, 3.4e38f, INFINITY, 0.0f, -0.0f, 1e-45f, -3.4e38f};
    const uint32_t first = rig_random(8), kinds = 1 + rig_random(8 - first);
    rig_fill(x, cols, 5);
    for (uint32_t c = 0; c < cols; c++)
        if (rig_random(4) != 0) x[c] = odd[first + rig_random(kinds)];
}

sample_fill *const sample_fills[SAMPLE_FILLS] = {fill_even, fill_peaked, fill_ties, fill_near,
                                                 fill_odd};
