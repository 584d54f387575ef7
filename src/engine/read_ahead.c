/* read_ahead.c - see read_ahead.h. */
#include "engine/read_ahead.h"

#include "base/log.h"

/* The weights of an op, [*count]; they may have no data. */
static const weight *op_weights(const op *o, uint32_t *count) {
    bool experts = o->kind == OP_EXPERTS;
    *count = experts ? o->experts.experts : 1;
    return experts ? o->experts.w : &o->w;
}

/* Its bytes in the file; of a packed matrix the quanta, which are nearly all there is. */
static size_t weight_bytes(const weight *w, const volatile char **data) {
    uint64_t row = 0;
    if (w->packed != NULL) {
        bool nibbles = w->packed->kind != PACKED_INT8 && w->packed->kind != PACKED_FP8;
        *data = w->packed->data;
        return (size_t)w->packed->rows * w->packed->cols / (nibbles ? 2 : 1);
    }
    *data = w->data;
    bool stored = w->data != NULL && dtype_row_bytes(w->type, w->cols, &row);
    return stored ? (size_t)(w->rows * row) : 0;
}

/* Rows of a table are looked up one by one: no step reads the whole of it. */
static bool is_read_whole(const backend_place *at, const op *o, const weight *w) {
    if (at->on_device || o->kind == OP_EMBED || o->kind == OP_EMBED_POS) return false;
    const bool product = o->kind == OP_MATMUL || o->kind == OP_EXPERTS;
    return !product || w->packed != NULL || at->ops->path(w->type) != BACKEND_PATH_REPACKED;
}

/* --- how much -------------------- */

static uint64_t add_bytes(const backend_place *at, bool all) {
    uint64_t total = 0;
    const volatile char *data = NULL;
    for (uint32_t i = 0; i < at->p->ops_count; i++) {
        const op *o = &at->p->ops[i];
        uint32_t count = 0;
        const weight *w = op_weights(o, &count);
        for (uint32_t k = 0; k < count; k++)
            if (all || is_read_whole(at, o, &w[k])) total += weight_bytes(&w[k], &data);
    }
    return total;
}

uint64_t read_ahead_all_bytes(const backend_place *places, uint32_t count) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) total += add_bytes(&places[i], true);
    return total;
}

uint64_t read_ahead_bytes(const backend_place *places, uint32_t count) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) total += add_bytes(&places[i], false);
    return total;
}

/* --- reading -------------------- */

typedef struct reading {
    const backend_progress *progress;
    uint64_t done, total;
} reading;

static status read_weight(reading *r, const weight *w, error *err) {
    enum { PAGE = 4096, CHUNK = 8 << 20 };
    const volatile char *data = NULL;
    size_t bytes = weight_bytes(w, &data);
    for (size_t at = 0; at < bytes; at += PAGE) {
        (void)data[at];
        if (at % CHUNK == 0 && !r->progress->tell(r->progress->ctx, r->done + at, r->total))
            return error_set(err, ERR_CANCELED, "engine: stopped while reading the weights");
    }
    r->done += bytes;
    return OK;
}

static status read_place(reading *r, const backend_place *at, error *err) {
    for (uint32_t i = 0; i < at->p->ops_count; i++) {
        const op *o = &at->p->ops[i];
        uint32_t count = 0;
        const weight *w = op_weights(o, &count);
        for (uint32_t k = 0; k < count; k++)
            if (is_read_whole(at, o, &w[k])) TRY(read_weight(r, &w[k], err));
    }
    return OK;
}

status read_ahead(const backend_place *places, uint32_t count, uint64_t available,
                  const backend_progress *progress, uint64_t done, uint64_t total, error *err) {
    const double mib = 1024.0 * 1024.0;
    const uint64_t bytes = read_ahead_bytes(places, count);
    reading r = {.progress = progress, .done = done, .total = total};
    if (bytes > available) {
        log_warn("engine",
                 "weights that the CPU reads as they are stored have %.1f MiB, %.1f MiB of host "
                 "memory are free: steps will read from the file again and again",
                 (double)bytes / mib, (double)available / mib);
        return OK;
    }
    for (uint32_t i = 0; i < count; i++) TRY(read_place(&r, &places[i], err));
    return OK;
}
