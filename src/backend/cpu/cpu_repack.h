/* cpu_repack.h - the packed copies of a program's weights.
 *
 * Every matrix that a product reads and whose type and width allow it is repacked when the
 * backend is loaded (cpu_pack.h); the products then read the copy, and the original's pages are the
 * system's to take back.  Rows that are looked up one by one (embeddings), products head by head
 * and types without a packed form keep the original.
 * Owner: the backend; read-only once loaded. */
#ifndef BACKEND_CPU_CPU_REPACK_H
#define BACKEND_CPU_CPU_REPACK_H

#include "backend/backend.h"
#include "backend/cpu/cpu_pack.h"
#include "backend/cpu/cpu_pool.h"

typedef struct pack_matrix {
    const pack_format *format; /* NULL: not packed */
    const weight *w;
    uint8_t *groups;
    size_t group_bytes;
} pack_matrix;

/* The run that packs one matrix after the other. */
typedef struct packing {
    const pack_matrix *m;
    cpu_pool *pool;
    cpu_phase phase;
} packing;

typedef struct pack_set {
    pack_matrix *list; /* owned */
    uint32_t count;
    uint32_t *first;         /* owned; [ops_count] the first matrix of an op that has any */
    void *memory;            /* owned pages */
    size_t bytes;            /* of memory */
    uint64_t replaced_bytes; /* of the originals, which products read no more */
    bool loaded;
    packing *work; /* owned */
} pack_set;

/* Is the weight of a product multiplied in packed form? */
bool cpu_weight_packs(const weight *w);

/* Find the matrices and add up their bytes; maps nothing. */
NODISCARD status pack_set_init(pack_set *s, const program *p, error *err);
NODISCARD status pack_set_map(pack_set *s, error *err);
void pack_set_deinit(pack_set *s);

/* Pack everything, matrix by matrix, on the pool.  ERR_CANCELED when `progress` says stop. */
NODISCARD status pack_set_load(pack_set *s, cpu_pool *pool, const backend_progress *progress,
                               error *err);

/* The packed form of the weight of op op_idx, or of its expert; NULL: it has none. */
static inline const pack_matrix *pack_of(const pack_set *s, uint32_t op_idx, uint32_t expert) {
    const pack_matrix *m = &s->list[s->first[op_idx] + expert];
    return m->format != NULL ? m : NULL;
}

#endif
