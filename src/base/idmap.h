/* idmap.h - u64 id to pointer, fixed capacity, with removal.
 *
 * Linear probing over a power-of-two table at most half full; removal shifts the run
 * back, so there are no tombstones.  Ids are ours, not hostile.  Owner: the holder. */
#ifndef BASE_IDMAP_H
#define BASE_IDMAP_H

#include <stdint.h>

#include "base/error.h"

typedef struct idmap_entry {
    uint64_t id;
    void *value; /* NULL: free */
} idmap_entry;

typedef struct idmap {
    idmap_entry *entries; /* owned; [mask + 1] */
    uint32_t mask;
    uint32_t count;
    uint32_t count_max;
} idmap;

NODISCARD status idmap_init(idmap *m, uint32_t count_max, error *err);
void idmap_deinit(idmap *m);

/* NULL when the id is not there. */
void *idmap_get(const idmap *m, uint64_t id);
/* The id is new, value is not NULL and count < count_max (asserted). */
void idmap_add(idmap *m, uint64_t id, void *value);
/* Takes the id out; returns its value, NULL when it was not there. */
void *idmap_remove(idmap *m, uint64_t id);

/* Walk all entries: start with *at = 0; NULL at the end.  No changes during the walk. */
void *idmap_next(const idmap *m, uint32_t *at);

#endif
