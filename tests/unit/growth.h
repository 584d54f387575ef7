/* growth.h - does the work grow in step with its input?
 *
 * Tells linear from quadratic on any machine and in any build: processor time of four times the
 * input over that of one, about 4 or about 16.  The best of some tries, so that a try beside other
 * work decides nothing. */
#ifndef TESTS_UNIT_GROWTH_H
#define TESTS_UNIT_GROWTH_H

#include <stddef.h>
#include <time.h>

enum { GROWTH_TRIES = 6, GROWTH_MAX = 9, GROWTH_NOISE_US = 20 };

/* Does its work on the first `bytes` bytes of an input that `arg` knows. */
typedef void growth_fn(void *arg, size_t bytes);

static inline double growth_us(growth_fn *fn, void *arg, size_t bytes) {
    clock_t begin = clock();
    fn(arg, bytes);
    return (double)(clock() - begin) * 1e6 / CLOCKS_PER_SEC;
}

/* The smallest ratio seen; the caller checks that it is below GROWTH_MAX. */
static inline double growth_of(growth_fn *fn, void *arg, size_t bytes) {
    double best = 1e30;
    for (int i = 0; i < GROWTH_TRIES && best >= GROWTH_MAX; i++) {
        double one = growth_us(fn, arg, bytes) + GROWTH_NOISE_US;
        double ratio = growth_us(fn, arg, 4 * bytes) / one;
        if (ratio < best) best = ratio;
    }
    return best;
}

#endif
