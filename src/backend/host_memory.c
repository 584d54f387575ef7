/* host_memory.c - see host_memory.h. */
#include "backend/host_memory.h"

#include "base/assert.h"
#include "base/os.h"

status host_memory_open(host_memory *m, size_t kv_bytes, size_t state_bytes, error *err) {
    ASSERT(m->kv == NULL && m->states == NULL);
    void *states = NULL;
    if (kv_bytes > 0) TRY(os_map_pages(kv_bytes, &m->kv, err));
    m->kv_bytes = kv_bytes;
    if (state_bytes > 0) TRY(os_map_pages(state_bytes, &states, err));
    m->states = states;
    m->state_bytes = state_bytes;
    return OK;
}

void host_memory_close(host_memory *m) {
    os_unmap(m->kv, m->kv_bytes);
    os_unmap(m->states, m->state_bytes);
}
