/* progress.h - how the training goes, on stderr.
 *
 * On a terminal one line is rewritten in place, at most ten times a second:
 *   step 120/2000 [###-------] loss 3.214  validation 3.300  5321 tokens/s  12:05 left
 * Elsewhere there is a plain line every `every` steps.  Validation results are lines of their own
 * in both.  Owner: whoever holds the struct; one thread. */
#ifndef TRAIN_PROGRESS_H
#define TRAIN_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROGRESS_BYTES = 200 };

typedef struct progress {
    bool terminal, quiet;
    uint32_t steps, every;
    uint64_t begin_ns, shown_ns;
    uint64_t tokens; /* since begin_ns */
    uint32_t first;  /* step that begin_ns was at */
    double loss_sum; /* of steps since the last line */
    uint32_t loss_count;
    double loss;       /* their mean, shown */
    double validation; /* below 0: none yet */
} progress;

typedef struct train_progress_step {
    uint32_t step; /* that are done */
    double loss;   /* per token */
    float rate, norm;
    uint32_t tokens;
} train_progress_step;

void train_progress_begin(progress *p, uint32_t first, uint32_t steps, uint32_t every, bool quiet);
void train_progress_show(progress *p, const train_progress_step *s);
void train_progress_validation(progress *p, uint32_t step, double loss);
void train_progress_end(progress *p);

/* The terminal's line, for tests. */
void train_progress_text(const progress *p, const train_progress_step *s, double seconds,
                         char out[PROGRESS_BYTES]);

#endif
