/* backend.c - see backend.h. */
#include "backend/backend.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

const backend_ops *backend_find(const char *name) {
    static const backend_ops *const all[] = {&backend_cpu, &backend_ref, &backend_cuda};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

const char *backend_path_name(backend_path path) {
    static const char *const names[] = {[BACKEND_PATH_NATIVE] = "native",
                                        [BACKEND_PATH_REPACKED] = "repacked",
                                        [BACKEND_PATH_ROWS] = "rows dequantized to f32",
                                        [BACKEND_PATH_PLANAR] = "planar rows",
                                        [BACKEND_PATH_CONVERTED] = "converted"};
    return names[path];
}

/* --- what the weights of a program are -------------------------------------------- */

enum { PACKED_KIND_COUNT = PACKED_FP8 + 1, PATH_COUNT = BACKEND_PATH_CONVERTED + 1 };

typedef struct weight_sum {
    const char *type;
    uint32_t tensors;
    uint64_t bytes;
} weight_sum;

typedef struct weight_sums {
    weight_sum plain[DTYPE_ID_END][PATH_COUNT];
    weight_sum packed[PACKED_KIND_COUNT][PATH_COUNT];
} weight_sums;

static void add_to(weight_sum *sum, const char *type, uint64_t bytes) {
    sum->type = type;
    sum->tensors++;
    sum->bytes += bytes;
}

static void add_weight(weight_sums *sums, const backend_ops *ops, const weight *w) {
    if (w->packed != NULL) {
        ASSERT((uint32_t)w->packed->kind < PACKED_KIND_COUNT);
        add_to(&sums->packed[w->packed->kind][ops->packed_path], packed_name(w->packed),
               packed_bytes(w->packed));
    } else if (w->data != NULL) {
        uint64_t row_bytes = 0;
        bool whole = dtype_row_bytes(w->type, w->cols, &row_bytes);
        ASSERT(whole);
        add_to(&sums->plain[w->type][ops->path(w->type)], dtype_name(w->type), row_bytes * w->rows);
    }
}

/* Does an op before this one use the same weight (tied embeddings, slices of packed rows)? */
static bool is_used_before(const program *p, uint32_t op_idx) {
    const weight *w = &p->ops[op_idx].w;
    for (uint32_t i = 0; i < op_idx; i++)
        if (p->ops[i].w.data == w->data && p->ops[i].w.packed == w->packed) return true;
    return false;
}

/* `quote`: names of packed kinds have spaces. */
static void log_sum(const weight_sum *sum, const char *quote, backend_path path) {
    if (sum->tensors > 0)
        log_info("engine", "weights type=%s%s%s tensors=%u bytes=%" PRIu64 " path=\"%s\"", quote,
                 sum->type, quote, sum->tensors, sum->bytes, backend_path_name(path));
}

static void add_place(weight_sums *sums, const backend_place *at) {
    for (uint32_t i = 0; i < at->p->ops_count; i++) {
        const op *o = &at->p->ops[i];
        for (uint32_t e = 0; o->kind == OP_EXPERTS && e < o->experts.experts; e++)
            add_weight(sums, at->ops, &o->experts.w[e]);
        if (o->kind != OP_EXPERTS && !is_used_before(at->p, i)) add_weight(sums, at->ops, &o->w);
    }
}

void backend_log_weights(const backend_place *places, uint32_t count) {
    weight_sums sums = {0};
    if (!log_is_on(LOG_INFO)) return;
    for (uint32_t i = 0; i < count; i++) add_place(&sums, &places[i]);
    for (uint32_t t = 0; t < DTYPE_ID_END; t++)
        for (uint32_t path = 0; path < PATH_COUNT; path++)
            log_sum(&sums.plain[t][path], "", (backend_path)path);
    for (uint32_t k = 0; k < PACKED_KIND_COUNT; k++)
        for (uint32_t path = 0; path < PATH_COUNT; path++)
            log_sum(&sums.packed[k][path], "\"", (backend_path)path);
}
