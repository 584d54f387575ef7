/* shared.c - the shared memory of a block: the dynamic array, then each static one as it is met.
 *
 *     | dynamic | fence | static | fence | static | fence | ...
 *
 * All is 0xCD when a block begins.  A fence of 64 bytes behind each array is looked at when the
 * block ends; ASan knows the arrays' exact ends.  Under ThreadSanitizer each block gets other
 * memory as long as there is some: what an earlier block did to the same bytes is no race with this
 * one. */
#include <sys/mman.h>

#include "cudasim/exec/exec_internal.h"
#include "cudasim/exec/fiber.h"

#if SIM_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

enum { ARRAYS_MAX = 64, FENCE_BYTES = 64, ALIGN = 16, FENCE = 0xA5, FILL = 0xCD };
enum { ARENA_BYTES = SIM_TSAN ? 256 << 20 : 1 << 20 };

typedef struct shared_array {
    const void *declaration; /* NULL: the dynamic one */
    unsigned char *at;
    size_t bytes;
} shared_array;

static unsigned char *arena; /* ARENA_BYTES, for the life of the process */
static size_t arena_used;
static size_t block_room; /* bytes that a block of this launch may need, fences included */
static uint32_t block_bytes_max;
static struct {
    shared_array arrays[ARRAYS_MAX];
    uint32_t arrays_count;
    size_t asked; /* bytes, as a GPU counts them */
    unsigned char *tags, *next;
} block;

/* Not memset(), which ThreadSanitizer would take for an access of the thread that calls it. */
static void fill(unsigned char *at, size_t bytes, unsigned char with) {
    volatile unsigned char *p = at;
    uint64_t eight = UINT64_C(0x0101010101010101) * with;
    size_t i = 0;
    for (; i < bytes && (uintptr_t)(p + i) % 8 != 0; i++) p[i] = with;
    for (; i + 8 <= bytes; i += 8) *(volatile uint64_t *)(p + i) = eight;
    for (; i < bytes; i++) p[i] = with;
}

static size_t aligned(size_t bytes) { return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1); }

bool sim_shared_prepare(uint32_t bytes_max) {
    block_bytes_max = bytes_max;
    block_room =
        SIM_SHARED_TAGS * 8 + aligned(bytes_max) + (size_t)ARRAYS_MAX * (FENCE_BYTES + ALIGN);
    arena_used = 0;
    if (block_room > ARENA_BYTES) return false;
    if (arena != NULL) return true;
    void *p = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    arena = p;
    return true;
}

bool sim_shared_has_room(void) { return ARENA_BYTES - arena_used >= block_room; }
void sim_shared_reuse(void) { arena_used = 0; }

/* The caller has checked that it fits. */
static unsigned char *take(const void *declaration, size_t bytes) {
    unsigned char *at = block.next;
    block.arrays[block.arrays_count++] = (shared_array){declaration, at, bytes};
    block.asked += aligned(bytes);
    block.next += aligned(bytes) + FENCE_BYTES;
    ASAN_UNPOISON_MEMORY_REGION(at, bytes);
    fill(at, bytes, FILL);
    if (!SIM_ASAN) fill(at + bytes, (size_t)(block.next - at) - bytes, FENCE);
    return at;
}

void sim_shared_begin(uint32_t dynamic_bytes) {
    block.arrays_count = 0;
    block.asked = 0;
    block.tags = arena + arena_used;
    block.next = block.tags + SIM_SHARED_TAGS * 8;
    ASAN_POISON_MEMORY_REGION(block.next, block_room - SIM_SHARED_TAGS * 8);
    sim_here.shared_dyn = take(NULL, dynamic_bytes);
}

char *sim_shared_tag(uint32_t i) { return (char *)block.tags + (size_t)i * 8; }

void *sim_shared(const void *declaration, size_t bytes) {
    for (uint32_t i = 1; i < block.arrays_count; i++)
        if (block.arrays[i].declaration == declaration) return block.arrays[i].at;
    if (block.arrays_count == ARRAYS_MAX)
        SIM_FAIL(SIM_BAD_LAUNCH, "has more than %d shared arrays", ARRAYS_MAX);
    if (block.asked + aligned(bytes) > block_bytes_max)
        SIM_FAIL(SIM_BAD_LAUNCH, "%zu bytes of shared memory and an array of %zu more, may have %u",
                 block.asked, bytes, block_bytes_max);
    return take(declaration, bytes);
}

static bool fence_is_whole(const shared_array *a) {
    const unsigned char *end = a->at + aligned(a->bytes) + FENCE_BYTES;
    for (const unsigned char *p = a->at + a->bytes; p < end; p++)
        if (*p != FENCE) return false;
    return true;
}

bool sim_shared_check(void) {
    if (SIM_TSAN) arena_used += (size_t)(block.next - block.tags);
    if (SIM_ASAN) return true;
    for (uint32_t i = 0; i < block.arrays_count; i++) {
        const shared_array *a = &block.arrays[i];
        if (fence_is_whole(a)) continue;
        sim_explain(SIM_ILLEGAL_ADDRESS, false, "wrote beyond %s shared array of %zu bytes",
                    a->declaration == NULL ? "the dynamic" : "a static", a->bytes);
        return false;
    }
    return true;
}
