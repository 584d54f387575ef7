/* rig_sim.c - the rig of the software GPU: launches by the executor, on the host's own memory. */
#include <stdio.h>

#include "cudasim/rig_internal.h"

enum { SHARED_MAX_750 = 64 * 1024, SHARED_MAX_800 = 163 * 1024, SHARED_MAX_900 = 227 * 1024 };

static struct {
    sim_order order;
    sim_counters counters;
} sim;

/* --- memory -------------------- */

void rig_memory_open(rig_memory *m) {
    m->at = (uint64_t)(uintptr_t)rig_content(m);
    sim_memory_add(rig_content(m), m->bytes);
}

void rig_memory_close(rig_memory *m) { sim_memory_remove(rig_content(m)); }

/* --- launches -------------------- */

static uint32_t shared_max(int arch) {
    return arch >= 900 ? SHARED_MAX_900 : arch >= 800 ? SHARED_MAX_800 : SHARED_MAX_750;
}

sim_fault rig_start(const rig_launch *l, char *why, size_t why_bytes) {
    const sim_kernel *k = sim_kernel_find(l->arch, l->kernel);
    sim.counters = (sim_counters){0};
    if (k == NULL) {
        (void)snprintf(why, why_bytes, "there is no %s for %d", l->kernel, l->arch);
        return SIM_BAD_LAUNCH;
    }
    if (k->args_bytes != l->args_bytes) {
        (void)snprintf(why, why_bytes, "%s for %d takes %u bytes of arguments, got %zu", l->kernel,
                       l->arch, k->args_bytes, l->args_bytes);
        return SIM_BAD_LAUNCH;
    }
    sim_launch launch = {.kernel = k,
                         .args = l->args,
                         .grid = {l->grid_x, l->grid_y, 1},
                         .block = {l->threads, 1, 1},
                         .shared_bytes = l->shared_bytes,
                         .shared_max = shared_max(l->arch),
                         .early = l->arch >= 900, /* whatever the host does, it could */
                         .order = sim.order,
                         .seed = rig_random_state()};
    return sim_run(&launch, &sim.counters, why, why_bytes);
}

bool rig_is_card(void) { return false; }
#ifdef __SANITIZE_THREAD__
bool rig_is_watched(void) { return true; }
#else
bool rig_is_watched(void) { return false; }
#endif
const sim_counters *rig_counters(void) { return &sim.counters; }
bool rig_has(int arch, const char *kernel) { return sim_kernel_find(arch, kernel) != NULL; }

/* --- all code paths and thread orders -------------------- */

/* Sanitizers see every access in any order: with AddressSanitizer each code path has one order of
 * its own; with ThreadSanitizer, some twenty times slower, there is one path. */
#if defined(__SANITIZE_THREAD__)
enum { ORDERS = 3, ROUNDS = 3 * ORDERS, ROUND_STEP = ROUNDS };
#elif defined(__SANITIZE_ADDRESS__)
enum { ORDERS = 3, ROUNDS = 3 * ORDERS, ROUND_STEP = ORDERS + 1 };
#else
enum { ORDERS = 3, ROUNDS = 3 * ORDERS, ROUND_STEP = 1 };
#endif

bool rig_round(uint32_t number, int *arch) {
    static const int ARCHS[] = {750, 800, 900};
    uint32_t round = number * ROUND_STEP;
    if (round >= ROUNDS) return false;
    *arch = ARCHS[round / ORDERS];
    sim.order = (sim_order)(round % ORDERS);
    return true;
}

void rig_round_end(void) { sim.order = SIM_ASCENDING; }
sim_order rig_order(void) { return sim.order; }
void rig_order_set(sim_order order) { sim.order = order; }
