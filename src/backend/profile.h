/* profile.h - what steps spend their time in: the tasks of a backend, those of a kind as one row.
 *
 * Tasks are of a kind when the same code computes the same ops with the same tensors of whatever
 * layers.  The steps of a profile are alike, more or less (prompts, or decodes): what is told of
 * them is the step whose time is the median, whole, so that its rows add up and belong together.
 * Owner: whoever created it; one thread.  profile_add() allocates nothing. */
#ifndef BACKEND_PROFILE_H
#define BACKEND_PROFILE_H

#include "backend/backend.h"

enum { PROFILE_ROWS_MAX = 256, PROFILE_STEPS_MAX = 64 };

typedef struct profile profile;

typedef struct profile_row {
    const char *name; /* of the task; static */
    uint32_t part;
    roof_arith arith;
    op_kind ops[BACKEND_TASK_OPS_MAX]; /* of each of its tasks */
    uint32_t ops_count;
    char what[ROOF_WHAT_BYTES]; /* roofline_what() */
} profile_row;

/* A row in one step. */
typedef struct profile_line {
    const profile_row *row; /* borrowed */
    uint64_t ns;
    roof_work work;
    uint32_t tasks;
    uint32_t ops; /* of the program, in all of them */
} profile_line;

typedef struct profile_view {
    uint32_t steps;      /* that there are */
    uint32_t batch_rows; /* of the median step, and so are the others: */
    uint64_t ns;         /* the whole of it */
    uint32_t lines_count;
    profile_line lines[PROFILE_ROWS_MAX]; /* that have tasks; longest first */
} profile_view;

/* tasks_max: of a step, in all its parts.  At most `steps_max`, 1..PROFILE_STEPS_MAX, are kept. */
NODISCARD status profile_create(profile **out, uint32_t steps_max, uint32_t tasks_max, error *err);
void profile_destroy(profile *f);

/* The step that the parts tell of, with so many rows; what is too many is left out.  A task of a
 * kind that finds no row any more goes into the last one, "others". */
void profile_add(profile *f, const backend_profile *parts, uint32_t parts_count,
                 uint32_t batch_rows);

uint32_t profile_steps(const profile *f);
/* With steps 0 there is nothing else. */
void profile_median(const profile *f, profile_view *out);

#endif
