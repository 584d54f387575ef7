/* engine_profile.h - an order to measure the next steps, from the moment it comes to its report.
 *
 * Memory is taken when the order comes, between two steps, and given back with the report.
 * Owner: the engine thread. */
#ifndef WORKER_ENGINE_PROFILE_H
#define WORKER_ENGINE_PROFILE_H

#include "backend/profile.h"
#include "wire/wire.h"

struct stepper;

typedef struct engine_profile {
    bool on;
    profile_order order;
    uint64_t end_ns; /* when the report goes up, however few steps there were */
    uint32_t steps;
    profile *prompt, *decode; /* owned; NULL while it is off */
} engine_profile;

/* Begin; an order that cannot be followed is answered at once, in a frame of its own. */
void engine_profile_begin(engine_profile *f, const struct stepper *s, const profile_order *order,
                          uint64_t now_ns, buf *out);
/* A step was made.  While it is on. */
void engine_profile_step(engine_profile *f, const struct stepper *s, uint32_t rows,
                         bool has_prompt);
/* If all steps were made, or the time is over: switch off and put the report. */
void engine_profile_look(engine_profile *f, const struct stepper *s, uint64_t now_ns, buf *out);
/* Off without a report. */
void engine_profile_cancel(engine_profile *f, const struct stepper *s);

#endif
