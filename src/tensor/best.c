/* best.c - see best.h. */
#include "tensor/best.h"

int32_t best_of(const float *logits, uint32_t count) {
    int32_t best = 0;
    for (int32_t i = 1; (uint32_t)i < count; i++)
        if (best_before(logits[i], i, logits[best], best)) best = i;
    return best;
}
