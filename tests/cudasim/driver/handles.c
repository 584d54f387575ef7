/* handles.c - handles are numbers, not addresses: a slot of a table and which use of the slot it
 * was, so that a handle stays invalid when its object is gone, and one of another kind is never
 * taken for it.  The upper byte makes them addresses that no program can touch. */
#include "cudasim/driver/sim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* | 0x5d | kind 8 bits | use 24 bits | slot + 1, 24 bits | */
enum { SLOT_BITS = 24, USE_BITS = 24, SLOTS_MAX = (1 << SLOT_BITS) - 2 };
#define HANDLE_MARK ((uint64_t)0x5d << 56)

typedef struct slot {
    void *object; /* NULL: free */
    uint32_t use;
    uint32_t next_free; /* slot + 1 */
    sim_kind kind;
} slot;

static slot *slots;
static uint32_t slots_count, slots_room, first_free;
static uint32_t uses_before; /* uses of slots start here: handles of before a reset stay invalid */

void *sim_new(size_t bytes) {
    void *p = calloc(1, bytes);
    if (p == NULL) {
        (void)fprintf(stderr, "cudasim: no memory for %zu bytes\n", bytes);
        abort();
    }
    return p;
}

static uint32_t take_slot(void) {
    if (first_free != 0) {
        uint32_t index = first_free - 1;
        first_free = slots[index].next_free;
        return index;
    }
    if (slots_count == slots_room) {
        uint32_t room = slots_room == 0 ? 256 : slots_room * 2;
        slot *grown = room > SLOTS_MAX ? NULL : realloc(slots, room * sizeof *slots);
        if (grown == NULL) {
            (void)fprintf(stderr, "cudasim: more than %u handles\n", slots_count);
            abort();
        }
        slots = grown;
        slots_room = room;
    }
    slots[slots_count].use = uses_before;
    return slots_count++;
}

void *sim_handle_new(sim_kind kind, void *object) {
    uint32_t index = take_slot();
    slot *s = &slots[index];
    s->object = object;
    s->kind = kind;
    s->use = (s->use + 1) & ((1u << USE_BITS) - 1);
    uint64_t value = HANDLE_MARK | (uint64_t)kind << (SLOT_BITS + USE_BITS) |
                     (uint64_t)s->use << SLOT_BITS | (index + 1);
    return (void *)(uintptr_t)value;
}

static slot *find_slot(sim_kind kind, const void *handle) {
    uint64_t value = (uint64_t)(uintptr_t)handle;
    uint32_t number = (uint32_t)(value & ((1u << SLOT_BITS) - 1));
    uint32_t use = (uint32_t)(value >> SLOT_BITS & ((1u << USE_BITS) - 1));
    if (value >> 56 != HANDLE_MARK >> 56 || (value >> 48 & 0xff) != (uint64_t)kind) return NULL;
    if (number == 0 || number > slots_count) return NULL;
    slot *s = &slots[number - 1];
    return s->object != NULL && s->use == use && s->kind == kind ? s : NULL;
}

void *sim_handle_get(sim_kind kind, const void *handle) {
    slot *s = find_slot(kind, handle);
    return s == NULL ? NULL : s->object;
}

void sim_handle_drop(const void *handle) {
    sim_kind kind = (sim_kind)((uint64_t)(uintptr_t)handle >> 48 & 0xff);
    slot *s = find_slot(kind, handle);
    if (s == NULL) return;
    s->object = NULL;
    s->next_free = first_free;
    first_free = (uint32_t)(s - slots) + 1;
}

void *sim_handle_next(sim_kind kind, uint32_t *at) {
    while (*at < slots_count) {
        slot *s = &slots[(*at)++];
        if (s->object != NULL && s->kind == kind) return s->object;
    }
    return NULL;
}

uint64_t sim_handle_count(sim_kind kind) {
    uint64_t count = 0;
    for (uint32_t at = 0; sim_handle_next(kind, &at) != NULL;) count++;
    return count;
}

void sim_handle_reset(void) {
    for (uint32_t i = 0; i < slots_count; i++) {
        if (slots[i].use > uses_before) uses_before = slots[i].use;
    }
    free(slots);
    slots = NULL;
    slots_count = slots_room = first_free = 0;
}
