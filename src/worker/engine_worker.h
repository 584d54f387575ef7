/* engine_worker.h - the engine role: the loop that schedules, steps, samples and answers.
 * Adapters (engine/lora.h) are loaded and unloaded between two steps, profiles (engine_profile.h)
 * begin and end there.
 *
 *   drain the inbox -> plan -> commit -> step -> sample -> apply -> one EVENTS frame
 *
 * Where the stepper can begin a step before the one before it has ended, and the scheduler knows
 * what comes next without its tokens (sched_follow), one step is ahead between two turns: messages
 * are handled while it is computed.
 *
 *   begin k+1 -> end k -> apply k -> what k+1 draws by, where k decides it -> draw k+1 -> answers
 *
 *
 * The lower side of its link.  When the event ring is full the loop takes no step until
 * there is room again: a slow reader above is back-pressure, never growth.  Between steps,
 * at least every STATUS_MS, it sends its heartbeat and counters.
 * Owner: whoever created it; tick and run on one thread, the engine thread. */
#ifndef WORKER_ENGINE_WORKER_H
#define WORKER_ENGINE_WORKER_H

#include "sched/sched.h"
#include "wire/link.h"

enum { ENGINE_STATUS_MS = 100 };

/* What computes a step: the engine, or a fake one in simulation. */
typedef struct stepper {
    void *ctx;
    /* logits [rows that want them or a token, vocab] */
    const float *(*step)(void *ctx, const engine_row *rows, uint32_t count);
    /* The two halves of step(), engine_begin() and engine_end(): two steps may be begun and not
     * ended.  NULL: no step is ahead. */
    void (*begin)(void *ctx, const engine_row *rows, uint32_t count); /* optional, like the next */
    const float *(*end)(void *ctx);
    /* engine_draw(): of the step that was begun last, where rows draw later.  With `begin` where it
     * samples. */
    void (*draw)(void *ctx);
    /* hidden states [rows that want anything, embed_dims] of the last step; NULL: the
     * scheduler offers no embeddings */
    const float *(*hidden)(void *ctx);
    /* ids [rows that want logits or a token] of the last step, where a token is wanted; NULL: no
     * row may want one, all that are sampled have logits */
    const int32_t *(*best)(void *ctx); /* optional */
    bool samples; /* rows may have an engine_row.sample: `best` and `logprobs` are there then */
    /* [rows that want logits or a token] of the last step, where a sample order wants them */
    const sample_logprobs *(*logprobs)(void *ctx); /* optional */
    /* Of the last step: engine_micro_batches(). */
    uint32_t (*micro_batches)(void *ctx); /* optional */
    /* What the last step failed with: it gave nothing, and there will be no other; NULL: it went
     * well.  May be left out where steps cannot fail. */
    const error *(*fault)(void *ctx); /* optional */
    /* Measure the tasks of steps, or none any more; the last step's, one for each part of the
     * model, returning how many (backend.h).  NULL: nothing measures. */
    status (*profile)(void *ctx, bool on, error *err); /* optional, like the next */
    uint32_t (*profiled)(void *ctx, backend_profile out[BACKEND_PARTS_MAX]);
} stepper;

typedef struct engine_worker_options {
    sched_options sched;
    stepper stepper;
    kv_pool *kv;     /* borrowed */
    wire_link *link; /* borrowed; this is its lower side */
    backend_report report;
} engine_worker_options;

typedef struct engine_worker engine_worker;

NODISCARD status engine_worker_create(engine_worker **out, const engine_worker_options *opt,
                                      error *err);
void engine_worker_destroy(engine_worker *w);

/* One turn of the loop; false when there was nothing to do. */
bool engine_worker_tick(engine_worker *w);

/* Turns until a DRAIN message has come: then what is left is canceled.  Sleeps while there
 * is nothing to do. */
void engine_worker_run(engine_worker *w);

/* Has a step failed?  Requests in flight have ended with the error then, and those that come do at
 * once; a device that has failed needs a new process.  Any thread. */
bool engine_worker_is_broken(const engine_worker *w);

/* For tests: the scheduler inside. */
const sched *engine_worker_sched(const engine_worker *w);

#endif
