/* gguf_make_write.c - a description as a GGUF file: tensor by tensor, some rows at a time. */
#include <inttypes.h>
#include <math.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/num.h"
#include "model/gguf_make.h"
#include "tensor/quant.h"

enum {
    PANEL_BYTES = 256 << 10,
    PANEL_ROWS_MIN = 16, /* two times the eight rows that packed_rows() likes */
    PANEL_ROWS_MAX = 4096,
};

/* One matrix of a tensor on its way into the file. */
typedef struct matrix {
    const gguf_tensor *t;
    const uint8_t *data; /* or NULL: */
    const packed_matrix *packed;
    uint64_t rows;
    uint64_t row_bytes;  /* in the file */
    uint32_t panel_rows; /* a multiple of PANEL_ROWS_MIN */
    uint8_t *panel;      /* owned by put_matrix(); [panel_rows, row_bytes] */
    float *elems;        /* likewise, of a packed one; [panel_rows, cols] */
} matrix;

/* --- rows ------------------------------------------------------------------------- */

static status check_row(const matrix *m, uint64_t row, const float *elems, error *err) {
    const float max = quant_largest(m->t->type);
    for (uint32_t i = 0; i < m->packed->cols; i++) {
        if (fabsf(elems[i]) <= max) continue; /* false for a NaN */
        return error_set(
            err, ERR_FORMAT, "'%.*s': row %" PRIu64 ", column %u is %g, %s holds at most %g",
            STR(m->t->name), row, i, (double)elems[i], dtype_name(m->t->type), (double)max);
    }
    return OK;
}

/* `count` rows into out, each `stride` rows behind the one before. */
static status read_rows(const matrix *m, uint64_t row0, uint32_t count, uint8_t *out,
                        uint32_t stride, error *err) {
    if (m->packed != NULL) packed_rows(m->packed, (uint32_t)row0, count, m->elems);
    for (uint32_t i = 0; i < count; i++, out += stride * m->row_bytes) {
        if (m->packed == NULL) {
            memcpy(out, m->data + (row0 + i) * m->row_bytes, (size_t)m->row_bytes);
            continue;
        }
        const float *elems = m->elems + (size_t)i * m->packed->cols;
        TRY(check_row(m, row0 + i, elems, err));
        quant_row(m->t->type, elems, NULL, out, m->packed->cols);
    }
    return OK;
}

static status put_rows(const matrix *m, gguf_sink *sink, error *err) {
    for (uint64_t row = 0; row < m->rows;) {
        const uint32_t count = (uint32_t)num_min_u64(m->panel_rows, m->rows - row);
        TRY(read_rows(m, row, count, m->panel, 1, err));
        TRY(gguf_sink_put(sink, m->panel, (size_t)(count * m->row_bytes), err));
        row += count;
    }
    return OK;
}

/* Row i of a head's first half goes to 2i, row i of its second half to 2i + 1: there
 * the two elements that a rotary position turns together are neighbours. */
static status put_halves(const matrix *m, gguf_sink *sink, error *err) {
    const uint64_t half = m->rows / m->t->halves_heads / 2;
    for (uint64_t head = 0; head < m->rows; head += 2 * half)
        for (uint64_t i = 0; i < half;) {
            const uint32_t count = (uint32_t)num_min_u64(m->panel_rows / 2, half - i);
            TRY(read_rows(m, head + i, count, m->panel, 2, err));
            TRY(read_rows(m, head + half + i, count, m->panel + m->row_bytes, 2, err));
            TRY(gguf_sink_put(sink, m->panel, (size_t)(2 * (uint64_t)count * m->row_bytes), err));
            i += count;
        }
    return OK;
}

/* --- tensors ----------------------------------------------------------------------- */
static status put_panels(matrix *m, gguf_sink *sink, error *err) {
    const uint64_t fit = PANEL_BYTES / m->row_bytes / PANEL_ROWS_MIN * PANEL_ROWS_MIN;
    m->panel_rows = (uint32_t)num_min_u64(num_max_u64(fit, PANEL_ROWS_MIN), PANEL_ROWS_MAX);
    const size_t elems = m->packed != NULL ? (size_t)m->panel_rows * m->packed->cols : 0;
    m->panel = mem_try_calloc(m->panel_rows, (size_t)m->row_bytes);
    m->elems = mem_try_calloc(elems, sizeof *m->elems);
    status st = OK;
    if (m->panel == NULL || m->elems == NULL)
        st = error_set(err, ERR_NOMEM, "gguf: no memory for %u rows of '%.*s'", m->panel_rows,
                       STR(m->t->name));
    else
        st = m->t->halves_heads != 0 ? put_halves(m, sink, err) : put_rows(m, sink, err);
    mem_free(m->panel);
    mem_free(m->elems);
    return st;
}

/* `count` matrices of equal shape make up the tensor.  In a vector every element is a row. */
static status put_matrix(const gguf_tensor *t, gguf_part part, uint64_t count, gguf_sink *sink,
                         error *err) {
    const bool is_vector = t->dims_count == 1 && part.packed == NULL;
    const uint64_t rows = t->elems / count / (is_vector ? 1 : t->dims[0]);
    const uint64_t bytes = t->bytes / count;
    if (part.packed == NULL && t->halves_heads == 0)
        return gguf_sink_put(sink, part.data, (size_t)bytes, err);
    matrix m = {
        .t = t, .data = part.data, .packed = part.packed, .rows = rows, .row_bytes = bytes / rows};
    return put_panels(&m, sink, err);
}

static status put_tensor(void *ctx, uint32_t idx, gguf_sink *sink, error *err) {
    const gguf_tensor *t = gguf_tensor_get(ctx, idx);
    if (t->parts == NULL) return put_matrix(t, (gguf_part){t->data, t->packed}, 1, sink, err);
    for (uint64_t i = 0; i < t->dims[2]; i++)
        TRY(put_matrix(t, t->parts[i], t->dims[2], sink, err));
    return OK;
}

static status write_all(gguf_writer *w, const gguf *g, int fd, error *err) {
    gguf_writer_align(w, gguf_alignment(g));
    for (uint32_t i = 0; i < gguf_kv_count(g); i++) {
        const gguf_value *v = gguf_kv_get(g, i);
        if (!str_starts(v->key, S("gantry."))) gguf_write_copy(w, v);
    }
    for (uint32_t i = 0; i < gguf_tensor_count(g); i++) {
        const gguf_tensor *t = gguf_tensor_get(g, i);
        gguf_write_tensor_dims(w, t->name, t->type, t->dims_count, t->dims);
    }
    return gguf_write_finish(w, fd, put_tensor, (void *)(uintptr_t)g, err);
}

status gguf_make_write(const gguf *g, int fd, error *err) {
    gguf_writer *w = NULL;
    ASSERT(gguf_has_data(g));
    TRY(gguf_writer_create(&w, err));
    const status st = write_all(w, g, fd, err);
    gguf_writer_destroy(w);
    return st;
}
