/* schedule.c - see schedule.h. */
#include "train/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

float schedule_rate(const schedule *s, uint32_t step) {
    if (step < s->warmup_steps) return s->rate_max * (float)(step + 1) / (float)s->warmup_steps;
    if (step + 1 >= s->steps) return s->rate_min;
    const double way = (double)(step - s->warmup_steps) / (s->steps - 1 - s->warmup_steps);
    const double above = (double)(s->rate_max - s->rate_min);
    return (float)((double)s->rate_min + above * 0.5 * (1.0 + cos(PI * way)));
}
