/* rig_card.c - the rig of a real card: each buffer is there twice, on the host, where tests read
 * and write it, and on the card, where kernels do.
 *
 * A launch takes all buffers up, guard zones and all, and brings all back: what a kernel wrote
 * anywhere is seen by the same checks as on the software GPU.  Slow, and simple. */
#include "gpu/rig_card.h"

#include <stdio.h>

#include "cudasim/rig_internal.h"
#include "test.h"

static struct {
    card *card; /* borrowed */
    size_t guard_bytes;
} rig_card;

void rig_card_use(card *c, bool exact) {
    rig_card.card = c;
    rig_card.guard_bytes = exact ? 0 : RIG_GUARD_BYTES;
}

/* --- memory -------------------- */

static cuda_device *device(void) { return &rig_card.card->dev; }

void rig_memory_open(rig_memory *m) {
    cu_ptr base = 0;
    size_t bytes = m->bytes + 2 * rig_card.guard_bytes;
    if (bytes == 0) bytes = 1;
    cu_result code =
        device()->fault != CU_SUCCESS ? device()->fault : device()->driver->mem_alloc(&base, bytes);
    (void)cuda_note(device(), code, "cuMemAlloc_v2"); /* the next launch tells */
    m->at = code == CU_SUCCESS ? base + rig_card.guard_bytes : 0;
}

void rig_memory_close(rig_memory *m) {
    if (m->at != 0) (void)device()->driver->mem_free(m->at - rig_card.guard_bytes);
}

typedef enum direction { UP, DOWN } direction;

static void copy_all(direction way) {
    uint32_t count = 0;
    const rig_memory *all = rig_memories(&count);
    for (uint32_t i = 0; i < count; i++) {
        unsigned char *host = rig_content(&all[i]) - rig_card.guard_bytes;
        cu_ptr at = all[i].at - rig_card.guard_bytes;
        size_t bytes = all[i].bytes + 2 * rig_card.guard_bytes;
        if (way == UP)
            (void)cuda_copy_in(device(), device()->compute, at, host, bytes);
        else
            (void)cuda_copy_out(device(), device()->compute, host, at, bytes);
    }
}

/* --- launches -------------------- */

sim_fault rig_start(const rig_launch *l, char *why, size_t why_bytes) {
    card_kernel kernel;
    error err = {0};
    status st = card_find(rig_card.card, l->kernel, &kernel, &err);
    if (st == OK) {
        copy_all(UP);
        card_launch(rig_card.card, &kernel,
                    (card_grid){l->grid_x, l->grid_y, l->threads, l->shared_bytes}, l->args,
                    l->args_bytes);
        copy_all(DOWN);
        st = cuda_sync(device(), &err);
    }
    if (st == OK) return SIM_OK;
    (void)snprintf(why, why_bytes, "%s", err.msg);
    return SIM_BAD_LAUNCH; /* whatever the driver calls it */
}

bool rig_is_card(void) { return true; }
bool rig_is_watched(void) { return false; }

const sim_counters *rig_counters(void) {
    static const sim_counters none;
    return &none;
}

bool rig_has(int arch, const char *kernel) {
    card_kernel k;
    return arch == device()->image.code_path && card_find(rig_card.card, kernel, &k, NULL) == OK;
}

/* --- one code path, in the card's own order -------------------- */

bool rig_round(uint32_t number, int *arch) {
    *arch = device()->image.code_path;
    return number == 0;
}

void rig_round_end(void) {}
sim_order rig_order(void) { return SIM_ASCENDING; }
void rig_order_set(sim_order order) { (void)order; }
