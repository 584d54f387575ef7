/* cuda_stage.c - see cuda_stage.h. */
#include "backend/cuda/cuda_stage.h"

#include <string.h>

#include "backend/cuda/cuda_device_internal.h"
#include "base/assert.h"
#include "base/num.h"

/* --- pinned blocks --------------------------------------------------------- */

status cuda_pinned_open_unset(cuda_pinned *out, cuda_device *dev, size_t bytes, error *err) {
    ASSERT(!dev->frozen && bytes > 0);
    cuda_pinned p = {.dev = dev, .bytes = bytes};
    cu_result code = dev->driver->host_alloc(&p.host, bytes, CU_HOST_ALLOC_PORTABLE);
    if (code == CU_OUT_OF_MEMORY)
        return error_set(err, ERR_NOMEM,
                         "cuda: no %zu bytes of pinned host memory for GPU %d '%s': too little "
                         "memory, or a limit on locked memory (ulimit -l)",
                         bytes, dev->ordinal, dev->name);
    TRY(cuda_check(dev, code, "cuMemHostAlloc", err));
    *out = p;
    return OK;
}

status cuda_pinned_open(cuda_pinned *out, cuda_device *dev, size_t bytes, error *err) {
    TRY(cuda_pinned_open_unset(out, dev, bytes, err));
    memset(out->host, 0, bytes);
    return OK;
}

void cuda_pinned_close(cuda_pinned *p) {
    if (p->host != NULL) (void)p->dev->driver->host_free(p->host);
    *p = (cuda_pinned){.dev = NULL};
}

/* --- the ring -------------------------------------------------------------- */

static unsigned char *slot_of(const cuda_stage *s, uint32_t idx) {
    return (unsigned char *)s->memory.host + idx * s->slot_bytes;
}

status cuda_stage_open(cuda_stage *out, cuda_device *dev, size_t slot_bytes, uint32_t slots,
                       error *err) {
    ASSERT(slots >= 1 && slots <= CUDA_STAGE_SLOTS_MAX && slot_bytes > 0);
    size_t bytes = 0;
    if (!num_mul_size(&bytes, slot_bytes, slots))
        return error_set(err, ERR_LIMIT, "cuda: %u slots of %zu bytes are too many", slots,
                         slot_bytes);
    cuda_stage s = {.dev = dev, .slot_bytes = slot_bytes, .slots_count = slots};
    status st = cuda_pinned_open(&s.memory, dev, bytes, err);
    for (uint32_t i = 0; st == OK && i < slots; i++) {
        unsigned flags = CU_EVENT_BLOCKING_SYNC_FLAG | CU_EVENT_DISABLE_TIMING_FLAG;
        st = cuda_check(dev, dev->driver->event_create(&s.done[i], flags), "cuEventCreate", err);
    }
    if (st == OK)
        *out = s;
    else
        cuda_stage_close(&s);
    return st;
}

void cuda_stage_close(cuda_stage *s) {
    if (s->dev == NULL) return;
    (void)s->dev->driver->stream_sync(s->dev->upload); /* the copies read our memory */
    for (uint32_t i = 0; i < s->slots_count; i++)
        if (s->done[i] != NULL) (void)s->dev->driver->event_destroy(s->done[i]);
    cuda_pinned_close(&s->memory);
    *s = (cuda_stage){.dev = NULL};
}

static status wait_for_slot(cuda_stage *s, uint32_t idx, error *err) {
    if (!s->sent[idx]) return cuda_noted(s->dev, err);
    s->sent[idx] = false;
    return cuda_try(s->dev, s->dev->driver->event_sync(s->done[idx]), "cuEventSynchronize", err);
}

status cuda_stage_take(cuda_stage *s, void **out, error *err) {
    ASSERT(!s->taken);
    TRY(wait_for_slot(s, s->next_idx, err));
    s->taken = true;
    *out = slot_of(s, s->next_idx);
    return OK;
}

status cuda_stage_copy(cuda_stage *s, cu_ptr dst, size_t offset, size_t bytes, error *err) {
    ASSERT(s->taken && offset <= s->slot_bytes && bytes <= s->slot_bytes - offset);
    if (cuda_copy_in(s->dev, s->dev->upload, dst, slot_of(s, s->next_idx) + offset, bytes) != OK)
        return cuda_noted(s->dev, err);
    s->sent_bytes += bytes;
    return OK;
}

status cuda_stage_give(cuda_stage *s, error *err) {
    ASSERT(s->taken);
    uint32_t idx = s->next_idx;
    cu_result code = s->dev->driver->event_record(s->done[idx], s->dev->upload);
    s->taken = false;
    s->sent[idx] = code == CU_SUCCESS;
    s->next_idx = (idx + 1) % s->slots_count;
    return cuda_try(s->dev, code, "cuEventRecord", err);
}

status cuda_stage_send(cuda_stage *s, cu_ptr dst, size_t bytes, error *err) {
    status st = cuda_stage_copy(s, dst, 0, bytes, err);
    status given = cuda_stage_give(s, err);
    return st != OK ? st : given;
}

status cuda_stage_drain(cuda_stage *s, error *err) {
    ASSERT(!s->taken);
    for (uint32_t i = 0; i < s->slots_count; i++) s->sent[i] = false;
    return cuda_sync_stream(s->dev, s->dev->upload, err);
}
