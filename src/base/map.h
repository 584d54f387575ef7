/* map.h - string to u32, open addressing, keyed hash.
 *
 * Keys are borrowed views that must outlive the map.  The hash is SipHash with a key
 * drawn per process, so names from a hostile file cannot be chosen to collide. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

typedef struct map_entry {
    str key;
    uint32_t value;
    bool used;
} map_entry;

typedef struct map {
    map_entry *entries; /* owned; [cap], cap a power of two */
    uint32_t cap;
    uint32_t count;
} map;

/* Room for `count_max` keys is taken at once. */
NODISCARD status map_init(map *m, uint32_t count_max, error *err);
void map_deinit(map *m);

/* Adds the key; false (and no change) when it is there already. */
bool map_add(map *m, str key, uint32_t value);

/* Is the key there?  *value is filled when it is; value may be NULL. */
bool map_get(const map *m, str key, uint32_t *value);

#endif
