/* memory.c - device memory and pinned memory.
 *
 *   | no access | ....... slack | the block, 256-aligned | no access |
 *
 * A block of its own mapping ends where a page without access begins, so that host code which runs
 * over the end stops there; what kernels may touch is told to the executor byte by byte.  A freed
 * block's addresses stay without access and are not given out again until many others were
 * freed. */
#include "cudasim/driver/sim_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE_BYTES = 4096,
    ALIGN_BYTES = 256,
    UNIT_BYTES = 2 << 20,  /* what the driver takes from a GPU at a time */
    FILL_WHOLE = 64 << 20, /* larger blocks get the pattern at both ends only: pages that nobody */
    FILL_END = 1 << 20,    /* touches cost nothing */
    FRESH_BYTE = 0xff,
    GRAVES_COUNT = 256
};

typedef enum block_kind { BLOCK_DEVICE, BLOCK_HOST, BLOCK_REGISTERED } block_kind;

typedef struct block {
    uintptr_t at;
    size_t bytes;
    void *map; /* NULL: registered memory, which is the caller's */
    size_t map_bytes;
    sim_device *device; /* NULL: host */
    block_kind kind;
    bool exposed;
} block;

typedef struct grave {
    void *map;
    size_t map_bytes;
} grave;

static block *blocks; /* by address */
static uint32_t blocks_count, blocks_room;
static grave graves[GRAVES_COUNT];
static uint32_t graves_next;
static const sim_device *exposed_to; /* NULL: the executor's view must be made anew */
uint64_t memory_takes;

/* --- the table -------------------- */

/* The number of blocks that begin at or before `at`. */
static uint32_t blocks_before(uintptr_t at) {
    uint32_t low = 0, high = blocks_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (blocks[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The block that holds all of the range. */
static block *block_of(uintptr_t at, size_t bytes) {
    uint32_t n = blocks_before(at);
    if (n == 0) return NULL;
    block *b = &blocks[n - 1];
    return at - b->at <= b->bytes && bytes <= b->bytes - (at - b->at) ? b : NULL;
}

static block *block_at(const void *at, block_kind kind) {
    uint32_t n = blocks_before((uintptr_t)at);
    block *b = n == 0 ? NULL : &blocks[n - 1];
    return b != NULL && b->at == (uintptr_t)at && b->kind == kind ? b : NULL;
}

static bool overlaps(uintptr_t at, size_t bytes) {
    uint32_t n = blocks_before(at + bytes - 1);
    return n != 0 && blocks[n - 1].at + blocks[n - 1].bytes > at;
}

static void block_add(block b) {
    if (blocks_count == blocks_room) {
        blocks_room = blocks_room == 0 ? 64 : blocks_room * 2;
        block *grown = sim_new(blocks_room * sizeof *grown);
        if (blocks != NULL) memcpy(grown, blocks, blocks_count * sizeof *grown);
        free(blocks);
        blocks = grown;
    }
    uint32_t n = blocks_before(b.at);
    memmove(&blocks[n + 1], &blocks[n], (blocks_count - n) * sizeof b);
    blocks[n] = b;
    blocks_count++;
}

static void block_remove(block *b) {
    size_t behind = blocks_count - (size_t)(b - blocks) - 1;
    memmove(b, b + 1, behind * sizeof *b);
    blocks_count--;
}

/* --- mappings -------------------- */

static size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

static void fill_fresh(void *at, size_t bytes) {
    if (bytes <= FILL_WHOLE) {
        memset(at, FRESH_BYTE, bytes);
        return;
    }
    memset(at, FRESH_BYTE, FILL_END);
    memset((char *)at + bytes - FILL_END, FRESH_BYTE, FILL_END);
}

/* false: there are no addresses left. */
static bool map_block(block *b, size_t bytes) {
    size_t inner = round_up(round_up(bytes, ALIGN_BYTES), PAGE_BYTES);
    b->map_bytes = inner + (size_t)2 * PAGE_BYTES;
    b->map =
        mmap(NULL, b->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (b->map == MAP_FAILED) return false;
    char *begin = (char *)b->map + PAGE_BYTES;
    if (mprotect(begin, inner, PROT_READ | PROT_WRITE) != 0) {
        (void)munmap(b->map, b->map_bytes);
        return false;
    }
    char *at = begin + inner - round_up(bytes, ALIGN_BYTES);
    b->at = (uintptr_t)at;
    b->bytes = bytes;
    fill_fresh(at, bytes);
    return true;
}

/* Gives the pages back and keeps the addresses, until GRAVES_COUNT others were buried. */
static void bury(const block *b) {
    void *again = mmap(b->map, b->map_bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (again == MAP_FAILED) return;
    grave *g = &graves[graves_next++ % GRAVES_COUNT];
    if (g->map != NULL) (void)munmap(g->map, g->map_bytes);
    g->map = b->map;
    g->map_bytes = b->map_bytes;
}

/* --- what kernels may touch -------------------- */

static void hide(block *b) {
    if (b->exposed) sim_memory_remove((const void *)b->at);
    b->exposed = false;
}

static bool may_reach(const sim_device *device, const block *b) {
    return b->device == NULL || b->device == device || device->peers[b->device->index];
}

void memory_expose(sim_device *device) {
    if (device == exposed_to) return;
    for (uint32_t i = 0; i < blocks_count; i++) {
        block *b = &blocks[i];
        if (!may_reach(device, b)) {
            hide(b);
        } else if (!b->exposed) {
            sim_memory_add((const void *)b->at, b->bytes);
            b->exposed = true;
        }
    }
    exposed_to = device;
}

void memory_forget_exposed(void) { exposed_to = NULL; }

static void block_new(block b) {
    block_add(b);
    exposed_to = NULL;
}

static void block_end(block *b) {
    hide(b);
    if (b->map != NULL) bury(b);
    block_remove(b);
}

/* --- device memory -------------------- */

uint64_t memory_used(const sim_device *device) {
    uint64_t context = device->handle != NULL ? device->gpu->context_bytes : 0;
    return context + device->memory.held_now;
}

static void count_take(sim_memory_use *use, uint64_t asked, uint64_t held) {
    use->asked_now += asked;
    use->held_now += held;
    use->blocks++;
    if (use->asked_now > use->asked_peak) use->asked_peak = use->asked_now;
    if (use->held_now > use->held_peak) use->held_peak = use->held_now;
}

static void count_give(sim_memory_use *use, uint64_t asked, uint64_t held) {
    use->asked_now -= asked;
    use->held_now -= held;
    use->blocks--;
}

cu_result memory_take(sim_device *device, size_t bytes, cu_ptr *out) {
    if (bytes == 0 || out == NULL) return CU_INVALID_VALUE;
    uint64_t room = device->gpu->memory_bytes - memory_used(device);
    if (bytes > room || round_up(bytes, UNIT_BYTES) > room) return CU_OUT_OF_MEMORY;
    block b = {.device = device, .kind = BLOCK_DEVICE};
    if (!map_block(&b, bytes)) return CU_OUT_OF_MEMORY;
    block_new(b);
    count_take(&device->memory, bytes, round_up(bytes, UNIT_BYTES));
    memory_takes++;
    *out = b.at;
    return CU_SUCCESS;
}

cu_result memory_give(sim_device *device, cu_ptr at) {
    if (at == 0) return CU_SUCCESS;
    block *b = block_at((const void *)(uintptr_t)at, BLOCK_DEVICE);
    if (b == NULL || b->device != device) return CU_INVALID_VALUE;
    count_give(&device->memory, b->bytes, round_up(b->bytes, UNIT_BYTES));
    block_end(b);
    return CU_SUCCESS;
}

/* --- pinned memory -------------------- */

cu_result memory_host_take(size_t bytes, void **out) {
    if (bytes == 0 || out == NULL || bytes > SIZE_MAX / 2) return CU_INVALID_VALUE;
    block b = {.kind = BLOCK_HOST};
    if (!map_block(&b, bytes)) return CU_OUT_OF_MEMORY;
    block_new(b);
    memory_takes++;
    *out = (void *)b.at;
    return CU_SUCCESS;
}

cu_result memory_host_give(const void *at) {
    block *b = block_at(at, BLOCK_HOST);
    if (b == NULL) return CU_INVALID_VALUE;
    block_end(b);
    return CU_SUCCESS;
}

cu_result memory_register(void *at, size_t bytes) {
    if (at == NULL || bytes == 0 || bytes > SIZE_MAX - (uintptr_t)at) return CU_INVALID_VALUE;
    if (overlaps((uintptr_t)at, bytes)) return CU_HOST_MEMORY_ALREADY_REGISTERED;
    block_new((block){.at = (uintptr_t)at, .bytes = bytes, .kind = BLOCK_REGISTERED});
    memory_takes++;
    return CU_SUCCESS;
}

cu_result memory_unregister(const void *at) {
    block *b = block_at(at, BLOCK_REGISTERED);
    if (b == NULL) return 713; /* HOST_MEMORY_NOT_REGISTERED */
    block_end(b);
    return CU_SUCCESS;
}

/* --- questions -------------------- */

bool memory_is_device(const void *at, size_t bytes, sim_device **owner) {
    const block *b = block_of((uintptr_t)at, bytes);
    if (b == NULL || b->kind != BLOCK_DEVICE) return false;
    if (owner != NULL) *owner = b->device;
    return true;
}

bool memory_is_pinned(const void *at, size_t bytes) {
    const block *b = block_of((uintptr_t)at, bytes);
    return b != NULL && b->kind != BLOCK_DEVICE;
}

bool memory_touches_device(const void *at, size_t bytes) {
    uint32_t n = blocks_before((uintptr_t)at + bytes - 1);
    const block *b = n == 0 ? NULL : &blocks[n - 1];
    return b != NULL && b->kind == BLOCK_DEVICE && b->at + b->bytes > (uintptr_t)at;
}

uint64_t memory_host_blocks(void) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < blocks_count; i++) count += blocks[i].kind != BLOCK_DEVICE;
    return count;
}

uint64_t memory_release(sim_device *device) {
    uint64_t count = 0;
    for (uint32_t i = blocks_count; i-- > 0;) {
        if (device != NULL && blocks[i].device != device) continue;
        block_end(&blocks[i]);
        count++;
    }
    if (device != NULL) {
        device->memory.asked_now = device->memory.held_now = device->memory.blocks = 0;
    } else {
        memory_takes = 0;
        exposed_to = NULL;
    }
    return count;
}

sim_memory_use sim_memory(uint32_t gpu) {
    sim_memory_use use = {0};
    sim_lock();
    if (gpu < sim.topology->gpus_count) use = sim.devices[gpu].memory;
    sim_unlock();
    return use;
}
