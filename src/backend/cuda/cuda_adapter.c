/* cuda_adapter.c - low-rank adapters on the device.
 *
 * An adapter comes and goes while the engine runs, so its memory is no part of the plan: it is an
 * allocation, out of what weights, steps and cache have left, and of what may be taken in all.
 * Matrices are there as they are stored, rows padded to 16 bytes; in front of them is the table by
 * which kernels find them, one entry for each weight that can be adapted.
 *
 *   | ck_lora_pair [lora_slots] | A of slot i | B of slot i | A of slot k | ...
 *
 * A step that has rows with adapters says in one more copy which rows are a segment, and which
 * tables and scales that segment uses (cuda/abi.h).  Its launches are a list of their own: products
 * whose result is added to before anything is made of it (cuda_lower_adapter.c). */
#include <string.h>

#include "backend/cuda/cuda_internal.h"
#include "base/alloc.h"
#include "base/assert.h"

enum {
    STAGE_BYTES = 1 << 20,
    STAGE_SLOTS = 2,
    LEFT_BYTES_MIN = 32 << 20 /* for what the driver may still want for its code */
};
static const uint32_t MIX_NONE = UINT32_MAX;

/* --- how much -------------------- */

static uint64_t row_bytes_of(const weight *w) {
    uint64_t row_bytes[CK_PLANES_MAX];
    cuda_planar_row_bytes(cuda_planar_choose(w, NULL), w->cols, row_bytes);
    return row_bytes[0]; /* floats have one plane */
}

static uint64_t cost_of(const weight *w) { return cuda_arena_cost(row_bytes_of(w) * w->rows); }

/* The pair of an op; NULL where the adapter leaves it as it is. */
static const lora_pair *pair_of(const lora_pair *pairs, const op *o) {
    if (o->lora_slot == LORA_SLOT_NONE || pairs[o->lora_slot].a.data == NULL) return NULL;
    return &pairs[o->lora_slot];
}

/* The parts of a fused matrix have one A: the first op that has it, `idx` where there is none. */
static uint32_t first_with_a(const program *p, const lora_pair *pairs, uint32_t idx) {
    const weight *a = &pairs[p->ops[idx].lora_slot].a;
    for (uint32_t i = 0; i < idx; i++) {
        const lora_pair *pair = pair_of(pairs, &p->ops[i]);
        if (pair != NULL && pair->a.data == a->data && pair->a.rows == a->rows &&
            pair->a.cols == a->cols && pair->a.type == a->type)
            return i;
    }
    return idx;
}

uint64_t cuda_adapter_bytes(const program *p, const lora_pair *pairs) {
    uint64_t bytes = cuda_arena_cost(p->lora_slots * sizeof(ck_lora_pair));
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const lora_pair *pair = pair_of(pairs, &p->ops[i]);
        if (pair == NULL) continue;
        bytes += cost_of(&pair->b);
        if (first_with_a(p, pairs, i) == i) bytes += cost_of(&pair->a);
    }
    return bytes;
}

static uint64_t taken_by_adapters(const backend *b) {
    uint64_t bytes = 0;
    for (const cuda_adapter *a = b->adapters; a != NULL; a = a->next) bytes += a->memory.bytes;
    return bytes;
}

static uint64_t taken_bytes(const backend *b) {
    return b->weights.bytes + b->workspace.bytes + b->kv.bytes + b->states.bytes +
           taken_by_adapters(b);
}

/* What the plan left room for is taken beside what it left to the driver, which may have less free
 * by now: only others must leave some. */
static uint64_t left_bytes(const backend *b, uint64_t bytes) {
    return taken_by_adapters(b) + bytes <= b->adapter_bytes ? 0 : LEFT_BYTES_MIN;
}

static status no_room(const backend *b, uint64_t bytes, uint64_t room, const char *limit,
                      error *err) {
    return error_set(err, ERR_NOMEM,
                     "cuda: the adapter needs %.1f MiB, %.1f MiB may be taken of GPU %d '%s' "
                     "beside the model: %s",
                     cuda_mib(bytes), cuda_mib(room), b->dev.ordinal, b->dev.name, limit);
}

static status check_room(backend *b, uint64_t bytes, error *err) {
    uint64_t free_bytes = 0, total_bytes = 0;
    TRY(cuda_device_memory(&b->dev, &free_bytes, &total_bytes, err));
    const uint64_t room = free_bytes - num_min_u64(free_bytes, left_bytes(b, bytes));
    uint64_t allowed = UINT64_MAX;
    if (b->device_bytes_max != 0)
        allowed = b->device_bytes_max - num_min_u64(b->device_bytes_max, taken_bytes(b));
    if (allowed < room && bytes > allowed)
        return no_room(b, bytes, allowed,
                       "that is the limit of the plan, --gpu-bytes-max or what was free then; "
                       "a lower --kv-bytes-max leaves more",
                       err);
    if (bytes > room)
        return no_room(b, bytes, room,
                       "that is what the card has free; a lower --kv-bytes-max leaves more", err);
    return OK;
}

/* --- there -------------------- */

typedef struct sending {
    cuda_stage stage;
    cuda_arena *memory;  /* of the adapter */
    ck_lora_pair *table; /* borrowed; [slots] */
} sending;

static status send_matrix(sending *s, const weight *w, uint32_t *form, uint64_t *at, error *err) {
    const ck_form chosen = cuda_planar_choose(w, NULL);
    const uint64_t row_bytes = row_bytes_of(w);
    const uint32_t most = (uint32_t)(s->stage.slot_bytes / row_bytes);
    cu_ptr to = 0;
    TRY(cuda_arena_take(s->memory, (size_t)(row_bytes * w->rows), &to, err));
    for (uint32_t row = 0; row < w->rows;) {
        const uint32_t rows = num_min_u32(w->rows - row, most);
        void *planes[CK_PLANES_MAX] = {NULL};
        TRY(cuda_stage_take(&s->stage, &planes[0], err));
        const status st = cuda_planar_pack(chosen, w, row, rows, planes, err);
        TRY(cuda_stage_send(&s->stage, to + row * row_bytes, (size_t)(rows * row_bytes), err));
        TRY(st);
        row += rows;
    }
    *form = chosen;
    *at = to;
    return OK;
}

/* Or that of an op before it, which is there by now. */
static status send_a(sending *s, const program *p, const lora_pair *pairs, uint32_t idx,
                     error *err) {
    const uint32_t slot = p->ops[idx].lora_slot, first = first_with_a(p, pairs, idx);
    ck_lora_pair *to = &s->table[slot];
    if (first == idx) return send_matrix(s, &pairs[slot].a, &to->a_form, &to->a, err);
    const ck_lora_pair *sent = &s->table[p->ops[first].lora_slot];
    to->a_form = sent->a_form;
    to->a = sent->a;
    return OK;
}

static status send_pairs(sending *s, const program *p, const lora_pair *pairs, error *err) {
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const lora_pair *pair = pair_of(pairs, &p->ops[i]);
        if (pair == NULL) continue;
        ASSERT(pair->a.rows <= p->max.lora_rank && pair->a.cols == p->ops[i].w.cols &&
               pair->b.rows == p->ops[i].w.rows && pair->b.cols == pair->a.rows);
        ck_lora_pair *to = &s->table[p->ops[i].lora_slot];
        to->rank = pair->a.rows;
        to->scale = pair->scale;
        TRY(send_a(s, p, pairs, i, err));
        TRY(send_matrix(s, &pair->b, &to->b_form, &to->b, err));
    }
    return OK;
}

static status send_table(sending *s, cu_ptr to, uint32_t slots, error *err) {
    const uint32_t most = (uint32_t)(s->stage.slot_bytes / sizeof *s->table);
    for (uint32_t i = 0; i < slots; i += most) {
        const size_t bytes = num_min_u32(slots - i, most) * sizeof *s->table;
        void *slot = NULL;
        TRY(cuda_stage_take(&s->stage, &slot, err));
        memcpy(slot, s->table + i, bytes);
        TRY(cuda_stage_send(&s->stage, to + i * sizeof *s->table, bytes, err));
    }
    return cuda_stage_drain(&s->stage, err);
}

/* A row of the widest matrix fits into a slot. */
static size_t stage_bytes(const program *p, const lora_pair *pairs) {
    uint64_t bytes = STAGE_BYTES;
    for (uint32_t i = 0; i < p->ops_count; i++) {
        const lora_pair *pair = pair_of(pairs, &p->ops[i]);
        if (pair == NULL) continue;
        bytes = num_max_u64(bytes, num_max_u64(row_bytes_of(&pair->a), row_bytes_of(&pair->b)));
    }
    return (size_t)bytes;
}

static status send_adapter(backend *b, cuda_adapter *a, error *err) {
    const program *p = b->p;
    sending s = {.memory = &a->memory};
    cu_ptr table = 0;
    TRY(cuda_arena_take(&a->memory, p->lora_slots * sizeof(ck_lora_pair), &table, err));
    s.table = mem_try_calloc(p->lora_slots, sizeof *s.table);
    if (s.table == NULL)
        return error_set(err, ERR_NOMEM, "cuda: no memory for an adapter of %u matrices",
                         p->lora_slots);
    status st = cuda_stage_open(&s.stage, &b->dev, stage_bytes(p, a->pairs), STAGE_SLOTS, err);
    if (st == OK) st = send_pairs(&s, p, a->pairs, err);
    if (st == OK) st = send_table(&s, table, p->lora_slots, err);
    cuda_stage_close(&s.stage);
    mem_free(s.table);
    return st;
}

static status open_adapter(backend *b, cuda_adapter *a, error *err) {
    const uint64_t bytes = cuda_adapter_bytes(b->p, a->pairs);
    TRY(cuda_device_enter(&b->dev, err));
    TRY(check_room(b, bytes, err));
    TRY(cuda_arena_open(&a->memory, &b->dev, "adapter", (size_t)bytes, err));
    return send_adapter(b, a, err);
}

status cuda_adapter_add(backend *b, const lora_pair *pairs, error *err) {
    ASSERT(b->p->lora_slots > 0);
    cuda_adapter *a = mem_try_calloc(1, sizeof *a);
    if (a == NULL) return error_set(err, ERR_NOMEM, "cuda: no memory for an adapter");
    a->pairs = pairs;
    const bool was_frozen = cuda_device_thaw(&b->dev);
    const status st = open_adapter(b, a, err);
    if (was_frozen) cuda_device_freeze(&b->dev);
    if (st != OK) {
        cuda_arena_close(&a->memory);
        mem_free(a);
        return st;
    }
    a->next = b->adapters;
    b->adapters = a;
    return OK;
}

/* --- and back -------------------- */

static void close_first(cuda_adapter **at) {
    cuda_adapter *a = *at;
    *at = a->next;
    cuda_arena_close(&a->memory);
    mem_free(a);
}

void cuda_adapter_drop(backend *b, const lora_pair *pairs) {
    error ignored; /* of a GPU that is lost: nothing can be done about it */
    cuda_adapter **at = &b->adapters;
    while (*at != NULL && (*at)->pairs != pairs) at = &(*at)->next;
    ASSERT(*at != NULL);
    (void)!cuda_device_enter(&b->dev, &ignored);
    /* what was begun may still read it, also for a sequence that is gone by now */
    if (b->steps_begun > b->steps_ended) (void)!cuda_sync(&b->dev, &ignored);
    close_first(at);
}

void cuda_adapters_close(backend *b) {
    while (b->adapters != NULL) close_first(&b->adapters);
}

/* --- a step -------------------- */

/* A use whose scale is 0 is none. */
static bool mix_adapts(const lora_mix *mix) {
    for (uint32_t u = 0; mix != NULL && u < mix->count; u++)
        if (mix->uses[u].scale != 0) return true;
    return false;
}

bool cuda_has_adapters(const backend *b, const batch *in) {
    if (in->loras == NULL || b->layout.lora.bytes == 0) return false;
    for (uint32_t r = 0; r < in->rows; r++)
        if (mix_adapts(in->loras[r])) return true;
    return false;
}

static cu_ptr table_of(const backend *b, const lora_pair *pairs) {
    const cuda_adapter *a = b->adapters;
    while (a != NULL && a->pairs != pairs) a = a->next;
    ASSERT(a != NULL); /* it was not added */
    return a->memory.base;
}

static bool same_mix(const lora_mix *a, const lora_mix *b) {
    if (a == b) return true;
    if (a == NULL || b == NULL || a->count != b->count) return false;
    for (uint32_t u = 0; u < a->count; u++)
        if (a->uses[u].pairs != b->uses[u].pairs || a->uses[u].scale != b->uses[u].scale)
            return false;
    return true;
}

static void *lora_at(backend *b, uint64_t offset) {
    return (char *)cuda_staged(b)->lora.host + offset;
}

static void describe_mix(const backend *b, const lora_mix *mix, ck_lora_mix *out) {
    uint32_t used = 0;
    *out = (ck_lora_mix){0};
    for (uint32_t u = 0; u < mix->count; u++)
        if (mix->uses[u].scale != 0)
            out->uses[used++] = (ck_lora_use){.pairs = table_of(b, mix->uses[u].pairs),
                                              .scale = mix->uses[u].scale};
}

/* Mixes of neighbours that are the same are one; returns how many there are. */
static uint32_t describe_mixes(backend *b, const batch *in) {
    ck_lora_mix *mixes = lora_at(b, b->layout.lora.mixes);
    uint32_t count = 0;
    for (uint32_t r = 0; r < in->rows; r++) {
        const lora_mix *mix = in->loras[r];
        if (!mix_adapts(mix)) {
            b->row_mixes[r] = MIX_NONE;
        } else if (r > 0 && same_mix(mix, in->loras[r - 1])) {
            b->row_mixes[r] = b->row_mixes[r - 1];
        } else {
            describe_mix(b, mix, &mixes[count]);
            b->row_mixes[r] = count++;
        }
    }
    return count;
}

/* Which row of the batch is row r of that set? */
static uint32_t batch_row(const batch *in, row_set set, uint32_t r) {
    if (set == ROWS_HEAD) r = in->head[r];
    return set == ROWS_ALL ? r : in->taken[r];
}

static uint32_t describe_segments(backend *b, const batch *in, row_set set, uint32_t rows) {
    ck_lora_segment *list = lora_at(b, b->layout.lora.segments[set]);
    uint32_t count = 0;
    for (uint32_t r = 0; r < rows; r++) {
        const uint32_t mix = b->row_mixes[batch_row(in, set, r)];
        ck_lora_segment *last = count > 0 ? &list[count - 1] : NULL;
        if (mix == MIX_NONE) continue;
        if (last != NULL && last->mix == mix && last->row0 + last->rows == r &&
            last->rows < CK_LORA_SEGMENT_ROWS)
            last->rows++;
        else
            list[count++] = (ck_lora_segment){.row0 = r, .rows = 1, .mix = mix};
    }
    return count;
}

void cuda_send_adapters(backend *b, const batch *in, uint32_t segments[3]) {
    const cuda_lora *l = &b->layout.lora;
    const uint32_t rows[3] = {
        [ROWS_ALL] = in->rows, [ROWS_TAKEN] = in->taken_rows, [ROWS_HEAD] = in->head_rows};
    const uint32_t mixes = describe_mixes(b, in);
    for (row_set set = ROWS_ALL; set <= ROWS_HEAD; set++)
        segments[set] = describe_segments(b, in, set, rows[set]);
    memcpy(lora_at(b, l->counts), segments, 3 * sizeof *segments);
    (void)cuda_copy_in(&b->dev, b->dev.compute, cuda_at(b, b->layout.lora_at), lora_at(b, 0),
                       (size_t)(l->mixes + mixes * sizeof(ck_lora_mix)));
}
