/* share.c - how many layers each of several devices gets.
 *
 * Layers stay in their order, each device has a run of them and at least one.  With room for the
 * whole KV cache, every device gets about as much as the others of what may be taken of it, so that
 * none is full while another one is empty.  Where there is less room, the runs are those that leave
 * room for the most blocks, and where even one sequence does not fit, those that overload none more
 * than they have to: which device lacks how much is for the plan to say.
 *
 * Whether something fits is found by giving each device in turn as many layers as it has room for:
 * fewer would only leave more to those behind it. */
#include "base/assert.h"
#include "base/num.h"
#include "engine/plan_internal.h"

enum { HALVINGS = 40 };

/* Of each device so much of what may be taken of it, with so many blocks. */
typedef struct share_try {
    uint64_t blocks;
    double fraction;
} share_try;

static double layer_load(const share_task *t, uint32_t layer, uint64_t blocks) {
    return (double)t->layer_bytes[layer] +
           (double)blocks * (double)t->kv_layer_bytes / t->kv_fraction;
}

/* Layers from `first` on for device d: one, and more as long as they fit and leave one for each of
 * those behind it; the last one takes all.  false: it has too little room. */
static bool give_layers(const share_task *t, uint32_t d, uint32_t first, const share_try *at,
                        uint32_t *layers) {
    const double room = at->fraction * (double)t->devices[d].available;
    const uint32_t behind = t->count - 1 - d, most = t->layers - first - behind;
    double load = (double)t->devices[d].workspace + layer_load(t, first, at->blocks);
    *layers = 1;
    while (*layers < most) {
        const double more = layer_load(t, first + *layers, at->blocks);
        if (behind > 0 && load + more > room) break;
        load += more;
        ++*layers;
    }
    return load <= room;
}

/* Fills the devices' layers. */
static bool try_share(share_task *t, const share_try *at) {
    uint32_t first = 0;
    bool fits = true;
    for (uint32_t d = 0; d < t->count; d++) {
        if (!give_layers(t, d, first, at, &t->devices[d].layers)) fits = false;
        first += t->devices[d].layers;
    }
    ASSERT(first == t->layers);
    return fits;
}

/* The smallest fraction of [0, most] with which so many blocks fit, which they do with `most`. */
static double least_fraction(share_task *t, uint64_t blocks, double most) {
    double low = 0, high = most;
    for (int i = 0; i < HALVINGS; i++) {
        const double middle = (low + high) / 2;
        if (try_share(t, &(share_try){blocks, middle}))
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* The most blocks that fit, of which blocks_min do. */
static uint64_t most_blocks(share_task *t) {
    uint64_t low = t->blocks_min, high = t->blocks_max;
    while (low < high) {
        const uint64_t middle = low + (high - low + 1) / 2;
        if (try_share(t, &(share_try){middle, 1}))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* A fraction with which anything fits that has a size. */
static double enough(share_task *t) {
    double fraction = 1;
    while (fraction < 1e18 && !try_share(t, &(share_try){t->blocks_min, fraction})) fraction *= 2;
    return fraction;
}

void share_layers(share_task *t) {
    ASSERT(t->count > 0 && t->layers >= t->count && t->blocks_min <= t->blocks_max);
    share_try best = {t->blocks_max, 1};
    if (try_share(t, &best)) {
        best.fraction = least_fraction(t, best.blocks, 1);
    } else if (try_share(t, &(share_try){t->blocks_min, 1})) {
        best.blocks = most_blocks(t);
    } else {
        best.blocks = t->blocks_min;
        best.fraction = least_fraction(t, best.blocks, enough(t));
    }
    (void)try_share(t, &best);
}
