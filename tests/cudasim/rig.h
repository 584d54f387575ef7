/* rig.h - what a test of one kernel launches it with: on the software GPU, or on a real card.
 *
 *     TEST(k_act_relu) {
 *         RIG_EACH(arch) {
 *             float *x = rig_buffer(rows * cols * sizeof *x), *out = rig_buffer(...);
 *             rig_fill(x, rows * cols, 1.0f);
 *             k_act_args a = {.x = rig_at(x), .out = rig_at(out), .count = rig_count(rows), ...};
 *             rig_run(arch, "k_act", &a, 1, rows, 256, 0);
 *             rig_close(out, want, rows * cols, 1e-12);
 *         }
 *         rig_done();
 *     }
 *
 * What a rig is has two answers, of which one is linked:
 *   rig_sim.c             the executor: RIG_EACH runs its body for the code paths 750, 800 and 900,
 *                         each under the thread orders ascending, descending and shuffled; fewer
 *                         under sanitizers
 *   tests/gpu/rig_card.c  a card behind the driver: RIG_EACH runs its body once; `arch` is the code
 *                         path that the card was opened with, whatever a launch says
 * Failures go to the harness of test.h with the place of the call.  One thread; state is the
 * process's. */
#ifndef CUDASIM_RIG_H
#define CUDASIM_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cudasim/exec.h"

/* --- memory -------------------- */

/* Device memory: 256-aligned, filled with 0xFF bytes (NaN as f32, f16 and bf16), exactly `bytes` of
 * it may be touched by kernels, guard zones on both sides.  Lives until the end of the body of
 * RIG_EACH that it was made in, else until rig_done(); there its guard zones are checked.  0 bytes:
 * an address that no kernel may touch. */
void *rig_buffer(size_t bytes);
/* The same with a copy of `from`. */
void *rig_copy(const void *from, size_t bytes);
/* A buffer with one number in it: the `count` of argument structs. */
uint64_t rig_count(uint32_t n);
/* The address as argument structs have it: that of p, which may point into the middle of a buffer
 * or to its end, where kernels see it.  NULL is 0, and what is in no buffer stays what it is. */
uint64_t rig_at(const void *p);
/* Checks and gives back everything; the last line of a test. */
void rig_done(void);

/* --- numbers: one generator, seeded anew by every body of RIG_EACH -------------------- */

void rig_seed(uint64_t seed);
uint32_t rig_random(uint32_t below);
void rig_fill(float *out, size_t count, float scale); /* evenly in -scale .. scale */
void rig_fill_bytes(void *out, size_t bytes);

/* --- launches -------------------- */

typedef struct rig_launch {
    int arch;
    const char *kernel;
    const void *args;
    size_t args_bytes;
    uint32_t grid_x, grid_y, threads, shared_bytes;
    const char *file;
    int line;
} rig_launch;

/* `args` points to the kernel's argument struct.  A fault fails the test with its text; false. */
#define rig_run(arch, kernel, args, grid_x, grid_y, threads, shared_bytes)                 \
    rig_run_at(&(rig_launch){(arch), (kernel), (args), sizeof *(args), (grid_x), (grid_y), \
                             (threads), (shared_bytes), __FILE__, __LINE__})
bool rig_run_at(const rig_launch *launch);

/* For tests that want the fault: nothing fails, rig_why() is its text. */
#define rig_try(arch, kernel, args, grid_x, grid_y, threads, shared_bytes)                 \
    rig_try_at(&(rig_launch){(arch), (kernel), (args), sizeof *(args), (grid_x), (grid_y), \
                             (threads), (shared_bytes), __FILE__, __LINE__})
sim_fault rig_try_at(const rig_launch *launch);
const char *rig_why(void);

/* A real card counts nothing, has thread orders of its own, and its approximations are good to
 * some units in the last place where the executor's are as good as libm. */
bool rig_is_card(void);
/* Is every access watched by ThreadSanitizer?  A launch takes some forty times as long then: what
 * is about numbers or counts, of launches whose accesses other tests have, too, is left out. */
bool rig_is_watched(void);
#define RIG_SKIP_UNLESS_COUNTED()                                   \
    if (rig_is_card()) SKIP("a card does not count what it reads"); \
    if (rig_is_watched()) SKIP("ThreadSanitizer is slow, and these are counts")

const sim_counters *rig_counters(void); /* of the last launch; zeros on a card */
bool rig_has(int arch, const char *kernel);

/* --- all code paths and thread orders -------------------- */

#define RIG_EACH(arch) for (int arch = 0; rig_next(&(arch));)
bool rig_next(int *arch);  /* behind RIG_EACH */
sim_order rig_order(void); /* of the launches now; SIM_ASCENDING outside of RIG_EACH */
void rig_order_set(sim_order order);

/* --- comparing -------------------- */

typedef struct rig_difference {
    double nmse;    /* sum (got - want)^2 / sum want^2; infinite when a NaN is in one only */
    double max_abs; /* largest |got - want| */
    size_t at;      /* where */
} rig_difference;

rig_difference rig_compare(const float *got, const float *want, size_t count);

/* Fails when the NMSE is above `nmse_max`. */
#define rig_close(got, want, count, nmse_max) \
    rig_close_at((got), (want), (count), (nmse_max), __FILE__, __LINE__)
bool rig_close_at(const float *got, const float *want, size_t count, double nmse_max,
                  const char *file, int line);
/* Fails when an element is further than `max_abs` from what it should be. */
#define rig_near(got, want, count, max_abs) \
    rig_near_at((got), (want), (count), (max_abs), __FILE__, __LINE__)
bool rig_near_at(const float *got, const float *want, size_t count, double max_abs,
                 const char *file, int line);
/* Fails unless all bytes are the same. */
#define rig_same(got, want, bytes) rig_same_at((got), (want), (bytes), __FILE__, __LINE__)
bool rig_same_at(const void *got, const void *want, size_t bytes, const char *file, int line);

#endif
