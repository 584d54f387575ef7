/* cuda_lower_adapter.c - launches around products whose rows may have adapters (cuda/lora.cu).
 *
 * x . A^T is made before the product, whose result may lie where x lay, and added behind it: to its
 * sum with another value, where it is written as that.  What goes on from a result, in its last
 * blocks or in another launch, is so always behind.  These launches are in the list for steps with
 * adapters only; the other list does not know of them. */
#include "backend/cuda/cuda_lower.h"
#include "base/assert.h"

enum { SHRINK_BLOCKS_MAX = 8 }; /* of a product and a segment: 32 ranks at a time */

bool lower_adapts(const lowering *w, uint32_t op_idx) {
    return w->adapters && w->p->ops[op_idx].lora_slot != LORA_SLOT_NONE;
}

/* Those of `count` products that can be adapted. */
typedef struct adapted {
    uint32_t ops[CK_GEMVS_MAX];
    uint32_t count;
} adapted;

static adapted adapted_of(const lowering *w, uint32_t op_idx, uint32_t count) {
    adapted list = {.count = 0};
    ASSERT(count <= CK_GEMVS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (lower_adapts(w, op_idx + i)) list.ops[list.count++] = op_idx + i;
    return list;
}

static ck_lora lora_of(const lowering *w, const adapted *list) {
    const cuda_layout *l = w->l;
    const row_set rows = lower_rows(w, &w->p->ops[list->ops[0]]);
    const cu_ptr base = w->bases.workspace + l->lora_at;
    ck_lora out = {.segments = base + l->lora.segments[rows],
                   .mixes = base + l->lora.mixes,
                   .count = base + l->lora.counts + rows * sizeof(uint32_t),
                   .mid = w->bases.workspace + l->lora_mid_at,
                   .mid_stride = l->lora_mid_stride,
                   .rank_max = w->p->max.lora_rank};
    for (uint32_t i = 0; i < list->count; i++) out.slots[i] = w->p->ops[list->ops[i]].lora_slot;
    return out;
}

static cuda_launch_entry entry_of(const lowering *w, const adapted *list, cuda_kernel_id kernel,
                                  uint32_t width) {
    return (cuda_launch_entry){.kernel = kernel,
                               .many = kernel,
                               .grid = CUDA_GRID_SEGMENTS_Y,
                               .rows = lower_rows(w, &w->p->ops[list->ops[0]]),
                               .width = width};
}

status lower_shrink(lowering *w, uint32_t op_idx, uint32_t count, error *err) {
    const adapted list = adapted_of(w, op_idx, count);
    const value_id x = w->p->ops[op_idx].in[0];
    if (list.count == 0) return OK;
    ASSERT(!w->only_codes[x]);
    const uint32_t tiles = lower_blocks(w->p->max.lora_rank, CK_LORA_RANKS);
    const k_lora_shrink_args a = {.lora = lora_of(w, &list),
                                  .x = lower_value(w, x),
                                  .cols = w->p->values[x].cols,
                                  .blocks = num_min_u32(tiles, SHRINK_BLOCKS_MAX)};
    const cuda_launch_entry e = entry_of(w, &list, CUDA_k_lora_shrink, list.count * a.blocks);
    return LOWER_EMIT(w, &e, &a, err);
}

status lower_expand(lowering *w, uint32_t op_idx, uint32_t count, const op *add, error *err) {
    const adapted list = adapted_of(w, op_idx, count);
    if (list.count == 0) return OK;
    ASSERT(add == NULL || count == 1);
    k_lora_expand_args a = {.lora = lora_of(w, &list)};
    uint32_t width = 0;
    for (uint32_t i = 0; i < list.count; i++) {
        const op *o = &w->p->ops[list.ops[i]];
        a.out[i] = lower_value(w, add != NULL ? add->out : o->out);
        a.rows[i] = o->w.rows;
        width += lower_blocks(o->w.rows, CK_LORA_THREADS);
    }
    const cuda_launch_entry e = entry_of(w, &list, CUDA_k_lora_expand, width);
    return LOWER_EMIT(w, &e, &a, err);
}
