/* cuda_draw.c - what a step's tokens are drawn by, on its way there; the launches that draw, where
 * they come later than the rest of the step; and the answer.
 *
 * Orders that are known when a step begins go there with its descriptor, and what draws is queued,
 * or recorded, with all the rest.  Those that depend on tokens of the step before come when the
 * host has these: the GPU computes the step's logits meanwhile, the launches that draw come behind
 * them one by one, being one or two, and the next step takes its tokens from where they leave them,
 * as ever. */
#include <string.h>

#include "backend/cuda/cuda_internal.h"
#include "base/assert.h"

/* --- orders -------------------- */

static bool wants_logprobs(const sample_order *o) { return o != NULL && o->rule.logprobs != 0; }

static void *staged_at(const cuda_staging *s, uint64_t offset) {
    return (char *)s->sample.host + offset;
}

/* Fill rules and changes, row after row; returns how much of it there is to send. */
static size_t describe_rules(const cuda_sample *at, cuda_staging *s,
                             const sample_order *const *samples) {
    sample_rule *rules = staged_at(s, at->rules);
    sample_change *changes = staged_at(s, at->changes);
    uint32_t used = 0;
    for (uint32_t h = 0; h < s->head_rows; h++) {
        const sample_order *o = samples[h];
        rules[h] = o != NULL ? o->rule : (sample_rule){0};
        const uint32_t count = rules[h].changes_count;
        if (o == NULL || count == 0) continue;
        ASSERT(count <= at->changes_max - used);
        rules[h].changes_at = used;
        memcpy(changes + used, o->changes, count * sizeof *changes);
        used += count;
    }
    return (size_t)at->changes + used * sizeof *changes;
}

/* The same of masks.  Neighbours that have the same one, as choices of a request, share it. */
static size_t describe_masks(const cuda_sample *at, cuda_staging *s,
                             const sample_order *const *samples) {
    sample_rule *rules = staged_at(s, at->rules);
    uint32_t *masks = staged_at(s, at->masks), used = 0;
    const uint32_t *last = NULL;
    for (uint32_t h = 0; h < s->head_rows; h++) {
        const uint32_t *allowed = samples[h] != NULL ? samples[h]->allowed : NULL;
        if (allowed == NULL) continue;
        if (allowed != last)
            memcpy(masks + (size_t)at->mask_words * used++, allowed,
                   at->mask_words * sizeof *masks);
        rules[h].mask = used;
        last = allowed;
    }
    return (size_t)used * at->mask_words * sizeof *masks;
}

/* Queue the copy of what there is at `offset`. */
static void send(backend *b, const cuda_staging *s, uint64_t offset, size_t bytes) {
    (void)cuda_copy_in(&b->dev, b->dev.compute, cuda_at(b, b->layout.sample_at + offset),
                       staged_at(s, offset), bytes);
}

bool cuda_has_samples(const sample_order *const *samples, uint32_t head_rows) {
    for (uint32_t h = 0; samples != NULL && h < head_rows; h++)
        if (samples[h] != NULL) return true;
    return false;
}

void cuda_send_samples(backend *b, cuda_staging *s, const sample_order *const *samples,
                       cuda_step_rows *rows) {
    for (uint32_t h = 0; h < s->head_rows; h++) {
        rows->sampled |= samples[h] != NULL && samples[h]->rule.wanted != 0;
        rows->logprobs |= wants_logprobs(samples[h]);
    }
    s->logprobs = rows->logprobs;
    if (!rows->sampled) return;
    const cuda_sample *at = &b->layout.sample;
    const size_t rules_bytes = describe_rules(at, s, samples);
    const size_t masks_bytes = describe_masks(at, s, samples);
    send(b, s, 0, rules_bytes);
    if (masks_bytes > 0) send(b, s, at->masks, masks_bytes);
}

/* --- the answer -------------------- */

/* Of the rows that want them, in one piece for each of their neighbourhoods. */
static void fetch_logprobs(backend *b, const cuda_staging *s, const sample_order *const *samples) {
    const cu_ptr from = cuda_at(b, b->layout.logprobs_at);
    sample_logprobs *to = cuda_logprobs_of(b, s);
    for (uint32_t h = 0; h < s->head_rows; h++) {
        const uint32_t first = h;
        while (h < s->head_rows && wants_logprobs(samples[h])) h++;
        (void)cuda_copy_out(&b->dev, b->dev.compute, to + first, from + first * sizeof *to,
                            (h - first) * sizeof *to);
    }
}

void cuda_fetch_answer(backend *b, const cuda_staging *s, const sample_order *const *samples) {
    const uint32_t words = 1 + (s->tokens ? s->head_rows : 0);
    (void)cuda_copy_out(&b->dev, b->dev.compute, s->answer.host, cuda_at(b, b->layout.answer_at),
                        words * sizeof(uint32_t));
    if (s->logprobs) fetch_logprobs(b, s, samples);
}

/* --- later -------------------- */

void cuda_draw(backend *b, const sample_order *const *samples) {
    ASSERT(b->steps_begun > b->steps_ended);
    cuda_staging *s = &b->staging[(b->steps_begun - 1) % CUDA_STEPS_MAX];
    cuda_step_rows rows = {.of = {[ROWS_HEAD] = s->head_rows}};
    if (s->fault.code != OK || cuda_device_enter(&b->dev, &s->fault) != OK) return;
    ASSERT(s->draws_later);
    s->draws_later = false;
    cuda_send_samples(b, s, samples, &rows);
    cuda_queue_drawing(b, &rows);
    cuda_fetch_answer(b, s, samples);
}
