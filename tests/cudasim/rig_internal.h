/* rig_internal.h - what rig.c has for both rigs, and what each of them, rig_sim.c and rig_card.c of
 * tests/gpu, has for rig.c. */
#ifndef CUDASIM_RIG_INTERNAL_H
#define CUDASIM_RIG_INTERNAL_H

#include "cudasim/rig.h"

enum { RIG_GUARD_BYTES = 1024, RIG_BUFFERS_MAX = 512 };

typedef struct rig_memory {
    unsigned char *whole; /* owned by rig.c: guard zone, bytes, guard zone */
    size_t bytes;
    uint64_t at; /* of the first of the bytes, for kernels; 256-aligned */
} rig_memory;

/* --- rig.c -------------------- */

rig_memory *rig_memories(uint32_t *count); /* the buffers that there are */
static inline unsigned char *rig_content(const rig_memory *m) { return m->whole + RIG_GUARD_BYTES; }
uint64_t rig_random_state(void);

/* --- a rig -------------------- */

/* Makes a filled buffer one that kernels may touch: sets m->at. */
void rig_memory_open(rig_memory *m);
void rig_memory_close(rig_memory *m);

/* Runs a kernel to its end; what it did is seen in all buffers.  `why` gets what is wrong. */
sim_fault rig_start(const rig_launch *launch, char *why, size_t why_bytes);

/* The round of RIG_EACH with that number, from 0; false: there are not so many. */
bool rig_round(uint32_t number, int *arch);
void rig_round_end(void); /* what follows is in no round */

#endif
