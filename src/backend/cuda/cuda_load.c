/* cuda_load.c - weights and constants on their way to the device.
 *
 * Rows are packed into a slot of pinned memory while the slots before it are being copied:
 *
 *   slot:  | plane 0 of rows r0 .. | plane 1 | .. |     each part goes to its place in its plane */
#include <inttypes.h>
#include <string.h>

#include "backend/cuda/cuda_internal.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/num.h"

enum { SLOT_BYTES = 4 << 20, SLOTS = 4, ROWS_AT_ONCE = 8 };

typedef struct loading {
    backend *b;
    cuda_stage stage;
    const backend_progress *progress; /* or NULL */
    uint64_t done, total;             /* bytes of weights */
} loading;

/* --- weights -------------------- */

/* Bytes of a slot that `rows` rows of all planes take. */
static size_t slot_bytes_of(const uint64_t row_bytes[CK_PLANES_MAX], uint32_t rows) {
    size_t bytes = 0;
    for (uint32_t i = 0; i < CK_PLANES_MAX; i++)
        bytes += num_align_size((size_t)row_bytes[i] * rows, CUDA_ALIGN_BYTES);
    return bytes;
}

/* Slots have room for several rows of the widest matrix. */
static size_t choose_slot_bytes(const cuda_layout *l) {
    size_t bytes = SLOT_BYTES;
    for (uint32_t i = 0; i < l->weights_count; i++) {
        uint64_t row_bytes[CK_PLANES_MAX];
        cuda_planar_row_bytes(l->weights[i].form, l->weights[i].w->cols, row_bytes);
        bytes = num_max_u64(bytes, slot_bytes_of(row_bytes, ROWS_AT_ONCE));
    }
    for (uint32_t i = 0; i < l->matrices_count; i++) {
        const op *o = &l->p->ops[l->matrices[i].op_idx];
        bytes = num_max_u64(bytes, o->experts.experts * sizeof(ck_matrix));
    }
    return bytes;
}

/* As many as fit, in steps of what is unpacked at once. */
static uint32_t rows_per_slot(const uint64_t row_bytes[CK_PLANES_MAX], size_t slot_bytes) {
    const size_t some = slot_bytes_of(row_bytes, ROWS_AT_ONCE);
    return (uint32_t)num_min_u64(slot_bytes / some * ROWS_AT_ONCE, UINT32_MAX);
}

static status send_rows(loading *l, const cuda_weight *placed, uint32_t row0, uint32_t rows,
                        error *err) {
    uint64_t row_bytes[CK_PLANES_MAX];
    void *slot = NULL, *planes[CK_PLANES_MAX];
    size_t at[CK_PLANES_MAX], end = 0;
    cuda_planar_row_bytes(placed->form, placed->w->cols, row_bytes);
    TRY(cuda_stage_take(&l->stage, &slot, err));
    for (uint32_t i = 0; i < CK_PLANES_MAX; i++) {
        at[i] = end;
        planes[i] = (char *)slot + end;
        end += num_align_size((size_t)row_bytes[i] * rows, CUDA_ALIGN_BYTES);
    }
    TRY(cuda_planar_pack(placed->form, placed->w, row0, rows, planes, err));
    for (uint32_t i = 0; i < CK_PLANES_MAX; i++) {
        if (row_bytes[i] == 0) continue;
        cu_ptr to = l->b->weights.base + placed->planes[i] + row0 * row_bytes[i];
        TRY(cuda_stage_copy(&l->stage, to, at[i], (size_t)row_bytes[i] * rows, err));
        l->done += row_bytes[i] * rows;
    }
    return cuda_stage_give(&l->stage, err);
}

static status tell(const loading *l, error *err) {
    const backend_progress *p = l->progress;
    if (p == NULL || p->tell(p->ctx, num_min_u64(l->done, l->total), l->total)) return OK;
    return error_set(err, ERR_CANCELED,
                     "cuda: stopped while sending the weights, %" PRIu64 " of %" PRIu64 " bytes",
                     l->done, l->total);
}

static status send_weight(loading *l, const cuda_weight *placed, error *err) {
    uint64_t row_bytes[CK_PLANES_MAX];
    cuda_planar_row_bytes(placed->form, placed->w->cols, row_bytes);
    const uint32_t rows_max = rows_per_slot(row_bytes, l->stage.slot_bytes);
    for (uint32_t row = 0; row < placed->w->rows; row += rows_max) {
        uint32_t rows = num_min_u32(placed->w->rows - row, rows_max);
        TRY(send_rows(l, placed, row, rows, err));
        TRY(tell(l, err));
        if (placed->w->rows - row <= rows_max) break;
    }
    return OK;
}

/* --- the rest -------------------- */

static status send_constant(loading *l, const cuda_constant *c, error *err) {
    for (uint64_t at = 0; at < c->bytes; at += l->stage.slot_bytes) {
        const size_t bytes = (size_t)num_min_u64(c->bytes - at, l->stage.slot_bytes);
        void *slot = NULL;
        TRY(cuda_stage_take(&l->stage, &slot, err));
        memcpy(slot, (const char *)c->data + at, bytes);
        TRY(cuda_stage_send(&l->stage, cuda_at(l->b, c->at) + at, bytes, err));
    }
    return OK;
}

static status send_matrices(loading *l, const cuda_matrices *m, error *err) {
    const cuda_layout *layout = &l->b->layout;
    const uint32_t count = layout->p->ops[m->op_idx].experts.experts;
    const cuda_weight *first = cuda_weight_of(layout, m->op_idx);
    void *slot = NULL;
    TRY(cuda_stage_take(&l->stage, &slot, err));
    ck_matrix *out = slot;
    for (uint32_t i = 0; i < count; i++) out[i] = cuda_matrix(first + i, l->b->weights.base);
    return cuda_stage_send(&l->stage, cuda_at(l->b, m->at), count * sizeof *out, err);
}

static status send_all(loading *l, error *err) {
    const cuda_layout *layout = &l->b->layout;
    TRY(tell(l, err));
    for (uint32_t i = 0; i < layout->weights_count; i++)
        TRY(send_weight(l, &layout->weights[i], err));
    for (uint32_t i = 0; i < layout->constants_count; i++)
        TRY(send_constant(l, &layout->constants[i], err));
    for (uint32_t i = 0; i < layout->matrices_count; i++)
        TRY(send_matrices(l, &layout->matrices[i], err));
    (void)cuda_fill(&l->b->dev, l->b->dev.compute, cuda_at(l->b, layout->tickets_at), 0,
                    layout->tickets * sizeof(uint32_t));
    (void)cuda_fill(&l->b->dev, l->b->dev.compute, cuda_at(l->b, layout->answer_at), 0,
                    layout->answer_logprobs);
    return cuda_stage_drain(&l->stage, err);
}

/* --- what was converted -------------------- */

enum { PACKED_KIND_COUNT = PACKED_FP8 + 1 };

typedef struct conversion_sum {
    const char *type;
    cuda_conversion how;
    uint32_t tensors;
    uint64_t bytes, device_bytes;
} conversion_sum;

static void add_to_sum(conversion_sum *sum, const cuda_weight *placed) {
    const weight *w = placed->w;
    uint64_t row = 0, planes[CK_PLANES_MAX], device_bytes = 0;
    const bool plain = w->packed == NULL && dtype_row_bytes(w->type, w->cols, &row);
    const bool fits = cuda_planar_sizes(placed->form, w->rows, w->cols, planes, &device_bytes);
    ASSERT(fits && plain == (w->packed == NULL));
    sum->type = plain ? dtype_name(w->type) : packed_name(w->packed);
    if (placed->how > sum->how) sum->how = placed->how;
    sum->tensors++;
    sum->bytes += plain ? row * w->rows : packed_bytes(w->packed);
    sum->device_bytes += device_bytes;
}

/* A line for every type that lies on the device as another one: mostly it takes more memory. */
static void log_conversions(const cuda_layout *l) {
    conversion_sum sums[DTYPE_ID_END + PACKED_KIND_COUNT][CK_FORM_COUNT] = {0};
    for (uint32_t i = 0; i < l->weights_count; i++) {
        const cuda_weight *w = &l->weights[i];
        if (w->how == CUDA_AS_STORED) continue;
        const uint32_t type = w->w->packed != NULL ? DTYPE_ID_END + (uint32_t)w->w->packed->kind
                                                   : (uint32_t)w->w->type;
        add_to_sum(&sums[type][w->form], w);
    }
    for (uint32_t t = 0; t < DTYPE_ID_END + PACKED_KIND_COUNT; t++) {
        for (uint32_t f = 0; f < CK_FORM_COUNT; f++) {
            const conversion_sum *s = &sums[t][f];
            if (s->tensors == 0) continue;
            log_write(s->how == CUDA_ROUNDED ? LOG_WARN : LOG_INFO, "cuda",
                      "weights type=\"%s\" become=%s how=\"%s\" tensors=%u bytes=%" PRIu64
                      " device_bytes=%" PRIu64,
                      s->type, cuda_form_name((ck_form)f), cuda_conversion_name(s->how), s->tensors,
                      s->bytes, s->device_bytes);
        }
    }
}

/* --- the whole -------------------- */

status cuda_load(backend *b, const backend_progress *progress, error *err) {
    if (b->loaded) return OK;
    const uint64_t elsewhere = cuda_elsewhere_load_bytes(b);
    loading l = {.b = b,
                 .progress = progress,
                 .done = elsewhere,
                 .total = elsewhere + b->layout.weights_bytes};
    TRY(cuda_elsewhere_load(b, progress, l.total, err));
    TRY(cuda_device_enter(&b->dev, err));
    TRY(cuda_stage_open(&l.stage, &b->dev, choose_slot_bytes(&b->layout), SLOTS, err));
    log_conversions(&b->layout);
    status st = send_all(&l, err);
    cuda_stage_close(&l.stage);
    if (st != OK) return st;
    cuda_device_freeze(&b->dev);
    b->loaded = true;
    if (progress == NULL || progress->tell(progress->ctx, l.total, l.total)) return OK;
    return error_set(err, ERR_CANCELED, "cuda: stopped while loading");
}
