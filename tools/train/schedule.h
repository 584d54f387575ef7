/* schedule.h - the learning rate of each step: up in a straight line, down along a cosine. */
#ifndef TRAIN_SCHEDULE_H
#define TRAIN_SCHEDULE_H

#include <stdint.h>

typedef struct schedule {
    float rate_max, rate_min;
    uint32_t warmup_steps; /* to rate_max */
    uint32_t steps;        /* at the last one rate_min is reached */
} schedule;

/* step counts from 0.  Source of the cosine: Loshchilov and Hutter 2017, "SGDR". */
float schedule_rate(const schedule *s, uint32_t step);

#endif
