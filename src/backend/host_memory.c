/* host_memory.c - see host_memory.h. */
#include "backend/host_memory.h"

#include <string.h>

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

status host_memory_copies(host_memory *m, size_t block_bytes, uint32_t blocks, error *err) {
    os_unmap(m->copies, m->copies_bytes);
    m->copies = NULL;
    m->copies_bytes = 0;
    m->block_bytes = block_bytes;
    if (blocks * block_bytes == 0) return OK;
    TRY(os_map_pages(blocks * block_bytes, &m->copies, err));
    m->copies_bytes = blocks * block_bytes;
    return OK;
}

static char *block_at(const host_memory *m, uint32_t block) {
    ASSERT((block + 1) * m->block_bytes <= m->kv_bytes);
    return (char *)m->kv + block * m->block_bytes;
}

static char *copy_at(const host_memory *m, uint32_t host_block) {
    ASSERT((host_block + 1) * m->block_bytes <= m->copies_bytes);
    return (char *)m->copies + host_block * m->block_bytes;
}

void host_memory_save(host_memory *m, const kv_move *moves, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        memcpy(copy_at(m, moves[i].host_block), block_at(m, moves[i].block), m->block_bytes);
}

void host_memory_load(host_memory *m, const kv_move *moves, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        memcpy(block_at(m, moves[i].block), copy_at(m, moves[i].host_block), m->block_bytes);
}

void host_memory_close(host_memory *m) {
    os_unmap(m->copies, m->copies_bytes);
    os_unmap(m->kv, m->kv_bytes);
    os_unmap(m->states, m->state_bytes);
}
