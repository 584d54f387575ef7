/* learn.h - the training itself: settings in, a GGUF file out. */
#ifndef TRAIN_LEARN_H
#define TRAIN_LEARN_H

#include <signal.h>
#include <stdbool.h>

#include "base/error.h"
#include "train/adamw.h"
#include "train/schedule.h"

typedef struct learn_settings {
    const char *corpus, *vocab, *out;
    const char *name, *description, *license;
    shape shape; /* vocab is filled from the file */
    uint32_t batch_tokens, accumulate;
    float prompt_weight;
    float epochs;
    uint32_t steps;       /* 0: from epochs */
    float rate, rate_end; /* the last as a part of the first */
    uint32_t warmup;
    const char *method; /* "adamw" or "muon": fills optimizer.muon */
    adamw_options optimizer;
    float init_std;
    uint64_t seed;
    uint32_t held_out, validate_every;
    const char *checkpoint;
    uint32_t checkpoint_every;
    bool resume;
    uint32_t stop_after; /* steps of this call; 0: to the end */
    uint32_t threads, log_every;
    const char *kernels;
    bool quiet;
} learn_settings;

/* Trains and writes `out`.  When *stop becomes nonzero, or after stop_after steps, the checkpoint
 * is written instead and it ends with ERR_CANCELED.  `stop` may be NULL. */
NODISCARD status learn_run(const learn_settings *s, const volatile sig_atomic_t *stop, error *err);

#endif
